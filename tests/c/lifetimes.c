/*
 * What a C program may do with an SSL and BIOs that it got from the library, in whatever order: copies, references of its
 * own, other BIOs, freeing first what is usually freed last, calls from callbacks and from a thread that ends.
 */
#include <errno.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>

#include "child.h"
#include "peer.h"

/* The cookie of an SSL over memory BIOs hangs on that SSL; a copy of the SSL makes its own. */
static void copied_ssl(SSL_CTX *server_ctx, SSL_CTX *client_ctx)
{
    SSL *client = SSL_new(client_ctx), *server = SSL_new(server_ctx), *copy = NULL;
    BIO *to_server = BIO_new(BIO_s_mem()), *to_client = BIO_new(BIO_s_mem());
    BIO_ADDR *peer = BIO_ADDR_new();

    BIO_set_mem_eof_return(to_server, -1);
    BIO_set_mem_eof_return(to_client, -1);
    BIO_up_ref(to_server);
    BIO_up_ref(to_client);
    SSL_set_bio(client, to_client, to_server);
    SSL_set_bio(server, to_server, to_client);
    SSL_set_connect_state(client);
    CHECK(SSL_do_handshake(client) < 0);
    CHECK(DTLSv1_listen(server, peer) == 0);
    CHECK(BIO_pending(to_client) > 0);
    copy = SSL_dup(server);
    CHECK(copy != NULL && copy != server);
    SSL_free(copy);
    SSL_free(server);
    SSL_free(client);
    BIO_ADDR_free(peer);
}

/* What was due for a connection goes with it. */
static void nothing_is_due(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_key_t key;

    CHECK(dv_dtls_next_timeout() == -1);
    client_open(&client, ctx, server, NULL);
    CHECK(client_handshake(&client, server));
    CHECK(dv_dtls_next_timeout() >= 0);
    key = client_key(&client);
    dv_dtls_conn_free(dv_dtls_conn_find(&key));
    CHECK(dv_dtls_next_timeout() == -1);
    client_vanish(&client);
}

/* The library's BIOs are not the SSL's any more: nothing goes through, and nothing breaks. */
static void other_bios(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    char in[64] = "message", out[64];

    SSL_set_bio(conn->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    CHECK(SSL_write(client.ssl, "hello", 5) == 5);
    server_drain(server);
    CHECK(dv_dtls_read(conn, in, sizeof(in), server->fd, out, sizeof(out), sizeof(conn->key.addr4)) <= 0);
    dv_dtls_write(conn, in, sizeof(in), server->fd, out, sizeof(out), sizeof(conn->key.addr4));
    dv_dtls_shutdown(conn, server->fd, sizeof(conn->key.addr4));
    dv_dtls_conn_free(conn);
    client_vanish(&client);
}

/* References of the program's own keep the SSL and the BIOs usable after the connection is gone. */
static void own_references(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    SSL *ssl = conn->ssl;
    BIO *rbio = conn->rbio, *wbio = conn->wbio;
    char out[512];
    int len = 0;

    SSL_up_ref(ssl);
    BIO_up_ref(rbio);
    BIO_up_ref(wbio);
    dv_dtls_conn_free(conn);
    CHECK(SSL_write(ssl, "from beyond", 11) == 11);
    len = BIO_read(wbio, out, sizeof(out));
    CHECK(len > 0);
    SSL_free(ssl);
    CHECK(BIO_write(rbio, out, len) == len);
    CHECK(BIO_pending(wbio) == 0 && BIO_reset(wbio) == 1);
    CHECK(BIO_read(wbio, out, sizeof(out)) == -1);
    BIO_free(rbio);
    BIO_free(wbio);
    client_vanish(&client);
}

/* The original's own conn_free: the SSL first, then the table, then the struct. */
static void ssl_first(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    dv_udp_conn_key_t key = client_key(&client);

    SSL_free(conn->ssl);
    dv_dtls_handle_timeouts();
    dv_dtls_conn_del(conn);
    free(conn);
    CHECK(dv_dtls_conn_find(&key) == NULL);
    dv_dtls_handle_timeouts();
    client_vanish(&client);
}

/* SSL_clear takes libssl's side of the connection back to its beginning. */
static void cleared(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    char in[64] = "message", out[64];

    SSL_clear(conn->ssl);
    CHECK(SSL_write(client.ssl, "hello", 5) == 5);
    CHECK(dv_dtls_read(conn, in, sizeof(in), server->fd, out, sizeof(out), sizeof(conn->key.addr4)) <= 0);
    dv_dtls_write(conn, in, sizeof(in), server->fd, out, sizeof(out), sizeof(conn->key.addr4));
    dv_dtls_shutdown(conn, server->fd, sizeof(conn->key.addr4));
    dv_dtls_conn_free(conn);
    client_vanish(&client);
    server_drain(server);
}

/* A program that takes the -1 of a failed call for a length is told so. */
static void lengths(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    dv_udp_conn_key_t key = client_key(&client);
    char in[64] = "message", out[64];

    CHECK(FAILS(dv_dtls_read(conn, in, (size_t)-1, server->fd, out, sizeof(out), 16) == -1, EINVAL));
    CHECK(FAILS(dv_dtls_write(conn, in, (size_t)-1, server->fd, out, sizeof(out), 16) == -1, EINVAL));
    CHECK(FAILS(dv_dtls_conn_new(server->ctx, in, (size_t)-1, server->fd, &key, 16) == NULL, EINVAL));
    CHECK(dv_dtls_read(conn, in, 0, server->fd, out, (size_t)-1, 16) == 0);
    CHECK(client_echo(&client, server, "still here"));
    dv_dtls_conn_free(conn);
    client_vanish(&client);
}

/* Nothing that a child seals with its parent's keys leaves it, by whatever function it was written. */
static void forked(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    char out[512];
    pid_t child = fork();

    if (child == 0) {
        int sealed = SSL_write(conn->ssl, "from the child", 14);

        /* And nothing is due there for a connection of the parent's. */
        dv_dtls_shutdown(conn, server->fd, sizeof(conn->key.addr4));
        _exit(dv_dtls_next_timeout() != -1 || sealed > 0 || BIO_pending((BIO *)conn->wbio) > 0 || BIO_read(conn->wbio, out, sizeof(out)) > 0);
    }
    child_succeeds(child);
    CHECK(client_echo(&client, server, "from the parent's peer"));
    dv_dtls_conn_free(conn);
    client_vanish(&client);
}

static void forget_line(int level, const char *line, void *user)
{
    (void)level, (void)line, (void)user;
}

static void *random_bytes(void *stop)
{
    unsigned char bytes[32];

    while (!atomic_load((atomic_int *)stop)) {
        RAND_bytes(bytes, sizeof(bytes));
    }
    return NULL;
}

static void *lines(void *stop)
{
    while (!atomic_load((atomic_int *)stop)) {
        dv_ssl_certificate(NULL, NULL, NULL);
    }
    return NULL;
}

/* Looks at the context for each stranger. */
static struct {
    SSL_CTX *ctx;
    int fd;
} door;

static void stranger(void)
{
    dv_udp_conn_key_t key;
    char junk[] = "junk";

    memset(&key, 0, sizeof(key));
    key.addr4.sin_family = AF_INET;
    key.addr4.sin_port = htons(9);
    key.addr4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    dv_dtls_conn_new(door.ctx, junk, sizeof(junk), door.fd, &key, sizeof(key.addr4));
}

static void *strangers(void *stop)
{
    while (!atomic_load((atomic_int *)stop)) {
        stranger();
    }
    return NULL;
}

/* What another thread had locked at the fork, in OpenSSL's generator, in the log or around a context, would stay locked in the
   child. */
static void forked_beside_threads(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    dv_udp_conn_key_t key = client_key(&client);
    atomic_int stop = 0;
    pthread_t threads[3];
    int i = 0, held = 1;

    door.ctx = server->ctx;
    door.fd = server->fd;
    dv_set_log_callback(DV_LOG_DEBUG, forget_line, NULL);
    CHECK(pthread_create(&threads[0], NULL, random_bytes, &stop) == 0);
    CHECK(pthread_create(&threads[1], NULL, lines, &stop) == 0);
    CHECK(pthread_create(&threads[2], NULL, strangers, &stop) == 0);
    for (i = 0; i < 100 && held; i++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(10);
            CHECK(dv_dtls_conn_find(&key) == NULL);
            dv_dtls_conn_free(conn);
            dv_ssl_certificate(NULL, NULL, NULL);
            stranger();
            child_ends();
        }
        held = child_killed_itself(child);
    }
    atomic_store(&stop, 1);
    for (i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    dv_set_log_callback(0, NULL, NULL);
    dv_dtls_conn_free(conn);
    client_vanish(&client);
}

/* What a callback of libssl calls, in the middle of a call about `busy`. */
static struct {
    dv_udp_conn_t *busy, *other;
    int fd, calls;
} in_callback;

static void call_helpers(int out, int version, int type, const void *bytes, size_t len, SSL *ssl, void *user)
{
    dv_udp_conn_t *busy = in_callback.busy, *other = in_callback.other;
    char in[] = "from the callback", message[64];

    (void)out, (void)version, (void)type, (void)bytes, (void)len, (void)user;
    if (busy == NULL || ssl != busy->ssl) {
        return;
    }
    in_callback.calls++;
    CHECK(dv_dtls_conn_find(&busy->key) == busy);
    CHECK(FAILS(dv_dtls_read(busy, NULL, 0, in_callback.fd, message, sizeof(message), 16) == -1, EBUSY));
    CHECK(FAILS(dv_dtls_write(busy, in, sizeof(in), in_callback.fd, message, sizeof(message), 16) == -1, EBUSY));
    dv_dtls_shutdown(busy, in_callback.fd, 16);
    dv_dtls_handle_timeouts();
    CHECK(dv_dtls_conn_find(&other->key) == other);
    CHECK(dv_dtls_read(other, NULL, 0, in_callback.fd, message, sizeof(message), 16) == 0);
    CHECK(dv_dtls_write(other, in, sizeof(in), in_callback.fd, message, sizeof(message), 16) == sizeof(in));
}

static void from_callbacks(struct server *server, SSL_CTX *ctx)
{
    struct client first, second;
    char message[64];

    in_callback.busy = NULL;
    in_callback.fd = server->fd;
    SSL_CTX_set_msg_callback(server->ctx, call_helpers);
    in_callback.other = established(&first, ctx, server);
    in_callback.busy = established(&second, ctx, server);
    CHECK(client_echo(&second, server, "while the callback runs"));
    CHECK(in_callback.calls >= 2);
    CHECK(SSL_read(first.ssl, message, sizeof(message)) > 0);
    CHECK(server->closed == 0);
    dv_dtls_conn_free(in_callback.busy);
    dv_dtls_conn_free(in_callback.other);
    in_callback.busy = NULL;
    SSL_CTX_set_msg_callback(server->ctx, NULL);
    client_vanish(&first);
    client_vanish(&second);
}

/* Each thread frees its connection when it ends: pthread destructors run after those of the library's language. */
struct ending {
    struct server *server;
    SSL_CTX *ctx;
    pthread_key_t key;
    int freed;
};

static struct ending ending;

static void at_end(void *conn)
{
    char in[64] = "goodbye", out[64];

    dv_dtls_write(conn, in, sizeof(in), ending.server->fd, out, sizeof(out), sizeof(struct sockaddr_in));
    dv_dtls_write(NULL, in, sizeof(in), ending.server->fd, out, sizeof(out), sizeof(struct sockaddr_in));
    dv_dtls_shutdown(conn, ending.server->fd, sizeof(struct sockaddr_in));
    dv_dtls_conn_free(conn);
    ending.freed++;
}

static void *ending_thread(void *user)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ending.ctx, ending.server);

    CHECK(conn != NULL);
    CHECK(pthread_setspecific(ending.key, conn) == 0);
    client_vanish(&client);
    return user;
}

static void count_line(int level, const char *line, void *user)
{
    (void)level, (void)line;
    ++*(int *)user;
}

static void thread_ends(struct server *server, SSL_CTX *ctx)
{
    pthread_t thread;
    int i = 0, lines = 0;

    ending = (struct ending){.server = server, .ctx = ctx};
    CHECK(pthread_key_create(&ending.key, at_end) == 0);
    dv_set_log_callback(DV_LOG_DEBUG, count_line, &lines);
    for (i = 0; i < 3; i++) {
        CHECK(pthread_create(&thread, NULL, ending_thread, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(ending.freed == i + 1);
    }
    dv_set_log_callback(0, NULL, NULL);
    pthread_key_delete(ending.key);
}

int main(int argc, char **argv)
{
    struct server server;
    SSL_CTX *ctx = NULL;

    if (argc < 2) {
        return 2;
    }
    ctx = client_context(argv[1]);
    server_open(&server, argv[1]);
    copied_ssl(server.ctx, ctx);
    nothing_is_due(&server, ctx);
    other_bios(&server, ctx);
    own_references(&server, ctx);
    ssl_first(&server, ctx);
    cleared(&server, ctx);
    lengths(&server, ctx);
    forked(&server, ctx);
    forked_beside_threads(&server, ctx);
    from_callbacks(&server, ctx);
    thread_ends(&server, ctx);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("lifetimes");
}
