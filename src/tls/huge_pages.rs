//! Memory for tables that are too large for any cache.
//!
//! A look-up in one waits for memory, and with small pages first for the page tables that lead there (in a virtual machine
//! for the guest's and the host's). With huge pages the processor's TLB covers the whole table.

use std::mem::MaybeUninit;

/// A table is worth it from this size on: two huge pages on most processors.
const LEAST: usize = 4 << 20;

/// A multiple of every processor's page size.
const PAGE: usize = 64 << 10;

/// An empty vector with room for `capacity`: on huge pages if it is large enough and the kernel has some. Meant to be filled
/// at once, since on huge pages even room that is never written to takes up memory.
pub fn vec<T>(capacity: usize) -> Vec<T> {
    let mut vec = Vec::with_capacity(capacity);
    let room: &mut [MaybeUninit<T>] = vec.spare_capacity_mut();
    if size_of_val(room) >= LEAST {
        let begin = room.as_ptr().addr().next_multiple_of(PAGE);
        let end = room.as_ptr_range().end.addr() / PAGE * PAGE;
        // SAFETY: whole pages within memory that is ours. The advice only changes how quickly they are found, and may be
        // ignored.
        unsafe { libc::madvise(room.as_mut_ptr().with_addr(begin).cast(), end - begin, libc::MADV_HUGEPAGE) };
    }
    vec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_is_put_there() {
        for capacity in [0, 1, LEAST / 8 - 1, LEAST / 8, LEAST] {
            let mut numbers = vec::<u64>(capacity);
            assert!(numbers.is_empty() && numbers.capacity() >= capacity);
            numbers.extend(0..capacity as u64);
            assert!(numbers.iter().zip(0..).all(|(number, at)| *number == at));
        }
    }
}
