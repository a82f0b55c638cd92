//! What it costs to protect a message and to open it again. `cargo bench --bench records`
//!
//! Sealing and opening with OpenSSL's SSL_write and SSL_read over a pair of BIOs that neither copy nor clear more than they
//! must, with its EVP and contexts that are kept, and with records of our own; and what of these is the AEAD's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Instant;

use dv_dtls::engine::records::{Digest, Records, Secrets, Suite, Used};
use dv_dtls::wire::record::{Record, content_type};
use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslStream, SslVersion};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const ROUNDS: usize = 300;
/// So few that a round often fits between two interruptions of a busy machine.
const MESSAGES: usize = 1000;

/// Prints the best of some rounds, in nanoseconds per message.
fn measure(name: &str, len: usize, mut exchange: impl FnMut()) {
    let mut round = || {
        let begin = Instant::now();
        (0..MESSAGES).for_each(|_| exchange());
        begin.elapsed().as_nanos() as f64 / MESSAGES as f64
    };
    round();
    let best = (0..ROUNDS).map(|_| round()).fold(f64::MAX, f64::min);
    println!("{name:<50} {len:>5} B {best:>8.0} ns");
}

fn ours(suite: Suite, len: usize) {
    let secrets = Secrets { master: [1; 48], client_random: [2; 32], server_random: [3; 32], digest: Digest::Sha256 };
    let mut client = Records::new(suite, &secrets, false, Used::default());
    let mut server = Records::new(suite, &secrets, true, Used::default());
    let message = vec![7; len];
    let mut sealed = vec![0; client.sealed_len(len)];
    let mut opened = vec![0; sealed.len()];
    measure(&format!("our records, {suite:?}"), len, || {
        client.seal(content_type::APPLICATION_DATA, &message, &mut sealed).expect("a number");
        let (record, _) = Record::parse(&sealed).expect("a record");
        assert_eq!(server.open(&record, &mut opened).map(|plain| plain.len), Some(len));
    });
    measure(&format!("our records, {suite:?}, keys expanded each time"), len, || {
        client.rest();
        server.rest();
        client.seal(content_type::APPLICATION_DATA, &message, &mut sealed).expect("a number");
        let (record, _) = Record::parse(&sealed).expect("a record");
        assert_eq!(server.open(&record, &mut opened).map(|plain| plain.len), Some(len));
    });
}

/// What of that is the AEAD's: with one nonce, which is what must not be done with a key that is not thrown away.
fn aead_alone(suite: Suite, algorithm: &'static Algorithm, len: usize) {
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &vec![9; algorithm.key_len()]).unwrap());
    let nonce = || Nonce::assume_unique_for_key(black_box([3; 12]));
    let aad = || Aad::from(black_box([4; 13]));
    let mut sealed = vec![7; len];
    let tag = key.seal_in_place_separate_tag(nonce(), aad(), &mut sealed).unwrap();
    sealed.extend_from_slice(tag.as_ref());
    let (mut message, mut opened) = (vec![7; len], sealed.clone());
    measure(&format!("ring's AEAD alone, {suite:?}"), len, || {
        let _ = black_box(key.seal_in_place_separate_tag(nonce(), aad(), &mut message).unwrap());
        opened.copy_from_slice(&sealed);
        black_box(key.open_in_place(nonce(), aad(), &mut opened).unwrap());
    });
}

fn evp(name: &str, cipher: &CipherRef, len: usize) {
    let key = vec![9; cipher.key_length()];
    let (mut seal, mut open) = (CipherCtx::new().unwrap(), CipherCtx::new().unwrap());
    seal.encrypt_init(Some(cipher), Some(&key), None).unwrap();
    open.decrypt_init(Some(cipher), Some(&key), None).unwrap();
    let (message, mut sealed, mut opened) = (vec![7; len], vec![0; len + 16], vec![0; len + 16]);
    let mut number = 0_u64;
    measure(&format!("EVP with kept contexts, {name}"), len, || {
        number += 1;
        let (mut nonce, mut tag, aad) = ([0; 12], [0; 16], [3; 13]);
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        seal.encrypt_init(None, None, Some(&nonce)).unwrap();
        seal.cipher_update(&aad, None).unwrap();
        seal.cipher_update(&message, Some(&mut sealed)).unwrap();
        seal.cipher_final(&mut sealed[len..]).unwrap();
        seal.tag(&mut tag).unwrap();
        open.decrypt_init(None, None, Some(&nonce)).unwrap();
        open.set_tag(&tag).unwrap();
        open.cipher_update(&aad, None).unwrap();
        open.cipher_update(&sealed[..len], Some(&mut opened)).unwrap();
        open.cipher_final(&mut opened[len..]).unwrap();
        black_box(&opened);
    });
}

/// One end of a wire in memory, whose datagrams are used again.
#[derive(Default)]
struct Wire {
    out: Datagrams,
    into: Datagrams,
    free: Datagrams,
}

type Datagrams = Rc<RefCell<VecDeque<Vec<u8>>>>;

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.into.borrow_mut().pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buffer[..datagram.len()].copy_from_slice(&datagram);
        let len = datagram.len();
        self.free.borrow_mut().push_back(datagram);
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut datagram = self.free.borrow_mut().pop_front().unwrap_or_default();
        datagram.clear();
        datagram.extend_from_slice(bytes);
        self.out.borrow_mut().push_back(datagram);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn context(suite: &str) -> SslContextBuilder {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_cipher_list(suite).unwrap();
    context.set_options(SslOptions::NO_QUERY_MTU);
    context.set_max_proto_version(Some(SslVersion::DTLS1_2)).unwrap();
    context
}

fn openssl(suite: &str, len: usize) {
    let (forth, back, free) = (Datagrams::default(), Datagrams::default(), Datagrams::default());
    let stream = |context: SslContext, into: &Datagrams, out: &Datagrams| {
        let mut ssl = Ssl::new(&context).unwrap();
        ssl.set_mtu(1400).unwrap();
        let wire = Wire { into: into.clone(), out: out.clone(), free: free.clone() };
        SslStream::new(ssl, wire).unwrap()
    };
    let mut context_of_client = context(suite);
    context_of_client.set_psk_client_callback(|_, _, identity, key| {
        identity[..2].copy_from_slice(b"a\0");
        key[..16].fill(1);
        Ok(16)
    });
    let mut context_of_server = context(suite);
    context_of_server.set_psk_server_callback(|_, _, key| {
        key[..16].fill(1);
        Ok(16)
    });
    let mut client = stream(context_of_client.build(), &back, &forth);
    let mut server = stream(context_of_server.build(), &forth, &back);
    while client.connect().is_err() || server.accept().is_err() {
        let _ = server.accept();
    }
    let (message, mut opened) = (vec![7; len], vec![0; 1 << 14]);
    measure(&format!("SSL_write and SSL_read, {suite}"), len, || {
        client.ssl_write(&message).unwrap();
        assert_eq!(server.ssl_read(&mut opened).unwrap(), len);
    });
}

fn main() {
    for len in [64, 1200] {
        for suite in ["PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384", "PSK-CHACHA20-POLY1305"] {
            openssl(suite, len);
        }
        evp("Aes128Gcm", Cipher::aes_128_gcm(), len);
        evp("Aes256Gcm", Cipher::aes_256_gcm(), len);
        evp("Chacha20Poly1305", Cipher::chacha20_poly1305(), len);
        for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305] {
            ours(suite, len);
        }
        for (suite, algorithm) in [
            (Suite::Aes128Gcm, &AES_128_GCM),
            (Suite::Aes256Gcm, &AES_256_GCM),
            (Suite::Chacha20Poly1305, &CHACHA20_POLY1305),
        ] {
            aead_alone(suite, algorithm, len);
        }
    }
}
