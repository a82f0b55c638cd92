/*
 * A room: what one client says, all others hear, whichever worker has them.
 *
 *     build/chat --port 4433 --workers 2
 */
#include <pthread.h>

#include "identity.h"

static const char help[] =
    "usage: chat [options]\n"
    "What one client says, all others hear. SIGINT and SIGTERM end the program.\n"
    "  --host ADDR            the address to listen on (all, IPv4 and IPv6)\n"
    "  --port N               the UDP port; 0 picks a free one (4433)\n"
    "  --workers N            worker threads (2)\n"
    SERVER_IDENTITY_HELP
    "  -h                     this text\n"
    SERVER_EXIT_CODES;

#define PEOPLE_MAX 1000

/* Everybody who is there. The workers call from threads of their own. */
static struct {
    pthread_mutex_t lock;
    dv_session people[PEOPLE_MAX];
    size_t count;
} room = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* The only thing that a signal handler touches. */
static dv_server *server;

static void end(int signal_number)
{
    (void)signal_number;
    dv_server_stop(server);
}

static void say(dv_endpoint *endpoint, dv_session from, const char *what, const void *text, size_t len)
{
    dv_address peer;
    char line[1100];
    int head = 0;
    size_t i = 0;

    dv_session_addresses(endpoint, from, &peer, NULL);
    head = snprintf(line, sizeof(line), "%s %s", address_text(&peer), what);
    if (len > sizeof(line) - (size_t)head) {
        len = sizeof(line) - (size_t)head;
    }
    memcpy(line + head, text, len);
    for (i = 0; i < room.count; i++) {
        if (room.people[i] != from) {
            /* Who has left meanwhile, or has too much waiting, misses it. */
            dv_server_send(server, room.people[i], line, (size_t)head + len);
        }
    }
}

static void come(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    (void)user;
    pthread_mutex_lock(&room.lock);
    if (room.count == PEOPLE_MAX) {
        dv_endpoint_close(endpoint, event->session);
    } else {
        room.people[room.count++] = event->session;
        say(endpoint, event->session, "has come", "", 0);
    }
    pthread_mutex_unlock(&room.lock);
}

static void hear(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    (void)user;
    pthread_mutex_lock(&room.lock);
    say(endpoint, event->session, "says: ", event->data, event->len);
    pthread_mutex_unlock(&room.lock);
}

static void leave(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    size_t i = 0;

    (void)user;
    pthread_mutex_lock(&room.lock);
    for (i = 0; i < room.count; i++) {
        if (room.people[i] == event->session) {
            room.people[i] = room.people[--room.count];
            say(endpoint, event->session, "has left", "", 0);
            break;
        }
    }
    pthread_mutex_unlock(&room.lock);
}

int main(int argc, char **argv)
{
    const char *host = NULL;
    const char *port = "4433";
    long workers = 2;
    const struct known_option options[] = {
        { "host", .text = &host },
        { "port", .text = &port, .most = 65535 },
        { "workers", .number = &workers, .least = 1, .most = 256 },
        SERVER_IDENTITY_OPTIONS,
        { .name = NULL }
    };
    dv_callbacks callbacks = { .size = sizeof(callbacks), .open = come, .message = hear, .close = leave };
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
    if (!identity_fits(NULL)) {
        return wrong_usage(argv[0]);
    }
    config.workers = (uint32_t)workers;
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
    if (dv_server_run(server) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        goto out;
    }
    ret = EXIT_DONE;

out:
    /* From here on a second signal must not find the server. */
    on_end_signals(SIG_DFL);
    dv_server_free(server);
    SSL_CTX_free(ctx);
    return ret;
}
