/* SPDX-License-Identifier: MIT */
/*
 * bench_child.c -- `besom bench-child [-p LIB] FD PROGRAM [ARGUMENT...]`: the parent of one
 * measured program, which tells tools/bench/child.py on FD what only a parent can know. `besom
 * bench-child --which` prints the file whose malloc answers in this process, `--obstacle LIB PROGRAM` why LIB
 * cannot take effect in PROGRAM, or nothing.
 *
 * It is not Python because a process starts with the peak memory and the page tables of the one
 * that forked it: below a parent of 1 MiB ru_maxrss and the faults are the program's own. It
 * is the reaper of everything below it (PR_SET_CHILD_SUBREAPER), so what a program leaves behind
 * is still seen, waited for and counted. LIB is preloaded under the program and not under itself.
 *
 * Lines on FD: "started PID NS", or "failed ERRNO"; "ended STATUS NS" when the program has ended
 * (as waitpid() says it; CLOCK_MONOTONIC); "usage ..." when nothing is left below. When
 * child.py dies, this process and the program are killed. No threads.
 */
#include "bench.h"
#include "preloadable.h"
#include "resolve.h"
#include "run.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int print_which(void) {
    void *(*volatile entry)(size_t) = malloc;
    void *address;
    Dl_info info;

    memcpy(&address, (const void *)&entry, sizeof(address));
    if (!dladdr(address, &info) || info.dli_fname == NULL) {
        fputs("besom: bench-child: cannot tell whose malloc this is\n", stderr);
        return BS_EXIT_LAUNCHER;
    }
    puts(info.dli_fname);
    return 0;
}

static int print_obstacle(const char *library, const char *program) {
    char why[1024], *missing = NULL;
    char *path = bs_resolve_program(program);
    char *image = path != NULL ? bs_resolve_interpreter(path, &missing) : NULL;

    if (image != NULL && !bs_preloadable_check(image, library, why, sizeof(why))) {
        printf("'%s': %s\n", image, why);
    }
    free(missing);
    free(image);
    free(path);
    return 0;
}

/* In the child. Its own process group, so that a signal for the group is for it alone. */
static void become_program(int fd, const char *library, char **argv) {
    if (setpgid(0, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 &&
        (library == NULL || setenv("LD_PRELOAD", library, 1) == 0)) {
        execvp(argv[0], argv);
    }
    dprintf(fd, "failed %d\n", errno);
    _exit(127);
}

static int64_t microseconds(struct timeval time) {
    return (int64_t)time.tv_sec * 1000000 + time.tv_usec;
}

/* Until nothing is left below; says when the program itself has ended. */
static void wait_for_all(int fd, pid_t program) {
    struct rusage usage;
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, 0)) > 0 || errno == EINTR) {
        if (pid == program) {
            dprintf(fd, "ended %d %lld\n", status, (long long)now_ns());
        }
    }
    getrusage(RUSAGE_CHILDREN, &usage);
    dprintf(fd, "usage %lld %lld %ld %ld %ld %ld %ld\n", (long long)microseconds(usage.ru_utime),
            (long long)microseconds(usage.ru_stime), usage.ru_minflt, usage.ru_majflt,
            usage.ru_nvcsw, usage.ru_nivcsw, usage.ru_maxrss);
}

int bs_bench_child_main(int argc, char **argv) {
    const char *library = NULL;

    if (argc == 2 && strcmp(argv[1], "--which") == 0) {
        return print_which();
    }
    if (argc == 4 && strcmp(argv[1], "--obstacle") == 0) {
        return print_obstacle(argv[2], argv[3]);
    }
    if (argc > 2 && strcmp(argv[1], "-p") == 0) {
        library = argv[2];
        argc -= 2;
        argv += 2;
    }
    int fd = argc > 2 ? atoi(argv[1]) : -1;
    if (fd <= 2 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        fputs("besom: bench-child is for besom bench only\n", stderr);
        return BS_EXIT_LAUNCHER;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
        fprintf(stderr, "besom: bench-child: %s\n", strerror(errno));
        return BS_EXIT_LAUNCHER;
    }
    int64_t begin = now_ns();
    pid_t program = fork();
    if (program < 0) {
        dprintf(fd, "failed %d\n", errno);
        return BS_EXIT_LAUNCHER;
    }
    if (program == 0) {
        become_program(fd, library, argv + 2);
    }
    dprintf(fd, "started %d %lld\n", (int)program, (long long)begin);
    wait_for_all(fd, program);
    return 0;
}
