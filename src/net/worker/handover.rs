//! A worker whose sessions go to another process, or come from one.

use std::net::{IpAddr, SocketAddr};

use super::{GOODBYE, Worker};
use crate::engine::endpoint::{Endpoint, Error};
use crate::net::export::Order;
use crate::net::sys::precise_now;
use crate::net::sys::udp::{Waiting, wait};

impl Worker {
    /// Gives what it has, and does nothing before it knows what became of that. Says whether its sessions
    /// are gone.
    pub(super) fn hand_over(&mut self, order: Order, waiting: &mut [Waiting]) -> Result<bool, Error> {
        // What others have asked for so far is done, and what was sent so far leaves.
        self.mailbox().set_halted(true);
        self.read_letters(precise_now());
        self.tell();
        let packed = self.endpoint.pack();
        self.transmit();
        self.drain(waiting, precise_now() + GOODBYE)?;
        let _ = order.packed.send(packed);
        while order.verdict.get().is_none() && !self.shared.is_stopping() {
            wait(&mut waiting[..1], u64::MAX)?;
            self.mailbox().bell().hear();
        }
        // Without a verdict the server is being stopped: somebody may have the sessions, so nothing more is said on them.
        let committed = order.verdict.get() != Some(&false);
        if committed {
            self.endpoint.commit_export();
        } else {
            self.endpoint.cancel_export();
            self.mailbox().set_halted(false);
            self.read_letters(precise_now());
        }
        self.tell();
        Ok(committed)
    }

    /// Whether the datagrams of this peer to this address of ours come in here; where that is the kernel's own choice, all
    /// workers say so.
    pub fn serves(&self, peer: SocketAddr, local: Option<IpAddr>) -> bool {
        let reaches = |worker: usize| worker == self.number;
        self.ports.iter().any(|port| port.serves(peer, local) && port.worker_of(peer).is_none_or(reaches))
    }

    /// Its endpoint, before it runs.
    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }
}
