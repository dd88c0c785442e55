/* SPDX-License-Identifier: MIT */
/*
 * demangle.c -- by __cxa_demangle of the C++ runtime, which is on nearly every machine and is loaded
 * when the first C++ name comes. c++filt would be a process for it and another package; a demangler
 * of our own, or libiberty's, would be code to keep.
 */
#include "demangle.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef char *demangler(const char *name, char *buffer, size_t *length, int *status);

static demangler *find(void) {
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++abi.so.1", "libc++.so.1"};
    static demangler *found;
    static bool looked;

    for (size_t i = 0; !looked && found == NULL && i < sizeof(runtimes) / sizeof(runtimes[0]);
         i++) {
        void *handle = dlopen(runtimes[i], RTLD_LAZY);
        if (handle != NULL) {
            *(void **)&found = dlsym(handle, "__cxa_demangle");
        }
    }
    looked = true;
    return found;
}

char *bs_demangle(const char *name) {
    int status;
    demangler *demangle = strncmp(name, "_Z", 2) == 0 ? find() : NULL;
    char *plain = demangle != NULL ? demangle(name, NULL, NULL, &status) : NULL;

    return plain != NULL ? plain : strdup(name);
}
