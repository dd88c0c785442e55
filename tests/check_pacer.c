/* SPDX-License-Identifier: MIT */
/* check_pacer.c - the helper's pauses over invented times: the share is kept, and no clock that
 * jumps stops the helper or lets it run free. */
#include "pacer.h"
#include "unit.h"

#define MS 1000000u
#define TICK_NS ((uint64_t)BS_TICK_MS * MS)
#define SECOND_NS ((uint64_t)1000 * MS)

/* Works worked_ns after every pause for `total_ns`; the part of the time that was work, 1e-4. */
static uint64_t share_of_work(uint64_t worked_ns, uint64_t percent, uint64_t total_ns) {
    struct bs_pacer p;
    uint64_t now = SECOND_NS, end = now + total_ns, worked = 0;
    bs_pacer_start(&p, now);
    while (now < end) {
        now += worked_ns;
        worked += worked_ns;
        now += bs_pacer_pause_ns(&p, now, worked_ns, percent);
    }
    return worked * 10000 / total_ns;
}

START_TEST(work_without_end_gets_its_share) {
    const uint64_t percents[] = {1, 2, 10, 50, 100}, works[] = {1 * MS, 10 * MS, 20 * MS};
    for (size_t i = 0; i < BS_ARRAY_LEN(percents); i++)
        for (size_t k = 0; k < BS_ARRAY_LEN(works); k++) {
            uint64_t share = share_of_work(works[k], percents[i], 1000 * SECOND_NS);
            /* what one tick lets pass bounds it as well; the start's credit is 3e-4 of 1000 s */
            uint64_t most = percents[i] * 100 + 4;
            uint64_t by_tick = works[k] * 10000 / (works[k] + TICK_NS);
            ck_assert_msg(share <= most, "%ju of %ju in 1e-4", (uintmax_t)share, (uintmax_t)most);
            ck_assert_msg(share + 3 >= bs_min(percents[i] * 98, by_tick), "only %ju of %ju %%",
                          (uintmax_t)share, (uintmax_t)percents[i]);
        }
}
END_TEST

START_TEST(the_first_burst_is_free) {
    struct bs_pacer p;
    bs_pacer_start(&p, SECOND_NS);
    uint64_t worked = 0;
    while (bs_pacer_pause_ns(&p, SECOND_NS, 10 * MS, 1) == TICK_NS && worked < SECOND_NS)
        worked += 10 * MS;
    ck_assert_uint_ge(worked, BS_CREDIT_START_NS);
    ck_assert_uint_le(worked, BS_CREDIT_START_NS + 10 * MS);
}
END_TEST

START_TEST(rest_saves_up_to_a_bound) {
    struct bs_pacer p;
    uint64_t now = SECOND_NS;
    bs_pacer_start(&p, now);
    for (int i = 0; i < 100000; i++)
        ck_assert_uint_eq(bs_pacer_pause_ns(&p, now += 10 * SECOND_NS, 0, 100), TICK_NS);
    ck_assert_int_eq(p.credit_ns, BS_CREDIT_MAX_NS);
}
END_TEST

/* Scans of cost_ns each, as often as interval_ns allows; how many in total_ns. */
static uint64_t scans_in(uint64_t cost_ns, uint64_t interval_ns, uint64_t percent, uint64_t total_ns) {
    struct bs_pacer p;
    uint64_t now = SECOND_NS, end = now + total_ns, n = 0;
    bs_pacer_start_scans(&p, now);
    for (now += interval_ns; now < end; n++)
        now += bs_max(interval_ns, bs_pacer_scan_wait_ns(&p, now, cost_ns, percent));
    return n;
}

START_TEST(scans_get_their_share) {
    const uint64_t minute = 60 * SECOND_NS, day = 24 * 60 * minute;
    ck_assert_uint_eq(scans_in(600 * MS, minute, 1, day), 24 * 60 - 1); /* just 1 % */
    ck_assert_uint_eq(scans_in(5 * MS, SECOND_NS, 1, day), 24 * 3600 - 1);
    for (uint64_t percent = 1; percent <= 100; percent *= 10) {
        uint64_t worked = 4 * SECOND_NS * scans_in(4 * SECOND_NS, SECOND_NS, percent, day);
        ck_assert_uint_le(worked, day / 100 * percent + BS_SCAN_CREDIT_NS + 4 * SECOND_NS);
        ck_assert_uint_ge(worked, bs_min(day / 100 * percent - 4 * SECOND_NS, 4 * (day - 2 * SECOND_NS)));
    }
    /* the first second is free, whatever the share */
    ck_assert_uint_eq(scans_in(100 * MS, SECOND_NS, 1, 10 * SECOND_NS), 9);
}
END_TEST

/* Those that are asked for do not wait, and those by interval pay for them. */
START_TEST(scans_pay_what_others_owe) {
    struct bs_pacer p;
    uint64_t now = SECOND_NS;
    bs_pacer_start_scans(&p, now);
    ck_assert_uint_eq(bs_pacer_scan_wait_ns(&p, now, 2 * SECOND_NS, 1), 100 * SECOND_NS);
    ck_assert_uint_eq(bs_pacer_scan_wait_ns(&p, now += SECOND_NS, 2 * SECOND_NS, 1), 299 * SECOND_NS);
    ck_assert_uint_eq(bs_pacer_scan_wait_ns(&p, now += SECOND_NS, 2 * SECOND_NS, 1), 498 * SECOND_NS);
    /* of a share that does not divide a nanosecond is left owing: it is no credit */
    bs_pacer_start_scans(&p, now);
    for (int i = 0; i < 10; i++)
        now += bs_pacer_scan_wait_ns(&p, now, 4 * SECOND_NS, 3);
    ck_assert_uint_ge(now, 13 * 100 * SECOND_NS - 100 * SECOND_NS / 3);
}
END_TEST

START_TEST(scans_wait_an_hour_at_most) {
    const uint64_t odd[] = {0, 1, SECOND_NS, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX};
    uint64_t seed = 7;
    struct bs_pacer p;
    bs_pacer_start_scans(&p, SECOND_NS);
    for (int i = 0; i < 100000; i++) {
        uint64_t now = odd[random_below(&seed, BS_ARRAY_LEN(odd))];
        uint64_t worked = odd[random_below(&seed, BS_ARRAY_LEN(odd))];
        uint64_t wait = bs_pacer_scan_wait_ns(&p, now, worked, 1 + random_below(&seed, 100));
        require(wait <= BS_SCAN_WAIT_MAX_NS, "a wait of %ju ns", (uintmax_t)wait);
        require(p.credit_ns <= BS_SCAN_CREDIT_NS, "credit %jd", (intmax_t)p.credit_ns);
    }
}
END_TEST

START_TEST(clocks_that_jump) {
    const uint64_t longest = BS_PAUSE_MAX_TICKS * TICK_NS;
    const uint64_t odd[] = {0, 1, SECOND_NS, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX};
    uint64_t seed = 7;
    struct bs_pacer p;
    bs_pacer_start(&p, SECOND_NS);
    for (int i = 0; i < 100000; i++) {
        uint64_t now = odd[random_below(&seed, BS_ARRAY_LEN(odd))];
        uint64_t worked = odd[random_below(&seed, BS_ARRAY_LEN(odd))];
        uint64_t pause = bs_pacer_pause_ns(&p, now, worked, 1 + random_below(&seed, 100));
        require(pause >= TICK_NS && pause <= longest, "a pause of %ju ns", (uintmax_t)pause);
        require(p.credit_ns <= BS_CREDIT_MAX_NS, "credit %jd", (intmax_t)p.credit_ns);
    }
    /* and after the worst of them work goes on within minutes */
    bs_pacer_start(&p, SECOND_NS);
    (void)bs_pacer_pause_ns(&p, SECOND_NS, UINT64_MAX, 1);
    uint64_t now = SECOND_NS, pauses = 0;
    while (bs_pacer_pause_ns(&p, now, 0, 1) > TICK_NS && ++pauses < 10000)
        now += longest;
    ck_assert_uint_le(now, 1000 * SECOND_NS);
}
END_TEST

/* Whatever a clock says, no more than 100 ticks passed, and no round took longer. */
START_TEST(what_a_jump_adds_is_bounded) {
    const uint64_t longest = BS_PAUSE_MAX_TICKS * TICK_NS, step = 100 * TICK_NS;
    const uint64_t jumps[] = {2 * step, 1000000 * SECOND_NS, UINT64_MAX / 100, UINT64_MAX / 2};
    struct bs_pacer p;
    for (size_t i = 0; i < BS_ARRAY_LEN(jumps); i++) {
        bs_pacer_start(&p, SECOND_NS);
        ck_assert_uint_eq(bs_pacer_pause_ns(&p, SECOND_NS, step, 1), longest);
        ck_assert_uint_eq(bs_pacer_pause_ns(&p, SECOND_NS + jumps[i], 0, 1), longest);
        ck_assert_int_eq(p.credit_ns, (int64_t)BS_CREDIT_START_NS - (int64_t)(step - step / 100));
        bs_pacer_start(&p, SECOND_NS);
        ck_assert_uint_eq(bs_pacer_pause_ns(&p, SECOND_NS, jumps[i], 1), longest);
        ck_assert_int_eq(p.credit_ns, (int64_t)BS_CREDIT_START_NS - (int64_t)step);
    }
}
END_TEST

START_TEST(a_little_debt_waits_a_tick) {
    struct bs_pacer p;
    bs_pacer_start(&p, SECOND_NS);
    ck_assert_uint_eq(bs_pacer_pause_ns(&p, SECOND_NS, BS_CREDIT_START_NS + 1, 1), TICK_NS);
    ck_assert_int_eq(p.credit_ns, -1);
}
END_TEST

/* However much they took, more than an hour of it is forgiven. */
START_TEST(scans_owe_an_hour_at_most) {
    struct bs_pacer p;
    bs_pacer_start_scans(&p, SECOND_NS);
    for (int i = 0; i < 5; i++)
        (void)bs_pacer_scan_wait_ns(&p, SECOND_NS, 2 * BS_SCAN_WAIT_MAX_NS, 100);
    ck_assert_uint_eq(bs_pacer_scan_wait_ns(&p, SECOND_NS, 0, 100), BS_SCAN_WAIT_MAX_NS);
    ck_assert_uint_eq(bs_pacer_scan_wait_ns(&p, SECOND_NS + BS_SCAN_WAIT_MAX_NS, 0, 100), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pacer");
    TCase *tc = add_case(suite, "pacer");
    tcase_add_test(tc, work_without_end_gets_its_share);
    tcase_add_test(tc, the_first_burst_is_free);
    tcase_add_test(tc, rest_saves_up_to_a_bound);
    tcase_add_test(tc, clocks_that_jump);
    tcase_add_test(tc, what_a_jump_adds_is_bounded);
    tcase_add_test(tc, a_little_debt_waits_a_tick);
    tcase_add_test(tc, scans_get_their_share);
    tcase_add_test(tc, scans_pay_what_others_owe);
    tcase_add_test(tc, scans_wait_an_hour_at_most);
    tcase_add_test(tc, scans_owe_an_hour_at_most);
    return run_suite(suite);
}
