# SPDX-License-Identifier: MIT
"""The files: every run as a line of CSV, everything as JSON, the report as Markdown. A file is
written beside its place and renamed, so that a full disk does not cost an earlier result."""
import csv
import io
import json
import os
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


def write(path, text):
    """'' or what went wrong."""
    if path == "-":
        complaint = put(sys.stdout, text)
        return complaint and f"cannot write to the standard output: {complaint}"
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return ""
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)
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
