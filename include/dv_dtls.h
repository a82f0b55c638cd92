/*
 * dv_dtls: DTLS for many clients on one UDP socket, on the system's OpenSSL (3.0 or later).
 *
 * WHAT IT IS
 *
 * OpenSSL does the handshakes. This library does the rest of what a program with many peers on one
 * UDP socket needs: it finds the connection that a datagram belongs to, answers strangers with a
 * cookie without keeping anything for them, keeps flights within the MTU and retransmits what was
 * lost, encrypts and decrypts messages, and limits what peers can make it keep. There are three
 * ways to use it:
 *
 *     helpers    dv_dtls_*, dv_openssl_*    for a program that has such helpers of its own today
 *     endpoint   dv_endpoint_*              for a program with its own loop: no socket, no callback
 *     server     dv_server_*                the library has the sockets, the threads and the loop
 *
 * In each of them the program makes the SSL_CTX, with OpenSSL's functions and those of the section
 * "context". Link with -ldv_dtls -lssl -lcrypto (pkg-config: dv_dtls libssl libcrypto); the program
 * must use the same libssl as the library. c-examples/ has programs for each way.
 *
 * THE HELPERS, in the order of their calls. Once:
 *
 *     dv_check_version(DV_VERSION_NUM);          DV_ERROR: library too old, or another OpenSSL
 *     ctx = SSL_CTX_new(DTLS_server_method());
 *     dv_ssl_certificate(ctx, "server.pem", "server.key");
 *     dv_openssl_ctx_set_ciphers(ctx, "ECDHE+AESGCM");
 *     SSL_CTX_set_options(ctx, SSL_OP_COOKIE_EXCHANGE);
 *     SSL_CTX_set_cookie_generate_cb(ctx, dv_dtls_generate_cookie_callback);
 *     SSL_CTX_set_cookie_verify_cb(ctx, dv_dtls_verify_cookie_callback);
 *     dv_add_epoll_event(epfd, &ev, fd);
 *
 * then, in the loop:
 *
 *     n = epoll_wait(epfd, events, EVENTS_MAX, dv_dtls_next_timeout());
 *     dv_dtls_handle_timeouts();
 *
 * and for each datagram:
 *
 *     memset(&key, 0, sizeof(key));              recvfrom does not fill all of it
 *     addrlen = sizeof(key);                     recvfrom shortens it: set it every time
 *     n = recvfrom(fd, in, sizeof(in), 0, &key.addr, &addrlen);
 *     if (n <= 0)
 *         continue;                              an error is no reason to leave the loop
 *     conn = dv_dtls_conn_find(&key);
 *     if (conn == NULL) {
 *         conn = dv_dtls_conn_new(ctx, in, n, fd, &key, addrlen);   NULL: no proven peer yet
 *     } else {
 *         n = dv_dtls_read(conn, in, n, fd, out, sizeof(out), addrlen);
 *         n > 0: a message   n == 0: handshake, or nothing yet
 *         n < 0: over: dv_dtls_shutdown(conn, fd, addrlen); dv_dtls_conn_free(conn);
 *         to answer: dv_dtls_write(conn, message, len, fd, in, sizeof(in), addrlen);
 *     }
 *
 * After a message, dv_dtls_read(conn, NULL, 0, ...) takes the next one of the same datagram, until
 * it returns 0 or less. A loop without the two calls about timeouts works too, as every call does a
 * part of what is due.
 *
 * A client sets up its SSL_CTX with the same functions, says with dv_openssl_set_peer_name which
 * name the server's certificate must have, and then uses SSL_connect, SSL_read and SSL_write.
 *
 * THE ENDPOINT, a server, a client, or both in one handle, without a socket:
 *
 *     dv_config_init(&config, sizeof(config));       the defaults; change what should be different
 *     dv_endpoint_new(ctx, &config, &endpoint);
 *     for (;;) {
 *         wait for the socket, until dv_endpoint_deadline(endpoint) at the latest;
 *         if something came:    dv_endpoint_receive(endpoint, now_us, datagrams, count);
 *         dv_endpoint_advance(endpoint, now_us);
 *         while (dv_endpoint_event(endpoint, &event) == 1)
 *             DV_EVENT_OPENED, DV_EVENT_MESSAGE, DV_EVENT_CLOSED; to answer: dv_endpoint_send(...);
 *         while ((n = dv_endpoint_transmit(endpoint, out, max, 1)) > 0)
 *             send the n datagrams at out;
 *     }
 *
 * THE SERVER, an endpoint in each of its threads, with sockets and a loop around it:
 *
 *     dv_callbacks callbacks = { .size = sizeof(callbacks), .message = on_message };
 *     dv_server_new(ctx, &config, &callbacks, user, &server);    &config may be NULL
 *     dv_server_bind(server, NULL, "4433");
 *     dv_server_run(server);                         until dv_server_stop
 *     dv_server_free(server);
 *
 * where on_message answers with dv_endpoint_send(endpoint, event->session, ...), and other threads
 * send with dv_server_send.
 *
 * CONVENTIONS, unless a function says otherwise
 *
 * Pointers   NULL where something is required is an error, not a crash.
 * Errors     are reported by the return value; a function that has failed has changed nothing. The
 *            cause is in the log (dv_set_log_callback) and in dv_last_error; the helpers for
 *            connections set errno instead. The library prints nothing unless the operator asks for
 *            it (DV_LOG), never exits, and installs no signal handler.
 * Ownership  What is passed in stays the caller's, and need only live during the call.
 * Blocking   A helper that is given a descriptor sends with sendto(), which may block if the
 *            descriptor does. Apart from that, only functions that say so wait.
 * Threads    Different connections may be used by different threads at the same time, each
 *            connection (or BIO, or SSL) by one thread at a time. The table may be used by all
 *            threads. An endpoint, with its sessions, is used by one thread at a time; a server by
 *            any, until dv_server_free. One thread sets up an SSL_CTX, before it is used.
 * Callbacks  that the program has set with OpenSSL's functions (verify, PSK, server name, info and
 *            so on) run in the middle of a call. They may call the library, but not about the
 *            connection or the endpoint that this call is about: that changes nothing, and sets
 *            errno to EBUSY or gives DV_ERR_BUSY; if the function returns nothing, the log says so.
 *            Callbacks must not leave the call by longjmp() or an exception.
 * fork       Two processes that encrypt with the same key would repeat nonces, so what was made
 *            before a fork sends nothing in the child: there the helpers' table is empty,
 *            connections give ENOTCONN, endpoints and servers DV_ERR_FORKED. All of them can be
 *            freed. A child of _Fork() or clone() is noticed from Linux 4.14 on; one of vfork()
 *            must not call the library.
 * Sizes      Later versions may add members to dv_config, dv_callbacks and dv_stats. So the program
 *            says how long its struct is: in an argument where the library fills it, in the first
 *            member where the library reads it.
 * Units      Lengths and sizes are in bytes; times are in milliseconds unless the name has another
 *            unit.
 * in_buf,    of dv_dtls_read and dv_dtls_write: `in' is what the function reads, `out' is what it
 * out_buf    writes.
 * addrlen    is the length of the peer's address. If it does not fit the address family, the length
 *            for the family is used.
 *
 * KEEPING SOME HELPERS OF YOUR OWN
 *
 * A file with its own static version of a helper defines DV_OMIT_ and the helper's name in
 * capitals, without dv_, before it includes this header: DV_OMIT_DTLS_CONN_HASH, for instance,
 * leaves out the declaration of dv_dtls_conn_hash. DV_OMIT_TYPES leaves out dv_udp_conn_key_t and
 * dv_udp_conn_t, which the file must then have declared itself. Some helpers can only be replaced
 * together: the two cookie callbacks; and the four table functions (add, del, find and table_init)
 * with dv_dtls_conn_new, which needs the library's table.
 *
 * DV_LIST_NODE is the type of the list member of dv_udp_conn_t. To have your own there, such as
 * struct list_head, define it before the include; it must consist of two pointers.
 */

/* Made by cbindgen from src/ffi: change it there, then `make header`. */

#ifndef DV_DTLS_H
#define DV_DTLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <openssl/ssl.h>

/** The version of this header as text; dv_version() has the library's. */
#define DV_VERSION "0.1.0"

/** The version of this header: major * 65536 + minor * 256 + patch. */
#define DV_VERSION_NUM 0x000100

#ifndef DV_LIST_NODE
#define DV_LIST_NODE struct dv_list_node
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ----------------------------------------------------------------------------------------------
 * types: The types that the helpers share with their callers.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OK)
/** Success. */
#define DV_OK 0
#endif

#if !defined(DV_ERROR)
/** Failure. */
#define DV_ERROR (-1)
#endif

#if !defined(DTLS_RECORD_MAX_LEN)
/** The largest UDP payload, in bytes: no receive buffer needs to be larger. */
#define DTLS_RECORD_MAX_LEN (65535 - 8)
#endif

/** A link of an intrusive list for the program's own use. The library's table does not need it. */
typedef struct dv_list_node {
    /** The next link, or NULL. */
    struct dv_list_node *next;
    /** The previous link, or NULL. */
    struct dv_list_node *prev;
} dv_list_node;

#if !defined(DV_OMIT_TYPES)
/**
 * The address of a peer, and the key of its connection. Clear the whole union before you write an
 * address into it.
 */
typedef union _dv_udp_conn_key_t {
    /** The address family. */
    struct sockaddr addr;
    /** The address, when the family is AF_INET. */
    struct sockaddr_in addr4;
    /** The address, when the family is AF_INET6. */
    struct sockaddr_in6 addr6;
} dv_udp_conn_key_t;
#endif

#if !defined(DV_OMIT_TYPES)
/**
 * A connection. The program may read all members, change list, and use ssl between two calls of the
 * library: to ask for the peer's certificate, but also with SSL_read() and SSL_write().
 */
typedef struct _dv_udp_conn_t {
    /** A link for a list of the program's own. dv_dtls_conn_free() unlinks it. */
    DV_LIST_NODE list;
    /** The peer's address. */
    union _dv_udp_conn_key_t key;
    /**
     * The SSL, which belongs to the connection. NULL once the library has given the connection up.
     */
    void *ssl;
    /**
     * The BIO that ssl reads from; NULL when ssl is. Each BIO_write() puts in one datagram; up to
     * 64 can wait there.
     */
    void *rbio;
    /**
     * The BIO that ssl writes to; NULL when ssl is. What SSL_write() has written waits there for
     * dv_dtls_msg_send(), for the next call about the connection, or for BIO_read(), which takes as
     * many whole datagrams as fit. When 256 KiB wait, SSL_write() fails with SSL_ERROR_WANT_WRITE.
     */
    void *wbio;
} dv_udp_conn_t;
#endif

/* ----------------------------------------------------------------------------------------------
 * context: Setting up an SSL_CTX, checking the peer's certificate, and watching a socket.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_OPENSSL_CTX_SET_CIPHERS)
/**
 * Sets the ciphers of a context, and with them the key exchange groups (X25519, P-256, P-384 and
 * P-521) and the only protocol version, DTLS 1.2.
 *
 * @param ctx the SSL_CTX
 * @param ciphers a list of TLS 1.2 ciphers in OpenSSL's notation, such as "ECDHE+AESGCM"
 *
 * @return DV_OK or DV_ERROR.
 *
 * Errors: OpenSSL knows no cipher in the list, or the list is longer than 16384 bytes.
 */
int dv_openssl_ctx_set_ciphers(void *ctx, char *ciphers);
#endif

#if !defined(DV_OMIT_OPENSSL_CALLBACK)
/**
 * The verify callback that dv_openssl_set_verify() installs. It accepts what OpenSSL accepts: a
 * chain that does not verify fails the handshake, and the log says why.
 *
 * @param ok OpenSSL's verdict on a certificate of the chain
 * @param store what the verdict is about
 *
 * @return ok.
 */
int dv_openssl_callback(int ok, X509_STORE_CTX *store);
#endif

#if !defined(DV_OMIT_OPENSSL_SET_VERIFY)
/**
 * Sets how the peer's certificate is checked, and adds CA certificates to those that the context
 * already trusts. A server also sends the names of the CAs from the latest call to its clients.
 *
 * It also sets the session id context, so that a session is resumed only under the mode and the CA
 * file it was made under.
 *
 * @param ctx the SSL_CTX
 * @param mode SSL_VERIFY_NONE, or SSL_VERIFY_PEER, alone or with other SSL_VERIFY_* bits
 * @param peer_cf a PEM file of CA certificates. It may also hold revocation lists, which are used
 *     once X509_V_FLAG_CRL_CHECK is set on the context's X509_STORE
 *
 * Errors: the file cannot be loaded or is NULL, or the mode has other bits. As this function
 * returns nothing, and a program must not run unprotected without knowing, every handshake of an
 * SSL that is then made from the context fails, whatever the mode, until a call succeeds.
 */
void dv_openssl_set_verify(void *ctx, int mode, char *peer_cf);
#endif

#if !defined(DV_OMIT_OPENSSL_GET_VERIFY_RESULT)
/**
 * Tells whether the peer has proved to be who it must be.
 *
 * @param s the SSL
 *
 * @return DV_OK when the handshake is finished and the peer's chain and name verified, whatever the
 *     verify mode; with SSL_VERIFY_FAIL_IF_NO_PEER_CERT in the mode, there must also be a
 *     certificate. Otherwise DV_ERROR. OpenSSL's error queue is left as it was.
 */
int dv_openssl_get_verify_result(void *s);
#endif

#if !defined(DV_OMIT_SSL_CERTIFICATE)
/**
 * Loads a context's own certificate, with its chain and private key. A certificate with another
 * type of key is added beside the ones that are there; one with the same type of key replaces the
 * earlier one.
 *
 * Nobody is prompted for a password: an encrypted key needs a password callback on the context
 * (SSL_CTX_set_default_passwd_cb).
 *
 * @param ctx the SSL_CTX
 * @param cert a PEM file: the certificate, then the rest of its chain in the order it is sent
 * @param key a PEM file with the private key of the first certificate
 *
 * @return 0 or -1.
 *
 * Errors: a file cannot be read, holds no certificate or no key, or is larger than 16 MiB; the key
 * does not belong to the certificate; OpenSSL's security level refuses one of them.
 */
int dv_ssl_certificate(void *ctx, char *cert, char *key);
#endif

/**
 * Adds a certificate, with its chain and private key, for clients that ask for one of its DNS names
 * (SNI). All others are shown the certificate of dv_ssl_certificate(). Where several match, with
 * the same type of key, the one that was added first is shown.
 *
 * It sets the context's certificate callback (SSL_CTX_set_cert_cb). The server name callback stays
 * the program's; if that calls SSL_set_SSL_CTX(), the certificates of the new context are used.
 *
 * @param ctx the SSL_CTX
 * @param cert a PEM file as for dv_ssl_certificate(). Its names are the DNS names in
 *     subjectAltName; a wildcard can only be the whole first label ("*.example.org")
 * @param key a PEM file with the private key of the first certificate
 *
 * @return 0 or -1.
 *
 * Errors: those of dv_ssl_certificate(), and a certificate without a DNS name.
 */
int dv_ssl_add_certificate(void *ctx, const char *cert, const char *key);

/**
 * Encrypts a context's session tickets with keys derived from a file, so that servers which share
 * the file resume each other's sessions, and their own after a restart. A dv_server with a
 * secret_file does this by itself.
 *
 * @param ctx the SSL_CTX
 * @param secret_file a file of at least 16 random bytes, for instance the one that
 *     DV_COOKIE_SECRET_FILE names
 *
 * @return 0 or -1.
 *
 * Errors: the file cannot be read, is too short, or is larger than 16 MiB.
 */
int dv_ssl_share_tickets(void *ctx, const char *secret_file);

#if !defined(DV_OMIT_ADD_EPOLL_EVENT)
/**
 * Adds a descriptor to an epoll set, for input (EPOLLIN, level-triggered). One that is already
 * there is left as it is.
 *
 * @param epfd the epoll descriptor
 * @param ev receives the event that was asked for, with the descriptor in data.fd; may be NULL
 * @param fd the descriptor to watch
 *
 * Errors: they go to the log only.
 */
void dv_add_epoll_event(int epfd, struct epoll_event *ev, int fd);
#endif

/**
 * Sets the name or address that the server's certificate must have, and sends a name to the server
 * (SNI). For clients, before SSL_connect(). Without it, any certificate from a trusted CA is
 * accepted.
 *
 * @param s the SSL
 * @param name a DNS name such as "server.example.org", or an IPv4 or IPv6 address
 *
 * @return DV_OK or DV_ERROR. A later name replaces an earlier one.
 *
 * Errors: the name is neither, or is longer than 255 bytes; the handshake has already begun.
 */
int dv_openssl_set_peer_name(void *s, const char *name);

/* ----------------------------------------------------------------------------------------------
 * cookies: The cookie callbacks, for SSL_CTX_set_cookie_generate_cb() and
 * SSL_CTX_set_cookie_verify_cb().
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_GENERATE_COOKIE_CALLBACK)
/**
 * Makes a 21-byte cookie for the peer of an SSL. For SSL_CTX_set_cookie_generate_cb().
 *
 * dv_dtls_conn_new() does not call it. Where it is set, the library makes and checks the cookies
 * itself, over the ClientHello as well; also where it is a callback of the program's own that calls
 * it, as the two cannot be told apart. DTLSv1_listen() and SSL_accept() do call it: the cookie is
 * then made over the address that the SSL's rbio reports (BIO_dgram_get_peer), or, where there is
 * none, is good for this SSL only.
 *
 * @param ssl the SSL
 * @param cookie receives the cookie: room for 21 bytes (libssl provides 255)
 * @param cookie_len receives the length of the cookie in bytes
 *
 * @return 1, or 0 if an argument is NULL.
 *
 * Threads: any; an SSL is used by one at a time.
 */
int dv_dtls_generate_cookie_callback(SSL *ssl, unsigned char *cookie, unsigned int *cookie_len);
#endif

#if !defined(DV_OMIT_DTLS_VERIFY_COOKIE_CALLBACK)
/**
 * Checks a cookie made by dv_dtls_generate_cookie_callback(). For SSL_CTX_set_cookie_verify_cb().
 *
 * @param ssl the SSL
 * @param cookie the cookie that the peer returned
 * @param cookie_len its length in bytes
 *
 * @return 1 if it was made for this peer and has not expired (it is good for at least four
 *     minutes), else 0.
 *
 * Threads: any; an SSL is used by one at a time.
 */
int dv_dtls_verify_cookie_callback(SSL *ssl, const unsigned char *cookie, unsigned int cookie_len);
#endif

/* ----------------------------------------------------------------------------------------------
 * table: The table of connections, by peer address.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_CONN_TABLE_INIT)
/**
 * Sets up the table. Never needed, as the first use of the table does it too; harmless at any time:
 * no connection is lost.
 */
void dv_dtls_conn_table_init(void);
#endif

#if !defined(DV_OMIT_DTLS_CONN_HASH)
/**
 * Hashes a key: the MD5 of all its bytes, as four words in native byte order that are XORed into
 * one, modulo 65535.
 *
 * The library's table does not use it, since peers can choose addresses that collide. It is there
 * for programs that do.
 *
 * @param key a key that was cleared before the address was written into it; NULL gives 0
 *
 * @return a number from 0 to 65534.
 */
unsigned int dv_dtls_conn_hash(dv_udp_conn_key_t *key);
#endif

#if !defined(DV_OMIT_DTLS_CONN_ADD)
/**
 * Adds a connection to the table, under its key.
 *
 * A connection of dv_dtls_conn_new() is in the table from the start; adding one that is there
 * changes nothing. Where several have the same key, dv_dtls_conn_find() finds the oldest. A
 * connection that the program allocated counts towards no limit, and the library never gives it up.
 *
 * @param conn a connection that the program allocated, or that dv_dtls_conn_del() has taken out. It
 *     must live until it is taken out again
 *
 * Errors: a NULL, or a key without an IPv4 or IPv6 address, is only logged.
 */
void dv_dtls_conn_add(dv_udp_conn_t *conn);
#endif

#if !defined(DV_OMIT_DTLS_CONN_DEL)
/**
 * Takes a connection out of the table. Only the pointer counts: its SSL may already have been
 * freed.
 *
 * In a callback of OpenSSL's, while another thread does what is due for conn, nothing is done and
 * errno is set to EBUSY.
 *
 * @param conn the connection, which stays the caller's; NULL, or one that is not in the table, is
 *     fine
 */
void dv_dtls_conn_del(dv_udp_conn_t *conn);
#endif

#if !defined(DV_OMIT_DTLS_CONN_FIND)
/**
 * Finds the connection of a peer. What is due is done first.
 *
 * @param key the peer's address; NULL finds nothing
 *
 * @return the connection, or NULL. errno has no meaning.
 *
 * Ownership: the connection stays in the table. It can be read until dv_dtls_conn_free(), even if
 * the library gives it up in the meantime.
 *
 * Threads: any may search. As long as another thread was the last to use a connection, that thread
 * may give it up. dv_dtls_read(), dv_dtls_write() and dv_dtls_shutdown() make it the calling
 * thread's: look at its ssl only after one of these.
 */
dv_udp_conn_t *dv_dtls_conn_find(dv_udp_conn_key_t *key);
#endif

/* ----------------------------------------------------------------------------------------------
 * connection: How connections are made from a ClientHello, shut down and freed.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_CONN_NEW)
/**
 * Takes a datagram from a peer that dv_dtls_conn_find() does not know, and makes a connection once
 * the peer has proved its address.
 *
 * With SSL_OP_COOKIE_EXCHANGE on ctx, a ClientHello without a valid cookie is answered with a
 * HelloVerifyRequest, and nothing is kept (RFC 6347 4.2.1). The ClientHello that brings the cookie
 * back makes the connection; any other datagram is dropped. Without the option, the first
 * ClientHello makes one. The server's first flight is sent before the function returns.
 *
 * A ClientHello makes one connection: while that is in the table, where dv_dtls_conn_find() finds
 * it, a copy of the ClientHello gives NULL, on any thread.
 *
 * If ctx has cookie callbacks of the program's own, these are used. No answer is longer than the
 * datagram, so cookies of more than about 150 bytes are not sent, and the log says so.
 *
 * @param ctx an SSL_CTX for servers
 * @param buf the datagram
 * @param len its length in bytes
 * @param fd the UDP socket that it came in on
 * @param key the peer's address
 * @param addrlen the length of the address in key, in bytes
 *
 * @return the connection, or NULL if the datagram was answered or dropped, or a limit or an error
 *     prevented a connection (see the log and dv_dtls_stats()).
 *
 * Errors: errno is EINVAL for a NULL, or if len is the -1 of a failed recvfrom(). Otherwise errno
 * has no meaning.
 *
 * Ownership: the connection is in the table, and the caller frees it with dv_dtls_conn_free(). At a
 * deadline or a limit the library may give it up: it is then taken out of the table and its ssl,
 * rbio and wbio are NULL, but the struct can be read until it is freed. The library keeps at most
 * 65,536 structs that it gave up and nobody freed; beyond that it frees the oldest. The SSL_CTX may
 * be freed before the connection.
 */
dv_udp_conn_t *dv_dtls_conn_new(void *ctx,
                                char *buf,
                                size_t len,
                                int fd,
                                dv_udp_conn_key_t *key,
                                socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_SHUTDOWN)
/**
 * Says goodbye to the peer: sends a close_notify alert, if the peer could understand one.
 *
 * @param conn the connection, which must still be freed with dv_dtls_conn_free(); NULL is fine
 * @param fd the UDP socket
 * @param addrlen the length of the peer's address in bytes
 */
void dv_dtls_shutdown(dv_udp_conn_t *conn, int fd, socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_CONN_FREE)
/**
 * Frees a connection: takes it out of the table, unlinks its list member if that is in a list, and
 * frees its SSL and the struct. Nothing is sent; see dv_dtls_shutdown().
 *
 * @param conn a connection of dv_dtls_conn_new(), whether or not the library has given it up, or
 *     one that the program made itself, with malloc() or calloc() and an SSL of its own; NULL is
 *     fine
 */
void dv_dtls_conn_free(dv_udp_conn_t *conn);
#endif

/* ----------------------------------------------------------------------------------------------
 * messages: What comes out of a connection's datagrams, and what goes into them.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_READ)
/**
 * Takes a datagram from the peer and returns the next message.
 *
 * During the handshake the datagram moves it on, and the answer is sent before the function
 * returns. A datagram may hold several messages: they are queued (at most max_queued_messages, 64
 * by default; the rest are dropped and counted) and returned one by one, before those that arrive
 * later. A message longer than out_len is truncated, as by recvfrom().
 *
 * A forged or damaged record never ends an established connection of dv_dtls_conn_new().
 *
 * @param conn the connection
 * @param in_buf the datagram; NULL only takes the next queued message
 * @param in_len its length in bytes; 0 with NULL
 * @param fd the UDP socket that it came in on
 * @param out_buf receives the message; it may be in_buf
 * @param out_len the size of out_buf in bytes
 * @param addrlen the length of the peer's address in bytes
 *
 * @return the length of the message in bytes; 0 while the handshake goes on or when there is no
 *     message; -1 on error; -2 when the connection is over: the peer has closed it or has replaced
 *     it with a new one, or the library has given it up. Free it then.
 *
 * Errors: errno is EIO when the handshake failed or the peer sent a fatal alert (the log has the
 * cause): the connection is over, free it. With the others nothing has happened: EINVAL for a NULL,
 * an out_len of 0, or an in_len that is the -1 of a failed recvfrom(); ENOTCONN in the child of a
 * fork; EBUSY in a callback of OpenSSL's, in the middle of a call about conn. A failure to send is
 * only logged.
 */
int dv_dtls_read(dv_udp_conn_t *conn,
                 char *in_buf,
                 size_t in_len,
                 int fd,
                 char *out_buf,
                 size_t out_len,
                 socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_WRITE)
/**
 * Sends one message, as one record in one datagram.
 *
 * @param conn the connection
 * @param in_buf the message
 * @param in_len its length in bytes, at least 1
 * @param fd the UDP socket
 * @param out_buf not used
 * @param out_len not used
 * @param addrlen the length of the peer's address in bytes
 *
 * @return in_len, or -1.
 *
 * Errors: errno is EMSGSIZE when the message does not fit into a datagram of the MTU, EAGAIN while
 * the handshake goes on, ENOTCONN when the connection is over, EINVAL for a NULL or an empty
 * message, EBUSY in a callback of OpenSSL's in the middle of a call about conn, EIO when OpenSSL
 * failed, or what sendto() set. In none of these cases was the message sent.
 */
int dv_dtls_write(dv_udp_conn_t *conn,
                  char *in_buf,
                  size_t in_len,
                  int fd,
                  char *out_buf,
                  size_t out_len,
                  socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_MSG_SEND)
/**
 * Sends the datagrams that wait in a BIO, with one sendto() for each.
 *
 * What libssl wrote to a plain memory BIO is cut between records into datagrams of at most the MTU.
 *
 * @param wbio the wbio of a connection, or a memory BIO
 * @param fd a UDP socket
 * @param key the peer's address
 * @param addrlen the length of the address in key, in bytes
 *
 * @return 0 when everything was sent, or -1.
 *
 * Errors: errno is EAGAIN when nothing waited, EINVAL for a NULL or a key without an address, EBUSY
 * in a callback of OpenSSL's in the middle of a call about the connection of wbio, or what sendto()
 * set: what waited is then lost.
 *
 * Threads: a BIO is used by one at a time.
 */
int dv_dtls_msg_send(BIO *wbio, int fd, dv_udp_conn_key_t *key, socklen_t addrlen);
#endif

/* ----------------------------------------------------------------------------------------------
 * error: What the functions that return DV_ERR_* mean by it.
 * ---------------------------------------------------------------------------------------------- */

/** An argument is NULL or makes no sense; dv_last_error() says which. */
#define DV_ERR_INVALID (-2)

/** The session is over and its end was reported, or no session ever had this number. */
#define DV_ERR_STALE (-3)

/**
 * Called from the log callback; or from a callback of OpenSSL's, in the middle of another call
 * about the same endpoint; or with the endpoint of a server's callback that has already returned.
 */
#define DV_ERR_BUSY (-4)

/** The message does not fit into a datagram; see dv_session_message_max(). */
#define DV_ERR_TOO_LONG (-5)

/** The handshake is not finished, or the session is closed. */
#define DV_ERR_NOT_ESTABLISHED (-6)

/**
 * Too much waits to be sent. For an endpoint: call dv_endpoint_transmit() first. For a server: try
 * again later.
 */
#define DV_ERR_AGAIN (-7)

/** The endpoint has max_sessions sessions. */
#define DV_ERR_LIMIT (-8)

/**
 * The endpoint or server was made before a fork, in the parent: parent and child would repeat
 * nonces under the same keys, and a server's threads do not exist in the child.
 */
#define DV_ERR_FORKED (-9)

/** OpenSSL failed; dv_last_error() has its message. */
#define DV_ERR_TLS (-10)

/** There is already a session with this peer. */
#define DV_ERR_EXISTS (-11)

/** A bug in the library. Its message is in the log; please report it. */
#define DV_ERR_PANIC (-12)

/** The kernel refused something; dv_last_error() says what. */
#define DV_ERR_IO (-13)

/**
 * The peer has moved and has not yet proved its new address, and no more may be sent there; see
 * dv_session_is_peer_proven().
 */
#define DV_ERR_UNPROVEN (-14)

/**
 * The import is damaged, truncated, sealed with another key, or from a newer version. Nothing of it
 * was taken.
 */
#define DV_ERR_IMPORT (-15)

/**
 * Describes an error number.
 *
 * @param error what a function has returned
 *
 * @return a general text, such as "the session is over"; "no error" for 0 and above.
 *
 * Ownership: the text is static.
 */
const char *dv_strerror(int error);

/**
 * Describes the last failure on this thread: the function's name, the cause, and OpenSSL's message
 * if there is one. Functions that succeed leave it as it is. The helpers for the table, for
 * connections and for messages do not set it: they set errno, and log.
 *
 * @return the text; empty if nothing has failed yet.
 *
 * Ownership: the library's. It is valid until the next failure on this thread, or until the thread
 * ends.
 */
const char *dv_last_error(void);

/* ----------------------------------------------------------------------------------------------
 * config: How an endpoint, a server or the helpers behave.
 * ---------------------------------------------------------------------------------------------- */

/**
 * The configuration of an endpoint, a server or the helpers. Let dv_config_init() or
 * dv_dtls_config() fill it, then change what should be different. Members are only ever added at
 * the end.
 */
typedef struct dv_config {
    /** sizeof(dv_config), as the program knows it. */
    size_t size;
    /**
     * The largest number of sessions, handshakes included. At the limit, the source with the most
     * sessions loses the one that has been idle longest.
     */
    uint32_t max_sessions;
    /**
     * The largest number of handshakes with clients that are in progress. At this limit, and at the
     * one of a source, new clients get no answer; they will retransmit.
     */
    uint32_t max_handshakes;
    /**
     * The largest number of sessions of one source: an IPv4 address, or an IPv6 /64. At the limit,
     * the one that has been idle longest is dropped.
     */
    uint32_t max_sessions_per_source;
    /** The largest number of handshakes in progress of one source. */
    uint32_t max_handshakes_per_source;
    /** The size of the largest IP packet to send, with IP and UDP headers: 256 to 65535 bytes. */
    uint32_t mtu;
    /**
     * How long to wait before a flight is retransmitted, in milliseconds, at least 10. Doubled each
     * time.
     */
    uint32_t first_timeout_ms;
    /** The longest wait before a retransmission, in milliseconds. */
    uint32_t longest_timeout_ms;
    /** How long a handshake may take, in milliseconds. */
    uint32_t handshake_timeout_ms;
    /** How long a session may hear nothing before it is closed, in milliseconds; 0: for ever. */
    uint32_t idle_timeout_ms;
    /**
     * How many messages of one session may wait for the program, at most 65535; more are dropped
     * and counted.
     */
    uint32_t max_queued_messages;
    /**
     * The largest certificate chain of a peer, in bytes; a longer one fails the handshake. A
     * session keeps the peer's own certificate, and where OpenSSL makes the records the whole
     * chain: a peer with a trusted certificate can make it take this much more memory.
     */
    uint32_t max_certificate_chain;
    /**
     * How many bytes may wait for the program to take them, and how many for it to send them. Not
     * used by the helpers.
     */
    uint32_t max_waiting_bytes;
    /** Not 0: accept handshakes of clients. 0: the endpoint only connects. */
    int accept;
    /**
     * Not 0: a server that we connect to must have a certificate that the SSL_CTX trusts, whatever
     * its verify mode.
     */
    int verify_server;
    /** Not 0: while a session is idle, free the memory that it needs only for traffic. */
    int release_buffers;
    /** The length of cookie_secret in bytes, at least 16. */
    uint32_t cookie_secret_len;
    /**
     * The secret that cookies are made with: the same on all servers that share an address. NULL: a
     * random one. It is copied.
     */
    const void *cookie_secret;
    /**
     * With cookie_secret: Unix time minus the time that the endpoint is given, in microseconds. The
     * servers' clocks may differ by a minute.
     */
    uint64_t unix_offset_us;
    /**
     * Servers only: the number of threads, 1 to 256. Each has sockets and sessions of its own, and
     * a client stays with one of them. The limits of sessions and handshakes hold for the whole
     * server, max_waiting_bytes for each thread.
     */
    uint32_t workers;
    /**
     * Servers only: the size of each socket's kernel buffers, in bytes. Getting less is no error,
     * as the system has limits of its own.
     */
    uint32_t socket_buffer;
    /**
     * Servers only. Not 0: let the kernel join and split datagrams (UDP_GRO, UDP_SEGMENT), if it
     * can.
     */
    int offload;
    /**
     * Servers only. Not 0: receive handshakes on sockets of their own, if the kernel can steer them
     * there.
     */
    int steer_handshakes;
    /**
     * The path of a file of at least 16 random bytes, or NULL. Servers that share it accept each
     * other's cookies and session tickets, and their own from before a restart; dv_server_new() and
     * each dv_server_reload() read it. The helpers use it for cookies (dv_dtls_set_config()). An
     * endpoint ignores it: pass the file's contents as cookie_secret.
     */
    const char *secret_file;
    /**
     * Not 0: for DTLS 1.2 with AES-GCM or ChaCha20-Poly1305, OpenSSL makes only the handshake, and
     * the library makes the records, in a fraction of the time and memory. 0: OpenSSL makes both,
     * as it always does for the helpers.
     */
    int native_records;
    /** Not 0: refuse handshakes without an extended master secret (RFC 7627). */
    int require_extended_master_secret;
    /**
     * Not 0: use connection IDs (RFC 9146) with peers that support them, so that a session survives
     * a change of the peer's address. Requires native_records, and its cipher suites: a client then
     * offers no others. The first endpoint with this setting changes the SSL_CTX: while it is being
     * made, nobody else may use that, nor make another endpoint with it.
     */
    int connection_ids;
    /**
     * The length of our connection IDs in bytes, at most 32. 0: use only the peers' IDs, and find
     * sessions by address. All implementations support 8; some support no more than 10.
     */
    uint32_t connection_id_len;
    /**
     * Records with the peer's connection ID are padded to a multiple of this many bytes, at most
     * 64; 0: no padding.
     */
    uint32_t connection_id_padding;
    /**
     * Not 0: check a peer's new address by asking the peer there (RFC 9853), if it supports that.
     */
    int routability_checks;
    /**
     * The length of connection_id_server_id in bytes: at most 24, and less than connection_id_len.
     */
    uint32_t connection_id_server_id_len;
    /**
     * A prefix of our connection IDs, in clear, that tells a load balancer which server a datagram
     * is for. A server with several workers adds one more byte. The rest of connection_id_len, at
     * least one byte, is random.
     */
    uint8_t connection_id_server_id[24];
    /**
     * How long an export may take to be written, and how long an import waits for more from its
     * pipe or socket, in milliseconds; 0: for ever. An export that fails leaves the sessions as
     * they were.
     */
    uint32_t export_timeout_ms;
} dv_config;

/**
 * Fills a configuration with the defaults, which suit a server that is open to the world.
 *
 * @param config receives the configuration
 * @param size sizeof(dv_config)
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
 */
int dv_config_init(struct dv_config *config, size_t size);

/* ----------------------------------------------------------------------------------------------
 * endpoint: DTLS for any number of peers, without a socket. Datagrams and the time go in;
 * datagrams, events and the next deadline come out. An endpoint calls nothing back.
 * ---------------------------------------------------------------------------------------------- */

/** The handshake is finished: messages can be sent. */
#define DV_EVENT_OPENED 1

/** A message was received. */
#define DV_EVENT_MESSAGE 2

/**
 * The session is over; reason says why. Every session that was opened, or that the program has
 * connected, gets this event once.
 */
#define DV_EVENT_CLOSED 3

/**
 * The peer has a new address, which dv_session_addresses() returns. dv_session_is_peer_proven()
 * tells whether the peer has proved it. Only with connection_ids.
 */
#define DV_EVENT_MOVED 4

/** The peer closed the session. */
#define DV_CLOSED_BY_PEER 1

/** The program closed the session. */
#define DV_CLOSED_LOCALLY 2

/** The handshake failed, or the peer sent a fatal alert; see dv_session_failure. */
#define DV_CLOSED_FAILED 3

/** The handshake took too long. */
#define DV_CLOSED_HANDSHAKE_TIMEOUT 4

/** Nothing was heard of the peer for too long. */
#define DV_CLOSED_IDLE_TIMEOUT 5

/** The peer started anew, and has finished another handshake from the same address. */
#define DV_CLOSED_RESTARTED 6

/** The session made room for another one. */
#define DV_CLOSED_EVICTED 7

/** The session's keys have protected as much as they may. Connect again. */
#define DV_CLOSED_EXHAUSTED 8

/** The session was exported and goes on in another process. */
#define DV_CLOSED_EXPORTED 9

/** An endpoint: a DTLS server, a client, or both, for any number of peers. */
typedef struct dv_endpoint dv_endpoint;

/** What a client keeps of a session in order to resume it later, without certificates. */
typedef struct dv_resumption dv_resumption;

/**
 * An address of a peer, or of our own. The family says which member is used; all zero is no
 * address.
 */
typedef union dv_address {
    /** The address family. */
    struct sockaddr any;
    /** The address, when the family is AF_INET. */
    struct sockaddr_in v4;
    /** The address, when the family is AF_INET6. */
    struct sockaddr_in6 v6;
} dv_address;

/**
 * A datagram that was received, or that is to be sent; or several of one length, as with UDP_GRO
 * and UDP_SEGMENT.
 */
typedef struct dv_datagram {
    /** The payload. */
    const void *data;
    /** Its length in bytes. */
    size_t len;
    /** 0: one datagram. Otherwise the length of each datagram in bytes; the last may be shorter. */
    size_t segment_size;
    /** The sender, or the receiver. */
    union dv_address peer;
    /**
     * Our address: where it was received, or is to be sent from. The port is ignored; all zero if
     * unknown.
     */
    union dv_address local;
} dv_datagram;

/**
 * A session with one peer: a number, not a pointer, which has a meaning only to its own endpoint or
 * server. 0 is no session. The number of a session that is over gives DV_ERR_STALE, and is never
 * used again.
 */
typedef uint64_t dv_session;

/** Something that happened to a session. */
typedef struct dv_event {
    /** One of DV_EVENT_*. */
    int kind;
    /** One of DV_CLOSED_* for DV_EVENT_CLOSED, otherwise 0. */
    int reason;
    /** The session. */
    dv_session session;
    /** The pointer that dv_session_set_user() has attached to the session. */
    void *user;
    /**
     * The message for DV_EVENT_MESSAGE, otherwise NULL. It is valid until the next call of
     * dv_endpoint_event() or dv_endpoint_receive(); do not pass it to these. In a server's callback
     * it is valid until that returns.
     */
    const void *data;
    /** The length of the message in bytes; 0 without one. */
    size_t len;
} dv_event;

/**
 * Makes an endpoint.
 *
 * @param ctx the SSL_CTX to make sessions with: one for DTLS that is completely set up (keys,
 *     certificates, verify mode, ALPN and so on). The endpoint sets its cookie callbacks
 * @param config the configuration; NULL: the defaults
 * @param endpoint receives the endpoint, or NULL
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a setting that makes no sense, a context
 *     that is not for DTLS, or, unless accept is 0, one with cookie callbacks of the program's own;
 *     DV_ERR_TLS when OpenSSL fails.
 *
 * Ownership: the caller frees the endpoint with dv_endpoint_free(). It holds a reference to the
 * SSL_CTX.
 */
int dv_endpoint_new(SSL_CTX *ctx, const dv_config *config, struct dv_endpoint **endpoint);

/**
 * Frees an endpoint and its sessions. Their peers are sent nothing: to say goodbye, close the
 * sessions and transmit first.
 *
 * @param endpoint the endpoint, or NULL
 */
void dv_endpoint_free(struct dv_endpoint *endpoint);

/**
 * Hands received datagrams to an endpoint.
 *
 * @param endpoint the endpoint
 * @param now_us the time in microseconds, of a clock that never goes back, such as CLOCK_MONOTONIC,
 *     and the same one in all calls. A time that is earlier than that of the previous call counts
 *     as the same
 * @param datagrams the datagrams
 * @param count how many there are
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when an address makes no sense or data is NULL;
 *     then none of the datagrams was taken. What a peer sends is never an error: it is counted, or
 *     ends a session.
 */
int dv_endpoint_receive(struct dv_endpoint *endpoint,
                        uint64_t now_us,
                        const struct dv_datagram *datagrams,
                        size_t count);

/**
 * Takes the next event.
 *
 * @param endpoint the endpoint
 * @param event receives the event
 *
 * @return 1, 0 when there is no event, or a negative DV_ERR_*. After DV_EVENT_CLOSED the session
 *     can be queried until the next event is taken.
 */
int dv_endpoint_event(struct dv_endpoint *endpoint, struct dv_event *event);

/**
 * Gets datagrams to send; those of one session are in order. Call it until it returns 0, or
 * whenever the socket can be written to. Datagrams that were returned count as sent: those that the
 * kernel does not take are lost, as any datagram may be.
 *
 * @param endpoint the endpoint
 * @param out receives the datagrams. Their payload is valid until the next call of any other
 *     function about the endpoint; do not pass it to that
 * @param max how many fit in out
 * @param segments how many datagrams of one length to one peer may be joined in one element of out,
 *     for UDP_SEGMENT (at most 64 there); 1 for a program that sends each by itself
 *
 * @return how many elements of out were filled, or a negative DV_ERR_*.
 */
int dv_endpoint_transmit(struct dv_endpoint *endpoint,
                         struct dv_datagram *out,
                         size_t max,
                         size_t segments);

/**
 * Gets the time at which dv_endpoint_advance() must be called.
 *
 * @param endpoint the endpoint
 *
 * @return the time in microseconds, of the clock whose time the endpoint is given; UINT64_MAX when
 *     nothing will be due, or on error.
 */
uint64_t dv_endpoint_deadline(const struct dv_endpoint *endpoint);

/**
 * Does what is due: retransmits flights, gives up handshakes and closes idle sessions. It takes a
 * bounded time: if very much is due, dv_endpoint_deadline() is still not later than now_us
 * afterwards, and another call does more.
 *
 * @param endpoint the endpoint
 * @param now_us the time, as for dv_endpoint_receive
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_endpoint_advance(struct dv_endpoint *endpoint, uint64_t now_us);

/**
 * Starts a handshake with a server. Its first datagram waits for dv_endpoint_transmit().
 * DV_EVENT_OPENED follows when it has finished, or DV_EVENT_CLOSED.
 *
 * @param endpoint the endpoint
 * @param now_us the time, as for dv_endpoint_receive
 * @param to the server's address
 * @param to_len the length of to in bytes
 * @param name the DNS name or IP address that the server's certificate must have; a DNS name is
 *     sent to the server (SNI). NULL: accept any certificate that the SSL_CTX trusts
 * @param resume an earlier session with this server to resume, or NULL. If the server has forgotten
 *     it, or its certificate would no longer be accepted, there is a full handshake
 * @param session receives the session, or 0
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_EXISTS when there already is a session that was
 *     connected to this server, DV_ERR_LIMIT at max_sessions, DV_ERR_INVALID for something that is
 *     no address or no name, DV_ERR_TLS when OpenSSL refuses, for instance an SSL_CTX that is only
 *     for servers.
 */
int dv_endpoint_connect(struct dv_endpoint *endpoint,
                        uint64_t now_us,
                        const struct sockaddr *to,
                        socklen_t to_len,
                        const char *name,
                        const struct dv_resumption *resume,
                        dv_session *session);

/**
 * Sends one message, as one record in a datagram of its own, which waits for
 * dv_endpoint_transmit().
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param data the message
 * @param len its length in bytes, at least 1
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_NOT_ESTABLISHED, DV_ERR_STALE or DV_ERR_TOO_LONG;
 *     DV_ERR_AGAIN when max_waiting_bytes already wait; DV_ERR_UNPROVEN for a peer that has moved.
 */
int dv_endpoint_send(struct dv_endpoint *endpoint,
                     dv_session session,
                     const void *data,
                     size_t len);

/**
 * Closes a session: the peer is sent a close_notify, and DV_EVENT_CLOSED follows. Closing one that
 * is already over changes nothing.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_endpoint_close(struct dv_endpoint *endpoint, dv_session session);

/**
 * Lists the sessions that are open, or that the program has connected.
 *
 * @param endpoint the endpoint
 * @param out receives the sessions, in any order
 * @param max how many fit in out
 *
 * @return how many there are, possibly more than max, or a negative DV_ERR_*.
 */
int dv_endpoint_sessions(const struct dv_endpoint *endpoint, dv_session *out, size_t max);

/* ----------------------------------------------------------------------------------------------
 * session: Queries about a session. They work from DV_EVENT_OPENED, or from dv_endpoint_connect(),
 * until the event after its DV_EVENT_CLOSED is taken. Functions that return a text write as much of
 * it as fits, with a NUL, and return the length of all of it, without the NUL; if size is 0, out
 * may be NULL.
 * ---------------------------------------------------------------------------------------------- */

/** The handshake is in progress. */
#define DV_SESSION_HANDSHAKING 1

/** Messages can be sent. */
#define DV_SESSION_ESTABLISHED 2

/** The session is over. */
#define DV_SESSION_CLOSED 3

/**
 * Attaches a pointer to a session, which then comes with each of its events.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param user the pointer; the library does not dereference it
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_session_set_user(dv_endpoint *endpoint, dv_session session, void *user);

/**
 * Gets the pointer that was attached to a session.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return the pointer; NULL if there is none, or on error.
 *
 * Ownership: the program's.
 */
void *dv_session_user(const dv_endpoint *endpoint, dv_session session);

/**
 * Gets the state of a session.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return one of DV_SESSION_*, or a negative DV_ERR_*.
 */
int dv_session_state(const dv_endpoint *endpoint, dv_session session);

/**
 * Tells whether we are the server of a session.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 1 or 0, or a negative DV_ERR_*.
 */
int dv_session_is_server(const dv_endpoint *endpoint, dv_session session);

/**
 * Tells whether the session resumed an earlier one, so that no certificates were exchanged.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 1 or 0, or a negative DV_ERR_*.
 */
int dv_session_is_resumed(const dv_endpoint *endpoint, dv_session session);

/**
 * Gets the length of the longest message that fits into a datagram.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return the length in bytes, 0 before the handshake is finished, or a negative DV_ERR_*.
 */
int dv_session_message_max(const dv_endpoint *endpoint, dv_session session);

/**
 * Gets the peer's address, and our own address that the peer uses.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param peer receives the peer's address; may be NULL
 * @param local receives our address, with port 0; all zero if unknown. May be NULL
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_session_addresses(const dv_endpoint *endpoint,
                         dv_session session,
                         dv_address *peer,
                         dv_address *local);

/**
 * Gets the peer's certificate. In a resumed session it is the one from the first handshake.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param certificate receives the certificate, or NULL
 *
 * @return 1, 0 if the peer has presented none, or a negative DV_ERR_*. Whether the certificate is
 *     to be trusted, dv_session_verify_result() tells.
 *
 * Ownership: the caller frees the certificate with X509_free().
 */
int dv_session_peer_certificate(const dv_endpoint *endpoint,
                                dv_session session,
                                X509 **certificate);

/**
 * Gets the result of verifying the peer's certificate.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param result receives X509_V_OK or one of X509_V_ERR_*; X509_V_OK also if there was no
 *     certificate
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_session_verify_result(const dv_endpoint *endpoint, dv_session session, long *result);

/**
 * Gets the application protocol that was negotiated (ALPN).
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size the size of out in bytes
 *
 * @return the length of the text, 0 if there is none, or a negative DV_ERR_*.
 */
int dv_session_alpn(const dv_endpoint *endpoint, dv_session session, char *out, size_t size);

/**
 * Gets the server name that the client asked for (SNI).
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size the size of out in bytes
 *
 * @return the length of the text, 0 if there is none, or a negative DV_ERR_*.
 */
int dv_session_server_name(const dv_endpoint *endpoint, dv_session session, char *out, size_t size);

/**
 * Gets OpenSSL's name of the cipher suite, such as "ECDHE-ECDSA-AES128-GCM-SHA256".
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size the size of out in bytes
 *
 * @return the length of the text, 0 if there is none yet, or a negative DV_ERR_*.
 */
int dv_session_cipher(const dv_endpoint *endpoint, dv_session session, char *out, size_t size);

/**
 * Gets the identity that the client sent with a pre-shared key.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size the size of out in bytes
 *
 * @return the length of the text, 0 if there is none, or a negative DV_ERR_*.
 */
int dv_session_psk_identity(const dv_endpoint *endpoint,
                            dv_session session,
                            char *out,
                            size_t size);

/**
 * Gets OpenSSL's name of the SRTP protection profile that was negotiated (RFC 5764).
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size the size of out in bytes
 *
 * @return the length of the text, 0 if there is none, or a negative DV_ERR_*.
 */
int dv_session_srtp_profile(const dv_endpoint *endpoint,
                            dv_session session,
                            char *out,
                            size_t size);

/**
 * Gets OpenSSL's explanation of why a session failed (DV_CLOSED_FAILED); of a handshake that took
 * too long (DV_CLOSED_HANDSHAKE_TIMEOUT), the last fatal alert that came in clear. Such an alert
 * ends nothing by itself, as anybody may have sent it.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size the size of out in bytes
 *
 * @return the length of the text, 0 if there is none, or a negative DV_ERR_*.
 */
int dv_session_failure(const dv_endpoint *endpoint, dv_session session, char *out, size_t size);

/**
 * Derives key material for another protocol from the secrets of an open session (RFC 5705). Both
 * sides get the same.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param label what it is for, such as "EXTRACTOR-dtls_srtp"; not one of TLS's own labels
 * @param context additional input; NULL for none, which is not the same as an empty one
 * @param context_len the length of context in bytes
 * @param out receives the key material
 * @param len how many bytes of it are wanted
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_session_export_keying_material(const dv_endpoint *endpoint,
                                      dv_session session,
                                      const char *label,
                                      const void *context,
                                      size_t context_len,
                                      void *out,
                                      size_t len);

/**
 * Gets what a client needs to resume a session later with dv_endpoint_connect().
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param resumption receives the resumption, or NULL
 *
 * @return 1, 0 if the session cannot be resumed, or a negative DV_ERR_*.
 *
 * Ownership: the caller frees it with dv_resumption_free(). It can be used more than once, with all
 * endpoints of the same SSL_CTX, and outlives them.
 */
int dv_session_resumption(const dv_endpoint *endpoint,
                          dv_session session,
                          dv_resumption **resumption);

/**
 * Frees a resumption.
 *
 * @param resumption the resumption, or NULL
 */
void dv_resumption_free(dv_resumption *resumption);

/* ----------------------------------------------------------------------------------------------
 * connection_ids: Sessions with connection IDs (RFC 9146), and peers that move to another address.
 * ---------------------------------------------------------------------------------------------- */

/**
 * Gets our connection ID, which the peer's records carry.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the ID
 * @param size the size of out in bytes; our IDs have at most 32
 *
 * @return the length of the ID in bytes, 0 if there is none, or a negative DV_ERR_*.
 */
int dv_session_connection_id(const dv_endpoint *endpoint,
                             dv_session session,
                             void *out,
                             size_t size);

/**
 * Gets the peer's connection ID, which our records carry.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the ID
 * @param size the size of out in bytes; a peer's ID has at most 255
 *
 * @return the length of the ID in bytes, 0 if there is none, or a negative DV_ERR_*.
 */
int dv_session_peer_connection_id(const dv_endpoint *endpoint,
                                  dv_session session,
                                  void *out,
                                  size_t size);

/**
 * Tells whether the peer has proved that it receives at its address. This can be false only after
 * it has moved. Until then, at most three times as many bytes are sent there as came from there;
 * beyond that, sending gives DV_ERR_UNPROVEN.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 1 or 0, or a negative DV_ERR_*.
 */
int dv_session_is_peer_proven(const dv_endpoint *endpoint, dv_session session);

/**
 * Tells the endpoint that the program itself has made sure that the peer receives at its new
 * address, for instance by an answer to something unpredictable. From now on, any amount may be
 * sent there.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_session_confirm_peer(dv_endpoint *endpoint, dv_session session);

/* ----------------------------------------------------------------------------------------------
 * stats: What an endpoint, a server or the helpers have counted.
 * ---------------------------------------------------------------------------------------------- */

/**
 * The counters of an endpoint, a server or the helpers' table. sessions and handshakes are current
 * numbers, all others only grow. Members are only ever added at the end.
 */
typedef struct dv_stats {
    /** Sessions that are open, or that the program has connected, now. */
    uint64_t sessions;
    /** Handshakes with clients in progress now. */
    uint64_t handshakes;
    /** Datagrams received. */
    uint64_t datagrams_in;
    /** Datagrams sent. For an endpoint: those that it returned for sending. */
    uint64_t datagrams_out;
    /** Datagrams dropped because they came from a stranger and are no ClientHello. */
    uint64_t strangers_dropped;
    /** ClientHellos without a valid cookie, answered with a HelloVerifyRequest. */
    uint64_t hellos_answered;
    /**
     * ClientHellos dropped because their first fragment does not reach past the cookie, or makes no
     * sense up to there.
     */
    uint64_t hellos_too_short;
    /** Cookies that did not verify. */
    uint64_t cookies_refused;
    /** Handshakes begun: with a valid cookie, or by dv_endpoint_connect(). */
    uint64_t handshakes_begun;
    /** Handshakes finished. */
    uint64_t handshakes_finished;
    /** Handshakes that failed in libssl. */
    uint64_t handshakes_failed;
    /** Handshakes that did not finish in time. */
    uint64_t handshakes_timed_out;
    /**
     * Handshakes refused because of max_handshakes, or given up for one of a source that has fewer.
     */
    uint64_t refused_handshakes;
    /**
     * Handshakes refused because of max_handshakes_per_source, or of max_sessions_per_source when
     * no session could make room.
     */
    uint64_t refused_source;
    /** Sessions refused because of max_sessions when no session could make room. */
    uint64_t refused_connections;
    /** Handshakes refused because too much waited for the program to take it. */
    uint64_t refused_unread;
    /** Sessions that made room for another one. */
    uint64_t evicted;
    /** Sessions closed because nothing was heard of the peer. */
    uint64_t idle_timed_out;
    /** Sessions replaced by a new handshake from the same address (RFC 6347 4.2.8). */
    uint64_t restarted;
    /** Handshakes replaced by another one of the same peer. */
    uint64_t superseded;
    /** Sessions closed by the peer. */
    uint64_t closed_by_peer;
    /** Flights retransmitted because a timer ran out. */
    uint64_t flights_resent_on_timeout;
    /**
     * Flights retransmitted because the peer retransmitted its own, or sent messages without having
     * finished the handshake.
     */
    uint64_t flights_resent_on_repeat;
    /** Reductions of a session's MTU. */
    uint64_t mtu_stepped_down;
    /** Messages handed to the program. */
    uint64_t messages_in;
    /** Messages sent. */
    uint64_t messages_out;
    /** Messages dropped because too many waited for the program. */
    uint64_t messages_dropped;
    /** Messages refused because they do not fit into a datagram. */
    uint64_t messages_too_long;
    /** Datagrams dropped because too many waited to be sent. */
    uint64_t datagrams_dropped;
    /** Records dropped without being decrypted: alerts in clear, wrong epochs, truncated ones. */
    uint64_t records_dropped;
    /** Helpers only: messages truncated because the program's buffer was too small. */
    uint64_t messages_cut;
    /**
     * Helpers only: connections that the library gave up, and later freed because the program had
     * not.
     */
    uint64_t abandoned_freed;
    /** Servers only: datagrams that the kernel dropped because a socket's buffer was full. */
    uint64_t kernel_drops;
    /**
     * Servers only: datagrams of handshakes that were dropped because they would have taken more
     * than their share of the time.
     */
    uint64_t handshakes_shed;
    /** Servers only: times that a socket's buffer was full, so that datagrams had to wait. */
    uint64_t socket_full;
    /** Servers only: datagrams that the kernel refused to send. */
    uint64_t datagrams_refused;
    /**
     * Servers only: messages of dv_server_send() that the worker could no longer send when their
     * turn came.
     */
    uint64_t messages_refused;
    /** Sessions whose records the library took over from OpenSSL (native_records). */
    uint64_t records_taken_over;
    /** Sessions that have a connection ID of ours (connection_ids). */
    uint64_t connection_ids_used;
    /** Times that a peer moved to another address. */
    uint64_t peers_moved;
    /** New addresses that a peer has proved. */
    uint64_t addresses_proven;
    /**
     * New addresses that a peer was asked to prove and did not, so that the old one was used again.
     */
    uint64_t addresses_refused;
    /** Datagrams not sent because the peer has not proved its new address. */
    uint64_t datagrams_withheld;
    /** Servers only: datagrams handed over to the worker that has their session. */
    uint64_t datagrams_handed_over;
    /**
     * Servers only: datagrams dropped because the worker that has their session had no room for
     * them.
     */
    uint64_t handovers_dropped;
} dv_stats;

/**
 * Gets the counters of an endpoint.
 *
 * @param endpoint the endpoint
 * @param stats receives the counters
 * @param size sizeof(dv_stats)
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
 */
int dv_endpoint_stats(const dv_endpoint *endpoint, struct dv_stats *stats, size_t size);

/* ----------------------------------------------------------------------------------------------
 * server: Sockets, threads and the loop, with an endpoint in each thread. All functions may be
 * called from any thread at any time, except that dv_server_free() must be the last call.
 * ---------------------------------------------------------------------------------------------- */

/** A server. */
typedef struct dv_server dv_server;

/**
 * Called when something has happened to a session of a server.
 *
 * Each worker calls it from its own thread: for several sessions at the same time, but never for
 * the same one. endpoint is the worker's, and event is about one of its sessions. While the
 * callback runs, dv_endpoint_send(), dv_endpoint_close(), dv_endpoint_sessions() and all
 * dv_session_* functions can be used with it. The functions that drive an endpoint give
 * DV_ERR_INVALID, as that is the server's job. After the callback has returned, endpoint gives
 * DV_ERR_BUSY until the next one. Sessions of other workers are reached with dv_server_send(). user
 * is the pointer that was given to dv_server_new().
 */
typedef void (*dv_callback)(dv_endpoint *endpoint, const dv_event *event, void *user);

/** The callbacks of a server; each may be NULL. Members are only ever added at the end. */
typedef struct dv_callbacks {
    /** sizeof(dv_callbacks), as the program knows it. */
    size_t size;
    /** A session is open: its handshake has finished. */
    dv_callback open;
    /** A message was received. */
    dv_callback message;
    /** A session that was open is over. It can still be queried, but nothing can be sent. */
    dv_callback close;
    /** The peer has a new address; see DV_EVENT_MOVED. */
    dv_callback moved;
} dv_callbacks;

/**
 * Makes a server. It is not bound to an address yet.
 *
 * @param ctx the SSL_CTX to make sessions with, as for dv_endpoint_new()
 * @param config the configuration; NULL: the defaults
 * @param callbacks the callbacks; the struct is copied
 * @param user passed to the callbacks, until dv_server_free() returns; the library does not
 *     dereference it
 * @param server receives the server, or NULL
 *
 * @return 0 or a negative DV_ERR_*: as dv_endpoint_new(); also DV_ERR_INVALID for NULL callbacks,
 *     and for a secret_file that cannot be read.
 *
 * Ownership: the caller frees the server with dv_server_free(). It holds a reference to the
 * SSL_CTX.
 */
int dv_server_new(SSL_CTX *ctx,
                  const dv_config *config,
                  const struct dv_callbacks *callbacks,
                  void *user,
                  struct dv_server **server);

/**
 * Stops a server if it is running, waits for its threads, and frees it. In the child of a fork it
 * frees the child's copy only.
 *
 * In a callback on one of the server's own threads, be it the server's or OpenSSL's, nothing is
 * freed, and the log says so.
 *
 * @param server the server, or NULL
 */
void dv_server_free(struct dv_server *server);

/**
 * Binds a server to an address. A server can listen on several addresses, with one port each; a
 * wildcard address stands for all addresses of its family. A name is looked up, which may take a
 * while.
 *
 * A peer has one session from one port of its own: another one, with another address of the server,
 * ends the first.
 *
 * @param server the server, not started yet
 * @param host an IPv4 or IPv6 address, or a name; NULL: all addresses, IPv4 and, where available,
 *     IPv6
 * @param port the UDP port as a decimal number, such as "4433"; "0" picks a free one
 *
 * @return the port, or a negative DV_ERR_*: DV_ERR_IO when the kernel refuses the address, or the
 *     name is unknown.
 */
int dv_server_bind(struct dv_server *server, const char *host, const char *port);

/**
 * Takes over a UDP socket that is already bound, and not connected, such as one that the program
 * inherited. One worker serves it. To share an address among several workers, pass several sockets
 * (SO_REUSEPORT): they are dealt out in turn.
 *
 * @param server the server, not started yet
 * @param fd the socket. If the call succeeds, it belongs to the server, which closes it in the end
 *
 * @return the port, or a negative DV_ERR_*: DV_ERR_IO if this is no such socket.
 */
int dv_server_bind_fd(struct dv_server *server, int fd);

/**
 * Starts the threads of a server. A server can be started once; when it has ended, it can only be
 * freed.
 *
 * Before the program calls exit() or returns from main(), wait for the threads with
 * dv_server_join() or dv_server_free(). OpenSSL cleans up at exit even while threads use it: from
 * then on no handshake can begin, and one that is in progress may crash the program. A program that
 * cannot wait must end with _exit().
 *
 * @param server the server, bound to an address
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID without an address, or if it was started before;
 *     DV_ERR_IO if a thread cannot be started: the server has then ended.
 */
int dv_server_start(struct dv_server *server);

/**
 * Waits until a server has ended, after dv_server_stop() or dv_server_shutdown(). Returns at once
 * if it was never started. Must not be called by a callback.
 *
 * @param server the server
 *
 * @return 0, or a negative DV_ERR_* that says why the server ended by itself.
 */
int dv_server_join(struct dv_server *server);

/**
 * Starts a server and waits until it has ended: dv_server_start(), then dv_server_join().
 *
 * @param server the server
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_server_run(struct dv_server *server);

/**
 * Stops a server: each peer is sent a close_notify. Returns at once; may be called from a signal
 * handler. A server that was not started yet ends as soon as it is.
 *
 * @param server the server, or NULL
 */
void dv_server_stop(struct dv_server *server);

/**
 * Stops a server gracefully: it accepts no new sessions, and ends when those it has are over, or
 * after a while, when the remaining peers are sent a close_notify. Returns at once.
 *
 * @param server the server
 * @param timeout_ms how long to wait for the sessions, in milliseconds
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_server_shutdown(struct dv_server *server, uint32_t timeout_ms);

/**
 * Replaces the SSL_CTX that new sessions are made with, for instance to change the certificate.
 * Existing sessions keep theirs.
 *
 * @param server the server
 * @param ctx the SSL_CTX, as for dv_server_new(): a new one, not the old one after a change
 *
 * @return 0 or a negative DV_ERR_*; the old SSL_CTX then stays.
 */
int dv_server_reload(struct dv_server *server, SSL_CTX *ctx);

/**
 * Queues one message for a session, from any thread. Inside a callback, dv_endpoint_send() avoids
 * the queue.
 *
 * @param server the server
 * @param session the session
 * @param data the message
 * @param len its length in bytes, at least 1
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_AGAIN when too much is queued, or while an export is
 *     pending; DV_ERR_TOO_LONG for more than a record can hold (16384 bytes). A message that later
 *     turns out not to fit into a datagram, or whose session ends before its turn, is dropped and
 *     counted.
 */
int dv_server_send(struct dv_server *server, dv_session session, const void *data, size_t len);

/**
 * Closes a session, from any thread: the peer is sent a close_notify, and the close callback
 * follows.
 *
 * @param server the server
 * @param session the session
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_STALE when it is already over.
 */
int dv_server_close(struct dv_server *server, dv_session session);

/**
 * Gets the counters of a server, summed over all workers.
 *
 * @param server the server
 * @param stats receives the counters
 * @param size sizeof(dv_stats)
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
 */
int dv_server_stats(const struct dv_server *server, dv_stats *stats, size_t size);

/* ----------------------------------------------------------------------------------------------
 * export: Sessions that go on in another process, after a restart or an upgrade, without a new
 * handshake.
 * ---------------------------------------------------------------------------------------------- */

/** The length of the key that an export is sealed with, in bytes. */
#define DV_EXPORT_KEY_LEN 32

/**
 * Writes all established sessions of an endpoint to a descriptor, sealed. From then on they are
 * frozen: nothing is sent or received on them until dv_endpoint_export_commit() ends them or
 * dv_endpoint_export_cancel() revives them. If the export fails, they go on.
 *
 * Take the events and transmit first: messages that have already come in can be answered by this
 * program only, and not after the export. Datagrams that wait to be sent can still be sent.
 *
 * @param endpoint the endpoint
 * @param fd a file, a pipe or a stream socket, blocking or not. If the reader is gone, or has not
 *     read everything within export_timeout_ms, that is an error; there is no SIGPIPE
 * @param key a random key, which the other process needs too
 * @param key_len DV_EXPORT_KEY_LEN
 * @param left receives how many established sessions cannot be exported because OpenSSL makes their
 *     records; may be NULL
 *
 * @return how many sessions were written, or a negative DV_ERR_*.
 */
int dv_endpoint_export(dv_endpoint *endpoint,
                       int fd,
                       const void *key,
                       size_t key_len,
                       size_t *left);

/**
 * Ends the sessions that were exported, without telling their peers. DV_EVENT_CLOSED follows for
 * each.
 *
 * @param endpoint the endpoint
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when no export is pending.
 */
int dv_endpoint_export_commit(dv_endpoint *endpoint);

/**
 * Revives the sessions that were exported. Call it only if nobody has imported them, and nobody
 * ever will: two processes that encrypt with one key repeat nonces, which breaks all protection.
 *
 * @param endpoint the endpoint
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when no export is pending.
 */
int dv_endpoint_export_cancel(dv_endpoint *endpoint);

/**
 * Takes over the sessions that an endpoint or a server has exported: all of them or, on error,
 * none. DV_EVENT_OPENED follows for each, and dv_session_is_imported() is 1. What
 * dv_session_set_user() had attached comes along, as a number that meant something in the other
 * process, not as a valid pointer.
 *
 * @param endpoint the endpoint
 * @param now_us the time, as for dv_endpoint_receive
 * @param fd what to read from. A file must be open for writing too: it is truncated, so that nobody
 *     imports it again. If nothing comes from a pipe or socket for export_timeout_ms, that is an
 *     error
 * @param key the key that the export is sealed with
 * @param key_len DV_EXPORT_KEY_LEN
 * @param skipped receives how many sessions were not taken because their peers have already begun
 *     new ones here, or because of require_extended_master_secret; may be NULL
 *
 * @return how many sessions were taken over, or a negative DV_ERR_*: DV_ERR_IMPORT when the export
 *     is incomplete or not for us, DV_ERR_LIMIT when it holds more than max_sessions.
 */
int dv_endpoint_import(dv_endpoint *endpoint,
                       uint64_t now_us,
                       int fd,
                       const void *key,
                       size_t key_len,
                       size_t *skipped);

/**
 * Writes all established sessions of a running server to a descriptor, as dv_endpoint_export()
 * does. From then on the server stands still, datagrams wait in the kernel, and dv_server_send()
 * gives DV_ERR_AGAIN, until dv_server_export_commit() or dv_server_export_cancel(). If the export
 * fails, as it also does when dv_server_stop() is called before it is written, the server goes on.
 * Must not be called by a callback.
 *
 * @param server the server
 * @param fd what to write to, as for dv_endpoint_export()
 * @param key a random key, which the other process needs too
 * @param key_len DV_EXPORT_KEY_LEN
 * @param left receives how many established sessions cannot be exported; may be NULL
 *
 * @return how many sessions were written, or a negative DV_ERR_*.
 */
int dv_server_export(dv_server *server, int fd, const void *key, size_t key_len, size_t *left);

/**
 * Ends a server after an export. The peers of exported sessions notice nothing; those of the others
 * are sent a close_notify. dv_server_join() waits for the end; then the addresses are free. Must
 * not be called by a callback.
 *
 * @param server the server
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when no export is pending.
 */
int dv_server_export_commit(dv_server *server);

/**
 * Lets a server go on after an export, under the same condition as dv_endpoint_export_cancel().
 * Must not be called by a callback.
 *
 * @param server the server
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when no export is pending.
 */
int dv_server_export_cancel(dv_server *server);

/**
 * Takes over the sessions that a server or an endpoint has exported: all of them or, on error,
 * none. When the server is started, the open callback is called for each; see dv_endpoint_import().
 *
 * @param server the server, bound to its addresses and not started yet
 * @param fd what to read from, as for dv_endpoint_import()
 * @param key the key that the export is sealed with
 * @param key_len DV_EXPORT_KEY_LEN
 * @param skipped receives how many sessions were not taken because their peers use an address that
 *     this server does not have, or because of require_extended_master_secret; may be NULL
 *
 * @return how many sessions were taken over, or a negative DV_ERR_*, as dv_endpoint_import().
 */
int dv_server_import(dv_server *server, int fd, const void *key, size_t key_len, size_t *skipped);

/**
 * Tells whether a session was imported, so that DV_EVENT_OPENED was not about a handshake.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 1 or 0, or a negative DV_ERR_*.
 */
int dv_session_is_imported(const dv_endpoint *endpoint, dv_session session);

/* ----------------------------------------------------------------------------------------------
 * operate: Timeouts, settings and counters of the helpers, for programs that can add a line or two.
 * ---------------------------------------------------------------------------------------------- */

/**
 * Gets the time until something is due for the connections of the calling thread, to be passed to
 * epoll_wait().
 *
 * @return milliseconds, rounded up; 0 when something is due now; -1 when nothing will be. Any
 *     helper may change it.
 *
 * Threads: the answer is about the calling thread.
 */
int dv_dtls_next_timeout(void);

/**
 * Does what is due for the connections that the calling thread was the last to use: retransmits
 * flights, and gives up handshakes and connections that took too long or were idle for too long.
 * Call it when the time of dv_dtls_next_timeout() is over; all other helpers do a part of it too.
 * What it sends does not block.
 *
 * @return how many connections were handled. If very many are due, dv_dtls_next_timeout() returns 0
 *     afterwards, and another call does more.
 */
int dv_dtls_handle_timeouts(void);

/**
 * Gets the settings of the helpers: the defaults, as changed by environment variables (DV_MTU,
 * DV_MAX_CONNECTIONS, DV_MAX_HANDSHAKES, DV_MAX_CONNECTIONS_PER_SOURCE,
 * DV_MAX_HANDSHAKES_PER_SOURCE, DV_MAX_CERTIFICATE_CHAIN, DV_FIRST_TIMEOUT_MS,
 * DV_LONGEST_TIMEOUT_MS, DV_HANDSHAKE_TIMEOUT_MS, DV_IDLE_TIMEOUT_MS, DV_RELEASE_BUFFERS) and by
 * dv_dtls_set_config(). The environment is read once, when a helper first needs it. A variable that
 * makes no sense is reported in the log, and the default stays.
 *
 * @param config receives the settings; those of endpoints and servers only are 0
 * @param size sizeof(dv_config)
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
 */
int dv_dtls_config(dv_config *config, size_t size);

/**
 * Changes the settings of the helpers: limits, deadlines, MTU, and the secret that cookies are made
 * with. They apply to connections that begin from now on; a lower limit gives up none that exist.
 * Let dv_dtls_config() fill the struct, then change what should be different. Settings of endpoints
 * and servers only, native_records among them, are ignored.
 *
 * Set release_buffers, which frees OpenSSL's buffers of idle connections, only if the program never
 * calls SSL_write() on the ssl of a connection itself. With a secret_file, which each call reads,
 * or a cookie_secret, cookies are valid in all processes that share the secret, as with the file
 * that the environment variable DV_COOKIE_SECRET_FILE names. Cookies that were already sent stay
 * valid.
 *
 * @param config the settings
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has, a
 *     setting that makes no sense, or a secret_file that cannot be read.
 *
 * Threads: any, at any time.
 */
int dv_dtls_set_config(const dv_config *config);

/**
 * Gets the counters of the helpers' table since the program started, summed over all threads.
 *
 * @param stats receives the counters
 * @param size sizeof(dv_stats)
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
 */
int dv_dtls_stats(dv_stats *stats, size_t size);

/* ----------------------------------------------------------------------------------------------
 * version: Which library this is.
 * ---------------------------------------------------------------------------------------------- */

/**
 * Gets the version of the library as text, such as "0.1.0".
 *
 * @return the text.
 *
 * Ownership: the text is static.
 */
const char *dv_version(void);

/**
 * Gets the version of the library as a number.
 *
 * @return major * 65536 + minor * 256 + patch.
 */
unsigned int dv_version_num(void);

/**
 * Tells whether a program that was written for some version of this library can run with the one
 * that is loaded, and with the OpenSSL that is loaded. A program that calls it first gets a clear
 * answer instead of strange errors later.
 *
 * @param least the oldest version that will do, as dv_version_num() returns it; 0 asks about
 *     OpenSSL only
 *
 * @return DV_OK, or DV_ERROR if this library is older than least, or if OpenSSL has another major
 *     version than the one this library was built with. The log says which. In the latter case each
 *     function that sets up a context, or begins something with one, fails too.
 */
int dv_check_version(unsigned int least);

/* ----------------------------------------------------------------------------------------------
 * log: Lines about what the library does, and about what it refuses.
 * ---------------------------------------------------------------------------------------------- */

/** A call failed because of something that the program or the operator provided. */
#define DV_LOG_ERROR 1

/** Something was refused or given up that somebody may miss. */
#define DV_LOG_WARN 2

/** Connections come and go. */
#define DV_LOG_INFO 3

/** Single datagrams. */
#define DV_LOG_DEBUG 4

/**
 * Receives a line of the log.
 *
 * Its arguments are the level (one of DV_LOG_*), the text without a newline, which is valid during
 * the call, and the pointer that was set with the callback. The callback may call the helpers;
 * functions that return DV_ERR_* give DV_ERR_BUSY.
 */
typedef void (*dv_log_callback)(int level, const char *line, void *user);

/**
 * Sets the callback that receives the log. Without one there is no log, unless the operator has set
 * DV_LOG (error, warn, info or debug) in the environment: then the helpers write it to stderr, from
 * the first one that is called.
 *
 * Lines are delivered at the end of the call that caused them, on its thread, while the library
 * holds no lock. What the callback does adds no lines.
 *
 * @param level the least important level to deliver, one of DV_LOG_*; 0 turns the log off
 * @param callback the callback; NULL turns the log off
 * @param user passed to the callback; may be NULL
 *
 * Ownership: callback and user must stay valid until another callback was set and no other thread
 * is still in a call of the library.
 *
 * Threads: any, at any time. The callback is called on every thread that uses the library, possibly
 * on several at once.
 */
void dv_set_log_callback(int level, dv_log_callback callback, void *user);

#ifdef __cplusplus
}
#endif

#endif
