/* SPDX-License-Identifier: MIT */
/* log_line.c - see log_line.h. */
#include "log_line.h"

#include "opt.h"
#include "os.h"
#include "sink.h"
#include "stacks.h"
#include "utf8.h"
#include "variable.h"

/* Where nothing can be mapped one thread at a time has this. In a forked child it is nobody's. */
static char last_resort[BS_LINE_CAP];
static int taken_in; /* [atomic] the process whose thread has it; 0: free */

static char *take_last_resort(void) {
    int before = bs_load(&taken_in), pid = bs_os_pid();
    return before != pid && __atomic_compare_exchange_n(&taken_in, &before, pid, false, __ATOMIC_ACQUIRE,
                                                        __ATOMIC_RELAXED)
               ? last_resort
               : NULL;
}
static char *take_buffer(void) {
    char *buf = bs_os_alloc(bs_align_up(BS_LINE_CAP, bs_os_page_size()));
    return buf != NULL ? buf : take_last_resort();
}
static void give_buffer(char *buf) {
    if (buf == last_resort)
        bs_store_release(&taken_in, 0);
    else
        bs_os_free(buf, bs_align_up(BS_LINE_CAP, bs_os_page_size()));
}

void bs_line_begin(struct bs_line *l, const char *event) {
    l->json = bs_opt.log_format == BS_LOG_JSON;
    l->buf = take_buffer();
    bs_out_init(&l->out, l->buf, l->buf != NULL ? BS_LINE_CAP - 2 : 0); /* room for the closing brace and newline */
    if (l->json)
        bs_out_printf(&l->out, "{\"besom\":1,\"event\":\"%s\",\"pid\":%d,\"time_ns\":%ju", event,
                      bs_os_pid(), (uintmax_t)bs_os_wall_ns());
    else
        bs_out_printf(&l->out, "besom[%d] %s:", bs_os_pid(), event);
}

void bs_line_number(struct bs_line *l, const char *name, uint64_t x) {
    bs_out_printf(&l->out, l->json ? ",\"%s\":%ju" : " %s %ju", name, (uintmax_t)x);
}

void bs_line_signed(struct bs_line *l, const char *name, int64_t x) {
    bs_out_printf(&l->out, l->json ? ",\"%s\":%jd" : " %s %jd", name, (intmax_t)x);
}

void bs_line_bytes(struct bs_line *l, const char *name, uint64_t x) {
    bs_line_number(l, name, x);
    if (!l->json && x >= 10 * BS_KIB) {
        bs_out_str(&l->out, " (");
        bs_out_size(&l->out, x);
        bs_out_char(&l->out, ')');
    }
}

/* One character as JSON has it; what is behind it. Of a byte that is no UTF-8 the half of a surrogate is made that
 * python makes of it, and besom symbolize reads as that byte. */
static const char *json_piece(struct bs_out *out, const char *s) {
    unsigned char c = (unsigned char)*s;
    size_t n = bs_utf8_bytes(s);
    if (n == 0)
        bs_out_printf(out, "\\udc%02x", (unsigned)c);
    else if (c == '"' || c == '\\' || c < 0x20)
        bs_out_printf(out, "\\u%04x", (unsigned)c);
    else
        for (size_t i = 0; i < n; i++)
            bs_out_char(out, s[i]);
    return s + bs_max(n, (size_t)1);
}

void bs_line_address(struct bs_line *l, const char *name, uintptr_t x) {
    bs_out_printf(&l->out, l->json ? ",\"%s\":\"0x%jx\"" : " %s 0x%jx", name, (uintmax_t)x);
}

#define PIECE_MAX 8 /* "\u0000", the string's end, and what bs_out keeps free */

/* Cut where the line is full: the line stays one, and JSON. */
void bs_line_string(struct bs_line *l, const char *name, const char *s) {
    bs_out_printf(&l->out, l->json ? ",\"%s\":\"" : " %s ", name);
    while (*s != '\0' && l->out.len + PIECE_MAX < l->out.cap) {
        if (l->json) {
            s = json_piece(&l->out, s);
            continue;
        }
        bs_out_char(&l->out, (unsigned char)*s < 0x20 && *s != '\t' ? '?' : *s);
        s++;
    }
    if (l->json)
        bs_out_char(&l->out, '"');
}

void bs_line_time(struct bs_line *l) {
    if (l->json)
        return;
    bs_out_str(&l->out, " time ");
    bs_out_utc(&l->out, bs_os_wall_ns());
}

void bs_line_end(struct bs_line *l) {
    if (l->buf == NULL)
        return;
    if (l->json)
        l->buf[l->out.len++] = '}';
    l->buf[l->out.len++] = '\n';
    bs_sink_write(l->buf, l->out.len);
    give_buffer(l->buf);
}

void bs_line_mapping(struct bs_line *l, const struct bs_variable *v) {
    bs_line_number(l, "map_offset", v->offset);
    bs_line_string(l, "map", v->name[0] != '\0' ? v->name : "-");
}

void bs_line_frames(struct bs_line *l, const char *name, const struct bs_stack *s) {
    bs_out_printf(&l->out, l->json ? ",\"%s\":[" : " %s", name);
    for (uint32_t i = 0; i < s->n; i++)
        bs_out_printf(&l->out, !l->json ? " %u+0x%jx" : i == 0 ? "\"%u+0x%jx\"" : ",\"%u+0x%jx\"",
                      (unsigned)BS_FRAME_MODULE(s->frame[i]), (uintmax_t)BS_FRAME_OFFSET(s->frame[i]));
    bs_out_str(&l->out, l->json ? "]" : "");
}

static void module_line(uint32_t number_, const struct bs_module *m, bool loaded) {
    struct bs_line l;
    char id[2 * BS_BUILD_ID_MAX + 1];
    struct bs_out hex;
    bs_out_init(&hex, id, sizeof id);
    for (unsigned i = 0; i < m->id_bytes; i++)
        bs_out_printf(&hex, "%02x", m->id[i]);
    bs_line_begin(&l, "module");
    bs_line_number(&l, "number", number_);
    bs_line_string(&l, "build_id", m->id_bytes != 0 ? bs_out_text(&hex) : "none");
    bs_line_number(&l, "loaded", loaded);
    bs_line_string(&l, "path", m->path);
    bs_line_end(&l);
}

void bs_line_modules(struct bs_stack *const *stack, size_t n) {
    for (uint32_t m = 1; m <= bs_stacks_modules(); m++) {
        struct bs_module module;
        bool used = false, loaded;
        for (size_t i = 0; i < n && !used; i++)
            for (uint32_t k = 0; k < stack[i]->n && !used; k++)
                used = BS_FRAME_MODULE(stack[i]->frame[k]) == m;
        if (used && bs_stacks_module(m, &module, &loaded))
            module_line(m, &module, loaded);
    }
}
