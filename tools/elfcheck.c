/* SPDX-License-Identifier: MIT */
/*
 * elfcheck.c -- reads the facts of elfcheck.h with libelf.
 *
 * libelf (gelf) reads both classes and both byte orders, so a program for another machine is
 * described as well as one for this machine. Whatever is damaged is reported as "not an ELF
 * file": the kernel will refuse it with its own words.
 *
 * Called by preloadable.c. Uses no state but libelf's version handshake.
 */
#include "elfcheck.h"

#include <fcntl.h>
#include <gelf.h>
#include <stddef.h>
#include <unistd.h>

static const struct {
    int machine;
    const char *name;
} machine_names[] = {
    {EM_X86_64, "x86-64"},   {EM_386, "i386"},    {EM_AARCH64, "arm64"},
    {EM_ARM, "arm"},         {EM_RISCV, "riscv"}, {EM_PPC64, "ppc64"},
    {EM_PPC, "ppc"},         {EM_S390, "s390"},   {EM_MIPS, "mips"},
    {EM_SPARCV9, "sparc64"}, {EM_IA_64, "ia64"},  {EM_LOONGARCH, "loongarch"},
};

const char *bs_elfcheck_machine_name(int machine) {
    for (size_t i = 0; i < sizeof(machine_names) / sizeof(machine_names[0]); i++) {
        if (machine_names[i].machine == machine) {
            return machine_names[i].name;
        }
    }
    return NULL;
}

/* The dynamic loader has no PT_INTERP, exactly like a static executable, but it has a name. */
static bool dynamic_has_soname(Elf *elf, const GElf_Phdr *dynamic) {
    Elf_Data *data =
        elf_getdata_rawchunk(elf, (int64_t)dynamic->p_offset, dynamic->p_filesz, ELF_T_DYN);

    for (int i = 0; data != NULL; i++) {
        GElf_Dyn entry;
        if (gelf_getdyn(data, i, &entry) == NULL || entry.d_tag == DT_NULL) {
            return false;
        }
        if (entry.d_tag == DT_SONAME) {
            return true;
        }
    }
    return false;
}

static bool read_image(Elf *elf, struct bs_elf_image *image) {
    GElf_Ehdr header;
    size_t nheaders;

    if (elf_kind(elf) != ELF_K_ELF || gelf_getehdr(elf, &header) == NULL ||
        elf_getphdrnum(elf, &nheaders) != 0 || nheaders == 0) {
        return false; /* no headers: cut off, or an object file */
    }
    *image = (struct bs_elf_image){
        .elf_class = gelf_getclass(elf),
        .machine = header.e_machine,
    };
    for (size_t i = 0; i < nheaders; i++) {
        GElf_Phdr segment;
        if (gelf_getphdr(elf, (int)i, &segment) == NULL) {
            return false;
        }
        if (segment.p_type == PT_INTERP) {
            image->has_interp = true;
        } else if (segment.p_type == PT_DYNAMIC) {
            image->has_dynamic = true;
            image->has_soname = dynamic_has_soname(elf, &segment);
        }
    }
    return true;
}

enum bs_elf_kind bs_elfcheck_read(const char *path, struct bs_elf_image *image) {
    enum bs_elf_kind kind = BS_ELF_OTHER;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO is not waited for */

    if (fd < 0) {
        return BS_ELF_UNREADABLE;
    }
    if (elf_version(EV_CURRENT) != EV_NONE) {
        Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
        if (elf != NULL) {
            if (read_image(elf, image)) {
                kind = BS_ELF_IMAGE;
            }
            elf_end(elf);
        }
    }
    close(fd);
    return kind;
}
