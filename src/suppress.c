/* SPDX-License-Identifier: MIT */
/* suppress.c - see suppress.h. The text of the file stays in a mapping of metadata; rules point into it. */
#include "suppress.h"

#include "meta.h"
#include "opt.h"
#include "os.h"
#include "out.h"
#include "pattern.h"
#include "stacks.h"

#include <string.h>

#define FILE_MAX_BYTES (64 * BS_KIB)
#define ID_MIN_BYTES 4

enum kind { MODULE, FRAME };

struct rule {
    enum kind kind;
    unsigned line;
    const char *text, *pattern; /* both end with NUL */
    uint8_t id_bytes, id[BS_BUILD_ID_MAX];
    uint64_t offset;
};

static struct { /* [init] */
    struct rule *rule;
    unsigned n;
} rules;

/* --- the file --------------------------------------------------------------------------------- */

static int digit_of(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* "BUILD-ID+0xHEX" */
static bool parse_frame(const char *s, struct rule *r) {
    for (; digit_of(s[0]) >= 0; s += 2) {
        if (digit_of(s[1]) < 0 || r->id_bytes == sizeof r->id)
            return false;
        r->id[r->id_bytes++] = (uint8_t)(digit_of(s[0]) << 4 | digit_of(s[1]));
    }
    if (r->id_bytes < ID_MIN_BYTES || s[0] != '+' || s[1] != '0' || s[2] != 'x' || s[3] == '\0')
        return false;
    for (s += 3; digit_of(*s) >= 0; s++)
        r->offset = r->offset << 4 | (uint64_t)digit_of(*s);
    return *s == '\0';
}

/* What is wrong with the line, or NULL. */
static const char *parse_rule(const char *s, struct rule *r) {
    static const char *const kinds[] = {"leak:", "module:", "frame:"};
    r->text = s;
    for (unsigned i = 0; i < BS_ARRAY_LEN(kinds); i++) {
        if (strncmp(s, kinds[i], strlen(kinds[i])) != 0)
            continue;
        r->pattern = s + strlen(kinds[i]);
        r->kind = i < 2 ? MODULE : FRAME;
        if (*r->pattern == '\0')
            return "nothing behind the colon";
        if (r->kind == FRAME && !parse_frame(r->pattern, r))
            return "frame: wants BUILD-ID+0xOFFSET, with 8 digits of the build-id or more";
        return NULL;
    }
    return "leak:PATTERN, module:PATTERN or frame:BUILD-ID+0xOFFSET is wanted";
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

/* The line without blanks at its ends; NULL: there is nothing in it. */
static const char *trim(char *s) {
    size_t n = strlen(s);
    while (n != 0 && is_blank(s[n - 1]))
        s[--n] = '\0';
    while (is_blank(*s))
        s++;
    return *s == '\0' || *s == '#' ? NULL : s;
}

static void read_line(char *s, unsigned line) {
    const char *text = trim(s);
    if (text == NULL)
        return;
    struct rule r = {.line = line};
    const char *wrong = rules.n == BS_SUPPRESS_RULES ? "too many rules" : parse_rule(text, &r);
    if (wrong != NULL)
        bs_warn("leak_suppressions: %s:%u: \"%s\" ignored: %s", bs_opt.leak_suppressions, line, text,
                wrong);
    else
        rules.rule[rules.n++] = r;
}

static void read_lines(char *text) {
    for (unsigned line = 1; text != NULL; line++) {
        char *end = strchr(text, '\n');
        if (end != NULL)
            *end++ = '\0';
        read_line(text, line);
        text = end;
    }
}

/* Bytes, or a negated errno. A byte more than there may be is asked for. */
static long read_file(char *text) {
    long n = 0, got;
    int fd = bs_os_open_read(bs_opt.leak_suppressions);
    if (fd < 0)
        return fd;
    while ((got = bs_os_read(fd, text + n, FILE_MAX_BYTES - (size_t)n)) > 0)
        n += got;
    bs_os_close(fd);
    return got < 0 ? got : n;
}

void bs_suppress_start(void) {
    if (bs_opt.leak_suppressions[0] == '\0')
        return;
    char *text = bs_meta_map(FILE_MAX_BYTES);
    rules.rule = bs_meta_map(BS_SUPPRESS_RULES * sizeof *rules.rule);
    if (text == NULL || rules.rule == NULL) {
        bs_warn("leak_suppressions: no memory; nothing is suppressed");
        return;
    }
    long n = read_file(text);
    if (n < 0)
        bs_warn("leak_suppressions: \"%s\" cannot be read (error %ld%s); nothing is suppressed",
                bs_opt.leak_suppressions, -n, bs_out_error((int)-n));
    else if (n == (long)FILE_MAX_BYTES)
        bs_warn("leak_suppressions: \"%s\" has 64 KiB or more; nothing is suppressed",
                bs_opt.leak_suppressions);
    else if (memchr(text, '\0', (size_t)n) != NULL)
        bs_warn("leak_suppressions: \"%s\" is no text (it has NUL bytes); nothing is suppressed",
                bs_opt.leak_suppressions);
    else
        read_lines(text);
}

/* --- stacks ----------------------------------------------------------------------------------- */

static bool matches(const struct rule *r, const struct bs_module *m, uint64_t frame) {
    if (r->kind == MODULE)
        return bs_pattern_matches(r->pattern, strlen(r->pattern), m->path);
    return r->offset == BS_FRAME_OFFSET(frame) && r->id_bytes <= m->id_bytes &&
           memcmp(r->id, m->id, r->id_bytes) == 0;
}

int bs_suppress_find(const struct bs_stack *stack) {
    for (unsigned n = 0; n < rules.n; n++)
        for (uint32_t i = 0; i < stack->n; i++) {
            const struct bs_module *m = bs_stacks_known(BS_FRAME_MODULE(stack->frame[i]));
            if (m != NULL && matches(&rules.rule[n], m, stack->frame[i]))
                return (int)n;
        }
    return -1;
}

const char *bs_suppress_rule(unsigned number, unsigned *line) {
    if (number >= rules.n)
        return NULL;
    *line = rules.rule[number].line;
    return rules.rule[number].text;
}
