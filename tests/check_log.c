/* SPDX-License-Identifier: MIT */
/*
 * check_log.c - the events in both forms, where lines go, how the file's name is made, and that a
 * log that cannot be written harms nothing.
 *
 * JSON is judged by python3. Each test works in a folder of its own under /tmp, which it removes.
 * What writes to stderr runs in a child whose stderr is collected.
 */
#define _GNU_SOURCE
#include "child.h"
#include "heap.h"
#include "log.h"
#include "log_line.h"
#include "opt.h"
#include "os.h"
#include "out.h"
#include "pins.h"
#include "sample.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

static char folder[64];

static void make_folder(void) {
    strcpy(folder, "/tmp/check_log.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}
static void remove_folder(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static void log_to(const char *name) {
    snprintf(bs_opt.log, sizeof bs_opt.log, "%s/%s", folder, name);
}
static char *path_of(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}
/* The file's text; "" if there is none. */
static const char *text_of(const char *name) {
    static char text[200000];
    size_t n = 0;
    FILE *f = fopen(path_of(name), "r");
    if (f != NULL) {
        n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
    }
    text[n] = '\0';
    return text;
}
static unsigned files(void) {
    unsigned n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}
static unsigned lines_in(const char *text) {
    unsigned n = 0;
    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

static void all_events(void) {
    struct bs_scavenge_work work = {.huge_bytes = 4 * BS_MIB, .page_bytes = 12345, .calls = 3,
                                    .overfilled_bytes = 8192, .thp_split = 7, .thp_joined = 8,
                                    .failed = true};
    bs_log_report("exit");
    bs_log_report("interval");
    bs_log_sweep(&(struct bs_sweep_work){.orphans = 33, .returned = 11},
                 &(struct bs_idle_work){.drained = 5, .bytes = 66}, 44);
    bs_log_scavenge(&work, 55, 66, 77);
    bs_log_limit(&(struct bs_limit_note){BS_LIMIT_NOTE_REFUSED, 88});
    bs_log_note("quote \" backslash \\ tab \t newline \n end");
}

static const char *const ledger_names[] = {
    "rss", "live", "rounding", "leaked", "cached", "held", "span_free", "pinned", "heap_dirty", "metadata",
    "outside", "remainder", "floor", "anon_huge", "thp_overfill", "released", "allocated",
    "limit", "limit_used", "minor_faults", "major_faults"};
static const char *const counter_names[] = {
#define BS_STAT(name, doc) #name,
#include "stats.def"
#undef BS_STAT
};

/* --- the two forms ---------------------------------------------------------------------------- */

static const char judge[] =
    "import json, sys\n"
    "lines = [json.loads(l) for l in open(sys.argv[1])]\n"
    "events = [l['event'] for l in lines]\n"
    "assert events == ['exit', 'interval', 'sweep', 'scavenge', 'limit', 'note'], events\n"
    "for l in lines:\n"
    "    assert l['besom'] == 1 and l['pid'] == int(sys.argv[2]), l\n"
    "    assert l['time_ns'] > 1600000000000000000, l\n"
    "for l in lines[:2]:\n"
    "    for name in sys.argv[3:]:\n"
    "        assert isinstance(l[name], int), name\n"
    "    parts = 'live rounding leaked cached held span_free pinned heap_dirty metadata outside remainder'\n"
    "    assert l['rss'] == sum(l[p] for p in parts.split()), l\n"
    "    assert l['live'] >= 3000000 and l['allocated'] >= 3000000, l\n"
    "    assert set(l) == set(sys.argv[3:] + 'besom event pid time_ns'.split()), set(l)\n"
    "def rest(l): return {k: l[k] for k in l if k not in ('besom', 'event', 'pid', 'time_ns')}\n"
    "assert rest(lines[2]) == dict(returned=11, waiting=0, orphans=33, idle=5,"
    " cache=66, ns=44), lines[2]\n"
    "assert rest(lines[3]) == dict(huge=4194304, page=12345, hole=0, overfilled=8192,"
    " thp_split=7, thp_joined=8, calls=3, failed=1, dirty=55,"
    " goal=66, ns=77), lines[3]\n"
    "l = lines[4]\n"
    "assert set(rest(l)) == set('limit limit_used live request refused'.split()), l\n"
    "assert (l['limit'], l['request'], l['refused']) == (0, 88, 1) and l['live'] >= 3000000, l\n"
    "assert l['limit_used'] >= l['live'], l\n"
    "assert rest(lines[5]) == dict(text='quote \" backslash \\\\ tab \\t newline \\n end')\n";

/* Stacks as JSON: every block is sampled, two stacks hold 200 and 100 kB, one that is shown. */
static const char judge_stacks[] =
    "import json, sys\n"
    "lines = [json.loads(l) for l in open(sys.argv[1])]\n"
    "assert [l['event'] for l in lines[:2]] == ['exit', 'stacks'], lines\n"
    "t, rest = lines[1], lines[2:]\n"
    "names = 'interval stacks shown samples lost bytes blocks pinned other'.split()\n"
    "assert all(isinstance(t[n], int) for n in names), t\n"
    "assert (t['interval'], t['shown'], t['lost'], t['other']) == (1, 1, 0, 0), t\n"
    "assert t['samples'] == t['blocks'] == 30 and t['bytes'] == 300000 and t['stacks'] == 2, t\n"
    "assert [l['event'] for l in rest] == ['module'] * (len(rest) - 1) + ['stack'], rest\n"
    "modules = {m['number']: m for m in rest[:-1]}\n"
    "assert all(m['loaded'] == 1 and m['path'][0] in '/l' for m in modules.values()), rest\n"
    "assert all(m['build_id'] == 'none' or int(m['build_id'], 16) for m in modules.values())\n"
    "s = rest[-1]\n"
    "assert (s['bytes'], s['blocks'], s['samples']) == (200000, 20, 20), s\n"
    "assert (s['total_bytes'], s['total_blocks']) == (210000, 21), s\n"
    "assert 0 < s['pinned'] <= t['pinned'], (t, s)\n"
    "for f in s['frames']:\n"
    "    module, offset = f.split('+')\n"
    "    assert int(offset, 16) > 0 and (module == '0' or int(module) in modules), f\n"
    "assert len(s['frames']) > 2 and set(modules) == {int(f.split('+')[0]) for f in s['frames']} - {0}\n";

static int run_judge_of(const char *code, const char *path) {
    const char *argv[80] = {"python3", "-c", code, path};
    char pid_text[16];
    size_t n = 4;
    snprintf(pid_text, sizeof pid_text, "%d", (int)getpid());
    argv[n++] = pid_text;
    for (size_t i = 0; i < BS_ARRAY_LEN(ledger_names); i++)
        argv[n++] = ledger_names[i];
    for (size_t i = 0; i < BS_ARRAY_LEN(counter_names); i++)
        argv[n++] = counter_names[i];
    ck_assert_uint_lt(n, BS_ARRAY_LEN(argv));
    pid_t pid = fork();
    if (pid == 0) {
        execvp("python3", (char *const *)argv);
        dprintf(2, "check_log needs python3 to judge JSON\n");
        _exit(127);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

static int run_judge(const char *path) {
    return run_judge_of(judge, path);
}

START_TEST(json_has_every_field) {
    void *p = memset(bs_heap_alloc(3000000), 1, 3000000);
    ck_assert_ptr_nonnull(p);
    bs_opt.log_format = BS_LOG_JSON;
    bs_opt.trace = BS_TRACE_SWEEP | BS_TRACE_SCAVENGE;
    log_to("json");
    bs_log_start();
    ck_assert(bs_log_is_on());
    all_events();
    ck_assert_msg(run_judge(path_of("json")) == 0, "the log is: %s", text_of("json"));
}
END_TEST

/* Of what has just happened. */
static void must_have_times(const char *text) {
    static const char *const events[] = {" exit: ", " sweep: ", " scavenge: ", " limit: "};
    for (size_t i = 0; i < BS_ARRAY_LEN(events); i++) {
        char line[BS_LINE_CAP] = "";
        struct tm tm = {.tm_isdst = 0};
        const char *at = strstr(text, events[i]);
        ck_assert_msg(at != NULL, "no event%s", events[i]);
        (void)sscanf(at, "%4095[^\n]", line);
        at = strstr(line, " time ");
        ck_assert_msg(at != NULL, "no time in: %s", line);
        const char *rest = strptime(at, " time %Y-%m-%dT%H:%M:%S.", &tm);
        ck_assert_msg(rest != NULL && strspn(rest, "0123456789") == 3 && strcmp(rest + 3, "Z") == 0, "%s", at);
        double age = difftime(time(NULL), timegm(&tm));
        ck_assert_msg(age >= -1 && age < 600, "%.0f s ago: %s", age, at);
    }
}

START_TEST(text_has_every_field) {
    char begin[64];
    void *p = memset(bs_heap_alloc(3000000), 1, 3000000);
    ck_assert_ptr_nonnull(p);
    bs_opt.trace = BS_TRACE_SWEEP | BS_TRACE_SCAVENGE;
    log_to("text");
    bs_log_start();
    all_events();
    const char *text = text_of("text");
    snprintf(begin, sizeof begin, "besom[%d] exit: rss ", (int)getpid());
    ck_assert_msg(strncmp(text, begin, strlen(begin)) == 0, "begins with: %.60s", text);
    for (size_t i = 0; i < BS_ARRAY_LEN(ledger_names) + BS_ARRAY_LEN(counter_names); i++) {
        size_t k = i - BS_ARRAY_LEN(ledger_names);
        const char *name = i < BS_ARRAY_LEN(ledger_names) ? ledger_names[i] : counter_names[k];
        char field[64];
        snprintf(field, sizeof field, " %s ", name);
        const char *at = strstr(text, field);
        ck_assert_msg(at != NULL, "no field %s in: %s", name, text);
        ck_assert_msg(strchr("-0123456789", at[strlen(field)]) != NULL, "%s: %.60s", name, at);
    }
    ck_assert_ptr_nonnull(strstr(text, " sweep: returned 11 waiting 0 orphans 33 idle 5"
                                         " cache 66 ns 44 time "));
    ck_assert_ptr_nonnull(strstr(text, " scavenge: huge 4194304 (4.0 MiB) page 12345 (12.0 KiB) "
                                       "hole 0 overfilled 8192 thp_split 7 thp_joined 8 calls 3 failed 1 dirty 55 goal 66 ns 77 time "));
    ck_assert_ptr_nonnull(strstr(text, " limit: limit 0 limit_used "));
    ck_assert_ptr_nonnull(strstr(text, " request 88 refused 1 time "));
    must_have_times(text);
    ck_assert_ptr_nonnull(strstr(text, " note: text quote \" backslash \\ tab \t"));
}
END_TEST

static void *block[31];
static void sample_some(void) {
    bs_opt.sample = 1;
    bs_opt.log_stacks = 1;
    bs_heap_start_sampling();
    for (unsigned i = 0; i < 21; i++)
        block[i] = bs_heap_alloc(10000);
    for (unsigned i = 21; i < 31; i++)
        block[i] = bs_heap_alloc(10000);
    bs_heap_free(block[7]);
}

static const struct bs_stack *stack_of(const void *p) {
    struct bs_sampled s;
    ck_assert(bs_sample_find(p, &s));
    return s.stack;
}

/* The line begins with `before`, a number of bytes in both of its forms, and `after`. */
static void expect_numbers(const char *line, const char *before, uint64_t bytes, const char *after) {
    char want[512], buf[64];
    struct bs_out out;
    bs_out_init(&out, buf, sizeof buf);
    bs_out_size(&out, bytes);
    snprintf(want, sizeof want, "%s%ju (%s)%s", before, (uintmax_t)bytes, bs_out_text(&out), after);
    ck_assert_msg(strncmp(line, want, strlen(want)) == 0, "'%s' does not begin with '%s'", line, want);
}

START_TEST(stacks_follow_a_report) {
    log_to("json");
    bs_opt.log_format = BS_LOG_JSON;
    bs_log_start();
    sample_some();
    bs_log_report("exit");
    ck_assert_msg(run_judge_of(judge_stacks, path_of("json")) == 0, "the log is: %s", text_of("json"));
    log_to("text");
    bs_opt.log_format = BS_LOG_TEXT;
    bs_log_start();
    bs_log_report("interval");
    const char *text = text_of("text"), *line = strstr(text, " stacks: ");
    ck_assert_ptr_nonnull(line);
    struct bs_pins pins;
    ck_assert(bs_pins_take(&pins));
    expect_numbers(line, " stacks: interval 1 stacks 2 shown 1 samples 30 lost 0 bytes 300000 (292.9 KiB) blocks 30 pinned ",
                   pins.bytes, " other 0\n");
    ck_assert_ptr_nonnull(strstr(text, " module: number 1 build_id "));
    line = strstr(text, " stack: ");
    ck_assert_ptr_nonnull(line);
    expect_numbers(line, " stack: bytes 200000 (195.3 KiB) blocks 20 samples 20 pinned ", bs_pins_of(&pins, stack_of(block[0])),
                   " total_bytes 210000 (205.0 KiB) total_blocks 21 frames 1+0x");
}
END_TEST

/* Of two stacks the one that holds less itself and pins more comes first, and so is the one that is shown. */
START_TEST(what_a_stack_pins_counts) {
    static void *small[4000];
    bs_opt.sample = 1;
    bs_opt.log_stacks = 1;
    bs_heap_start_sampling();
    for (unsigned i = 0; i < BS_ARRAY_LEN(small); i++)
        small[i] = bs_heap_alloc(64);
    for (unsigned i = 0; i < BS_ARRAY_LEN(small); i++)
        if (i % 64 != 0)
            bs_heap_free(small[i]);
    void *large = bs_heap_alloc(100000);
    log_to("log");
    bs_log_start();
    bs_log_report("exit");
    ck_assert_ptr_nonnull(strstr(text_of("log"), " shown 1 "));
    ck_assert_ptr_nonnull(strstr(text_of("log"), " stack: bytes 4032 blocks 63 "));
    bs_heap_free(large);
}
END_TEST

#if !BS_SANITIZED /* then it is libc that makes the calls */
/* The report says so, and what it knows without. */
START_TEST(without_memory_for_what_is_pinned) {
    log_to("log");
    bs_log_start();
    sample_some();
    static struct bs_os_call_faults faults = {.number = SYS_mmap, .at = 1, .error = ENOMEM, .lasting = true};
    bs_os_call_faults = &faults;
    bs_log_report("exit");
    bs_os_call_faults = NULL;
    const char *text = text_of("log");
    ck_assert_ptr_nonnull(strstr(text, " blocks 30 pinned 0 other 0 note no memory to tell what is pinned by stack\n"));
    ck_assert_ptr_nonnull(strstr(text, " stack: bytes 200000 (195.3 KiB) blocks 20 samples 20 pinned 0 "));
}
END_TEST
START_TEST(without_memory_for_owners) {
    static struct bs_owners owners;
    const struct bs_scan_verdict verdict = {.owners = &owners, .trace.bytes = 500};
    log_to("log");
    bs_log_start();
    bs_owners_turn(&owners, (struct bs_owner){BS_OWNER_MEMORY, (uintptr_t)&owners});
    bs_owners_sum(&owners, 2, 300);
    bs_opt.scan_owners = 5;
    bs_log_owners(&verdict);
    ck_assert_ptr_nonnull(strstr(text_of("log"), " owners: shown 1 stacks 0 bytes 300 other 200\n"));
    ck_assert_ptr_nonnull(strstr(text_of("log"), " owner: bytes 300 blocks 2 kind memory at 0x"));
    static struct bs_os_call_faults faults = {.number = SYS_mmap, .at = 1, .error = ENOMEM, .lasting = true};
    bs_os_call_faults = &faults;
    bs_log_owners(&verdict);
    bs_os_call_faults = NULL;
    ck_assert_ptr_nonnull(strstr(text_of("log"), " owners: shown 0 stacks 0 bytes 300 other 200 note no memory to tell which words these are\n"));
}
END_TEST
#endif

START_TEST(traces_only_when_asked) {
    struct bs_scavenge_work work = {.calls = 1};
    log_to("log");
    bs_log_start();
    bs_opt.trace = BS_TRACE_SWEEP;
    bs_log_scavenge(&work, 1, 1, 1);
    bs_opt.trace = BS_TRACE_SCAVENGE;
    bs_log_sweep(&(struct bs_sweep_work){1, 1}, &(struct bs_idle_work){1, 1, false}, 1);
    ck_assert_str_eq(text_of("log"), "");
    bs_log_scavenge(&work, 1, 1, 1);
    ck_assert_uint_eq(lines_in(text_of("log")), 1);
}
END_TEST

/* What the file system allows in names of modules, and what a rule of leak_suppressions may be. */
START_TEST(any_text_is_one_line) {
    static const char judge_texts[] =
        "import json, os, sys\n"
        "lines = open(sys.argv[1], 'rb').read().splitlines(True)\n"
        "assert all(l.endswith(b'}\\n') for l in lines), lines\n"
        "texts = [os.fsencode(json.loads(l.decode('utf-8'))['text']) for l in lines]\n"
        "assert texts[0] == b'\\xff \\xc3\\xa9 \\xe2\\x82\\xac \\xf0\\x9f\\x98\\x80 \\xc3', texts[0]\n"
        "assert texts[1] == b'\\xc0\\xaf \\xed\\xa0\\x80 \\xf4\\x90\\x80\\x80 \\xe2\\x82 \\n', texts[1]\n"
        "assert texts[2] == b'x' * len(texts[2]) and len(texts[2]) > 3000, texts[2]\n"
        "assert texts[3] == b'\\n' * len(texts[3]) and len(texts[3]) > 500, texts[3]\n";
    static char longs[2][5000];
    memset(longs[0], 'x', sizeof longs[0] - 1);
    memset(longs[1], '\n', sizeof longs[1] - 1);
    for (bs_opt.log_format = 0; bs_opt.log_format < 2; bs_opt.log_format++) {
        log_to(bs_opt.log_format == BS_LOG_JSON ? "json" : "text");
        bs_log_start();
        bs_log_note("\xff \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xc3");
        bs_log_note("\xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82 \n");
        bs_log_note(longs[0]);
        bs_log_note(longs[1]);
    }
    ck_assert_uint_eq(lines_in(text_of("text")), 4);
    ck_assert_msg(run_judge_of(judge_texts, path_of("json")) == 0, "the log is: %s", text_of("json"));
}
END_TEST

START_TEST(no_log_without_the_option) {
    bs_log_start();
    ck_assert(!bs_log_is_on());
    all_events();
    ck_assert_uint_eq(files(), 0);
}
END_TEST

/* --- the name --------------------------------------------------------------------------------- */

START_TEST(the_name_is_expanded) {
    char name[64], program[16];
    bs_os_program_name(program);
    log_to("a%p-%e-%%-%z-%");
    bs_log_start();
    bs_log_note("x");
    snprintf(name, sizeof name, "a%d-%s-%%-z-%%", (int)getpid(), program);
    ck_assert_uint_eq(files(), 1);
    ck_assert_msg(lines_in(text_of(name)) == 1, "no line in %s", name);
}
END_TEST

START_TEST(numbers_make_new_files) {
    close(open(path_of("log.0"), O_CREAT | O_WRONLY, 0600));
    close(open(path_of("log.2"), O_CREAT | O_WRONLY, 0600));
    log_to("log.%n");
    bs_log_start();
    bs_log_note("first");
    bs_log_note("second");
    ck_assert_uint_eq(lines_in(text_of("log.1")), 2);
    bs_log_forked(); /* as in a child: the next one */
    bs_log_note("third");
    ck_assert_uint_eq(lines_in(text_of("log.3")), 1);
    ck_assert_uint_eq(files(), 4);
    ck_assert_str_eq(text_of("log.2"), "");
}
END_TEST

static void write_in_child(void *arg) {
    (void)arg;
    bs_log_forked();
    bs_log_note("child");
    bs_log_note("child again");
    char name[32];
    snprintf(name, sizeof name, "log.%d", (int)getpid());
    CHILD_CHECK(lines_in(text_of(name)) == 2);
    CHILD_CHECK(strstr(text_of(name), "parent") == NULL);
}

START_TEST(a_forked_child_has_its_own_file) {
    char name[32];
    log_to("log.%p");
    bs_log_start();
    bs_log_note("parent");
    struct outcome o = child_run(write_in_child, NULL, 60);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", o.status, o.err);
    bs_log_note("parent again");
    snprintf(name, sizeof name, "log.%d", (int)getpid());
    ck_assert_uint_eq(lines_in(text_of(name)), 2);
    ck_assert_ptr_null(strstr(text_of(name), "child"));
    ck_assert_uint_eq(files(), 2);
}
END_TEST

START_TEST(lines_are_appended) {
    log_to("log");
    bs_log_start();
    bs_log_note("one");
    ck_assert_int_eq(rename(path_of("log"), strcat(strcpy((char[600]){0}, path_of("log")), ".1")),
                     0); /* as logrotate does */
    bs_log_note("two");
    ck_assert_uint_eq(lines_in(text_of("log")), 1);
    ck_assert_uint_eq(lines_in(text_of("log.1")), 1);
    bs_log_note("three");
    ck_assert_uint_eq(lines_in(text_of("log")), 2);
}
END_TEST

/* --- where it cannot be written --------------------------------------------------------------- */

static void unwritable(void *arg) {
    snprintf(bs_opt.log, sizeof bs_opt.log, "%s", (const char *)arg);
    bs_log_start();
    CHILD_CHECK(!bs_log_is_on());
    all_events();
    void *p = bs_heap_alloc(100000);
    CHILD_CHECK(p != NULL);
    bs_heap_free(p);
}

START_TEST(an_unwritable_path_is_said_once) {
    static char paths[][32] = {"/nowhere/at/all/log", "/tmp", "/nowhere/%n"};
    for (size_t i = 0; i < BS_ARRAY_LEN(paths); i++) {
        struct outcome o = child_run(unwritable, paths[i], 60);
        ck_assert_msg(child_ended_well(&o), "%s: status %x: %s", paths[i], o.status, o.err);
        ck_assert_msg(lines_in(o.err) == 1 && strncmp(o.err, "besom: log file \"/", 18) == 0,
                      "%s: it said: %s", paths[i], o.err);
        ck_assert_ptr_nonnull(strstr(o.err, "cannot be written (error "));
    }
}
END_TEST

static void vanishing(void *arg) {
    (void)arg;
    log_to("sub/log");
    CHILD_CHECK(mkdir(path_of("sub"), 0700) == 0);
    bs_log_start();
    CHILD_CHECK(bs_log_is_on());
    CHILD_CHECK(unlink(path_of("sub/log")) == 0 && rmdir(path_of("sub")) == 0);
    all_events();
    CHILD_CHECK(mkdir(path_of("sub"), 0700) == 0);
    bs_log_note("again");
    CHILD_CHECK(lines_in(text_of("sub/log")) == 1);
}

START_TEST(a_path_that_vanishes_does_no_harm) {
    struct outcome o = child_run(vanishing, NULL, 60);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", o.status, o.err);
}
END_TEST

static void torn(void *arg) {
    struct rlimit all, few;
    size_t lines = 0;
    (void)arg;
    getrlimit(RLIMIT_FSIZE, &all);
    few = (struct rlimit){100, all.rlim_max};
    log_to("log");
    bs_log_start();
    bs_log_note("this line is there");
    setrlimit(RLIMIT_FSIZE, &few);
    bs_log_note("of this one no more than a part fits, so that it breaks off somewhere, as on a full disk");
    bs_log_note("of this one nothing fits");
    setrlimit(RLIMIT_FSIZE, &all);
    bs_log_note("this line is there");
    bs_log_note("this line is there");
    const char *text = text_of("log");
    for (const char *l = text; *l != '\0'; l = strchr(l, '\n') + 1, lines++)
        CHILD_CHECK(strncmp(l, "besom[", 6) == 0 && (lines == 1 || strncmp(strchr(l, ' '), " note: text this", 16) == 0));
    CHILD_CHECK(lines == 4);
}

START_TEST(a_line_after_a_torn_one_is_whole) {
    struct outcome o = child_run(torn, NULL, 60);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", o.status, o.err);
    ck_assert_uint_eq(lines_in(o.err), 1); /* the first that is lost */
}
END_TEST

/* A FIFO takes a line or nothing: who reads it finds no empty line behind those that it was too full for. */
static void full_fifo(void *arg) {
    static char text[1 << 17];
    (void)arg;
    log_to("log");
    CHILD_CHECK(mkfifo(path_of("log"), 0600) == 0);
    int fd = open(path_of("log"), O_RDONLY | O_NONBLOCK);
    CHILD_CHECK(fd >= 0);
    bs_log_start();
    for (unsigned i = 0; i < 3000; i++)
        bs_log_note("these lines are more than a FIFO takes");
    CHILD_CHECK(read(fd, text, sizeof text - 1) > 0);
    bs_log_note("there is room again");
    memset(text, 0, sizeof text);
    CHILD_CHECK(read(fd, text, sizeof text - 1) > 0);
    CHILD_CHECK(strncmp(text, "besom[", 6) == 0 && lines_in(text) == 1);
}

START_TEST(no_line_is_torn_in_a_fifo) {
    struct outcome o = child_run(full_fifo, NULL, 60);
    ck_assert_msg(child_ended_well(&o), "status %x: %s", o.status, o.err);
}
END_TEST

static void closed_stderr(void *arg) {
    (void)arg;
    close(2);
    strcpy(bs_opt.log, "stderr");
    bs_log_start();
    all_events();
}

START_TEST(a_closed_stderr_does_no_harm) {
    struct outcome o = child_run(closed_stderr, NULL, 60);
    ck_assert_msg(child_ended_well(&o), "status %x", o.status);
}
END_TEST

/* --- how it is written ------------------------------------------------------------------------ */

static void to_datagrams(void *arg) {
    (void)arg;
    dup2(*(int *)arg, 2); /* each write is a packet of its own */
    strcpy(bs_opt.log, "stderr");
    bs_opt.trace = BS_TRACE_SWEEP | BS_TRACE_SCAVENGE;
    bs_log_start();
    all_events();
}

START_TEST(one_write_a_line) {
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    bs_opt.log_format = BS_LOG_JSON; /* its note has no newline inside */
    struct outcome o = child_run(to_datagrams, &pair[1], 60);
    ck_assert_msg(child_ended_well(&o), "status %x", o.status);
    close(pair[1]);
    unsigned packets = 0;
    char text[8192];
    for (ssize_t n; (n = recv(pair[0], text, sizeof text - 1, 0)) > 0; packets++) {
        text[n] = '\0';
        ck_assert_msg(text[0] == '{' && lines_in(text) == 1 && text[n - 1] == '\n',
                      "not one whole line: %s", text);
    }
    ck_assert_uint_eq(packets, 6);
    close(pair[0]);
}
END_TEST

static void to_stderr(void *arg) {
    (void)arg;
    dup2(open(path_of("stdout"), O_CREAT | O_WRONLY, 0600), 1);
    strcpy(bs_opt.log, "stderr");
    bs_opt.log_format = BS_LOG_JSON;
    bs_log_start();
    bs_log_report("exit");
}

START_TEST(stdout_is_the_programs) {
    struct outcome o = child_run(to_stderr, NULL, 60);
    ck_assert_msg(child_ended_well(&o), "status %x", o.status);
    ck_assert_uint_eq(lines_in(o.err), 1);
    ck_assert_str_eq(text_of("stdout"), "");
    ck_assert_uint_eq(files(), 1);
}
END_TEST

START_TEST(no_descriptor_is_kept) {
    log_to("log");
    int before = dup(0);
    close(before);
    bs_log_start();
    all_events();
    int after = dup(0);
    close(after);
    ck_assert_int_eq(after, before);
}
END_TEST

static void *write_lines(void *arg) {
    for (int i = 0; i < 200; i++)
        bs_log_note(arg);
    return NULL;
}

START_TEST(lines_of_threads_do_not_mix) {
    static char texts[8][64];
    pthread_t thread[8];
    log_to("log");
    bs_log_start();
    for (int i = 0; i < 8; i++) {
        memset(texts[i], 'a' + i, 60);
        ck_assert_int_eq(pthread_create(&thread[i], NULL, write_lines, texts[i]), 0);
    }
    for (int i = 0; i < 8; i++)
        pthread_join(thread[i], NULL);
    FILE *f = fopen(path_of("log"), "r");
    char line[256];
    unsigned count = 0;
    for (; fgets(line, sizeof line, f) != NULL; count++) {
        char *text = strstr(line, " note: text ");
        ck_assert_msg(text != NULL, "line %u: %s", count, line);
        ck_assert_msg(strspn(text + 12, (char[]){text[12], 0}) == 60, "line %u: %s", count, line);
        ck_assert_int_eq(text[72], '\n');
    }
    fclose(f);
    ck_assert_uint_eq(count, 8 * 200);
}
END_TEST

static TCase *form_tests(void) {
    TCase *tc = tcase_create("form");
    tcase_add_test(tc, json_has_every_field);
    tcase_add_test(tc, any_text_is_one_line);
    tcase_add_test(tc, text_has_every_field);
    tcase_add_test(tc, stacks_follow_a_report);
    tcase_add_test(tc, what_a_stack_pins_counts);
#if !BS_SANITIZED
    tcase_add_test(tc, without_memory_for_what_is_pinned);
    tcase_add_test(tc, without_memory_for_owners);
#endif
    tcase_add_test(tc, traces_only_when_asked);
    tcase_add_test(tc, no_log_without_the_option);
    return tc;
}

static TCase *place_tests(void) {
    TCase *tc = tcase_create("place");
    tcase_add_test(tc, the_name_is_expanded);
    tcase_add_test(tc, numbers_make_new_files);
    tcase_add_test(tc, a_forked_child_has_its_own_file);
    tcase_add_test(tc, lines_are_appended);
    tcase_add_test(tc, an_unwritable_path_is_said_once);
    tcase_add_test(tc, a_path_that_vanishes_does_no_harm);
    tcase_add_test(tc, a_line_after_a_torn_one_is_whole);
    tcase_add_test(tc, no_line_is_torn_in_a_fifo);
    tcase_add_test(tc, a_closed_stderr_does_no_harm);
    tcase_add_test(tc, one_write_a_line);
    tcase_add_test(tc, stdout_is_the_programs);
    tcase_add_test(tc, no_descriptor_is_kept);
    tcase_add_test(tc, lines_of_threads_do_not_mix);
    return tc;
}

int main(void) {
    Suite *suite = suite_create("log");
    TCase *tcs[] = {form_tests(), place_tests()};
    for (size_t i = 0; i < BS_ARRAY_LEN(tcs); i++) {
        tcase_set_timeout(tcs[i], 60);
        tcase_add_checked_fixture(tcs[i], make_folder, remove_folder);
        suite_add_tcase(suite, tcs[i]);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
