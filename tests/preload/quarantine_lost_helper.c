/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine a process that is copied by the system call itself, which nobody sees, while there is a helper, has its
 * quarantine searched as soon as with one, though what it has inherited says that there is one. (Nobody is stopped, so that its
 * only thread does not search by itself anyway.)
 */
#include "no_helper.h"
#include "raw_copy.h"

static char path[64]; /* the copy's too, since nobody has said that it is another process */

static void live_as_copy(void) {
    alarm(2 * PROMISE_CHILD_LIMIT_S);
    must_search_in_time(path, free_some);
    _exit(0);
}

int main(void) {
    promise_begin_log(path, sizeof path, "quarantine_lost_helper");
    keep_much();
    must_search_in_time(path, free_some); /* the helper stays for two seconds more */
    promise_begin_log(path, sizeof path, "quarantine_lost_helper");
    pid_t child = (pid_t)copy_process();
    if (child == 0)
        live_as_copy();
    wait_for_child(child);
    unlink(path);
    _exit(0);
}
