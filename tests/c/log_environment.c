/*
 * DV_LOG shows the log on stderr from the first helper on, also when that is one that sets up an SSL_CTX: what fails there
 * is what an operator looks for.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "dv_dtls.h"

int
main(int argc, char **argv)
{
    char    shown[1024] = "", missing[] = "/nonexistent/server.pem";
    SSL_CTX *ctx = SSL_CTX_new(DTLS_server_method());
    FILE    *file = tmpfile();
    int     terminal = dup(STDERR_FILENO);

    (void)argv;
    CHECK(argc > 1 && file != NULL && terminal >= 0 && setenv("DV_LOG", "error", 1) == 0);
    dup2(fileno(file), STDERR_FILENO);
    dv_ssl_certificate(ctx, missing, missing);
    dup2(terminal, STDERR_FILENO);
    rewind(file);
    CHECK(fread(shown, 1, sizeof(shown) - 1, file) > 0);
    CHECK(strncmp(shown, "dv_dtls Error: dv_ssl_certificate: ", 35) == 0 && strstr(shown, missing) != NULL);
    fclose(file);
    SSL_CTX_free(ctx);
    return check_report("log_environment");
}
