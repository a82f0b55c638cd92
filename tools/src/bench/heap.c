/*
 * Preloaded into a server: writes the number of bytes that malloc has given out to the file DV_HEAP_FILE, ten times a
 * second. Resident memory does not say it: of OpenSSL's buffers most pages are never touched.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *watch(void *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char text[32];

    for (;;) {
        struct mallinfo2 now = mallinfo2();
        int len = snprintf(text, sizeof(text), "%20zu\n", now.uordblks + now.hblkhd);
        if (pwrite(fd, text, len, 0) != len) {
            return NULL;
        }
        usleep(100000);
    }
}

__attribute__((constructor)) static void begin(void)
{
    char *path = getenv("DV_HEAP_FILE");
    pthread_t thread;

    if (path != NULL) {
        pthread_create(&thread, NULL, watch, path);
    }
}
