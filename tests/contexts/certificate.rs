//! dv_ssl_certificate

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, null_mut};

use dv_dtls::*;
use openssl::pkey::Id;
use openssl::ssl::{SslContextBuilder, SslMethod};
use openssl_sys::{SSL_CTX, SSL_VERIFY_NONE, SSL_VERIFY_PEER};

use crate::support::*;

type PasswordCallback = unsafe extern "C" fn(*mut c_char, c_int, c_int, *mut c_void) -> c_int;

unsafe extern "C" {
    fn SSL_CTX_set_default_passwd_cb(ctx: *mut SSL_CTX, callback: Option<PasswordCallback>);
    fn SSL_CTX_set_default_passwd_cb_userdata(ctx: *mut SSL_CTX, user: *mut c_void);
}

#[test]
fn the_whole_chain_is_sent() {
    let server = server("server-chain5-rsa4096").build();
    let client = client(SSL_VERIFY_PEER, "ca.pem").build();
    let sent = || {
        let met = meet(&client, &server);
        assert!(met.both_done());
        met.client.ssl().peer_cert_chain().unwrap().len()
    };
    assert_eq!(sent(), 5);
    works(|| load(&server, "server-chain5-rsa4096.pem", "server-chain5-rsa4096.key"));
    assert_eq!(sent(), 5, "loaded again, it takes its own place");
    works(|| load(&server, "server-rsa.pem", "server-rsa.key"));
    assert_eq!(sent(), 1, "it goes with the certificate that it belongs to");
}

#[test]
fn certificates_of_two_types_stand_beside_each_other() {
    let server = server("server-rsa").build();
    works(|| load(&server, "server-ecdsa.pem", "server-ecdsa.key"));
    for (ciphers, key) in [(c"ECDHE+aECDSA+AESGCM", Id::EC), (c"ECDHE+aRSA+AESGCM", Id::RSA)] {
        let client = client(SSL_VERIFY_PEER, "ca.pem");
        works(|| set_ciphers(&client, ciphers));
        let met = meet(&client.build(), &server);
        assert!(met.both_done());
        assert_eq!(met.client.ssl().peer_certificate().unwrap().public_key().unwrap().id(), key);
    }
}

#[test]
fn what_cannot_be_used_is_named_and_the_old_certificate_is_still_served() {
    let server = server("server-ecdsa").build();
    let client = client(SSL_VERIFY_NONE, "ca.pem").build();
    let was = meet(&client, &server).shown();
    let refused = |certificate: &str, key: &str, words: &[&str]| {
        fails(|| load(&server, certificate, key), words);
        assert_eq!(meet(&client, &server).shown(), was);
    };
    for (file, why) in BAD_FILES {
        refused(file, "server-ecdsa.key", &["certificate file", file, why]);
    }
    refused("server-ecdsa.pem", "no-such-file.key", &["key file", "no-such-file.key", "No such file"]);
    refused("server-ecdsa.pem", ".", &["Is a directory"]);
    refused("server-ecdsa.pem", "empty.pem", &["empty.pem", "the file is empty"]);
    refused("server-ecdsa.pem", "garbage.pem", &["garbage.pem"]);
    refused("server-ecdsa.pem", "server-ecdsa-key.der", &["server-ecdsa-key.der"]);
    refused("server-ecdsa.pem", "server-ecdsa.pem", &["key file", "server-ecdsa.pem"]);
    refused("server-ecdsa.pem", "mismatched.key", &["server-ecdsa.pem", "mismatched.key", "private key mismatch"]);
    refused("server-rsa.pem", "server-ecdsa.key", &["server-rsa.pem", "private key mismatch"]);
    refused("server-chain5-rsa4096.pem", "server-rsa.key", &["private key mismatch"]);
    refused("server-ecdsa.pem", "encrypted.key", &["encrypted.key", "no password callback"]);

    let some = cert("server-ecdsa.pem");
    let some = some.as_ptr().cast_mut();
    fails(|| unsafe { dv_ssl_certificate(null_mut(), some, some) }, &["ctx is NULL"]);
    fails(|| unsafe { dv_ssl_certificate(server.raw(), null_mut(), some) }, &["cert is NULL"]);
    fails(|| unsafe { dv_ssl_certificate(server.raw(), some, null_mut()) }, &["key is NULL"]);

    works(|| load(&server, "expired.pem", "expired.key"));
    assert_ne!(meet(&client, &server).shown(), was);
}

#[test]
fn an_encrypted_key_opens_with_the_programs_password() {
    unsafe extern "C" fn tell(into: *mut c_char, size: c_int, _writing: c_int, user: *mut c_void) -> c_int {
        let password = unsafe { CStr::from_ptr(user.cast()) }.to_bytes();
        assert!(size as usize >= password.len());
        unsafe { ptr::copy_nonoverlapping(password.as_ptr(), into.cast(), password.len()) };
        password.len() as c_int
    }
    unsafe extern "C" fn know_nothing(_: *mut c_char, _: c_int, _: c_int, _: *mut c_void) -> c_int {
        -1
    }
    let ctx = SslContextBuilder::new(SslMethod::dtls_server()).unwrap();
    let load = || load(&ctx, "server-ecdsa.pem", "encrypted.key");
    let set = |callback: Option<PasswordCallback>, user: Option<&'static CStr>| unsafe {
        SSL_CTX_set_default_passwd_cb(ctx.as_ptr(), callback);
        let user = user.map_or(ptr::null(), CStr::as_ptr);
        SSL_CTX_set_default_passwd_cb_userdata(ctx.as_ptr(), user.cast_mut().cast());
    };
    set(Some(tell), Some(c"wrong"));
    fails(load, &["encrypted.key", "bad decrypt"]);
    set(Some(know_nothing), None);
    fails(load, &["encrypted.key", "password"]);
    set(Some(tell), Some(c"dv_dtls"));
    works(load);
    // OpenSSL's own rule: without a callback, the user data is the password.
    set(None, Some(c"dv_dtls"));
    works(load);
    set(None, None);
    fails(load, &["encrypted.key", "no password callback"]);
    works(|| set_ciphers(&ctx, CIPHERS));
    assert!(meet(&client(SSL_VERIFY_PEER, "ca.pem").build(), &ctx.build()).both_done());
}
