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
 *     ctx = SSL_CTX_new(DTLS_server_method());
 *     dv_ssl_certificate(ctx, "server.pem", "server.key");
 *     dv_openssl_ctx_set_ciphers(ctx, "ECDHE+AESGCM");
 *     SSL_CTX_set_options(ctx, SSL_OP_COOKIE_EXCHANGE);
 *     SSL_CTX_set_cookie_generate_cb(ctx, dv_dtls_generate_cookie_callback);
 *     SSL_CTX_set_cookie_verify_cb(ctx, dv_dtls_verify_cookie_callback);
 *     dv_add_epoll_event(epfd, &ev, fd);
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
 * it returns 0. A client sets up its SSL_CTX with the same context helpers, says with
 * dv_openssl_set_peer_name which name the server's certificate must carry, and then uses SSL_connect,
 * SSL_read and SSL_write. c-examples/ has both, ready to run.
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
 * Units      lengths and sizes are bytes; times carry their unit in their name.
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
 * Helpers that set up an SSL_CTX, look at a certificate check, and watch a socket.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_OPENSSL_CTX_SET_CIPHERS)
/** Sets the cipher list. */
int dv_openssl_ctx_set_ciphers(void *ctx, char *ciphers);
#endif

#if !defined(DV_OMIT_OPENSSL_CALLBACK)
/** Verify callback. */
int dv_openssl_callback(int ok, X509_STORE_CTX *store);
#endif

#if !defined(DV_OMIT_OPENSSL_SET_VERIFY)
/** Sets the verify mode and the CA file. */
void dv_openssl_set_verify(void *ctx, int mode, char *peer_cf);
#endif

#if !defined(DV_OMIT_OPENSSL_GET_VERIFY_RESULT)
/** Whether the peer is verified. */
int dv_openssl_get_verify_result(void *s);
#endif

#if !defined(DV_OMIT_SSL_CERTIFICATE)
/** Loads certificate chain and key. */
int dv_ssl_certificate(void *ctx, char *cert, char *key);
#endif

#if !defined(DV_OMIT_ADD_EPOLL_EVENT)
/** Watches a socket. */
void dv_add_epoll_event(int epfd, struct epoll_event *ev, int fd);
#endif

/** Says which DNS name or IP address the peer's certificate must carry. */
int dv_openssl_set_peer_name(void *s, const char *name);

/* ----------------------------------------------------------------------------------------------
 * The cookie callbacks that libssl calls.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_GENERATE_COOKIE_CALLBACK)
/** Makes a cookie. */
int dv_dtls_generate_cookie_callback(SSL *ssl, unsigned char *cookie, unsigned int *cookie_len);
#endif

#if !defined(DV_OMIT_DTLS_VERIFY_COOKIE_CALLBACK)
/** Checks a cookie. */
int dv_dtls_verify_cookie_callback(SSL *ssl, const unsigned char *cookie, unsigned int cookie_len);
#endif

/* ----------------------------------------------------------------------------------------------
 * The table of connections.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_CONN_TABLE_INIT)
/** Nothing to do. */
void dv_dtls_conn_table_init(void);
#endif

#if !defined(DV_OMIT_DTLS_CONN_HASH)
/** The hash. */
unsigned int dv_dtls_conn_hash(dv_udp_conn_key_t *key);
#endif

#if !defined(DV_OMIT_DTLS_CONN_ADD)
/** Adds. */
void dv_dtls_conn_add(dv_udp_conn_t *conn);
#endif

#if !defined(DV_OMIT_DTLS_CONN_DEL)
/** Removes. */
void dv_dtls_conn_del(dv_udp_conn_t *conn);
#endif

#if !defined(DV_OMIT_DTLS_CONN_FIND)
/** Finds. */
dv_udp_conn_t *dv_dtls_conn_find(dv_udp_conn_key_t *key);
#endif

/* ----------------------------------------------------------------------------------------------
 * A connection: made, read, written, shut down, freed.
 * ---------------------------------------------------------------------------------------------- */

#if !defined(DV_OMIT_DTLS_MSG_SEND)
/** Sends. */
int dv_dtls_msg_send(BIO *wbio, int fd, dv_udp_conn_key_t *key, socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_CONN_NEW)
/** Makes. */
dv_udp_conn_t *dv_dtls_conn_new(void *ctx,
                                char *buf,
                                size_t len,
                                int fd,
                                dv_udp_conn_key_t *key,
                                socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_CONN_FREE)
/** Frees. */
void dv_dtls_conn_free(dv_udp_conn_t *conn);
#endif

#if !defined(DV_OMIT_DTLS_READ)
/** Reads. */
int dv_dtls_read(dv_udp_conn_t *conn,
                 char *in_buf,
                 size_t in_len,
                 int fd,
                 char *out_buf,
                 size_t out_len,
                 socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_WRITE)
/** Writes. */
int dv_dtls_write(dv_udp_conn_t *conn,
                  char *in_buf,
                  size_t in_len,
                  int fd,
                  char *out_buf,
                  size_t out_len,
                  socklen_t addrlen);
#endif

#if !defined(DV_OMIT_DTLS_SHUTDOWN)
/** Shuts down. */
void dv_dtls_shutdown(dv_udp_conn_t *conn, int fd, socklen_t addrlen);
#endif

/* ----------------------------------------------------------------------------------------------
 * Which library this is.
 * ---------------------------------------------------------------------------------------------- */

/** The version as text, such as "0.1.0". */
const char *dv_version(void);

/** The version as a number: major * 65536 + minor * 256 + patch. */
unsigned int dv_version_num(void);

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
void dv_set_log_callback(int level,
                         dv_log_fn callback,
                         void *user);

#ifdef __cplusplus
}
#endif

#endif
