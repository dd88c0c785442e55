/* SPDX-License-Identifier: MIT */
/*
 * roots_kernel.c - words of the program that only the kernel holds: what it gave to epoll_ctl for a
 * descriptor, and to timer_create for a signal. Both are printed in /proc.
 *
 * Not seen, since nobody prints it: io_uring's data of requests that are under way, blocks of aio,
 * the data of an epoll descriptor that was closed here and lives on in another process.
 */
#include "lines.h"
#include "out.h"
#include "roots.h"

#include <errno.h>
#include <string.h>

#define EPOLL_LINK "anon_inode:[eventpoll]"

struct entry { /* of a folder, as the kernel writes it */
    uint64_t inode, offset;
    uint16_t bytes;
    uint8_t type;
    char name[];
};

/* False: no room. */
static bool add_word(struct bs_roots *r, uintptr_t word) {
    if (word == 0)
        return true;
    if (r->nwords == r->capacity)
        return false;
    r->words[r->nwords++] = word;
    return true;
}

/* The hexadecimal number behind `mark` in each line of the file that begins with `start`. */
static bool add_words_of(struct bs_roots *r, const char *path, const char *start, const char *mark) {
    struct bs_lines lines;
    char line[160];
    bool fits = true;
    if (!bs_lines_open(&lines, path))
        return lines.fd == -ENOENT; /* a kernel without timers in /proc; a descriptor that is closed */
    while (bs_lines_next(&lines, line, sizeof line)) {
        const char *s = strncmp(line, start, strlen(start)) == 0 ? strstr(line, mark) : NULL;
        if (s == NULL)
            continue;
        s += strlen(mark);
        s += strspn(s, " ");
        fits &= add_word(r, bs_lines_hex(&s));
    }
    fits &= !lines.failed;
    bs_lines_close(&lines);
    return fits;
}

/* A table of descriptors: the process's, or a thread's. */
struct table {
    struct bs_roots *roots;
    char folder[32];
    bool any; /* it has descriptors */
    bool all; /* what there was to be read was */
    bool ours; /* it is the calling thread's, which is the first one: others may have left it (CLONE_FILES) */
};

static void path_in(const struct table *t, struct bs_out *out, char *path, size_t cap, const char *file,
                    const char *name) {
    bs_out_init(out, path, cap);
    bs_out_printf(out, "%s/%s/%s", t->folder, file, name);
}

static int number_of(const char *name) {
    int n = 0;
    for (; *name >= '0' && *name <= '9'; name++)
        n = n * 10 + (*name - '0');
    return n;
}

/* Of a thousand connections, all of which are in the folder, none is one: what it costs to see that counts, since
 * all threads stand. */
static bool is_epoll(struct table *t, int folder, const char *name) {
    char link[sizeof EPOLL_LINK + 1];
    if (t->ours && !bs_os_may_be_anonymous(number_of(name)))
        return false;
    long n = bs_os_read_link_in(folder, name, link, sizeof link);
    t->all &= n >= 0 || n == -ENOENT; /* it was closed meanwhile */
    return n >= 0 && strcmp(link, EPOLL_LINK) == 0;
}

static bool add_descriptor(struct table *t, int folder, const char *name) {
    char path[64];
    struct bs_out out;
    if (name[0] < '0' || name[0] > '9')
        return true;
    t->any = true;
    if (!is_epoll(t, folder, name))
        return true;
    path_in(t, &out, path, sizeof path, "fdinfo", name);
    return add_words_of(t->roots, bs_out_text(&out), "tfd:", " data:");
}

static void add_table(struct table *t) {
    _Alignas(8) char buf[1024];
    char path[64];
    struct bs_out out;
    long n;
    path_in(t, &out, path, sizeof path, "fd", "");
    int fd = bs_os_open_read(bs_out_text(&out));
    t->all &= fd >= 0;
    if (fd < 0)
        return;
    while ((n = bs_os_read_folder(fd, buf, sizeof buf)) > 0)
        for (long at = 0; at < n;) {
            const struct entry *e = (const struct entry *)(const void *)(buf + at);
            t->all &= add_descriptor(t, fd, e->name);
            at += e->bytes;
        }
    t->all &= n == 0;
    bs_os_close(fd);
}

/* (The helper's own has nothing of the program's in it.) */
static void visit_thread(void *ctx, int tid) {
    struct table *t = ctx;
    struct bs_out out;
    if (t->any || !t->all || tid == bs_os_helper_tid())
        return;
    bs_out_init(&out, t->folder, sizeof t->folder);
    bs_out_printf(&out, "/proc/self/task/%d", tid);
    (void)bs_out_text(&out); /* ends it */
    add_table(t);
}

/* The first thread's table is the process's, but for the time after its end: then it has none, and any other's is. */
static bool add_descriptors(struct bs_roots *r) {
    struct table t = {.roots = r, .folder = "/proc/self", .all = true, .ours = bs_os_tid() == bs_os_pid()};
    struct bs_os_task first = {.gone = false};
    add_table(&t);
    if (!t.any && bs_os_task(bs_os_pid(), 1, &first) != 0 && !first.gone)
        return false;
    return (!first.gone || bs_os_tasks(visit_thread, &t) == 0) && t.all;
}

bool bs_roots_take_kernel(struct bs_roots *r) {
    r->nwords = 0;
    bool timers = add_words_of(r, "/proc/self/timers", "signal:", "/");
    bool all = add_descriptors(r) && timers;
    size_t before = r->n;
    bs_roots_add(r, (uintptr_t)r->words, (uintptr_t)(r->words + r->nwords), BS_ROOT_WORDS);
    if (r->n > r->capacity)
        r->n = before;
    return all && (r->n != before || r->nwords == 0);
}
