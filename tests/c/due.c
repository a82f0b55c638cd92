/*
 * What falls due is done in each helper that a loop calls, whomever the call is about: here a flight goes out again that
 * nobody has answered.
 */
#include <time.h>

#include "check.h"
#include "peer.h"

#define TIMEOUT_MS "20"

static struct server server;
static dv_udp_conn_t *other;
static char room[DTLS_RECORD_MAX_LEN];

static dv_udp_conn_key_t nobody(void)
{
    dv_udp_conn_key_t key;

    memset(&key, 0, sizeof(key));
    key.addr4.sin_family = AF_INET;
    key.addr4.sin_port = htons(9);
    key.addr4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return key;
}

static void by_find(void)
{
    dv_udp_conn_key_t key = nobody();

    CHECK(dv_dtls_conn_find(&key) == NULL);
}

static void by_new(void)
{
    dv_udp_conn_key_t key = nobody();
    char junk[] = "junk";

    CHECK(dv_dtls_conn_new(server.ctx, junk, sizeof(junk), server.fd, &key, sizeof(key.addr4)) == NULL);
}

static void by_read(void)
{
    CHECK(dv_dtls_read(other, NULL, 0, server.fd, room, sizeof(room), sizeof(server.at)) == 0);
}

static void by_write(void)
{
    char message[] = "a message";

    CHECK(dv_dtls_write(other, message, sizeof(message), server.fd, room, sizeof(room), sizeof(server.at)) > 0);
}

static void by_handle_timeouts(void)
{
    dv_dtls_handle_timeouts();
}

static void by_shutdown(void)
{
    dv_dtls_shutdown(other, server.fd, sizeof(server.at));
}

static void by_free(void)
{
    dv_dtls_conn_free(other);
}

static uint64_t resent(void)
{
    dv_stats stats;

    CHECK(dv_dtls_stats(&stats, sizeof(stats)) == 0);
    return stats.flights_resent_on_timeout;
}

int main(int argc, char **argv)
{
    /* The last two end the other connection. */
    static void (*const calls[])(void) = {by_find, by_new, by_read, by_write, by_handle_timeouts, by_shutdown, by_free};
    const struct timespec until_due = {.tv_nsec = 40 * 1000 * 1000};
    struct client waiting, client;
    SSL_CTX *ctx = NULL;
    uint64_t before = 0;
    size_t i = 0;

    if (argc < 2) {
        return 2;
    }
    setenv("DV_FIRST_TIMEOUT_MS", TIMEOUT_MS, 1);
    setenv("DV_LONGEST_TIMEOUT_MS", TIMEOUT_MS, 1);
    ctx = client_context(argv[1]);
    server_open(&server, argv[1]);
    other = established(&client, ctx, &server);
    client_half_open(&waiting, ctx, &server);
    for (i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        nanosleep(&until_due, NULL);
        before = resent();
        calls[i]();
        if (!CHECK(resent() == before + 1)) {
            fprintf(stderr, "call %zu\n", i);
        }
    }
    CHECK(client_handshake(&waiting, &server));
    CHECK(client_echo(&waiting, &server, "a message"));
    client_close(&waiting, &server);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("due");
}
