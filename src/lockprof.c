/* SPDX-License-Identifier: MIT */
/* lockprof.c - see lockprof.h. Empty but for builds that measure locks. */
#include "lock.h"

#if BS_LOCK_PROFILE

#include "bits.h"
#include "os.h"
#include "out.h"

static struct bs_lock *locks;     /* [atomic] all that were ever taken */
static uint64_t start_ticks, start_ns; /* by whoever took the first lock of all */

static const char *const rank_name[BS_RANK_COUNT] = {
    [BS_RANK_FORK] = "fork",         [BS_RANK_ROUND] = "round",
    [BS_RANK_RELIEF] = "relief",     [BS_RANK_BORROW] = "borrow",   [BS_RANK_RECORD] = "record",
    [BS_RANK_LOG] = "log",           [BS_RANK_REGISTRY] = "registry",
    [BS_RANK_CENTRAL] = "central",   [BS_RANK_WAITING] = "waiting", [BS_RANK_GROW] = "grow",
    [BS_RANK_THP] = "thp",           [BS_RANK_PAGE_HEAP] = "pageheap",
    [BS_RANK_SAMPLE] = "sample",     [BS_RANK_STACKS] = "stacks",   [BS_RANK_META] = "meta",
};

static unsigned bucket_of(uint64_t ticks) {
    if (ticks < 4)
        return (unsigned)ticks;
    unsigned top = bs_msb(ticks);
    unsigned bucket = (top - 1) * 4 + (unsigned)(ticks >> (top - 2) & 3);
    return bucket < BS_LOCKPROF_BUCKETS ? bucket : BS_LOCKPROF_BUCKETS - 1;
}

/* The least number of ticks of the bucket. */
static uint64_t bucket_begin(unsigned bucket) {
    if (bucket < 4)
        return bucket;
    unsigned top = bucket / 4 + 1;
    return (uint64_t)(4 + bucket % 4) << (top - 2);
}

static BS_NOINLINE void list(struct bs_lock *lock) {
    struct bs_lock *head = bs_load_acquire(&locks);
    if (head == NULL && bs_load(&start_ns) == 0) {
        bs_store(&start_ns, bs_os_now_ns());
        start_ticks = bs_lockprof_now();
    }
    lock->prof.listed = true;
    do
        lock->prof.next = head;
    while (!__atomic_compare_exchange_n(&locks, &head, lock, false, __ATOMIC_RELEASE,
                                        __ATOMIC_ACQUIRE));
}

void bs_lockprof_got(struct bs_lock *lock, uint64_t asked, bool contended) {
    struct bs_lockprof *prof = &lock->prof;
    if (BS_UNLIKELY(!prof->listed))
        list(lock);
    prof->acquired++;
    if (BS_UNLIKELY(contended)) {
        prof->contended++;
        prof->waited += bs_lockprof_now() - asked;
    }
    prof->since = bs_lockprof_now();
}

void bs_lockprof_leaves(struct bs_lock *lock) {
    struct bs_lockprof *prof = &lock->prof;
    uint64_t ticks = bs_lockprof_now() - prof->since;
    prof->held += ticks;
    if (ticks > prof->longest)
        prof->longest = ticks;
    prof->hist[bucket_of(ticks)]++;
}

/* RANK ADDRESS acquired contended held-ns waited-ns longest-ns, then BEGIN-NS:HOLDS a bucket. */
static void write_lock(int fd, const struct bs_lock *lock, uint64_t ns, uint64_t ticks) {
    const struct bs_lockprof *p = &lock->prof;
    static char text[8192]; /* [owner] of the process that ends */
    struct bs_out out;
    __extension__ typedef unsigned __int128 wide;
#define IN_NS(t) ((uint64_t)((wide)(t) * ns / ticks))
    bs_out_init(&out, text, sizeof text);
    bs_out_printf(&out, "%s %p %ju %ju %ju %ju %ju", rank_name[lock->rank], (const void *)lock,
                  p->acquired, p->contended, IN_NS(p->held), IN_NS(p->waited), IN_NS(p->longest));
    for (unsigned i = 0; i < BS_LOCKPROF_BUCKETS; i++)
        if (p->hist[i] != 0)
            bs_out_printf(&out, " %ju:%u", IN_NS(bucket_begin(i)), p->hist[i]);
    bs_out_char(&out, '\n');
    (void)bs_os_write(fd, bs_out_text(&out), out.len);
}

void bs_lockprof_write(const char *path) {
    uint64_t ns = bs_os_now_ns() - start_ns, ticks = bs_lockprof_now() - start_ticks;
    int fd = bs_os_open_append(path);
    if (fd < 0) {
        bs_warn("cannot write %s", path);
        return;
    }
    for (const struct bs_lock *lock = bs_load_acquire(&locks); lock != NULL; lock = lock->prof.next)
        write_lock(fd, lock, ns, bs_max(1, ticks));
    bs_os_close(fd);
}

#endif
