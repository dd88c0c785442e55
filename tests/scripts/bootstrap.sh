#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bootstrap.sh - ./bootstrap where it cannot work, or was interrupted: one line says what is wrong before anything
# is installed or built, and what ^C left of autoreconf and configure is made anew. It is a copy that installs
# nothing, in a project of two makefiles. And how packages are named whose names differ between releases, by an apt
# that is none.
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

# A test that failed does not hide that others never ran. (The functions of the script, not what it does.)
mkdir -p "$tmp/late/build/tests"
cat >"$tmp/late/build/Makefile" <<'END'
TESTS = one two
all:
check:
	[ -z '$(TESTS)' ] || { echo ':global-test-result: FAIL' >tests/one.trs; echo no >tests/one.log; sleep 100; }
END
# shellcheck disable=SC2016  # for the other shell
sed -e '/^command=/,$d' -e 's,^top=.*,top=$2,' "$top/bootstrap" >"$tmp/functions"
# shellcheck disable=SC2016  # for the other shell
ends "tests that were not run in time" 0 'make check (status 124' \
    bash -c 'source "$1"; make_check build 3; [ "$failed" = 2 ]' late "$tmp/functions" "$tmp/late"

# Where there is neither root nor sudo the remedy is said, with the names that apt has: of Debian 12, 13, one whose
# python3 is not its newest, and none where there are no lists yet.
mkdir "$tmp/bin"
for tool in bash sed grep sort realpath dirname env; do
    ln -s "$(command -v $tool)" "$tmp/bin/$tool"
done
printf '#!/bin/bash\necho 1000\n' >"$tmp/bin/id"
printf '#!/bin/bash\nexit 1\n' >"$tmp/bin/dpkg-query"
cat >"$tmp/bin/apt-cache" <<'END'
#!/bin/bash
case $1 in
pkgnames) printf '%s\n' $KNOWN | grep "^$2" ;;
madison) [[ $2 == *virtual ]] || echo "$2 | 1 | a source" ;;
show) [ -z "$KNOWN" ] || printf 'Package: python3\nDepends: %s (>= 1), libpython3-stdlib (= 1)\n' "$PYTHON" ;;
esac
END
chmod +x "$tmp/bin"/*
sed "s,^debian_path=.*,debian_path=$tmp/bin," "$top/bootstrap" >"$tmp/bootstrap"
names() { # WHAT PYTHON 'NAMES THAT APT HAS' NAME...: these are to be installed
    local what=$1 python=$2 known=$3 name
    shift 3
    ends "$what" 1 'not root, and no sudo. As root, run   apt-get update && apt-get install --no-install-recommends' \
        env -i PATH="$tmp/bin" PYTHON="$python" KNOWN="$known" bash "$tmp/bootstrap" deps bench
    for name in "$@"; do
        grep -qF -- " $name " "$tmp/out" || { echo "bootstrap.sh: $what: no $name in: $(cat "$tmp/out")"; status=1; }
    done
}
names 'packages of Debian 12' python3.11 'libmimalloc-dev libmimalloc2.0 libtcmalloc-minimal4 libpython3.11-testsuite' \
    libmimalloc2.0 libtcmalloc-minimal4 libpython3.11-testsuite gcc
names 'packages of Debian 13' python3.13 'libmimalloc-dev libmimalloc3 libtcmalloc-minimal4 libtcmalloc-minimal4t64
    libtcmalloc-minimal5virtual libpython3.13-testsuite' libmimalloc3 libtcmalloc-minimal4t64 libpython3.13-testsuite
names 'packages for python3' python3.13 'libpython3.13-testsuite libpython3.14-testsuite' libpython3.13-testsuite
names 'packages that no list has' '' '' "'libmimalloc[0-9]*'" "'libpython3.*-testsuite'" gcc

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
