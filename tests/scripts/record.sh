#!/bin/sh
# SPDX-License-Identifier: MIT
#
# record.sh - the option `record` under real programs, and the player of what they leave: a known
# program's record has exactly its calls (read here by the words of besom.conf(5), not by the reader of
# bench/), children, kills and full disks cost events and never the program, and the shipped traces are
# played with every byte verified, by besom and by the system's malloc alike.
#
# It is NOT about damaged files (check_record) nor about speed (bench/run). Programs are compiled here.
# Called by `make check`; BESOM_LIB, CC and top_builddir from the environment. Exit status: 0 all
# right, 1 not.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
build=${top_builddir:-$top/build}
lib=$(realpath "${BESOM_LIB:-$build/libbesom.so}")
replay=$(realpath "$build/bench/replay") || { echo "record.sh: no bench/replay; run make"; exit 1; }
traces=$(realpath "$top/bench/traces")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
status=0
count=0

broken() {
    echo "record.sh: $*"
    status=1
}

# with RECORD COMMAND...: under besom, 300 s at most; output in out and err, exit status in $code.
with() {
    count=$((count + 1))
    code=0
    record=$1
    shift
    timeout 300 env -u BESOM_CONF LD_PRELOAD="$lib" BESOM_RECORD="$record" "$@" >out 2>err || code=$?
}

# ends WHAT CODE WORDS: the exit status, and one line on stderr with these words, or none.
ends() {
    [ "$code" -eq "$2" ] || broken "$1: exit status $code, not $2: $(cat err)"
    if [ -z "$3" ]; then
        [ ! -s err ] || broken "$1: stderr has: $(cat err)"
    elif [ "$(wc -l <err)" -ne 1 ] || ! grep -q -F -- "$3" err; then
        broken "$1: wanted one line with '$3' on stderr, got: $(cat err)"
    fi
}

# of FILE NAME: what --info says of it.
of() {
    env -u LD_PRELOAD "$replay" --info "$1" | sed -n "s/^ *$2: //p"
}

cat >known.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile kept;
static void mark(size_t size) { kept = malloc(size); free(kept); }
static void *hide(void *p) { __asm__ volatile("" : "+r"(p)); return p; }

static void each_call(void) {
    void *(*new)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "_Znwm");
    void (*delete)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "_ZdlPv");
    void *(*new_nothrow)(size_t, void *) =
        (void *(*)(size_t, void *))dlsym(RTLD_DEFAULT, "_ZnwmRKSt9nothrow_t");
    void *(*new_aligned)(size_t, size_t) =
        (void *(*)(size_t, size_t))dlsym(RTLD_DEFAULT, "_ZnwmSt11align_val_t");
    void (*delete_aligned)(void *, size_t) =
        (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "_ZdlPvSt11align_val_t");
    void *p[8];
    mark(424241);
    p[0] = malloc(10);
    p[1] = calloc(3, 7);
    p[2] = realloc(NULL, 100000);
    p[0] = realloc(p[0], 11); /* stays where it is */
    p[0] = realloc(p[0], 5000);
    p[2] = reallocarray(p[2], 2, 100000);
    kept = realloc(p[2], hide((void *)(SIZE_MAX / 2)) ? SIZE_MAX / 2 + 1 : 0);
    if (posix_memalign(&p[3], 64, 100) != 0)
        abort();
    p[4] = memalign(4096, 1);
    p[5] = aligned_alloc(32, 40000);
    p[6] = valloc(9);
    p[7] = pvalloc(4097);
    free(NULL);
    kept = malloc((size_t)hide((void *)(SIZE_MAX / 2)));
    for (int i = 7; i >= 3; i--)
        free(p[i]);
    if (realloc(p[2], 0) != NULL)
        abort();
    p[2] = new(24);
    p[3] = new_aligned(48, 128);
    p[4] = new_nothrow(25, "");
    delete(p[2]);
    delete_aligned(p[3], 128);
    delete(p[4]);
    free(p[0]);
    free(p[1]);
    mark(424242);
}

static void many(size_t n) {
    static void *volatile held[64];
    for (size_t i = 0; i < n; i++) {
        free(held[i % 64]);
        held[i % 64] = malloc(i % 500);
    }
}

static void *pass_on(void *from) {
    for (size_t i = 0; i < 20000; i++) {
        void **cell = (void **)from + i % 1000, *p = calloc(1, 16 + i % 300);
        p = realloc(__atomic_exchange_n(cell, p, __ATOMIC_ACQ_REL), 20 + i % 700);
        free(__atomic_exchange_n(cell, p, __ATOMIC_ACQ_REL));
    }
    return NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    if (strcmp(argv[1], "calls") == 0) {
        each_call();
    } else if (strcmp(argv[1], "fork") == 0) {
        int child_status;
        mark(424243);
        pid_t child = fork();
        mark(424244);
        if (child == 0)
            free(calloc(1, 77777));
        if (child > 0)
            wait(&child_status);
    } else if (strcmp(argv[1], "daemon") == 0) {
        pid_t parent = getpid();
        mark(424243);
        if (fork() > 0)
            return 0;
        for (int i = 0; kill(parent, 0) == 0 && i < 5000; i++)
            usleep(1000);
        mark(424244);
        close(creat("daemon.done", 0644));
    } else if (strcmp(argv[1], "kill") == 0) {
        many(200000);
        kill(getpid(), SIGKILL);
    } else if (strcmp(argv[1], "many") == 0) {
        many(200000);
        return 5;
    } else if (strcmp(argv[1], "threads") == 0) {
        static void *shared[1000];
        pthread_t thread[3];
        for (int i = 0; i < 3; i++)
            pthread_create(&thread[i], NULL, pass_on, shared);
        for (int i = 0; i < 3; i++)
            pthread_join(thread[i], NULL);
    }
    return 0;
}
END
# shellcheck disable=SC2086  # CC may hold options
${CC:-cc} -std=gnu11 -O1 -fno-builtin -w -pthread -o known known.c -ldl

# The calls of a record, by the words of the manual page: "op[+-]block size align" between the marks.
cat >calls.py <<'END'
import sys

def number(data, at, value=0, shift=0):
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            return value, at

def calls(data):
    assert data[:8] == b"besomtrc" and data[8:12] == bytes([1, 0, 48, 0]), data[:48]
    at, made, events = 48, 0, 0
    while at < len(data):
        op, value, more = data[at] & 7, data[at] >> 3 & 15, data[at] >> 7
        at += 1
        if more:
            value, at = number(data, at, value, 4)
        extra = 0
        if op in (3, 4):
            extra, at = number(data, at)
        if op == 7:
            said = []
            for _ in range(4):
                x, at = number(data, at)
                said.append(x)
            assert said[:2] == [events, made] and at == len(data), (said, events, made)
        if op > 4:
            continue
        events += 1
        gone = made - 1 - value if op in (0, 3) else None
        made += op != 0
        yield (["free", "malloc", "calloc", "realloc", "aligned"][op], gone, made - 1,
               value if op in (1, 2, 4) else extra if op == 3 else None, extra if op == 4 else None)

inside, first, shown = False, None, []
for op, gone, made, size, align in calls(open(sys.argv[1], "rb").read()):
    if op == "malloc" and size == 424242:
        break
    if inside and not (op == "free" and gone == first - 1): # (the mark's own)
        words = [op]
        if gone is not None:
            words.append(f"#{gone - first}")
        if size is not None:
            words.append(str(size))
        if align is not None:
            words.append(f"2^{align}")
        shown.append(" ".join(words))
    if op == "malloc" and size == 424241:
        inside, first = True, made + 1
print("\n".join(shown))
END

cat >wanted <<'END'
malloc 10
calloc 21
malloc 100000
realloc #0 11
realloc #3 5000
realloc #2 200000
aligned 100 2^6
aligned 1 2^12
aligned 40000 2^5
aligned 9 2^12
aligned 8192 2^12
free #10
free #9
free #8
free #7
free #6
free #5
malloc 24
aligned 48 2^7
malloc 25
free #11
free #12
free #13
free #4
free #1
END
with calls.bst ./known calls
ends 'each call once' 0 ''
if [ "$(getconf PAGESIZE)" -eq 4096 ]; then
    python3 calls.py calls.bst >got || broken 'the record cannot be read by the words of its manual page'
    diff -u wanted got || broken 'the record has other calls than the program'
fi
[ "$(of calls.bst complete)" = yes ] || broken 'the record of a program that ended is not complete'
[ "$(of calls.bst program)" = known ] || broken "the record is said to be of $(of calls.bst program)"

# A child has a record of its own, by a name that is its own; otherwise it is not recorded.
with 'fork.%p' ./known fork
ends 'a fork' 0 ''
set -- fork.*
[ $# -eq 2 ] || broken "a process and its child left $# records with %p"
for file; do [ "$(of "$file" complete)" = yes ] || broken "$file of a fork is not complete"; done
[ "$(cat fork.* | grep -o -a besomtrc | wc -l)" -eq 2 ] || broken 'the records of a fork are mixed'
with nothing ./known nothing
with fork1 ./known fork
ends 'a fork without %p' 0 ''
[ "$(of fork1 complete)" = yes ] || broken 'a child without a record of its own damages its parent'"'"'s'
[ "$(of fork1 largest)" = '424244 bytes' ] || broken 'the mark of the parent is missing'
[ "$(of fork1 calloc)" = "$(of nothing calloc)" ] ||
    broken 'a child is in the record of its parent'
with daemon ./known daemon
ends 'a daemon' 0 ''
for _ in $(seq 1200); do [ ! -e daemon.done ] || break; sleep 0.05; done
sleep 0.2
[ "$(of daemon largest)" = '424243 bytes' ] || broken 'a child that lives longer takes the record over'
with 'number.%n' ./known fork
set -- number.*
[ "$*" = 'number.0 number.1' ] || broken "%n made $*"

# Processes that are started by a recorded one leave its record alone.
# shellcheck disable=SC2016  # for the shell that is run
with shell sh -c './known many; ./known calls; echo $((1 + 1))'
ends 'a shell' 0 ''
[ "$(cat out)" = 2 ] || broken "the shell wrote $(cat out)"
[ "$(of shell program)" = sh ] || broken "the record is of $(of shell program), not of the shell"

# Killed: what was written is there.
with killed ./known kill
[ "$code" -eq 137 ] || broken "the killed program: exit status $code"
events=$(of killed events)
[ "$(of killed complete)" != yes ] || broken 'the record of a killed program is complete'
if [ "$events" -le 300000 ] || [ "$events" -ge 400100 ]; then
    broken "a killed program left $events events"
fi
"$replay" killed >/dev/null || broken 'the record of a killed program cannot be played'

# Where it cannot be written: one line, and the program runs.
with /dev/full ./known many
ends 'a full disk' 5 'record "/dev/full" cannot be written (error 28: no space left); recording ends'
with /nowhere/at/all ./known many
ends 'no folder' 5 'record "/nowhere/at/all" cannot be written (error 2: no such file or folder); recording ends'
with "$tmp" ./known many
ends 'a folder' 5 "record \"$tmp\" cannot be written (error 21: it is a folder); recording ends"
with limited sh -c 'ulimit -f 200; exec ./known many'
ends 'a limit on files' 5 'limited" cannot be written (error 27: file too large); recording ends'
[ "$(of limited events)" -gt 50000 ] || broken 'a record is lost when its file may not grow'
with gone sh -c 'exec ./known many' # exec: the second image takes the file over
ends 'an exec' 5 ''
[ "$(of gone program)" = known ] || broken "after exec the record is of $(of gone program)"
mkfifo fifo
with fifo ./known many
[ "$code" -eq 5 ] || broken "a FIFO: exit status $code (124: it hangs)"
[ "$(wc -l <err)" -le 1 ] || broken "a FIFO: $(cat err)"
# (a folder of its own: in / two runs of this test would meet)
mkdir elsewhere
# shellcheck disable=SC2016  # for the shell that is run
with relative sh -c 'cd elsewhere; exec "$0" many' "$tmp/known"
ends 'another folder' 5 ''

# Blocks that pass between threads.
with threads ./known threads
ends 'threads' 0 ''
[ "$(of threads threads)" -ge 3 ] || broken "three threads are $(of threads threads)"
for preload in '' "$lib"; do
    for threads in as-recorded 1; do
        LD_PRELOAD=$preload timeout 300 "$replay" threads --threads=$threads --repeat=3 --touch=all \
            --verify >out 2>&1 || broken "three threads, played by $threads, ${preload:-libc}: $(cat out)"
    done
done

# The shipped traces: the same counts whoever answers, every byte verified.
for trace in "$traces"/*.bst.xz; do
    count=$((count + 1))
    events=$(of "$trace" events)
    [ "$(of "$trace" complete)" = yes ] || broken "$trace is not complete"
    for preload in '' "$lib"; do
        LD_PRELOAD=$preload timeout 300 "$replay" "$trace" --touch=all --verify >out 2>&1 ||
            broken "$trace, ${preload:-libc}: $(cat out)"
        [ "$(cut -d ' ' -f 2 out)" = "$events" ] || broken "$trace has $events events: $(cat out)"
    done
done

code=0
PATH=$tmp/nowhere "$replay" "$traces/git.bst.xz" >out 2>err || code=$?
ends 'no xz' 1 'cannot be unpacked without this program, which is not in PATH: xz'
head -c 3000 "$traces/git.bst.xz" >cut.bst.xz
code=0
"$replay" cut.bst.xz >out 2>err || code=$?
if [ "$code" -ne 1 ] || ! grep -q 'cut.bst.xz cannot be unpacked by xz$' err; then
    broken "a file that is cut off: exit status $code, $(cat err)"
fi

# And the player is no yes-man: a realloc that copies nothing, a calloc that clears nothing.
cat >bad.c <<'END'
#include <stdlib.h>
#include <string.h>
#ifdef REALLOC
void *realloc(void *p, size_t size) { (void)p; return malloc(size); }
#else
void *calloc(size_t n, size_t size) { void *p = malloc(n * size); return p ? memset(p, 1, n * size) : p; }
#endif
END
for what in REALLOC CALLOC; do
    # shellcheck disable=SC2086
    ${CC:-cc} -w -shared -fPIC -fno-builtin -D$what -o bad.so bad.c
    ! LD_PRELOAD="$tmp/bad.so" timeout 300 "$replay" threads --threads=1 >out 2>&1 ||
        broken "a bad $what goes unnoticed"
done

[ "$status" -ne 0 ] || echo "record.sh: $count runs as promised"
exit "$status"
