/* eval_random.c: random numbers, reproducible by construction.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): word k of
 * the stream depends on the seed, the stream and k alone, so any part can be computed anywhere in
 * any order. IR.md fixes key, counter and the mapping to floats; "mt19937" is the sequential
 * generator behind numpy.random.RandomState, for models whose reference values were made with it.
 */
#include "eval_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void philox(const uint32_t in[4], uint64_t seed, uint32_t out[4]) {
    uint32_t c[4], k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    memcpy(c, in, sizeof c);
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xD2511F53u * c[0], q = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n[4] = {(uint32_t)(q >> 32) ^ c[1] ^ k0, (uint32_t)q,
                         (uint32_t)(p >> 32) ^ c[3] ^ k1, (uint32_t)p};
        memcpy(c, n, sizeof c);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

typedef struct Stream { uint64_t seed; uint32_t stream, run; } Stream;

/* 64 bits for element i: half a block. */
static uint64_t bits_at(const Stream *s, int64_t i) {
    uint64_t block = (uint64_t)i / 2;
    uint32_t c[4] = {(uint32_t)block, (uint32_t)(block >> 32), s->stream, s->run}, r[4];
    philox(c, s->seed, r);
    return i & 1 ? (uint64_t)r[3] << 32 | r[2] : (uint64_t)r[1] << 32 | r[0];
}

static double unit(uint64_t bits, DType t) { /* [0, 1): 24 bits unless the type is wider */
    return t == DT_F64 ? (double)(bits >> 11) * 0x1p-53 : (double)((uint32_t)bits >> 8) * 0x1p-24;
}

static void draw_uniform(const RandomAttr *a, const Stream *s, int64_t i, DType t, Cell *x) {
    x->f = a->a + (a->b - a->a) * unit(bits_at(s, i), t);
}

/* Box and Muller, from the two halves of the element's bits; u in (0, 1]. */
static void draw_normal(const RandomAttr *a, const Stream *s, int64_t i, DType t, Cell *x) {
    (void)t;
    uint64_t b = bits_at(s, i);
    double u = ((double)(uint32_t)b + 1) * 0x1p-32, v = (double)(b >> 32) * 0x1p-32;
    x->f = a->a + a->b * sqrt(-2 * log(u)) * cos(6.283185307179586476925 * v);
}

static void draw_bits(const RandomAttr *a, const Stream *s, int64_t i, DType t, Cell *x) {
    (void)a, (void)t;
    x->i = (int64_t)bits_at(s, i);
}

static const struct {
    const char *algo;
    void (*draw)(const RandomAttr *, const Stream *, int64_t, DType, Cell *); /* NULL: sequential */
    bool ints;
} algo_table[] = {
    {"uniform", draw_uniform, false},
    {"normal", draw_normal, false},
    {"bits", draw_bits, true},
    {"mt19937", NULL, false},
};

/* ==== numpy's RandomState(seed).random_sample() ============================================== */

typedef struct Twister { uint32_t s[624]; int at; } Twister;

static void twister_seed(Twister *t, uint32_t seed) {
    for (uint32_t k = 0; k < 624; k++) {
        t->s[k] = seed;
        seed = 1812433253u * (seed ^ seed >> 30) + k + 1;
    }
    t->at = 624;
}

static uint32_t twister_next(Twister *t) {
    if (t->at == 624) {
        for (int k = 0; k < 624; k++) {
            uint32_t y = (t->s[k] & 0x80000000u) | (t->s[(k + 1) % 624] & 0x7fffffffu);
            t->s[k] = t->s[(k + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        t->at = 0;
    }
    uint32_t y = t->s[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

static void fill_twister(const RandomAttr *a, EVal *v, int64_t n) {
    Twister t;
    twister_seed(&t, (uint32_t)a->seed);
    int width = ev_width(v->dtype);
    for (int64_t i = 0; i < n; i++) {
        uint32_t hi = twister_next(&t) >> 5, lo = twister_next(&t) >> 6;
        Cell x = {.f = a->a + (a->b - a->a) * ((hi * 67108864.0 + lo) / 9007199254740992.0)};
        cells_store(v->dtype, v->base + i * width, 1, &x, 1);
    }
}

/* ==== the node =============================================================================== */

/* How often this node ran before, in this evaluation. */
static bool count_run(Ev *e, const Node *n, uint32_t *runs) {
    for (uint32_t k = 0; k < e->ndraw; k++) {
        if (e->draw[k].node == n) {
            *runs = (uint32_t)e->draw[k].runs++;
            return true;
        }
    }
    EDraw *d = realloc(e->draw, sizeof *d * (e->ndraw + 1));
    if (!d) return ev_fail(e, "E0804", "no memory");
    e->draw = d;
    d[e->ndraw++] = (EDraw){n, 1};
    *runs = 0;
    return true;
}

bool ev_random(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    (void)in;
    const RandomAttr *a = n->attr;
    if (e->quiet) return ev_fail(e, "E0805", "random values are not folded");
    int64_t dim[MAX_RANK];
    DType t = (DType)a->type.dtype;
    size_t k = 0, count = sizeof algo_table / sizeof *algo_table;
    while (k < count && strcmp(algo_table[k].algo, a->algo)) k++;
    if (k == count || !(algo_table[k].ints ? dt_is_int(t) : dt_is_float(t))) {
        return ev_fail(e, "E0805", "random has no %s of %s", a->algo, dt_name(t));
    }
    for (int d = 0; d < a->type.rank; d++) {
        if (!ev_dim(e, a->type.dim[d], &dim[d])) return false;
    }
    Stream s = {.seed = a->seed};
    if (!count_run(e, n, &s.run)) return false;
    if (!a->seeded) {
        s.seed = e->seed + a->seed * 0x9E3779B97F4A7C15u;
        s.stream = n->loc.i ? (uint32_t)loc_info(e->c, n->loc)->node : n->id;
    }
    EVal *v = out[0] = ev_new(e, t, a->type.rank, dim);
    if (!v) return false;
    int64_t total = ev_count(v);
    int width = ev_width(t);
    if (!algo_table[k].draw) {
        fill_twister(a, v, total);
        return true;
    }
    for (int64_t i = 0; i < total; i++) {
        Cell x;
        algo_table[k].draw(a, &s, i, t, &x);
        cells_round(t, &x, 1);
        cells_store(t, v->base + i * width, 1, &x, 1);
    }
    return true;
}
