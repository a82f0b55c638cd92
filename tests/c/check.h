/*
 * Assertions for the C tests: a failed CHECK prints where and goes on; main ends with
 *
 *     return check_report("name");
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>

/* Of all threads. */
static _Atomic int check_count, check_failures;

#define CHECK(condition) check_that((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
/* Whether a call has this outcome and sets errno, which is not left over from the one before, to this. */
#define FAILS(outcome, number) (errno = 0, (outcome) && errno == (number))
/* The same of a call that returns nothing. */
#define SETS_ERRNO(call, number) (errno = 0, (call), errno == (number))

static int check_that(int holds, const char *condition, const char *file, int line)
{
    check_count++;
    if (!holds) {
        check_failures++;
        fprintf(stderr, "%s:%d: %s\n", file, line, condition);
    }
    return holds;
}

static int check_report(const char *name)
{
    printf("%s: %d of %d checks failed\n", name, check_failures, check_count);
    return check_failures != 0;
}

#endif
