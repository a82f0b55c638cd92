//! A worker: one thread, its own sockets, its own endpoint.

mod handover;
mod letters;

use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::letters::Parked;
use super::export::Order;
use super::handler::{Context, Handler};
use super::mailbox::{Letters, Mailbox, Request};
use super::shared::{Desk, Shared, SocketCounters};
use super::socket::Port;
use super::sys::batch::{Inbound, Received};
use super::sys::precise_now;
use super::sys::udp::Waiting;
use super::time_share::TimeShare;
use crate::engine::endpoint::{Endpoint, Error, Event, Session};
use crate::log;
use crate::wire::queue::Tagged;
use crate::wire::record::content_type::HANDSHAKE;

/// The most batches that are read from a socket before the next one has its turn.
const READS: usize = 4;

/// Handshakes have their turn for so many microseconds, then established peers have theirs.
const SLICE: u64 = 1000;

/// Time spent on hellos without a cookie is charged this many times over, so that a flood of them leaves most of the
/// handshakes' share to peers that have returned a cookie.
const STRANGERS_PAY: u64 = 3;

/// The most bytes of handshakes that wait for their turn outside of the kernel.
const HELD_BYTES: usize = 1 << 20;

/// After a stop, the last datagrams must have left within so many microseconds.
const GOODBYE: u64 = 1_000_000;

/// The most sessions that are closed before their close_notify alerts are sent.
const GOODBYES_AT_ONCE: usize = 256;

/// The index of the mailbox's bell in what is waited for; the sockets follow it.
const BELL: usize = 0;

/// See the [module](self).
pub struct Worker {
    service: Service,
    ports: Vec<Port>,
    inbound: Inbound,
    held: Held,
    share: TimeShare,
    /// Letters that were taken from the mailbox and not read yet, and whether there may be more there, or requests.
    letters: Letters,
    rung: bool,
    /// Those of sessions that have no room.
    parked: Parked,
    /// Nothing more can be done about all these before something has left.
    stuck: bool,
    /// When the sessions that are still open are closed.
    drained_by: Option<u64>,
    /// An export that waits to be made.
    wanted: Option<Order>,
}

/// The sessions of a worker, and the program that they are for.
struct Service {
    number: usize,
    endpoint: Endpoint,
    shared: Arc<Shared>,
    handler: Arc<dyn Handler>,
    message: Vec<u8>,
}

/// Datagrams of handshakes that wait for their turn.
#[derive(Default)]
struct Held {
    /// Each with the peer and the address of ours that it came to.
    datagrams: Tagged<(SocketAddr, Option<IpAddr>)>,
    /// They are all hellos without a cookie.
    of_strangers: bool,
}

impl Worker {
    /// A worker that has no address yet.
    pub fn new(number: usize, endpoint: Endpoint, shared: Arc<Shared>, handler: Arc<dyn Handler>) -> Worker {
        Worker {
            service: Service { number, endpoint, shared, handler, message: Vec::new() },
            ports: Vec::new(),
            inbound: Inbound::new(),
            held: Held::default(),
            share: TimeShare::new(precise_now()),
            letters: Letters::default(),
            rung: false,
            parked: Parked::default(),
            stuck: false,
            drained_by: None,
            wanted: None,
        }
    }

    /// Gives the worker its part of an address.
    pub fn add(&mut self, port: Port) {
        self.ports.push(port);
        self.service.endpoint.set_sockets(self.ports.iter().map(|port| port.local).collect());
    }

    /// Serves until the server is stopped, and says goodbye, whatever the end was. Gives back the sockets, which the other
    /// workers' may still need beside them.
    pub fn run(mut self) -> Result<Vec<Port>, Error> {
        let sockets = self.ports.iter().flat_map(|port| iter::once(&port.data).chain(&port.handshakes));
        let mut waiting = Waiting::on(iter::once(self.mailbox().bell().as_fd()).chain(sockets.map(AsFd::as_fd)));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let served = self.serve(&mut waiting);
            let said = self.say_goodbye(&mut waiting);
            served.and(said)
        }));
        if outcome.is_err() {
            // A handler that has panicked is not called again.
            self.service.handler = Arc::new(|_: &mut Context<'_>, _: Session, _: &[u8]| {});
            let _ = catch_unwind(AssertUnwindSafe(|| self.say_goodbye(&mut waiting)));
        }
        outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(self.ports)
    }

    fn serve(&mut self, waiting: &mut Waiting) -> Result<(), Error> {
        waiting.want(BELL, true, false);
        // Sessions that were imported are opened.
        self.service.tell();
        while !self.is_over() {
            self.wait(waiting)?;
            let now = precise_now();
            if waiting.readable(BELL) {
                self.mailbox().bell().hear();
                self.rung = true;
            }
            if self.rung {
                self.do_as_asked(now);
            }
            if self.has_letters() {
                self.read_letters(now);
            }
            if let Some(order) = self.wanted.take()
                && self.hand_over(order, waiting)?
            {
                return Ok(());
            }
            if self.service.endpoint.deadline() <= now {
                self.service.endpoint.advance(now);
                self.service.tell();
            }
            let mut next = BELL + 1;
            for port in 0..self.ports.len() {
                if waiting.readable(next) {
                    self.read_data(port, now);
                }
                next += 1;
                for socket in 0..self.ports[port].handshakes.len() {
                    if waiting.readable(next) && self.held.is_empty() {
                        self.read_handshakes(port, socket);
                    }
                    next += 1;
                }
            }
            self.work_on_handshakes();
            self.transmit();
            self.service.desk().handshakes.store(self.service.endpoint.handshakes(), Ordering::Relaxed);
            if log::waiting() {
                log::flush();
            }
        }
        // After a stop nothing more is sent. After a drain the messages that were accepted are.
        if self.service.shared.is_stopping() { Ok(()) } else { self.finish_letters(waiting) }
    }

    fn is_over(&self) -> bool {
        self.service.shared.is_stopping()
            || self
                .drained_by
                .is_some_and(|time| precise_now() >= time || self.service.endpoint.sessions().next().is_none())
    }

    /// Waits until there is something to do.
    fn wait(&mut self, waiting: &mut Waiting) -> Result<(), Error> {
        let now = precise_now();
        let turn = self.share.wait(now);
        self.want(waiting, true, turn == 0 && self.held.is_empty());
        let due = self.service.endpoint.deadline().min(self.drained_by.unwrap_or(u64::MAX));
        let mut timeout = if due == u64::MAX { due } else { due.saturating_sub(now) };
        if self.can_read_letters() {
            timeout = 0;
        }
        // While handshakes wait for their turn, their sockets are not polled: they are looked at when the turn comes.
        if turn > 0 || !self.held.is_empty() {
            timeout = timeout.min(turn);
        }
        Ok(waiting.wait(timeout)?)
    }

    /// Sets what to wait for: messages, handshakes, and room on sockets where something could not leave.
    fn want(&self, waiting: &mut Waiting, messages: bool, handshakes: bool) {
        let mut next = BELL + 1;
        for port in &self.ports {
            waiting.want(next, messages, !port.outbound.is_empty());
            next += 1;
            for _ in &port.handshakes {
                waiting.want(next, handshakes, false);
                next += 1;
            }
        }
    }

    /// Reads what established peers have sent, and at a socket that nothing is steered to or from, handshakes as well.
    fn read_data(&mut self, port: usize, now: u64) {
        for _ in 0..READS {
            let Port { data, handshakes, .. } = &self.ports[port];
            let steered = !handshakes.is_empty();
            let count = match self.inbound.receive(data.as_fd()) {
                Ok(count) => count,
                // ICMP errors of single peers are reported here, too. Each is reported once, and the loop goes on.
                Err(_) => break,
            };
            self.socket_counters().batches_in.add(1);
            let before = self.service.desk().counters.messages_in.get();
            for i in 0..count {
                let Some(received) = self.inbound.get(i) else { continue };
                let to = self.ports[port].addressed(received.to);
                count_drops(&mut self.ports[port].data, &received, &self.service.desk().sockets);
                for datagram in received.datagrams() {
                    if self.service.shared.hand_over(self.service.number, received.from, to, datagram) {
                        continue;
                    }
                    if !steered && datagram.first() == Some(&HANDSHAKE) {
                        if !self.held.push(received.from, to, datagram) {
                            self.socket_counters().handshakes_shed.add(1);
                        }
                        continue;
                    }
                    self.service.receive(now, datagram, received.from, to);
                }
            }
            if self.service.desk().counters.messages_in.get() != before {
                self.share.heard(now);
            }
            self.transmit();
            // If several came at once, more have probably come meanwhile, and to look is cheaper than to be woken.
            if count == 1 {
                break;
            }
        }
    }

    /// Reads a batch of what was steered to one of the sockets for handshakes.
    fn read_handshakes(&mut self, port: usize, socket: usize) {
        let begin = precise_now();
        let Ok(count) = self.inbound.receive(self.ports[port].handshakes[socket].as_fd()) else { return };
        self.socket_counters().batches_in.add(1);
        // The last socket is that for hellos without a cookie.
        self.held.of_strangers = socket + 1 == self.ports[port].handshakes.len();
        for i in 0..count {
            let Some(received) = self.inbound.get(i) else { continue };
            let to = self.ports[port].addressed(received.to);
            count_drops(&mut self.ports[port].handshakes[socket], &received, &self.service.desk().sockets);
            for datagram in received.datagrams() {
                if !self.held.push(received.from, to, datagram) {
                    self.socket_counters().handshakes_shed.add(1);
                }
            }
        }
        self.charge(begin);
    }

    /// Gives handshakes their share of the time.
    fn work_on_handshakes(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let begin = precise_now();
        if self.share.wait(begin) > 0 {
            return;
        }
        let mut now = begin;
        while now < begin + SLICE
            && let Some(((from, to), datagram)) = self.held.datagrams.pop()
        {
            self.service.receive(now, datagram, from, to);
            now = precise_now();
        }
        self.transmit();
        self.charge(begin);
    }

    /// Charges the time since `begin` to handshakes.
    fn charge(&mut self, begin: u64) {
        let price = if self.held.of_strangers { STRANGERS_PAY } else { 1 };
        self.share.spent((precise_now() - begin) * price);
    }

    /// Does what the server asks for.
    fn do_as_asked(&mut self, now: u64) {
        for request in self.mailbox().take_requests() {
            match request {
                Request::Reload(context, secret) => {
                    // Whoever reloads has checked the context.
                    let _ = self.service.endpoint.set_context(context);
                    secret.iter().for_each(|secret| self.service.endpoint.set_cookie_secret(now, secret));
                }
                Request::Drain(deadline) => {
                    self.service.endpoint.stop_accepting();
                    self.drained_by = Some(deadline);
                }
                Request::Export(order) => self.wanted = Some(order),
            }
        }
    }

    /// Sends what has to leave, a batch at a time, as far as the kernel takes it. The rest waits at the endpoint, which bounds
    /// it: where one socket is full, the others go on.
    fn transmit(&mut self) {
        let Service { number, endpoint, shared, .. } = &mut self.service;
        let Desk { counters, sockets, .. } = &shared.desks[*number];
        // Twice if there are several ports: a peer may have moved to one that has had its turn.
        for _ in 0..self.ports.len().min(2) {
            for (number, port) in self.ports.iter_mut().enumerate() {
                while port.send(&counters.datagrams_out, sockets) && take_batch(port, number, endpoint) {
                    self.stuck = false;
                }
            }
        }
    }

    /// Closes all sessions, and sends their last datagrams as long as there is time.
    fn say_goodbye(&mut self, waiting: &mut Waiting) -> Result<(), Error> {
        let deadline = precise_now() + GOODBYE;
        waiting.want(BELL, false, false);
        self.service.endpoint.stop_accepting();
        let sessions: Vec<_> = self.service.endpoint.sessions().collect();
        // A last round without sessions, for what still waits if an earlier goodbye was cut short.
        for some in sessions.chunks(GOODBYES_AT_ONCE).chain(iter::once(&[][..])) {
            some.iter().for_each(|session| drop(self.service.endpoint.close(*session)));
            self.service.tell();
            self.transmit();
            self.drain(waiting, deadline)?;
        }
        self.refuse_letters();
        Ok(())
    }

    /// Waits until all that is to leave has left, and reads nothing.
    fn drain(&mut self, waiting: &mut Waiting, deadline: u64) -> Result<(), Error> {
        while self.ports.iter().any(|port| !port.outbound.is_empty()) && precise_now() < deadline {
            self.want(waiting, false, false);
            waiting.wait(deadline.saturating_sub(precise_now()))?;
            self.transmit();
        }
        Ok(())
    }

    fn mailbox(&self) -> &Mailbox {
        &self.service.desk().mailbox
    }

    fn socket_counters(&self) -> &SocketCounters {
        &self.service.desk().sockets
    }
}

impl Service {
    /// Takes a datagram in, and tells the program what comes of it.
    fn receive(&mut self, now: u64, datagram: &[u8], from: SocketAddr, to: Option<IpAddr>) {
        self.endpoint.receive(now, datagram, from, to);
        self.tell();
    }

    /// Tells the program what has happened.
    fn tell(&mut self) {
        let Service { number, endpoint, shared, handler, message } = self;
        while let Some(event) = endpoint.event(message) {
            let session = event.session();
            let mailbox = &shared.desks[*number].mailbox;
            let mut context = Context { endpoint, shared, worker: *number };
            match event {
                Event::Opened { .. } => {
                    mailbox.opened(session);
                    handler.open(&mut context, session);
                }
                Event::Message { .. } => handler.message(&mut context, session, message),
                Event::Moved { .. } => handler.moved(&mut context, session),
                Event::Closed { reason, .. } => {
                    mailbox.over(session);
                    handler.close(&mut context, session, reason);
                }
            }
        }
    }

    fn desk(&self) -> &Desk {
        &self.shared.desks[self.number]
    }
}

/// Fills the port's batch with what is to leave by it; returns whether there is anything to send.
fn take_batch(port: &mut Port, number: usize, endpoint: &mut Endpoint) -> bool {
    while !port.outbound.is_full()
        && let Some(transmit) = endpoint.transmit_on(number, port.segments_max)
    {
        let source = port.source(transmit.from);
        port.outbound.push(transmit.to, source, transmit.segment_size, transmit.bytes);
    }
    !port.outbound.is_empty()
}

fn count_drops(socket: &mut super::socket::Socket, received: &Received<'_>, counters: &SocketCounters) {
    if let Some(dropped) = received.dropped {
        counters.kernel_drops.add(socket.newly_dropped(dropped).into());
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Adds a datagram, where there is room. What goes with each counts as well: somebody may send a flood of single bytes.
    fn push(&mut self, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) -> bool {
        let room = self.datagrams.waiting_len() + datagram.len() < HELD_BYTES;
        if room {
            self.datagrams.push((from, to), datagram);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::slice;
    use std::time::Duration;

    use openssl::ssl::{SslContext, SslMethod};

    use super::*;
    use crate::engine::endpoint::{Config, Connect, ConnectionIds};
    use crate::net::socket::{self, Options};

    pub(super) fn psk(server: bool) -> SslContext {
        let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
        context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
        match server {
            true => context.set_psk_server_callback(|_, _, key| {
                key[..16].fill(1);
                Ok(16)
            }),
            false => context.set_psk_client_callback(|_, _, identity, key| {
                identity[..2].copy_from_slice(b"a\0");
                key[..16].fill(1);
                Ok(16)
            }),
        }
        context.build()
    }

    /// A worker that has no address yet, for so many bytes of letters, and whose handler does nothing.
    pub(super) fn worker(config: Config, waiting_max: usize) -> Worker {
        let endpoint = Endpoint::new(psk(true), config).unwrap();
        let shared = Arc::new(Shared::new(slice::from_ref(&endpoint), waiting_max, None).unwrap());
        Worker::new(0, endpoint, shared, Arc::new(|_: &mut Context<'_>, _: Session, _: &[u8]| {}))
    }

    fn port(address: &str, steer: bool) -> Port {
        let options = Options { workers: 1, buffer: 1 << 18, offload: true, steer, owners: None };
        socket::open(address.parse().unwrap(), true, &options).unwrap().remove(0)
    }

    /// What waits for one socket while its peer comes to another one, which has had its turn, leaves by that at once: nothing
    /// else may ever wake the worker.
    #[test]
    fn what_waits_follows_its_peer_to_another_socket() {
        let ids = Some(ConnectionIds { routability_checks: false, ..ConnectionIds::default() });
        let config = Config { connection_ids: ids, ..Config::default() };
        let mut worker = worker(config.clone(), 1 << 20);
        let [first, second] = ["127.0.0.1:0", "127.0.0.2:0"].map(|address| {
            let port = port(address, false);
            let local = port.local;
            worker.add(port);
            local
        });

        let mut client = Endpoint::new(psk(false), config).unwrap();
        let ours = client.connect(0, &Connect::to(second)).unwrap();
        for now in 1..10 {
            while let Some(transmit) = client.transmit(1) {
                worker.service.endpoint.receive(now, transmit.bytes, ([127, 0, 0, 1], 1).into(), Some(second.ip()));
            }
            while let Some(transmit) = worker.service.endpoint.transmit_on(1, 1) {
                client.receive(now, transmit.bytes, second, None);
            }
        }
        let session = worker.service.endpoint.sessions().next().unwrap();
        worker.service.endpoint.send(session, b"waits").unwrap();
        let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send(ours, b"I am elsewhere now").unwrap();
        let moved = client.transmit(1).unwrap();
        worker.service.endpoint.receive(10, moved.bytes, elsewhere.local_addr().unwrap(), Some(first.ip()));
        worker.transmit();
        elsewhere.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut datagram = [0; 2048];
        let (len, from) = elsewhere.recv_from(&mut datagram).unwrap();
        assert_eq!(from, first);
        client.receive(11, &datagram[..len], from, None);
        let mut message = Vec::new();
        while message != b"waits" {
            client.event(&mut message).unwrap();
        }
    }

    /// More of them than have room until they have their turn, at a socket of their own and beside others.
    #[test]
    fn of_a_flood_of_handshakes_what_has_no_room_is_counted() {
        for steered in [false, true] {
            let mut worker = worker(Config::default(), 1 << 20);
            worker.add(port("127.0.0.1:0", steered));
            assert!(!steered || !worker.ports[0].handshakes.is_empty(), "the kernel steers nothing");
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut sent = 0;
            // Each batch has room in the socket's buffer.
            while sent < 2000 {
                for _ in 0..20 {
                    client.send_to(&[HANDSHAKE; 1000], worker.ports[0].local).unwrap();
                    sent += 1;
                }
                worker.read_data(0, 0);
                (0..worker.ports[0].handshakes.len()).for_each(|socket| worker.read_handshakes(0, socket));
            }
            let shed = worker.socket_counters().handshakes_shed.get();
            assert!(shed > 900 && shed + worker.held.datagrams.len() as u64 == sent, "{shed} of {sent}");
        }
    }

    #[test]
    fn single_bytes_do_not_take_up_more_than_others() {
        let mut held = Held::default();
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        while held.push(from, None, &[22]) {}
        let places = held.datagrams.len() * size_of::<(SocketAddr, Option<IpAddr>)>();
        assert!(places < HELD_BYTES && places > HELD_BYTES / 2, "{places}");
    }
}
