#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run-unit.sh PROGRAM [ARG...] - starts one unit test for `make check`: with the sanitizers'
# settings, for 1500 s at most (check_faults needs 70 s of a CPU, and took more than 600 s with an eighth
# of one).
#
# ThreadSanitizer of gcc 12 cannot start where the kernel randomises mappings over many bits, so
# programs built with it ($without_randomisation) run without, where that is permitted.
# Exit status: the program's; 124 when it was stopped for its time.
set -eu

# The test harness (libcheck) is not what leaks are looked for in. With false stacks, which gcc 13 and later have by
# default, variables are on no thread's stack, and each call touches memory that was not touched yet.
ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0:detect_stack_use_after_return=0}
UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
# libcheck forks for each test.
TSAN_OPTIONS=${TSAN_OPTIONS:-die_after_fork=0 halt_on_error=1}
# Its limit of 4 s a test is meant for a machine of one's own and no sanitizer.
CK_TIMEOUT_MULTIPLIER=${CK_TIMEOUT_MULTIPLIER:-10}
export ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS CK_TIMEOUT_MULTIPLIER

set -- timeout -k 10 1500 "$@"
if [ -n "${without_randomisation:-}" ] && setarch "$(uname -m)" -R true 2>/dev/null; then
    set -- setarch "$(uname -m)" -R "$@"
fi
exec "$@"
