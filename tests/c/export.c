/*
 * Export and import from C: an endpoint and a server whose sessions go to another one, through a file and a pipe; what is
 * refused; a reader who is gone, and one who does not read. argv[1]: the folder of certs/make-certs.sh.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "socket_client.h"

enum { ROOM = 4096 };

static const unsigned char key[DV_EXPORT_KEY_LEN] = "0123456789abcdef0123456789abcde";
static const unsigned char other_key[DV_EXPORT_KEY_LEN] = "another";

static int marker;

/* An open file that has no name. */
static int file(void)
{
    char name[] = "/tmp/dv-export-XXXXXX";
    int fd = mkstemp(name);

    CHECK(fd >= 0 && unlink(name) == 0);
    return fd;
}

/* A file with these bytes, to be read from its beginning. */
static int file_with(const unsigned char *bytes, size_t len)
{
    int fd = file();

    CHECK(write(fd, bytes, len) == (ssize_t)len && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

/* A pipe that has no room, and that nobody reads. */
static void full_pipe(int ends[2])
{
    static const char nothing[4096];

    CHECK(pipe(ends) == 0 && fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    while (write(ends[1], nothing, sizeof(nothing)) > 0)
        ;
    CHECK(errno == EAGAIN && fcntl(ends[1], F_SETFL, 0) == 0);
}

static void configure(dv_config *config)
{
    CHECK(dv_config_init(config, sizeof(*config)) == 0);
    CHECK(config->export_timeout_ms == 10000);
    /* Long enough for one that is read, under valgrind too. */
    config->export_timeout_ms = 2000;
}

static void talk(struct side *a, struct side *b)
{
    int before = a->messages + b->messages;

    settle(a, b);
    CHECK(dv_endpoint_send(a->endpoint, a->session, "there?", 6) == 0);
    CHECK(dv_endpoint_send(b->endpoint, b->session, "here!", 5) == 0);
    settle(a, b);
    CHECK(a->messages + b->messages == before + 2);
}

static void between_endpoints(const char *certs)
{
    SSL_CTX *server_ctx = context(certs, "server-ecdsa"), *client_ctx = context(certs, "client");
    struct side server = { .address = address("192.0.2.1", 4433) }, client = { .address = address("192.0.2.2", 40000) };
    dv_endpoint *old, *empty;
    dv_config config;
    unsigned char bytes[ROOM];
    char cipher[2][64];
    size_t left = 99, skipped = 99;
    struct rlimit largest;
    int pipe_ends[2], fd, len, i;

    configure(&config);
    CHECK(dv_endpoint_new(server_ctx, &config, &server.endpoint) == 0);
    CHECK(dv_endpoint_new(client_ctx, NULL, &client.endpoint) == 0);
    CHECK(dv_endpoint_new(server_ctx, NULL, &empty) == 0);
    client.session = connect_to(&client, &server, "localhost", NULL);
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
    CHECK(dv_endpoint_export_commit(empty) == DV_ERR_INVALID && dv_endpoint_export_cancel(empty) == DV_ERR_INVALID);
    CHECK(strstr(dv_last_error(), "no export") != NULL);
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

    /* Nor may a file grow without limit, or SIGXFSZ. */
    fd = file();
    CHECK(getrlimit(RLIMIT_FSIZE, &largest) == 0);
    CHECK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 16, largest.rlim_max }) == 0);
    CHECK(dv_endpoint_export(server.endpoint, fd, key, sizeof(key), &left) == DV_ERR_IO);
    CHECK(setrlimit(RLIMIT_FSIZE, &largest) == 0);
    CHECK(close(fd) == 0);
    talk(&client, &server);

    /* Nobody writes, though somebody could: this program itself. */
    CHECK(pipe(pipe_ends) == 0);
    CHECK(dv_endpoint_import(server.endpoint, 0, pipe_ends[0], key, sizeof(key), NULL) == DV_ERR_IO);
    CHECK(strstr(dv_last_error(), "in time") != NULL);
    CHECK(close(pipe_ends[0]) == 0 && close(pipe_ends[1]) == 0);
    talk(&client, &server);

    /* Taken back. */
    fd = file();
    CHECK(dv_endpoint_export(server.endpoint, fd, key, sizeof(key), &left) == 1 && left == 0);
    CHECK(dv_endpoint_export(server.endpoint, fd, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_endpoint_send(server.endpoint, server.session, "no", 2) == DV_ERR_NOT_ESTABLISHED);
    CHECK(dv_endpoint_export_cancel(server.endpoint) == 0);
    CHECK(dv_endpoint_export_cancel(server.endpoint) == DV_ERR_INVALID);
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
    CHECK(dv_endpoint_import(empty, now_us, pipe_ends[0], key, sizeof(key), &skipped) == 1 && skipped == 0);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    old = server.endpoint;
    CHECK(dv_endpoint_export_commit(old) == 0);
    carry(&server, &client, 0);
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
    CHECK(dv_endpoint_import(client.endpoint, now_us, fd, key, sizeof(key), NULL) == 1);
    CHECK(lseek(fd, 0, SEEK_END) == 0);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(dv_endpoint_import(client.endpoint, now_us, fd, key, sizeof(key), NULL) == DV_ERR_IMPORT);
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

static void open_cb(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    int imported = dv_session_is_imported(endpoint, event->session);

    (void)user;
    CHECK(imported == 0 || imported == 1);
    pthread_mutex_lock(&seen.lock);
    seen.opened += !imported;
    seen.imported += imported;
    pthread_mutex_unlock(&seen.lock);
}

static void message_cb(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    (void)user;
    CHECK(dv_endpoint_send(endpoint, event->session, event->data, event->len) == 0);
}

static void close_cb(dv_endpoint *endpoint, const dv_event *event, void *user)
{
    (void)user;
    (void)endpoint;
    pthread_mutex_lock(&seen.lock);
    seen.exported += event->reason == DV_CLOSED_EXPORTED;
    seen.closed += event->reason != DV_CLOSED_EXPORTED;
    pthread_mutex_unlock(&seen.lock);
}

static dv_server *server_at(SSL_CTX *ctx, int workers, int *port)
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

static void between_servers(const char *certs)
{
    enum { CLIENTS = 5 };
    SSL_CTX *ctx = context(certs, "server-ecdsa"), *client_ctx = context(certs, "client");
    struct client clients[CLIENTS];
    dv_server *old, *new;
    size_t left = 99, skipped = 99;
    int port = 0, fd = file(), pipe_ends[2], i;

    old = server_at(ctx, 2, &port);
    CHECK(dv_server_export(NULL, fd, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_server_export(old, fd, key, sizeof(key), NULL) == DV_ERR_INVALID);
    CHECK(dv_server_start(old) == 0);
    for (i = 0; i < CLIENTS; i++) {
        client_begin(&clients[i], client_ctx, port);
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
        client_end(&clients[i]);
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

int main(int argc, char **argv)
{
    if (argc < 2) {
        return 2;
    }
    between_endpoints(argv[1]);
    between_servers(argv[1]);
    return check_report("export");
}
