/*
 * What an idle connection costs: the heap of the server's side, OpenSSL's part included, with and without
 * DV_RELEASE_BUFFERS. OpenSSL itself has grown: 3.2 and later keep more for each epoch.
 * https://github.com/openssl/openssl/issues/31492
 */
#include <malloc.h>

#include "check.h"
#include "peer.h"

#define CONNECTIONS 200

/* The addresses of the last ones. */
static dv_udp_conn_key_t keys[CONNECTIONS];

static size_t heap_in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* The clients leave without a word, so that what is left is the server's. */
static void connect_all(struct server *server, SSL_CTX *ctx)
{
    static struct client clients[CONNECTIONS];
    int i = 0;

    for (i = 0; i < CONNECTIONS; i++) {
        client_open(&clients[i], ctx, server, NULL);
        CHECK(client_handshake(&clients[i], server));
        CHECK(client_echo(&clients[i], server, "hello"));
        keys[i] = client_key(&clients[i]);
    }
    for (i = 0; i < CONNECTIONS; i++) {
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

static size_t each(struct server *server, SSL_CTX *ctx, int release)
{
    dv_config config;
    size_t before = 0;

    CHECK(dv_dtls_get_config(&config, sizeof(config)) == 0);
    config.release_buffers = release;
    CHECK(dv_dtls_configure(&config) == 0);
    before = heap_in_use();
    connect_all(server, ctx);
    let_them_idle();
    forge(server);
    return (heap_in_use() - before) / CONNECTIONS;
}

int main(int argc, char **argv)
{
    struct server server;
    struct client first;
    SSL_CTX *ctx = NULL;
    size_t kept = 0, released = 0;

    if (argc < 2) {
        return 2;
    }
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    /* What is made once is not counted. */
    client_open(&first, ctx, &server, NULL);
    CHECK(client_handshake(&first, &server));
    client_close(&first, &server);

    kept = each(&server, ctx, 0);
    released = each(&server, ctx, 1);
    printf("%s: %zu bytes an idle connection, %zu with its buffers given back\n", OpenSSL_version(OPENSSL_VERSION), kept,
           released);
    /* AddressSanitizer and valgrind have an allocator of their own, which mallinfo2 knows nothing of. */
    if (kept != 0) {
        /* At least the two buffers of 16 KB. */
        CHECK(released + 32 * 1024 < kept);
        CHECK(released <= (OpenSSL_version_num() >= 0x30200000L ? 80 : 40) * 1024);
    } else {
        printf("the allocator does not tell what is in use\n");
    }

    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("idle_memory") != 0 ? 1 : kept == 0 ? 77 : 0;
}
