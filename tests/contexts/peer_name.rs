//! dv_openssl_set_peer_name

use std::ffi::{CStr, CString, c_int};
use std::ptr::{null, null_mut};

use dv_dtls::*;
use openssl::nid::Nid;
use openssl::ssl::{NameType, Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode};
use openssl_sys::{SSL_VERIFY_NONE, SSL_VERIFY_PEER};

use crate::support::*;

/// A client that wants one name after the other.
fn connect(server: &SslContext, mode: c_int, names: &[&CStr]) -> Met {
    let ssl = Ssl::new(&client(mode, "ca.pem").build()).unwrap();
    for name in names {
        works(|| peer_name(&ssl, name));
    }
    meet_with(ssl, Ssl::new(server).unwrap())
}

#[test]
fn the_certificate_must_carry_the_name() {
    let server = server("server-ecdsa").build();
    for good in [c"localhost", c"LOCALHOST", c"localhost.", c"127.0.0.1", c"::1", c"0:0:0:0:0:0:0:1"] {
        let met = connect(&server, SSL_VERIFY_PEER, &[good]);
        assert!(met.both_done(), "{good:?}: {}", met.client.error());
        works(|| verdict(met.client.ssl()));
    }
    for (bad, why) in [
        (c"localhost.example.org", "hostname mismatch"),
        (c"local", "hostname mismatch"),
        (c"127.0.0.2", "IP address mismatch"),
        (c"::2", "IP address mismatch"),
        (c"::ffff:127.0.0.1", "IP address mismatch"),
    ] {
        let (met, lines) = logged(|| connect(&server, SSL_VERIFY_PEER, &[bad]));
        assert!(met.client.error().contains("certificate verify failed"), "{bad:?}");
        assert!(lines.contains(why), "{lines}");
        let met = connect(&server, SSL_VERIFY_NONE, &[bad]);
        assert!(met.both_done());
        fails(|| verdict(met.client.ssl()), &[why]);
    }
}

/// libssl looks at no name when a session is resumed.
#[test]
fn the_certificate_of_a_resumed_session_must_carry_the_name() {
    let (server, context) = (server("server-ecdsa").build(), client(SSL_VERIFY_PEER, "ca.pem").build());
    let session = meet(&context, &server).session();
    let again = |name: &CStr| {
        let mut ssl = Ssl::new(&context).unwrap();
        works(|| peer_name(&ssl, name));
        // SAFETY: both are of one context.
        unsafe { ssl.set_session(&session) }.unwrap();
        let mut met = meet_with(ssl, Ssl::new(&server).unwrap());
        assert!(met.both_done(), "{}", met.client.error());
        assert!(met.client.ssl().session_reused(), "{name:?}");
        // For the next one.
        met.session();
        met
    };
    for good in [c"localhost", c"localhost.", c"127.0.0.1", c"::1"] {
        works(|| verdict(again(good).client.ssl()));
    }
    for bad in [c"localhost.example.org", c"127.0.0.2", c"::2"] {
        fails(|| verdict(again(bad).client.ssl()), &["another name"]);
    }
}

#[test]
fn the_last_name_counts() {
    let server = server("server-ecdsa").build();
    for names in [[c"127.0.0.2", c"localhost"], [c"example.org", c"127.0.0.1"], [c"example.org", c"localhost"]] {
        assert!(connect(&server, SSL_VERIFY_PEER, &names).both_done(), "{names:?}");
    }
    for names in [[c"localhost", c"127.0.0.2"], [c"127.0.0.1", c"example.org"], [c"localhost", c"example.org"]] {
        assert!(!connect(&server, SSL_VERIFY_PEER, &names).both_done(), "{names:?}");
    }
}

#[test]
fn a_server_is_told_a_dns_name_but_no_address() {
    let server = server("server-ecdsa").build();
    let told = |names: &[&CStr]| {
        let met = connect(&server, SSL_VERIFY_PEER, names);
        assert!(met.both_done());
        met.server.ssl().servername(NameType::HOST_NAME).map(str::to_owned)
    };
    assert_eq!(told(&[c"localhost."]).as_deref(), Some("localhost"));
    assert_eq!(told(&[c"127.0.0.1"]), None);
    assert_eq!(told(&[c"localhost", c"::1"]), None);
}

#[test]
fn what_is_no_name_is_refused_and_the_name_before_still_counts() {
    let server = server("server-ecdsa").build();
    let ssl = Ssl::new(&client(SSL_VERIFY_PEER, "ca.pem").build()).unwrap();
    works(|| peer_name(&ssl, c"127.0.0.1"));
    let longest = "a.".repeat(127) + "a";
    assert_eq!(longest.len(), 255);
    let c_string = |text: String| CString::new(text).unwrap();
    fails(|| peer_name(&ssl, &c_string(format!("{longest}a"))), &["at most 255"]);
    fails(|| peer_name(&ssl, &c_string("a".repeat(100_000))), &["at most 255"]);
    fails(|| peer_name(&ssl, &c_string("a".repeat(64) + ".org")), &["neither"]);
    for bad in [
        c"",
        c".",
        c"..",
        c".example.org",
        c"a..b",
        c"two words",
        c"host:7838",
        c"[::1]",
        c"fe80::1%eth0",
        c"*.example",
        c"a/b",
        c"user@host",
        c"-a.org",
        c"a-.org",
        c"line\nbreak",
        c"tab\t",
        c"b\xc3\xbc.org",
        c"b\xff",
        c"127.0.0.1 ",
    ] {
        fails(|| peer_name(&ssl, bad), &["neither a DNS name nor an IP address"]);
    }
    for bad in [c"127.0.0.1.5", c"127.1", c"256.0.0.1", c"2130706433"] {
        fails(|| peer_name(&ssl, bad), &["a malformed IP address"]);
    }
    fails(|| unsafe { dv_openssl_set_peer_name(ssl.raw(), null()) }, &["name is NULL"]);
    fails(|| unsafe { dv_openssl_set_peer_name(null_mut(), c"localhost".as_ptr()) }, &["SSL is NULL"]);

    let met = meet_with(ssl, Ssl::new(&server).unwrap());
    assert!(met.both_done());
    assert_eq!(met.server.ssl().servername(NameType::HOST_NAME), None);
    fails(|| peer_name(met.client.ssl(), c"localhost"), &["already begun"]);

    let ssl = Ssl::new(&client(SSL_VERIFY_PEER, "ca.pem").build()).unwrap();
    works(|| peer_name(&ssl, &c_string(longest)));
    works(|| peer_name(&ssl, c"under_score.xn--bcher-kva.example"));
}

#[test]
fn a_wildcard_stands_for_a_whole_label_only() {
    let (certificate, key) = self_signed(Nid::X9_62_PRIME256V1, &["*.example.org", "loc*.example.net"]);
    let mut server = SslContextBuilder::new(SslMethod::dtls_server()).unwrap();
    server.set_certificate(&certificate).unwrap();
    server.set_private_key(&key).unwrap();
    let mut client = SslContextBuilder::new(SslMethod::dtls_client()).unwrap();
    client.set_verify(SslVerifyMode::PEER);
    client.cert_store_mut().add_cert(certificate).unwrap();
    let (client, server) = (client.build(), server.build());
    let connects = |name| {
        let ssl = Ssl::new(&client).unwrap();
        works(|| peer_name(&ssl, name));
        meet_with(ssl, Ssl::new(&server).unwrap()).both_done()
    };
    assert!(connects(c"any.example.org"));
    assert!(!connects(c"any.such.example.org"));
    assert!(!connects(c"local.example.net"));
}
