/* SPDX-License-Identifier: MIT */
/*
 * opt.c - the one instance of the option values, holding the defaults of options.def.
 *
 * malloc is called before any constructor has run; it finds the defaults here. options.c writes
 * the values of the environment once, while the process has one thread.
 */
#include "opt.h"

struct bs_opt bs_opt = {
#define BS_OPT_BOOL(name, def, doc) .name = def,
#define BS_OPT_ENUM(name, def, words, doc) .name = def,
#define BS_OPT_SET(name, def, words, doc) .name = def,
#define BS_OPT_NUM(name, def, min, max, unit, doc) .name = def,
#define BS_OPT_LIMIT(name, def, doc) .name = {def, 0},
#define BS_OPT_BYTES(name, def, words, min, doc) .name = def,
#define BS_OPT_PATH(name, doc) .name = "",
#include "options.def"
#undef BS_OPT_BOOL
#undef BS_OPT_ENUM
#undef BS_OPT_SET
#undef BS_OPT_NUM
#undef BS_OPT_LIMIT
#undef BS_OPT_BYTES
#undef BS_OPT_PATH
};
