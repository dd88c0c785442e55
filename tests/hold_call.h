/* SPDX-License-Identifier: MIT */
/*
 * hold_call.h - a system call of the calling thread is held before the kernel does it, so that something else can
 * happen at just that point: for tests and for the programs of preload/. Calls that are not held are done as ever, a
 * little later.
 *
 * The kernel asks (seccomp's user notification), and a process of its own answers, since the threads of this one may
 * stand. It is there until hold_call_end, or the end of the thread that began; the thread's calls fail after that.
 */
#ifndef BS_TESTS_HOLD_CALL_H
#define BS_TESTS_HOLD_CALL_H

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOLD_CALL_LIMIT_S 60 /* a call is held no longer */
#define HOLD_CALL_ANY UINT64_MAX

enum { HOLD_CALL_NONE, HOLD_CALL_WANTED, HOLD_CALL_HELD, HOLD_CALL_FAILED };

static struct hold_call { /* shared with the process that answers */
    uint32_t state;  /* [atomic] */
    uint64_t second; /* [atomic] which one is wanted: by its second argument */
} *hold_call;
static pid_t hold_call_pid;

static inline int hold_call_listen(unsigned number) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* Through a pair of sockets; -1: none came. */
static inline int hold_call_pass(int pair, int fd) {
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    char byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    memset(&control, 0, sizeof control);
    if (fd >= 0 || fd == -2) { /* -2: to be received */
        message.msg_control = control.room;
        message.msg_controllen = sizeof control.room;
    }
    if (fd >= 0) {
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    if (fd != -2)
        return sendmsg(pair, &message, 0) == 1 ? 0 : -1;
    if (recvmsg(pair, &message, 0) != 1 || CMSG_FIRSTHDR(&message) == NULL)
        return -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* In the process that answers. (It may be a copy of a program with threads: nothing but system calls.) */
static inline void hold_call_answer(int listener) {
    for (;;) {
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) {
            if (errno == EINTR || errno == ENOENT)
                continue;
            _exit(0);
        }
        uint32_t wanted = HOLD_CALL_WANTED;
        uint64_t second = __atomic_load_n(&hold_call->second, __ATOMIC_ACQUIRE);
        if ((second == HOLD_CALL_ANY || second == asked.data.args[1]) &&
            __atomic_compare_exchange_n(&hold_call->state, &wanted, HOLD_CALL_HELD, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            for (unsigned ms = 0; __atomic_load_n(&hold_call->state, __ATOMIC_ACQUIRE) == HOLD_CALL_HELD; ms++) {
                if (ms == HOLD_CALL_LIMIT_S * 1000)
                    __atomic_store_n(&hold_call->state, HOLD_CALL_FAILED, __ATOMIC_RELEASE);
                usleep(1000);
            }
        struct seccomp_notif_resp answer = {.id = asked.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

/* Calls of this number by the calling thread can be held from now on; once in a process. False: it is not possible
 * here. */
static inline bool hold_call_begin(unsigned number) {
    int pair[2];
    void *memory = mmap(NULL, sizeof *hold_call, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    hold_call = (struct hold_call *)memory;
    hold_call_pid = fork(); /* before: it must not ask itself */
    if (hold_call_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        int listener = hold_call_pass(pair[1], -2);
        if (listener >= 0)
            hold_call_answer(listener);
        _exit(0);
    }
    close(pair[1]);
    int listener = hold_call_pid < 0 ? -1 : hold_call_listen(number);
    (void)hold_call_pass(pair[0], listener);
    close(pair[0]);
    if (listener >= 0)
        close(listener);
    return listener >= 0;
}
static inline void hold_call_end(void) {
    if (hold_call_pid <= 0)
        return;
    kill(hold_call_pid, SIGKILL);
    waitpid(hold_call_pid, NULL, 0);
    hold_call_pid = 0;
}

/* The next such call is held, or the next with this second argument. */
static inline void hold_call_next(uint64_t second) {
    __atomic_store_n(&hold_call->second, second, __ATOMIC_RELEASE);
    __atomic_store_n(&hold_call->state, HOLD_CALL_WANTED, __ATOMIC_RELEASE);
}
/* Waits until it is. False: it does not come. */
static inline bool hold_call_wait(void) {
    for (unsigned ms = 0; ms < HOLD_CALL_LIMIT_S * 1000; ms++) {
        uint32_t state = __atomic_load_n(&hold_call->state, __ATOMIC_ACQUIRE);
        if (state != HOLD_CALL_WANTED)
            return state == HOLD_CALL_HELD;
        usleep(1000);
    }
    return false;
}
static inline bool hold_call_leave_for(uint32_t state) {
    uint32_t held = HOLD_CALL_HELD;
    return __atomic_compare_exchange_n(&hold_call->state, &held, state, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
/* It goes on. False: it was let go before, for its time. */
static inline bool hold_call_release(void) {
    return hold_call_leave_for(HOLD_CALL_NONE);
}
/* And a later one with this second argument is held. */
static inline bool hold_call_release_for(uint64_t second) {
    __atomic_store_n(&hold_call->second, second, __ATOMIC_RELEASE);
    return hold_call_leave_for(HOLD_CALL_WANTED);
}

#endif
