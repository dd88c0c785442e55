/* SPDX-License-Identifier: MIT */
/*
 * os_rights.c - the part of os.h about users, groups and capabilities. Linux has them for each thread, and libc's setuid
 * changes those of the threads that it knows. The helper is none of these: it looks whether its own are those of the
 * first thread, and takes these if they are not.
 *
 * For the helper alone, on its stack; no lock.
 */
#define _GNU_SOURCE
#include "os.h"

#include "syscall.h"

#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>

#define GROUPS_MAX 256

/* Behind the name of a line of a status file, or NULL. */
static const char *line_of(const char *status, const char *name) {
    const char *line = strstr(status, name);
    return line != NULL ? line + strlen(name) : NULL;
}

static uint64_t number(const char **s, unsigned base) {
    uint64_t x = 0;
    for (;; (*s)++) {
        unsigned digit = **s >= '0' && **s <= '9' ? (unsigned)(**s - '0') : (unsigned)(**s - 'a') + 10;
        if (digit >= base)
            return x;
        x = x * base + digit;
    }
}

/* Of the lines Uid, Gid, Groups and CapEff of a status file, however many groups there are: FNV-1a, or 0 if they cannot
 * be read. */
static uint64_t credentials(const char *path) {
    enum { NAME = 4 }; /* that much of a line says which one it is */
    char piece[512], name[NAME];
    uint64_t sum = 0xcbf29ce484222325;
    size_t at = 0;
    bool wanted = false;
    int fd = bs_os_open_if_there(path);
    if (fd < 0)
        return 0;
    long n;
    while ((n = bs_os_read(fd, piece, sizeof piece)) > 0)
        for (long i = 0; i < n; i++) {
            if (at < NAME)
                name[at] = piece[i];
            else if (at == NAME)
                wanted = memcmp(name, "Uid:", NAME) == 0 || memcmp(name, "Gid:", NAME) == 0 ||
                         memcmp(name, "Grou", NAME) == 0 || memcmp(name, "CapE", NAME) == 0;
            if (at >= NAME && wanted)
                sum = (sum ^ (unsigned char)piece[i]) * 0x100000001b3;
            at = piece[i] == '\n' ? 0 : at + 1;
        }
    bs_os_close(fd);
    return n == 0 ? sum : 0;
}

bool bs_os_same_credentials(void) {
    uint64_t leader = credentials("/proc/self/status");
    return leader == 0 || leader == credentials("/proc/thread-self/status");
}

bool bs_os_has_capabilities(void) {
    char status[4096];
    (void)bs_os_read_text("/proc/thread-self/status", status, sizeof status);
    const char *effective = line_of(status, "\nCapEff:\t");
    return effective == NULL || number(&effective, 16) != 0;
}

/* --- taking them -------------------------------------------------------------------------------- */

struct rights {
    unsigned uid[4], gid[4]; /* real, effective, saved, of file systems */
    unsigned group[GROUPS_MAX], ngroups;
    uint64_t inheritable, permitted, effective;
};

static unsigned numbers(const char *s, unsigned *x, unsigned max) {
    unsigned n = 0;
    for (s += strspn(s, "\t "); *s >= '0' && *s <= '9' && n < max; s += strspn(s, "\t "))
        x[n++] = (unsigned)number(&s, 10);
    return n;
}

static bool read_rights(struct rights *r, const char *status) {
    const char *uid = line_of(status, "\nUid:"), *gid = line_of(status, "\nGid:"),
               *groups = line_of(status, "\nGroups:"), *inheritable = line_of(status, "\nCapInh:\t"),
               *permitted = line_of(status, "\nCapPrm:\t"), *effective = line_of(status, "\nCapEff:\t");
    if (uid == NULL || gid == NULL || groups == NULL || inheritable == NULL || permitted == NULL || effective == NULL)
        return false;
    r->ngroups = numbers(groups, r->group, GROUPS_MAX);
    r->inheritable = number(&inheritable, 16);
    r->permitted = number(&permitted, 16);
    r->effective = number(&effective, 16);
    return numbers(uid, r->uid, 4) == 4 && numbers(gid, r->gid, 4) == 4 && r->ngroups < GROUPS_MAX;
}

/* Each may need what another one gives, or takes away: so all are tried, and what came of it is looked at. */
static void take(const struct rights *r) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    const struct __user_cap_data_struct caps[2] = {
        {(uint32_t)r->effective, (uint32_t)r->permitted, (uint32_t)r->inheritable},
        {(uint32_t)(r->effective >> 32), (uint32_t)(r->permitted >> 32), (uint32_t)(r->inheritable >> 32)}};
    (void)bs_sys2(SYS_setgroups, r->ngroups, r->group);
    (void)bs_sys3(SYS_setresgid, r->gid[0], r->gid[1], r->gid[2]);
    (void)bs_sys5(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
    (void)bs_sys3(SYS_setresuid, r->uid[0], r->uid[1], r->uid[2]);
    (void)bs_sys2(SYS_capset, &head, caps);
    (void)bs_sys5(SYS_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0);
}

/* A change of user makes the process one that is not dumped; a program that has said since that it is would find that
 * undone. A filter may kill for such calls. Users of file systems that are others than the effective ones are left to
 * the next helper. */
bool bs_os_take_credentials(void) {
    char status[4096];
    struct rights r;
    if (bs_os_read_text("/proc/thread-self/status", status, sizeof status) <= 0 ||
        strstr(status, "\nSeccomp:\t0\n") == NULL || bs_sys5(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0) == 1)
        return false;
    if (bs_os_read_text("/proc/self/status", status, sizeof status) <= 0 || !read_rights(&r, status) ||
        r.uid[3] != r.uid[1] || r.gid[3] != r.gid[1])
        return false;
    take(&r);
    if (!bs_os_same_credentials())
        take(&r); /* with what the first user gave back */
    return bs_os_same_credentials();
}
