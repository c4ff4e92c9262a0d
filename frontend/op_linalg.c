/* op_linalg.c: determinants, by elimination with partial pivoting: a loop over columns that carries all matrices of a batch. */
#include "frontend/import.h"
#include <math.h>

#define FN(f) void imp_##f(Imp *m)
FN(det);

/* One column k: the row of the greatest |a[i,k]|, i >= k, comes to k; multiples of it are taken from the rows below. */
static void eliminate(Imp *m, Val k, Val a, Val det, Dim batch, Dim n, DType w, Val *next, Val *det_next)
{
    Dim d[3] = {batch, n, n};
    Expr b = xaxis(m, 0), row = xaxis(m, 1), col = xaxis(m, 2), kk = xarg(m, 1, DT_I64), one = xf(m, w, 1), none = xf(m, w, 0);
    Expr size = X1(ABS, load_at(m, 0, w, 3, (Expr[]){b, row, kk}));
    size = X3(SELECT, X1(ISNAN, size), xf(m, w, INFINITY), size); /* a pivot, which the result then is as well */
    Val column = map_over(m, X3(SELECT, X2(GE, row, kk), size, xf(m, w, -1)), 2, (Val[]){a, k}, 2, d);
    Val best = b_argminmax(&m->b, column, 1, false, true, false);
    Val in[4] = {a, k, best, det};
    Expr p = load_at(m, 2, DT_I64, 1, &b), pivot = load_at(m, 0, w, 3, (Expr[]){b, p, kk});
    Expr from = X3(SELECT, X2(EQ, row, kk), p, X3(SELECT, X2(EQ, row, p), kk, row)); /* rows exchanged */
    Expr x = load_at(m, 0, w, 3, (Expr[]){b, from, col}), lead = load_at(m, 0, w, 3, (Expr[]){b, from, kk});
    Expr factor = X3(SELECT, X2(EQ, pivot, none), none, X2(DIV, lead, pivot));
    Expr less = X2(SUB, x, X2(MUL, factor, load_at(m, 0, w, 3, (Expr[]){b, p, col})));
    *next = map_over(m, X3(SELECT, X2(GT, row, kk), less, x), 3, in, 3, d);
    Expr sign = X3(SELECT, X2(EQ, p, kk), one, X1(NEG, one));
    *det_next = map_over(m, X2(MUL, X2(MUL, sign, pivot), load_at(m, 3, w, 1, &b)), 4, in, 1, &batch);
}

/* [.., n, n] -> [..] */
void imp_det(Imp *m)
{
    Val x = m->in[0], out[2];
    int r = rank_of(m, x);
    DType t = dtype_of(m, x), w = wide_type(t);
    Dim d[MAX_RANK];
    if (r < 2) {
        ERR(m, "E0203", "expected rank 2 or more, got %d", r);
        return;
    }
    dims_of(m, x, d);
    b_guard(&m->b, G_EQ, d[r - 1], d[r - 2], "the matrices are not square");
    Dim n = d[r - 1], batch = count_of(m, d, r - 2);
    Val a = reshape_to(m, cast_to(m, x, w), 3, (Dim[]){batch, n, n});
    Val det = b_splat(&m->b, dt_convert((Scalar){.t = DT_I64, .i = 1}, w), 1, &batch);
    Imp inner;
    region_open(&inner, m, NEW(m->c, SrcGraph));
    Graph *g = inner.b.g;
    Val k = graph_input(g, "iter", type_tensor(m->c, DT_I64, 0, NULL)), go = graph_input(g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    Val ia = graph_input(g, "a", *val_type(m->b.g, a)), id = graph_input(g, "det", *val_type(m->b.g, det));
    eliminate(&inner, k, ia, id, batch, n, w, &out[0], &out[1]);
    graph_output(g, "cond", go);
    graph_output(g, "a", out[0]);
    graph_output(g, "det", out[1]);
    b_loop(&m->b, g, 2, 0, 4, (Val[]){b_dim_scalar(&m->b, n), {0}, a, det}, out);
    result(m, 0, cast_to(m, reshape_to(m, out[1], r - 2, d), t));
}
