/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program in a sandbox as that of sshd, in which nothing can be opened and most other calls end the
 * process, ends as it would without a log: the report and the scan at exit are left out.
 *
 * The filter allows what libc's malloc, stdio and exit need. One thread, and no helper.
 */
#include "sandbox.h"

int main(void) {
    enum { nblocks = 1000 };
    static void *blocks[nblocks];

    for (size_t i = 0; i < nblocks; i++)
        blocks[i] = malloc(i);
    if (!enter_sandbox())
        return 77;
    for (size_t i = 0; i < nblocks; i++)
        free(blocks[i]);
    return 0;
}
