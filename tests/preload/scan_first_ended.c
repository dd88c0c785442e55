/* SPDX-License-Identifier: MIT */
/*
 * Promise: a program whose first thread has ended (pthread_exit in main) is searched as any other. The files in /proc
 * that are named by the process, its mappings, pages, memory and descriptors, are the first thread's, and empty
 * from then on: so scans came to no verdict, and a quarantine never gave anything back.
 *
 * What only epoll knows is among what has to be seen: the table of descriptors is another thread's by then.
 */
#include "promise.h"
#include "scan_drive.h"

#include <pthread.h>
#include <sys/epoll.h>

enum { bytes = 3000 };

static const struct scan_drive *drive;
static uintptr_t held, lost; /* with all bits turned */
static int queue;

static void __attribute__((noinline)) make_blocks(void) {
    int fd[2];
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = malloc(bytes)};
    void *volatile none = malloc(bytes);
    queue = epoll_create1(EPOLL_CLOEXEC);
    BS_CHECK(queue >= 0 && pipe(fd) == 0 && epoll_ctl(queue, EPOLL_CTL_ADD, fd[0], &e) == 0, "epoll");
    held = ~(uintptr_t)e.data.ptr;
    lost = ~(uintptr_t)none;
    none = NULL;
    e.data.ptr = NULL;
    __asm__ volatile("" ::"r"(&e) : "memory");
}
static void __attribute__((noinline)) forget(void) {
    volatile char junk[16384];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}

static bool first_has_ended(void) {
    char text[512], path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *s = strrchr(text, ')');
    return s != NULL && s[2] == 'Z';
}

static void *go_on(void *arg) {
    static const unsigned ways[] = {0, SCAN_BY_COPY, SCAN_BY_COPY | SCAN_CONCURRENT, SCAN_BY_CALLER};
    struct scan_seen seen;
    while (!first_has_ended())
        usleep(1000);
    make_blocks();
    forget();
    for (unsigned i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        scan_drive_must(drive, ways[i], &seen);
        BS_CHECK(drive->is_lost((void *)~held) == 0, "way %u: a block that epoll knows is lost", ways[i]);
        BS_CHECK(drive->is_lost((void *)~lost) == 1, "way %u: a block that nobody knows is not", ways[i]);
    }
    _exit(0);
    return arg;
}

int main(void) {
    pthread_t thread;
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    BS_CHECK(pthread_create(&thread, NULL, go_on, NULL) == 0, "pthread_create");
    pthread_exit(NULL);
}
