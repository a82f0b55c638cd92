//! What a handler can do while it is called, and what a closure can that OpenSSL calls.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

use dv_dtls::{CloseReason, Connect, Context, Error, ExportKey, Handler, Server, ServerConfig, Session};

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

/// On the thread of a worker, in the middle of a call about its endpoint: nothing waits for itself.
#[test]
fn what_openssl_calls_may_call_the_server() {
    let server: Arc<OnceLock<Server>> = Arc::default();
    let (own, (tell, told)) = (server.clone(), channel());
    // What it finds is looked at elsewhere: a panic would end the process.
    let all = move || {
        let Some(server) = own.get() else { return };
        let key = ExportKey::new([7; ExportKey::LEN]);
        let waiting = [server.join(), server.run(), server.commit_export(), server.cancel_export()];
        let exported = server.export(&key, &mut Vec::new());
        let nobody = Session::from_u64(1).unwrap();
        let stale = [server.send(nobody, b"x"), server.close(nobody)];
        let reloaded = server.reload(contexts::server());
        let _ = tell.send((waiting, exported, stale, reloaded, server.stats().sessions));
        server.stop();
    };
    let context = contexts::server_with("server-ecdsa", |context| {
        context.set_servername_callback(move |_, _| {
            all();
            Ok(())
        });
    });
    let ignores = |_: &mut Context<'_>, _: Session, _: &[u8]| {};
    let made = Server::new(context, ServerConfig::default(), ignores).unwrap();
    let address = made.bind("127.0.0.1:0").unwrap();
    let server = server.get_or_init(|| made);
    server.start().unwrap();
    let mut client = Client::begin_with(&contexts::client(), Connect::to_named(address, "localhost"));
    client.take_one();
    client.transmit();
    let (waiting, exported, stale, reloaded, sessions) = told.recv_timeout(PATIENCE).unwrap();
    assert!(waiting.iter().all(|refused| matches!(refused, Err(Error::Invalid(_)))));
    assert!(matches!(exported, Err(Error::Invalid(_))));
    assert_eq!(stale, [Err(Error::Stale), Err(Error::Stale)]);
    assert_eq!((reloaded, sessions), (Ok(()), 0));
    server.join().unwrap();
}
