/* An echo server on wolfSSL: an object for each peer, as in its examples with more than one client. */
#include "server.h"

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfio.h>

static WOLFSSL_CTX *ctx;

static int push(WOLFSSL *ssl, char *data, int len, void *to)
{
    (void)ssl;
    return (int)send_datagram(to, data, (size_t)len);
}

static int pull(WOLFSSL *ssl, char *data, int room, void *from)
{
    ssize_t len = take_datagram(data, (size_t)room);

    (void)ssl;
    (void)from;
    return len < 0 ? WOLFSSL_CBIO_ERR_WANT_READ : (int)len;
}

/* wolfSSL's own callback asks a connected socket who the peer is. */
static int cookie(WOLFSSL *ssl, unsigned char *out, int room, void *of)
{
    static unsigned char secret[WC_SHA256_DIGEST_SIZE];
    static int drawn;
    unsigned char digest[WC_SHA256_DIGEST_SIZE];
    const struct sockaddr_in *peer = of;
    Hmac hmac;

    (void)ssl;
    if (!drawn) {
        WC_RNG rng;

        drawn = wc_InitRng(&rng) == 0 && wc_RNG_GenerateBlock(&rng, secret, sizeof(secret)) == 0;
    }
    if (room > (int)sizeof(digest)) {
        room = sizeof(digest);
    }
    if (!drawn || wc_HmacInit(&hmac, NULL, INVALID_DEVID) != 0
        || wc_HmacSetKey(&hmac, WC_SHA256, secret, sizeof(secret)) != 0
        || wc_HmacUpdate(&hmac, (const unsigned char *)peer, sizeof(*peer)) != 0 || wc_HmacFinal(&hmac, digest) != 0) {
        return WOLFSSL_CBIO_ERR_GENERAL;
    }
    memcpy(out, digest, (size_t)room);
    return room;
}

static void end(struct peer *peer)
{
    wolfSSL_shutdown(peer->session);
    wolfSSL_free(peer->session);
    remove_peer(peer);
}

static void from_peer(struct peer *peer)
{
    static unsigned char message[DATAGRAM_MAX];
    int len = 0;

    if (!wolfSSL_is_init_finished(peer->session) && wolfSSL_accept(peer->session) != WOLFSSL_SUCCESS) {
        int error = wolfSSL_get_error(peer->session, 0);

        if (error != WOLFSSL_ERROR_WANT_READ && error != WOLFSSL_ERROR_WANT_WRITE) {
            end(peer);
        }
        return;
    }
    while ((len = wolfSSL_read(peer->session, message, sizeof(message))) > 0) {
        wolfSSL_write(peer->session, message, len);
    }
    if (wolfSSL_get_error(peer->session, len) != WOLFSSL_ERROR_WANT_READ) {
        end(peer);
    }
}

static void from_stranger(void)
{
    WOLFSSL *ssl = wolfSSL_new(ctx);
    struct peer *peer;

    if (ssl == NULL) {
        die("wolfSSL_new");
    }
    peer = add_peer(&inbound.from, ssl);
    wolfSSL_dtls_set_using_nonblock(ssl, 1);
    wolfSSL_dtls_set_peer(ssl, &peer->address, sizeof(peer->address));
    wolfSSL_SetIOReadCtx(ssl, peer);
    wolfSSL_SetIOWriteCtx(ssl, &peer->address);
    wolfSSL_SetCookieCtx(ssl, &peer->address);
    from_peer(peer);
}

int main(int argc, char **argv)
{
    check_usage(argc, argv);
    wolfSSL_Init();
    ctx = wolfSSL_CTX_new(wolfDTLSv1_2_server_method());
    if (ctx == NULL || wolfSSL_CTX_use_certificate_chain_file(ctx, argv[2]) != WOLFSSL_SUCCESS
        || wolfSSL_CTX_use_PrivateKey_file(ctx, argv[3], WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS) {
        fprintf(stderr, "wolfSSL does not take the certificate\n");
        return 1;
    }
    wolfSSL_CTX_SetIORecv(ctx, pull);
    wolfSSL_CTX_SetIOSend(ctx, push);
    wolfSSL_CTX_SetGenCookie(ctx, cookie);
    serve(argv[1], from_peer, from_stranger);
    return 0;
}
