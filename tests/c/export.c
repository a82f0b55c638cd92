/*
 * Export and import from C: an endpoint and a server whose sessions go to another one, through a file and a pipe; what is
 * refused; a reader who is gone, and one who does not read. argv[1]: the folder of certs/make-certs.sh.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dv_dtls.h"

#include "check.h"

enum { PATIENCE_MS = 30000, ROOM = 4096 };

static const unsigned char key[DV_EXPORT_KEY_LEN] = "0123456789abcdef0123456789abcde";
static const unsigned char other_key[DV_EXPORT_KEY_LEN] = "another";

static int marker;

static uint64_t
now_us(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static SSL_CTX *
context(const char *certs, const char *certificate)
{
    SSL_CTX *ctx = SSL_CTX_new(DTLS_method());
    char file[512], key_file[512];

    snprintf(file, sizeof(file), "%s/ca.pem", certs);
    CHECK(SSL_CTX_load_verify_locations(ctx, file, NULL) == 1);
    snprintf(file, sizeof(file), "%s/%s.pem", certs, certificate);
    snprintf(key_file, sizeof(key_file), "%s/%s.key", certs, certificate);
    CHECK(dv_ssl_certificate(ctx, file, key_file) == 0);
    return ctx;
}

static dv_address
address(const char *ip, int port)
{
    dv_address a;

    memset(&a, 0, sizeof(a));
    a.v4.sin_family = AF_INET;
    a.v4.sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, ip, &a.v4.sin_addr);
    return a;
}

/* An open file that has no name. */
static int
file(void)
{
    char name[] = "/tmp/dv-export-XXXXXX";
    int fd = mkstemp(name);

    CHECK(fd >= 0 && unlink(name) == 0);
    return fd;
}

/* A file with these bytes, to be read from its beginning. */
static int
file_with(const unsigned char *bytes, size_t len)
{
    int fd = file();

    CHECK(write(fd, bytes, len) == (ssize_t)len && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

/* A pipe that has no room, and that nobody reads. */
static void
full_pipe(int ends[2])
{
    static const char nothing[4096];

    CHECK(pipe(ends) == 0 && fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    while (write(ends[1], nothing, sizeof(nothing)) > 0)
        ;
    CHECK(errno == EAGAIN && fcntl(ends[1], F_SETFL, 0) == 0);
}

static void
configure(dv_config *config)
{
    CHECK(dv_config_init(config, sizeof(*config)) == 0);
    CHECK(config->export_timeout_ms == 10000);
    /* Long enough for one that is read, under valgrind too. */
    config->export_timeout_ms = 2000;
}

/* One of two endpoints that exchange datagrams in memory. */
struct side {
    dv_endpoint *endpoint;
    dv_address address;
    dv_session session;
    int opened, closed, reason, messages;
    void *user;
};

static int
carry(struct side *from, struct side *to)
{
    dv_datagram out;
    dv_event event;
    int all = 0;

    while (dv_endpoint_event(from->endpoint, &event) == 1) {
        from->user = event.user;
        from->session = event.session;
        from->opened += event.kind == DV_EVENT_OPENED;
        from->messages += event.kind == DV_EVENT_MESSAGE;
        from->closed += event.kind == DV_EVENT_CLOSED;
        from->reason = event.reason;
    }
    while (dv_endpoint_transmit(from->endpoint, &out, 1, 1) == 1) {
        out.peer = from->address;
        out.local = to->address;
        CHECK(dv_endpoint_receive(to->endpoint, now_us(), &out, 1) == 0);
        all++;
    }
    return all;
}

static void
settle(struct side *a, struct side *b)
{
    while (carry(a, b) + carry(b, a) > 0)
        ;
    carry(a, b);
}

static void
talk(struct side *a, struct side *b)
{
    int before = a->messages + b->messages;

    settle(a, b);
    CHECK(dv_endpoint_send(a->endpoint, a->session, "there?", 6) == 0);
    CHECK(dv_endpoint_send(b->endpoint, b->session, "here!", 5) == 0);
    settle(a, b);
    CHECK(a->messages + b->messages == before + 2);
}

static void
between_endpoints(const char *certs)
{
    SSL_CTX *server_ctx = context(certs, "server-ecdsa"), *client_ctx = context(certs, "client");
    struct side server = { .address = address("192.0.2.1", 4433) }, client = { .address = address("192.0.2.2", 40000) };
    dv_endpoint *old, *empty;
    dv_config config;
    unsigned char bytes[ROOM];
    char cipher[2][64];
    size_t left = 99, skipped = 99;
    int pipe_ends[2], fd, len, i;

    configure(&config);
    CHECK(dv_endpoint_new(server_ctx, &config, &server.endpoint) == 0);
    CHECK(dv_endpoint_new(client_ctx, NULL, &client.endpoint) == 0);
    CHECK(dv_endpoint_new(server_ctx, NULL, &empty) == 0);
    CHECK(dv_endpoint_connect(client.endpoint, now_us(), &server.address.any, sizeof(server.address), "localhost", NULL,
                              &client.session) == 0);
    settle(&client, &server);
    CHECK(client.opened == 1 && server.opened == 1);
    talk(&client, &server);
    CHECK(dv_session_is_imported(server.endpoint, server.session) == 0);
    CHECK(dv_session_set_user(server.endpoint, server.session, &marker) == 0);
    CHECK(dv_session_cipher(server.endpoint, server.session, cipher[0], sizeof(cipher[0])) > 0);

    /* What makes no sense. */
    CHECK(dv_endpoint_export(NULL, 1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_export(server.endpoint, -1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_export(server.endpoint, 1, NULL, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_export(server.endpoint, 1, key, sizeof(key) - 1, NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_export(server.endpoint, 999999, key, sizeof(key), NULL) == DV_ERR_IO);
    CHECK(dv_endpoint_export_commit(NULL) == DV_ERR_INVALID && dv_endpoint_export_cancel(NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_import(NULL, 0, 1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_import(empty, 0, -1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_import(empty, 0, 1, key, 0, NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_import(empty, 0, 999999, key, sizeof(key), NULL) == DV_ERR_IO);
    CHECK(dv_session_is_imported(server.endpoint, 0) == DV_ERR_STALE);
    talk(&client, &server);

    /* Nobody reads: that is an error, and the session goes on. SIGPIPE would have ended this program. */
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    CHECK(pipe(pipe_ends) == 0 && close(pipe_ends[0]) == 0);
    CHECK(dv_endpoint_export(server.endpoint, pipe_ends[1], key, sizeof(key), &left) == DV_ERR_IO);
    CHECK(close(pipe_ends[1]) == 0);
    talk(&client, &server);
    full_pipe(pipe_ends);
    CHECK(dv_endpoint_export(server.endpoint, pipe_ends[1], key, sizeof(key), &left) == DV_ERR_IO);
    CHECK(strstr(dv_last_error(), "in time") != NULL);
    CHECK(close(pipe_ends[0]) == 0 && close(pipe_ends[1]) == 0);
    talk(&client, &server);

    /* Taken back. */
    fd = file();
    CHECK(dv_endpoint_export(server.endpoint, fd, key, sizeof(key), &left) == 1 && left == 0);
    CHECK(dv_endpoint_export(server.endpoint, fd, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_send(server.endpoint, server.session, "no", 2) == DV_ERR_NOT_ESTABLISHED);
    CHECK(dv_endpoint_export_cancel(server.endpoint) == 0);
    CHECK(close(fd) == 0);
    talk(&client, &server);

    /* Through a pipe whose ends do not wait. */
    CHECK(pipe(pipe_ends) == 0);
    CHECK(fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK) == 0);
    CHECK(dv_endpoint_export(server.endpoint, pipe_ends[1], key, sizeof(key), NULL) == 1);
    len = (int)read(pipe_ends[0], bytes, sizeof(bytes));
    CHECK(len > 200 && len < 400);

    /* Cut anywhere, damaged anywhere, under another key, of another version. */
    for (i = 0; i < len; i++) {
        fd = file_with(bytes, (size_t)i);
        CHECK(dv_endpoint_import(empty, 0, fd, key, sizeof(key), NULL) == DV_ERR_IMPORT);
        close(fd);
        bytes[i] ^= 0x10;
        fd = file_with(bytes, (size_t)len);
        CHECK(dv_endpoint_import(empty, 0, fd, key, sizeof(key), NULL) == DV_ERR_IMPORT);
        CHECK(lseek(fd, 0, SEEK_END) == len);
        close(fd);
        bytes[i] ^= 0x10;
    }
    fd = file_with(bytes, (size_t)len);
    CHECK(dv_endpoint_import(empty, 0, fd, other_key, sizeof(other_key), NULL) == DV_ERR_IMPORT);
    CHECK(strstr(dv_last_error(), "another key") != NULL);
    close(fd);
    bytes[9]++;
    fd = file_with(bytes, (size_t)len);
    CHECK(dv_endpoint_import(empty, 0, fd, key, sizeof(key), NULL) == DV_ERR_IMPORT);
    CHECK(strstr(dv_last_error(), "version 3") != NULL);
    close(fd);
    bytes[9]--;
    CHECK(dv_endpoint_sessions(empty, NULL, 0) == 0);

    /* It is good all the same, from a pipe as well. */
    CHECK(write(pipe_ends[1], bytes, (size_t)len) == len);
    CHECK(dv_endpoint_import(empty, now_us(), pipe_ends[0], key, sizeof(key), &skipped) == 1 && skipped == 0);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    old = server.endpoint;
    CHECK(dv_endpoint_export_commit(old) == 0);
    carry(&server, &client);
    CHECK(server.closed == 1 && server.reason == DV_CLOSED_EXPORTED);
    dv_endpoint_free(old);
    server.endpoint = empty;
    server.user = NULL;
    settle(&client, &server);
    CHECK(server.opened == 2 && server.user == &marker);
    CHECK(dv_session_is_imported(server.endpoint, server.session) == 1);
    CHECK(dv_session_is_server(server.endpoint, server.session) == 1);
    CHECK(dv_session_cipher(server.endpoint, server.session, cipher[1], sizeof(cipher[1])) > 0);
    CHECK(strcmp(cipher[0], cipher[1]) == 0);
    talk(&client, &server);

    /* The client's side, too, which keeps what it can resume with. */
    fd = file();
    CHECK(dv_endpoint_export(client.endpoint, fd, key, sizeof(key), NULL) == 1);
    CHECK(dv_endpoint_export_commit(client.endpoint) == 0);
    dv_endpoint_free(client.endpoint);
    CHECK(dv_endpoint_new(client_ctx, NULL, &client.endpoint) == 0);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(dv_endpoint_import(client.endpoint, now_us(), fd, key, sizeof(key), NULL) == 1);
    CHECK(lseek(fd, 0, SEEK_END) == 0);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(dv_endpoint_import(client.endpoint, now_us(), fd, key, sizeof(key), NULL) == DV_ERR_IMPORT);
    close(fd);
    talk(&client, &server);
    CHECK(client.closed == 0);

    dv_endpoint_free(client.endpoint);
    dv_endpoint_free(server.endpoint);
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
}

/* What the callbacks of the servers saw. */
static struct {
    pthread_mutex_t lock;
    int opened, imported, exported, closed;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
open_cb(void *user, dv_endpoint *endpoint, const dv_event *event)
{
    int imported = dv_session_is_imported(endpoint, event->session);

    (void)user;
    CHECK(imported == 0 || imported == 1);
    pthread_mutex_lock(&seen.lock);
    seen.opened += !imported;
    seen.imported += imported;
    pthread_mutex_unlock(&seen.lock);
}

static void
message_cb(void *user, dv_endpoint *endpoint, const dv_event *event)
{
    (void)user;
    CHECK(dv_endpoint_send(endpoint, event->session, event->data, event->len) == 0);
}

static void
close_cb(void *user, dv_endpoint *endpoint, const dv_event *event)
{
    (void)user;
    (void)endpoint;
    pthread_mutex_lock(&seen.lock);
    seen.exported += event->reason == DV_CLOSED_EXPORTED;
    seen.closed += event->reason != DV_CLOSED_EXPORTED;
    pthread_mutex_unlock(&seen.lock);
}

struct client {
    dv_endpoint *endpoint;
    dv_session session;
    dv_address server;
    int fd, opened, heard, closed;
};

/* Until what `done` points to is not 0 any more. A message is repeated as long as there is no answer. */
static void
client_run(struct client *client, const int *done, const char *message)
{
    char bytes[65536];
    uint64_t end = now_us() + PATIENCE_MS * 1000ull, again = 0;

    while (!*done && now_us() < end) {
        struct pollfd waiting = { client->fd, POLLIN, 0 };
        dv_datagram datagram;
        dv_event event;
        ssize_t got;

        if (message != NULL && now_us() > again) {
            CHECK(dv_endpoint_send(client->endpoint, client->session, message, strlen(message)) == 0);
            again = now_us() + 200000;
        }
        while (dv_endpoint_transmit(client->endpoint, &datagram, 1, 1) == 1)
            (void)!send(client->fd, datagram.data, datagram.len, 0);
        poll(&waiting, 1, 20);
        while ((got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
            memset(&datagram, 0, sizeof(datagram));
            datagram.data = bytes;
            datagram.len = (size_t)got;
            datagram.peer = client->server;
            CHECK(dv_endpoint_receive(client->endpoint, now_us(), &datagram, 1) == 0);
        }
        CHECK(dv_endpoint_advance(client->endpoint, now_us()) == 0);
        while (dv_endpoint_event(client->endpoint, &event) == 1) {
            client->opened += event.kind == DV_EVENT_OPENED;
            client->closed += event.kind == DV_EVENT_CLOSED;
            client->heard |= event.kind == DV_EVENT_MESSAGE && message != NULL && event.len == strlen(message)
                             && memcmp(event.data, message, event.len) == 0;
        }
    }
    CHECK(*done);
}

static void
client_echo(struct client *client, const char *message)
{
    client->heard = 0;
    client_run(client, &client->heard, message);
}

static dv_server *
server_at(SSL_CTX *ctx, int workers, int *port)
{
    dv_callbacks callbacks = { .size = sizeof(callbacks), .open = open_cb, .message = message_cb, .close = close_cb };
    dv_server *server = NULL;
    dv_config config;
    char text[16];

    configure(&config);
    config.workers = (uint32_t)workers;
    CHECK(dv_server_new(ctx, &config, &callbacks, NULL, &server) == 0);
    snprintf(text, sizeof(text), "%d", *port);
    *port = dv_server_bind(server, "127.0.0.1", text);
    CHECK(*port > 0);
    return server;
}

static void
between_servers(const char *certs)
{
    enum { CLIENTS = 5 };
    SSL_CTX *ctx = context(certs, "server-ecdsa"), *client_ctx = context(certs, "client");
    struct client clients[CLIENTS];
    dv_server *old, *new;
    dv_config config;
    size_t left = 99, skipped = 99;
    int port = 0, fd = file(), pipe_ends[2], i;

    old = server_at(ctx, 2, &port);
    CHECK(dv_server_export(NULL, fd, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_server_export(old, fd, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_server_start(old) == 0);
    CHECK(dv_config_init(&config, sizeof(config)) == 0);
    config.accept = 0;
    for (i = 0; i < CLIENTS; i++) {
        memset(&clients[i], 0, sizeof(clients[i]));
        CHECK(dv_endpoint_new(client_ctx, &config, &clients[i].endpoint) == 0);
        clients[i].server = address("127.0.0.1", port);
        clients[i].fd = socket(AF_INET, SOCK_DGRAM, 0);
        CHECK(connect(clients[i].fd, &clients[i].server.any, sizeof(clients[i].server.v4)) == 0);
        CHECK(dv_endpoint_connect(clients[i].endpoint, now_us(), &clients[i].server.any, sizeof(clients[i].server.v4),
                                  "localhost", NULL, &clients[i].session) == 0);
        client_run(&clients[i], &clients[i].opened, NULL);
        client_echo(&clients[i], "hello");
    }

    CHECK(dv_server_export(old, fd, NULL, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_server_export(old, -1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_server_export_commit(NULL) == DV_ERR_INVALID && dv_server_export_cancel(NULL) == DV_ERR_INVALID);
    CHECK(dv_server_export_commit(old) == DV_ERR_INVALID && dv_server_export_cancel(old) == DV_ERR_INVALID);
    full_pipe(pipe_ends);
    CHECK(dv_server_export(old, pipe_ends[1], key, sizeof(key), &left) == DV_ERR_IO);
    CHECK(strstr(dv_last_error(), "in time") != NULL);
    CHECK(close(pipe_ends[0]) == 0 && close(pipe_ends[1]) == 0);
    client_echo(&clients[0], "still there?");
    CHECK(dv_server_export(old, fd, key, sizeof(key), &left) == CLIENTS && left == 0);
    CHECK(dv_server_export(old, fd, key, sizeof(key), &left) == DV_ERR_INVALID);
    CHECK(dv_server_export_cancel(old) == 0);
    for (i = 0; i < CLIENTS; i++)
        client_echo(&clients[i], "not yet");

    CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    CHECK(dv_server_export(old, fd, key, sizeof(key), NULL) == CLIENTS);
    CHECK(dv_server_export_commit(old) == 0);
    CHECK(dv_server_join(old) == 0);
    dv_server_free(old);

    new = server_at(ctx, 3, &port);
    CHECK(dv_server_import(NULL, fd, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_server_import(new, -1, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_server_import(new, fd, key, sizeof(key), NULL) == DV_ERR_IMPORT);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(dv_server_import(new, fd, other_key, sizeof(other_key), NULL) == DV_ERR_IMPORT);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(dv_server_import(new, fd, key, sizeof(key), &skipped) == CLIENTS && skipped == 0);
    CHECK(dv_server_start(new) == 0);
    CHECK(dv_server_import(new, fd, key, sizeof(key), NULL) < 0);
    for (i = 0; i < CLIENTS; i++) {
        client_echo(&clients[i], "again");
        CHECK(clients[i].opened == 1 && clients[i].closed == 0);
        close(clients[i].fd);
        dv_endpoint_free(clients[i].endpoint);
    }
    /* Freed with an export that nobody has ended. */
    CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    CHECK(dv_server_export(new, fd, key, sizeof(key), NULL) == CLIENTS);
    dv_server_free(new);
    CHECK(seen.opened == CLIENTS && seen.imported == CLIENTS && seen.exported == 2 * CLIENTS && seen.closed == 0);
    close(fd);
    SSL_CTX_free(ctx);
    SSL_CTX_free(client_ctx);
}

int
main(int argc, char **argv)
{
    if (argc < 2) {
        return 77;
    }
    between_endpoints(argv[1]);
    between_servers(argv[1]);
    return check_report("export");
}
