/* SPDX-License-Identifier: MIT */
/* sampler.c - see sampler.h. libm is not there: logarithm and exponential by their series. */
#include "sampler.h"

#include "os.h"

#include <string.h>

uint64_t bs_sample_interval;

/* In (0, 1]. */
static double uniform(uint64_t *state) {
    return (double)((bs_sampler_random(state) >> 11) + 1) * 0x1p-53;
}

static const double ln_2 = 0.693147180559945309417;

/* x > 0, normal. */
static double logarithm(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    bits = (bits & 0xfffffffffffffu) | UINT64_C(1023) << 52;
    memcpy(&x, &bits, sizeof x);
    /* ln x = 2 atanh((x - 1) / (x + 1)), for 1 <= x < 2 */
    double s = (x - 1) / (x + 1), term = s, sum = 0;
    for (int i = 1; i < 40; i += 2, term *= s * s)
        sum += term / i;
    return 2 * sum + exponent * ln_2;
}

/* 1 - exp(-x), x >= 0. */
static double one_less_exp(double x) {
    if (x > 40)
        return 1;
    double part = x / 64, term = part, sum = part; /* small: the series loses nothing */
    for (int i = 2; i < 14; i++) {
        term *= -part / i;
        sum += term;
    }
    double rest = 1 - sum;
    if (x < 1) { /* 1 - (1 - sum)^64 without cancellation */
        double result = 0;
        for (int i = 0; i < 64; i++)
            result += sum * (1 - result);
        return result;
    }
    for (int i = 0; i < 6; i++)
        rest *= rest;
    return 1 - rest;
}

uint64_t bs_sampler_gap(uint64_t *chance, uint64_t interval, size_t size) {
    double gap = -logarithm(uniform(chance)) * (double)interval / (double)bs_max(size, 1);
    return gap < 0x1p62 ? (uint64_t)gap : UINT64_C(1) << 62;
}

bool bs_sampler_hits(uint64_t *chance, uint64_t interval, size_t size) {
    return interval <= 1 || bs_sampler_gap(chance, interval, size) == 0;
}

bool bs_sampler_hits_uncounted(size_t size) {
    static uint64_t chance; /* [atomic] */
    uint64_t state = bs_add(&chance, UINT64_C(0x9e3779b97f4a7c15)) + bs_os_random();
    return bs_sampler_hits(&state, bs_load(&bs_sample_interval), size);
}

uint64_t bs_sampler_weight_256ths(uint64_t interval, size_t size) {
    if (interval <= 1)
        return 256;
    return (uint64_t)(256 / one_less_exp((double)bs_max(size, 1) / (double)interval) + 0.5);
}

uint64_t bs_sampler_threshold(uint64_t interval, size_t size, unsigned n) {
    double p = interval <= 1 ? 1 : n * one_less_exp((double)bs_max(size, 1) / (double)interval);
    return p < 1 ? (uint64_t)(p * 0x1p64) : UINT64_MAX;
}
