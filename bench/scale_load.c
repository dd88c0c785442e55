/* SPDX-License-Identifier: MIT */
/*
 * scale_load.c - scale_load LOAD N [SECONDS]: one load at one size, for bench/scale, which runs it
 * under every allocator and at every size. Prints a line a measured section:
 *
 *   name  N  operations  ns/operation  CPU ns/operation  RSS KiB
 *
 * The time is that of the wall for all threads together; RSS is read at the end of the section.
 *
 * It does not know how much memory the machine has: bench/scale asks for no more than there is.
 * Threads are scale_threads.c's; everything here runs in the main thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "scale_load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

static uint64_t read_clock(clockid_t id) {
    struct timespec now;
    if (clock_gettime(id, &now))
        bs_bench_die("clock_gettime: %s", strerror(errno));
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t scale_now_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

void scale_start(struct scale_clock *clock, double seconds) {
    clock->ops = 0;
    clock->cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    clock->start_ns = scale_now_ns();
    clock->end_ns = clock->start_ns + (uint64_t)(seconds * 1e9);
}

bool scale_goes_on(struct scale_clock *clock, uint64_t ops) {
    clock->ops += ops;
    return scale_now_ns() < clock->end_ns;
}

void scale_stop(const struct scale_clock *clock, const char *name, uint64_t n) {
    double wall = (double)(scale_now_ns() - clock->start_ns);
    double cpu = (double)(read_clock(CLOCK_PROCESS_CPUTIME_ID) - clock->cpu_ns);
    double ops = (double)(clock->ops ? clock->ops : 1);
    printf("%s %" PRIu64 " %" PRIu64 " %.2f %.2f %" PRIu64 "\n", name, n, clock->ops, wall / ops,
           cpu / ops, bs_bench_status_kib("VmRSS:"));
    fflush(stdout);
}

/* --- live bytes ------------------------------------------------------------------------------- */

/* Address space for places, faulted in as they are used: how many blocks make so many bytes is only
 * known at the end. */
static void **make_places(uint64_t n) {
    void *places = mmap(NULL, n * sizeof(void *), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (places == MAP_FAILED)
        bs_bench_die("mmap of %" PRIu64 " places: %s", n, strerror(errno));
    return places;
}

struct live {
    struct bs_bench_rng rng;
    enum scale_sizes sizes;
    void **places;
    uint32_t nblocks;
};

#define LOOK_OPS 1024

static void replace_some(struct live *live) {
    for (unsigned i = 0; i < LOOK_OPS; i++) {
        void **place = &live->places[bs_bench_below((uint32_t)bs_bench_next(&live->rng), live->nblocks)];
        size_t size = scale_size(&live->rng, live->sizes);
        free(*place);
        *place = scale_block(size);
    }
}

static void touch_some(struct live *live) {
    for (unsigned i = 0; i < LOOK_OPS; i++) {
        void **place = &live->places[bs_bench_below((uint32_t)bs_bench_next(&live->rng), live->nblocks)];
        (void)scale_size(&live->rng, live->sizes);
        scale_touch(*place);
    }
}

void scale_live(enum scale_sizes sizes, uint64_t bytes, double seconds, bool touch) {
    struct live live = {.rng = {.state = 1}, .sizes = sizes};
    struct scale_clock clock;
    uint64_t least = sizes == SCALE_SMALL ? 128 : 2048, most = bytes / least + 1024;
    live.places = make_places(most);
    for (uint64_t sum = 0; sum < bytes && live.nblocks < most; live.nblocks++) {
        size_t size = scale_size(&live.rng, sizes);
        live.places[live.nblocks] = scale_block(size);
        sum += size;
    }
    for (int warm = 0; warm < 64; warm++)
        (touch ? touch_some : replace_some)(&live);
    scale_start(&clock, seconds);
    do
        (touch ? touch_some : replace_some)(&live);
    while (scale_goes_on(&clock, LOOK_OPS));
    const char *name = sizes == SCALE_SMALL ? "touch-small" : "touch-mixed";
    scale_stop(&clock, touch ? name : name + strlen("touch-"), bytes);
}

/* --- spans ------------------------------------------------------------------------------------ */

#define SPAN_BYTES 8192u
#define SLOT_BYTES 1024u
#define SLOTS (SPAN_BYTES / SLOT_BYTES)
#define BURST 512u

struct spans {
    struct bs_bench_rng rng;
    void **kept;
    uint32_t n;
};

/* Blocks are taken and dropped in another order, so that a flush meets many spans. */
static void refill_burst(struct spans *spans) {
    void *blocks[BURST];
    for (unsigned i = 0; i < BURST; i++)
        blocks[i] = bs_bench_need(malloc(SLOT_BYTES), SLOT_BYTES);
    for (unsigned i = BURST; i > 0; i--) {
        unsigned j = bs_bench_below((uint32_t)bs_bench_next(&spans->rng), i);
        free(blocks[j]);
        blocks[j] = blocks[i - 1];
    }
}

/* 33 KiB to 256 KiB, untouched: what is timed is the page heap and not page faults. */
static void page_burst(struct spans *spans) {
    void *blocks[16];
    for (unsigned i = 0; i < 16; i++) {
        size_t size = 33 * BS_BENCH_KIB + (uint32_t)bs_bench_next(&spans->rng) % (223 * 1024);
        blocks[i] = bs_bench_need(malloc(size), size);
    }
    for (unsigned i = 0; i < 16; i++)
        free(blocks[i]);
}

static void replace_burst(struct spans *spans) {
    for (unsigned i = 0; i < 64; i++) {
        void **place = &spans->kept[bs_bench_below((uint32_t)bs_bench_next(&spans->rng), spans->n)];
        free(*place);
        *place = bs_bench_need(malloc(SLOT_BYTES), SLOT_BYTES);
    }
}

static void measure(struct spans *spans, const char *name, void (*burst)(struct spans *),
                    unsigned ops, double seconds, uint64_t n) {
    struct scale_clock clock;
    for (unsigned warm = 0; warm < 8; warm++)
        burst(spans);
    scale_start(&clock, seconds);
    do
        burst(spans);
    while (scale_goes_on(&clock, ops));
    scale_stop(&clock, name, n);
}

/* One block kept in each SPAN_BYTES, the rest dropped. Nothing is written: an allocator that keeps
 * its own data elsewhere needs no memory for the blocks. */
static void thin_out(struct spans *spans, uint64_t n) {
    uint64_t last = 0;
    spans->n = 0;
    for (uint64_t i = 0; i < n; i++)
        spans->kept[i] = bs_bench_need(malloc(SLOT_BYTES), SLOT_BYTES);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t page = (uintptr_t)spans->kept[i] / SPAN_BYTES;
        if (page != last)
            spans->kept[spans->n++] = spans->kept[i];
        else
            free(spans->kept[i]);
        last = page;
    }
}

void scale_spans(uint64_t nspans, double seconds) {
    struct spans spans = {.rng = {.state = 1}};
    struct scale_clock clock;
    spans.kept = make_places(nspans * SLOTS);
    scale_start(&clock, 0);
    thin_out(&spans, nspans * SLOTS);
    clock.ops = nspans;
    scale_stop(&clock, "make", nspans);
    measure(&spans, "refill", refill_burst, BURST, seconds, nspans);
    measure(&spans, "pages", page_burst, 16, seconds, nspans);
    measure(&spans, "replace", replace_burst, 64, seconds, nspans);
    uint32_t left = 0;
    scale_start(&clock, 0);
    for (uint32_t i = 0; i < spans.n; i++)
        if (i % 2 != 0)
            free(spans.kept[i]);
        else
            spans.kept[left++] = spans.kept[i];
    clock.ops = spans.n - left;
    if (clock.ops != 0)
        scale_stop(&clock, "drop", nspans);
    spans.n = left;
    measure(&spans, "comb", page_burst, 16, seconds, nspans);
}

/* --- command line ----------------------------------------------------------------------------- */

static uint64_t parse_count(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 1 && value <= 1e12))
        bs_bench_die("\"%s\": give a number from 1 to 1e12", text);
    return (uint64_t)value;
}

static double parse_seconds(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= 600))
        bs_bench_die("\"%s\": give seconds from 0 to 600", text);
    return value;
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4) {
        fputs("usage: scale_load LOAD N [SECONDS]\n"
              "LOAD: small, mixed (N live bytes), own, big, hand (N threads), spans (N of 8 KiB);\n"
              "      touch-small ... touch-hand: the same program without malloc and free\n",
              stderr);
        return 2;
    }
    bool touch = strncmp(argv[1], "touch-", 6) == 0;
    const char *load = argv[1] + (touch ? 6 : 0);
    uint64_t n = parse_count(argv[2]);
    double seconds = argc == 4 ? parse_seconds(argv[3]) : 1.0;
    if (strcmp(load, "small") == 0 || strcmp(load, "mixed") == 0)
        scale_live(load[0] == 's' ? SCALE_SMALL : SCALE_MIXED, n, seconds, touch);
    else if (strcmp(load, "own") == 0 || strcmp(load, "big") == 0)
        scale_own(load[0] == 'o' ? SCALE_SMALL : SCALE_MIXED, n, seconds, touch);
    else if (strcmp(load, "hand") == 0)
        scale_hand(n, seconds, touch);
    else if (strcmp(load, "spans") == 0 && !touch)
        scale_spans(n, seconds);
    else
        bs_bench_die("no load is called \"%s\"", argv[1]);
    return 0;
}
