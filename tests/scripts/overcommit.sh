#!/bin/sh
# SPDX-License-Identifier: MIT
#
# overcommit.sh - where the kernel promises no more memory than it has (vm.overcommit_memory=2),
# address space that is only reserved is not charged, a request for more than is left fails with
# ENOMEM, and nothing is broken after that. One request is refused at a time: what is left to other
# programs is never used up.
#
# Needs root and a kernel that lets it change the setting, which is put back also when the test
# fails; skipped aloud without. Called by `make check`; takes BESOM_LIB and CC from the environment.
set -eu
lib=${BESOM_LIB:?overcommit.sh: BESOM_LIB must name libbesom.so}
cc=${CC:-cc}
knob=/proc/sys/vm/overcommit_memory

skip() {
    echo "overcommit.sh: skipped: $1"
    exit 77
}
[ -w "$knob" ] || skip "vm.overcommit_memory cannot be changed here"

dir=$(mktemp -d)
old=$(cat "$knob")
restore() {
    echo "$old" >"$knob" || true
    rm -rf "$dir"
}
trap restore EXIT
trap 'exit 99' HUP INT TERM

cat >"$dir/refused.c" <<'PROGRAM'
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static size_t meminfo(const char *field) {
    char text[8192];
    FILE *file = fopen("/proc/meminfo", "r");
    size_t n = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    text[n] = '\0';
    char *at = strstr(text, field);
    if (file != NULL)
        fclose(file);
    return at != NULL ? strtoull(at + strlen(field), NULL, 10) * 1024 : 0;
}

/* Bytes of our mappings that the kernel charges: those it flags as accountable. */
static size_t charged(void) {
    char line[512];
    size_t size = 0, sum = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "Size:", 5) == 0)
            size = strtoull(line + 5, NULL, 10) * 1024;
        else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " ac") != NULL)
            sum += size;
    }
    if (file != NULL)
        fclose(file);
    return sum;
}

static void check(int good, const char *what) {
    if (!good) {
        printf("overcommit.sh: %s\n", what);
        exit(1);
    }
}

static void refused(void *p, const char *what) {
    check(p == NULL && errno == ENOMEM, what);
    errno = 0;
}

static void *work(void *seed) {
    char *block[100] = {0};
    for (size_t i = 0; i < 20000; i++) {
        size_t k = i * 7919 % 100, size = (i * 613 + (size_t)seed) % 40000 + 1;
        check(block[k] == NULL || block[k][0] == (char)k, "a block lost its content");
        free(block[k]);
        block[k] = malloc(size);
        check(block[k] != NULL, "a small request was refused");
        memset(block[k], (int)k, size);
    }
    for (size_t k = 0; k < 100; k++)
        free(block[k]);
    return NULL;
}

int main(void) {
    size_t limit = meminfo("CommitLimit:"), used = meminfo("Committed_AS:");
    if (limit < used + 1024 * MIB)
        return 77;
    size_t huge = limit + 1024 * MIB; /* whatever others give back meanwhile */
    char *small = strcpy(malloc(100), "small"), *large = strcpy(malloc(2 * MIB), "large");
    size_t before = charged();
    check(before > 0 && before < 32 * MIB, "what is only reserved was charged");
    for (int i = 0; i < 3; i++) {
        refused(malloc(huge), "malloc gave more than there is");
        refused(calloc(1, huge), "calloc gave more than there is");
        refused(realloc(small, huge), "realloc of a small block gave more than there is");
        refused(realloc(large, huge), "realloc of a large block gave more than there is");
        refused(aligned_alloc(64 * MIB, huge), "aligned_alloc gave more than there is");
    }
    check(strcmp(small, "small") == 0 && strcmp(large, "large") == 0, "a refusal lost a content");
    char *much = malloc(256 * MIB);
    check(much != NULL, "256 MiB were refused with a GiB left");
    memset(much, 1, 8 * MIB);
    check(charged() < before + 256 * MIB + 32 * MIB, "256 MiB were charged as much more");
    free(much);
    pthread_t thread[4];
    for (size_t i = 0; i < 4; i++)
        check(pthread_create(&thread[i], NULL, work, (void *)i) == 0, "no thread");
    for (size_t i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    int status = 1;
    pid_t child = fork();
    if (child == 0) {
        work(NULL);
        _exit(0);
    }
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "the child failed");
    return 42;
}
PROGRAM
# shellcheck disable=SC2086  # CC may hold options
$cc -O1 -fno-builtin -o "$dir/refused" "$dir/refused.c" -pthread

# Other programs share the limit: without room for them, too, nothing here says anything of besom.
skip_without_room() {
    awk '/^CommitLimit:/ { left += $2 } /^Committed_AS:/ { left -= $2 }
        END { exit left > 2 * 1024 * 1024 ? 0 : 1 }' /proc/meminfo ||
        skip "less than 2 GiB are left under vm.overcommit_memory=2"
}

skip_without_room
echo 2 2>/dev/null >"$knob" || skip "vm.overcommit_memory cannot be changed here"
status=0
# --foreground: who ends all of this at once ends the program, too, and the setting is put back.
LD_PRELOAD=$lib timeout --foreground 300 "$dir/refused" || status=$?
echo "$old" >"$knob"
[ "$status" = 42 ] || skip_without_room
[ "$status" != 77 ] || skip "less than a GiB was left under vm.overcommit_memory=2"
[ "$status" = 42 ] || { echo "overcommit.sh: the program ended with $status" >&2; exit 1; }
echo "overcommit.sh: more than there is was refused, and nothing broke"
