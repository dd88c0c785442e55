/* SPDX-License-Identifier: MIT */
/*
 * unlogged.c - see unlogged.h. A report that is never written looks like a program without anything to report, so what
 * is asked for in vain is told on stderr: by the first process only, since the programs that it starts inherit
 * its options, and a build or a shell starts thousands.
 *
 * It is NOT about options that are wrong in themselves (options.c). Once in a process, before threads exist.
 */
#define _GNU_SOURCE
#include "unlogged.h"

#include "opt.h"
#include "os.h"
#include "out.h"

#include <string.h>

/* What only a log shows; NULL: nothing is asked for. */
static BS_COLD const char *key_without_log(void) {
    if (bs_opt.log_interval != 0)
        return "log_interval";
    if (bs_opt.sample != 0)
        return "sample";
    if (bs_opt.trace != 0)
        return "trace";
    return bs_opt.scan == BS_SCAN_MODE_LEAK && bs_opt.leak_exit_code == 0 ? "scan" : NULL;
}

struct needle {
    char word[24]; /* a NUL at its beginning is one */
    unsigned len;
    bool found;
};

static BS_COLD void add(struct needle *n, char c) {
    n->word[n->len++] = c;
}

/* The needles in a file of any length, as if a NUL stood before it. */
static BS_COLD void find_in(int fd, struct needle *needles, size_t n) {
    char text[512] = "";
    size_t kept = 1; /* a word may lie across two readings */
    long got;
    while ((got = bs_os_read(fd, text + kept, sizeof text - kept)) > 0) {
        size_t len = kept + (size_t)got;
        for (size_t i = 0; i < n; i++)
            needles[i].found |= memmem(text, len, needles[i].word, needles[i].len) != NULL;
        kept = bs_min(len, sizeof needles->word);
        memmove(text, text + len - kept, kept);
    }
}

/* It was started with the same option, "key:" in BESOM_CONF or as BESOM_KEY, and has said it. */
static BS_COLD bool parent_has_said(const char *key) {
    struct needle needles[] = {
        {"\0LD_PRELOAD=", 12, false},
        {"libbesom", 8, false},
        {"", 0, false},
        {"\0BESOM_", 7, false},
    };
    char path[40];
    struct bs_out out;
    for (; *key != '\0'; key++) {
        add(&needles[2], *key);
        add(&needles[3], *key >= 'a' && *key <= 'z' ? (char)(*key - 'a' + 'A') : *key);
    }
    add(&needles[2], ':');
    add(&needles[3], '=');
    bs_out_init(&out, path, sizeof path);
    bs_out_printf(&out, "/proc/%d/environ", bs_os_parent());
    int fd = bs_os_open_if_there(bs_out_text(&out));
    if (fd < 0)
        return false;
    find_in(fd, needles, BS_ARRAY_LEN(needles));
    bs_os_close(fd);
    return needles[0].found && needles[1].found && (needles[2].found || needles[3].found);
}

void besom_say_what_is_in_vain(void) {
    const char *key = bs_opt.log[0] == '\0' ? key_without_log() : NULL;
    bool collects = bs_opt.collect == BS_COLLECT_RECLAIM && bs_opt.scan != BS_SCAN_MODE_COLLECT;
    if (key != NULL && !parent_has_said(key))
        bs_warn("option %s: there is no log that would show it; add log:stderr or log:FILE", key);
    if (collects && !parent_has_said("collect"))
        bs_warn("option collect: without scan:collect nothing is collected; add scan:collect");
}
