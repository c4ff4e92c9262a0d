/* dim_poly.c: sums of products of atoms, the normal form behind dims; and what can be proven about
 * their range.
 *
 * Products are ordered by degree, then lexicographically by dim_order: a monomial order, so that
 * division by leading terms decides whether one polynomial divides another. Nothing here reports:
 * overflow and size are results. */
#include <string.h>

#include "dim_internal.h"

int64_t gcd64(int64_t a, int64_t b) {
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    while (y) {
        uint64_t z = x % y;
        x = y;
        y = z;
    }
    return x > INT64_MAX ? (int64_t)1 << 62 : (int64_t)x; /* 2^63: half of it is a divisor too */
}

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0 && (a < 0) == (b < 0)); }

/* ==== scratch ================================================================================= */

Poly *poly_take(Ctx *c) {
    DimTable *t = dim_table(c);
    if (t->taken == t->pool.n) vec_push(c, &t->pool, NEW(c, Poly));
    Poly *p = t->pool.v[t->taken++];
    p->k = 0;
    p->n = 0;
    return p;
}

void poly_give(Ctx *c, int n) { c->dim->taken -= (uint32_t)n; }

static Poly *copy_of(Ctx *c, const Poly *p) {
    Poly *q = poly_take(c);
    q->k = p->k;
    q->n = p->n;
    memcpy(q->t, p->t, p->n * sizeof *p->t);
    return q;
}

/* ==== terms =================================================================================== */

static int term_order(const Ctx *c, const Term *a, const Term *b) {
    if (a->n != b->n) return a->n > b->n ? -1 : 1;
    uint32_t k = 0;
    while (k < a->n && a->f[k].i == b->f[k].i) k++;
    return k == a->n ? 0 : dim_order(c, a->f[k], b->f[k]);
}

/* The term that a canonical dim (neither a constant nor a flattened sum) stands for. */
static Term term_of(const Ctx *c, Dim d) {
    Term t = {.coef = 1};
    const DimNode *n = dim_node(c, d);
    if (n->info.kind == D_MUL && !n->opaque && dim_node(c, n->info.arg[0])->info.kind == D_CONST) {
        t.coef = dim_node(c, n->info.arg[0])->info.val;
        d = n->info.arg[1];
    }
    for (n = dim_node(c, d); n->info.kind == D_MUL && !n->opaque; n = dim_node(c, d)) {
        t.f[t.n++] = n->info.arg[1];
        d = n->info.arg[0];
    }
    t.f[t.n++] = d;
    for (uint32_t i = 0, j = t.n - 1; i < j; i++, j--) {
        Dim x = t.f[i];
        t.f[i] = t.f[j];
        t.f[j] = x;
    }
    return t;
}

static bool term_mul(const Ctx *c, Term *out, const Term *a, const Term *b) {
    uint32_t i = 0, j = 0;
    if (a->n + b->n > MAX_FACTORS) return false;
    out->n = 0;
    while (i < a->n || j < b->n) {
        bool left = j == b->n || (i < a->n && dim_order(c, a->f[i], b->f[j]) <= 0);
        out->f[out->n++] = left ? a->f[i++] : b->f[j++];
    }
    return true;
}

bool term_divide(Term *quotient, const Term *a, const Term *b) {
    uint32_t j = 0;
    if (b->coef == 0 || (b->coef == -1 && a->coef == INT64_MIN) || a->coef % b->coef != 0)
        return false;
    quotient->coef = a->coef / b->coef;
    quotient->n = 0;
    for (uint32_t i = 0; i < a->n; i++) {
        if (j < b->n && a->f[i].i == b->f[j].i) j++;
        else quotient->f[quotient->n++] = a->f[i];
    }
    return j == b->n;
}

/* ==== arithmetic ============================================================================== */

PolyResult poly_add_term(Ctx *c, Poly *p, const Term *t, int64_t scale) {
    int64_t coef;
    if (__builtin_mul_overflow(t->coef, scale, &coef)) return P_OVERFLOW;
    if (coef == 0) return P_OK;
    if (t->n == 0) return __builtin_add_overflow(p->k, coef, &p->k) ? P_OVERFLOW : P_OK;
    uint32_t lo = 0, hi = p->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        int order = term_order(c, &p->t[mid], t);
        if (order == 0) {
            Term *at = &p->t[mid];
            if (__builtin_add_overflow(at->coef, coef, &at->coef)) return P_OVERFLOW;
            if (at->coef == 0) memmove(at, at + 1, (--p->n - mid) * sizeof *at);
            return P_OK;
        }
        if (order < 0) lo = mid + 1;
        else hi = mid;
    }
    if (p->n == MAX_TERMS) return P_BIG;
    memmove(&p->t[lo + 1], &p->t[lo], (p->n++ - lo) * sizeof *t);
    p->t[lo] = *t;
    p->t[lo].coef = coef;
    return P_OK;
}

PolyResult poly_add(Ctx *c, Poly *p, Dim d, int64_t scale) {
    PolyResult r = P_OK;
    for (;;) {
        const DimNode *n = dim_node(c, d);
        bool sum = n->info.kind == D_ADD && !n->opaque;
        Dim last = sum ? n->info.arg[1] : d;
        const DimNode *m = dim_node(c, last);
        Term t = {.coef = m->info.val};
        if (m->info.kind != D_CONST) t = term_of(c, last);
        Dim next = n->info.arg[0];
        if ((r = poly_add_term(c, p, &t, scale)) != P_OK || !sum) return r;
        d = next;
    }
}

PolyResult poly_add_poly(Ctx *c, Poly *p, const Poly *q, int64_t scale) {
    Term k = {.coef = q->k};
    PolyResult r = poly_add_term(c, p, &k, scale);
    for (uint32_t i = 0; i < q->n && r == P_OK; i++) r = poly_add_term(c, p, &q->t[i], scale);
    return r;
}

/* p += q * t */
static PolyResult add_product(Ctx *c, Poly *p, const Poly *q, const Term *t) {
    Term x;
    PolyResult r = P_OK;
    for (uint32_t i = 0; i <= q->n && r == P_OK; i++) {
        const Term k = {.coef = q->k}, *a = i < q->n ? &q->t[i] : &k;
        if (!term_mul(c, &x, a, t)) return P_BIG;
        x.coef = a->coef;
        r = poly_add_term(c, p, &x, t->coef);
    }
    return r;
}

PolyResult poly_mul(Ctx *c, Poly *out, const Poly *a, const Poly *b) {
    const Term k = {.coef = b->k};
    PolyResult r = add_product(c, out, a, &k);
    for (uint32_t i = 0; i < b->n && r == P_OK; i++) r = add_product(c, out, a, &b->t[i]);
    return r;
}

int64_t poly_content(const Poly *p) {
    int64_t g = 0;
    for (uint32_t i = 0; i < p->n; i++) g = gcd64(g, p->t[i].coef);
    return g;
}

void poly_scale_down(Poly *p, int64_t by) {
    p->k /= by;
    for (uint32_t i = 0; i < p->n; i++) p->t[i].coef /= by;
}

bool poly_divide(Ctx *c, Poly *quotient, const Poly *a, const Poly *b) {
    Poly *rest = copy_of(c, a);
    const Term bk = {.coef = b->k}, *lead = b->n ? &b->t[0] : &bk;
    Term q;
    bool ok = true;
    while (ok && (rest->n || rest->k)) { /* the leading term of rest cancels, so this ends */
        const Term rk = {.coef = rest->k}, *top = rest->n ? &rest->t[0] : &rk;
        ok = term_divide(&q, top, lead) && q.coef != INT64_MIN &&
             poly_add_term(c, quotient, &q, 1) == P_OK;
        q.coef = -q.coef;
        ok = ok && add_product(c, rest, b, &q) == P_OK;
    }
    poly_give(c, 1);
    return ok;
}

Dim poly_dim(Ctx *c, const Poly *p) {
    uint32_t before = c->dim->node.n;
    Dim sum = {0};
    for (uint32_t i = 0; i <= p->n; i++) {
        Dim d = {0};
        if (i == p->n) {
            if (p->k == 0 && p->n) break;
            d = dim_intern(c, D_CONST, 0, NULL, p->k, false);
        } else {
            const Term *t = &p->t[i];
            d = t->f[0];
            for (uint32_t k = 1; k < t->n; k++)
                d = dim_intern(c, D_MUL, 2, (Dim[]){d, t->f[k]}, 0, false);
            if (t->coef != 1) {
                Dim coef = dim_intern(c, D_CONST, 0, NULL, t->coef, false);
                d = dim_intern(c, D_MUL, 2, (Dim[]){coef, d}, 0, false);
            }
        }
        if (!d.i) return d;
        sum = i ? dim_intern(c, D_ADD, 2, (Dim[]){sum, d}, 0, false) : d;
        if (!sum.i) return sum;
    }
    if (p->n + (p->k != 0) > 1 && sum.i >= before) dim_tighten(c, sum, poly_range(c, p));
    return sum;
}

/* ==== ranges ================================================================================== */

static bool unbounded(int64_t x) { return x == INT64_MIN || x == INT64_MAX; }

Range range_add(Range a, Range b) {
    Range r;
    if (unbounded(a.lo) || unbounded(b.lo)) r.lo = INT64_MIN;
    else if (__builtin_add_overflow(a.lo, b.lo, &r.lo)) r.lo = a.lo < 0 ? INT64_MIN : INT64_MAX - 1;
    if (unbounded(a.hi) || unbounded(b.hi)) r.hi = INT64_MAX;
    else if (__builtin_add_overflow(a.hi, b.hi, &r.hi)) r.hi = a.hi > 0 ? INT64_MAX : INT64_MIN + 1;
    return r;
}

static int64_t mul_ends(int64_t a, int64_t b) {
    int64_t r;
    if (a == 0 || b == 0) return 0;
    if (unbounded(a) || unbounded(b) || __builtin_mul_overflow(a, b, &r))
        return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
    return r;
}

Range range_mul(Range a, Range b) {
    int64_t e[4] = {mul_ends(a.lo, b.lo), mul_ends(a.lo, b.hi), mul_ends(a.hi, b.lo),
                    mul_ends(a.hi, b.hi)};
    Range r = {e[0], e[0]};
    for (int i = 1; i < 4; i++) {
        if (e[i] < r.lo) r.lo = e[i];
        if (e[i] > r.hi) r.hi = e[i];
    }
    return r;
}

static Range term_range(const Ctx *c, const Term *t) {
    Range r = {t->coef, t->coef};
    for (uint32_t k = 0; k < t->n; k++) {
        const DimInfo *i = &dim_node(c, t->f[k])->info;
        r = range_mul(r, (Range){i->lo, i->hi});
    }
    return r;
}

static int64_t poly_lo(Ctx *c, const Poly *p, int depth);

/* The lower bound of p after its term i, coef * atom, is replaced by coef * d + extra, all
 * multiplied by scale > 0. */
static int64_t replaced_lo(Ctx *c, const Poly *p, uint32_t i, Dim d, int64_t extra, int64_t scale,
                           int depth) {
    Poly *q = poly_take(c);
    Term t = p->t[i];
    int64_t lo = INT64_MIN;
    t.coef = t.coef == INT64_MIN ? 0 : -t.coef;
    bool ok = t.coef != 0 && poly_add_poly(c, q, p, scale) == P_OK &&
              poly_add_term(c, q, &t, scale) == P_OK;
    ok = ok && poly_add(c, q, d, -t.coef) == P_OK && !__builtin_add_overflow(q->k, extra, &q->k);
    if (ok) lo = poly_lo(c, q, depth + 1);
    poly_give(c, 1);
    return unbounded(lo) ? lo : ceil_div(lo, scale);
}

/* A bound of p from what the atom of term i is known to be near: for an atom x with coefficient k,
 *   floordiv(a, n):  k < 0: k*x >= k*a/n;  k > 0: k*x >= k*(a - n + 1)/n
 *   mod(a, n), a >= 0, k < 0: x <= a;  min, k < 0 and max, k > 0: either side bounds it
 *   min, max, bcast, select otherwise: x is one of the two. */
static int64_t relaxed_lo(Ctx *c, const Poly *p, uint32_t i, int depth) {
    const DimInfo a = dim_node(c, p->t[i].f[0])->info;
    int64_t k = p->t[i].coef, extra, n;
    switch (a.kind) {
    case D_FLOORDIV:
        if (dim_node(c, a.arg[1])->info.kind != D_CONST ||
            (n = dim_node(c, a.arg[1])->info.val) <= 0)
            break;
        if (__builtin_mul_overflow(k, 1 - n, &extra)) break;
        return replaced_lo(c, p, i, a.arg[0], k > 0 ? extra : 0, n, depth);
    case D_MOD:
        if (k < 0 && a.lo >= 0 && dim_node(c, a.arg[0])->info.lo >= 0)
            return replaced_lo(c, p, i, a.arg[0], 0, 1, depth);
        break;
    case D_MIN:
    case D_MAX:
    case D_BCAST:
    case D_SELECT: {
        int first = a.kind == D_SELECT;
        int64_t x = replaced_lo(c, p, i, a.arg[first], 0, 1, depth);
        int64_t y = replaced_lo(c, p, i, a.arg[first + 1], 0, 1, depth);
        bool either = a.kind == D_MIN ? k < 0 : a.kind == D_MAX && k > 0;
        return either == (x > y) ? x : y;
    }
    default: break;
    }
    return INT64_MIN;
}

static int64_t poly_lo(Ctx *c, const Poly *p, int depth) {
    DimTable *t = dim_table(c);
    Range r = {p->k, p->k};
    for (uint32_t i = 0; i < p->n; i++) r = range_add(r, term_range(c, &p->t[i]));
    if (p->n < 2 && !depth) return r.lo;
    for (uint32_t i = 0; i < p->n && depth < 4; i++) {
        if (p->t[i].n != 1 || dim_node(c, p->t[i].f[0])->info.kind <= D_SYM || t->relax <= 0)
            continue;
        t->relax--;
        int64_t lo = relaxed_lo(c, p, i, depth);
        if (lo > r.lo) r.lo = lo;
    }
    return r.lo == INT64_MAX ? INT64_MIN : r.lo;
}

Range poly_range(Ctx *c, const Poly *p) {
    enum { WORK = 24 };
    Range r = {0, INT64_MAX};
    DimTable *t = dim_table(c);
    t->relax = WORK;
    r.lo = poly_lo(c, p, 0);
    Poly *minus = poly_take(c);
    t->relax = WORK;
    if (poly_add_poly(c, minus, p, -1) == P_OK) {
        int64_t lo = poly_lo(c, minus, 0);
        if (lo != INT64_MIN) r.hi = -lo;
    }
    poly_give(c, 1);
    return r;
}
