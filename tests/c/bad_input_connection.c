/*
 * Bad input for the helpers that work on connections, the table and cookies: NULL for each pointer, lengths that are none,
 * addresses that are none, a closed descriptor, datagrams that are no DTLS. Each has a defined return value and, where it is
 * an error, a log line that names the cause; nothing is printed, and the same calls with good input work afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "peer.h"

static char log_lines[65536];

static void collect(int level, const char *line, void *user)
{
    (void)level;
    (void)user;
    strncat(log_lines, line, sizeof(log_lines) - strlen(log_lines) - 2);
    strcat(log_lines, "\n");
}

/* Whether the call before logged a line with this text. */
static int said(const char *what)
{
    int ok = strstr(log_lines, what) != NULL;

    if (!ok) {
        fprintf(stderr, "wanted \"%s\", logged \"%s\"\n", what, log_lines);
    }
    log_lines[0] = '\0';
    return ok;
}

static void cookies(SSL *ssl)
{
    unsigned char cookie[255];
    unsigned int len = 0;

    CHECK(dv_dtls_generate_cookie_callback(NULL, cookie, &len) == 0);
    CHECK(dv_dtls_generate_cookie_callback(ssl, NULL, &len) == 0);
    CHECK(dv_dtls_generate_cookie_callback(ssl, cookie, NULL) == 0);
    CHECK(dv_dtls_verify_cookie_callback(NULL, cookie, 21) == 0);
    CHECK(dv_dtls_verify_cookie_callback(ssl, NULL, 21) == 0);
    CHECK(dv_dtls_generate_cookie_callback(ssl, cookie, &len) == 1 && len > 1 && len <= 32);
    CHECK(dv_dtls_verify_cookie_callback(ssl, cookie, 0) == 0);
    CHECK(dv_dtls_verify_cookie_callback(ssl, cookie, 1) == 0);
    CHECK(dv_dtls_verify_cookie_callback(ssl, cookie, len - 1) == 0);
    CHECK(dv_dtls_verify_cookie_callback(ssl, cookie, 255) == 0);
    CHECK(dv_dtls_verify_cookie_callback(ssl, cookie, len) == 1);
    cookie[5] ^= 1;
    CHECK(dv_dtls_verify_cookie_callback(ssl, cookie, len) == 0);
}

static void table(void)
{
    dv_udp_conn_key_t key;
    dv_udp_conn_t conn;

    memset(&key, 0, sizeof(key));
    memset(&conn, 0, sizeof(conn));
    CHECK(dv_dtls_conn_find(NULL) == NULL);
    CHECK(dv_dtls_conn_find(&key) == NULL);
    key.addr.sa_family = AF_UNIX;
    CHECK(dv_dtls_conn_find(&key) == NULL);
    CHECK(dv_dtls_conn_hash(NULL) == 0);
    log_lines[0] = '\0';
    dv_dtls_conn_add(NULL);
    CHECK(said("dv_dtls_conn_add"));
    dv_dtls_conn_add(&conn);
    CHECK(said("dv_dtls_conn_add"));
    dv_dtls_conn_del(NULL);
    dv_dtls_conn_del(&conn);
    dv_dtls_conn_free(NULL);
    dv_dtls_conn_table_init();
}

static void begin(void *ctx, int fd, dv_udp_conn_key_t *key, socklen_t len)
{
    static char junk[65527];
    dv_udp_conn_key_t other = *key;

    CHECK(FAILS(dv_dtls_conn_new(NULL, junk, 100, fd, key, len) == NULL, EINVAL) && said("ctx, buf or key is NULL"));
    CHECK(FAILS(dv_dtls_conn_new(ctx, NULL, 100, fd, key, len) == NULL, EINVAL) && said("ctx, buf or key is NULL"));
    CHECK(FAILS(dv_dtls_conn_new(ctx, junk, 100, fd, NULL, len) == NULL, EINVAL) && said("ctx, buf or key is NULL"));
    CHECK(FAILS(dv_dtls_conn_new(ctx, junk, (size_t)-1, fd, key, len) == NULL, EINVAL) && said("dv_dtls_conn_new"));
    CHECK(dv_dtls_conn_new(ctx, junk, 0, fd, key, len) == NULL);
    CHECK(dv_dtls_conn_new(ctx, junk, sizeof(junk), fd, key, len) == NULL);
    memset(junk, 22, sizeof(junk));
    CHECK(dv_dtls_conn_new(ctx, junk, sizeof(junk), fd, key, len) == NULL);
    CHECK(dv_dtls_conn_new(ctx, junk, 13, -1, key, len) == NULL);
    other.addr.sa_family = AF_UNIX;
    CHECK(dv_dtls_conn_new(ctx, junk, 100, fd, &other, len) == NULL);
    memset(&other, 0, sizeof(other));
    CHECK(dv_dtls_conn_new(ctx, junk, 100, fd, &other, len) == NULL);
    CHECK(dv_dtls_conn_find(key) == NULL);
}

/* An SSL_CTX for TLS: what libssl does to an SSL for DTLS would be out of bounds in one for TLS. */
static void not_for_dtls(int fd, dv_udp_conn_key_t *key, socklen_t len)
{
    SSL_CTX *wrong = SSL_CTX_new(TLS_method()), *client_ctx = SSL_CTX_new(DTLS_client_method());
    SSL *client = SSL_new(client_ctx);
    BIO *out = BIO_new(BIO_s_mem());
    char hello[2048];
    int n = 0;

    SSL_set_bio(client, BIO_new(BIO_s_mem()), out);
    SSL_set_options(client, SSL_OP_NO_QUERY_MTU);
    SSL_set_mtu(client, 1400);
    CHECK(SSL_connect(client) < 0);
    n = BIO_read(out, hello, sizeof(hello));
    CHECK(n > 100);
    log_lines[0] = '\0';
    CHECK(dv_dtls_conn_new(wrong, hello, (size_t)n, fd, key, len) == NULL && said("wrong ssl version"));
    SSL_CTX_set_options(wrong, SSL_OP_COOKIE_EXCHANGE);
    log_lines[0] = '\0';
    CHECK(dv_dtls_conn_new(wrong, hello, (size_t)n, fd, key, len) == NULL && dv_dtls_conn_find(key) == NULL);
    CHECK(said("wrong ssl version"));
    SSL_free(client);
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(wrong);
}

static void on_established(dv_udp_conn_t *conn, int fd, int closed, socklen_t len)
{
    static char in[70000], out[70000];
    BIO *memory = BIO_new(BIO_s_mem());
    dv_udp_conn_key_t nowhere;
    int stream = socket(AF_INET, SOCK_STREAM, 0);

    memset(&nowhere, 0, sizeof(nowhere));
    log_lines[0] = '\0';
    CHECK(FAILS(dv_dtls_read(NULL, in, 10, fd, out, sizeof(out), len) == -1, EINVAL) && said("dv_dtls_read"));
    CHECK(FAILS(dv_dtls_read(conn, in, 10, fd, NULL, sizeof(out), len) == -1, EINVAL) && said("dv_dtls_read"));
    CHECK(FAILS(dv_dtls_read(conn, in, 10, fd, out, 0, len) == -1, EINVAL) && said("dv_dtls_read"));
    CHECK(FAILS(dv_dtls_read(conn, in, (size_t)-1, fd, out, sizeof(out), len) == -1, EINVAL) && said("dv_dtls_read"));
    CHECK(dv_dtls_read(conn, NULL, 10, fd, out, sizeof(out), len) == 0);
    CHECK(dv_dtls_read(conn, in, 0, fd, out, sizeof(out), len) == 0);
    CHECK(dv_dtls_read(conn, in, sizeof(in), fd, out, sizeof(out), len) == 0);
    CHECK(dv_dtls_read(conn, in, 10, -1, out, sizeof(out), len) == 0);

    CHECK(FAILS(dv_dtls_write(NULL, in, 10, fd, out, sizeof(out), len) == -1, EINVAL) && said("dv_dtls_write"));
    CHECK(FAILS(dv_dtls_write(conn, NULL, 10, fd, out, sizeof(out), len) == -1, EINVAL) && said("dv_dtls_write"));
    CHECK(FAILS(dv_dtls_write(conn, in, 0, fd, out, sizeof(out), len) == -1, EINVAL) && said("dv_dtls_write"));
    CHECK(FAILS(dv_dtls_write(conn, in, (size_t)-1, fd, out, sizeof(out), len) == -1, EINVAL) && said("dv_dtls_write"));
    CHECK(FAILS(dv_dtls_write(conn, in, sizeof(in), fd, out, sizeof(out), len) == -1, EMSGSIZE) && said("MTU"));
    CHECK(FAILS(dv_dtls_write(conn, in, 10, closed, out, sizeof(out), len) == -1, EBADF) && said("sendto"));
    CHECK(FAILS(dv_dtls_write(conn, in, 10, stream, out, sizeof(out), len) == -1, EPIPE) && said("sendto"));
    close(stream);

    CHECK(FAILS(dv_dtls_msg_send(NULL, fd, &conn->key, len) == -1, EINVAL) && said("dv_dtls_msg_send"));
    CHECK(FAILS(dv_dtls_msg_send(conn->wbio, fd, NULL, len) == -1, EINVAL) && said("dv_dtls_msg_send"));
    CHECK(FAILS(dv_dtls_msg_send(conn->wbio, fd, &nowhere, len) == -1, EINVAL) && said("dv_dtls_msg_send"));
    CHECK(FAILS(dv_dtls_msg_send(conn->wbio, fd, &conn->key, len) == -1, EAGAIN));
    CHECK(FAILS(dv_dtls_msg_send(memory, fd, &conn->key, len) == -1, EAGAIN));
    BIO_write(memory, "no record", 9);
    CHECK(FAILS(dv_dtls_msg_send(memory, closed, &conn->key, len) == -1, EBADF) && said("sendto"));
    BIO_free(memory);

    dv_dtls_shutdown(NULL, fd, len);
}

/* A client that must have a certificate and has none: its handshake goes on for a while, then it has failed. */
static void handshake_that_fails(SSL_CTX *ctx, struct server *server)
{
    static char in[2048], out[2048];
    struct client client;
    dv_udp_conn_key_t key;
    dv_udp_conn_t *conn = NULL;
    socklen_t len = sizeof(key);
    ssize_t got = 0;
    int turns = 0, result = 0;

    SSL_CTX_set_verify(server->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    client_open(&client, ctx, server, NULL);
    key = client_key(&client);
    while (conn == NULL && turns++ < 10) {
        SSL_do_handshake(client.ssl);
        server_step(server);
        conn = dv_dtls_conn_find(&key);
    }
    if (CHECK(conn != NULL)) {
        CHECK(FAILS(dv_dtls_write(conn, in, 10, server->fd, out, sizeof(out), len) == -1, EAGAIN));
        SSL_do_handshake(client.ssl);
        while (result == 0 && (got = recv(server->fd, in, sizeof(in), MSG_DONTWAIT)) > 0) {
            result = dv_dtls_read(conn, in, (size_t)got, server->fd, out, sizeof(out), len);
        }
        CHECK(result == -1 && errno == EIO && said("peer did not return a certificate"));
        CHECK(FAILS(dv_dtls_write(conn, in, 10, server->fd, out, sizeof(out), len) == -1, ENOTCONN));
        dv_dtls_conn_free(conn);
    }
    client_vanish(&client);
    while (recv(server->fd, in, sizeof(in), MSG_DONTWAIT) > 0) {
    }
    SSL_CTX_set_verify(server->ctx, SSL_VERIFY_NONE, NULL);
}

static void configuration(void)
{
    dv_config config;
    dv_stats stats;

    CHECK(dv_dtls_config(NULL, sizeof(config)) < 0);
    CHECK(dv_dtls_config(&config, 0) < 0);
    CHECK(dv_dtls_set_config(NULL) < 0);
    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    config.mtu = 100;
    CHECK(dv_dtls_set_config(&config) < 0 && strstr(dv_last_error(), "mtu") != NULL);
    config.mtu = 1280;
    CHECK(dv_dtls_set_config(&config) == 0);
    CHECK(dv_dtls_stats(NULL, sizeof(dv_stats)) < 0);
    CHECK(dv_dtls_stats(&stats, 0) < 0);
    CHECK(dv_dtls_stats(&stats, sizeof(stats)) == 0 && stats.sessions == 1);
}

int main(int argc, char **argv)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = NULL;
    SSL *ssl = NULL;
    int closed = -1, printed = -1, was[2];
    FILE *capture = tmpfile();

    if (argc < 2 || capture == NULL) {
        return 2;
    }
    dv_set_log_callback(DV_LOG_DEBUG, collect, NULL);
    server_open(&server, argv[1]);
    ctx = client_context(argv[1]);
    /* A number that no socket of this program gets. */
    closed = fcntl(server.fd, F_DUPFD, 500);
    close(closed);

    /* CHECK writes to stderr too: what it has to say of a failure is in the captured text. */
    fflush(NULL);
    was[0] = dup(1);
    was[1] = dup(2);
    dup2(fileno(capture), 1);
    dup2(fileno(capture), 2);

    ssl = SSL_new(server.ctx);
    cookies(ssl);
    SSL_free(ssl);
    table();
    client_open(&client, ctx, &server, NULL);
    {
        dv_udp_conn_key_t key = client_key(&client);

        begin(server.ctx, server.fd, &key, sizeof(struct sockaddr_in));
        not_for_dtls(server.fd, &key, sizeof(struct sockaddr_in));
    }
    CHECK(client_handshake(&client, &server));
    {
        dv_udp_conn_key_t key = client_key(&client);
        dv_udp_conn_t *conn = dv_dtls_conn_find(&key);

        if (CHECK(conn != NULL)) {
            on_established(conn, server.fd, closed, sizeof(struct sockaddr_in));
        }
    }
    handshake_that_fails(ctx, &server);
    configuration();
    CHECK(client_echo(&client, &server, "still there"));

    fflush(NULL);
    printed = (int)lseek(2, 0, SEEK_CUR);
    dup2(was[0], 1);
    dup2(was[1], 2);
    if (!CHECK(printed == 0)) {
        char text[4096] = "";

        rewind(capture);
        fprintf(stderr, "%.*s\n", (int)fread(text, 1, sizeof(text) - 1, capture), text);
    }
    client_close(&client, &server);
    server_close(&server);
    SSL_CTX_free(ctx);
    dv_set_log_callback(0, NULL, NULL);
    fclose(capture);
    close(was[0]);
    close(was[1]);
    return check_report("bad_input_connection");
}
