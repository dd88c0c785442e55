/* SPDX-License-Identifier: MIT */
/*
 * shim_exec.c - a program that executes another one is not in the middle of a stop. See shim.h.
 *
 * A signal that waits outlives execve, and the new program, which has no handler for it, would be ended by the one
 * that was to stop the old: when the thread is on its way into the kernel, and the helper, which could take it
 * back, is ended there. So who executes is in a round (round.h) while it does. It waits for that for a second
 * at most, and not for a round of its own thread, which it has interrupted as a handler: who stops others is
 * sent no signal; nor, in a program of one thread, for one of the helper's that waits for a lock which the
 * thread has. (Nor for its own exec's: tests/preload/exec_in_handler.) Who has waited in vain has the signal ignored
 * meanwhile. The new program inherits that, which is why it is not done always.
 *
 * A vfork child has its parent's memory, but nobody stops it: then nothing is done. libc's own ways (posix_spawn, system,
 * popen) make such children. The functions with a list of arguments end in those with a table, as libc's do.
 */
#define _GNU_SOURCE
#include "os.h"
#include "round.h"
#include "shim_real.h"
#include "thread.h"

#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATIENCE_NS UINT64_C(1000000000)

enum protection { NONE, ROUND, SIGNAL_FORGONE };

/* It is alone where only the helper is there besides: of several threads another one may have what that waits for.
 * (A handler may have interrupted one that has begun, and executes as well: then the round is this thread's.) */
static enum protection begin(void) {
    int signal = bs_load(&besom_shim.signal);
    if (signal == 0 || !bs_thread_are_ours())
        return NONE;
    if (bs_round_enter_until(bs_os_now_ns() + PATIENCE_NS, bs_thread_is_alone()))
        return ROUND;
    if (bs_round_is_own())
        return NONE;
    bs_os_signal_forgo(signal);
    return SIGNAL_FORGONE;
}
/* It has failed, and errno says why: calls of ours leave that alone. */
static int end(enum protection by, int ret) {
    if (by == ROUND)
        bs_round_leave();
    else if (by == SIGNAL_FORGONE)
        bs_os_signal_recall();
    return ret;
}
#define PROTECTED(call)               \
    ({                                \
        enum protection by = begin(); \
        end(by, call);                \
    })

BS_EXPORT int execve(const char *path, char *const argv[], char *const env[]) {
    return PROTECTED(REAL(execve)(path, argv, env));
}
BS_EXPORT int execv(const char *path, char *const argv[]) {
    return execve(path, argv, environ);
}
BS_EXPORT int execvpe(const char *file, char *const argv[], char *const env[]) {
    return PROTECTED(REAL(execvpe)(file, argv, env));
}
BS_EXPORT int execvp(const char *file, char *const argv[]) {
    return execvpe(file, argv, environ);
}
BS_EXPORT int fexecve(int fd, char *const argv[], char *const env[]) {
    return PROTECTED(REAL(fexecve)(fd, argv, env));
}
/* libc's, which older ones do not have, is the system call alone. */
BS_EXPORT int execveat(int fd, const char *path, char *const argv[], char *const env[], int flags) {
    return PROTECTED((int)syscall(SYS_execveat, fd, path, argv, env, flags));
}

/* The arguments up to NULL, in a table on the caller's stack; what follows them stands in *rest. */
static size_t count(va_list args) {
    size_t n = 1;
    while (va_arg(args, char *) != NULL)
        n++;
    return n;
}
#define TABLE(argv, first, args)                                            \
    va_list args;                                                           \
    va_start(args, first);                                                  \
    char **argv = __builtin_alloca((count(args) + 1) * sizeof *argv);       \
    va_end(args);                                                           \
    va_start(args, first);                                                  \
    argv[0] = (char *)(uintptr_t)(first);                                   \
    for (size_t i_ = 0; argv[i_] != NULL; argv[++i_] = va_arg(args, char *))

BS_EXPORT int execl(const char *path, const char *first, ...) {
    TABLE(argv, first, args);
    va_end(args);
    return execve(path, argv, environ);
}
BS_EXPORT int execlp(const char *file, const char *first, ...) {
    TABLE(argv, first, args);
    va_end(args);
    return execvpe(file, argv, environ);
}
BS_EXPORT int execle(const char *path, const char *first, ...) {
    TABLE(argv, first, args);
    char *const *env = va_arg(args, char *const *);
    va_end(args);
    return execve(path, argv, env);
}
