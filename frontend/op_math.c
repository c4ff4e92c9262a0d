/* op_math.c: elementwise operators. Each becomes one map (or a chain of maps for operators with any number of operands);
 * narrow floats are computed in f32 where a formula has more than one step, and rounded once at the end. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

void imp_expr(Imp *m);
void imp_unary(Imp *m);
void imp_binary(Imp *m);
void imp_binary1(Imp *m);
void imp_nary(Imp *m);
#define FN(f) void imp_##f(Imp *m)
FN(isinf); FN(prelu); FN(gelu); FN(shrink); FN(clip_attr); FN(clip); FN(cast); FN(cast_name); FN(cast_like);
FN(bitcast); FN(pow); FN(mod); FN(bitshift); FN(mean_of); FN(where);

void imp_expr(Imp *m) { result(m, 0, map_text(m, m->row->text, (int)m->n->nin, m->in)); }

void imp_unary(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    if (m->row->arg == S_ERF && !dt_is_float(t)) /* Erf-9 allows integers */
        result(m, 0, cast_to(m, b_unary(&m->b, S_ERF, cast_to(m, m->in[0], DT_F64)), t));
    else
        result(m, 0, b_unary(&m->b, (SOp)m->row->arg, m->in[0]));
}

void imp_binary(Imp *m) { result(m, 0, b_binary(&m->b, (SOp)m->row->arg, m->in[0], m->in[1])); }

/* Before version 7: with broadcast=1, the dims of B match those of A from `axis` on (default: the last ones). */
static bool broadcast1(Imp *m, Val a, Val *b)
{
    int ra = rank_of(m, a), rb = rank_of(m, *b), axis = ra - rb;
    if (!attr_i(m, "broadcast")) {
        if (ra == rb)
            return true;
        ERR(m, "E0203", "operands of ranks %d and %d without broadcast=1", ra, rb);
        return false;
    }
    if (attr_has(m, "axis") && !axis_ok(m, attr_i(m, "axis"), ra ? ra : 1, &axis))
        return false;
    if (rb > ra || axis + rb > ra) {
        ERR(m, "E0203", "operand of rank %d does not fit into rank %d at axis %d", rb, ra, axis);
        return false;
    }
    Dim d[MAX_RANK];
    dims_of(m, *b, d);
    int n = rb;
    for (; axis + n < ra; n++)
        d[n] = DC(m, 1);
    *b = reshape_to(m, *b, n, d);
    return true;
}

void imp_binary1(Imp *m)
{
    if (broadcast1(m, m->in[0], &m->in[1]))
        imp_binary(m);
}

/* op(op(x0, x1), x2).. */
static Val chain(Imp *m, SOp op)
{
    Val v = operand(m, 0);
    for (uint32_t i = 1; i < m->n->nin; i++)
        v = b_binary(&m->b, op, v, m->in[i]);
    return v;
}

void imp_nary(Imp *m) { result(m, 0, chain(m, (SOp)m->row->arg)); }

/* sum / n */
void imp_mean_of(Imp *m)
{
    Val s = chain(m, S_ADD);
    if (s.i)
        result(m, 0, b_binary(&m->b, S_DIV, s, scalar_of(m, dtype_of(m, s), m->n->nin)));
}

void imp_isinf(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    bool neg = attr_i(m, "detect_negative") != 0, pos = attr_i(m, "detect_positive") != 0;
    Expr a = xarg(m, 0, t), e;
    if (neg && pos)
        e = X1(ISINF, a);
    else if (neg || pos)
        e = X2(AND, X1(ISINF, a), pos ? X2(GT, a, xf(m, t, 0)) : X2(LT, a, xf(m, t, 0)));
    else
        e = expr_int(m->c, DT_BOOL, 0);
    Dim d[MAX_RANK];
    dims_of(m, m->in[0], d);
    result(m, 0, map_over(m, e, 1, m->in, rank_of(m, m->in[0]), d));
}

/* x < 0 ? slope*x : x; before version 7 a slope of one dimension runs along the channels */
void imp_prelu(Imp *m)
{
    int rank = rank_of(m, m->in[0]);
    if (m->n->version < 7 && rank_of(m, m->in[1]) == 1 && rank > 1 && !dim_is(m->c, dim_of(m, m->in[1], 0), 1))
        m->in[1] = along(m, m->in[1], rank, 1);
    result(m, 0, map_text(m, "select(a < 0, b * a, a)", 2, m->in));
}

void imp_gelu(Imp *m)
{
    result(m, 0, map_text(m, attr_is(m, "approximate", "tanh")
        ? "a * ((tanh((a + a * a * a * 0.044715) * 0.7978845608028654) + 1) * 0.5)"
        : "a * ((erf(a / 1.4142135623730951) + 1) * 0.5)", 1, m->in));
}

/* x < -lambd ? x + bias : x > lambd ? x - bias : 0 */
void imp_shrink(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    Val x = dt_is_float(t) ? m->in[0] : cast_to(m, m->in[0], DT_F64);
    Val y = map_text(m, "select(a < 0 - $lambd, a + $bias, select(a > $lambd, a - $bias, 0))", 1, &x);
    result(m, 0, cast_to(m, y, t));
}

static void clip(Imp *m, Val lo, Val hi)
{
    Val in[3] = {m->in[0]};
    int n = 1;
    Expr e = xarg(m, 0, dtype_of(m, in[0]));
    if (lo.i)
        e = X2(MAX, e, arg_or_const(m, lo, in, &n));
    if (hi.i)
        e = X2(MIN, e, arg_or_const(m, hi, in, &n));
    Dim d[MAX_RANK];
    dims_of(m, in[0], d);
    result(m, 0, lo.i || hi.i ? map_over(m, e, n, in, rank_of(m, in[0]), d) : in[0]);
}

void imp_clip_attr(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    bool always = m->row->since >= 6; /* the defaults are the limits of f32 */
    clip(m, always || attr_has(m, "min") ? scalar_of(m, t, attr_f(m, "min")) : (Val){0},
         always || attr_has(m, "max") ? scalar_of(m, t, attr_f(m, "max")) : (Val){0});
}

/* min(max(x, lo), hi): hi wins if lo > hi */
void imp_clip(Imp *m)
{
    Val lim[2] = {operand(m, 1), operand(m, 2)};
    for (int i = 0; i < 2; i++)
        if (lim[i].i && rank_of(m, lim[i]) > 0) {
            if (rank_of(m, lim[i]) > 1 || dim_differ(m->c, dim_of(m, lim[i], 0), DC(m, 1))) {
                ERR(m, "E0203", "%s: expected a scalar, got rank %d", i ? "max" : "min", rank_of(m, lim[i]));
                return;
            }
            lim[i] = only_element(m, lim[i]);
        }
    clip(m, lim[0], lim[1]);
}

/* ---- conversions */

/* Overflow of the 8-bit floats: values from `limit` on (after rounding) become infinite or NaN without saturation. */
static const struct { DType t; double max, limit; bool tie_up, inf; } f8[] = {
    {DT_F8E4M3, 448, 464, false, false},
    {DT_F8E4M3Z, 240, 248, true, false},
    {DT_F8E5M2, 57344, 61440, true, true},
    {DT_F8E5M2Z, 57344, 61440, true, false},
};

/* f8e8m0 holds powers of two: the exponent, rounded by what is below it. */
static Val cast_e8m0(Imp *m, Val x, bool saturate, const char *mode)
{
    x = cast_to(m, x, DT_F32);
    Expr bits = X2(AND, expr_bitcast(m->c, xarg(m, 0, DT_F32), DT_U32), expr_int(m->c, DT_U32, 0x7fffffff));
    Expr ex = X2(SHR, bits, expr_int(m->c, DT_U32, 23)), man = X2(AND, bits, expr_int(m->c, DT_U32, 0x7fffff));
    Expr up = !strcmp(mode, "down") ? expr_int(m->c, DT_BOOL, 0)
            : !strcmp(mode, "up") ? X2(NE, man, expr_int(m->c, DT_U32, 0))
                                  : X2(GE, man, expr_int(m->c, DT_U32, 0x400000));
    Expr top = expr_int(m->c, DT_U32, 254);
    Expr can = saturate ? X2(LT, ex, top) : X2(LE, ex, top);
    Expr r = X3(SELECT, X2(AND, up, can), X2(ADD, ex, expr_int(m->c, DT_U32, 1)), ex);
    if (saturate) /* infinity becomes the largest number, NaN stays */
        r = X3(SELECT, X1(ISINF, xarg(m, 0, DT_F32)), top, r);
    return b_map1(&m->b, expr_bitcast(m->c, expr_cast(m->c, r, DT_U8), DT_F8E8M0), 1, &x);
}

Expr expr_f8(Imp *m, Expr a, DType t, bool saturate)
{
    DType w = (DType)expr_info(m->c, a)->dtype;
    size_t k = 0, n = sizeof f8 / sizeof *f8;
    while (k < n && f8[k].t != t)
        k++;
    if (k == n) /* f4e2m1 has no infinities and no NaN */
        return expr_cast(m->c, a, t);
    if (saturate)
        return expr_cast(m->c, X2(MIN, X2(MAX, a, xf(m, w, -f8[k].max)), xf(m, w, f8[k].max)), t);
    Expr mag = X1(ABS, a), lim = xf(m, w, f8[k].limit);
    Expr over = f8[k].tie_up ? X2(GE, mag, lim) : X2(GT, mag, lim);
    /* conversion saturates infinities, so they are written by their bits: 0 11111 00 */
    Expr inf = expr_bitcast(m->c, expr_int(m->c, DT_U8, 0x7c), t), low = expr_bitcast(m->c, expr_int(m->c, DT_U8, 0xfc), t);
    Expr big = f8[k].inf ? X3(SELECT, X2(LT, a, xf(m, w, 0)), low, inf) : xf(m, t, NAN);
    return X3(SELECT, over, big, expr_cast(m->c, a, t));
}

static Val cast(Imp *m, Val x, DType t)
{
    DType s = dtype_of(m, x);
    if (s == t || !t)
        return t ? x : (Val){0};
    if ((s == DT_STR || t == DT_STR) && s != DT_C64 && s != DT_C128 && t != DT_C64 && t != DT_C128)
        return cast_string(m, x, t);
    if (s == DT_C64 || s == DT_C128 || t == DT_C64 || t == DT_C128) {
        UNSUP(m, "conversion from %s to %s", dt_name(s), dt_name(t));
        return (Val){0};
    }
    bool saturate = !row_has_attr(m->row, "saturate") || attr_i(m, "saturate");
    if (t == DT_F8E8M0)
        return cast_e8m0(m, x, saturate, row_has_attr(m->row, "round_mode") ? attr_s(m, "round_mode") : "up");
    if (dt_is_float(t) && dt_bits(t) == 8) {
        DType w = s == DT_F64 ? DT_F64 : DT_F32;
        x = cast_to(m, x, w);
        return b_map1(&m->b, expr_f8(m, xarg(m, 0, w), t, saturate), 1, &x);
    }
    if (dt_is_float(s) && dt_is_int(t) && dt_bits(t) < 8) /* wraps, as its low bits */
        x = b_cast(&m->b, x, DT_I32);
    return b_cast(&m->b, x, t);
}

void imp_cast(Imp *m) { result(m, 0, cast(m, m->in[0], attr_dtype(m, "to", DT_NONE))); }

void imp_cast_like(Imp *m) { result(m, 0, cast(m, m->in[0], dtype_of(m, m->in[1]))); }

/* Cast-1 names the type in words. */
void imp_cast_name(Imp *m)
{
    static const struct { const char *name; DType t; } names[] = {
        {"FLOAT", DT_F32}, {"DOUBLE", DT_F64}, {"FLOAT16", DT_F16}, {"INT8", DT_I8}, {"INT16", DT_I16},
        {"INT32", DT_I32}, {"INT64", DT_I64}, {"UINT8", DT_U8}, {"UINT16", DT_U16}, {"UINT32", DT_U32},
        {"UINT64", DT_U64}, {"BOOL", DT_BOOL}, {"STRING", DT_STR},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (attr_is(m, "to", names[i].name)) {
            result(m, 0, cast(m, m->in[0], names[i].t));
            return;
        }
    ERR(m, "E0202", "attribute to: \"%.60s\" is no element type", attr_s(m, "to"));
}

void imp_bitcast(Imp *m)
{
    DType s = dtype_of(m, m->in[0]), t = attr_dtype(m, "to", DT_NONE);
    if (!t)
        return;
    if (s == DT_STR || t == DT_STR || dt_bits(s) != dt_bits(t)) {
        ERR(m, "E0204", "cannot take the bits of %s as %s", dt_name(s), dt_name(t));
        return;
    }
    result(m, 0, s == t ? m->in[0] : b_map1(&m->b, expr_bitcast(m->c, xarg(m, 0, s), t), 1, m->in));
}

/* ---- two and three operands */

/* x^y in the type of x; an integer base with a fractional exponent goes through f64 */
/* Integers to the power of floats: of exponents that are whole numbers exactly, of others rounded towards zero. */
static Val whole_pow(Imp *m, Val x, Val y)
{
    DType t = dtype_of(m, x);
    Val in[2] = {cast_to(m, x, DT_F64), cast_to(m, y, DT_F64)};
    Val whole = map_text(m, "a == floor(a) & a >= 0 & a < 4294967296", 1, &in[1]);
    Val exact = b_binary(&m->b, S_POW, cast_to(m, x, DT_I64), cast_to(m, in[1], DT_I64));
    return b_select(&m->b, whole, cast_to(m, exact, t), cast_to(m, b_binary(&m->b, S_POW, in[0], in[1]), t));
}

void imp_pow(Imp *m)
{
    Val x = m->in[0], y = m->in[1];
    if (m->n->version < 7 && !broadcast1(m, x, &y))
        return;
    DType tx = dtype_of(m, x), ty = dtype_of(m, y), t = tx;
    static const struct { double y; const char *text; } small[] = {
        {1, "a"}, {2, "a * a"}, {3, "a * a * a"}, {0.5, "sqrt(a)"}, {-1, "1 / a"}};
    Scalar s;
    if (dt_is_float(tx) && rank_of(m, y) <= rank_of(m, x) && const_scalar(m, y, &s)) {
        double e = dt_is_float(ty) ? s.f : (double)s.i;
        for (size_t i = 0; i < sizeof small / sizeof *small; i++)
            if (small[i].y == e && rank_of(m, y) == 0) {
                result(m, 0, map_text(m, small[i].text, 1, &x));
                return;
            }
    }
    if (dt_is_int(tx) && dt_is_float(ty)) {
        result(m, 0, whole_pow(m, x, y));
        return;
    }
    if (dt_is_float(tx) && dt_bits(tx) < 32 && tx != ty)
        t = DT_F32;
    result(m, 0, cast_to(m, b_binary(&m->b, S_POW, cast_to(m, x, t), cast_to(m, y, t)), tx));
}

/* fmod=0: sign of the divisor, integers only; fmod=1: sign of the dividend */
void imp_mod(Imp *m)
{
    bool fmod = attr_i(m, "fmod") != 0;
    if (!fmod && dt_is_float(dtype_of(m, m->in[0]))) {
        ERR(m, "E0202", "attribute fmod: expected 1 for %s, got 0", dt_name(dtype_of(m, m->in[0])));
        return;
    }
    result(m, 0, b_binary(&m->b, fmod ? S_REM : S_MOD, m->in[0], m->in[1]));
}

void imp_bitshift(Imp *m)
{
    result(m, 0, b_binary(&m->b, attr_is(m, "direction", "LEFT") ? S_SHL : S_SHR, m->in[0], m->in[1]));
}

void imp_where(Imp *m)
{
    DType x = dtype_of(m, m->in[1]), y = dtype_of(m, m->in[2]);
    if (x != y) {
        ERR(m, "E0204", "operand Y: expected %s, as operand X, got %s", dt_name(x), dt_name(y));
        return;
    }
    result(m, 0, b_select(&m->b, m->in[0], m->in[1], m->in[2]));
}
