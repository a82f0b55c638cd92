//! dv_openssl_ctx_set_ciphers

use std::ffi::{CStr, CString, c_void};
use std::ptr::null_mut;

use dv_dtls::*;
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::ssl::{SslContextBuilder, SslMethod, SslVerifyMode, SslVersion};
use openssl_sys::SSL_VERIFY_PEER;

use crate::support::*;

unsafe extern "C" {
    fn SSL_CTX_get_ciphers(ctx: *const openssl_sys::SSL_CTX) -> *const c_void;
}

#[test]
fn the_list_is_used_and_the_key_exchange_is_x25519() {
    let client = client(SSL_VERIFY_PEER, "ca.pem");
    works(|| set_ciphers(&client, c"ECDHE-ECDSA-AES256-GCM-SHA384"));
    let met = meet(&client.build(), &server("server-ecdsa").build());
    assert!(met.both_done());
    let ssl = met.client.ssl();
    assert_eq!(ssl.current_cipher().unwrap().name(), "ECDHE-ECDSA-AES256-GCM-SHA384");
    assert_eq!(ssl.version2(), Some(SslVersion::DTLS1_2));
    assert_eq!(ssl.peer_tmp_key().unwrap().id(), Id::X25519);
}

#[test]
fn a_peer_with_nothing_but_p256_is_served() {
    let mut client = client(SSL_VERIFY_PEER, "ca.pem");
    client.set_groups_list("P-256").unwrap();
    let met = meet(&client.build(), &server("server-ecdsa").build());
    assert!(met.both_done());
    assert_eq!(met.client.ssl().peer_tmp_key().unwrap().id(), Id::EC);
}

/// OpenSSL refuses a client's certificate whose curve is not among the groups ("wrong curve").
#[test]
fn clients_show_certificates_of_each_curve() {
    let mut server = server("server-ecdsa");
    server.set_verify_callback(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, |_, _| true);
    let server = server.build();
    for curve in [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1] {
        let (certificate, key) = self_signed(curve, &["client"]);
        let mut client = SslContextBuilder::new(SslMethod::dtls_client()).unwrap();
        client.set_certificate(&certificate).unwrap();
        client.set_private_key(&key).unwrap();
        let met = meet(&client.build(), &server);
        assert!(met.both_done(), "{curve:?}: {}", met.server.error());
    }
}

#[test]
fn dtls_1_0_is_refused() {
    let server = server("server-ecdsa").build();
    let any = |highest| {
        let mut client = SslContextBuilder::new(SslMethod::dtls_client()).unwrap();
        client.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
        client.set_max_proto_version(highest).unwrap();
        meet(&client.build(), &server)
    };
    assert!(any(None).both_done());
    assert!(any(Some(SslVersion::DTLS1)).server.error().contains("unsupported protocol"));
}

#[test]
fn a_refused_list_is_named_and_changes_nothing() {
    let ctx = SslContextBuilder::new(SslMethod::dtls_server()).unwrap();
    works(|| load(&ctx, "server-ecdsa.pem", "server-ecdsa.key"));
    let settings = || unsafe {
        let ctx = ctx.as_ptr();
        let list = SSL_CTX_get_ciphers(ctx).cast();
        let name = |i| CStr::from_ptr(openssl_sys::SSL_CIPHER_get_name(openssl_sys::OPENSSL_sk_value(list, i).cast()));
        let names: Vec<_> = (0..openssl_sys::OPENSSL_sk_num(list)).map(|i| name(i).to_owned()).collect();
        (openssl_sys::SSL_CTX_get_security_level(ctx), openssl_sys::SSL_CTX_get_min_proto_version(ctx), names)
    };
    let too_long = CString::new("AES128-SHA:".repeat(2000)).unwrap();
    let refuse_all = || {
        let was = settings();
        assert!(was.2.len() > 3);
        fails(|| set_ciphers(&ctx, c"NO-SUCH-CIPHER"), &["NO-SUCH-CIPHER", "no cipher match"]);
        fails(|| set_ciphers(&ctx, c""), &["\"\"", "no cipher match"]);
        fails(|| set_ciphers(&ctx, c"TLS_AES_128_GCM_SHA256"), &["TLS_AES_128_GCM_SHA256", "no cipher match"]);
        fails(|| set_ciphers(&ctx, c"@SECLEVEL=4:NO-SUCH-CIPHER"), &["@SECLEVEL=4"]);
        fails(|| set_ciphers(&ctx, c"AES:@NONSENSE"), &["AES:@NONSENSE", "invalid command"]);
        fails(|| set_ciphers(&ctx, &too_long), &["22000 bytes", "16384"]);
        fails(|| unsafe { dv_openssl_ctx_set_ciphers(ctx.raw(), null_mut()) }, &["ciphers is NULL"]);
        assert_eq!(settings(), was);
    };
    refuse_all();
    let was = settings();
    works(|| set_ciphers(&ctx, CIPHERS));
    assert_ne!(settings(), was);
    refuse_all();
    assert!(meet(&client(SSL_VERIFY_PEER, "ca.pem").build(), &ctx.build()).both_done());
    fails(|| unsafe { dv_openssl_ctx_set_ciphers(null_mut(), c"AES".as_ptr().cast_mut()) }, &["ctx is NULL"]);
}
