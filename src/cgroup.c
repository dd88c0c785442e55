/* SPDX-License-Identifier: MIT */
/*
 * cgroup.c - see cgroup.h.
 *
 * Where a controller's files are: /proc/self/cgroup has our cgroup's path in the hierarchy,
 * /proc/self/mountinfo where that hierarchy is mounted and which of its cgroups is at the mount
 * point. In a container the two may not fit (a path of the host, a mount of the container's own
 * cgroup): then the mount point itself is the best that can be known. Mounts are looked up once.
 */
#include "cgroup.h"

#include "os.h"
#include "out.h"

#include <errno.h>
#include <string.h>

#define PATH_BYTES 768
#define FILE_BYTES 4096
#define LINE_BYTES 1024
#define MOUNTINFO_BYTES (2 * BS_MIB) /* hosts of many containers have thousands of mounts */
#define LEVELS_MAX 64

/* A hierarchy that is mounted: v2, v1's memory, v1's cpu. */
struct hierarchy {
    bool found;
    char mount[PATH_BYTES / 2]; /* mount point */
    char root[PATH_BYTES / 2];  /* path of the cgroup at the mount point */
};
enum { UNIFIED, MEMORY, CPU, NHIERARCHIES };

/* Room for what is read, mapped for the moment: a thread that looks may have a stack of 16 KiB, and most of it used. */
struct scratch {
    char cgroups[FILE_BYTES], text[FILE_BYTES], one[FILE_BYTES];
    char dir[PATH_BYTES], at[PATH_BYTES];
};

static struct {
    const char *root;     /* what stands before all paths; NULL: nothing */
    bool looked, refused; /* mount points are known; the kernel could not open a file */
    struct hierarchy at[NHIERARCHIES];
} mounts;

void bs_cgroup_set_root(const char *dir) {
    mounts.root = dir;
    mounts.looked = false;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* root + dir + "/" + name; false if that is too long. */
static bool full_path(char path[PATH_BYTES], const char *dir, const char *name) {
    struct bs_out out;
    bs_out_init(&out, path, PATH_BYTES);
    bs_out_printf(&out, "%s%s/%s", mounts.root != NULL ? mounts.root : "", dir, name);
    bs_out_text(&out);
    return !out.cut;
}

static void note_error(long error) {
    mounts.refused |= error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

/* A negated errno if it is not there or the name is too long. */
static int open_file(const char *dir, const char *name) {
    char path[PATH_BYTES];
    int fd = full_path(path, dir, name) ? bs_os_open_if_there(path) : -ENAMETOOLONG;
    note_error(fd);
    return fd;
}

/* The first FILE_BYTES - 1 of it as a C string; false: there is no such file, or it is empty. */
static bool read_file(const char *dir, const char *name, char text[FILE_BYTES]) {
    char path[PATH_BYTES];
    long n = full_path(path, dir, name) ? bs_os_read_text(path, text, FILE_BYTES) : -ENAMETOOLONG;
    note_error(n);
    return n > 0;
}

/* A decimal number, moved past; false: there is none, or it is too large for 64 bits. */
static bool number(const char **s, uint64_t *x) {
    const char *p = *s;
    for (*x = 0; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(*x, 10, x) ||
            __builtin_add_overflow(*x, (uint64_t)(*p - '0'), x))
            return false;
    bool any = p != *s;
    *s = p;
    return any;
}

/* The number after "name" at the start of a line, with blanks between. */
static bool field(const char *text, const char *name, uint64_t *x) {
    size_t n = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, name, n) == 0) {
            const char *p = line + n;
            while (*p == ' ' || *p == '\t')
                p++;
            return p != line + n && number(&p, x);
        }
        line = strchr(line, '\n');
        line += line != NULL;
    }
    return false;
}

static bool word_in(const char *list, size_t len, const char *word) {
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= len; i++)
        if ((i == 0 || list[i - 1] == ',') && memcmp(list + i, word, n) == 0 &&
            (i + n == len || list[i + n] == ','))
            return true;
    return false;
}

/* --- where ------------------------------------------------------------------------------------ */

/* The blank-separated word number `nth` of the line; its length, 0: there is none. */
static size_t word_at(const char *line, unsigned nth, const char **word) {
    for (;; nth--) {
        line += strspn(line, " ");
        size_t n = strcspn(line, " ");
        *word = line;
        if (nth == 0 || n == 0)
            return n;
        line += n;
    }
}

/* Copies a path of mountinfo, where blanks and the like are \ooo; false: too long. */
static bool copy_path(char *to, size_t cap, const char *from, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < cap; n++) {
        if (from[i] == '\\' && len - i >= 4) {
            to[n] =
                (char)((from[i + 1] - '0') * 64 + (from[i + 2] - '0') * 8 + (from[i + 3] - '0'));
            i += 4;
        } else {
            to[n] = from[i++];
        }
    }
    to[n] = '\0';
    if (n != 0 && n == strspn(to, "/"))
        to[0] = '\0'; /* "/": nothing to put before a path */
    return n + 1 < cap;
}

/* "id parent dev root mount options [tags...] - type source super-options" */
static void look_at_mount(const char *line) {
    const char *root, *mount, *type, *super;
    const char *dash = strstr(line, " - ");
    size_t nroot = word_at(line, 3, &root), nmount = word_at(line, 4, &mount);
    if (dash == NULL || nroot == 0 || nmount == 0 || mount > dash)
        return;
    size_t ntype = word_at(dash + 3, 0, &type), nsuper = word_at(dash + 3, 2, &super);
    bool v2 = ntype == 7 && memcmp(type, "cgroup2", 7) == 0;
    bool v1 = ntype == 6 && memcmp(type, "cgroup", 6) == 0;
    for (int i = 0; i < NHIERARCHIES; i++) {
        bool it = i == UNIFIED ? v2 : v1 && word_in(super, nsuper, i == CPU ? "cpu" : "memory");
        struct hierarchy *h = &mounts.at[i];
        if (it && !h->found) /* the first one: others are bind mounts of it */
            h->found = copy_path(h->root, sizeof h->root, root, nroot) &&
                       copy_path(h->mount, sizeof h->mount, mount, nmount);
    }
}

static void find_mounts(char buf[FILE_BYTES], char line[LINE_BYTES]) {
    size_t len = 0, total = 0;
    int fd = open_file("/proc/self", "mountinfo");
    for (int i = 0; i < NHIERARCHIES; i++)
        mounts.at[i].found = false;
    long n = fd >= 0;
    for (; n > 0 && total<MOUNTINFO_BYTES; total += n> 0 ? (size_t)n : 0) {
        n = bs_os_read(fd, buf, FILE_BYTES);
        for (long i = 0; i < n; i++) {
            if (buf[i] != '\n') {
                len += len < LINE_BYTES; /* LINE_BYTES: too long, and passed over */
                line[len - (len != 0)] = buf[i];
                continue;
            }
            line[len - (len == LINE_BYTES)] = '\0';
            if (len < LINE_BYTES)
                look_at_mount(line);
            len = 0;
        }
    }
    mounts.looked = fd >= 0 && n >= 0;
    if (fd >= 0)
        bs_os_close(fd);
}

/* The line "id:controllers:path" of our cgroup in the hierarchy; its path's length, 0: none. */
static size_t own_path(const char *text, int which, const char **path) {
    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *list = strchr(line, ':'), *end = strchr(line, '\n');
        const char *colon = list != NULL ? strchr(list + 1, ':') : NULL;
        if (end == NULL || colon == NULL)
            return 0;
        size_t n = colon < end ? (size_t)(colon - list - 1) : 0;
        bool it = which == UNIFIED ? n == 0 && line[0] == '0'
                                   : word_in(list + 1, n, which == CPU ? "cpu" : "memory");
        if (it && colon < end) {
            *path = colon + 1;
            return (size_t)(end - colon - 1);
        }
        line = end + 1;
    }
    return 0;
}

/* The directory of our cgroup; false: no such hierarchy. *top: length of the mount point. */
static bool own_dir(const char *text, int which, char dir[PATH_BYTES], size_t *top) {
    const struct hierarchy *h = &mounts.at[which];
    const char *path = "";
    size_t len = own_path(text, which, &path), nroot = strlen(h->root);
    if (!h->found || len == 0)
        return false;
    bool below =
        len >= nroot && memcmp(path, h->root, nroot) == 0 && (len == nroot || path[nroot] == '/');
    *top = strlen(h->mount);
    memcpy(dir, h->mount, *top + 1);
    size_t rest = below ? len - nroot : 0;
    /* "/..": our cgroup is outside of the namespace; what is at the mount point is inside */
    if (rest > 1 && *top + rest < PATH_BYTES &&
        !(rest >= 3 && memcmp(path + nroot, "/..", 3) == 0)) {
        memcpy(dir + *top, path + nroot, rest);
        dir[*top + rest] = '\0';
    }
    return true;
}

/* From a cgroup to its parent; false: it was the one at the mount point. */
static bool go_up(char *dir, size_t top) {
    char *slash = strrchr(dir + top, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

/* --- what ------------------------------------------------------------------------------------- */

static void take_limit(const char *name, struct scratch *in, struct bs_cgroup *out) {
    const char *p = in->one;
    uint64_t x;
    /* "max" is no number; version 1 says "none" by the largest it can count */
    if (!read_file(in->dir, name, in->one) || !number(&p, &x) || x >= INT64_MAX / 2 ||
        x >= out->limit_bytes)
        return;
    out->limit_bytes = x;
    memcpy(in->at, in->dir, strlen(in->dir) + 1);
}

static void read_memory(struct scratch *in, struct bs_cgroup *out) {
    size_t top;
    bool v1 = own_dir(in->cgroups, MEMORY, in->dir, &top);
    if (!v1 && !own_dir(in->cgroups, UNIFIED, in->dir, &top))
        return;
    for (int level = 0; level == 0 || (level < LEVELS_MAX && go_up(in->dir, top)); level++) {
        take_limit(v1 ? "memory.limit_in_bytes" : "memory.max", in, out);
        if (!v1)
            take_limit("memory.high", in, out);
    }
    if (out->limit_bytes != BS_CGROUP_NONE && read_file(in->at, "memory.stat", in->text) &&
        !field(in->text, v1 ? "total_rss" : "anon", &out->anon_bytes))
        out->anon_bytes = 0;
}

/* "some avg10=1.23 avg60=..." */
static uint32_t stall_of(const char *text) {
    const char *p = strstr(text, "some avg10=");
    uint64_t whole, part = 0;
    if (p == NULL)
        return 0;
    p += strlen("some avg10=");
    if (!number(&p, &whole) || whole > 100)
        return 0;
    if (p[0] == '.' && p[1] >= '0' && p[1] <= '9' && p[2] >= '0' && p[2] <= '9')
        part = (uint64_t)(p[1] - '0') * 10 + (uint64_t)(p[2] - '0');
    return (uint32_t)(whole * 100 + part);
}

static void read_stall(struct scratch *in, struct bs_cgroup *out) {
    size_t top;
    if ((own_dir(in->cgroups, UNIFIED, in->dir, &top) && read_file(in->dir, "memory.pressure", in->text)) ||
        read_file("/proc/pressure", "memory", in->text))
        out->stall_pcm = stall_of(in->text);
}

static void take_quota(struct bs_cgroup *out, uint64_t quota, uint64_t period) {
    if (period == 0 || quota == 0 || quota > UINT32_MAX || period > UINT32_MAX)
        return;
    uint64_t pct = bs_min(bs_max(quota * 100 / period, 1), UINT32_MAX);
    if (out->cpu_pct == 0 || pct < out->cpu_pct)
        out->cpu_pct = (uint32_t)pct;
}

static void read_quota(struct scratch *in, struct bs_cgroup *out) {
    char *dir = in->dir, *text = in->text;
    size_t top;
    uint64_t quota, period;
    bool v1 = own_dir(in->cgroups, CPU, dir, &top);
    if (!v1 && !own_dir(in->cgroups, UNIFIED, dir, &top))
        return;
    for (int level = 0; level == 0 || (level < LEVELS_MAX && go_up(dir, top)); level++) {
        const char *p = text; /* "max" and "-1" are no numbers: no quota */
        if (!read_file(dir, v1 ? "cpu.cfs_quota_us" : "cpu.max", text) || !number(&p, &quota))
            continue;
        if (v1) {
            p = text;
            if (!read_file(dir, "cpu.cfs_period_us", text))
                continue;
        }
        p += strspn(p, " ");
        if (number(&p, &period))
            take_quota(out, quota, period);
    }
}

/* "0-3,8": how many. */
static uint64_t count_of_list(const char *p) {
    uint64_t n = 0, first, last;
    while (number(&p, &first)) {
        last = first;
        if (*p == '-' && (p++, !number(&p, &last)))
            break;
        n += last >= first ? last - first + 1 : 0;
        if (*p++ != ',')
            break;
    }
    return n;
}

/* The calling thread's, since the first one's is empty once that has ended. */
static bool read_own(const char *name, char text[FILE_BYTES]) {
    return read_file("/proc/thread-self", name, text) || read_file("/proc/self", name, text);
}

static void read_process(char *text, struct bs_cgroup *out) {
    uint64_t x, resident, shared;
    const char *p = text;
    if (read_file("/proc/self", "status", text) &&
        (p = strstr(text, "\nCpus_allowed_list:")) != NULL) {
        p += strlen("\nCpus_allowed_list:");
        take_quota(out, count_of_list(p + strspn(p, " \t")), 1);
    }
    p = text;
    if (read_own("statm", text) && number(&p, &x) && *p++ == ' ' &&
        number(&p, &resident) && *p++ == ' ' && number(&p, &shared))
        out->own_bytes = bs_sub_clamped(resident, shared) * bs_os_page_size();
    if (read_file("/proc", "meminfo", text) && field(text, "MemTotal:", &x) &&
        x < UINT64_MAX / 1024)
        out->memory_bytes = x * 1024;
}

static void read_all(struct scratch *in, struct bs_cgroup *out) {
    if (!mounts.looked)
        find_mounts(in->text, in->one);
    read_process(in->text, out);
    if (!read_file("/proc/self", "cgroup", in->cgroups))
        in->cgroups[0] = '\0';
    read_memory(in, out);
    read_stall(in, out);
    read_quota(in, out);
}

bool bs_cgroup_read(struct bs_cgroup *out) {
    size_t bytes = bs_align_up(sizeof(struct scratch), bs_os_page_size());
    struct scratch *in = bs_os_alloc(bytes);
    *out = (struct bs_cgroup){.limit_bytes = BS_CGROUP_NONE, .memory_bytes = BS_CGROUP_NONE};
    if (in == NULL)
        return false;
    mounts.refused = false;
    read_all(in, out);
    bs_os_free(in, bytes);
    return !mounts.refused;
}
