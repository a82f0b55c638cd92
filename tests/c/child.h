/*
 * Cases in processes of their own.
 */
#ifndef CHILD_H
#define CHILD_H

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* Waits for a child, which is to exit with 0. */
static inline void child_succeeds(pid_t child)
{
    int status = -1;

    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        fprintf(stderr, "its status is %#x\n", (unsigned int)status);
    }
}

/*
 * The end of a child whose parent has threads: one whose checks hold kills itself. Where it exits, valgrind searches it for
 * what only those threads point to.
 */
static inline void child_ends(void)
{
    fflush(NULL);
    if (check_failures == 0) {
        raise(SIGKILL);
    }
    _exit(1);
}

/* Waits for such a child. Returns whether its checks held. */
static inline int child_killed_itself(pid_t child)
{
    int status = -1;

    return CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Runs a case in a child, where the library was not used yet. A lock that is never given back ends it, too. */
static inline void run_in_child(const char *title, void (*body)(void))
{
    pid_t child = 0;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        alarm(60);
        /* What has failed before is not this one's. */
        check_count = check_failures = 0;
        body();
        exit(check_report(title));
    }
    child_succeeds(child);
}

#endif
