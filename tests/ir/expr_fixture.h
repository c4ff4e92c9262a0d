/* expr_fixture.h: random numbers and a plain evaluator of scalar expressions, for the tests of
 * ir/expr*.c. */
#ifndef ACCELC_TESTS_EXPR_FIXTURE_H
#define ACCELC_TESTS_EXPR_FIXTURE_H
#include "ir/ir.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Rng { uint64_t s; } Rng;

static inline uint64_t rnd(Rng *r) {
    r->s ^= r->s << 13;
    r->s ^= r->s >> 7;
    r->s ^= r->s << 17;
    return r->s * 0x2545f4914f6cdd1du;
}
static inline int pick(Rng *r, int n) { return (int)((rnd(r) >> 33) % (uint64_t)n); }

/* What an expression is evaluated with. Loads give a function of their operand and indices. */
typedef struct World { const Scalar *arg; const int64_t *axis, *sym; } World;

static inline bool same_scalar(Scalar a, Scalar b) {
    if (a.t != b.t) return false;
    if (!dt_is_float(a.t)) return a.i == b.i;
    return (isnan(a.f) && isnan(b.f)) || (a.f == b.f && signbit(a.f) == signbit(b.f));
}

/* Every node once: an argument has a smaller handle than its user, so a table by handle will do. */
static inline Scalar eval_in(Ctx *c, Expr e, const World *w, Scalar *memo) {
    const ExprInfo *i = expr_info(c, e);
    Scalar a[MAX_RANK + 1], r = {0};
    if (memo[e.i].t != DT_NONE) return memo[e.i];
    for (int k = 0; k < i->narg; k++) a[k] = eval_in(c, i->arg[k], w, memo);
    switch (i->kind) {
    case E_CONST: r = i->val; break;
    case E_ARG: r = w->arg[i->index]; break;
    case E_AXIS: r = (Scalar){.t = DT_I64, .i = w->axis[i->index]}; break;
    case E_DIM:
        r.t = DT_I64;
        ck_assert(dim_eval(c, (Dim){i->index}, w->sym, &r.i));
        break;
    case E_OP: r = expr_eval_op((SOp)i->op, i->op == S_SELECT ? (DType)i->dtype : a[0].t, a); break;
    case E_CAST: r = dt_convert(a[0], (DType)i->dtype); break;
    case E_BITCAST: {
        int64_t bits = 0;
        dt_store(a[0].t, &bits, 0, a[0]);
        r = dt_load((DType)i->dtype, &bits, 0);
        break;
    }
    default: {
        int64_t h = i->index;
        for (int k = 0; k < i->narg; k++) h = h * 31 + a[k].i;
        r = dt_convert((Scalar){.t = DT_I64, .i = h & 0xff}, (DType)i->dtype);
    }
    }
    return memo[e.i] = r;
}

static inline Scalar eval_expr(Ctx *c, Expr e, const World *w) {
    Scalar *memo = calloc(e.i + 1, sizeof *memo);
    Scalar r = eval_in(c, e, w, memo);
    free(memo);
    return r;
}

static inline Expr parse(Ctx *c, const char *s, const DType *t, uint32_t n) {
    const char *at = s;
    Expr e = expr_parse(c, &at, t, n);
    ck_assert_msg(e.i && !*at, "'%s' stops at '%s': %s", s, at, ctx_messages(c));
    return e;
}

static inline const char *text_of(Ctx *c, Expr e) {
    Buf b = {.c = c};
    expr_print(&b, c, e);
    return buf_str(&b);
}
#endif
