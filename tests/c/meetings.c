/*
 * Two threads meet at a connection, though each uses it alone: one finds and frees what the other is still making, and one
 * uses what the other is giving up. Whether they touch the same memory is for ThreadSanitizer to see (make test-tsan). In
 * OpenSSL's own listener they did: https://github.com/openssl/openssl/issues/32948,
 * https://github.com/openssl/openssl/issues/32949
 */
#include <pthread.h>
#include <time.h>

#include "check.h"
#include "peer.h"

#define FOUND 2000
#define ROUNDS 300
#define AT_ONCE 16
#define GIVEN_UP_AFTER_MS "4"
#define PATIENCE_MS 30000

static struct {
    SSL_CTX *ctx;
    char hello[2048];
    size_t len;
    int fd;
    in_port_t port;
    int clients;
    dv_udp_conn_t *conns[AT_ONCE];
    int used, gone;
} shared;
static pthread_barrier_t both;

static long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The address of a client on this machine; all of them reach one socket, which nobody reads. */
static dv_udp_conn_key_t client(int number)
{
    dv_udp_conn_key_t key;

    memset(&key, 0, sizeof(key));
    key.addr4.sin_family = AF_INET;
    key.addr4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (in_addr_t)number);
    key.addr4.sin_port = shared.port;
    return key;
}

static dv_udp_conn_t *make(int number)
{
    dv_udp_conn_key_t key = client(number);
    dv_udp_conn_t *conn =
        dv_dtls_conn_new(shared.ctx, shared.hello, shared.len, shared.fd, &key, sizeof(key.addr4));

    CHECK(conn != NULL);
    return conn;
}

static void use(dv_udp_conn_t *conn)
{
    char out[64];
    int got = dv_dtls_read(conn, NULL, 0, shared.fd, out, sizeof(out), sizeof(conn->key.addr4));

    CHECK(got == 0 || got == -2);
    shared.used += got == 0;
    shared.gone += got == -2;
    dv_dtls_conn_free(conn);
}

static void *find(void *argument)
{
    long begin = 0;
    int i = 0;

    for (i = 0; i < FOUND; i++) {
        dv_udp_conn_key_t key = client(i);
        dv_udp_conn_t *conn = NULL;

        pthread_barrier_wait(&both);
        for (begin = now_ms(); conn == NULL; conn = dv_dtls_conn_find(&key)) {
            if (now_ms() - begin > PATIENCE_MS) {
                peer_die("a connection that is made is not found");
            }
        }
        use(conn);
    }
    return argument;
}

/* The youngest first: the other one gives up the oldest first, so they meet. */
static void *take_over(void *argument)
{
    int round = 0, i = 0;

    for (round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&both);
        poll(NULL, 0, 1 + round % 7);
        for (i = AT_ONCE - 1; i >= 0; i--) {
            use(shared.conns[i]);
        }
        pthread_barrier_wait(&both);
    }
    return argument;
}

/* Does what is due, for longer than until all has been given up. */
static void give_up(void)
{
    long begin = now_ms();

    do {
        dv_dtls_handle_timeouts();
    } while (now_ms() - begin < 10);
}

/* The first thing that a client says. */
static void say_hello(const char *certs)
{
    SSL_CTX *ctx = client_context(certs);
    SSL *ssl = SSL_new(ctx);
    BIO *out = BIO_new(BIO_s_mem());

    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    SSL_set_connect_state(ssl);
    SSL_do_handshake(ssl);
    shared.len = (size_t)BIO_read(out, shared.hello, sizeof(shared.hello));
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    pthread_t other;
    int round = 0, i = 0;

    if (argc < 2) {
        return 2;
    }
    setenv("DV_HANDSHAKE_TIMEOUT_MS", GIVEN_UP_AFTER_MS, 1);
    shared.ctx = server_context(argv[1]);
    /* Each hello makes a connection. */
    SSL_CTX_clear_options(shared.ctx, SSL_OP_COOKIE_EXCHANGE);
    say_hello(argv[1]);
    shared.fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (shared.fd < 0 || bind(shared.fd, (struct sockaddr *)&at, len) != 0
        || getsockname(shared.fd, (struct sockaddr *)&at, &len) != 0) {
        peer_die("socket");
    }
    shared.port = at.sin_port;
    pthread_barrier_init(&both, NULL, 2);

    CHECK(pthread_create(&other, NULL, find, NULL) == 0);
    for (i = 0; i < FOUND; i++) {
        pthread_barrier_wait(&both);
        make(i);
    }
    pthread_join(other, NULL);
    CHECK(shared.used + shared.gone == FOUND);

    CHECK(pthread_create(&other, NULL, take_over, NULL) == 0);
    for (round = 0; round < ROUNDS; round++) {
        for (i = 0; i < AT_ONCE; i++) {
            shared.conns[i] = make(round * AT_ONCE + i);
        }
        pthread_barrier_wait(&both);
        give_up();
        pthread_barrier_wait(&both);
    }
    pthread_join(other, NULL);
    printf("%d used, %d gone\n", shared.used, shared.gone);
    CHECK(shared.gone > 0);
    pthread_barrier_destroy(&both);
    close(shared.fd);
    SSL_CTX_free(shared.ctx);
    return check_report("meetings");
}
