/* SPDX-License-Identifier: MIT */
/*
 * reader.h - who reads the memory of small blocks while the program runs, and those who take it away from under
 * him: from the moment at which a span is looked at until its words were read its pages stay small blocks' own.
 *
 * Between the look and the read the reader may lose its CPU for any time. Meanwhile the span may be retired, its
 * pages become a block of a page or more, which the program may close (mprotect), or which besom unmaps: the read
 * would end the process. So the reader says which span it is about to look at, and whoever retires small spans
 * waits while that is one of his. Both have to be sure that they see each other:
 *
 *   reader   span = s     | compiler's fence | look: is it DEAD?  | read | span = NULL (release)
 *   retirer  s is DEAD    | membarrier       | is it `span`? then wait    | pages, descriptor are given away
 *
 * membarrier is a full fence on each CPU at some moment of the call. Did the reader store `span` before it, then the
 * retirer sees that; else what the reader loads after that store comes later than the fence, and it sees DEAD, or
 * what the descriptor has become since, which is protected in its turn. So whenever a look says "small" with
 * the span held, it says what the span is, and it stays so: the look's first load sees the state that was stored last
 * (with release) before, what is loaded after it is of that life or a later one, and a later one cannot begin.
 * (For that a class is stored with release, too: a large span, whose retirement nobody waits for, has class 0, and
 * a class of a small one is never seen beside the base of what was there before.)
 *
 * While nobody reads, who retires pays a load. begin() makes up for the fence that is missing between DEAD and that
 * load: it stores DIRECT and calls membarrier before the first look. A retirer that loaded OFF had stored DEAD before
 * that fence, so each look sees it; all others see DIRECT. end() comes after the last read, and is a release.
 *
 * Where membarrier is missing nothing may be read directly: hold() says no, and what is to be read is copied. Should
 * it fail later (no memory in the kernel, a new filter), a retirer asks the reader to copy from now on, and waits
 * until it has heard: the reader's answer is a release, the retirer's question an acq_rel exchange, so that each later
 * look sees DEAD by that.
 *
 * The wait ends. While a span is held the reader reads at most a span's words and looks up what they are: no lock,
 * no system call, no memory. So a retirer may hold any lock that the reader takes elsewhere. A question is answered at the
 * next hold() or by end(): on the way there the reader takes the page heap's lock and the metadata's, and the
 * retirer holds neither (they are not held where spans are retired: bs_pageheap_free would take the first). It never stops
 * the world between begin and end, where a retirer that waits inside besom would be in the way. A thread that waits
 * sleeps between its looks, so one of higher priority does not keep the CPU from the reader.
 *
 * Who reads holds the round: there is one reader, rounds do not nest, and a fork waits until it is over; a child has
 * none, and forgets what it may have inherited (bs_reader_forked). The reader is the helper, or a thread that frees
 * and searches itself: both end with the process only. (A thread that frees in a handler of a signal that interrupts it
 * in its own search would wait for itself, as it would for any of besom's locks.) A vfork child shares the memory,
 * and membarrier reaches its parent's threads as well. A search that is given up ends as others do.
 */
#ifndef BS_READER_H
#define BS_READER_H

#include "base.h"

struct bs_span;

enum bs_reader_mode { BS_READER_OFF, BS_READER_DIRECT, BS_READER_ASKED, BS_READER_COPIES };

struct bs_reader {
    uint32_t mode BS_PADDED;     /* [atomic] enum bs_reader_mode */
    uint32_t waiting;            /* [atomic] threads that wait for the reader, for tests */
    const struct bs_span *span BS_PADDED; /* [atomic] that is held; the reader's own line */
#if BS_FAULTS
    void (*looked)(const struct bs_span *s); /* a test's: between the look and the read */
#endif
};
BS_LOCAL extern struct bs_reader bs_reader;

/* --- who reads, in a round ------------------------------------------------------------------------ */

/* The program runs; false: nothing will be held. Not nested. */
bool bs_reader_begin(void);
/* Also without a beginning. */
void bs_reader_end(void);

bool bs_reader_refused(void);
/* From now until bs_reader_let_go, if a look (bs_span_shape) says now that this span is a small one, its pages can be
 * read. False: they cannot, whatever it says. */
BS_INLINE bool bs_reader_hold(const struct bs_span *s) {
    bs_store(&bs_reader.span, s);
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the rest is done by whoever retires */
    return BS_LIKELY(bs_load_acquire(&bs_reader.mode) == BS_READER_DIRECT) || !bs_reader_refused();
}
BS_INLINE void bs_reader_let_go(void) {
    bs_store_release(&bs_reader.span, NULL); /* pairs with bs_reader_wait: all was read */
}
/* For who reads: is this the one? */
BS_INLINE bool bs_reader_is_held(const struct bs_span *s) {
    return bs_load(&bs_reader.span) == s;
}
BS_INLINE void bs_reader_looked(const struct bs_span *s) {
#if BS_FAULTS
    if (bs_reader.looked != NULL)
        bs_reader.looked(s);
#else
    (void)s;
#endif
}

/* --- who retires ------------------------------------------------------------------------------------ */

void bs_reader_wait(struct bs_span *const *spans, size_t n);
/* The spans are DEAD. Nobody reads their memory any more when it returns. No lock of rank page heap or higher. */
BS_INLINE void bs_reader_pass(struct bs_span *const *spans, size_t n) {
    if (BS_UNLIKELY(bs_load(&bs_reader.mode) != BS_READER_OFF))
        bs_reader_wait(spans, n);
}

/* In a child. */
BS_INLINE void bs_reader_forked(void) {
    if (BS_UNLIKELY(bs_load(&bs_reader.mode) != BS_READER_OFF))
        bs_reader_end();
}

#endif
