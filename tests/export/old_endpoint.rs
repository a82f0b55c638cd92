//! The endpoint that exports its sessions: they stand still until the export is committed or cancelled.

use std::io;
use std::time::Duration;

use dv_dtls::{CloseReason, Config, Endpoint, Error, Exported};

use crate::contexts::*;
use crate::net::*;
use crate::pair::{Pair, assert_no_number_twice};
use crate::{export, import};

#[test]
fn in_between_nothing_is_said_or_heard() {
    let mut pair = Pair::new();
    let (theirs, ours, now) = (pair.theirs, pair.ours, pair.world.now);
    // What was sealed before leaves.
    pair.server().send(theirs, b"last words").unwrap();
    let (bytes, _) = export(pair.server());
    pair.world.settle();
    assert_eq!(pair.world.nodes[pair.client].messages(ours), [b"last words"]);

    pair.world.send(pair.client, ours, b"too late");
    pair.world.settle();
    let before = pair.world.sent.len();
    assert_eq!(pair.server().send(theirs, b"too late"), Err(Error::NotEstablished));
    assert!(matches!(pair.server().export(&crate::key(), &mut io::sink()), Err(Error::Invalid(_))));
    pair.world.pass_time(10 * SECOND);
    assert_eq!(pair.world.nodes[pair.server].messages(theirs), [b"before"]);
    pair.server().close(theirs).unwrap();
    pair.world.settle();
    assert_eq!(pair.world.sent.len(), before, "no close_notify of an exported session");
    assert_eq!(pair.world.nodes[pair.server].closed(), [(theirs, CloseReason::Local)]);

    // An export that has ended so is as good as any.
    let mut new = Endpoint::new(server(), Config::default()).unwrap();
    import(&mut new, now, &bytes);
    let node = &mut pair.world.nodes[pair.server];
    node.endpoint = new;
    node.events.clear();
    pair.talk();
}

#[test]
fn cancelled_it_goes_on_where_it_was() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        export(pair.server());
        pair.server().cancel_export().unwrap();
        pair.talk();
    }
    assert_eq!(pair.world.nodes[pair.server].closed(), []);
    assert_no_number_twice(&pair.world);
    // The time in between is no silence of the peer's.
    let mut world = World::new(2);
    let idle = || settings(|settings| settings.idle_timeout = Duration::from_secs(5));
    let server = world.add(server(), idle());
    let client = world.add(client(), Config::default());
    let (_, theirs) = world.open(client, server);
    export(&mut world.nodes[server].endpoint);
    world.pass_time(10 * SECOND);
    assert_eq!(world.nodes[server].closed(), []);
    world.nodes[server].endpoint.cancel_export().unwrap();
    world.pass_time(4 * SECOND);
    assert_eq!(world.nodes[server].closed(), []);
    world.pass_time(SECOND);
    assert_eq!(world.nodes[server].closed(), [(theirs, CloseReason::IdleTimeout)]);
}

/// Takes so many bytes and no more.
struct Full(usize);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.0);
        self.0 -= len;
        if len == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(len) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_export_that_fails_changes_nothing() {
    let mut pair = Pair::new();
    let (whole, _) = export(pair.server());
    pair.server().cancel_export().unwrap();
    for room in [0, 10, 42, 50, whole.len() - 1] {
        assert!(matches!(pair.server().export(&crate::key(), &mut Full(room)), Err(Error::Io(_))), "{room}");
        pair.talk();
    }
    assert_eq!(pair.server().export(&crate::key(), &mut Full(whole.len())), Ok(Exported { sessions: 1, left: 0 }));
}

/// An export of no session is one, too.
#[test]
fn an_export_is_ended_once() {
    let mut endpoint = Endpoint::new(server(), Config::default()).unwrap();
    for end in [Endpoint::commit_export, Endpoint::cancel_export] {
        assert!(matches!(end(&mut endpoint), Err(Error::Invalid(_))));
        assert_eq!(export(&mut endpoint).1, Exported { sessions: 0, left: 0 });
        assert!(matches!(endpoint.export(&crate::key(), &mut io::sink()), Err(Error::Invalid(_))));
        assert_eq!(end(&mut endpoint), Ok(()));
    }
}

#[test]
fn sessions_on_openssl_records_stay() {
    let mut world = World::new(1);
    let all = server_with("server-ecdsa", |context| context.set_cipher_list("ALL").unwrap());
    let server = world.add(all, Config::default());
    let ccm = || client_with(|context| context.set_cipher_list("ECDHE-ECDSA-AES128-CCM").unwrap());
    let clients = [world.add(client(), Config::default()), world.add(ccm(), Config::default())];
    let (first, _) = world.open(clients[0], server);
    let ours = world.connect(clients[1], server);
    world.settle();
    world.settle();
    let theirs = world.nodes[server].opened()[1];
    let (_, exported) = export(&mut world.nodes[server].endpoint);
    assert_eq!(exported, Exported { sessions: 1, left: 1 });
    world.nodes[server].endpoint.commit_export().unwrap();
    // It goes on in the old process, which has nothing to say to the other one.
    world.send(clients[1], ours, b"hello");
    world.send(clients[0], first, b"hello");
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs), [b"hello"]);
    world.send(server, theirs, b"hello");
    world.settle();
    assert_eq!(world.nodes[clients[1]].messages(ours), [b"hello"]);
    assert_eq!(world.nodes[clients[0]].closed(), []);
}
