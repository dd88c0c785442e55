/* SPDX-License-Identifier: MIT */
/*
 * trace.h - reads what `besom run -o record:FILE` wrote. The format stands in besom.conf(5).
 *
 * A trace is read whole into a mapping and looked through once: what bs_trace_open accepts can be
 * iterated without an error. It calls no malloc, so that it can share a process with what is
 * measured; a compressed file (.xz, .gz) comes through a pipe from the program of that name.
 *
 * It is NOT the player (replay.c is). Nothing here prints; one thread at a time for each struct.
 */
#ifndef BS_TRACE_H
#define BS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bs_trace_op {
    BS_TRACE_FREE,
    BS_TRACE_MALLOC,
    BS_TRACE_CALLOC,
    BS_TRACE_REALLOC,
    BS_TRACE_ALIGNED,
};

struct bs_trace_event {
    enum bs_trace_op op;
    unsigned thread;     /* 0 is the first that called */
    unsigned align_log2; /* ALIGNED */
    uint64_t block;      /* FREE, REALLOC: the block that goes, numbered as it was made */
    uint64_t made;       /* all but FREE: the number of the block that comes */
    uint64_t size;       /* all but FREE: bytes asked for */
    uint64_t ms;         /* since the beginning */
};

#define BS_TRACE_SIZE_BUCKETS 48

struct bs_trace {
    const uint8_t *data; /* the whole file, header included */
    size_t bytes;        /* of it that are whole events */
    size_t room;         /* of the mapping */
    char program[17];
    uint32_t pid;
    uint64_t start_ms;  /* since 1970 */
    bool complete;      /* the program's end is in it */
    uint64_t unknown;   /* frees of blocks that were made before the recording; 0 if not complete */
    uint64_t events, blocks, live, duration_ms;
    uint64_t calls[BS_TRACE_ALIGNED + 1];
    uint64_t live_bytes, peak_bytes, largest; /* sizes asked for */
    unsigned threads;
    uint64_t sizes[BS_TRACE_SIZE_BUCKETS]; /* blocks by size: [0] of 0 bytes, [i] below 2^i */
    char error[256];
};

/* False: `error` says what is wrong with the file, without its name. */
bool bs_trace_open(struct bs_trace *trace, const char *path);
void bs_trace_close(struct bs_trace *trace);

struct bs_trace_reader {
    const struct bs_trace *trace;
    size_t at;
    uint64_t next, ms;
    unsigned thread;
};

void bs_trace_begin(struct bs_trace_reader *reader, const struct bs_trace *trace);
/* The next event; false: there is none. */
bool bs_trace_next(struct bs_trace_reader *reader, struct bs_trace_event *event);

#endif
