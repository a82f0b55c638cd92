/*
 * A process has 127 types of BIOs for all of its libraries. Where none is left there are no connections: BIOs of the library
 * are known by their type. argv[1]: the folder of certs/make-certs.sh.
 */
#include "sides.h"

int main(int argc, char **argv)
{
    dv_address to = address("192.0.2.1", 5684);
    dv_endpoint *endpoint = NULL;
    dv_session session = 99;
    dv_config config;
    SSL_CTX *ctx;
    int i;

    if (argc < 2) {
        return 2;
    }
    for (i = 0; i < 200 && BIO_get_new_index() != -1; i++) {
    }
    if (i == 200) {
        puts("this OpenSSL counts on, as 3.0 does");
        return 77;
    }
    ctx = context(argv[1], "client");
    CHECK(dv_config_init(&config, sizeof(config)) == 0);
    config.accept = 0;
    CHECK(dv_endpoint_new(ctx, &config, &endpoint) == 0);
    CHECK(dv_endpoint_connect(endpoint, now_us, &to.any, sizeof(to.v4), "localhost", NULL, &session) == DV_ERR_TLS);
    CHECK(session == 0);
    dv_endpoint_free(endpoint);
    SSL_CTX_free(ctx);
    return check_report("bio_types");
}
