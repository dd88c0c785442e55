/* SPDX-License-Identifier: MIT */
/* pacer.c - see pacer.h. */
#include "pacer.h"

#define NS_PER_TICK ((uint64_t)BS_TICK_MS * 1000000u)
/* Longer than that neither a pause nor a round lasts; a clock that says so has jumped. */
#define STEP_MAX_NS (100 * NS_PER_TICK)

void bs_pacer_start(struct bs_pacer *p, uint64_t now_ns) {
    *p = (struct bs_pacer){BS_CREDIT_START_NS, now_ns};
}

uint64_t bs_pacer_pause_ns(struct bs_pacer *p, uint64_t now_ns, uint64_t worked_ns,
                           uint64_t percent) {
    uint64_t elapsed = bs_min(bs_sub_clamped(now_ns, p->last_ns), STEP_MAX_NS);
    p->last_ns = now_ns;
    p->credit_ns += (int64_t)(elapsed * percent / 100);
    p->credit_ns -= (int64_t)bs_min(worked_ns, STEP_MAX_NS);
    if (p->credit_ns > BS_CREDIT_MAX_NS)
        p->credit_ns = BS_CREDIT_MAX_NS;
    if (p->credit_ns >= 0)
        return NS_PER_TICK;
    uint64_t longest = BS_PAUSE_MAX_TICKS * NS_PER_TICK;
    uint64_t owed = (uint64_t)-p->credit_ns;
    if (owed >= longest) /* so the product below cannot overflow */
        return longest;
    return bs_max(NS_PER_TICK, bs_min(owed * 100 / percent, longest));
}

void bs_pacer_start_scans(struct bs_pacer *p, uint64_t now_ns) {
    *p = (struct bs_pacer){BS_SCAN_CREDIT_NS, now_ns};
}

uint64_t bs_pacer_scan_wait_ns(struct bs_pacer *p, uint64_t now_ns, uint64_t worked_ns, uint64_t percent) {
    uint64_t elapsed = bs_min(bs_sub_clamped(now_ns, p->last_ns), BS_SCAN_WAIT_MAX_NS);
    p->last_ns = now_ns;
    p->credit_ns += (int64_t)(elapsed / 100 * percent);
    if (p->credit_ns > BS_SCAN_CREDIT_NS)
        p->credit_ns = BS_SCAN_CREDIT_NS;
    p->credit_ns -= (int64_t)bs_min(worked_ns, BS_SCAN_WAIT_MAX_NS);
    if (p->credit_ns < -BS_SCAN_WAIT_MAX_NS)
        p->credit_ns = -BS_SCAN_WAIT_MAX_NS;
    if (p->credit_ns >= 0)
        return 0;
    return bs_min((uint64_t)-p->credit_ns * 100 / percent, BS_SCAN_WAIT_MAX_NS);
}
