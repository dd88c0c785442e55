/* SPDX-License-Identifier: MIT */
/*
 * Promise: python, perl, ruby and sqlite say under scan:collect what they say without, while scans follow
 * each other and what python loses through ctypes is closed, reclaimed, and touched again in time.
 * (collect_programs.conf makes minutes to milliseconds. But python has a pointer that it hides and comes back to:
 * how long it takes for that depends on the machine, so its grace time ends when it says so.)
 */
#include "promise.h"

#include <glob.h>
#include <pthread.h>
#include <sys/wait.h>

#define OUTPUT 65536

struct program {
    const char *name, *script; /* of sh */
};

/* Some seconds of work each, in which blocks come and go, with handlers of signals and threads. */
static const struct program programs[] = {
    {"python3", "COLLECT_GRACE_MS=1000000 python3 -c '\n"
                "import ctypes, hashlib, json, re, signal, threading, time\n"
                "libc = ctypes.CDLL(None)\n"
                "libc.malloc.restype = ctypes.c_void_p\n"
                "libc.malloc.argtypes = [ctypes.c_size_t]\n"
                "libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]\n"
                "set_grace = getattr(libc, \"collect_drive_set_grace\", lambda ms: None)\n"
                "def lose():\n"
                "    libc.memset(libc.malloc(300000), 7, 300000)\n"
                "p = libc.malloc(500000) or 0\n"
                "libc.memset(p, 9, 500000)\n"
                "p = ~p & (2 ** 64 - 1)\n"
                "def look(): return ctypes.string_at(~p & (2 ** 64 - 1), 500000) == b\"\\t\" * 500000\n"
                "ticks = [0]\n"
                "def tick(*a): ticks[0] += 1\n"
                "signal.signal(signal.SIGALRM, tick)\n"
                "signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)\n"
                "def work(n):\n"
                "    for i in range(n):\n"
                "        d = json.loads(json.dumps({str(k): [k] * 20 for k in range(300)}))\n"
                "        time.sleep(0.01)\n"
                "end, kept, h = time.time() + 8, {}, hashlib.sha256()\n"
                "for round in range(30):\n"
                "    lose()\n"
                "    t = [threading.Thread(target=work, args=(5,)) for _ in range(3)]\n"
                "    [x.start() for x in t]; [x.join() for x in t]\n"
                "    kept[round % 7] = re.sub(\"[aeiou]\", \"*\", \"conservative\" * 2000)\n"
                "    h.update(repr(sorted(kept.items())).encode())\n"
                "    assert look()\n"
                "while time.time() < end or ticks[0] <= 10: time.sleep(0.05); assert look()\n"
                "set_grace(200)\n" /* what was lost is given away now, while threads work on */
                "end = time.time() + 4\n"
                "while time.time() < end:\n"
                "    lose()\n"
                "    t = [threading.Thread(target=work, args=(5,)) for _ in range(3)]\n"
                "    [x.start() for x in t]; [x.join() for x in t]\n"
                "signal.setitimer(signal.ITIMER_REAL, 0)\n"
                "print(h.hexdigest(), ticks[0] > 10)'"},
    {"perl", "perl -e '\n"
             "my ($end, %h, @l) = (time + 7);\n"
             "for my $r (1 .. 40) {\n"
             "    my $ring = {}; $ring->{self} = $ring; $ring->{text} = \"x\" x 100000;\n"
             "    $h{$_} = [1 .. $_ % 50] for 1 .. 3000;\n"
             "    delete $h{$_ * 3} for 1 .. 1000;\n"
             "    select undef, undef, undef, 0.05;\n"
             "}\n"
             "sleep 1 while time < $end;\n"
             "print join(\",\", map { scalar @{$h{$_}} } sort keys %h), \"\\n\";'"},
    {"ruby", "ruby -e '\n"
             "t, h = Time.now + 7, {}\n"
             "40.times { |r| 2000.times { |i| h[\"k#{i}\"] = \"v\" * (i % 100) }; sleep 0.05 }\n"
             "sleep 0.1 while Time.now < t\n"
             "puts h.values.sum(&:size), h.keys.sort.join.hash == h.keys.sort.join.hash'"},
    {"sqlite3", "{ echo 'create table t(a integer primary key, b text);';\n"
                "for i in 1 2 3 4 5 6 7 8; do\n"
                "    echo 'begin; with recursive n(x) as (select 1 union all select x + 1 from n limit 4000)'\n"
                "    echo 'insert into t(b) select hex(x * 7919 + '$i') from n; commit;'\n"
                "    echo 'select count(*), max(b), sum(length(b)) from t;'\n"
                "    sleep 1\n"
                "done; echo 'select b, count(*) from t group by b order by 2 desc, 1 limit 5;'; } |\n"
                "sqlite3 :memory:"},
};
#define NPROGRAMS (sizeof programs / sizeof programs[0])

struct run {
    const struct program *program;
    bool plain;
    char output[OUTPUT];
};

static void *run(void *arg) {
    struct run *r = arg;
    char *command;
    size_t n;
    BS_CHECK(asprintf(&command, "%s%s", r->plain ? "unset LD_PRELOAD BESOM_CONF\n" : "",
                      r->program->script) > 0, "no memory");
    FILE *f = popen(command, "r");
    BS_CHECK(f != NULL, "popen");
    n = fread(r->output, 1, OUTPUT - 1, f);
    r->output[n] = '\0';
    int status = pclose(f);
    BS_CHECK(status == 0, "%s%s ended with %x: %s", r->program->name, r->plain ? ", plain," : "",
             (unsigned)status, r->output);
    free(command);
    return NULL;
}

static bool is_there(const char *name) {
    char command[64];
    snprintf(command, sizeof command, "command -v %s >/dev/null", name);
    return system(command) == 0;
}

/* Blocks of all programs in lines of the logs that have the word. */
static unsigned long count(const char *word) {
    char command[256];
    unsigned long n = 0;
    snprintf(command, sizeof command,
             "cat collect_programs.*.tmp | sed -n 's/.* collect: what %s .* blocks \\([0-9]*\\).*/\\1/p' | "
             "awk '{ n += $1 } END { print n + 0 }'", word);
    FILE *f = popen(command, "r");
    BS_CHECK(f != NULL && fscanf(f, "%lu", &n) == 1, "popen");
    pclose(f);
    return n;
}

/* By this program itself: each one that it starts writes a log. */
static void remove_logs(void) {
    glob_t logs;
    if (glob("collect_programs.*.tmp", 0, NULL, &logs) != 0)
        return;
    for (size_t i = 0; i < logs.gl_pathc; i++)
        unlink(logs.gl_pathv[i]);
    globfree(&logs);
}

int main(void) {
    static struct run runs[2 * NPROGRAMS];
    pthread_t thread[2 * NPROGRAMS];
    size_t n = 0;
    remove_logs();
    for (size_t i = 0; i < NPROGRAMS; i++)
        if (is_there(programs[i].name)) {
            runs[n++] = (struct run){.program = &programs[i], .plain = true};
            runs[n++] = (struct run){.program = &programs[i]};
        }
    for (size_t i = 0; i < n; i++)
        BS_CHECK(pthread_create(&thread[i], NULL, run, &runs[i]) == 0, "thread");
    for (size_t i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    for (size_t i = 0; i < n; i += 2)
        BS_CHECK(strcmp(runs[i].output, runs[i + 1].output) == 0, "%s says\n%s\nand with besom\n%s",
                 runs[i].program->name, runs[i].output, runs[i + 1].output);
    printf("programs: %zu, %lu closed, %lu reclaimed, %lu revived\n", n / 2, count("closed"),
           count("reclaimed"), count("revived"));
    fflush(stdout);
    bool none = is_there("python3") && count("closed") == 0;
    remove_logs();
    if (none)
        promise_skip("too slow: nothing was closed");
    _exit(0);
}
