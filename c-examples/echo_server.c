/*
 * A DTLS server that sends each message back: the server door.
 *
 *     build/echo_server --port 4433 --workers 2
 *
 * The library has the sockets, the threads and the loop; a thread of the program's own waits for signals, and for those who
 * ask for statistics. SIGHUP loads certificate and key again, SIGINT and SIGTERM end it. SIGUSR2 ends it too, but its
 * sessions go on in the next one that is started:
 *
 *     (umask 077 && head -c 32 /dev/urandom >key)
 *     build/echo_server --upgrade sessions --upgrade-key key
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "identity.h"
#include "metrics.h"

static const char help[] =
    "usage: echo_server [options]\n"
    "Sends each message back to its sender. SIGHUP reloads the certificate; SIGINT and SIGTERM end the program.\n"
    "  --host ADDR            the address to listen on (all, IPv4 and IPv6)\n"
    "  --port N               the UDP port; 0 picks a free one (4433)\n"
    "  --workers N            worker threads (1)\n"
    "  --openssl-records      let OpenSSL make the records, not only the handshakes\n"
    "  --secret FILE          random bytes that several servers share, to accept each other's cookies and session tickets\n"
    "  --upgrade FILE         SIGUSR2 writes all sessions to this file and ends; the next server goes on with them\n"
    "  --upgrade-key FILE     32 random bytes that this file is sealed with\n"
    "  --metrics PORT         statistics for Prometheus, on this TCP port of 127.0.0.1; 0 picks a free one\n"
    "  --max-sessions N       at most so many sessions at once (100000)\n"
    "  --idle-timeout MS      close sessions that are silent for longer; 0: never (0)\n"
    SERVER_IDENTITY_HELP
    "  -h                     this text\n"
    SERVER_EXIT_CODES;

static void echo(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    (void)user;
    /* A message that does not leave is lost like any datagram. */
    dv_endpoint_send(endpoint, event->session, event->data, event->len);
}

/* Where sessions wait for the next process, and what they are sealed with. */
static const char *upgrade = NULL;
static unsigned char upgrade_key[DV_EXPORT_KEY_LEN];

static int read_upgrade_key(const char *path)
{
    FILE *file = fopen(path, "rb");
    int whole = file != NULL && fread(upgrade_key, sizeof(upgrade_key), 1, file) == 1;

    if (!whole) {
        fprintf(stderr, "%s: must hold 32 random bytes\n", path);
    }
    if (file != NULL) {
        fclose(file);
    }
    return whole ? 0 : -1;
}

/* Goes on with the sessions of the process before this one, if there are some. */
static void take_over(dv_server *server)
{
    int fd = upgrade != NULL ? open(upgrade, O_RDWR | O_CLOEXEC) : -1;
    int count = 0;

    if (fd < 0 || lseek(fd, 0, SEEK_END) == 0) {
        return;
    }
    lseek(fd, 0, SEEK_SET);
    count = dv_server_import(server, fd, upgrade_key, sizeof(upgrade_key), NULL);
    if (count < 0) {
        fprintf(stderr, "all clients have to begin anew: %s\n", dv_last_error());
    } else {
        printf("%d sessions go on\n", count);
    }
    close(fd);
}

/* Leaves the sessions to the next process; 0: they go on here. */
static int hand_over(dv_server *server)
{
    int fd = upgrade != NULL ? open(upgrade, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    size_t left = 0;
    int count = 0;

    if (fd < 0) {
        return 0;
    }
    count = dv_server_export(server, fd, upgrade_key, sizeof(upgrade_key), &left);
    close(fd);
    if (count < 0) {
        fprintf(stderr, "the sessions go on here: %s\n", dv_last_error());
        return 0;
    }
    dv_server_export_commit(server);
    printf("%d sessions are left to the next process, %zu are over\n", count, left);
    return 1;
}

/* Begins sessions with what is in the certificate's files now. */
static void reload(dv_server *server)
{
    SSL_CTX *ctx = server_context();

    if (ctx == NULL || dv_server_reload(server, ctx) < 0) {
        fprintf(stderr, "the old certificate stays\n");    /* the log says why */
    }
    SSL_CTX_free(ctx);
}

/* What the thread for signals has. */
struct watch {
    dv_server *server;
    int signals;
    int metrics;
};

/* Takes signals, and shows the statistics to those who ask, until a signal ends the server. */
static void *watch(void *argument)
{
    const struct watch *watch = argument;
    struct pollfd waiting[] = { { watch->signals, POLLIN, 0 }, { watch->metrics, POLLIN, 0 } };    /* -1 is left out */

    for (;;) {
        struct signalfd_siginfo got;

        if (poll(waiting, 2, -1) < 0) {
            continue;
        }
        if (waiting[1].revents != 0) {
            answer_with_metrics(watch->metrics, watch->server);
        }
        if (waiting[0].revents == 0 || read(watch->signals, &got, sizeof(got)) != sizeof(got)) {
            continue;
        }
        switch (got.ssi_signo) {
        case SIGHUP: reload(watch->server); break;
        case SIGUSR2:
            if (hand_over(watch->server)) {
                return NULL;
            }
            break;
        default: dv_server_stop(watch->server); return NULL;
        }
    }
}

/* Starts the server, and waits for its end: by a signal, or by itself when something is wrong. */
static int serve(dv_server *server, const sigset_t *signals, int metrics)
{
    struct watch what = { server, signalfd(-1, signals, SFD_CLOEXEC), metrics };
    pthread_t watcher;
    int ended = 0;

    if (what.signals < 0 || pthread_create(&watcher, NULL, watch, &what) != 0) {
        fprintf(stderr, "no thread for signals\n");
        return EXIT_SETUP;
    }
    ended = dv_server_run(server);
    if (ended < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
    }
    /* Ends the thread if no signal has. */
    pthread_kill(watcher, SIGTERM);
    pthread_join(watcher, NULL);
    close(what.signals);
    return ended < 0 ? EXIT_SETUP : EXIT_DONE;
}

int main(int argc, char **argv)
{
    const char *host = NULL;
    const char *port = "4433";
    const char *secret = NULL;
    const char *key_file = NULL;
    long workers = 1;
    long max_sessions = 100000;
    long idle_timeout = 0;
    long metrics_port = -1;
    int openssl_records = 0;
    const struct known_option options[] = {
        { "host", .text = &host },
        { "port", .text = &port, .most = 65535 },
        { "workers", .number = &workers, .least = 1, .most = 256 },
        { "openssl-records", .flag = &openssl_records },
        { "secret", .text = &secret },
        { "upgrade", .text = &upgrade },
        { "upgrade-key", .text = &key_file },
        { "metrics", .number = &metrics_port, .most = 65535 },
        { "max-sessions", .number = &max_sessions, .least = 1, .most = INT_MAX },
        { "idle-timeout", .number = &idle_timeout, .most = INT_MAX },
        SERVER_IDENTITY_OPTIONS,
        { .name = NULL }
    };
    dv_config config;
    dv_callbacks callbacks = { .size = sizeof(callbacks), .message = echo };
    dv_server *server = NULL;
    SSL_CTX *ctx = NULL;
    sigset_t signals;
    int metrics_fd = -1;
    int bound = 0;
    int ret = EXIT_SETUP;

    setvbuf(stdout, NULL, _IOLBF, 0);
    dv_set_log_callback(DV_LOG_WARN, show_log, NULL);
    if (!library_fits() || dv_config_init(&config, sizeof(config)) < 0) {
        return EXIT_SETUP;
    }
    read_command_line(argc, argv, options, help);
    if ((upgrade == NULL) != (key_file == NULL)) {
        fprintf(stderr, "--upgrade and --upgrade-key go together\n");
        return wrong_usage(argv[0]);
    }
    if (!identity_fits(NULL)) {
        return wrong_usage(argv[0]);
    }
    if (key_file != NULL && read_upgrade_key(key_file) < 0) {
        return EXIT_SETUP;
    }
    config.workers = (uint32_t)workers;
    config.native_records = !openssl_records;
    config.secret_file = secret;
    config.max_sessions = (uint32_t)max_sessions;
    config.idle_timeout_ms = (uint32_t)idle_timeout;

    /* Blocked before there are threads, so that all of them leave the signals to the one that reads them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    ctx = server_context();
    if (ctx == NULL || (metrics_port >= 0 && (metrics_fd = listen_for_metrics((uint16_t)metrics_port)) < 0)) {
        goto out;
    }
    if (dv_server_new(ctx, &config, &callbacks, NULL, &server) < 0
        || (bound = dv_server_bind(server, host, port)) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        goto out;
    }
    take_over(server);
    printf("listening on %s port %d\n", host != NULL ? host : "all addresses,", bound);
    ret = serve(server, &signals, metrics_fd);

out:
    dv_server_free(server);
    SSL_CTX_free(ctx);
    if (metrics_fd >= 0) {
        close(metrics_fd);
    }
    return ret;
}
