/* SPDX-License-Identifier: MIT */
/* budget.c - see budget.h. */
#include "budget.h"

#include "limit.h"
#include "lines.h"
#include "os.h"
#include "out.h"
#include "round.h"
#include "tunables.h"

size_t bs_budget_from(struct bs_opt_limit option, size_t bytes) {
    switch (option.kind) {
    case BS_LIMIT_BYTES:
        return option.value;
    case BS_LIMIT_PERCENT:
        return bytes / 100 * option.value;
    case BS_LIMIT_AUTO:
        return bs_max(bytes / BS_BUDGET_AUTO_PART, BS_BUDGET_AUTO_MIN_BYTES);
    default:
        return SIZE_MAX;
    }
}

/* Bytes in pages that the process has for itself, also of those that it has written; 0: the kernel does not
 * say. pid 0: the caller's own. */
static size_t own_bytes_of(int pid) {
    struct bs_lines lines;
    struct bs_out out;
    char path[48], line[96];
    size_t own = 0;
    bs_out_init(&out, path, sizeof path);
    if (pid != 0)
        bs_out_printf(&out, "/proc/%d/smaps_rollup", pid);
    else
        bs_out_printf(&out, "/proc/self/smaps_rollup");
    if (!bs_lines_open(&lines, bs_out_text(&out)))
        return 0;
    while (bs_lines_next(&lines, line, sizeof line))
        own += bs_lines_kib(line, "Private_Clean:") + bs_lines_kib(line, "Private_Dirty:");
    bs_lines_close(&lines);
    return own;
}

/* Each of its faults made at most one page its own. */
size_t bs_budget_copied_bytes(void) {
    uint64_t minor = 0, major = 0;
    size_t own = own_bytes_of(0);
    bs_os_faults(&minor, &major);
    return bs_sub_clamped(own, minor * bs_os_page_size());
}

void bs_budget_begin(struct bs_budget *b, int pid, size_t most_bytes) {
    *b = (struct bs_budget){.pid = pid, .most_bytes = most_bytes};
}

static bool memory_is_short(struct bs_budget *b, uint64_t now_ns) {
    if (now_ns >= b->next_limits_ns) {
        b->next_limits_ns = now_ns + BS_BUDGET_LIMITS_NS;
        if (!b->in_round)
            bs_round_enter();
        bs_limit_look_again();
        bs_limit_look(now_ns);
        if (!b->in_round)
            bs_round_leave();
    }
    return bs_limit_pressure() == BS_PRESSURE_OVER || bs_limit_stalls();
}

static bool copied_too_much(struct bs_budget *b, uint64_t now_ns) {
    if (b->most_bytes == SIZE_MAX || now_ns < b->next_look_ns)
        return false;
    b->own_bytes = own_bytes_of(b->pid);
    uint64_t after = bs_os_now_ns();
    b->next_look_ns = after + bs_max((after - now_ns) * BS_BUDGET_REST, BS_BUDGET_LOOK_NS);
    return b->own_bytes > b->most_bytes;
}

bool bs_budget_is_over(void *budget) {
    struct bs_budget *b = budget;
    uint64_t now = bs_os_now_ns();
    if (!b->in_round && bs_os_is_helper()) /* who only waits has nothing in its hands: the program may want to fork */
        bs_round_helper_gives_way();
    if (b->next_look_ns == 0) { /* most copies have ended by the first look */
        b->next_look_ns = now + BS_BUDGET_LOOK_NS;
        b->next_limits_ns = now + BS_BUDGET_LIMITS_NS;
    }
    if (b->quit != NULL && bs_load(b->quit) != 0)
        b->end = BS_BUDGET_QUIT;
    else if (memory_is_short(b, now))
        b->end = BS_BUDGET_MEMORY;
    else if (copied_too_much(b, now))
        b->end = BS_BUDGET_COPIED;
    return b->end != BS_BUDGET_KEPT;
}
