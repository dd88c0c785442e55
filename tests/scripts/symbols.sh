#!/bin/sh
# SPDX-License-Identifier: MIT
#
# symbols.sh - libbesom.so, and libbesom-scan.so beside it, as the dynamic linker sees them: each exports
# exactly what its map (preload.map, scan.map) says,
# needs nothing but libc, has no text relocation, is bound at load time, has no executable stack,
# and its thread-local storage is a few words (it comes out of a small reserve of every process).
#
# Called by `make check`; takes top_srcdir and BESOM_LIB from the environment, or the map and the
# library as arguments. Exit status: 0 as promised, 1 not.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
map=${1:-$top/preload/preload.map}
lib=${2:-${BESOM_LIB:-$top/build/libbesom.so}}
tls_max_bytes=64
status=0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

broken() {
    echo "symbols.sh: $*"
    status=1
}

[ -r "$map" ] || { echo "symbols.sh: $map cannot be read"; exit 1; }
[ -r "$lib" ] || { echo "symbols.sh: $lib cannot be read; run make"; exit 1; }

# The names between "global:" and "local:", comments taken out.
tr '\n' ' ' <"$map" | sed 's:/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/: :g' | tr '{};' '[\n*]' |
    sed -n '/global:/,/local:/{s/.*global://;/local:/!s/[[:space:]]//gp}' |
    sed '/^$/d' | sort -u >"$tmp/promised"
[ -s "$tmp/promised" ] || { echo "symbols.sh: $map has no name under global:"; exit 1; }
! grep '[*?[]' "$tmp/promised" || broken "$map: name each symbol, without wildcards"

nm -D --defined-only "$lib" | sed -n 's/^[0-9a-f]* [^A] \([^@]*\).*/\1/p' | sort -u >"$tmp/exported"
comm -23 "$tmp/promised" "$tmp/exported" >"$tmp/missing"
comm -13 "$tmp/promised" "$tmp/exported" >"$tmp/extra"
[ ! -s "$tmp/missing" ] || broken "promised but not exported: $(paste -sd' ' "$tmp/missing")"
[ ! -s "$tmp/extra" ] || broken "exported but not in preload.map: $(paste -sd' ' "$tmp/extra")"

readelf -dW "$lib" >"$tmp/dynamic"
readelf -lW "$lib" >"$tmp/segments"
needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p' "$tmp/dynamic" |
    grep -v -x -e 'libc\.so\.6' -e 'ld-linux-.*' || true)
[ -z "$needed" ] || broken "NEEDED besides libc: $(echo "$needed" | paste -sd' ')"
! grep -q TEXTREL "$tmp/dynamic" || broken "it has text relocations"
grep -q 'BIND_NOW\|FLAGS_1.*NOW' "$tmp/dynamic" || broken "it is not linked with -z now"
grep -q GNU_RELRO "$tmp/segments" || broken "it is not linked with -z relro"
! grep -q 'GNU_STACK.* RWE' "$tmp/segments" || broken "it asks for an executable stack"

tls_bytes=$(awk '$1 == "TLS" { print $6 }' "$tmp/segments")
tls_bytes=$((${tls_bytes:-0}))
[ "$tls_bytes" -le "$tls_max_bytes" ] ||
    broken "thread-local storage is $tls_bytes bytes, at most $tls_max_bytes promised"

[ "$status" -ne 0 ] ||
    echo "symbols.sh: $(basename "$lib"): $(wc -l <"$tmp/exported") exports as promised, TLS $tls_bytes bytes"
[ $# -ne 0 ] ||
    sh "$0" "$top/preload/scan.map" "$(dirname "$lib")/libbesom-scan.so" || status=1
exit "$status"
