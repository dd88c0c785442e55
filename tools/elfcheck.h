/* SPDX-License-Identifier: MIT */
/*
 * elfcheck.h -- the few facts of an ELF file that decide whether a library can be preloaded.
 *
 * For the launcher only. It reads headers and answers; it is not the judge (preloadable.c is) and
 * prints nothing. A file that is no ELF file is an ordinary answer, not an error: scripts are
 * programs too.
 *
 * No state, no threads; the file is opened close-on-exec and closed before the answer.
 */
#ifndef BS_ELFCHECK_H
#define BS_ELFCHECK_H

#include <stdbool.h>

enum bs_elf_kind {
    BS_ELF_UNREADABLE, /* could not be opened for reading; errno says why */
    BS_ELF_OTHER,      /* readable, but not an ELF file, or a damaged one */
    BS_ELF_IMAGE,      /* an ELF file; struct bs_elf_image is filled in */
};

struct bs_elf_image {
    int elf_class;    /* ELFCLASS32 or ELFCLASS64 */
    int machine;      /* EM_* */
    bool has_interp;  /* names a dynamic loader: the loader will read LD_PRELOAD */
    bool has_soname;  /* a shared library, or the dynamic loader itself */
    bool has_dynamic; /* has a dynamic section: can be loaded by a loader */
};

enum bs_elf_kind bs_elfcheck_read(const char *path, struct bs_elf_image *image);

/* The name people use for a machine ("x86-64"), or NULL for one that is not in the table. */
const char *bs_elfcheck_machine_name(int machine);

#endif
