/* The floor: sends back what it receives, without DTLS, up to 64 datagrams with one system call each way. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define BATCH        64
#define DATAGRAM_MAX 2048

static char bytes[BATCH][DATAGRAM_MAX];
static struct sockaddr_in peers[BATCH];
static struct iovec parts[BATCH];
static struct mmsghdr datagrams[BATCH];

int main(int argc, char **argv)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "")) };
    int sock = socket(AF_INET, SOCK_DGRAM, 0);

    if (sock < 0 || bind(sock, (struct sockaddr *)&here, sizeof(here)) != 0) {
        perror("socket");
        return 1;
    }
    for (;;) {
        int count = 0, sent = 0, i = 0;

        for (i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){ bytes[i], DATAGRAM_MAX };
            datagrams[i].msg_hdr = (struct msghdr){ &peers[i], sizeof(peers[i]), &parts[i], 1, NULL, 0, 0 };
        }
        count = recvmmsg(sock, datagrams, BATCH, MSG_WAITFORONE, NULL);
        for (i = 0; i < count; i++) {
            parts[i].iov_len = datagrams[i].msg_len;
        }
        while (sent < count) {
            int some = sendmmsg(sock, datagrams + sent, (unsigned)(count - sent), 0);

            sent += some > 0 ? some : 1;
        }
    }
}
