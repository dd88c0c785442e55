/* SPDX-License-Identifier: MIT */
/*
 * check_record.c - the recorder and the reader of its files: what is recorded comes back event by
 * event, files that are cut or damaged are refused with a reason and never read wildly, and what
 * goes wrong while recording ends it and nothing else.
 *
 * Blocks here are addresses only: the recorder never looks into one. The reader is bench/trace.c.
 * Each test is a process of its own with a file under /tmp, which it removes.
 */
#include "child.h"
#include "numbers.h"
#include "opt.h"
#include "os.h"
#include "record.h"
#include "unit.h"

#include "../bench/trace.c"

#include <pthread.h>
#include <sys/stat.h>

#define MANY (60000 / UNIT_SLOWNESS)

static char path[64];

static void choose_path(void) {
    strcpy(path, "/tmp/check_record.XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    strcpy(bs_opt.record, path);
}

static void start(void) {
    choose_path();
    bs_record_start();
    ck_assert(bs_record_is_on());
}

static void open_trace(struct bs_trace *t) {
    require(bs_trace_open(t, path), "the trace %s", t->error);
}

static void *address(size_t i) {
    return (void *)(uintptr_t)(0x100000000000 + i * 16);
}

/* --- the table of numbers --------------------------------------------------------------------- */

START_TEST(numbers_are_those_of_a_model) {
    enum { KEYS = 20000 };
    static uint64_t model[KEYS];
    struct bs_numbers t = {0};
    uint64_t state = 1, n = 0;
    for (size_t i = 0; i < KEYS; i++)
        model[i] = BS_NUMBERS_NONE;
    for (uint64_t step = 0; step < 10 * MANY; step++) {
        /* stretches of growing and of shrinking; keys that lie together, as blocks do */
        size_t key = random_below(&state, (step / 50000) % 2 != 0 ? 300 : KEYS);
        uintptr_t at = (uintptr_t)address(key);
        uint64_t got = bs_numbers_take(&t, at);
        require(got == model[key], "key %zu has number %zu", key, (size_t)got);
        n -= got != BS_NUMBERS_NONE;
        model[key] = random_below(&state, 3) != 0 ? step : BS_NUMBERS_NONE;
        if (model[key] != BS_NUMBERS_NONE) {
            require(bs_numbers_put(&t, at, step), "no memory");
            n++;
        }
        require(t.n == n && t.n <= t.cap / 2, "%zu keys of %zu slots, not %zu", t.n, t.cap,
                (size_t)n);
    }
    ck_assert_uint_eq(bs_numbers_take(&t, 0), BS_NUMBERS_NONE);
    bs_numbers_clear(&t);
    ck_assert_uint_eq(bs_numbers_take(&t, (uintptr_t)address(0)), BS_NUMBERS_NONE);
}
END_TEST

/* --- there and back --------------------------------------------------------------------------- */

enum { SLOTS = 3000 };

/* What was recorded, kept beside it. */
static struct bs_trace_event told[MANY];

/* A random call; block[] holds the numbers of the blocks at the addresses, UINT64_MAX: none. */
static bool random_call(uint64_t *state, uint64_t *block, uint64_t *next,
                        struct bs_trace_event *e) {
    size_t slot = random_below(state, SLOTS), other;
    *e = (struct bs_trace_event){.size = random_skewed(state, 40), .block = block[slot]};
    if (block[slot] == UINT64_MAX) {
        e->op = (enum bs_trace_op[]){BS_TRACE_MALLOC, BS_TRACE_CALLOC, BS_TRACE_ALIGNED}[
            random_below(state, 3)];
        e->align_log2 = e->op == BS_TRACE_ALIGNED ? 3 + (unsigned)random_below(state, 30) : 0;
        e->made = block[slot] = (*next)++;
        e->block = 0;
        bs_record_made((enum bs_record_op)e->op, address(slot), e->size,
                       (size_t)1 << e->align_log2);
        return true;
    }
    switch (random_below(state, 4)) {
    case 0:
        e->size = e->size != 0 ? e->size : 1;
        for (other = slot; other != slot + 2 && block[other % SLOTS] != UINT64_MAX; other++)
            ;
        other = block[other % SLOTS] == UINT64_MAX ? other % SLOTS : slot; /* it moved, or not */
        e->op = BS_TRACE_REALLOC;
        bs_record_resized(bs_record_resizing(address(slot)), address(slot), address(other),
                          e->size);
        block[slot] = UINT64_MAX;
        e->made = block[other] = (*next)++;
        return true;
    case 1: /* fails: no event, and the block is what it was */
        bs_record_resized(bs_record_resizing(address(slot)), address(slot), NULL, e->size);
        return false;
    default:
        e->op = BS_TRACE_FREE;
        e->size = 0;
        bs_record_freed(address(slot));
        block[slot] = UINT64_MAX;
        return true;
    }
}

static size_t record_random(uint64_t seed) {
    static uint64_t block[SLOTS];
    uint64_t next = 0;
    memset(block, 0xff, sizeof block);
    size_t n = 0;
    for (size_t i = 0; i < MANY; i++)
        n += random_call(&seed, block, &next, &told[n]);
    return n;
}

START_TEST(what_is_recorded_comes_back) {
    struct bs_trace t;
    struct bs_trace_reader r;
    struct bs_trace_event e;
    start();
    size_t n = record_random(2);
    bs_record_freed(NULL);
    bs_record_freed(address(SLOTS + 1)); /* nobody's */
    bs_record_made(BS_RECORD_MALLOC, NULL, 5, 1);
    bs_record_finish();
    ck_assert(!bs_record_is_on());
    bs_record_made(BS_RECORD_MALLOC, address(1), 5, 1); /* too late */
    open_trace(&t);
    ck_assert(t.complete);
    ck_assert_uint_eq(t.events, n);
    ck_assert_uint_eq(t.unknown, 1);
    ck_assert_uint_eq(t.threads, 1);
    ck_assert_uint_eq(t.pid, (unsigned)getpid());
    bs_trace_begin(&r, &t);
    for (size_t i = 0; i < n; i++) {
        require(bs_trace_next(&r, &e), "event %zu of %zu is not there", i, n);
        require(e.op == told[i].op && e.size == told[i].size && e.made == told[i].made &&
                    e.block == told[i].block && e.align_log2 == told[i].align_log2,
                "event %zu differs", i);
    }
    ck_assert(!bs_trace_next(&r, &e));
    bs_trace_close(&t);
    unlink(path);
}
END_TEST

START_TEST(an_address_that_comes_twice_was_freed) {
    struct bs_trace t;
    start();
    bs_record_made(BS_RECORD_MALLOC, address(1), 10, 1);
    bs_record_made(BS_RECORD_MALLOC, address(1), 20, 1);
    bs_record_resized(bs_record_resizing(address(2)), address(2), address(3), 30);
    bs_record_finish();
    open_trace(&t);
    ck_assert_uint_eq(t.calls[BS_TRACE_MALLOC], 3);
    ck_assert_uint_eq(t.calls[BS_TRACE_FREE], 1);
    ck_assert_uint_eq(t.live_bytes, 50);
    ck_assert_uint_eq(t.live, 2);
    ck_assert_uint_eq(t.unknown, 1);
    unlink(path);
}
END_TEST

static void *work(void *arg) {
    size_t first = 100000 * (size_t)(uintptr_t)arg;
    for (size_t turn = 0; turn < 50; turn++) {
        for (size_t i = 0; i < 100; i++)
            bs_record_made(BS_RECORD_MALLOC, address(first + i), turn, 1);
        for (size_t i = 0; i < 100; i++)
            bs_record_freed(address(first + i));
    }
    return NULL;
}

START_TEST(threads_are_told_apart) {
    enum { THREADS = 4 };
    pthread_t thread[THREADS];
    uint64_t calls[THREADS] = {0};
    struct bs_trace t;
    struct bs_trace_reader r;
    struct bs_trace_event e;
    start();
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, work, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    bs_record_finish();
    open_trace(&t);
    ck_assert(t.complete);
    ck_assert_uint_le(t.threads, THREADS + 1);
    ck_assert_uint_eq(t.live, 0);
    for (bs_trace_begin(&r, &t); bs_trace_next(&r, &e);)
        calls[e.thread]++;
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_uint_eq(calls[i], 10000);
    unlink(path);
}
END_TEST

/* --- cut and damaged -------------------------------------------------------------------------- */

static size_t file_bytes(unsigned char **bytes) {
    struct stat st;
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fstat(fileno(f), &st), 0);
    *bytes = malloc((size_t)st.st_size);
    ck_assert_uint_eq(fread(*bytes, 1, (size_t)st.st_size, f), (size_t)st.st_size);
    fclose(f);
    return (size_t)st.st_size;
}

static bool opens(struct bs_trace *t, const unsigned char *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    fclose(f);
    bool ok = bs_trace_open(t, path);
    require(ok == (t->error[0] == '\0'), "%d, and it says \"%s\"", ok, t->error);
    return ok;
}

static void record_some(void) {
    static uint64_t block[SLOTS];
    uint64_t state = 3, next = 0;
    struct bs_trace_event e;
    memset(block, 0xff, sizeof block);
    start();
    for (size_t i = 0; i < 300; i++)
        random_call(&state, block, &next, &e);
    bs_record_finish();
}

START_TEST(a_cut_file_has_what_is_whole) {
    struct bs_trace t;
    unsigned char *bytes;
    record_some();
    size_t n = file_bytes(&bytes), before = 0;
    for (size_t cut = 0; cut <= n; cut++) {
        bool ok = opens(&t, bytes, cut);
        if (cut < 8)
            ck_assert_str_eq(t.error, "is not a trace of besom's");
        else if (cut < 48)
            ck_assert_str_eq(t.error, "ends within its header");
        else
            require(ok && t.events >= before && t.complete == (cut == n),
                    "cut at %zu of %zu: %s, %zu events", cut, n, t.error, (size_t)t.events);
        before = ok ? t.events : 0;
        bs_trace_close(&t);
    }
    free(bytes);
    unlink(path);
}
END_TEST

START_TEST(damage_is_named_and_never_followed) {
    struct bs_trace t;
    unsigned char *bytes;
    uint64_t state = 4;
    size_t refused = 0;
    record_some();
    size_t n = file_bytes(&bytes);
    for (size_t i = 0; i < 3000; i++) {
        size_t at = random_below(&state, n);
        unsigned char was = bytes[at];
        bytes[at] = (unsigned char)random_next(&state);
        if (opens(&t, bytes, n)) { /* another trace, but one that can be read to its end */
            struct bs_trace_reader r;
            struct bs_trace_event e;
            uint64_t events = 0;
            for (bs_trace_begin(&r, &t); bs_trace_next(&r, &e);)
                events++;
            require(events == t.events, "%zu events, then %zu", (size_t)t.events, (size_t)events);
        } else {
            refused++;
        }
        bs_trace_close(&t);
        bytes[at] = was;
    }
    ck_assert_uint_gt(refused, 500);
    bytes[8] = 9;
    ck_assert(!opens(&t, bytes, n));
    ck_assert_str_eq(t.error, "is a trace of another version: 9");
    bytes[8] = 1;
    bytes[48] = BS_RECORD_FREE; /* the newest block, before there is one */
    ck_assert(!opens(&t, bytes, n));
    ck_assert_str_eq(t.error, "is damaged before byte 49");
    memcpy(bytes + 48, (unsigned char[]){BS_RECORD_MALLOC, BS_RECORD_FREE, BS_RECORD_FREE}, 3);
    ck_assert(!opens(&t, bytes, 51));
    ck_assert_str_eq(t.error, "is damaged before byte 51");
    free(bytes);
    unlink(path);
    ck_assert(!bs_trace_open(&t, path));
    ck_assert_str_eq(t.error, "cannot be opened: No such file or directory");
}
END_TEST

/* --- what goes wrong -------------------------------------------------------------------------- */

static void record_without_memory(void *arg) {
    (void)arg;
    bs_record_start();
    CHILD_CHECK(bs_record_is_on());
    bs_os_fail(1, ENOMEM, false); /* the table of numbers cannot grow */
    for (size_t i = 0; i < 10; i++)
        bs_record_made(BS_RECORD_MALLOC, address(i), 1, 1);
    bs_os_fail(0, 0, false);
    CHILD_CHECK(!bs_record_is_on());
    bs_record_freed(address(0));
    bs_record_finish();
}

START_TEST(without_memory_it_ends_with_a_line) {
    choose_path();
    struct outcome o = child_run(record_without_memory, NULL, 60);
    char line[160];
    snprintf(line, sizeof line,
             "besom: record \"%s\" cannot be continued (error 12: out of memory); recording ends\n", path);
    ck_assert_str_eq(o.err, line);
    ck_assert_int_eq(o.status, 0);
    unlink(path);
}
END_TEST

/* A resize that fails leaves the block where it was; its number is put back. */
static void resize_without_memory(void *arg) {
    static struct bs_os_call_faults no_memory = {.number = SYS_mmap, .at = 1, .error = ENOMEM, .lasting = true};
    (void)arg;
    bs_record_start();
    size_t n = 0;
    bs_record_made(BS_RECORD_MALLOC, address(n++), 1, 1);
    while (n < 10000 && bs_record_is_on()) { /* until the table would have to grow for it alone */
        bs_record_made(BS_RECORD_MALLOC, address(n++), 1, 1);
        uint64_t number = bs_record_resizing(address(0));
        bs_record_made(BS_RECORD_MALLOC, address(n++), 1, 1);
        bs_store(&bs_os_call_faults, &no_memory);
        bs_record_resized(number, address(0), NULL, 1);
        bs_store(&bs_os_call_faults, (struct bs_os_call_faults *)NULL);
    }
    CHILD_CHECK(!bs_record_is_on());
    bs_record_finish();
}
START_TEST(a_number_that_cannot_be_put_back_ends_it) {
    choose_path();
    struct outcome o = child_run(resize_without_memory, NULL, 60);
    char line[160];
    snprintf(line, sizeof line, "besom: record \"%s\" cannot be continued (error 12: out of memory); recording ends\n", path);
    ck_assert_str_eq(o.err, line);
    ck_assert_int_eq(o.status, 0);
    unlink(path);
}
END_TEST

/* No buffer; and a name in a folder that has gone. */
static void begin_in_vain(void *without_memory) {
    strcpy(bs_opt.record, "trace");
    if (without_memory != NULL)
        bs_os_fail(1, ENOMEM, false);
    bs_record_start();
    bs_os_fail(0, 0, false);
    CHILD_CHECK(!bs_record_is_on());
    bs_record_made(BS_RECORD_MALLOC, address(0), 1, 1);
    bs_record_finish();
}
START_TEST(what_cannot_be_begun_is_said) {
    char folder[] = "/tmp/check_record.XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
    struct outcome o = child_run(begin_in_vain, folder, 60);
    ck_assert_str_eq(o.err, "besom: record \"trace\" cannot be begun (error 12: out of memory); recording ends\n");
    ck_assert_int_eq(o.status, 0);
    ck_assert_int_eq(rmdir(folder), 0);
    o = child_run(begin_in_vain, NULL, 60);
    ck_assert_str_eq(o.err, "besom: record \"trace\" cannot be begun (error 2: no such file or folder); recording ends\n");
    ck_assert_int_eq(o.status, 0);
}
END_TEST

static void record_into_full(void *arg) {
    strcpy(bs_opt.record, arg);
    bs_record_start();
    CHILD_CHECK(!bs_record_is_on());
    bs_record_finish();
}

START_TEST(a_file_that_cannot_be_begun_is_said) {
    struct outcome o = child_run(record_into_full, (char *)"/dev/full", 60);
    ck_assert_str_eq(o.err,
                     "besom: record \"/dev/full\" cannot be written (error 28: no space left); recording ends\n");
    o = child_run(record_into_full, (char *)"/nowhere/at/all", 60);
    ck_assert_str_eq(o.err,
                     "besom: record \"/nowhere/at/all\" cannot be written (error 2: no such file or folder); "
                     "recording ends\n");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("record");
    TCase *tc = add_case(suite, "there and back");
    tcase_add_test(tc, numbers_are_those_of_a_model);
    tcase_add_test(tc, what_is_recorded_comes_back);
    tcase_add_test(tc, an_address_that_comes_twice_was_freed);
    tcase_add_test(tc, threads_are_told_apart);
    tc = add_case(suite, "cut and damaged");
    tcase_add_test(tc, a_cut_file_has_what_is_whole);
    tcase_add_test(tc, damage_is_named_and_never_followed);
    tc = add_case(suite, "what goes wrong");
    tcase_add_test(tc, without_memory_it_ends_with_a_line);
    if (BS_SANITIZED)
        printf("left out under a sanitizer, which maps memory itself: a_number_that_cannot_be_put_back_ends_it\n");
    else
        tcase_add_test(tc, a_number_that_cannot_be_put_back_ends_it);
    tcase_add_test(tc, what_cannot_be_begun_is_said);
    tcase_add_test(tc, a_file_that_cannot_be_begun_is_said);
    return run_suite(suite);
}
