# SPDX-License-Identifier: MIT
"""How far a series of runs is and how long it still takes, on stderr. Prints, and knows nothing
else."""
import sys
import time

from streams import put


class Progress:
    """One line on a terminal, rewritten; elsewhere a line every 10 s, or none when not wanted."""

    def __init__(self, total, wanted=True):
        self.total, self.done = total, 0
        self.start = self.said = time.monotonic()
        self.tty = sys.stderr.isatty()
        self.wanted = wanted

    def begin(self, text):
        """The first run has begun, of which nothing can be said yet."""
        if self.wanted and self.tty and self.done == 0:
            put(sys.stderr, f"\r\033[K  0 %  {text}")

    def step(self, text):
        self.done += 1
        now = time.monotonic()
        if not self.wanted:
            return
        if not self.tty and now - self.said < 10 and self.done < self.total:
            return
        self.said = now
        left = (now - self.start) / self.done * (self.total - self.done)
        line = (f"{100 * self.done // self.total:3d} %  "
                f"{int(left) // 60} min {int(left) % 60:2d} s left")
        put(sys.stderr, (f"\r\033[K{line}  {text}" if self.tty else f"{line}  {text}")
            + ("" if self.tty and self.done < self.total else "\n"))

    def clear(self):
        """Before another line is written."""
        if self.wanted and self.tty and self.done < self.total:
            put(sys.stderr, "\r\033[K")
