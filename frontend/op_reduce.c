/* op_reduce.c: reductions over axes, softmax and cumulative operators. Axes may be an attribute, a constant operand, or
 * a run-time operand; the last is lowered by splitting every axis into a kept and a reduced one, of which one is 1. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

void imp_reduce(Imp *m);
#define FN(f) void imp_##f(Imp *m)
FN(argminmax); FN(cumulate); FN(softmax); FN(softmax_flat);

/* What each does around its combiner: before(x), reduce, after(r). */
typedef enum { SUM, MEAN, MAX, MIN, PROD, L1, L2, LOGSUM, LOGSUMEXP, SUMSQUARE } Red;
static const struct { const char *name; ReduceOp op; const char *before, *after; bool flt; } reds[] = {
    [SUM] = {"SUM", R_SUM, NULL, NULL, false},
    [MEAN] = {"MEAN", R_SUM, NULL, NULL, false},
    [MAX] = {"MAX", R_MAX, NULL, NULL, false},
    [MIN] = {"MIN", R_MIN, NULL, NULL, false},
    [PROD] = {"PROD", R_PROD, NULL, NULL, false},
    [L1] = {"L1", R_SUM, "abs(a)", NULL, false},
    [L2] = {"L2", R_SUM, "a * a", "sqrt(a)", true},
    [LOGSUM] = {"LOGSUM", R_SUM, NULL, "log(a)", true},
    [LOGSUMEXP] = {"LOGSUMEXP", R_SUM, NULL, NULL, true},
    [SUMSQUARE] = {"SUMSQUARE", R_SUM, "a * a", NULL, false},
};

/* x with each axis i as two: kept (select(flag, 1, d)) in front, reduced (select(flag, d, 1)) behind. */
static Val split_axes(Imp *m, Val x, const Dim *flag, Dim *kept)
{
    int r = rank_of(m, x);
    Dim d[MAX_RANK], dom[MAX_RANK];
    Expr idx[MAX_RANK];
    dims_of(m, x, d);
    for (int i = 0; i < r; i++) {
        kept[i] = dom[i] = dim_select(m->c, flag[i], DC(m, 1), d[i]);
        dom[r + i] = dim_select(m->c, flag[i], d[i], DC(m, 1));
        idx[i] = X2(ADD, xaxis(m, i), xaxis(m, r + i));
    }
    return map_over(m, load_at(m, 0, dtype_of(m, x), r, idx), 1, &x, 2 * r, dom);
}

/* The reduction proper, of x over mask. count: elements reduced, for the mean. */
static Val reduce(Imp *m, Red k, Val x, uint32_t mask, bool keep, Dim count)
{
    DType t = dtype_of(m, x), w = reds[k].flt && !dt_is_float(t) ? DT_F64 : t;
    bool steps = reds[k].before || reds[k].after || k == LOGSUMEXP; /* round once, at the end */
    Val v = cast_to(m, x, steps ? wide_type(w) : w);
    if (t == DT_BOOL)
        return b_reduce1(&m->b, k == MAX ? R_OR : R_AND, x, mask, keep);
    if (k == LOGSUMEXP) {
        /* top + log(sum(exp(x - top))), top 0 where it is infinite */
        Val top = b_reduce1(&m->b, R_MAX, v, mask, true);
        top = map_text(m, "select(isinf(a), 0, a)", 1, &top);
        Val e = map_text(m, "exp(a - b)", 2, (Val[]){v, top});
        Val s = map_text(m, "log(a) + b", 2, (Val[]){b_reduce1(&m->b, R_SUM, e, mask, true), top});
        return cast_to(m, keep ? s : drop_axes(m, s, mask), t);
    }
    if (k == MEAN && dt_is_float(t))
        return b_mean(&m->b, x, mask, keep);
    if (reds[k].before)
        v = map_text(m, reds[k].before, 1, &v);
    v = b_reduce1(&m->b, reds[k].op, v, mask, keep);
    if (k == MEAN) {
        Expr n = expr_cast(m->c, xdim(m, count), t);
        v = b_map1(&m->b, X2(DIV, xarg(m, 0, t), n), 1, &v);
    }
    if (reds[k].after)
        v = map_text(m, reds[k].after, 1, &v);
    return cast_to(m, v, t);
}

static Dim masked_count(Imp *m, Val x, uint32_t mask)
{
    Dim n = DC(m, 1);
    for (int i = 0; i < rank_of(m, x); i++)
        if (mask >> i & 1)
            n = dim_mul(m->c, n, dim_of(m, x, i));
    return n;
}

static void reduce_runtime(Imp *m, Red k, Val x, bool keep, bool noop)
{
    int r = rank_of(m, x), n = length_of(m, m->in[1]), out = r;
    if (2 * r > MAX_RANK) {
        UNSUP(m, "axes known only at run time for rank %d (at most %d)", r, MAX_RANK / 2);
        return;
    }
    Dim flag[MAX_RANK], d[MAX_RANK], kept[MAX_RANK];
    if (!runtime_axes(m, m->in[1], r, !noop, flag))
        return;
    if (!keep) {
        int hint = hint_rank(m, 0);
        out = n > 0 ? r - n : hint;
        if (out < 0 || out > r) {
            UNSUP(m, "the number of axes, and so the rank of the result, is known only at run time" DECLARE_IT);
            return;
        }
    }
    dims_of(m, x, d);
    Dim count = DC(m, 1);
    for (int i = 0; i < r; i++)
        count = dim_mul(m->c, count, dim_select(m->c, flag[i], d[i], DC(m, 1)));
    Val s = split_axes(m, x, flag, kept);
    uint32_t mask = ((1u << r) - 1) << r;
    Val v = reduce(m, k, s, mask, false, count);
    if (!keep) {
        Dim od[MAX_RANK];
        for (int i = 0; i < out; i++)
            od[i] = kept_dim(m, d, flag, r, i);
        v = reshape_to(m, v, out, od);
    }
    result(m, 0, v);
}

/* axes absent: all, or none if noop_with_empty_axes; the elementwise parts are done in any case */
void imp_reduce(Imp *m)
{
    Red k = SUM;
    while (strcmp(reds[k].name, m->row->text))
        k++;
    Val x = m->in[0];
    int r = rank_of(m, x), n = 0;
    bool keep = attr_i(m, "keepdims") != 0;
    bool noop = row_has_attr(m->row, "noop_with_empty_axes") && attr_i(m, "noop_with_empty_axes");
    int64_t value[SHAPE_MAX];
    const int64_t *axes = row_has_attr(m->row, "axes") ? attr_ints(m, "axes", &n) : NULL;
    if (present(m, 1)) {
        if (length_of(m, m->in[1]) && !const_ints(m, m->in[1], value, SHAPE_MAX, &n)) {
            reduce_runtime(m, k, x, keep, noop);
            return;
        }
        axes = value;
    }
    uint32_t mask;
    if (!axes_ok(m, axes, n, r, &mask))
        return;
    if (!n && !noop)
        mask = (uint32_t)((1ull << r) - 1);
    result(m, 0, reduce(m, k, x, mask, keep, masked_count(m, x, mask)));
}

void imp_argminmax(Imp *m)
{
    int axis;
    if (axis_ok(m, attr_i(m, "axis"), rank_of(m, m->in[0]), &axis))
        result(m, 0, b_argminmax(&m->b, m->in[0], axis, attr_i(m, "keepdims") != 0, m->row->arg == 1,
                                 attr_i(m, "select_last_index") != 0));
}

/* ---- softmax and its relatives */

static Val softmax(Imp *m, int kind, Val x, uint32_t mask)
{
    DType t = dtype_of(m, x);
    if (kind == 0)
        return b_softmax(&m->b, x, mask);
    if (kind == 1) {
        /* d - log(sum(exp(d))), d = x - max(x) */
        Val w = cast_to(m, x, wide_type(t));
        Val d = b_binary(&m->b, S_SUB, w, b_reduce1(&m->b, R_MAX, w, mask, true));
        Val s = b_reduce1(&m->b, R_SUM, b_unary(&m->b, S_EXP, d), mask, true);
        return cast_to(m, map_text(m, "a - log(b)", 2, (Val[]){d, s}), t);
    }
    return (Val){0};
}

/* 1 at the first greatest element along the last axis of [outer, n], else 0 */
static Val hardmax(Imp *m, Val x)
{
    DType t = dtype_of(m, x);
    Dim d[2];
    dims_of(m, x, d);
    Val top = b_argminmax(&m->b, x, 1, true, true, false);
    Expr hit = X2(EQ, xarg(m, 0, DT_I64), xaxis(m, 1));
    return map_over(m, X3(SELECT, hit, xf(m, t, 1), xf(m, t, 0)), 1, &top, 2, d);
}

void imp_softmax(Imp *m)
{
    Val x = m->in[0];
    int axis, r = rank_of(m, x), perm[MAX_RANK];
    if (!r && m->row->arg != 2) {
        result(m, 0, softmax(m, m->row->arg, x, 0));
        return;
    }
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    if (m->row->arg != 2) {
        result(m, 0, softmax(m, m->row->arg, x, 1u << axis));
        return;
    }
    Dim d[MAX_RANK];
    for (int i = 0; i < r; i++)
        perm[i] = i == r - 1 ? axis : i >= axis ? i + 1 : i;
    Val p = b_permute(&m->b, x, perm);
    dims_of(m, p, d);
    Val flat = reshape_to(m, p, 2, (Dim[]){count_of(m, d, r - 1), d[r - 1]});
    Val y = reshape_to(m, hardmax(m, flat), r, d);
    for (int i = 0; i < r; i++)
        perm[i] = i == axis ? r - 1 : i > axis ? i - 1 : i;
    result(m, 0, b_permute(&m->b, y, perm));
}

/* Before version 13: the operand is taken as a matrix, all axes from `axis` on together. */
void imp_softmax_flat(Imp *m)
{
    Val x = m->in[0];
    int64_t a = attr_i(m, "axis");
    int axis = 0, r = rank_of(m, x);
    if (a != r && !axis_ok(m, a, r, &axis))
        return;
    axis = a == r ? r : axis;
    uint32_t mask = 0;
    for (int i = axis; i < r; i++)
        mask |= 1u << i;
    if (m->row->arg != 2) {
        result(m, 0, softmax(m, m->row->arg, x, mask));
        return;
    }
    Dim d[MAX_RANK];
    dims_of(m, x, d);
    Val flat = reshape_to(m, x, 2, (Dim[]){count_of(m, d, axis), count_of(m, d + axis, r - axis)});
    result(m, 0, reshape_to(m, hardmax(m, flat), r, d));
}

/* ---- running sums and products */

static Val cumulate(Imp *m, Val x, int axis)
{
    DType t = dtype_of(m, x), acc = wide_type(t);
    SOp op = (SOp)m->row->arg;
    Expr comb = expr_op(m->c, op, xarg(m, 0, acc), xarg(m, 1, acc), (Expr){0});
    Scalar init = expr_info(m->c, expr_float(m->c, acc, op == S_MUL))->val;
    Val y;
    b_scan(&m->b, 1, &x, axis, attr_i(m, "reverse") != 0, attr_i(m, "exclusive") != 0, &comb, &init, &acc, &y);
    return y;
}

/* axis at run time: [outer, n, inner] with extents selected by it */
void imp_cumulate(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x), n, axis;
    int64_t v[2];
    if (const_ints(m, m->in[1], v, 1, &n) && n == 1) {
        if (axis_ok(m, v[0], r, &axis))
            result(m, 0, cumulate(m, x, axis));
        return;
    }
    Dim a, d[MAX_RANK], three[3] = {DC(m, 1), DC(m, 1), DC(m, 1)};
    if (!operand_dim(m, m->in[1], "axis", -r, r - 1, &a))
        return;
    a = dim_select(m->c, dim_lt(m->c, a, DC(m, 0)), dim_addi(m->c, a, r), a);
    dims_of(m, x, d);
    for (int i = 0; i < r; i++) {
        Dim here = dim_eqv(m->c, a, DC(m, i)), before = dim_lt(m->c, DC(m, i), a);
        Dim after = dim_lt(m->c, a, DC(m, i)), one = DC(m, 1);
        three[0] = dim_mul(m->c, three[0], dim_select(m->c, before, d[i], one));
        three[1] = dim_mul(m->c, three[1], dim_select(m->c, here, d[i], one));
        three[2] = dim_mul(m->c, three[2], dim_select(m->c, after, d[i], one));
    }
    result(m, 0, reshape_to(m, cumulate(m, reshape_to(m, x, 3, three), 1), r, d));
}
