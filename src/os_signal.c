/* SPDX-License-Identifier: MIT */
/*
 * os_signal.c - the signal that stops threads: parts of os.h for world.c (which threads there are is os_tasks.c).
 *
 * It decides nothing. The handler runs on a thread of the program at any instruction, so between
 * entry and return it uses the thread's stack and the kernel, and of libc nothing.
 */
#define _GNU_SOURCE
#include "os.h"

#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

/* The kernel's numbers: 32 and 33 are libc's, and 62 to 64 are what others take first from above. */
#define FIRST_SIGNAL 36
#define LAST_SIGNAL BS_OS_SIGNAL_FIRST_ASKED
#define LIBC_SIGNALS (bs_signal_bit(32) | bs_signal_bit(33))

/* --- the handler ------------------------------------------------------------------------------ */

typedef void info_handler(int, siginfo_t *, void *);

/* [atomic] The kernel comes between: a thread that gets the signal sees what was done before the action was set. */
static bs_os_signal_handler *handler;
static info_handler *beside; /* [atomic] the program's, of signals that are shared: always the same */
static uint64_t shared;      /* [atomic] which are, or were: until their action is the default one */

/* The number of the system call that has just ended; -1: none has, or it is not known. A thread that makes one
 * after the other, sched_yield say, is found there nearly always. (Under a sanitizer besom itself makes
 * some of libc's.) */
static long call_before(uintptr_t pc, long number) {
    if (BS_SANITIZED)
        return -1;
#if defined(__x86_64__)
    /* The result has overwritten it: it is read where libc loads it, next to the call. */
    unsigned char code[8];
    (void)number;
    if (bs_os_read_memory(pc - 8, code, 8) != 8 || code[6] != 0x0f || code[7] != 0x05)
        return -1;
    if (code[4] == 0x31 && code[5] == 0xc0 && (code[3] & 0xf0) != 0x40) /* xor eax, eax */
        return 0;
    if (code[1] != 0xb8 || (code[0] & 0xf0) == 0x40) /* mov eax, number; 0x40 to 0x4f: another register */
        return -1;
    return (long)code[2] | (long)code[3] << 8 | (long)code[4] << 16 | (long)code[5] << 24;
#else
    return bs_os_is_call(pc - BS_OS_CALL_BYTES) ? number : -1;
#endif
}

/* A call that a handler interrupts has failed, or has been wound back to begin again, or it has just ended.
 * That of the clock never waits, so it is told apart by its number. */
static void read_call(struct bs_os_frame *f, long result, long number, bool may_be_again) {
    bool at = bs_os_is_call(f->pc);
    bool behind = (result > 0 || result == -EINTR) && bs_os_is_call(f->pc - BS_OS_CALL_BYTES);
    f->call_failed = behind && result == -EINTR;
    f->call_ended = behind && result > 0;
    f->call_again = at && may_be_again;
    f->in_call = f->call_failed || (number != SYS_clock_gettime && at);
    long before = f->in_call ? -1 : call_before(f->pc, number);
    f->in_call |= before >= 0 && before != SYS_clock_gettime;
}

/* What is interrupted, if it is a system call that begins, or begins again. */
struct call_at {
    uintptr_t pc, sp;
    long number, second; /* of its arguments */
    bool was_made;       /* as far as can be seen */
};

#if defined(__x86_64__)

/* What unwinders recognise as the way back from a signal. */
__asm__(".pushsection .text\n\t"
        ".hidden bs_os_sigreturn\n\t"
        ".globl bs_os_sigreturn\n\t"
        ".type bs_os_sigreturn, @function\n\t"
        "nop\n"
        "bs_os_sigreturn:\n\t"
        "movq $15, %rax\n\t"
        "syscall\n\t"
        ".size bs_os_sigreturn, .-bs_os_sigreturn\n\t"
        ".popsection");
extern void bs_os_sigreturn(void);

uintptr_t bs_os_thread_pointer(void) {
    uintptr_t tp;
    __asm__("mov %%fs:0, %0" : "=r"(tp));
    return tp;
}

/* The instruction leaves the place behind it in RCX: the call was made from here, and has been wound back. */
static bool was_made(const greg_t *r) {
    return r[REG_RCX] == r[REG_RIP] + BS_OS_CALL_BYTES;
}

/* The vector registers lie above the others, in a block that knows its length. */
static void read_registers(struct bs_os_frame *f, const ucontext_t *uc) {
    const greg_t *r = uc->uc_mcontext.gregs;
    f->sp = (uintptr_t)r[REG_RSP];
    f->pc = (uintptr_t)r[REG_RIP];
    f->regs = (uintptr_t)uc;
    f->regs_end = (uintptr_t)(&uc->uc_mcontext + 1);
    const char *fp = (const char *)uc->uc_mcontext.fpregs;
    if (fp != NULL) {
        uint32_t magic, bytes; /* software's words at the end of the 512 bytes of FXSAVE */
        __builtin_memcpy(&magic, fp + 464, sizeof magic);
        __builtin_memcpy(&bytes, fp + 468, sizeof bytes);
        f->regs_end = (uintptr_t)fp + (magic == 0x46505853 && bytes < BS_MIB ? bytes : 512);
    }
    read_call(f, (long)r[REG_RAX], (long)r[REG_RAX], was_made(r));
}

static struct call_at call_at(const ucontext_t *uc) {
    const greg_t *r = uc->uc_mcontext.gregs;
    return (struct call_at){(uintptr_t)r[REG_RIP], (uintptr_t)r[REG_RSP], (long)r[REG_RAX], (long)r[REG_RSI],
                            was_made(r)};
}

static void end_call(ucontext_t *uc) {
    uc->uc_mcontext.gregs[REG_RAX] = -EINTR;
    uc->uc_mcontext.gregs[REG_RIP] += BS_OS_CALL_BYTES;
}

#else

uintptr_t bs_os_thread_pointer(void) {
    return (uintptr_t)__builtin_thread_pointer();
}

static void bs_os_sigreturn(void) {
} /* the kernel has its own */

/* The vector registers lie in records behind the others, or where the last record says. */
static void read_registers(struct bs_os_frame *f, const ucontext_t *uc) {
    const mcontext_t *m = &uc->uc_mcontext;
    f->sp = m->sp;
    f->pc = m->pc;
    f->regs = (uintptr_t)uc;
    f->regs_end = (uintptr_t)(uc + 1);
    const unsigned char *at = m->__reserved, *end = at + sizeof m->__reserved - 16;
    for (uint32_t record[2]; at < end; at += record[1]) {
        __builtin_memcpy(record, at, sizeof record);
        if (record[0] == 0 || record[1] < 16)
            break;
        if (record[0] == 0x45585401) { /* EXTRA: address, bytes */
            uint64_t data;
            uint32_t bytes;
            __builtin_memcpy(&data, at + 8, sizeof data);
            __builtin_memcpy(&bytes, at + 16, sizeof bytes);
            f->regs_end = data + bytes;
        }
    }
    read_call(f, (long)m->regs[0], (long)m->regs[8], true);
}

static struct call_at call_at(const ucontext_t *uc) {
    const mcontext_t *m = &uc->uc_mcontext;
    return (struct call_at){m->pc, m->sp, (long)m->regs[8], (long)m->regs[1], true};
}

static void end_call(ucontext_t *uc) {
    uc->uc_mcontext.regs[0] = (uint64_t)-EINTR;
    uc->uc_mcontext.pc += BS_OS_CALL_BYTES;
}

#endif

/* Calls that wait, and that the kernel begins again for SA_RESTART. Where one is about to be made and was not made yet,
 * which cannot always be told apart, it does no harm either. */
static bool may_be_ended(const struct call_at *call) {
    switch (call->number) {
    case SYS_read: case SYS_readv: case SYS_write: case SYS_writev: case SYS_recvfrom: case SYS_recvmsg:
    case SYS_recvmmsg: case SYS_sendto: case SYS_sendmsg: case SYS_sendmmsg: case SYS_accept: case SYS_accept4:
    case SYS_connect: case SYS_wait4: case SYS_waitid: case SYS_flock: case SYS_openat: case SYS_splice:
    case SYS_sendfile: case SYS_mq_timedsend: case SYS_mq_timedreceive:
#ifdef SYS_open
    case SYS_open:
#endif
        return true;
    case SYS_fcntl:
        return call->second == F_SETLKW || call->second == F_OFD_SETLKW;
    case SYS_futex:
        return (call->second & FUTEX_CMD_MASK) == FUTEX_WAIT || (call->second & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;
    default:
        return false;
    }
}

void bs_os_signal_end_call(int signal, void *context, uint64_t place) {
    struct call_at call = call_at(context);
    struct bs_kernel_sigaction now = {0};
    if (bs_os_call_place(call.pc, call.sp) != place || !call.was_made || !may_be_ended(&call))
        return;
    if (bs_sys4(SYS_rt_sigaction, signal, NULL, &now, sizeof now.mask) == 0 && (now.flags & SA_RESTART) == 0)
        end_call(context);
}

static uint64_t low_mask(const sigset_t *set) {
    uint64_t mask;
    __builtin_memcpy(&mask, set, sizeof mask);
    return mask;
}

/* As without us. The default action comes when the handler returns. */
static void act_by_default(int signal) {
    struct bs_kernel_sigaction dfl = {0};
    (void)bs_sys4(SYS_rt_sigaction, signal, &dfl, NULL, sizeof dfl.mask);
    (void)bs_sys3(SYS_tgkill, bs_os_pid(), bs_os_tid(), signal);
}

/* With this in its upper bits a value is not one that a program sends to itself by chance. */
#define MAGIC_MASK 0xffff000000000000u
#define MAGIC 0xbe50000000000000u

static struct bs_os_frame frame_of(const ucontext_t *uc) {
    struct bs_os_frame f = {.thread_pointer = bs_os_thread_pointer(),
                            .mask = low_mask(&uc->uc_sigmask)};
    read_registers(&f, uc);
    if ((uc->uc_stack.ss_flags & SS_DISABLE) == 0) {
        f.alt_base = (uintptr_t)uc->uc_stack.ss_sp;
        f.alt_end = f.alt_base + uc->uc_stack.ss_size;
    }
    return f;
}

#if BS_SANITIZE_THREAD
BS_NOINLINE
#endif
static void answer(int signal, siginfo_t *info, void *context) {
    uint64_t value = (uint64_t)(uintptr_t)info->si_value.sival_ptr;
    if (!bs_os_signal_is_from_besom(info)) {
        if ((bs_load(&shared) & bs_signal_bit(signal)) != 0)
            bs_load(&beside)(signal, info, context);
        else
            act_by_default(signal);
        return;
    }
    struct bs_os_frame f = frame_of(context);
    bs_tsan_acquire(&handler); /* pairs with bs_os_signal_send, through the kernel */
    bs_load(&handler)(value & ~(uint64_t)MAGIC_MASK, &f);
}

/* (ThreadSanitizer does not see it, and lets no signal through that finds a thread in its library: os_tsan.c.) */
BS_UNCHECKED static void entry(int signal, siginfo_t *info, void *context) {
#if BS_SANITIZE_THREAD
    if (info->si_code == SI_QUEUE && !bs_os_signal_may_answer(context))
        return;
#endif
    answer(signal, info, context);
}

/* --- the signal ------------------------------------------------------------------------------- */

/* A handler, of either kind, as the kernel's structure has it. */
union handler {
    info_handler *with_info;
    void (*plain)(int);
};

static unsigned alternate = SA_ONSTACK; /* [atomic, seq_cst] 0: threads share such a stack */
static int taken;                       /* [atomic, seq_cst] the signal that was taken last, or is about to be */

static struct bs_kernel_sigaction action_of(info_handler *fn) {
    union handler u = {.with_info = fn};
    struct bs_kernel_sigaction action = {.handler = u.plain, .mask = ~(uint64_t)0,
                                         .flags = SA_SIGINFO | SA_RESTART | __atomic_load_n(&alternate, __ATOMIC_SEQ_CST)};
#if defined(__x86_64__)
    action.flags |= 0x04000000; /* SA_RESTORER */
    action.restorer = bs_os_sigreturn;
#else
    (void)bs_os_sigreturn;
#endif
    return action;
}

static struct bs_kernel_sigaction our_action(void) {
    return action_of(entry);
}

static bs_os_signal_handler *watcher; /* [atomic] like handler */

static void see(int signal, siginfo_t *info, void *context) {
    struct bs_os_frame f = frame_of(context);
    (void)info;
    bs_load(&watcher)((uint64_t)signal, &f);
}

int bs_os_signal_watch(int signal, bs_os_signal_handler *fn) {
    struct bs_kernel_sigaction action = action_of(see);
    bs_store(&watcher, fn);
    return (int)-bs_sys4(SYS_rt_sigaction, signal, &action, NULL, sizeof action.mask);
}

static bool has_action(int signal, struct bs_kernel_sigaction action) {
    struct bs_kernel_sigaction now = {0};
    return bs_sys4(SYS_rt_sigaction, signal, NULL, &now, sizeof now.mask) == 0 &&
           now.handler == action.handler;
}

bool bs_os_signal_is_watched(int signal) {
    return has_action(signal, action_of(see));
}

bool bs_os_signal_is_ours(int signal) {
    return has_action(signal, our_action());
}

struct bs_range bs_os_signal_stack(void) {
    stack_t stack = {.ss_flags = SS_DISABLE};
    (void)bs_sys2(SYS_sigaltstack, NULL, &stack);
    uintptr_t start = (stack.ss_flags & SS_DISABLE) == 0 ? (uintptr_t)stack.ss_sp : 0;
    return (struct bs_range){start, start != 0 ? start + stack.ss_size : 0};
}

uintptr_t bs_os_signal_handler_of(int signal) {
    struct bs_kernel_sigaction now = {0};
    (void)bs_sys4(SYS_rt_sigaction, signal, NULL, &now, sizeof now.mask);
    return (uintptr_t)now.handler;
}

void bs_os_signal_again(int signal, const void *info) {
    (void)bs_sys4(SYS_rt_tgsigqueueinfo, bs_os_pid(), bs_os_tid(), signal, info);
}

/* 0: ours is the signal's action now. -EBUSY: it was not `now` any more, and is what it was. */
static long exchange(int signal, const struct bs_kernel_sigaction *now, const struct bs_kernel_sigaction *ours) {
    struct bs_kernel_sigaction old;
    long ret = bs_sys4(SYS_rt_sigaction, signal, ours, &old, sizeof old.mask);
    if (ret != 0 || old.handler == now->handler)
        return ret;
    (void)bs_sys4(SYS_rt_sigaction, signal, &old, NULL, sizeof old.mask);
    return -EBUSY;
}

bool bs_os_signal_stacks_are_shared(void) {
    return __atomic_load_n(&alternate, __ATOMIC_SEQ_CST) == 0;
}

/* After the action was installed: what was found out meanwhile holds for it too. (One that is shared keeps the flags
 * that its owner wants.) */
static void follow_stacks(int signal) {
    struct bs_kernel_sigaction ours = our_action();
    if (bs_os_signal_stacks_are_shared() && (bs_load(&shared) & bs_signal_bit(signal)) == 0 &&
        bs_os_signal_is_ours(signal))
        (void)exchange(signal, &ours, &ours);
}

void bs_os_signal_share_stacks(int watched) {
    __atomic_store_n(&alternate, 0, __ATOMIC_SEQ_CST);
    int signal = __atomic_load_n(&taken, __ATOMIC_SEQ_CST);
    if (signal != 0)
        follow_stacks(signal);
    if (watched != 0 && bs_os_signal_is_watched(watched))
        (void)bs_os_signal_watch(watched, bs_load(&watcher));
}

int bs_os_signal_take(bs_os_signal_handler *fn, uint64_t avoid) {
    struct bs_kernel_sigaction ours = our_action(), now;
    bs_store(&handler, fn);
    for (int signal = LAST_SIGNAL; signal >= FIRST_SIGNAL; signal--) {
        if ((avoid & bs_signal_bit(signal)) != 0)
            continue;
        long ret = bs_sys4(SYS_rt_sigaction, signal, NULL, &now, sizeof now.mask);
        if (ret == 0 && now.handler != SIG_DFL)
            continue;
        if (ret == 0) {
            bs_os_signal_unshare(signal);
            __atomic_store_n(&taken, signal, __ATOMIC_SEQ_CST);
            ret = exchange(signal, &now, &ours);
        }
        if (ret == 0)
            follow_stacks(signal);
        if (ret != -EBUSY)
            return ret == 0 ? signal : (int)ret;
    }
    return -EBUSY;
}

void bs_os_signal_unshare(int signal) {
    __atomic_fetch_and(&shared, ~bs_signal_bit(signal), __ATOMIC_RELAXED);
}

/* An action that ours can stand for: the mask, but for what nobody can block, and for libc's own two signals,
 * which wait a moment longer; SIGSEGV may be left out. */
static bool is_like_ours(const struct bs_kernel_sigaction *action) {
    const unsigned long all = SA_SIGINFO | SA_RESTART | SA_ONSTACK, none = SA_NODEFER | SA_RESETHAND;
    const uint64_t others = bs_signal_bit(SIGKILL) | bs_signal_bit(SIGSTOP) | bs_signal_bit(SIGSEGV) | LIBC_SIGNALS;
    return (action->flags & (all | none)) == all && (action->mask | others) == ~(uint64_t)0;
}

int bs_os_signal_share(bs_os_signal_handler *fn, uintptr_t theirs, uint64_t avoid) {
    struct bs_kernel_sigaction ours = our_action(), now;
    bs_store(&handler, fn);
    for (int signal = LAST_SIGNAL; signal >= FIRST_SIGNAL; signal--) {
        union handler u;
        if ((avoid & bs_signal_bit(signal)) != 0 ||
            bs_sys4(SYS_rt_sigaction, signal, NULL, &now, sizeof now.mask) != 0 ||
            (uintptr_t)now.handler != theirs || !is_like_ours(&now))
            continue;
        u.plain = now.handler;
        bs_store(&beside, u.with_info);
        __atomic_fetch_or(&shared, bs_signal_bit(signal), __ATOMIC_RELAXED);
        ours.mask = now.mask | LIBC_SIGNALS;
        long ret = exchange(signal, &now, &ours);
        if (ret != -EBUSY)
            return ret == 0 ? signal : (int)ret;
    }
    return -EBUSY;
}

bool bs_os_signal_is_from_besom(const void *info) {
    const siginfo_t *i = info;
    return i->si_code == SI_QUEUE && i->si_pid == bs_os_pid() &&
           ((uint64_t)(uintptr_t)i->si_value.sival_ptr & MAGIC_MASK) == MAGIC;
}

void bs_os_signal_unblock(int signal) {
    const uint64_t set = bs_signal_bit(signal);
    (void)bs_sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, sizeof set);
}

static struct {
    unsigned n; /* [atomic, seq_cst] who forgo it */
    int signal; /* [who was the first of them; then the last] */
    struct bs_kernel_sigaction before; /* likewise */
} forgone;

bool bs_os_signal_is_forgone(void) {
    return __atomic_load_n(&forgone.n, __ATOMIC_SEQ_CST) != 0;
}

/* Who stops others may have seen a moment ago that it is not forgone: what it sends then is ignored. (Or it is in the
 * middle of bs_os_signal_discard, sends nothing, and has seen it by the next time.) */
void bs_os_signal_forgo(int signal) {
    struct bs_kernel_sigaction ignore = {.handler = SIG_IGN}, now = {0};
    bool first = __atomic_fetch_add(&forgone.n, 1, __ATOMIC_SEQ_CST) == 0;
    (void)bs_sys4(SYS_rt_sigaction, signal, NULL, &now, sizeof now.mask);
    if (first) {
        forgone.signal = signal;
        forgone.before = now;
    }
    if (now.handler == our_action().handler)
        (void)exchange(signal, &now, &ignore);
}

void bs_os_signal_recall(void) {
    struct bs_kernel_sigaction ignore = {.handler = SIG_IGN};
    unsigned n = __atomic_load_n(&forgone.n, __ATOMIC_SEQ_CST);
    if (n == 1 && forgone.before.handler == our_action().handler)
        (void)exchange(forgone.signal, &ignore, &forgone.before);
    if (n != 0)
        (void)__atomic_fetch_sub(&forgone.n, 1, __ATOMIC_SEQ_CST);
}

int bs_os_signal_send(int signal, int tid, uint64_t value) {
    siginfo_t info;
    if (bs_os_signal_is_forgone())
        return EAGAIN;
    memset(&info, 0, sizeof info);
    int pid = bs_os_pid();
    bs_tsan_release(&handler);
    info.si_signo = signal;
    info.si_code = SI_QUEUE;
    info.si_pid = pid;
    info.si_value.sival_ptr = (void *)(uintptr_t)(value | MAGIC);
    return (int)-bs_sys4(SYS_rt_tgsigqueueinfo, pid, tid, signal, &info);
}

/* The kernel forgets a signal that waits, in every thread, when it is told to ignore it. (An action that the program
 * installs at this moment stays.) */
void bs_os_signal_discard(int signal) {
    struct bs_kernel_sigaction ours, ignore = {.handler = SIG_IGN};
    if (bs_sys4(SYS_rt_sigaction, signal, NULL, &ours, sizeof ours.mask) != 0 ||
        ours.handler != our_action().handler)
        return;
    if (exchange(signal, &ours, &ignore) == 0)
        (void)exchange(signal, &ignore, &ours);
    follow_stacks(signal);
}

/* What is ignored waits as well while it is blocked, and a signal sent again may wait for ours. */
bool bs_os_signal_another_waits(const struct bs_os_frame *frame) {
    uint64_t waiting = 0;
    (void)bs_sys2(SYS_rt_sigpending, &waiting, sizeof waiting);
    for (waiting &= ~frame->mask; waiting != 0; waiting &= waiting - 1) {
        struct bs_kernel_sigaction now = {0};
        int signal = __builtin_ctzll(waiting) + 1;
        (void)bs_sys4(SYS_rt_sigaction, signal, NULL, &now, sizeof now.mask);
        if (now.handler != SIG_DFL && now.handler != SIG_IGN &&
            now.handler != our_action().handler && now.handler != action_of(see).handler)
            return true;
    }
    return false;
}
