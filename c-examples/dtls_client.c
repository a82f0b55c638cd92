/*
 * A DTLS client. It checks the server's certificate and name, sends numbered messages, and waits for each to come back.
 *
 *     build/dtls_client -a ::1 -n 3
 *
 * The library sets up the SSL_CTX; the session itself is plain OpenSSL, because a client has one peer and needs no table
 * of them. UDP loses datagrams, so nothing here waits without a limit: poll() waits for the socket or for OpenSSL's
 * retransmission timer, whichever is first.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "example.h"

/* A handshake that is not done after this long is given up. OpenSSL repeats its flights after 1, 2, 4... seconds. */
#define HANDSHAKE_LIMIT_MS 15000
/* So often is a message sent before it counts as unanswered. */
#define SEND_LIMIT         3
#define MESSAGE_MAX        1000

/* What the command line says beside the arguments of dv_ssl_client_main. */
static struct {
    const char *name;   /* what the server's certificate must carry */
    const char *text;
    long messages;
    long answer_ms;     /* how long to wait for an answer */
} options = { NULL, "hello", 1, 2000 };

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until there is something to read, until OpenSSL's timer is due (and then repeats the flight), or until deadline. */
static int wait_for_peer(SSL *ssl, int64_t deadline)
{
    struct pollfd readable = { SSL_get_fd(ssl), POLLIN, 0 };
    struct timeval timer = { 0, 0 };
    int64_t wait = deadline - now_ms();

    if (DTLSv1_get_timeout(ssl, &timer)) {
        int64_t due = (int64_t)timer.tv_sec * 1000 + (timer.tv_usec + 999) / 1000;

        wait = due < wait ? due : wait;
    }
    if (poll(&readable, 1, wait > 0 ? (int)wait : 0) < 0 && errno != EINTR) {
        return -1;
    }
    return DTLSv1_handle_timeout(ssl) < 0 ? -1 : 0;
}

static int handshake(SSL *ssl)
{
    int64_t deadline = now_ms() + HANDSHAKE_LIMIT_MS;

    for (;;) {
        int ret = 0;

        ERR_clear_error();
        errno = 0;
        ret = SSL_connect(ssl);
        if (ret == 1) {
            return 0;
        }
        switch (SSL_get_error(ssl, ret)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE:
            break;
        case SSL_ERROR_SYSCALL:
            fprintf(stderr, "handshake: %s\n", errno != 0 ? strerror(errno) : "the socket failed");
            return -1;
        default:
            if (SSL_get_verify_result(ssl) != X509_V_OK) {
                fprintf(stderr, "the server's certificate is refused: %s\n",
                        X509_verify_cert_error_string(SSL_get_verify_result(ssl)));
            } else {
                complain("handshake");
            }
            return -1;
        }
        if (now_ms() >= deadline || wait_for_peer(ssl, deadline) < 0) {
            complain("handshake: no answer");
            return -1;
        }
    }
}

/* Waits for the answer to one message. Returns 1 when it came, 0 when time ran out, -1 when the session is over. */
static int receive_answer(SSL *ssl, const char *message, int len)
{
    int64_t deadline = now_ms() + options.answer_ms;

    do {
        char answer[MESSAGE_MAX];
        int got = 0;

        ERR_clear_error();
        got = SSL_read(ssl, answer, sizeof(answer));
        if (got > 0) {
            print_message("client", "received", answer, got);
            if (got == len && memcmp(answer, message, (size_t)len) == 0) {
                return 1;
            }
            continue;   /* the late answer to a message that was repeated meanwhile */
        }
        if (got == 0 && SSL_get_shutdown(ssl) == 0) {
            continue;   /* an empty message */
        }
        switch (SSL_get_error(ssl, got)) {
        case SSL_ERROR_WANT_READ:
            break;
        case SSL_ERROR_ZERO_RETURN:
            fprintf(stderr, "the server has closed the session\n");
            return -1;
        default:
            complain("receive");
            return -1;
        }
        if (wait_for_peer(ssl, deadline) < 0) {
            complain("receive");
            return -1;
        }
    } while (now_ms() < deadline);
    return 0;
}

/* Sends one message, again if need be, until its answer comes. */
static int exchange(SSL *ssl, const char *message, int len)
{
    int i = 0;

    for (i = 0; i < SEND_LIMIT; i++) {
        int got = 0;

        ERR_clear_error();
        if (SSL_write(ssl, message, len) != len) {
            complain("send");
            return -1;
        }
        print_message("client", i == 0 ? "sent" : "sent again", message, len);
        got = receive_answer(ssl, message, len);
        if (got != 0) {
            return got > 0 ? 0 : -1;
        }
    }
    fprintf(stderr, "no answer to message '%s', sent %d times\n", message, SEND_LIMIT);
    return -1;
}

/*
 * dest: the server's address; its family says whether a sockaddr_in or a sockaddr_in6 stands there
 * cf, key: the client's own certificate and key, or NULL
 * peer_cf: the CA that must have signed the server's certificate
 */
static int dv_ssl_client_main(struct sockaddr_in *dest, char *cf, char *key, char *peer_cf)
{
    SSL_CTX *ctx = NULL;
    SSL *ssl = NULL;
    BIO *bio = NULL;
    int sockfd = -1;
    int ret = EXIT_SETUP;
    long i = 0;

    if (!library_fits()) {
        complain("OpenSSL");
        return EXIT_SETUP;
    }
    ctx = SSL_CTX_new(DTLS_client_method());
    if (ctx == NULL) {
        complain("SSL_CTX_new");
        return EXIT_SETUP;
    }

    /* Connected, so that the kernel drops what others send, and tells when nobody listens there. */
    sockfd = socket(dest->sin_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sockfd < 0 || connect(sockfd, (struct sockaddr *)dest, address_length(dest)) != 0) {
        fprintf(stderr, "%s: %s\n", address_text(dest), strerror(errno));
        goto out;
    }

    /* What is wrong with a file or a list is in the log. */
    if (trust(ctx, SSL_VERIFY_PEER, peer_cf) != 0 || (cf != NULL && dv_ssl_certificate(ctx, cf, key) != 0)
        || dv_openssl_ctx_set_ciphers(ctx, CIPHERS) != DV_OK) {
        goto out;
    }

    ssl = SSL_new(ctx);
    bio = BIO_new_dgram(sockfd, BIO_NOCLOSE);
    if (ssl == NULL || bio == NULL) {
        BIO_free(bio);
        complain("SSL_new");
        goto out;
    }
    /* Not SSL_set_fd: its socket BIO knows nothing of datagrams, peers and MTU. */
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, dest);
    SSL_set_bio(ssl, bio, bio);

    /* A certificate of the CA is not enough: it must be this server's. */
    if (dv_openssl_set_peer_name(ssl, options.name) != DV_OK) {
        ret = EXIT_USAGE;
        goto out;
    }

    ret = EXIT_HANDSHAKE;
    if (handshake(ssl) != 0 || dv_openssl_get_verify_result(ssl) != DV_OK) {
        goto out;
    }
    printf("client session with %s, %s, %s\n", address_text(dest), SSL_get_version(ssl), SSL_get_cipher_name(ssl));

    ret = EXIT_UNANSWERED;
    for (i = 1; i <= options.messages; i++) {
        char message[MESSAGE_MAX];
        int len = snprintf(message, sizeof(message), "%s %ld", options.text, i);

        if (exchange(ssl, message, len) != 0) {
            goto goodbye;
        }
    }
    ret = EXIT_DONE;

goodbye:
    SSL_shutdown(ssl);      /* close_notify, so that the server need not wait for a deadline */
out:
    SSL_free(ssl);
    if (sockfd >= 0) {
        close(sockfd);
    }
    SSL_CTX_free(ctx);
    if (ret == EXIT_DONE) {
        printf("client done: %ld of %ld messages answered\n", options.messages, options.messages);
    } else {
        fprintf(stderr, "client failed; the lines above say why\n");
    }
    return ret;
}

static void usage(void)
{
    printf("usage: dtls_client [options]\n"
           "Sends messages to a DTLS server that sends them back, such as dtls_server.\n"
           "  -a ADDRESS  IPv4 or IPv6 address or name of the server (%s)\n"
           "  -p PORT     its port (%s)\n"
           "  -C FILE     CA certificates to check the server's certificate with (%s)\n"
           "  -N NAME     DNS name or IP address that the server's certificate must have (that of -a)\n"
           "  -c FILE     the client's own certificate, for a server that asks for one\n"
           "  -k FILE     the key of that certificate\n"
           "  -n NUMBER   how many messages (%ld)\n"
           "  -m TEXT     what they say (%s)\n"
           "  -t MS       how long to wait for an answer, in milliseconds (%ld)\n"
           "  -v          show the library's log down to single datagrams\n"
           "  -h          this text\n"
           "exit code: 0 all answered, 1 set-up failed, 2 wrong usage, 3 no session, 4 unanswered\n",
           DEFAULT_ADDRESS, DEFAULT_PORT, DEFAULT_CA, options.messages, options.text, options.answer_ms);
}

int main(int argc, char **argv)
{
    const char *host = DEFAULT_ADDRESS;
    const char *port = DEFAULT_PORT;
    char default_ca[] = DEFAULT_CA;
    char *ca = default_ca;
    char *cert = NULL;
    char *key = NULL;
    int log_level = DV_LOG_WARN;
    struct sockaddr_storage server;
    int option = 0;

    while ((option = getopt(argc, argv, "a:p:c:k:C:N:n:m:t:vh")) != -1) {
        switch (option) {
        case 'a': host = optarg; break;
        case 'p': port = optarg; break;
        case 'c': cert = optarg; break;
        case 'k': key = optarg; break;
        case 'C': ca = optarg; break;
        case 'N': options.name = optarg; break;
        case 'n': options.messages = read_number("-n", optarg, 1, LONG_MAX); break;
        case 'm': options.text = optarg; break;
        case 't': options.answer_ms = read_number("-t", optarg, 1, 3600000); break;
        case 'v': log_level = DV_LOG_DEBUG; break;
        case 'h': usage(); return EXIT_DONE;
        default: return wrong_usage(argv[0]);
        }
    }
    if (options.messages < 0 || options.answer_ms < 0 || !all_options(argc, argv) || read_number("-p", port, 1, 65535) < 0) {
        return wrong_usage(argv[0]);
    }
    if ((cert == NULL) != (key == NULL)) {
        fprintf(stderr, "-c and -k go together: a certificate needs its key\n");
        return wrong_usage(argv[0]);
    }
    if (strlen(options.text) > MESSAGE_MAX - 32) {
        fprintf(stderr, "-m: at most %d bytes\n", MESSAGE_MAX - 32);
        return wrong_usage(argv[0]);
    }
    if (options.name == NULL) {
        options.name = host;
    }
    if (find_address(host, port, &server) != 0) {
        return EXIT_SETUP;
    }

    setvbuf(stdout, NULL, _IOLBF, 0);
    dv_set_log_callback(log_level, show_log, NULL);
    return dv_ssl_client_main((struct sockaddr_in *)&server, cert, key, ca);
}
