/* SPDX-License-Identifier: MIT */
/*
 * os_pagemap.h - the kernel's ioctl PAGEMAP_SCAN (Linux 6.7; <linux/fs.h>, of which the C library's copy may
 * be older), for the two files that ask by it: which pages are there (os_pages.c), which were written
 * (os_watch.c). Nobody else includes it.
 */
#ifndef BS_OS_PAGEMAP_H
#define BS_OS_PAGEMAP_H

#include <linux/ioctl.h>
#include <stdint.h>

#define CATEGORY_WRITTEN 2
#define CATEGORY_FILE 4
#define CATEGORY_PRESENT 8
#define CATEGORY_SWAPPED 16
#define CATEGORY_ZERO 32
#define CATEGORY_GUARD 256

struct scan_part {
    uint64_t start, end, categories;
};
struct scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t inverted, all_of, any_of, returned;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct scan_arg)

#endif
