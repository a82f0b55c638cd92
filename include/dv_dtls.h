/*
 * dv_dtls: DTLS for many clients on one UDP socket, on the system's OpenSSL (3.0 or later).
 *
 * WHAT IT IS
 *
 * OpenSSL makes the handshakes. This library does what else a program needs that has many peers on one
 * UDP socket: it finds the connection that a datagram belongs to, answers strangers with a cookie and
 * keeps nothing for them, keeps flights within the MTU and repeats what was lost, encrypts and decrypts
 * messages, and bounds how much of everything there is. It can be used in three ways:
 *
 *     helpers    dv_dtls_*, dv_openssl_*    for a program that has such helpers of its own today
 *     endpoint   dv_endpoint_*              for a program with a loop of its own: no socket, no callback
 *     server     dv_server_*                sockets, threads and the loop are the library's
 *
 * In all of them the program makes the SSL_CTX, with OpenSSL's functions and with those of the section
 * "context". Link with -ldv_dtls -lssl -lcrypto (pkg-config: dv_dtls libssl libcrypto); the library must
 * use the same libssl as the program. c-examples/ has programs for each way.
 *
 * THE HELPERS, in the order in which they are called. Once:
 *
 *     dv_check_version(DV_VERSION_NUM);          DV_ERROR: an older library, or another OpenSSL
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
 *     addrlen = sizeof(key);                     recvfrom shortens it: set it each time
 *     n = recvfrom(fd, in, sizeof(in), 0, &key.addr, &addrlen);
 *     if (n <= 0)
 *         continue;                              no datagram: an error is no reason to leave the loop
 *     conn = dv_dtls_conn_find(&key);
 *     if (conn == NULL) {
 *         conn = dv_dtls_conn_new(ctx, in, n, fd, &key, addrlen);   NULL: no proven peer yet
 *     } else {
 *         n = dv_dtls_read(conn, in, n, fd, out, sizeof(out), addrlen);
 *         n > 0: a message   n == 0: handshake, or nothing yet
 *         n < 0: dv_dtls_shutdown(conn, fd, addrlen); dv_dtls_conn_free(conn);
 *         to answer: dv_dtls_write(conn, message, len, fd, in, sizeof(in), addrlen);
 *     }
 *
 * After a message, dv_dtls_read(conn, NULL, 0, ...) takes the next one of the same datagram, until it
 * returns 0 or less. A loop that waits without a limit, and lacks the two lines about timeouts, works too: every
 * call does a part of what is due.
 *
 * A client sets up its SSL_CTX with the same context helpers, says with dv_openssl_set_peer_name which
 * name the server's certificate must carry, and then uses SSL_connect, SSL_read and SSL_write.
 *
 * THE ENDPOINT, a server, a client, or both in one handle, without a socket:
 *
 *     dv_config_init(&config, sizeof(config));       the defaults; change what is to be different
 *     dv_endpoint_new(ctx, &config, &endpoint);
 *     for (;;) {
 *         until dv_endpoint_deadline(endpoint), wait for the socket;
 *         with what has come:   dv_endpoint_receive(endpoint, now_us, datagrams, count);
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
 * where on_message answers with dv_endpoint_send(endpoint, event->session, ...), and other threads with
 * dv_server_send.
 *
 * CONVENTIONS, unless a function says otherwise
 *
 * Pointers   NULL where something is needed is an error and no crash; nothing is changed.
 * Errors     are the return value. What has failed has changed nothing. The cause is in the log
 *            (dv_set_log_callback) and in dv_last_error; of the helpers for connections errno tells.
 *            The library prints nothing unless its operator asks for it (DV_LOG), never exits, and
 *            sets no signal handler.
 * Ownership  what is passed in stays the caller's and need only live during the call.
 * Blocking   a helper that is given a descriptor sends with sendto() on it, which may block if the
 *            descriptor does. Else nothing waits for the network but what says so.
 * Threads    different connections may be used by different threads at once, one connection by one
 *            thread at a time. The table may be used by all threads. An endpoint, with its sessions,
 *            is used by one thread at a time; a server by any, until dv_server_free. An SSL_CTX is
 *            set up by one thread, before it is used.
 * Callbacks  that the program has set with OpenSSL's functions (verify, PSK, server name, info and
 *            so on) run in the middle of a call. They may call the library, but not about the
 *            connection or the endpoint that this call is about: that fails with EBUSY or
 *            DV_ERR_BUSY. A function that returns nothing does nothing then, and the log says so.
 *            They must not end the call with longjmp() or an exception.
 * fork       two processes that seal with one key would repeat nonces, so what was made before a fork
 *            sends nothing in the child: the helpers' table is empty there, connections give
 *            ENOTCONN, endpoints and servers DV_ERR_FORKED. All can be freed. A child of _Fork() or
 *            clone() is noticed from Linux 4.14 on; one of vfork() must call nothing of the library.
 * Sizes      of dv_config, dv_callbacks and dv_stats, which later versions may add members to, the program
 *            says: as an argument where the struct is filled, in its first member where it is read.
 * Units      lengths and sizes are bytes; times are milliseconds unless their name has another unit.
 * in_buf,    ... of dv_dtls_read and dv_dtls_write: `in' is what the function reads, `out' is what
 * out_buf    it writes into.
 *
 * KEEPING SOME HELPERS OF YOUR OWN
 *
 * A file that has its own static version of a helper defines DV_OMIT_ and the helper's name in
 * capitals without its dv_ before it includes this header, for instance DV_OMIT_DTLS_CONN_HASH: the
 * declaration is then left out. DV_OMIT_TYPES leaves out dv_udp_conn_key_t and dv_udp_conn_t, which
 * the file must then have declared before. Three ties: the four table functions (add, del, find and
 * table_init) move together; the library's dv_dtls_conn_new needs the library's table; the two cookie
 * callbacks move together.
 *
 * DV_LIST_NODE names the type of the list member of dv_udp_conn_t. Define it before the include to
 * have your own, such as struct list_head; it must be two pointers.
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
 * types: The types that the helpers share with their callers; their layout is the original's.
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
/** The largest UDP payload that a receive buffer needs to hold, in bytes. */
#define DTLS_RECORD_MAX_LEN (65535 - 8)
#endif

/** A link of an intrusive list, for the caller: the library's own table does not use it. */
typedef struct dv_list_node {
    /** The next link, or NULL. */
    struct dv_list_node *next;
    /** The previous link, or NULL. */
    struct dv_list_node *prev;
} dv_list_node;

#if !defined(DV_OMIT_TYPES)
/**
 * The address of a peer, and the key of a connection. Clear all of it before an address is written
 * into it.
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
 * A connection. The caller may read all of it, change list, and use ssl between two calls: ask for
 * the peer's certificate, also call SSL_read() and SSL_write().
 */
typedef struct _dv_udp_conn_t {
    /** For a list of the caller's. A connection that is freed is unlinked there. */
    DV_LIST_NODE list;
    /** The peer's address. */
    union _dv_udp_conn_key_t key;
    /** The SSL; NULL once the library has given the connection up. It goes with the connection. */
    void *ssl;
    /**
     * The BIO that libssl reads from, or NULL like ssl. BIO_write() gives it one datagram; 64 can
     * wait there.
     */
    void *rbio;
    /**
     * The BIO that libssl writes to, or NULL like ssl. What SSL_write() has written waits there for
     * dv_dtls_msg_send(), for the next call about the connection, or for BIO_read(), which gives as
     * many whole datagrams as fit. 256 KiB can wait, then SSL_write() fails with
     * SSL_ERROR_WANT_WRITE.
     */
    void *wbio;
} dv_udp_conn_t;
#endif

/* ----------------------------------------------------------------------------------------------
 * context: Setting up an SSL_CTX, the check of the peer's certificate, and watching a socket.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_OPENSSL_CTX_SET_CIPHERS)
/**
 * Sets the ciphers of a context, the groups X25519, P-256, P-384 and P-521 for the key exchange,
 * and DTLS 1.2 as the only version.
 *
 * @param ctx the SSL_CTX
 * @param ciphers a list of TLS 1.2 ciphers in OpenSSL's notation, such as "ECDHE+AESGCM"
 *
 * @return DV_OK or DV_ERROR.
 *
 * Errors: a list in which OpenSSL knows no cipher, or one longer than 16384 bytes.
 */
int dv_openssl_ctx_set_ciphers(void *ctx, char *ciphers);
#endif

#if !defined(DV_OMIT_OPENSSL_CALLBACK)
/**
 * Passes on OpenSSL's judgement on the peer's chain: a chain that is not good fails the handshake,
 * and the log says why. dv_openssl_set_verify makes it the verify callback of the context.
 *
 * @param ok OpenSSL's judgement
 * @param store what the judgement is about
 *
 * @return ok.
 */
int dv_openssl_callback(int ok, X509_STORE_CTX *store);
#endif

#if !defined(DV_OMIT_OPENSSL_SET_VERIFY)
/**
 * Sets how the peer's certificate is checked, and the CA certificates that it is checked against,
 * which are added to those that the context trusts already. A server names the CAs of the last call
 * to its clients.
 *
 * The session id context is set too: a session is resumed only under the mode and the CA file that
 * it was made under.
 *
 * @param ctx the SSL_CTX
 * @param mode SSL_VERIFY_NONE, or SSL_VERIFY_PEER with other SSL_VERIFY_* bits or without
 * @param peer_cf a PEM file of CA certificates, and of revocation lists if there are any; these
 *     count once the context's X509_STORE has X509_V_FLAG_CRL_CHECK
 *
 * Errors: a file that cannot be loaded, NULL, or a mode with other bits. A program that is told
 * nothing must not run unprotected, so every handshake fails then, whatever the mode, of each SSL
 * that is made from the context before a call succeeds.
 */
void dv_openssl_set_verify(void *ctx, int mode, char *peer_cf);
#endif

#if !defined(DV_OMIT_OPENSSL_GET_VERIFY_RESULT)
/**
 * Tells whether the peer is who it has to be.
 *
 * @param s the SSL
 *
 * @return DV_OK when the handshake is finished, the peer's chain and name are good, whatever the
 *     verify mode, and there is a certificate if the mode has SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
 *     otherwise DV_ERROR. OpenSSL's error queue is as it was.
 */
int dv_openssl_get_verify_result(void *s);
#endif

#if !defined(DV_OMIT_SSL_CERTIFICATE)
/**
 * Gives a context its own certificate, with the chain and the key. A second certificate with
 * another type of key stands beside the first, one with the same type replaces it.
 *
 * Nobody is asked for a password: an encrypted key needs a password callback
 * (SSL_CTX_set_default_passwd_cb) on the context.
 *
 * @param ctx the SSL_CTX
 * @param cert a PEM file with the certificate, then the rest of the chain in the order in which it
 *     is sent
 * @param key a PEM file with the private key of the first certificate
 *
 * @return 0 or -1.
 *
 * Errors: a file that cannot be read, has no certificate or key in it, or is larger than 16 MiB; a
 * key that does not belong to the certificate; one that OpenSSL's security level refuses.
 */
int dv_ssl_certificate(void *ctx, char *cert, char *key);
#endif

/**
 * Gives a context another certificate, with the chain and the key, for clients that ask for one of
 * the DNS names in it (SNI): they are shown it, all others the certificate of dv_ssl_certificate.
 * Of several for one name and type of key, the first that was added is shown.
 *
 * It sets the context's certificate callback (SSL_CTX_set_cert_cb). The server name callback stays
 * the program's: when that one calls SSL_set_SSL_CTX, the certificates of the new context count.
 *
 * @param ctx the SSL_CTX
 * @param cert a PEM file as for dv_ssl_certificate; the names are the DNS names in its
 *     subjectAltName, with "*." at most as the first label
 * @param key a PEM file with the private key of the first certificate
 *
 * @return 0 or -1.
 *
 * Errors: as of dv_ssl_certificate; a certificate without a DNS name.
 */
int dv_ssl_add_certificate(void *ctx, const char *cert, const char *key);

/**
 * Seals the session tickets of a context with keys that are made of a file: servers that share it
 * resume each other's sessions, and their own after a restart. A dv_server does this itself when
 * its configuration has a secret_file.
 *
 * @param ctx the SSL_CTX
 * @param secret_file a file with random bytes, 16 at least, such as that of DV_COOKIE_SECRET_FILE
 *
 * @return 0 or -1.
 *
 * Errors: a file that cannot be read, that is too short, or larger than 16 MiB.
 */
int dv_ssl_share_tickets(void *ctx, const char *secret_file);

#if !defined(DV_OMIT_ADD_EPOLL_EVENT)
/**
 * Watches a descriptor for input (EPOLLIN, level-triggered). One that is watched already stays as
 * it is.
 *
 * @param epfd the epoll descriptor
 * @param ev receives what is watched for, with the descriptor in data.fd; may be NULL
 * @param fd the descriptor to watch
 *
 * Errors: what the kernel refuses is logged, nowhere else.
 */
void dv_add_epoll_event(int epfd, struct epoll_event *ev, int fd);
#endif

/**
 * Says which name or address the certificate of the server must carry, and tells a server the name
 * (SNI). A client calls it on an SSL before SSL_connect; without it, any certificate of the CA will
 * do.
 *
 * @param s the SSL
 * @param name a DNS name such as "server.example.org", or an IPv4 or IPv6 address
 *
 * @return DV_OK or DV_ERROR. A later name takes the place of an earlier one.
 *
 * Errors: a name that is neither, or longer than 255 bytes; an SSL whose handshake has begun.
 */
int dv_openssl_set_peer_name(void *s, const char *name);

/* ----------------------------------------------------------------------------------------------
 * cookies: The cookie callbacks: a pair for SSL_CTX_set_cookie_generate_cb() and
 * SSL_CTX_set_cookie_verify_cb().
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_GENERATE_COOKIE_CALLBACK)
/**
 * Makes a cookie of 21 bytes for the peer that ssl listens to. For
 * SSL_CTX_set_cookie_generate_cb().
 *
 * dv_dtls_conn_new() only looks whether it is set: then the library makes and checks the cookies
 * itself, over the hello as well. For DTLSv1_listen() and SSL_accept() it is made over the address
 * that the SSL's rbio gives (BIO_dgram_get_peer); where that gives none, it is good for this SSL
 * only.
 *
 * @param ssl the SSL
 * @param cookie receives the cookie; at least 21 bytes (libssl gives 255)
 * @param cookie_len receives the length of the cookie in bytes
 *
 * @return 1, or 0 for a NULL, which nothing tells of.
 *
 * Threads: any, one at a time for an SSL.
 */
int dv_dtls_generate_cookie_callback(SSL *ssl, unsigned char *cookie, unsigned int *cookie_len);
#endif

#if !defined(DV_OMIT_DTLS_VERIFY_COOKIE_CALLBACK)
/**
 * Checks a cookie that dv_dtls_generate_cookie_callback() made. For SSL_CTX_set_cookie_verify_cb().
 *
 * @param ssl the SSL
 * @param cookie what the peer returned
 * @param cookie_len its length in bytes
 *
 * @return 1 when it was made for this peer and not too long ago (it is good for four minutes at
 *     least), else 0.
 *
 * Threads: any, one at a time for an SSL.
 */
int dv_dtls_verify_cookie_callback(SSL *ssl, const unsigned char *cookie, unsigned int cookie_len);
#endif

/* ----------------------------------------------------------------------------------------------
 * table: The table of connections, by the peer's address.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_CONN_TABLE_INIT)
/**
 * Prepares the table. Never needed, as the table is there when it is first used, and harmless at
 * any time: no connection is lost.
 */
void dv_dtls_conn_table_init(void);
#endif

#if !defined(DV_OMIT_DTLS_CONN_HASH)
/**
 * A number for a key: the MD5 of all its bytes, its four words in native byte order folded into one
 * by exclusive or, modulo 65535.
 *
 * The table does not use it, since a peer that chooses its address can aim at it. It is there for
 * programs that do.
 *
 * @param key a key that was cleared before the address was written into it; NULL gives 0
 *
 * @return a number from 0 to 65534.
 */
unsigned int dv_dtls_conn_hash(dv_udp_conn_key_t *key);
#endif

#if !defined(DV_OMIT_DTLS_CONN_ADD)
/**
 * Puts a connection into the table under its key.
 *
 * A connection of dv_dtls_conn_new() is there from the start, and one that is there stays where it
 * is. Where several have the same key, dv_dtls_conn_find() gives the oldest of them. A connection
 * that the caller allocated counts for no limit, and the library never gives it up.
 *
 * In a callback of OpenSSL's in the middle of a call about conn, errno becomes EBUSY and nothing is
 * added.
 *
 * @param conn a connection that the caller allocated, or one that dv_dtls_conn_del() has taken out;
 *     it must live until it is taken out again
 *
 * Errors: a NULL, or a key without an IPv4 or IPv6 address, is logged.
 */
void dv_dtls_conn_add(dv_udp_conn_t *conn);
#endif

#if !defined(DV_OMIT_DTLS_CONN_DEL)
/**
 * Takes a connection out of the table; it is recognised by its pointer, its SSL may have been freed
 * before.
 *
 * In a callback of OpenSSL's, while another thread does what is due for conn, errno becomes EBUSY
 * and nothing is done.
 *
 * @param conn the connection, which stays the caller's; NULL, or one that is not in the table, is
 *     fine
 */
void dv_dtls_conn_del(dv_udp_conn_t *conn);
#endif

#if !defined(DV_OMIT_DTLS_CONN_FIND)
/**
 * Finds the connection of a peer. What is due is done before.
 *
 * @param key the peer's address; NULL finds nothing
 *
 * @return the connection, or NULL; errno says nothing.
 *
 * Ownership: the connection stays in the table. It is readable until dv_dtls_conn_free(), also when
 * the library gives it up meanwhile.
 *
 * Threads: any may look. A connection that another thread used last may be given up by that one
 * until dv_dtls_read(), dv_dtls_write() or dv_dtls_shutdown() has made it this thread's: look at
 * its ssl after that.
 */
dv_udp_conn_t *dv_dtls_conn_find(dv_udp_conn_key_t *key);
#endif

/* ----------------------------------------------------------------------------------------------
 * connection: A connection: made from a hello, shut down, freed.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_CONN_NEW)
/**
 * Looks at a datagram of a peer that conn_find does not know, and makes a connection when the time
 * has come.
 *
 * With SSL_OP_COOKIE_EXCHANGE on ctx, a ClientHello without a valid cookie is answered with a
 * HelloVerifyRequest and nothing is kept (RFC 6347 4.2.1); anything else from a stranger is
 * dropped. The hello that brings the cookie back makes the connection. Without the option any
 * ClientHello makes one. The first flight is sent before this returns.
 *
 * A hello makes one connection: a copy of it, from the network or on another thread, gives NULL as
 * long as the connection is in the table, where dv_dtls_conn_find() finds it.
 *
 * Cookie callbacks of the program's own are asked, where ctx has some. No answer is longer than the
 * datagram: cookies of more than some 150 bytes are not sent, and the log says so.
 *
 * @param ctx an SSL_CTX for servers
 * @param buf the datagram
 * @param len its length in bytes
 * @param fd the UDP socket that it came through
 * @param key the peer's address
 * @param addrlen the length of the peer's address in bytes; where it does not fit the family, the
 *     family's is used
 *
 * @return the connection, or NULL: the datagram was answered or dropped, or a limit or a failure
 *     stood against it (the log and the statistics tell).
 *
 * Errors: errno is EINVAL for a NULL, or a len that is the -1 of recvfrom(); in all other cases it
 * says nothing.
 *
 * Ownership: the connection is in the table, and the caller frees it with dv_dtls_conn_free(). The
 * library may give it up at a deadline or a limit: then it is not in the table any more and its
 * ssl, rbio and wbio are NULL, but the struct stays readable until it is freed. Of those that are
 * never freed the library keeps 65,536, and frees the oldest beyond that. The SSL_CTX may be freed
 * before.
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
 * Says goodbye to the peer: sends a close_notify alert, if there is somebody who would understand
 * it.
 *
 * In a callback of OpenSSL's in the middle of a call about conn, errno becomes EBUSY and nothing is
 * sent.
 *
 * @param conn the connection, which stays to be freed with dv_dtls_conn_free(); NULL is fine
 * @param fd the UDP socket
 * @param addrlen the length of the peer's address in bytes; where it does not fit the family, the
 *     family's is used
 *
 * Threads: one at a time for a connection.
 */
void dv_dtls_shutdown(dv_udp_conn_t *conn, int fd, socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_CONN_FREE)
/**
 * Frees a connection: takes it out of the table, frees its SSL and the struct. NULL is fine.
 *
 * If its list member hangs in a list of the caller's, it is unlinked there. Nothing is sent: see
 * dv_dtls_shutdown().
 *
 * In a callback of OpenSSL's in the middle of a call about conn, errno becomes EBUSY and nothing is
 * freed.
 *
 * @param conn a connection of dv_dtls_conn_new(), given up by the library or not, or one that the
 *     caller allocated with malloc() or calloc() and whose SSL he made
 *
 * Threads: the one that uses the connection.
 */
void dv_dtls_conn_free(dv_udp_conn_t *conn);
#endif

/* ----------------------------------------------------------------------------------------------
 * messages: What goes through a connection: datagrams in, messages out, and the other way round.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_READ)
/**
 * Takes a datagram of the peer and gives the next message.
 *
 * During the handshake the datagram moves it on, and what the library has to say is sent before
 * this returns. A datagram may hold several records: their messages are queued (max_queued_messages
 * at most, 64 by default; more are dropped and counted) and come out one a call, before what
 * arrives later. A message longer than out_len is cut, as recvfrom() does.
 *
 * A forged or broken record never ends an established connection that dv_dtls_conn_new() has made.
 *
 * @param conn the connection
 * @param in_buf the datagram; NULL takes the next queued message without one
 * @param in_len its length in bytes; 0 with NULL
 * @param fd the UDP socket that it came through
 * @param out_buf receives the message; it may be in_buf
 * @param out_len how many bytes there is room for
 * @param addrlen the length of the peer's address in bytes; where it does not fit the family, the
 *     family's is used
 *
 * @return the length of the message in bytes; 0 when the handshake goes on or no message is there
 *     yet; -2 when the peer has closed the connection, or has restarted so that a new one takes its
 *     place, or the library has given it up: free it; -1 for an error.
 *
 * Errors: errno is EIO when the handshake failed or the peer sent a fatal alert (the log has the
 * cause): the connection is over, free it. With the others nothing has happened: EINVAL for a NULL,
 * no room, or an in_len that is the -1 of recvfrom(); ENOTCONN in the child of a fork; EBUSY in a
 * callback of OpenSSL's in the middle of a call about conn. That something could not be sent is
 * logged.
 *
 * Threads: one at a time for a connection.
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
 * Sends one message: one record, one datagram.
 *
 * @param conn the connection
 * @param in_buf the message
 * @param in_len its length in bytes, at least 1
 * @param fd the UDP socket
 * @param out_buf not used
 * @param out_len not used
 * @param addrlen the length of the peer's address in bytes; where it does not fit the family, the
 *     family's is used
 *
 * @return in_len, or -1.
 *
 * Errors: errno is EMSGSIZE when the message does not fit in a datagram of the MTU, EAGAIN while
 * the handshake goes on, ENOTCONN when the connection is over, EINVAL for a NULL or an empty
 * message, EBUSY in a callback of OpenSSL's in the middle of a call about conn, EIO when OpenSSL
 * failed, or else that of sendto(). In none of these cases has the message left.
 *
 * Threads: one at a time for a connection.
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
 * Sends what waits in wbio to key, one sendto() a datagram.
 *
 * What libssl wrote to a plain memory BIO is cut at record boundaries into datagrams of at most the
 * MTU.
 *
 * @param wbio the wbio of a connection, or a memory BIO
 * @param fd a UDP socket
 * @param key the peer's address
 * @param addrlen the length of the peer's address in bytes; where it does not fit the family, the
 *     family's is used
 *
 * @return 0 when all was sent, or -1 when nothing waited or an error occurred.
 *
 * Errors: errno is EAGAIN when nothing waited, EINVAL for a NULL or a key without an address, EBUSY
 * in a callback of OpenSSL's in the middle of a call about the connection of wbio, or else that of
 * sendto(): then what waited is gone.
 *
 * Threads: one at a time for a BIO.
 */
int dv_dtls_msg_send(BIO *wbio, int fd, dv_udp_conn_key_t *key, socklen_t addrlen);
#endif

/* ----------------------------------------------------------------------------------------------
 * config: How an endpoint is to behave.
 * ---------------------------------------------------------------------------------------------- */

/**
 * How an endpoint, a server or the helpers are to behave. Let dv_config_init or dv_dtls_config fill
 * it, then change what is to be different. Members are only ever added at the end.
 */
typedef struct dv_config {
    /** sizeof(dv_config), as the program knows it. */
    size_t size;
    /**
     * Sessions at once, handshakes included; at the limit the longest idle one of the fullest
     * source goes.
     */
    uint32_t max_sessions;
    /**
     * Handshakes with clients in progress at once. At this limit, and at that of a source,
     * newcomers are not answered; they ask again.
     */
    uint32_t max_handshakes;
    /**
     * Sessions from one source: an IPv4 address, or an IPv6 /64. At the limit its own longest idle
     * one goes.
     */
    uint32_t max_sessions_per_source;
    /** Handshakes in progress from one source. */
    uint32_t max_handshakes_per_source;
    /** Bytes of the largest IP packet to send, IP and UDP headers included: 256 to 65535. */
    uint32_t mtu;
    /**
     * Wait before a flight is sent again for the first time, in milliseconds, 10 at least; it
     * doubles after that.
     */
    uint32_t first_timeout_ms;
    /** The longest wait between two repetitions, in milliseconds. */
    uint32_t longest_timeout_ms;
    /** A handshake that takes longer is given up. */
    uint32_t handshake_timeout_ms;
    /** A session that hears nothing for so long is closed; 0: never. */
    uint32_t idle_timeout_ms;
    /**
     * Messages of one session that wait for the program to take them, 65535 at most; more are
     * dropped and counted.
     */
    uint32_t max_queued_messages;
    /**
     * Bytes of a peer's certificate chain; a handshake with a longer one fails. A session keeps its
     * peer's own certificate as long as it lives, and the chain as well where OpenSSL makes the
     * records: a session of somebody with a certificate that you trust can take so many bytes more.
     */
    uint32_t max_certificate_chain;
    /**
     * Bytes that wait for the program to take them, and as many that wait for it to send them. Not
     * of the helpers.
     */
    uint32_t max_waiting_bytes;
    /** Not 0: handshakes of clients are accepted. 0: the endpoint only connects. */
    int accept;
    /**
     * Not 0: a server that we connect to must have a certificate that the SSL_CTX trusts, whatever
     * its verify mode says.
     */
    int verify_server;
    /** Not 0: memory that idle sessions need only for traffic is given back. */
    int release_buffers;
    /** Bytes at cookie_secret; 16 at least. */
    uint32_t cookie_secret_len;
    /**
     * The secret behind the cookies, the same for all servers that answer for each other; NULL: a
     * random one. It is copied.
     */
    const void *cookie_secret;
    /**
     * With cookie_secret: Unix time minus the time that the endpoint is given, in microseconds. The
     * clocks of the servers may be a minute apart.
     */
    uint64_t unix_offset_us;
    /**
     * Of a server: its threads, 1 to 256. Each has its own sockets and sessions, and a client stays
     * with one of them. The limits of sessions and handshakes are those of the whole server,
     * max_waiting_bytes is for each of them.
     */
    uint32_t workers;
    /**
     * Of a server: bytes of the kernel's buffers of each socket. Less is no error: the system has
     * its own limits.
     */
    uint32_t socket_buffer;
    /**
     * Of a server. Not 0: the kernel may join and cut datagrams (UDP_GRO, UDP_SEGMENT), if it can.
     */
    int offload;
    /**
     * Of a server. Not 0: handshakes come in at sockets of their own, if the kernel can see to
     * that.
     */
    int steer_handshakes;
    /**
     * Of a server: the name of a file with random bytes, 16 at least. Servers that share it accept
     * each other's cookies and session tickets, and their own from before a restart. It is read by
     * dv_server_new and by each dv_server_reload. NULL: none. Of the helpers (dv_dtls_set_config):
     * the same for cookies. An endpoint does not look at it: give it what is in the file as
     * cookie_secret.
     */
    const char *secret_file;
    /**
     * Not 0: of DTLS 1.2 with AES-GCM or ChaCha20-Poly1305, OpenSSL makes the handshake and the
     * library the records, in a fraction of the time and of the memory. 0: OpenSSL makes both, as
     * it always does for the helpers.
     */
    int native_records;
    /** Not 0: handshakes whose master secret is not bound to them (RFC 7627) are refused. */
    int require_extended_master_secret;
    /**
     * Not 0: sessions may be known by connection IDs (RFC 9146), with peers that want them too. A
     * peer whose address changes then goes on without a handshake. They need native_records and its
     * cipher suites: a client offers no others then. The first endpoint that wants them changes the
     * SSL_CTX: while it is made nobody else may use that, other endpoints neither.
     */
    int connection_ids;
    /**
     * Bytes of our connection IDs, at most 32. 0: only those of the peers are used, and they are
     * found by their address. All implementations can do with 8; some can with no more than 10.
     */
    uint32_t connection_id_len;
    /**
     * What is sealed in records with the peer's connection ID is padded with zeros to a multiple of
     * so many bytes, 64 at most; 0: no padding.
     */
    uint32_t connection_id_padding;
    /**
     * Not 0: the new address of a peer is checked by asking the peer there (RFC 9853), if it can do
     * so too.
     */
    int routability_checks;
    /** Bytes at connection_id_server_id, 24 at most and fewer than connection_id_len. */
    uint32_t connection_id_server_id_len;
    /**
     * What our connection IDs begin with, in clear, so that a load balancer can tell which server a
     * datagram is for. A server with several workers puts one more byte behind it. What is left of
     * connection_id_len, at least one byte, is random.
     */
    uint8_t connection_id_server_id[24];
    /**
     * An export that takes longer to write, since nobody reads it, fails, and the sessions go on.
     * An import fails when nothing comes from its pipe or socket for so long. 0: no limit.
     */
    uint32_t export_timeout_ms;
} dv_config;

/**
 * Fills a configuration with the defaults: those of a server that is open to the world.
 *
 * @param config the configuration
 * @param size sizeof(dv_config)
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
 */
int dv_config_init(struct dv_config *config, size_t size);

/* ----------------------------------------------------------------------------------------------
 * endpoint: The endpoint: DTLS for any number of peers without a socket. Datagrams and time go in;
 * datagrams, events and the next deadline come out, and nothing is called back.
 * ---------------------------------------------------------------------------------------------- */

/** The handshake has finished: messages can be sent. */
#define DV_EVENT_OPENED 1

/** A message has come. */
#define DV_EVENT_MESSAGE 2

/**
 * The session is over, for the reason that is given. Each session that was opened or connected has
 * one such event.
 */
#define DV_EVENT_CLOSED 3

/**
 * The peer has another address. dv_session_addresses gives it; dv_session_is_peer_proven says
 * whether it has shown that it receives there. Only with connection_ids.
 */
#define DV_EVENT_MOVED 4

/** The peer closed the session. */
#define DV_CLOSED_BY_PEER 1

/** The program closed it. */
#define DV_CLOSED_LOCALLY 2

/** The handshake failed, or the peer sent a fatal alert; see dv_session_failure. */
#define DV_CLOSED_FAILED 3

/** The handshake took too long. */
#define DV_CLOSED_HANDSHAKE_TIMEOUT 4

/** Nothing was heard for too long. */
#define DV_CLOSED_IDLE_TIMEOUT 5

/** The peer has begun anew, and finished another handshake from the same address. */
#define DV_CLOSED_RESTARTED 6

/** It made room for another session. */
#define DV_CLOSED_EVICTED 7

/** Its keys have protected as much as they may. Connect again. */
#define DV_CLOSED_EXHAUSTED 8

/** It was exported and goes on in another process. */
#define DV_CLOSED_EXPORTED 9

/** An endpoint: a DTLS server, a client, or both, for any number of peers. */
typedef struct dv_endpoint dv_endpoint;

/** What a client keeps of a session, to resume it later without certificates. */
typedef struct dv_resumption dv_resumption;

/**
 * The address of a peer, or one of ours. The family says which member counts; all zero is no
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
 * A datagram that came in, or one that has to leave; or several of one length, as UDP_GRO and
 * UDP_SEGMENT take them.
 */
typedef struct dv_datagram {
    /** The bytes. */
    const void *data;
    /** How many. */
    size_t len;
    /** 0: one datagram. Else the length of each, of which the last may be shorter. */
    size_t segment_size;
    /** From whom it came, or to whom it goes. */
    union dv_address peer;
    /**
     * Our address that it came to, or must leave from (its port is not looked at); all zero where
     * that is not known.
     */
    union dv_address local;
} dv_datagram;

/**
 * A session with one peer: a number, not a pointer. The number of a session that is over gives
 * DV_ERR_STALE; 0 is none. It means something to its own endpoint or server alone.
 */
typedef uint64_t dv_session;

/** What has happened to a session. */
typedef struct dv_event {
    /** One of DV_EVENT_*. */
    int kind;
    /** One of DV_CLOSED_* with DV_EVENT_CLOSED, else 0. */
    int reason;
    /** The session. */
    dv_session session;
    /** What dv_session_set_user has attached to it. */
    void *user;
    /**
     * The message with DV_EVENT_MESSAGE, else NULL. It stands there until the next
     * dv_endpoint_event or dv_endpoint_receive, to which it must not be given; of a server, as long
     * as the callback runs.
     */
    const void *data;
    /** Bytes of the message; 0 without one. */
    size_t len;
} dv_event;

/**
 * Makes an endpoint.
 *
 * @param ctx the SSL_CTX that the sessions are made with: one for DTLS, with all set that they need
 *     (keys, certificates, verify mode, ALPN and so on). Cookies are the endpoint's own matter: it
 *     sets the context's cookie callbacks
 * @param config how it is to behave; NULL: the defaults
 * @param endpoint receives the endpoint, or NULL
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a setting that makes no sense, for a context
 *     that is not for DTLS, and for one with cookie callbacks of the program's own, unless accept
 *     is 0; DV_ERR_TLS when OpenSSL fails.
 *
 * Ownership: the endpoint is the caller's, to be freed with dv_endpoint_free. It keeps a reference
 * of its own to the SSL_CTX.
 */
int dv_endpoint_new(SSL_CTX *ctx, const dv_config *config, struct dv_endpoint **endpoint);

/**
 * Frees an endpoint. Its sessions are gone, and nothing is sent to their peers: to say goodbye,
 * close the sessions and transmit before.
 *
 * In a callback of OpenSSL's in the middle of another call about the endpoint, nothing is freed;
 * the log says so.
 *
 * @param endpoint the endpoint, or NULL
 */
void dv_endpoint_free(struct dv_endpoint *endpoint);

/**
 * Takes datagrams that have come in.
 *
 * @param endpoint the endpoint
 * @param now_us the time in microseconds, of any clock that never goes back, such as
 *     CLOCK_MONOTONIC; it is the same one for all calls, and a time before that of an earlier call
 *     counts as that
 * @param datagrams the datagrams
 * @param count how many
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when an address makes no sense or data is NULL;
 *     none of the datagrams was taken then. What peers send is never an error: it is counted, or
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
 * @return 1, or 0 when there is none, or a negative DV_ERR_*. After DV_EVENT_CLOSED the session can
 *     be asked until the next event is taken.
 */
int dv_endpoint_event(struct dv_endpoint *endpoint, struct dv_event *event);

/**
 * Gives the datagrams that have to leave, those of each session in their order. Call it until it
 * gives 0, or whenever the socket can be written to. What is given counts as sent: what the kernel
 * does not take is lost, as any datagram may be.
 *
 * @param endpoint the endpoint
 * @param out receives the datagrams; their bytes stand there until a function other than this one
 *     is called on the endpoint, to which they must not be given
 * @param max how many fit at out
 * @param segments how many datagrams of one length to one peer may be joined into one of out
 *     (UDP_SEGMENT takes 64); 1 for a program that sends them one by one
 *
 * @return how many of out are filled, or a negative DV_ERR_*.
 */
int dv_endpoint_transmit(struct dv_endpoint *endpoint,
                         struct dv_datagram *out,
                         size_t max,
                         size_t segments);

/**
 * Says when dv_endpoint_advance must be called.
 *
 * @param endpoint the endpoint
 *
 * @return the time in microseconds, of the clock that the endpoint is given; UINT64_MAX: nothing
 *     will be due. For NULL, and in a callback of OpenSSL's in the middle of another call about the
 *     endpoint, it is UINT64_MAX.
 */
uint64_t dv_endpoint_deadline(const struct dv_endpoint *endpoint);

/**
 * Does what is due: sends flights again, gives up handshakes and idle sessions. It takes a bounded
 * time; where very much is due, dv_endpoint_deadline is still not later than now_us after it, and
 * another call does more.
 *
 * @param endpoint the endpoint
 * @param now_us the time, as for dv_endpoint_receive
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_endpoint_advance(struct dv_endpoint *endpoint, uint64_t now_us);

/**
 * Begins a handshake with a server: its first datagram waits for dv_endpoint_transmit.
 * DV_EVENT_OPENED tells when it has finished, DV_EVENT_CLOSED that it did not.
 *
 * @param endpoint the endpoint
 * @param now_us the time, as for dv_endpoint_receive
 * @param to the server's address
 * @param to_len its length in bytes
 * @param name the DNS name or IP address that the server's certificate must carry; a DNS name is
 *     told to the server (SNI). NULL: any certificate will do that the SSL_CTX trusts
 * @param resume an earlier session with this server to resume, or NULL. When the server has
 *     forgotten it, or its certificate would not do now, there is a whole handshake
 * @param session receives the session, or 0
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_EXISTS when there is a session that was connected to
 *     this server already, DV_ERR_LIMIT at max_sessions, DV_ERR_INVALID for an address or a name
 *     that is none, DV_ERR_TLS when OpenSSL refuses, such as with an SSL_CTX that is for servers
 *     only, DV_ERR_FORKED in the child of a fork.
 */
int dv_endpoint_connect(struct dv_endpoint *endpoint,
                        uint64_t now_us,
                        const struct sockaddr *to,
                        socklen_t to_len,
                        const char *name,
                        const struct dv_resumption *resume,
                        dv_session *session);

/**
 * Sends one message: one record, in one datagram of its own, which then waits for
 * dv_endpoint_transmit.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param data the message
 * @param len its length in bytes, at least 1
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_NOT_ESTABLISHED, DV_ERR_STALE, DV_ERR_TOO_LONG;
 *     DV_ERR_AGAIN when max_waiting_bytes wait already; DV_ERR_UNPROVEN for a peer that has moved;
 *     DV_ERR_FORKED in the child of a fork.
 */
int dv_endpoint_send(struct dv_endpoint *endpoint,
                     dv_session session,
                     const void *data,
                     size_t len);

/**
 * Ends a session: the peer is sent a close_notify, and DV_EVENT_CLOSED follows. One that is over
 * already stays so.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_endpoint_close(struct dv_endpoint *endpoint, dv_session session);

/**
 * Gives the sessions that are open, or that the program has connected.
 *
 * @param endpoint the endpoint
 * @param out receives the sessions, in no order
 * @param max how many fit at out
 *
 * @return how many there are, which may be more than max; or a negative DV_ERR_*.
 */
int dv_endpoint_sessions(const struct dv_endpoint *endpoint, dv_session *out, size_t max);

/* ----------------------------------------------------------------------------------------------
 * error: What the functions of an endpoint return when they fail.
 * ---------------------------------------------------------------------------------------------- */

/** An argument is NULL where it must not be, or makes no sense; dv_last_error says which. */
#define DV_ERR_INVALID (-2)

/** The session is over, and its end was told; or there never was one with this number. */
#define DV_ERR_STALE (-3)

/**
 * Called from inside the log callback, or by a callback of OpenSSL's in the middle of another call
 * about the same endpoint; or with the endpoint of a server's callback after that has returned.
 */
#define DV_ERR_BUSY (-4)

/** The message does not fit in a datagram; see dv_session_message_max. */
#define DV_ERR_TOO_LONG (-5)

/** The handshake is not finished, or the session is closed. */
#define DV_ERR_NOT_ESTABLISHED (-6)

/** Too much waits to leave: call dv_endpoint_transmit first. Of a server: try again later. */
#define DV_ERR_AGAIN (-7)

/** The endpoint has as many sessions as it may have (max_sessions). */
#define DV_ERR_LIMIT (-8)

/**
 * The process is a fork of the one that made the endpoint or the server: two that seal with one key
 * would repeat nonces, and a server's threads are not in the child.
 */
#define DV_ERR_FORKED (-9)

/** OpenSSL failed; dv_last_error has its words. */
#define DV_ERR_TLS (-10)

/** There is a session with this peer already. */
#define DV_ERR_EXISTS (-11)

/** An error in the library itself. The log has its words; please report them. */
#define DV_ERR_PANIC (-12)

/** The kernel refused something; dv_last_error has its words. */
#define DV_ERR_IO (-13)

/**
 * The peer has moved, and its new address has not shown that it receives: no more may go there. See
 * dv_session_is_peer_proven.
 */
#define DV_ERR_UNPROVEN (-14)

/**
 * What is to be imported is damaged, cut short, sealed with another key, or of a newer version:
 * nothing of it was taken.
 */
#define DV_ERR_IMPORT (-15)

/**
 * Says what an error number means.
 *
 * @param error what a function has returned
 *
 * @return a text without details, such as "the session is over"; for 0 and above it is "no error".
 *
 * Ownership: the text is static.
 */
const char *dv_strerror(int error);

/**
 * Says why the last function that failed on this thread has failed: its name, the cause, and
 * OpenSSL's own words. A function that succeeds leaves it as it is. The helpers for the table, for
 * connections and for messages do not set it: they have an errno, and a line in the log.
 *
 * @return the text; empty when nothing has failed yet.
 *
 * Ownership: the library's; it is valid until the next function fails on this thread, or the thread
 * ends.
 */
const char *dv_last_error(void);

/* ----------------------------------------------------------------------------------------------
 * session: What can be asked of a session, from DV_EVENT_OPENED, or dv_endpoint_connect, until the
 * event behind its DV_EVENT_CLOSED is taken. A function that gives a text writes as much of it as
 * fits, and a NUL, and returns the length of the whole; with size 0 out may be NULL.
 * ---------------------------------------------------------------------------------------------- */

/** The handshake goes on. */
#define DV_SESSION_HANDSHAKING 1

/** Messages can be sent. */
#define DV_SESSION_ESTABLISHED 2

/** It is over. */
#define DV_SESSION_CLOSED 3

/**
 * Attaches a pointer of the program's own to a session: it comes with each event.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param user the pointer; the library does not follow it
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_session_set_user(dv_endpoint *endpoint, dv_session session, void *user);

/**
 * Gives the pointer that was attached to a session.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return the pointer; NULL when there is none, and in the place of each DV_ERR_*.
 *
 * Ownership: the program's.
 */
void *dv_session_user(const dv_endpoint *endpoint, dv_session session);

/**
 * Says where a session is.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return one of DV_SESSION_*, or a negative DV_ERR_*.
 */
int dv_session_state(const dv_endpoint *endpoint, dv_session session);

/**
 * Says whether we are the server of a session.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 1 or 0, or a negative DV_ERR_*.
 */
int dv_session_is_server(const dv_endpoint *endpoint, dv_session session);

/**
 * Says whether an earlier session was resumed, without certificates being shown.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 1 or 0, or a negative DV_ERR_*.
 */
int dv_session_is_resumed(const dv_endpoint *endpoint, dv_session session);

/**
 * Says how long a message may be.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return bytes; 0 before the handshake has finished; or a negative DV_ERR_*.
 */
int dv_session_message_max(const dv_endpoint *endpoint, dv_session session);

/**
 * Gives the peer's address, and ours that it speaks to.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param peer receives the peer's address; NULL: not wanted
 * @param local receives ours with port 0, all zero where it is not known; NULL: not wanted
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_session_addresses(const dv_endpoint *endpoint,
                         dv_session session,
                         dv_address *peer,
                         dv_address *local);

/**
 * Gives the peer's certificate; of a session that was resumed, the one that was shown in the first
 * handshake.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param certificate receives the certificate, or NULL
 *
 * @return 1, or 0 when the peer has shown none, or a negative DV_ERR_*. A certificate is good only
 *     if dv_session_verify_result says so.
 *
 * Ownership: the certificate is the caller's, to be freed with X509_free.
 */
int dv_session_peer_certificate(const dv_endpoint *endpoint,
                                dv_session session,
                                X509 **certificate);

/**
 * Gives OpenSSL's verdict on the peer's certificate.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param result receives X509_V_OK or one of X509_V_ERR_*; X509_V_OK too where there was no
 *     certificate
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_session_verify_result(const dv_endpoint *endpoint, dv_session session, long *result);

/**
 * Gives the application protocol that was agreed on (ALPN).
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size bytes at out, the NUL included
 *
 * @return the length of the whole text without the NUL, 0 when there is none, or a negative
 *     DV_ERR_*.
 */
int dv_session_alpn(const dv_endpoint *endpoint, dv_session session, char *out, size_t size);

/**
 * Gives the server name that the client asked for (SNI).
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size bytes at out, the NUL included
 *
 * @return the length of the whole text without the NUL, 0 when there is none, or a negative
 *     DV_ERR_*.
 */
int dv_session_server_name(const dv_endpoint *endpoint, dv_session session, char *out, size_t size);

/**
 * Gives OpenSSL's name of the cipher suite, such as "ECDHE-ECDSA-AES128-GCM-SHA256".
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size bytes at out, the NUL included
 *
 * @return the length of the whole text without the NUL, 0 when there is none yet, or a negative
 *     DV_ERR_*.
 */
int dv_session_cipher(const dv_endpoint *endpoint, dv_session session, char *out, size_t size);

/**
 * Gives the identity that the client gave with a pre-shared key.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size bytes at out, the NUL included
 *
 * @return the length of the whole text without the NUL, 0 when there is none, or a negative
 *     DV_ERR_*.
 */
int dv_session_psk_identity(const dv_endpoint *endpoint,
                            dv_session session,
                            char *out,
                            size_t size);

/**
 * Gives OpenSSL's name of the SRTP protection profile that was agreed on (RFC 5764).
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size bytes at out, the NUL included
 *
 * @return the length of the whole text without the NUL, 0 when there is none, or a negative
 *     DV_ERR_*.
 */
int dv_session_srtp_profile(const dv_endpoint *endpoint,
                            dv_session session,
                            char *out,
                            size_t size);

/**
 * Gives what OpenSSL says about a session that has failed (DV_CLOSED_FAILED).
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the text
 * @param size bytes at out, the NUL included
 *
 * @return the length of the whole text without the NUL, 0 when there is none, or a negative
 *     DV_ERR_*.
 */
int dv_session_failure(const dv_endpoint *endpoint, dv_session session, char *out, size_t size);

/**
 * Makes key material for another protocol out of the session's secrets (RFC 5705): the same on both
 * sides. Once the session is open.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param label what it is for, such as "EXTRACTOR-dtls_srtp"; none of TLS's own labels
 * @param context more that goes into it; NULL: nothing, which is not the same as an empty one
 * @param context_len bytes of context
 * @param out receives the key material
 * @param len bytes that are wanted
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
 * Gives what a client keeps of a session, to resume it later with dv_endpoint_connect.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param resumption receives it, or NULL
 *
 * @return 1, or 0 when the session cannot be resumed, or a negative DV_ERR_*.
 *
 * Ownership: the caller's, to be freed with dv_resumption_free. It can be used more than once, by
 * all endpoints with the same SSL_CTX, and lives longer than they.
 */
int dv_session_resumption(const dv_endpoint *endpoint,
                          dv_session session,
                          dv_resumption **resumption);

/**
 * Frees what dv_session_resumption gave.
 *
 * @param resumption it, or NULL
 */
void dv_resumption_free(dv_resumption *resumption);

/* ----------------------------------------------------------------------------------------------
 * session_ids: Sessions that are known by connection IDs (RFC 9146), and peers that move.
 * ---------------------------------------------------------------------------------------------- */

/**
 * Gives our connection ID, which the records of a session's peer carry.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the ID
 * @param size bytes at out; an ID of ours has 32 at most
 *
 * @return its length, 0 without one, or a negative DV_ERR_*.
 */
int dv_session_connection_id(const dv_endpoint *endpoint,
                             dv_session session,
                             void *out,
                             size_t size);

/**
 * Gives the peer's connection ID, which our records carry.
 *
 * @param endpoint the endpoint
 * @param session the session
 * @param out receives the ID
 * @param size bytes at out; an ID of a peer has 255 at most
 *
 * @return its length, 0 without one, or a negative DV_ERR_*.
 */
int dv_session_peer_connection_id(const dv_endpoint *endpoint,
                                  dv_session session,
                                  void *out,
                                  size_t size);

/**
 * Says whether the peer's address has shown that it receives: always, unless the peer has moved
 * there. Until then at most three times what has come from there goes there, and more is refused
 * with DV_ERR_UNPROVEN.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 1 or 0, or a negative DV_ERR_*.
 */
int dv_session_is_peer_proven(const dv_endpoint *endpoint, dv_session session);

/**
 * Tells that the program has found out by its own means that the peer receives at its new address,
 * from an answer to something unforeseeable for instance: from now on what goes there has no limit.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_session_confirm_peer(dv_endpoint *endpoint, dv_session session);

/* ----------------------------------------------------------------------------------------------
 * stats: What an endpoint has counted.
 * ---------------------------------------------------------------------------------------------- */

/**
 * What an endpoint, a server or the helpers' table has counted since it was made. sessions and
 * handshakes are what there is now, all others only grow. Members are only ever added at the end.
 */
typedef struct dv_stats {
    /** Sessions that are open now, or that the program has connected. */
    uint64_t sessions;
    /** Handshakes with clients in progress now. */
    uint64_t handshakes;
    /** Datagrams that came in. */
    uint64_t datagrams_in;
    /** Datagrams that the kernel has taken; of an endpoint, those that it gave to be sent. */
    uint64_t datagrams_out;
    /** Datagrams from strangers that are no ClientHello: dropped. */
    uint64_t strangers_dropped;
    /** ClientHellos without a valid cookie: answered with a HelloVerifyRequest. */
    uint64_t hellos_answered;
    /**
     * ClientHellos whose first fragment does not reach over the cookie, or makes no sense up to
     * there: dropped.
     */
    uint64_t hellos_too_short;
    /** Cookies that did not verify. */
    uint64_t cookies_refused;
    /** Handshakes begun: cookies that verified, and handshakes of dv_endpoint_connect. */
    uint64_t handshakes_begun;
    /** Handshakes finished. */
    uint64_t handshakes_finished;
    /** Handshakes that failed in libssl. */
    uint64_t handshakes_failed;
    /** Handshakes given up at their deadline. */
    uint64_t handshakes_timed_out;
    /**
     * Handshakes refused because of max_handshakes, or given up for one of a source that has fewer.
     */
    uint64_t refused_handshakes;
    /**
     * Handshakes refused because of max_handshakes_per_source, or because of
     * max_sessions_per_source with nobody to make room.
     */
    uint64_t refused_source;
    /** Connections refused because of max_sessions, with nobody to make room. */
    uint64_t refused_connections;
    /** Handshakes refused because too much waited for the program to read it. */
    uint64_t refused_unread;
    /** Connections given up to make room for another. */
    uint64_t evicted;
    /** Connections closed because nothing was heard of them. */
    uint64_t idle_timed_out;
    /** Connections replaced by a new handshake from the same address (RFC 6347 4.2.8). */
    uint64_t restarted;
    /** Handshakes given up because another one of the same peer took their place. */
    uint64_t superseded;
    /** Connections closed by their peer. */
    uint64_t closed_by_peer;
    /** Flights sent again because a timer ran out. */
    uint64_t flights_resent_on_timeout;
    /**
     * Flights sent again because the peer repeated its own, or sent messages without having
     * finished the handshake.
     */
    uint64_t flights_resent_on_repeat;
    /** Times that a connection's MTU was stepped down. */
    uint64_t mtu_stepped_down;
    /** Messages handed to the program. */
    uint64_t messages_in;
    /** Messages sent. */
    uint64_t messages_out;
    /** Messages dropped because too many waited. */
    uint64_t messages_dropped;
    /** Messages refused because they do not fit in a datagram. */
    uint64_t messages_too_long;
    /** Datagrams to send that were dropped because too many waited to leave. */
    uint64_t datagrams_dropped;
    /** Records dropped without a look inside: alerts in clear, wrong epochs, cut short. */
    uint64_t records_dropped;
    /** Helpers only: messages cut because the program's buffer was too small. */
    uint64_t messages_cut;
    /**
     * Helpers only: structs of given-up connections that nobody freed, freed to bound their number.
     */
    uint64_t abandoned_freed;
    /** Of a server: datagrams that the kernel dropped because a socket's buffer was full. */
    uint64_t kernel_drops;
    /**
     * Of a server: datagrams of handshakes that were dropped because more waited than their share
     * of the time allows.
     */
    uint64_t handshakes_shed;
    /** Of a server: times that a socket had no room for what was to leave, which then waited. */
    uint64_t socket_full;
    /** Of a server: datagrams that the kernel refused to send. */
    uint64_t datagrams_refused;
    /**
     * Of a server: messages of dv_server_send that could not be sent any more when their worker
     * came to them.
     */
    uint64_t messages_refused;
    /** Sessions whose records were taken over from OpenSSL (native_records). */
    uint64_t records_taken_over;
    /** Sessions that are known by a connection ID of ours (connection_ids). */
    uint64_t connection_ids_used;
    /** Times that a peer went on from another address. */
    uint64_t peers_moved;
    /** New addresses of peers that have shown that they receive. */
    uint64_t addresses_proven;
    /**
     * New addresses of peers that were asked to show it and did not: the peer was looked for where
     * it was before.
     */
    uint64_t addresses_refused;
    /**
     * Datagrams that did not leave because the new address of their peer has not shown that it
     * receives.
     */
    uint64_t datagrams_withheld;
    /** Of a server: datagrams for a session of another worker, which were handed over. */
    uint64_t datagrams_handed_over;
    /** Of a server: datagrams for a session of another worker, which had no room for them. */
    uint64_t handovers_dropped;
} dv_stats;

/**
 * Gives what an endpoint has counted.
 *
 * @param endpoint the endpoint
 * @param stats receives the counters
 * @param size sizeof(dv_stats)
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
 */
int dv_endpoint_stats(const dv_endpoint *endpoint, struct dv_stats *stats, size_t size);

/* ----------------------------------------------------------------------------------------------
 * server: The server: sockets, threads and the loop, with an endpoint in each thread. Its functions
 * may be called from any thread at any time, but for dv_server_free, which is the last call.
 * ---------------------------------------------------------------------------------------------- */

/** A server. */
typedef struct dv_server dv_server;

/**
 * Is called when something has happened to a session of a server.
 *
 * Each worker calls it from its own thread: for several sessions at once, but for one session never
 * twice at the same time. endpoint is the worker's own, and event is about a session of it: with
 * it, and as long as the callback runs, dv_endpoint_send, dv_endpoint_close, dv_endpoint_sessions
 * and all of dv_session_* can be called. What drives an endpoint is the server's to do, and gives
 * DV_ERR_INVALID; after the callback, everything gives DV_ERR_BUSY until the next one. Other
 * sessions of the server are reached with dv_server_send. user is what dv_server_new was given.
 */
typedef void (*dv_callback)(dv_endpoint *endpoint, const dv_event *event, void *user);

/** What a server calls. What is NULL is not called. Members are only ever added at the end. */
typedef struct dv_callbacks {
    /** sizeof(dv_callbacks), as the program knows it. */
    size_t size;
    /** A client has finished its handshake. */
    dv_callback open;
    /** A message has come. */
    dv_callback message;
    /**
     * A session that was opened is over. It can still be asked for what it was; nothing can be sent
     * any more.
     */
    dv_callback close;
    /** The peer of a session has another address; see DV_EVENT_MOVED. */
    dv_callback moved;
} dv_callbacks;

/**
 * Makes a server, which is bound to no address yet.
 *
 * @param ctx the SSL_CTX that the sessions are made with, as for dv_endpoint_new
 * @param config how it is to behave; NULL: the defaults
 * @param callbacks what it calls; it is copied
 * @param user is given to the callbacks, until dv_server_free returns; the library does not follow
 *     it
 * @param server receives the server, or NULL
 *
 * @return 0 or a negative DV_ERR_*: as dv_endpoint_new; DV_ERR_INVALID also for a secret_file that
 *     cannot be read, and for NULL callbacks.
 *
 * Ownership: the server is the caller's, to be freed with dv_server_free. It keeps a reference of
 * its own to the SSL_CTX.
 */
int dv_server_new(SSL_CTX *ctx,
                  const dv_config *config,
                  const struct dv_callbacks *callbacks,
                  void *user,
                  struct dv_server **server);

/**
 * Stops a server that runs, waits for its threads, and frees it. In the child of a fork it only
 * frees what is the child's.
 *
 * In a callback on one of its threads, be it one of the server's or of OpenSSL's, nothing is freed;
 * the log says so.
 *
 * @param server the server, or NULL
 */
void dv_server_free(struct dv_server *server);

/**
 * Takes an address to listen on. A server can have several addresses, with one port each; a
 * wildcard address stands for all of its family. A name is looked up, which may take its time.
 *
 * @param server the server, which was not started yet
 * @param host an IPv4 or IPv6 address or a name; NULL: all addresses, of both families where there
 *     is IPv6
 * @param port the UDP port as a number in a text, such as "4433"; "0" takes a free one
 *
 * @return the port, or a negative DV_ERR_*: DV_ERR_IO when the kernel refuses the address, or the
 *     name is not known.
 */
int dv_server_bind(struct dv_server *server, const char *host, const char *port);

/**
 * Takes over a UDP socket that is bound already, and connected to nobody, such as one that the
 * program was started with. One worker serves it. To let several serve an address, hand in as many
 * sockets (SO_REUSEPORT): they go to the workers in turn.
 *
 * @param server the server, which was not started yet
 * @param fd the socket. When the call succeeds it is the server's, which closes it in the end
 *
 * @return the port, or a negative DV_ERR_*: DV_ERR_IO for a descriptor that is no such socket.
 */
int dv_server_bind_fd(struct dv_server *server, int fd);

/**
 * Starts the threads of a server. It is started once: when it is over, it can only be freed.
 *
 * The threads must be over, by dv_server_join() or dv_server_free(), before the program calls
 * exit() or returns from main(): OpenSSL cleans up then, whoever still uses it. From that moment on
 * no handshake can begin, and one that a thread works on may crash the program. One that cannot
 * wait for its threads ends with _exit(), which cleans up nothing.
 *
 * @param server the server, which is bound to an address
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID without an address, or a second time; DV_ERR_IO
 *     when there are no more threads to be had: the server is over then.
 */
int dv_server_start(struct dv_server *server);

/**
 * Waits until a server that was started is over, after dv_server_stop or dv_server_shutdown. Of one
 * that was not started, or that is over, it returns at once. Not from inside a callback.
 *
 * @param server the server
 *
 * @return 0, or a negative DV_ERR_*: why it has ended by itself.
 */
int dv_server_join(struct dv_server *server);

/**
 * Starts a server and waits until it is over: dv_server_start and dv_server_join.
 *
 * @param server the server
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_server_run(struct dv_server *server);

/**
 * Ends a server: each peer is sent a close_notify. It does not wait for that, and may be called
 * from a signal handler. One that was not started yet ends as soon as it is.
 *
 * @param server the server, or NULL
 */
void dv_server_stop(struct dv_server *server);

/**
 * Accepts nobody any more, and ends a server when all sessions are over, or after a time, when each
 * peer that is left is sent a close_notify. It does not wait for that.
 *
 * @param server the server
 * @param timeout_ms that time in milliseconds
 *
 * @return 0 or a negative DV_ERR_*.
 */
int dv_server_shutdown(struct dv_server *server, uint32_t timeout_ms);

/**
 * Begins sessions with another SSL_CTX from now on, with another certificate for instance. Those
 * that there are go on with what they have.
 *
 * @param server the server
 * @param ctx the SSL_CTX, as for dv_server_new; a new one, not the old one changed
 *
 * @return 0 or a negative DV_ERR_*; then nothing has changed.
 */
int dv_server_reload(struct dv_server *server, SSL_CTX *ctx);

/**
 * Queues one message for a session, from any thread. Inside a callback, dv_endpoint_send spares the
 * queue.
 *
 * @param server the server
 * @param session the session
 * @param data the message
 * @param len its length in bytes, at least 1
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_AGAIN when too much waits in the queue, and between an
 *     export and its end; DV_ERR_TOO_LONG for more than a record can hold (16384 bytes). A message
 *     that turns out not to fit in a datagram, or whose session ends before its turn, is dropped
 *     and counted.
 */
int dv_server_send(struct dv_server *server, dv_session session, const void *data, size_t len);

/**
 * Asks for the end of a session, from any thread: the peer is sent a close_notify, and the close
 * callback follows.
 *
 * @param server the server
 * @param session the session
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_STALE when it is over already.
 */
int dv_server_close(struct dv_server *server, dv_session session);

/**
 * Gives what a server has counted, all its workers together.
 *
 * @param server the server
 * @param stats receives the counters
 * @param size sizeof(dv_stats)
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
 */
int dv_server_stats(const struct dv_server *server, dv_stats *stats, size_t size);

/* ----------------------------------------------------------------------------------------------
 * export: Export and import: sessions that go on in another process, after a restart or an upgrade,
 * without a handshake.
 * ---------------------------------------------------------------------------------------------- */

/** Bytes of the key that an export is sealed with. */
#define DV_EXPORT_KEY_LEN 32

/**
 * Writes down all established sessions of an endpoint, sealed. From here on they stand still:
 * nothing is sent or received on them, until dv_endpoint_export_commit ends them or
 * dv_endpoint_export_cancel lets them go on. When it fails they go on.
 *
 * Take the events and transmit before: what has come in already is this program's to answer, and
 * afterwards it cannot. What waits to leave still does.
 *
 * @param endpoint the endpoint
 * @param fd what is written to: a file, a pipe or a stream socket, blocking or not. A reader who is
 *     gone is an error, not a SIGPIPE, and so is one who has not read it within export_timeout_ms
 * @param key a random key, which the other process must have
 * @param key_len DV_EXPORT_KEY_LEN
 * @param left receives how many established sessions cannot travel, since OpenSSL makes their
 *     records; NULL: not wanted
 *
 * @return how many sessions were written, or a negative DV_ERR_*.
 */
int dv_endpoint_export(dv_endpoint *endpoint,
                       int fd,
                       const void *key,
                       size_t key_len,
                       size_t *left);

/**
 * Ends the sessions that were exported, without a word to their peers: they have a new home.
 * DV_EVENT_CLOSED follows for each.
 *
 * @param endpoint the endpoint
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when there is no export to be ended.
 */
int dv_endpoint_export_commit(dv_endpoint *endpoint);

/**
 * Lets the sessions that were exported go on here. Only when nobody has imported them, and nobody
 * will: two processes that seal with one key repeat nonces, which is the end of all that the key
 * protects.
 *
 * @param endpoint the endpoint
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when there is no export to be ended.
 */
int dv_endpoint_export_cancel(dv_endpoint *endpoint);

/**
 * Goes on with the sessions of an export, of an endpoint or of a server: all of them or, with an
 * error, none. DV_EVENT_OPENED tells of each, and dv_session_is_imported that there was no
 * handshake. What dv_session_set_user had attached comes with it: as a number that the other
 * process knew, not as a pointer to follow.
 *
 * @param endpoint the endpoint
 * @param now_us the time, as for dv_endpoint_receive
 * @param fd what is read from. A file must be open for writing, too: it is made empty, so that
 *     nobody imports it again. A pipe or a socket that nothing comes from for export_timeout_ms is
 *     an error
 * @param key the key that it is sealed with
 * @param key_len DV_EXPORT_KEY_LEN
 * @param skipped receives how many sessions were skipped because their peers have begun others here
 *     already, or were closed because of require_extended_master_secret; NULL: not wanted
 *
 * @return how many sessions go on, or a negative DV_ERR_*: DV_ERR_IMPORT when it is not whole or
 *     not for us, DV_ERR_LIMIT when there are more than max_sessions.
 */
int dv_endpoint_import(dv_endpoint *endpoint,
                       uint64_t now_us,
                       int fd,
                       const void *key,
                       size_t key_len,
                       size_t *skipped);

/**
 * Writes down all established sessions of a server that runs, as dv_endpoint_export does. From here
 * on the server stands still, and the kernel keeps what comes in, until dv_server_export_commit or
 * dv_server_export_cancel; dv_server_send gives DV_ERR_AGAIN. When it fails the server goes on; it
 * fails, too, when dv_server_stop is called before it is written. Not from inside a callback.
 *
 * @param server the server
 * @param fd what is written to
 * @param key a random key, which the other process must have
 * @param key_len DV_EXPORT_KEY_LEN
 * @param left receives how many established sessions cannot travel; NULL: not wanted
 *
 * @return how many sessions were written, or a negative DV_ERR_*.
 */
int dv_server_export(dv_server *server, int fd, const void *key, size_t key_len, size_t *left);

/**
 * Ends a server whose sessions were exported: they are over here, and their peers notice nothing;
 * those that could not travel are sent a close_notify. dv_server_join waits for it; then the
 * addresses are free. Not from inside a callback.
 *
 * @param server the server
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when there is no export to be ended.
 */
int dv_server_export_commit(dv_server *server);

/**
 * Lets a server whose sessions were exported go on, under the condition of
 * dv_endpoint_export_cancel. Not from inside a callback.
 *
 * @param server the server
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID when there is no export to be ended.
 */
int dv_server_export_cancel(dv_server *server);

/**
 * Goes on with the sessions of an export, of a server or of an endpoint: all of them or, with an
 * error, none. Once the server is started, the open callback is called for each; see
 * dv_endpoint_import.
 *
 * @param server the server, which is bound to its addresses and was not started yet
 * @param fd what is read from. A file must be open for writing, too: it is made empty, so that
 *     nobody imports it again. A pipe or a socket that nothing comes from for export_timeout_ms is
 *     an error
 * @param key the key that it is sealed with
 * @param key_len DV_EXPORT_KEY_LEN
 * @param skipped receives how many sessions were skipped because their peers speak to an address
 *     that this server does not have, or were closed because of require_extended_master_secret;
 *     NULL: not wanted
 *
 * @return how many sessions go on, or a negative DV_ERR_*.
 */
int dv_server_import(dv_server *server, int fd, const void *key, size_t key_len, size_t *skipped);

/**
 * Says whether a session comes from another process: DV_EVENT_OPENED was not about a handshake.
 *
 * @param endpoint the endpoint
 * @param session the session
 *
 * @return 1 or 0, or a negative DV_ERR_*.
 */
int dv_session_is_imported(const dv_endpoint *endpoint, dv_session session);

/* ----------------------------------------------------------------------------------------------
 * operate: For programs that can add a line: time, settings, and what has happened.
 * ---------------------------------------------------------------------------------------------- */

/**
 * Says how long the calling thread may sleep until something is due for its connections: pass it to
 * epoll_wait().
 *
 * @return milliseconds, rounded up; 0 when something is due now; -1 when nothing will be. Another
 *     call of a helper may change it.
 *
 * Threads: each has its own answer.
 */
int dv_dtls_next_timeout(void);

/**
 * Does what is due for the connections that the calling thread used last: sends flights again,
 * gives up handshakes that take too long and connections that are idle for too long. Call it when
 * dv_dtls_next_timeout() has passed; every other helper does a part of it too. What it sends does
 * not block.
 *
 * @return how many connections were looked after. Where very many are due, dv_dtls_next_timeout()
 *     gives 0 after it, and another call does more.
 */
int dv_dtls_handle_timeouts(void);

/**
 * Gives the settings that the helpers work with: the defaults, changed by environment variables
 * (DV_MTU, DV_MAX_CONNECTIONS, DV_MAX_HANDSHAKES, DV_MAX_CONNECTIONS_PER_SOURCE,
 * DV_MAX_HANDSHAKES_PER_SOURCE, DV_MAX_CERTIFICATE_CHAIN, DV_FIRST_TIMEOUT_MS,
 * DV_LONGEST_TIMEOUT_MS, DV_HANDSHAKE_TIMEOUT_MS, DV_IDLE_TIMEOUT_MS, DV_RELEASE_BUFFERS) and by
 * dv_dtls_set_config(). The environment is read once, when the first helper needs it; the log tells
 * of a variable that makes no sense, and the default stays.
 *
 * @param config receives the settings; what only concerns endpoints and servers is 0
 * @param size sizeof(dv_config)
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
 */
int dv_dtls_config(dv_config *config, size_t size);

/**
 * Sets the settings of the helpers: limits, deadlines, MTU, and the secret that cookies are made
 * with. They hold for connections that begin from now on; a lower limit gives nobody up. Let
 * dv_dtls_config() fill the struct, then change what is to be different.
 *
 * release_buffers gives OpenSSL's buffers of idle connections back: say so only if the program
 * never calls SSL_write() on the ssl of a connection itself. A secret_file, which is read by each
 * call, or a cookie_secret makes cookies good for all processes that have it, as the file named by
 * the environment variable DV_COOKIE_SECRET_FILE does; those that are out stay good. What only
 * concerns endpoints and servers changes nothing, native_records among it.
 *
 * @param config the settings
 *
 * @return 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has, a
 *     setting that makes no sense, or a secret_file that cannot be read.
 *
 * Threads: may be called at any time.
 */
int dv_dtls_set_config(const dv_config *config);

/**
 * Gives what has happened to the helpers' table since the program started, all threads together.
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
 * Gives the version of this library as text, such as "0.1.0".
 *
 * @return the text.
 *
 * Ownership: the text is static.
 */
const char *dv_version(void);

/**
 * Gives the version of this library as a number.
 *
 * @return major * 65536 + minor * 256 + patch.
 */
unsigned int dv_version_num(void);

/**
 * Tells whether a program that was written for one version of this library can run with this one
 * and with the OpenSSL that is loaded. A program that calls it first gets a clear answer where it
 * would otherwise get strange errors.
 *
 * @param least the oldest version that will do, as dv_version_num() gives it; 0 asks about OpenSSL
 *     only
 *
 * @return DV_OK, or DV_ERROR when this library is older than least, or when OpenSSL has another
 *     major version than the one that this library was built against. Each function that sets up a
 *     context or begins something with one fails then, too, and the log says why.
 */
int dv_check_version(unsigned int least);

/* ----------------------------------------------------------------------------------------------
 * log: The log, for C.
 * ---------------------------------------------------------------------------------------------- */

/** A call failed because of what the program or the operator gave. */
#define DV_LOG_ERROR 1

/** Something was refused or given up that somebody may miss. */
#define DV_LOG_WARN 2

/** Connections come and go. */
#define DV_LOG_INFO 3

/** Single datagrams. */
#define DV_LOG_DEBUG 4

/**
 * Receives one log line: its level (one of DV_LOG_*), its text without a newline, valid during the
 * call, and the pointer that was given with the callback. It may call the helpers; functions that
 * return DV_ERR_* give DV_ERR_BUSY.
 */
typedef void (*dv_log_callback)(int level, const char *line, void *user);

/**
 * Sets what receives the log: lines of level and more important ones. Without this there is none,
 * unless the operator has set DV_LOG (error, warn, info or debug) in the environment: then the
 * helpers show it on stderr, from the first one that is called.
 *
 * Lines come at the end of the call that caused them, on its thread, when the library holds no
 * lock. What happens inside the callback adds no lines.
 *
 * @param level the least important level that is wanted, one of DV_LOG_*; 0 turns the log off
 * @param callback what receives the lines; NULL turns the log off
 * @param user handed to the callback as it is; may be NULL
 *
 * Ownership: callback and user must stay good until another callback is set and no call into the
 * library runs on another thread any more.
 *
 * Threads: may be called at any time. The callback is called on every thread that uses the library,
 * on several at once.
 */
void dv_set_log_callback(int level, dv_log_callback callback, void *user);

#ifdef __cplusplus
}
#endif

#endif
