/* SPDX-License-Identifier: MIT */
/* variable.c - see variable.h. */
#include "variable.h"

#include "lines.h"

#include <string.h>

void bs_variable_begin(struct bs_variable *v, uintptr_t at) {
    *v = (struct bs_variable){.at = at};
    v->as.stack.n = 1;
    v->as.frame = at != 0 ? bs_stacks_frame(at) : 0;
}

static void find_in(struct bs_variable *v, const struct bs_mapping *m) {
    if (v->at < m->start || v->at >= m->end)
        return;
    v->is_first_stack = strcmp(m->name, "[stack]") == 0;
    v->offset = v->at - m->start + m->offset;
    strncpy(v->name, m->name, sizeof v->name - 1);
}

void bs_variables_find(struct bs_variable *const *v, size_t n) {
    struct bs_lines lines;
    struct bs_mapping m = {.start = 0};
    char line[256];
    if (!bs_lines_open_own(&lines, "maps"))
        return;
    while (bs_lines_next(&lines, line, sizeof line) && bs_lines_mapping(line, &m))
        for (size_t i = 0; i < n; i++)
            find_in(v[i], &m);
    bs_lines_close(&lines);
}
