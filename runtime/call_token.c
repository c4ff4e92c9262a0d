/* call_token.c: strings to tokens, and to hashes. */
#include "call_internal.h"

/* ---- the leftmost match of a pattern, the longest of those */

typedef struct ReFind {
    const Re *re;
    ReSet now, next;
    const char **now_from, **next_from;     /* where the match of each state in a set's list began, in ascending order */
    int *stack;
} ReFind;

static bool find_open(ReFind *f, rt_call *c, const Re *re)
{
    int n = re->nins;
    int *mem = call_alloc(c, 7 * (int64_t)n, sizeof *mem);
    const char **from = call_alloc(c, 2 * (int64_t)n, sizeof *from);
    if (!mem || !from)
        return false;
    *f = (ReFind){re, {0, mem, mem + n}, {0, mem + 2 * n, mem + 3 * n}, from, from + n, mem + 4 * n};
    return true;
}

/* State i and what follows from it, for a match that began at `from`. */
static void find_reach(const ReFind *f, ReSet *s, const char **froms, int i, uint32_t before, uint32_t after, const char *from)
{
    int n = s->n;
    reach(f->re, s, f->stack, i, before, after);
    for (; n < s->n; n++)
        froms[n] = from;
}

/* The first match in s at or behind `at`; what lies before is seen by assertions only. */
static bool re_find(ReFind *f, accelc_str s, size_t at, accelc_str *match)
{
    const Re *r = f->re;
    const char *p = s.ptr + at, *end = s.ptr + s.len, *q = p, *best = NULL;
    uint32_t before = at ? (unsigned char)p[-1] : (uint32_t)NOTHING, c = q < end ? utf8_next(&q, end) : (uint32_t)NOTHING;
    f->now.n = 0;
    for (;;) {
        if (!best)
            find_reach(f, &f->now, f->now_from, 0, before, c, p);
        if (set_has(&f->now, r->nins - 1)) {
            const char *from = f->now_from[f->now.index[r->nins - 1]];
            if (!best || from <= best) {
                best = from;
                *match = (accelc_str){from, (size_t)(p - from)};
            }
        }
        if (c == NOTHING || (best && !f->now.n))
            return best != NULL;
        const char *next = q;
        uint32_t after = q < end ? utf8_next(&q, end) : (uint32_t)NOTHING;
        f->next.n = 0;
        for (int k = 0; k < f->now.n && (!best || f->now_from[k] <= best); k++) {
            int i = f->now.list[k];
            if (r->ins[i].op == I_SET && in_set(r, &r->ins[i], c))
                find_reach(f, &f->next, f->next_from, i + 1, c, after, f->now_from[k]);
        }
        ReSet set = f->now;
        f->now = f->next;
        f->next = set;
        const char **froms = f->now_from;
        f->now_from = f->next_from;
        f->next_from = froms;
        before = c;
        c = after;
        p = next;
    }
}

/* ---- tokens */

typedef struct Tokens { int64_t least, n; accelc_str *list; } Tokens;   /* least: characters of a token; list NULL: only counted */

/* Characters of s; -1: not UTF-8. */
static int64_t characters(accelc_str s)
{
    int64_t n = 0;
    for (const char *p = s.ptr, *end = p + s.len; p < end; n++)
        if (utf8_next(&p, end) >= INVALID)
            return -1;
    return n;
}

static void put_token(Tokens *t, const char *from, const char *to)
{
    accelc_str s = {from, (size_t)(to - from)};
    if (characters(s) < t->least)
        return;
    if (t->list)
        t->list[t->n] = s;
    t->n++;
}

static const char *behind_one(const char *p, const char *end)
{
    if (p < end)
        utf8_next(&p, end);
    return p;
}

static void each_character(Tokens *t, accelc_str s)
{
    for (const char *p = s.ptr, *end = p + s.len, *q; p < end; p = q)
        put_token(t, p, q = behind_one(p, end));
}

/* The matches; where one is too short, the search goes on one character later. */
static void each_match(Tokens *t, accelc_str s, ReFind *f)
{
    accelc_str m;
    for (size_t at = 0; at <= s.len && re_find(f, s, at, &m);) {
        const char *end = m.ptr + m.len;
        int64_t n = t->n;
        put_token(t, m.ptr, end);
        if (t->n == n && m.ptr == s.ptr + s.len)
            return;
        at = (size_t)((t->n > n ? end : behind_one(m.ptr, s.ptr + s.len)) - s.ptr);
    }
}

/* What lies between separators. An empty one swallows the character behind it, as in ONNX Runtime. */
static void split_at(Tokens *t, accelc_str s, ReFind *f)
{
    const char *from = s.ptr, *end = s.ptr + s.len;
    for (accelc_str m; re_find(f, s, (size_t)(from - s.ptr), &m);) {
        put_token(t, from, m.ptr);
        if (!m.len && m.ptr == end)
            return;
        from = m.len ? m.ptr + m.len : behind_one(m.ptr, end);
    }
    put_token(t, from, end);
}

typedef struct Tokenizer {
    int64_t nfind, least;       /* nfind -1: characters */
    ReFind *find;
    bool separators;
    accelc_str *part[2];        /* pieces of one string, before and after a separator */
} Tokenizer;

static bool tokenizer_open(Tokenizer *k, rt_call *c, const rt_value *separators, const rt_value *token, int64_t longest)
{
    const rt_value *by = separators ? separators : token;
    int64_t n = by ? call_count(by) : 0;
    if (n < 1)
        return call_fail(c, "neither separators nor a pattern");
    const accelc_str *p = call_strs(by);
    k->separators = separators != NULL;
    k->nfind = n;
    if (n == 1 && (separators ? !p->len : p->len == 1 && *p->ptr == '.')) {
        k->nfind = -1;
        return true;
    }
    Re *re = call_alloc(c, n, sizeof *re);
    k->find = call_alloc(c, n, sizeof *k->find);
    for (int i = 0; i < 2; i++)
        k->part[i] = call_alloc(c, longest + 1, sizeof(accelc_str));
    if (!re || !k->find || !k->part[0] || !k->part[1])
        return false;
    for (int64_t i = 0; i < n; i++)
        if (!re_compile(&re[i], c, p[i]) || !find_open(&k->find[i], c, &re[i]))
            return false;
    return true;
}

/* The tokens of s; to: where they go, or NULL. Returns their number. */
static int64_t tokenize(const Tokenizer *k, accelc_str s, accelc_str *to)
{
    Tokens t = {.least = k->least, .list = to};
    if (k->nfind < 0)
        each_character(&t, s);
    else if (!k->separators)
        each_match(&t, s, k->find);
    if (k->nfind < 0 || !k->separators)
        return t.n;
    int64_t n = 1;
    accelc_str *now = k->part[0], *next = k->part[1];
    for (now[0] = s; t.n < k->nfind && n; t.n++) {
        Tokens cut = {.least = k->least, .list = next};
        for (int64_t i = 0; i < n; i++)
            split_at(&cut, now[i], &k->find[t.n]);
        n = cut.n;
        accelc_str *p = now;
        now = next;
        next = p;
    }
    if (to && n)
        memcpy(to, now, (size_t)n * sizeof *to);
    return n;
}

/* (x str, separators str[n] or none, token str[1] or none, pad str[], how i64[2]) -> str[.., d]: the tokens of each string, d the most of
 * them. They are what lies between matches of the separators, applied one after the other, or the matches of a pattern. One empty
 * separator or the pattern "." gives characters. how: whether a token "\2" goes before those of a string and "\3" behind; how many characters
 * a token has at least, >= 1. `pad` fills up. */
CALL_FN(tokenize)
{
    const rt_value *x = tensor_operand(c, 0, DT_STR), *pad = tensor_operand(c, 3, DT_STR), *how = tensor_operand(c, 4, DT_I64);
    if (!x || !pad || !how)
        return false;
    if (call_count(how) != 2 || ((const int64_t *)how->data)[1] < 1 || call_count(pad) < 1)
        return call_fail(c, "tokens need one character at least");
    Tokenizer k = {.least = ((const int64_t *)how->data)[1]};
    int64_t mark = ((const int64_t *)how->data)[0] ? 2 : 0, count = call_count(x), longest = 0, most = 0, dims[CALL_RANK];
    const accelc_str *s = call_strs(x);
    if (x->rank == CALL_RANK)
        return call_fail(c, "a result of rank %d", x->rank + 1);
    for (int64_t i = 0; i < count; i++) {
        int64_t n = characters(s[i]);
        if (n < 0)
            return call_fail(c, "string %lld is not UTF-8", (long long)i);
        longest = n > longest ? n : longest;
    }
    int64_t *len = call_alloc(c, count, sizeof *len);
    if (!len || !tokenizer_open(&k, c, c->in[1], c->in[2], longest))
        return false;
    for (int64_t i = 0; i < count; i++) {
        len[i] = tokenize(&k, s[i], NULL);
        most = len[i] > most ? len[i] : most;
    }
    memcpy(dims, x->dims, sizeof dims);
    dims[x->rank] = most ? most + mark : 0;
    rt_value *y = c->out[0] = call_tensor(c, DT_STR, x->rank + 1, dims);
    if (!y)
        return false;
    accelc_str *to = y->data, *end;
    for (int64_t i = 0; i < count && most; i++) {
        end = to + most + mark;
        if (mark)
            *to++ = (accelc_str){"\2", 1};
        to += tokenize(&k, s[i], to);
        if (mark)
            *to++ = (accelc_str){"\3", 1};
        while (to < end)
            *to++ = call_strs(pad)[0];
    }
    return true;
}

/* ---- hashes */

static uint32_t rotl(uint32_t x, int n) { return x << n | x >> (32 - n); }

/* MurmurHash3_x86_32 */
static uint32_t murmur(accelc_str s, uint32_t h)
{
    for (size_t i = 0; i < s.len; i += 4) {
        uint32_t k = 0, n = s.len - i < 4 ? (uint32_t)(s.len - i) : 4;
        for (uint32_t b = 0; b < n; b++)
            k |= (uint32_t)(unsigned char)s.ptr[i + b] << 8 * b;
        h ^= rotl(k * 0xcc9e2d51u, 15) * 0x1b873593u;
        if (n == 4)
            h = rotl(h, 13) * 5 + 0xe6546b64u;
    }
    h ^= (uint32_t)s.len;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

/* (x str, seed i64[]) -> u32 of the shape of x: MurmurHash3_x86_32 of the bytes of each string */
CALL_FN(murmur)
{
    const rt_value *x = tensor_operand(c, 0, DT_STR);
    int64_t seed;
    if (!x || !call_int(c, c->in[1], "seed", &seed))
        return false;
    rt_value *y = c->out[0] = call_tensor(c, DT_U32, x->rank, x->dims);
    for (int64_t i = 0, n = y ? call_count(x) : 0; i < n; i++)
        ((uint32_t *)y->data)[i] = murmur(call_strs(x)[i], (uint32_t)seed);
    return y != NULL;
}
