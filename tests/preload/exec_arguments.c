/* SPDX-License-Identifier: MIT */
/*
 * Promise: the functions that execute another program, which the library for scans stands in for, give it the arguments
 * and the environment that they were given; where there is no such program they say so, and may be called again.
 */
#include "promise.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/wait.h>

#define WAYS 7
static char *self;
static char *arguments[] = {(char[]){"program"}, (char[]){"a b"}, (char[]){""}, (char[]){"c"}, NULL};
static char library[2][4200];
static char *environment[] = {(char[]){"GIVEN=yes"}, library[0], library[1], NULL};

/* In the new program. */
static int judge(char **argv) {
    const char *given = getenv("GIVEN");
    for (int i = 0; i < 5; i++)
        if ((argv[i] == NULL) != (arguments[i] == NULL) || (argv[i] != NULL && strcmp(argv[i], arguments[i]) != 0))
            return 2;
    return given == NULL ? 3 : strcmp(given, "yes") == 0 ? 42 : 4;
}

static int execute(int way, const char *path) {
    switch (way) {
    case 0:
        return execve(path, arguments, environment);
    case 1:
        return execle(path, "program", "a b", "", "c", NULL, environment);
    case 2:
        return execvpe(path, arguments, environment);
    case 3:
        return fexecve(open(path, O_RDONLY), arguments, environment);
    default:
        setenv("GIVEN", "yes", 1);
        return way == 4   ? execv(path, arguments)
               : way == 5 ? execl(path, "program", "a b", "", "c", NULL)
                          : execlp(path, "program", "a b", "", "c", NULL);
    }
}

static void check(int way) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        bool right = true;
        setenv("GIVEN", "no", 1);
        for (int i = 0; i < 3; i++) {
            errno = 0;
            right &= execute(way, "/nowhere/program") == -1 && errno == (way == 3 ? EINVAL : ENOENT);
            free(malloc(100000));
        }
        setenv("GIVEN", "no", 1);
        if (right)
            (void)execute(way, self);
        _exit(1);
    }
    BS_CHECK(child > 0 && waitpid(child, &status, 0) == child, "fork");
    BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42, "way %d: status %x", way, (unsigned)status);
}

int main(int argc, char **argv) {
    if (argc > 1)
        return judge(argv);
    self = realpath("/proc/self/exe", NULL);
    BS_CHECK(self != NULL, "where am I?");
    snprintf(library[0], sizeof library[0], "PROMISE_LIB=%s", getenv("PROMISE_LIB"));
    snprintf(library[1], sizeof library[1], "LD_PRELOAD=%s", getenv("PROMISE_LIB"));
    for (int way = 0; way < WAYS; way++)
        check(way);
    return 0;
}
