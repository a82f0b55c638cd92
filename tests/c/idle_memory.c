/*
 * What an idle connection costs: the heap of the server's side, OpenSSL's part included, with and without
 * DV_RELEASE_BUFFERS, and beside that of a program that does without the library. OpenSSL itself has grown: 3.2 and
 * later keep more for each epoch.
 * https://github.com/openssl/openssl/issues/31492
 */
#include <malloc.h>

#include "check.h"
#include "peer.h"

#define CONNECTIONS 200

/* Without lists of freed chunks, small or of the thread: they would count as in use. */
static void count_exactly(char **argv)
{
    /* For the question behind it: with a static OpenSSL nothing is in use yet. */
    void *volatile something = malloc(1);
    int is_told = heap_in_use() != 0;

    free(something);
    mallopt(M_MXFAST, 0);
    if (is_told && setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 0) == 0
        && getenv("COUNTS_EXACTLY") == NULL && setenv("COUNTS_EXACTLY", "1", 1) == 0) {
        /* The C library reads the first of the two at the start. */
        execv(argv[0], argv);
        peer_die(argv[0]);
    }
}

/* The addresses of the last ones. */
static dv_udp_conn_key_t keys[CONNECTIONS];

/*
 * The clients leave without a word, so that what is left is the server's. They resume a session: then OpenSSL keeps no
 * last flight, which takes as much with the library as without.
 */
static void connect_all(struct server *server, SSL_CTX *ctx, SSL_SESSION *session)
{
    static struct client clients[CONNECTIONS];
    int i = 0;

    for (i = 0; i < CONNECTIONS; i++) {
        client_open(&clients[i], ctx, server, session);
        CHECK(client_handshake(&clients[i], server) && SSL_session_reused(clients[i].ssl));
        CHECK(client_echo(&clients[i], server, "hello"));
        keys[i] = client_key(&clients[i]);
    }
    for (i = 0; i < CONNECTIONS; i++) {
        /* Or OpenSSL would not let the session be resumed again. */
        SSL_set_quiet_shutdown(clients[i].ssl, 1);
        SSL_shutdown(clients[i].ssl);
        client_vanish(&clients[i]);
    }
}

/* Idle connections give their buffers back after a second. */
static void let_them_idle(void)
{
    int timeout = 0, rounds = 0;

    while ((timeout = dv_dtls_next_timeout()) >= 0 && timeout <= 2000 && ++rounds < 1000) {
        usleep((useconds_t)timeout * 1000);
        dv_dtls_handle_timeouts();
    }
}

/* A record of epoch 1 that nobody has sealed, in the name of each of the peers. */
static void forge(struct server *server)
{
    char record[13 + 64] = {23, (char)0xfe, (char)0xfd, 0, 1, 0, 0, 0, 0, 1, 0, 0, 64}, out[128];
    int i = 0;

    for (i = 0; i < CONNECTIONS; i++) {
        dv_udp_conn_t *conn = dv_dtls_conn_find(&keys[i]);

        CHECK(conn != NULL && dv_dtls_read(conn, record, sizeof(record), server->fd, out, sizeof(out), 16) == 0);
    }
}

static size_t each(struct server *server, SSL_CTX *ctx, SSL_SESSION *session, int release)
{
    dv_config config;
    size_t before = 0;

    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    config.release_buffers = release;
    CHECK(dv_dtls_set_config(&config) == 0);
    before = heap_in_use();
    connect_all(server, ctx, session);
    let_them_idle();
    forge(server);
    return (heap_in_use() - before) / CONNECTIONS;
}

/* What a program has that does without the library: an SSL over two memory BIOs, and a struct to find it by. */
struct plain {
    SSL *ssl;
    dv_udp_conn_t *conn;
};

static SSL *over_memory(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);

    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    return ssl;
}

static void carry(SSL *from, SSL *to)
{
    static char waiting[65536];
    int len = BIO_read(SSL_get_wbio(from), waiting, sizeof(waiting));

    CHECK(len <= 0 || BIO_write(SSL_get_rbio(to), waiting, len) == len);
}

/* The client of such a connection, once a message has come back to it. */
static SSL *talk(SSL *server, SSL_CTX *ctx, SSL_SESSION *session)
{
    SSL *client = over_memory(ctx);
    char message[64];
    int rounds = 0;

    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    if (session != NULL) {
        SSL_set_session(client, session);
    }
    while ((SSL_do_handshake(client) != 1 || SSL_do_handshake(server) != 1) && ++rounds < 10) {
        carry(client, server);
        SSL_do_handshake(server);
        carry(server, client);
    }
    CHECK(SSL_write(client, "hello", 6) == 6);
    carry(client, server);
    CHECK(SSL_read(server, message, sizeof(message)) == 6 && SSL_write(server, message, 6) == 6);
    carry(server, client);
    CHECK(SSL_read(client, message, sizeof(message)) == 6 && SSL_session_reused(client) == (session != NULL));
    return client;
}

static size_t each_plain(const char *certs, SSL_CTX *client_ctx)
{
    static struct plain all[CONNECTIONS + 1];
    static SSL *clients[CONNECTIONS + 1];
    SSL_CTX *ctx = server_context(certs);
    SSL_SESSION *session = NULL;
    size_t before = 0, after = 0;
    int i = 0;

    SSL_CTX_clear_options(ctx, SSL_OP_COOKIE_EXCHANGE);
    for (i = 0; i <= CONNECTIONS; i++) {
        all[i].ssl = over_memory(ctx);
        all[i].conn = calloc(1, sizeof(*all[i].conn));
        clients[i] = talk(all[i].ssl, client_ctx, session);
        /* What is made once is not counted. */
        if (i == 0) {
            session = SSL_get1_session(clients[0]);
            before = heap_in_use();
        }
    }
    for (i = 1; i <= CONNECTIONS; i++) {
        SSL_free(clients[i]);
    }
    after = heap_in_use();
    SSL_free(clients[0]);
    for (i = 0; i <= CONNECTIONS; i++) {
        SSL_free(all[i].ssl);
        free(all[i].conn);
    }
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    return (after - before) / CONNECTIONS;
}

int main(int argc, char **argv)
{
    struct server server;
    struct client first;
    SSL_CTX *ctx = NULL;
    SSL_SESSION *session = NULL;
    size_t kept = 0, released = 0, plain = 0;

    if (argc < 2) {
        return 2;
    }
    count_exactly(argv);
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    /* What is made once is not counted. */
    client_open(&first, ctx, &server, NULL);
    CHECK(client_handshake(&first, &server) && client_echo(&first, &server, "hello"));
    session = SSL_get1_session(first.ssl);
    client_close(&first, &server);

    kept = each(&server, ctx, session, 0);
    released = each(&server, ctx, session, 1);
    plain = each_plain(argv[1], ctx);
    printf("%s: %zu bytes an idle connection, %zu with its buffers given back, %zu without the library\n",
           OpenSSL_version(OPENSSL_VERSION), kept, released, plain);
    /* AddressSanitizer and valgrind have an allocator of their own, which mallinfo2 knows nothing of. */
    if (kept != 0) {
        /* At least the two buffers of 16 KB. */
        CHECK(released + 32 * 1024 < kept);
        CHECK(kept <= plain);
        CHECK(released <= (OpenSSL_version_num() >= 0x30200000L ? 80 : 40) * 1024);
    }

    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    server_close(&server);
    if (check_report("idle_memory") != 0) {
        return 1;
    }
    if (kept == 0) {
        puts("the allocator does not tell what is in use");
        return 77;
    }
    return 0;
}
