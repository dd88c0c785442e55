/* SPDX-License-Identifier: MIT */
/* shim_exec.h - programs that execute others, while no stop is made. See shim_exec.c. */
#ifndef BS_SHIM_EXEC_H
#define BS_SHIM_EXEC_H

/* Before threads exist. */
void bs_shim_exec_start(void);

#endif
