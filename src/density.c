/* SPDX-License-Identifier: MIT */
/* density.c - see density.h. Locks: the page heap's and the huge pages' (thp.h), through their
 * interfaces and one after the other; the kernel is asked without any. */
#include "density.h"

#include "opt.h"
#include "os.h"
#include "pageheap.h"
#include "thp.h"

#define NS_PER_MS 1000000u
/* Pages taken or given so many times since the last pass are worth a helper. */
#define ACTIVITY_WORTH_A_PASS 64
#define OS_PAGES_MAX (BS_HUGE_SIZE / 4096)
#define HUGE_WORDS (BS_HUGE_PAGES / 64)

/* [lock:round], all of it */
static struct {
    uintptr_t cursor;  /* regions below it are done in this pass, 1 where it begins; 0: no pass under way */
    uint64_t began_ns; /* when the pass began */
    uint64_t activity; /* [atomic] of the page heap, then */
    bool again;        /* something is to be looked at a second time */
} pass;

struct walk {
    struct bs_density_work *work;
    uint64_t deadline_ns; /* 0: none */
    size_t os_page;
    bool stopped;
};

/* What of a huge page is in memory: a bit for each page, and bytes. False: the kernel does not say. */
struct presence {
    uint64_t page[HUGE_WORDS];
    size_t bytes;
};

static bool look(const struct walk *w, uintptr_t huge, struct presence *p) {
    unsigned char vec[OS_PAGES_MAX];
    size_t n = BS_HUGE_SIZE / w->os_page;
    *p = (struct presence){.bytes = 0};
    if (n > OS_PAGES_MAX || bs_os_residency((void *)huge, BS_HUGE_SIZE, vec) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((vec[i] & 1) != 0) {
            p->bytes += w->os_page;
            bs_bit_set(p->page, i * w->os_page / BS_PAGE_SIZE);
        }
    return true;
}

/* --- one huge page ---------------------------------------------------------------------------- */

static void find_overfilled(struct walk *w, uintptr_t huge) {
    struct presence p;
    if (look(w, huge, &p) && p.bytes != 0)
        w->work->overfilled_bytes += bs_pageheap_note_resident(huge, p.page) * BS_PAGE_SIZE;
}

static void find_dense(struct walk *w, uintptr_t huge, bool was_dense) {
    struct presence p;
    bool dense = look(w, huge, &p) && p.bytes >= BS_DENSE_BYTES;
    if (dense && was_dense)
        w->work->joined += bs_thp_restore(huge);
    else if (dense)
        pass.again |= bs_thp_note_dense(huge);
    else if (was_dense)
        (void)bs_thp_note_sparse(huge);
}

static void visit_huge(struct walk *w, uintptr_t huge, size_t nused, size_t nreleased) {
    if (bs_thp_may_be_huge(huge)) {
        if (nreleased != 0 && nreleased != BS_HUGE_PAGES)
            find_overfilled(w, huge);
        return;
    }
    enum bs_thp_state state = bs_thp_state_of(huge);
    if (state == BS_THP_DENSE || (state == BS_THP_SMALL && nused == BS_HUGE_PAGES))
        find_dense(w, huge, state == BS_THP_DENSE);
}

/* --- the walk --------------------------------------------------------------------------------- */

static bool visit_region(void *ctx, uintptr_t base, const uint64_t *alloc,
                         const uint64_t *released) {
    struct walk *w = ctx;
    if (base < pass.cursor)
        return true;
    for (size_t h = 0; h < BS_REGION_HUGES; h++)
        visit_huge(w, base + h * BS_HUGE_SIZE,
                   bs_range_count(alloc, h * BS_HUGE_PAGES, BS_HUGE_PAGES),
                   bs_range_count(released, h * BS_HUGE_PAGES, BS_HUGE_PAGES));
    pass.cursor = base + BS_REGION_SIZE;
    w->stopped = w->deadline_ns != 0 && bs_os_now_ns() >= w->deadline_ns;
    return !w->stopped;
}

static bool begin_pass(bool force) {
    uint64_t now = bs_os_now_ns(), activity = bs_pageheap_activity();
    if (!force && !pass.again && activity == pass.activity)
        return false;
    if (!force && pass.began_ns != 0 && now - pass.began_ns < bs_opt.scavenge_delay * NS_PER_MS)
        return false;
    pass.began_ns = now;
    bs_store(&pass.activity, activity);
    pass.again = false;
    pass.cursor = 1;
    return true;
}

bool bs_density_round(uint64_t budget_ns, bool force, struct bs_density_work *work) {
    *work = (struct bs_density_work){0};
    if (!bs_thp_is_managed())
        return false;
    if ((pass.cursor != 0 && !force) || begin_pass(force)) {
        struct walk w = {.work = work,
                         .deadline_ns = budget_ns != 0 ? bs_os_now_ns() + budget_ns : 0,
                         .os_page = bs_os_page_size()};
        bs_pageheap_each_region_from(pass.cursor - 1, visit_region, &w);
        if (!w.stopped)
            pass.cursor = 0;
    }
    return pass.cursor != 0 || pass.again || bs_pageheap_activity() != pass.activity;
}

BS_ALWAYS bool bs_density_has_work(void) {
    return bs_pageheap_activity() - bs_load(&pass.activity) > ACTIVITY_WORTH_A_PASS &&
           bs_thp_is_managed();
}
