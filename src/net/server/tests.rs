//! What can be seen only from inside: locks.

use std::mem::forget;

use openssl::ssl::SslMethod;

use super::*;
use crate::net::handler::Context;

/// A thread that is not in the child may have held any lock when the process forked: what can be done in a child waits for
/// none.
#[test]
fn a_child_waits_for_nobodys_lock() {
    let made = || {
        let context = SslContext::builder(SslMethod::dtls()).unwrap().build();
        Server::new(context, ServerConfig::default(), |_: &mut Context<'_>, _: Session, _: &[u8]| {}).unwrap()
    };
    let (idle, started) = (made(), made());
    started.bind("127.0.0.1:0").unwrap();
    started.start().unwrap();
    for server in [idle, started] {
        let threads = server.lock().take_handles();
        // As if by another thread: nobody lets go of them.
        forget(server.lock());
        forget(lock(&server.joining));
        forget(lock(&server.context));
        forget(server.pending_export());
        server.shared.desks.iter().for_each(|desk| desk.mailbox.lock_for_ever());
        // SAFETY: the child does what is looked at here, and leaves without unwinding; SIGALRM ends it if that waits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the call takes no pointer.
            unsafe { libc::alarm(10) };
            let to = "127.0.0.1:0";
            let session = Session::from_u64(1).unwrap();
            let refused = server.bind(to) == Err(Error::Forked)
                && server.start() == Err(Error::Forked)
                && server.send(session, b"a") == Err(Error::Forked)
                && server.close(session) == Err(Error::Forked)
                && server.join() == Err(Error::Forked)
                && server.commit_export() == Err(Error::Forked)
                && !server.is_handler_here()
                && server.stats().sessions == 0;
            drop(server);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!refused)) };
        }
        // Here the locks stay as they are, too.
        forget(server);
        threads.into_iter().for_each(forget);
        let mut status = -1;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    }
}
