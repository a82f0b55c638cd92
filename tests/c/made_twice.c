/*
 * The network repeats datagrams, and two threads may both find no connection with a peer and both take its hello for a new
 * one. A hello makes one connection, whose flight alone goes out; another hello of the same peer makes a second one, which
 * stands behind the first.
 */
#include <pthread.h>

#include "check.h"
#include "peer.h"

#define ROUNDS 50

/* A hello with a cookie, which nobody has seen yet. */
struct hello {
    char bytes[2048];
    ssize_t len;
};

static void prove(struct client *client, struct server *server, struct hello *hello)
{
    SSL_do_handshake(client->ssl);
    CHECK(server_step(server) && server->conn == NULL);
    SSL_do_handshake(client->ssl);
    hello->len = recv(server->fd, hello->bytes, sizeof(hello->bytes), 0);
    CHECK(hello->len > 0);
}

static dv_udp_conn_t *take(const struct server *server, const struct client *client, const struct hello *hello)
{
    dv_udp_conn_key_t key = client_key(client);
    struct hello copy = *hello;

    return dv_dtls_conn_new(server->ctx, copy.bytes, (size_t)copy.len, server->fd, &key, sizeof(key.addr4));
}

static uint64_t handshakes(void)
{
    dv_stats stats;

    CHECK(dv_dtls_stats(&stats, sizeof(stats)) == 0);
    return stats.handshakes;
}

static void one_after_the_other(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    struct hello hello;
    dv_udp_conn_t *conn;
    char in[2048];

    client_open(&client, ctx, server, NULL);
    prove(&client, server, &hello);
    conn = take(server, &client, &hello);
    CHECK(conn != NULL && handshakes() == 1);
    /* Nothing more is said to it, and the handshake is the first one's. */
    while (recv(client.fd, in, sizeof(in), MSG_PEEK | MSG_DONTWAIT) > 0 && SSL_do_handshake(client.ssl) != 1) {
    }
    CHECK(take(server, &client, &hello) == NULL && handshakes() == 1);
    CHECK(recv(client.fd, in, sizeof(in), MSG_DONTWAIT) < 0);
    CHECK(client_handshake(&client, server) && client_echo(&client, server, "a message"));
    CHECK(take(server, &client, &hello) == NULL);
    /* Once it is gone the hello is as good as any. */
    dv_dtls_conn_free(conn);
    conn = take(server, &client, &hello);
    CHECK(conn != NULL);
    dv_dtls_conn_free(conn);
    client_vanish(&client);
}

struct share {
    struct server *server;
    const struct client *client;
    const struct hello *hello;
    pthread_barrier_t *start;
};

static void *take_share(void *arg)
{
    const struct share *share = arg;

    pthread_barrier_wait(share->start);
    return take(share->server, share->client, share->hello);
}

static void at_the_same_time(struct server *server, SSL_CTX *ctx)
{
    pthread_barrier_t start;
    int i = 0;

    pthread_barrier_init(&start, NULL, 2);
    for (i = 0; i < ROUNDS; i++) {
        struct client client;
        struct hello hello;
        struct share share = {server, &client, &hello, &start};
        dv_udp_conn_key_t key;
        pthread_t thread;
        void *here, *there;

        client_open(&client, ctx, server, NULL);
        prove(&client, server, &hello);
        CHECK(pthread_create(&thread, NULL, take_share, &share) == 0);
        here = take_share(&share);
        pthread_join(thread, &there);
        CHECK((here == NULL) != (there == NULL));
        key = client_key(&client);
        CHECK(dv_dtls_conn_find(&key) == (here == NULL ? there : here));
        CHECK(client_handshake(&client, server) && client_echo(&client, server, "a message"));
        client_close(&client, server);
    }
    pthread_barrier_destroy(&start);
}

/* Each struct stays readable until it is freed, whatever the library gives up. */
static void another_hello(struct server *server, SSL_CTX *ctx)
{
    struct client clients[2];
    struct hello hellos[2];
    dv_config config;
    dv_udp_conn_t *conns[2] = {NULL, NULL};
    dv_udp_conn_key_t key;
    int i = 0;

    client_open(&clients[0], ctx, server, NULL);
    clients[1] = client_anew(&clients[0], ctx, server);
    key = client_key(&clients[0]);
    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    for (i = 0; i < 2; i++) {
        prove(&clients[i], server, &hellos[i]);
    }
    for (i = 0; i < 2; i++) {
        /* The second one is given up while the first one stands before it. */
        config.handshake_timeout_ms = i == 0 ? 60000 : 10;
        CHECK(dv_dtls_set_config(&config) == 0);
        conns[i] = take(server, &clients[i], &hellos[i]);
        CHECK(conns[i] != NULL && conns[i]->ssl != NULL);
    }
    CHECK(conns[0] != conns[1]);
    usleep(20000);
    dv_dtls_handle_timeouts();
    CHECK(conns[0]->ssl != NULL && conns[1]->ssl == NULL && dv_dtls_conn_find(&key) == conns[0]);
    for (i = 0; i < 2; i++) {
        CHECK(conns[i]->list.next == NULL && memcmp(&conns[i]->key, &key, sizeof(key)) == 0);
        dv_dtls_conn_free(conns[i]);
        SSL_free(clients[i].ssl);
    }
    close(clients[0].fd);
}

int main(int argc, char **argv)
{
    struct server server;
    SSL_CTX *ctx = NULL;
    dv_config config;

    if (argc < 2) {
        return 2;
    }
    /* No flight is to be repeated because the machine is slow. */
    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    config.first_timeout_ms = config.longest_timeout_ms = 60000;
    CHECK(dv_dtls_set_config(&config) == 0);
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    one_after_the_other(&server, ctx);
    at_the_same_time(&server, ctx);
    another_hello(&server, ctx);
    CHECK(handshakes() == 0);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("made_twice");
}
