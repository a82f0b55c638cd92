//! A stranger costs no memory: the stateless stage does not allocate, not even for a moment.

mod samples;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use dv_dtls::engine::cookie::{BUCKET_SECONDS, CookieJar};
use dv_dtls::engine::gate::{Verdict, examine};
use dv_dtls::engine::stats::Counters;
use samples::{Hello, Random, peer};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts each thread's calls.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor unwinds, as the
// thread-local needs no initialisation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System.alloc` or `System.realloc` with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as for `dealloc`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, len) }
    }
}

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn hellos_and_junk_allocate_nothing() {
    let mut jar = CookieJar::new(b"secret", 0);
    let counters = Counters::default();
    let mut random = Random(1);
    let hellos: Vec<Vec<u8>> = (0..10_000)
        .map(|n| {
            let random = std::array::from_fn(|_| random.next() as u8);
            let cookie = if n % 2 == 0 { vec![] } else { vec![0; 21] };
            Hello { random, message_seq: n % 2, cookie, ..Hello::default() }.datagram()
        })
        .collect();
    let junk: Vec<Vec<u8>> = (0..10_000).map(|n| random.bytes(n % 1500)).collect();
    let peers = [peer("192.0.2.1:40000"), peer("[2001:db8::1]:40000")];

    // The time runs through several buckets, so deriving a bucket's key is part of it.
    let second = 1_000_000;
    let allocated = allocations(|| {
        for (n, hello) in (0..).zip(&hellos) {
            let now = n * BUCKET_SECONDS * second / 1000;
            assert!(matches!(examine(&mut jar, now, &peers[n as usize % 2], hello, &counters), Verdict::Answer(_)));
        }
        for datagram in &junk {
            assert!(matches!(examine(&mut jar, 0, &peers[0], datagram, &counters), Verdict::Drop));
        }
    });
    assert_eq!(allocated, 0);
}
