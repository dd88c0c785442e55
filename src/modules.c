/* SPDX-License-Identifier: MIT */
/* modules.c - see modules.h. Headers are read through probe.h: a module may lack what it promises. */
#include "modules.h"

#include "os.h"
#include "probe.h"

#include <elf.h>
#include <link.h>
#include <string.h>

static const struct link_map *map_of(const struct bs_place *place) {
    return place->link_map;
}

uintptr_t bs_modules_bias(const struct bs_place *place) {
    return map_of(place)->l_addr;
}

bool bs_modules_is_program(const struct bs_place *place) {
    return map_of(place)->l_prev == NULL;
}

void bs_modules_path(const struct bs_place *place, char *path, size_t cap) {
    const char *name = map_of(place)->l_name;
    size_t n = 0;
    if (bs_modules_is_program(place) && bs_os_program_path(path, cap) == 0)
        return;
    bool relative = name != NULL && name[0] != '/' && strchr(name, '/') != NULL;
    if (relative && bs_os_folder(path, cap / 2) == 0) {
        n = strlen(path);
        path[n++] = '/';
        name += name[0] == '.' && name[1] == '/' ? 2 : 0;
    }
    for (size_t i = 0; name != NULL && name[i] != '\0' && n < cap - 1; i++)
        path[n++] = name[i];
    path[n] = '\0';
}

static uint64_t read_at(struct bs_probe *m, uintptr_t at, size_t n, bool *ok) {
    uint64_t x;
    if (!bs_probe_read(m, at, n, &x))
        *ok = false;
    return x;
}

/* The build-id among the notes of [at, end). */
static size_t find_note(struct bs_probe *m, uintptr_t at, uintptr_t end, uint8_t *id, size_t max,
                        uintptr_t *where) {
    bool ok = true;
    while (ok && at + 12 <= end && at + 12 > at) {
        uint64_t name_bytes = read_at(m, at, 4, &ok), bytes = read_at(m, at + 4, 4, &ok);
        uint64_t type = read_at(m, at + 8, 4, &ok);
        uintptr_t data = at + 12 + (name_bytes + 3) / 4 * 4;
        bool wanted = type == NT_GNU_BUILD_ID && name_bytes == 4 &&
                      read_at(m, at + 12, 4, &ok) == 0x554e47; /* "GNU" */
        if (wanted && ok && bytes <= max) {
            for (size_t i = 0; i < bytes; i++)
                id[i] = (uint8_t)read_at(m, data + i, 1, &ok);
            *where = data;
            return ok ? bytes : 0;
        }
        at = data + (bytes + 3) / 4 * 4;
    }
    return 0;
}

uint64_t bs_modules_id_at(const struct bs_place *place, uintptr_t at) {
    struct bs_probe m = bs_probe_of(place->start, place->end);
    uint64_t x;
    /* a module's first page is there: no need to ask the kernel each time */
    bs_probe_know(&m, place->start);
    (void)bs_probe_read(&m, at, 8, &x);
    return x;
}

size_t bs_modules_build_id(const struct bs_place *place, uint8_t *id, size_t max,
                           uintptr_t *where) {
    struct bs_probe m = bs_probe_of(place->start, place->end);
    bool ok = true;
    uint64_t magic = read_at(&m, place->start, 4, &ok);
    if (!ok || magic != 0x464c457f) /* "\x7f" "ELF" */
        return 0;
    uintptr_t base = place->start;
    uint64_t first = read_at(&m, base + offsetof(Elf64_Ehdr, e_phoff), 8, &ok);
    uint64_t bytes = read_at(&m, base + offsetof(Elf64_Ehdr, e_phentsize), 2, &ok);
    uint64_t n = read_at(&m, base + offsetof(Elf64_Ehdr, e_phnum), 2, &ok);
    size_t found = 0;
    for (uint64_t i = 0; ok && i < n && found == 0; i++) {
        uintptr_t h = base + first + i * bytes;
        uint64_t type = read_at(&m, h + offsetof(Elf64_Phdr, p_type), 4, &ok);
        uintptr_t at =
            bs_modules_bias(place) + read_at(&m, h + offsetof(Elf64_Phdr, p_vaddr), 8, &ok);
        uint64_t length = read_at(&m, h + offsetof(Elf64_Phdr, p_filesz), 8, &ok);
        if (ok && type == PT_NOTE)
            found = find_note(&m, at, at + bs_min(length, 65536), id, max, where);
    }
    return found;
}
