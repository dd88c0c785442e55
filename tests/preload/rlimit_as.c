/* SPDX-License-Identifier: MIT */
/*
 * Promise: under an address space limit of 200 MB malloc gives most of it, then NULL with ENOMEM;
 * nothing is broken after that, and what is freed can be used again, in the same size and in
 * others. Reservations must therefore be modest, and empty memory must flow between sizes.
 *
 * The blocks are linked through their own first word. One thread.
 */
#include "promise.h"

#include <sys/resource.h>

struct link {
    struct link *next;
    uint64_t tag;
};

/* Takes blocks until NULL; answers how many bytes were given. */
static size_t take_all(struct link **list, size_t size) {
    size_t total = 0;

    for (;;) {
        errno = 0;
        struct link *p = malloc(size);

        if (p == NULL)
            break;
        BS_CHECK(total < 400 * BS_MIB, "%zu bytes were given under the limit", total);
        if (size > sizeof *p)
            memset(p + 1, 1, size - sizeof *p > 64 ? 64 : size - sizeof *p);
        p->next = *list;
        p->tag = (uint64_t)(uintptr_t)p ^ size;
        *list = p;
        total += size;
    }
    BS_CHECK(errno == ENOMEM, "malloc(%zu) gave NULL with errno %d", size, errno);
    return total;
}

static void free_all(struct link **list, size_t size) {
    while (*list != NULL) {
        struct link *p = *list;

        BS_CHECK(p->tag == ((uint64_t)(uintptr_t)p ^ size), "block %p changed", (void *)p);
        *list = p->next;
        free(p);
    }
}

int main(void) {
    static const size_t sizes[] = {64, 1000, 40000, BS_MIB, 10 * BS_MIB, 64, 300, 5000};
    struct rlimit limit = {200 * BS_MIB, 200 * BS_MIB};
    struct link *list = NULL;

    BS_CHECK(setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t first = take_all(&list, sizes[i]);

        BS_CHECK(malloc(300 * BS_MIB) == NULL, "300 MiB were given under 200 MB");
        BS_CHECK(calloc(300, BS_MIB) == NULL, "300 MiB were given under 200 MB");
        free_all(&list, sizes[i]);
        size_t second = take_all(&list, sizes[i]);

        free_all(&list, sizes[i]);
        dprintf(STDOUT_FILENO, "blocks of %zu bytes: %zu MiB, after freeing %zu MiB\n", sizes[i],
                first / BS_MIB, second / BS_MIB);
        BS_CHECK(first >= 110 * BS_MIB, "blocks of %zu bytes: only %zu of 200 MB", sizes[i], first);
        BS_CHECK(second >= first / 10 * 9, "blocks of %zu bytes: %zu, then only %zu", sizes[i],
                 first, second);
    }
    return 0;
}
