#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bootstrap.sh - ./bootstrap where it cannot work, or was interrupted: one line says what is wrong before anything
# is installed or built, and what ^C left of autoreconf and configure is made anew. It is a copy that installs
# nothing, in a project of two makefiles.
#
# It is NOT about what is built. Called by `make check`; takes top_srcdir from the environment. Exit status: 0 all
# right, 1 not, 77 without autotools.
set -u

top=$(realpath "${top_srcdir:-$(dirname "$0")/../..}")
for tool in autoreconf automake make; do
    command -v "$tool" >/dev/null || { echo "bootstrap.sh: skipped: there is no $tool"; exit 77; }
done
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
status=0

# project FOLDER [WORDS]: there; with WORDS instead of the installation of packages.
project() {
    mkdir -p "$1/sub"
    sed "s/^    deps .*/    ${2:-:}/" "$top/bootstrap" >"$1/bootstrap"
    chmod +x "$1/bootstrap"
    cat >"$1/configure.ac" <<'END'
AC_INIT([project], [1])
AC_CONFIG_AUX_DIR([build-aux])
AM_INIT_AUTOMAKE([foreign])
AC_CONFIG_FILES([Makefile sub/Makefile])
AC_OUTPUT
END
    echo 'SUBDIRS = sub' >"$1/Makefile.am"
    printf 'all-local:\n\ttouch made\n' >"$1/sub/Makefile.am"
}

# ends WHAT CODE WORDS COMMAND...: with the exit status, the words in its output.
ends() {
    local what=$1 want=$2 words=$3 code=0
    shift 3
    timeout 300 "$@" >"$tmp/out" 2>&1 </dev/null || code=$?
    if [ "$code" -ne "$want" ] || ! grep -qF -- "$words" "$tmp/out"; then
        echo "bootstrap.sh: $what: exit status $code, wanted $want and '$words': $(cat "$tmp/out")"
        status=1
    fi
}

# A path that autotools cannot build in: every command says so, and installs nothing.
for name in 'a blank' "a'quote" 'a:colon' "a\$sign" 'a[bracket' 'a\slash'; do
    project "$tmp/$name" 'die "packages"'
    for command in build check demo bench; do
        ends "$command in '$name'" 1 'autotools cannot build in' "$tmp/$name/bootstrap" "$command"
        [ "$(wc -l <"$tmp/out")" = 1 ] || { echo "bootstrap.sh: more than a line: $(cat "$tmp/out")"; status=1; }
    done
done
project "$tmp/ä~b+c=d" 'die "packages"'
ends "a path that is fit" 1 'bootstrap: packages' "$tmp/ä~b+c=d/bootstrap" build
ends "a set without a name" 1 "no set of packages is called ''" "$top/bootstrap" deps ''
ends "help for the demonstration" 0 'usage: demo.sh [LIBRARY]' "$top/bootstrap" demo --help

project "$tmp/p"
ends "a build" 0 'bootstrap: built' "$tmp/p/bootstrap" build
# As after ^C while config.status, autoreconf or both wrote the makefiles.
rm "$tmp/p/build/sub/Makefile" "$tmp/p/build/configure-args"
ends "configure that was interrupted" 0 'bootstrap: built' "$tmp/p/bootstrap" build
rm -r "$tmp/p/sub/Makefile.in" "$tmp/p/build"
ends "autoreconf that was interrupted" 0 'bootstrap: built' "$tmp/p/bootstrap" build
[ -e "$tmp/p/build/sub/made" ] || { echo "bootstrap.sh: nothing was built"; status=1; }

# A tree that is not one's own is said to be so where something has to be written; root may write.
if [ "$(id -u)" != 0 ] || { chmod 755 "$tmp" && runuser -u nobody -- test -x "$tmp/p/bootstrap"; }; then
    as_user() { if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi; }
    rm -r "$tmp/p/build"
    chmod -R a-w "$tmp/p"
    code=0
    as_user timeout 300 "$tmp/p/bootstrap" build >"$tmp/out" 2>&1 </dev/null || code=$?
    if [ $code != 1 ] || ! grep -q "^bootstrap: cannot write in .*; copy the checkout" "$tmp/out"; then
        echo "bootstrap.sh: a tree of another user: exit status $code, $(cat "$tmp/out")"
        status=1
    fi
else
    echo "bootstrap.sh: skipped: a tree of another user: nobody cannot run it"
fi
exit $status
