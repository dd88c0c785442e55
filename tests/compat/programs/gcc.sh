# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# gcc.sh -- gcc compiles the core of besom: object files must be identical, byte for byte.
what="the core of besom, -O2 -g: object files identical; one program linked with -flto and run"
packages=gcc
commands="gcc sha256sum"
witnesses="cc1 as"
speed=quick

version() { gcc -dumpfullversion; }

witness() { echo 'int x;' | gcc -pipe -x c -c -o x.o -; }

prepare() { cp "$TOP"/src/*.[ch] "$TOP"/src/*.def "$TOP"/tools/gen_sizeclasses.c .; }

workload() {
    local source sources
    cp "$INPUT"/* .
    sources=(*.c)
    # shellcheck disable=SC2153  # SPEED comes from run.sh, or from bench/run
    [[ $SPEED != bench* ]] || sources=(l*.c)
    for source in "${sources[@]}"; do
        gcc -std=gnu11 -D_GNU_SOURCE= -DBS_DEBUG=1 -I. -O2 -g -fno-builtin \
            -ftls-model=initial-exec -Wall -c "$source"
    done
    sha256sum -- *.o
    gcc -std=gnu11 -D_GNU_SOURCE= -I. -O3 -flto=2 -o generate gen_sizeclasses.c
    ./generate | sha256sum
    gcc -c missing.c || echo "status $?"
}
