/* SPDX-License-Identifier: MIT */
/* scan_oracle_thread.c - places for pointers that belong to one thread or stack; see scan_oracle.h. */
#include "scan_oracle.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

enum { stack_bytes = 64 * 1024, end_bytes = 64, high_key = 40 };

/* --- thread-local memory ---------------------------------------------------------------------- */

static pthread_key_t keys[high_key + 1];
static pthread_once_t keys_made = PTHREAD_ONCE_INIT;
static __thread void *in_static_tls;
static __thread void *in_large_tls[500] = {&keys_made};

static void by_static_tls(struct oracle_holder *h) {
    oracle_hold_at(h, &in_static_tls);
}
static void by_large_tls(struct oracle_holder *h) {
    oracle_hold_at(h, &in_large_tls[10 + h->number]);
}
static void by_dynamic_tls(struct oracle_holder *h) {
    void *module = dlopen(getenv("ORACLE_MODULE"), RTLD_NOW);
    BS_CHECK(module != NULL, "%s", dlerror());
    void **(*local)(void) = (void **(*)(void))dlsym(module, "scanmod_local");
    BS_CHECK(local != NULL, "no function in the module");
    oracle_hold_at(h, local());
    dlclose(module);
}


static void make_keys(void) {
    for (unsigned i = 0; i <= high_key; i++)
        BS_CHECK(pthread_key_create(&keys[i], NULL) == 0, "pthread_key_create");
}
static void set_low(struct oracle_holder *h) {
    pthread_setspecific(keys[0], ORACLE_SHOWN(h));
}
static void set_high(struct oracle_holder *h) {
    pthread_setspecific(keys[high_key], ORACLE_SHOWN(h));
}
static void hold_by_key(struct oracle_holder *h, void (*set)(struct oracle_holder *), pthread_key_t *key) {
    pthread_once(&keys_made, make_keys);
    oracle_aside(h, set);
    oracle_stay(h);
    pthread_setspecific(*key, NULL);
}
static void by_low_key(struct oracle_holder *h) {
    hold_by_key(h, set_low, &keys[0]);
}
static void by_high_key(struct oracle_holder *h) {
    hold_by_key(h, set_high, &keys[high_key]);
}

/* --- other threads ---------------------------------------------------------------------------- */

static void *give_back(void *arg) {
    struct oracle_holder *h = arg;
    return ORACLE_SHOWN(h); /* on a stack that nobody uses again before the thread is joined */
}
/* The value of a thread that has ended and was not joined. */
static void by_value(struct oracle_holder *h) {
    pthread_t thread;
    BS_CHECK(pthread_create(&thread, NULL, give_back, h) == 0, "no thread");
    sleep_ms(20);
    oracle_stay(h); /* for ever: libc keeps the stack, with the value, for the next thread */
}

/* A stack's end is an address beside it, and may not be that of the next block: so the last bytes of the
 * block are left unused. */

/* --- stacks ----------------------------------------------------------------------------------- */

static void by_local(struct oracle_holder *h) {
    void *volatile word[3];
    oracle_hold_at(h, (void *)&word[1]);
}
__attribute__((noinline)) static void by_deep_local(struct oracle_holder *h) {
    volatile char deep[20000];
    void *volatile word[3];
    memset((char *)deep, 0, sizeof deep);
    oracle_hold_at(h, (void *)&word[1]);
    deep[0] = 1;
}

/* Everything of the handler's lies on a stack that only the kernel knows of. */
static __thread struct oracle_holder *handled;
static void handler(int signo) {
    (void)signo;
    by_local(handled);
}
static void hold_in_handler(struct oracle_holder *h, char *stack) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    stack_t on = {.ss_sp = stack, .ss_size = stack_bytes - end_bytes}, off = {.ss_flags = SS_DISABLE};
    memset(stack, 0, stack_bytes);
    handled = h;
    BS_CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaltstack(&on, NULL) == 0, "sigaltstack");
    oracle_forget(); /* the thread's own, of which nothing counts as dead while it is on another */
    pthread_kill(pthread_self(), SIGUSR1);
    sigaltstack(&off, NULL);
    memset(stack, 0, stack_bytes);
}
static char *map_stack(void) {
    char *p = mmap(NULL, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    BS_CHECK(p != MAP_FAILED, "mmap");
    return p;
}
static void by_mapped_alternate_stack(struct oracle_holder *h) {
    char *stack = map_stack();
    hold_in_handler(h, stack);
    munmap(stack, stack_bytes);
}
static void by_alternate_stack(struct oracle_holder *h) {
    char *stack = malloc(stack_bytes);
    hold_in_handler(h, stack);
    free(stack);
}
/* The stack is in use by nobody; its address has the kernel alone. */
static uintptr_t hidden_stacks[oracle_threads];
static void give_alternate_stack(struct oracle_holder *h) {
    char *stack = calloc(1, stack_bytes);
    stack_t on = {.ss_sp = stack, .ss_size = stack_bytes - end_bytes};
    oracle_put(stack + 800, h->hidden);
    BS_CHECK(sigaltstack(&on, NULL) == 0, "sigaltstack");
    hidden_stacks[h->number] = ~(uintptr_t)stack;
}
static void take_alternate_stack(struct oracle_holder *h) {
    stack_t off = {.ss_flags = SS_DISABLE};
    sigaltstack(&off, NULL);
    memset((void *)~hidden_stacks[h->number], 0, stack_bytes);
    free((void *)~hidden_stacks[h->number]);
}
static void by_unused_alternate_stack(struct oracle_holder *h) {
    oracle_aside(h, give_alternate_stack);
    oracle_stay(h);
    oracle_aside(h, take_alternate_stack);
}

static void enter(struct oracle_holder *h, ucontext_t *to, char *stack, void (*fn)(void)) {
    getcontext(to);
    to->uc_stack.ss_sp = stack;
    to->uc_stack.ss_size = stack_bytes - end_bytes;
    to->uc_link = &h->here;
    makecontext(to, fn, 0);
    oracle_forget(); /* as above: malloc has left regions' addresses there, at which blocks end and begin */
    swapcontext(&h->here, to);
}
static void run_coroutine(void) {
    by_local(handled);
}
static void hold_on_coroutine(struct oracle_holder *h, char *stack) {
    handled = h;
    memset(stack, 0, stack_bytes);
    enter(h, &h->there, stack, run_coroutine);
    oracle_forget_contexts(h);
    memset(stack, 0, stack_bytes);
}
static void by_mapped_coroutine(struct oracle_holder *h) {
    char *stack = map_stack();
    hold_on_coroutine(h, stack);
    munmap(stack, stack_bytes);
}
static void by_coroutine(struct oracle_holder *h) {
    char *stack = malloc(stack_bytes);
    hold_on_coroutine(h, stack);
    free(stack);
}
/* It has gone aside, and its place is in a context of libc's. */
static void suspend(void) {
    struct oracle_holder *h = handled;
    void *volatile word[3];
    oracle_put((void *)&word[1], h->hidden);
    swapcontext(&h->there, &h->here);
    word[1] = NULL;
}
static void by_suspended_coroutine(struct oracle_holder *h) {
    char *stack = malloc(stack_bytes);
    memset(stack, 0, stack_bytes);
    handled = h;
    enter(h, &h->there, stack, suspend);
    oracle_stay(h);
    swapcontext(&h->here, &h->there);
    oracle_forget_contexts(h);
    memset(stack, 0, stack_bytes);
    free(stack);
}

const struct oracle_place oracle_thread_places[] = {
    {.name = "thread-local variable", .hold = by_static_tls},
    {.name = "large thread-local variable", .hold = by_large_tls},
    {.name = "thread-local variable of a loaded library", .hold = by_dynamic_tls},
    {.name = "key of pthread", .hold = by_low_key},
    {.name = "key of pthread beyond the first 32", .hold = by_high_key},
    {.name = "value of an ended thread", .hold = by_value, .flags = ORACLE_FOR_EVER},
    {.name = "local variable", .hold = by_local},
    {.name = "local variable far down", .hold = by_deep_local},
    {.name = "mapped alternate stack", .hold = by_mapped_alternate_stack},
    {.name = "alternate stack from malloc", .hold = by_alternate_stack},
    {.name = "unused alternate stack", .hold = by_unused_alternate_stack},
    {.name = "mapped coroutine stack", .hold = by_mapped_coroutine},
    {.name = "coroutine stack from malloc", .hold = by_coroutine},
    {.name = "suspended coroutine", .hold = by_suspended_coroutine},
    {.name = NULL},
};
