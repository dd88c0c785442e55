/* SPDX-License-Identifier: MIT */
/* trace.c - see trace.h. Called by replay.c and by the unit test of the recorder. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORMAT_VERSION 1
#define HEADER_BYTES 48
#define MAX_THREADS (1u << 20)
#define FREED UINT64_MAX

enum { OP_THREAD = 5, OP_TIME = 6, OP_END = 7 };
enum step { EVENT, END_OF_DATA, CUT, ENDED, DAMAGED };

static bool refuse(struct bs_trace *t, const char *text, const char *detail) {
    snprintf(t->error, sizeof t->error, "%s%s", text, detail);
    return false;
}

/* --- the file --------------------------------------------------------------------------------- */

static void *map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Appends all that fd gives; the room doubles. */
static bool read_all(struct bs_trace *t, int fd) {
    size_t room = (size_t)1 << 20, len = 0;
    char *p = map(room);
    ssize_t got = p ? 1 : -1;

    while (got > 0) {
        if (len == room) {
            char *more = mremap(p, room, room * 2, MREMAP_MAYMOVE);
            if (more == MAP_FAILED)
                break;
            p = more;
            room *= 2;
        }
        got = read(fd, p + len, room - len);
        if (got < 0 && errno == EINTR)
            got = 1;
        else
            len += got > 0 ? (size_t)got : 0;
    }
    t->data = (uint8_t *)p;
    t->room = room;
    t->bytes = len;
    return got == 0 || refuse(t, "cannot be read: ", strerror(errno));
}

static bool read_unpacked(struct bs_trace *t, const char *path, const char *tool) {
    char *argv[] = {(char *)tool, (char *)"-dc", (char *)"--", (char *)path, NULL};
    /* no LD_PRELOAD: it is not the tool that is measured */
    char *env[] = {(char *)"PATH=/usr/local/bin:/usr/bin:/bin", NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], status = -1;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return refuse(t, "cannot be unpacked: ", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    int error = posix_spawnp(&pid, tool, &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    bool ok = error == 0        ? read_all(t, ends[0])
              : error == ENOENT ? refuse(t, "cannot be unpacked without this program, which is not in PATH: ", tool)
                                : refuse(t, "cannot be unpacked: ", strerror(error));
    close(ends[0]);
    if (error == 0 && waitpid(pid, &status, 0) == pid && status != 0 && ok)
        ok = refuse(t, "cannot be unpacked by ", tool);
    return ok;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static bool read_file(struct bs_trace *t, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return refuse(t, "cannot be opened: ", strerror(errno));
    bool ok = ends_with(path, ".xz")   ? read_unpacked(t, path, "xz")
              : ends_with(path, ".gz") ? read_unpacked(t, path, "gzip")
                                       : read_all(t, fd);
    close(fd);
    return ok;
}

/* --- decoding --------------------------------------------------------------------------------- */

static uint64_t get_le(const uint8_t *p, unsigned bytes) {
    uint64_t x = 0;
    while (bytes > 0)
        x = x << 8 | p[--bytes];
    return x;
}

/* A number of seven bits a byte, its `shift` low bits in *x already. False: cut or too long. */
static enum step get_number(struct bs_trace_reader *r, uint64_t *x, unsigned shift) {
    for (; r->at < r->trace->bytes; shift += 7) {
        uint8_t byte = r->trace->data[r->at++];
        if (shift > 63 || (uint64_t)(byte & 0x7f) << shift >> shift != (byte & 0x7f))
            return DAMAGED;
        *x |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return EVENT;
    }
    return CUT;
}

/* The operation and its value. */
static enum step get_op(struct bs_trace_reader *r, unsigned *op, uint64_t *value) {
    if (r->at >= r->trace->bytes)
        return END_OF_DATA;
    uint8_t byte = r->trace->data[r->at++];
    *op = byte & 7;
    *value = byte >> 3 & 15;
    return byte & 0x80 ? get_number(r, value, 4) : EVENT;
}

static enum step get_event(struct bs_trace_reader *r, unsigned op, uint64_t value,
                           struct bs_trace_event *e) {
    uint64_t extra = 0;
    enum step step = EVENT;

    if (op == BS_TRACE_REALLOC || op == BS_TRACE_ALIGNED)
        step = get_number(r, &extra, 0);
    if (step != EVENT)
        return step;
    *e = (struct bs_trace_event){.op = (enum bs_trace_op)op, .thread = r->thread, .ms = r->ms};
    if (op == BS_TRACE_FREE || op == BS_TRACE_REALLOC) {
        if (value >= r->next)
            return DAMAGED;
        e->block = r->next - 1 - value;
    }
    if (op == BS_TRACE_REALLOC && extra == 0)
        return DAMAGED; /* realloc to 0 bytes is a free */
    if (op == BS_TRACE_ALIGNED) {
        if (extra > 47)
            return DAMAGED;
        e->align_log2 = (unsigned)extra;
    }
    e->size = op == BS_TRACE_REALLOC ? extra : op == BS_TRACE_FREE ? 0 : value;
    if (op != BS_TRACE_FREE)
        e->made = r->next++;
    return e->size >> 47 ? DAMAGED : EVENT;
}

/* On EVENT one was read; r->at is behind it. */
static enum step step(struct bs_trace_reader *r, struct bs_trace_event *e) {
    while (true) {
        unsigned op;
        uint64_t value;
        enum step s = get_op(r, &op, &value);
        if (s != EVENT)
            return s;
        if (op == OP_THREAD && value < MAX_THREADS)
            r->thread = (unsigned)value;
        else if (op == OP_TIME)
            r->ms += value;
        else if (op == OP_END && value == 0)
            return ENDED;
        else if (op == OP_THREAD || op == OP_END)
            return DAMAGED;
        else
            return get_event(r, op, value, e);
    }
}

/* --- the first look --------------------------------------------------------------------------- */

static void count(struct bs_trace *t, const struct bs_trace_event *e, uint64_t old_size) {
    t->events++;
    t->calls[e->op]++;
    t->duration_ms = e->ms;
    if (e->thread >= t->threads)
        t->threads = e->thread + 1;
    if (e->op == BS_TRACE_FREE || e->op == BS_TRACE_REALLOC) {
        t->live--;
        t->live_bytes -= old_size;
    }
    if (e->op == BS_TRACE_FREE)
        return;
    unsigned bucket = e->size ? 64u - (unsigned)__builtin_clzll(e->size) : 0;
    t->sizes[bucket < BS_TRACE_SIZE_BUCKETS ? bucket : BS_TRACE_SIZE_BUCKETS - 1]++;
    t->blocks++;
    t->live++;
    t->live_bytes += e->size;
    if (e->size > t->largest)
        t->largest = e->size;
    if (t->live_bytes > t->peak_bytes)
        t->peak_bytes = t->live_bytes;
}

/* What the recorder counted, behind the END. */
static bool check_end(struct bs_trace *t, struct bs_trace_reader *r) {
    uint64_t said[4] = {0};
    for (unsigned i = 0; i < 4; i++)
        if (get_number(r, &said[i], 0) != EVENT)
            return true; /* cut in the last bytes: as if there were no end */
    if (said[0] != t->events || said[1] != t->blocks || said[2] != t->live)
        return refuse(t, "is damaged: its end counts other events than it has", "");
    if (r->at != t->bytes)
        return refuse(t, "is damaged: there is more behind its end", "");
    t->complete = true;
    t->unknown = said[3];
    return true;
}

/* size: room for the size of each block; FREED once it is gone. */
static bool look_through(struct bs_trace *t, uint64_t *size) {
    struct bs_trace_reader r;
    struct bs_trace_event e;
    enum step s;
    size_t whole = HEADER_BYTES;
    char place[64];

    bs_trace_begin(&r, t);
    while ((s = step(&r, &e)) == EVENT) {
        uint64_t old_size = 0;
        if (e.op == BS_TRACE_FREE || e.op == BS_TRACE_REALLOC) {
            old_size = size[e.block];
            size[e.block] = FREED;
        }
        if (old_size == FREED) {
            s = DAMAGED;
            break;
        }
        if (e.op != BS_TRACE_FREE)
            size[e.made] = e.size;
        count(t, &e, old_size);
        whole = r.at;
    }
    if (s == DAMAGED) {
        snprintf(place, sizeof place, "%zu", r.at);
        return refuse(t, "is damaged before byte ", place);
    }
    bool ok = s != ENDED || check_end(t, &r);
    t->bytes = whole;
    return ok;
}

static bool read_header(struct bs_trace *t) {
    char number[32];
    if (t->bytes < 8 || memcmp(t->data, "besomtrc", 8) != 0)
        return refuse(t, "is not a trace of besom's", "");
    if (t->bytes < HEADER_BYTES)
        return refuse(t, "ends within its header", "");
    snprintf(number, sizeof number, "%u", (unsigned)get_le(t->data + 8, 2));
    if (get_le(t->data + 8, 2) != FORMAT_VERSION)
        return refuse(t, "is a trace of another version: ", number);
    if (get_le(t->data + 10, 2) != HEADER_BYTES)
        return refuse(t, "is damaged: the length of its header is wrong", "");
    t->pid = (uint32_t)get_le(t->data + 12, 4);
    t->start_ms = get_le(t->data + 16, 8);
    memcpy(t->program, t->data + 24, 16);
    return true;
}

bool bs_trace_open(struct bs_trace *t, const char *path) {
    *t = (struct bs_trace){0};
    bool ok = read_file(t, path) && read_header(t);
    if (ok) {
        size_t room = t->bytes * sizeof(uint64_t); /* a block takes a byte at least */
        uint64_t *size = map(room);
        ok = size ? look_through(t, size) : refuse(t, "is too large for the memory there is", "");
        if (size)
            munmap(size, room);
    }
    return ok;
}

void bs_trace_close(struct bs_trace *t) {
    if (t->data)
        munmap((void *)t->data, t->room);
    t->data = NULL;
}

/* --- iteration -------------------------------------------------------------------------------- */

void bs_trace_begin(struct bs_trace_reader *r, const struct bs_trace *t) {
    *r = (struct bs_trace_reader){.trace = t, .at = HEADER_BYTES};
}

bool bs_trace_next(struct bs_trace_reader *r, struct bs_trace_event *e) {
    return step(r, e) == EVENT;
}
