/* SPDX-License-Identifier: MIT */
/* scan_oracle_memory.c - places for pointers in memory, of the process and of the kernel; see scan_oracle.h. */
#include "scan_oracle.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>

enum { page = 4096 };

static void *in_data[oracle_threads + 1] = {&in_data};
static void *in_bss[oracle_threads];

static void by_data(struct oracle_holder *h) {
    oracle_hold_at(h, &in_data[h->number + 1]);
}
static void by_bss(struct oracle_holder *h) {
    oracle_hold_at(h, &in_bss[h->number]);
}
static void by_module(struct oracle_holder *h) {
    void *module = dlopen(getenv("ORACLE_MODULE"), RTLD_NOW);
    BS_CHECK(module != NULL, "%s", dlerror());
    void **words = dlsym(module, "scanmod_words");
    BS_CHECK(words != NULL, "no words in the module");
    oracle_hold_at(h, &words[h->number]);
    dlclose(module);
}

/* --- mappings --------------------------------------------------------------------------------- */

static void *map(size_t bytes, int flags, int fd) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    BS_CHECK(p != MAP_FAILED, "mmap of %zu bytes", bytes);
    return p;
}
static void hold_in_mapping(struct oracle_holder *h, size_t bytes, int flags, int fd, int advice) {
    char *p = map(bytes, flags, fd);
    if (advice != 0)
        BS_CHECK(madvise(p, bytes, advice) == 0, "madvise %d", advice);
    oracle_hold_at(h, p + bytes - 3 * sizeof(void *));
    munmap(p, bytes);
}
static void by_mapping(struct oracle_holder *h) {
    hold_in_mapping(h, 2 * page, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static void by_sparse_mapping(struct oracle_holder *h) {
    hold_in_mapping(h, (size_t)64 << 30, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}
static void by_huge_pages(struct oracle_holder *h) {
    hold_in_mapping(h, 4 << 20, MAP_PRIVATE | MAP_ANONYMOUS, -1, MADV_HUGEPAGE);
}
static void by_unforked(struct oracle_holder *h) {
    hold_in_mapping(h, page, MAP_PRIVATE | MAP_ANONYMOUS, -1, MADV_DONTFORK);
}
static void by_wiped(struct oracle_holder *h) {
    hold_in_mapping(h, page, MAP_PRIVATE | MAP_ANONYMOUS, -1, MADV_WIPEONFORK);
}
static void by_shared(struct oracle_holder *h) {
    hold_in_mapping(h, 2 * page, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}
static void by_memfd(struct oracle_holder *h) {
    int fd = memfd_create("oracle", MFD_CLOEXEC);
    BS_CHECK(fd >= 0 && ftruncate(fd, page) == 0, "memfd_create");
    hold_in_mapping(h, page, MAP_SHARED, fd, 0);
    close(fd);
}
static void by_sysv(struct oracle_holder *h) {
    int id = shmget(IPC_PRIVATE, page, 0600);
    BS_CHECK(id >= 0, "shmget");
    char *p = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    BS_CHECK(p != (void *)-1, "shmat");
    oracle_hold_at(h, p + 64);
    shmdt(p);
}
static int open_file(struct oracle_holder *h) {
    char path[64];
    snprintf(path, sizeof path, "scan_oracle.%d.%u.tmp", (int)getpid(), h->number);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    BS_CHECK(fd >= 0 && ftruncate(fd, page) == 0, "%s", path);
    unlink(path);
    return fd;
}
static void by_private_file(struct oracle_holder *h) {
    int fd = open_file(h);
    hold_in_mapping(h, page, MAP_PRIVATE, fd, 0);
    close(fd);
}
static void by_shared_file(struct oracle_holder *h) {
    int fd = open_file(h);
    hold_in_mapping(h, page, MAP_SHARED, fd, 0);
    close(fd);
}
static void hold_protected(struct oracle_holder *h, int flags, int fd, int protection) {
    char *p = map(page, flags, fd);
    oracle_put(p + 8, h->hidden);
    BS_CHECK(mprotect(p, page, protection) == 0, "mprotect");
    oracle_stay(h);
    munmap(p, page);
}
static void by_read_only(struct oracle_holder *h) {
    hold_protected(h, MAP_PRIVATE | MAP_ANONYMOUS, -1, PROT_READ);
}
static void by_read_only_file(struct oracle_holder *h) {
    int fd = open_file(h);
    hold_protected(h, MAP_PRIVATE, fd, PROT_READ);
    close(fd);
}
static void by_read_only_shared(struct oracle_holder *h) {
    hold_protected(h, MAP_SHARED | MAP_ANONYMOUS, -1, PROT_READ);
}
static void by_unreadable(struct oracle_holder *h) {
    hold_protected(h, MAP_PRIVATE | MAP_ANONYMOUS, -1, PROT_NONE);
}
/* As machine code has it. */
static void by_code(struct oracle_holder *h) {
    char *p = map(page, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    oracle_put(p + 13, h->hidden);
    BS_CHECK(mprotect(p, page, PROT_READ | PROT_EXEC) == 0, "mprotect");
    oracle_stay(h);
    munmap(p, page);
}

/* --- forms ------------------------------------------------------------------------------------ */

static _Alignas(16) char odd[oracle_threads][32];

static void by_low_bits(struct oracle_holder *h) {
    oracle_put(&in_bss[h->number], h->hidden - 1 - h->number % 7); /* ~(p + tag) */
    oracle_stay(h);
    *(void *volatile *)&in_bss[h->number] = NULL;
}
static void by_high_bits(struct oracle_holder *h) {
    oracle_put(&in_bss[h->number], h->hidden ^ ((uintptr_t)(1 + h->number) << 56));
    oracle_stay(h);
    *(void *volatile *)&in_bss[h->number] = NULL;
}
static void by_turned_bits(struct oracle_holder *h) {
    oracle_stay(h); /* h->hidden is it */
}
static void by_odd_address(struct oracle_holder *h) {
    oracle_put(&odd[h->number][5], h->hidden);
    oracle_stay(h);
    memset(odd[h->number], 0, sizeof odd[0]);
}
static void by_half(struct oracle_holder *h) {
    *(volatile uint32_t *)odd[h->number] = (uint32_t)~(h->hidden >> 4);
    oracle_stay(h);
    memset(odd[h->number], 0, sizeof odd[0]);
}

/* --- libc ------------------------------------------------------------------------------------- */

/* The list of the environment is libc's, and only the string is the block. */
static pthread_mutex_t environment = PTHREAD_MUTEX_INITIALIZER;

static void give_string(struct oracle_holder *h) {
    char *s = ORACLE_SHOWN(h);
    int n = snprintf(s, 12, "ORACLE%u", h->number);
    s[n] = '=';
    s[n + 1] = '\0';
    pthread_mutex_lock(&environment);
    BS_CHECK(putenv(s) == 0, "putenv");
    pthread_mutex_unlock(&environment);
}
static void by_environment(struct oracle_holder *h) {
    char name[12];
    oracle_aside(h, give_string);
    oracle_stay(h);
    snprintf(name, sizeof name, "ORACLE%u", h->number);
    pthread_mutex_lock(&environment);
    BS_CHECK(unsetenv(name) == 0, "unsetenv");
    pthread_mutex_unlock(&environment);
}
static void never_called(int status, void *arg) {
    (void)status;
    (void)arg;
}
static void give_to_exit(struct oracle_holder *h) {
    BS_CHECK(on_exit(never_called, ORACLE_SHOWN(h)) == 0, "on_exit");
}
static void by_exit(struct oracle_holder *h) {
    oracle_aside(h, give_to_exit);
    oracle_stay(h);
}
static FILE *files[oracle_threads];
static void give_to_file(struct oracle_holder *h) {
    files[h->number] = fopen("/dev/null", "we");
    BS_CHECK(files[h->number] != NULL, "fopen");
    setvbuf(files[h->number], ORACLE_SHOWN(h), _IOFBF, 16);
}
static void by_file(struct oracle_holder *h) {
    oracle_aside(h, give_to_file);
    oracle_stay(h);
    fclose(files[h->number]);
    files[h->number] = NULL;
}

/* --- the kernel ------------------------------------------------------------------------------- */

static int fds[oracle_threads][2];
static timer_t timers[oracle_threads];

static void give_to_epoll(struct oracle_holder *h) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = ORACLE_SHOWN(h)};
    BS_CHECK(epoll_ctl(fds[h->number][0], EPOLL_CTL_ADD, fds[h->number][1], &e) == 0, "epoll_ctl");
}
static void by_epoll(struct oracle_holder *h) {
    int *fd = fds[h->number], other[2];
    fd[0] = epoll_create1(EPOLL_CLOEXEC);
    BS_CHECK(fd[0] >= 0 && pipe2(other, O_CLOEXEC) == 0, "epoll_create1, pipe");
    fd[1] = other[0];
    oracle_aside(h, give_to_epoll);
    oracle_stay(h);
    close(fd[0]);
    close(other[0]);
    close(other[1]);
}
static void give_to_timer(struct oracle_holder *h) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                             .sigev_signo = SIGUSR2,
                             .sigev_value.sival_ptr = ORACLE_SHOWN(h)};
    BS_CHECK(timer_create(CLOCK_MONOTONIC, &event, &timers[h->number]) == 0, "timer_create");
}
static void by_timer(struct oracle_holder *h) {
    oracle_aside(h, give_to_timer);
    oracle_stay(h);
    timer_delete(timers[h->number]);
}
static void give_to_socket(struct oracle_holder *h) {
    void *p = ORACLE_SHOWN(h);
    BS_CHECK(write(fds[h->number][0], &p, sizeof p) == sizeof p, "write");
}
static void by_socket(struct oracle_holder *h) {
    BS_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds[h->number]) == 0, "socketpair");
    oracle_aside(h, give_to_socket);
    oracle_stay(h);
    close(fds[h->number][0]);
    close(fds[h->number][1]);
}

/* It waits, since the thread blocks it. */
static void send_signal(struct oracle_holder *h) {
    union sigval value = {.sival_ptr = ORACLE_SHOWN(h)};
    BS_CHECK(pthread_sigqueue(pthread_self(), SIGRTMIN + 3, value) == 0, "pthread_sigqueue");
}
static void take_signal(struct oracle_holder *h) {
    static const struct timespec now;
    sigset_t set;
    siginfo_t info;
    (void)h;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    BS_CHECK(sigtimedwait(&set, &info, &now) == SIGRTMIN + 3, "sigtimedwait");
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
static void by_signal(struct oracle_holder *h) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    oracle_aside(h, send_signal);
    oracle_stay(h);
    oracle_aside(h, take_signal);
}

const struct oracle_place oracle_memory_places[] = {
    {.name = "initialised data", .hold = by_data},
    {.name = "zeroed data", .hold = by_bss},
    {.name = "data of a loaded library", .hold = by_module},
    {.name = "private mapping", .hold = by_mapping},
    {.name = "private mapping of 64 GiB", .hold = by_sparse_mapping},
    {.name = "huge pages", .hold = by_huge_pages},
    {.name = "mapping with MADV_DONTFORK", .hold = by_unforked},
    {.name = "mapping with MADV_WIPEONFORK", .hold = by_wiped},
    {.name = "shared anonymous memory", .hold = by_shared},
    {.name = "memfd", .hold = by_memfd},
    {.name = "System V shared memory", .hold = by_sysv},
    {.name = "private mapping of a file", .hold = by_private_file},
    {.name = "mapping that became read-only", .hold = by_read_only},
    {.name = "private mapping of a file that became read-only", .hold = by_read_only_file},
    {.name = "shared memory that became read-only", .hold = by_read_only_shared},
    {.name = "odd address in code", .hold = by_code},
    {.name = "low bits used for tags", .hold = by_low_bits},
    {.name = "environment", .hold = by_environment},
    {.name = "argument of on_exit", .hold = by_exit, .flags = ORACLE_FOR_EVER},
    {.name = "buffer of a FILE", .hold = by_file},
    {.name = "data of epoll", .hold = by_epoll},
    {.name = "value of a timer", .hold = by_timer},
    {.name = "shared file", .hold = by_shared_file, .sight = ORACLE_BLIND},
    {.name = "memory without the right to read", .hold = by_unreadable, .sight = ORACLE_BLIND},
    {.name = "high bits used for tags", .hold = by_high_bits, .sight = ORACLE_BLIND},
    {.name = "turned bits", .hold = by_turned_bits, .sight = ORACLE_BLIND},
    {.name = "odd address in data", .hold = by_odd_address, .sight = ORACLE_BLIND},
    {.name = "compressed to 32 bits", .hold = by_half, .sight = ORACLE_BLIND},
    {.name = "value of a signal that waits", .hold = by_signal, .sight = ORACLE_BLIND},
    {.name = "bytes in a socket", .hold = by_socket, .sight = ORACLE_BLIND},
    {.name = NULL},
};
