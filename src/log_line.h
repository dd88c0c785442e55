/* SPDX-License-Identifier: MIT */
/*
 * log_line.h - one line of the log: both forms, text and JSON, come from one list of fields, so they
 * cannot drift apart. For log.c and log_*.c; where the line goes is sink.c's matter.
 *
 * No lock of its own: a line is its thread's. Where it goes there is one (sink.h).
 */
#ifndef BS_LOG_LINE_H
#define BS_LOG_LINE_H

#include "out.h"

#define BS_LINE_CAP 4096

struct bs_stack;
struct bs_variable;

/* A line under construction. Its text lies in memory that is mapped for the moment: the thread may have a stack of
 * 16 KiB, and be in free(). */
struct bs_line {
    struct bs_out out;
    bool json;
    char *buf; /* BS_LINE_CAP bytes; NULL: there are none, and the line is lost */
};

void bs_line_begin(struct bs_line *l, const char *event);
void bs_line_number(struct bs_line *l, const char *name, uint64_t x);
void bs_line_signed(struct bs_line *l, const char *name, int64_t x);
/* Bytes, raw first; text adds the human form where that says more. */
void bs_line_bytes(struct bs_line *l, const char *name, uint64_t x);
void bs_line_string(struct bs_line *l, const char *name, const char *s);
void bs_line_address(struct bs_line *l, const char *name, uintptr_t x);
/* Which mapping it lies in, and where. */
void bs_line_mapping(struct bs_line *l, const struct bs_variable *v);
void bs_line_frames(struct bs_line *l, const char *name, const struct bs_stack *s);
/* Of text, since JSON has one in each line: the time of day, behind all numbers of a line that says what has just
 * happened. */
void bs_line_time(struct bs_line *l);
void bs_line_end(struct bs_line *l);

/* Lines of the modules that the stacks lie in, which come before these. */
void bs_line_modules(struct bs_stack *const *stack, size_t n);

#endif
