#!/bin/sh
# SPDX-License-Identifier: MIT
#
# frames.sh - which functions of the two libraries have large frames, against tests/scripts/frames.txt. malloc and free
# run on stacks of 16 KiB as well, of which libc keeps a part, and there is nobody who says that one was too small: a
# search of the quarantine once took 17 KiB. tests/preload/quarantine_small_stack measures the sum of the worst way.
#
# A frame of more than 1000 bytes has to be in the list, with at most so many bytes: those of gcc 12, and as NAME@14
# where gcc 14's is larger. Skipped aloud where another compiler would make other frames. `frames.sh --print` prints what there is.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
lib=${BESOM_LIB:-$top/build/libbesom.so}
golden=$top/tests/scripts/frames.txt

# shellcheck disable=SC1091  # read on its own
. "$(dirname "$0")/golden_helpers.sh"
compiler=''
skip_other_compilers "$lib" 14

# Bytes and name; parts that the compiler has split off count as the function.
frames() {
    for file in "$lib" "${lib%.so}-scan.so"; do
        objdump -d --no-show-raw-insn "$file"
    done | awk '
        function hex(text,   i, n) {
            for (i = 1; i <= length(text); i++)
                n = n * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
            return n
        }
        /^[0-9a-f]+ <.*>:$/ { name = $2; gsub(/[<>:]/, "", name); sub(/\..*/, "", name) }
        $2 == "sub" && $3 ~ /^\$0x[0-9a-f]+,%rsp$/ {
            text = $3; sub(/^\$0x/, "", text); sub(/,.*/, "", text)
            if (length(text) > 8) next # a negative one, at the end
            bytes = hex(text)
            if (bytes > 1000 && bytes > most[name]) most[name] = bytes
        }
        END { for (name in most) print most[name], name }' | sort -k1,1nr -k2
}

if [ "${1-}" = --print ]; then
    frames
    exit 0
fi
frames >/dev/null
status=0 n=0
for pair in $(frames | tr ' ' :); do
    bytes=${pair%%:*} name=${pair#*:} n=$((n + 1))
    allowed=$(awk -v name="$name" -v other="$name@$compiler" '
        $1 == other { mine = $2 } $1 == name { bytes = $2 } END { print mine ? mine : bytes }' "$golden")
    if [ -z "$allowed" ]; then
        echo "frames.sh: $name has a frame of $bytes bytes and is not in frames.txt"
        status=1
    elif [ "$bytes" -gt "$allowed" ]; then
        echo "frames.sh: $name has a frame of $bytes bytes, more than $allowed"
        status=1
    fi
done
[ "$n" -ne 0 ] || { echo "frames.sh: no frame was found in $lib"; status=1; }
[ "$status" -ne 0 ] || echo "frames.sh: $n frames of more than 1000 bytes, as listed"
exit "$status"
