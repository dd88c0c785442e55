# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# bash.sh -- arrays, string building, subshells, pipelines and here-documents in bash.
what="arrays, associative arrays, strings, 300 subshells and pipelines"
packages=bash
commands="bash sort sha256sum"
witnesses="bash"
speed=quick

version() { bash -c 'echo "${BASH_VERSION%%(*}"'; }

workload() {
    local i text=""
    local -A squares=()
    for ((i = 0; i < 60000; i++)); do
        squares[$((i % 5000))]+="$i,"
    done
    echo "${#squares[@]} ${squares[4711]}"
    for ((i = 0; i < 4000; i++)); do
        text="${text//9/x}$i "
    done
    echo "${#text} ${text:100:80}"
    for ((i = 0; i < 300; i++)); do
        (echo "sub $i $((i * i))" | tr '[:lower:]' '[:upper:]')
    done | sort -k2n | sha256sum
    bash -c 'ulimit -c 0; kill -TERM $$' || echo "killed: $?"
    bash -c 'f() { local a=$1; if ((a > 0)); then f $((a - 1)); fi; echo -n "$a "; }; f 400; echo'
    cat <<END
${squares[1]:0:20} $(printf '%s-' {1..200})
END
    bash -c 'declare -a a; a[1000000]=x; unset b; echo "${b?is not set}"' 2>&1 || echo "status $?"
}
