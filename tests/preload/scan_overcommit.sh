#!/bin/bash
# SPDX-License-Identifier: MIT
#
# scan_overcommit.sh - scan:leak where the kernel promises no more memory than it has: a copy is made, or it is
# said why not, and the program notices nothing (scan_hostile.sh has the program).
#
# The setting is the whole machine's, and takes memory from whatever runs beside it: so tests/preload/Makefile.am
# runs this test last. Exit status as of scan_hostile.sh.
exec bash "$(dirname "$0")/scan_hostile.sh" overcommit
