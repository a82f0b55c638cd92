/*
 * Callbacks that libssl calls in the middle of a call about an endpoint, or on the thread of a server, and that call back into
 * the library about the very same. argv[1]: the folder of certs/make-certs.sh.
 */
#include <semaphore.h>
#include <unistd.h>

#include "socket_client.h"

enum kind {
    INFO,
    MESSAGE,
    VERIFY,
    CLIENT_HELLO,
    SERVER_NAME,
    ALPN,
    CERTIFICATE,
    KEY_LOG,
    TICKET,
    NEW_SESSION,
    PSK_SERVER,
    PSK_CLIENT,
    FREED,
    KINDS
};

/* How often each was called, and where the side of an SSL hangs. */
static int called[KINDS];
static int side_index;

/* What each of them does: everything that is forbidden. */
static void call_back(const struct side *side, enum kind kind)
{
    /* While the endpoint is made, nobody knows it yet. */
    if (side == NULL || side->endpoint == NULL) {
        return;
    }
    called[kind]++;
    each_is_busy(side);
    CHECK(strstr(dv_last_error(), "in the middle of another call") != NULL);
    CHECK(dv_endpoint_deadline(side->endpoint) == UINT64_MAX);
    dv_endpoint_free(side->endpoint);
}

static void call_back_from(const SSL *ssl, enum kind kind)
{
    struct side *side = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    SSL_set_ex_data((SSL *)ssl, side_index, side);
    call_back(side, kind);
}

static void on_info(const SSL *ssl, int where, int value)
{
    (void)where, (void)value;
    call_back_from(ssl, INFO);
}

static void on_message(int out, int version, int type, const void *bytes, size_t len, SSL *ssl, void *user)
{
    (void)out, (void)version, (void)type, (void)bytes, (void)len, (void)user;
    call_back_from(ssl, MESSAGE);
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
    call_back_from(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()), VERIFY);
    return ok;
}

static int on_client_hello(SSL *ssl, int *alert, void *user)
{
    (void)alert, (void)user;
    call_back_from(ssl, CLIENT_HELLO);
    return SSL_CLIENT_HELLO_SUCCESS;
}

static int on_server_name(SSL *ssl, int *alert, void *user)
{
    (void)alert, (void)user;
    call_back_from(ssl, SERVER_NAME);
    return SSL_TLSEXT_ERR_OK;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in, unsigned int in_len,
                   void *user)
{
    (void)in_len, (void)user;
    call_back_from(ssl, ALPN);
    *out = in + 1;
    *len = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static int on_certificate(SSL *ssl, void *user)
{
    (void)user;
    call_back_from(ssl, CERTIFICATE);
    return 1;
}

static void on_key_log(const SSL *ssl, const char *line)
{
    (void)line;
    call_back_from(ssl, KEY_LOG);
}

static int on_ticket(SSL *ssl, void *user)
{
    (void)user;
    call_back_from(ssl, TICKET);
    return 1;
}

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    (void)session;
    call_back_from(ssl, NEW_SESSION);
    return 0;
}

static unsigned int on_psk_server(SSL *ssl, const char *identity, unsigned char *key, unsigned int most)
{
    (void)identity, (void)most;
    call_back_from(ssl, PSK_SERVER);
    memset(key, 7, 16);
    return 16;
}

static unsigned int on_psk_client(SSL *ssl, const char *hint, char *identity, unsigned int longest, unsigned char *key,
                                  unsigned int most)
{
    (void)hint, (void)longest, (void)most;
    call_back_from(ssl, PSK_CLIENT);
    strcpy(identity, "client");
    memset(key, 7, 16);
    return 16;
}

static void on_freed(void *ssl, void *side, CRYPTO_EX_DATA *all, int index, long number, void *user)
{
    (void)ssl, (void)all, (void)index, (void)number, (void)user;
    call_back(side, FREED);
}

static SSL_CTX *with_callbacks(SSL_CTX *ctx, struct side *side, int psk)
{
    char psk_ciphers[] = "PSK-AES128-GCM-SHA256";

    SSL_CTX_set_app_data(ctx, side);
    SSL_CTX_set_info_callback(ctx, on_info);
    SSL_CTX_set_msg_callback(ctx, on_message);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
    SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\4test", 5);
    SSL_CTX_set_cert_cb(ctx, on_certificate, NULL);
    SSL_CTX_set_keylog_callback(ctx, on_key_log);
    SSL_CTX_set_session_ticket_cb(ctx, on_ticket, NULL, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_BOTH);
    SSL_CTX_sess_set_new_cb(ctx, on_new_session);
    if (psk) {
        CHECK(dv_openssl_ctx_set_ciphers(ctx, psk_ciphers) == DV_OK);
        SSL_CTX_set_psk_server_callback(ctx, on_psk_server);
        SSL_CTX_set_psk_client_callback(ctx, on_psk_client);
    }
    return ctx;
}

/* Of one kind more than before. */
static int more(enum kind kind)
{
    static int before[KINDS];
    int is_more = called[kind] > before[kind];

    before[kind] = called[kind];
    return is_more;
}

/* In each call that libssl can be called from; the sessions notice nothing. */
static void endpoints(const char *certs, int native, int psk)
{
    struct side client, server;
    SSL_CTX *client_ctx = with_callbacks(context(certs, "client"), &client, psk);
    SSL_CTX *server_ctx = with_callbacks(context(certs, "server-ecdsa"), &server, psk);
    dv_config config;
    int kind;

    memset(&client, 0, sizeof(client));
    memset(&server, 0, sizeof(server));
    memset(called, 0, sizeof(called));
    client.address = address("192.0.2.1", 1111);
    server.address = address("192.0.2.2", 5684);
    CHECK(dv_config_init(&config, sizeof(config)) == 0);
    config.native_records = native;
    config.idle_timeout_ms = 60000;
    config.verify_server = 0;
    CHECK(dv_endpoint_new(server_ctx, &config, &server.endpoint) == 0);
    CHECK(dv_endpoint_new(client_ctx, &config, &client.endpoint) == 0);

    client.session = connect_to(&client, &server, "localhost", NULL);
    CHECK(called[INFO] > 0 && called[MESSAGE] > 0);
    settle(&client, &server);
    CHECK(client.opened == 1 && server.opened == 1);
    for (kind = 0; kind < KINDS; kind++) {
        if (kind != FREED && (kind != PSK_SERVER && kind != PSK_CLIENT) == !psk) {
            CHECK(called[kind] > 0);
        }
    }
    CHECK(native == (called[FREED] > 0));

    more(MESSAGE);
    CHECK(dv_endpoint_send(client.endpoint, client.session, "hello", 5) == 0);
    CHECK(more(MESSAGE) == !native);
    settle(&client, &server);
    CHECK(server.messages == 1 && server.last_len == 5 && memcmp(server.last, "hello", 5) == 0);
    CHECK(more(MESSAGE) == !native);

    /* At a deadline, and when the event behind the last one is taken. */
    more(FREED);
    now_us += 61000000;
    CHECK(dv_endpoint_advance(server.endpoint, now_us) == 0);
    CHECK(more(MESSAGE) == !native);
    settle(&client, &server);
    CHECK(server.closed == 1 && server.reason == DV_CLOSED_IDLE_TIMEOUT);
    CHECK(client.closed == 1 && client.reason == DV_CLOSED_BY_PEER);
    CHECK(more(FREED) == !native);

    /* When the program closes a session, and when a session goes with its endpoint. */
    client.session = connect_to(&client, &server, "localhost", NULL);
    settle(&client, &server);
    CHECK(client.opened == 2 && server.opened == 2);
    more(MESSAGE);
    CHECK(dv_endpoint_close(client.endpoint, client.session) == 0);
    CHECK(more(MESSAGE) == !native);
    client.session = connect_to(&client, &server, "localhost", NULL);
    more(FREED);
    dv_endpoint_free(client.endpoint);
    CHECK(more(FREED));
    client.endpoint = NULL;
    dv_endpoint_free(server.endpoint);
    server.endpoint = NULL;
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(server_ctx);
}

/* What callbacks on the thread of a worker work with. */
static struct {
    dv_server *server;
    SSL_CTX *in_use, *next;
    dv_endpoint *kept;
    _Atomic dv_session session;
    _Atomic int calls, inside, opened, wants_message, wants_stop;
    int held;
    sem_t go_on;
} at;

static void call_server(int out, int version, int type, const void *bytes, size_t len, SSL *ssl, void *user)
{
    unsigned char key[DV_EXPORT_KEY_LEN] = "";
    struct side kept = { .endpoint = at.kept, .session = at.session };
    dv_stats stats;
    dv_server *server = at.server;

    (void)out, (void)version, (void)type, (void)bytes, (void)len, (void)ssl, (void)user;
    if (server == NULL) {
        return;
    }
    at.calls++;
    CHECK(dv_server_join(server) == DV_ERR_INVALID);
    CHECK(dv_server_run(server) == DV_ERR_INVALID);
    CHECK(dv_server_start(server) == DV_ERR_INVALID);
    CHECK(dv_server_bind(server, "127.0.0.1", "0") == DV_ERR_INVALID);
    CHECK(dv_server_export(server, 1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_server_export_commit(server) == DV_ERR_INVALID);
    CHECK(dv_server_export_cancel(server) == DV_ERR_INVALID);
    CHECK(dv_server_reload(server, at.in_use) == DV_ERR_INVALID);
    CHECK(dv_server_send(server, 0, "x", 1) == DV_ERR_STALE);
    CHECK(dv_server_close(server, 0) == DV_ERR_STALE);
    CHECK(dv_server_stats(server, &stats, sizeof(stats)) == 0);
    dv_server_free(server);
    if (kept.endpoint != NULL) {
        each_is_busy(&kept);
    }
    if (at.wants_message) {
        at.wants_message = 0;
        CHECK(dv_server_send(server, at.session, "from libssl's callback", 22) == 0);
    }
    if (at.wants_stop) {
        dv_server_stop(server);
    }
}

static void opened(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    unsigned char key[DV_EXPORT_KEY_LEN] = "";

    (void)user;
    /* For later, which is not allowed. */
    at.kept = endpoint;
    at.session = event->session;
    CHECK(dv_endpoint_export(endpoint, 1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    at.opened++;
}

static void echo(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    int before = at.calls;

    (void)user;
    if (event->len == 5 && memcmp(event->data, "quiet", 5) == 0) {
        return;
    }
    CHECK(dv_endpoint_send(endpoint, event->session, event->data, event->len) == 0);
    at.inside += at.calls - before;
}

static SSL_CTX *for_server(const char *certs)
{
    SSL_CTX *ctx = context(certs, "server-ecdsa");

    SSL_CTX_set_msg_callback(ctx, call_server);
    return ctx;
}

static dv_server *start(SSL_CTX *ctx, const dv_callbacks *callbacks, int *port)
{
    dv_server *server;
    dv_config config;

    CHECK(dv_config_init(&config, sizeof(config)) == 0);
    config.native_records = 0;
    CHECK(dv_server_new(ctx, &config, callbacks, NULL, &server) == 0);
    *port = dv_server_bind(server, "127.0.0.1", "0");
    at.server = server;
    at.in_use = ctx;
    CHECK(dv_server_start(server) == 0);
    return server;
}

static void on_a_worker(const char *certs)
{
    SSL_CTX *ctx = for_server(certs), *client_ctx = context(certs, "client");
    dv_callbacks callbacks = { .size = sizeof(callbacks), .open = opened, .message = echo };
    struct client client;
    dv_server *server;
    int port;

    memset(&at, 0, sizeof(at));
    server = start(ctx, &callbacks, &port);
    client_begin(&client, client_ctx, port);
    client_run(&client, &client.opened, NULL);
    client_echo(&client, "hello");
    CHECK(at.calls > 0 && at.inside > 0 && at.opened == 1);
    at.wants_message = 1;
    CHECK(dv_endpoint_send(client.endpoint, client.session, "quiet", 5) == 0);
    client_expect(&client, "from libssl's callback");
    at.wants_stop = 1;
    CHECK(dv_endpoint_send(client.endpoint, client.session, "stop", 4) == 0);
    client_run(&client, &client.closed, NULL);
    CHECK(dv_server_join(server) == 0);
    at.server = NULL;
    dv_server_free(server);
    client_end(&client);
    SSL_CTX_free(ctx);
    SSL_CTX_free(client_ctx);
}

/* A new context is tried before it is taken, and that calls what is set on it. */
static void reload_again(int out, int version, int type, const void *bytes, size_t len, SSL *ssl, void *user)
{
    SSL_CTX *next = at.next;

    (void)out, (void)version, (void)type, (void)bytes, (void)len, (void)ssl, (void)user;
    if (next != NULL) {
        at.next = NULL;
        at.calls++;
        CHECK(dv_server_reload(at.server, next) == 0);
    }
}

/* In the middle of a reload, and while the letters of a worker fall that has ended. */
static void context_freed(void *ctx, void *pointer, CRYPTO_EX_DATA *all, int index, long number, void *user)
{
    dv_stats stats;

    (void)ctx, (void)pointer, (void)all, (void)index, (void)number, (void)user;
    if (at.server != NULL) {
        at.calls++;
        CHECK(dv_server_stats(at.server, &stats, sizeof(stats)) == 0);
    }
}

static void hold(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    (void)user, (void)endpoint, (void)event;
    __atomic_store_n(&at.held, 1, __ATOMIC_RELEASE);
    sem_wait(&at.go_on);
}

static void around_reloads(const char *certs)
{
    SSL_CTX *ctx = context(certs, "server-ecdsa"), *other = context(certs, "server-rsa"), *client_ctx = context(certs, "client");
    SSL_CTX *next = context(certs, "server-rsa");
    dv_callbacks callbacks = { .size = sizeof(callbacks), .message = hold };
    struct client client;
    dv_server *server;
    int port, i;

    memset(&at, 0, sizeof(at));
    sem_init(&at.go_on, 0, 0);
    server = start(ctx, &callbacks, &port);
    SSL_CTX_set_msg_callback(other, reload_again);
    at.next = next;
    CHECK(dv_server_reload(server, other) == 0);
    CHECK(at.calls == 1);
    at.next = NULL;
    SSL_CTX_free(next);
    SSL_CTX_free(other);

    client_begin(&client, client_ctx, port);
    client_run(&client, &client.opened, NULL);
    client_run(&client, &at.held, "hold");
    for (i = 0; i < 3; i++) {
        next = context(certs, "server-rsa");
        CHECK(dv_server_reload(server, next) == 0);
        SSL_CTX_free(next);
    }
    at.calls = 0;
    dv_server_stop(server);
    sem_post(&at.go_on);
    CHECK(dv_server_join(server) == 0);
    CHECK(at.calls > 0);
    at.server = NULL;
    dv_server_free(server);
    client_end(&client);
    SSL_CTX_free(ctx);
    SSL_CTX_free(client_ctx);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return 2;
    }
    /* A deadlock is a failure. */
    alarm(100);
    side_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, on_freed);
    CHECK(SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, context_freed) > 0);
    endpoints(argv[1], 1, 0);
    endpoints(argv[1], 0, 0);
    endpoints(argv[1], 0, 1);
    on_a_worker(argv[1]);
    around_reloads(argv[1]);
    return check_report("door_callbacks");
}
