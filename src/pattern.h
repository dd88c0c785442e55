/* SPDX-License-Identifier: MIT */
/*
 * pattern.h - the patterns of suppressions, for the library and for `besom symbolize`: a text is matched
 * if it has the pattern anywhere; * stands for any characters, ^ at the beginning and $ at the end bind it
 * to the ends of the text. No locks, no state.
 */
#ifndef BS_PATTERN_H
#define BS_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

/* [p, end) matches at s. The last star takes more when what follows does not fit. */
static inline bool bs_pattern_fits(const char *p, const char *end, const char *s) {
    const char *star = NULL, *from = s;
    for (;;) {
        if (p == end || (*p == '$' && p + 1 == end && *s == '\0'))
            return true;
        if (*p == '*') {
            star = ++p;
            from = s;
        } else if (*s != '\0' && *p == *s && !(*p == '$' && p + 1 == end)) {
            p++;
            s++;
        } else if (star != NULL && *from != '\0') {
            p = star;
            s = ++from;
        } else {
            return false;
        }
    }
}

static inline bool bs_pattern_matches(const char *pattern, size_t length, const char *text) {
    const char *end = pattern + length;
    if (length != 0 && *pattern == '^')
        return bs_pattern_fits(pattern + 1, end, text);
    do {
        if (bs_pattern_fits(pattern, end, text))
            return true;
    } while (*text++ != '\0');
    return false;
}

#endif
