//! A DTLS server that sends each message back: the server door.

use std::net::IpAddr;

use dv_dtls::{Context, Server, ServerConfig, Session};

#[macro_use]
mod support;

const HELP: &str = concat!(
    "\
echo_server [OPTIONS]
  Sends each message back to whom it came from, until it is killed.
  --host ADDR            the address to listen on (::, which takes IPv4 as well)
  --port N               the UDP port; 0 takes a free one (4433)
  --workers N            threads (1)
  --no-offload           do without UDP_GRO and UDP_SEGMENT
  --no-steering          let handshakes and messages share a socket
",
    identity_help!()
);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = support::Args::new(HELP);
    let host: IpAddr = args.or("--host", IpAddr::from([0u16; 8]));
    let port: u16 = args.or("--port", 4433);
    let config = ServerConfig {
        workers: args.or("--workers", 1),
        offload: !args.flag("--no-offload"),
        steer_handshakes: !args.flag("--no-steering"),
        ..ServerConfig::default()
    };
    let identity = support::Identity::take(&mut args);
    args.finish();

    let echo = |context: &mut Context<'_>, session: Session, message: &[u8]| {
        // A message that does not leave is lost like any datagram.
        let _ = context.send(session, message);
    };
    let server = Server::new(identity.context()?, config, echo)?;
    println!("listening on {}", server.bind((host, port))?);
    Ok(server.run()?)
}
