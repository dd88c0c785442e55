# SPDX-License-Identifier: MIT
"""Plots of bench/scale: one SVG a table, both axes logarithmic, by gnuplot where there is one. It
measures nothing."""
import os
import shutil
import subprocess

from harness import say


def script_of(name, title, cells, path):
    """What gnuplot is told; the data are in it."""
    names = []
    for cell in cells.values():
        names += [column for column in cell if column not in names]
    lines = [f"set terminal svg size 800,500 noenhanced\nset output '{path}'",
             f"set title '{name}: {title}'", "set logscale xy", "set grid", "set key outside",
             "set ylabel 'CPU ns an operation'", "set format x '%.0s%c'"]
    for column in names:
        lines.append(f"${column.replace('-', '_')} << END")
        lines += [f"{n} {cell[column]}" for n, cell in cells.items() if column in cell]
        lines.append("END")
    styles = ", ".join(f"${column.replace('-', '_')} with linespoints title '{column}'"
                       + (" dashtype 2" if column == "program" else "") for column in names)
    return "\n".join([*lines, f"plot {styles}", ""])


def plot_all(folder, table, titles):
    """Says why and goes on where there is no gnuplot: the tables are there all the same."""
    gnuplot = shutil.which("gnuplot")
    if gnuplot is None:
        say("no plots: there is no gnuplot (Debian: gnuplot-nox); --csv has the numbers")
        return
    os.makedirs(folder, exist_ok=True)
    for name, cells in table.items():
        path = os.path.join(folder, f"scale-{name}.svg")
        done = subprocess.run([gnuplot], input=script_of(name, titles[name], cells, path), text=True,
                              capture_output=True, check=False)
        if done.returncode:
            say(f"gnuplot failed for {name}: {done.stderr.strip()[:300]}")
