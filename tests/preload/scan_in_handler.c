/* SPDX-License-Identifier: MIT */
/*
 * Promise: where a thread searches in a handler on an alternate stack that is a part of its usual one (a variable of
 * main, say), the frames that the signal has interrupted count, though they lie below the handler's. A program frees in a
 * handler that it has raised itself, and a quarantine is full: then it is such a search. And where the helper searches while
 * the handler runs; also on a stack that the kernel takes away meanwhile (SS_AUTODISARM), and gives back at the end.
 */
#include "promise.h"
#include "scan_drive.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>

enum { bytes = 3000, stack_bytes = 512 * 1024 };

static const struct scan_drive *drive;
static struct scan_seen seen;
static uintptr_t hidden; /* with all bits turned */
static unsigned how;

static void on_signal(int number) {
    (void)number;
    drive->ask(how);
    while (!drive->over(&seen))
        sleep_ms(1);
}

static void __attribute__((noinline)) forget(void) {
    volatile char junk[16384];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
    __asm__ volatile("" ::: "memory");
}
static void __attribute__((noinline)) make_block(uintptr_t *place) {
    void *block = malloc(bytes);
    hidden = ~(uintptr_t)block;
    *place = (uintptr_t)block;
}

static void __attribute__((noinline)) hold_and_raise(void) {
    volatile uintptr_t place[8] = {0};
    make_block((uintptr_t *)&place[4]);
    forget();
    for (unsigned tries = 0; tries < 100 && (tries == 0 || seen.end != 0); tries++) /* the machine may be busy */
        raise(SIGUSR1);
    BS_CHECK(place[4] == ~hidden, "the frame is as it was");
}

static void search(char *stack, int flags, const char *who) {
    const stack_t alternate = {.ss_sp = stack, .ss_size = stack_bytes, .ss_flags = flags};
    BS_CHECK(sigaltstack(&alternate, NULL) == 0, "sigaltstack");
    hold_and_raise();
    BS_CHECK(seen.end == 0, "%s: no verdict: end %d, world %d", who, seen.end, seen.world);
    BS_CHECK(drive->is_lost((void *)~hidden) == 0, "%s, flags %#x, way %u: what an interrupted frame leads to is lost",
             who, (unsigned)flags, how);
}

static void *work(void *who) {
    char stack[stack_bytes];
    const int plain = 0, disarmed = INT_MIN; /* SS_AUTODISARM */
    for (unsigned turn = 0; turn < 4; turn++) {
        how = turn % 2 == 0 ? SCAN_BY_CALLER : 0;
        search(stack, turn < 2 ? plain : disarmed, who);
    }
    const stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    return NULL;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    char first[] = "the first thread", another[] = "another thread";
    pthread_t thread;
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    BS_CHECK(drive != NULL, "libbesom-scans.so is not there");
    BS_CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    work(first);
    BS_CHECK(pthread_create(&thread, NULL, work, another) == 0, "pthread_create");
    pthread_join(thread, NULL);
    return 0;
}
