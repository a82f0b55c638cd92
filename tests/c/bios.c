/*
 * rbio and wbio of a connection, as a program sees them that reads and writes them itself; and the library's functions on
 * plain memory BIOs.
 */
#include "check.h"
#include "peer.h"

/* What DTLS 1.2 with AES-GCM adds to a message: record header, explicit nonce, tag. */
#define OVERHEAD (13 + 8 + 16)
#define IPV4_UDP_HEADERS 28
#define MTU 576

static const char *const messages[] = {"one", "number two", "three, the last of them"};

static int record_size(int i)
{
    return (int)strlen(messages[i]) + OVERHEAD;
}

static void write_three(dv_udp_conn_t *conn)
{
    int i = 0;

    for (i = 0; i < 3; i++) {
        CHECK(SSL_write(conn->ssl, messages[i], (int)strlen(messages[i])) > 0);
    }
    CHECK(BIO_pending((BIO *)conn->wbio) == record_size(0) + record_size(1) + record_size(2));
    CHECK(BIO_wpending((BIO *)conn->wbio) == 0);
}

/* Datagrams come out of wbio whole, as many as fit; only when the first does not fit is it cut. */
static void reading_wbio(dv_udp_conn_t *conn)
{
    unsigned char out[2048];

    write_three(conn);
    CHECK(BIO_read(conn->wbio, out, record_size(0) + record_size(1) + 1) == record_size(0) + record_size(1));
    CHECK(out[0] == 23 && out[record_size(0)] == 23);
    CHECK(BIO_read(conn->wbio, out, 5) == 5);
    CHECK(BIO_pending((BIO *)conn->wbio) == record_size(2) - 5);
    CHECK(BIO_read(conn->wbio, out + 5, sizeof(out) - 5) == record_size(2) - 5);
    CHECK(out[0] == 23 && (out[11] << 8 | out[12]) == record_size(2) - 13);
    CHECK(BIO_read(conn->wbio, out, sizeof(out)) == -1);
    CHECK(BIO_should_retry((BIO *)conn->wbio));

    write_three(conn);
    CHECK(BIO_reset((BIO *)conn->wbio) == 1);
    CHECK(BIO_pending((BIO *)conn->wbio) == 0);
    CHECK(BIO_read(conn->wbio, out, sizeof(out)) == -1);
}

/* What waits leaves datagram by datagram; then nothing waits. */
static void sending_wbio(dv_udp_conn_t *conn, struct client *client, struct server *server)
{
    char in[2048];
    int i = 0;

    write_three(conn);
    CHECK(dv_dtls_msg_send(conn->wbio, server->fd, &conn->key, sizeof(conn->key.addr4)) == 0);
    for (i = 0; i < 3; i++) {
        CHECK(recv(client->fd, in, sizeof(in), MSG_PEEK) == record_size(i));
        CHECK(SSL_read(client->ssl, in, sizeof(in)) == (int)strlen(messages[i]));
        CHECK(memcmp(in, messages[i], strlen(messages[i])) == 0);
    }
    CHECK(dv_dtls_msg_send(conn->wbio, server->fd, &conn->key, sizeof(conn->key.addr4)) == -1);
    CHECK(BIO_pending((BIO *)conn->wbio) == 0);
}

/* A program that writes and never sends is told when there is no room; the library's own functions make some. */
static void filling_wbio(dv_udp_conn_t *conn, struct client *client, struct server *server)
{
    char message[1000] = "", in[2048], out[64];
    int i = 0, turn = 0, written = 0, waited = 0, dropped = 0;

    for (turn = 0; turn < 2; turn++) {
        for (i = 0; i < 100000 && (written = SSL_write(conn->ssl, message, sizeof(message))) == sizeof(message); i++) {
        }
        CHECK(i >= 64 && BIO_pending((BIO *)conn->wbio) < 300 << 10);
        CHECK(written == -1 && SSL_get_error(conn->ssl, written) == SSL_ERROR_WANT_WRITE);
        if (turn == 0) {
            /* Two are gone that found no room, and nothing is amiss. */
            CHECK(SSL_write(conn->ssl, message, sizeof(message)) == -1);
            CHECK(dv_dtls_write(conn, message, 3, server->fd, out, sizeof(out), sizeof(conn->key.addr4)) == 3);
        } else {
            CHECK(dv_dtls_msg_send(conn->wbio, server->fd, &conn->key, sizeof(conn->key.addr4)) == 0);
        }
        CHECK(BIO_pending((BIO *)conn->wbio) == 0);
        for (dropped = i; SSL_read(client->ssl, in, sizeof(in)) > 0; dropped--) {
        }
        /* The kernel keeps what the socket has room for. */
        CHECK(dropped < i - 32);
    }
    CHECK(SSL_write(conn->ssl, messages[0], (int)strlen(messages[0])) > 0);
    CHECK(dv_dtls_msg_send(conn->wbio, server->fd, &conn->key, sizeof(conn->key.addr4)) == 0);
    while ((i = SSL_read(client->ssl, in, sizeof(in))) <= 0 && client_wait(client, server, i, &waited)) {
    }
    CHECK(i == (int)strlen(messages[0]) && memcmp(in, messages[0], strlen(messages[0])) == 0);
}

/* What the program puts into rbio comes to SSL_read datagram by datagram; how much of it waits has a bound. */
static void writing_rbio(dv_udp_conn_t *conn, struct client *client, struct server *server)
{
    char in[2048], out[2048];
    ssize_t len = 0;
    int i = 0, refused = 0;

    for (i = 0; i < 3; i++) {
        CHECK(SSL_write(client->ssl, messages[i], (int)strlen(messages[i])) > 0);
        len = recv(server->fd, in, sizeof(in), 0);
        CHECK(len == record_size(i));
        CHECK(BIO_write(conn->rbio, in, (int)len) == (int)len);
    }
    for (i = 0; i < 3; i++) {
        CHECK(SSL_read(conn->ssl, out, sizeof(out)) == (int)strlen(messages[i]));
        CHECK(memcmp(out, messages[i], strlen(messages[i])) == 0);
    }
    CHECK(SSL_read(conn->ssl, out, sizeof(out)) < 0);
    CHECK(SSL_get_error(conn->ssl, -1) == SSL_ERROR_WANT_READ);

    /* It is older than the datagram of a dv_dtls_read() that follows. */
    for (i = 0; i < 2; i++) {
        CHECK(SSL_write(client->ssl, messages[i], (int)strlen(messages[i])) > 0);
        len = recv(server->fd, in, sizeof(in), 0);
        if (i == 0) {
            CHECK(BIO_write(conn->rbio, in, (int)len) == (int)len);
        }
    }
    for (i = 0; i < 2; i++) {
        CHECK(dv_dtls_read(conn, i == 0 ? in : NULL, i == 0 ? (size_t)len : 0, server->fd, out, sizeof(out),
                           sizeof(conn->key.addr4)) == (int)strlen(messages[i]));
        CHECK(memcmp(out, messages[i], strlen(messages[i])) == 0);
    }

    memset(in, 0, sizeof(in));
    for (i = 0; i < 100000 && !refused; i++) {
        refused = BIO_write(conn->rbio, in, 1000) <= 0;
    }
    CHECK(refused && BIO_should_retry((BIO *)conn->rbio));
    CHECK(BIO_pending((BIO *)conn->rbio) > 0 && BIO_pending((BIO *)conn->rbio) % 1000 == 0);
    CHECK(BIO_reset((BIO *)conn->rbio) == 1);
    CHECK(BIO_pending((BIO *)conn->rbio) == 0);
}

/* A program may ask wbio for the MTU, and set it, as it does with a BIO over a socket. */
static void mtu_of(dv_udp_conn_t *conn)
{
    long mtu = BIO_ctrl(conn->wbio, BIO_CTRL_DGRAM_QUERY_MTU, 0, NULL);

    CHECK(mtu == MTU - IPV4_UDP_HEADERS);
    CHECK(BIO_ctrl(conn->wbio, BIO_CTRL_DGRAM_SET_MTU, 300, NULL) == 300);
    CHECK(BIO_ctrl(conn->wbio, BIO_CTRL_DGRAM_QUERY_MTU, 0, NULL) == 300);
    CHECK(BIO_ctrl(conn->wbio, BIO_CTRL_DGRAM_SET_MTU, mtu, NULL) == mtu);
    CHECK(BIO_ctrl(conn->rbio, BIO_CTRL_DGRAM_QUERY_MTU, 0, NULL) == 0);
}

/* Both know the peer, as a BIO over a socket does. */
static void peer_of(void *bio, const dv_udp_conn_key_t *key)
{
    BIO_ADDR *peer = BIO_ADDR_new();
    struct in_addr at;
    size_t len = sizeof(at);

    CHECK(BIO_dgram_get_peer((BIO *)bio, peer) > 0);
    CHECK(BIO_ADDR_family(peer) == AF_INET);
    CHECK(BIO_ADDR_rawport(peer) == key->addr4.sin_port);
    CHECK(BIO_ADDR_rawaddress(peer, &at, &len) == 1 && len == sizeof(at));
    CHECK(at.s_addr == key->addr4.sin_addr.s_addr);
    BIO_ADDR_free(peer);
}

/* What a record of `len` bytes looks like from outside. */
static int put_record(BIO *bio, int len)
{
    unsigned char record[2048] = {23, 0xfe, 0xfd};

    record[11] = (unsigned char)((len - 13) >> 8);
    record[12] = (unsigned char)(len - 13);
    return BIO_write(bio, record, len) == len;
}

/* A memory BIO has no datagrams: it is cut between records, into datagrams of at most the MTU. */
static void memory_bio(struct client *client, struct server *server)
{
    static const int records[] = {200, 200, 148, 100, 300, 500, 47};
    static const int datagrams[] = {548, 400, 547};
    BIO *bio = BIO_new(BIO_s_mem());
    dv_udp_conn_key_t key = client_key(client);
    char in[2048];
    int i = 0;

    for (i = 0; i < 7; i++) {
        CHECK(put_record(bio, records[i]));
    }
    CHECK(dv_dtls_msg_send(bio, server->fd, &key, sizeof(key.addr4)) == 0);
    for (i = 0; i < 3; i++) {
        CHECK(datagrams[i] <= MTU - IPV4_UDP_HEADERS);
        CHECK(recv(client->fd, in, sizeof(in), 0) == datagrams[i]);
    }
    CHECK(recv(client->fd, in, sizeof(in), 0) < 0);
    CHECK(dv_dtls_msg_send(bio, server->fd, &key, sizeof(key.addr4)) == -1);
    BIO_free(bio);
}

int main(int argc, char **argv)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = NULL;
    dv_udp_conn_t *conn = NULL;
    dv_udp_conn_key_t key;
    char mtu[16], in[64] = "a message", out[64];

    if (argc < 2) {
        return 2;
    }
    snprintf(mtu, sizeof(mtu), "%d", MTU);
    setenv("DV_MTU", mtu, 1);
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    client_open(&client, ctx, &server, NULL);
    CHECK(client_handshake(&client, &server));
    key = client_key(&client);
    conn = dv_dtls_conn_find(&key);
    CHECK(conn != NULL);
    if (conn == NULL) {
        return check_report("bios");
    }

    CHECK(BIO_pending((BIO *)conn->wbio) == 0);
    reading_wbio(conn);
    sending_wbio(conn, &client, &server);
    filling_wbio(conn, &client, &server);
    writing_rbio(conn, &client, &server);
    peer_of(conn->rbio, &key);
    peer_of(conn->wbio, &key);
    mtu_of(conn);

    /* The connection has been through all that and works; the library leaves nothing in wbio. */
    CHECK(client_echo(&client, &server, "still here"));
    CHECK(BIO_pending((BIO *)conn->wbio) == 0);
    CHECK(dv_dtls_write(conn, in, sizeof(in), server.fd, out, sizeof(out), sizeof(key.addr4)) == sizeof(in));
    CHECK(BIO_pending((BIO *)conn->wbio) == 0);
    CHECK(recv(client.fd, out, sizeof(out), 0) > 0);
    memory_bio(&client, &server);

    dv_dtls_conn_free(conn);
    client_vanish(&client);
    server_close(&server);
    SSL_CTX_free(ctx);
    return check_report("bios");
}
