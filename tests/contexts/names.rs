//! dv_ssl_add_certificate

use std::ffi::{c_int, c_void};
use std::io::{self, Read, Write};
use std::ptr::{null, null_mut};

use dv_dtls::*;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslContextBuilder, SslStream};
use openssl_sys::SSL_VERIFY_PEER;

use crate::support::*;

fn add(ctx: &impl Raw, certificate: &str, key: &str) -> c_int {
    let (certificate, key) = (cert(certificate), cert(key));
    unsafe { dv_ssl_add_certificate(ctx.raw(), certificate.as_ptr(), key.as_ptr()) }
}

/// localhost's certificate, and those of other names beside it.
fn server_with(names: &[&str]) -> SslContextBuilder {
    let ctx = server("server-ecdsa");
    names.iter().for_each(|name| works(|| add(&ctx, &format!("{name}.pem"), &format!("{name}.key"))));
    ctx
}

fn ask_for(name: Option<&str>, client: &SslContext, server: &SslContext) -> Met {
    let mut ssl = Ssl::new(client).unwrap();
    if let Some(name) = name {
        ssl.set_hostname(name).unwrap();
    }
    meet_with(ssl, Ssl::new(server).unwrap())
}

/// Whose certificate a client is shown that asks for a name.
fn shown_to(name: Option<&str>, server: &SslContext) -> String {
    let met = ask_for(name, &client(SSL_VERIFY_PEER, "ca.pem").build(), server);
    assert!(met.both_done(), "{name:?}: {} {}", met.client.error(), met.server.error());
    let certificate = met.client.ssl().peer_certificate().unwrap();
    certificate.subject_name().entries().next().unwrap().data().to_string().unwrap()
}

#[test]
fn each_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    let server = server_with(&["named", "wildcard"]).build();
    for (name, common) in [
        (None, "localhost"),
        (Some("localhost"), "localhost"),
        (Some("one.example.test"), "one.example.test"),
        (Some("TWO.example.test"), "one.example.test"),
        (Some("three.example.test"), "wildcard.example.test"),
        // A star stands for one label, and the subject is no name.
        (Some("a.b.example.test"), "localhost"),
        (Some("example.test"), "localhost"),
        (Some("one.example.test.org"), "localhost"),
    ] {
        assert_eq!(shown_to(name, &server), common, "{name:?}");
    }
    // The first that fits is shown.
    let server = server_with(&["wildcard", "named"]).build();
    assert_eq!(shown_to(Some("one.example.test"), &server), "wildcard.example.test");
}

/// Says one thing, and hears what comes of it.
#[derive(Debug)]
struct Stranger {
    says: Option<Vec<u8>>,
    heard: usize,
}

impl Read for Stranger {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let says = self.says.take().ok_or(io::ErrorKind::WouldBlock)?;
        into[..says.len()].copy_from_slice(&says);
        Ok(says.len())
    }
}

impl Write for Stranger {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.heard += datagram.len();
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A ClientHello that asks for a name, with one cipher suite that fits.
fn hello_for(name: &[u8]) -> Vec<u8> {
    let with_length = |bytes: Vec<u8>| [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
    let extension = |number: u8, body: Vec<u8>| [vec![0, number], with_length(body)].concat();
    let host = [vec![0], with_length(name.to_vec())].concat();
    let extensions = [
        extension(0, with_length(host)),
        extension(10, with_length(vec![0, 0x17])),
        extension(13, with_length(vec![4, 3])),
    ];
    let head = [&[0xfe, 0xfd][..], &[7; 32], &[0, 0], &[0, 2, 0xc0, 0x2b, 1, 0]].concat();
    let body = [head, with_length(extensions.concat())].concat();
    let len = (body.len() as u16).to_be_bytes();
    let message = [&[1, 0, len[0], len[1], 0, 0, 0, 0, 0, 0, len[0], len[1]][..], &body].concat();
    [vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0], with_length(message)].concat()
}

#[test]
fn a_client_may_ask_for_what_is_no_name() {
    let server = server_with(&["named", "wildcard"]).build();
    for (name, common) in [
        (&b"one.example.test"[..], "one.example.test"),
        (b"", "localhost"),
        (b".", "localhost"),
        (b".example.test", "localhost"),
        (b".one.example.test", "localhost"),
        (b"*.example.test", "wildcard.example.test"),
        (b"*", "localhost"),
        (b"\xff", "localhost"),
        (&[b'a'; 255], "localhost"),
    ] {
        let stranger = Stranger { says: Some(hello_for(name)), heard: 0 };
        let mut stream = SslStream::new(Ssl::new(&server).unwrap(), stranger).unwrap();
        assert_eq!(stream.accept().unwrap_err().code(), ErrorCode::WANT_READ, "{name:?}");
        assert!(stream.get_ref().heard > 500, "{name:?}");
        let subject = stream.ssl().certificate().unwrap().subject_name().entries().next().unwrap().data().to_owned();
        assert_eq!(subject.to_string().unwrap(), common, "{name:?}");
    }
}

#[test]
fn what_is_shown_belongs_to_the_name_whatever_else_there_is() {
    // The context's own RSA certificate is for another name, and must not be chosen by a client that would take both.
    let server = server("server-rsa");
    works(|| add(&server, "named.pem", "named.key"));
    let server = server.build();
    let only = |ciphers| {
        let client = client(SSL_VERIFY_PEER, "ca.pem");
        works(|| set_ciphers(&client, ciphers));
        client.build()
    };
    assert!(!ask_for(Some("one.example.test"), &only(c"ECDHE+aRSA+AESGCM"), &server).both_done());
    assert!(ask_for(Some("one.example.test"), &only(c"ECDHE+aECDSA+AESGCM"), &server).both_done());
    assert!(ask_for(Some("localhost"), &only(c"ECDHE+aRSA+AESGCM"), &server).both_done());
}

#[test]
fn the_server_name_callback_stays_the_programs() {
    let other = server("wildcard").build();
    let mut server = server_with(&["named"]);
    server.set_servername_callback(move |ssl, _| {
        if ssl.servername(openssl::ssl::NameType::HOST_NAME) == Some("other.example") {
            ssl.set_ssl_context(&other).unwrap();
        }
        Ok(())
    });
    let server = server.build();
    assert_eq!(shown_to(Some("one.example.test"), &server), "one.example.test");
    assert_eq!(shown_to(Some("other.example"), &server), "wildcard.example.test");
}

#[test]
fn a_client_with_such_a_context_shows_its_own() {
    let client = client(SSL_VERIFY_PEER, "ca.pem");
    works(|| load(&client, "client.pem", "client.key"));
    works(|| add(&client, "named.pem", "named.key"));
    let server = server("server-ecdsa");
    assert_eq!(set_verify(&server, VERIFY_BOTH, "ca.pem"), DV_OK);
    let met = ask_for(Some("one.example.test"), &client.build(), &server.build());
    assert!(met.both_done(), "{}", met.server.error());
    let shown = met.server.ssl().peer_certificate().unwrap();
    assert_eq!(shown.subject_name().entries().next().unwrap().data().as_slice(), b"test client");
}

#[test]
fn what_cannot_be_added_is_named_and_nothing_changes() {
    let server = server_with(&["named"]).build();
    let refused = |certificate: &str, key: &str, words: &[&str]| {
        fails(|| add(&server, certificate, key), words);
        assert_eq!(shown_to(Some("one.example.test"), &server), "one.example.test");
    };
    for (file, why) in BAD_FILES {
        refused(file, "named.key", &["dv_ssl_add_certificate", "certificate file", file, why]);
    }
    refused("named.pem", "wildcard.key", &["named.pem", "wildcard.key", "mismatch"]);
    refused("client.pem", "client.key", &["client.pem", "no DNS name in it"]);
    refused("named.pem", "encrypted.key", &["the key is encrypted"]);
    let some = cert("named.pem");
    let (raw, some) = (|ctx: *mut c_void, c, k| unsafe { dv_ssl_add_certificate(ctx, c, k) }, some.as_ptr());
    fails(|| raw(null_mut(), some, some), &["ctx is NULL"]);
    fails(|| raw(server.raw(), null(), some), &["cert is NULL"]);
    fails(|| raw(server.raw(), some, null()), &["key is NULL"]);
}

#[test]
fn rust_programs_have_the_same() {
    let mut server = server("server-ecdsa");
    let path = |name: &str| cert(name).into_string().unwrap();
    add_certificate(&mut server, path("named.pem"), path("named.key")).unwrap();
    let refused = add_certificate(&mut server, path("client.pem"), path("client.key"));
    assert!(matches!(refused, Err(Error::Invalid(why)) if why.contains("no DNS name in it")));
    assert!(matches!(add_certificate(&mut server, "a\0b", "c"), Err(Error::Invalid(_))));
    assert_eq!(shown_to(Some("one.example.test"), &server.build()), "one.example.test");
}
