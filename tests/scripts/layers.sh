#!/bin/sh
# SPDX-License-Identifier: MIT
#
# layers.sh - a file includes only what lies below it. Compares every #include "..." of src/*.[ch]
# and preload/*.[ch] with layers.txt; a file that the table does not name, and a name without a
# file, are failures too, so the table cannot rot.
#
# It is NOT about <system> headers. Called by `make check`; takes top_srcdir from the environment.
# Exit status: 0 all in order, 1 not (a line for each break of a rule).
set -eu

cd "${top_srcdir:-$(dirname "$0")/../..}"

awk '
    function broken(text) {
        print text
        failed = 1
    }
    # What the table calls a file: by its full name, else by the name without .c or .h.
    function name_of(file) {
        sub(/^.*\//, "", file)
        if (!(file in row))
            sub(/\.[ch]$/, "", file)
        return file
    }
    function src_includes(file, included,    from, to) {
        from = name_of(file)
        to = name_of(included)
        if (included == "config.h" && file == "src/base.h")
            return
        if (!(to in row))
            broken(file ": includes " included ", which layers.txt does not name")
        else if (from == to || !(from in row))
            return
        else if (row[to] > row[from])
            broken(file ": layer " row[from] " includes " included " of layer " row[to])
        else if (row[to] == row[from] && place[to] > place[from])
            broken(file ": includes " included ", which is not to its left in layer " row[to])
    }
    function preload_includes(file, included,    name) {
        name = name_of(included)
        if (!(("preload", name) in allowed) && !((file, name) in allowed))
            broken(file ": may not include " included)
    }

    FILENAME ~ /layers\.txt$/ {
        for (i = 2; i <= NF && $1 ~ /^[0-9]+$/; i++) {
            if ($i in row)
                broken("layers.txt: names " $i " twice")
            row[$i] = $1 + 0
            place[$i] = i
        }
        for (i = 2; i <= NF && $1 ~ /^preload/; i++)
            allowed[$1, $i] = 1
        next
    }
    FNR == 1 && FILENAME ~ /^src\// {
        name = name_of(FILENAME)
        exists[name] = 1
        if (!(name in row))
            broken(FILENAME ": add " name " to a row of layers.txt")
    }
    /^[[:space:]]*#[[:space:]]*include[[:space:]]*"/ {
        split($0, parts, "\"")
        count++
        if (FILENAME ~ /^src\//)
            src_includes(FILENAME, parts[2])
        else
            preload_includes(FILENAME, parts[2])
    }
    END {
        for (name in row)
            if (!(name in exists))
                broken("layers.txt: names " name ", but src/ has no such file")
        if (count == 0)
            broken("layers.sh: found no #include line")
        if (!failed)
            print "layers.sh: " count " includes in order"
        exit failed
    }' tests/scripts/layers.txt src/*.[ch] src/*.def preload/*.[ch]
