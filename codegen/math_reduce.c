/* math_reduce.c: large arguments of sin, cos and tan. x = n pi/2 + r with an exact product: the mantissa times those bits of 2/pi
 * that matter for the exponent, in 32-bit limbs (M. Payne, R. Hanek, Radian Reduction for Trigonometric Functions, 1983). Lanes
 * with |x| < 2^19, infinities and NaNs give some number. */
#include "math_fn.h"

enum { WORDS = 38, F32_WORDS = 10, LIMBS = 6, FRACTION = 5, PAD = 2 };

/* 2/pi = 0.two_over_pi in base 2^32 */
static const uint32_t two_over_pi[WORDS] = {
    0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561, 0xb7246e3a, 0x424dd2e0,
    0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e, 0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4,
    0x9c845f8b, 0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7, 0x4f463f66, 0x9e5fea2d,
    0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1, 0x1f8d5d08, 0x56033046, 0xfc7b6bab};

typedef struct Int { Lir *l; uint16_t lanes; } Int; /* i64 arithmetic */
static LVal num(const Int *i, int64_t v) { return lir_splat(i->l, lir_i64(i->l, v), i->lanes); }
static LVal op(const Int *i, SOp o, LVal a, LVal b) { return lir_op2(i->l, o, a, b); }
static LVal shl(const Int *i, LVal a, int64_t n) { return op(i, S_SHL, a, num(i, n)); }
static LVal shr(const Int *i, LVal a, int64_t n) { return lir_shru(i->l, a, num(i, n)); }
static LVal low(const Int *i, LVal a) { return op(i, S_AND, a, num(i, 0xffffffff)); }

/* a's bits moved up by n in [0, 63], those of b following. */
static LVal funnel(const Int *i, LVal a, LVal b, LVal n) {
    LVal rest = shr(i, b, 1);
    rest = lir_shru(i->l, rest, op(i, S_SUB, num(i, 63), n));
    return op(i, S_OR, op(i, S_SHL, a, n), rest);
}

LVal math_reduce(const M *m, LVal x, LVal *r) {
    const Int i = {m->l, m->lanes};
    LVal bits = lir_bitcast(m->l, m_abs(m, x), DT_I64);
    LVal mant = op(&i, S_OR, op(&i, S_AND, bits, num(&i, (1ll << 52) - 1)), num(&i, 1ll << 52));
    LVal ml = low(&i, mant), mh = shr(&i, mant, 32);
    /* x = mant 2^e. Words from number k on count, of a table with PAD zeros in front; all before give multiples of 4. */
    LVal e = op(&i, S_ADD, shr(&i, bits, 52), num(&i, 32 * PAD - 2 - 1075));
    LVal k = shr(&i, e, 5), t = op(&i, S_AND, e, num(&i, 31)), w[LIMBS];
    int words = m->f32 ? F32_WORDS : WORDS;
    for (int j = 0; j < LIMBS; j++) w[j] = num(&i, 0);
    for (int p = 0; p + LIMBS <= words + PAD; p++) {
        LVal here = lir_op2(m->l, S_EQ, k, num(&i, p));
        for (int j = 0; j < LIMBS; j++)
            w[j] = lir_op3(m->l, S_SELECT, here, num(&i, p + j < PAD ? 0 : two_over_pi[p + j - PAD]), w[j]);
    }
    /* limb[c] has the weight 2^(-32 c); what is at 1 and more is a multiple of 4 once shifted */
    LVal p[LIMBS], q[LIMBS], limb[FRACTION + 1], carry = num(&i, 0);
    for (int j = 0; j < LIMBS; j++) {
        p[j] = op(&i, S_MUL, ml, w[j]);
        q[j] = op(&i, S_MUL, mh, w[j]);
    }
    for (int c = FRACTION; c > 0; c--) {
        LVal sum = low(&i, p[c - 1]), with = op(&i, S_ADD, low(&i, q[c]), carry);
        sum = op(&i, S_ADD, op(&i, S_ADD, sum, shr(&i, p[c], 32)), with);
        if (c + 1 < LIMBS) sum = op(&i, S_ADD, sum, shr(&i, q[c + 1], 32));
        limb[c] = low(&i, sum);
        carry = shr(&i, sum, 32);
    }
    LVal a = op(&i, S_OR, shl(&i, limb[1], 32), limb[2]), b = op(&i, S_OR, shl(&i, limb[3], 32), limb[4]);
    LVal high = funnel(&i, a, b, t), rest = funnel(&i, b, shl(&i, limb[5], 32), t);
    /* two bits of n; the fraction as a signed number, so that it is at most 1/2 */
    LVal n = shr(&i, high, 62), f = funnel(&i, high, rest, num(&i, 2)), g = shl(&i, rest, 2);
    n = op(&i, S_ADD, n, shr(&i, f, 63));
    LVal v = m_mul(m, lir_cast(m->l, f, DT_F64), m_f(m, 0x1p-64));
    v = m_add(m, v, m_mul(m, lir_cast(m->l, shr(&i, g, 11), DT_F64), m_f(m, 0x1p-117)));
    *r = m_copysign(m, m_f(m, 1), x);
    *r = m_mul(m, *r, m_mul(m, v, m_f(m, 1.5707963267948966)));
    LVal negative = m_cmp(m, S_LT, x, m_f(m, 0));
    return lir_op3(m->l, S_SELECT, negative, op(&i, S_SUB, num(&i, 0), n), n);
}
