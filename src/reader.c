/* SPDX-License-Identifier: MIT */
/* reader.c - see reader.h, which has the proof. No locks. */
#include "reader.h"

#include "os.h"

/* Looks in a row before a thread that waits sleeps, and how long then. */
#define LOOKS 64
#define SLEEP_NS 20000u

struct bs_reader bs_reader;

/* --- who reads -------------------------------------------------------------------------------------- */

bool bs_reader_begin(void) {
    BS_CHECK(bs_load(&bs_reader.mode) == BS_READER_OFF);
    if (!bs_os_barrier_available())
        return false;
    bs_store(&bs_reader.mode, (uint32_t)BS_READER_DIRECT);
    if (bs_os_barrier())
        return true;
    bs_reader_end();
    return false;
}

void bs_reader_end(void) {
    bs_store(&bs_reader.span, NULL);
    /* release: pairs with bs_reader_pass and with ask; all was read */
    if (bs_load(&bs_reader.mode) != BS_READER_OFF)
        bs_store_release(&bs_reader.mode, (uint32_t)BS_READER_OFF);
}

/* There is no reading, or somebody has asked that there be none. True. */
BS_COLD bool bs_reader_refused(void) {
    bs_reader_let_go();
    if (bs_load_acquire(&bs_reader.mode) == BS_READER_ASKED) /* pairs with ask: looks see what was done before */
        bs_store_release(&bs_reader.mode, (uint32_t)BS_READER_COPIES);
    return true;
}

/* --- who retires ------------------------------------------------------------------------------------ */

static void breathe(unsigned looks) {
    if (looks % LOOKS == LOOKS - 1)
        bs_os_pause(SLEEP_NS);
}

/* No barrier: nothing is to be read directly from now on. */
static void ask(void) {
    uint32_t mode = BS_READER_DIRECT;
    /* release: what is DEAD is seen by who sees the question */
    (void)__atomic_compare_exchange_n(&bs_reader.mode, &mode, (uint32_t)BS_READER_ASKED, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_ACQUIRE);
    for (unsigned looks = 0; bs_load_acquire(&bs_reader.mode) == BS_READER_ASKED; looks++)
        breathe(looks);
}

static bool is_held(struct bs_span *const *spans, size_t n) {
    const struct bs_span *held = bs_load_acquire(&bs_reader.span);
    for (size_t i = 0; held != NULL && i < n; i++)
        if (spans[i] == held)
            return true;
    return false;
}

BS_COLD void bs_reader_wait(struct bs_span *const *spans, size_t n) {
    bool waits = !bs_os_barrier();
    if (!waits && !is_held(spans, n))
        return;
    (void)bs_add(&bs_reader.waiting, 1u);
    if (waits)
        ask();
    for (unsigned looks = 0; is_held(spans, n); looks++)
        breathe(looks);
    (void)bs_sub(&bs_reader.waiting, 1u);
}
