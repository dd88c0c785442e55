#!/bin/sh
# SPDX-License-Identifier: MIT
#
# dangling.sh - what the quarantine has to keep is reported: dangling pointers that are planted in C and C++, in
# a variable, in a thread's stack and registers, in a block of the heap, in another mapping, each once, by the
# stack that freed the block, with the place of the pointer; in text and JSON, with names by besom symbolize; less
# what is suppressed. A program without any gets no report.
#
# Called by `make check`; takes BESOM_LIB, BESOM, CC and CXX from the environment. Exit status: 0 all
# right, 1 not, 77 skipped: no threads can be stopped here.
set -eu
export BESOM_LIMIT=off # no scan ends because the machine stalls for want of memory

: "${BESOM_LIB:?dangling.sh: BESOM_LIB must name libbesom.so}" "${BESOM:?dangling.sh: BESOM must name besom}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0
count=0

broken() {
    echo "dangling.sh: $*"
    status=1
}

# run OPTIONS PROGRAM ARG...: its log in $tmp/log, with names in $tmp/named.
run() {
    options=$1 code=0
    shift
    count=$((count + 1))
    rm -f "$tmp/log"
    timeout 300 "$BESOM" run -l "$BESOM_LIB" --scan -o "scan:quarantine,log_stacks:200,log:$tmp/log,$options" \
        -- "$@" >"$tmp/out" 2>&1 || code=$?
    [ "$code" -eq 0 ] || broken "$*: exit status $code: $(cat "$tmp/out")"
    if grep -q -e '"unavailable"' -e '"blocked"' "$tmp/log"; then
        echo "dangling.sh: SKIP: threads cannot be stopped here"
        exit 77
    fi
    "$BESOM" symbolize "$tmp/log" >"$tmp/named"
}

# judge WHAT FREED_IN=BLOCKS/KIND/NAME...: reports by the function that freed, with where a pointer is, and a name
# that stands there: of a variable, or of the function that made the block.
judge() {
    python3 - "$tmp/named" "$@" <<'PYTHON' || broken "$(cut -c1-300 "$tmp/named" | head -n 40)"
import json, sys
log, what = sys.argv[1:3]
expected = dict(arg.split("=") for arg in sys.argv[3:])
lines = [json.loads(l) for l in open(log)]
words = {}
for l in lines:
    if l["event"] == "dangling_from":
        words.setdefault(l["number"], []).append(l)
found = {}
for l in lines:
    if l["event"] != "dangling":
        continue
    names = [f.get("function", "").split("(")[0] for f in l["symbols"]]
    name = next((n for n in names if n in expected), "elsewhere: %s" % names)
    if name in found:
        sys.exit("dangling.sh: %s: %s is told twice" % (what, name))
    if not any("make" in f.get("function", "") for f in l["alloc_symbols"]):
        sys.exit("dangling.sh: %s: %s: allocated by %s" % (what, name, l["alloc_symbols"]))
    if l["words"] != len(words.get(l["number"], [])) or l["cut"] or l["more"]:
        sys.exit("dangling.sh: %s: %s: %s" % (what, name, l))
    wanted = expected.get(name, "0/-/-").split("/")
    for w in words.get(l["number"], []):
        there = [f.get("function", "") for f in w.get("symbols", [])]
        if w["kind"] == wanted[1] and (wanted[2] == "-" or any(wanted[2] in t for t in there)):
            found[name] = "%d/%s/%s" % (l["blocks"], w["kind"], wanted[2])
            break
    else:
        found[name] = "%d/%s" % (l["blocks"], words.get(l["number"]))
if found != expected:
    sys.exit("dangling.sh: %s: %s, not %s" % (what, found, expected))
PYTHON
}

cat >"$tmp/planted.c" <<'END_C'
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#define SITE __attribute__((noinline)) static
#define FREE(name) SITE void free_##name(void *p) { free(p); __asm__ volatile(""); }
FREE(global) FREE(many) FREE(heap) FREE(mapped) FREE(stack) FREE(register) FREE(clean)
static size_t size;
void *in_global, *in_array[10], **in_heap, **in_map;
static sem_t ready, done;
static int stop;
SITE void *make_block(void) {
    void *p = malloc(size);
    memset(p, 1, size);
    return p;
}
SITE void **make_holder(void) { return calloc(1, 5000); }
SITE void wipe(void) {
    volatile char junk[32768];
    for (size_t i = 0; i < sizeof junk; i++)
        junk[i] = 0;
}
static void *with_stack(void *arg) {
    void *volatile mine = make_block();
    free_stack(mine);
    wipe();
    sem_post(&ready);
    sem_wait(&done);
    mine = NULL;
    return arg;
}
static void *with_register(void *arg) {
    void *p = make_block();
    free_register(p);
    wipe();
    sem_post(&ready);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
        __asm__ volatile("" : "+r"(p));
    return arg;
}
SITE void plant(void) {
    in_global = make_block();
    free_global(in_global);
    for (int i = 0; i < 10; i++) {
        in_array[i] = make_block();
        free_many(in_array[i]);
    }
    in_heap = make_holder();
    in_heap[10] = make_block();
    free_heap(in_heap[10]);
    in_map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    in_map[1000] = (char *)make_block() + size / 2;
    free_mapped((char *)in_map[1000] - size / 2);
}
int main(int argc, char **argv) {
    pthread_t thread[2];
    size = (size_t)atoi(argv[1]);
    sem_init(&ready, 0, 0);
    sem_init(&done, 0, 0);
    free(malloc(size)); /* words of besom's own lead to the first block of the heap */
    plant();
    pthread_create(&thread[0], NULL, with_stack, NULL);
    pthread_create(&thread[1], NULL, with_register, NULL);
    sem_wait(&ready), sem_wait(&ready);
    for (int i = 0; i < 100; i++)
        free_clean(make_block());
    if (argc > 2) { /* all are gone before somebody looks for the second time */
        in_global = in_map[1000] = in_heap[10] = NULL;
        memset(in_array, 0, sizeof in_array);
        __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
        sem_post(&done);
        pthread_join(thread[0], NULL), pthread_join(thread[1], NULL);
    }
    for (int i = 0; i < 6; i++) {
        wipe();
        malloc_trim(0);
    }
    sem_post(&done);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    if (argc == 2)
        pthread_join(thread[0], NULL), pthread_join(thread[1], NULL);
    return 0;
}
END_C
# (without optimization a variable that is to be in a register is in memory)
${CC:-cc} -g -O1 -fno-builtin -pthread -o "$tmp/planted" "$tmp/planted.c"
planted='free_global=1/memory/in_global free_many=10/memory/in_array free_heap=1/heap/make_holder
    free_mapped=1/memory/- free_stack=1/stack/- free_register=1/register/-'
for mode in concurrent sound; do
    run "log_format:json,sample:all,quarantine_mode:$mode" "$tmp/planted" 100
    # shellcheck disable=SC2086  # words
    judge "C, $mode" $planted
    # of blocks of 20 KiB as good as all are sampled, and there are thread caches
    run "log_format:json,sample:1k,quarantine_mode:$mode" "$tmp/planted" 20000
    # shellcheck disable=SC2086
    judge "C, sampled, $mode" $planted
done
run log_format:json,sample:all "$tmp/planted" 100000
# shellcheck disable=SC2086
judge "C, large" $planted
run log_format:json,sample:all "$tmp/planted" 100 clean
judge "C, without"

run sample:all,trace:scan "$tmp/planted" 100
for pattern in 'dangling: number [0-9]+ bytes 1000 blocks 10 samples 10 .* words 2 ' ' free_many at .*planted\.c:' \
    '    allocated by$' ' make_block at .*planted\.c:' 'dangling_from: number [0-9]+ kind register thread [1-9]' \
    'kind memory at 0x[0-9a-f]+ block 0x[0-9a-f]+ offset 50 map_offset ' ' in_global (at [^ ]* )?\(.*planted\+0x' \
    'quarantine: .* kept_blocks 1[5-9] .* stale_blocks 1[5-9] suppressed 0 time 2[0-9TZ:.-]*$'; do
    grep -E -q -- "$pattern" "$tmp/named" || broken "text: no line is $pattern: $(cut -c1-200 "$tmp/named")"
done
[ "$(grep -c '] dangling: ' "$tmp/named")" -eq 6 ] || broken "text: $(grep -c '] dangling: ' "$tmp/named") reports"

echo 'leak:free_many' >"$tmp/names"
"$BESOM" symbolize -s "$tmp/names" "$tmp/log" >"$tmp/named" 2>"$tmp/err"
grep -q '1 leaks suppressed' "$tmp/err" || broken "symbolize -s: $(cat "$tmp/err")"
number=$(sed -n 's/.*\] dangling: number \([0-9]*\) .* samples 10 .*/\1/p' "$tmp/log")
grep -E -q "(dangling|dangling_from): number $number " "$tmp/named" && broken "symbolize -s: number $number is there"
[ "$(grep -c '] dangling: ' "$tmp/named")" -eq 5 ] || broken "symbolize -s: $(cut -c1-200 "$tmp/named")"

echo 'module:/planted$' >"$tmp/rules"
run "sample:all,trace:scan,leak_suppressions:$tmp/rules" "$tmp/planted" 100
grep -q '\] dangling' "$tmp/log" && broken "suppressed: $(cut -c1-200 "$tmp/log")"
grep -q ' suppressed 6 time 2[0-9TZ:.-]*$' "$tmp/log" || broken "suppressed: $(cut -c1-200 "$tmp/log")"

cat >"$tmp/planted.cc" <<'END_CC'
#include <malloc.h>
#include <memory>
#include <string>
#include <vector>
#define SITE __attribute__((noinline))
struct object {
    virtual ~object() {}
    std::string name = "a name that is too long for the object itself";
};
object *volatile in_global;
std::vector<object *> in_vector;
SITE static object *make_object() { return new object; }
SITE static void delete_global(object *p) { delete p; }
SITE static void delete_listed(object *p) { delete p; }
SITE static void delete_array(int *p) { delete[] p; }
int *volatile in_middle;
SITE static int *make_array() { return new int[100](); }
SITE static void make_list() { in_vector.reserve(100); }
SITE static void wipe() {
    volatile char junk[32768];
    for (char volatile &c : junk)
        c = 0;
}
SITE static void plant() {
    in_global = make_object();
    delete_global(in_global);
    make_list();
    for (int i = 0; i < 3; i++) {
        in_vector.push_back(make_object());
        delete_listed(in_vector.back());
    }
    int *p = make_array();
    in_middle = p + 50;
    delete_array(p);
}
int main() {
    delete new object;
    plant();
    for (int i = 0; i < 5; i++) {
        wipe();
        malloc_trim(0);
    }
}
END_CC
if ${CXX:-c++} -g -O1 -fno-builtin -o "$tmp/planted++" "$tmp/planted.cc" 2>"$tmp/err"; then
    run log_format:json,sample:all "$tmp/planted++"
    judge C++ delete_global=1/memory/in_global delete_listed=3/heap/make_list delete_array=1/memory/in_middle
else
    echo "dangling.sh: no C++ compiler: C++ is left out"
fi
[ "$status" -ne 0 ] || echo "dangling.sh: $count programs"
exit "$status"
