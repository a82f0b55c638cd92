/*
 * The helpers have the types that hand-written callers expect: a table of function pointers compiles without a cast, and
 * each pointer leads into the library. The header's version is the library's.
 */
#include <dv_dtls.h>

#include <stdio.h>
#include <string.h>

struct helpers {
    int (*ctx_set_ciphers)(void *, char *);
    int (*callback)(int, X509_STORE_CTX *);
    void (*set_verify)(void *, int, char *);
    int (*get_verify_result)(void *);
    int (*certificate)(void *, char *, char *);
    void (*add_epoll_event)(int, struct epoll_event *, int);
    void (*table_init)(void);
    unsigned int (*hash)(union _dv_udp_conn_key_t *);
    void (*add)(struct _dv_udp_conn_t *);
    void (*del)(struct _dv_udp_conn_t *);
    struct _dv_udp_conn_t *(*find)(union _dv_udp_conn_key_t *);
    int (*msg_send)(BIO *, int, dv_udp_conn_key_t *, socklen_t);
    dv_udp_conn_t *(*conn_new)(void *, char *, size_t, int, dv_udp_conn_key_t *, socklen_t);
    void (*conn_free)(dv_udp_conn_t *);
    int (*read)(dv_udp_conn_t *, char *, size_t, int, char *, size_t, socklen_t);
    int (*write)(dv_udp_conn_t *, char *, size_t, int, char *, size_t, socklen_t);
    void (*shutdown)(dv_udp_conn_t *, int, socklen_t);
    int (*generate_cookie)(SSL *, unsigned char *, unsigned int *);
    int (*verify_cookie)(SSL *, const unsigned char *, unsigned int);
};

static const struct helpers helpers = {
    dv_openssl_ctx_set_ciphers,
    dv_openssl_callback,
    dv_openssl_set_verify,
    dv_openssl_get_verify_result,
    dv_ssl_certificate,
    dv_add_epoll_event,
    dv_dtls_conn_table_init,
    dv_dtls_conn_hash,
    dv_dtls_conn_add,
    dv_dtls_conn_del,
    dv_dtls_conn_find,
    dv_dtls_msg_send,
    dv_dtls_conn_new,
    dv_dtls_conn_free,
    dv_dtls_read,
    dv_dtls_write,
    dv_dtls_shutdown,
    dv_dtls_generate_cookie_callback,
    dv_dtls_verify_cookie_callback,
};

int main(void)
{
    dv_udp_conn_key_t nobody;
    SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());

    memset(&nobody, 0, sizeof(nobody));
    nobody.addr4.sin_family = AF_INET;
    helpers.table_init();
    if (helpers.find(&nobody) != NULL || helpers.hash(&nobody) >= 65535) {
        fprintf(stderr, "a table with nothing in it finds something\n");
        return 1;
    }

    /* libssl takes the callbacks as they are. */
    SSL_CTX_set_cookie_generate_cb(ctx, dv_dtls_generate_cookie_callback);
    SSL_CTX_set_cookie_verify_cb(ctx, dv_dtls_verify_cookie_callback);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, dv_openssl_callback);
    SSL_CTX_free(ctx);

    if (strcmp(DV_VERSION, dv_version()) != 0 || DV_VERSION_NUM != dv_version_num()) {
        fprintf(stderr, "header %s (%06x), library %s (%06x)\n", DV_VERSION, (unsigned)DV_VERSION_NUM, dv_version(),
                dv_version_num());
        return 1;
    }
    return 0;
}
