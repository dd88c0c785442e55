/* SPDX-License-Identifier: MIT */
/*
 * Promise: with scan:quarantine a child of fork under a filter that refuses it a thread more, as a daemon in a sandbox, has its
 * quarantine searched by the threads that free, as soon as with a helper; and the log says once that there is none.
 */
#include "no_helper.h"

#include "../refuse_call.h"

#include <pthread.h>

static char path[64];

static void *work(void *arg) {
    for (;;)
        free_some();
    return arg;
}
static void sleep_some(void) {
    sleep_ms(10);
}

/* (libc's threads are made by clone3.) */
static void live_as_daemon(void) {
    pthread_t thread[2];
    alarm(2 * PROMISE_CHILD_LIMIT_S);
    promise_begin_log(path, sizeof path, "quarantine_no_helper");
    if (!refuse_call(SYS_clone))
        promise_skip("no filter can be installed");
    for (unsigned i = 0; i < 2; i++)
        if (pthread_create(&thread[i], NULL, work, NULL) != 0)
            promise_skip("libc makes threads by clone here");
    must_search_in_time(path, sleep_some);
    unsigned notes = lines_with(path, " note: ", "no helper thread can be had");
    BS_CHECK(notes == 1, "%u lines say that there is no helper", notes);
    unlink(path);
    _exit(0);
}

int main(void) {
    keep_much();
    pid_t child = fork();
    if (child == 0)
        live_as_daemon();
    wait_for_child(child);
    promise_begin_log(path, sizeof path, "quarantine_no_helper"); /* this one's goes, too */
    _exit(0);
}
