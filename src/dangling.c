/* SPDX-License-Identifier: MIT */
/* dangling.c - see dangling.h. */
#include "dangling.h"

#include "bygone.h"
#include "meta.h"
#include "opt.h"
#include "settle.h"
#include "suppress.h"


#define REFERRERS_BYTES bs_align_up(sizeof(struct bs_referrers), bs_os_page_size())

/* A stack that blocks were freed from which something points to. */
struct group {
    struct bs_stack *stack; /* NULL: an empty place */
    struct bs_stack *origin;
    bool told;          /* for good; or suppressed */
    uint32_t listed_in; /* the search before which blocks of it were listed, */
    uint32_t kept_in;   /* and the one that the sums are of */
    unsigned nlisted;
    uintptr_t listed[BS_REFERRERS_OF_STACK];
    uint64_t blocks, bytes, samples, oldest_ns, newest_ns;
};

static struct {          /* [lock:round] */
    struct group *group; /* BS_DANGLING_STACKS, hashed by address; NULL: not made yet */
    size_t ngroups;
    struct bs_referrers *referrers; /* shared with a copy; of this search */
    uint32_t search;                  /* number of this one */
    uint64_t told;                    /* stacks, ever */
    uint64_t suppressed;              /* [atomic] */
    bool anything;                    /* there are freed blocks that something is known of */
    struct bs_dangling_report *ready; /* [atomic] for bs_dangling_take */
} dangling;

/* --- groups ------------------------------------------------------------------------------------- */

static struct group *place_of(const struct bs_stack *stack) {
    size_t i =
        (size_t)(((uintptr_t)stack >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 40) % BS_DANGLING_STACKS;
    while (dangling.group[i].stack != NULL && dangling.group[i].stack != stack)
        i = (i + 1) % BS_DANGLING_STACKS;
    return &dangling.group[i];
}

/* NULL: there are too many. */
static struct group *group_of(const struct bs_bygone *f) {
    struct group *g = place_of(f->stack);
    if (g->stack != NULL)
        return g;
    if (dangling.ngroups == BS_DANGLING_STACKS / 4 * 3)
        return NULL;
    dangling.ngroups++;
    *g = (struct group){.stack = f->stack, .origin = f->origin};
    return g;
}

/* --- before the search --------------------------------------------------------------------------- */

/* A block that the last search has kept: one of a stack that is still to be told is listed. */
static bool list_block(void *ctx, uintptr_t p, const struct bs_bygone *f) {
    struct bs_referrers *r = ctx;
    struct group *g = f->kept && f->looks < BS_REFERRERS_LOOKS ? group_of(f) : NULL;
    const struct bs_span *s = g != NULL && !g->told ? bs_span_of(p) : NULL;
    if (s == NULL)
        return true;
    if (g->listed_in != dangling.search) {
        g->listed_in = dangling.search;
        g->nlisted = 0;
    }
    if (g->nlisted == BS_REFERRERS_OF_STACK)
        return true;
    g->listed[g->nlisted++] = p;
    r->want[r->n++] = (struct bs_wanted){.base = p, .size = bs_slot_block(s, 0).size};
    return r->n < BS_REFERRERS_BLOCKS;
}

static bool make_tables(void) {
    if (dangling.group == NULL)
        dangling.group = bs_meta_map(BS_DANGLING_STACKS * sizeof *dangling.group);
    dangling.referrers = bs_os_alloc_shared(REFERRERS_BYTES);
    return dangling.group != NULL && dangling.referrers != NULL;
}

/* (A forked child has no part in what its parent's copies write.) */
static void begin(void) {
    if (dangling.referrers != NULL)
        bs_os_free(dangling.referrers, REFERRERS_BYTES);
    dangling.referrers = NULL;
    dangling.anything = bs_bygone_count() != 0 && make_tables();
    dangling.search++;
    if (!dangling.anything)
        return;
    dangling.referrers->n = 0;
    bs_bygone_each(list_block, dangling.referrers);
    bs_referrers_prepare(dangling.referrers);
}

/* --- in the search, and after it ------------------------------------------------------------------ */

static void stopped(const struct bs_roots *roots) {
    if (dangling.anything)
        bs_referrers_roots(dangling.referrers, roots);
}

static struct bs_range memory(void) {
    uintptr_t start = (uintptr_t)dangling.referrers;
    return (struct bs_range){start, dangling.anything ? start + REFERRERS_BYTES : start};
}

static void judged(void) {
    if (dangling.anything)
        bs_referrers_heap(dangling.referrers);
    bs_bygone_settle(); /* in any case: some may have been freed since it began */
}

static void see_kept(void *ctx, uintptr_t base, size_t size, bool again) {
    struct bs_bygone f;
    (void)ctx, (void)size;
    if (!dangling.anything || !bs_bygone_keep(base, &f) || !again)
        return;
    struct group *g = group_of(&f);
    if (g == NULL || g->told)
        return;
    if (g->kept_in != dangling.search) {
        g->kept_in = dangling.search;
        g->blocks = g->bytes = g->samples = g->newest_ns = 0;
        g->oldest_ns = UINT64_MAX;
    }
    g->samples++;
    g->blocks += f.blocks;
    g->bytes += f.bytes;
    g->oldest_ns = bs_min(g->oldest_ns, f.time_ns);
    g->newest_ns = bs_max(g->newest_ns, f.time_ns);
}

/* --- what is told --------------------------------------------------------------------------------- */

static bool is_listed(const struct group *g) {
    return g->stack != NULL && !g->told && g->listed_in == dangling.search;
}
static unsigned words_of(uintptr_t base) {
    const struct bs_wanted *w = bs_referrers_of(dangling.referrers, base);
    return w != NULL ? w->n : 0;
}

/* Blocks of it are kept again, and it is known what for. (Of those that are kept for a pointer to their
 * neighbour alone there is nothing to tell.) */
static bool is_due(const struct group *g) {
    unsigned words = 0;
    if (!is_listed(g) || g->kept_in != dangling.search)
        return false;
    for (unsigned i = 0; i < g->nlisted; i++)
        words += words_of(g->listed[i]);
    return words != 0;
}

/* Who was looked for in vain is not looked for again and again. */
static void note_vain(const struct group *g) {
    for (unsigned i = 0; is_listed(g) && i < g->nlisted; i++)
        if (words_of(g->listed[i]) == 0)
            bs_bygone_looked(g->listed[i]);
}

/* The due group with most bytes that is not in the report yet. */
static struct group *next_due(void) {
    struct group *best = NULL;
    for (size_t i = 0; i < BS_DANGLING_STACKS; i++) {
        struct group *g = &dangling.group[i];
        if (is_due(g) && (best == NULL || g->bytes > best->bytes))
            best = g;
    }
    return best;
}
/* Less those that are suppressed, which count as told. */
static size_t count_due(void) {
    size_t n = 0;
    for (size_t i = 0; i < BS_DANGLING_STACKS; i++) {
        struct group *g = &dangling.group[i];
        note_vain(g);
        if (!is_due(g))
            continue;
        g->told = bs_suppress_find(g->stack) >= 0 || bs_suppress_find(g->origin) >= 0;
        bs_add(&dangling.suppressed, g->told);
        n += !g->told;
    }
    return n;
}

static void add_words(struct bs_dangling *item, uintptr_t base) {
    const struct bs_wanted *w = bs_referrers_of(dangling.referrers, base);
    for (unsigned i = 0; w != NULL && i < w->n; i++) {
        struct bs_dangling_word *word = &item->word[item->nwords++];
        *word = (struct bs_dangling_word){.by = w->by[i], .base = base};
        bs_variable_begin(&word->variable, word->by.kind == BS_REFERRER_MEMORY ? word->by.at : 0);
    }
}

static void tell(struct bs_dangling *item, struct group *g) {
    *item = (struct bs_dangling){.stack = g->stack,
                                 .origin = g->origin,
                                 .blocks = g->blocks,
                                 .bytes = g->bytes,
                                 .samples = g->samples,
                                 .oldest_ns = g->oldest_ns,
                                 .newest_ns = g->newest_ns};
    for (unsigned i = 0; i < g->nlisted; i++)
        add_words(item, g->listed[i]);
    g->told = true;
}

static void name_words(struct bs_dangling_report *report) {
    struct bs_variable **variable = (struct bs_variable **)(void *)report->stack; /* nobody has filled it yet */
    size_t nvariables = 0;
    for (size_t i = 0; i < report->n; i++)
        for (unsigned k = 0; k < report->item[i].nwords; k++)
            variable[nvariables++] = &report->item[i].word[k].variable;
    bs_variables_find(variable, nvariables);
    for (size_t i = 0; i < report->n; i++)
        for (unsigned k = 0; k < report->item[i].nwords; k++)
            if (report->item[i].word[k].variable.is_first_stack) {
                report->item[i].word[k].by.kind = BS_REFERRER_STACK;
                report->item[i].word[k].by.tid = bs_os_pid();
            }
}

static void end(void) {
    size_t due = dangling.anything ? count_due() : 0, n = bs_min(due, bs_opt.log_stacks);
    if (n == 0 || bs_load(&dangling.ready) != NULL)
        return;
    size_t bytes = sizeof(struct bs_dangling_report) + n * sizeof(struct bs_dangling) +
                   n * (2 + BS_DANGLING_WORDS) * sizeof(struct bs_stack *);
    struct bs_dangling_report *report = bs_meta_map(bytes);
    if (report == NULL)
        return;
    report->mapped_bytes = bytes;
    report->stack = (struct bs_stack **)(void *)&report->item[n];
    report->first = dangling.told + 1;
    report->more = due - n;
    report->cut = dangling.referrers->cut;
    for (; report->n < n; report->n++)
        tell(&report->item[report->n], next_due());
    dangling.told += n;
    name_words(report);
    bs_store_release(&dangling.ready, report); /* pairs with the exchange in bs_dangling_take */
}

const struct bs_hunt_guest *bs_dangling_guest(void) {
    static const struct bs_hunt_guest guest = {begin,  stopped,  memory,
                                               judged, see_kept, end};
    return &guest;
}

uint64_t bs_dangling_suppressed(void) {
    return bs_load(&dangling.suppressed);
}

struct bs_dangling_report *bs_dangling_take(void) {
    if (bs_load(&dangling.ready) == NULL)
        return NULL;
    return __atomic_exchange_n(&dangling.ready, NULL, __ATOMIC_ACQUIRE);
}

void bs_dangling_drop(struct bs_dangling_report *report) {
    bs_meta_unmap(report, report->mapped_bytes);
}

/* (It stays mapped: the forking thread may have been interrupted with the lock that dropping it takes.) */
void bs_dangling_forked(void) {
    (void)bs_dangling_take();
}
