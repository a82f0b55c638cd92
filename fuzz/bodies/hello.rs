//! A stranger's datagram at the gate.

#[path = "../../tests/samples/mod.rs"]
mod samples;

use dv_dtls::engine::cookie::CookieJar;
use dv_dtls::engine::gate::{Verdict, examine};
use dv_dtls::engine::stats::Counters;
use dv_dtls::wire::handshake::{Fragment, message_type};
use dv_dtls::wire::hello::ClientHello;
use dv_dtls::wire::record::{Record, content_type};
use samples::{Hello, peer};

/// Examines `datagram`, and comes back with the cookie that it is answered with.
pub fn run(datagram: &[u8]) {
    let (here, elsewhere) = (peer("192.0.2.1:40000"), peer("[2001:db8::1]:40000"));
    let mut jar = CookieJar::new(b"secret", 0);
    let counters = Counters::default();

    let answer = match examine(&mut jar, 0, &here, datagram, &counters) {
        Verdict::Answer(answer) => answer,
        Verdict::Proven(hello) => {
            // The cookie is in the corpus. What follows the first record changes nothing.
            let alone = &datagram[..hello.record_len];
            assert!(matches!(examine(&mut jar, 0, &here, alone, &counters), Verdict::Proven(same) if same == hello));
            return;
        }
        Verdict::Drop => {
            assert_eq!(counters.hellos_too_short.get() + counters.strangers_dropped.get(), 1);
            return;
        }
    };
    let hello = ClientHello::parse(datagram).expect("nothing else is answered");
    assert!(answer.as_bytes().len() <= datagram.len());
    let (record, rest) = Record::parse(answer.as_bytes()).expect("the answer is a record");
    assert_eq!(
        (record.content_type, record.epoch, record.sequence),
        (content_type::HANDSHAKE, 0, hello.record_sequence)
    );
    assert!(rest.is_empty());
    let (request, rest) = Fragment::parse(record.fragment()).expect("with a message");
    assert_eq!((request.message_type, request.body.len()), (message_type::HELLO_VERIFY_REQUEST, request.length));
    assert!(rest.is_empty());

    let second = Hello {
        record_sequence: hello.record_sequence,
        version: hello.version,
        random: *hello.random,
        session_id: hello.session_id.to_vec(),
        ..Hello::default()
    }
    .with_cookie(&request.body[3..])
    .datagram();
    assert!(matches!(examine(&mut jar, 0, &here, &second, &counters), Verdict::Proven(_)));
    assert!(matches!(examine(&mut jar, 0, &elsewhere, &second, &counters), Verdict::Answer(_)));
}
