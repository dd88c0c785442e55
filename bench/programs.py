# SPDX-License-Identifier: MIT
"""Real programs as benchmarks of bench/run: the workloads of tests/compat/programs in a short form
(SPEED=bench or bench-quick), each as a whole with all the processes that it starts. An operation is the
whole workload; memory is what `besom bench` measures, PSS of the tree, so that pages which processes
share count once.

It compares no output (tests/compat/run.sh does) and knows nothing of rounds and ratios. What a
workload leaves lies in a directory of its own, which is removed.
"""
import os
import shutil
import subprocess
import tempfile

from harness import ROOT, find_library, say, shown_path

# After harness, which says where they are.
from child import Phases, Run, RunError, status_text

COMPAT = os.path.join(ROOT, "tests", "compat")
FIELDS = ("packages", "commands", "files")


def needs_of(file):
    """What a program's file says that it needs: {field: words}."""
    script = '. "$1"; printf "%s\\n" ' + " ".join(f'"${{{name}:-}}"' for name in FIELDS)
    done = subprocess.run(["bash", "-c", script, "bash", file], capture_output=True, text=True,
                          check=True)
    return dict(zip(FIELDS, map(str.split, done.stdout.split("\n"))))


class Programs:
    """All that can be run here. As a context it owns the directory in which they are run."""

    def __init__(self, launcher, speed="bench"):
        self.launcher, self.speed, self.folder, self.files = launcher, speed, None, {}

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="besom-bench-")
        os.chmod(self.folder, 0o755)    # a server that root has to start is another user
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def find(self):
        """The names of the benchmarks; what cannot be run is named on stderr."""
        folder = os.path.join(COMPAT, "programs")
        if not os.access(self.launcher, os.X_OK):
            say(f"there is no {shown_path(self.launcher)}, so no program is run; run ./bootstrap build")
            return []
        for entry in sorted(os.listdir(folder)):
            file = os.path.join(folder, entry)
            needs = needs_of(file)
            missing = [word for word in needs["commands"] if not shutil.which(word)]
            missing += [word for word in needs["files"] if not os.path.exists(word)]
            name = "program-" + entry.removesuffix(".sh")
            if missing:
                say(f"{name} is left out: no {', '.join(missing)}; "
                    f"apt-get install {' '.join(needs['packages'])}")
            else:
                self.files[name] = file
        return list(self.files)

    def new_place(self, name):
        """The directory for a run, empty, and that of its input, which is kept between runs."""
        place, given = (os.path.join(self.folder, name, part) for part in ("run", "input"))
        shutil.rmtree(place, ignore_errors=True)
        for folder in (place, os.path.join(place, "home")):
            os.makedirs(folder)
            os.chmod(folder, 0o1777)
        return place, given

    def command(self, name, function):
        """(argv, environment) for a function of the program's file in a directory of its own"""
        place, given = self.new_place(name)
        argv = ["/bin/sh", "-c", 'cd -- "$0" && exec "$@"', place, "/bin/bash",
                os.path.join(COMPAT, "inside.sh"), self.files[name], function]
        return argv, {"HOME": os.path.join(place, "home"), "TMPDIR": place, "LC_ALL": "C.UTF-8",
                      "TZ": "UTC", "TERM": "dumb", "TOP": ROOT, "INPUT": given, "SPEED": self.speed}

    def prepare(self, name):
        """'' or a complaint. Makes the input, once, without any allocator's help."""
        given = os.path.join(self.folder, name, "input")
        if os.path.exists(given):
            return ""
        os.makedirs(given)
        argv, env = self.command(name, "prepare_in_input")
        done = subprocess.run(argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)
        return f"its preparation ended with {done.returncode}" if done.returncode else ""

    def run(self, name, allocator, limit_seconds):
        """(dict of figures, '') or (None, complaint)"""
        complaint = self.prepare(name)
        if complaint:
            return None, complaint
        argv, env = self.command(name, "workload")
        # Redis brings another malloc, which the system's own has to be put before; all of it (mallocx.c).
        env["MALLOCX"] = os.path.join(ROOT, "build", "tools", ".libs", "mallocx.so")
        preloaded = {**allocator, "path": allocator["path"] or find_library(["libc.so.6"])}
        run = Run(argv, preloaded, self.launcher, Phases(), timeout=limit_seconds, env=env)
        try:
            result = run.run()
        except RunError as error:
            return None, str(error)
        if run.complaint or result["status"]:
            return None, (run.complaint or status_text(result["status"])) + f": {run.last_words}"
        if result["mapped"] is False:
            return None, f"{preloaded['path']} is not mapped in it, in spite of LD_PRELOAD"
        return figures(result), ""


def figures(result):
    """The fields of bench/run."""
    kept = ("cpu_s", "user_s", "system_s", "whole_s")
    named = {name[:-1] + "seconds": result[name] for name in kept}
    named.update({name: result[name] for name in ("minor_faults", "voluntary_switches",
                                                  "involuntary_switches")})
    return {"ops": 1, "seconds": result["wall_s"], "ns_per_op": round(result["wall_s"] * 1e9),
            "peak_kib": round(result["peak_kib"]), "final_kib": round(result["end_kib"]),
            "mean_kib": round(result["mean_kib"]), **named}
