/* SPDX-License-Identifier: MIT */
/* hunt_copy.c - see hunt_copy.h. */
#include "hunt_copy.h"

#include "pageheap.h"

/* What the copy leaves. */
struct bs_hunt_verdict {
    uint32_t done; /* [atomic] enum bs_scan_end + 1 */
    struct bs_linear_sums read;
    uint64_t search_ns; /* CPU time */
    size_t n, max;
    struct mark {
        uintptr_t base; /* of a span */
        size_t word;
        uint64_t bits;
    } mark[];
};

/* --- in the copy -------------------------------------------------------------------------------- */

static bool list_marks(void *ctx, uintptr_t base, const uint64_t *alloc, const uint64_t *released) {
    struct bs_hunt_verdict *v = ctx;
    (void)released;
    if (bs_marks_table(base, BS_SIDE_MARK) == NULL)
        return true;
    for (size_t page = 0; page < BS_REGION_PAGES; page++) {
        const struct bs_span *s = bs_span_in_region(alloc, base, page);
        for (size_t w = 0; s != NULL && w < bs_span_words(s) && w < BS_MARKS_PLANES; w++) {
            uint64_t bits = bs_marks_bits(s->base, BS_SIDE_MARK, w);
            if (bits == 0)
                continue;
            BS_CHECK(v->n < v->max); /* a list that is cut short would release what is pointed to */
            v->mark[v->n++] = (struct mark){s->base, w, bits};
        }
    }
    return true;
}

static enum bs_scan_end search(struct bs_hunt_copy *c) {
    struct bs_linear linear;
    struct bs_scan_work *w = c->work;
    if (!bs_roots_copy_has_all(&w->roots) || !bs_scan_finish_words(w))
        return BS_SCAN_NO_ROOTS;
    if (!bs_linear_begin(&linear, NULL, w->roots.range, w->roots.n))
        return BS_SCAN_NO_MEMORY;
    linear.closed = w->roots.closed;
    linear.nclosed = w->roots.nclosed;
    bs_linear_work(&linear);
    bs_linear_end(&linear, &c->verdict->read);
    bs_pageheap_each_region(list_marks, c->verdict);
    return BS_SCAN_DONE;
}

static void in_copy(void *arg) {
    struct bs_hunt_copy *c = arg;
    uint64_t cpu = bs_os_thread_cpu_ns();
    bs_scan_in_copy();
    enum bs_scan_end end = search(c);
    if (end == BS_SCAN_DONE && c->guest != NULL)
        c->guest->stopped(&c->work->roots);
    c->verdict->search_ns = bs_os_thread_cpu_ns() - cpu;
    bs_store_release(&c->verdict->done, (uint32_t)end + 1);
}

/* --- around it ---------------------------------------------------------------------------------- */

/* A word with a mark has a held block in it. */
bool bs_hunt_copy_start(struct bs_hunt_copy *c, struct bs_scan_work *w,
                        const struct bs_hunt_guest *guest, size_t held) {
    uint64_t clone_ns;
    *c = (struct bs_hunt_copy){.work = w, .guest = guest};
    c->bytes =
        bs_align_up(sizeof *c->verdict + held * sizeof c->verdict->mark[0], bs_os_page_size());
    c->verdict = bs_os_alloc_shared(c->bytes);
    if (c->verdict == NULL)
        return false;
    c->verdict->max = held;
    if (bs_scan_copy(w, &c->snapshot, in_copy, c, &clone_ns))
        return true;
    bs_os_free(c->verdict, c->bytes);
    return false;
}

/* A span with a held block is there still, and the same. */
static void set_marks(const struct bs_hunt_verdict *v) {
    for (size_t i = 0; i < v->n; i++) {
        uint64_t *word = bs_marks_word(v->mark[i].base, BS_SIDE_MARK, v->mark[i].word);
        bs_store(word, *word | v->mark[i].bits);
    }
}

enum bs_scan_end bs_hunt_copy_wait(struct bs_hunt_copy *c, struct bs_hunt_result *r) {
    struct bs_budget budget;
    bs_budget_begin(&budget, c->snapshot.pid, SIZE_MAX);
    budget.in_round = true;
    enum bs_scan_end end =
        bs_scan_copy_end(bs_snapshot_wait(&c->snapshot, bs_os_now_ns() + BS_SCAN_TIME_NS,
                                          bs_budget_is_over, &budget),
                         &c->verdict->done);
    if (end == BS_SCAN_DONE) {
        set_marks(c->verdict);
        r->read = c->verdict->read;
        r->search_ns += c->verdict->search_ns;
    }
    bs_os_free(c->verdict, c->bytes);
    return end;
}
