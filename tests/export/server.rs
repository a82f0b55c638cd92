//! Through the server.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use dv_dtls::{
    CloseReason, ConnectionIds, Context, Error, Export, Exported, Handler, Imported, Server, ServerConfig, Session,
};

use crate::clients::{Client, PATIENCE};
use crate::common::process::begin_and_wait;
use crate::contexts;
use crate::crowd::Crowd;
use crate::key;

/// What happened at a server.
#[derive(Default)]
pub struct Seen {
    opened: AtomicUsize,
    imported: AtomicUsize,
    exported: AtomicUsize,
    closed: AtomicUsize,
}

/// Sends each message back.
struct Echo(Arc<Seen>);

impl Handler for Echo {
    fn open(&self, context: &mut Context<'_>, session: Session) {
        let imported = context.info(session).unwrap().is_imported();
        if imported { &self.0.imported } else { &self.0.opened }.fetch_add(1, Ordering::SeqCst);
    }

    fn message(&self, context: &mut Context<'_>, session: Session, message: &[u8]) {
        context.send(session, message).unwrap();
    }

    fn close(&self, _: &mut Context<'_>, _: Session, reason: CloseReason) {
        let exported = reason == CloseReason::Exported;
        if exported { &self.0.exported } else { &self.0.closed }.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn config(workers: usize) -> ServerConfig {
    ServerConfig { workers, ..ServerConfig::default() }
}

pub fn echo(config: ServerConfig) -> (Server, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    (Server::new(contexts::server(), config, Echo(seen.clone())).unwrap(), seen)
}

/// An empty file.
pub fn file(name: &str) -> (PathBuf, File) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("export-{name}"));
    let file = File::create(&path).unwrap();
    (path, file)
}

pub fn open(path: &PathBuf) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// So many clients talk to a server, and go on with another one.
fn change(clients: usize, workers: [usize; 2], host: &str, name: &str) {
    change_with(clients, workers, host, name, None);
}

fn change_with(clients: usize, workers: [usize; 2], host: &str, name: &str, ids: Option<ConnectionIds>) {
    let config = |workers| {
        let mut config = config(workers);
        config.endpoint.connection_ids = ids.clone();
        config
    };
    let (old, seen_by_old) = echo(config(workers[0]));
    let address = old.bind(host).unwrap();
    old.start().unwrap();
    let to = if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address };
    let crowd = Crowd::with(clients, to, ids.clone());
    let (path, mut out) = file(name);

    let begin = Instant::now();
    assert_eq!(old.export(&key(), &mut out), Ok(Exported { sessions: clients, left: 0 }));
    let exported = begin.elapsed();
    let len = out.metadata().unwrap().len() as usize;
    assert!(len <= 300 * clients + 100, "{} bytes each", len / clients);
    old.commit_export().unwrap();
    old.join().unwrap();
    let (new, seen_by_new) = echo(config(workers[1]));
    assert_eq!(new.bind(address).unwrap(), address);
    let read = Instant::now();
    let export = Export::take(open(&path), &key(), PATIENCE).unwrap();
    assert_eq!(new.import(export), Ok(Imported { sessions: clients, skipped: 0 }));
    let imported = read.elapsed();
    new.start().unwrap();
    let all = begin.elapsed();

    crowd.all_are_answered();
    crowd.all_are_answered();
    crowd.assert_undisturbed();
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    assert_eq!((count(&seen_by_old.exported), count(&seen_by_old.closed)), (clients, 0));
    assert_eq!((count(&seen_by_new.imported), count(&seen_by_new.opened)), (clients, 0));
    println!(
        "{clients} sessions under load, {} bytes each: exported in {exported:.1?}, imported in {imported:.1?}, nobody there \
         for {all:.1?}; the longest wait of a client {} ms, {} questions asked again, {} answers",
        len / clients,
        count(&crowd.tally.longest_wait),
        count(&crowd.tally.asked_again),
        count(&crowd.tally.answers),
    );
    assert_eq!(new.stats().sessions, clients);
    drop(crowd);
    assert_eq!(open(&path).metadata().unwrap().len(), 0, "used up");
}

#[test]
fn clients_notice_nothing() {
    change(200, [1, 1], "127.0.0.1:0", "one");
}

/// Each session must come to the worker that its client reaches, be they more than before or less.
#[test]
fn clients_of_several_workers_notice_nothing() {
    change(60, [2, 3], "127.0.0.1:0", "several-v4");
    change(60, [3, 2], "[::1]:0", "several-v6");
    change(40, [1, 4], "[::]:0", "several-mapped");
}

/// There it is the connection ID that says which worker a session belongs to.
#[test]
fn clients_with_connection_ids_notice_nothing() {
    let ids = |server_id: &[u8]| Some(ConnectionIds { server_id: server_id.into(), ..ConnectionIds::default() });
    change_with(60, [2, 3], "127.0.0.1:0", "ids", ids(&[7]));
    change_with(60, [3, 1], "127.0.0.1:0", "ids", ids(&[]));
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_clients_notice_nothing() {
    change(10_000, [2, 2], "127.0.0.1:0", "many");
}

/// Where the socket itself is handed on, not even a datagram is lost.
#[test]
fn a_socket_that_stays_open_loses_nothing() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut current, _) = echo(config(1));
    let address = current.bind_socket(socket.try_clone().unwrap()).unwrap();
    current.start().unwrap();
    let crowd = Crowd::of(50, address);
    for round in 0..5 {
        let (path, mut out) = file(&format!("socket-{round}"));
        let (next, _) = echo(config(1));
        next.bind_socket(socket.try_clone().unwrap()).unwrap();
        assert_eq!(current.export(&key(), &mut out), Ok(Exported { sessions: 50, left: 0 }));
        next.import(Export::take(open(&path), &key(), PATIENCE).unwrap()).unwrap();
        current.commit_export().unwrap();
        current.join().unwrap();
        next.start().unwrap();
        current = next;
        crowd.all_are_answered();
        crowd.all_are_answered();
        crowd.assert_undisturbed();
    }
    crowd.assert_nothing_is_lost();
}

/// A server with a client, and the client's session.
fn one_client() -> (Server, Arc<Seen>, Client, Session) {
    let (tell, told) = mpsc::channel();
    let context = contexts::client();
    let seen = Arc::new(Seen::default());
    struct Told(Echo, mpsc::Sender<Session>);
    impl Handler for Told {
        fn open(&self, context: &mut Context<'_>, session: Session) {
            self.0.open(context, session);
            self.1.send(session).unwrap();
        }
        fn message(&self, context: &mut Context<'_>, session: Session, message: &[u8]) {
            self.0.message(context, session, message);
        }
        fn close(&self, context: &mut Context<'_>, session: Session, reason: CloseReason) {
            self.0.close(context, session, reason);
        }
    }
    let server = Server::new(contexts::server(), config(2), Told(Echo(seen.clone()), tell)).unwrap();
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    let mut client = Client::connect(&context, address);
    assert_eq!(client.ask(b"first"), b"first");
    (server, seen, client, told.recv_timeout(PATIENCE).unwrap())
}

#[test]
fn cancelled_it_goes_on() {
    let (server, seen, mut client, session) = one_client();
    for _ in 0..3 {
        server.export(&key(), &mut std::io::sink()).unwrap();
        assert_eq!(server.send(session, b"not now"), Err(Error::Again));
        assert!(matches!(server.export(&key(), &mut std::io::sink()), Err(Error::Invalid(_))));
        client.send(b"meanwhile");
        server.cancel_export().unwrap();
        assert_eq!(client.message(), b"meanwhile");
        server.send(session, b"now").unwrap();
        assert_eq!(client.message(), b"now");
    }
    assert_eq!((seen.exported.load(Ordering::SeqCst), seen.closed.load(Ordering::SeqCst)), (0, 0));
    assert!(matches!(server.cancel_export(), Err(Error::Invalid(_))));
    assert!(matches!(server.commit_export(), Err(Error::Invalid(_))));
}

/// While the server did not listen nobody was silent.
#[test]
fn the_time_of_an_export_is_not_idle_time() {
    let mut config = config(1);
    config.endpoint.settings.idle_timeout = Duration::from_secs(2);
    let (server, seen) = echo(config);
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    let mut client = Client::connect(&contexts::client(), address);
    assert_eq!(client.ask(b"before"), b"before");
    server.export(&key(), &mut std::io::sink()).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    client.send(b"meanwhile");
    server.cancel_export().unwrap();
    assert_eq!(client.message(), b"meanwhile");
    assert_eq!(seen.closed.load(Ordering::SeqCst), 0);
}

/// Nobody knows whether somebody has the sessions, so nobody is told that they are over.
#[test]
fn stopped_without_a_verdict_it_says_nothing() {
    let (server, seen, mut client, _) = one_client();
    let (path, mut out) = file("no-verdict");
    server.export(&key(), &mut out).unwrap();
    let address = client.socket.peer_addr().unwrap();
    server.stop();
    server.join().unwrap();
    assert_eq!(seen.exported.load(Ordering::SeqCst), 1);
    drop(server);
    let (new, _) = echo(config(1));
    new.bind(address).unwrap();
    new.import(Export::take(open(&path), &key(), PATIENCE).unwrap()).unwrap();
    new.start().unwrap();
    assert_eq!(client.ask(b"still there?"), b"still there?");
}

#[test]
fn who_does_not_run_has_nothing_to_export() {
    let (server, _) = echo(config(2));
    let refused = |server: &Server| assert!(matches!(server.export(&key(), &mut Vec::new()), Err(Error::Invalid(_))));
    refused(&server);
    server.bind("127.0.0.1:0").unwrap();
    refused(&server);
    server.start().unwrap();
    assert_eq!(server.export(&key(), &mut Vec::new()), Ok(Exported::default()));
    server.commit_export().unwrap();
    server.join().unwrap();
    refused(&server);
    let (stopped, _) = echo(config(1));
    stopped.bind("127.0.0.1:0").unwrap();
    stopped.start().unwrap();
    stopped.stop();
    stopped.join().unwrap();
    refused(&stopped);
}

#[test]
fn an_export_is_imported_once_and_where_it_can_be() {
    let (old, _, mut client, _) = one_client();
    let address = client.socket.peer_addr().unwrap();
    let (path, mut out) = file("once");
    old.export(&key(), &mut out).unwrap();
    old.commit_export().unwrap();
    old.join().unwrap();
    let take = || Export::take(open(&path), &key(), PATIENCE);
    let len = || open(&path).metadata().unwrap().len();
    let whole = len();

    // Not bound; bound elsewhere; started; with workers that the kernel chooses among.
    let (unbound, _) = echo(config(1));
    assert!(matches!(unbound.import(take().unwrap()), Err(Error::Invalid(_))));
    let (started, _) = echo(config(1));
    started.bind("127.0.0.1:0").unwrap();
    started.start().unwrap();
    assert!(matches!(started.import(take().unwrap()), Err(Error::Invalid(_))));
    let (unsteered, _) = echo(ServerConfig { steer_handshakes: false, ..config(2) });
    unsteered.bind(address).unwrap();
    assert!(matches!(unsteered.import(take().unwrap()), Err(Error::Invalid(why)) if why.contains("workers")));
    drop(unsteered);

    // Somebody else is at it; a file that cannot be made empty; another key.
    let (new, _) = echo(config(1));
    new.bind(address).unwrap();
    let other = take().unwrap();
    assert!(matches!(take(), Err(Error::Import(why)) if why.contains("in use")));
    drop(other);
    let read_only = Export::take(File::open(&path).unwrap(), &key(), PATIENCE).unwrap();
    assert!(matches!(new.import(read_only), Err(Error::Import(why)) if why.contains("empty")));
    let other_key = dv_dtls::ExportKey::new([8; 32]);
    assert!(
        matches!(Export::take(open(&path), &other_key, PATIENCE), Err(Error::Import(why)) if why.contains("another key"))
    );
    assert_eq!(len(), whole);

    assert_eq!(new.import(take().unwrap()), Ok(Imported { sessions: 1, skipped: 0 }));
    assert_eq!(len(), 0);
    assert!(matches!(take(), Err(Error::Import(why)) if why.contains("cut short")));
    new.start().unwrap();
    assert_eq!(client.ask(b"at last"), b"at last");
}

#[test]
fn sessions_of_an_address_that_is_not_served_are_passed_over() {
    let (old, _, _client, _) = one_client();
    let mut bytes = Vec::new();
    old.export(&key(), &mut bytes).unwrap();
    let (new, _) = echo(config(2));
    new.bind("127.0.0.2:0").unwrap();
    let export = Export::read(&mut &bytes[..], &key()).unwrap();
    assert_eq!(new.import(export), Ok(Imported { sessions: 0, skipped: 1 }));
}

/// It would wait for itself.
#[test]
fn a_handler_does_not_export() {
    let (tell, told) = mpsc::channel();
    let server: Arc<OnceLock<Server>> = Arc::default();
    let inside = server.clone();
    let export = move |_: &mut Context<'_>, _: Session, _: &[u8]| {
        tell.send(inside.get().unwrap().export(&key(), &mut Vec::new())).unwrap();
    };
    let made = server.get_or_init(|| Server::new(contexts::server(), config(1), export).unwrap());
    let address = made.bind("127.0.0.1:0").unwrap();
    made.start().unwrap();
    let mut client = Client::connect(&contexts::client(), address);
    client.send(b"export!");
    assert!(matches!(told.recv_timeout(PATIENCE).unwrap(), Err(Error::Invalid(_))));
    made.stop();
    made.join().unwrap();
}

/// The one that exports has to wait for the handler, so the handler must not wait for him.
#[test]
fn a_handler_does_not_end_an_export() {
    let (tell, told) = mpsc::channel();
    let server: Arc<OnceLock<Server>> = Arc::default();
    let inside = server.clone();
    let (exports, exporting) = mpsc::channel();
    let exporting = Mutex::new(exporting);
    let end = move |_: &mut Context<'_>, _: Session, _: &[u8]| {
        tell.send(Ok(())).unwrap();
        exporting.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        tell.send(inside.get().unwrap().cancel_export()).unwrap();
    };
    let made = server.get_or_init(|| Server::new(contexts::server(), config(1), end).unwrap());
    let address = made.bind("127.0.0.1:0").unwrap();
    made.start().unwrap();
    let mut client = Client::connect(&contexts::client(), address);
    client.send(b"cancel!");
    told.recv_timeout(PATIENCE).unwrap().unwrap();
    let exporting = server.clone();
    let exported = begin_and_wait(move || exporting.get().unwrap().export(&key(), &mut std::io::sink()));
    assert!(exported.try_recv().is_err(), "it does not wait for the handler");
    exports.send(()).unwrap();
    assert!(matches!(told.recv_timeout(PATIENCE), Ok(Err(Error::Invalid(_)))), "they wait for each other");
    assert_eq!(exported.recv_timeout(PATIENCE).unwrap(), Ok(Exported { sessions: 1, left: 0 }));
    made.stop();
    made.join().unwrap();
}

/// Who is drained and has no client any more does not hold up those who have some.
#[test]
fn a_worker_that_is_over_keeps_nobody_waiting() {
    /// Tells that the thread that has it is over.
    struct Over(mpsc::Sender<()>);
    impl Drop for Over {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    thread_local! {
        static OVER: RefCell<Option<Over>> = const { RefCell::new(None) };
    }
    let (tell, over) = mpsc::channel();
    let says_which = move |context: &mut Context<'_>, session: Session, _: &[u8]| {
        OVER.with_borrow_mut(|own| _ = own.get_or_insert_with(|| Over(tell.clone())));
        context.send(session, &[context.worker() as u8]).unwrap();
    };
    let server = Arc::new(Server::new(contexts::server(), config(2), says_which).unwrap());
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();

    // One client each.
    let (context, mut of_workers) = (contexts::client(), [None, None]);
    while of_workers.iter().any(Option::is_none) {
        let mut client = Client::connect(&context, address);
        let worker = usize::from(client.ask(b"whose?")[0]);
        if let Some(mut before) = of_workers[worker].replace(client) {
            before.close();
        }
    }
    server.shutdown(10 * PATIENCE).unwrap();
    let [Some(mut leaves), Some(mut stays)] = of_workers else { unreachable!() };
    leaves.close();
    over.recv_timeout(PATIENCE).expect("who is drained and has no client is over");

    let exporting = server.clone();
    let exported = begin_and_wait(move || exporting.export(&key(), &mut std::io::sink()));
    let exported = exported.recv_timeout(PATIENCE);
    if exported.is_err() {
        server.stop();
    }
    assert_eq!(exported, Ok(Ok(Exported { sessions: 1, left: 0 })));
    server.cancel_export().unwrap();
    assert_eq!(stays.ask(b"still there?"), [1]);
}

/// Which worker a peer comes to is nobody's choice, and differs from process to process: a server that is full can still be
/// followed by one that is set up like it.
#[test]
fn the_limit_is_that_of_the_whole_server() {
    const CLIENTS: usize = 40;
    let (old, _) = echo(config(1));
    let address = old.bind("127.0.0.1:0").unwrap();
    old.start().unwrap();
    let crowd = Crowd::of(CLIENTS, address);
    let (path, mut out) = file("full");
    old.export(&key(), &mut out).unwrap();
    old.commit_export().unwrap();
    old.join().unwrap();
    let limited = |sessions: usize| {
        let mut config = config(4);
        config.endpoint.settings.max_connections = sessions as u32;
        let (server, _) = echo(config);
        server.bind(address).unwrap();
        let imported = server.import(Export::take(open(&path), &key(), PATIENCE).unwrap());
        (server, imported)
    };
    let (_, imported) = limited(CLIENTS - 4);
    assert_eq!(imported, Err(Error::Limit));
    let (new, imported) = limited(CLIENTS);
    assert_eq!(imported, Ok(Imported { sessions: CLIENTS, skipped: 0 }));
    new.start().unwrap();
    crowd.all_are_answered();
    crowd.assert_undisturbed();
}

/// What else two processes tell each other on the same socket.
#[test]
fn what_stands_behind_an_export_is_not_taken() {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    let (server, ..) = one_client();
    server.export(&key(), &mut one).unwrap();
    one.write_all(b"more").unwrap();
    drop(one);
    assert_eq!(Export::take(&other, &key(), PATIENCE).unwrap().sessions(), 1);
    let mut rest = Vec::new();
    other.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"more");
}
