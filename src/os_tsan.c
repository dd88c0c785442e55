/* SPDX-License-Identifier: MIT */
/*
 * os_tsan.c - when a thread may answer the signal that stops it: os.h, for tests that are built with
 * ThreadSanitizer. In every other build the file is empty.
 *
 * The sanitizer's library is called for nearly every load. A thread that stands in it may hold its locks, and
 * whoever has stopped that thread would wait for them at its own next load. So a signal that finds a thread there, or
 * at other times when it may not stand, is a lost one, and is sent again. Anywhere else the thread calls the handler
 * as it would call any other function, and the sanitizer follows what it does.
 */
#define _GNU_SOURCE
#include "os.h"

#if BS_SANITIZE_THREAD

#include <link.h>
#include <ucontext.h>

extern void __tsan_read1(void *);
static struct bs_range library; /* [init] its text */
static __thread bool answers;   /* [owner] */

static int look_for_library(struct dl_phdr_info *info, size_t bytes, void *none) {
    uintptr_t at = (uintptr_t)__tsan_read1;
    (void)bytes, (void)none;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t base = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && at >= base && at < base + part->p_memsz)
            library = (struct bs_range){base, base + part->p_memsz};
    }
    return library.end != 0;
}
__attribute__((constructor)) static void find_library(void) {
    (void)dl_iterate_phdr(look_for_library, NULL);
    /* one that is linked in could not be told from besom */
    BS_CHECK((uintptr_t)find_library < library.start || (uintptr_t)find_library >= library.end);
}

static char gone; /* only its address */

bool bs_os_signal_may_come(bool may) {
    bool before = answers;
    if (!may)
        bs_tsan_release(&gone); /* it may end before it answers again */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    answers = may;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return before;
}

void bs_os_signal_see_gone(void) {
    bs_tsan_acquire(&gone);
}

BS_UNCHECKED bool bs_os_signal_may_answer(const void *context) {
    const mcontext_t *m = &((const ucontext_t *)context)->uc_mcontext;
#if defined(__x86_64__)
    uintptr_t pc = (uintptr_t)m->gregs[REG_RIP];
#else
    uintptr_t pc = m->pc;
#endif
    return answers && (pc < library.start || pc >= library.end);
}

#endif
