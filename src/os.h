/* SPDX-License-Identifier: MIT */
/*
 * os.h - the only way to the kernel: memory states, clocks, files, futexes and threads.
 *
 * Memory is in one of three states, the contract that everything above relies on (after the Go
 * runtime's mem.go):
 *
 *     None      --reserve-->  Reserved   address space only, an access faults
 *     Reserved  --map------>  Prepared   may be made Ready at little cost; contents undefined
 *     Prepared  --used----->  Ready      may be accessed
 *     Ready     --unused--->  Ready      contents given up, physical memory back to the OS
 *     Ready     --decommit->  Prepared   the same, and an access faults until used() was called
 *     any       --free----->  None
 *
 * Linux commits at the page fault, so with decommit:soft map() makes pages accessible and used() has
 * nothing to do. With decommit:hard map() leaves them closed, and used() opens them: the pair
 * VirtualFree(MEM_DECOMMIT), VirtualAlloc(MEM_COMMIT) of another system. It is called for every span
 * that holds a released page, whatever the option says.
 *
 * Every function is thread-safe and async-signal-safe, keeps errno, takes no lock and allocates
 * nothing. Addresses and lengths are multiples of the OS page where not said otherwise; an
 * unaligned range to unused() is fatal, since the kernel would round it outward over live data.
 * Results: 0 or an errno value, or a pointer / NULL.
 */
#ifndef BS_OS_H
#define BS_OS_H

#include "base.h"

/* [start, end) */
struct bs_range {
    uintptr_t start, end;
};

/* --- memory --------------------------------------------------------------------------------- */

/* Bytes of the OS page (4, 16 or 64 KiB), read once from the kernel. */
size_t bs_os_page_size(void);

/* None -> Reserved: `bytes` at `align` (a power of two >= OS page), near hint if that is free. */
void *bs_os_reserve(uintptr_t hint, size_t bytes, size_t align);
/* None -> Ready at any address, zeroed; for metadata. */
void *bs_os_alloc(size_t bytes);
/* None -> readable zeros that cost no commit charge; bs_os_writable() opens parts of it. */
void *bs_os_alloc_readonly(size_t bytes);
int bs_os_writable(void *addr, size_t bytes);
/* Ready, and an access faults until bs_os_writable: what it holds stays. */
int bs_os_forbid(void *addr, size_t bytes);
/* PROT_READ, PROT_WRITE and PROT_EXEC for a mapping that is not besom's. */
int bs_os_allow(void *addr, size_t bytes, int rights);
int bs_os_map(void *addr, size_t bytes);
/* Whole pages of ours. ENOMEM: the pages could not be made Ready and must not be touched. */
int bs_os_used(void *addr, size_t bytes);
/* The range reads as zeros when it is used again; with advice:free as zeros or as it was, page by
 * page. A kernel that refuses MADV_FREE once is asked no more: MADV_DONTNEED from then on. */
int bs_os_unused(void *addr, size_t bytes);
/* The range reads as zeros, whatever the option says. */
int bs_os_zero(void *addr, size_t bytes);
/* On failure the range is as it was. It has lost its name and its advice on huge pages. */
int bs_os_decommit(void *addr, size_t bytes);
void bs_os_free(void *addr, size_t bytes);

/* Moves the pages of [from, from+bytes) to [to, to+bytes), both Ready and disjoint, the second reading as zeros; `from` is
 * Ready and zero afterwards. ENOSYS/EINVAL where the kernel cannot (before Linux 5.7). On failure `from` is as it was, and
 * `to` holds anything or is None, in part or as a whole. */
int bs_os_move(void *from, void *to, size_t bytes);
/* For it: what was moved to `to` before the kernel refused the rest is in `from` again. */
BS_COLD void bs_os_move_back(void *from, const void *to, size_t bytes);
/* Ready -> Ready, zero, with a mapping that can merge with its neighbours again (after a move). ENOMEM: the range may be
 * None by now, which bs_os_unused says by the same error. */
int bs_os_renew(void *addr, size_t bytes);
/* vec[i] bit 0: OS page i of the range is in memory (mincore). vec: bytes / OS page entries. */
int bs_os_residency(const void *addr, size_t bytes, unsigned char *vec);
/* Of these, bit 0 is cleared where page tables say that the page is swapped out: in the swap's cache it is in memory, but
 * nobody's resident memory. fd: bs_os_pages_open's; where it has no answer vec stays as it is. */
void bs_os_residency_less_swapped(int fd, const void *addr, size_t bytes, unsigned char *vec);
/* True if the word that holds byte p can be read: the kernel tries, nobody faults. */
bool bs_os_readable(uintptr_t p);
/* The calling thread may read what has any protection key (pkeys(7)), until it is given back what it had: who searches
 * the program's memory may be a thread to which the program has closed some. */
uint32_t bs_os_keys_open(void);
void bs_os_keys_back(uint32_t before);
/* Copies memory of the process that may be gone: bytes read, less where the mapping ends. -EFAULT: there is none;
 * another negated errno: the kernel does not say. */
long bs_os_read_memory(uintptr_t from, void *buf, size_t bytes);
/* Names the mappings of the range in /proc/self/maps where the kernel can (5.17). Never fails. */
void bs_os_name(void *addr, size_t bytes, const char *name);

/* --- huge pages (os_thp.c) ------------------------------------------------------------------ */

/* Bytes of a transparent huge page; 0 where the kernel has none; a negated errno where it could not be
 * asked (no file descriptor is free). Reads a file. */
long bs_os_huge_page_size(void);
/* Where the kernel makes huge pages, of any size: nowhere, where it was advised to, everywhere but
 * where it was advised not to. Reads files. */
enum bs_thp_kernel { BS_THP_KERNEL_NEVER, BS_THP_KERNEL_MADVISE, BS_THP_KERNEL_ALWAYS };
enum bs_thp_kernel bs_os_thp_kernel(void);
/* Free memory that lies ready in huge pages of 2 MiB and more: how many of 2 MiB could be had without
 * the kernel's moving anything. 0 where it does not say. Reads a file. */
size_t bs_os_huge_pages_ready(void);
/* The same, from the text of /proc/buddyinfo: a line "Node 0, zone Normal 17 28 ..." for each zone, free
 * blocks of 1, 2, 4 ... OS pages. `order` of a huge page. A line that is cut off counts as far as it goes. */
size_t bs_os_count_ready(const char *text, unsigned order);
/* Advice for the range; a difference to its neighbours costs a mapping. It cannot be withdrawn, only
 * turned into its opposite. 0 or errno: EINVAL where the kernel has no huge pages. */
int bs_os_no_huge_pages(void *addr, size_t bytes);
int bs_os_huge_pages(void *addr, size_t bytes);
/* Puts memory behind the range as a write would, without one, so that it may be anybody's. 0 or errno: EINVAL
 * before Linux 5.14. */
int bs_os_populate(void *addr, size_t bytes);

/* --- which pages hold something (os_pages.c) --------------------------------------------------- */

/* What is asked of the pages of one mapping, or of memory like it. */
enum {
    BS_PAGES_CHANGED = 1, /* private: not those that are still the file's */
    BS_PAGES_SHARED = 2   /* shared: what other processes wrote counts too */
};
/* A descriptor for the next question, of this process as it is now (a forked child opens its own);
 * negative where /proc has no answer: the question may be asked all the same. */
int bs_os_pages_open(void);
/* False: no page can be swapped out, and one that is not in memory holds nothing. */
bool bs_os_has_swap(void);
/* False: none is swapped out, of any process. */
bool bs_os_swap_is_used(void);
/* The parts of [start, end), accessible memory, that hold anything: in address order, at most `max`;
 * *next is where to ask again, `end` when all is told. Untouched pages, guard pages and pages beyond
 * the end of a file are in no part; what is swapped out is. Where the kernel does not say which pages
 * hold something, all that can be read are. */
size_t bs_os_populated(int fd, uintptr_t start, uintptr_t end, unsigned flags, struct bs_range *part,
                       size_t max, uintptr_t *next);
/* How the last of these was answered. */
enum bs_pages_source { BS_PAGES_UNKNOWN, BS_PAGES_SCAN, BS_PAGES_MAP, BS_PAGES_MINCORE, BS_PAGES_ALL };
enum bs_pages_source bs_os_pages_source(void);

/* --- which pages are written to (os_watch.c) --------------------------------------------------- */

/* Something to watch with; closed by bs_os_close, which ends the watching. Negated errno: this kernel
 * cannot, or may not. */
int bs_os_watch_open(void);
/* A number of what is open there; 0: nothing. A descriptor that is kept while the program runs may be the
 * program's own by now, if it closes descriptors that it does not know: then another number. */
uint64_t bs_os_identity(int fd);
/* Closes what was opened with this identity, or nothing, fd being negative. False: something else is open there, and it
 * stays so; what was read of it may be anything. */
bool bs_os_close_same(int fd, uint64_t identity);
/* From now on the kernel notes which pages of [start, end), private memory without a file, are written
 * to. pages: bs_os_pages_open. 0 or errno. */
int bs_os_watch(int watch, int pages, uintptr_t start, uintptr_t end);
/* The parts of [start, end) that were written to since, or came into memory, or are not watched, as
 * bs_os_populated tells them. `again`: the kernel forgets of those that it told of. */
size_t bs_os_written(int pages, uintptr_t start, uintptr_t end, bool again, struct bs_range *part,
                     size_t max, uintptr_t *next);

/* --- process, time, files ------------------------------------------------------------------- */

uint64_t bs_os_now_ns(void);        /* monotonic clock */
uint64_t bs_os_tick_ns(void);       /* the same at the kernel's last tick, 10 ms ago at most: a fifth of the price */
uint64_t bs_os_wall_ns(void);       /* since 1970, for the log */
uint64_t bs_os_thread_cpu_ns(void); /* CPU time of the calling thread */
int bs_os_pid(void);                /* asked of the kernel: right in vfork children too */
int bs_os_parent(void);
int bs_os_tid(void);
uintptr_t bs_os_thread_pointer(void); /* of the calling thread; on x86-64 its word at 0 */
/* True while thread tid of this process exists. */
bool bs_os_thread_alive(int tid);
/* True while there is a process of that number. */
bool bs_os_process_alive(int pid);
/* True while that process is in our process group: started with us, most likely. */
bool bs_os_same_group(int pid);
/* Page faults of the process so far: *major needed I/O. */
void bs_os_faults(uint64_t *minor, uint64_t *major);
/* True while the calling thread's user, groups and capabilities are those of the process's first
 * thread: a helper made before setuid() must not outlive it. True if /proc does not say. */
bool bs_os_same_credentials(void);
/* The calling thread, which libc does not know, takes those of the first thread. False: it may not, or that would be
 * seen; it may have some of them, and is to end. */
bool bs_os_take_credentials(void);
/* True while the calling thread has capabilities, or /proc does not say. */
bool bs_os_has_capabilities(void);
/* The program's name as the kernel knows it (at most 15 characters). */
void bs_os_program_name(char name[16]);
/* The file that was executed, as an absolute path. 0 or errno (ERANGE: it does not fit). */
int bs_os_program_path(char *path, size_t cap);
/* The working folder as an absolute path. 0 or errno (ERANGE: it does not fit). */
int bs_os_folder(char *path, size_t cap);
/* 16 random bytes of the kernel at program start, as a number; 0 if there are none. */
uint64_t bs_os_random(void);
/* True under AT_SECURE (setuid programs): the environment must be ignored. */
bool bs_os_secure(void);
/* RLIMIT_AS in bytes; UINT64_MAX: there is none. */
uint64_t bs_os_address_limit(void);

/* A file descriptor >= 0 or a negated errno. Opened close-on-exec. */
int bs_os_open_read(const char *path);
/* One of the files in /proc that say something of the process's memory (maps, smaps, pagemap, mem), by its name:
 * those of the first thread are empty once that has ended, so it is the calling thread's. */
int bs_os_open_own(const char *name);
/* The same for a file that may be missing: that is an answer and counts as no failure. */
int bs_os_open_if_there(const char *path);
int bs_os_open_append(const char *path);
/* -EEXIST if it is there already. */
int bs_os_open_new(const char *path);
/* For reading and appending; made if it is not there, and never waits for another end. */
int bs_os_open_whole(const char *path);
/* For appending to a file that must be there. */
int bs_os_open_again(const char *path);
/* Cuts the file to nothing. 0 or errno. */
int bs_os_empty(int fd);
/* Behind what was read or written last: 0 in a file that was opened and not written to, also for appending. */
long bs_os_position(int fd);
void bs_os_close(int fd);
/* The first cap - 1 bytes of a small file, as a C string; its length, or a negated errno (the text is
 * empty then). A file that is not there is no failure of the os layer. */
long bs_os_read_text(const char *path, char *text, size_t cap);
/* Bytes read / written (all of them unless an error came), or a negated errno. */
long bs_os_read(int fd, void *buf, size_t bytes);
/* Entries of a folder, as getdents64 gives them: bytes read, 0 at the end, or a negated errno. */
long bs_os_read_folder(int fd, void *buf, size_t bytes);
/* What a symbolic link says, as a C string, cut to fit: its length or a negated errno. */
long bs_os_read_link(const char *path, char *text, size_t cap);
/* The same of one in the folder that is open there. */
long bs_os_read_link_in(int folder, const char *name, char *text, size_t cap);
/* False: what is open there, of the calling thread's descriptors, is a file, a pipe, a socket or the like: nothing that
 * the kernel gives no type, as all that has its name from anon_inode. No file system is asked. */
bool bs_os_may_be_anonymous(int fd);
long bs_os_write(int fd, const void *buf, size_t bytes);
/* The same for what besom says of its own accord: where the reader is gone or the file may not grow
 * it fails (-EPIPE, -EFBIG) without the signal that would end the program. */
long bs_os_write_quietly(int fd, const void *buf, size_t bytes);
/* So to the program's stderr, also from a helper whose descriptors are its own. last: the process ends with it. */
void bs_os_write_stderr(const void *buf, size_t bytes, bool last);

/* --- waiting, threads ----------------------------------------------------------------------- */

/* Sleeps while *word == expected, at most timeout_ns (0: for ever); may wake for no reason. */
void bs_os_wait(uint32_t *word, uint32_t expected, uint64_t timeout_ns);
void bs_os_wake(uint32_t *word, int threads);
/* Sleeps for ns (not 0), or less, in the one call that waiting needs anyway: a sandbox may know no other. */
void bs_os_pause(uint64_t ns);
/* The same with a set of bits, not empty: all that wait with one of the wakened bits wake up. */
void bs_os_wait_bits(uint32_t *word, uint32_t expected, uint32_t bits);
void bs_os_wake_bits(uint32_t *word, uint32_t bits);
void bs_os_yield(void);
/* Stops the process with SIGABRT: the program's handler runs if it has one. */
_Noreturn void bs_os_abort(void);

/* Starts the one helper thread at fn(arg). It is unknown to libc: it must not use errno,
 * thread-local variables, or any libc function but mem* and str*; all signals are blocked in it.
 * 0 or errno; EBUSY while the previous one has not ended. */
int bs_os_helper_start(void (*fn)(void *), void *arg);
/* In it: from now on it has a table of descriptors of its own, an empty one. What it opens has no number in the
 * program, and a number that the program closes is none of its. Without effect where the kernel cannot (before
 * Linux 5.9), and under a sanitizer. */
void bs_os_helper_own_descriptors(void);
/* Its thread id, or 0. For a moment after its start, and before its end, another answer. */
int bs_os_helper_tid(void);
/* This process is a copy, made without libc's fork, and nobody has said so (bs_os_helper_forget): what looks like a helper
 * is not here. False where the kernel does not tell. */
bool bs_os_helper_is_lost(void);
/* True in it. Under a sanitizer it is libc's and not told from others. */
bool bs_os_is_helper(void);
/* Its stack and thread block; empty where none was ever started. */
struct bs_range bs_os_helper_memory(void);
/* In a forked child: there is no helper, whatever the parent had. */
void bs_os_helper_forget(void);

/* More threads of a copy of the process (os_clone.c), as little known to libc as the helper. memory: zeroed, so
 * many bytes, until the thread was joined; *tid is its number, and 0 once it has ended. 0 or errno: ENOSYS
 * under a sanitizer. */
size_t bs_os_searcher_bytes(void);
int bs_os_searcher_start(void *memory, int *tid, void (*fn)(void *), void *arg);
/* Waits for its end. */
void bs_os_searcher_join(int *tid);

/* --- other threads ---------------------------------------------------------------------------- */

/* Registers the process for bs_os_barrier; false: this kernel has none. */
bool bs_os_barrier_available(void);
/* When it returns true, every other thread that shares our memory has passed a full memory barrier
 * since the call. */
bool bs_os_barrier(void);
/* The same where there is none, by waiting: no store waits as long. */
void bs_os_barrier_or_wait(void);
/* True if /proc and the kernel answer the next question at all. */
bool bs_os_sleep_is_known(void);
/* A system call ends before an address, or begins at it: what is there is asked of the kernel, since the page before it,
 * or after it, may not be there, or its own. */
#if defined(__x86_64__)
enum { BS_OS_CALL_BYTES = 2 };
#else
enum { BS_OS_CALL_BYTES = 4 };
#endif
bool bs_os_is_call(uintptr_t at);
/* True only if thread tid of this process was found waiting in a system call, one that leaves its
 * stack and thread-local words its own, and neither that call's place nor any word of its stack
 * lies in [text_base, text_end): it was in no function there, nor had a signal handler interrupted
 * one. `own` is a thread-local variable of it, where its stack ends. What is left on the stack of
 * earlier calls may make the answer false, never true; `frames_end` says, of the call's place and its
 * stack pointer, from where on words count: what is below is known to be frames of others. */
typedef uintptr_t bs_os_frames_end(uintptr_t pc, uintptr_t sp);
bool bs_os_thread_sleeps(int tid, const void *own, bs_os_frames_end *frames_end, uintptr_t text_base,
                         uintptr_t text_end);
/* Of a thread that stands still with its stack pointer at sp: true if neither the nearest near_bytes of
 * its stack nor a place that a signal has interrupted, as the signal's frame on the next
 * BS_TEXT_FAR_BYTES says, shows the text, nor the BS_TEXT_NEAR_BYTES of stack that were the nearest at that place,
 * if it is no system call. `own` as above, or NULL. */
bool bs_os_stack_is_clear(uintptr_t sp, const void *own, size_t near_bytes, uintptr_t text_base,
                          uintptr_t text_end);

typedef void bs_os_task_visitor(void *ctx, int tid);
/* Calls visit for each thread of the process that /proc lists, also those about to end. 0 or errno: EXDEV where /proc
 * is that of another namespace. */
int bs_os_tasks(bs_os_task_visitor *visit, void *ctx);

/* That process has the memory of this one, as after clone(2) with CLONE_VM; or it exists, and the kernel does not say. */
bool bs_os_shares_memory(int pid);

/* How many threads the process has, with those about to end; 0: the kernel does not say. */
size_t bs_os_task_count(void);

struct bs_os_task {
    bool gone;        /* it runs no user code any more */
    bool kernels;     /* nor ever did: the kernel works in it */
    bool runs;        /* or waits for a CPU */
    bool in_sigwait;  /* it waits for a signal of a set that holds the one asked about */
    bool is_strict;   /* seccomp ends it for any system call but four, which no handler does without */
    uint64_t blocked; /* signals, bit number - 1 */
    uint64_t ran_ns;  /* its CPU time and 1 if it blocks the one asked about, to a tick; 0: not known */
    int tracer;       /* the process that traces it, or 0 */
};
/* What thread tid of this process does about a signal. 0 or errno; ENOENT, ESRCH: gone is set. */
int bs_os_task(int tid, int signal, struct bs_os_task *task);
/* True unless the tracer is known for only looking on. A debugger stops the program for each signal. */
bool bs_os_tracer_interferes(int tracer);

/* --- the signal that stops threads (os_signal.c) ---------------------------------------------- */

/* Where a handler's thread was interrupted. */
struct bs_os_frame {
    uintptr_t sp, pc;             /* of what was interrupted */
    uintptr_t regs, regs_end;     /* the registers, vector ones too, as the kernel saved them */
    uintptr_t alt_base, alt_end;  /* the alternate signal stack; both 0: none */
    uintptr_t thread_pointer;     /* of the handler's thread */
    bool call_failed;             /* it was a system call, which returns EINTR for it */
    bool call_ended;              /* the same, and it has given a number above 0: all of it, or what was done so far */
    bool call_again;              /* the same, and it begins again when the handler has returned */
    bool in_call;                 /* the same, or one that begins (again) or has just ended; not that of the
                                     clock */
    uint64_t mask;                /* signals blocked when the handler has returned */
};

/* In the handler: the value that was sent along. Every signal is blocked. */
typedef void bs_os_signal_handler(uint64_t value, const struct bs_os_frame *frame);
/* Takes a real-time signal that has its default action and is not in `avoid`, this one if it can be, and installs the
 * handler. Its number, or a negated errno. A signal of that number that does not come from
 * bs_os_signal_send has its default action still: the process ends. */
enum { BS_OS_SIGNAL_FIRST_ASKED = 61 };
int bs_os_signal_take(bs_os_signal_handler *handler, uint64_t avoid);
/* Where all have handlers: takes one that has the handler `theirs`, which is called, by ours, with what does not
 * come from bs_os_signal_send; and that was installed as ours would be: with every signal blocked, on the
 * alternate stack, system calls begun again. Its number, or a negated errno. */
int bs_os_signal_share(bs_os_signal_handler *handler, uintptr_t theirs, uint64_t avoid);
/* Threads of the program have one alternate stack together, as those do that use it to die on: from now on nothing
 * that is installed here runs there, where it would overwrite the frames of another thread. `watched`: for which
 * bs_os_signal_watch was called, or 0. */
void bs_os_signal_share_stacks(int watched);
bool bs_os_signal_stacks_are_shared(void);
/* `theirs` is called no more: the default action is the program's. */
void bs_os_signal_unshare(int signal);
/* Where a thread is in a call, as one number that is no address: the stack may be a block of the heap, and what keeps
 * this is read by scans. */
BS_INLINE uint64_t bs_os_call_place(uintptr_t pc, uintptr_t sp) {
    return (uint64_t)pc * UINT64_C(0x9e3779b97f4a7c15) ^ ~(uint64_t)sp;
}
/* In a handler for `signal` that is the program's: if what it has interrupted is at that place, at a system call that was
 * to begin again there, and the program wants such calls ended by this signal (no SA_RESTART), it ends with EINTR. */
void bs_os_signal_end_call(int signal, void *context, uint64_t place);
/* It comes from bs_os_signal_send. (siginfo_t; async-signal-safe) */
bool bs_os_signal_is_from_besom(const void *info);
/* False once the program has installed a handler, or an action, of its own for it. */
bool bs_os_signal_is_ours(int signal);
/* Whatever comes with this signal, fn is called with its number, on any thread, and the program goes on:
 * until somebody installs another action. An errno value. */
int bs_os_signal_watch(int signal, bs_os_signal_handler *fn);
bool bs_os_signal_is_watched(int signal);
#if BS_SANITIZE_THREAD
/* The calling thread answers from now on, or does not; what it did before. It must not before the sanitizer's library
 * knows it, when that is about to forget it, and while besom is in a function of libc's that others wait for: through
 * the frames of the library text.h does not see who has called it. */
bool bs_os_signal_may_come(bool may);
/* After the list of threads was read: who is not in it has ended, and the kernel orders what it did before that. */
void bs_os_signal_see_gone(void);
/* In a handler, before anything that is compiled for the sanitizer: may the thread answer here? (ucontext_t) */
bool bs_os_signal_may_answer(const void *context);
#endif
/* The calling thread does not block it. */
void bs_os_signal_unblock(int signal);
/* No handler of the program's runs on the calling thread, but for faults of its own, until it is let: with what this
 * has returned. */
uint64_t bs_os_signals_hold(void);
void bs_os_signals_let(uint64_t before);
/* 0 or errno: ESRCH no such thread of ours, EAGAIN too many signals wait, or it is forgone. */
int bs_os_signal_send(int signal, int tid, uint64_t value);
/* Those that were sent and have not been delivered yet never will be. */
void bs_os_signal_discard(int signal);
/* The same, and until bs_os_signal_recall none is sent: the kernel ignores it. For any number of threads at a time. */
void bs_os_signal_forgo(int signal);
void bs_os_signal_recall(void); /* nothing, if nobody forgoes it */
bool bs_os_signal_is_forgone(void);
/* The calling thread's alternate signal stack; empty: it has none. */
struct bs_range bs_os_signal_stack(void);
/* The address of the handler that the kernel has for it; SIG_DFL and SIG_IGN are 0 and 1. */
uintptr_t bs_os_signal_handler_of(int signal);
/* The calling thread gets the signal, with what came with it (siginfo_t), once more. */
void bs_os_signal_again(int signal, const void *info);
/* In the handler: a signal of the program waits that will be delivered when it returns. */
bool bs_os_signal_another_waits(const struct bs_os_frame *frame);

/* --- a copy of the process (os_clone.c) --------------------------------------------------------- */

/* Zeroed memory that a copy shares with us. None -> Ready; bs_os_free. */
void *bs_os_alloc_shared(size_t bytes);
/* Makes a copy of the process, with the calling thread alone, which runs fn(arg) and ends; all signals
 * are blocked in it. It is a child that no wait(2) of the program sees. Its pid, or a negated errno:
 * EXDEV where children belong to another namespace. */
int bs_os_clone(void (*fn)(void *), void *arg);
/* In a copy that nobody waits for: it runs when nobody else wants to. */
void bs_os_clone_give_way(void);
/* Whether such copies have the range (whole mappings). ENOSYS: a page that a device writes to might be moved by
 * it, before Linux 5.12. */
int bs_os_clone_has(uintptr_t start, uintptr_t end, bool has);
/* 1: it has ended, *status as wait(2) says, and is gone. 0: it runs. Or a negated errno. */
int bs_os_clone_ended(int pid, int *status);
/* Ends it and waits for that. Its status. */
int bs_os_clone_kill(int pid);

/* --- fault injection (BS_FAULTS builds only) -------------------------------------------------- */

#if BS_FAULTS
/* The nth (1...) call from now of a system call that a test may fail does fail with `error`, and
 * with `lasting` every later one too. n = 0 switches it off. The result is how many calls were
 * counted since the last setting. */
unsigned bs_os_fail(unsigned n, int error, bool lasting);
/* For the os_*.c files: the error that the next call is to fail with, or 0. */
int bs_os_fault_due(void);
/* The same for calls of one number, also those that nobody guards: what a filter in a sandbox refuses. They are not
 * made then. In memory of the test's, which copies of the process may share; NULL: none fails. */
struct bs_os_call_faults {
    long number;        /* [init] -1: calls are only counted */
    unsigned at, error; /* [init] the nth call of it, from 1 */
    bool lasting;       /* [init] and all later ones */
    unsigned made[512]; /* [atomic] by number */
};
extern struct bs_os_call_faults *bs_os_call_faults;
/* Pages are asked for in this way, or a lesser one; UNKNOWN: the best that there is. */
void bs_os_pages_use(enum bs_pages_source source);
/* The size of an OS page, a power of two that real ones divide. */
void bs_os_page_size_is(size_t bytes);
#endif

#endif
