//! A peer who is connected begins anew (RFC 6347 4.2.8): his new connection stands behind the old one until its handshake has
//! finished, and datagrams are shared between the two.

use std::iter::successors;

use libc::c_int;

use super::accept::{Arrival, begin};
use super::send::send_waiting;
use super::shared::{Local, Table, shared};
use super::state::{STATE, State, moved};
use super::types::{dv_udp_conn_key_t, dv_udp_conn_t};
use super::{address, due, in_use};
use crate::engine::connection::{Connection, State as Phase};
use crate::net::sys;
use crate::wire::datagrams::Datagrams;
use crate::wire::hello::ClientHello;
use crate::wire::record::records;

/// A peer who is connected says hello again: he has restarted, or somebody pretends to be him (RFC 6347 4.2.8). His new
/// connection stands behind the old one until its handshake has finished.
///
/// # Safety
/// `key` holds the peer of `state`.
pub unsafe fn restart(
    local: &Local,
    now: u64,
    state: &State,
    hello: &ClientHello<'_>,
    datagram: &[u8],
    fd: c_int,
    key: &dv_udp_conn_key_t,
) {
    // SAFETY: by contract.
    unsafe {
        if let Some(successor) = successor(state) {
            let Some(_in_use) = in_use::begin(successor) else { return };
            let Some(of_successor) = STATE.get((*successor).ssl.cast()) else { return };
            if of_successor.connection.borrow().is_begun_by(hello) {
                let mut messages = Datagrams::new();
                return advance_successor(local, now, state, of_successor, datagram, fd, key, &mut messages);
            }
        }
        let Some(peer) = address::peer(key) else { return };
        let begun = begin(local, now, &Arrival { context: &state.context, datagram, fd, key, peer, shown: false });
        local.refusals.tell(now, &local.counters);
        if let Some(conn) = begun {
            // He has restarted twice: only the last one matters.
            if let Some(earlier) = successor(state)
                && earlier != conn
                && let Some(_in_use) = in_use::begin(earlier)
            {
                let of_earlier = STATE.get((*earlier).ssl.cast());
                if of_earlier.is_some_and(|state| state.connection.borrow().state() == Phase::Handshaking) {
                    local.counters.superseded.add(1);
                }
                due::give_up(earlier);
            }
            state.successor.set(true);
        }
    }
}

/// The connection that stands behind this one, and that no caller knows of; this thread's from now on.
fn successor(state: &State) -> Option<*mut dv_udp_conn_t> {
    if !state.successor.get() {
        return None;
    }
    let behind = |table: &Table| {
        let mut of_peer = successors(state.id.get(), |id| table.next(*id)).skip(1);
        of_peer.find(|id| table.get(*id).is_some_and(|entry| !entry.seen))
    };
    let mut table = shared().table_when_idle(behind)?;
    let next = behind(&table).and_then(|id| table.get_mut(id)).filter(|entry| entry.alive).map(|entry| {
        entry.thread = sys::thread();
        entry.conn
    });
    state.successor.set(next.is_some());
    next
}

/// Shares a datagram between an old connection and the new one behind it: what is in clear is the new one's, what the old
/// one can open is its own, the rest may be the new one's.
///
/// # Safety
/// `old` is borrowed from `state`.
pub unsafe fn share(
    local: &Local,
    now: u64,
    state: &State,
    old: &mut Connection,
    datagram: &[u8],
    fd: c_int,
    messages: &mut Datagrams,
) {
    let Some(successor) = successor(state) else {
        return old.receive(now, datagram, messages, &local.counters);
    };
    // In a callback in the middle of a call about the new one the datagram is lost, as it may be on its way.
    // SAFETY: it is in the table, so it is live, and it is this thread's.
    let Some(_in_use) = (unsafe { in_use::begin(successor) }) else { return };
    // SAFETY: as above.
    let Some(of_successor) = (unsafe { STATE.get((*successor).ssl.cast()) }) else { return };
    let mut for_successor = Datagrams::new();
    for record in records(datagram) {
        // A handshake that goes on is not proven either: whose the record is tells only the Finished.
        let of_the_old_one = (record.epoch > 0 || old.state() == Phase::Handshaking)
            && old.receive_record(now, &record, messages, &local.counters).authentic;
        if !of_the_old_one {
            // SAFETY: as above.
            unsafe {
                let key = &(*successor).key;
                advance_successor(local, now, state, of_successor, record.bytes, fd, key, &mut for_successor);
            }
        }
    }
}

/// # Safety
/// `key` holds the peer.
#[allow(clippy::too_many_arguments)]
unsafe fn advance_successor(
    local: &Local,
    now: u64,
    state: &State,
    of_successor: &State,
    datagram: &[u8],
    fd: c_int,
    key: &dv_udp_conn_key_t,
    messages: &mut Datagrams,
) {
    let mut connection = of_successor.connection.borrow_mut();
    let before = connection.state();
    messages.clear();
    connection.receive(now, datagram, messages, &local.counters);
    // SAFETY: by contract.
    let _ = unsafe { send_waiting(&mut connection, key, fd, 0, local) };
    let (phase, deadline) = (connection.state(), connection.deadline());
    drop(connection);
    if before != phase {
        moved(local, of_successor, before, phase);
    }
    due::rearm(local, now, of_successor, phase, deadline);
    of_successor.enqueue(messages.iter(), &local.counters);
    if phase == Phase::Established {
        state.superseded.set(true);
    }
}
