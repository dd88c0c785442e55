# SPDX-License-Identifier: MIT
"""What bench/run and bench/rss share beside what is installed for `besom bench` (tools/bench): the
allocators of this source tree and the place in bench/README.md where a report goes. It runs nothing
that is measured."""
import argparse
import os
import re
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(1, os.path.join(ROOT, "tools", "bench"))

# After that line, which says where they are; handed on to the scripts of this folder.
from allocators import DEFAULT_ALLOCATORS, environment_for, examine, find_library, first_line
from head import grid, make_head, read_text
from proc import read_proc, rss_kib, tree_of
from progress import Progress
from rounds import interrupt_on_signals     # SIGTERM and SIGHUP end as Ctrl-C does: no child and no folder is left


def say(text):
    print(f"bench/{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr, flush=True)


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: give 1 or more")
    return value


def check_outputs(parser, files, folder=None):
    """That what is to be written can be, now and not when everything has run."""
    for path in (path for path in files if path is not None):
        place = os.path.dirname(path) or "."
        if os.path.isdir(path) or not os.access(path if os.path.exists(path) else place, os.W_OK):
            parser.error(f"cannot write '{path}': give a file in a folder that exists and is yours")
    if folder is not None:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            parser.error(f"cannot make the folder '{folder}': {error.strerror}")
        if not os.access(folder, os.W_OK | os.X_OK):
            parser.error(f"cannot write into the folder '{folder}'")


def number_of(interrupt):
    return interrupt.args[0] if interrupt.args else signal.SIGINT


def shown_path(path):
    """A path as the report shows it: relative inside the project, otherwise as it is."""
    return os.path.relpath(path, ROOT) if path.startswith(ROOT + "/") else path


def besom_version():
    found = re.search(r'define PACKAGE_VERSION "(.*)"', read_text(f"{ROOT}/build/config.h"))
    commit = first_line(["git", "describe", "--always", "--dirty"], ROOT)
    parts = [found.group(1) if found else "", f"commit {commit}" if commit else ""]
    return ", ".join(part for part in parts if part) or "version unknown"


def choose_allocators(wanted, besom_path, micro):
    chosen = []
    version = besom_version()
    for name in wanted:
        allocator, complaint = examine(name, besom_path, [micro, "--which"], version)
        if complaint:
            say(f"{name.split('=')[0]} is left out: {complaint}")
        else:
            chosen.append(allocator)
    return chosen


def update_readme(lines, name):
    markers = (f"<!-- {name}:begin -->", f"<!-- {name}:end -->")
    path = os.path.join(ROOT, "bench", "README.md")
    text = read_text(path)
    begin, end = (text.find(marker) for marker in markers)
    if begin < 0 or end < begin:
        say(f"{shown_path(path)} has no markers {markers[0]} and {markers[1]}")
        sys.exit(1)
    new = text[:begin + len(markers[0])] + "\n" + "\n".join(lines) + "\n" + text[end:]
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(new)
    os.replace(path + ".new", path)
