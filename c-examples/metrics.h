/*
 * What a server has counted, as a page for Prometheus at a TCP port of this machine.
 */
#ifndef DV_METRICS_H
#define DV_METRICS_H

#include <inttypes.h>
#include <stddef.h>
#include <sys/time.h>
#include <unistd.h>

#include "example.h"

#define METRIC(name) { #name, offsetof(dv_stats, name) }
#define GAUGES       2 /* the first two are what is now; all others only grow */

static const struct {
    const char *name;
    size_t offset;
} metrics[] = {
    METRIC(sessions), METRIC(handshakes), METRIC(datagrams_in), METRIC(datagrams_out), METRIC(strangers_dropped),
    METRIC(hellos_answered), METRIC(hellos_too_short), METRIC(cookies_refused), METRIC(handshakes_begun),
    METRIC(handshakes_finished), METRIC(handshakes_failed), METRIC(handshakes_timed_out),
    METRIC(refused_handshakes), METRIC(refused_source), METRIC(refused_connections), METRIC(refused_unread),
    METRIC(evicted), METRIC(idle_timed_out), METRIC(restarted), METRIC(superseded), METRIC(closed_by_peer),
    METRIC(flights_resent_on_timeout), METRIC(flights_resent_on_repeat), METRIC(mtu_stepped_down),
    METRIC(messages_in), METRIC(messages_out), METRIC(messages_dropped), METRIC(messages_too_long),
    METRIC(datagrams_dropped), METRIC(records_dropped), METRIC(kernel_drops), METRIC(handshakes_shed),
    METRIC(socket_full), METRIC(datagrams_refused), METRIC(messages_refused), METRIC(records_taken_over),
    METRIC(connection_ids_used), METRIC(peers_moved), METRIC(addresses_proven), METRIC(addresses_refused),
    METRIC(datagrams_withheld), METRIC(datagrams_handed_over), METRIC(handovers_dropped)
};

/* Listens for those who ask for the page. Says what is wrong and returns -1 if it cannot. */
static inline int listen_for_metrics(uint16_t port)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(here);
    int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0
        || bind(fd, (struct sockaddr *)&here, len) != 0 || listen(fd, 16) != 0
        || getsockname(fd, (struct sockaddr *)&here, &len) != 0) {
        fprintf(stderr, "metrics at port %d: %s\n", port, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    printf("metrics at http://127.0.0.1:%d/\n", ntohs(here.sin_port));
    return fd;
}

/* Answers one who asks, whatever is asked for. */
static inline void answer_with_metrics(int listener, const dv_server *server)
{
    dv_stats stats;
    struct timeval patience = { 1, 0 };    /* for who asks and then says nothing */
    int fd = accept(listener, NULL, NULL);
    FILE *answer = NULL;
    char *text = NULL;
    char request[4096];
    size_t len = 0;
    size_t i = 0;

    if (fd < 0) {
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (recv(fd, request, sizeof(request), 0) > 0 && dv_server_stats(server, &stats, sizeof(stats)) == 0
        && (answer = open_memstream(&text, &len)) != NULL) {
        fputs("HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n", answer);
        for (i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
            const char *name = metrics[i].name;
            uint64_t value = *(const uint64_t *)((const char *)&stats + metrics[i].offset);

            fprintf(answer, i < GAUGES ? "# TYPE dv_%s gauge\ndv_%s %" PRIu64 "\n"
                                       : "# TYPE dv_%s_total counter\ndv_%s_total %" PRIu64 "\n", name, name, value);
        }
        fclose(answer);
        send(fd, text, len, MSG_NOSIGNAL);
        free(text);
    }
    close(fd);
}

#endif
