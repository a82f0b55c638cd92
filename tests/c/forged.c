/*
 * What somebody sends who knows both addresses and no key: records of every type and length in both epochs. They end no
 * connection, whatever its cipher suite: libssl itself gives up at some of them.
 */
#include <errno.h>

#include "check.h"
#include "peer.h"

static const char *const suites[] = {
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES128-CCM8",       "ECDHE-ECDSA-AES128-SHA256",     "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-AES128-SHA",        "ECDHE-ECDSA-NULL-SHA",
};

/* A record of an outsider: the header is his, the rest is noise. */
static void forge(struct client *client, int type, int epoch, int length)
{
    static unsigned char record[DTLS_RECORD_MAX_LEN];
    static unsigned int sequence = 0;
    int i = 0;

    sequence++;
    record[0] = (unsigned char)type;
    record[1] = 0xfe;
    record[2] = 0xfd;
    record[3] = (unsigned char)(epoch >> 8);
    record[4] = (unsigned char)epoch;
    /* Ahead of all that the peer has sent, so that it is no replay. */
    record[5] = 1;
    record[8] = (unsigned char)(sequence >> 16);
    record[9] = (unsigned char)(sequence >> 8);
    record[10] = (unsigned char)sequence;
    record[11] = (unsigned char)(length >> 8);
    record[12] = (unsigned char)length;
    for (i = 0; i < length; i++) {
        record[13 + i] = (unsigned char)(i * 7 + 1);
    }
    if (length == 2 && type == 21) {
        record[13] = 2;
        record[14] = 40;
    }
    CHECK(send(client->fd, record, (size_t)length + 13, 0) == length + 13);
}

/* A message in clear that the server has had already: only its record's number is new. */
static void forge_stale(struct client *client)
{
    unsigned char record[25] = {22, 0xfe, 0xfd, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 12, 16};

    CHECK(send(client->fd, record, sizeof(record), 0) == sizeof(record));
}

static void forge_all(struct client *client, struct server *server)
{
    static const int types[] = {20, 21, 22, 23, 24, 25, 0, 255};
    static const int long_ones[] = {1200, 16384, 16385, 16704, 16705, 17408, 17409, 17728, 17729, 18432, 18433, 40000};
    size_t type = 0, i = 0;
    int epoch = 0, length = 0;

    for (epoch = 0; epoch < 4; epoch++) {
        for (type = 0; type < sizeof(types) / sizeof(types[0]); type++) {
            for (length = 0; length < 100; length++) {
                forge(client, types[type], epoch == 3 ? 65535 : epoch, length);
                server_drain(server);
            }
            for (i = 0; i < sizeof(long_ones) / sizeof(long_ones[0]); i++) {
                forge(client, types[type], epoch, long_ones[i]);
                server_drain(server);
            }
        }
    }
}

static void with_suite(const char *suite, const char *certs)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = client_context(certs);
    char list[128];
    dv_udp_conn_key_t key;

    server_open(&server, certs);
    snprintf(list, sizeof(list), "%s:@SECLEVEL=0", suite);
    CHECK(SSL_CTX_set_cipher_list(server.ctx, list) == 1);
    CHECK(SSL_CTX_set_cipher_list(ctx, list) == 1);
    client_open(&client, ctx, &server, NULL);
    CHECK(client_handshake(&client, &server));
    CHECK(strcmp(SSL_get_cipher_name(client.ssl), suite) == 0);
    CHECK(client_echo(&client, &server, "before"));
    forge_all(&client, &server);
    CHECK(server.closed == 0);
    CHECK(ERR_peek_error() == 0);
    if (server.closed > 0) {
        fprintf(stderr, "%s: a forged record has ended the connection\n", suite);
    } else {
        CHECK(client_echo(&client, &server, "after"));
        key = client_key(&client);
        dv_dtls_conn_free(dv_dtls_conn_find(&key));
    }
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* Between the hello with the cookie and the client's last flight. */
static void during_handshake(const char *certs)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_key_t key;
    int i = 0;

    server_open(&server, certs);
    client_half_open(&client, ctx, &server);
    forge_stale(&client);
    for (i = 0; i < 100; i++) {
        /* A ChangeCipherSpec that is none, alerts in clear, and what could only be read after the handshake. */
        forge(&client, 20, 0, i);
        forge(&client, 21, 0, i);
        forge(&client, 23, 0, i);
        forge(&client, 23, 1, i);
        forge(&client, 21, 1, i);
        forge(&client, 22, 0, i);
        forge(&client, 22, 1, i);
        server_drain(&server);
    }
    CHECK(client_handshake(&client, &server));
    CHECK(client_echo(&client, &server, "after the handshake"));
    CHECK(server.closed == 0);
    key = client_key(&client);
    dv_dtls_conn_free(dv_dtls_conn_find(&key));
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* A client may ask for short records (RFC 6066 4): a longer message is refused like one that is too long for the MTU. */
static void short_records(const char *certs)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_key_t key;
    dv_udp_conn_t *conn = NULL;
    char in[513] = "", out[64];

    server_open(&server, certs);
    CHECK(SSL_CTX_set_tlsext_max_fragment_length(ctx, TLSEXT_max_fragment_length_512) == 1);
    client_open(&client, ctx, &server, NULL);
    CHECK(client_handshake(&client, &server));
    key = client_key(&client);
    conn = dv_dtls_conn_find(&key);
    CHECK(conn != NULL);
    CHECK(FAILS(dv_dtls_write(conn, in, 513, server.fd, out, sizeof(out), sizeof(key.addr4)) == -1, EMSGSIZE));
    CHECK(dv_dtls_write(conn, in, 512, server.fd, out, sizeof(out), sizeof(key.addr4)) == 512);
    CHECK(SSL_read(client.ssl, in, sizeof(in)) == 512);
    CHECK(client_echo(&client, &server, "still here"));
    dv_dtls_conn_free(conn);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

int main(int argc, char **argv)
{
    size_t i = 0;

    if (argc < 2) {
        return 2;
    }
    for (i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        with_suite(suites[i], argv[1]);
    }
    during_handshake(argv[1]);
    short_records(argv[1]);
    return check_report("forged");
}
