//! Sockets, threads and the loop, with an endpoint in each thread. All functions may be called from any thread at any
//! time, except that dv_server_free() must be the last call.

use std::ffi::CStr;
use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use foreign_types::ForeignTypeRef;
use libc::{c_char, c_int, c_void, size_t};
use openssl::ssl::SslContextRef;
use openssl_sys::SSL_CTX;

use super::config::{Growing, dv_config, fill, take};
use super::endpoint::{
    DV_EVENT_CLOSED, DV_EVENT_MESSAGE, DV_EVENT_MOVED, DV_EVENT_OPENED, array, dv_endpoint, dv_event, dv_session,
    reason_number, session_from,
};
use super::error::{Failure, guard_result, guard_result_uncancelled, invalid};
use super::stats::dv_stats;
use super::version::check_openssl;
use crate::engine::connection::CloseReason;
use crate::engine::endpoint::{Error, Session};
use crate::guard::{guard, guard_uncancelled};
use crate::log::log;
use crate::net::handler::{Context, Handler};
use crate::net::server::{Server, WORKERS_MAX};

/// A server.
#[allow(non_camel_case_types)]
pub struct dv_server(Server);

/// Called when something has happened to a session of a server.
///
/// Each worker calls it from its own thread: for several sessions at the same time, but never for the same one.
/// `endpoint` is the worker's, and `event` is about one of its sessions. While the callback runs, dv_endpoint_send(),
/// dv_endpoint_close(), dv_endpoint_sessions() and all dv_session_* functions can be used with it. The functions that
/// drive an endpoint give DV_ERR_INVALID, as that is the server's job. After the callback has returned, `endpoint`
/// gives DV_ERR_BUSY until the next one. Sessions of other workers are reached with dv_server_send(). `user` is the
/// pointer that was given to dv_server_new().
#[allow(non_camel_case_types)]
pub type dv_callback =
    Option<unsafe extern "C" fn(endpoint: *mut dv_endpoint, event: *const dv_event, user: *mut c_void)>;

/// The callbacks of a server; each may be NULL. Members are only ever added at the end.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct dv_callbacks {
    /// sizeof(dv_callbacks), as the program knows it.
    pub size: size_t,
    /// A session is open: its handshake has finished.
    pub open: dv_callback,
    /// A message was received.
    pub message: dv_callback,
    /// A session that was open is over. It can still be queried, but nothing can be sent.
    pub close: dv_callback,
    /// The peer has a new address; see DV_EVENT_MOVED.
    pub moved: dv_callback,
}

/// Makes a server. It is not bound to an address yet.
///
/// - `ctx`: the SSL_CTX to make sessions with, as for dv_endpoint_new()
/// - `config`: the configuration; NULL: the defaults
/// - `callbacks`: the callbacks; the struct is copied
/// - `user`: passed to the callbacks, until dv_server_free() returns; the library does not dereference it
/// - `server`: receives the server, or NULL
///
/// Returns 0 or a negative DV_ERR_*: as dv_endpoint_new(); also DV_ERR_INVALID for NULL `callbacks`, and for a
/// secret_file that cannot be read.
///
/// Ownership: the caller frees the server with dv_server_free(). It holds a reference to the SSL_CTX.
///
/// # Safety
/// `ctx` is NULL or live; `config` and `callbacks` are NULL or as long as their `size` says; `server` is NULL or valid. The
/// callbacks can be called from other threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_new(
    ctx: *mut SSL_CTX,
    config: *const dv_config,
    callbacks: *const dv_callbacks,
    user: *mut c_void,
    server: *mut *mut dv_server,
) -> c_int {
    guard_result_uncancelled("dv_server_new", || {
        if server.is_null() {
            return Err(invalid("server is NULL"));
        }
        // SAFETY: the caller's promise.
        unsafe {
            *server = ptr::null_mut();
            if ctx.is_null() {
                return Err(invalid("ctx is NULL"));
            }
            check_openssl()?;
            let config = dv_config::read_for_server(config)?;
            let callbacks = dv_callbacks::read(callbacks)?;
            let handler = Program { callbacks, user, endpoints: [const { dv_endpoint::empty() }; WORKERS_MAX] };
            let made = Server::new(SslContextRef::from_ptr(ctx).to_owned(), config, handler)?;
            *server = Box::into_raw(Box::new(dv_server(made)));
        }
        Ok(0)
    })
}

/// Stops a server if it is running, waits for its threads, and frees it. In the child of a fork it frees the child's
/// copy only.
///
/// In a callback on one of the server's own threads, be it the server's or OpenSSL's, nothing is freed, and the log
/// says so.
///
/// - `server`: the server, or NULL
///
/// # Safety
/// `server` is NULL or came from dv_server_new and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_free(server: *mut dv_server) {
    guard_uncancelled((), || {
        // SAFETY: the caller's promise.
        match unsafe { live(server) } {
            Ok(running) if running.is_handler_here() => log!(Error, "dv_server_free: called by one of its own threads"),
            // SAFETY: the caller's promise.
            Ok(_) => drop(unsafe { Box::from_raw(server) }),
            Err(_) => {}
        }
    });
}

/// Binds a server to an address. A server can listen on several addresses, with one port each; a wildcard address
/// stands for all addresses of its family. A name is looked up, which may take a while.
///
/// - `server`: the server, not started yet
/// - `host`: an IPv4 or IPv6 address, or a name; NULL: all addresses, IPv4 and, where available, IPv6
/// - `port`: the UDP port as a decimal number, such as "4433"; "0" picks a free one
///
/// Returns the port, or a negative DV_ERR_*: DV_ERR_IO when the kernel refuses the address, or the name is unknown.
///
/// # Safety
/// `server` is NULL or live; `host` and `port` are NULL or end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_bind(server: *mut dv_server, host: *const c_char, port: *const c_char) -> c_int {
    guard_result_uncancelled("dv_server_bind", || {
        // SAFETY: the caller's promise.
        let server = unsafe { live(server) }?;
        if port.is_null() {
            return Err(invalid("port is NULL"));
        }
        // SAFETY: the caller's promise.
        let port = unsafe { CStr::from_ptr(port) };
        let port: u16 = port
            .to_str()
            .ok()
            .and_then(|port| port.parse().ok())
            .ok_or_else(|| invalid("port is not a number from 0 to 65535"))?;
        let bound = if host.is_null() {
            let all = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), (Ipv4Addr::UNSPECIFIED, port).into()];
            server.bind(&all[..])?
        } else {
            // SAFETY: the caller's promise.
            let host = unsafe { CStr::from_ptr(host) }.to_str().map_err(|_| invalid("host is no address"))?;
            let found = (host, port).to_socket_addrs().map_err(|why| Error::Io(format!("{host}: {why}")))?;
            server.bind(&found.collect::<Vec<_>>()[..])?
        };
        Ok(bound.port().into())
    })
}

/// Takes over a UDP socket that is already bound, and not connected, such as one that the program inherited. One worker
/// serves it. To share an address among several workers, pass several sockets (SO_REUSEPORT): they are dealt out in
/// turn.
///
/// - `server`: the server, not started yet
/// - `fd`: the socket. If the call succeeds, it belongs to the server, which closes it in the end
///
/// Returns the port, or a negative DV_ERR_*: DV_ERR_IO if this is no such socket.
///
/// # Safety
/// `server` is NULL or live; `fd` is nobody else's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_bind_fd(server: *mut dv_server, fd: c_int) -> c_int {
    guard_result_uncancelled("dv_server_bind_fd", || {
        // SAFETY: the caller's promise.
        let server = unsafe { live(server) }?;
        if fd < 0 {
            return Err(invalid("fd is no descriptor"));
        }
        // SAFETY: the caller's promise; a number that is not open is refused by the kernel. The caller keeps his when
        // this fails, and ours is a copy until it has succeeded.
        let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().map_err(Error::from)?;
        let bound = server.bind_socket(copy)?;
        // SAFETY: the caller's promise: it is the server's now.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(bound.port().into())
    })
}

/// Starts the threads of a server. A server can be started once; when it has ended, it can only be freed.
///
/// Before the program calls exit() or returns from main(), wait for the threads with dv_server_join() or
/// dv_server_free(). OpenSSL cleans up at exit even while threads use it: from then on no handshake can begin, and one
/// that is in progress may crash the program. A program that cannot wait must end with _exit().
///
/// - `server`: the server, bound to an address
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID without an address, or if it was started before; DV_ERR_IO if a
/// thread cannot be started: the server has then ended.
///
/// # Safety
/// `server` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_start(server: *mut dv_server) -> c_int {
    guard_result_uncancelled("dv_server_start", || {
        // SAFETY: the caller's promise.
        unsafe { live(server) }?.start_inside(guarded)?;
        Ok(0)
    })
}

/// Waits until a server has ended, after dv_server_stop() or dv_server_shutdown(). Returns at once if it was never
/// started. Must not be called by a callback.
///
/// - `server`: the server
///
/// Returns 0, or a negative DV_ERR_* that says why the server ended by itself.
///
/// # Safety
/// `server` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_join(server: *mut dv_server) -> c_int {
    guard_result_uncancelled("dv_server_join", || {
        // SAFETY: the caller's promise.
        unsafe { live(server) }?.join()?;
        Ok(0)
    })
}

/// Starts a server and waits until it has ended: dv_server_start(), then dv_server_join().
///
/// - `server`: the server
///
/// Returns 0 or a negative DV_ERR_*.
///
/// # Safety
/// `server` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_run(server: *mut dv_server) -> c_int {
    guard_result_uncancelled("dv_server_run", || {
        // SAFETY: the caller's promise.
        let server = unsafe { live(server) }?;
        server.start_inside(guarded)?;
        server.join()?;
        Ok(0)
    })
}

/// Stops a server: each peer is sent a close_notify. Returns at once; may be called from a signal handler. A server
/// that was not started yet ends as soon as it is.
///
/// - `server`: the server, or NULL
///
/// # Safety
/// `server` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_stop(server: *mut dv_server) {
    // Without the guard, which is not made for signal handlers: an atomic is set and descriptors are written to, and nothing
    // of it can panic.
    // SAFETY: the caller's promise.
    if let Some(server) = unsafe { server.as_ref() } {
        server.0.stop();
    }
}

/// Stops a server gracefully: it accepts no new sessions, and ends when those it has are over, or after a while, when
/// the remaining peers are sent a close_notify. Returns at once.
///
/// - `server`: the server
/// - `timeout_ms`: how long to wait for the sessions, in milliseconds
///
/// Returns 0 or a negative DV_ERR_*.
///
/// # Safety
/// `server` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_shutdown(server: *mut dv_server, timeout_ms: u32) -> c_int {
    guard_result_uncancelled("dv_server_shutdown", || {
        // SAFETY: the caller's promise.
        unsafe { live(server) }?.shutdown(Duration::from_millis(timeout_ms.into()))?;
        Ok(0)
    })
}

/// Replaces the SSL_CTX that new sessions are made with, for instance to change the certificate. Existing sessions keep
/// theirs.
///
/// - `server`: the server
/// - `ctx`: the SSL_CTX, as for dv_server_new(): a new one, not the old one after a change
///
/// Returns 0 or a negative DV_ERR_*; the old SSL_CTX then stays.
///
/// # Safety
/// `server` is NULL or live; `ctx` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_reload(server: *mut dv_server, ctx: *mut SSL_CTX) -> c_int {
    guard_result_uncancelled("dv_server_reload", || {
        // SAFETY: the caller's promise.
        let server = unsafe { live(server) }?;
        if ctx.is_null() {
            return Err(invalid("ctx is NULL"));
        }
        // SAFETY: the caller's promise.
        server.reload(unsafe { SslContextRef::from_ptr(ctx) }.to_owned())?;
        Ok(0)
    })
}

/// Queues one message for a session, from any thread. Inside a callback, dv_endpoint_send() avoids the queue.
///
/// - `server`: the server
/// - `session`: the session
/// - `data`: the message
/// - `len`: its length in bytes, at least 1
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_AGAIN when too much is queued, or while an export is pending;
/// DV_ERR_TOO_LONG for more than a record can hold (16384 bytes). A message that later turns out not to fit into a
/// datagram, or whose session ends before its turn, is dropped and counted.
///
/// # Safety
/// `server` is NULL or live; `data` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_send(
    server: *mut dv_server,
    session: dv_session,
    data: *const c_void,
    len: size_t,
) -> c_int {
    guard_result_uncancelled("dv_server_send", || {
        // SAFETY: the caller's promise.
        let (server, message) = unsafe { (live(server)?, array(data.cast::<u8>(), len, "data")?) };
        server.send(session_from(session)?, message)?;
        Ok(0)
    })
}

/// Closes a session, from any thread: the peer is sent a close_notify, and the close callback follows.
///
/// - `server`: the server
/// - `session`: the session
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_STALE when it is already over.
///
/// # Safety
/// `server` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_close(server: *mut dv_server, session: dv_session) -> c_int {
    guard_result_uncancelled("dv_server_close", || {
        // SAFETY: the caller's promise.
        unsafe { live(server) }?.close(session_from(session)?)?;
        Ok(0)
    })
}

/// Gets the counters of a server, summed over all workers.
///
/// - `server`: the server
/// - `stats`: receives the counters
/// - `size`: sizeof(dv_stats)
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
///
/// # Safety
/// `server` is NULL or live; `stats` is NULL or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_stats(server: *const dv_server, stats: *mut dv_stats, size: size_t) -> c_int {
    guard_result("dv_server_stats", || {
        // SAFETY: the caller's promise.
        let server = unsafe { live(server) }?;
        server.refuse_in_a_child()?;
        // SAFETY: the caller's promise.
        unsafe { fill(stats, size, &dv_stats::from(server.stats()))? };
        Ok(0)
    })
}

/// A worker's thread of ours behaves like an exported function: a panic is a line of the log, and an error of dv_server_join.
fn guarded(worker: &mut dyn FnMut()) {
    guard((), worker);
}

/// # Safety
/// `server` is NULL or live.
pub(super) unsafe fn live<'a>(server: *const dv_server) -> Result<&'a Server, Failure> {
    // SAFETY: by contract.
    Ok(&unsafe { server.as_ref() }.ok_or_else(|| invalid("server is NULL"))?.0)
}

// SAFETY: a pointer to a function is called only after the program has vouched for it.
unsafe impl Growing for dv_callbacks {
    const NAME: &str = "dv_callbacks";
    const LEAST: usize = offset_of!(dv_callbacks, moved) + size_of::<dv_callback>();
}

impl dv_callbacks {
    /// What stands at `callbacks`, with nothing for what the program's header did not have yet.
    ///
    /// # Safety
    /// `callbacks` is NULL or as long as its `size` says.
    unsafe fn read(callbacks: *const dv_callbacks) -> Result<dv_callbacks, Failure> {
        let mut known =
            dv_callbacks { size: size_of::<dv_callbacks>(), open: None, message: None, close: None, moved: None };
        if callbacks.is_null() {
            return Err(invalid("callbacks is NULL"));
        }
        // SAFETY: by contract; NULL is None.
        unsafe { take(callbacks, &mut known)? };
        Ok(known)
    }
}

/// The program's side.
struct Program {
    callbacks: dv_callbacks,
    user: *mut c_void,
    /// Of each worker, for while a callback runs. They stay, and stay empty, for a program that has kept one for later.
    endpoints: [dv_endpoint; WORKERS_MAX],
}

// SAFETY: the program has promised that the callbacks can be called from other threads with this pointer; nothing else is
// done with it. Each of the endpoints is used by its worker's thread alone.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

impl Program {
    fn call(
        &self,
        callback: dv_callback,
        context: &mut Context<'_>,
        session: Session,
        (kind, reason): (c_int, c_int),
        message: Option<&[u8]>,
    ) {
        let Some(callback) = callback else { return };
        let user = context.info(session).map_or(0, |info| info.user());
        let event = dv_event {
            kind,
            reason,
            session: session.as_u64(),
            user: ptr::with_exposed_provenance_mut(user as usize),
            data: message.map_or(ptr::null(), |message| message.as_ptr().cast()),
            len: message.map_or(0, <[u8]>::len),
        };
        let handle = &self.endpoints[context.worker()];
        // SAFETY: the program's promises.
        handle.lend(context.endpoint(), |endpoint| unsafe { callback(endpoint, &event, self.user) });
    }
}

impl Handler for Program {
    fn open(&self, context: &mut Context<'_>, session: Session) {
        self.call(self.callbacks.open, context, session, (DV_EVENT_OPENED, 0), None);
    }

    fn message(&self, context: &mut Context<'_>, session: Session, message: &[u8]) {
        self.call(self.callbacks.message, context, session, (DV_EVENT_MESSAGE, 0), Some(message));
    }

    fn moved(&self, context: &mut Context<'_>, session: Session) {
        self.call(self.callbacks.moved, context, session, (DV_EVENT_MOVED, 0), None);
    }

    fn close(&self, context: &mut Context<'_>, session: Session, reason: CloseReason) {
        self.call(self.callbacks.close, context, session, (DV_EVENT_CLOSED, reason_number(reason)), None);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use openssl::ssl::{SslContext, SslMethod};

    use super::*;
    use crate::DV_ERR_PANIC;
    use crate::engine::endpoint::{Config, Connect, Endpoint};
    use crate::net::server::ServerConfig;

    const KEY: &[u8; 16] = b"known to the two";

    fn context() -> SslContext {
        let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
        context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
        context.set_psk_server_callback(|_, _, out| {
            out[..KEY.len()].copy_from_slice(KEY);
            Ok(KEY.len())
        });
        context.set_psk_client_callback(|_, _, identity, out| {
            identity[..2].copy_from_slice(b"i\0");
            out[..KEY.len()].copy_from_slice(KEY);
            Ok(KEY.len())
        });
        context.build()
    }

    struct Panics;

    impl Handler for Panics {
        fn open(&self, _context: &mut Context<'_>, _session: Session) {
            panic!("as if there were a mistake of ours");
        }

        fn message(&self, _context: &mut Context<'_>, _session: Session, _message: &[u8]) {}
    }

    /// No callback in C can panic: it must be ours.
    #[test]
    fn a_panic_on_a_worker_is_an_error_of_join() {
        let made = Server::new(context(), ServerConfig::default(), Panics).unwrap();
        let address = made.bind("127.0.0.1:0").unwrap();
        let mut server = dv_server(made);
        // SAFETY: the server is live.
        assert_eq!(unsafe { dv_server_start(&mut server) }, 0);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut client = Endpoint::new(context(), Config::default()).unwrap();
        let session = client.connect(0, &Connect::to(address)).unwrap();
        let (mut datagram, mut closed) = ([0; 1500], None);
        for now in (0..60).map(|second| second * 1_000_000) {
            while let Some(transmit) = client.transmit(1) {
                socket.send_to(transmit.bytes, address).unwrap();
            }
            if let Ok(len) = socket.recv(&mut datagram) {
                client.receive(now, &datagram[..len], address, None);
            }
            client.advance(now);
            while let Some(event) = client.event(&mut Vec::new()) {
                assert_eq!(event.session(), session);
                closed = matches!(event, crate::engine::endpoint::Event::Closed { .. }).then_some(event).or(closed);
            }
            if closed.is_some() {
                break;
            }
        }
        assert!(closed.is_some(), "the peer is not told");
        // SAFETY: as above.
        assert_eq!(unsafe { dv_server_join(&mut server) }, DV_ERR_PANIC);
    }
}
