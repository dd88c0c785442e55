/* SPDX-License-Identifier: MIT */
/*
 * micro.c - micro NAME: runs one micro-benchmark once in this process and prints one line:
 *
 *   name  operations  seconds  ns/operation  peak RSS KiB  final RSS KiB
 *
 * One benchmark a process, so that none inherits the heap of another. The final RSS is read right
 * after the benchmark freed everything and joined its threads.
 *
 * It is not the comparison: bench/run calls it under every allocator and does the statistics.
 * --which says whose malloc answers here, because the dynamic linker goes on without a library it
 * could not preload, and a comparison must not take glibc for another allocator.
 *
 * Single-threaded itself; the families start and join their own threads.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bench.h"

#include <dlfcn.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

enum { OPT_SCALE = 1, OPT_LIST, OPT_WHICH, OPT_HELP };

static const struct option OPTIONS[] = {
    {"scale", required_argument, NULL, OPT_SCALE},
    {"list", no_argument, NULL, OPT_LIST},
    {"which", no_argument, NULL, OPT_WHICH},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static const struct bs_bench *const FAMILIES[] = {
    bs_bench_pair,     bs_bench_batch,   bs_bench_random, bs_bench_list,    bs_bench_mix,
    bs_bench_prodcons, bs_bench_threads, bs_bench_share,  bs_bench_realloc, bs_bench_calloc,
    bs_bench_memalign, bs_bench_large,   bs_bench_huge,   bs_bench_phases,  bs_bench_cache,
};

#define NFAMILIES (sizeof FAMILIES / sizeof FAMILIES[0])

static void print_usage(FILE *to) {
    fputs("usage: micro NAME [--scale=FACTOR]\n"
          "       micro --list     names and what they do, separated by a tab\n"
          "       micro --which    the file whose malloc answers here\n"
          "Prints: name operations seconds ns/operation peak-RSS-KiB final-RSS-KiB\n",
          to);
}

static void print_list(void) {
    for (size_t i = 0; i < NFAMILIES; i++)
        for (const struct bs_bench *bench = FAMILIES[i]; bench->name; bench++)
            printf("%s\t%s\n", bench->name, bench->what);
}

static void print_which(void) {
    void *(*volatile entry)(size_t) = malloc;
    void *address;
    Dl_info info;

    memcpy(&address, (const void *)&entry, sizeof address);
    if (!dladdr(address, &info) || !info.dli_fname)
        bs_bench_die("cannot tell whose malloc this is");
    puts(info.dli_fname);
}

static const struct bs_bench *find_bench(const char *name) {
    for (size_t i = 0; i < NFAMILIES; i++)
        for (const struct bs_bench *bench = FAMILIES[i]; bench->name; bench++)
            if (strcmp(bench->name, name) == 0)
                return bench;
    bs_bench_die("no benchmark is called \"%s\"; micro --list names them", name);
}

static double parse_scale(const char *text) {
    char *end;
    double scale = strtod(text, &end);

    if (end == text || *end || !(scale >= 0.0001 && scale <= 10000.0))
        bs_bench_die("--scale=%s: give a factor from 0.0001 to 10000", text);
    return scale;
}

static void run_bench(const struct bs_bench *bench, double scale) {
    struct bs_bench_run run = {.scale = scale};

    bench->run(&run);
    uint64_t final_kib = bs_bench_status_kib("VmRSS:");
    uint64_t peak_kib = bs_bench_status_kib("VmHWM:");
    double seconds = (double)run.elapsed_ns / 1e9;
    double ns_per_op = (double)run.elapsed_ns / (double)run.ops;
    printf("%s %" PRIu64 " %.6f %.3f %" PRIu64 " %" PRIu64 "\n", bench->name, run.ops, seconds,
           ns_per_op, peak_kib, final_kib);
}

int main(int argc, char **argv) {
    double scale = 1.0;
    int option;

    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        switch (option) {
        case OPT_SCALE:
            scale = parse_scale(optarg);
            break;
        case OPT_LIST:
            print_list();
            return 0;
        case OPT_WHICH:
            print_which();
            return 0;
        case OPT_HELP:
            print_usage(stdout);
            return 0;
        default:
            print_usage(stderr);
            return 2;
        }
    }
    if (optind + 1 != argc) {
        print_usage(stderr);
        return 2;
    }
    run_bench(find_bench(argv[optind]), scale);
    return 0;
}
