/*
 * A client that begins anew from the same port (RFC 6347 4.2.8), and somebody who only pretends to be one: the connection
 * that is there stays until the new one has finished its handshake.
 */
#include "check.h"
#include "peer.h"

/* The first datagram of a client that is none of those the server knows. */
static int strange_hello(SSL_CTX *ctx, char *out, int size)
{
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *flight = BIO_new(BIO_s_mem());
    int len = 0;

    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(ssl, in, flight);
    SSL_set_connect_state(ssl);
    SSL_set_options(ssl, SSL_OP_NO_QUERY_MTU);
    SSL_set_mtu(ssl, 1200);
    CHECK(SSL_do_handshake(ssl) < 0);
    len = BIO_read(flight, out, size);
    CHECK(len > 0);
    SSL_free(ssl);
    return len;
}

static dv_stats counted(void)
{
    dv_stats stats;

    CHECK(dv_dtls_stats(&stats, sizeof(stats)) == 0);
    return stats;
}

/* Before the handshake is over and after it. Without cookies the pretender gets as far as a handshake of his own. */
static void pretender(const char *certs, int cookies)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conn = NULL;
    dv_udp_conn_key_t key;
    dv_stats before = counted(), after;
    char hello[2048];
    int i = 0, len = 0;

    server_open(&server, certs);
    if (!cookies) {
        SSL_CTX_clear_options(server.ctx, SSL_OP_COOKIE_EXCHANGE);
    }
    client_half_open(&client, ctx, &server);
    for (i = 0; i < 3; i++) {
        len = strange_hello(ctx, hello, sizeof(hello));
        CHECK(send(client.fd, hello, (size_t)len, 0) == len);
        server_drain(&server);
    }
    CHECK(client_handshake(&client, &server));
    CHECK(client_echo(&client, &server, "first"));
    key = client_key(&client);
    conn = dv_dtls_conn_find(&key);
    for (i = 0; i < 3; i++) {
        len = strange_hello(ctx, hello, sizeof(hello));
        CHECK(send(client.fd, hello, (size_t)len, 0) == len);
        server_drain(&server);
        CHECK(client_echo(&client, &server, "the same"));
        CHECK(dv_dtls_conn_find(&key) == conn);
    }
    CHECK(server.closed == 0);
    /* Each but the last made room for the next. */
    after = counted();
    CHECK(after.superseded - before.superseded == (cookies ? 0 : 5));
    CHECK(after.handshakes == (cookies ? 0 : 1));
    /* What the pretender has left behind goes with its deadline or by hand. */
    while ((conn = dv_dtls_conn_find(&key)) != NULL) {
        dv_dtls_conn_free(conn);
    }
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* The new connection takes the place of the old one, and what was said at once is not lost. */
static void restarted(const char *certs, int cookies)
{
    struct server server;
    struct client client, again;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *old = NULL;
    dv_udp_conn_key_t key;
    dv_stats before = counted(), after;
    char message[64];
    int result = 0, waited = 0;

    server_open(&server, certs);
    if (!cookies) {
        SSL_CTX_clear_options(server.ctx, SSL_OP_COOKIE_EXCHANGE);
    }
    client_open(&client, ctx, &server, NULL);
    CHECK(client_handshake(&client, &server));
    CHECK(client_echo(&client, &server, "before"));
    key = client_key(&client);
    old = dv_dtls_conn_find(&key);
    CHECK(old != NULL);

    again = client_anew(&client, ctx, &server);
    while ((result = SSL_do_handshake(again.ssl)) != 1) {
        /* In the middle of it the old one is still there. */
        CHECK(server.closed == 1 || dv_dtls_conn_find(&key) == old);
        if (!client_wait(&again, &server, result, &waited)) {
            break;
        }
    }
    CHECK(result == 1);
    CHECK(SSL_write(again.ssl, "one", 4) == 4);
    CHECK(SSL_write(again.ssl, "two", 4) == 4);
    server_drain(&server);
    CHECK(SSL_write(again.ssl, "three", 6) == 6);
    server_drain(&server);
    CHECK(server.closed == 1);
    CHECK(server.messages == 4);
    after = counted();
    CHECK(after.restarted - before.restarted == 1 && after.superseded == before.superseded);
    while (SSL_read(again.ssl, message, sizeof(message)) > 0) {
    }
    CHECK(dv_dtls_conn_find(&key) != NULL);
    dv_dtls_conn_free(dv_dtls_conn_find(&key));
    CHECK(dv_dtls_conn_find(&key) == NULL);
    SSL_free(again.ssl);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* Two programs one after the other, the first of which ends in the middle of its handshake: that is not a restart. */
static void superseded(const char *certs)
{
    struct server server;
    struct client client, again;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_key_t key;
    dv_stats before = counted(), after;
    char rest[2048];

    server_open(&server, certs);
    client_half_open(&client, ctx, &server);
    while (recv(client.fd, rest, sizeof(rest), MSG_DONTWAIT) > 0) {
    }
    again = client_anew(&client, ctx, &server);
    CHECK(client_handshake(&again, &server));
    CHECK(client_echo(&again, &server, "anew"));
    after = counted();
    CHECK(after.handshakes_begun - before.handshakes_begun == 2);
    CHECK(after.handshakes_finished - before.handshakes_finished == 1);
    CHECK(after.superseded - before.superseded == 1 && after.restarted == before.restarted);
    key = client_key(&client);
    dv_dtls_conn_free(dv_dtls_conn_find(&key));
    SSL_free(again.ssl);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/*
 * A connection that the caller got from dv_dtls_conn_new() is never taken for one that nobody knows of, although another one
 * with the same peer stands before it: two threads may have made one each.
 */
static void both_of_the_caller(const char *certs)
{
    struct server server;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *first, *second;
    dv_udp_conn_key_t key;
    char hello[2048], out[64];
    int i, len;

    server_open(&server, certs);
    SSL_CTX_clear_options(server.ctx, SSL_OP_COOKIE_EXCHANGE);
    memset(&key, 0, sizeof(key));
    key.addr4 = server.at;
    len = strange_hello(ctx, hello, sizeof(hello));
    first = dv_dtls_conn_new(server.ctx, hello, (size_t)len, server.fd, &key, sizeof(key.addr4));
    len = strange_hello(ctx, hello, sizeof(hello));
    second = dv_dtls_conn_new(server.ctx, hello, (size_t)len, server.fd, &key, sizeof(key.addr4));
    CHECK(first != NULL && second != NULL && first != second);
    for (i = 0; i < 3; i++) {
        len = strange_hello(ctx, hello, sizeof(hello));
        CHECK(dv_dtls_read(first, hello, (size_t)len, server.fd, out, sizeof(out), sizeof(key.addr4)) == 0);
        CHECK(second->ssl != NULL);
    }
    /* What was said to the first one has made others, which nobody knows of. */
    CHECK(counted().handshakes == 3);
    dv_dtls_conn_free(first);
    dv_dtls_conn_free(second);
    first = dv_dtls_conn_find(&key);
    CHECK(first != NULL && dv_dtls_conn_find(&key) == first);
    dv_dtls_conn_free(first);
    CHECK(counted().handshakes == 0);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* It begins anew before it has said anything, so its last flight may be lost for all the server knows: what it says of the new
   handshake in clear is no repetition of that. */
static void before_a_message(const char *certs)
{
    struct server server;
    struct client client, again;
    SSL_CTX *ctx = client_context(certs);
    dv_stats before;
    char in[2048];

    server_open(&server, certs);
    client_open(&client, ctx, &server, NULL);
    CHECK(client_handshake(&client, &server));
    /* A flight is not repeated sooner. */
    poll(NULL, 0, 60);
    again = client_anew(&client, ctx, &server);
    before = counted();
    CHECK(client_handshake(&again, &server));
    /* The old connection's goodbye would be nothing that it understands. */
    CHECK(server.closed == 1 && recv(client.fd, in, sizeof(in), MSG_DONTWAIT) == -1);
    CHECK(client_echo(&again, &server, "anew"));
    CHECK(counted().flights_resent_on_repeat == before.flights_resent_on_repeat);
    dv_dtls_conn_free(server.conn);
    SSL_free(again.ssl);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

static void keep_line(int level, const char *line, void *user)
{
    (void)level;
    snprintf(user, 1000, "%s", line);
}

/* The hello of a client that begins anew, which comes again: what the server has to say to it is repeated, and nothing begun. */
static void repeated(const char *certs)
{
    struct server server;
    struct client client, again;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conn = NULL;
    dv_stats before, after;
    char hello[2048], out[64], line[1000] = "";
    ssize_t len = 0;
    int i = 0;

    server_open(&server, certs);
    conn = established(&client, ctx, &server);
    again = client_anew(&client, ctx, &server);
    /* Without a cookie, and with one. */
    for (i = 0; i < 2; i++) {
        CHECK(SSL_do_handshake(again.ssl) < 0);
        len = recv(server.fd, hello, sizeof(hello), 0);
        CHECK(dv_dtls_read(conn, hello, (size_t)len, server.fd, out, sizeof(out), 16) == 0);
    }
    before = counted();
    CHECK(before.handshakes == 1);
    poll(NULL, 0, 60);
    CHECK(dv_dtls_read(conn, hello, (size_t)len, server.fd, out, sizeof(out), 16) == 0);
    after = counted();
    CHECK(after.flights_resent_on_repeat == before.flights_resent_on_repeat + 1);
    CHECK(after.handshakes_begun == before.handshakes_begun && after.handshakes == 1);

    /* One with another cookie: the log has it. It stands behind the session id, of which there is none. */
    dv_set_log_callback(DV_LOG_INFO, keep_line, line);
    hello[13 + 12 + 2 + 32 + 1 + 1 + 10] ^= 1;
    hello[13 + 12 + 2] ^= 1;
    CHECK(dv_dtls_read(conn, hello, (size_t)len, server.fd, out, sizeof(out), 16) == 0);
    dv_set_log_callback(0, NULL, NULL);
    CHECK(strstr(line, "cookie") != NULL);

    CHECK(client_handshake(&again, &server));
    CHECK(client_echo(&again, &server, "anew"));
    server_drain(&server);
    dv_dtls_conn_free(server.conn);
    SSL_free(again.ssl);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

int main(int argc, char **argv)
{
    int cookies = 0;

    if (argc < 2) {
        return 2;
    }
    for (cookies = 0; cookies < 2; cookies++) {
        pretender(argv[1], cookies);
        restarted(argv[1], cookies);
    }
    before_a_message(argv[1]);
    repeated(argv[1]);
    superseded(argv[1]);
    both_of_the_caller(argv[1]);
    return check_report("restart");
}
