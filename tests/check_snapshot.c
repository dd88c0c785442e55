/* SPDX-License-Identifier: MIT */
/*
 * check_snapshot.c - a copy of the process sees memory as it stood, leaves its result, and nothing else:
 * no SIGCHLD, no child for wait, no descriptor; it ends when its time is over, and a crash of it is
 * known as one; and what it costs in memory is seen, and bounded. Threads that stood go on as if there was none.
 */
#define _GNU_SOURCE
#include "budget.h"
#include "heap.h"
#include "limit.h"
#include "meta.h"
#include "os.h"
#include "scan.h"
#include "snapshot.h"
#include "world_unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

struct shared {
    uint64_t value, done, nice, parent;
    int fds;
    uint64_t blocked;
    char name[16];
};
static struct shared *shared;
static uint64_t value = 1;
static unsigned nsignals;

static void count_signal(int signo) {
    (void)signo;
    nsignals++;
}
static void setup(void) {
    signal(SIGCHLD, count_signal);
    shared = bs_os_alloc_shared(sizeof *shared);
    ck_assert_ptr_nonnull(shared);
}
static uint64_t in_ms(unsigned ms) {
    return bs_os_now_ns() + ms * MS;
}
static int count_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}
/* Nothing is left of any child. */
static void must_be_gone(void) {
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    ck_assert_int_eq(errno, ECHILD);
    ck_assert_uint_eq(nsignals, 0);
}

static void look(void *arg) {
    ck_assert_ptr_eq(arg, &value);
    while (bs_load_acquire(&shared->parent) == 0)
        usleep(1000);
    shared->value = value;
    bs_os_clone_give_way();
    shared->nice = (uint64_t)getpriority(PRIO_PROCESS, 0);
    shared->fds = count_fds();
    prctl(PR_GET_NAME, shared->name);
    syscall(SYS_rt_sigprocmask, 0, NULL, &shared->blocked, 8);
    value = 3;
    shared->done = 1;
}

START_TEST(it_sees_the_moment) {
    struct bs_snapshot s;
    int fds = count_fds();
    ck_assert(bs_snapshot_start(&s, look, &value));
    ck_assert_int_eq(count_fds(), fds);
    value = 2;
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* not ours, as far as the program knows */
    ck_assert_int_eq(errno, ECHILD);
    bs_store_release(&shared->parent, 1u);
    ck_assert_int_eq(bs_snapshot_wait(&s, in_ms(100000), NULL, NULL), BS_SNAPSHOT_DONE);
    ck_assert_uint_eq(shared->done, 1);
    ck_assert_uint_eq(shared->value, 1);
    ck_assert_uint_eq(value, 2);
    ck_assert_uint_eq(shared->nice, 19);
    ck_assert_int_eq(shared->fds, 0);
    ck_assert_str_eq(shared->name, "besom scan");
    ck_assert_uint_eq(~shared->blocked, 1u << (SIGKILL - 1) | 1u << (SIGSTOP - 1));
    ck_assert_int_eq(count_fds(), fds);
    must_be_gone();
}
END_TEST

/* A reader of a pipe sees its end although a copy lives on. */
START_TEST(it_holds_no_descriptor_open) {
    struct bs_snapshot s;
    int fd[2];
    char byte;
    ck_assert_int_eq(pipe(fd), 0);
    ck_assert(bs_snapshot_start(&s, look, &value));
    close(fd[1]);
    struct pollfd p = {.fd = fd[0], .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 100000), 1);
    ck_assert_int_eq(read(fd[0], &byte, 1), 0);
    bs_store_release(&shared->parent, 1u);
    ck_assert_int_eq(bs_snapshot_wait(&s, in_ms(100000), NULL, NULL), BS_SNAPSHOT_DONE);
    must_be_gone();
}
END_TEST

static void stay(void *arg) {
    (void)arg;
    for (;;)
        pause();
}
static bool now(void *ctx) {
    return ctx == &value;
}

START_TEST(it_ends_when_told) {
    struct bs_snapshot s;
    ck_assert(bs_snapshot_start(&s, stay, NULL));
    uint64_t start = bs_os_now_ns();
    bool by_time = _i == 0;
    ck_assert_int_eq(bs_snapshot_wait(&s, in_ms(by_time ? 50 : 200000), by_time ? NULL : now,
                                      &value),
                     BS_SNAPSHOT_KILLED);
    ck_assert(bs_os_now_ns() - start < 100000 * MS);
    ck_assert(WIFSIGNALED(s.status) && WTERMSIG(s.status) == SIGKILL);
    must_be_gone();
}
END_TEST

static void crash(void *arg) {
    *(volatile int *)arg = 1;
}
static void abort_in_handler(int signo) {
    (void)signo;
    if (shared != NULL)
        shared->done = 2;
    _exit(0);
}

START_TEST(a_crash_is_known) {
    struct bs_snapshot s;
    signal(SIGSEGV, abort_in_handler); /* the program's own does not run in the copy */
    ck_assert(bs_snapshot_start(&s, crash, NULL));
    ck_assert_int_eq(bs_snapshot_wait(&s, in_ms(60000), NULL, NULL), BS_SNAPSHOT_DIED);
    ck_assert_uint_eq(shared->done, 0);
#if !BS_SANITIZED
    ck_assert(WIFSIGNALED(s.status) && WTERMSIG(s.status) == SIGSEGV && !WCOREDUMP(s.status));
#endif
    must_be_gone();
}
END_TEST

/* It does not outlive the process. */
START_TEST(it_dies_with_us) {
    int fd[2], pid = 0;
    ck_assert_int_eq(pipe(fd), 0);
    if (fork() == 0) {
        struct bs_snapshot s;
        int me = bs_snapshot_start(&s, stay, NULL) ? s.pid : -1;
        ck_assert_int_eq(write(fd[1], &me, sizeof me), sizeof me);
        _exit(0);
    }
    ck_assert_int_eq(read(fd[0], &pid, sizeof pid), sizeof pid);
    ck_assert_int_gt(pid, 0);
    for (unsigned i = 0; kill(pid, 0) == 0 && i < 60000; i++) {
        char path[64], state = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", pid); /* nobody may be there to reap it */
        FILE *f = fopen(path, "r");
        if (f == NULL || (fscanf(f, "%*d (besom scan) %c", &state) == 1 && state == 'Z')) {
            if (f != NULL)
                fclose(f);
            break;
        }
        fclose(f);
        require(i < 59999, "it lives on, state %c", state);
        usleep(1000);
    }
}
END_TEST

/* --- what it costs ---------------------------------------------------------------------------- */

#define BUDGET (8 * BS_MIB)
#define WRITTEN (16 * BS_MIB)

static char *make_memory(size_t bytes) {
    char *p = bs_os_alloc(bytes);
    ck_assert_ptr_nonnull(p);
    ck_assert_int_ne(bs_os_no_huge_pages(p, bytes), ENOMEM);
    memset(p, 1, bytes);
    return p;
}
static enum bs_snapshot_end wait_with(struct bs_snapshot *s, struct bs_budget *b, unsigned ms) {
    bs_budget_begin(b, s->pid, BUDGET);
    return bs_snapshot_wait(s, in_ms(ms), bs_budget_is_over, b);
}

START_TEST(a_budget_of_copied_pages) {
    struct bs_snapshot s;
    struct bs_budget b;
    char *p = make_memory(WRITTEN);
    ck_assert(bs_snapshot_start(&s, stay, NULL));
    bs_budget_begin(&b, s.pid, BUDGET);
    for (unsigned tries = 0; tries < 60000 && b.own_bytes == 0; tries++) { /* the copy has to begin, and is looked at seldom */
        ck_assert(!bs_budget_is_over(&b));
        usleep(1000);
    }
    require(b.end == BS_BUDGET_KEPT && b.own_bytes != 0 && b.own_bytes < BUDGET,
            "nothing was written: end %d, %zu bytes", b.end, b.own_bytes);
    bs_os_clone_kill(s.pid);
    ck_assert(bs_snapshot_start(&s, stay, NULL));
    memset(p, 2, WRITTEN);
    ck_assert_int_eq(wait_with(&s, &b, 60000), BS_SNAPSHOT_KILLED);
    require(b.end == BS_BUDGET_COPIED && b.own_bytes >= WRITTEN, "end %d, %zu bytes", b.end, b.own_bytes);
    bs_os_free(p, WRITTEN);
    must_be_gone();
}
END_TEST

START_TEST(none_while_memory_is_short) {
    struct bs_snapshot s;
    struct bs_budget b;
    char *p = make_memory(WRITTEN);
    bs_opt.limit = (struct bs_opt_limit){BS_LIMIT_BYTES, BS_LIMIT_MIN_BYTES};
    bs_limit_start();
    ck_assert_ptr_nonnull(bs_meta_map(4 * BS_MIB));
    ck_assert_int_eq(bs_limit_pressure(), BS_PRESSURE_OVER);
    ck_assert(bs_snapshot_start(&s, stay, NULL));
    ck_assert_int_eq(wait_with(&s, &b, 60000), BS_SNAPSHOT_KILLED);
    ck_assert_int_eq(b.end, BS_BUDGET_MEMORY);
    bs_os_free(p, WRITTEN);
    must_be_gone();
}
END_TEST

/* A look walks page tables: there is none before its time, nor one that nobody needs. */
START_TEST(looks_are_seldom) {
    struct bs_budget b;
    const size_t most[] = {SIZE_MAX, SIZE_MAX - 1};
    for (size_t i = 0; i < BS_ARRAY_LEN(most); i++) {
        bs_budget_begin(&b, 0, most[i]); /* pid 0: this process */
        ck_assert(!bs_budget_is_over(&b));
        b.next_look_ns = b.next_limits_ns = UINT64_MAX;
        ck_assert(!bs_budget_is_over(&b));
        ck_assert_uint_eq(b.own_bytes, 0);
        b.next_look_ns = b.next_limits_ns = 1;
        uint64_t start = bs_os_now_ns();
        ck_assert(!bs_budget_is_over(&b));
        ck_assert_uint_eq(b.own_bytes != 0, most[i] != SIZE_MAX);
        ck_assert(most[i] == SIZE_MAX || b.next_look_ns >= start + BS_BUDGET_LOOK_NS);
        ck_assert_uint_ge(b.next_limits_ns, start + BS_BUDGET_LIMITS_NS);
    }
}
END_TEST

/* It writes itself, and tells what the parent wrote. */
static void write_and_tell(void *arg) {
    memset(arg, 3, WRITTEN / 2);
    while (bs_load_acquire(&shared->parent) == 0)
        usleep(1000);
    shared->value = bs_budget_copied_bytes();
}

START_TEST(a_copy_knows_what_was_copied) {
    struct bs_snapshot s;
    char *p = make_memory(2 * WRITTEN);
    ck_assert(bs_snapshot_start(&s, write_and_tell, p));
    memset(p + WRITTEN, 2, WRITTEN);
    bs_store_release(&shared->parent, 1u);
    ck_assert_int_eq(bs_snapshot_wait(&s, in_ms(60000), NULL, NULL), BS_SNAPSHOT_DONE);
    require(shared->value > WRITTEN - 2 * BS_MIB && shared->value < WRITTEN + 2 * BS_MIB, "%zu bytes of %zu",
            (size_t)shared->value, (size_t)WRITTEN);
    bs_os_free(p, 2 * WRITTEN);
}
END_TEST

START_TEST(budgets_by_option) {
    const size_t none = SIZE_MAX;
    ck_assert_uint_eq(bs_budget_from((struct bs_opt_limit){BS_LIMIT_OFF, 0}, 1000), none);
    ck_assert_uint_eq(bs_budget_from((struct bs_opt_limit){BS_LIMIT_BYTES, 5}, 1000), 5);
    ck_assert_uint_eq(bs_budget_from((struct bs_opt_limit){BS_LIMIT_PERCENT, 10}, 1000), 100);
    ck_assert_uint_eq(bs_budget_from((struct bs_opt_limit){BS_LIMIT_AUTO, 0}, 1000), 64 * BS_MIB);
    ck_assert_uint_eq(bs_budget_from((struct bs_opt_limit){BS_LIMIT_AUTO, 0}, BS_GIB), BS_GIB / 4);
}
END_TEST

#if !BS_SANITIZED
/* Without a timeout: the kernel begins it again by itself after a stop. */
static void *waits(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all))
        syscall(SYS_futex, &end_all, FUTEX_WAIT_PRIVATE, 0, NULL);
    return NULL;
}
static unsigned long faults_of(int tid) {
    char path[64], text[512] = "";
    unsigned long faults = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(text, sizeof text, f));
    fclose(f);
    ck_assert_int_eq(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %lu", &faults), 1);
    return faults;
}
static unsigned long faults_of_all(unsigned n) {
    unsigned long faults = 0;
    for (unsigned i = 0; i < n; i++)
        faults += faults_of(runners[i].tid);
    return faults;
}

static void must_be_by_copy(void *ctx, const struct bs_scan_result *r) {
    (void)ctx;
    ck_assert_int_eq(r->end, BS_SCAN_DONE);
    ck_assert(!r->in_place && !r->concurrent);
}
static void scan_a_copy(void) {
    static const struct bs_scan_rules rules = {.concurrent = BS_SCAN_CONCURRENT_NEVER};
    bs_heap_free(bs_heap_alloc(10));
    ck_assert(bs_scan_run(&rules, must_be_by_copy, NULL));
}
static void just_copy(void) {
    struct bs_snapshot s;
    must_stop();
    bool made = bs_snapshot_start(&s, stay, NULL);
    resume();
    must_stop(); /* all have been back */
    resume();
    ck_assert(made);
    ck_assert_int_eq(bs_snapshot_wait(&s, 0, NULL, NULL), BS_SNAPSHOT_KILLED);
}

/* Neither in the stop's handler nor where they came from. Else each has one to three, as after a mere copy. */
START_TEST(threads_go_on_without_a_fault) {
    char page[2 * 4096] = "";
    enum { N = 4 };
    if (bs_os_populate((void *)bs_align_up((uintptr_t)page, 4096), 4096) == EINVAL)
        return; /* before Linux 5.14 */
    start_threads(N, waits);
    for (unsigned i = 0; i < 3; i++) { /* the frame's pages are there then */
        must_stop();
        resume();
        usleep(10000);
    }
    unsigned long before = faults_of_all(N);
    if (_i == 0)
        scan_a_copy();
    else
        just_copy();
    unsigned long faults = faults_of_all(N) - before;
    ck_assert_msg(_i == 0 ? faults < N : faults >= 2 * N, "%lu faults", faults); /* (one may be caught on its way) */
    bs_store(&end_all, 1u);
    syscall(SYS_futex, &end_all, FUTEX_WAKE_PRIVATE, N);
    join_threads(N);
    must_be_gone();
}
END_TEST
#endif

START_TEST(a_refusal_is_told) {
    struct bs_snapshot s;
    bs_os_fail(1, EAGAIN, false);
    ck_assert(!bs_snapshot_start(&s, stay, NULL));
    ck_assert_int_eq(s.error, EAGAIN);
    ck_assert_int_eq(s.pid, 0);
    must_be_gone();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("snapshot");
    TCase *tc = add_case(suite, "snapshot");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, it_sees_the_moment);
    tcase_add_test(tc, it_holds_no_descriptor_open);
    tcase_add_loop_test(tc, it_ends_when_told, 0, 2);
    tcase_add_test(tc, a_crash_is_known);
    tcase_add_test(tc, it_dies_with_us);
    tcase_add_test(tc, a_budget_of_copied_pages);
    tcase_add_test(tc, none_while_memory_is_short);
    tcase_add_test(tc, a_copy_knows_what_was_copied);
    tcase_add_test(tc, looks_are_seldom);
    tcase_add_test(tc, budgets_by_option);
#if !BS_SANITIZED
    tcase_add_loop_test(tc, threads_go_on_without_a_fault, 0, 2);
#endif
    tcase_add_test(tc, a_refusal_is_told);
    return run_suite(suite);
}
