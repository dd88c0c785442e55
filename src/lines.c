/* SPDX-License-Identifier: MIT */
/* lines.c - see lines.h. */
#include "lines.h"

#include "os.h"

#include <string.h>

static bool begin(struct bs_lines *r, int fd) {
    r->len = r->pos = 0;
    r->failed = false;
    r->fd = fd;
    r->identity = bs_os_identity(fd);
    return fd >= 0;
}

bool bs_lines_open(struct bs_lines *r, const char *path) {
    return begin(r, bs_os_open_read(path));
}
bool bs_lines_open_own(struct bs_lines *r, const char *name) {
    return begin(r, bs_os_open_own(name));
}

void bs_lines_close(struct bs_lines *r) {
    (void)bs_os_close_same(r->fd, r->identity);
}

/* False: there is no more. */
static bool fill(struct bs_lines *r) {
    if (r->failed) /* the next read may go well, but what it begins with is the rest of a line */
        return false;
    long n = bs_os_read(r->fd, r->buf, sizeof r->buf);
    /* (While the program runs it may close what it does not know, and open another file by that number.) */
    r->failed |= n < 0 || (n == 0 && bs_os_identity(r->fd) != r->identity);
    r->len = n > 0 ? (size_t)n : 0;
    r->pos = 0;
    return n > 0;
}

bool bs_lines_next(struct bs_lines *r, char *line, size_t cap) {
    size_t n = 0;
    bool any = false;
    while (r->pos < r->len || fill(r)) {
        const char *from = r->buf + r->pos, *newline = memchr(from, '\n', r->len - r->pos);
        size_t bytes = newline != NULL ? (size_t)(newline - from) : r->len - r->pos;
        size_t kept = bs_min(bytes, cap - 1 - n);
        memcpy(line + n, from, kept);
        n += kept;
        any |= bytes != 0;
        r->pos += bytes + (newline != NULL);
        if (newline != NULL) {
            line[n] = '\0';
            return true;
        }
    }
    line[n] = '\0';
    return any && !r->failed;
}

uintptr_t bs_lines_hex(const char **s) {
    uintptr_t x = 0;
    for (;; (*s)++) {
        if (**s >= '0' && **s <= '9')
            x = x * 16 + (uintptr_t)(**s - '0');
        else if (**s >= 'a' && **s <= 'f')
            x = x * 16 + (uintptr_t)(**s - 'a' + 10);
        else
            return x;
    }
}

uint64_t bs_lines_kib(const char *line, const char *name) {
    size_t n = strlen(name);
    uint64_t kib = 0;
    if (strncmp(line, name, n) != 0)
        return 0;
    for (line += n; *line == ' '; line++)
        ;
    for (; *line >= '0' && *line <= '9'; line++)
        kib = kib * 10 + (uint64_t)(*line - '0');
    return kib * 1024;
}

/* Past one word and the blanks behind it. */
static const char *skip_word(const char *s) {
    s += strcspn(s, " ");
    return s + strspn(s, " ");
}

/* "START-END PERMS OFFSET MAJOR:MINOR INODE   NAME" */
bool bs_lines_mapping(const char *line, struct bs_mapping *m) {
    bool is_hex = (line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f');
    if (!is_hex)
        return false;
    m->start = bs_lines_hex(&line);
    if (*line != '-')
        return false;
    line++;
    m->end = bs_lines_hex(&line);
    if (*line != ' ' || strlen(line) < 6)
        return false;
    memcpy(m->perms, line + 1, 4);
    m->perms[4] = '\0';
    line = skip_word(line + 1);
    m->offset = bs_lines_hex(&line);
    line = skip_word(skip_word(line));
    m->is_file = line[0] != '0';
    m->name = skip_word(line);
    return true;
}
