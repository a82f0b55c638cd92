/*
 * Who a server or a client is, and whom it trusts: the options --cert, --key, --ca, --require-client-cert and --psk, and an
 * SSL_CTX made from them. All of this is OpenSSL as in any other program.
 */
#ifndef DV_IDENTITY_H
#define DV_IDENTITY_H

#include <getopt.h>

#include "example.h"

#define PSK_IDENTITY "client"
#define PSK_MAX      64

/* Behind the codes of all single letters. */
enum { OPTION_CERT = 256, OPTION_KEY, OPTION_CA, OPTION_REQUIRE, OPTION_PSK, OPTION_OWN };

#define IDENTITY_OPTIONS                                          \
    { "cert", required_argument, NULL, OPTION_CERT },             \
    { "key", required_argument, NULL, OPTION_KEY },               \
    { "ca", required_argument, NULL, OPTION_CA },                 \
    { "require-client-cert", no_argument, NULL, OPTION_REQUIRE }, \
    { "psk", required_argument, NULL, OPTION_PSK }

#define SERVER_IDENTITY_HELP                                                                    \
    "  --cert FILE            certificate chain, PEM (" DEFAULT_CERT ")\n"                      \
    "  --key FILE             its key, PEM (" DEFAULT_KEY ")\n"                                 \
    "  --ca FILE              CA certificates that clients' certificates are checked against\n" \
    "  --require-client-cert  refuse clients without a certificate of one of these CAs\n"       \
    "  --psk HEX              a key for the identity \"" PSK_IDENTITY "\", in the place of certificates\n"

struct identity {
    const char *cert;
    const char *key;
    const char *ca;
    int require_client_cert;
    unsigned char psk[PSK_MAX];
    size_t psk_len;
};

/* The PSK callbacks of OpenSSL have no argument of the program's. */
static struct identity identity;

static inline int read_hex(const char *text)
{
    size_t len = strlen(text) / 2;
    size_t i = 0;
    unsigned int byte = 0;

    if (len == 0 || strlen(text) % 2 != 0 || len > PSK_MAX || strspn(text, "0123456789abcdefABCDEF") != 2 * len) {
        fprintf(stderr, "--psk wants an even number of hex digits, %d at most\n", 2 * PSK_MAX);
        return -1;
    }
    for (i = 0; i < len; i++) {
        sscanf(text + 2 * i, "%2x", &byte);
        identity.psk[i] = (unsigned char)byte;
    }
    identity.psk_len = len;
    return 0;
}

/* Takes one of IDENTITY_OPTIONS; -1 for another one. */
static inline int identity_option(int option, const char *argument)
{
    switch (option) {
    case OPTION_CERT: identity.cert = argument; return 0;
    case OPTION_KEY: identity.key = argument; return 0;
    case OPTION_CA: identity.ca = argument; return 0;
    case OPTION_REQUIRE: identity.require_client_cert = 1; return 0;
    case OPTION_PSK: return read_hex(argument);
    default: return -1;
    }
}

static inline unsigned int psk_of_client(SSL *ssl, const char *name, unsigned char *psk, unsigned int max)
{
    (void)ssl;
    if (name == NULL || strcmp(name, PSK_IDENTITY) != 0 || identity.psk_len > max) {
        return 0;
    }
    memcpy(psk, identity.psk, identity.psk_len);
    return (unsigned int)identity.psk_len;
}

static inline unsigned int psk_for_server(SSL *ssl, const char *hint, char *name, unsigned int name_max,
                                          unsigned char *psk, unsigned int max)
{
    (void)hint;
    snprintf(name, name_max, "%s", PSK_IDENTITY);
    return psk_of_client(ssl, name, psk, max);
}

/* An SSL_CTX for the sessions of a server; NULL when something is wrong, which is told. */
static inline SSL_CTX *server_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());
    int mode = SSL_VERIFY_PEER | (identity.require_client_cert ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    char ciphers[] = CIPHERS ":PSK+AESGCM";

    if (ctx == NULL || dv_openssl_ctx_set_ciphers(ctx, ciphers) != DV_OK
        || dv_ssl_certificate(ctx, (char *)(identity.cert != NULL ? identity.cert : DEFAULT_CERT),
                              (char *)(identity.key != NULL ? identity.key : DEFAULT_KEY)) != 0) {
        SSL_CTX_free(ctx);
        return NULL;    /* the log says why */
    }
    if (identity.ca != NULL) {
        /* When the file is not good, every handshake fails, and the log says why. */
        dv_openssl_set_verify(ctx, mode, (char *)identity.ca);
    }
    if (identity.psk_len > 0) {
        SSL_CTX_set_psk_server_callback(ctx, psk_of_client);
    }
    return ctx;
}

/* The same for a client. */
static inline SSL_CTX *client_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_client_method());
    char ciphers[] = CIPHERS;
    char psk_ciphers[] = "PSK+AESGCM";

    if (ctx == NULL || dv_openssl_ctx_set_ciphers(ctx, identity.psk_len > 0 ? psk_ciphers : ciphers) != DV_OK
        || (identity.cert != NULL
            && dv_ssl_certificate(ctx, (char *)identity.cert, (char *)(identity.key != NULL ? identity.key : identity.cert))
                   != 0)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    if (SSL_CTX_load_verify_locations(ctx, identity.ca != NULL ? identity.ca : DEFAULT_CA, NULL) != 1) {
        complain(identity.ca != NULL ? identity.ca : DEFAULT_CA);
        SSL_CTX_free(ctx);
        return NULL;
    }
    if (identity.psk_len > 0) {
        SSL_CTX_set_psk_client_callback(ctx, psk_for_server);
    }
    return ctx;
}

#endif
