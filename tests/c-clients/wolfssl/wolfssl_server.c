/*
 * A DTLS server on wolfSSL with connection IDs, for one client at a time.
 *
 *     wolfssl_server CERTIFICATE-FILE KEY-FILE SUITE CID-LENGTH
 *
 * Prints its port on 127.0.0.1. Sends each message back, until the client says goodbye, and that for two sessions; prints a
 * line about each. Exit code 0: all went well.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <wolfssl/wolfcrypt/settings.h>
#include <wolfssl/ssl.h>

static int fail(WOLFSSL *ssl, int result, const char *what)
{
    char text[WOLFSSL_MAX_ERROR_SZ] = "";

    fprintf(stderr, "%s: %s\n", what, wolfSSL_ERR_error_string(wolfSSL_get_error(ssl, result), text));
    return 1;
}

static int serve(WOLFSSL_CTX *ctx, int fd, int cid_len)
{
    unsigned char cid[255];
    unsigned int received_len = 0, sent_len = 0;
    struct sockaddr_in peer;
    socklen_t peer_len = sizeof(peer);
    char message[1500];
    int len, result, failed = 0;
    WOLFSSL *ssl = wolfSSL_new(ctx);

    memset(cid, 0x55, sizeof(cid));
    if (recvfrom(fd, message, sizeof(message), MSG_PEEK, (struct sockaddr *)&peer, &peer_len) < 0) {
        return 1;
    }
    wolfSSL_dtls_set_peer(ssl, &peer, peer_len);
    wolfSSL_set_fd(ssl, fd);
    if (wolfSSL_dtls_cid_use(ssl) != WOLFSSL_SUCCESS ||
        (cid_len > 0 && wolfSSL_dtls_cid_set(ssl, cid, (unsigned int)cid_len) != WOLFSSL_SUCCESS)) {
        return fail(ssl, 0, "connection ID");
    }
    while ((result = wolfSSL_accept(ssl)) != WOLFSSL_SUCCESS) {
        if (wolfSSL_get_error(ssl, result) != WOLFSSL_ERROR_WANT_READ) {
            return fail(ssl, result, "accept");
        }
    }
    if (wolfSSL_dtls_cid_is_enabled(ssl) != 1) {
        return fail(ssl, 0, "no connection IDs");
    }
    wolfSSL_dtls_cid_get_rx_size(ssl, &received_len);
    wolfSSL_dtls_cid_get_tx_size(ssl, &sent_len);
    printf("%s resumed=%d received=%u sent=%u\n", wolfSSL_get_cipher_name(ssl), wolfSSL_session_reused(ssl), received_len,
           sent_len);
    fflush(stdout);
    while ((len = wolfSSL_read(ssl, message, sizeof(message))) > 0) {
        failed |= wolfSSL_write(ssl, message, len) != len;
    }
    if (wolfSSL_get_error(ssl, len) != WOLFSSL_ERROR_ZERO_RETURN) {
        return fail(ssl, len, "read");
    }
    wolfSSL_free(ssl);
    return failed;
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_DGRAM, 0), round, failed = 0;
    WOLFSSL_CTX *ctx;

    wolfSSL_Init();
    ctx = wolfSSL_CTX_new(wolfDTLSv1_2_server_method());
    if (argc != 5 || ctx == NULL || wolfSSL_CTX_use_certificate_chain_file(ctx, argv[1]) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_use_PrivateKey_file(ctx, argv[2], WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_set_cipher_list(ctx, argv[3]) != WOLFSSL_SUCCESS || bind(fd, (struct sockaddr *)&at, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        fprintf(stderr, "no context, or no socket\n");
        return 1;
    }
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (round = 0; round < 2 && !failed; round++) {
        failed = serve(ctx, fd, atoi(argv[4]));
    }
    wolfSSL_CTX_free(ctx);
    return failed;
}
