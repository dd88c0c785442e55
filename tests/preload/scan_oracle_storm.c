/* SPDX-License-Identifier: MIT */
/*
 * scan_oracle_storm.c - what goes on beside scan_oracle.c's graphs, which it does not know: threads that
 * come and go, a library that is loaded and unloaded, children that end or scan. See scan_oracle.h.
 */
#include "scan_oracle.h"
#include "scan_drive.h"

#include <dlfcn.h>
#include <sys/wait.h>

static int over; /* [atomic] */
static pthread_t storms[3];
static unsigned nthreads, nloads, nchildren;

static bool is_over(void) {
    return __atomic_load_n(&over, __ATOMIC_RELAXED) != 0;
}

static void *brief(void *arg) {
    static __thread void *block;
    block = malloc(100 + (uintptr_t)arg % 1000);
    usleep((unsigned)((uintptr_t)arg % 7) * 100);
    free(block);
    return arg;
}
static void *make_threads(void *arg) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 * BS_KIB);
    for (uintptr_t i = 0; !is_over(); i++, nthreads++) {
        pthread_t thread;
        BS_CHECK(pthread_create(&thread, &small, brief, (void *)i) == 0, "no thread");
        BS_CHECK((i % 2 == 0 ? pthread_detach(thread) : pthread_join(thread, NULL)) == 0, "detach, join");
        usleep(300);
    }
    pthread_attr_destroy(&small);
    return arg;
}

static void *load_libraries(void *arg) {
    for (; !is_over(); nloads++) {
        void *module = dlopen(getenv("ORACLE_MODULE"), RTLD_NOW | RTLD_LOCAL);
        BS_CHECK(module != NULL, "%s", dlerror());
        void **(*local)(void) = (void **(*)(void))dlsym(module, "scanmod_local");
        BS_CHECK(local != NULL, "no function in the module");
        *local() = malloc(300);
        usleep(500);
        free(*local());
        dlclose(module);
    }
    return arg;
}

static void *make_children(void *arg) {
    const struct scan_drive *drive = dlsym(RTLD_DEFAULT, SCAN_DRIVE_NAME);
    for (; !is_over(); nchildren++) {
        int status;
        pid_t pid = fork();
        BS_CHECK(pid >= 0, "fork");
        if (pid == 0) {
            struct scan_seen seen;
            alarm(PROMISE_CHILD_LIMIT_S);
            if (nchildren % 4 == 3) {
                drive->ask(SCAN_BY_CALLER);
                BS_CHECK(drive->over(&seen) && seen.end == 0, "end %d, world %d", seen.end, seen.world);
            }
            _exit(0);
        }
        BS_CHECK(waitpid(pid, &status, 0) == pid && status == 0, "a child ended with %#x", (unsigned)status);
        usleep(20000);
    }
    return arg;
}

void oracle_begin_storm(void) {
    static void *(*const storm[])(void *) = {make_threads, load_libraries, make_children};
    for (unsigned i = 0; i < 3; i++)
        BS_CHECK(pthread_create(&storms[i], NULL, storm[i], NULL) == 0, "no thread");
}

void oracle_end_storm(void) {
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(storms[i], NULL);
    dprintf(STDOUT_FILENO, "storm: %u threads, %u loads, %u children\n", nthreads, nloads, nchildren);
}
