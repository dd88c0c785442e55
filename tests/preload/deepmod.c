/* SPDX-License-Identifier: MIT */
/*
 * A shared object for deepbind.c: it allocates and frees for its caller, and calls a function that the program
 * has, too. It is NOT a test; it includes nothing of the tests and is built as deepmod.so.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void *deepmod_malloc(size_t size);
void *deepmod_calloc(size_t size);
void *deepmod_aligned(size_t size);
char *deepmod_copy(const char *text);
void *deepmod_realloc(void *p, size_t size);
size_t deepmod_usable(void *p);
void deepmod_free(void *p);
int deepmod_choice(void);
int deepmod_chosen(void);

static void *early;

__attribute__((constructor)) static void load(void) {
    early = malloc(1000);
}
__attribute__((destructor)) static void unload(void) {
    free(early);
}

void *deepmod_malloc(size_t size) {
    return malloc(size);
}
void *deepmod_calloc(size_t size) {
    return calloc(1, size);
}
void *deepmod_aligned(size_t size) {
    void *p;
    return posix_memalign(&p, 256, size) == 0 ? p : NULL;
}
char *deepmod_copy(const char *text) {
    return strdup(text);
}
void *deepmod_realloc(void *p, size_t size) {
    return realloc(p, size);
}
size_t deepmod_usable(void *p) {
    return malloc_usable_size(p);
}
void deepmod_free(void *p) {
    free(p);
}

int deepmod_choice(void) {
    return 2;
}
int deepmod_chosen(void) {
    return deepmod_choice();
}
