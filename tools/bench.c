/* SPDX-License-Identifier: MIT */
/*
 * bench.c -- `besom bench`: finds python3 and the scripts in tools/bench/, tells them where the launcher
 * and the library are, and becomes python3.
 *
 * What the arguments mean is known by the scripts (options.py); a fault of theirs exits
 * with 2, what is wrong before they run with 125, as everything of the launcher. No threads.
 */
#include "bench.h"
#include "resolve.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif
#ifndef BESOM_PKGDATADIR
#define BESOM_PKGDATADIR "/usr/local/share/besom"
#endif

#define MAIN_SCRIPT "bench/main.py"

/* The directory of this executable with its name cut off, and the whole; false when unknown. */
static bool find_self(char *self, char *directory) {
    ssize_t len = readlink("/proc/self/exe", self, PATH_MAX - 1);

    if (len <= 0) {
        return false;
    }
    self[len] = '\0';
    memcpy(directory, self, (size_t)len + 1);
    *strrchr(directory, '/') = '\0';
    return true;
}

/* In the build tree, beside its sources, where an installation has them. */
static char *find_script(const char *directory) {
    static const char *const places[] = {
        MAIN_SCRIPT,
        "tools/" MAIN_SCRIPT,
        "../tools/" MAIN_SCRIPT,
        "../share/besom/" MAIN_SCRIPT,
    };

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char path[PATH_MAX];
        int written = snprintf(path, sizeof(path), "%s/%s", directory, places[i]);
        if (written > 0 && (size_t)written < sizeof(path) && access(path, R_OK) == 0) {
            return realpath(path, NULL);
        }
    }
    return realpath(BESOM_PKGDATADIR "/" MAIN_SCRIPT, NULL);
}

static int out_of_memory(void) {
    fprintf(stderr, "besom: bench: %s\n", strerror(errno));
    return BS_EXIT_LAUNCHER;
}

/* Python has no sys.stdout where there is no file, and then not even a message. A file that cannot be
 * written says what is wrong. */
static void open_missing_streams(void) {
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) {
            exit(BS_EXIT_LAUNCHER);
        }
    }
}

/* Until rounds.py handles them: a Ctrl-C while Python starts is a traceback. */
static void block_interrupts(void) {
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static int become_python(const char *python, const char *script, const char *self, int argc,
                         char **argv) {
    enum { FIXED_MAX = 9 };
    const char **words = calloc((size_t)argc + FIXED_MAX + 1, sizeof(*words));
    char *library = bs_resolve_library(NULL);
    size_t n = 0;

    if (words == NULL) {
        free(library);
        return out_of_memory();
    }
    words[n++] = "python3";
    words[n++] = "-EsB"; /* nothing of the caller's Python, and no files beside the scripts */
    words[n++] = script;
    words[n++] = "--launcher";
    words[n++] = self;
    words[n++] = "--besom-version";
    words[n++] = PACKAGE_VERSION;
    if (library != NULL) {
        words[n++] = "--library";
        words[n++] = library;
    }
    for (int i = 1; i < argc; i++) {
        words[n++] = argv[i];
    }
    open_missing_streams();
    block_interrupts();
    execv(python, (char *const *)words);
    int error = errno;
    free(words);
    free(library);
    fprintf(stderr, "besom: bench: cannot run '%s': %s\n", python, strerror(error));
    return BS_EXIT_LAUNCHER;
}

int bs_bench_main(int argc, char **argv) {
    char self[PATH_MAX], directory[PATH_MAX];

    if (!find_self(self, directory)) {
        fprintf(stderr, "besom: bench: cannot tell where besom is: %s; is /proc mounted?\n",
                strerror(errno));
        return BS_EXIT_LAUNCHER;
    }
    char *script = find_script(directory);
    if (script == NULL) {
        fprintf(stderr,
                "besom: bench: its scripts are missing (%s); install besom with make install\n",
                BESOM_PKGDATADIR "/" MAIN_SCRIPT);
        return BS_EXIT_LAUNCHER;
    }
    char *python = bs_resolve_program("python3");
    if (python == NULL) {
        fputs("besom: bench: needs python3, which is not in PATH; install it "
              "(Debian: apt-get install python3)\n",
              stderr);
        free(script);
        return BS_EXIT_LAUNCHER;
    }
    int result = become_python(python, script, self, argc, argv);
    free(python);
    free(script);
    return result;
}
