/* op_ms_misc.c: operators of com.microsoft that move, pick or hash elements, and old names of ai.onnx that were operators before
 * the standard had others for them. */
#include "frontend/import.h"
#include <float.h>
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(ms_expanddims); FN(ms_gathernd); FN(ms_pad); FN(ms_range); FN(unfold); FN(cdist); FN(inverse); FN(cropandresize); FN(convtranspose_pads);
FN(murmurhash); FN(ngramrepeat); FN(imagescaler); FN(crop);
FN(premix); FN(postmix); FN(complexmul); FN(maxpoolmask);
void imp_pad(Imp *m);
void imp_gathernd(Imp *m);
void imp_range(Imp *m);
void imp_convtranspose(Imp *m);
void imp_unsqueeze(Imp *m);

/* ---- the standard's operators with looser operands */

void imp_ms_expanddims(Imp *m)
{
    m->in[1] = only_element(m, m->in[1]);
    if (m->in[1].i)
        imp_unsqueeze(m);
}

void imp_ms_gathernd(Imp *m)
{
    m->in[1] = cast_to(m, m->in[1], DT_I64);
    imp_gathernd(m);
}

/* pads may be [1, 2 * rank] */
void imp_ms_pad(Imp *m)
{
    const Type t = *val_type(m->b.g, m->in[1]);
    Dim n = type_count(m->c, &t);
    m->in[1] = reshape_to(m, m->in[1], 1, &n);
    imp_pad(m);
}

void imp_ms_range(Imp *m)
{
    if (!present(m, 2))
        m->in[2] = scalar_of(m, dtype_of(m, m->in[0]), 1);
    imp_range(m);
}

/* The padding comes at run time: the whole result, and a part of it. */
void imp_convtranspose_pads(Imp *m)
{
    Val pads = operand(m, 2);
    Dim p[SHAPE_MAX];
    int n = 0;
    m->in[2] = operand(m, 3); /* where imp_convtranspose has its bias */
    imp_convtranspose(m);
    Val y = m->out[0];
    if (!y.i || !pads.i)
        return;
    int r = rank_of(m, y) - 2;
    if (!operand_dims(m, pads, "pad", 0, DIM_INF, 2 * r, p, &n))
        return;
    if (n != 2 * r) {
        ERR(m, "E0203", "Pads: expected %d elements, got %d", 2 * r, n);
        return;
    }
    for (int i = 0; i < r; i++) {
        Dim size = dim_of(m, y, 2 + i), cut = dim_add(m->c, p[i], p[r + i]);
        b_guard(&m->b, G_LE, cut, size, "the padding is larger than the image along axis %d", i);
        y = b_slice_axis(&m->b, y, 2 + i, p[i], dim_sub(m->c, size, cut));
    }
    m->out[0] = y;
}

/* Along the kernel's last axis a window ends at the first masked element, but for the image's first one in two and three dimensions. Channel c of
 * all has its mask at the element that ONNX Runtime has it at: c times the image's size modulo the mask's channels. */
void imp_maxpoolmask(Imp *m)
{
    Val x = m->in[0], mask = m->in[1];
    int r = rank_of(m, x);
    Dim d[MAX_RANK], md[MAX_RANK], size = DC(m, 1);
    Expr pixel = XI(0), and = X2(AND, xarg(m, 0, DT_BOOL), xarg(m, 1, DT_BOOL));
    DType bt = DT_BOOL, mt = dtype_of(m, mask);
    if (r < 3 || r > 5 || rank_of(m, mask) != r) {
        ERR(m, "E0203", "expected X of rank 3 to 5 and a mask of that rank, got %d and %d", r, rank_of(m, mask));
        return;
    }
    dims_of(m, x, d);
    dims_of(m, mask, md);
    for (int i = 2; i < r; i++) {
        b_guard(&m->b, G_EQ, d[i], md[i], "the mask has another size along axis %d", i);
        pixel = X2(ADD, X2(MUL, pixel, xdim(m, d[i])), xaxis(m, i));
        size = dim_mul(m->c, size, d[i]);
    }
    Dim channels = dim_mul(m->c, md[0], md[1]), all = dim_mul(m->c, channels, size);
    b_guard(&m->b, G_LE, DC(m, 1), channels, "the mask has no channels");
    Expr channel = X2(MUL, X2(ADD, X2(MUL, xaxis(m, 0), xdim(m, d[1])), xaxis(m, 1)), xdim(m, size));
    Expr at = X2(ADD, X2(MOD, channel, xdim(m, channels)), pixel);
    Expr open = X2(NE, load_at(m, 0, mt, 1, &at), expr_int(m->c, mt, 0));
    if (r > 3)
        open = X2(OR, open, X2(EQ, pixel, XI(0)));
    mask = reshape_to(m, mask, 1, &all);
    Val live = map_over(m, open, 1, &mask, r, d), v = pool_windows(m, x, (Scalar){.t = dtype_of(m, x), .f = -FLT_MAX});
    live = live.i ? pool_windows(m, live, (Scalar){.t = DT_BOOL, .i = 1}) : live;
    if (!v.i || !live.i)
        return;
    b_scan(&m->b, 1, &live, rank_of(m, live) - 1, false, false, &and, &(Scalar){.t = DT_BOOL, .i = 1}, &bt, &live);
    v = b_select(&m->b, live, v, scalar_of(m, dtype_of(m, x), -FLT_MAX));
    result(m, 0, v.i ? b_reduce1(&m->b, R_MAX, v, ((1u << (r - 2)) - 1) << r, false) : v);
}

/* ---- movement */

/* All slices of `size` elements along an axis, as a new last axis */
void imp_unfold(Imp *m)
{
    Val x = m->in[0];
    int axis, r = rank_of(m, x);
    int64_t size = attr_i(m, "size"), step = attr_i(m, "step");
    if (size < 1 || step < 1 || r < 1 || r >= MAX_RANK) {
        ERR(m, "E0202", "size %lld and step %lld for rank %d", (long long)size, (long long)step, r);
        return;
    }
    if (!axis_ok(m, attr_i(m, "dim"), r, &axis))
        return;
    b_guard(&m->b, G_LE, DC(m, size), dim_of(m, x, axis), "the axis is shorter than a slice");
    WindowAttr w = {.n = 1, .axis = {(uint8_t)axis}, .size = {DC(m, size)}, .stride = {step}, .dilation = {1}};
    result(m, 0, b_window(&m->b, x, &w));
}

/* border: left, top, right, bottom; scale: height and width instead of the last two */
void imp_crop(Imp *m)
{
    Val x = m->in[0];
    int nb, ns;
    const int64_t *border = attr_ints(m, "border", &nb), *scale = attr_ints(m, "scale", &ns);
    if (rank_of(m, x) != 4 || nb < 4 || (ns && ns != 2)) {
        ERR(m, "E0203", "expected an image of rank 4, a border of 4 numbers and a scale of none or 2");
        return;
    }
    for (int i = 0; i < 2; i++) {
        Dim from = DC(m, border[1 - i]), size = dim_of(m, x, 2 + i);
        Dim n = ns ? DC(m, scale[i]) : dim_sub(m->c, size, DC(m, border[1 - i] + border[3 - i]));
        b_guard(&m->b, G_LE, DC(m, 0), from, "the border is negative");
        b_guard(&m->b, G_LE, DC(m, 0), n, "the border is larger than the image");
        b_guard(&m->b, G_LE, dim_add(m->c, from, n), size, "the image is smaller than what is cropped");
        x = b_slice_axis(&m->b, x, 2 + i, from, n);
    }
    result(m, 0, x);
}

/* x * scale + bias per channel */
void imp_imagescaler(Imp *m)
{
    Val x = m->in[0];
    const SrcAttr *bias = attr_find(m, "bias");
    if (rank_of(m, x) != 4) {
        ERR(m, "E0203", "expected an image of rank 4, got %d", rank_of(m, x));
        return;
    }
    x = map_text(m, "a * $scale", 1, &x);
    if (bias) {
        int64_t n = (int64_t)bias->p->n_floats;
        Type t = type_tensor(m->c, DT_F32, 1, &(Dim){DC(m, n).i});
        ConstData *d = NEW(m->c, ConstData);
        *d = (ConstData){.dtype = DT_F32, .count = n, .data = bias->p->floats, .bytes = sizeof(float) * (size_t)n};
        b_guard(&m->b, G_EQ, DC(m, n), dim_of(m, x, 1), "bias must have one number per channel");
        x = b_binary(&m->b, S_ADD, x, along(m, cast_to(m, b_const(&m->b, d, t), dtype_of(m, x)), 4, 1));
    }
    result(m, 0, x);
}

/* ---- geometry */

void imp_cdist(Imp *m)
{
    Val a = m->in[0], b = m->in[1];
    bool root = attr_is(m, "metric", "euclidean");
    if (rank_of(m, a) != 2 || rank_of(m, b) != 2) {
        ERR(m, "E0203", "expected matrices, got ranks %d and %d", rank_of(m, a), rank_of(m, b));
        return;
    }
    b_guard(&m->b, G_EQ, dim_of(m, a, 1), dim_of(m, b, 1), "the points have different dimensions");
    Val sq = map_text(m, "(a - b) * (a - b)", 2, (Val[]){insert_axes(m, a, 3, 2), insert_axes(m, b, 3, 1)});
    Val d = sq.i ? b_reduce1(&m->b, R_SUM, sq, 4, false) : sq;
    result(m, 0, root ? map_text(m, "sqrt(a)", 1, &d) : d);
}

/* Gauss-Jordan with partial pivoting: a loop over columns that carries the matrix and what becomes its inverse. */
void imp_inverse(Imp *m)
{
    Val x = m->in[0], args[4], out[2];
    DType t = dtype_of(m, x), w = wide_type(t);
    int r = rank_of(m, x);
    Dim d[MAX_RANK], sd[3];
    if (r < 2) {
        ERR(m, "E0203", "expected a matrix, got rank %d", r);
        return;
    }
    dims_of(m, x, d);
    b_guard(&m->b, G_EQ, d[r - 2], d[r - 1], "the matrix is not square");
    sd[0] = count_of(m, d, r - 2);
    sd[1] = sd[2] = d[r - 1];
    Type st = type_tensor(m->c, w, 3, sd);
    Graph *g = graph_new(m->c, "column", m->b.g);
    Imp inner = *m, *n = &inner;
    inner.b = builder(g, m->b.loc);
    Val k = graph_input(g, "iter", type_tensor(m->c, DT_I64, 0, NULL)), go = graph_input(g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    Val a[2] = {graph_input(g, "matrix", st), graph_input(g, "inverse", st)};
    Expr i = xaxis(m, 1), at = xarg(m, 1, DT_I64);
    Val col = b_gather(&n->b, a[0], k, 2, OOB_FAIL);
    Val size = map_over(n, X3(SELECT, X2(LT, i, at), xf(m, w, -1), X1(ABS, xarg(m, 0, w))), 2, (Val[]){col, k}, 2, sd);
    Val best = b_argminmax(&n->b, size, 1, false, true, false);
    /* rows k and best exchanged, row k divided by its pivot, the others freed of column k */
    Expr b = xaxis(m, 0), step = load_at(m, 1, DT_I64, 0, NULL), with = load_at(m, 2, DT_I64, 1, &b);
    Expr from = X3(SELECT, X2(EQ, i, step), with, X3(SELECT, X2(EQ, i, with), step, i));
    Val row[2];
    for (int j = 0; j < 2; j++) {
        a[j] = map_over(n, load_at(m, 0, w, 3, (Expr[]){b, from, xaxis(m, 2)}), 3, (Val[]){a[j], k, best}, 3, sd);
        row[j] = insert_axes(n, b_gather(&n->b, a[j], k, 1, OOB_FAIL), 3, 2);
    }
    Val pivot = insert_axes(n, b_gather(&n->b, row[0], k, 2, OOB_FAIL), 3, 4);
    Val lead = insert_axes(n, b_gather(&n->b, a[0], k, 2, OOB_FAIL), 3, 4);
    graph_output(g, "cond", go);
    for (int j = 0; j < 2; j++) {
        Expr unit = X2(DIV, xarg(m, 1, w), xarg(m, 2, w)), rest = X2(SUB, xarg(m, 0, w), X2(MUL, xarg(m, 3, w), unit));
        Expr e = X3(SELECT, X2(EQ, i, xarg(m, 4, DT_I64)), unit, rest);
        graph_output(g, j ? "inverse" : "matrix", map_over(n, e, 5, (Val[]){a[j], row[j], pivot, lead, k}, 3, sd));
    }
    args[0] = b_dim_scalar(&m->b, sd[1]);
    args[1] = (Val){0};
    args[2] = reshape_to(m, cast_to(m, x, w), 3, sd);
    args[3] = map_over(m, X3(SELECT, X2(EQ, i, xaxis(m, 2)), xf(m, w, 1), xf(m, w, 0)), 0, NULL, 3, sd);
    if (!args[2].i)
        return;
    b_loop(&m->b, g, 2, 0, 4, args, out);
    result(m, 0, cast_to(m, reshape_to(m, out[1], r, d), t));
}

/* Boxes of images, sampled at crop_size points whose first and last are the corners. */
void imp_cropandresize(Imp *m)
{
    Val x = m->in[0], in[3] = {x, m->in[1], m->in[2]};
    DType t = dtype_of(m, x), w = wide_type(t);
    Dim d[4], size[SHAPE_MAX];
    int n;
    if (rank_of(m, x) != 4 || rank_of(m, in[1]) != 2 || rank_of(m, in[2]) != 1) {
        ERR(m, "E0203", "expected X of rank 4, rois of rank 2 and batch_indices of rank 1");
        return;
    }
    if (!operand_dims(m, m->in[3], "crop_size", 1, DIM_INF, 2, size, &n))
        return;
    if (n != 2) {
        ERR(m, "E0203", "crop_size: expected two elements, got %d", n);
        return;
    }
    dims_of(m, x, d);
    b_guard(&m->b, G_EQ, dim_of(m, in[1], 1), DC(m, 4), "a region has four corners");
    b_guard(&m->b, G_EQ, dim_of(m, in[1], 0), dim_of(m, in[2], 0), "every region needs the index of its image");
    Expr box = xaxis(m, 0), at[2], inside = expr_int(m->c, DT_BOOL, 1);
    for (int i = 0; i < 2; i++) {
        Expr lo = expr_cast(m->c, load_at(m, 1, dtype_of(m, in[1]), 2, (Expr[]){box, XI(i)}), w);
        Expr hi = expr_cast(m->c, load_at(m, 1, dtype_of(m, in[1]), 2, (Expr[]){box, XI(2 + i)}), w);
        Expr last = expr_cast(m->c, xdim(m, dim_addi(m->c, d[2 + i], -1)), w), crop = xdim(m, size[i]);
        Expr step = X2(DIV, X2(MUL, X2(SUB, hi, lo), last), expr_cast(m->c, X2(SUB, crop, XI(1)), w));
        Expr many = X2(ADD, X2(MUL, lo, last), X2(MUL, expr_cast(m->c, xaxis(m, 2 + i), w), step));
        Expr one = X2(MUL, X2(MUL, xf(m, w, 0.5), X2(ADD, lo, hi)), last);
        at[i] = X3(SELECT, X2(GT, crop, XI(1)), many, one);
        inside = X2(AND, inside, X2(AND, X2(GE, at[i], xf(m, w, 0)), X2(LE, at[i], last)));
    }
    Expr image = expr_cast(m->c, load_at(m, 2, dtype_of(m, in[2]), 1, &box), DT_I64), zero = xf(m, t, 0), y;
    if (attr_is(m, "mode", "nearest")) {
        Expr idx[4] = {image, xaxis(m, 1)};
        for (int i = 0; i < 2; i++)
            idx[2 + i] = expr_cast(m->c, X1(FLOOR, X2(ADD, at[i], xf(m, w, 0.5))), DT_I64);
        y = expr_cast(m->c, expr_load(m->c, 0, t, 4, idx, OOB_VALUE, zero, 0), w);
    } else {
        Expr tap[2][2], frac[2], corner[2][2];
        for (int i = 0; i < 2; i++) {
            tap[i][0] = expr_cast(m->c, X1(FLOOR, at[i]), DT_I64);
            tap[i][1] = expr_cast(m->c, X1(CEIL, at[i]), DT_I64);
            frac[i] = X2(SUB, at[i], X1(FLOOR, at[i]));
        }
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++)
                corner[i][j] = expr_cast(m->c, expr_load(m->c, 0, t, 4, (Expr[]){image, xaxis(m, 1), tap[0][i], tap[1][j]}, OOB_VALUE,
                                                         zero, 0), w);
        Expr side[2];
        for (int i = 0; i < 2; i++)
            side[i] = X2(ADD, corner[i][0], X2(MUL, X2(SUB, corner[i][1], corner[i][0]), frac[1]));
        y = X2(ADD, side[0], X2(MUL, X2(SUB, side[1], side[0]), frac[0]));
    }
    y = expr_cast(m->c, X3(SELECT, inside, y, xf(m, w, attr_f(m, "extrapolation_value"))), t);
    result(m, 0, map_over(m, y, 3, in, 4, (Dim[]){dim_of(m, in[1], 0), d[1], size[0], size[1]}));
}

/* (a + ib) * (c + id), or * (c - id); the last axis holds real and imaginary part */
void imp_complexmul(Imp *m)
{
    Val part[4], y[2];
    bool conj = m->row->arg != 0;
    int r[2] = {rank_of(m, m->in[0]), rank_of(m, m->in[1])};
    for (int k = 0; k < 2; k++) {
        if (r[k] < 1) {
            ERR(m, "E0203", "a scalar is no complex number");
            return;
        }
        b_guard(&m->b, G_EQ, dim_of(m, m->in[k], r[k] - 1), DC(m, 2), "the last axis must hold real and imaginary parts");
        for (int i = 0; i < 2; i++)
            part[2 * k + i] = b_slice_axis(&m->b, m->in[k], r[k] - 1, DC(m, i), DC(m, 1));
    }
    y[0] = map_text(m, conj ? "a * c + b * d" : "a * c - b * d", 4, part);
    y[1] = map_text(m, conj ? "b * c - a * d" : "a * d + b * c", 4, part);
    result(m, 0, b_concat(&m->b, 2, y, r[0] > r[1] ? r[0] - 1 : r[1] - 1));
}

/* ---- streams of hyper-connections */

/* v as [.., C, H]: grouped already, or flattened with C = num_branches */
static Val grouped(Imp *m, Val v, int64_t n)
{
    Dim d[MAX_RANK];
    int r = rank_of(m, v);
    if (!v.i || !n || r >= MAX_RANK)
        return v;
    dims_of(m, v, d);
    b_guard(&m->b, G_EQ, dim_mod(m->c, d[r - 1], DC(m, n)), DC(m, 0), "the last size must be divisible by num_branches");
    d[r] = dim_floordiv(m->c, d[r - 1], DC(m, n));
    d[r - 1] = DC(m, n);
    return reshape_to(m, v, r + 1, d);
}

/* A gate as [.., C, 1] or [.., C, H] beside streams of rank r */
static Val gate(Imp *m, Val v, int r, int64_t n)
{
    int rv = rank_of(m, v);
    Dim last = rv ? dim_of(m, v, rv - 1) : DC(m, 1);
    if (rv == r - 1 && n && !dim_is(m->c, last, n)) /* flattened */
        return grouped(m, v, n);
    return rv == r - 1 ? insert_axes(m, v, r, 1u << (r - 1)) : v;
}

void imp_premix(Imp *m)
{
    int64_t n = attr_i(m, "num_branches");
    Val x = grouped(m, m->in[0], n);
    DType t = dtype_of(m, x), w = wide_type(t);
    int r = rank_of(m, x);
    if (r < 2 || n < 0) {
        ERR(m, "E0203", "streams of rank %d in %lld branches", r, (long long)n);
        return;
    }
    Val p = b_binary(&m->b, S_MUL, cast_to(m, x, w), cast_to(m, gate(m, m->in[1], r, n), w));
    Val s = b_reduce1(&m->b, R_SUM, p, 1u << (r - 2), false);
    result(m, 0, cast_to(m, map_text(m, "a * $reduction_scale", 1, &s), t));
}

void imp_postmix(Imp *m)
{
    int64_t n = attr_i(m, "num_branches");
    Val x = grouped(m, m->in[0], n), mix = operand(m, 3);
    DType t = dtype_of(m, x), w = wide_type(t);
    int r = rank_of(m, x);
    Dim d[MAX_RANK];
    if (r < 2 || n < 0 || rank_of(m, m->in[1]) != r - 1 || (mix.i && rank_of(m, mix) != r)) {
        ERR(m, "E0203", "streams of rank %d in %lld branches with a branch output of rank %d", r, (long long)n, rank_of(m, m->in[1]));
        return;
    }
    dims_of(m, m->in[0], d);
    Val s = cast_to(m, x, w);
    if (mix.i) { /* sum over c of mix[.., c, k] * x[.., c, h] */
        int perm[MAX_RANK];
        for (int i = 0; i < r; i++)
            perm[i] = i < r - 2 ? i : i == r - 2 ? r - 1 : r - 2;
        s = matmul(m, b_permute(&m->b, cast_to(m, mix, w), perm), s, w, w);
    }
    Val add[3] = {s, cast_to(m, gate(m, m->in[2], r, n), w), cast_to(m, insert_axes(m, m->in[1], r, 1u << (r - 2)), w)};
    result(m, 0, cast_to(m, reshape_to(m, map_text(m, "a + b * c", 3, add), rank_of(m, m->in[0]), d), t));
}

/* ---- words */

static Expr u32(const Imp *m, uint32_t v) { return expr_int(m->c, DT_U32, (int64_t)v); }
static Expr rotl(Imp *m, Expr x, uint32_t n) { return X2(OR, X2(SHL, x, u32(m, n)), X2(SHR, x, u32(m, 32 - n))); }

/* MurmurHash3_x86_32 of the bytes of each element */
void imp_murmurhash(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    if (t == DT_STR) {
        Val in[2] = {m->in[0], scalar_i64(m, (uint32_t)attr_i(m, "seed"))};
        const Type *x = val_type(m->b.g, in[0]);
        Val y = call1(m, "murmur", type_tensor(m->c, DT_U32, x->rank, x->dim), 2, in);
        result(m, 0, attr_i(m, "positive") ? y : cast_to(m, y, DT_I32));
        return;
    }
    int bytes = dt_bits(t) / 8;
    if (bytes != 4 && bytes != 8) {
        UNSUP(m, "elements of type %s", dt_name(t));
        return;
    }
    DType bits = bytes == 8 ? DT_U64 : DT_U32;
    Expr x = xarg(m, 0, t), h = u32(m, (uint32_t)attr_i(m, "seed"));
    x = t == bits ? x : expr_bitcast(m->c, x, bits);
    for (int i = 0; i < bytes / 4; i++) {
        Expr k = bytes == 4 ? x : expr_cast(m->c, i ? X2(SHR, x, expr_int(m->c, DT_U64, 32)) : x, DT_U32);
        k = X2(MUL, rotl(m, X2(MUL, k, u32(m, 0xcc9e2d51u)), 15), u32(m, 0x1b873593u));
        h = X2(ADD, X2(MUL, rotl(m, X2(XOR, h, k), 13), u32(m, 5)), u32(m, 0xe6546b64u));
    }
    h = X2(XOR, h, u32(m, (uint32_t)bytes));
    h = X2(MUL, X2(XOR, h, X2(SHR, h, u32(m, 16))), u32(m, 0x85ebca6bu));
    h = X2(MUL, X2(XOR, h, X2(SHR, h, u32(m, 13))), u32(m, 0xc2b2ae35u));
    h = X2(XOR, h, X2(SHR, h, u32(m, 16)));
    result(m, 0, b_map1(&m->b, attr_i(m, "positive") ? h : expr_cast(m->c, h, DT_I32), 1, m->in));
}

/* -inf where the word would repeat an n-gram: that is what followed wherever the last n - 1 words stood before. */
void imp_ngramrepeat(Imp *m)
{
    Val ids = m->in[0], scores = m->in[1];
    int64_t n = attr_i(m, "ngram_size");
    DType t = dtype_of(m, scores);
    Dim d[2];
    if (rank_of(m, ids) != 2 || rank_of(m, scores) != 2 || n < 1 || n > SHAPE_MAX) {
        ERR(m, "E0203", "expected matrices and an ngram_size of 1 to %d, got %lld", SHAPE_MAX, (long long)n);
        return;
    }
    dims_of(m, ids, d);
    Dim count = dim_max(m->c, dim_addi(m->c, d[1], 1 - n), DC(m, 0)), at[2] = {d[0], count};
    Expr b = xaxis(m, 0), i = xaxis(m, 1), hit = expr_int(m->c, DT_BOOL, 1), zero = expr_int(m->c, DT_I64, 0);
    for (int64_t k = 0; k < n - 1; k++) {
        Expr one = load_at(m, 0, DT_I64, 2, (Expr[]){b, X2(ADD, i, XI(k))});
        Expr last = X2(ADD, xdim(m, dim_addi(m->c, d[1], 1 - n)), XI(k));
        hit = X2(AND, hit, X2(EQ, one, expr_load(m->c, 0, DT_I64, 2, (Expr[]){b, last}, OOB_VALUE, zero, 0)));
    }
    Val next = map_over(m, load_at(m, 0, DT_I64, 2, (Expr[]){b, X2(ADD, i, XI(n - 1))}), 1, &ids, 2, at);
    Val low = map_over(m, X3(SELECT, hit, xf(m, t, -INFINITY), xf(m, t, INFINITY)), 1, &ids, 2, at);
    ScatterAttr a = {.mode = SC_MIN, .elements = true, .axis = 1};
    result(m, 0, b_scatter(&m->b, scores, next, low, &a));
}
