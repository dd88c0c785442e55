/* SPDX-License-Identifier: MIT */
/* name.c - see name.h. Called by sink.c and record.c, each under its own lock. */
#include "name.h"

#include "os.h"
#include "out.h"

#include <errno.h>

#define MAX_NUMBER 10000

/* The name for this number: -ENAMETOOLONG if it does not fit, 1 if the pattern has a %n, else 0. */
static int expand(const char *folder, const char *pattern, unsigned number, char *path,
                  size_t cap) {
    struct bs_out out;
    bool numbered = false;
    char name[16];
    bs_out_init(&out, path, cap);
    bs_out_str(&out, folder);
    for (const char *p = pattern; *p != '\0'; p++) {
        if (*p != '%' || p[1] == '\0') {
            bs_out_char(&out, *p);
            continue;
        }
        switch (*++p) {
        case 'p':
            bs_out_printf(&out, "%d", bs_os_pid());
            break;
        case 'e':
            bs_os_program_name(name);
            for (char *c = name; *c != '\0'; c++) /* a name, not a way to another folder */
                bs_out_char(&out, *c == '/' ? '_' : *c);
            break;
        case 'n':
            bs_out_printf(&out, "%u", number);
            numbered = true;
            break;
        default: /* %% and unknown letters stand for themselves */
            bs_out_char(&out, *p);
        }
    }
    bs_out_text(&out);
    return out.cut ? -ENAMETOOLONG : numbered;
}

int bs_name_open(const char *folder, const char *pattern, char *path, size_t cap,
                 int (*open_plain)(const char *path)) {
    int numbered = expand(folder, pattern, 0, path, cap);
    if (numbered <= 0)
        return numbered < 0 ? numbered : open_plain(path);
    int fd = -EEXIST;
    for (unsigned n = 0; n < MAX_NUMBER && fd == -EEXIST; n++) {
        numbered = expand(folder, pattern, n, path, cap);
        fd = numbered < 0 ? numbered : bs_os_open_new(path);
    }
    return fd;
}

bool bs_name_is_own(const char *pattern) {
    for (const char *p = pattern; *p != '\0'; p++) {
        if (*p != '%' || p[1] == '\0')
            continue;
        p++;
        if (*p == 'p' || *p == 'n')
            return true;
    }
    return false;
}
