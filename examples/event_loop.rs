//! The endpoint in a loop of the program's own, beside what else the loop waits for: here signals and the terminal.

use std::io::{BufRead, stdin};
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use dv_dtls::{Config, Endpoint, Event};
use signals::{ENDING, Signals};

#[macro_use]
mod support;
#[path = "support/poll.rs"]
mod poll;
#[path = "support/signals.rs"]
mod signals;

const HELP: &str = concat!(
    "\
event_loop [OPTIONS]
  A DTLS server on one socket, in an epoll loop. Prints what clients send, and sends each line of the terminal to all of
  them. SIGINT, SIGTERM and the end of the terminal's input end it.
  --host ADDR            the address to listen on (127.0.0.1)
  --port N               the UDP port; 0 picks a free one (4433)
",
    identity_help!()
);

const SOCKET: u64 = 0;
const TERMINAL: u64 = 1;
const SIGNALS: u64 = 2;

/// So many datagrams are taken before what they bring about is sent: a flood must not keep the loop here.
const BATCH: usize = 16;

fn main() -> Result<(), support::Failure> {
    let mut args = support::Args::new(HELP);
    let address: (IpAddr, u16) =
        (args.or("--host", [127, 0, 0, 1].into()), args.number("--port", 0..=65535).unwrap_or(4433));
    let identity = support::Identity::take(&mut args);
    args.finish();

    let mut endpoint = Endpoint::new(identity.context()?, Config::default())?;
    let socket = UdpSocket::bind(address).map_err(|why| format!("{}:{}: {why}", address.0, address.1))?;
    socket.set_nonblocking(true)?;
    let poll = poll::Poll::new()?;
    poll.add(&socket, SOCKET)?;
    let signals = Signals::block(&ENDING)?;
    poll.add(&signals, SIGNALS)?;
    poll.add(stdin(), TERMINAL)
        .map_err(|why| format!("standard input, which has to be a terminal or a pipe: {why}"))?;
    println!("listening on {}", socket.local_addr()?);

    let began = Instant::now();
    let now = || began.elapsed().as_micros() as u64;
    let mut bytes = Vec::new();
    let mut serving = true;
    while serving {
        // 1. Wait, at most until the endpoint has something to do by itself.
        let due = endpoint.deadline();
        let timeout = (due != u64::MAX).then(|| Duration::from_micros(due.saturating_sub(now())));
        for ready in poll.wait(timeout)? {
            match ready {
                // 2. Give it what has come in.
                SOCKET => {
                    let mut datagram = [0; 1 << 16];
                    for _ in 0..BATCH {
                        let Ok((len, from)) = socket.recv_from(&mut datagram) else { break };
                        endpoint.receive(now(), &datagram[..len], from, None);
                    }
                }
                SIGNALS => serving = false,
                _ => {
                    // All that was read, or epoll would not tell of the rest.
                    let mut terminal = stdin().lock();
                    let typed = terminal.fill_buf()?.to_vec();
                    terminal.consume(typed.len());
                    serving &= !typed.is_empty();
                    let sessions: Vec<_> = endpoint.sessions().collect();
                    for line in typed.split_inclusive(|byte| *byte == b'\n') {
                        for session in &sessions {
                            if let Err(error) = endpoint.send(*session, line) {
                                println!("{}: {error}", endpoint.info(*session)?.peer());
                            }
                        }
                    }
                }
            }
        }
        endpoint.advance(now());
        if !serving {
            let sessions: Vec<_> = endpoint.sessions().collect();
            sessions.into_iter().try_for_each(|session| endpoint.close(session))?;
        }
        // 3. Take what has happened.
        while let Some(event) = endpoint.event(&mut bytes) {
            let peer = endpoint.info(event.session())?.peer();
            match event {
                Event::Opened { .. } => println!("{peer} is here"),
                Event::Message { .. } => println!("{peer}: {}", String::from_utf8_lossy(&bytes).escape_debug()),
                Event::Moved { .. } => println!("{peer} has come from elsewhere"),
                Event::Closed { reason, .. } => println!("{peer} is gone: {reason:?}"),
            }
        }
        // 4. Send what has to leave. A datagram that the socket does not take is lost, as it might be later on.
        while let Some(transmit) = endpoint.transmit(1) {
            let _ = socket.send_to(transmit.bytes, transmit.to);
        }
    }
    Ok(())
}
