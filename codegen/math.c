/* math.c: every operation of scalar.def, and every cast, as whitelisted Lir: total integer division, NaN-propagating min and
 * max, shifts of any width, saturating float to integer, 8-bit floats. Values are in register types (emit_value.c). */
#include <math.h>

#include "math_fn.h"

static M context(Lir *l, const Target *t, LVal v) {
    LTy ty = lir_type(l, v);
    return (M){.l = l, .t = t, .ty = ty.dt, .lanes = ty.lanes};
}

static LVal in_type(Lir *l, LVal v, DType t) { return lir_type(l, v).dt == t ? v : lir_cast(l, v, t); }

/* Integers narrower than 32 bits are divided as i32. */
static DType div_type(DType t) {
    switch (t) {
    case DT_I64: case DT_U64: return DT_I64;
    case DT_U32: return DT_U32;
    default: return DT_I32;
    }
}

/* By a product with 1 / y, in a type of floats with 6 bits more than x has: what is added to |x| is less than 1, and moves quotients up by more than
 * roundings move them down. Divisors that are the same in a loop are inverted once. */
static LVal short_divide(const M *m, DType f, LVal x, LVal y) {
    M w = *m;
    w.ty = f;
    LVal by = m_div(&w, m_f(&w, 1), lir_cast(m->l, y, f)), a = lir_cast(m->l, x, f), half = m_f(&w, 0.5);
    if (dt_is_signed(m->ty)) half = m_copysign(&w, half, a);
    return lir_cast(m->l, m_mul(&w, m_add(&w, a, half), by), m->ty);
}

/* Of i64, in f64: the nearest quotient to 50 bits, plus that of what it leaves, leaves y / 2 at most (and a little); where the sign of that is not
 * x's, the truncated quotient is one nearer to zero. The inverse is short of 1 / y, so that quotients are below 2^63. */
static LVal long_divide(const M *m, LVal x, LVal y) {
    Lir *l = m->l;
    M w = *m;
    w.ty = DT_F64;
    LVal by = m_div(&w, m_f(&w, 1 - 0x1p-52), lir_cast(l, y, DT_F64)), q = {0}, rest = x, zero = m_i(m, DT_I64, 0);
    for (int i = 0; i < 2; i++) {
        LVal part = lir_cast(l, lir_op1(l, S_RINT, m_mul(&w, lir_cast(l, rest, DT_F64), by)), DT_I64);
        rest = m_sub(m, rest, m_mul(m, part, y));
        q = i ? m_add(m, q, part) : part;
    }
    LVal some = m_cmp(m, S_NE, rest, zero), over = lir_op2(l, S_AND, some, m_cmp(m, S_LT, lir_op2(l, S_XOR, rest, x), zero));
    LVal back = m_sel(m, m_cmp(m, S_LT, lir_op2(l, S_XOR, x, y), zero), m_i(m, DT_I64, 1), m_i(m, DT_I64, -1));
    return m_sel(m, over, m_add(m, q, back), q);
}

/* Truncated quotient of values of type t, where there is one. CPUs have no instructions that divide vectors of integers; those of constants are
 * products. */
static LVal divide(const M *m, DType t, LVal x, LVal y) {
    int64_t by;
    bool given = lir_all_const(m->l, y, &by), wide = dt_bits(t) == 64;
    if (m->lanes == 1 || given || !(m->t->flags & F_SIMD) || (wide && !(m->t->flags & F_AVX512))) return lir_op2(m->l, S_DIV, x, y);
    return wide ? long_divide(m, x, y) : short_divide(m, dt_bits(t) <= 16 ? DT_F32 : DT_F64, x, y);
}

/* Unsigned 64-bit quotient from the signed one (Hacker's Delight 9-3). */
static LVal udiv64(const M *m, LVal x, LVal y) {
    LVal one = m_i(m, DT_I64, 1), zero = m_i(m, DT_I64, 0);
    LVal big = m_cmp(m, S_LT, y, zero);
    LVal safe = m_sel(m, big, one, y);
    LVal q = lir_op2(m->l, S_SHL, divide(m, DT_I64, lir_shru(m->l, x, one), safe), one);
    LVal r = m_sub(m, x, m_mul(m, q, y));
    LVal fix = m_sel(m, lir_ltu(m->l, r, y), zero, one);
    LVal direct = m_sel(m, lir_ltu(m->l, x, y), zero, one);
    return m_sel(m, big, direct, m_add(m, q, fix));
}

/* Truncated quotient of values of type t with x/0 = 0, MIN/-1 = MIN; operands in a type that holds them (i32, u32, i64; u64 bits in i64). */
static LVal quotient(const M *m, DType t, LVal x, LVal y) {
    LVal zero = m_i(m, m->ty, 0), one = m_i(m, m->ty, 1), minus = m_i(m, m->ty, -1);
    LVal none = m_cmp(m, S_EQ, y, zero);
    if (!dt_is_signed(t)) {
        LVal some = m_sel(m, none, one, y);
        return m_sel(m, none, zero, t == DT_U64 ? udiv64(m, x, some) : divide(m, t, x, some));
    }
    LVal neg = m_cmp(m, S_EQ, y, minus);
    LVal q = divide(m, t, x, m_sel(m, lir_op2(m->l, S_OR, none, neg), one, y));
    q = m_sel(m, neg, m_sub(m, zero, x), q);
    return m_sel(m, none, zero, q);
}

static LVal int_div(Lir *l, const Target *t, SOp op, LVal a, LVal b) {
    DType ty = lir_type(l, a).dt, wide = div_type(ty);
    M m = context(l, t, a);
    bool natural = !dt_is_signed(ty);
    LVal x = in_type(l, a, wide), y = in_type(l, b, wide);
    int64_t by;
    if ((op == S_FDIV || op == S_MOD) && ty != DT_U64 && lir_all_const(l, y, &by) && by > 0 && !(by & (by - 1))) /* a shift, a mask */
        return in_type(l, lir_op2(l, op, x, y), ty);
    m.ty = wide;
    LVal zero = m_i(&m, wide, 0), q = quotient(&m, ty, x, y);
    LVal rem = m_sub(&m, x, m_mul(&m, q, y));
    LVal none = m_cmp(&m, S_EQ, y, zero), r;
    if (op == S_DIV || (op == S_FDIV && natural)) r = q;
    else if (op == S_REM || natural) r = m_sel(&m, none, zero, rem);
    else {
        /* the remainder's sign differs from the divisor's: one step down */
        LVal some = m_cmp(&m, S_NE, rem, zero), off = m_cmp(&m, S_LT, lir_op2(l, S_XOR, rem, y), zero);
        off = lir_op2(l, S_AND, some, off);
        off = lir_op2(l, S_AND, off, lir_op1(l, S_NOT, none));
        if (op == S_FDIV) r = m_sub(&m, q, m_sel(&m, off, m_i(&m, wide, 1), zero));
        else r = m_sel(&m, none, zero, m_sel(&m, off, m_add(&m, rem, y), rem));
    }
    return in_type(l, r, ty);
}

enum { REM_BITS = 24 }; /* of a quotient */

/* r - trunc(r / y) * y for 0 <= r < 2^(1 + REM_BITS) y in f64, exact without FMA: the quotient, which may have been rounded up, by the upper half of
 * y and by the rest are products of 53 bits at most; the upper half is rounded up, so what is between the two is less than y. */
static LVal rem_step(const M *w, LVal r, LVal y) {
    enum { HALF = 27 };
    LVal bits = m_add(w, lir_bitcast(w->l, y, DT_I64), m_i(w, DT_I64, (1 << HALF) - 1));
    LVal hi = lir_bitcast(w->l, lir_op2(w->l, S_AND, bits, m_i(w, DT_I64, -(1 << HALF))), DT_F64);
    LVal q = lir_op1(w->l, S_TRUNC, m_div(w, r, y));
    LVal most = m_sub(w, r, m_mul(w, q, hi)), rest = m_sub(w, most, m_mul(w, q, m_sub(w, y, hi)));
    LVal below = m_cmp(w, S_LT, rest, m_f(w, 0));
    return m_sel(w, below, m_add(w, rest, y), rest);
}

/* In f64, from the top of the quotient down, REM_BITS at a time, where it has more. */
static LVal float_rem(const M *m, SOp op, LVal a, LVal b) {
    const int steps = m->ty == DT_F64 ? 88 : 12; /* that many bits: the largest number has 2^2098 (f64), 2^277 (f32, bf16) times the smallest */
    Lir *l = m->l;
    M w = *m;
    w.ty = DT_F64;
    LVal x = in_type(l, a, DT_F64), y = in_type(l, b, DT_F64);
    LVal ay = m_abs(&w, y), zero = m_f(&w, 0), r = m_abs(&w, x);
    LIf large = lir_if(l, lir_any(l, m_cmp(&w, S_GE, m_div(&w, r, ay), m_f(&w, 1 << REM_BITS))), 1);
    LFor f = lir_for(l, lir_i64(l, 1), lir_i64(l, steps), lir_i64(l, 1), 1, &r);
    LVal up = lir_cast(l, lir_muli(l, lir_sub(l, lir_i64(l, steps), f.iv), REM_BITS), DT_F64);
    LVal by = lir_scalef(l, ay, lir_splat(l, up, w.lanes));
    LVal finite = m_cmp(&w, S_LT, by, m_f(&w, 0x1p1023)), less, next = m_sel(&w, finite, rem_step(&w, f.c[0], by), f.c[0]);
    lir_for_end(l, &f, &next, &less);
    lir_else(l, &large, &less);
    lir_endif(l, &large, &r, &r);
    r = rem_step(&w, r, ay);
    r = m_copysign(&w, r, x);
    LVal inf = m_cmp(&w, S_EQ, ay, m_f(&w, INFINITY));
    inf = lir_op2(m->l, S_AND, inf, m_cmp(&w, S_LT, m_abs(&w, x), m_f(&w, INFINITY)));
    r = m_sel(&w, inf, x, r);
    LVal none = m_cmp(&w, S_EQ, r, zero);
    r = m_sel(&w, none, m_copysign(&w, zero, x), r);
    if (op == S_MOD) {
        LVal some = m_cmp(&w, S_NE, r, zero), sign = m_copysign(&w, m_f(&w, 1), r);
        LVal off = m_cmp(&w, S_LT, m_mul(&w, sign, m_copysign(&w, m_f(&w, 1), y)), zero);
        off = lir_op2(m->l, S_AND, some, off);
        r = m_sel(&w, off, m_add(&w, r, y), r);
    }
    return in_type(m->l, r, m->ty);
}

static LVal float_minmax(const M *m, SOp op, LVal a, LVal b) {
    /* a > b ? a : b yields b if unordered, and of two zeros; a NaN in a must win as well */
    LVal v = lir_op2(m->l, op, a, b);
    return m_sel(m, m_cmp(m, S_NE, a, a), a, v);
}

static LVal int_pow(const M *m, LVal x, LVal y) { /* by squaring; negative exponents: 1/x truncated */
    Lir *l = m->l;
    LVal one = m_i(m, m->ty, 1), zero = m_i(m, m->ty, 0);
    LVal c[3] = {one, x, y};
    LFor f = lir_for(l, lir_i64(l, 0), lir_i64(l, 63), lir_i64(l, 1), 3, c);
    LVal odd = m_cmp(m, S_NE, lir_op2(l, S_AND, f.c[2], one), zero);
    LVal next[3] = {m_sel(m, odd, m_mul(m, f.c[0], f.c[1]), f.c[0]), m_mul(m, f.c[1], f.c[1]), lir_shru(l, f.c[2], one)};
    lir_for_end(l, &f, next, c);
    if (!dt_is_signed(m->ty)) return c[0];
    LVal inverse = m_sel(m, m_cmp(m, S_EQ, x, one), one, zero);
    LVal minus = m_i(m, m->ty, -1), odd_y = m_cmp(m, S_NE, lir_op2(l, S_AND, y, one), zero);
    LVal unit = m_cmp(m, S_EQ, x, minus);
    inverse = m_sel(m, unit, m_sel(m, odd_y, minus, one), inverse);
    return m_sel(m, m_cmp(m, S_LT, y, zero), inverse, c[0]);
}

static LVal pow_op(const M *m, LVal x, LVal y) {
    if (!dt_is_float(m->ty)) return int_pow(m, x, y);
    M w = *m;
    w.ty = DT_F64;
    x = in_type(m->l, x, DT_F64), y = in_type(m->l, y, DT_F64);
    return in_type(m->l, math_pow(&w, x, y), m->ty);
}

static LVal shift(const M *m, SOp op, LVal a, LVal b) {
    unsigned bits = dt_bits(m->ty);
    LVal width = m_i(m, m->ty, (int64_t)bits), zero = m_i(m, m->ty, 0);
    LVal in = lir_ltu(m->l, b, width), by = m_sel(m, in, b, op == S_SHR && dt_is_signed(m->ty) ? m_i(m, m->ty, (int64_t)bits - 1) : zero);
    LVal v = op == S_SHL || dt_is_signed(m->ty) ? lir_op2(m->l, op, a, by) : lir_shru(m->l, a, by);
    return op == S_SHR && dt_is_signed(m->ty) ? v : m_sel(m, in, v, zero);
}

static LVal sign_op(const M *m, LVal x) {
    bool f = dt_is_float(m->ty);
    LVal zero = f ? m_f(m, 0) : m_i(m, m->ty, 0), one = f ? m_f(m, 1) : m_i(m, m->ty, 1);
    if (!f && !dt_is_signed(m->ty)) return m_sel(m, m_cmp(m, S_EQ, x, zero), zero, one);
    LVal minus = f ? m_f(m, -1) : m_i(m, m->ty, -1);
    LVal rest = m_sel(m, m_cmp(m, S_LT, x, zero), minus, x);
    return m_sel(m, m_cmp(m, S_GT, x, zero), one, rest);
}

LVal math_op(Lir *l, const Target *t, SOp op, DType ty, int n, const LVal *a) {
    bool f = dt_is_float(ty);
    M m = {.l = l, .t = t, .ty = ty, .lanes = lir_type(l, a[op == S_SELECT ? 1 : 0]).lanes};
    if (ty == DT_BOOL) { /* bool arithmetic: only what has a meaning on two values */
        switch (op) {
        case S_MIN: case S_MUL: return lir_op2(l, S_AND, a[0], a[1]);
        case S_MAX: case S_ADD: return lir_op2(l, S_OR, a[0], a[1]);
        case S_EQ: return lir_op1(l, S_NOT, lir_op2(l, S_XOR, a[0], a[1]));
        case S_NE: case S_SUB: return lir_op2(l, S_XOR, a[0], a[1]);
        case S_LT: return lir_op2(l, S_AND, lir_op1(l, S_NOT, a[0]), a[1]);
        case S_GT: return lir_op2(l, S_AND, a[0], lir_op1(l, S_NOT, a[1]));
        case S_LE: return lir_op2(l, S_OR, lir_op1(l, S_NOT, a[0]), a[1]);
        case S_GE: return lir_op2(l, S_OR, a[0], lir_op1(l, S_NOT, a[1]));
        default: break;
        }
    }
    switch (op) {
    case S_DIV: return f ? lir_op2(l, S_DIV, a[0], a[1]) : int_div(l, t, op, a[0], a[1]);
    case S_REM: case S_MOD: return f ? float_rem(&m, op, a[0], a[1]) : int_div(l, t, op, a[0], a[1]);
    case S_FDIV: return int_div(l, t, op, a[0], a[1]);
    case S_POW: return pow_op(&m, a[0], a[1]);
    case S_MIN: case S_MAX: return f ? float_minmax(&m, op, a[0], a[1]) : lir_op2(l, op, a[0], a[1]);
    case S_SIGN: return sign_op(&m, a[0]);
    case S_ABS: return f || dt_is_signed(ty) ? lir_op1(l, S_ABS, a[0]) : a[0];
    case S_FLOOR: case S_CEIL: case S_TRUNC: case S_RINT: case S_SQRT: return lir_op1(l, op, a[0]);
    case S_RSQRT: return m_div(&m, m_f(&m, 1), lir_op1(l, S_SQRT, a[0]));
    case S_RECIP: return m_div(&m, m_f(&m, 1), a[0]);
    case S_FMA: return lir_fma(l, a[0], a[1], a[2]);
    case S_ISNAN: return m_cmp(&m, S_NE, a[0], a[0]);
    case S_ISINF: return m_cmp(&m, S_EQ, m_abs(&m, a[0]), m_f(&m, INFINITY));
    case S_SHL: case S_SHR: return shift(&m, op, a[0], a[1]);
    case S_EXP: case S_EXPM1: case S_LOG: case S_LOG1P: case S_SIN: case S_COS: case S_TAN: case S_ASIN: case S_ACOS: case S_ATAN:
    case S_SINH: case S_COSH: case S_TANH: case S_ASINH: case S_ACOSH: case S_ATANH: case S_ERF: case S_SIGMOID: return math_fn(&m, op, a[0]);
    default: break;
    }
    return n == 1 ? lir_op1(l, op, a[0]) : n == 2 ? lir_op2(l, op, a[0], a[1]) : lir_op3(l, op, a[0], a[1], a[2]);
}

/* ---- casts ---- */

/* Adding 1.5 * 2^23 rounds to even and leaves the integer in the low bits. z is added there, too: all of it but one moves no tie. */
LVal math_cast_rint(Lir *l, const Target *t, LVal v, int z, DType to) {
    unsigned bits = dt_bits(to);
    bool sg = dt_is_signed(to);
    double lo = sg ? -ldexp(1, (int)bits - 1) : 0, hi = ldexp(1, (int)bits - (sg ? 1 : 0)) - 1;
    int odd = z & 1;
    M m = context(l, t, v);
    LVal x = lir_op2(l, S_MIN, lir_op2(l, S_MAX, v, m_f(&m, lo - z)), m_f(&m, hi - z));
    if (sg) x = m_sel(&m, m_cmp(&m, S_NE, v, v), m_f(&m, -z), x);
    x = lir_bitcast(l, m_add(&m, x, m_f(&m, 0x1.8p23 + z - odd)), DT_I32);
    if (odd) x = lir_op2(l, S_ADD, x, m_i(&m, DT_I32, 1));
    return in_type(l, x, dt_is_packed(to) ? (sg ? DT_I8 : DT_U8) : to);
}

/* The integer part of x, which fits. AVX2 has an instruction for that, but not of lanes: they are two halves of 32 bits, the lower one not negative,
 * and each is in the low bits of a float that is large enough. */
static LVal to_i64(const M *m, LVal x) {
    Lir *l = m->l;
    if (m->lanes == 1 || !(m->t->flags & F_AVX2) || m->t->flags & F_AVX512) return lir_cast(l, x, DT_I64);
    M w = *m;
    w.ty = DT_F64;
    LVal whole = lir_op1(l, S_TRUNC, in_type(l, x, DT_F64)), high = lir_op1(l, S_FLOOR, m_mul(&w, whole, m_f(&w, 0x1p-32)));
    LVal low = m_add(&w, m_fma(&w, high, m_f(&w, -0x1p32), whole), m_f(&w, 0x1p52));
    low = lir_op2(l, S_XOR, lir_bitcast(l, low, DT_I64), m_i(&w, DT_I64, 0x433ll << 52));
    high = lir_bitcast(l, m_add(&w, high, m_f(&w, 0x1.8p52)), DT_I64);
    return lir_op2(l, S_OR, lir_op2(l, S_SHL, high, m_i(&w, DT_I64, 32)), low);
}

/* Between the least and the greatest value that fits: max and min give their second operand if unordered, so NaN becomes the lower bound, which is 0
 * for unsigned types. Where the greatest integer is no float, the greatest float below it stands for it until it is an integer. */
static LVal float_to_int(const M *m, LVal v, DType to) {
    Lir *l = m->l;
    const DType from = lir_type(l, v).dt, reg = dt_is_packed(to) ? (dt_is_signed(to) ? DT_I8 : DT_U8) : to;
    const int bits = (int)dt_bits(to), digits = from == DT_F32 ? 24 : 53;
    const bool sg = dt_is_signed(to), exact = bits - sg <= digits;
    const double lo = sg ? -ldexp(1, bits - 1) : 0, end = ldexp(1, bits - sg);
    M w = *m;
    w.ty = from;
    LVal x = lir_op2(l, S_MIN, lir_op2(l, S_MAX, v, m_f(&w, lo)), m_f(&w, exact ? end - 1 : end - ldexp(end, -digits))), i;
    if (sg && exact) x = m_sel(&w, m_cmp(&w, S_NE, v, v), m_f(&w, 0), x);
    if (to == DT_U64) { /* halves above 2^63 */
        LVal top = m_cmp(&w, S_GE, x, m_f(&w, 0x1p63));
        i = to_i64(&w, m_sel(&w, top, m_sub(&w, x, m_f(&w, 0x1p63)), x));
        i = lir_op2(l, S_XOR, i, m_sel(&w, top, m_i(m, DT_I64, INT64_MIN), m_i(m, DT_I64, 0)));
    } else {
        i = bits - sg > 31 ? to_i64(&w, x) : lir_cast(l, x, DT_I32);
    }
    i = in_type(l, i, reg);
    if (exact) return i;
    i = m_sel(m, m_cmp(&w, S_GE, v, m_f(&w, end)), m_i(m, reg, bits == 64 ? (sg ? INT64_MAX : -1) : (1ll << (bits - sg)) - 1), i);
    return sg ? m_sel(m, m_cmp(&w, S_NE, v, v), m_i(m, reg, 0), i) : i;
}

typedef struct F8 { int ebits, mbits, bias; bool inf; int max; /* largest finite code */ int nan; bool fnuz; } F8;
static const F8 *f8_of(DType t) {
    static const F8 e4m3 = {4, 3, 7, false, 0x7e, 0x7f, false}, e5m2 = {5, 2, 15, true, 0x7b, 0x7f, false},
                    e4m3z = {4, 3, 8, false, 0x7f, 0x80, true}, e5m2z = {5, 2, 16, false, 0x7f, 0x80, true}, e2m1 = {2, 1, 1, false, 7, 8, false};
    switch (t) {
    case DT_F8E4M3: return &e4m3;
    case DT_F8E5M2: return &e5m2;
    case DT_F8E4M3Z: return &e4m3z;
    case DT_F8E5M2Z: return &e5m2z;
    case DT_F4E2M1: return &e2m1;
    default: return NULL;
    }
}

static LVal f8_to_f32(const M *m, LVal v, const F8 *f) {
    Lir *l = m->l;
    LVal c = lir_cast(l, v, DT_I32), sbit = m_i(m, DT_I32, 1 << (f->ebits + f->mbits));
    LVal mag = lir_op2(l, S_AND, c, m_i(m, DT_I32, (1 << (f->ebits + f->mbits)) - 1));
    LVal e = lir_shru(l, mag, m_i(m, DT_I32, f->mbits)), man = lir_op2(l, S_AND, mag, m_i(m, DT_I32, (1 << f->mbits) - 1));
    M w = *m;
    w.ty = DT_F32;
    LVal normal = lir_op2(l, S_SHL, lir_op2(l, S_ADD, mag, m_i(m, DT_I32, (127 - f->bias) << f->mbits)), m_i(m, DT_I32, 23 - f->mbits));
    normal = lir_bitcast(l, normal, DT_F32);
    LVal small = m_mul(&w, lir_cast(l, man, DT_F32), m_f(&w, ldexp(1, 1 - f->bias - f->mbits)));
    LVal r = m_sel(m, m_cmp(m, S_EQ, e, m_i(m, DT_I32, 0)), small, normal);
    LVal neg = m_cmp(m, S_NE, lir_op2(l, S_AND, c, sbit), m_i(m, DT_I32, 0));
    r = m_sel(m, neg, lir_op1(l, S_NEG, r), r);
    if (f->fnuz) r = m_sel(m, m_cmp(m, S_EQ, c, m_i(m, DT_I32, f->nan)), m_f(&w, NAN), r);
    else if (f->inf) {
        LVal top = m_cmp(m, S_EQ, mag, m_i(m, DT_I32, f->max + 1));
        r = m_sel(m, top, m_sel(m, neg, m_f(&w, -INFINITY), m_f(&w, INFINITY)), r);
        r = m_sel(m, m_cmp(m, S_GT, mag, m_i(m, DT_I32, f->max + 1)), m_f(&w, NAN), r);
    } else if (f->mbits == 3) r = m_sel(m, m_cmp(m, S_EQ, mag, m_i(m, DT_I32, f->nan)), m_f(&w, NAN), r);
    return r;
}

static LVal f32_to_f8(const M *m, LVal v, const F8 *f) { /* nearest even; overflow saturates, infinities stay if there are any */
    Lir *l = m->l;
    LVal bits = lir_bitcast(l, v, DT_I32), mag = lir_op2(l, S_AND, bits, m_i(m, DT_I32, INT32_MAX));
    LVal neg = m_cmp(m, S_LT, bits, m_i(m, DT_I32, 0));
    M w = *m;
    w.ty = DT_F32;
    LVal a = m_abs(&w, v), nan = m_cmp(&w, S_NE, v, v);
    int drop = 23 - f->mbits;
    LVal lsb = lir_op2(l, S_AND, lir_shru(l, mag, m_i(m, DT_I32, drop)), m_i(m, DT_I32, 1));
    LVal rounded = lir_shru(l, lir_op2(l, S_ADD, mag, lir_op2(l, S_ADD, lsb, m_i(m, DT_I32, (1 << (drop - 1)) - 1))), m_i(m, DT_I32, drop));
    LVal normal = lir_op2(l, S_SUB, rounded, m_i(m, DT_I32, (127 - f->bias) << f->mbits));
    double unit = ldexp(1, 1 - f->bias - f->mbits), edge = ldexp(1, 1 - f->bias);
    LVal sub = lir_op1(l, S_RINT, m_mul(&w, a, m_f(&w, 1 / unit)));
    LVal is_sub = m_cmp(&w, S_LT, a, m_f(&w, edge));
    sub = lir_cast(l, m_sel(&w, is_sub, sub, m_f(&w, 0)), DT_I32);
    LVal c = m_sel(m, is_sub, sub, normal);
    c = lir_op2(l, S_MIN, c, m_i(m, DT_I32, f->max));
    LVal huge = m_cmp(&w, S_GE, a, m_f(&w, 1e30));
    c = m_sel(m, huge, m_i(m, DT_I32, f->max), c);
    if (f->inf) c = m_sel(m, m_cmp(&w, S_EQ, a, m_f(&w, INFINITY)), m_i(m, DT_I32, f->max + 1), c);
    LVal sign = m_i(m, DT_I32, 1 << (f->ebits + f->mbits)), zero = m_i(m, DT_I32, 0);
    LVal add = m_sel(m, neg, sign, zero);
    if (f->fnuz) add = m_sel(m, m_cmp(m, S_EQ, c, zero), zero, add); /* no negative zero */
    c = lir_op2(l, S_OR, c, add);
    c = m_sel(m, nan, m_i(m, DT_I32, f->nan), c);
    return lir_cast(l, c, DT_U8);
}

/* f8e8m0: 2^(code - 127), no sign, no zero; rounds up and saturates, 255 is NaN. */
static LVal e8m0_to_f32(const M *m, LVal v) {
    LVal c = lir_cast(m->l, v, DT_I32), b = lir_op2(m->l, S_SHL, c, m_i(m, DT_I32, 23));
    b = m_sel(m, m_cmp(m, S_EQ, c, m_i(m, DT_I32, 0)), m_i(m, DT_I32, 0x00400000), b);
    return lir_bitcast(m->l, m_sel(m, m_cmp(m, S_EQ, c, m_i(m, DT_I32, 255)), m_i(m, DT_I32, 0x7fc00000), b), DT_F32);
}

static LVal f32_to_e8m0(const M *m, LVal v) {
    Lir *l = m->l;
    LVal mag = lir_op2(l, S_AND, lir_bitcast(l, v, DT_I32), m_i(m, DT_I32, INT32_MAX)), zero = m_i(m, DT_I32, 0);
    LVal e = lir_shru(l, mag, m_i(m, DT_I32, 23)), man = lir_op2(l, S_AND, mag, m_i(m, DT_I32, 0x7fffff));
    LVal c = m_add(m, e, m_sel(m, m_cmp(m, S_NE, man, zero), m_i(m, DT_I32, 1), zero));
    c = lir_op2(l, S_MIN, c, m_i(m, DT_I32, 0xfe));
    c = m_sel(m, m_cmp(m, S_LE, mag, m_i(m, DT_I32, 0x00400000)), zero, c);
    return lir_cast(l, m_sel(m, m_cmp(m, S_GT, mag, m_i(m, DT_I32, 0x7f800000)), m_i(m, DT_I32, 0xff), c), DT_U8);
}

LVal math_cast(Lir *l, const Target *t, LVal v, DType from, DType to) {
    (void)t;
    if (from == to) return v;
    M m = {.l = l, .t = t, .ty = from, .lanes = lir_type(l, v).lanes};
    if (from == DT_F8E8M0) {
        LVal x = e8m0_to_f32(&m, lir_type(l, v).dt == DT_U8 ? v : lir_bitcast(l, v, DT_U8));
        return to == DT_F32 ? x : math_cast(l, t, x, DT_F32, to);
    }
    if (to == DT_F8E8M0) {
        LVal x = from == DT_F32 ? v : math_cast(l, t, v, from, DT_F32);
        return lir_bitcast(l, f32_to_e8m0(&m, x), to);
    }
    const F8 *f = f8_of(from), *g = f8_of(to);
    if (f) {
        LVal x = f8_to_f32(&m, lir_type(l, v).dt == DT_U8 ? v : lir_bitcast(l, v, DT_U8), f);
        return to == DT_F32 ? x : math_cast(l, t, x, DT_F32, to);
    }
    if (g) {
        LVal x = from == DT_F32 ? v : math_cast(l, t, v, from, DT_F32);
        LVal c = f32_to_f8(&m, x, g);
        return lir_bitcast(l, c, to);
    }
    if (to == DT_BOOL) {
        if (dt_is_float(from)) {
            LVal x = from == DT_F32 || from == DT_F64 ? v : lir_cast(l, v, DT_F32);
            M w = context(l, t, x);
            return m_cmp(&w, S_NE, x, m_f(&w, 0));
        }
        return m_cmp(&m, S_NE, v, m_i(&m, lir_type(l, v).dt, 0));
    }
    if (dt_is_float(from) && !dt_is_float(to)) {
        LVal x = from == DT_F32 || from == DT_F64 ? v : lir_cast(l, v, DT_F32);
        return float_to_int(&m, x, to);
    }
    if (from == DT_U64 && dt_is_float(to)) { /* high and low halves, added in f64 */
        M w = m;
        w.ty = DT_F64;
        LVal hi = lir_cast(l, lir_cast(l, lir_shru(l, v, m_i(&m, DT_U64, 32)), DT_I64), DT_F64);
        LVal lo = lir_cast(l, lir_cast(l, lir_op2(l, S_AND, v, m_i(&m, DT_U64, 0xffffffff)), DT_I64), DT_F64);
        LVal x = m_fma(&w, hi, m_f(&w, 0x1p32), lo);
        return to == DT_F64 ? x : lir_cast(l, x, to);
    }
    if (dt_is_packed(to)) { /* integers wrap to their width, kept in a byte */
        LVal x = lir_cast(l, v, dt_is_signed(to) ? DT_I8 : DT_U8);
        M w = context(l, t, x);
        int64_t shift_by = 8 - (int64_t)dt_bits(to);
        if (!dt_is_signed(to)) return lir_op2(l, S_AND, x, m_i(&w, DT_U8, (1 << dt_bits(to)) - 1));
        return lir_op2(l, S_SHR, lir_op2(l, S_SHL, x, m_i(&w, DT_I8, shift_by)), m_i(&w, DT_I8, shift_by));
    }
    if (from == DT_F64 && dt_is_half(to)) return lir_cast(l, lir_cast(l, v, DT_F32), to);
    if (dt_is_half(to) && from != DT_F32) return lir_cast(l, lir_cast(l, v, DT_F32), to);
    if (dt_is_half(from) && to != DT_F32) return math_cast(l, t, lir_cast(l, v, DT_F32), DT_F32, to);
    return lir_cast(l, v, to);
}
