/*
 * An operator's variables are taken when they make sense. What makes none changes nothing, and the log says so.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "dv_dtls.h"

static char shown[4096];

static void collect(int level, const char *line, void *user)
{
    (void)user;
    CHECK(level == DV_LOG_ERROR);
    strncat(shown, line, sizeof(shown) - strlen(shown) - 2);
    strcat(shown, "\n");
}

int main(void)
{
    static const char *const wrong[][2] = {
        {"DV_MAX_CONNECTIONS", "0"},
        {"DV_MAX_HANDSHAKES", "many"},
        {"DV_FIRST_TIMEOUT_MS", "-1"},
        {"DV_LONGEST_TIMEOUT_MS", ""},
        {"DV_IDLE_TIMEOUT_MS", "99999999999999999999"},
        {"DV_MTU", "70000"},
        {"DV_MAX_CERTIFICATE_CHAIN", "1023\n"},
        {"DV_RELEASE_BUFFERS", "2"},
        {"DV_COOKIE_SECRET_FILE", "/nonexistent/secret"},
    };
    dv_config config, untouched;
    size_t i;

    dv_config_init(&untouched, sizeof(untouched));
    for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        setenv(wrong[i][0], wrong[i][1], 1);
    }
    setenv("DV_MAX_HANDSHAKES_PER_SOURCE", "7", 1);
    setenv("DV_HANDSHAKE_TIMEOUT_MS", "5000", 1);
    dv_set_log_callback(DV_LOG_ERROR, collect, NULL);

    /* The first helper that needs the table reads them, and they are read once. */
    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    setenv("DV_HANDSHAKE_TIMEOUT_MS", "6000", 1);
    CHECK(dv_dtls_config(&config, sizeof(config)) == 0);
    CHECK(config.max_handshakes_per_source == 7);
    CHECK(config.handshake_timeout_ms == 5000);
    CHECK(config.max_sessions == untouched.max_sessions);
    CHECK(config.max_handshakes == untouched.max_handshakes);
    CHECK(config.first_timeout_ms == untouched.first_timeout_ms);
    CHECK(config.longest_timeout_ms == untouched.longest_timeout_ms);
    CHECK(config.idle_timeout_ms == untouched.idle_timeout_ms);
    CHECK(config.mtu == untouched.mtu);
    CHECK(config.release_buffers == 0);
    for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        CHECK(strstr(shown, wrong[i][0]) != NULL);
    }
    CHECK(strstr(shown, "DV_MTU=70000: not a number from 256 to 65535; it stays 1280\n") != NULL);
    CHECK(strstr(shown, "DV_FIRST_TIMEOUT_MS=-1: not a number from 10 to 4294967295; it stays 1000\n") != NULL);
    CHECK(strstr(shown, "DV_MAX_CERTIFICATE_CHAIN=1023\\n: not a number from 1024 to 4294967295; it stays 32768\n") != NULL);
    CHECK(strstr(shown, "DV_RELEASE_BUFFERS=2: not a number from 0 to 1; it stays 0\n") != NULL);
    CHECK(strstr(shown, "DV_COOKIE_SECRET_FILE=/nonexistent/secret: ") != NULL);
    CHECK(strstr(shown, "; the secret is random\n") != NULL);
    return check_report("settings_environment");
}
