#!/bin/sh
# SPDX-License-Identifier: MIT
#
# docs.sh - what is documented is what there is. besom.conf(5) describes every option of src/options.def, every counter
# of src/stats.def, every event and field of the log, each by an item of its own, not in passing, and its or besom(7)'s
# texts have every message that the library may say. besom(1) has every option of the command. What doc/*.md and the
# other texts name of the sources (functions, constants, files) is there.
#
# Called by `make check`; takes top_srcdir from the environment. Exit status: 0 complete, 1 not.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
man=$top/doc/besom.conf.5
status=0
count=0

[ -r "$man" ] || { echo "docs.sh: $man cannot be read"; exit 1; }

broken() {
    echo "docs.sh: $*"
    status=1
}

# names FILE MACROS: the first argument of each line that calls one of the macros.
names() {
    sed -n "s/^$2(\([A-Za-z0-9_]*\).*/\1/p" "$1"
}

# described KIND NAME...: for each an item or a subsection of the page names it.
described() {
    kind=$1
    [ $# -gt 1 ] || broken "no $kind found in the sources"
    shift
    for name in "$@"; do
        count=$((count + 1))
        grep -E -q "^\.(It|Ss) (.*[^A-Za-z0-9_])?$name([^A-Za-z0-9_]|\$)" "$man" ||
            broken "$kind $name has no item in besom.conf.5"
    done
}

# shellcheck disable=SC2046  # names are words
described option $(names "$top/src/options.def" 'BS_OPT_[A-Z]*')
# shellcheck disable=SC2046
described counter $(names "$top/src/stats.def" 'BS_STAT')
# shellcheck disable=SC2046
described "event or field" $(sed -n 's/.*bs_line_[a-z]*(&\{0,1\}[a-z]*, "\([a-z_]*\)".*/\1/p' "$top"/src/log*.c | sort -u)

# Options of the command: those of run and symbolize in C, those of bench in Python.
for name in $(sed -n 's/^ *{"\([a-z-]*\)", [a-z]*_argument, NULL.*/\1/p' "$top/tools/run.c" "$top/tools/symbolize.c") \
    $(sed -n 's/.*add_argument(\("-.", \)\{0,1\}"--\([a-z-]*\)".*/\2/p' "$top/tools/bench/options.py"); do
    count=$((count + 1))
    grep -q "Fl -$name\>" "$top/doc/besom.1" || broken "--$name is not in besom.1"
done

python3 - "$top" <<'END' || status=1
import glob, os, re, sys

top, said = sys.argv[1], []
read = lambda path: open(path, encoding="utf-8", errors="replace").read()
sources = [path for folder in ("src", "preload", "tools", "tools/bench", "bench", "doc", "tests", "tests/*", "m4", ".")
           for path in glob.glob(os.path.join(top, folder, "*")) if os.path.isfile(path)]
code = {path: re.sub(r"/\*.*?\*/", "", read(path), flags=re.S) for path in sources if path.endswith((".c", ".h", ".def"))}

# Messages, by their words: numbers and names differ.
def words(text):
    return " ".join(re.findall(r"[a-z]+", re.sub(r'%[0-9]*[lzj]*[a-z%]|0x\.\.\.|\\\(dq|\\ ', " ", text)))
manual = words(read(top + "/doc/besom.conf.5") + read(top + "/doc/besom.7"))
for path, text in code.items():
    if os.path.basename(os.path.dirname(path)) not in ("src", "preload") or \
            os.path.basename(path) in ("lock.c", "lockprof.c"):   # debug builds
        continue
    for found in re.finditer(r'\b(bs_warn|bs_fatal|bs_log_note)\(((?:"(?:[^"\\]|\\.)*"\s*)+)', text):
        message = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', found.group(2)))
        first = max(re.split(r"%[0-9]*[lzj]*[a-z]", message), key=len)
        said.append(message)
        if words(first) not in manual:
            sys.exit(f"docs.sh: {os.path.basename(path)} says \"{message}\", which is in no manual page")

# Names.
known = set(re.findall(r"\w+", " ".join(code.values())))
files = {os.path.basename(path) for path in sources}
stems = {name.partition(".")[0] for name in files}
bad, names = [], 0
for path in sorted(glob.glob(top + "/doc/*.md")) + [top + "/README.md", top + "/bench/README.md", top + "/NEWS"]:
    text = read(path)
    for name in re.findall(r"\b(?:bs_[a-z0-9_]*[a-z0-9]|BS_[A-Z0-9_]*[A-Z0-9])\b(?!_)", text):
        names += 1
        if name not in known:
            bad.append(f"{os.path.basename(path)}: {name}")
    # Fields and functions of a file's own, in the text that is about nothing else.
    for name in re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)`", text) if path.endswith("DESIGN.md") else []:
        names += 1
        if not {name, "SYS_" + name} & (known | stems) and not name.startswith(("pthread_", "pidfd_", "rt_", "test_")):
            bad.append(f"{os.path.basename(path)}: {name}")
    # A name alone in its quotes; one with a place in it is a program's own.
    for name in re.findall(r"`((?:[\w.-]+/)*[a-z][\w-]*\.(?:c|h|def|sh|py|ld|map|pml))`", text):
        names += 1
        if os.path.basename(name) not in files or \
                "/" in name and not glob.glob(os.path.join(top, name)) and not glob.glob(os.path.join(top, "tests", name)):
            bad.append(f"{os.path.basename(path)}: {name}")
for name in bad:
    print(f"docs.sh: {name} is not in the sources")
if bad or names < 300 or len(said) < 25:
    sys.exit(f"docs.sh: {names} names and {len(said)} messages found")
print(f"docs.sh: {names} names of the sources and {len(said)} messages as they are")
END

[ "$status" -ne 0 ] || echo "docs.sh: $count names described"
exit "$status"
