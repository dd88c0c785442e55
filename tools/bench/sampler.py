# SPDX-License-Identifier: MIT
"""Memory of a tree of processes over time, at a bounded cost. Used by child.py; starts nothing.

PSS is what adds up over processes that share pages, and it is dear: the kernel walks every page
(12 ms for 1 GiB). RSS is a sum that the kernel keeps (10 µs). So each process is read both ways
when one appears, when it has become another program or its RSS has changed by a quarter, and then as
often as PSS_SHARE of one CPU pays for; in between its memory is its RSS less what it shared at the
last reading, and of the pages of files that came since so large a part counts as of those that were
there: a compiler that has just been started maps what its driver has mapped. Where that has become
much, the others are read as well, in the same sample. The metric "rss" leaves
PSS away and counts shared pages once a process.

The interval begins at 1 ms, so that a short program is seen too, grows to what was asked for, and
further where what is not PSS would cost more than SHARE of one CPU beyond a small credit.
"""
import os
import time

from proc import PAGE_KIB, field_kib, read_proc, tree_of

SHARE = 0.02
PSS_SHARE = 0.01
FIRST_INTERVAL = 0.001
EARLY = 40                # the interval is at most 1/40 of the time since the start
CREDIT_SECONDS = 0.01     # what a short program may cost beyond its share
PSS_CREDIT_SECONDS = 0.03
MOVED = 0.05              # of all memory: what one process shares more or less than before, and the others are read
MAX_SAMPLES = 4000


def read_statm(pid):
    """[resident, shared, text] in KiB, or None when the process has gone."""
    try:
        fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY)
        try:
            words = os.read(fd, 256).split()
        finally:
            os.close(fd)
    except OSError:
        return None
    return [int(word) * PAGE_KIB for word in words[1:4]] if len(words) > 3 else None


def is_forbidden(path):
    """Its mode tells nothing: the kernel decides when it is opened (ptrace(2))."""
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


class Member:
    """One process of the tree. shared: what to take off its RSS; files: pages of files that were there
    then; own: the part of such pages that is its own; text: changes by exec."""

    def __init__(self, statm, own):
        self.text = statm[2]
        self.shared = self.files = statm[1]
        self.own = own
        self.read_at = None     # its RSS when PSS was read

    def memory(self, statm):
        """Between readings, in KiB."""
        come = max(statm[1] - self.files, 0)
        return max(statm[0] - self.shared - come * (1 - self.own), 0)

    def is_stale(self, resident):
        return self.read_at is None or abs(resident - self.read_at) > self.read_at / 4


class Sampler:
    """Below `parent`, which is not counted itself."""

    def __init__(self, parent, begin, metric="pss", interval=0.01):
        self.parent, self.begin, self.metric, self.wanted = parent, begin, metric, interval
        self.series = Series()
        self.members = {}
        self.pids = []
        self.due = set()            # processes whose PSS is to be read, fresh or not
        self.nprocesses = 0
        self.cpu_seconds = 0.0      # of this sampler
        self.tree_seconds = self.tree_read = 0.0
        self.pss_credit, self.pss_at = PSS_CREDIT_SECONDS, begin
        self.credit = CREDIT_SECONDS
        self.npss, self.pss_cost = 0, 0.0
        self.moved, self.read_now = 0, set()    # in this sample: KiB by which `shared` changed; who was read
        self.own = 1.0              # Member.own at the last reading of any process
        self.unreadable = False     # a process whose PSS is not ours to see counts as RSS
        self.next_at = begin

    # Which processes.

    def find_tree(self, now):
        """Walking the tree reads every thread, so it is done seldom where there are many."""
        if self.pids and now - self.tree_read < self.tree_seconds / SHARE:
            return
        before = time.thread_time()
        known = set(self.pids)
        self.pids = tree_of(self.parent)[1:]
        self.tree_seconds = time.thread_time() - before
        self.tree_read = now
        self.nprocesses = max(self.nprocesses, len(self.pids))
        for pid in set(self.members) - set(self.pids):
            del self.members[pid]
        # A new process shares with those that are there, so they are all read again.
        if not known.issuperset(self.pids):
            self.due = set(self.pids)

    # How much.

    def read_pss(self, pid, member):
        """KiB, or None. What is shared is the difference within one reading: while it was made,
        the process may have grown."""
        before = time.thread_time()
        text = read_proc(pid, "smaps_rollup")
        pss, rss = field_kib(text, "Pss"), field_kib(text, "Rss")
        cost = time.thread_time() - before
        self.pss_credit -= cost
        self.pss_cost += cost
        if pss is None:
            self.unreadable = self.unreadable or is_forbidden(f"/proc/{pid}/smaps_rollup")
            return None
        self.moved += abs(rss - pss - member.shared)
        member.read_at, member.shared = rss, rss - pss
        member.files = rss - (field_kib(text, "Anonymous") or 0)
        if member.files > 0:
            own = pss - (field_kib(text, "Pss_Anon") or 0)
            self.own = member.own = min(max(own / member.files, 0), 1)
        self.npss += 1
        return pss

    def memory_of(self, pid, again=False):
        """KiB, 0 when it has gone. again: its PSS is read on credit."""
        statm = read_statm(pid)
        if statm is None or statm[0] == 0:
            return 0
        if self.metric == "rss":
            return statm[0]
        member = self.members.get(pid)
        if member is None or member.text != statm[2]:
            member = self.members[pid] = Member(statm, self.own)
        wanted = again or pid in self.due or member.is_stale(statm[0])
        if wanted and self.pss_credit > (-PSS_CREDIT_SECONDS if again else 0):
            self.due.discard(pid)
            pss = self.read_pss(pid, member)
            if pss is not None:
                self.read_now.add(pid)
                return pss
        return member.memory(statm)

    def memory_of_all(self):
        """KiB. What one process shares now, others share with it: where that is much, these are read as well,
        or it would count for them as theirs alone. (A compiler's driver had been read before its child.)"""
        self.moved = 0
        self.read_now = set()
        each = {pid: self.memory_of(pid) for pid in self.pids}
        if self.moved > sum(each.values()) * MOVED:
            each.update({pid: self.memory_of(pid, again=True) for pid in self.pids if pid not in self.read_now})
        return sum(each.values())

    def sample(self, final=False):
        """Takes one now. final: exact, whatever it costs. KiB."""
        before = time.thread_time()
        self.pss_cost = 0.0
        now = time.monotonic()
        self.find_tree(0 if final else now)
        self.pss_credit = min(self.pss_credit + (now - self.pss_at) * PSS_SHARE,
                              PSS_CREDIT_SECONDS)
        before_at, self.pss_at = self.pss_at, now
        if final:
            self.pss_credit = max(self.pss_credit, PSS_CREDIT_SECONDS)
        if self.pss_credit >= PSS_CREDIT_SECONDS:
            self.due = set(self.pids)
        kib = self.memory_of_all()
        if kib:
            self.series.add(now - self.begin, kib)
        cost = time.thread_time() - before
        self.cpu_seconds += cost
        cost -= self.pss_cost   # PSS has a budget of its own
        self.credit = min(self.credit + (now - before_at) * SHARE, CREDIT_SECONDS) - cost
        interval = max(min(self.wanted, (now - self.begin) / EARLY), FIRST_INTERVAL)
        self.next_at = now + (interval if self.credit > 0 else max(interval, cost / SHARE))
        return kib


# --- what a series says ------------------------------------------------------------------------


def thinned(samples, number):
    """At most so many of them, the largest of each group, so that a peak stays."""
    if len(samples) <= number:
        return samples
    step = -(-len(samples) // number)
    return [max(samples[i:i + step], key=lambda sample: sample[1])
            for i in range(0, len(samples), step)]


class Series:
    """Memory over time. samples: [seconds, KiB], of a long run the highest of each stretch; mean and
    peak are of all that was added."""

    def __init__(self):
        self.samples = []
        self.n = self.area = self.peak = self.stretch = 0
        self.first = self.last = None

    def add(self, at, kib):
        if self.n == 0:
            self.first = (at, kib)
        else:
            self.area += (at - self.last[0]) * (self.last[1] + kib) / 2
        self.last = (at, kib)
        self.n += 1
        self.peak = max(self.peak, kib)
        if self.samples and at - self.samples[-1][0] < self.stretch:
            self.samples[-1][1] = max(self.samples[-1][1], kib)
            return
        self.samples.append([at, kib])
        if len(self.samples) > MAX_SAMPLES:
            self.samples = thinned(self.samples, MAX_SAMPLES // 2)
            self.stretch = at / (MAX_SAMPLES // 2)

    def mean(self, seconds):
        """Weighted with time: straight lines between samples, level before the first and after the
        last. None without samples."""
        if self.n == 0:
            return None
        ends = self.first[0] * self.first[1] + max(seconds - self.last[0], 0) * self.last[1]
        return (self.area + ends) / max(seconds, self.last[0])
