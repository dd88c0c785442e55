/* SPDX-License-Identifier: MIT */
/*
 * os_thp.c - transparent huge pages: the part of os.h that says what the kernel does of itself, and
 * tells it what it may do.
 *
 * It decides nothing: which ranges, and when, is thp.c. Files of /sys and /proc are read on request only, never
 * on the way of an allocation.
 */
#define _GNU_SOURCE
#include "os.h"

#include "out.h"
#include "syscall.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define FOLDER "/sys/kernel/mm/transparent_hugepage/"

/* The file's text, cut to fit; its length or a negated errno. */
static long read_setting(const char *name, char *text, size_t cap) {
    char path[128];
    struct bs_out out;
    bs_out_init(&out, path, sizeof path);
    bs_out_printf(&out, FOLDER "%s", name);
    return bs_os_read_text(bs_out_text(&out), text, cap);
}

/* The number that *s begins with; *s is behind it then, or where it became too large to be one of these. */
static long take_number(const char **s) {
    long n = 0;
    for (; **s >= '0' && **s <= '9' && n < (1L << 40); (*s)++)
        n = n * 10 + (**s - '0');
    return n;
}

long bs_os_huge_page_size(void) {
    char text[24];
    const char *s = text;
    long n = read_setting("hpage_pmd_size", text, sizeof text);
    return n >= 0 ? take_number(&s) : n == -ENOENT ? 0 : n;
}

/* "always [madvise] never": the word in brackets. `inherit` is what the word of that name means. */
static enum bs_thp_kernel chosen(const char *text, enum bs_thp_kernel inherit) {
    const char *open = strchr(text, '[');
    if (open == NULL)
        return BS_THP_KERNEL_NEVER;
    if (strncmp(open, "[always]", 8) == 0)
        return BS_THP_KERNEL_ALWAYS;
    if (strncmp(open, "[madvise]", 9) == 0)
        return BS_THP_KERNEL_MADVISE;
    return strncmp(open, "[inherit]", 9) == 0 ? inherit : BS_THP_KERNEL_NEVER;
}

/* Since Linux 6.8 each size has a setting of its own, the full one's is to inherit. */
enum bs_thp_kernel bs_os_thp_kernel(void) {
    static const char *const sizes[] = {"hugepages-2048kB/enabled", "hugepages-1024kB/enabled",
                                        "hugepages-512kB/enabled",  "hugepages-256kB/enabled",
                                        "hugepages-128kB/enabled",  "hugepages-64kB/enabled",
                                        "hugepages-32kB/enabled",   "hugepages-16kB/enabled"};
    char text[128];
    if (bs_sys5(SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1 ||
        read_setting("enabled", text, sizeof text) <= 0)
        return BS_THP_KERNEL_NEVER;
    enum bs_thp_kernel whole = chosen(text, BS_THP_KERNEL_NEVER), result = BS_THP_KERNEL_NEVER;
    for (unsigned i = 0; i < BS_ARRAY_LEN(sizes); i++) {
        if (read_setting(sizes[i], text, sizeof text) <= 0) {
            if (i == 0)
                return whole;
            continue;
        }
        enum bs_thp_kernel of_size = chosen(text, whole);
        result = of_size > result ? of_size : result;
    }
    return result;
}

size_t bs_os_count_ready(const char *text, unsigned order) {
    size_t ready = 0;
    for (const char *zone; (zone = strstr(text, "zone ")) != NULL;) {
        text = zone + strlen("zone ");
        while (*text == ' ') /* names are aligned to the right */
            text++;
        text = strpbrk(text, " \n"); /* past the name */
        for (unsigned at = 0; text != NULL && *text == ' '; at++) {
            while (*text == ' ')
                text++;
            size_t n = (size_t)take_number(&text);
            if (at >= order)
                ready += n << (at - order);
        }
        if (text == NULL)
            break;
    }
    return ready;
}

size_t bs_os_huge_pages_ready(void) {
    char text[1536]; /* some 120 bytes a zone; machines of many nodes have more than is looked at, and threads little stack */
    unsigned order = 0;
    while ((bs_os_page_size() << order) < 2 * BS_MIB)
        order++;
    long n = bs_os_read_text("/proc/buddyinfo", text, sizeof text);
    return n > 0 ? bs_os_count_ready(text, order) : 0;
}

static int advise(void *addr, size_t bytes, int advice) {
#if BS_FAULTS
    int injected = bs_os_fault_due();
    if (injected != 0)
        return injected;
#endif
    return (int)-bs_sys3(SYS_madvise, addr, bytes, advice);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
int bs_os_populate(void *addr, size_t bytes) {
    return (int)-bs_sys3(SYS_madvise, addr, bytes, MADV_POPULATE_WRITE);
}

int bs_os_no_huge_pages(void *addr, size_t bytes) {
    return advise(addr, bytes, MADV_NOHUGEPAGE);
}
int bs_os_huge_pages(void *addr, size_t bytes) {
    return advise(addr, bytes, MADV_HUGEPAGE);
}
