//! Many clients and several workers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dv_dtls::{CloseReason, Config, Connect, ServerConfig, Settings};

use crate::clients::{Client, PATIENCE, Told, running};
use crate::common::process::Over;
use crate::contexts;

#[test]
fn every_client_hears_its_own_messages() {
    let (_server, address, _told) = running(ServerConfig::default());
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(&context, address)).collect();
    for round in 0..5 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("round {round}, client {number}").as_bytes());
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.message(), format!("round {round}, client {number}").as_bytes());
        }
    }
}

/// A thousand sessions for each of two workers: a fair coin is more than 10 % off once in 128,000 runs.
#[test]
fn sessions_are_spread_and_stay_with_their_worker() {
    const SESSIONS: usize = 2000;
    let (server, address, told) = running(ServerConfig { workers: 2, ..ServerConfig::default() });
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..SESSIONS).map(|_| Client::connect(&context, address)).collect();
    let spread = server.sessions_of_workers();
    assert_eq!(spread.iter().sum::<usize>(), SESSIONS);
    assert!(spread.iter().all(|of_one| of_one.abs_diff(SESSIONS / 2) <= SESSIONS * 5 / 100), "{spread:?}");

    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(&number.to_be_bytes()), number.to_be_bytes());
    }
    clients.iter_mut().for_each(Client::close);
    let mut workers = HashMap::new();
    let mut closed = 0;
    while closed < SESSIONS {
        match told.recv_timeout(PATIENCE).unwrap() {
            Told::Open { session, worker } => assert_eq!(workers.insert(session, worker), None),
            Told::Message { session, worker, .. } => assert_eq!(workers[&session], worker),
            Told::Moved { .. } => panic!("without connection IDs nobody moves"),
            Told::Close { session, worker, reason } => {
                assert_eq!((workers[&session], CloseReason::ByPeer), (worker, reason));
                closed += 1;
            }
        }
    }
    assert_eq!(server.sessions_of_workers(), [0, 0]);
    assert_eq!(
        server.stats().endpoints.strangers_dropped,
        0,
        "a datagram came to a worker that does not know its sender"
    );
}

#[test]
fn without_steering_a_client_stays_with_its_worker_too() {
    let (server, address, _told) =
        running(ServerConfig { workers: 2, steer_handshakes: false, ..ServerConfig::default() });
    let context = contexts::client();
    for number in 0..50u8 {
        let mut client = Client::connect(&context, address);
        assert_eq!(client.ask(&[number]), [number]);
    }
    assert!(server.sessions_of_workers().iter().all(|of_one| *of_one > 0));
    assert_eq!(server.stats().endpoints.strangers_dropped, 0);
}

/// Hellos without a cookie, as fast as they can be sent, while clients talk. Nothing of the clients' is lost: their messages
/// come in at another socket than the hellos.
#[test]
fn a_flood_of_hellos_takes_no_message_from_others() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let (server, address, _told) = running(ServerConfig { socket_buffer: 64 << 10, ..ServerConfig::default() });
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(&context, address)).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let hello = first_hello();
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            while !over.load(Ordering::Relaxed) {
                let _ = socket.send_to(&hello, address);
            }
        });
        // It is a flood when the kernel cannot keep all of it, and only rounds beside a flood count. How soon there is one is a
        // question of who else computes.
        let dropped = || server.stats().sockets.kernel_drops;
        let (mut flooded, mut latest) = (0, Instant::now());
        for round in 0u32.. {
            let before = dropped();
            for client in &mut clients {
                assert_eq!(client.ask(&round.to_be_bytes()), round.to_be_bytes());
            }
            if dropped() > before {
                (flooded, latest) = (flooded + 1, Instant::now());
            }
            if flooded == 100 {
                break;
            }
            assert!(latest.elapsed() < PATIENCE, "that is no flood: {:?}", server.stats());
        }
        // The kernel drops two hellos of three, so the newcomer repeats its own more often than is usual.
        let first_timeout = Duration::from_millis(50);
        let settings = Settings { first_timeout, longest_timeout: 2 * first_timeout, ..Settings::default() };
        let config = Config { accept: false, settings, ..Config::default() };
        let mut newcomer = Client::begin_as(&context, Connect::to(address), config, address.ip());
        newcomer.finish();
        assert_eq!(newcomer.ask(b"new"), b"new");
    });
}

/// The first datagram of a client.
pub fn first_hello() -> Vec<u8> {
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let _client = Client::begin(&contexts::client(), server.local_addr().unwrap());
    let mut datagram = [0; 2048];
    let len = server.recv(&mut datagram).unwrap();
    datagram[..len].to_vec()
}
