/* op_norm.c: normalisation layers, written as exporters write them out (mean, difference, mean of squares, division by
 * the root), so that one pass recognises both spellings. Statistics are computed in the stash type (at least f32). */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(batchnorm); FN(layernorm); FN(rmsnorm); FN(instancenorm); FN(groupnorm); FN(mvn); FN(lpnorm); FN(lrn);

static uint32_t axes_from(int first, int rank)
{
    return (uint32_t)(((1ull << rank) - 1) & ~((1ull << first) - 1));
}

/* sqrt(v + epsilon) */
static Val deviation(Imp *m, Val var)
{
    return var.i ? map_text(m, "sqrt(a + $epsilon)", 1, &var) : var;
}

Stats stats(Imp *m, Val x, uint32_t mask)
{
    Stats s;
    s.mean = b_mean(&m->b, x, mask, true);
    s.centred = b_binary(&m->b, S_SUB, x, s.mean);
    s.dev = deviation(m, b_mean(&m->b, map_text(m, "a * a", 1, &s.centred), mask, true));
    return s;
}

Val affine(Imp *m, Val v, Val scale, Val bias)
{
    DType t = v.i ? dtype_of(m, v) : DT_F32;
    if (scale.i)
        v = b_binary(&m->b, S_MUL, v, cast_to(m, scale, t));
    return bias.i ? b_binary(&m->b, S_ADD, v, cast_to(m, bias, t)) : v;
}

/* The type of statistics for x: the attribute's, else f32 for narrow floats. */
static DType stash(Imp *m, DType t)
{
    if (!row_has_attr(m->row, "stash_type"))
        return wide_type(t);
    DType s = attr_dtype(m, "stash_type", DT_F32);
    return !s || dt_bits(s) < 32 || !dt_is_float(s) ? wide_type(t) : t == DT_F64 ? DT_F64 : s;
}

/* A parameter of batch normalisation against x: per channel, or per position of one element of the batch. */
static Val per_channel(Imp *m, Val v, int r, bool spatial)
{
    return spatial ? along(m, v, r, r > 1 ? 1 : 0) : insert_axes(m, v, r, 1);
}

/* statistics of the batch; running = running*momentum + batch*(1 - momentum); p: scale, bias, running mean and variance */
static void batchnorm_training(Imp *m, Val x, const Val *p, bool spatial)
{
    int r = rank_of(m, x);
    DType t = dtype_of(m, x);
    uint32_t mask = spatial ? axes_from(0, r) & ~(r > 1 ? 2u : 1u) : 1;
    Val wide = cast_to(m, x, wide_type(t)), mean = b_mean(&m->b, wide, mask, true), d = b_binary(&m->b, S_SUB, wide, mean);
    Val var = b_mean(&m->b, map_text(m, "a * a", 1, &d), mask, true);
    Val y = b_binary(&m->b, S_DIV, d, deviation(m, var));
    result(m, 0, cast_to(m, affine(m, y, per_channel(m, p[0], r, spatial), per_channel(m, p[1], r, spatial)), t));
    for (uint32_t i = 0; i < 4; i++) {
        Val batch = drop_axes(m, i % 2 ? var : mean, mask), both[2] = {p[2 + i % 2], batch};
        if (wanted(m, 1 + i)) /* the last two: as they are */
            result(m, 1 + i, cast_to(m, i < 2 ? map_text(m, "a * $momentum + b * (1 - $momentum)", 2, both) : batch, dtype_of(m, m->in[3 + i % 2])));
    }
}

/* inference: x*a + b with a = scale/sqrt(var + eps), b = bias - mean*a, per channel. Before version 14 it is training if there are
 * more results than one. */
void imp_batchnorm(Imp *m)
{
    Val x = m->in[0], p[4];
    int r = rank_of(m, x), ch = r > 1 ? 1 : 0;
    uint32_t errors = ctx_errors(m->c);
    DType t = dtype_of(m, x), w = wide_type(t);
    bool spatial = !row_has_attr(m->row, "spatial") || attr_i(m, "spatial");
    bool training = row_has_attr(m->row, "training_mode") && attr_i(m, "training_mode");
    for (uint32_t i = 1; i < m->n->nout && m->row->since < 14; i++)
        training |= wanted(m, i);
    if (!r) {
        ERR(m, "E0203", "expected rank 1 or more, got a scalar");
        return;
    }
    for (int i = 0; i < 4; i++) {
        p[i] = cast_to(m, m->in[1 + i], w);
        if (rank_of(m, p[i]) != (spatial ? 1 : r - 1)) {
            ERR(m, "E0203", "operand %d: expected rank %d, got %d", 1 + i, spatial ? 1 : r - 1, rank_of(m, p[i]));
            return;
        }
        for (int d = 0; d < rank_of(m, p[i]); d++)
            b_guard(&m->b, G_EQ, dim_of(m, p[i], d), dim_of(m, x, spatial ? ch : 1 + d), "operand %d must have one element per channel", 1 + i);
    }
    if (ctx_errors(m->c) != errors)
        return;
    if (training) {
        batchnorm_training(m, x, p, spatial);
        return;
    }
    Val a = b_binary(&m->b, S_DIV, p[0], deviation(m, p[3]));
    Val b = b_binary(&m->b, S_SUB, p[1], b_binary(&m->b, S_MUL, p[2], a));
    result(m, 0, cast_to(m, affine(m, cast_to(m, x, w), per_channel(m, a, r, spatial), per_channel(m, b, r, spatial)), t));
    for (uint32_t i = 0; i < 2; i++)
        if (wanted(m, 1 + i)) /* unchanged outside of training */
            result(m, 1 + i, m->in[3 + i]);
}

/* (x - mean) / sqrt(var + eps) * scale + bias over the axes from `axis` on */
void imp_layernorm(Imp *m)
{
    Val x = m->in[0];
    int axis, r = rank_of(m, x);
    DType t = dtype_of(m, x), w = stash(m, t);
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    Stats s = stats(m, cast_to(m, x, w), axes_from(axis, r));
    Val n = cast_to(m, b_binary(&m->b, S_DIV, s.centred, s.dev), t);
    result(m, 0, affine(m, n, m->in[1], operand(m, 2)));
    result(m, 1, s.mean);
    if (wanted(m, 2))
        result(m, 2, b_unary(&m->b, S_RECIP, s.dev));
}

Val root_mean_square(Imp *m, Val x, uint32_t mask)
{
    return deviation(m, b_mean(&m->b, map_text(m, "a * a", 1, &x), mask, true));
}

/* x / sqrt(mean(x^2) + eps) * scale */
void imp_rmsnorm(Imp *m)
{
    Val x = m->in[0];
    int axis, r = rank_of(m, x);
    DType t = dtype_of(m, x);
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    Val w = cast_to(m, x, stash(m, t));
    Val dev = root_mean_square(m, w, axes_from(axis, r));
    Val n = cast_to(m, b_binary(&m->b, S_DIV, w, dev), t);
    if (wanted(m, 1))
        result(m, 1, b_unary(&m->b, S_RECIP, dev));
    result(m, 0, cast_to(m, affine(m, n, cast_to(m, m->in[1], t), (Val){0}), dtype_of(m, m->in[1])));
}

void imp_instancenorm(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x);
    DType t = dtype_of(m, x), w = wide_type(t);
    if (r < 3) {
        ERR(m, "E0203", "expected rank 3 or more, got %d", r);
        return;
    }
    Stats s = stats(m, cast_to(m, x, w), axes_from(2, r));
    Val n = b_binary(&m->b, S_DIV, s.centred, s.dev);
    result(m, 0, cast_to(m, affine(m, n, along(m, m->in[1], r, 1), along(m, m->in[2], r, 1)), t));
}

/* [N, G, C/G, ..]: statistics per group; scale and bias per group (18) or per channel (21) */
void imp_groupnorm(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x);
    int64_t g = attr_i(m, "num_groups");
    DType t = dtype_of(m, x), w = stash(m, t);
    Dim d[MAX_RANK], gd[MAX_RANK];
    if (r < 3 || g < 1 || r >= MAX_RANK) {
        ERR(m, g < 1 ? "E0202" : "E0203", g < 1 ? "attribute num_groups: expected a positive number, got %lld"
                                               : "expected rank 3 or more, got %lld", (long long)(g < 1 ? g : r));
        return;
    }
    dims_of(m, x, d);
    b_guard(&m->b, G_EQ, dim_mod(m->c, d[1], DC(m, g)), DC(m, 0), "the channels must be divisible by num_groups=%lld",
            (long long)g);
    gd[0] = d[0];
    gd[1] = DC(m, g);
    gd[2] = dim_floordiv(m->c, d[1], DC(m, g));
    memcpy(gd + 3, d + 2, sizeof *d * (size_t)(r - 2));
    Stats s = stats(m, reshape_to(m, cast_to(m, x, w), r + 1, gd), axes_from(2, r + 1));
    Val n = b_binary(&m->b, S_DIV, s.centred, s.dev);
    if (m->row->arg == 0) {
        n = affine(m, n, along(m, m->in[1], r + 1, 1), along(m, m->in[2], r + 1, 1));
        result(m, 0, cast_to(m, reshape_to(m, n, r, d), t));
        return;
    }
    n = cast_to(m, reshape_to(m, n, r, d), t);
    result(m, 0, affine(m, n, along(m, m->in[1], r, 1), along(m, m->in[2], r, 1)));
}

/* (x - E[x]) / (sqrt(E[x^2] - E[x]^2) + 1e-9) */
void imp_mvn(Imp *m)
{
    Val x = m->in[0];
    int n, r = rank_of(m, x);
    const int64_t *axes = attr_ints(m, "axes", &n);
    uint32_t mask;
    DType t = dtype_of(m, x);
    if (!axes_ok(m, axes, n, r, &mask))
        return;
    Val w = cast_to(m, x, wide_type(t));
    Val mean = b_mean(&m->b, w, mask, true), d = b_binary(&m->b, S_SUB, w, mean);
    Val var = b_mean(&m->b, map_text(m, "a * a", 1, &d), mask, true);
    result(m, 0, cast_to(m, map_text(m, "a / (sqrt(b) + 1e-09)", 2, (Val[]){d, var}), t));
}

/* x / |x|_p along an axis; 0 where the norm is 0 */
void imp_lpnorm(Imp *m)
{
    Val x = m->in[0];
    int axis;
    int64_t p = attr_i(m, "p");
    DType t = dtype_of(m, x);
    if (p != 1 && p != 2) {
        ERR(m, "E0202", "attribute p: expected 1 or 2, got %lld", (long long)p);
        return;
    }
    if (!axis_ok(m, attr_i(m, "axis"), rank_of(m, x), &axis))
        return;
    Val w = cast_to(m, x, wide_type(t));
    Val s = b_reduce1(&m->b, R_SUM, map_text(m, p == 1 ? "abs(a)" : "a * a", 1, &w), 1u << axis, true);
    if (p == 2)
        s = map_text(m, "sqrt(a)", 1, &s);
    result(m, 0, cast_to(m, map_text(m, "select(b == 0, 0, a / b)", 2, (Val[]){w, s}), t));
}

/* x / (bias + alpha/size * sum over `size` neighbouring channels of x^2)^beta */
void imp_lrn(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x);
    int64_t size = attr_i(m, "size");
    DType t = dtype_of(m, x), w = wide_type(t);
    if (r < 2 || r >= MAX_RANK || size < 1 || size > INT32_MAX) {
        ERR(m, r < 2 ? "E0203" : "E0202", "expected rank 2 or more and a positive size, got rank %d and size %lld", r,
            (long long)size);
        return;
    }
    Dim lo[MAX_RANK], hi[MAX_RANK];
    for (int i = 0; i < r; i++)
        lo[i] = hi[i] = DC(m, 0);
    lo[1] = DC(m, (size - 1) / 2);
    hi[1] = DC(m, size - 1 - (size - 1) / 2);
    Val wide = cast_to(m, x, w), sq = map_text(m, "a * a", 1, &wide);
    Scalar zero = dt_convert((Scalar){.t = DT_I64, .i = 0}, w);
    WindowAttr win = {.n = 1, .axis = {1}, .size = {DC(m, size)}, .stride = {1}, .dilation = {1}};
    Val v = b_window(&m->b, b_pad(&m->b, sq, lo, hi, NULL, PAD_VALUE, zero, (Val){0}), &win);
    Val s = b_reduce1(&m->b, R_SUM, v, 1u << r, false);
    const char *f = ctx_printf(m->c, "a / pow($bias + b * %.17g, $beta)", attr_f(m, "alpha") / (double)size);
    result(m, 0, cast_to(m, map_text(m, f, 2, (Val[]){wide, s}), t));
}
