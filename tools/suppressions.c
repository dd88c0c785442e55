/* SPDX-License-Identifier: MIT */
/* suppressions.c - see suppressions.h. What is wrong in rules that are the library's alone, it says itself. */
#include "suppressions.h"
#include "pattern.h"
#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char **patterns;
static size_t npatterns;

static bool add(const char *pattern) {
    char **more = realloc(patterns, (npatterns + 1) * sizeof(*patterns));

    if (more == NULL) {
        return false;
    }
    patterns = more;
    patterns[npatterns] = strdup(pattern);
    return patterns[npatterns] != NULL && ++npatterns > 0;
}

/* False: there is no memory. */
static bool take(const char *path, unsigned number, const char *rule) {
    if (rule[0] == '\0' || rule[0] == '#' || strncmp(rule, "module:", 7) == 0 || strncmp(rule, "frame:", 6) == 0) {
        return true;
    }
    if (strncmp(rule, "leak:", 5) == 0 && rule[5] != '\0') {
        return add(rule + 5);
    }
    fprintf(stderr, "besom: symbolize: %s:%u: '%s' ignored: leak:PATTERN is wanted\n", path, number, rule);
    return true;
}

bool bs_suppressions_read(const char *path) {
    char *line = NULL;
    size_t cap = 0;
    unsigned number = 0;
    ssize_t n;
    bool ok = true;
    FILE *in = fopen(path, "re");

    while (in != NULL && ok && (n = getline(&line, &cap, in)) >= 0) {
        while (n > 0 && strchr(" \t\r\n", line[n - 1]) != NULL) {
            line[--n] = '\0';
        }
        ok = take(path, ++number, line + strspn(line, " \t"));
    }
    ok = ok && in != NULL && !ferror(in);
    if (!ok) {
        fprintf(stderr, "besom: symbolize: cannot read '%s': %s\n", path, strerror(errno));
    }
    free(line);
    if (in != NULL) {
        fclose(in);
    }
    return ok;
}

bool bs_suppressions_any(void) {
    return npatterns != 0;
}

bool bs_suppressions_match(const char *name) {
    for (size_t i = 0; name != NULL && i < npatterns; i++) {
        if (bs_pattern_matches(patterns[i], strlen(patterns[i]), name)) {
            return true;
        }
    }
    return false;
}
