/* SPDX-License-Identifier: MIT */
/*
 * check_quarantine_race.c - two threads free one block at the same moment: both may come through without a report
 * (DESIGN.md, the quarantine), and then it is one block in quarantine, whose address is handed out once. One of the two
 * is stopped between its look whether the block is free and its word that it is: the block's page may not be written
 * just then, and the handler of the fault waits. In that time the other frees, searches are wanted, and memory.
 *
 * In the mode that stops nobody that is no promise: a thread may stand at that point for as long as a search takes, with
 * the pointer in a register alone, and clear a block that is somebody else's by then.
 */
#define _GNU_SOURCE
#include "world_unit.h"

#include "freed.h"
#include "heap.h"
#include "home_unit.h"
#include "hunt.h"
#include "large.h"
#include "opt.h"
#include "quarantine.h"

#include <sys/mman.h>

/* The functions of the program; all else is besom's text, the rest of this file too. */
#define PROGRAM __attribute__((section("program"), noinline))
extern const char __start_program[], __stop_program[];

#define HIDE(p) (~(uintptr_t)(p))
#define SHOWN(x) ((void *)~(x))
#define PAUSE_US 1000

static const size_t sizes[] = {48, 300, 5000, 40000}; /* each is cleared by another function */
static const enum bs_hunt_mode modes[] = {BS_HUNT_CONCURRENT, BS_HUNT_SOUND, BS_HUNT_STOPPED};
#define NMODES ((int)BS_ARRAY_LEN(modes))
#define WAYS (2 * NMODES * (int)BS_ARRAY_LEN(sizes))

static uintptr_t block;        /* hidden */
static size_t block_bytes;
static uint32_t stands, goes; /* [atomic] the thread that frees first */

PROGRAM static void open_block(int rights) {
    uintptr_t start = bs_align_down(~block, bs_os_page_size());
    uintptr_t end = bs_align_up(~block + block_bytes, bs_os_page_size());
    require(mprotect((void *)start, end - start, rights) == 0, "mprotect");
}
PROGRAM static void wait_in_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    if (bs_load(&stands) != 0 || (uintptr_t)info->si_addr - ~block >= block_bytes) {
        signal(number, SIG_DFL);
        return;
    }
    unit_handler_begins(number);
    bs_store_release(&stands, 1u);
    while (!bs_load_acquire(&goes))
        usleep(PAUSE_US);
}
static bool ignore_trim(bool all) {
    return all;
}
/* Its handler may have a stack of its own. */
static char alternate[65536];
PROGRAM static void *free_first(void *arg) {
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate}, before;
    sigaltstack(&stack, &before);
    bs_heap_free(SHOWN(block));
    sigaltstack(&before, NULL); /* AddressSanitizer's */
    return arg;
}

static void __attribute__((noinline)) setup(int number) {
    static const struct bs_heap_keeper keeper = {bs_quarantine_small, bs_quarantine_large, bs_quarantine_resize,
                                                 bs_quarantine_check, ignore_trim, NULL};
    struct sigaction action = {.sa_flags = SA_SIGINFO | (number % 2 == 0 ? SA_ONSTACK : 0)};
    action.sa_sigaction = wait_in_fault;
    sigaction(SIGSEGV, &action, NULL);
    bs_text_set(bs_text().base, (uintptr_t)__start_program);
    ck_assert((uintptr_t)bs_quarantine_small < (uintptr_t)__start_program);
    block_bytes = sizes[number / 2 / NMODES];
    for (unsigned i = 0; i < 3; i++)
        (void)bs_heap_alloc(block_bytes); /* besom's own words lead to the first of a heap */
    bs_heap_set_keeper(&keeper);
    block = HIDE(bs_heap_alloc(block_bytes));
    memset(SHOWN(block), 0x5a, block_bytes);
}

/* Overwrites what dead frames have left, and (the other thread's stack is the next one's) a dead thread's. */
static void __attribute__((noinline)) wipe(void) {
    volatile char junk[65536];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
    wipe_vectors();
}
static void *wipe_stack(void *arg) {
    wipe();
    return arg;
}
static void wipe_dead_stack(void) {
    pthread_t thread;
    memset(alternate, 0, sizeof alternate);
    ck_assert_int_eq(pthread_create(&thread, NULL, wipe_stack, NULL), 0);
    pthread_join(thread, NULL);
}
static void __attribute__((noinline)) free_block(void) {
    bs_heap_free(SHOWN(block));
}
static struct bs_hunt_result hunt(int number) {
    struct bs_hunt_result got;
    wipe();
    ck_assert(bs_hunt_run(modes[number / 2 % NMODES], 0, NULL, &got));
    return got;
}
/* How many of so many new blocks are the block; they are in use from now on. */
static unsigned __attribute__((noinline)) count_blocks(unsigned n) {
    unsigned times = 0;
    for (unsigned i = 0; i < n; i++) {
        void *p = bs_heap_alloc(block_bytes);
        require(p != NULL, "no memory");
        times += HIDE(p) == block;
        memset(p, 0x77, block_bytes);
    }
    return times;
}
static bool __attribute__((noinline)) is_whole(void) {
    for (size_t i = 0; i < block_bytes; i++)
        if (((const unsigned char *)SHOWN(block))[i] != 0x77)
            return false;
    return true;
}

#define MANY 400 /* blocks: more than a span has, and than caches hold of these sizes */

START_TEST(a_block_that_two_free_is_one_block) {
    pthread_t thread;
    setup(_i);
    open_block(PROT_READ);
    ck_assert_int_eq(pthread_create(&thread, NULL, free_first, NULL), 0);
    for (unsigned i = 0; i < 20000 && !bs_load_acquire(&stands); i++)
        usleep(PAUSE_US);
    ck_assert_uint_eq(bs_load(&stands), 1);
    open_block(PROT_READ | PROT_WRITE);
    free_block(); /* the first has not said yet that it is free: no report */
    for (unsigned i = 0; i < 2; i++) {
        struct bs_hunt_result got = hunt(_i);
        require(got.end != BS_SCAN_DONE, "a search, with a thread in the middle of a free");
        ck_assert_int_eq(got.world, BS_WORLD_INSIDE);
        ck_assert_uint_eq(count_blocks(MANY), 0);
    }

    bs_store_release(&goes, 1u);
    pthread_join(thread, NULL);
    wipe_dead_stack();
    ck_assert_uint_eq(count_blocks(MANY), 0);
    struct bs_hunt_result got = hunt(_i);
    require(got.end == BS_SCAN_DONE, "end %d, world %d, thread %d", got.end, got.world, got.culprit);
    ck_assert_uint_eq(got.held.blocks, 1);
    ck_assert_uint_eq(got.released.gone.blocks, 1);
    ck_assert_uint_eq(count_blocks(MANY), 1);
    ck_assert_uint_eq(hunt(_i).held.blocks, 0);
    ck_assert_uint_eq(count_blocks(MANY), 0);
    ck_assert(is_whole());

    free_block(); /* it is its owner's, and may be freed once */
    got = hunt(_i);
    ck_assert_uint_eq(got.held.blocks, 1);
}
END_TEST

int main(void) {
    all_sizes_at_home();
    Suite *suite = suite_create("quarantine_race");
    TCase *tc = add_case(suite, "quarantine_race");
    tcase_add_loop_test(tc, a_block_that_two_free_is_one_block, 0, WAYS);
    return run_suite(suite);
}
