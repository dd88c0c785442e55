#!/bin/bash
# SPDX-License-Identifier: MIT
#
# inside.sh -- runs one function of one programs/NAME.sh: `inside.sh FILE FUNCTION`.
#
# run.sh starts it in a clean environment, in an empty directory, with the library preloaded or
# not; so this shell and all the small tools that a workload uses run on the library as well. The
# functions may use $TOP (the checkout) and $INPUT (what prepare() left). It decides nothing.
set -eu -o pipefail

# A program that has nothing to prepare, nothing to normalise, and for which asking its version
# starts the program that counts, need not say so.
prepare() { :; }
normalise() { cat; }
witness() { version; }

prepare_in_input() { (cd "$INPUT" && prepare); }

# shellcheck source=/dev/null
. "$1"
"$2"
