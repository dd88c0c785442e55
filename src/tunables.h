/* SPDX-License-Identifier: MIT */
/*
 * tunables.h - every compile-time constant of besom once: value, unit, reason, legal range.
 *
 * What a user may change at run time is in options.def, not here.
 */
#ifndef BS_TUNABLES_H
#define BS_TUNABLES_H

#include "base.h"

/* --- geometry ------------------------------------------------------------------------------- */

/* A page, in bytes: Go's 8 KiB. Half as many page-map entries as 4 KiB and still fine enough that
 * a span of small blocks empties often. */
#define BS_PAGE_SHIFT 13
#define BS_PAGE_SIZE ((size_t)1 << BS_PAGE_SHIFT)

/* An arena: 64 MiB of address space, the unit of the page map. */
#define BS_ARENA_SHIFT 26
#define BS_ARENA_SIZE ((size_t)1 << BS_ARENA_SHIFT)
#define BS_ARENA_PAGES (BS_ARENA_SIZE >> BS_PAGE_SHIFT)

/* A region: the page heap's bitmaps cover 4 MiB, and the heap becomes accessible in such steps, so
 * that overcommit accounting and ulimit -v see what is used, not what is hoped for. */
#define BS_REGION_SHIFT 22
#define BS_REGION_SIZE ((size_t)1 << BS_REGION_SHIFT)
#define BS_REGION_PAGES (BS_REGION_SIZE >> BS_PAGE_SHIFT)
#define BS_ARENA_REGIONS (BS_ARENA_SIZE / BS_REGION_SIZE)

/* A transparent huge page, in bytes, as besom counts them. Where the kernel's differ (OS pages of 16
 * and 64 KiB have larger ones than a region) it leaves them alone. */
#define BS_HUGE_SHIFT 21
#define BS_HUGE_SIZE ((size_t)1 << BS_HUGE_SHIFT)
#define BS_HUGE_PAGES (BS_HUGE_SIZE >> BS_PAGE_SHIFT)
#define BS_REGION_HUGES (BS_REGION_SIZE / BS_HUGE_SIZE)

/* User addresses: 47 bits on x86-64, 48 on arm64 and others. */
#ifdef __x86_64__
#define BS_ADDRESS_BITS 47
#else
#define BS_ADDRESS_BITS 48
#endif
#define BS_MAX_ARENAS ((size_t)1 << (BS_ADDRESS_BITS - BS_ARENA_SHIFT))

/* Pages whose class the fast path of free finds at once: 64 GiB from the first arena on, for 8 MiB of
 * address space. Blocks beyond take the slow door and cost about 30 instructions more. */
#define BS_NEAR_PAGES ((size_t)1 << 23)

/* Where the heap would like to live: a range that neither the kernel's mmap area (0x7f..), nor PIE
 * programs (0x55..), nor the low 32 GiB of the JVM's compressed pointers use, nor programs that map memory at fixed
 * addresses (tests/preload/own_places.c); with 2 TiB behind it to grow. */
#define BS_HEAP_HINT_BASE ((uintptr_t)0x200000000000)
#define BS_HEAP_HINT_SPREAD ((uintptr_t)0x0e0000000000)

/* What /proc/PID/maps calls the heap, where the kernel can. */
#define BS_HEAP_NAME "besom heap"

/* Largest size served from a size class, in bytes; above it a block is a span of its own. */
#define BS_SMALL_MAX ((size_t)32768)
/* Largest request, in bytes: differences of pointers into a block must fit ptrdiff_t. */
#define BS_REQUEST_MAX ((size_t)PTRDIFF_MAX)

/* Pages of a block, at most: what a span counts (32 TiB). More could be had where the kernel overcommits always. */
#define BS_LARGE_PAGES_MAX ((size_t)UINT32_MAX)

/* --- thread caches -------------------------------------------------------------------------- */

/* Capacity of a fresh magazine, in blocks: 8 pointers are one cache line, and a thread that uses
 * a class a few times never needs more. */
#define BS_MAGAZINE_START 8
/* Largest capacity in blocks and in bytes of blocks. 64 KiB bound what one class of one thread may
 * hold, so small blocks may be many: with 256 as the bound, allocating and freeing 1000 blocks of
 * 64 B in turn (bench/micro batch-lifo) took 2.9 times mimalloc's time, all of it flush and refill. */
#define BS_MAGAZINE_MAX 1024
#define BS_MAGAZINE_MAX_BYTES (64 * BS_KIB)
/* So many blocks of up to BS_TINY_MAX bytes a magazine grows to as it is refilled, a word of bits, and not only as it
 * overflows: a thread that allocates and does not free comes to the slow door once for 64 blocks instead of 8. list-1m takes
 * 56 instructions instead of 76 so, shuffle-1m 196 and 215, phases 193 and 211; with no bound 53, 194 and 190 (2026-11-27). */
#define BS_MAGAZINE_WORD 64
/* So many blocks any magazine may grow to, whatever their size. With 2 for blocks of 32 KiB every other call of
 * bench/micro memalign-page went to a span; 8 are 2 % faster still (2026-11-26). */
#define BS_MAGAZINE_LEAST 4
/* And twice as many where that is at most one part in so many of what the heap has in use, divided by the caches there
 * are: bench/micro memalign-page flushes 28 % less often. In every heap it took the peak of trace-git from 5.3 to 6.2 MiB
 * (2026-11-26). With 48 instead of 64 its blocks of 32 KiB have them as well: 0.95 of the CPU time, and peaks of traces are
 * 0.99 to 1.00; with 24 the same (2026-11-28). */
#define BS_MAGAZINE_HEAP_PART 48
/* Capacity that all magazines of one thread / of the process may have beyond the start, in bytes
 * of blocks. 1 MiB a thread saves 2 % of the instructions of bench/micro random-10k and costs bench/micro
 * thread-churn 0.4 MB (2026-11-26). */
#define BS_CACHE_THREAD_BYTES (512 * BS_KIB)
#define BS_CACHE_TOTAL_BYTES (64 * BS_MIB)
/* And one thread at most one part in so many of what the heap has in use, but at least so many bytes: a
 * thread that only frees filled its magazines with blocks that nobody took again. Peak of bench/micro
 * thread-churn: 2.95 MiB without, 2.47 with it. With 8, random-10k, whose heap is 2 MiB, took 8 % more
 * instructions (2026-11-26). */
#define BS_CACHE_HEAP_PART 4
#define BS_CACHE_LEAST_BYTES (64 * BS_KIB)
/* While blocks are sampled (tcache_gate.h): of so many places of a magazine one is a gate, at most; and of so many
 * allocations that meet one, at least, one is sampled, so that gates are no rarer where blocks are large. */
#define BS_GATE_SPACING_MAX 256
#define BS_GATE_HITS_PART 16
/* Before so many bytes more are taken from the kernel, and one part in so many of what the heap has in use, the
 * thread that takes them for a span of so many pages at most gives back what lies unused in its cache. Buffers that
 * all grow (bench/micro realloc-many) left blocks of each size they had there, and each held a span: peak 8.2 and
 * 7.0 MiB. With 64 KiB and a 32nd it is 6.9, and heaps that grow take 4 to 16 % more instructions. Larger classes and
 * longer spans are left alone: with them small spans were made where large blocks had been, and the traces of gcc
 * and git peaked 4 and 12 % higher (2026-11-26). */
#define BS_SPARE_BYTES (1 * BS_MIB)
#define BS_SPARE_PART 4
#define BS_SPARE_PAGES 3
#define BS_SPARE_LAST_CLASS BS_CLASS_OF_SIZE_2048
/* A refill claims at most so many bytes of slots, but at least one slot, and at most so many slots: four words
 * of bits. With one word bench/micro list-1m takes 55.3 instructions and 47.6 so, and a list of 20 000 nodes 5 %
 * more cycles (bench/duel); threads that live shortly (thread-churn) have the same time and peak (2026-11-26). */
#define BS_CLAIM_MAX_BYTES (16 * BS_KIB)
#define BS_CLAIM_MAX 256
/* And up to so many bytes where that is at most one part in so many of what the heap has in use, divided by the caches
 * there are, as long as half of the magazine is left to what is freed: bench/micro cache makes half as many refills and
 * takes 4 % fewer instructions. A 512th took the peak of trace-python up by 1.9 % and its refills down by 40, 32 KiB in
 * every heap the peak of trace-git by 1.9 and its refills by 57 (2026-11-26). */
#define BS_CLAIM_LARGE_BYTES (32 * BS_KIB)
#define BS_CLAIM_HEAP_PART 1024
/* A refill visits at most so many bitmap words, so that a fragmented class stays bounded. */
#define BS_REFILL_MAX_WORDS 16

/* The sizes of a class without a span may be served by another (route.h) if its spans have at least so many pages, and if the
 * other's slots are at most so many times as large, and at most one in so many of them is in use. With 4 of them instead of 2
 * trace-ruby peaks 3 % higher, with spans from 2 pages on trace-redis 1 %; doc/MEASURED.md has more (2026-11-27). */
#define BS_ROUTE_PAGES 3
#define BS_ROUTE_TIMES 2
#define BS_ROUTE_PART 2
/* The first blocks of sizes up to so many bytes are served by powers of two from here to there (route.h). Up to 4096 trace-ruby
 * and trace-python peak 3 to 4 % higher, from 64 on cat has a page or two more; doc/MEASURED.md has more (2026-11-28). */
#define BS_ROUTE_FIRST_MIN 32
#define BS_ROUTE_FIRST_MAX 2048

/* Caches that a walk over all of them visits under one hold of the registry's lock, at most 0.4 us
 * each. */
#define BS_REGISTRY_LOOKS 32

/* --- central, page heap --------------------------------------------------------------------- */

/* Fullness groups of a central list. */
#define BS_GROUPS 8
/* Empty spans that may wait for the sweeper before the thread that empties one more returns a
 * batch itself, and how many it returns at most. With 256, the python trace (bench/replay) peaked at 16.5 MB,
 * with 64 at 14.5; the instructions of list-1m and shuffle-1m are the same within 0.5 % (2026-11-26). */
#define BS_EMPTY_WAITING_MAX 64
#define BS_EMPTY_BATCH 32

/* Large spans that were freed are kept for the next large block of the same length, instead of going through
 * the page heap: spans of so many pages at most, and so many pages in all. While all are of one length also one
 * part in so many of what the heap has in use, but at most BS_KEPT_PAGES_MAX: bench/micro memalign-page, with
 * 100 blocks of 64 KiB among 17 MiB, takes 4 % less instructions so. With several lengths that cost 1.2 %
 * of the peak of large-random (2026-11-26). 256 KiB is what files are often read into: bench/micro realloc-shrink,
 * which shrinks one such block in 64 calls, takes 155 instructions a call and 185 with 16 pages, large-random the
 * same time. Where more than half of so many wait, a block that finds none of about its length has one of them swapped,
 * so that not as many wait as could: large-threads has the same peak with 96 as it had with 64 before that, and 80 before
 * threads handed on what they have too many of when they miss (2026-11-28). */
#define BS_KEPT_SPAN_PAGES 32
#define BS_KEPT_PAGES 96
#define BS_KEPT_HEAP_PART 8
#define BS_KEPT_PAGES_MAX 256
/* And each thread keeps up to eight of its own (tcache_kept.h), of so many pages in all, but not more than its share of
 * so many bytes, or of a part of what the heap has in use; one span in any case, and the last one may be too many, by half of
 * that. With 64 pages 8 threads that use 70 MiB, in 24 lengths, took 0.90 of the CPU time that they take without, and 1.10 of
 * the memory; with 32 it is 0.95 and 1.03. */
#define BS_KEPT_THREAD_PAGES 32
#define BS_KEPT_THREADS_BYTES (768 * BS_KIB)
#define BS_KEPT_THREADS_PART 16
/* A block may get a span, of its thread's or one that waits, that is longer by one part in so many. Of a million blocks of
 * bench/micro large-threads 516, 377 and 323 thousand need new spans with 8, 4 and 3, and its peak is 9.85, 10.08 and 10.23
 * MiB (2026-11-27). */
#define BS_KEPT_SLACK_PART 4
/* So many of their blocks are counted together. */
#define BS_KEPT_COUNTED 64

/* From this size on, in bytes, a large block that cannot grow in place is moved by mremap instead
 * of copied. Two measurements pull apart (2026-11-22, medians of 5, against copying always): blocks
 * that grow once (bench/micro realloc-once) take 0.33 of the time and 465 instead of 630 MB at the
 * peak, and that ratio holds down to 64 KiB; a vector that is grown again and again (bench/micro
 * realloc-vector) takes 1.3 times as long, since the pages it left behind are gone. */
#define BS_MREMAP_MIN_BYTES (1 * BS_MIB)
/* From this size on, in bytes, a large block's memory goes back when it is freed. It is where glibc's
 * threshold for mappings of their own ends, so that no program waits longer for its pages than it does there;
 * smaller ones are kept a moment, since blocks of 5 to 25 MB in turn (bench/micro large-turn) take three
 * times as long without. */
#define BS_LARGE_GIVE_BYTES (32 * BS_MIB)
/* From this size on, in bytes, what is dirty of a block from calloc loses its memory instead of being
 * cleared, while the last one that was watched used at most this part of its own (clear.h). A fifth used costs
 * as much either way at 16 MiB (1.84 and 1.96 ms for calloc, write, free) and 1.6 times at 4 and 8, where
 * the same block in turn stays in the processor's cache; with several that do not (bench/micro
 * calloc-large) CPU time is 0.89 with 4 MiB here and 1.09 with 8. All used: 3 times (2026-11-26). */
#define BS_CLEAR_EMPTY_BYTES (4 * BS_MIB)
#define BS_CLEAR_SPARSE_PART 4
/* In the part of such a block that is likely to be used, so many OS pages without memory between others are
 * cleared as these are: a system call costs as much as some page faults. */
#define BS_CLEAR_GAP_PAGES 4
/* So many others that could be watched come before a watched block that still lives is given up. */
#define BS_CLEAR_OTHERS 64
/* Live blocks moved by mremap, at most: each may cost two mappings of its own; the kernel allows
 * a process 65530. Beyond it blocks are copied. */
#define BS_MREMAP_BUDGET 4096

/* Borders between differently advised huge pages of the heap, at most: each costs a mapping. */
#define BS_THP_BORDERS_MAX 1024

/* Runs of pages that decommit:hard closes, at most: each costs up to two mappings. */
#define BS_CLOSED_RUNS_MAX 1024
/* --- the memory limit (limit.h) ---------------------------------------------------------------- */

/* The least limit that can be set: below it nothing works, and a forgotten suffix is likely. */
#define BS_LIMIT_MIN_BYTES (1 * BS_MIB)
/* limit:auto takes so much of the cgroup's limit, in percent: page tables, kernel stacks, sockets
 * and files that are being written are charged there as well. */
#define BS_LIMIT_AUTO_PCT 95
/* Pressure begins at so many percent of the limit; free memory is brought down to so many (Go's
 * 95 %: so that the helper, not a thread in malloc, does most of it). */
#define BS_LIMIT_NEAR_PCT 90
#define BS_LIMIT_GOAL_PCT 95
/* Synchronous help begins at the limit less 1/32 of it, when so many bytes were taken beyond, and
 * gives back at least (if there are) and at most so many bytes a call. A thread owes 256 KiB before
 * it pays, so that scattered single pages never cost a system call each. The most takes about 5 ms. */
#define BS_LIMIT_BRIM_PART 32
#define BS_LIMIT_OWED_BYTES (256 * BS_KIB)
#define BS_LIMIT_HELP_MIN_BYTES (1 * BS_MIB)
#define BS_LIMIT_HELP_MAX_BYTES (64 * BS_MIB)
/* Where what is in use exceeds the limit by itself, 1/4 of that excess may be free dirty memory on top.
 * Without it a program that took and gave 50 MiB at random beside 100 MiB live under limit:50M made
 * 57000 steps instead of 268000 in 3 s (tests/preload/limit_exceeded): every page was faulted in
 * again, and the limit was not kept either way. */
#define BS_LIMIT_SLACK_PART 4
/* Free dirty bytes that are not worth it even then. */
#define BS_LIMIT_DREGS_BYTES (64 * BS_KIB)
/* PSI: some task waited for memory for 10 % of the last ten seconds, in 1/100 %. */
#define BS_LIMIT_STALL_PCM 1000
/* How often cgroup files are read while the helper runs, and under pressure, in ms. */
#define BS_LIMIT_LOOK_MS 5000
#define BS_LIMIT_LOOK_NEAR_MS 1000
/* Under pressure: the helper's share of the CPU is so many times scavenge_cpu, at most so many
 * percent, and while the limit is exceeded its tick is so many ms. */
#define BS_LIMIT_CPU_FACTOR 10
#define BS_LIMIT_CPU_MAX_PCT 50
#define BS_LIMIT_TICK_MS 10
/* limit_hard: a request that would be refused has all caches and free memory given back first, once
 * in so many ns. */
#define BS_LIMIT_ROOM_NS 1000000000u
/* And with blocks that are held back it is tried so often, since other threads want the same room. */
#define BS_LIMIT_ROOM_TRIES 8
/* Slow visits between two trim passes of a thread cache, without and under pressure. */
#define BS_TRIM_VISITS 1024
#define BS_TRIM_VISITS_NEAR 64

/* --- sampled stacks --------------------------------------------------------------------------- */

/* Distinct stacks that are kept, at most: about 300 bytes each. LeakSanitizer stops at 5000. */
#define BS_STACKS_MAX 16384
/* Modules, at most. */
#define BS_MODULES_MAX 1024
/* The smallest interval of sampling by bytes: below it, sample:all is meant. */
#define BS_SAMPLE_MIN_BYTES (1 * BS_KIB)

/* --- background work ------------------------------------------------------------------------ */

/* The background thread is created when so many bytes of pages have been in spans. */
#define BS_BACKGROUND_THRESHOLD_BYTES (8 * BS_MIB)
/* Its tick, in ms, while there is work; it ends after so many ticks without any. */
#define BS_TICK_MS 100
#define BS_IDLE_TICKS 20
/* One that stays for a report or a scan sleeps until that is due; where the process has rights to give up it looks whether
 * that was done, every so many ns. */
#define BS_RIGHTS_LOOK_NS UINT64_C(1000000000)
/* A round looks at so many thread caches at least, and at each of them within so many ticks, so
 * that all are seen before the helper ends. */
#define BS_IDLE_ROUND_LOOKS 256
#define BS_IDLE_LAP_TICKS 16
/* Looks at a cache that does not change, and cannot be had, before it is left alone until it does.
 * With 3, 4 of 200 threads kept theirs on a machine of 2 CPUs: they had waited for a CPU that long. */
#define BS_IDLE_LOOKS_MAX 64
/* A cache in which there were at most so many bytes, so often in a row, is left alone while there are not more in it, and
 * not waited for: of all such caches together as much as BS_RETAIN_MIN_BYTES. redis-server's timer, which allocates once
 * a second, kept the helper for ever: 593 wakes a minute, and 20 visits of the slow door (2026-11-27). */
#define BS_IDLE_LITTLE_BYTES (64 * BS_KIB)
#define BS_IDLE_LITTLE_DRAINS 4
/* A round stops asking after so long, in ns; borrowing one cache takes about 20 us. */
#define BS_IDLE_MAX_WORK_NS 5000000u
/* No page allocated from or freed to the page heap for so long, in ms: the process is idle and
 * the slack above the pages in use is given back too. */
#define BS_IDLE_MS 3000
/* Free pages kept ready above the decayed peak, in percent of it (Go's retainExtraPercent). */
#define BS_RETAIN_EXTRA_PCT 10
/* Free dirty bytes that are never worth a system call. */
#define BS_RETAIN_MIN_BYTES (256 * BS_KIB)
/* Pages in use of a region's 512 from which it is dense (Go's 96.875 %). */
#define BS_DENSE_PAGES 496
/* thp:auto, where the kernel waits for advice: a heap that uses so much gets huge pages as it grows.
 * What they cost is at most the huge page that is being filled, 2 MiB; what they save is in
 * doc/DESIGN.md section 8. */
#define BS_THP_GROWN_BYTES (16 * BS_MIB)
/* But not for a block longer than that: what is asked for at once may be used sparsely. For one up to the second length they
 * are asked for as well if as it grew last, in so many regions, all but one page in four came into memory. */
#define BS_THP_GROWN_BLOCK_BYTES (256 * BS_KIB)
#define BS_THP_GROWN_LONG_BYTES (2 * BS_MIB)
#define BS_THP_GROWN_REGIONS 2
#define BS_THP_GROWN_PART 4
/* Nor for a block that grew, but for what it grew by, from a length of so much on, if so many of the last OS pages that
 * it had before are in memory, or all but one in BS_THP_FILLED_PART of them. */
#define BS_THP_VECTOR_BYTES (16 * BS_MIB)
#define BS_THP_FILLED_PAGES 2048
#define BS_THP_FILLED_PART 16

/* And not for a while where one takes longer, in ns of CPU time: 512 small pages take 0.9 to 1.5 ms, a huge page
 * 0.14 to 0.3, and 4 in a virtual machine whose host has taken back what lay free (free page reporting; 2026-11-26,
 * 160 MiB touched with and without advice, after 6 s and at once). */
#define BS_THP_SLOW_NS 1000000u

/* One advice releases at most so many bytes, so that a page-heap neighbour never waits long. */
#define BS_SCAVENGE_QUANTUM_BYTES (2 * BS_MIB)
/* The kernel's setting of huge pages is read again after so long, in ns. */
#define BS_THP_REFRESH_NS 10000000000u
/* Resident bytes of a huge page's 2 MiB from which it is dense: the same 97 %. */
#define BS_DENSE_BYTES (BS_HUGE_SIZE / 512 * BS_DENSE_PAGES)
/* A look at the huge pages stops after so long, in ns; one takes about 2 us. */
#define BS_DENSITY_MAX_WORK_NS 5000000u
/* Work at the slow door with background:off, in bytes a call. */
#define BS_SCAVENGE_PIECE_BYTES (512 * BS_KIB)
/* The clock is asked whether such work is due at one slow door in so many and one, while those before took
 * less than so many ns. Each time it was 7 % of the instructions of bench/micro memalign-ladder, whose heap
 * of 4 MiB has no helper (2026-11-26). */
#define BS_PIECE_SKIPS 15u
#define BS_PIECE_BUSY_NS 10000000u
/* Regions of 4 MiB whose spans are searched for holes in such a call. */
#define BS_HOLES_PIECE_REGIONS 4
/* Regions that a search for dirty pages looks at under one hold of the page-heap lock: each may cost
 * 0.1 us, for it is in no cache. */
#define BS_DIRTY_LOOKS 32
/* Least work a wake of the background scavenger, in ns, and the most. */
#define BS_SCAVENGE_MIN_WORK_NS 1000000u
#define BS_SCAVENGE_MAX_WORK_NS 10000000u
/* Ticks that a pause lasts at most, whatever was overspent. */
#define BS_PAUSE_MAX_TICKS 20
/* CPU time in ns that may be saved up, and what a helper begins with: work comes in bursts when a
 * program falls idle, and must not take minutes then. */
#define BS_CREDIT_MAX_NS 500000000
#define BS_CREDIT_START_NS 300000000
/* The same for scans by interval, whose price comes at once: a second is what 600 MB of small blocks that lie at random
 * need. What one waits at most for what others have cost. */
#define BS_SCAN_CREDIT_NS 1000000000
#define BS_SCAN_WAIT_MAX_NS 3600000000000

/* --- threads that stand still (text.h) ------------------------------------------------------ */

/* Any address of besom's code so near to a stopped thread's stack pointer counts as a return address.
 * The leaves of libc that besom calls need 200 bytes at most (a clock asked of the kernel). */
#define BS_TEXT_NEAR_BYTES 512
/* So far up signal frames are looked for: what a program's handler has put on the stack. */
#define BS_TEXT_FAR_BYTES (256 * BS_KIB)

/* --- stopping the world (world.h) ----------------------------------------------------------- */

/* A thread that blocks the signal is looked at so often, with such pauses in ns, before a stop is
 * given up for it, without anybody having been stopped: libc blocks all signals for a moment where it
 * makes threads and processes. A look at one that is asleep counts more than at one that runs, and none
 * at one that has waited for a CPU since the last look, which it may do for long where there are few. */
#define BS_WORLD_LOOKS 64
#define BS_WORLD_LOOK_NS 500000u
#define BS_WORLD_ASLEEP_WEIGHT 4
/* Threads that do not answer are looked after so often, in ns; and so many looks in a row find one
 * blocking the signal before it is given up: it has begun to since. */
#if BS_SANITIZE_THREAD /* most signals find a thread in the sanitizer's library, and are lost (os_tsan.c) */
#define BS_WORLD_SILENCE_NS UINT64_C(100000)
#define BS_WORLD_RESEND_NS UINT64_C(100000)
#define BS_WORLD_RESEND_GROWTH 1
#define BS_WORLD_BLOCKED_LOOKS 400
#else
#define BS_WORLD_SILENCE_NS UINT64_C(2000000)
#define BS_WORLD_RESEND_NS UINT64_C(10000000)
#define BS_WORLD_RESEND_GROWTH 2
#define BS_WORLD_BLOCKED_LOOKS 20
#endif
/* Threads inside besom are let run on so often: of 64 threads that spend half of their time in malloc
 * one is inside after 10 turns in 16 stops. A turn gives them 20 us, and twice that at the next, up to
 * 320 us: most operations take less than 1 us; 20 ms in all. */
#define BS_WORLD_TURNS 64
#define BS_WORLD_TURN_NS UINT64_C(20000)
#define BS_WORLD_TURN_DOUBLINGS 4
/* After so many turns threads that free much are held up (warden.c): they may be inside nearly all the time,
 * where large blocks come and go. */
#define BS_WORLD_QUIET_TURN 6

/* --- a scan (scan.h) ---------------------------------------------------------------------------- */

/* Heap and roots of so many bytes are searched while the program waits: at 1 GB/s that takes 8 ms, and
 * a copy has its own price. Where there can be no copy, so many. */
#define BS_SCAN_IN_PLACE_BYTES (8 * BS_MIB)
#define BS_SCAN_NO_COPY_BYTES (256 * BS_MIB)
/* Ranges of roots for which there is room at first. */
#define BS_SCAN_ROOTS 4096
/* Words kept beside them: three of each thread, and pointers in memory that the copy would not have (V8
 * marks all of its heap so). Untouched ones are in no memory. */
#define BS_SCAN_WORDS (8 * BS_MIB)
/* What the kernel copies for a scan at once, of memory that others may take away: by 4 KiB it takes 2.2 us for each of
 * python3's 372 such pages. */
#define BS_SCAN_PART_BYTES (32 * BS_KIB)
/* Of the searcher's stack, 1 MiB. */
#define BS_SCAN_STACK_RANGES 65536
/* A search that marks while the program runs, of more than so many bytes: roots of one part in so many of what
 * is searched are read in its stops, at 3 to 4 GB/s; a copy of the whole takes 1 ms for 20 MiB in small pages.
 * What was written meanwhile is read again so often at most, until it is so little. It is given up if it is so
 * much then, and in the stop after so many ns. There is room for so many words of unmarked blocks, and two for
 * each page. */
#define BS_SCAN_CONCURRENT_BYTES BS_MIB
#define BS_SCAN_ROOTS_PART 8
#define BS_SCAN_REREADS 4
#define BS_SCAN_REREAD_BYTES (512 * BS_KIB)
#define BS_SCAN_REREAD_MAX_BYTES (16 * BS_MIB)
#define BS_SCAN_FINISH_NS UINT64_C(20000000)
#define BS_SCAN_CANDIDATES_MIN 4096
/* Who waits for the round while that is done has so many ns to enter it before a copy is made. */
#define BS_SCAN_PASS_NS UINT64_C(2000000)
/* Memory that the program may take away is copied in pieces of so many bytes before it is read. */
#define BS_TRACE_COPY_BYTES ((size_t)4096)
/* Bytes between sampled blocks while scans are on and nothing else was said. */
#define BS_SCAN_SAMPLE_BYTES (512 * BS_KIB)
/* Threads of a copy that search it, at most; unless it was said how many, one for each CPU from so many bytes
 * on, and BS_SCAN_SEARCHERS_AUTO at most: a search waits for memory more than for a CPU. */
#define BS_SCAN_SEARCHERS 16
#define BS_SCAN_SEARCHERS_AUTO 4
#define BS_SCAN_SEARCHERS_BYTES (256 * BS_MIB)
/* A copy may have a quarter of its size for itself, and so much in any case; looks at it come so often, in ns,
 * and take at most one part in BS_BUDGET_REST of the time; the limits are read again after so long. */
#define BS_BUDGET_AUTO_PART 4
#define BS_BUDGET_AUTO_MIN_BYTES (64 * BS_MIB)
#define BS_BUDGET_LOOK_NS UINT64_C(50000000)
#define BS_BUDGET_REST 20
#define BS_BUDGET_LIMITS_NS UINT64_C(500000000)
/* After a scan whose copy was ended the next comes after twice the time, and so on, so often at most. */
#define BS_SCAN_DOUBLINGS 4
/* Between two scans that count for scan:collect, at least. */
#define BS_COLLECT_SPACING_NS UINT64_C(60000000000)
/* A stop is given up, and a copy ended if nothing else was said, after so many ns. (In the tests' copy of the core a
 * stop is not: whether each thread gets a CPU in half a second is the machine's matter.) */
#if BS_FAULTS
#define BS_SCAN_STOP_NS UINT64_C(100000000000)
#else
#define BS_SCAN_STOP_NS UINT64_C(500000000)
#endif
#define BS_SCAN_TIME_NS UINT64_C(60000000000)

/* --- quarantine (warden.h) ---------------------------------------------------------------------- */

/* A thread tells of what it has freed when it is so much, or as much as it has told of. */
#define BS_QUARANTINE_TELL_BYTES (32 * BS_KIB)
/* A large block of so many bytes is cleared when it is freed; the memory of a longer one goes back to the OS,
 * and one part in so many of its bytes counts: of blocks of 300 kB the tables of the page map, the span and the
 * bits in its arena are some 4 KiB. */
#define BS_QUARANTINE_CLEAR_BYTES (64 * BS_KIB)
#define BS_QUARANTINE_LARGE_PART 64
/* Freed bytes that are not worth a search, whatever the share of what it would read. */
#define BS_QUARANTINE_FLOOR_BYTES (2 * BS_MIB)
/* Where so many percent of it were freed, or twice the share, and so many bytes, the thread that frees
 * searches itself. */
#define BS_QUARANTINE_HARD_PCT 33
#define BS_QUARANTINE_HARD_BYTES (4 * BS_MIB)
/* To read less than so much while all stand the helper is not called: it would come when most is done. */
#define BS_QUARANTINE_COMPANY_BYTES (8 * BS_MIB)
/* Searches take at most one part in so many of the time, below that. */
#define BS_QUARANTINE_REST 10
/* Where so many bytes less are in use than there were, and one part in so many of these, the memory of the tables that were
 * for them is given back; so long after the last time, in ns, at the earliest. */
#define BS_QUARANTINE_TRIM_BYTES (8 * BS_MIB)
#define BS_QUARANTINE_TRIM_PART 4
#define BS_QUARANTINE_TRIM_NS UINT64_C(1000000000)
/* Free pages with memory that were not needed between so many searches go back, if they are so many bytes; in so much time. */
#define BS_QUARANTINE_SPARE_SEARCHES 2
#define BS_QUARANTINE_SPARE_BYTES (512 * BS_KIB)
#define BS_QUARANTINE_SPARE_NS UINT64_C(2000000)
/* After a search that could not be made the next one waits so long, in ns, and twice that the next time. */
#define BS_QUARANTINE_RETRY_NS UINT64_C(100000000)
#define BS_QUARANTINE_RETRY_MAX_NS UINT64_C(60000000000)
/* Sampled blocks in quarantine that something is known of; such a one takes 100 bytes. */
#define BS_BYGONE_MAX (256 * BS_KIB)
/* What is kept twice is looked for once more (referrers.h): so many blocks at most, of a stack so many, and
 * so many words that point to each are told. */
#define BS_REFERRERS_BLOCKS 256
#define BS_REFERRERS_OF_STACK 2
#define BS_REFERRERS_LOOKS 2 /* and each block is looked for so often */
#define BS_REFERRERS_EACH 3
/* That look takes so much CPU time at most, in ns: while all stand, at roots, and while they run, at the heap. */
#define BS_REFERRERS_ROOTS_NS UINT64_C(20000000)
#define BS_REFERRERS_HEAP_NS UINT64_C(500000000)
/* Page numbers that its filter tells apart, and bytes of the heap that are copied at once. */
#define BS_REFERRERS_FILTER 65536
#define BS_REFERRERS_COPY_BYTES (64 * BS_KIB)
/* Stacks that blocks were freed from of which it is known that they were told. */
#define BS_DANGLING_STACKS 4096
/* What a search without a stop copies at once of memory that may go meanwhile. */
#define BS_LINEAR_COPY_BYTES (64 * BS_KIB)
/* A concurrent search that has read so much reads what was written meanwhile once more before it stops the
 * program. */
#define BS_QUARANTINE_AHEAD_BYTES (16 * BS_MIB)
/* What the kernel says of mappings (smaps) is read again after so long, in ns: it walks all page tables. */
#define BS_QUARANTINE_LEARN_NS UINT64_C(10000000000)

_Static_assert(BS_PAGE_SIZE == 8192, "size classes are generated for 8 KiB pages");
_Static_assert(BS_REGION_PAGES % 64 == 0, "a region's bitmap is whole words");
_Static_assert(BS_MAGAZINE_START <= BS_MAGAZINE_MAX, "magazines only grow");
_Static_assert(BS_KEPT_SPAN_PAGES < 64, "lengths of kept spans are bits of a word");
_Static_assert(BS_SMALL_MAX % BS_PAGE_SIZE == 0, "the first large size starts at a page");

#endif
