/* SPDX-License-Identifier: MIT */
/* symbols.c -- see symbols.h. */
#include "symbols.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBDW

#include "demangle.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <unistd.h>

#define BS_ID_MAX 64

struct bs_symbols {
    Dwfl *dwfl;
    Dwfl_Module *module; /* NULL: nothing is known */
    GElf_Addr bias;      /* of libdwfl's addresses to those in the file */
};

static char *debuginfo_path;

static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .section_address = dwfl_offline_section_address,
    .debuginfo_path = &debuginfo_path,
};

/* Absolute: libdwfl takes others as relative to the module. */
bool bs_symbols_search_in(const char *folder) {
    char *absolute = realpath(folder, NULL);

    free(debuginfo_path);
    if (absolute == NULL || asprintf(&debuginfo_path, ":.debug:/usr/lib/debug:%s", absolute) < 0) {
        debuginfo_path = NULL;
    }
    free(absolute);
    return debuginfo_path != NULL;
}

/* --- finding the file ------------------------------------------------------------------------- */

static size_t bytes_of(const char *hex, unsigned char *id) {
    size_t n = 0;
    unsigned byte;

    while (n < BS_ID_MAX && sscanf(hex + 2 * n, "%2x", &byte) == 1) {
        id[n++] = (unsigned char)byte;
    }
    return n;
}

static void to_hex(const unsigned char *id, int n, char *hex) {
    for (int i = 0; i < n && i < BS_ID_MAX; i++) {
        sprintf(hex + 2 * i, "%02x", id[i]);
    }
}

/* Takes the file if it is the right one. `why`: what is to be said otherwise. */
static bool take_file(struct bs_symbols *s, const char *path, const unsigned char *id, size_t n,
                      char *why, size_t cap) {
    const unsigned char *have;
    GElf_Addr where;
    char hex[2 * BS_ID_MAX + 1] = "none";

    if (path[0] != '/' || access(path, R_OK) != 0) {
        bool gone = path[0] != '/' || errno == ENOENT || errno == ENOTDIR;
        snprintf(why, cap, "%s", gone ? "there is no such file any more" : strerror(errno));
        return false;
    }
    dwfl_report_begin(s->dwfl);
    Dwfl_Module *m = dwfl_report_elf(s->dwfl, path, path, -1, 0, true);
    dwfl_report_end(s->dwfl, NULL, NULL);
    if (m == NULL || dwfl_module_getelf(m, &s->bias) == NULL) {
        snprintf(why, cap, "%s", dwfl_errmsg(-1));
        return false;
    }
    int bytes = dwfl_module_build_id(m, &have, &where);
    if (bytes != (int)n || (n != 0 && memcmp(have, id, n) != 0)) {
        if (bytes > 0) {
            to_hex(have, bytes, hex);
        }
        snprintf(why, cap, "the file there now has build-id %s", hex);
        return false;
    }
    s->module = m;
    return true;
}

/* The debug information alone, below the folders for it. It has the addresses and names of its file. */
static bool take_debug_file(struct bs_symbols *s, const char *hex, const unsigned char *id,
                            size_t n) {
    const char *folders = debuginfo_path != NULL ? debuginfo_path : "/usr/lib/debug";
    char why[512], *path;
    bool taken = false;

    while (*folders != '\0' && !taken) {
        int length = (int)strcspn(folders, ":");
        if (folders[0] == '/' &&
            asprintf(&path, "%.*s/.build-id/%.2s/%s.debug", length, folders, hex, hex + 2) >= 0) {
            taken = take_file(s, path, id, n, why, sizeof(why));
            free(path);
        }
        folders += length + (folders[length] == ':');
    }
    return taken;
}

/* By build-id alone: links below the folders for debug information, or debuginfod. */
static bool take_build_id(struct bs_symbols *s, const char *path, const unsigned char *id,
                          size_t n) {
    dwfl_report_begin(s->dwfl); /* forgets what was reported before */
    Dwfl_Module *m = dwfl_report_module(s->dwfl, path, 0, (GElf_Addr)1 << 47);
    if (m != NULL) {
        dwfl_module_report_build_id(m, id, n, 0);
    }
    dwfl_report_end(s->dwfl, NULL, NULL);
    if (m == NULL ||
        (dwfl_module_getelf(m, &s->bias) == NULL && dwfl_module_getdwarf(m, &s->bias) == NULL)) {
        return false;
    }
    s->module = m;
    return true;
}

struct bs_symbols *bs_symbols_open(const char *path, const char *build_id) {
    unsigned char id[BS_ID_MAX];
    char why[512] = "";
    size_t n = strcmp(build_id, "none") == 0 ? 0 : bytes_of(build_id, id);
    struct bs_symbols *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        fputs("besom: symbolize: no memory\n", stderr);
        exit(125);
    }
    s->dwfl = dwfl_begin(&callbacks);
    if (s->dwfl == NULL) {
        fprintf(stderr, "besom: symbolize: %s\n", dwfl_errmsg(-1));
    } else if (!take_file(s, path, id, n, why, sizeof(why)) &&
               (n == 0 ||
                (!take_debug_file(s, build_id, id, n) && !take_build_id(s, path, id, n)))) {
        fprintf(stderr, "besom: symbolize: %s with build-id %s: %s; no names of it\n", path,
                build_id, why);
    }
    return s;
}

/* --- names ------------------------------------------------------------------------------------ */

static const char *name_of(Dwarf_Die *die) {
    Dwarf_Attribute attr;
    Dwarf_Attribute *linkage = dwarf_attr_integrate(die, DW_AT_linkage_name, &attr);
    const char *name;

    if (linkage == NULL) {
        linkage = dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attr);
    }
    name = linkage != NULL ? dwarf_formstring(linkage) : NULL;
    return name != NULL ? name : dwarf_diename(die);
}

struct place {
    const char *file;
    int line;
};

static void tell(bs_symbol_found *found, void *ctx, const char *name, struct place at,
                 bool inlined) {
    char *plain = name != NULL ? bs_demangle(name) : NULL;

    found(ctx, plain != NULL ? plain : name, at.file, at.line, inlined);
    free(plain);
}

/* Where an inlined function was called. */
static struct place call_of(Dwarf_Die *die, Dwarf_Die *cu) {
    struct place at = {NULL, 0};
    Dwarf_Attribute attr;
    Dwarf_Word file, line;
    Dwarf_Files *files;

    if (dwarf_formudata(dwarf_attr(die, DW_AT_call_file, &attr), &file) == 0 &&
        dwarf_getsrcfiles(cu, &files, NULL) == 0) {
        at.file = dwarf_filesrc(files, file, NULL, NULL);
    }
    if (dwarf_formudata(dwarf_attr(die, DW_AT_call_line, &attr), &line) == 0) {
        at.line = (int)line;
    }
    return at;
}

/* Inlined functions, the innermost first; *at becomes the place in the one they are in, whose name is
 * the result. */
static const char *tell_inlined(Dwarf_Die *cu, Dwarf_Addr pc, struct place *at,
                                bs_symbol_found *found, void *ctx) {
    Dwarf_Die *inner = NULL, *scopes = NULL;
    const char *name = NULL;
    int n = dwarf_getscopes(cu, pc, &inner) > 0 ? dwarf_getscopes_die(&inner[0], &scopes) : 0;

    for (int i = 0; i < n; i++) {
        int tag = dwarf_tag(&scopes[i]);
        if (tag == DW_TAG_subprogram) {
            name = name_of(&scopes[i]);
            break;
        }
        if (tag == DW_TAG_inlined_subroutine) {
            tell(found, ctx, name_of(&scopes[i]), *at, true);
            *at = call_of(&scopes[i], cu);
        }
    }
    free(inner);
    free(scopes);
    return name;
}

/* Of a variable with the offset in it, such as a member's: to be freed. NULL: no symbol is there. */
static char *name_at(Dwfl_Module *module, GElf_Addr pc) {
    GElf_Sym symbol;
    GElf_Off offset;
    const char *name = dwfl_module_addrinfo(module, pc, &offset, &symbol, NULL, NULL, NULL);
    char *text = NULL;

    if (name == NULL) {
        return NULL;
    }
    char *plain = bs_demangle(name);
    bool inside = GELF_ST_TYPE(symbol.st_info) == STT_OBJECT && offset != 0;
    int n = inside ? asprintf(&text, "%s+0x%" PRIx64, plain != NULL ? plain : name, (uint64_t)offset)
                   : asprintf(&text, "%s", plain != NULL ? plain : name);
    free(plain);
    return n >= 0 ? text : NULL;
}

bool bs_symbols_find(struct bs_symbols *s, uint64_t address, bs_symbol_found *found, void *ctx) {
    struct place at = {NULL, 0};
    const char *name = NULL;
    char *symbol = NULL;
    Dwarf_Addr bias;

    if (s->module == NULL) {
        return false;
    }
    GElf_Addr pc = address + s->bias;
    Dwfl_Line *line = dwfl_module_getsrc(s->module, pc);
    if (line != NULL) {
        at.file = dwfl_lineinfo(line, NULL, &at.line, NULL, NULL, NULL);
    }
    Dwarf_Die *cu = dwfl_module_addrdie(s->module, pc, &bias);
    if (cu != NULL) {
        name = tell_inlined(cu, pc - bias, &at, found, ctx);
    }
    if (name == NULL) {
        symbol = name_at(s->module, pc);
    }
    if (name == NULL && symbol == NULL && at.file == NULL) {
        return false;
    }
    if (symbol != NULL) {
        found(ctx, symbol, at.file, at.line, false);
    } else {
        tell(found, ctx, name, at, false);
    }
    free(symbol);
    return true;
}

#else

bool bs_symbols_search_in(const char *folder) {
    (void)folder;
    return true;
}
struct bs_symbols *bs_symbols_open(const char *path, const char *build_id) {
    static bool said;

    (void)path, (void)build_id;
    if (!said) {
        fputs("besom: symbolize: built without libdw (elfutils): names are not known\n", stderr);
    }
    said = true;
    return NULL;
}
bool bs_symbols_find(struct bs_symbols *s, uint64_t address, bs_symbol_found *found, void *ctx) {
    (void)s, (void)address, (void)found, (void)ctx;
    return false;
}

#endif
