//! dv_openssl_set_verify, dv_openssl_callback, dv_openssl_get_verify_result

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, null_mut};

use dv_dtls::*;
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode};
use openssl::x509::verify::X509VerifyFlags;
use openssl_sys::{SSL, SSL_CTX, SSL_METHOD, SSL_VERIFY_NONE, SSL_VERIFY_PEER, X509_STORE_CTX};

use crate::support::*;

const CLIENT_ONCE: c_int = 4;
const ALL_MODES: [c_int; 4] = [SSL_VERIFY_NONE, SSL_VERIFY_PEER, VERIFY_BOTH, VERIFY_BOTH | CLIENT_ONCE];

type VerifyCallback = unsafe extern "C" fn(c_int, *mut X509_STORE_CTX) -> c_int;
type SecurityCallback =
    unsafe extern "C" fn(*const SSL, *const SSL_CTX, c_int, c_int, c_int, *mut c_void, *mut c_void) -> c_int;

unsafe extern "C" {
    fn SSL_CTX_get_verify_callback(ctx: *const SSL_CTX) -> Option<VerifyCallback>;
    fn SSL_CTX_set_security_callback(ctx: *mut SSL_CTX, callback: Option<SecurityCallback>);
    fn SSL_CTX_get_security_callback(ctx: *const SSL_CTX) -> Option<SecurityCallback>;
    fn SSL_get0_peer_CA_list(ssl: *const SSL) -> *const c_void;
}

#[test]
fn a_client_takes_a_good_server_and_no_other() {
    for certificate in ["server-ecdsa", "server-rsa", "server-chain5-rsa4096"] {
        let met = meet(&client(SSL_VERIFY_PEER, "ca.pem").build(), &server(certificate).build());
        assert!(met.both_done(), "{certificate}: {}", met.client.error());
        works(|| verdict(met.client.ssl()));
    }
    for (certificate, why) in [("wrong-ca", "unable to get local issuer"), ("expired", "certificate has expired")] {
        let server = server(certificate).build();
        let (met, lines) = logged(|| meet(&client(SSL_VERIFY_PEER, "ca.pem").build(), &server));
        assert!(met.client.error().contains("certificate verify failed"));
        assert!(!met.server.done());
        assert!(lines.contains(why), "{lines}");
        fails(|| verdict(met.client.ssl()), &["the handshake is not finished"]);

        // Without SSL_VERIFY_PEER the handshake ends well all the same; the verdict is what protects the program.
        let met = meet(&client(SSL_VERIFY_NONE, "ca.pem").build(), &server);
        assert!(met.both_done());
        fails(|| verdict(met.client.ssl()), &[why]);
    }
    let met = meet(&client(SSL_VERIFY_PEER, "other-ca.pem").build(), &server("wrong-ca").build());
    assert!(met.both_done());
}

#[test]
fn a_server_gets_the_client_certificate_that_its_mode_asks_for() {
    let bare = client(SSL_VERIFY_PEER, "ca.pem").build();
    let with = |name: &str| {
        let ctx = client(SSL_VERIFY_PEER, "ca.pem");
        works(|| load(&ctx, &format!("{name}.pem"), &format!("{name}.key")));
        ctx.build()
    };
    let server = |mode| {
        let ctx = server("server-ecdsa");
        assert_eq!(set_verify(&ctx, mode, "ca.pem"), DV_OK);
        ctx.build()
    };
    for mode in ALL_MODES {
        let met = meet(&with("client"), &server(mode));
        assert!(met.both_done());
        works(|| verdict(met.server.ssl()));
        assert_eq!(met.server.ssl().peer_certificate().is_some(), mode != SSL_VERIFY_NONE);
    }
    assert!(meet(&bare, &server(SSL_VERIFY_PEER)).both_done());
    assert!(!meet(&bare, &server(VERIFY_BOTH)).both_done());
    // A certificate for servers is none for clients, and one of another CA is none at all.
    for name in ["server-ecdsa", "wrong-ca"] {
        let met = meet(&with(name), &server(SSL_VERIFY_PEER));
        assert!(met.server.error().contains("certificate verify failed"), "{name}: {}", met.server.error());
    }
}

#[test]
fn the_verdict_wants_a_certificate_where_the_mode_does() {
    let server = server("server-ecdsa");
    assert_eq!(set_verify(&server, SSL_VERIFY_PEER, "ca.pem"), DV_OK);
    let met = meet(&client(SSL_VERIFY_PEER, "ca.pem").build(), &server.build());
    assert!(met.both_done());
    works(|| verdict(met.server.ssl()));
    // The program raises the mode when the handshake is over.
    unsafe { openssl_sys::SSL_set_verify(met.server.ssl().as_ptr(), VERIFY_BOTH, None) };
    fails(|| verdict(met.server.ssl()), &["the peer sent no certificate"]);
    unsafe { openssl_sys::SSL_set_verify(met.client.ssl().as_ptr(), VERIFY_BOTH | CLIENT_ONCE, None) };
    works(|| verdict(met.client.ssl()));
    fails(|| unsafe { dv_openssl_get_verify_result(null_mut()) }, &["SSL is NULL"]);
}

#[test]
fn the_verdict_leaves_openssls_errors_to_the_caller() {
    let ssl = Ssl::new(&client(SSL_VERIFY_PEER, "ca.pem").build()).unwrap();
    let mut ctx = SslContextBuilder::new(SslMethod::dtls()).unwrap();
    ctx.set_cipher_list("NO-SUCH-CIPHER").unwrap_err().put();
    assert_eq!(verdict(&ssl), DV_ERROR);
    assert_eq!(ErrorStack::get().errors().len(), 1);
}

#[test]
fn the_callback_of_the_context_passes_the_judgement_on() {
    let ctx = client(SSL_VERIFY_PEER, "ca.pem");
    let set = unsafe { SSL_CTX_get_verify_callback(ctx.as_ptr()) }.unwrap();
    assert!(ptr::fn_addr_eq(set, dv_openssl_callback as VerifyCallback));
    for ok in [0, 1] {
        assert_eq!(logged(|| unsafe { dv_openssl_callback(ok, null_mut()) }), (ok, String::new()));
    }
}

#[test]
fn after_a_failure_every_handshake_fails_until_a_call_works() {
    let good_client = client(SSL_VERIFY_NONE, "ca.pem").build();
    let good_server = server("server-ecdsa").build();
    for (file, why) in BAD_FILES {
        for mode in ALL_MODES {
            let fail_on = |ctx: *mut c_void| {
                let path = cert(file);
                let ((), lines) = logged(|| unsafe { dv_openssl_set_verify(ctx, mode, path.as_ptr().cast_mut()) });
                assert!(lines.contains(file) && lines.contains(why), "{lines}");
                assert!(ErrorStack::get().errors().is_empty());
            };
            // A client, which sets its ciphers after that, as the original's main does.
            let ctx = SslContextBuilder::new(SslMethod::dtls_client()).unwrap().build();
            fail_on(ctx.raw());
            works(|| set_ciphers(&ctx, CIPHERS));
            assert_ne!(meet(&ctx, &good_server).client.error(), "");
            assert_eq!(set_verify(&ctx, SSL_VERIFY_PEER, "ca.pem"), DV_OK);
            assert!(meet(&ctx, &good_server).both_done());

            // A server, which loads its certificate after that.
            let ctx = SslContextBuilder::new(SslMethod::dtls_server()).unwrap().build();
            fail_on(ctx.raw());
            fail_on(ctx.raw());
            works(|| load(&ctx, "server-ecdsa.pem", "server-ecdsa.key"));
            works(|| set_ciphers(&ctx, CIPHERS));
            assert_ne!(meet(&good_client, &ctx).server.error(), "");
            assert_eq!(set_verify(&ctx, SSL_VERIFY_NONE, "ca.pem"), DV_OK);
            assert!(meet(&good_client, &ctx).both_done());
        }
    }
}

#[test]
fn null_and_unknown_modes_refuse_too() {
    let good_server = server("server-ecdsa").build();
    let ctx = client(SSL_VERIFY_PEER, "ca.pem").build();
    let ca = cert("ca.pem");
    let ca = ca.as_ptr().cast_mut();
    for (mode, path, why) in
        [(SSL_VERIFY_NONE, null_mut(), "peer_cf is NULL"), (-1, ca, "0xffffffff"), (0x10, ca, "0x10")]
    {
        let ((), lines) = logged(|| unsafe { dv_openssl_set_verify(ctx.raw(), mode, path) });
        assert!(lines.contains(why), "{lines}");
        assert_ne!(meet(&ctx, &good_server).client.error(), "");
        assert_eq!(set_verify(&ctx, SSL_VERIFY_PEER, "ca.pem"), DV_OK);
        assert!(meet(&ctx, &good_server).both_done());
    }
    let ((), lines) = logged(|| unsafe { dv_openssl_set_verify(null_mut(), 0, ca) });
    assert!(lines.contains("ctx is NULL"));
}

#[test]
fn a_refusal_keeps_the_programs_security_callback() {
    /// Refuses every certificate, and nothing else.
    unsafe extern "C" fn of_the_program(
        _: *const SSL,
        _: *const SSL_CTX,
        op: c_int,
        _: c_int,
        _: c_int,
        _: *mut c_void,
        user: *mut c_void,
    ) -> c_int {
        const EE_KEY: c_int = 16;
        assert!(user.is_null());
        c_int::from(op & 0xffff != EE_KEY)
    }
    let ctx = SslContextBuilder::new(SslMethod::dtls_server()).unwrap().build();
    unsafe { SSL_CTX_set_security_callback(ctx.as_ptr(), Some(of_the_program)) };
    for (ca, outcome) in [("ca.pem", DV_OK), ("empty.pem", DV_ERROR), ("ca.pem", DV_OK)] {
        assert_eq!(set_verify(&ctx, SSL_VERIFY_NONE, ca), outcome);
        fails(|| load(&ctx, "server-rsa.pem", "server-rsa.key"), &["ee key too small"]);
        let now = unsafe { SSL_CTX_get_security_callback(ctx.as_ptr()) }.unwrap();
        assert_eq!(ptr::fn_addr_eq(now, of_the_program as SecurityCallback), outcome == DV_OK);
    }
}

#[test]
fn methods_of_one_version_are_refused_too_and_resume_nothing() {
    // OpenSSL 4 has them no more, so they are looked up.
    let method = |name: &CStr| unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        let found: Option<extern "C" fn() -> *const SSL_METHOD> = std::mem::transmute(found);
        found.map(|method| SslContextBuilder::new(SslMethod::from_ptr(method())).unwrap())
    };
    let (Some(server), Some(client)) = (method(c"DTLSv1_2_server_method"), method(c"DTLSv1_2_client_method")) else {
        eprintln!("not tested: this OpenSSL has no methods of one version");
        return;
    };
    let (mut server, client) = (server, client.build());
    server.set_options(SslOptions::NO_TICKET);
    works(|| load(&server, "server-ecdsa.pem", "server-ecdsa.key"));
    assert_eq!(set_verify(&server, SSL_VERIFY_NONE, "ca.pem"), DV_OK);
    let server = server.build();
    let session = meet(&client, &server).session();
    let mut met = meet_again(&client, &server, &session);
    assert!(met.both_done() && met.client.ssl().session_reused());
    let session = met.session();

    assert_eq!(set_verify(&server, SSL_VERIFY_NONE, "empty.pem"), DV_ERROR);
    assert_ne!(meet_again(&client, &server, &session).server.error(), "");
    assert_ne!(meet(&client, &server).server.error(), "");
    assert_eq!(set_verify(&server, SSL_VERIFY_NONE, "ca.pem"), DV_OK);
    let session = meet(&client, &server).session();
    assert!(meet_again(&client, &server, &session).both_done());

    assert_eq!(set_verify(&client, SSL_VERIFY_NONE, "empty.pem"), DV_ERROR);
    assert_ne!(meet_again(&client, &server, &session).client.error(), "");
    assert_ne!(meet(&client, &server).client.error(), "");
}

#[test]
fn sessions_with_client_certificates_are_resumed() {
    for tickets in [true, false] {
        let mut server = server("server-ecdsa");
        if !tickets {
            server.set_options(SslOptions::NO_TICKET);
        }
        assert_eq!(set_verify(&server, VERIFY_BOTH, "ca.pem"), DV_OK);
        let mut client = client(SSL_VERIFY_PEER, "ca.pem");
        client.set_session_cache_mode(SslSessionCacheMode::CLIENT);
        works(|| load(&client, "client.pem", "client.key"));
        let (client, server) = (client.build(), server.build());

        let mut first = meet(&client, &server);
        assert!(first.both_done() && !first.server.ssl().session_reused());
        let second = meet_again(&client, &server, &first.session());
        assert!(second.both_done(), "{}", second.server.error());
        assert!(second.server.ssl().session_reused());
        works(|| verdict(second.server.ssl()));
        assert!(second.server.ssl().peer_certificate().is_some());
    }
}

#[test]
fn a_session_is_not_resumed_under_a_stricter_mode() {
    let server = server("server-ecdsa").build();
    assert_eq!(set_verify(&server, SSL_VERIFY_NONE, "ca.pem"), DV_OK);
    let client = client(SSL_VERIFY_PEER, "ca.pem").build();
    let session = meet(&client, &server).session();
    let mut met = meet_again(&client, &server, &session);
    assert!(met.server.ssl().session_reused());
    let session = met.session();
    assert_eq!(set_verify(&server, VERIFY_BOTH, "ca.pem"), DV_OK);
    let met = meet_again(&client, &server, &session);
    assert!(met.server.error().contains("peer did not return a certificate"), "{}", met.server.error());
}

#[test]
fn revocation_lists_among_the_cas_are_taken() {
    let mut client = client(SSL_VERIFY_PEER, "ca-crl.pem");
    client.verify_param_mut().set_flags(X509VerifyFlags::CRL_CHECK).unwrap();
    let client = client.build();
    let (met, lines) = logged(|| meet(&client, &server("revoked").build()));
    assert!(!met.both_done());
    assert!(lines.contains("certificate revoked"), "{lines}");
    assert!(meet(&client, &server("server-ecdsa").build()).both_done());
}

#[test]
fn a_server_names_its_cas_to_the_client() {
    let server = server("server-ecdsa").build();
    let client = client(SSL_VERIFY_PEER, "ca.pem").build();
    let once = std::fs::read(cert("ca.pem").to_str().unwrap()).unwrap();
    let twice = std::env::temp_dir().join(format!("dv_dtls-twice-{}.pem", std::process::id()));
    std::fs::write(&twice, [once.clone(), once].concat()).unwrap();
    // ca.pem has two CAs, and the last file counts.
    for (file, cas) in [("ca.pem", 2), ("other-ca.pem", 1), (twice.to_str().unwrap(), 2)] {
        assert_eq!(set_verify(&server, SSL_VERIFY_PEER, file), DV_OK);
        let met = meet(&client, &server);
        assert!(met.both_done());
        let names = unsafe { SSL_get0_peer_CA_list(met.client.ssl().as_ptr()) };
        assert_eq!(unsafe { openssl_sys::OPENSSL_sk_num(names.cast()) }, cas);
    }
    std::fs::remove_file(twice).unwrap();
}
