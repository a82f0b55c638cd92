//! What the targets that run whole handshakes share: chance by seed, contexts, a count of the heap, and a script.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Once;

use libc::{c_int, c_uchar, c_void};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode};
use openssl::x509::{X509, X509NameBuilder};

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
    static HEAP: Cell<isize> = const { Cell::new(0) };
}

/// From here on OpenSSL's random numbers on this thread are those of `seed`.
pub fn seed(seed: u64) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the table of functions is static; OpenSSL only reads it.
        assert_eq!(unsafe { RAND_set_rand_method(&raw const METHOD.0) }, 1);
    });
    RANDOM.set(seed | 1);
}

/// RAND_METHOD of <openssl/rand.h>.
#[repr(C)]
struct RandMethod {
    seed: Option<extern "C" fn(*const c_void, c_int) -> c_int>,
    bytes: Option<unsafe extern "C" fn(*mut c_uchar, c_int) -> c_int>,
    cleanup: Option<extern "C" fn()>,
    add: Option<extern "C" fn(*const c_void, c_int, f64) -> c_int>,
    pseudorand: Option<unsafe extern "C" fn(*mut c_uchar, c_int) -> c_int>,
    status: Option<extern "C" fn() -> c_int>,
}

static METHOD: (RandMethod,) = (RandMethod {
    seed: None,
    bytes: Some(random_bytes),
    cleanup: None,
    add: None,
    pseudorand: Some(random_bytes),
    status: Some(random_status),
},);

unsafe extern "C" {
    fn RAND_set_rand_method(method: *const RandMethod) -> c_int;
}

/// xorshift64*.
unsafe extern "C" fn random_bytes(out: *mut c_uchar, len: c_int) -> c_int {
    // SAFETY: OpenSSL asks for `len` bytes at `out`.
    let out = unsafe { std::slice::from_raw_parts_mut(out, usize::try_from(len).unwrap_or(0)) };
    for byte in out {
        let mut state = RANDOM.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        RANDOM.set(state);
        *byte = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8;
    }
    1
}

extern "C" fn random_status() -> c_int {
    1
}

/// The system's allocator, which counts the bytes that each thread holds.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor unwinds, as the
// thread-local needs no initialisation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.set(HEAP.get() + layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HEAP.set(HEAP.get() - layout.size() as isize);
        // SAFETY: `at` came from `System.alloc` or `System.realloc` with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        HEAP.set(HEAP.get() + len as isize - layout.size() as isize);
        // SAFETY: as for `dealloc`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, len) }
    }
}

/// Bytes that the Rust side of this thread has on the heap.
pub fn heap() -> isize {
    HEAP.get()
}

/// A key and a certificate for it, the same in every run.
fn identity() -> (PKey<Private>, X509) {
    seed(1);
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::from_unix(4_000_000_000).unwrap()).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    (key, certificate.build())
}

/// A context that shows the certificate and trusts it, and keeps nothing from one input to the next.
pub fn context(verify: bool, set: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    let (key, certificate) = identity();
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_certificate(&certificate).unwrap();
    context.set_private_key(&key).unwrap();
    context.cert_store_mut().add_cert(certificate).unwrap();
    context.set_options(SslOptions::NO_TICKET);
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_groups_list("P-256").unwrap();
    if verify {
        context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    set(&mut context);
    context.build()
}

/// An input that is read as a list of things to do. Behind its end there are only zeros.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let (&byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        byte
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        let high = if end > 256 { self.byte() } else { 0 };
        usize::from(u16::from_be_bytes([high, self.byte()])) % end.max(1)
    }

    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// One of what was seen on the wire, as it was, bent, cut, or glued to another; or something new.
    pub fn datagram(&mut self, seen: &[Vec<u8>]) -> Vec<u8> {
        let pick = |script: &mut Script<'_>| seen.get(script.below(seen.len())).cloned().unwrap_or_default();
        match self.byte() % 6 {
            0 => pick(self),
            1 => {
                let mut datagram = pick(self);
                for _ in 0..1 + self.below(4) {
                    let (at, with) = (self.below(datagram.len()), self.byte());
                    if let Some(byte) = datagram.get_mut(at) {
                        *byte ^= with;
                    }
                }
                datagram
            }
            2 => {
                let mut datagram = pick(self);
                datagram.truncate(self.below(datagram.len()));
                datagram
            }
            3 => {
                let (mut datagram, other) = (pick(self), pick(self));
                datagram.truncate(self.below(datagram.len() + 1));
                datagram.extend_from_slice(&other[self.below(other.len() + 1)..]);
                datagram
            }
            // The header of a record as anybody can write it, in front of something.
            4 => {
                let (content_type, epoch, sequence) = (18 + self.below(8) as u8, self.below(3) as u8, self.byte());
                let len = self.below(64);
                let fragment = self.bytes(len);
                let mut datagram =
                    vec![content_type, 254, 253, 0, epoch, 0, 0, 0, 0, 0, sequence, 0, fragment.len() as u8];
                datagram.extend_from_slice(fragment);
                datagram.extend_from_slice(&pick(self));
                datagram
            }
            _ => {
                let len = self.below(256);
                self.bytes(len).to_vec()
            }
        }
    }
}

/// What was seen on the wire, to be shown again: the newest take the places of the oldest.
#[derive(Default)]
pub struct Seen {
    pub datagrams: Vec<Vec<u8>>,
    next: usize,
}

impl Seen {
    const AT_MOST: usize = 64;

    pub fn note(&mut self, datagram: &[u8]) {
        if self.datagrams.len() < Seen::AT_MOST {
            self.datagrams.push(datagram.to_vec());
        } else {
            self.datagrams[self.next % Seen::AT_MOST] = datagram.to_vec();
        }
        self.next += 1;
    }
}
