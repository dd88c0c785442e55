/* SPDX-License-Identifier: MIT */
/* snapshot.c - see snapshot.h. */
#include "snapshot.h"

#include "os.h"

#include <errno.h>

/* Between two looks; the first ones come sooner, since most scans are short. */
#define LOOK_NS UINT64_C(10000000)
#define FIRST_LOOK_NS UINT64_C(200000)

bool bs_snapshot_start(struct bs_snapshot *s, void (*fn)(void *), void *arg) {
    int pid = bs_os_clone(fn, arg);
    *s = (struct bs_snapshot){.pid = pid > 0 ? pid : 0, .error = pid < 0 ? -pid : 0};
    return s->pid != 0;
}

enum bs_snapshot_end bs_snapshot_wait(struct bs_snapshot *s, uint64_t deadline_ns,
                                      bool (*give_up)(void *ctx), void *ctx) {
    int ended;
    for (uint64_t pause = FIRST_LOOK_NS; (ended = bs_os_clone_ended(s->pid, &s->status)) == 0;
         pause = bs_min(2 * pause, LOOK_NS)) {
        if (bs_os_now_ns() >= deadline_ns || (give_up != NULL && give_up(ctx))) {
            s->status = bs_os_clone_kill(s->pid);
            s->pid = 0;
            return BS_SNAPSHOT_KILLED;
        }
        bs_os_wait(&s->sleep, 0, pause);
    }
    if (ended < 0 && ended != -ECHILD) /* a filter that came after it: it would search on for nobody */
        (void)bs_os_clone_kill(s->pid);
    s->pid = 0;
    if (ended < 0)
        return BS_SNAPSHOT_LOST;
    return s->status == 0 ? BS_SNAPSHOT_DONE : BS_SNAPSHOT_DIED;
}
