/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program for which the kernel works in threads of the process, as io_uring does with what may
 * wait, is scanned. Such threads block all signals and run nothing of the program's.
 */
#include "promise.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { limit_ms = 100000 /* for a busy machine */ };

/* Three reads of a pipe that never end, in workers of the kernel's own. False: it makes no such queues. */
static bool start_workers(void) {
    struct io_uring_params params = {.flags = 0};
    int ring = (int)syscall(SYS_io_uring_setup, 8, &params), ends[2];
    static char byte[3];
    if (ring < 0)
        return false;
    BS_CHECK(pipe(ends) == 0, "pipe");
    size_t bytes = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    char *queue = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry = mmap(NULL, params.sq_entries * sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED,
                                      ring, IORING_OFF_SQES);
    BS_CHECK(queue != MAP_FAILED && entry != MAP_FAILED, "mmap");
    unsigned *array = (unsigned *)(void *)(queue + params.sq_off.array);
    for (unsigned i = 0; i < 3; i++) {
        entry[i] = (struct io_uring_sqe){.opcode = IORING_OP_READ, .flags = IOSQE_ASYNC, .fd = ends[0],
                                         .addr = (uintptr_t)&byte[i], .len = 1};
        array[i] = i;
    }
    __atomic_store_n((unsigned *)(void *)(queue + params.sq_off.tail), 3, __ATOMIC_RELEASE);
    BS_CHECK(syscall(SYS_io_uring_enter, ring, 3, 0, 0, NULL, 0) == 3, "io_uring_enter");
    return true;
}

static unsigned count_workers(void) {
    FILE *f = popen("grep -c '^Name:.*iou-wrk' /proc/$PPID/task/*/status | grep -c ':1$'", "r");
    unsigned n = 0;
    BS_CHECK(f != NULL && fscanf(f, "%u", &n) == 1, "workers");
    pclose(f);
    return n;
}

int main(void) {
    char path[64], line[4096];
    unsigned done = 0;
    promise_begin_log(path, sizeof path, "scan_workers");
    if (!start_workers() || (usleep(100000), count_workers()) == 0) {
        puts("no threads of the kernel's own here");
        return BS_EXIT_SKIP;
    }
    for (uint64_t start_ms = now_ms(); done < 2 && now_ms() - start_ms < limit_ms;) {
        FILE *f = fopen(path, "r");
        usleep(10000);
        for (done = 0; f != NULL && fgets(line, sizeof line, f) != NULL;)
            if (strstr(line, " scan: reason interval ") != NULL) {
                BS_CHECK(strstr(line, " verdict blocked ") == NULL, "%s", line);
                done += strstr(line, " verdict done ") != NULL;
            }
        if (f != NULL)
            fclose(f);
    }
    BS_CHECK(done >= 2, "%u scans", done); /* more came if this thread had to wait for a CPU */
    BS_CHECK(count_workers() != 0, "no workers by the end");
    unlink(path);
    _exit(0); /* no report at exit */
}
