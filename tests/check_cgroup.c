/* SPDX-License-Identifier: MIT */
/*
 * check_cgroup.c - cgroup.h over made-up trees of /proc and cgroup file systems: versions 1, 2 and
 * both, ancestors, namespaces, odd mounts, garbage, failing calls.
 */
#define _GNU_SOURCE
#include "cgroup.h"

#include "counter.h"
#include "os.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

static char root[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void make_root(void) {
    strcpy(root, "/tmp/besom-cgroup-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    bs_cgroup_set_root(root);
}
static void remove_root(void) {
    bs_cgroup_set_root("");
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put_bytes(const char *path, const char *text, size_t len) {
    char full[2048];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(full, 0755);
        *p = '/';
    }
    int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ck_assert_msg(fd >= 0, "%s: errno %d", full, errno);
    ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
    close(fd);
}
static void put(const char *path, const char *text) {
    put_bytes(path, text, strlen(text));
}

static struct bs_cgroup look(void) {
    struct bs_cgroup c;
    bs_cgroup_set_root(root); /* forgets mount points */
    (void)bs_cgroup_read(&c);
    return c;
}

#define MOUNT_V2 "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define MOUNT_MEMORY "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
#define MOUNT_CPU "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpuacct,cpu\n"
#define MOUNT_OTHER "22 27 0:21 / /proc rw,relatime - proc proc rw\n"

static void put_process(void) {
    put("/proc/self/statm", "5000 3000 1000 1 0 900 0\n");
    put("/proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-2,5\nOther:\t1\n");
    put("/proc/meminfo", "MemTotal:       16384000 kB\nMemFree: 1 kB\n");
}

START_TEST(version_2_takes_the_least_of_all_ancestors) {
    put_process();
    put("/proc/self/mountinfo", MOUNT_OTHER MOUNT_V2);
    put("/proc/self/cgroup", "0::/a/b/c\n");
    put("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/c/memory.high", "900000000\n");
    put("/sys/fs/cgroup/a/b/memory.max", "500000000\n");
    put("/sys/fs/cgroup/a/b/memory.stat", "anon 123456\nfile 7\nanon_thp 5\n");
    put("/sys/fs/cgroup/a/b/c/memory.stat", "anon 1\n");
    put("/sys/fs/cgroup/a/memory.max", "700000000\n");
    put("/sys/fs/cgroup/a/b/c/memory.pressure",
        "some avg10=12.34 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00\n");
    put("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    struct bs_cgroup c = look();
    ck_assert_uint_eq(c.limit_bytes, 500000000);
    ck_assert_uint_eq(c.anon_bytes, 123456);
    ck_assert_uint_eq(c.stall_pcm, 1234);
    ck_assert_uint_eq(c.cpu_pct, 150);
    ck_assert_uint_eq(c.own_bytes, 2000 * bs_os_page_size());
    ck_assert_uint_eq(c.memory_bytes, 16384000u * 1024ull);
    put("/sys/fs/cgroup/a/b/c/memory.high", "400000000\n");
    c = look();
    ck_assert_uint_eq(c.limit_bytes, 400000000);
    ck_assert_uint_eq(c.anon_bytes, 1);
}
END_TEST

START_TEST(version_1_reads_its_own_names) {
    put_process();
    put("/proc/self/mountinfo", MOUNT_OTHER MOUNT_CPU MOUNT_MEMORY);
    put("/proc/self/cgroup", "4:memory:/x/y\n2:cpu,cpuacct:/x\n1:name=systemd:/z\n");
    put("/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "300000000\n");
    put("/sys/fs/cgroup/memory/x/memory.stat", "cache 1\nrss 2\nrss_huge 0\ntotal_rss 777\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "50000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("/proc/pressure/memory", "some avg10=99.99 avg60=0.00\n");
    struct bs_cgroup c = look();
    ck_assert_uint_eq(c.limit_bytes, 300000000);
    ck_assert_uint_eq(c.anon_bytes, 777);
    ck_assert_uint_eq(c.cpu_pct, 50);
    ck_assert_uint_eq(c.stall_pcm, 9999);
}
END_TEST

START_TEST(hybrid_memory_is_version_1s) {
    put_process();
    put("/proc/self/mountinfo",
        MOUNT_OTHER MOUNT_MEMORY "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("/proc/self/cgroup", "4:memory:/x\n0::/u\n");
    put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "200000000\n");
    put("/sys/fs/cgroup/unified/u/memory.max", "100000000\n"); /* none there in truth */
    put("/sys/fs/cgroup/unified/u/memory.pressure", "some avg10=1.00 avg60=0.00\n");
    struct bs_cgroup c = look();
    ck_assert_uint_eq(c.limit_bytes, 200000000);
    ck_assert_uint_eq(c.stall_pcm, 100);
    ck_assert_uint_eq(c.cpu_pct, 400); /* by affinity */
}
END_TEST

/* A container whose mounts show its own cgroup only, while the path is the host's. */
START_TEST(the_mount_shows_a_part_of_the_tree) {
    put_process();
    put("/proc/self/cgroup", "4:memory:/docker/abc/deep\n");
    put("/proc/self/mountinfo",
        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "600000000\n");
    put("/sys/fs/cgroup/memory/deep/memory.limit_in_bytes", "500000000\n");
    ck_assert_uint_eq(look().limit_bytes, 500000000);
    /* another cgroup is mounted, whose name begins alike: only the mount point is known */
    put("/proc/self/cgroup", "4:memory:/docker/abcd\n");
    put("/sys/fs/cgroup/memory/d/memory.limit_in_bytes", "1000000\n");
    ck_assert_uint_eq(look().limit_bytes, 600000000);
    /* outside of the namespace */
    put("/proc/self/cgroup", "4:memory:/../other\n");
    put("/proc/self/mountinfo", MOUNT_MEMORY);
    put("/sys/fs/cgroup/other/memory.limit_in_bytes", "1000000\n");
    ck_assert_uint_eq(look().limit_bytes, 600000000);
}
END_TEST

START_TEST(a_limit_far_above_counts) {
    put_process();
    put("/proc/self/mountinfo", MOUNT_OTHER MOUNT_V2);
    put("/proc/self/cgroup", "0::/1/2/3/4/5/6/7/8/9\n");
    put("/sys/fs/cgroup/1/memory.max", "500000000\n");
    ck_assert_uint_eq(look().limit_bytes, 500000000);
    /* a path that is too long: only the mount point is known */
    char text[2048] = "0::";
    for (int i = 0; i < 400; i++)
        strcat(text, "/1");
    strcat(text, "\n");
    put("/proc/self/cgroup", text);
    put("/sys/fs/cgroup/memory.max", "600000000\n");
    ck_assert_uint_eq(look().limit_bytes, 600000000);
}
END_TEST

/* Where no cgroup has a limit, no cgroup's memory is asked for. */
START_TEST(without_a_limit_nobodys_memory_counts) {
    put_process();
    put("/proc/self/mountinfo", MOUNT_OTHER MOUNT_V2);
    put("/proc/self/cgroup", "0::/a\n");
    put("/sys/fs/cgroup/a/memory.max", "max\n");
    put("/sys/fs/cgroup/a/memory.stat", "anon 5\n");
    put("/memory.stat", "anon 5\n");
    struct bs_cgroup c = look();
    ck_assert_uint_eq(c.limit_bytes, BS_CGROUP_NONE);
    ck_assert_uint_eq(c.anon_bytes, 0);
}
END_TEST

START_TEST(the_least_quota_counts) {
    put_process();
    put("/proc/self/mountinfo", MOUNT_OTHER MOUNT_V2);
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
    put("/sys/fs/cgroup/a/cpu.max", "200000 100000\n");
    ck_assert_uint_eq(look().cpu_pct, 50);
    put("/sys/fs/cgroup/a/b/cpu.max", "1000 1000000\n"); /* the kernel's least; 0 would be: unknown */
    ck_assert_uint_eq(look().cpu_pct, 1);
    put("/proc/self/mountinfo", MOUNT_OTHER MOUNT_CPU);
    put("/proc/self/cgroup", "2:cpu,cpuacct:/x/y\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_quota_us", "50000\n"); /* of no period */
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "70000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(look().cpu_pct, 70);
}
END_TEST

/* The first thread's are those of /proc/self, and empty once it has ended. */
START_TEST(the_threads_own_numbers_come_first) {
    put_process();
    put("/proc/thread-self/statm", "9000 7000 3000 1 0 900 0\n");
    ck_assert_uint_eq(look().own_bytes, 4000 * bs_os_page_size());
    put("/proc/thread-self/statm", "9000 3000 7000 1 0 900 0\n"); /* the two are not of one moment */
    ck_assert_uint_eq(look().own_bytes, 0);
}
END_TEST

/* A controller whose name begins or ends like ours, and a hierarchy of a name without one. */
START_TEST(names_are_compared_whole) {
    put_process();
    put("/proc/self/cgroup", "9:cpuset:/x\n7:name=memory:/x\n5:cpuacct,cpu:/x\n3:memory:/x\n");
    put("/proc/self/mountinfo", "51 31 0:41 / /wrong rw - cgroup cgroup rw,cpuset\n"
                                "52 31 0:42 / /wrong rw - cgroup cgroup rw,name=memory\n" MOUNT_CPU MOUNT_MEMORY);
    put("/wrong/x/cpu.cfs_quota_us", "10000\n");
    put("/wrong/x/cpu.cfs_period_us", "100000\n");
    put("/wrong/x/memory.limit_in_bytes", "1000000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "70000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "300000000\n");
    struct bs_cgroup c = look();
    ck_assert_uint_eq(c.limit_bytes, 300000000);
    ck_assert_uint_eq(c.cpu_pct, 70);
    /* and our path is of the right one */
    put("/proc/self/cgroup", "9:cpuset:/y\n7:name=memory:/y\n5:cpuacct,cpu:/x\n3:memory:/x\n");
    c = look();
    ck_assert_uint_eq(c.limit_bytes, 300000000);
    ck_assert_uint_eq(c.cpu_pct, 70);
}
END_TEST

START_TEST(mounts_that_do_not_count) {
    char text[3000], rest[1101];
    put_process();
    put("/proc/self/cgroup", "0::/a\n");
    put("/sys/fs/cgroup/a/memory.max", "400000000\n");
    put("/wrong/a/memory.max", "100000000\n");
    /* another mount of the same */
    put("/proc/self/mountinfo", MOUNT_V2 "61 31 0:28 / /wrong rw - cgroup2 cgroup2 rw\n");
    ck_assert_uint_eq(look().limit_bytes, 400000000);
    /* words that are missing */
    put("/proc/self/mountinfo", "31 23 0:28 - cgroup2 cgroup2 rw\n" MOUNT_V2);
    ck_assert_uint_eq(look().limit_bytes, 400000000);
    /* a line that is too long */
    memset(rest, 'x', sizeof rest - 1);
    rest[sizeof rest - 1] = '\0';
    snprintf(text, sizeof text, "61 31 0:28 / /wrong rw - cgroup2 cgroup2 rw,%s\n" MOUNT_V2, rest);
    put("/proc/self/mountinfo", text);
    ck_assert_uint_eq(look().limit_bytes, 400000000);
    /* one that is gone */
    put("/proc/self/mountinfo", MOUNT_OTHER);
    ck_assert_uint_eq(look().limit_bytes, BS_CGROUP_NONE);
    /* a root that is too long; the others stay what they are */
    rest[500] = '\0';
    snprintf(text, sizeof text, MOUNT_CPU "35 31 0:32 /%s /wrong rw - cgroup cgroup rw,memory\n", rest);
    put("/proc/self/mountinfo", text);
    put("/proc/self/cgroup", "4:memory:/a\n2:cpu,cpuacct:/a\n");
    put("/wrong/a/memory.limit_in_bytes", "100000000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "50000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    struct bs_cgroup c = look();
    ck_assert_uint_eq(c.limit_bytes, BS_CGROUP_NONE);
    ck_assert_uint_eq(c.cpu_pct, 50);
}
END_TEST

START_TEST(a_mount_point_with_blanks) {
    put_process();
    put("/proc/self/cgroup", "0::/a b\n");
    put("/proc/self/mountinfo", "31 23 0:28 / /mnt/my\\040groups rw - cgroup2 none rw\n");
    put("/mnt/my groups/a b/memory.max", "400000000\n");
    ck_assert_uint_eq(look().limit_bytes, 400000000);
}
END_TEST

START_TEST(nothing_there_says_nothing) {
    uint64_t failures = bs_counted(os_failures);
    struct bs_cgroup c = look();
    ck_assert_uint_eq(c.limit_bytes, BS_CGROUP_NONE);
    ck_assert_uint_eq(c.memory_bytes, BS_CGROUP_NONE);
    ck_assert_uint_eq(c.anon_bytes + c.own_bytes + c.stall_pcm + c.cpu_pct, 0);
    ck_assert_uint_eq(bs_counted(os_failures), failures); /* what is missing is an answer */
}
END_TEST

START_TEST(many_mounts_and_long_lines_before_ours) {
    size_t cap = 3000 * 120, len = 0;
    char *text = malloc(cap + 60000);
    put_process();
    put("/proc/self/cgroup", "0::/a\n");
    for (int i = 0; i < 3000; i++)
        len += (size_t)sprintf(text + len, "%d 27 0:%d / /var/lib/layers/%d rw - overlay o rw\n", i,
                               i, i);
    memset(text + len, 'x', 50000); /* a line that is too long is passed over */
    len += 50000;
    text[len++] = '\n';
    len += (size_t)sprintf(text + len, "%s", MOUNT_V2);
    put_bytes("/proc/self/mountinfo", text, len);
    free(text);
    put("/sys/fs/cgroup/a/memory.max", "400000000\n");
    ck_assert_uint_eq(look().limit_bytes, 400000000);
}
END_TEST

static const char *const files[] = {
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/self/statm",
    "/proc/self/status",
    "/proc/meminfo",
    "/proc/pressure/memory",
    "/sys/fs/cgroup/a/memory.max",
    "/sys/fs/cgroup/a/memory.stat",
    "/sys/fs/cgroup/a/cpu.max",
    "/sys/fs/cgroup/a/memory.pressure",
};

static void put_all(void) {
    put_process();
    put("/proc/self/cgroup", "4:memory:/a\n2:cpu:/a\n0::/a\n");
    put("/proc/self/mountinfo", MOUNT_OTHER MOUNT_V2);
    put("/sys/fs/cgroup/a/memory.max", "400000000\n");
    put("/sys/fs/cgroup/a/memory.stat", "anon 99\n");
    put("/sys/fs/cgroup/a/cpu.max", "20000 100000\n");
    put("/sys/fs/cgroup/a/memory.pressure", "some avg10=0.01 avg60=0.00\n");
    put("/proc/pressure/memory", "some avg10=0.02 avg60=0.00\n");
}

static void require_sane(const struct bs_cgroup *c) {
    require(c->limit_bytes == BS_CGROUP_NONE || c->limit_bytes < INT64_MAX / 2, "limit %ju",
            (uintmax_t)c->limit_bytes);
    require(c->stall_pcm <= 10099, "stall %u", c->stall_pcm);
}

/* Bytes of every kind in every file: no crash, no absurd number (sanitizer builds see more). */
START_TEST(garbage_in_any_file) {
    const char letters[] = "0123456789:/ \n\t-.,=maxsomeavg10\\\0cgroup";
    uint64_t seed = 3;
    char text[9000];
    uint64_t end_ns = bs_os_now_ns() + UINT64_C(10000000000); /* on a busy machine fewer rounds */
    for (int round = 0; round < 3000 / UNIT_SLOWNESS && bs_os_now_ns() < end_ns; round++) {
        put_all();
        const char *file = files[random_below(&seed, BS_ARRAY_LEN(files))];
        size_t len = random_skewed(&seed, 13);
        for (size_t i = 0; i < len; i++)
            text[i] = round % 2 == 0 ? (char)random_next(&seed)
                                     : letters[random_below(&seed, sizeof letters)];
        put_bytes(file, text, len);
        struct bs_cgroup c = look();
        require_sane(&c);
    }
}
END_TEST

START_TEST(numbers_that_are_none) {
    const char *const odd[] = {"",
                               "\n",
                               "-1\n",
                               "max\n",
                               "99999999999999999999999\n",
                               "18446744073709551615\n",
                               "9223372036854771712\n",
                               "x1\n"};
    for (size_t i = 0; i < BS_ARRAY_LEN(odd); i++) {
        put_all();
        put("/sys/fs/cgroup/a/memory.max", odd[i]);
        ck_assert_msg(look().limit_bytes == BS_CGROUP_NONE, "\"%s\" is a limit", odd[i]);
    }
    const char *const quotas[] = {"0 0\n", "1\n", "100000\n", "100000 0\n", "max 0\n", "5 x\n",
                                  "184467440737095517 1\n"}; /* times 100: 84 more than 64 bits hold */
    for (size_t i = 0; i < BS_ARRAY_LEN(quotas); i++) {
        put("/sys/fs/cgroup/a/cpu.max", quotas[i]);
        ck_assert_uint_eq(look().cpu_pct, 400);
    }
    put_all();
    put("/sys/fs/cgroup/a/memory.pressure", "some avg10=101.00 avg60=0.00\n");
    ck_assert_uint_eq(look().stall_pcm, 0);
    put("/sys/fs/cgroup/a/memory.pressure", ""); /* then the system's counts */
    ck_assert_uint_eq(look().stall_pcm, 2);
    put("/proc/meminfo", "MemTotal: 18446744073709551615 kB\n");
    ck_assert_uint_eq(look().memory_bytes, BS_CGROUP_NONE);
    put("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
    put("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t5-1,0\n");
    ck_assert_uint_eq(look().cpu_pct, 100);
    put("/proc/self/cgroup", "0:\n0::/a\n"); /* a line without a path */
    ck_assert_uint_eq(look().limit_bytes, 400000000);
    put("/proc/self/cgroup", "0::/a"); /* cut short */
    (void)look();
}
END_TEST

/* With each error that says: no room just now; and one that says no more than that the file is closed to us. */
START_TEST(any_call_may_fail) {
    const int error = (const int[]){EMFILE, ENFILE, ENOMEM, EACCES}[_i];
    unsigned calls, lasting_calls, refusals = 0;
    put_all();
    (void)bs_os_fail(0, 0, false);
    struct bs_cgroup whole = look();
    calls = bs_os_fail(0, 0, false);
    ck_assert_uint_gt(calls, 10);
    int first_free = open("/dev/null", O_RDONLY);
    close(first_free);
    for (unsigned n = 1; n <= calls; n++) {
        (void)bs_os_fail(n, error, n % 2 == 0);
        struct bs_cgroup c;
        bs_cgroup_set_root(root);
        bool room = bs_cgroup_read(&c);
        lasting_calls = bs_os_fail(0, 0, false);
        ck_assert_uint_ge(lasting_calls, n);
        require_sane(&c);
        ck_assert(c.limit_bytes == whole.limit_bytes || c.limit_bytes == BS_CGROUP_NONE);
        refusals += !room;
        /* and the next look is whole again, without being told to forget */
        ck_assert(bs_cgroup_read(&c));
        ck_assert_uint_eq(c.limit_bytes, whole.limit_bytes);
    }
    if (error == EACCES)
        ck_assert_uint_le(refusals, 1); /* the room for what is read */
    else
        ck_assert_uint_ge(refusals, 5); /* at least where an open was refused */
    /* no descriptor stays open */
    int fd = open("/dev/null", O_RDONLY);
    ck_assert_int_eq(fd, first_free);
    close(fd);
}
END_TEST

#if !BS_SANITIZED
static unsigned long mapped_pages(void) {
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY);
    ck_assert_int_gt(read(fd, text, sizeof text - 1), 0);
    close(fd);
    return strtoul(text, NULL, 10);
}

START_TEST(a_look_leaves_nothing_mapped) {
    put_all();
    struct bs_cgroup c = look();
    unsigned long before = mapped_pages();
    for (int i = 0; i < 100; i++)
        (void)bs_cgroup_read(&c);
    ck_assert_uint_lt(mapped_pages(), before + 100); /* libcheck's own may grow */
}
END_TEST
#endif

START_TEST(this_system_can_be_read) {
    struct bs_cgroup c;
    bs_cgroup_set_root("");
    ck_assert(bs_cgroup_read(&c));
    ck_assert_uint_gt(c.own_bytes, 0);
    ck_assert_uint_ne(c.memory_bytes, BS_CGROUP_NONE);
    ck_assert_uint_gt(c.cpu_pct, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("cgroup");
    TCase *tc = add_case(suite, "cgroup");
    tcase_add_checked_fixture(tc, make_root, remove_root);
    tcase_add_test(tc, version_2_takes_the_least_of_all_ancestors);
    tcase_add_test(tc, version_1_reads_its_own_names);
    tcase_add_test(tc, hybrid_memory_is_version_1s);
    tcase_add_test(tc, the_mount_shows_a_part_of_the_tree);
    tcase_add_test(tc, a_limit_far_above_counts);
    tcase_add_test(tc, without_a_limit_nobodys_memory_counts);
    tcase_add_test(tc, the_least_quota_counts);
    tcase_add_test(tc, the_threads_own_numbers_come_first);
    tcase_add_test(tc, names_are_compared_whole);
    tcase_add_test(tc, mounts_that_do_not_count);
    tcase_add_test(tc, a_mount_point_with_blanks);
    tcase_add_test(tc, nothing_there_says_nothing);
    tcase_add_test(tc, many_mounts_and_long_lines_before_ours);
    tcase_add_test(tc, garbage_in_any_file);
    tcase_add_test(tc, numbers_that_are_none);
    tcase_add_loop_test(tc, any_call_may_fail, 0, 4);
#if !BS_SANITIZED
    tcase_add_test(tc, a_look_leaves_nothing_mapped);
#endif
    tcase_add_test(tc, this_system_can_be_read);
    return run_suite(suite);
}
