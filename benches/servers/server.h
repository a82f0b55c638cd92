/*
 * What the echo servers that dv_dtls is compared with have in common: one socket, read with recvfrom until it is empty, and a
 * table of peers. Each server adds what its library asks for, and nothing else: they are to be as fast as the library lets
 * a plain program be.
 *
 *     SERVER PORT CERTIFICATE KEY
 */
#ifndef ECHO_SERVER_H
#define ECHO_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DATAGRAM_MAX 65536
#define BUCKETS      (1u << 17)

/* Somebody who has shown with a cookie where he is. */
struct peer {
    struct sockaddr_in address;
    void *session;
    struct peer *next;
};

static struct peer *peers[BUCKETS];
static int sock;

/* The datagram that is being worked on; a library's receive callback takes it. */
static struct {
    unsigned char data[DATAGRAM_MAX];
    size_t len;
    struct sockaddr_in from;
} inbound;

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

static inline struct peer **place_of(const struct sockaddr_in *address)
{
    uint64_t key = (uint64_t)address->sin_addr.s_addr << 16 | address->sin_port;
    struct peer **place = &peers[key * UINT64_C(0x9e3779b97f4a7c15) >> 47];

    while (*place != NULL && ((*place)->address.sin_port != address->sin_port
                              || (*place)->address.sin_addr.s_addr != address->sin_addr.s_addr)) {
        place = &(*place)->next;
    }
    return place;
}

static inline struct peer *add_peer(const struct sockaddr_in *address, void *session)
{
    struct peer **place = place_of(address);
    struct peer *peer = calloc(1, sizeof(*peer));

    if (peer == NULL) {
        die("calloc");
    }
    peer->address = *address;
    peer->session = session;
    *place = peer;
    return peer;
}

static inline void remove_peer(struct peer *peer)
{
    *place_of(&peer->address) = peer->next;
    free(peer);
}

/* For a library's receive callback: the datagram, once; -1 when it has been taken. */
static inline ssize_t take_datagram(void *buffer, size_t room)
{
    size_t len = inbound.len < room ? inbound.len : room;

    if (inbound.len == 0) {
        return -1;
    }
    memcpy(buffer, inbound.data, len);
    inbound.len = 0;
    return (ssize_t)len;
}

/* For its send callback. What the kernel does not take is lost, like any datagram. */
static inline ssize_t send_datagram(const struct sockaddr_in *to, const void *data, size_t len)
{
    sendto(sock, data, len, 0, (const struct sockaddr *)to, sizeof(*to));
    return (ssize_t)len;
}

static inline int bound_socket(const char *port, int type, int reuse)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
    int fd = socket(AF_INET, SOCK_DGRAM | type, 0);

    if (fd < 0 || (reuse && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse)) != 0)
        || bind(fd, (struct sockaddr *)&here, sizeof(here)) != 0) {
        die("socket");
    }
    return fd;
}

static inline void check_usage(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s PORT CERTIFICATE KEY\n", argv[0]);
        exit(2);
    }
}

/* The loop; the two functions work on `inbound`, which comes from a peer, or from a stranger. */
static inline void serve(const char *port, void (*from_peer)(struct peer *peer), void (*from_stranger)(void))
{
    struct pollfd waiting = { .events = POLLIN };

    waiting.fd = sock = bound_socket(port, SOCK_NONBLOCK, 0);
    for (;;) {
        socklen_t addrlen = sizeof(inbound.from);
        ssize_t got = recvfrom(sock, inbound.data, sizeof(inbound.data), 0, (struct sockaddr *)&inbound.from, &addrlen);

        if (got > 0) {
            struct peer *peer = *place_of(&inbound.from);

            inbound.len = (size_t)got;
            if (peer != NULL) {
                from_peer(peer);
            } else {
                from_stranger();
            }
        } else if (got < 0 && errno == EAGAIN) {
            poll(&waiting, 1, -1);
        }
    }
}

#endif
