/* SPDX-License-Identifier: MIT */
/*
 * check_unwind.c - the walk up the stack: through code with and without frame pointers, through libc,
 * signal frames and odd frames it finds every return address that the functions themselves know; on
 * stacks and tables full of rubbish it ends, and touches nothing that is not there.
 */
#include "cfi.h"
#include "unit.h"
#include "unwind.h"

#include <alloca.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

static struct bs_walk walk;
/* What each function on the way knows of its return; the innermost last. */
static void *volatile returns[64];
static volatile unsigned nreturns;

#define NOTE_RETURN() (returns[nreturns++] = __builtin_return_address(0))
#define WITH_FP __attribute__((noinline, optimize("no-omit-frame-pointer")))
#define WITHOUT_FP __attribute__((noinline, optimize("omit-frame-pointer")))
/* After a call, so that it is none in tail position. */
#define STAY() __asm__ volatile("")

static void reset(void) {
    nreturns = 0;
    memset(&walk, 0xee, sizeof walk);
}

static void __attribute__((noinline)) take(void) {
    NOTE_RETURN();
    bs_unwind(&walk);
    STAY();
}

/* Every return that was noted is in the walk, in order; frames of libc may lie between them. */
static void check_returns(void) {
    unsigned i = 1;
    ck_assert_uint_ge(walk.n, 2);
    for (unsigned r = nreturns; r-- > 0; i++) {
        while (i < walk.n && walk.pc[i] + 1 != (uintptr_t)returns[r])
            i++;
        require(i < walk.n, "return %u of %u is missing among %u frames", r, nreturns, walk.n);
    }
}

/* --- kinds of frames -------------------------------------------------------------------------- */

static int WITHOUT_FP without_fp(int depth) {
    volatile char room[200];
    NOTE_RETURN();
    room[0] = (char)depth;
    if (depth == 0)
        take();
    else
        without_fp(depth - 1);
    STAY();
    return room[0];
}
static int WITH_FP with_fp(int depth) {
    volatile char room[200];
    NOTE_RETURN();
    room[0] = (char)depth;
    if (depth == 0)
        take();
    else
        with_fp(depth - 1);
    STAY();
    return room[0];
}
static int __attribute__((noinline)) odd_frames(int depth) {
    NOTE_RETURN();
    volatile __attribute__((aligned(128))) char aligned[128];
    volatile char *variable = alloca((size_t)depth * 1000 + 16);
    aligned[0] = variable[0] = 1;
    if (depth == 0)
        take();
    else
        odd_frames(depth - 1);
    STAY();
    return aligned[0] + variable[0];
}
static int __attribute__((noinline)) mixed(int depth) {
    NOTE_RETURN();
    int x = depth % 2 == 0 ? without_fp(1) : odd_frames(2);
    STAY();
    return x;
}

START_TEST(functions_without_frame_pointers) {
    reset();
    without_fp(20);
    check_returns();
    ck_assert_uint_gt(walk.n, 22);
}
END_TEST

START_TEST(odd_kinds_of_frames) {
    for (int i = 0; i < 4; i++) {
        reset();
        mixed(i);
        check_returns();
        reset();
        with_fp(5);
        check_returns();
    }
}
END_TEST

START_TEST(a_deep_stack_gives_the_innermost_frames) {
    reset();
    without_fp(50);
    ck_assert_uint_eq(walk.n, BS_UNWIND_MAX);
    for (unsigned i = 1; i < BS_UNWIND_MAX; i++)
        ck_assert_uint_eq(walk.pc[i] + 1, (uintptr_t)returns[nreturns - i]);
}
END_TEST

static int through_libc(const void *a, const void *b) {
    if (nreturns == 0) { /* some qsort compare more often than others */
        NOTE_RETURN();
        without_fp(2);
    }
    return *(const int *)a - *(const int *)b;
}
START_TEST(calls_through_libc) {
    int x[] = {2, 1};
    reset();
    qsort(x, 2, sizeof *x, through_libc);
    check_returns();
    bool other = false;
    for (unsigned i = 0; i < walk.n; i++)
        other |= walk.place[i] < walk.nplaces && walk.place[i] != walk.place[0];
    ck_assert(other);
}
END_TEST

/* What is noted is not looked for, and is what is found. */
START_TEST(modules_that_stay) {
    int x[] = {2, 1};
    struct bs_place place;
    for (int i = 0; i < 2; i++) /* the second says nothing new */
        bs_unwind_note_lasting((const void *)(uintptr_t)take);
    bs_unwind_note_lasting((const void *)(uintptr_t)dl_iterate_phdr);
    bs_unwind_note_lasting(x);
    reset();
    qsort(x, 2, sizeof *x, through_libc);
    check_returns();
    for (unsigned i = 0; i < walk.nplaces; i++) {
        const struct bs_place *w = &walk.places[i];
        ck_assert(bs_unwind_find_place((const void *)w->start, &place));
        ck_assert(place.start == w->start && place.end == w->end && place.eh_frame_hdr == w->eh_frame_hdr &&
                  place.link_map == w->link_map);
    }
    ck_assert_uint_eq(walk.lasts[walk.place[0]], 1);
    bool libc = false;
    for (unsigned i = 0; i < walk.n; i++)
        libc |= walk.place[i] < walk.nplaces && walk.lasts[walk.place[i]] == 2;
    ck_assert(libc);
}
END_TEST

/* From now on the kernel ends the process where a walk asks whether a page is there, but for pages of this stack. */
static bool forbid_questions(void) {
    uint64_t here = (uintptr_t)__builtin_frame_address(0), low = here - 65536, high = here + 65536;
    const unsigned question = offsetof(struct seccomp_data, args[0]), page = offsetof(struct seccomp_data, args[1]);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 0, 7),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, question),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, UINT32_MAX, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, page + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(low >> 32), 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, page),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)low, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)high, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    const struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return low >> 32 == high >> 32 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Functions enough that two of their calls, or libc's, come to lie in one set of what is remembered. */
#define ONE_OF(n)                                          \
    static void __attribute__((noinline)) one_of_##n(void) { \
        take();                                            \
        __asm__ volatile("nop # " #n);                     \
    }
ONE_OF(0) ONE_OF(1) ONE_OF(2) ONE_OF(3) ONE_OF(4) ONE_OF(5) ONE_OF(6) ONE_OF(7) ONE_OF(8) ONE_OF(9)
static void (*const one_of[])(void) = {one_of_0, one_of_1, one_of_2, one_of_3, one_of_4,
                                       one_of_5, one_of_6, one_of_7, one_of_8, one_of_9};

/* 0: none of a second round of walks, to the program's first frame, has asked the kernel for a table. */
static int second_walks(void) {
    enum { N = sizeof one_of / sizeof one_of[0] };
    unsigned n = 0;
    for (volatile unsigned i = 0; i < 2 * N; i++) { /* from one place */
        if (i == N && ((n = walk.n) >= BS_UNWIND_MAX || !forbid_questions()))
            return 2;
        reset();
        one_of[i % N]();
    }
    return walk.n != n;
}
START_TEST(what_was_walked_once_is_remembered) {
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(second_walks());
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        return; /* no filter is to be had here */
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the walks ended with %x", (unsigned)status);
}
END_TEST

static void *in_thread(void *arg) {
    for (int i = 0; i < 1000; i++) {
        nreturns = 0;
        without_fp(3);
    }
    return arg;
}
START_TEST(a_thread_ends_where_it_began) {
    pthread_t t;
    reset();
    ck_assert_int_eq(pthread_create(&t, NULL, in_thread, NULL), 0);
    pthread_join(t, NULL);
    check_returns();
    ck_assert_uint_le(walk.n, 10);
}
END_TEST

/* --- signals ---------------------------------------------------------------------------------- */

static uintptr_t interrupted;

static void on_signal(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
#if defined(__x86_64__)
    interrupted = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#else
    interrupted = (uintptr_t)((ucontext_t *)context)->uc_mcontext.pc;
#endif
    take();
    STAY();
}

/* Faults at its first instructions, with nothing on the stack but the return address. */
static int __attribute__((noinline)) faulting_leaf(volatile int *p) {
    return *p;
}
static int __attribute__((noinline)) call_leaf(volatile int *p) {
    NOTE_RETURN();
    int x = faulting_leaf(p);
    STAY();
    return x;
}

static void judge(int sig, siginfo_t *info, void *context) {
    on_signal(sig, info, context);
    bool exact = false;
    unsigned i = 0;
    for (; i < walk.n && !exact; i++)
        exact = walk.pc[i] == interrupted;
    bool caller = false;
    for (; i < walk.n; i++)
        caller |= walk.pc[i] + 1 == (uintptr_t)returns[0];
    _exit(exact && caller ? 42 : 43);
}
static int child_status(int flags) {
    static char alternate[64 * 1024];
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        volatile int *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct sigaction sa = {.sa_sigaction = judge, .sa_flags = SA_SIGINFO | flags};
        stack_t s = {.ss_sp = alternate, .ss_size = sizeof alternate};
        sigaltstack(&s, NULL);
        sigaction(SIGSEGV, &sa, NULL);
        call_leaf(page);
        _exit(1);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
START_TEST(an_interrupted_leaf) {
    ck_assert_int_eq(child_status(0), 42);
}
END_TEST
START_TEST(from_an_alternate_stack) {
    ck_assert_int_eq(child_status(SA_ONSTACK), 42);
}
END_TEST

/* --- frame pointers alone --------------------------------------------------------------------- */

START_TEST(frame_pointers_alone) {
    bs_unwind_set_tables(false);
    reset();
    with_fp(10);
    bs_unwind_set_tables(true);
    ck_assert_uint_ge(walk.n, 10);
    /* which of the innermost two keeps one is the compiler's choice */
    unsigned found = 0;
    for (unsigned i = 0; i < walk.n; i++)
        for (unsigned r = 0; r < nreturns; r++)
            found += walk.pc[i] + 1 == (uintptr_t)returns[r];
    ck_assert_uint_ge(found, 9);
    for (unsigned i = 0; i < walk.n; i++)
        ck_assert_uint_eq(walk.place[i], BS_UNWIND_PLACES);
}
END_TEST

/* --- rubbish ---------------------------------------------------------------------------------- */

static ucontext_t home, away;
static uint64_t seed;
static uintptr_t stack_low, stack_top;

static uint64_t rubbish(uintptr_t frame) {
    switch (random_below(&seed, 8)) {
    case 0: return random_next(&seed);
    case 1: return frame + random_below(&seed, stack_top - frame + 64);
    case 2: return (frame + random_below(&seed, stack_top - frame)) & ~(uint64_t)15;
    case 3: return frame;
    case 4: return stack_top - 8 * random_below(&seed, 4);
    case 5: return (uint64_t)(uintptr_t)take + random_below(&seed, 64);
    case 6: return (uint64_t)(uintptr_t)qsort + random_below(&seed, 64);
    default: return random_below(&seed, 4096);
    }
}

/* Never returns: what it would return to is gone. */
static void __attribute__((noinline, no_sanitize("address"))) spoil_and_walk(void) {
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    for (uintptr_t p = frame; p < stack_top; p += 8)
        *(volatile uint64_t *)p = rubbish(frame);
    bs_unwind(&walk);
    setcontext(&home);
}
static void WITH_FP spoiled(void) {
    volatile char room[600] = {1};
    spoil_and_walk();
    (void)room[0];
}

/* On a stack whose last byte is the last before an inaccessible page. */
START_TEST(rubbish_on_the_stack) {
    const size_t bytes = 64 * 1024;
    char *map =
        mmap(NULL, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(map, MAP_FAILED);
    ck_assert_int_eq(mprotect(map + bytes, 4096, PROT_NONE), 0);
    stack_low = (uintptr_t)map;
    stack_top = stack_low + bytes;
    seed = 7;
    for (volatile unsigned i = 0; i < 20000 / UNIT_SLOWNESS; i++) {
        bs_unwind_set_tables(i % 2 == 0);
        volatile bool done = false;
        getcontext(&home);
        if (done)
            continue;
        done = true;
        getcontext(&away);
        away.uc_stack.ss_sp = map;
        away.uc_stack.ss_size = bytes;
        away.uc_link = NULL;
        makecontext(&away, spoiled, 0);
        setcontext(&away);
    }
    bs_unwind_set_tables(true);
    munmap(map, bytes + 4096);
}
END_TEST

/* A copy of this program with its tables damaged, asked about every kind of place in it. */
START_TEST(damaged_tables) {
    struct bs_place place;
    struct bs_cfi_row row;
    ck_assert(bs_unwind_find_place((const void *)(uintptr_t)take, &place));
    size_t bytes = place.end - place.start;
    char *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t state = 99, stack[64];
    struct bs_probe original = bs_probe_of(place.start, place.end);
    uint64_t byte;
    for (size_t i = 0; i < bytes; i++)
        if (bs_probe_read(&original, place.start + i, 1, &byte))
            copy[i] = (char)byte;
    uintptr_t hdr = (uintptr_t)copy + (place.eh_frame_hdr - place.start);
    uintptr_t pc = (uintptr_t)copy + ((uintptr_t)take - place.start);
    struct bs_probe m = bs_probe_of((uintptr_t)copy, (uintptr_t)copy + bytes);
    ck_assert(bs_cfi_find(&m, hdr, pc + 1, &row));
    unsigned found = 0;
    size_t tables = place.eh_frame_hdr - place.start, length = (bytes - tables) / 2;
    char *whole = malloc(length);
    memcpy(whole, copy + tables, length);
    for (unsigned i = 0; i < 200000 / UNIT_SLOWNESS; i++) {
        if (i % 16 == 0)
            memcpy(copy + tables, whole, length);
        size_t at = tables + random_skewed(&state, 13) % length;
        copy[at] = (char)random_next(&state);
        for (unsigned j = 0; j < 64; j++)
            stack[j] = random_next(&state);
        struct bs_probe s = bs_probe_of((uintptr_t)stack, (uintptr_t)(stack + 64));
        struct bs_cfi_regs regs = {.known = UINT32_MAX};
        for (unsigned j = 0; j < BS_CFI_NREGS; j++)
            regs.value[j] = (uintptr_t)stack + random_below(&state, sizeof stack);
        uintptr_t ask = random_below(&state, 4) == 0 ? random_below(&state, bytes) + (uintptr_t)copy
                                                     : pc + random_below(&state, 4096);
        if (bs_cfi_find(&m, hdr, ask, &row)) {
            found++;
            (void)bs_cfi_step(&m, &s, &row, &regs);
        }
    }
    free(whole);
    ck_assert_uint_gt(found, 1000);
    munmap(copy, bytes);
}
END_TEST

/* --- the loader's lock ------------------------------------------------------------------------ */

static volatile int inside, walked, gave_up;

static int hold_lock(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)info, (void)size, (void)arg;
    inside = 1;
    for (int i = 0; i < 60000 && !walked; i++)
        usleep(1000);
    gave_up = !walked;
    return 1;
}
static void *hold(void *arg) {
    dl_iterate_phdr(hold_lock, NULL);
    return arg;
}
START_TEST(the_loaders_lock_is_not_taken) {
    pthread_t t;
    pthread_create(&t, NULL, hold, NULL);
    while (!inside)
        usleep(1000);
    reset();
    without_fp(5); /* would wait until the holder gives up */
    check_returns();
    walked = 1;
    pthread_join(t, NULL);
    ck_assert_msg(!gave_up, "the walk waited for the lock");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("unwind");
    TCase *tc = add_case(suite, "frames");
    tcase_add_test(tc, functions_without_frame_pointers);
    tcase_add_test(tc, odd_kinds_of_frames);
    tcase_add_test(tc, a_deep_stack_gives_the_innermost_frames);
    tcase_add_test(tc, calls_through_libc);
    tcase_add_test(tc, modules_that_stay);
    tcase_add_test(tc, what_was_walked_once_is_remembered);
    tcase_add_test(tc, a_thread_ends_where_it_began);
    tcase_add_test(tc, an_interrupted_leaf);
    tcase_add_test(tc, from_an_alternate_stack);
    tcase_add_test(tc, frame_pointers_alone);
    tcase_add_test(tc, the_loaders_lock_is_not_taken);
    tc = add_case(suite, "rubbish");
    tcase_add_test(tc, rubbish_on_the_stack);
    tcase_add_test(tc, damaged_tables);
    return run_suite(suite);
}
