/*
 * The server from C: an echo over a real socket, messages from another thread, a reload, an end that the client hears of; and
 * every function with NULL, in a wrong state and with a stale session. argv[1]: the folder of certs/make-certs.sh.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <unistd.h>

#include "child.h"
#include "socket_client.h"

/* What the callbacks saw. */
static struct {
    pthread_mutex_t lock;
    int opened, messages, closed, reason;
    dv_session session;
    dv_server *server;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int marker;

static dv_session session_seen(void)
{
    dv_session session;

    pthread_mutex_lock(&seen.lock);
    session = seen.session;
    pthread_mutex_unlock(&seen.lock);
    return session;
}

/* What only the server may do with its endpoint. */
static void drive(dv_endpoint *endpoint)
{
    dv_datagram datagram;
    dv_event event;
    dv_session session;
    const unsigned char key[DV_EXPORT_KEY_LEN] = { 0 };
    struct sockaddr_in to = { AF_INET, htons(9), { htonl(INADDR_LOOPBACK) }, { 0 } };

    CHECK(dv_endpoint_event(endpoint, &event) == DV_ERR_INVALID);
    CHECK(dv_endpoint_receive(endpoint, clock_us(), &datagram, 0) == DV_ERR_INVALID);
    CHECK(dv_endpoint_transmit(endpoint, &datagram, 1, 1) == DV_ERR_INVALID);
    CHECK(dv_endpoint_advance(endpoint, clock_us()) == DV_ERR_INVALID);
    CHECK(dv_endpoint_connect(endpoint, clock_us(), (struct sockaddr *)&to, sizeof(to), NULL, NULL, &session) == DV_ERR_INVALID);
    CHECK(dv_endpoint_export(endpoint, -1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(strstr(dv_last_error(), "server's") != NULL);
    CHECK(dv_endpoint_export_commit(endpoint) == DV_ERR_INVALID);
    CHECK(dv_endpoint_export_cancel(endpoint) == DV_ERR_INVALID);
    CHECK(dv_endpoint_import(endpoint, clock_us(), -1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(strstr(dv_last_error(), "server's") != NULL);
    dv_endpoint_free(endpoint);
}

static void open_cb(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    char text[64];

    pthread_mutex_lock(&seen.lock);
    CHECK(user == &marker);
    CHECK(event->kind == DV_EVENT_OPENED && event->data == NULL);
    CHECK(dv_session_cipher(endpoint, event->session, text, sizeof(text)) > 0);
    CHECK(dv_session_is_server(endpoint, event->session) == 1);
    CHECK(dv_session_set_user(endpoint, event->session, &seen) == 0);
    /* Sessions of other workers are none of this endpoint's. */
    CHECK(dv_endpoint_send(endpoint, event->session ^ 1 << 24, "no", 2) == DV_ERR_STALE);
    drive(endpoint);
    CHECK(dv_server_join(seen.server) == DV_ERR_INVALID);
    CHECK(dv_server_run(seen.server) == DV_ERR_INVALID);
    seen.opened++;
    seen.session = event->session;
    pthread_mutex_unlock(&seen.lock);
}

static void message_cb(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    pthread_mutex_lock(&seen.lock);
    CHECK(user == &marker && event->kind == DV_EVENT_MESSAGE && event->user == &seen);
    CHECK(dv_endpoint_send(endpoint, event->session, event->data, event->len) == 0);
    seen.messages++;
    pthread_mutex_unlock(&seen.lock);
}

static void close_cb(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    pthread_mutex_lock(&seen.lock);
    CHECK(user == &marker && event->kind == DV_EVENT_CLOSED && event->user == &seen);
    CHECK(dv_endpoint_send(endpoint, event->session, "no", 2) == DV_ERR_NOT_ESTABLISHED);
    seen.closed++;
    seen.reason = event->reason;
    pthread_mutex_unlock(&seen.lock);
}

static void echo(const char *certs, int workers)
{
    SSL_CTX *ctx = context(certs, "server-ecdsa"), *other = context(certs, "server-rsa");
    SSL_CTX *client_ctx = context(certs, "client");
    dv_callbacks callbacks = { .size = sizeof(callbacks), .open = open_cb, .message = message_cb, .close = close_cb };
    dv_stats stats;
    dv_config config;
    dv_server *server;
    struct client client;
    X509 *certificate = NULL;
    int port;

    memset(&seen.opened, 0, sizeof(seen) - offsetof(__typeof__(seen), opened));
    CHECK(dv_config_init(&config, sizeof(config)) == 0);
    config.workers = (uint32_t)workers;
    CHECK(dv_server_new(ctx, &config, &callbacks, &marker, &server) == 0);
    port = dv_server_bind(server, "127.0.0.1", "0");
    CHECK(port > 0);
    seen.server = server;
    CHECK(dv_server_start(server) == 0);
    CHECK(dv_server_start(server) == DV_ERR_INVALID);
    CHECK(dv_server_bind(server, "127.0.0.1", "0") == DV_ERR_INVALID);

    client_begin(&client, client_ctx, port);
    client_run(&client, &client.opened, NULL);
    CHECK(dv_endpoint_send(client.endpoint, client.session, "hello", 5) == 0);
    client_expect(&client, "hello");
    CHECK(dv_server_send(server, session_seen(), "from outside", 12) == 0);
    client_expect(&client, "from outside");
    CHECK(dv_server_send(server, session_seen(), NULL, 12) == DV_ERR_INVALID);
    CHECK(dv_server_send(server, session_seen(), "", 0) == DV_ERR_INVALID);
    CHECK(dv_server_stats(server, &stats, sizeof(stats)) == 0);
    CHECK(stats.sessions == 1 && stats.messages_in == 1 && stats.handshakes_finished == 1);

    CHECK(dv_server_reload(server, ctx) == DV_ERR_INVALID);
    CHECK(dv_server_reload(server, other) == 0);
    CHECK(dv_server_close(server, session_seen()) == 0);
    client_run(&client, &client.closed, NULL);
    CHECK(client.reason == DV_CLOSED_BY_PEER);
    CHECK(dv_server_send(server, session_seen(), "late", 4) == DV_ERR_STALE);
    CHECK(dv_server_close(server, session_seen()) == DV_ERR_STALE);
    CHECK(dv_server_send(server, 0, "none", 4) == DV_ERR_STALE);
    CHECK(dv_server_send(server, UINT64_MAX, "none", 4) == DV_ERR_STALE);
    pthread_mutex_lock(&seen.lock);
    CHECK(seen.opened == 1 && seen.messages == 1 && seen.closed == 1 && seen.reason == DV_CLOSED_LOCALLY);
    pthread_mutex_unlock(&seen.lock);
    client_end(&client);

    client_begin(&client, client_ctx, port);
    client_run(&client, &client.opened, NULL);
    CHECK(dv_session_peer_certificate(client.endpoint, client.session, &certificate) == 1);
    CHECK(EVP_PKEY_get_base_id(X509_get0_pubkey(certificate)) == EVP_PKEY_RSA);
    X509_free(certificate);
    CHECK(dv_server_shutdown(server, 10) == 0);
    CHECK(dv_server_join(server) == 0);
    client_run(&client, &client.closed, NULL);
    CHECK(client.reason == DV_CLOSED_BY_PEER);
    client_end(&client);

    CHECK(seen.closed == 2);
    CHECK(dv_server_start(server) == DV_ERR_INVALID);
    dv_server_stop(server);
    dv_server_free(server);
    SSL_CTX_free(ctx);
    SSL_CTX_free(other);
    SSL_CTX_free(client_ctx);
}

static void handed_in(const char *certs)
{
    SSL_CTX *ctx = context(certs, "server-ecdsa"), *client_ctx = context(certs, "client");
    dv_callbacks callbacks = { .size = sizeof(callbacks) };
    struct sockaddr_in address = { AF_INET, 0, { htonl(INADDR_LOOPBACK) }, { 0 } };
    socklen_t len = sizeof(address);
    dv_server *server;
    struct client client;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), stream = socket(AF_INET, SOCK_STREAM, 0), port;
    int raw = socket(AF_INET, SOCK_RAW, IPPROTO_UDP);    /* only root gets one */
    int connected = socket(AF_INET, SOCK_DGRAM, 0);

    CHECK(dv_server_new(ctx, NULL, &callbacks, NULL, &server) == 0);
    CHECK(dv_server_bind_fd(server, fd) == DV_ERR_IO);
    CHECK(raw < 0 || dv_server_bind_fd(server, raw) == DV_ERR_IO);
    close(raw);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    CHECK(connect(connected, (struct sockaddr *)&address, len) == 0);
    CHECK(dv_server_bind_fd(server, connected) == DV_ERR_IO && strstr(dv_last_error(), "connected") != NULL);
    CHECK(close(connected) == 0);
    CHECK(dv_server_bind_fd(server, stream) == DV_ERR_IO);
    CHECK(close(stream) == 0);
    CHECK(dv_server_bind_fd(server, stream) == DV_ERR_IO);
    CHECK(dv_server_bind_fd(server, -1) == DV_ERR_INVALID);
    port = dv_server_bind_fd(server, fd);
    CHECK(port == ntohs(address.sin_port));
    CHECK(dv_server_start(server) == 0);
    client_begin(&client, client_ctx, port);
    client_run(&client, &client.opened, NULL);
    client_end(&client);
    /* Without a stop: freeing does it. */
    dv_server_free(server);
    SSL_CTX_free(ctx);
    SSL_CTX_free(client_ctx);
}

/* The threads of a server are not in a child of the process: it can do nothing with it but free it. */
static void forked(const char *certs)
{
    SSL_CTX *ctx = context(certs, "server-ecdsa"), *other = context(certs, "server-rsa");
    SSL_CTX *client_ctx = context(certs, "client");
    dv_callbacks callbacks = { .size = sizeof(callbacks) };
    dv_server *runs, *idle;
    struct client client;
    dv_stats stats;
    int port;
    pid_t child;

    CHECK(dv_server_new(ctx, NULL, &callbacks, NULL, &runs) == 0);
    CHECK(dv_server_new(ctx, NULL, &callbacks, NULL, &idle) == 0);
    port = dv_server_bind(runs, "127.0.0.1", "0");
    CHECK(port > 0);
    CHECK(dv_server_bind(idle, "127.0.0.1", "0") > 0);
    CHECK(dv_server_start(runs) == 0);
    child = fork();
    if (child == 0) {
        alarm(PATIENCE_MS / 1000);
        CHECK(dv_server_bind(idle, "127.0.0.2", "0") == DV_ERR_FORKED);
        CHECK(dv_server_start(idle) == DV_ERR_FORKED);
        CHECK(dv_server_run(idle) == DV_ERR_FORKED);
        CHECK(dv_server_send(runs, 1, "a", 1) == DV_ERR_FORKED);
        CHECK(dv_server_close(runs, 1) == DV_ERR_FORKED);
        CHECK(dv_server_reload(runs, other) == DV_ERR_FORKED);
        CHECK(dv_server_shutdown(runs, 0) == DV_ERR_FORKED);
        CHECK(dv_server_join(runs) == DV_ERR_FORKED);
        CHECK(dv_server_stats(runs, &stats, sizeof(stats)) == DV_ERR_FORKED);
        dv_server_free(idle);
        dv_server_free(runs);
        child_ends();
    }
    child_killed_itself(child);
    client_begin(&client, client_ctx, port);
    client_run(&client, &client.opened, NULL);
    client_end(&client);
    dv_server_free(runs);
    dv_server_free(idle);
    SSL_CTX_free(ctx);
    SSL_CTX_free(other);
    SSL_CTX_free(client_ctx);
}

static atomic_int asking;

static void *ask(void *server)
{
    dv_stats stats;

    while (atomic_load(&asking)) {
        dv_server_stats(server, &stats, sizeof(stats));
        dv_server_send(server, 1, "x", 1);
        dv_server_start(server);
    }
    return NULL;
}

/* What other threads had locked at the fork would stay locked in the child. */
static void forked_beside_threads(const char *certs)
{
    SSL_CTX *ctx = context(certs, "server-ecdsa");
    dv_callbacks callbacks = { .size = sizeof(callbacks) };
    dv_stats stats;
    dv_server *server;
    pthread_t threads[2];
    int i, held = 1;

    CHECK(dv_server_new(ctx, NULL, &callbacks, NULL, &server) == 0);
    CHECK(dv_server_bind(server, "127.0.0.1", "0") > 0);
    CHECK(dv_server_start(server) == 0);
    atomic_store(&asking, 1);
    for (i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, ask, server) == 0);
    }
    for (i = 0; i < 200 && held; i++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(PATIENCE_MS / 1000);
            dv_server_stats(server, &stats, sizeof(stats));
            dv_server_free(server);
            child_ends();
        }
        held = child_killed_itself(child);
    }
    atomic_store(&asking, 0);
    for (i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    dv_server_free(server);
    SSL_CTX_free(ctx);
}

static void bad_input(const char *certs)
{
    SSL_CTX *ctx = context(certs, "server-ecdsa");
    dv_callbacks callbacks = { .size = sizeof(callbacks) }, tiny = { .size = sizeof(void *) };
    struct {
        dv_callbacks known;
        void (*later)(void);
    } newer = { { .size = sizeof(newer) }, NULL };
    dv_stats stats;
    dv_config config;
    dv_server *server = (dv_server *)&marker;

    CHECK(dv_server_new(NULL, NULL, &callbacks, NULL, &server) == DV_ERR_INVALID);
    CHECK(server == NULL);
    CHECK(dv_server_new(ctx, NULL, NULL, NULL, &server) == DV_ERR_INVALID);
    CHECK(dv_server_new(ctx, NULL, &tiny, NULL, &server) == DV_ERR_INVALID);
    /* A callback that only a later library calls. */
    CHECK(dv_server_new(ctx, NULL, &newer.known, NULL, &server) == 0);
    dv_server_free(server);
    newer.later = abort;
    CHECK(dv_server_new(ctx, NULL, &newer.known, NULL, &server) == DV_ERR_INVALID);
    CHECK(dv_server_new(ctx, NULL, &callbacks, NULL, NULL) == DV_ERR_INVALID);
    dv_config_init(&config, sizeof(config));
    config.workers = 0;
    CHECK(dv_server_new(ctx, &config, &callbacks, NULL, &server) == DV_ERR_INVALID);
    config.workers = 257;
    CHECK(dv_server_new(ctx, &config, &callbacks, NULL, &server) == DV_ERR_INVALID);
    config.workers = 1;
    config.secret_file = "/nonexistent";
    CHECK(dv_server_new(ctx, &config, &callbacks, NULL, &server) == DV_ERR_INVALID);
    CHECK(strstr(dv_last_error(), "/nonexistent") != NULL);

    CHECK(dv_server_bind(NULL, NULL, "0") == DV_ERR_INVALID);
    CHECK(dv_server_bind_fd(NULL, 0) == DV_ERR_INVALID);
    CHECK(dv_server_start(NULL) == DV_ERR_INVALID);
    CHECK(dv_server_run(NULL) == DV_ERR_INVALID);
    CHECK(dv_server_join(NULL) == DV_ERR_INVALID);
    CHECK(dv_server_shutdown(NULL, 0) == DV_ERR_INVALID);
    CHECK(dv_server_reload(NULL, ctx) == DV_ERR_INVALID);
    CHECK(dv_server_send(NULL, 1, "a", 1) == DV_ERR_INVALID);
    CHECK(dv_server_close(NULL, 1) == DV_ERR_INVALID);
    CHECK(dv_server_stats(NULL, &stats, sizeof(stats)) == DV_ERR_INVALID);
    dv_server_stop(NULL);
    dv_server_free(NULL);

    CHECK(dv_server_new(ctx, NULL, &callbacks, NULL, &server) == 0);
    CHECK(dv_server_stats(server, NULL, sizeof(dv_stats)) == DV_ERR_INVALID);
    CHECK(dv_server_stats(server, &stats, 0) == DV_ERR_INVALID);
    CHECK(dv_server_reload(server, NULL) == DV_ERR_INVALID);
    CHECK(dv_server_bind(server, "127.0.0.1", NULL) == DV_ERR_INVALID);
    CHECK(dv_server_bind(server, "127.0.0.1", "dtls") == DV_ERR_INVALID);
    CHECK(dv_server_bind(server, "127.0.0.1", "65536") == DV_ERR_INVALID);
    CHECK(dv_server_bind(server, "\xff", "0") == DV_ERR_INVALID);
    CHECK(dv_server_bind(server, "192.0.2.1", "0") == DV_ERR_IO);
    CHECK(dv_server_bind(server, "no..name", "0") == DV_ERR_IO);
    CHECK(strstr(dv_last_error(), "no..name") != NULL);
    CHECK(dv_server_start(server) == DV_ERR_INVALID);
    CHECK(dv_server_run(server) == DV_ERR_INVALID);
    CHECK(dv_server_join(server) == 0);
    CHECK(dv_server_bind(server, NULL, "0") > 0);
    CHECK(dv_server_bind(server, "no such host", "0") == DV_ERR_IO);
    dv_server_stop(server);
    CHECK(dv_server_run(server) == 0);
    /* It is over, and remains so. */
    CHECK(dv_server_join(server) == 0);
    CHECK(dv_server_start(server) == DV_ERR_INVALID && dv_server_bind(server, NULL, "0") == DV_ERR_INVALID);
    CHECK(dv_server_close(server, 1) == DV_ERR_STALE && dv_server_send(server, 1, "a", 1) == DV_ERR_STALE);
    dv_server_free(server);
    SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return 2;
    }
    bad_input(argv[1]);
    echo(argv[1], 1);
    echo(argv[1], 2);
    handed_in(argv[1]);
    forked(argv[1]);
    forked_beside_threads(argv[1]);
    return check_report("server");
}
