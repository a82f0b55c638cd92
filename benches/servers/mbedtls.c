/* An echo server on Mbed TLS: one context waits for the next stranger, and becomes his when he shows his cookie. */
#include "server.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cookie.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/timing.h>

struct session {
    mbedtls_ssl_context ssl;
    mbedtls_timing_delay_context timer;
    struct sockaddr_in peer;
};

static mbedtls_ssl_config config;
static mbedtls_ctr_drbg_context rng;
static struct session *spare;

static void check(int result, const char *what)
{
    char text[160] = "";

    if (result != 0) {
        mbedtls_strerror(result, text, sizeof(text));
        fprintf(stderr, "%s: %s\n", what, text);
        exit(1);
    }
}

static int push(void *to, const unsigned char *data, size_t len)
{
    return (int)send_datagram(to, data, len);
}

static int pull(void *from, unsigned char *data, size_t room)
{
    ssize_t len = take_datagram(data, room);

    (void)from;
    return len < 0 ? MBEDTLS_ERR_SSL_WANT_READ : (int)len;
}

static struct session *new_session(void)
{
    struct session *session = calloc(1, sizeof(*session));

    if (session == NULL) {
        die("calloc");
    }
    mbedtls_ssl_init(&session->ssl);
    check(mbedtls_ssl_setup(&session->ssl, &config), "session");
    mbedtls_ssl_set_timer_cb(&session->ssl, &session->timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
    mbedtls_ssl_set_bio(&session->ssl, &session->peer, push, pull, NULL);
    return session;
}

static void end(struct peer *peer)
{
    struct session *session = peer->session;

    mbedtls_ssl_close_notify(&session->ssl);
    mbedtls_ssl_free(&session->ssl);
    free(session);
    remove_peer(peer);
}

static void from_peer(struct peer *peer)
{
    static unsigned char message[DATAGRAM_MAX];
    struct session *session = peer->session;
    int result = 0;

    while ((result = mbedtls_ssl_read(&session->ssl, message, sizeof(message))) > 0) {
        mbedtls_ssl_write(&session->ssl, message, (size_t)result);
    }
    if (result != MBEDTLS_ERR_SSL_WANT_READ && result != MBEDTLS_ERR_SSL_WANT_WRITE) {
        end(peer);
    }
}

static void from_stranger(void)
{
    int result = 0;

    spare->peer = inbound.from;
    check(mbedtls_ssl_set_client_transport_id(&spare->ssl, (unsigned char *)&inbound.from, sizeof(inbound.from)), "peer");
    result = mbedtls_ssl_handshake(&spare->ssl);
    if (result == MBEDTLS_ERR_SSL_WANT_READ) {
        add_peer(&spare->peer, spare);
        spare = new_session();
    } else {
        mbedtls_ssl_session_reset(&spare->ssl);
    }
}

int main(int argc, char **argv)
{
    mbedtls_entropy_context entropy;
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
    mbedtls_ssl_cookie_ctx cookies;
    mbedtls_ssl_ticket_context tickets;

    check_usage(argc, argv);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&rng);
    mbedtls_ssl_config_init(&config);
    mbedtls_x509_crt_init(&certificate);
    mbedtls_pk_init(&key);
    mbedtls_ssl_cookie_init(&cookies);
    mbedtls_ssl_ticket_init(&tickets);
    check(mbedtls_ctr_drbg_seed(&rng, mbedtls_entropy_func, &entropy, NULL, 0), "random numbers");
    check(mbedtls_x509_crt_parse_file(&certificate, argv[2]), argv[2]);
    check(mbedtls_pk_parse_keyfile(&key, argv[3], NULL), argv[3]);
    check(mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
                                      MBEDTLS_SSL_PRESET_DEFAULT), "defaults");
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &rng);
    check(mbedtls_ssl_conf_own_cert(&config, &certificate, &key), "certificate");
    check(mbedtls_ssl_cookie_setup(&cookies, mbedtls_ctr_drbg_random, &rng), "cookies");
    mbedtls_ssl_conf_dtls_cookies(&config, mbedtls_ssl_cookie_write, mbedtls_ssl_cookie_check, &cookies);
    check(mbedtls_ssl_ticket_setup(&tickets, mbedtls_ctr_drbg_random, &rng, MBEDTLS_CIPHER_AES_256_GCM, 86400), "tickets");
    mbedtls_ssl_conf_session_tickets_cb(&config, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse, &tickets);
    spare = new_session();
    serve(argv[1], from_peer, from_stranger);
    return 0;
}
