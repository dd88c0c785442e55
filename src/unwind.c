/* SPDX-License-Identifier: MIT */
/* unwind.c - see unwind.h. */
#include "unwind.h"

#include "cfi.h"

#include <dlfcn.h>
#include <link.h>
#include <ucontext.h>

/* --- modules ---------------------------------------------------------------------------------- */

#if defined(DLFO_STRUCT_HAS_EH_DBASE)
#pragma weak _dl_find_object
#else
/* An older libc's headers; the library may meet a newer libc all the same. */
struct dl_find_object {
    unsigned long long dlfo_flags;
    void *dlfo_map_start, *dlfo_map_end;
    struct link_map *dlfo_link_map;
    void *dlfo_eh_frame;
    unsigned long long reserved[7];
};
extern int _dl_find_object(void *, struct dl_find_object *) __attribute__((weak));
#endif

extern void *__libc_stack_end __attribute__((weak));

static bool no_tables; /* [atomic] */

void bs_unwind_set_tables(bool on) {
    bs_store(&no_tables, !on);
}

bool bs_unwind_find_place(const void *p, struct bs_place *place) {
    struct dl_find_object found;
    if (_dl_find_object == NULL || bs_load(&no_tables) ||
        _dl_find_object((void *)(uintptr_t)p, &found) != 0 || found.dlfo_link_map == NULL)
        return false;
    *place = (struct bs_place){(uintptr_t)found.dlfo_map_start, (uintptr_t)found.dlfo_map_end,
                               (uintptr_t)found.dlfo_eh_frame, found.dlfo_link_map};
    return true;
}

static struct bs_place lasting[BS_UNWIND_LASTING]; /* [init] */
static unsigned nlasting;                          /* [init] */

static bool is_in(const struct bs_place *place, uintptr_t pc) {
    return pc - place->start < place->end - place->start;
}

void bs_unwind_note_lasting(const void *p) {
    struct bs_place place;
    if (nlasting == BS_UNWIND_LASTING || !bs_unwind_find_place(p, &place))
        return;
    for (unsigned i = 0; i < nlasting; i++)
        if (is_in(&lasting[i], (uintptr_t)p))
            return;
    lasting[nlasting++] = place;
}

/* The module of pc becomes the walk's next. To ask for it takes 400 ns where the loader's table is in no near cache. */
static bool find_place(struct bs_walk *w, uintptr_t pc) {
    unsigned n = w->nplaces;
    w->lasts[n] = 0;
    for (unsigned i = 0; i < nlasting && !bs_load(&no_tables); i++)
        if (is_in(&lasting[i], pc)) {
            w->places[n] = lasting[i];
            w->lasts[n] = (uint8_t)(i + 1);
            return true;
        }
    return bs_unwind_find_place((const void *)pc, &w->places[n]);
}

/* The index of pc's module among the walk's; BS_UNWIND_PLACES: none, or one too many. */
static unsigned place_of(struct bs_walk *w, uintptr_t pc) {
    for (unsigned i = 0; i < w->nplaces; i++)
        if (is_in(&w->places[i], pc))
            return i;
    if (w->nplaces == BS_UNWIND_PLACES || !find_place(w, pc))
        return BS_UNWIND_PLACES;
    return w->nplaces++;
}

/* --- rules that were found -------------------------------------------------------------------- */

/*
 * One word that says what nearly every row says: the CFA is SP or FP plus so much, the return
 * address is at or in its usual place, FP is saved or not; or that there is no caller. Entries are two words without a
 * lock: the first is the key xor the second, so that a torn pair is nobody's. The key holds the module's
 * place, so that a rule does not outlive the module it was read from. Four entries share a line of the CPU's cache, the
 * newest first: with one place for each key one in ten of a hundred had it in turns with another, and a search
 * of the tables asks the kernel ten times.
 */
#define CACHE_SETS 256
#define CACHE_WAYS 4

struct cached {
    uint64_t check, rule; /* [atomic] */
};
static struct cached cache[CACHE_SETS][CACHE_WAYS] __attribute__((aligned(64)));

enum { RULE_VALID = 1, RULE_CFA_BY_FP = 2, RULE_FP_SAVED = 4, RULE_RA_SAVED = 8, RULE_END = 16 };

/* What the module has in each key; once for all frames in a row that lie in it. */
static uint64_t seed_of(const struct bs_place *place) {
    uint64_t x = place->start * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 32) ^ place->eh_frame_hdr ^ place->end << 20) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}
static uint64_t key_of(uint64_t seed, uintptr_t pc) {
    uint64_t x = (pc ^ seed) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ (x >> 32);
}

static bool packs(const struct bs_cfi_rule *r) {
    return r->how == BS_CFI_SAME ||
           (r->how == BS_CFI_AT && r->value % 8 == 0 && r->value / 8 == (int16_t)(r->value / 8));
}

/* The rule that is known by this key; 0: none. */
static uint64_t known_rule(uint64_t key) {
    struct cached *set = cache[key % CACHE_SETS];
    for (unsigned i = 0; i < CACHE_WAYS; i++) {
        uint64_t rule = bs_load(&set[i].rule);
        if ((bs_load(&set[i].check) ^ rule) == key && (rule & RULE_VALID) != 0)
            return rule;
    }
    return 0;
}
static void learn_rule(uint64_t key, uint64_t rule) {
    struct cached *set = cache[key % CACHE_SETS];
    for (unsigned i = CACHE_WAYS - 1; i > 0; i--) {
        bs_store(&set[i].rule, bs_load(&set[i - 1].rule));
        bs_store(&set[i].check, bs_load(&set[i - 1].check));
    }
    bs_store(&set[0].rule, rule);
    bs_store(&set[0].check, key ^ rule);
}

/* The row as a word; 0: it says something else. */
static uint64_t pack(const struct bs_cfi_row *row) {
    const struct bs_cfi_rule *cfa = &row->cfa, *fp = &row->reg[BS_CFI_FP],
                             *ra = &row->reg[BS_CFI_RA];
    bool by_fp = cfa->reg == BS_CFI_FP;
    if (ra->how == BS_CFI_UNDEFINED)
        return RULE_VALID | RULE_END;
    if (row->signal_frame || cfa->how != BS_CFI_IS || (!by_fp && cfa->reg != BS_CFI_SP) ||
        cfa->value < 0 || cfa->value % 8 != 0 || cfa->value / 8 >= 1 << 24 || !packs(fp) ||
        !packs(ra))
        return 0;
    return RULE_VALID | (by_fp ? RULE_CFA_BY_FP : 0) | (fp->how == BS_CFI_AT ? RULE_FP_SAVED : 0) |
           (ra->how == BS_CFI_AT ? RULE_RA_SAVED : 0) | (uint64_t)(cfa->value / 8) << 8 |
           (uint64_t)(uint16_t)(fp->value / 8) << 32 | (uint64_t)(uint16_t)(ra->value / 8) << 48;
}

/* As bs_cfi_step does. What other registers held is lost. */
static bool step_packed(struct bs_probe *stack, uint64_t rule, struct bs_cfi_regs *regs) {
    const uint32_t fp = UINT32_C(1) << BS_CFI_FP, sp = UINT32_C(1) << BS_CFI_SP,
                   ra = UINT32_C(1) << BS_CFI_RA;
    bool by_fp = (rule & RULE_CFA_BY_FP) != 0;
    if ((rule & RULE_END) != 0 || (regs->known & (by_fp ? fp : sp)) == 0)
        return false;
    uint64_t cfa = regs->value[by_fp ? BS_CFI_FP : BS_CFI_SP] + (rule >> 8 & 0xffffff) * 8;
    regs->known &= fp | sp | ra;
    if ((rule & RULE_RA_SAVED) != 0) {
        uint64_t at = cfa + (uint64_t)(int64_t)(int16_t)(rule >> 48) * 8;
        if (!bs_probe_read(stack, at, 8, &regs->value[BS_CFI_RA]))
            return false;
    } else {
#if defined(__x86_64__)
        return false;
#endif
    }
    if ((rule & RULE_FP_SAVED) != 0) {
        uint64_t at = cfa + (uint64_t)(int64_t)(int16_t)(rule >> 32) * 8;
        if (!bs_probe_read(stack, at, 8, &regs->value[BS_CFI_FP]))
            regs->known &= ~fp;
    }
    regs->value[BS_CFI_SP] = cfa;
    regs->known |= sp;
    return true;
}

/* --- steps ------------------------------------------------------------------------------------ */

struct cursor {
    struct bs_cfi_regs regs;
    struct bs_probe stack; /* from the frame up */
    uintptr_t pc;
    bool exact; /* pc is where it stopped, not where it will go on */
    unsigned place; /* pc's; BS_UNWIND_PLACES: none */
    uint64_t seed;  /* of that */
};

/* Where the stack that sp lies in ends at the latest. */
static uintptr_t top_above(uintptr_t sp) {
    uintptr_t top = UINTPTR_MAX - 8, tp;
#if defined(__x86_64__)
    __asm__("movq %%fs:0, %0" : "=r"(tp));
#else
    __asm__("mrs %0, tpidr_el0" : "=r"(tp));
#endif
    if (tp > sp)
        top = tp;
    if (&__libc_stack_end != NULL && (uintptr_t)__libc_stack_end > sp)
        top = bs_min(top, (uintptr_t)__libc_stack_end);
    return top;
}

/* What the tables say: the way on, that there is none, nothing. */
enum answer { STEPPED, ENDED, UNKNOWN };

static enum answer step_by_tables(const struct bs_place *place, struct cursor *c, uintptr_t at,
                                  bool *signal_frame) {
    uint64_t key = key_of(c->seed, at), rule = known_rule(key);
    *signal_frame = false;
    if (rule != 0)
        return step_packed(&c->stack, rule, &c->regs) ? STEPPED : ENDED;
    struct bs_probe module = bs_probe_of(place->start, place->end);
    struct bs_cfi_row row;
    if (place->eh_frame_hdr == 0 || !bs_cfi_find(&module, place->eh_frame_hdr, at, &row))
        return UNKNOWN;
    rule = pack(&row);
    if (rule != 0)
        learn_rule(key, rule);
    *signal_frame = row.signal_frame;
    return bs_cfi_step(&module, &c->stack, &row, &c->regs) ? STEPPED : ENDED;
}

/* The module of the frame's instruction. Most calls stay in one. */
static void enter(struct bs_walk *w, struct cursor *c, uintptr_t at) {
    if (c->place < BS_UNWIND_PLACES && is_in(&w->places[c->place], at))
        return;
    c->place = place_of(w, at);
    if (c->place < BS_UNWIND_PLACES)
        c->seed = seed_of(&w->places[c->place]);
}

/* By the chain of frame pointers: [fp] is the caller's, above it stands the return address. */
static bool step_by_fp(struct cursor *c) {
    uint64_t next, ra, fp = c->regs.value[BS_CFI_FP];
    if ((c->regs.known >> BS_CFI_FP & 1) == 0 || fp % 8 != 0 || fp < c->regs.value[BS_CFI_SP] ||
        !bs_probe_read(&c->stack, fp, 8, &next) || !bs_probe_read(&c->stack, fp + 8, 8, &ra))
        return false;
    c->regs.value[BS_CFI_SP] = fp + 16;
    c->regs.value[BS_CFI_FP] = next;
    c->regs.value[BS_CFI_RA] = ra;
    c->regs.known = UINT32_C(1) << BS_CFI_SP | UINT32_C(1) << BS_CFI_FP | UINT32_C(1) << BS_CFI_RA;
    return true;
}

static uintptr_t without_signature(uint64_t ra) {
#if defined(__aarch64__)
    return (uintptr_t)(ra & ((UINT64_C(1) << 48) - 1));
#else
    return (uintptr_t)ra;
#endif
}

/* The kernel's way back from a signal: of aarch64's vDSO it has no rules, so that unwinders know it by its two
 * instructions. The frame that it returns by says what was interrupted: behind the signal's 128 bytes a ucontext. */
static bool step_by_signal(const struct bs_place *place, struct cursor *c) {
#if defined(__aarch64__)
    const uint64_t way_back = UINT64_C(0xd4000001d2801168); /* mov x8, #__NR_rt_sigreturn; svc #0 */
    const size_t x0 = 128 + offsetof(ucontext_t, uc_mcontext.regs), pc = 128 + offsetof(ucontext_t, uc_mcontext.pc);
    struct bs_probe module = bs_probe_of(place->start, place->end);
    uint64_t code, sp = c->regs.value[BS_CFI_SP], from;
    if (!bs_probe_read(&module, c->pc, 8, &code) || code != way_back || !bs_probe_read(&c->stack, sp + pc, 8, &from))
        return false;
    for (unsigned i = 0; i < BS_CFI_NREGS; i++) /* the stack pointer is the last */
        if (!bs_probe_read(&c->stack, sp + x0 + i * sizeof(uint64_t), 8, &c->regs.value[i]))
            return false;
    c->regs.known = UINT32_MAX;
    c->pc = (uintptr_t)from;
    return true;
#else
    (void)place, (void)c;
    return false;
#endif
}

/* A function that was interrupted may have nothing on the stack yet, where a call leaves the return address in a
 * register. */
static bool is_above(uintptr_t sp, uintptr_t caller_sp, bool was_exact) {
#if defined(__x86_64__)
    (void)was_exact;
#else
    if (was_exact && caller_sp == sp)
        return true;
#endif
    return caller_sp > sp;
}

/* To the caller. False: that was the outermost frame, or the rest cannot be known. */
static bool step(struct bs_walk *w, struct cursor *c, uintptr_t at) {
    uintptr_t sp = (uintptr_t)c->regs.value[BS_CFI_SP];
    unsigned place = c->place;
    bool signal_frame = false, was_exact = c->exact;
    enum answer answer = UNKNOWN;
    if (place < BS_UNWIND_PLACES)
        answer = step_by_tables(&w->places[place], c, at, &signal_frame);
    bool by_signal = answer == UNKNOWN && place < BS_UNWIND_PLACES && step_by_signal(&w->places[place], c);
    if (answer == ENDED || (answer == UNKNOWN && !by_signal && !step_by_fp(c)))
        return false;
    signal_frame |= by_signal;
    if (!by_signal)
        c->pc = without_signature(c->regs.value[BS_CFI_RA]);
    c->exact = signal_frame;
    uintptr_t caller_sp = (uintptr_t)c->regs.value[BS_CFI_SP];
    bs_probe_bound(&c->stack, caller_sp, signal_frame ? top_above(caller_sp) : c->stack.end);
    /* A caller's frame lies above; where a signal came in it may be any stack's. */
    return c->pc > 1 && (signal_frame || is_above(sp, caller_sp, was_exact)) && caller_sp % 8 == 0;
}

/* The registers at a place in the function that this is put in. */
#if defined(__x86_64__)
#define HERE(c)                                                                                  \
    __asm__ volatile("movq %%rbx, 24(%0)\n\tmovq %%rbp, 48(%0)\n\tmovq %%rsp, 56(%0)\n\t"        \
                     "movq %%r12, 96(%0)\n\tmovq %%r13, 104(%0)\n\tmovq %%r14, 112(%0)\n\t"      \
                     "movq %%r15, 120(%0)\n\tleaq 0(%%rip), %%rax\n\tmovq %%rax, 128(%0)"        \
                     :                                                                           \
                     : "r"((c)->regs.value)                                                      \
                     : "rax", "memory");                                                         \
    (c)->regs.known = 1u << 3 | 1u << 6 | 1u << 7 | 0xfu << 12;                                  \
    (c)->pc = (uintptr_t)(c)->regs.value[16]
#else
#define HERE(c)                                                                                  \
    __asm__ volatile("stp x19, x20, [%0, 152]\n\tstp x21, x22, [%0, 168]\n\t"                    \
                     "stp x23, x24, [%0, 184]\n\tstp x25, x26, [%0, 200]\n\t"                    \
                     "stp x27, x28, [%0, 216]\n\tstp x29, x30, [%0, 232]\n\t"                    \
                     "mov x9, sp\n\tstr x9, [%0, 248]\n\tadr x9, .\n\tstr x9, [%0, 0]"           \
                     :                                                                           \
                     : "r"((c)->regs.value)                                                      \
                     : "x9", "memory");                                                          \
    (c)->regs.known = 0xfff80000u;                                                               \
    (c)->pc = (uintptr_t)(c)->regs.value[0]
#endif

/* What is there without a question: the page of our own frame, and the walk's if it is our caller's and begins on that or
 * the next one. */
static void know_own(struct bs_probe *stack, const struct bs_walk *w) {
    uintptr_t own = bs_align_down(stack->base, BS_PROBE_PAGE), past = (uintptr_t)(w + 1);
    bs_probe_know(stack, own);
    if (past > stack->to && (uintptr_t)w - own < 2 * BS_PROBE_PAGE)
        stack->to = bs_min(bs_align_up(past, BS_PROBE_PAGE), stack->end);
}

/* The frame that ends a walk by itself has no caller; the first one is our own. */
BS_NOINLINE void bs_unwind(struct bs_walk *w) {
    struct cursor c = {.exact = true, .place = BS_UNWIND_PLACES};
    w->n = w->nplaces = 0;
    HERE(&c);
    c.stack = bs_probe_of((uintptr_t)c.regs.value[BS_CFI_SP],
                          top_above((uintptr_t)c.regs.value[BS_CFI_SP]));
    know_own(&c.stack, w);
    for (bool own = true; w->n < BS_UNWIND_MAX; own = false) {
        uintptr_t at = c.exact ? c.pc : c.pc - 1;
        enter(w, &c, at);
        if (!own) {
            w->pc[w->n] = at;
            w->place[w->n++] = (uint8_t)c.place;
        }
        if (!step(w, &c, at))
            break;
    }
}
