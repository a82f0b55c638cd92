/*
 * What the examples share: exit codes, reading the command line, and showing text. Nothing of it is DTLS.
 */
#ifndef DV_EXAMPLE_H
#define DV_EXAMPLE_H

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dv_dtls.h>
#include <openssl/err.h>

#define DEFAULT_ADDRESS "127.0.0.1"
#define DEFAULT_PORT    "7838"
#define DEFAULT_CA      "certs/out/ca.pem"
#define DEFAULT_CERT    "certs/out/server-ecdsa.pem"
#define DEFAULT_KEY     "certs/out/server-ecdsa.key"

/* Forward secrecy and authenticated encryption, whatever kind of key the server's certificate has. */
#define CIPHERS         "ECDHE+AESGCM:ECDHE+CHACHA20"

enum exit_code {
    EXIT_DONE = 0,          /* everything went as asked */
    EXIT_SETUP = 1,         /* a file, a socket or an option of OpenSSL could not be had, or a server broke off */
    EXIT_USAGE = 2,         /* the command line is wrong */
    EXIT_HANDSHAKE = 3,     /* no session: nobody there, or a certificate that is not good */
    EXIT_UNANSWERED = 4     /* a session, but a message was not answered */
};

/* The servers' part of it, for their help. */
#define SERVER_EXIT_CODES "exit code: 0 ended by a signal, 1 set-up or the server failed, 2 wrong usage\n"

/* dv_set_log_callback: the library itself prints nothing. */
static inline void show_log(int level, const char *line, void *user)
{
    static const char *const names[] = { "?", "error", "warning", "info", "debug" };

    (void)user;
    fprintf(stderr, "[%s] %s\n", names[level >= 1 && level <= 4 ? level : 0], line);
}

/* Whether the library and the OpenSSL that were loaded are those that this program was compiled for. */
static inline int library_fits(void)
{
    /* The log says what does not fit. */
    return dv_check_version(DV_VERSION_NUM) == DV_OK && OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1;
}

/* Judges peers by the CAs of a file; -1 when that is not good, which is in the log. No handshake would succeed then. */
static inline int trust(SSL_CTX *ctx, int mode, char *ca)
{
    dv_openssl_set_verify(ctx, mode, ca);
    /* It names the CAs to clients as well: without one there was none in the file. */
    return sk_X509_NAME_num(SSL_CTX_get_client_CA_list(ctx)) > 0 ? 0 : -1;
}

/* Says what failed, with OpenSSL's own words where it has any. */
static inline void complain(const char *what)
{
    unsigned long error = ERR_get_error();

    if (error == 0) {
        fprintf(stderr, "%s\n", what);
    } else {
        /* What the system said, OpenSSL has no words for. */
        const char *reason = ERR_SYSTEM_ERROR(error) ? strerror(ERR_GET_REASON(error)) : ERR_reason_error_string(error);

        fprintf(stderr, "%s: %s\n", what, reason != NULL ? reason : "unknown error");
    }
    ERR_clear_error();
}

/* Reads the value of an option, a whole number from least to most. Says what is wrong and returns -1 if it is none. */
static inline long read_number(const char *option, const char *text, long least, long most)
{
    char *end = NULL;
    long number = 0;

    errno = 0;
    number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < least || number > most) {
        fprintf(stderr, "%s %s: not a number from %ld to %ld\n", option, text, least, most);
        return -1;
    }
    return number;
}

/* Looks up an address or a host name, with a port. Says what is wrong and returns -1 if it cannot. */
static inline int find_address(const char *host, const char *port, struct sockaddr_storage *address)
{
    struct addrinfo hints;
    struct addrinfo *found = NULL;
    int error = 0;

    memset(&hints, 0, sizeof(hints));
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_DGRAM;
    hints.ai_flags = AI_NUMERICSERV;
    error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "%s port %s: %s\n", host, port, gai_strerror(error));
        return -1;
    }
    memset(address, 0, sizeof(*address));
    memcpy(address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

static inline socklen_t address_length(const void *address)
{
    const struct sockaddr *any = address;

    return any->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* The address as text, in a buffer that the next call uses again. */
static inline const char *address_text(const void *address)
{
    static char text[NI_MAXHOST + NI_MAXSERV + sizeof(" port ")];
    char host[NI_MAXHOST] = "?";
    char port[NI_MAXSERV] = "?";

    getnameinfo(address, address_length(address), host, sizeof(host), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, sizeof(text), "%s port %s", host, port);
    return text;
}

/* Whether all of the command line was options; complains about what was not. */
static inline int all_options(int argc, char **argv)
{
    if (optind < argc) {
        fprintf(stderr, "unexpected argument '%s'\n", argv[optind]);
    }
    return optind == argc;
}

/* Ends a complaint about the command line. */
static inline int wrong_usage(const char *program)
{
    fprintf(stderr, "%s -h shows the options\n", program);
    return EXIT_USAGE;
}

/* An option --NAME of a program, and what becomes of its value. */
struct known_option {
    const char *name;
    const char **text;              /* receives it as it is */
    long *number;                   /* receives it as a number */
    long least, most;               /* of a number; also of a text that must be one: then most is not 0 */
    int *flag;                      /* the option has no value: this becomes 1 */
    int (*take)(char *value);       /* does something else with it; complains and returns -1 if it cannot */
};

#define OPTIONS_MAX 32

static inline int take_option(const struct known_option *known, char *value)
{
    char name[64];
    long number = 0;

    if (known->flag != NULL) {
        *known->flag = 1;
    } else if (known->take != NULL) {
        return known->take(value);
    } else if (known->most != 0) {
        snprintf(name, sizeof(name), "--%s", known->name);
        number = read_number(name, value, known->least, known->most);
        if (number < 0) {
            return -1;
        }
    }
    if (known->number != NULL) {
        *known->number = number;
    }
    if (known->text != NULL) {
        *known->text = value;
    }
    return 0;
}

/* Reads the command line. With -h or --help, and where something is wrong with it, this is the end of the program. */
static inline void read_command_line(int argc, char **argv, const struct known_option *known, const char *help)
{
    struct option options[OPTIONS_MAX + 1] = { { "help", no_argument, NULL, 'h' } };
    int option = 0;
    int i = 0;

    for (i = 0; known[i].name != NULL && i < OPTIONS_MAX - 1; i++) {
        options[i + 1] = (struct option){ known[i].name, known[i].flag != NULL ? no_argument : required_argument, NULL,
                                          UCHAR_MAX + 1 + i };
    }
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            exit(EXIT_DONE);
        }
        /* About options that are unknown or lack their value, getopt has complained. */
        if (option == '?' || take_option(&known[option - UCHAR_MAX - 1], optarg) < 0) {
            exit(wrong_usage(argv[0]));
        }
    }
    if (!all_options(argc, argv)) {
        exit(wrong_usage(argv[0]));
    }
}

/* Has SIGINT and SIGTERM call this. */
static inline void on_end_signals(void (*handler)(int))
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

#define SHOWN_MAX 60

/* Prints the beginning of a message. It came from the network: whatever is in it does not reach the terminal's controls. */
static inline void print_message(const char *who, const char *what, const char *message, int len)
{
    int i = 0;

    printf("%s %s %d bytes: ", who, what, len);
    for (i = 0; i < len && i < SHOWN_MAX; i++) {
        putchar(isprint((unsigned char)message[i]) ? message[i] : '.');
    }
    puts(len > SHOWN_MAX ? "..." : "");
}

#endif
