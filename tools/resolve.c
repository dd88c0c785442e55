/* SPDX-License-Identifier: MIT */
/*
 * resolve.c -- finds the program, the interpreter of a script and the library; see resolve.h.
 *
 * The search in PATH is written out, instead of being left to execvp(), because the file must be
 * looked at before it is run. Its rules are execvp()'s: an entry without permission is remembered
 * and the search goes on, an empty PATH entry is the current directory.
 *
 * A script is followed because LD_PRELOAD acts on the interpreter: a "#!" line that ends at a
 * static busybox cannot be preloaded although the script itself looks harmless.
 */
#include "resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BS_SHELL "/bin/sh"

/* What the kernel reads of a "#!" line, and how many scripts it follows (fs/binfmt_script.c). */
#define BS_SCRIPT_LINE_BYTES 256
#define BS_SCRIPT_DEPTH 5

#ifndef BESOM_LIBDIR
#define BESOM_LIBDIR "/usr/local/lib"
#endif

static char *copy_string(const char *text) {
    char *copy = strdup(text);
    if (copy == NULL) {
        perror("besom");
        exit(125);
    }
    return copy;
}

/* 0, or the errno that says why `path` cannot be executed. */
static int executable_error(const char *path) {
    struct stat st;

    if (stat(path, &st) != 0) {
        return errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return EACCES;
    }
    return access(path, X_OK) == 0 ? 0 : errno;
}

static char *search_path(const char *name, const char *dirs) {
    int error = ENOENT;

    for (const char *dir = dirs;; dir = strchr(dir, ':') + 1) {
        char path[PATH_MAX];
        int dir_len = (int)strcspn(dir, ":");
        int len =
            snprintf(path, sizeof(path), "%.*s%s%s", dir_len, dir, dir_len > 0 ? "/" : "./", name);
        if (len > 0 && (size_t)len < sizeof(path)) {
            int found = executable_error(path);
            if (found == 0) {
                return copy_string(path);
            }
            if (found == EACCES) {
                error = EACCES;
            }
        }
        if (dir[dir_len] == '\0') {
            errno = error;
            return NULL;
        }
    }
}

char *bs_resolve_program(const char *name) {
    if (name[0] == '\0') {
        errno = ENOENT;
        return NULL;
    }
    if (strchr(name, '/') == NULL) {
        const char *dirs = getenv("PATH");
        return search_path(name, dirs != NULL ? dirs : "/bin:/usr/bin");
    }
    int error = executable_error(name);
    if (error != 0) {
        errno = error;
        return NULL;
    }
    return copy_string(name);
}

/* Reads the first line of a script without its "#!"; false when the file is no script. */
static bool read_script_line(const char *path, char *line, size_t line_bytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t len = read(fd, line, line_bytes - 1);
    close(fd);
    if (len < 2 || line[0] != '#' || line[1] != '!') {
        return false;
    }
    line[len] = '\0';
    line[strcspn(line, "\n")] = '\0';
    memmove(line, line + 2, strlen(line + 2) + 1);
    return true;
}

/* "/usr/bin/env [-S] [NAME=VALUE...] program": env runs the program, so that one counts. */
static char *program_of_env(char *args) {
    char *saved;

    for (char *word = strtok_r(args, " \t", &saved); word != NULL;
         word = strtok_r(NULL, " \t", &saved)) {
        if (strncmp(word, "-S", 2) == 0 && word[2] != '\0') {
            return bs_resolve_program(word + 2);
        }
        if (word[0] != '-' && strchr(word, '=') == NULL) {
            return bs_resolve_program(word);
        }
    }
    return NULL;
}

/* One step: the interpreter that the line names; NULL and errno when it does not exist. It is a path to the
 * kernel, which searches nothing. */
static char *interpreter_of_line(char *line, char **missing) {
    char *name = line + strspn(line, " \t");
    char *args = name + strcspn(name, " \t");

    if (*args != '\0') {
        *args++ = '\0';
    }
    int error = name[0] != '\0' ? executable_error(name) : 0;
    if (error != 0) {
        *missing = copy_string(name);
        errno = error;
        return NULL;
    }
    char *path = copy_string(name[0] != '\0' ? name : BS_SHELL);
    const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    if (strcmp(base, "env") == 0) {
        char *program = program_of_env(args);
        if (program != NULL) {
            free(path);
            return program;
        }
    }
    return path;
}

char *bs_resolve_interpreter(const char *path, char **missing) {
    char *current = copy_string(path);

    for (int depth = 0; depth < BS_SCRIPT_DEPTH; depth++) {
        char line[BS_SCRIPT_LINE_BYTES];
        if (!read_script_line(current, line, sizeof(line))) {
            break;
        }
        char *next = interpreter_of_line(line, missing);
        if (next == NULL) {
            int error = errno;
            free(current);
            errno = error;
            return NULL;
        }
        free(current);
        current = next;
    }
    return current;
}

/* Beside the executable, then where a build tree keeps it, then where an installation does. */
static char *search_library(void) {
    static const char *const places[] = {
        "libbesom.so",
        "../libbesom.so",
        "../preload/.libs/libbesom.so",
        "../lib/libbesom.so",
    };
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (len > 0) {
        self[len] = '\0';
        *strrchr(self, '/') = '\0';
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
            char path[PATH_MAX];
            int written = snprintf(path, sizeof(path), "%s/%s", self, places[i]);
            if (written > 0 && (size_t)written < sizeof(path) && access(path, R_OK) == 0) {
                return realpath(path, NULL);
            }
        }
    }
    return realpath(BESOM_LIBDIR "/libbesom.so", NULL);
}

char *bs_resolve_library(const char *wanted) {
    if (wanted == NULL) {
        wanted = getenv("BESOM_LIB");
    }
    if (wanted != NULL && wanted[0] != '\0') {
        return realpath(wanted, NULL);
    }
    return search_library();
}
