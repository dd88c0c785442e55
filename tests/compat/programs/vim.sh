# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# vim.sh -- vim in batch: substitution, sorting, undo and its script language on 50k lines.
what="vim -es on 50k lines: substitute, sort, global, undo, dictionaries"
packages=vim
commands="vim sha256sum"
witnesses='vim(.[a-z]*)?'
speed=quick

version() { vim --version | sed -n '1s/.*IMproved \([^ ]*\).*/\1/p'; }

workload() {
    local i
    for ((i = 0; i < 50000; i++)); do
        echo "line $((i * 7919 % 50021)) of the text $i"
    done >text
    cat >work.vim <<'VIM'
set nomore nocompatible undolevels=100
%s/\v(\d+) of (\w+)/\2 -> \1/g
g/7\d7/normal A tail
write! one
sort n /-> /
g/00/d
write! two
undo
undo
write! three
let d = {}
for i in range(30000)
  let d['k' . (i * 7919 % 10007)] = repeat([i], i % 7)
endfor
call writefile(sort(map(items(d), 'string(v:val)')), 'four')
call writefile(split(system('echo from a child'), "\n"), 'five')
quitall!
VIM
    vim -u NONE -i NONE -n -es -S work.vim text
    sha256sum one two three four five
}
