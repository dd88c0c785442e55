/* SPDX-License-Identifier: MIT */
/*
 * roots.c - see roots.h: mappings to ranges. /proc/self/maps is in address order, and so are the
 * tables of what is left out and of special mappings, so that one pass over each is enough.
 */
#include "roots.h"

#include "lines.h"
#include "meta.h"
#include "pageheap.h"
#include "pagemap.h"

#include <errno.h>
#include <string.h>

#define PARTS 32
/* Where all pages have to be tried, 100 ns each, a mapping of more bytes makes the scan impossible. */
#define BLIND_MAX (4 * BS_GIB)

enum { DEVICE = 1, WAITS = 2, SWAPPED = 4, NO_FORK = 8, WIPED = 16, THERE = 32, OPENED = 64, WRITES_WAIT = 128 };

struct bs_special {
    struct bs_range range;
    unsigned what;
    uint32_t file; /* hash of where it begins in which file */
};

/* --- memory ----------------------------------------------------------------------------------- */

bool bs_roots_prepare(struct bs_roots *r, size_t capacity) {
    size_t each = 5 * sizeof(struct bs_range) + sizeof(struct bs_special) + sizeof(uintptr_t) + 1;
    *r = (struct bs_roots){.capacity = capacity, .mapped_bytes = capacity * each, .pages = -1};
    char *p = bs_meta_map(r->mapped_bytes);
    if (p == NULL)
        return false;
    r->range = (struct bs_range *)(void *)p;
    r->own = r->range + capacity;
    r->forked = r->own + capacity;
    r->closed = r->forked + capacity;
    r->whole = r->closed + capacity;
    r->special = (struct bs_special *)(void *)(r->whole + capacity);
    r->words = (uintptr_t *)(void *)(r->special + capacity);
    r->flags = (uint8_t *)(r->words + capacity);
    return true;
}

void bs_roots_drop(struct bs_roots *r) {
    bs_meta_unmap(r->range, r->mapped_bytes);
    r->range = NULL;
}

void bs_roots_add(struct bs_roots *r, uintptr_t start, uintptr_t end, unsigned flags) {
    if (start >= end)
        return;
    r->bytes += end - start;
    if (r->n != 0 && r->n <= r->capacity && r->range[r->n - 1].end == start &&
        r->flags[r->n - 1] == flags) {
        r->range[r->n - 1].end = end;
        return;
    }
    if (r->n < r->capacity) {
        r->range[r->n] = (struct bs_range){start, end};
        r->flags[r->n] = (uint8_t)flags;
    }
    r->n++;
}

/* --- flags of mappings ------------------------------------------------------------------------ */

/* The same of each part of a mapping; of memory without a file another one than of any file. */
static uint32_t file_of(const struct bs_mapping *m) {
    uint64_t hash = m->is_file ? m->offset - m->start : 0;
    for (const char *s = m->name; *s != '\0'; s++)
        hash = (hash ^ (unsigned char)*s) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(hash >> 32);
}

/* "VmFlags: rd wr mr mw me ac sd" */
static unsigned read_flags(const char *line) {
    static const struct {
        char name[3];
        unsigned what;
    } known[] = {{"io", DEVICE}, {"pf", DEVICE}, {"um", WAITS}, {"ui", WAITS},
                 {"uw", WRITES_WAIT}, {"dc", NO_FORK}, {"wf", WIPED}};
    unsigned what = 0;
    if (strncmp(line, "VmFlags:", 8) != 0)
        return 0;
    for (line += 8; line[0] == ' ' && line[1] != '\0' && line[2] != '\0'; line += 3)
        for (size_t i = 0; i < BS_ARRAY_LEN(known); i++)
            if (line[1] == known[i].name[0] && line[2] == known[i].name[1])
                what |= known[i].what;
    return what;
}

/* A copy would have it. Neighbours become one. */
static void note_forked(struct bs_roots *r, const struct bs_mapping *m) {
    if (r->nforked != 0 && r->forked[r->nforked - 1].end == m->start)
        r->forked[r->nforked - 1].end = m->end;
    else if (r->nforked < r->capacity)
        r->forked[r->nforked++] = (struct bs_range){m->start, m->end};
}

static bool read_smaps(struct bs_roots *r) {
    struct bs_lines lines;
    struct bs_mapping m = {.start = 0};
    char line[160];
    r->nspecial = r->nforked = r->needed = 0;
    r->some_unforked = r->some_wait = false;
    if (!bs_lines_open_own(&lines, "smaps"))
        return false;
    bool is_new = false, flags_seen = false;
    uint32_t file = 0;
    while (bs_lines_next(&lines, line, sizeof line)) {
        if (bs_lines_mapping(line, &m)) {
            is_new = true;
            file = file_of(&m);
            continue;
        }
        unsigned what = read_flags(line);
        if (m.perms[3] == 's' && bs_lines_kib(line, "Swap:") != 0)
            what |= SWAPPED;
        flags_seen |= line[0] == 'V';
        r->some_unforked |= (what & NO_FORK) != 0;
        /* (the heap is our own to watch, and waits for nobody) */
        r->some_wait |= (what & WAITS) != 0 || ((what & WRITES_WAIT) != 0 && bs_pagemap_arena(m.start) == NULL);
        what &= ~(unsigned)WRITES_WAIT;
        if (line[0] == 'V' && (what & (NO_FORK | WIPED)) == 0)
            note_forked(r, &m);
        if (what == 0)
            continue;
        r->needed += is_new;
        if (is_new && r->needed <= r->capacity)
            r->special[r->nspecial++] = (struct bs_special){{m.start, m.end}, 0, file};
        if (r->needed == r->nspecial)
            r->special[r->nspecial - 1].what |= what;
        is_new = false;
    }
    bs_lines_close(&lines);
    return r->needed <= r->capacity && flags_seen && !lines.failed;
}

bool bs_roots_learn(struct bs_roots *r) {
    struct bs_roots larger;
    bool known = read_smaps(r);
    if (r->needed <= r->capacity || !bs_roots_prepare(&larger, r->needed + r->needed / 4))
        return known;
    bs_roots_drop(r);
    *r = larger;
    return read_smaps(r);
}

/* Of a program that marks memory so, what it has mapped since may be marked as well. */
static bool may_be_unforked(struct bs_roots *r, const struct bs_mapping *m) {
    while (r->next_forked < r->nforked && r->forked[r->next_forked].end <= m->start)
        r->next_forked++;
    return r->some_unforked && m->perms[3] != 's' &&
           (r->next_forked == r->nforked || r->forked[r->next_forked].start > m->start ||
            r->forked[r->next_forked].end < m->end);
}

/* What is known of any part of the mapping. Mappings are asked in address order. (The flags may be some seconds old:
 * where a device was there may be the program's memory by now.) */
static unsigned special_of(struct bs_roots *r, const struct bs_mapping *m) {
    unsigned what = 0;
    uint32_t file = file_of(m);
    while (r->next_special < r->nspecial && r->special[r->next_special].range.end <= m->start)
        r->next_special++;
    for (size_t i = r->next_special; i < r->nspecial && r->special[i].range.start < m->end; i++) {
        struct bs_special *s = &r->special[i];
        what |= s->what & ~(s->file != file ? (unsigned)DEVICE : 0u);
        s->what |= s->range.start == m->start && s->range.end == m->end ? THERE : 0u;
    }
    bool may_be = may_be_unforked(r, m) && (what & WIPED) == 0;
    return what | (may_be ? (unsigned)NO_FORK : 0u);
}

/* --- what is left out ------------------------------------------------------------------------- */

static void leave_out(struct bs_roots *r, uintptr_t start, uintptr_t end) {
    if (start >= end)
        return;
    if (r->nown != 0 && r->nown <= r->capacity && r->own[r->nown - 1].end == start) {
        r->own[r->nown - 1].end = end;
        return;
    }
    if (r->nown < r->capacity)
        r->own[r->nown] = (struct bs_range){start, end};
    r->nown++;
}

static bool leave_region_out(void *ctx, uintptr_t base, const uint64_t *alloc,
                             const uint64_t *released) {
    (void)alloc, (void)released;
    leave_out(ctx, base, base + BS_REGION_SIZE);
    return true;
}

/* Shell's: there are some dozens, and no memory to sort in. */
static void sort_ranges(struct bs_range *range, size_t n) {
    for (size_t gap = n / 2; gap != 0; gap /= 2)
        for (size_t i = gap; i < n; i++) {
            struct bs_range x = range[i];
            size_t j = i;
            for (; j >= gap && range[j - gap].start > x.start; j -= gap)
                range[j] = range[j - gap];
            range[j] = x;
        }
}

static uintptr_t dead_end(const struct bs_root_stack *s) {
    return bs_align_down(s->sp - BS_RED_ZONE, sizeof(uintptr_t));
}

/* False: no room. */
static bool collect_own(struct bs_roots *r, const struct bs_root_stack *stack, size_t nstacks,
                        const struct bs_range *without, size_t nwithout) {
    r->nown = r->next_own = 0;
    bs_pageheap_each_region(leave_region_out, r);
    for (size_t i = 0; i < nstacks; i++)
        if (stack[i].low > BS_STACK_MAPPING)
            leave_out(r, stack[i].low, dead_end(&stack[i]));
    for (size_t i = 0; i < nwithout; i++)
        leave_out(r, without[i].start, without[i].end);
    if (r->nown <= r->capacity)
        r->nown += bs_meta_ranges(r->own + r->nown, r->capacity - r->nown);
    r->needed = bs_max(r->needed, r->nown);
    if (r->nown > r->capacity)
        return false;
    sort_ranges(r->own, r->nown);
    return true;
}

/* --- mappings --------------------------------------------------------------------------------- */

static bool begins(const char *s, const char *with) {
    return strncmp(s, with, strlen(with)) == 0;
}

static bool is_memory_of_kernel(const char *name) {
    return begins(name, "[vvar") || begins(name, "[vdso") || begins(name, "[vsyscall");
}
static bool is_ring(const char *name) {
    return begins(name, "anon_inode:[io_uring]") || begins(name, "/[aio]");
}
static bool is_shared_memory(const char *name) {
    return name[0] == '\0' || begins(name, "/dev/zero") || begins(name, "/dev/shm/") || begins(name, "/dev/hugepages/") ||
           begins(name, "/anon_hugepage") || begins(name, "/SYSV") || begins(name, "/memfd:") ||
           begins(name, "[anon_shmem:") || is_ring(name);
}
static bool is_device(const char *name) {
    return begins(name, "/dev/") && !is_shared_memory(name);
}

/* (What cannot be written now may have been: the program, or the dynamic linker, has protected it since.) IF_COPIED: of
 * a file, of which nobody says which pages are copies, only if any is. */
enum holds { NOTHING, POINTERS, IF_COPIED };
static enum holds what_holds(const struct bs_roots *r, const struct bs_mapping *m, unsigned special) {
    bool shared = m->perms[3] == 's', writable = m->perms[1] == 'w';
    if (m->perms[0] != 'r' || is_memory_of_kernel(m->name) || is_device(m->name))
        return NOTHING;
    if ((special & DEVICE) != 0 && !is_ring(m->name))
        return NOTHING;
    if (shared)
        return is_shared_memory(m->name) ? POINTERS : NOTHING;
    return writable || !m->is_file || r->knows_copies ? POINTERS : IF_COPIED;
}

/* One mapping less what is left out, on its way to ranges. */
struct listing {
    struct bs_roots *roots;
    unsigned flags; /* of its ranges */
    unsigned pages; /* how bs_os_populated is asked */
    bool whole;     /* it is not: every page is listed */
};

/* [start, end), which need not be whole pages. */
static void list(struct listing *l, uintptr_t start, uintptr_t end) {
    struct bs_range part[PARTS];
    size_t os_page = bs_os_page_size();
    uintptr_t p = bs_align_down(start, os_page), limit = bs_align_up(end, os_page);
    if (l->whole) {
        bs_roots_add(l->roots, start, end, l->flags);
        return;
    }
    while (p < limit) {
        size_t n = bs_os_populated(l->roots->pages, p, limit, l->pages, part, PARTS, &p);
        l->roots->is_blind |= bs_os_pages_source() == BS_PAGES_ALL;
        for (size_t i = 0; i < n; i++)
            bs_roots_add(l->roots, bs_max(part[i].start, start), bs_min(part[i].end, end),
                         l->flags);
    }
}

/* False: it cannot be known, or would take too long. */
static bool list_mapping(struct bs_roots *r, const struct bs_mapping *m, unsigned what, uintptr_t start) {
    bool shared = m->perms[3] == 's', waits = (what & WAITS) != 0;
    size_t before = r->bytes;
    if (waits && (r->is_blind || (shared && !r->knows_copies)))
        return false;
    if (r->is_blind && bs_pagemap_arena(start) == NULL && m->end - start > BLIND_MAX)
        return false;
    struct listing l = {.roots = r, .whole = (what & SWAPPED) != 0 && !waits};
    l.flags = (shared ? BS_ROOT_SHARED : 0u) | ((what & NO_FORK) != 0 ? BS_ROOT_NO_FORK : 0u) |
              ((what & WIPED) != 0 ? BS_ROOT_WIPED : 0u) | (m->perms[2] == 'x' ? BS_ROOT_CODE : 0u) |
              (!shared && m->is_file ? BS_ROOT_FILE : 0u);
    l.pages = waits && shared ? 0 : shared ? BS_PAGES_SHARED : m->is_file ? BS_PAGES_CHANGED : 0;
    while (r->next_own < r->nown && r->own[r->next_own].end <= start)
        r->next_own++;
    for (size_t i = r->next_own; i < r->nown && r->own[i].start < m->end; i++) {
        if (r->own[i].start > start)
            list(&l, start, r->own[i].start);
        start = bs_max(start, r->own[i].end);
    }
    if (start < m->end)
        list(&l, start, m->end);
    r->has_gaps |= shared && !waits && r->bytes - before < m->end - m->start;
    return true;
}

/* Does the kernel say which pages of private memory hold something, and which are a file's still? */
static void ask_for_source(struct bs_roots *r) {
    struct bs_range part;
    uintptr_t p = bs_align_down((uintptr_t)&part, bs_os_page_size()), next;
    (void)bs_os_populated(r->pages, p, p + bs_os_page_size(), 0, &part, 1, &next);
    enum bs_pages_source source = bs_os_pages_source();
    r->is_blind = source == BS_PAGES_ALL;
    r->knows_copies = source == BS_PAGES_SCAN || source == BS_PAGES_MAP;
}

/* The lowest byte of the mapping that may be alive. */
static uintptr_t live_start(const struct bs_mapping *m, const struct bs_root_stack *stack,
                            size_t nstacks) {
    for (size_t i = 0; i < nstacks && stack[i].low <= BS_STACK_MAPPING; i++)
        if (stack[i].low == BS_STACK_MAPPING && stack[i].sp - m->start < m->end - m->start)
            return bs_max(m->start, dead_end(&stack[i]));
    return m->start;
}

/* A program may close pages of its blocks: a guard in a stack of its own making. */
static void note_closed(struct bs_roots *r, const struct bs_mapping *m) {
    if (m->perms[0] == 'r' || bs_pagemap_arena(m->start) == NULL)
        return;
    if (r->nclosed < r->capacity)
        r->closed[r->nclosed] = (struct bs_range){m->start, m->end};
    r->nclosed++;
}

/* A mapping that is to be listed if its fields in smaps say so. */
struct undecided {
    struct bs_mapping m;
    unsigned what;
    bool is_left;
    bool has_fields; /* else all of them are listed */
};

/* A line that begins a mapping. */
static bool see_mapping(struct bs_roots *r, const struct bs_mapping *m, uintptr_t start, struct undecided *rest) {
    unsigned what = special_of(r, m);
    enum holds holds = what_holds(r, m, what);
    r->nmappings++;
    note_closed(r, m);
    *rest = (struct undecided){*m, what, holds == IF_COPIED && rest->has_fields, rest->has_fields};
    return holds == NOTHING || rest->is_left || list_mapping(r, m, what, start);
}

/* A line of smaps that does not. */
static bool see_field(struct bs_roots *r, const char *line, struct undecided *rest) {
    if (!rest->is_left || (bs_lines_kib(line, "Anonymous:") == 0 && bs_lines_kib(line, "Swap:") == 0))
        return true;
    rest->is_left = false;
    return list_mapping(r, &rest->m, rest->what, rest->m.start);
}

static bool is_not_there(int error) {
    return error == -ENOENT || error == -EACCES || error == -EPERM;
}

/* Where pages do not tell copies from a file's own, mappings do, in the longer text, if the kernel has that. */
static bool open_mappings(const struct bs_roots *r, struct bs_lines *lines, bool *has_fields) {
    *has_fields = !r->knows_copies && bs_lines_open_own(lines, "smaps");
    return *has_fields || ((r->knows_copies || is_not_there(lines->fd)) && bs_lines_open_own(lines, "maps"));
}

/* Of shared memory nothing but smaps tells what is swapped out from what never was there, for a mapping as a whole:
 * that is listed once more, with all of its pages. Only where something is swapped out, and after the pages were asked,
 * so that what left memory in between is seen. */
static BS_NOINLINE bool list_swapped(struct bs_roots *r) {
    struct bs_lines lines;
    struct bs_mapping m = {.start = 0};
    unsigned what = SWAPPED;
    char line[160];
    bool all = true;
    if (!r->has_gaps || !bs_os_swap_is_used())
        return true;
    if (!bs_lines_open_own(&lines, "smaps"))
        return false;
    r->next_own = r->next_special = r->next_forked = 0;
    while (all && bs_lines_next(&lines, line, sizeof line)) {
        if (bs_lines_mapping(line, &m)) {
            what = special_of(r, &m);
            what |= m.perms[3] != 's' || what_holds(r, &m, what) != POINTERS || (what & WAITS) != 0 ? SWAPPED : 0u;
        } else if ((what & SWAPPED) == 0 && bs_lines_kib(line, "Swap:") != 0) {
            what |= SWAPPED;
            all = list_mapping(r, &m, what, m.start);
        }
    }
    all &= !lines.failed;
    bs_lines_close(&lines);
    return all;
}

enum bs_roots_result bs_roots_take(struct bs_roots *r, const struct bs_root_stack *stack, size_t nstacks,
                                   const struct bs_range *without, size_t nwithout) {
    struct undecided rest = {.what = 0};
    struct bs_lines lines;
    struct bs_mapping m;
    char line[160];
    r->n = r->bytes = r->needed = r->nmappings = r->nwords = r->next_special = r->next_forked = 0;
    r->nclosed = 0;
    r->has_gaps = false;
    if (!collect_own(r, stack, nstacks, without, nwithout))
        return BS_ROOTS_NO_ROOM;
    r->pages = bs_os_pages_open();
    uint64_t identity = bs_os_identity(r->pages);
    ask_for_source(r);
    bool all = open_mappings(r, &lines, &rest.has_fields), opened = all;
    while (all && bs_lines_next(&lines, line, sizeof line))
        all = bs_lines_mapping(line, &m) ? see_mapping(r, &m, live_start(&m, stack, nstacks), &rest)
                                         : see_field(r, line, &rest);
    if (opened) {
        all &= !lines.failed;
        bs_lines_close(&lines);
    }
    all = all && list_swapped(r);
    all &= bs_os_close_same(r->pages, identity);
    r->needed = bs_max(r->needed, bs_max(r->n, r->nclosed));
    if (r->n <= r->capacity && r->nclosed <= r->capacity)
        return all && r->nmappings != 0 ? BS_ROOTS_TAKEN : BS_ROOTS_UNKNOWN;
    r->n = bs_min(r->n, r->capacity);
    return BS_ROOTS_NO_ROOM;
}

/* --- memory that a copy would not have -------------------------------------------------------- */

/* It is the mapping that was looked at before the stop, and NO_FORK is all that is the matter with it. */
static bool can_be_opened(const struct bs_special *s) {
    return (s->what & (NO_FORK | THERE | DEVICE | WIPED)) == (NO_FORK | THERE);
}

/* Blocks are not listed as roots, of which those words would be kept before the copy is made. */
static bool is_missing_heap(const struct bs_special *s) {
    bool is_heap = bs_pagemap_arena(s->range.start) != NULL || bs_pagemap_arena(s->range.end - 1) != NULL;
    return is_heap && ((s->what & WIPED) != 0 || (s->what & (NO_FORK | OPENED)) == NO_FORK);
}

bool bs_roots_open(struct bs_roots *r) {
    size_t i = 0;
    bool all = true;
    for (size_t k = 0; k < r->nspecial; k++) {
        struct bs_special *s = &r->special[k];
        if (!can_be_opened(s) || bs_os_clone_has(s->range.start, s->range.end, true) != 0) {
            all &= !is_missing_heap(s);
            continue;
        }
        s->what |= OPENED;
        while (i < r->n && r->range[i].end <= s->range.start)
            i++;
        for (; i < r->n && r->range[i].start >= s->range.start && r->range[i].end <= s->range.end; i++)
            r->flags[i] &= (uint8_t)~BS_ROOT_NO_FORK;
    }
    return all;
}

void bs_roots_close(struct bs_roots *r) {
    for (size_t k = 0; k < r->nspecial; k++)
        if ((r->special[k].what & OPENED) != 0) {
            r->special[k].what &= ~(unsigned)OPENED;
            (void)bs_os_clone_has(r->special[k].range.start, r->special[k].range.end, false);
        }
}

bool bs_roots_copy_has_all(struct bs_roots *r) {
    struct bs_lines lines;
    struct bs_mapping m;
    char line[160];
    unsigned known = 0;
    bool all = true;
    r->next_special = r->next_forked = 0;
    if (!bs_lines_open_own(&lines, "smaps"))
        return false;
    while (all && bs_lines_next(&lines, line, sizeof line))
        if (bs_lines_mapping(line, &m))
            known = special_of(r, &m);
        else
            all = (read_flags(line) & ~known & WIPED) == 0;
    all &= !lines.failed;
    bs_lines_close(&lines);
    return all;
}
