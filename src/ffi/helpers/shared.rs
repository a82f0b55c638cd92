//! What the helpers share: the table of connections for all threads, and for each thread its timers and counters.
//!
//! A lock is held for a look-up, never across a call into libssl: its callbacks may call any helper.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::connection::State;
use super::environment;
use super::types::dv_udp_conn_t;
use crate::engine::cookie::CookieJar;
use crate::engine::registry::{Directory, Id, Kind, Limits, Registry};
use crate::engine::settings::Settings;
use crate::engine::stats::{Counters, Stats};
use crate::engine::timers::TimerQueue;
use crate::fork;
use crate::net::sys;
use crate::tls;
use crate::wire::datagrams::Datagrams;

/// Structs of connections that the library gave up and that nobody has freed; beyond these the oldest are freed.
const GIVEN_UP_MAX: usize = 65_536;

/// A connection in the table.
pub struct Entry {
    pub conn: *mut dv_udp_conn_t,
    /// The thread that used it last: only that one does what is due for it.
    pub thread: u64,
    /// Its SSL is alive as far as the library knows.
    pub alive: bool,
    /// The thread is doing what is due for it right now.
    pub working: bool,
}

// SAFETY: the pointer is only followed by the thread that the contract allows to.
unsafe impl Send for Entry {}

/// What all threads share.
pub struct Shared {
    registry: Mutex<Registry<Entry>>,
    /// The oldest connection of each peer, for conn_find.
    directory: Directory,
    jar: Mutex<CookieJar>,
    settings: Mutex<Arc<Settings>>,
    given_up: Mutex<GivenUp>,
    counters: Mutex<AllCounters>,
    /// Of the process that made it; a child starts with an empty one.
    born: u32,
    /// What a fork left behind: never touched again, but still reachable, which tells it from a leak.
    _before: AtomicPtr<Shared>,
}

#[derive(Default)]
struct AllCounters {
    of_threads: Vec<Arc<Counters>>,
    /// Of threads that are gone.
    gone: Stats,
}

/// The structs that the library gave up, oldest first.
#[derive(Default)]
struct GivenUp {
    order: VecDeque<(u64, usize)>,
    number: HashMap<usize, u64>,
    next: u64,
}

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());

/// What all threads share. After a fork the child gets its own, empty: the old one stays where it is, locked or not.
pub fn shared() -> &'static Shared {
    let known = SHARED.load(Ordering::Acquire);
    // SAFETY: what stands there was leaked by `make`.
    match unsafe { known.as_ref() } {
        Some(shared) if shared.born == fork::generation() => shared,
        _ => make(known),
    }
}

#[cold]
fn make(known: *mut Shared) -> &'static Shared {
    sys::watch_forks();
    let settings = environment::settings();
    let new = Box::into_raw(Box::new(Shared {
        registry: Mutex::new(Registry::new(Limits::from(&settings))),
        directory: Directory::new(),
        jar: Mutex::new(CookieJar::new(&environment::cookie_secret(), sys::unix_offset())),
        settings: Mutex::new(Arc::new(settings)),
        given_up: Mutex::default(),
        counters: Mutex::default(),
        born: fork::generation(),
        _before: AtomicPtr::new(known),
    }));
    match SHARED.compare_exchange(known, new, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: it was leaked just now and is never freed.
        Ok(_) => unsafe { &*new },
        Err(other) => {
            // SAFETY: nobody else has seen `new`; `other` was leaked by another thread.
            unsafe {
                drop(Box::from_raw(new));
                &*other
            }
        }
    }
}

impl Shared {
    pub fn registry(&self) -> MutexGuard<'_, Registry<Entry>> {
        lock(&self.registry)
    }

    pub fn jar(&self) -> MutexGuard<'_, CookieJar> {
        lock(&self.jar)
    }

    pub fn settings(&self) -> Arc<Settings> {
        lock(&self.settings).clone()
    }

    pub fn set_settings(&self, settings: Settings) {
        self.registry().set_limits(Limits::from(&settings));
        *lock(&self.settings) = Arc::new(settings);
    }

    pub fn stats(&self) -> Stats {
        let all = lock(&self.counters);
        let mut stats = all.gone;
        all.of_threads.iter().for_each(|counters| stats.add(counters));
        stats
    }

    /// Remembers a struct that the library gave up. Gives one that is to be freed instead, when there are too many.
    pub fn keep_given_up(&self, conn: *mut dv_udp_conn_t) -> Option<*mut dv_udp_conn_t> {
        let mut given_up = lock(&self.given_up);
        let number = given_up.next;
        given_up.next += 1;
        given_up.order.push_back((number, conn as usize));
        given_up.number.insert(conn as usize, number);
        while given_up.order.len() > GIVEN_UP_MAX {
            let (number, conn) = given_up.order.pop_front()?;
            // What its owner has freed stands in the queue only.
            if given_up.number.get(&conn) == Some(&number) {
                given_up.number.remove(&conn);
                return Some(conn as *mut dv_udp_conn_t);
            }
        }
        None
    }

    /// The owner frees a struct that the library had given up.
    pub fn forget_given_up(&self, conn: *mut dv_udp_conn_t) {
        lock(&self.given_up).number.remove(&(conn as usize));
    }

    /// Where `conn` is in the table. It is known by its pointer; its key only leads there sooner.
    pub fn id_of(&self, conn: *mut dv_udp_conn_t) -> Option<Id> {
        let registry = self.registry();
        // SAFETY: the caller of the exported function vouches for the struct.
        let peer = super::address::peer(unsafe { &(*conn).key });
        let mut id = peer.and_then(|peer| registry.find(peer));
        while let Some(here) = id {
            if registry.get(here).is_some_and(|entry| entry.conn == conn) {
                return id;
            }
            id = registry.next(here);
        }
        // The caller has changed the key since: rare enough for a walk.
        registry.iter().find_map(|(id, entry)| (entry.conn == conn).then_some(id))
    }

    /// The oldest connection with this peer. Waits for no lock.
    pub fn find(&self, peer: SocketAddr) -> *mut dv_udp_conn_t {
        self.directory.get(peer).map_or(ptr::null_mut(), |conn| ptr::with_exposed_provenance_mut(conn as usize))
    }

    /// Puts a connection into the table, behind those with the same peer.
    pub fn insert(&self, peer: SocketAddr, entry: Entry, kind: Kind) -> Id {
        let mut registry = self.registry();
        let id = registry.insert(peer, entry, kind);
        self.publish(&registry, peer);
        id
    }

    /// Takes `conn` out of the table, if it is there, once nobody is working on it.
    pub fn remove(&self, conn: *mut dv_udp_conn_t) {
        if let Some(id) = self.id_of(conn) {
            let mut registry = self.settled(id);
            if let Some(peer) = registry.peer(id) {
                registry.remove(id);
                self.publish(&registry, peer);
            }
        }
    }

    /// Tells conn_find who is the oldest with this peer now.
    fn publish(&self, registry: &Registry<Entry>, peer: SocketAddr) {
        let oldest = registry.find(peer).and_then(|id| registry.get(id));
        self.directory.set(peer, oldest.map_or(0, |entry| entry.conn.expose_provenance() as u64));
    }

    /// The registry, once no other thread does what is due for `id`.
    pub fn settled(&self, id: Id) -> MutexGuard<'_, Registry<Entry>> {
        loop {
            let registry = self.registry();
            match registry.get(id) {
                Some(entry) if entry.working && entry.thread != sys::thread() => {}
                _ => return registry,
            }
            drop(registry);
            std::thread::yield_now();
        }
    }
}

/// A panic leaves nothing half done here, so the data behind a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What one thread has for itself.
pub struct Local {
    pub timers: RefCell<TimerQueue>,
    /// What the last conn_find or conn_new of this thread gave: it is not given up behind the caller's back.
    pub last: Cell<*mut dv_udp_conn_t>,
    /// Where messages are opened to.
    pub messages: RefCell<Datagrams>,
    pub counters: Arc<Counters>,
    pub refusals: super::refusals::Refusals,
    born: u32,
}

thread_local! {
    static LOCAL: RefCell<Option<std::rc::Rc<Local>>> = const { RefCell::new(None) };
}

/// What this thread has for itself; in the child of a fork it begins anew.
pub fn local() -> std::rc::Rc<Local> {
    LOCAL.with_borrow_mut(|local| match local {
        Some(local) if local.born == fork::generation() => local.clone(),
        _ => {
            let new = std::rc::Rc::new(Local::new());
            *local = Some(new.clone());
            new
        }
    })
}

impl Local {
    fn new() -> Local {
        let counters = Arc::new(Counters::default());
        let shared = shared();
        lock(&shared.counters).of_threads.push(counters.clone());
        Local {
            timers: RefCell::default(),
            last: Cell::new(ptr::null_mut()),
            messages: RefCell::default(),
            counters,
            refusals: Default::default(),
            born: shared.born,
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let shared = shared();
        if shared.born != self.born {
            return;
        }
        let mut all = lock(&shared.counters);
        all.gone.add(&self.counters);
        all.of_threads.retain(|counters| !Arc::ptr_eq(counters, &self.counters));
    }
}

/// What hangs on the SSL of a connection that the library made.
pub static STATE: tls::ex_data::Slot<openssl_sys::SSL, State> = tls::ex_data::Slot::new();
