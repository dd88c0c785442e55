/* SPDX-License-Identifier: MIT */
/*
 * os_clock.c - the clocks: a part of os.h.
 *
 * They are read from the code that the kernel maps into every process (vdso(7)), found here and not by way of libc's
 * clock_gettime: a library like libfaketime puts itself before that, for which the program's time is what it was told.
 * Besom's would be so too: pauses that never end, or none. And it needs what besom's helper does not have, a thread that
 * libc knows, and what is not there yet when besom is loaded first. Without such code (valgrind hides it) the kernel is
 * called. No lock, no memory; any thread, any time, handlers included.
 */
#define _GNU_SOURCE
#include "os.h"

#include "syscall.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#if defined(__x86_64__)
#define VDSO_NAME "__vdso_clock_gettime"
#else
#define VDSO_NAME "__kernel_clock_gettime"
#endif

typedef long clock_reader(clockid_t, struct timespec *);

static long by_system_call(clockid_t id, struct timespec *t) {
    return bs_sys2(SYS_clock_gettime, id, t);
}

/* What of the vdso's dynamic section is needed here. */
struct tables {
    const ElfW(Sym) *symbols;
    const char *names;
    const uint32_t *hash;
};

static struct tables tables_of(const ElfW(Dyn) *d, uintptr_t bias) {
    struct tables t = {NULL, NULL, NULL};
    for (; d->d_tag != DT_NULL; d++) {
        const void *at = (const void *)(bias + d->d_un.d_ptr);
        if (d->d_tag == DT_SYMTAB)
            t.symbols = at;
        else if (d->d_tag == DT_STRTAB)
            t.names = at;
        else if (d->d_tag == DT_HASH)
            t.hash = at;
    }
    return t;
}

/* Without the old table of hashes the names, which linkers put next to the symbols, say where those end. */
static size_t count_of(const struct tables *t) {
    if (t->hash != NULL)
        return t->hash[1];
    return (uintptr_t)t->names > (uintptr_t)t->symbols ? ((uintptr_t)t->names - (uintptr_t)t->symbols) / sizeof *t->symbols
                                                        : 0;
}

static clock_reader *find_reader(const ElfW(Ehdr) *head) {
    const ElfW(Phdr) *p = (const void *)((const char *)head + head->e_phoff), *dynamic = NULL;
    uintptr_t bias = (uintptr_t)head;
    for (unsigned i = 0; i < head->e_phnum; i++)
        if (p[i].p_type == PT_LOAD)
            bias = (uintptr_t)head + p[i].p_offset - p[i].p_vaddr;
        else if (p[i].p_type == PT_DYNAMIC)
            dynamic = &p[i];
    if (dynamic == NULL)
        return NULL;
    struct tables t = tables_of((const void *)((const char *)head + dynamic->p_offset), bias);
    for (size_t i = 0, n = t.symbols != NULL && t.names != NULL ? count_of(&t) : 0; i < n; i++)
        if (t.symbols[i].st_shndx != SHN_UNDEF && strcmp(t.names + t.symbols[i].st_name, VDSO_NAME) == 0) {
            clock_reader *found;
            uintptr_t at = bias + t.symbols[i].st_value;
            memcpy(&found, &at, sizeof found);
            return found;
        }
    return NULL;
}

/* Several threads may come here at once, and find the same. */
static BS_NOINLINE clock_reader *find_slow(void) {
    const void *vdso = (const void *)getauxval(AT_SYSINFO_EHDR);
    clock_reader *found = vdso != NULL ? find_reader(vdso) : NULL;
    return found != NULL ? found : by_system_call;
}

static uint64_t clock_ns(clockid_t id) {
    static clock_reader *cell; /* [atomic] */
    struct timespec t;
    clock_reader *read = bs_load(&cell);
    if (read == NULL) {
        read = find_slow();
        bs_store(&cell, read);
    }
    if (read(id, &t) != 0) /* cannot fail for the clocks used here */
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t bs_os_now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}
uint64_t bs_os_tick_ns(void) {
    return clock_ns(CLOCK_MONOTONIC_COARSE);
}
uint64_t bs_os_wall_ns(void) {
    return clock_ns(CLOCK_REALTIME);
}
uint64_t bs_os_thread_cpu_ns(void) {
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}
