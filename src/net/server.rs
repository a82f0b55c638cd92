//! The server door: sockets, worker threads and the loop, with the engine's endpoint in each of them.

use std::mem;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use foreign_types::ForeignType;
use openssl::ssl::SslContext;

use super::export::Verdict;
use super::handler::Handler;
use super::mailbox::Request;
use super::shared::Shared;
pub use super::shared::SocketStats;
use super::socket::{self, Options, Port};
use super::steer::Owners;
use super::sys::{precise_now, unix_offset};
use super::worker::Worker;
use crate::engine::endpoint::{Config, CookieSecret, Endpoint, Error, NUMBERED_SESSIONS_MAX, Session};
use crate::engine::settings::{Settings, micros};
use crate::engine::stats::Stats;
use crate::guard::lock;
use crate::tls::cause::Cause;
use crate::tls::fork;
use crate::tls::secret::FleetSecret;

/// Workers that the number of a session has room for.
pub const WORKERS_MAX: usize = 256;

/// How a server is to behave.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// How its endpoints are to behave. The limits of sessions and handshakes are those of the whole server, and each worker
    /// has its part of them; `max_waiting_bytes` is for each worker.
    pub endpoint: Config,
    /// Threads. Each has its own sockets and sessions, and a client stays with one of them.
    pub workers: usize,
    /// Whether the kernel may join and cut datagrams (UDP_GRO, UDP_SEGMENT), if it can.
    pub offload: bool,
    /// Whether handshakes come in at sockets of their own, if the kernel can see to that.
    pub steer_handshakes: bool,
    /// Bytes of the kernel's buffers of each socket. Less is no error: the system has its own limits.
    pub socket_buffer: usize,
    /// A file with random bytes, 16 at least, that servers share which answer for each other: each accepts the cookies and
    /// the session tickets of the others, and of itself before a restart. It is read again at each [`Server::reload`].
    pub secret_file: Option<PathBuf>,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            endpoint: Config::default(),
            workers: 1,
            offload: true,
            steer_handshakes: true,
            socket_buffer: 4 << 20,
            secret_file: None,
        }
    }
}

/// What a server has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// At its endpoints.
    pub endpoints: Stats,
    /// At its sockets.
    pub sockets: SocketStats,
    /// Sessions that are open now.
    pub sessions: usize,
    /// Handshakes in progress now.
    pub handshakes: usize,
}

/// A DTLS server with its own sockets and threads.
///
/// ```
/// # use openssl::ssl::{SslContext, SslMethod};
/// use dv_dtls::{Context, Server, ServerConfig, Session};
///
/// # fn main() -> Result<(), dv_dtls::Error> {
/// let mut context = SslContext::builder(SslMethod::dtls())?;
/// // ... with a certificate and its key, as for any server on OpenSSL.
/// let echo = |context: &mut Context<'_>, session: Session, message: &[u8]| {
///     let _ = context.send(session, message);
/// };
/// let server = Server::new(context.build(), ServerConfig::default(), echo)?;
/// let address = server.bind("127.0.0.1:0")?;
/// server.start()?;
/// println!("listening on {address}");
/// server.stop();
/// server.join()
/// # }
/// ```
pub struct Server {
    pub(super) shared: Arc<Shared>,
    options: Options,
    secret_file: Option<PathBuf>,
    /// How the endpoints are to behave, but for what each has of its own.
    config: Config,
    state: Mutex<State>,
    /// Held by the thread that waits for the workers, so that others that want to wait do so too.
    joining: Mutex<()>,
    /// What sessions begin with now.
    context: Mutex<SslContext>,
    /// What the workers wait for after an export.
    export: Mutex<Option<Arc<Verdict>>>,
    born: u32,
}

pub(super) enum State {
    /// Addresses are still being bound.
    Idle {
        workers: Vec<Worker>,
        bound: Vec<SocketAddr>,
    },
    Started(Vec<Thread>),
}

/// A worker's thread, and what to wait for, unless somebody does already.
pub(super) struct Thread {
    id: ThreadId,
    handle: Option<Handle>,
}

type Handle = JoinHandle<Result<Vec<Port>, Error>>;

impl Server {
    /// A server whose sessions are made with `context`, and whose events `handler` takes. It is bound to no address yet.
    pub fn new(context: SslContext, config: ServerConfig, handler: impl Handler) -> Result<Server, Error> {
        if !(1..=WORKERS_MAX).contains(&config.workers) {
            return Err(Error::Invalid(format!("{} workers: 1 to {WORKERS_MAX} are possible", config.workers)));
        }
        let settings = part_of(&config.endpoint.settings, config.workers as u32);
        let mut endpoint = Config { settings, ..config.endpoint };
        if let Some(shared) = read_secret(config.secret_file.as_deref(), &context)? {
            endpoint.cookie_secret = Some(shared);
        }
        let owners = owners(&endpoint, config.workers);
        let make = |number| {
            let mut config = endpoint.clone();
            if let (Some(_), Some(ids)) = (owners, &mut config.connection_ids) {
                ids.server_id.push(number as u8);
            }
            let mut endpoint = Endpoint::new(context.clone(), config)?;
            endpoint.set_number(number as u8);
            Ok(endpoint)
        };
        let endpoints = (0..config.workers).map(make).collect::<Result<Vec<_>, Error>>()?;
        let shared = Arc::new(Shared::new(&endpoints, endpoint.max_waiting_bytes, owners)?);
        let handler: Arc<dyn Handler> = Arc::new(handler);
        let worker = |(number, endpoint)| Worker::new(number, endpoint, shared.clone(), handler.clone());
        let workers = endpoints.into_iter().enumerate().map(worker).collect();
        let options = Options {
            workers: config.workers,
            buffer: config.socket_buffer,
            offload: config.offload,
            steer: config.steer_handshakes,
            owners,
        };
        endpoint.cookie_secret = None;
        let (secret_file, context) = (config.secret_file, Mutex::new(context));
        Ok(Server {
            shared,
            options,
            secret_file,
            config: endpoint,
            context,
            export: Mutex::default(),
            state: Mutex::new(State::Idle { workers, bound: Vec::new() }),
            joining: Mutex::default(),
            born: fork::generation(),
        })
    }

    /// Takes an address, and says which it is: port 0 takes a free one. `[::]` takes IPv4 as well. A server can have several
    /// addresses, but no two ports of the same one, which a wildcard is for all of its family.
    pub fn bind(&self, address: impl ToSocketAddrs) -> Result<SocketAddr, Error> {
        let mut failed = Error::Invalid("no address".into());
        for address in address.to_socket_addrs()? {
            match self.bind_one(address) {
                Ok(bound) => return Ok(bound),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn bind_one(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        self.refuse_in_a_child()?;
        let mut state = self.lock();
        let (workers, bound) = state.idle()?;
        refuse_second(bound, address)?;
        let ipv4_is_taken = bound.contains(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())));
        let only_v6 = !address.ip().is_unspecified() || ipv4_is_taken;
        let ports =
            socket::open(address, only_v6, &self.options).map_err(|error| Error::Io(format!("{address}: {error}")))?;
        let local = ports[0].local;
        bound.push(local);
        workers.iter_mut().zip(ports).for_each(|(worker, port)| worker.add(port));
        Ok(local)
    }

    /// Takes over a UDP socket that is bound already, and connected to nobody, such as one that the program was started with.
    /// One worker serves it. To let several serve an address, hand in as many sockets (SO_REUSEPORT): they go to the workers
    /// in turn.
    pub fn bind_socket(&self, socket: impl Into<OwnedFd>) -> Result<SocketAddr, Error> {
        self.refuse_in_a_child()?;
        let mut state = self.lock();
        let (workers, bound) = state.idle()?;
        let port = socket::adopt(socket.into(), &self.options)?;
        let local = port.local;
        let same = bound.iter().filter(|other| **other == local).count();
        if same == 0 {
            refuse_second(bound, local)?;
        }
        let worker = same % workers.len();
        workers[worker].add(port);
        bound.push(local);
        Ok(local)
    }

    /// Starts the workers, each in a thread of its own.
    pub fn start(&self) -> Result<(), Error> {
        self.start_inside(|worker| worker())
    }

    /// The same, with `around` around all that a thread does.
    pub(crate) fn start_inside(&self, around: fn(&mut dyn FnMut())) -> Result<(), Error> {
        self.refuse_in_a_child()?;
        let mut state = self.lock();
        let workers = state.begin()?;
        let (mut threads, mut outcome) = (Vec::new(), Ok(()));
        for (number, worker) in workers.into_iter().enumerate() {
            let builder = thread::Builder::new().name(format!("dv-worker-{number}"));
            let one_for_all = OneForAll { shared: self.shared.clone(), worker: number };
            match builder.spawn(move || one_for_all.watch(worker, around)) {
                Ok(handle) => threads.push(Thread { id: handle.thread().id(), handle: Some(handle) }),
                Err(error) => {
                    self.stop();
                    outcome = Err(error.into());
                    break;
                }
            }
        }
        *state = State::Started(threads);
        outcome
    }

    /// Starts the workers and waits until the server is over: [`Server::start`] and [`Server::join`].
    pub fn run(&self) -> Result<(), Error> {
        self.start()?;
        self.join()
    }

    /// Waits until the server is over, after [`Server::stop`] or [`Server::shutdown`]. Not from inside a handler.
    ///
    /// # Panics
    /// With what a [`Handler`] has panicked with.
    pub fn join(&self) -> Result<(), Error> {
        self.refuse_in_a_child()?;
        self.refuse_in_a_handler()?;
        let _others_wait = lock(&self.joining);
        let handles = self.lock().take_handles();
        // All sockets stay open until the last worker is done: the kernel's choice among them goes by their number.
        let outcomes: Vec<_> = handles.into_iter().map(JoinHandle::join).collect();
        for outcome in outcomes {
            outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        Ok(())
    }

    /// Ends the server: each peer is sent a close_notify. It does not wait for that, and may be called from a signal
    /// handler.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Accepts nobody any more, and ends the server when all sessions are over, or after `deadline`, when each peer that is
    /// left is sent a close_notify. It does not wait for that.
    pub fn shutdown(&self, deadline: Duration) -> Result<(), Error> {
        self.refuse_in_a_child()?;
        let by = precise_now().saturating_add(micros(deadline));
        self.shared.ask_all(|| Request::Drain(by));
        Ok(())
    }

    /// Begins sessions with `context` from now on, with another certificate for instance. Those that there are go on with
    /// what they have. The secret's file is read again. The context must be another one than that in use.
    pub fn reload(&self, context: SslContext) -> Result<(), Error> {
        self.refuse_in_a_child()?;
        // With no lock held: libssl calls what the program has set on the context, which may ask for a reload as well.
        self.config.check_context(&context)?;
        let mut current = lock(&self.context);
        if current.as_ptr() == context.as_ptr() {
            return Err(Error::Invalid("the context is in use already: reload with a new one".into()));
        }
        let secret = read_secret(self.secret_file.as_deref(), &context)?;
        self.shared.ask_all(|| Request::Reload(context.clone(), secret.clone()));
        let before = mem::replace(&mut *current, context);
        // In this order: what hangs on a context is freed with it, by the program's own functions.
        drop(current);
        drop(before);
        Ok(())
    }

    /// Queues one message for a session. It may be called from any thread; inside a handler,
    /// [`Context::send`](super::handler::Context::send) spares the queue.
    pub fn send(&self, session: Session, message: &[u8]) -> Result<(), Error> {
        self.refuse_in_a_child()?;
        self.shared.send(session, message)
    }

    /// Asks for the end of a session: the peer is sent a close_notify, and [`Handler::close`] is called.
    pub fn close(&self, session: Session) -> Result<(), Error> {
        self.refuse_in_a_child()?;
        self.shared.close(session)
    }

    /// What was counted so far.
    pub fn stats(&self) -> ServerStats {
        let mut stats = ServerStats::default();
        if self.is_forked() {
            return stats;
        }
        for desk in &self.shared.desks {
            stats.endpoints.add(&desk.counters);
            stats.sockets.add(&desk.sockets);
            stats.sessions += desk.mailbox.sessions();
            stats.handshakes += desk.handshakes.load(Ordering::Relaxed);
        }
        stats
    }

    /// The sessions that each worker has open.
    pub fn sessions_of_workers(&self) -> Vec<usize> {
        if self.is_forked() {
            return Vec::new();
        }
        self.shared.desks.iter().map(|desk| desk.mailbox.sessions()).collect()
    }

    pub(super) fn pending_export(&self) -> MutexGuard<'_, Option<Arc<Verdict>>> {
        lock(&self.export)
    }

    pub(crate) fn export_timeout(&self) -> Duration {
        self.config.export_timeout
    }

    /// Where the workers are waited for.
    pub(super) fn refuse_in_a_handler(&self) -> Result<(), Error> {
        match self.is_handler_here() {
            true => Err(Error::Invalid("a handler cannot wait for its own worker".into())),
            false => Ok(()),
        }
    }

    /// Whether this is the thread of a worker: the handler has been called, or what the program has set on the context. The
    /// child of a fork has no workers.
    pub(crate) fn is_handler_here(&self) -> bool {
        !self.is_forked() && self.lock().threads().iter().any(|thread| thread.id == thread::current().id())
    }

    /// The workers are threads of the process that started them. A child takes no lock either: a thread of its parent may have
    /// had it when the child began, and is not there to give it back.
    pub(crate) fn refuse_in_a_child(&self) -> Result<(), Error> {
        if self.is_forked() { Err(Error::Forked) } else { Ok(()) }
    }

    fn is_forked(&self) -> bool {
        self.born != fork::generation()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_forked() {
            // The threads are the parent's: to wait for them here, or to let them go, means nothing. One that was at the state
            // when the process forked has left it half done, and will never unlock it.
            let state = mem::replace(&mut self.state, Mutex::new(State::Started(Vec::new())));
            let forget_threads =
                |mut state: MutexGuard<'_, State>| state.take_handles().into_iter().for_each(mem::forget);
            if state.try_lock().map(forget_threads).is_err() {
                mem::forget(state);
            }
            return;
        }
        let handles = self.lock().take_handles();
        self.stop();
        // A worker cannot wait for itself, when the handler holds the last reference to the server.
        let here = thread::current().id();
        handles.into_iter().filter(|handle| handle.thread().id() != here).for_each(|handle| drop(handle.join()));
    }
}

impl State {
    pub(super) fn idle(&mut self) -> Result<(&mut Vec<Worker>, &mut Vec<SocketAddr>), Error> {
        match self {
            State::Idle { workers, bound } => Ok((workers, bound)),
            _ => Err(Error::Invalid("the server was started already".into())),
        }
    }

    /// Those that were started.
    fn threads(&mut self) -> &mut [Thread] {
        match self {
            State::Started(threads) => threads,
            State::Idle { .. } => &mut [],
        }
    }

    fn take_handles(&mut self) -> Vec<Handle> {
        self.threads().iter_mut().filter_map(|thread| thread.handle.take()).collect()
    }

    fn begin(&mut self) -> Result<Vec<Worker>, Error> {
        let (workers, bound) = self.idle()?;
        if bound.is_empty() {
            return Err(Error::Invalid("the server is bound to no address".into()));
        }
        let workers = mem::take(workers);
        *self = State::Started(Vec::new());
        Ok(workers)
    }
}

/// Stops the server when one of its workers fails or panics.
struct OneForAll {
    shared: Arc<Shared>,
    worker: usize,
}

impl OneForAll {
    fn watch(self, worker: Worker, around: fn(&mut dyn FnMut())) -> Result<Vec<Port>, Error> {
        let (mut worker, mut outcome) = (Some(worker), Ok(Ok(Vec::new())));
        around(&mut || {
            if let Some(worker) = worker.take() {
                outcome = catch_unwind(AssertUnwindSafe(|| worker.run()));
            }
        });
        if !matches!(outcome, Ok(Ok(_))) {
            self.shared.stop();
        }
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for OneForAll {
    fn drop(&mut self) {
        self.shared.desks[self.worker].mailbox.shut();
    }
}

/// Where connection IDs tell which of several workers has the session: in the byte behind the server's number.
fn owners(config: &Config, workers: usize) -> Option<Owners> {
    let ids = config.connection_ids.as_ref().filter(|ids| workers > 1 && ids.len > 0)?;
    Some(Owners { at: ids.server_id.len(), workers })
}

/// Reads the secret, where there is one, and sets what it is good for at a context that nobody uses yet.
fn read_secret(file: Option<&Path>, context: &SslContext) -> Result<Option<CookieSecret>, Error> {
    let Some(file) = file else { return Ok(None) };
    let invalid = |why: Cause| Error::Invalid(why.to_string());
    let secret = FleetSecret::read(file).map_err(invalid)?;
    secret.use_for_tickets(context).map_err(invalid)?;
    Ok(Some(CookieSecret::new(secret.for_cookies(), unix_offset())))
}

/// The port that an answer leaves from follows from the addresses, so no two may cover the same address.
fn refuse_second(bound: &[SocketAddr], address: SocketAddr) -> Result<(), Error> {
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.ip() == other.ip() || one.ip().is_unspecified() && one.is_ipv4() == other.is_ipv4()
    };
    match bound.iter().find(|other| covers(**other, address) || covers(address, **other)) {
        Some(other) => Err(Error::Invalid(format!("{address}: the server has {other} already"))),
        None => Ok(()),
    }
}

/// The limits of one worker: its part of the server's.
fn part_of(settings: &Settings, workers: u32) -> Settings {
    Settings {
        max_connections: settings.max_connections.div_ceil(workers).min(NUMBERED_SESSIONS_MAX),
        max_handshakes: settings.max_handshakes.div_ceil(workers),
        max_connections_per_source: settings.max_connections_per_source.div_ceil(workers),
        max_handshakes_per_source: settings.max_handshakes_per_source.div_ceil(workers),
        ..settings.clone()
    }
}

#[cfg(test)]
mod tests;
