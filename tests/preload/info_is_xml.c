/* SPDX-License-Identifier: MIT */
/*
 * Promise: malloc_info writes well-formed XML with root <malloc> into the stream given, answers 0,
 * and refuses options other than 0 with EINVAL. python3's own parser is the judge; it runs without
 * the preload, so that only the text is judged. What it says comes from the system is memory: tables
 * of addresses that hold none, 24 MiB in every process, are not in it.
 *
 * One thread. Skipped where there is no python3.
 */
#include "promise.h"

#include <malloc.h>
#include <sys/wait.h>

static const char judge[] =
    "python3 -c 'import sys, xml.etree.ElementTree as e; r = e.parse(sys.stdin).getroot(); "
    "system = int(r.find(\"system[@type=\\\"current\\\"]\").get(\"size\")); "
    "sys.exit(3 if r.tag != \"malloc\" or len(r) == 0 else 4 if system >= 24 << 20 else 0)'";

int main(void) {
    void *blocks[1000];
    int saved_errno;

    BS_CHECK(promise_owns("malloc_info"), "malloc_info comes from elsewhere");
    unsetenv("LD_PRELOAD");
    if (system("command -v python3 >/dev/null") != 0)
        promise_skip("python3, which parses the XML, is not there");
    for (size_t i = 0; i < 1000; i++) {
        blocks[i] = malloc(i * 37);
        BS_CHECK(blocks[i] != NULL, "malloc(%zu) gave NULL", i * 37);
    }
    FILE *to = popen(judge, "w");

    BS_CHECK(to != NULL, "python3 cannot be started");
    int answer = malloc_info(0, to);
    int status = pclose(to);

    BS_CHECK(answer == 0, "malloc_info says %d", answer);
    BS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0,
             "python3 does not accept the XML: status %#x", (unsigned)status);
    errno = 0;
    answer = malloc_info(1, stdout);
    saved_errno = errno;
    BS_CHECK(answer == EINVAL || (answer == -1 && saved_errno == EINVAL),
             "malloc_info(1, ...) says %d, errno %d", answer, saved_errno);
    for (size_t i = 0; i < 1000; i++)
        free(blocks[i]);
    return 0;
}
