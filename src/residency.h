/* SPDX-License-Identifier: MIT */
/*
 * residency.h - a snapshot of which OS pages of the heap are in memory, for the ledger.
 *
 * One byte an OS page, in a mapping that lives only as long as the snapshot (1 MiB for 4 GiB of
 * heap). Used by one thread; takes the page-heap lock a region at a time while it is made.
 */
#ifndef BS_RESIDENCY_H
#define BS_RESIDENCY_H

#include "pageheap.h"

struct bs_residency {
    size_t os_page;
    size_t nregions, capacity;
    uintptr_t *base;     /* of each region, ascending */
    unsigned char *page; /* nregions * (region / OS page) bytes, bit 0 set: in memory */
    void *mapping;
    size_t mapping_bytes;
    int swapped;         /* where the kernel says what is swapped out; negative: nothing is, or it does not say */
    bool refused;        /* the kernel does not say: what it was asked about counts as absent */
};

/* False: no memory for it; every page then counts as absent. */
bool bs_residency_take(struct bs_residency *r);
void bs_residency_drop(struct bs_residency *r);
/* Is the OS page of this address in memory? False outside the heap. */
bool bs_residency_at(const struct bs_residency *r, uintptr_t address);

#endif
