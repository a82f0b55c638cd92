/*
 * Connection IDs from C: a client whose address changes, in memory and with a server. argv[1]: the folder of
 * certs/make-certs.sh.
 */
#include <stdatomic.h>

#include "socket_client.h"

enum { ID_LEN = 9 };

static const char server_id[] = "srv";

/* A session whose client has moved. `checks`: it can show that it receives there. */
static void move(SSL_CTX *ctx, int checks)
{
    struct side client = {.address = address("192.0.2.1", 1000)}, server = {.address = address("192.0.2.1", 5684)};
    unsigned char id[ID_LEN] = {0}, small[4] = {0, 0, 0, 7}, long_message[600] = {1};
    dv_config config;
    dv_stats stats;
    dv_address peer;

    CHECK(dv_config_init(&config, sizeof(config)) == 0);
    CHECK(config.connection_ids == 0 && config.connection_id_len == 8 && config.routability_checks == 1);
    config.connection_ids = 1;
    config.connection_id_len = ID_LEN;
    config.connection_id_server_id_len = sizeof(server_id) - 1;
    memcpy(config.connection_id_server_id, server_id, sizeof(server_id) - 1);
    CHECK(dv_endpoint_new(ctx, &config, &server.endpoint) == 0);
    config.connection_id_len = 0;
    config.connection_id_server_id_len = 0;
    config.routability_checks = checks;
    CHECK(dv_endpoint_new(ctx, &config, &client.endpoint) == 0);
    client.session = connect_to(&client, &server, "localhost", NULL);
    settle(&client, &server);

    CHECK(dv_session_connection_id(server.endpoint, server.session, id, sizeof(id)) == ID_LEN);
    CHECK(memcmp(id, server_id, sizeof(server_id) - 1) == 0);
    CHECK(dv_session_connection_id(server.endpoint, server.session, small, 3) == ID_LEN);
    CHECK(memcmp(small, id, 3) == 0 && small[3] == 7);
    CHECK(dv_session_connection_id(server.endpoint, server.session, NULL, 0) == ID_LEN);
    CHECK(dv_session_connection_id(server.endpoint, server.session, NULL, 1) == DV_ERR_INVALID);
    CHECK(dv_session_peer_connection_id(server.endpoint, server.session, id, sizeof(id)) == 0);
    CHECK(dv_session_peer_connection_id(client.endpoint, client.session, id, sizeof(id)) == ID_LEN);
    CHECK(dv_session_is_peer_proven(server.endpoint, server.session) == 1);

    client.address = address("192.0.2.1", 2000);
    CHECK(dv_endpoint_send(client.endpoint, client.session, "hello", 5) == 0);
    settle(&client, &server);
    CHECK(server.messages == 1 && server.moved == 1 && client.moved == 0);
    CHECK(dv_session_addresses(server.endpoint, server.session, &peer, NULL) == 0);
    CHECK(memcmp(&peer, &client.address, sizeof(peer)) == 0);
    CHECK(dv_session_is_peer_proven(server.endpoint, server.session) == checks);
    if (!checks) {
        CHECK(dv_endpoint_send(server.endpoint, server.session, long_message, sizeof(long_message)) == DV_ERR_UNPROVEN);
        CHECK(strstr(dv_last_error(), "receives") != NULL);
        CHECK(dv_session_confirm_peer(server.endpoint, server.session) == 0);
    }
    CHECK(dv_endpoint_send(server.endpoint, server.session, long_message, sizeof(long_message)) == 0);
    settle(&server, &client);
    CHECK(client.messages == 1);
    CHECK(dv_endpoint_stats(server.endpoint, &stats, sizeof(stats)) == 0);
    CHECK(stats.connection_ids_used == 1 && stats.peers_moved == 1 && stats.addresses_proven == 1);

    CHECK(dv_session_confirm_peer(server.endpoint, 77) == DV_ERR_STALE);
    CHECK(dv_session_confirm_peer(NULL, server.session) == DV_ERR_INVALID);
    CHECK(dv_session_is_peer_proven(server.endpoint, 77) == DV_ERR_STALE);
    CHECK(dv_session_is_peer_proven(NULL, server.session) == DV_ERR_INVALID);
    CHECK(dv_session_connection_id(NULL, server.session, id, sizeof(id)) == DV_ERR_INVALID);
    CHECK(dv_session_peer_connection_id(NULL, server.session, id, sizeof(id)) == DV_ERR_INVALID);
    dv_endpoint_free(client.endpoint);
    dv_endpoint_free(server.endpoint);
}

static atomic_int told;

static void echo(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    CHECK(user == NULL && event->kind == DV_EVENT_MESSAGE);
    CHECK(dv_endpoint_send(endpoint, event->session, event->data, event->len) == 0);
}

static void has_moved(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    dv_address peer;

    CHECK(user == NULL && event->kind == DV_EVENT_MOVED && event->data == NULL && event->reason == 0);
    CHECK(dv_session_addresses(endpoint, event->session, &peer, NULL) == 0 && peer.v4.sin_port != 0);
    told++;
}

/* A server with two workers, whose callback is told. */
static void with_a_server(SSL_CTX *ctx)
{
    dv_callbacks callbacks = {.size = sizeof(callbacks), .message = echo, .moved = has_moved};
    struct client client;
    dv_config config;
    dv_server *server;
    int i, port;

    CHECK(dv_config_init(&config, sizeof(config)) == 0);
    config.connection_ids = 1;
    config.workers = 2;
    CHECK(dv_server_new(ctx, &config, &callbacks, NULL, &server) == 0);
    port = dv_server_bind(server, "127.0.0.1", "0");
    CHECK(port > 0 && dv_server_start(server) == 0);
    client_begin_as(&client, ctx, port, &config);
    client_run(&client, &client.opened, NULL);
    for (i = 0; i < 3; i++) {
        if (i > 0) {
            client_rebind(&client);
        }
        client_echo(&client, "hello");
        CHECK(told == i);
    }
    client_end(&client);
    dv_server_free(server);
}

/* Settings that make no sense. */
static void refused(SSL_CTX *ctx)
{
    dv_endpoint *endpoint;
    dv_config config;
    int i;

    for (i = 0; i < 5; i++) {
        CHECK(dv_config_init(&config, sizeof(config)) == 0);
        config.connection_ids = 1;
        switch (i) {
        case 0:
            config.connection_id_len = 33;
            break;
        case 1:
            config.connection_id_server_id_len = 8;
            break;
        case 2:
            config.connection_id_server_id_len = 21;
            break;
        case 3:
            config.connection_id_padding = 65;
            break;
        default:
            config.native_records = 0;
            break;
        }
        CHECK(dv_endpoint_new(ctx, &config, &endpoint) == DV_ERR_INVALID && endpoint == NULL);
    }
}

int main(int argc, char **argv)
{
    SSL_CTX *ctx;

    if (argc != 2) {
        return 2;
    }
    ctx = context(argv[1], "server-ecdsa");
    move(ctx, 1);
    move(ctx, 0);
    with_a_server(ctx);
    refused(ctx);
    SSL_CTX_free(ctx);
    return check_report("moving");
}
