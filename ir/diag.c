/* diag.c: messages about bad input, kept in the Ctx in order; and the two ways to end: ctx_fatal
 * (resources) and ICE (a bug of ours). One line per message, then evidence lines. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

enum { MAX_MESSAGES = 100, MAX_WARNINGS = 50, MAX_NOTES = 400 };

Loc loc_new(Ctx *c, const LocInfo *info) {
    vec_push(c, &c->loc, *info);
    LocInfo *l = &c->loc.v[c->loc.n - 1];
    l->file = l->file ? ctx_str(c, l->file) : "";
    l->name = l->name ? ctx_str(c, l->name) : "";
    l->op = l->op ? ctx_str(c, l->op) : "";
    return (Loc){c->loc.n - 1};
}

const LocInfo *loc_info(const Ctx *c, Loc l) { return &c->loc.v[l.i < c->loc.n ? l.i : 0]; }

/* Names come from files: no control characters reach the terminal, and a message stays one line. */
static const char *printable(char *s) {
    for (char *p = s; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f) *p = '?';
    return s;
}

static void put_place(Buf *b, const LocInfo *l) {
    if (*l->file) buf_puts(b, l->file);
    if (l->line) buf_printf(b, ":%u:%u", l->line, l->col);
    if (b->n) buf_puts(b, ": ");
    if (l->node >= 0 && (*l->op || *l->name)) buf_printf(b, "node #%d ", l->node);
    if (*l->name) buf_printf(b, l->node >= 0 ? "\"%s\" " : "%s ", l->name);
    if (*l->op) {
        if (l->version) buf_printf(b, "(%s-%d)", l->op, l->version);
        else buf_printf(b, "(%s)", l->op);
    }
    while (b->n && b->s[b->n - 1] == ' ') b->n--;
    if (b->n && b->s[b->n - 1] != ':') buf_puts(b, ":");
    if (b->n) buf_puts(b, " ");
}

void diag_here(Ctx *c, Loc loc) { c->here = loc; }

void diag(Ctx *c, Sev sev, Loc loc, const char *code, const char *fmt, ...) {
    static const char *const names[] = {"error", "unsupported", "warning", "note"};
    if (sev <= SEV_UNSUPPORTED) c->nerrors++;
    uint32_t *count = sev <= SEV_UNSUPPORTED ? &c->nkept : &c->nwarned;
    c->silent = c->nkept + c->nwarned >= MAX_MESSAGES;
    if (count == &c->nwarned && c->nwarned >= MAX_WARNINGS)
        c->silent = true; /* leave room for errors */
    if (c->silent) {
        c->nsilent++;
        return;
    }
    ++*count;
    Buf b = {.c = c};
    put_place(&b, loc_info(c, loc));
    buf_printf(&b, "%s[%s]: ", names[sev], code);
    va_list ap;
    va_start(ap, fmt);
    char text[4096];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_puts(&b, text);
    vec_push(c, &c->diag, (Diag){sev, loc, printable(b.s)});
}

void diag_note(Ctx *c, const char *fmt, ...) {
    if (c->silent || c->diag.n >= MAX_NOTES) return;
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    vec_push(c, &c->diag, (Diag){SEV_NOTE, {0}, printable(ctx_printf(c, "  %s", text))});
}

uint32_t ctx_errors(const Ctx *c) { return c->nerrors; }

bool ctx_message(const Ctx *c, uint32_t k, Sev *sev, Loc *loc, const char **text) {
    if (k >= c->diag.n) return false;
    *sev = c->diag.v[k].sev;
    *loc = c->diag.v[k].loc;
    *text = c->diag.v[k].text;
    return true;
}

const char *ctx_messages(Ctx *c) {
    Buf b = {.c = c};
    for (uint32_t i = 0; i < c->diag.n; i++) buf_printf(&b, "%s\n", c->diag.v[i].text);
    if (c->nsilent) buf_printf(&b, "... and %u more\n", c->nsilent);
    return buf_str(&b);
}

void ctx_fatal(Ctx *c, const char *fmt, ...) {
    for (uint32_t i = 0; i < c->diag.n; i++) fprintf(stderr, "%s\n", c->diag.v[i].text);
    fputs("accelc: ", stderr);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

void ice(const char *file, int line, const char *fmt, ...) {
    const char *base = strrchr(file, '/');
    fprintf(stderr, "accelc: internal error at %s:%d: ", base ? base + 1 : file, line);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\nThis is a bug of accelc; please report it together with the model.\n", stderr);
    abort();
}
