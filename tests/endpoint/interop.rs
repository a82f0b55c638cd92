//! OpenSSL's own client and server, driven by the program itself, against the endpoint.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dv_dtls::wire::record::{content_type, records};
use dv_dtls::{CloseReason, Connect, Endpoint, Event, State};
use foreign_types::ForeignTypeRef;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslOptions, SslStream, SslVersion};

use crate::NATIVE_RECORDS;
use crate::common::pipe::Pipe;
use crate::contexts::*;
use crate::net::SECOND;

/// Where the endpoint believes the other to be.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4000);

struct Pair {
    endpoint: Endpoint,
    events: Vec<(Event, Vec<u8>)>,
    plain: SslStream<Pipe>,
    pipe: Pipe,
    now: u64,
}

impl Pair {
    fn new(endpoint: Endpoint, plain: &SslContext) -> Pair {
        let (pipe, theirs) = Pipe::pair();
        let mut ssl = Ssl::new(plain).unwrap();
        ssl.set_mtu(1200).unwrap();
        let plain = SslStream::new(ssl, theirs).unwrap();
        Pair { endpoint, events: Vec::new(), plain, pipe, now: SECOND }
    }

    /// Carries datagrams both ways.
    fn carry(&mut self) {
        while let Some(datagram) = self.pipe.get() {
            self.endpoint.receive(self.now, &datagram, PEER, None);
        }
        while let Some(transmit) = self.endpoint.transmit(1) {
            self.pipe.put(transmit.bytes);
        }
        let mut message = Vec::new();
        while let Some(event) = self.endpoint.event(&mut message) {
            self.events.push((event, message.clone()));
        }
        self.now += 1000;
    }

    fn handshake(&mut self, step: fn(&mut SslStream<Pipe>) -> Result<(), openssl::ssl::Error>) {
        for _ in 0..20 {
            match step(&mut self.plain) {
                Ok(()) => return,
                Err(error) => assert_eq!(error.code(), ErrorCode::WANT_READ, "{error}"),
            }
            self.carry();
        }
        panic!("the handshake does not end");
    }

    fn exchange(&mut self) {
        self.carry();
        let session = self.events[0].0.session();
        assert_eq!(self.events[0].0, Event::Opened { session });
        self.plain.ssl_write(b"from OpenSSL").unwrap();
        self.carry();
        assert_eq!(self.events[1], (Event::Message { session }, b"from OpenSSL".to_vec()));
        self.endpoint.send(session, b"from the endpoint").unwrap();
        self.carry();
        let mut out = [0; 100];
        let len = self.plain.ssl_read(&mut out).unwrap();
        assert_eq!(&out[..len], b"from the endpoint");
        for context in [None, Some(&b""[..]), Some(b"context")] {
            let (mut ours, mut theirs) = ([0; 77], [0; 77]);
            self.endpoint.info(session).unwrap().export("EXPORTER-test", context, &mut ours).unwrap();
            self.plain.ssl().export_keying_material(&mut theirs, "EXPORTER-test", context).unwrap();
            assert_eq!(ours, theirs);
        }
        assert!(self.endpoint.info(session).unwrap().export("master secret", None, &mut [0; 48]).is_err());
        self.endpoint.close(session).unwrap();
        self.carry();
        assert_eq!(self.plain.ssl_read(&mut out).unwrap_err().code(), ErrorCode::ZERO_RETURN);
    }
}

fn endpoint(context: SslContext) -> Endpoint {
    Endpoint::new(context, settings(|s| s.native_records = NATIVE_RECORDS)).unwrap()
}

#[test]
fn a_client_of_openssl() {
    for (suite, server_certificate) in [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "server-ecdsa"),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", "server-ecdsa"),
        ("AES256-GCM-SHA384", "server-rsa"),
        ("ECDHE-ECDSA-AES256-CCM8", "server-ecdsa"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", "server-ecdsa"),
        ("ECDHE-RSA-AES256-GCM-SHA384", "server-rsa"),
        ("ECDHE-RSA-AES128-SHA256", "server-rsa"),
    ] {
        let server = server_with(server_certificate, |context| context.set_cipher_list("ALL:@SECLEVEL=0").unwrap());
        let plain = client_with(|context| {
            // OpenSSL 4.0 takes the short tags of CCM8 for weak.
            context.set_cipher_list(&format!("{suite}:@SECLEVEL=0")).unwrap();
            context.set_options(SslOptions::NO_QUERY_MTU);
            context.set_max_proto_version(Some(SslVersion::DTLS1_2)).unwrap();
        });
        let mut pair = Pair::new(endpoint(server), &plain);
        pair.handshake(SslStream::connect);
        pair.exchange();
        let ours = NATIVE_RECORDS && (suite.contains("GCM") || suite.contains("CHACHA20"));
        assert_eq!(pair.endpoint.stats().records_taken_over, ours.into(), "{suite}");
    }
}

#[test]
fn a_server_of_openssl() {
    let plain = server_with("server-ecdsa", |context| {
        context.set_options(SslOptions::NO_QUERY_MTU);
        context.set_max_proto_version(Some(SslVersion::DTLS1_2)).unwrap();
    });
    let mut pair = Pair::new(endpoint(client()), &plain);
    let to = "192.0.2.1:4000".parse().unwrap();
    pair.endpoint.connect(SECOND, &Connect::to_named(to, "localhost")).unwrap();
    pair.carry();
    pair.handshake(SslStream::accept);
    pair.exchange();
}

unsafe extern "C" {
    fn SSL_renegotiate(ssl: *mut openssl_sys::SSL) -> libc::c_int;
}

/// A peer that wants new keys is told that there are none, and its session goes on.
#[test]
fn a_renegotiation_is_refused() {
    for plain_is_server in [false, true] {
        let set = |context: &mut openssl::ssl::SslContextBuilder| {
            context.set_options(SslOptions::NO_QUERY_MTU);
            context.set_max_proto_version(Some(SslVersion::DTLS1_2)).unwrap();
        };
        let mut pair = if plain_is_server {
            let mut pair = Pair::new(endpoint(client()), &server_with("server-ecdsa", set));
            pair.endpoint.connect(SECOND, &Connect::to_named(PEER, "localhost")).unwrap();
            pair.carry();
            pair.handshake(SslStream::accept);
            pair
        } else {
            let mut pair = Pair::new(endpoint(server()), &client_with(set));
            pair.handshake(SslStream::connect);
            pair
        };
        pair.carry();
        let session = pair.events[0].0.session();
        // SAFETY: the SSL is live.
        assert_eq!(unsafe { SSL_renegotiate(pair.plain.ssl().as_ptr()) }, 1);
        let _ = pair.plain.do_handshake();
        while let Some(datagram) = pair.pipe.get() {
            let asked: Vec<_> = records(&datagram).map(|record| (record.content_type, record.epoch)).collect();
            assert_eq!(asked, [(content_type::HANDSHAKE, 1)]);
            pair.endpoint.receive(pair.now, &datagram, PEER, None);
        }
        let answer = pair.endpoint.transmit(1).unwrap().bytes.to_vec();
        let answers: Vec<_> = records(&answer).map(|record| (record.content_type, record.epoch)).collect();
        assert_eq!(answers, [(content_type::ALERT, 1)]);
        pair.endpoint.send(session, b"goes on").unwrap();
        assert!(pair.endpoint.transmit(1).is_some());
        assert_eq!(pair.endpoint.info(session).unwrap().state(), State::Established);

        // To OpenSSL that is the end, and it says so.
        pair.pipe.put(&answer);
        let error = pair.plain.ssl_read(&mut [0; 100]).unwrap_err();
        assert!(error.to_string().contains("no renegotiation"), "{error}");
        let alert = pair.pipe.get().unwrap();
        pair.endpoint.receive(pair.now, &alert, PEER, None);
        let closed = Event::Closed { session, reason: CloseReason::Failed };
        assert_eq!(pair.endpoint.event(&mut Vec::new()), Some(closed));
        let failure = pair.endpoint.info(session).unwrap().failure().unwrap();
        // Up to 3.6 OpenSSL calls it an "sslv3 alert", in 4.0 a "tls alert".
        assert!(failure.contains("alert handshake failure"), "{failure}");
    }
}

/// libssl's word on a connection is only heard where the thread's queue of errors is of no account: the program may have
/// left errors of its own there.
#[test]
fn errors_that_the_program_left_are_not_the_connections() {
    let plain = client_with(|context| {
        context.set_options(SslOptions::NO_QUERY_MTU);
        context.set_max_proto_version(Some(SslVersion::DTLS1_2)).unwrap();
    });
    let mut pair = Pair::new(endpoint(server()), &plain);
    pair.handshake(SslStream::connect);
    pair.carry();
    let session = pair.events[0].0.session();
    let leave_errors = || openssl::x509::X509::from_pem(b"none").unwrap_err().put();

    leave_errors();
    pair.plain.ssl_write(b"forged").unwrap();
    let mut forged = pair.pipe.get().unwrap();
    *forged.last_mut().unwrap() ^= 1;
    pair.endpoint.receive(pair.now, &forged, PEER, None);
    pair.carry();
    leave_errors();
    pair.plain.ssl_write(b"authentic").unwrap();
    pair.carry();
    pair.endpoint.send(session, b"answer").unwrap();
    pair.carry();
    leave_errors();
    pair.plain.shutdown().unwrap();
    pair.carry();
    let expected = [
        (Event::Message { session }, b"authentic".to_vec()),
        (Event::Closed { session, reason: CloseReason::ByPeer }, vec![]),
    ];
    assert_eq!(pair.events[1..], expected);
}
