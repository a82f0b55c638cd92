//! What falls due: flights that nobody answered, handshakes that take too long, idle connections.
//!
//! The helpers have no thread of their own. Each call first does a bounded amount of what is due for the connections that
//! its thread used last, or that a thread has used that is gone; when nothing is, that is two comparisons.

use std::net::SocketAddr;

use libc::MSG_DONTWAIT;

use super::connection::unlink;
use super::in_use::{self, InUse};
use super::send::send_waiting;
use super::shared::{Entry, Local, local, orphans_due, shared};
use super::state::{STATE, State, moved};
use super::types::dv_udp_conn_t;
use crate::engine::connection::{CloseReason, State as Phase};
use crate::engine::registry::{Id, Kind, Refusal};
use crate::guard;
use crate::log::log;
use crate::net::sys;
use crate::wire::hello::ClientHello;

/// Connections that one call looks after.
const AT_MOST: usize = 16;

/// How long a connection that is over stays for its owner to notice, in microseconds.
const LINGER: u64 = 5_000_000;

/// How soon a connection that must not be given up yet is looked at again.
const LATER: u64 = 1_000_000;

/// When something is due that this thread may do.
#[inline]
pub fn next(local: &Local) -> u64 {
    local.timers.borrow().next().min(orphans_due())
}

/// [`run`] for a call that needs the time for nothing else: with no deadline at all there is no look at the clock.
#[inline]
pub fn run_now(local: &Local, about: *mut dv_udp_conn_t) {
    if next(local) != u64::MAX {
        run(local, sys::now(), about);
    }
}

/// Does what is due by `now`, and gives how much that was. `about` is the connection that the call is about: it is not
/// given up now, and neither is the one that this thread found or made last.
///
/// Inside a callback of libssl, which has called a helper, nothing is done: each of the connections looked after could lead
/// to the next callback.
#[inline]
pub fn run(local: &Local, now: u64, about: *mut dv_udp_conn_t) -> usize {
    if now < next(local) { 0 } else { run_due(local, now, about) }
}

#[cold]
fn run_due(local: &Local, now: u64, about: *mut dv_udp_conn_t) -> usize {
    if guard::is_nested() {
        return 0;
    }
    sys::not_cancelled(|| advance_those_due(local, now, about))
}

fn advance_those_due(local: &Local, now: u64, about: *mut dv_udp_conn_t) -> usize {
    let mut done = 0;
    while done < AT_MOST {
        let own = local.timers.borrow_mut().pop_due(now);
        let Some(id) = own.map(|(id, _)| id).or_else(|| shared().pop_orphan(now)) else { break };
        done += 1;
        if let Some(work) = Work::begin(id) {
            let spared = work.conn == about || work.conn == local.last.get();
            // SAFETY: the entry says that the SSL is alive, that this thread used it last, and now that it works on it.
            unsafe { advance(local, now, &work, spared) };
        }
    }
    done
}

/// The right to touch a connection that no call of its owner is about.
pub struct Work {
    pub id: Id,
    conn: *mut dv_udp_conn_t,
    _in_use: InUse,
}

impl Work {
    /// Puts a connection into the table: whoever finds it there waits until this is dropped. None where `hello` has made
    /// one already, on another thread that has got the same datagram: the network repeats them, and so do clients.
    ///
    /// # Safety
    /// `conn` is live, and nobody else has it.
    pub unsafe fn begin_newcomer(
        conn: *mut dv_udp_conn_t,
        peer: SocketAddr,
        hello: &ClientHello<'_>,
        shown: bool,
    ) -> Option<Work> {
        // SAFETY: by contract.
        let _in_use = unsafe { in_use::begin(conn) }?;
        let mut table = shared().table();
        if table.is_begun_by(&peer, hello) {
            return None;
        }
        let id = table.insert(peer, Entry::of_newcomer(conn, hello, shown), Kind::Handshaking);
        Some(Work { id, conn, _in_use })
    }

    fn begin(id: Id) -> Option<Work> {
        let mut table = shared().table();
        table.get(id).filter(|entry| entry.alive && !entry.working && table.is_ours(entry))?;
        let entry = table.get_mut(id)?;
        // In use: a callback of libssl has called a helper, in the middle of a call about this connection.
        // SAFETY: it is in the table, whose lock is held: whoever frees it takes it out first.
        let _in_use = unsafe { in_use::begin(entry.conn) }?;
        entry.thread = sys::thread();
        entry.working = true;
        Some(Work { id, conn: entry.conn, _in_use })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(entry) = shared().table().get_mut(self.id) {
            entry.working = false;
        }
    }
}

/// # Safety
/// The connection of `work` is alive and no other thread touches it.
unsafe fn advance(local: &Local, now: u64, work: &Work, spared: bool) {
    // SAFETY: by contract.
    let Some(state) = (unsafe { STATE.get((*work.conn).ssl.cast()) }) else { return };
    let mut connection = state.connection.borrow_mut();
    let before = connection.state();
    connection.advance(now, &local.counters);
    if let Some(fd) = state.descriptor.get().and_then(|descriptor| descriptor.fd()) {
        // SAFETY: the struct is live.
        let _ = unsafe { send_waiting(&mut connection, &(*work.conn).key, fd, MSG_DONTWAIT, local) };
    }
    let phase = connection.state();
    if before != phase {
        // Among others: a C caller has finished the handshake himself, with SSL_accept and the like.
        moved(local, state, before, phase);
    }
    if phase == Phase::Closed(CloseReason::HandshakeTimeout) && before != phase {
        let why = connection.why_text();
        let colon = if why.is_empty() { "" } else { ": " };
        log!(Info, "{}: the handshake took too long{colon}{why}", connection.peer());
    }
    let next = match phase {
        Phase::Closed(_) if spared => now + LATER,
        Phase::Closed(_) => {
            drop(connection);
            // SAFETY: by contract; nothing of the connection is borrowed any more.
            return unsafe { give_up(work.conn) };
        }
        _ => connection.deadline(),
    };
    local.timers.borrow_mut().set(work.id, next);
}

/// When the connection wants to be looked after next.
pub fn rearm(local: &Local, now: u64, state: &State, phase: Phase, deadline: u64) {
    if let Some(id) = state.id.get() {
        let deadline = if matches!(phase, Phase::Closed(_)) { now + LINGER } else { deadline };
        local.timers.borrow_mut().set(id, deadline);
    }
}

/// Makes room for `peer`, who would be refused otherwise: an idle connection, or a handshake, that this thread may touch goes,
/// where that helps.
pub fn evict(local: &Local, now: u64, peer: SocketAddr, why: Refusal) -> bool {
    let last = local.last.get();
    let victim = {
        let table = shared().table();
        table.victim_where(peer, why, |_, entry| {
            entry.alive && !entry.working && table.is_ours(entry) && entry.conn != last
        })
    };
    let Some(work) = victim.and_then(Work::begin) else { return false };
    // SAFETY: as in `run`.
    unsafe {
        let Some(state) = STATE.get((*work.conn).ssl.cast()) else { return false };
        let mut connection = state.connection.borrow_mut();
        connection.close(now);
        if let Some(fd) = state.descriptor.get().and_then(|descriptor| descriptor.fd()) {
            let _ = send_waiting(&mut connection, &(*work.conn).key, fd, MSG_DONTWAIT, local);
        }
        drop(connection);
        give_up(work.conn);
    }
    local.counters.count_victim(why);
    true
}

/// The library gives a connection up: it leaves the table, its SSL is freed, the struct stays for its owner, if it has one.
///
/// # Safety
/// `conn` is a live connection of the library that this thread may touch, and nothing of it is borrowed. It is in use, so that
/// callbacks that come while its SSL is freed leave it alone.
pub unsafe fn give_up(conn: *mut dv_udp_conn_t) {
    // SAFETY: by contract; freeing the SSL frees the BIOs and what hangs on it.
    unsafe {
        let (ssl, unowned) = shared().detach(&local(), conn);
        if let Some(oldest) = unowned.filter(|unowned| *unowned != conn) {
            local().counters.abandoned_freed.add(1);
            // It may hang in a list of the caller's still.
            unlink(&raw mut (*oldest).list);
            libc::free(oldest.cast());
        }
        openssl_sys::SSL_free(ssl.cast());
        if unowned == Some(conn) {
            libc::free(conn.cast());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use foreign_types::ForeignType;
    use libc::calloc;
    use openssl::ssl::{Ssl, SslContext, SslMethod};

    use super::*;
    use crate::tls::ex_data::Slot;

    fn new_struct() -> *mut dv_udp_conn_t {
        // SAFETY: no pointer is passed.
        let conn: *mut dv_udp_conn_t = unsafe { calloc(1, size_of::<dv_udp_conn_t>()) }.cast();
        assert!(!conn.is_null());
        conn
    }

    /// Bytes that malloc has given out.
    fn allocated() -> usize {
        // SAFETY: no pointer is passed.
        unsafe { libc::mallinfo2() }.uordblks
    }

    /// A program that forgets its structs costs no more than so many. The oldest goes first, also out of a list of the program's.
    #[test]
    fn of_structs_that_nobody_frees_so_many_are_kept() {
        const MAX: usize = 65_536;
        let gives_up_more_and_more = || {
            let (oldest, next) = (new_struct(), new_struct());
            // SAFETY: nobody else has the structs, and one is freed by the library alone.
            unsafe {
                let [at_oldest, at_next] = [oldest, next].map(|conn| &raw mut (*conn).list);
                ((*at_oldest).next, (*at_oldest).prev) = (at_next, at_next);
                ((*at_next).next, (*at_next).prev) = (at_oldest, at_oldest);
                give_up(oldest);
                give_up(next);
                (2..MAX).for_each(|_| give_up(new_struct()));
                assert_eq!(((*at_next).next, shared().stats().abandoned_freed), (at_oldest, 0));
                give_up(new_struct());
                assert_eq!(((*at_next).next, shared().stats().abandoned_freed), (at_next, 1));
                let before = allocated();
                (0..MAX / 4).for_each(|_| give_up(new_struct()));
                assert!(allocated() < before + MAX, "they are freed");
            }
        };
        // In a child, which has a table of its own: other tests give up structs as well. From here on forks are watched.
        shared();
        // SAFETY: the child leaves without unwinding, and what the library had locked in other threads is not locked there.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "{}", std::io::Error::last_os_error());
        if child == 0 {
            // SAFETY: should the child wait for something, it ends, and the test fails.
            unsafe { libc::alarm(60) };
            let good = catch_unwind(gives_up_more_and_more).is_ok();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!good)) };
        }
        let mut status = -1;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    }

    /// Once a connection has no SSL any more, its owner may free it on another thread, while this one still frees the SSL. What
    /// the library remembers then would be somebody else's memory, which it would free one day.
    #[test]
    fn what_was_given_up_may_be_freed_while_its_ssl_goes() {
        struct Owner(usize);
        impl Drop for Owner {
            fn drop(&mut self) {
                shared().forget_given_up(self.0 as *mut dv_udp_conn_t);
            }
        }
        static OWNER: Slot<openssl_sys::SSL, Owner> = Slot::new();

        let context = SslContext::builder(SslMethod::dtls()).unwrap().build();
        // SAFETY: the struct and the SSL are made here, and nobody else has them.
        unsafe {
            let conn = new_struct();
            let ssl = std::mem::ManuallyDrop::new(Ssl::new(&context).unwrap()).as_ptr();
            (*conn).ssl = ssl.cast();
            assert!(OWNER.set(ssl, Owner(conn as usize)));
            let peer = SocketAddr::from(([192, 0, 2, 99], 99));
            shared().table().insert(peer, Entry::new(conn, true, true), Kind::Established);
            give_up(conn);
            assert!((*conn).ssl.is_null() && !shared().has_given_up(conn));
            libc::free(conn.cast());
        }
    }
}
