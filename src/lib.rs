//! DTLS for many clients on one UDP socket, on the system's OpenSSL.
//!
//! Three doors lead to one engine: the `dv_*` helpers for C programs that exist, a sans-IO endpoint for programs with an
//! event loop of their own ([`Endpoint`]), and a server that owns its sockets and threads.
//!
//! The rooms, from the wire upwards; calls go downward only:
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`wire`] | what is on the wire, as pure functions over byte slices |
//! | `tls` | the only room that calls libssl and libcrypto |
//! | [`engine`] | who is connected and what happens next; sans-IO |
//! | `net` | sockets and system calls |
//! | `ffi` | the C ABI, which is not shown here: `include/dv_dtls.h` is its manual |

#![deny(rustdoc::broken_intra_doc_links)]

pub mod engine;
mod ffi;
mod guard;
mod log;
mod net;
mod tls;
mod wipe;
pub mod wire;

pub use engine::connection::{CloseReason, State};
pub use engine::endpoint::{
    Config, Connect, ConnectionIds, CookieSecret, Endpoint, Error, Event, Info, Session, Transmit, add_certificate,
    share_tickets,
};
pub use engine::export::{Export, ExportKey, Exported, Imported};
pub use engine::settings::Settings;
pub use engine::stats::Stats;
// For C, and for our tests. What Rust programs are shown is safe.
#[cfg(not(doc))]
pub use ffi::*;
#[cfg(feature = "test-hooks")]
pub use guard::hooks::dv_test_panic_next;
pub use net::handler::{Context, Handler};
pub use net::server::{Server, ServerConfig, ServerStats, SocketStats};
pub use tls::resumption::Resumption;
