/* SPDX-License-Identifier: MIT */
/*
 * check_cfi.c - what tables of frames say that the programs here do not: a module of a few hundred bytes is made, with
 * each encoding of a pointer, each rule and each operation of an expression, and asked. What cannot be so is "not
 * known". Whole stacks, and tables that are damaged at random, are check_unwind's.
 */
#include "cfi.h"
#include "unit.h"

#include "base.h"

#include <limits.h>

#define CODE 16   /* offset of the code that the table speaks of, in a module; */
#define CODE_BYTES 64
#define HEADER 128 /* of the table of FDEs, */
#define ENTRIES 192 /* and of .eh_frame */
#define DATA_ALIGN (-8)

static struct module {
    uint8_t byte[1024];
    size_t n;
} module;
static uint64_t stack[16];
static struct bs_cfi_row row;
static struct bs_cfi_regs regs;

static uintptr_t base(void) {
    return (uintptr_t)module.byte;
}
static void put(uint64_t x, size_t bytes) {
    memcpy(module.byte + module.n, &x, bytes);
    module.n += bytes;
}
static void put_bytes(const char *bytes, size_t n) {
    memcpy(module.byte + module.n, bytes, n);
    module.n += n;
}
static void put_at(size_t at, uint64_t x, size_t bytes) {
    memcpy(module.byte + at, &x, bytes);
}

/* What differs between two modules. */
struct shape {
    unsigned version, encoding; /* of the CIE; of pointers in the FDE */
    const char *augmentation, *data; /* the latter behind its length; NULL: none */
    size_t data_bytes;
    const char *program; /* of the FDE */
    size_t program_bytes;
};

/* The pointer that stands at module.n in the encoding. */
static void put_pointer(unsigned encoding, uint64_t x) {
    static const uint8_t bytes[16] = {8, 3, 2, 4, 8, 0, 0, 0, 0, 3, 2, 4, 8, 0, 0, 0};
    if ((encoding & 0x70) == 0x10)
        x -= base() + module.n;
    if ((encoding & 0x0f) == 0x01 || (encoding & 0x0f) == 0x09) /* in three bytes */
        x = 0x8080 | (x & 0x7f) | (x >> 7 & 0x7f) << 8 | (x >> 14 & 0x7f) << 16;
    put(x, bytes[encoding & 0x0f]);
}

/* The CFA is the stack pointer + 16, and the return address 8 below it. */
static void make(const struct shape *s) {
    memset(&module, 0, sizeof module);
    module.n = ENTRIES;
    put(0, 4);
    put(0, 4);
    put(s->version, 1);
    put_bytes(s->augmentation, strlen(s->augmentation) + 1);
    put(1, 1);               /* bytes of an instruction */
    put(DATA_ALIGN & 0x7f, 1);
    put(BS_CFI_RA, 1);
    if (s->data != NULL) {
        put(s->data_bytes, 1);
        put_bytes(s->data, s->data_bytes);
    }
    put(0x0c, 1);
    put(BS_CFI_SP, 1);
    put(16, 1);
    put(0x80 | BS_CFI_RA, 1);
    put(1, 1);
    put_at(ENTRIES, module.n - ENTRIES - 4, 4);
    size_t fde = module.n;
    put(0, 4);
    put(module.n - ENTRIES, 4);
    put_pointer(s->encoding, base() + CODE);
    put_pointer(s->encoding & 0x0f, CODE_BYTES);
    if (s->data != NULL)
        put(0, 1);
    put_bytes(s->program, s->program_bytes);
    put_at(fde, module.n - fde - 4, 4);
    static const uint8_t header[] = {1, 0x1b, 0x03, 0x3b};
    memcpy(module.byte + HEADER, header, sizeof header);
    put_at(HEADER + 8, 1, 4);
    put_at(HEADER + 12, CODE - (uint64_t)HEADER, 4);
    put_at(HEADER + 16, fde - HEADER, 4);
}

static bool find_at(size_t offset) {
    struct bs_probe m = bs_probe_of(base(), base() + sizeof module.byte);
    return bs_cfi_find(&m, base() + HEADER, base() + offset, &row);
}
/* From the frame whose stack pointer is that of stack[4], and whose register 3 is 1000. */
static bool step(void) {
    struct bs_probe m = bs_probe_of(base(), base() + sizeof module.byte);
    struct bs_probe s = bs_probe_of((uintptr_t)stack, (uintptr_t)(stack + 16));
    for (unsigned i = 0; i < BS_ARRAY_LEN(stack); i++)
        stack[i] = 100 + i;
    memset(&regs, 0, sizeof regs);
    regs.value[BS_CFI_SP] = (uintptr_t)(stack + 4);
    regs.value[3] = 1000;
    regs.known = UINT32_C(1) << BS_CFI_SP | 1 << 3;
    return bs_cfi_step(&m, &s, &row, &regs);
}
static bool is_known(unsigned reg) {
    return (regs.known >> reg & 1) != 0;
}

/* --- tables ----------------------------------------------------------------------------------- */

#define PROGRAM(s) .program = (s), .program_bytes = sizeof(s) - 1
#define DATA(s) .data = (s), .data_bytes = sizeof(s) - 1

START_TEST(pointers_in_every_encoding) {
    static const unsigned known[] = {0x00, 0x03, 0x04, 0x0b, 0x0c}, relative[] = {0x02, 0x0a, 0x01, 0x09};
    struct shape s = {.version = 1, .augmentation = "zR", PROGRAM("\0\0\0")};
    char encoding[1];
    s.data = encoding;
    s.data_bytes = 1;
    for (size_t i = 0; i < BS_ARRAY_LEN(known) + BS_ARRAY_LEN(relative); i++) {
        bool is_absolute = i < BS_ARRAY_LEN(known) && (known[i] & 7) != 3; /* four bytes are too few for that */
        s.encoding = i < BS_ARRAY_LEN(known) ? known[i] | (is_absolute ? 0 : 0x10)
                                             : relative[i - BS_ARRAY_LEN(known)] | 0x10u;
        encoding[0] = (char)s.encoding;
        make(&s);
        /* what has no sign cannot go back to the code */
        bool reaches = s.encoding != 0x11 && s.encoding != 0x12 && s.encoding != 0x13;
        ck_assert_msg(find_at(CODE + 5) == reaches, "encoding %x", s.encoding);
        ck_assert(!reaches || (step() && regs.value[BS_CFI_RA] == 105));
    }
    static const unsigned wrong[] = {0x05, 0x1f, 0x20, 0x40, 0x9b, 0xff};
    for (size_t i = 0; i < BS_ARRAY_LEN(wrong); i++) {
        s.encoding = 0x1b;
        encoding[0] = (char)wrong[i];
        make(&s);
        ck_assert_msg(!find_at(CODE), "encoding %x", wrong[i]);
    }
}
END_TEST

START_TEST(entries_of_every_kind) {
    static const struct {
        struct shape shape;
        bool found, signal;
    } kinds[] = {
        {{1, 0x00, "", NULL, 0, PROGRAM("")}, true, false},
        {{3, 0x00, "", NULL, 0, PROGRAM("")}, true, false},
        {{3, 0x1b, "zR", DATA("\x1b"), PROGRAM("")}, true, false},
        {{1, 0x1b, "zRS", DATA("\x1b"), PROGRAM("")}, true, true},
        {{1, 0x1b, "zRB", DATA("\x1b"), PROGRAM("")}, true, false},
        {{1, 0x1b, "zRG", DATA("\x1b"), PROGRAM("")}, true, false},
        {{1, 0x1b, "zPLR", DATA("\x9b\1\2\3\4\x1b\x1b"), PROGRAM("")}, true, false},
        {{1, 0x1b, "zPLR", DATA("\xff\1\2\3\4\x1b\x1b"), PROGRAM("")}, false, false}, /* omitted: of no length */
        {{1, 0x1b, "zX", DATA("\x1b"), PROGRAM("")}, false, false},
        {{1, 0x00, "eh", NULL, 0, PROGRAM("")}, false, false},
        {{2, 0x00, "", NULL, 0, PROGRAM("")}, false, false},
        {{4, 0x00, "", NULL, 0, PROGRAM("")}, false, false},
        {{1, 0x1b, "zRSSSSSS", DATA("\x1b"), PROGRAM("")}, false, false}, /* too long */
    };
    for (size_t i = 0; i < BS_ARRAY_LEN(kinds); i++) {
        make(&kinds[i].shape);
        ck_assert_msg(find_at(CODE) == kinds[i].found, "kind %zu", i);
        ck_assert(!kinds[i].found || (row.signal_frame == kinds[i].signal && step()));
    }
    make(&kinds[0].shape);
    ck_assert(find_at(CODE + CODE_BYTES - 1));
    ck_assert(!find_at(CODE + CODE_BYTES));
    ck_assert(!find_at(CODE - 1));
}
END_TEST

/* One byte after the other. */
START_TEST(headers_that_cannot_be) {
    static const struct {
        size_t at;
        uint8_t byte;
    } wrong[] = {
        {HEADER, 2},       {HEADER + 2, 0x05}, {HEADER + 3, 0x1b}, {HEADER + 8, 0},  {HEADER + 11, 1},
        {ENTRIES, 2},      {ENTRIES + 3, 0xff}, {ENTRIES + 4, 1},   {ENTRIES + 14, BS_CFI_RA + 1},
        {ENTRIES + 15, 99}, {HEADER + 18, 1},
    };
    static const struct shape s = {1, 0x1b, "zR", DATA("\x1b"), PROGRAM("\0\0\0")};
    for (size_t i = 0; i < BS_ARRAY_LEN(wrong); i++) {
        make(&s);
        module.byte[wrong[i].at] = wrong[i].byte;
        ck_assert_msg(!find_at(CODE), "header %zu", i);
    }
    make(&s);
    ck_assert(find_at(CODE));
    for (size_t bytes = 0; bytes < module.n; bytes++) { /* a module that ends early */
        struct bs_probe m = bs_probe_of(base(), base() + bytes);
        ck_assert(!bs_cfi_find(&m, base() + HEADER, base() + CODE, &row));
    }
}
END_TEST

/* --- rules ------------------------------------------------------------------------------------ */

#define BAD LONG_MIN
#define NO_CALLER (LONG_MIN + 1)
#if defined(__x86_64__)
#define SP "\7"
#define RA "\x10"
#define OF_SP "\x77"
#else
#define SP "\x1f"
#define RA "\x1e"
#define OF_SP "\x8f"
#endif

/* At the code's byte 8: what register 3 is in the caller, of which 0 says that it is not known. */
static const struct {
    const char *what, *program;
    size_t bytes;
    long found;
} programs[] = {
#define RULE(what, program, found) {what, program, sizeof(program) - 1, found}
    RULE("the same", "", 1000),
    RULE("the same, said", "\x08\3", 1000),
    RULE("undefined", "\x07\3", 0),
    RULE("at CFA - 16", "\x83\2", 104),
    RULE("the same, extended", "\x05\3\2", 104),
    RULE("at CFA + 8, with a sign", "\x11\3\x7f", 107),
    RULE("in a register that is not known", "\x09\3\5", 0),
    RULE("restored", "\x07\3\xc3", 1000),
    RULE("restored, extended", "\x07\3\x06\3", 1000),
    RULE("remembered", "\x0a\x07\3\x0b", 1000),
    RULE("recalled too often", "\x0b", BAD),
    RULE("remembered too often", "\x0a\x0a\x0a\x0a\x0a", BAD),
    RULE("of a vector register", "\x05\x40\2\x06\x40\x09\x40\3\x08\x40", 1000),
    RULE("past the place", "\x49\x07\3", 1000),
    RULE("past the place, in one byte", "\x02\x09\x07\3", 1000),
    RULE("past the place, in two", "\x03\x09\0\x07\3", 1000),
    RULE("past the place, in four", "\x04\x09\0\0\0\x07\3", 1000),
    RULE("not past it", "\x48\x07\3", 0),
    RULE("arguments, and a signed address", "\x2e\x08\x2d", 1000),
    RULE("unknown", "\x3f", BAD),
    RULE("too large", "\x05\3\xff\xff\xff\xff\xff\xff\xff\xff\x7f", BAD),
    RULE("too far", "\x05\3\x80\x80\x80\x80\x80\x01", BAD),
    RULE("the CFA's register", "\x0d\3\x83\2", 0),
    RULE("the CFA's offset", "\x0e\x18\x83\2", 105),
    RULE("the CFA, scaled", "\x12" SP "\x7d\x83\2", 105),
    RULE("the CFA's offset, scaled", "\x13\x7d\x83\2", 105),
    RULE("the CFA in no register", "\x0d\x40", BAD),
    RULE("the CFA's offset is too large", "\x0e\xff\xff\xff\xff\x0f", BAD),
    RULE("no caller", "\x07" RA, NO_CALLER),
    RULE("cut short", "\x05", BAD),
    RULE("a block that is too long", "\x10\3\x7f", BAD),
    RULE("moved to a place", "\x01\0\0\0\0\0\0\0\0\x07\3", 0),
#undef RULE
};

START_TEST(rules) {
    const struct shape s = {1, 0x00, "", NULL, 0, programs[_i].program, programs[_i].bytes};
    long found = programs[_i].found;
    make(&s);
    bool known = find_at(CODE + 8);
    ck_assert_msg(known == (found != BAD), "%s", programs[_i].what);
    if (!known)
        return;
    bool stepped = step();
    if (found == NO_CALLER) {
        ck_assert(!stepped);
        return;
    }
    ck_assert_msg(is_known(3) == (found != 0) && (found == 0 || regs.value[3] == (uint64_t)found),
                  "%s: register 3 is %s, %lx", programs[_i].what, is_known(3) ? "known" : "not known",
                  (unsigned long)regs.value[3]);
}
END_TEST

/* What is at a distance of the CFA, or in another register, itself. */
START_TEST(values) {
    const struct shape at_cfa = {1, 0x00, "", NULL, 0, PROGRAM("\x14\3\2")};
    const struct shape at_cfa_with_sign = {1, 0x00, "", NULL, 0, PROGRAM("\x15\3\x7e")};
    const struct shape in_register = {1, 0x00, "", NULL, 0, PROGRAM("\x09\1\3")};
    make(&at_cfa);
    ck_assert(find_at(CODE) && step());
    ck_assert_uint_eq(regs.value[3], (uintptr_t)(stack + 4));
    make(&at_cfa_with_sign);
    ck_assert(find_at(CODE) && step());
    ck_assert_uint_eq(regs.value[3], (uintptr_t)(stack + 8));
    make(&in_register);
    ck_assert(find_at(CODE) && step());
    ck_assert(is_known(1));
    ck_assert_uint_eq(regs.value[1], 1000);
    ck_assert_uint_eq(regs.value[BS_CFI_SP], (uintptr_t)(stack + 6));
}
END_TEST

/* --- expressions ------------------------------------------------------------------------------ */

/* What register 3 is said to be; the CFA lies on the stack at first. BAD: not known. */
static const struct {
    const char *code;
    size_t bytes;
    long found;
} expressions[] = {
#define IS(code, found) {code, sizeof(code) - 1, found}
    IS("\x30", 0),
    IS("\x4f", 31),
    IS("\x08\xff", 255),
    IS("\x09\xfe", -2),
    IS("\x0a\xff\xff", 65535),
    IS("\x0b\xfe\xff", -2),
    IS("\x0c\xff\xff\xff\xff", 4294967295),
    IS("\x0d\xfe\xff\xff\xff", -2),
    IS("\x0e\1\0\0\0\1\0\0\0", 4294967297),
    IS("\x0f\xfe\xff\xff\xff\xff\xff\xff\xff", -2),
    IS("\x10\x80\x01", 128),
    IS("\x11\x7e", -2),
    IS("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", -1), /* more bits than there are */
    IS("\x73\x05", 1005), /* register 3 and 5 */
    IS("\x74\x05", BAD),  /* not known */
    IS(OF_SP "\x08\x06", 105), /* what lies at the stack pointer + 8 */
    IS("\x31\x06", BAD),
    IS("\x35\x12\x22", 10),
    IS("\x35\x36\x13", 5),
    IS("\x35\x36\x14\x22\x1c", 5 - (6 + 5)),
    IS("\x35\x1f", -5),
    IS("\x35\x20", ~5),
    IS("\x35\x23\x80\x01", 133),
    IS("\x35\x36\x1a", 5 & 6),
    IS("\x35\x36\x1c", -1),
    IS("\x35\x36\x1e", 30),
    IS("\x35\x36\x21", 5 | 6),
    IS("\x35\x36\x22", 11),
    IS("\x35\x36\x24", 5 << 6),
    IS("\x35\x08\x40\x24", 0),
    IS("\x4f\x31\x25", 15),
    IS("\x35\x08\x40\x25", 0),
    IS("\x09\xf0\x31\x26", -8),
    IS("\x09\xf0\x08\x40\x26", -1),
    IS("\x35\x36\x27", 5 ^ 6),
    IS("\x35\x36\x29", 0),
    IS("\x35\x36\x2a", 0),
    IS("\x35\x36\x2b", 0),
    IS("\x35\x36\x2c", 1),
    IS("\x35\x36\x2d", 1),
    IS("\x35\x36\x2e", 1),
    IS("\x09\xff\x30\x2d", 1), /* with a sign */
    IS("\x96\x35", 5),
    IS("\x2f", BAD),
    IS("\x13\x13", BAD),
    IS("\x13\x12", BAD),
    IS("\x14", BAD),
    IS("\x22", BAD),
    IS("\x13", BAD), /* nothing is left */
    IS("\x0e\1", BAD),
    IS("\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30", 0),
    IS("\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30\x30", BAD), /* and the CFA */
    IS("\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96"
       "\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96"
       "\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x96\x35", BAD), /* too many steps */
#undef IS
};

static void make_expression(unsigned op, const char *code, size_t bytes) {
    static char program[256];
    struct shape s = {1, 0x00, "", NULL, 0, program, bytes + 3};
    program[0] = (char)op;
    program[1] = 3;
    program[2] = (char)bytes;
    memcpy(program + 3, code, bytes);
    if (op == 0x0f) {
        memmove(program + 1, program + 2, bytes + 1);
        s.program_bytes--;
    }
    make(&s);
}

START_TEST(operations) {
    long found = expressions[_i].found;
    make_expression(0x16, expressions[_i].code, expressions[_i].bytes);
    ck_assert(find_at(CODE) && step()); /* one register is not known, and the walk goes on */
    ck_assert_msg(is_known(3) == (found != BAD) && (found == BAD || regs.value[3] == (uint64_t)found), "expression %d: %s, %lx", _i,
                  is_known(3) ? "known" : "not known", (unsigned long)regs.value[3]);
}
END_TEST

/* For the place of a register, and for the CFA itself. */
START_TEST(places) {
    make_expression(0x10, "\x23\x08", 2); /* CFA + 8 */
    ck_assert(find_at(CODE) && step());
    ck_assert_uint_eq(regs.value[3], 107);
    make_expression(0x10, "\x23\x80\x02", 3);
    ck_assert(find_at(CODE) && step() && !is_known(3));
    make_expression(0x0f, OF_SP "\x18", 2); /* stack pointer + 24 */
    ck_assert(find_at(CODE) && step());
    ck_assert_uint_eq(regs.value[BS_CFI_SP], (uintptr_t)(stack + 7));
    ck_assert_uint_eq(regs.value[BS_CFI_RA], 106);
    make_expression(0x0f, "\x22", 1);
    ck_assert(find_at(CODE) && !step());
}
END_TEST

int main(void) {
    Suite *suite = suite_create("cfi");
    TCase *tc = add_case(suite, "tables");
    tcase_add_test(tc, pointers_in_every_encoding);
    tcase_add_test(tc, entries_of_every_kind);
    tcase_add_test(tc, headers_that_cannot_be);
    tc = add_case(suite, "rules");
    tcase_add_loop_test(tc, rules, 0, (int)BS_ARRAY_LEN(programs));
    tcase_add_test(tc, values);
    tc = add_case(suite, "expressions");
    tcase_add_loop_test(tc, operations, 0, (int)BS_ARRAY_LEN(expressions));
    tcase_add_test(tc, places);
    return run_suite(suite);
}
