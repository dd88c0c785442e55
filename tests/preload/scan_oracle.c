/* SPDX-License-Identifier: MIT */
/*
 * Promise: scan:leak tells the truth. Random graphs of blocks (chains, trees, rings, pointers into the
 * middle and past the end) hang on one pointer each, which lies in one of some seventy places that a
 * program can have it in (scan_oracle_*.c), or nowhere. Of every block of every graph it is known whether
 * it is reachable, and each scan has to say the same, in place, by a copy, and while the program runs, by the helper and by a
 * thread of the program; so it has to when half of the pointers are taken away. No other block of the
 * process is lost, and each lost graph is one leak.
 *
 * The places that a scan does not see are tested to be so, and printed: doc/besom.conf.5 lists them.
 *
 * With every other seed, threads, libraries and children come and go meanwhile (scan_oracle_storm.c). Their
 * old words may be addresses that are a lost block's by now, so only what is reachable is judged then.
 *
 * Arguments: SEED SECONDS THREADS STORM, each 0 or missing: at random (the seed is printed), 6, 1 to 64 by
 * the seed, by the seed (1: no, 2: yes). The first thread of the process holds a pointer as well, so that its
 * stack is judged.
 */
#include "scan_oracle.h"
#include "scan_drive.h"

#include <dlfcn.h>
#include <limits.h>
#include <linux/futex.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

enum { aside_bytes = 256 * 1024, max_blocks = 40, max_graphs = 4 * oracle_threads, max_places = 128 };

enum fate { FREED, HELD, LOST };

struct graph {
    enum fate fate;
    const struct oracle_place *place; /* NULL: lost from the beginning */
    unsigned n;
    uintptr_t hidden[max_blocks]; /* the first one leads to all others */
    size_t size[max_blocks];
};

static const struct scan_drive *drive;
static const struct oracle_place *places[max_places];
static unsigned nplaces, round_number;
static bool used_up[max_places], was_seen[max_places];
static struct oracle_holder holders[oracle_threads], director;
static struct graph graphs[max_graphs];
static unsigned holds[oracle_threads]; /* the graph's number */
static unsigned ngraphs, scans, given_up, ran;
static uint64_t seed, state;

/* --- what the places need --------------------------------------------------------------------- */

static void wait_until(uint32_t *word) {
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}
static void set(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

#if defined __x86_64__
__attribute__((target("avx512f"))) static void forget_wide_registers(void) {
    __asm__ volatile("vpxorq %%zmm16, %%zmm16, %%zmm16; vmovdqa64 %%zmm16, %%zmm17;"
                     "vmovdqa64 %%zmm16, %%zmm18; vmovdqa64 %%zmm16, %%zmm19;"
                     "vmovdqa64 %%zmm16, %%zmm20; vmovdqa64 %%zmm16, %%zmm21;"
                     "vmovdqa64 %%zmm16, %%zmm22; vmovdqa64 %%zmm16, %%zmm23;"
                     "vmovdqa64 %%zmm16, %%zmm24; vmovdqa64 %%zmm16, %%zmm25;"
                     "vmovdqa64 %%zmm16, %%zmm26; vmovdqa64 %%zmm16, %%zmm27;"
                     "vmovdqa64 %%zmm16, %%zmm28; vmovdqa64 %%zmm16, %%zmm29;"
                     "vmovdqa64 %%zmm16, %%zmm30; vmovdqa64 %%zmm16, %%zmm31" ::
                         : "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",
                           "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}
/* Also the upper parts of the first 16, which an instruction of SSE leaves as they are. */
__attribute__((target("avx"))) static void forget_upper_parts(void) {
    __asm__ volatile("vzeroall" ::
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                           "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}
static void forget_registers(void) {
    __asm__ volatile("xor %%eax, %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx; xor %%esi, %%esi;"
                     "xor %%edi, %%edi; xor %%r8d, %%r8d; xor %%r9d, %%r9d; xor %%r10d, %%r10d;"
                     "xor %%r11d, %%r11d; pxor %%xmm0, %%xmm0; pxor %%xmm1, %%xmm1;"
                     "pxor %%xmm2, %%xmm2; pxor %%xmm3, %%xmm3; pxor %%xmm4, %%xmm4;"
                     "pxor %%xmm5, %%xmm5; pxor %%xmm6, %%xmm6; pxor %%xmm7, %%xmm7;"
                     "pxor %%xmm8, %%xmm8; pxor %%xmm9, %%xmm9; pxor %%xmm10, %%xmm10;"
                     "pxor %%xmm11, %%xmm11; pxor %%xmm12, %%xmm12; pxor %%xmm13, %%xmm13;"
                     "pxor %%xmm14, %%xmm14; pxor %%xmm15, %%xmm15" ::
                         : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1",
                           "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                           "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    if (__builtin_cpu_supports("avx"))
        forget_upper_parts();
    if (__builtin_cpu_supports("avx512f"))
        forget_wide_registers();
}
#else
static void forget_registers(void) {}
#endif

static void __attribute__((noinline)) wipe_stack(void) {
    volatile char junk[40 * 1024];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}

void oracle_forget(void) {
    wipe_stack();
    forget_registers();
}

void oracle_stay(struct oracle_holder *h) {
    oracle_forget(); /* what dlopen, say, has left there */
    set(&h->ready, 1);
    wait_until(&h->released);
}

static __thread struct oracle_holder *here;
static void aside(void) {
    here->work(here);
}
void oracle_aside(struct oracle_holder *h, void (*work)(struct oracle_holder *h)) {
    here = h;
    h->work = work;
    if (work != NULL) {
        getcontext(&h->there);
        h->there.uc_stack.ss_sp = h->aside;
        h->there.uc_stack.ss_size = aside_bytes;
        h->there.uc_link = &h->here;
        makecontext(&h->there, aside, 0);
        swapcontext(&h->here, &h->there);
        memset(h->aside, 0, aside_bytes);
        oracle_forget_contexts(h);
    }
    oracle_forget();
}
static void prepare_aside(struct oracle_holder *h) {
    h->aside = mmap(NULL, aside_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    BS_CHECK(h->aside != MAP_FAILED, "mmap");
}

/* --- threads that hold ------------------------------------------------------------------------ */

static void hold_each(struct oracle_holder *h) {
    for (;;) {
        wait_until(&h->order);
        if (__atomic_load_n(&h->order, __ATOMIC_ACQUIRE) == 2)
            return;
        h->order = 0;
        oracle_forget(); /* what besom's handler has left there, and in a new thread's registers its maker */
        h->place->hold(h);
        oracle_forget();
        set(&h->done, 1);
    }
}
/* A thread that spins with an address of besom's text on the nearest 512 bytes of its stack counts as inside
 * besom, and cannot be stopped: what the frames of main, or of libc, have kept of old calls lies further away. */
static void *hold_and_release(void *arg) {
    volatile char distance[1024];
    for (size_t i = 0; i < sizeof distance; i++)
        distance[i] = 0;
    hold_each(arg);
    return (void *)(uintptr_t)distance[0];
}
static void let_hold(struct oracle_holder *h, const struct oracle_place *place, uintptr_t hidden) {
    h->place = place;
    h->hidden = hidden;
    h->ready = h->released = h->done = 0;
    set(&h->order, 1);
    while (__atomic_load_n(&h->ready, __ATOMIC_ACQUIRE) == 0)
        usleep(100);
}
static void let_go(struct oracle_holder *h) {
    if (h->place == NULL)
        return;
    set(&h->released, 1);
    wait_until(&h->done);
    h->place = NULL;
}

/* --- graphs ----------------------------------------------------------------------------------- */

static struct graph *work_on;

static size_t choose_size(void) {
    switch (rng_below(&state, 16)) {
    case 0:
        return 20000 + rng_below(&state, 400000);
    case 1:
    case 2:
        return 2000 + rng_below(&state, 8000);
    default:
        return 64 + rng_below(&state, 400);
    }
}
/* Where in block `to` a pointer to it points. */
static size_t choose_offset(const struct graph *g, unsigned to) {
    size_t size = g->size[to];
    switch (rng_below(&state, 4)) {
    case 0:
        return rng_below(&state, size);
    case 1: /* past its end, where that is not another block's beginning */
        return malloc_usable_size((void *)~g->hidden[to]) > size ? size : 0;
    default:
        return 0;
    }
}
/* Aside. The first words of a block are left to the place that holds it. */
static void build(struct oracle_holder *h) {
    struct graph *g = work_on;
    unsigned used[max_blocks];
    (void)h;
    g->n = 1 + (unsigned)rng_below(&state, 8) * (unsigned)rng_below(&state, max_blocks / 8);
    unsigned shape = (unsigned)rng_below(&state, 3); /* 0: chain, 1: any, 2: any, many more edges */
    for (unsigned i = 0; i < g->n; i++) {
        g->size[i] = choose_size();
        void *block = malloc(g->size[i]);
        memset(block, 0, malloc_usable_size(block)); /* behind its end, too, may be old words */
        g->hidden[i] = ~(uintptr_t)block;
        used[i] = 2;
        unsigned from = i == 0 || shape == 0 ? i - 1 : (unsigned)rng_below(&state, i);
        while (i != 0 && (used[from] + 1) * sizeof(void *) > g->size[from])
            from++; /* at the latest the last one has room */
        if (i != 0)
            oracle_put((void **)~g->hidden[from] + used[from]++, g->hidden[i] - choose_offset(g, i));
    }
    for (unsigned k = 0; k < g->n * shape; k++) {
        unsigned from = (unsigned)rng_below(&state, g->n), to = (unsigned)rng_below(&state, g->n);
        if ((used[from] + 1) * sizeof(void *) <= g->size[from])
            oracle_put((void **)~g->hidden[from] + used[from]++, g->hidden[to] - choose_offset(g, to));
    }
}
static struct graph *make_graph(const struct oracle_place *place) {
    struct graph *g = NULL;
    for (unsigned i = 0; i < max_graphs && g == NULL; i++)
        if (graphs[i].fate == FREED)
            g = &graphs[i];
    BS_CHECK(g != NULL, "too many graphs");
    ngraphs = g + 1 - graphs > ngraphs ? (unsigned)(g + 1 - graphs) : ngraphs;
    work_on = g;
    g->place = place;
    g->fate = place == NULL || place->sight == ORACLE_BLIND ? LOST : HELD;
    oracle_aside(&director, build);
    return g;
}
static void destroy(struct oracle_holder *h) {
    (void)h;
    for (unsigned i = 0; i < work_on->n; i++) {
        memset((void *)~work_on->hidden[i], 0, work_on->size[i]);
        free((void *)~work_on->hidden[i]);
    }
    work_on->fate = FREED;
}

/* --- judgement -------------------------------------------------------------------------------- */

static unsigned wrong;
static bool storm;

static void say_wrong(const struct graph *g, unsigned i, int lost, const char *when) {
    if (wrong++ < 20)
        dprintf(STDERR_FILENO, "seed %llu round %u, %s: block %u of %u (%zu bytes), %s: %s\n",
                (unsigned long long)seed, round_number, when, i, g->n, g->size[i],
                g->place != NULL ? g->place->name : "nowhere",
                lost < 0 ? "unknown" : lost > 0 ? "called lost" : "not found lost");
}
static const char *judged_when;
static void judge_aside(struct oracle_holder *h) {
    (void)h;
    for (unsigned k = 0; k < ngraphs; k++)
        for (unsigned i = 0; graphs[k].fate != FREED && i < graphs[k].n; i++) {
            int lost = drive->is_lost((void *)~graphs[k].hidden[i]);
            if (lost != (graphs[k].fate == LOST) && !(storm && graphs[k].fate == LOST && lost == 0))
                say_wrong(&graphs[k], i, lost, judged_when);
        }
}
static struct scan_seen scan(unsigned how) {
    struct scan_seen seen;
    /* where threads get no CPU, stops fail; most of a thread's wait for one is over after two minutes */
    for (uint64_t end = now_ms() + 120000, tries = 0; tries < 30 || now_ms() < end; tries++) {
        drive->ask(how);
        oracle_forget(); /* where it was made by this thread, regions' addresses, at which blocks may begin */
        while (!drive->over(&seen))
            usleep(500);
        scans++;
        if (seen.end == 0)
            return seen;
        given_up++;
    }
    BS_CHECK(0, "seed %llu round %u, way %u, no verdict: end %d, world %d, thread %d", (unsigned long long)seed,
             round_number, how, seen.end, seen.world, seen.culprit);
}
/* Two scans, since a leak is what is lost twice. */
static void judge(const char *when) {
    uint64_t blocks = 0, lost_graphs = 0;
    static const unsigned ways[] = {0, SCAN_BY_COPY, SCAN_BY_CALLER, SCAN_BY_COPY | SCAN_BY_CALLER,
                                    SCAN_BY_COPY | SCAN_CONCURRENT};
    unsigned first = (unsigned)rng_below(&state, 5);
    for (unsigned k = 0; k < ngraphs; k++)
        if (graphs[k].fate == LOST) {
            blocks += graphs[k].n;
            lost_graphs++;
        }
    judged_when = when;
    for (unsigned i = 0; i < 2; i++) {
        unsigned how = ways[(first + i * 3) % 5];
        struct scan_seen seen = scan(how);
        ran += seen.concurrent;
        oracle_aside(&director, judge_aside);
        if (!storm && seen.lost_blocks != blocks && wrong++ < 20)
            dprintf(STDERR_FILENO, "seed %llu round %u, %s, way %u: %llu blocks lost, not %llu\n",
                    (unsigned long long)seed, round_number, when, how,
                    (unsigned long long)seen.lost_blocks, (unsigned long long)blocks);
        if (i == 1 && wrong == 0 && !storm)
            BS_CHECK(seen.leaks == lost_graphs && seen.waiting == 0, "%llu leaks and %llu that wait, not %llu",
                     (unsigned long long)seen.leaks, (unsigned long long)seen.waiting,
                     (unsigned long long)lost_graphs);
    }
    BS_CHECK(wrong == 0, "%u wrong", wrong);
}

/* --- rounds ----------------------------------------------------------------------------------- */

static unsigned next_place;

/* Each in turn, so that all are used after some rounds; few that spin. */
static const struct oracle_place *choose_place(unsigned *spins) {
    for (unsigned tries = 0; tries < 2 * nplaces; tries++) {
        unsigned i = next_place++ % nplaces;
        const struct oracle_place *p = places[i];
        if (used_up[i] || ((p->flags & ORACLE_SPINS) != 0 && (*spins)++ >= 3))
            continue;
        used_up[i] = (p->flags & ORACLE_FOR_EVER) != 0;
        was_seen[i] = true;
        return p;
    }
    return &oracle_memory_places[0];
}

static void one_round(unsigned nholders) {
    unsigned spins = 0;
    for (size_t n = rng_below(&state, 12); n > 0; n--)
        (void)make_graph(NULL);
    for (unsigned i = 0; i < nholders; i++) {
        struct graph *g = make_graph(choose_place(&spins));
        holds[i] = (unsigned)(g - graphs);
        let_hold(&holders[i], g->place, g->hidden[0]);
    }
    judge("held");
    for (unsigned i = 0; i < nholders; i++)
        if ((holders[i].place->flags & ORACLE_FOR_EVER) == 0 && rng_below(&state, 2) == 0) {
            let_go(&holders[i]);
            graphs[holds[i]].fate = LOST;
        }
    judge("half of them gone");
    for (unsigned i = 0; i < nholders; i++)
        let_go(&holders[i]);
    for (unsigned k = 0; k < ngraphs; k++)
        if (graphs[k].fate != FREED &&
            (graphs[k].place == NULL || (graphs[k].place->flags & ORACLE_FOR_EVER) == 0)) {
            work_on = &graphs[k];
            oracle_aside(&director, destroy);
        }
}

static unsigned seconds, nholders;

static void *direct(void *arg) {
    (void)arg;
    for (uint64_t end = now_ms() + seconds * 1000; now_ms() < end || round_number == 0; round_number++)
        one_round(nholders);
    for (unsigned i = 0; i < nholders; i++)
        set(&holders[i].order, 2);
    return NULL;
}

static void add_places(const struct oracle_place *list) {
    for (; list->name != NULL; list++) {
        BS_CHECK(nplaces < max_places, "too many places");
        if (list->is_there == NULL || list->is_there())
            places[nplaces++] = list;
        else
            dprintf(STDOUT_FILENO, "not on this machine: %s\n", list->name);
    }
}
static void shuffle_places(void) {
    for (unsigned i = nplaces - 1; i > 0; i--) {
        unsigned k = (unsigned)rng_below(&state, i + 1);
        const struct oracle_place *p = places[i];
        places[i] = places[k];
        places[k] = p;
    }
}
static void find_module(void) {
    static char path[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    BS_CHECK(n > 0, "/proc/self/exe cannot be read");
    path[n] = '\0';
    char *name = strrchr(path, '/') + 1;
    strcpy(name, "scanmod.so");
    if (access(path, R_OK) != 0)
        strcpy(name, ".libs/scanmod.so");
    setenv("ORACLE_MODULE", path, 1);
}

int main(int argc, char **argv) {
    pthread_t director_thread;
    unsigned nseen = 0;
    seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
    seed = seed != 0 ? seed : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
    state = seed;
    seconds = argc > 2 && atoi(argv[2]) > 0 ? (unsigned)atoi(argv[2]) : 6;
    nholders = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
    nholders = nholders != 0 ? nholders : 1 + (unsigned)rng_below(&state, oracle_threads);
    BS_CHECK(nholders <= oracle_threads, "at most %d threads", oracle_threads);
    storm = argc > 4 && atoi(argv[4]) > 0 ? atoi(argv[4]) == 2 : rng_below(&state, 2) == 0;
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    find_module();
    add_places(oracle_memory_places);
    add_places(oracle_queue_places);
    add_places(oracle_thread_places);
    add_places(oracle_register_places);
    shuffle_places();
    prepare_aside(&director);
    for (unsigned i = 0; i < nholders; i++) {
        holders[i].number = i;
        prepare_aside(&holders[i]);
        if (i != 0)
            BS_CHECK(pthread_create(&holders[i].thread, NULL, hold_and_release, &holders[i]) == 0, "no thread");
    }
    BS_CHECK(pthread_create(&director_thread, NULL, direct, NULL) == 0, "no thread");
    if (storm)
        oracle_begin_storm();
    hold_and_release(&holders[0]);
    pthread_join(director_thread, NULL);
    if (storm)
        oracle_end_storm();
    for (unsigned i = 1; i < nholders; i++)
        pthread_join(holders[i].thread, NULL);
    for (unsigned i = 0; i < nplaces; i++) {
        nseen += was_seen[i];
        if (was_seen[i] && places[i]->sight == ORACLE_BLIND)
            dprintf(STDOUT_FILENO, "a blind spot: %s\n", places[i]->name);
    }
    dprintf(STDOUT_FILENO, "seed %llu: %u rounds of %u threads, %u of %u places, %u scans (%u while it ran), %u given up\n",
            (unsigned long long)seed, round_number, nholders, nseen, nplaces, scans, ran, given_up);
    return 0;
}
