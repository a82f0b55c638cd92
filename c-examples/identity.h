/*
 * Who a server or a client is, and whom it trusts: options, and an SSL_CTX made from them. All of this is OpenSSL as in any
 * other program, but for dv_ssl_add_certificate.
 */
#ifndef DV_IDENTITY_H
#define DV_IDENTITY_H

#include <fcntl.h>
#include <unistd.h>

#include "example.h"

#define PSK_IDENTITY "client"
#define PSK_MAX      64
#define NAMES_MAX    16

#define PSK_CIPHERS    "PSK+AESGCM"
#define SERVER_CIPHERS CIPHERS ":" PSK_CIPHERS

#define SERVER_IDENTITY_HELP                                                                    \
    "  --cert FILE            certificate chain, PEM (" DEFAULT_CERT ");\n"                     \
    "                         repeat it, with --key, for other server names\n" \
    "  --key FILE             its key, PEM (" DEFAULT_KEY ";\n"                                 \
    "                         with --cert: in the same file)\n"                                   \
    "  --ca FILE              CA certificates to check clients' certificates with\n" \
    "  --crl FILE             revocation lists of these CAs, PEM\n"                             \
    "  --require-client-cert  refuse clients without a certificate of one of these CAs\n"       \
    "  --psk HEX              the pre-shared key of the identity \"" PSK_IDENTITY "\", beside certificates\n" \
    "  --psk-file FILE        keys of other identities, one line \"IDENTITY HEX\" each\n" \
    "  --ciphers LIST         cipher suites (" SERVER_CIPHERS ");\n" \
    "                         PSK+AESGCM: pre-shared keys only\n" \
    "  --keylog FILE          write the sessions' secrets there, for Wireshark: whoever has them can read everything\n"

struct identity {
    const char *certs[NAMES_MAX];
    const char *keys[NAMES_MAX];
    size_t cert_count;
    size_t key_count;
    const char *ca;
    const char *crl;
    int require_client_cert;
    unsigned char psk[PSK_MAX];
    size_t psk_len;
    const char *psk_file;
    const char *ciphers;
    const char *keylog_file;
    int keylog;
};

/* The PSK and key log callbacks of OpenSSL have no argument of the program's. */
static struct identity identity = { .keylog = -1 };

/* Reads hex digits; 0 when they are none. */
static inline size_t read_hex(const char *text, unsigned char *bytes, size_t max)
{
    size_t len = strlen(text) / 2;
    size_t i = 0;
    unsigned int byte = 0;

    if (strlen(text) % 2 != 0 || len > max || strspn(text, "0123456789abcdefABCDEF") != 2 * len) {
        return 0;
    }
    for (i = 0; i < len; i++) {
        sscanf(text + 2 * i, "%2x", &byte);
        bytes[i] = (unsigned char)byte;
    }
    return len;
}

static inline int take_psk(char *hex)
{
    identity.psk_len = read_hex(hex, identity.psk, PSK_MAX);
    if (identity.psk_len == 0) {
        fprintf(stderr, "--psk must be an even number of hex digits, %d at most\n", 2 * PSK_MAX);
        return -1;
    }
    return 0;
}

/* OpenSSL gives a line for each handshake, in the format that Wireshark reads. Threads call it, several at once. */
static inline void log_keys(const SSL *ssl, const char *line)
{
    (void)ssl;
    dprintf(identity.keylog, "%s\n", line);    /* one write, so that lines stay whole */
}

static inline int open_keylog(const char *file)
{
    identity.keylog = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (identity.keylog < 0) {
        perror(file);
        return -1;
    }
    return 0;
}

static inline int take_certificate(char *file)
{
    if (identity.cert_count == NAMES_MAX) {
        fprintf(stderr, "--cert: %d certificates at most\n", NAMES_MAX);
        return -1;
    }
    identity.certs[identity.cert_count++] = file;
    return 0;
}

static inline int take_key(char *file)
{
    if (identity.key_count == NAMES_MAX) {
        fprintf(stderr, "--key: %d keys at most\n", NAMES_MAX);
        return -1;
    }
    identity.keys[identity.key_count++] = file;
    return 0;
}

/* Those of a client; a server has all of them. */
#define CLIENT_IDENTITY_OPTIONS                   \
    { "cert", .take = take_certificate },         \
    { "key", .take = take_key },                  \
    { "ca", .text = &identity.ca },               \
    { "crl", .text = &identity.crl },             \
    { "psk", .take = take_psk },                  \
    { "ciphers", .text = &identity.ciphers },     \
    { "keylog", .text = &identity.keylog_file }

#define SERVER_IDENTITY_OPTIONS                                       \
    CLIENT_IDENTITY_OPTIONS,                                          \
    { "require-client-cert", .flag = &identity.require_client_cert }, \
    { "psk-file", .text = &identity.psk_file }

#define IDENTITY_MAX 127

/* Reads a line "IDENTITY HEX"; 0 when it is none. */
static inline size_t read_psk_line(const char *line, char name[IDENTITY_MAX + 1], unsigned char *psk, size_t max)
{
    char hex[2 * PSK_MAX + 1];
    char more = 0;

    return sscanf(line, "%127s %128s %c", name, hex, &more) == 2 ? read_hex(hex, psk, max) : 0;
}

/* Tells the first line of the file of keys that is none; -1 then. */
static inline int check_psk_file(const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    char name[IDENTITY_MAX + 1];
    unsigned char psk[PSK_MAX];
    size_t size = 0;
    int number = 1;
    int bad = 0;

    if (file == NULL) {
        perror(path);
        return -1;
    }
    for (; bad == 0 && getline(&line, &size, file) >= 0; number++) {
        if (read_psk_line(line, name, psk, sizeof(psk)) == 0) {
            fprintf(stderr, "%s: line %d is not \"IDENTITY HEX\"\n", path, number);
            bad = -1;
        }
    }
    free(line);
    fclose(file);
    return bad;
}

/* Whether the options fit together, once all are read; complains about what does not. */
static inline int identity_fits(const char *default_ca)
{
    if (identity.ca == NULL) {
        identity.ca = default_ca;
    }
    if (identity.key_count > identity.cert_count) {
        fprintf(stderr, "--key needs the --cert that it belongs to\n");
        return 0;
    }
    if (identity.ca == NULL && (identity.require_client_cert || identity.crl != NULL)) {
        fprintf(stderr, "--require-client-cert and --crl need --ca\n");
        return 0;
    }
    return 1;
}

/* The key of an identity; 0 when there is none. */
static inline size_t look_up(const char *name, unsigned char *psk, size_t max)
{
    FILE *file = NULL;
    char *line = NULL;
    char known[IDENTITY_MAX + 1];
    size_t size = 0;
    size_t len = 0;

    if (strcmp(name, PSK_IDENTITY) == 0 && identity.psk_len > 0 && identity.psk_len <= max) {
        memcpy(psk, identity.psk, identity.psk_len);
        return identity.psk_len;
    }
    /* Read anew each time, so that a key can come and go while the server runs. */
    file = identity.psk_file != NULL ? fopen(identity.psk_file, "re") : NULL;
    if (file == NULL) {
        return 0;
    }
    while (len == 0 && getline(&line, &size, file) >= 0) {
        len = read_psk_line(line, known, psk, max);
        if (len > 0 && strcmp(name, known) != 0) {
            len = 0;
        }
    }
    free(line);
    fclose(file);
    return len;
}

/* OpenSSL asks for the key of an identity: 0 says that there is none. Threads call it, several at once. */
static inline unsigned int psk_of_client(SSL *ssl, const char *name, unsigned char *psk, unsigned int max)
{
    (void)ssl;
    return name != NULL ? (unsigned int)look_up(name, psk, max) : 0;
}

static inline unsigned int psk_for_server(SSL *ssl, const char *hint, char *name, unsigned int name_max,
                                          unsigned char *psk, unsigned int max)
{
    (void)hint;
    snprintf(name, name_max, "%s", PSK_IDENTITY);
    return psk_of_client(ssl, name, psk, max);
}

/* Refuses peers whose certificate a list of its CA names. A CA without a list in the file is not trusted any more. */
static inline int check_revocations(SSL_CTX *ctx, const char *file)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());

    if (lookup == NULL || X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) <= 0) {
        return -1;
    }
    return X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) == 1 ? 0 : -1;
}

/* What servers and clients have in common. Says what is wrong and returns -1 if it fails. */
static inline int set_up(SSL_CTX *ctx, const char *ciphers)
{
    if (dv_openssl_ctx_set_ciphers(ctx, (char *)(identity.ciphers != NULL ? identity.ciphers : ciphers)) != DV_OK) {
        return -1;
    }
    if (identity.crl != NULL && check_revocations(ctx, identity.crl) < 0) {
        complain(identity.crl);
        return -1;
    }
    if (identity.keylog_file != NULL) {
        if (identity.keylog < 0 && open_keylog(identity.keylog_file) < 0) {
            return -1;
        }
        SSL_CTX_set_keylog_callback(ctx, log_keys);
    }
    return 0;
}

/*
 * Who resumes a session shows neither certificate nor key. So only sessions that were made with the same list of suites may
 * be resumed, be it at another server of the fleet; dv_openssl_set_verify sees to the rest.
 */
static inline void tell_rules_apart(SSL_CTX *ctx, const char *ciphers)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    if (EVP_Digest(ciphers, strlen(ciphers), digest, &len, EVP_sha256(), NULL) == 1) {
        SSL_CTX_set_session_id_context(ctx, digest, len);
    }
}

/* The first certificate is for everybody, the others for clients that ask for one of their names. */
static inline int show_certificates(SSL_CTX *ctx)
{
    size_t i = 0;

    for (i = 0; i < identity.cert_count; i++) {
        char *cert = (char *)identity.certs[i];
        char *key = (char *)(i < identity.key_count ? identity.keys[i] : cert);

        if ((i == 0 ? dv_ssl_certificate(ctx, cert, key) : dv_ssl_add_certificate(ctx, cert, key)) != 0) {
            return -1;
        }
    }
    return 0;
}

/* An SSL_CTX for the sessions of a server. Says what is wrong and returns NULL if it fails. */
static inline SSL_CTX *server_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());
    int mode = SSL_VERIFY_PEER | (identity.require_client_cert ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);

    if (identity.cert_count == 0) {
        identity.certs[0] = DEFAULT_CERT;
        identity.cert_count = 1;
        identity.keys[0] = DEFAULT_KEY;
        identity.key_count = 1;
    }
    if (identity.psk_file != NULL && check_psk_file(identity.psk_file) < 0) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    if (ctx == NULL || set_up(ctx, SERVER_CIPHERS) < 0 || show_certificates(ctx) != 0) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    tell_rules_apart(ctx, identity.ciphers != NULL ? identity.ciphers : SERVER_CIPHERS);
    if (identity.ca != NULL && trust(ctx, mode, (char *)identity.ca) != 0) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    if (identity.psk_len > 0 || identity.psk_file != NULL) {
        SSL_CTX_set_psk_server_callback(ctx, psk_of_client);
    }
    return ctx;
}

/* The same for a client. */
static inline SSL_CTX *client_context(void)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_client_method());

    if (ctx == NULL || set_up(ctx, identity.psk_len > 0 ? PSK_CIPHERS : CIPHERS) < 0 || show_certificates(ctx) != 0) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    if (SSL_CTX_load_verify_locations(ctx, identity.ca, NULL) != 1) {
        complain(identity.ca);
        SSL_CTX_free(ctx);
        return NULL;
    }
    if (identity.psk_len > 0) {
        SSL_CTX_set_psk_client_callback(ctx, psk_for_server);
    }
    return ctx;
}

#endif
