/* SPDX-License-Identifier: MIT */
/*
 * Promise: a module that was loaded with RTLD_DEEPBIND uses the program's malloc and free: blocks pass between
 * the two. It still finds its own functions before the program's, it is found by the program's RUNPATH, and
 * libc's mappings are as they were.
 *
 * deepmod.so lies in .libs beside this program. Four threads load it at once, since the first call is special.
 */
#include "promise.h"

#include <pthread.h>

enum { nthreads = 4, nsizes = 40 };

/* The module has one of this name, too. */
int deepmod_choice(void);
__attribute__((visibility("default"))) int deepmod_choice(void) {
    return 1;
}

static pthread_barrier_t all;

static void *symbol(void *module, const char *name) {
    void *found = dlsym(module, name);

    BS_CHECK(found != NULL, "dlsym: %s", dlerror());
    return found;
}

/* A sum of the lines of /proc/self/maps that name libc, with their rights. */
static uint64_t libc_mappings(void) {
    static char maps[1 << 18];
    size_t n = 0;
    uint64_t sum = 0;
    int fd = open("/proc/self/maps", O_RDONLY);

    BS_CHECK(fd >= 0, "/proc/self/maps cannot be read");
    for (ssize_t got = 1; got > 0 && n < sizeof maps - 1; n += (size_t)got)
        BS_CHECK((got = read(fd, maps + n, sizeof maps - 1 - n)) >= 0, "read");
    close(fd);
    maps[n] = '\0';
    for (char *line = strtok(maps, "\n"); line != NULL; line = strtok(NULL, "\n"))
        if (strstr(line, "/libc.so.6") != NULL)
            for (const char *c = line; *c != '\0'; c++)
                sum = sum * 31 + (unsigned char)*c;
    BS_CHECK(sum != 0, "libc.so.6 is not mapped");
    return sum;
}

static void exchange(void *module) {
    void *(*module_malloc)(size_t) = (void *(*)(size_t))symbol(module, "deepmod_malloc");
    void *(*module_calloc)(size_t) = (void *(*)(size_t))symbol(module, "deepmod_calloc");
    void *(*module_aligned)(size_t) = (void *(*)(size_t))symbol(module, "deepmod_aligned");
    void *(*module_realloc)(void *, size_t) = (void *(*)(void *, size_t))symbol(module, "deepmod_realloc");
    char *(*module_copy)(const char *) = (char *(*)(const char *))symbol(module, "deepmod_copy");
    size_t (*module_usable)(void *) = (size_t (*)(void *))symbol(module, "deepmod_usable");
    void (*module_free)(void *) = (void (*)(void *))symbol(module, "deepmod_free");

    for (size_t i = 0, size = 1; i < nsizes; i++, size += size / 2 + 1) {
        void *p = malloc(size);

        BS_CHECK(module_usable(p) >= size, "the module does not know a block of %zu bytes", size);
        p = module_realloc(p, size + 100);
        BS_CHECK(p != NULL, "the module cannot resize a block of %zu bytes", size);
        module_free(p);
        p = realloc(module_malloc(size), size * 2);
        BS_CHECK(p != NULL, "a block of %zu bytes of the module cannot be resized", size);
        free(p);
        free(module_calloc(size));
        free(module_aligned(size));
    }
    free(module_copy("text"));
}

static void *load(void *arg) {
    (void)arg;
    pthread_barrier_wait(&all);
    void *module = dlopen("deepmod.so", RTLD_LAZY | RTLD_LOCAL | RTLD_DEEPBIND);

    BS_CHECK(module != NULL, "dlopen: %s", dlerror());
    exchange(module);
    return module;
}

int main(void) {
    pthread_t threads[nthreads];
    void *module = NULL;
    uint64_t before = libc_mappings();

    BS_CHECK(pthread_barrier_init(&all, NULL, nthreads) == 0, "barrier");
    for (int i = 0; i < nthreads; i++)
        BS_CHECK(pthread_create(&threads[i], NULL, load, NULL) == 0, "thread");
    for (int i = 0; i < nthreads; i++)
        BS_CHECK(pthread_join(threads[i], &module) == 0, "join");
    int (*chosen)(void) = (int (*)(void))symbol(module, "deepmod_chosen");

    BS_CHECK(chosen() == 2, "the module has the program's function instead of its own");
    BS_CHECK(libc_mappings() == before, "libc's mappings have changed");
    return 0;
}
