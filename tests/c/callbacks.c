/*
 * Callbacks of OpenSSL in the middle of a helper's call that call helpers about the very connection: one of the library's, one
 * that the program made itself, one that is being freed or given up, one whose client has begun anew; or about one that
 * another thread is busy with. argv[1]: the folder of certs/make-certs.sh. lifetimes.c has more of them.
 */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "check.h"
#include "peer.h"

/* Called by libssl; does nothing but in the middle of what a test wants to disturb. */
static void (*in_message)(SSL *ssl);
static dv_udp_conn_t *freeing;
static int calls;

static void on_message(int out, int version, int type, const void *bytes, size_t len, SSL *ssl, void *user)
{
    (void)out, (void)version, (void)type, (void)bytes, (void)len, (void)user;
    if (in_message != NULL) {
        in_message(ssl);
    }
}

/* Each helper that uses a connection, about one that is in use; it stays as it is. */
static void each_is_refused(dv_udp_conn_t *conn)
{
    char in[] = "from the callback", out[64];

    calls++;
    CHECK(FAILS(dv_dtls_read(conn, NULL, 0, -1, out, sizeof(out), 16) == -1, EBUSY));
    CHECK(FAILS(dv_dtls_write(conn, in, sizeof(in), -1, out, sizeof(out), 16) == -1, EBUSY));
    CHECK(SETS_ERRNO(dv_dtls_shutdown(conn, -1, 16), EBUSY));
    CHECK(conn->wbio == NULL || FAILS(dv_dtls_msg_send(conn->wbio, -1, &conn->key, 16) == -1, EBUSY));
    CHECK(SETS_ERRNO(dv_dtls_conn_free(conn), EBUSY));
    /* Out of the table and in again: the first is done. */
    dv_dtls_conn_del(conn);
    CHECK(SETS_ERRNO(dv_dtls_conn_add(conn), EBUSY));
    dv_dtls_handle_timeouts();
}

static void on_freed(void *ssl, void *value, CRYPTO_EX_DATA *all, int index, long number, void *user)
{
    (void)ssl, (void)value, (void)all, (void)index, (void)number, (void)user;
    if (freeing != NULL) {
        dv_udp_conn_t *conn = freeing;

        freeing = NULL;
        each_is_refused(conn);
    }
}

static dv_udp_conn_t *busy;

static void refuse_about_busy(SSL *ssl)
{
    if (busy != NULL && ssl == busy->ssl) {
        each_is_refused(busy);
    }
}

/* In the middle of writing, saying goodbye and freeing. */
static void refused_from_here_on(struct server *server, dv_udp_conn_t *conn)
{
    char message[] = "hello", out[64];
    int before = calls;

    CHECK(dv_dtls_write(conn, message, 5, server->fd, out, sizeof(out), 16) == 5);
    CHECK(calls > before);
    before = calls;
    dv_dtls_shutdown(conn, server->fd, 16);
    CHECK(calls > before);
    in_message = NULL;
    before = calls;
    freeing = conn;
    dv_dtls_conn_free(conn);
    CHECK(calls == before + 1);
}

/* And of reading. */
static void of_the_library(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    int before = calls;
    char in[2048], out[64];
    ssize_t len = 0;

    busy = established(&client, ctx, server);
    in_message = refuse_about_busy;
    CHECK(SSL_write(client.ssl, "hello", 5) == 5);
    len = recv(server->fd, in, sizeof(in), 0);
    CHECK(dv_dtls_read(busy, in, (size_t)len, server->fd, out, sizeof(out), 16) == 5);
    CHECK(calls > before);
    refused_from_here_on(server, busy);
    client_vanish(&client);
}

/* Nothing of the library's hangs on such an SSL. */
static void with_own_ssl(struct server *server, SSL_CTX *ctx)
{
    dv_udp_conn_t *conn = NULL;
    struct client client;
    int before = calls;

    client_open(&client, ctx, server, NULL);
    conn = of_the_program(&client, server);
    busy = conn;
    in_message = refuse_about_busy;
    CHECK(client_handshake_with(&client, server, conn));
    CHECK(calls > before);
    refused_from_here_on(server, conn);
    client_vanish(&client);
    server_drain(server);
}

/* The library gives a connection up at a deadline; its struct stays for who has it. */
static void given_up(struct server *server, SSL_CTX *ctx)
{
    const struct timespec moment = {0, 20 * 1000 * 1000};
    struct client client;
    dv_udp_conn_t *conn = NULL;
    dv_config config;
    int before = calls, turns = 0;

    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    config.idle_timeout_ms = 1000;
    CHECK(dv_dtls_set_config(&config) == 0);
    conn = established(&client, ctx, server);
    /* Not the one that was found last. */
    CHECK(dv_dtls_conn_find(NULL) == NULL);
    freeing = conn;
    while (conn->ssl != NULL && turns++ < 500) {
        dv_dtls_handle_timeouts();
        nanosleep(&moment, NULL);
    }
    CHECK(conn->ssl == NULL && calls == before + 1);
    dv_dtls_conn_free(conn);
    config.idle_timeout_ms = 0;
    CHECK(dv_dtls_set_config(&config) == 0);
    client_vanish(&client);
}

/* The connection behind an old one whose client has begun anew: the old one's call uses it, too. */
static dv_udp_conn_t *old;

static void refuse_about_both(SSL *ssl)
{
    dv_udp_conn_t *behind = NULL;

    if (old == NULL || ssl != old->ssl) {
        return;
    }
    dv_dtls_conn_del(old);
    behind = dv_dtls_conn_find(&old->key);
    CHECK(behind != NULL && behind != old);
    if (behind != NULL) {
        CHECK(SETS_ERRNO(dv_dtls_conn_free(behind), EBUSY));
        calls++;
    }
    old = NULL;
}

static void begun_anew(struct server *server, SSL_CTX *ctx)
{
    struct client client, again;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    dv_udp_conn_key_t key = conn->key;
    int before = calls, i = 0;

    again = client_anew(&client, ctx, server);
    /* Until the server's flight is on its way. */
    for (i = 0; i < 2; i++) {
        SSL_do_handshake(again.ssl);
        server_drain(server);
    }
    old = conn;
    in_message = refuse_about_both;
    CHECK(SSL_write(client.ssl, "from the old one", 16) == 16);
    server_drain(server);
    CHECK(old == NULL && calls > before);
    in_message = NULL;
    old = NULL;
    dv_dtls_conn_free(conn);
    while ((conn = dv_dtls_conn_find(&key)) != NULL) {
        dv_dtls_conn_free(conn);
    }
    SSL_free(again.ssl);
    client_vanish(&client);
    server_drain(server);
}

/* Two threads, each of which does what is due for its connection, and in a callback wants the other one's. */
static _Thread_local dv_udp_conn_t *mine, *theirs;
static _Atomic int arrived, left;

static void wait_for_both(_Atomic int *count)
{
    const struct timespec moment = {0, 1000 * 1000};
    int turns = 0;

    ++*count;
    while (*count < 2 && turns++ < 20000) {
        nanosleep(&moment, NULL);
    }
    CHECK(*count == 2);
}

static void want_the_other(SSL *ssl)
{
    char out[64];

    if (mine == NULL || ssl != mine->ssl) {
        return;
    }
    mine = NULL;
    wait_for_both(&arrived);
    CHECK(FAILS(dv_dtls_read(theirs, NULL, 0, -1, out, sizeof(out), 16) == -1, EBUSY));
    CHECK(FAILS(dv_dtls_write(theirs, out, 1, -1, out, sizeof(out), 16) == -1, EBUSY));
    CHECK(SETS_ERRNO(dv_dtls_shutdown(theirs, -1, 16), EBUSY));
    CHECK(SETS_ERRNO(dv_dtls_conn_del(theirs), EBUSY));
    CHECK(SETS_ERRNO(dv_dtls_conn_free(theirs), EBUSY));
    wait_for_both(&left);
}

static void *own_one(void *pair)
{
    dv_udp_conn_t *conn = ((dv_udp_conn_t **)pair)[0];
    const struct timespec moment = {0, 10 * 1000 * 1000};
    char out[64];
    int turns = 0;

    theirs = ((dv_udp_conn_t **)pair)[1];
    CHECK(dv_dtls_read(conn, NULL, 0, -1, out, sizeof(out), 16) == 0);
    mine = conn;
    while (conn->ssl != NULL && turns++ < 3000) {
        dv_dtls_handle_timeouts();
        nanosleep(&moment, NULL);
    }
    CHECK(conn->ssl == NULL);
    return NULL;
}

static void two_at_once(struct server *server, SSL_CTX *ctx)
{
    struct client clients[2];
    dv_udp_conn_t *pairs[2][2];
    pthread_t threads[2];
    dv_config config;
    int i = 0;

    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    config.idle_timeout_ms = 3000;
    CHECK(dv_dtls_set_config(&config) == 0);
    for (i = 0; i < 2; i++) {
        pairs[i][0] = pairs[1 - i][1] = established(&clients[i], ctx, server);
    }
    in_message = want_the_other;
    for (i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, own_one, pairs[i]) == 0);
    }
    for (i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        dv_dtls_conn_free(pairs[i][0]);
        client_vanish(&clients[i]);
    }
    CHECK(arrived == 2 && left == 2);
    in_message = NULL;
}

int main(int argc, char **argv)
{
    struct server server;
    SSL_CTX *ctx = NULL;

    if (argc < 2) {
        return 2;
    }
    /* A deadlock is a failure. */
    alarm(100);
    CHECK(SSL_get_ex_new_index(0, NULL, NULL, NULL, on_freed) > 0);
    ctx = client_context(argv[1]);
    server_open(&server, argv[1]);
    SSL_CTX_set_msg_callback(server.ctx, on_message);
    of_the_library(&server, ctx);
    with_own_ssl(&server, ctx);
    given_up(&server, ctx);
    begun_anew(&server, ctx);
    two_at_once(&server, ctx);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("callbacks");
}
