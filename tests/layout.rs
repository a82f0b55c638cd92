//! The public types have one layout in C and in Rust.

mod common;

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::process::Command;

use dv_dtls::{
    dv_address, dv_callbacks, dv_config, dv_datagram, dv_event, dv_list_node, dv_stats, dv_udp_conn_key_t,
    dv_udp_conn_t,
};

macro_rules! layout {
    ($lines:ident, $type:ident: $($member:ident),*) => {
        let _ = writeln!($lines, "{} {}", stringify!($type), size_of::<$type>());
        $(let _ = writeln!($lines, "{}.{} {}", stringify!($type), stringify!($member), offset_of!($type, $member));)*
    };
}

#[test]
fn of_c_and_rust_are_equal() {
    let mut rust = String::new();
    layout!(rust, dv_list_node: next, prev);
    layout!(rust, dv_udp_conn_key_t: addr, addr4, addr6);
    layout!(rust, dv_udp_conn_t: list, key, ssl, rbio, wbio);
    layout!(
        rust, dv_config: size, max_sessions, max_handshakes, max_sessions_per_source, max_handshakes_per_source, mtu,
        first_timeout_ms, longest_timeout_ms, handshake_timeout_ms, idle_timeout_ms, max_queued_messages,
        max_certificate_chain, max_waiting_bytes, accept, verify_server, release_buffers, cookie_secret_len,
        cookie_secret, unix_offset_us, workers, socket_buffer, offload, steer_handshakes, secret_file, native_records,
        require_extended_master_secret, connection_ids, connection_id_len, connection_id_padding, routability_checks,
        connection_id_server_id_len, connection_id_server_id, export_timeout_ms
    );
    layout!(rust, dv_address: any, v4, v6);
    layout!(rust, dv_datagram: data, len, segment_size, peer, local);
    layout!(rust, dv_event: kind, reason, session, user, data, len);
    layout!(
        rust, dv_stats: sessions, handshakes, datagrams_in, datagrams_out, strangers_dropped, hellos_answered,
        hellos_too_short, cookies_refused, handshakes_begun, handshakes_finished, handshakes_failed,
        handshakes_timed_out, refused_handshakes, refused_source, refused_connections, refused_unread, evicted,
        idle_timed_out, restarted, superseded, closed_by_peer, flights_resent_on_timeout, flights_resent_on_repeat,
        mtu_stepped_down, messages_in, messages_out, messages_dropped, messages_too_long, datagrams_dropped,
        records_dropped, messages_cut, abandoned_freed, kernel_drops, handshakes_shed, socket_full, datagrams_refused,
        messages_refused, records_taken_over, connection_ids_used, peers_moved, addresses_proven, addresses_refused,
        datagrams_withheld, datagrams_handed_over, handovers_dropped
    );
    layout!(rust, dv_callbacks: size, open, message, close, moved);

    let object = common::scratch("layout").join("layout.o");
    let program = object.with_extension("program");
    common::compile(&common::root().join("tests/c/layout.c"), &object, &[]);
    common::link_without_library(&object, &program);
    let c = common::succeed(&mut Command::new(&program)).stdout;
    assert_eq!(String::from_utf8(c).expect("text"), rust);

    // A type that the header gets one day is not forgotten here.
    let header = std::fs::read_to_string(common::header().join("dv_dtls.h")).expect("the header");
    let types = header.lines().filter_map(|line| line.strip_prefix("} ")?.strip_suffix(';'));
    let compared = |name: &str| rust.lines().any(|line| line.starts_with(&format!("{name} ")));
    assert_eq!(types.filter(|name| !compared(name)).collect::<Vec<_>>(), [""; 0]);
}
