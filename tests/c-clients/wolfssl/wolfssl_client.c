/*
 * A DTLS client on wolfSSL with connection IDs, which changes its port.
 *
 *     wolfssl_client PORT CA-FILE SUITE CID-LENGTH MOVES
 *
 * Connects to 127.0.0.1 twice, the second time with what it has kept of the first session. Asks for an echo, then MOVES
 * times from another port each. Prints a line about each session. Exit code 0: all went well.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <wolfssl/wolfcrypt/settings.h>
#include <wolfssl/ssl.h>

#define TRIES 200

static int fail(WOLFSSL *ssl, int result, const char *what)
{
    char text[WOLFSSL_MAX_ERROR_SZ] = "";

    fprintf(stderr, "%s: %s\n", what, wolfSSL_ERR_error_string(wolfSSL_get_error(ssl, result), text));
    return 1;
}

/* A socket with a port of its own. It waits for 100 ms, then wolfSSL looks after its timers. */
static int fresh_socket(const struct sockaddr_in *to)
{
    const struct timeval wait = {.tv_usec = 100000};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    return connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0 ? fd : -1;
}

static int echo(WOLFSSL *ssl, const char *message)
{
    char answer[100];
    int len, tries, result = wolfSSL_write(ssl, message, (int)strlen(message));

    if (result <= 0) {
        return fail(ssl, result, "write");
    }
    for (tries = 0; tries < TRIES; tries++) {
        len = wolfSSL_read(ssl, answer, sizeof(answer));
        if (len > 0) {
            return (size_t)len == strlen(message) && memcmp(answer, message, (size_t)len) == 0 ? 0 : 1;
        }
        if (wolfSSL_get_error(ssl, len) != WOLFSSL_ERROR_WANT_READ) {
            return fail(ssl, len, "read");
        }
    }
    fprintf(stderr, "no answer to \"%s\"\n", message);
    return 1;
}

static int talk(WOLFSSL *ssl, struct sockaddr_in *to, int cid_len, int moves)
{
    unsigned char cid[255], sent[255];
    unsigned int received_len = 0, sent_len = 0;
    char message[50];
    int move, result = 0, tries, old, fd = fresh_socket(to);

    memset(cid, 0x77, sizeof(cid));
    wolfSSL_dtls_set_peer(ssl, to, sizeof(*to));
    wolfSSL_set_fd(ssl, fd);
    if (wolfSSL_dtls_cid_use(ssl) != WOLFSSL_SUCCESS ||
        (cid_len > 0 && wolfSSL_dtls_cid_set(ssl, cid, (unsigned int)cid_len) != WOLFSSL_SUCCESS)) {
        return fail(ssl, 0, "connection ID");
    }
    for (tries = 0; tries < TRIES; tries++) {
        result = wolfSSL_connect(ssl);
        if (result == WOLFSSL_SUCCESS) {
            break;
        }
        if (wolfSSL_get_error(ssl, result) != WOLFSSL_ERROR_WANT_READ) {
            return fail(ssl, result, "connect");
        }
        if (wolfSSL_dtls_got_timeout(ssl) == WOLFSSL_FATAL_ERROR) {
            return fail(ssl, result, "timeout");
        }
    }
    if (result != WOLFSSL_SUCCESS || wolfSSL_dtls_cid_is_enabled(ssl) != 1) {
        return fail(ssl, result, "no handshake, or no connection IDs");
    }
    wolfSSL_dtls_cid_get_rx_size(ssl, &received_len);
    wolfSSL_dtls_cid_get_tx_size(ssl, &sent_len);
    wolfSSL_dtls_cid_get_tx(ssl, sent, sizeof(sent));
    for (move = 0; move <= moves; move++) {
        snprintf(message, sizeof(message), "from place %d", move);
        if (echo(ssl, message) != 0) {
            return 1;
        }
        /* In this order, or it might be the same port again. */
        old = fd;
        fd = fresh_socket(to);
        wolfSSL_set_fd(ssl, fd);
        close(old);
    }
    printf("%s resumed=%d received=%u sent=%u\n", wolfSSL_get_cipher_name(ssl), wolfSSL_session_reused(ssl), received_len,
           sent_len);
    wolfSSL_shutdown(ssl);
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    WOLFSSL_SESSION *session = NULL;
    WOLFSSL_CTX *ctx;
    WOLFSSL *ssl;
    int round, failed = 0;

    if (argc != 6) {
        return 2;
    }
    to.sin_port = htons((unsigned short)atoi(argv[1]));
    wolfSSL_Init();
    ctx = wolfSSL_CTX_new(wolfDTLSv1_2_client_method());
    if (ctx == NULL || wolfSSL_CTX_load_verify_locations(ctx, argv[2], NULL) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_set_cipher_list(ctx, argv[3]) != WOLFSSL_SUCCESS) {
        fprintf(stderr, "no context\n");
        return 1;
    }
    wolfSSL_CTX_UseSessionTicket(ctx);
    for (round = 0; round < 2 && !failed; round++) {
        ssl = wolfSSL_new(ctx);
        wolfSSL_check_domain_name(ssl, "localhost");
        if (session != NULL) {
            wolfSSL_set_session(ssl, session);
        }
        failed = talk(ssl, &to, atoi(argv[4]), atoi(argv[5]));
        session = wolfSSL_get1_session(ssl);
        wolfSSL_free(ssl);
    }
    wolfSSL_CTX_free(ctx);
    return failed;
}
