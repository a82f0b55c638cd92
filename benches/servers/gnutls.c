/* An echo server on GnuTLS: cookies by gnutls_dtls_cookie_*, a session for each peer that has shown one. */
#include "server.h"

#include <gnutls/dtls.h>
#include <gnutls/gnutls.h>

static gnutls_datum_t cookie_key, ticket_key;
static gnutls_certificate_credentials_t credentials;
static gnutls_priority_t priorities;

static void check(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, gnutls_strerror(result));
        exit(1);
    }
}

static ssize_t push(gnutls_transport_ptr_t to, const void *data, size_t len)
{
    return send_datagram(to, data, len);
}

static ssize_t pull(gnutls_transport_ptr_t from, void *data, size_t room)
{
    ssize_t len = take_datagram(data, room);

    (void)from;
    errno = EAGAIN;
    return len;
}

static int pull_timeout(gnutls_transport_ptr_t from, unsigned int ms)
{
    (void)from;
    (void)ms;
    return inbound.len > 0;
}

static void end(struct peer *peer)
{
    gnutls_bye(peer->session, GNUTLS_SHUT_WR);
    gnutls_deinit(peer->session);
    remove_peer(peer);
}

static void from_peer(struct peer *peer)
{
    static unsigned char message[DATAGRAM_MAX];
    ssize_t len = 0;

    /* The session's pointer is set once the handshake is over. */
    if (gnutls_session_get_ptr(peer->session) == NULL) {
        int result = gnutls_handshake(peer->session);

        if (result != 0) {
            if (gnutls_error_is_fatal(result)) {
                end(peer);
            }
            return;
        }
        gnutls_session_set_ptr(peer->session, peer);
    }
    while ((len = gnutls_record_recv(peer->session, message, sizeof(message))) > 0) {
        gnutls_record_send(peer->session, message, (size_t)len);
    }
    if (len == 0 || gnutls_error_is_fatal((int)len)) {
        end(peer);
    }
}

static void from_stranger(void)
{
    gnutls_dtls_prestate_st prestate;
    gnutls_session_t session;
    struct peer *peer;

    memset(&prestate, 0, sizeof(prestate));
    if (gnutls_dtls_cookie_verify(&cookie_key, &inbound.from, sizeof(inbound.from), inbound.data, inbound.len, &prestate)
        < 0) {
        gnutls_dtls_cookie_send(&cookie_key, &inbound.from, sizeof(inbound.from), &prestate, &inbound.from, push);
        return;
    }
    check(gnutls_init(&session, GNUTLS_SERVER | GNUTLS_DATAGRAM | GNUTLS_NONBLOCK), "session");
    check(gnutls_priority_set(session, priorities), "priorities");
    check(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials), "credentials");
    check(gnutls_session_ticket_enable_server(session, &ticket_key), "tickets");
    peer = add_peer(&inbound.from, session);
    gnutls_dtls_prestate_set(session, &prestate);
    gnutls_dtls_set_mtu(session, 1400);
    gnutls_transport_set_ptr2(session, NULL, &peer->address);
    gnutls_transport_set_push_function(session, push);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    from_peer(peer);
}

int main(int argc, char **argv)
{
    check_usage(argc, argv);
    check(gnutls_certificate_allocate_credentials(&credentials), "credentials");
    check(gnutls_certificate_set_x509_key_file(credentials, argv[2], argv[3], GNUTLS_X509_FMT_PEM), argv[2]);
    check(gnutls_priority_init(&priorities, "NORMAL", NULL), "priorities");
    check(gnutls_key_generate(&cookie_key, GNUTLS_COOKIE_KEY_SIZE), "cookie key");
    check(gnutls_session_ticket_key_generate(&ticket_key), "ticket key");
    serve(argv[1], from_peer, from_stranger);
    return 0;
}
