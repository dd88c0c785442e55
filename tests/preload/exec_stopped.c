/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program that executes another one while its threads are stopped, again and again, does not hand it the
 * signal of a stop, which would be its end: a signal that waits outlives execve. 400 programs, each with a thread beside
 * and so much to be handed over that the kernel is at it for long.
 */
#include "promise.h"

#include <pthread.h>

enum { generations = 400, strings = 12, string_bytes = 100000 };

static void *sleep_on(void *arg) {
    for (;;)
        usleep(100);
    return arg;
}

int main(int argc, char **argv) {
    static char text[string_bytes];
    char number[16];
    char *args[strings + 3] = {argv[0], number};
    int left = argc > 1 ? atoi(argv[1]) : generations;
    pthread_t thread;
    if (left == 0)
        return 0;
    memset(text, 'x', sizeof text - 1);
    for (unsigned i = 0; i < strings; i++)
        args[2 + i] = text;
    snprintf(number, sizeof number, "%d", left - 1);
    BS_CHECK(pthread_create(&thread, NULL, sleep_on, NULL) == 0, "pthread_create");
    usleep(2000 + (unsigned)left * 37 % 1000);
    BS_CHECK(execvp(argv[0], args), "execvp");
}
