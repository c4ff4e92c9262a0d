/* scalar.c: expr_eval_op(), the one definition of what each row of scalar.def computes for each
 * element type.
 *
 * In: the operation, its type and its arguments as Scalars (integers sign- or zero-extended, floats
 * as double, each a value of its type). Out: the result, again a value of its type. Every function
 * is total: there is no trap and no undefined result. Integers wrap at their width; f64 is computed
 * in double; every other float is computed to f32 precision and rounded to its type; the folder,
 * the evaluator and the code printers agree with this file. */
#include "ir.h"
#include <math.h>

static int64_t wrap(DType t, uint64_t v) {
    unsigned bits = dt_bits(t);
    if (bits >= 64) return (int64_t)v;
    uint64_t mask = ((uint64_t)1 << bits) - 1, sign = (uint64_t)1 << (bits - 1);
    v &= mask;
    return dt_is_signed(t) ? (int64_t)((v ^ sign) - sign) : (int64_t)v;
}

static bool is_unsigned64(DType t) { return t == DT_U64; }

static int64_t int_div(DType t, int64_t x, int64_t y) {
    if (y == 0) return 0;
    if (is_unsigned64(t)) return (int64_t)((uint64_t)x / (uint64_t)y);
    if (y == -1) return wrap(t, 0 - (uint64_t)x); /* MIN / -1 = MIN */
    return x / y;
}

static int64_t int_rem(DType t, int64_t x, int64_t y) {
    if (y == 0) return 0;
    if (is_unsigned64(t)) return (int64_t)((uint64_t)x % (uint64_t)y);
    return y == -1 ? 0 : x % y;
}

static int64_t int_mod(DType t, int64_t x, int64_t y) {
    int64_t r = int_rem(t, x, y);
    return dt_is_signed(t) && r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

static int64_t int_fdiv(DType t, int64_t x, int64_t y) {
    int64_t q = int_div(t, x, y);
    bool below = dt_is_signed(t) && y != 0 && int_rem(t, x, y) != 0 && (x < 0) != (y < 0);
    return below ? q - 1 : q;
}

/* x^y modulo 2^width; a negative exponent is 1 / x^-y by integer division (so 0 unless x is 1 or
 * -1). */
static int64_t int_pow(DType t, int64_t x, int64_t y) {
    if (dt_is_signed(t) && y < 0) return x == 1 ? 1 : x == -1 ? (y & 1 ? -1 : 1) : 0;
    uint64_t r = 1, b = (uint64_t)x;
    for (uint64_t e = (uint64_t)y; e; e >>= 1, b *= b)
        if (e & 1) r *= b;
    return wrap(t, r);
}

static bool int_less(DType t, int64_t x, int64_t y) {
    return is_unsigned64(t) ? (uint64_t)x < (uint64_t)y : x < y;
}

static int64_t int_shift(SOp op, DType t, int64_t x, int64_t y) {
    unsigned bits = dt_bits(t);
    bool whole = (uint64_t)y >= bits;
    if (op == S_SHL) return whole ? 0 : wrap(t, (uint64_t)x << y);
    if (dt_is_signed(t)) return whole ? (x < 0 ? -1 : 0) : x >> y;
    return whole ? 0 : (int64_t)((uint64_t)x >> y);
}

static int64_t eval_int(SOp op, DType t, int64_t x, int64_t y) {
    switch (op) {
    case S_ADD: return wrap(t, (uint64_t)x + (uint64_t)y);
    case S_SUB: return wrap(t, (uint64_t)x - (uint64_t)y);
    case S_MUL: return wrap(t, (uint64_t)x * (uint64_t)y);
    case S_DIV: return int_div(t, x, y);
    case S_MOD: return int_mod(t, x, y);
    case S_REM: return int_rem(t, x, y);
    case S_FDIV: return int_fdiv(t, x, y);
    case S_POW: return int_pow(t, x, y);
    case S_MIN: return int_less(t, y, x) ? y : x;
    case S_MAX: return int_less(t, x, y) ? y : x;
    case S_NEG: return wrap(t, 0 - (uint64_t)x);
    case S_ABS: return dt_is_signed(t) && x < 0 ? wrap(t, 0 - (uint64_t)x) : x;
    case S_SIGN: return dt_is_signed(t) && x < 0 ? -1 : x != 0;
    case S_AND: return x & y;
    case S_OR: return x | y;
    case S_XOR: return x ^ y;
    case S_NOT: return wrap(t, ~(uint64_t)x);
    case S_SHL:
    case S_SHR: return int_shift(op, t, x, y);
    default: ICE("scalar operation %d is not defined on integers", (int)op);
    }
}

/* bool: arithmetic is done on 0 and 1, and the result is whether it is not zero. */
static int64_t eval_bool(SOp op, int64_t x, int64_t y) {
    if (op == S_NOT) return !x;
    return eval_int(op, DT_I32, x != 0, y != 0) != 0;
}

/* Python's sign rule; an exact remainder is a zero of the divisor's sign. */
static double float_mod(double x, double y) {
    double r = fmod(x, y);
    if (r == 0) return copysign(0, y);
    return (r < 0) != (y < 0) ? r + y : r;
}

static double float_min(double x, double y) {
    if (isnan(x) || isnan(y)) return NAN;
    return x < y || (x == y && signbit(x)) ? x : y;
}

static double float_max(double x, double y) {
    if (isnan(x) || isnan(y)) return NAN;
    return x > y || (x == y && !signbit(x)) ? x : y;
}

/* The operations of an exponent that is 1, 2 or -1 are those of a product and a quotient. */
static double float_pow(double x, double y) {
    return y == 2 ? x * x : y == 1 ? x : y == -1 ? 1 / x : pow(x, y);
}

static double eval_float(SOp op, DType t, double x, double y, double z) {
    switch (op) {
    case S_ADD: return x + y;
    case S_SUB: return x - y;
    case S_MUL: return x * y;
    case S_DIV: return x / y;
    case S_MOD: return float_mod(x, y);
    case S_REM: return fmod(x, y);
    case S_POW: return float_pow(x, y);
    case S_MIN: return float_min(x, y);
    case S_MAX: return float_max(x, y);
    case S_NEG: return -x;
    case S_ABS: return fabs(x);
    case S_SIGN: return isnan(x) ? x : (double)((x > 0) - (x < 0));
    case S_FLOOR: return floor(x);
    case S_CEIL: return ceil(x);
    case S_TRUNC: return trunc(x);
    case S_RINT: return nearbyint(x);
    case S_SQRT: return sqrt(x);
    case S_RSQRT: return 1 / sqrt(x);
    case S_RECIP: return 1 / x;
    case S_EXP: return exp(x);
    case S_EXPM1: return expm1(x);
    case S_LOG: return log(x);
    case S_LOG1P: return log1p(x);
    case S_SIN: return sin(x);
    case S_COS: return cos(x);
    case S_TAN: return tan(x);
    case S_ASIN: return asin(x);
    case S_ACOS: return acos(x);
    case S_ATAN: return atan(x);
    case S_SINH: return sinh(x);
    case S_COSH: return cosh(x);
    case S_TANH: return tanh(x);
    case S_ASINH: return asinh(x);
    case S_ACOSH: return acosh(x);
    case S_ATANH: return atanh(x);
    case S_ERF: return erf(x);
    case S_SIGMOID: return 1 / (1 + exp(-x));
    /* The one place where double and a rounding would round twice. */
    case S_FMA: return t == DT_F64 ? fma(x, y, z) : (double)fmaf((float)x, (float)y, (float)z);
    default: ICE("scalar operation %d is not defined on floats", (int)op);
    }
}

static double round_to(DType t, double x) {
    if (t == DT_F64) return x;
    float f = (float)x;
    return t == DT_F32 ? (double)f : (double)dt_round_f32(t, f);
}

static bool eval_compare(SOp op, DType t, Scalar x, Scalar y) {
    bool less, equal, ordered = true;
    if (dt_is_float(t)) {
        less = x.f < y.f;
        equal = x.f == y.f;
        ordered = !isnan(x.f) && !isnan(y.f);
    } else {
        less = int_less(t, x.i, y.i);
        equal = x.i == y.i;
    }
    switch (op) {
    case S_EQ: return equal;
    case S_NE: return !equal;
    case S_LT: return less;
    case S_LE: return less || equal;
    case S_GT: return ordered && !less && !equal;
    default: return ordered && !less;
    }
}

Scalar expr_eval_op(SOp op, DType t, const Scalar *arg) {
    static const uint8_t count[S_COUNT] = {
#define SCALAR(e, text, n, rule, flags) [S_##e] = n,
#include "scalar.def"
#undef SCALAR
    };
    CHECK(op > S_NONE && op < S_COUNT);
    if (op == S_SELECT) return arg[0].i ? arg[1] : arg[2];
    if (op >= S_EQ && op <= S_ISINF) { /* the type that counts is the operands' */
        DType in = arg[0].t != DT_NONE ? arg[0].t : t;
        Scalar r = {.t = DT_BOOL, .i = 0};
        if (op == S_ISNAN) r.i = isnan(arg[0].f) != 0;
        else if (op == S_ISINF) r.i = isinf(arg[0].f) != 0;
        else r.i = eval_compare(op, in, arg[0], arg[1]);
        return r;
    }
    Scalar r = {.t = t, .i = 0};
    int n = count[op];
    if (dt_is_float(t))
        r.f = round_to(t, eval_float(op, t, arg[0].f, n > 1 ? arg[1].f : 0, n > 2 ? arg[2].f : 0));
    else if (t == DT_BOOL)
        r.i = eval_bool(op, arg[0].i, n > 1 ? arg[1].i : 0);
    else
        r.i = eval_int(op, t, arg[0].i, n > 1 ? arg[1].i : 0);
    return r;
}
