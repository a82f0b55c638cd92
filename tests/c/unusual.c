/*
 * What few programs do with the helpers, and any may: a connection that is used after it was taken out of the table, threads
 * that end before the handshakes that they began, or that are cancelled in the middle of a call, a signal in the middle of a
 * send, a log callback that changes errno, a connection that is freed by a callback in the middle of a call about it, one
 * buffer for what comes in and what is read, a verify callback that puts text of the peer's into OpenSSL's error queue, a
 * context that wants short records.
 */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "check.h"
#include "peer.h"

/* How many of the next sends a signal interrupts. */
static _Thread_local int interrupted;

/* In the place of the C library's, for the helpers too. */
ssize_t sendto(int fd, const void *bytes, size_t len, int flags, const struct sockaddr *to, socklen_t to_len)
{
    struct iovec all = {(void *)bytes, len};
    struct msghdr message = {(void *)to, to_len, &all, 1, NULL, 0, 0};

    if (interrupted > 0) {
        interrupted--;
        errno = EINTR;
        return -1;
    }
    return sendmsg(fd, &message, flags);
}

static dv_udp_conn_t *find(const struct client *client)
{
    dv_udp_conn_key_t key = client_key(client);

    return dv_dtls_conn_find(&key);
}

static dv_stats stats(void)
{
    dv_stats now;

    CHECK(dv_dtls_stats(&now, sizeof(now)) == 0);
    return now;
}

/* From the next connection on. */
static void end_handshakes_after(uint32_t ms)
{
    dv_config config;

    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    config.handshake_timeout_ms = ms;
    config.idle_timeout_ms = 3600000;
    CHECK(dv_dtls_set_config(&config) == 0);
}

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

/* Waits until no handshake is in progress; gives how many are after all. */
static uint64_t handshakes_left(void)
{
    int waited = 0;

    while (stats().handshakes > 0 && waited++ < 300) {
        int timeout = dv_dtls_next_timeout();

        sleep_ms(timeout < 0 || timeout > 100 ? 100 : timeout);
        dv_dtls_handle_timeouts();
    }
    return stats().handshakes;
}

static void change_errno(int level, const char *line, void *user)
{
    (void)level, (void)line;
    ++*(int *)user;
    errno = EBADF;
}

static void errno_behind_the_log(struct server *server, SSL_CTX *ctx)
{
    static char message[4000];
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    int lines = 0;

    dv_set_log_callback(DV_LOG_DEBUG, change_errno, &lines);
    CHECK(FAILS(dv_dtls_write(conn, message, sizeof(message), server->fd, NULL, 0, 16) == -1, EMSGSIZE));
    CHECK(FAILS(dv_dtls_conn_new(NULL, message, 1, server->fd, &conn->key, 16) == NULL, EINVAL));
    CHECK(lines == 2);
    dv_set_log_callback(0, NULL, NULL);
    dv_dtls_conn_free(conn);
    client_vanish(&client);
}

static unsigned int an_hour(SSL *ssl, unsigned int timer_us)
{
    (void)ssl, (void)timer_us;
    return 3600000000u;
}

/* Neither side repeats a flight, however busy the machine is: what is lost of the handshake is missing. */
static void interrupted_sends(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = NULL;
    dv_config config, patient;
    char in[64] = "message", out[64];

    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    patient = config;
    patient.first_timeout_ms = patient.longest_timeout_ms = 3600000;
    CHECK(dv_dtls_set_config(&patient) == 0);
    client_open(&client, ctx, server, NULL);
    DTLS_set_timer_cb(client.ssl, an_hour);
    interrupted = 3;
    CHECK(client_handshake(&client, server));
    CHECK(dv_dtls_set_config(&config) == 0);
    CHECK(interrupted == 0 && stats().flights_resent_on_timeout == 0 && stats().flights_resent_on_repeat == 0);
    conn = find(&client);
    interrupted = 2;
    CHECK(conn != NULL && dv_dtls_write(conn, in, sizeof(in), server->fd, out, sizeof(out), 16) == sizeof(in));
    CHECK(SSL_read(client.ssl, out, sizeof(out)) == sizeof(in));
    interrupted = 0;
    dv_dtls_conn_free(conn);
    client_vanish(&client);
}

/* A connection that is used though it is not in the table. Another one has its place there, and keeps its deadlines. */
static void used_after_it_was_taken_out(struct server *server, SSL_CTX *ctx)
{
    struct client first, second;
    dv_udp_conn_t *conn = established(&first, ctx, server);
    char in[64] = "message", out[64];

    dv_dtls_conn_del(conn);
    CHECK(find(&first) == NULL);
    end_handshakes_after(1000);
    client_half_open(&second, ctx, server);
    end_handshakes_after(120000);
    CHECK(dv_dtls_write(conn, in, sizeof(in), server->fd, out, sizeof(out), 16) == sizeof(in));
    CHECK(dv_dtls_read(conn, NULL, 0, server->fd, out, sizeof(out), 16) == 0);
    CHECK(handshakes_left() == 0);
    CHECK(SSL_read(first.ssl, out, sizeof(out)) == sizeof(in));
    dv_dtls_conn_add(conn);
    CHECK(find(&first) == conn && client_echo(&first, server, "in the table again"));
    dv_dtls_conn_free(conn);
    client_vanish(&first);
    client_vanish(&second);
}

static dv_udp_conn_t *to_free;
static int calls;

static void free_it(const SSL *ssl, int where, int value)
{
    (void)where, (void)value;
    if (to_free != NULL && ssl == to_free->ssl) {
        calls++;
        dv_dtls_conn_free(to_free);
    }
}

/* The call that runs needs it, so it stays; it can be freed when that has returned. */
static void freed_in_a_callback(struct server *server, SSL_CTX *ctx)
{
    struct client client;

    SSL_CTX_set_info_callback(server->ctx, free_it);
    client_half_open(&client, ctx, server);
    to_free = find(&client);
    CHECK(to_free != NULL && client_handshake(&client, server) && calls > 0);
    to_free = NULL;
    CHECK(find(&client) != NULL && client_echo(&client, server, "still here"));
    SSL_CTX_set_info_callback(server->ctx, NULL);
    dv_dtls_conn_free(find(&client));
    client_vanish(&client);
}

static int raise_error(int ok, X509_STORE_CTX *store)
{
    (void)ok, (void)store;
    calls++;
    ERR_raise_data(ERR_LIB_USER, 1, "J\xfcrgen");
    return 0;
}

/* The text is not UTF-8. The handshake fails, and with it nothing else. */
static void text_of_the_peer(struct server *server, const char *certs)
{
    char cert[512], key[512];
    SSL_CTX *ctx = client_context(certs);
    dv_stats before = stats();
    struct client client;

    snprintf(cert, sizeof(cert), "%s/client.pem", certs);
    snprintf(key, sizeof(key), "%s/client.key", certs);
    CHECK(dv_ssl_certificate(ctx, cert, key) == 0);
    SSL_CTX_set_verify(server->ctx, SSL_VERIFY_PEER, raise_error);
    calls = 0;
    client_open(&client, ctx, server, NULL);
    CHECK(!client_handshake(&client, server) && calls > 0);
    CHECK(server->closed == 1 && stats().handshakes_failed == before.handshakes_failed + 1);
    server->closed = 0;
    SSL_CTX_set_verify(server->ctx, SSL_VERIFY_NONE, NULL);
    client_vanish(&client);
    SSL_CTX_free(ctx);
}

/* The table knows a connection by its pointer; its SSL may not be made yet. */
static void without_an_ssl(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server), *own = malloc(sizeof(*own));

    memset(own, 0xa5, sizeof(*own));
    own->key = conn->key;
    own->key.addr4.sin_port = htons(9);
    dv_dtls_conn_add(own);
    CHECK(dv_dtls_conn_find(&own->key) == own);
    /* Another struct with the same SSL. */
    dv_dtls_conn_del(own);
    *own = *conn;
    dv_dtls_conn_del(conn);
    dv_dtls_conn_add(own);
    CHECK(dv_dtls_conn_find(&conn->key) == own);
    free(conn);
    CHECK(client_echo(&client, server, "to the other struct"));
    dv_dtls_conn_free(own);
    client_vanish(&client);
}

/* As one would have it for TLS. Here a message is a record, as long as the MTU lets it be. */
static void short_records(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = NULL;
    char in[1000] = "message", out[1200];

    SSL_CTX_set_max_send_fragment(server->ctx, 512);
    conn = established(&client, ctx, server);
    CHECK(dv_dtls_write(conn, in, sizeof(in), server->fd, out, sizeof(out), 16) == sizeof(in));
    CHECK(SSL_read(client.ssl, out, sizeof(out)) == sizeof(in));
    CHECK(client_echo(&client, server, "as before"));
    SSL_CTX_set_max_send_fragment(server->ctx, SSL3_RT_MAX_PLAIN_LENGTH);
    dv_dtls_conn_free(conn);
    client_vanish(&client);
}

static void one_buffer(struct server *server, SSL_CTX *ctx)
{
    struct client client;
    dv_udp_conn_t *conn = established(&client, ctx, server);
    static const char message[] = "a message that is longer than one block of the cipher";
    char buffer[2048];
    ssize_t len = 0;

    CHECK(conn != NULL && SSL_write(client.ssl, message, sizeof(message)) == sizeof(message));
    len = recv(server->fd, buffer, sizeof(buffer), 0);
    CHECK(dv_dtls_read(conn, buffer, (size_t)len, server->fd, buffer, sizeof(buffer), 16) == sizeof(message));
    CHECK(memcmp(buffer, message, sizeof(message)) == 0);
    CHECK(dv_dtls_write(conn, buffer, sizeof(message), server->fd, buffer, sizeof(buffer), 16) == sizeof(message));
    CHECK(SSL_read(client.ssl, buffer, sizeof(buffer)) == sizeof(message));
    dv_dtls_conn_free(conn);
    client_vanish(&client);
}

struct job {
    struct client client;
    struct server *server;
    SSL_CTX *ctx;
};

static void *begin(void *user)
{
    struct job *job = user;

    client_half_open(&job->client, job->ctx, job->server);
    return NULL;
}

/* A thread for each datagram: what its thread began is looked after by those that there are. */
static void thread_ends_first(struct server *server, SSL_CTX *ctx)
{
    struct job jobs[3];
    pthread_t thread;
    dv_stats before = stats();
    int i = 0;

    for (i = 0; i < 3; i++) {
        jobs[i] = (struct job){.server = server, .ctx = ctx};
        CHECK(pthread_create(&thread, NULL, begin, &jobs[i]) == 0 && pthread_join(thread, NULL) == 0);
        end_handshakes_after(1000);
    }
    end_handshakes_after(120000);
    /* One of them goes on with this thread. */
    CHECK(client_handshake(&jobs[0].client, server) && client_echo(&jobs[0].client, server, "from another thread"));
    CHECK(handshakes_left() == 0);
    CHECK(stats().handshakes_timed_out == before.handshakes_timed_out + 2);
    CHECK(client_echo(&jobs[0].client, server, "as before"));
    dv_dtls_conn_free(find(&jobs[0].client));
    for (i = 0; i < 3; i++) {
        client_vanish(&jobs[i].client);
    }
}

static void write_a_line(int level, const char *line, void *user)
{
    (void)level, (void)line, (void)user;
    /* It may be cancelled here, as in printf. */
    pthread_testcancel();
}

static void *write_for_ever(void *user)
{
    static char message[64], too_long[4000];
    struct job *job = user;

    for (;;) {
        dv_dtls_write(find(&job->client), message, sizeof(message), job->server->fd, NULL, 0, 16);
        dv_dtls_write(find(&job->client), too_long, sizeof(too_long), job->server->fd, NULL, 0, 16);
        pthread_testcancel();
    }
    return NULL;
}

/* It ends between two calls. */
static void cancelled(struct server *server, SSL_CTX *ctx)
{
    struct job job = {.server = server, .ctx = ctx};
    pthread_t thread;
    void *result = NULL;
    int i = 0;

    CHECK(established(&job.client, ctx, server) != NULL);
    dv_set_log_callback(DV_LOG_DEBUG, write_a_line, NULL);
    for (i = 0; i < 10; i++) {
        CHECK(pthread_create(&thread, NULL, write_for_ever, &job) == 0);
        sleep_ms(5);
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    dv_set_log_callback(0, NULL, NULL);
    dv_dtls_conn_free(find(&job.client));
    client_vanish(&job.client);
}

static const char *certs;

/* What opens files, looks up names and waits, while its thread is to end at the next point of cancellation. */
static void *set_up(void *user)
{
    const char *cert = user;
    char file[512], key[512];
    SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());
    dv_callbacks callbacks = {.size = sizeof(callbacks)};
    dv_server *server = NULL;
    dv_config config;

    snprintf(file, sizeof(file), "%s/%s.pem", certs, cert);
    snprintf(key, sizeof(key), "%s/%s.key", certs, cert);
    CHECK(pthread_cancel(pthread_self()) == 0);
    CHECK(dv_ssl_certificate(ctx, file, key) == 0);
    dv_openssl_set_verify(ctx, SSL_VERIFY_NONE, file);
    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    config.secret_file = key;
    CHECK(dv_dtls_set_config(&config) == 0);
    CHECK(dv_server_new(ctx, NULL, &callbacks, NULL, &server) == 0);
    CHECK(dv_server_bind(server, "localhost", "0") > 0 && dv_server_start(server) == 0);
    dv_server_stop(server);
    CHECK(dv_server_shutdown(server, 0) == 0 && dv_server_join(server) == 0);
    dv_server_free(server);
    SSL_CTX_free(ctx);
    pthread_testcancel();
    return NULL;
}

static void cancelled_before(void)
{
    pthread_t thread;
    void *result = NULL;

    CHECK(pthread_create(&thread, NULL, set_up, "server-ecdsa") == 0);
    CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
}

int main(int argc, char **argv)
{
    struct server server;
    SSL_CTX *ctx = NULL;

    if (argc < 2) {
        return 2;
    }
    certs = argv[1];
    end_handshakes_after(120000);
    ctx = client_context(argv[1]);
    server_open(&server, argv[1]);
    interrupted_sends(&server, ctx);
    errno_behind_the_log(&server, ctx);
    used_after_it_was_taken_out(&server, ctx);
    thread_ends_first(&server, ctx);
    cancelled(&server, ctx);
    cancelled_before();
    freed_in_a_callback(&server, ctx);
    without_an_ssl(&server, ctx);
    one_buffer(&server, ctx);
    short_records(&server, ctx);
    text_of_the_peer(&server, argv[1]);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("unusual");
}
