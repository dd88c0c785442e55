# SPDX-License-Identifier: MIT
"""Plots of bench/run by gnuplot: for each benchmark the ratios of time and of memory to one
allocator, and time against memory, a point an allocator, of the geometric means. Data and scripts stay
beside the pictures. It measures nothing."""
import os

from plot import colour, draw_one, gnuplot, header, quoted, write_pair

FIGURES = (("time", "ns_per_op", "time to"), ("peak", "peak_kib", "peak RSS to"),
           ("mean", "mean_kib", "mean RSS over time to"))


def ratios(kind, name, field, label, table, names, base):
    """(data, script): a cluster of bars a benchmark; the height is logarithmic"""
    data, plots = "", []
    others = [who for who in names if who != base]
    for place, who in enumerate(others):
        rows = [(b, row[who][field].get("ratio")) for b, row in table.items() if who in row]
        data += f'"{who}"\n' + "".join(f'"{b}" {ratio:.4f}\n' for b, ratio in rows if ratio)
        data += "\n\n"
        tics = "xtic(1)" if place == 0 else "0"
        columns = f"2:{tics}" if place == 0 else "2"
        plots.append(f"'{name}.dat' index {place} using {columns} {colour(place)} "
                     f"title {quoted(who)}")
    script = (header(kind, name, f"{label} {base}, above 1: more than {base}")
              + "set style data histograms\nset style histogram clustered gap 2\n"
              "set style fill solid 0.8\nset logscale y 2\nset boxwidth 1\n"
              "set xtics rotate by -60 font ',9' nomirror\nset grid ytics\nset key outside top horizontal\n"
              f"set xrange [-0.8:{len(table) - 0.2}]\n"
              f"plot {', '.join(plots)}, 1 lc rgb 'black' notitle\n")
    return data, script if plots else ""


def scatter(kind, means, base):
    names = [who for who, mean in means.items() if mean["ns_per_op"] and mean["mean_kib"]]
    data = "# name time memory\n" + "".join(
        f'"{who}" {means[who]["ns_per_op"]:.4f} {means[who]["mean_kib"]:.4f}\n' for who in names)
    plots = [f"'scatter.dat' every ::{i}::{i} using 2:3 with points pt 7 ps 1.5 {colour(i)} "
             f"title {quoted(who)}" for i, who in enumerate(names)]
    script = (header(kind, "scatter", f"geometric means to {base}; left and low is better")
              + "set xlabel 'time'\nset ylabel 'mean RSS over time'\nset grid\nset key outside\n"
              f"set offsets graph 0.1, graph 0.1, graph 0.1, graph 0.1\nplot {', '.join(plots)}\n")
    return data, script if plots else ""


def draw(folder, kind, table, means, base):
    """What could not be drawn, in lines."""
    pairs = {name: ratios(kind, name, field, label, table, list(means), base)
             for name, field, label in FIGURES}
    pairs["scatter"] = scatter(kind, means, base)
    os.makedirs(folder, exist_ok=True)
    complaints = []
    for name, pair in pairs.items():
        if pair[1]:
            write_pair(folder, name, pair)
            if gnuplot():
                complaints.append(draw_one(folder, name))
    if not gnuplot():
        return [f"no picture, as gnuplot is not installed; later: cd {folder} && gnuplot *.gp"]
    return [f"--plot: {complaint}" for complaint in complaints if complaint]
