/*
 * dv_dtls: DTLS for many clients on one UDP socket, on the system's OpenSSL (3.0 or later).
 *
 * WHAT IT IS
 *
 * The program keeps its socket, its loop and its SSL_CTX. The library has the helpers in between: it
 * finds the connection that a datagram belongs to, lets strangers prove their address with a cookie
 * before anything is kept for them, cuts flights to the MTU, repeats what was lost, and decrypts and
 * encrypts messages. Link with -ldv_dtls -lssl -lcrypto (pkg-config: dv_dtls libssl libcrypto). The
 * library must use the same libssl as the program.
 *
 * THE ORDER OF CALLS
 *
 * A server, once:
 *
 *     dv_check_version(DV_VERSION_NUM);          DV_ERROR: another library than this header's
 *     ctx = SSL_CTX_new(DTLS_server_method());
 *     dv_ssl_certificate(ctx, "server.pem", "server.key");
 *     dv_openssl_ctx_set_ciphers(ctx, "ECDHE+AESGCM");
 *     SSL_CTX_set_options(ctx, SSL_OP_COOKIE_EXCHANGE);
 *     SSL_CTX_set_cookie_generate_cb(ctx, dv_dtls_generate_cookie_callback);
 *     SSL_CTX_set_cookie_verify_cb(ctx, dv_dtls_verify_cookie_callback);
 *     dv_add_epoll_event(epfd, &ev, fd);
 *
 * then, for ever,
 *
 *     n = epoll_wait(epfd, events, EVENTS_MAX, dv_dtls_next_timeout());
 *     dv_dtls_handle_timeouts();
 *
 * and for each datagram:
 *
 *     memset(&key, 0, sizeof(key));              the whole key is compared, padding too
 *     addrlen = sizeof(key);                     recvfrom shortens it: set it each time
 *     n = recvfrom(fd, in, sizeof(in), 0, &key.addr, &addrlen);
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
 * After a message, dv_dtls_read(conn, NULL, 0, ...) takes the next record of the same datagram, until
 * it returns 0. A loop that cannot add the two lines about timeouts and waits without a limit works
 * too: every call does a part of what is due.
 *
 * A client sets up its SSL_CTX with the same context helpers, says with dv_openssl_set_peer_name which
 * name the server's certificate must carry, and then uses SSL_connect, SSL_read and SSL_write.
 * c-examples/ has both, ready to run.
 *
 * CONVENTIONS, unless a function says otherwise
 *
 * Pointers   NULL where something is needed is an error and no crash; nothing is changed.
 * Errors     are the return value; the log (dv_set_log_callback) names the cause. The library prints
 *            nothing, never exits, and touches no signals.
 * Ownership  what is passed in stays the caller's and need only live during the call. A connection
 *            is the library's until dv_dtls_conn_free, and readable until then, whatever became of
 *            its peer.
 * Threads    different connections may be used by different threads at once, one connection by one
 *            thread at a time. The table may be used by all threads. An SSL_CTX is set up by one
 *            thread, before it is used.
 * fork       a child process starts with an empty table.
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
 * The types that the helpers share with their callers; their layout is the original's.
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

/**
 * A link of an intrusive list. Its place belongs to the caller: the library's own table does not
 * use it.
 */
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
/** A connection. */
typedef struct _dv_udp_conn_t {
    /** For the caller's own lists. */
    DV_LIST_NODE list;
    /** The peer's address. */
    union _dv_udp_conn_key_t key;
    /** The SSL of the connection, or NULL once the library has given it up. */
    void *ssl;
    /** The BIO that libssl reads from. */
    void *rbio;
    /** The BIO that libssl writes to. */
    void *wbio;
} dv_udp_conn_t;
#endif

/* ----------------------------------------------------------------------------------------------
 * Setting up an SSL_CTX, the check of the peer's certificate, and watching a socket.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_OPENSSL_CTX_SET_CIPHERS)
/**
 * Sets the ciphers of a context, the groups X25519, P-256 and P-384 for the key exchange, and DTLS
 * 1.2 as the version.
 *
 * @param ctx the SSL_CTX
 * @param ciphers a list of TLS 1.2 ciphers in OpenSSL's notation, such as "ECDHE+AESGCM"
 *
 * @return DV_OK, or DV_ERROR; the context is as it was then.
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
 * @param mode SSL_VERIFY_NONE, or SSL_VERIFY_PEER and the other SSL_VERIFY_* bits
 * @param peer_cf a PEM file of CA certificates, and of revocation lists if there are any
 *
 * Errors: what cannot be loaded is logged, and then every handshake of an SSL that is made from the
 * context fails, whatever the mode, until a call succeeds.
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
 * @return 0, or -1; the context is as it was then.
 *
 * Errors: a file that cannot be read, has no certificate or key in it, or is larger than 16 MiB; a
 * key that does not belong to the certificate; one that OpenSSL's security level refuses.
 */
int dv_ssl_certificate(void *ctx, char *cert, char *key);
#endif

#if !defined(DV_OMIT_ADD_EPOLL_EVENT)
/**
 * Watches a descriptor for input (EPOLLIN). One that is watched already stays as it is.
 *
 * @param epfd the epoll descriptor
 * @param ev receives what is watched for, with the descriptor in data.fd; may be NULL
 * @param fd the descriptor to watch
 *
 * Errors: what the kernel refuses is logged.
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
 * @return DV_OK, or DV_ERROR; the SSL is as it was then. A later name takes the place of an earlier
 *     one.
 *
 * Errors: a name that is neither, or longer than 255 bytes; an SSL whose handshake has begun.
 */
int dv_openssl_set_peer_name(void *s, const char *name);

/* ----------------------------------------------------------------------------------------------
 * The cookie callbacks: a pair for SSL_CTX_set_cookie_generate_cb() and
 * SSL_CTX_set_cookie_verify_cb().
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_GENERATE_COOKIE_CALLBACK)
/**
 * Makes a cookie of 21 bytes for the peer that ssl listens to. For
 * SSL_CTX_set_cookie_generate_cb().
 *
 * @param ssl the SSL
 * @param cookie receives the cookie; at least 21 bytes (libssl gives 255)
 * @param cookie_len receives the length of the cookie in bytes
 *
 * @return 1, or 0 for a NULL.
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
 * The table of connections, by the peer's address.
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
 * The table does not use it, since whoever chooses his address can aim at it. It is there for
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
 * A connection of dv_dtls_conn_new() is there from the start. Where several have the same key,
 * dv_dtls_conn_find() gives the oldest of them. The connection stays the caller's.
 *
 * @param conn a connection that the caller allocated, or one that dv_dtls_conn_del() has taken out
 */
void dv_dtls_conn_add(dv_udp_conn_t *conn);
#endif

#if !defined(DV_OMIT_DTLS_CONN_DEL)
/**
 * Takes a connection out of the table; it is recognised by its pointer, its SSL may have been freed
 * before.
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
 * @return the connection, or NULL.
 *
 * Ownership: the connection stays where it is. It is readable until dv_dtls_conn_free(), also when
 * the library gives it up meanwhile.
 */
dv_udp_conn_t *dv_dtls_conn_find(dv_udp_conn_key_t *key);
#endif

/* ----------------------------------------------------------------------------------------------
 * A connection: made from a hello, read, written, shut down, freed.
 * ---------------------------------------------------------------------------------------------- */

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
 * Errors: errno is EAGAIN when nothing waited, EINVAL for a NULL or a key without an address, or
 * else that of sendto(); what waited is gone then.
 *
 * Threads: one at a time for a BIO.
 */
int dv_dtls_msg_send(BIO *wbio, int fd, dv_udp_conn_key_t *key, socklen_t addrlen);
#endif

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
 * Ownership: the connection is in the table, and the caller frees it with dv_dtls_conn_free(). The
 * library may give it up at a deadline or a limit: then it is not in the table any more and its
 * ssl, rbio and wbio are NULL, but the struct stays readable until it is freed.
 */
dv_udp_conn_t *dv_dtls_conn_new(void *ctx,
                                char *buf,
                                size_t len,
                                int fd,
                                dv_udp_conn_key_t *key,
                                socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_CONN_FREE)
/**
 * Frees a connection: takes it out of the table, frees its SSL and the struct. NULL is fine.
 *
 * If its list member hangs in a list of the caller's, it is unlinked there. Nothing is sent: see
 * dv_dtls_shutdown().
 *
 * @param conn a connection of dv_dtls_conn_new(), given up by the library or not, or one that the
 *     caller allocated with malloc() or calloc() and whose SSL he made
 *
 * Threads: the one that uses the connection.
 */
void dv_dtls_conn_free(dv_udp_conn_t *conn);
#endif

#if !defined(DV_OMIT_DTLS_READ)
/**
 * Takes a datagram of the peer and gives the next message.
 *
 * During the handshake the datagram moves it on, and what the library has to say is sent before
 * this returns. A datagram may hold several records: their messages are queued (at most 64, then
 * the newest is dropped and counted) and come out one a call, before what arrives later. A message
 * longer than out_len is cut, as recvfrom() does.
 *
 * A forged or broken record never ends an established connection.
 *
 * @param conn the connection
 * @param in_buf the datagram; NULL takes the next queued message without one
 * @param in_len its length in bytes
 * @param fd the UDP socket that it came through
 * @param out_buf receives the message
 * @param out_len how many bytes there is room for
 * @param addrlen the length of the peer's address in bytes; where it does not fit the family, the
 *     family's is used
 *
 * @return the length of the message in bytes; 0 when the handshake goes on or no message is there
 *     yet; -2 when the peer has closed the connection, or has restarted so that a new one takes its
 *     place, or the library has given it up: free it; -1 for an error.
 *
 * Errors: errno is EINVAL for a NULL or no room, EIO when the handshake failed or the peer sent a
 * fatal alert (the log has the cause), ENOTCONN in the child of a fork.
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
 * message, or else that of sendto().
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

#if !defined(DV_OMIT_DTLS_SHUTDOWN)
/**
 * Says goodbye to the peer: sends a close_notify alert, if there is somebody who would understand
 * it.
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

/* ----------------------------------------------------------------------------------------------
 * For programs that can add a line: time, and what the fleet shares.
 * ---------------------------------------------------------------------------------------------- */

/**
 * Says how long the calling thread may sleep until something is due for its connections: pass it to
 * epoll_wait().
 *
 * @return milliseconds, rounded up; 0 when something is due now; -1 when nothing will be.
 *
 * Threads: each has its own answer.
 */
int dv_dtls_next_timeout(void);

/**
 * Does what is due for the connections that the calling thread used last: sends flights again,
 * gives up handshakes that take too long and connections that are idle for too long. Call it when
 * dv_dtls_next_timeout() has passed; every other helper does a part of it too.
 *
 * @return how many connections were looked after.
 */
int dv_dtls_handle_timeouts(void);

/**
 * Sets the secret that cookies are made with, for several processes or machines that answer for
 * each other. Without it each process has a random one; the environment variable
 * DV_COOKIE_SECRET_FILE names a file for a program that cannot be changed. Cookies made with the
 * old secret are not good any more. The clocks of the machines may be a minute apart.
 *
 * @param secret the secret, of which a copy is made
 * @param len its length in bytes, at least 16
 *
 * @return DV_OK, or DV_ERROR for a NULL or too short a secret.
 */
int dv_dtls_set_cookie_secret(const void *secret, size_t len);

/* ----------------------------------------------------------------------------------------------
 * Which library this is.
 * ---------------------------------------------------------------------------------------------- */

/**
 * Gives the version of this library as text, such as "0.1.0".
 *
 * @return a text that nobody frees.
 *
 * Ownership: the text is the library's and lives as long as the library.
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
 *     major version than the one that this library was built against. Every function that needs
 *     OpenSSL fails then too, with the same line in the log.
 */
int dv_check_version(unsigned int least);

/* ----------------------------------------------------------------------------------------------
 * The log, for C.
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
 * call, and the pointer that was given with the callback. It may call any function of the library.
 */
typedef void (*dv_log_fn)(int level, const char *line, void *user);

/**
 * Sets what receives the log: lines of level and more important ones.
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
void dv_set_log_callback(int level, dv_log_fn callback, void *user);

#ifdef __cplusplus
}
#endif

#endif
