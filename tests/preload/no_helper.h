/* SPDX-License-Identifier: MIT */
/*
 * no_helper.h - a process of its own that frees 20 MB a second beside 40 MiB that it keeps, and reads in its log how the
 * quarantine was searched: as soon as a tenth was freed, and not at the cap alone. For tests whose process has no helper.
 */
#ifndef BS_TESTS_NO_HELPER_H
#define BS_TESTS_NO_HELPER_H

#include "promise.h"

#include <sys/wait.h>

enum { KEPT_BYTES = 40 << 20, BLOCK = 1000, SECONDS_MAX = 100, SEARCHES = 4 };

static void keep_much(void) {
    static void *kept[KEPT_BYTES / BLOCK];
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        kept[i] = malloc(BLOCK);
        BS_CHECK(kept[i] != NULL, "no memory");
        memset(kept[i], 1, BLOCK);
    }
}

static void free_some(void) {
    for (unsigned i = 0; i < 200; i++)
        free(hide(memset(malloc(BLOCK), 1, BLOCK)));
    sleep_ms(10);
}

static unsigned lines_with(const char *path, const char *what, const char *more) {
    unsigned n = 0;
    char line[4096];
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        n += strstr(line, what) != NULL && strstr(line, more) != NULL;
    if (f != NULL)
        fclose(f);
    return n;
}

/* Others may do the work; `also` is called meanwhile. */
static void must_search_in_time(const char *path, void (*also)(void)) {
    size_t before = rss_bytes(), most = 0;
    for (uint64_t end = now_ms() + 1000 * SECONDS_MAX; lines_with(path, " quarantine: reason soft verdict done", "") < SEARCHES;) {
        for (unsigned i = 0; i < 50; i++)
            also();
        most = rss_bytes() > most ? rss_bytes() : most;
        BS_CHECK(now_ms() < end, "%u searches at a tenth, %u at the cap", lines_with(path, " reason soft", " verdict done"),
                 lines_with(path, " reason hard", " verdict done"));
    }
    BS_CHECK(most < before + KEPT_BYTES, "memory grew from %zu to %zu", before, most);
}

static void wait_for_child(pid_t child) {
    int status = -1;
    BS_CHECK(child > 0 && waitpid(child, &status, 0) == child, "no child");
    if (WIFEXITED(status) && WEXITSTATUS(status) == BS_EXIT_SKIP)
        _exit(BS_EXIT_SKIP);
    BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child's status is %#x", (unsigned)status);
}

#endif
