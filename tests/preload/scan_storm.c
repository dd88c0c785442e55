/* SPDX-License-Identifier: MIT */
/*
 * Promise: storms do not disturb scans, and scans do not disturb storms. While the program is scanned 20
 * times a second (scan_storm.conf), threads come and go, libraries are loaded and unloaded, children are
 * forked (and end, scan themselves, or become another program), and signals come, with SA_RESTART and
 * without. Each scan reports the leaks that were planted and no other: nothing that is in use for a
 * moment only is called lost twice. Every block has its pattern at its end, every signal is handled
 * once, every child ends as it should, a descriptor more or less is an error, and so is a child that nobody
 * has made.
 *
 * Argument: SECONDS. "child" is what children become.
 */
#include "promise.h"
#include "scan_drive.h"

#include <dlfcn.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { planted = 7, nblocks = 64, nchurners = 3, least_scans = 10 /* scan_storm.conf */ };

static const struct scan_drive *drive;
static char module_path[PATH_MAX + 32];
static bool over; /* [atomic] */
static bool is_over(void) {
    return __atomic_load_n(&over, __ATOMIC_RELAXED);
}

/* --- leaks ------------------------------------------------------------------------------------ */

static uintptr_t kept[8 * planted]; /* ascending */

static int compare(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}
/* The slot behind a leak is in use for ever: else an old pointer to it, which is the leak's end, would hold
 * the leak. */
static void *plant(void *arg) {
    unsigned n = 0;
    for (unsigned i = 0; i < 8 * planted; i++)
        kept[i] = (uintptr_t)calloc(1, 1000);
    qsort(kept, 8 * planted, sizeof kept[0], compare);
    for (unsigned i = 0; i + 1 < 8 * planted && n < planted; i++)
        if (kept[i + 1] - kept[i] == malloc_usable_size((void *)kept[i])) {
            ((uintptr_t *)kept[i])[3] = kept[i] + 24;
            kept[i++] = 0;
            n++;
        }
    BS_CHECK(n == planted, "only %u slots side by side", n);
    return arg;
}
/* On a stack that is gone afterwards, and so are the registers. */
static void plant_and_forget(void) {
    enum { bytes = 256 * 1024 };
    void *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    BS_CHECK(pthread_attr_setstack(&attr, stack, bytes) == 0 &&
                 pthread_create(&thread, &attr, plant, NULL) == 0 && pthread_join(thread, NULL) == 0,
             "no thread");
    munmap(stack, bytes);
    drive->expect(planted);
}

/* --- what goes on ----------------------------------------------------------------------------- */

struct churn {
    uint64_t seed;
    void *block[nblocks];
    size_t size[nblocks];
};
static void replace(struct churn *c, size_t i) {
    if (c->block[i] != NULL)
        BS_CHECK_PATTERN(c->block[i], c->size[i], 0);
    free(c->block[i]);
    c->size[i] = 16 + rng_below(&c->seed, rng_below(&c->seed, 50) == 0 ? 200000 : 2000);
    c->block[i] = malloc(c->size[i]);
    BS_CHECK(c->block[i] != NULL, "malloc");
    pattern_fill(c->block[i], c->size[i], 0);
}
static void churn_some(struct churn *c, int n) {
    while (n-- > 0)
        replace(c, rng_below(&c->seed, nblocks));
}
static void free_all(struct churn *c) {
    for (size_t i = 0; i < nblocks; i++) {
        if (c->block[i] != NULL)
            BS_CHECK_PATTERN(c->block[i], c->size[i], 0);
        free(c->block[i]);
    }
}
static void *churner(void *arg) {
    struct churn c = {.seed = (uint64_t)(uintptr_t)arg};
    while (!is_over()) {
        churn_some(&c, 50);
        usleep(500);
    }
    free_all(&c);
    return NULL;
}

/* --- threads ---------------------------------------------------------------------------------- */

static pthread_key_t key;
static unsigned nthreads; /* [atomic] */
static __thread struct churn *own;

static void *brief(void *arg) {
    own = calloc(1, sizeof *own);
    own->seed = (uint64_t)(uintptr_t)arg;
    pthread_setspecific(key, malloc(100));
    churn_some(own, 30);
    free_all(own);
    free(own);
    own = NULL;
    __atomic_add_fetch(&nthreads, 1, __ATOMIC_RELAXED);
    return malloc(48);
}
static void *thread_storm(void *arg) {
    pthread_attr_t small, detached;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 * BS_KIB);
    pthread_attr_init(&detached);
    pthread_attr_setstacksize(&detached, 128 * BS_KIB);
    for (uintptr_t i = 1; !is_over(); i++) {
        pthread_t thread[4];
        void *value;
        for (uintptr_t k = 0; k < 4; k++)
            BS_CHECK(pthread_create(&thread[k], &small, brief, (void *)(i * 8 + k)) == 0, "no thread");
        for (unsigned k = 0; k < 4; k++) {
            BS_CHECK(pthread_join(thread[k], &value) == 0 && value != NULL, "join");
            free(value);
        }
    }
    pthread_attr_destroy(&small);
    pthread_attr_destroy(&detached);
    return arg;
}

/* --- libraries -------------------------------------------------------------------------------- */

static unsigned nloads; /* [atomic] */

static void *library_storm(void *arg) {
    for (uintptr_t i = 0; !is_over(); i++) {
        void *module = dlopen(module_path, RTLD_NOW | RTLD_LOCAL);
        BS_CHECK(module != NULL, "dlopen: %s", dlerror());
        void **(*local)(void) = (void **(*)(void))dlsym(module, "scanmod_local");
        void **words = dlsym(module, "scanmod_words");
        BS_CHECK(local != NULL && words != NULL, "dlsym");
        *local() = malloc(500);
        words[5] = malloc(600);
        if (i % 4 == 0)
            usleep(20000);
        free(*local());
        free(words[5]);
        BS_CHECK(dlclose(module) == 0, "dlclose: %s", dlerror());
        __atomic_add_fetch(&nloads, 1, __ATOMIC_RELAXED);
    }
    return arg;
}

/* --- children --------------------------------------------------------------------------------- */

static unsigned nchildren, child_scans; /* [atomic] the first */

/* In a child, whose one thread this is: what it holds is not lost. (What only the registers of others held
 * is; and what was planted may be hidden by words that searches leave on the scanning thread's stack.) */
static void scan_here(void) {
    struct scan_seen seen;
    own = calloc(1, sizeof *own);
    for (unsigned i = 0; i < 3; i++) {
        drive->ask(i | SCAN_BY_CALLER);
        BS_CHECK(drive->over(&seen) && seen.end == 0, "end %d, world %d", seen.end, seen.world);
        BS_CHECK(drive->is_lost(own) == 0, "what the child holds is lost");
    }
}
static void be_child(uint64_t i, char *self) {
    struct churn c = {.seed = i};
    alarm(PROMISE_CHILD_LIMIT_S);
    churn_some(&c, 20);
    free_all(&c);
    if (i % 4 == 1)
        scan_here();
    setenv("SCAN_LEAST", "0", 1); /* it ends at once */
    if (i % 4 == 2)
        execl(self, self, "child", (char *)NULL);
    _exit(i % 4 == 2 ? 127 : 11);
}
static void *child_storm(void *self) {
    for (uint64_t i = 0; !is_over(); i++) {
        int status;
        pid_t pid = fork();
        BS_CHECK(pid >= 0, "fork");
        if (pid == 0)
            be_child(i, self);
        BS_CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
        BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 11, "a child ended with %#x", (unsigned)status);
        __atomic_add_fetch(&nchildren, 1, __ATOMIC_RELAXED);
        child_scans += i % 4 == 1;
    }
    return NULL;
}

/* --- signals ---------------------------------------------------------------------------------- */

static unsigned handled[2], sent[2]; /* [atomic] with SA_RESTART, without */
static int never[2];

static void handler(int signo) {
    __atomic_add_fetch(&handled[signo == SIGUSR2], 1, __ATOMIC_RELAXED);
}
/* A read that nothing arrives for: SIGUSR2 interrupts it, and nothing else does. */
static void *reader(void *arg) {
    sigset_t set;
    char byte;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (;;) {
        unsigned before = __atomic_load_n(&handled[1], __ATOMIC_RELAXED);
        ssize_t n = read(never[0], &byte, 1);
        if (n == 1)
            return arg;
        BS_CHECK(n == -1 && errno == EINTR, "read");
        BS_CHECK(__atomic_load_n(&handled[1], __ATOMIC_RELAXED) != before, "EINTR without a signal");
    }
}
static void *signal_storm(void *arg) {
    pthread_t thread;
    BS_CHECK(pipe2(never, O_CLOEXEC) == 0 && pthread_create(&thread, NULL, reader, NULL) == 0, "reader");
    sleep_ms(50);
    for (unsigned i = 0; !is_over(); i++) {
        BS_CHECK(pthread_kill(thread, i % 2 == 0 ? SIGUSR1 : SIGUSR2) == 0, "pthread_kill");
        sent[i % 2]++;
        while (__atomic_load_n(&handled[i % 2], __ATOMIC_RELAXED) != sent[i % 2])
            sched_yield();
        usleep(500);
    }
    BS_CHECK(write(never[1], "x", 1) == 1 && pthread_join(thread, NULL) == 0, "reader");
    close(never[0]);
    close(never[1]);
    return arg;
}

/* ---------------------------------------------------------------------------------------------- */

static void find_module(const char *self) {
    snprintf(module_path, sizeof module_path, "%s", self);
    char *name = strrchr(module_path, '/') + 1;
    strcpy(name, "scanmod.so");
    if (access(module_path, R_OK) != 0)
        strcpy(name, ".libs/scanmod.so");
}
static int count_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}
/* A machine that has other things to do lets little happen in a given time: so the storm goes on until it was
 * one, two minutes at most. */
static bool is_enough(void) {
    static uint64_t start_ms;
    if (start_ms == 0)
        start_ms = now_ms();
    return scan_drive_has_made(drive, least_scans) &&
           ((__atomic_load_n(&nthreads, __ATOMIC_RELAXED) > 20 && __atomic_load_n(&nloads, __ATOMIC_RELAXED) > 10 &&
             __atomic_load_n(&nchildren, __ATOMIC_RELAXED) > 8 && __atomic_load_n(&handled[0], __ATOMIC_RELAXED) > 10) ||
            now_ms() - start_ms > 120000);
}
static void install(int signo, int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    BS_CHECK(sigaction(signo, &action, NULL) == 0, "sigaction");
}

int main(int argc, char **argv) {
    static void *(*const storms[])(void *) = {thread_storm, library_storm, child_storm, signal_storm};
    static char self[PATH_MAX];
    pthread_t storm[4], churn[nchurners];
    sigset_t set;
    unsigned verdicts, others;
    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return 11;
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    BS_CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0, "/proc/self/exe cannot be read");
    find_module(self);
    install(SIGUSR1, SA_RESTART);
    install(SIGUSR2, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_key_create(&key, free);
    plant_and_forget();
    scan_drive_begin_rest(drive);
    int nfds = count_fds();
    scan_drive_end_rest(drive);
    for (unsigned i = 0; i < nchurners; i++)
        BS_CHECK(pthread_create(&churn[i], NULL, churner, (void *)(uintptr_t)(i + 1)) == 0, "no thread");
    for (unsigned i = 0; i < 4; i++)
        BS_CHECK(pthread_create(&storm[i], NULL, storms[i], self) == 0, "no thread");
    uint64_t end_ms = now_ms() + (argc > 1 ? (uint64_t)atoi(argv[1]) : 6) * 1000;
    while (now_ms() < end_ms || !is_enough())
        sleep_ms(50);
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(storm[i], NULL);
    for (unsigned i = 0; i < nchurners; i++)
        pthread_join(churn[i], NULL);
    BS_CHECK(handled[0] == sent[0] && handled[1] == sent[1], "%u and %u signals handled, %u and %u sent",
             handled[0], handled[1], sent[0], sent[1]);
    BS_CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child that is not ours");
    scan_drive_begin_rest(drive);
    BS_CHECK(count_fds() == nfds, "%d descriptors, not %d", count_fds(), nfds);
    drive->counts(&verdicts, &others);
    dprintf(STDOUT_FILENO, "%u threads, %u loads, %u children, %u of them scanned, %u signals; %u scans, %u without a verdict\n",
            nthreads, nloads, nchildren, child_scans, sent[0] + sent[1], verdicts + others, others);
    BS_CHECK(nthreads > 20 && nloads > 10 && nchildren > 8 && sent[0] > 10, "no storm");
    return 0;
}
