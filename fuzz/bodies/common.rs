//! What the targets that run whole handshakes share: chance by seed, contexts, a clock, a count of the heap, and a
//! script.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicIsize, Ordering};

use libc::{c_char, c_int, c_uchar, c_uint, c_void};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode};
use openssl::x509::{X509, X509NameBuilder};
use openssl_sys::{SSL, SSL_CTX_set_psk_client_callback, SSL_CTX_set_psk_server_callback};

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
    static HEAP: Cell<isize> = const { Cell::new(0) };
    static CLOCK: Cell<u64> = const { Cell::new(CLOCK_BEGINS) };
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

/// Gives OpenSSL the C library's own allocator, before it has allocated anything, where AddressSanitizer stands in front of
/// that: OpenSSL is not instrumented, so its thousands of blocks an input would be watched in vain. LeakSanitizer, which
/// does not see through them, is off for that; see [`forgets`].
#[allow(dead_code)] // For the fuzz targets only, as what follows.
pub fn spare_openssl() {
    unsafe extern "C" {
        fn __libc_malloc(len: usize) -> *mut c_void;
        fn __libc_realloc(at: *mut c_void, len: usize) -> *mut c_void;
        fn __libc_free(at: *mut c_void);
        fn CRYPTO_set_mem_functions(
            malloc: unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
            realloc: unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
            free: unsafe extern "C" fn(*mut c_void, *const c_char, c_int),
        ) -> c_int;
    }
    unsafe extern "C" fn malloc(len: usize, _: *const c_char, _: c_int) -> *mut c_void {
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: a plain call.
        unsafe { __libc_malloc(len) }
    }
    unsafe extern "C" fn realloc(at: *mut c_void, len: usize, _: *const c_char, _: c_int) -> *mut c_void {
        BLOCKS.fetch_add(isize::from(at.is_null()), Ordering::Relaxed);
        // SAFETY: OpenSSL gives NULL or what these functions gave.
        unsafe { __libc_realloc(at, len) }
    }
    unsafe extern "C" fn free(at: *mut c_void, _: *const c_char, _: c_int) {
        BLOCKS.fetch_sub(isize::from(!at.is_null()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { __libc_free(at) }
    }
    // SAFETY: the functions are those of one allocator.
    assert_eq!(unsafe { CRYPTO_set_mem_functions(malloc, realloc, free) }, 1);
}

static BLOCKS: AtomicIsize = AtomicIsize::new(0);

/// Runs `body`, and sees to it that nothing is kept for good: what inputs by the thousand left behind is not much more than
/// what the first thousand did. Tables keep their room up to a thousand places when they become empty, so `BYTES` is not
/// less; what is lost with each input comes to that soon.
#[allow(dead_code)]
pub fn forgets(body: impl FnOnce()) {
    const EVERY: u64 = 1000;
    const BLOCKS_OF_OPENSSL: isize = 2000;
    const BYTES: isize = 1 << 19;
    thread_local! {
        static RUNS: Cell<u64> = const { Cell::new(0) };
        static FIRST: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
    }
    body();
    RUNS.set(RUNS.get() + 1);
    let kept = (BLOCKS.load(Ordering::Relaxed), heap());
    match RUNS.get() {
        EVERY => FIRST.set(kept),
        runs if runs % EVERY == 0 => {
            let first = FIRST.get();
            let more = (kept.0 - first.0, kept.1 - first.1);
            assert!(more.0 < BLOCKS_OF_OPENSSL && more.1 < BYTES, "{first:?}, then {kept:?}");
        }
        _ => {}
    }
}

/// How a handshake proves who takes part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By a key that both know: no arithmetic, so that an input costs what our own code costs.
    Key,
    /// By certificates, of the client too: long flights.
    Certificates,
}

const BY_KEY: &str = "PSK-AES128-GCM-SHA256";
const BY_CERTIFICATES: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";

/// A server's context.
pub fn server_context(proof: Proof, set: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    let mut context = any_context();
    if proof == Proof::Key {
        context.set_cipher_list(BY_KEY).unwrap();
        // SAFETY: the context is live. Not the crate's callbacks, which are only for the SSLs that it makes itself.
        unsafe { SSL_CTX_set_psk_server_callback(context.as_ptr(), Some(key_of_server)) };
    } else {
        context.set_cipher_list(BY_CERTIFICATES).unwrap();
        context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    set(&mut context);
    context.build()
}

/// A client's context, for servers of either kind.
pub fn client_context() -> SslContext {
    let mut context = any_context();
    context.set_cipher_list(&format!("{BY_KEY}:{BY_CERTIFICATES}")).unwrap();
    // SAFETY: as above.
    unsafe { SSL_CTX_set_psk_client_callback(context.as_ptr(), Some(key_of_client)) };
    context.build()
}

/// It shows the certificate and trusts it, and keeps nothing from one input to the next.
fn any_context() -> SslContextBuilder {
    let (key, certificate) = identity();
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_certificate(&certificate).unwrap();
    context.set_private_key(&key).unwrap();
    context.cert_store_mut().add_cert(certificate).unwrap();
    context.set_options(SslOptions::NO_TICKET);
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_groups_list("P-256").unwrap();
    context
}

const SHARED_KEY: [u8; 16] = [7; 16];

extern "C" fn key_of_server(_: *mut SSL, _: *const c_char, key: *mut c_uchar, _: c_uint) -> c_uint {
    // SAFETY: libssl has more room for it.
    unsafe { ptr::copy_nonoverlapping(SHARED_KEY.as_ptr(), key, SHARED_KEY.len()) };
    SHARED_KEY.len() as c_uint
}

extern "C" fn key_of_client(
    ssl: *mut SSL,
    _: *const c_char,
    identity: *mut c_char,
    _: c_uint,
    key: *mut c_uchar,
    room: c_uint,
) -> c_uint {
    // SAFETY: as above.
    unsafe { ptr::copy_nonoverlapping(c"anybody".as_ptr(), identity, 8) };
    key_of_server(ssl, identity, key, room)
}

/// What the clocks show that the helpers and libssl read, in microseconds. They stand still until an input moves them: no
/// input takes time of ours, and each does the same whenever it runs.
const CLOCK_BEGINS: u64 = 1 << 40;
/// All cookies' time buckets, which are told apart by eight bits.
const CLOCK_ROUND: u64 = 240_000_000 << 8;

/// Lets time pass.
pub fn pass(micros: u64) {
    CLOCK.set(CLOCK.get() + micros);
}

/// Lets so much time pass that cookies are again as far from their end as they were for the input before.
#[allow(dead_code)] // For the helpers, whose clock goes on from one input to the next.
pub fn pass_to_the_next_round() {
    CLOCK.set((CLOCK.get() / CLOCK_ROUND + 2) * CLOCK_ROUND);
}

/// Takes the place of the C library's, for the one clock that the helpers read.
///
/// # Safety
/// `time` is writable.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    if clock != libc::CLOCK_MONOTONIC_COARSE {
        // SAFETY: by contract; the kernel fills it in.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let now = CLOCK.get();
    // SAFETY: by contract.
    unsafe { *time = libc::timespec { tv_sec: (now / 1_000_000) as i64, tv_nsec: (now % 1_000_000 * 1000) as i64 } };
    0
}

/// The same for libssl's own timer, which goes by the wall clock: a process that was not scheduled for a second would
/// otherwise send what another does not.
///
/// # Safety
/// `time` is writable.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(time: *mut libc::timeval, _: *mut c_void) -> c_int {
    let now = CLOCK.get();
    // SAFETY: by contract.
    unsafe { *time = libc::timeval { tv_sec: (now / 1_000_000) as i64, tv_usec: (now % 1_000_000) as i64 } };
    0
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
#[derive(Clone, Default)]
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
