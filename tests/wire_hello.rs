//! Which datagrams begin a handshake, and what they are answered.

mod samples;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dv_dtls::engine::cookie::{COOKIE_LEN, CookieJar};
use dv_dtls::engine::gate::{Verdict, examine};
use dv_dtls::engine::stats::{Counters, Stats};
use dv_dtls::wire::hello::ClientHello;
use dv_dtls::wire::record;
use openssl::ssl::{HandshakeError, Ssl, SslContext, SslMethod, SslOptions};
use proptest::prelude::*;
use samples::{Hello, peer};

/// A gate with its counters, at one moment.
struct Gate {
    jar: CookieJar,
    counters: Counters,
}

impl Gate {
    fn new() -> Gate {
        Gate { jar: CookieJar::new(b"secret", 0), counters: Counters::default() }
    }

    fn examine<'a>(&mut self, from: &str, datagram: &'a [u8]) -> Verdict<'a> {
        examine(&mut self.jar, 1, &peer(from), datagram, &self.counters)
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.add(&self.counters);
        stats
    }
}

const PEER: &str = "192.0.2.1:40000";

fn answer(verdict: Verdict<'_>) -> Vec<u8> {
    match verdict {
        Verdict::Answer(answer) => answer.as_bytes().to_vec(),
        other => panic!("no answer: {other:?}"),
    }
}

/// The cookie in a HelloVerifyRequest.
fn cookie_of(answer: &[u8]) -> &[u8] {
    &answer[28..]
}

#[test]
fn the_answer_is_as_the_rfc_wants_it() {
    let hello = Hello { record_sequence: 0x0102_0304_0506, ..Hello::default() };
    let answer = answer(Gate::new().examine(PEER, &hello.datagram()));
    #[rustfmt::skip]
    let head = [
        22, 0xfe, 0xff, 0, 0, 1, 2, 3, 4, 5, 6, 0, 12 + 3 + COOKIE_LEN as u8, // record
        3, 0, 0, 3 + COOKIE_LEN as u8, 0, 0, 0, 0, 0, 0, 0, 3 + COOKIE_LEN as u8, // handshake
        0xfe, 0xff, COOKIE_LEN as u8,
    ];
    assert_eq!(answer[..head.len()], head);
    assert_eq!(answer.len(), head.len() + COOKIE_LEN);
}

#[test]
fn the_returned_cookie_proves_the_peer() {
    let mut gate = Gate::new();
    let hello = Hello { session_id: vec![3; 32], ..Hello::default() };
    let answer = answer(gate.examine(PEER, &hello.datagram()));
    let second = hello.with_cookie(cookie_of(&answer));

    let datagram = [second.datagram(), samples::record(21, 0xfeff, 0, 9, &[2, 40])].concat();
    let Verdict::Proven(proven) = gate.examine(PEER, &datagram) else { panic!("not proven") };
    assert_eq!(proven.cookie, second.cookie);
    assert_eq!(proven.session_id, second.session_id);
    assert_eq!(proven.record_len, second.datagram().len(), "what follows the first record is not part of it");

    // libssl would count a first message with a cookie as one that it already had.
    let first_with_cookie = Hello { message_seq: 0, ..second.clone() };
    assert!(matches!(gate.examine(PEER, &first_with_cookie.datagram()), Verdict::Answer(_)));
    let forged = second.with_cookie(&[1; COOKIE_LEN]);
    assert!(matches!(gate.examine(PEER, &forged.datagram()), Verdict::Answer(_)));
    let stats = gate.stats();
    assert_eq!((stats.hellos_answered, stats.cookies_refused), (3, 2));
}

#[test]
fn a_hello_in_fragments_is_known_by_a_first_one_that_reaches_over_the_cookie() {
    let mut gate = Gate::new();
    let hello = Hello { rest: vec![0; 400], ..Hello::default() };
    let answer = answer(gate.examine(PEER, &hello.fragment(0, 36)));
    let second = hello.with_cookie(cookie_of(&answer));
    let reach = 2 + 32 + 1 + 1 + COOKIE_LEN;
    assert!(matches!(gate.examine(PEER, &second.fragment(0, reach)), Verdict::Proven(_)));

    assert!(matches!(gate.examine(PEER, &second.fragment(0, reach - 1)), Verdict::Drop));
    assert!(matches!(gate.examine(PEER, &hello.fragment(0, 35)), Verdict::Drop));
    assert_eq!(gate.stats().hellos_too_short, 2);
    assert!(matches!(gate.examine(PEER, &second.fragment(reach, 100)), Verdict::Drop));
    assert_eq!(gate.stats().strangers_dropped, 1);
}

#[test]
fn everything_else_is_dropped_and_counted() {
    let hello = Hello::default();
    let changed = |at: usize, to: u8| {
        let mut datagram = hello.datagram();
        datagram[at] = to;
        datagram
    };
    let strangers = [
        vec![],
        vec![0; 1200],
        changed(0, 23),                                                     // application data
        changed(1, 3),                                                      // TLS
        changed(4, 1),                                                      // a later epoch
        changed(12, 0xff),                                                  // longer than the datagram
        changed(13, 2),                                                     // a ServerHello
        changed(18, 2),                                                     // the third message
        changed(21, 1),                                                     // a fragment from the middle
        [changed(12, hello.datagram().len() as u8 - 12), vec![0]].concat(), // more than the hello in its record
    ];
    let mut gate = Gate::new();
    for datagram in &strangers {
        assert!(matches!(gate.examine(PEER, datagram), Verdict::Drop), "{datagram:02x?}");
    }
    assert_eq!(gate.stats().strangers_dropped, strangers.len() as u64);

    let mut gate = Gate::new();
    let malformed = [
        changed(25, 3),  // TLS inside
        changed(59, 33), // a session id too long
        Hello { session_id: vec![0; 33], ..hello.clone() }.datagram(),
        changed(60, 255), // a cookie behind the end
    ];
    for datagram in &malformed {
        assert!(matches!(gate.examine(PEER, datagram), Verdict::Drop), "{datagram:02x?}");
    }
    assert_eq!(gate.stats().hellos_too_short, malformed.len() as u64);
}

#[test]
fn a_peer_that_cannot_be_answered_is_dropped() {
    let mut gate = Gate::new();
    let nobody = ["0.0.0.0:40000", "[::]:40000", "[::ffff:0.0.0.0]:40000", "192.0.2.1:0", "[2001:db8::1]:0"];
    for from in nobody {
        assert!(matches!(gate.examine(from, &Hello::default().datagram()), Verdict::Drop), "{from}");
    }
    assert_eq!(gate.stats().strangers_dropped, nobody.len() as u64);
}

#[test]
fn every_dtls_version_is_answered() {
    // Which versions are served is libssl's decision, once the peer is proven.
    for version in [0xfeff, 0xfefd, 0xfefc] {
        for record_version in [0xfeff, 0xfefd] {
            let hello = Hello { version, record_version, ..Hello::default() };
            answer(Gate::new().examine(PEER, &hello.datagram()));
        }
    }
}

/// What a client writes, and what it gets to read.
#[derive(Debug, Default)]
struct Wire {
    written: Vec<Vec<u8>>,
    to_read: Option<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let datagram = self.to_read.take().ok_or(io::ErrorKind::WouldBlock)?;
        out[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.written.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn libssls_client_goes_through_the_gate() {
    // Packed into 256 bytes, the least that libssl takes, its hello comes in two fragments; the first one suffices.
    for mtu in [1200, 256] {
        let mut context = SslContext::builder(SslMethod::dtls_client()).unwrap();
        context.set_options(SslOptions::NO_QUERY_MTU);
        context.set_alpn_protos(&[&[100][..], &[b'a'; 100]].concat()).unwrap();
        let mut ssl = Ssl::new(&context.build()).unwrap();
        ssl.set_mtu(mtu).unwrap();
        let Err(HandshakeError::WouldBlock(mut client)) = ssl.connect(Wire::default()) else { panic!("no hello") };

        let mut gate = Gate::new();
        let first = std::mem::take(&mut client.get_mut().written);
        client.get_mut().to_read = Some(answer(gate.examine(PEER, &first[0])));
        let Err(HandshakeError::WouldBlock(mut client)) = client.handshake() else { panic!("no second hello") };
        let second = std::mem::take(&mut client.get_mut().written);
        assert_eq!(second.len(), if mtu == 256 { 2 } else { 1 });
        assert!(matches!(gate.examine(PEER, &second[0]), Verdict::Proven(_)), "MTU {mtu}");
    }
}

/// Ends the client however the test ends.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn gnutls_client_goes_through_the_gate() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let client = Command::new("gnutls-cli")
        .args(["--udp", "--insecure", "--port", &port, "127.0.0.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _client = match client {
        Ok(client) => Client(client),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            eprintln!("left out: gnutls-cli is not installed");
            return;
        }
        Err(why) => panic!("gnutls-cli: {why}"),
    };

    let mut gate = Gate::new();
    let receive = || -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 2048];
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        buffer.truncate(len);
        (buffer, from)
    };
    let (first, from) = receive();
    socket.send_to(&answer(gate.examine(&from.to_string(), &first)), from).unwrap();
    // It may have repeated its first hello meanwhile.
    let proven = (0..5).any(|_| matches!(gate.examine(&from.to_string(), &receive().0), Verdict::Proven(_)));
    assert!(proven);
}

proptest! {
    #[test]
    fn parsing_takes_any_bytes(datagram in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = ClientHello::parse(&datagram);
        prop_assert!(record::records(&datagram).map(|r| r.bytes.len()).sum::<usize>() <= datagram.len());
    }

    #[test]
    fn parsing_gives_back_what_was_written(
        record_sequence in 0..1_u64 << 48,
        message_seq in 0..2_u16,
        random in any::<[u8; 32]>(),
        session_id in proptest::collection::vec(any::<u8>(), 0..=32),
        cookie in proptest::collection::vec(any::<u8>(), 0..=255),
        rest in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let hello = Hello { record_sequence, message_seq, random, session_id, cookie, rest, ..Hello::default() };
        let datagram = hello.datagram();
        let parsed = ClientHello::parse(&datagram).unwrap();
        prop_assert_eq!(parsed.record_sequence, record_sequence);
        prop_assert_eq!(parsed.message_seq, message_seq);
        prop_assert_eq!(parsed.version, hello.version);
        prop_assert_eq!(parsed.random, &random);
        prop_assert_eq!(parsed.session_id, hello.session_id);
        prop_assert_eq!(parsed.cookie, hello.cookie);
        prop_assert_eq!(parsed.record_len, datagram.len());
    }

    #[test]
    fn a_damaged_hello_is_never_answered_with_more_than_it_was(
        cut in 0..200_usize,
        flips in proptest::collection::vec((0..120_usize, any::<u8>()), 0..4),
    ) {
        let mut datagram = Hello::default().datagram();
        datagram.resize(cut.max(1), 0);
        for (at, with) in flips {
            let len = datagram.len();
            datagram[at % len] ^= with;
        }
        if let Verdict::Answer(answer) = Gate::new().examine(PEER, &datagram) {
            prop_assert!(answer.as_bytes().len() <= datagram.len());
        }
    }
}
