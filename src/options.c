/* SPDX-License-Identifier: MIT */
/* options.c - see options.h. The table comes from options.def. */
#include "options.h"

#include "os.h"
#include "out.h"
#include "tunables.h"

#include <string.h>

enum kind { BOOL, ENUM, SET, NUM, LIMIT, BYTES, PATH };

/* Texts in the table and a place instead of pointers: each would be a relocation in every process. */
struct option {
    char name[24], words[64], unit[8]; /* "": none */
    uint8_t kind;
    uint16_t at; /* in bs_opt */
    uint64_t min, max;
};

static const struct option options[] = {
#define BS_OPT_BOOL(n, def, doc) {#n, "on|off", "", BOOL, offsetof(struct bs_opt, n), 0, 1},
#define BS_OPT_ENUM(n, def, w, doc) {#n, w, "", ENUM, offsetof(struct bs_opt, n), 0, 0},
#define BS_OPT_SET(n, def, w, doc) {#n, w, "", SET, offsetof(struct bs_opt, n), 0, 0},
#define BS_OPT_NUM(n, def, min, max, unit, doc) \
    {#n, "", unit, NUM, offsetof(struct bs_opt, n), min, max},
#define BS_OPT_LIMIT(n, def, doc) \
    {#n, "off|auto", "bytes", LIMIT, offsetof(struct bs_opt, n), BS_LIMIT_MIN_BYTES, 0},
#define BS_OPT_BYTES(n, def, w, min, doc) \
    {#n, w, "bytes", BYTES, offsetof(struct bs_opt, n), min, INT64_MAX},
#define BS_OPT_PATH(n, doc) {#n, "", "", PATH, offsetof(struct bs_opt, n), 0, BS_OPT_PATH_MAX - 1},
#include "options.def"
};

static void *value_of(const struct option *o) {
    return (char *)&bs_opt + o->at;
}

/* A piece of text that is not NUL-terminated. */
struct text {
    const char *s;
    size_t len;
};

static bool equals(struct text t, const char *word, size_t word_len) {
    return t.len == word_len && memcmp(t.s, word, word_len) == 0;
}

/* Copies for messages; long junk is cut, unprintable shown as ?. */
struct shown {
    char s[48];
};
static struct shown show(struct text t) {
    struct shown c;
    size_t n = bs_min(t.len, sizeof c.s - 1);
    for (size_t i = 0; i < n; i++) /* a message is one line, whatever the environment holds */
        c.s[i] = t.s[i] >= ' ' && t.s[i] <= '~' ? t.s[i] : '?';
    c.s[n] = '\0';
    return c;
}

/* --- the nearest known key -------------------------------------------------------------------- */

/* Levenshtein's distance; keys are short. */
static size_t distance(struct text a, const char *b) {
    size_t row[32], nb = strlen(b);
    if (a.len > 64 || nb >= BS_ARRAY_LEN(row))
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t change = diagonal + (a.s[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = bs_min(change, bs_min(row[j], row[j - 1]) + 1);
        }
    }
    return row[nb];
}

static void report_unknown(struct text key, const char *from) {
    const struct option *best = NULL;
    size_t best_distance = SIZE_MAX;
    for (size_t i = 0; i < BS_ARRAY_LEN(options); i++) {
        size_t d = distance(key, options[i].name);
        if (d < best_distance) {
            best_distance = d;
            best = &options[i];
        }
    }
    if (best != NULL && best_distance <= 1 + key.len / 3)
        bs_warn("unknown option \"%s\" in %s ignored; did you mean \"%s\"?", show(key).s, from,
                best->name);
    else
        bs_warn("unknown option \"%s\" in %s ignored; besom.conf(5) lists them", show(key).s, from);
}

/* --- values ----------------------------------------------------------------------------------- */

/* The index of the word in "a|b|c", or -1. */
static int word_index(const char *words, struct text t) {
    for (int i = 0;; i++) {
        size_t n = strcspn(words, "|");
        if (equals(t, words, n))
            return i;
        if (words[n] == '\0')
            return -1;
        words += n + 1;
    }
}

static bool parse_set(const struct option *o, struct text t) {
    unsigned bits = 0;
    if (equals(t, "none", 4)) {
        *(unsigned *)value_of(o) = 0;
        return true;
    }
    while (true) {
        size_t n = 0;
        while (n < t.len && t.s[n] != '+')
            n++;
        int i = word_index(o->words, (struct text){t.s, n});
        if (i < 0)
            return false;
        bits |= 1u << i;
        if (n == t.len)
            break;
        t.s += n + 1;
        t.len -= n + 1;
    }
    *(unsigned *)value_of(o) = bits;
    return true;
}

/* Suffixes a number may have, by the option's unit; the plain number is in that unit. */
static const struct {
    char unit[8], suffix[4];
    uint64_t factor;
} suffixes[] = {
    {"ms", "ms", 1}, {"ms", "s", 1000}, {"ms", "m", 60000}, {"ms", "h", 3600000},
    {"%", "%", 1},
    {"s", "s", 1},   {"s", "m", 60},    {"s", "h", 3600},
    {"bytes", "k", BS_KIB}, {"bytes", "K", BS_KIB}, {"bytes", "M", BS_MIB}, {"bytes", "G", BS_GIB}, {"bytes", "T", BS_GIB * 1024},
    {"bytes", "KiB", BS_KIB}, {"bytes", "MiB", BS_MIB}, {"bytes", "GiB", BS_GIB},
    {"bytes", "TiB", BS_GIB * 1024},
};

static bool parse_number(const struct option *o, struct text t, uint64_t *value) {
    uint64_t x = 0, factor = 1;
    size_t i = 0;
    for (; i < t.len && t.s[i] >= '0' && t.s[i] <= '9'; i++)
        if (__builtin_mul_overflow(x, 10, &x) ||
            __builtin_add_overflow(x, (uint64_t)(t.s[i] - '0'), &x))
            return false;
    if (i == 0)
        return false;
    if (i < t.len) {
        factor = 0;
        for (size_t k = 0; k < BS_ARRAY_LEN(suffixes); k++)
            if (strcmp(suffixes[k].unit, o->unit) == 0 &&
                equals((struct text){t.s + i, t.len - i}, suffixes[k].suffix,
                       strlen(suffixes[k].suffix)))
                factor = suffixes[k].factor;
    }
    if (factor == 0 || __builtin_mul_overflow(x, factor, &x) || x < o->min || x > o->max)
        return false;
    *value = x;
    return true;
}

/* off, auto, a number of bytes, or 1% ... 100%. */
static bool parse_limit(const struct option *o, struct text t) {
    struct bs_opt_limit limit;
    int i = word_index(o->words, t);
    bool percent = t.len != 0 && t.s[t.len - 1] == '%';
    struct option as = *o;
    memcpy(as.unit, percent ? "%" : "bytes", percent ? 2 : 6);
    as.min = percent ? 1 : o->min;
    as.max = percent ? 100 : INT64_MAX;
    limit.kind = i >= 0 ? (unsigned)i : percent ? BS_LIMIT_PERCENT : BS_LIMIT_BYTES;
    limit.value = 0;
    if (i < 0 && !parse_number(&as, t, &limit.value))
        return false;
    *(struct bs_opt_limit *)value_of(o) = limit;
    return true;
}

static bool parse(const struct option *o, struct text t) {
    int i;
    switch (o->kind) {
    case BOOL:
        i = word_index(o->words, t);
        if (i >= 0)
            *(bool *)value_of(o) = i == 0;
        return i >= 0;
    case ENUM:
        i = word_index(o->words, t);
        if (i >= 0)
            *(unsigned *)value_of(o) = (unsigned)i;
        return i >= 0;
    case SET:
        return parse_set(o, t);
    case NUM:
        return parse_number(o, t, value_of(o));
    case LIMIT:
        return parse_limit(o, t);
    case BYTES:
        i = word_index(o->words, t);
        if (i < 0)
            return parse_number(o, t, value_of(o));
        *(uint64_t *)value_of(o) = (uint64_t)i;
        return true;
    case PATH:
        if (t.len == 0 || t.len > o->max)
            return false;
        memcpy(value_of(o), t.s, t.len);
        ((char *)value_of(o))[t.len] = '\0';
        return true;
    }
    return false;
}

/* What a number may end in, other than the unit that the message names. */
static const char *other_suffixes(const struct option *o) {
    return strcmp(o->unit, "ms") == 0 ? ", or with s, m or h" : strcmp(o->unit, "s") == 0 ? ", or with m or h" : "";
}

static void report_bad(const struct option *o, struct text t, const char *from) {
    struct shown value = show(t);
    if (o->kind == NUM)
        bs_warn("option %s in %s: \"%s\" is not a whole number from %ju to %ju (%s%s); ignored", o->name,
                from, value.s, (uintmax_t)o->min, (uintmax_t)o->max, o->unit, other_suffixes(o));
    else if (o->kind == LIMIT)
        bs_warn("option %s in %s: \"%s\" is not off, auto, a size of 1M or more (suffixes K M G T) "
                "or 1%% to 100%%; ignored", o->name, from, value.s);
    else if (o->kind == BYTES)
        bs_warn("option %s in %s: \"%s\" is not off, all or a size of %ju bytes or more (suffixes K M "
                "G T); ignored", o->name, from, value.s, (uintmax_t)o->min);
    else if (o->kind == PATH)
        bs_warn("option %s in %s: a path of 1 to %ju characters is wanted; ignored", o->name, from,
                (uintmax_t)o->max);
    else
        bs_warn("option %s in %s: \"%s\" is not one of %s%s; ignored", o->name, from, value.s,
                o->words, o->kind == SET ? " joined by +, or none" : "");
}

bool bs_options_set(const char *key, size_t key_len, const char *value, size_t value_len,
                    const char *from) {
    struct text k = {key, key_len}, v = {value, value_len};
    for (size_t i = 0; i < BS_ARRAY_LEN(options); i++)
        if (equals(k, options[i].name, strlen(options[i].name))) {
            bool ok = parse(&options[i], v);
            if (!ok)
                report_bad(&options[i], v, from);
            return ok;
        }
    report_unknown(k, from);
    return false;
}

/* --- sources ---------------------------------------------------------------------------------- */

static BS_COLD void read_conf(const char *s) {
    while (*s != '\0') {
        size_t n = strcspn(s, ",");
        const char *colon = memchr(s, ':', n);
        if (colon != NULL)
            bs_options_set(s, (size_t)(colon - s), colon + 1, (size_t)(s + n - colon - 1),
                           "BESOM_CONF");
        else if (n != 0)
            bs_warn("\"%s\" in BESOM_CONF ignored: key:value is wanted",
                    show((struct text){s, n}).s);
        s += n + (s[n] == ',');
    }
}

/* BESOM_<KEY>=value; names that the launcher uses are not options. */
static BS_COLD void read_variable(const char *name, size_t len, const char *value) {
    char key[32], from[48] = "BESOM_";
    if (equals((struct text){name, len}, "CONF", 4) || equals((struct text){name, len}, "LIB", 3))
        return;
    size_t n = bs_min(len, sizeof key - 1);
    for (size_t i = 0; i < n; i++)
        key[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
    memcpy(from + 6, name, n);
    from[6 + n] = '\0';
    bs_options_set(key, n, value, strlen(value), from);
}

void bs_options_read(char *const *env) {
    if (bs_os_secure() || env == NULL)
        return;
    for (char *const *e = env; *e != NULL; e++)
        if (strncmp(*e, "BESOM_CONF=", 11) == 0)
            read_conf(*e + 11);
    for (char *const *e = env; *e != NULL; e++) {
        const char *equal = strchr(*e, '=');
        if (equal != NULL && strncmp(*e, "BESOM_", 6) == 0)
            read_variable(*e + 6, (size_t)(equal - *e) - 6, equal + 1);
    }
}
