# SPDX-License-Identifier: MIT
"""The allocators of a comparison: where their libraries are, which of them answers when it is
preloaded, its version. Used by `besom bench`, bench/run and bench/rss; it measures nothing.

An allocator is a dict: name (how it is shown), path (what to preload, None for the system's own
malloc), version.
"""
import os
import platform
import re
import subprocess

SONAMES = {
    "jemalloc": ["libjemalloc.so.2"],
    "mimalloc": ["libmimalloc.so.3", "libmimalloc.so.2.0", "libmimalloc.so.2"],
    "tcmalloc": ["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"],
}
# Debian 12's name, then Debian 13's.
PACKAGES = {"jemalloc": "libjemalloc2", "mimalloc": "libmimalloc2.0 or libmimalloc3",
            "tcmalloc": "libtcmalloc-minimal4 or libtcmalloc-minimal4t64"}
DEFAULT_ALLOCATORS = ["glibc", "jemalloc", "mimalloc", "tcmalloc", "besom"]


def first_line(command, directory=None):
    """What a command says first, '' when it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    except OSError:
        return ""
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else ""


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
    """(path or None for glibc, complaint); name is a known one, or NAME=FILE, or NAME=KNOWN."""
    if "=" in name:
        file = name.split("=", 1)[1]
        if file in ("glibc", "besom", *SONAMES):
            return library_of(file, besom_path)
        if not file:
            return None, "nothing after the =; give NAME=FILE"
        path = os.path.abspath(file)
        return path, "" if os.path.isfile(path) else f"there is no file {path}"
    if name == "glibc":
        return None, ""
    if name == "besom":
        if besom_path and os.path.exists(besom_path):
            return besom_path, ""
        return None, (f"there is no {besom_path or 'libbesom.so'}; build it or give "
                      "--besom=FILE")
    if name not in SONAMES:
        return None, (f"unknown; there are {', '.join(DEFAULT_ALLOCATORS)}, and NAME=FILE for a library of "
                      "your own")
    path = find_library(SONAMES[name])
    return path, "" if path else (f"not installed ({' or '.join(SONAMES[name])}); "
                                  f"Debian has it in the package {PACKAGES[name]}")


def environment_for(path):
    """The caller's environment with this library preloaded and no other."""
    env = dict(os.environ)
    env.pop("LD_PRELOAD", None)
    if path:
        env["LD_PRELOAD"] = path
    return env


def reason(said):
    """What the dynamic linker says of a library that it leaves out, in its brackets."""
    found = re.search(r"cannot be preloaded \(([^)]*)\)", said)
    return f": {found.group(1)}" if found else ""


def machine_of(path):
    """Word size, byte order and machine of an ELF file, b'' of another."""
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError:
        return b""
    return head[4:6] + head[18:20] if head[:4] == b"\x7fELF" else b""


def why_left_out(path, answer, said):
    """What is wrong with a library that the dynamic linker went on without."""
    if machine_of(path) and machine_of(answer) and machine_of(path) != machine_of(answer):
        return f": it is built for another machine than {answer}"   # to the linker it is no file at all
    return reason(said)


def check_takes_effect(probe, path):
    """(file whose malloc answers, complaint). probe: a command that prints this file; it is
    needed because the dynamic linker goes on without a library that it could not preload."""
    if path and re.search(r"[:\s]", path):
        return "", (f"its path has a space or a colon, which LD_PRELOAD takes as the end of a name; copy or "
                    f"link {path} to a path without them")
    done = subprocess.run(probe, capture_output=True, text=True, errors="replace", check=False,
                          env=environment_for(path))
    answer = done.stdout.strip()
    if done.returncode:
        return answer, "a program does not start under it: " + \
            (done.stderr.strip().split("\n")[-1] or f"return code {done.returncode}")
    if path and os.path.realpath(answer) != os.path.realpath(path):
        return answer, f"malloc comes from {answer} in spite of LD_PRELOAD={path}" + \
            why_left_out(path, answer, done.stderr)
    if not path and not os.path.basename(answer).startswith("libc.so"):
        return answer, f"without preload, malloc comes from {answer}"
    return answer, ""


def package_version(path):
    """Debian's package and version of a file, else the name of the file."""
    for candidate in (path, os.path.realpath(path), os.path.realpath(path).replace("/usr", "", 1)):
        owner = first_line(["dpkg-query", "-S", candidate])
        if owner:
            package = owner.split(": ")[0]
            return first_line(["dpkg-query", "-W", "-f", "${Package} ${Version}", package])
    return os.path.basename(os.path.realpath(path))


def examine(name, besom_path, probe, besom_version):
    """(the allocator or None, complaint)"""
    path, complaint = library_of(name, besom_path)
    answer = ""
    if not complaint:
        answer, complaint = check_takes_effect(probe, path)
    if complaint:
        return None, complaint
    is_besom = bool(path) and path == besom_path
    version = besom_version if is_besom else package_version(answer)
    return {"name": name.split("=")[0], "path": path, "version": version}, ""
