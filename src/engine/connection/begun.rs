//! A handshake that has begun, for tests.

use std::net::SocketAddr;

use openssl::error::ErrorStack;
use openssl::ssl::{SslContext, SslMethod, SslRef};

use super::{Connection, Terms};
use crate::engine::settings::Settings;
use crate::engine::stats::Counters;
use crate::wire::hello::ClientHello;

/// A client that goes on, and its hello; the server that has answered that.
pub struct Begun {
    pub client: Connection,
    pub hello: Vec<u8>,
    pub server: Connection,
    pub counters: Counters,
}

pub fn begun() -> Begun {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
    context.set_psk_server_callback(|_, _, _| Ok(0));
    context.set_psk_client_callback(|_, _, _, _| Ok(0));
    let (context, settings) = (context.build(), Settings::default());
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let prepare = |_: &mut SslRef| Ok::<(), ErrorStack>(());
    let mut client = Connection::connect(&context, &settings, peer, None, 0, prepare).unwrap();
    let hello = client.transmit().unwrap().to_vec();
    let parsed = ClientHello::parse(&hello).unwrap();
    let terms = Terms { listen: false, own: None };
    let mut server = *Connection::accept(&context, &settings, peer, &parsed, &hello, terms, 0).unwrap();
    while server.transmit().is_some() {}
    Begun { client, hello, server, counters: Counters::default() }
}
