/* SPDX-License-Identifier: MIT */
/* lines.c - see lines.h. */
#include "lines.h"

#include "os.h"

#include <string.h>

bool bs_lines_open(struct bs_lines *r, const char *path) {
    r->len = r->pos = 0;
    r->failed = false;
    r->fd = bs_os_open_read(path);
    return r->fd >= 0;
}

void bs_lines_close(struct bs_lines *r) {
    bs_os_close(r->fd);
}

/* The next character, or -1 at the end. */
static int next_char(struct bs_lines *r) {
    if (r->pos == r->len) {
        long n = bs_os_read(r->fd, r->buf, sizeof r->buf);
        r->failed |= n < 0;
        if (n <= 0)
            return -1;
        r->len = (size_t)n;
        r->pos = 0;
    }
    return (unsigned char)r->buf[r->pos++];
}

bool bs_lines_next(struct bs_lines *r, char *line, size_t cap) {
    size_t n = 0;
    int c;
    while ((c = next_char(r)) >= 0 && c != '\n')
        if (n + 1 < cap)
            line[n++] = (char)c;
    line[n] = '\0';
    return c >= 0 || n != 0;
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
    line = skip_word(skip_word(skip_word(line + 1)));
    m->is_file = line[0] != '0';
    m->name = skip_word(line);
    return true;
}
