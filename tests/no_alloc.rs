//! A stranger costs no memory: the stateless stage does not allocate, not even for a moment.

#[path = "common/allocations.rs"]
mod allocations;
mod samples;

use dv_dtls::engine::cookie::{BUCKET_SECONDS, CookieJar};
use dv_dtls::engine::gate::{Verdict, examine};
use dv_dtls::engine::stats::Counters;
use samples::{Hello, Random, peer};

fn allocations(work: impl FnOnce()) -> u64 {
    let before = allocations::count();
    work();
    allocations::count() - before
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
