//! A handler that panics ends the server, and nothing else: peers are told, whoever waits gets the panic, nothing is left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};

use dv_dtls::{CloseReason, Context, Handler, Server, ServerConfig, Session};

use crate::clients::{Client, PATIENCE};
use crate::contexts;

/// Panics at the message "panic", and if told to, whenever a session is over.
struct Panicking {
    when_closed: bool,
    opened: Sender<(Session, usize)>,
    closed: Sender<(Session, usize)>,
}

impl Handler for Panicking {
    fn open(&self, context: &mut Context<'_>, session: Session) {
        self.opened.send((session, context.worker())).unwrap();
    }

    fn message(&self, context: &mut Context<'_>, session: Session, message: &[u8]) {
        assert_ne!(message, b"panic", "the handler's own");
        context.send(session, message).unwrap();
    }

    fn close(&self, context: &mut Context<'_>, session: Session, _reason: CloseReason) {
        self.closed.send((session, context.worker())).unwrap();
        assert!(!self.when_closed, "the handler's own");
    }
}

fn panic_of_join(server: &Server) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| server.join())).unwrap_err();
    panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap()
}

fn ends(when_closed: bool, workers: usize, end: impl FnOnce(&Server, &mut Client)) {
    let ((opened, has_opened), (closed, has_closed)) = (channel(), channel());
    let config = ServerConfig { workers, ..ServerConfig::default() };
    let server = Server::new(contexts::server(), config, Panicking { when_closed, opened, closed }).unwrap();
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    let context = contexts::client();
    let mut clients: Vec<Client> = Vec::new();
    let mut sessions = Vec::new();
    // Enough for each worker to have more of them than one.
    while (0..workers).any(|worker| sessions.iter().filter(|(_, of)| *of == worker).count() < 2) {
        clients.push(Client::connect(&context, address));
        sessions.push(has_opened.recv_timeout(PATIENCE).unwrap());
    }
    end(&server, &mut clients[0]);
    assert!(panic_of_join(&server).contains("the handler's own"));
    clients.iter_mut().for_each(|client| assert_eq!(client.end(), CloseReason::ByPeer));
    // A worker whose handler has panicked does not call it again.
    let panicked = sessions[0].1;
    let told: Vec<(Session, usize)> = has_closed.try_iter().collect();
    for worker in 0..workers {
        let of_worker = |all: &[(Session, usize)]| all.iter().filter(|(_, of)| *of == worker).count();
        let expected = match (when_closed, worker == panicked) {
            (true, _) => 1,
            (false, true) => 0,
            (false, false) => of_worker(&sessions),
        };
        assert_eq!(of_worker(&told), expected, "{worker}");
    }
    assert_eq!(server.sessions_of_workers().iter().sum::<usize>(), 0);
    drop(server);
    // Nobody has the sockets any more.
    Server::new(contexts::server(), ServerConfig::default(), |_: &mut Context<'_>, _: Session, _: &[u8]| {})
        .unwrap()
        .bind(address)
        .unwrap();
}

#[test]
fn at_a_message() {
    ends(false, 3, |_, client| client.send(b"panic"));
}

#[test]
fn when_the_server_is_stopped() {
    ends(true, 2, |server, _| server.stop());
}
