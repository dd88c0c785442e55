/* SPDX-License-Identifier: MIT */
/*
 * opt.h - the values of the options: plain data, written once by options.c while the process has
 * one thread, read by any layer afterwards.
 *
 * It is NOT the parser. Names, defaults and texts stand in options.def.
 */
#ifndef BS_OPT_H
#define BS_OPT_H

#include "base.h"

#define BS_OPT_BYTES(name, def, words, min, doc) uint64_t name;
#define BS_OPT_PATH_MAX 512

/* A memory limit: none, by the surroundings, in bytes, in percent of the memory there is. */
enum { BS_LIMIT_OFF, BS_LIMIT_AUTO, BS_LIMIT_BYTES, BS_LIMIT_PERCENT };
struct bs_opt_limit {
    unsigned kind;
    uint64_t value;
};

struct bs_opt {
#define BS_OPT_BOOL(name, def, doc) bool name;
#define BS_OPT_ENUM(name, def, words, doc) unsigned name;
#define BS_OPT_SET(name, def, words, doc) unsigned name;
#define BS_OPT_NUM(name, def, min, max, unit, doc) uint64_t name;
#define BS_OPT_LIMIT(name, def, doc) struct bs_opt_limit name;
#define BS_OPT_PATH(name, doc) char name[BS_OPT_PATH_MAX];
#include "options.def"
#undef BS_OPT_BOOL
#undef BS_OPT_ENUM
#undef BS_OPT_SET
#undef BS_OPT_NUM
#undef BS_OPT_LIMIT
#undef BS_OPT_BYTES
#undef BS_OPT_PATH
};

enum { BS_CHECK_NORMAL, BS_CHECK_FULL };
enum { BS_THP_AUTO, BS_THP_EDGE, BS_THP_NEVER, BS_THP_SYSTEM };
enum { BS_ADVICE_DONTNEED, BS_ADVICE_FREE };
enum { BS_DECOMMIT_SOFT, BS_DECOMMIT_HARD };
enum { BS_FOREIGN_IGNORE, BS_FOREIGN_ABORT };
enum { BS_SCAN_MODE_OFF, BS_SCAN_MODE_LEAK, BS_SCAN_MODE_COLLECT, BS_SCAN_MODE_QUARANTINE };
enum { BS_COLLECT_OFF, BS_COLLECT_RECLAIM };
enum { BS_SCAN_WAY_CONCURRENT, BS_SCAN_WAY_COPY };
enum { BS_LOG_TEXT, BS_LOG_JSON };
enum { BS_LOG_AT_EXIT = 1 };
enum { BS_TRACE_SWEEP = 1, BS_TRACE_SCAVENGE = 2, BS_TRACE_SCAN = 4 };

/* The one instance (opt.c), with the defaults of options.def until options.c has read the environment. */
BS_LOCAL extern struct bs_opt bs_opt;

#endif
