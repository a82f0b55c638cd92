/*
 * A DTLS client that sends a message and waits for the answer: the endpoint door on a socket of the program's own.
 *
 *     build/echo_client --port 4433 --message hello
 */
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "identity.h"

static const char help[] =
    "usage: echo_client [options]\n"
    "Sends a message to a DTLS server and prints what comes back.\n"
    "  --host NAME     the server (" DEFAULT_ADDRESS ")\n"
    "  --port N        its UDP port (4433)\n"
    "  --name NAME     DNS name or IP address that the server's certificate must have (that of --host)\n"
    "  --message TEXT  what to send (hello)\n"
    "  --count N       how many times (1)\n"
    "  --timeout S     give up after so many seconds (10)\n"
    "  --ca FILE       CA certificates to check the server's certificate with (" DEFAULT_CA ")\n"
    "  --crl FILE      revocation lists of these CAs, PEM\n"
    "  --cert FILE     the certificate to present, PEM\n"
    "  --key FILE      its key, PEM (in the same file)\n"
    "  --psk HEX       the pre-shared key of the identity \"" PSK_IDENTITY "\", instead of certificates\n"
    "  --ciphers LIST  cipher suites (" CIPHERS "; with --psk " PSK_CIPHERS ")\n"
    "  --keylog FILE   write the session's secrets there, for Wireshark: whoever has them can read everything\n"
    "  -h              this text\n"
    "exit code: 0 answered, 1 set-up failed, 2 wrong usage, 3 no session, 4 not answered\n";

#define DATAGRAM_MAX 65536

static uint64_t now_us(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

struct client {
    dv_endpoint *endpoint;
    dv_session session;
    dv_address server;
    int fd;
    const char *message;
    long unanswered;
    int opened, over;
    int socket_error;    /* the last one, such as ECONNREFUSED: nobody listens there, or not yet */
};

static int say(struct client *client)
{
    int sent = dv_endpoint_send(client->endpoint, client->session, client->message, strlen(client->message));

    if (sent < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
    }
    return sent;
}

static void take_events(struct client *client)
{
    dv_event event;
    char text[256];

    while (dv_endpoint_event(client->endpoint, &event) == 1) {
        switch (event.kind) {
        case DV_EVENT_OPENED:
            client->opened = 1;
            dv_session_cipher(client->endpoint, client->session, text, sizeof(text));
            printf("connected to %s: %s\n", address_text(&client->server), text);
            client->over = say(client) < 0;
            break;
        case DV_EVENT_MESSAGE:
            if (client->unanswered == 0) {
                break;    /* more than was asked for */
            }
            print_message("client", "received", event.data, (int)event.len);
            if (--client->unanswered > 0) {
                client->over = say(client) < 0;
            } else {
                dv_endpoint_close(client->endpoint, client->session);
            }
            break;
        case DV_EVENT_CLOSED:
            if (client->unanswered > 0) {
                dv_session_failure(client->endpoint, client->session, text, sizeof(text));
                fprintf(stderr, "the session is over (DV_CLOSED_* %d) %s\n", event.reason, text);
            }
            client->over = 1;
            break;
        }
    }
}

static void send_waiting(struct client *client)
{
    dv_datagram out[16];
    int count = 0;
    int i = 0;

    while ((count = dv_endpoint_transmit(client->endpoint, out, 16, 1)) > 0) {
        for (i = 0; i < count; i++) {
            /* What is lost now is sent again when its time has come. */
            if (send(client->fd, out[i].data, out[i].len, 0) < 0) {
                client->socket_error = errno;
            }
        }
    }
}

static void receive(struct client *client, uint64_t until)
{
    static char bytes[DATAGRAM_MAX];
    struct pollfd waiting = { client->fd, POLLIN, 0 };
    uint64_t now = now_us();
    uint64_t due = dv_endpoint_deadline(client->endpoint);
    uint64_t wait = (due < until ? due : until);
    dv_datagram in;
    ssize_t got = 0;

    poll(&waiting, 1, wait > now ? (int)((wait - now) / 1000 + 1) : 0);
    while ((got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        memset(&in, 0, sizeof(in));
        in.data = bytes;
        in.len = (size_t)got;
        in.peer = client->server;
        dv_endpoint_receive(client->endpoint, now_us(), &in, 1);
    }
    if (got < 0 && errno != EAGAIN) {
        client->socket_error = errno;
    }
    dv_endpoint_advance(client->endpoint, now_us());
}

static int run(struct client *client, const char *name, uint64_t until)
{
    socklen_t len = address_length(&client->server);
    int begun = dv_endpoint_connect(client->endpoint, now_us(), &client->server.any, len, name, NULL, &client->session);

    if (begun < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        return begun == DV_ERR_INVALID ? EXIT_USAGE : EXIT_SETUP;    /* a name that is none */
    }
    while (!client->over && now_us() < until) {
        send_waiting(client);
        receive(client, until);
        take_events(client);
    }
    send_waiting(client);
    if (!client->over) {
        fprintf(stderr, "no %s from %s in time%s%s\n", client->opened ? "answer" : "session",
                address_text(&client->server), client->socket_error != 0 ? ": " : "",
                client->socket_error != 0 ? strerror(client->socket_error) : "");
    }
    return client->unanswered == 0 ? EXIT_DONE : client->opened ? EXIT_UNANSWERED : EXIT_HANDSHAKE;
}

int main(int argc, char **argv)
{
    struct client client = { .fd = -1, .message = "hello", .unanswered = 1 };
    struct sockaddr_storage server;
    const char *host = DEFAULT_ADDRESS;
    const char *port = "4433";
    const char *name = NULL;
    long timeout = 10;
    const struct known_option options[] = {
        { "host", .text = &host },
        { "port", .text = &port, .least = 1, .most = 65535 },
        { "name", .text = &name },
        { "message", .text = &client.message },
        { "count", .number = &client.unanswered, .least = 1, .most = 1000000000 },
        { "timeout", .number = &timeout, .least = 1, .most = 1000000 },
        CLIENT_IDENTITY_OPTIONS,
        { .name = NULL }
    };
    dv_config config;
    SSL_CTX *ctx = NULL;
    int ret = EXIT_SETUP;

    setvbuf(stdout, NULL, _IOLBF, 0);
    dv_set_log_callback(DV_LOG_WARN, show_log, NULL);
    if (!library_fits() || dv_config_init(&config, sizeof(config)) < 0) {
        return EXIT_SETUP;
    }
    read_command_line(argc, argv, options, help);
    if (client.message[0] == '\0') {
        fprintf(stderr, "--message must not be empty\n");
        return wrong_usage(argv[0]);
    }
    if (!identity_fits(DEFAULT_CA)) {
        return wrong_usage(argv[0]);
    }
    if (find_address(host, port, &server) < 0) {
        return EXIT_SETUP;
    }

    config.accept = 0;
    ctx = client_context();
    if (ctx == NULL) {
        goto out;
    }
    memcpy(&client.server, &server, sizeof(client.server));
    client.fd = socket(server.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    /* Connected, the socket drops what others send. */
    if (client.fd < 0 || connect(client.fd, (struct sockaddr *)&server, address_length(&server)) != 0) {
        perror(host);
        goto out;
    }
    if (dv_endpoint_new(ctx, &config, &client.endpoint) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        goto out;
    }
    ret = run(&client, name != NULL ? name : host, now_us() + (uint64_t)timeout * 1000000);

out:
    dv_endpoint_free(client.endpoint);
    if (client.fd >= 0) {
        close(client.fd);
    }
    SSL_CTX_free(ctx);
    return ret;
}
