//! A message of one session goes to all others, whichever worker has them.

use std::net::IpAddr;
use std::sync::{Arc, RwLock};

use dv_dtls::{CloseReason, Context, Handler, Server, ServerConfig, Session};
use signals::{ENDING, Signals};

#[macro_use]
mod support;
#[path = "support/signals.rs"]
mod signals;

const HELP: &str = concat!(
    "\
chat [OPTIONS]
  A room: what one client says, all others hear (try openssl s_client -dtls1_2). SIGINT and SIGTERM end it.
  --host ADDR            the address to listen on (::, which takes IPv4 as well)
  --port N               the UDP port; 0 picks a free one (4433)
  --workers N            worker threads (2)
",
    identity_help!()
);

/// Everybody who is there.
#[derive(Default)]
struct Room(RwLock<Vec<Session>>);

impl Room {
    fn say(&self, context: &mut Context<'_>, from: Session, text: &[u8]) {
        let all = self.0.read().unwrap();
        for session in all.iter().filter(|session| **session != from) {
            // Who has left meanwhile, or has too much waiting, misses it.
            let _ = context.send(*session, text);
        }
    }

    fn name(context: &Context<'_>, session: Session) -> String {
        context.info(session).map_or_else(|_| "somebody".to_owned(), |info| info.peer().to_string())
    }
}

impl Handler for Room {
    fn open(&self, context: &mut Context<'_>, session: Session) {
        self.0.write().unwrap().push(session);
        let text = format!("{} has come", Room::name(context, session));
        self.say(context, session, text.as_bytes());
    }

    fn message(&self, context: &mut Context<'_>, session: Session, message: &[u8]) {
        let mut text = format!("{}: ", Room::name(context, session)).into_bytes();
        text.extend_from_slice(message);
        self.say(context, session, &text);
    }

    fn close(&self, context: &mut Context<'_>, session: Session, _reason: CloseReason) {
        self.0.write().unwrap().retain(|other| *other != session);
        let text = format!("{} has left", Room::name(context, session));
        self.say(context, session, text.as_bytes());
    }
}

fn main() -> Result<(), support::Failure> {
    let mut args = support::Args::new(HELP);
    let address: (IpAddr, u16) =
        (args.or("--host", [0u16; 8].into()), args.number("--port", 0..=65535).unwrap_or(4433));
    let config = ServerConfig { workers: args.number("--workers", 1..=256).unwrap_or(2), ..ServerConfig::default() };
    let identity = support::Identity::take(&mut args);
    args.finish();

    let ending = Signals::block(&ENDING)?;
    let server = Arc::new(Server::new(identity.context()?, config, Room::default())?);
    println!("listening on {}", server.bind(address)?);
    ending.then_stop(server.clone());
    Ok(server.run()?)
}
