# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# clang.sh -- clang compiles the core of besom: object files must be identical, byte for byte.
what="the core of besom, -O2 -g: object files identical; one program linked and run"
packages=clang
commands="clang sha256sum"
witnesses='clang.*'
speed=quick

version() { clang -dumpversion; }

prepare() { cp "$TOP"/src/*.[ch] "$TOP"/src/*.def "$TOP"/tools/gen_sizeclasses.c .; }

workload() {
    local source sources
    cp "$INPUT"/* .
    sources=(*.c)
    # shellcheck disable=SC2153  # SPEED comes from run.sh, or from bench/run
    [[ $SPEED != bench* ]] || sources=(l*.c)
    for source in "${sources[@]}"; do
        clang -std=gnu11 -D_GNU_SOURCE= -DBS_DEBUG=1 -I. -O2 -g -fno-builtin \
            -ftls-model=initial-exec -w -c "$source"
    done
    sha256sum -- *.o
    clang -std=gnu11 -D_GNU_SOURCE= -I. -O3 -o generate gen_sizeclasses.c
    ./generate | sha256sum
    clang -c missing.c || echo "status $?"
}
