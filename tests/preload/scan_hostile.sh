#!/bin/bash
# SPDX-License-Identifier: MIT
#
# scan_hostile.sh - scan:leak in places that refuse it something: each time the program gives its result as
# ever, nothing comes on stderr, and the log has a line for each scan, with the verdict that is expected
# there: that of a lesser way, or why there is none. Where a place cannot be made here, that is said.
#
# scan_hostile.sh overcommit: the one place that is the whole machine's instead; scan_overcommit.sh calls that
# when nothing runs beside it.
#
# Called by `make check`; takes CC from the environment, and libbesom-scans.so from .libs here: it scans 20
# times a second. Settings of the machine that are changed are put back however the script ends.
# Exit status: 0 all right, 1 not, 77 none of it could be tried.
set -u
lib=$(pwd)/.libs/libbesom-scans.so
[ -r "$lib" ] || { echo "scan_hostile.sh: skipped: there is no $lib"; exit 77; }
tmp=$(mktemp -d)
overcommit=/proc/sys/vm/overcommit_memory
old_overcommit=
groups=
# shellcheck disable=SC2317  # called by the trap
clean() {
    [ -z "$old_overcommit" ] || echo "$old_overcommit" >"$overcommit"
    for group in $groups; do
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            rmdir "$group" 2>/dev/null && break
            sleep 0.2
        done
    done
    rm -rf "$tmp"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM
status=0 tried=0 says='' needs='' more='' limit='timeout 300'

cat >"$tmp/victim.c" <<'END'
/* A sum over lists that two threads build again and again, in 24 MiB; five blocks are lost. Both go on until
 * there were VICTIM_SCANS verdicts, or many scans without, a minute at most. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "scan_drive.h"
struct node { struct node *next; unsigned long value, rest[4]; };
static char *ballast;
static const struct scan_drive *drive;
static unsigned wanted;
static time_t end;
static bool is_enough(void) {
    unsigned verdicts = 0, others = 0;
    if (drive == NULL || wanted == 0 || time(NULL) > end)
        return true;
    drive->counts(&verdicts, &others);
    return verdicts >= wanted || others >= 20;
}
static void *work(void *arg) {
    unsigned long sum = 0;
    for (int round = 0; round < 25 || !is_enough(); round++) {
        struct node *list = NULL;
        for (unsigned long i = 0; i < 3000; i++) {
            struct node *n = malloc(sizeof *n);
            n->next = list;
            n->value = i * (round + 1) + (unsigned long)arg;
            list = n;
        }
        while (list != NULL) {
            struct node *n = list;
            list = n->next;
            sum += round < 25 ? n->value : 0;
            free(n);
        }
        if (usleep(10000) != 0) /* EINTR */
            return NULL;
    }
    return (void *)sum;
}
int main(int argc, char **argv) {
    int one = argc > 1 && strcmp(argv[1], "one") == 0;
    pthread_t thread;
    void *sum[2];
    drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    wanted = getenv("VICTIM_SCANS") != NULL ? (unsigned)atoi(getenv("VICTIM_SCANS")) : 0;
    end = time(NULL) + 60;
    if (argc > 1 && strcmp(argv[1], "descriptors") == 0)
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, 3});
    if (argc > 1 && strcmp(argv[1], "undumpable") == 0)
        prctl(PR_SET_DUMPABLE, 0);
    if (argc > 1 && strcmp(argv[1], "vfork") == 0) {
        pid_t pid = vfork();
        if (pid == 0) {
            usleep(700000);
            _exit(3);
        }
        waitpid(pid, NULL, 0);
    }
    ballast = malloc(24 << 20);
    memset(ballast, 1, 24 << 20);
    for (int i = 0; i < 5; i++)
        ((void *volatile *)malloc(3000))[1] = NULL;
    for (int tries = 0; !one && pthread_create(&thread, NULL, work, (void *)1) != 0; tries++)
        if (tries == 60000)
            return 9;
        else
            usleep(1000); /* a copy counts while it is there */
    sum[0] = work((void *)2);
    sum[1] = one ? NULL : (pthread_join(thread, &sum[1]), sum[1]);
    printf("%lu %lu\n", (unsigned long)sum[0], (unsigned long)sum[1]);
    return 0;
}
END
cat >"$tmp/refuse.c" <<'END'
/* refuse CALL... -- PROGRAM ARG...: these system calls fail with EPERM in the program. fork: clone and
 * clone3 without CLONE_THREAD; pagemap_scan: that ioctl. */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
static struct sock_filter filter[100];
static unsigned short n;
static void add(const struct sock_filter *f, unsigned count) {
    memcpy(filter + n, f, count * sizeof *f);
    n += count;
}
static void refuse(unsigned number, unsigned error) {
    const struct sock_filter f[] = {LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), REFUSE(error)};
    add(f, 3);
}
static void refuse_without(unsigned number, unsigned bits) {
    const struct sock_filter f[] = {LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3), LOAD(args[0]),
                                    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0), REFUSE(1)};
    add(f, 5);
}
static void refuse_with(unsigned number, unsigned second) {
    const struct sock_filter f[] = {LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3), LOAD(args[1]),
                                    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 0, 1), REFUSE(25 /* ENOTTY */)};
    add(f, 5);
}
static void refuse_name(const char *name) {
    static const struct { const char *name; unsigned number; } calls[] = {
        {"clone", SYS_clone}, {"ptrace", SYS_ptrace}, {"userfaultfd", SYS_userfaultfd},
        {"process_vm_readv", SYS_process_vm_readv}, {"tgkill", SYS_tgkill}, {"mincore", SYS_mincore},
        {"rt_tgsigqueueinfo", SYS_rt_tgsigqueueinfo}, {"prctl", SYS_prctl}, {"membarrier", SYS_membarrier},
        {"close_range", 436}, {"wait4", SYS_wait4}, {"getdents64", SYS_getdents64}, {"madvise", SYS_madvise}};
    if (strcmp(name, "fork") == 0) {
        refuse(435, 38 /* clone3: ENOSYS, libc uses clone */);
        refuse_without(SYS_clone, CLONE_THREAD);
    } else if (strcmp(name, "clone3") == 0) {
        refuse(435, 38);
    } else if (strcmp(name, "pagemap_scan") == 0) {
        refuse_with(SYS_ioctl, 0xc0606610u);
    } else {
        for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
            if (strcmp(calls[i].name, name) == 0)
                refuse(calls[i].number, 1);
    }
}
int main(int argc, char **argv) {
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++)
        refuse_name(argv[i]);
    const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)(n + 1), filter};
    add(&allow, 1);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 125;
    (void)argc;
    execvp(argv[i + 1], argv + i + 1);
    return 126;
}
END
${CC:-cc} -O1 -w -pthread -I"$(dirname "$0")" -o "$tmp/victim" "$tmp/victim.c" && ${CC:-cc} -O1 -w -o "$tmp/refuse" "$tmp/refuse.c" ||
    exit 1
expected=$("$tmp/victim")
expected_one=$("$tmp/victim" one)

broken() {
    echo "scan_hostile.sh: $name: $*"
    status=1
}
skip() {
    echo "scan_hostile.sh: $1: skipped: $2"
}

# The victim with libbesom-scans.so, for other commands to start.
cat >"$tmp/start" <<END
#!/bin/sh
export BESOM_CONF="scan:leak,scan_interval:0,leak_age:0,sample:all,log_format:json,log:$tmp/log\$MORE"
export SCAN_PER_SECOND=20 SCAN_LEAST=0 LD_PRELOAD=$lib
exec $tmp/victim "\$@"
END
chmod +x "$tmp/start"

# place NAME VERDICTS COMMAND ARG...: the command starts the victim there. VERDICTS: "verdict/way" or
# "verdict", a pattern that each line of a scan matches; `none`: there may be no line at all.
place() {
    name=$1 verdicts=$2
    shift 2
    tried=$((tried + 1))
    rm -f "$tmp/log"*
    local code=0 want=$expected scans=2
    case $verdicts in none*) scans=0 ;; esac
    [ -z "$needs" ] || scans=8
    case " $* " in *' one '*) want=$expected_one ;; esac
    MORE=$more VICTIM_SCANS=$scans $limit "$@" >"$tmp/out" 2>"$tmp/err" || code=$?
    [ "$code" -eq 0 ] || broken "exit status $code"
    grep -v '^scan_drive: ' "$tmp/out" >"$tmp/result"
    [ "$(cat "$tmp/result")" = "$want" ] || broken "it printed $(head -c 300 "$tmp/result"), not $want"
    [ ! -s "$tmp/err" ] || grep -q -E -e "${says:-^$}" "$tmp/err" || broken "stderr: $(head -c 500 "$tmp/err")"
    says=''
    touch "$tmp/log"
    [ -z "$more" ] || cat "$tmp/log$more" >>"$tmp/log"
    [ -z "$needs" ] || grep -q -e "$needs" "$tmp/log" || broken "no $needs in the log"
    needs='' more=''
    sed -n 's/.*"event":"scan".*"verdict":"\([a-z_]*\)","way":"\([a-z]*\)".*/\1\/\2/p' "$tmp/log" >"$tmp/verdicts"
    # a busy machine is no matter of the place
    grep -v -E '^(inside|silent|late|blocked)/' "$tmp/verdicts" >"$tmp/place" || true
    if [ ! -s "$tmp/place" ]; then
        case $verdicts in none*) ;; *) broken "no scan in the log that says what is refused" ;; esac
    elif grep -q -v -E "^(${verdicts#none|})" "$tmp/place"; then
        broken "verdicts: $(sort "$tmp/verdicts" | uniq -c | tr '\n' ' '), not $verdicts"
    fi
    echo "scan_hostile.sh: $name: $(sort "$tmp/verdicts" | uniq -c | tr -s ' \n' ' ')"
}
place_without_overcommit() {
    [ -w "$overcommit" ] || { skip 'overcommit 2' 'the setting cannot be changed'; exit 77; }
    awk '/^CommitLimit:/ { left += $2 } /^Committed_AS:/ { left -= $2 } END { exit left > 2 * 1024 * 1024 ? 0 : 1 }' \
        /proc/meminfo || { skip 'overcommit 2' 'others have been promised what there is'; exit 77; }
    old_overcommit=$(cat "$overcommit")
    echo 2 >"$overcommit"
    limit='timeout --foreground 300' # who ends all of this at once ends the program, too, and the setting is put back
    # what a copy would need is charged: a quarter more than what is promised already must be enough here
    place 'overcommit 2' 'done|no_memory' "$tmp/start"
    echo "$old_overcommit" >"$overcommit"
    old_overcommit=
}
if [ "${1-}" = overcommit ]; then
    place_without_overcommit
    exit "$status"
fi

# From Linux 6.7 on one scan in three marks while the program runs.
[ "$(printf '%s\n' 6.7 "$(uname -r)" | sort -V | head -n 1)" != 6.7 ] || needs='"way":"concurrent"'
place 'nothing is refused' 'done' "$tmp/start"

if "$tmp/refuse" ptrace -- true; then
    place 'fork refused' 'done/(stopped|concurrent)' "$tmp/refuse" fork -- "$tmp/start"
    place 'no thread and no child' 'none|done/(stopped|concurrent)' "$tmp/refuse" clone clone3 -- "$tmp/start" one
    for call in clone3 ptrace tgkill mincore prctl membarrier close_range process_vm_readv madvise; do
        place "$call refused" 'done' "$tmp/refuse" $call -- "$tmp/start"
    done
    for call in userfaultfd pagemap_scan; do # nothing can be marked while the program runs
        place "$call refused" 'done/(stopped|copy)' "$tmp/refuse" $call -- "$tmp/start"
    done
    place 'pagemap_scan and mincore refused' 'done/(stopped|copy)' "$tmp/refuse" pagemap_scan mincore -- "$tmp/start"
    place 'rt_tgsigqueueinfo refused' 'unavailable|done' "$tmp/refuse" rt_tgsigqueueinfo -- "$tmp/start"
    place 'getdents64 refused' 'unavailable' "$tmp/refuse" getdents64 -- "$tmp/start"
    place 'wait4 refused' 'done/(stopped|concurrent)' "$tmp/refuse" wait4 -- "$tmp/start"
else
    skip seccomp 'no filter can be installed'
fi

if unshare -m true 2>/dev/null; then
    place 'no /proc' 'unavailable|no_roots' unshare -m sh -c "mount -t tmpfs none /proc && exec $tmp/start"
else
    skip 'no /proc' 'no namespace can be made'
fi

# group CONTROLLER VALUE FILE...: a cgroup with that limit, in one of these files, in $group; else nothing.
group() {
    local root controller=$1 value=$2 file
    shift 2
    group=
    for root in "/sys/fs/cgroup/$controller" /sys/fs/cgroup; do
        [ -w "$root/cgroup.procs" ] || continue
        mkdir "$root/besom-hostile-$$-$controller" 2>/dev/null || continue
        groups="$groups $root/besom-hostile-$$-$controller"
        for file; do
            file=$root/besom-hostile-$$-$controller/$file
            [ -w "$file" ] && echo "$value" >"$file" && group=$(dirname "$file") && return
        done
    done
}
group memory 60000000 memory.max memory.limit_in_bytes
if [ -n "$group" ]; then
    place 'cgroup of 60 MB' 'done|killed|died|no_memory' \
        sh -c "echo \$\$ >$group/cgroup.procs && exec $tmp/start"
else
    skip 'memory cgroup' 'none can be made'
fi
group pids 3 pids.max
if [ -n "$group" ]; then
    needs='"errno":11' # its two threads and the helper are enough
    place 'pids limit' 'done' sh -c "echo \$\$ >$group/cgroup.procs && exec $tmp/start"
else
    skip 'pids limit' 'no cgroup can be made'
fi
stranger="setpriv --reuid $((100000 + $$)) --clear-groups" # has no other process
if [ "$(id -u)" -eq 0 ] && $stranger test -r "$lib"; then
    chmod 777 "$tmp"
    needs='"errno":11' more=.user
    # shellcheck disable=SC2086  # words
    place 'RLIMIT_NPROC' 'done' prlimit --nproc=3 $stranger "$tmp/start"
else
    skip RLIMIT_NPROC 'not root, no setpriv, or a checkout that another user cannot read'
fi

# The debugger is there from the beginning, with what it does by itself about signals.
if command -v gdb >/dev/null && gdb -batch -nx -ex run /bin/true >"$tmp/out" 2>&1 && ! grep -q -i 'could not\|not permitted' "$tmp/out"; then
    cat >"$tmp/gdb" <<END
set environment BESOM_CONF scan:leak,scan_interval:0,leak_age:0,sample:all,log_format:json,log:$tmp/log
set environment SCAN_PER_SECOND 20
set environment SCAN_LEAST 0
set exec-wrapper env LD_PRELOAD=$lib
run >$tmp/theirs
END
    place 'under gdb' 'traced|done' sh -c "gdb -batch -nx -x $tmp/gdb $tmp/victim >$tmp/gdb.out 2>&1; cat $tmp/theirs"
    ! grep -q 'received signal' "$tmp/gdb.out" || broken "gdb: $(grep 'received signal' "$tmp/gdb.out" | head -3)"
else
    skip gdb 'it is not there, or may not trace'
fi

place 'not dumpable' 'done|unavailable|no_roots' "$tmp/start" undumpable
place 'in vfork' 'done' "$tmp/start" vfork
says='cannot be written .*lines of the log are lost'
place 'no descriptors' 'none|done|unavailable|no_roots' "$tmp/start" descriptors
place 'little address space' 'done|no_memory|no_copy|no_roots' sh -c "ulimit -v 300000; exec $tmp/start"
[ "$status" -ne 0 ] || echo "scan_hostile.sh: $tried places"
exit "$status"
