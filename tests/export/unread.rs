//! Exports that nobody reads, that are not written, or that are broken off: the sessions go on where they are.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dv_dtls::{CloseReason, Config, Endpoint, Error, Export, Exported, Server};

use crate::clients::{Client, PATIENCE};
use crate::common::process::wait_until;
use crate::server::{config, echo};
use crate::{contexts, key};

/// A server that gives up an export after so long, and a client of it.
fn with_a_client(export_timeout: Duration) -> (Arc<Server>, Client) {
    let mut config = config(2);
    config.endpoint.export_timeout = export_timeout;
    let (server, _) = echo(config);
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    let mut client = Client::connect(&contexts::client(), address);
    assert_eq!(client.ask(b"before"), b"before");
    (Arc::new(server), client)
}

const SOON: Duration = Duration::from_millis(300);

/// Never, that is.
const NO_LIMIT: Duration = Duration::ZERO;

/// What the call gives, which must not take for ever.
fn in_time<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    begin(call).recv_timeout(PATIENCE).expect("it waits for ever")
}

fn begin<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(call()));
    told
}

/// Writing ends of which nobody reads the other, full already; blocking and not.
fn full_ones() -> Vec<(OwnedFd, OwnedFd)> {
    let pipe = || {
        let (reader, writer) = io::pipe().unwrap();
        (OwnedFd::from(reader), OwnedFd::from(writer))
    };
    let stream = || {
        let (reader, writer) = UnixStream::pair().unwrap();
        (OwnedFd::from(reader), OwnedFd::from(writer))
    };
    let all = vec![pipe(), pipe(), stream(), stream()];
    for (number, (_, writer)) in all.iter().enumerate() {
        set_waiting(writer, false);
        let mut file = File::from(writer.try_clone().unwrap());
        for len in [4096, 1] {
            while file.write(&vec![0; len]).is_ok() {}
        }
        assert_eq!(file.write(&[0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        set_waiting(writer, number % 2 == 0);
    }
    all
}

/// Whether calls wait that cannot be done at once.
fn set_waiting(of: &OwnedFd, wait: bool) {
    let flags = if wait { 0 } else { libc::O_NONBLOCK };
    // SAFETY: the call takes no pointer.
    assert_eq!(unsafe { libc::fcntl(of.as_raw_fd(), libc::F_SETFL, flags) }, 0);
}

#[test]
fn a_reader_that_does_not_read_is_given_up() {
    let (server, mut client) = with_a_client(SOON);
    let mut endpoint = Endpoint::new(contexts::server(), Config { export_timeout: SOON, ..Config::default() }).unwrap();
    for (_reader, writer) in full_ones() {
        let (exporting, to) = (server.clone(), writer.try_clone().unwrap());
        let failed = in_time(move || exporting.export_to(&key(), to));
        assert!(matches!(&failed, Err(Error::Io(why)) if why.contains("in time")), "{failed:?}");
        assert_eq!(client.ask(b"still there?"), b"still there?");
        let (given_back, failed) = in_time(move || {
            let failed = endpoint.export_to(&key(), writer);
            (endpoint, failed)
        });
        assert!(matches!(&failed, Err(Error::Io(why)) if why.contains("in time")), "{failed:?}");
        endpoint = given_back;
    }
    // On a busy machine one that is read may take too long as well.
    let exported = || server.export(&key(), &mut Vec::new()) == Ok(Exported { sessions: 1, left: 0 });
    wait_until(exported, || "it is never exported".into());
}

/// One who takes his time, but not too much, gets it whole.
#[test]
fn a_reader_that_is_slow_is_waited_for() {
    let (server, _client) = with_a_client(PATIENCE);
    for (reader, writer) in full_ones() {
        let exporting = server.clone();
        let exported = begin(move || exporting.export_to(&key(), writer));
        assert!(exported.recv_timeout(SOON).is_err());
        let mut before = vec![1; 4096];
        let mut reader = File::from(reader);
        while before[0] != b'd' {
            // Up to the export there are zeros.
            reader.read_exact(&mut before[..1]).unwrap();
        }
        let export = Export::read(&mut (&b"d"[..]).chain(reader), &key()).unwrap();
        assert_eq!(export.sessions(), 1);
        assert_eq!(exported.recv_timeout(PATIENCE).unwrap(), Ok(Exported { sessions: 1, left: 0 }));
        server.cancel_export().unwrap();
    }
}

#[test]
fn a_stop_ends_an_export_that_nobody_reads() {
    for (_reader, writer) in full_ones() {
        let (server, mut client) = with_a_client(NO_LIMIT);
        let exporting = server.clone();
        let exported = begin(move || exporting.export_to(&key(), writer));
        assert!(exported.recv_timeout(SOON).is_err());
        server.stop();
        let failed = exported.recv_timeout(PATIENCE).expect("it waits for ever");
        assert!(failed.is_err());
        in_time(move || server.join()).unwrap();
        // Nobody can have the session, so its peer is told that it is over.
        assert_eq!(client.end(), CloseReason::ByPeer);
    }
}

/// What is imported may never come, or stop in the middle, though the writing end stays open.
#[test]
fn a_writer_that_does_not_write_is_given_up() {
    let mut whole = Vec::new();
    with_a_client(NO_LIMIT).0.export(&key(), &mut whole).unwrap();
    for waits in [true, false] {
        for begun in [0, 1, whole.len() - 1] {
            let (reader, writer) = io::pipe().unwrap();
            let (reader, mut writer) = (OwnedFd::from(reader), File::from(OwnedFd::from(writer)));
            set_waiting(&reader, waits);
            writer.write_all(&whole[..begun]).unwrap();
            let failed = in_time(move || Export::take(reader, &key(), SOON).map(drop));
            assert!(matches!(&failed, Err(Error::Io(why)) if why.contains("in time")), "{failed:?}");
        }
        // Slow, but not silent.
        let (reader, writer) = io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        set_waiting(&reader, waits);
        let taken = begin(move || Export::take(reader, &key(), PATIENCE).map(|export| export.sessions()));
        let mut writer = File::from(OwnedFd::from(writer));
        for part in whole.chunks(whole.len().div_ceil(3)) {
            assert!(taken.recv_timeout(SOON).is_err());
            writer.write_all(part).unwrap();
        }
        assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), Ok(1));
    }
}

/// Keeps what is written; at the second call it waits to be told to go on.
struct Hesitant {
    written: Arc<Mutex<Vec<u8>>>,
    calls: usize,
    waits: Sender<()>,
    go_on: Receiver<()>,
}

impl Write for Hesitant {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls == 2 {
            self.waits.send(()).unwrap();
            let _ = self.go_on.recv();
        }
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The server does not wait for it, and what it writes then is no export: otherwise two would have the sessions.
#[test]
fn a_write_that_waits_too_long_has_written_nothing() {
    for stop in [false, true] {
        let (server, mut client) = with_a_client(if stop { NO_LIMIT } else { SOON });
        let (waits, waiting) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let mut to = Hesitant { written: written.clone(), calls: 0, waits, go_on: may_go_on };
        let exporting = server.clone();
        let exported = begin(move || exporting.export(&key(), &mut to));
        waiting.recv_timeout(PATIENCE).unwrap();
        if stop {
            server.stop();
            assert_eq!(client.end(), CloseReason::ByPeer);
        } else {
            assert_eq!(client.ask(b"still there?"), b"still there?");
        }
        go_on.send(()).unwrap();
        let failed = exported.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(&failed, Err(Error::Io(why)) if why.contains("given up")), "{failed:?}");
        let read = Export::read(&mut &written.lock().unwrap()[..], &key());
        assert!(matches!(read.map(drop), Err(Error::Import(why)) if why.contains("cut short")));
        if !stop {
            assert_eq!(client.ask(b"and now?"), b"and now?");
        }
    }
}

/// Panics when so much has been written.
struct Panicking(usize);

impl Write for Panicking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(1).expect("asked for by a test");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        panic!("asked for by a test")
    }
}

#[test]
fn a_write_that_panics_loses_nothing() {
    let (server, mut client) = with_a_client(NO_LIMIT);
    let mut endpoint = Endpoint::new(contexts::server(), Config::default()).unwrap();
    for calls in 0..4 {
        assert!(catch_unwind(AssertUnwindSafe(|| server.export(&key(), &mut Panicking(calls)))).is_err());
        assert_eq!(client.ask(b"still there?"), b"still there?");
        assert!(catch_unwind(AssertUnwindSafe(|| endpoint.export(&key(), &mut Panicking(calls)))).is_err());
    }
    assert_eq!(server.export(&key(), &mut io::sink()), Ok(Exported { sessions: 1, left: 0 }));
    server.commit_export().unwrap();
    server.join().unwrap();
}
