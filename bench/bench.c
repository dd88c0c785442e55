/* SPDX-License-Identifier: MIT */
/*
 * bench.c - the parts of bench.h that are not inline: clock, tables, threads, resident memory,
 * failure.
 *
 * Peak memory is VmHWM and not getrusage's ru_maxrss: the latter survives exec, so that every run
 * would report at least the size of the script that started it.
 *
 * Nothing here calls malloc, so that what is measured is the benchmark's own use. Called by the
 * main thread, except bs_bench_die, which any thread may call.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

void bs_bench_die(const char *format, ...) {
    va_list args;

    va_start(args, format);
    dprintf(STDERR_FILENO, "%s: ", program_invocation_short_name);
    vdprintf(STDERR_FILENO, format, args);
    dprintf(STDERR_FILENO, "\n");
    va_end(args);
    _exit(1);
}

uint64_t bs_bench_scaled(const struct bs_bench_run *run, uint64_t n) {
    uint64_t scaled = (uint64_t)((double)n * run->scale + 0.5);
    return scaled ? scaled : 1;
}

static uint64_t now_ns(void) {
    struct timespec now;

    if (clock_gettime(CLOCK_MONOTONIC, &now))
        bs_bench_die("clock_gettime: %s", strerror(errno));
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bs_bench_start(struct bs_bench_run *run) {
    run->start_ns = now_ns();
}

void bs_bench_stop(struct bs_bench_run *run, uint64_t ops) {
    run->elapsed_ns = now_ns() - run->start_ns;
    run->ops = ops;
}

void *bs_bench_table(size_t size_bytes) {
    void *table = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (table == MAP_FAILED)
        bs_bench_die("mmap of a table of %zu bytes: %s", size_bytes, strerror(errno));
    return table;
}

void bs_bench_start_thread(pthread_t *thread, void *(*body)(void *), void *arg) {
    int fault = pthread_create(thread, NULL, body, arg);
    if (fault)
        bs_bench_die("pthread_create: %s", strerror(fault));
}

void bs_bench_join_thread(pthread_t thread) {
    int fault = pthread_join(thread, NULL);
    if (fault)
        bs_bench_die("pthread_join: %s", strerror(fault));
}

uint64_t bs_bench_field_kib(const char *path, const char *field) {
    char text[8192];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        close(fd);
    if (got <= 0)
        bs_bench_die("cannot read %s: is /proc mounted?", path);
    text[got] = '\0';
    const char *found = strstr(text, field);
    if (!found)
        bs_bench_die("%s has no field %s", path, field);
    return strtoull(found + strlen(field), NULL, 10);
}

uint64_t bs_bench_status_kib(const char *field) {
    return bs_bench_field_kib("/proc/self/status", field);
}
