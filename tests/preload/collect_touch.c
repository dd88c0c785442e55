/* SPDX-License-Identifier: MIT */
/*
 * Promise: who comes back to a block that scan:collect took for lost finds it as it was, from any thread,
 * in a handler, with all signals blocked, in a forked child, by free and by realloc; and a program's own
 * handlers of SIGSEGV, or that it has none, mean what they meant. Pointers are kept as their complement,
 * which no scan sees. (collect_touch.conf makes minutes to milliseconds; this program reads its own log.)
 */
#include "promise.h"

#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define SMALL 1000
#define LARGE 200000
#define NSMALL 400
#define NLARGE 16
#define WAIT_MS 90000

static uintptr_t small[NSMALL], large[NLARGE]; /* complements */
static char path[64];

/* Not before it is wanted: no register may have it. */
static char *shown(uintptr_t hidden) {
    __asm__ volatile("" : "+r"(hidden));
    return (char *)~hidden;
}
static uintptr_t __attribute__((noinline)) make(size_t size, uint64_t tag) {
    char *p = malloc(size);
    pattern_fill(p, size, tag);
    uintptr_t hidden = ~(uintptr_t)p;
    __asm__ volatile("" : "+r"(hidden) : : "memory");
    return hidden;
}
static void __attribute__((noinline)) wipe(void) {
    volatile char junk[16384];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}
static void lose_all(void) {
    for (size_t i = 0; i < NSMALL; i++)
        small[i] = make(SMALL, i + 1);
    for (size_t i = 0; i < NLARGE; i++)
        large[i] = make(LARGE, i + 1);
    wipe();
}
static void check_small(size_t i) {
    BS_CHECK_PATTERN(shown(small[i]), SMALL, i + 1);
}
static void check_large(size_t i) {
    BS_CHECK_PATTERN(shown(large[i]), LARGE, i + 1);
}

/* --- the log ------------------------------------------------------------------------------------ */

/* Blocks in lines of the event that have the word. */
static unsigned long count(const char *word) {
    char line[4096];
    unsigned long n = 0;
    FILE *f = fopen(path, "r");
    for (; f != NULL && fgets(line, sizeof line, f) != NULL;) {
        const char *blocks = strstr(line, " blocks ");
        if (strstr(line, " collect: what ") != NULL && strstr(line, word) != NULL && blocks != NULL)
            n += strtoul(blocks + 8, NULL, 10);
    }
    if (f != NULL)
        fclose(f);
    return n;
}
static void wait_for(const char *word, unsigned long n) {
    for (uint64_t end = now_ms() + WAIT_MS; count(word) < n; sleep_ms(20))
        if (now_ms() > end)
            promise_skip("after %d s there are %lu blocks %s, not %lu", WAIT_MS / 1000, count(word),
                         word, n);
}

/* True while a mapping that holds the address cannot be read. Complements are compared: a scan may come now, and
 * nothing may hold the address then. */
static bool is_closed(uintptr_t hidden) {
    char line[512];
    bool closed = false;
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f) != NULL) {
        unsigned long start, end;
        char perms[5];
        if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) != 3)
            continue;
        uintptr_t most = ~start, least = ~end;
        __asm__ volatile("" : "+r"(most), "+r"(least));
        if (hidden <= most && hidden > least)
            closed = strncmp(perms, "---", 3) == 0;
    }
    fclose(f);
    wipe();
    return closed;
}

static bool are_closed(void) {
    for (size_t i = 1; i < 10; i++)
        if (!is_closed(large[i]))
            return false;
    return is_closed(small[NSMALL / 4]);
}

/* --- who comes ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t handled;
static size_t in_handler;

static void on_usr1(int signo) {
    (void)signo;
    check_large(in_handler);
    handled++;
}

static void *come(void *arg) {
    sigset_t all;
    sigfillset(&all);
    if (arg != NULL) {
        pthread_sigmask(SIG_SETMASK, &all, NULL);
        check_large(9); /* nobody else comes to that one */
    }
    check_large(1);
    check_small(NSMALL / 4);
    return NULL;
}
static void come_by_threads(void) {
    pthread_t thread[8];
    for (size_t i = 0; i < 8; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, come, i % 2 != 0 ? &in_handler : NULL) == 0, "thread");
    for (size_t i = 0; i < 8; i++)
        pthread_join(thread[i], NULL);
}
static void come_in_handler(void) {
    struct sigaction action = {.sa_handler = on_usr1};
    sigfillset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    in_handler = 2;
    raise(SIGUSR1);
    BS_CHECK(handled == 1, "the handler did not run");
}

/* --- the program's own handlers ------------------------------------------------------------------ */

static sigjmp_buf back;
static void *volatile nowhere = (void *)8;
static volatile sig_atomic_t nfaults;
static void *fault_address;
static char alt_stack[65536];
static bool on_alt;

static void recover(int signo, siginfo_t *info, void *context) {
    char here;
    (void)context;
    BS_CHECK(signo == SIGSEGV, "signal %d", signo);
    fault_address = info->si_addr;
    on_alt = &here >= alt_stack && &here < alt_stack + sizeof alt_stack;
    nfaults++;
    check_large(3); /* closed memory, in the program's own handler of faults */
    siglongjmp(back, 1);
}
static void recover_plainly(int signo) {
    (void)signo;
    nfaults++;
    siglongjmp(back, 1);
}
static void fall(void) {
    if (sigsetjmp(back, 1) == 0)
        *(volatile char *)nowhere = 1;
}

static void use_handlers(void) {
    const stack_t alt = {.ss_sp = alt_stack, .ss_size = sizeof alt_stack};
    struct sigaction action = {.sa_sigaction = recover, .sa_flags = SA_SIGINFO}, old;
    BS_CHECK(sigaction(SIGSEGV, &action, &old) == 0 && old.sa_handler == SIG_DFL, "the first one");
    for (int i = 0; i < 1000; i++)
        fall();
    BS_CHECK(nfaults == 1000 && fault_address == nowhere && !on_alt, "%d faults", (int)nfaults);
    sigaltstack(&alt, NULL);
    action.sa_flags |= SA_ONSTACK;
    BS_CHECK(sigaction(SIGSEGV, &action, &old) == 0 && old.sa_sigaction == recover &&
                 old.sa_flags == SA_SIGINFO, "the second one, %x", (unsigned)old.sa_flags);
    fall();
    BS_CHECK(nfaults == 1001 && on_alt, "not on the alternate stack");
    BS_CHECK(signal(SIGSEGV, recover_plainly) == (__sighandler_t)(uintptr_t)recover, "signal");
    check_large(4);
    BS_CHECK(nfaults == 1001, "the program saw a fault that is none of its");
    fall();
    BS_CHECK(nfaults == 1002, "signal's handler");
    BS_CHECK(signal(SIGSEGV, SIG_DFL) == recover_plainly, "the last one");
}

static void expect(void (*crime)(void), int wanted) {
    int status;
    pid_t pid = fork();
    BS_CHECK(pid >= 0, "fork");
    if (pid == 0) {
        crime();
        _exit(0);
    }
    BS_CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
    BS_CHECK(wanted == 0 ? status == 0 : WIFSIGNALED(status) && WTERMSIG(status) == wanted,
             "status %x, not signal %d", (unsigned)status, wanted);
}
static void write_nowhere(void) {
    *(volatile char *)nowhere = 1;
}
static void write_readonly(void) {
    char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(volatile char *)p = 1;
}
static void raise_it(void) {
    raise(SIGSEGV);
}
static void raise_blocked_ignored(void) {
    signal(SIGSEGV, SIG_IGN);
    raise(SIGSEGV);
}
static void fault_ignored(void) {
    signal(SIGSEGV, SIG_IGN);
    write_nowhere();
}
static void fall_twice(void) {
    struct sigaction action = {.sa_handler = recover_plainly, .sa_flags = SA_RESETHAND};
    nfaults = 0;
    sigaction(SIGSEGV, &action, NULL);
    fall();
    sigaction(SIGSEGV, NULL, &action);
    if (nfaults == 1 && action.sa_handler == SIG_DFL)
        fall();
}
static volatile bool goes_on = true;
static void use_up_the_stack(void) {
    volatile char room[4096];
    room[0] = room[4095] = (char)(uintptr_t)&room;
    if (goes_on)
        use_up_the_stack();
    room[1] = room[0];
}
static void run_another(void) {
    unsetenv("LD_PRELOAD");
    execl("/bin/true", "true", (char *)NULL);
    _exit(1);
}
static void read_in_child(void) {
    check_large(5);
    check_small(NSMALL / 2);
    free(shown(large[6]));
    free(shown(small[NSMALL / 2 + 1]));
}

/* From now on what nobody came to is given away. */
static void end_grace(void) {
    void (*set)(unsigned) = (void (*)(unsigned))dlsym(RTLD_DEFAULT, "collect_drive_set_grace");
    BS_CHECK(set != NULL, "the library is not libbesom-collect.so");
    set(100);
}

int main(void) {
    promise_begin_log(path, sizeof path, "collect_touch");
    lose_all();
    wait_for(" closed ", NLARGE + NSMALL / 2);
    /* those that are looked at may be in a later batch than the first so many */
    for (uint64_t end = now_ms() + WAIT_MS; now_ms() < end && !are_closed(); sleep_ms(20))
        ;
    BS_CHECK(are_closed(), "closed, says the log");
    expect(read_in_child, 0);
    expect(write_nowhere, SIGSEGV);
    expect(write_readonly, SIGSEGV);
    expect(raise_it, SIGSEGV);
    expect(raise_blocked_ignored, 0);
    expect(fault_ignored, SIGSEGV);
    expect(fall_twice, SIGSEGV);
    expect(use_up_the_stack, SIGSEGV);
    expect(run_another, 0);
    BS_CHECK(is_closed(large[3]) && is_closed(large[4]), "what children did is not seen here");
    come_by_threads();
    come_in_handler();
    use_handlers();
    free(shown(large[7]));
    free(shown(small[NSMALL / 2]));
    large[8] = ~(uintptr_t)realloc(shown(large[8]), 2 * LARGE);
    check_large(8);
    end_grace();
    wait_for(" revived ", 5);
    wait_for(" reclaimed ", 4);
    check_small(NSMALL / 4); /* what came back stays */
    for (size_t i = 1; i < 5; i++)
        check_large(i);
    for (uint64_t end = now_ms() + WAIT_MS; now_ms() < end && count(" freed ") < 3; sleep_ms(20))
        ;
    BS_CHECK(count(" freed ") >= 3, "%lu", count(" freed "));
    printf("touch: %lu closed, %lu back, %lu given away\n", count(" closed "), count(" revived "),
           count(" reclaimed "));
    fflush(stdout);
    unlink(path);
    _exit(0); /* no report at exit */
}
