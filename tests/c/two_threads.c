/*
 * Two threads with a socket each, on the helpers' one table: they make, read, write, restart and free connections for as
 * long as is said, while a third looks things up. Each connection is used by one thread.
 *
 *     two_threads CERTIFICATES [SECONDS]
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "check.h"
#include "peer.h"

#define SECONDS 3
#define AT_ONCE 16

struct thread {
    pthread_t id;
    const char *certs;
    struct server server;
    int rounds, connected, answered, restarted;
};

static time_t end;
static atomic_int over;

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
    BIO *bio = BIO_new_dgram(client->fd, BIO_NOCLOSE);
    int done = 0;

    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &server->at);
    client->ssl = SSL_new(ctx);
    SSL_set_bio(client->ssl, bio, bio);
    SSL_set_connect_state(client->ssl);
    done = client_handshake(client, server) && client_echo(client, server, "anew");
    SSL_free(old);
    return done;
}

static void *serve(void *argument)
{
    struct thread *thread = argument;
    SSL_CTX *ctx = client_context(thread->certs);
    struct client clients[AT_ONCE];
    int i = 0;

    while (now() < end) {
        for (i = 0; i < AT_ONCE; i++) {
            client_open(&clients[i], ctx, &thread->server, NULL);
            thread->connected += client_handshake(&clients[i], &thread->server);
        }
        for (i = 0; i < AT_ONCE; i++) {
            thread->answered += client_echo(&clients[i], &thread->server, "hello");
        }
        thread->restarted += restart(&clients[0], ctx, &thread->server);
        /* One goes without a word: the library gives it up. */
        for (i = 0; i < AT_ONCE - 1; i++) {
            client_close(&clients[i], &thread->server);
        }
        client_vanish(&clients[i]);
        dv_dtls_handle_timeouts();
        thread->rounds++;
    }
    SSL_CTX_free(ctx);
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
    while (!over) {
        key.addr4.sin_port = (in_port_t)(key.addr4.sin_port + 1);
        dv_dtls_conn_find(&key);
        dv_dtls_conn_table_init();
        dv_dtls_next_timeout();
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct thread threads[2];
    pthread_t looking;
    int i = 0;

    if (argc < 2) {
        return 2;
    }
    /* Connections that nobody closes go after a while. */
    setenv("DV_IDLE_TIMEOUT_MS", "2000", 1);
    end = now() + (argc > 2 ? atoi(argv[2]) : SECONDS);
    for (i = 0; i < 2; i++) {
        memset(&threads[i], 0, sizeof(threads[i]));
        threads[i].certs = argv[1];
        server_open(&threads[i].server, argv[1]);
        pthread_create(&threads[i].id, NULL, serve, &threads[i]);
    }
    pthread_create(&looking, NULL, look, NULL);
    for (i = 0; i < 2; i++) {
        pthread_join(threads[i].id, NULL);
        printf("thread %d: %d rounds, %d answered, %d restarted\n", i, threads[i].rounds, threads[i].answered,
               threads[i].restarted);
        CHECK(threads[i].rounds > 0);
        CHECK(threads[i].connected == threads[i].rounds * AT_ONCE);
        CHECK(threads[i].answered == threads[i].rounds * AT_ONCE);
        CHECK(threads[i].restarted == threads[i].rounds);
        server_close(&threads[i].server);
    }
    over = 1;
    pthread_join(looking, NULL);
    return check_report("two_threads");
}
