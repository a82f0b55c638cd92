/* An echo server on the endpoint door of dv_dtls, with the same loop as the servers on other libraries. */
#include "server.h"

#include <dv_dtls.h>
#include <time.h>

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void work(dv_endpoint *endpoint)
{
    dv_event event;
    dv_datagram out;

    while (dv_endpoint_event(endpoint, &event) == 1) {
        if (event.kind == DV_EVENT_MESSAGE) {
            dv_endpoint_send(endpoint, event.session, event.data, event.len);
        }
    }
    while (dv_endpoint_transmit(endpoint, &out, 1, 1) == 1) {
        send_datagram(&out.peer.v4, out.data, out.len);
    }
}

int main(int argc, char **argv)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());
    struct pollfd waiting = { .events = POLLIN };
    dv_endpoint *endpoint = NULL;

    check_usage(argc, argv);
    if (dv_ssl_certificate(ctx, argv[2], argv[3]) != 0 || dv_endpoint_new(ctx, NULL, &endpoint) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        return 1;
    }
    waiting.fd = sock = bound_socket(argv[1], SOCK_NONBLOCK, 0);
    for (;;) {
        dv_datagram in = { .data = inbound.data };
        socklen_t addrlen = sizeof(in.peer);
        ssize_t got = recvfrom(sock, inbound.data, sizeof(inbound.data), 0, &in.peer.any, &addrlen);

        if (got > 0) {
            in.len = (size_t)got;
            dv_endpoint_receive(endpoint, now_us(), &in, 1);
        } else {
            uint64_t now = now_us(), due = dv_endpoint_deadline(endpoint);

            poll(&waiting, 1, due == UINT64_MAX ? -1 : due > now ? (int)((due - now + 999) / 1000) : 0);
            dv_endpoint_advance(endpoint, now_us());
        }
        work(endpoint);
    }
}
