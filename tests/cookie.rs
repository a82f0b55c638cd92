//! Cookies: for whom they are good, how long, and with whom a secret is shared (RFC 6347 4.2.1).

mod samples;

use dv_dtls::engine::cookie::{BUCKET_SECONDS, CookieJar};
use dv_dtls::wire::hello::ClientHello;
use samples::{Hello, peer};

const SECOND: u64 = 1_000_000;
const UNIX: u64 = 1_790_000_000 * SECOND;
const PEER: &str = "192.0.2.1:40000";

fn hello_with_cookie(jar: &mut CookieJar, now: u64, from: &str) -> Hello {
    let hello = Hello { session_id: vec![7; 32], ..Hello::default() };
    let datagram = hello.datagram();
    hello.with_cookie(&jar.issue(now, &peer(from), &ClientHello::parse(&datagram).unwrap()))
}

fn is_taken(jar: &mut CookieJar, now: u64, from: &str, hello: &Hello) -> bool {
    jar.verify(now, &peer(from), &ClientHello::parse(&hello.datagram()).unwrap())
}

#[test]
fn a_cookie_is_good_for_its_peer_and_hello_only() {
    let mut jar = CookieJar::new(b"secret", UNIX);
    let good = hello_with_cookie(&mut jar, 5, PEER);
    assert!(is_taken(&mut jar, 5, PEER, &good));

    for stranger in ["192.0.2.2:40000", "192.0.2.1:40001", "[::ffff:192.0.2.1]:40000", "[2001:db8::1]:40000"] {
        assert!(!is_taken(&mut jar, 5, stranger, &good), "{stranger}");
    }
    let others = [
        Hello { version: 0xfeff, ..good.clone() },
        Hello { random: [9; 32], ..good.clone() },
        Hello { session_id: vec![8; 32], ..good.clone() },
        Hello { session_id: vec![7; 31], ..good.clone() },
        Hello { session_id: vec![], ..good.clone() },
    ];
    for other in &others {
        assert!(!is_taken(&mut jar, 5, PEER, other), "{other:?}");
    }
    // And one that was made for a hello without a session id.
    let bare = Hello::default();
    let bare = bare.with_cookie(&jar.issue(5, &peer(PEER), &ClientHello::parse(&bare.datagram()).unwrap()));
    assert!(is_taken(&mut jar, 5, PEER, &bare));
    assert!(!is_taken(&mut jar, 5, PEER, &Hello { session_id: vec![7; 32], ..bare }));
}

#[test]
fn every_kind_of_address_gets_its_cookie() {
    let mut jar = CookieJar::new(b"secret", UNIX);
    let kinds = ["192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1", "[fe80::1%2]:1", "[fe80::1%3]:1"];
    for from in kinds {
        let good = hello_with_cookie(&mut jar, 5, from);
        for back in kinds {
            assert_eq!(is_taken(&mut jar, 5, back, &good), from == back, "{from} {back}");
        }
    }
}

#[test]
fn a_changed_cookie_is_refused() {
    let mut jar = CookieJar::new(b"secret", UNIX);
    let good = hello_with_cookie(&mut jar, 5, PEER);
    for bit in 0..good.cookie.len() * 8 {
        let mut flipped = good.clone();
        flipped.cookie[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_taken(&mut jar, 5, PEER, &flipped), "bit {bit}");
    }
    for len in 0..good.cookie.len() {
        let cut = good.with_cookie(&good.cookie[..len]);
        assert!(!is_taken(&mut jar, 5, PEER, &cut), "{len} bytes");
    }
    let longer = good.with_cookie(&[&good.cookie[..], &[0]].concat());
    assert!(!is_taken(&mut jar, 5, PEER, &longer));
}

#[test]
fn a_cookie_outlives_180_seconds_at_every_phase_of_the_rotation() {
    let mut jar = CookieJar::new(b"secret", UNIX);
    for phase in 0..2 * BUCKET_SECONDS {
        let issued = (1000 + phase) * SECOND;
        let good = hello_with_cookie(&mut jar, issued, PEER);
        for age in [0, 1, 60, 179, 180] {
            assert!(is_taken(&mut jar, issued + age * SECOND, PEER, &good), "phase {phase}, {age} s old");
        }
        assert!(!is_taken(&mut jar, issued + 2 * BUCKET_SECONDS * SECOND, PEER, &good), "phase {phase}, expired");
    }
}

#[test]
fn an_expired_cookie_does_not_come_back() {
    let mut jar = CookieJar::new(b"secret", UNIX);
    let good = hello_with_cookie(&mut jar, 0, PEER);
    // Long enough for the bucket's low byte in the cookie to come round.
    for bucket in 2..600 {
        assert!(!is_taken(&mut jar, bucket * BUCKET_SECONDS * SECOND, PEER, &good), "after {bucket} buckets");
    }
}

#[test]
fn servers_with_one_secret_take_each_others_cookies() {
    // They booted at different times, and their clocks are a minute apart.
    let mut first = CookieJar::new(b"secret", UNIX);
    let mut second = CookieJar::new(b"secret", UNIX + (86_400 + 60) * SECOND);
    for phase in 0..BUCKET_SECONDS {
        let on_first = (90_000 + phase) * SECOND;
        let on_second = on_first - 86_400 * SECOND;
        let of_first = hello_with_cookie(&mut first, on_first, PEER);
        let of_second = hello_with_cookie(&mut second, on_second, PEER);
        for age in [0, 180 * SECOND] {
            assert!(is_taken(&mut second, on_second + age, PEER, &of_first), "phase {phase}");
            assert!(is_taken(&mut first, on_first + age, PEER, &of_second), "phase {phase}");
        }
    }
}

#[test]
fn servers_with_different_secrets_never_take_each_others_cookies() {
    let (mut first, mut second) = (CookieJar::new(b"secret", UNIX), CookieJar::new(b"another", UNIX));
    for bucket in 0..10 {
        let now = bucket * BUCKET_SECONDS * SECOND;
        let of_first = hello_with_cookie(&mut first, now, PEER);
        assert!(is_taken(&mut first, now, PEER, &of_first));
        assert!(!is_taken(&mut second, now, PEER, &of_first), "after {bucket} rotations");
    }
}

/// What is out stays as good as it was; for that long others of the fleet need not have heard of it.
#[test]
fn a_secret_is_replaced() {
    for phase in (0..BUCKET_SECONDS).step_by(20) {
        let replaced = (1000 + phase) * SECOND;
        let [mut jar, mut old] = [(); 2].map(|()| CookieJar::new(b"secret", UNIX));
        let out = hello_with_cookie(&mut jar, replaced, PEER);
        jar.replace(replaced, b"another", UNIX);
        let forged = hello_with_cookie(&mut CookieJar::new(b"a third", UNIX), replaced, PEER);
        for age in 0..=2 * BUCKET_SECONDS {
            let now = replaced + age * SECOND;
            let was_good = is_taken(&mut old, now, PEER, &out);
            assert_eq!(is_taken(&mut jar, now, PEER, &out), was_good, "phase {phase}, {age} s old");
            assert!(!is_taken(&mut jar, now, PEER, &forged), "phase {phase}, after {age} s");
        }
        let until = replaced + 2 * BUCKET_SECONDS * SECOND;
        for (now, good) in [(until - 1, true), (until, false)] {
            let of_old = hello_with_cookie(&mut old, now, PEER);
            assert_eq!(is_taken(&mut jar, now, PEER, &of_old), good, "phase {phase}");
            let own = hello_with_cookie(&mut jar, now, PEER);
            assert!(is_taken(&mut jar, now, PEER, &own), "phase {phase}");
        }
    }
}

#[test]
fn the_same_secret_again_changes_nothing() {
    let mut jar = CookieJar::new(b"secret", UNIX);
    let out = hello_with_cookie(&mut jar, 0, PEER);
    for _ in 0..2 {
        jar.replace(SECOND, b"another", UNIX);
        assert!(is_taken(&mut jar, 2 * SECOND, PEER, &out));
    }
}

/// However often it is replaced, there is one secret to try besides the last.
#[test]
fn only_the_secret_before_the_last_is_kept() {
    let mut jar = CookieJar::new(b"secret", UNIX);
    let of_first = hello_with_cookie(&mut jar, 0, PEER);
    jar.replace(SECOND, b"another", UNIX);
    let of_second = hello_with_cookie(&mut jar, SECOND, PEER);
    jar.replace(2 * SECOND, b"a third", UNIX);
    assert!(!is_taken(&mut jar, 2 * SECOND, PEER, &of_first));
    assert!(is_taken(&mut jar, 2 * SECOND, PEER, &of_second));
}

/// libssl's callbacks get their cookies from the same secret, and C code decides what they are about.
#[test]
fn a_cookie_for_libssl_is_none_for_a_hello() {
    let mut jar = CookieJar::new(b"secret", UNIX);
    let hello = Hello::default();
    let of_hello = [&[4, 192, 0, 2, 1][..], &40000u16.to_be_bytes(), &[0xfe, 0xfd], &hello.random].concat();
    let cookie = jar.issue_for(0, &of_hello);
    assert!(jar.verify_for(0, &of_hello, &cookie));
    assert!(!is_taken(&mut jar, 0, PEER, &hello.with_cookie(&cookie)));
    assert!(!jar.verify_for(0, b"another", &cookie));
}

#[test]
fn the_ends_of_time_are_no_trouble() {
    for (offset, now) in [(0, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        let mut jar = CookieJar::new(b"", offset);
        let good = hello_with_cookie(&mut jar, now, PEER);
        assert!(is_taken(&mut jar, now, PEER, &good));
    }
}
