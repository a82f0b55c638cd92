/*
 * An echo server on the server door.
 */
#include "serve.h"

enum { LOOK_AGAIN_US = 50000 };

int main(int argc, char **argv)
{
    struct options options;
    dv_callbacks callbacks = { .size = sizeof(callbacks), .message = answer, .close = answer };
    dv_server *server = NULL;
    int code = read_options(&options, argc, argv);
    SSL_CTX *ctx = NULL;

    if (code != EXIT_DONE) {
        return code;
    }
    ctx = server_context();
    if (ctx == NULL) {
        return EXIT_SETUP;
    }
    options.config.secret_file = getenv("DV_COOKIE_SECRET_FILE");
    if (dv_server_new(ctx, &options.config, &callbacks, NULL, &server) < 0
        || dv_server_bind(server, options.host, options.port) < 0 || dv_server_start(server) < 0) {
        fprintf(stderr, "%s\n", dv_last_error());
        return EXIT_SETUP;
    }
    for (;;) {
        dv_stats stats;

        usleep(LOOK_AGAIN_US);
        dv_server_stats(server, &stats, sizeof(stats));
        tell(&stats);
    }
}
