/* SPDX-License-Identifier: MIT */
/*
 * waiting.c - see waiting.h.
 *
 * A waiting span is on no central list and owned by nobody else; it leaves by being taken back for
 * its class, or by being retired and its pages given to the page heap.
 */
#include "waiting.h"

#include "counter.h"
#include "lock.h"
#include "os.h"
#include "pageheap.h"

/* By class, so that a class that needs a span again takes one of its own back; class 0 are large ones. */
static struct {
    struct bs_lock lock;
    struct bs_link spans[BS_NCLASSES]; /* [lock] empty, retired by whoever takes them */
    uint32_t n[BS_NCLASSES];           /* [lock], read relaxed: is it worth a look? */
    size_t total;                      /* [lock], read relaxed: a hint that there is work */
    unsigned next;                     /* [lock] the class the sweeper takes from next */
    /* Large ones by their pages, the one that was freed last first; n[0] of them. */
    struct bs_link large[BS_KEPT_SPAN_PAGES + 1]; /* [lock] */
    uint16_t nlarge[BS_KEPT_SPAN_PAGES + 1];      /* [lock] how many */
    uint64_t lengths;                  /* [lock], read relaxed: bit i: large[i] has a span */
    size_t large_pages;                /* [lock], read relaxed: of all of them */
} waiting = {.lock = BS_LOCK_INIT(BS_RANK_WAITING)};

void bs_waiting_add(unsigned class, struct bs_span *const *spans, size_t n) {
    struct bs_link *head = &waiting.spans[class];
    bs_lock_acquire(&waiting.lock);
    if (head->next == NULL)
        bs_list_init(head);
    for (size_t i = 0; i < n; i++)
        bs_list_push_back(head, &spans[i]->link);
    bs_store(&waiting.n[class], waiting.n[class] + (uint32_t)n);
    bs_store(&waiting.total, waiting.total + n);
    bs_lock_release(&waiting.lock);
}

static void leave_locked(struct bs_span *s) {
    bs_list_remove(&s->link);
    bs_store(&waiting.n[s->class], waiting.n[s->class] - 1);
    bs_store(&waiting.total, waiting.total - 1);
}

static void leave_large_locked(struct bs_span *s) {
    leave_locked(s);
    bs_store(&waiting.large_pages, waiting.large_pages - s->npages);
    if (--waiting.nlarge[s->npages] == 0)
        bs_store(&waiting.lengths, waiting.lengths & ~((uint64_t)1 << s->npages));
}

/* The length whose spans have the most pages; the longest such. What other lengths there are is missed the least so. */
static size_t fullest_length_locked(void) {
    size_t most = 0, length = 0;
    for (uint64_t left = waiting.lengths; left != 0; left &= left - 1) {
        size_t npages = bs_ctz(left), pages = npages * waiting.nlarge[npages];
        if (pages >= most) {
            most = pages;
            length = npages;
        }
    }
    return length;
}

/* The one that has waited longest. */
static struct bs_span *take_waiting_locked(unsigned class) {
    struct bs_link *l =
        class != 0 ? waiting.spans[class].next : waiting.large[fullest_length_locked()].prev;
    struct bs_span *s = BS_LIST_ENTRY(l, struct bs_span, link);
    if (class != 0)
        leave_locked(s);
    else
        leave_large_locked(s);
    return s;
}

bool bs_waiting_has(unsigned class) {
    return bs_load(&waiting.n[class]) != 0;
}

struct bs_span *bs_waiting_take_back(unsigned class) {
    struct bs_span *s = NULL;
    if (!bs_waiting_has(class))
        return NULL;
    bs_lock_acquire(&waiting.lock);
    if (waiting.n[class] != 0)
        s = take_waiting_locked(class);
    bs_lock_release(&waiting.lock);
    return s;
}

static size_t take_waiting(struct bs_span **spans, size_t max) {
    size_t n = 0;
    bs_lock_acquire(&waiting.lock);
    while (n < max && waiting.total != 0) {
        if (waiting.n[waiting.next] != 0)
            spans[n++] = take_waiting_locked(waiting.next);
        else
            waiting.next = (waiting.next + 1) % BS_NCLASSES;
    }
    bs_lock_release(&waiting.lock);
    return n;
}

size_t bs_waiting_small_count(void) {
    return bs_sub_clamped(bs_load(&waiting.total), bs_load(&waiting.n[0]));
}
size_t bs_waiting_count(void) {
    return bs_load(&waiting.total);
}
size_t bs_waiting_large_bytes(void) {
    return bs_load(&waiting.large_pages) * BS_PAGE_SIZE;
}

/* Frees the pages of a span that is retired already: those that were all holes as released. */
static void free_with_holes(const struct bs_run *run, uint16_t holes) {
    size_t os_page = bs_os_page_size();
    uintptr_t first = bs_align_up(run->base, os_page), end = run->base + run->npages * BS_PAGE_SIZE;
    for (uintptr_t p = run->base; p < end; p += BS_PAGE_SIZE) {
        bool hole = p >= first;
        for (uintptr_t q = bs_align_down(p, os_page); hole && q < p + BS_PAGE_SIZE; q += os_page)
            hole = (holes >> ((q - first) / os_page)) & 1;
        struct bs_run page = {.base = p, .npages = 1};
        if (hole)
            bs_pageheap_free_released(p, 1);
        else
            bs_pageheap_free(&page, 1);
    }
}

/* Adds a run, to the last one if they touch: spans that were made one after the other become empty one
 * after the other, and each run costs the page heap an update of its summaries. */
static size_t add_run(struct bs_run *runs, size_t n, struct bs_run run) {
    struct bs_run *last = n != 0 ? &runs[n - 1] : NULL;
    bool behind = last != NULL && last->base + last->npages * BS_PAGE_SIZE == run.base;
    bool before = last != NULL && run.base + run.npages * BS_PAGE_SIZE == last->base;
    if (!behind && !before) {
        runs[n] = run;
        return n + 1;
    }
    last->npages += run.npages;
    if (before)
        last->base = run.base;
    return n;
}

/* At most BS_EMPTY_BATCH spans. */
static void return_spans(struct bs_span *const *spans, size_t n) {
    struct bs_run runs[BS_EMPTY_BATCH];
    size_t nruns = 0;
    bs_span_bury(spans, n); /* before the pages are anybody's: it clears the page map */
    for (size_t i = 0; i < n; i++) {
        struct bs_run run = {.base = spans[i]->base, .npages = spans[i]->npages};
        uint16_t holes = spans[i]->holes;
        bs_span_count_holes(0, bs_popcount(holes));
        bs_span_drop(spans[i]);
        if (holes != 0)
            free_with_holes(&run, holes);
        else
            nruns = add_run(runs, nruns, run);
    }
    bs_pageheap_free(runs, nruns);
}

size_t bs_waiting_return(size_t max) {
    size_t total = 0;
    while (total < max) {
        struct bs_span *spans[BS_EMPTY_BATCH];
        size_t n = take_waiting(spans, bs_min(BS_EMPTY_BATCH, max - total));
        if (n == 0)
            break;
        return_spans(spans, n);
        total += n;
    }
    if (total != 0)
        bs_count(sweeps, 1);
    return total;
}

/* --- large spans ------------------------------------------------------------------------------ */

/* Pages that may be kept. How many blocks of a length are free varies with how many live; but where other
 * lengths are in use as well, what is kept for one is missing for another. */
static size_t most_kept_locked(void) {
    if ((waiting.lengths & (waiting.lengths - 1)) != 0)
        return BS_KEPT_PAGES;
    size_t part = bs_pageheap_used_bytes() / (BS_PAGE_SIZE * BS_KEPT_HEAP_PART);
    return bs_min(BS_KEPT_PAGES_MAX, bs_max(part, BS_KEPT_PAGES));
}

/* One too many: half go, of the lengths that have the most pages. */
static BS_NOINLINE void give_half_of_large(size_t most) {
    struct bs_span *gone[BS_EMPTY_BATCH];
    size_t n = 0;
    bs_lock_acquire(&waiting.lock);
    while (n < BS_EMPTY_BATCH && waiting.large_pages > most / 2)
        gone[n++] = take_waiting_locked(0);
    bs_lock_release(&waiting.lock);
    if (n != 0)
        return_spans(gone, n);
}

static void add_large_locked(struct bs_span *s) {
    size_t npages = s->npages;
    struct bs_link *head = &waiting.large[npages];
    if (head->next == NULL)
        bs_list_init(head);
    bs_list_push_front(head, &s->link);
    waiting.nlarge[npages]++;
    bs_store(&waiting.lengths, waiting.lengths | (uint64_t)1 << npages);
    bs_store(&waiting.large_pages, waiting.large_pages + npages);
    bs_store(&waiting.n[0], waiting.n[0] + 1);
    bs_store(&waiting.total, waiting.total + 1);
}

/* Pages that are too many now: SIZE_MAX, none, else the most that may be kept. */
static size_t over_locked(void) {
    if (BS_LIKELY(waiting.large_pages <= BS_KEPT_PAGES))
        return SIZE_MAX;
    size_t most = most_kept_locked();
    return waiting.large_pages > most ? most : SIZE_MAX;
}

void bs_waiting_add_large(struct bs_span *const *spans, size_t n) {
    bs_lock_acquire(&waiting.lock);
    for (size_t i = 0; i < n; i++)
        add_large_locked(spans[i]);
    size_t most = over_locked();
    bs_lock_release(&waiting.lock);
    if (BS_UNLIKELY(most != SIZE_MAX))
        give_half_of_large(most);
}

/* Spans looked at for one that is aligned. */
#define LOOKS 8

/* Lengths that are there of those that will do, as bits: bit 0 is npages. */
BS_INLINE uint64_t lengths_for(size_t npages) {
    return bs_load(&waiting.lengths) >> npages & bs_low_bits((unsigned)(npages / BS_KEPT_SLACK_PART + 1));
}

static struct bs_span *find_aligned_locked(struct bs_link *head, size_t align) {
    unsigned looks = LOOKS;
    for (struct bs_link *l = head->next; looks-- != 0 && l != head; l = l->next) {
        struct bs_span *s = BS_LIST_ENTRY(l, struct bs_span, link);
        if ((s->base & (align - 1)) == 0)
            return s;
    }
    return NULL;
}

/* So many wait that one can go without making the next miss likelier than it is. */
BS_INLINE bool may_swap(void) {
    return bs_load(&waiting.large_pages) > BS_KEPT_PAGES / 2;
}

struct bs_span *bs_waiting_trade_large(struct bs_span *const *spans, size_t n, size_t npages, size_t align,
                                       struct bs_span **other) {
    struct bs_span *found = NULL;
    *other = NULL;
    if (npages > BS_KEPT_SPAN_PAGES || (n == 0 && lengths_for(npages) == 0 && !may_swap()))
        return NULL;
    bs_lock_acquire(&waiting.lock);
    for (size_t i = 0; i < n; i++)
        add_large_locked(spans[i]);
    for (uint64_t left = lengths_for(npages); left != 0 && found == NULL; left &= left - 1)
        found = find_aligned_locked(&waiting.large[npages + bs_ctz(left)], align);
    if (found != NULL)
        leave_large_locked(found);
    else if (may_swap())
        *other = take_waiting_locked(0);
    size_t most = n != 0 ? over_locked() : SIZE_MAX;
    bs_lock_release(&waiting.lock);
    if (BS_UNLIKELY(most != SIZE_MAX))
        give_half_of_large(most);
    return found;
}

void bs_waiting_lock(void) {
    bs_lock_acquire(&waiting.lock);
}
void bs_waiting_unlock(void) {
    bs_lock_release(&waiting.lock);
}
void bs_waiting_reset_lock(void) {
    bs_lock_reset(&waiting.lock);
}
