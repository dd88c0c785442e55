/* SPDX-License-Identifier: MIT */
/*
 * os_sleep.c - what another thread of the process is doing: the part of os.h that text.c asks.
 *
 * The kernel answers (/proc/self/task/TID/syscall): it says a number and a stack pointer only of a
 * thread that it has found off its CPU, twice, in one and the same wait. "running" is what it says
 * of one that runs, waits for a CPU or has just changed; -1 of one that waits outside a system call,
 * in a page fault for example. Where anything is in doubt the answer here is "does not sleep".
 *
 * It decides nothing and knows no cache. Other threads' stacks are only read, through the kernel.
 */
#define _GNU_SOURCE
#include "os.h"

#include "out.h"
#include "syscall.h"
#include "tunables.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>

/* Stacks deeper than this are not read to their end, and their threads do not count as asleep. */
#define STACK_MAX_BYTES BS_MIB
#define PIECE_BYTES ((size_t)2048) /* an OS page has whole ones */

/* --- barrier ---------------------------------------------------------------------------------- */

bool bs_os_barrier_available(void) {
    return bs_sys3(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

bool bs_os_barrier(void) {
    return bs_sys3(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void bs_os_barrier_or_wait(void) {
    if (!bs_os_barrier_available() || !bs_os_barrier())
        bs_os_pause(1000000);
}

/* --- the kernel's word on a thread ------------------------------------------------------------ */

/* "-1 SP PC" or "NUMBER ARG ARG ARG ARG ARG ARG SP PC", all but the number hexadecimal. */
struct wait_state {
    long number;
    uintptr_t sp, pc;
};

/* One word of the line; NULL where it is not a number. */
static const char *parse_word(const char *s, uintptr_t *value) {
    unsigned base = 10;
    if (s[0] == '0' && s[1] == 'x') {
        base = 16;
        s += 2;
    }
    const char *start = s;
    for (*value = 0;; s++) {
        unsigned digit = *s >= '0' && *s <= '9' ? (unsigned)(*s - '0') : (unsigned)(*s - 'a') + 10;
        if (digit >= base)
            break;
        *value = *value * base + digit;
    }
    while (*s == ' ' || *s == '\n')
        s++;
    return s > start ? s : NULL;
}

/* False for "running", for "-1", and for what is not understood. */
static bool parse_wait(const char *s, struct wait_state *w) {
    uintptr_t word[9];
    unsigned n = 0;
    while (*s != '\0' && n < BS_ARRAY_LEN(word)) {
        s = parse_word(s, &word[n++]);
        if (s == NULL)
            return false;
    }
    if (n != BS_ARRAY_LEN(word) || *s != '\0')
        return false;
    *w = (struct wait_state){(long)word[0], word[7], word[8]};
    return true;
}

static long read_wait(int tid, char *line, size_t cap) {
    char path[64];
    struct bs_out out;
    bs_out_init(&out, path, sizeof path);
    bs_out_printf(&out, "/proc/self/task/%d/syscall", tid);
    return bs_os_read_text(bs_out_text(&out), line, cap);
}

/* Calls in which the thread's stack and thread-local words are another's as well (vfork and its
 * kin), or in which they are about to vanish or to change. */
static bool is_treacherous(long number) {
    static const long calls[] = {
#ifdef SYS_fork
        SYS_fork,       SYS_vfork,
#endif
        SYS_clone,      SYS_clone3,   SYS_exit,         SYS_exit_group,
        SYS_execve,     SYS_execveat, SYS_rt_sigreturn, SYS_ptrace,
    };
    for (size_t i = 0; i < BS_ARRAY_LEN(calls); i++)
        if (number == calls[i])
            return true;
    return false;
}

/* --- its stack -------------------------------------------------------------------------------- */

static bool in_text(uintptr_t word, uintptr_t base, uintptr_t end) {
    word &= ((uintptr_t)1 << BS_ADDRESS_BITS) - 1; /* arm64 may sign the rest of an address */
    return word >= base && word < end;
}

/* Looks at a stack word by word, from sp up. */
struct look {
    uintptr_t base, end;    /* the text */
    uintptr_t near_end;     /* below it every word counts, above it only interrupted places */
    uintptr_t third, before, last; /* the three words before */
#if defined(__aarch64__)
    uintptr_t fourth;
#endif
};
/* What a handler has interrupted. */
struct interrupted {
    uintptr_t place, sp;
};

bool bs_os_is_call(uintptr_t at) {
#if defined(__x86_64__)
    const uint32_t call = 0x050f;
#else
    const uint32_t call = 0xd4000001;
#endif
    uint32_t code = 0;
    return bs_os_read_memory(at, &code, BS_OS_CALL_BYTES) == BS_OS_CALL_BYTES && code == call;
}

/* The kernel's signal frame has the interrupted place, behind the stack pointer, between words that are easily told
 * from others: flags and segments on x86-64; on arm64 the processor's state is next, a word that is left out, and the
 * head of a record, a number of four letters or so and how long it is: `word`. (Each of many zeros on a stack would be a
 * state by itself, and to ask the kernel of what is before it takes three calls.) */
static bool is_interrupted_place(const struct look *l, uintptr_t word, struct interrupted *i) {
#if defined(__x86_64__)
    *i = (struct interrupted){l->before, l->third};
    return (l->last & 2) != 0 && l->last < (uintptr_t)1 << 22 && (word & 0xffff) == 0x33;
#else
    uintptr_t number = word & UINT32_MAX, bytes = word >> 32;
    *i = (struct interrupted){l->third, l->fourth};
    return number >= (uintptr_t)1 << 24 && bytes % 16 == 0 && bytes - 16 < 4096 && (l->before & 0xf) == 0 &&
           l->before < (uintptr_t)1 << 32;
#endif
}

/* The place may be in a leaf of libc's that the text has called: then that is near to its stack pointer, which may be of
 * another stack than the handler's. The leaves make no system calls (but for the clock's, which has to ask the kernel on
 * few machines). */
static bool is_clear(const struct look *l, const struct interrupted *i) {
    uintptr_t words[BS_TEXT_NEAR_BYTES / sizeof(uintptr_t)];
    if (in_text(i->place, l->base, l->end))
        return false;
    if (bs_os_is_call(i->place) || bs_os_is_call(i->place - BS_OS_CALL_BYTES))
        return true;
    long got = bs_os_read_memory(bs_align_down(i->sp, sizeof(uintptr_t)), words, sizeof words);
    if (got < 0 && got != -EFAULT) /* it is a stack, and nobody says what is on it */
        return false;
    for (long n = 0; n < got / (long)sizeof(uintptr_t); n++)
        if (in_text(words[n], l->base, l->end))
            return false;
    return true;
}

/* True if none of the n words at `at` shows the text. */
static bool words_are_clear(struct look *l, uintptr_t at, const uintptr_t *words, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct interrupted what;
        if (at + i * sizeof(uintptr_t) < l->near_end && in_text(words[i], l->base, l->end))
            return false;
        if (is_interrupted_place(l, words[i], &what) && !is_clear(l, &what))
            return false;
#if defined(__aarch64__)
        l->fourth = l->third;
#endif
        l->third = l->before;
        l->before = l->last;
        l->last = words[i];
    }
    return true;
}

enum seen { CLEAR, SHOWS, UNREADABLE, TOO_DEEP };

/* Looks from sp to the end of the mapping, or to the thread's own variables. Libc puts those above all
 * frames of a thread's stack, and what follows may belong to the same mapping for megabytes. Where sp
 * is on another stack, one for signals or a coroutine's, that one is read as a whole all the same: its
 * mapping or itself ends below them. */
static enum seen look_at_stack(struct look *l, uintptr_t sp, uintptr_t top, size_t max_bytes) {
    uintptr_t words[PIECE_BYTES / sizeof(uintptr_t)];
    uintptr_t at = bs_align_down(sp, sizeof(uintptr_t));
    for (uintptr_t limit = at + max_bytes; at < limit;) {
        if (at >= top && sp < top)
            return CLEAR;
        size_t want = PIECE_BYTES - at % PIECE_BYTES; /* so that a piece is whole or not there */
        long got = bs_os_read_memory(at, words, want);
        if (got == -EFAULT)
            return at > sp ? CLEAR : UNREADABLE; /* nothing at all could be read: not a stack */
        if (got != (long)want)
            return UNREADABLE;
        if (!words_are_clear(l, at, words, want / sizeof(uintptr_t)))
            return SHOWS;
        at += want;
    }
    return TOO_DEEP;
}

bool bs_os_stack_is_clear(uintptr_t sp, const void *own, size_t near_bytes, uintptr_t text_base,
                          uintptr_t text_end) {
    struct look l = {.base = text_base, .end = text_end, .near_end = sp + near_bytes};
    enum seen seen = look_at_stack(&l, sp, (uintptr_t)own, BS_TEXT_FAR_BYTES);
    return seen == CLEAR || seen == TOO_DEEP;
}

bool bs_os_thread_sleeps(int tid, const void *own, bs_os_frames_end *frames_end, uintptr_t text_base,
                         uintptr_t text_end) {
    char line[256], again[256];
    struct wait_state w;
    if (read_wait(tid, line, sizeof line) <= 0 || !parse_wait(line, &w))
        return false;
    /* the place of the system call itself counts too: a function without a frame may make it */
    if (is_treacherous(w.number) || in_text(w.pc, text_base, text_end))
        return false;
    /* the stack was read while the thread waited if it waits in the same place afterwards */
    struct look l = {.base = text_base, .end = text_end, .near_end = UINTPTR_MAX};
    return look_at_stack(&l, frames_end(w.pc, w.sp), (uintptr_t)own, STACK_MAX_BYTES) == CLEAR &&
           read_wait(tid, again, sizeof again) > 0 && strcmp(line, again) == 0;
}

bool bs_os_sleep_is_known(void) {
    char line[256];
    uintptr_t word;
    /* About itself a thread learns the read it is in. */
    return read_wait(bs_os_tid(), line, sizeof line) > 0 && line[0] >= '0' && line[0] <= '9' &&
           bs_os_read_memory((uintptr_t)line & ~(uintptr_t)7, &word, sizeof word) ==
               (long)sizeof word;
}
