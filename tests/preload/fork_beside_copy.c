/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program of one thread forks while a copy of it is searched for leaks, and does not wait for the end of that
 * search. The copy is stopped here, so that it has none.
 */
#include "find_copy.h"

#include <sys/wait.h>

enum { nblocks = 400000, limit_ms = 100000, patience_ms = 6000 };

struct node {
    struct node *next;
    unsigned long rest[7];
};
static struct node *list;

int main(void) {
    for (unsigned i = 0; i < nblocks; i++) {
        struct node *node = malloc(sizeof *node);
        BS_CHECK(node != NULL, "malloc");
        node->next = list;
        list = node;
    }
    pid_t copy = stop_next_copy(getpid(), limit_ms);
    uint64_t before = now_ms();
    pid_t child = fork();
    if (child == 0)
        _exit(5);
    uint64_t took = now_ms() - before;
    kill(copy, SIGCONT);
    int status;
    BS_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5, "the child");
    BS_CHECK(took < patience_ms, "fork took %u ms", (unsigned)took);
    _exit(0);
}
