/* SPDX-License-Identifier: MIT */
/*
 * preloadable.c -- applies the rules of the kernel and of ld.so; see preloadable.h.
 *
 * Secure mode is predicted as the kernel decides it (security/commoncap.c): a set-ID bit counts
 * only when it changes the identity and is not disarmed by a nosuid mount or by no_new_privs, and
 * file capabilities count only for a caller who is not root. So root may well preload a
 * set-user-ID-root program, and the launcher does not stand in the way.
 */
#include "preloadable.h"
#include "elfcheck.h"

#include <errno.h>
#include <gelf.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BS_CAPABILITY_XATTR "security.capability"

static bool privileges_disarmed(const char *program) {
    struct statvfs fs;

    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ||
           (statvfs(program, &fs) == 0 && (fs.f_flag & ST_NOSUID) != 0);
}

static const char *user_name(uid_t uid, char *number, size_t number_bytes) {
    struct passwd *user = getpwuid(uid);
    if (user != NULL) {
        return user->pw_name;
    }
    snprintf(number, number_bytes, "%u", (unsigned)uid);
    return number;
}

static const char *group_name(gid_t gid, char *number, size_t number_bytes) {
    struct group *group = getgrgid(gid);
    if (group != NULL) {
        return group->gr_name;
    }
    snprintf(number, number_bytes, "%u", (unsigned)gid);
    return number;
}

/* A set-group-ID bit without group execution is the old mark for mandatory locking. */
static bool gains_privilege(const char *program, char *why, size_t why_bytes) {
    static const char secure[] =
        "so the kernel runs it in secure mode, where LD_PRELOAD is ignored";
    char number[16];
    struct stat st;

    if (stat(program, &st) != 0 || privileges_disarmed(program)) {
        return false;
    }
    if ((st.st_mode & S_ISUID) != 0 && st.st_uid != getuid()) {
        snprintf(why, why_bytes,
                 "it is setuid to user %s, %s; run it as that user, or run a copy "
                 "without the setuid bit",
                 user_name(st.st_uid, number, sizeof(number)), secure);
        return true;
    }
    if ((st.st_mode & S_ISGID) != 0 && (st.st_mode & S_IXGRP) != 0 && st.st_gid != getgid()) {
        snprintf(why, why_bytes,
                 "it is setgid to group %s, %s; run it with that group, or run a "
                 "copy without the setgid bit",
                 group_name(st.st_gid, number, sizeof(number)), secure);
        return true;
    }
    if (getuid() != 0 && getxattr(program, BS_CAPABILITY_XATTR, NULL, 0) > 0) {
        snprintf(why, why_bytes,
                 "it has file capabilities, %s; run it as root, or run a copy "
                 "without them (see getcap)",
                 secure);
        return true;
    }
    return false;
}

static void describe(const struct bs_elf_image *image, char *text, size_t text_bytes) {
    const char *name = bs_elfcheck_machine_name(image->machine);
    int bits = image->elf_class == ELFCLASS32 ? 32 : 64;

    if (name != NULL) {
        snprintf(text, text_bytes, "%s (%d-bit)", name, bits);
    } else {
        snprintf(text, text_bytes, "machine %d (%d-bit)", image->machine, bits);
    }
}

bool bs_preloadable_check(const char *program, const char *library, char *why, size_t why_bytes) {
    struct bs_elf_image image;
    struct bs_elf_image ours;

    if (gains_privilege(program, why, why_bytes)) {
        return false;
    }
    if (bs_elfcheck_read(program, &image) != BS_ELF_IMAGE ||
        bs_elfcheck_read(library, &ours) != BS_ELF_IMAGE) {
        return true;
    }
    if (image.machine != ours.machine || image.elf_class != ours.elf_class) {
        char theirs_text[48];
        char ours_text[48];
        describe(&image, theirs_text, sizeof(theirs_text));
        describe(&ours, ours_text, sizeof(ours_text));
        snprintf(why, why_bytes,
                 "it is built for %s and %s for %s; use a besom built for %s "
                 "(option -l)",
                 theirs_text, library, ours_text, theirs_text);
        return false;
    }
    if (!image.has_interp && !image.has_soname) {
        snprintf(why, why_bytes,
                 "it is a static executable: it has no dynamic loader that could "
                 "read LD_PRELOAD; use a dynamically linked build of it");
        return false;
    }
    return true;
}

bool bs_preloadable_library(const char *library, char *why, size_t why_bytes) {
    struct bs_elf_image image;
    struct statvfs fs;

    if (strpbrk(library, ": \t\n") != NULL) {
        snprintf(why, why_bytes,
                 "its path has a space or a colon, which LD_PRELOAD takes as the "
                 "end of a name; copy or link it to a path without them");
        return false;
    }
    switch (bs_elfcheck_read(library, &image)) {
    case BS_ELF_UNREADABLE:
        snprintf(why, why_bytes, "%s", strerror(errno));
        return false;
    case BS_ELF_OTHER:
        snprintf(why, why_bytes, "it is not an ELF file; name libbesom.so itself");
        return false;
    case BS_ELF_IMAGE:
        break;
    }
    if (!image.has_dynamic || image.has_interp) {
        snprintf(why, why_bytes, "it is not a shared library; name libbesom.so itself");
        return false;
    }
    if (statvfs(library, &fs) == 0 && (fs.f_flag & ST_NOEXEC) != 0) {
        snprintf(why, why_bytes,
                 "it lies on a file system that is mounted noexec; copy it to another one");
        return false;
    }
    return true;
}
