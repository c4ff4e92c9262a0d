/* dim_ops.c: the constructors of dims. Each takes any handles, follows links, and returns the
 * normal form of its result: poison for poison, a polynomial wherever the operation is one, an atom
 * otherwise. Where an intermediate result overflows, the plain atom is built instead; only a result
 * that cannot be expressed at all is reported. Equations used:
 *
 *   floor((k*q + r)/k) = q + floor(r/k)        floor((g*y + e)/(g*k)) = floor((y + floor(e/g))/k)
 *   ceil(x/k) = floor((x + k - 1)/k)           floor((floor(x/a) + e)/k) = floor((x + a*e)/(a*k))
 *   k*floordiv(x,k) + mod(x,k) = x             mod(g*y + e, g*k) = g*mod(y, k) + e, 0 <= e < g
 *   min(a, b) + max(a - e, b - e) = a + b - e
 */
#include <string.h>

#include "dim_internal.h"

enum { MAX_FLAT = 16 }; /* arguments of flattened min, max, bcast */

static bool constant(const Ctx *c, Dim d, int64_t *v) {
    const DimInfo *i = &dim_node(c, d)->info;
    *v = i->val;
    return i->kind == D_CONST;
}

static Range range_of(const Ctx *c, Dim d) {
    const DimInfo *i = &dim_node(c, d)->info;
    return (Range){i->lo, i->hi};
}

static Range meet(Range a, Range b) {
    Range r = {a.lo > b.lo ? a.lo : b.lo, a.hi < b.hi ? a.hi : b.hi};
    return r.lo <= r.hi ? r : a;
}

static bool links(Ctx *c, Dim *a, Dim *b) {
    *a = dim_canon(c, *a);
    *b = dim_canon(c, *b);
    return a->i && b->i;
}

static Dim pair(Ctx *c, DimKind kind, Dim a, Dim b) {
    return dim_intern(c, kind, 2, (Dim[]){a, b}, 0, false);
}

/* A sum or product too large to be flattened. */
static Dim opaque(Ctx *c, DimKind kind, Dim a, Dim b) {
    bool swap = dim_order(c, a, b) > 0;
    return dim_intern(c, kind, 2, (Dim[]){swap ? b : a, swap ? a : b}, 0, true);
}

Dim dim_const(Ctx *c, int64_t v) { return dim_intern(c, D_CONST, 0, NULL, v, false); }
Dim dim_addi(Ctx *c, Dim a, int64_t b) { return dim_add(c, a, dim_const(c, b)); }
Dim dim_muli(Ctx *c, Dim a, int64_t b) { return dim_mul(c, a, dim_const(c, b)); }

/* ==== sums and products ======================================================================= */

/* Is u the product t with the atom `x` replaced by `y`? */
static bool twin(const Term *t, Dim x, const Term *u, Dim y) {
    uint32_t i = 0, j = 0;
    bool skipped_t = false, skipped_u = false;
    if (t->n != u->n) return false;
    while (i < t->n || j < u->n) {
        if (i < t->n && !skipped_t && t->f[i].i == x.i) skipped_t = true, i++;
        else if (j < u->n && !skipped_u && u->f[j].i == y.i) skipped_u = true, j++;
        else if (i < t->n && j < u->n && t->f[i].i == u->f[j].i) i++, j++;
        else return false;
    }
    return skipped_t && skipped_u;
}

/* The factor k with which the atom y makes a sum with the atom x; 0: no such pair. */
static int64_t factor_of(const Ctx *c, const DimInfo *x, const DimInfo *y) {
    int64_t k = 0;
    if (x->kind == D_MIN) return y->kind == D_MAX;
    if (y->kind != D_FLOORDIV || y->arg[0].i != x->arg[0].i || y->arg[1].i != x->arg[1].i) return 0;
    return constant(c, x->arg[1], &k) ? k : 0;
}

/* sum = a + d, where c is to a what d is to b */
static bool cross(Ctx *c, Poly *sum, const Dim a[2], Dim b, Dim d) {
    Poly *q = poly_take(c);
    bool ok = poly_add(c, q, a[0], 1) == P_OK && poly_add(c, q, a[1], -1) == P_OK && poly_add(c, q, b, -1) == P_OK &&
              poly_add(c, q, d, 1) == P_OK && q->n == 0 && q->k == 0 && poly_add(c, sum, a[0], 1) == P_OK &&
              poly_add(c, sum, d, 1) == P_OK;
    poly_give(c, 1);
    return ok;
}

/* sum = x + k*y of such a pair: mod(a,k) + k*floordiv(a,k) = a, min(a,b) + max(a-e,b-e) = a + b-e */
static bool pair_sum(Ctx *c, Poly *sum, const DimInfo *x, const DimInfo *y) {
    if (x->kind == D_MOD) return poly_add(c, sum, x->arg[0], 1) == P_OK;
    return cross(c, sum, x->arg, y->arg[0], y->arg[1]) || cross(c, sum, x->arg, y->arg[1], y->arg[0]);
}

/* Takes w*x + w*k*y out of p and adds w*(x + k*y), where the terms are t, with the factor f that is x, and u. */
static bool replace_pair(Ctx *c, Poly *p, const Term *t, uint32_t f, const Term *u, const Poly *sum) {
    Term rest = {.coef = t->coef};
    for (uint32_t e = 0; e < t->n; e++)
        if (e != f) rest.f[rest.n++] = t->f[e];
    Poly *w = poly_take(c), *product = poly_take(c);
    bool ok = t->coef != INT64_MIN && u->coef != INT64_MIN && poly_add_term(c, w, &rest, 1) == P_OK &&
              poly_mul(c, product, sum, w) == P_OK && poly_add_term(c, p, t, -1) == P_OK && poly_add_term(c, p, u, -1) == P_OK &&
              poly_add_poly(c, p, product, 1) == P_OK;
    poly_give(c, 2);
    return ok;
}

/* w*x + w*k*y becomes w times their sum, where t of p has the factor x = t.f[f]. */
static bool recombine_with(Ctx *c, Poly *p, Term t, uint32_t f, bool *ok) {
    const DimInfo x = dim_node(c, t.f[f])->info;
    for (uint32_t j = 0; j < p->n; j++) {
        const Term u = p->t[j];
        for (uint32_t g = 0; g < u.n; g++) {
            const DimInfo y = dim_node(c, u.f[g])->info;
            int64_t k = factor_of(c, &x, &y), want;
            if (k == 0 || __builtin_mul_overflow(t.coef, k, &want) || u.coef != want || !twin(&t, t.f[f], &u, u.f[g])) continue;
            Poly *sum = poly_take(c);
            bool made = pair_sum(c, sum, &x, &y);
            if (made) *ok = replace_pair(c, p, &t, f, &u, sum);
            poly_give(c, 1);
            if (made) return *ok;
        }
    }
    return false;
}

static bool pairs_up(const Ctx *c, Dim atom) {
    DimKind kind = dim_node(c, atom)->info.kind;
    return kind == D_MOD || kind == D_MIN;
}

/* Adds one pair of terms up. */
static bool recombine_one(Ctx *c, Poly *p, bool *ok) {
    for (uint32_t i = 0; i < p->n; i++)
        for (uint32_t f = 0; f < p->t[i].n; f++)
            if (pairs_up(c, p->t[i].f[f]) && (recombine_with(c, p, p->t[i], f, ok) || !*ok)) return *ok;
    return false;
}

static bool has_pairs(const Ctx *c, const Poly *p) {
    for (uint32_t i = 0; i < p->n; i++)
        for (uint32_t f = 0; f < p->t[i].n; f++)
            if (pairs_up(c, p->t[i].f[f])) return true;
    return false;
}

static Dim from_poly(Ctx *c, const Poly *p) {
    bool ok = true;
    if (p->n < 2 || !has_pairs(c, p)) return poly_dim(c, p);
    Poly *q = poly_take(c);
    *q = *p;
    for (int i = 0; i < MAX_TERMS && ok && recombine_one(c, q, &ok); i++) continue;
    Dim d = poly_dim(c, ok ? q : p);
    poly_give(c, 1);
    return d;
}

static Dim add_scaled(Ctx *c, Dim a, Dim b, int64_t scale) {
    int64_t x, y;
    if (!links(c, &a, &b)) return (Dim){0};
    if (constant(c, a, &x) && constant(c, b, &y)) {
        if (scale < 0 ? __builtin_sub_overflow(x, y, &x) : __builtin_add_overflow(x, y, &x))
            return dim_fail(c, DIM_OVERFLOW);
        return dim_const(c, x);
    }
    if (constant(c, b, &y) && y == 0) return a;
    Poly *p = poly_take(c);
    PolyResult r = poly_add(c, p, a, 1);
    if (r == P_OK) r = poly_add(c, p, b, scale);
    Dim d = r == P_OK ? from_poly(c, p) : (Dim){0};
    poly_give(c, 1);
    if (r == P_OVERFLOW) return dim_fail(c, DIM_OVERFLOW);
    Range rb = range_mul((Range){scale, scale}, range_of(c, b));
    if (r == P_BIG) d = opaque(c, D_ADD, a, scale == 1 ? b : dim_muli(c, b, scale));
    dim_tighten(c, d, range_add(range_of(c, a), rb));
    return d;
}

Dim dim_add(Ctx *c, Dim a, Dim b) { return add_scaled(c, a, b, 1); }
Dim dim_sub(Ctx *c, Dim a, Dim b) { return add_scaled(c, a, b, -1); }

Dim dim_mul(Ctx *c, Dim a, Dim b) {
    int64_t x = 2, y = 2;
    if (!links(c, &a, &b)) return (Dim){0};
    bool ca = constant(c, a, &x), cb = constant(c, b, &y);
    if (ca && cb)
        return __builtin_mul_overflow(x, y, &x) ? dim_fail(c, DIM_OVERFLOW) : dim_const(c, x);
    if ((ca && x == 0) || (cb && y == 1)) return a;
    if ((cb && y == 0) || (ca && x == 1)) return b;
    Poly *p = poly_take(c), *q = poly_take(c), *out = poly_take(c);
    PolyResult r = poly_add(c, p, a, 1);
    if (r == P_OK) r = poly_add(c, q, b, 1);
    if (r == P_OK) r = poly_mul(c, out, p, q);
    Dim d = r == P_OK ? from_poly(c, out) : (Dim){0};
    poly_give(c, 3);
    if (r == P_OVERFLOW) return dim_fail(c, DIM_OVERFLOW);
    if (r == P_BIG) d = opaque(c, D_MUL, a, b);
    dim_tighten(c, d, range_mul(range_of(c, a), range_of(c, b)));
    return d;
}

/* ==== division ================================================================================ */

static int64_t floor_mod(int64_t a, int64_t k) { return a % k < 0 ? a % k + k : a % k; } /* k > 0 */

/* Splits p into k*whole + rest, k > 0: coefficients of rest below k, its constant in [0, k). */
static bool split(Ctx *c, const Poly *p, int64_t k, Poly *whole, Poly *rest) {
    whole->k = floor_div(p->k, k);
    rest->k = floor_mod(p->k, k);
    for (uint32_t i = 0; i < p->n; i++) {
        Term q = p->t[i], r = p->t[i];
        q.coef = p->t[i].coef / k;
        r.coef = p->t[i].coef % k;
        if (poly_add_term(c, whole, &q, 1) != P_OK || poly_add_term(c, rest, &r, 1) != P_OK)
            return false;
    }
    return true;
}

/* All of r lies in [f*k, (f+1)*k)? */
static bool one_quotient(Range r, int64_t k, int64_t *f) {
    int64_t fk;
    if (r.lo == INT64_MIN || r.hi == INT64_MAX) return false;
    *f = floor_div(r.lo, k);
    return *f == floor_div(r.hi, k) && !__builtin_mul_overflow(*f, k, &fk);
}

/* p = the atom floordiv(x, a) alone, plus e, with a constant a > 0? */
static bool nested_floordiv(const Ctx *c, const Poly *p, Dim *x, int64_t *a) {
    if (p->n != 1 || p->t[0].n != 1 || p->t[0].coef != 1) return false;
    const DimInfo *i = &dim_node(c, p->t[0].f[0])->info;
    if (i->kind != D_FLOORDIV || !constant(c, i->arg[1], a) || *a <= 0) return false;
    *x = i->arg[0];
    return true;
}

static Dim floordiv_const(Ctx *c, Dim a, int64_t k) {
    Dim out = {0}, inner = {0}, x;
    Range known = range_of(c, a);
    int64_t f, n, e, nk, full = k;
    if (k == 1 || !a.i) return a;
    Poly *p = poly_take(c), *whole = poly_take(c), *rest = poly_take(c);
    bool ok = poly_add(c, p, a, 1) == P_OK && split(c, p, k, whole, rest);
    if (ok && rest->n) {
        int64_t g = gcd64(poly_content(rest), k);
        if (g > 1) {
            rest->k = floor_div(rest->k, g);
            for (uint32_t i = 0; i < rest->n; i++) rest->t[i].coef /= g;
            k /= g;
        }
        Range r = poly_range(c, rest);
        if (g == 1 && !whole->n && !whole->k) r = meet(r, known);
        if (k == 1 || one_quotient(r, k, &f)) {
            if (k == 1) ok = poly_add_poly(c, whole, rest, 1) == P_OK;
            else ok = !__builtin_add_overflow(whole->k, f, &whole->k);
        } else if (nested_floordiv(c, rest, &x, &n) && !__builtin_mul_overflow(n, rest->k, &e) &&
                   !__builtin_mul_overflow(n, k, &nk)) {
            inner = floordiv_const(c, dim_addi(c, x, e), nk);
            ok = inner.i && poly_add(c, whole, inner, 1) == P_OK;
        } else {
            inner = pair(c, D_FLOORDIV, poly_dim(c, rest), dim_const(c, k));
            ok = inner.i && poly_add(c, whole, inner, 1) == P_OK;
        }
    }
    out = ok ? from_poly(c, whole) : pair(c, D_FLOORDIV, a, dim_const(c, full));
    poly_give(c, 3);
    if (known.lo != INT64_MIN) known.lo = floor_div(known.lo, full);
    if (known.hi != INT64_MAX) known.hi = floor_div(known.hi, full);
    dim_tighten(c, out, known);
    return out;
}

/* r without the mods inside that mod k makes void: mod(mod(x, n), k) = mod(x, k) if k divides n.
 * False if r has none. */
static bool unwrap_mod(Ctx *c, const Poly *r, int64_t k, Dim *out) {
    int64_t n;
    for (uint32_t i = 0; i < r->n; i++) {
        const Term *t = &r->t[i];
        const DimInfo m = dim_node(c, t->f[0])->info;
        if (t->n != 1 || m.kind != D_MOD || !constant(c, m.arg[1], &n) || n % k != 0) continue;
        Poly *again = poly_take(c);
        bool ok = t->coef != INT64_MIN && poly_add_poly(c, again, r, 1) == P_OK &&
                  poly_add_term(c, again, t, -1) == P_OK &&
                  poly_add(c, again, m.arg[0], t->coef) == P_OK;
        if (ok) *out = poly_dim(c, again);
        poly_give(c, 1);
        if (ok) return true;
    }
    return false;
}

static Dim mod_const(Ctx *c, Dim a, int64_t k) {
    int64_t f = 0, low = 0, g = 1;
    const int64_t full = k;
    Dim m = {0};
    if (k == 1 || !a.i) return a.i ? dim_const(c, 0) : a;
    Poly *p = poly_take(c), *whole = poly_take(c), *rest = poly_take(c);
    if (poly_add(c, p, a, 1) != P_OK || !split(c, p, k, whole, rest)) {
        m = pair(c, D_MOD, a, dim_const(c, k));
    } else { /* mod(g*y + low, g*k) = g*mod(y, k) + low */
        g = gcd64(poly_content(rest), k);
        low = rest->k % g;
        rest->k -= low;
        poly_scale_down(rest, g);
        k /= g;
        Range r = poly_range(c, rest);
        if (g == 1 && !whole->n && !whole->k) r = meet(r, range_of(c, a));
        if (k == 1) m = dim_const(c, 0);
        else if (one_quotient(r, k, &f) && !__builtin_sub_overflow(rest->k, f * k, &rest->k))
            m = from_poly(c, rest);
        else if (unwrap_mod(c, rest, k, &m)) m = mod_const(c, m, k);
        else m = pair(c, D_MOD, poly_dim(c, rest), dim_const(c, k));
    }
    poly_give(c, 3);
    Dim out = dim_addi(c, dim_muli(c, m, g), low);
    dim_tighten(c, out, (Range){0, full - 1});
    return out;
}

static Range difference(Ctx *c, Dim a, Dim b) {
    Range ra = range_of(c, a), rb = range_mul((Range){-1, -1}, range_of(c, b)),
          r = range_add(ra, rb);
    DimTable *t = dim_table(c);
    Poly *p = poly_take(c);
    if (poly_add(c, p, a, 1) == P_OK && poly_add(c, p, b, -1) == P_OK) {
        r = meet(poly_range(c, p), r);
        for (uint32_t k = 0; k < t->fact.n && !t->looking; k++) { /* p - fact <= p <= p + fact */
            t->looking = true;
            Dim fact = dim_canon(c, t->fact.v[k]);
            t->looking = false;
            Poly *less = poly_take(c), *more = poly_take(c);
            if (poly_add_poly(c, less, p, 1) == P_OK && poly_add(c, less, fact, -1) == P_OK && poly_add_poly(c, more, p, 1) == P_OK &&
                poly_add(c, more, fact, 1) == P_OK)
                r = meet(r, (Range){poly_range(c, less).lo, poly_range(c, more).hi});
            poly_give(c, 2);
        }
    }
    poly_give(c, 1);
    return r;
}

/* Division by an unknown: a = whole*b + rest with rest free of multiples of b (if b is one
 * product). */
static Dim divide_symbolic(Ctx *c, DimKind kind, Dim a, Dim b) {
    Poly *p = poly_take(c), *q = poly_take(c), *whole = poly_take(c), *rest = poly_take(c);
    Dim out = {0}, w = dim_const(c, 0), r = a, d = b;
    bool done = false;
    if (poly_add(c, p, a, 1) == P_OK && poly_add(c, q, b, 1) == P_OK) {
        if (poly_divide(c, whole, p, q)) {
            w = poly_dim(c, whole);
            r = dim_const(c, 0);
            done = true;
        } else {
            whole->n = 0, whole->k = 0;
            int64_t g = gcd64(gcd64(poly_content(p), p->k), gcd64(poly_content(q), q->k));
            if (g > 1 && kind != D_MOD) poly_scale_down(p, g), poly_scale_down(q, g);
            bool ok = true;
            Term t;
            for (uint32_t i = 0; ok && i < p->n; i++) {
                bool multiple = q->n == 1 && q->k == 0 && term_divide(&t, &p->t[i], &q->t[0]);
                ok = poly_add_term(c, multiple ? whole : rest, multiple ? &t : &p->t[i], 1) == P_OK;
            }
            rest->k = p->k;
            if (ok) {
                w = poly_dim(c, whole);
                r = poly_dim(c, rest);
                d = poly_dim(c, q);
            }
        }
    }
    poly_give(c, 4);
    if (!w.i || !r.i || !d.i) return (Dim){0};
    if (!done) { /* r within [0, d), or (0, d] when rounding up: the quotient is known */
        Range rr = range_of(c, r), gap = difference(c, d, r);
        if (kind == D_CEILDIV && rr.lo >= 1 && gap.lo >= 0) done = true, w = dim_addi(c, w, 1);
        else if (kind != D_CEILDIV && rr.lo >= 0 && gap.lo >= 1) done = true;
    }
    if (kind == D_MOD) return done ? r : pair(c, kind, r, d);
    if (done) return w;
    out = pair(c, kind, r, d);
    return dim_add(c, w, out);
}

static Dim divide(Ctx *c, DimKind kind, Dim a, Dim b) {
    int64_t x, k;
    if (!links(c, &a, &b)) return (Dim){0};
    bool ca = constant(c, a, &x);
    if (!constant(c, b, &k)) return ca && x == 0 ? a : divide_symbolic(c, kind, a, b);
    if (k == 0) return dim_fail(c, DIM_ZERO_DIVIDE);
    if (k == INT64_MIN) return pair(c, kind, a, b);
    if (k < 0) {
        Dim minus = dim_muli(c, a, -1);
        Dim r = divide(c, kind, minus, dim_const(c, -k));
        return kind == D_MOD ? dim_muli(c, r, -1) : r;
    }
    if (ca)
        return dim_const(c, kind == D_FLOORDIV  ? floor_div(x, k)
                            : kind == D_CEILDIV ? ceil_div(x, k)
                                                : floor_mod(x, k));
    if (kind == D_MOD) return mod_const(c, a, k);
    if (kind == D_CEILDIV && k > 1) a = dim_addi(c, a, k - 1);
    return a.i ? floordiv_const(c, a, k) : a;
}

Dim dim_floordiv(Ctx *c, Dim a, Dim b) { return divide(c, D_FLOORDIV, a, b); }
Dim dim_ceildiv(Ctx *c, Dim a, Dim b) { return divide(c, D_CEILDIV, a, b); }
Dim dim_mod(Ctx *c, Dim a, Dim b) { return divide(c, D_MOD, a, b); }

/* ==== min, max, bcast ========================================================================= */

/* The arguments of nested operations of one kind, each once; false if there are too many. */
static bool flatten(const Ctx *c, DimKind kind, Dim d, Dim *list, int *n) {
    for (bool more = true; more;) {
        const DimInfo *i = &dim_node(c, d)->info;
        more = i->kind == kind;
        Dim last = more ? i->arg[1] : d;
        d = i->arg[0];
        int k = 0;
        while (k < *n && list[k].i != last.i) k++;
        if (k < *n) continue;
        if (*n == MAX_FLAT) return false;
        list[(*n)++] = last;
    }
    return true;
}

static Dim chain(Ctx *c, DimKind kind, Dim *list, int n) {
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && dim_order(c, list[j - 1], list[j]) > 0; j--) {
            Dim x = list[j];
            list[j] = list[j - 1];
            list[j - 1] = x;
        }
    Dim d = list[0];
    for (int i = 1; i < n; i++) d = pair(c, kind, d, list[i]);
    return d;
}

static Dim extreme(Ctx *c, DimKind kind, Dim a, Dim b) {
    Dim list[MAX_FLAT];
    int n = 0;
    if (!links(c, &a, &b)) return (Dim){0};
    if (!flatten(c, kind, a, list, &n) || !flatten(c, kind, b, list, &n))
        return pair(c, kind, a, b);
    for (int i = 0; i < n; i++) {
        for (int j = i + 1; j < n; j++) {
            Range r = difference(c, list[i], list[j]);
            bool first = kind == D_MIN ? r.hi <= 0 : r.lo >= 0,
                 second = kind == D_MIN ? r.lo >= 0 : r.hi <= 0;
            if (!first && !second) continue;
            int drop = first ? j : i;
            memmove(&list[drop], &list[drop + 1], (size_t)(--n - drop) * sizeof *list);
            if (!first) {
                i--;
                break;
            }
            j--;
        }
    }
    return chain(c, kind, list, n);
}

Dim dim_min(Ctx *c, Dim a, Dim b) { return extreme(c, D_MIN, a, b); }
Dim dim_max(Ctx *c, Dim a, Dim b) { return extreme(c, D_MAX, a, b); }

Dim dim_bcast(Ctx *c, Dim a, Dim b) {
    Dim list[MAX_FLAT], one = dim_const(c, 1), best = {0};
    int n = 0;
    if (!links(c, &a, &b)) return (Dim){0};
    if (!flatten(c, D_BCAST, a, list, &n) || !flatten(c, D_BCAST, b, list, &n))
        return pair(c, D_BCAST, a, b);
    /* An extent known not to be 1 is the result: the guard demands that the others fit it. */
    for (int i = 0; i < n; i++) {
        if (!dim_differ(c, list[i], one)) continue;
        if (!best.i || dim_is_const(c, list[i], NULL) ||
            (!dim_is_const(c, best, NULL) && dim_order(c, list[i], best) < 0))
            best = list[i];
    }
    if (best.i) return best;
    for (int i = 0; i < n; i++)
        if (list[i].i == one.i && n > 1)
            memmove(&list[i], &list[i + 1], (size_t)(--n - i) * sizeof *list), i--;
    return chain(c, D_BCAST, list, n);
}

/* ==== comparisons ============================================================================= */

/* p = left - right, both with positive coefficients. */
static bool sides(Ctx *c, const Poly *p, Dim *left, Dim *right) {
    Poly *l = poly_take(c), *r = poly_take(c);
    bool ok = p->k != INT64_MIN;
    if (ok) *(p->k > 0 ? &l->k : &r->k) = p->k > 0 ? p->k : -p->k;
    for (uint32_t i = 0; ok && i < p->n; i++) {
        bool plus = p->t[i].coef > 0;
        ok = poly_add_term(c, plus ? l : r, &p->t[i], plus ? 1 : -1) == P_OK;
    }
    if (ok) {
        *left = poly_dim(c, l);
        *right = poly_dim(c, r);
    }
    poly_give(c, 2);
    return ok;
}

Dim dim_eqv(Ctx *c, Dim a, Dim b) {
    if (!links(c, &a, &b)) return (Dim){0};
    if (a.i == b.i) return dim_const(c, 1);
    Range r = difference(c, a, b);
    if (r.lo > 0 || r.hi < 0 || dim_differ(c, a, b)) return dim_const(c, 0);
    Poly *p = poly_take(c);
    if (poly_add(c, p, a, 1) == P_OK && poly_add(c, p, b, -1) == P_OK && p->n) {
        int64_t g = poly_content(p); /* it divides k, or they would differ */
        poly_scale_down(p, g);
        bool swap = p->t[0].coef < 0;
        sides(c, p, swap ? &b : &a, swap ? &a : &b);
    }
    poly_give(c, 1);
    return pair(c, D_EQ, a, b);
}

Dim dim_lt(Ctx *c, Dim a, Dim b) {
    if (!links(c, &a, &b)) return (Dim){0};
    Range r = difference(c, b, a);
    if (r.lo >= 1) return dim_const(c, 1);
    if (r.hi <= 0) return dim_const(c, 0);
    Poly *p = poly_take(c);
    if (poly_add(c, p, b, 1) == P_OK && poly_add(c, p, a, -1) == P_OK && p->n) {
        int64_t g = poly_content(p), k = ceil_div(p->k, g); /* g*y + k > 0 iff y + ceil(k/g) > 0 */
        p->k = 0;
        poly_scale_down(p, g);
        p->k = k;
        sides(c, p, &b, &a);
    }
    poly_give(c, 1);
    return pair(c, D_LT, a, b);
}

Dim dim_select(Ctx *c, Dim cond, Dim a, Dim b) {
    int64_t k, x, y;
    cond = dim_canon(c, cond);
    if (!links(c, &a, &b) || !cond.i) return (Dim){0};
    if (constant(c, cond, &k)) return k ? a : b;
    Range r = range_of(c, cond);
    if (a.i == b.i || r.lo > 0 || r.hi < 0) return a;
    if (r.lo == 0 && r.hi == 1 && constant(c, a, &x) && constant(c, b, &y) && x == 1 && y == 0)
        return cond;
    return dim_intern(c, D_SELECT, 3, (Dim[]){cond, a, b}, 0, false);
}
