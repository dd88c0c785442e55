/* SPDX-License-Identifier: MIT */
/*
 * check_scan_stacks.c - what lies on stacks and is dead does not hide a leak: below the stack pointer of threads
 * that live, on stacks that libc keeps of threads that ended. And what is not dead counts: where the
 * program has used the memory for something else, in neighbours of the same mapping, above another stack.
 */
#define _GNU_SOURCE
#include "scan_unit.h"

#include "bounds.h"

#include <sys/mman.h>

static __thread uintptr_t mark;
static uintptr_t hidden; /* the block that the thread leaves words about */
static bool own_stack;

/* As preload/shim_thread.c does. (Of its own frame nothing stays: the frame pointer is the upper end of it on x86-64, and
 * the lower one on arm64.) */
static void __attribute__((noinline)) tell_as(uintptr_t thread_pointer) {
    pthread_attr_t attr;
    void *low;
    size_t bytes;
    ck_assert_int_eq(pthread_getattr_np(pthread_self(), &attr), 0);
    ck_assert_int_eq(pthread_attr_getstack(&attr, &low, &bytes), 0);
    pthread_attr_destroy(&attr);
    struct bs_bounds b = {bs_os_tid(), (uintptr_t)low, (uintptr_t)low + bytes,
                          (uintptr_t)__builtin_dwarf_cfa(), &mark, !own_stack};
    bs_bounds_note(thread_pointer, &b);
    wipe_vectors();
}
static void tell(void) {
    tell_as(bs_os_thread_pointer());
}

/* Far below all that the test itself will call. */
static void __attribute__((noinline)) leave_far(uintptr_t block) {
    volatile char room[32768];
    room[0] = 0;
    leave_words(block, 20);
    (void)room[0];
}

static void *leaves_words(void *arg) {
    struct runner *r = arg;
    tell();
    leave_far(hidden);
    bs_store_release(&r->tid, bs_os_tid());
    sem_wait(&go_on);
    return NULL;
}

static uint64_t found_leaks(void) {
    must_scan();
    must_scan();
    return LEAKS_OF(site_a).leaks;
}

START_TEST(dead_frames_of_threads_hold_nothing) {
    setup(_i);
    hidden = site_a(100);
    wipe();
    start_threads(2, leaves_words);
    ck_assert_uint_eq(found_leaks(), 1);
    join_threads(2);
}
END_TEST

/* Bounds that nobody told: all of the mapping is read, as with threads that libc makes. */
static void *tells_nothing(void *arg) {
    struct runner *r = arg;
    leave_far(hidden);
    bs_store_release(&r->tid, bs_os_tid());
    sem_wait(&go_on);
    return NULL;
}

START_TEST(without_bounds_all_counts) {
    setup(_i);
    hidden = site_a(100);
    wipe();
    start_threads(1, tells_nothing);
    ck_assert_uint_eq(found_leaks(), 0);
    join_threads(1);
}
END_TEST

/* --- stacks of threads that ended ------------------------------------------------------------- */

#define STACK_BYTES (256 * 1024)
static char *stack; /* of the program's own, or where libc's was */

/* libc gives the lower part of a stack back when its thread ends, but for the last pages. */
static void *leaves_and_ends(void *arg) {
    struct runner *r = arg;
    tell();
    leave_words(hidden, 20);
    stack = (char *)bs_align_down((uintptr_t)__builtin_frame_address(0), 4096) - 16384;
    bs_store_release(&r->tid, bs_os_tid());
    return NULL;
}

START_TEST(kept_stacks_of_ended_threads_hold_nothing) {
    setup(_i);
    hidden = site_a(100);
    wipe();
    start_threads(1, leaves_and_ends);
    join_threads(1);
    ck_assert(bs_os_readable((uintptr_t)stack)); /* it is kept */
    ck_assert_uint_eq(found_leaks(), 1);
    ck_assert_uint_eq(found_leaks(), 1); /* and is known still */
}
END_TEST

static void run_on_own_stack(void *(*fn)(void *), bool is_known) {
    pthread_attr_t attr;
    void *own = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_init(&attr);
    ck_assert_int_eq(pthread_attr_setstack(&attr, own, STACK_BYTES), 0);
    sem_init(&go_on, 0, 0);
    runners[0].tid = 0;
    own_stack = is_known;
    ck_assert_int_eq(pthread_create(&runners[0].thread, &attr, fn, &runners[0]), 0);
    pthread_join(runners[0].thread, NULL);
    stack = own;
}

/* The program may keep something there, thread-local words or not. */
START_TEST(the_programs_own_memory_counts) {
    setup(_i);
    run_on_own_stack(leaves_and_ends, true);
    *(void ***)(void *)(stack + 4096) = SHOWN(site_a(100));
    wipe();
    ck_assert_uint_eq(found_leaks(), 0);
}
END_TEST

/* Once the memory is another's, with other words in the place of the mark, bounds are forgotten. */
START_TEST(what_was_unmapped_is_forgotten) {
    setup(_i);
    run_on_own_stack(leaves_and_ends, false); /* told as libc's: it is easier to unmap */
    ck_assert_int_eq(munmap(stack, STACK_BYTES), 0);
    must_scan(); /* nothing there */
    run_on_own_stack(leaves_and_ends, false);
    void *again = mmap(stack, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    ck_assert_ptr_eq(again, stack);
    *(void ***)(void *)(stack + 4096) = SHOWN(site_a(100));
    wipe();
    ck_assert_uint_eq(found_leaks(), 0);
}
END_TEST

/* --- threads that are elsewhere --------------------------------------------------------------- */

/* The block is held below the signal handler, whose stack is a part of the thread's. */
static void block_in_frame(int signo) {
    unit_handler_begins(signo);
    sem_post(&ready);
    while (!bs_load(&end_all))
        usleep(1000);
}
static void __attribute__((noinline)) hold_and_raise(void) {
    void **volatile p = SHOWN(site_a(100));
    raise(SIGUSR1);
    require(p != NULL, "lost");
}
static void *on_alternate_stack(void *arg) {
    struct runner *r = arg;
    char alternate[65536];
    stack_t s = {.ss_sp = alternate, .ss_size = sizeof alternate};
    tell();
    ck_assert_int_eq(sigaltstack(&s, NULL), 0);
    bs_store_release(&r->tid, bs_os_tid());
    hold_and_raise();
    s.ss_flags = SS_DISABLE;
    sigaltstack(&s, NULL);
    return NULL;
}

START_TEST(an_alternate_stack_says_nothing_of_the_other) {
    struct sigaction action = {.sa_handler = block_in_frame, .sa_flags = SA_ONSTACK};
    setup(_i);
    sigaction(SIGUSR1, &action, NULL);
    start_threads(1, on_alternate_stack);
    sem_wait(&ready);
    wipe();
    ck_assert_uint_eq(found_leaks(), 0);
    join_threads(1);
}
END_TEST

/* As if it had told, and then taken another thread pointer: it lives, and what it has on its stack. */
static void __attribute__((noinline)) hold_far(struct runner *r) {
    volatile char room[16384];
    void **volatile held = SHOWN(site_a(100));
    room[0] = 0;
    bs_store_release(&r->tid, bs_os_tid());
    sem_wait(&go_on);
    require(held != NULL && room[0] == 0, "lost");
}
static void *has_another_pointer(void *arg) {
    tell_as(bs_os_thread_pointer() + 4096);
    hold_far(arg);
    return NULL;
}

START_TEST(another_thread_pointer_is_no_end) {
    setup(_i);
    start_threads(1, has_another_pointer);
    wipe();
    ck_assert_uint_eq(found_leaks(), 0);
    join_threads(1);
}
END_TEST

/* The kernel alone has its address. */
static void __attribute__((noinline)) take_alternate_stack(void) {
    const stack_t s = {.ss_sp = SHOWN(site_a(65536)), .ss_size = 65536};
    ck_assert_int_eq(sigaltstack(&s, NULL), 0);
}

START_TEST(the_callers_alternate_stack_is_held) {
    const stack_t none = {.ss_flags = SS_DISABLE};
    setup(_i);
    take_alternate_stack();
    wipe();
    ck_assert_uint_eq(found_leaks(), 0);
    ck_assert_int_eq(sigaltstack(&none, NULL), 0);
    wipe();
    ck_assert_uint_eq(found_leaks(), 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("scan_stacks");
    TCase *tc = add_case(suite, "scan_stacks");
    tcase_add_loop_test(tc, dead_frames_of_threads_hold_nothing, 0, NSEARCHES);
    tcase_add_loop_test(tc, without_bounds_all_counts, 0, NSEARCHES);
    tcase_add_loop_test(tc, kept_stacks_of_ended_threads_hold_nothing, 0, NSEARCHES);
    add_loop_but_tsan(tc, the_programs_own_memory_counts, 0, NSEARCHES, "it refuses stacks so small");
    add_loop_but_tsan(tc, what_was_unmapped_is_forgotten, 0, NSEARCHES, "it refuses stacks so small");
    tcase_add_loop_test(tc, an_alternate_stack_says_nothing_of_the_other, 0, NSEARCHES);
    tcase_add_loop_test(tc, another_thread_pointer_is_no_end, 0, NSEARCHES);
    tcase_add_loop_test(tc, the_callers_alternate_stack_is_held, 0, NSEARCHES);
    return run_suite(suite);
}
