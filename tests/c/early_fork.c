/*
 * A program that forks while another of its threads is in the middle of the first thing that it does with the library: the
 * child can use the library like any other process.
 *
 * The thread is held up at functions that the library calls while it makes what is made once: they are defined here, in
 * front of those of libc and libcrypto, unless the latter is in the program itself (DV_OPENSSL_STATIC).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "child.h"
#include "peer.h"

static const char *certs;

/* Who is held up, and that it is. */
enum where { NOWHERE, PAGE, LOG, METHOD };
static _Atomic enum where hold;
static sem_t held;
static atomic_int forked;

static void hold_at(enum where here)
{
    enum where wanted = here;
    int turns = 0;

    if (atomic_compare_exchange_strong(&hold, &wanted, NOWHERE)) {
        sem_post(&held);
        /* The fork comes now; anywhere else it might find a lock of libcrypto's taken. But it may have to wait for us. */
        while (!atomic_load(&forked) && turns++ < 2000) {
            usleep(1000);
        }
    }
}

int madvise(void *at, size_t len, int advice)
{
    hold_at(PAGE);
    return (int)syscall(SYS_madvise, at, len, advice);
}

char *secure_getenv(const char *name)
{
    if (strcmp(name, "DV_LOG") == 0) {
        hold_at(LOG);
    }
    return getenv(name);
}

#ifndef DV_OPENSSL_STATIC
int BIO_get_new_index(void)
{
    int (*next)(void) = (int (*)(void))dlsym(RTLD_NEXT, "BIO_get_new_index");

    hold_at(METHOD);
    return next();
}
#endif

/* All that a server does first, and a client that speaks to it. */
static void *use_the_library(void *unused)
{
    SSL_CTX *ctx = client_context(certs);
    struct server server;
    struct client client;
    dv_udp_conn_t *conn = NULL;

    (void)unused;
    server_open(&server, certs);
    conn = established(&client, ctx, &server);
    CHECK(conn != NULL);
    dv_dtls_conn_free(conn);
    client_vanish(&client);
    server_close(&server);
    SSL_CTX_free(ctx);
    return NULL;
}

static void fork_meanwhile(void)
{
    pthread_t first;
    pid_t child = 0;

    CHECK(sem_init(&held, 0, 0) == 0);
    CHECK(pthread_create(&first, NULL, use_the_library, NULL) == 0);
    while (sem_wait(&held) != 0) {
    }
    child = fork();
    if (child == 0) {
        alarm(30);
        use_the_library(NULL);
        child_ends();
    }
    atomic_store(&forked, 1);
    child_killed_itself(child);
    CHECK(pthread_join(first, NULL) == 0);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return 2;
    }
    certs = argv[1];
    hold = PAGE;
    run_in_child("early_fork: what tells of forks", fork_meanwhile);
    hold = LOG;
    run_in_child("early_fork: the log", fork_meanwhile);
#ifndef DV_OPENSSL_STATIC
    hold = METHOD;
    run_in_child("early_fork: the BIO", fork_meanwhile);
#endif
    return check_report("early_fork");
}
