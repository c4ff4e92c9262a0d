/* expr_bound.c: bounds of index expressions: numbers or dims that a value does not leave while 0 <= axis[k] < extent[k], found on its sums in affine
 * form (expr_index.h). */
#include "expr_index.h"
#include <stdlib.h>
#include <string.h>

/* ---- dims ---- */

bool simp_small(const Ctx *c, Dim d) {
    int64_t v;
    return d.i && (!dim_is_const(c, d, &v) || (v < SIMP_LARGE && v > -SIMP_LARGE));
}

Dim simp_mul(Simp *s, Dim a, Dim b) {
    Ctx *c = s->c;
    int64_t x, y;
    if (a.i == s->one.i || b.i == s->zero.i) return b;
    if (b.i == s->one.i || a.i == s->zero.i) return a;
    if (dim_is_const(c, a, &x) && dim_is_const(c, b, &y))
        return dim_const(c, (int64_t)((uint64_t)x * (uint64_t)y));
    return simp_small(c, a) && simp_small(c, b) ? dim_mul(c, a, b) : (Dim){0};
}

Dim simp_add(Simp *s, Dim a, Dim b) {
    Ctx *c = s->c;
    int64_t x, y;
    if (a.i == s->zero.i) return b;
    if (b.i == s->zero.i) return a;
    if (dim_is_const(c, a, &x) && dim_is_const(c, b, &y))
        return dim_const(c, (int64_t)((uint64_t)x + (uint64_t)y));
    return simp_small(c, a) && simp_small(c, b) ? dim_add(c, a, b) : (Dim){0};
}

Dim simp_mul_divisors(Simp *s, Dim a, Dim b) {
    Ctx *c = s->c;
    int64_t x, y, z;
    if (dim_is_const(c, a, &x) && dim_is_const(c, b, &y) &&
        (__builtin_mul_overflow(x, y, &z) || z >= SIMP_LARGE))
        return (Dim){0};
    return simp_mul(s, a, b);
}

bool simp_divides(Simp *s, Dim a, Dim d, Dim *q) {
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
    return q->i && dim_same(c, simp_mul(s, *q, d), a);
}

/* d >= 1 at every point: so are factors of an extent, since its axis has at least one point. */
bool simp_positive(Simp *s, Dim d) {
    Dim q;
    if (dim_lo(s->c, d) >= 1) return true;
    if (dim_lo(s->c, d) < 0 || dim_is_const(s->c, d, NULL)) return false;
    for (uint32_t a = 0; a < s->naxis; a++)
        if (s->extent[a].i && simp_divides(s, s->extent[a], d, &q)) return true;
    DimInfo i = *dim_info(s->c, d);
    return i.kind == D_MUL && simp_positive(s, i.arg[0]) && simp_positive(s, i.arg[1]);
}

bool expr_as_dim(Ctx *c, Expr e, Dim *d) {
    const ExprInfo *i = expr_info(c, e);
    if (i->kind == E_DIM) return *d = (Dim){i->index}, true;
    if (i->kind != E_CONST || i->dtype != DT_I64) return false;
    return *d = dim_const(c, i->val.i), true;
}

/* ---- affine sums ---- */

void lin_add(Simp *s, Lin *l, Expr atom, Dim coef) {
    if (!coef.i) l->bad = true;
    for (uint32_t k = 0; k < l->n; k++) {
        if (l->t[k].atom.i != atom.i) continue;
        l->t[k].coef = simp_add(s, l->t[k].coef, coef);
        if (!l->t[k].coef.i) l->bad = true;
        else if (dim_is(s->c, l->t[k].coef, 0)) l->t[k] = l->t[--l->n];
        return;
    }
    if (l->bad || dim_is(s->c, coef, 0)) return;
    if (l->n == LIN_MAX) l->bad = true;
    else l->t[l->n++] = (LinTerm){atom, coef};
}

void lin_add_dim(Simp *s, Lin *l, Dim d) {
    l->rest = simp_add(s, l->rest, d);
    if (!l->rest.i) l->bad = true;
}

void lin_add_scaled(Simp *s, Lin *l, const Lin *x, Dim by) {
    for (uint32_t k = 0; k < x->n && !l->bad; k++)
        lin_add(s, l, x->t[k].atom, simp_mul(s, x->t[k].coef, by));
    if (!l->bad) lin_add_dim(s, l, simp_mul(s, x->rest, by));
    l->bad |= x->bad;
}

void lin_read(Simp *s, Expr e, Lin *l) {
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
        } else if (expr_as_dim(c, x.atom, &d)) {
            lin_add_dim(s, l, simp_mul(s, d, x.coef));
        } else if (linear) {
            bool minus = i->op != S_ADD;
            Dim other = minus ? simp_mul(s, x.coef, s->minus) : x.coef;
            if (i->op != S_NEG) stack[top++] = (LinTerm){i->arg[0], x.coef};
            stack[top++] = (LinTerm){i->arg[i->op != S_NEG], other};
        } else if (i->kind == E_OP && i->op == S_MUL && expr_as_dim(c, i->arg[1], &d)) {
            stack[top++] = (LinTerm){i->arg[0], simp_mul(s, x.coef, d)};
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

static bool negative(const Ctx *c, Dim d) { return dim_hi(c, d) < 0 && dim_lo(c, d) > -SIMP_LARGE; }

/* The sum as an expression: axes in order, then other atoms, those with a negative coefficient
 * subtracted, the dim last (first if there is nothing to subtract from). */
Expr lin_emit(Simp *s, Lin *l) {
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

Bound lin_bound(Simp *s, const Lin *l) {
    Ctx *c = s->c;
    if (l->bad || !simp_small(c, l->rest)) return (Bound){0};
    Bound r = {l->rest, l->rest, true};
    for (uint32_t k = 0; k < l->n; k++) {
        Dim f = l->t[k].coef;
        Bound a = simp_bound(s, l->t[k].atom);
        bool up = dim_lo(c, f) >= 0, down = dim_hi(c, f) <= 0;
        if (!simp_small(c, f)) return (Bound){0};
        r.tame &= a.tame;
        Dim lo = up ? a.lo : down ? a.hi : (Dim){0}, hi = up ? a.hi : down ? a.lo : (Dim){0};
        r.lo = r.lo.i && simp_small(c, lo) ? simp_add(s, r.lo, simp_mul(s, lo, f)) : (Dim){0};
        r.hi = r.hi.i && simp_small(c, hi) ? simp_add(s, r.hi, simp_mul(s, hi, f)) : (Dim){0};
    }
    return r;
}

bool dim_at_least(const Ctx *c, Dim d, int64_t v) { return d.i && dim_lo(c, d) >= v; }
bool dim_at_most(const Ctx *c, Dim d, int64_t v) { return d.i && dim_hi(c, d) <= v; }

Bound simp_bound_cast(Simp *s, const ExprInfo *i) {
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
    Bound x = simp_bound(s, i->arg[0]), r = {{0}, {0}, x.tame && i->op == S_FDIV};
    if (!expr_as_dim(c, i->arg[1], &d) || !simp_positive(s, d)) return r;
    if (i->op == S_MOD) return (Bound){s->zero, simp_add(s, d, s->minus), true};
    if (simp_small(c, x.lo) && (dim_lo(c, d) >= 1 || dim_at_least(c, x.lo, 0)))
        r.lo = dim_lo(c, d) >= 1 ? dim_floordiv(c, x.lo, d) : s->zero;
    if (simp_small(c, x.hi)) {
        if (dim_lo(c, d) >= 1) r.hi = dim_floordiv(c, x.hi, d);
        else if (!simp_divides(s, simp_add(s, x.hi, s->one), d, &r.hi)) r.hi = (Dim){0};
        else r.hi = simp_add(s, r.hi, s->minus); /* floor((d*q - 1) / d) = q - 1 */
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
        x = simp_bound(s, i->arg[0]);
        y = simp_bound(s, i->arg[1]);
        bool up = dim_at_least(c, x.lo, 0) && dim_at_least(c, y.lo, 0) && simp_small(c, x.hi) && simp_small(c, y.hi);
        if (!up || !simp_small(c, x.lo) || !simp_small(c, y.lo)) return (Bound){{0}, {0}, false};
        return (Bound){simp_mul(s, x.lo, y.lo), simp_mul(s, x.hi, y.hi), x.tame && y.tame};
    }
    case S_FDIV: case S_MOD: return bound_divided(s, i);
    case S_MIN: case S_MAX: case S_SELECT:
        x = simp_bound(s, i->arg[i->narg - 2]);
        y = simp_bound(s, i->arg[i->narg - 1]);
        bool lo = simp_small(c, x.lo) && simp_small(c, y.lo), hi = simp_small(c, x.hi) && simp_small(c, y.hi);
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
    if (expr_as_dim(c, e, &d)) return (Bound){d, d, simp_small(c, d)};
    if (i->kind == E_AXIS) {
        bool known = i->index < s->naxis && simp_small(c, s->extent[i->index]);
        Dim hi = known ? simp_add(s, s->extent[i->index], s->minus) : (Dim){0};
        return (Bound){s->zero, hi, true};
    }
    s->depth++;
    Bound b = i->kind == E_CAST ? simp_bound_cast(s, i)
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

Bound simp_bound(Simp *s, Expr e) {
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
