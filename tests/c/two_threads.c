/*
 * Two threads with a socket each, on the helpers' one table. They make connections, restart, write, read and free them, and
 * in each round they swap sockets: what one has made, the other goes on with. A third thread looks things up meanwhile.
 * Each connection is used by one thread at a time. What each has counted is there in the sum, although each counts for itself:
 * counters that all threads write to took a third of a server's time (https://github.com/coturn/coturn/pull/1954).
 *
 * DV_TEST_SECONDS says how long (3).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "check.h"
#include "peer.h"

#define SECONDS 3
#define AT_ONCE 16

/* A socket of the server, and the clients that talk to it. */
struct side {
    struct server server;
    struct client clients[AT_ONCE];
};

struct thread {
    pthread_t id;
    SSL_CTX *ctx;
    int number, rounds, connected, answered, restarted;
};

static struct side sides[2];
static pthread_barrier_t both;
static atomic_int go_on = 1;
static time_t end;

static time_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

/* The client says hello again on its port, and has a new connection. */
static int restart(struct client *client, SSL_CTX *ctx, struct server *server)
{
    SSL *old = client->ssl;
    int done = 0;

    *client = client_anew(client, ctx, server);
    done = client_handshake(client, server) && client_echo(client, server, "anew");
    SSL_free(old);
    return done;
}

static void *serve(void *argument)
{
    struct thread *thread = argument;
    int i = 0;

    while (go_on) {
        struct side *side = &sides[thread->number];

        for (i = 0; i < AT_ONCE; i++) {
            client_open(&side->clients[i], thread->ctx, &side->server, NULL);
            thread->connected += client_handshake(&side->clients[i], &side->server);
            thread->answered += client_echo(&side->clients[i], &side->server, "hello");
        }
        pthread_barrier_wait(&both);
        side = &sides[1 - thread->number];
        for (i = 0; i < AT_ONCE; i++) {
            thread->answered += client_echo(&side->clients[i], &side->server, "hello again");
        }
        thread->restarted += restart(&side->clients[0], thread->ctx, &side->server);
        for (i = 0; i < AT_ONCE - 1; i++) {
            client_close(&side->clients[i], &side->server);
        }
        /* One goes without a word: the library gives it up. */
        client_vanish(&side->clients[i]);
        dv_dtls_handle_timeouts();
        thread->rounds++;
        if (thread->number == 0 && now() >= end) {
            go_on = 0;
        }
        pthread_barrier_wait(&both);
    }
    return NULL;
}

/* What may run beside it all. It only looks: what it finds belongs to the others. */
static void *look(void *argument)
{
    dv_udp_conn_key_t key;

    (void)argument;
    memset(&key, 0, sizeof(key));
    key.addr4.sin_family = AF_INET;
    key.addr4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (go_on) {
        key.addr4.sin_port = (in_port_t)(key.addr4.sin_port + 1);
        dv_dtls_conn_find(&key);
        dv_dtls_conn_table_init();
        dv_dtls_next_timeout();
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *seconds = getenv("DV_TEST_SECONDS");
    struct thread threads[2];
    pthread_t looking;
    uint64_t handshakes = 0, messages = 0;
    dv_stats stats;
    int i = 0;

    if (argc < 2) {
        return 2;
    }
    /* In a run of a minute those who went without a word are given up, and nobody for a round on a busy machine. */
    setenv("DV_IDLE_TIMEOUT_MS", "20000", 1);
    end = now() + (seconds != NULL ? atoi(seconds) : SECONDS);
    pthread_barrier_init(&both, NULL, 2);
    for (i = 0; i < 2; i++) {
        server_open(&sides[i].server, argv[1]);
        threads[i] = (struct thread){.number = i, .ctx = client_context(argv[1])};
    }
    for (i = 0; i < 2; i++) {
        pthread_create(&threads[i].id, NULL, serve, &threads[i]);
    }
    pthread_create(&looking, NULL, look, NULL);
    pthread_join(looking, NULL);
    for (i = 0; i < 2; i++) {
        pthread_join(threads[i].id, NULL);
        printf("thread %d: %d rounds, %d connected, %d answered, %d restarted\n", i, threads[i].rounds,
               threads[i].connected, threads[i].answered, threads[i].restarted);
        CHECK(threads[i].rounds > 0);
        CHECK(threads[i].connected == threads[i].rounds * AT_ONCE);
        CHECK(threads[i].answered == threads[i].rounds * AT_ONCE * 2);
        CHECK(threads[i].restarted == threads[i].rounds);
        SSL_CTX_free(threads[i].ctx);
        handshakes += (uint64_t)(threads[i].connected + threads[i].restarted);
        messages += (uint64_t)(threads[i].answered + threads[i].restarted);
    }
    CHECK(dv_dtls_stats(&stats, sizeof(stats)) == 0);
    CHECK(stats.handshakes_finished == handshakes && stats.messages_in == messages);
    for (i = 0; i < 2; i++) {
        server_close(&sides[i].server);
    }
    pthread_barrier_destroy(&both);
    return check_report("two_threads");
}
