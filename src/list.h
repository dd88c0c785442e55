/* SPDX-License-Identifier: MIT */
/*
 * list.h - an intrusive doubly linked ring.
 *
 * The head is a link that points to itself while the list is empty; a link that is on no list
 * points to itself as well, so unlinking twice is harmless. The caller holds the list's lock.
 */
#ifndef BS_LIST_H
#define BS_LIST_H

#include "base.h"

struct bs_link {
    struct bs_link *next, *prev;
};

#define BS_LIST_ENTRY(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

BS_INLINE void bs_list_init(struct bs_link *l) {
    l->next = l->prev = l;
}
BS_INLINE bool bs_list_empty(const struct bs_link *l) {
    return l->next == l;
}
BS_INLINE void bs_list_insert_after(struct bs_link *at, struct bs_link *l) {
    l->next = at->next;
    l->prev = at;
    at->next->prev = l;
    at->next = l;
}
BS_INLINE void bs_list_push_front(struct bs_link *head, struct bs_link *l) {
    bs_list_insert_after(head, l);
}
BS_INLINE void bs_list_push_back(struct bs_link *head, struct bs_link *l) {
    bs_list_insert_after(head->prev, l);
}
BS_INLINE void bs_list_remove(struct bs_link *l) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
    bs_list_init(l);
}

#endif
