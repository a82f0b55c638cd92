/*
 * What the C tests drive the helpers with: a server socket served by the helpers, and clients on plain OpenSSL, all in one
 * thread over loopback UDP. A step takes one datagram, so a test can stop between any two.
 */
#ifndef PEER_H
#define PEER_H

#include <arpa/inet.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <dv_dtls.h>

#include "check.h"

#define PEER_CIPHERS "ECDHE-ECDSA-AES128-GCM-SHA256"
/* Steps without a datagram of 10 ms each after which a client gives up. */
#define PEER_PATIENCE 1000

struct server {
    SSL_CTX *ctx;
    int fd;
    struct sockaddr_in at;
    /* The connection that the last step was about, or NULL. */
    dv_udp_conn_t *conn;
    int messages, closed;
};

struct client {
    SSL *ssl;
    int fd;
};

static inline void peer_die(const char *what)
{
    perror(what);
    ERR_print_errors_fp(stderr);
    _exit(1);
}

static inline size_t heap_in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* A context as the original server main sets it up. */
static inline SSL_CTX *server_context(const char *certs)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());
    char cert[512], key[512];

    snprintf(cert, sizeof(cert), "%s/server-ecdsa.pem", certs);
    snprintf(key, sizeof(key), "%s/server-ecdsa.key", certs);
    if (ctx == NULL || dv_ssl_certificate(ctx, cert, key) != 0) {
        peer_die(cert);
    }
    SSL_CTX_set_options(ctx, SSL_OP_COOKIE_EXCHANGE);
    SSL_CTX_set_cookie_generate_cb(ctx, dv_dtls_generate_cookie_callback);
    SSL_CTX_set_cookie_verify_cb(ctx, dv_dtls_verify_cookie_callback);
    if (dv_openssl_ctx_set_ciphers(ctx, (char[]){PEER_CIPHERS}) != DV_OK) {
        peer_die("ciphers");
    }
    return ctx;
}

static inline SSL_CTX *client_context(const char *certs)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_client_method());
    char ca[512];

    snprintf(ca, sizeof(ca), "%s/ca.pem", certs);
    if (ctx == NULL || SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1) {
        peer_die(ca);
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return ctx;
}

static inline void server_open(struct server *server, const char *certs)
{
    socklen_t len = sizeof(server->at);

    memset(server, 0, sizeof(*server));
    server->ctx = server_context(certs);
    server->at.sin_family = AF_INET;
    server->at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (server->fd < 0 || bind(server->fd, (struct sockaddr *)&server->at, len) != 0
        || getsockname(server->fd, (struct sockaddr *)&server->at, &len) != 0) {
        peer_die("server");
    }
}

static inline void server_close(struct server *server)
{
    close(server->fd);
    SSL_CTX_free(server->ctx);
}

/* Takes one datagram, as the original main does, and echoes the messages in it. Returns 0 when none waits. */
static inline int server_step(struct server *server)
{
    static _Thread_local char in[DTLS_RECORD_MAX_LEN], out[2048];
    dv_udp_conn_key_t key;
    socklen_t addrlen = sizeof(key);
    ssize_t len = 0;
    int got = 0;

    memset(&key, 0, sizeof(key));
    len = recvfrom(server->fd, in, sizeof(in), MSG_DONTWAIT, &key.addr, &addrlen);
    if (len < 0) {
        return 0;
    }
    server->conn = dv_dtls_conn_find(&key);
    if (server->conn == NULL) {
        server->conn = dv_dtls_conn_new(server->ctx, in, (size_t)len, server->fd, &key, addrlen);
        return 1;
    }
    got = dv_dtls_read(server->conn, in, (size_t)len, server->fd, out, sizeof(out), addrlen);
    while (got > 0) {
        server->messages++;
        dv_dtls_write(server->conn, out, (size_t)got, server->fd, in, sizeof(in), addrlen);
        got = dv_dtls_read(server->conn, NULL, 0, server->fd, out, sizeof(out), addrlen);
    }
    if (got < 0) {
        dv_dtls_shutdown(server->conn, server->fd, addrlen);
        dv_dtls_conn_free(server->conn);
        server->conn = NULL;
        server->closed++;
    }
    return 1;
}

static inline void server_drain(struct server *server)
{
    while (server_step(server)) {
    }
}

/* The key of a client's connection. */
static inline dv_udp_conn_key_t client_key(const struct client *client)
{
    dv_udp_conn_key_t key;
    socklen_t len = sizeof(key);

    memset(&key, 0, sizeof(key));
    if (getsockname(client->fd, &key.addr, &len) != 0) {
        peer_die("client");
    }
    return key;
}

/* The client's program has ended, and another one has its socket. */
static inline struct client client_anew(const struct client *before, SSL_CTX *ctx, const struct server *server)
{
    struct client client = { .ssl = SSL_new(ctx), .fd = before->fd };
    BIO *bio = BIO_new_dgram(client.fd, BIO_NOCLOSE);

    if (client.ssl == NULL || bio == NULL) {
        peer_die("client");
    }
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, (void *)&server->at);
    SSL_set_bio(client.ssl, bio, bio);
    SSL_set_connect_state(client.ssl);
    return client;
}

/* A client that has not said anything yet; `session` is one to resume, or NULL. */
static inline void client_open(struct client *client, SSL_CTX *ctx, const struct server *server, SSL_SESSION *session)
{
    client->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0 || connect(client->fd, (const struct sockaddr *)&server->at, sizeof(server->at)) != 0) {
        peer_die("client");
    }
    *client = client_anew(client, ctx, server);
    if (session != NULL) {
        SSL_set_session(client->ssl, session);
    }
}

/* After a client's call that has not succeeded: lets the server answer. Returns 0 when the client should not try again. */
static inline int client_wait(struct client *client, struct server *server, int result, int *waited)
{
    struct pollfd readable[2] = {{.fd = client->fd, .events = POLLIN}, {.fd = server->fd, .events = POLLIN}};

    if (SSL_get_error(client->ssl, result) != SSL_ERROR_WANT_READ) {
        return 0;
    }
    if (server_step(server)) {
        return 1;
    }
    if (poll(readable, 2, 10) == 0) {
        DTLSv1_handle_timeout(client->ssl);
        return ++*waited < PEER_PATIENCE;
    }
    return 1;
}

/* A client that says its hello twice, with the cookie the second time, and then nothing more. Returns its connection. */
static inline dv_udp_conn_t *client_half_open(struct client *client, SSL_CTX *ctx, struct server *server)
{
    int waited = 0;

    client_open(client, ctx, server, NULL);
    server->conn = NULL;
    while (server->conn == NULL) {
        int result = SSL_do_handshake(client->ssl);

        if (result == 1 || !client_wait(client, server, result, &waited)) {
            break;
        }
    }
    CHECK(server->conn != NULL);
    return server->conn;
}

/* 1 when the handshake is finished on both sides. */
static inline int client_handshake(struct client *client, struct server *server)
{
    int result = 0, waited = 0;

    while ((result = SSL_do_handshake(client->ssl)) != 1) {
        if (!client_wait(client, server, result, &waited)) {
            return 0;
        }
    }
    server_drain(server);
    return 1;
}

/* 1 when a message came back as it went. */
static inline int client_echo(struct client *client, struct server *server, const char *message)
{
    char back[2048];
    int result = SSL_write(client->ssl, message, (int)strlen(message) + 1), waited = 0;

    if (result <= 0) {
        return 0;
    }
    while ((result = SSL_read(client->ssl, back, sizeof(back))) <= 0) {
        if (!client_wait(client, server, result, &waited)) {
            return 0;
        }
    }
    return strcmp(back, message) == 0;
}

/* The connection of a client that is opened, shakes hands and is answered. */
static inline dv_udp_conn_t *established(struct client *client, SSL_CTX *ctx, struct server *server)
{
    dv_udp_conn_key_t key;

    client_open(client, ctx, server, NULL);
    CHECK(client_handshake(client, server));
    CHECK(client_echo(client, server, "hello"));
    key = client_key(client);
    return dv_dtls_conn_find(&key);
}

/* A connection of the program's own with a client: its SSL has memory BIOs, and the library hangs nothing on it. */
static inline dv_udp_conn_t *of_the_program(const struct client *client, const struct server *server)
{
    dv_udp_conn_t *conn = calloc(1, sizeof(*conn));

    if (conn == NULL) {
        peer_die("calloc");
    }
    conn->key = client_key(client);
    conn->ssl = SSL_new(server->ctx);
    conn->rbio = BIO_new(BIO_s_mem());
    conn->wbio = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return((BIO *)conn->rbio, -1);
    BIO_set_mem_eof_return((BIO *)conn->wbio, -1);
    SSL_set_bio(conn->ssl, conn->rbio, conn->wbio);
    SSL_set_options(conn->ssl, SSL_OP_NO_QUERY_MTU);
    SSL_clear_options(conn->ssl, SSL_OP_COOKIE_EXCHANGE);
    SSL_set_mtu(conn->ssl, 1200);
    SSL_set_accept_state(conn->ssl);
    return conn;
}

/* The handshake of a client with such a connection. */
static inline int client_handshake_with(struct client *client, const struct server *server, dv_udp_conn_t *conn)
{
    char in[2048], out[2048];
    int result = 0, turns = 0;

    while ((result = SSL_do_handshake(client->ssl)) != 1 && turns++ < 20) {
        ssize_t len = recv(server->fd, in, sizeof(in), MSG_DONTWAIT);

        if (len > 0) {
            CHECK(dv_dtls_read(conn, in, (size_t)len, server->fd, out, sizeof(out), 16) == 0);
        }
    }
    return result == 1;
}

/* Goes without a word. */
static inline void client_vanish(struct client *client)
{
    SSL_free(client->ssl);
    close(client->fd);
}

/* Says goodbye, lets the server hear it, and goes. */
static inline void client_close(struct client *client, struct server *server)
{
    SSL_shutdown(client->ssl);
    server_drain(server);
    client_vanish(client);
}

#endif
