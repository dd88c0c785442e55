# SPDX-License-Identifier: MIT
"""Workloads of bench/rss whose question is what giving memory back costs, and what the kernel's
settings make of it: each is a function of a Bench (bench/rss) that gives back a Result."""
from rss_kernel import THP, Cgroup, Unavailable, settings
from rss_process import Program
from rss_result import MIB, Result, last_snapshot, median, mib, of

STEPS = 400  # of a cycle of the sawtooth
THP_OPTIONS = ("auto", "edge", "system", "never")
LIMIT = 300  # MiB


# --- sawtooth ---------------------------------------------------------------------------------


def sawtooth_one(bench, result, words, period, cycles, pairs):
    """The pairs interleaved, besom with and without scavenging; then the peers once."""
    besom = next((a for a in bench.allocators if a["name"] == "besom"), None)

    def program(a, label, conf="", n=cycles):
        step_words = str(int(words * period * 1000 / STEPS))
        return Program([bench.workload, "sawtooth", step_words, str(n)], a, label=label, conf=conf,
                       sample=False, limit_seconds=60 + 4 * period * n)

    def row(label, programs):
        seconds = median([p.facts["seconds"] / int(p.argv[3]) for p in programs])
        faults = median([p.facts["faults"] / int(p.argv[3]) for p in programs])
        return [label, f"{seconds:.3f}", f"{faults:.0f}"]

    rows = [[f"{period} s", "s a cycle", "minor faults a cycle"]]
    if besom:
        both = []
        for n in range(pairs):
            pair = [program(besom, "besom"), program(besom, "besom, scavenge:off", "scavenge:off")]
            both.append(pair)
            bench.run(pair[::-1] if n % 2 else pair, result, jobs=1)
        ratios = [on.facts["seconds"] / off.facts["seconds"] for on, off in both]
        rows += [row("besom", [pair[0] for pair in both]),
                 row("besom, scavenge:off", [pair[1] for pair in both])]
        result.expect(f"period {period} s: within 3 % of the time of scavenge:off",
                      median(ratios) <= 1.03,
                      f"median of {pairs} ratios of neighbouring runs {median(ratios):.4f} "
                      f"({min(ratios):.3f} to {max(ratios):.3f})")
    for a in bench.allocators:
        if a["name"] != "besom":
            peer = program(a, a["name"], n=cycles if period < 10 else 1)
            rows.append(row(a["name"], bench.run([peer], result, jobs=1)))
    result.tables.append(rows)


def sawtooth(bench):
    result = Result("Memory rises to 200 MB of 1 KiB blocks and falls to none in 400 steps a "
                    "cycle, with fixed work between. Wall time; the work is the same under every "
                    "allocator, and only its share of allocation differs.")
    first = bench.allocators[0]
    ruler = bench.run([Program([bench.workload, "calibrate"], first, sample=False)], result)[0]
    words = ruler.facts["words_per_ms"]
    sawtooth_one(bench, result, words, 1, 4 if bench.quick else 12, 2 if bench.quick else 5)
    if not bench.quick:
        sawtooth_one(bench, result, words, 30, 2, 2)
    return result


# --- transparent huge pages -------------------------------------------------------------------


def thp_setting(bench, result, besom, system, rounds):
    """One setting of the system: the rows of its table, and the targets."""
    def random_access(option, seconds):
        return Program([bench.workload, "random", str(seconds)], besom, conf=f"thp:{option}",
                       snapshots=[seconds - 1] if seconds else [], label=f"{system}, thp:{option}",
                       sample=False)

    timed = {option: [] for option in THP_OPTIONS}
    for n in range(rounds):
        order = [*THP_OPTIONS[n % 4:], *THP_OPTIONS[:n % 4]]
        runs = bench.run([random_access(o, 0 if n else 5) for o in order], result, jobs=1)
        for option, program in zip(order, runs):
            timed[option].append(program)
    churns = dict(zip(THP_OPTIONS, bench.run(
        [Program([bench.workload, "churn", "7"], besom, conf=f"thp:{option}", snapshots=[6],
                 label=f"{system}, thp:{option}") for option in THP_OPTIONS], result)))
    rows = []
    for option in THP_OPTIONS:
        one, two = (last_snapshot(p) for p in (timed[option][0], churns[option]))
        seconds = median([p.facts["seconds"] for p in timed[option]])
        rows.append([system, option, f"{seconds:.2f}", mib(one.rss), mib(one.huge), str(one.maps),
                     mib(two.rss), mib(two.huge), str(two.maps)])
    for what, programs in (("random", {o: timed[o][0] for o in THP_OPTIONS}), ("churn", churns)):
        rss = {option: last_snapshot(p).rss for option, p in programs.items()}
        others = max(kib for option, kib in rss.items() if option != "auto")
        result.expect(f"system {system}, {what}: thp:auto is not the worst in RSS",
                      rss["auto"] <= 1.01 * others,
                      f"{mib(rss['auto'])} MiB, worst of the others {mib(others)} MiB")
    # The fastest of the rounds: what else the machine does only ever adds, and the largest of three
    # medians of ratios would be above 1 for four names of the same thing.
    fastest = {o: min(p.facts["seconds"] for p in timed[o]) for o in THP_OPTIONS}
    best = min((seconds, option) for option, seconds in fastest.items() if option != "auto")
    result.expect(f"system {system}, random: thp:auto within 2 % of the best time",
                  fastest["auto"] <= 1.02 * best[0],
                  f"{fastest['auto'] / best[0]:.3f} of the time of thp:{best[1]}, fastest of "
                  f"{rounds} rounds each")
    return rows


def thp_hold(bench, result, besom):
    """Under a khugepaged in a hurry a heap that gave pages back must not grow again."""
    hold = 20 if bench.quick else 60
    hurry = {f"{THP}/enabled": "always", f"{THP}/khugepaged/max_ptes_none": 511,
             f"{THP}/khugepaged/scan_sleep_millisecs": 50,
             f"{THP}/khugepaged/alloc_sleep_millisecs": 50,
             f"{THP}/khugepaged/pages_to_scan": 262144}
    with settings(hurry):
        programs = bench.run(
            [Program([bench.workload, "churn", str(11 + hold)], besom, conf=f"thp:{option}",
                     snapshots=[10, 10 + hold], label=f"thp:{option}") for option in THP_OPTIONS],
            result, jobs=4)
    rows = [["khugepaged in a hurry", "RSS after 10 s", f"after {10 + hold} s", "in huge pages"]]
    for option, program in zip(THP_OPTIONS, programs):
        before, after = program.snapshots[10], program.snapshots[10 + hold]
        rows.append([f"thp:{option}", mib(before.rss), mib(after.rss), mib(after.huge)])
        if option in ("auto", "edge"):
            result.expect(f"thp:{option}: what was given back does not grow back in {hold} s",
                          after.rss <= 1.02 * before.rss + 256,
                          f"{mib(before.rss)} to {mib(after.rss)} MiB")
    result.tables.append(rows)


def thp(bench):
    result = Result("The system's setting of huge pages by besom's: 1.2 million blocks visited 20 "
                    "million times at random, RSS after 4 s; the churn, RSS after 6 s.")
    besom = bench.option_or_skip(result, "thp:auto", "huge pages")
    if not besom:
        return result
    rows = [["system", "thp:", "random, s", "RSS MiB", "huge MiB", "mappings", "churn, RSS MiB",
             "huge MiB", "mappings"]]
    try:
        for system in ("always", "madvise", "never"):
            with settings({f"{THP}/enabled": system}):
                rows += thp_setting(bench, result, besom, system, 1 if bench.quick else 8)
        result.tables.append(rows)
        thp_hold(bench, result, besom)
    except Unavailable as why:
        result.skip("huge pages", str(why))
    return result


# --- limits -----------------------------------------------------------------------------------


def limit(bench):
    result = Result("4096 buffers of 160 to 240 KiB are filled and shrunk to a quarter: 200 MB "
                    "live between 600 MB of free pieces that no later buffer fits into.")
    besom = bench.option_or_skip(result, f"limit:{LIMIT}M", "a limit of its own")
    rows = [["", "peak MiB", "after 3 s", "pages of live blocks"]]
    if besom:
        keep = "overhead:1000%,scavenge_delay:1h" # however long it takes to fill them
        programs = bench.run([Program([bench.workload, "shrinkers", "4"], besom, conf=conf,
                                      snapshots=[3], label=f"besom, {conf}", sample=False)
                              for conf in (keep, f"{keep},limit:{LIMIT}M")],
                             result, jobs=1)
        for program in programs:
            rows.append([program.label, mib(program.facts["peak_kib"]),
                         mib(last_snapshot(program).rss),
                         mib(program.facts["live_pages_bytes"] / 1024)])
        free, held = (program.facts["peak_kib"] for program in programs)
        result.expect("without the limit 600 MB of free memory stay", free >= 780 * MIB,
                      f"peak {mib(free)} MiB")
        result.expect(f"limit:{LIMIT}M: RSS stays under it", held <= LIMIT * MIB,
                      f"peak {mib(held)} MiB")
        result.tables.append(rows)
    in_cgroup(bench, result)
    return result


def in_cgroup(bench, result):
    rows = [[f"cgroup of {LIMIT} MiB", "end", "peak MiB"]]
    survived = {}
    try:
        for a in bench.allocators:
            with Cgroup(LIMIT * MIB * 1024) as group:
                program = Program([bench.workload, "shrinkers", "2"], a, cgroup=group)
                bench.run([program], result, jobs=1, may_fail=True)
                killed, version = group.kills(), group.version
            survived[a["name"]] = program.code == 0
            end = "runs to its end" if program.code == 0 else \
                f"killed by the kernel (v{version})" if killed else f"ended with {program.code}"
            peak = program.facts.get("peak_kib")  # a killed one was between two samples
            rows.append([a["name"], end, mib(peak) if peak else "–"])
    except Unavailable as why:
        result.skip(f"a cgroup of {LIMIT} MiB", str(why))
        return
    result.tables.append(rows)
    if "besom" in survived and "glibc" in survived:
        result.expect("in the cgroup besom is not killed, where glibc is",
                      survived["besom"] and not survived["glibc"],
                      ", ".join(f"{name} {'survives' if ok else 'is killed'}"
                                for name, ok in survived.items()))
