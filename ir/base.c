/* base.c: the arena that owns everything of one compilation, growable vectors, interned strings, a
 * string map, text buffers, hashing. Invariant: memory is zeroed, and lives until ctx_free. With
 * ACCELC_HOSTILE every object is an allocation of its own, so that a sanitizer sees an overrun of
 * any of them. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { BLOCK = 1 << 20, BIG = 4096 };
struct Block { Block *next; size_t used, size; void *raw; char *data; };

static size_t default_limit(void) { return sizeof(size_t) > 4 ? (size_t)1 << 40 : (size_t)1 << 31; }

Ctx *ctx_new(void) {
    Ctx *c = calloc(1, sizeof *c);
    if (!c) {
        fputs("accelc: out of memory\n", stderr);
        exit(1);
    }
    c->limit = default_limit();
    vec_push(c, &c->loc, (LocInfo){.file = "", .name = "", .op = "", .node = -1});
    return c;
}

void ctx_free(Ctx *c) {
    if (!c) return;
    for (Block *b = c->block, *next; b; b = next) {
        next = b->next;
        free(b->raw);
        free(b);
    }
    free(c);
}

static Block *new_block(Ctx *c, size_t size) {
    Block *b = calloc(1, sizeof *b);
#ifdef ACCELC_HOSTILE /* no slack behind the object */
    if (b && posix_memalign(&b->raw, size >= BIG ? 64 : 16, size) == 0)
        b->data = memset(b->raw, 0, size);
#else /* calloc: the system's fresh pages are not touched */
    if (b) b->raw = calloc(1, size + 64);
    if (b && b->raw) b->data = (char *)(((uintptr_t)b->raw + 63) & ~(uintptr_t)63);
#endif
    if (!b || !b->data) {
        free(b);
        ctx_fatal(c, "out of memory (%zu bytes in use)", c->used);
    }
    b->size = size;
    b->next = c->block;
    c->block = b;
    return b;
}

void *ctx_alloc(Ctx *c, size_t n) {
    if (n > c->limit - c->used) ctx_fatal(c, "the compilation needs more than %zu bytes", c->limit);
    c->used += n;
#ifdef ACCELC_HOSTILE
    return new_block(c, n ? n : 1)->data;
#else
    if (n >= BIG) { /* behind the current block, which stays in use */
        Block *top = c->block, *b = new_block(c, n);
        b->used = n;
        if (top) {
            c->block = top;
            b->next = top->next;
            top->next = b;
        }
        return b->data;
    }
    size_t need = (n + 15) & ~(size_t)15;
    if (!c->block || c->block->size - c->block->used < need) new_block(c, BLOCK);
    void *p = c->block->data + c->block->used;
    c->block->used += need;
    return p;
#endif
}

void *ctx_allocn(Ctx *c, size_t size, size_t n) {
    size_t bytes;
    if (__builtin_mul_overflow(size, n, &bytes))
        ctx_fatal(c, "the compilation needs more than %zu bytes", c->limit);
    return ctx_alloc(c, bytes);
}

void *ctx_dup(Ctx *c, const void *p, size_t n) {
    void *q = ctx_alloc(c, n);
    if (n) memcpy(q, p, n);
    return q;
}

static char *vprint(Ctx *c, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    CHECK(n >= 0);
    char *s = ctx_alloc(c, (size_t)n + 1);
    vsnprintf(s, (size_t)n + 1, fmt, ap);
    return s;
}

char *ctx_printf(Ctx *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *s = vprint(c, fmt, ap);
    va_end(ap);
    return s;
}

size_t ctx_memory(const Ctx *c) { return c->used; }

uint64_t hash_bytes(const void *p, size_t n, uint64_t seed) {
    const unsigned char *s = p;
    uint64_t h = seed ^ 0xcbf29ce484222325u;
    for (; n >= 8; n -= 8, s += 8) {
        uint64_t w;
        memcpy(&w, s, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    for (size_t i = 0; i < n; i++) h = (h ^ s[i]) * 0x100000001b3u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

/* ---- interned strings ---- */

static uint32_t str_slot(const StrTable *t, const char *s, size_t n) {
    uint32_t h = (uint32_t)hash_bytes(s, n, 1) & (t->cap - 1);
    while (t->s[h] && (strncmp(t->s[h], s, n) != 0 || t->s[h][n])) h = (h + 1) & (t->cap - 1);
    return h;
}

const char *ctx_strn(Ctx *c, const char *s, size_t n) {
    size_t len = strnlen(s, n); /* a NUL inside ends the string */
    StrTable *t = &c->str;
    if (2 * (t->n + 1) > t->cap) {
        StrTable old = *t;
        t->cap = old.cap ? 2 * old.cap : 256;
        t->s = NEWN(c, const char *, t->cap);
        for (uint32_t i = 0; i < old.cap; i++)
            if (old.s[i]) t->s[str_slot(t, old.s[i], strlen(old.s[i]))] = old.s[i];
    }
    uint32_t h = str_slot(t, s, len);
    if (!t->s[h]) {
        char *copy = ctx_alloc(c, len + 1);
        memcpy(copy, s, len);
        t->s[h] = copy;
        t->n++;
    }
    return t->s[h];
}

const char *ctx_str(Ctx *c, const char *s) { return ctx_strn(c, s, strlen(s)); }

/* ---- vectors, maps, text ---- */

void vec_grow(Ctx *c, void **v, uint32_t *cap, size_t elem) {
#ifdef ACCELC_HOSTILE
    uint32_t grown = *cap < 16 ? *cap + 1 : *cap + *cap / 4;
#else
    uint32_t grown = *cap ? *cap * 2 : 8;
#endif
    if (grown <= *cap || grown > UINT32_MAX / 2) ctx_fatal(c, "a table is too large");
    void *p = ctx_alloc(c, grown * elem);
    if (*cap) memcpy(p, *v, *cap * elem);
    *v = p;
    *cap = grown;
}

struct StrEnt { const char *key; uint32_t value; };

static uint32_t map_slot(const StrMap *m, const char *key) {
    uint32_t h = (uint32_t)hash_bytes(key, strlen(key), 2) & (m->cap - 1);
    while (m->e[h].key && strcmp(m->e[h].key, key) != 0) h = (h + 1) & (m->cap - 1);
    return h;
}

void strmap_put(StrMap *m, const char *key, uint32_t value) {
    if (2 * (m->n + 1) > m->cap) {
        StrMap old = *m;
        m->cap = old.cap ? 2 * old.cap : 16;
        m->e = NEWN(m->c, struct StrEnt, m->cap);
        for (uint32_t i = 0; i < old.cap; i++)
            if (old.e[i].key) m->e[map_slot(m, old.e[i].key)] = old.e[i];
    }
    uint32_t h = map_slot(m, key);
    if (!m->e[h].key) {
        m->e[h].key = ctx_dup(m->c, key, strlen(key) + 1);
        m->n++;
    }
    m->e[h].value = value;
}

uint32_t strmap_get(const StrMap *m, const char *key) {
    if (!m->cap) return 0;
    return m->e[map_slot(m, key)].value;
}

static void buf_reserve(Buf *b, size_t more) {
    if (b->n + more + 1 <= b->cap) return;
    size_t cap = b->cap ? 2 * b->cap : 256;
    while (cap < b->n + more + 1) cap *= 2;
    char *s = ctx_alloc(b->c, cap);
    if (b->n) memcpy(s, b->s, b->n);
    b->s = s;
    b->cap = cap;
}

void buf_puts(Buf *b, const char *s) {
    size_t n = strlen(s);
    buf_reserve(b, n);
    memcpy(b->s + b->n, s, n + 1);
    b->n += n;
}

void buf_printf(Buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    CHECK(n >= 0);
    buf_reserve(b, (size_t)n);
    vsnprintf(b->s + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

const char *buf_str(Buf *b) {
    buf_reserve(b, 0);
    b->s[b->n] = 0;
    return b->s;
}
