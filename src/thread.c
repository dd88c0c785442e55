/* SPDX-License-Identifier: MIT */
/* thread.c - see thread.h. It knows lists, tids and libc's exit hook, not what a cache holds. */
#include "thread.h"

#include "limit.h"
#include "lock.h"
#include "os.h"
#include "tcache.h"

#include <pthread.h>

/* Where a walk over all caches goes on when it has given the lock up in between; on its stack. */
struct cursor {
    struct bs_link *at;  /* [lock] */
    struct cursor *next; /* [lock] of another thread's walk */
};

static struct {
    struct bs_lock lock;
    struct bs_link caches; /* [lock] */
    size_t n;              /* [lock], read relaxed */
    struct bs_link *next;  /* [lock] where the next search for orphans begins */
    struct bs_link *turn;  /* [lock] whose turn bs_thread_next is at */
    struct cursor *walks;  /* [lock] those that are under way */
    int pid;               /* [atomic] the process whose threads these are */
    void (*begin)(void);   /* [init] */
} registry = {.lock = BS_LOCK_INIT(BS_RANK_REGISTRY), .caches = {&registry.caches, &registry.caches},
              .next = &registry.caches, .turn = &registry.caches};

static size_t granted_bytes; /* [atomic] sum over caches of extra_bytes */

static uint32_t key_state; /* [atomic] 0 none yet, 1 being made, 2 there, 3 libc has none left */
static pthread_key_t key;

void bs_thread_register(struct bs_tcache *tc) {
    bs_lock_acquire(&registry.lock);
    if (registry.pid == 0)
        bs_store(&registry.pid, bs_os_pid());
    bs_list_push_back(&registry.caches, &tc->link);
    bs_store(&registry.n, registry.n + 1);
    bs_lock_release(&registry.lock);
}

static void remove_locked(struct bs_tcache *tc) {
    if (registry.next == &tc->link)
        registry.next = tc->link.next;
    if (registry.turn == &tc->link)
        registry.turn = tc->link.next;
    for (struct cursor *c = registry.walks; c != NULL; c = c->next)
        if (c->at == &tc->link)
            c->at = tc->link.next;
    bs_list_remove(&tc->link);
    bs_store(&registry.n, registry.n - 1);
}

void bs_thread_unregister(struct bs_tcache *tc) {
    bs_lock_acquire(&registry.lock);
    remove_locked(tc);
    bs_lock_release(&registry.lock);
}

static bool have_key(void (*at_exit)(void *)) {
    uint32_t state = 0;
    if (__atomic_compare_exchange_n(&key_state, &state, 1, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_ACQUIRE)) {
        state = pthread_key_create(&key, at_exit) == 0 ? 2 : 3;
        bs_store_release(&key_state, state);
    }
    while ((state = bs_load_acquire(&key_state)) == 1)
        bs_os_yield();
    return state == 2;
}

void bs_thread_set_begin_hook(void (*hook)(void)) {
    registry.begin = hook;
}

bool bs_thread_watch_exit(struct bs_tcache *tc, void (*at_exit)(void *)) {
    if (BS_UNLIKELY(registry.begin != NULL))
        registry.begin();
    /* pthread_setspecific may call calloc; the cache is in place by now, so that works */
    return have_key(at_exit) && pthread_setspecific(key, tc) == 0;
}

void bs_thread_watch_again(struct bs_tcache *tc) {
    (void)pthread_setspecific(key, tc);
}

bool bs_thread_grant(size_t bytes) {
    if (bs_limit_pressure() != BS_PRESSURE_NONE)
        return false;
    if (bs_add(&granted_bytes, bytes) + bytes <= BS_CACHE_TOTAL_BYTES)
        return true;
    bs_sub(&granted_bytes, bytes);
    return false;
}

void bs_thread_refund(size_t bytes) {
    bs_sub(&granted_bytes, bytes);
}

static struct bs_tcache *find_orphan_locked(size_t looks) {
    for (; looks != 0; looks--) {
        if (registry.next == &registry.caches)
            registry.next = registry.caches.next;
        struct bs_tcache *tc = BS_LIST_ENTRY(registry.next, struct bs_tcache, link);
        registry.next = registry.next->next;
        /* not of our own: it is the one call here that a sandbox may know nothing of, and that of sshd kills for */
        if (tc != bs_tcache_self() && !bs_os_thread_alive(tc->tid))
            return tc;
    }
    return NULL;
}

/* Each look asks the kernel, so the lock is given up now and then. */
struct bs_tcache *bs_thread_take_orphan(unsigned max) {
    struct bs_tcache *orphan = NULL;
    bs_lock_acquire(&registry.lock);
    /* A vfork child shares our memory under another pid, in which none of the threads exists. */
    size_t left = bs_thread_are_ours() ? bs_min(max, registry.n) : 0;
    while (left != 0 && orphan == NULL) {
        size_t looks = bs_min(left, BS_REGISTRY_LOOKS);
        orphan = find_orphan_locked(looks);
        left -= looks;
        if (orphan == NULL && left != 0) {
            bs_lock_breathe(&registry.lock);
            left = bs_min(left, registry.n);
        }
    }
    if (orphan != NULL)
        remove_locked(orphan);
    bs_lock_release(&registry.lock);
    return orphan;
}

struct bs_tcache *bs_thread_next(void) {
    struct bs_tcache *tc = NULL;
    bs_lock_acquire(&registry.lock);
    if (registry.turn == &registry.caches)
        registry.turn = registry.caches.next;
    if (registry.turn != &registry.caches) {
        tc = BS_LIST_ENTRY(registry.turn, struct bs_tcache, link);
        registry.turn = registry.turn->next;
    }
    bs_lock_release(&registry.lock);
    return tc;
}

bool bs_thread_are_ours(void) {
    int pid = bs_load(&registry.pid);
    return pid == 0 || pid == bs_os_pid();
}

static void end_walk_locked(const struct cursor *walk) {
    struct cursor **c = &registry.walks;
    while (*c != walk)
        c = &(*c)->next;
    *c = walk->next;
}

void bs_thread_each(bs_cache_visitor *visit, void *ctx) {
    bs_lock_acquire(&registry.lock);
    struct cursor walk = {registry.caches.next, registry.walks};
    registry.walks = &walk;
    for (size_t left = registry.n; left != 0 && walk.at != &registry.caches; left--) {
        struct bs_tcache *tc = BS_LIST_ENTRY(walk.at, struct bs_tcache, link);
        walk.at = walk.at->next;
        visit(ctx, tc);
        if (left % BS_REGISTRY_LOOKS == 0) /* threads want to begin and end */
            bs_lock_breathe(&registry.lock);
    }
    end_walk_locked(&walk);
    bs_lock_release(&registry.lock);
}

size_t bs_thread_share(size_t bytes) {
    return bytes / bs_max(1, bs_load(&registry.n));
}
bool bs_thread_is_single(void) {
    return bs_load(&registry.n) <= 1;
}
size_t bs_thread_count(void) {
    bs_lock_acquire(&registry.lock);
    size_t n = registry.n;
    bs_lock_release(&registry.lock);
    return n;
}

void bs_thread_forked(void) {
    bs_store(&registry.pid, bs_os_pid());
}

void bs_thread_lock(void) {
    bs_lock_acquire(&registry.lock);
}
void bs_thread_unlock(void) {
    bs_lock_release(&registry.lock);
}
void bs_thread_reset_lock(void) {
    registry.walks = NULL; /* those of threads that are not in the child */
    if (bs_load(&key_state) == 1) /* who makes it is not there either */
        bs_store(&key_state, 0u);
    bs_lock_reset(&registry.lock);
}
