/* SPDX-License-Identifier: MIT */
/*
 * thread.h - the registry of thread caches: who has one, and whose thread is gone.
 *
 * Lock: BS_RANK_REGISTRY, held for list operations and for BS_REGISTRY_LOOKS caches at a time.
 */
#ifndef BS_THREAD_H
#define BS_THREAD_H

#include "base.h"

struct bs_tcache;

/* Enters / removes a cache. */
void bs_thread_register(struct bs_tcache *tc);
void bs_thread_unregister(struct bs_tcache *tc);
/* Arranges that the thread's end gives its cache back. False: libc has no key left. */
bool bs_thread_watch_exit(struct bs_tcache *tc, void (*at_exit)(void *));
/* Called by each thread that comes to a cache, outside of all locks. Set once, before threads exist; NULL: nobody. */
void bs_thread_set_begin_hook(void (*hook)(void));
/* Calls the exit hook once more in the next round of destructors. */
void bs_thread_watch_again(struct bs_tcache *tc);

/* Grants `bytes` of magazine capacity out of the process's total; false: used up. */
bool bs_thread_grant(size_t bytes);
void bs_thread_refund(size_t bytes);

/* Takes one cache whose thread no longer exists out of the registry, or NULL. Looks at no more
 * than max caches, going round from call to call. */
struct bs_tcache *bs_thread_take_orphan(unsigned max);

/* The next cache in turn, or NULL if there is none. */
struct bs_tcache *bs_thread_next(void);
/* False in a vfork child, which shares our memory under another pid: the threads are not its. */
bool bs_thread_are_ours(void);

typedef void bs_cache_visitor(void *ctx, const struct bs_tcache *tc);
/* Calls visit under the registry lock for each cache that is registered all the while; the lock is
 * given up now and then, so caches come and go between two calls. */
void bs_thread_each(bs_cache_visitor *visit, void *ctx);
size_t bs_thread_count(void);
/* What each cache may have of so many bytes. Relaxed. */
size_t bs_thread_share(size_t bytes);
/* At most one cache is registered: asked without the lock, by who knows that no other thread is there. */
bool bs_thread_is_single(void);

/* glibc's, since 2.32: pthread_create was not called in this process. */
extern char __libc_single_threaded __attribute__((weak));
/* Nobody but the helper is there besides: no other thread of libc's, and nobody who made threads of the kernel's alone
 * and has a cache. */
BS_INLINE bool bs_thread_is_alone(void) {
    return &__libc_single_threaded != NULL && __libc_single_threaded && bs_thread_is_single();
}

/* At the start, and in a forked child, where the threads of the parent are gone: the threads are
 * this process's. */
void bs_thread_forked(void);
void bs_thread_lock(void);
void bs_thread_unlock(void);
void bs_thread_reset_lock(void);

#endif
