/* SPDX-License-Identifier: MIT */
/* text.c - see text.h. Nothing that takes a lock is asked of libc, which may be in the middle of a dlopen. */
#include "text.h"

#include "cfi.h"
#include "os.h"
#include "tunables.h"
#include "unwind.h"

#include <link.h>

/* Made by the linker, for a shared library as for a program: the file's own headers in memory. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));

static struct bs_text text; /* [atomic] whoever is first finds it; end 0: not found yet */
static struct bs_text data; /* [atomic] written before text */

void bs_text_set(uintptr_t base, uintptr_t end) {
    bs_store(&text.base, base);
    bs_store_release(&text.end, end);
}

/*
 * The headers are no code, and the dynamic linker leaves their address, and those of the tables behind them, on
 * the first thread's stack. Linkers that give code no segment of its own (gold; GNU ld for aarch64) put
 * them before it: the relocations come last.
 */
static uintptr_t end_of_tables(uintptr_t shift, const ElfW(Phdr) *dynamic) {
    const ElfW(Dyn) *d = (const ElfW(Dyn) *)(shift + dynamic->p_vaddr);
    uintptr_t at[2] = {0}, bytes[2] = {0}, end = 0;
    for (; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_RELA || d->d_tag == DT_JMPREL) /* libc makes them addresses in memory */
            at[d->d_tag == DT_JMPREL] = d->d_un.d_ptr < shift ? shift + d->d_un.d_ptr : d->d_un.d_ptr;
        if (d->d_tag == DT_RELASZ || d->d_tag == DT_PLTRELSZ)
            bytes[d->d_tag == DT_PLTRELSZ] = d->d_un.d_val;
    }
    for (int i = 0; i < 2; i++)
        if (at[i] + bytes[i] < (uintptr_t)bs_text)
            end = bs_max(end, at[i] + bytes[i]);
    return end;
}

/* All sections of code, cold parts and PLT too. */
static void find(void) {
    const ElfW(Ehdr) *file = (const ElfW(Ehdr) *)(uintptr_t)__ehdr_start;
    const ElfW(Phdr) *part = (const ElfW(Phdr) *)((uintptr_t)__ehdr_start + file->e_phoff);
    uintptr_t shift = 0; /* from the addresses in the headers to those in memory */
    uintptr_t low = 0;
    for (unsigned i = 0; i < file->e_phnum; i++)
        if (part[i].p_type == PT_LOAD && part[i].p_offset == 0)
            shift = (uintptr_t)__ehdr_start - part[i].p_vaddr;
    for (unsigned i = 0; i < file->e_phnum; i++)
        if (part[i].p_type == PT_DYNAMIC)
            low = end_of_tables(shift, &part[i]);
    for (unsigned i = 0; i < file->e_phnum; i++)
        if (part[i].p_type == PT_LOAD && (part[i].p_flags & PF_W) != 0) {
            bs_store(&data.base, shift + part[i].p_vaddr);
            bs_store(&data.end, shift + part[i].p_vaddr + part[i].p_memsz);
        }
    for (unsigned i = 0; i < file->e_phnum; i++)
        if (part[i].p_type == PT_LOAD && (part[i].p_flags & PF_X) != 0)
            bs_text_set(bs_max(low, shift + part[i].p_vaddr), shift + part[i].p_vaddr + part[i].p_memsz);
}

struct bs_text bs_text(void) {
    if (bs_load_acquire(&text.end) == 0) /* pairs with bs_text_set: base is there too */
        find();
    return (struct bs_text){bs_load(&text.base), bs_load(&text.end)};
}

struct bs_text bs_text_data(void) {
    (void)bs_text();
    return (struct bs_text){bs_load(&data.base), bs_load(&data.end)};
}

enum { LIBC_FRAMES = 8, FRAME_MOST = 1024 };

/*
 * Where the frames end of the file that makes the system call, which is libc: at the return address to somebody
 * else, or to a handler's caller. glibc 2.41 and later go through three functions to a call that may be cancelled,
 * and the word that fills up read's and poll's frame is where a call of malloc or free before had called on: it
 * would count for as long as the thread sleeps. Only tables that are told from the stack pointer are believed, which
 * is all that is known; where there are none nothing is left out.
 */
static uintptr_t libc_frames_end(uintptr_t pc, uintptr_t sp) {
    struct bs_place file;
    struct bs_cfi_row row;
    uintptr_t end = sp;
    if (!bs_unwind_find_place((const void *)pc, &file))
        return sp;
    struct bs_probe tables = bs_probe_of(file.start, file.end);
    for (unsigned i = 0; i < LIBC_FRAMES && pc - file.start < file.end - file.start; i++) {
        /* of a call that returns, the instruction before; so of the system call */
        if (!bs_cfi_find(&tables, file.eh_frame_hdr, pc - 1, &row) || row.signal_frame || row.cfa.how != BS_CFI_IS ||
            row.cfa.reg != BS_CFI_SP || row.reg[BS_CFI_RA].how != BS_CFI_AT)
            break;
        uintptr_t next = sp + (uintptr_t)(intptr_t)row.cfa.value;
        uintptr_t at = next + (uintptr_t)(intptr_t)row.reg[BS_CFI_RA].value;
        if (at < sp || at >= next || next - sp > FRAME_MOST ||
            bs_os_read_memory(at, &pc, sizeof pc) != (long)sizeof pc)
            break;
        end = at;
        sp = next;
    }
    return end;
}

bool bs_text_sleeps_outside(int tid, const void *own) {
    struct bs_text t = bs_text();
    return bs_os_thread_sleeps(tid, own, libc_frames_end, t.base, t.end);
}

bool bs_text_is_outside(uintptr_t pc, uintptr_t sp, bool in_call, const void *own) {
    struct bs_text t = bs_text();
    return (pc < t.base || pc >= t.end) &&
           bs_os_stack_is_clear(sp, own, in_call ? 0 : BS_TEXT_NEAR_BYTES, t.base, t.end);
}
