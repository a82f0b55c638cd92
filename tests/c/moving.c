/*
 * Connection IDs from C: a client whose address changes, in memory and with a server. argv[1]: the folder of
 * certs/make-certs.sh.
 */
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dv_dtls.h"

#include "check.h"

enum { BATCH = 8, ID_LEN = 9 };

static const char server_id[] = "srv";
static uint64_t now_us = 1000000;

struct side {
    dv_endpoint *endpoint;
    dv_address address;
    dv_session session;
    int messages, moved;
};

static dv_address
address(uint16_t port)
{
    dv_address a;

    memset(&a, 0, sizeof(a));
    a.v4.sin_family = AF_INET;
    a.v4.sin_port = htons(port);
    a.v4.sin_addr.s_addr = htonl(0xc0000201);
    return a;
}

static SSL_CTX *
context(const char *certs)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_method());
    char file[512], key[512];

    snprintf(file, sizeof(file), "%s/ca.pem", certs);
    CHECK(SSL_CTX_load_verify_locations(ctx, file, NULL) == 1);
    snprintf(file, sizeof(file), "%s/server-ecdsa.pem", certs);
    snprintf(key, sizeof(key), "%s/server-ecdsa.key", certs);
    CHECK(dv_ssl_certificate(ctx, file, key) == 0);
    return ctx;
}

static int
carry(struct side *from, struct side *to)
{
    dv_datagram out[BATCH];
    dv_event event;
    int n, i, all = 0;

    while (dv_endpoint_event(from->endpoint, &event) == 1) {
        CHECK(event.kind != DV_EVENT_CLOSED);
        from->session = event.session;
        from->messages += event.kind == DV_EVENT_MESSAGE;
        from->moved += event.kind == DV_EVENT_MOVED;
    }
    while ((n = dv_endpoint_transmit(from->endpoint, out, BATCH, 1)) > 0) {
        for (i = 0; i < n; i++) {
            CHECK(memcmp(&out[i].peer, &to->address, sizeof(dv_address)) == 0);
            out[i].peer = from->address;
            out[i].local = to->address;
        }
        CHECK(dv_endpoint_receive(to->endpoint, now_us, out, (size_t)n) == 0);
        all += n;
    }
    now_us += 1000;
    return all;
}

static void
settle(struct side *a, struct side *b)
{
    while (carry(a, b) + carry(b, a) > 0)
        ;
    carry(a, b);
}

/* A session whose client has moved. `checks`: it can show that it receives there. */
static void
move(SSL_CTX *ctx, int checks)
{
    struct side client = {.address = address(1000)}, server = {.address = address(5684)};
    unsigned char id[ID_LEN] = {0}, small[4] = {0, 0, 0, 7}, long_message[600] = {1};
    dv_config config;
    dv_stats stats = {.size = sizeof(stats)};
    dv_address peer;

    CHECK(dv_config_init(&config, sizeof(config)) == 0);
    CHECK(config.connection_ids == 0 && config.connection_id_len == 8 && config.routability_checks == 1);
    config.connection_ids = 1;
    config.connection_id_len = ID_LEN;
    config.connection_id_server_id_len = sizeof(server_id) - 1;
    memcpy(config.connection_id_server_id, server_id, sizeof(server_id) - 1);
    CHECK(dv_endpoint_new(ctx, &config, &server.endpoint) == 0);
    config.connection_id_len = 0;
    config.connection_id_server_id_len = 0;
    config.routability_checks = checks;
    CHECK(dv_endpoint_new(ctx, &config, &client.endpoint) == 0);
    CHECK(dv_endpoint_connect(client.endpoint, now_us, &server.address.any, sizeof(server.address), "localhost", NULL,
                              &client.session) == 0);
    settle(&client, &server);

    CHECK(dv_session_connection_id(server.endpoint, server.session, id, sizeof(id)) == ID_LEN);
    CHECK(memcmp(id, server_id, sizeof(server_id) - 1) == 0);
    CHECK(dv_session_connection_id(server.endpoint, server.session, small, 3) == ID_LEN);
    CHECK(memcmp(small, id, 3) == 0 && small[3] == 7);
    CHECK(dv_session_connection_id(server.endpoint, server.session, NULL, 0) == ID_LEN);
    CHECK(dv_session_connection_id(server.endpoint, server.session, NULL, 1) == DV_ERR_INVALID);
    CHECK(dv_session_peer_connection_id(server.endpoint, server.session, id, sizeof(id)) == 0);
    CHECK(dv_session_peer_connection_id(client.endpoint, client.session, id, sizeof(id)) == ID_LEN);
    CHECK(dv_session_is_peer_proven(server.endpoint, server.session) == 1);

    client.address = address(2000);
    CHECK(dv_endpoint_send(client.endpoint, client.session, "hello", 5) == 0);
    settle(&client, &server);
    CHECK(server.messages == 1 && server.moved == 1 && client.moved == 0);
    CHECK(dv_session_addresses(server.endpoint, server.session, &peer, NULL) == 0);
    CHECK(memcmp(&peer, &client.address, sizeof(peer)) == 0);
    CHECK(dv_session_is_peer_proven(server.endpoint, server.session) == checks);
    if (!checks) {
        CHECK(dv_endpoint_send(server.endpoint, server.session, long_message, sizeof(long_message)) == DV_ERR_UNPROVEN);
        CHECK(strstr(dv_last_error(), "receives") != NULL);
        CHECK(dv_session_confirm_peer(server.endpoint, server.session) == 0);
    }
    CHECK(dv_endpoint_send(server.endpoint, server.session, long_message, sizeof(long_message)) == 0);
    settle(&server, &client);
    CHECK(client.messages == 1);
    CHECK(dv_endpoint_stats(server.endpoint, &stats) == 0);
    CHECK(stats.connection_ids_used == 1 && stats.peers_moved == 1 && stats.addresses_proven == 1);

    CHECK(dv_session_confirm_peer(server.endpoint, 77) == DV_ERR_STALE);
    CHECK(dv_session_confirm_peer(NULL, server.session) == DV_ERR_INVALID);
    CHECK(dv_session_is_peer_proven(server.endpoint, 77) == DV_ERR_STALE);
    CHECK(dv_session_is_peer_proven(NULL, server.session) == DV_ERR_INVALID);
    CHECK(dv_session_connection_id(NULL, server.session, id, sizeof(id)) == DV_ERR_INVALID);
    CHECK(dv_session_peer_connection_id(NULL, server.session, id, sizeof(id)) == DV_ERR_INVALID);
    dv_endpoint_free(client.endpoint);
    dv_endpoint_free(server.endpoint);
}

static atomic_int told;

static void
echo(void *user, dv_endpoint *endpoint, const dv_event *event)
{
    CHECK(user == NULL && event->kind == DV_EVENT_MESSAGE);
    CHECK(dv_endpoint_send(endpoint, event->session, event->data, event->len) == 0);
}

static void
has_moved(void *user, dv_endpoint *endpoint, const dv_event *event)
{
    dv_address peer;

    CHECK(user == NULL && event->kind == DV_EVENT_MOVED && event->data == NULL && event->reason == 0);
    CHECK(dv_session_addresses(endpoint, event->session, &peer, NULL) == 0 && peer.v4.sin_port != 0);
    told++;
}

static void
read_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    now_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Waits for an answer, or for the end of the handshake. */
static int
wait_for(dv_endpoint *client, int fd, dv_address to, int kind)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char bytes[2048];
    dv_datagram datagram;
    dv_event event;
    ssize_t n;
    int tries;

    for (tries = 0; tries < 500; tries++) {
        while (dv_endpoint_transmit(client, &datagram, 1, 1) == 1)
            CHECK(sendto(fd, datagram.data, datagram.len, 0, &to.any, sizeof(to.v4)) > 0);
        poll(&ready, 1, 20);
        n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        read_clock();
        memset(&datagram, 0, sizeof(datagram));
        datagram.data = bytes;
        datagram.peer = to;
        if (n > 0) {
            datagram.len = (size_t)n;
            CHECK(dv_endpoint_receive(client, now_us, &datagram, 1) == 0);
        }
        CHECK(dv_endpoint_advance(client, now_us) == 0);
        while (dv_endpoint_event(client, &event) == 1) {
            if (event.kind == kind)
                return 1;
        }
    }
    return 0;
}

/* A server with two workers, whose callback is told. */
static void
with_a_server(SSL_CTX *ctx)
{
    dv_callbacks callbacks = {.size = sizeof(callbacks), .message = echo, .moved = has_moved};
    dv_address to = address(0);
    dv_endpoint *client;
    dv_session session;
    dv_config config;
    dv_server *server;
    int fd[3], i, port;

    CHECK(dv_config_init(&config, sizeof(config)) == 0);
    config.connection_ids = 1;
    config.workers = 2;
    CHECK(dv_server_new(ctx, &config, &callbacks, NULL, &server) == 0);
    port = dv_server_bind(server, "127.0.0.1", "0");
    CHECK(port > 0 && dv_server_start(server) == 0);
    to.v4.sin_port = htons((uint16_t)port);
    to.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(dv_endpoint_new(ctx, &config, &client) == 0);
    read_clock();
    CHECK(dv_endpoint_connect(client, now_us, &to.any, sizeof(to.v4), "localhost", NULL, &session) == 0);
    for (i = 0; i < 3; i++) {
        fd[i] = socket(AF_INET, SOCK_DGRAM, 0);
        if (i == 0)
            CHECK(wait_for(client, fd[i], to, DV_EVENT_OPENED));
        CHECK(dv_endpoint_send(client, session, "hello", 5) == 0);
        CHECK(wait_for(client, fd[i], to, DV_EVENT_MESSAGE) && told == i);
    }
    for (i = 0; i < 3; i++)
        close(fd[i]);
    dv_endpoint_free(client);
    dv_server_free(server);
}

/* Settings that make no sense. */
static void
refused(SSL_CTX *ctx)
{
    dv_endpoint *endpoint;
    dv_config config;
    int i;

    for (i = 0; i < 5; i++) {
        CHECK(dv_config_init(&config, sizeof(config)) == 0);
        config.connection_ids = 1;
        switch (i) {
        case 0:
            config.connection_id_len = 33;
            break;
        case 1:
            config.connection_id_server_id_len = 8;
            break;
        case 2:
            config.connection_id_server_id_len = 21;
            break;
        case 3:
            config.connection_id_padding = 65;
            break;
        default:
            config.native_records = 0;
            break;
        }
        CHECK(dv_endpoint_new(ctx, &config, &endpoint) == DV_ERR_INVALID && endpoint == NULL);
    }
}

int
main(int argc, char **argv)
{
    SSL_CTX *ctx;

    if (argc != 2) {
        return 2;
    }
    ctx = context(argv[1]);
    move(ctx, 1);
    move(ctx, 0);
    with_a_server(ctx);
    refused(ctx);
    SSL_CTX_free(ctx);
    return check_report("moving");
}
