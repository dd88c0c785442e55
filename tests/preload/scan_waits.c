/* SPDX-License-Identifier: MIT */
/*
 * Promise: a scan does not wait for pages that a thread of the program would have to bring, since that thread stands: of
 * shared memory with a userfaultfd in minor mode pages are there (another mapping has written to them) that who
 * reads here waits for. What was brought already is seen.
 */
#include "promise.h"
#include "scan_drive.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { page = 4096 };

#ifdef UFFD_FEATURE_MINOR_SHMEM
static int faults;

static void *bring(void *arg) {
    struct uffd_msg message;
    for (;;)
        if (read(faults, &message, sizeof message) == sizeof message) {
            struct uffdio_continue c = {.range = {message.arg.pagefault.address & ~(uint64_t)(page - 1), page}};
            ioctl(faults, UFFDIO_CONTINUE, &c);
        }
    return arg;
}

static char *map(int fd) {
    char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    BS_CHECK(p != MAP_FAILED, "mmap");
    return p;
}

int main(void) {
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM};
    struct scan_seen seen;
    pthread_t thread;
    int fd = memfd_create("waits", MFD_CLOEXEC);
    BS_CHECK(drive != NULL && fd >= 0 && ftruncate(fd, 2 * page) == 0, "memfd_create");
    faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (faults < 0 || ioctl(faults, UFFDIO_API, &api) != 0)
        promise_skip("no userfaultfd for shared memory: %s", strerror(errno));
    char *written = map(fd), *waits = map(fd);
    memset(written, 1, 2 * page);
    struct uffdio_register r = {.range = {(uintptr_t)waits, 2 * page}, .mode = UFFDIO_REGISTER_MODE_MINOR};
    BS_CHECK(ioctl(faults, UFFDIO_REGISTER, &r) == 0, "UFFDIO_REGISTER");
    BS_CHECK(pthread_create(&thread, NULL, bring, NULL) == 0, "pthread_create");
    *(volatile char *)waits = 2; /* the first page is brought */
    munmap(written, 2 * page);
    *(void *volatile *)(waits + 64) = malloc(3000);
    uintptr_t hidden = ~*(uintptr_t *)(waits + 64);
    static const unsigned ways[] = {0, SCAN_BY_COPY, SCAN_BY_CALLER};
    for (unsigned i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        scan_drive_must(drive, ways[i], &seen);
        BS_CHECK(drive->is_lost((void *)~hidden) == 0, "way %u: what a page leads to that is there is lost", ways[i]);
    }
    return 0;
}
#else
int main(void) {
    promise_skip("headers without UFFD_FEATURE_MINOR_SHMEM");
}
#endif
