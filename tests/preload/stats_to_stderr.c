/* SPDX-License-Identifier: MIT */
/*
 * Promise: malloc_stats prints something for people on stderr and nothing on stdout, and leaves
 * errno and the heap as they were. Both streams are pipes of this process while it is called.
 *
 * It is NOT a check of the text's fields. One thread.
 */
#include "promise.h"

#include <malloc.h>

/* The library's own write goes to descriptors, so the descriptors are exchanged. */
static int capture(int fd, int *saved) {
    int ends[2];

    BS_CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0, "no pipe");
    *saved = dup(fd);
    BS_CHECK(*saved >= 0 && dup2(ends[1], fd) == fd, "descriptor %d cannot be exchanged", fd);
    close(ends[1]);
    return ends[0];
}

static size_t drain(int from, int fd, int saved, char *text, size_t size) {
    size_t total = 0;
    ssize_t n;

    dup2(saved, fd);
    close(saved);
    while (total < size - 1 && (n = read(from, text + total, size - 1 - total)) > 0)
        total += (size_t)n;
    text[total] = '\0';
    close(from);
    return total;
}

int main(void) {
    static char out_text[4096], err_text[65536];
    int saved_out, saved_err;
    void *p = malloc(5000);

    BS_CHECK(promise_owns("malloc_stats"), "malloc_stats comes from elsewhere");
    BS_CHECK(p != NULL, "malloc(5000) gave NULL");
    pattern_fill(p, 5000, 1);
    int from_out = capture(STDOUT_FILENO, &saved_out);
    int from_err = capture(STDERR_FILENO, &saved_err);

    malloc_stats();
    size_t nerr = drain(from_err, STDERR_FILENO, saved_err, err_text, sizeof err_text);
    size_t nout = drain(from_out, STDOUT_FILENO, saved_out, out_text, sizeof out_text);

    BS_CHECK(nout == 0, "malloc_stats wrote on stdout: %s", out_text);
    BS_CHECK(nerr > 20 && err_text[nerr - 1] == '\n', "malloc_stats wrote %zu bytes: %s", nerr,
             err_text);
    BS_CHECK(strpbrk(err_text, "0123456789") != NULL, "no number in: %s", err_text);
    BS_CHECK_PATTERN(p, 5000, 1);
    free(p);
    return 0;
}
