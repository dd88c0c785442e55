# SPDX-License-Identifier: MIT
"""The report that people read: head, tables, memory over time as sparklines, verdict, gates; for a
terminal or as Markdown. Measures nothing and computes nothing that stats.py could."""
import shutil
import statistics

from head import code, grid
from stats import typical_run

BLOCKS = "▁▂▃▄▅▆▇█"
MEMORY = [("wall_s", "time, s"), ("mean_kib", "mean"), ("peak_kib", "peak"),
          ("end_kib", "at the end"), ("idle_kib", "after idle"),
          ("process_peak_kib", "largest process")]
REST = [("cpu_s", "CPU, s"), ("user_s", "user"), ("system_s", "system"),
        ("minor_faults", "minor faults"), ("major_faults", "major"),
        ("voluntary_switches", "switches"), ("involuntary_switches", "involuntary")]


# --- cells ------------------------------------------------------------------------------------


def decimals_for(value):
    return 3 if value < 1 else 2 if value < 10 else 1 if value < 1000 else 0


def shown(key, value, like=None):
    """A value in the unit of its column, with as many digits as its median gets."""
    size = 1024 if key.endswith("_kib") else 1
    if not key.endswith(("_kib", "_s")):
        return f"{value:.0f}"
    return f"{value / size:.{decimals_for((value if like is None else like) / size)}f}"


def cell(entry, key, base):
    if entry is None:
        return "–"
    text = shown(key, entry["median"])
    if entry["n"] > 1:
        low, high = (shown(key, entry[end], entry["median"]) for end in ("low", "high"))
        text += f" ({low}–{high})"
    if not base and entry["ratio"]:
        text += f" ×{entry['ratio']['median']:.2f}"
    return text


def column(key, title, summary, names, base):
    """The words of a column, from top to bottom."""
    return [title, *(cell(summary[name].get(key), key, name == base) if summary[name] else "failed"
                     for name in names)]


def tables(columns, summary, names, base, markdown, width):
    """Lines; in as many tables, one below the other, as the width asks for."""
    first = ["", *names]
    groups = [[first]]
    for key, title in columns:
        if not any(key in summary[name] for name in names):
            continue
        words = column(key, title, summary, names, base)
        taken = sum(max(map(len, other)) + 2 for other in groups[-1])
        if taken + max(map(len, words)) > width and len(groups[-1]) > 1 and not markdown:
            groups.append([first])
        groups[-1].append(words)
    return [line for group in groups if len(group) > 1
            for line in ["", *grid(list(zip(*group)), markdown)]]


# --- memory over time -------------------------------------------------------------------------


def at_time(samples, at):
    """On the straight line between the two samples around it."""
    before = samples[0]
    for sample in samples:
        if sample[0] >= at:
            span = sample[0] - before[0]
            share = (at - before[0]) / span if span > 0 else 0
            return before[1] + share * (sample[1] - before[1])
        before = sample
    return before[1]


def sparkline(samples, seconds, end, highest, width):
    """Time to the right up to `end`, memory upwards from 0 to `highest`; blank after the last."""
    line = ""
    for place in range(width):
        begin, until = place * end / width, (place + 1) * end / width
        if begin >= seconds:
            break
        inside = [kib for at, kib in samples if begin <= at < until]
        value = statistics.fmean(inside) if inside else at_time(samples, (begin + until) / 2)
        line += BLOCKS[min(int(value / highest * len(BLOCKS)), len(BLOCKS) - 1)]
    return line


def over_time(runs, names, width):
    typical = {name: typical_run(runs, name) for name in names}
    typical = {name: run for name, run in typical.items() if run}
    if not typical:
        return []
    end = max(run["whole_s"] for run in typical.values())
    highest = max(kib for run in typical.values() for _, kib in run["samples"])
    label = max(len(name) for name in names)
    lines = [f"Memory over time, 0 to {highest / 1024:.1f} MiB and 0 to {end:.3g} s, of the run "
             "with the median mean:", ""]
    for name, run in typical.items():
        lines.append(f"{name.ljust(label)}  "
                     + sparkline(run["samples"], run["whole_s"], end, highest, width))
    return lines


# --- words ------------------------------------------------------------------------------------


def verdict(summary, names, base):
    """One sentence each for memory and time: who is ahead, and where the base is."""
    lines = []
    for key, what in (("mean_kib", "Least memory over time"), ("peak_kib", "Lowest peak"),
                      ("wall_s", "Fastest")):
        ranked = sorted((summary[name][key]["ratio"]["median"], name) for name in names
                        if summary[name].get(key, {}).get("ratio"))
        if len(ranked) < 2:
            continue
        best = ranked[0][1]
        other = ranked[1][1] if best == base else best
        who = f"{best}; the next, {other}, has" if best == base else f"{best} has"
        ratio = summary[other][key]["ratio"]
        sure = ", which may be chance" if ratio["low"] <= 1 <= ratio["high"] else ""
        spread = f" ({ratio['low']:.3f}–{ratio['high']:.3f})" if ratio["n"] > 1 else ""
        sure = ", in a single round" if ratio["n"] == 1 else sure
        lines.append(f"{what}: {who} {ratio['median']:.3f}{spread} times {base}'s{sure}.")
    return lines


def coverage_text(summary, rounds, base):
    coverages = [entry["wall_s"]["coverage"] for entry in summary.values() if "wall_s" in entry]
    if not coverages or rounds < 2:
        return f"one round: no intervals; ×: ratio to {base}"
    return (f"medians of {rounds} rounds (interval by order statistics, covers "
            f"{100 * min(coverages):.0f} %), ×: median of ratios within rounds to {base}")


def sampling_text(runs, metric):
    if not runs:
        return ""
    gaps = [run["whole_s"] / run["nsamples"] for run in runs if run["nsamples"]]
    cost = sum(run["sampler_cpu_s"] for run in runs) / sum(run["whole_s"] for run in runs)
    what = "PSS" if metric == "pss" else "RSS"
    text = f"memory is {what} of the whole process tree, in MiB"
    if gaps:
        text += (f", sampled every {1000 * statistics.median(gaps):.0f} ms, for "
                 f"{100 * cost:.1f} % of a CPU")
    return text


def report(data, runs, markdown, width=None):
    """Lines. data: what --json writes, runs: with their samples; width: of the terminal."""
    head, summary, base = data["head"], data["summary"], data["options"]["base"]
    names = list(summary)
    bullet = "- " if markdown else ""
    command = code(head["command"]) if markdown else f"`{head['command']}`"
    lines = [f"{bullet}{head['date']}: {command}", bullet + head["machine"],
             bullet + "; ".join(head["allocators"])]
    if "settings" in head:
        lines.append(bullet + "settings in the environment: " + " ".join(head["settings"]))
    lines += [bullet + text for text in (coverage_text(summary, data["rounds_done"], base),
                                         sampling_text(runs, data["options"]["metric"])) if text]
    width = width or shutil.get_terminal_size((160, 24)).columns
    for columns in (MEMORY, REST):
        lines += tables(columns, summary, names, base, markdown, width)
    curves = over_time(runs, names,
                       max(min(width, 120) - max(len(name) for name in names) - 2, 20))
    if curves:
        lines += ["", *curves[:2], *(["```"] if markdown else []), *curves[2:],
                  *(["```"] if markdown else [])]
    words = verdict(summary, names, base) + [f"Note: {note}." for note in data["notes"]] + [
        f"Failed: round {f['round']}, {f['allocator']}: {code(f['reason']) if markdown else f['reason']}"
        for f in data["failures"]]
    if data["interrupted"]:
        words.append("Interrupted: these are the runs until then.")
    marks = {True: "met", False: "FAILED", None: "not compared"}
    words += [f"Gate {gate['gate']} {marks[gate['passed']]}: {gate['text']}"
              for gate in data["gates"]]
    return lines + ([""] if words else []) + [bullet + word for word in words]
