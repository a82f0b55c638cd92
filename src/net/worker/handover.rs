//! A worker whose sessions go to another process, or come from one.

use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use super::{BELL, Worker};
use crate::engine::endpoint::{Endpoint, Error};
use crate::net::export::Order;
use crate::net::socket::Port;
use crate::net::sys::precise_now;
use crate::net::sys::udp::Waiting;

impl Worker {
    /// Gives its sessions to the thread that writes the export, and stands still until it knows what became of that. Returns
    /// whether the sessions are gone.
    pub(super) fn hand_over(&mut self, order: Order, waiting: &mut Waiting) -> Result<bool, Error> {
        let Order { packed, verdict, by } = order;
        self.finish_letters(waiting)?;
        let _ = packed.send(self.service.endpoint.pack());
        // The thread that asked reads on until all workers have dropped theirs.
        drop(packed);
        // Only the bell is polled: poll reports errors of sockets even if nothing is wanted of them.
        let mut bell = Waiting::on(iter::once(self.mailbox().bell().as_fd()));
        bell.want(BELL, true, false);
        while !verdict.is_known() && !self.service.shared.is_stopping() {
            // An export that has been written stays as long as the program thinks about it.
            let left = by.saturating_sub(precise_now());
            if left == 0 && verdict.give_up() {
                break;
            }
            bell.wait(if left == 0 { u64::MAX } else { left })?;
            self.mailbox().bell().hear();
        }
        // Without a verdict the server is being stopped. Where somebody may have the sessions, nothing more is said on them.
        let committed = !verdict.give_up();
        if committed {
            self.service.endpoint.commit_export()?;
        } else {
            self.service.endpoint.advance(precise_now());
            self.service.endpoint.cancel_export()?;
            self.mailbox().set_halted(false);
            // The bell was heard here, and more may have been asked for since, such as the next export.
            self.rung = true;
            self.stuck = false;
        }
        self.service.tell();
        Ok(committed)
    }

    /// Whether the datagrams of this peer to this address of ours come in here, or at `named`, if a connection ID names a
    /// worker; where that is the kernel's own choice, all workers say so.
    pub fn serves(&self, peer: SocketAddr, local: Option<IpAddr>, named: Option<usize>) -> bool {
        let reaches = |worker: usize| worker == self.service.number;
        let is_here = |port: &Port| named.or_else(|| port.worker_of(peer)).is_none_or(reaches);
        self.ports.iter().any(|port| port.serves(peer, local) && is_here(port))
    }

    /// Its endpoint, before it runs.
    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.service.endpoint
    }
}
