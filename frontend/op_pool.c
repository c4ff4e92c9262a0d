/* op_pool.c: pooling: pad, then a window view, then a reduction over the window's axes. */
#include "frontend/window.h"
#include <math.h>

#define FN(f) void imp_##f(Imp *m)
FN(maxpool); FN(averagepool); FN(lppool); FN(globalpool);

static uint32_t last_axes(int rank, int n)
{
    return (uint32_t)(((1ull << n) - 1) << (rank - n));
}

static Scalar lowest(DType t)
{
    Scalar s = {.t = DT_F64, .f = -INFINITY};
    if (dt_is_float(t)) {
        s = dt_convert(s, t);
    } else {
        s.t = t;
        s.i = dt_is_signed(t) ? (int64_t)(UINT64_MAX << (dt_bits(t) - 1)) : 0;
    }
    return s;
}

static void ends(Imp *m, const Geo *g, Dim *hi)
{
    for (int i = 0; i < g->n; i++)
        hi[i] = dim_add(m->c, g->hi[i], g->extra[i]);
}

/* The flat position of each element of x */
static Val positions(Imp *m, Val x, const Geo *g)
{
    Dim d[MAX_RANK];
    dims_of(m, x, d);
    Expr e = xaxis(m, 0);
    for (int a = 1; a < g->n + 2; a++)
        e = X2(ADD, X2(MUL, e, xdim(m, d[a])), xaxis(m, a));
    return map_over(m, e, 0, NULL, g->n + 2, d);
}

/* The same positions in x where the first spatial axis is the fastest (storage_order 1); -1 stays. */
static Val by_columns(Imp *m, Val at, Val x, const Geo *g)
{
    Dim d[MAX_RANK], size[MAX_RANK];
    Expr rest = xarg(m, 0, DT_I64), along[SPATIAL];
    dims_of(m, at, d);
    dims_of(m, x, size);
    for (int i = g->n - 1; i >= 0; i--) {
        along[i] = X2(MOD, rest, xdim(m, size[2 + i]));
        rest = X2(FDIV, rest, xdim(m, size[2 + i]));
    }
    for (int i = g->n - 1; i >= 0; i--)
        rest = X2(ADD, X2(MUL, rest, xdim(m, size[2 + i])), along[i]);
    return map_over(m, X3(SELECT, X2(LT, xarg(m, 0, DT_I64), XI(0)), XI(-1), rest), 1, &at, g->n + 2, d);
}

Val pool_windows(Imp *m, Val x, Scalar pad)
{
    Geo g;
    Dim hi[SPATIAL] = {{0}};
    if (!geo_read(m, x, NULL, &g))
        return (Val){0};
    ends(m, &g, hi);
    return geo_windows(m, pad_ends(m, x, g.n, g.lo, hi, pad), 2, &g);
}

Val max_pool(Imp *m, Val x, Val *indices)
{
    Val in[2], out[2];
    DType t = dtype_of(m, x);
    Geo g;
    Dim hi[SPATIAL] = {{0}};
    if (!geo_read(m, x, NULL, &g))
        return (Val){0};
    ends(m, &g, hi);
    in[0] = geo_windows(m, pad_ends(m, x, g.n, g.lo, hi, lowest(t)), 2, &g);
    uint32_t mask = last_axes(2 * g.n + 2, g.n);
    if (!indices)
        return b_reduce1(&m->b, R_MAX, in[0], mask, false);
    Scalar none = {.t = DT_I64, .i = -1};
    in[1] = geo_windows(m, pad_ends(m, positions(m, x, &g), g.n, g.lo, hi, none), 2, &g);
    /* the first greatest element of a row-major walk in either order of storage; padding (position -1) never wins over an element */
    Expr av = xarg(m, 0, t), ai = xarg(m, 1, DT_I64), bv = xarg(m, 2, t), bi = xarg(m, 3, DT_I64);
    Expr better = X2(AND, X2(GE, bi, XI(0)), X2(OR, X2(GT, bv, av), X2(LT, ai, XI(0))));
    Expr earlier = X2(AND, X2(AND, X2(EQ, bv, av), X2(LT, bi, ai)), X2(GE, bi, XI(0)));
    Expr take = X2(OR, better, earlier);
    Expr comb[2] = {X3(SELECT, take, bv, av), X3(SELECT, take, bi, ai)};
    b_reduce(&m->b, 2, in, mask, false, comb, (Scalar[]){lowest(t), none}, (DType[]){t, DT_I64}, out);
    bool columns = row_has_attr(m->row, "storage_order") && attr_i(m, "storage_order");
    *indices = columns ? by_columns(m, out[1], x, &g) : out[1];
    return out[0];
}

void imp_maxpool(Imp *m)
{
    Val indices = {0};
    result(m, 0, max_pool(m, m->in[0], wanted(m, 1) ? &indices : NULL));
    result(m, 1, indices);
}

/* Elements of the image (or of the image and its declared padding) under the window at output coordinate `o`. */
static Expr covered(Imp *m, const Geo *g, int i, bool padding)
{
    Expr s = X2(SUB, X2(MUL, xaxis(m, 2 + i), XI(g->stride[i])), xdim(m, g->lo[i]));
    Expr from = padding ? X2(SUB, XI(0), xdim(m, g->lo[i])) : XI(0);
    Expr to = padding ? X2(ADD, xdim(m, g->in[i]), xdim(m, g->hi[i])) : xdim(m, g->in[i]);
    Expr d = XI(g->dil[i]), last = X2(SUB, xdim(m, g->size[i]), XI(1));
    /* taps q with from <= s + q*d < to */
    Expr q0 = X2(MAX, XI(0), X2(SUB, XI(0), X2(FDIV, X2(SUB, s, from), d)));
    Expr q1 = X2(MIN, last, X2(FDIV, X2(SUB, X2(SUB, to, XI(1)), s), d));
    return X2(ADD, X2(SUB, q1, q0), XI(1));
}

Val average_pool(Imp *m, Val x)
{
    DType t = dtype_of(m, x), acc = wide_type(t);
    Geo g;
    Dim hi[SPATIAL] = {{0}};
    if (!geo_read(m, x, NULL, &g))
        return (Val){0};
    bool include = row_has_attr(m->row, "count_include_pad") && attr_i(m, "count_include_pad"), full = true;
    for (int i = 0; i < g.n; i++)
        full &= dim_is(m->c, g.extra[i], 0) &&
                (include || (dim_is(m->c, g.lo[i], 0) && dim_is(m->c, g.hi[i], 0)));
    ends(m, &g, hi);
    Scalar zero = dt_convert((Scalar){.t = DT_I64, .i = 0}, acc);
    Val w = geo_windows(m, pad_ends(m, cast_to(m, x, acc), g.n, g.lo, hi, zero), 2, &g);
    Val sum = b_reduce1(&m->b, R_SUM, w, last_axes(2 * g.n + 2, g.n), false);
    if (!sum.i)
        return sum;
    Dim d[MAX_RANK];
    dims_of(m, sum, d);
    Expr e = xarg(m, 0, acc);
    int64_t taps = 1, k;
    for (int i = 0; i < g.n && dim_is_const(m->c, g.size[i], &k); i++)
        taps *= k;
    if (full) {
        e = X2(DIV, e, xf(m, acc, (double)taps));
    } else {
        Expr count = covered(m, &g, 0, include);
        for (int i = 1; i < g.n; i++)
            count = X2(MUL, count, covered(m, &g, i, include));
        e = X2(DIV, e, expr_cast(m->c, count, acc));
    }
    return map_over(m, expr_cast(m->c, e, t), 1, &sum, g.n + 2, d);
}

void imp_averagepool(Imp *m)
{
    result(m, 0, average_pool(m, m->in[0]));
}

/* (sum |x|^p)^(1/p) over `mask` of v */
static Val norm_over(Imp *m, Val v, uint32_t mask, bool keep, DType t)
{
    const SrcAttr *a = attr_find(m, "p");
    double p = a && a->p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT ? attr_f(m, "p")
             : a ? (double)attr_i(m, "p") : 2;
    if (!(p > 0)) {
        ERR(m, "E0202", "attribute p: expected a positive number, got %g", p);
        return (Val){0};
    }
    const char *before = p == 1 ? "abs(a)" : p == 2 ? "a * a" : ctx_printf(m->c, "pow(abs(a), %.9g)", p);
    const char *after = p == 2 ? "sqrt(a)" : ctx_printf(m->c, "pow(a, %.17g)", 1 / p);
    Val s = b_reduce1(&m->b, R_SUM, map_text(m, before, 1, &v), mask, keep);
    return cast_to(m, p == 1 ? s : map_text(m, after, 1, &s), t);
}

void imp_lppool(Imp *m)
{
    Val x = m->in[0];
    DType t = dtype_of(m, x), acc = wide_type(t);
    Geo g;
    Dim hi[SPATIAL] = {{0}};
    if (!geo_read(m, x, NULL, &g))
        return;
    ends(m, &g, hi);
    Scalar zero = dt_convert((Scalar){.t = DT_I64, .i = 0}, acc);
    Val w = geo_windows(m, pad_ends(m, cast_to(m, x, acc), g.n, g.lo, hi, zero), 2, &g);
    result(m, 0, norm_over(m, w, last_axes(2 * g.n + 2, g.n), false, t));
}

void imp_globalpool(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x);
    DType t = dtype_of(m, x);
    if (r < 2) {
        ERR(m, "E0203", "expected rank 2 or more, got %d", r);
        return;
    }
    uint32_t mask = last_axes(r, r - 2);
    if (m->row->arg == 0)
        result(m, 0, b_mean(&m->b, x, mask, true));
    else if (m->row->arg == 1)
        result(m, 0, b_reduce1(&m->b, R_MAX, x, mask, true));
    else
        result(m, 0, norm_over(m, cast_to(m, x, wide_type(t)), mask, true, t));
}
