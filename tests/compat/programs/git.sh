# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# git.sh -- a repository of 800 commits: gc with two packing threads, fsck, log, blame, clone.
# Which deltas two threads find depends on their timing, so sizes of packs are not compared.
what="repository of 800 commits: gc --aggressive, fsck, log, blame, clone"
packages=git
commands="git sha256sum"
witnesses=git
speed=quick

version() { git --version | cut -d ' ' -f 3; }

# A fast-import stream: three files that change from commit to commit, and one new one each.
stream() {
    awk 'function blob(path, text) {
        printf "M 100644 inline %s\ndata %d\n%s\n", path, length(text), text
    }
    BEGIN {
        for (n = 1; n <= 800; n++) {
            message = "commit " n
            printf "commit refs/heads/main\ncommitter A <a@b> %d +0000\ndata %d\n%s\n",
                1700000000 + n, length(message), message
            for (f = 0; f < 3; f++) {
                line[f, n % 150] = "line " n " of file " f " " n * 7919 % 10007
                text = ""
                for (i = 0; i < 150; i++) text = text line[f, i] "\n"
                blob("file" f, text)
            }
            blob("dir" n % 20 "/new" n, "content " n * n)
        }
    }' </dev/null
}

workload() {
    export GIT_CONFIG_NOSYSTEM=1
    git init -q -b main repo
    cd repo || return
    git config pack.threads 2
    stream | git fast-import --quiet
    git reset -q --hard
    git gc --quiet --aggressive --prune=now
    git fsck --full --strict
    git count-objects -v | grep -E '^(count|in-pack|packs|garbage)'
    git log --stat --format='%H %s' | sha256sum
    git blame file1 | sha256sum
    git rev-list --objects --all | sort | sha256sum
    git clone -q --no-hardlinks . ../clone
    git -C ../clone log -1 --format=%H
    git grep -c 'line 7' | sha256sum
    git show no-such-thing || echo "status $?"
}
