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

/* What does not come to its turn waits in the program's own BIO, where a peer cannot have as much as it likes. */
static void receive_by_the_program(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    char datagram[RECORDS * 64], out[64];
    dv_stats before, after;
    dv_udp_conn_t *conn;
    size_t len, most = 0;
    int i;

    client_open(&client, ctx, server, NULL);
    conn = of_the_program(&client, server);
    CHECK(client_handshake_with(&client, server, conn));
    CHECK(dv_dtls_stats(&before, sizeof(before)) == 0);
    for (i = 0; i < 500; i++) {
        len = join(&client, server, datagram, sizeof(datagram));
        CHECK(dv_dtls_read(conn, datagram, len, server->fd, out, sizeof(out), 0) == 1);
        most = BIO_ctrl_pending(conn->rbio) > most ? BIO_ctrl_pending(conn->rbio) : most;
    }
    CHECK(most < 512 * 1024);
    CHECK(dv_dtls_stats(&after, sizeof(after)) == 0);
    CHECK(after.messages_dropped > before.messages_dropped);

    /* Nothing is dropped where nothing has come. */
    CHECK(dv_dtls_read(conn, NULL, 0, server->fd, out, sizeof(out), 0) > 0);
    CHECK(dv_dtls_stats(&before, sizeof(before)) == 0);
    CHECK(after.messages_dropped == before.messages_dropped);

    /* Where there is room again, what comes next is taken. */
    while (dv_dtls_read(conn, NULL, 0, server->fd, out, sizeof(out), 0) > 0) {
    }
    CHECK(BIO_ctrl_pending(conn->rbio) == 0);
    len = join(&client, server, datagram, sizeof(datagram));
    CHECK(dv_dtls_read(conn, datagram, len, server->fd, out, sizeof(out), 0) == 1 && out[0] == 0);
    dv_dtls_conn_free(conn);
    client_vanish(&client);
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
    receive_by_the_program(&server, ctx);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("queued");
}
