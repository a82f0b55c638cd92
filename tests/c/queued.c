/*
 * A datagram may hold several records. The message of the first is given at once; of the others max_queued_messages wait for
 * the reads that follow, and the rest is dropped and counted.
 */
#include "check.h"
#include "peer.h"

#define RECORDS 70

/* One datagram with the message 0, and as many more as there are records. */
static size_t join(struct client *client, const struct server *server, char *datagram, size_t room)
{
    size_t len = 0;
    char i;

    for (i = 0; i < RECORDS; i++) {
        ssize_t more;

        CHECK(SSL_write(client->ssl, &i, 1) == 1);
        more = recv(server->fd, datagram + len, room - len, 0);
        CHECK(more > 0);
        len += (size_t)more;
    }
    return len;
}

static void receive(struct server *server, SSL_CTX *ctx, uint32_t most)
{
    struct client client;
    char datagram[RECORDS * 64], out[64];
    dv_config config;
    dv_stats before, after;
    dv_udp_conn_t *conn;
    size_t len;
    int i;

    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    config.max_queued_messages = most;
    CHECK(dv_dtls_set_config(&config) == 0);
    conn = established(&client, ctx, server);
    /* It holds for the connections that begin from now on. */
    config.max_queued_messages = 1;
    CHECK(dv_dtls_set_config(&config) == 0);
    CHECK(dv_dtls_stats(&before, sizeof(before)) == 0);
    len = join(&client, server, datagram, sizeof(datagram));
    for (i = 0; i <= (int)most; i++) {
        CHECK(dv_dtls_read(conn, i == 0 ? datagram : NULL, i == 0 ? len : 0, server->fd, out, sizeof(out), 0) == 1);
        CHECK(out[0] == i);
    }
    CHECK(dv_dtls_read(conn, NULL, 0, server->fd, out, sizeof(out), 0) == 0);
    CHECK(dv_dtls_stats(&after, sizeof(after)) == 0);
    CHECK(after.messages_dropped - before.messages_dropped == RECORDS - 1 - most);
    CHECK(after.messages_in - before.messages_in == most + 1);
    client_close(&client, server);
}

int main(int argc, char **argv)
{
    struct server server;
    SSL_CTX *ctx = NULL;
    dv_config config;

    if (argc < 2) {
        return 2;
    }
    CHECK(dv_dtls_config(&config, sizeof(config)) == 0 && config.max_queued_messages == 64);
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    receive(&server, ctx, 64);
    receive(&server, ctx, 2);
    receive(&server, ctx, 0);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("queued");
}
