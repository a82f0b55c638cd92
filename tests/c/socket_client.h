/*
 * A client that is an endpoint on a socket of its own, in real time.
 */
#ifndef SOCKET_CLIENT_H
#define SOCKET_CLIENT_H

#include <time.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sides.h"

enum { PATIENCE_MS = 30000, ASK_AGAIN_MS = 200 };

struct client {
    dv_endpoint *endpoint;
    dv_session session;
    dv_address server;
    int fd;
    int opened, heard, closed, reason;
    char last[1500];
    size_t last_len;
};

static inline uint64_t clock_us(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* From now on the client's datagrams come from another port. */
static inline void client_rebind(struct client *client)
{
    close(client->fd);
    client->fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(connect(client->fd, &client->server.any, sizeof(client->server.v4)) == 0);
}

static inline void client_begin_as(struct client *client, SSL_CTX *ctx, int port, const dv_config *config)
{
    memset(client, 0, sizeof(*client));
    CHECK(dv_endpoint_new(ctx, config, &client->endpoint) == 0);
    client->server = address("127.0.0.1", port);
    client->fd = -1;
    client_rebind(client);
    CHECK(dv_endpoint_connect(client->endpoint, clock_us(), &client->server.any, sizeof(client->server.v4), "localhost",
                              NULL, &client->session) == 0);
}

static inline void client_begin(struct client *client, SSL_CTX *ctx, int port)
{
    dv_config config;

    dv_config_init(&config, sizeof(config));
    config.accept = 0;
    client_begin_as(client, ctx, port, &config);
}

/*
 * Until what `done` points to, which another thread may write to, is not 0 any more. A message, if there is one, is repeated
 * until it has come back.
 */
static inline void client_run(struct client *client, const int *done, const char *message)
{
    char bytes[65536];
    uint64_t end = clock_us() + PATIENCE_MS * 1000ull, again = 0;

    while (!__atomic_load_n(done, __ATOMIC_ACQUIRE) && clock_us() < end) {
        struct pollfd waiting = { client->fd, POLLIN, 0 };
        dv_datagram datagram;
        dv_event event;
        ssize_t got;

        if (message != NULL && clock_us() > again) {
            CHECK(dv_endpoint_send(client->endpoint, client->session, message, strlen(message)) == 0);
            again = clock_us() + ASK_AGAIN_MS * 1000ull;
        }
        while (dv_endpoint_transmit(client->endpoint, &datagram, 1, 1) == 1) {
            (void)!send(client->fd, datagram.data, datagram.len, 0);
        }
        poll(&waiting, 1, 20);
        while ((got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
            memset(&datagram, 0, sizeof(datagram));
            datagram.data = bytes;
            datagram.len = (size_t)got;
            datagram.peer = client->server;
            CHECK(dv_endpoint_receive(client->endpoint, clock_us(), &datagram, 1) == 0);
        }
        CHECK(dv_endpoint_advance(client->endpoint, clock_us()) == 0);
        while (dv_endpoint_event(client->endpoint, &event) == 1) {
            if (event.kind == DV_EVENT_OPENED) {
                client->opened++;
            } else if (event.kind == DV_EVENT_MESSAGE) {
                client->last_len = event.len;
                memcpy(client->last, event.data, event.len);
                client->heard |= message == NULL
                                 || (event.len == strlen(message) && memcmp(event.data, message, event.len) == 0);
            } else {
                client->closed++;
                client->reason = event.reason;
            }
        }
    }
    CHECK(*done);
}

/* The server says this next, without being asked. */
static inline void client_expect(struct client *client, const char *message)
{
    client->heard = 0;
    client_run(client, &client->heard, NULL);
    CHECK(client->last_len == strlen(message) && memcmp(client->last, message, client->last_len) == 0);
}

/* The server sends this back. */
static inline void client_echo(struct client *client, const char *message)
{
    client->heard = 0;
    client_run(client, &client->heard, message);
}

static inline void client_end(struct client *client)
{
    close(client->fd);
    dv_endpoint_free(client->endpoint);
}

#endif
