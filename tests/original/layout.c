/* Compiles only if the library's types have the layout of those that are cut out of the document. */
#include "prelude.h"
#include "list.h"

#define _dv_udp_conn_key_t _original_key
#define dv_udp_conn_key_t original_key
#define _dv_udp_conn_t _original_conn
#define dv_udp_conn_t original_conn
#include "original_types.h"
#undef _dv_udp_conn_key_t
#undef dv_udp_conn_key_t
#undef _dv_udp_conn_t
#undef dv_udp_conn_t

#ifdef OWN_LIST
#define DV_LIST_NODE struct list_head
#endif
#include <dv_dtls.h>

#define SAME_SIZE(a, b) _Static_assert(sizeof(a) == sizeof(b), "size of " #b)
#define SAME_OFFSET(a, b, member) \
    _Static_assert(offsetof(a, member) == offsetof(b, member), "offset of " #b "." #member); \
    SAME_SIZE(((a *)0)->member, ((b *)0)->member)

SAME_SIZE(original_key, dv_udp_conn_key_t);
SAME_OFFSET(original_key, dv_udp_conn_key_t, addr);
SAME_OFFSET(original_key, dv_udp_conn_key_t, addr4);
SAME_OFFSET(original_key, dv_udp_conn_key_t, addr6);
SAME_SIZE(original_conn, dv_udp_conn_t);
SAME_OFFSET(original_conn, dv_udp_conn_t, list);
SAME_OFFSET(original_conn, dv_udp_conn_t, key);
SAME_OFFSET(original_conn, dv_udp_conn_t, ssl);
SAME_OFFSET(original_conn, dv_udp_conn_t, rbio);
SAME_OFFSET(original_conn, dv_udp_conn_t, wbio);
