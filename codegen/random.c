/* random.c: random numbers that are a function of seed, stream, run and element, as expressions: Philox4x32-10 with key,
 * counter and mapping to floats as IR.md has them (ir/eval_random.c is the other reader). In: a random node and the flat
 * index of an element; out: its value. Any part can thus be computed anywhere, in any order, inside any kernel. */
#include <string.h>

#include "emit_internal.h"

typedef struct Rnd { Ctx *c; } Rnd;

static Expr op(Rnd *r, SOp o, Expr a, Expr b) { return expr_op(r->c, o, a, b, (Expr){0}); }
static Expr u64(Rnd *r, uint64_t v) { return expr_int(r->c, DT_U64, (int64_t)v); }
static Expr low(Rnd *r, Expr a) { return op(r, S_AND, a, u64(r, 0xffffffffu)); }
static Expr high(Rnd *r, Expr a) { return op(r, S_SHR, a, u64(r, 32)); }

static Expr symbol(Rnd *r, const char *name) {
    return expr_cast(r->c, expr_dim(r->c, dim_sym(r->c, name, 0, DIM_INF)), DT_U64);
}

/* One block of four words; words are u64 below 2^32. */
static void philox(Rnd *r, Expr *c, Expr seed) {
    Expr k0 = low(r, seed), k1 = high(r, seed);
    for (int round = 0; round < 10; round++) {
        Expr p = op(r, S_MUL, u64(r, 0xD2511F53u), c[0]), q = op(r, S_MUL, u64(r, 0xCD9E8D57u), c[2]);
        Expr n0 = op(r, S_XOR, op(r, S_XOR, high(r, q), c[1]), k0), n2 = op(r, S_XOR, op(r, S_XOR, high(r, p), c[3]), k1);
        c[0] = n0;
        c[1] = low(r, q);
        c[2] = n2;
        c[3] = low(r, p);
        k0 = low(r, op(r, S_ADD, k0, u64(r, 0x9E3779B9u)));
        k1 = low(r, op(r, S_ADD, k1, u64(r, 0xBB67AE85u)));
    }
}

/* 64 bits for element i: half a block. */
static Expr bits_at(Rnd *r, const Node *n, Expr i) {
    const RandomAttr *a = n->attr;
    Expr seed = u64(r, a->seed), stream = u64(r, 0), e = expr_cast(r->c, i, DT_U64), block = op(r, S_SHR, e, u64(r, 1));
    if (!a->seeded) {
        seed = op(r, S_ADD, symbol(r, RANDOM_SEED), u64(r, a->seed * 0x9E3779B97F4A7C15u));
        stream = u64(r, n->loc.i ? (uint32_t)loc_info(r->c, n->loc)->node : n->id);
    }
    Expr c[4] = {low(r, block), high(r, block), stream, low(r, symbol(r, RANDOM_RUN))};
    philox(r, c, seed);
    Expr odd = op(r, S_NE, op(r, S_AND, e, u64(r, 1)), u64(r, 0));
    Expr lo = expr_op(r->c, S_SELECT, odd, c[2], c[0]), hi = expr_op(r->c, S_SELECT, odd, c[3], c[1]);
    return op(r, S_OR, op(r, S_SHL, hi, u64(r, 32)), lo);
}

static Expr f64(Rnd *r, double v) { return expr_float(r->c, DT_F64, v); }
static Expr scaled(Rnd *r, Expr word, double by) { return op(r, S_MUL, expr_cast(r->c, word, DT_F64), f64(r, by)); }

static Expr uniform(Rnd *r, const RandomAttr *a, Expr bits) { /* [a, b): 24 bits unless the type is wider */
    Expr u = a->type.dtype == DT_F64 ? scaled(r, op(r, S_SHR, bits, u64(r, 11)), 0x1p-53)
                                     : scaled(r, op(r, S_SHR, low(r, bits), u64(r, 8)), 0x1p-24);
    return op(r, S_ADD, f64(r, a->a), op(r, S_MUL, f64(r, a->b - a->a), u));
}

/* Box and Muller, from the two halves of the element's bits; u in (0, 1]. */
static Expr normal(Rnd *r, const RandomAttr *a, Expr bits) {
    Expr u = op(r, S_MUL, op(r, S_ADD, expr_cast(r->c, low(r, bits), DT_F64), f64(r, 1)), f64(r, 0x1p-32));
    Expr v = scaled(r, high(r, bits), 0x1p-32), none = {0};
    Expr radius = op(r, S_SQRT, op(r, S_MUL, f64(r, -2), op(r, S_LOG, u, none)), none);
    Expr turn = op(r, S_COS, op(r, S_MUL, f64(r, 6.283185307179586476925), v), none);
    return op(r, S_ADD, f64(r, a->a), op(r, S_MUL, op(r, S_MUL, f64(r, a->b), radius), turn));
}

static Expr whole(Rnd *r, const RandomAttr *a, Expr bits) {
    (void)r, (void)a;
    return bits;
}

static const struct { const char *algo; Expr (*draw)(Rnd *, const RandomAttr *, Expr bits); } table[] = {
    {"uniform", uniform},
    {"normal", normal},
    {"bits", whole},
};
enum { N_ALGO = sizeof table / sizeof *table };

static int algorithm(const Node *n) {
    int k = 0;
    while (k < N_ALGO && strcmp(table[k].algo, ((const RandomAttr *)n->attr)->algo)) k++;
    return k;
}

bool random_sequential(const Node *n) { return algorithm(n) == N_ALGO; }

Expr random_at(Ctx *c, const Node *n, Expr i) {
    const RandomAttr *a = n->attr;
    Rnd r = {c};
    return expr_cast(c, table[algorithm(n)].draw(&r, a, bits_at(&r, n, i)), (DType)a->type.dtype);
}
