/* SPDX-License-Identifier: MIT */
/*
 * world_drive.c - libbesom-world.so: libbesom-scan.so with a helper that stops the world WORLD_PER_SECOND
 * times a second (and does besom's rounds), for programs that must not notice. At the end of the
 * process it is an error if there were less than WORLD_LEAST stops: the test would prove nothing. Until then
 * a program goes on (promise_is_stopped_enough), since on a busy machine few succeed in a given time.
 * WORLD_REPORT=1 says on stdout how long they took. With WORLD_GIVES_UP every second stop gets no more than a
 * part of the time that the last one needed, so that many are given up when some threads have been woken and
 * others not; at least one has to be, or the test would prove nothing. With WORLD_HOLDS_MS threads stand for so long.
 *
 * The helper is of the kind that besom's is, so it uses of libc mem* and str* alone.
 */
#define _GNU_SOURCE
#include "background.h"
#include "counter.h"
#include "os.h"
#include "round.h"
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)
#define MAX_TIMES 100000

static struct {
    uint64_t period_ns, start_ns, hold_ns;
    bool gives_up;
    unsigned turn; /* [helper] */
    unsigned results[BS_WORLD_TRACED + 1]; /* [atomic] */
    unsigned n;                          /* [atomic] */
    uint32_t stop, sleep;                /* [atomic] */
    int pid;
    uint32_t us[MAX_TIMES];      /* from before the first look to after the release */
    uint32_t pause_us[MAX_TIMES]; /* from the first signal to after the release */
} drive;

static void visit(void *ctx, const struct bs_world_thread *t) {
    *(uintptr_t *)ctx ^= t->sp;
}

/* How long the next stop may take. */
static uint64_t next_ns(void) {
    unsigned turn = drive.turn++;
    if (!drive.gives_up || turn % 2 == 0 || drive.n == 0)
        return NS_PER_S; /* 512 threads on a machine that is 20 times slower need 200 ms */
    return UINT64_C(1000) * drive.us[(drive.n - 1) % MAX_TIMES] * (turn / 2 % 16 + 1) / 16;
}

static void stop_once(void) {
    uintptr_t sum = 0;
    bs_round_enter();
    uint64_t start = bs_os_now_ns(), stopped_ns = bs_counted(world_stopped_ns);
    enum bs_world_result result = bs_world_stop(start + next_ns());
    if (result == BS_WORLD_STOPPED) {
        bs_world_each(visit, &sum);
        if (drive.hold_ns != 0)
            bs_os_wait(&drive.sleep, 0, drive.hold_ns);
        bs_world_resume();
        if (drive.n < MAX_TIMES) {
            drive.us[drive.n] = (uint32_t)((bs_os_now_ns() - start) / 1000);
            drive.pause_us[drive.n] = (uint32_t)((bs_counted(world_stopped_ns) - stopped_ns) / 1000);
            bs_store(&drive.n, drive.n + 1);
        }
    }
    bs_round_leave();
    (void)bs_add(&drive.results[result], 1u);
}

static void helper(void *arg) {
    uint64_t next = bs_os_now_ns(), round_ns = next;
    (void)arg;
    bs_os_helper_own_descriptors();
    bs_round_helper_begins(); /* as background.c: a fork waits for it, or keeps it */
    while (!bs_load(&drive.stop)) {
        stop_once();
        uint64_t now = bs_os_now_ns();
        if (now > round_ns) {
            (void)bs_background_round();
            round_ns = now + NS_PER_S / 10;
        }
        next += drive.period_ns;
        bs_round_helper_ends();
        if (next > now)
            bs_os_wait(&drive.sleep, 0, next - now);
        else
            next = now;
        bs_round_helper_begins();
    }
    bs_round_helper_ends();
}

__attribute__((constructor(102))) static void start(void) {
    const char *rate = getenv("WORLD_PER_SECOND");
    if (rate == NULL || atoi(rate) <= 0)
        return;
    drive.period_ns = NS_PER_S / (unsigned)atoi(rate);
    drive.start_ns = bs_os_now_ns();
    const char *hold = getenv("WORLD_HOLDS_MS");
    drive.hold_ns = hold != NULL ? (uint64_t)atoi(hold) * (NS_PER_S / 1000) : 0;
    drive.gives_up = getenv("WORLD_GIVES_UP") != NULL;
    drive.pid = bs_os_pid();
    if (bs_os_helper_start(helper, NULL) != 0)
        drive.pid = 0;
    static char where[64]; /* the environment's from now on */
    snprintf(where, sizeof where, "WORLD_STOPS=%p", (void *)&drive.n);
    putenv(where);
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

__attribute__((destructor(102))) static void finish(void) {
    if (drive.pid != bs_os_pid())
        return;
    bs_store(&drive.stop, 1u);
    while (bs_os_helper_tid() != 0)
        usleep(1000);
    unsigned n = drive.n;
    uint64_t due = (bs_os_now_ns() - drive.start_ns) / drive.period_ns;
    const char *report = getenv("WORLD_REPORT"), *least = getenv("WORLD_LEAST");
    if (report != NULL && n != 0) {
        qsort(drive.us, n, sizeof drive.us[0], compare);
        qsort(drive.pause_us, n, sizeof drive.pause_us[0], compare);
        dprintf(1, "world: %u stops, paused us median %u p99 %u max %u, in all us median %u max %u; let "
                   "out %llu, resent %llu, blocked %u silent %u inside %u late %u unavailable %u\n",
                n, drive.pause_us[n / 2], drive.pause_us[n - 1 - n / 100], drive.pause_us[n - 1],
                drive.us[n / 2], drive.us[n - 1], (unsigned long long)bs_counted(world_let_out),
                (unsigned long long)bs_counted(world_resent), drive.results[BS_WORLD_BLOCKED],
                drive.results[BS_WORLD_SILENT], drive.results[BS_WORLD_INSIDE],
                drive.results[BS_WORLD_LATE], drive.results[BS_WORLD_UNAVAILABLE]);
    }
    if (drive.gives_up && drive.results[BS_WORLD_SILENT] == 0) {
        dprintf(2, "world_drive: none of %llu stops was given up\n", (unsigned long long)due);
        _exit(1);
    }
    if (n < (least != NULL ? (unsigned)atoi(least) : 1)) {
        dprintf(2, "world_drive: only %u stops of %llu, blocked %u silent %u inside %u late %u\n", n,
                (unsigned long long)due, drive.results[BS_WORLD_BLOCKED],
                drive.results[BS_WORLD_SILENT], drive.results[BS_WORLD_INSIDE],
                drive.results[BS_WORLD_LATE]);
        _exit(1);
    }
}
