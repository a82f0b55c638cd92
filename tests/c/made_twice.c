/*
 * Two threads may both find no connection with a peer and both make one. Each has its pointer, and both structs stay
 * readable until they are freed, whatever the library gives up.
 */
#include "check.h"
#include "peer.h"

int main(int argc, char **argv)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = NULL;
    dv_config config;
    dv_udp_conn_t *conns[2] = {NULL, NULL};
    dv_udp_conn_key_t key;
    char hello[2048];
    ssize_t len = 0;
    int i = 0;

    if (argc < 2) {
        return 2;
    }
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    client_open(&client, ctx, &server, NULL);
    SSL_do_handshake(client.ssl);
    CHECK(server_step(&server));
    SSL_do_handshake(client.ssl);
    /* The hello with the cookie. */
    key = client_key(&client);
    len = recv(server.fd, hello, sizeof(hello), 0);
    CHECK(len > 0);
    CHECK(dv_dtls_get_config(&config, sizeof(config)) == 0);
    for (i = 0; i < 2; i++) {
        /* The second one is given up while the first one stands before it. */
        config.handshake_timeout_ms = i == 0 ? 60000 : 10;
        CHECK(dv_dtls_configure(&config) == 0);
        conns[i] = dv_dtls_conn_new(server.ctx, hello, (size_t)len, server.fd, &key, sizeof(key.addr4));
        CHECK(conns[i] != NULL && conns[i]->ssl != NULL);
    }
    CHECK(conns[0] != conns[1]);
    usleep(20000);
    dv_dtls_handle_timeouts();
    CHECK(conns[0]->ssl != NULL && conns[1]->ssl == NULL);
    for (i = 0; i < 2; i++) {
        CHECK(conns[i]->list.next == NULL && memcmp(&conns[i]->key, &key, sizeof(key)) == 0);
        dv_dtls_conn_free(conns[i]);
    }

    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
    return check_report("made_twice");
}
