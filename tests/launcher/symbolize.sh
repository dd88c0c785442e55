#!/bin/bash
# SPDX-License-Identifier: MIT
#
# symbolize.sh -- from blocks to names: programs run with the library and `sample`, and what `besom
# symbolize` makes of their logs: C, C++, inlined functions, stripped files with their debug information
# elsewhere, files that changed or went since, a library that was unloaded; text and JSON.
#
# Each check compiles what it runs. Called by `make check`; BESOM, BESOM_LIB and CC as in run.sh.
# Skipped aloud: all of it without a compiler or libdw, C++ without g++.
# Exit status: 0 all checks passed, 1 a check failed, 77 skipped, 99 there is no launcher or library.
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
besom=${BESOM:-$top/build/besom}
lib=$(realpath -e -- "${BESOM_LIB:-$top/build/libbesom.so}" || true)
cc=${CC:-gcc}
if [ ! -x "$besom" ] || [ -z "$lib" ]; then
    echo "symbolize: '$besom' or '${BESOM_LIB:-$top/build/libbesom.so}' is missing" >&2
    exit 99
fi
besom=$(realpath -- "$besom")
unset LD_PRELOAD BESOM_CONF BESOM_LIB DEBUGINFOD_URLS

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir"
passed=0 failed=0

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "symbolize: FAILED: $*" >&2
    for f in log out err; do
        [ ! -e "$f" ] || head -n 40 "$f" | cut -c1-200 | sed "s/^/    $f: /" >&2
    done
}

# sampled CONF PROGRAM ARG...: runs it; the log goes to the file log.
sampled() {
    conf=$1
    shift
    rm -f log
    timeout 300 "$besom" run -l "$lib" -o "log:$dir/log,$conf" -- "$@" >prog.out 2>prog.err || {
        bad "$1: $(cat prog.err)"
    }
}

# names ARG...: besom symbolize; leaves out and err.
names() {
    status=0
    timeout 300 "$besom" symbolize "$@" >out 2>err || status=$?
    [ "$status" -eq 0 ] || bad "symbolize $*: exit status $status"
}

# has FILE PATTERN WHAT
has() {
    if grep -Eq -- "$2" "$1"; then ok; else bad "$3: no line of $1 matches: $2"; fi
}
has_not() {
    if grep -Eq -- "$2" "$1"; then bad "$3: a line of $1 matches: $2"; else ok; fi
}

cat >leak.c <<'END'
#include <stdlib.h>
volatile char *kept;
__attribute__((noinline)) void *makes_block(size_t n) {
    void *p = malloc(n); /* line 4 */
    kept = p;
    return p;
}
static inline __attribute__((always_inline)) void inlined_caller(void) {
    makes_block(3000); /* line 9 */
}
__attribute__((noinline)) void calls_it(void) {
    for (int i = 0; i < 100; i++)
        inlined_caller(); /* line 13 */
    __asm__ volatile("");
}
int main(void) {
    calls_it(); /* line 17 */
    return 0;
}
END
"$cc" -g -O2 -fno-omit-frame-pointer leak.c -o leak 2>err ||
    { echo "symbolize: SKIPPED: $cc does not compile: $(head -n 1 err)"; exit 77; }
sampled sample:all ./leak
names log
if grep -q 'built without libdw' err; then
    echo "symbolize: SKIPPED: $(cat err)"
    exit 77
fi

# --- C, with lines and inlined functions -----------------------------------------------------------

has log ' stack: bytes 300000 .* blocks 100 samples 100 ' 'what the stack holds'
has out '#0  makes_block at .*leak\.c:4 \(.*/leak\+0x' 'the innermost function'
has out '#1  inlined_caller at .*leak\.c:9 \(inlined\)' 'an inlined one'
has out '#2  calls_it at .*leak\.c:13 \(.*/leak\+0x' 'the one it is inlined in'
has out '#3  main at .*leak\.c:17 ' 'main'
has out '^besom\[[0-9]+\] exit: rss ' 'other lines pass'
mv out from-file
names <log
if cmp -s out from-file; then ok; else bad 'standard input is read without a name'; fi
names - <log
if cmp -s out from-file; then ok; else bad 'standard input is read as -'; fi
{ echo 'some words'; cat log; } >mixed
names mixed
has out '^some words$' 'foreign lines pass'
has out '#0  makes_block' 'foreign lines pass and harm nothing'
printf 'any\0byte\n\nand no end' >bytes
names bytes
if cmp -s bytes out; then ok; else bad "foreign lines pass unchanged: $(od -c out)"; fi

# --- JSON -------------------------------------------------------------------------------------------

sampled sample:all,log_format:json ./leak
names log
python3 - <<'END' >judge 2>&1 || bad "JSON: $(cat judge)"
import json
stacks = [l for l in map(json.loads, open("out")) if l["event"] == "stack"]
s = next(s for s in stacks if s["bytes"] == 300000)
got = [(f["function"], f.get("line"), f["inlined"]) for f in s["symbols"][:4]]
assert got == [("makes_block", 4, False), ("inlined_caller", 9, True), ("calls_it", 13, False),
               ("main", 17, False)], got
assert s["symbols"][0]["frame"] == s["frames"][0] and s["symbols"][0]["module"].endswith("/leak")
END
ok

# A folder may be named by any bytes but 0 and /: the log is UTF-8 and a line an event all the same.
odd=$(printf 'odd"\n\377\303\251')
mkdir "$odd"
cp leak "$odd/leak"
sampled sample:all,log_format:json "./$odd/leak"
names log
python3 - <<'END' >judge 2>&1 || bad "JSON, odd name: $(cat judge)"
import json, os
for name, part in (("log", lambda l: l["path"]), ("out", lambda l: l["symbols"][0]["module"])):
    lines = [json.loads(l.decode("utf-8")) for l in open(name, "rb")]
    paths = [part(l) for l in lines if l["event"] == ("module" if name == "log" else "stack")]
    assert any(b'/odd"\n\xff\xc3\xa9/leak' in os.fsencode(p) for p in paths), (name, paths)
    names = [s["function"] for l in lines for s in l.get("symbols", [])]
    assert name == "log" or "makes_block" in names, names
END
ok
sampled sample:all "./$odd/leak"
has_not log '^leak' 'a newline in a path begins no line'
rm -r "$odd"

# --- sampled by bytes --------------------------------------------------------------------------------

sampled sample:1k ./leak
names log
has out '#0  makes_block at .*leak\.c:4 ' 'a program sampled by bytes'

# --- without debug information, and with it elsewhere --------------------------------------------------

cp leak stripped
objcopy --only-keep-debug stripped apart
strip stripped
sampled sample:all ./stripped
names log
has_not out 'makes_block' 'a stripped program has no names'
id=$(readelf -n stripped | sed -n 's/.*Build ID: //p')
mkdir -p "debug/.build-id/${id:0:2}"
cp apart "debug/.build-id/${id:0:2}/${id:2}.debug"
names -d "$dir/debug" log
has out '#0  makes_block at .*leak\.c:4 ' 'debug information by build-id'
rm stripped
names -d debug log
has out '#0  makes_block at .*leak\.c:4 ' 'debug information in a folder by a relative path'
names log
has err "stripped with build-id $id: there is no such file any more" 'a file that went'
has out "\?\? \($dir/stripped\+0x" 'a file that went: the frames stay'
names --debug-dir "$dir/debug" log
has out '#0  makes_block at .*leak\.c:4 ' 'a file that went, with debug information by build-id'

# --- another file in its place ----------------------------------------------------------------------

cp leak changing
sampled sample:all ./changing
sed 's/makes_block/other_name/g' leak.c >other.c
"$cc" -g -O2 other.c -o changing
names log
other=$(readelf -n changing | sed -n 's/.*Build ID: //p')
has err "changing with build-id [0-9a-f]*: the file there now has build-id $other" 'another build-id is said'
has_not out 'other_name|makes_block' 'another build-id gives no names'
if [ "$(grep -c 'changing with' err)" -eq 1 ]; then ok; else bad 'said more than once'; fi

# --- a library that was unloaded ---------------------------------------------------------------------

cat >plugin.c <<'END'
#include <stdlib.h>
void *plugin_makes(size_t n) {
    void *p = malloc(n); /* line 3 */
    __asm__ volatile("" : "+r"(p));
    return p;
}
END
cat >host.c <<'END'
#include <dlfcn.h>
#include <stdio.h>
void *volatile kept[64];
int main(int argc, char **argv) {
    for (int i = 0; i < 32; i++) {
        void *h = dlopen(argv[argc - 1 - i % 2], RTLD_NOW);
        if (h == NULL)
            return puts(dlerror()), 1;
        void *(*make)(size_t) = (void *(*)(size_t))dlsym(h, "plugin_makes");
        kept[i] = make(4321);
        dlclose(h);
    }
    return 0;
}
END
"$cc" -g -O2 -shared -fPIC plugin.c -o one.so
sed 's/plugin_makes(size_t n)/&\n/' plugin.c >second.c # the same name one line below
"$cc" -g -O2 -shared -fPIC second.c -o two.so
"$cc" -g -O2 host.c -o host -ldl
sampled sample:all ./host ./one.so ./two.so
names log
has log ' module: .* loaded 0 path .*one\.so' 'unloaded modules are known as such'
has log ' module: .* loaded 1 path .*libc\.so' 'others are loaded'
has out '#0  plugin_makes at .*plugin\.c:3 ' 'an unloaded library'
has out '#0  plugin_makes at .*second\.c:4 ' 'another one that was loaded in its place'
has log ' stack: bytes 69136 .* blocks 16 ' 'loaded again it is the same module'

# --- C++ ------------------------------------------------------------------------------------------------

cat >leak.cc <<'END'
#include <string>
#include <vector>
namespace shop {
template <class T> struct Shelf {
    std::vector<T *> items;
    __attribute__((noinline)) void fill(int n) {
        for (int i = 0; i < n; i++)
            items.push_back(new T[1000]); // line 8
    }
};
}
shop::Shelf<double> shelf;
int main() {
    shelf.fill(50);
    return shelf.items.size() == 50 ? 0 : 1;
}
END
if ${CXX:-g++} -g -O2 leak.cc -o leakpp 2>err; then
    sampled sample:all ./leakpp
    names log
    has out '#[0-9]+ +shop::Shelf<double>::fill\(int\) at .*leak\.cc:8 ' 'C++ names are read'
else
    echo "symbolize: skipped: C++: $(head -n 1 err)"
fi

# --- suppressions ---------------------------------------------------------------------------------------

# Reports of two processes, made from one's stack. Of the second, module 1 is another file.
sampled sample:all ./leak
frames=$(sed -n 's/.* stack: bytes 300000 .* frames //p' log)
module=$(sed -n 's/^besom.[0-9]*. \(module: number 1 .*\)/\1/p' log)
libc=$(sed -n 's/^besom.[0-9]*. \(module: number 2 .*\)/\1/p' log)
cat >reports <<END
besom[1] $module
besom[1] $libc
besom[2] module: number 1 build_id none loaded 1 path /nowhere/else
besom[1] leak: number 1 bytes 10 frames $frames
besom[2] leak: number 1 bytes 20 frames $frames
besom[1] dangling: number 5 bytes 30 frames $frames alloc_frames $frames
besom[1] dangling_from: number 5 bytes 31 frames 1+0x1
besom[2] dangling: number 5 bytes 40 frames $frames
besom[2] dangling_from: number 5 bytes 41 frames 1+0x1
besom[1] dangling: number 6 bytes 50 frames 1+0x1 alloc_frames 1+0x1
besom[1] dangling_from: number 6 bytes 51 frames 1+0x1
{"besom":1,"event":"leak","pid":1,"bytes":60,"frames":["${frames// /\",\"}"]}
{"besom":1,"event":"leak","pid":2,"bytes":70,"frames":["1+0x1"]}
{"besom":1,"event":"leak","pid":2,"bytes":80,"frames":["1+0x1"
END
names reports
has out '^besom.1. leak: number 1 bytes 10 ' 'a leak'
if [ "$(grep -A 100 '^besom.1. dangling: number 5' out | grep -A 1 'allocated by' | grep -c '#0  makes_block')" -eq 1 ]; then
    ok
else
    bad 'the frames of each stack are counted from 0'
fi
has out '#0  .. ./nowhere/else.0x' 'modules are of a process'
has_not err 'suppressed' 'without rules'
for rule in leak:makes_block 'leak:*leak.c' 'leak:main'; do
    printf '# words\n\nmodule:*\nframe:*\nleak:no_such_name\n \t%s \t\r\n' "$rule" >rules
    names -s rules reports
    has_not out ' bytes (10|30|31) |"bytes":60' "what $rule suppresses"
    for bytes in 20 40 41 50 51; do
        has out " bytes $bytes " "what $rule does not suppress"
    done
    has out '"bytes":70.*"symbols":.*}$' "what $rule does not suppress"
    has out '"bytes":80,"frames":."1.0x1"$' 'a line that is cut off passes as it is'
    has err '^besom: symbolize: 3 leaks suppressed$' "what $rule suppresses is counted"
    if [ "$(wc -l <err)" -eq "$(grep -c 'suppressed\|nowhere' err)" ]; then ok; else bad "rules: $(cat err)"; fi
done
printf 'leak:\nlost:x\n' >rules
names -s rules reports
has err "^besom: symbolize: rules:1: 'leak:' ignored" 'a rule without a name'
has err "^besom: symbolize: rules:2: 'lost:x' ignored" 'a rule of another kind'
has out ' bytes 10 ' 'rules that are none suppress nothing'

# The newest line about a module counts, and its build-id.
leak=${module##* path }
cat >again <<END
besom[1] $module
besom[1] $libc
besom[1] leak: number 1 bytes 10 frames $frames
besom[3] module: number 1 build_id 0123456789 loaded 1 path $leak
besom[3] leak: number 1 bytes 30 frames $frames
besom[1] module: number 1 build_id none loaded 1 path /nowhere/else
besom[1] leak: number 2 bytes 20 frames $frames
END
names again
if [ "$(grep -c '#0  makes_block' out)" -eq 1 ]; then ok; else bad 'another build-id, or an older line'; fi
has out '#0  .. ./nowhere/else.0x' 'a module of the same number that came later'
has err "$leak with build-id 0123456789: the file there now has build-id" 'the same path with another build-id'

# --- what is wrong with the command ---------------------------------------------------------------------

for bad_args in "-z" "-zd" "-d" "-d/nowhere" "/nowhere/log"; do
    status=0
    # shellcheck disable=SC2086
    timeout 120 "$besom" symbolize $bad_args >out 2>err </dev/null || status=$?
    if [ "$status" -eq 125 ] && [ "$(wc -l <err)" -eq 1 ] && grep -q '^besom: symbolize: ' err; then
        word=${bad_args#-d}
        has err "'${word:--d}'" "what is named of $bad_args"
    else
        bad "symbolize $bad_args: status $status"
    fi
done

# The others are read all the same.
status=0
timeout 120 "$besom" symbolize /nowhere/log mixed >out 2>err || status=$?
if [ "$status" -eq 125 ]; then has out '^some words$' 'a file after one that cannot be read'; else bad "status $status"; fi
status=0
timeout 120 "$besom" symbolize mixed >/dev/full 2>err || status=$?
if [ "$status" -eq 125 ]; then has err 'cannot write' 'a full device'; else bad "a full device: status $status"; fi

echo "symbolize: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
