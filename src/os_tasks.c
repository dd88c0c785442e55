/* SPDX-License-Identifier: MIT */
/*
 * os_tasks.c - the list of threads, and what the kernel says of each about signals: parts of os.h for world.c.
 *
 * It reads /proc and decides nothing. No lock; little stack, since a thread that frees may search.
 */
#define _GNU_SOURCE
#include "os.h"

#include "out.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

struct dirent64 { /* the kernel's */
    uint64_t ino;
    int64_t off;
    uint16_t bytes;
    uint8_t type;
    char name[];
};

static uint64_t parse_decimal(const char **s) {
    uint64_t value = 0;
    for (; **s >= '0' && **s <= '9'; ++*s)
        value = value * 10 + (uint64_t)(**s - '0');
    return value;
}

static int parse_tid(const char *s) {
    int tid = (int)parse_decimal(&s);
    return *s == '\0' ? tid : 0;
}

/* The files of another namespace (`unshare --pid --fork` without a /proc of its own) have numbers that no system call
 * of this process knows. */
static bool has_our_numbers(void) {
    char self[24];
    const char *s = self;
    return bs_os_read_link("/proc/self", self, sizeof self) > 0 && parse_decimal(&s) == (uint64_t)bs_os_pid();
}

int bs_os_tasks(bs_os_task_visitor *visit, void *ctx) {
    char buf[1024] __attribute__((aligned(8))); /* 42 threads in one go; ours may have little stack */
    long n;
    int fd = has_our_numbers() ? bs_os_open_read("/proc/self/task") : -EXDEV;
    if (fd < 0)
        return -fd;
    while ((n = bs_sys3(SYS_getdents64, fd, buf, sizeof buf)) > 0)
        for (long at = 0; at < n;) {
            const struct dirent64 *d = (const struct dirent64 *)(void *)(buf + at);
            int tid = parse_tid(d->name);
            if (tid > 0)
                visit(ctx, tid);
            at += d->bytes;
        }
    bs_os_close(fd);
#if BS_SANITIZE_THREAD
    bs_os_signal_see_gone();
#endif
    return n < 0 ? (int)-n : 0;
}

/* The folder has a link for each thread, besides the usual two. */
size_t bs_os_task_count(void) {
    struct stat st;
    if (bs_sys4(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &st, 0) != 0 || st.st_nlink < 2)
        return 0;
    return (size_t)st.st_nlink - 2;
}

static long read_task_file(int tid, const char *name, char *text, size_t cap) {
    char path[64];
    struct bs_out out;
    bs_out_init(&out, path, sizeof path);
    bs_out_printf(&out, "/proc/self/task/%d/%s", tid, name);
    return bs_os_read_text(bs_out_text(&out), text, cap);
}

static uint64_t parse_hex(const char **s) {
    uint64_t value = 0;
    for (;; (*s)++) {
        char c = **s;
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
        if (digit > 15)
            return value;
        value = value << 4 | digit;
    }
}

/* While a thread is in sigwait the kernel shows the signals it waits for as not blocked. */
static bool waits_for(int tid, int signal) {
    char text[256], number[16];
    uint64_t set = 0;
    struct bs_out out;
    bs_out_init(&out, number, sizeof number);
    bs_out_printf(&out, "%d 0x", (int)SYS_rt_sigtimedwait);
    size_t len = strlen(bs_out_text(&out));
    if (read_task_file(tid, "syscall", text, sizeof text) <= 0 || strncmp(text, number, len) != 0)
        return false;
    const char *s = text + len;
    return bs_os_read_memory(parse_hex(&s), &set, sizeof set) == (long)sizeof set &&
           (set & bs_signal_bit(signal)) != 0;
}

/* libc ends threads with all signals blocked, and on a busy machine the kernel's part of it may take long. And
 * the kernel works for io_uring and vhost in threads of the process, which never come back to user code and
 * block all that can be blocked. (Older kernels use their flags for something else; so the name is asked as well.) */
static void look_at_flags(int tid, struct bs_os_task *task) {
    const uint64_t exiting = 0x4, io_worker = 0x10, user_worker = 0x4000; /* the kernel's PF_ flags */
    const uint64_t all = ~(bs_signal_bit(SIGKILL) | bs_signal_bit(SIGSTOP));
    char text[256]; /* as far as the flags */
    if (read_task_file(tid, "stat", text, sizeof text) <= 0)
        return;
    const char *name = strchr(text, '(');
    const char *s = strrchr(text, ')'); /* of the name: state, five numbers, flags follow */
    for (unsigned field = 0; s != NULL && field < 7; field++)
        s = strchr(s + 1, ' ');
    if (s == NULL)
        return;
    s++;
    uint64_t flags = parse_decimal(&s);
    task->gone |= (flags & exiting) != 0;
    task->kernels = task->blocked == all && (flags & (io_worker | user_worker)) != 0 &&
                    (strncmp(name, "(iou-", 5) == 0 || strncmp(name, "(vhost", 6) == 0);
}

/* In ns, and one more: a new thread has not run. */
static uint64_t time_run(int tid) {
    char text[128];
    const char *s = text;
    return read_task_file(tid, "schedstat", text, sizeof text) > 0 ? parse_decimal(&s) + 1 : 0;
}

int bs_os_task(int tid, int signal, struct bs_os_task *task) {
    char text[2048];
    *task = (struct bs_os_task){.gone = false};
    long n = read_task_file(tid, "status", text, sizeof text);
    if (n <= 0) {
        task->gone = n == 0 || n == -ENOENT || n == -ESRCH;
        return n == 0 ? ESRCH : (int)-n;
    }
    const char *state = strstr(text, "\nState:\t"), *mask = strstr(text, "\nSigBlk:\t");
    const char *tracer = strstr(text, "\nTracerPid:\t");
    if (state == NULL || mask == NULL)
        return ENOSYS;
    state += strlen("\nState:\t");
    mask += strlen("\nSigBlk:\t");
    task->gone = *state == 'Z' || *state == 'X';
    task->runs = *state == 'R';
    task->blocked = parse_hex(&mask);
    if (tracer != NULL) {
        tracer += strlen("\nTracerPid:\t");
        task->tracer = (int)parse_decimal(&tracer);
    }
    task->is_strict = strstr(text, "\nSeccomp:\t1\n") != NULL;
    task->in_sigwait = *state == 'S' && waits_for(tid, signal);
    if ((task->blocked & bs_signal_bit(signal)) != 0) {
        look_at_flags(tid, task);
        task->ran_ns = time_run(tid);
    }
    return 0;
}

bool bs_os_tracer_interferes(int tracer) {
    static const char *const lookers[] = {"strace\n", "ltrace\n", "perf\n"};
    char path[64], name[32];
    struct bs_out out;
    bs_out_init(&out, path, sizeof path);
    bs_out_printf(&out, "/proc/%d/comm", tracer);
    if (bs_os_read_text(bs_out_text(&out), name, sizeof name) > 0)
        for (size_t i = 0; i < BS_ARRAY_LEN(lookers); i++)
            if (strcmp(name, lookers[i]) == 0)
                return false;
    return true;
}
