//! Sessions that go to another process: through the endpoint on a simulated network, through the server on loopback, and
//! with processes that are killed in the middle.

#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod examples;
mod killed;
#[path = "../common/net.rs"]
mod net;
mod new_endpoint;
mod nonces;
mod old_endpoint;
mod pair;
mod server;
mod settings;
mod unread;

use dv_dtls::{Endpoint, Export, ExportKey, Exported, Imported};

use common::{clients, contexts};

/// Whether endpoints make records themselves: only then can sessions travel.
const NATIVE_RECORDS: bool = true;

/// Bytes of the connection IDs of endpoints that say nothing else; 0: they want none.
const CID_LEN: usize = 0;

fn key() -> ExportKey {
    ExportKey::new([7; ExportKey::LEN])
}

/// What an endpoint exports.
fn export(endpoint: &mut Endpoint) -> (Vec<u8>, Exported) {
    let mut bytes = Vec::new();
    let exported = endpoint.export(&key(), &mut bytes).unwrap();
    (bytes, exported)
}

fn import(endpoint: &mut Endpoint, now: u64, bytes: &[u8]) -> Imported {
    endpoint.import(now, Export::read(&mut &*bytes, &key()).unwrap()).unwrap()
}
