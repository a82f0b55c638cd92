/*
 * The library as a plug-in has it: opened by name, closed while a connection of its making is alive, opened again. It stays
 * loaded (-z nodelete), for libssl goes on calling it: as the BIO of the connection, as its cookie callbacks.
 *
 *   unload libdv_dtls.so.0 certs/out
 */
#include <dlfcn.h>

/* No function of the library is linked: the names of the helpers are pointers here. */
#define DV_OMIT_OPENSSL_CTX_SET_CIPHERS
#define DV_OMIT_SSL_CERTIFICATE
#define DV_OMIT_DTLS_CONN_FIND
#define DV_OMIT_DTLS_CONN_NEW
#define DV_OMIT_DTLS_CONN_FREE
#define DV_OMIT_DTLS_READ
#define DV_OMIT_DTLS_WRITE
#define DV_OMIT_DTLS_SHUTDOWN
#define DV_OMIT_DTLS_GENERATE_COOKIE_CALLBACK
#define DV_OMIT_DTLS_VERIFY_COOKIE_CALLBACK
#include <dv_dtls.h>

static int (*dv_openssl_ctx_set_ciphers)(void *ctx, char *ciphers);
static int (*dv_ssl_certificate)(void *ctx, char *cert, char *key);
static dv_udp_conn_t *(*dv_dtls_conn_find)(dv_udp_conn_key_t *key);
static dv_udp_conn_t *(*dv_dtls_conn_new)(void *ctx, char *buf, size_t len, int fd, dv_udp_conn_key_t *key,
                                          socklen_t addrlen);
static void (*dv_dtls_conn_free)(dv_udp_conn_t *conn);
static int (*dv_dtls_read)(dv_udp_conn_t *conn, char *in_buf, size_t in_len, int fd, char *out_buf, size_t out_len,
                           socklen_t addrlen);
static int (*dv_dtls_write)(dv_udp_conn_t *conn, char *in_buf, size_t in_len, int fd, char *out_buf, size_t out_len,
                            socklen_t addrlen);
static void (*dv_dtls_shutdown)(dv_udp_conn_t *conn, int fd, socklen_t addrlen);
static int (*dv_dtls_generate_cookie_callback)(SSL *ssl, unsigned char *cookie, unsigned int *cookie_len);
static int (*dv_dtls_verify_cookie_callback)(SSL *ssl, const unsigned char *cookie, unsigned int cookie_len);

#include "check.h"
#include "peer.h"

#define FIND(name) ((name) = (__typeof__(name))dlsym(library, #name))

static void *open_library(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    CHECK(FIND(dv_openssl_ctx_set_ciphers) != NULL);
    CHECK(FIND(dv_ssl_certificate) != NULL);
    CHECK(FIND(dv_dtls_conn_find) != NULL);
    CHECK(FIND(dv_dtls_conn_new) != NULL);
    CHECK(FIND(dv_dtls_conn_free) != NULL);
    CHECK(FIND(dv_dtls_read) != NULL);
    CHECK(FIND(dv_dtls_write) != NULL);
    CHECK(FIND(dv_dtls_shutdown) != NULL);
    CHECK(FIND(dv_dtls_generate_cookie_callback) != NULL);
    CHECK(FIND(dv_dtls_verify_cookie_callback) != NULL);
    return library;
}

int main(int argc, char **argv)
{
    struct server server;
    struct client first, second;
    SSL_CTX *ctx = NULL;
    dv_udp_conn_key_t key;
    dv_udp_conn_t *conn = NULL;
    void *library = NULL;

    if (argc < 3) {
        return 2;
    }
    CHECK(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == NULL);
    library = open_library(argv[1]);
    server_open(&server, argv[2]);
    ctx = client_context(argv[2]);
    client_open(&first, ctx, &server, NULL);
    CHECK(client_handshake(&first, &server));
    key = client_key(&first);
    conn = dv_dtls_conn_find(&key);
    CHECK(conn != NULL);

    /* Closed: the table, the connection and its BIO are still there when the next plug-in opens it. */
    CHECK(dlclose(library) == 0);
    library = open_library(argv[1]);
    CHECK(dv_dtls_conn_find(&key) == conn);
    CHECK(client_echo(&first, &server, "after the second dlopen"));
    client_open(&second, ctx, &server, NULL);
    CHECK(client_handshake(&second, &server));

    /* Closed for good: libssl frees what is left without us, and the process ends as usual. */
    CHECK(dlclose(library) == 0);
    if (conn != NULL && conn->ssl != NULL) {
        SSL_free(conn->ssl);
    }
    client_vanish(&first);
    client_vanish(&second);
    server_close(&server);
    SSL_CTX_free(ctx);
    return check_report("unload");
}
