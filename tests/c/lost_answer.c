/*
 * The HelloVerifyRequest is lost: the client says hello again, so that the hello that brings the cookie has record number 2
 * or more. The ServerHello must have the same (RFC 6347 4.2.1), or the client takes it for a replay and the handshake hangs,
 * as it does with DTLSv1_listen() of OpenSSL 3.2 to 4.0: https://github.com/openssl/openssl/issues/32063
 */
#include <sys/time.h>

#include "check.h"
#include "peer.h"

#define LOST 3

static struct timeval wall_clock = {.tv_sec = 1000000};

/* libssl's timers go by this clock. It stands still, however slow the machine is, until the test moves it. */
int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    *now = wall_clock;
    return 0;
}

/* The number of the first record of the next datagram, which stays where it is. */
static int next_sequence(const struct client *client)
{
    unsigned char header[13] = {0};

    if (recv(client->fd, header, sizeof(header), MSG_PEEK) != sizeof(header)) {
        return -1;
    }
    return header[9] << 8 | header[10];
}

/* The client says hello again, as its time has come, and the server takes it. */
static void hello_again(struct client *client, struct server *server)
{
    wall_clock.tv_sec += 60;
    CHECK(DTLSv1_handle_timeout(client->ssl) == 1);
    CHECK(server_step(server));
}

int main(int argc, char **argv)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = NULL;
    char lost[2048];
    int i = 0, flight = 0;

    if (argc < 2) {
        return 2;
    }
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    client_open(&client, ctx, &server, NULL);
    SSL_do_handshake(client.ssl);
    CHECK(server_step(&server));
    for (i = 0; i < LOST; i++) {
        CHECK(next_sequence(&client) == i);
        CHECK(recv(client.fd, lost, sizeof(lost), 0) > 0);
        hello_again(&client, &server);
    }
    /* Now with the cookie. */
    SSL_do_handshake(client.ssl);
    CHECK(server.conn == NULL);
    CHECK(server_step(&server));
    CHECK(server.conn != NULL);
    flight = next_sequence(&client);
    CHECK(flight == LOST + 1);
    CHECK(client_handshake(&client, &server));
    CHECK(client_echo(&client, &server, "hello"));
    client_close(&client, &server);
    CHECK(server.closed == 1);

    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("lost_answer");
}
