/*
 * Each DV_ERR_* of the endpoint and the server where it is not a matter of arguments alone (endpoint.c and server.c have
 * those): inside the log callback, in the child of a fork, at limits, with an SSL_CTX that does not fit. argv[1]: the folder
 * of certs/make-certs.sh.
 */
#include <pthread.h>

#include "child.h"
#include "sides.h"

static void open_sides(struct side *client, struct side *server, const char *certs, const dv_config *config)
{
    SSL_CTX *server_ctx = context(certs, "server-ecdsa"), *client_ctx = context(certs, "client");

    memset(client, 0, sizeof(*client));
    memset(server, 0, sizeof(*server));
    client->address = address("192.0.2.1", 1111);
    server->address = address("192.0.2.2", 5684);
    CHECK(dv_endpoint_new(server_ctx, NULL, &server->endpoint) == 0);
    CHECK(dv_endpoint_new(client_ctx, config, &client->endpoint) == 0);
    client->session = connect_to(client, server, NULL, NULL);
    settle(client, server);
    CHECK(client->opened == 1 && server->opened == 1);
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
}

static void close_sides(struct side *client, struct side *server)
{
    dv_endpoint_free(client->endpoint);
    dv_endpoint_free(server->endpoint);
}

/* What the log callback works with. */
static struct {
    SSL_CTX *ctx;
    struct side *side;
    dv_server *server;
    int lines;
} inside;

static void call_each(int level, const char *line, void *user)
{
    static const dv_callbacks callbacks = { .size = sizeof(callbacks) };
    dv_endpoint *other = NULL;
    dv_session s = inside.side->session;
    dv_server *server = inside.server, *another = NULL;
    dv_stats stats;
    dv_config config;

    (void)level;
    (void)line;
    (void)user;
    inside.lines++;
    CHECK(dv_config_init(&config, sizeof(config)) == DV_ERR_BUSY);
    CHECK(dv_endpoint_new(inside.ctx, NULL, &other) == DV_ERR_BUSY);
    each_is_busy(inside.side);
    CHECK(dv_server_new(inside.ctx, NULL, &callbacks, NULL, &another) == DV_ERR_BUSY);
    CHECK(dv_server_bind(server, "127.0.0.1", "0") == DV_ERR_BUSY);
    CHECK(dv_server_bind_fd(server, 0) == DV_ERR_BUSY);
    CHECK(dv_server_start(server) == DV_ERR_BUSY);
    CHECK(dv_server_run(server) == DV_ERR_BUSY);
    CHECK(dv_server_join(server) == DV_ERR_BUSY);
    CHECK(dv_server_shutdown(server, 0) == DV_ERR_BUSY);
    CHECK(dv_server_reload(server, inside.ctx) == DV_ERR_BUSY);
    CHECK(dv_server_send(server, s, "x", 1) == DV_ERR_BUSY);
    CHECK(dv_server_close(server, s) == DV_ERR_BUSY);
    CHECK(dv_server_stats(server, &stats, sizeof(stats)) == DV_ERR_BUSY);
    CHECK(dv_dtls_config(&config, sizeof(config)) == DV_ERR_BUSY);
    CHECK(dv_dtls_stats(&stats, sizeof(stats)) == DV_ERR_BUSY);
    CHECK(dv_dtls_set_config(&config) == DV_ERR_BUSY);
    CHECK(strstr(dv_last_error(), "log callback") != NULL);
    CHECK(other == NULL && another == NULL);
}

static void in_the_log_callback(struct side *side, SSL_CTX *ctx)
{
    dv_callbacks callbacks = { .size = sizeof(callbacks) };

    inside.ctx = ctx;
    inside.side = side;
    CHECK(dv_server_new(ctx, NULL, &callbacks, NULL, &inside.server) == 0);
    dv_set_log_callback(DV_LOG_DEBUG, call_each, NULL);
    CHECK(dv_endpoint_close(side->endpoint, 0) == DV_ERR_STALE);
    dv_set_log_callback(0, NULL, NULL);
    CHECK(inside.lines > 0);
    dv_server_free(inside.server);
}

/* What is sent waits, and so does what is to be read: neither without end. */
static void limits(const char *certs)
{
    struct side client, server;
    dv_address third = address("192.0.2.3", 5684);
    dv_session session = 99;
    dv_config config;
    char message[500] = "";
    int sent = 0, result = 0;

    dv_config_init(&config, sizeof(config));
    config.max_sessions = 1;
    config.max_waiting_bytes = 4000;
    open_sides(&client, &server, certs, &config);
    CHECK(dv_endpoint_connect(client.endpoint, now_us, &third.any, sizeof(third), NULL, NULL, &session) == DV_ERR_LIMIT);
    CHECK(session == 0 && strlen(dv_last_error()) > 0);
    while ((result = dv_endpoint_send(client.endpoint, client.session, message, sizeof(message))) == 0 && sent < 100) {
        sent++;
    }
    CHECK(result == DV_ERR_AGAIN && sent >= 5 && sent <= 8);
    /* What is too long does not wait for room. */
    CHECK(dv_endpoint_send(client.endpoint, client.session, message, (size_t)-1 / 2) == DV_ERR_TOO_LONG);
    settle(&client, &server);
    CHECK(server.messages == sent);
    CHECK(dv_endpoint_send(client.endpoint, client.session, message, sizeof(message)) == 0);
    close_sides(&client, &server);
}

static void arguments(struct side *side)
{
    dv_endpoint *e = side->endpoint;
    dv_session s = side->session;
    dv_datagram in[2];
    dv_stats stats;
    uint64_t before;
    char out[8], *text;

    /* None of the datagrams is taken when one of them makes no sense. */
    CHECK(dv_endpoint_stats(e, &stats, sizeof(stats)) == 0);
    before = stats.datagrams_in;
    memset(in, 0, sizeof(in));
    in[0].data = in[1].data = "x";
    in[0].len = in[1].len = 1;
    in[0].peer = address("192.0.2.9", 9);
    in[1].peer.any.sa_family = AF_UNIX;
    CHECK(dv_endpoint_receive(e, now_us, in, 2) == DV_ERR_INVALID);
    CHECK(dv_endpoint_stats(e, &stats, sizeof(stats)) == 0 && stats.datagrams_in == before);
    CHECK(dv_endpoint_receive(e, now_us, in, 1) == 0);
    CHECK(dv_endpoint_stats(e, &stats, sizeof(stats)) == 0 && stats.datagrams_in == before + 1);

    CHECK(dv_session_alpn(e, s, NULL, 1) == DV_ERR_INVALID);
    CHECK(dv_session_server_name(e, s, NULL, 1) == DV_ERR_INVALID);
    CHECK(dv_session_psk_identity(e, s, NULL, 1) == DV_ERR_INVALID);
    CHECK(dv_session_srtp_profile(e, s, NULL, 1) == DV_ERR_INVALID);
    CHECK(dv_session_failure(e, s, NULL, 1) == DV_ERR_INVALID);
    /* The labels of TLS itself, and texts and contexts that RFC 5705 has no room for. */
    CHECK(dv_session_export_keying_material(e, s, "master secret", NULL, 0, out, sizeof(out)) == DV_ERR_INVALID);
    CHECK(dv_session_export_keying_material(e, s, "\xff", NULL, 0, out, sizeof(out)) == DV_ERR_INVALID);
    text = calloc(1, 70000);
    CHECK(dv_session_export_keying_material(e, s, "EXPORTER-t", text, 70000, out, sizeof(out)) == DV_ERR_INVALID);
    CHECK(dv_session_export_keying_material(e, s, "EXPORTER-t", NULL, 5, out, sizeof(out)) == DV_ERR_INVALID);
    CHECK(dv_session_export_keying_material(e, s, "EXPORTER-t", out, (size_t)-1, out, sizeof(out)) == DV_ERR_INVALID);
    CHECK(dv_endpoint_send(e, s, out, (size_t)-1) == DV_ERR_INVALID);
    free(text);

    CHECK(dv_dtls_config(NULL, sizeof(dv_config)) == DV_ERR_INVALID);
    CHECK(dv_dtls_set_config(NULL) == DV_ERR_INVALID);
    CHECK(dv_dtls_stats(NULL, sizeof(dv_stats)) == DV_ERR_INVALID);
}

static int own_cookie(SSL *ssl, unsigned char *cookie, unsigned int *len)
{
    (void)ssl;
    cookie[0] = 1;
    *len = 1;
    return 1;
}

static void contexts(const char *certs, struct side *side)
{
    static const dv_callbacks callbacks = { .size = sizeof(callbacks) };
    SSL_CTX *cookies = context(certs, "server-ecdsa"), *stream = SSL_CTX_new(TLS_method());
    SSL_CTX *only_server = SSL_CTX_new(DTLS_server_method()), *good = context(certs, "server-ecdsa");
    dv_endpoint *e = (dv_endpoint *)callbacks.size;
    dv_server *server = (dv_server *)callbacks.size;
    dv_session session = 99;

    SSL_CTX_set_cookie_generate_cb(cookies, own_cookie);
    CHECK(dv_endpoint_new(cookies, NULL, &e) == DV_ERR_INVALID && e == NULL);
    CHECK(strstr(dv_last_error(), "cookie") != NULL);
    CHECK(dv_server_new(cookies, NULL, &callbacks, NULL, &server) == DV_ERR_INVALID && server == NULL);
    CHECK(dv_endpoint_new(stream, NULL, &e) == DV_ERR_INVALID && e == NULL);
    CHECK(strstr(dv_last_error(), "DTLS") != NULL);
    CHECK(dv_server_new(stream, NULL, &callbacks, NULL, &server) == DV_ERR_INVALID && server == NULL);

    CHECK(dv_server_new(good, NULL, &callbacks, NULL, &server) == 0);
    CHECK(dv_server_reload(server, cookies) == DV_ERR_INVALID);
    CHECK(dv_server_reload(server, stream) == DV_ERR_INVALID);
    CHECK(dv_server_reload(server, good) == DV_ERR_INVALID);
    dv_server_free(server);

    CHECK(dv_endpoint_new(only_server, NULL, &e) == 0);
    CHECK(dv_endpoint_connect(e, now_us, &side->address.any, sizeof(dv_address), NULL, NULL, &session) == DV_ERR_TLS);
    CHECK(session == 0 && strstr(dv_last_error(), "SSL routines") != NULL);
    dv_endpoint_free(e);
    SSL_CTX_free(cookies);
    SSL_CTX_free(stream);
    SSL_CTX_free(only_server);
    SSL_CTX_free(good);
}

/* A worker that is held up in a callback, while others write to its sessions. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    dv_session session;
    int go_on;
} held_up = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void hold(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    (void)user;
    (void)endpoint;
    pthread_mutex_lock(&held_up.lock);
    held_up.session = event->session;
    pthread_cond_broadcast(&held_up.changed);
    while (!held_up.go_on) {
        pthread_cond_wait(&held_up.changed, &held_up.lock);
    }
    pthread_mutex_unlock(&held_up.lock);
}

static void each_is_refused(dv_server *server, struct side *side)
{
    dv_address third = address("192.0.2.3", 5684);
    dv_session session;
    dv_datagram out;

    CHECK(dv_endpoint_send(side->endpoint, side->session, "x", 1) == DV_ERR_FORKED);
    CHECK(dv_endpoint_connect(side->endpoint, now_us, &third.any, sizeof(third), NULL, NULL, &session) == DV_ERR_FORKED);
    CHECK(dv_endpoint_transmit(side->endpoint, &out, 1, 1) == 0);
    dv_endpoint_free(side->endpoint);
    CHECK(dv_server_start(server) == DV_ERR_FORKED);
    CHECK(dv_server_run(server) == DV_ERR_FORKED);
    CHECK(dv_server_join(server) == DV_ERR_FORKED);
    CHECK(dv_server_send(server, 1, "x", 1) == DV_ERR_FORKED);
    CHECK(dv_server_close(server, 1) == DV_ERR_FORKED);
    dv_server_stop(server);
    /* Whose threads are not here to be waited for. */
    dv_server_free(server);
}

static void in_a_child(dv_server *server, struct side *side)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        check_failures = 0;
        alarm(30);
        each_is_refused(server, side);
        child_ends();
    }
    child_killed_itself(child);
}

/* A client's loop, only as far as it opens a session whose callback holds the worker up. */
static void server_doors(const char *certs, struct side *side)
{
    SSL_CTX *ctx = context(certs, "server-ecdsa"), *client_ctx = context(certs, "client");
    dv_callbacks callbacks = { .size = sizeof(callbacks), .open = hold };
    dv_server *server;
    dv_endpoint *client;
    dv_config config;
    dv_address to = address("127.0.0.1", 0);
    dv_session session;
    char message[500] = "", bytes[2048];
    int fd = socket(AF_INET, SOCK_DGRAM, 0), port, sent = 0, result = 0, turns;
    struct timeval patience = { 0, 100000 };

    dv_config_init(&config, sizeof(config));
    config.max_waiting_bytes = 20000;
    CHECK(dv_server_new(ctx, &config, &callbacks, NULL, &server) == 0);
    in_a_child(server, side);
    port = dv_server_bind(server, "127.0.0.1", "0");
    CHECK(dv_server_start(server) == 0);
    in_a_child(server, side);

    to.v4.sin_port = htons((uint16_t)port);
    CHECK(connect(fd, &to.any, sizeof(to.v4)) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
    CHECK(dv_endpoint_new(client_ctx, NULL, &client) == 0);
    CHECK(dv_endpoint_connect(client, now_us, &to.any, sizeof(to), NULL, NULL, &session) == 0);
    for (turns = 0; turns < 300 && dv_session_state(client, session) == DV_SESSION_HANDSHAKING; turns++) {
        dv_datagram datagram;
        ssize_t got;

        while (dv_endpoint_transmit(client, &datagram, 1, 1) == 1) {
            CHECK(send(fd, datagram.data, datagram.len, 0) == (ssize_t)datagram.len);
        }
        got = recv(fd, bytes, sizeof(bytes), 0);
        memset(&datagram, 0, sizeof(datagram));
        datagram.data = bytes;
        datagram.len = got > 0 ? (size_t)got : 0;
        datagram.peer = to;
        CHECK(dv_endpoint_receive(client, now_us, &datagram, 1) == 0);
    }
    pthread_mutex_lock(&held_up.lock);
    while (held_up.session == 0) {
        pthread_cond_wait(&held_up.changed, &held_up.lock);
    }
    session = held_up.session;
    pthread_mutex_unlock(&held_up.lock);
    while ((result = dv_server_send(server, session, message, sizeof(message))) == 0 && sent < 100) {
        sent++;
    }
    CHECK(result == DV_ERR_AGAIN && sent > 10 && sent < 100);
    CHECK(dv_server_send(server, session, "", (1 << 14) + 1) == DV_ERR_TOO_LONG);
    pthread_mutex_lock(&held_up.lock);
    held_up.go_on = 1;
    pthread_cond_broadcast(&held_up.changed);
    pthread_mutex_unlock(&held_up.lock);

    dv_server_free(server);
    dv_endpoint_free(client);
    close(fd);
    SSL_CTX_free(ctx);
    SSL_CTX_free(client_ctx);
}

static void *nothing_has_failed_here(void *unused)
{
    (void)unused;
    CHECK(dv_last_error()[0] == '\0');
    return NULL;
}

int main(int argc, char **argv)
{
    const char *certs = argc > 1 ? argv[1] : "certs/out";
    int openssl;

    for (openssl = 0; openssl < 2; openssl++) {
        struct side client, server;
        SSL_CTX *ctx = context(certs, "client");
        dv_config config;
        pthread_t thread;

        dv_config_init(&config, sizeof(config));
        config.native_records = !openssl;
        open_sides(&client, &server, certs, &config);
        arguments(&client);
        CHECK(dv_last_error()[0] != '\0');
        CHECK(pthread_create(&thread, NULL, nothing_has_failed_here, NULL) == 0 && pthread_join(thread, NULL) == 0);
        in_the_log_callback(&client, ctx);
        contexts(certs, &server);
        server_doors(certs, &client);
        close_sides(&client, &server);
        SSL_CTX_free(ctx);
    }
    limits(certs);
    return check_report("door_errors");
}
