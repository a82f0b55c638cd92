/*
 * A message that is longer than the program's buffer is cut, as recvfrom does it, and counted; the next one is whole.
 */
#include "check.h"
#include "peer.h"

/* Takes the datagram that waits, with room for so much of its message. */
static int read_into(struct server *server, char *out, size_t room)
{
    static char in[DTLS_RECORD_MAX_LEN];
    dv_udp_conn_key_t key;
    socklen_t addrlen = sizeof(key);
    struct pollfd waiting = {.fd = server->fd, .events = POLLIN};
    ssize_t len;

    memset(&key, 0, sizeof(key));
    CHECK(poll(&waiting, 1, 10000) == 1);
    len = recvfrom(server->fd, in, sizeof(in), MSG_DONTWAIT, &key.addr, &addrlen);
    CHECK(len > 0 && dv_dtls_conn_find(&key) == server->conn);
    return dv_dtls_read(server->conn, in, (size_t)len, server->fd, out, room, addrlen);
}

int main(int argc, char **argv)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = NULL;
    char out[64];
    dv_stats stats;

    if (argc < 2) {
        return 2;
    }
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    client_open(&client, ctx, &server, NULL);
    CHECK(client_handshake(&client, &server));

    CHECK(SSL_write(client.ssl, "hello, world", 12) == 12);
    memset(out, '.', sizeof(out));
    CHECK(read_into(&server, out, 5) == 5);
    CHECK(memcmp(out, "hello.", 6) == 0);
    CHECK(dv_dtls_stats(&stats, sizeof(stats)) == 0 && stats.messages_cut == 1);
    /* The rest of it is gone. */
    CHECK(dv_dtls_read(server.conn, NULL, 0, server.fd, out, sizeof(out), sizeof(server.at)) == 0);

    CHECK(SSL_write(client.ssl, "whole", 5) == 5);
    CHECK(read_into(&server, out, sizeof(out)) == 5);
    CHECK(memcmp(out, "whole", 5) == 0);
    CHECK(dv_dtls_stats(&stats, sizeof(stats)) == 0 && stats.messages_cut == 1);

    client_close(&client, &server);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("cut_message");
}
