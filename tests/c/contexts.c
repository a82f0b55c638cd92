/*
 * Two sockets, each with a context and a certificate of its own, and one table behind both; a context may also be replaced
 * while connections made with it go on. Elsewhere all sockets have one certificate:
 * https://github.com/net-snmp/net-snmp/issues/53
 */
#include "check.h"
#include "peer.h"

static SSL_CTX *rsa_context(const char *certs)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());
    char cert[512], key[512];

    snprintf(cert, sizeof(cert), "%s/server-rsa.pem", certs);
    snprintf(key, sizeof(key), "%s/server-rsa.key", certs);
    if (ctx == NULL || dv_ssl_certificate(ctx, cert, key) != 0) {
        peer_die(cert);
    }
    SSL_CTX_set_options(ctx, SSL_OP_COOKIE_EXCHANGE);
    SSL_CTX_set_cookie_generate_cb(ctx, dv_dtls_generate_cookie_callback);
    SSL_CTX_set_cookie_verify_cb(ctx, dv_dtls_verify_cookie_callback);
    return ctx;
}

/* What kind of key the server's certificate has. */
static int key_type(const struct client *client)
{
    X509 *peer = SSL_get1_peer_certificate(client->ssl);
    int type = peer == NULL ? 0 : EVP_PKEY_get_base_id(X509_get0_pubkey(peer));

    X509_free(peer);
    return type;
}

static void connect_to(struct client *client, struct server *server, SSL_CTX *ctx, int type)
{
    client_open(client, ctx, server, NULL);
    CHECK(client_handshake(client, server));
    CHECK(key_type(client) == type);
    CHECK(client_echo(client, server, "a message"));
}

int main(int argc, char **argv)
{
    struct server ec, rsa;
    struct client clients[4];
    SSL_CTX *ctx = NULL, *replaced = NULL;
    int i = 0;

    if (argc < 2) {
        return 2;
    }
    ctx = client_context(argv[1]);
    server_open(&ec, argv[1]);
    server_open(&rsa, argv[1]);
    SSL_CTX_free(rsa.ctx);
    rsa.ctx = rsa_context(argv[1]);

    connect_to(&clients[0], &ec, ctx, EVP_PKEY_EC);
    connect_to(&clients[1], &rsa, ctx, EVP_PKEY_RSA);
    /* From here on the first socket has a new certificate. */
    replaced = ec.ctx;
    ec.ctx = rsa_context(argv[1]);
    SSL_CTX_free(replaced);
    connect_to(&clients[2], &ec, ctx, EVP_PKEY_RSA);
    connect_to(&clients[3], &rsa, ctx, EVP_PKEY_RSA);
    for (i = 0; i < 4; i++) {
        struct server *server = i % 2 == 0 ? &ec : &rsa;

        CHECK(client_echo(&clients[i], server, "another message"));
        client_close(&clients[i], server);
        CHECK(server->closed == i / 2 + 1);
    }

    SSL_CTX_free(ctx);
    server_close(&ec);
    server_close(&rsa);
    return check_report("contexts");
}
