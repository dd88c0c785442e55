/* SPDX-License-Identifier: MIT */
/*
 * Promise: memory that has a protection key (pkeys(7)), to which no thread has access at the moment, is searched as other
 * memory is: mapped by the program, and pages of a block. Nobody faults, and the rights are what they were.
 */
#include "promise.h"
#include "scan_drive.h"

#include <sys/mman.h>

#define PAGE 4096

/* An address of the block at `place`, and none in a register or on the stack. */
static void __attribute__((noinline)) put_block(void **place, uintptr_t *hidden) {
    void *block = malloc(3000);
    BS_CHECK(block != NULL, "malloc");
    *place = block;
    *hidden = ~(uintptr_t)block;
}
static void __attribute__((noinline)) forget(void) {
    volatile char junk[16384];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
    __asm__ volatile("" ::: "memory");
}

int main(void) {
    static const unsigned ways[] = {0, SCAN_BY_COPY, SCAN_BY_COPY | SCAN_CONCURRENT, SCAN_BY_CALLER};
    static uintptr_t hidden[2];
    static char *block;
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    struct scan_seen seen;
    int key = pkey_alloc(0, 0);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    if (key < 0)
        promise_skip("no protection keys here: %s", strerror(errno));
    char *mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    BS_CHECK(mapped != MAP_FAILED, "mmap");
    block = aligned_alloc(PAGE, 16 * PAGE);
    BS_CHECK(block != NULL, "aligned_alloc");
    put_block((void **)(void *)(mapped + 64), &hidden[0]);
    put_block((void **)(void *)(block + 3 * PAGE), &hidden[1]);
    forget();
    BS_CHECK(pkey_mprotect(mapped, PAGE, PROT_READ | PROT_WRITE, key) == 0 &&
                 pkey_mprotect(block, 16 * PAGE, PROT_READ | PROT_WRITE, key) == 0,
             "pkey_mprotect");
    BS_CHECK(pkey_set(key, PKEY_DISABLE_ACCESS) == 0, "pkey_set");
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        scan_drive_must(drive, ways[i], &seen);
        BS_CHECK(pkey_get(key) == PKEY_DISABLE_ACCESS, "way %u has changed the rights", ways[i]);
        for (unsigned k = 0; k < 2; k++)
            BS_CHECK(drive->is_lost((void *)~hidden[k]) == 0, "way %u: what page %u leads to is lost", ways[i], k);
    }
    BS_CHECK(pkey_set(key, 0) == 0, "pkey_set");
    return 0;
}
