# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# less.sh -- the pager on a large file: as a filter, and on a terminal that script(1) provides.
what="60k lines as a filter, and on a terminal: end, search, quit"
packages="less bsdutils"
commands="less script sha256sum"
witnesses=less
speed=quick

version() { less --version | sed -n '1s/less \([0-9]*\).*/\1/p'; }

workload() {
    seq 60000 | sed 's/.*/line & with some text that is & long/' >text
    less text | sha256sum
    less -N -S text text | sha256sum
    # The key strokes are given as first commands: what the terminal shows does not race with them.
    script -qec "stty rows 24 cols 80; LESSHISTFILE=- less '+G?line 4711' +q text" typescript \
        >/dev/null </dev/null
    grep -c . typescript
    less no-such-file || echo "status $?"
}
