/* SPDX-License-Identifier: MIT */
/*
 * symbolize.c -- `besom symbolize [-d DIR] [-s FILE] [FILE...]`: prints a log of besom's with the
 * function, file and line of each frame. Text lines are followed by a line for each frame; JSON lines get a
 * member "symbols", and "alloc_symbols" where there are two stacks. All other lines pass as they are, so
 * anything may be mixed in. Leaks and dangling pointers whose names a rule of -s matches are left out, and
 * counted on stderr.
 *
 * It reads what src/log.c writes, not JSON and text in general. The modules that frames name stand in
 * the log before them, by process. No threads.
 */
#include "symbolize.h"
#include "run.h"
#include "suppressions.h"
#include "symbols.h"
#include "utf8.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct module {
    struct module *next;
    long pid;
    unsigned long number;
    char *path, *build_id;
    struct bs_symbols *symbols; /* NULL: not opened yet */
};

static struct module *modules;
static FILE *out;          /* stdout, or the text of one leak */
static unsigned long nsuppressed;

static void *needed(void *p) {
    if (p == NULL) {
        fputs("besom: symbolize: no memory\n", stderr);
        exit(BS_EXIT_LAUNCHER);
    }
    return p;
}

static struct module *find_module(long pid, unsigned long number) {
    struct module *m = modules;

    while (m != NULL && (m->pid != pid || m->number != number)) {
        m = m->next;
    }
    return m;
}

/* The newest line about a module counts: a pid may come again in a log that is appended to. */
static void note_module(long pid, unsigned long number, const char *build_id, const char *path) {
    struct module *m = find_module(pid, number);

    if (m != NULL && strcmp(m->build_id, build_id) == 0 && strcmp(m->path, path) == 0) {
        return;
    }
    if (m == NULL) {
        m = needed(calloc(1, sizeof(*m)));
        m->next = modules;
        m->pid = pid;
        m->number = number;
        modules = m;
    } else {
        free(m->path);
        free(m->build_id);
        m->symbols = NULL; /* may be another module's by now: kept open */
    }
    m->path = needed(strdup(path));
    m->build_id = needed(strdup(build_id));
}

/* The same file of several processes, or reports, is opened once. */
static struct bs_symbols *symbols_of(struct module *m) {
    for (struct module *o = modules; o != NULL && m->symbols == NULL; o = o->next) {
        if (o->symbols != NULL && strcmp(o->path, m->path) == 0 &&
            strcmp(o->build_id, m->build_id) == 0) {
            m->symbols = o->symbols;
        }
    }
    if (m->symbols == NULL) {
        m->symbols = bs_symbols_open(m->path, m->build_id);
    }
    return m->symbols;
}

/* --- one frame -------------------------------------------------------------------------------- */

struct frame {
    bool json;
    unsigned index; /* of the calls printed so far */
    const char *text;
    const char *module;
    uint64_t offset;
    bool suppressed;
};

static void print_json_string(const char *s) {
    fputc('"', out);
    for (size_t n; *s != '\0'; s += n != 0 ? n : 1) {
        n = bs_utf8_bytes(s);
        if (n == 0) { /* as the log has it */
            fprintf(out, "\\udc%02x", (unsigned)(unsigned char)*s);
        } else if (*s == '"' || *s == '\\' || (n == 1 && *s < 0x20)) {
            fprintf(out, "\\u%04x", (unsigned)*s);
        } else {
            fwrite(s, 1, n, out);
        }
    }
    fputc('"', out);
}

static void print_json(const struct frame *f, const char *function, const char *file, int line,
                       bool inlined) {
    fprintf(out, "%s{\"frame\":\"%s\"", f->index == 0 ? "" : ",", f->text);
    if (f->module != NULL) {
        fputs(",\"module\":", out);
        print_json_string(f->module);
    }
    if (function != NULL) {
        fputs(",\"function\":", out);
        print_json_string(function);
        fprintf(out, ",\"inlined\":%s", inlined ? "true" : "false");
    }
    if (file != NULL) {
        fputs(",\"file\":", out);
        print_json_string(file);
        fprintf(out, ",\"line\":%d", line);
    }
    fputc('}', out);
}

static void print_text(const struct frame *f, const char *function, const char *file, int line,
                       bool inlined) {
    fprintf(out, "    #%-2u %s", f->index, function != NULL ? function : "??");
    if (file != NULL) {
        fprintf(out, " at %s:%d", file, line);
    }
    if (inlined) {
        fputs(" (inlined)\n", out);
    } else if (f->module != NULL) {
        fprintf(out, " (%s+0x%" PRIx64 ")\n", f->module, f->offset);
    } else {
        fprintf(out, " (0x%" PRIx64 ", in no module)\n", f->offset);
    }
}

static void found(void *ctx, const char *function, const char *file, int line, bool inlined) {
    struct frame *f = ctx;

    f->suppressed = f->suppressed || bs_suppressions_match(function) || bs_suppressions_match(file);
    (f->json ? print_json : print_text)(f, function, file, line, inlined);
    f->index++;
}

/* text: "1+0x123". */
static void print_frame(struct frame *f, long pid, const char *text) {
    char *plus;
    unsigned long number = strtoul(text, &plus, 10);
    struct module *m = find_module(pid, number);

    f->text = text;
    f->offset = *plus == '+' ? strtoull(plus + 1, NULL, 16) : 0;
    f->module = m != NULL ? m->path : NULL;
    if (m == NULL || !bs_symbols_find(symbols_of(m), f->offset, found, f)) {
        found(f, NULL, NULL, 0, false);
    }
}

/* Each word of digits, "+0x" and hexadecimal digits is a frame; another word is the next field's name. */
static void print_frames(struct frame *f, long pid, const char *s) {
    while (*s != '\0' && *s != ']' && !isalpha((unsigned char)*s)) {
        size_t n = strspn(s, "0123456789abcdefx+");
        char text[64];
        if (n > 0 && n < sizeof(text)) {
            memcpy(text, s, n);
            text[n] = '\0';
            print_frame(f, pid, text);
        }
        s += n > 0 ? n : 1;
    }
}

/* --- lines ------------------------------------------------------------------------------------ */

/* What follows the word in the line, or NULL. */
static const char *after(const char *line, const char *word) {
    const char *at = strstr(line, word);

    return at != NULL ? at + strlen(word) : NULL;
}

/* The string up to the character `end`, with \u00xx and \udcxx (a byte that is no UTF-8) read. To be freed. */
static char *string_to(const char *s, char end) {
    char *copy = needed(malloc(strlen(s) + 1)), *to = copy;
    unsigned code;

    while (*s != '\0' && *s != end) {
        if (end == '"' && sscanf(s, "\\u%4x", &code) == 1) {
            *to++ = (char)code;
            s += 6;
        } else {
            *to++ = *s++;
        }
    }
    *to = '\0';
    return copy;
}

static void note_line(long pid, const char *number, const char *id, const char *path, char end,
                      char path_end) {
    if (number == NULL || id == NULL || path == NULL) {
        return;
    }
    char *build_id = string_to(id, end), *name = string_to(path, path_end);
    note_module(pid, strtoul(number, NULL, 10), build_id, name);
    free(build_id);
    free(name);
}

static bool is_event(const char *line, const char *event) {
    char text[64], json[64];

    snprintf(text, sizeof(text), "] %s: ", event);
    snprintf(json, sizeof(json), "\"event\":\"%s\"", event);
    return strstr(line, text) != NULL || strstr(line, json) != NULL;
}
static bool is_leak(const char *line) {
    return is_event(line, "leak") || is_event(line, "leak_possible");
}

/* Its frames are to be named. */
static bool is_stack(const char *line) {
    static const char *const events[] = {"stack", "dangling", "dangling_from", "owner", "owned", "owned_by"};

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (is_event(line, events[i])) {
            return true;
        }
    }
    return is_leak(line);
}

/* What was suppressed takes the lines with it that say where its pointers are. */
static bool is_suppressed(const char *line, const struct frame *f, long pid) {
    static struct {
        long pid;
        unsigned long number;
    } *gone;
    static size_t ngone;
    const char *text = after(line, " number ");
    text = text != NULL ? text : after(line, "\"number\":");
    unsigned long number = text != NULL ? strtoul(text, NULL, 10) : 0;

    if (is_leak(line)) {
        return f->suppressed;
    }
    if (is_event(line, "dangling") && f->suppressed) {
        gone = needed(realloc(gone, (ngone + 1) * sizeof(*gone)));
        gone[ngone].pid = pid;
        gone[ngone++].number = number;
        return true;
    }
    for (size_t i = 0; i < ngone && is_event(line, "dangling_from"); i++) {
        if (gone[i].pid == pid && gone[i].number == number) {
            nsuppressed--; /* it was counted */
            return true;
        }
    }
    return false;
}

/* True: it is not to be printed. */
static bool text_line(const char *line) {
    long pid = strtol(line + strlen("besom["), NULL, 10);
    const char *frames = after(line, " frames ");

    fprintf(out, "%s\n", line);
    if (strstr(line, "] module: ") != NULL) {
        note_line(pid, after(line, " number "), after(line, " build_id "), after(line, " path "),
                  ' ', '\0');
    } else if (is_stack(line)) {
        const char *alloc_frames = after(line, " alloc_frames ");
        struct frame f = {.json = false};
        print_frames(&f, pid, frames != NULL ? frames : "");
        if (alloc_frames != NULL) {
            fputs("    allocated by\n", out);
            f.index = 0;
            print_frames(&f, pid, alloc_frames);
        }
        return is_suppressed(line, &f, pid);
    }
    return false;
}

static bool json_line(const char *line) {
    const char *pid_text = after(line, "\"pid\":"), *frames = after(line, "\"frames\":[");
    long pid = pid_text != NULL ? strtol(pid_text, NULL, 10) : 0;
    size_t length = strlen(line);

    if (strstr(line, "\"event\":\"module\"") != NULL) {
        note_line(pid, after(line, "\"number\":"), after(line, "\"build_id\":\""),
                  after(line, "\"path\":\""), '"', '"');
    }
    const char *alloc_frames = after(line, "\"alloc_frames\":[");
    struct frame f = {.json = true};
    if (!is_stack(line) || frames == NULL || line[length - 1] != '}') {
        fprintf(out, "%s\n", line);
        return is_event(line, "dangling_from") && is_suppressed(line, &f, pid);
    }
    fwrite(line, 1, length - 1, out);
    fputs(",\"symbols\":[", out);
    print_frames(&f, pid, frames);
    if (alloc_frames != NULL) {
        fputs("],\"alloc_symbols\":[", out);
        f.index = 0;
        print_frames(&f, pid, alloc_frames);
    }
    fputs("]}\n", out);
    return is_suppressed(line, &f, pid);
}

/* A leak is known to be suppressed when its last frame has its name. */
static void besom_line(bool (*print)(const char *line), const char *line) {
    char *text = NULL;
    size_t length = 0;

    if (bs_suppressions_any()) {
        out = needed(open_memstream(&text, &length));
    }
    bool suppressed = print(line);
    if (out != stdout) {
        fclose(out);
        out = stdout;
        fwrite(text, 1, suppressed ? 0 : length, stdout);
        free(text);
    }
    nsuppressed += suppressed;
}

static void read_log(FILE *in) {
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    while ((n = getline(&line, &cap, in)) >= 0) {
        bool text = strncmp(line, "besom[", 6) == 0, json = strncmp(line, "{\"besom\":", 9) == 0;
        if (!text && !json) {
            fwrite(line, 1, (size_t)n, stdout); /* a program's own output may hold any byte */
            continue;
        }
        line[strcspn(line, "\n")] = '\0';
        besom_line(text ? text_line : json_line, line);
    }
    free(line);
}

static bool read_file(const char *name) {
    FILE *in = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");

    if (in == NULL) {
        fprintf(stderr, "besom: symbolize: cannot read '%s': %s\n", name, strerror(errno));
        return false;
    }
    read_log(in);
    bool ok = !ferror(in);
    if (!ok) {
        fprintf(stderr, "besom: symbolize: cannot read '%s': %s\n", name, strerror(errno));
    }
    if (in != stdin) {
        fclose(in);
    }
    return ok;
}

int bs_symbolize_main(int argc, char **argv) {
    static const struct option long_options[] = {
        {"debug-dir", required_argument, NULL, 'd'},
        {"suppressions", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *word; /* the word that is read: it may hold several options */
    int option;
    bool ok = true;

    out = stdout;
    opterr = 0;
    while (word = argv[optind],
           (option = getopt_long(argc, argv, "+:d:s:h", long_options, NULL)) != -1) {
        if (option == 's') {
            if (!bs_suppressions_read(optarg)) {
                return BS_EXIT_LAUNCHER;
            }
            continue;
        }
        if (option == 'h') {
            return bs_print_help();
        }
        if (option != 'd') {
            fprintf(stderr, "besom: symbolize: option '%s' %s; see besom --help\n", word,
                    option == ':' ? "needs a value" : "is unknown");
            return BS_EXIT_LAUNCHER;
        }
        if (!bs_symbols_search_in(optarg)) {
            fprintf(stderr, "besom: symbolize: cannot search in '%s': %s\n", optarg,
                    strerror(errno));
            return BS_EXIT_LAUNCHER;
        }
    }
    if (optind == argc) {
        ok = read_file("-");
    }
    for (; optind < argc; optind++) {
        ok = read_file(argv[optind]) && ok;
    }
    if (fflush(stdout) == EOF || ferror(stdout)) {
        fprintf(stderr, "besom: symbolize: cannot write to the standard output: %s\n",
                strerror(errno));
        ok = false;
    }
    if (nsuppressed != 0) {
        fprintf(stderr, "besom: symbolize: %lu leaks suppressed\n", nsuppressed);
    }
    return ok ? 0 : BS_EXIT_LAUNCHER;
}
