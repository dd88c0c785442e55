/* SPDX-License-Identifier: MIT */
/* symbolize.h - the command `besom symbolize`. */
#ifndef BS_SYMBOLIZE_H
#define BS_SYMBOLIZE_H

/* argv[0] is "symbolize". The exit status. */
int bs_symbolize_main(int argc, char **argv);

#endif
