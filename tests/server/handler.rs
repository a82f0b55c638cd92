//! What a handler can do while it is called.

use std::sync::mpsc::{Sender, channel};

use dv_dtls::{CloseReason, Context, Error, Handler, Server, ServerConfig, Session};

use crate::clients::{Client, PATIENCE};
use crate::contexts;

/// Counts a session's messages in its number, and ends the session when it is told to.
struct Counting(Sender<(u64, CloseReason)>);

impl Handler for Counting {
    fn message(&self, context: &mut Context<'_>, session: Session, message: &[u8]) {
        let count = context.info(session).unwrap().user() + 1;
        context.set_user(session, count).unwrap();
        // There is no address that would have to be confirmed.
        assert_eq!(context.confirm_peer(session), Ok(()));
        match message {
            b"end" => context.close(session).unwrap(),
            _ => context.send(session, count.to_string().as_bytes()).unwrap(),
        }
    }

    fn close(&self, context: &mut Context<'_>, session: Session, reason: CloseReason) {
        let count = context.info(session).unwrap().user();
        assert_eq!(context.send(session, b"too late"), Err(Error::NotEstablished));
        self.0.send((count, reason)).unwrap();
    }
}

#[test]
fn a_handler_counts_and_closes() {
    let (tell, told) = channel();
    let server = Server::new(contexts::server(), ServerConfig::default(), Counting(tell)).unwrap();
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    let mut clients = [0, 1].map(|_| Client::connect(&contexts::client(), address));
    for count in 1..=3 {
        for client in &mut clients {
            client.send(b"count");
            assert_eq!(client.message(), count.to_string().as_bytes());
        }
    }
    clients[1].send(b"end");
    assert_eq!(clients[1].end(), CloseReason::ByPeer);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (4, CloseReason::Local));
    // The other one does not notice.
    clients[0].send(b"count");
    assert_eq!(clients[0].message(), b"4");
}
