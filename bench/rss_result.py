# SPDX-License-Identifier: MIT
"""What a workload of bench/rss gives back: tables, targets that were met or missed, and notes. And
the judgement of memory that several of them share."""
import statistics

MIB = 1024  # KiB


class Target:
    """One thing that was asked for. met is None where it could not be tried; then why says so."""

    def __init__(self, text, met, numbers):
        self.text, self.met, self.numbers = text, met, numbers

    def shown(self):
        word = {True: "met", False: "**MISSED**", None: "**not tried**"}[self.met]
        return f"{word}: {self.text} — {self.numbers}"

    def as_dict(self):
        return {"text": self.text, "met": self.met, "numbers": self.numbers}


class Result:
    """tables: lists of rows of words, the first row is the head."""

    def __init__(self, what):
        self.what, self.tables, self.targets, self.notes, self.programs = what, [], [], [], []

    def expect(self, text, met, numbers):
        self.targets.append(Target(text, met, numbers))

    def skip(self, text, why):
        self.targets.append(Target(text, None, why))

    def as_dict(self):
        return {"what": self.what, "tables": self.tables,
                "targets": [target.as_dict() for target in self.targets], "notes": self.notes,
                "programs": [program.as_dict() for program in self.programs]}


def mib(kib):
    return f"{kib / MIB:.1f}"


def median(values):
    return statistics.median(values)


def last_snapshot(program):
    return program.snapshots[max(program.snapshots)]


def memory_rows(programs):
    """The table of a workload that falls idle."""
    rows = [["MiB", "peak", "after idle", "fell", "pages of live blocks", "bound", "RSS / bound",
             "s to idle"]]
    for program in programs:
        rss, live = last_snapshot(program).rss, program.facts.get("live_pages_bytes")
        rows.append([program.label, mib(program.peak), mib(rss),
                     f"{100 - 100 * rss / program.peak:.0f} %",
                     mib(live / 1024) if live else "–",
                     mib(program.floor) if program.floor else "–",
                     f"{rss / program.floor:.3f}" if program.floor else "–",
                     f"{program.idle_at:.1f}"])
    return rows


def describe_log(program):
    """Where the memory is that besom still has, for who looks for a reason."""
    report = program.report
    parts = ("live", "rounding", "leaked", "cached", "span_free", "pinned", "heap_dirty", "metadata",
             "outside", "remainder")
    return (f"{program.label}'s log, MiB: "
            + ", ".join(f"{part} {report[part] / 1048576:.1f}" for part in parts)
            + f"; helper's CPU {report['background_cpu_ns'] / 1e6:.0f} ms, "
            f"{report['scavenge_calls']} calls")


def judge_bound(result, program, idle_seconds):
    """RSS against the floor of besom's log, and that floor against an independent count where the
    program has made one: all that is not the heap by smaps, and the pages of its live blocks."""
    if program is None:
        return
    if program.floor is None:
        result.skip("the bound", "besom wrote no log")
        return
    rss = last_snapshot(program).rss
    result.expect(f"RSS within 5 % of the bound after {idle_seconds} s idle",
                  rss <= 1.05 * program.floor,
                  f"{mib(rss)} MiB, bound {mib(program.floor)} MiB, {rss / program.floor:.3f}")
    if "live_pages_bytes" in program.facts:
        own = last_snapshot(program).other + program.facts["live_pages_bytes"] / 1024
        result.expect("the log's bound and an independent count agree within 2 %",
                      abs(own - program.floor) <= 0.02 * own,
                      f"{mib(program.floor)} and {mib(own)} MiB, {program.floor / own:.4f}")
    result.notes.append(describe_log(program))


def of(programs, name):
    """The program that ran under the allocator of that name, or None."""
    return next((p for p in programs if p.allocator["name"] == name), None)


def judge_against(result, programs, peer, factor):
    """besom's RSS at the end at most `factor` times the peer's."""
    besom, other = of(programs, "besom"), of(programs, peer)
    text = f"RSS at most {factor:g} x {peer}'s" if factor != 1 else f"RSS below {peer}'s"
    if besom is None or other is None:
        result.skip(text, f"needs besom and {peer}")
        return
    ours, theirs = last_snapshot(besom).rss, last_snapshot(other).rss
    result.expect(text, ours <= factor * theirs if factor != 1 else ours < theirs,
                  f"{mib(ours)} MiB, {peer} {mib(theirs)} MiB, {ours / theirs:.2f}")
