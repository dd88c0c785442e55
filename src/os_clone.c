/* SPDX-License-Identifier: MIT */
/*
 * os_clone.c - a copy of the process that nobody but besom knows of: os.h on clone(2), wait4(2).
 *
 * Without an exit signal the copy makes no SIGCHLD, and wait and waitpid do not see it (__WCLONE and
 * __WALL do). The kernel does not tell a tracer of it, and the copy gives up at once what others could
 * notice that it has: descriptors, the right to a core file, its place before others at the OOM killer.
 * And one question about processes that the program has made.
 */
#define _GNU_SOURCE
#include "os.h"

#include "counter.h"
#include "syscall.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sys/utsname.h>

#define NICE 19

void *bs_os_alloc_shared(size_t bytes) {
    long ret = bs_sys6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
#if BS_FAULTS
    int injected = bs_os_fault_due();
    if (injected != 0 && ret >= 0) {
        (void)bs_sys2(SYS_munmap, ret, bytes);
        ret = -injected;
    }
#endif
    if (ret < 0)
        bs_count(os_failures, 1);
    return ret < 0 ? NULL : (void *)ret;
}

/* After unshare(CLONE_NEWPID) the next child is the first process of a namespace that ends with it. */
static bool children_are_elsewhere(void) {
    char own[64], theirs[64];
    return bs_os_read_link("/proc/self/ns/pid", own, sizeof own) > 0 &&
           bs_os_read_link("/proc/self/ns/pid_for_children", theirs, sizeof theirs) > 0 &&
           strcmp(own, theirs) != 0;
}

static void close_all(void) {
    enum { ENOUGH = 65536 };
    struct rlimit limit = {ENOUGH, ENOUGH};
    if (bs_sys3(SYS_close_range, 0, UINT32_MAX, 0) == 0)
        return;
    (void)bs_sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
    for (unsigned fd = 0; fd < ENOUGH && fd < limit.rlim_cur; fd++)
        (void)bs_sys1(SYS_close, fd);
}

/* Who writes here can be spared most easily. */
static void be_killed_first(void) {
    int fd = (int)bs_sys4(SYS_openat, -100, "/proc/self/oom_score_adj", 1 /* O_WRONLY */, 0);
    if (fd < 0)
        return;
    (void)bs_sys3(SYS_write, fd, "1000", 4);
    (void)bs_sys1(SYS_close, fd);
}

/* With a limit of 1 a core is not even given to a program that the system names for them. */
static void make_no_core(void) {
    struct rlimit limit;
    if (bs_sys4(SYS_prlimit64, 0, RLIMIT_CORE, NULL, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max != 0 ? 1 : 0;
    (void)bs_sys4(SYS_prlimit64, 0, RLIMIT_CORE, &limit, NULL);
}

static void become_unseen(int parent) {
    const struct bs_kernel_sigaction dfl = {0};
    (void)bs_sys2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    if (bs_sys0(SYS_getppid) != parent) /* it ended before */
        (void)bs_sys1(SYS_exit_group, 1);
    close_all();
    (void)bs_sys2(SYS_prctl, PR_SET_NAME, "besom scan");
    make_no_core();
    (void)bs_sys4(SYS_rt_sigaction, SIGABRT, &dfl, NULL, sizeof dfl.mask);
    be_killed_first();
}

void bs_os_clone_give_way(void) {
    (void)bs_sys3(SYS_setpriority, PRIO_PROCESS, 0, NICE);
}

int bs_os_clone(void (*fn)(void *), void *arg) {
    const uint64_t all = ~(uint64_t)0;
    uint64_t old;
    int parent = bs_os_pid();
#if BS_FAULTS
    int injected = bs_os_fault_due();
    if (injected != 0)
        return -injected;
#endif
    if (children_are_elsewhere())
        return -EXDEV;
    /* who may not wait (seccomp) would leave a dead child */
    long waits = bs_sys4(SYS_wait4, parent, NULL, WNOHANG | (long)(int)__WCLONE, NULL);
    if (waits != -ECHILD)
        return waits < 0 ? (int)waits : -ECHILD;
    (void)bs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof all);
    long pid = bs_sys5(SYS_clone, CLONE_UNTRACED, 0, 0, 0, 0);
    if (pid == 0) {
        become_unseen(parent);
        fn(arg);
        for (;;)
            (void)bs_sys1(SYS_exit_group, 0);
    }
    (void)bs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof old);
    if (pid < 0)
        bs_count(os_failures, 1);
    return (int)pid;
}

/* "6.18.0-..." */
static bool copies_pinned_pages(void) {
    static uint32_t known; /* [atomic] 1: it does, 2: it does not */
    struct utsname name;
    if (bs_load(&known) == 0 && bs_sys1(SYS_uname, &name) == 0) {
        unsigned version[2] = {0, 0}, n = 0;
        for (const char *s = name.release; n < 2 && ((*s >= '0' && *s <= '9') || *s == '.'); s++)
            if (*s == '.')
                n++;
            else
                version[n] = version[n] * 10 + (unsigned)(*s - '0');
        bs_store(&known, version[0] > 5 || (version[0] == 5 && version[1] >= 12) ? 1u : 2u);
    }
    return bs_load(&known) == 1;
}

int bs_os_clone_has(uintptr_t start, uintptr_t end, bool has) {
    if (!copies_pinned_pages())
        return ENOSYS;
    return (int)-bs_sys3(SYS_madvise, start, end - start, has ? MADV_DOFORK : MADV_DONTFORK);
}

int bs_os_clone_ended(int pid, int *status) {
    *status = 0;
    long ret = bs_sys4(SYS_wait4, pid, status, WNOHANG | (long)(int)__WCLONE, NULL);
    return ret == pid ? 1 : (int)ret;
}

int bs_os_clone_kill(int pid) {
    int status;
    long ret;
    ret = bs_os_clone_ended(pid, &status);
    if (ret == 1 || ret == -ECHILD) /* else the number is its own still, also where one may not ask */
        return status;
    (void)bs_sys2(SYS_kill, pid, SIGKILL);
    do
        ret = bs_sys4(SYS_wait4, pid, &status, (long)(int)__WCLONE, NULL);
    while (ret == -EINTR);
    return status;
}

/* --- others ----------------------------------------------------------------------------------- */

bool bs_os_shares_memory(int pid) {
    const int virtual_memory = 1; /* KCMP_VM */
    long order = bs_sys5(SYS_kcmp, bs_os_pid(), pid, virtual_memory, 0, 0);
    return order == 0 || (order < 0 && order != -ESRCH && bs_os_process_alive(pid));
}
