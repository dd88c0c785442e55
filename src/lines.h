/* SPDX-License-Identifier: MIT */
/*
 * lines.h - a text of the kernel's, line by line, however long it is: /proc/self/maps and its kin.
 *
 * One buffer of 1 KiB, inside the reader, which lives on its user's stack: that may be small. No lock, no allocation; a
 * file descriptor as long as it is open.
 */
#ifndef BS_LINES_H
#define BS_LINES_H

#include "base.h"

struct bs_lines {
    int fd;      /* or a negated errno */
    uint64_t identity; /* of what was opened */
    bool failed; /* the end that was found is none */
    size_t len, pos;
    char buf[1024];
};

/* False: the file cannot be read. */
bool bs_lines_open(struct bs_lines *r, const char *path);
/* The same of the process's memory, by the file's name (os.h). */
bool bs_lines_open_own(struct bs_lines *r, const char *name);
void bs_lines_close(struct bs_lines *r);
/* A line without its newline, cut to fit; false at the end of the file, or where it cannot be read on, for good: then
 * `failed` is set, and what there was of a line is none. */
bool bs_lines_next(struct bs_lines *r, char *line, size_t cap);

/* The number in lower-case hex that s begins with; *s moves past it. */
uintptr_t bs_lines_hex(const char **s);
/* "Name:   123 kB" in bytes, or 0 if the line is another field. */
uint64_t bs_lines_kib(const char *line, const char *name);

/* One line of /proc/self/maps, or a header line of smaps. */
struct bs_mapping {
    uintptr_t start, end;
    char perms[5];    /* "rw-p" */
    bool is_file;     /* it has an inode */
    uint64_t offset;  /* where it begins in the file */
    const char *name; /* in the line; "" if there is none, cut if it is long */
};
/* False: it is none. */
bool bs_lines_mapping(const char *line, struct bs_mapping *m);

#endif
