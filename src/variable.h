/* SPDX-License-Identifier: MIT */
/*
 * variable.h - which variable of the program an address is, for reports: where it lies in a module's file, which
 * `besom symbolize` turns into a name; or else in which mapping.
 *
 * Any thread; reads /proc/self/maps, takes no memory and no lock but that of the modules.
 */
#ifndef BS_VARIABLE_H
#define BS_VARIABLE_H

#include "stacks.h"

#define BS_VARIABLE_NAME 96

struct bs_variable {
    uintptr_t at; /* 0: nothing is asked of it */
    struct {      /* a stack of one frame, the address; module 0: it is in none */
        struct bs_stack stack;
        uint64_t frame;
    } as;
    uint64_t offset;             /* of the address from the beginning of its mapping, or of the mapping's file */
    char name[BS_VARIABLE_NAME]; /* of the mapping; "": it has none */
    bool is_first_stack;         /* the first thread's stack is there */
};

/* *v is that of no mapping yet. */
void bs_variable_begin(struct bs_variable *v, uintptr_t at);
/* Begun ones: the mapping of each of n. */
void bs_variables_find(struct bs_variable *const *v, size_t n);
/* The stack of one frame; NULL: it is in no module. */
BS_INLINE struct bs_stack *bs_variable_frame(struct bs_variable *v) {
    return v->at != 0 && BS_FRAME_MODULE(v->as.frame) != 0 ? &v->as.stack : NULL;
}

#endif
