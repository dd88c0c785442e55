/* SPDX-License-Identifier: MIT */
/*
 * options.h - reads the environment into bs_opt, strictly and kindly: what is unknown or out of
 * range is named on stderr with the nearest known word, and the default stays.
 *
 * Grammar: BESOM_CONF=key:value,key:value ... and each key alone as BESOM_<KEY>=value, which wins.
 * Called once, while the process has one thread. No lock, no allocation.
 */
#ifndef BS_OPTIONS_H
#define BS_OPTIONS_H

#include "opt.h"

/* env: NULL-terminated "NAME=value" strings. Ignored (with bs_opt left alone) under AT_SECURE. */
void bs_options_read(char *const *env);

/* One "key" and "value"; `from` names the source in messages. False: a message was printed. */
bool bs_options_set(const char *key, size_t key_len, const char *value, size_t value_len,
                    const char *from);

#endif
