//! DTLS for many clients on one UDP socket, on the system's OpenSSL (3.0 or later).
//!
//! A Rust program has two doors to it:
//!
//! - [`Server`] has the sockets, the threads and the loop. A closure gets the messages, or a [`Handler`] all events.
//! - [`Endpoint`] is sans-IO, for a program with an event loop of its own: datagrams and time go in, datagrams, [`Event`]s
//!   and the next deadline come out. It is a server, a client, or both.
//!
//! The program makes the `SslContext`, with the crate `openssl`:
//!
//! ```no_run
//! use dv_dtls::{Context, Server, ServerConfig, Session};
//! use openssl::ssl::{SslContext, SslFiletype, SslMethod};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut context = SslContext::builder(SslMethod::dtls_server())?;
//! context.set_certificate_chain_file("server.pem")?;
//! context.set_private_key_file("server.key", SslFiletype::PEM)?;
//! let echo = |context: &mut Context<'_>, session: Session, message: &[u8]| {
//!     let _ = context.send(session, message);
//! };
//! let server = Server::new(context.build(), ServerConfig::default(), echo)?;
//! server.bind("[::]:4433")?;
//! server.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! Limits and deadlines are in [`Settings`], [`Config`] and [`ServerConfig`]; `docs/operations.md` says what each is for, and
//! what [`Stats`] counts. `examples/` has larger programs.
//!
//! The third door, the `dv_*` helpers, is for C programs that exist, and the other two can be used from C as well. None of
//! that is shown here: `include/dv_dtls.h` is its manual.
//!
//! # The rooms
//!
//! From the wire upwards; calls go downward only.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`wire`] | what is on the wire, as pure functions over byte slices |
//! | `tls` | the only room that calls libssl and libcrypto |
//! | [`engine`] | who is connected and what happens next; sans-IO |
//! | `net` | sockets and system calls |
//! | `ffi` | the C ABI |

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
