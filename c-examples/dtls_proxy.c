/*
 * DTLS on one side, plain UDP on the other: a UDP service gets DTLS and does not notice.
 *
 *     build/dtls_proxy --port 5684 --backend 127.0.0.1:5683
 *
 * Each session has a socket of its own towards the backend, so that the backend sees as many peers as there are clients, and
 * its answers find their way back.
 */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "identity.h"

static const char help[] =
    "usage: dtls_proxy --backend HOST:PORT [options]\n"
    "Takes DTLS and speaks plain UDP to the backend, with one socket for each session. SIGINT and SIGTERM end the program.\n"
    "  --backend HOST:PORT    the UDP service\n"
    "  --host ADDR            the address to listen on (all, IPv4 and IPv6)\n"
    "  --port N               the UDP port; 0 picks a free one (4433)\n"
    "  --workers N            worker threads (1)\n"
    "  --idle S               end sessions that are silent for longer, in seconds (300)\n"
    SERVER_IDENTITY_HELP
    "  -h                     this text\n"
    SERVER_EXIT_CODES;

#define DATAGRAM_MAX 65536
#define BATCH        16     /* of one session, before the next one has its turn */

static const char *backend_host;
static const char *backend_port;
static struct sockaddr_storage backend;
static int epfd = -1;
static dv_server *server;

/* What hangs on a session. */
struct link {
    int fd;
    dv_session session;
    struct link *next;
};

/* Links whose sessions are over, which the other thread may still have from epoll: it frees them when it has none. */
static struct {
    pthread_mutex_t lock;
    struct link *first;
} over = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Splits HOST:PORT; an IPv6 address is in brackets. Says what is wrong and returns -1 if it cannot. */
static int cut_backend(char *text)
{
    char *port = strrchr(text, ':');
    size_t len = port != NULL ? (size_t)(port - text) : 0;

    if (len == 0) {
        fprintf(stderr, "--backend %s: must be HOST:PORT\n", text);
        return -1;
    }
    *port++ = '\0';
    if (text[0] == '[' && text[len - 1] == ']') {
        text[len - 1] = '\0';
        text++;
    }
    backend_host = text;
    backend_port = port;
    return read_number("--backend's port", port, 1, 65535) < 0 ? -1 : 0;
}

static void end(int signal_number)
{
    (void)signal_number;
    dv_server_stop(server);
}

static void come(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    struct link *link = malloc(sizeof(*link));
    struct epoll_event watch = { EPOLLIN, { .ptr = link } };

    (void)user;
    if (link == NULL) {
        dv_endpoint_close(endpoint, event->session);
        return;
    }
    link->session = event->session;
    link->fd = socket(backend.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (link->fd < 0 || connect(link->fd, (struct sockaddr *)&backend, address_length(&backend)) != 0
        || epoll_ctl(epfd, EPOLL_CTL_ADD, link->fd, &watch) != 0) {
        perror("no socket for a session");
        if (link->fd >= 0) {
            close(link->fd);
        }
        free(link);
        dv_endpoint_close(endpoint, event->session);
        return;
    }
    dv_session_set_user(endpoint, event->session, link);
}

static void to_backend(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    struct link *link = event->user;

    (void)user;
    (void)endpoint;
    /* Lost, or refused because nobody listens there: what is sent over UDP may be lost. */
    if (link != NULL) {
        send(link->fd, event->data, event->len, 0);
    }
}

static void leave(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    struct link *link = event->user;

    (void)user;
    (void)endpoint;
    if (link != NULL) {
        epoll_ctl(epfd, EPOLL_CTL_DEL, link->fd, NULL);
        pthread_mutex_lock(&over.lock);
        link->next = over.first;
        over.first = link;
        pthread_mutex_unlock(&over.lock);
    }
}

static void free_over(void)
{
    struct link *link = NULL;

    pthread_mutex_lock(&over.lock);
    while ((link = over.first) != NULL) {
        over.first = link->next;
        close(link->fd);
        free(link);
    }
    pthread_mutex_unlock(&over.lock);
}

/* Takes answers to their sessions, until what is ready is no link. */
static void *bring_back(void *unused)
{
    static char bytes[DATAGRAM_MAX];
    struct epoll_event ready[64];

    (void)unused;
    for (;;) {
        /* A second, so that links which are over go even when no answer comes. */
        int count = epoll_wait(epfd, ready, 64, 1000);

        while (count-- > 0) {
            struct link *link = ready[count].data.ptr;
            int i = 0;

            if (link == NULL) {
                return NULL;
            }
            for (i = 0; i < BATCH; i++) {
                ssize_t len = recv(link->fd, bytes, sizeof(bytes), 0);

                if (len < 0) {
                    break;
                }
                /* More than fits in a datagram is dropped, and counted. */
                dv_server_send(server, link->session, bytes, (size_t)len);
            }
        }
        free_over();
    }
}

static int serve(void)
{
    struct epoll_event watch = { EPOLLIN, { .ptr = NULL } };
    int finish = eventfd(0, EFD_CLOEXEC);
    sigset_t all;
    sigset_t before;
    pthread_t answers;
    int ran = 0;

    epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, finish, &watch) != 0) {
        perror("epoll");
        return EXIT_SETUP;
    }
    /* Signals are for this thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (pthread_create(&answers, NULL, bring_back, NULL) != 0) {
        fprintf(stderr, "no thread for the answers\n");
        return EXIT_SETUP;
    }
    ran = dv_server_start(server);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ran < 0 || (ran = dv_server_join(server)) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
    }
    eventfd_write(finish, 1);
    pthread_join(answers, NULL);
    free_over();
    close(finish);
    close(epfd);
    return ran < 0 ? EXIT_SETUP : EXIT_DONE;
}

int main(int argc, char **argv)
{
    const char *host = NULL;
    const char *port = "4433";
    long workers = 1;
    long idle = 300;
    const struct known_option options[] = {
        { "backend", .take = cut_backend },
        { "host", .text = &host },
        { "port", .text = &port, .most = 65535 },
        { "workers", .number = &workers, .least = 1, .most = 256 },
        { "idle", .number = &idle, .most = 4000000 },
        SERVER_IDENTITY_OPTIONS,
        { .name = NULL }
    };
    dv_callbacks callbacks = { .size = sizeof(callbacks), .open = come, .message = to_backend, .close = leave };
    dv_config config;
    SSL_CTX *ctx = NULL;
    int bound = 0;
    int ret = EXIT_SETUP;

    setvbuf(stdout, NULL, _IOLBF, 0);
    dv_set_log_callback(DV_LOG_WARN, show_log, NULL);
    if (!library_fits() || dv_config_init(&config, sizeof(config)) < 0) {
        return EXIT_SETUP;
    }
    read_command_line(argc, argv, options, help);
    if (backend_port == NULL) {
        fprintf(stderr, "--backend is missing\n");
        return wrong_usage(argv[0]);
    }
    if (!identity_fits(NULL)) {
        return wrong_usage(argv[0]);
    }
    if (find_address(backend_host, backend_port, &backend) < 0) {
        return EXIT_SETUP;
    }
    config.workers = (uint32_t)workers;
    config.idle_timeout_ms = (uint32_t)idle * 1000;
    ctx = server_context();
    if (ctx == NULL) {
        return EXIT_SETUP;
    }
    if (dv_server_new(ctx, &config, &callbacks, NULL, &server) < 0 || (bound = dv_server_bind(server, host, port)) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        goto out;
    }
    on_end_signals(end);
    printf("listening on %s port %d\n", host != NULL ? host : "all addresses,", bound);
    ret = serve();

out:
    /* From here on a second signal must not find the server. */
    on_end_signals(SIG_DFL);
    dv_server_free(server);
    SSL_CTX_free(ctx);
    return ret;
}
