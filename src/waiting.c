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

/* By class, so that a class that needs a span again takes one of its own back. */
static struct {
    struct bs_lock lock;
    struct bs_link spans[BS_NCLASSES]; /* [lock] empty, retired by whoever takes them */
    uint32_t n[BS_NCLASSES];           /* [lock], read relaxed: is it worth a look? */
    size_t total;                      /* [lock], read relaxed: a hint that there is work */
    unsigned next;                     /* [lock] the class the sweeper takes from next */
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

static struct bs_span *take_waiting_locked(unsigned class) {
    struct bs_span *s = BS_LIST_ENTRY(waiting.spans[class].next, struct bs_span, link);
    bs_list_remove(&s->link);
    bs_store(&waiting.n[class], waiting.n[class] - 1);
    bs_store(&waiting.total, waiting.total - 1);
    return s;
}

struct bs_span *bs_waiting_take_back(unsigned class) {
    struct bs_span *s = NULL;
    if (bs_load(&waiting.n[class]) == 0)
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

void bs_waiting_renew(uint32_t sweepgen) {
    bs_lock_acquire(&waiting.lock);
    for (unsigned class = 1; class < BS_NCLASSES; class++) {
        struct bs_link *head = &waiting.spans[class];
        if (waiting.n[class] == 0)
            continue;
        for (struct bs_link *l = head->next; l != head; l = l->next)
            bs_store(&BS_LIST_ENTRY(l, struct bs_span, link)->sweepgen, sweepgen);
    }
    bs_lock_release(&waiting.lock);
}

size_t bs_waiting_count(void) {
    return bs_load(&waiting.total);
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

size_t bs_waiting_return(size_t max) {
    size_t total = 0;
    while (total < max) {
        struct bs_span *spans[BS_EMPTY_BATCH];
        struct bs_run runs[BS_EMPTY_BATCH];
        size_t n = take_waiting(spans, bs_min(BS_EMPTY_BATCH, max - total));
        if (n == 0)
            break;
        size_t nruns = 0;
        for (size_t i = 0; i < n; i++) {
            struct bs_run run = {.base = spans[i]->base, .npages = spans[i]->npages};
            uint16_t holes = spans[i]->holes;
            bs_span_count_holes(0, bs_popcount(holes));
            bs_span_retire(spans[i]); /* before the pages are anybody's: it clears the page map */
            if (holes != 0)
                free_with_holes(&run, holes);
            else
                runs[nruns++] = run;
        }
        bs_pageheap_free(runs, nruns);
        total += n;
    }
    if (total != 0)
        bs_count(sweeps, 1);
    return total;
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
