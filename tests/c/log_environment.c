/*
 * DV_LOG shows the log on stderr from the first helper on, also when that is one that sets up an SSL_CTX: what fails there
 * is what an operator looks for. A value that makes no sense is told there. Without it nothing is printed.
 */
#include <string.h>

#include "child.h"
#include "dv_dtls.h"

#define FAILURE "dv_dtls Error: dv_ssl_certificate: "

static char shown[4096], taken[4096];

static void take(int level, const char *line, void *user)
{
    (void)level, (void)user;
    strncat(taken, line, sizeof(taken) - strlen(taken) - 1);
}

/* What a program prints that fails, with DV_LOG set to `value`. It is read once, so each time in another process. */
static void show(const char *value, int own_callback)
{
    char missing[] = "/nonexistent/server.pem";
    FILE *file = tmpfile();
    pid_t child;

    CHECK(file != NULL);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());

        dup2(fileno(file), STDERR_FILENO);
        dup2(fileno(file), STDOUT_FILENO);
        if (value != NULL) {
            setenv("DV_LOG", value, 1);
        }
        if (own_callback) {
            dv_set_log_callback(DV_LOG_ERROR, take, NULL);
        }
        dv_ssl_certificate(ctx, missing, missing);
        SSL_CTX_free(ctx);
        _exit(own_callback ? strstr(taken, "DV_LOG=") == NULL || strstr(taken, missing) == NULL : 0);
    }
    child_succeeds(child);
    rewind(file);
    shown[fread(shown, 1, sizeof(shown) - 1, file)] = '\0';
    fclose(file);
}

int main(int argc, char **argv)
{
    static const char *const levels[] = {"error", "warn", "INFO", "Debug"};
    size_t i;

    (void)argv;
    CHECK(argc > 1 && unsetenv("DV_LOG") == 0);
    for (i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
        show(levels[i], 0);
        CHECK(strncmp(shown, FAILURE, sizeof(FAILURE) - 1) == 0 && strstr(shown, "/nonexistent/server.pem") != NULL);
    }
    show("nonsense\n", 0);
    CHECK(strncmp(shown, "dv_dtls Error: DV_LOG=nonsense\\n: none of error, warn, info and debug; it is warn\n", 80) == 0);
    CHECK(strstr(shown, FAILURE) != NULL);
    show("nonsense", 1);
    CHECK(shown[0] == '\0');
    show("", 0);
    CHECK(shown[0] == '\0');
    show(NULL, 0);
    CHECK(shown[0] == '\0');
    return check_report("log_environment");
}
