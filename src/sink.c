/* SPDX-License-Identifier: MIT */
/* sink.c - see sink.h. */
#include "sink.h"

#include "lock.h"
#include "name.h"
#include "opt.h"
#include "os.h"
#include "out.h"

#include <errno.h>
#include <string.h>

#define STDERR_FD 2

enum state { CLOSED, TO_STDERR, TO_FILE };

static struct {
    struct bs_lock lock;
    enum state state;              /* [atomic] */
    bool expand;                   /* [lock] the name must be made (again) before the next line */
    bool complained;               /* [lock] the first lost line is told, once in a process */
    bool torn;                     /* [lock] of the last line only a part is in the file: no newline */
    char path[BS_OPT_PATH_MAX + 64]; /* [lock] */
} sink = {.lock = BS_LOCK_INIT(BS_RANK_LOG)};

BS_ALWAYS bool bs_sink_is_open(void) {
    return bs_load(&sink.state) != CLOSED;
}

BS_ALWAYS bool bs_sink_is_stderr(void) {
    return bs_load(&sink.state) == TO_STDERR;
}

/* A descriptor of the log's file; expands the name first where that is due. */
static int open_file_locked(void) {
    if (!sink.expand)
        return bs_os_open_append(sink.path);
    sink.torn = false;
    int fd = bs_name_open("", bs_opt.log, sink.path, sizeof sink.path, bs_os_open_append);
    sink.expand = fd == -ENAMETOOLONG;
    return fd;
}

static BS_COLD void open_sink(void) {
    if (strcmp(bs_opt.log, "stderr") == 0) {
        bs_store(&sink.state, TO_STDERR);
        return;
    }
    bs_lock_acquire(&sink.lock);
    sink.expand = true;
    int fd = open_file_locked();
    if (fd >= 0) {
        bs_os_close(fd);
        bs_store(&sink.state, TO_FILE);
    }
    bs_lock_release(&sink.lock);
    if (fd < 0)
        bs_warn("log file \"%s\" cannot be written (error %d%s); there will be no log", sink.path,
                -fd, bs_out_error(-fd));
}
BS_ALWAYS void bs_sink_open(void) {
    if (bs_opt.log[0] != '\0')
        open_sink();
}

static bool is_forbidden(int fd) {
    if (fd >= 0)
        bs_os_close(fd);
    return fd == -EACCES || fd == -EPERM;
}
bool bs_sink_is_walled(void) {
    if (!is_forbidden(bs_os_open_read("/proc/self/statm")))
        return false;
    if (bs_load(&sink.state) != TO_FILE)
        return true;
    bs_lock_acquire(&sink.lock);
    int fd = open_file_locked();
    bs_lock_release(&sink.lock);
    return is_forbidden(fd);
}

/* Negative: an errno. A full disk takes a part of a line, and after it was emptied the next one begins anew. */
static long append_locked(int fd, const char *line, size_t bytes) {
    long ret = sink.torn ? bs_os_write_quietly(fd, "\n", 1) : 0;
    if (ret < 0)
        return ret;
    long begin = sink.torn ? bs_os_position(fd) : 0;
    ret = bs_os_write_quietly(fd, line, bytes);
    sink.torn = ret < 0 && bs_os_position(fd) > begin; /* a FIFO has none, and takes all or nothing */
    return ret;
}

void bs_sink_write(const char *line, size_t bytes) {
    if (bs_load(&sink.state) == TO_STDERR) {
        (void)bs_os_write_quietly(STDERR_FD, line, bytes);
        return;
    }
    bs_lock_acquire(&sink.lock);
    int fd = open_file_locked();
    long error = fd;
    if (fd >= 0) {
        error = append_locked(fd, line, bytes);
        bs_os_close(fd);
    }
    if (error < 0 && !sink.complained) {
        sink.complained = true;
        bs_warn("log file \"%s\" cannot be written (error %d%s); lines of the log are lost",
                sink.path, (int)-error, bs_out_error((int)-error));
    }
    bs_lock_release(&sink.lock);
}

void bs_sink_forked(void) {
    if (strchr(bs_opt.log, '%') != NULL) /* else it was never set, and is on no page of the child's own */
        sink.expand = true;
}
void bs_sink_lock(void) {
    bs_lock_acquire(&sink.lock);
}
void bs_sink_unlock(void) {
    bs_lock_release(&sink.lock);
}
void bs_sink_reset_lock(void) {
    bs_lock_reset(&sink.lock);
}
