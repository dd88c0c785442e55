# SPDX-License-Identifier: MIT
"""The command line of `besom bench`: what may be said, checked before anything runs, so that no
mistake costs a measurement. Every complaint is one line and exit status 2."""
import argparse
import os
import re
import signal
import sys

from allocators import DEFAULT_ALLOCATORS
from child import Phases
from stats import METRICS
from streams import say

LAUNCHER_OPTIONS = ("--launcher", "--besom-version", "--library")   # what tools/bench.c says first
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
GATE_NAMES = {title.lower().replace(" ", "-"): key for key, title, _ in METRICS}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        say(f"{message}; see besom bench --help")
        sys.exit(2)


# --- kinds of values --------------------------------------------------------------------------


def bad(text, remedy):
    return argparse.ArgumentTypeError(f"'{text}': {remedy}")


def some(text):
    """Not '', which is a variable of a script that is not set, and would be no option at all."""
    if not text:
        raise bad(text, "give a name")
    return text


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise bad(text, "give a whole number, 1 or more")
    return int(text)


def natural(text):
    if not text.isdigit():
        raise bad(text, "give a whole number, 0 or more")
    return int(text)


def number(text):
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise bad(text, "give a number, such as 5 or 0.5")
    return float(text)


def above_zero(text):
    if number(text) == 0:
        raise bad(text, "give more than 0, such as 5 or 0.5")
    return number(text)


def size_kib(text):
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text, re.I)
    if not found:
        raise bad(text, "give a size, such as 300M or 1.5G")
    return float(found.group(1)) * UNITS[found.group(2).upper()] / 1024


def limit(text):
    """SIZE for all, or NAME=SIZE: (name or None, KiB)"""
    name, _, size = text.rpartition("=")
    kib = size_kib(size)
    if kib < 64:    # bytes, where the letter was forgotten: no program is so small
        raise bad(size, "that is in bytes and less than any program has; give a size such as 300M")
    return name or None, kib


def signal_number(text):
    name = text.upper()
    try:
        return signal.Signals(int(text)) if text.isdigit() else \
            signal.Signals[name if name.startswith("SIG") else "SIG" + name]
    except (KeyError, ValueError):
        raise bad(text, "give the name of a signal, such as TERM or INT") from None


def setting(text):
    """NAME:VARIABLE=VALUE"""
    found = re.fullmatch(r"([^:=]+):([A-Za-z_]\w*)=(.*)", text, re.S)
    if not found:
        raise bad(text, "give NAME:VARIABLE=VALUE, such as glibc:MALLOC_ARENA_MAX=2")
    return found.groups()


def gate_metrics(text):
    names = text.split(",")
    for name in names:
        if name not in GATE_NAMES:
            raise bad(name, "give some of " + ",".join(GATE_NAMES))
    return [GATE_NAMES[name] for name in names]


# --- the options ------------------------------------------------------------------------------


def add_what(parser):
    group = parser.add_argument_group("what is compared")
    group.add_argument("--alloc", metavar="NAME,...", default=None,
                       help="allocators: glibc, jemalloc, mimalloc, tcmalloc, besom, or NAME=FILE "
                       "for any other library, or NAME=KNOWN for one of these again; default: all "
                       "that are installed")
    group.add_argument("--base", metavar="NAME", type=some,
                       help="the one that others are compared with; default besom, else the first")
    group.add_argument("--env", metavar="NAME:VARIABLE=VALUE", type=setting, action="append",
                       default=[], help="an environment variable for one allocator; may be "
                       "repeated")
    group.add_argument("--besom", metavar="FILE", type=some, help="another libbesom.so")
    group.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")


def add_how(parser):
    group = parser.add_argument_group("how it is run")
    group.add_argument("-r", "--rounds", metavar="N", type=positive, default=7,
                       help="rounds, each with one run of every allocator; default 7")
    group.add_argument("-w", "--warmup", metavar="N", type=natural, default=0,
                       help="rounds before them that do not count; default 0")
    group.add_argument("--prepare", metavar="CMD", help="a shell command before each run")
    group.add_argument("--cleanup", metavar="CMD", help="a shell command after each run, whatever "
                       "became of it")
    group.add_argument("--timeout", metavar="SECONDS", type=above_zero,
                       help="a run that takes longer is killed and has failed")
    group.add_argument("-i", "--ignore-failure", action="store_true",
                       help="an exit status other than 0 counts, when it is always the same")
    group.add_argument("--compare-output", action="store_true",
                       help="a run whose standard output differs from the first one has failed")
    group.add_argument("--show-output", action="store_true",
                       help="the command's output is shown and not thrown away")
    group.add_argument("--progress", action="store_true",
                       help="say how long it still takes, also when stderr is no terminal")
    group = parser.add_argument_group("a command that keeps running, as a server does")
    group.add_argument("--for", metavar="SECONDS", type=number, dest="busy",
                       help="it runs for so long, then it is stopped")
    group.add_argument("--load", metavar="CMD", help="or for as long as this shell command takes, "
                       "which is the time that is compared; BENCH_PID has the server's pid")
    group.add_argument("--idle", metavar="SECONDS", type=number,
                       help="after that it is left alone for so long, and its memory is read again")
    group.add_argument("--stop", metavar="SIGNAL", type=signal_number,
                       help="how it is stopped; default TERM")
    group = parser.add_argument_group("how memory is read")
    group.add_argument("--metric", choices=["pss", "rss"], default="pss",
                       help="pss (default): shared pages are divided among those who share them; "
                       "rss: they count in every process")
    group.add_argument("--interval", metavar="MS", type=number, default=10.0,
                       help="milliseconds between samples; default 10, more where that would cost "
                       "more than 2 %% of a CPU (and reading PSS 1 %%)")


def add_results(parser):
    group = parser.add_argument_group("results beside the table (FILE - is the standard output)")
    group.add_argument("--csv", metavar="FILE", type=some, help="every run as a line")
    group.add_argument("--json", metavar="FILE", type=some, help="everything, with memory over time; "
                       "also what --baseline reads")
    group.add_argument("--markdown", metavar="FILE", type=some, help="the report for a web page")
    group.add_argument("--plot", metavar="DIR", type=some, help="plots by gnuplot, their data and "
                       "scripts")
    group.add_argument("--plot-format", choices=["svg", "png"], default="svg", help="default svg")
    group = parser.add_argument_group("gates, which make the exit status 1")
    group.add_argument("--max-rss", metavar="[NAME=]SIZE", type=limit, action="append", default=[],
                       help="the peak of any run, or of this allocator's, is above SIZE "
                       "(as 300M); may be repeated")
    group.add_argument("--baseline", metavar="FILE", type=some, help="a median is worse than in "
                       "FILE, which --json wrote, by more than the tolerance")
    group.add_argument("--tolerance", metavar="PCT", type=number,
                       help="default 5 %%")
    group.add_argument("--gate", metavar="METRIC,...", type=gate_metrics, help="what --baseline compares: some "
                       "of " + ",".join(GATE_NAMES) + "; default mean,peak")


def make_parser():
    parser = Parser(
        prog="besom bench", allow_abbrev=False,
        usage="besom bench [OPTION...] -- COMMAND [ARGUMENT...]",
        description="Runs a command under several allocators in turn and compares the memory of "
        "its whole process tree over time, and its time.",
        epilog="Exit status: 0 all right; 1 a gate or a run failed; 2 wrong usage, or nothing "
        "could be run; 128 and the signal (130 for Ctrl-C) interrupted, with partial results "
        "written. besom(1) has examples.")
    add_what(parser)
    add_how(parser)
    add_results(parser)
    for name in LAUNCHER_OPTIONS:
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    return parser


# --- what only all of them together tell ------------------------------------------------------


def unusable(path):
    """'' or what no file of this name can get over: it is too long, a link leads to itself, the working
    folder is gone."""
    try:
        whole = os.path.realpath(path)
    except OSError as error:
        return error.strerror
    try:
        os.stat(whole)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror
    return ""


def is_device(path):
    return os.path.exists(path) and not os.path.isfile(path)


def check_files(parser, args):
    """That what is to be written can be, now and not after half an hour."""
    outputs = [path for path in (args.csv, args.json, args.markdown) if path]
    if outputs.count("-") > 1:
        parser.error("only one of --csv, --json and --markdown can go to the standard output")
    for path in outputs:
        complaint = unusable(path)
        if complaint:
            parser.error(f"cannot write '{path}': {complaint}")
        folder = os.path.dirname(path) or "."
        if path != "-" and (os.path.isdir(path) or not os.path.isdir(folder)
                            or not os.access(path if os.path.exists(path) else folder, os.W_OK)):
            parser.error(f"cannot write '{path}': give a file in a folder that exists and is yours")
    files = [os.path.realpath(path) for path in outputs if path != "-" and not is_device(path)]
    for path in files:
        if files.count(path) > 1:
            parser.error(f"'{os.path.relpath(path)}' is named twice; give --csv, --json and --markdown "
                         "files of their own")
    if args.plot:
        try:
            os.makedirs(args.plot, exist_ok=True)
        except OSError as error:
            parser.error(f"--plot: cannot make the folder '{args.plot}': {error.strerror}")
        if not os.access(args.plot, os.W_OK | os.X_OK):
            parser.error(f"--plot: cannot write into the folder '{args.plot}': give one that is yours")


def check_together(parser, args):
    names = [name.split("=")[0] for name in args.alloc]
    for name in names:
        if names.count(name) > 1:
            parser.error(f"--alloc: {name} is named twice; call one of them otherwise, as in "
                         f"{name}2={name}")
        if not name:
            parser.error("--alloc: an empty name; write names with single commas between them")
        if not name.isprintable() or set(name) & set('"|'):
            parser.error(f"--alloc: {name!a}: write a name without quotes, bars and control characters")
    for option, named in ([("--base", args.base)] if args.base else []) + \
            [("--env", name) for name, _, _ in args.env] + \
            [("--max-rss", name) for name, _ in args.max_rss if name]:
        if named not in names:
            parser.error(f"{option}: {named} is not among the allocators ({', '.join(names)})")
    if args.busy is not None and args.load is not None:
        parser.error("--for and --load exclude each other: how long it runs is said by one")
    server = args.busy is not None or args.load is not None
    if args.idle is not None and not server:
        parser.error("--idle needs --for or --load: a command that ends by itself cannot be idle")
    if args.stop is not None and not server:
        parser.error("--stop needs --for or --load: a command that ends by itself is not stopped")
    for option, value in (("--gate", args.gate), ("--tolerance", args.tolerance)):
        if value is not None and not args.baseline:
            parser.error(f"{option} needs --baseline: nothing would be compared")
    if server and args.compare_output:
        parser.error("--compare-output is for commands that end by themselves, not with "
                     "--for or --load")
    if args.compare_output and args.show_output:
        parser.error("--compare-output and --show-output exclude each other")
    if args.interval < 1:
        parser.error(f"--interval: {args.interval:g} ms is too short, give 1 or more")


def parse(argv):
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.command[:1] == ["--"]:
        args.command = args.command[1:]
    if not args.command:
        parser.error("no command given; write besom bench [OPTION...] -- COMMAND [ARGUMENT...]")
    args.explicit = args.alloc is not None
    args.alloc = args.alloc.split(",") if args.explicit else DEFAULT_ALLOCATORS
    check_together(parser, args)
    check_files(parser, args)
    args.phases = Phases(args.busy, args.load, args.idle, args.stop or signal.SIGTERM)
    args.tolerance = 5.0 if args.tolerance is None else args.tolerance
    args.gate_named, args.gate = args.gate or [], args.gate or ["mean_kib", "peak_kib"]
    args.environments = {}
    for name, variable, value in args.env:
        args.environments.setdefault(name, {})[variable] = value
    return args
