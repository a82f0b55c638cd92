/*
 * A program with cookie callbacks of its own: they are asked about each hello, on an SSL that is always the same one and
 * keeps nothing of anybody, for each of several contexts, by several threads, and they may call helpers. One of its own beside
 * one of the library's, and none at all.
 */
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "check.h"
#include "peer.h"

#define HELLOS 1000
#define THREADS 4
#define SSLS 64

/* What a callback has seen, of the context that its SSL had then. */
struct seen {
    dv_udp_conn_key_t peer;
    SSL *ssl[SSLS];
    int ssls, generated, verified;
    unsigned char cookie_len, says;
    int nests;
};

static int seen_index = -1, contexts_freed;
static atomic_uintptr_t in_use[SSLS];
static atomic_int used_twice;

static struct seen *seen_of(SSL *ssl)
{
    return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), seen_index);
}

static void context_freed(void *ctx, void *ptr, CRYPTO_EX_DATA *all, int index, long l, void *p)
{
    (void)ctx, (void)all, (void)index, (void)l, (void)p;
    contexts_freed += ptr != NULL;
}

/* A cookie is the port of the peer, over and over. */
static int make(SSL *ssl, unsigned char *cookie, int len)
{
    BIO_ADDR *addr = BIO_ADDR_new();
    int i = 0, found = BIO_dgram_get_peer(SSL_get_rbio(ssl), addr) > 0;
    unsigned short port = BIO_ADDR_rawport(addr);

    for (i = 0; i < len; i++) {
        cookie[i] = (unsigned char)(port >> i % 2 * 8);
    }
    BIO_ADDR_free(addr);
    return found;
}

static int generate(SSL *ssl, unsigned char *cookie, unsigned int *len)
{
    struct seen *seen = seen_of(ssl);
    int i = 0;

    seen->generated++;
    for (i = 0; i < seen->ssls && seen->ssl[i] != ssl; i++) {
    }
    if (i == seen->ssls && i < SSLS) {
        seen->ssl[seen->ssls++] = ssl;
    }
    if (seen->nests) {
        seen->nests = 0;
        CHECK(dv_dtls_conn_find(&seen->peer) == NULL);
        CHECK(dv_dtls_conn_new(SSL_get_SSL_CTX(ssl), "nothing", 7, -1, &seen->peer, sizeof(seen->peer.addr4)) == NULL);
    }
    *len = seen->cookie_len;
    /* Also where the library only tries out whose callbacks these are. */
    return CHECK(make(ssl, cookie, seen->cookie_len)) && seen->says;
}

static int verify(SSL *ssl, const unsigned char *cookie, unsigned int len)
{
    struct seen *seen = seen_of(ssl);
    unsigned char good[255];

    seen->verified++;
    return len == seen->cookie_len && make(ssl, good, (int)len) && memcmp(cookie, good, len) == 0;
}

static void own(SSL_CTX *ctx, struct seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    seen->cookie_len = 16;
    seen->says = 1;
    SSL_CTX_set_ex_data(ctx, seen_index, seen);
    SSL_CTX_set_cookie_generate_cb(ctx, generate);
    SSL_CTX_set_cookie_verify_cb(ctx, verify);
}

/* The first hello of a new client, from a socket that is nobody else's. */
static int hello(SSL_CTX *ctx, const struct server *server, char *out, int size)
{
    struct client client;
    int len = 0, pair = 0;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t at_len = sizeof(at);
    struct server sink = *server;

    pair = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(pair, (struct sockaddr *)&at, at_len) != 0 || getsockname(pair, (struct sockaddr *)&at, &at_len) != 0) {
        peer_die("sink");
    }
    sink.at = at;
    client_open(&client, ctx, &sink, NULL);
    SSL_do_handshake(client.ssl);
    len = (int)recv(pair, out, (size_t)size, 0);
    CHECK(len > 0);
    client_vanish(&client);
    close(pair);
    return len;
}

/* Bytes in use, or 0 where the allocator does not tell. */
static size_t heap(void)
{
    return mallinfo2().uordblks;
}

/* Gives `ctx` a hello from `port` of an address that nobody listens at. */
static dv_udp_conn_t *stranger(const struct server *server, SSL_CTX *ctx, const char *first, int len, int port)
{
    dv_udp_conn_key_t key;
    char datagram[2048];

    memset(&key, 0, sizeof(key));
    key.addr4.sin_family = AF_INET;
    key.addr4.sin_port = htons((unsigned short)port);
    key.addr4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(datagram, first, (size_t)len);
    return dv_dtls_conn_new(ctx, datagram, (size_t)len, server->fd, &key, sizeof(key.addr4));
}

#define FORGED "\5\5\5\5\5\5\5\5"

/* Adds to a length in two bytes, the second of which is there. */
static void grow(char *low, int by)
{
    int length = (unsigned char)low[-1] << 8 | (unsigned char)low[0];

    low[-1] = (char)((length + by) >> 8);
    low[0] = (char)(length + by);
}

/* The hello again, with a cookie of that length that nobody has made. It has grown by as much. */
static void forge(char *forged, const char *first, int len, char cookie_len)
{
    int at = 13 + 12 + 2 + 32;

    memcpy(forged, first, (size_t)len);
    at += 1 + (unsigned char)forged[at];
    CHECK(forged[at] == 0);
    memmove(forged + at + 1 + cookie_len, forged + at + 1, (size_t)(len - at - 1));
    forged[at] = cookie_len;
    memset(forged + at + 1, FORGED[0], (size_t)cookie_len);
    grow(forged + 12, cookie_len);
    grow(forged + 16, cookie_len);
    grow(forged + 24, cookie_len);
    forged[18] = 1;
}

static void one_client(struct server *server, SSL_CTX *ctx, struct seen *seen)
{
    struct client client;
    int verified = seen->verified;

    client_open(&client, ctx, server, NULL);
    CHECK(client_handshake(&client, server));
    CHECK(client_echo(&client, server, "a message"));
    CHECK(seen->verified > verified);
    client_close(&client, server);
}

static void strangers(const char *certs)
{
    struct server server;
    struct seen seen, other_seen, any_seen;
    SSL_CTX *clients = client_context(certs), *other = server_context(certs), *any = SSL_CTX_new(DTLS_method());
    char first[2048], forged[2048];
    int len = 0, i = 0;
    size_t before = 0;

    server_open(&server, certs);
    own(server.ctx, &seen);
    own(other, &other_seen);
    own(any, &any_seen);
    SSL_CTX_set_options(any, SSL_OP_COOKIE_EXCHANGE);
    len = hello(clients, &server, first, sizeof(first));
    /* They are the program's also where they fail at the first hello that the context ever sees. */
    seen.says = 0;
    CHECK(stranger(&server, server.ctx, first, len, 1023) == NULL);
    seen.says = 1;
    one_client(&server, clients, &seen);

    /* One SSL, whoever says hello, and whichever context he says it to; nothing is kept of any. */
    for (i = 0; i < HELLOS; i++) {
        if (i == HELLOS / 10) {
            before = heap();
            seen.ssls = other_seen.ssls = seen.generated = other_seen.generated = 0;
        }
        CHECK(stranger(&server, i % 2 ? server.ctx : other, first, len, 1024 + i) == NULL);
    }
    CHECK(heap() <= before);
    CHECK(seen.generated == HELLOS * 9 / 20 && other_seen.generated == HELLOS * 9 / 20);
    CHECK(seen.ssls == 1 && other_seen.ssls == 1 && seen.ssl[0] == other_seen.ssl[0]);

    /* A cookie that is not the peer's, where a good one would be. */
    forge(forged, first, len, 16);
    i = seen.verified;
    CHECK(stranger(&server, server.ctx, forged, len + 16, 4000) == NULL);
    CHECK(seen.verified == i + 1);

    /* A callback that calls helpers, one that says no, and one whose cookie is longer than the hello. */
    seen.peer.addr4 = server.at;
    seen.nests = 1;
    CHECK(stranger(&server, server.ctx, first, len, 4001) == NULL);
    CHECK(seen.nests == 0);
    seen.says = 0;
    CHECK(stranger(&server, server.ctx, first, len, 4002) == NULL);
    seen.says = 1;
    one_client(&server, clients, &seen);

    /* A context with another method. */
    for (i = 0; i < 4; i++) {
        CHECK(stranger(&server, i % 2 ? server.ctx : any, first, len, 4003 + i) == NULL);
        CHECK(i % 2 || any_seen.generated > i / 2);
    }

    /* Nothing of ours keeps a context alive. */
    SSL_CTX_free(clients);
    i = contexts_freed;
    SSL_CTX_free(other);
    SSL_CTX_free(any);
    CHECK(contexts_freed == i + 2);
    server_close(&server);
    CHECK(contexts_freed == i + 3);
}

/* Takes the library's cookies, and no forged ones. */
static int verify_others(SSL *ssl, const unsigned char *cookie, unsigned int len)
{
    seen_of(ssl)->verified++;
    return len == 21 && memcmp(cookie, FORGED, sizeof(FORGED) - 1) != 0;
}

static int generate_around(SSL *ssl, unsigned char *cookie, unsigned int *len)
{
    seen_of(ssl)->generated++;
    return dv_dtls_generate_cookie_callback(ssl, cookie, len);
}

static int verify_around(SSL *ssl, const unsigned char *cookie, unsigned int len)
{
    seen_of(ssl)->verified++;
    return dv_dtls_verify_cookie_callback(ssl, cookie, len);
}

/*
 * Contexts of each kind behind one socket and one table. Where the program has set neither callback although it asks for
 * cookies, the library sets its own. One that is the program's is asked about each hello, whatever stands beside it; but those
 * that hand on to the library's cannot be told from them.
 */
static void of_each_kind(const char *certs)
{
    static const struct {
        int (*generate)(SSL *, unsigned char *, unsigned int *);
        int (*verify)(SSL *, const unsigned char *, unsigned int);
        /* How often the program's are asked about two hellos, the second with a forged cookie; how many are answered. */
        int generated, verified, answered;
        int served;
    } kinds[] = {
        {NULL, NULL, 0, 0, 2, 1},
        {dv_dtls_generate_cookie_callback, dv_dtls_verify_cookie_callback, 0, 0, 2, 1},
        {generate, verify, 2, 1, 2, 1},
        {generate, dv_dtls_verify_cookie_callback, 2, 0, 2, 0},
        {dv_dtls_generate_cookie_callback, verify_others, 0, 1, 2, 1},
        {generate, NULL, 1, 0, 1, 0},
        {NULL, verify, 0, 1, 0, 0},
        {generate_around, verify_around, 0, 0, 2, 1},
    };
    enum { KINDS = sizeof(kinds) / sizeof(*kinds) };
    struct server server;
    struct client clients[KINDS];
    struct seen seen[KINDS];
    SSL_CTX *client_ctx = client_context(certs), *contexts[KINDS], *own_ctx;
    dv_stats before, after;
    char first[2048], forged[2048];
    int i = 0, len = 0;

    server_open(&server, certs);
    own_ctx = server.ctx;
    len = hello(client_ctx, &server, first, sizeof(first));
    forge(forged, first, len, 21);
    for (i = 0; i < KINDS; i++) {
        server.ctx = contexts[i] = server_context(certs);
        own(server.ctx, &seen[i]);
        SSL_CTX_set_cookie_generate_cb(server.ctx, kinds[i].generate);
        SSL_CTX_set_cookie_verify_cb(server.ctx, kinds[i].verify);
        /* With the first one it finds out whose they are. */
        CHECK(stranger(&server, server.ctx, first, len, 5000 + i) == NULL);
        seen[i].generated = seen[i].verified = 0;
        CHECK(dv_dtls_stats(&before, sizeof(before)) == 0);
        CHECK(stranger(&server, server.ctx, first, len, 5000 + i) == NULL);
        CHECK(stranger(&server, server.ctx, forged, len + 21, 5000 + i) == NULL);
        CHECK(dv_dtls_stats(&after, sizeof(after)) == 0);
        CHECK(seen[i].generated == kinds[i].generated && seen[i].verified == kinds[i].verified);
        CHECK((int)(after.hellos_answered - before.hellos_answered) == kinds[i].answered);
        CHECK(after.cookies_refused == before.cookies_refused + 1);
        if (kinds[i].served) {
            client_open(&clients[i], client_ctx, &server, NULL);
            CHECK(client_handshake(&clients[i], &server));
        }
    }
    for (i = 0; i < KINDS; i++) {
        CHECK(!kinds[i].served || client_echo(&clients[i], &server, "a message"));
    }
    for (i = 0; i < KINDS; i++) {
        if (kinds[i].served) {
            client_close(&clients[i], &server);
        }
        SSL_CTX_free(contexts[i]);
    }
    SSL_CTX_free(client_ctx);
    server.ctx = own_ctx;
    server_close(&server);
}

static char said[1024];
static int lines;

static void hear(int level, const char *line, void *user)
{
    (void)user;
    CHECK(level == DV_LOG_WARN);
    snprintf(said, sizeof(said), "%s", line);
    lines++;
}

/* A cookie whose answer would be longer than the hello is not sent, and the operator is told why, once a second. */
static void too_long(const char *certs)
{
    struct server server;
    struct seen seen;
    SSL_CTX *clients = client_context(certs);
    char first[2048] = "", sizes[64];
    dv_stats before, after;
    int len = 0, i = 0;

    server_open(&server, certs);
    own(server.ctx, &seen);
    seen.cookie_len = 255;
    len = hello(clients, &server, first, sizeof(first));
    CHECK(len < 28 + 255);
    dv_set_log_callback(DV_LOG_WARN, hear, NULL);
    CHECK(dv_dtls_stats(&before, sizeof(before)) == 0);
    for (i = 0; i < 3; i++) {
        CHECK(stranger(&server, server.ctx, first, len, 1024 + i) == NULL);
    }
    CHECK(dv_dtls_stats(&after, sizeof(after)) == 0 && after.datagrams_out == before.datagrams_out);
    CHECK(after.strangers_dropped == before.strangers_dropped + 3);
    snprintf(sizes, sizeof(sizes), "a hello of %d bytes", len);
    CHECK(lines == 1 && strstr(said, sizes) != NULL && strstr(said, "283") != NULL);
    /* One that is as long as that is answered. */
    CHECK(stranger(&server, server.ctx, first, 28 + 254, 1030) == NULL);
    CHECK(dv_dtls_stats(&after, sizeof(after)) == 0 && after.datagrams_out == before.datagrams_out);
    CHECK(stranger(&server, server.ctx, first, 28 + 255, 1030) == NULL);
    CHECK(dv_dtls_stats(&after, sizeof(after)) == 0 && after.datagrams_out == before.datagrams_out + 1);
    dv_set_log_callback(0, NULL, NULL);
    SSL_CTX_free(clients);
    server_close(&server);
}

/* Threads that share a context. Its callbacks keep nothing that they could disturb each other with. */
struct share {
    struct server *server;
    const char *first;
    int len, number;
};

static int generate_shared(SSL *ssl, unsigned char *cookie, unsigned int *len)
{
    uintptr_t none = 0;
    int place = 0;

    for (place = 0; place < SSLS; place++) {
        if (atomic_load(&in_use[place]) == (uintptr_t)ssl) {
            atomic_fetch_add(&used_twice, 1);
        }
    }
    for (place = 0; place < SSLS; place++, none = 0) {
        if (atomic_compare_exchange_strong(&in_use[place], &none, (uintptr_t)ssl)) {
            break;
        }
    }
    sched_yield();
    *len = 16;
    make(ssl, cookie, 16);
    if (place < SSLS) {
        atomic_store(&in_use[place], 0);
    }
    return 1;
}

static void *share(void *arg)
{
    const struct share *share = arg;
    int i = 0;

    for (i = 0; i < HELLOS; i++) {
        CHECK(stranger(share->server, share->server->ctx, share->first, share->len, 1024 + share->number * HELLOS + i) == NULL);
    }
    return NULL;
}

static void threads(const char *certs)
{
    struct server server;
    SSL_CTX *clients = client_context(certs);
    char first[2048];
    pthread_t thread[THREADS];
    struct share shares[THREADS];
    int i = 0, len = 0;

    server_open(&server, certs);
    SSL_CTX_set_cookie_generate_cb(server.ctx, generate_shared);
    len = hello(clients, &server, first, sizeof(first));
    for (i = 0; i < THREADS; i++) {
        shares[i] = (struct share){&server, first, len, i};
        CHECK(pthread_create(&thread[i], NULL, share, &shares[i]) == 0);
    }
    for (i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    CHECK(used_twice == 0);
    SSL_CTX_free(clients);
    server_close(&server);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return 2;
    }
    seen_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, context_freed);
    strangers(argv[1]);
    of_each_kind(argv[1]);
    too_long(argv[1]);
    threads(argv[1]);
    return check_report("own_cookies");
}
