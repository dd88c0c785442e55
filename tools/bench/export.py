# SPDX-License-Identifier: MIT
"""The files: every run as a line of CSV, everything as JSON, the report as Markdown. A file is
written beside its place and renamed, so that a full disk does not cost an earlier result; where the folder
takes no new file, in its place."""
import csv
import io
import json
import os
import shutil
import sys

from report import report
from streams import put, say

COLUMNS = ["round", "allocator", "status", "wall_s", "whole_s", "cpu_s", "user_s", "system_s",
           "mean_kib", "peak_kib", "end_kib", "idle_kib", "process_peak_kib", "minor_faults",
           "major_faults", "voluntary_switches", "involuntary_switches", "processes", "nsamples",
           "sampler_cpu_s"]


def as_csv(runs):
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: round(value, 6) if isinstance(value, float) else value
                      for key, value in run.items()} for run in runs)
    return text.getvalue()


def as_json(data, runs):
    return json.dumps({**data, "runs": runs}, indent=1) + "\n"


def fill(path, text):
    """What is no UTF-8 in the command becomes question marks, as on the terminal."""
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)


def renew(place, new, text):
    try:
        fill(new, text)
        if os.path.exists(place):
            shutil.copymode(place, new)
        os.replace(new, place)
    except BaseException:
        if os.path.exists(new):
            os.unlink(new)
        raise


def write(path, text):
    """'' or what went wrong."""
    if path == "-":
        complaint = put(sys.stdout, text)
        return complaint and f"cannot write to the standard output: {complaint}"
    place = os.path.realpath(path)   # a link stays one
    folder = os.path.dirname(place)
    try:
        if os.path.exists(place) and not (os.path.isfile(place) and os.access(folder, os.W_OK)):
            fill(place, text)
        else:
            renew(place, os.path.join(folder, f".besom-bench-{os.getpid()}"), text)
    except OSError as error:
        return f"cannot write '{path}': {error.strerror}"
    return ""


def write_files(args, data, runs):
    """False when one could not be written; the others are."""
    texts = [(args.csv, lambda: as_csv(runs)), (args.json, lambda: as_json(data, runs)),
             (args.markdown, lambda: "\n".join(report(data, runs, True, 100)) + "\n")]
    complaints = [write(path, text()) for path, text in texts if path]
    for complaint in filter(None, complaints):
        say(complaint)
    return not any(complaints)
