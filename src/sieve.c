/* SPDX-License-Identifier: MIT */
/*
 * sieve.c - see sieve.h. Compiled for speed: a search of the quarantine spends most of its time here. Its
 * measure is what memory gives, so that no way has a branch for a single word, and the wide ones fetch
 * ahead where that helps, across the ends of pages where prefetching of some processors stops.
 */
#include "sieve.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#define STRIDE BS_SIEVE_STRIDE

BS_UNCHECKED static size_t by_one(struct bs_sieve *s, const bs_any_word *p, size_t n) {
    const uintptr_t low = s->low, reach = s->reach, mask = s->mask;
    size_t seen = 0, found = s->n;
    while (seen < n && found < BS_SIEVE_BATCH) {
        size_t piece = bs_min(n - seen, BS_ARRAY_LEN(s->found) - found);
        for (size_t i = 0; i < piece; i++) {
            uintptr_t x = p[seen + i] & mask;
            s->found[found] = x;
            found += x - low <= reach;
        }
        seen += piece;
    }
    s->n = found;
    return seen;
}

#if defined(__x86_64__)
/* So much is fetched ahead by Intel's processors. AMD's (EPYC, Zen 4) read on by themselves, and what they are asked for comes
 * on top: the searches of sqlite3 take 202 ms of CPU time with it and 171 without, of cc1 401 and 360, of python3 302 and 311
 * (doc/MEASURED.md, 19). */
#define AHEAD_BYTES 4096
static size_t ahead; /* [atomic] */

/* For each four bits, the halves of the words with a bit, in order. */
#define HALVES(a, b, c, d)                                                                                  \
    { 2 * (a), 2 * (a) + 1, 2 * (b), 2 * (b) + 1, 2 * (c), 2 * (c) + 1, 2 * (d), 2 * (d) + 1 }
static const uint32_t halves[16][8] = {
    HALVES(0, 0, 0, 0), HALVES(0, 0, 0, 0), HALVES(1, 0, 0, 0), HALVES(0, 1, 0, 0),
    HALVES(2, 0, 0, 0), HALVES(0, 2, 0, 0), HALVES(1, 2, 0, 0), HALVES(0, 1, 2, 0),
    HALVES(3, 0, 0, 0), HALVES(0, 3, 0, 0), HALVES(1, 3, 0, 0), HALVES(0, 1, 3, 0),
    HALVES(2, 3, 0, 0), HALVES(0, 2, 3, 0), HALVES(1, 2, 3, 0), HALVES(0, 1, 2, 3),
};

/* The wide ways read eight words at p and eight at q at once, and then those `step` words further on. */

/* Words less `low`, with the highest bit turned, so that a comparison with signs is one without. */
BS_UNCHECKED __attribute__((target("avx2,popcnt"))) static size_t by_four(struct bs_sieve *s, const bs_any_word *p,
                                                                          const bs_any_word *q, size_t step,
                                                                          size_t n) {
    const uintptr_t turn = (uintptr_t)1 << 63;
    const __m256i low = _mm256_set1_epi64x((long long)(s->low + turn));
    const __m256i reach = _mm256_set1_epi64x((long long)(s->reach - turn));
    const __m256i mask = _mm256_set1_epi64x((long long)s->mask);
    size_t seen = 0, found = s->n, fetch = bs_load(&ahead);
    for (; seen + step <= n && found < BS_SIEVE_BATCH; seen += step) {
        __m256i x[4], out[4];
        _mm_prefetch((const char *)(p + seen) + fetch, _MM_HINT_T0);
        _mm_prefetch((const char *)(q + seen) + fetch, _MM_HINT_T0);
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++) {
            const bs_any_word *words = (i < 2 ? p : q) + seen + 4 * (i % 2);
            x[i] = _mm256_and_si256(_mm256_loadu_si256((const void *)words), mask);
            out[i] = _mm256_cmpgt_epi64(_mm256_sub_epi64(x[i], low), reach);
        }
        __m256i none = _mm256_and_si256(_mm256_and_si256(out[0], out[1]), _mm256_and_si256(out[2], out[3]));
        if (_mm256_movemask_epi8(none) == -1)
            continue;
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++) {
            unsigned in = ~(unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(out[i])) & 15;
            __m256i order = _mm256_loadu_si256((const void *)halves[in]);
            _mm256_storeu_si256((void *)&s->found[found], _mm256_permutevar8x32_epi32(x[i], order));
            found += (unsigned)__builtin_popcount(in);
        }
    }
    s->n = found;
    return seen;
}

BS_UNCHECKED __attribute__((target("avx512f,popcnt"))) static size_t by_eight(struct bs_sieve *s,
                                                                              const bs_any_word *p,
                                                                              const bs_any_word *q, size_t step,
                                                                              size_t n) {
    const __m512i low = _mm512_set1_epi64((long long)s->low), reach = _mm512_set1_epi64((long long)s->reach);
    const __m512i mask = _mm512_set1_epi64((long long)s->mask);
    size_t seen = 0, found = s->n, fetch = bs_load(&ahead);
    for (; seen + step <= n && found < BS_SIEVE_BATCH; seen += step) {
        _mm_prefetch((const char *)(p + seen) + fetch, _MM_HINT_T0);
        _mm_prefetch((const char *)(q + seen) + fetch, _MM_HINT_T0);
        __m512i a = _mm512_and_si512(_mm512_loadu_si512((const void *)(p + seen)), mask);
        __m512i b = _mm512_and_si512(_mm512_loadu_si512((const void *)(q + seen)), mask);
        unsigned in_a = _mm512_cmple_epu64_mask(_mm512_sub_epi64(a, low), reach);
        unsigned in_b = _mm512_cmple_epu64_mask(_mm512_sub_epi64(b, low), reach);
        if ((in_a | in_b) == 0)
            continue;
        _mm512_storeu_si512((void *)&s->found[found], _mm512_maskz_compress_epi64((__mmask8)in_a, a));
        found += (unsigned)__builtin_popcount(in_a);
        _mm512_storeu_si512((void *)&s->found[found], _mm512_maskz_compress_epi64((__mmask8)in_b, b));
        found += (unsigned)__builtin_popcount(in_b);
    }
    s->n = found;
    return seen;
}

/* Not __builtin_cpu_supports: its constructor runs in every process. */
static enum bs_sieve_way ask_processor(void) {
    unsigned a, b, c, d, low, high;
    if (__get_cpuid(0, &a, &b, &c, &d) != 0 && b == signature_INTEL_ebx)
        bs_store(&ahead, (size_t)AHEAD_BYTES);
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0 || (c & bit_POPCNT) == 0)
        return BS_SIEVE_ONE;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6 || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (b & bit_AVX2) == 0)
        return BS_SIEVE_ONE;
    return (low & 0xe0) == 0xe0 && (b & bit_AVX512F) != 0 ? BS_SIEVE_EIGHT : BS_SIEVE_FOUR;
}

static size_t wide(struct bs_sieve *s, enum bs_sieve_way way, const bs_any_word *p, const bs_any_word *q, size_t step,
                   size_t n) {
    return way == BS_SIEVE_EIGHT  ? by_eight(s, p, q, step, n)
           : way == BS_SIEVE_FOUR ? by_four(s, p, q, step, n)
                                  : 0;
}
#else
static enum bs_sieve_way ask_processor(void) {
    return BS_SIEVE_ONE;
}
static size_t wide(struct bs_sieve *s, enum bs_sieve_way way, const bs_any_word *p, const bs_any_word *q, size_t step,
                   size_t n) {
    (void)s, (void)way, (void)p, (void)q, (void)step, (void)n;
    return 0;
}
#endif

/* Asked once: under a hypervisor each cpuid takes some microseconds. */
enum bs_sieve_way bs_sieve_best(void) {
    static uint32_t best; /* [atomic] the way plus 1; 0: not asked yet */
    if (bs_load(&best) == 0)
        bs_store(&best, (uint32_t)ask_processor() + 1);
    return (enum bs_sieve_way)(bs_load(&best) - 1);
}

size_t bs_sieve_words(struct bs_sieve *s, enum bs_sieve_way way, uintptr_t p, size_t n) {
    const bs_any_word *words = (const bs_any_word *)p;
    size_t seen = wide(s, way, words, words + STRIDE / 2, STRIDE, n);
    return s->n < BS_SIEVE_BATCH && seen < n ? seen + by_one(s, words + seen, n - seen) : seen;
}

size_t bs_sieve_pair(struct bs_sieve *s, enum bs_sieve_way way, uintptr_t p, uintptr_t q, size_t n) {
    return wide(s, way, (const bs_any_word *)p, (const bs_any_word *)q, STRIDE / 2, n);
}
