/* SPDX-License-Identifier: MIT */
/*
 * stacks.c - see stacks.h. Two tables of open addressing, whose slots are published when what they point to is
 * complete: distinct stacks, of which none is removed, and mappings of modules, of which those that are no more go
 * when the table is full.
 */
#include "stacks.h"

#include "lock.h"
#include "meta.h"
#include "modules.h"
#include "tunables.h"

#include <string.h>
#include <sys/auxv.h>

#define STACK_SLOTS (2 * BS_STACKS_MAX)
#define MAPPING_SLOTS (4 * BS_MODULES_MAX)
#define MAPPINGS_MAX (MAPPING_SLOTS / 2)
#define PATH_MAX_BYTES 512

/* A module where it was once. Who has no lock reads it as well: what matches a module that is loaded does not change, and
 * of others `start` is 0 before anything else is written. */
struct mapping {
    struct mapping *next; /* [lock] of those that are not in the table */
    struct bs_place place; /* start: [atomic] */
    struct bs_module *module;
    uintptr_t bias;
    uintptr_t id_at; /* where its build-id stands; 0: it has none */
    uint64_t id; /* the first bytes there: another module may come to lie there as this one did */
};

struct bs_stack bs_stacks_other;

static struct {
    struct bs_lock lock;
    struct bs_stack **slot;     /* [init] STACK_SLOTS; each [atomic], written once [lock] */
    uint32_t n;                 /* [lock], read relaxed */
    struct mapping **mapping;   /* [init] MAPPING_SLOTS; each [atomic], written [lock] */
    struct mapping *unused;     /* [lock] */
    struct mapping *gone;       /* [lock] taken out of the table last; somebody may look at them still */
    uint32_t turned_away;       /* [lock] so many times more the table is full, and not looked through */
    struct mapping *lasting[BS_UNWIND_LASTING]; /* [atomic] of those places; NULL: not looked for yet */
    struct bs_module **module;  /* [init] BS_MODULES_MAX; the same; number i + 1 */
    uint32_t nmodules, nmappings; /* [lock], read with acquire */
    const void *own;            /* [init] link map of besom; NULL: it is part of the program */
} stacks = {.lock = BS_LOCK_INIT(BS_RANK_STACKS)};

bool bs_stacks_start(void) {
    struct bs_place place;
    struct bs_stack **slot = bs_meta_map(STACK_SLOTS * sizeof *slot);
    stacks.mapping = bs_meta_map(MAPPING_SLOTS * sizeof *stacks.mapping);
    stacks.module = bs_meta_map(BS_MODULES_MAX * sizeof *stacks.module);
    if (slot == NULL || stacks.mapping == NULL || stacks.module == NULL)
        return false;
    if (bs_unwind_find_place(&bs_stacks_other, &place) && !bs_modules_is_program(&place))
        stacks.own = place.link_map;
    bs_unwind_note_lasting(&bs_stacks_other);
    bs_unwind_note_lasting((const void *)getauxval(AT_PHDR)); /* the program */
    bs_unwind_note_lasting((const void *)(uintptr_t)getauxval);  /* libc */
    bs_store_release(&stacks.slot, slot);
    return true;
}

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* --- modules ---------------------------------------------------------------------------------- */

static uintptr_t bias_of(const struct bs_place *place) {
    return bs_modules_bias(place);
}

static bool is_at(const struct mapping *m, const struct bs_place *place) {
    return bs_load_acquire(&m->place.start) == place->start && bs_load(&m->place.end) == place->end &&
           bs_load(&m->place.eh_frame_hdr) == place->eh_frame_hdr && bs_load(&m->place.link_map) == place->link_map;
}

/* Where the search for a mapping begins. */
static size_t home_of(const struct bs_place *place) {
    return mix(place->start ^ place->eh_frame_hdr << 17 ^ (uintptr_t)place->link_map);
}

/* NULL: it is not there; without the lock also while the table is made anew. */
static struct mapping *find_mapping(const struct bs_place *place) {
    size_t i = home_of(place);
    for (size_t n = 0; n < MAPPING_SLOTS; n++, i++) {
        /* acquire: pairs with the release in put_mapping_locked */
        struct mapping *m = bs_load_acquire(&stacks.mapping[i % MAPPING_SLOTS]);
        if (m == NULL)
            return NULL;
        if (is_at(m, place) && m->bias == bias_of(place) &&
            (m->id_at == 0 || bs_modules_id_at(place, m->id_at) == m->id))
            return m;
    }
    return NULL;
}

static void put_mapping_locked(struct mapping *m) {
    size_t i = home_of(&m->place);
    while (stacks.mapping[i % MAPPING_SLOTS] != NULL)
        i++;
    bs_store_release(&stacks.mapping[i % MAPPING_SLOTS], m);
    stacks.nmappings++;
}

/* --- mappings that are no more ------------------------------------------------------------------ */

/* (Of two modules that were there one after the other the earlier one may stay, too.) */
static bool is_gone(const struct mapping *m) {
    struct bs_place now;
    return !bs_unwind_find_place((const void *)m->place.start, &now) || !is_at(m, &now);
}

/* A program that loads and unloads a plug-in finds another place for it each time. What was taken out of the table is
 * used again only when that comes once more: whoever has looked at it is done by then. */
static void drop_gone_locked(void) {
    struct mapping *kept = NULL, **end = &stacks.unused;
    while (*end != NULL)
        end = &(*end)->next;
    *end = stacks.gone;
    stacks.gone = NULL;
    for (size_t i = 0; i < MAPPING_SLOTS; i++) {
        struct mapping *m = stacks.mapping[i];
        if (m == NULL)
            continue;
        bs_store(&stacks.mapping[i], (struct mapping *)NULL);
        bool gone = is_gone(m);
        m->next = gone ? stacks.gone : kept;
        *(gone ? &stacks.gone : &kept) = m;
        if (gone)
            bs_store(&m->place.start, (uintptr_t)0);
    }
    for (stacks.nmappings = 0; kept != NULL; kept = kept->next)
        put_mapping_locked(kept);
}

/* Room for one more. To look for it costs some 0.1 ms, so not each time if there is little. */
static bool has_room_locked(void) {
    if (stacks.nmappings < MAPPINGS_MAX)
        return true;
    if (stacks.turned_away != 0) {
        stacks.turned_away--;
        return false;
    }
    drop_gone_locked();
    stacks.turned_away = stacks.nmappings > MAPPINGS_MAX / 4 * 3 ? MAPPINGS_MAX : 0;
    return stacks.nmappings < MAPPINGS_MAX;
}

static struct mapping *new_mapping_locked(void) {
    struct mapping *m = stacks.unused;
    if (m == NULL)
        return bs_meta_alloc(sizeof *m);
    stacks.unused = m->next;
    return m;
}

static void fill_mapping(struct mapping *m, const struct bs_place *place, struct bs_module *module, uintptr_t id_at) {
    m->module = module;
    m->bias = bias_of(place);
    m->id_at = id_at;
    m->id = id_at != 0 ? bs_modules_id_at(place, id_at) : 0;
    bs_store(&m->place.end, place->end);
    bs_store(&m->place.eh_frame_hdr, place->eh_frame_hdr);
    bs_store(&m->place.link_map, place->link_map);
    bs_store_release(&m->place.start, place->start); /* pairs with is_at */
}

/* --- modules, continued ------------------------------------------------------------------------- */

static struct bs_module *add_module_locked(const struct bs_module *m, const char *path) {
    size_t length = strlen(path) + 1;
    if (stacks.nmodules == BS_MODULES_MAX)
        return NULL;
    struct bs_module *copy = bs_meta_alloc(sizeof *copy + length);
    if (copy == NULL)
        return NULL;
    *copy = *m;
    copy->number = stacks.nmodules + 1;
    copy->path = memcpy(copy + 1, path, length);
    stacks.module[stacks.nmodules] = copy;
    bs_store_release(&stacks.nmodules, stacks.nmodules + 1);
    return copy;
}

/* The module of that build-id and path; a new one if there is none. Without a build-id a path that
 * was loaded again may be another file. */
static struct bs_module *module_locked(const struct bs_place *place, uintptr_t *id_at) {
    char path[PATH_MAX_BYTES];
    struct bs_module m = {.place = *place, .bias = bias_of(place)};
    m.id_bytes = (uint8_t)bs_modules_build_id(place, m.id, sizeof m.id, id_at);
    bs_modules_path(place, path, sizeof path);
    for (uint32_t i = 0; i < stacks.nmodules && m.id_bytes != 0; i++) {
        struct bs_module *old = stacks.module[i];
        if (old->id_bytes == m.id_bytes && memcmp(old->id, m.id, m.id_bytes) == 0 &&
            strcmp(old->path, path) == 0) {
            old->place = m.place;
            old->bias = m.bias;
            return old;
        }
    }
    return add_module_locked(&m, path);
}

static struct mapping *add_mapping_locked(const struct bs_place *place) {
    struct mapping *m = find_mapping(place);
    if (m != NULL || !has_room_locked())
        return m;
    uintptr_t id_at = 0;
    struct bs_module *module = module_locked(place, &id_at);
    m = module != NULL ? new_mapping_locked() : NULL;
    if (m == NULL)
        return NULL;
    fill_mapping(m, place, module, id_at);
    put_mapping_locked(m);
    return m;
}

/* NULL: there are too many. What lasts is never taken out of the table, and its build-id need not be compared. */
static struct mapping *mapping_of(const struct bs_place *place, unsigned lasts) {
    struct mapping **known = lasts != 0 ? &stacks.lasting[lasts - 1] : NULL;
    struct mapping *m = known != NULL ? bs_load_acquire(known) : NULL;
    if (BS_LIKELY(m != NULL))
        return m;
    if ((m = find_mapping(place)) == NULL) {
        bs_lock_acquire(&stacks.lock);
        m = add_mapping_locked(place);
        bs_lock_release(&stacks.lock);
    }
    if (known != NULL)
        bs_store_release(known, m);
    return m;
}

/* --- stacks ----------------------------------------------------------------------------------- */

/* The walk as frames, less besom's own. Code that the program makes as it runs lies at ever new addresses. So that it does
 * not take all room, only the first half of the stacks has these; then frames in a row that lie in no module are one, 0. */
static uint32_t encode(const struct bs_walk *w, uint64_t frame[BS_UNWIND_MAX]) {
    struct mapping *mapping[BS_UNWIND_PLACES] = {NULL};
    uint32_t n = 0;
    bool inside = stacks.own != NULL, coarse = bs_load(&stacks.n) >= BS_STACKS_MAX / 2;
    for (unsigned i = 0; i < w->n; i++) {
        unsigned place = w->place[i];
        bool known = place < w->nplaces;
        if (inside && known && w->places[place].link_map == stacks.own)
            continue;
        inside = false;
        if (known && mapping[place] == NULL)
            mapping[place] = mapping_of(&w->places[place], w->lasts[place]);
        if (known && mapping[place] != NULL)
            frame[n++] = (uint64_t)mapping[place]->module->number << 48 |
                         BS_FRAME_OFFSET(w->pc[i] - mapping[place]->bias);
        else if (!coarse)
            frame[n++] = BS_FRAME_OFFSET(w->pc[i]);
        else if (n == 0 || frame[n - 1] != 0)
            frame[n++] = 0;
    }
    return n;
}

static uint32_t hash_of(const uint64_t *frame, uint32_t n) {
    uint64_t x = n;
    for (uint32_t i = 0; i < n; i++)
        x = mix(x * 0x9e3779b97f4a7c15u + frame[i]);
    return (uint32_t)(x ^ x >> 32);
}

/* The stack's slot, or the empty one where it belongs. The table is never full. */
static struct bs_stack **find_stack(const uint64_t *frame, uint32_t n, uint32_t hash) {
    for (size_t i = hash;; i++) {
        struct bs_stack **slot = &stacks.slot[i % STACK_SLOTS];
        /* acquire: pairs with the release in add_stack */
        struct bs_stack *s = bs_load_acquire(slot);
        if (s == NULL ||
            (s->hash == hash && s->n == n && memcmp(s->frame, frame, n * sizeof *frame) == 0))
            return slot;
    }
}

static BS_NOINLINE struct bs_stack *add_stack(const uint64_t *frame, uint32_t n, uint32_t hash) {
    struct bs_stack *s = NULL;
    bs_lock_acquire(&stacks.lock);
    struct bs_stack **slot = find_stack(frame, n, hash);
    if (*slot == NULL && stacks.n < BS_STACKS_MAX) {
        s = bs_meta_alloc(sizeof *s + n * sizeof *frame);
        if (s != NULL) {
            s->hash = hash;
            s->n = n;
            memcpy(s->frame, frame, n * sizeof *frame);
            bs_store(&stacks.n, stacks.n + 1);
            bs_store_release(slot, s);
        }
    } else {
        s = *slot;
    }
    bs_lock_release(&stacks.lock);
    return s;
}

BS_NOINLINE struct bs_stack *bs_stacks_take(void) {
    struct bs_walk walk;
    uint64_t frame[BS_UNWIND_MAX];
    if (bs_load_acquire(&stacks.slot) == NULL)
        return &bs_stacks_other;
    bs_unwind(&walk);
    uint32_t n = encode(&walk, frame), hash = hash_of(frame, n);
    struct bs_stack *s = bs_load_acquire(find_stack(frame, n, hash));
    if (BS_UNLIKELY(s == NULL))
        s = add_stack(frame, n, hash);
    return s != NULL ? s : &bs_stacks_other;
}

uint64_t bs_stacks_frame(uintptr_t address) {
    struct bs_place place;
    const struct mapping *m = NULL;
    if (bs_load_acquire(&stacks.slot) != NULL && bs_unwind_find_place((const void *)address, &place))
        m = mapping_of(&place, 0);
    if (m == NULL)
        return BS_FRAME_OFFSET(address);
    return (uint64_t)m->module->number << 48 | BS_FRAME_OFFSET(address - m->bias);
}

/* --- questions, fork -------------------------------------------------------------------------- */

void bs_stacks_each(bs_stack_visitor *visit, void *ctx) {
    if (bs_load_acquire(&stacks.slot) == NULL)
        return;
    for (size_t i = 0; i < STACK_SLOTS; i++) {
        struct bs_stack *s = bs_load_acquire(&stacks.slot[i]);
        if (s != NULL)
            visit(ctx, s);
    }
}

size_t bs_stacks_count(void) {
    return bs_load(&stacks.n);
}

uint32_t bs_stacks_modules(void) {
    return bs_load_acquire(&stacks.nmodules);
}

const struct bs_module *bs_stacks_known(uint32_t number) {
    return number != 0 && number <= bs_stacks_modules() ? stacks.module[number - 1] : NULL;
}

bool bs_stacks_module(uint32_t number, struct bs_module *module, bool *loaded) {
    struct bs_place now;
    if (number == 0 || number > bs_stacks_modules())
        return false;
    bs_lock_acquire(&stacks.lock);
    *module = *stacks.module[number - 1];
    bs_lock_release(&stacks.lock);
    *loaded = false;
    if (bs_unwind_find_place((const void *)module->place.start, &now)) {
        bs_lock_acquire(&stacks.lock);
        const struct mapping *m = find_mapping(&now);
        *loaded = m != NULL && m->module->number == number;
        bs_lock_release(&stacks.lock);
    }
    return true;
}

void bs_stacks_lock(void) {
    bs_lock_acquire(&stacks.lock);
}
void bs_stacks_unlock(void) {
    bs_lock_release(&stacks.lock);
}
void bs_stacks_reset_lock(void) {
    bs_lock_reset(&stacks.lock);
}
