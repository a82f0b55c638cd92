//! A worker: one thread, its own sockets, its own endpoint.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use super::handler::{Context, Handler};
use super::mailbox::{Letter, Letters, Mailbox};
use super::server::{Shared, SocketCounters};
use super::share::Share;
use super::socket::Port;
use super::steer::HANDSHAKE;
use super::sys::batch::{Inbound, Received};
use super::sys::udp::{Waiting, wait};
use super::sys::{self, precise_now};
use crate::engine::endpoint::{Endpoint, Error, Event};
use crate::log;
use crate::wire::datagrams::Datagrams;

/// Batches that are read from a socket before the next one has its turn.
const READS: usize = 4;

/// Handshakes have their turn for so many microseconds, then established peers have theirs.
const SLICE: u64 = 1000;

/// What hellos without a cookie take of the handshakes' share counts so often: a flood of them shall leave most of it to
/// those who have shown where they are.
const STRANGERS_PAY: u64 = 3;

/// Bytes of handshakes that wait for their turn outside of the kernel.
const HELD_BYTES: usize = 1 << 20;

/// After a stop, so many microseconds remain to send the last words.
const GOODBYE: u64 = 1_000_000;

/// Sessions that are told goodbye before what is said leaves.
const GOODBYES_AT_ONCE: usize = 256;

/// See the [module](self).
pub struct Worker {
    number: usize,
    endpoint: Endpoint,
    ports: Vec<Port>,
    shared: Arc<Shared>,
    handler: Arc<dyn Handler>,
    inbound: Inbound,
    held: Held,
    share: Share,
    letters: Letters,
    message: Vec<u8>,
    /// When there is no more waiting for sessions to end by themselves.
    drained_by: Option<u64>,
}

/// Datagrams of handshakes that wait for their turn.
#[derive(Default)]
struct Held {
    datagrams: Datagrams,
    addresses: Vec<(SocketAddr, Option<IpAddr>)>,
    taken: usize,
    /// They are all hellos without a cookie.
    of_strangers: bool,
}

impl Worker {
    /// A worker that has no address yet.
    pub fn new(number: usize, endpoint: Endpoint, shared: Arc<Shared>, handler: Arc<dyn Handler>) -> Worker {
        Worker {
            number,
            endpoint,
            ports: Vec::new(),
            shared,
            handler,
            inbound: Inbound::new(),
            held: Held::default(),
            share: Share::new(precise_now()),
            letters: Letters::default(),
            message: Vec::new(),
            drained_by: None,
        }
    }

    /// Gives the worker its part of an address.
    pub fn add(&mut self, port: Port) {
        self.ports.push(port);
    }

    /// Serves until the server is stopped. Gives back the sockets, which the other workers' may still need beside them.
    pub fn run(mut self) -> Result<Vec<Port>, Error> {
        let mut waiting: Vec<Waiting> = vec![self.mailbox().bell().waiting()];
        for port in &self.ports {
            let sockets = std::iter::once(&port.data).chain(&port.handshakes);
            waiting.extend(sockets.map(|socket| Waiting::on(socket.as_fd())));
        }
        while !self.is_over() {
            self.wait(&mut waiting)?;
            let now = precise_now();
            if waiting[0].readable() {
                self.read_letters(now);
            }
            if self.endpoint.deadline() <= now {
                self.endpoint.advance(now);
                self.tell();
            }
            let mut next = 1;
            for port in 0..self.ports.len() {
                if waiting[next].readable() {
                    self.read_data(port);
                }
                next += 1;
                for socket in 0..self.ports[port].handshakes.len() {
                    if waiting[next].readable() && self.held.is_empty() {
                        self.read_handshakes(port, socket);
                    }
                    next += 1;
                }
            }
            self.work_on_handshakes();
            self.transmit();
            self.shared.set_handshakes(self.number, self.endpoint.handshakes());
            if log::waiting() {
                log::flush();
            }
        }
        self.say_goodbye(&mut waiting)?;
        Ok(self.ports)
    }

    fn is_over(&self) -> bool {
        self.shared.is_stopping()
            || self.drained_by.is_some_and(|time| precise_now() >= time || self.endpoint.sessions().next().is_none())
    }

    /// Waits until there is something to do.
    fn wait(&mut self, waiting: &mut [Waiting]) -> Result<(), Error> {
        let now = precise_now();
        let turn = self.share.wait(now);
        let mut next = 1;
        for port in &self.ports {
            waiting[next].want(true, !port.outbound.is_empty());
            next += 1;
            for _ in &port.handshakes {
                waiting[next].want(turn == 0 && self.held.is_empty(), false);
                next += 1;
            }
        }
        let due = self.endpoint.deadline().min(self.drained_by.unwrap_or(u64::MAX));
        let mut timeout = if due == u64::MAX { due } else { due.saturating_sub(now) };
        // With a turn to come, what waits in the kernel is looked after then.
        if turn > 0 || !self.held.is_empty() {
            timeout = timeout.min(turn);
        }
        Ok(wait(waiting, timeout)?)
    }

    /// Reads what established peers have sent, and at a socket that nothing is steered to or from, handshakes as well.
    fn read_data(&mut self, port: usize) {
        for _ in 0..READS {
            let Port { data, handshakes, .. } = &self.ports[port];
            let steered = !handshakes.is_empty();
            let count = match self.inbound.receive(data.as_fd()) {
                Ok(count) => count,
                // ICMP errors of single peers are reported here, too. They are told once, and the loop goes on.
                Err(_) => break,
            };
            self.counters().batches_in.add(1);
            let now = precise_now();
            let before = self.shared.counters(self.number).messages_in.get();
            for i in 0..count {
                let Some(received) = self.inbound.get(i) else { continue };
                let to = self.ports[port].addressed(received.to);
                count_drops(&mut self.ports[port].data, &received, self.shared.sockets(self.number));
                for datagram in received.datagrams() {
                    if self.shared.hand_over(self.number, received.from, to, datagram) {
                        continue;
                    }
                    if !steered && datagram.first() == Some(&HANDSHAKE) {
                        if !self.held.push(received.from, to, datagram) {
                            self.shared.sockets(self.number).handshakes_shed.add(1);
                        }
                        continue;
                    }
                    self.endpoint.receive(now, datagram, received.from, to);
                    tell(&mut self.endpoint, &mut self.message, &self.shared, self.number, &*self.handler);
                }
            }
            if self.shared.counters(self.number).messages_in.get() != before {
                self.share.heard(now);
            }
            self.transmit();
            if count < sys::batch::BATCH {
                break;
            }
        }
    }

    /// Reads a batch of what was steered to one of the sockets for handshakes.
    fn read_handshakes(&mut self, port: usize, socket: usize) {
        let Ok(count) = self.inbound.receive(self.ports[port].handshakes[socket].as_fd()) else { return };
        self.counters().batches_in.add(1);
        // The last socket is that for hellos without a cookie.
        self.held.of_strangers = socket + 1 == self.ports[port].handshakes.len();
        for i in 0..count {
            let Some(received) = self.inbound.get(i) else { continue };
            let to = self.ports[port].addressed(received.to);
            count_drops(&mut self.ports[port].handshakes[socket], &received, self.shared.sockets(self.number));
            for datagram in received.datagrams() {
                if !self.held.push(received.from, to, datagram) {
                    self.shared.sockets(self.number).handshakes_shed.add(1);
                }
            }
        }
    }

    /// Gives handshakes their share of the time.
    fn work_on_handshakes(&mut self) {
        let begin = precise_now();
        if self.held.is_empty() || self.share.wait(begin) > 0 {
            return;
        }
        let mut now = begin;
        while now < begin + SLICE
            && let Some((from, to, datagram)) = self.held.pop()
        {
            self.endpoint.receive(now, datagram, from, to);
            tell(&mut self.endpoint, &mut self.message, &self.shared, self.number, &*self.handler);
            now = precise_now();
        }
        self.transmit();
        let price = if self.held.of_strangers { STRANGERS_PAY } else { 1 };
        self.share.spent((precise_now() - begin) * price);
    }

    fn read_letters(&mut self, now: u64) {
        let mut letters = std::mem::take(&mut self.letters);
        self.mailbox().take(&mut letters);
        let sockets = self.shared.sockets(self.number);
        letters.drain(|letter, message| match letter {
            Letter::Send(session) => {
                sockets.messages_refused.add(self.endpoint.send(session, message).is_err().into());
            }
            Letter::Close(session) => {
                let _ = self.endpoint.close(session);
            }
            Letter::Receive(from, to) => {
                // Where it has no socket to answer from, the session stays where it is.
                if self.ports.iter().any(|port| port.serves(from, to)) {
                    self.endpoint.receive(now, message, from, to);
                }
            }
            Letter::Reload(context, secret) => {
                // Whoever reloads has checked the context.
                let _ = self.endpoint.set_context(context);
                secret.iter().for_each(|secret| self.endpoint.set_cookie_secret(now, secret));
            }
            Letter::Drain(deadline) => {
                self.endpoint.stop_accepting();
                self.drained_by = Some(deadline);
            }
        });
        self.letters = letters;
        self.endpoint.advance(now);
        self.tell();
    }

    fn tell(&mut self) {
        tell(&mut self.endpoint, &mut self.message, &self.shared, self.number, &*self.handler);
    }

    /// Sends what has to leave, as far as the kernel takes it. The rest waits at the endpoint, which bounds it.
    fn transmit(&mut self) {
        let mut more = true;
        while more {
            more = false;
            while !self.ports.iter().any(|port| port.outbound.is_full())
                && let Some(transmit) = self.endpoint.transmit(segments_max(&self.ports))
            {
                let port = self.ports.iter_mut().find(|port| port.serves(transmit.to, transmit.from));
                // Its port is there as long as its worker.
                let Some(port) = port else { continue };
                let source = port.source(transmit.from);
                port.outbound.push(transmit.to, source, transmit.segment_size, transmit.bytes);
                more = true;
            }
            for port in &mut self.ports {
                more &= send(port, self.shared.sockets(self.number)) || port.outbound.is_empty();
            }
        }
    }

    /// Ends all sessions, and sends what is to be said about it as long as there is time.
    fn say_goodbye(&mut self, waiting: &mut [Waiting]) -> Result<(), Error> {
        let deadline = precise_now() + GOODBYE;
        self.endpoint.stop_accepting();
        let sessions: Vec<_> = self.endpoint.sessions().collect();
        for some in sessions.chunks(GOODBYES_AT_ONCE) {
            some.iter().for_each(|session| drop(self.endpoint.close(*session)));
            self.tell();
            self.transmit();
            while self.ports.iter().any(|port| !port.outbound.is_empty()) && precise_now() < deadline {
                let mut next = 1;
                for port in &self.ports {
                    waiting[next].want(false, !port.outbound.is_empty());
                    next += 1;
                    for _ in &port.handshakes {
                        waiting[next].want(false, false);
                        next += 1;
                    }
                }
                wait(&mut waiting[1..], deadline.saturating_sub(precise_now()))?;
                self.transmit();
            }
        }
        Ok(())
    }

    fn mailbox(&self) -> &Mailbox {
        self.shared.mailbox(self.number)
    }

    fn counters(&self) -> &SocketCounters {
        self.shared.sockets(self.number)
    }
}

/// Tells the program what has happened.
fn tell(endpoint: &mut Endpoint, message: &mut Vec<u8>, shared: &Shared, worker: usize, handler: &dyn Handler) {
    while let Some(event) = endpoint.event(message) {
        let session = event.session();
        let mut context = Context { endpoint, shared, worker };
        match event {
            Event::Opened { .. } => {
                shared.mailbox(worker).opened(session);
                handler.open(&mut context, session);
            }
            Event::Message { .. } => handler.message(&mut context, session, message),
            Event::Moved { .. } => handler.moved(&mut context, session),
            Event::Closed { reason, .. } => {
                shared.mailbox(worker).over(session);
                handler.close(&mut context, session, reason);
            }
        }
    }
}

fn segments_max(ports: &[Port]) -> usize {
    ports.iter().map(|port| port.segments_max).min().unwrap_or(1)
}

fn count_drops(socket: &mut super::socket::Socket, received: &Received<'_>, counters: &SocketCounters) {
    if let Some(dropped) = received.dropped {
        counters.kernel_drops.add(socket.newly_dropped(dropped).into());
    }
}

/// Gives the kernel what waits at a port. Says whether all of it has left; otherwise the rest waits for room.
fn send(port: &mut Port, counters: &SocketCounters) -> bool {
    let mut errors = 0;
    while !port.outbound.is_empty() {
        counters.batches_out.add(1);
        let Err(error) = port.outbound.send(port.data.as_fd()) else {
            errors = 0;
            continue;
        };
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                counters.socket_full.add(1);
                return false;
            }
            Some(libc::EINTR) => {}
            // A device or a path that cannot do with trains of datagrams gets single ones, from now on.
            Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP) if port.outbound.cut() => {
                port.segments_max = 1;
            }
            // The first error may be an ICMP message about an earlier datagram, and this one has not been tried yet.
            _ if errors == 0 => errors += 1,
            _ => {
                counters.datagrams_refused.add(port.outbound.skip() as u64);
                errors = 0;
            }
        }
    }
    true
}

impl Held {
    fn is_empty(&self) -> bool {
        self.taken == self.addresses.len()
    }

    /// Adds a datagram, where there is room.
    fn push(&mut self, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) -> bool {
        if self.datagrams.total_len() + datagram.len() > HELD_BYTES {
            return false;
        }
        self.datagrams.push(datagram);
        self.addresses.push((from, to));
        true
    }

    fn pop(&mut self) -> Option<(SocketAddr, Option<IpAddr>, &[u8])> {
        if self.taken == self.addresses.len() {
            self.datagrams.clear();
            self.addresses.clear();
            self.taken = 0;
        }
        let &(from, to) = self.addresses.get(self.taken)?;
        self.taken += 1;
        Some((from, to, self.datagrams.get(self.taken - 1)?))
    }
}
