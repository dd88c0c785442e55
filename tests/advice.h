/* SPDX-License-Identifier: MIT */
/*
 * advice.h - what a mapping was advised, by the kernel's own word: VmFlags in /proc/self/smaps. It allocates nothing,
 * as count_mappings does not (unit.h).
 */
#ifndef BS_TESTS_ADVICE_H
#define BS_TESTS_ADVICE_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A line of smaps: that of a mapping tells whether it holds p, and one of flags is kept from the one that does. */
static inline void advice_read_line(const char *line, uintptr_t p, bool *inside, char flags[256]) {
    char *end;
    uintptr_t base = strtoul(line, &end, 16);
    if (*end == '-')
        *inside = p >= base && p < strtoul(end + 1, NULL, 16);
    else if (*inside && strncmp(line, "VmFlags:", 8) == 0)
        strcpy(flags, line + 8);
}

/* The flags of the mapping that holds p, of two letters each, behind a space each; "": there is none. */
static inline void advice_read(uintptr_t p, char flags[256]) {
    static char text[16384];
    char line[256];
    size_t len = 0;
    bool inside = false;
    int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
    flags[0] = '\0';
    for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] != '\n') {
                line[len] = text[i];
                len += len < sizeof line - 1;
                continue;
            }
            line[len] = '\0';
            len = 0;
            advice_read_line(line, p, &inside, flags);
        }
    close(fd);
}

static inline bool advice_has_flag(uintptr_t p, const char *flag) {
    char flags[256];
    advice_read(p, flags);
    return strstr(flags, flag) != NULL;
}

/* The advice about huge pages of the mapping that holds p: 'n'o, 'h'uge, or '-'; '?': there is none. */
static inline char advice_at(uintptr_t p) {
    char flags[256];
    advice_read(p, flags);
    return strstr(flags, " nh") != NULL ? 'n' : strstr(flags, " hg") != NULL ? 'h' : flags[0] != '\0' ? '-' : '?';
}

#endif
