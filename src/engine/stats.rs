//! Counters. Each block of them has one writer; anybody may read.

use std::sync::atomic::{AtomicU64, Ordering};

use super::registry::Refusal;

/// A counter with one writer, readable from any thread: adding is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the writer of the block may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($(#[$of:meta])+ $counters:ident, $stats:ident: $($(#[$doc:meta])+ $name:ident,)+) => {
        $(#[$of])+
        ///
        /// No other writer's counters share their cache lines, which come in pairs.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct $counters { $($(#[$doc])+ pub $name: $crate::engine::stats::Counter,)+ }

        /// What the counters stood at.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $stats { $($(#[$doc])+ pub $name: u64,)+ }

        impl $stats {
            /// Adds what `counters` stand at.
            pub fn add(&mut self, counters: &$counters) {
                $(self.$name += counters.$name.get();)+
            }

            /// All of them with their names, for a page of statistics.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

pub(crate) use counters;

counters! {
    /// The counters of one endpoint or of one thread on the helpers' table.
    Counters, Stats:
    /// Datagrams that came in.
    datagrams_in,
    /// Datagrams that the kernel has taken; of an endpoint, those that it gave to be sent.
    datagrams_out,
    /// Datagrams from strangers that are no ClientHello: dropped.
    strangers_dropped,
    /// ClientHellos without a valid cookie: answered with a HelloVerifyRequest.
    hellos_answered,
    /// ClientHellos whose first fragment does not reach over the cookie, or makes no sense up to there: dropped.
    hellos_too_short,
    /// Cookies that did not verify.
    cookies_refused,
    /// Handshakes begun, that is, cookies that verified.
    handshakes_begun,
    /// Handshakes finished.
    handshakes_finished,
    /// Handshakes that failed in libssl.
    handshakes_failed,
    /// Handshakes given up at their deadline.
    handshakes_timed_out,
    /// Handshakes refused because of max_handshakes, or given up for one of a source that has fewer.
    refused_handshakes,
    /// Handshakes refused because of max_handshakes_per_source, or because of max_connections_per_source with nobody to make
    /// room.
    refused_source,
    /// Connections refused because of max_connections, with nobody to make room.
    refused_connections,
    /// Handshakes refused because too much waited for the program to read it.
    refused_unread,
    /// Connections given up to make room for another.
    evicted,
    /// Connections closed because nothing was heard of them.
    idle_timed_out,
    /// Connections replaced by a new handshake from the same address (RFC 6347 4.2.8).
    restarted,
    /// Handshakes given up because another one of the same peer took their place.
    superseded,
    /// Connections closed by their peer.
    closed_by_peer,
    /// Flights sent again because a timer ran out.
    flights_resent_on_timeout,
    /// Flights sent again because the peer repeated its own, or sent messages without having finished the handshake.
    flights_resent_on_repeat,
    /// Times that a connection's MTU was stepped down.
    mtu_stepped_down,
    /// Messages handed to the program.
    messages_in,
    /// Messages sent.
    messages_out,
    /// Messages cut because the program's buffer was too small.
    messages_cut,
    /// Messages dropped because too many waited.
    messages_dropped,
    /// Messages refused because they do not fit in a datagram.
    messages_too_long,
    /// Datagrams to send that were dropped because too many waited to leave.
    datagrams_dropped,
    /// Records dropped without a look inside: alerts in clear, wrong epochs, cut short.
    records_dropped,
    /// Structs of given-up connections that nobody freed and that were freed to bound them.
    abandoned_freed,
    /// Connections whose records were taken over from OpenSSL.
    records_taken_over,
    /// Connections that are known by a connection ID of ours.
    connection_ids_used,
    /// Times that a peer went on from another address.
    peers_moved,
    /// New addresses that have shown that they receive.
    addresses_proven,
    /// New addresses that were asked to show it and did not: the peer was looked for where it was before.
    addresses_refused,
    /// Datagrams that did not leave because their peer's new address has not shown that it receives.
    datagrams_withheld,
}

impl Counters {
    /// Counts who made room for a new peer that a limit would have refused.
    pub fn count_victim(&self, why: Refusal) {
        if why == Refusal::Handshakes { &self.refused_handshakes } else { &self.evicted }.add(1);
    }

    /// Counts a new peer that a limit refuses.
    pub fn count_refusal(&self, why: Refusal) {
        match why {
            Refusal::Handshakes => &self.refused_handshakes,
            Refusal::Source | Refusal::SourceConnections => &self.refused_source,
            Refusal::Connections => &self.refused_connections,
        }
        .add(1);
    }
}
