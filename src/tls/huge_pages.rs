//! Memory for tables that no cache holds.
//!
//! A look-up there waits for memory, and on small pages first for the page tables that lead to it, in a virtual machine for
//! those of both sides. On huge pages the processor keeps the way to all of a table.

use std::mem::MaybeUninit;

/// Bytes from which on a table is worth it: two huge pages of most processors.
const LEAST: usize = 4 << 20;

/// A multiple of every processor's page size.
const PAGE: usize = 64 << 10;

/// An empty vector with room for `capacity`, where that is large on huge pages, if the kernel gives any. It is meant to be
/// filled at once: what is never written to would take up memory, too.
pub fn vec<T>(capacity: usize) -> Vec<T> {
    let mut vec = Vec::with_capacity(capacity);
    let room: &mut [MaybeUninit<T>] = vec.spare_capacity_mut();
    if size_of_val(room) >= LEAST {
        let begin = room.as_ptr().addr().next_multiple_of(PAGE);
        let end = room.as_ptr_range().end.addr() / PAGE * PAGE;
        // SAFETY: whole pages within memory that is ours. The advice changes nothing but how quickly they are found; where
        // it is not taken nothing is lost.
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
