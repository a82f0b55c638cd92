/*
 * An echo server on the endpoint, with one socket and a plain loop.
 */
#include <poll.h>

#include "serve.h"

enum { BATCH = 16, DATAGRAM_MAX = 65536, SECRET_MAX = 256 };

/* Until the endpoint has something to do by itself, in milliseconds. */
static int patience(const dv_endpoint *endpoint)
{
    uint64_t due = dv_endpoint_deadline(endpoint);
    uint64_t now = clock_us(CLOCK_MONOTONIC);

    if (due == UINT64_MAX) {
        return -1;
    }
    return due <= now ? 0 : (int)((due - now) / 1000 + 1);
}

static void receive(dv_endpoint *endpoint, int fd)
{
    static char bytes[DATAGRAM_MAX];
    int left = BATCH;
    ssize_t got = 0;

    do {
        dv_datagram in;
        socklen_t len = sizeof(in.peer);

        memset(&in, 0, sizeof(in));
        got = recvfrom(fd, bytes, sizeof(bytes), MSG_DONTWAIT, &in.peer.any, &len);
        if (got >= 0) {
            in.data = bytes;
            in.len = (size_t)got;
            dv_endpoint_receive(endpoint, clock_us(CLOCK_MONOTONIC), &in, 1);
        }
    } while (got >= 0 && --left > 0);
}

static void send_waiting(dv_endpoint *endpoint, int fd)
{
    dv_datagram out[BATCH];
    int count = 0;
    int i = 0;

    while ((count = dv_endpoint_transmit(endpoint, out, BATCH, 1)) > 0) {
        for (i = 0; i < count; i++) {
            sendto(fd, out[i].data, out[i].len, 0, &out[i].peer.any, address_length(&out[i].peer));
        }
    }
}

static void serve(dv_endpoint *endpoint, int fd)
{
    for (;;) {
        struct pollfd waiting = { fd, POLLIN, 0 };
        dv_stats stats;
        dv_event event;

        poll(&waiting, 1, patience(endpoint));
        receive(endpoint, fd);
        dv_endpoint_advance(endpoint, clock_us(CLOCK_MONOTONIC));
        while (dv_endpoint_event(endpoint, &event) == 1) {
            answer(endpoint, &event, NULL);
        }
        send_waiting(endpoint, fd);
        dv_endpoint_stats(endpoint, &stats, sizeof(stats));
        tell(&stats);
    }
}

/* The endpoint copies what it needs of the file. */
static int read_secret(dv_config *config)
{
    static char secret[SECRET_MAX];
    const char *path = getenv("DV_COOKIE_SECRET_FILE");
    FILE *file = NULL;

    if (path == NULL) {
        return 0;
    }
    file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    config->cookie_secret = secret;
    config->cookie_secret_len = (uint32_t)fread(secret, 1, sizeof(secret), file);
    config->unix_offset_us = clock_us(CLOCK_REALTIME) - clock_us(CLOCK_MONOTONIC);
    fclose(file);
    return 0;
}

int main(int argc, char **argv)
{
    struct options options;
    struct sockaddr_storage address;
    dv_endpoint *endpoint = NULL;
    int code = read_options(&options, argc, argv);
    SSL_CTX *ctx = NULL;
    int fd = -1;

    if (code != EXIT_DONE) {
        return code;
    }
    ctx = server_context();
    if (ctx == NULL || read_secret(&options.config) < 0 || find_address(options.host, options.port, &address) < 0) {
        return EXIT_SETUP;
    }
    if (dv_endpoint_new(ctx, &options.config, &endpoint) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        return EXIT_SETUP;
    }
    fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, address_length(&address)) != 0) {
        perror(options.host);
        return EXIT_SETUP;
    }
    serve(endpoint, fd);
}
