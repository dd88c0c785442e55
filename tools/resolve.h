/* SPDX-License-Identifier: MIT */
/*
 * resolve.h -- from the words on the command line to files: the program in PATH, the interpreter
 * of a script, the library of besom.
 *
 * For the launcher only. The answers are paths in malloc'ed strings that the caller keeps for the
 * life of the process (it ends in exec). Nothing here prints; run.c words the messages.
 *
 * No state, no threads.
 */
#ifndef BS_RESOLVE_H
#define BS_RESOLVE_H

/* The program as execvp() would find it. NULL and errno: ENOENT nowhere, EACCES found but not
 * executable, anything else as the kernel said. */
char *bs_resolve_program(const char *name);

/* The program that the kernel really runs for `path`: follows "#!" lines (and /usr/bin/env in
 * them) to the last interpreter. Returns `path` itself (a copy) for anything that is no script.
 * NULL and errno when an interpreter is missing; *missing then names it. */
char *bs_resolve_interpreter(const char *path, char **missing);

/* libbesom.so: `wanted` if not NULL, else $BESOM_LIB, else beside this executable, in the build
 * tree, in ../lib, in the configured libdir. Absolute; NULL and errno if there is none. */
char *bs_resolve_library(const char *wanted);

#endif
