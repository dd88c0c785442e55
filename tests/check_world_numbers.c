/* SPDX-License-Identifier: MIT */
/*
 * check_world_numbers.c - threads end while the world is being stopped, and others get their numbers: whoever has a
 * number that was the helper's, that was asked before, or that the kernel's own thread had, stands like all others.
 *
 * The stopper is held (hold_call.h) where it sends its signal, in a name space for process numbers, in which the next
 * number can be chosen, and there can be few of them. Where that is refused, tests say so and are passed over.
 */
#define _GNU_SOURCE
#include "hold_call.h"
#include "world_internal.h"
#include "world_unit.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/utsname.h>

#define SKIP 77

/* --- a name space ------------------------------------------------------------------------------ */

static bool write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return written;
}
static bool write_number(const char *path, int number) {
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    return write_text(path, text);
}
static bool choose_next(int number) {
    return write_number("/proc/sys/kernel/ns_last_pid", number - 1);
}

static bool enter_space(void) {
    char map[32];
    snprintf(map, sizeof map, "0 %d 1", (int)getuid());
    return unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS) == 0 && write_text("/proc/self/setgroups", "deny") &&
           write_text("/proc/self/uid_map", map) && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

struct job {
    void (*fn)(int number);
    int number;
};
static void pass_on(pid_t child) {
    int status;
    CHILD_CHECK(child > 0 && waitpid(child, &status, 0) == child);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
/* Its first process has no default actions, so the job is the second's. */
static void run_in_space(void *arg) {
    const struct job *job = arg;
    if (!enter_space())
        _exit(SKIP);
    pid_t first = fork();
    if (first != 0)
        pass_on(first);
    if (mount("proc", "/proc", "proc", 0, NULL) != 0 || !choose_next(100))
        _exit(SKIP);
    pid_t second = fork();
    if (second != 0)
        pass_on(second);
    job->fn(job->number);
    _exit(0);
}
static void run_job(void (*fn)(int), int number, const char *name) {
    struct job job = {fn, number};
    struct outcome o = child_run(run_in_space, &job, unit_child_limit_s());
    if (WIFEXITED(o.status) && WEXITSTATUS(o.status) == SKIP)
        printf("skipped: %s: no name space for process numbers, or no system call is held here\n", name);
    else
        ck_assert_msg(child_ended_well(&o), "status %#x: %s", (unsigned)o.status, o.err);
}

/* --- chosen numbers --------------------------------------------------------------------------- */

static bool exists(int tid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d", tid);
    return access(path, F_OK) == 0;
}
static void wait_until_gone(int tid) {
    for (unsigned i = 0; i < 20000 && exists(tid); i++)
        usleep(1000);
    CHILD_CHECK(!exists(tid));
}

static uint32_t end_one; /* [atomic] */
static void *run_until_told(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_one) && !bs_load(&end_all))
        turn(r);
    return NULL;
}
static void helper(void *arg) {
    (void)arg;
    while (!bs_load(&end_one))
        bs_os_yield();
}

enum { HELPERS, ENDED, KERNELS, WAYS };
enum { MORTAL, OTHER, ACTOR, HEIR };
static int was; /* the number that comes again */

static void *inherit(void *arg) {
    struct runner *r = arg;
    if (bs_os_tid() == was)
        return busy(arg);
    bs_store_release(&r->tid, -1);
    return NULL;
}
/* (A thread leaves the list before its number is free.) */
static void start_heir(void) {
    struct runner *r = &runners[HEIR];
    for (unsigned i = 0; i < 20000; i++) {
        CHILD_CHECK(choose_next(was));
        start_on(r, inherit);
        if (bs_load(&r->tid) == was)
            return;
        pthread_join(r->thread, NULL);
        usleep(1000);
    }
    CHILD_CHECK(!"the number does not come again");
}
static void act(int way) {
    CHILD_CHECK(hold_call_wait());
    if (way == KERNELS) { /* as if one had been seen in the look before, and had ended since; nobody has asked OTHER */
        bs_world.idler[0] = runners[OTHER].tid;
        bs_world.nidlers = 1;
    } else {
        bs_store(&end_one, 1u);
        wait_until_gone(was);
        CHILD_CHECK(bs_os_helper_tid() == 0);
    }
    if (way == ENDED) { /* its end is noticed first, and nobody has asked OTHER yet */
        CHILD_CHECK(hold_call_release_for((uint64_t)runners[OTHER].tid));
        CHILD_CHECK(hold_call_wait());
    }
    if (way != KERNELS)
        start_heir();
    CHILD_CHECK(hold_call_release());
}
static int way_of_actor;
static void *actor(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
    act(way_of_actor);
    while (!bs_load(&end_all))
        turn(r);
    return NULL;
}

static uint64_t turns_of_all(void) {
    return all_turns(HEIR + 1);
}
static void get_number_again(int way) {
    if (!hold_call_begin(SYS_rt_tgsigqueueinfo))
        _exit(SKIP);
    start_threads(0, NULL);
    if (way == HELPERS) {
        CHILD_CHECK(bs_os_helper_start(helper, NULL) == 0);
        while (bs_os_helper_tid() <= 1)
            bs_os_yield();
        was = bs_os_helper_tid();
    } else {
        start_on(&runners[MORTAL], run_until_told);
        was = runners[MORTAL].tid;
    }
    start_on(&runners[OTHER], busy);
    way_of_actor = way;
    hold_call_next(way == ENDED ? (uint64_t)was : HOLD_CALL_ANY);
    start_on(&runners[ACTOR], actor);
    CHILD_CHECK(stop_within(LONG) == BS_WORLD_STOPPED);
    uint64_t before = turns_of_all();
    usleep(5000);
    CHILD_CHECK(turns_of_all() == before);
    CHILD_CHECK(bs_world_count() == 3);
    resume();
    hold_call_end();
}

START_TEST(numbers_that_come_again_stand) {
    run_job(get_number_again, _i, "numbers_that_come_again_stand");
}
END_TEST

/* --- few numbers ------------------------------------------------------------------------------ */

#define BREEDERS 3
static uint64_t lives; /* [atomic] */

static void *live_briefly(void *arg) {
    for (unsigned i = 0; i < 300; i++)
        (void)bs_add(&lives, 1);
    return arg;
}
/* There may be no number left. */
static void *breed(void *arg) {
    struct runner *r = arg;
    pthread_t thread;
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        if (pthread_create(&thread, NULL, live_briefly, NULL) == 0)
            pthread_join(thread, NULL);
        turn(r);
    }
    return NULL;
}
static void brief_helper(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < 20; i++)
        bs_os_yield();
}
static void *make_helpers(void *arg) {
    struct runner *r = arg;
    bs_store_release(&r->tid, bs_os_tid());
    while (!bs_load(&end_all)) {
        (void)bs_os_helper_start(brief_helper, NULL);
        turn(r);
        usleep(100);
    }
    return NULL;
}

static bool numbers_are_the_spaces_own(void) {
    struct utsname name;
    unsigned major = 0, minor = 0;
    return uname(&name) == 0 && sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 14)); /* before, it was one limit for all */
}
static uint64_t moves(void) {
    return bs_load(&lives) + all_turns(BREEDERS + 1);
}
static void stop_among_few(int number) {
    unsigned stopped = 0, wanted = STOPS(200);
    (void)number;
    /* what is not taken starts at 300 when numbers begin anew */
    if (!numbers_are_the_spaces_own() || !write_number("/proc/sys/kernel/pid_max", 310) || !choose_next(300))
        _exit(SKIP);
    start_threads(BREEDERS, breed);
    start_on(&runners[BREEDERS], make_helpers);
    for (unsigned i = 0; i < 50 * wanted && stopped < wanted; i++) {
        usleep(500);
        enum bs_world_result result = stop_within(1000 * MS);
        if (result != BS_WORLD_STOPPED)
            continue; /* a busy machine may leave one in pthread_create for long */
        uint64_t before = moves();
        usleep(300);
        CHILD_CHECK(moves() == before);
        stopped++;
        resume();
    }
    CHILD_CHECK(stopped == wanted);
    CHILD_CHECK(bs_load(&lives) != 0);
}

START_TEST(few_numbers) {
    run_job(stop_among_few, 0, "few_numbers");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("world_numbers");
    TCase *tc = add_case(suite, "numbers");
    tcase_add_loop_test(tc, numbers_that_come_again_stand, 0, WAYS);
    tcase_add_test(tc, few_numbers);
    return run_suite(suite);
}
