/* SPDX-License-Identifier: MIT */
/*
 * run.h -- `besom run`: puts besom under one program and becomes that program.
 *
 * Called by besom.c with the arguments that follow the word `run`. It returns only when the
 * program could not be started; the result is then the exit code, in env(1)'s convention, so
 * that a caller can tell the launcher's fault from the program's answer. No threads.
 */
#ifndef BS_RUN_H
#define BS_RUN_H

enum {
    BS_EXIT_LAUNCHER = 125,       /* besom's own fault: usage, options, cannot be preloaded */
    BS_EXIT_NOT_EXECUTABLE = 126, /* the program was found but cannot be run */
    BS_EXIT_NOT_FOUND = 127,      /* no such program */
};

/* The summary, or the version, on the standard output; the exit status. In besom.c, for commands that are
 * asked for it, too. */
int bs_print_help(void);
int bs_print_version(void);

int bs_run_main(int argc, char **argv);

#endif
