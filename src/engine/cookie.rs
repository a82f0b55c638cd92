//! Cookies of the stateless stage (RFC 6347 4.2.1).
//!
//! A cookie is the low byte of the time bucket in which it was made, then HMAC-SHA1 over the peer's address and what the
//! two hellos of a handshake have in common. Each bucket has a key of its own, derived from the secret: that is the
//! rotation, and there is nothing else to keep.

use std::hint::black_box;
use std::net::SocketAddr;

use hmac::{Hmac, Mac};
use sha1::Sha1;

use crate::wipe;
use crate::wire::hello::{ClientHello, SESSION_ID_MAX};
use crate::wire::hello_verify::COOKIE_MAX;

/// Bytes of a cookie.
pub const COOKIE_LEN: usize = 1 + 20;

const _: () = assert!(COOKIE_LEN <= COOKIE_MAX);

/// Seconds of a time bucket. A cookie is accepted in its bucket and in the next one, so it is good for at least 240 s and at
/// most 480 s. 180 s are necessary: OpenSSL's client ignores a second HelloVerifyRequest and goes on repeating its hello with
/// the first cookie. By the other 60 s the clocks of servers with one secret may differ.
pub const BUCKET_SECONDS: u64 = 240;

const BUCKET: u64 = BUCKET_SECONDS * 1_000_000;

/// Makes and checks the cookies of one secret.
///
/// A call neither allocates nor keeps anything about the peer.
pub struct CookieJar {
    secret: Box<[u8]>,
    unix_offset: u64,
    /// The keys of the last, the current and the next bucket, each at its bucket's number modulo 3.
    keys: [BucketKey; 3],
    /// The jar with the secret before this one, and until when its cookies count.
    previous: Option<(Box<CookieJar>, u64)>,
}

struct BucketKey {
    bucket: u64,
    /// A state that has already taken in the key: cloning it saves half of the work of an HMAC.
    keyed: Hmac<Sha1>,
}

impl CookieJar {
    /// A jar for `secret`, of any length; 20 random bytes are as good as more.
    ///
    /// `unix_offset` is what `now` (microseconds, monotonic) lacks to the Unix time. Taken once, it lets servers with one
    /// secret agree on the bucket, and a step of the wall clock later on does not invalidate the cookies that are out.
    pub fn new(secret: &[u8], unix_offset: u64) -> CookieJar {
        let current = unix_offset / BUCKET;
        let keys = std::array::from_fn(|slot| BucketKey::derive(secret, current - current % 3 + slot as u64));
        CookieJar { secret: secret.into(), unix_offset, keys, previous: None }
    }

    /// Takes another secret, at `now`. The cookies that were given out stay good for as long as they would have been.
    pub fn replace(&mut self, now: u64, secret: &[u8], unix_offset: u64) {
        if *self.secret == *secret {
            return;
        }
        let mut old = std::mem::replace(self, CookieJar::new(secret, unix_offset));
        old.previous = None;
        self.previous = Some((Box::new(old), now.saturating_add(2 * BUCKET)));
    }

    /// The cookie for `hello`, which came from `peer`.
    pub fn issue(&mut self, now: u64, peer: &SocketAddr, hello: &ClientHello<'_>) -> [u8; COOKIE_LEN] {
        self.make(now, &[], Subject::new(peer, hello).as_bytes())
    }

    /// Whether the cookie in `hello` is one that a jar with this secret made for this peer and hello, not too long ago.
    ///
    /// The next bucket counts too: the clock of the server that made the cookie may be ahead of ours.
    pub fn verify(&mut self, now: u64, peer: &SocketAddr, hello: &ClientHello<'_>) -> bool {
        self.check(now, &[], Subject::new(peer, hello).as_bytes(), hello.cookie)
    }

    /// A cookie for whatever `subject` says, for libssl's own cookie exchange, which shows no hello.
    pub fn issue_for(&mut self, now: u64, subject: &[u8]) -> [u8; COOKIE_LEN] {
        self.make(now, &[SUBJECT_OF_LIBSSL], subject)
    }

    /// Whether `cookie` is one that [`CookieJar::issue_for`] gave for this subject, not too long ago.
    pub fn verify_for(&mut self, now: u64, subject: &[u8], cookie: &[u8]) -> bool {
        self.check(now, &[SUBJECT_OF_LIBSSL], subject, cookie)
    }

    fn make(&mut self, now: u64, kind: &[u8], subject: &[u8]) -> [u8; COOKIE_LEN] {
        let bucket = self.bucket(now);
        let mut cookie = [bucket as u8; COOKIE_LEN];
        cookie[1..].copy_from_slice(&self.mac(bucket, kind, subject).finalize().into_bytes());
        cookie
    }

    fn check(&mut self, now: u64, kind: &[u8], subject: &[u8], cookie: &[u8]) -> bool {
        self.bucket_of(now, cookie)
            .is_some_and(|(bucket, mac)| self.mac(bucket, kind, subject).verify_slice(mac).is_ok())
            || self.previous.as_mut().is_some_and(|(jar, until)| now < *until && jar.check(now, kind, subject, cookie))
    }

    /// The bucket in which a cookie was made, if it is one that is good now, and the cookie's MAC.
    fn bucket_of<'a>(&self, now: u64, cookie: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let (&[low_byte], mac) = cookie.split_first_chunk::<1>()?;
        let current = self.bucket(now);
        let good = [current.wrapping_sub(1), current, current + 1];
        good.into_iter().find(|&bucket| bucket as u8 == low_byte).map(|bucket| (bucket, mac))
    }

    fn bucket(&self, now: u64) -> u64 {
        now.saturating_add(self.unix_offset) / BUCKET
    }

    /// `kind` keeps what is made for one purpose from being good for another.
    fn mac(&mut self, bucket: u64, kind: &[u8], subject: &[u8]) -> Hmac<Sha1> {
        let key = &mut self.keys[(bucket % 3) as usize];
        if key.bucket != bucket {
            *key = BucketKey::derive(&self.secret, bucket);
        }
        let mut mac = key.keyed.clone();
        mac.update(kind);
        mac.update(subject);
        mac
    }
}

impl Drop for CookieJar {
    fn drop(&mut self) {
        wipe::bytes(&mut self.secret);
        for key in &mut self.keys {
            *key = BucketKey::derive(&[], 0);
        }
        // Keeps the compiler from leaving out these writes, which nobody reads.
        black_box(&self.keys);
    }
}

impl BucketKey {
    fn derive(secret: &[u8], bucket: u64) -> BucketKey {
        let mut key = hmac(secret);
        key.update(b"dv_dtls cookie");
        key.update(&bucket.to_be_bytes());
        BucketKey { bucket, keyed: hmac(&key.finalize().into_bytes()) }
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha1> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// What a subject begins with that is not a hello's, which begins with 4 or 6.
const SUBJECT_OF_LIBSSL: u8 = 0;

const SUBJECT_MAX: usize = 1 + 16 + 4 + 2 + 2 + 32 + 1 + SESSION_ID_MAX;

/// What a cookie is good for: the peer's address and the hello's version, random and session id, in an order from which
/// they could be read back. As short as can be: with IPv4 and without a session id it is a single block of SHA-1.
struct Subject {
    bytes: [u8; SUBJECT_MAX],
    len: usize,
}

impl Subject {
    fn new(peer: &SocketAddr, hello: &ClientHello<'_>) -> Subject {
        let mut subject = Subject { bytes: [0; SUBJECT_MAX], len: 0 };
        match peer {
            SocketAddr::V4(peer) => {
                subject.push(&[4]);
                subject.push(&peer.ip().octets());
            }
            // A mapped IPv4 address stays what it is: a datagram comes back to the socket that it was sent from.
            SocketAddr::V6(peer) => {
                subject.push(&[6]);
                subject.push(&peer.ip().octets());
                subject.push(&peer.scope_id().to_be_bytes());
            }
        }
        subject.push(&peer.port().to_be_bytes());
        subject.push(&hello.version.to_be_bytes());
        subject.push(hello.random);
        subject.push(&[hello.session_id.len() as u8]);
        subject.push(hello.session_id);
        subject
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
