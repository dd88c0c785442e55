# SPDX-License-Identifier: MIT
"""Lock hold times of besom under 64 threads, and what follows for more cores: bench/scale --locks.

Two libraries run the same loads: one configured with --enable-lock-profile says how often each lock is
taken and how long it is held, the usual one says what an operation costs. The model is a closed
queueing network solved exactly (mean value analysis): N cores, each works, takes locks as often
as was measured, and waits where another holds them. Nothing here is read from a machine with more
cores than this one.
"""
import os
import subprocess
import tempfile

from harness import choose_allocators, environment_for, grid, make_head, say

THREADS = 64
SECONDS = 2.0
LOADS = ["own", "hand", "big"]
# Longer holds are those of a holder that had lost its CPU; there are more threads than CPUs here.
PREEMPTED_NS = 50_000
CORES = [1, 2, 8, 32, 64, 128]
# Taken by the helper, and when threads begin and end: so often a second, not so often an operation.
BY_TIME = {"fork", "round", "relief", "borrow", "record", "log", "registry"}
# What the lock's word, the list heads, and the descriptors touched cost when another core had them.
TRANSFERS, TRANSFER_NS = 4, 100


class Lock:
    """A line of the file that the profiling library wrote."""

    def __init__(self, line):
        rank, _, acquired, contended, held, waited, longest, *buckets = line.split()
        self.rank, self.acquired, self.contended = rank, int(acquired), int(contended)
        self.held, self.waited, self.longest = int(held), int(waited), int(longest)
        self.buckets = [tuple(map(int, bucket.split(":"))) for bucket in buckets]


def quantile(buckets, share):
    """Where the bucket begins in which so many of the holds lie below."""
    total, below = sum(n for _, n in buckets), 0
    for begin, n in sorted(buckets):
        below += n
        if below >= share * total:
            return begin
    return 0


def mean_undisturbed(buckets):
    """Mean hold in ns of those that no preemption lengthened: a bucket is 1.19 wide, so middle it."""
    holds = [(begin * 1.1, n) for begin, n in buckets if begin < PREEMPTED_NS]
    total = sum(n for _, n in holds)
    return sum(ns * n for ns, n in holds) / total if total else 0.0


def run_load(binary, library, load, threads, profile=None):
    """(operations, CPU ns an operation)"""
    env = environment_for(library)
    if profile:
        env["BS_LOCK_PROFILE_FILE"] = profile
    done = subprocess.run([binary, load, str(threads), str(SECONDS)], env=env, check=True,
                          capture_output=True, text=True, timeout=120)
    words = done.stdout.split()
    return int(words[2]), float(words[4])


def profile_load(args, load, threads):
    """(locks, operations)"""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "locks")
        ops, _ = run_load(args.binary, args.locks, load, threads, path)
        if not os.path.exists(path):
            return None, ops
        with open(path, encoding="ascii") as file:
            return [Lock(line) for line in file], ops


# --- tables -----------------------------------------------------------------------------------


def rank_row(rank, locks, ops):
    acquired = sum(lock.acquired for lock in locks)
    contended = sum(lock.contended for lock in locks)
    waited = sum(lock.waited for lock in locks)
    merged = [bucket for lock in locks for bucket in lock.buckets]
    late = sum(n for begin, n in merged if begin >= PREEMPTED_NS)
    top = max(lock.acquired for lock in locks)
    return [rank, str(len(locks)), f"{acquired / ops * 1e6:.0f}", f"{100 * top / acquired:.0f} %",
            f"{100 * contended / acquired:.2f} %", f"{mean_undisturbed(merged):.0f}",
            str(quantile(merged, 0.5)), str(quantile(merged, 0.99)), str(quantile(merged, 0.999)),
            str(late), f"{waited / contended / 1000:.0f}" if contended else "–"]


def rank_table(locks, ops):
    ranks = {}
    for lock in locks:
        ranks.setdefault(lock.rank, []).append(lock)
    rows = [rank_row(rank, group, ops) for rank, group in ranks.items()
            if sum(lock.acquired for lock in group) / ops * 1e6 >= 0.5]
    head = ["rank", "locks", "taken, 10⁶ op", "the busiest's", "contended", "mean ns", "p50", "p99",
            "p99.9", "> 50 µs", "wait µs"]
    return grid([head, *sorted(rows, key=lambda row: -float(row[2]))], True)


# --- the model --------------------------------------------------------------------------------


def demands_of(locks, ops, more_ns=0.0):
    """[(rank, ns an operation holds this lock)] of each single lock, the largest first"""
    demands = [(lock.rank, lock.acquired / ops * (mean_undisturbed(lock.buckets) + more_ns))
               for lock in locks if lock.acquired and lock.rank not in BY_TIME]
    return sorted(demands, key=lambda demand: -demand[1])


def throughput(demands, think_ns, cores):
    """Operations a ns of so many cores, by mean value analysis."""
    waiting, rate = [0.0] * len(demands), 0.0
    for n in range(1, cores + 1):
        times = [d * (1 + w) for (_, d), w in zip(demands, waiting)]
        rate = n / (think_ns + sum(times))
        waiting = [rate * t for t in times]
    return rate


def model_rows(load, locks, ops, cpu_ns):
    rows = []
    for name, more in (("as measured", 0.0), ("lines from other cores", TRANSFERS * TRANSFER_NS)):
        demands = demands_of(locks, ops, more)
        inside = sum(d for _, d in demands_of(locks, ops))
        think = max(cpu_ns - inside, 0.0)
        alone = 1 / (think + sum(d for _, d in demands))
        shares = [throughput(demands, think, n) / (n * alone) for n in CORES]
        rank, most = demands[0]
        used = throughput(demands, think, CORES[-1]) * most
        rows.append([load, name, f"{think + sum(d for _, d in demands):.0f}", f"{most:.2f} ({rank})",
                     f"{(think + sum(d for _, d in demands)) / most:.0f}",
                     *(f"{share:.2f}" for share in shares[1:]), f"{used:.2f}"])
    return rows


def run(args, command):
    if not os.path.exists(args.locks):
        say(f"there is no {args.locks}: configure with --enable-lock-profile in another folder, make")
        return 2
    besom = os.path.abspath(args.besom)
    args.locks = os.path.abspath(args.locks)
    allocators = choose_allocators(["besom"], besom, args.micro)
    if not allocators:
        return 2
    head = make_head(allocators, command)
    print(f"{head['date']}: `{head['command']}`\n{head['machine']}\n{head['allocators'][0]}")
    model = []
    for load in LOADS:
        locks, ops = profile_load(args, load, THREADS)
        if not locks:
            say(f"{args.locks} wrote nothing: was it configured with --enable-lock-profile?")
            return 2
        _, cpu_ns = run_load(args.binary, besom, load, THREADS)
        print(f"\n**{load}**, {THREADS} threads, {ops / 1e6:.1f} million operations, "
              f"{cpu_ns:.0f} ns an operation without the profile\n")
        print("\n".join(rank_table(locks, ops)), flush=True)
        model += model_rows(load, locks, ops, cpu_ns)
    print("\nThroughput a core, to one core's, and how much of the time the busiest lock is held at "
          f"{CORES[-1]} cores\n")
    print("\n".join(grid([["load", "holds", "ns/op", "busiest lock, ns/op", "saturates at, cores",
                           *(f"{n}" for n in CORES[1:]), "held"], *model], True)))
    return 0
