/* SPDX-License-Identifier: MIT */
/*
 * Promise: a scan asks no file system: a file that is open may be one that a thread of the program serves (FUSE), and that
 * stands. (With NFS each question may be a way to a server, of which the program would stand for all.)
 *
 * The file system is one folder, mounted in a name space of its own, whose attributes are never valid for long. Where
 * mounting is refused the test says so and is passed over.
 */
#include "promise.h"
#include "scan_drive.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/uio.h>

static int device;

static void reply(uint64_t unique, int error, void *data, size_t bytes) {
    struct fuse_out_header head = {.len = (uint32_t)(sizeof head + bytes), .error = error, .unique = unique};
    const struct iovec parts[] = {{&head, sizeof head}, {data, bytes}};
    if (writev(device, parts, 2) < 0)
        BS_CHECK(errno == ENOENT, "writev"); /* whoever asked is gone */
}
static void answer(const struct fuse_in_header *asked) {
    struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096};
    struct fuse_attr_out attr = {.attr = {.ino = 1, .mode = S_IFDIR | 0755, .nlink = 2}};
    struct fuse_open_out opened = {.fh = 1};
    switch (asked->opcode) {
    case FUSE_INIT: reply(asked->unique, 0, &init, sizeof init); break;
    case FUSE_GETATTR: reply(asked->unique, 0, &attr, sizeof attr); break;
    case FUSE_OPENDIR: reply(asked->unique, 0, &opened, sizeof opened); break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: break; /* without an answer */
    default: reply(asked->unique, -ENOSYS, NULL, 0);
    }
}
static void *serve(void *arg) {
    static union {
        struct fuse_in_header head;
        char room[FUSE_MIN_READ_BUFFER + 4096];
    } asked;
    for (;;)
        if (read(device, &asked, sizeof asked) >= (ssize_t)sizeof asked.head)
            answer(&asked.head);
    return arg;
}

static const char *mount_it(void) {
    static char options[100];
    static const char folder[] = "/tmp"; /* of this process alone: nothing is left of it */
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0)
        promise_skip("/dev/fuse: %s", strerror(errno));
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u", device, (unsigned)getuid(),
             (unsigned)getgid());
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("besom", folder, "fuse", MS_NOSUID | MS_NODEV, options) != 0)
        promise_skip("a file system cannot be mounted: %s", strerror(errno));
    return folder;
}

int main(void) {
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    struct scan_seen seen;
    struct stat st;
    pthread_t thread;
    unsigned tries = 0;
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    const char *folder = mount_it();
    BS_CHECK(pthread_create(&thread, NULL, serve, NULL) == 0, "pthread_create");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    BS_CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == 1, "the folder is served");
    do {
        drive->ask(SCAN_BY_CALLER);
        BS_CHECK(drive->over(&seen), "a scan by the caller is over");
    } while (seen.end != 0 && tries++ < 100);
    BS_CHECK(seen.end == 0, "no verdict: end %d, world %d, thread %d", seen.end, seen.world, seen.culprit);
    return 0;
}
