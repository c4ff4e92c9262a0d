/* op_ms_qlinear.c: com.microsoft operators on 8-bit values with one scale and zero point per operand: dequantise, compute in f32,
 * quantise. Whether the zero point is added before or after rounding differs between operators and decides ties: each
 * does as ONNX Runtime's kernels for x86 (mlas qladd, qlmul, qlgavgpool; contrib_ops/cpu/quantization). */
#include "frontend/import.h"
#include <math.h>

#define FN(f) void imp_##f(Imp *m)
FN(qlinearbinary); FN(qlinearunary); FN(qlinearsoftmax); FN(qlinearreducemean); FN(qlinearavgpool); FN(qlinearglobalpool);
FN(qlinearconcat); FN(qlinearwhere); FN(nhwcmaxpool); FN(msqlinearconv); FN(qembedlayernorm);

/* A scale (f32) or a zero point (of type t; may be absent) of one element, as a scalar. false after a message. */
static bool one_element(Imp *m, uint32_t k, const char *what, DType t, Val *out)
{
    Val v = operand(m, k);
    *out = (Val){0};
    if (!v.i)
        return true;
    const Type vt = *val_type(m->b.g, v);
    if (vt.dtype != t) {
        ERR(m, "E0204", "operand %s: expected %s, got %s", what, dt_name(t), dt_name((DType)vt.dtype));
        return false;
    }
    if (dim_differ(m->c, type_count(m->c, &vt), DC(m, 1))) {
        Buf b = {.c = m->c};
        type_print(&b, m->c, &vt);
        ERR(m, "E0203", "operand %s: expected one element, got %s", what, buf_str(&b));
        return false;
    }
    *out = only_element(m, v);
    return true;
}

typedef struct Quant { Val scale, zero; DType t; } Quant;

static bool quant_at(Imp *m, uint32_t scale, uint32_t zero, DType t, Quant *q)
{
    q->t = t;
    if (t != DT_I8 && t != DT_U8) {
        ERR(m, "E0204", "expected 8-bit integers, got %s", dt_name(t));
        return false;
    }
    return one_element(m, scale, "of a scale", DT_F32, &q->scale) && one_element(m, zero, "of a zero point", t, &q->zero);
}

/* The zero point as a term of a map over in[]; i32. */
static Expr zero_of(Imp *m, const Quant *q, Val *in, int *nin)
{
    return q->zero.i ? expr_cast(m->c, arg_or_const(m, q->zero, in, nin), DT_I32) : expr_int(m->c, DT_I32, 0);
}

/* scale * (x - zero), f32; x any integer expression */
static Expr real_of(Imp *m, Expr x, const Quant *q, Val *in, int *nin)
{
    Expr d = X2(SUB, expr_cast(m->c, x, DT_I32), zero_of(m, q, in, nin));
    return X2(MUL, arg_or_const(m, q->scale, in, nin), expr_cast(m->c, d, DT_F32));
}

/* saturate(round(y / scale) + zero), or with `inside` saturate(round(y / scale + zero)) */
static Expr stored(Imp *m, Expr y, const Quant *q, bool inside, Val *in, int *nin)
{
    Expr z = expr_cast(m->c, zero_of(m, q, in, nin), DT_F32), v = X2(DIV, y, arg_or_const(m, q->scale, in, nin));
    v = inside ? X1(RINT, X2(ADD, v, z)) : X2(ADD, X1(RINT, v), z);
    return expr_cast(m->c, v, q->t);
}

static Val dequantised(Imp *m, Val x, const Quant *q)
{
    Val in[3] = {x};
    int n = 1;
    Expr e = real_of(m, xarg(m, 0, q->t), q, in, &n);
    return b_map1(&m->b, e, n, in);
}

static Val quantised(Imp *m, Val y, const Quant *q, bool inside)
{
    Val in[3] = {y};
    int n = 1;
    Expr e = stored(m, xarg(m, 0, DT_F32), q, inside, in, &n);
    return y.i ? b_map1(&m->b, e, n, in) : y;
}

/* arg 0: C = A + B, arg 1: C = A * B; the zero point is added before rounding. */
void imp_qlinearbinary(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    Val in[8] = {m->in[0], m->in[3]};
    int n = 2;
    Quant a, b, c;
    if (!quant_at(m, 1, 2, t, &a) || !quant_at(m, 4, 5, t, &b) || !quant_at(m, 6, 7, t, &c))
        return;
    if (dtype_of(m, m->in[3]) != t) {
        ERR(m, "E0204", "A is %s, B is %s", dt_name(t), dt_name(dtype_of(m, m->in[3])));
        return;
    }
    Expr sa = arg_or_const(m, a.scale, in, &n), sb = arg_or_const(m, b.scale, in, &n), sc = arg_or_const(m, c.scale, in, &n);
    Expr za = zero_of(m, &a, in, &n), zb = zero_of(m, &b, in, &n), zc = expr_cast(m->c, zero_of(m, &c, in, &n), DT_F32);
    Expr xa = expr_cast(m->c, xarg(m, 0, t), DT_I32), xb = expr_cast(m->c, xarg(m, 1, t), DT_I32), y;
#define F(e) expr_cast(m->c, (e), DT_F32)
    if (m->row->arg) {
        Expr p = X2(MUL, X2(SUB, xa, za), X2(SUB, xb, zb));
        y = X2(ADD, X2(MUL, F(p), X2(DIV, X2(MUL, sa, sb), sc)), zc);
    } else {
        Expr ra = X2(DIV, sa, sc), rb = X2(DIV, sb, sc);
        Expr fixed = X2(SUB, zc, X2(ADD, X2(MUL, ra, F(za)), X2(MUL, rb, F(zb))));
        y = X2(ADD, X2(ADD, fixed, X2(MUL, F(xa), ra)), X2(MUL, F(xb), rb));
    }
#undef F
    result(m, 0, b_map1(&m->b, expr_cast(m->c, X1(RINT, y), t), n, in));
}

/* arg 0: the logistic function, arg 1: LeakyRelu */
void imp_qlinearunary(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    Quant x, y;
    if (!quant_at(m, 1, 2, t, &x) || !quant_at(m, 3, 4, t, &y))
        return;
    Val v = dequantised(m, m->in[0], &x);
    v = map_text(m, m->row->arg ? "select(a >= 0, a, $alpha * a)" : "sigmoid(a)", 1, &v);
    result(m, 0, quantised(m, v, &y, false));
}

/* round(exp(x_scale * (x - max)) * floor(1 / y_scale) / sum) + zero. Before version 13 of Softmax, all axes from `axis` on are one. */
void imp_qlinearsoftmax(Imp *m)
{
    Val x = m->in[0];
    DType t = dtype_of(m, x);
    int r = rank_of(m, x), axis = 0;
    Quant qx, qy;
    if (!quant_at(m, 1, 2, t, &qx) || !quant_at(m, 3, 4, t, &qy))
        return;
    if (!r) {
        ERR(m, "E0203", "X is a scalar");
        return;
    }
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    uint32_t axes = attr_i(m, "opset") < 13 ? (uint32_t)((1ull << r) - (1ull << axis)) : 1u << axis;
    Val in[4] = {x, b_reduce1(&m->b, R_MAX, x, axes, true)};
    int n = 2;
    Expr d = X2(SUB, expr_cast(m->c, xarg(m, 0, t), DT_I32), expr_cast(m->c, xarg(m, 1, t), DT_I32));
    Expr e = X1(EXP, X2(MUL, expr_cast(m->c, d, DT_F32), arg_or_const(m, qx.scale, in, &n)));
    Val p = b_map1(&m->b, e, n, in), part[5] = {p, b_reduce1(&m->b, R_SUM, p, axes, true)};
    n = 2;
    Expr steps = X1(FLOOR, X2(DIV, xf(m, DT_F32, 1), arg_or_const(m, qy.scale, part, &n)));
    Expr y = X1(RINT, X2(DIV, X2(MUL, xarg(m, 0, DT_F32), steps), xarg(m, 1, DT_F32)));
    y = X2(ADD, y, expr_cast(m->c, zero_of(m, &qy, part, &n), DT_F32));
    result(m, 0, b_map1(&m->b, expr_cast(m->c, y, t), n, part));
}

/* The mean over `axes` of the dequantised values, quantised. No kernel of ONNX Runtime: the formula is the schema's. */
void imp_qlinearreducemean(Imp *m)
{
    Val x = m->in[0];
    DType t = dtype_of(m, x);
    int n, r = rank_of(m, x);
    const int64_t *list = attr_ints(m, "axes", &n);
    uint32_t axes = 0;
    Quant qx, qy;
    if (!quant_at(m, 1, 2, t, &qx) || !quant_at(m, 3, 4, t, &qy) || !axes_ok(m, list, n, r, &axes))
        return;
    if (!n)
        axes = (uint32_t)((1ull << r) - 1);
    result(m, 0, quantised(m, b_mean(&m->b, dequantised(m, x, &qx), axes, attr_i(m, "keepdims") != 0), &qy, false));
}

/* [N, H, W.., C] to [N, C, H, W..], or back */
static Val channels(Imp *m, Val x, bool first)
{
    int r = rank_of(m, x), perm[MAX_RANK];
    if (!x.i || r < 3)
        return x;
    for (int i = 1; i < r; i++)
        perm[i] = first ? (i == 1 ? r - 1 : i - 1) : (i == r - 1 ? 1 : i + 1);
    perm[0] = 0;
    return b_permute(&m->b, x, perm);
}

void imp_qlinearavgpool(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    bool last = attr_i(m, "channels_last") != 0;
    Quant qx, qy;
    if (!quant_at(m, 1, 2, t, &qx) || !quant_at(m, 3, 4, t, &qy))
        return;
    Val x = dequantised(m, m->in[0], &qx), y = quantised(m, average_pool(m, last ? channels(m, x, true) : x), &qy, true);
    result(m, 0, last ? channels(m, y, false) : y);
}

/* round(sum(x - zero) * (x_scale / (y_scale * count))) + zero; sums are of integers */
void imp_qlinearglobalpool(Imp *m)
{
    Val x = m->in[0];
    DType t = dtype_of(m, x);
    int r = rank_of(m, x), first = attr_i(m, "channels_last") ? 1 : 2;
    Quant qx, qy;
    if (!quant_at(m, 1, 2, t, &qx) || !quant_at(m, 3, 4, t, &qy))
        return;
    if (r < 3) {
        ERR(m, "E0203", "expected rank 3 or more, got %d", r);
        return;
    }
    uint32_t axes = 0;
    Dim count = DC(m, 1);
    for (int i = first; i < first + r - 2; i++) {
        axes |= 1u << i;
        count = dim_mul(m->c, count, dim_of(m, x, i));
    }
    Val in[6] = {b_reduce1(&m->b, R_SUM, cast_to(m, x, DT_I32), axes, true)};
    int n = 1;
    Expr size = xdim(m, count), sum = X2(SUB, xarg(m, 0, DT_I32), X2(MUL, zero_of(m, &qx, in, &n), expr_cast(m->c, size, DT_I32)));
    Expr per = X2(MUL, arg_or_const(m, qy.scale, in, &n), expr_cast(m->c, size, DT_F32));
    Expr y = X2(MUL, expr_cast(m->c, sum, DT_F32), X2(DIV, arg_or_const(m, qx.scale, in, &n), per));
    y = X2(ADD, X1(RINT, y), expr_cast(m->c, zero_of(m, &qy, in, &n), DT_F32));
    result(m, 0, b_map1(&m->b, expr_cast(m->c, y, t), n, in));
}

/* x in another scale; as it is if the scales and zero points are known to be the same */
static Val rescaled(Imp *m, Val x, const Quant *from, const Quant *to)
{
    Scalar s, t, z = {.t = DT_I64}, y = {.t = DT_I64};
    bool same = const_scalar(m, from->scale, &s) && const_scalar(m, to->scale, &t) && s.f == t.f;
    same &= (!from->zero.i || const_scalar(m, from->zero, &z)) && (!to->zero.i || const_scalar(m, to->zero, &y)) && z.i == y.i;
    return same ? x : quantised(m, dequantised(m, x, from), to, false);
}

void imp_qlinearconcat(Imp *m)
{
    int n = ((int)m->n->nin - 2) / 3, axis = 0;
    Quant qx, qy;
    if (m->n->nin < 5 || (m->n->nin - 2) % 3) {
        ERR(m, "E0205", "expected a tensor, a scale and a zero point for each part, got %u operands", m->n->nin - 2);
        return;
    }
    DType t = dtype_of(m, m->in[2]);
    int r = rank_of(m, m->in[2]);
    Val *part = NEWN(m->c, Val, n);
    if (!quant_at(m, 0, 1, t, &qy) || !axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    for (int i = 0; i < n; i++) {
        uint32_t k = 2 + 3 * (uint32_t)i;
        if (!quant_at(m, k + 1, k + 2, dtype_of(m, m->in[k]), &qx))
            return;
        if (qx.t != t || rank_of(m, m->in[k]) != r) {
            ERR(m, "E0204", "part %d has another type or rank than part 0", i);
            return;
        }
        part[i] = rescaled(m, m->in[k], &qx, &qy);
    }
    result(m, 0, b_concat(&m->b, n, part, axis));
}

void imp_qlinearwhere(Imp *m)
{
    DType t = dtype_of(m, m->in[1]);
    Quant x, y, z;
    if (!quant_at(m, 2, 3, t, &x) || !quant_at(m, 5, 6, dtype_of(m, m->in[4]), &y) || !quant_at(m, 7, 8, t, &z))
        return;
    if (y.t != t) {
        ERR(m, "E0204", "X is %s, Y is %s", dt_name(t), dt_name(y.t));
        return;
    }
    result(m, 0, b_select(&m->b, m->in[0], rescaled(m, m->in[1], &x, &z), rescaled(m, m->in[4], &y, &z)));
}

void imp_nhwcmaxpool(Imp *m)
{
    Val y = max_pool(m, channels(m, m->in[0], true), NULL);
    result(m, 0, channels(m, y, false));
}

void imp_msqlinearconv(Imp *m)
{
    bool last = attr_i(m, "channels_last") != 0;
    Val y = qlinear_conv(m, last ? channels(m, m->in[0], true) : m->in[0]);
    result(m, 0, last ? channels(m, y, false) : y);
}

/* The embeddings of words, positions and, if there are any, segments, added, normalised over the last axis; and per batch how
 * many elements of the mask are 1. Tables, gamma and beta are quantised, each with one scale and zero point. */
void imp_qembedlayernorm(Imp *m)
{
    static const char *const names[5] = {"word_embedding", "position_embedding", "segment_embedding", "gamma", "beta"};
    bool segments = present(m, 1);
    Quant q[5];
    Val ids = m->in[0], mask = operand(m, 7);
    if (rank_of(m, ids) != 2 || (segments && rank_of(m, m->in[1]) != 2) || (mask.i && rank_of(m, mask) != 2)) {
        ERR(m, "E0203", "input_ids, segment_ids and mask must be matrices");
        return;
    }
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t k = 2 + i;
        if (i == 2 && (present(m, k) != segments || present(m, 10) != segments || present(m, 15) != segments)) {
            ERR(m, "E0205", "segment_ids, the segment embedding, its scale and its zero point come together");
            return;
        }
        if (!present(m, k))
            continue;
        if (rank_of(m, m->in[k]) != (i < 3 ? 2 : 1) || !quant_at(m, 8 + i, 13 + i, dtype_of(m, m->in[k]), &q[i])) {
            ERR(m, "E0203", "operand %s: rank %d", names[i], rank_of(m, m->in[k]));
            return;
        }
    }
    Dim d[3] = {dim_of(m, ids, 0), dim_of(m, ids, 1), dim_of(m, m->in[2], 1)};
    Val sum = {0};
    for (uint32_t i = 0; i < 3; i++) {
        Val table = m->in[2 + i], in[4] = {table, i == 2 ? operand(m, 1) : ids};
        int n = 2;
        if (!table.i)
            continue;
        b_guard(&m->b, G_EQ, dim_of(m, table, 1), d[2], "the embeddings have different sizes");
        Expr at[2] = {xaxis(m, 0), xaxis(m, 1)};
        Expr row = i == 1 ? at[1] : expr_cast(m->c, load_at(m, 1, dtype_of(m, in[1]), 2, at), DT_I64);
        Expr e = real_of(m, load_at(m, 0, q[i].t, 2, (Expr[]){row, xaxis(m, 2)}), &q[i], in, &n);
        Val v = map_over(m, e, n, in, 3, d);
        sum = sum.i ? b_binary(&m->b, S_ADD, sum, v) : v;
    }
    Val centre = sum.i ? b_binary(&m->b, S_SUB, sum, b_mean(&m->b, sum, 4, true)) : sum;
    Val var = b_mean(&m->b, map_text(m, "a * a", 1, &centre), 4, true), in[4] = {centre, var, dequantised(m, m->in[5], &q[3])};
    in[3] = dequantised(m, m->in[6], &q[4]);
    result(m, 0, map_text(m, "a / sqrt(b + $epsilon) * c + d", 4, in));
    if (!wanted(m, 1))
        return;
    Val one = mask.i ? map_text(m, "a == 1", 1, &mask) : mask;
    result(m, 1, mask.i ? b_reduce1(&m->b, R_SUM, cast_to(m, one, DT_I32), 2, false) : b_splat(&m->b, (Scalar){.t = DT_I32}, 1, d));
}
