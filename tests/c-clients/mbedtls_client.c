/*
 * A DTLS client on Mbed TLS: each line of its input is a message, and what comes back is printed. The line "." ends the
 * session and begins another one that goes on from it, by its session id: beside a ticket, Mbed TLS 2.28 makes up another
 * session id for each hello, and a cookie is good for one only.
 *
 *     mbedtls_client ADDRESS PORT CA-FILE
 *
 * Exit code 0: the handshake was finished, and the end of the input was answered with a goodbye of ours.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/timing.h>

static int fail(const char *what, int error)
{
    char text[160] = "";

    mbedtls_strerror(error, text, sizeof(text));
    fprintf(stderr, "%s: %s\n", what, text);
    return 1;
}

static mbedtls_net_context net;
static mbedtls_ssl_context ssl;

/* A handshake, which waits for what comes. */
static int handshake(void)
{
    int ret = 0;

    mbedtls_net_set_block(&net);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, mbedtls_net_recv_timeout);
    do {
        ret = mbedtls_ssl_handshake(&ssl);
    } while (ret == MBEDTLS_ERR_SSL_WANT_READ || ret == MBEDTLS_ERR_SSL_WANT_WRITE);
    mbedtls_net_set_nonblock(&net);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    return ret;
}

/* Ends the session and begins another one that goes on from it. */
static int resume(void)
{
    mbedtls_ssl_session session;
    int ret = 0;

    mbedtls_ssl_session_init(&session);
    if ((ret = mbedtls_ssl_get_session(&ssl, &session)) == 0 && (ret = mbedtls_ssl_close_notify(&ssl)) == 0
        && (ret = mbedtls_ssl_session_reset(&ssl)) == 0 && (ret = mbedtls_ssl_set_session(&ssl, &session)) == 0) {
        ret = handshake();
    }
    mbedtls_ssl_session_free(&session);
    return ret;
}

/* One line of the input, without its newline, as a message. Returns 0 at the end of the input, and errors of Mbed TLS. */
static int pass_line(void)
{
    char line[1000];
    size_t len = 0;

    while (len < sizeof(line) && read(STDIN_FILENO, line + len, 1) == 1 && line[len] != '\n') {
        len++;
    }
    if (len == 1 && line[0] == '.') {
        int ret = resume();

        return ret == 0 ? 1 : ret;
    }
    if (len > 0) {
        mbedtls_ssl_write(&ssl, (unsigned char *)line, len);
    }
    return len > 0;
}

int main(int argc, char **argv)
{
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_ssl_config config;
    mbedtls_x509_crt ca;
    mbedtls_timing_delay_context timer;
    int ret = 0, open = 1;

    if (argc != 4) {
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    mbedtls_net_init(&net);
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&config);
    mbedtls_x509_crt_init(&ca);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_entropy_init(&entropy);
    if ((ret = mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0)) != 0
        || (ret = mbedtls_x509_crt_parse_file(&ca, argv[3])) < 0
        || (ret = mbedtls_net_connect(&net, argv[1], argv[2], MBEDTLS_NET_PROTO_UDP)) != 0
        || (ret = mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
                                              MBEDTLS_SSL_PRESET_DEFAULT)) != 0) {
        return fail("set-up", ret);
    }
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&config, &ca, NULL);
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_session_tickets(&config, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
    if ((ret = mbedtls_ssl_setup(&ssl, &config)) != 0 || (ret = mbedtls_ssl_set_hostname(&ssl, "localhost")) != 0) {
        return fail("set-up", ret);
    }
    mbedtls_ssl_set_timer_cb(&ssl, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
    if ((ret = handshake()) != 0) {
        return fail("handshake", ret);
    }

    /* A record without content is allowed, and no message: <https://github.com/openssl/openssl/issues/27316>. */
    mbedtls_ssl_write(&ssl, (const unsigned char *)"", 0);

    while (open) {
        struct pollfd waiting[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = net.fd, .events = POLLIN}};
        unsigned char message[2000];

        poll(waiting, 2, 100);
        if (waiting[0].revents != 0 && (open = pass_line()) < 0) {
            return fail("resume", open);
        }
        while ((ret = mbedtls_ssl_read(&ssl, message, sizeof(message))) > 0) {
            printf("%.*s\n", ret, (const char *)message);
        }
        if (ret != MBEDTLS_ERR_SSL_WANT_READ && ret != MBEDTLS_ERR_SSL_WANT_WRITE) {
            return fail("read", ret);
        }
    }
    mbedtls_ssl_close_notify(&ssl);
    return 0;
}
