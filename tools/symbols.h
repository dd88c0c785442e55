/* SPDX-License-Identifier: MIT */
/*
 * symbols.h - function, file and line of an address in a module's file, by libdw: from the file, from
 * separate debug information by build-id, and from debuginfod where DEBUGINFOD_URLS is set (libdwfl
 * asks it). A file whose build-id is another one gives no names.
 *
 * It is NOT about logs: symbolize.c is. No threads. Built without libdw it knows no names and says so.
 */
#ifndef BS_SYMBOLS_H
#define BS_SYMBOLS_H

#include <stdbool.h>
#include <stdint.h>

struct bs_symbols;

/* A folder to search for .build-id/xx/rest.debug as well. Before anything is opened. False and errno: there is
 * no such folder. */
bool bs_symbols_search_in(const char *folder);

/* build_id: hexadecimal, or "none". Never NULL; what cannot be had is said on stderr, once for each
 * module. */
struct bs_symbols *bs_symbols_open(const char *path, const char *build_id);

/* One function at the address: `function` NULL: not known; `file` NULL: line not known. Inlined ones
 * come first, the one whose code it is last. */
typedef void bs_symbol_found(void *ctx, const char *function, const char *file, int line,
                             bool inlined);
/* False: nothing is known of the address. */
bool bs_symbols_find(struct bs_symbols *s, uint64_t address, bs_symbol_found *found, void *ctx);

#endif
