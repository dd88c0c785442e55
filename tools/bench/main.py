# SPDX-License-Identifier: MIT
"""besom bench: runs a command under several allocators and compares memory over time and time.

The launcher `besom` starts this (tools/bench.c) and says where it and the library are. The parts:
options.py what was asked, allocators.py who is compared, rounds.py the order of the runs, child.py
one run, sampler.py its memory, stats.py the arithmetic, report.py, export.py and plot.py the
results, gates.py the limits.

Exit status: 0 all right, 1 a gate or a run failed, 2 wrong usage or nothing could be run, 125 an older
Python, 128 and the signal interrupted, with what was measured until then.
"""
import os
import signal
import sys

if sys.version_info < (3, 8):   # before the other modules, which need it
    sys.stderr.write("besom bench: needs python3 3.8 or later; the python3 in PATH is %d.%d\n" % sys.version_info[:2])
    sys.exit(125)

import gates
import options
import plot
from allocators import examine
from export import write_files
from head import make_head, shown_command
from report import report
from rounds import INTERRUPTS, NothingRun, Session, interrupt_on_signals, program_exists
from stats import summarize
from streams import put, say


def choose_allocators(args):
    """Those asked for, all of them; without --alloc those that are there. [] after a message."""
    chosen, missing = [], False
    library = args.besom or args.library
    for name in args.alloc:
        allocator, complaint = examine(name, library and os.path.realpath(library),
                                       [args.launcher, "bench-child", "--which"],
                                       f"besom {args.besom_version}")
        if not complaint:
            chosen.append(allocator)
            continue
        is_named = args.explicit or (name == "besom" and bool(args.besom))
        missing = missing or is_named
        say(("" if is_named else "left out: ") + f"{name.split('=')[0]}: {complaint}")
    if missing:
        say("nothing was run; install what is missing, or do not name it")
        return []
    return chosen


def collect(args, session, allocators, head, interrupted):
    """What --json writes, less the runs."""
    names = [allocator["name"] for allocator in allocators]
    base = args.base or ("besom" if "besom" in names else names[0])
    summary = summarize(session.runs, names, base)
    return {
        "format": gates.FORMAT, "head": head, "argv": args.command,
        "options": {"rounds": args.rounds, "warmup": args.warmup, "metric": args.metric,
                    "interval_ms": args.interval, "base": base, "for_s": args.busy,
                    "load": args.load, "idle_s": args.idle, "env": args.environments},
        "interrupted": interrupted, "rounds_done": len({run["round"] for run in session.runs}),
        "summary": summary, "failures": session.failures, "notes": session.notes,
    }


def present(args, data, runs):
    """The table and the files; False when something could not be written."""
    to = sys.stderr if "-" in (args.csv, args.json, args.markdown) else sys.stdout
    written = write_files(args, data, runs)
    complaint = put(to, "\n".join(report(data, runs, False)) + "\n")
    if complaint:
        say(f"cannot write the report: {complaint}")
        written = False
    if args.plot:
        written = plot.draw(args.plot, args.plot_format, data, runs) and written
    return written


def number_of(interrupt):
    return interrupt.args[0] if interrupt.args else signal.SIGINT


def measure(args, baseline):
    try:
        allocators = choose_allocators(args)
    except OSError as error:    # of the machine: no more processes or descriptors
        say(f"cannot try the allocators: {error.strerror}")
        return 2
    if not allocators:
        return 2
    if args.base and args.base not in [a["name"] for a in allocators]:
        say(f"--base: {args.base} is left out")
        return 2
    head = make_head(allocators, shown_command(["besom", "bench", *args.words]))
    session, stopped_by = Session(args, allocators), 0
    if baseline and baseline["argv"] != args.command:
        session.note(f"the baseline is of another command: {shown_command(baseline['argv'])}")
    try:
        session.run()
    except KeyboardInterrupt as interrupt:
        stopped_by = number_of(interrupt)
        session.progress.clear()
        for number in INTERRUPTS:
            signal.signal(number, signal.SIG_IGN)
        if not session.runs and not session.failures:
            say("interrupted before the first run had ended; nothing is written")
            return 128 + stopped_by
        say(f"interrupted after {len(session.runs)} runs; writing what there is")
    except NothingRun as error:
        session.progress.clear()
        say(f"{error}; nothing more was run")
        if not session.runs:
            return 2
        session.failures.append({"round": 0, "allocator": "", "reason": str(error)})
    data = collect(args, session, allocators, head, bool(stopped_by))
    names = list(data["summary"])
    data["gates"] = gates.judge(args, baseline, session.runs, data["summary"], names)
    try:
        written = present(args, data, session.runs)
    except KeyboardInterrupt as interrupt:
        stopped_by = number_of(interrupt)
        say("interrupted while results were written; some are missing")
    if stopped_by:
        return 128 + stopped_by
    failed = session.failures or any(gate["passed"] is False for gate in data["gates"])
    return 1 if failed or not written else 0


def visible_words(argv):
    """The arguments less what the launcher put before them."""
    words = list(argv)
    while len(words) > 1 and words[0] in options.LAUNCHER_OPTIONS:
        del words[:2]
    return words


def main(argv):
    interrupt_on_signals()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    args = options.parse(argv)
    args.words = visible_words(argv)
    complaint = program_exists(args.command[0])
    if complaint:
        say(complaint)
        return 2
    baseline = None
    if args.baseline:
        try:
            baseline = gates.read_baseline(args.baseline, args)
        except gates.BaselineError as error:
            say(str(error))
            return 2
    if args.plot and not plot.gnuplot():
        say(f"gnuplot is not installed, so only data and scripts go to {args.plot} "
            "(Debian: apt-get install gnuplot-nox)")
    return measure(args, baseline)


if __name__ == "__main__":
    try:
        CODE = main(sys.argv[1:])
    except SystemExit as end:
        CODE = end.code
    except KeyboardInterrupt as interrupt:
        CODE = 128 + number_of(interrupt)
        say("interrupted; nothing was run")
    COMPLAINT = put(sys.stdout, "")
    if COMPLAINT:
        say(f"cannot write to the standard output: {COMPLAINT}")
    sys.exit(CODE or (1 if COMPLAINT else 0))
