/*
 * Who owns a connection, and when: one given up by the library is still a struct that can be read, a struct of the
 * program's own can be in the table, and neither the log callback nor a forked child can do harm.
 *
 * Each case runs in a process of its own, with its own limits in the environment.
 */
#include <errno.h>
#include <sys/syscall.h>

#include "child.h"
#include "peer.h"

static const char *certs;

/*
 * Deadlines of the cases below, in milliseconds, and how long they wait for what these bring, in steps of 10 ms. A client on
 * a busy machine, under valgrind, may take a second between two of its datagrams.
 */
#define HANDSHAKE_MS "3000"
#define IDLE_MS "2000"
#define PATIENCE 1000

/* Looks for somebody unknown, as a server does between datagrams: what is due is done on the way. */
static dv_udp_conn_t *find_stranger(void)
{
    dv_udp_conn_key_t key;

    memset(&key, 0, sizeof(key));
    key.addr4.sin_family = AF_INET;
    key.addr4.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1, of nobody (RFC 5737) */
    key.addr4.sin_port = htons(9);
    return dv_dtls_conn_find(&key);
}

static int is_given_up(const dv_udp_conn_t *conn)
{
    int i = 0;

    for (i = 0; conn->ssl != NULL && i < PATIENCE; i++) {
        CHECK(find_stranger() == NULL);
        poll(NULL, 0, 10);
    }
    return conn->ssl == NULL;
}

/* What a program may still do with a connection that was given up. `key` is that of its peer. */
static void refused_and_freed(dv_udp_conn_t *conn, dv_udp_conn_key_t *key, int fd)
{
    char in[64] = "message", out[64];

    CHECK(conn->ssl == NULL && conn->rbio == NULL && conn->wbio == NULL);
    CHECK(memcmp(&conn->key, key, sizeof(*key)) == 0);
    CHECK(dv_dtls_conn_find(key) == NULL);
    CHECK(dv_dtls_read(conn, in, sizeof(in), fd, out, sizeof(out), sizeof(key->addr4)) == -2);
    CHECK(dv_dtls_read(conn, NULL, 0, fd, out, sizeof(out), sizeof(key->addr4)) == -2);
    CHECK(dv_dtls_write(conn, in, sizeof(in), fd, out, sizeof(out), sizeof(key->addr4)) < 0);
    dv_dtls_shutdown(conn, fd, sizeof(key->addr4));
    dv_dtls_conn_free(conn);
}

static int send_to(struct server *server, dv_udp_conn_t *conn, const char *datagram, ssize_t len)
{
    return sendto(server->fd, datagram, (size_t)len, 0, &conn->key.addr, sizeof(conn->key.addr4)) == len;
}

static void keep_line(int level, const char *line, void *user)
{
    (void)level;
    snprintf(user, 1000, "%s", line);
}

/* The log says what may have been the cause: an alert in clear, which by itself ends nothing. */
static void handshake_deadline(void)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conn = NULL;
    dv_udp_conn_key_t key;
    char unknown_ca[] = "\x15\xfe\xfd\0\0\0\0\0\0\0\x09\0\x02\x02\x30";
    char out[100], line[1000] = "";

    setenv("DV_HANDSHAKE_TIMEOUT_MS", HANDSHAKE_MS, 1);
    server_open(&server, certs);
    conn = client_half_open(&client, ctx, &server);
    CHECK(conn != NULL && conn->ssl != NULL);
    if (conn != NULL) {
        key = client_key(&client);
        CHECK(dv_dtls_read(conn, unknown_ca, sizeof(unknown_ca) - 1, server.fd, out, sizeof(out), sizeof(key.addr4)) == 0);
        dv_set_log_callback(DV_LOG_INFO, keep_line, line);
        CHECK(is_given_up(conn));
        dv_set_log_callback(0, NULL, NULL);
        CHECK(strstr(line, ": the handshake took too long: SSL routines: ") != NULL
              && strstr(line, " (alert 48, in clear") != NULL);
        refused_and_freed(conn, &key, server.fd);
    }
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

static void idle_deadline(void)
{
    struct server server;
    struct client first, second;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conn = NULL, *other = NULL;
    dv_udp_conn_key_t key;
    int i = 0;

    setenv("DV_IDLE_TIMEOUT_MS", IDLE_MS, 1);
    server_open(&server, certs);
    conn = established(&first, ctx, &server);
    key = client_key(&first);
    CHECK(conn != NULL && conn->ssl != NULL);

    /* The one that was found last is not given up under the caller's hands, however long that takes. */
    for (i = 0; i < atoi(IDLE_MS) / 10 + 50; i++) {
        CHECK(dv_dtls_conn_find(&key) == conn);
        poll(NULL, 0, 10);
    }
    CHECK(conn != NULL && conn->ssl != NULL);

    other = established(&second, ctx, &server);
    CHECK(other != NULL && other != conn);
    if (conn != NULL && other != NULL) {
        CHECK(is_given_up(conn));
        refused_and_freed(conn, &key, server.fd);
        CHECK(is_given_up(other));
        dv_dtls_conn_free(other);
    }
    client_vanish(&first);
    client_vanish(&second);
    SSL_CTX_free(ctx);
    server_close(&server);
}

static void connection_limit(void)
{
    struct server server;
    struct client clients[3];
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conns[3];
    dv_udp_conn_key_t keys[3];
    int i = 0;

    setenv("DV_MAX_CONNECTIONS", "2", 1);
    server_open(&server, certs);
    for (i = 0; i < 3; i++) {
        conns[i] = established(&clients[i], ctx, &server);
        keys[i] = client_key(&clients[i]);
        CHECK(conns[i] != NULL);
        /* So that each has been idle for longer than the next. */
        poll(NULL, 0, 5);
    }
    /* The longest idle one had to go; its struct is still the program's and is nobody else's now. */
    CHECK(conns[0] != conns[1] && conns[1] != conns[2] && conns[0] != conns[2]);
    if (conns[0] != NULL) {
        refused_and_freed(conns[0], &keys[0], server.fd);
    }
    for (i = 1; i < 3; i++) {
        CHECK(dv_dtls_conn_find(&keys[i]) == conns[i]);
        CHECK(client_echo(&clients[i], &server, "still here"));
        dv_dtls_conn_free(conns[i]);
        CHECK(dv_dtls_conn_find(&keys[i]) == NULL);
    }
    for (i = 0; i < 3; i++) {
        client_vanish(&clients[i]);
    }
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* A program that keeps its own dv_dtls_read: what it has finished with SSL_accept is no handshake in progress any more. */
static void handshake_by_hand(void)
{
    struct server server;
    struct client clients[3];
    SSL_CTX *ctx = client_context(certs);
    char in[2048], out[8192];
    int i = 0, waited = 0;

    setenv("DV_MAX_HANDSHAKES", "1", 1);
    setenv("DV_FIRST_TIMEOUT_MS", "20", 1);
    server_open(&server, certs);
    for (i = 0; i < 3; i++) {
        dv_udp_conn_t *conn = client_half_open(&clients[i], ctx, &server);

        CHECK(conn != NULL);
        for (waited = 0; conn != NULL && waited < PATIENCE && !SSL_is_init_finished(conn->ssl); waited++) {
            ssize_t len = 0;

            SSL_do_handshake(clients[i].ssl);
            len = recv(server.fd, in, sizeof(in), MSG_DONTWAIT);
            if (len > 0) {
                BIO_write(conn->rbio, in, (int)len);
                SSL_accept(conn->ssl);
                len = BIO_read(conn->wbio, out, sizeof(out));
                CHECK(len <= 0 || send_to(&server, conn, out, len));
            } else {
                poll(NULL, 0, 1);
            }
        }
        CHECK(conn != NULL && SSL_is_init_finished(conn->ssl));
        /* Its first flight was due after 20 ms; that is when the library looks. */
        poll(NULL, 0, 50);
        dv_dtls_handle_timeouts();
    }
    for (i = 0; i < 3; i++) {
        dv_udp_conn_key_t key = client_key(&clients[i]);

        dv_dtls_conn_free(dv_dtls_conn_find(&key));
        client_vanish(&clients[i]);
    }
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* Structs that the program made, in the library's table; freed in the order of the original's conn_free. */
static void structs_of_the_program(void)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());
    dv_udp_conn_t *conns[100];
    int i = 0;

    for (i = 0; i < 100; i++) {
        conns[i] = calloc(1, sizeof(*conns[i]));
        conns[i]->key.addr4.sin_family = AF_INET;
        conns[i]->key.addr4.sin_port = htons((in_port_t)(1000 + i));
        conns[i]->key.addr4.sin_addr.s_addr = htonl(0xc0000201);
        conns[i]->ssl = SSL_new(ctx);
        conns[i]->rbio = BIO_new(BIO_s_mem());
        conns[i]->wbio = BIO_new(BIO_s_mem());
        SSL_set_bio(conns[i]->ssl, conns[i]->rbio, conns[i]->wbio);
        dv_dtls_conn_add(conns[i]);
    }
    /* A second initialisation loses nothing. */
    dv_dtls_conn_table_init();
    for (i = 0; i < 100; i++) {
        CHECK(dv_dtls_conn_find(&conns[i]->key) == conns[i]);
    }
    for (i = 0; i < 100; i++) {
        dv_udp_conn_key_t key = conns[i]->key;

        if (i % 2 == 0) {
            SSL_free(conns[i]->ssl);
            dv_dtls_conn_del(conns[i]);
            free(conns[i]);
        } else {
            dv_dtls_conn_free(conns[i]);
        }
        CHECK(dv_dtls_conn_find(&key) == NULL);
    }
    SSL_CTX_free(ctx);
}

/* A connection that hangs in a list of the program's is taken out of it when it is freed. */
static void list_of_the_program(void)
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = client_context(certs);
    struct dv_list_node head;
    dv_udp_conn_t *conn = NULL;

    server_open(&server, certs);
    conn = established(&client, ctx, &server);
    CHECK(conn != NULL);
    if (conn != NULL) {
        conn->list.next = conn->list.prev = &head;
        head.next = head.prev = &conn->list;
        dv_dtls_conn_free(conn);
        CHECK(head.next == &head && head.prev == &head);
    }
    dv_dtls_conn_free(NULL);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* A callback that uses the helpers itself, for a connection that is being worked on. */
struct calling_back {
    struct client *client;
    int fd, lines;
};

static void call_back(int level, const char *line, void *user)
{
    struct calling_back *log = user;
    dv_udp_conn_key_t key = client_key(log->client);
    dv_udp_conn_t *conn = dv_dtls_conn_find(&key);
    char in[] = "from the callback", out[64];

    log->lines++;
    CHECK(level >= DV_LOG_ERROR && level <= DV_LOG_DEBUG);
    CHECK(line != NULL && strlen(line) > 0);
    if (conn != NULL) {
        dv_dtls_read(conn, NULL, 0, log->fd, out, sizeof(out), sizeof(key.addr4));
        dv_dtls_write(conn, in, sizeof(in), log->fd, out, sizeof(out), sizeof(key.addr4));
    }
    dv_dtls_conn_new(NULL, in, sizeof(in), log->fd, &key, sizeof(key.addr4));
    dv_set_log_callback(DV_LOG_DEBUG, call_back, user);
}

static void log_callback(void)
{
    struct server server;
    struct client client;
    struct calling_back log = {.client = &client};
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_key_t key;
    int lines = 0;

    server_open(&server, certs);
    log.fd = server.fd;
    client_open(&client, ctx, &server, NULL);
    dv_set_log_callback(DV_LOG_DEBUG, call_back, &log);
    CHECK(client_handshake(&client, &server));
    CHECK(dv_ssl_certificate(server.ctx, (char[]){"/nonexistent"}, (char[]){"/nonexistent"}) != 0);
    CHECK(log.lines > 0);
    dv_set_log_callback(0, NULL, NULL);
    lines = log.lines;

    /* The connection that the callback got hold of all the time still works. */
    CHECK(SSL_write(client.ssl, "after", 6) == 6);
    server_drain(&server);
    CHECK(server.messages == 1);
    key = client_key(&client);
    CHECK(dv_dtls_conn_find(&key) != NULL);
    dv_dtls_conn_free(dv_dtls_conn_find(&key));
    CHECK(log.lines == lines);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

/* Two processes that seal with one key would repeat its nonces: the child has none of the parent's connections. */
static void child_of(pid_t (*divide)(void))
{
    struct server server;
    struct client client;
    SSL_CTX *ctx = client_context(certs);
    dv_udp_conn_t *conn = NULL;
    dv_udp_conn_key_t key;
    pid_t child = 0;
    char in[64] = "from the child", out[64];

    server_open(&server, certs);
    conn = established(&client, ctx, &server);
    key = client_key(&client);
    CHECK(conn != NULL);
    fflush(NULL);
    child = divide();
    if (child == 0) {
        struct server own;
        struct client visitor;

        CHECK(dv_dtls_conn_find(&key) == NULL);
        if (conn != NULL) {
            CHECK(FAILS(dv_dtls_write(conn, in, sizeof(in), server.fd, out, sizeof(out), sizeof(key.addr4)) == -1, ENOTCONN));
            CHECK(FAILS(dv_dtls_read(conn, NULL, 0, server.fd, out, sizeof(out), sizeof(key.addr4)) == -1, ENOTCONN));
            dv_dtls_shutdown(conn, server.fd, sizeof(key.addr4));
            dv_dtls_conn_free(conn);
        }
        /* It can serve peers of its own. */
        server_open(&own, certs);
        conn = established(&visitor, ctx, &own);
        CHECK(conn != NULL);
        dv_dtls_conn_free(conn);
        client_vanish(&visitor);
        server_close(&own);
        _exit(check_report("ownership: forked child's side"));
    }
    child_succeeds(child);

    /* Nothing left the child on the parent's connection. */
    CHECK(SSL_read(client.ssl, in, sizeof(in)) < 0);
    CHECK(dv_dtls_conn_find(&key) == conn);
    CHECK(client_echo(&client, &server, "from the parent's peer"));
    dv_dtls_conn_free(conn);
    client_vanish(&client);
    SSL_CTX_free(ctx);
    server_close(&server);
}

static void forked_child(void)
{
    child_of(fork);
}

/* As container tools do it, and _Fork: nobody calls the handlers of pthread_atfork. */
static pid_t clone_quietly(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static void cloned_child(void)
{
    child_of(clone_quietly);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return 2;
    }
    certs = argv[1];
    run_in_child("ownership: handshake deadline", handshake_deadline);
    run_in_child("ownership: idle deadline", idle_deadline);
    run_in_child("ownership: connection limit", connection_limit);
    run_in_child("ownership: handshake by hand", handshake_by_hand);
    run_in_child("ownership: structs of the program", structs_of_the_program);
    run_in_child("ownership: list of the program", list_of_the_program);
    run_in_child("ownership: log callback", log_callback);
    run_in_child("ownership: forked child", forked_child);
    run_in_child("ownership: cloned child", cloned_child);
    return check_report("ownership");
}
