//! When the OpenSSL that is loaded has another major version, every call that needs it says so and fails.

// A test calls C functions with what it made itself on the line above.
#![allow(clippy::undocumented_unsafe_blocks)]

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::Mutex;

use dv_dtls::*;
use foreign_types::ForeignType;
use openssl::ssl::{Ssl, SslContextBuilder, SslMethod};

/// Stands in front of libcrypto's.
#[unsafe(no_mangle)]
extern "C" fn OpenSSL_version_num() -> c_ulong {
    0x90000000
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

unsafe extern "C" fn collect(_level: c_int, line: *const c_char, _user: *mut c_void) {
    LINES.lock().unwrap().push(unsafe { CStr::from_ptr(line) }.to_str().unwrap().to_owned());
}

#[test]
fn another_major_version_is_named() {
    unsafe { dv_set_log_callback(1, Some(collect), null_mut()) };
    let says_so = |call: &dyn Fn() -> c_int| {
        assert_eq!(call(), DV_ERROR);
        let lines = std::mem::take(&mut *LINES.lock().unwrap());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("OpenSSL 9 is loaded, but this dv_dtls was built against OpenSSL "), "{lines:?}");
    };
    let builder = SslContextBuilder::new(SslMethod::dtls()).unwrap();
    let ctx: *mut c_void = builder.as_ptr().cast();
    let text = c"AES".as_ptr().cast_mut();
    says_so(&|| dv_check_version(0));
    says_so(&|| unsafe { dv_openssl_ctx_set_ciphers(ctx, text) });
    says_so(&|| unsafe { dv_ssl_certificate(ctx, text, text) });
    says_so(&|| unsafe { dv_ssl_add_certificate(ctx, text, text) });
    says_so(&|| unsafe { dv_ssl_share_tickets(ctx, text) });
    let context = builder.build();
    let ssl = Ssl::new(&context).unwrap();
    let ssl: *mut c_void = ssl.as_ptr().cast();
    says_so(&|| unsafe { dv_openssl_get_verify_result(ssl) });
    says_so(&|| unsafe { dv_openssl_set_peer_name(ssl, text) });
    // What begins something.
    let failed = |is| if is { DV_ERROR } else { DV_OK };
    let ctx = context.as_ptr();
    let callbacks =
        dv_callbacks { size: size_of::<dv_callbacks>(), open: None, message: None, close: None, moved: None };
    let (mut endpoint, mut server, mut key) =
        (null_mut::<dv_endpoint>(), null_mut::<dv_server>(), unsafe { zeroed::<dv_udp_conn_key_t>() });
    let (endpoint_at, server_at) = (&raw mut endpoint, &raw mut server);
    key.addr4.sin_family = libc::AF_INET as _;
    key.addr4.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    says_so(&|| unsafe { failed(dv_dtls_conn_new(ctx.cast(), text, 3, -1, &raw const key as _, 16).is_null()) });
    says_so(&|| unsafe { failed(dv_endpoint_new(ctx, null(), endpoint_at) == DV_ERR_TLS) });
    says_so(&|| unsafe { failed(dv_server_new(ctx, null(), &callbacks, null_mut(), server_at) == DV_ERR_TLS) });
    assert!(
        unsafe { CStr::from_ptr(dv_last_error()) }.to_str().unwrap().starts_with("dv_server_new: the OpenSSL that is")
    );
    assert!(endpoint.is_null() && server.is_null());
    // The judgement of the chain is passed on all the same.
    assert_eq!(unsafe { dv_openssl_callback(1, null_mut()) }, 1);
}
