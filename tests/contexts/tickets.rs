//! dv_ssl_share_tickets

use std::ffi::CString;
use std::ptr::{null, null_mut};

use dv_dtls::*;
use openssl::ssl::SslContext;
use openssl_sys::SSL_VERIFY_PEER;

use crate::support::*;

/// A file that goes with the test.
struct Secret(CString);

impl Secret {
    fn new(name: &str, contents: &str) -> Secret {
        let path = std::env::temp_dir().join(format!("dv_dtls-{name}-{}", std::process::id()));
        std::fs::write(&path, contents).unwrap();
        Secret(CString::new(path.to_str().unwrap()).unwrap())
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn server(&self) -> SslContext {
        let server = server("server-ecdsa");
        works(|| unsafe { dv_ssl_share_tickets(server.raw(), self.0.as_ptr()) });
        server.build()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}

#[test]
fn servers_with_one_secret_resume_each_others_sessions() {
    let shared = Secret::new("shared", "the secret that they share");
    let other = Secret::new("other", "the secret of somebody else");
    let mut rust = server("server-ecdsa");
    share_tickets(&mut rust, shared.path()).unwrap();
    let servers = [shared.server(), shared.server(), rust.build(), other.server(), server("server-ecdsa").build()];
    let client = client(SSL_VERIFY_PEER, "ca.pem").build();
    for (from, first) in servers.iter().enumerate() {
        for (to, second) in servers.iter().enumerate() {
            let session = meet(&client, first).session();
            let resumed = meet_again(&client, second, &session).server.ssl().session_reused();
            // The first three are one fleet.
            assert_eq!(resumed, to == from || (from < 3 && to < 3), "from {from} to {to}");
        }
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let server = server("server-ecdsa");
    let short = Secret::new("short", "fifteen bytes.\n");
    let give = |path| unsafe { dv_ssl_share_tickets(server.raw(), path) };
    fails(|| give(short.0.as_ptr()), &["dv_ssl_share_tickets", "secret file", short.path(), "15 bytes"]);
    fails(|| give(c"/nonexistent".as_ptr()), &["/nonexistent", "No such file"]);
    fails(|| give(null()), &["secret_file is NULL"]);
    fails(|| unsafe { dv_ssl_share_tickets(null_mut(), short.0.as_ptr()) }, &["ctx is NULL"]);
}
