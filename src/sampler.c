/* SPDX-License-Identifier: MIT */
/* sampler.c - see sampler.h. libm is not there: the exponential by its series. */
#include "sampler.h"

#include "os.h"

uint64_t bs_sample_interval;

/* 1 - exp(-x), x >= 0. */
static double one_less_exp(double x) {
    if (x > 40)
        return 1;
    double part = x / 64, term = part, sum = part; /* small: the series loses nothing */
    for (int i = 2; i < 14; i++) {
        term *= -part / i;
        sum += term;
    }
    for (int i = 0; i < 6; i++) /* 1 - (1 - sum)^2 without cancellation */
        sum *= 2 - sum;
    return sum;
}

/* P of sampler.h. */
static double chance_of(uint64_t interval, size_t size) {
    return interval <= 1 ? 1 : one_less_exp((double)bs_max(size, 1) / (double)interval);
}

uint64_t bs_sampler_weight_256ths(uint64_t interval, size_t size) {
    return (uint64_t)(256 / chance_of(interval, size) + 0.5);
}

uint64_t bs_sampler_threshold(uint64_t interval, size_t size, unsigned n) {
    double p = n * chance_of(interval, size);
    return p < 1 ? (uint64_t)(p * 0x1p64) : UINT64_MAX;
}

/* The random number of this process that is not as those before it. */
static uint64_t next_random(void) {
    static uint64_t seed, chance; /* [atomic] */
    uint64_t first = bs_load(&seed);
    if (BS_UNLIKELY(first == 0)) { /* all who come here find the same */
        first = bs_os_random() | 1;
        bs_store(&seed, first);
    }
    uint64_t state = bs_add(&chance, UINT64_C(0x9e3779b97f4a7c15)) + first;
    return bs_sampler_random(&state);
}

bool bs_sampler_hits_uncounted(size_t size) {
    uint64_t interval = bs_load(&bs_sample_interval), random = next_random();
    double x = (double)bs_max(size, 1) / (double)interval, drawn = (double)random * 0x1p-64;
    /* x - x * x / 2 <= P <= x: nearly always that is enough */
    if (drawn > x)
        return false;
    if (x < 1 && drawn < x - x * x / 2)
        return true;
    return random <= bs_sampler_threshold(interval, size, 1);
}
