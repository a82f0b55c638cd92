/*
 * Ten thousand connections made, used and freed: the heap is afterwards what it was after the first hundred. Clients take
 * turns with session tickets and without, in full handshakes and in resumed ones. A method or a callback for each BIO leaks:
 * https://github.com/versatica/mediasoup/pull/1342, https://github.com/signalwire/freeswitch/pull/727
 */
#include "check.h"
#include "peer.h"

#define CONNECTIONS 10000
#define AT_ONCE 100

/* What OpenSSL keeps for one session of a client without tickets, generously. */
#define SESSION_SIZE 2048
/* The allocator's own: a block may have found another place. */
#define SLACK (64 * 1024)

/* The four kinds: even ones with tickets, odd ones without; each has a session to resume every other time. */
struct kind {
    SSL_CTX *ctx;
    SSL_SESSION *session;
    int resume, resumed;
};

static void batch(struct server *server, struct kind kinds[4])
{
    static struct client clients[AT_ONCE];
    int i = 0;

    for (i = 0; i < AT_ONCE; i++) {
        struct kind *kind = &kinds[i % 4];

        client_open(&clients[i], kind->ctx, server, kind->resume ? kind->session : NULL);
        CHECK(client_handshake(&clients[i], server));
        kind->resumed += SSL_session_reused(clients[i].ssl);
    }
    for (i = 0; i < AT_ONCE; i++) {
        CHECK(client_echo(&clients[i], server, "hello"));
    }
    for (i = 0; i < AT_ONCE; i++) {
        struct kind *kind = &kinds[i % 4];

        if (kind->resume) {
            SSL_SESSION_free(kind->session);
            kind->session = SSL_get1_session(clients[i].ssl);
        }
        client_close(&clients[i], server);
    }
}

int main(int argc, char **argv)
{
    struct server server;
    struct kind kinds[4];
    size_t before = 0, after = 0;
    long sessions = 0;
    int i = 0, made = 0, connections = CONNECTIONS;

    if (argc < 2) {
        return 2;
    }
    server_open(&server, argv[1]);
    for (i = 0; i < 4; i++) {
        kinds[i] = (struct kind){.ctx = client_context(argv[1]), .resume = i / 2};
        if (i % 2 == 1) {
            SSL_CTX_set_options(kinds[i].ctx, SSL_OP_NO_TICKET);
        }
    }

    /* Another allocator, such as valgrind's, tells nothing; its own check for leaks does not need that many. */
    if (heap_in_use() == 0) {
        connections /= 20;
    }
    for (made = 0; made < connections; made += AT_ONCE) {
        if (made == AT_ONCE) {
            before = heap_in_use();
            sessions = SSL_CTX_sess_number(server.ctx);
        }
        batch(&server, kinds);
    }
    after = heap_in_use();
    sessions = SSL_CTX_sess_number(server.ctx) - sessions;
    printf("resumed by ticket: %d, by session id: %d\n", kinds[2].resumed, kinds[3].resumed);
    printf("heap after %d: %zu bytes, after %d: %zu bytes, sessions kept since: %ld of at most %ld\n", AT_ONCE, before,
           connections, after, sessions, SSL_CTX_sess_get_cache_size(server.ctx));

    CHECK(server.messages == connections);
    CHECK(server.closed == connections);
    CHECK(kinds[0].resumed == 0 && kinds[1].resumed == 0);
    CHECK(kinds[2].resumed == connections / 4 - 1 - (AT_ONCE / 4 - 1));
    /* By session id, as long as the server's cache still has the session: others push it out from time to time. */
    CHECK(kinds[3].resumed > kinds[2].resumed / 2 && kinds[3].resumed <= kinds[2].resumed);
    /* OpenSSL's own default is 20480, and 0 means without end. */
    CHECK(SSL_CTX_sess_get_cache_size(server.ctx) > 0 && SSL_CTX_sess_get_cache_size(server.ctx) < 20480);
    CHECK(SSL_CTX_sess_number(server.ctx) <= SSL_CTX_sess_get_cache_size(server.ctx));
    CHECK(after <= before + (size_t)sessions * SESSION_SIZE + SLACK);

    for (i = 0; i < 4; i++) {
        SSL_SESSION_free(kinds[i].session);
        SSL_CTX_free(kinds[i].ctx);
    }
    server_close(&server);
    return check_report("many_connections");
}
