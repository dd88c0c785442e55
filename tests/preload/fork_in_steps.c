/* SPDX-License-Identifier: MIT */
/*
 * Promise: a fork may meet another thread at any instruction of malloc, free and realloc; the child finds each
 * block once. A thread is stepped by the processor's trap flag and stands at the nth instruction of a call while the
 * program forks; the child gives back what can be given back, which buries that thread's cache, takes blocks of many
 * lengths, none of which overlaps with another one, and frees the thread's own.
 *
 * Each call is gone through with a wide step first, then with the instructions between: the time is bounded, and
 * a machine that is busy sees less. Where the thread stands with a lock the fork waits for it, so it goes on after a
 * moment.
 */
#include "promise.h"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>

#ifdef __x86_64__

#define LIMIT_MS 12000
#define STAND_MS 10
#define TRAP_FLAG 0x100
enum { NKEPT = 30, NBATCH = 12, NTAKEN = 120, STEP = 13 };

static unsigned char *kept[NKEPT]; /* the thread's, not touched by what it does in steps */
static void *batch[NBATCH];
static void *volatile block;
static volatile long nth, count; /* instructions; count: of this call, so far */

/* What the two tell each other. The program: the thread shall make a call; it was forked; there are no more. The thread:
 * it stands; the call is made. */
enum word { TURN = 't', FORKED = 'f', END = 'e', STANDING = 's', DONE = 'd' };
static int to_thread[2], to_program[2];

static void tell(const int *pipe, enum word word) {
    char c = (char)word;

    BS_CHECK(write(pipe[1], &c, 1) == 1, "a pipe");
}
static enum word listen_to(const int *pipe) {
    char c;

    BS_CHECK(read(pipe[0], &c, 1) == 1, "a pipe");
    return (enum word)c;
}

static size_t kept_size(size_t i) {
    return i % 3 == 0 ? 33000 + i * 4000 : 1 + i * 50;
}

/* --- in steps ----------------------------------------------------------------------------------- */

static void trap(int number, siginfo_t *info, void *context) {
    ucontext_t *machine = context;

    (void)number, (void)info;
    if (++count != nth)
        return;
    machine->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    tell(to_program, STANDING);
    struct pollfd word = {.fd = to_thread[0], .events = POLLIN};

    (void)poll(&word, 1, STAND_MS); /* the word is read when the call is made */
}
/* (Past the red zone.) */
static inline void begin_steps(void) {
    __asm__ volatile("sub $128, %%rsp; pushf; orl $0x100, (%%rsp); popf; add $128, %%rsp" ::: "memory", "cc");
}
static inline void end_steps(void) {
    __asm__ volatile("sub $128, %%rsp; pushf; andl $~0x100, (%%rsp); popf; add $128, %%rsp" ::: "memory", "cc");
}

static void fill_batch(size_t size, size_t more) {
    for (size_t i = 0; i < NBATCH; i++)
        batch[i] = hide(malloc(size + i * more));
}
static void free_batch(void) {
    for (size_t i = 0; i < NBATCH; i++)
        free(batch[i]);
}
static void nothing(void) {
}
static void take_block(void) {
    block = hide(malloc(50000));
}
static void free_block(void) {
    free(block);
}
static void take_crowd(void) {
    fill_batch(70000, 0);
}
static void take_ladder(void) {
    fill_batch(33000, 9000);
}
static void take_small(void) {
    fill_batch(700, 0);
}
static void grow_block(void) {
    block = realloc(block, 90000);
}
static void shrink_block(void) {
    block = realloc(block, 35000);
}
static void take_aligned(void) {
    block = aligned_alloc(65536, 100000);
}
static void take_zeros(void) {
    block = calloc(3, 40000);
}

static const struct call {
    const char *name;
    void (*before)(void), (*stepped)(void), (*after)(void);
} calls[] = {
    {"malloc of what is kept", nothing, take_block, free_block},
    {"free that keeps", take_block, free_block, nothing},
    {"frees of which some leave", take_crowd, free_batch, nothing},
    {"mallocs of many lengths", nothing, take_ladder, free_batch},
    {"frees of many lengths", take_ladder, free_batch, nothing},
    {"realloc that moves", take_block, grow_block, free_block},
    {"realloc that shrinks", take_block, shrink_block, free_block},
    {"aligned_alloc", nothing, take_aligned, free_block},
    {"calloc", nothing, take_zeros, free_block},
    {"mallocs of small blocks", nothing, take_small, free_batch},
    {"frees of small blocks", take_small, free_batch, nothing},
};
enum { NCALLS = sizeof calls / sizeof *calls };
static const struct call *volatile call;

static void *work(void *arg) {
    for (size_t i = 0; i < NKEPT; i++) {
        kept[i] = malloc(kept_size(i));
        memset(kept[i], (int)i + 1, kept_size(i));
    }
    for (tell(to_program, DONE); listen_to(to_thread) != END; tell(to_program, DONE)) {
        call->before();
        count = 0;
        begin_steps();
        call->stepped();
        end_steps();
        call->after();
        if (count >= nth)
            BS_CHECK(listen_to(to_thread) == FORKED, "what was said");
    }
    return arg;
}

/* --- the child ----------------------------------------------------------------------------------- */

static void check_kept(void) {
    for (size_t i = 0; i < NKEPT; i++)
        for (size_t at = 0; at < kept_size(i); at += 512)
            BS_CHECK(kept[i][at] == i + 1, "%s, instruction %ld: byte %zu of block %zu", call->name, nth, at, i);
}

__attribute__((noreturn)) static void live_on(void) {
    static unsigned char *taken[NTAKEN];

    alarm(PROMISE_CHILD_LIMIT_S);
    if (nth % 2 != 0)
        malloc_trim(0);
    for (size_t i = 0; i < NTAKEN; i++) {
        size_t size = i % 3 == 0 ? 33000 + i * 500 : i % 3 == 1 ? 700 : 1 + i * 13;

        taken[i] = malloc(size);
        BS_CHECK(taken[i] != NULL, "no memory");
        for (size_t at = 0; at < size; at += 4096)
            taken[i][at] = (unsigned char)i;
    }
    check_kept();
    for (size_t i = 0; i < NTAKEN; i++)
        BS_CHECK(taken[i][0] == (unsigned char)i, "%s, instruction %ld: block %zu is another's, too", call->name, nth, i);
    for (size_t i = 0; i < NTAKEN; i++)
        free(taken[i]);
    for (size_t i = 0; i < NKEPT; i++)
        free(kept[i]);
    malloc_trim(0);
    _exit(0);
}

/* False: the call has not so many instructions. */
static bool fork_at(long instruction) {
    int status;

    nth = instruction;
    tell(to_thread, TURN);
    if (listen_to(to_program) == DONE)
        return false;
    pid_t pid = fork();

    BS_CHECK(pid >= 0, "no child");
    if (pid == 0)
        live_on();
    tell(to_thread, FORKED);
    BS_CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
    BS_CHECK(status == 0, "%s, instruction %ld: the child ended with %#x", call->name, nth, (unsigned)status);
    BS_CHECK(listen_to(to_program) == DONE, "what was said");
    return true;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
    pthread_t thread;
    uint64_t end = now_ms() + LIMIT_MS;

    BS_CHECK(pipe(to_thread) == 0 && pipe(to_program) == 0, "no pipes");
    sigaction(SIGTRAP, &action, NULL);
    BS_CHECK(pthread_create(&thread, NULL, work, NULL) == 0, "no thread");
    (void)listen_to(to_program);
    for (long first = 1; first <= STEP && now_ms() < end; first++)
        for (size_t i = 0; i < NCALLS; i++) {
            call = &calls[i];
            for (long n = first * 8 % STEP + 1; now_ms() < end && fork_at(n); n += STEP)
                ;
        }
    tell(to_thread, END);
    pthread_join(thread, NULL);
    return 0;
}

#else

int main(void) {
    promise_skip("no trap flag here");
}

#endif
