# SPDX-License-Identifier: MIT
"""Plots by gnuplot: bars of time and memory, memory over time of all allocators on one axis, time
against memory of every run. Data and scripts stay beside the pictures, so that they can be changed
and drawn elsewhere; without gnuplot they are all there is."""
import os
import shlex
import shutil
import subprocess

from child import how_it_ended
from stats import typical_run
from streams import say

COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb"]
TERMINALS = {"svg": "svg size 900,500 dynamic background rgb 'white' font 'sans,13'",
             "png": "pngcairo size 1200,700 font 'sans,12'"}
BARS = """set style fill solid 0.8
set boxwidth 0.7
set xtics nomirror
set yrange [0:*]
set grid ytics
"""


def gnuplot():
    return shutil.which("gnuplot")


def quoted(text):
    """A string of gnuplot's without its special signs."""
    return "'" + text.replace("'", "''") + "'"


def header(kind, file, title):
    return (f"reset\nset terminal {TERMINALS[kind]} noenhanced\nset encoding utf8\n"
            f"set output '{file}.{kind}'\nset title {quoted(title)} noenhanced\n")


def colour(place):
    return f"lc rgb '{COLOURS[place % len(COLOURS)]}'"


def bars(kind, name, title, label, key, summary):
    """(data, script) with the interval of the median as an error bar"""
    size = 1024 if key.endswith("_kib") else 1
    rows = [(place, who, *(entry[key][at] / size for at in ("median", "low", "high")))
            for place, (who, entry) in enumerate(summary.items()) if key in entry]
    data = "# place name median low high\n" + "".join(
        f'{place} "{who}" {median:.6g} {low:.6g} {high:.6g}\n'
        for place, who, median, low, high in rows)
    tics = ", ".join(f"{quoted(row[1].replace('%', '%%'))} {row[0]}" for row in rows)   # a label is a format
    plots = ", ".join(f"'{name}.dat' every ::{i}::{i} using 1:3 with boxes {colour(row[0])} notitle"
                      for i, row in enumerate(rows))
    script = (header(kind, name, title) + BARS + f"set ylabel '{label}'\nset xtics ({tics})\n"
              f"set xrange [-0.6:{len(summary) - 0.4}]\n"
              f"plot {plots}, '{name}.dat' using 1:3:4:5 with yerrorbars lc rgb 'black' notitle\n")
    return data, script if rows else ""


def over_time(kind, title, metric, runs, names):
    """Blocks of samples, one an allocator, in the order of the names"""
    data, plots = "", []
    for place, who in enumerate(names):
        run = typical_run(runs, who)
        if run is None or not run["samples"]:
            continue
        points = run["samples"] + [[run["whole_s"], run["samples"][-1][1]]]
        lines = "".join(f"{at:.4f} {kib / 1024:.4f}\n" for at, kib in points)
        data += f'"{who}"\n{lines}\n\n'
        plots.append(f"'memory.dat' index {len(plots)} using 1:2 with lines lw 2 {colour(place)} "
                     f"title {quoted(who)}")
    script = (header(kind, "memory", title) + "set xlabel 's'\n"
              f"set ylabel '{metric.upper()} of the process tree, MiB'\n"
              "set yrange [0:*]\nset xrange [0:*]\nset grid\nset key outside\n"
              f"plot {', '.join(plots)}\n")
    return data, script if plots else ""


def scatter(kind, title, metric, runs, names):
    data, plots = "", []
    for place, who in enumerate(names):
        own = [run for run in runs if run["allocator"] == who and run["mean_kib"] is not None]
        if not own:
            continue
        data += f'"{who}"\n' + "".join(f"{run['wall_s']:.6f} {run['mean_kib'] / 1024:.4f}\n"
                                       for run in own) + "\n\n"
        plots.append(f"'scatter.dat' index {len(plots)} using 1:2 with points pt 7 ps 0.9 "
                     f"{colour(place)} title {quoted(who)}")
    script = (header(kind, "scatter", title) + "set xlabel 'time, s'\nset ylabel 'mean "
              f"{metric.upper()} over time, MiB'\nset yrange [0:*]\nset xrange [0:*]\nset grid\n"
              f"set key outside\nplot {', '.join(plots)}\n")
    return data, script if plots else ""


def write_pair(folder, name, pair):
    for ending, text in zip(("dat", "gp"), pair):
        with open(os.path.join(folder, f"{name}.{ending}"), "w", encoding="utf-8", errors="replace") as file:
            file.write(text)


def draw_one(folder, name):
    """'' or what gnuplot says."""
    done = subprocess.run([gnuplot(), f"{name}.gp"], cwd=folder, capture_output=True, text=True,
                          check=False, timeout=60)
    said = done.stderr.strip().split("\n")[-1] or f"{name}.gp {how_it_ended(done.returncode)}"
    return f"gnuplot: {said}" if done.returncode else ""


def draw(folder, kind, data, runs):
    """False when a plot that could have been drawn was not."""
    title = " ".join(" ".join(data["argv"]).split())   # a line break would end the script's line
    title = title if len(title) <= 70 else title[:69] + "…"
    metric, summary = data["options"]["metric"], data["summary"]
    names = list(summary)
    pairs = {
        "time": bars(kind, "time", title, "time, s", "wall_s", summary),
        "mean": bars(kind, "mean", title, f"mean {metric.upper()} over time, MiB", "mean_kib",
                     summary),
        "memory": over_time(kind, title, metric, runs, names),
        "scatter": scatter(kind, title, metric, runs, names),
    }
    complaints = []
    try:
        for name, pair in pairs.items():
            if pair[0] and pair[1] and runs:
                write_pair(folder, name, pair)
                if gnuplot():
                    complaints.append(draw_one(folder, name))
    except (OSError, subprocess.TimeoutExpired) as error:
        complaints.append(f"{error.filename or folder}: {error.strerror}" if isinstance(error, OSError)
                          else str(error))
    for complaint in filter(None, complaints):
        say(f"--plot: {complaint}")
    if not gnuplot():
        say(f"no picture, as gnuplot is not installed; later: cd {shlex.quote(folder)} && gnuplot *.gp")
    return not any(complaints)
