//! Servers that share a secret answer for each other.

use std::net::SocketAddr;
use std::path::PathBuf;

use dv_dtls::{Connect, Error, Server, ServerConfig};
use openssl::ssl::SslContext;

use crate::clients::{Client, running};
use crate::contexts;

/// A file of random bytes that goes with the test.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(test: &str) -> SecretFile {
        let file = SecretFile(std::env::temp_dir().join(format!("dv_dtls-{test}-{}", std::process::id())));
        file.renew();
        file
    }

    fn renew(&self) {
        let mut secret = [0; 32];
        openssl::rand::rand_bytes(&mut secret).unwrap();
        std::fs::write(&self.0, secret).unwrap();
    }

    fn server(&self) -> (Server, SocketAddr) {
        let (server, address, _told) =
            running(ServerConfig { secret_file: Some(self.0.clone()), ..ServerConfig::default() });
        (server, address)
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The client has its cookie from one server and returns it to another one.
fn hello_changes_servers(context: &SslContext, from: SocketAddr, to: SocketAddr) -> Client {
    let mut client = Client::begin(context, from);
    client.take_one();
    client.divert(to);
    client.transmit();
    client.finish();
    client
}

#[test]
fn a_hello_that_one_has_answered_another_completes() {
    let secret = SecretFile::new("cookie");
    let ((first, one), (second, other)) = (secret.server(), secret.server());
    hello_changes_servers(&contexts::client(), one, other);
    assert_eq!((first.stats().endpoints.hellos_answered, second.stats().endpoints.hellos_answered), (1, 0));
    assert_eq!((first.stats().endpoints.handshakes_begun, second.stats().endpoints.handshakes_begun), (0, 1));
}

#[test]
fn tickets_are_good_at_all_and_after_a_restart() {
    let secret = SecretFile::new("ticket");
    let context = contexts::client();
    let (first, one) = secret.server();
    let mut client = Client::connect(&context, one);
    let resumption = client.info().resumption().unwrap();
    client.close();
    drop(first);
    let resumed_at = |to: SocketAddr| {
        let mut client = Client::begin_with(&context, Connect { resume: Some(&resumption), ..Connect::to(to) });
        client.finish();
        client.info().is_resumed()
    };
    let (_restarted, again) = secret.server();
    assert!(resumed_at(again));
    let (_stranger, elsewhere, _told) = running(ServerConfig::default());
    assert!(!resumed_at(elsewhere));
}

#[test]
fn the_secret_is_read_again() {
    let secret = SecretFile::new("again");
    let context = contexts::client();
    let (server, address) = secret.server();
    // Its cookie is out when the secret changes.
    let mut early = Client::begin(&context, address);
    early.take_one();
    secret.renew();
    server.reload(contexts::server()).unwrap();
    early.transmit();
    early.finish();
    assert_eq!(server.stats().endpoints.cookies_refused, 0);

    let (_other, elsewhere) = secret.server();
    hello_changes_servers(&context, address, elsewhere);
    let mut client = Client::connect(&context, address);
    let resumption = client.info().resumption().unwrap();
    client.close();
    let mut client = Client::begin_with(&context, Connect { resume: Some(&resumption), ..Connect::to(elsewhere) });
    client.finish();
    assert!(client.info().is_resumed());
}

#[test]
fn a_bad_secret_is_refused() {
    let secret = SecretFile::new("bad");
    let config = ServerConfig { secret_file: Some(secret.0.clone()), ..ServerConfig::default() };
    let echo = |_: &mut dv_dtls::Context<'_>, _: dv_dtls::Session, _: &[u8]| {};
    std::fs::write(&secret.0, [1; 15]).unwrap();
    let made = Server::new(contexts::server(), config.clone(), echo);
    assert!(matches!(made, Err(Error::Invalid(why)) if why.contains("15 bytes")));
    secret.renew();
    let context = contexts::server();
    let server = Server::new(context.clone(), config, echo).unwrap();
    assert!(matches!(server.reload(context), Err(Error::Invalid(_))), "its ticket keys may be in use");
    std::fs::remove_file(&secret.0).unwrap();
    assert!(matches!(server.reload(contexts::server()), Err(Error::Invalid(why)) if why.contains("No such file")));
}
