//! Many clients on one socket, each an address of 127.0.0.0/8. What they send together leaves with few system calls, so that
//! a server sees bursts as a network card delivers them, and the load costs little beside what is measured.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::ops::Range;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::SslSession;

use crate::batch::{self, BATCH, Inbox, SEGMENTS, Train};
use crate::client::{Carrier, Client, Profile, Read, Step};
use crate::connect::nth_address;
use crate::echo::Until;
use crate::report::Progress;
use crate::sys::Poll;

/// Handshakes at the same time.
const HANDSHAKES: usize = 16;
/// How often clients in a handshake are looked after whose datagrams were lost.
const LOOK: Duration = Duration::from_millis(50);
/// A handshake takes no longer, or the server does not serve.
const DEADLINE: Duration = Duration::from_secs(30);
/// What DTLS 1.2 with AES-GCM adds to a message; a member without DTLS sends as much.
const RECORD_OVERHEAD: usize = 37;

/// What members of a crowd say.
#[derive(Clone, Copy)]
pub struct Talk {
    /// Bytes in a message.
    pub size: usize,
    /// Messages that a member sends at once.
    pub burst: usize,
    /// Messages of all members that are under way, at most: the server's socket is to hold them.
    pub at_once: usize,
    /// Messages a second, at most.
    pub rate: f64,
    /// How long to wait for replies when none comes.
    pub patience: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said {
    /// Messages whose echo came.
    pub answered: u64,
    /// Messages whose echo did not.
    pub lost: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Datagrams on their way out.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    trains: Vec<(usize, Range<usize>, usize)>,
}

impl Outbox {
    /// Adds a datagram of a member, to his last train if it fits there.
    fn push(&mut self, member: usize, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        let end = self.bytes.len();
        if let Some((whose, range, segment)) = self.trains.last_mut()
            && *whose == member
            && datagram.len() <= *segment
            && range.len().is_multiple_of(*segment)
            && range.len() < (SEGMENTS * *segment).min(60_000 - *segment)
        {
            range.end = end;
        } else {
            self.trains.push((member, end - datagram.len()..end, datagram.len()));
        }
    }
}

/// The way of a member's datagrams.
struct Line {
    member: Cell<usize>,
    outbox: Rc<RefCell<Outbox>>,
    inbox: RefCell<Vec<u8>>,
    full: Cell<bool>,
}

impl Carrier for Line {
    fn send(&self, datagram: &[u8]) {
        self.outbox.borrow_mut().push(self.member.get(), datagram);
    }

    fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        let inbox = self.inbox.borrow();
        let len = inbox.len().min(buffer.len());
        buffer[..len].copy_from_slice(&inbox[..len]);
        self.full.replace(false).then_some(len)
    }
}

impl Line {
    /// Puts a datagram where the client finds it.
    fn deliver(&self, datagram: &[u8]) {
        let mut inbox = self.inbox.borrow_mut();
        inbox.clear();
        inbox.extend_from_slice(datagram);
        self.full.set(true);
    }
}

enum Member {
    /// He speaks DTLS.
    Client(Client<Line>),
    /// He sends plain datagrams.
    Plain,
    /// He has vanished without a word.
    Gone,
}

/// See the [module](self).
pub struct Crowd {
    socket: UdpSocket,
    to: SocketAddrV4,
    poll: Poll,
    outbox: Rc<RefCell<Outbox>>,
    inbox: Inbox,
    members: Vec<Member>,
    rounds: u64,
}

impl Crowd {
    /// A crowd of nobody yet, that talks to the server at `to`.
    pub fn new(to: SocketAddr) -> Result<Self, String> {
        let SocketAddr::V4(to) = to else { return Err("a crowd needs IPv4".to_owned()) };
        let fail = |why: std::io::Error| format!("socket: {why}");
        let (socket, poll) = (batch::bind().map_err(fail)?, Poll::new().map_err(fail)?);
        poll.add(&socket, 0).map_err(fail)?;
        let (outbox, inbox) = (Rc::default(), Inbox::new());
        Ok(Crowd { socket, to, poll, outbox, inbox, members: Vec::new(), rounds: 0 })
    }

    /// How many members have ever joined.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// `count` more, who send plain datagrams.
    pub fn join_plain(&mut self, count: usize) {
        self.members.extend((0..count).map(|_| Member::Plain));
    }

    /// `count` more, who make a handshake each. All must succeed; returns how many resumed a session.
    pub fn join(&mut self, count: usize, profile: &Profile, progress: &mut Progress) -> Result<usize, String> {
        let first = self.members.len();
        self.members.resize_with(first + count, || Member::Gone);
        self.join_again(first..first + count, profile, progress)
    }

    /// The same for clients that come from the addresses of these members, who are gone.
    pub fn join_again(
        &mut self,
        members: Range<usize>,
        profile: &Profile,
        progress: &mut Progress,
    ) -> Result<usize, String> {
        let (count, mut resumed, mut done) = (members.len(), 0, 0);
        let mut coming = members;
        let mut busy: Vec<(usize, Instant)> = Vec::new();
        let mut looked = Instant::now();
        while done < count {
            while busy.len() < HANDSHAKES
                && let Some(member) = coming.next()
            {
                self.begin(member, profile)?;
                busy.push((member, Instant::now()));
            }
            self.flush()?;
            self.wait(LOOK)?;
            let (mut anew, mut over) = (Vec::new(), Vec::new());
            self.receive(|number, member, datagram| {
                let Member::Client(client) = member else { return };
                client.link().deliver(datagram);
                if !busy.iter().any(|(busy, _)| *busy == number) || over.contains(&number) {
                    return;
                }
                match client.handshake() {
                    Step::Done => {
                        resumed += client.resumed() as usize;
                        over.push(number);
                    }
                    Step::Waiting => {}
                    Step::Failed(_) => anew.push(number),
                }
            })?;
            done += over.len();
            busy.retain(|(member, _)| !over.contains(member));
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                for (member, began) in &busy {
                    let Member::Client(client) = &mut self.members[*member] else { continue };
                    if client.timeout().is_some_and(|left| left.is_zero()) && client.handle_timeout().is_err() {
                        anew.push(*member);
                    }
                    if began.elapsed() >= DEADLINE {
                        return Err(format!("a handshake with {} takes longer than {DEADLINE:?}", self.to));
                    }
                }
            }
            for member in anew {
                self.begin(member, profile)?;
            }
            progress.show(|| format!("handshakes: {done} of {count}"));
        }
        self.flush()?;
        Ok(resumed)
    }

    /// Lets a client begin its handshake from a member's address.
    fn begin(&mut self, member: usize, profile: &Profile) -> Result<(), String> {
        let (inbox, full) = (RefCell::default(), Cell::new(false));
        let line = Line { member: Cell::new(member), outbox: self.outbox.clone(), inbox, full };
        let mut client = Client::new(profile, Rc::new(line))?;
        client.handshake();
        self.members[member] = Member::Client(client);
        Ok(())
    }

    /// Lets a member go on from another address, as behind a NAT that has forgotten him; which member he is there.
    pub fn change_address(&mut self, member: usize) -> usize {
        let moved = std::mem::replace(&mut self.members[member], Member::Gone);
        if let Member::Client(client) = &moved {
            client.link().member.set(self.members.len());
        }
        self.members.push(moved);
        self.members.len() - 1
    }

    /// The session of a member.
    pub fn session(&self, member: usize) -> Option<SslSession> {
        match &self.members[member] {
            Member::Client(client) => client.session(),
            _ => None,
        }
    }

    /// Lets members vanish without a word.
    pub fn forget(&mut self, members: Range<usize>, but: impl Fn(usize) -> bool) {
        for member in members {
            if !but(member) {
                self.members[member] = Member::Gone;
            }
        }
    }

    /// Lets members say goodbye.
    pub fn leave(&mut self, members: Range<usize>) -> Result<(), String> {
        for member in members {
            if let Member::Client(client) = std::mem::replace(&mut self.members[member], Member::Gone) {
                client.close();
            }
            if member % BATCH == 0 {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Lets members talk: so many at once that [`Talk::at_once`] messages are under way, then the next ones when all of them
    /// have their echo. An echo that is not what was sent, and a connection that ends, is an error.
    pub fn talk(&mut self, members: &[usize], talk: Talk, until: Until) -> Result<Said, String> {
        let (mut said, mut sent, began) = (Said::default(), 0, Instant::now());
        let (mut buffer, mut wrong) = (vec![0; 1 << 14], None);
        let over = |sent: u64, began: Instant| match until {
            Until::Messages(n) => sent >= n * members.len() as u64,
            Until::Elapsed(limit) => began.elapsed() >= limit,
        };
        let mut groups = members.chunks((talk.at_once / talk.burst).max(1)).cycle();
        while let Some(group) = groups.next().filter(|_| !over(sent, began)) {
            let due = began + Duration::from_secs_f64(sent as f64 / talk.rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let message = self.next_message(talk.size);
            for &number in group {
                for _ in 0..talk.burst {
                    match &mut self.members[number] {
                        Member::Client(client) => client.write(&message[..talk.size])?,
                        Member::Plain => self.outbox.borrow_mut().push(number, &message),
                        Member::Gone => return Err(format!("client {number} has left")),
                    }
                }
            }
            self.flush()?;
            let mut waiting = group.len() * talk.burst;
            sent += waiting as u64;
            while waiting > 0 {
                let got = self.receive(|number, member, datagram| {
                    let mut take = |echo: &[u8]| {
                        // A message of an earlier round was written off.
                        let late = echo.len() > 8 && echo[..8] < message[..8];
                        if !message.starts_with(echo) || echo.len() < talk.size {
                            if !late {
                                wrong = Some(format!("client {number} got {} bytes that he did not send", echo.len()));
                            }
                        } else {
                            waiting = waiting.saturating_sub(1);
                        }
                    };
                    match member {
                        Member::Client(client) => {
                            client.link().deliver(datagram);
                            loop {
                                match client.read(&mut buffer) {
                                    Read::Message(len) => take(&buffer[..len]),
                                    Read::Nothing => break,
                                    Read::Ended(why) => {
                                        wrong = Some(format!("client {number}: {why}"));
                                        break;
                                    }
                                }
                            }
                        }
                        Member::Plain => take(datagram),
                        Member::Gone => {}
                    }
                })?;
                if let Some(wrong) = wrong.take() {
                    return Err(wrong);
                }
                if waiting > 0 && got == 0 && !self.wait(talk.patience)? {
                    break;
                }
            }
            said.answered += (group.len() * talk.burst - waiting) as u64;
            said.lost += waiting as u64;
        }
        said.elapsed = began.elapsed();
        Ok(said)
    }

    /// A message that is not like any before: its number again and again.
    fn next_message(&mut self, size: usize) -> Vec<u8> {
        self.rounds += 1;
        self.rounds.to_be_bytes().into_iter().cycle().take(size + RECORD_OVERHEAD).collect()
    }

    /// Sends what waits.
    fn flush(&mut self) -> Result<(), String> {
        let mut outbox = self.outbox.borrow_mut();
        let Outbox { bytes, trains } = &mut *outbox;
        let leaving: Vec<Train> = trains
            .iter()
            .map(|(member, range, segment)| Train {
                source: nth_address(*member, u32::MAX),
                bytes: &bytes[range.clone()],
                segment: *segment,
            })
            .collect();
        let mut sent = 0;
        while sent < leaving.len() {
            match batch::send(&self.socket, self.to, &leaving[sent..]).map_err(|why| format!("send: {why}"))? {
                0 => thread::sleep(Duration::from_micros(20)),
                some => sent += some,
            }
        }
        trains.clear();
        bytes.clear();
        Ok(())
    }

    /// Waits until something comes; whether it does.
    fn wait(&mut self, patience: Duration) -> Result<bool, String> {
        Ok(self.poll.wait(patience).map_err(|why| format!("epoll: {why}"))?.next().is_some())
    }

    /// Shows each datagram that has come to its member; how many there were.
    fn receive(&mut self, mut each: impl FnMut(usize, &mut Member, &[u8])) -> Result<usize, String> {
        self.inbox.receive(&self.socket, self.to).map_err(|why| format!("receive: {why}"))?;
        let mut count = 0;
        for (to, datagram) in self.inbox.datagrams() {
            let number = (u32::from(to) - u32::from(Ipv4Addr::LOCALHOST)) as usize;
            if let Some(member) = self.members.get_mut(number) {
                each(number, member, datagram);
            }
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends back what comes, but for each twentieth datagram; ends with a datagram of one byte, or when nobody says anything.
    fn echo(socket: &UdpSocket, wrong: bool) {
        let mut buffer = [0; 2048];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for n in 1.. {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else { return };
            if len == 1 {
                return;
            }
            buffer[len - 1] ^= wrong as u8;
            if n % 20 != 0 {
                socket.send_to(&buffer[..len], from).unwrap();
            }
        }
    }

    fn said(wrong: bool) -> Result<Said, String> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| echo(&socket, wrong));
            let mut crowd = Crowd::new(at).unwrap();
            crowd.join_plain(5);
            let talk = Talk { size: 64, burst: 4, at_once: 8, rate: f64::MAX, patience: Duration::from_secs(2) };
            let said = crowd.talk(&[0, 1, 2, 3, 4], talk, Until::Messages(8));
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0], at).unwrap();
            said
        })
    }

    #[test]
    fn what_is_answered_and_what_is_lost_is_counted() {
        let said = said(false).unwrap();
        assert_eq!((said.answered, said.lost), (38, 2));
    }

    #[test]
    fn an_echo_must_be_what_was_sent() {
        assert!(said(true).unwrap_err().contains("did not send"));
    }

    #[test]
    fn datagrams_of_a_member_leave_in_trains() {
        let mut outbox = Outbox::default();
        for (member, len) in [(0, 10), (0, 10), (0, 4), (0, 10), (1, 10), (1, 11), (0, 11)] {
            outbox.push(member, &vec![0; len]);
        }
        let trains: Vec<_> =
            outbox.trains.iter().map(|(member, range, segment)| (*member, range.len(), *segment)).collect();
        assert_eq!(trains, [(0, 24, 10), (0, 10, 10), (1, 10, 10), (1, 11, 11), (0, 11, 11)]);
        (0..1000).for_each(|_| outbox.push(7, &[0; 1037]));
        assert!(outbox.trains.iter().all(|(_, range, _)| range.len() <= 60_000));
    }
}
