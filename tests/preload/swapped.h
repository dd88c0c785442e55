/* SPDX-License-Identifier: MIT */
/*
 * swapped.h - memory of each kind that a pointer may lie in, and a way to have the kernel swap it out: what
 * scan_swapped and quarantine_swapped share. Without swap there is nothing to try, and they say so.
 */
#ifndef SWAPPED_H
#define SWAPPED_H

#include "promise.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/sysinfo.h>

#define SWAP_PAGE ((size_t)4096) /* x86-64's, and the least of aarch64's; larger ones leave the words where they are */
#define SWAP_PAGES 8

enum swap_kind {
    SWAP_SHARED,    /* MAP_SHARED | MAP_ANONYMOUS */
    SWAP_GAPS,      /* the same, of which only one page was ever used */
    SWAP_SYSV,      /* shmat */
    SWAP_UNMAPPED,  /* a memfd, mapped again since: no page of it is in the page tables */
    SWAP_READ_ONLY, /* the same, only to read */
    SWAP_COPIED,    /* a private mapping of a memfd, written to */
    SWAP_PRIVATE,   /* MAP_PRIVATE | MAP_ANONYMOUS */
    SWAP_DATA,      /* the program's */
    SWAP_HEAP,      /* a block of the heap */
    SWAP_KINDS
};
static const char *const swap_name[] = {"shared", "gaps", "sysv", "unmapped", "read only",
                                        "copied", "private", "data", "heap"};

static struct swap_memory {
    void **at; /* the word, in the middle of the pages */
    char *page;
    int fd;
} swap_memory[SWAP_KINDS];
static char swap_data[(SWAP_PAGES + 1) * SWAP_PAGE] __attribute__((aligned(4096)));

#define SWAP_BYTES (SWAP_PAGES * SWAP_PAGE)

static char *swap_map(int prot, int flags, int fd) {
    char *p = mmap(NULL, SWAP_BYTES, prot, flags, fd, 0);
    BS_CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
    return p;
}

/* All but the word is filled, so that no page is one of zeros. */
static inline void swap_make(void) {
    for (unsigned k = 0; k < SWAP_KINDS; k++) {
        struct swap_memory *m = &swap_memory[k];
        int rw = PROT_READ | PROT_WRITE;
        m->fd = k == SWAP_UNMAPPED || k == SWAP_READ_ONLY || k == SWAP_COPIED ? memfd_create("swapped", MFD_CLOEXEC) : -1;
        BS_CHECK(m->fd < 0 || ftruncate(m->fd, SWAP_BYTES) == 0, "ftruncate");
        if (k == SWAP_SYSV) {
            int id = shmget(IPC_PRIVATE, SWAP_BYTES, IPC_CREAT | 0600);
            m->page = shmat(id, NULL, 0);
            BS_CHECK(id >= 0 && m->page != (char *)-1, "shmat: %s", strerror(errno));
            shmctl(id, IPC_RMID, NULL);
        } else if (k == SWAP_DATA)
            m->page = swap_data;
        else if (k == SWAP_HEAP) {
            char *block = calloc(1, SWAP_BYTES + 2 * SWAP_PAGE);
            BS_CHECK(block != NULL, "no memory");
            m->page = (char *)(((uintptr_t)block + SWAP_PAGE) & -SWAP_PAGE);
        } else
            m->page = swap_map(rw, m->fd >= 0 ? (k == SWAP_COPIED ? MAP_PRIVATE : MAP_SHARED)
                                              : (k <= SWAP_GAPS ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, m->fd);
        if (k != SWAP_GAPS)
            memset(m->page, 1, SWAP_BYTES);
        m->at = (void **)(void *)(m->page + SWAP_BYTES / 2 + 64);
        *m->at = NULL;
    }
}

static bool swap_is_out(const char *page, bool is_shared) {
    if (is_shared) { /* in memory, mapped here or not */
        unsigned char there = 1;
        return mincore((void *)(uintptr_t)page, SWAP_PAGE, &there) == 0 && (there & 1) == 0;
    }
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    bool got = pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)page / SWAP_PAGE * sizeof entry)) == sizeof entry;
    close(fd);
    return got && (entry >> 62 & 1) != 0;
}

/* Shared pages that are written to the swap stay in its cache, where they count as there, until memory is short: in a
 * control group of its own (Linux 5.19) the program can say so. */
static void swap_reclaim(void) {
    char line[256] = "", path[512];
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL && strncmp(line, "0::/", 4) != 0)
        ;
    if (f != NULL)
        fclose(f);
    if (strncmp(line, "0::/", 4) != 0 || line[4] == '\n')
        return; /* the whole system's is not the test's */
    line[strcspn(line, "\n")] = '\0';
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.reclaim", line + 3);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "64M", 3) < 0) /* EAGAIN: less was found */
        errno = 0;
    if (fd >= 0)
        close(fd);
}

static bool swap_advise(const struct swap_memory *m, enum swap_kind k) {
    char *page = m->page, *mapped = NULL;
    bool is_shared = k <= SWAP_READ_ONLY, is_out = false;
    if (k == SWAP_UNMAPPED || k == SWAP_READ_ONLY) /* what is not in the page tables is not advised */
        page = mapped = swap_map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, m->fd);
    for (unsigned tries = 0; !is_out && tries < 20; tries++) {
        (void)madvise(page, SWAP_BYTES, MADV_PAGEOUT);
        if (is_shared)
            swap_reclaim();
        is_out = swap_is_out(page + SWAP_BYTES / 2, is_shared);
        if (!is_out)
            sleep_ms(10);
    }
    if (mapped != NULL)
        munmap(mapped, SWAP_BYTES);
    return is_out;
}

/* Has the kernel put all pages with a word into the swap? */
static inline bool swap_out(void) {
    struct sysinfo info;
    unsigned out = 0;
    if (sysinfo(&info) != 0 || info.freeswap < SWAP_KINDS * SWAP_BYTES / info.mem_unit) {
        dprintf(STDOUT_FILENO, "SKIP: the system has no swap\n");
        exit(BS_EXIT_SKIP);
    }
    for (unsigned k = 0; k < SWAP_KINDS; k++)
        (void)swap_advise(&swap_memory[k], k);
    for (unsigned k = 0; k < SWAP_KINDS; k++) {
        bool is_out = swap_is_out(swap_memory[k].page + SWAP_BYTES / 2, k <= SWAP_READ_ONLY);
        if (!is_out)
            dprintf(STDOUT_FILENO, "%s: not swapped out\n", swap_name[k]);
        out += is_out;
    }
    return out == SWAP_KINDS;
}

/* The exit status of a program that found nothing wrong. */
static inline int swap_end(unsigned whole, size_t rounds) {
    dprintf(STDOUT_FILENO, "in %u of %zu rounds all was swapped out\n", whole, rounds);
    if (whole != 0)
        return 0;
    dprintf(STDOUT_FILENO, "SKIP: shared memory stayed in memory: only in a control group of its own, on Linux 5.19, can "
                           "the program have it swapped out\n");
    return BS_EXIT_SKIP;
}

/* The last two are mapped anew once the words are there, so that page tables know nothing of them. */
static inline void swap_map_again(void) {
    for (unsigned k = SWAP_UNMAPPED; k <= SWAP_READ_ONLY; k++) {
        struct swap_memory *m = &swap_memory[k];
        char *p = mmap(m->page, SWAP_BYTES, k == SWAP_READ_ONLY ? PROT_READ : PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, m->fd, 0);
        BS_CHECK(p == m->page, "mmap: %s", strerror(errno));
    }
}

#endif
