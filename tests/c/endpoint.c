/*
 * The endpoint from C: two of them exchange datagrams in memory; every function with NULL, with a wrong state and with a
 * stale session. argv[1]: the folder of certs/make-certs.sh.
 */
#include "child.h"
#include "sides.h"

static void exchange(struct side *client, struct side *server)
{
    unsigned char key[2][32];
    char text[64], small[4];
    dv_address peer, local;
    X509 *certificate;
    long verified = -1;
    int i, max;

    CHECK(client->opened == 1 && server->opened == 1);
    CHECK(dv_endpoint_send(client->endpoint, client->session, "hello", 5) == 0);
    settle(client, server);
    CHECK(server->messages == 1 && server->last_len == 5 && memcmp(server->last, "hello", 5) == 0);

    /* Several datagrams joined into one, both ways through the API. */
    for (i = 0; i < 20; i++)
        CHECK(dv_endpoint_send(server->endpoint, server->session, "0123456789", 10) == 0);
    CHECK(carry(server, client, 1) == 1);
    settle(client, server);
    CHECK(client->messages == 20 && client->last_len == 10);

    max = dv_session_message_max(client->endpoint, client->session);
    CHECK(max > 1000 && max < 1252);
    CHECK(dv_endpoint_send(client->endpoint, client->session, client->last, (size_t)max + 1) == DV_ERR_TOO_LONG);
    CHECK(strstr(dv_last_error(), "datagram") != NULL);
    CHECK(dv_endpoint_send(client->endpoint, client->session, "", 0) == DV_ERR_INVALID);
    CHECK(dv_endpoint_send(client->endpoint, client->session, NULL, 3) == DV_ERR_INVALID);
    CHECK(dv_endpoint_send(client->endpoint, client->session, client->last, (size_t)-1) == DV_ERR_INVALID);

    CHECK(dv_session_state(server->endpoint, server->session) == DV_SESSION_ESTABLISHED);
    CHECK(dv_session_is_server(server->endpoint, server->session) == 1);
    CHECK(dv_session_is_server(client->endpoint, client->session) == 0);
    CHECK(dv_session_peer_certificate(client->endpoint, client->session, &certificate) == 1);
    X509_free(certificate);
    CHECK(dv_session_peer_certificate(server->endpoint, server->session, &certificate) == 0 && certificate == NULL);
    CHECK(dv_session_verify_result(client->endpoint, client->session, &verified) == 0 && verified == X509_V_OK);
    CHECK(dv_session_server_name(server->endpoint, server->session, text, sizeof(text)) == 9);
    CHECK(strcmp(text, "localhost") == 0);
    CHECK(dv_session_cipher(server->endpoint, server->session, small, sizeof(small)) > 20);
    CHECK(strlen(small) == 3);
    CHECK(dv_session_cipher(server->endpoint, server->session, NULL, 0) > 20);
    CHECK(dv_session_alpn(server->endpoint, server->session, text, sizeof(text)) == 0 && text[0] == 0);
    CHECK(dv_session_psk_identity(server->endpoint, server->session, text, sizeof(text)) == 0);
    CHECK(dv_session_srtp_profile(server->endpoint, server->session, text, sizeof(text)) == 0);
    CHECK(dv_session_failure(server->endpoint, server->session, text, sizeof(text)) == 0);
    CHECK(dv_session_export_keying_material(client->endpoint, client->session, "EXPORTER-t", "c", 1, key[0], sizeof(key[0])) == 0);
    CHECK(dv_session_export_keying_material(server->endpoint, server->session, "EXPORTER-t", "c", 1, key[1], sizeof(key[1])) == 0);
    CHECK(memcmp(key[0], key[1], sizeof(key[0])) == 0);
    key[1][0] = 'c';
    CHECK(dv_session_export_keying_material(server->endpoint, server->session, "EXPORTER-t", key[1], 1, key[1], sizeof(key[1])) == 0);
    CHECK(memcmp(key[0], key[1], sizeof(key[0])) == 0);
    CHECK(dv_session_addresses(server->endpoint, server->session, &peer, &local) == 0);
    CHECK(memcmp(&peer, &client->address, sizeof(peer)) == 0);
    CHECK(local.any.sa_family == server->address.any.sa_family);

    CHECK(dv_session_user(server->endpoint, server->session) == NULL);
    CHECK(dv_session_set_user(server->endpoint, server->session, server) == 0);
    CHECK(dv_session_user(server->endpoint, server->session) == server);
}

static void statistics(const struct side *server)
{
    dv_stats stats;
    struct {
        dv_stats stats;
        char more[16];
    } larger;
    dv_session sessions[4];

    memset(&stats, 0xff, sizeof(stats));
    CHECK(dv_endpoint_stats(server->endpoint, &stats, sizeof(stats)) == 0);
    CHECK(stats.sessions == 1 && stats.handshakes == 0);
    CHECK(stats.hellos_answered == 1 && stats.handshakes_finished == 1);
    CHECK(stats.messages_in == 1 && stats.messages_out == 20);
    /* A program with a newer header gets zeros behind what there is. */
    memset(&larger, 0xff, sizeof(larger));
    CHECK(dv_endpoint_stats(server->endpoint, &larger.stats, sizeof(larger)) == 0);
    CHECK(larger.stats.sessions == 1 && larger.more[0] == 0 && larger.more[15] == 0);
    stats.sessions = 7;
    CHECK(dv_endpoint_stats(server->endpoint, &stats, (size_t)0x55555555) == DV_ERR_INVALID && stats.sessions == 7);
    CHECK(dv_endpoint_stats(server->endpoint, &stats, 0) == DV_ERR_INVALID);
    CHECK(dv_endpoint_stats(server->endpoint, &stats, sizeof(&stats)) == DV_ERR_INVALID && stats.sessions == 7);
    CHECK(strstr(dv_last_error(), "dv_stats") != NULL);
    CHECK(dv_endpoint_stats(server->endpoint, NULL, sizeof(dv_stats)) == DV_ERR_INVALID);
    CHECK(dv_endpoint_stats(NULL, &stats, sizeof(stats)) == DV_ERR_INVALID);

    CHECK(dv_endpoint_sessions(server->endpoint, sessions, 4) == 1 && sessions[0] == server->session);
    CHECK(dv_endpoint_sessions(server->endpoint, NULL, 0) == 1);
    CHECK(dv_endpoint_sessions(server->endpoint, NULL, 1) == DV_ERR_INVALID);
    CHECK(dv_endpoint_sessions(NULL, sessions, 4) == DV_ERR_INVALID);
}

/* All that can be asked of a session, of one that does not exist. */
static void each_function_gives(dv_endpoint *e, dv_session s, int error)
{
    char text[8];
    unsigned char key[8];
    dv_address peer;
    X509 *certificate = (X509 *)text;
    dv_resumption *resumption = (dv_resumption *)text;
    long result;

    CHECK(dv_endpoint_send(e, s, "x", 1) == error);
    CHECK(dv_endpoint_close(e, s) == error);
    CHECK(dv_session_set_user(e, s, text) == error);
    CHECK(dv_session_user(e, s) == NULL);
    CHECK(dv_session_state(e, s) == error);
    CHECK(dv_session_is_server(e, s) == error);
    CHECK(dv_session_is_resumed(e, s) == error);
    CHECK(dv_session_message_max(e, s) == error);
    CHECK(dv_session_addresses(e, s, &peer, &peer) == error);
    CHECK(dv_session_addresses(e, s, NULL, NULL) == error);
    CHECK(dv_session_peer_certificate(e, s, &certificate) == error && certificate == NULL);
    CHECK(dv_session_verify_result(e, s, &result) == error);
    CHECK(dv_session_alpn(e, s, text, sizeof(text)) == error);
    CHECK(dv_session_server_name(e, s, text, sizeof(text)) == error);
    CHECK(dv_session_cipher(e, s, text, sizeof(text)) == error);
    CHECK(dv_session_psk_identity(e, s, text, sizeof(text)) == error);
    CHECK(dv_session_srtp_profile(e, s, text, sizeof(text)) == error);
    CHECK(dv_session_failure(e, s, text, sizeof(text)) == error);
    CHECK(dv_session_export_keying_material(e, s, "label", NULL, 0, key, sizeof(key)) == error);
    CHECK(dv_session_resumption(e, s, &resumption) == error && resumption == NULL);
}

static void null_where_something_is_needed(SSL_CTX *ctx, const struct side *server)
{
    dv_endpoint *e = server->endpoint;
    dv_session s = server->session;
    dv_datagram datagram;
    dv_event event;
    dv_session session;

    each_function_gives(NULL, s, DV_ERR_INVALID);
    CHECK(dv_endpoint_event(NULL, &event) == DV_ERR_INVALID);
    CHECK(dv_endpoint_event(e, NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_transmit(NULL, &datagram, 1, 1) == DV_ERR_INVALID);
    CHECK(dv_endpoint_transmit(e, NULL, 1, 1) == DV_ERR_INVALID);
    CHECK(dv_endpoint_transmit(e, &datagram, 1, 0) == DV_ERR_INVALID);
    CHECK(dv_endpoint_transmit(e, NULL, 0, 1) == 0);
    CHECK(dv_endpoint_deadline(NULL) == UINT64_MAX);
    CHECK(dv_endpoint_advance(NULL, 0) == DV_ERR_INVALID);
    CHECK(dv_endpoint_receive(NULL, 0, NULL, 0) == DV_ERR_INVALID);
    CHECK(dv_endpoint_receive(e, 0, NULL, 0) == 0);
    CHECK(dv_endpoint_receive(e, 0, NULL, 1) == DV_ERR_INVALID);
    memset(&datagram, 0, sizeof(datagram));
    datagram.data = "x";
    datagram.len = 1;
    CHECK(dv_endpoint_receive(e, 0, &datagram, 1) == DV_ERR_INVALID);
    datagram.peer = address("192.0.2.7", 7);
    CHECK(dv_endpoint_receive(e, 0, &datagram, 1) == 0);
    datagram.data = NULL;
    CHECK(dv_endpoint_receive(e, 0, &datagram, 1) == DV_ERR_INVALID);
    datagram.len = 0;
    CHECK(dv_endpoint_receive(e, 0, &datagram, 1) == 0);
    datagram.data = "the length is what recvfrom has returned";
    datagram.len = (size_t)-1;
    CHECK(dv_endpoint_receive(e, 0, &datagram, 1) == DV_ERR_INVALID);
    CHECK(dv_endpoint_receive(e, 0, &datagram, (size_t)-1) == DV_ERR_INVALID);
    datagram.len = 1;
    datagram.local.any.sa_family = AF_UNIX;
    CHECK(dv_endpoint_receive(e, 0, &datagram, 1) == DV_ERR_INVALID);
    CHECK(strstr(dv_last_error(), "local") != NULL);
    datagram.local.any.sa_family = AF_INET6;
    CHECK(dv_endpoint_receive(e, 0, &datagram, 1) == 0);

    CHECK(dv_endpoint_connect(NULL, 0, &server->address.any, sizeof(dv_address), NULL, NULL, &session) == DV_ERR_INVALID);
    CHECK(dv_endpoint_connect(e, 0, NULL, sizeof(dv_address), NULL, NULL, &session) == DV_ERR_INVALID && session == 0);
    CHECK(dv_endpoint_connect(e, 0, &server->address.any, 3, NULL, NULL, &session) == DV_ERR_INVALID);
    CHECK(dv_endpoint_connect(e, 0, &server->address.any, sizeof(dv_address), NULL, NULL, NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_connect(e, 0, &server->address.any, sizeof(dv_address), "no name", NULL, &session) == DV_ERR_INVALID);

    CHECK(dv_session_peer_certificate(e, s, NULL) == DV_ERR_INVALID);
    CHECK(dv_session_verify_result(e, s, NULL) == DV_ERR_INVALID);
    CHECK(dv_session_resumption(e, s, NULL) == DV_ERR_INVALID);
    CHECK(dv_session_export_keying_material(e, s, NULL, NULL, 0, &event, 1) == DV_ERR_INVALID);
    CHECK(dv_session_export_keying_material(e, s, "label", NULL, 0, NULL, 1) == DV_ERR_INVALID);
    CHECK(dv_session_export_keying_material(e, s, "label", NULL, 0, &event, (size_t)-1) == DV_ERR_INVALID);
    CHECK(dv_session_export_keying_material(e, s, "label", "context", (size_t)-1, &event, 1) == DV_ERR_INVALID);
    CHECK(dv_session_cipher(e, s, NULL, 1) == DV_ERR_INVALID);

    CHECK(dv_endpoint_new(NULL, NULL, &e) == DV_ERR_INVALID && e == NULL);
    CHECK(dv_endpoint_new(ctx, NULL, NULL) == DV_ERR_INVALID);
    dv_endpoint_free(NULL);
    dv_resumption_free(NULL);
    CHECK(strcmp(dv_strerror(DV_ERR_STALE), dv_strerror(DV_ERR_AGAIN)) != 0);
    CHECK(strlen(dv_strerror(-9999)) > 0 && strlen(dv_strerror(0)) > 0);
}

static void configurations(SSL_CTX *ctx)
{
    struct {
        dv_config config;
        char more[16];
    } newer;
    dv_config config;
    dv_endpoint *e;

    CHECK(dv_config_init(NULL, sizeof(config)) == DV_ERR_INVALID);
    CHECK(dv_config_init(&config, 1) == DV_ERR_INVALID);
    CHECK(dv_config_init(&config, sizeof(config)) == 0 && config.size == sizeof(config));
    CHECK(config.mtu == 1280 && config.accept == 1 && config.verify_server == 1 && config.cookie_secret == NULL);
    config.mtu = 100;
    CHECK(dv_endpoint_new(ctx, &config, &e) == DV_ERR_INVALID && e == NULL);
    CHECK(strstr(dv_last_error(), "mtu") != NULL);
    config.mtu = 70000;
    CHECK(dv_endpoint_new(ctx, &config, &e) == DV_ERR_INVALID);
    config.mtu = 1400;
    config.cookie_secret = "short";
    config.cookie_secret_len = 5;
    CHECK(dv_endpoint_new(ctx, &config, &e) == DV_ERR_INVALID);
    config.cookie_secret = "sixteen bytes at least";
    config.cookie_secret_len = 22;
    CHECK(dv_endpoint_new(ctx, &config, &e) == 0);
    dv_endpoint_free(e);

    /* The size of a pointer to it, one that ends within a word, and one that no header had. */
    CHECK(dv_config_init(&config, sizeof(&config)) == DV_ERR_INVALID && config.size == sizeof(config));
    config.size = sizeof(&config);
    CHECK(dv_endpoint_new(ctx, &config, &e) == DV_ERR_INVALID && strstr(dv_last_error(), "dv_config") != NULL);
    config.size = sizeof(config) + sizeof(uint32_t);
    CHECK(dv_endpoint_new(ctx, &config, &e) == DV_ERR_INVALID);
    config.size = sizeof(config) - sizeof(size_t);
    CHECK(dv_endpoint_new(ctx, &config, &e) == DV_ERR_INVALID);
    CHECK(dv_dtls_set_config(&config) == DV_ERR_INVALID);
    /* A newer header has more, which must be 0. */
    CHECK(dv_config_init(&newer.config, sizeof(newer)) == 0 && newer.config.size == sizeof(newer));
    CHECK(dv_endpoint_new(ctx, &newer.config, &e) == 0);
    dv_endpoint_free(e);
    newer.more[15] = 1;
    CHECK(dv_endpoint_new(ctx, &newer.config, &e) == DV_ERR_INVALID);
    config.size = 0;
    CHECK(dv_endpoint_new(ctx, &config, &e) == DV_ERR_INVALID);

    /* What stood there before, as nobody has set it. */
    config.size = (size_t)0x55555555;
    CHECK(dv_endpoint_new(ctx, &config, &e) == DV_ERR_INVALID);
    CHECK(dv_config_init(&config, (size_t)-1) == DV_ERR_INVALID);
    CHECK(dv_dtls_config(&config, 1 << 20) == DV_ERR_INVALID);
}

static void resumes(struct side *client, struct side *server)
{
    dv_resumption *resumption;

    CHECK(dv_session_resumption(client->endpoint, client->session, &resumption) == 1);
    CHECK(dv_endpoint_close(client->endpoint, client->session) == 0);
    CHECK(dv_endpoint_send(client->endpoint, client->session, "x", 1) == DV_ERR_NOT_ESTABLISHED);
    settle(client, server);
    CHECK(client->closed == 1 && client->reason == DV_CLOSED_LOCALLY);
    CHECK(server->closed == 1 && server->reason == DV_CLOSED_BY_PEER && server->user == server);
    each_function_gives(client->endpoint, client->session, DV_ERR_STALE);
    each_function_gives(client->endpoint, 0, DV_ERR_STALE);
    each_function_gives(client->endpoint, UINT64_MAX, DV_ERR_STALE);
    CHECK(dv_endpoint_deadline(server->endpoint) == UINT64_MAX);

    connect_to(client, server, "localhost", resumption);
    dv_resumption_free(resumption);
    settle(client, server);
    CHECK(client->opened == 2 && server->opened == 2);
    CHECK(dv_session_is_resumed(server->endpoint, server->session) == 1);
}

static void fails(struct side *client, struct side *server)
{
    dv_session session = connect_to(client, server, "other.test", NULL), again;
    char text[256];
    dv_event event;
    int i;

    CHECK(dv_endpoint_connect(client->endpoint, now_us, &server->address.any, sizeof(dv_address), NULL, NULL, &again) ==
          DV_ERR_EXISTS);
    CHECK(dv_endpoint_send(client->endpoint, session, "early", 5) == DV_ERR_NOT_ESTABLISHED);
    CHECK(dv_session_message_max(client->endpoint, session) == 0);
    CHECK(dv_session_export_keying_material(client->endpoint, session, "label", NULL, 0, text, 8) == DV_ERR_NOT_ESTABLISHED);
    for (i = 0; i < 10 && dv_session_state(client->endpoint, session) != DV_SESSION_CLOSED; i++) {
        dv_datagram out[BATCH];
        int n = dv_endpoint_transmit(client->endpoint, out, BATCH, 1);

        for (n--; n >= 0; n--) {
            out[n].peer = client->address;
            CHECK(dv_endpoint_receive(server->endpoint, now_us, &out[n], 1) == 0);
        }
        n = dv_endpoint_transmit(server->endpoint, out, BATCH, 1);
        for (n--; n >= 0; n--) {
            out[n].peer = server->address;
            CHECK(dv_endpoint_receive(client->endpoint, now_us, &out[n], 1) == 0);
        }
    }
    CHECK(dv_endpoint_event(client->endpoint, &event) == 1);
    CHECK(event.kind == DV_EVENT_CLOSED && event.session == session && event.reason == DV_CLOSED_FAILED);
    CHECK(dv_session_failure(client->endpoint, session, text, sizeof(text)) > 0);
    CHECK(strstr(text, "certificate verify failed") != NULL);
}

/* Nothing comes back: the deadline is there, and the first hello leaves again. */
static void time_passes(struct side *client, const struct side *server)
{
    dv_datagram out[BATCH];
    dv_event event;
    dv_session session = connect_to(client, server, NULL, NULL);
    int flights = 0, steps;

    for (steps = 0; steps < 100 && dv_session_state(client->endpoint, session) == DV_SESSION_HANDSHAKING; steps++) {
        flights += dv_endpoint_transmit(client->endpoint, out, BATCH, 1);
        CHECK(dv_endpoint_deadline(client->endpoint) > now_us);
        now_us = dv_endpoint_deadline(client->endpoint);
        CHECK(dv_endpoint_advance(client->endpoint, now_us) == 0);
    }
    CHECK(flights > 5);
    CHECK(dv_endpoint_event(client->endpoint, &event) == 1);
    CHECK(event.kind == DV_EVENT_CLOSED && event.reason == DV_CLOSED_HANDSHAKE_TIMEOUT);
}

static struct side *in_callback;
static int lines, busy;

static void on_log(int level, const char *line, void *user)
{
    dv_event event;

    (void)level;
    (void)line;
    (void)user;
    lines++;
    busy += dv_endpoint_event(in_callback->endpoint, &event) == DV_ERR_BUSY;
    busy += dv_endpoint_send(in_callback->endpoint, in_callback->session, "x", 1) == DV_ERR_BUSY;
}

static void log_callback_is_busy(struct side *server)
{
    in_callback = server;
    dv_set_log_callback(4, on_log, NULL);
    CHECK(dv_endpoint_close(server->endpoint, 0) == DV_ERR_STALE);
    dv_set_log_callback(0, NULL, NULL);
    CHECK(lines > 0 && busy == 2 * lines);
}

static void child_refuses(struct side *server)
{
    pid_t child = fork();

    if (child == 0) {
        dv_datagram out;
        int refused = dv_endpoint_send(server->endpoint, server->session, "x", 1) == DV_ERR_FORKED &&
                      dv_endpoint_transmit(server->endpoint, &out, 1, 1) == 0;

        _exit(refused ? 0 : 1);
    }
    child_succeeds(child);
}

/* A clock that comes to its end: with a session, and before a handshake. */
static void time_ends(struct side *client, struct side *server)
{
    uint64_t before = now_us;

    now_us = UINT64_MAX - 200000;
    CHECK(connect_to(client, server, "localhost", NULL) != 0);
    settle(client, server);
    CHECK(dv_endpoint_send(client->endpoint, client->session, "at the end", 10) == 0);
    settle(client, server);
    CHECK(server->last_len == 10 && memcmp(server->last, "at the end", 10) == 0);
    CHECK(dv_endpoint_deadline(server->endpoint) > now_us);
    CHECK(dv_endpoint_advance(server->endpoint, UINT64_MAX) == 0);
    CHECK(dv_endpoint_deadline(server->endpoint) == UINT64_MAX);
    CHECK(dv_endpoint_close(client->endpoint, client->session) == 0);
    CHECK(dv_endpoint_receive(server->endpoint, UINT64_MAX, NULL, 0) == 0);
    CHECK(connect_to(client, server, "localhost", NULL) != 0);
    now_us = before;
}

int main(int argc, char **argv)
{
    const char *certs = argc > 1 ? argv[1] : "certs/out";
    const char *ips[2][2] = {{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}};
    int i;

    for (i = 0; i < 2; i++) {
        SSL_CTX *server_ctx = context(certs, "server-ecdsa"), *client_ctx = context(certs, "client");
        struct side client, server;

        memset(&client, 0, sizeof(client));
        memset(&server, 0, sizeof(server));
        client.address = address(ips[i][0], 1111);
        server.address = address(ips[i][1], 5684);
        CHECK(dv_endpoint_new(server_ctx, NULL, &server.endpoint) == 0);
        CHECK(dv_endpoint_new(client_ctx, NULL, &client.endpoint) == 0);
        CHECK(connect_to(&client, &server, "localhost", NULL) != 0);
        settle(&client, &server);
        exchange(&client, &server);
        statistics(&server);
        null_where_something_is_needed(server_ctx, &server);
        configurations(server_ctx);
        resumes(&client, &server);
        log_callback_is_busy(&server);
        child_refuses(&server);
        CHECK(dv_endpoint_close(client.endpoint, client.session) == 0);
        settle(&client, &server);
        fails(&client, &server);
        time_passes(&client, &server);
        time_ends(&client, &server);
        dv_endpoint_free(client.endpoint);
        dv_endpoint_free(server.endpoint);
        SSL_CTX_free(client_ctx);
        SSL_CTX_free(server_ctx);
    }
    return check_report("endpoint");
}
