//! What the library keeps of a connection beyond its struct.

use std::cell::{Cell, RefCell};
use std::ptr;

use libc::c_int;
use openssl::ssl::SslContext;
use openssl_sys::{SSL, SSL_free, SSL_get_rbio, SSL_get_wbio};

use super::due;
use super::shared::{Local, shared};
use super::types::*;
use crate::engine::connection::{CloseReason, Connection, State as Phase};
use crate::engine::registry::Id;
use crate::engine::settings::Settings;
use crate::engine::stats::Counters;
use crate::net::sys::Descriptor;
use crate::tls::ex_data::Slot;
use crate::tls::fork;
use crate::wire::backlog::Backlog;

/// What hangs on the SSL of a connection that the library made.
pub static STATE: Slot<SSL, State> = Slot::new();

/// What the library keeps of a connection beyond the struct. It hangs on the SSL and goes with it. Laid out in this order:
/// what each message needs stands together, with the beginning of the connection, in two cache lines.
#[repr(C, align(64))]
pub struct State {
    /// Where it is in the table, while it is there.
    pub id: Cell<Option<Id>>,
    /// Messages that came with others in one datagram and wait for the next read.
    queue: Cell<Backlog>,
    /// How many of them at most.
    queue_max: u16,
    /// A client has restarted on its port: behind this connection stands a new one, whose handshake goes on.
    pub successor: Cell<bool>,
    /// The new one has proven itself.
    pub superseded: Cell<bool>,
    pub born: u32,
    pub connection: RefCell<Connection>,
    /// The socket that its datagrams come through, for what leaves later.
    pub descriptor: Cell<Option<Descriptor>>,
    /// The context that it began with: a server name may have led the SSL to another one since.
    pub context: SslContext,
}

impl Drop for State {
    /// The SSL is being freed, perhaps by the caller with SSL_free: nobody may do what is due for it any more.
    fn drop(&mut self) {
        if self.born != fork::generation() {
            return;
        }
        // The program frees it, be it in a callback: here there is no other way than to wait.
        let mut table = loop {
            match shared().table_when_idle(|_| self.id.get()) {
                Some(table) => break table,
                None => std::thread::yield_now(),
            }
        };
        table.forget_ssl(self.connection.get_mut().give_away_ssl().as_ptr() as usize);
        if let Some(entry) = self.id.get().and_then(|id| table.get_mut(id)) {
            entry.alive = false;
        }
    }
}

impl State {
    /// Queues messages for the next reads; those that find no room are dropped.
    pub fn enqueue<'a>(&self, messages: impl Iterator<Item = &'a [u8]>, counters: &Counters) {
        let mut queue = self.queue.take();
        for message in messages {
            if !queue.push(message, self.queue_max.into()) {
                counters.messages_dropped.add(1);
            }
        }
        self.queue.set(queue);
    }

    /// The oldest of them.
    pub fn dequeue(&self) -> Option<Box<[u8]>> {
        let mut queue = self.queue.take();
        let oldest = queue.pop();
        self.queue.set(queue);
        oldest
    }

    /// The socket that datagrams come through now, looked up again where they came through another number before.
    pub fn note_descriptor(&self, fd: c_int, anew: bool) {
        if anew || self.descriptor.get().is_none() {
            self.descriptor.set(Descriptor::of(fd));
        }
    }
}

/// After a call about the connection: what has changed, of where it is and of when it wants to be looked after.
pub fn note_change(local: &Local, now: u64, state: &State, before: (Phase, u64), after: (Phase, u64)) {
    if before.0 != after.0 {
        moved(local, state, before.0, after.0);
    }
    if before != after {
        due::rearm(local, now, state, after.0, after.1);
    }
}

/// The connection has come to another point of its life.
pub fn moved(local: &Local, state: &State, from: Phase, to: Phase) {
    let Some(id) = state.id.get() else { return };
    if from == Phase::Handshaking {
        match to {
            Phase::Closed(CloseReason::Failed) => local.counters.handshakes_failed.add(1),
            Phase::Closed(CloseReason::HandshakeTimeout) => {}
            _ => {
                local.counters.handshakes_finished.add(1);
                shared().table().establish(id);
            }
        }
    }
}

/// What the library keeps of a connection, made into a struct for C: the SSL belongs to it from then on.
pub fn into_struct(
    connection: Connection,
    context: SslContext,
    key: &dv_udp_conn_key_t,
    settings: &Settings,
) -> *mut dv_udp_conn_t {
    let mut connection = connection;
    // SAFETY: the struct is plain old data, all zeros are valid, and calloc gives it whole or not at all.
    unsafe {
        let conn = libc::calloc(1, size_of::<dv_udp_conn_t>()).cast::<dv_udp_conn_t>();
        if conn.is_null() {
            return conn;
        }
        let ssl = connection.give_away_ssl().as_ptr();
        (*conn).key = *key;
        (*conn).ssl = ssl.cast();
        (*conn).rbio = SSL_get_rbio(ssl).cast();
        (*conn).wbio = SSL_get_wbio(ssl).cast();
        let state = State {
            connection: RefCell::new(connection),
            context,
            id: Cell::new(None),
            descriptor: Cell::new(None),
            queue: Cell::default(),
            queue_max: settings.max_queued_messages,
            successor: Cell::new(false),
            superseded: Cell::new(false),
            born: fork::generation(),
        };
        shared().table().ssls.insert(ssl as usize);
        if STATE.set(ssl, state) {
            return conn;
        }
        SSL_free(ssl);
        libc::free(conn.cast());
        ptr::null_mut()
    }
}
