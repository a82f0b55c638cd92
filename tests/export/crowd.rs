//! Many clients, each with a socket of its own, who say something, wait for the answer, and say something else.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dv_dtls::{Config, Connect, ConnectionIds, Endpoint, Event, Session};
use openssl::ssl::SslContext;

use crate::clients::PATIENCE;
use crate::common::process::wait_until;
use crate::contexts;

/// Threads that the clients are divided among.
const THREADS: usize = 2;

/// Handshakes of one thread at once.
const AT_ONCE: usize = 16;

/// A client that hears nothing asks again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

struct Client {
    socket: UdpSocket,
    endpoint: Endpoint,
    session: Session,
    open: bool,
    asked: u64,
    sent: Instant,
    answered: u64,
    heard: Instant,
}

/// What became of them so far.
#[derive(Default)]
pub struct Tally {
    pub open: AtomicUsize,
    pub questions: AtomicUsize,
    pub answers: AtomicUsize,
    pub asked_again: AtomicUsize,
    /// Events that tell of an end, or of another beginning.
    pub noticed: AtomicUsize,
    /// The longest that one has waited for an answer, in milliseconds.
    pub longest_wait: AtomicUsize,
    /// Clients that have an answer to something that they said after [`Crowd::mark`].
    pub since: AtomicUsize,
    marked: AtomicUsize,
    /// Nobody asks any more.
    silence: AtomicBool,
    over: AtomicBool,
}

pub struct Crowd {
    pub tally: Arc<Tally>,
    count: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// So many clients of the server at `to`, when all of them have their session and have been answered.
    pub fn of(count: usize, to: SocketAddr) -> Crowd {
        Crowd::with(count, to, None)
    }

    /// The same, of clients that want connection IDs.
    pub fn with(count: usize, to: SocketAddr, connection_ids: Option<ConnectionIds>) -> Crowd {
        allow_sockets(count);
        let tally = Arc::new(Tally::default());
        let context = contexts::client();
        let threads = (0..THREADS).map(|number| {
            let part = count / THREADS + usize::from(number < count % THREADS);
            let (tally, context) = (tally.clone(), context.clone());
            let config = Config { accept: false, connection_ids: connection_ids.clone(), ..Config::default() };
            thread::spawn(move || run(part, to, &context, &config, &tally))
        });
        let crowd = Crowd { count, threads: threads.collect(), tally };
        crowd.all_are_answered();
        crowd
    }

    /// Waits until each has an answer to something that it said after this.
    pub fn all_are_answered(&self) {
        self.tally.since.store(0, Ordering::SeqCst);
        self.tally.marked.fetch_add(1, Ordering::SeqCst);
        let mut last = (0, Instant::now());
        while self.tally.since.load(Ordering::SeqCst) < self.count {
            // As long as there is progress there is hope.
            let now = self.tally.since.load(Ordering::SeqCst) + self.tally.open.load(Ordering::SeqCst);
            if now > last.0 {
                last = (now, Instant::now());
            }
            assert!(
                last.1.elapsed() < PATIENCE,
                "{} of {} answered",
                self.tally.since.load(Ordering::SeqCst),
                self.count
            );
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client's thread has failed");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets nobody ask any more, and waits until there is an answer to each question: nothing was lost on the way.
    pub fn assert_nothing_is_lost(&self) {
        self.tally.silence.store(true, Ordering::SeqCst);
        let counts = || [&self.tally.answers, &self.tally.questions].map(|count| count.load(Ordering::SeqCst));
        let answered = || {
            let [answers, questions] = counts();
            answers == questions
        };
        wait_until(answered, || format!("{:?} answers and questions", counts()));
    }

    /// Nobody has noticed anything but answers.
    pub fn assert_undisturbed(&self) {
        assert_eq!(self.tally.noticed.load(Ordering::SeqCst), 0);
        assert_eq!(self.tally.open.load(Ordering::SeqCst), self.count);
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.tally.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let outcome = thread.join();
            assert!(thread::panicking() || outcome.is_ok());
        }
    }
}

fn run(count: usize, to: SocketAddr, context: &SslContext, config: &Config, tally: &Tally) {
    let begin = Instant::now();
    let now = || begin.elapsed().as_micros() as u64 + 1;
    let mut clients: Vec<Client> = Vec::new();
    let mut marks: Vec<(usize, u64)> = Vec::new();
    let (mut datagram, mut message) = ([0; 2048], Vec::new());
    while !tally.over.load(Ordering::SeqCst) {
        while clients.len() < count && clients.iter().filter(|client| !client.open).count() < AT_ONCE {
            clients.push(Client::begin(context, config, to, now()));
            marks.push((0, 0));
        }
        let marked = tally.marked.load(Ordering::SeqCst);
        let mut quiet = true;
        for (client, mark) in clients.iter_mut().zip(&mut marks) {
            // With nobody there, the kernel says so: what was said is lost.
            while let Ok(len) = client.socket.recv(&mut datagram) {
                client.endpoint.receive(now(), &datagram[..len], to, None);
                quiet = false;
            }
            if client.endpoint.deadline() <= now() {
                client.endpoint.advance(now());
            }
            while let Some(event) = client.endpoint.event(&mut message) {
                match event {
                    Event::Opened { .. } if !client.open => {
                        client.open = true;
                        tally.open.fetch_add(1, Ordering::SeqCst);
                        client.ask(1, tally);
                    }
                    // An answer to what was asked twice may come twice.
                    Event::Message { .. } => client.hear(&message, tally),
                    _ => drop(tally.noticed.fetch_add(1, Ordering::SeqCst)),
                }
            }
            if mark.0 < marked && client.open {
                *mark = (marked, client.asked);
            }
            if mark.0 == marked && client.answered > mark.1 && mark.1 < u64::MAX {
                mark.1 = u64::MAX;
                tally.since.fetch_add(1, Ordering::SeqCst);
            }
            let late = client.open && client.answered < client.asked && client.sent.elapsed() > ASK_AGAIN;
            if late && !tally.silence.load(Ordering::SeqCst) {
                tally.asked_again.fetch_add(1, Ordering::SeqCst);
                client.ask(client.asked, tally);
            }
            client.transmit();
        }
        if quiet {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Client {
    fn begin(context: &SslContext, config: &Config, to: SocketAddr, now: u64) -> Client {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut endpoint = Endpoint::new(context.clone(), config.clone()).unwrap();
        let session = endpoint.connect(now, &Connect::to(to)).unwrap();
        let (sent, heard) = (Instant::now(), Instant::now());
        let mut client = Client { socket, endpoint, session, open: false, asked: 0, sent, answered: 0, heard };
        client.transmit();
        client
    }

    fn ask(&mut self, number: u64, tally: &Tally) {
        if number > self.asked {
            self.heard = Instant::now();
        }
        self.asked = number;
        self.sent = Instant::now();
        // When the session is over, that was noticed.
        if self.endpoint.send(self.session, &number.to_be_bytes()).is_ok() {
            tally.questions.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn hear(&mut self, message: &[u8], tally: &Tally) {
        let number = u64::from_be_bytes(message.try_into().unwrap());
        assert!(number <= self.asked);
        tally.answers.fetch_add(1, Ordering::SeqCst);
        if number == self.asked && self.answered < number {
            self.answered = number;
            tally.longest_wait.fetch_max(self.heard.elapsed().as_millis() as usize, Ordering::SeqCst);
            if !tally.silence.load(Ordering::SeqCst) {
                self.ask(number + 1, tally);
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.endpoint.transmit(1) {
            let _ = self.socket.send(transmit.bytes);
        }
    }
}

/// Lets this process have so many sockets.
fn allow_sockets(count: usize) {
    // SAFETY: the limit is filled by the first call and read by the second.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        let wanted = count as libc::rlim_t + 200;
        assert!(limit.rlim_max >= wanted, "{count} sockets: this user may have {} files", limit.rlim_max);
        limit.rlim_cur = limit.rlim_cur.max(wanted);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}
