//! Clients that begin anew while a session of theirs is known by its connection ID, and so may be alive anywhere.

use dv_dtls::{CloseReason, Connect, Session};
use openssl::ssl::SslContext;

use crate::cids::ids;
use crate::contexts::*;
use crate::net::*;

fn psk_server() -> SslContext {
    server_with("server-ecdsa", |context| {
        context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
        context.set_psk_server_callback(|_, _, key| {
            key[..4].copy_from_slice(b"key!");
            Ok(4)
        });
    })
}

fn psk_client(name: &'static [u8]) -> SslContext {
    client_with(move |context| {
        context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
        context.set_psk_client_callback(move |_, _, identity, key| {
            identity[..name.len()].copy_from_slice(name);
            key[..4].copy_from_slice(b"key!");
            Ok(4)
        });
    })
}

/// A server, and a client that was there and is gone without a word; the server's session with it.
fn left_behind(server: SslContext, client: SslContext) -> (World, usize, usize, Session) {
    let mut world = World::new(21);
    let server = world.add(server, ids(8));
    let client = world.add(client, ids(8));
    let (_, theirs) = world.open(client, server);
    world.nodes[client].address.set_port(1);
    (world, server, client, theirs)
}

/// What the server has closed when another program opens a session from a port of the same host.
fn closed_by(world: &mut World, server: usize, port: u16, client: SslContext) -> Vec<(Session, CloseReason)> {
    let address = (world.nodes[1].address.ip(), port).into();
    let again = world.add_at(address, client, ids(8));
    world.open(again, server);
    world.nodes[again].address.set_port(2);
    world.nodes[server].closed()
}

/// By its certificate, or the identity of its key, it is known to be the same at the same address: its old session ends
/// (RFC 6347 4.2.8). At another address it may be a second one that has them too.
#[test]
fn who_shows_that_it_is_the_same_ends_its_old_session() {
    let certificates: [fn() -> SslContext; 2] = [server_with_client_verification, client_with_certificate];
    let identities: [fn() -> SslContext; 2] = [psk_server, || psk_client(b"alice\0")];
    for [at_server, at_client] in [certificates, identities] {
        let (mut world, server, client, theirs) = left_behind(at_server(), at_client());
        let port = world.nodes[server].endpoint.info(theirs).unwrap().peer().port();
        assert_eq!(closed_by(&mut world, server, port + 1, at_client()), []);
        assert_eq!(closed_by(&mut world, server, port, at_client()), [(theirs, CloseReason::Restarted)]);
        assert_eq!(world.nodes[server].endpoint.stats().restarted, 1);
        assert_eq!(world.nodes[server].endpoint.sessions().count(), 2);
        // Where the old one is, nobody was told.
        assert_eq!(world.nodes[client].closed(), []);
    }
}

/// Without one it is known by the session that it resumes.
#[test]
fn who_resumes_a_session_ends_it() {
    let mut world = World::new(22);
    let server = world.add(server(), ids(8));
    let client = world.add(client(), ids(8));
    let mut ticket = None;
    for round in 0..3 {
        let to = world.nodes[server].address;
        let connect = Connect { resume: ticket.as_ref(), ..Connect::to_named(to, "localhost") };
        let ours = world.nodes[client].endpoint.connect(world.now, &connect).unwrap();
        world.settle();
        assert_eq!(world.nodes[server].closed().len(), round);
        ticket = world.nodes[client].endpoint.info(ours).unwrap().resumption();
        world.pass = Box::new(|_| false);
        world.nodes[client].endpoint.close(ours).unwrap();
        world.settle();
        world.pass = Box::new(|_| true);
    }
    assert!(world.nodes[server].closed().iter().all(|(_, reason)| *reason == CloseReason::Restarted));
    assert_eq!(world.nodes[server].endpoint.sessions().count(), 1);
}

/// Behind a NAT the address may be somebody else's now, and the old session alive.
#[test]
fn who_does_not_show_it_ends_nobodys_session() {
    let cases = [
        (psk_server(), psk_client(b"alice\0"), psk_client(b"bob\0")),
        (server(), client(), client()),
        (server_with_client_verification(), client_with_certificate(), client_with_another_certificate()),
    ];
    for (at_server, first, second) in cases {
        let (mut world, server, client, theirs) = left_behind(at_server, first);
        let port = world.nodes[server].endpoint.info(theirs).unwrap().peer().port();
        assert_eq!(closed_by(&mut world, server, port, second), []);
        let ours = world.nodes[client].opened()[0];
        world.send(client, ours, b"still there");
        world.settle();
        assert_eq!(world.nodes[server].messages(theirs), [b"still there"]);
    }
}

fn client_with_another_certificate() -> SslContext {
    client_with(|context| {
        context.set_certificate_chain_file(cert("revoked-client.pem")).unwrap();
        context.set_private_key_file(cert("revoked-client.key"), openssl::ssl::SslFiletype::PEM).unwrap();
    })
}
