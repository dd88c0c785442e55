/* SPDX-License-Identifier: MIT */
/*
 * out.h - text without malloc: formatting into a buffer, and the two ways besom speaks when the
 * log may not be there: a warning line on stderr and the fatal message.
 *
 * No lock, no allocation, no stdio, no errno: may be called anywhere, also from the background
 * thread. Knows %s %c %d %u %x %p %% with the length letters l, z, j(64 bit), and a width with 0.
 */
#ifndef BS_OUT_H
#define BS_OUT_H

#include "base.h"

#include <stdarg.h>

/* One line or record under construction. Text that does not fit is cut, and `cut` says so. */
struct bs_out {
    char *buf;
    size_t len, cap;
    bool cut;
};

void bs_out_init(struct bs_out *out, char *buf, size_t cap);
void bs_out_char(struct bs_out *out, char c);
void bs_out_str(struct bs_out *out, const char *s);
void bs_out_printf(struct bs_out *out, const char *fmt, ...) BS_PRINTF(2, 3);
void bs_out_vprintf(struct bs_out *out, const char *fmt, va_list ap);
/* A byte count for people: "1.5 MiB". */
void bs_out_size(struct bs_out *out, uint64_t bytes);
/* Nanoseconds since 1970 as "2026-11-27T09:12:33.042Z". */
void bs_out_utc(struct bs_out *out, uint64_t ns);
/* The text as a C string (a last NUL is always kept free). */
const char *bs_out_text(struct bs_out *out);

/* What a number of errno says of a file, with ": " before it; "" of others. */
const char *bs_out_error(int error);

/* "besom: ...\n" on stderr, in one write. */
void bs_warn(const char *fmt, ...) BS_PRINTF(1, 2);
/* The same, then SIGABRT. For crimes against the heap and for besom's own broken invariants. */
BS_COLD _Noreturn void bs_fatal(const char *fmt, ...) BS_PRINTF(1, 2);

#endif
