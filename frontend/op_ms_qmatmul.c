/* op_ms_qmatmul.c: com.microsoft operators on products of 8- and 16-bit integers: the product is a contract with an i32
 * accumulator, and the scales ride on its result. Formulas: the schemas of ONNX Runtime and contrib_ops/cpu/quantization. */
#include "frontend/attn.h"

#define FN(f) void imp_##f(Imp *m)
FN(matmulinteger16); FN(matmulintegertofloat); FN(dynquantmatmul); FN(qgemm); FN(qattention);

static bool eight_bits(Imp *m, uint32_t k, const char *what)
{
    DType t = dtype_of(m, m->in[k]);
    if (t != DT_I8 && t != DT_U8)
        ERR(m, "E0204", "operand %s: expected 8-bit integers, got %s", what, dt_name(t));
    return t == DT_I8 || t == DT_U8;
}

/* A zero point must be of the type of its operand. */
static bool zero_ok(Imp *m, uint32_t k, uint32_t of)
{
    if (!present(m, k) || dtype_of(m, m->in[k]) == dtype_of(m, m->in[of]))
        return true;
    ERR(m, "E0204", "the zero point is %s, its operand %s", dt_name(dtype_of(m, m->in[k])), dt_name(dtype_of(m, m->in[of])));
    return false;
}

/* x - zero as i32; the zero point is one number, or one per column */
static Val centred(Imp *m, Val x, Val zero)
{
    int r = rank_of(m, x);
    return minus_zero_point(m, x, zero, r - 1, DT_I32);
}

/* A scale or bias of the result: one number, or one per column. */
static Val per_column(Imp *m, Val v, const char *what, Val y)
{
    Dim n = dim_of(m, y, rank_of(m, y) - 1);
    int r = rank_of(m, v);
    if (r > 1) {
        ERR(m, "E0203", "%s of rank %d", what, r);
        return (Val){0};
    }
    if (r == 1 && dim_is(m->c, dim_of(m, v, 0), 1))
        return only_element(m, v);
    if (r == 1)
        b_guard(&m->b, G_EQ, dim_of(m, v, 0), n, "%s must have one element, or one per column", what);
    return v;
}

/* f32(acc) * (sa * sb) + bias */
static Val scaled(Imp *m, Val acc, Val sa, Val sb, Val bias)
{
    if (!acc.i)
        return acc;
    sa = per_column(m, sa, "the scale of A", acc);
    sb = per_column(m, sb, "the scale of B", acc);
    if (!sa.i || !sb.i)
        return (Val){0};
    Val y = b_binary(&m->b, S_MUL, cast_to(m, acc, DT_F32), b_binary(&m->b, S_MUL, cast_to(m, sa, DT_F32), cast_to(m, sb, DT_F32)));
    Val c = bias.i ? per_column(m, bias, "the bias", acc) : bias;
    return c.i ? b_binary(&m->b, S_ADD, y, cast_to(m, c, DT_F32)) : bias.i ? c : y;
}

static bool matrices(Imp *m, Val a, Val b)
{
    if (rank_of(m, a) && rank_of(m, b) > 1)
        return true;
    ERR(m, "E0203", "A of rank %d, B of rank %d", rank_of(m, a), rank_of(m, b));
    return false;
}

void imp_matmulinteger16(Imp *m)
{
    DType t = dtype_of(m, m->in[0]), u = dtype_of(m, m->in[1]);
    if ((t != DT_I16 && t != DT_U16) || t != u) {
        ERR(m, "E0204", "expected two operands of i16 or of u16, got %s and %s", dt_name(t), dt_name(u));
        return;
    }
    DType acc = t == DT_I16 ? DT_I32 : DT_U32;
    result(m, 0, matmul(m, m->in[0], m->in[1], acc, acc));
}

void imp_matmulintegertofloat(Imp *m)
{
    if (!eight_bits(m, 0, "A") || !eight_bits(m, 1, "B") || !zero_ok(m, 4, 0) || !zero_ok(m, 5, 1) || !matrices(m, m->in[0], m->in[1]))
        return;
    Val a = centred(m, m->in[0], operand(m, 4)), b = centred(m, m->in[1], operand(m, 5));
    result(m, 0, cast_to(m, scaled(m, matmul(m, a, b, DT_I32, DT_I32), m->in[2], m->in[3], operand(m, 6)), dtype_of(m, m->in[2])));
}

/* A is quantised to u8 by the range of its values, as in DynamicQuantizeLinear. */
void imp_dynquantmatmul(Imp *m)
{
    Val q[3];
    if (!eight_bits(m, 1, "B") || !zero_ok(m, 3, 1) || !matrices(m, m->in[0], m->in[1]))
        return;
    dynamic_quantize(m, m->in[0], q);
    Val b = centred(m, m->in[1], operand(m, 3));
    result(m, 0, scaled(m, matmul(m, centred(m, q[0], q[2]), b, DT_I32, DT_I32), q[1], m->in[2], operand(m, 4)));
}

/* alpha * a_scale * b_scale (/ y_scale) times (A' * B' + C); f32 without y_scale */
void imp_qgemm(Imp *m)
{
    static const char *const specs[2][2] = {{"mk,kn->mn", "mk,nk->mn"}, {"km,kn->mn", "km,nk->mn"}};
    bool ta = attr_i(m, "transA") != 0, tb = attr_i(m, "transB") != 0;
    Val a = m->in[0], b = m->in[3], c = operand(m, 6), s;
    if (!eight_bits(m, 0, "A") || !eight_bits(m, 3, "B") || !zero_ok(m, 2, 0) || !zero_ok(m, 5, 3))
        return;
    if (rank_of(m, a) != 2 || rank_of(m, b) != 2 || (c.i && rank_of(m, c) > 2)) {
        ERR(m, "E0203", "A of rank %d, B of rank %d, C of rank %d", rank_of(m, a), rank_of(m, b), c.i ? rank_of(m, c) : 0);
        return;
    }
    if (c.i && dtype_of(m, c) != DT_I32) {
        ERR(m, "E0204", "operand C: expected i32, got %s", dt_name(dtype_of(m, c)));
        return;
    }
    b_guard(&m->b, G_EQ, dim_of(m, a, ta ? 0 : 1), dim_of(m, b, tb ? 1 : 0), "the inner sizes of A and B differ");
    a = minus_zero_point(m, a, only_element(m, m->in[2]), 0, DT_I32);
    b = minus_zero_point(m, b, m->in[5], tb ? 0 : 1, DT_I32);
    Val y = b_contract(&m->b, specs[ta][tb], a, b, DT_I32, DT_I32);
    y = c.i && y.i ? b_binary(&m->b, S_ADD, y, c) : y;
    if (!y.i)
        return;
    s = b_binary(&m->b, S_MUL, scalar_of(m, DT_F32, attr_f(m, "alpha")), only_element(m, m->in[1]));
    s = b_binary(&m->b, S_MUL, s, per_column(m, m->in[4], "the scale of B", y));
    if (!present(m, 7)) {
        result(m, 0, b_binary(&m->b, S_MUL, cast_to(m, y, DT_F32), s));
        return;
    }
    if (!present(m, 8) || dtype_of(m, m->in[8]) != dtype_of(m, m->in[0])) {
        ERR(m, "E0205", "with y_scale, y_zero_point of A's type is needed");
        return;
    }
    s = b_binary(&m->b, S_DIV, s, only_element(m, m->in[7]));
    DType t = dtype_of(m, m->in[8]);
    Expr q = X2(ADD, X1(RINT, X2(MUL, expr_cast(m->c, xarg(m, 0, DT_I32), DT_F32), xarg(m, 1, DT_F32))), expr_cast(m->c, xarg(m, 2, t), DT_F32));
    result(m, 0, b_map1(&m->b, expr_cast(m->c, q, t), 3, (Val[]){y, s, only_element(m, m->in[8])}));
}

/* Attention whose queries, keys and values are a product of 8-bit integers, scaled; all else is in floats. */
void imp_qattention(Imp *m)
{
    Val x = m->in[0], w = m->in[1], past = operand(m, 8);
    if (!eight_bits(m, 0, "input") || !eight_bits(m, 1, "weight") || !zero_ok(m, 6, 0) || !zero_ok(m, 7, 1))
        return;
    if (rank_of(m, x) != 3 || rank_of(m, w) != 2 || (past.i && rank_of(m, past) != 5) || attr_i(m, "num_heads") < 1) {
        ERR(m, "E0203", "expected input[B,S,D], weight[D,3*H], past[2,B,N,P,H] and a positive num_heads");
        return;
    }
    if (attr_i(m, "do_rotary") || attr_i(m, "past_present_share_buffer")) {
        UNSUP(m, "attributes do_rotary and past_present_share_buffer: ONNX Runtime has them for GPUs only");
        return;
    }
    Val a = centred(m, x, present(m, 6) ? only_element(m, m->in[6]) : (Val){0}), b = centred(m, w, operand(m, 7));
    Val y = scaled(m, matmul(m, a, b, DT_I32, DT_I32), only_element(m, m->in[3]), m->in[4], m->in[2]);
    Dim third = dim_floordiv(m->c, dim_of(m, w, 1), DC(m, 3));
    b_guard(&m->b, G_EQ, dim_muli(m->c, third, 3), dim_of(m, w, 1), "the weight must have columns for queries, keys and values");
    SelfAttention self = {.mask = operand(m, 5), .past = past};
    DType t = dtype_of(m, m->in[2]);
    self_attention(m, cast_to(m, y, t), (Dim[]){third, third, third}, &self, t);
}
