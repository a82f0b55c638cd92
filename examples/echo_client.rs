//! A DTLS client that sends a message and waits for the answer: the endpoint door on a socket of the program's own.

use std::io::ErrorKind;
use std::net::{ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dv_dtls::{Config, Connect, Endpoint, Error, Event};

#[macro_use]
mod support;

const HELP: &str = "\
echo_client [OPTIONS]
  Sends a message to a DTLS server and prints what comes back.
  --host NAME     the server (127.0.0.1)
  --port N        its UDP port (4433)
  --name NAME     DNS name or IP address that the server's certificate must have (that of --host)
  --message TEXT  what to send (hello)
  --count N       how many times (1)
  --timeout S     give up after so many seconds (10)
  --ca FILE       CA certificates to check the server's certificate with (certs/out/ca.pem)
  --crl FILE      revocation lists of these CAs, PEM
  --cert FILE     the certificate to present, PEM
  --key FILE      its private key, PEM (in the same file)
  --psk HEX       the pre-shared key of the identity \"client\", instead of certificates
  --ciphers LIST  cipher suites (those of OpenSSL; with --psk PSK+AESGCM)
  --keylog FILE   write the session's secrets there, for Wireshark: whoever has them can read everything
  -h              this text
  Exit code: 0 answered, 1 set-up failed, 2 wrong usage, 3 no session, 4 not answered";

fn main() -> Result<ExitCode, support::Failure> {
    let mut args = support::Args::new(HELP);
    let host: String = args.or("--host", "127.0.0.1".to_owned());
    let port: u16 = args.number("--port", 1..=65535).unwrap_or(4433);
    let name = args.or("--name", host.clone());
    let message = args.or("--message", "hello".to_owned());
    let count = args.number("--count", 1..=1_000_000_000).unwrap_or(1);
    let timeout = Duration::from_secs(args.number("--timeout", 1..=1_000_000).unwrap_or(10));
    if message.is_empty() {
        args.refuse("--message: a byte at least");
    }
    let context = support::client_context(&mut args)?;
    args.finish();

    let found = (&host[..], port).to_socket_addrs().map_err(|why| format!("--host {host}: {why}"))?.next();
    let server = found.ok_or("no such host")?;
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    // The kernel then drops what others send.
    socket.connect(server)?;

    let began = Instant::now();
    let now = || began.elapsed().as_micros() as u64;
    let mut endpoint = Endpoint::new(context, Config { accept: false, ..Config::default() })?;
    let session = match endpoint.connect(now(), &Connect::to_named(server, &name)) {
        Err(Error::Invalid(why)) => {
            eprintln!("{why}");
            return Ok(ExitCode::from(2));
        }
        begun => begun?,
    };
    let mut answers = 0;
    let mut opened = false;
    let mut over = false;
    let mut refused = "";
    let mut bytes = Vec::new();
    while !over && began.elapsed() < timeout {
        while let Some(event) = endpoint.event(&mut bytes) {
            match event {
                Event::Opened { .. } => {
                    opened = true;
                    let info = endpoint.info(session)?;
                    println!("connected to {}: {}", info.peer(), info.cipher().unwrap_or("?"));
                    endpoint.send(session, message.as_bytes())?;
                }
                Event::Message { .. } if answers == count => {} // More than was asked for.
                Event::Message { .. } => {
                    println!("{}", String::from_utf8_lossy(&bytes).escape_debug());
                    answers += 1;
                    match answers == count {
                        true => endpoint.close(session)?,
                        false => endpoint.send(session, message.as_bytes())?,
                    }
                }
                // Without connection IDs a server does not move.
                Event::Moved { .. } => {}
                Event::Closed { reason, .. } => {
                    if answers < count {
                        let failure = endpoint.info(session)?.failure().unwrap_or_default();
                        eprintln!("the session is over: {reason:?} {failure}");
                    }
                    over = true;
                }
            }
        }
        while let Some(transmit) = endpoint.transmit(1) {
            // What is lost now is sent again when its time has come.
            let _ = socket.send(transmit.bytes);
        }
        if over {
            break;
        }
        let wait = Duration::from_micros(endpoint.deadline().saturating_sub(now()).clamp(1000, 1_000_000));
        socket.set_read_timeout(Some(wait))?;
        let mut datagram = [0; 1 << 16];
        match socket.recv(&mut datagram) {
            Ok(len) => endpoint.receive(now(), &datagram[..len], server, None),
            // Nobody listens, or not yet.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => refused = ": nobody listens there",
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        endpoint.advance(now());
    }
    if !over {
        eprintln!("no {} from {server} in {timeout:?}{refused}", if opened { "answer" } else { "session" });
    }
    let code = match (answers == count, opened) {
        (true, _) => 0,
        (false, true) => 4,
        (false, false) => 3,
    };
    Ok(ExitCode::from(code))
}
