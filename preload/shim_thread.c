/* SPDX-License-Identifier: MIT */
/*
 * shim_thread.c - each thread tells bounds.h of its stack before its first function runs.
 *
 * libc is asked for the bounds by the thread itself, which needs no knowledge of libc's layouts. No frame of
 * ours stays: an address of besom's code on a stack makes its thread look as if it was inside besom
 * (text.h). So the thread begins in a few instructions that call us, clear the stack that we have used, and
 * jump to the program's function. Threads that libc makes by itself do not come here.
 */
#define _GNU_SOURCE
#include "shim_fault.h"
#include "shim_real.h"

#include "bounds.h"
#include "sieve.h"

#include <pthread.h>
#include <stdlib.h>
#include <threads.h>

typedef void *thread_function(void *);

/*
 * From the thread that makes one to the one that is made. libc keeps the address for as long as the thread's
 * stack: so it is no block of the heap, which would be held by it when it is another's. It lies in memory that a
 * scan reads, since nobody else may hold `arg` for a while.
 */
struct start {
    thread_function *fn; /* [atomic] NULL: free */
    void *arg;
    bool own_stack; /* the program's memory */
    bool small;
};
#define STARTS 1024 /* at the same time; more come from the heap */
static struct start *starts; /* [atomic] */
/* What the thread goes on with; the instructions below know it. */
struct next {
    thread_function *fn;
    void *arg;
};

BS_LOCAL void *besom_thread_entry(void *start);
BS_LOCAL size_t besom_thread_begin(struct start *start, struct next *next);

/*
 * Beside thread-local variables a stack may have as little as 4096 bytes, all of which are the
 * program's. To ask for the bounds and to clear what that used takes more. So a thread with a small
 * stack does neither: it has no bounds, and clears what the few calls that remain have left.
 */
#define SMALL_STACK (64 * BS_KIB)
#define SCRUB ((size_t)4096)
#define SCRUB_SMALL ((size_t)512)
/* Calls besom_thread_begin, clears as many bytes as that says, goes on with what it found. They are
 * above the stack pointer by then: what is written below it valgrind calls invalid, in each thread. */
#if defined(__x86_64__)
__asm__(".pushsection .text\n\t"
        ".hidden besom_thread_entry\n\t"
        ".globl besom_thread_entry\n\t"
        ".type besom_thread_entry, @function\n"
        "besom_thread_entry:\n\t"
        ".cfi_startproc\n\t"
        "subq $24, %rsp\n\t"
        ".cfi_adjust_cfa_offset 24\n\t"
        "movq %rsp, %rsi\n\t"
        "call besom_thread_begin\n\t"
        "movq %rax, %rcx\n\t"
        "movq %rsp, %rdx\n\t"
        ".cfi_def_cfa %rdx, 32\n\t"
        "subq %rax, %rsp\n\t"
        "movq %rsp, %rdi\n\t"
        "shrq $3, %rcx\n\t"
        "xorl %eax, %eax\n\t"
        "rep stosq\n\t"
        "movq %rdx, %rsp\n\t"
        ".cfi_def_cfa %rsp, 32\n\t"
        "popq %rdx\n\t"
        ".cfi_adjust_cfa_offset -8\n\t"
        "popq %rdi\n\t"
        ".cfi_adjust_cfa_offset -8\n\t"
        "addq $8, %rsp\n\t"
        ".cfi_adjust_cfa_offset -8\n\t"
        "jmp *%rdx\n\t"
        ".cfi_endproc\n\t"
        ".size besom_thread_entry, .-besom_thread_entry\n\t"
        ".popsection");
#else
__asm__(".pushsection .text\n\t"
        ".hidden besom_thread_entry\n\t"
        ".globl besom_thread_entry\n\t"
        ".type besom_thread_entry, %function\n"
        "besom_thread_entry:\n\t"
        ".cfi_startproc\n\t"
        "hint #34\n\t" /* bti c */
        "stp x29, x30, [sp, #-32]!\n\t"
        ".cfi_def_cfa_offset 32\n\t"
        ".cfi_offset 29, -32\n\t"
        ".cfi_offset 30, -24\n\t"
        "add x1, sp, #16\n\t"
        "bl besom_thread_begin\n\t"
        "mov x10, sp\n\t"
        ".cfi_def_cfa x10, 32\n\t"
        "sub x9, x10, x0\n\t"
        "mov sp, x9\n"
        "1:\tstp xzr, xzr, [x9], #16\n\t"
        "cmp x9, x10\n\t"
        "b.ne 1b\n\t"
        "mov sp, x10\n\t"
        ".cfi_def_cfa sp, 32\n\t"
        "ldp x16, x0, [sp, #16]\n\t"
        "ldp x29, x30, [sp], #32\n\t"
        ".cfi_restore 29\n\t"
        ".cfi_restore 30\n\t"
        ".cfi_def_cfa_offset 0\n\t"
        "br x16\n\t"
        ".cfi_endproc\n\t"
        ".size besom_thread_entry, .-besom_thread_entry\n\t"
        ".popsection");
#endif

static __thread uintptr_t mark;

static BS_NOINLINE void tell_bounds(bool own_stack, uintptr_t kept) {
    pthread_attr_t attr;
    void *low;
    size_t bytes;
    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    if (pthread_attr_getstack(&attr, &low, &bytes) == 0) {
        const struct bs_bounds b = {.tid = bs_os_tid(),
                                    .low = (uintptr_t)low,
                                    .high = (uintptr_t)low + bytes,
                                    .kept = kept,
                                    .mark = &mark,
                                    .is_libc = !own_stack};
        if (kept > b.low && kept < b.high)
            bs_bounds_note(bs_os_thread_pointer(), &b);
    }
    pthread_attr_destroy(&attr);
}

static struct start *table(void) {
    struct start *none = NULL, *made = bs_load_acquire(&starts);
    if (made != NULL)
        return made;
    made = bs_os_alloc(STARTS * sizeof *made);
    if (made != NULL && !__atomic_compare_exchange_n(&starts, &none, made, false, __ATOMIC_ACQ_REL,
                                                     __ATOMIC_ACQUIRE))
        bs_os_free(made, STARTS * sizeof *made);
    return bs_load_acquire(&starts);
}

static struct start *start_of(thread_function *fn, void *arg) {
    struct start *t = table(), *start = NULL;
    for (size_t i = 0; t != NULL && i < STARTS && start == NULL; i++) {
        thread_function *none = NULL;
        if (bs_load(&t[i].fn) == NULL &&
            __atomic_compare_exchange_n(&t[i].fn, &none, fn, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            start = &t[i];
    }
    if (start == NULL)
        start = malloc(sizeof *start);
    if (start == NULL)
        return NULL;
    bs_store(&start->fn, fn); /* not the whole at once: of a place in the table it is never NULL in between */
    start->arg = arg;
    start->own_stack = start->small = false;
    return start;
}

static void drop(struct start *start) {
    struct start *t = bs_load_acquire(&starts);
    if (t == NULL || start < t || start >= t + STARTS) {
        free(start);
        return;
    }
    start->arg = NULL;
    bs_store_release(&start->fn, NULL);
}

/* What was copied by them, the argument or words of libc's, stays in vector registers, and a thread that never uses
 * them would hold what they lead to for good: a block that comes to live there later, too. */
static void clear_vectors(void) {
#if defined(__x86_64__)
    enum bs_sieve_way way = bs_sieve_best(); /* says what there is, and has asked before */
#define CLEAR(i) __asm__ volatile("pxor %%xmm" #i ", %%xmm" #i ::: "xmm" #i)
    CLEAR(0); CLEAR(1); CLEAR(2); CLEAR(3); CLEAR(4); CLEAR(5); CLEAR(6); CLEAR(7);
    CLEAR(8); CLEAR(9); CLEAR(10); CLEAR(11); CLEAR(12); CLEAR(13); CLEAR(14); CLEAR(15);
#undef CLEAR
    if (way != BS_SIEVE_ONE)
        __asm__ volatile("vzeroall");
#define CLEAR(i) __asm__ volatile("vpxord %zmm" #i ", %zmm" #i ", %zmm" #i)
    if (way == BS_SIEVE_EIGHT) {
        CLEAR(16); CLEAR(17); CLEAR(18); CLEAR(19); CLEAR(20); CLEAR(21); CLEAR(22); CLEAR(23);
        CLEAR(24); CLEAR(25); CLEAR(26); CLEAR(27); CLEAR(28); CLEAR(29); CLEAR(30); CLEAR(31);
    }
#undef CLEAR
#else
#define CLEAR(i) __asm__ volatile("movi v" #i ".2d, #0" ::: "v" #i)
    CLEAR(0); CLEAR(1); CLEAR(2); CLEAR(3); CLEAR(4); CLEAR(5); CLEAR(6); CLEAR(7);
    CLEAR(16); CLEAR(17); CLEAR(18); CLEAR(19); CLEAR(20); CLEAR(21); CLEAR(22); CLEAR(23);
    CLEAR(24); CLEAR(25); CLEAR(26); CLEAR(27); CLEAR(28); CLEAR(29); CLEAR(30); CLEAR(31);
#undef CLEAR
#endif
}

/* What lies above `next` is libc's, and the frame that jumps to the program's function. How many bytes
 * below are to be cleared. */
size_t besom_thread_begin(struct start *start, struct next *next) {
    bool own_stack = start->own_stack, small = start->small;
    *next = (struct next){start->fn, start->arg};
    drop(start);
    bs_shim_fault_unblock(); /* its attributes may have a mask */
    bs_world_unblock();
    if (!small)
        tell_bounds(own_stack, (uintptr_t)next);
    clear_vectors(); /* nothing that follows uses them */
    return small ? SCRUB_SMALL : SCRUB;
}

/* Without a stack of its own an attribute says that it ends at address 0. */
static bool has_own_stack(const pthread_attr_t *attr) {
    void *low;
    size_t bytes;
    return attr != NULL && pthread_attr_getstack(attr, &low, &bytes) == 0 &&
           (uintptr_t)low + bytes != 0;
}
/* NULL: as libc makes them without. */
static bool has_small_stack(const pthread_attr_t *attr) {
    pthread_attr_t usual;
    size_t bytes = 0;
    if (attr != NULL)
        return pthread_attr_getstacksize(attr, &bytes) != 0 || bytes < SMALL_STACK;
    if (pthread_attr_init(&usual) != 0)
        return true;
    bool small = pthread_attr_getstacksize(&usual, &bytes) != 0 || bytes < SMALL_STACK;
    pthread_attr_destroy(&usual);
    return small;
}

BS_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, thread_function *fn,
                             void *arg) {
    struct start *start = start_of(fn, arg);
    if (start == NULL)
        return EAGAIN;
    start->own_stack = has_own_stack(attr);
    start->small = has_small_stack(attr);
    int error = REAL(pthread_create)(thread, attr, besom_thread_entry, start);
    if (error != 0)
        drop(start);
    return error;
}

/* The result comes in the same register. */
BS_EXPORT int thrd_create(thrd_t *thread, thrd_start_t fn, void *arg) {
    union {
        thrd_start_t theirs;
        thread_function *ours;
        void *(*entry)(void *);
    } u = {.theirs = fn};
    struct start *start = start_of(u.ours, arg);
    if (start == NULL)
        return thrd_nomem;
    start->small = has_small_stack(NULL);
    u.entry = besom_thread_entry;
    int result = REAL(thrd_create)(thread, u.theirs, start);
    if (result != thrd_success)
        drop(start);
    return result;
}
