/* SPDX-License-Identifier: MIT */
/* suppressions.c - see suppressions.h. What is wrong in a line is the library's to say. */
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

bool bs_suppressions_read(const char *path) {
    char *line = NULL, *rule;
    size_t cap = 0;
    ssize_t n;
    bool ok = true;
    FILE *in = fopen(path, "re");

    while (in != NULL && ok && (n = getline(&line, &cap, in)) >= 0) {
        while (n > 0 && strchr(" \t\r\n", line[n - 1]) != NULL) {
            line[--n] = '\0';
        }
        rule = line + strspn(line, " \t");
        if (strncmp(rule, "leak:", 5) == 0 && rule[5] != '\0') {
            ok = add(rule + 5);
        }
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
