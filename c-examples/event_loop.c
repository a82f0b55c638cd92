/*
 * The endpoint in an epoll loop of the program's own, beside something else that the loop waits for: here the terminal.
 *
 *     build/event_loop --port 4433
 */
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "identity.h"

static const char help[] =
    "usage: event_loop [options]\n"
    "A DTLS server on one socket. Prints what clients send, and sends each line of the terminal to all of them. Ends with\n"
    "the terminal's input, or at SIGINT and SIGTERM.\n"
    "  --host ADDR            the address to listen on (" DEFAULT_ADDRESS ")\n"
    "  --port N               the UDP port; 0 takes a free one (4433)\n"
    SERVER_IDENTITY_HELP
    "  -h                     this text\n"
    SERVER_EXIT_CODES;

#define BATCH        16
#define DATAGRAM_MAX 65536
#define SESSIONS_MAX 1024

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

static void receive(dv_endpoint *endpoint, int fd)
{
    static char bytes[DATAGRAM_MAX];
    ssize_t got = 0;

    do {
        dv_datagram in;
        socklen_t len = sizeof(in.peer);

        memset(&in, 0, sizeof(in));
        got = recvfrom(fd, bytes, sizeof(bytes), MSG_DONTWAIT, &in.peer.any, &len);
        if (got > 0) {
            in.data = bytes;
            in.len = (size_t)got;
            dv_endpoint_receive(endpoint, now_us(), &in, 1);
        }
    } while (got > 0);
}

static void to_all(dv_endpoint *endpoint, const char *line, size_t len)
{
    dv_session sessions[SESSIONS_MAX];
    int count = dv_endpoint_sessions(endpoint, sessions, SESSIONS_MAX);
    int i = 0;

    for (i = 0; i < count && i < SESSIONS_MAX; i++) {
        if (line == NULL) {
            dv_endpoint_close(endpoint, sessions[i]);
        } else if (dv_endpoint_send(endpoint, sessions[i], line, len) < 0) {
            fprintf(stderr, "%s\n", dv_last_error());
        }
    }
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
    fflush(stdout);
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

/* A descriptor that can be read when a signal asks for the end. */
static int signals_that_end(void)
{
    sigset_t ending;

    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    return signalfd(-1, &ending, SFD_CLOEXEC);
}

static int serve(dv_endpoint *endpoint, int fd)
{
    const int watched[] = { fd, STDIN_FILENO, signals_that_end() };
    struct epoll_event ready[3];
    char line[1024];
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    int over = 0;
    int count = 0;

    for (count = 0; count < 3; count++) {
        struct epoll_event event = { EPOLLIN, { .fd = watched[count] } };

        if (epoll_ctl(epfd, EPOLL_CTL_ADD, watched[count], &event) != 0) {
            perror(watched[count] == STDIN_FILENO ? "epoll: the terminal" : "epoll");
            return EXIT_SETUP;
        }
    }
    while (!over) {
        /* 1. Wait. */
        count = epoll_wait(epfd, ready, 3, patience(endpoint));
        while (count-- > 0) {
            if (ready[count].data.fd == fd) {
                /* 2. Give it what has come in. */
                receive(endpoint, fd);
            } else if (ready[count].data.fd == STDIN_FILENO) {
                ssize_t len = read(STDIN_FILENO, line, sizeof(line));

                if (len > 0) {
                    to_all(endpoint, line, (size_t)len);
                } else {
                    over = 1;
                }
            } else {
                over = 1;
            }
        }
        if (over) {
            to_all(endpoint, NULL, 0);
        }
        dv_endpoint_advance(endpoint, now_us());
        /* 3. Take what has happened. */
        take_events(endpoint);
        /* 4. Send what has to leave. */
        send_waiting(endpoint, fd);
    }
    close(epfd);
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "host", required_argument, NULL, OPTION_OWN },
        { "port", required_argument, NULL, OPTION_OWN + 1 },
        SERVER_IDENTITY_OPTIONS,
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 }
    };
    const char *host = DEFAULT_ADDRESS;
    const char *port = "4433";
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    dv_endpoint *endpoint = NULL;
    SSL_CTX *ctx = NULL;
    int option = 0;
    int fd = -1;
    int ret = EXIT_SETUP;

    dv_set_log_callback(DV_LOG_WARN, show_log, NULL);
    if (!library_fits()) {
        return EXIT_SETUP;
    }
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case OPTION_OWN: host = optarg; break;
        case OPTION_OWN + 1: port = optarg; break;
        case 'h': fputs(help, stdout); return EXIT_DONE;
        default:
            if (identity_option(option, optarg) < 0) {
                return wrong_usage(argv[0]);
            }
        }
    }
    if (!all_options(argc, argv) || read_address(host, port, &address) < 0) {
        return wrong_usage(argv[0]);
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
    printf("listening on %s\n", address_text(&address));
    fflush(stdout);
    ret = serve(endpoint, fd);

out:
    dv_endpoint_free(endpoint);
    SSL_CTX_free(ctx);
    if (fd >= 0) {
        close(fd);
    }
    return ret;
}
