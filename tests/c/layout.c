/* Prints the size and the offsets of each public type, for tests/layout.rs to compare with Rust's. */
#include <stddef.h>
#include <stdio.h>

#include <dv_dtls.h>

#define SIZE(type) printf(#type " %zu\n", sizeof(type))
#define OFFSET(type, member) printf(#type "." #member " %zu\n", offsetof(type, member))

int main(void)
{
    SIZE(dv_list_node);
    OFFSET(dv_list_node, next);
    OFFSET(dv_list_node, prev);

    SIZE(dv_udp_conn_key_t);
    OFFSET(dv_udp_conn_key_t, addr);
    OFFSET(dv_udp_conn_key_t, addr4);
    OFFSET(dv_udp_conn_key_t, addr6);

    SIZE(dv_udp_conn_t);
    OFFSET(dv_udp_conn_t, list);
    OFFSET(dv_udp_conn_t, key);
    OFFSET(dv_udp_conn_t, ssl);
    OFFSET(dv_udp_conn_t, rbio);
    OFFSET(dv_udp_conn_t, wbio);

    SIZE(dv_config);
    OFFSET(dv_config, size);
    OFFSET(dv_config, max_sessions);
    OFFSET(dv_config, max_handshakes);
    OFFSET(dv_config, max_sessions_per_source);
    OFFSET(dv_config, max_handshakes_per_source);
    OFFSET(dv_config, mtu);
    OFFSET(dv_config, first_timeout_ms);
    OFFSET(dv_config, longest_timeout_ms);
    OFFSET(dv_config, handshake_timeout_ms);
    OFFSET(dv_config, idle_timeout_ms);
    OFFSET(dv_config, max_queued_messages);
    OFFSET(dv_config, max_certificate_chain);
    OFFSET(dv_config, max_waiting_bytes);
    OFFSET(dv_config, accept);
    OFFSET(dv_config, verify_server);
    OFFSET(dv_config, release_buffers);
    OFFSET(dv_config, cookie_secret_len);
    OFFSET(dv_config, cookie_secret);
    OFFSET(dv_config, unix_offset_us);
    OFFSET(dv_config, workers);
    OFFSET(dv_config, socket_buffer);
    OFFSET(dv_config, offload);
    OFFSET(dv_config, steer_handshakes);
    OFFSET(dv_config, secret_file);
    OFFSET(dv_config, native_records);
    OFFSET(dv_config, require_extended_master_secret);
    OFFSET(dv_config, connection_ids);
    OFFSET(dv_config, connection_id_len);
    OFFSET(dv_config, connection_id_padding);
    OFFSET(dv_config, routability_checks);
    OFFSET(dv_config, connection_id_server_id_len);
    OFFSET(dv_config, connection_id_server_id);
    OFFSET(dv_config, export_timeout_ms);

    SIZE(dv_address);
    OFFSET(dv_address, any);
    OFFSET(dv_address, v4);
    OFFSET(dv_address, v6);

    SIZE(dv_datagram);
    OFFSET(dv_datagram, data);
    OFFSET(dv_datagram, len);
    OFFSET(dv_datagram, segment_size);
    OFFSET(dv_datagram, peer);
    OFFSET(dv_datagram, local);

    SIZE(dv_event);
    OFFSET(dv_event, kind);
    OFFSET(dv_event, reason);
    OFFSET(dv_event, session);
    OFFSET(dv_event, user);
    OFFSET(dv_event, data);
    OFFSET(dv_event, len);

    SIZE(dv_stats);
    OFFSET(dv_stats, sessions);
    OFFSET(dv_stats, handshakes);
    OFFSET(dv_stats, datagrams_in);
    OFFSET(dv_stats, datagrams_out);
    OFFSET(dv_stats, strangers_dropped);
    OFFSET(dv_stats, hellos_answered);
    OFFSET(dv_stats, hellos_too_short);
    OFFSET(dv_stats, cookies_refused);
    OFFSET(dv_stats, handshakes_begun);
    OFFSET(dv_stats, handshakes_finished);
    OFFSET(dv_stats, handshakes_failed);
    OFFSET(dv_stats, handshakes_timed_out);
    OFFSET(dv_stats, refused_handshakes);
    OFFSET(dv_stats, refused_source);
    OFFSET(dv_stats, refused_connections);
    OFFSET(dv_stats, refused_unread);
    OFFSET(dv_stats, evicted);
    OFFSET(dv_stats, idle_timed_out);
    OFFSET(dv_stats, restarted);
    OFFSET(dv_stats, superseded);
    OFFSET(dv_stats, closed_by_peer);
    OFFSET(dv_stats, flights_resent_on_timeout);
    OFFSET(dv_stats, flights_resent_on_repeat);
    OFFSET(dv_stats, mtu_stepped_down);
    OFFSET(dv_stats, messages_in);
    OFFSET(dv_stats, messages_out);
    OFFSET(dv_stats, messages_dropped);
    OFFSET(dv_stats, messages_too_long);
    OFFSET(dv_stats, datagrams_dropped);
    OFFSET(dv_stats, records_dropped);
    OFFSET(dv_stats, messages_cut);
    OFFSET(dv_stats, abandoned_freed);
    OFFSET(dv_stats, kernel_drops);
    OFFSET(dv_stats, handshakes_shed);
    OFFSET(dv_stats, socket_full);
    OFFSET(dv_stats, datagrams_refused);
    OFFSET(dv_stats, messages_refused);
    OFFSET(dv_stats, records_taken_over);
    OFFSET(dv_stats, connection_ids_used);
    OFFSET(dv_stats, peers_moved);
    OFFSET(dv_stats, addresses_proven);
    OFFSET(dv_stats, addresses_refused);
    OFFSET(dv_stats, datagrams_withheld);
    OFFSET(dv_stats, datagrams_handed_over);
    OFFSET(dv_stats, handovers_dropped);
    SIZE(dv_callbacks);
    OFFSET(dv_callbacks, size);
    OFFSET(dv_callbacks, open);
    OFFSET(dv_callbacks, message);
    OFFSET(dv_callbacks, close);
    OFFSET(dv_callbacks, moved);
    return 0;
}
