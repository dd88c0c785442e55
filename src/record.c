/* SPDX-License-Identifier: MIT */
/*
 * record.c - see record.h. Events are gathered in a buffer; each time it is full, or a second old,
 * it is appended to the file in one write.
 *
 * A block is freed in the record before it is freed in the heap, and made after: an address that
 * is used again never has two numbers. The file is opened for each write and closed again, since
 * programs close descriptors they do not know.
 */
#include "record.h"

#include "lock.h"
#include "meta.h"
#include "name.h"
#include "numbers.h"
#include "opt.h"
#include "os.h"
#include "out.h"
#include "tcache.h"

#include <errno.h>
#include <string.h>

#define BUFFER_BYTES (64 * BS_KIB)
#define EVENT_MAX_BYTES 96 /* with the thread and the time before it, and a free of a lost block */
#define FLUSH_MS 1000
#define HEADER_BYTES 48
#define FORMAT_VERSION 1
#define FOLDER_MAX 1024

bool bs_recording;

static struct {
    struct bs_lock lock;
    struct bs_numbers numbers; /* [lock] of the live blocks */
    uint64_t next;             /* [lock] the number of the next block */
    uint64_t events, unknown;  /* [lock] written; frees and resizes of blocks without a number */
    uint64_t time_ms;          /* [lock] of the last TIME event, monotonic clock */
    uint64_t written_ms;       /* [lock] of the last write */
    uint32_t nthreads, thread; /* [lock] numbers given; whose event was the last */
    bool begun;                /* [lock] the file is there */
    int error;                 /* [lock] what is to be said about it, as an errno value */
    const char *failed;        /* [lock] what could not be done; NULL: nothing to be said */
    uint8_t *buf;              /* [init] BUFFER_BYTES */
    size_t len;                /* [lock] */
    int other_pid;             /* [lock] the process that writes the file, where it is not we */
    char folder[FOLDER_MAX];   /* [init] before a relative name, with a slash; "" before others */
    char path[FOLDER_MAX + BS_OPT_PATH_MAX + 64]; /* [lock] */
} rec = {.lock = BS_LOCK_INIT(BS_RANK_RECORD)};

static __thread uint32_t own_number; /* 0: none yet, else the thread's number + 1 */

static uint64_t now_ms(void) {
    return bs_os_now_ns() / 1000000;
}

/* --- the file --------------------------------------------------------------------------------- */

static void stop_locked(const char *what, int error) {
    bs_store(&bs_recording, false);
    bs_numbers_clear(&rec.numbers);
    rec.failed = what;
    rec.error = error;
}

/* For bs_name_open. What is there already is emptied, unless a process that lives is writing it:
 * children that were made by exec have their parent's options. */
static int open_and_empty(const char *path) {
    uint8_t head[16] = {0};
    uint32_t pid;
    int fd = bs_os_open_whole(path);
    if (fd < 0)
        return fd;
    if (bs_os_read(fd, head, sizeof head) == sizeof head && memcmp(head, "besomtrc", 8) == 0) {
        memcpy(&pid, head + 12, sizeof pid);
        if ((int)pid > 0 && (int)pid != bs_os_pid() && bs_os_process_alive((int)pid)) {
            rec.other_pid = (int)pid;
            bs_os_close(fd);
            return -EBUSY;
        }
    }
    (void)bs_os_empty(fd); /* a device or a pipe has nothing to lose */
    return fd;
}

/* Writes the buffer out. */
static void flush_locked(void) {
    int fd = rec.begun ? bs_os_open_again(rec.path)
                       : bs_name_open(rec.folder, bs_opt.record, rec.path, sizeof rec.path,
                                      open_and_empty);
    long ret = fd;
    if (fd >= 0) {
        ret = bs_os_write_quietly(fd, rec.buf, rec.len);
        bs_os_close(fd);
    }
    rec.begun = true;
    rec.len = 0;
    rec.written_ms = now_ms();
    if (ret < 0)
        stop_locked("written", (int)-ret);
    if (ret == -EBUSY && rec.other_pid != 0 && bs_os_same_group(rec.other_pid))
        rec.failed = NULL; /* a shell's children would say it hundreds of times */
}

/* Says what stopped the recording, once. */
static void unlock_and_say(void) {
    const char *failed = rec.failed;
    rec.failed = NULL;
    bs_lock_release(&rec.lock);
    if (failed == NULL)
        return;
    if (rec.error == EBUSY)
        bs_warn("record \"%s\" is written by process %d, process %d is not recorded; give a name "
                "with %%p", rec.path, rec.other_pid, bs_os_pid());
    else
        bs_warn("record \"%s\" cannot be %s (error %d%s); recording ends", rec.path, failed,
                rec.error, bs_out_error(rec.error));
}

/* --- events ----------------------------------------------------------------------------------- */

static void put_le(uint64_t x, unsigned bytes) {
    for (; bytes > 0; bytes--, x >>= 8)
        rec.buf[rec.len++] = (uint8_t)x;
}

static void put_number(uint64_t x) {
    for (; x >= 0x80; x >>= 7)
        rec.buf[rec.len++] = (uint8_t)(x | 0x80);
    rec.buf[rec.len++] = (uint8_t)x;
}

/* One byte with the operation and the low four bits of the value; bit 7: the rest follows. */
static void put(enum bs_record_op op, uint64_t value) {
    bool more = value > 15;
    rec.buf[rec.len++] = (uint8_t)(op | (value & 15) << 3 | (more ? 0x80 : 0));
    if (more)
        put_number(value >> 4);
}

static void put_header(void) {
    char name[16] = {0};
    bs_os_program_name(name);
    memcpy(rec.buf, "besomtrc", 8);
    rec.len = 8;
    put_le(FORMAT_VERSION, 2);
    put_le(HEADER_BYTES, 2);
    put_le((uint64_t)bs_os_pid(), 4);
    put_le(bs_os_wall_ns() / 1000000, 8);
    memcpy(rec.buf + rec.len, name, sizeof name);
    memset(rec.buf + rec.len + sizeof name, 0, HEADER_BYTES - rec.len - sizeof name);
    rec.len = HEADER_BYTES;
}

/* Before each event: room for it, and who calls and when, where that changed. */
static void begin_event(void) {
    uint64_t now = now_ms();
    if (rec.len + EVENT_MAX_BYTES > BUFFER_BYTES || now - rec.written_ms >= FLUSH_MS)
        flush_locked();
    if (own_number == 0)
        own_number = ++rec.nthreads;
    if (now > rec.time_ms) {
        put(BS_RECORD_TIME, now - rec.time_ms);
        rec.time_ms = now;
    }
    if (own_number - 1 != rec.thread) {
        rec.thread = own_number - 1;
        put(BS_RECORD_THREAD, rec.thread);
    }
}

/* Takes the lock, until unlock_and_say, and begins an event. False: recording has ended, perhaps in
 * this attempt. */
static bool lock_and_begin(void) {
    bs_lock_acquire(&rec.lock);
    if (bs_record_is_on())
        begin_event();
    return bs_record_is_on();
}

/* 0: the newest block. */
static uint64_t age(uint64_t number) {
    return rec.next - 1 - number;
}

/* The block at p gets the next number. */
static void give_number(const void *p) {
    if (!bs_numbers_put(&rec.numbers, (uintptr_t)p, rec.next++))
        stop_locked("continued", ENOMEM);
}

/* A block at p that was lost sight of, as when a thread had a cache still: it was freed. */
static void forget(const void *p) {
    uint64_t number = bs_numbers_take(&rec.numbers, (uintptr_t)p);
    if (number == BS_NUMBERS_NONE)
        return;
    put(BS_RECORD_FREE, age(number));
    rec.events++;
}

void bs_record_made(enum bs_record_op op, const void *p, size_t size, size_t align) {
    if (p == NULL)
        return;
    if (lock_and_begin()) {
        forget(p);
        put(op, size);
        if (op == BS_RECORD_ALIGNED)
            put_number((unsigned)__builtin_ctzll(align));
        rec.events++;
        give_number(p);
    }
    unlock_and_say();
}

void bs_record_freed(const void *p) {
    if (p == NULL)
        return;
    if (lock_and_begin()) {
        uint64_t number = bs_numbers_take(&rec.numbers, (uintptr_t)p);
        if (number != BS_NUMBERS_NONE) {
            put(BS_RECORD_FREE, age(number));
            rec.events++;
        } else {
            rec.unknown++;
        }
    }
    unlock_and_say();
}

uint64_t bs_record_resizing(const void *p) {
    bs_lock_acquire(&rec.lock);
    uint64_t number = bs_numbers_take(&rec.numbers, (uintptr_t)p);
    bs_lock_release(&rec.lock);
    return number;
}

static void put_resized(uint64_t number, const void *q, size_t size) {
    forget(q);
    if (number == BS_NUMBERS_NONE) {
        rec.unknown++;
        put(BS_RECORD_MALLOC, size);
    } else {
        put(BS_RECORD_REALLOC, age(number));
        put_number(size);
    }
    rec.events++;
    give_number(q);
}

void bs_record_resized(uint64_t number, const void *p, const void *q, size_t size) {
    if (lock_and_begin()) {
        if (q != NULL)
            put_resized(number, q, size);
        else if (number != BS_NUMBERS_NONE && !bs_numbers_put(&rec.numbers, (uintptr_t)p, number))
            stop_locked("continued", ENOMEM);
    }
    unlock_and_say();
}

/* --- beginning and end ------------------------------------------------------------------------ */

static void begin(void) {
    rec.next = rec.events = rec.unknown = 0;
    rec.nthreads = rec.thread = own_number = 0;
    rec.begun = false;
    rec.time_ms = rec.written_ms = now_ms();
    put_header();
}

/* (Apart from the question, which every process puts, in memory of every one.) */
static BS_COLD void start_recording(void) {
    bs_lock_acquire(&rec.lock);
    rec.buf = bs_meta_map(BUFFER_BYTES);
    int error = rec.buf == NULL ? ENOMEM : 0;
    if (error == 0 && bs_opt.record[0] != '/')
        error = bs_os_folder(rec.folder, sizeof rec.folder - 1);
    size_t len = strlen(rec.folder);
    if (len != 0 && rec.folder[len - 1] != '/')
        memcpy(rec.folder + len, "/", 2);
    if (error != 0) {
        memcpy(rec.path, bs_opt.record, strlen(bs_opt.record) + 1);
        stop_locked("begun", error);
    } else {
        begin();
        bs_store(&bs_recording, true);
        flush_locked(); /* a name that is wrong is said now */
    }
    bool on = bs_record_is_on();
    unlock_and_say();
    if (on)
        bs_tcache_disable();
}
BS_ALWAYS void bs_record_start(void) {
    if (bs_opt.record[0] != '\0')
        start_recording();
}

static BS_COLD void finish_recording(void) {
    if (lock_and_begin()) {
        put(BS_RECORD_END, 0);
        put_number(rec.events);
        put_number(rec.next);
        put_number(rec.numbers.n);
        put_number(rec.unknown);
        flush_locked();
        bs_store(&bs_recording, false);
    }
    unlock_and_say();
}
BS_ALWAYS void bs_record_finish(void) {
    if (bs_record_is_on())
        finish_recording();
}

/* --- fork ------------------------------------------------------------------------------------- */

void bs_record_forked(void) {
    if (!bs_record_is_on())
        return;
    bs_numbers_clear(&rec.numbers);
    if (bs_name_is_own(bs_opt.record))
        begin();
    else
        bs_store(&bs_recording, false);
}
void bs_record_lock(void) {
    bs_lock_acquire(&rec.lock);
}
void bs_record_unlock(void) {
    bs_lock_release(&rec.lock);
}
void bs_record_reset_lock(void) {
    bs_lock_reset(&rec.lock);
}
