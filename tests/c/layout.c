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
    return 0;
}
