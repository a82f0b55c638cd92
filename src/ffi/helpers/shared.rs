//! What the helpers share: the table of connections for all threads, and for each thread its timers and counters.
//!
//! A lock is held for a look-up, never across a call into libssl: its callbacks may call any helper.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use openssl::ssl::SslContextRef;

use super::environment;
use super::given_up::GivenUp;
use super::types::dv_udp_conn_t;
use crate::engine::cookie::CookieJar;
use crate::engine::registry::{Directory, Id, Kind, Limits, Registry};
use crate::engine::settings::Settings;
use crate::engine::stats::{Counters, Stats};
use crate::engine::timers::TimerQueue;
use crate::guard::{self, lock};
use crate::net::sys;
use crate::tls::bio::SpareRoom;
use crate::tls::fork;
use crate::tls::scratch::{Scratch, Word};
use crate::wire::datagrams::Datagrams;
use crate::wire::hello::ClientHello;

/// An index of structs that becomes empty and has grown beyond so many places gives its memory back.
const KEPT_WHEN_EMPTY: usize = 1024;

/// Of a connection in the directory whose pointer nobody has: whoever finds it asks the table, which notes that. So a
/// handshake of a peer who restarts, and whom nobody has heard of when it fails, is known to have no owner.
const UNSEEN: u64 = 1;

/// A connection in the table.
#[derive(Clone, Copy)]
pub struct Entry {
    pub conn: *mut dv_udp_conn_t,
    /// The thread that used it last: only that one does what is due for it.
    pub thread: u64,
    /// Its SSL is alive as far as the library knows.
    pub alive: bool,
    /// The thread is doing what is due for it right now.
    pub working: bool,
    /// A caller has its pointer.
    pub seen: bool,
    /// Of the hello that has made it, the end of its random; 0 where no hello has.
    hello: u64,
}

// SAFETY: the pointer is only followed by the thread that the contract allows to.
unsafe impl Send for Entry {}

impl Entry {
    pub fn new(conn: *mut dv_udp_conn_t, alive: bool, seen: bool) -> Entry {
        Entry { conn, thread: sys::thread(), alive, working: false, seen, hello: 0 }
    }

    /// Of a connection that `hello` makes, and that its thread still works on.
    pub fn of_newcomer(conn: *mut dv_udp_conn_t, hello: &ClientHello<'_>, seen: bool) -> Entry {
        Entry { working: true, hello: end_of_random(hello), ..Entry::new(conn, true, seen) }
    }
}

/// Enough to tell one hello of a peer from the next.
fn end_of_random(hello: &ClientHello<'_>) -> u64 {
    hello.random.last_chunk().map_or(0, |end| u64::from_ne_bytes(*end))
}

/// The connections by the peer's address, and by the pointer that callers know them by.
pub struct Table {
    registry: Registry<Entry>,
    ids: HashMap<usize, Id>,
    directory: Arc<Directory>,
    /// The SSLs that the library has made and that are alive.
    pub ssls: HashSet<usize>,
    /// The threads that use the library, and how many [`Local`]s each has: while it ends, one for each call, of which one may
    /// run inside of another.
    threads: HashMap<u64, u32>,
}

impl Table {
    /// Whether this thread may do what is due for a connection: it used it last, or who did is gone.
    pub fn is_ours(&self, entry: &Entry) -> bool {
        entry.thread == sys::thread() || !self.threads.contains_key(&entry.thread)
    }

    /// Puts a connection in, behind those with the same peer.
    pub fn insert(&mut self, peer: SocketAddr, entry: Entry, kind: Kind) -> Id {
        let id = self.registry.insert(peer, entry, kind);
        self.ids.insert(entry.conn as usize, id);
        self.publish(peer);
        id
    }

    /// Whether `hello` has made a connection with this peer already.
    pub fn is_begun_by(&self, peer: &SocketAddr, hello: &ClientHello<'_>) -> bool {
        let of_peer = std::iter::successors(self.find(peer), |id| self.next(*id));
        of_peer.filter_map(|id| self.get(id)).any(|entry| entry.hello == end_of_random(hello))
    }

    /// An SSL of the library's is gone.
    pub fn forget_ssl(&mut self, ssl: usize) {
        self.ssls.remove(&ssl);
        if self.ssls.is_empty() {
            self.ssls.shrink_to(KEPT_WHEN_EMPTY);
        }
    }

    fn remove(&mut self, id: Id) {
        let Some(peer) = self.registry.peer(id) else { return };
        if let Some(entry) = self.registry.remove(id) {
            self.ids.remove(&(entry.conn as usize));
            if self.ids.is_empty() {
                self.ids.shrink_to(KEPT_WHEN_EMPTY);
            }
            self.publish(peer);
        }
    }

    /// Tells conn_find who is the oldest with this peer now.
    fn publish(&self, peer: SocketAddr) {
        let oldest = self.registry.find(&peer).and_then(|id| self.registry.get(id));
        let conn = oldest.map_or(0, |entry| {
            let conn = entry.conn.expose_provenance() as u64;
            if entry.seen { conn } else { conn | UNSEEN }
        });
        self.directory.set(peer, conn);
    }

    /// A caller gets the pointer of this connection.
    fn show(&mut self, id: Id) -> *mut dv_udp_conn_t {
        let Some(entry) = self.registry.get_mut(id) else { return ptr::null_mut() };
        let conn = entry.conn;
        if !std::mem::replace(&mut entry.seen, true)
            && let Some(peer) = self.registry.peer(id)
        {
            self.publish(peer);
        }
        conn
    }

    /// Where `conn` is. Many calls are about the connection that their thread's last one was about: `hint`.
    pub fn id_of(&self, conn: *mut dv_udp_conn_t, hint: Option<Id>) -> Option<Id> {
        hint.filter(|hint| self.get(*hint).is_some_and(|entry| entry.conn == conn))
            .or_else(|| self.ids.get(&(conn as usize)).copied())
    }
}

impl Deref for Table {
    type Target = Registry<Entry>;
    fn deref(&self) -> &Registry<Entry> {
        &self.registry
    }
}

impl DerefMut for Table {
    fn deref_mut(&mut self) -> &mut Registry<Entry> {
        &mut self.registry
    }
}

/// What all threads share.
pub struct Shared {
    table: Mutex<Table>,
    /// The oldest connection of each peer, for conn_find.
    directory: Arc<Directory>,
    jar: Mutex<CookieJar>,
    settings: Mutex<Arc<Settings>>,
    given_up: Mutex<GivenUp>,
    /// The deadlines of connections whose thread has ended.
    orphans: Mutex<TimerQueue>,
    counters: Mutex<AllCounters>,
    /// As many as threads were asking the program's cookie callbacks at once.
    scratches: Mutex<Vec<Scratch>>,
    /// How many threads have used the library.
    threads: AtomicU32,
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

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());

/// The next of the deadlines of connections whose thread has ended. Every call looks at it. In the child of a fork it is the
/// parent's until the first look at the queue.
static ORPHANS_DUE: AtomicU64 = AtomicU64::new(u64::MAX);

/// When something is due for a connection whose thread has ended.
#[inline]
pub fn orphans_due() -> u64 {
    ORPHANS_DUE.load(Ordering::Relaxed)
}

/// What all threads share. After a fork the child gets its own, empty: the old one stays where it is, locked or not.
pub fn shared() -> &'static Shared {
    let known = SHARED.load(Ordering::Acquire);
    // SAFETY: what stands there was leaked by `make`.
    match unsafe { known.as_ref() } {
        Some(shared) if shared.born == fork::generation() => shared,
        _ => sys::not_cancelled(|| make(known)),
    }
}

#[cold]
fn make(known: *mut Shared) -> &'static Shared {
    let settings = environment::settings();
    let directory = Arc::new(Directory::default());
    let registry = Registry::new(Limits::from(&settings));
    let new = Box::into_raw(Box::new(Shared {
        table: Mutex::new(Table {
            registry,
            ids: HashMap::new(),
            directory: directory.clone(),
            ssls: HashSet::new(),
            threads: HashMap::new(),
        }),
        directory,
        jar: Mutex::new(environment::cookie_secret().jar()),
        settings: Mutex::new(Arc::new(settings)),
        given_up: Mutex::default(),
        orphans: Mutex::default(),
        counters: Mutex::default(),
        scratches: Mutex::default(),
        threads: AtomicU32::new(0),
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
    pub fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// The oldest connection with this peer. Waits for no lock, but the first time.
    #[inline]
    pub fn find(&self, peer: &SocketAddr) -> *mut dv_udp_conn_t {
        match self.directory.get(peer) {
            None => ptr::null_mut(),
            Some(conn) if conn & UNSEEN == 0 => ptr::with_exposed_provenance_mut(conn as usize),
            Some(_) => self.find_unseen(peer),
        }
    }

    #[cold]
    fn find_unseen(&self, peer: &SocketAddr) -> *mut dv_udp_conn_t {
        let mut table = self.table();
        let oldest = table.registry.find(peer);
        oldest.map_or(ptr::null_mut(), |id| table.show(id))
    }

    pub fn jar(&self) -> MutexGuard<'_, CookieJar> {
        lock(&self.jar)
    }

    /// Asks the cookie callbacks of a program that has its own. They may call helpers: no lock is held meanwhile.
    pub fn ask_program(&self, context: &SslContextRef, peer: SocketAddr, hello_record: &[u8]) -> Word {
        // In two steps: what does not suit is freed without the lock.
        let kept = lock(&self.scratches).pop();
        let kept = kept.filter(|scratch| scratch.suits(context));
        let Some(scratch) = kept.or_else(|| Scratch::new(context).ok()) else { return Word::Nothing };
        let (word, again) = scratch.ask(context, peer, hello_record);
        lock(&self.scratches).extend(again);
        word
    }

    pub fn settings(&self) -> Arc<Settings> {
        lock(&self.settings).clone()
    }

    pub fn set_settings(&self, settings: Settings) {
        self.table().set_limits(Limits::from(&settings));
        *lock(&self.settings) = Arc::new(settings);
    }

    pub fn stats(&self) -> Stats {
        let all = lock(&self.counters);
        let mut stats = all.gone;
        all.of_threads.iter().for_each(|counters| stats.add(counters));
        stats
    }

    /// The owner frees a struct that the library had given up.
    pub fn forget_given_up(&self, conn: *mut dv_udp_conn_t) {
        lock(&self.given_up).forget(conn as usize);
    }

    #[cfg(test)]
    pub fn has_given_up(&self, conn: *mut dv_udp_conn_t) -> bool {
        lock(&self.given_up).has(conn as usize)
    }

    /// Makes a connection this thread's, once no other one does what is due for it: from then on its SSL stays where it is.
    /// Its deadline is looked at by the next call. As long as there is one thread only, it is that one's anyway. Says whether
    /// that was done; see [`Shared::table_when_idle`].
    #[inline]
    pub fn claim(&self, local: &Local, conn: *mut dv_udp_conn_t) -> bool {
        // Relaxed: whoever gets a connection from another thread has met that one, and so knows that there are two.
        self.threads.load(Ordering::Relaxed) == 1 || self.claim_from_others(local, conn)
    }

    fn claim_from_others(&self, local: &Local, conn: *mut dv_udp_conn_t) -> bool {
        let here = sys::thread();
        let find = |table: &Table| table.id_of(conn, local.claimed.get());
        let Some(mut table) = self.table_when_idle(find) else { return false };
        local.claimed.set(find(&table));
        if let Some(id) = local.claimed.get()
            && let Some(entry) = table.get_mut(id)
            && std::mem::replace(&mut entry.thread, here) != here
            && entry.alive
        {
            local.timers.borrow_mut().set(id, sys::now());
        }
        true
    }

    /// Takes `conn` out of the table, if it is there, once no other thread does what is due for it. Says whether that was
    /// done; see [`Shared::table_when_idle`].
    pub fn remove(&self, local: &Local, conn: *mut dv_udp_conn_t) -> bool {
        let find = |table: &Table| table.id_of(conn, None);
        let Some(mut table) = self.table_when_idle(find) else { return false };
        if let Some(id) = find(&table) {
            table.remove(id);
            local.timers.borrow_mut().cancel(id);
        }
        true
    }

    /// Takes `conn` out of the table and its SSL out of `conn`, as one step for other threads: from then on the struct is its
    /// owner's, who may free it at once. Gives the SSL, and the struct that has to be freed: this one if no caller has it, or
    /// the oldest of those that were given up when there are too many.
    ///
    /// # Safety
    /// `conn` is a connection that this thread may touch.
    pub unsafe fn detach(
        &self,
        local: &Local,
        conn: *mut dv_udp_conn_t,
    ) -> (*mut libc::c_void, Option<*mut dv_udp_conn_t>) {
        let mut table = self.table();
        let id = table.id_of(conn, None);
        let seen = id.and_then(|id| table.get(id)).is_none_or(|entry| entry.seen);
        if let Some(id) = id {
            table.remove(id);
            local.timers.borrow_mut().cancel(id);
        }
        let oldest = || lock(&self.given_up).keep(conn as usize).map(|oldest| oldest as *mut dv_udp_conn_t);
        let unowned = if seen { oldest() } else { Some(conn) };
        // SAFETY: by contract.
        unsafe {
            (*conn).rbio = ptr::null_mut();
            (*conn).wbio = ptr::null_mut();
            (std::mem::replace(&mut (*conn).ssl, ptr::null_mut()), unowned)
        }
    }

    /// A connection whose thread has ended and for which something is due by `now`.
    pub fn pop_orphan(&self, now: u64) -> Option<Id> {
        if now < orphans_due() {
            return None;
        }
        let mut orphans = lock(&self.orphans);
        let due = orphans.pop_due(now);
        ORPHANS_DUE.store(orphans.next(), Ordering::Relaxed);
        due.map(|(id, _)| id)
    }

    /// A thread ends: what becomes due for its connections is any other thread's.
    fn leave(&self, deadlines: TimerQueue) {
        self.table().threads.retain(|thread, locals| {
            *locals -= u32::from(*thread == sys::thread());
            *locals > 0
        });
        let mut orphans = lock(&self.orphans);
        deadlines.into_deadlines().for_each(|(id, deadline)| orphans.set(id, deadline));
        ORPHANS_DUE.store(orphans.next(), Ordering::Relaxed);
    }

    /// The table, once no other thread does what is due for the connection that `find` finds. A callback of libssl does not
    /// wait for that: two of them could wait for each other.
    pub fn table_when_idle(&self, find: impl Fn(&Table) -> Option<Id>) -> Option<MutexGuard<'_, Table>> {
        loop {
            let table = self.table();
            match find(&table).and_then(|id| table.get(id)) {
                Some(entry) if entry.working && entry.thread != sys::thread() => {}
                _ => return Some(table),
            }
            drop(table);
            if guard::is_nested() {
                return None;
            }
            std::thread::yield_now();
        }
    }
}

/// What one thread has for itself.
pub struct Local {
    /// What it shares with the others.
    pub shared: &'static Shared,
    pub timers: RefCell<TimerQueue>,
    /// What the last conn_find or conn_new of this thread gave: it is not given up behind the caller's back.
    pub last: Cell<*mut dv_udp_conn_t>,
    /// Where the connection is that the last call was about.
    pub claimed: Cell<Option<Id>>,
    /// Where messages are opened to, while no call has it.
    pub messages: Cell<Option<Box<Datagrams>>>,
    /// Where connections put what they send: each call sends all of it, so one room is enough.
    pub room: SpareRoom,
    pub counters: Arc<Counters>,
    pub refusals: super::refusals::Refusals,
}

thread_local! {
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// What this thread has for itself; in the child of a fork it begins anew. While the thread ends its storage may be gone
/// already, when destructors of the program free connections: then it is for the one call.
pub fn local() -> Rc<Local> {
    let kept = LOCAL.try_with(|local| match &mut *local.borrow_mut() {
        Some(local) if local.shared.born == fork::generation() => local.clone(),
        local => renew(local),
    });
    kept.unwrap_or_else(|_| Rc::new(Local::new()))
}

#[cold]
fn renew(local: &mut Option<Rc<Local>>) -> Rc<Local> {
    local.insert(Rc::new(Local::new())).clone()
}

impl Local {
    fn new() -> Local {
        let counters = Arc::new(Counters::default());
        let shared = shared();
        shared.threads.fetch_add(1, Ordering::Relaxed);
        *shared.table().threads.entry(sys::thread()).or_default() += 1;
        lock(&shared.counters).of_threads.push(counters.clone());
        Local {
            shared,
            timers: RefCell::default(),
            last: Cell::new(ptr::null_mut()),
            claimed: Cell::new(None),
            messages: Cell::default(),
            room: SpareRoom::default(),
            counters,
            refusals: Default::default(),
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // In the child of a fork some other thread may have held the lock.
        if self.shared.born != fork::generation() {
            return;
        }
        self.shared.leave(self.timers.take());
        let mut all = lock(&self.shared.counters);
        all.gone.add(&self.counters);
        all.of_threads.retain(|counters| !Arc::ptr_eq(counters, &self.counters));
    }
}

#[cfg(test)]
mod tests;
