/* SPDX-License-Identifier: MIT */
/*
 * run.c -- `besom run [-o key:value,...] [-l LIB] [--scan] [--] program args...`
 *
 * Prepends the library to LD_PRELOAD, appends the options to BESOM_CONF, asks preloadable.c
 * whether the loader will obey, and calls exec(). There is no child: pid, exit status, signals,
 * terminal and open files are the program's own.
 *
 * Options are checked for their form only (key:value); what keys there are is known by the
 * library, which names an unknown key itself and goes on.
 *
 * Every message is one line on stderr that begins with "besom: ". No threads.
 */
#include "run.h"
#include "preloadable.h"
#include "resolve.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BS_WHY_BYTES 1024

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...) {
    char message[BS_WHY_BYTES + 8192];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    for (char *c = message; *c != '\0'; c++) { /* names may hold any byte */
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c;
    }
    fprintf(stderr, "besom: %s\n", message);
}

/* NAME=<first><separator><second>; a part that is NULL or empty is left out with its separator. */
static bool set_joined(const char *name, const char *first, char separator, const char *second) {
    char *value;

    if (first == NULL || first[0] == '\0') {
        return setenv(name, second, 1) == 0;
    }
    if (second == NULL || second[0] == '\0') {
        return setenv(name, first, 1) == 0;
    }
    if (asprintf(&value, "%s%c%s", first, separator, second) < 0) {
        return false;
    }
    bool done = setenv(name, value, 1) == 0;
    free(value);
    return done;
}

/* One pair of the given length; says what is wrong with it. */
static bool pair_is_valid(const char *pair, int len) {
    int key_len = (int)strspn(pair, "abcdefghijklmnopqrstuvwxyz0123456789_");

    if (len == 0) {
        complain("option -o: empty pair; write key:value,key:value without a stray comma");
        return false;
    }
    if (memchr(pair, ':', (size_t)len) == NULL) {
        complain("option -o: '%.*s' has no colon; write key:value, for example log:stderr", len,
                 pair);
        return false;
    }
    if (key_len == 0 || pair[key_len] != ':') {
        complain("option -o: the key of '%.*s' is not a word of a-z, 0-9 and _; "
                 "besom.conf(5) lists the keys",
                 len, pair);
        return false;
    }
    if (key_len + 1 == len) {
        complain("option -o: '%.*s' has no value; write key:value, for example log:stderr", len,
                 pair);
        return false;
    }
    return true;
}

static bool options_are_valid(const char *options) {
    for (const char *pair = options;; pair++) {
        int len = (int)strcspn(pair, ",");
        if (!pair_is_valid(pair, len)) {
            return false;
        }
        pair += len;
        if (*pair == '\0') {
            return true;
        }
    }
}

static bool add_options(const char *options) {
    if (!options_are_valid(options)) {
        return false;
    }
    if (!set_joined("BESOM_CONF", getenv("BESOM_CONF"), ',', options)) {
        complain("cannot set BESOM_CONF: %s", strerror(errno));
        return false;
    }
    return true;
}

/* What the library will be told of the option scan, "" of nothing: the variable of its own, else the last in
 * BESOM_CONF. Not terminated. */
static const char *told_of_scan(size_t *len) {
    static const char key[] = "scan:";
    const char *pair = getenv("BESOM_CONF"), *value = getenv("BESOM_SCAN");

    if (value != NULL && value[0] != '\0') {
        *len = strlen(value);
        return value;
    }
    value = "";
    *len = 0;
    while (pair != NULL && *pair != '\0') {
        size_t n = strcspn(pair, ",");
        if (n >= sizeof(key) - 1 && strncmp(pair, key, sizeof(key) - 1) == 0) {
            value = pair + sizeof(key) - 1;
            *len = n - (sizeof(key) - 1);
        }
        pair += n + (pair[n] == ',');
    }
    return value;
}

/* Threads will be stopped. */
static bool options_ask_for_scan(void) {
    size_t len;
    const char *value = told_of_scan(&len);

    return len != 0 && !(len == 3 && strncmp(value, "off", len) == 0);
}

static bool is_besom(const char *path, size_t len) {
    static const char *const names[] = {"libbesom.so", "libbesom-scan.so"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t n = strlen(names[i]);
        if (len >= n && strncmp(path + len - n, names[i], n) == 0 && (len == n || path[len - n - 1] == '/')) {
            return true;
        }
    }
    return false;
}

/* A copy of the list without besom's libraries, which it has where besom was started under besom: two of them in
 * a process both read the options and write the log. To be freed. */
static char *without_besom(const char *list) {
    char *copy = calloc(1, strlen(list) + 1), *to = copy;

    while (copy != NULL && *list != '\0') {
        size_t len = strcspn(list, ": ");
        if (len > 0 && !is_besom(list, len)) {
            to += sprintf(to, "%s%.*s", to == copy ? "" : ":", (int)len, list);
        }
        list += len + (list[len] != '\0');
    }
    return copy;
}

static bool add_library(const char *library) {
    const char *list = getenv("LD_PRELOAD");
    char *others = without_besom(list != NULL ? list : "");
    bool done = others != NULL && set_joined("LD_PRELOAD", library, ':', others);

    if (!done) {
        complain("cannot set LD_PRELOAD: %s", strerror(errno));
    }
    free(others);
    return done;
}

/* The library to preload, fit to be named in LD_PRELOAD; NULL after a message. */
static char *find_library(const char *wanted) {
    char why[BS_WHY_BYTES];
    char *library = bs_resolve_library(wanted);

    if (library == NULL) {
        int error = errno;
        const char *variable = getenv("BESOM_LIB");
        if (wanted != NULL) {
            complain("cannot find the library %s: %s; that is what -l says", wanted, strerror(error));
        } else if (variable != NULL && variable[0] != '\0') {
            complain("cannot find the library %s: %s; that is what BESOM_LIB says", variable, strerror(error));
        } else {
            complain("cannot find the library libbesom.so beside besom or where it was installed; name it with -l or in "
                     "BESOM_LIB");
        }
        return NULL;
    }
    if (!bs_preloadable_library(library, why, sizeof(why))) {
        complain("cannot preload the library '%s': %s", library, why);
        free(library);
        return NULL;
    }
    return library;
}

static int exit_code_of(int error) {
    return error == ENOENT || error == ENOTDIR ? BS_EXIT_NOT_FOUND : BS_EXIT_NOT_EXECUTABLE;
}

/* A line that ends as on Windows names a file that ends in CR, which no terminal shows. */
static void complain_of_interpreter(const char *script, char *missing, int error) {
    char *cr = strchr(missing, '\r');

    if (cr != NULL) {
        *cr = '\0';
        complain("cannot run '%s': its first line ends in CR LF, so its interpreter would be '%s' "
                 "with a CR in its name; end its lines in LF alone",
                 script, missing);
    } else {
        complain("cannot run '%s': its interpreter '%s': %s", script, missing, strerror(error));
    }
}

/* 0 when the program takes the library, else the exit code, after a message. */
static int check_program(const char *path, const char *library) {
    char why[BS_WHY_BYTES];
    char *missing = NULL;
    char *image = bs_resolve_interpreter(path, &missing);
    int result = 0;

    if (image == NULL) {
        result = exit_code_of(errno);
        complain_of_interpreter(path, missing, errno);
    } else if (!bs_preloadable_check(image, library, why, sizeof(why))) {
        if (strcmp(image, path) == 0) {
            complain("cannot preload into '%s': %s", path, why);
        } else {
            complain("cannot preload into '%s', the interpreter of '%s': %s", image, path, why);
        }
        result = BS_EXIT_LAUNCHER;
    }
    free(missing);
    free(image);
    return result;
}

/* libbesom-scan.so beside the library; NULL after a message. */
static char *scanning_one(const char *library) {
    char why[BS_WHY_BYTES];
    int folder = (int)(strrchr(library, '/') - library);
    char *scan = NULL;

    if (asprintf(&scan, "%.*s/libbesom-scan.so", folder, library) < 0) {
        return NULL;
    }
    if (!bs_preloadable_library(scan, why, sizeof(why))) {
        complain("cannot preload '%s': %s; to scan, it must lie beside %s", scan, why, library);
        free(scan);
        return NULL;
    }
    return scan;
}

static int become(char **argv, const char *wanted_library, bool scan) {
    char *path = bs_resolve_program(argv[0]);
    if (path == NULL) {
        int error = errno;
        complain("cannot run '%s': %s", argv[0], strerror(error));
        return exit_code_of(error);
    }
    char *library = find_library(wanted_library);
    if (library == NULL) {
        free(path);
        return BS_EXIT_LAUNCHER;
    }
    int result = check_program(path, library);
    if (result == 0 && scan) {
        char *scanning = scanning_one(library);
        free(library);
        library = scanning;
        result = scanning != NULL ? 0 : BS_EXIT_LAUNCHER;
    }
    if (result == 0 && !add_library(library)) {
        result = BS_EXIT_LAUNCHER;
    }
    if (result == 0) {
        /* With a slash in it nothing is searched; what execvp() adds to execv() is /bin/sh for a
         * script without "#!", as every shell and env(1) do. */
        execvp(path, argv);
        int error = errno;
        /* Scripts have been followed. */
        bool no_loader = error == ENOENT && access(path, F_OK) == 0;
        result = exit_code_of(error);
        complain("cannot run '%s': %s", path,
                 no_loader ? "the dynamic loader that it names is missing (see readelf -l)"
                           : strerror(error));
    }
    free(library);
    free(path);
    return result;
}

int bs_run_main(int argc, char **argv) {
    static const struct option long_options[] = {
        {"options", required_argument, NULL, 'o'},
        {"library", required_argument, NULL, 'l'},
        {"scan", no_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    const char *library = NULL, *word; /* the word that is read: it may hold several options */
    bool scan = false;
    int option;

    opterr = 0;
    /* The plus sign: the first word that is no option is the program, its options are its own. */
    while (word = argv[optind],
           (option = getopt_long(argc, argv, "+:o:l:shV", long_options, NULL)) != -1) {
        switch (option) {
        case 'o':
            if (!add_options(optarg)) {
                return BS_EXIT_LAUNCHER;
            }
            break;
        case 'l':
            if (optarg[0] == '\0') { /* a variable of a script that is not set */
                complain("run: option '%s' has an empty value; name a library or leave it out",
                         word);
                return BS_EXIT_LAUNCHER;
            }
            library = optarg;
            break;
        case 's':
            scan = true;
            break;
        case 'h':
            return bs_print_help();
        case 'V':
            return bs_print_version();
        case ':':
            complain("run: option '%s' needs a value; see besom --help", word);
            return BS_EXIT_LAUNCHER;
        default:
            complain("run: unknown option '%s'; put -- before the program, see besom --help", word);
            return BS_EXIT_LAUNCHER;
        }
    }
    if (optind == argc) {
        complain("run: no program given; write besom run [-o key:value,...] -- program args...");
        return BS_EXIT_LAUNCHER;
    }
    return become(argv + optind, library, scan || options_ask_for_scan());
}
