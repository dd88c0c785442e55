/* SPDX-License-Identifier: MIT */
/*
 * Promise: a process that ends while it is scanned does not wait for the end of that scan, and makes its last one. The
 * copy that is searched is stopped here, so that it has no end. scan_exit_running.conf asks for an exit status that
 * says that the last one was made; before, nothing was reported, ten seconds later.
 */
#include "find_copy.h"
#include "lose.h"

enum { nblocks = 400000, limit_ms = 100000, patience_s = 60 };

struct node {
    struct node *next;
    unsigned long rest[7];
};
static struct node *list;

int main(void) {
    lose();
    wipe();
    for (unsigned i = 0; i < nblocks; i++) {
        struct node *node = malloc(sizeof *node);
        BS_CHECK(node != NULL, "malloc");
        node->next = list;
        list = node;
    }
    (void)stop_next_copy(getpid(), limit_ms);
    alarm(patience_s);
    return 0;
}
