//! What an endpoint, a server or the helpers have counted.

use std::mem::offset_of;

use libc::{c_int, size_t};

use super::config::{Growing, fill};
use super::endpoint::dv_endpoint;
use super::error::guard_result;
use super::running::live;
use crate::engine::stats::Stats;
use crate::net::server::{ServerStats, SocketStats};

/// The counters of an endpoint, a server or the helpers' table. `sessions` and `handshakes` are current numbers, all
/// others only grow. Members are only ever added at the end.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct dv_stats {
    /// Sessions that are open, or that the program has connected, now.
    pub sessions: u64,
    /// Handshakes with clients in progress now.
    pub handshakes: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent. For an endpoint: those that it returned for sending.
    pub datagrams_out: u64,
    /// Datagrams dropped because they came from a stranger and are no ClientHello.
    pub strangers_dropped: u64,
    /// ClientHellos without a valid cookie, answered with a HelloVerifyRequest.
    pub hellos_answered: u64,
    /// ClientHellos dropped because their first fragment does not reach past the cookie, or makes no sense up to there.
    pub hellos_too_short: u64,
    /// Cookies that did not verify.
    pub cookies_refused: u64,
    /// Handshakes begun: with a valid cookie, or by dv_endpoint_connect().
    pub handshakes_begun: u64,
    /// Handshakes finished.
    pub handshakes_finished: u64,
    /// Handshakes that failed in libssl.
    pub handshakes_failed: u64,
    /// Handshakes that did not finish in time.
    pub handshakes_timed_out: u64,
    /// Handshakes refused because of max_handshakes, or given up for one of a source that has fewer.
    pub refused_handshakes: u64,
    /// Handshakes refused because of max_handshakes_per_source, or of max_sessions_per_source when no session could
    /// make room.
    pub refused_source: u64,
    /// Sessions refused because of max_sessions when no session could make room.
    pub refused_connections: u64,
    /// Handshakes refused because too much waited for the program to take it.
    pub refused_unread: u64,
    /// Sessions that made room for another one.
    pub evicted: u64,
    /// Sessions closed because nothing was heard of the peer.
    pub idle_timed_out: u64,
    /// Sessions replaced by a new handshake from the same address (RFC 6347 4.2.8).
    pub restarted: u64,
    /// Handshakes replaced by another one of the same peer.
    pub superseded: u64,
    /// Sessions closed by the peer.
    pub closed_by_peer: u64,
    /// Flights retransmitted because a timer ran out.
    pub flights_resent_on_timeout: u64,
    /// Flights retransmitted because the peer retransmitted its own, or sent messages without having finished the
    /// handshake.
    pub flights_resent_on_repeat: u64,
    /// Reductions of a session's MTU.
    pub mtu_stepped_down: u64,
    /// Messages handed to the program.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Messages dropped because too many waited for the program.
    pub messages_dropped: u64,
    /// Messages refused because they do not fit into a datagram.
    pub messages_too_long: u64,
    /// Datagrams dropped because too many waited to be sent.
    pub datagrams_dropped: u64,
    /// Records dropped without being decrypted: alerts in clear, wrong epochs, truncated ones.
    pub records_dropped: u64,
    /// Helpers only: messages truncated because the program's buffer was too small.
    pub messages_cut: u64,
    /// Helpers only: connections that the library gave up, and later freed because the program had not.
    pub abandoned_freed: u64,
    /// Servers only: datagrams that the kernel dropped because a socket's buffer was full.
    pub kernel_drops: u64,
    /// Servers only: datagrams of handshakes that were dropped because they would have taken more than their share of
    /// the time.
    pub handshakes_shed: u64,
    /// Servers only: times that a socket's buffer was full, so that datagrams had to wait.
    pub socket_full: u64,
    /// Servers only: datagrams that the kernel refused to send.
    pub datagrams_refused: u64,
    /// Servers only: messages of dv_server_send() that the worker could no longer send when their turn came.
    pub messages_refused: u64,
    /// Sessions whose records the library took over from OpenSSL (native_records).
    pub records_taken_over: u64,
    /// Sessions that have a connection ID of ours (connection_ids).
    pub connection_ids_used: u64,
    /// Times that a peer moved to another address.
    pub peers_moved: u64,
    /// New addresses that a peer has proved.
    pub addresses_proven: u64,
    /// New addresses that a peer was asked to prove and did not, so that the old one was used again.
    pub addresses_refused: u64,
    /// Datagrams not sent because the peer has not proved its new address.
    pub datagrams_withheld: u64,
    /// Servers only: datagrams handed over to the worker that has their session.
    pub datagrams_handed_over: u64,
    /// Servers only: datagrams dropped because the worker that has their session had no room for them.
    pub handovers_dropped: u64,
}

/// Gets the counters of an endpoint.
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
    guard_result("dv_endpoint_stats", || {
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
}

// SAFETY: numbers.
unsafe impl Growing for dv_stats {
    const NAME: &str = "dv_stats";
    const LEAST: usize = offset_of!(dv_stats, handovers_dropped) + size_of::<u64>();
}

/// Counters of the engine for C, by their names: one that is missing here does not compile.
macro_rules! from_stats {
    ($($counter:ident)+) => {
        impl From<Stats> for dv_stats {
            fn from(Stats { $($counter),+ }: Stats) -> dv_stats {
                dv_stats { $($counter,)+ ..dv_stats::default() }
            }
        }
    };
}

from_stats! {
    datagrams_in datagrams_out strangers_dropped
    hellos_answered hellos_too_short cookies_refused
    handshakes_begun handshakes_finished handshakes_failed handshakes_timed_out
    refused_handshakes refused_source refused_connections refused_unread
    evicted idle_timed_out restarted superseded closed_by_peer
    flights_resent_on_timeout flights_resent_on_repeat mtu_stepped_down
    messages_in messages_out messages_cut messages_dropped messages_too_long
    datagrams_dropped records_dropped abandoned_freed records_taken_over
    connection_ids_used peers_moved addresses_proven addresses_refused datagrams_withheld
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
