/* SPDX-License-Identifier: MIT */
/*
 * Promise: where what the program holds exceeds the limit by itself, nothing spins: the helper
 * stays within a tenth of a CPU (and what it may begin with), whether the program works or sleeps;
 * its free pages are not taken from it over and over (that made 18 faults a step, not 0.2); one line
 * in the log says so, and every request is served.
 *
 * 100 MiB live under limit:50M; then 3 s of taking and giving, 3 s of sleep. What the first steps cost
 * until every slot has its block is not counted: on a busy machine there may be few others. Time is what
 * has passed on the wall, however long that was. A CPU that is taken away from the machine counts for the
 * thread that had it, a second in one piece say: so from one look to the next no more than 50 ms are
 * believed, and who spins has those each time.
 */
#include "promise.h"

#include <sys/resource.h>

enum {
    slots = 500,
    first_steps = 10 * slots,
    least_steps = 5000,
    begin_ms = 300,
    slack_ms = 100,
    look_ms = 100,
    most_a_look_ms = 50
};

static void *slot[slots];

static void step(uint64_t *seed) {
    size_t i = rng_below(seed, slots), size = 1 + rng_below(seed, 200000);
    free(slot[i]);
    slot[i] = malloc(size);
    BS_CHECK(slot[i] != NULL, "malloc gave NULL");
    memset(slot[i], 1, size);
}

/* CPU time of all threads but this one, also of those that have ended. */
static uint64_t cpu_of_others_ms(void) {
    struct rusage all, own;
    getrusage(RUSAGE_SELF, &all);
    getrusage(RUSAGE_THREAD, &own);
    int64_t us =
        (all.ru_utime.tv_sec + all.ru_stime.tv_sec - own.ru_utime.tv_sec - own.ru_stime.tv_sec) *
            INT64_C(1000000) +
        all.ru_utime.tv_usec + all.ru_stime.tv_usec - own.ru_utime.tv_usec - own.ru_stime.tv_usec;
    return us > 0 ? (uint64_t)us / 1000 : 0;
}

/* What others had of the CPU since the first look, as the head says; to be called all the time. */
static uint64_t used_by_others_ms(void) {
    static uint64_t sum, seen, look_at;
    uint64_t now = now_ms(), cpu;
    if (now < look_at)
        return sum;
    look_at = now + look_ms;
    cpu = cpu_of_others_ms();
    if (cpu > seen)
        sum += cpu - seen < most_a_look_ms ? cpu - seen : most_a_look_ms;
    seen = cpu > seen ? cpu : seen;
    return sum;
}

/* Page faults since the first call. */
static uint64_t faults(void) {
    static uint64_t first;
    struct rusage all;
    getrusage(RUSAGE_SELF, &all);
    if (first == 0)
        first = (uint64_t)all.ru_minflt;
    return (uint64_t)all.ru_minflt - first;
}

int main(void) {
    uint64_t seed = 1, start = now_ms(), steps = 0;
    char *live = malloc(100 * BS_MIB);
    BS_CHECK(live != NULL, "malloc gave NULL");
    memset(live, 1, 100 * BS_MIB);
    for (int i = 0; i < first_steps; i++) {
        step(&seed);
        (void)used_by_others_ms();
    }
    (void)faults();
    for (; now_ms() - start < 3000 || steps < least_steps; steps++) {
        step(&seed);
        (void)used_by_others_ms();
    }
    uint64_t working = used_by_others_ms(), worked = now_ms() - start;
    BS_CHECK(faults() < steps * 3,
             "%ju page faults in %ju steps: what is free is given back in vain",
             (uintmax_t)faults(), (uintmax_t)steps);
    for (int i = 0; i < 30; i++) {
        sleep_ms(look_ms);
        (void)used_by_others_ms();
    }
    uint64_t sleeping = used_by_others_ms() - working, slept = now_ms() - start - worked;
    printf("the helper used %ju ms while the program worked, %ju while it slept; %ju steps\n",
           (uintmax_t)working, (uintmax_t)sleeping, (uintmax_t)steps);
    BS_CHECK(working <= worked / 10 + begin_ms + slack_ms, "%ju ms of CPU in %ju of work",
             (uintmax_t)working, (uintmax_t)worked);
    BS_CHECK(sleeping <= slept / 10 + slack_ms, "%ju ms of CPU in %ju of sleep", (uintmax_t)sleeping,
             (uintmax_t)slept);
    BS_CHECK(live[0] == 1, "the block changed");
    return 0;
}
