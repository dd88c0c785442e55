/* SPDX-License-Identifier: MIT */
/*
 * Promise: a module that was loaded for itself alone and brings a library of its own may call what
 * libbesom-scan.so stands before, although that cannot find the library: io_getevents is libaio's.
 */
#include "promise.h"

int main(void) {
    int (*events)(void *, long, long, void *, struct timespec *);
    *(void **)&events = dlsym(RTLD_DEFAULT, "io_getevents"); /* what the module's call is bound to */
    BS_CHECK(events != NULL, "the library does not stand before io_getevents");
    errno = 4711;
    int error = events(NULL, 1, 1, NULL, NULL); /* negated; errno is not touched */
    BS_CHECK((error == -EINVAL || error == -ENOSYS) && errno == 4711, "%d", error);
    return 0;
}
