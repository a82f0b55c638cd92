/*
 * Nanoseconds that dv_dtls_conn_find takes among as many connections as the argument says. Behind the prelude and
 * either the helpers of the original listing or the library's header.
 */
#include <time.h>

static uint64_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* The key of connection i, made without a look at memory: in the server it has just come from the kernel. */
static dv_udp_conn_key_t key_of(size_t i)
{
    dv_udp_conn_key_t key;

    memset(&key, 0, sizeof(key));
    key.addr4.sin_family = AF_INET;
    key.addr4.sin_port = htons(1024 + i % 50000);
    key.addr4.sin_addr.s_addr = htonl(0x0a000001u + i / 7);
    return key;
}

int main(int argc, char **argv)
{
    const size_t looks = 2000000;
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, i = 0, found = 0;
    struct timespec began, ended;
    uint64_t state = 1;

    if (count == 0) {
        return 64;
    }
    dv_dtls_conn_table_init();
    for (i = 0; i < count; i++) {
        dv_udp_conn_t *conn = calloc(1, sizeof(*conn));
        dv_udp_conn_key_t key = key_of(i);
        conn->key = key;
        dv_dtls_conn_add(conn);
        if (dv_dtls_conn_find(&key) != conn) {
            fprintf(stderr, "connection %zu is not found\n", i);
            return 1;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (i = 0; i < looks; i++) {
        dv_udp_conn_key_t key = key_of(draw(&state) % count);
        found += dv_dtls_conn_find(&key) != NULL;
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    if (found != looks) {
        fprintf(stderr, "%zu of %zu found\n", found, looks);
        return 1;
    }
    printf("%.2f\n", ((ended.tv_sec - began.tv_sec) * 1e9 + (ended.tv_nsec - began.tv_nsec)) / looks);
    return 0;
}
