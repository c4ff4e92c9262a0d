/* math_fn.c: exp, log, tanh, erf, sigmoid, trigonometric functions, pow as Lir. Range reduction, then minimax polynomials (Remez,
 * fitted to relative error on the reduced range). exp, expm1, log, tanh, erf and sigmoid of f32 are computed in f32; the other
 * functions of f32 are computed in f64 and rounded, where the polynomial's error is far below half an ulp of f32.
 * With AVX-512, tanh and erf of f32 are polynomials in pieces, their coefficients looked up in registers.
 * Method of exp and log: W. J. Cody, W. Waite, Software Manual for the Elementary Functions (1980). CODEGEN.md has the errors in ULP. */
#include <math.h>

#include "math_fn.h"
#include "octaves.h"

static LVal poly(const M *m, LVal x, int n, const double *c) { /* c[0] + c[1] x + .. */
    LVal p = m_f(m, c[n - 1]);
    for (int i = n - 2; i >= 0; i--) p = m_fma(m, p, x, m_f(m, c[i]));
    return p;
}
#define POLY(m, x, ...) poly((m), (x), (int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (const double[]){__VA_ARGS__})

static DType int_of(const M *m) { return m->ty == DT_F32 ? DT_I32 : DT_I64; }

LVal m_copysign(const M *m, LVal v, LVal s) {
    DType it = int_of(m);
    int64_t sign = m->ty == DT_F32 ? INT32_MIN : INT64_MIN;
    LVal bits = lir_op2(m->l, S_AND, lir_bitcast(m->l, s, it), m_i(m, it, sign));
    return lir_bitcast(m->l, lir_op2(m->l, S_OR, lir_bitcast(m->l, v, it), bits), m->ty);
}

/* v within [low, high]; NaN passes: MIN and MAX yield the second operand if unordered. */
static LVal between(const M *m, LVal v, double low, double high) {
    LVal up = lir_op2(m->l, S_MAX, m_f(m, low), v);
    return lir_op2(m->l, S_MIN, m_f(m, high), up);
}

/* 2^n for integral n in the range of normal numbers, f64. */
static LVal pow2(const M *m, LVal n) {
    LVal e = lir_op2(m->l, S_ADD, lir_cast(m->l, n, DT_I64), m_i(m, DT_I64, 1023));
    return lir_bitcast(m->l, lir_op2(m->l, S_SHL, e, m_i(m, DT_I64, 52)), DT_F64);
}

/* f32: x = n ln 2 + r, |r| <= ln 2 / 2 and a little. *bits: n in the low bits, by an addition that rounds. */
static LVal exp_reduce(const M *m, LVal x, LVal *n, LVal *bits) {
    LVal shifted = m_fma(m, x, m_f(m, 1.4426950408889634), m_f(m, 0x1.8p23));
    *bits = lir_bitcast(m->l, shifted, DT_I32);
    *n = m_sub(m, shifted, m_f(m, 0x1.8p23));
    /* ln 2 in two parts; the first has trailing zeros, so that its product with n is exact */
    LVal r = m_fma(m, *n, m_f(m, -0.693359375), x);
    return m_fma(m, *n, m_f(m, 2.12194440054690583e-4), r);
}

#define EXP_F32 0.499999921, 0.166664202, 0.0416682256, 0.00837481578, 0.00138368461 /* exp(r) = 1 + r + r^2 (..) */

static LVal exponent(const M *m, LVal bits) { return lir_op2(m->l, S_SHL, bits, m_i(m, DT_I32, 23)); }

/* 2^n for integral n in [-126, 127], f32, from the bits of exp_reduce. */
static LVal power(const M *m, LVal bits) {
    return lir_bitcast(m->l, lir_op2(m->l, S_ADD, exponent(m, bits), m_i(m, DT_I32, 127 << 23)), DT_F32);
}

static const double least_exp = -87.336547, most_exp = 88.72283; /* ln of the least and greatest normal f32 */

/* f32 results below 1.19e-38 are 0: a subnormal one costs the processor some 150 cycles, and masks make many. */
static LVal exp_f32(const M *m, LVal x) {
    LVal n, bits, flushed = m_cmp(m, S_LT, x, m_f(m, least_exp)), zero = m_f(m, 0);
    if (m->t->flags & F_AVX512) {
        LVal r = exp_reduce(m, lir_op2(m->l, S_MIN, m_f(m, 89), x) /* NaN passes */, &n, &bits);
        LVal y = lir_scalef(m->l, POLY(m, r, 1, 1, EXP_F32), n);
        return m_sel(m, lir_op1(m->l, S_NOT, flushed), y, zero);
    }
    LVal r = exp_reduce(m, x, &n, &bits), y = lir_bitcast(m->l, POLY(m, r, 1, 1, EXP_F32), DT_I32);
    y = lir_bitcast(m->l, lir_op2(m->l, S_ADD, y, exponent(m, bits)), DT_F32);
    LVal inside = m_cmp(m, S_LE, x, m_f(m, most_exp)), beyond = m_add(m, x, m_f(m, INFINITY));
    return m_sel(m, inside, m_sel(m, flushed, zero, y), beyond);
}

static LVal fn_exp(const M *m, LVal x) {
    if (m->ty == DT_F32) return exp_f32(m, x);
    LVal low = m_cmp(m, S_LT, x, m_f(m, -746)); /* below every result */
    /* In this order a NaN passes (MIN and MAX yield the second operand if unordered). */
    x = lir_op2(m->l, S_MIN, m_f(m, 710), m_sel(m, low, m_f(m, -746), x));
    LVal n = lir_op1(m->l, S_RINT, m_mul(m, x, m_f(m, 1.4426950408889634)));
    LVal r = m_fma(m, n, m_f(m, -0x1.62e42fee00000p-1), x);
    r = m_fma(m, n, m_f(m, -0x1.a39ef35793c76p-33), r);
    LVal p = POLY(m, r, 0.5, 0.16666666666666702, 0.041666666666665936, 0.0083333333333100845, 0.0013888888889141847,
                  0.00019841269908154208, 2.4801586915588763e-05, 2.7557225844302134e-06, 2.7557574104142631e-07,
                  2.5114601081023637e-08, 2.0832019876600545e-09);
    LVal y = m_add(m, m_fma(m, m_mul(m, r, r), p, r), m_f(m, 1));
    LVal half = lir_op1(m->l, S_FLOOR, m_mul(m, n, m_f(m, 0.5)));
    LVal bad = m_cmp(m, S_NE, x, x); /* keep the conversion of n in range */
    half = m_sel(m, bad, m_f(m, 0), half);
    LVal rest = m_sel(m, bad, m_f(m, 0), m_sub(m, n, half));
    y = m_mul(m, y, pow2(m, half));
    return m_mul(m, y, pow2(m, rest));
}

static LVal fn_log(const M *m, LVal x) {
    bool f = m->ty == DT_F32;
    DType it = int_of(m);
    LVal zero = m_f(m, 0), tiny = m_cmp(m, S_LT, x, m_f(m, f ? 0x1p-126 : 0x1p-1022));
    LVal y = m_sel(m, tiny, m_mul(m, x, m_f(m, f ? 0x1p25 : 0x1p54)), x);
    LVal bits = lir_bitcast(m->l, y, it);
    int mant = f ? 23 : 52, bias = f ? 127 : 1023;
    LVal e = lir_op2(m->l, S_SUB, lir_shru(m->l, bits, m_i(m, it, mant)), m_i(m, it, bias));
    LVal frac = lir_op2(m->l, S_OR, lir_op2(m->l, S_AND, bits, m_i(m, it, (1ll << mant) - 1)), m_i(m, it, (int64_t)bias << mant));
    LVal v = lir_bitcast(m->l, frac, m->ty);
    LVal big = m_cmp(m, S_GT, v, m_f(m, 1.4142135623730951));
    v = m_sel(m, big, m_mul(m, v, m_f(m, 0.5)), v);
    LVal k = lir_cast(m->l, e, m->ty);
    k = m_add(m, k, m_sel(m, big, m_f(m, 1), zero));
    k = m_sub(m, k, m_sel(m, tiny, m_f(m, f ? 25 : 54), zero));
    LVal r, g = m_sub(m, v, m_f(m, 1));
    if (f) {
        LVal p = POLY(m, g, -0.499999909, 0.333333089, -0.25001404, 0.200029488, -0.166134899, 0.141654497, -0.1319333, 0.129894612, -0.0784110465);
        LVal low = m_mul(m, k, m_f(m, -2.12194440054690583e-4)), t = m_fma(m, m_mul(m, g, g), p, low);
        r = m_fma(m, k, m_f(m, 0.693359375), m_add(m, g, t));
    } else {
        LVal s = m_div(m, g, m_add(m, g, m_f(m, 2))), z = m_mul(m, s, s);
        LVal q = POLY(m, z, 0.66666666666666663, 0.40000000000000885, 0.2857142857079823, 0.22222222392819571, 0.18181795531944753,
                      0.15386245136385424, 0.13268637835009001, 0.13087949654809949);
        LVal low = m_mul(m, k, m_f(m, 0x1.a39ef35793c76p-33)), t = m_fma(m, m_mul(m, s, z), q, low);
        r = m_fma(m, k, m_f(m, 0x1.62e42fee00000p-1), m_add(m, m_add(m, s, s), t));
    }
    r = m_sel(m, m_cmp(m, S_EQ, x, m_f(m, INFINITY)), x, r);
    r = m_sel(m, m_cmp(m, S_EQ, x, zero), m_f(m, -INFINITY), r);
    return m_sel(m, m_cmp(m, S_GE, x, zero), r, m_f(m, NAN)); /* negative or NaN */
}

/* table[idx mod 32] of f32, with two registers of 16 lanes. */
static LVal look_up(const M *m, const double *table, LVal idx) {
    Scalar v[32];
    int16_t lane[32];
    for (int i = 0; i < 32; i++) {
        v[i] = (Scalar){.t = DT_F32, .f = (float)table[i]};
        lane[i] = (int16_t)(i % m->lanes);
    }
    idx = m->lanes == 1 ? lir_splat(m->l, idx, 32) : m->lanes < 32 ? lir_shuffle(m->l, idx, idx, 32, lane) : idx;
    LVal y = lir_permute_var(m->l, lir_table(m->l, DT_F32, 32, v), idx);
    return m->lanes == 1 ? lir_extract(m->l, y, 0) : m->lanes < 32 ? lir_shuffle(m->l, y, y, m->lanes, lane) : y;
}

static bool has_octaves(const M *m) { return m->ty == DT_F32 && m->t->flags & F_AVX512 && m->lanes <= 32; }

/* An odd function that is monotonous and becomes constant, in pieces (make_octaves.py). In the least piece x0 and c0 are 0, and the sum begins with
 * d; in all others c0 is greater than d. */
static LVal in_octaves(const M *m, const Octaves *o, LVal x) {
    LVal a = lir_op2(m->l, S_MIN, m_f(m, o->top), m_abs(m, x)), from = lir_op2(m->l, S_MAX, m_f(m, o->least), a); /* NaN passes both */
    LVal i = lir_shru(m->l, lir_bitcast(m->l, from, DT_I32), m_i(m, DT_I32, 21)), d = m_sub(m, a, look_up(m, o->column[0], i));
    LVal p = look_up(m, o->column[6], i);
    for (int k = 5; k > 1; k--) p = m_fma(m, p, d, look_up(m, o->column[k], i));
    return m_copysign(m, m_fma(m, p, d, lir_op2(m->l, S_MAX, look_up(m, o->column[1], i), d)), x);
}

/* tanh(x) = 2 t / (1 + t^2), t = n / d = tanh(x / 2). Where t is 1 an error of it counts with its square, so n and d, polynomials of x^2 (and a
 * factor x), need few terms. They are scaled to be a little below powers of two, where roundings are least. */
static LVal tanh_f32(const M *m, LVal unbounded) {
    LVal x = between(m, unbounded, -9.05, 9.05), z = m_mul(m, x, x); /* tanh(9.05) is 1 */
    LVal n = m_mul(m, x, POLY(m, z, 0.909999728, 0.0270825848, 0.000103724997));
    LVal d = POLY(m, z, 1.81999946, 0.205831751, 0.00219348562, 2.22749486e-06);
    LVal both = m_mul(m, m_add(m, n, n), d), squares = m_fma(m, d, d, m_mul(m, n, n)), y = m_div(m, both, squares);
    return m->t->flags & F_FMA ? y : between(m, y, -1, 1); /* products that are rounded may lift it above 1 */
}

static LVal fn_tanh(const M *m, LVal x) {
    if (has_octaves(m)) return in_octaves(m, &tanh_octaves, x);
    if (m->ty == DT_F32) return tanh_f32(m, x);
    LVal a = m_abs(m, x), z = m_mul(m, x, x), one = m_f(m, 1);
    LVal p = POLY(m, z, -0.33333333333333326, 0.13333333333327041, -0.053968253961717574, 0.02186948827108447, -0.0088632300057063049,
                  0.0035920606449773925, -0.0014553189846993339, 0.00058747212236352785, -0.00023085187883171271, 7.9690679462807013e-05,
                  -1.7291486319944026e-05);
    LVal small = m_fma(m, m_mul(m, x, z), p, x), d = m_add(m, fn_exp(m, m_add(m, a, a)), one);
    LVal big = m_fma(m, m_f(m, -2), m_div(m, one, d), one);
    return m_copysign(m, m_sel(m, m_cmp(m, S_LT, a, m_f(m, 0.625)), small, big), x); /* of the small too: they lose that of -0 */
}

/* g(t), t = x + x p(x^2): g is the odd polynomial of degree 5 that reaches 1 with no slope and no curvature. There an error of t counts with its
 * third power, so few terms do for p, and their sum may be rounded. */
static LVal erf_f32(const M *m, LVal unbounded) {
    LVal x = between(m, unbounded, -3.92, 3.92), z = m_mul(m, x, x); /* erf(3.92) is 1 */
    LVal p = POLY(m, z, -0.205366775, -0.0730183274, 0.0057281279, -0.000333046308, 1.44987944e-05, -4.73022425e-07, 1.08760432e-08,
                  -1.33569378e-10);
    LVal t = m_fma(m, x, p, x);
    return m_fma(m, t, POLY(m, m_mul(m, t, t), 0.419999987, -0.54296422, 0.0934257507), t);
}

static LVal fn_erf(const M *m, LVal x) {
    if (has_octaves(m)) return in_octaves(m, &erf_octaves, x);
    if (m->ty == DT_F32) return erf_f32(m, x);
    LVal a = m_abs(m, x), z = m_mul(m, x, x), top = lir_op2(m->l, S_MIN, m_f(m, 6), a);
    LVal p = POLY(m, z, 0.12837916709551259, -0.37612638903183754, 0.11283791670955121, -0.026866170645129868, 0.005223977625423609,
                  -0.00085483270219559565, 0.00012055332903810192, -1.4925647594442384e-05, 1.6462045979718871e-06, -1.6364649543326847e-07,
                  1.4792469597636778e-08, -1.2164968492971448e-09, 8.7104654028869754e-11, -4.2331303372651324e-12);
    LVal q = POLY(m, top, -2.2871494585440892e-08, 1.1283794587126941, 0.63661801144712127, 0.10277930283205376, -0.019146467857110785,
                  -0.00017274687976900278, 0.0016386745753647564, -0.00051755214725403157, -4.8371641846596964e-05, 0.00012658083058717754,
                  -7.218410896797772e-05, 2.6940894261068255e-05, -7.4573850695053093e-06, 1.556420911774327e-06, -2.3305190527113968e-07,
                  1.9888949097185798e-08, 7.6451717288563525e-10, -5.8538341255404152e-10, 1.0641313973969678e-10, -1.1601753006917457e-11,
                  8.1113069289001176e-13, -3.3860523642560315e-14, 6.4727611037626077e-16);
    LVal small = m_fma(m, x, p, x), tail = m_sub(m, m_f(m, 1), fn_exp(m, lir_op1(m->l, S_NEG, q)));
    tail = m_sel(m, m_cmp(m, S_GE, a, m_f(m, 6)), m_f(m, 1), tail);
    LVal big = m_copysign(m, tail, x);
    return m_sel(m, m_cmp(m, S_GE, a, m_f(m, 1)), big, small); /* NaN takes the polynomial */
}

/* 2^n / (2^n + e^-r), x = n ln 2 + r. Results below 2^-126.5 are 0, as 2^-127 has the bits of 0. */
static LVal sigmoid_f32(const M *m, LVal x) {
    LVal y = between(m, x, -88.3, 40), n, bits, r = exp_reduce(m, y, &n, &bits); /* n >= -127; 40 gives 1 */
    LVal e = POLY(m, lir_op1(m->l, S_NEG, r), 1, 1, EXP_F32), scale = power(m, bits), sum = m_add(m, scale, e);
    return m_div(m, scale, sum);
}

static LVal fn_sigmoid(const M *m, LVal x) {
    if (m->ty == DT_F32) return sigmoid_f32(m, x);
    return m_div(m, m_f(m, 1), m_add(m, m_f(m, 1), fn_exp(m, lir_op1(m->l, S_NEG, x))));
}

/* ---- f64 only from here on ---- */

/* x = n * pi/2 + r, |r| <= pi/4; n as integer. Three parts of pi/2, the first two of 33 bits: exact products for |n| < 2^19.
 * Larger arguments are rare and take a branch of their own. */
static LVal quadrant(const M *m, LVal x, LVal *r) {
    LVal a = m_abs(m, x), large = m_cmp(m, S_GE, a, m_f(m, 0x1p19));
    LVal n = lir_op1(m->l, S_RINT, m_mul(m, x, m_f(m, 0.63661977236758134)));
    n = m_sel(m, m_cmp(m, S_LT, a, m_f(m, 0x1p19)), n, m_f(m, 0));
    LVal v = m_sub(m, x, m_mul(m, n, m_f(m, 0x1.921fb54400000p+0)));
    v = m_sub(m, v, m_mul(m, n, m_f(m, 0x1.0b4611a600000p-34)));
    v = m_sub(m, v, m_mul(m, n, m_f(m, 0x1.3198a2e037073p-69)));
    LVal out[2], small[2] = {lir_cast(m->l, n, DT_I64), v};
    LIf branch = lir_if(m->l, lir_any(m->l, large), 2);
    LVal lr, ln = math_reduce(m, x, &lr);
    lir_else(m->l, &branch, (LVal[]){m_sel(m, large, ln, small[0]), m_sel(m, large, lr, v)});
    lir_endif(m->l, &branch, small, out);
    LVal finite = m_cmp(m, S_LT, a, m_f(m, INFINITY));
    *r = m_sel(m, finite, out[1], m_sub(m, x, x)); /* Inf and NaN give NaN */
    return out[0];
}

static void sin_cos(const M *m, LVal x, LVal *s, LVal *c) {
    LVal r, n = quadrant(m, x, &r), z = m_mul(m, r, r);
    LVal sp = POLY(m, z, -0.16666666666666666, 0.0083333333333333315, -0.00019841269841264824, 2.755731921915246e-06,
                   -2.5052106167855059e-08, 1.6058521424029532e-10, -7.5860987518480778e-13);
    LVal cp = POLY(m, z, 0.041666666666666664, -0.0013888888888888887, 2.4801587301584513e-05, -2.7557319221298925e-07,
                   2.0876755755139453e-09, -1.1470455215277946e-11, 4.745538999591975e-14);
    LVal sr = m_fma(m, m_mul(m, r, z), sp, r);
    LVal cr = m_sub(m, m_f(m, 1), m_mul(m, z, m_f(m, 0.5)));
    cr = m_fma(m, m_mul(m, z, z), cp, cr);
    LVal one = m_i(m, DT_I64, 1), two = m_i(m, DT_I64, 2), zero = m_i(m, DT_I64, 0);
    LVal odd = m_cmp(m, S_NE, lir_op2(m->l, S_AND, n, one), zero);
    LVal sneg = m_cmp(m, S_NE, lir_op2(m->l, S_AND, n, two), zero);
    LVal cneg = m_cmp(m, S_NE, lir_op2(m->l, S_AND, lir_op2(m->l, S_ADD, n, one), two), zero);
    LVal sv = m_sel(m, odd, cr, sr), cv = m_sel(m, odd, sr, cr);
    *s = m_sel(m, sneg, lir_op1(m->l, S_NEG, sv), sv);
    *c = m_sel(m, cneg, lir_op1(m->l, S_NEG, cv), cv);
}

static LVal fn_sin(const M *m, LVal x) { LVal s, c; sin_cos(m, x, &s, &c); return m_sel(m, m_cmp(m, S_EQ, x, m_f(m, 0)), x, s); }
static LVal fn_cos(const M *m, LVal x) { LVal s, c; sin_cos(m, x, &s, &c); return c; }
static LVal fn_tan(const M *m, LVal x) {
    LVal s, c;
    sin_cos(m, x, &s, &c);
    LVal t = m_div(m, s, c);
    return m_sel(m, m_cmp(m, S_EQ, x, m_f(m, 0)), x, t);
}

static LVal fn_atan(const M *m, LVal x) {
    LVal a = m_abs(m, x), one = m_f(m, 1);
    LVal inv = m_cmp(m, S_GT, a, one);
    LVal t = m_sel(m, inv, m_div(m, m_f(m, -1), a), a); /* atan(a) = pi/2 + atan(-1/a) */
    LVal at = m_abs(m, t), mid = m_cmp(m, S_GT, at, m_f(m, 0.41421356237309503));
    LVal less = m_sub(m, at, one), u = m_div(m, less, m_add(m, at, one)); /* atan(t) = pi/4 + atan((t-1)/(t+1)) */
    LVal r = m_sel(m, mid, u, at), z = m_mul(m, r, r);
    LVal p = POLY(m, z, -0.33333333333333331, 0.19999999999999815, -0.14285714285662485, 0.11111111105396369, -0.090909087647128198,
                  0.076922966794830211, -0.066664300403707577, 0.05878985051627645, -0.052308458768206605, 0.045532921662029074,
                  -0.03461221796937608, 0.016329864594813087);
    LVal v = m_fma(m, m_mul(m, r, z), p, r);
    v = m_sel(m, mid, m_add(m, m_f(m, 0.78539816339744828), v), v);
    v = m_copysign(m, v, t);
    v = m_sel(m, inv, m_add(m, m_f(m, 1.5707963267948966), v), v);
    v = m_copysign(m, v, x);
    return m_sel(m, m_cmp(m, S_EQ, x, x), v, x);
}

static LVal fn_asin(const M *m, LVal x) { /* atan(x / sqrt((1-x)(1+x))) */
    LVal less = m_sub(m, m_f(m, 1), x), d = lir_op1(m->l, S_SQRT, m_mul(m, less, m_add(m, m_f(m, 1), x)));
    return fn_atan(m, m_div(m, x, d));
}

static LVal fn_acos(const M *m, LVal x) { /* 2 atan(sqrt((1-x)/(1+x))) */
    LVal less = m_sub(m, m_f(m, 1), x), q = lir_op1(m->l, S_SQRT, m_div(m, less, m_add(m, m_f(m, 1), x)));
    LVal v = fn_atan(m, q);
    return m_add(m, v, v);
}

/* 2^n e^r - 1 = 2^n p + (2^n - 1), p = e^r - 1: without n exactly p. Of halves, as 2^128 is none. */
static LVal expm1_f32(const M *m, LVal x) {
    LVal n, bits, y = lir_op2(m->l, S_MAX, m_f(m, -25), lir_op2(m->l, S_MIN, m_f(m, 89), x)); /* NaN passes */
    LVal r = exp_reduce(m, y, &n, &bits), half = power(m, lir_op2(m->l, S_SUB, bits, m_i(m, DT_I32, 1)));
    LVal p = POLY(m, r, 1 / 2., 1 / 6., 1 / 24., 1 / 120., 1 / 720., 1 / 5040.);
    p = m_fma(m, m_mul(m, r, r), p, r);
    LVal v = m_fma(m, half, p, m_sub(m, half, m_f(m, 0.5)));
    LVal tiny = m_cmp(m, S_LT, m_abs(m, x), m_f(m, 0x1p-26));
    return m_sel(m, tiny, x, m_add(m, v, v));
}

static LVal fn_expm1(const M *m, LVal x) { /* tanh form avoids cancellation: 2t / (1-t), t = tanh(x/2) */
    if (m->ty == DT_F32) return expm1_f32(m, x);
    LVal t = fn_tanh(m, m_mul(m, x, m_f(m, 0.5)));
    LVal twice = m_add(m, t, t), near = m_div(m, twice, m_sub(m, m_f(m, 1), t)), far = m_sub(m, fn_exp(m, x), m_f(m, 1));
    return m_sel(m, m_cmp(m, S_LT, m_abs(m, x), m_f(m, 1)), near, far);
}

static LVal fn_log1p(const M *m, LVal x) { /* Kahan: log(u) * x / (u - 1), u = 1 + x */
    LVal u = m_add(m, m_f(m, 1), x), d = m_sub(m, u, m_f(m, 1));
    LVal exact = m_cmp(m, S_EQ, d, m_f(m, 0));
    LVal v = m_mul(m, fn_log(m, u), x);
    v = m_div(m, v, m_sel(m, exact, m_f(m, 1), d));
    LVal large = m_cmp(m, S_GT, m_abs(m, x), m_f(m, 1e10));
    v = m_sel(m, exact, x, v);
    v = m_sel(m, m_cmp(m, S_EQ, x, m_f(m, -1)), m_f(m, -INFINITY), v);
    return m_sel(m, large, fn_log(m, u), v);
}

static LVal fn_sinh(const M *m, LVal x) {
    LVal a = m_abs(m, x), e = fn_expm1(m, a);
    LVal v = m_mul(m, m_f(m, 0.5), m_add(m, e, m_div(m, e, m_add(m, e, m_f(m, 1)))));
    LVal h = fn_exp(m, m_mul(m, a, m_f(m, 0.5)));
    LVal big = m_mul(m, m_mul(m, h, m_f(m, 0.5)), h);
    return m_copysign(m, m_sel(m, m_cmp(m, S_GT, a, m_f(m, 20)), big, v), x);
}

static LVal fn_cosh(const M *m, LVal x) {
    LVal h = fn_exp(m, m_mul(m, m_abs(m, x), m_f(m, 0.5))), e = m_mul(m, h, h);
    LVal big = m_mul(m, m_mul(m, h, m_f(m, 0.5)), h);
    LVal v = m_mul(m, m_f(m, 0.5), m_add(m, e, m_div(m, m_f(m, 1), e)));
    return m_sel(m, m_cmp(m, S_GT, m_abs(m, x), m_f(m, 20)), big, v);
}

static LVal fn_asinh(const M *m, LVal x) { /* log1p(a + a^2 / (1 + sqrt(a^2 + 1))) */
    LVal a = m_abs(m, x), z = m_mul(m, a, a);
    LVal r = lir_op1(m->l, S_SQRT, m_add(m, z, m_f(m, 1)));
    LVal v = fn_log1p(m, m_add(m, a, m_div(m, z, m_add(m, m_f(m, 1), r))));
    LVal big = m_add(m, fn_log(m, a), m_f(m, 0.69314718055994529));
    return m_copysign(m, m_sel(m, m_cmp(m, S_GT, a, m_f(m, 1e100)), big, v), x);
}

static LVal fn_acosh(const M *m, LVal x) {
    LVal t = m_sub(m, x, m_f(m, 1));
    LVal twice = m_add(m, t, t), v = fn_log1p(m, m_add(m, t, lir_op1(m->l, S_SQRT, m_add(m, twice, m_mul(m, t, t)))));
    LVal big = m_add(m, fn_log(m, x), m_f(m, 0.69314718055994529));
    v = m_sel(m, m_cmp(m, S_LT, x, m_f(m, 1)), m_f(m, NAN), v); /* the root may overflow there */
    return m_sel(m, m_cmp(m, S_GT, x, m_f(m, 1e100)), big, v);
}

static LVal fn_atanh(const M *m, LVal x) { /* of |x|: log1p loses its digits near -1 */
    LVal a = m_abs(m, x), twice = m_add(m, a, a), v = fn_log1p(m, m_div(m, twice, m_sub(m, m_f(m, 1), a)));
    return m_copysign(m, m_mul(m, m_f(m, 0.5), v), x);
}

LVal math_pow(const M *m, LVal x, LVal y) { /* f64: exp(y log |x|) with the special cases of C's pow */
    LVal zero = m_f(m, 0), one = m_f(m, 1), a = m_abs(m, x);
    LVal r = fn_exp(m, m_mul(m, y, fn_log(m, a)));
    LVal whole = m_cmp(m, S_EQ, lir_op1(m->l, S_FLOOR, y), y), hy = m_mul(m, y, m_f(m, 0.5));
    LVal even = m_cmp(m, S_EQ, lir_op1(m->l, S_FLOOR, hy), hy);
    LVal odd = lir_op2(m->l, S_AND, whole, lir_op1(m->l, S_NOT, even));
    r = m_sel(m, odd, m_copysign(m, r, x), r);
    LVal negative = m_cmp(m, S_LT, x, zero), finite = m_cmp(m, S_LT, a, m_f(m, INFINITY));
    LVal bad = lir_op2(m->l, S_AND, lir_op2(m->l, S_AND, negative, lir_op1(m->l, S_NOT, whole)), finite);
    r = m_sel(m, bad, m_f(m, NAN), r);
    LVal nan_x = m_cmp(m, S_NE, x, x), nan = lir_op2(m->l, S_OR, nan_x, m_cmp(m, S_NE, y, y));
    r = m_sel(m, nan, m_add(m, x, y), r);
    LVal one_x = m_cmp(m, S_EQ, x, one), one_a = m_cmp(m, S_EQ, a, one), inf_y = m_cmp(m, S_EQ, m_abs(m, y), m_f(m, INFINITY));
    LVal unit = lir_op2(m->l, S_OR, m_cmp(m, S_EQ, y, zero), one_x);
    unit = lir_op2(m->l, S_OR, unit, lir_op2(m->l, S_AND, one_a, inf_y));
    return m_sel(m, unit, one, r);
}

LVal math_fn(const M *m, SOp op, LVal x) {
    static LVal (*const fn[S_COUNT])(const M *, LVal) = {
        [S_EXP] = fn_exp, [S_LOG] = fn_log, [S_TANH] = fn_tanh, [S_ERF] = fn_erf, [S_SIGMOID] = fn_sigmoid, [S_SIN] = fn_sin, [S_COS] = fn_cos,
        [S_TAN] = fn_tan, [S_ATAN] = fn_atan, [S_ASIN] = fn_asin, [S_ACOS] = fn_acos, [S_EXPM1] = fn_expm1, [S_LOG1P] = fn_log1p,
        [S_SINH] = fn_sinh, [S_COSH] = fn_cosh, [S_ASINH] = fn_asinh, [S_ACOSH] = fn_acosh, [S_ATANH] = fn_atanh,
    };
    CHECK(fn[op]);
    bool own = op == S_EXP || op == S_LOG || op == S_TANH || op == S_ERF || op == S_SIGMOID || op == S_EXPM1;
    if (m->ty == DT_F64 || own) return fn[op](m, x);
    M wide = {m->l, m->t, DT_F64, m->lanes, true};
    return lir_cast(m->l, fn[op](&wide, lir_cast(m->l, x, DT_F64)), DT_F32);
}
