//! An established session allocates nothing for a message, on either side, and compares nothing with nothing. (What OpenSSL
//! takes from malloc is not seen here.)

#[path = "common/allocations.rs"]
mod allocations;

use std::cell::Cell;
use std::ffi::c_int;
use std::net::SocketAddr;
use std::slice;

use dv_dtls::{Config, Connect, Endpoint, Event, Session, Settings};
use openssl::ssl::{SslContext, SslMethod};

thread_local! {
    static OF_NOTHING: Cell<u64> = const { Cell::new(0) };
}

/// In the place of the C library's. With no bytes that one reads under an empty mask, on processors with AVX-512, for which
/// they take longer than for the rest of a record where no memory is.
///
/// # Safety
/// As of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> c_int {
    if len == 0 {
        OF_NOTHING.set(OF_NOTHING.get() + 1);
        return 0;
    }
    // SAFETY: by contract.
    let (one, other) = unsafe { (slice::from_raw_parts(one, len), slice::from_raw_parts(other, len)) };
    one.iter().zip(other).find(|(a, b)| a != b).map_or(0, |(a, b)| c_int::from(*a) - c_int::from(*b))
}

/// What a compiler makes of memcmp where only equality counts.
///
/// # Safety
/// As of the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, len: usize) -> c_int {
    // SAFETY: by contract.
    unsafe { memcmp(one, other, len) }
}

const KEY: &[u8; 16] = b"sixteen secrets!";

fn context(server: bool) -> SslContext {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
    if server {
        context.set_psk_server_callback(|_, _, key| {
            key[..16].copy_from_slice(KEY);
            Ok(16)
        });
    } else {
        context.set_psk_client_callback(|_, _, identity, key| {
            identity[..2].copy_from_slice(b"a\0");
            key[..16].copy_from_slice(KEY);
            Ok(16)
        });
    }
    context.build()
}

/// Carries datagrams there and back; gives the last event of each side.
fn carry(now: u64, sides: &mut [(SocketAddr, Endpoint); 2], message: &mut Vec<u8>) -> [Option<Event>; 2] {
    let [(client_address, client), (server_address, server)] = sides;
    while let Some(transmit) = client.transmit(64) {
        transmit.datagrams().for_each(|datagram| server.receive(now, datagram, *client_address, None));
    }
    let mut last = [None; 2];
    while let Some(event) = server.event(message) {
        if let Event::Message { session } = event {
            server.send(session, message).unwrap();
        }
        last[1] = Some(event);
    }
    while let Some(transmit) = server.transmit(64) {
        transmit.datagrams().for_each(|datagram| client.receive(now, datagram, *server_address, None));
    }
    while let Some(event) = client.event(message) {
        last[0] = Some(event);
    }
    client.advance(now);
    server.advance(now);
    last
}

/// A client and a server with a session between them; their time, and the client's session.
fn open(config: &Config) -> ([(SocketAddr, Endpoint); 2], u64, Session) {
    let side = |number, server| {
        let endpoint = Endpoint::new(context(server), config.clone()).unwrap();
        (SocketAddr::from(([192, 0, 2, number], 5684)), endpoint)
    };
    let mut sides = [side(1, false), side(2, true)];
    let to = sides[1].0;
    let session: Session = sides[0].1.connect(0, &Connect::to(to)).unwrap();
    let mut now = 0;
    while carry(now, &mut sides, &mut Vec::new())[0] != Some(Event::Opened { session }) {
        now += 1000;
        assert!(now < 100_000);
    }
    (sides, now, session)
}

#[test]
fn a_message_there_and_back() {
    let (mut sides, mut now, session) = open(&Config::default());
    let mut message = Vec::new();
    let mut burst = |sides: &mut [(SocketAddr, Endpoint); 2], message: &mut Vec<u8>| {
        for _ in 0..8 {
            sides[0].1.send(session, &[7; 64]).unwrap();
        }
        now += 1000;
        assert_eq!(carry(now, sides, message)[0], Some(Event::Message { session }));
    };
    (0..100).for_each(|_| burst(&mut sides, &mut message));
    // They are counted at all.
    let nothing: [&[u8]; 2] = std::hint::black_box([b"", b""]);
    assert!(nothing[0] == nothing[1] && OF_NOTHING.get() > 0);
    let before = (allocations::count(), OF_NOTHING.get());
    (0..1000).for_each(|_| burst(&mut sides, &mut message));
    assert_eq!((allocations::count(), OF_NOTHING.get()), before);
}

/// Where more always waits to leave, what has left takes up nothing all the same: not of a session whose program always has
/// more to send, and not of a flood of strangers who are answered.
#[test]
fn a_backlog_that_never_ends() {
    let steadily = |what: &str, round: &mut dyn FnMut()| {
        (0..2000).for_each(|_| round());
        let before = allocations::count();
        (0..20_000).for_each(|_| round());
        assert_eq!(allocations::count(), before, "{what}");
    };
    for native_records in [true, false] {
        let settings = Settings { native_records, ..Config::default().settings };
        let config = Config { settings, max_waiting_bytes: 32 << 10, ..Config::default() };
        let ([(_, mut client), _], _, session) = open(&config);
        steadily("messages", &mut || {
            while client.send(session, &[7; 1000]).is_ok() {}
            assert!(client.transmit(1).is_some());
        });
    }
    let [mut client, mut server] =
        [false, true].map(|server| Endpoint::new(context(server), Config::default()).unwrap());
    let [ours, theirs] = [1, 2].map(|number| SocketAddr::from(([192, 0, 2, number], 5684)));
    client.connect(0, &Connect::to(theirs)).unwrap();
    let hello = client.transmit(1).unwrap().bytes.to_vec();
    server.receive(0, &hello, ours, None);
    steadily("answers to strangers", &mut || {
        server.receive(0, &hello, ours, None);
        assert!(server.transmit(1).is_some());
    });
}
