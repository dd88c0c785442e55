/* SPDX-License-Identifier: MIT */
/*
 * Promise: libraries that allocate can be loaded and unloaded 1000 times, from the main thread and
 * from others at once, without growth of resident memory; their blocks outlive them; one that is
 * still loaded at exit frees in its destructor.
 *
 * dlmod.so lies beside this program or in .libs there. Two threads besides main.
 */
#include "promise.h"

#include <limits.h>
#include <pthread.h>

enum { nloads = 1000, nwarm = 100 };

typedef void *(*work)(size_t size);

static char path[PATH_MAX + 32];

static void find_module(void) {
    static const char *const places[] = {"dlmod.so", ".libs/dlmod.so"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    BS_CHECK(n > 0, "/proc/self/exe cannot be read");
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", self, places[i]);
        if (access(path, R_OK) == 0)
            return;
    }
    BS_CHECK(0, "dlmod.so is neither beside the program nor in .libs: build it");
}

static void load_once(size_t size) {
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    BS_CHECK(module != NULL, "dlopen: %s", dlerror());
    work call = (work)dlsym(module, "dlmod_work");

    BS_CHECK(call != NULL, "dlsym: %s", dlerror());
    void *p = call(size);

    BS_CHECK(p != NULL, "the module's block of %zu bytes is NULL", size);
    BS_CHECK_ZERO(p, size);
    pattern_fill(p, size, size);
    BS_CHECK(dlclose(module) == 0, "dlclose: %s", dlerror());
    BS_CHECK_PATTERN(p, size, size);
    free(p);
    BS_CHECK(dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere") == NULL, "dlsym found nonsense");
    (void)dlerror();
}

static void *load_in_thread(void *arg) {
    for (int i = 0; i < nloads / 4; i++)
        load_once((size_t)i * 11 + (size_t)(uintptr_t)arg);
    return NULL;
}

int main(void) {
    pthread_t threads[2];

    find_module();
    for (int i = 0; i < nwarm; i++)
        load_once((size_t)i + 1);
    size_t warm = rss_bytes();

    for (int i = nwarm; i < nloads; i++)
        load_once((size_t)i * 7);
    for (uintptr_t i = 0; i < 2; i++)
        BS_CHECK(pthread_create(&threads[i], NULL, load_in_thread, (void *)(i + 1)) == 0, "thread");
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    size_t after = rss_bytes();

    BS_CHECK(after < warm + 8 * BS_MIB, "RSS grew from %zu to %zu in %d loads", warm, after,
             nloads);
    BS_CHECK(dlopen(path, RTLD_NOW) != NULL, "dlopen: %s", dlerror());
    return 0;
}
