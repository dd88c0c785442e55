/* SPDX-License-Identifier: MIT */
/*
 * utf8.h - which bytes are UTF-8, for the library and for `besom symbolize`: the names of files are any bytes, and
 * JSON is UTF-8. No locks, no state.
 */
#ifndef BS_UTF8_H
#define BS_UTF8_H

#include <stddef.h>

/* Bytes of the character that begins here; 0: none does. */
static inline size_t bs_utf8_bytes(const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    /* where the second byte lies: no long forms, no surrogates, nothing above 0x10ffff */
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4 || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

#endif
