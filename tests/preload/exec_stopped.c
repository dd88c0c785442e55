/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program that executes another one while its threads are stopped, again and again, does not hand it the
 * signal of a stop, which would be its end: a signal that waits outlives execve. 400 programs, by each of libc's functions
 * in turn, each with a thread beside and so much to be handed over that the kernel is at it for long. exec_late: so also
 * where no stop comes to its end for so long that nobody waits for that: 12 programs.
 */
#include "promise.h"

#include <pthread.h>

enum { ways = 9, strings = 12, string_bytes = 100000 };

static void *sleep_on(void *arg) {
    for (;;)
        usleep(100);
    return arg;
}

#define TEXTS(t) t, t, t, t, t, t, t, t, t, t, t, t /* as many as there are strings */

static void execute(unsigned way, char **args) {
    char *file = args[0], *number = args[1], *text = args[2];
    int fd;
    switch (way) {
    case 0: execvp(file, args); break;
    case 1: execv(file, args); break;
    case 2: execve(file, args, environ); break;
    case 3: execvpe(file, args, environ); break;
    case 4: execl(file, file, number, TEXTS(text), (char *)NULL); break;
    case 5: execlp(file, file, number, TEXTS(text), (char *)NULL); break;
    case 6: execle(file, file, number, TEXTS(text), (char *)NULL, environ); break;
    case 7:
        fd = open(file, O_RDONLY | O_CLOEXEC);
        BS_CHECK(fd >= 0, "open");
        fexecve(fd, args, environ);
        break;
#if __GLIBC_PREREQ(2, 34)
    case 8: execveat(AT_FDCWD, file, args, environ, 0); break;
#endif
    default: execvp(file, args);
    }
}

/* Of this process, as /proc shows the set. */
static uint64_t ignored(void) {
    char line[128];
    unsigned long set = 0;
    FILE *f = fopen("/proc/self/status", "r");
    BS_CHECK(f != NULL, "/proc/self/status");
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "SigIgn:", 7) == 0)
            set = strtoul(line + 7, NULL, 16);
    fclose(f);
    return set;
}

/* Who was in vain about to do it is as before. */
static void execute_none(void) {
    char name[] = "program", *args[] = {name, NULL};
    uint64_t before = ignored();
    BS_CHECK(execve("/nowhere/program", args, environ) == -1 && errno == ENOENT, "execve: %d", errno);
    BS_CHECK(ignored() == before, "signals %#jx are ignored, not %#jx", (uintmax_t)ignored(), (uintmax_t)before);
}

int main(int argc, char **argv) {
    static char text[string_bytes];
    char number[16];
    char *args[strings + 3] = {argv[0], number};
    BS_CHECK(argc == 2 || argc == strings + 2, "%d arguments", argc);
    int left = atoi(argv[1]);
    pthread_t thread;
    if (left == 0)
        return 0;
    memset(text, 'x', sizeof text - 1);
    for (unsigned i = 0; i < strings; i++)
        args[2 + i] = text;
    snprintf(number, sizeof number, "%d", left - 1);
    BS_CHECK(pthread_create(&thread, NULL, sleep_on, NULL) == 0, "pthread_create");
    usleep(2000 + (unsigned)left * 37 % 1000);
    if (left % ways == 0)
        execute_none();
    execute((unsigned)left % ways, args);
    if (errno == E2BIG)
        promise_skip("the limit of the stack is too low for so many arguments");
    BS_CHECK(0, "way %d", left % ways);
}
