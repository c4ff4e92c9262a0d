/* op_quant.c: quantised operators. Integers stay integers: a product of quantised operands is a contract with an i32
 * accumulator, and QuantizeLinear / DequantizeLinear are maps, so that a later pass sees both the types and the exact
 * float semantics. Scales and zero points are per tensor, per axis, or per block of an axis. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(quantize); FN(dequantize); FN(dynquantize); FN(matmulinteger); FN(convinteger); FN(qlinearmatmul); FN(qlinearconv);

/* A scale or zero point as an argument of a map over x: a scalar or an axis vector broadcasts; blocked ones are
 * loaded at coordinate / block. */
typedef struct Param { Val v; Expr e; } Param;

static bool param(Imp *m, Val v, const char *what, Val x, int k, Param *p)
{
    DType t = dtype_of(m, v);
    int r = rank_of(m, x), rv = rank_of(m, v), axis = 0;
    int64_t block = row_has_attr(m->row, "block_size") ? attr_i(m, "block_size") : 0;
    Dim xd[MAX_RANK], pd[MAX_RANK];
    p->v = v;
    p->e = xarg(m, k, t);
    if (block < 0) {
        ERR(m, "E0202", "attribute block_size: expected 0 or more, got %lld", (long long)block);
        return false;
    }
    dims_of(m, x, xd);
    dims_of(m, v, pd);
    if (rv == 0 || (rv == 1 && !block && dim_is(m->c, pd[0], 1))) {
        p->v = only_element(m, v);
        return true;
    }
    int64_t at = row_has_attr(m->row, "axis") ? attr_i(m, "axis") : 1;
    if (rv == 1 && !block && (at < -r || at >= r)) { /* no such axis: it can only be for the whole tensor */
        p->v = only_element(m, v);
        return true;
    }
    if (r && !axis_ok(m, at, r, &axis))
        return false;
    if (rv == 1 && !block) {
        b_guard(&m->b, G_BCAST, pd[0], xd[axis], "%s must have one element per coordinate of axis %d", what, axis);
        p->v = along(m, v, r, axis);
        return true;
    }
    if (!block || rv != r) {
        ERR(m, "E0203", "%s of rank %d for an operand of rank %d (block_size %lld)", what, rv, r, (long long)block);
        return false;
    }
    Expr idx[MAX_RANK];
    for (int i = 0; i < r; i++) {
        idx[i] = xaxis(m, i);
        b_guard(&m->b, G_EQ, pd[i], i == axis ? dim_ceildiv(m->c, xd[i], DC(m, block)) : xd[i],
                "%s does not fit the operand along axis %d", what, i);
    }
    idx[axis] = X2(FDIV, idx[axis], XI(block));
    p->e = expr_load(m->c, (uint32_t)k, t, r, idx, OOB_CLAMP, (Expr){0}, 0);
    return true;
}

/* e (a float) rounded to the quantised type t, saturating */
static Expr to_quantised(Imp *m, Expr e, DType t, DType w)
{
    if (dt_is_int(t)) {
        int bits = (int)dt_bits(t);
        double lo = dt_is_signed(t) ? -ldexp(1, bits - 1) : 0, hi = ldexp(1, dt_is_signed(t) ? bits - 1 : bits) - 1;
        if (bits < 8) /* narrower than a byte: saturate by hand */
            e = X2(MIN, X2(MAX, e, xf(m, w, lo)), xf(m, w, hi));
        return expr_cast(m->c, e, t);
    }
    return expr_f8(m, e, t, !row_has_attr(m->row, "saturate") || attr_i(m, "saturate"));
}

/* saturate(round(x / scale) + zero_point) */
void imp_quantize(Imp *m)
{
    Val x = m->in[0], in[3] = {x};
    DType tx = dtype_of(m, x), zt = present(m, 2) ? dtype_of(m, m->in[2]) : DT_NONE;
    DType t = row_has_attr(m->row, "output_dtype") ? attr_dtype(m, "output_dtype", zt ? zt : DT_U8)
                                                   : zt ? zt : DT_U8;
    DType ts = dtype_of(m, m->in[1]), prec = DT_F32;
    if (row_has_attr(m->row, "precision")) /* of the division; the type of the operands unless it is given */
        prec = attr_dtype(m, "precision", tx == ts ? tx : DT_F32);
    Dim d[MAX_RANK];
    Param s, z;
    if (!t || !prec)
        return;
    if (zt && zt != t) {
        ERR(m, "E0204", "attribute output_dtype is %s, the zero point %s", dt_name(t), dt_name(zt));
        return;
    }
    if (!dt_is_int(t) && !(dt_is_float(t) && dt_bits(t) <= 8)) {
        ERR(m, "E0202", "attribute output_dtype: %s is no quantised type", dt_name(t));
        return;
    }
    DType w = tx == DT_F64 ? DT_F64 : DT_F32;
    if (!param(m, m->in[1], "y_scale", x, 1, &s))
        return;
    in[1] = s.v;
    Expr q = X2(DIV, expr_cast(m->c, xarg(m, 0, tx), w), expr_cast(m->c, s.e, w));
    if (prec != w && dt_is_float(prec))
        q = expr_cast(m->c, expr_cast(m->c, q, prec), w);
    int n = 2;
    if (dt_is_int(t))
        q = X1(RINT, q);
    Scalar zero;
    if (present(m, 2) && !(const_scalar(m, m->in[2], &zero) && (dt_is_float(t) ? zero.f == 0 : zero.i == 0))) {
        if (!param(m, m->in[2], "y_zero_point", x, 2, &z))
            return;
        in[n++] = z.v;
        if (dt_is_int(t) && dt_bits(t) > 16) /* exact in f64 only */
            q = X2(ADD, expr_cast(m->c, q, DT_F64), expr_cast(m->c, z.e, DT_F64)), w = DT_F64;
        else
            q = X2(ADD, q, expr_cast(m->c, z.e, w));
    }
    dims_of(m, x, d);
    result(m, 0, map_over(m, to_quantised(m, q, t, w), n, in, rank_of(m, x), d));
}

/* (x - zero_point) * scale */
void imp_dequantize(Imp *m)
{
    Val x = m->in[0], in[3] = {x};
    DType tx = dtype_of(m, x), ts = dtype_of(m, m->in[1]);
    DType t = row_has_attr(m->row, "output_dtype") ? attr_dtype(m, "output_dtype", ts) : ts;
    if (t == DT_F8E8M0)
        t = DT_F32;
    DType w = wide_type(t);
    Dim d[MAX_RANK];
    Param s, z;
    int n = 2;
    if (!t || !param(m, m->in[1], "x_scale", x, 1, &s))
        return;
    if (!dt_is_float(t)) {
        ERR(m, "E0202", "attribute output_dtype: expected a float type, got %s", dt_name(t));
        return;
    }
    in[1] = s.v;
    Expr e = xarg(m, 0, tx);
    Scalar zero;
    if (present(m, 2) && !(const_scalar(m, m->in[2], &zero) && (dt_is_float(tx) ? zero.f == 0 : zero.i == 0))) {
        if (!param(m, m->in[2], "x_zero_point", x, 2, &z))
            return;
        in[n++] = z.v;
        DType i = dt_is_float(tx) ? w : dt_bits(tx) < 32 ? DT_I32 : DT_I64;
        e = X2(SUB, expr_cast(m->c, e, i), expr_cast(m->c, z.e, i));
    }
    e = X2(MUL, expr_cast(m->c, e, w), expr_cast(m->c, s.e, w));
    dims_of(m, x, d);
    result(m, 0, map_over(m, expr_cast(m->c, e, t), n, in, rank_of(m, x), d));
}

/* scale = (max(x, 0) - min(x, 0)) / 255, zero point = saturate(round(-min / scale)) */
void dynamic_quantize(Imp *m, Val x, Val *out)
{
    x = cast_to(m, x, DT_F32);
    int r = rank_of(m, x);
    uint32_t all = (uint32_t)((1ull << r) - 1);
    Val lo = b_reduce1(&m->b, R_MIN, x, all, false), hi = b_reduce1(&m->b, R_MAX, x, all, false);
    Val s = map_text(m, "(max(b, 0) - min(a, 0)) / 255", 2, (Val[]){lo, hi});
    Expr a = X2(MIN, xarg(m, 0, DT_F32), xf(m, DT_F32, 0)), sc = xarg(m, 1, DT_F32);
    Expr z = X1(RINT, X2(DIV, X1(NEG, a), sc)); /* NaN becomes 0 */
    Val zp = b_map1(&m->b, expr_cast(m->c, z, DT_U8), 2, (Val[]){lo, s});
    Dim d[MAX_RANK];
    dims_of(m, x, d);
    Expr q = X1(RINT, X2(DIV, xarg(m, 0, DT_F32), sc));
    q = X2(ADD, q, expr_cast(m->c, xarg(m, 2, DT_U8), DT_F32));
    out[0] = map_over(m, expr_cast(m->c, q, DT_U8), 3, (Val[]){x, s, zp}, r, d);
    out[1] = s;
    out[2] = zp;
}

void imp_dynquantize(Imp *m)
{
    Val out[3];
    dynamic_quantize(m, m->in[0], out);
    for (uint32_t i = 0; i < 3; i++)
        result(m, i, out[i]);
}

/* ---- integer products */

/* The zero point of a matrix: per row (A) or per column (B), or batched with a 1 in place of the inner axis. */
static Val matrix_minus(Imp *m, Val x, Val zp, bool rows)
{
    int r = rank_of(m, x);
    if (!zp.i || rank_of(m, zp) <= 1)
        return minus_zero_point(m, x, zp, r == 1 ? 0 : rows ? r - 2 : r - 1, DT_I32);
    return b_binary(&m->b, S_SUB, cast_to(m, x, DT_I32), cast_to(m, zp, DT_I32));
}

void imp_matmulinteger(Imp *m)
{
    Val a = matrix_minus(m, m->in[0], operand(m, 2), true);
    Val b = matrix_minus(m, m->in[1], operand(m, 3), false);
    if (a.i && b.i)
        result(m, 0, matmul(m, a, b, DT_I32, DT_I32));
}

void imp_convinteger(Imp *m)
{
    Val x = minus_zero_point(m, m->in[0], operand(m, 2), 1, DT_I32);
    Val w = minus_zero_point(m, m->in[1], operand(m, 3), 0, DT_I32);
    if (x.i && w.i)
        result(m, 0, conv(m, x, w, DT_I32, DT_I32));
}

/* acc * (a_scale * b_scale / y_scale), rounded, plus the zero point, saturated; scales broadcast to acc */
static Val requantise(Imp *m, Val acc, Val sa, Val sb, Val sy, Val zy)
{
    if (!acc.i)
        return acc;
    DType t = dtype_of(m, zy), ta = dtype_of(m, acc);
    Val scale = map_text(m, "a * b / c", 3, (Val[]){cast_to(m, sa, DT_F32), cast_to(m, sb, DT_F32),
                                                    cast_to(m, sy, DT_F32)});
    Expr q = X2(MUL, expr_cast(m->c, xarg(m, 0, ta), DT_F32), xarg(m, 1, DT_F32));
    q = dt_is_int(t) ? X2(ADD, X1(RINT, q), expr_cast(m->c, xarg(m, 2, t), DT_F32)) : q;
    Dim d[MAX_RANK];
    dims_of(m, acc, d);
    return map_over(m, to_quantised(m, q, t, DT_F32), dt_is_int(t) ? 3 : 2, (Val[]){acc, scale, zy}, rank_of(m, acc), d);
}

/* A vector along `axis`; one element as a scalar; anything else as it is. */
static Val aligned(Imp *m, Val v, int rank, int axis)
{
    if (rank_of(m, v) == 1)
        return dim_is(m->c, dim_of(m, v, 0), 1) ? only_element(m, v) : along(m, v, rank, axis);
    return v;
}

void imp_qlinearmatmul(Imp *m)
{
    Val *in = m->in;
    DType ta = dtype_of(m, in[0]), acc = dt_is_int(ta) ? DT_I32 : DT_F32;
    Val a = acc == DT_I32 ? matrix_minus(m, in[0], in[2], true) : cast_to(m, in[0], acc);
    Val b = acc == DT_I32 ? matrix_minus(m, in[3], in[5], false) : cast_to(m, in[3], acc);
    if (!a.i || !b.i)
        return;
    Val y = matmul(m, a, b, acc, acc);
    if (!y.i)
        return;
    int r = rank_of(m, y), row = r > 1 ? r - 2 : 0, col = r > 0 ? r - 1 : 0;
    result(m, 0, requantise(m, y, aligned(m, in[1], r, row), aligned(m, in[4], r, col), aligned(m, in[6], r, row),
                            aligned(m, in[7], r, row)));
}

Val qlinear_conv(Imp *m, Val x)
{
    Val *in = m->in, w = minus_zero_point(m, in[3], in[5], 0, DT_I32);
    x = minus_zero_point(m, x, in[2], 1, DT_I32);
    if (!x.i || !w.i)
        return (Val){0};
    Val y = conv(m, x, w, DT_I32, DT_I32);
    if (!y.i)
        return y;
    int r = rank_of(m, y);
    y = conv_bias(m, y, operand(m, 8));
    return requantise(m, y, only_element(m, in[1]), aligned(m, in[4], r, 1), only_element(m, in[6]), only_element(m, in[7]));
}

void imp_qlinearconv(Imp *m)
{
    result(m, 0, qlinear_conv(m, m->in[0]));
}
