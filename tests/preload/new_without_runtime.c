/* SPDX-License-Identifier: MIT */
/*
 * Promise: where there is no C++ runtime that could throw, operator new says that memory is out and ends the program
 * with SIGABRT, and the nothrow kind gives NULL. A runtime that is loaded for a module alone is found.
 *
 * A program in C, one thread; each crime in a child.
 */
#include "promise.h"

#include <signal.h>
#include <sys/wait.h>

static void *symbol(const char *name) {
    void *found = dlsym(RTLD_DEFAULT, name);

    BS_CHECK(found != NULL, "%s", name);
    return found;
}

static void aborts(const char *name, bool aligned) {
    void *(*plain)(size_t) = (void *(*)(size_t))symbol(name);
    void *(*with_alignment)(size_t, size_t) = (void *(*)(size_t, size_t))symbol(name);
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        void *p = aligned ? with_alignment(SIZE_MAX / 4, 64) : plain(SIZE_MAX / 4);
        _exit(p != NULL);
    }
    BS_CHECK(child > 0 && waitpid(child, &status, 0) == child, "fork, waitpid");
    BS_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: the child's status is %#x", name, status);
}

static void give_null(void) {
    static const char tag;
    void *(*plain)(size_t, const void *) = (void *(*)(size_t, const void *))symbol("_ZnwmRKSt9nothrow_t");
    void *(*aligned)(size_t, size_t, const void *) =
        (void *(*)(size_t, size_t, const void *))symbol("_ZnamSt11align_val_tRKSt9nothrow_t");

    BS_CHECK(plain(SIZE_MAX / 4, &tag) == NULL, "nothrow");
    BS_CHECK(aligned(SIZE_MAX / 4, 64, &tag) == NULL, "nothrow, aligned");
    void *p = plain(100, &tag);
    BS_CHECK(p != NULL, "100 bytes");
    free(p);
}

int main(void) {
    if (dlsym(RTLD_DEFAULT, "__cxa_throw") != NULL)
        promise_skip("there is a C++ runtime in every program here");
    give_null();
    aborts("_Znwm", false);
    aborts("_Znam", false);
    aborts("_ZnwmSt11align_val_t", true);
    if (dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL) != NULL)
        give_null(); /* by the runtime, which throws and catches */
    return 0;
}
