/*
 * An echo server on OpenSSL alone, in the way of its manual: DTLSv1_listen on the socket that is bound, and a connected
 * socket for each client.
 */
#include "server.h"

#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>

#define EVENTS 64

static SSL_CTX *ctx;
static unsigned char secret[32];
static int epfd;

static int make_cookie(SSL *ssl, unsigned char *cookie, unsigned int *len)
{
    struct sockaddr_in peer;

    memset(&peer, 0, sizeof(peer));
    BIO_dgram_get_peer(SSL_get_rbio(ssl), &peer);
    return HMAC(EVP_sha1(), secret, sizeof(secret), (unsigned char *)&peer, sizeof(peer), cookie, len) != NULL;
}

static int check_cookie(SSL *ssl, const unsigned char *cookie, unsigned int len)
{
    unsigned char good[EVP_MAX_MD_SIZE];
    unsigned int good_len = 0;

    return make_cookie(ssl, good, &good_len) && len == good_len && CRYPTO_memcmp(cookie, good, len) == 0;
}

static void watch(int fd, SSL *ssl)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = ssl };

    if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) != 0) {
        die("epoll_ctl");
    }
}

static SSL *new_listener(void)
{
    SSL *ssl = SSL_new(ctx);
    BIO *bio = BIO_new_dgram(sock, BIO_NOCLOSE);

    if (ssl == NULL || bio == NULL) {
        die("SSL_new");
    }
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    SSL_set_options(ssl, SSL_OP_COOKIE_EXCHANGE);
    return ssl;
}

static void end(SSL *ssl)
{
    SSL_shutdown(ssl);
    SSL_free(ssl);
    ERR_clear_error();
}

static void read_client(SSL *ssl)
{
    static unsigned char message[DATAGRAM_MAX];
    int len = 0;

    while ((len = SSL_read(ssl, message, sizeof(message))) > 0) {
        SSL_write(ssl, message, len);
    }
    if (SSL_get_error(ssl, len) != SSL_ERROR_WANT_READ) {
        end(ssl);
    }
}

/* Answers hellos; the SSL of one with a good cookie goes on with a socket of its own. */
static SSL *listen_for_client(SSL *listener, const char *port, BIO_ADDR *address)
{
    while (DTLSv1_listen(listener, address) > 0) {
        struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = BIO_ADDR_rawport(address) };
        BIO *bio = SSL_get_rbio(listener);
        size_t len = sizeof(peer.sin_addr);
        int fd = -1;

        BIO_ADDR_rawaddress(address, &peer.sin_addr, &len);
        fd = bound_socket(port, SOCK_NONBLOCK, 1);
        if (connect(fd, (struct sockaddr *)&peer, sizeof(peer)) != 0) {
            die("connect");
        }
        BIO_set_fd(bio, fd, BIO_CLOSE);
        BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &peer);
        watch(fd, listener);
        read_client(listener);
        listener = new_listener();
    }
    ERR_clear_error();
    return listener;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    BIO_ADDR *address = BIO_ADDR_new();
    SSL *listener = NULL;

    check_usage(argc, argv);
    ctx = SSL_CTX_new(DTLS_server_method());
    if (ctx == NULL || address == NULL || RAND_bytes(secret, sizeof(secret)) != 1
        || SSL_CTX_use_certificate_chain_file(ctx, argv[2]) != 1
        || SSL_CTX_use_PrivateKey_file(ctx, argv[3], SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    SSL_CTX_set_cookie_generate_cb(ctx, make_cookie);
    SSL_CTX_set_cookie_verify_cb(ctx, check_cookie);
    sock = bound_socket(argv[1], SOCK_NONBLOCK, 1);
    epfd = epoll_create1(0);
    listener = new_listener();
    watch(sock, NULL);
    for (;;) {
        int count = epoll_wait(epfd, events, EVENTS, -1);
        int i = 0;

        for (i = 0; i < count; i++) {
            if (events[i].data.ptr != NULL) {
                read_client(events[i].data.ptr);
            } else {
                listener = listen_for_client(listener, argv[1], address);
            }
        }
    }
}
