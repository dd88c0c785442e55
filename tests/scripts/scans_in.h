/* SPDX-License-Identifier: MIT */
/* scans_in.h - for programs that scripts make: how many scans by interval have come to an end, by the log in JSON that
 * besom writes beside them. A program that waits for some waits until they are in the log. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int scans_in(const char *path) {
    static char text[1 << 20];
    int fd = open(path, O_RDONLY), n = 0;
    ssize_t bytes = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[bytes > 0 ? bytes : 0] = '\0';
    for (char *at = text; (at = strstr(at, "\"interval\",\"verdict\":\"done\"")) != NULL; at++)
        n++;
    return n;
}
