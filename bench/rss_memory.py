# SPDX-License-Identifier: MIT
"""Workloads of bench/rss whose question is how much memory is left: each is a function of a Bench
(bench/rss) that runs programs and gives back a Result."""
import sys

from harness import ROOT
from rss_process import Program, until_at_rest
from rss_result import (Result, describe_log, judge_against, judge_bound, last_snapshot,
                        memory_rows, mib, of)

HERE = ROOT + "/bench"
COUNTERS_FROM = "refills"  # in a report, all fields from here on are counters
IDLE = 10


def churn(bench):
    result = Result("300 000 blocks of 512 B, 1 KiB and 2 KiB in random order; 19 of 20 are freed, "
                    f"in random order; RSS after {IDLE} s without a call.")
    programs = bench.run([Program([bench.workload, "churn", str(IDLE + 1)], a, snapshots=[IDLE],
                                  again=until_at_rest(0), limit_seconds=300)
                          for a in bench.allocators], result)
    result.tables.append(memory_rows(programs))
    besom = of(programs, "besom")
    if besom:
        rss = last_snapshot(besom).rss
        result.expect("RSS falls by at least 78 % of its peak", rss <= 0.22 * besom.peak,
                      f"{mib(besom.peak)} to {mib(rss)} MiB, {100 - 100 * rss / besom.peak:.1f} %")
    judge_bound(result, besom, IDLE)
    return result


def sleepers(bench):
    idle, threads = 12, 200
    result = Result("200 threads allocate and free 5 MB each, blocks of 64 B to 4 KiB, and sleep; "
                    f"RSS {idle} s later, above the same program without an allocation.")
    pairs = []
    for name in ("sleepers", "sleepers-none"):
        pairs += [Program([bench.workload, name, str(idle + 1)], a, snapshots=[idle],
                          again=until_at_rest(threads), label=a["name"], limit_seconds=300)
                  for a in bench.allocators]
    bench.run(pairs, result)
    count = len(bench.allocators)
    rows = [["MiB", "peak", "after idle", "nothing allocated", "above that", "bound",
             "RSS / bound"]]
    for worked, bare in zip(pairs[:count], pairs[count:]):
        rss, base = last_snapshot(worked).rss, last_snapshot(bare).rss
        rows.append([worked.label, mib(worked.peak), mib(rss), mib(base), mib(rss - base),
                     mib(worked.floor) if worked.floor else "–",
                     f"{rss / worked.floor:.3f}" if worked.floor else "–"])
        if worked.allocator["name"] == "besom":
            result.expect("at most 15 MB above the same program that allocated nothing",
                          rss - base <= 15e6 / 1024, f"{mib(rss - base)} MiB")
            judge_bound(result, worked, idle)
    result.tables.append(rows)
    return result


def redis(bench):
    idle, keys = 12, 200_000 if bench.quick else 1_000_000
    result = Result(f"redis-server with {keys} keys, values of 16 B to 1 KiB; 80 % are deleted in "
                    f"random order; RSS {idle} s later. jemalloc is what Debian links it with, the "
                    "others are preloaded.")
    programs = []
    for a in bench.allocators:
        library = {"glibc": bench.libc, "jemalloc": ""}.get(a["name"], a["path"])
        programs.append(Program([sys.executable, f"{HERE}/redis.py", library, "{directory}",
                                 str(keys), str(idle + 1)], a, snapshots=[idle], preload=False))
    bench.run(programs, result)
    result.tables.append(memory_rows(programs))
    judge_against(result, programs, "jemalloc", 1)
    judge_bound(result, of(programs, "besom"), idle)
    return result


def scripts(bench, result, argv, env):
    """A churn of documents in an interpreter. It frees everything at its end, so the log is one of
    intervals."""
    programs = bench.run([Program([*argv, str(IDLE + 1)], a, snapshots=[IDLE], log="2s", env=env)
                          for a in bench.allocators], result)
    result.tables.append(memory_rows(programs))
    return programs


def python(bench):
    result = Result("CPython with PYTHONMALLOC=malloc: 5 rounds of 20 000 JSON documents parsed "
                    f"and indexed, 1 in 40 kept; RSS after {IDLE} s of sleep.")
    programs = scripts(bench, result, ["/usr/bin/python3", f"{HERE}/churn.py"],
                       {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"})
    judge_against(result, programs, "glibc", 0.5)
    judge_against(result, programs, "jemalloc", 0.6)
    judge_bound(result, of(programs, "besom"), IDLE)
    return result


def ruby(bench):
    result = Result("Ruby: 5 rounds of 15 000 JSON documents parsed, indexed and joined, 1 in 40 "
                    f"kept; RSS after {IDLE} s of sleep.")
    programs = scripts(bench, result, ["/usr/bin/ruby", f"{HERE}/churn.rb"], {})
    judge_against(result, programs, "glibc", 0.65)
    judge_against(result, programs, "jemalloc", 1)
    judge_bound(result, of(programs, "besom"), IDLE)
    return result


# --- the worst heap ---------------------------------------------------------------------------


def comb_row(program):
    facts, rss = program.facts, last_snapshot(program).rss
    pair = [f"{facts['before_' + what + '_ns']:.0f} / {facts['after_' + what + '_ns']:.0f}"
            for what in ("take_tooth", "free_tooth", "take_large", "free_large")]
    return [program.label, mib(program.peak), mib(rss), str(last_snapshot(program).maps), *pair]


def judge_comb(result, program, which):
    maps = last_snapshot(program).maps
    result.expect(f"{which}: fewer than 4000 mappings", maps < 4000, str(maps))
    slowest = max((value, name) for name, value in program.facts.items()
                  if name.endswith("_ns") and "p99" not in name)
    result.expect(f"{which}: operations under 2 us (median)", slowest[0] < 2000,
                  f"the slowest is {slowest[1]}, {slowest[0]:.0f} ns")
    cpu, share = program.report["background_cpu_ns"] / 1e9, 0.01
    allowed = program.seconds * share + 0.5
    result.expect(f"{which}: the helper keeps to 1 % of the time and half a second of credit",
                  cpu <= allowed, f"{cpu:.2f} s in {program.seconds:.0f} s, {allowed:.2f} allowed")
    result.notes.append(describe_log(program))


def comb(bench):
    gib = 2 if bench.quick else 10
    result = Result(f"Every other 8 KiB of {gib} GiB is live. Of blocks: the gaps are free slots "
                    "in spans; of pages: they are free pages of the page heap. Nanoseconds are "
                    "medians before / after the sleep.")
    if bench.available_gib() < 0.8 * gib + 1:
        result.skip("the worst heap", f"{bench.available_gib():.1f} GiB of memory are available,"
                    f" {0.8 * gib + 1:.0f} are needed")
        return result
    seconds = 10 if bench.quick else 25
    programs = [Program([bench.workload, f"comb-{kind}", str(gib), str(seconds)], a,
                        snapshots=[seconds - 1], label=f"{a['name']}, {kind}")
                for kind in ("blocks", "pages") for a in bench.allocators if a["name"] == "besom"]
    programs += [Program([bench.workload, "comb-pages", str(gib), "3"], a, snapshots=[2],
                         label=f"{a['name']}, pages")
                 for a in bench.allocators if a["name"] != "besom"]
    bench.run(programs, result, jobs=1)
    result.tables.append([["", "peak MiB", "after idle", "mappings", "take 8 KiB", "free 8 KiB",
                           "take 40–200 KiB", "free 40–200 KiB"], *map(comb_row, programs)])
    for program in programs:
        if program.allocator["name"] == "besom":
            judge_comb(result, program, program.argv[1])
    return result


# --- rest -------------------------------------------------------------------------------------


def rest(bench):
    seconds = 36 if bench.quick else 60
    half = seconds // 2
    result = Result(f"The churn, then {seconds} s of sleep: the helper has to be quiet in the last "
                    f"{half} s; where it has had too little of a CPU for that, in a later half of so many "
                    "seconds. A child that is forked before each exits, so that the log has the counters "
                    "of its beginning and of its end.")
    besom = of_allocators(bench, "besom")
    if not besom:
        result.skip("no wake-ups, no change", "needs besom")
        return result
    def quiet(program):
        first, second = (program.snapshots[at] for at in sorted(program.snapshots)[-2:])
        return first.switches == second.switches and abs(first.rss - second.rss) <= 0.01 * first.rss
    def again(program):
        at = max(program.snapshots)
        return () if quiet(program) or at > 10 * half else (at + 2, at + half)
    program = bench.run([Program([bench.workload, "rest", str(seconds)], besom, again=again,
                                 snapshots=[half + 1, 2 * half - 1], limit_seconds=400)], result)[0]
    first, second = (program.snapshots[at] for at in sorted(program.snapshots)[-2:])
    woken = sum(second.switches.values()) - sum(first.switches.values())
    gone = "the thread has gone" if not second.switches else f"{len(second.switches)} thread(s)"
    result.expect(f"no wake-up of the helper in the last {half} s", first.switches == second.switches,
                  f"{woken} voluntary switches, {gone}")
    changed = []
    if len(program.reports) >= 2:
        middle, end = program.reports[-2:]
        names = list(middle)[list(middle).index(COUNTERS_FROM):]
        changed = [f"{name} {middle[name]} → {end[name]}" for name in names
                   if middle[name] != end[name]]
    result.expect(f"all counters of the log stand still in the last {half} s",
                  len(program.reports) >= 2 and not changed,
                  ", ".join(changed) or f"{len(program.reports)} reports, equal")
    result.expect(f"RSS stands still in the last {half} s",
                  abs(first.rss - second.rss) <= 0.01 * first.rss,
                  f"{mib(first.rss)} and {mib(second.rss)} MiB")
    return result


def of_allocators(bench, name):
    return next((a for a in bench.allocators if a["name"] == name), None)
