/* SPDX-License-Identifier: MIT */
/*
 * check_suppress.c - patterns of suppressions, and the file that has them: which stacks a rule matches, what
 * is said of lines that are none. Leaks that are suppressed are tests/scripts/leaks.sh's.
 */
#include "child.h"
#include "opt.h"
#include "os.h"
#include "pattern.h"
#include "stacks.h"
#include "suppress.h"
#include "unit.h"

#include <stdio.h>

static const struct {
    const char *pattern, *text;
    bool matches;
} cases[] = {
    {"b", "abc", true},        {"abc", "abc", true},      {"abcd", "abc", false},
    {"^b", "abc", false},      {"^a", "abc", true},       {"c$", "abc", true},
    {"b$", "abc", false},      {"^abc$", "abc", true},    {"a*c", "abbbc", true},
    {"a*c$", "abcbc", true},   {"a*c$", "abcbd", false},  {"^*c$", "abc", true},
    {"a**c", "ac", true},      {"*", "", true},           {"^$", "", true},
    {"^$", "a", false},        {"a$b", "a$b", true},      {"a^b", "a^b", true},
    {"$", "abc", true},        {"a*b*c", "a1b2", false},  {"aab", "aaab", true},
    {"^a*b*c$", "abcabc", true}, {"^ab*", "aab", false},
};

START_TEST(patterns_match) {
    for (size_t i = 0; i < BS_ARRAY_LEN(cases); i++)
        require(bs_pattern_matches(cases[i].pattern, strlen(cases[i].pattern), cases[i].text) ==
                    cases[i].matches,
                "%s and %s", cases[i].pattern, cases[i].text);
}
END_TEST

static void write_bytes(const char *text, size_t bytes) {
    snprintf(bs_opt.leak_suppressions, sizeof bs_opt.leak_suppressions, "suppress.%d.tmp",
             (int)getpid());
    FILE *f = fopen(bs_opt.leak_suppressions, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, bytes, f), bytes);
    fclose(f);
}
static void write_file(const char *text) {
    write_bytes(text, strlen(text));
}

static struct bs_stack *own_stack(const struct bs_module **module) {
    ck_assert(bs_stacks_start());
    struct bs_stack *s = bs_stacks_take();
    for (uint32_t i = 0; i < s->n; i++)
        if (strstr(bs_stacks_known(BS_FRAME_MODULE(s->frame[i]))->path, "check_suppress") != NULL) {
            *module = bs_stacks_known(BS_FRAME_MODULE(s->frame[i]));
            return s;
        }
    ck_abort_msg("the program is on no stack");
    return NULL;
}

/* The rule's number among those of the file. */
static int rule_of(const struct bs_stack *s, const char *text) {
    write_file(text);
    bs_suppress_start();
    unlink(bs_opt.leak_suppressions);
    return bs_suppress_find(s);
}

static int rule_for(const char *text) {
    const struct bs_module *m;
    return rule_of(own_stack(&m), text);
}

START_TEST(rules_match_modules) {
    unsigned line = 0;
    ck_assert_int_eq(rule_for("# leak:check\n\n \t module:nowhere\r\nleak:check_supp*ess\nleak:check"), 1);
    ck_assert_str_eq(bs_suppress_rule(1, &line), "leak:check_supp*ess");
    ck_assert_uint_eq(line, 4);
    ck_assert_ptr_null(bs_suppress_rule(3, &line));
}
END_TEST
START_TEST(nothing_matches_without_rules) {
    ck_assert_int_eq(rule_for(""), -1);
}
END_TEST

START_TEST(rules_match_frames) {
    const struct bs_module *m;
    struct bs_stack *s = own_stack(&m);
    char text[300], id[2 * BS_BUILD_ID_MAX + 1];
    uint64_t offset = 0;
    for (uint32_t i = 0; i < s->n && offset == 0; i++)
        if (BS_FRAME_MODULE(s->frame[i]) == m->number)
            offset = BS_FRAME_OFFSET(s->frame[i]);
    for (unsigned i = 0; i < m->id_bytes; i++)
        sprintf(id + 2 * i, "%02x", m->id[i]);
    ck_assert_uint_gt(m->id_bytes, 4);
    snprintf(text, sizeof text, "frame:%s+0x%jx\nframe:%.8s+0x%jX\nframe:%s+0x%jx\n", id,
             (uintmax_t)offset + 1, id, (uintmax_t)offset, id, (uintmax_t)offset);
    ck_assert_int_eq(rule_of(s, text), 1);
}
END_TEST

/* --- messages --------------------------------------------------------------------------------- */

static void read_bad(void *arg) {
    bs_suppress_start();
    (void)arg;
}

static void must_say(const char *message) {
    struct outcome o = child_run(read_bad, NULL, 60);
    ck_assert_int_eq(o.status, 0);
    require(strstr(o.err, message) != NULL, "%s", o.err);
}

static const struct {
    const char *text, *message;
} bad[] = {
    {"\nfoo\n", ":2: \"foo\" ignored: leak:PATTERN"},
    {"leak:\n", ":1: \"leak:\" ignored: nothing behind"},
    {"frame:1234567+0x1\n", ":1: \"frame:1234567+0x1\" ignored: frame: wants"},
    {"frame:12345678+1\n", "frame: wants"},
    {"frame:12345678+0x1g\n", "frame: wants"},
    {"frame:123456+0x1\n", "frame: wants"},
};

START_TEST(bad_lines_are_told) {
    write_file(bad[_i].text);
    must_say(bad[_i].message);
    unlink(bs_opt.leak_suppressions);
}
END_TEST

START_TEST(a_file_that_is_not_there_is_told) {
    strcpy(bs_opt.leak_suppressions, "no/such/file");
    must_say("\"no/such/file\" cannot be read (error 2: no such file or folder)");
}
END_TEST

/* Nothing is left out in silence. */
START_TEST(what_is_no_text_is_told) {
    static char large[65536];
    write_bytes("leak:a\n\0\nleak:b\n", 17);
    must_say("is no text");
    memset(large, 'x', sizeof large);
    write_bytes(large, sizeof large);
    must_say("has 64 KiB or more");
    write_bytes(large, sizeof large - 1); /* one line */
    must_say(":1: \"xxx");
    unlink(bs_opt.leak_suppressions);
    strcpy(bs_opt.leak_suppressions, "/");
    must_say("cannot be read (error 21: it is a folder)");
}
END_TEST

static void read_without_memory(void *arg) {
    bs_os_fail(*(unsigned *)arg, 12 /* ENOMEM */, false);
    bs_suppress_start();
    bs_os_fail(0, 0, false);
    unsigned line;
    CHILD_CHECK(bs_suppress_rule(0, &line) == NULL);
}
START_TEST(without_memory_nothing_is_suppressed) {
    write_file("leak:x\n");
    for (unsigned n = 1; n <= 3; n += 2) { /* each is mapped, and advised of huge pages */
        struct outcome o = child_run(read_without_memory, &n, 60);
        ck_assert_str_eq(o.err, "besom: leak_suppressions: no memory; nothing is suppressed\n");
        ck_assert_int_eq(o.status, 0);
    }
    unlink(bs_opt.leak_suppressions);
}
END_TEST

START_TEST(only_so_many_rules_are_taken) {
    char text[20000] = "";
    for (unsigned i = 0; i < BS_SUPPRESS_RULES + 1; i++)
        strcat(text, "leak:x\n");
    write_file(text);
    must_say(":257: \"leak:x\" ignored: too many rules");
    unlink(bs_opt.leak_suppressions);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("suppress");
    TCase *tc = add_case(suite, "suppress");
    tcase_add_test(tc, patterns_match);
    tcase_add_test(tc, rules_match_modules);
    tcase_add_test(tc, nothing_matches_without_rules);
    tcase_add_test(tc, rules_match_frames);
    tcase_add_loop_test(tc, bad_lines_are_told, 0, BS_ARRAY_LEN(bad));
    tcase_add_test(tc, a_file_that_is_not_there_is_told);
    tcase_add_test(tc, what_is_no_text_is_told);
    tcase_add_test(tc, without_memory_nothing_is_suppressed);
    tcase_add_test(tc, only_so_many_rules_are_taken);
    return run_suite(suite);
}
