/* SPDX-License-Identifier: MIT */
/*
 * scanmod.c - a shared object for scan_oracle.c: words in its data and in thread-local memory that the
 * loader makes on first use. It is NOT a test.
 */
extern void *scanmod_words[65];
void *scanmod_words[65] = {scanmod_words};

static __thread void *local[300];

void **scanmod_local(void);
void **scanmod_local(void) {
    return &local[123];
}
