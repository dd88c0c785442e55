/* SPDX-License-Identifier: MIT */
/*
 * scan_oracle_queue.c - places for pointers in the queues of io_uring and aio; see scan_oracle.h. The queues
 * are mapped, so what is in them is seen; of a request that is under way the kernel alone knows, and tells
 * nobody.
 */
#include "scan_oracle.h"

#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* --- io_uring --------------------------------------------------------------------------------- */

struct ring {
    int fd;
    size_t bytes, entry_bytes;
    char *map;
    struct io_uring_sqe *entry;
    struct io_uring_params params;
};

static bool make_ring(struct ring *r) {
    memset(r, 0, sizeof *r);
    r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->params);
    if (r->fd < 0)
        return false;
    BS_CHECK((r->params.features & IORING_FEAT_SINGLE_MMAP) != 0, "two mappings");
    size_t sq = r->params.sq_off.array + r->params.sq_entries * sizeof(uint32_t),
           cq = r->params.cq_off.cqes + r->params.cq_entries * sizeof(struct io_uring_cqe);
    r->bytes = sq > cq ? sq : cq;
    r->entry_bytes = r->params.sq_entries * sizeof *r->entry;
    r->map = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
    r->entry = mmap(NULL, r->entry_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
                    IORING_OFF_SQES);
    BS_CHECK(r->map != MAP_FAILED && r->entry != MAP_FAILED, "mmap of a ring");
    return true;
}
static void drop_ring(struct ring *r) {
    munmap(r->map, r->bytes);
    munmap(r->entry, r->entry_bytes);
    close(r->fd);
}
static bool has_rings(void) {
    struct ring r;
    bool has = make_ring(&r);
    if (has)
        drop_ring(&r);
    return has;
}

static uint32_t *word_of(struct ring *r, uint32_t offset) {
    return (uint32_t *)(void *)(r->map + offset);
}
/* The first entry, whose data is the pointer. */
static void submit(struct ring *r, struct oracle_holder *h, uint8_t code, int fd) {
    *r->entry = (struct io_uring_sqe){.opcode = code, .fd = fd, .poll_events = POLLIN};
    oracle_put(&r->entry->user_data, h->hidden);
    *word_of(r, r->params.sq_off.array) = 0;
    __atomic_store_n(word_of(r, r->params.sq_off.tail), 1, __ATOMIC_RELEASE);
    BS_CHECK(syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0) == 1, "io_uring_enter");
    memset(r->entry, 0, sizeof *r->entry);
}

static void by_entry(struct oracle_holder *h) {
    struct ring r;
    BS_CHECK(make_ring(&r), "io_uring_setup");
    oracle_hold_at(h, &r.entry->user_data);
    drop_ring(&r);
}
static void by_completion(struct oracle_holder *h) {
    struct ring r;
    BS_CHECK(make_ring(&r), "io_uring_setup");
    submit(&r, h, IORING_OP_NOP, -1);
    BS_CHECK(__atomic_load_n(word_of(&r, r.params.cq_off.tail), __ATOMIC_ACQUIRE) == 1, "not completed");
    oracle_stay(h);
    memset(r.map + r.params.cq_off.cqes, 0, sizeof(struct io_uring_cqe));
    drop_ring(&r);
}
static void by_request(struct oracle_holder *h) {
    struct ring r;
    int fd[2];
    BS_CHECK(make_ring(&r) && pipe2(fd, O_CLOEXEC) == 0, "io_uring_setup, pipe");
    submit(&r, h, IORING_OP_POLL_ADD, fd[0]);
    BS_CHECK(__atomic_load_n(word_of(&r, r.params.cq_off.tail), __ATOMIC_ACQUIRE) == 0, "completed");
    oracle_stay(h);
    drop_ring(&r);
    close(fd[0]);
    close(fd[1]);
}

/* --- aio -------------------------------------------------------------------------------------- */

static bool has_aio(void) {
    aio_context_t context = 0;
    return syscall(SYS_io_setup, 1, &context) == 0 && syscall(SYS_io_destroy, context) == 0;
}

/* A request that waits until the descriptor is ready for it: its data is the pointer. */
static void hold_by_aio(struct oracle_holder *h, unsigned events, unsigned end) {
    aio_context_t context = 0;
    struct iocb block = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = events}, *list = &block;
    int fd[2];
    BS_CHECK(syscall(SYS_io_setup, 4, &context) == 0 && pipe2(fd, O_CLOEXEC) == 0, "io_setup, pipe");
    block.aio_fildes = (uint32_t)fd[end];
    oracle_put(&block.aio_data, h->hidden);
    BS_CHECK(syscall(SYS_io_submit, context, 1, &list) == 1, "io_submit");
    *(volatile __u64 *)&block.aio_data = 0;
    oracle_stay(h);
    BS_CHECK(syscall(SYS_io_destroy, context) == 0, "io_destroy");
    close(fd[0]);
    close(fd[1]);
}
static void by_aio_event(struct oracle_holder *h) {
    hold_by_aio(h, POLLOUT, 1);
}
static void by_aio_request(struct oracle_holder *h) {
    hold_by_aio(h, POLLIN, 0);
}

const struct oracle_place oracle_queue_places[] = {
    {.name = "entry of io_uring", .hold = by_entry, .is_there = has_rings},
    {.name = "completion in io_uring", .hold = by_completion, .is_there = has_rings},
    {.name = "event in the ring of aio", .hold = by_aio_event, .is_there = has_aio},
    {.name = "request under way of io_uring", .hold = by_request, .sight = ORACLE_BLIND, .is_there = has_rings},
    {.name = "request under way of aio", .hold = by_aio_request, .sight = ORACLE_BLIND, .is_there = has_aio},
    {.name = NULL},
};
