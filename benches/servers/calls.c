/*
 * The floor of the original program's main: its system calls for each message, in their order, and nothing else. It waits,
 * reads, sends back, and asks for the socket to be watched, which it is already.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define EVENTS_MAX   100
#define DATAGRAM_MAX 2048

int main(int argc, char **argv)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "")) };
    struct epoll_event watched = { .events = EPOLLIN }, events[EVENTS_MAX];
    int sock = socket(AF_INET, SOCK_DGRAM, 0), epoll = epoll_create(1);
    static char bytes[DATAGRAM_MAX];

    watched.data.fd = sock;
    if (sock < 0 || epoll < 0 || bind(sock, (struct sockaddr *)&here, sizeof(here)) != 0
        || epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &watched) != 0) {
        perror("socket");
        return 1;
    }
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS_MAX, -1), i = 0;

        for (i = 0; i < count; i++) {
            struct sockaddr_in peer;
            socklen_t len = sizeof(peer);
            ssize_t got = recvfrom(sock, bytes, sizeof(bytes), 0, (struct sockaddr *)&peer, &len);

            if (got > 0) {
                sendto(sock, bytes, (size_t)got, 0, (struct sockaddr *)&peer, len);
                epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &watched);
            }
        }
    }
}
