/* SPDX-License-Identifier: MIT */
/*
 * large.h - blocks above BS_SMALL_MAX, and blocks aligned above a page: each is a span of one slot.
 *
 * A large span belongs to whoever holds its block, as the block itself does: two threads that
 * resize and free the same block at once race in the program, not here. Pages that are given back
 * keep their physical memory until the scavenger takes it, so the next large block needs no page
 * faults; not those of BS_LARGE_GIVE_BYTES and more. May grow the heap: no lock may be held.
 */
#ifndef BS_LARGE_H
#define BS_LARGE_H

#include "settle.h"

/* size <= BS_REQUEST_MAX; align a power of two. With `zero` the block reads as zeros. NULL: no
 * memory. */
void *bs_large_alloc(size_t size, size_t align, bool zero);
/* The same with what the calling thread keeps (tcache_kept.h), else NULL; not cleared. */
void *bs_large_alloc_kept(size_t size, size_t align);
/* The same with what it does not keep. */
void *bs_large_alloc_missed(size_t size, size_t align, bool zero);
void bs_large_free(struct bs_span *s);
/* The same by the program's thread, which may keep it. True: it does, quietly (tcache_kept.h). */
bool bs_large_free_own(struct bs_span *s);
/* Ends a block that is held (quarantine.h), outside of any cycle of marks; `empty`: its pages have no memory. */
void bs_large_release_held(struct bs_span *s, bool empty);
/* Gives the memory behind a block to the OS, so that it reads as zeros. False: nothing was done. */
bool bs_large_empty(struct bs_span *s);
/* As bs_large_resize, but no byte of the block becomes free: it stays as long as it is, or grows in
 * place, or another one is made, and then *left is true: it is the caller's still. */
void *bs_large_resize_keeping(struct bs_span *s, size_t size, bool *left);
/* Makes the block hold `size` bytes (> BS_SMALL_MAX): in place, or moved by page tables or by
 * copying. NULL: no memory, and the block is as it was. */
void *bs_large_resize(struct bs_span *s, size_t size);
/* What M_TRIM_THRESHOLD says: a block that is freed is not given to the OS at once if so many bytes may lie free. */
void bs_large_set_keep(size_t bytes);
/* Bytes the block may use. */
BS_INLINE size_t bs_large_usable(const struct bs_span *s) {
    return (size_t)bs_load(&s->npages) * BS_PAGE_SIZE; /* may be asked of any pointer */
}
/* Bytes in the pages of all large blocks. Relaxed. */
size_t bs_large_span_bytes(void);
/* Bytes in the spans that are kept for large blocks, by threads and waiting. Visits all caches. Relaxed. */
size_t bs_large_kept_bytes(void);

#endif
