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

bool bs_sampler_hits_uncounted(size_t size) {
    static uint64_t chance; /* [atomic] */
    uint64_t state = bs_add(&chance, UINT64_C(0x9e3779b97f4a7c15)) + bs_os_random();
    return bs_sampler_passes(&state, bs_sampler_threshold(bs_load(&bs_sample_interval), size, 1));
}
