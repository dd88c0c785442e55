/* SPDX-License-Identifier: MIT */
/* pins.c - see pins.h. */
#include "pins.h"

#include "central.h"
#include "os.h"
#include "sample.h"

/* The share of each block that is out on one OS page, of which [from, to) belongs to the span. */
static uint64_t share(const struct bs_shape *s, const uint64_t *bits, uintptr_t from, uintptr_t to) {
    struct bs_slots_out out = bs_shape_slots_out(s, bits, from, to);
    return out.slots != 0 ? (to - from - out.bytes) / out.slots : 0;
}

/* What the block at p pins. It may be freed meanwhile, and its span become another: then this is some share of what is
 * there instead, or 0. */
static uint64_t pinned_by(uintptr_t p, size_t os_page) {
    struct bs_span *span = bs_span_of(p);
    struct bs_shape s;
    uint64_t bits[BS_SPAN_WORDS_MAX] = {0}, bytes = 0;
    uint16_t holes;
    uint32_t slot;
    if (span == NULL || !bs_span_shape(span, &s) || s.class == 0 || !bs_shape_slot(&s, p, &slot))
        return 0;
    bs_central_copy_bits(span, s.class, bits, &holes);
    uintptr_t start = s.base + (uintptr_t)slot * s.size, end = s.base + s.bytes;
    for (uintptr_t page = bs_align_down(start, os_page); page < start + s.size; page += os_page)
        bytes += share(&s, bits, bs_max(page, s.base), bs_min(page + os_page, end));
    return bytes;
}

/* False: no memory. */
static bool add(struct bs_pins *pins, const struct bs_stack *stack, uint64_t bytes) {
    uint64_t before = bs_numbers_take(&pins->of, (uintptr_t)stack);
    pins->bytes += bytes;
    return bs_numbers_put(&pins->of, (uintptr_t)stack, (before != BS_NUMBERS_NONE ? before : 0) + bytes);
}

bool bs_pins_take(struct bs_pins *pins) {
    struct bs_sampled_at block[BS_SAMPLE_PART];
    size_t place = 0, n, os_page = bs_os_page_size();
    *pins = (struct bs_pins){.bytes = 0};
    while (bs_sample_part(&place, block, &n)) {
        for (size_t i = 0; i < n; i++) {
            uint64_t bytes = pinned_by(block[i].p, os_page) * block[i].blocks;
            if (bytes == 0 || add(pins, block[i].stack, bytes))
                continue;
            bs_pins_drop(pins);
            return false;
        }
    }
    return true;
}

uint64_t bs_pins_of(const struct bs_pins *pins, const struct bs_stack *stack) {
    uint64_t bytes = bs_numbers_get(&pins->of, (uintptr_t)stack);
    return bytes != BS_NUMBERS_NONE ? bytes : 0;
}

void bs_pins_drop(struct bs_pins *pins) {
    bs_numbers_clear(&pins->of);
    pins->bytes = 0;
}
