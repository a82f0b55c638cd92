//! What a program asks of a server that runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dv_dtls::{CloseReason, Connect, Context, Error, Server, ServerConfig, Session};
use openssl::pkey::Id;
use openssl::ssl::NameType;

use crate::clients::{Client, PATIENCE, Told, running};
use crate::common::process::{Over, begin_and_wait, wait_until};
use crate::contexts;

fn opened(told: &Receiver<Told>) -> Session {
    match told.recv_timeout(PATIENCE).unwrap() {
        Told::Open { session, .. } => session,
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_threads_send_and_close() {
    let (server, address, told) = running(ServerConfig { workers: 2, ..ServerConfig::default() });
    let context = contexts::client();
    let mut clients: Vec<(Client, Session)> =
        (0..10).map(|_| (Client::connect(&context, address), opened(&told))).collect();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (server, clients) = (&server, clients.iter().map(|(_, session)| *session).collect::<Vec<_>>());
            scope.spawn(move || {
                for number in 0..50u8 {
                    clients.iter().for_each(|session| server.send(*session, &[thread, number]).unwrap());
                }
            });
        }
    });
    for (client, session) in &mut clients {
        // All of them, and those of each thread in their order.
        let mut next = [0u8; 4];
        for _ in 0..200 {
            let message = client.message();
            assert_eq!(message[1], next[usize::from(message[0])]);
            next[usize::from(message[0])] += 1;
        }
        server.close(*session).unwrap();
        assert_eq!(client.end(), CloseReason::ByPeer);
        assert_eq!(server.stats().sockets.messages_refused, 0);
    }
}

/// Whether a message fits is known when its turn comes.
#[test]
fn messages_of_other_threads_that_do_not_fit_are_counted() {
    let (server, address, told) = running(ServerConfig::default());
    let mut client = Client::connect(&contexts::client(), address);
    let session = opened(&told);
    server.send(session, &[0; 2000]).unwrap();
    server.send(session, b"this fits").unwrap();
    assert_eq!(client.message(), b"this fits");
    assert_eq!(server.stats().sockets.messages_refused, 1);
}

#[test]
fn what_is_over_is_stale() {
    let (server, address, told) = running(ServerConfig { workers: 2, ..ServerConfig::default() });
    let mut client = Client::connect(&contexts::client(), address);
    let session = opened(&told);
    server.send(session, b"hello").unwrap();
    assert_eq!(client.message(), b"hello");
    client.close();
    let closed = told.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(closed, Told::Close { session: which, reason: CloseReason::ByPeer, .. } if which == session));
    assert_eq!(server.send(session, b"hello"), Err(Error::Stale));
    assert_eq!(server.close(session), Err(Error::Stale));
    // Workers that there are not, and places that nobody had.
    for number in [1, 1 << 24 | 1, 77 << 24 | 1, u64::MAX] {
        assert_eq!(server.send(Session::from_u64(number).unwrap(), b"hello"), Err(Error::Stale));
    }
}

#[test]
fn a_handler_reaches_sessions_of_all_workers() {
    // Each message goes to all who have spoken so far.
    let known = std::sync::Mutex::new(Vec::new());
    let to_all = move |context: &mut Context<'_>, session: Session, message: &[u8]| {
        let mut known = known.lock().unwrap();
        if !known.contains(&session) {
            known.push(session);
        }
        known.iter().for_each(|session| context.send(*session, message).unwrap());
    };
    let config = ServerConfig { workers: 3, ..ServerConfig::default() };
    let server = Server::new(contexts::server(), config, to_all).unwrap();
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&context, address)).collect();
    for number in 0..clients.len() {
        clients[number].send(&[number as u8]);
        clients[..=number].iter_mut().for_each(|client| assert_eq!(client.message(), [number as u8]));
    }
    assert!(server.sessions_of_workers().iter().filter(|of_one| **of_one > 0).count() > 1);
}

#[test]
fn certificates_are_reloaded_under_load() {
    let (server, address, _told) = running(ServerConfig { workers: 2, ..ServerConfig::default() });
    let context = contexts::client();
    let kind = |client: &Client| client.info().peer_certificate().unwrap().public_key().unwrap().id();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&context, address)).collect();
    for round in 0..20u8 {
        if round == 10 {
            server.reload(contexts::server_with("server-rsa", |_| {})).unwrap();
        }
        clients.iter_mut().for_each(|client| client.send(&[round]));
        clients.iter_mut().for_each(|client| assert_eq!(client.message(), [round]));
    }
    assert!(clients.iter().all(|client| kind(client) == Id::EC));
    let mut new: Vec<Client> = (0..10).map(|_| Client::connect(&context, address)).collect();
    assert!(new.iter().all(|client| kind(client) == Id::RSA));
    clients.iter_mut().chain(&mut new).for_each(|client| assert_eq!(client.ask(b"still there"), b"still there"));
}

#[test]
fn at_a_stop_everybody_is_told() {
    let (server, address, told) = running(ServerConfig { workers: 2, ..ServerConfig::default() });
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..300).map(|_| Client::connect(&context, address)).collect();
    server.stop();
    server.join().unwrap();
    clients.iter_mut().for_each(|client| assert_eq!(client.end(), CloseReason::ByPeer));
    let closed = told.try_iter().filter(|told| matches!(told, Told::Close { reason: CloseReason::Local, .. }));
    assert_eq!(closed.count(), 300);
}

#[test]
fn a_graceful_end_waits_for_the_last_session() {
    let (server, address, _told) = running(ServerConfig { workers: 2, ..ServerConfig::default() });
    let context = contexts::client();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(&context, address)).collect();
    server.shutdown(PATIENCE * 10).unwrap();
    for client in &mut clients {
        assert_eq!(client.ask(b"a last question"), b"a last question");
        client.close();
    }
    // It waits for ten times our patience unless it ends with the last session.
    server.join().unwrap();
}

#[test]
fn a_graceful_end_has_a_deadline() {
    let (server, address, _told) = running(ServerConfig::default());
    let mut client = Client::connect(&contexts::client(), address);
    server.shutdown(Duration::from_millis(50)).unwrap();
    server.join().unwrap();
    assert_eq!(client.end(), CloseReason::ByPeer);
}

/// Sessions begin and messages go to and fro while certificates change.
#[test]
fn no_session_is_lost_while_certificates_are_reloaded() {
    let (server, address, _told) = running(ServerConfig { workers: 2, ..ServerConfig::default() });
    let context = contexts::client();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for _ in 0..2 {
            scope.spawn(|| {
                let mut clients = vec![Client::connect(&context, address)];
                while !over.load(Ordering::Relaxed) {
                    clients.push(Client::connect(&context, address));
                    if clients.len() > 20 {
                        clients.remove(0).close();
                    }
                    clients.iter_mut().for_each(|client| assert_eq!(client.ask(b"under load"), b"under load"));
                }
                clients.iter_mut().for_each(Client::close);
            });
        }
        let finished = || server.stats().endpoints.handshakes_finished;
        for round in 0..20 {
            let (name, before) = (if round % 2 == 0 { "server-rsa" } else { "server-ecdsa" }, finished());
            server.reload(contexts::server_with(name, |_| {})).unwrap();
            wait_until(|| finished() > before, || format!("{before} handshakes"));
        }
    });
    let stats = server.stats().endpoints;
    assert_eq!(stats.handshakes_finished, stats.handshakes_begun);
    assert_eq!(stats.handshakes_failed + stats.handshakes_timed_out, 0);
}

/// Whoever waits for the end is not told before it has come, however many wait.
#[test]
fn all_who_wait_for_the_end_wait() {
    let (server, address, told) = running(ServerConfig { workers: 2, ..ServerConfig::default() });
    let _client = Client::connect(&contexts::client(), address);
    let (server, stopped) = (Arc::new(server), Arc::new(AtomicBool::new(false)));
    let waiting = [(); 2].map(|()| {
        let (server, stopped) = (server.clone(), stopped.clone());
        begin_and_wait(move || {
            server.join().unwrap();
            stopped.load(Ordering::SeqCst)
        })
    });
    stopped.store(true, Ordering::SeqCst);
    server.stop();
    for told in waiting {
        assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "told before the end had come");
    }
    assert!(told.try_iter().any(|told| matches!(told, Told::Close { .. })));
}

#[test]
fn a_handler_cannot_wait_for_its_own_end() {
    let server: Arc<OnceLock<Server>> = Arc::default();
    let own = server.clone();
    let joins = move |context: &mut Context<'_>, session: Session, _: &[u8]| {
        let refused = matches!(own.get().unwrap().join(), Err(Error::Invalid(_)));
        context.send(session, &[refused.into()]).unwrap();
    };
    let made = Server::new(contexts::server(), ServerConfig::default(), joins).unwrap();
    let address = made.bind("127.0.0.1:0").unwrap();
    made.start().unwrap();
    let server = server.get_or_init(|| made);
    assert_eq!(Client::connect(&contexts::client(), address).ask(b"?"), [1]);
    server.stop();
    server.join().unwrap();
}

#[test]
fn a_server_name_callback_of_the_programs_own_chooses_the_context() {
    let other = contexts::server_with("named", |_| {});
    let context = contexts::server_with("server-ecdsa", |context| {
        context.set_servername_callback(move |ssl, _| {
            if ssl.servername(NameType::HOST_NAME) == Some("one.example.test") {
                ssl.set_ssl_context(&other).unwrap();
            }
            Ok(())
        });
    });
    let echo = |context: &mut Context<'_>, session: Session, message: &[u8]| context.send(session, message).unwrap();
    let server = Server::new(context, ServerConfig::default(), echo).unwrap();
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    // Each is checked against the name that is asked for.
    for name in ["one.example.test", "localhost"] {
        let mut client = Client::begin_with(&contexts::client(), Connect::to_named(address, name));
        client.finish();
        assert_eq!(client.ask(b"hello"), b"hello");
    }
    assert_eq!(server.stats().endpoints.records_taken_over, 2);
}
