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
#include "expr_index.h"
#include <stdlib.h>
#include <string.h>

static Expr simplify_node(Simp *s, Expr e);
static Expr divide(Simp *s, Expr x, Dim d, bool mod);

static Expr op2(Ctx *c, SOp op, Expr a, Expr b) { return expr_opn(c, op, 2, (Expr[]){a, b}); }

/* ---- division ---- */

static Expr raw_divide(Simp *s, Expr x, Dim d, bool mod) {
    return op2(s->c, mod ? S_MOD : S_FDIV, x, expr_dim(s->c, d));
}

/* A dim as d*q + r with a constant r in [0, d): true if that could be found. */
static bool split_dim(Simp *s, Dim x, Dim d, Dim *q, Dim *r) {
    Ctx *c = s->c;
    int64_t v, m;
    if (simp_divides(s, x, d, q)) return *r = s->zero, true;
    if (!dim_is_const(c, d, &m) || m < 1 || !simp_small(c, x)) return false;
    if (!dim_is_const(c, x, &v)) {
        if (!dim_is_const(c, dim_mod(c, x, d), &v)) return false;
        *r = dim_const(c, v);
        return simp_divides(s, dim_sub(c, x, *r), d, q);
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
        if (simp_divides(s, l->t[k].coef, d, &part)) lin_add(s, q, l->t[k].atom, part);
        else lin_add(s, r, l->t[k].atom, l->t[k].coef);
    }
    if (!split_dim(s, l->rest, d, &part, &rem)) r->rest = l->rest;
    else {
        q->rest = part;
        r->rest = rem;
    }
}

/* d <= e for dims. */
static bool dims_ordered(Ctx *c, Dim d, Dim e) {
    return simp_small(c, d) && simp_small(c, e) && dim_at_least(c, dim_sub(c, e, d), 0);
}

/* The m with m*d <= r < (m+1)*d wherever r is evaluated, if it can be proven. */
static bool known_quotient(Simp *s, const Lin *r, Dim d, int64_t *m) {
    Ctx *c = s->c;
    Bound b = lin_bound(s, r);
    int64_t lo, hi, v;
    if (!b.tame || !simp_small(c, b.lo) || !simp_small(c, b.hi)) return false;
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
        if (cg && !simp_small(c, g)) continue;
        if (cg && cd) cv = gcd(cv, dv);
        if (cg) g = dim_const(c, cv < 0 ? -cv : cv);
        if (dim_is(c, g, 1) || dim_lo(c, g) < 0 || !simp_divides(s, d, g, &dg) || dim_is(c, dg, 1))
            continue;
        lin_split(s, r, g, &h, &low);
        if (!h.n || h.bad || low.bad || !known_quotient(s, &low, g, &m) || m != 0) continue;
        if (mod && !simp_positive(s, dg)) continue;
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
    if (i->kind != E_OP || (i->op != S_FDIV && i->op != S_MOD) || !expr_as_dim(c, i->arg[1], &by))
        return (Expr){0};
    if (i->op == S_FDIV) { /* (y fdiv a) fdiv b = y fdiv a*b */
        Dim both = dim_lo(c, by) >= 0 && dim_lo(c, d) >= 0 ? simp_mul_divisors(s, by, d) : (Dim){0};
        return mod || !both.i ? (Expr){0} : divide(s, i->arg[0], both, false);
    }
    if (dim_lo(c, by) < 0 || !simp_divides(s, by, d, &q) || dim_lo(c, q) < 0) return (Expr){0};
    if (mod) return simp_positive(s, by) ? divide(s, i->arg[0], d, true) : (Expr){0};
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
    if (whole && !simp_positive(s, d)) return raw_divide(s, x, d, mod);
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
        simp_small(s->c, d) && dim_lo(s->c, d) >= 0 && !dim_is(s->c, d, 0) && !dim_is(s->c, d, 1);
    if (known && !expr_as_dim(s->c, x, &dx) && s->depth <= DEPTH_MAX) {
        s->depth++;
        e = divide_sum(s, x, d, mod);
        s->depth--;
    }
    return e.i ? e : raw_divide(s, x, d, mod);
}

/* ---- sums ---- */

static const ExprInfo *remainder_of(Ctx *c, Expr e, Dim *by) {
    const ExprInfo *i = expr_info(c, e);
    return i->kind == E_OP && i->op == S_MOD && expr_as_dim(c, i->arg[1], by) ? i : NULL;
}

/* One step, if any, of
 *     k*m*(x fdiv m) + k*(x mod m) = k*x,
 *     k*m*((x fdiv m) mod b) + k*(x mod m) = k*(x mod m*b). */
static bool recombine(Simp *s, Lin *l) {
    Ctx *c = s->c;
    for (uint32_t k = 0; k < l->n; k++) {
        Dim m, b, both, f = l->t[k].coef;
        const ExprInfo *i = remainder_of(c, l->t[k].atom, &m);
        if (!i || !simp_positive(s, m)) continue;
        Dim fm = simp_mul(s, f, m);
        Expr q = {0};
        for (uint32_t j = 0; j < l->n && fm.i; j++) {
            if (j == k || !dim_same(c, l->t[j].coef, fm)) continue;
            if (!q.i) q = divide(s, i->arg[0], m, false);
            Expr whole = {0}, other = l->t[j].atom;
            const ExprInfo *o = remainder_of(c, other, &b);
            if (other.i == q.i) whole = i->arg[0];
            else if (o && o->arg[0].i == q.i && simp_positive(s, b) && (both = simp_mul_divisors(s, m, b)).i)
                whole = divide(s, i->arg[0], both, true);
            if (!whole.i) continue;
            Lin x;
            lin_add(s, l, other, simp_mul(s, fm, s->minus));
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
    case S_LT: case S_GT: truth = dim_at_least(c, d.lo, 1) ? 1 : dim_at_most(c, d.hi, 0) ? 0 : -1; break;
    case S_LE: case S_GE: truth = dim_at_least(c, d.lo, 0) ? 1 : dim_at_most(c, d.hi, -1) ? 0 : -1; break;
    default:
        if (dim_at_least(c, d.lo, 1) || dim_at_most(c, d.hi, -1)) truth = i->op == S_NE;
        else if (dim_at_least(c, d.lo, 0) && dim_at_most(c, d.hi, 0)) truth = i->op == S_EQ;
    }
    return truth < 0 ? e : expr_int(c, DT_BOOL, truth);
}

static Expr simplify_minmax(Simp *s, Expr e, const ExprInfo *i) {
    Bound d = difference(s, i->arg[0], i->arg[1]);
    bool min = i->op == S_MIN;
    if (dim_at_least(s->c, d.lo, 0)) return i->arg[min ? 0 : 1];
    if (dim_at_most(s->c, d.hi, 0)) return i->arg[min ? 1 : 0];
    return e;
}

/* A value that went through a narrower integer type in which it fits. */
static Expr simplify_cast(Simp *s, Expr e, const ExprInfo *i) {
    Ctx *c = s->c;
    const ExprInfo *in = expr_info(c, i->arg[0]);
    if (i->dtype != DT_I64 || in->kind != E_CAST || expr_info(c, in->arg[0])->dtype != DT_I64)
        return e;
    if (in->dtype == DT_BOOL) return e;
    Bound fits = simp_bound_cast(s, i), x = simp_bound(s, in->arg[0]);
    int64_t lo, hi;
    if (!dim_is_const(c, fits.lo, &lo) || !dim_is_const(c, fits.hi, &hi)) return e;
    return dim_at_least(c, x.lo, lo) && dim_at_most(c, x.hi, hi) ? in->arg[0] : e;
}

/* Shifts and masks by constants are products, quotients and remainders by powers of two. */
static Expr simplify_bits(Simp *s, Expr e, const ExprInfo *i) {
    int64_t v;
    if (!expr_is_int(s->c, i->arg[1], &v)) return e;
    if (i->op == S_AND) {
        bool mask = v > 0 && v < SIMP_LARGE && !(v & (v + 1));
        return mask ? divide(s, i->arg[0], dim_const(s->c, v + 1), true) : e;
    }
    if (v < 0 || v >= 40) return e;
    Dim by = dim_const(s->c, (int64_t)1 << v);
    return i->op == S_SHL ? simplify_sum(s, op2(s->c, S_MUL, i->arg[0], expr_dim(s->c, by)))
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
        if (!expr_as_dim(s->c, i->arg[1], &d) || !simp_positive(s, d)) return e;
        if (!dim_at_least(s->c, simp_bound(s, i->arg[0]).lo, 0)) return e;
        return divide(s, i->arg[0], d, i->op == S_REM);
    case S_FDIV:
    case S_MOD:
        return expr_as_dim(s->c, i->arg[1], &d) ? divide(s, i->arg[0], d, i->op == S_MOD) : e;
    case S_MIN: case S_MAX: return simplify_minmax(s, e, i);
    case S_SHL: case S_SHR: case S_AND: return simplify_bits(s, e, i);
    case S_ABS: return dim_at_least(s->c, simp_bound(s, i->arg[0]).lo, 0) ? i->arg[0] : e;
    default: return e;
    }
}

static Expr simplify_rewrite(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    Simp *s = data;
    if (i->kind == E_DIM) return expr_dim(c, (Dim){i->index}); /* it may have become a constant */
    if (i->narg && memcmp(newarg, i->arg, sizeof *newarg * i->narg)) e = expr_rebuild(c, i, newarg);
    if (!e.i) return e;
    e = simplify_node(s, e);
    simp_bound(s, e); /* known before its users ask, which keeps the recursion shallow */
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
    Bound b = e.i ? simp_bound(&s, e) : (Bound){0};
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
    return dim_at_least(c, b.lo, n ? 1 : 0);
}

bool expr_in_bounds(Ctx *c, Expr e, Dim n, const Dim *extent, uint32_t naxis) {
    Simp s = simp_new(c, extent, naxis);
    e = simplify(&s, e);
    bool in = e.i && n.i && within(&s, e, &s.zero, NULL, 0) && within(&s, e, NULL, &n, 0);
    free(s.memo);
    return in;
}
