# SPDX-License-Identifier: MIT
"""The head of a report (machine, kernel, settings, versions) and its tables. It is shared by `besom
bench`, bench/run and bench/rss, so that their reports look alike. It measures nothing."""
import datetime
import os
import platform
import re
import shlex

SETTINGS = re.compile(r"^(BESOM_(?!LIB$)|MALLOC_|_RJEM_|JE_MALLOC|MIMALLOC_|TCMALLOC_|GLIBC_TUNABLES)")


def read_text(path):
    """'' when the file cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def shown_word(word):
    """As a shell reads it, on one line: as bash does where there are signs that are not printed."""
    if word.isprintable():
        return shlex.quote(word)
    text = ""
    for sign in word:
        named = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\'"}.get(sign)
        text += named or (sign if sign.isprintable() else
                          "".join(f"\\x{byte:02x}" for byte in sign.encode("utf-8", "surrogateescape")))
    return f"$'{text}'"


def shown_command(words):
    return " ".join(map(shown_word, words))


def code(text):
    """A code span of Markdown's, whatever the text holds."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    gap = " " if "`" in (text[:1], text[-1:]) else ""
    return fence + gap + text + gap + fence


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


def grid(rows, markdown):
    """Rows of words, the first is the title, as lines of a table."""
    if markdown:
        head, *body = ["| " + " | ".join(row) + " |" for row in rows]
        return [head, "|" + "---|" * len(rows[0]), *body]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip()
            for row in rows]
