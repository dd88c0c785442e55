/* SPDX-License-Identifier: MIT */
/*
 * os_thread.c - the helper thread, its descriptors, the threads of a copy, and the abort: parts of os.h.
 *
 * Why not pthread_create: it is called from inside malloc, where libc may hold the locks that
 * pthread_create takes; it makes a program whose main thread has called pthread_exit wait for
 * ours for ever; and it switches off libc's single-thread shortcuts in programs that have one
 * thread. The price: the helper has no libc thread block. It gets a zeroed one that is big enough
 * for stray reads, and a stack, both in one mapping that is made once and used again after the
 * kernel has said (CLONE_CHILD_CLEARTID) that the previous helper is gone. A page behind them, which the kernel
 * empties in every copy of the process (MADV_WIPEONFORK, Linux 4.14), tells a copy that there is no helper in it.
 *
 * Under ThreadSanitizer the helper is a pthread, because the sanitizer must know every thread.
 */
#define _GNU_SOURCE
#include "os.h"

#include "counter.h"
#include "out.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#if BS_SANITIZED
#include <pthread.h>
#endif

/* Bytes: the deepest call chain (report to the log) uses about 12 KiB. */
#define STACK_BYTES (64 * BS_KIB)
/* Below the thread pointer lie thread-local variables, on aarch64 above it: none is used by the helper, but
 * debug builds keep the lock checker's there. Untouched pages cost nothing. */
#define TLS_BYTES (64 * BS_KIB)
#define TCB_BYTES (4 * BS_KIB)
#define HELPER_BYTES (STACK_BYTES + TLS_BYTES + TCB_BYTES)
#if defined(__x86_64__)
#define TCB_OFFSET (STACK_BYTES + TLS_BYTES)
#else
#define TCB_OFFSET (STACK_BYTES + TCB_BYTES)
#endif

static void set_all_signals(uint64_t mask, uint64_t *old) {
    (void)bs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, old, sizeof mask);
}

uint64_t bs_os_signals_hold(void) {
    const uint64_t faults = bs_signal_bit(SIGSEGV) | bs_signal_bit(SIGBUS) | bs_signal_bit(SIGILL) |
                            bs_signal_bit(SIGFPE) | bs_signal_bit(SIGTRAP) | bs_signal_bit(SIGSYS);
    const uint64_t others = ~faults;
    uint64_t before = 0;
    (void)bs_sys4(SYS_rt_sigprocmask, SIG_BLOCK, &others, &before, sizeof before);
    return before;
}
void bs_os_signals_let(uint64_t before) {
    set_all_signals(before, NULL);
}

/* The kernel sends both signals to the writing thread. What came is taken back, unless the program
 * had one waiting already: signals do not queue, so that one stands for both. */
long bs_os_write_quietly(int fd, const void *buf, size_t bytes) {
    const uint64_t both = bs_signal_bit(SIGPIPE) | bs_signal_bit(SIGXFSZ);
    const struct timespec at_once = {0, 0};
    uint64_t old, before = 0;
    (void)bs_sys4(SYS_rt_sigprocmask, SIG_BLOCK, &both, &old, sizeof both);
    (void)bs_sys2(SYS_rt_sigpending, &before, sizeof before);
    long ret = bs_os_write(fd, buf, bytes);
    uint64_t sent = ret == -EPIPE ? bs_signal_bit(SIGPIPE) : ret == -EFBIG ? bs_signal_bit(SIGXFSZ) : 0;
    if ((sent & ~before) != 0)
        (void)bs_sys4(SYS_rt_sigtimedwait, &sent, NULL, &at_once, sizeof sent);
    set_all_signals(old, NULL);
    return ret;
}

/* --- descriptors ------------------------------------------------------------------------------ */

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#define UNSHARE_FIRST 2 /* CLOSE_RANGE_UNSHARE */
#define STDERR_FD 2

static int separate_tid; /* [atomic] the helper that has a table of its own, or 0 */

void bs_os_helper_own_descriptors(void) {
#if !BS_SANITIZED /* its helper is libc's, and writes for itself */
    if (bs_sys3(SYS_close_range, 0, UINT32_MAX, UNSHARE_FIRST) == 0)
        bs_store(&separate_tid, bs_os_tid());
#endif
}

/* False also where that is not known: a filter may kill for a call that is rare. */
static bool nothing_is_filtered(void) {
    char status[2048];
    return bs_os_read_text("/proc/thread-self/status", status, sizeof status) > 0 &&
           strstr(status, "\nSeccomp:\t0\n") != NULL;
}

/* The calling thread's are not the program's. */
static bool has_own_descriptors(void) {
    int tid = bs_load(&separate_tid);
    return tid != 0 && tid == bs_os_tid();
}

/* Of what the kernel knows itself: fstat would ask a server of files, which may be a thread of this program. */
bool bs_os_may_be_anonymous(int fd) {
    struct statx st;
    long ret = bs_sys6(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st, 0);
    return ret != 0 || (st.stx_mode & S_IFMT) == 0;
}

static bool is_file(int fd) {
    struct stat st;
    return bs_sys2(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* The program's own, with its place in a file. */
static int take_stderr(void) {
    long process = bs_sys2(SYS_pidfd_open, bs_os_pid(), 0);
    if (process < 0)
        return (int)process;
    long fd = bs_sys3(SYS_pidfd_getfd, process, STDERR_FD, 0);
    bs_os_close((int)process);
    return (int)fd;
}

/* Nobody waits for a reader of a pipe: without one it is refused. */
static int open_stderr(const char *name) {
    long fd = bs_sys4(SYS_openat, AT_FDCWD, name,
                      O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    if (fd >= 0)
        (void)bs_sys3(SYS_fcntl, fd, F_SETFL, O_APPEND);
    return (int)fd;
}

static void visit_stderr(void *ctx, int tid) {
    struct bs_out out;
    char path[48];
    int *fd = ctx;
    if (*fd >= 0 || tid == bs_os_tid())
        return;
    bs_out_init(&out, path, sizeof path);
    bs_out_printf(&out, "/proc/self/task/%d/fd/2", tid);
    *fd = open_stderr(bs_out_text(&out));
}

/* The first thread's, which is the program's. A socket cannot be opened by its name, nor can what belongs to
 * others; and in a file that is opened anew the program writes over the line, since its own place in it stays.
 * To get its descriptor takes calls that programs with a seccomp filter may be killed for, so with a filter that
 * is done only when there is nothing to lose. Where the first thread has ended it has none: any other's. */
static int find_stderr(bool last) {
    int opened = open_stderr("/proc/self/fd/2");
    if (opened >= 0 && !is_file(opened))
        return opened;
    int taken = last || nothing_is_filtered() ? take_stderr() : -1;
    if (taken < 0) {
        if (opened == -ENOENT)
            (void)bs_os_tasks(visit_stderr, &opened);
        return opened;
    }
    if (opened >= 0)
        bs_os_close(opened);
    return taken;
}

void bs_os_write_stderr(const void *buf, size_t bytes, bool last) {
    if (!has_own_descriptors()) {
        (void)bs_os_write_quietly(STDERR_FD, buf, bytes);
        return;
    }
    int fd = find_stderr(last);
    if (fd < 0)
        return;
    (void)bs_os_write_quietly(fd, buf, bytes);
    bs_os_close(fd);
}

/* --- the end ---------------------------------------------------------------------------------- */

_Noreturn void bs_os_abort(void) {
    const uint64_t all_but_abort = ~bs_signal_bit(SIGABRT);
    set_all_signals(all_but_abort, NULL);
    (void)bs_sys3(SYS_tgkill, bs_os_pid(), bs_os_tid(), SIGABRT);
    /* Blocked handlers and handlers that return end here. */
    struct bs_kernel_sigaction dfl = {0};
    (void)bs_sys4(SYS_rt_sigaction, SIGABRT, &dfl, NULL, sizeof dfl.mask);
    (void)bs_sys3(SYS_tgkill, bs_os_pid(), bs_os_tid(), SIGABRT);
    for (;;)
        (void)bs_sys1(SYS_exit_group, 127);
}

/* --- the helper ------------------------------------------------------------------------------- */

static struct {
    char *base;   /* [init by the first starter, which holds `starting`] stack, TLS, TCB, the page with */
    uint32_t *there; /* [the same; its word atomic] 1, and 0 in a copy; NULL: the kernel empties no pages */
    int tid_word; /* [kernel writes and clears it] the helper's thread id while one exists */
    uint32_t starting; /* [atomic] 1 while one thread is in bs_os_helper_start */
} helper;

#if BS_SANITIZED

struct helper_call {
    void (*fn)(void *);
    void *arg;
};
static void *pthread_entry(void *call) {
    struct helper_call c = *(struct helper_call *)call;
    bs_store(&helper.tid_word, bs_os_tid());
    c.fn(c.arg);
    bs_store_release(&helper.tid_word, 0);
    return NULL;
}
static int start_thread(void (*fn)(void *), void *arg) {
    static struct helper_call call;
    call = (struct helper_call){fn, arg};
    pthread_t thread;
    bs_store(&helper.tid_word, 1);
#if BS_SANITIZE_THREAD
    bool may = bs_os_signal_may_come(false);
#endif
    int err = pthread_create(&thread, NULL, pthread_entry, &call);
#if BS_SANITIZE_THREAD
    (void)bs_os_signal_may_come(may);
#endif
    if (err != 0)
        bs_store(&helper.tid_word, 0);
    else
        pthread_detach(thread);
    return err;
}

#else

#define CLONE_FLAGS                                                                        \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |    \
     CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

/* The child takes fn and arg from its stack, calls, and leaves by exit(2): no frame to return to. */
static long clone_thread(void **sp, void *tcb, int *tid, void (*fn)(void *), void *arg) {
    *--sp = arg;
    *--sp = (void *)fn;
#if defined(__x86_64__)
    long ret;
    register long r10 __asm__("r10") = (long)tid;
    register long r8 __asm__("r8") = (long)tcb;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "pop %%rax\n\t"
                     "pop %%rdi\n\t"
                     "call *%%rax\n\t"
                     "mov %[exit], %%eax\n\t"
                     "xor %%edi, %%edi\n\t"
                     "syscall\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(ret)
                     : "0"((long)SYS_clone), "D"((long)CLONE_FLAGS), "S"(sp),
                       "d"(tid), "r"(r10), "r"(r8), [exit] "i"(SYS_exit)
                     : "rcx", "r11", "memory");
    return ret;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = CLONE_FLAGS;
    register long x1 __asm__("x1") = (long)sp;
    register long x2 __asm__("x2") = (long)tid;
    register long x3 __asm__("x3") = (long)tcb;
    register long x4 __asm__("x4") = (long)tid;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "ldp x1, x0, [sp], #16\n\t"
                     "blr x1\n\t"
                     "mov x8, %[exit]\n\t"
                     "mov x0, xzr\n\t"
                     "svc 0\n\t"
                     "brk 1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [exit] "i"(SYS_exit)
                     : "x30", "memory");
    return x0;
#endif
}

static long start_on(char *memory, int *tid, void (*fn)(void *), void *arg) {
    void **tcb = (void *)(memory + TCB_OFFSET);
#if defined(__x86_64__)
    tcb[0] = tcb; /* %fs:0 is the block's own address, and so is %fs:16 */
    tcb[2] = tcb;
#endif
    uint64_t old;
    set_all_signals(~(uint64_t)0, &old);
    long ret = clone_thread((void *)(memory + STACK_BYTES), tcb, tid, fn, arg);
    set_all_signals(old, NULL);
    return ret;
}

static size_t before_mark(void) {
    return bs_align_up(HELPER_BYTES, bs_os_page_size());
}

static bool make_memory(void) {
    size_t os_page = bs_os_page_size(), bytes = before_mark() + os_page;
    char *base = bs_os_alloc(bytes), *mark = base + before_mark();
    if (base == NULL)
        return false;
    bs_os_name(base, bytes, "besom helper");
    bs_store(&helper.base, base);
#if BS_FAULTS
    bool empties = bs_os_fault_due() == 0 && bs_sys3(SYS_madvise, mark, os_page, MADV_WIPEONFORK) == 0;
#else
    bool empties = bs_sys3(SYS_madvise, mark, os_page, MADV_WIPEONFORK) == 0;
#endif
    if (empties)
        bs_store(&helper.there, (uint32_t *)(void *)mark);
    return true;
}

static int start_thread(void (*fn)(void *), void *arg) {
    if (helper.base == NULL && !make_memory())
        return ENOMEM;
    if (helper.there != NULL)
        bs_store(helper.there, 1u);
#if BS_FAULTS
    int injected = bs_os_fault_due();
    if (injected != 0)
        return injected;
#endif
    long ret = start_on(helper.base, &helper.tid_word, fn, arg);
    return ret < 0 ? (int)-ret : 0;
}

#endif

int bs_os_helper_start(void (*fn)(void *), void *arg) {
    if (__atomic_exchange_n(&helper.starting, 1, __ATOMIC_ACQUIRE) != 0)
        return EBUSY;
    int err = EBUSY;
    /* acquire: pairs with the kernel's store at the helper's end, after its last use of the stack */
    if (bs_load_acquire(&helper.tid_word) == 0) {
        bs_store(&separate_tid, 0); /* numbers of threads come again */
        err = start_thread(fn, arg);
    }
    bs_store_release(&helper.starting, 0);
    if (err != 0 && err != EBUSY)
        bs_count(os_failures, 1);
    return err;
}

int bs_os_helper_tid(void) {
    return bs_load_acquire(&helper.tid_word); /* 0: all that it did is seen */
}

bool bs_os_is_helper(void) {
    uintptr_t base = (uintptr_t)bs_load(&helper.base);
    return base != 0 && bs_os_thread_pointer() - base < HELPER_BYTES;
}

struct bs_range bs_os_helper_memory(void) {
    uintptr_t base = (uintptr_t)bs_load(&helper.base); /* another thread may make it at this moment */
    size_t bytes = bs_align_up(HELPER_BYTES, bs_os_page_size()) + bs_os_page_size();
    return (struct bs_range){base, base != 0 ? base + bytes : 0};
}

bool bs_os_helper_is_lost(void) {
    const uint32_t *there = bs_load(&helper.there);
    return there != NULL && bs_load(there) == 0 && bs_load(&helper.tid_word) != 0;
}

void bs_os_helper_forget(void) {
    if (bs_load(&separate_tid) != 0) /* else it is on no page of the child's own */
        bs_store(&separate_tid, 0);
    bs_store(&helper.tid_word, 0);
    bs_store(&helper.starting, 0);
}

/* --- threads of a copy ------------------------------------------------------------------------ */

size_t bs_os_searcher_bytes(void) {
    return HELPER_BYTES;
}

int bs_os_searcher_start(void *memory, int *tid, void (*fn)(void *), void *arg) {
#if BS_SANITIZED
    (void)memory, (void)tid, (void)fn, (void)arg;
    return ENOSYS; /* it would have to be libc's, which a copy must not use */
#else
#if BS_FAULTS
    int injected = bs_os_fault_due();
    if (injected != 0)
        return injected;
#endif
    long ret = start_on(memory, tid, fn, arg);
    return ret < 0 ? (int)-ret : 0;
#endif
}

void bs_os_searcher_join(int *tid) {
    for (int now; (now = bs_load_acquire(tid)) != 0;) /* the kernel's wake-up is no private one */
        (void)bs_sys4(SYS_futex, tid, FUTEX_WAIT, now, NULL);
}
