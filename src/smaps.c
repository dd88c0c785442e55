/* SPDX-License-Identifier: MIT */
/* smaps.c - see smaps.h. */
#include "smaps.h"

#include "meta.h"
#include "os.h"
#include "pagemap.h"

#include <string.h>

enum owner { OUTSIDE, HEAP, METADATA };

struct reader {
    int fd;
    size_t len, pos;
    char buf[4096];
};

/* The next character, or -1 at the end. */
static int next_char(struct reader *r) {
    if (r->pos == r->len) {
        long n = bs_os_read(r->fd, r->buf, sizeof r->buf);
        if (n <= 0)
            return -1;
        r->len = (size_t)n;
        r->pos = 0;
    }
    return (unsigned char)r->buf[r->pos++];
}

/* A line without its newline, cut to fit; false at the end of the file. */
static bool next_line(struct reader *r, char *line, size_t cap) {
    size_t n = 0;
    int c;
    while ((c = next_char(r)) >= 0 && c != '\n')
        if (n + 1 < cap)
            line[n++] = (char)c;
    line[n] = '\0';
    return c >= 0 || n != 0;
}

/* Header lines begin with an address in lower-case hex, field lines with a capital. */
static bool is_header(const char *line) {
    return (line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f');
}

static uintptr_t hex(const char *s) {
    uintptr_t x = 0;
    for (;; s++) {
        if (*s >= '0' && *s <= '9')
            x = x * 16 + (uintptr_t)(*s - '0');
        else if (*s >= 'a' && *s <= 'f')
            x = x * 16 + (uintptr_t)(*s - 'a' + 10);
        else
            return x;
    }
}

/* "Name:   123 kB" in bytes, or 0 if the line is another field. */
static uint64_t field_bytes(const char *line, const char *name) {
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

static enum owner owner_of(uintptr_t address) {
    if (bs_pagemap_arena(address) != NULL)
        return HEAP;
    return bs_meta_owns(address) ? METADATA : OUTSIDE;
}

bool bs_smaps_read(struct bs_smaps *out) {
    struct reader r = {.fd = bs_os_open_read("/proc/self/smaps")};
    char line[128];
    enum owner owner = OUTSIDE;
    *out = (struct bs_smaps){0};
    if (r.fd < 0)
        return false;
    while (next_line(&r, line, sizeof line)) {
        if (is_header(line)) {
            owner = owner_of(hex(line));
            out->mappings++;
            continue;
        }
        uint64_t rss = field_bytes(line, "Rss:");
        out->rss += rss;
        if (owner == HEAP) {
            out->heap += rss;
            out->anon_huge += field_bytes(line, "AnonHugePages:");
        } else if (owner == METADATA) {
            out->metadata += rss;
        }
    }
    bs_os_close(r.fd);
    return out->rss != 0;
}
