/* SPDX-License-Identifier: MIT */
/*
 * out.c - see out.h. The formatter is small on purpose: what it does not know it prints as it
 * stands, so that a wrong format is seen and never read wildly.
 */
#include "out.h"

#include "os.h"

#include <errno.h>
#include <string.h>

#define LINE_MAX_BYTES 1024

void bs_out_init(struct bs_out *out, char *buf, size_t cap) {
    out->buf = buf;
    out->cap = cap;
    out->len = 0;
    out->cut = false;
}

void bs_out_char(struct bs_out *out, char c) {
    if (out->len + 1 < out->cap)
        out->buf[out->len++] = c;
    else
        out->cut = true;
}

void bs_out_str(struct bs_out *out, const char *s) {
    for (; *s != '\0'; s++)
        bs_out_char(out, *s);
}

const char *bs_out_text(struct bs_out *out) {
    out->buf[out->len] = '\0';
    return out->buf;
}

struct spec {
    unsigned width;
    bool zero;
    int lengths; /* count of l/z/j letters: 0 is int, else 64 bits */
};

static void number(struct bs_out *out, uint64_t x, unsigned base, bool negative, struct spec s) {
    char digits[24];
    unsigned n = 0;
    do
        digits[n++] = "0123456789abcdef"[x % base];
    while ((x /= base) != 0);
    if (negative && !s.zero)
        digits[n++] = '-';
    else if (negative)
        bs_out_char(out, '-');
    if (negative && s.zero && s.width != 0)
        s.width--; /* the sign is part of it */
    for (unsigned i = n; i < s.width; i++)
        bs_out_char(out, s.zero ? '0' : ' ');
    while (n > 0)
        bs_out_char(out, digits[--n]);
}

static void signed_number(struct bs_out *out, int64_t x, struct spec s) {
    number(out, x < 0 ? 0 - (uint64_t)x : (uint64_t)x, 10, x < 0, s);
}

/* Prints the conversion at *fmt, reading its argument; the pointer past the conversion. */
static const char *conversion(struct bs_out *out, const char *fmt, va_list *ap) {
    struct spec s = {0};
    const char *p = fmt;
    s.zero = *p == '0';
    for (; *p >= '0' && *p <= '9'; p++)
        s.width = s.width * 10 + (unsigned)(*p - '0');
    for (; *p == 'l' || *p == 'z' || *p == 'j'; p++)
        s.lengths++;
    switch (*p) {
    case 's': {
        const char *str = va_arg(*ap, const char *);
        bs_out_str(out, str != NULL ? str : "(null)");
        break;
    }
    case 'c':
        bs_out_char(out, (char)va_arg(*ap, int));
        break;
    case 'd':
        signed_number(out, s.lengths ? va_arg(*ap, int64_t) : va_arg(*ap, int), s);
        break;
    case 'u':
    case 'x': {
        uint64_t x = s.lengths ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned);
        number(out, x, *p == 'u' ? 10 : 16, false, s);
        break;
    }
    case 'p':
        bs_out_str(out, "0x");
        number(out, (uintptr_t)va_arg(*ap, void *), 16, false, s);
        break;
    case '%':
        bs_out_char(out, '%');
        break;
    default: /* unknown: shown, and nothing is read for it */
        bs_out_char(out, '%');
        return fmt;
    }
    return p + 1;
}

void bs_out_vprintf(struct bs_out *out, const char *fmt, va_list ap) {
    va_list args;
    va_copy(args, ap);
    while (*fmt != '\0') {
        if (*fmt == '%')
            fmt = conversion(out, fmt + 1, &args);
        else
            bs_out_char(out, *fmt++);
    }
    va_end(args);
}

void bs_out_printf(struct bs_out *out, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    bs_out_vprintf(out, fmt, ap);
    va_end(ap);
}

void bs_out_size(struct bs_out *out, uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned u = 0;
    uint64_t whole = bytes, tenths = 0;
    while (whole >= 1024 && u + 1 < BS_ARRAY_LEN(units)) {
        tenths = whole % 1024 * 10 / 1024;
        whole /= 1024;
        u++;
    }
    if (u == 0)
        bs_out_printf(out, "%ju %s", (uintmax_t)whole, units[u]);
    else
        bs_out_printf(out, "%ju.%ju %s", (uintmax_t)whole, (uintmax_t)tenths, units[u]);
}

/* (libc's would ask for the time zone, with locks and files.) Years begin in March, so that a leap day is the last one; every 400
 * of them have 146097 days. */
void bs_out_utc(struct bs_out *out, uint64_t ns) {
    uint64_t s = ns / 1000000000u, day = s / 86400 + 719468; /* since 1 March of the year 0 */
    unsigned of_era = (unsigned)(day % 146097);
    unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    unsigned of_month = of_year - (153 * month + 2) / 5 + 1;
    year += (unsigned)(day / 146097) * 400 + (month >= 10);
    bs_out_printf(out, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", year, month < 10 ? month + 3 : month - 9, of_month,
                  (unsigned)(s / 3600 % 24), (unsigned)(s / 60 % 60), (unsigned)(s % 60), (unsigned)(ns / 1000000u % 1000));
}

static void line_to_stderr(const char *fmt, va_list ap, bool last) {
    char buf[LINE_MAX_BYTES];
    struct bs_out out;
    bs_out_init(&out, buf, sizeof buf - 1); /* room for the newline */
    bs_out_str(&out, "besom: ");
    bs_out_vprintf(&out, fmt, ap);
    buf[out.len++] = '\n';
    bs_os_write_stderr(buf, out.len, last);
}

/* libc's strerror may allocate, and speaks the program's language. (Texts in the table: a pointer to each would be a
 * relocation in every process.) */
BS_COLD const char *bs_out_error(int error) {
    static const struct {
        unsigned char number;
        char text[32];
    } known[] = {
        {EACCES, ": permission denied"},   {EDQUOT, ": quota exceeded"},
        {EFBIG, ": file too large"},       {EIO, ": input/output error"},
        {EISDIR, ": it is a folder"},      {ELOOP, ": too many symbolic links"},
        {EMFILE, ": too many open files"}, {ENAMETOOLONG, ": name too long"},
        {ENFILE, ": too many open files"}, {ENOENT, ": no such file or folder"},
        {ENOMEM, ": out of memory"},       {ENOSPC, ": no space left"},
        {ENOTDIR, ": not in a folder"},    {ENXIO, ": nobody reads it"},
        {EPERM, ": not permitted"},        {EROFS, ": read-only file system"},
    };
    for (size_t i = 0; i < BS_ARRAY_LEN(known); i++)
        if (known[i].number == error)
            return known[i].text;
    return "";
}

void bs_warn(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    line_to_stderr(fmt, ap, false);
    va_end(ap);
}

void bs_fatal(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    line_to_stderr(fmt, ap, true);
    va_end(ap);
    bs_os_abort();
}

void bs_assert_failed(const char *what, const char *file, int line) {
    const char *name = strrchr(file, '/');
    bs_fatal("broken invariant: %s (%s:%d); please report it", what, name != NULL ? name + 1 : file,
             line);
}
