/* SPDX-License-Identifier: MIT */
/*
 * new.c - C++ operator new and delete in every form, by their mangled names, from C: the library
 * needs no C++ runtime.
 *
 * When memory is out the throwing forms must run the program's new-handler and throw
 * std::bad_alloc. Only the C++ runtime can do both, and it is there if the program is C++: so its
 * own operator new is found and called; it asks malloc (ours) again, and does what the standard
 * says when that fails. The nothrow forms do the same through the runtime's nothrow form.
 */
#define _GNU_SOURCE
#include "doors.h"
#include "heap.h"
#include "record.h"

#include <dlfcn.h>
#include <errno.h>

/* The next definition of the name behind ours, or in a C++ runtime that was loaded privately
 * (dlopen of a C++ extension). NULL if there is none. */
static void *runtime_symbol(const char *name) {
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1"};
    void *symbol = dlsym(RTLD_NEXT, name);
    for (unsigned i = 0; symbol == NULL && i < BS_ARRAY_LEN(runtimes); i++) {
        void *handle = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        if (handle != NULL)
            symbol = dlsym(handle, name);
    }
    return symbol;
}

/* A size that malloc refuses as well and that no rounding in the runtime can wrap to a small one
 * (libstdc++ 12 rounds up to the alignment without looking). */
static size_t hopeless(size_t size) {
    return bs_min(size, BS_REQUEST_MAX);
}

/* What the C++ runtime's own operator new does once there is no memory. */
static BS_COLD void *throwing_new(const char *name, size_t size) {
    void *(*real)(size_t) = (void *(*)(size_t))runtime_symbol(name);
    if (real != NULL)
        return real(hopeless(size));
    bs_heap_no_memory("operator new, and there is no C++ runtime to throw", size);
}
static BS_COLD void *throwing_new_aligned(const char *name, size_t size, size_t align) {
    void *(*real)(size_t, size_t) = (void *(*)(size_t, size_t))runtime_symbol(name);
    if (real != NULL)
        return real(hopeless(size), align);
    bs_heap_no_memory("operator new, and there is no C++ runtime to throw", size);
}
static BS_COLD void *nothrow_new(const char *name, size_t size, const void *tag) {
    void *(*real)(size_t, const void *) =
        (void *(*)(size_t, const void *))runtime_symbol(name);
    return real != NULL ? real(hopeless(size), tag) : NULL;
}
static BS_COLD void *nothrow_new_aligned(const char *name, size_t size, size_t align,
                                         const void *tag) {
    void *(*real)(size_t, size_t, const void *) =
        (void *(*)(size_t, size_t, const void *))runtime_symbol(name);
    return real != NULL ? real(hopeless(size), align, tag) : NULL;
}

static BS_NOINLINE void *alloc_slow(size_t size) {
    void *p;
    if (BS_LIKELY(bs_heap_alloc_cached(size, &p)))
        return p;
    return bs_door_recorded(BS_RECORD_MALLOC, bs_heap_alloc_slow(size), size, 1);
}

/* The runtime's operators call our malloc in turn, which fails as well; they never come back here. */
#define NEW(name)                                                                 \
    static BS_NOINLINE void *name##_slow(size_t size) {                           \
        void *p = alloc_slow(size);                                               \
        return BS_LIKELY(p != NULL) ? p : throwing_new(#name, size);              \
    }                                                                             \
    BS_EXPORT void *name(size_t size);                                            \
    BS_EXPORT void *name(size_t size) {                                           \
        return bs_heap_alloc_fast(size, name##_slow);                             \
    }
#define NEW_NOTHROW(name)                                                 \
    BS_EXPORT void *name(size_t size, const void *tag);                   \
    BS_EXPORT void *name(size_t size, const void *tag) {                  \
        void *p = bs_heap_alloc_fast(size, alloc_slow);                   \
        return BS_LIKELY(p != NULL) ? p : nothrow_new(#name, size, tag);  \
    }
#define NEW_ALIGNED(name)                                                                        \
    BS_EXPORT void *name(size_t size, size_t align);                                             \
    BS_EXPORT void *name(size_t size, size_t align) {                                            \
        void *p = bs_door_alloc_aligned(align, size);                                            \
        return BS_LIKELY(p != NULL) ? p : throwing_new_aligned(#name, size, align);              \
    }
#define NEW_ALIGNED_NOTHROW(name)                                                                \
    BS_EXPORT void *name(size_t size, size_t align, const void *tag);                            \
    BS_EXPORT void *name(size_t size, size_t align, const void *tag) {                           \
        void *p = bs_door_alloc_aligned(align, size);                                            \
        return BS_LIKELY(p != NULL) ? p : nothrow_new_aligned(#name, size, align, tag);          \
    }

NEW(_Znwm)
NEW(_Znam)
NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
NEW_NOTHROW(_ZnamRKSt9nothrow_t)
NEW_ALIGNED(_ZnwmSt11align_val_t)
NEW_ALIGNED(_ZnamSt11align_val_t)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)

/* Delete needs neither size nor alignment: the page map knows. */
#define DELETE(name, ...)                             \
    BS_EXPORT void name(void *p, ##__VA_ARGS__);      \
    BS_EXPORT void name(void *p, ##__VA_ARGS__) {     \
        bs_heap_free_fast(p, bs_door_free);           \
    }
#define UNUSED __attribute__((unused))

DELETE(_ZdlPv)
DELETE(_ZdaPv)
DELETE(_ZdlPvm, UNUSED size_t size)
DELETE(_ZdaPvm, UNUSED size_t size)
DELETE(_ZdlPvRKSt9nothrow_t, UNUSED const void *tag)
DELETE(_ZdaPvRKSt9nothrow_t, UNUSED const void *tag)
DELETE(_ZdlPvSt11align_val_t, UNUSED size_t align)
DELETE(_ZdaPvSt11align_val_t, UNUSED size_t align)
DELETE(_ZdlPvmSt11align_val_t, UNUSED size_t size, UNUSED size_t align)
DELETE(_ZdaPvmSt11align_val_t, UNUSED size_t size, UNUSED size_t align)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, UNUSED size_t align, UNUSED const void *tag)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, UNUSED size_t align, UNUSED const void *tag)
