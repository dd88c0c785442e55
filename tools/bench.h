/* SPDX-License-Identifier: MIT */
/*
 * bench.h -- the two halves of `besom bench` that are not Python: the start of the comparison, and
 * the small parent that each measured program gets.
 *
 * Called by besom.c with the arguments that follow the command's word. No threads.
 */
#ifndef BS_BENCH_H
#define BS_BENCH_H

/* `besom bench ARGUMENT...`: becomes python3 with bench/main.py. Returns only when it cannot, with
 * the exit code, after a message. */
int bs_bench_main(int argc, char **argv);

/* `besom bench-child`, for bench/child.py only and in no manual; see bench_child.c. */
int bs_bench_child_main(int argc, char **argv);

#endif
