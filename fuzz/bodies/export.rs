//! The sessions of an export, inside of its seal: what is taken is what would be written, and an endpoint goes on with it or
//! refuses all of it.

use std::cell::RefCell;

use dv_dtls::engine::export::Packed;
use dv_dtls::{Config, ConnectionIds, Endpoint, Event, Export, ExportKey};
use openssl::ssl::{SslContext, SslMethod};

thread_local! {
    static CONTEXT: SslContext = SslContext::builder(SslMethod::dtls()).expect("a context").build();
    static MESSAGE: RefCell<Vec<u8>> = RefCell::default();
}

/// Imports `sessions`, lets the endpoint work with them, and exports them again.
pub fn run(sessions: &[u8]) {
    let key = ExportKey::new([1; ExportKey::LEN]);
    // What comes from the outside does not even get that far.
    assert!(Export::read(&mut &*sessions, &key).is_err());
    let Ok(export) = Export::from_plain(sessions) else { return };

    let (mut packed, mut again) = (Packed::default(), Vec::new());
    assert!(export.entries().all(|entry| packed.push(&entry)));
    packed.write(&key, &mut again, || true).expect("written");
    let same = Export::read(&mut &again[..], &key).expect("what was written is good");
    assert!(export.entries().eq(same.entries()));

    let count = export.sessions();
    let config = Config { connection_ids: Some(ConnectionIds::default()), ..Config::default() };
    let mut endpoint = Endpoint::new(CONTEXT.with(Clone::clone), config).expect("an endpoint");
    let Ok(imported) = endpoint.import(1_000_000, export) else {
        assert_eq!(endpoint.sessions().count(), 0);
        return;
    };
    assert_eq!(imported.sessions + imported.skipped, count);
    endpoint.advance(2_000_000);
    MESSAGE.with_borrow_mut(|message| {
        while let Some(event) = endpoint.event(message) {
            if let Event::Opened { session } = event {
                let _ = endpoint.send(session, b"hello");
            }
        }
    });
    while endpoint.transmit(64).is_some() {}
    let mut last = Vec::new();
    let exported = endpoint.export(&key, &mut last).expect("exported");
    assert_eq!(Export::read(&mut &last[..], &key).map(|export| export.sessions()), Ok(exported.sessions));
}
