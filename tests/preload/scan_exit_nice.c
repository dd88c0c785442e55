/* SPDX-License-Identifier: MIT */
/*
 * Promise: the copy that is searched at exit has the program's own priority, since the process ends when it has: at the
 * lowest one it took ten times as long on a busy machine, and was ended by scan_time. Another process looks at
 * it, and says what it sees.
 */
#include "find_copy.h"

#include <sys/resource.h>

enum { nblocks = 400000, limit_ms = 100000 };

struct node {
    struct node *next;
    unsigned long rest[7];
};
static struct node *list;

static void watch(pid_t parent) {
    alarm(PROMISE_CHILD_LIMIT_S);
    pid_t copy = stop_next_copy(parent, limit_ms);
    int lower = getpriority(PRIO_PROCESS, (id_t)copy) - getpriority(PRIO_PROCESS, 0);
    dprintf(STDOUT_FILENO, "the copy's priority is lower by %d\n", lower);
    kill(copy, SIGCONT);
    _exit(0);
}

int main(void) {
    pid_t self = getpid(), child = fork();
    BS_CHECK(child >= 0, "fork");
    if (child == 0)
        watch(self);
    for (unsigned i = 0; i < nblocks; i++) {
        struct node *node = malloc(sizeof *node);
        BS_CHECK(node != NULL, "malloc");
        node->next = list;
        list = node;
    }
    return 0;
}
