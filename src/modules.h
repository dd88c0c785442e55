/* SPDX-License-Identifier: MIT */
/*
 * modules.h - what a mapped module says of itself: build-id, path, and how far from its file's
 * addresses it lies. For stacks.c. No lock, no allocation.
 */
#ifndef BS_MODULES_H
#define BS_MODULES_H

#include "unwind.h"

/* The bytes of the build-id, from the notes in the module's mapping, where they begin at *at; 0: none,
 * or more than max. */
size_t bs_modules_build_id(const struct bs_place *place, uint8_t *id, size_t max, uintptr_t *at);
/* The first 8 bytes at a build-id; 0 if they are not there. */
uint64_t bs_modules_id_at(const struct bs_place *place, uintptr_t at);
/* Of the module file's addresses to those in memory. */
uintptr_t bs_modules_bias(const struct bs_place *place);
/* Its path as the loader has it, made absolute by the working folder of now; of the program itself, the
 * file that was executed. */
void bs_modules_path(const struct bs_place *place, char *path, size_t cap);
/* The program itself, not a library. */
bool bs_modules_is_program(const struct bs_place *place);

#endif
