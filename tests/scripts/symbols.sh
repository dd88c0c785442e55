#!/bin/sh
# SPDX-License-Identifier: MIT
#
# symbols.sh - libbesom.so and libbesom-scan.so as the dynamic linker sees them: each exports exactly what
# its maps (preload.map; and scan.map) say,
# needs nothing but libc, has no text relocation, is bound at load time, has no executable stack,
# and its thread-local storage is a few words (it comes out of a small reserve of every process).
#
# Called by `make check`; takes top_srcdir and BESOM_LIB from the environment, or the library and its maps
# as arguments. Exit status: 0 as promised, 1 not.
set -eu

top=${top_srcdir:-$(dirname "$0")/../..}
[ $# -ne 0 ] || set -- "${BESOM_LIB:-$top/build/libbesom.so}" "$top/preload/preload.map"
lib=$1
shift
tls_max_bytes=64
status=0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

broken() {
    echo "symbols.sh: $*"
    status=1
}

cat "$@" >"$tmp/maps" || { echo "symbols.sh: $* cannot be read"; exit 1; }
[ -r "$lib" ] || { echo "symbols.sh: $lib cannot be read; run make"; exit 1; }

# The names between "global:" and "local:", comments taken out.
tr '\n' ' ' <"$tmp/maps" | sed 's:/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/: :g' | tr '{};' '[\n*]' |
    sed -n '/global:/,/local:/{s/.*global://;/local:/!s/[[:space:]]//gp}' |
    sed '/^$/d' | sort -u >"$tmp/promised"
[ -s "$tmp/promised" ] || { echo "symbols.sh: $* has no name under global:"; exit 1; }
! grep '[*?[]' "$tmp/promised" || broken "$*: name each symbol, without wildcards"

nm -D --defined-only "$lib" | sed -n 's/^[0-9a-f]* [B-Z] \([^@]*\).*/\1/p' | sort -u >"$tmp/exported"
comm -23 "$tmp/promised" "$tmp/exported" >"$tmp/missing"
comm -13 "$tmp/promised" "$tmp/exported" >"$tmp/extra"
[ ! -s "$tmp/missing" ] || broken "promised but not exported: $(paste -sd' ' "$tmp/missing")"
[ ! -s "$tmp/extra" ] || broken "exported but not in $*: $(paste -sd' ' "$tmp/extra")"

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
[ $# -ne 1 ] || sh "$0" "$(dirname "$lib")/libbesom-scan.so" "$@" "$top/preload/scan.map" || status=1
exit "$status"
