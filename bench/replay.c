/* SPDX-License-Identifier: MIT */
/*
 * replay.c - replay FILE: plays the allocations of a real program, as `besom run -o record:FILE`
 * wrote them down, on the malloc of this process, and prints the line that micro prints:
 *
 *   name  operations  seconds  ns/operation  peak RSS KiB  final RSS KiB
 *
 * --info shows instead what is in the trace. What the program did between its calls is not played.
 * It knows no allocator; LD_PRELOAD decides whose malloc it is. Plans and plays in replay_*.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bench.h"
#include "replay.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define SCALE_EVENTS 5e6 /* what --scale=1 plays, in whole traces */

enum { OPT_THREADS = 1, OPT_REPEAT, OPT_SCALE, OPT_TOUCH, OPT_VERIFY, OPT_INFO, OPT_HELP };

static const struct option OPTIONS[] = {
    {"threads", required_argument, NULL, OPT_THREADS},
    {"repeat", required_argument, NULL, OPT_REPEAT},
    {"scale", required_argument, NULL, OPT_SCALE},
    {"touch", required_argument, NULL, OPT_TOUCH},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"info", no_argument, NULL, OPT_INFO},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

struct wish {
    struct bs_replay_how how;
    bool one_thread, info;
    uint64_t repeat; /* 0: by scale */
    double scale;    /* 0: once */
};

static void print_usage(FILE *to) {
    fputs("usage: replay FILE [--threads=as-recorded|1] [--repeat=N | --scale=FACTOR]\n"
          "              [--touch=all|first|none] [--verify]\n"
          "       replay --info FILE    what is in the trace\n"
          "FILE is a trace of besom run -o record:FILE, as it is or as .xz or .gz.\n"
          "  --threads  as many threads as the program had at once (the default), or one\n"
          "  --repeat   play it so often; --scale=1: as often as makes 5 million events\n"
          "  --touch    write all of each block, its first word and each page (first, the\n"
          "             default), or nothing; what was written is looked for again\n"
          "  --verify   compare every byte (with --touch=all)\n"
          "Prints: name operations seconds ns/operation peak-RSS-KiB final-RSS-KiB\n",
          to);
}

/* trace-NAME of .../NAME.bst.xz */
static void print_name(const char *path) {
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    printf("trace-%.*s", (int)strcspn(base, "."), base);
}

/* --- --info ----------------------------------------------------------------------------------- */

static void print_sizes(const struct bs_trace *t) {
    for (unsigned i = 0; i < BS_TRACE_SIZE_BUCKETS; i++) {
        if (t->sizes[i] == 0)
            continue;
        if (i == 0)
            printf("size             0: ");
        else
            printf("size < %11" PRIu64 ": ", UINT64_C(1) << i);
        printf("%12" PRIu64 "  %5.1f %%\n", t->sizes[i],
               100.0 * (double)t->sizes[i] / (double)t->blocks);
    }
}

static void print_info(const struct bs_trace *t) {
    static const char *const names[] = {"free", "malloc", "calloc", "realloc", "aligned"};
    time_t start = (time_t)(t->start_ms / 1000);
    char when[64] = "";
    struct tm tm;

    if (gmtime_r(&start, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &tm);
    printf("program: %s\nprocess: %u\nbegun: %s\n", t->program, t->pid, when);
    printf("complete: %s\n", t->complete ? "yes" : "no, the end of the program is missing");
    printf("events: %" PRIu64 "\n", t->events);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        printf("  %s: %" PRIu64 "\n", names[i], t->calls[i]);
    printf("bytes an event: %.2f\n",
           t->events ? (double)t->bytes / (double)t->events : 0.0);
    printf("duration: %" PRIu64 " ms\nthreads: %u\n", t->duration_ms, t->threads);
    printf("blocks: %" PRIu64 "\nlive at the end: %" PRIu64 "\n", t->blocks, t->live);
    printf("live peak: %" PRIu64 " bytes\nlargest: %" PRIu64 " bytes\n", t->peak_bytes, t->largest);
    if (t->complete)
        printf("freed without having been made: %" PRIu64 "\n", t->unknown);
    print_sizes(t);
}

/* --- playing ---------------------------------------------------------------------------------- */

/* The peak is to be that of the playing: what the plan needed is unmapped. Where /proc refuses, the
 * peak is that of both. */
static void forget_peak(void) {
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "5", 1) != 1)
        fputs("replay: the peak includes the plan\n", stderr);
    close(fd);
}

static uint64_t times_to_play(const struct wish *wish, uint64_t events) {
    double times = wish->scale * SCALE_EVENTS / (double)events + 0.5;
    if (wish->repeat != 0)
        return wish->repeat;
    return times < 1 ? 1 : (uint64_t)times;
}

static void play(const char *path, struct bs_trace *trace, const struct wish *wish) {
    static struct bs_replay_plan plan;
    uint64_t ns = 0, times, ops;

    if (trace->events == 0)
        bs_bench_die("%s has no events", path);
    bs_replay_plan(&plan, trace, wish->one_thread);
    times = times_to_play(wish, trace->events);
    ops = times * trace->events;
    bs_trace_close(trace);
    forget_peak();
    for (uint64_t i = 0; i < times; i++)
        ns += bs_replay_play(&plan, &wish->how);
    uint64_t final_kib = bs_bench_status_kib("VmRSS:");
    uint64_t peak_kib = bs_bench_status_kib("VmHWM:");
    print_name(path);
    printf(" %" PRIu64 " %.6f %.3f %" PRIu64 " %" PRIu64 "\n", ops, (double)ns / 1e9,
           (double)ns / (double)ops, peak_kib, final_kib);
}

/* --- command line ----------------------------------------------------------------------------- */

static double positive(const char *option, const char *text, double most) {
    char *end;
    double x = strtod(text, &end);

    if (end == text || *end || !(x > 0 && x <= most))
        bs_bench_die("--%s=%s: give a number above 0, up to %g", option, text, most);
    return x;
}

/* The index of the word in words, or the end. */
static unsigned word(const char *option, const char *text, const char *const *words) {
    for (unsigned i = 0; words[i]; i++)
        if (strcmp(words[i], text) == 0)
            return i;
    bs_bench_die("--%s=%s: replay --help says what may be given", option, text);
}

static bool parse(int argc, char **argv, struct wish *wish) {
    static const char *const touches[] = {"none", "first", "all", NULL};
    static const char *const threads[] = {"as-recorded", "1", NULL};
    int option;

    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        switch (option) {
        case OPT_THREADS:
            wish->one_thread = word("threads", optarg, threads) == 1;
            break;
        case OPT_REPEAT:
            wish->repeat = (uint64_t)positive("repeat", optarg, 1e9);
            if (wish->repeat == 0)
                return false;
            break;
        case OPT_SCALE:
            wish->scale = positive("scale", optarg, 1e4);
            break;
        case OPT_TOUCH:
            wish->how.touch = (enum bs_replay_touch)word("touch", optarg, touches);
            break;
        case OPT_VERIFY:
            wish->how.verify = true;
            break;
        case OPT_INFO:
            wish->info = true;
            break;
        default:
            return false;
        }
    }
    return optind + 1 == argc && (!wish->how.verify || wish->how.touch == BS_TOUCH_ALL);
}

int main(int argc, char **argv) {
    static struct bs_trace trace;
    struct wish wish = {.how.touch = BS_TOUCH_FIRST};

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (!parse(argc, argv, &wish)) {
        print_usage(stderr);
        return 2;
    }
    if (!bs_trace_open(&trace, argv[optind]))
        bs_bench_die("%s %s", argv[optind], trace.error);
    if (wish.info)
        print_info(&trace);
    else
        play(argv[optind], &trace, &wish);
    return 0;
}
