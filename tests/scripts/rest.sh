#!/bin/sh
# SPDX-License-Identifier: MIT
#
# rest.sh - a process that has been idle: in the last half of 36 s no thread of besom's
# wakes up, no counter of the log changes, and RSS stands still (bench/rss, workload rest).
set -u
srcdir=${top_srcdir:?is set by make}
builddir=${top_builddir:?is set by make}
"$srcdir/bench/rss" --only rest --alloc besom --quick --check \
    --workload "$builddir/bench/workload" --besom "${BESOM_LIB:?is set by make}"
