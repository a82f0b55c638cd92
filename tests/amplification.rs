//! No answer is longer than what it answers: nobody gains by writing another's address into a hello.

mod samples;

use dv_dtls::engine::cookie::CookieJar;
use dv_dtls::engine::gate::{Verdict, examine};
use dv_dtls::engine::stats::Counters;
use samples::{Hello, Random, peer};

/// A hello with up to four things wrong.
fn mutated(random: &mut Random) -> Vec<u8> {
    let session_id = match random.below(4) {
        0 => 32,
        1 => random.below(34),
        _ => 0,
    };
    let cookie = if random.below(4) == 0 { random.below(256) } else { 0 };
    let rest = random.below(300);
    let hello = Hello {
        record_sequence: random.next() >> 16,
        message_seq: random.below(2) as u16,
        session_id: random.bytes(session_id),
        cookie: random.bytes(cookie),
        rest: random.bytes(rest),
        ..Hello::default()
    };
    let mut datagram = if random.below(4) == 0 { hello.fragment(0, random.below(120)) } else { hello.datagram() };
    for _ in 0..random.below(5) {
        if datagram.is_empty() {
            break;
        }
        let at = random.below(datagram.len());
        match random.below(6) {
            0 => datagram[at] ^= 1 << random.below(8),
            1 => datagram[at] = random.next() as u8,
            2 => datagram.truncate(at),
            3 => datagram.extend_from_slice(&Hello::default().datagram()[..random.below(60)]),
            4 => drop(datagram.drain(at..(at + 1 + random.below(8)).min(datagram.len()))),
            // Among the lengths.
            _ => {
                let at = [11, 12, 14, 15, 16, 22, 23, 24][random.below(8)] % datagram.len();
                datagram[at] = random.next() as u8;
            }
        }
    }
    datagram
}

#[test]
fn no_answer_is_longer_than_its_hello() {
    let mut jar = CookieJar::new(b"secret", 0);
    let counters = Counters::default();
    let peers = [peer("192.0.2.1:40000"), peer("[2001:db8::1]:40000")];
    let mut random = Random(2026);
    for n in 0..100_000 {
        let datagram = mutated(&mut random);
        match examine(&mut jar, n, &peers[n as usize % 2], &datagram, &counters) {
            Verdict::Answer(answer) => assert!(answer.as_bytes().len() <= datagram.len(), "{n}: {datagram:02x?}"),
            Verdict::Proven(_) => panic!("{n}: a cookie that nobody made was taken: {datagram:02x?}"),
            Verdict::Drop => {}
        }
    }
    let dropped = counters.strangers_dropped.get() + counters.hellos_too_short.get();
    assert_eq!(dropped + counters.hellos_answered.get(), 100_000);
    // Both sides of the parser have been seen.
    assert!(dropped > 10_000 && counters.hellos_answered.get() > 10_000);
}
