//! Clients whose port changes: with connection IDs they reach their session, whichever worker has it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dv_dtls::{Config, Connect, ConnectionIds, Context, Server, ServerConfig, Session};
use openssl::ssl::SslContext;

use crate::clients::{Client, PATIENCE, Told, running};
use crate::common::process::wait_until;
use crate::common::tool::Proxy;
use crate::contexts;

fn with_ids(workers: usize) -> ServerConfig {
    let endpoint = Config { connection_ids: Some(ConnectionIds::default()), ..Config::default() };
    ServerConfig { endpoint, workers, ..ServerConfig::default() }
}

/// A client that gives out no ID of its own, as most do.
fn client(context: &SslContext, to: SocketAddr) -> Client {
    let ids = ConnectionIds { len: 0, ..ConnectionIds::default() };
    let config = Config { accept: false, connection_ids: Some(ids), ..Config::default() };
    // An address of their own: a thousand clients need many ports.
    let mut client = Client::begin_as(context, Connect::to(to), config, [127, 0, 77, 1].into());
    client.finish();
    client
}

/// So many that hardly ever (once in ten million times) chance leaves one of four workers without any.
const CLIENTS: usize = 60;
const MOVES: usize = 10;

/// Each of many clients moves many times, and asks from each port.
fn move_around(server: &Server, address: SocketAddr) {
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| client(&context, address)).collect();
    assert!(server.sessions_of_workers().iter().all(|of_one| *of_one > 0));
    for round in 0..MOVES as u8 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.rebind();
            assert_eq!(client.ask(&[number as u8, round]), [number as u8, round]);
        }
    }
    let stats = server.stats();
    assert_eq!((stats.endpoints.handshakes_begun, stats.endpoints.strangers_dropped), (CLIENTS as u64, 0));
    assert_eq!(stats.endpoints.peers_moved, (CLIENTS * MOVES) as u64);
}

#[test]
fn the_kernel_finds_the_worker_of_a_client_that_moves() {
    let (server, address, told) = running(with_ids(4));
    move_around(&server, address);
    // As long as nobody joins datagrams of several sessions, nothing has to be handed over.
    assert_eq!(server.stats().sockets.datagrams_handed_over, 0);
    let mut workers: HashMap<Session, usize> = HashMap::new();
    let mut moved = 0;
    for event in told.try_iter() {
        let (session, worker) = match event {
            Told::Open { session, worker } | Told::Message { session, worker, .. } => (session, worker),
            Told::Moved { session, worker } => {
                moved += 1;
                (session, worker)
            }
            Told::Close { .. } => panic!("nobody closes"),
        };
        assert_eq!(*workers.entry(session).or_insert(worker), worker);
    }
    assert_eq!((workers.len(), moved), (CLIENTS, CLIENTS * MOVES));
}

/// Where the kernel steers nothing, a worker hands over what belongs to another one.
#[test]
fn without_the_kernel_s_help_workers_hand_over() {
    let (server, address, _told) = running(ServerConfig { steer_handshakes: false, ..with_ids(4) });
    move_around(&server, address);
    assert!(server.stats().sockets.datagrams_handed_over > 100, "{:?}", server.stats().sockets);
}

/// A worker that has no room for it does not get it: that is counted.
#[test]
fn what_cannot_be_handed_over_is_counted() {
    const ROOM: usize = 400;
    let mut config = ServerConfig { steer_handshakes: false, ..with_ids(2) };
    config.endpoint.max_waiting_bytes = ROOM;
    let (server, address, _told) = running(config);
    let mut client = client(&contexts::client(), address);
    // The kernel chooses the worker by the port.
    let dropped = || {
        client.rebind();
        client.send(&[0; ROOM / 2]);
        server.stats().sockets.handovers_dropped > 0
    };
    wait_until(dropped, || format!("{:?}", server.stats().sockets));
    assert_eq!(server.stats().sockets.datagrams_handed_over, 0);
}

/// The ID's byte with the worker stands behind the number of the server, and leaves room for others.
#[test]
fn ids_with_the_number_of_the_server() {
    let mut config = with_ids(3);
    let ids = config.endpoint.connection_ids.as_mut().unwrap();
    ids.server_id = vec![0xaa, 0xbb];
    let (server, address, _told) = running(config.clone());
    let context = contexts::client();
    let clients: Vec<Client> = (0..CLIENTS).map(|_| client(&context, address)).collect();
    let mut of_workers = [0; 3];
    for client in &clients {
        let cid = client.info().peer_connection_id();
        assert!(cid.len() == 8 && cid.starts_with(&[0xaa, 0xbb]));
        of_workers[usize::from(cid[2])] += 1;
    }
    assert_eq!(server.sessions_of_workers(), of_workers);
    drop(clients);
    drop(server);
    // No room for that byte.
    config.endpoint.connection_ids.as_mut().unwrap().server_id = vec![0; 7];
    let silent = |_: &mut Context<'_>, _: Session, _: &[u8]| {};
    assert!(Server::new(contexts::server(), config.clone(), silent).is_err());
    config.workers = 1;
    assert!(Server::new(contexts::server(), config, silent).is_ok());
}

/// So many clients change their port once a second, for so long, and ask all the time. No handshake, and of a thousand
/// questions one at most remains without an answer. (The first from a new port waits for nothing: no answer is on its way to
/// the old one.)
fn change_ports(clients: usize, seconds: u32) {
    let (server, address, told) = running(with_ids(2));
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..clients).map(|_| client(&context, address)).collect();
    let began = Instant::now();
    let (mut asked, mut answered, mut moves) = (0u64, 0u64, 0u64);
    for second in 0..seconds {
        let next = began + Duration::from_secs(1) * (second + 1);
        for client in &mut clients {
            client.rebind();
            moves += 1;
        }
        loop {
            let question = [(asked % 251) as u8; 50];
            for client in &mut clients {
                client.send(&question);
                asked += 1;
            }
            for client in &mut clients {
                answered += u64::from(client.message_within(Duration::from_secs(5)) == Some(question.to_vec()));
            }
            // What came is of no interest here, only that it does not pile up.
            told.try_iter().for_each(drop);
            if Instant::now() >= next {
                break;
            }
        }
    }
    let stats = server.stats().endpoints;
    println!("{asked} asked, {answered} answered, {moves} moves: {stats:?}");
    assert!(answered * 1000 >= asked * 999, "{answered} of {asked}");
    assert_eq!((stats.handshakes_begun, stats.handshakes_finished), (clients.len() as u64, clients.len() as u64));
    assert_eq!((stats.peers_moved, stats.addresses_refused, stats.datagrams_withheld), (moves, 0, 0));
}

#[test]
fn fifty_clients_change_their_ports_every_second() {
    change_ports(50, 5);
}

#[test]
#[ignore = "a minute; make test-long"]
fn a_thousand_clients_change_their_ports_every_second() {
    change_ports(1000, 60);
}

/// So many clients stand behind a NAT that gives each another port every second (what is sent after 0.8 s has it), and
/// that loses, delays and reorders. No handshake; what it forwards is taken, and each question answered, if need be when it
/// is repeated. An answer that comes when its port is forgotten is lost: on a quiet machine that is one of a thousand.
fn behind_a_nat(clients: usize, seconds: u64, quiet: bool) {
    let mut config = with_ids(2);
    // All that goes through the NAT is to be questions and answers.
    config.endpoint.connection_ids.as_mut().unwrap().routability_checks = false;
    let (server, address, told) = running(config);
    let nat = Proxy::start(address, "--rebind 0.8 --drop 0.01 --reorder 0.01 --jitter 5 --seed 9146");
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..clients).map(|_| client(&context, address)).collect();
    clients.iter_mut().for_each(|client| client.divert(nat.address));
    let (began, mut asked, mut round) = (Instant::now(), 0, 0);
    while began.elapsed() < Duration::from_secs(seconds) || round < 20 {
        let question = [(round % 251) as u8; 50];
        let mut waiting: Vec<&mut Client> = clients.iter_mut().collect();
        let begun = Instant::now();
        while !waiting.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{} clients hear nothing: {:?}", waiting.len(), server.stats());
            waiting.iter_mut().for_each(|client| client.send(&question));
            asked += waiting.len();
            // Longer than anything is under way, reordered and delayed twice.
            std::thread::sleep(Duration::from_millis(60));
            waiting.retain_mut(|client| {
                let mut heard = std::iter::from_fn(|| client.message_within(Duration::from_millis(1)));
                heard.all(|answer| answer != question)
            });
        }
        round += 1;
        told.try_iter().for_each(drop);
    }
    let nat = nat.end();
    let [forwarded, answered, rebound] = ["forwarded", "answered", "rebound"].map(|name| nat.number(name) as u64);
    let stats = || server.stats().endpoints;
    let all = || [stats().messages_in, stats().messages_out] == [forwarded; 2];
    wait_until(all, || format!("of {forwarded} questions: {:?}", stats()));
    println!("{asked} asked in {round} rounds, {:?}; NAT: {}", stats(), nat.line);
    let (stats, clients) = (stats(), clients.len() as u64);
    assert_eq!((stats.handshakes_begun, stats.handshakes_finished), (clients, clients));
    let moves = rebound + clients;
    assert!(rebound >= if quiet { clients * (seconds - 1) * 9 / 10 } else { clients }, "{rebound}");
    // A record that was overtaken moves nothing; the next one does.
    assert!((moves * 9 / 10..=moves).contains(&stats.peers_moved), "{} of {moves}", stats.peers_moved);
    assert!(!quiet || answered * 1000 >= forwarded * 999, "{answered} of {forwarded}");
}

#[test]
fn fifty_clients_behind_a_nat_that_forgets() {
    behind_a_nat(50, 4, false);
}

#[test]
#[ignore = "a minute; make test-long"]
fn a_thousand_clients_behind_a_nat_that_forgets() {
    behind_a_nat(1000, 60, true);
}
