/* SPDX-License-Identifier: MIT */
/*
 * besom.c -- the command `besom`: its subcommands, --help and --version.
 *
 * A table of commands and nothing else; each command lives in its own file. It is an
 * ordinary program on the system's malloc and shares no code with the library. Usage errors exit
 * with 125, as a wrapper's own faults do, so that they are never mistaken for the answer of a
 * program that was to be run. No threads.
 */
#include "bench.h"
#include "run.h"
#include "symbolize.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "(version not configured)"
#endif

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} commands[] = {
    {"run", bs_run_main},
    {"bench", bs_bench_main},
    {"bench-child", bs_bench_child_main},
    {"symbolize", bs_symbolize_main},
};

static const char help_text[] =
    "Usage: besom run [-o KEY:VALUE,...] [-l LIB] [--scan] [--] PROGRAM [ARGUMENT...]\n"
    "       besom bench [--alloc NAME,...] [-r ROUNDS] [OPTION...] -- COMMAND [ARGUMENT...]\n"
    "       besom symbolize [-d DIR] [-s FILE] [LOG...]\n"
    "       besom --help | --version\n"
    "\n"
    "besom run runs an unmodified program on the besom memory allocator:\n"
    "\n"
    "  -o, --options KEY:VALUE,...  options, added after those in BESOM_CONF;\n"
    "                               besom.conf(5) lists them (for example log:stderr)\n"
    "  -l, --library LIB            the library to preload instead of the one found\n"
    "                               in BESOM_LIB, beside besom, or where it was installed\n"
    "  -s, --scan                   preload libbesom-scan.so instead, which lies beside it, so that\n"
    "                               the program does not notice when its threads are stopped\n"
    "                               (the option scan:leak does so too)\n"
    "\n"
    "besom symbolize prints a log (or the standard input) with the function, file and line of\n"
    "each frame of the stacks in it.\n"
    "\n"
    "  -d, --debug-dir DIR          where debug information is searched by build-id, beside\n"
    "                               /usr/lib/debug\n"
    "  -s, --suppressions FILE      leaks by functions and files that are not to be shown\n"
    "\n"
    "The exit status of run is the program's own; 125 means that besom failed or that the\n"
    "program cannot be preloaded, 126 that it cannot be executed, 127 that there is\n"
    "no such program.\n"
    "\n"
    "besom bench compares memory and time of a command under several allocators;\n"
    "besom bench --help lists its options.\n";

static int print(const char *text) {
    if (fputs(text, stdout) == EOF || fflush(stdout) == EOF) {
        fprintf(stderr, "besom: cannot write to the standard output: %s\n", strerror(errno));
        return BS_EXIT_LAUNCHER;
    }
    return 0;
}

int bs_print_help(void) {
    return print(help_text);
}

int bs_print_version(void) {
    return print("besom " PACKAGE_VERSION "\n");
}

int main(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "";

    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        return bs_print_help();
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        return bs_print_version();
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(word, commands[i].name) == 0) {
            return commands[i].main(argc - 1, argv + 1);
        }
    }
    if (word[0] == '\0') {
        fputs("besom: no command given; see besom --help\n", stderr);
    } else {
        fprintf(stderr, "besom: unknown command '%s'; see besom --help\n", word);
    }
    return BS_EXIT_LAUNCHER;
}
