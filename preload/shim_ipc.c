/* SPDX-License-Identifier: MIT */
/* shim_ipc.c - semaphores, message queues and asynchronous I/O. See shim.h. */
#include "shim_real.h"

#include <aio.h>
#include <semaphore.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel does it again by itself where there is no timeout; kernels before 2.6.22 did not. */
BS_EXPORT int sem_wait(sem_t *sem) {
    return REPEAT(REAL(sem_wait)(sem), (void)0);
}

/* Their times are points in time. */
BS_EXPORT int sem_timedwait(sem_t *sem, const struct timespec *end) {
    return REPEAT(REAL(sem_timedwait)(sem, end), (void)0);
}
BS_EXPORT int sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *end) {
    return REPEAT(REAL(sem_clockwait)(sem, clock, end), (void)0);
}

BS_EXPORT int semop(int id, struct sembuf *ops, size_t n) {
    return REPEAT(REAL(semop)(id, ops, n), (void)0);
}
BS_EXPORT int semtimedop(int id, struct sembuf *ops, size_t n, const struct timespec *timeout) {
    struct bs_shim_end end = bs_shim_after(timeout);
    struct timespec left;
    return REPEAT(REAL(semtimedop)(id, ops, n, timeout),
                  timeout = end.forever ? timeout : (left = bs_shim_left(end), &left));
}

BS_EXPORT int msgsnd(int id, const void *message, size_t bytes, int flags) {
    return REPEAT(REAL(msgsnd)(id, message, bytes, flags), (void)0);
}
BS_EXPORT ssize_t msgrcv(int id, void *message, size_t bytes, long type, int flags) {
    return REPEAT(REAL(msgrcv)(id, message, bytes, type, flags), (void)0);
}

BS_EXPORT int aio_suspend(const struct aiocb *const list[], int n,
                          const struct timespec *timeout) {
    struct bs_shim_end end = bs_shim_after(timeout);
    struct timespec left;
    return REPEAT(REAL(aio_suspend)(list, n, timeout),
                  timeout = end.forever ? timeout : (left = bs_shim_left(end), &left));
}

/* libaio's, where the program has it: returns a negated errno. What a module brings with it cannot be found
 * from here, so that the kernel is asked as libaio would. */
int io_getevents(void *ctx, long min, long max, void *events, struct timespec *timeout);

static int by_kernel(void *ctx, long min, long max, void *events, struct timespec *timeout) {
    int error = errno;
    long ret = syscall(SYS_io_getevents, ctx, min, max, events, timeout);
    if (ret < 0) {
        ret = -errno;
        errno = error;
    }
    return (int)ret;
}
static __typeof__(&io_getevents) real_getevents(void) {
    static struct bs_shim_cell cell = {NULL, "io_getevents"}; /* looked for when it is wanted: few have it */
    union {
        __typeof__(&io_getevents) fn;
        void *address;
    } u = {.fn = by_kernel};
    u.address = bs_shim_find_or(&cell, u.address);
    return u.fn;
}
BS_EXPORT int io_getevents(void *ctx, long min, long max, void *events, struct timespec *timeout) {
    struct bs_shim_end end = bs_shim_after(timeout);
    struct bs_shim_call call = bs_shim_begin();
    struct timespec left;
    int ret;
    while ((ret = real_getevents()(ctx, min, max, events, timeout)) < 0 &&
           bs_shim_again(&call, -ret))
        timeout = end.forever ? timeout : (left = bs_shim_left(end), &left);
    return ret;
}
