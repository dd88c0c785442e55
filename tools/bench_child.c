/* SPDX-License-Identifier: MIT */
/*
 * bench_child.c -- `besom bench-child [-p LIB] FD PROGRAM [ARGUMENT...]`: the parent of one
 * measured program, which tells tools/bench/child.py on FD what only a parent can know. `besom
 * bench-child --guard PROGRAM [ARGUMENT...]` is the parent of a program that is not measured (a load, a
 * preparation), and ends as it does. `--which` prints the file whose malloc answers in this process,
 * `--obstacle LIB PROGRAM` why LIB cannot take effect in PROGRAM, or nothing.
 *
 * It is not Python because a process starts with the peak memory and the page tables of the one
 * that forked it: below a parent of 1 MiB ru_maxrss and the faults are the program's own. It
 * is the reaper of everything below it (PR_SET_CHILD_SUBREAPER), so what a program leaves behind
 * is still seen, waited for and counted. LIB is preloaded under the program and not under itself.
 *
 * Lines on FD: "started PID NS", or "failed ERRNO"; "ended STATUS NS" when the program has ended
 * (as waitpid() says it; CLOCK_MONOTONIC); "usage ..." when nothing is left below.
 *
 * When child.py dies, by SIGKILL or the OOM killer too, the kernel sends SIGTERM, and all that is below is
 * killed before this process ends. When this process is killed itself, the program is, by the kernel. No threads.
 */
#include "bench.h"
#include "preloadable.h"
#include "resolve.h"
#include "run.h"

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
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

/* --- signals: those awaited are blocked here, and as they were in the program ----------------- */

static sigset_t inherited_mask;
static struct sigaction inherited_chld;

static bool begin_parenthood(void) {
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t blocked;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGPIPE); /* who reads FD may have died */
    return sigprocmask(SIG_BLOCK, &blocked, &inherited_mask) == 0 &&
           sigaction(SIGCHLD, &by_default, &inherited_chld) == 0 && /* ignored, there is no status */
           prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) == 0 &&
           prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
}

/* In the child. */
static bool end_parenthood(void) {
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 &&
           sigaction(SIGCHLD, &inherited_chld, NULL) == 0 &&
           sigprocmask(SIG_SETMASK, &inherited_mask, NULL) == 0;
}

/* --- the end of everything below -------------------------------------------------------------- */

/* The parent of a process; 0 if it has gone. */
static pid_t parent_of(const char *pid) {
    char path[64], text[512];
    int parent = 0;

    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    const char *name_end = strrchr(text, ')'); /* the name may hold anything */
    return name_end != NULL && sscanf(name_end, ") %*c %d", &parent) == 1 ? parent : 0;
}

static void kill_children(void) {
    DIR *all = opendir("/proc");
    struct dirent *entry;

    while (all != NULL && (entry = readdir(all)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == getpid()) {
            kill(atoi(entry->d_name), SIGKILL);
        }
    }
    if (all != NULL) {
        closedir(all);
    }
}

/* Those of who is killed become children of this process, the reaper, and are killed next. What does not go, as
 * a process of another user, is left after 5 s. */
static void kill_all_below(void) {
    struct timespec tick = {.tv_nsec = 5000000};

    for (int i = 0; i < 1000; i++) {
        pid_t pid;
        kill_children();
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        }
        if (pid < 0 && errno == ECHILD) {
            return;
        }
        nanosleep(&tick, NULL);
    }
}

/* --- a measured program ------------------------------------------------------------------------ */

/* In the child. Its own process group, so that a signal for the group is for it alone. */
static void become_program(int fd, const char *library, char **argv) {
    if (setpgid(0, 0) == 0 && end_parenthood() &&
        (library == NULL || setenv("LD_PRELOAD", library, 1) == 0)) {
        execvp(argv[0], argv);
    }
    dprintf(fd, "failed %d\n", errno);
    _exit(127);
}

static int64_t microseconds(struct timeval time) {
    return (int64_t)time.tv_sec * 1000000 + time.tv_usec;
}

/* Until nothing is left below, or only the program is asked for and has ended; its status. */
static int wait_for(pid_t program, int fd) {
    int status, result = 0;
    sigset_t awaited;

    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGTERM);
    while (true) {
        pid_t pid;
        if (sigwaitinfo(&awaited, NULL) == SIGTERM) {
            kill_all_below();
            exit(BS_EXIT_LAUNCHER);
        }
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            if (pid != program) {
                continue;
            }
            result = status;
            if (fd < 0) {
                return result;
            }
            dprintf(fd, "ended %d %lld\n", status, (long long)now_ns());
        }
        if (pid < 0 && errno == ECHILD) {
            return result;
        }
    }
}

static void tell_usage(int fd) {
    struct rusage usage;

    getrusage(RUSAGE_CHILDREN, &usage);
    dprintf(fd, "usage %lld %lld %ld %ld %ld %ld %ld\n", (long long)microseconds(usage.ru_utime),
            (long long)microseconds(usage.ru_stime), usage.ru_minflt, usage.ru_majflt,
            usage.ru_nvcsw, usage.ru_nivcsw, usage.ru_maxrss);
}

static int failed_to_begin(void) {
    fprintf(stderr, "besom: bench-child: %s\n", strerror(errno));
    return BS_EXIT_LAUNCHER;
}

/* child.py has died before it could be noticed by its death. */
static bool nobody_reads(int fd) {
    struct pollfd end = {.fd = fd};

    return poll(&end, 1, 0) == 1 && (end.revents & POLLERR) != 0;
}

static int measure(int fd, const char *library, char **argv) {
    if (!begin_parenthood()) {
        return failed_to_begin();
    }
    if (nobody_reads(fd)) {
        return BS_EXIT_LAUNCHER;
    }
    int64_t begin = now_ns();
    pid_t program = fork();
    if (program < 0) {
        dprintf(fd, "failed %d\n", errno);
        return BS_EXIT_LAUNCHER;
    }
    if (program == 0) {
        become_program(fd, library, argv);
    }
    dprintf(fd, "started %d %lld\n", (int)program, (long long)begin);
    wait_for(program, fd);
    tell_usage(fd);
    return 0;
}

/* --- one that is not measured ------------------------------------------------------------------ */

static int end_as(int status) {
    if (WIFSIGNALED(status)) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(WTERMSIG(status), SIG_DFL);
        sigprocmask(SIG_SETMASK, &inherited_mask, NULL);
        raise(WTERMSIG(status));
    }
    return WEXITSTATUS(status);
}

/* What it leaves behind when it ends stays, as without a guard. */
static int guard(char **argv) {
    pid_t program = begin_parenthood() ? fork() : -1;

    if (program < 0) {
        return failed_to_begin();
    }
    if (program == 0) {
        if (end_parenthood()) {
            execvp(argv[0], argv);
        }
        _exit(127);
    }
    return end_as(wait_for(program, -1));
}

int bs_bench_child_main(int argc, char **argv) {
    const char *library = NULL;

    if (argc == 2 && strcmp(argv[1], "--which") == 0) {
        return print_which();
    }
    if (argc == 4 && strcmp(argv[1], "--obstacle") == 0) {
        return print_obstacle(argv[2], argv[3]);
    }
    if (argc > 2 && strcmp(argv[1], "--guard") == 0) {
        return guard(argv + 2);
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
    return measure(fd, library, argv + 2);
}
