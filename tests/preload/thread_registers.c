/* SPDX-License-Identifier: MIT */
/*
 * Promise: a thread begins with nothing of besom's in its vector registers. What is left there by who made ready
 * for it, its argument for one, stays as long as the thread does not use them, and holds whatever block comes to live at
 * that address.
 *
 * The thread's first instructions store the registers as they are; all have to be zeros. Threads with small
 * stacks, of which less is asked, too.
 */
#include "promise.h"

#include <pthread.h>

#if defined(__x86_64__)
enum { register_bytes = 16, nregisters = 16 };
__asm__(".pushsection .text\n\t"
        ".globl store_registers\n\t"
        ".type store_registers, @function\n"
        "store_registers:\n\t"
        "movups %xmm0, 0(%rdi)\n\tmovups %xmm1, 16(%rdi)\n\tmovups %xmm2, 32(%rdi)\n\tmovups %xmm3, 48(%rdi)\n\t"
        "movups %xmm4, 64(%rdi)\n\tmovups %xmm5, 80(%rdi)\n\tmovups %xmm6, 96(%rdi)\n\tmovups %xmm7, 112(%rdi)\n\t"
        "movups %xmm8, 128(%rdi)\n\tmovups %xmm9, 144(%rdi)\n\tmovups %xmm10, 160(%rdi)\n\t"
        "movups %xmm11, 176(%rdi)\n\tmovups %xmm12, 192(%rdi)\n\tmovups %xmm13, 208(%rdi)\n\t"
        "movups %xmm14, 224(%rdi)\n\tmovups %xmm15, 240(%rdi)\n\t"
        "movq %rdi, %rax\n\t"
        "ret\n\t"
        ".size store_registers, .-store_registers\n\t"
        ".popsection");
#else
enum { register_bytes = 16, nregisters = 8 };
__asm__(".pushsection .text\n\t"
        ".globl store_registers\n\t"
        ".type store_registers, %function\n"
        "store_registers:\n\t"
        "stp q0, q1, [x0]\n\tstp q2, q3, [x0, #32]\n\tstp q4, q5, [x0, #64]\n\tstp q6, q7, [x0, #96]\n\t"
        "ret\n\t"
        ".size store_registers, .-store_registers\n\t"
        ".popsection");
#endif
void *store_registers(void *to);

static void check(const pthread_attr_t *attr, const char *what) {
    enum { words = nregisters * register_bytes / sizeof(uintptr_t) };
    for (unsigned turn = 0; turn < 20; turn++) {
        uintptr_t *stored = malloc(words * sizeof *stored);
        pthread_t thread;
        void *result;
        BS_CHECK(stored != NULL, "malloc");
        memset(stored, 0xff, words * sizeof *stored);
        BS_CHECK(pthread_create(&thread, attr, store_registers, stored) == 0, "no thread");
        BS_CHECK(pthread_join(thread, &result) == 0 && result == stored, "join");
        for (unsigned i = 0; i < words; i++)
            BS_CHECK(stored[i] == 0, "%s: half %u of register %u is %#lx", what, i % 2, i / 2,
                     (unsigned long)stored[i]);
        free(stored);
    }
}

int main(void) {
    pthread_attr_t small;
    check(NULL, "usual stack");
    BS_CHECK(pthread_attr_init(&small) == 0, "attributes");
    if ((size_t)sysconf(_SC_THREAD_STACK_MIN) <= 32 * BS_KIB) { /* on arm64 libc gives none as small */
        BS_CHECK(pthread_attr_setstacksize(&small, 32 * BS_KIB) == 0, "attributes");
        check(&small, "small stack");
    }
    return 0;
}
