//! A client's visit at an endpoint, for the benches that need many: a handshake, a message and its answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use dv_dtls::{Config, Connect, Endpoint, Event};
use openssl::ssl::{SslContext, SslFiletype, SslMethod};

/// A context for the server, with an ECDSA certificate of the tests, and one for the clients.
pub fn contexts() -> (SslContext, SslContext) {
    let certs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("certs");
    assert!(Command::new(certs.join("make-certs.sh")).status().unwrap().success());
    let mut server = SslContext::builder(SslMethod::dtls()).unwrap();
    server.set_certificate_chain_file(certs.join("out/server-ecdsa.pem")).unwrap();
    server.set_private_key_file(certs.join("out/server-ecdsa.key"), SslFiletype::PEM).unwrap();
    (server.build(), SslContext::builder(SslMethod::dtls()).unwrap().build())
}

/// Lets the client number so and so in, and answers it. It is gone without a goodbye.
pub fn visit(server: &mut Endpoint, context: &SslContext, number: u32, now: u64) {
    let from = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 4000));
    let to = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 5684));
    let config = Config { verify_server: false, ..Config::default() };
    let mut client = Endpoint::new(context.clone(), config).unwrap();
    let session = client.connect(now, &Connect::to(to)).unwrap();
    let mut message = Vec::new();
    loop {
        while let Some(transmit) = client.transmit(1) {
            server.receive(now, transmit.bytes, from, Some(to.ip()));
        }
        while let Some(event) = server.event(&mut message) {
            if let Event::Message { session } = event {
                server.send(session, &message).unwrap();
            }
        }
        while let Some(transmit) = server.transmit(1) {
            client.receive(now, transmit.bytes, to, None);
        }
        while let Some(event) = client.event(&mut message) {
            match event {
                Event::Opened { .. } => client.send(session, &[7; 64]).unwrap(),
                Event::Message { .. } => return,
                other => panic!("{other:?}"),
            }
        }
    }
}
