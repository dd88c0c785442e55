/* SPDX-License-Identifier: MIT */
/*
 * deepbind.c - dlopen with RTLD_DEEPBIND, which php loads its extensions with. A module that is loaded so looks
 * names up in itself and in the libraries that it needs before all others: it would find libc's malloc and
 * free, while the rest of the program has ours, and blocks pass between the two. So before the first such call
 * libc's table of symbols is made to name our functions. The program's flag stays, with what it means for
 * every other name. Where the table cannot be written, the flag is left out: then names are looked up as in any
 * other module.
 *
 * dlopen is NOT replaced for anything else. It ends in a jump to libc's, which looks at who called it: for
 * RUNPATH, and for the namespace. Names that libbesom-scan.so has besides are not redirected, since it calls
 * libc's functions behind them.
 *
 * The table is written under the loader's own lock (dl_iterate_phdr), once in a process; who looks a name up
 * meanwhile finds one function or the other.
 */
#define _GNU_SOURCE
#include "base.h"
#include "os.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

/* What preload.map has and libc too. */
static const char *const names = "malloc\0free\0calloc\0realloc\0reallocarray\0aligned_alloc\0posix_memalign\0"
                                 "memalign\0valloc\0pvalloc\0malloc_usable_size\0cfree\0__libc_malloc\0"
                                 "__libc_free\0__libc_calloc\0__libc_realloc\0__libc_memalign\0__libc_valloc\0"
                                 "__libc_pvalloc\0__posix_memalign\0mallopt\0mallinfo\0mallinfo2\0malloc_trim\0"
                                 "malloc_stats\0malloc_info\0";
enum { NAMES_MAX = 32 };

struct ours {
    void *function[NAMES_MAX]; /* in the order of the names: whom the program calls */
    bool done;
};

/* What libc's dynamic section says. */
struct table {
    ElfW(Addr) base;
    ElfW(Sym) *symbols;
    const char *strings, *soname;
    const uint32_t *hash;
};

static uint32_t hash_of(const char *name) {
    uint32_t hash = 5381;
    for (; *name != '\0'; name++)
        hash = hash * 33 + (unsigned char)*name;
    return hash;
}

/* Names the function for each symbol of that name (each version has one). False: there is none. */
static bool redirect(const struct table *t, const char *name, void *function) {
    uint32_t hash = hash_of(name), nbuckets = t->hash[0], first = t->hash[1];
    const uint32_t *buckets = t->hash + 4 + t->hash[2] * (sizeof(ElfW(Addr)) / sizeof *t->hash);
    const uint32_t *chain = buckets + nbuckets;
    bool found = false;
    uint32_t i = buckets[hash % nbuckets];
    for (bool more = i >= first; more; i++) {
        ElfW(Sym) *symbol = &t->symbols[i];
        more = (chain[i - first] & 1) == 0;
        if ((chain[i - first] | 1) != (hash | 1) || strcmp(t->strings + symbol->st_name, name) != 0)
            continue;
        bs_store(&symbol->st_value, (ElfW(Addr))(uintptr_t)function - t->base);
        found = true;
    }
    return found;
}

/* Tables that the loader has not turned into addresses are distances. */
static ElfW(Addr) table_at(const struct table *t, const ElfW(Dyn) *d) {
    return d->d_un.d_ptr < t->base ? t->base + d->d_un.d_ptr : d->d_un.d_ptr;
}

static bool read_table(const struct dl_phdr_info *object, struct table *t) {
    const ElfW(Dyn) *soname = NULL, *d = NULL;
    *t = (struct table){.base = object->dlpi_addr};
    for (size_t i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            d = (const ElfW(Dyn) *)(t->base + object->dlpi_phdr[i].p_vaddr);
    for (; d != NULL && d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_SYMTAB)
            t->symbols = (ElfW(Sym) *)table_at(t, d);
        else if (d->d_tag == DT_STRTAB)
            t->strings = (const char *)table_at(t, d);
        else if (d->d_tag == DT_GNU_HASH)
            t->hash = (const uint32_t *)table_at(t, d);
        else if (d->d_tag == DT_SONAME)
            soname = d;
    }
    if (t->strings == NULL || soname == NULL)
        return false;
    t->soname = t->strings + soname->d_un.d_val;
    return t->symbols != NULL && t->hash != NULL && t->hash[0] != 0;
}

static void redirect_all(const struct table *t, struct ours *ours) {
    const char *name = names;
    for (size_t i = 0; *name != '\0'; name += strlen(name) + 1, i++)
        if (ours->function[i] != NULL && redirect(t, name, ours->function[i]))
            ours->done = true;
}

/* The segment as a whole: parts of it with rights of their own would stay mappings of their own. */
static int visit(struct dl_phdr_info *object, size_t size, void *arg) {
    struct ours *ours = arg;
    struct table t;
    (void)size;
    if (!read_table(object, &t) || strcmp(t.soname, "libc.so.6") != 0)
        return 0;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t from = bs_align_down(t.base + segment->p_vaddr, bs_os_page_size());
        uintptr_t to = bs_align_up(t.base + segment->p_vaddr + segment->p_memsz, bs_os_page_size());
        int rights = (segment->p_flags & PF_R ? PROT_READ : 0) | (segment->p_flags & PF_X ? PROT_EXEC : 0);
        if (segment->p_type != PT_LOAD || (uintptr_t)t.symbols < from || (uintptr_t)t.symbols >= to)
            continue;
        if (bs_os_allow((void *)from, to - from, rights | PROT_WRITE) != 0)
            continue;
        redirect_all(&t, ours);
        (void)bs_os_allow((void *)from, to - from, rights);
    }
    return 1;
}

/* False: libc's table could not be written. */
static BS_COLD bool redirect_libc(void) {
    static bool done;
    struct ours ours = {.done = false};
    if (bs_load_acquire(&done))
        return true;
    const char *name = names;
    for (size_t i = 0; *name != '\0' && i < NAMES_MAX; name += strlen(name) + 1, i++)
        ours.function[i] = dlsym(RTLD_DEFAULT, name);
    (void)dl_iterate_phdr(visit, &ours);
    bs_store_release(&done, ours.done);
    return ours.done;
}

BS_EXPORT void *dlopen(const char *file, int mode) {
    static void *cell;
    void *(*real)(const char *, int) = (void *(*)(const char *, int))bs_load_acquire(&cell);
    if (BS_UNLIKELY(real == NULL)) {
        real = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
        if (real == NULL) /* a program that was never linked with it, and libc before 2.34 */
            return NULL;
        bs_store_release(&cell, (void *)real);
    }
    if (BS_UNLIKELY((mode & RTLD_DEEPBIND) != 0) && !redirect_libc())
        mode &= ~RTLD_DEEPBIND;
    return real(file, mode);
}
