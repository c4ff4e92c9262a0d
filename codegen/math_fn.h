/* math_fn.h: transcendental functions on Lir vectors, shared by math.c and math_fn.c. */
#ifndef ACCELC_MATH_FN_H
#define ACCELC_MATH_FN_H
#include "kernel.h"

typedef struct M {
    Lir *l;
    const Target *t;
    DType ty;
    uint16_t lanes;
    bool f32;           /* ty is F64, but values are those of f32 */
} M;
static inline LVal m_f(const M *m, double v) { return lir_splat(m->l, lir_float(m->l, m->ty, v), m->lanes); }
static inline LVal m_i(const M *m, DType t, int64_t v) { return lir_splat(m->l, lir_int(m->l, t, v), m->lanes); }
static inline LVal m_add(const M *m, LVal a, LVal b) { return lir_op2(m->l, S_ADD, a, b); }
static inline LVal m_sub(const M *m, LVal a, LVal b) { return lir_op2(m->l, S_SUB, a, b); }
static inline LVal m_mul(const M *m, LVal a, LVal b) { return lir_op2(m->l, S_MUL, a, b); }
static inline LVal m_div(const M *m, LVal a, LVal b) { return lir_op2(m->l, S_DIV, a, b); }
static inline LVal m_fma(const M *m, LVal a, LVal b, LVal c) { return lir_fma(m->l, a, b, c); }
static inline LVal m_sel(const M *m, LVal c, LVal a, LVal b) { return lir_op3(m->l, S_SELECT, c, a, b); }
static inline LVal m_cmp(const M *m, SOp op, LVal a, LVal b) { return lir_op2(m->l, op, a, b); }
static inline LVal m_abs(const M *m, LVal a) { return lir_op1(m->l, S_ABS, a); }
/* sign of s on magnitude v */
LVal m_copysign(const M *m, LVal v, LVal s);
/* f32: computed in f32 for exp expm1 log tanh erf sigmoid, else through f64. f64: all in f64. */
LVal math_fn(const M *m, SOp op, LVal x);
LVal math_pow(const M *m, LVal x, LVal y);
/* math_reduce.c: for f64 x with 2^19 <= |x| < inf: n mod 4 (i64), and *r, so that x = n pi/2 + r, |r| <= pi/4. */
LVal math_reduce(const M *m, LVal x, LVal *r);
#endif
