/*
 * Bad input for the helpers that work on an SSL_CTX, a certificate, a name or a descriptor: a defined return value, a log
 * line that names the cause, nothing printed, no error left in OpenSSL's queue, and the same call with good input works
 * afterwards. argv[1] is the folder that certs/make-certs.sh fills.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "check.h"
#include "dv_dtls.h"

static char log_lines[8192];

static void collect(int level, const char *line, void *user)
{
    (void)level;
    CHECK(user == log_lines);
    strncat(log_lines, line, sizeof(log_lines) - strlen(log_lines) - 2);
    strcat(log_lines, "\n");
}

/* Whether the call before logged a line with both texts, and left OpenSSL's queue empty. */
static int said(const char *what, const char *why)
{
    int ok = strstr(log_lines, what) != NULL && strstr(log_lines, why) != NULL && ERR_peek_error() == 0;

    if (!ok) {
        fprintf(stderr, "wanted \"%s\" and \"%s\", logged \"%s\"\n", what, why, log_lines);
    }
    log_lines[0] = '\0';
    return ok;
}

static int quiet(void)
{
    return log_lines[0] == '\0' && ERR_peek_error() == 0;
}

static const char *folder;

/* The path of a file of the folder, in `path`. */
static char *in_folder(char path[PATH_MAX], const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

static char *repeated(const char *text, size_t times)
{
    size_t  length = strlen(text);
    char    *all = malloc(times * length + 1);
    size_t  i = 0;

    for (i = 0; i < times; i++) {
        memcpy(all + i * length, text, length);
    }
    all[times * length] = '\0';
    return all;
}

/* Files without a certificate, and why. */
static const struct {
    const char *name, *why;
} bad_files[] = {
    {"no-such-file.pem", "No such file"}, {"", "Is a directory"},          {"empty.pem", "the file is empty"},
    {"garbage.pem", "bad base64 decode"}, {"server-ecdsa.der", "it looks like DER"}, {"client.key", "no PEM certificate"},
};
#define BAD_FILES (sizeof(bad_files) / sizeof(bad_files[0]))

static void ciphers(SSL_CTX *ctx)
{
    char    good[] = "ECDHE+AESGCM", unknown[] = "NO-SUCH-CIPHER", empty[] = "", broken[] = "AES:@NONSENSE";
    char    *unknowns = repeated("NO-SUCH-CIPHER:", 1000), *too_long = repeated("AES128-SHA:", 100000);

    CHECK(dv_openssl_ctx_set_ciphers(NULL, good) == DV_ERROR && said("dv_openssl_ctx_set_ciphers", "ctx is NULL"));
    CHECK(dv_openssl_ctx_set_ciphers(ctx, NULL) == DV_ERROR && said("dv_openssl_ctx_set_ciphers", "ciphers is NULL"));
    CHECK(dv_openssl_ctx_set_ciphers(ctx, unknown) == DV_ERROR && said(unknown, "no cipher match"));
    CHECK(strstr(dv_last_error(), unknown) != NULL && strstr(dv_last_error(), "no cipher match") != NULL);
    CHECK(dv_openssl_ctx_set_ciphers(ctx, empty) == DV_ERROR && said("\"\"", "no cipher match"));
    CHECK(dv_openssl_ctx_set_ciphers(ctx, broken) == DV_ERROR && said(broken, "invalid command"));
    CHECK(dv_openssl_ctx_set_ciphers(ctx, unknowns) == DV_ERROR && said(unknown, "no cipher match"));
    CHECK(dv_openssl_ctx_set_ciphers(ctx, too_long) == DV_ERROR && said("1100000 bytes", "16384"));
    CHECK(dv_openssl_ctx_set_ciphers(ctx, good) == DV_OK && quiet());
    free(unknowns);
    free(too_long);
}

static void certificate(SSL_CTX *ctx)
{
    static const struct {
        const char *name, *why;
    } bad_keys[] = {
        {"no-such-file.key", "No such file"}, {"", "Is a directory"},
        {"empty.pem", "the file is empty"},   {"garbage.pem", "key file"},
        {"server-ecdsa-key.der", "key file"}, {"server-ecdsa.pem", "key file"},
        {"server-rsa.key", "mismatch"},       {"mismatched.key", "private key mismatch"},
        {"encrypted.key", "the context has no password callback"},
    };
    char    long_path[2 * PATH_MAX], cert[PATH_MAX], key[PATH_MAX], other[PATH_MAX];
    size_t  i = 0;

    in_folder(cert, "server-ecdsa.pem");
    in_folder(key, "server-ecdsa.key");
    memset(long_path, 'x', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';

    CHECK(dv_ssl_certificate(NULL, cert, key) == -1 && said("dv_ssl_certificate", "ctx is NULL"));
    CHECK(dv_ssl_certificate(ctx, NULL, key) == -1 && said("dv_ssl_certificate", "cert is NULL"));
    CHECK(dv_ssl_certificate(ctx, cert, NULL) == -1 && said("dv_ssl_certificate", "key is NULL"));
    CHECK(dv_ssl_certificate(ctx, long_path, key) == -1 && said("dv_ssl_certificate", "File name too long"));
    CHECK(dv_ssl_certificate(ctx, cert, long_path) == -1 && said("dv_ssl_certificate", "File name too long"));
    for (i = 0; i < BAD_FILES; i++) {
        CHECK(dv_ssl_certificate(ctx, in_folder(other, bad_files[i].name), key) == -1);
        CHECK(said(bad_files[i].name, bad_files[i].why));
    }
    for (i = 0; i < sizeof(bad_keys) / sizeof(bad_keys[0]); i++) {
        CHECK(dv_ssl_certificate(ctx, cert, in_folder(other, bad_keys[i].name)) == -1);
        CHECK(said(bad_keys[i].name, bad_keys[i].why));
        CHECK(strstr(dv_last_error(), bad_keys[i].why) != NULL);
    }
    CHECK(SSL_CTX_get0_certificate(ctx) == NULL && SSL_CTX_get0_privatekey(ctx) == NULL);

    CHECK(dv_ssl_certificate(ctx, cert, key) == 0 && quiet());
    CHECK(SSL_CTX_check_private_key(ctx) == 1);
    CHECK(dv_ssl_certificate(ctx, cert, in_folder(other, "mismatched.key")) == -1 && said("mismatched.key", "mismatch"));
    CHECK(SSL_CTX_check_private_key(ctx) == 1);

    SSL_CTX_set_default_passwd_cb_userdata(ctx, "wrong");
    CHECK(dv_ssl_certificate(ctx, cert, in_folder(other, "encrypted.key")) == -1 && said("encrypted.key", "bad decrypt"));
    SSL_CTX_set_default_passwd_cb_userdata(ctx, "dv_dtls");
    CHECK(dv_ssl_certificate(ctx, cert, in_folder(other, "encrypted.key")) == 0 && quiet());
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
    in_folder(cert, "server-chain5-rsa4096.pem");
    CHECK(dv_ssl_certificate(ctx, cert, in_folder(other, "server-chain5-rsa4096.key")) == 0 && quiet());

    in_folder(cert, "named.pem");
    CHECK(dv_ssl_add_certificate(NULL, cert, key) == -1 && said("dv_ssl_add_certificate", "ctx is NULL"));
    CHECK(dv_ssl_add_certificate(ctx, NULL, key) == -1 && said("dv_ssl_add_certificate", "cert is NULL"));
    CHECK(dv_ssl_add_certificate(ctx, cert, NULL) == -1 && said("dv_ssl_add_certificate", "key is NULL"));
    CHECK(dv_ssl_add_certificate(ctx, cert, key) == -1 && said("named.pem", "mismatch"));
    in_folder(other, "client.pem");
    CHECK(dv_ssl_add_certificate(ctx, other, key) == -1);
    CHECK(said("client.pem", "no DNS name"));
    for (i = 0; i < 3; i++) {
        CHECK(dv_ssl_add_certificate(ctx, cert, in_folder(other, "named.key")) == 0 && quiet());
    }
}

static void tickets(SSL_CTX *ctx)
{
    static const struct {
        const char *name, *why;
    } bad[] = {
        {"no-such-file", "No such file"}, {"", "Is a directory"}, {"empty.pem", "the file is empty"},
    };
    char    path[PATH_MAX];
    size_t  i = 0;

    CHECK(dv_ssl_share_tickets(NULL, in_folder(path, "server-ecdsa.key")) == -1);
    CHECK(said("dv_ssl_share_tickets", "ctx is NULL"));
    CHECK(dv_ssl_share_tickets(ctx, NULL) == -1 && said("dv_ssl_share_tickets", "secret_file is NULL"));
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK(dv_ssl_share_tickets(ctx, in_folder(path, bad[i].name)) == -1 && said(bad[i].name, bad[i].why));
    }
    CHECK(dv_ssl_share_tickets(ctx, in_folder(path, "server-ecdsa.key")) == 0 && quiet());
}

/* Takes what waits in one SSL to the other: one datagram for each flight does for a wire without loss. */
static void carry(SSL *from, SSL *to)
{
    char    flight[65536];
    int     length = BIO_read(SSL_get_wbio(from), flight, sizeof(flight));

    if (length > 0) {
        BIO_write(SSL_get_rbio(to), flight, length);
    }
}

/* Nothing is lost here, but under valgrind a handshake may take longer than libssl's second. */
static unsigned int an_hour(SSL *ssl, unsigned int timer_us)
{
    (void)ssl;
    (void)timer_us;
    return 3600000000u;
}

static SSL *end_of(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

    BIO_set_mem_eof_return(in, -1);
    BIO_set_mem_eof_return(out, -1);
    SSL_set_bio(ssl, in, out);
    SSL_set_options(ssl, SSL_OP_NO_QUERY_MTU);
    SSL_set_mtu(ssl, 1400);
    DTLS_set_timer_cb(ssl, an_hour);
    return ssl;
}

/* Whether a client that wants this name, or none, and a server come together; what the verdict of the client is. */
static int handshake(SSL_CTX *client_ctx, SSL_CTX *server_ctx, const char *name, int *verdict)
{
    SSL *client = end_of(client_ctx), *server = end_of(server_ctx);
    int round = 0, done = 0;

    if (name != NULL) {
        CHECK(dv_openssl_set_peer_name(client, name) == DV_OK && quiet());
    }
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    for (round = 0; round < 10; round++) {
        SSL_do_handshake(client);
        carry(client, server);
        SSL_do_handshake(server);
        carry(server, client);
    }
    done = SSL_is_init_finished(client) && SSL_is_init_finished(server);
    ERR_clear_error();
    log_lines[0] = '\0';
    *verdict = dv_openssl_get_verify_result(client);
    CHECK((*verdict == DV_OK) == quiet());
    log_lines[0] = '\0';
    SSL_free(client);
    SSL_free(server);
    return done;
}

static void verify(SSL_CTX *client, SSL_CTX *server)
{
    int     modes[] = {SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT};
    int     verdict = 0;
    char    ca[PATH_MAX], other[PATH_MAX];
    size_t  i = 0, m = 0;

    in_folder(ca, "ca.pem");
    dv_openssl_set_verify(NULL, SSL_VERIFY_PEER, ca);
    CHECK(said("dv_openssl_set_verify", "ctx is NULL"));
    for (m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
        for (i = 0; i < BAD_FILES; i++) {
            dv_openssl_set_verify(client, modes[m], in_folder(other, bad_files[i].name));
            CHECK(said(bad_files[i].name, bad_files[i].why));
            CHECK(!handshake(client, server, NULL, &verdict) && verdict == DV_ERROR);
        }
        dv_openssl_set_verify(client, modes[m], NULL);
        CHECK(said("dv_openssl_set_verify", "peer_cf is NULL"));
        CHECK(!handshake(client, server, NULL, &verdict) && verdict == DV_ERROR);

        dv_openssl_set_verify(client, modes[m], ca);
        CHECK(quiet());
        CHECK(handshake(client, server, NULL, &verdict) && verdict == DV_OK);
    }
    dv_openssl_set_verify(client, 0x100, ca);
    CHECK(said("dv_openssl_set_verify", "0x100"));
    CHECK(!handshake(client, server, NULL, &verdict) && verdict == DV_ERROR);
    dv_openssl_set_verify(client, SSL_VERIFY_PEER, ca);
    CHECK(quiet());

    dv_openssl_set_verify(server, SSL_VERIFY_NONE, in_folder(other, "garbage.pem"));
    CHECK(said("garbage.pem", "bad base64 decode"));
    CHECK(!handshake(client, server, NULL, &verdict) && verdict == DV_ERROR);
    dv_openssl_set_verify(server, SSL_VERIFY_NONE, ca);
    CHECK(quiet());

    CHECK(dv_openssl_get_verify_result(NULL) == DV_ERROR && said("dv_openssl_get_verify_result", "NULL"));
    CHECK(dv_openssl_callback(0, NULL) == 0 && dv_openssl_callback(1, NULL) == 1 && quiet());
}

static void peer_name(SSL_CTX *client, SSL_CTX *server)
{
    static const char *const bad[] = {"",  ".",     "a b", "*.example.org", ".example.org", "[::1]", "::1%lo",
                                      "127.0.0.1:7838", "\xff", "a\nb", "127.1"};
    SSL     *ssl = SSL_new(client);
    char    *too_long = repeated("a.", 100000);
    int     verdict = 0;
    size_t  i = 0;

    CHECK(dv_openssl_set_peer_name(NULL, "localhost") == DV_ERROR && said("dv_openssl_set_peer_name", "SSL is NULL"));
    CHECK(dv_openssl_set_peer_name(ssl, NULL) == DV_ERROR && said("dv_openssl_set_peer_name", "name is NULL"));
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK(dv_openssl_set_peer_name(ssl, bad[i]) == DV_ERROR && said("peer name", "address"));
    }
    CHECK(dv_openssl_set_peer_name(ssl, too_long) == DV_ERROR && said("peer name", "at most 255"));
    free(too_long);
    SSL_free(ssl);

    CHECK(handshake(client, server, "localhost", &verdict) && verdict == DV_OK);
    CHECK(handshake(client, server, "::1", &verdict) && verdict == DV_OK);
    CHECK(!handshake(client, server, "example.org", &verdict) && verdict == DV_ERROR);
    CHECK(!handshake(client, server, "127.0.0.2", &verdict) && verdict == DV_ERROR);
}

static void epoll(void)
{
    struct epoll_event ev;
    int                epfd = epoll_create1(EPOLL_CLOEXEC);
    int                fd = socket(AF_INET, SOCK_DGRAM, 0);
    int                closed = dup(fd);

    memset(&ev, 0, sizeof(ev));
    close(closed);
    dv_add_epoll_event(epfd, &ev, closed);
    CHECK(said("dv_add_epoll_event", "Bad file descriptor"));
    dv_add_epoll_event(epfd, NULL, -1);
    CHECK(said("descriptor -1", "Bad file descriptor"));
    dv_add_epoll_event(closed, &ev, fd);
    CHECK(said("dv_add_epoll_event", "Bad file descriptor"));
    dv_add_epoll_event(fd, &ev, epfd);
    CHECK(said("dv_add_epoll_event", "Invalid argument"));

    dv_add_epoll_event(epfd, &ev, fd);
    CHECK(quiet() && ev.events == EPOLLIN && ev.data.fd == fd);
    dv_add_epoll_event(epfd, &ev, fd);
    dv_add_epoll_event(epfd, NULL, fd);
    CHECK(quiet());
    close(fd);
    close(epfd);
}

static void version(void)
{
    CHECK(strcmp(dv_version(), DV_VERSION) == 0);
    CHECK(dv_version_num() == DV_VERSION_NUM);
    CHECK(dv_check_version(DV_VERSION_NUM) == DV_OK && quiet());
    CHECK(dv_check_version(UINT_MAX) == DV_ERROR && said("is wanted", DV_VERSION));
}

/* Runs everything with stdout and stderr in a file, which stays empty unless a check fails. */
static void all_in_silence(void)
{
    FILE    *file = tmpfile();
    int     out = dup(1), err = dup(2);
    char    path[PATH_MAX];
    SSL_CTX *client = SSL_CTX_new(DTLS_client_method()), *server = SSL_CTX_new(DTLS_server_method());
    int     c = 0;

    fflush(stdout);
    dup2(fileno(file), 1);
    dup2(fileno(file), 2);

    dv_set_log_callback(4, collect, log_lines);
    certificate(server);
    tickets(server);
    ciphers(server);
    ciphers(client);
    verify(client, server);
    peer_name(client, server);
    epoll();
    version();
    dv_set_log_callback(0, NULL, NULL);

    /* Without anybody who listens, it is silent too. */
    CHECK(dv_ssl_certificate(server, in_folder(path, "garbage.pem"), path) == -1 && quiet());

    fflush(stdout);
    fflush(stderr);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    CHECK(lseek(fileno(file), 0, SEEK_END) == 0);
    rewind(file);
    while ((c = fgetc(file)) != EOF) {
        fputc(c, stderr);
    }
    fclose(file);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s folder-of-certificates\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    all_in_silence();
    return check_report("bad_input_context");
}
