/* SPDX-License-Identifier: MIT */
/*
 * Promise: a module whose constructor waits for a thread of its making loads under libbesom-scan.so, whatever that
 * thread calls first. dlopen holds the loader's lock meanwhile, and who looks a name up waits for that.
 *
 * threadmod.so lies beside this program or in .libs there.
 */
#include "promise.h"

static void *load(void) {
    static const char *const places[] = {"threadmod.so", ".libs/threadmod.so"};
    char path[1024];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    BS_CHECK(n > 0, "/proc/self/exe");
    path[n] = '\0';
    char *name = strrchr(path, '/') + 1;
    for (size_t i = 0; i < 2; i++) {
        strcpy(name, places[i]);
        if (access(path, R_OK) == 0)
            return dlopen(path, RTLD_NOW);
    }
    BS_CHECK(0, "threadmod.so is neither beside the program nor in .libs: build it");
    return NULL;
}

int main(void) {
    alarm(30); /* not for ever */
    void *module = load();
    BS_CHECK(module != NULL, "%s", dlerror());
    const int *calls = (const int *)dlsym(module, "threadmod_calls");
    BS_CHECK(calls != NULL && *calls == 10, "%d calls of 10", calls != NULL ? *calls : -1);
    return 0;
}
