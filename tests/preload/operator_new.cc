/* SPDX-License-Identifier: MIT */
/*
 * Promise: every form of C++'s operator new and delete (plain, array, nothrow, sized, aligned and
 * their combinations) comes from the library, aligns, and pairs with its delete; on exhaustion the
 * throwing forms call the new-handler until memory is there or it is gone, then throw
 * std::bad_alloc, and the nothrow forms give nullptr.
 *
 * Exhaustion is made by RLIMIT_AS and by sizes that no address space holds. One thread.
 */
#include "promise.h"

#include <new>
#include <string>
#include <sys/resource.h>
#include <vector>

/* clang declares the sized forms only with -fsized-deallocation, but they are always there. */
void operator delete(void *p, size_t size) noexcept;
void operator delete[](void *p, size_t size) noexcept;
void operator delete(void *p, size_t size, std::align_val_t alignment) noexcept;
void operator delete[](void *p, size_t size, std::align_val_t alignment) noexcept;

static const char *const forms[] = {
    "_Znwm",
    "_Znam",
    "_ZnwmRKSt9nothrow_t",
    "_ZnamRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdlPvm",
    "_ZdaPvm",
    "_ZdlPvSt11align_val_t",
    "_ZdaPvSt11align_val_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    "_ZdlPvmSt11align_val_t",
    "_ZdaPvmSt11align_val_t",
};

static int handler_calls;
static void *reserve;

static void *use(void *p, size_t size, size_t alignment) {
    BS_CHECK(p != nullptr, "new of %zu bytes gave nullptr", size);
    BS_CHECK(is_aligned(p, alignment), "%p is not aligned to %zu", p, alignment);
    pattern_fill(p, size, size);
    BS_CHECK_PATTERN(p, size, size);
    return p;
}

static void check_plain(size_t n) {
    size_t natural = n >= 16 ? 16 : 8;
    const std::nothrow_t &quiet = std::nothrow;

    ::operator delete(use(::operator new(n), n, natural));
    ::operator delete(use(::operator new(n), n, natural), n);
    ::operator delete(use(::operator new(n, quiet), n, natural), quiet);
    ::operator delete[](use(::operator new[](n), n, natural));
    ::operator delete[](use(::operator new[](n), n, natural), n);
    ::operator delete[](use(::operator new[](n, quiet), n, natural), quiet);
}

static void check_aligned(size_t n, size_t alignment) {
    std::align_val_t al{alignment};
    const std::nothrow_t &quiet = std::nothrow;

    ::operator delete(use(::operator new(n, al), n, alignment), al);
    ::operator delete(use(::operator new(n, al), n, alignment), n, al);
    ::operator delete(use(::operator new(n, al, quiet), n, alignment), al, quiet);
    ::operator delete[](use(::operator new[](n, al), n, alignment), al);
    ::operator delete[](use(::operator new[](n, al), n, alignment), n, al);
    ::operator delete[](use(::operator new[](n, al, quiet), n, alignment), al, quiet);
}

static void give_reserve_up() {
    handler_calls++;
    if (reserve != nullptr) {
        free(reserve);
        reserve = nullptr;
    } else {
        std::set_new_handler(nullptr);
    }
}

static void count_then_leave() {
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}

template <typename Call> static bool throws_bad_alloc(Call call) {
    try {
        hide(call());
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

/* Every throwing form must ask the handler as often as there is one, then throw. */
static void check_impossible(size_t size) {
    std::align_val_t al{64};
    auto expect = [size](bool thrown, const char *form) {
        BS_CHECK(thrown, "%s of %#zx bytes does not throw std::bad_alloc", form, size);
        BS_CHECK(handler_calls == 3, "%s called the new-handler %d times, not 3", form,
                 handler_calls);
        handler_calls = 0;
        std::set_new_handler(count_then_leave);
    };
    auto expect_null = [size](void *p, const char *form) {
        BS_CHECK(p == nullptr, "%s of %#zx bytes gave %p", form, size, p);
        BS_CHECK(handler_calls == 3, "%s called the new-handler %d times, not 3", form,
                 handler_calls);
        handler_calls = 0;
        std::set_new_handler(count_then_leave);
    };

    handler_calls = 0;
    std::set_new_handler(count_then_leave);
    expect(throws_bad_alloc([&] { return ::operator new(size); }), "new");
    expect(throws_bad_alloc([&] { return ::operator new[](size); }), "new[]");
    expect(throws_bad_alloc([&] { return ::operator new(size, al); }), "aligned new");
    expect(throws_bad_alloc([&] { return ::operator new[](size, al); }), "aligned new[]");
    expect_null(::operator new(size, std::nothrow), "nothrow new");
    expect_null(::operator new[](size, std::nothrow), "nothrow new[]");
    expect_null(::operator new(size, al, std::nothrow), "aligned nothrow new");
    expect_null(::operator new[](size, al, std::nothrow), "aligned nothrow new[]");
    std::set_new_handler(nullptr);
    BS_CHECK(throws_bad_alloc([&] { return ::operator new(size); }), "new without a handler");
    BS_CHECK(::operator new(size, std::nothrow) == nullptr, "nothrow new without a handler");
}

/* The handler frees a reserve once: the request that failed must then succeed. */
static void check_exhaustion() {
    struct rlimit limit, old;
    std::vector<void *> held;

    BS_CHECK(getrlimit(RLIMIT_AS, &old) == 0, "getrlimit");
    limit = old;
    limit.rlim_cur = 300 * BS_MIB;
    BS_CHECK(setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit");
    held.reserve(100000);
    reserve = malloc(40 * BS_MIB);
    BS_CHECK(reserve != nullptr, "malloc(40 MiB) gave NULL");
    handler_calls = 0;
    std::set_new_handler(give_reserve_up);
    bool thrown = false;

    try {
        while (held.size() < 100000)
            held.push_back(::operator new(BS_MIB));
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    BS_CHECK(thrown, "%zu MiB were given under a limit of 300 MiB", held.size());
    BS_CHECK(handler_calls == 2, "the new-handler was called %d times, not 2", handler_calls);
    for (void *p : held)
        ::operator delete(p, BS_MIB);
    BS_CHECK(held.size() > 100, "only %zu MiB of 300 were given", held.size());
    setrlimit(RLIMIT_AS, &old);
}

struct alignas(128) wide {
    char bytes[300];
};

int main() {
    for (const char *form : forms)
        BS_CHECK(promise_owns(form), "%s comes from elsewhere", form);
    for (size_t n = 0; n < 3 * BS_MIB; n += n / 2 + 1) {
        check_plain(n);
        for (size_t alignment = 8; alignment <= 65536; alignment *= 4)
            check_aligned(n, alignment);
    }
    for (int i = 0; i < 1000; i++) {
        std::vector<std::string> words(100, std::string((size_t)i, 'x'));
        wide *one = new wide, *many = new wide[10];

        BS_CHECK(is_aligned(one, 128) && is_aligned(many, 128), "new of an aligned type");
        delete one;
        delete[] many;
    }
    check_impossible(hide_size((size_t)PTRDIFF_MAX - 4096));
    check_impossible(hide_size(SIZE_MAX - 4096));
    check_impossible(hide_size(SIZE_MAX));
    check_exhaustion();
    return 0;
}
