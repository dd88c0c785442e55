# SPDX-License-Identifier: MIT
"""What bench/run and bench/rss share: finding the allocators and proving that each takes effect,
the head of a report, tables, and the place in bench/README.md where a report goes. It runs nothing
that is measured."""
import datetime
import os
import platform
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
SONAMES = {
    "jemalloc": ["libjemalloc.so.2"],
    "mimalloc": ["libmimalloc.so.3", "libmimalloc.so.2.0", "libmimalloc.so.2"],
    "tcmalloc": ["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"],
}
DEFAULT_ALLOCATORS = ["glibc", "jemalloc", "mimalloc", "tcmalloc", "besom"]
SETTINGS = re.compile(r"^(BESOM_|MALLOC_|_RJEM_|JE_MALLOC|MIMALLOC_|TCMALLOC_|GLIBC_TUNABLES)")


def say(text):
    print(f"bench/{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr, flush=True)


def shown_path(path):
    """A path as the report shows it: relative inside the project, otherwise as it is."""
    return os.path.relpath(path, ROOT) if path.startswith(ROOT + "/") else path


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    except OSError:
        return ""
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else ""


def read_text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


# --- allocators -------------------------------------------------------------------------------


def find_library(sonames):
    """The first of the file names that the dynamic linker or the usual folders know."""
    env = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
    try:
        cache = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False,
                               env=env).stdout
    except OSError:
        cache = ""
    folders = [f"/usr/lib/{platform.machine()}-linux-gnu", "/usr/local/lib", "/usr/lib64",
               "/usr/lib"]
    for soname in sonames:
        found = re.findall(rf"^\s*{re.escape(soname)} \(.*x86-64.*=> (\S+)", cache, re.M)
        found += re.findall(rf"^\s*{re.escape(soname)} .*=> (\S+)", cache, re.M)
        for path in found + [f"{folder}/{soname}" for folder in folders]:
            if os.path.exists(path):
                return path
    return ""


def library_of(name, besom_path):
    """(path or None for glibc, complaint)"""
    if name == "glibc":
        return None, ""
    if "=" in name:
        path = os.path.abspath(name.split("=", 1)[1])
        return path, "" if os.path.exists(path) else f"there is no file {path}"
    if name == "besom":
        if os.path.exists(besom_path):
            return besom_path, ""
        return None, f"there is no {shown_path(besom_path)}; build it or give --besom=FILE"
    if name not in SONAMES:
        return None, "unknown; give NAME=FILE for a library of your own"
    path = find_library(SONAMES[name])
    return path, "" if path else f"not installed ({' or '.join(SONAMES[name])})"


def environment_for(path):
    env = dict(os.environ)
    env.pop("LD_PRELOAD", None)
    if path:
        env["LD_PRELOAD"] = path
    return env


def check_takes_effect(micro, path):
    """(file whose malloc the benchmark calls, complaint); '' when it is the wanted one."""
    done = subprocess.run([micro, "--which"], capture_output=True, text=True, check=False,
                          env=environment_for(path))
    answer = done.stdout.strip()
    if done.returncode:
        return answer, f"the benchmark does not start under it: {done.stderr.strip()}"
    if path and os.path.realpath(answer) != os.path.realpath(path):
        return answer, f"malloc comes from {answer} in spite of LD_PRELOAD={path}"
    if not path and not os.path.basename(answer).startswith("libc.so"):
        return answer, f"without preload, malloc comes from {answer}"
    return answer, ""


def version_of(name, path):
    if name == "besom":
        found = re.search(r'define PACKAGE_VERSION "(.*)"', read_text(f"{ROOT}/build/config.h"))
        commit = first_line(["git", "describe", "--always", "--dirty"])
        parts = [found.group(1) if found else "", f"commit {commit}" if commit else ""]
        return ", ".join(part for part in parts if part) or "version unknown"
    for candidate in (path, os.path.realpath(path), os.path.realpath(path).replace("/usr", "", 1)):
        owner = first_line(["dpkg-query", "-S", candidate])
        if owner:
            package = owner.split(": ")[0]
            return first_line(["dpkg-query", "-W", "-f", "${Package} ${Version}", package])
    return os.path.basename(os.path.realpath(path))


def choose_allocators(wanted, besom_path, micro):
    chosen = []
    for name in wanted:
        path, complaint = library_of(name, besom_path)
        label = name.split("=")[0]
        answer = ""
        if not complaint:
            answer, complaint = check_takes_effect(micro, path)
        if complaint:
            say(f"{label} is left out: {complaint}")
        else:
            chosen.append({"name": label, "path": path, "version": version_of(label, answer)})
    return chosen


# --- report -----------------------------------------------------------------------------------


def grid(rows, markdown):
    if markdown:
        head, *body = ["| " + " | ".join(row) + " |" for row in rows]
        return [head, "|" + "---|" * len(rows[0]), *body]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip()
            for row in rows]


def make_head(allocators, command):
    model = re.search(r"model name\s*: (.*)", read_text("/proc/cpuinfo"))
    thp = re.search(r"\[(\w+)\]", read_text("/sys/kernel/mm/transparent_hugepage/enabled"))
    settings = [f"{key}={value}" for key, value in sorted(os.environ.items())
                if SETTINGS.match(key)]
    head = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "machine": f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} CPUs, "
                   f"Linux {platform.release()}, THP {thp.group(1) if thp else 'not there'}, "
                   f"load at the start {os.getloadavg()[0]:.2f}",
        "allocators": [f"{a['name']}: {a['version']}" for a in allocators],
    }
    if settings:
        head["settings"] = settings
    return head


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
