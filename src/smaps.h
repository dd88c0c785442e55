/* SPDX-License-Identifier: MIT */
/*
 * smaps.h - resident bytes by owner, from /proc/self/smaps. Reads with a small buffer, line by
 * line; allocates nothing; holds a file descriptor only while it reads. Takes the metadata's lock for each mapping that
 * may hold some.
 */
#ifndef BS_SMAPS_H
#define BS_SMAPS_H

#include "base.h"

struct bs_smaps {
    uint64_t rss;         /* all mappings, bytes */
    uint64_t heap;        /* the page heap's */
    uint64_t metadata;    /* besom's own structures */
    uint64_t anon_huge;   /* AnonHugePages of the heap */
    uint64_t mappings;    /* how many there are */
};

/* False: the file cannot be read. */
bool bs_smaps_read(struct bs_smaps *out);

#endif
