/*
 * A connection goes from the thread that made it to another one, at the moment when it falls due: either the library gives
 * it up or the other thread uses it, never both.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "peer.h"

#define ROUNDS 40
#define CONNECTIONS 20
#define IDLE_MS "20"

static struct {
    struct server server;
    dv_udp_conn_t *conns[CONNECTIONS];
    int wait_ms;
    int used, gone;
    atomic_int done;
} shared;

/* Uses each connection once, however far its giving up is, and frees it; looked up by key every other time. */
static void *worker(void *user)
{
    char in[64] = "message", out[64];
    int i = 0;

    poll(NULL, 0, shared.wait_ms);
    for (i = 0; i < CONNECTIONS; i++) {
        dv_udp_conn_t *conn = shared.conns[i];
        int result = 0;

        if (i % 2 == 0) {
            dv_udp_conn_t *found = dv_dtls_conn_find(&conn->key);

            CHECK(found == conn || found == NULL);
        }
        errno = 0;
        result = dv_dtls_write(conn, in, sizeof(in), shared.server.fd, out, sizeof(out), sizeof(conn->key.addr4));
        CHECK(result == (int)sizeof(in) || (result == -1 && errno == ENOTCONN));
        /* From now on it is this thread's: its SSL stays. */
        CHECK(conn->ssl == NULL || SSL_is_init_finished(conn->ssl));
        result = dv_dtls_read(conn, NULL, 0, shared.server.fd, out, sizeof(out), sizeof(conn->key.addr4));
        CHECK(result == 0 || result == -2);
        shared.used += result == 0;
        shared.gone += result == -2;
        dv_dtls_shutdown(conn, shared.server.fd, sizeof(conn->key.addr4));
        dv_dtls_conn_free(conn);
    }
    atomic_store(&shared.done, 1);
    return user;
}

int main(int argc, char **argv)
{
    struct client clients[CONNECTIONS];
    SSL_CTX *ctx = NULL;
    pthread_t thread;
    int round = 0, i = 0;

    if (argc < 2) {
        return 2;
    }
    setenv("DV_IDLE_TIMEOUT_MS", IDLE_MS, 1);
    server_open(&shared.server, argv[1]);
    ctx = client_context(argv[1]);
    for (round = 0; round < ROUNDS; round++) {
        for (i = 0; i < CONNECTIONS; i++) {
            client_open(&clients[i], ctx, &shared.server, NULL);
            CHECK(client_handshake(&clients[i], &shared.server));
            shared.conns[i] = shared.server.conn;
        }
        shared.wait_ms = round % 10;
        atomic_store(&shared.done, 0);
        CHECK(pthread_create(&thread, NULL, worker, NULL) == 0);
        while (!atomic_load(&shared.done)) {
            dv_dtls_handle_timeouts();
        }
        CHECK(pthread_join(thread, NULL) == 0);
        for (i = 0; i < CONNECTIONS; i++) {
            client_vanish(&clients[i]);
        }
    }
    printf("used by the other thread: %d, given up before: %d\n", shared.used, shared.gone);
    CHECK(shared.used + shared.gone == ROUNDS * CONNECTIONS);
    SSL_CTX_free(ctx);
    server_close(&shared.server);
    return check_report("threads");
}
