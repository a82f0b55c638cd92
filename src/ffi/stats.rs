//! What an endpoint has counted.

use std::mem::offset_of;

use libc::{c_int, size_t};

use super::DV_ERR_PANIC;
use super::config::{Growing, fill};
use super::endpoint::dv_endpoint;
use super::error::checked;
use super::running::live;
use crate::engine::stats::Stats;
use crate::guard::guard;
use crate::net::server::{ServerStats, SocketStats};

/// What an endpoint, a server or the helpers' table has counted since it was made. `sessions` and `handshakes` are what there is
/// now, all others only grow. Members are only ever added at the end.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct dv_stats {
    /// Sessions that are open now, or that the program has connected.
    pub sessions: u64,
    /// Handshakes with clients in progress now.
    pub handshakes: u64,
    /// Datagrams that came in.
    pub datagrams_in: u64,
    /// Datagrams that the kernel has taken; of an endpoint, those that it gave to be sent.
    pub datagrams_out: u64,
    /// Datagrams from strangers that are no ClientHello: dropped.
    pub strangers_dropped: u64,
    /// ClientHellos without a valid cookie: answered with a HelloVerifyRequest.
    pub hellos_answered: u64,
    /// ClientHellos whose first fragment does not reach over the cookie, or makes no sense up to there: dropped.
    pub hellos_too_short: u64,
    /// Cookies that did not verify.
    pub cookies_refused: u64,
    /// Handshakes begun: cookies that verified, and handshakes of dv_endpoint_connect.
    pub handshakes_begun: u64,
    /// Handshakes finished.
    pub handshakes_finished: u64,
    /// Handshakes that failed in libssl.
    pub handshakes_failed: u64,
    /// Handshakes given up at their deadline.
    pub handshakes_timed_out: u64,
    /// Handshakes refused because of max_handshakes, or given up for one of a source that has fewer.
    pub refused_handshakes: u64,
    /// Handshakes refused because of max_handshakes_per_source, or because of max_sessions_per_source with nobody to make room.
    pub refused_source: u64,
    /// Connections refused because of max_sessions, with nobody to make room.
    pub refused_connections: u64,
    /// Handshakes refused because too much waited for the program to read it.
    pub refused_unread: u64,
    /// Connections given up to make room for another.
    pub evicted: u64,
    /// Connections closed because nothing was heard of them.
    pub idle_timed_out: u64,
    /// Connections replaced by a new handshake from the same address (RFC 6347 4.2.8).
    pub restarted: u64,
    /// Handshakes given up because another one of the same peer took their place.
    pub superseded: u64,
    /// Connections closed by their peer.
    pub closed_by_peer: u64,
    /// Flights sent again because a timer ran out.
    pub flights_resent_on_timeout: u64,
    /// Flights sent again because the peer repeated its own, or sent messages without having finished the handshake.
    pub flights_resent_on_repeat: u64,
    /// Times that a connection's MTU was stepped down.
    pub mtu_stepped_down: u64,
    /// Messages handed to the program.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Messages dropped because too many waited.
    pub messages_dropped: u64,
    /// Messages refused because they do not fit in a datagram.
    pub messages_too_long: u64,
    /// Datagrams to send that were dropped because too many waited to leave.
    pub datagrams_dropped: u64,
    /// Records dropped without a look inside: alerts in clear, wrong epochs, cut short.
    pub records_dropped: u64,
    /// Helpers only: messages cut because the program's buffer was too small.
    pub messages_cut: u64,
    /// Helpers only: structs of given-up connections that nobody freed, freed to bound their number.
    pub abandoned_freed: u64,
    /// Of a server: datagrams that the kernel dropped because a socket's buffer was full.
    pub kernel_drops: u64,
    /// Of a server: datagrams of handshakes that were dropped because more waited than their share of the time allows.
    pub handshakes_shed: u64,
    /// Of a server: times that a socket had no room for what was to leave, which then waited.
    pub socket_full: u64,
    /// Of a server: datagrams that the kernel refused to send.
    pub datagrams_refused: u64,
    /// Of a server: messages of dv_server_send that could not be sent any more when their worker came to them.
    pub messages_refused: u64,
    /// Sessions whose records were taken over from OpenSSL (native_records).
    pub records_taken_over: u64,
    /// Sessions that are known by a connection ID of ours (connection_ids).
    pub connection_ids_used: u64,
    /// Times that a peer went on from another address.
    pub peers_moved: u64,
    /// New addresses of peers that have shown that they receive.
    pub addresses_proven: u64,
    /// New addresses of peers that were asked to show it and did not: the peer was looked for where it was before.
    pub addresses_refused: u64,
    /// Datagrams that did not leave because the new address of their peer has not shown that it receives.
    pub datagrams_withheld: u64,
    /// Of a server: datagrams for a session of another worker, which were handed over.
    pub datagrams_handed_over: u64,
    /// Of a server: datagrams for a session of another worker, which had no room for them.
    pub handovers_dropped: u64,
}

/// Gives what an endpoint has counted.
///
/// - `endpoint`: the endpoint
/// - `stats`: receives the counters
/// - `size`: sizeof(dv_stats)
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
///
/// # Safety
/// `endpoint` is NULL or live; `stats` is NULL or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_stats(endpoint: *const dv_endpoint, stats: *mut dv_stats, size: size_t) -> c_int {
    guard(DV_ERR_PANIC, || {
        checked("dv_endpoint_stats", || {
            // SAFETY: the caller's promise.
            unsafe {
                let endpoint = live(endpoint)?;
                let counted = dv_stats {
                    sessions: endpoint.sessions().count() as u64,
                    handshakes: endpoint.handshakes() as u64,
                    ..dv_stats::from(endpoint.stats())
                };
                fill(stats, size, &counted)?;
            }
            Ok(0)
        })
    })
}

// SAFETY: numbers.
unsafe impl Growing for dv_stats {
    const NAME: &str = "dv_stats";
    const LEAST: usize = offset_of!(dv_stats, handovers_dropped) + size_of::<u64>();
}

impl From<Stats> for dv_stats {
    fn from(stats: Stats) -> dv_stats {
        // Named one by one, so that no new counter is forgotten here.
        let Stats {
            datagrams_in,
            datagrams_out,
            strangers_dropped,
            hellos_answered,
            hellos_too_short,
            cookies_refused,
            handshakes_begun,
            handshakes_finished,
            handshakes_failed,
            handshakes_timed_out,
            refused_handshakes,
            refused_source,
            refused_connections,
            refused_unread,
            evicted,
            idle_timed_out,
            restarted,
            superseded,
            closed_by_peer,
            flights_resent_on_timeout,
            flights_resent_on_repeat,
            mtu_stepped_down,
            messages_in,
            messages_out,
            messages_cut,
            messages_dropped,
            messages_too_long,
            datagrams_dropped,
            records_dropped,
            abandoned_freed,
            records_taken_over,
            connection_ids_used,
            peers_moved,
            addresses_proven,
            addresses_refused,
            datagrams_withheld,
        } = stats;
        dv_stats {
            sessions: 0,
            handshakes: 0,
            datagrams_in,
            datagrams_out,
            strangers_dropped,
            hellos_answered,
            hellos_too_short,
            cookies_refused,
            handshakes_begun,
            handshakes_finished,
            handshakes_failed,
            handshakes_timed_out,
            refused_handshakes,
            refused_source,
            refused_connections,
            refused_unread,
            evicted,
            idle_timed_out,
            restarted,
            superseded,
            closed_by_peer,
            flights_resent_on_timeout,
            flights_resent_on_repeat,
            mtu_stepped_down,
            messages_in,
            messages_out,
            messages_dropped,
            messages_too_long,
            datagrams_dropped,
            records_dropped,
            messages_cut,
            abandoned_freed,
            records_taken_over,
            connection_ids_used,
            peers_moved,
            addresses_proven,
            addresses_refused,
            datagrams_withheld,
            kernel_drops: 0,
            handshakes_shed: 0,
            socket_full: 0,
            datagrams_refused: 0,
            messages_refused: 0,
            datagrams_handed_over: 0,
            handovers_dropped: 0,
        }
    }
}

impl From<ServerStats> for dv_stats {
    fn from(stats: ServerStats) -> dv_stats {
        // How often it reads and writes is of interest to nobody but us.
        let SocketStats {
            kernel_drops,
            handshakes_shed,
            batches_in: _,
            batches_out: _,
            socket_full,
            datagrams_refused,
            messages_refused,
            datagrams_handed_over,
            handovers_dropped,
        } = stats.sockets;
        dv_stats {
            sessions: stats.sessions as u64,
            handshakes: stats.handshakes as u64,
            kernel_drops,
            handshakes_shed,
            socket_full,
            datagrams_refused,
            messages_refused,
            datagrams_handed_over,
            handovers_dropped,
            ..dv_stats::from(stats.endpoints)
        }
    }
}
