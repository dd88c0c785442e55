/* SPDX-License-Identifier: MIT */
/*
 * check_options.c - every kind of option, its bounds and suffixes, the messages for what is wrong,
 * which source wins, and garbage.
 *
 * Each test starts from the defaults. Messages are read from stderr, which goes to a file
 * meanwhile.
 */
#include "child.h"
#include "options.h"

#include <check.h>
#include <fcntl.h>

static struct bs_opt defaults;
static char said[65536]; /* what the last call wrote to stderr */

static void setup(void) {
    defaults = bs_opt;
}

static int redirect_stderr(FILE **file) {
    int saved = dup(2);
    *file = tmpfile();
    ck_assert_ptr_nonnull(*file);
    dup2(fileno(*file), 2);
    return saved;
}
static void restore_stderr(FILE *file, int saved) {
    dup2(saved, 2);
    close(saved);
    ssize_t n = pread(fileno(file), said, sizeof said - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    fclose(file);
}

static bool set(const char *key, const char *value) {
    FILE *file;
    int saved = redirect_stderr(&file);
    bool ok = bs_options_set(key, strlen(key), value, strlen(value), "TEST");
    restore_stderr(file, saved);
    return ok;
}

static void read_env(const char *const *env) {
    FILE *file;
    int saved = redirect_stderr(&file);
    bs_options_read((char *const *)env);
    restore_stderr(file, saved);
}

static unsigned lines_said(void) {
    unsigned n = 0;
    for (const char *p = said; *p != '\0'; p++)
        n += *p == '\n';
    return n;
}

static void assert_accepted(const char *key, const char *value) {
    ck_assert_msg(set(key, value), "%s:%s refused: %s", key, value, said);
    ck_assert_str_eq(said, "");
}

/* Refused with one line that has these words, and nothing has changed. */
static void assert_refused(const char *key, const char *value, const char *words) {
    struct bs_opt before = bs_opt;
    ck_assert_msg(!set(key, value), "%s:%s accepted", key, value);
    ck_assert_msg(memcmp(&before, &bs_opt, sizeof before) == 0, "%s:%s changed a value", key,
                  value);
    ck_assert_msg(strncmp(said, "besom: ", 7) == 0 && lines_said() == 1, "said: %s", said);
    ck_assert_msg(strstr(said, words) != NULL, "wanted \"%s\" in: %s", words, said);
}

START_TEST(defaults_are_those_of_the_table) {
    ck_assert(bs_opt.background && bs_opt.scavenge);
    ck_assert_uint_eq(bs_opt.scavenge_delay, 1000);
    ck_assert_uint_eq(bs_opt.check, BS_CHECK_NORMAL);
    ck_assert_uint_eq(bs_opt.foreign, BS_FOREIGN_IGNORE);
    ck_assert_str_eq(bs_opt.log, "");
    ck_assert_uint_eq(bs_opt.log_format, BS_LOG_TEXT);
    ck_assert_uint_eq(bs_opt.log_interval, 0);
    ck_assert_uint_eq(bs_opt.log_at, BS_LOG_AT_EXIT);
    ck_assert_uint_eq(bs_opt.trace, 0);
}
END_TEST

START_TEST(switches) {
    assert_accepted("background", "off");
    ck_assert(!bs_opt.background);
    assert_accepted("background", "on");
    ck_assert(bs_opt.background);
    static const char *const wrong[] = {"", "ON", "o", "onn", "on ", "1", "true", "off|on", "|"};
    for (size_t i = 0; i < BS_ARRAY_LEN(wrong); i++)
        assert_refused("background", wrong[i], "is not one of on|off; ignored");
}
END_TEST

START_TEST(words) {
    assert_accepted("log_format", "json");
    ck_assert_uint_eq(bs_opt.log_format, BS_LOG_JSON);
    assert_accepted("log_format", "text");
    ck_assert_uint_eq(bs_opt.log_format, BS_LOG_TEXT);
    assert_accepted("check", "full");
    ck_assert_uint_eq(bs_opt.check, BS_CHECK_FULL);
    assert_accepted("foreign", "abort");
    ck_assert_uint_eq(bs_opt.foreign, BS_FOREIGN_ABORT);
    assert_refused("log_format", "xml", "\"xml\" is not one of text|json; ignored");
    assert_refused("check", "text", "option check in TEST");
}
END_TEST

START_TEST(sets_of_words) {
    assert_accepted("trace", "sweep");
    ck_assert_uint_eq(bs_opt.trace, BS_TRACE_SWEEP);
    assert_accepted("trace", "scavenge+sweep");
    ck_assert_uint_eq(bs_opt.trace, BS_TRACE_SWEEP | BS_TRACE_SCAVENGE);
    assert_accepted("trace", "sweep+sweep");
    ck_assert_uint_eq(bs_opt.trace, BS_TRACE_SWEEP);
    assert_accepted("log_at", "none");
    ck_assert_uint_eq(bs_opt.log_at, 0);
    static const char *const wrong[] = {"", "+", "sweep+", "+sweep", "sweep++scavenge", "sweeps",
                                        "none+sweep", "sweep,scavenge"};
    for (size_t i = 0; i < BS_ARRAY_LEN(wrong); i++)
        assert_refused("trace", wrong[i], "is not one of sweep|scavenge|scan joined by +, or none");
}
END_TEST

START_TEST(numbers_and_suffixes) {
    static const struct {
        const char *key, *value;
        uint64_t want;
    } good[] = {
        {"scavenge_delay", "0", 0},          {"scavenge_delay", "1", 1},
        {"scavenge_delay", "250ms", 250},    {"scavenge_delay", "2s", 2000},
        {"scavenge_delay", "3m", 180000},    {"scavenge_delay", "1h", 3600000},
        {"scavenge_delay", "3600000", 3600000}, {"scavenge_delay", "00012", 12},
        {"log_interval", "10", 10},          {"log_interval", "10s", 10},
        {"log_interval", "5m", 300},         {"log_interval", "24h", 86400},
    };
    for (size_t i = 0; i < BS_ARRAY_LEN(good); i++) {
        assert_accepted(good[i].key, good[i].value);
        uint64_t got = good[i].key[0] == 'l' ? bs_opt.log_interval : bs_opt.scavenge_delay;
        ck_assert_msg(got == good[i].want, "%s:%s is %ju", good[i].key, good[i].value,
                      (uintmax_t)got);
    }
    static const char *const wrong[] = {
        "", "-1", "+1", " 1", "1 ", "1.5", "0x10", "ten", "s", "1d", "1sec", "1S", "3600001",
        "3601s", "61m", "2h", "18446744073709551616", "18446744073709551615", "5124095576031h",
        "99999999999999999999999999999999999999999", "1ms2",
    };
    for (size_t i = 0; i < BS_ARRAY_LEN(wrong); i++)
        assert_refused("scavenge_delay", wrong[i], "is not a whole number from 0 to 3600000 (ms, or with s, m or h); ignored");
    assert_refused("log_interval", "10ms", "is not a whole number from 0 to 86400 (s, or with m or h); ignored");
    assert_refused("log_interval", "86401", "log_interval in TEST");
    assert_refused("sample", "1", "\"1\" is not off, all or a size of 1024 bytes or more (suffixes K M G T); ignored");
    assert_refused("sample", "most", "option sample in TEST");
}
END_TEST

START_TEST(memory_limits) {
    static const struct {
        const char *text;
        unsigned kind;
        uint64_t value;
    } good[] = {
        {"off", BS_LIMIT_OFF, 0},
        {"auto", BS_LIMIT_AUTO, 0},
        {"1048576", BS_LIMIT_BYTES, 1 << 20},
        {"1024K", BS_LIMIT_BYTES, 1 << 20},
        {"300M", BS_LIMIT_BYTES, (uint64_t)300 << 20},
        {"300MiB", BS_LIMIT_BYTES, (uint64_t)300 << 20},
        {"2G", BS_LIMIT_BYTES, (uint64_t)2 << 30},
        {"3T", BS_LIMIT_BYTES, (uint64_t)3 << 40},
        {"1%", BS_LIMIT_PERCENT, 1},
        {"100%", BS_LIMIT_PERCENT, 100},
    };
    static const char *const bad[] = {"", "on", "300", "1048575", "1023K", "0", "-1", "300m", "300MB",
                                      "300 M", "M", "%", "0%", "101%", "5%%", "9999999T", "8388608T",
                                      "99999999999999999999", "1.5G", "autos", "1ms"};
    ck_assert_uint_eq(bs_opt.limit.kind, BS_LIMIT_AUTO);
    for (size_t i = 0; i < BS_ARRAY_LEN(good); i++) {
        assert_accepted("limit", good[i].text);
        ck_assert_msg(bs_opt.limit.kind == good[i].kind && bs_opt.limit.value == good[i].value,
                      "%s: kind %u, value %ju", good[i].text, bs_opt.limit.kind,
                      (uintmax_t)bs_opt.limit.value);
    }
    bs_opt.limit = (struct bs_opt_limit){BS_LIMIT_BYTES, 7};
    for (size_t i = 0; i < BS_ARRAY_LEN(bad); i++) {
        ck_assert_msg(!set("limit", bad[i]), "limit:%s accepted", bad[i]);
        ck_assert_uint_eq(lines_said(), 1);
        ck_assert_ptr_nonnull(strstr(said, "is not off, auto, a size of 1M or more (suffixes K M G T) "
                                           "or 1% to 100%; ignored"));
    }
    ck_assert(bs_opt.limit.kind == BS_LIMIT_BYTES && bs_opt.limit.value == 7);
}
END_TEST

START_TEST(paths) {
    char path[BS_OPT_PATH_MAX + 2];
    assert_accepted("log", "/var/log/x:y=%p");
    ck_assert_str_eq(bs_opt.log, "/var/log/x:y=%p");
    memset(path, 'p', sizeof path);
    path[BS_OPT_PATH_MAX - 1] = '\0';
    assert_accepted("log", path);
    ck_assert_str_eq(bs_opt.log, path);
    path[BS_OPT_PATH_MAX - 1] = 'p';
    path[BS_OPT_PATH_MAX] = '\0';
    assert_refused("log", path, "option log in TEST: a path of 1 to 511 characters is wanted");
    assert_refused("log", "", "a path of 1 to 511 characters");
}
END_TEST

START_TEST(an_unknown_key_gets_the_nearest_known) {
    static const struct {
        const char *key, *words;
    } keys[] = {
        {"scavange", "unknown option \"scavange\" in TEST ignored; did you mean \"scavenge\"?"},
        {"scavengedelay", "did you mean \"scavenge_delay\"?"},
        {"loginterval", "did you mean \"log_interval\"?"},
        {"backgroud", "did you mean \"background\"?"},
        {"Log", "did you mean \"log\"?"},
        {"tracing", "did you mean \"trace\"?"},
        {"zzzzzzzzzzzzzz", "ignored; besom.conf(5) lists them"},
        {"", "unknown option \"\" in TEST"},
        {"log ", "did you mean \"log\"?"},
        {"config", "ignored; besom.conf(5) lists them"}, /* not "foreign" */
        {"reclaim", "ignored; besom.conf(5) lists them"}, /* not "record" */
    };
    for (size_t i = 0; i < BS_ARRAY_LEN(keys); i++)
        assert_refused(keys[i].key, "on", keys[i].words);
    char junk[5001];
    memset(junk, 'j', sizeof junk - 1);
    junk[sizeof junk - 1] = '\0';
    assert_refused(junk, "on", "besom.conf(5) lists them");
    ck_assert_msg(strlen(said) < 200, "junk is shown at full length: %s", said);
    char shown[64];
    (void)snprintf(shown, sizeof shown, ": \"%.47s\" is not one of text|json", junk);
    assert_refused("log_format", junk, shown);
    ck_assert_msg(strlen(said) < 200, "junk is shown at full length: %s", said);
}
END_TEST

/* Whatever is in it, and next to what may be shown. */
START_TEST(a_message_is_one_line_of_text) {
    assert_refused("log_format", "\n\t\033[1m\177\200\377", ": \"???[1m???\" is not one of");
    assert_refused("log_format", " ~\037!", ": \" ~?!\" is not one of");
    assert_refused("\177x", "on", "unknown option \"?x\" in TEST");
}
END_TEST

START_TEST(all_of_besom_conf) {
    static const char *const env[] = {
        "HOME=/", "BESOM_CONF=,background:off,,trace:sweep+scavenge,log:a:b,log_interval:10s,",
        "ABESOM_CONF=check:full", "BESOM_LIB=/lib/x.so", "BESOM", "BESOM_", NULL};
    read_env(env);
    ck_assert(!bs_opt.background);
    ck_assert_uint_eq(bs_opt.trace, BS_TRACE_SWEEP | BS_TRACE_SCAVENGE);
    ck_assert_str_eq(bs_opt.log, "a:b");
    ck_assert_uint_eq(bs_opt.log_interval, 10);
    ck_assert_uint_eq(bs_opt.check, BS_CHECK_NORMAL);
    ck_assert_str_eq(said, "");
}
END_TEST

START_TEST(a_variable_of_its_own_wins) {
    static const char *const env[] = {
        "BESOM_LOG_FORMAT=json", "BESOM_SCAVENGE_DELAY=2s", "BESOM_TRACE=sweep",
        "BESOM_CONF=log_format:text,scavenge_delay:7,trace:none,check:full", NULL};
    read_env(env);
    ck_assert_str_eq(said, "");
    ck_assert_uint_eq(bs_opt.log_format, BS_LOG_JSON);
    ck_assert_uint_eq(bs_opt.scavenge_delay, 2000);
    ck_assert_uint_eq(bs_opt.trace, BS_TRACE_SWEEP);
    ck_assert_uint_eq(bs_opt.check, BS_CHECK_FULL);
}
END_TEST

START_TEST(the_last_of_two_wins_and_the_bad_one_does_not) {
    static const char *const env[] = {"BESOM_CONF=scavenge_delay:5,scavenge_delay:6",
                                      "BESOM_SCAVENGE_DELAY=never", NULL};
    read_env(env);
    ck_assert_uint_eq(bs_opt.scavenge_delay, 6);
    ck_assert_uint_eq(lines_said(), 1);
    ck_assert_ptr_nonnull(strstr(said, "option scavenge_delay in BESOM_SCAVENGE_DELAY: \"never\""));
}
END_TEST

START_TEST(each_wrong_piece_is_named_and_the_rest_counts) {
    static const char *const env[] = {
        "BESOM_CONF=backgrund:off,scavenge,check:fast,:on,log_at:none,trace:", NULL};
    read_env(env);
    ck_assert_uint_eq(lines_said(), 5);
    ck_assert_ptr_nonnull(strstr(said, "did you mean \"background\"?"));
    ck_assert_ptr_nonnull(strstr(said, "\"scavenge\" in BESOM_CONF ignored: key:value is wanted"));
    ck_assert_ptr_nonnull(strstr(said, "\"fast\" is not one of normal|full"));
    ck_assert_ptr_nonnull(strstr(said, "unknown option \"\" in BESOM_CONF"));
    ck_assert_ptr_nonnull(strstr(said, "option trace in BESOM_CONF: \"\" is not one of"));
    ck_assert_uint_eq(bs_opt.log_at, 0);
    bs_opt.log_at = defaults.log_at;
    ck_assert_int_eq(memcmp(&bs_opt, &defaults, sizeof defaults), 0);
}
END_TEST

START_TEST(odd_environments) {
    static const char *const none[] = {NULL};
    static char name[4000], longer[70000];
    read_env(NULL);
    read_env(none);
    ck_assert_str_eq(said, "");
    memset(name, 'A', sizeof name - 3);
    memcpy(name, "BESOM_", 6);
    memcpy(name + sizeof name - 4, "=on", 4);
    memset(longer, ',', sizeof longer - 1);
    memcpy(longer, "BESOM_CONF=", 11);
    memset(longer + 30000, 'k', 30000);
    const char *const env[] = {name, longer, NULL};
    read_env(env);
    ck_assert_msg(lines_said() == 2 && strlen(said) < 400, "said: %.400s", said);
    ck_assert_int_eq(memcmp(&bs_opt, &defaults, sizeof defaults), 0);
}
END_TEST

/* --- garbage ---------------------------------------------------------------------------------- */

static uint64_t seed = 88172645463325252u;
static unsigned random_below(unsigned n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % n);
}

static const char *const parts[] = {"background", "log", "trace", "scavenge_delay", "check", ":",
                                    ",",          "+",   "=",     "on",  "sweep",   "json", "%p",
                                    "999999999999999999999", "1", "s", "ms", "none", "\x01\xff"};

/* Exactly as long as it says and without a NUL, so that a sanitizer sees a read beyond it. */
static char *random_text(size_t *len) {
    char buf[600];
    size_t n = 0, want = random_below(4) == 0 ? random_below(500) : random_below(12);
    while (n < want) {
        const char *part = parts[random_below(BS_ARRAY_LEN(parts))];
        if (random_below(3) == 0)
            buf[n++] = (char)(1 + random_below(255));
        else
            n += (size_t)snprintf(buf + n, sizeof buf - n, "%s", part);
    }
    char *text = malloc(n != 0 ? n : 1);
    memcpy(text, buf, n);
    *len = n;
    return text;
}

/* Each value is within what its option allows, whatever came. */
static bool values_are_legal(void) {
    return bs_opt.scavenge_delay <= 3600000 && bs_opt.log_interval <= 86400 && bs_opt.check <= 1 &&
           bs_opt.foreign <= 1 && bs_opt.log_format <= 1 && bs_opt.log_at <= 1 &&
           bs_opt.trace <= 3 && memchr(bs_opt.log, '\0', sizeof bs_opt.log) != NULL;
}

static void set_garbage(void *arg) {
    static const char *const keys[] = {"background", "scavenge_delay", "check", "log",
                                       "log_interval", "log_at", "trace"};
    (void)arg;
    for (unsigned i = 0; i < 60000; i++) {
        size_t key_len, value_len;
        char *key = random_text(&key_len), *value = random_text(&value_len);
        const char *known = keys[random_below(BS_ARRAY_LEN(keys))];
        if (random_below(2) == 0)
            bs_options_set(known, strlen(known), value, value_len, "TEST");
        else
            bs_options_set(key, key_len, value, value_len, "TEST");
        free(key);
        free(value);
        CHILD_CHECK(values_are_legal());
    }
}

static void read_garbage(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < 20000; i++) {
        size_t n[2];
        char *text[2] = {random_text(&n[0]), random_text(&n[1])}, *entry[3] = {NULL, NULL, NULL};
        for (int k = 0; k < 2; k++) {
            const char *prefix = k == 0 ? "BESOM_CONF=" : "BESOM_";
            size_t before = strlen(prefix);
            entry[k] = malloc(before + n[k] + 1);
            memcpy(entry[k], prefix, before);
            memcpy(entry[k] + before, text[k], n[k]);
            entry[k][before + n[k]] = '\0';
            free(text[k]);
        }
        bs_options_read(entry);
        free(entry[0]);
        free(entry[1]);
        CHILD_CHECK(values_are_legal());
    }
}

START_TEST(garbage_does_no_harm) {
    struct outcome o = child_run(set_garbage, NULL, 100);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", o.status, o.err);
    o = child_run(read_garbage, NULL, 100);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", o.status, o.err);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("options");
    TCase *tc = tcase_create("options");
    tcase_set_timeout(tc, 250);
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, defaults_are_those_of_the_table);
    tcase_add_test(tc, switches);
    tcase_add_test(tc, words);
    tcase_add_test(tc, sets_of_words);
    tcase_add_test(tc, numbers_and_suffixes);
    tcase_add_test(tc, memory_limits);
    tcase_add_test(tc, paths);
    tcase_add_test(tc, an_unknown_key_gets_the_nearest_known);
    tcase_add_test(tc, a_message_is_one_line_of_text);
    tcase_add_test(tc, all_of_besom_conf);
    tcase_add_test(tc, a_variable_of_its_own_wins);
    tcase_add_test(tc, the_last_of_two_wins_and_the_bad_one_does_not);
    tcase_add_test(tc, each_wrong_piece_is_named_and_the_rest_counts);
    tcase_add_test(tc, odd_environments);
    tcase_add_test(tc, garbage_does_no_harm);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
