/* SPDX-License-Identifier: MIT */
/*
 * check_sample.c - sampling by bytes: chance is what sampler.h says, shares of call sites are reported as
 * they are whatever the thread caches do, a leak that hides behind a block taken and freed at once is
 * seen, freed blocks leave, and a block is found with the stack it came from.
 *
 * Numbers are random, from the clock: what is further from the mean than chance leads in one of 10^9 fails.
 */
#include "child.h"
#include "heap.h"
#include "large.h"
#include "meta.h"
#include "opt.h"
#include "os.h"
#include "sample.h"
#include "sampler.h"
#include "stacks.h"
#include "tcache.h"
#include "unit.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <math.h>
#include <pthread.h>
#include <sys/mman.h>

#define INTERVAL 4096

static void start(uint64_t interval) {
    bs_heap_free(bs_heap_alloc(10)); /* a cache and a span that are older than sampling */
    bs_opt.sample = interval;
    bs_heap_start_sampling();
}

/* Each in a section of its own, whose bounds the linker tells. */
#define SITE(name)                                                                       \
    extern const char __start_in_##name[], __stop_in_##name[];                                 \
    static void *__attribute__((noinline, section("in_" #name))) name(size_t size) {           \
        void *p = bs_heap_alloc(size);                                                   \
        __asm__ volatile("" ::"r"(p));                                                   \
        return p;                                                                        \
    }
SITE(site_a)
SITE(site_b)
SITE(site_c)

static bool is_in(void *(*site)(size_t), uintptr_t at) {
    const char *p = (const char *)at;
    return site == site_a   ? p >= __start_in_site_a && p < __stop_in_site_a
           : site == site_b ? p >= __start_in_site_b && p < __stop_in_site_b
                            : p >= __start_in_site_c && p < __stop_in_site_c;
}

static bool goes_through(const struct bs_stack *s, void *(*site)(size_t)) {
    struct bs_module m;
    bool loaded;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t number = BS_FRAME_MODULE(s->frame[i]);
        if (number == 0 || !bs_stacks_module(number, &m, &loaded))
            continue;
        uintptr_t at = BS_FRAME_OFFSET(s->frame[i]) + m.bias;
        if (is_in(site, at))
            return true;
    }
    return false;
}

struct sums {
    void *(*site)(size_t);
    uint64_t live_bytes, live_blocks, live_samples, bytes;
};
static void add(void *ctx, struct bs_stack *s) {
    struct sums *sums = ctx;
    if (!goes_through(s, sums->site))
        return;
    sums->live_bytes += s->live_bytes;
    sums->live_blocks += s->live_blocks;
    sums->live_samples += s->live_samples;
    sums->bytes += s->bytes;
}
static struct sums sums_of(void *(*site)(size_t)) {
    struct sums sums = {.site = site};
    bs_stacks_each(add, &sums);
    return sums;
}

/* So many of n were sampled, each with the chance p: how unlikely, as minus the logarithm of Chernoff's bound. It
 * holds for few as well. (Six standard deviations are no bound where nearly all are sampled: of 25 blocks of
 * which 99.3 % are, four too few is beyond them, and comes once in 40000 times.) */
static double surprise(double sampled, double n, double p) {
    double x = fmin(fmax(sampled / n, 0), 1), d = 0;
    if (x > 0)
        d += x * log(x / p);
    if (x < 1)
        d += (1 - x) * log((1 - x) / (1 - p));
    return n * d;
}

/* The estimate of `bytes` in blocks of `size` is what chance allows; weights are rounded to 1/256, and a count may
 * be one short. */
static void expect_bytes(const char *what, uint64_t estimate, double bytes, size_t size) {
    double room = size <= BS_SMALL_MAX ? bs_class_info[bs_class_of(size)].size : size;
    double p = -expm1(-room / INTERVAL), n = bytes / (double)size;
    double sampled = (double)estimate / (double)size * p, rounding = (n / 200 + 1) * p;
    sampled = sampled < n * p ? fmin(sampled + rounding, n * p) : fmax(sampled - rounding, n * p);
    double unlikely = surprise(sampled, n, p);
    require(unlikely < 21, "%s: %zu is not %.0f, once in e^%.0f times", what, (size_t)estimate, bytes, unlikely);
}

/* --- chance ----------------------------------------------------------------------------------- */

/* Blocks before the next one that is sampled. */
static uint64_t gap_of(uint64_t *chance, uint64_t threshold) {
    uint64_t gap = 0;
    while (!bs_sampler_passes(chance, threshold))
        gap++;
    return gap;
}
START_TEST(gaps_are_geometric) {
    uint64_t chance = 1;
    for (size_t size = 8; size <= 1 << 20; size *= 8) {
        double p = 1 - exp(-(double)size / INTERVAL), sum = 0, zeros = 0;
        const int n = 100000;
        const uint64_t threshold = bs_sampler_threshold(INTERVAL, size, 1);
        for (int i = 0; i < n; i++) {
            uint64_t gap = gap_of(&chance, threshold);
            sum += (double)gap;
            zeros += gap == 0;
        }
        double mean = (1 - p) / p, sd = sqrt((1 - p) / (p * p) / n);
        require(fabs(sum / n - mean) <= 6 * sd + 1e-9, "size %zu: mean %f, not %f", size, sum / n,
                mean);
        require(fabs(zeros / n - p) <= 6 * sqrt(p * (1 - p) / n) + 1e-9, "size %zu: P %f, not %f",
                size, zeros / n, p);
        double weight = (double)bs_sampler_weight_256ths(INTERVAL, size) / 256;
        require(fabs(weight * p - 1) < 0.002, "size %zu: weight %f, not %f", size, weight, 1 / p);
    }
}
END_TEST

/* Against libm's, whatever the sizes. A threshold is a chance in 2^-64. */
START_TEST(chances_are_those_of_the_exponential) {
    static const uint64_t intervals[] = {2, 100, 4096, 512 * BS_KIB, UINT64_C(1) << 40};
    for (size_t i = 0; i < BS_ARRAY_LEN(intervals); i++)
        for (size_t size = 1; size <= UINT64_C(1) << 46; size += size / 3 + 1) {
            double p = -expm1(-(double)size / (double)intervals[i]);
            double threshold = (double)bs_sampler_threshold(intervals[i], size, 1) / 0x1p64;
            require(fabs(threshold - p) < 0x1p-63 + 1e-9 * p, "%zu of %zu: P %g, not %g", size, (size_t)intervals[i], threshold, p);
            double weight = (double)bs_sampler_weight_256ths(intervals[i], size);
            require(fabs(weight - 256 / p) < 0.5 + 1e-9 * weight, "%zu of %zu: %g, not %g", size, (size_t)intervals[i],
                    weight, 256 / p);
            double of_seven = (double)bs_sampler_threshold(intervals[i], size, 7) / 0x1p64;
            require(fabs(of_seven - fmin(7 * p, 1)) < 0x1p-63 + 1e-9 * of_seven, "%zu of %zu: 7 P %g", size, (size_t)intervals[i], of_seven);
        }
    for (size_t size = 0; size < 100; size++) { /* every block */
        ck_assert_uint_eq(bs_sampler_threshold(1, size, 1), UINT64_MAX);
        ck_assert_uint_eq(bs_sampler_weight_256ths(1, size), 256);
    }
    ck_assert_uint_eq(bs_sampler_threshold(INTERVAL, 0, 1), bs_sampler_threshold(INTERVAL, 1, 1));
    ck_assert_uint_eq(bs_sampler_weight_256ths(INTERVAL, 0), bs_sampler_weight_256ths(INTERVAL, 1));
}
END_TEST

/* Blocks that come from no magazine, by a state that all threads share. */
START_TEST(chances_without_a_cache) {
    enum { N = 100000 };
    start(INTERVAL);
    for (size_t size = 64; size <= 16 * INTERVAL; size *= 4) {
        double hits = 0;
        for (int i = 0; i < N; i++)
            hits += bs_sampler_hits_uncounted(size);
        require(surprise(hits, N, -expm1(-(double)size / INTERVAL)) < 21, "%zu bytes: %.0f of %d", size, hits, N);
    }
}
END_TEST

/* --- shares ----------------------------------------------------------------------------------- */

static const size_t sizes[] = {16, 100, 1000, 5000, 20000, 32768, 100000};

/* mallopt(M_PERTURB) while blocks are sampled: what is freed is filled, sampled or not. */
START_TEST(freed_blocks_are_filled) {
    start(_i == 0 ? INTERVAL : UINT64_C(1) << 40);
    bs_heap_set_fill(0xa5);
    for (unsigned k = 0; k < 1000 / UNIT_SLOWNESS; k++) {
        unsigned char *volatile p = bs_heap_alloc(100), *at = p;
        require(p[50] == 0x5a, "not filled when allocated");
        bs_heap_free(p);
        require(BS_SANITIZED || at[50] == 0xa5, "block %u is not filled when freed", k);
    }
}
END_TEST

/* A keeps three blocks for B's one, and C frees what it takes at once, between them. */
START_TEST(a_leak_beside_blocks_that_come_and_go) {
    start(INTERVAL);
    double expect = 0;
    for (unsigned k = 0; k < BS_ARRAY_LEN(sizes); k++) {
        size_t size = sizes[k], n = size < 2000 ? 2000000 / size / UNIT_SLOWNESS : 8000000 / size;
        struct sums a = sums_of(site_a), b = sums_of(site_b), c = sums_of(site_c);
        for (size_t i = 0; i < n; i++) {
            for (unsigned j = 0; j < 3; j++) {
                ck_assert_ptr_nonnull(site_a(size));
                bs_heap_free(site_c(size));
            }
            ck_assert_ptr_nonnull(site_b(size));
        }
        struct sums a2 = sums_of(site_a), b2 = sums_of(site_b), c2 = sums_of(site_c);
        double bytes = (double)(n * size);
        expect += bytes;
        expect_bytes("a", a2.live_bytes - a.live_bytes, 3 * bytes, size);
        expect_bytes("b", b2.live_bytes - b.live_bytes, bytes, size);
        expect_bytes("c in all", c2.bytes - c.bytes, 3 * bytes, size);
        ck_assert_uint_eq(c2.live_bytes, 0);
    }
    ck_assert(expect > 0);
}
END_TEST

/* Magazines grow, overflow and are trimmed. */
START_TEST(waves_of_blocks) {
    static void *block[20000];
    start(INTERVAL);
    const size_t size = 48, waves = 30 / UNIT_SLOWNESS;
    for (size_t w = 0; w < waves; w++) {
        for (size_t i = 0; i < BS_ARRAY_LEN(block); i++)
            block[i] = i % 4 == 0 ? site_b(size) : site_a(size);
        for (size_t i = 0; i < BS_ARRAY_LEN(block); i++)
            bs_heap_free(block[i]);
    }
    double bytes = (double)(waves * BS_ARRAY_LEN(block) * size);
    expect_bytes("a", sums_of(site_a).bytes, bytes * 3 / 4, size);
    expect_bytes("b", sums_of(site_b).bytes, bytes / 4, size);
    ck_assert_uint_eq(sums_of(site_a).live_bytes, 0);
    ck_assert_uint_eq(bs_sample_count(), 0);
}
END_TEST

static void *thread_of_blocks(void *arg) {
    void **kept = arg;
    for (unsigned i = 0; i < 2000; i++)
        kept[i] = site_a(64);
    for (unsigned i = 0; i < 1000; i++)
        bs_heap_free(kept[i]);
    bs_tcache_leave();
    return NULL;
}
/* Short threads, whose counts begin anew each time; half of the blocks is freed by others. */
START_TEST(many_threads) {
    enum { ROUNDS = 40 / UNIT_SLOWNESS, N = 4 };
    static void *kept[ROUNDS][N][2000];
    start(INTERVAL);
    for (unsigned r = 0; r < ROUNDS; r++) {
        pthread_t t[N];
        for (unsigned i = 0; i < N; i++)
            ck_assert_int_eq(pthread_create(&t[i], NULL, thread_of_blocks, kept[r][i]), 0);
        for (unsigned i = 0; i < N; i++)
            pthread_join(t[i], NULL);
    }
    double bytes = ROUNDS * N * 2000.0 * 64;
    expect_bytes("in all", sums_of(site_a).bytes, bytes, 64);
    expect_bytes("alive", sums_of(site_a).live_bytes, bytes / 2, 64);
    for (unsigned r = 0; r < ROUNDS; r++)
        for (unsigned i = 0; i < N; i++)
            for (unsigned j = 1000; j < 2000; j++)
                bs_heap_free(kept[r][i][j]);
    ck_assert_uint_eq(sums_of(site_a).live_bytes, 0);
}
END_TEST

/* --- every block ------------------------------------------------------------------------------ */

START_TEST(all_blocks_are_exact) {
    void *block[500];
    start(1);
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++)
        block[i] = site_a(i % 2 == 0 ? 40 : 40000);
    struct sums a = sums_of(site_a);
    ck_assert_uint_eq(a.live_blocks, 500);
    ck_assert_uint_eq(a.live_samples, 500);
    ck_assert_uint_eq(a.live_bytes, 250 * 40 + 250 * 40000);
    for (unsigned i = 0; i < BS_ARRAY_LEN(block); i++) {
        struct bs_sampled s;
        ck_assert(bs_sample_find(block[i], &s));
        ck_assert_uint_eq(s.size, i % 2 == 0 ? 40 : 40000);
        ck_assert(goes_through(s.stack, site_a));
        bs_heap_free(block[i]);
        ck_assert(!bs_sample_find(block[i], &s));
    }
    ck_assert_uint_eq(sums_of(site_a).live_blocks, 0);
    ck_assert_uint_eq(sums_of(site_a).live_bytes, 0);
    ck_assert_uint_eq(sums_of(site_a).bytes, 250 * 40 + 250 * 40000);
}
END_TEST

static void *__attribute__((noinline)) resize(void *p, size_t size) {
    void *q = bs_heap_realloc(p, size);
    __asm__ volatile("" ::"r"(q));
    return q;
}
START_TEST(resized_blocks_are_the_resizers) {
    struct bs_sampled s;
    start(1);
    void *p = site_a(100000);
    p = resize(p, 5000000);
    ck_assert(bs_sample_find(p, &s));
    ck_assert_uint_eq(s.size, 5000000);
    ck_assert(!goes_through(s.stack, site_a));
    ck_assert_uint_eq(sums_of(site_a).live_bytes, 0);
    p = resize(p, 70000);
    ck_assert(bs_sample_find(p, &s));
    ck_assert_uint_eq(s.size, 70000);
    p = resize(p, 100);
    ck_assert(bs_sample_find(p, &s));
    ck_assert_uint_eq(s.size, 100);
    bs_heap_free(p);
    ck_assert_uint_eq(bs_sample_count(), 0);
}
END_TEST

/* --- with class bytes of 0 everything else is as it was ----------------------------------------- */

START_TEST(blocks_behave_as_without) {
    start(INTERVAL);
    uint64_t state = 3;
    static struct {
        unsigned char *p;
        size_t size;
    } b[2000];
    for (unsigned step = 0; step < 200000 / UNIT_SLOWNESS; step++) {
        unsigned i = (unsigned)random_below(&state, BS_ARRAY_LEN(b));
        size_t size = 1 + random_skewed(&state, 17);
        if (b[i].p != NULL) {
            require(b[i].p[0] == (i & 255) && b[i].p[b[i].size - 1] == (i & 255),
                    "block %u was lost", i);
            require(bs_heap_usable(b[i].p) >= b[i].size, "usable of %zu", b[i].size);
        }
        if (b[i].p != NULL && step % 3 != 0) {
            bs_heap_free(b[i].p);
            b[i].p = NULL;
            continue;
        }
        b[i].p = b[i].p != NULL  ? bs_heap_realloc(b[i].p, size)
                 : step % 2 == 0 ? bs_heap_alloc_zero(size)
                                 : bs_heap_alloc_aligned(32, size);
        b[i].size = size;
        b[i].p[0] = b[i].p[size - 1] = (unsigned char)i;
    }
    for (unsigned i = 0; i < BS_ARRAY_LEN(b); i++)
        bs_heap_free(b[i].p);
    ck_assert_uint_eq(bs_sample_count(), 0);
    (void)bs_heap_trim(0);
    ck_assert_uint_eq(bs_heap_totals().allocated, 0);
}
END_TEST

static void free_twice(void *arg) {
    (void)arg;
    void *p = bs_heap_alloc(100);
    bs_heap_free(p);
    bs_heap_free(p);
    bs_tcache_drain_own();
}
static void free_inside(void *arg) {
    (void)arg;
    bs_heap_free((char *)bs_heap_alloc(100) + 8);
    bs_tcache_drain_own();
}
START_TEST(crimes_are_found_as_without) {
    start(INTERVAL);
    expect_abort(free_twice, NULL, "double free");
    expect_abort(free_inside, NULL, "invalid free");
}
END_TEST

/* --- stacks ----------------------------------------------------------------------------------- */

static struct bs_stack *__attribute__((noinline)) deep(int depth, unsigned path) {
    struct bs_stack *s;
    if (depth == 0) {
        s = bs_stacks_take();
        __asm__ volatile("" ::"r"(s));
    } else if ((path & 1) != 0) {
        s = deep(depth - 1, path >> 1);
        __asm__ volatile("# odd" ::"r"(s)); /* another place in the code */
    } else {
        s = deep(depth - 1, path >> 1);
        __asm__ volatile("# even" ::"r"(s));
    }
    return s;
}
START_TEST(the_table_of_stacks_is_bounded) {
    start(1);
    enum { N = 1 << 15 };
    static struct bs_stack *first[N];
    unsigned other = 0;
    for (unsigned i = 0; i < 2 * N; i++) { /* from one place, so that the stacks are the same */
        struct bs_stack *stack = deep(15, i % N);
        if (i < N)
            first[i] = stack;
        require(stack == first[i % N], "stack %u is another one the second time", i - N);
        other += stack == &bs_stacks_other;
    }
    ck_assert_uint_eq(other, 2 * (N - BS_STACKS_MAX));
    ck_assert_uint_eq(bs_stacks_count(), BS_STACKS_MAX);
}
END_TEST

START_TEST(modules_have_build_id_and_path) {
    struct bs_module m;
    bool loaded, program = false, libc = false;
    start(1);
    int x[] = {2, 1};
    (void)x;
    bs_heap_free(site_a(10));
    char self[512];
    ck_assert_int_eq(bs_os_program_path(self, sizeof self), 0);
    for (uint32_t i = 1; i <= bs_stacks_modules(); i++) {
        ck_assert(bs_stacks_module(i, &m, &loaded));
        ck_assert(loaded);
        ck_assert_uint_eq(m.number, i);
        program |= strcmp(m.path, self) == 0;
        libc |= strstr(m.path, "libc.so") != NULL && m.id_bytes == 20;
    }
    ck_assert(program && libc);
    ck_assert(!bs_stacks_module(bs_stacks_modules() + 1, &m, &loaded));
}
END_TEST

/* --- without memory ------------------------------------------------------------------------------ */

static void start_without_memory(void *arg) {
    (void)arg;
    bs_heap_free(bs_heap_alloc(10));
    bs_opt.sample = 1;
    bs_os_fail(1, ENOMEM, false);
    bs_heap_start_sampling();
    bs_os_fail(0, 0, false);
    CHILD_CHECK(!bs_sample_is_on());
    void *p = bs_heap_alloc(100);
    CHILD_CHECK(p != NULL && !bs_sample_find(p, &(struct bs_sampled){.size = 0}));
    bs_heap_free(p);
}
START_TEST(without_memory_for_stacks_nothing_is_sampled) {
    struct outcome o = child_run(start_without_memory, NULL, 60);
    ck_assert_str_eq(o.err, "besom: no memory for the table of stacks; nothing is sampled\n");
    ck_assert_int_eq(o.status, 0);
}
END_TEST

static void *no_block(size_t i) {
    return (void *)(uintptr_t)(0x100000000000 + i * 16);
}

/* One is counted as lost, and its stack's sums hold what is known. */
START_TEST(a_sample_without_memory_is_counted_as_lost) {
    enum { MANY = 1000000 };
    struct bs_sampled s;
    size_t n = 0;
    start(1);
    while (n < MANY && bs_sample_made(no_block(n), 100, 100)) /* of one stack */
        if (++n == 10)
            bs_os_fail(1, ENOMEM, true);
    bs_os_fail(0, 0, false);
    ck_assert_uint_lt(n, MANY);
    ck_assert_uint_ge(n, 10);
    ck_assert_uint_eq(bs_sample_lost(), 1);
    ck_assert(!bs_sample_find(no_block(n), &s));
    ck_assert(bs_sample_find(no_block(0), &s));
    struct bs_stack *stack = s.stack;
    ck_assert_uint_eq(stack->live_blocks, n);
    ck_assert(bs_sample_made(no_block(n), 100, 100));
    ck_assert(bs_sample_made(no_block(0), 100, 100)); /* the first went away without a word */
    for (size_t i = 0; i <= n; i++)
        ck_assert(bs_sample_take(no_block(i), &s));
    ck_assert_uint_eq(stack->live_blocks, 0);
    ck_assert_uint_eq(stack->live_bytes, 0);
}
END_TEST

#ifdef __x86_64__
static struct bs_stack *taken_from(struct bs_stack *(*take)(void)) {
    struct bs_stack *s = take();
    __asm__ volatile("" ::"r"(s));
    return s;
}

/* As a just-in-time compiler makes it: with a frame pointer, in no module, each time elsewhere. */
START_TEST(code_without_a_module_leaves_room_for_others) {
    static const unsigned char call[16] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3}; /* push, mov, call *rdi, pop, ret */
    enum { N = BS_STACKS_MAX + 1000 };
    unsigned char *code = mmap(NULL, N * sizeof call, PROT_READ | PROT_WRITE | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(code, MAP_FAILED);
    for (unsigned i = 0; i < N; i++)
        memcpy(code + i * sizeof call, call, sizeof call);
    start(1);
    struct bs_stack *last = NULL;
    for (unsigned i = 0; i < N; i++) {
        union {
            unsigned char *code;
            struct bs_stack *(*call)(struct bs_stack *(*)(void));
        } made = {code + i * sizeof call};
        struct bs_stack *s = made.call(bs_stacks_take);
        require(s != &bs_stacks_other, "no room after %u", i);
        require(i >= BS_STACKS_MAX / 4 || s != last, "it is the same from everywhere");
        last = s;
    }
    ck_assert_uint_lt(bs_stacks_count(), BS_STACKS_MAX / 2 + 100);
    ck_assert_uint_ne(BS_FRAME_MODULE(last->frame[0]), 0); /* here besom is a part of the program */
    ck_assert_uint_eq(last->frame[1], 0);
    ck_assert_uint_ne(BS_FRAME_MODULE(last->frame[2]), 0);
    ck_assert_ptr_ne(taken_from(bs_stacks_take), &bs_stacks_other); /* a place that was not seen before */
}
END_TEST
#endif

/* Where it lay is filled when it is unloaded. */
static uint64_t frame_in_another_place(const char *name, uintptr_t *place) {
    struct link_map *map = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(map != NULL, "%s", dlerror());
    uintptr_t at = (uintptr_t)map->l_ld;
    uint64_t frame = bs_stacks_frame(at);
    ck_assert_uint_eq(BS_FRAME_OFFSET(frame), at - map->l_addr);
    *place = map->l_addr;
    ck_assert_int_eq(dlclose(map), 0);
    void *filler = mmap((void *)*place, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    ck_assert_ptr_ne(filler, MAP_FAILED);
    return frame;
}

/* As a program that loads a plug-in anew now and then, for long. */
START_TEST(a_module_keeps_its_number_wherever_it_is_loaded) {
    enum { TIMES = 10000 };
    static const char name[] = "libBrokenLocale.so.1";
    uintptr_t place, last = 0;
    unsigned moves = 0;
    start(INTERVAL);
    uint64_t first = frame_in_another_place(name, &place);
    ck_assert_uint_ne(BS_FRAME_MODULE(first), 0);
    uint32_t modules = bs_stacks_modules();
    size_t metadata = 0;
    for (unsigned i = 0; i < TIMES; i++, last = place) {
        ck_assert_uint_eq(frame_in_another_place(name, &place), first);
        moves += place != last;
        if (i == TIMES / 2)
            metadata = bs_meta_used_bytes();
    }
    ck_assert_uint_gt(moves, TIMES / 2);
    ck_assert_uint_eq(bs_stacks_modules(), modules);
    ck_assert_uint_le(bs_meta_used_bytes(), metadata); /* nothing is kept of where it was */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sample");
    TCase *tc = add_case(suite, "by bytes");
    tcase_add_test(tc, chances_are_those_of_the_exponential);
    tcase_add_test(tc, chances_without_a_cache);
    tcase_add_test(tc, gaps_are_geometric);
    tcase_add_test(tc, a_leak_beside_blocks_that_come_and_go);
    tcase_add_loop_test(tc, freed_blocks_are_filled, 0, 2);
    tcase_add_test(tc, waves_of_blocks);
    tcase_add_test(tc, many_threads);
    tcase_add_test(tc, blocks_behave_as_without);
    tcase_add_test(tc, crimes_are_found_as_without);
    tc = add_case(suite, "every block");
    tcase_add_test(tc, all_blocks_are_exact);
    tcase_add_test(tc, resized_blocks_are_the_resizers);
    tcase_add_test(tc, the_table_of_stacks_is_bounded);
    tcase_add_test(tc, modules_have_build_id_and_path);
#ifdef __x86_64__
    tcase_add_test(tc, code_without_a_module_leaves_room_for_others);
#endif
    tcase_add_test(tc, a_module_keeps_its_number_wherever_it_is_loaded);
    tc = add_case(suite, "without memory");
    add_but_tsan(tc, without_memory_for_stacks_nothing_is_sampled, UNIT_ALONE);
    add_but_tsan(tc, a_sample_without_memory_is_counted_as_lost, UNIT_ALONE);
    return run_suite(suite);
}
