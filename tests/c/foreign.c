/*
 * Connections with an SSL of the program's own over memory BIOs: what the helpers promise holds for them as well.
 */
#include "peer.h"

/* By default a datagram has room for so much, and a record of a program's own SSL is counted with all that may be in it. */
#define ROOM (1280 - 28)
#define OVERHEAD_MAX (13 + 16 + 48 + 16)

/* So many bytes of a message; gives what dv_dtls_write() does. */
static int write_to(dv_udp_conn_t *conn, const struct server *server, size_t len)
{
    static char message[2048], out[64];

    return dv_dtls_write(conn, message, len, server->fd, out, sizeof(out), 16);
}

static int read_from(dv_udp_conn_t *conn, const struct server *server, char *datagram, ssize_t len)
{
    char out[64];

    return dv_dtls_read(conn, datagram, (size_t)len, server->fd, out, sizeof(out), 16);
}

/* Errors that the program has left behind are not the connection's, and it leaves none behind. */
static void errors(const struct server *server, dv_udp_conn_t *conn)
{
    ERR_raise(ERR_LIB_SSL, ERR_R_INTERNAL_ERROR);
    CHECK(read_from(conn, server, NULL, 0) == 0);
    CHECK(ERR_peek_error() == 0);
}

/* Protected, but too short for what protects it: anybody can send that, and libssl would give up. */
static void too_short(const struct server *server, dv_udp_conn_t *conn)
{
    char forged[] = "\x17\xfe\xfd\0\x01\0\0\0\0\x01\0\0\x08" "8 bytes!";

    CHECK(read_from(conn, server, forged, sizeof(forged) - 1) == 0);
}

int main(int argc, char **argv)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = NULL;
    dv_udp_conn_t *conn = NULL;
    char in[2048];
    ssize_t len = 0;

    if (argc < 2) {
        return 2;
    }
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    client_open(&client, ctx, &server, NULL);
    conn = of_the_program(&client, &server);
    CHECK(FAILS(write_to(conn, &server, 1) == -1, EAGAIN));
    dv_dtls_shutdown(conn, server.fd, 16);
    CHECK(ERR_peek_error() == 0);
    dv_dtls_conn_free(conn);

    conn = of_the_program(&client, &server);
    CHECK(client_handshake_with(&client, &server, conn));
    errors(&server, conn);
    too_short(&server, conn);
    CHECK(SSL_write(client.ssl, "hello", 5) == 5);
    len = recv(server.fd, in, sizeof(in), 0);
    CHECK(read_from(conn, &server, in, len) == 5);

    CHECK(FAILS(write_to(conn, &server, ROOM - OVERHEAD_MAX + 1) == -1, EMSGSIZE));
    CHECK(write_to(conn, &server, ROOM - OVERHEAD_MAX) == ROOM - OVERHEAD_MAX);
    CHECK(SSL_read(client.ssl, in, sizeof(in)) == ROOM - OVERHEAD_MAX);
    dv_dtls_shutdown(conn, server.fd, 16);
    CHECK(FAILS(write_to(conn, &server, 1) == -1, EIO));
    dv_dtls_conn_free(conn);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("foreign");
}
