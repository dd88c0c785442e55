/* SPDX-License-Identifier: MIT */
/*
 * scan_oracle_register.c - registers as places for pointers, of threads that run and of threads that
 * wait in a system call, what libc keeps of them in a jmp_buf or ucontext, and the bytes below the stack
 * pointer; see scan_oracle.h. x86-64 only: elsewhere the list is empty.
 */
#include "scan_oracle.h"

#include <setjmp.h>
#include <sys/syscall.h>

#if defined __x86_64__

/* LOAD puts the pointer, in RAX, into place; CLEAR takes it away. RDX: the holder's words. */
#define SPIN "1: pause; cmpl $0, 4(%%rdx); je 1b;"
#define SLEEP                                                                                      \
    "1: mov $202, %%eax; lea 4(%%rdx), %%rdi; mov $128, %%esi; mov %%rdx, %%r8; xor %%edx, %%edx;" \
    "xor %%r10d, %%r10d; syscall; mov %%r8, %%rdx; cmpl $0, 4(%%rdx); je 1b;"
#define HOLD(h, LOAD, WAIT, CLEAR, ...)                                                            \
    __asm__ volatile("not %%rax;" LOAD "xor %%ecx, %%ecx; movl $1, (%%rdx);" WAIT CLEAR            \
                     "xor %%eax, %%eax"                                                            \
                     : "+a"(hidden_)                                                               \
                     : "d"(&(h)->ready)                                                            \
                     : "rcx", "rsi", "rdi", "r8", "r10", "r11", "cc", "memory", ##__VA_ARGS__)
_Static_assert(offsetof(struct oracle_holder, released) == offsetof(struct oracle_holder, ready) + 4,
               "the waits above look there");

#define PLACE(name, LOAD, WAIT, CLEAR, ...)                                                        \
    static void name(struct oracle_holder *h) {                                                    \
        uintptr_t hidden_ = h->hidden;                                                             \
        HOLD(h, LOAD, WAIT, CLEAR, ##__VA_ARGS__);                                                 \
    }
#define GENERAL(reg)                                                                               \
    PLACE(runs_##reg, "mov %%rax, %%" #reg "; xor %%eax, %%eax;", SPIN, "xor %%" #reg ", %%" #reg ";", #reg)
#define SAVED(reg)                                                                                 \
    GENERAL(reg)                                                                                   \
    PLACE(waits_##reg, "mov %%rax, %%" #reg "; xor %%eax, %%eax;", SLEEP, "xor %%" #reg ", %%" #reg ";", #reg)
SAVED(rbx)
SAVED(r12)
SAVED(r13)
SAVED(r14)
SAVED(r15)
SAVED(r9)
PLACE(runs_rax, "", SPIN, "")
PLACE(runs_rsi, "mov %%rax, %%rsi; xor %%eax, %%eax;", SPIN, "xor %%esi, %%esi;")
PLACE(runs_rdi, "mov %%rax, %%rdi; xor %%eax, %%eax;", SPIN, "xor %%edi, %%edi;")
PLACE(runs_r8, "mov %%rax, %%r8; xor %%eax, %%eax;", SPIN, "xor %%r8d, %%r8d;")
PLACE(runs_r11, "mov %%rax, %%r11; xor %%eax, %%eax;", SPIN, "xor %%r11d, %%r11d;")
/* Not a clobber: it may be the frame's pointer. RAX has it meanwhile. */
PLACE(runs_rbp, "xchg %%rax, %%rbp;", SPIN, "mov %%rax, %%rbp;")
/* The system call needs RAX. */
PLACE(waits_rbp, "mov %%rbp, %%r9; mov %%rax, %%rbp; xor %%eax, %%eax;", SLEEP, "mov %%r9, %%rbp;", "r9")

#define VECTOR(name, LOAD, CLEAR, ...)                                                             \
    PLACE(runs_##name, LOAD "xor %%eax, %%eax;", SPIN, CLEAR, ##__VA_ARGS__)                       \
    PLACE(waits_##name, LOAD "xor %%eax, %%eax;", SLEEP, CLEAR, ##__VA_ARGS__)
VECTOR(xmm0, "movq %%rax, %%xmm0;", "pxor %%xmm0, %%xmm0;", "xmm0")
VECTOR(xmm15, "movq %%rax, %%xmm15; pslldq $8, %%xmm15;", "pxor %%xmm15, %%xmm15;", "xmm15")
VECTOR(ymm7, "vmovq %%rax, %%xmm7; vpermq $0x1b, %%ymm7, %%ymm7;", "vzeroupper; pxor %%xmm7, %%xmm7;", "xmm7")
#if defined __clang__ || __GNUC__ >= 10
#define UPPER "vpxorq %%zmm20, %%zmm20, %%zmm20;"
VECTOR(zmm20, UPPER "vpbroadcastq %%rax, %%zmm20;", UPPER)
VECTOR(k3, "kmovq %%rax, %%k3;", "kxorq %%k3, %%k3, %%k3;")
#endif
VECTOR(mm3, "movq %%rax, %%mm3;", "pxor %%mm3, %%mm3; emms;")

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2");
}
static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512bw");
}

/* --- below the stack pointer -------------------------------------------------------------------- */

#define BELOW(bytes)                                                                               \
    "sub $512, %%rsp; mov %%rax, -" #bytes "(%%rsp); xor %%eax, %%eax;"
#define ABOVE(bytes) "movq $0, -" #bytes "(%%rsp); add $512, %%rsp;"
PLACE(runs_red_zone, BELOW(128), SPIN, ABOVE(128))
PLACE(waits_red_zone, BELOW(8), SLEEP, ABOVE(8))

/* --- saved by libc ------------------------------------------------------------------------------ */

/* Calls fn(buffer) with the pointer in RBX or RBP. */
void oracle_call_with_rbx(uintptr_t hidden, void *buffer, void *fn);
void oracle_call_with_rbp(uintptr_t hidden, void *buffer, void *fn);
#define CALL_WITH(reg)                                                                             \
    __asm__(".text\n.globl oracle_call_with_" #reg "\n.type oracle_call_with_" #reg ", @function\n" \
            "oracle_call_with_" #reg ":\n push %rbx\n push %rbp\n sub $8, %rsp\n"                  \
            " mov %rdi, %" #reg "\n not %" #reg "\n mov %rsi, %rdi\n call *%rdx\n"                 \
            " add $8, %rsp\n pop %rbp\n pop %rbx\n ret\n"                                          \
            ".size oracle_call_with_" #reg ", . - oracle_call_with_" #reg "\n");
CALL_WITH(rbx)
CALL_WITH(rbp)

static ucontext_t contexts[oracle_threads];
static jmp_buf buffers[oracle_threads];

static void save_context(struct oracle_holder *h) {
    oracle_call_with_rbp(h->hidden, &contexts[h->number], (void *)getcontext);
}
static void by_context(struct oracle_holder *h) {
    oracle_aside(h, save_context);
    oracle_stay(h);
    memset(&contexts[h->number], 0, sizeof contexts[0]);
}
static void save_rbx(struct oracle_holder *h) {
    oracle_call_with_rbx(h->hidden, buffers[h->number], (void *)_setjmp);
}
static void save_rbp(struct oracle_holder *h) {
    oracle_call_with_rbp(h->hidden, buffers[h->number], (void *)_setjmp);
}
static void hold_in_buffer(struct oracle_holder *h, void (*save)(struct oracle_holder *)) {
    oracle_aside(h, save);
    oracle_stay(h);
    memset(buffers[h->number], 0, sizeof buffers[0]);
}
static void by_jump(struct oracle_holder *h) {
    hold_in_buffer(h, save_rbx);
}
static void by_mangled_jump(struct oracle_holder *h) {
    hold_in_buffer(h, save_rbp);
}

/* --- of the machine ----------------------------------------------------------------------------- */

static void set_gs(struct oracle_holder *h) {
    BS_CHECK(syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, ~h->hidden) == 0, "arch_prctl");
}
static void by_gs(struct oracle_holder *h) {
    oracle_aside(h, set_gs);
    oracle_stay(h);
    BS_CHECK(syscall(SYS_arch_prctl, 0x1001, 0ul) == 0, "arch_prctl");
}

#define RUNS(reg) {.name = #reg " of a thread that runs", .hold = runs_##reg, .flags = ORACLE_SPINS}
#define WAITS(reg) {.name = #reg " of a thread that waits", .hold = waits_##reg}
const struct oracle_place oracle_register_places[] = {
    RUNS(rax), RUNS(rbx), RUNS(rsi), RUNS(rdi), RUNS(rbp), RUNS(r8), RUNS(r9), RUNS(r11), RUNS(r12),
    RUNS(r13), RUNS(r14), RUNS(r15), WAITS(rbx), WAITS(rbp), WAITS(r9), WAITS(r12), WAITS(r13),
    WAITS(r14), WAITS(r15), RUNS(xmm0), RUNS(xmm15), WAITS(xmm0), WAITS(xmm15), RUNS(mm3), WAITS(mm3),
    {.name = "ymm7 of a thread that runs", .hold = runs_ymm7, .flags = ORACLE_SPINS, .is_there = has_avx2},
    {.name = "ymm7 of a thread that waits", .hold = waits_ymm7, .is_there = has_avx2},
    {.name = "zmm20 of a thread that runs", .hold = runs_zmm20, .flags = ORACLE_SPINS, .is_there = has_avx512},
    {.name = "zmm20 of a thread that waits", .hold = waits_zmm20, .is_there = has_avx512},
    {.name = "k3 of a thread that runs", .hold = runs_k3, .flags = ORACLE_SPINS, .is_there = has_avx512},
    {.name = "k3 of a thread that waits", .hold = waits_k3, .is_there = has_avx512},
    {.name = "red zone of a thread that runs", .hold = runs_red_zone, .flags = ORACLE_SPINS},
    {.name = "red zone of a thread that waits", .hold = waits_red_zone},
    {.name = "ucontext", .hold = by_context},
    {.name = "rbx in a jmp_buf", .hold = by_jump},
    {.name = "rbp in a jmp_buf", .hold = by_mangled_jump, .sight = ORACLE_BLIND},
    {.name = "base of GS", .hold = by_gs, .sight = ORACLE_BLIND},
    {.name = NULL},
};

#else
const struct oracle_place oracle_register_places[] = {{.name = NULL}};
#endif
