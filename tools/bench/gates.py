# SPDX-License-Identifier: MIT
"""The limits that make the exit status 1: a size that no peak may exceed, and an earlier run that
medians may not exceed by more than a tolerance. Reads the baseline; measures nothing."""
import json

from stats import METRICS

FORMAT = "besom-bench-1"
TITLES = {key: (title, unit) for key, title, unit in METRICS}


class BaselineError(Exception):
    """A baseline that cannot be compared with; one line."""


def is_whole(data):
    """All that is read of it is there."""
    try:
        numbers = [entry[end] for cells in data["summary"].values() for entry in cells.values()
                   for end in ("median", "low", "high")]
        words = [*data["argv"], data["options"]["metric"]]
    except (KeyError, TypeError, AttributeError):
        return False
    return isinstance(data["argv"], list) and all(isinstance(word, str) for word in words) and \
        all(isinstance(number, (int, float)) for number in numbers)


def read_baseline(path, args):
    """The object of an earlier run; complains before anything is run."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise BaselineError(f"--baseline: cannot read '{path}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"--baseline: '{path}' is not JSON: {error}; give a file that "
                            "besom bench --json wrote") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BaselineError(f"--baseline: '{path}' is not of this kind; give a file that this "
                            "version's besom bench --json wrote")
    if not is_whole(data):
        raise BaselineError(f"--baseline: '{path}' is damaged; give a file as besom bench --json wrote it")
    if data["options"]["metric"] != args.metric:
        raise BaselineError(f"--baseline: '{path}' was measured with --metric "
                            f"{data['options']['metric']}; give the same one")
    names = [name.split("=")[0] for name in args.alloc]
    if not any(data["summary"].get(name) for name in names):
        raise BaselineError(f"--baseline: '{path}' has none of {', '.join(names)}; it has "
                            f"{', '.join(data['summary']) or 'no runs'}")
    for key in args.gate_named:     # a gate that cannot fail is none
        if not any(key in data["summary"].get(name, {}) for name in names):
            raise BaselineError(f"--baseline: '{path}' has no figure for --gate "
                                f"{TITLES[key][0].lower().replace(' ', '-')}; measure it there as well, or leave "
                                "it out")
    return data


def in_unit(key, value):
    unit = TITLES[key][1]
    return f"{value / 1024:.1f} MiB" if unit == "MiB" else f"{value:.3f} s" if unit == "s" \
        else f"{value:.0f}"


def peak_of(run):
    """What was seen of the tree, or what the kernel says of its largest process: a peak between two
    samples counts as well."""
    return max(run["peak_kib"] or 0, run["process_peak_kib"] or 0)


def max_rss_gates(limits, runs, names):
    for named, kib in limits:
        for name in [named] if named else names:
            peaks = [peak_of(run) for run in runs if run["allocator"] == name]
            if not peaks:
                yield {"gate": "max-rss", "allocator": name, "passed": False,
                       "text": f"{name}: no run to hold against {in_unit('peak_kib', kib)}"}
                continue
            worst = max(peaks)
            yield {"gate": "max-rss", "allocator": name, "passed": worst <= kib,
                   "text": f"{name}: highest peak of {len(peaks)} run{'s' if len(peaks) > 1 else ''} "
                   f"{in_unit('peak_kib', worst)}, allowed {in_unit('peak_kib', kib)}"}


def baseline_gates(baseline, summary, names, keys, tolerance):
    for name in names:
        old = baseline["summary"].get(name)
        if not old:
            yield {"gate": "baseline", "allocator": name, "passed": None,
                   "text": f"{name}: not in the baseline, so not compared"}
            continue
        for key in keys:
            title = TITLES[key][0]
            if key not in old:
                yield {"gate": "baseline", "allocator": name, "passed": None,
                       "text": f"{name}, {title}: not in the baseline, so not compared"}
                continue
            new = summary[name].get(key)
            before = old[key]["median"]
            allowed = before * (1 + tolerance / 100)
            if new is None:
                yield {"gate": "baseline", "allocator": name, "passed": False,
                       "text": f"{name}, {title}: no run to compare with the baseline"}
                continue
            change = f"{100 * (new['median'] / before - 1):+.1f} %" if before else "from 0"
            apart = new["low"] > old[key]["high"] or new["high"] < old[key]["low"]
            yield {"gate": "baseline", "allocator": name, "passed": new["median"] <= allowed,
                   "text": f"{name}, {title}: {in_unit(key, before)} → "
                   f"{in_unit(key, new['median'])}, {change} (allowed +{tolerance:g} %; intervals "
                   f"{'apart' if apart else 'overlap'})"}


def judge(args, baseline, runs, summary, names):
    """All gates: dicts with passed True, False, or None for what could not be compared."""
    gates = list(max_rss_gates(args.max_rss, runs, names))
    if baseline:
        gates += baseline_gates(baseline, summary, names, args.gate, args.tolerance)
    return gates
