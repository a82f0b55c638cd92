/*
 * The helpers take the secret behind their cookies from a file when they are told to: cookies that are out stay good, and
 * a file that will not do changes nothing.
 */
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "dv_dtls.h"

static char path[] = "/tmp/dv_dtls-secret-XXXXXX";

static void write_secret(const char *secret)
{
    FILE    *file = fopen(path, "w");

    CHECK(file != NULL && fputs(secret, file) >= 0 && fclose(file) == 0);
}

int main(int argc, char **argv)
{
    SSL_CTX         *ctx = SSL_CTX_new(DTLS_server_method());
    SSL             *ssl = SSL_new(ctx);
    unsigned char   cookies[3][DTLS1_COOKIE_LENGTH];
    unsigned int    lens[3] = {0};
    dv_config       config;
    int             i = 0;

    (void)argv;
    CHECK(argc > 1 && ssl != NULL);
    i = mkstemp(path);
    CHECK(i >= 0);
    close(i);
    CHECK(dv_dtls_config(&config, sizeof(config)) == 0 && config.secret_file == NULL);
    CHECK(dv_dtls_generate_cookie_callback(ssl, cookies[0], &lens[0]) == 1);
    config.secret_file = path;
    write_secret("too short");
    CHECK(dv_dtls_set_config(&config) == DV_ERR_INVALID);
    CHECK(strstr(dv_last_error(), path) != NULL && strstr(dv_last_error(), "9 bytes") != NULL);
    config.secret_file = "/nonexistent";
    CHECK(dv_dtls_set_config(&config) == DV_ERR_INVALID && strstr(dv_last_error(), "No such file") != NULL);
    config.secret_file = path;

    for (i = 1; i < 3; i++) {
        write_secret(i == 1 ? "the first secret of all" : "the second one is another");
        CHECK(dv_dtls_set_config(&config) == 0);
        CHECK(dv_dtls_generate_cookie_callback(ssl, cookies[i], &lens[i]) == 1);
        CHECK(lens[i] == lens[i - 1] && memcmp(cookies[i], cookies[i - 1], lens[i]) != 0);
        /* It is good, and so is the one before. */
        CHECK(dv_dtls_verify_cookie_callback(ssl, cookies[i], lens[i]) == 1);
        CHECK(dv_dtls_verify_cookie_callback(ssl, cookies[i - 1], lens[i - 1]) == 1);
    }
    CHECK(dv_dtls_verify_cookie_callback(ssl, cookies[0], lens[0]) == 0);
    /* Without a file the secret stays what it is. */
    config.secret_file = NULL;
    CHECK(dv_dtls_set_config(&config) == 0 && dv_dtls_verify_cookie_callback(ssl, cookies[2], lens[2]) == 1);
    /* The bytes of the file are the secret itself. */
    config.cookie_secret = "the second one is another";
    config.cookie_secret_len = (uint32_t)strlen("the second one is another");
    CHECK(dv_dtls_set_config(&config) == 0 && dv_dtls_verify_cookie_callback(ssl, cookies[1], lens[1]) == 1);

    unlink(path);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return check_report("secret_file");
}
