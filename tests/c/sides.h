/*
 * Two endpoints that exchange datagrams in memory.
 */
#ifndef SIDES_H
#define SIDES_H

#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <openssl/ssl.h>

#include "dv_dtls.h"

#include "check.h"

enum { BATCH = 8 };

static uint64_t now_us = 1000000;

struct side {
    dv_endpoint *endpoint;
    dv_address address;
    dv_session session;
    int opened, closed, reason;
    int messages, moved;
    char last[1500];
    size_t last_len;
    void *user;
};

static inline dv_address address(const char *ip, int port)
{
    dv_address a;

    memset(&a, 0, sizeof(a));
    if (strchr(ip, ':') != NULL) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons((uint16_t)port);
        inet_pton(AF_INET6, ip, &a.v6.sin6_addr);
    } else {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons((uint16_t)port);
        inet_pton(AF_INET, ip, &a.v4.sin_addr);
    }
    return a;
}

static inline SSL_CTX *context(const char *certs, const char *certificate)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_method());
    char file[512], key[512];

    snprintf(file, sizeof(file), "%s/ca.pem", certs);
    CHECK(SSL_CTX_load_verify_locations(ctx, file, NULL) == 1);
    snprintf(file, sizeof(file), "%s/%s.pem", certs, certificate);
    snprintf(key, sizeof(key), "%s/%s.key", certs, certificate);
    CHECK(dv_ssl_certificate(ctx, file, key) == 0);
    return ctx;
}

/* Takes what a side has to say, and gives its datagrams to the other one. Returns how many there were. */
static inline int carry(struct side *from, struct side *to, int joined)
{
    dv_datagram out[BATCH];
    dv_event event;
    int n, i, all = 0;

    while ((n = dv_endpoint_event(from->endpoint, &event)) == 1) {
        from->user = event.user;
        if (event.kind == DV_EVENT_OPENED) {
            from->opened++;
            from->session = event.session;
        } else if (event.kind == DV_EVENT_MESSAGE) {
            from->messages++;
            from->last_len = event.len;
            memcpy(from->last, event.data, event.len);
        } else if (event.kind == DV_EVENT_MOVED) {
            from->moved++;
        } else {
            CHECK(event.kind == DV_EVENT_CLOSED && event.data == NULL);
            from->closed++;
            from->reason = event.reason;
            CHECK(dv_session_state(from->endpoint, event.session) == DV_SESSION_CLOSED);
        }
    }
    CHECK(n == 0);
    while ((n = dv_endpoint_transmit(from->endpoint, out, BATCH, joined ? 64 : 1)) > 0) {
        for (i = 0; i < n; i++) {
            CHECK(joined || out[i].segment_size == 0);
            CHECK(memcmp(&out[i].peer, &to->address, sizeof(dv_address)) == 0);
            out[i].peer = from->address;
            out[i].local = to->address;
        }
        CHECK(dv_endpoint_receive(to->endpoint, now_us, out, (size_t)n) == 0);
        all += n;
    }
    CHECK(n == 0);
    now_us += 1000;
    return all;
}

static inline void settle(struct side *a, struct side *b)
{
    while (carry(a, b, 0) + carry(b, a, 0) > 0)
        ;
    carry(a, b, 0);
}

static inline dv_session connect_to(struct side *client, const struct side *server, const char *name,
                                    const dv_resumption *resume)
{
    dv_session session = 99;
    int result = dv_endpoint_connect(client->endpoint, now_us, &server->address.any, sizeof(server->address), name, resume,
                                     &session);

    CHECK(result == 0);
    return session;
}

/* Every function of an endpoint and its sessions, where none may be called. */
static inline void each_is_busy(const struct side *side)
{
    dv_endpoint *e = side->endpoint;
    dv_session s = side->session, connected;
    dv_stats stats;
    unsigned char key[DV_EXPORT_KEY_LEN] = "";
    dv_resumption *resumption;
    X509 *certificate;
    dv_datagram datagram;
    dv_event event;
    char text[64];
    long result;

    CHECK(dv_endpoint_receive(e, now_us, NULL, 0) == DV_ERR_BUSY);
    CHECK(dv_endpoint_event(e, &event) == DV_ERR_BUSY);
    CHECK(dv_endpoint_transmit(e, &datagram, 1, 1) == DV_ERR_BUSY);
    CHECK(dv_endpoint_advance(e, now_us) == DV_ERR_BUSY);
    CHECK(dv_endpoint_connect(e, now_us, &side->address.any, sizeof(dv_address), NULL, NULL, &connected) == DV_ERR_BUSY);
    CHECK(dv_endpoint_send(e, s, "x", 1) == DV_ERR_BUSY);
    CHECK(dv_endpoint_close(e, s) == DV_ERR_BUSY);
    CHECK(dv_endpoint_sessions(e, NULL, 0) == DV_ERR_BUSY);
    CHECK(dv_endpoint_stats(e, &stats, sizeof(stats)) == DV_ERR_BUSY);
    CHECK(dv_endpoint_export(e, 1, key, sizeof(key), NULL) == DV_ERR_BUSY);
    CHECK(dv_endpoint_export_commit(e) == DV_ERR_BUSY);
    CHECK(dv_endpoint_export_cancel(e) == DV_ERR_BUSY);
    CHECK(dv_endpoint_import(e, now_us, 0, key, sizeof(key), NULL) == DV_ERR_BUSY);
    CHECK(dv_session_set_user(e, s, text) == DV_ERR_BUSY);
    CHECK(dv_session_user(e, s) == NULL);
    CHECK(dv_session_state(e, s) == DV_ERR_BUSY);
    CHECK(dv_session_is_server(e, s) == DV_ERR_BUSY);
    CHECK(dv_session_is_resumed(e, s) == DV_ERR_BUSY);
    CHECK(dv_session_is_imported(e, s) == DV_ERR_BUSY);
    CHECK(dv_session_message_max(e, s) == DV_ERR_BUSY);
    CHECK(dv_session_addresses(e, s, NULL, NULL) == DV_ERR_BUSY);
    CHECK(dv_session_peer_certificate(e, s, &certificate) == DV_ERR_BUSY);
    CHECK(dv_session_verify_result(e, s, &result) == DV_ERR_BUSY);
    CHECK(dv_session_alpn(e, s, text, sizeof(text)) == DV_ERR_BUSY);
    CHECK(dv_session_server_name(e, s, text, sizeof(text)) == DV_ERR_BUSY);
    CHECK(dv_session_cipher(e, s, text, sizeof(text)) == DV_ERR_BUSY);
    CHECK(dv_session_psk_identity(e, s, text, sizeof(text)) == DV_ERR_BUSY);
    CHECK(dv_session_srtp_profile(e, s, text, sizeof(text)) == DV_ERR_BUSY);
    CHECK(dv_session_failure(e, s, text, sizeof(text)) == DV_ERR_BUSY);
    CHECK(dv_session_export_keying_material(e, s, "EXPORTER-t", NULL, 0, text, 8) == DV_ERR_BUSY);
    CHECK(dv_session_resumption(e, s, &resumption) == DV_ERR_BUSY);
    CHECK(dv_session_connection_id(e, s, text, sizeof(text)) == DV_ERR_BUSY);
    CHECK(dv_session_peer_connection_id(e, s, text, sizeof(text)) == DV_ERR_BUSY);
    CHECK(dv_session_is_peer_proven(e, s) == DV_ERR_BUSY);
    CHECK(dv_session_confirm_peer(e, s) == DV_ERR_BUSY);
}

#endif
