/* expr_index.c: index expressions: ranges, simplification under the extents of axes, affine form.
 *
 * In: an i64 expression over axes with 0 <= axis[k] < extent[k] (extents may be symbolic). Out: an
 * equal one whose sums are in affine normal form, sum of coef * atom + dim with Dim coefficients,
 * with divisions, remainders, clamps and comparisons gone that the extents decide. Two facts do
 * most of the work, for 0 <= r < d:
 *     (d*q + r) fdiv d = q,   (d*q + r) mod d = r,
 * and for 0 <= r < g:
 *     (g*h + r) fdiv (g*d) = h fdiv d,   (g*h + r) mod (g*d) = g * (h mod d) + r.
 * Invariant: the value is the same at every point of the domain, on condition that sums and
 * products of dims and axes do not overflow. Values of unknown size (loaded i64) take part only in
 * identities that hold under wrapping. */
#include "expr_internal.h"
#include <stdlib.h>
#include <string.h>

enum { LIN_MAX = 32, DEPTH_MAX = 24 };
static const int64_t LARGE = (int64_t)1 << 40; /* constants beyond it are not reasoned about */

typedef struct LinTerm { Expr atom; Dim coef; } LinTerm;
typedef struct Lin {
    uint32_t n;
    bool bad;                   /* too long, or a coefficient could not be computed */
    Dim rest;
    LinTerm t[LIN_MAX];
} Lin;
typedef struct Bound {
    Dim lo, hi;                 /* 0: unknown */
    bool tame;                  /* far from the ends of i64: sums are those of integers */
} Bound;
typedef struct BoundEntry { uint32_t key; Bound b; } BoundEntry;
typedef struct Simp {
    Ctx *c;
    const Dim *extent;
    uint32_t naxis;
    Dim zero, one, minus;       /* 0, 1, -1 */
    BoundEntry *memo;           /* open addressing by expression */
    uint32_t nmemo, cap;
    int depth;
} Simp;

static Expr simplify_node(Simp *s, Expr e);
static Expr divide(Simp *s, Expr x, Dim d, bool mod);
static Bound bound_of(Simp *s, Expr e);

/* ---- dims ---- */

static bool small(const Ctx *c, Dim d) {
    int64_t v;
    return d.i && (!dim_is_const(c, d, &v) || (v < LARGE && v > -LARGE));
}

static Dim mul_dims(Simp *s, Dim a, Dim b) {
    Ctx *c = s->c;
    int64_t x, y;
    if (a.i == s->one.i || b.i == s->zero.i) return b;
    if (b.i == s->one.i || a.i == s->zero.i) return a;
    if (dim_is_const(c, a, &x) && dim_is_const(c, b, &y))
        return dim_const(c, (int64_t)((uint64_t)x * (uint64_t)y));
    return small(c, a) && small(c, b) ? dim_mul(c, a, b) : (Dim){0};
}

static Dim add_dims(Simp *s, Dim a, Dim b) {
    Ctx *c = s->c;
    int64_t x, y;
    if (a.i == s->zero.i) return b;
    if (b.i == s->zero.i) return a;
    if (dim_is_const(c, a, &x) && dim_is_const(c, b, &y))
        return dim_const(c, (int64_t)((uint64_t)x + (uint64_t)y));
    return small(c, a) && small(c, b) ? dim_add(c, a, b) : (Dim){0};
}

/* The product of two divisors; none if it may be large. */
static Dim mul_divisors(Simp *s, Dim a, Dim b) {
    Ctx *c = s->c;
    int64_t x, y, z;
    if (dim_is_const(c, a, &x) && dim_is_const(c, b, &y) &&
        (__builtin_mul_overflow(x, y, &z) || z >= LARGE))
        return (Dim){0};
    return mul_dims(s, a, b);
}

/* a == d * q for every value of the symbols. */
static bool divides(Simp *s, Dim a, Dim d, Dim *q) {
    Ctx *c = s->c;
    int64_t x, y;
    bool ca = dim_is_const(c, a, &x), cd = dim_is_const(c, d, &y);
    if (cd && y == 0) return false;
    if (ca && cd) {
        if (y == -1 || x % y) return false;
        return *q = dim_const(c, x / y), true;
    }
    if (ca) return x == 0 ? (*q = a, true) : false;
    if (cd) {
        if (y < 0 || !dim_divisible(c, a, y)) return false;
        return *q = dim_floordiv(c, a, d), q->i != 0;
    }
    *q = dim_floordiv(c, a, d);
    return q->i && dim_same(c, mul_dims(s, *q, d), a);
}

/* d >= 1 at every point: so are factors of an extent, since its axis has at least one point. */
static bool positive(Simp *s, Dim d) {
    Dim q;
    if (dim_lo(s->c, d) >= 1) return true;
    if (dim_lo(s->c, d) < 0 || dim_is_const(s->c, d, NULL)) return false;
    for (uint32_t a = 0; a < s->naxis; a++)
        if (s->extent[a].i && divides(s, s->extent[a], d, &q)) return true;
    DimInfo i = *dim_info(s->c, d);
    return i.kind == D_MUL && positive(s, i.arg[0]) && positive(s, i.arg[1]);
}

/* The value of an i64 constant or dim expression. */
static bool dim_of(Ctx *c, Expr e, Dim *d) {
    const ExprInfo *i = expr_info(c, e);
    if (i->kind == E_DIM) return *d = (Dim){i->index}, true;
    if (i->kind != E_CONST || i->dtype != DT_I64) return false;
    return *d = dim_const(c, i->val.i), true;
}

/* ---- affine sums ---- */

static void lin_add(Simp *s, Lin *l, Expr atom, Dim coef) {
    if (!coef.i) l->bad = true;
    for (uint32_t k = 0; k < l->n; k++) {
        if (l->t[k].atom.i != atom.i) continue;
        l->t[k].coef = add_dims(s, l->t[k].coef, coef);
        if (!l->t[k].coef.i) l->bad = true;
        else if (dim_is(s->c, l->t[k].coef, 0)) l->t[k] = l->t[--l->n];
        return;
    }
    if (l->bad || dim_is(s->c, coef, 0)) return;
    if (l->n == LIN_MAX) l->bad = true;
    else l->t[l->n++] = (LinTerm){atom, coef};
}

static void lin_add_dim(Simp *s, Lin *l, Dim d) {
    l->rest = add_dims(s, l->rest, d);
    if (!l->rest.i) l->bad = true;
}

static void lin_add_scaled(Simp *s, Lin *l, const Lin *x, Dim by) {
    for (uint32_t k = 0; k < x->n && !l->bad; k++)
        lin_add(s, l, x->t[k].atom, mul_dims(s, x->t[k].coef, by));
    if (!l->bad) lin_add_dim(s, l, mul_dims(s, x->rest, by));
    l->bad |= x->bad;
}

/* Reads e, whose parts are simplified, as a sum; a sum that is too long becomes one atom. */
static void lin_read(Simp *s, Expr e, Lin *l) {
    Ctx *c = s->c;
    LinTerm stack[2 * LIN_MAX];
    uint32_t top = 0, steps = 0;
    l->n = 0;
    l->bad = false;
    l->rest = s->zero;
    stack[top++] = (LinTerm){e, s->one};
    while (top && !l->bad) {
        LinTerm x = stack[--top];
        const ExprInfo *i = expr_info(c, x.atom);
        Dim d;
        bool linear = i->kind == E_OP && (i->op == S_ADD || i->op == S_SUB || i->op == S_NEG);
        if (++steps > 8 * LIN_MAX || top + 2 > 2 * LIN_MAX) {
            l->bad = true;
        } else if (dim_of(c, x.atom, &d)) {
            lin_add_dim(s, l, mul_dims(s, d, x.coef));
        } else if (linear) {
            bool minus = i->op != S_ADD;
            Dim other = minus ? mul_dims(s, x.coef, s->minus) : x.coef;
            if (i->op != S_NEG) stack[top++] = (LinTerm){i->arg[0], x.coef};
            stack[top++] = (LinTerm){i->arg[i->op != S_NEG], other};
        } else if (i->kind == E_OP && i->op == S_MUL && dim_of(c, i->arg[1], &d)) {
            stack[top++] = (LinTerm){i->arg[0], mul_dims(s, x.coef, d)};
        } else {
            lin_add(s, l, x.atom, x.coef);
        }
        if (top && !stack[top - 1].coef.i) l->bad = true;
    }
    if (!l->bad) return;
    *l = (Lin){.n = 1, .rest = s->zero};
    l->t[0] = (LinTerm){e, s->one};
}

static bool lin_before(const Ctx *c, Expr x, Expr y) {
    const ExprInfo *a = expr_info(c, x), *b = expr_info(c, y);
    bool ax = a->kind == E_AXIS, bx = b->kind == E_AXIS;
    return ax != bx ? ax : ax ? a->index < b->index : x.i < y.i;
}

static Expr op2(Ctx *c, SOp op, Expr a, Expr b) { return expr_opn(c, op, 2, (Expr[]){a, b}); }

static Expr scaled(Ctx *c, Expr atom, Dim coef) { return op2(c, S_MUL, atom, expr_dim(c, coef)); }

static bool negative(const Ctx *c, Dim d) { return dim_hi(c, d) < 0 && dim_lo(c, d) > -LARGE; }

/* The sum as an expression: axes in order, then other atoms, those with a negative coefficient
 * subtracted, the dim last (first if there is nothing to subtract from). */
static Expr lin_emit(Simp *s, Lin *l) {
    Ctx *c = s->c;
    if (l->bad) return (Expr){0};
    for (uint32_t k = 1; k < l->n; k++)
        for (uint32_t j = k; j && lin_before(c, l->t[j].atom, l->t[j - 1].atom); j--) {
            LinTerm t = l->t[j];
            l->t[j] = l->t[j - 1];
            l->t[j - 1] = t;
        }
    Expr sum = {0}, rest = expr_dim(c, l->rest);
    for (uint32_t k = 0; k < l->n; k++) {
        if (negative(c, l->t[k].coef)) continue;
        Expr x = scaled(c, l->t[k].atom, l->t[k].coef);
        sum = sum.i ? op2(c, S_ADD, sum, x) : x;
    }
    bool first = !sum.i;
    if (first) sum = rest;
    for (uint32_t k = 0; k < l->n; k++)
        if (negative(c, l->t[k].coef))
            sum = op2(c, S_SUB, sum, scaled(c, l->t[k].atom, dim_muli(c, l->t[k].coef, -1)));
    return first ? sum : op2(c, S_ADD, sum, rest);
}

/* ---- bounds ---- */

static Bound lin_bound(Simp *s, const Lin *l) {
    Ctx *c = s->c;
    if (l->bad || !small(c, l->rest)) return (Bound){0};
    Bound r = {l->rest, l->rest, true};
    for (uint32_t k = 0; k < l->n; k++) {
        Dim f = l->t[k].coef;
        Bound a = bound_of(s, l->t[k].atom);
        bool up = dim_lo(c, f) >= 0, down = dim_hi(c, f) <= 0;
        if (!small(c, f)) return (Bound){0};
        r.tame &= a.tame;
        Dim lo = up ? a.lo : down ? a.hi : (Dim){0}, hi = up ? a.hi : down ? a.lo : (Dim){0};
        r.lo = r.lo.i && small(c, lo) ? add_dims(s, r.lo, mul_dims(s, lo, f)) : (Dim){0};
        r.hi = r.hi.i && small(c, hi) ? add_dims(s, r.hi, mul_dims(s, hi, f)) : (Dim){0};
    }
    return r;
}

static bool at_least(const Ctx *c, Dim d, int64_t v) { return d.i && dim_lo(c, d) >= v; }
static bool at_most(const Ctx *c, Dim d, int64_t v) { return d.i && dim_hi(c, d) <= v; }

/* d <= e for dims. */
static bool dims_ordered(Ctx *c, Dim d, Dim e) {
    return small(c, d) && small(c, e) && at_least(c, dim_sub(c, e, d), 0);
}

static Bound bound_cast(Simp *s, const ExprInfo *i) {
    DType from = (DType)expr_info(s->c, i->arg[0])->dtype;
    unsigned bits = dt_bits(from);
    if (from == DT_BOOL) bits = 1;
    else if (!dt_is_int(from) || bits > 32) return (Bound){0};
    int64_t half = (int64_t)1 << (bits - 1);
    if (dt_is_signed(from)) return (Bound){dim_const(s->c, -half), dim_const(s->c, half - 1), true};
    return (Bound){s->zero, dim_const(s->c, 2 * half - 1), true};
}

static Bound bound_divided(Simp *s, const ExprInfo *i) {
    Ctx *c = s->c;
    Dim d;
    Bound x = bound_of(s, i->arg[0]), r = {{0}, {0}, x.tame && i->op == S_FDIV};
    if (!dim_of(c, i->arg[1], &d) || !positive(s, d)) return r;
    if (i->op == S_MOD) return (Bound){s->zero, add_dims(s, d, s->minus), true};
    if (small(c, x.lo) && (dim_lo(c, d) >= 1 || at_least(c, x.lo, 0)))
        r.lo = dim_lo(c, d) >= 1 ? dim_floordiv(c, x.lo, d) : s->zero;
    if (small(c, x.hi)) {
        if (dim_lo(c, d) >= 1) r.hi = dim_floordiv(c, x.hi, d);
        else if (!divides(s, add_dims(s, x.hi, s->one), d, &r.hi)) r.hi = (Dim){0};
        else r.hi = add_dims(s, r.hi, s->minus); /* floor((d*q - 1) / d) = q - 1 */
    }
    return r;
}

static Bound bound_op(Simp *s, Expr e, const ExprInfo *i) {
    Ctx *c = s->c;
    Bound x, y;
    switch (i->op) {
    case S_ADD: case S_SUB: case S_NEG: case S_MUL: {
        Lin l;
        lin_read(s, e, &l);
        if (l.n != 1 || l.t[0].atom.i != e.i) return lin_bound(s, &l);
        if (i->op != S_MUL) return (Bound){0};
        x = bound_of(s, i->arg[0]);
        y = bound_of(s, i->arg[1]);
        bool up = at_least(c, x.lo, 0) && at_least(c, y.lo, 0) && small(c, x.hi) && small(c, y.hi);
        if (!up || !small(c, x.lo) || !small(c, y.lo)) return (Bound){{0}, {0}, false};
        return (Bound){mul_dims(s, x.lo, y.lo), mul_dims(s, x.hi, y.hi), x.tame && y.tame};
    }
    case S_FDIV: case S_MOD: return bound_divided(s, i);
    case S_MIN: case S_MAX: case S_SELECT:
        x = bound_of(s, i->arg[i->narg - 2]);
        y = bound_of(s, i->arg[i->narg - 1]);
        bool lo = small(c, x.lo) && small(c, y.lo), hi = small(c, x.hi) && small(c, y.hi);
        Bound r = {.tame = x.tame && y.tame};
        if (lo) r.lo = i->op == S_MAX ? dim_max(c, x.lo, y.lo) : dim_min(c, x.lo, y.lo);
        else if (i->op == S_MAX) r.lo = x.lo.i ? x.lo : y.lo;
        if (hi) r.hi = i->op == S_MIN ? dim_min(c, x.hi, y.hi) : dim_max(c, x.hi, y.hi);
        else if (i->op == S_MIN) r.hi = x.hi.i ? x.hi : y.hi;
        return r;
    case S_SIGN: return (Bound){s->minus, s->one, true};
    default: return (Bound){0};
    }
}

static Bound bound_compute(Simp *s, Expr e) {
    Ctx *c = s->c;
    const ExprInfo *i = expr_info(c, e);
    Dim d;
    if (i->dtype != DT_I64 || s->depth > DEPTH_MAX) return (Bound){0};
    if (dim_of(c, e, &d)) return (Bound){d, d, small(c, d)};
    if (i->kind == E_AXIS) {
        bool known = i->index < s->naxis && small(c, s->extent[i->index]);
        Dim hi = known ? add_dims(s, s->extent[i->index], s->minus) : (Dim){0};
        return (Bound){s->zero, hi, true};
    }
    s->depth++;
    Bound b = i->kind == E_CAST ? bound_cast(s, i)
              : i->kind == E_OP ? bound_op(s, e, i)
                                : (Bound){0};
    s->depth--;
    b.tame |= b.lo.i && b.hi.i;
    return b;
}

static BoundEntry *memo_slot(const Simp *s, uint32_t key) {
    uint32_t at = (key * 2654435761u) & (s->cap - 1);
    while (s->memo[at].key && s->memo[at].key != key) at = (at + 1) & (s->cap - 1);
    return &s->memo[at];
}

static Bound bound_of(Simp *s, Expr e) {
    if (s->cap && memo_slot(s, e.i)->key) return memo_slot(s, e.i)->b;
    bool cut = s->depth > DEPTH_MAX; /* a bound cut short is not remembered */
    Bound b = bound_compute(s, e);
    if (cut) return b;
    if (2 * s->nmemo >= s->cap) {
        Simp old = *s;
        s->cap = old.cap ? 2 * old.cap : 64;
        s->memo = expr_scratch(s->c, NULL, s->cap, sizeof *s->memo);
        memset(s->memo, 0, sizeof *s->memo * s->cap);
        for (uint32_t k = 0; k < old.cap; k++)
            if (old.memo[k].key) *memo_slot(s, old.memo[k].key) = old.memo[k];
        free(old.memo);
    }
    BoundEntry *slot = memo_slot(s, e.i);
    s->nmemo += !slot->key;
    *slot = (BoundEntry){e.i, b};
    return b;
}

/* ---- division ---- */

static Expr raw_divide(Simp *s, Expr x, Dim d, bool mod) {
    return op2(s->c, mod ? S_MOD : S_FDIV, x, expr_dim(s->c, d));
}

/* A dim as d*q + r with a constant r in [0, d): true if that could be found. */
static bool split_dim(Simp *s, Dim x, Dim d, Dim *q, Dim *r) {
    Ctx *c = s->c;
    int64_t v, m;
    if (divides(s, x, d, q)) return *r = s->zero, true;
    if (!dim_is_const(c, d, &m) || m < 1 || !small(c, x)) return false;
    if (!dim_is_const(c, x, &v)) {
        if (!dim_is_const(c, dim_mod(c, x, d), &v)) return false;
        *r = dim_const(c, v);
        return divides(s, dim_sub(c, x, *r), d, q);
    }
    int64_t f = v / m - (v % m < 0);
    *q = dim_const(c, f);
    *r = dim_const(c, v - f * m);
    return true;
}

/* l = d*q + r, with in q what is a multiple of d by itself. */
static void lin_split(Simp *s, const Lin *l, Dim d, Lin *q, Lin *r) {
    Dim part, rem;
    q->n = r->n = 0;
    q->bad = r->bad = l->bad;
    q->rest = r->rest = s->zero;
    for (uint32_t k = 0; k < l->n; k++) {
        if (divides(s, l->t[k].coef, d, &part)) lin_add(s, q, l->t[k].atom, part);
        else lin_add(s, r, l->t[k].atom, l->t[k].coef);
    }
    if (!split_dim(s, l->rest, d, &part, &rem)) r->rest = l->rest;
    else {
        q->rest = part;
        r->rest = rem;
    }
}

/* The m with m*d <= r < (m+1)*d wherever r is evaluated, if it can be proven. */
static bool known_quotient(Simp *s, const Lin *r, Dim d, int64_t *m) {
    Ctx *c = s->c;
    Bound b = lin_bound(s, r);
    int64_t lo, hi, v;
    if (!b.tame || !small(c, b.lo) || !small(c, b.hi)) return false;
    if (dim_is_const(c, d, &v) && dim_is_const(c, b.lo, &lo) && dim_is_const(c, b.hi, &hi)) {
        if (v < 1 || lo > hi) return false;
        *m = lo / v - (lo % v < 0);
        return *m == hi / v - (hi % v < 0);
    }
    static const int64_t guess[] = {0, -1, 1};
    for (int k = 0; k < 3; k++) {
        Dim from = dim_muli(c, d, guess[k]), last = dim_addi(c, dim_add(c, from, d), -1);
        *m = guess[k];
        if (dims_ordered(c, from, b.lo) && dims_ordered(c, b.hi, last)) return true;
    }
    return false;
}

static int64_t gcd(int64_t a, int64_t b) {
    if (a < 0) a = -a;
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* r div d by a common factor g of d and of most of r: r = g*h + low, 0 <= low < g. */
static Expr divide_by_factor(Simp *s, const Lin *r, Dim d, bool mod) {
    Ctx *c = s->c;
    Lin h, low;
    int64_t dv, cv, m;
    bool cd = dim_is_const(c, d, &dv);
    for (uint32_t k = 0; k < r->n; k++) {
        Dim g = r->t[k].coef, dg;
        bool cg = dim_is_const(c, g, &cv);
        if (cg && !small(c, g)) continue;
        if (cg && cd) cv = gcd(cv, dv);
        if (cg) g = dim_const(c, cv < 0 ? -cv : cv);
        if (dim_is(c, g, 1) || dim_lo(c, g) < 0 || !divides(s, d, g, &dg) || dim_is(c, dg, 1))
            continue;
        lin_split(s, r, g, &h, &low);
        if (!h.n || h.bad || low.bad || !known_quotient(s, &low, g, &m) || m != 0) continue;
        if (mod && !positive(s, dg)) continue;
        Expr q = divide(s, lin_emit(s, &h), dg, mod);
        if (!mod) return q;
        Lin x;
        lin_read(s, q, &x);
        lin_add_scaled(s, &low, &x, g);
        return lin_emit(s, &low);
    }
    return (Expr){0};
}

/* A quotient or remainder of a quotient or remainder. */
static Expr divide_divided(Simp *s, Expr x, Dim d, bool mod) {
    Ctx *c = s->c;
    const ExprInfo *i = expr_info(c, x);
    Dim by, q;
    if (i->kind != E_OP || (i->op != S_FDIV && i->op != S_MOD) || !dim_of(c, i->arg[1], &by))
        return (Expr){0};
    if (i->op == S_FDIV) { /* (y fdiv a) fdiv b = y fdiv a*b */
        Dim both = dim_lo(c, by) >= 0 && dim_lo(c, d) >= 0 ? mul_divisors(s, by, d) : (Dim){0};
        return mod || !both.i ? (Expr){0} : divide(s, i->arg[0], both, false);
    }
    if (dim_lo(c, by) < 0 || !divides(s, by, d, &q) || dim_lo(c, q) < 0) return (Expr){0};
    if (mod) return positive(s, by) ? divide(s, i->arg[0], d, true) : (Expr){0};
    /* (y mod d*q) fdiv d = (y fdiv d) mod q */
    return divide(s, divide(s, i->arg[0], d, false), q, true);
}

static Expr divide_sum(Simp *s, Expr x, Dim d, bool mod) {
    Ctx *c = s->c;
    Lin l, q, r;
    int64_t m;
    Expr e = divide_divided(s, x, d, mod);
    if (e.i) return e;
    lin_read(s, x, &l);
    if (!lin_bound(s, &l).tame) return raw_divide(s, x, d, mod);
    lin_split(s, &l, d, &q, &r);
    if (q.bad || r.bad) return raw_divide(s, x, d, mod);
    if (known_quotient(s, &r, d, &m)) {
        if (mod) lin_add_dim(s, &r, dim_muli(c, d, -m));
        else lin_add_dim(s, &q, dim_const(c, m));
        return lin_emit(s, mod ? &r : &q);
    }
    bool whole = q.n || !dim_is(c, q.rest, 0); /* something left the dividend */
    if (whole && !positive(s, d)) return raw_divide(s, x, d, mod);
    e = divide_by_factor(s, &r, d, mod);
    if (!e.i) {
        Expr left = lin_emit(s, &r);
        e = whole ? divide(s, left, d, mod) : raw_divide(s, left, d, mod);
    }
    if (mod || !whole) return e;
    Lin sum;
    lin_read(s, e, &sum);
    lin_add_scaled(s, &q, &sum, s->one);
    return lin_emit(s, &q);
}

/* x fdiv d or x mod d, for a simplified x. */
static Expr divide(Simp *s, Expr x, Dim d, bool mod) {
    Expr e = {0};
    Dim dx;
    if (!x.i) return x;
    bool known =
        small(s->c, d) && dim_lo(s->c, d) >= 0 && !dim_is(s->c, d, 0) && !dim_is(s->c, d, 1);
    if (known && !dim_of(s->c, x, &dx) && s->depth <= DEPTH_MAX) {
        s->depth++;
        e = divide_sum(s, x, d, mod);
        s->depth--;
    }
    return e.i ? e : raw_divide(s, x, d, mod);
}

/* ---- sums ---- */

static const ExprInfo *remainder_of(Ctx *c, Expr e, Dim *by) {
    const ExprInfo *i = expr_info(c, e);
    return i->kind == E_OP && i->op == S_MOD && dim_of(c, i->arg[1], by) ? i : NULL;
}

/* One step, if any, of
 *     k*m*(x fdiv m) + k*(x mod m) = k*x,
 *     k*m*((x fdiv m) mod b) + k*(x mod m) = k*(x mod m*b). */
static bool recombine(Simp *s, Lin *l) {
    Ctx *c = s->c;
    for (uint32_t k = 0; k < l->n; k++) {
        Dim m, b, both, f = l->t[k].coef;
        const ExprInfo *i = remainder_of(c, l->t[k].atom, &m);
        if (!i || !positive(s, m)) continue;
        Dim fm = mul_dims(s, f, m);
        Expr q = {0};
        for (uint32_t j = 0; j < l->n && fm.i; j++) {
            if (j == k || !dim_same(c, l->t[j].coef, fm)) continue;
            if (!q.i) q = divide(s, i->arg[0], m, false);
            Expr whole = {0}, other = l->t[j].atom;
            const ExprInfo *o = remainder_of(c, other, &b);
            if (other.i == q.i) whole = i->arg[0];
            else if (o && o->arg[0].i == q.i && positive(s, b) && (both = mul_divisors(s, m, b)).i)
                whole = divide(s, i->arg[0], both, true);
            if (!whole.i) continue;
            Lin x;
            lin_add(s, l, other, mul_dims(s, fm, s->minus));
            for (uint32_t t = 0; t < l->n; t++)
                if (remainder_of(c, l->t[t].atom, &b) == i) l->t[t] = l->t[--l->n];
            lin_read(s, whole, &x);
            lin_add_scaled(s, l, &x, f);
            return !l->bad;
        }
    }
    return false;
}

static Expr simplify_sum(Simp *s, Expr e) {
    Lin l;
    lin_read(s, e, &l);
    if (l.n == 1 && l.t[0].atom.i == e.i) return e;
    for (int step = 0; step < LIN_MAX && s->depth <= DEPTH_MAX; step++)
        if (!recombine(s, &l)) break;
    Expr r = lin_emit(s, &l);
    return r.i ? r : e;
}

/* ---- comparisons and the like ---- */

/* Bounds of y - x in integers; unknown if either might wrap. */
static Bound difference(Simp *s, Expr x, Expr y) {
    Lin a, b;
    lin_read(s, x, &a);
    lin_read(s, y, &b);
    if (!lin_bound(s, &a).tame || !lin_bound(s, &b).tame) return (Bound){0};
    lin_add_scaled(s, &b, &a, s->minus);
    return lin_bound(s, &b);
}

static Expr simplify_compare(Simp *s, Expr e, const ExprInfo *i) {
    Ctx *c = s->c;
    if (expr_info(c, i->arg[0])->dtype != DT_I64) return e;
    bool turn = i->op == S_GT || i->op == S_GE;
    Bound d = difference(s, i->arg[turn], i->arg[!turn]);
    int truth = -1;
    switch (i->op) {
    case S_LT: case S_GT: truth = at_least(c, d.lo, 1) ? 1 : at_most(c, d.hi, 0) ? 0 : -1; break;
    case S_LE: case S_GE: truth = at_least(c, d.lo, 0) ? 1 : at_most(c, d.hi, -1) ? 0 : -1; break;
    default:
        if (at_least(c, d.lo, 1) || at_most(c, d.hi, -1)) truth = i->op == S_NE;
        else if (at_least(c, d.lo, 0) && at_most(c, d.hi, 0)) truth = i->op == S_EQ;
    }
    return truth < 0 ? e : expr_int(c, DT_BOOL, truth);
}

static Expr simplify_minmax(Simp *s, Expr e, const ExprInfo *i) {
    Bound d = difference(s, i->arg[0], i->arg[1]);
    bool min = i->op == S_MIN;
    if (at_least(s->c, d.lo, 0)) return i->arg[min ? 0 : 1];
    if (at_most(s->c, d.hi, 0)) return i->arg[min ? 1 : 0];
    return e;
}

/* A value that went through a narrower integer type in which it fits. */
static Expr simplify_cast(Simp *s, Expr e, const ExprInfo *i) {
    Ctx *c = s->c;
    const ExprInfo *in = expr_info(c, i->arg[0]);
    if (i->dtype != DT_I64 || in->kind != E_CAST || expr_info(c, in->arg[0])->dtype != DT_I64)
        return e;
    if (in->dtype == DT_BOOL) return e;
    Bound fits = bound_cast(s, i), x = bound_of(s, in->arg[0]);
    int64_t lo, hi;
    if (!dim_is_const(c, fits.lo, &lo) || !dim_is_const(c, fits.hi, &hi)) return e;
    return at_least(c, x.lo, lo) && at_most(c, x.hi, hi) ? in->arg[0] : e;
}

/* Shifts and masks by constants are products, quotients and remainders by powers of two. */
static Expr simplify_bits(Simp *s, Expr e, const ExprInfo *i) {
    int64_t v;
    if (!expr_is_int(s->c, i->arg[1], &v)) return e;
    if (i->op == S_AND) {
        bool mask = v > 0 && v < LARGE && !(v & (v + 1));
        return mask ? divide(s, i->arg[0], dim_const(s->c, v + 1), true) : e;
    }
    if (v < 0 || v >= 40) return e;
    Dim by = dim_const(s->c, (int64_t)1 << v);
    return i->op == S_SHL ? simplify_sum(s, scaled(s->c, i->arg[0], by))
                          : divide(s, i->arg[0], by, false);
}

/* e, whose arguments are simplified. */
static Expr simplify_node(Simp *s, Expr e) {
    const ExprInfo *i = expr_info(s->c, e);
    Dim d;
    if (i->kind == E_CAST) return simplify_cast(s, e, i);
    if (i->kind != E_OP) return e;
    if (sop_info((SOp)i->op)->rule == RULE_CMP) return simplify_compare(s, e, i);
    if (i->dtype != DT_I64) return e;
    switch (i->op) {
    case S_ADD: case S_SUB: case S_MUL: case S_NEG: return simplify_sum(s, e);
    case S_DIV: case S_REM:
        if (!dim_of(s->c, i->arg[1], &d) || !positive(s, d)) return e;
        if (!at_least(s->c, bound_of(s, i->arg[0]).lo, 0)) return e;
        return divide(s, i->arg[0], d, i->op == S_REM);
    case S_FDIV:
    case S_MOD:
        return dim_of(s->c, i->arg[1], &d) ? divide(s, i->arg[0], d, i->op == S_MOD) : e;
    case S_MIN: case S_MAX: return simplify_minmax(s, e, i);
    case S_SHL: case S_SHR: case S_AND: return simplify_bits(s, e, i);
    case S_ABS: return at_least(s->c, bound_of(s, i->arg[0]).lo, 0) ? i->arg[0] : e;
    default: return e;
    }
}

static Expr simplify_rewrite(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    Simp *s = data;
    if (i->kind == E_DIM) return expr_dim(c, (Dim){i->index}); /* it may have become a constant */
    if (i->narg && memcmp(newarg, i->arg, sizeof *newarg * i->narg)) e = expr_rebuild(c, i, newarg);
    if (!e.i) return e;
    e = simplify_node(s, e);
    bound_of(s, e); /* known before its users ask, which keeps the recursion shallow */
    return e;
}

static Simp simp_new(Ctx *c, const Dim *extent, uint32_t naxis) {
    return (Simp){.c = c, .extent = extent, .naxis = naxis,
                  .zero = dim_const(c, 0), .one = dim_const(c, 1), .minus = dim_const(c, -1)};
}

static Expr simplify(Simp *s, Expr e) {
    const ExprInfo *i = expr_info(s->c, e);
    return i->narg || i->kind == E_DIM ? expr_rewrite(s->c, e, simplify_rewrite, s) : e;
}

Expr expr_simplify_index(Ctx *c, Expr e, const Dim *extent, uint32_t naxis) {
    Simp s = simp_new(c, extent, naxis);
    e = simplify(&s, e);
    free(s.memo);
    return e;
}

bool expr_range(Ctx *c, Expr e, const Dim *extent, uint32_t naxis, int64_t *lo, int64_t *hi) {
    Simp s = simp_new(c, extent, naxis);
    e = simplify(&s, e);
    Bound b = e.i ? bound_of(&s, e) : (Bound){0};
    *lo = b.lo.i ? dim_lo(c, b.lo) : INT64_MIN;
    *hi = b.hi.i ? dim_hi(c, b.hi) : INT64_MAX;
    free(s.memo);
    return *lo != INT64_MIN || *hi != INT64_MAX;
}

/* lo <= e < n, looking through clamps. */
static bool within(Simp *s, Expr e, const Dim *lo, const Dim *n, int depth) {
    Ctx *c = s->c;
    const ExprInfo *i = expr_info(c, e);
    if (i->kind == E_OP && depth < 8 && (i->op == S_MIN || i->op == S_MAX || i->op == S_SELECT)) {
        Expr x = i->arg[i->narg - 2], y = i->arg[i->narg - 1];
        bool either = n ? i->op == S_MIN : i->op == S_MAX;
        bool ox = within(s, x, lo, n, depth + 1);
        if (either && ox) return true;
        if ((either || ox) && within(s, y, lo, n, depth + 1)) return true;
    }
    Bound b = n ? difference(s, e, expr_dim(c, *n)) : difference(s, expr_dim(c, *lo), e);
    return at_least(c, b.lo, n ? 1 : 0);
}

bool expr_in_bounds(Ctx *c, Expr e, Dim n, const Dim *extent, uint32_t naxis) {
    Simp s = simp_new(c, extent, naxis);
    e = simplify(&s, e);
    bool in = e.i && n.i && within(&s, e, &s.zero, NULL, 0) && within(&s, e, NULL, &n, 0);
    free(s.memo);
    return in;
}

/* ---- affine form ---- */

typedef struct Affine {
    bool ok;
    Expr rest;                  /* of a node with axes, and the node itself if it has none */
} Affine;

/* Part k of the form of a node: coefficient k, or the rest for k == naxis; 0 = absent. */
static Expr part_of(const Ctx *c, const Affine *f, const Expr *coef, uint32_t naxis, uint32_t k,
                    Expr e) {
    if (k == naxis) return f->rest;
    return expr_axes(c, e) ? coef[k] : (Expr){0};
}

static bool is_zero(const Ctx *c, Expr e) {
    int64_t v;
    return expr_is_int(c, e, &v) && v == 0;
}

static Expr combine(Ctx *c, SOp op, Expr x, Expr y) {
    if (op == S_MUL || op == S_NEG) {
        if (!x.i) return x;
        return op == S_NEG ? expr_opn(c, S_NEG, 1, &x) : op2(c, S_MUL, x, y);
    }
    if (!y.i) return x;
    if (!x.i) return op == S_SUB ? expr_opn(c, S_NEG, 1, &y) : y;
    return op2(c, op, x, y);
}

bool expr_affine(Ctx *c, Expr e, uint32_t naxis, Expr *coef, Expr *rest) {
    for (uint32_t k = 0; k < naxis; k++) coef[k] = (Expr){0};
    *rest = (Expr){0};
    if (!e.i) return false;
    if (!expr_axes(c, e)) return *rest = e, true;
    ExprWalk w;
    expr_walk(c, &w, e);
    Affine *f = expr_scratch(c, NULL, w.n, sizeof *f);
    Expr *all = expr_scratch(c, NULL, (size_t)w.n * naxis, sizeof *all);
    memset(all, 0, sizeof *all * w.n * naxis);
    for (uint32_t n = 0; n < w.n; n++) {
        Expr x = {w.e[n]};
        const ExprInfo *i = expr_info(c, x);
        Expr *own = all + (size_t)n * naxis;
        f[n] = (Affine){.ok = !expr_axes(c, x), .rest = x};
        if (f[n].ok) continue;
        f[n].rest = (Expr){0};
        if (i->kind == E_AXIS && i->index < naxis) {
            own[i->index] = expr_int(c, DT_I64, 1);
            f[n].ok = true;
            continue;
        }
        bool sum = i->op == S_ADD || i->op == S_SUB || i->op == S_NEG;
        if (i->kind != E_OP || i->dtype != DT_I64 || !(sum || i->op == S_MUL)) continue;
        Expr l = i->arg[0], r = i->op == S_NEG ? (Expr){0} : i->arg[1];
        if (i->op == S_MUL && !expr_axes(c, l)) {
            r = l;
            l = i->arg[1];
        }
        if (i->op == S_MUL && expr_axes(c, r)) continue;
        uint32_t a = expr_walk_at(&w, l), b = r.i ? expr_walk_at(&w, r) : a;
        if (!f[a].ok || !f[b].ok) continue;
        f[n].ok = true;
        for (uint32_t k = 0; k <= naxis; k++) {
            Expr x0 = part_of(c, &f[a], all + (size_t)a * naxis, naxis, k, l), x1 = r;
            if (sum && r.i) x1 = part_of(c, &f[b], all + (size_t)b * naxis, naxis, k, r);
            Expr y = combine(c, (SOp)i->op, x0, x1);
            if (y.i && is_zero(c, y)) y = (Expr){0};
            if (k == naxis) f[n].rest = y;
            else own[k] = y;
        }
    }
    bool ok = f[w.n - 1].ok;
    if (ok) {
        memcpy(coef, all + (size_t)(w.n - 1) * naxis, sizeof *coef * naxis);
        *rest = f[w.n - 1].rest.i ? f[w.n - 1].rest : expr_int(c, DT_I64, 0);
    }
    free(f);
    free(all);
    expr_walk_free(&w);
    return ok;
}
