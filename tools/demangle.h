/* SPDX-License-Identifier: MIT */
/* demangle.h - C++ names as they stand in the source. No threads. */
#ifndef BS_DEMANGLE_H
#define BS_DEMANGLE_H

/* To be freed; a copy of the name if it is not a C++ name or no C++ runtime is there. NULL: no memory. */
char *bs_demangle(const char *name);

#endif
