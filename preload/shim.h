/* SPDX-License-Identifier: MIT */
/*
 * shim.h - libbesom-scan.so: system calls that a stop (world.h) has interrupted are done again.
 *
 * A handler makes some calls return EINTR although it was installed with SA_RESTART (signal(7) lists
 * them), and programs notice. This library, which is libbesom.so and the scans, puts itself before
 * libc's functions for them; it is loaded only where threads are stopped, so that the plain library has
 * to do with the malloc family alone. Each function calls libc's, and once more with the time that remains if
 *  - it failed with EINTR,
 *  - this thread's count of calls that besom's signal interrupted has moved (`ours`), which it does
 *    only if besom's handler found the call already failed: no handler of the program had come first;
 *    or stops were given up since (`given_up`): then a thread may have been woken by a signal that was
 *    taken back before its handler ran,
 *  - and that of the program's handlers (`mixed`) has not since the call was first made.
 * In every other case the EINTR is the program's. Handlers installed through sigaction or signal count
 * themselves (shim_handler.c); of others, installed without libc, besom's handler sees whether one is
 * about to run. What remains is a signal that comes in the few instructions between the comparison and
 * the repeated call: it is taken for one that came just before the call.
 *
 * Calls that the kernel does begin again after our handler (read, wait, flock) have been wound back by it, and a signal
 * of the program's that came while the thread stood would find them not yet made: its handler, which is to end them if it
 * has no SA_RESTART, would not, and an alarm that was to end a read would be lost. So besom's handler notes the place
 * (`again`), and the program's makes the call fail with EINTR if it begins there (bs_os_signal_end_call). On aarch64
 * that is so with SA_SIGINFO alone: others are not told where they interrupt.
 *
 * Transfers that wait until all is done return what they have done so far, and go on if a call of this thread may have
 * been ended by our handler (`cut`) meanwhile (shim_socket.c).
 *
 * Besides, execve and its kin wait for a stop that is under way (shim_exec.c), and the signal that besom has taken
 * is kept out of the program's masks, of sets that it waits for, and from sigaction with SIG_DFL or SIG_IGN; and besom's
 * handlers leave alternate signal stacks alone when two threads have the same (shim_stack.c).
 *
 * Not covered: system calls made without libc (Go; execve(2) by syscall(2); futex(2) and io_uring by it, whose users
 * expect EINTR), transfers that are cut short and not in shim_socket.c (sendmmsg, sendfile, splice, recvmsg).
 */
#ifndef BS_SHIM_H
#define BS_SHIM_H

#include "world.h"

extern struct bs_world_shim besom_shim;

#endif
