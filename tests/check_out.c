/* SPDX-License-Identifier: MIT */
/*
 * check_out.c - the formatter against libc's snprintf, lines that are cut, sizes for people, and
 * the two ways to speak: bs_warn and bs_fatal.
 */
#include "child.h"
#include "out.h"

#include <check.h>
#include <limits.h>
#include <stdarg.h>
#include <time.h>

/* The text besom makes of the format. No format attribute: unknown conversions are tried, too. */
static const char *made(const char *fmt, ...) {
    static char buf[512];
    struct bs_out out;
    va_list ap;
    bs_out_init(&out, buf, sizeof buf);
    va_start(ap, fmt);
    bs_out_vprintf(&out, fmt, ap);
    va_end(ap);
    ck_assert_msg(!out.cut, "%s was cut", fmt);
    return bs_out_text(&out);
}

#define SAME_AS_LIBC(...)                                      \
    do {                                                       \
        char want[512];                                        \
        (void)snprintf(want, sizeof want, __VA_ARGS__);        \
        ck_assert_str_eq(made(__VA_ARGS__), want);             \
    } while (0)

START_TEST(numbers_are_those_of_libc) {
    static const long long values[] = {0,       1,       9,       10,       42,        -1,       -42,
                                       INT_MAX, INT_MIN, UINT_MAX, LLONG_MAX, LLONG_MIN, 1000000};
    for (size_t i = 0; i < BS_ARRAY_LEN(values); i++) {
        long long x = values[i];
        SAME_AS_LIBC("%d|%5d|%05d|%12d|%012d", (int)x, (int)x, (int)x, (int)x, (int)x);
        SAME_AS_LIBC("%u|%x|%08x|%8x|%3u", (unsigned)x, (unsigned)x, (unsigned)x, (unsigned)x,
                     (unsigned)x);
        SAME_AS_LIBC("%ld|%lu|%lx", (long)x, (unsigned long)x, (unsigned long)x);
        SAME_AS_LIBC("%lld|%llu|%020llx", x, (unsigned long long)x, (unsigned long long)x);
        SAME_AS_LIBC("%zu|%zx|%zd", (size_t)x, (size_t)x, (ssize_t)x);
        SAME_AS_LIBC("%jd|%ju|%25jd|%025ju", (intmax_t)x, (uintmax_t)x, (intmax_t)x, (uintmax_t)x);
    }
}
END_TEST

START_TEST(text_characters_and_pointers) {
    int here;
    SAME_AS_LIBC("<%s> %c%c %%", "text", 'a', 'b');
    SAME_AS_LIBC("%s", "");
    SAME_AS_LIBC("%p", (void *)&here);
    ck_assert_str_eq(made("%p", NULL), "0x0");
    ck_assert_str_eq(made("%s", (char *)NULL), "(null)");
    ck_assert_str_eq(made("no conversion"), "no conversion");
    ck_assert_str_eq(made(""), "");
}
END_TEST

START_TEST(unknown_conversions_are_shown_and_read_nothing) {
    ck_assert_str_eq(made("%q %d", 7), "%q 7");
    ck_assert_str_eq(made("%-5d %d", 7), "%-5d 7");
    ck_assert_str_eq(made("end %"), "end %");
    ck_assert_str_eq(made("%5"), "%5");
    ck_assert_str_eq(made("%l"), "%l");
    ck_assert_str_eq(made("%*d|%d", 3), "%*d|3");
}
END_TEST

START_TEST(long_text_is_cut_within_its_buffer) {
    for (size_t cap = 1; cap <= 12; cap++) {
        char buf[16];
        struct bs_out out;
        memset(buf, '#', sizeof buf);
        bs_out_init(&out, buf, cap);
        bs_out_printf(&out, "%s%d", "abcde", 67890);
        ck_assert_uint_eq(strlen(bs_out_text(&out)), bs_min(cap - 1, 10));
        ck_assert_int_eq(strncmp(buf, "abcde67890", bs_min(cap - 1, 10)), 0);
        ck_assert_msg(out.cut == (cap < 11), "cap %zu: cut is %d", cap, out.cut);
        for (size_t i = cap; i < sizeof buf; i++)
            ck_assert_msg(buf[i] == '#', "cap %zu: byte %zu behind the buffer written", cap, i);
    }
}
END_TEST

START_TEST(a_wide_number_stays_in_its_buffer) {
    char buf[8];
    struct bs_out out;
    bs_out_init(&out, buf, sizeof buf);
    bs_out_printf(&out, "%100000d", 1);
    ck_assert(out.cut);
    ck_assert_str_eq(bs_out_text(&out), "       ");
}
END_TEST

START_TEST(sizes_for_people) {
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {
        {0, "0 B"},           {1, "1 B"},           {1023, "1023 B"},
        {1024, "1.0 KiB"},    {1536, "1.5 KiB"},    {1024 * 1024 - 1, "1023.9 KiB"},
        {1024 * 1024, "1.0 MiB"}, {BS_GIB * 5 / 2, "2.5 GiB"}, {BS_GIB * 1024 * 3, "3.0 TiB"},
        {UINT64_MAX, "16777215.9 TiB"},
    };
    for (size_t i = 0; i < BS_ARRAY_LEN(sizes); i++) {
        char buf[64];
        struct bs_out out;
        bs_out_init(&out, buf, sizeof buf);
        bs_out_size(&out, sizes[i].bytes);
        ck_assert_str_eq(bs_out_text(&out), sizes[i].text);
    }
}
END_TEST

/* Every day of the years that the clock has. */
START_TEST(times_are_those_of_libc) {
    const uint64_t second = 1000000000u, last = UINT64_MAX / second;
    for (uint64_t s = 0; s < last; s += 86400 - 1) {
        char buf[64], want[64];
        time_t t = (time_t)s;
        struct tm tm;
        struct bs_out out;
        ck_assert_ptr_nonnull(gmtime_r(&t, &tm));
        size_t len = strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(want + len, sizeof want - len, ".%03uZ", (unsigned)(s % 1000));
        bs_out_init(&out, buf, sizeof buf);
        bs_out_utc(&out, s * second + s % 1000 * 1000000u);
        ck_assert_str_eq(bs_out_text(&out), want);
    }
}
END_TEST

static void warn_twice(void *arg) {
    (void)arg;
    bs_warn("%s is %d", "this", 1);
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    bs_warn("%s", text);
}

START_TEST(a_warning_is_one_line_however_long) {
    struct outcome o = child_run(warn_twice, NULL, 60);
    ck_assert(child_ended_well(&o));
    ck_assert_int_eq(strncmp(o.err, "besom: this is 1\nbesom: xxx", 27), 0);
    ck_assert_msg(o.len < 1100, "%zu bytes", o.len);
    ck_assert_int_eq(o.err[o.len - 1], '\n');
    ck_assert_ptr_eq(strchr(strchr(o.err, '\n') + 1, '\n'), o.err + o.len - 1);
}
END_TEST

static void die(void *arg) {
    (void)arg;
    bs_fatal("block %p is %s", (void *)16, "bad");
}
static void break_invariant(void *arg) {
    (void)arg;
    BS_CHECK(1 + 1 == 3);
}

START_TEST(a_crime_is_named_and_aborts) {
    struct outcome o = child_run(die, NULL, 60);
    ck_assert_msg(child_aborted(&o), "status %x", o.status);
    ck_assert_str_eq(o.err, "besom: block 0x10 is bad\n");
    o = child_run(break_invariant, NULL, 60);
    ck_assert_msg(child_aborted(&o), "status %x", o.status);
    ck_assert_msg(strstr(o.err, "besom: broken invariant: 1 + 1 == 3 (check_out.c:") == o.err,
                  "said: %s", o.err);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("out");
    TCase *tc = tcase_create("out");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, numbers_are_those_of_libc);
    tcase_add_test(tc, text_characters_and_pointers);
    tcase_add_test(tc, unknown_conversions_are_shown_and_read_nothing);
    tcase_add_test(tc, long_text_is_cut_within_its_buffer);
    tcase_add_test(tc, a_wide_number_stays_in_its_buffer);
    tcase_add_test(tc, sizes_for_people);
    tcase_add_test(tc, times_are_those_of_libc);
    tcase_add_test(tc, a_warning_is_one_line_however_long);
    tcase_add_test(tc, a_crime_is_named_and_aborts);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
