/*
 * A DTLS server for many clients on one UDP socket (one for IPv4, one for IPv6). It sends each message back.
 *
 *     build/dtls_server -p 7838
 *
 * The loop is the program's own: it receives a datagram, asks the library whose it is, and hands it over. What a
 * connection is, when its peer has proved its address, and what must be sent again is the library's business.
 */
#include <unistd.h>

#include "example.h"

#define EVENTS_MAX  10
#define MESSAGE_MAX 16384 /* what a record can carry */

/* Set by SIGINT and SIGTERM. */
static volatile sig_atomic_t stop_asked;

static void ask_stop(int signal_number)
{
    (void)signal_number;
    stop_asked = 1;
}

/* All connections, by their list member: this program's own list, for the goodbye at the end. */
static struct dv_list_node connections = { &connections, &connections };

static void remember(dv_udp_conn_t *conn)
{
    if (conn->list.next == NULL) {
        conn->list.next = &connections;
        conn->list.prev = connections.prev;
        connections.prev->next = &conn->list;
        connections.prev = &conn->list;
    }
}

/* Frees what the library has given up, because the peer took too long: nobody else would. */
static void forget_given_up(void)
{
    struct dv_list_node *node = connections.next;

    while (node != &connections) {
        dv_udp_conn_t *conn = (dv_udp_conn_t *)node;    /* list is the first member */

        node = node->next;
        if (conn->ssl == NULL) {
            printf("server: %s took too long\n", address_text(&conn->key));
            dv_dtls_conn_free(conn);
        }
    }
}

/* dv_dtls_conn_free takes the connection out of the list, too. */
static void close_connection(dv_udp_conn_t *conn, int fd)
{
    dv_dtls_shutdown(conn, fd, address_length(&conn->key));
    dv_dtls_conn_free(conn);
}

static int open_socket(void *address)
{
    int family = ((struct sockaddr *)address)->sa_family;
    socklen_t len = address_length(address);
    int yes = 1;
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    /* Without IPV6_V6ONLY the IPv6 socket would take the IPv4 port as well. */
    if (fd < 0 || (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) != 0)
        || bind(fd, address, len) != 0 || getsockname(fd, address, &len) != 0) {
        fprintf(stderr, "%s: %s\n", address_text(address), strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    printf("server listens on %s\n", address_text(address));
    return fd;
}

/* Answers one message. Returns whether the connection is still there. */
static int answer(dv_udp_conn_t *conn, int fd, char *message, int len, socklen_t addrlen)
{
    static char scratch[DTLS_RECORD_MAX_LEN];
    int error = 0;

    print_message("server", "received", message, len);
    if (dv_dtls_write(conn, message, (size_t)len, fd, scratch, sizeof(scratch), addrlen) >= 0) {
        return 1;
    }
    error = errno;
    fprintf(stderr, "cannot answer %s: %s\n", address_text(&conn->key), strerror(error));
    /*
     * The peer's datagrams may be larger than ours (DV_MTU): such an answer is lost like any datagram. And where its goodbye
     * came in one datagram with messages, it takes no answers, but the messages count.
     */
    if (error == EMSGSIZE || error == ENOTCONN) {
        return 1;
    }
    close_connection(conn, fd);
    return 0;
}

/* One datagram from one peer. */
static void receive(SSL_CTX *ctx, int fd)
{
    static char datagram[DTLS_RECORD_MAX_LEN];
    char message[MESSAGE_MAX];
    dv_udp_conn_key_t key;
    dv_udp_conn_t *conn = NULL;
    /* recvfrom shortens it to what the peer's family has: set it before every call, or IPv6 addresses are cut. */
    socklen_t addrlen = sizeof(key);
    ssize_t got = 0;
    int len = 0;

    /* The whole key is compared, and recvfrom does not fill all of it. */
    memset(&key, 0, sizeof(key));
    got = recvfrom(fd, datagram, sizeof(datagram), 0, &key.addr, &addrlen);
    if (got <= 0) {
        return;
    }

    conn = dv_dtls_conn_find(&key);
    if (conn == NULL) {
        /* NULL is no failure: the library has answered with a cookie, or dropped what is not DTLS, and kept nothing. */
        conn = dv_dtls_conn_new(ctx, datagram, (size_t)got, fd, &key, addrlen);
        if (conn != NULL) {
            remember(conn);
        }
        return;
    }
    /* When a client has restarted on its port, conn_find returns a connection that conn_new never returned. */
    remember(conn);

    len = dv_dtls_read(conn, datagram, (size_t)got, fd, message, sizeof(message), addrlen);
    while (len > 0) {
        if (!answer(conn, fd, message, len, addrlen)) {
            return;
        }
        /* A datagram can carry more than one message. */
        len = dv_dtls_read(conn, NULL, 0, fd, message, sizeof(message), addrlen);
    }
    if (len < 0) {
        printf("server: %s %s\n", address_text(&key), len == -2 ? "has closed" : "failed");
        close_connection(conn, fd);
    }
}

/*
 * my_addr, my_addr6: where to listen; either may be NULL
 * cf, key: the server's certificate chain and key
 * peer_cf: the CA that must have signed the clients' certificates, or NULL when clients need none
 */
static int dv_ssl_server_main(struct sockaddr_in *my_addr, struct sockaddr_in6 *my_addr6, char *cf, char *key,
                              char *peer_cf)
{
    SSL_CTX *ctx = NULL;
    struct epoll_event event;
    struct epoll_event events[EVENTS_MAX];
    sigset_t ending;
    sigset_t while_waiting;
    int sockfd = -1;
    int sockfd6 = -1;
    int epfd = -1;
    int ret = EXIT_SETUP;

    if (!library_fits()) {
        complain("OpenSSL");
        return EXIT_SETUP;
    }
    ctx = SSL_CTX_new(DTLS_server_method());
    if (ctx == NULL) {
        complain("SSL_CTX_new");
        return EXIT_SETUP;
    }
    if (dv_ssl_certificate(ctx, cf, key) != 0) {
        goto out;   /* the log says why */
    }
    if (peer_cf != NULL && trust(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, peer_cf) != 0) {
        goto out;   /* the same */
    }

    /* Nothing is kept for a peer before it has shown with a cookie that it receives what is sent to its address. */
    SSL_CTX_set_options(ctx, SSL_OP_COOKIE_EXCHANGE);
    SSL_CTX_set_cookie_generate_cb(ctx, dv_dtls_generate_cookie_callback);
    SSL_CTX_set_cookie_verify_cb(ctx, dv_dtls_verify_cookie_callback);
    if (dv_openssl_ctx_set_ciphers(ctx, CIPHERS) != DV_OK) {
        goto out;
    }

    if (my_addr != NULL && (sockfd = open_socket(my_addr)) < 0) {
        goto out;
    }
    if (my_addr6 != NULL) {
        /* Port 0 takes a free one; both families are to have the same. */
        if (my_addr6->sin6_port == 0 && my_addr != NULL) {
            my_addr6->sin6_port = my_addr->sin_port;
        }
        if ((sockfd6 = open_socket(my_addr6)) < 0) {
            goto out;
        }
    }

    epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0) {
        perror("epoll_create1");
        goto out;
    }
    if (sockfd >= 0) {
        dv_add_epoll_event(epfd, &event, sockfd);
    }
    if (sockfd6 >= 0) {
        dv_add_epoll_event(epfd, &event, sockfd6);
    }

    /* Both signals come through only while epoll_pwait waits: none is lost between the look at stop_asked and the wait. */
    on_end_signals(ask_stop);
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigprocmask(SIG_BLOCK, &ending, &while_waiting);

    while (!stop_asked) {
        /* Not longer than until a flight has to be sent again, or a deadline is over. */
        int ready = epoll_pwait(epfd, events, EVENTS_MAX, dv_dtls_next_timeout(), &while_waiting);
        int i = 0;

        if (ready < 0 && errno != EINTR) {
            perror("epoll_pwait");
            goto out;
        }
        if (dv_dtls_handle_timeouts() > 0) {
            forget_given_up();
        }
        for (i = 0; i < ready; i++) {
            receive(ctx, events[i].data.fd);
        }
    }
    ret = EXIT_DONE;

out:
    while (connections.next != &connections) {
        dv_udp_conn_t *conn = (dv_udp_conn_t *)connections.next;

        close_connection(conn, conn->key.addr.sa_family == AF_INET6 ? sockfd6 : sockfd);
    }
    if (epfd >= 0) {
        close(epfd);
    }
    if (sockfd >= 0) {
        close(sockfd);
    }
    if (sockfd6 >= 0) {
        close(sockfd6);
    }
    SSL_CTX_free(ctx);
    if (ret == EXIT_DONE) {
        printf("server done\n");
    } else {
        fprintf(stderr, "the server has failed; the lines above say why\n");
    }
    return ret;
}

static void usage(void)
{
    printf("usage: dtls_server [options]\n"
           "A DTLS server that sends each message back. SIGINT and SIGTERM end it.\n"
           "  -a ADDRESS  IPv4 or IPv6 address to listen on; may be given once for each (127.0.0.1 and ::1)\n"
           "  -p PORT     port; 0 takes a free one (%s)\n"
           "  -c FILE     the server's certificate chain, PEM (%s)\n"
           "  -k FILE     its key, PEM (%s)\n"
           "  -C FILE     CA certificates: clients must present a certificate issued by one of them\n"
           "  -v          show the library's log down to single datagrams\n"
           "  -h          this text\n"
           "exit code: 0 ended by a signal, 1 set-up or the server failed, 2 wrong usage\n",
           DEFAULT_PORT, DEFAULT_CERT, DEFAULT_KEY);
}

int main(int argc, char **argv)
{
    const char *hosts[2] = { "127.0.0.1", "::1" };
    int host_count = 0;
    const char *port = DEFAULT_PORT;
    char default_cert[] = DEFAULT_CERT;
    char default_key[] = DEFAULT_KEY;
    char *cert = default_cert;
    char *key = default_key;
    char *ca = NULL;
    int log_level = DV_LOG_INFO;
    struct sockaddr_storage addresses[2];
    struct sockaddr_in *address4 = NULL;
    struct sockaddr_in6 *address6 = NULL;
    int option = 0;
    int i = 0;

    while ((option = getopt(argc, argv, "a:p:c:k:C:vh")) != -1) {
        switch (option) {
        case 'a':
            if (host_count == 2) {
                fprintf(stderr, "-a: one IPv4 and one IPv6 address, no more\n");
                return wrong_usage(argv[0]);
            }
            hosts[host_count++] = optarg;
            break;
        case 'p': port = optarg; break;
        case 'c': cert = optarg; break;
        case 'k': key = optarg; break;
        case 'C': ca = optarg; break;
        case 'v': log_level = DV_LOG_DEBUG; break;
        case 'h': usage(); return EXIT_DONE;
        default: return wrong_usage(argv[0]);
        }
    }
    if (!all_options(argc, argv) || read_number("-p", port, 0, 65535) < 0) {
        return wrong_usage(argv[0]);
    }
    if (host_count == 0) {
        host_count = 2;
    }
    for (i = 0; i < host_count; i++) {
        if (find_address(hosts[i], port, &addresses[i]) != 0) {
            return EXIT_SETUP;
        }
        if (addresses[i].ss_family == AF_INET6 && address6 == NULL) {
            address6 = (struct sockaddr_in6 *)&addresses[i];
        } else if (addresses[i].ss_family == AF_INET && address4 == NULL) {
            address4 = (struct sockaddr_in *)&addresses[i];
        } else {
            fprintf(stderr, "-a: one IPv4 and one IPv6 address, no more\n");
            return wrong_usage(argv[0]);
        }
    }

    setvbuf(stdout, NULL, _IOLBF, 0);
    dv_set_log_callback(log_level, show_log, NULL);
    return dv_ssl_server_main(address4, address6, cert, key, ca);
}
