/*
 * What the server programs of tests/engine have in common: a command line like that of the example server, the operator's
 * names for settings, an answer to each message, and what the tests wait for in the output.
 */
#ifndef SERVE_H
#define SERVE_H

#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include "../../c-examples/identity.h"

struct options {
    const char *host;
    const char *port;
    dv_config config;
};

static inline uint64_t clock_us(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* A test names a setting as the helpers' environment does, whatever door it goes through. */
static inline int read_settings(dv_config *config)
{
    static const struct {
        const char *name;
        size_t member;
    } settings[] = {
        { "DV_MTU", offsetof(dv_config, mtu) },
        { "DV_MAX_CONNECTIONS", offsetof(dv_config, max_sessions) },
        { "DV_MAX_HANDSHAKES", offsetof(dv_config, max_handshakes) },
        { "DV_MAX_CONNECTIONS_PER_SOURCE", offsetof(dv_config, max_sessions_per_source) },
        { "DV_MAX_HANDSHAKES_PER_SOURCE", offsetof(dv_config, max_handshakes_per_source) },
        { "DV_MAX_CERTIFICATE_CHAIN", offsetof(dv_config, max_certificate_chain) },
        { "DV_FIRST_TIMEOUT_MS", offsetof(dv_config, first_timeout_ms) },
        { "DV_LONGEST_TIMEOUT_MS", offsetof(dv_config, longest_timeout_ms) },
        { "DV_HANDSHAKE_TIMEOUT_MS", offsetof(dv_config, handshake_timeout_ms) },
        { "DV_IDLE_TIMEOUT_MS", offsetof(dv_config, idle_timeout_ms) },
        { "DV_RELEASE_BUFFERS", offsetof(dv_config, release_buffers) },
    };
    size_t i = 0;

    for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        const char *text = getenv(settings[i].name);
        long number = text != NULL ? read_number(settings[i].name, text, 0, INT_MAX) : 0;
        uint32_t value = (uint32_t)number;

        if (number < 0) {
            return -1;
        }
        if (text != NULL) {
            memcpy((char *)config + settings[i].member, &value, sizeof(value));
        }
    }
    return 0;
}

/* Returns an exit code: EXIT_DONE when all is well. */
static inline int read_options(struct options *options, int argc, char **argv)
{
    int option = 0;

    options->host = DEFAULT_ADDRESS;
    options->port = DEFAULT_PORT;
    if (!library_fits() || dv_config_init(&options->config, sizeof(options->config)) < 0
        || read_settings(&options->config) < 0) {
        return EXIT_SETUP;
    }
    while ((option = getopt(argc, argv, "a:p:c:k:C:o")) != -1) {
        switch (option) {
        case 'a': options->host = optarg; break;
        case 'p': options->port = optarg; break;
        case 'c': take_certificate(optarg); break;
        case 'k': take_key(optarg); break;
        case 'C': identity.ca = optarg; identity.require_client_cert = 1; break;
        case 'o': options->config.native_records = 0; break;
        default: return EXIT_USAGE;
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    dv_set_log_callback(DV_LOG_WARN, show_log, NULL);
    return EXIT_DONE;
}

/* A dv_callback: messages are sent back. */
static inline void answer(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    (void)user;
    if (event->kind == DV_EVENT_MESSAGE) {
        if (dv_endpoint_send(endpoint, event->session, event->data, event->len) < 0) {
            printf("cannot answer: %s\n", dv_last_error());
        }
    } else if (event->kind == DV_EVENT_CLOSED) {
        printf("session closed: %d\n", event->reason);
    }
}

/* These doors only count whom they refuse, and why. Says it in the words of the helpers' log. */
static inline void tell(const dv_stats *stats)
{
    static uint64_t told[6];
    const uint64_t now[] = { stats->refused_handshakes, stats->refused_source, stats->refused_connections,
                             stats->evicted, stats->handshakes_failed, stats->records_taken_over };
    static const char *const words[] = { "max_handshakes is reached", "a source has reached its limit",
                                         "max_connections is reached and nobody is idle",
                                         "1 idle connections closed: a limit of connections is reached", "a handshake has failed",
                                         "records are made by the library" };
    int i = 0;

    for (i = 0; i < 6; i++) {
        if (now[i] > told[i]) {
            puts(words[i]);
            told[i] = now[i];
        }
    }
}

#endif
