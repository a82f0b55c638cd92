/*
 * What is in the table: connections that were taken out and put in again, whose SSL the program has freed, that it has found
 * last, and that are over.
 *
 * Each case runs in a process of its own, with its own limits in the environment.
 */
#include "child.h"
#include "peer.h"

static const char *certs;

static dv_stats counted(void)
{
    dv_stats stats;

    CHECK(dv_dtls_stats(&stats, sizeof(stats)) == 0);
    return stats;
}

static int flights_are_repeated(void)
{
    int waited = 0;

    while (counted().flights_resent_on_timeout < 2 && waited++ < PEER_PATIENCE) {
        dv_dtls_handle_timeouts();
        poll(NULL, 0, 10);
    }
    return counted().flights_resent_on_timeout >= 2;
}

/* Put in again, a handshake is one: its flights are repeated, it counts as one, and is none any more when it has finished. */
static void handshake_put_in_again(void)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conn = NULL;
    dv_udp_conn_key_t key;

    setenv("DV_FIRST_TIMEOUT_MS", "20", 1);
    server_open(&server, certs);
    conn = client_half_open(&client, ctx, &server);
    key = client_key(&client);
    dv_dtls_conn_del(conn);
    CHECK(dv_dtls_conn_find(&key) == NULL && counted().handshakes == 0);
    dv_dtls_conn_add(conn);
    dv_dtls_conn_add(conn);
    CHECK(dv_dtls_conn_find(&key) == conn && counted().handshakes == 1);
    CHECK(flights_are_repeated());
    CHECK(client_handshake(&client, &server));
    CHECK(counted().handshakes == 0 && counted().sessions == 1);
    dv_dtls_conn_del(conn);
    CHECK(dv_dtls_conn_find(&key) == NULL);
    dv_dtls_conn_free(conn);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* At the limit an established one that was put in again makes room, and a struct of the program's own takes none. */
static void limits(void)
{
    struct server server;
    struct client own, clients[2];
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *foreign = NULL, *conns[2];
    int i = 0;

    setenv("DV_MAX_CONNECTIONS", "1", 1);
    server_open(&server, certs);
    client_open(&own, ctx, &server, NULL);
    foreign = of_the_program(&own, &server);
    dv_dtls_conn_add(foreign);
    for (i = 0; i < 2; i++) {
        conns[i] = established(&clients[i], ctx, &server);
        CHECK(conns[i] != NULL);
        dv_dtls_conn_del(conns[i]);
        dv_dtls_conn_add(conns[i]);
    }
    CHECK(conns[0]->ssl == NULL && conns[1]->ssl != NULL && foreign->ssl != NULL);
    CHECK(counted().evicted == 1);
    for (i = 0; i < 2; i++) {
        dv_dtls_conn_free(conns[i]);
        client_vanish(&clients[i]);
    }
    dv_dtls_conn_free(foreign);
    client_vanish(&own);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* What a program has in its hands does not make room: it has found one, and takes in a newcomer without another look. */
static void found_last(void)
{
    struct server server;
    struct client clients[3];
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conns[3];
    dv_udp_conn_key_t keys[3];
    char hello[2048];
    ssize_t len = 0;
    int i = 0;

    setenv("DV_MAX_CONNECTIONS", "2", 1);
    server_open(&server, certs);
    for (i = 0; i < 2; i++) {
        conns[i] = established(&clients[i], ctx, &server);
        keys[i] = client_key(&clients[i]);
        poll(NULL, 0, 5);
    }
    SSL_CTX_clear_options(server.ctx, SSL_OP_COOKIE_EXCHANGE);
    client_open(&clients[2], ctx, &server, NULL);
    keys[2] = client_key(&clients[2]);
    SSL_do_handshake(clients[2].ssl);
    len = recv(server.fd, hello, sizeof(hello), 0);
    CHECK(len > 0);
    /* It has been idle for longer than the other one. */
    CHECK(dv_dtls_conn_find(&keys[0]) == conns[0]);
    conns[2] = dv_dtls_conn_new(server.ctx, hello, (size_t)len, server.fd, &keys[2], sizeof(keys[2].addr4));
    CHECK(conns[2] != NULL && conns[0]->ssl != NULL && conns[1]->ssl == NULL);
    for (i = 0; i < 3; i++) {
        dv_dtls_conn_free(conns[i]);
        client_vanish(&clients[i]);
    }
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* The program has freed the SSL, and the struct is still in the table: nothing is done for it, though it were time. */
static void without_ssl(void)
{
    struct server server;
    struct client clients[2];
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conn = NULL;
    dv_udp_conn_key_t key;
    int i = 0;

    setenv("DV_MAX_HANDSHAKES", "1", 1);
    setenv("DV_FIRST_TIMEOUT_MS", "20", 1);
    setenv("DV_HANDSHAKE_TIMEOUT_MS", "60", 1);
    server_open(&server, certs);
    conn = client_half_open(&clients[0], ctx, &server);
    key = client_key(&clients[0]);
    SSL_free(conn->ssl);
    SSL_CTX_clear_options(server.ctx, SSL_OP_COOKIE_EXCHANGE);
    client_open(&clients[1], ctx, &server, NULL);
    SSL_do_handshake(clients[1].ssl);
    CHECK(server_step(&server) == 1 && server.conn == NULL);
    CHECK(counted().refused_handshakes == 1 && counted().evicted == 0);
    CHECK(dv_dtls_conn_find(&key) == conn);
    for (i = 0; i < 10; i++) {
        poll(NULL, 0, 10);
        dv_dtls_handle_timeouts();
    }
    CHECK(counted().handshakes_timed_out == 0 && conn->ssl != NULL);
    dv_dtls_conn_del(conn);
    /* Nor when it is put in again. */
    dv_dtls_conn_add(conn);
    CHECK(dv_dtls_conn_find(&key) == conn && counted().handshakes == 0);
    dv_dtls_conn_del(conn);
    free(conn);
    for (i = 0; i < 2; i++) {
        client_vanish(&clients[i]);
    }
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* One without makes no room: the next one does. */
static void room_of_the_next_one(void)
{
    struct server server;
    struct client clients[3];
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conns[3];
    int i = 0;

    setenv("DV_MAX_CONNECTIONS", "2", 1);
    server_open(&server, certs);
    for (i = 0; i < 3; i++) {
        conns[i] = established(&clients[i], ctx, &server);
        CHECK(conns[i] != NULL);
        poll(NULL, 0, 5);
        if (i == 0) {
            SSL_free(conns[0]->ssl);
        }
    }
    CHECK(conns[1]->ssl == NULL && conns[2]->ssl != NULL && counted().evicted == 1);
    dv_dtls_conn_del(conns[0]);
    free(conns[0]);
    for (i = 0; i < 3; i++) {
        client_vanish(&clients[i]);
    }
    for (i = 1; i < 3; i++) {
        dv_dtls_conn_free(conns[i]);
    }
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* One that is over stays for a while as it is, for its owner to look at its SSL. */
static void over(void)
{
    struct server server;
    struct client client, other;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conn = NULL;
    char in[2048], out[64];
    ssize_t len = 0;

    server_open(&server, certs);
    conn = established(&client, ctx, &server);
    /* So that it is not the one that was found last. */
    dv_dtls_handle_timeouts();
    SSL_shutdown(client.ssl);
    len = recv(server.fd, in, sizeof(in), 0);
    CHECK(dv_dtls_read(conn, in, (size_t)len, server.fd, out, sizeof(out), 16) == -2);
    CHECK(established(&other, ctx, &server) != NULL);
    dv_dtls_handle_timeouts();
    CHECK(conn->ssl != NULL);
    dv_dtls_conn_free(conn);
    /* As one that the program has said goodbye on. */
    CHECK(dv_dtls_next_timeout() == -1);
    dv_dtls_shutdown(server.conn, server.fd, 16);
    CHECK(server.conn->ssl != NULL && dv_dtls_next_timeout() > 0);
    dv_dtls_conn_free(server.conn);
    client_vanish(&client);
    client_vanish(&other);
    SSL_CTX_free(ctx);
    server_close(&server);
}

static void count_timeouts(int level, const char *line, void *user)
{
    (void)level;
    *(int *)user += strstr(line, "took too long") != NULL;
}

/* One that the program has in its hands is looked at every second, and the log has it once. */
static void told_once(void)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conn = NULL;
    dv_udp_conn_key_t key;
    int lines = 0, i = 0;

    setenv("DV_HANDSHAKE_TIMEOUT_MS", "60", 1);
    server_open(&server, certs);
    conn = client_half_open(&client, ctx, &server);
    key = client_key(&client);
    dv_set_log_callback(DV_LOG_INFO, count_timeouts, &lines);
    for (i = 0; i < 130; i++) {
        poll(NULL, 0, 10);
        CHECK(dv_dtls_conn_find(&key) == conn);
    }
    dv_set_log_callback(0, NULL, NULL);
    CHECK(lines == 1 && conn->ssl != NULL);
    dv_dtls_conn_free(conn);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return 2;
    }
    certs = argv[1];
    run_in_child("table: a handshake put in again", handshake_put_in_again);
    run_in_child("table: limits", limits);
    run_in_child("table: found last", found_last);
    run_in_child("table: without an SSL", without_ssl);
    run_in_child("table: room of the next one", room_of_the_next_one);
    run_in_child("table: over", over);
    run_in_child("table: told once", told_once);
    return check_report("table");
}
