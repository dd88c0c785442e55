# SPDX-License-Identifier: MIT
"""What the runs say together: medians with intervals, ratios within rounds. Pure arithmetic.

The interval of a median is made of order statistics, so it supposes nothing about how the values
are spread: the k-th smallest and the k-th largest, k as large as a coverage of 95 % allows. Below
six runs there is no such k; then it is the smallest and the largest, and its coverage is said.
Ratios are taken between runs of the same round, and treated in the same way.
"""
import math
import statistics

# key, title, unit: how a report calls and scales it.
METRICS = [
    ("wall_s", "time", "s"),
    ("mean_kib", "mean", "MiB"),
    ("peak_kib", "peak", "MiB"),
    ("end_kib", "end", "MiB"),
    ("idle_kib", "idle", "MiB"),
    ("process_peak_kib", "largest process", "MiB"),
    ("cpu_s", "CPU", "s"),
    ("user_s", "user", "s"),
    ("system_s", "system", "s"),
    ("minor_faults", "minor faults", ""),
    ("major_faults", "major faults", ""),
    ("voluntary_switches", "voluntary switches", ""),
    ("involuntary_switches", "involuntary switches", ""),
]
KEYS = [key for key, _, _ in METRICS]
COVERAGE = 0.95


def coverage_of(n, k):
    """How often the median lies between the k-th smallest and the k-th largest of n values."""
    return 1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2**n


def interval(values):
    """(low, high, coverage)"""
    ordered = sorted(values)
    n = len(ordered)
    k = 1
    while 2 * (k + 1) <= n and coverage_of(n, k + 1) >= COVERAGE:
        k += 1
    return ordered[k - 1], ordered[n - k], max(coverage_of(n, k), 0.0)


def described(values):
    """None without values."""
    if not values:
        return None
    low, high, coverage = interval(values)
    return {"median": statistics.median(values), "low": low, "high": high, "min": min(values),
            "max": max(values), "n": len(values), "coverage": round(coverage, 4)}


def ratios(cell, base, key):
    """Of the rounds that both have, where the base's value is not 0."""
    return [cell[number][key] / base[number][key] for number in sorted(cell)
            if number in base and cell[number][key] is not None and base[number][key]]


def summarize(runs, names, base):
    """{allocator: {metric: described, with "ratio": described or None}}"""
    cells = {name: {} for name in names}
    for run in runs:
        cells[run["allocator"]][run["round"]] = run
    summary = {}
    for name in names:
        summary[name] = {}
        for key in KEYS:
            values = [run[key] for run in cells[name].values() if run[key] is not None]
            entry = described(values)
            if entry:
                entry["ratio"] = described(ratios(cells[name], cells[base], key))
                summary[name][key] = entry
    return summary


def typical_run(runs, name):
    """The run whose mean memory is the median (the lower one of two), to be drawn; None if none."""
    own = sorted((run for run in runs if run["allocator"] == name and run["mean_kib"] is not None),
                 key=lambda run: run["mean_kib"])
    return own[(len(own) - 1) // 2] if own else None
