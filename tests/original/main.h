/*
 * The program's main: options in, one of the original mains called.
 *
 *   program client|server [-a address] [-p port] [-c certificate] [-k key] [-P CA file] [-6 address]
 *
 * -6 lets the server listen on an IPv6 address as well, on the same port.
 */
int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    struct sockaddr_in6 at6 = {.sin6_family = AF_INET6};
    char *address = "127.0.0.1", *certificate = NULL, *key = NULL, *ca = NULL, *mode = argc > 1 ? argv[1] : "";
    char *address6 = NULL;
    int option = 0, port = 7838;

    optind = 2;
    while ((option = getopt(argc, argv, "a:p:c:k:P:6:")) != -1) {
        switch (option) {
        case 'a': address = optarg; break;
        case 'p': port = atoi(optarg); break;
        case 'c': certificate = optarg; break;
        case 'k': key = optarg; break;
        case 'P': ca = optarg; break;
        case '6': address6 = optarg; break;
        default: return 64;
        }
    }
    at.sin_port = at6.sin6_port = htons(port);
    if (inet_pton(AF_INET, address, &at.sin_addr) != 1
        || (address6 != NULL && inet_pton(AF_INET6, address6, &at6.sin6_addr) != 1)) {
        return 64;
    }
#ifndef PROGRAM_IS_MEASURED
    /* The test reads the output while the program runs. */
    setvbuf(stdout, NULL, _IOLBF, 0);
#endif

#ifdef PROGRAM_IS_CLIENT
    if (strcmp(mode, "client") == 0) {
        return dv_ssl_client_main(&at, certificate, key, ca) == 0 ? 0 : 1;
    }
#endif
#ifdef PROGRAM_IS_SERVER
    if (strcmp(mode, "server") == 0) {
#ifdef PROGRAM_OWNS_TABLE
        /* The original main forgets this, and its first datagram ends in a segmentation fault. */
        dv_dtls_conn_table_init();
#endif
        return dv_ssl_server_main(&at, address6 != NULL ? &at6 : NULL, certificate, key, ca);
    }
#endif
    return 64;
}
