//! A server whose last flight is lost, and a client that therefore repeats its own.

use std::time::Duration;

use dv_dtls::Session;
use dv_dtls::wire::record::records_with;

use crate::CID_LEN;
use crate::contexts::*;
use crate::net::*;

pub struct LastFlightLost {
    pub world: World,
    pub server: usize,
    pub client: usize,
    /// The client's.
    pub session: Session,
}

impl LastFlightLost {
    /// Both repeat what is not answered after `timeout`, by the wall clock, since that is what libssl's timer goes by.
    pub fn new(timeout: Duration) -> LastFlightLost {
        let quick = || settings(|s| (s.first_timeout, s.longest_timeout) = (timeout, timeout));
        let mut world = World::new(3);
        world.real = true;
        let server = world.add(server(), quick());
        let client = world.add(client(), quick());
        let at_server = world.nodes[server].address;
        let mut finished = false;
        world.pass = Box::new(move |(from, _, bytes)| {
            finished |= *from == at_server && records_with(bytes, CID_LEN).any(|record| record.epoch == 1);
            !finished
        });
        let session = world.connect(client, server);
        LastFlightLost { world, server, client, session }
    }

    /// The client's Finished, in as many records, each with another number.
    pub fn finished(&mut self, times: usize) -> Vec<Vec<u8>> {
        let client = self.world.nodes[self.client].address;
        let finished = |world: &World| -> Vec<Vec<u8>> {
            let sent = world.sent_by(client).flat_map(|bytes| records_with(bytes, CID_LEN));
            sent.filter(|record| record.epoch == 1).map(|record| record.bytes.to_vec()).collect()
        };
        assert!(self.world.run(5 * SECOND, |world| finished(world).len() >= times));
        finished(&self.world)
    }
}
