/*
 * A DTLS server that sends each message back: the server door.
 *
 *     build/echo_server --port 4433 --workers 2
 *
 * The library has the sockets, the threads and the loop. SIGHUP loads certificate and key again, SIGINT and SIGTERM end it.
 */
#include <signal.h>

#include "identity.h"

static const char help[] =
    "usage: echo_server [options]\n"
    "Sends each message back to whom it came from. SIGHUP loads the certificate again, SIGINT and SIGTERM end it.\n"
    "  --host ADDR            the address to listen on (all, IPv4 and IPv6)\n"
    "  --port N               the UDP port; 0 takes a free one (4433)\n"
    "  --workers N            threads (1)\n"
    "  --openssl-records      leave the records to OpenSSL (the library makes them, where it can)\n"
    "  --secret FILE          random bytes that several servers share: each goes on with what another has begun\n"
    SERVER_IDENTITY_HELP
    "  -h                     this text\n";

static void echo(void *user, dv_endpoint *endpoint, const dv_event *event)
{
    (void)user;
    /* A message that does not leave is lost like any datagram. */
    dv_endpoint_send(endpoint, event->session, event->data, event->len);
}

/* Waits for signals until the server shall end. */
static void wait_for_signals(dv_server *server, const sigset_t *signals)
{
    int signal_number = 0;

    while (sigwait(signals, &signal_number) == 0 && signal_number == SIGHUP) {
        SSL_CTX *ctx = server_context();

        if (ctx == NULL || dv_server_reload(server, ctx) < 0) {
            fprintf(stderr, "the old certificate stays: %s\n", dv_last_error());
        }
        SSL_CTX_free(ctx);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "host", required_argument, NULL, OPTION_OWN },
        { "port", required_argument, NULL, OPTION_OWN + 1 },
        { "workers", required_argument, NULL, OPTION_OWN + 2 },
        { "secret", required_argument, NULL, OPTION_OWN + 3 },
        { "openssl-records", no_argument, NULL, OPTION_OWN + 4 },
        SERVER_IDENTITY_OPTIONS,
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 }
    };
    const char *host = NULL;
    const char *port = "4433";
    dv_config config;
    dv_callbacks callbacks = { sizeof(callbacks), NULL, echo, NULL };
    dv_server *server = NULL;
    SSL_CTX *ctx = NULL;
    sigset_t signals;
    long workers = 1;
    int option = 0;
    int bound = 0;

    dv_set_log_callback(DV_LOG_WARN, show_log, NULL);
    if (!library_fits() || dv_config_init(&config, sizeof(config)) < 0) {
        return EXIT_SETUP;
    }
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case OPTION_OWN: host = optarg; break;
        case OPTION_OWN + 1: port = optarg; break;
        case OPTION_OWN + 2: workers = read_number(optarg, 1, 256); break;
        case OPTION_OWN + 3: config.secret_file = optarg; break;
        case OPTION_OWN + 4: config.native_records = 0; break;
        case 'h': fputs(help, stdout); return EXIT_DONE;
        default:
            if (identity_option(option, optarg) < 0) {
                fputs(help, stderr);
                return EXIT_USAGE;
            }
        }
    }
    if (workers < 0 || optind != argc) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    config.workers = (uint32_t)workers;

    /* Blocked before there are threads, so that all of them leave the signals to sigwait. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    ctx = server_context();
    if (ctx == NULL) {
        return EXIT_SETUP;
    }
    if (dv_server_new(ctx, &config, &callbacks, NULL, &server) < 0
        || (bound = dv_server_bind(server, host, port)) < 0 || dv_server_start(server) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        dv_server_free(server);
        SSL_CTX_free(ctx);
        return EXIT_SETUP;
    }
    printf("listening on %s port %d\n", host != NULL ? host : "all addresses,", bound);
    fflush(stdout);
    wait_for_signals(server, &signals);
    dv_server_stop(server);
    dv_server_join(server);
    dv_server_free(server);
    SSL_CTX_free(ctx);
    return EXIT_DONE;
}
