#!/bin/sh
# SPDX-License-Identifier: MIT
#
# returns.sh - memory goes back without a call: bench/rss watches, from outside, a program that frees
# 19 of 20 blocks, one with 200 sleeping threads, and one that must give back under a limit. RSS has
# to come within 5 % of the bound, and the bound of besom's log has to agree with the one that the
# program counts from the addresses of its blocks.
set -u
srcdir=${top_srcdir:?is set by make}
builddir=${top_builddir:?is set by make}
watch() {
    "$srcdir/bench/rss" --quick --check --jobs 2 --workload "$builddir/bench/workload" \
        --besom "${BESOM_LIB:?is set by make}" "$@"
}
status=0
watch --only churn,sleepers --alloc besom || status=1
watch --only limit --alloc besom,glibc || status=1 # glibc shows that the workload deserves it
exit "$status"
