/*
 * The endpoint in an epoll loop of the program's own, beside what else the loop waits for: here signals and the terminal.
 *
 *     build/event_loop --port 4433
 */
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "identity.h"

static const char help[] =
    "usage: event_loop [options]\n"
    "A DTLS server on one socket. Prints what clients send, and sends each line of the terminal to all of them. SIGINT,\n"
    "SIGTERM and the end of the terminal's input end it.\n"
    "  --host ADDR            the address to listen on (" DEFAULT_ADDRESS ")\n"
    "  --port N               the UDP port; 0 picks a free one (4433)\n"
    SERVER_IDENTITY_HELP
    "  -h                     this text\n"
    SERVER_EXIT_CODES;

#define BATCH        16
#define DATAGRAM_MAX 65536

static uint64_t now_us(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* How long epoll may wait, in milliseconds: until the endpoint has something to do by itself. */
static int patience(const dv_endpoint *endpoint)
{
    uint64_t due = dv_endpoint_deadline(endpoint);
    uint64_t now = now_us();

    if (due == UINT64_MAX) {
        return -1;
    }
    return due <= now ? 0 : (int)((due - now) / 1000 + 1);
}

/* Takes some datagrams. Not all, or a flood would keep the loop here. */
static void receive(dv_endpoint *endpoint, int fd)
{
    static char bytes[DATAGRAM_MAX];
    int i = 0;

    for (i = 0; i < BATCH; i++) {
        dv_datagram in;
        socklen_t len = sizeof(in.peer);
        ssize_t got = 0;

        memset(&in, 0, sizeof(in));
        got = recvfrom(fd, bytes, sizeof(bytes), MSG_DONTWAIT, &in.peer.any, &len);
        if (got <= 0) {
            return;
        }
        in.data = bytes;
        in.len = (size_t)got;
        dv_endpoint_receive(endpoint, now_us(), &in, 1);
    }
}

/* Sends a line to everybody; without one, says goodbye. */
static void to_all(dv_endpoint *endpoint, const char *line, size_t len)
{
    int count = dv_endpoint_sessions(endpoint, NULL, 0);
    dv_session *sessions = count > 0 ? calloc((size_t)count, sizeof(*sessions)) : NULL;
    int i = 0;

    if (sessions == NULL) {
        return;
    }
    dv_endpoint_sessions(endpoint, sessions, (size_t)count);
    for (i = 0; i < count; i++) {
        if (line == NULL) {
            dv_endpoint_close(endpoint, sessions[i]);
        } else if (dv_endpoint_send(endpoint, sessions[i], line, len) < 0) {
            fprintf(stderr, "%s\n", dv_last_error());
        }
    }
    free(sessions);
}

static void take_events(dv_endpoint *endpoint)
{
    dv_event event;
    dv_address peer;

    while (dv_endpoint_event(endpoint, &event) == 1) {
        dv_session_addresses(endpoint, event.session, &peer, NULL);
        switch (event.kind) {
        case DV_EVENT_OPENED: printf("%s is here\n", address_text(&peer)); break;
        case DV_EVENT_MESSAGE: print_message(address_text(&peer), "says", event.data, (int)event.len); break;
        case DV_EVENT_CLOSED: printf("%s is gone\n", address_text(&peer)); break;
        }
    }
}

static void send_waiting(dv_endpoint *endpoint, int fd)
{
    dv_datagram out[BATCH];
    int count = 0;
    int i = 0;

    while ((count = dv_endpoint_transmit(endpoint, out, BATCH, 1)) > 0) {
        for (i = 0; i < count; i++) {
            /* What the socket does not take is lost, as it might be later on; flights of a handshake are repeated. */
            sendto(fd, out[i].data, out[i].len, MSG_DONTWAIT, &out[i].peer.any, address_length(&out[i].peer));
        }
    }
}

/* A descriptor that tells of SIGINT and SIGTERM. */
static int take_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    return sigprocmask(SIG_BLOCK, &signals, NULL) == 0 ? signalfd(-1, &signals, SFD_CLOEXEC) : -1;
}

static int watch(int epfd, int fd)
{
    struct epoll_event event = { EPOLLIN, { .fd = fd } };

    return epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event);
}

static int serve(dv_endpoint *endpoint, int fd, const struct sockaddr_storage *address)
{
    struct epoll_event ready[3];
    char line[1024];
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    int signals = take_signals();
    int serving = 1;
    int ret = EXIT_SETUP;

    if (epfd < 0 || signals < 0 || watch(epfd, fd) != 0 || watch(epfd, signals) != 0) {
        perror("epoll");
        goto out;
    }
    if (watch(epfd, STDIN_FILENO) != 0) {
        perror("standard input, which has to be a terminal or a pipe");
        goto out;
    }
    printf("listening on %s\n", address_text(address));
    while (serving) {
        /* 1. Wait. */
        int count = epoll_wait(epfd, ready, 3, patience(endpoint));

        while (count-- > 0) {
            if (ready[count].data.fd == fd) {
                /* 2. Give it what has come in. */
                receive(endpoint, fd);
            } else {
                ssize_t len = ready[count].data.fd == STDIN_FILENO ? read(STDIN_FILENO, line, sizeof(line)) : 0;

                serving = serving && len > 0;
                to_all(endpoint, serving ? line : NULL, serving ? (size_t)len : 0);
            }
        }
        dv_endpoint_advance(endpoint, now_us());
        /* 3. Take what has happened. */
        take_events(endpoint);
        /* 4. Send what has to leave. */
        send_waiting(endpoint, fd);
    }
    ret = EXIT_DONE;

out:
    if (epfd >= 0) {
        close(epfd);
    }
    if (signals >= 0) {
        close(signals);
    }
    return ret;
}

int main(int argc, char **argv)
{
    const char *host = DEFAULT_ADDRESS;
    const char *port = "4433";
    const struct known_option options[] = {
        { "host", .text = &host },
        { "port", .text = &port, .most = 65535 },
        SERVER_IDENTITY_OPTIONS,
        { .name = NULL }
    };
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    dv_endpoint *endpoint = NULL;
    SSL_CTX *ctx = NULL;
    int fd = -1;
    int ret = EXIT_SETUP;

    setvbuf(stdout, NULL, _IOLBF, 0);
    dv_set_log_callback(DV_LOG_WARN, show_log, NULL);
    if (!library_fits()) {
        return EXIT_SETUP;
    }
    read_command_line(argc, argv, options, help);
    if (!identity_fits(NULL)) {
        return wrong_usage(argv[0]);
    }
    if (find_address(host, port, &address) < 0) {
        return EXIT_SETUP;
    }
    fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, address_length(&address)) != 0
        || getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        perror(host);
        goto out;
    }
    ctx = server_context();
    if (ctx == NULL) {
        goto out;
    }
    if (dv_endpoint_new(ctx, NULL, &endpoint) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        goto out;
    }
    ret = serve(endpoint, fd, &address);

out:
    dv_endpoint_free(endpoint);
    SSL_CTX_free(ctx);
    if (fd >= 0) {
        close(fd);
    }
    return ret;
}
