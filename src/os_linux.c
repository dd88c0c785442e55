/* SPDX-License-Identifier: MIT */
/*
 * os_linux.c - os.h on Linux: memory, files, waiting; what is longer has an os_*.c file of its own.
 *
 * It decides nothing: no policy, no retry beyond what the call's contract needs. Under a sanitizer
 * the memory calls go through libc, so that the sanitizer learns of them.
 */
#define _GNU_SOURCE
#include "os.h"

#include "counter.h"
#include "opt.h"
#include "out.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* --- fault injection -------------------------------------------------------------------------- */

#if BS_FAULTS
static struct {
    unsigned calls, fail_at;
    int error;
    bool lasting;
} faults;

unsigned bs_os_fail(unsigned n, int error, bool lasting) {
    unsigned seen = bs_load(&faults.calls);
    bs_store(&faults.calls, 0u);
    bs_store(&faults.fail_at, n);
    faults.error = error;
    faults.lasting = lasting;
    return seen;
}
int bs_os_fault_due(void) {
    unsigned call = bs_add(&faults.calls, 1u) + 1, at = bs_load(&faults.fail_at);
    bool due = at != 0 && (call == at || (faults.lasting && call > at));
    return due ? faults.error : 0;
}

struct bs_os_call_faults *bs_os_call_faults; /* [atomic] */

BS_UNCHECKED long bs_os_syscall(long n, long a, long b, long c, long d, long e, long f) {
    struct bs_os_call_faults *calls = bs_load(&bs_os_call_faults);
    if (calls != NULL && (size_t)n < BS_ARRAY_LEN(calls->made)) {
        unsigned call = bs_add(&calls->made[n], 1u) + 1;
        if (n == calls->number && (call == calls->at || (calls->lasting && call > calls->at)))
            return -(long)calls->error;
    }
    return bs_syscall(n, a, b, c, d, e, f);
}
#else
static inline int bs_os_fault_due(void) {
    return 0;
}
#endif

/* Every call that may fail in the field passes here: counts failures, injects them in tests. */
static long checked(long ret) {
    if (BS_UNLIKELY(ret < 0))
        bs_count(os_failures, 1);
    return ret;
}
#define GUARDED(call)                                 \
    ({                                                \
        int injected = bs_os_fault_due();             \
        checked(injected != 0 ? -injected : (call));  \
    })

/* --- memory ----------------------------------------------------------------------------------- */

#if BS_SANITIZED
#if BS_SANITIZE_THREAD
#define UNASKED(call)                               \
    do {                                            \
        bool may = bs_os_signal_may_come(false);    \
        call;                                       \
        (void)bs_os_signal_may_come(may);           \
    } while (0)
#else
#define UNASKED(call) call
#endif
static long sys_mmap(uintptr_t addr, size_t bytes, int prot, int flags) {
    void *p;
    UNASKED(p = mmap((void *)addr, bytes, prot, flags, -1, 0));
    return p == MAP_FAILED ? -errno : (long)p;
}
static long sys_munmap(void *addr, size_t bytes) {
    int ret;
    UNASKED(ret = munmap(addr, bytes));
    return ret != 0 ? -errno : 0;
}
#else
static long sys_mmap(uintptr_t addr, size_t bytes, int prot, int flags) {
    return bs_sys6(SYS_mmap, addr, bytes, prot, flags, -1, 0);
}
static long sys_munmap(void *addr, size_t bytes) {
    return bs_sys2(SYS_munmap, addr, bytes);
}
#endif

#define PRIVATE_ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static void *pointer_or_null(long ret) {
    return ret < 0 ? NULL : (void *)ret;
}

static size_t page_size; /* [atomic] every thread computes the same value: relaxed is enough */

size_t bs_os_page_size(void) {
    size_t bytes = bs_load(&page_size);
    if (BS_UNLIKELY(bytes == 0)) {
        bytes = getauxval(AT_PAGESZ);
        bs_store(&page_size, bytes);
    }
    return bytes;
}

#if BS_FAULTS
void bs_os_page_size_is(size_t bytes) {
    bs_store(&page_size, bytes);
}
#endif

/* Not MAP_NORESERVE: what becomes writable is to be accounted, so that a size beyond all memory is
 * refused at once, as glibc's malloc refuses it, and so that a renewed mapping has the flags of its
 * neighbours. Inaccessible pages are charged to nobody either way. */
void *bs_os_reserve(uintptr_t hint, size_t bytes, size_t align) {
    if (bytes > SIZE_MAX - align)
        return NULL;
    char *p = pointer_or_null(GUARDED(sys_mmap(hint, bytes, PROT_NONE, PRIVATE_ANON)));
    if (p == NULL || ((uintptr_t)p & (align - 1)) == 0)
        return p;
    /* The hint was taken: reserve with room to align, and give both ends back. */
    bs_os_free(p, bytes);
    p = pointer_or_null(GUARDED(sys_mmap(0, bytes + align, PROT_NONE, PRIVATE_ANON)));
    if (p == NULL)
        return NULL;
    char *start = (char *)bs_align_up((uintptr_t)p, align);
    if (start > p)
        bs_os_free(p, (size_t)(start - p));
    if (start < p + align)
        bs_os_free(start + bytes, (size_t)(p + align - start));
    return start;
}

void *bs_os_alloc(size_t bytes) {
    return pointer_or_null(GUARDED(sys_mmap(0, bytes, PROT_READ | PROT_WRITE, PRIVATE_ANON)));
}

void *bs_os_alloc_readonly(size_t bytes) {
    return pointer_or_null(GUARDED(sys_mmap(0, bytes, PROT_READ, PRIVATE_ANON)));
}

int bs_os_writable(void *addr, size_t bytes) {
    return (int)-GUARDED(bs_sys3(SYS_mprotect, addr, bytes, PROT_READ | PROT_WRITE));
}

int bs_os_forbid(void *addr, size_t bytes) {
    return (int)-GUARDED(bs_sys3(SYS_mprotect, addr, bytes, PROT_NONE));
}

int bs_os_allow(void *addr, size_t bytes, int rights) {
    return (int)-GUARDED(bs_sys3(SYS_mprotect, addr, bytes, rights));
}

/* In one of the two: what becomes writable is charged to the process from then on. */
int bs_os_map(void *addr, size_t bytes) {
    return bs_opt.decommit == BS_DECOMMIT_HARD ? 0 : bs_os_writable(addr, bytes);
}

/* What shares its OS pages is opened as well: it is closed, or open already. */
int bs_os_used(void *addr, size_t bytes) {
    uintptr_t first = bs_align_down((uintptr_t)addr, bs_os_page_size());
    uintptr_t end = bs_align_up((uintptr_t)addr + bytes, bs_os_page_size());
    return bs_opt.decommit == BS_DECOMMIT_HARD ? bs_os_writable((void *)first, end - first) : 0;
}

int bs_os_unused(void *addr, size_t bytes) {
    /* the kernel would round outward over live data */
    BS_CHECK((((uintptr_t)addr | bytes) & (bs_os_page_size() - 1)) == 0);
    static bool lazy_refused; /* for good: before Linux 4.5, and by some emulators */
    if (BS_UNLIKELY(bs_opt.advice == BS_ADVICE_FREE) && !bs_load(&lazy_refused)) {
        if (GUARDED(bs_sys3(SYS_madvise, addr, bytes, MADV_FREE)) == 0)
            return 0;
        bs_store(&lazy_refused, true);
    }
    return bs_os_zero(addr, bytes);
}

int bs_os_zero(void *addr, size_t bytes) {
    return (int)-GUARDED(bs_sys3(SYS_madvise, addr, bytes, MADV_DONTNEED));
}

/* A new mapping in its place: mprotect would leave the charge, since the pages were written to. */
int bs_os_decommit(void *addr, size_t bytes) {
    BS_CHECK((((uintptr_t)addr | bytes) & (bs_os_page_size() - 1)) == 0);
    const int flags = PRIVATE_ANON | MAP_FIXED;
    long ret = GUARDED(sys_mmap((uintptr_t)addr, bytes, PROT_NONE, flags));
    return ret < 0 ? (int)-ret : 0;
}

void bs_os_free(void *addr, size_t bytes) {
    /* Too many mappings, if it would cut one in two: then memory goes back at least, and with it old words, which
     * a scan would take for the program's. */
    if (GUARDED(sys_munmap(addr, bytes)) < 0)
        (void)bs_sys3(SYS_madvise, addr, bytes, MADV_DONTNEED);
}

int bs_os_move(void *from, void *to, size_t bytes) {
    const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    int injected = bs_os_fault_due();
    if (injected == EFAULT) /* of two mappings the first was moved by then */
        (void)bs_sys5(SYS_mremap, from, bytes / 2, bytes / 2, flags, to);
    long ret = checked(injected != 0 ? -injected : bs_sys5(SYS_mremap, from, bytes, bytes, flags, to));
    if (BS_UNLIKELY(ret < 0))
        bs_os_move_back(from, to, bytes);
    return ret < 0 ? (int)-ret : 0;
}

int bs_os_renew(void *addr, size_t bytes) {
    BS_CHECK((((uintptr_t)addr | bytes) & (bs_os_page_size() - 1)) == 0); /* as in bs_os_unused */
    const int prot = PROT_READ | PROT_WRITE;
    /* with the flags of bs_os_reserve: mappings of other flags never merge */
    const int flags = PRIVATE_ANON | MAP_FIXED;
    int injected = bs_os_fault_due();
    if (injected == ENOMEM) /* a kernel that has too little to commit has unmapped what was there by then */
        (void)sys_munmap(addr, bytes);
    long ret = checked(injected != 0 ? -injected : sys_mmap((uintptr_t)addr, bytes, prot, flags));
    return ret < 0 ? (int)-ret : 0;
}

int bs_os_residency(const void *addr, size_t bytes, unsigned char *vec) {
    return (int)-GUARDED(bs_sys3(SYS_mincore, addr, bytes, vec));
}

/* The kernel copies the set before it looks at what is to be done with it, and that is nothing it
 * knows: EFAULT or EINVAL. No system call is allowed in more places than this one. */
bool bs_os_readable(uintptr_t p) {
    return bs_sys4(SYS_rt_sigprocmask, -1, bs_align_down(p, 8), NULL, 8) == -EINVAL;
}

static long open_in(const char *folder, const char *name) {
    char path[48];
    struct bs_out out;
    bs_out_init(&out, path, sizeof path);
    bs_out_printf(&out, "%s%s", folder, name);
    return bs_sys4(SYS_openat, AT_FDCWD, bs_out_text(&out), O_RDONLY | O_CLOEXEC, 0);
}

/* The thread's, since the process has none when its first thread has ended. By its number first: what follows paths in
 * the place of the kernel, as proot does, knows /proc/self, and takes /proc/thread-self for its own. That serves where
 * /proc has other numbers. Under a profile that knows neither, the process's. */
int bs_os_open_own(const char *name) {
    char numbered[40];
    struct bs_out out;
    bs_out_init(&out, numbered, sizeof numbered);
    bs_out_printf(&out, "/proc/self/task/%d/", bs_os_tid());
    const char *const folders[] = {bs_out_text(&out), "/proc/thread-self/", "/proc/self/"};
    int injected = bs_os_fault_due();
    long fd = injected != 0 ? -injected : open_in(folders[0], name);
    for (size_t i = 1; i < BS_ARRAY_LEN(folders) && (fd == -ENOENT || fd == -EACCES || fd == -EPERM); i++)
        fd = open_in(folders[i], name);
    return (int)checked(fd);
}

/* Where seccomp refuses the call that is made for it, a file does. (Not the process's number, which is the first
 * thread's: that may have ended.) Both say of any failure that there is nothing, also where memory was short, or where
 * the page is one that the kernel copies to nobody: so it is tried. */
long bs_os_read_memory(uintptr_t from, void *buf, size_t bytes) {
    struct iovec local = {buf, bytes}, remote = {(void *)from, bytes};
    long n = bs_sys6(SYS_process_vm_readv, bs_os_tid(), &local, 1, &remote, 1, 0);
    if (BS_LIKELY(n > 0 || (n == -EFAULT && !bs_os_readable(from))))
        return n;
    int fd = bs_os_open_own("mem");
    if (fd >= 0) {
        n = bs_sys4(SYS_pread64, fd, buf, bytes, from);
        (void)bs_sys1(SYS_close, fd);
    }
    if (n == -EIO || n == -EFAULT) /* the first is the file's word for it */
        return bs_os_readable(from) ? -EIO : -EFAULT;
    return n != 0 ? n : -EIO;
}

void bs_os_name(void *addr, size_t bytes, const char *name) {
    static bool refused; /* a kernel that names nothing is not asked again: sandboxes may end a program for it */
    if (!bs_load(&refused) &&
        bs_sys5(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, addr, bytes, name) == -EINVAL)
        bs_store(&refused, true);
}

/* --- process, files --------------------------------------------------------------------------- */

int bs_os_pid(void) {
    return (int)bs_sys0(SYS_getpid);
}
int bs_os_parent(void) {
    return (int)bs_sys0(SYS_getppid);
}
int bs_os_tid(void) {
    return (int)bs_sys0(SYS_gettid);
}
bool bs_os_thread_alive(int tid) {
    return bs_sys3(SYS_tgkill, bs_os_pid(), tid, 0) != -ESRCH;
}
bool bs_os_process_alive(int pid) {
    return bs_sys2(SYS_kill, pid, 0) != -ESRCH;
}
bool bs_os_same_group(int pid) {
    return bs_sys1(SYS_getpgid, pid) == bs_sys1(SYS_getpgid, 0);
}
void bs_os_faults(uint64_t *minor, uint64_t *major) {
    struct rusage use = {0};
    (void)bs_sys2(SYS_getrusage, RUSAGE_SELF, &use);
    *minor = (uint64_t)use.ru_minflt;
    *major = (uint64_t)use.ru_majflt;
}

void bs_os_program_name(char name[16]) {
    (void)bs_os_read_text("/proc/self/comm", name, 16);
    name[strcspn(name, "\n")] = '\0';
}

int bs_os_program_path(char *path, size_t cap) {
    long ret = bs_sys4(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, cap);
    if (ret == -ENOENT) /* the first thread has ended */
        ret = bs_sys4(SYS_readlinkat, AT_FDCWD, "/proc/thread-self/exe", path, cap);
    path[ret >= 0 && (size_t)ret < cap ? ret : 0] = '\0';
    return ret < 0 ? (int)-ret : (size_t)ret < cap ? 0 : ERANGE;
}

int bs_os_folder(char *path, size_t cap) {
    long ret = bs_sys2(SYS_getcwd, path, cap);
    if (ret < 0)
        path[0] = '\0';
    return ret < 0 ? (int)-ret : 0;
}

uint64_t bs_os_random(void) {
    const unsigned char *bytes = (const unsigned char *)getauxval(AT_RANDOM);
    uint64_t x = 0;
    /* The second half: libc derives its stack guard from the first eight bytes. */
    for (unsigned i = 8; bytes != NULL && i < 16; i++)
        x = (x << 8) | bytes[i];
    return x * 0x9e3779b97f4a7c15u; /* not the secret itself */
}
uint64_t bs_os_address_limit(void) {
    uint64_t limit[2] = {UINT64_MAX, UINT64_MAX}; /* struct rlimit64; the kernel says UINT64_MAX for none */
    (void)bs_sys4(SYS_prlimit64, 0, RLIMIT_AS, NULL, limit);
    return limit[0];
}
bool bs_os_secure(void) {
    return getauxval(AT_SECURE) != 0;
}

int bs_os_open_read(const char *path) {
    return (int)GUARDED(bs_sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));
}
int bs_os_open_if_there(const char *path) {
    int injected = bs_os_fault_due();
    long ret = injected != 0 ? -injected
                             : bs_sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    return (int)(ret == -ENOENT ? ret : checked(ret));
}
/* Not blocking: a FIFO that nobody reads is refused (ENXIO) instead of waited for. */
int bs_os_open_append(const char *path) {
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    return (int)GUARDED(bs_sys4(SYS_openat, AT_FDCWD, path, flags, 0644));
}
int bs_os_open_new(const char *path) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY;
    return (int)GUARDED(bs_sys4(SYS_openat, AT_FDCWD, path, flags, 0644));
}
int bs_os_open_whole(const char *path) {
    const int flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    return (int)GUARDED(bs_sys4(SYS_openat, AT_FDCWD, path, flags, 0644));
}
int bs_os_open_again(const char *path) {
    const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    return (int)GUARDED(bs_sys4(SYS_openat, AT_FDCWD, path, flags, 0));
}
int bs_os_empty(int fd) {
    return (int)-bs_sys2(SYS_ftruncate, fd, 0);
}
long bs_os_position(int fd) {
    return bs_sys3(SYS_lseek, fd, 0, SEEK_CUR);
}
void bs_os_close(int fd) {
    (void)bs_sys1(SYS_close, fd);
}
long bs_os_read(int fd, void *buf, size_t bytes) {
    long ret;
    do
        ret = GUARDED(bs_sys3(SYS_read, fd, buf, bytes));
    while (ret == -EINTR);
    return ret;
}
long bs_os_read_folder(int fd, void *buf, size_t bytes) {
    return GUARDED(bs_sys3(SYS_getdents64, fd, buf, bytes));
}
long bs_os_read_link_in(int folder, const char *name, char *text, size_t cap) {
    long n = bs_sys4(SYS_readlinkat, folder, name, text, cap - 1);
    text[n < 0 ? 0 : n] = '\0';
    return n;
}
long bs_os_read_link(const char *path, char *text, size_t cap) {
    return bs_os_read_link_in(AT_FDCWD, path, text, cap);
}
long bs_os_read_text(const char *path, char *text, size_t cap) {
    int fd = bs_os_open_if_there(path);
    size_t len = 0;
    long n = fd < 0 ? fd : 1;
    while (n > 0 && len < cap - 1) { /* /proc may say what it has in pieces */
        n = bs_os_read(fd, text + len, cap - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        bs_os_close(fd);
    text[n < 0 ? 0 : len] = '\0';
    return n < 0 ? n : (long)len;
}
long bs_os_write(int fd, const void *buf, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        long ret = GUARDED(bs_sys3(SYS_write, fd, (const char *)buf + done, bytes - done));
        if (ret == -EINTR)
            continue;
        if (ret <= 0)
            return ret < 0 ? ret : -EIO;
        done += (size_t)ret;
    }
    return (long)done;
}

/* --- waiting ---------------------------------------------------------------------------------- */

void bs_os_wait(uint32_t *word, uint32_t expected, uint64_t timeout_ns) {
    struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    (void)bs_sys4(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns != 0 ? &t : NULL);
}
void bs_os_pause(uint64_t ns) {
    uint32_t never = 0;
    bs_os_wait(&never, 0, ns);
}
void bs_os_wake(uint32_t *word, int threads) {
    (void)bs_sys3(SYS_futex, word, FUTEX_WAKE_PRIVATE, threads);
}
void bs_os_wait_bits(uint32_t *word, uint32_t expected, uint32_t bits) {
    (void)bs_sys6(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, NULL, NULL, bits);
}
void bs_os_wake_bits(uint32_t *word, uint32_t bits) {
    (void)bs_sys6(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, bits);
}
void bs_os_yield(void) {
    (void)bs_sys0(SYS_sched_yield);
}
