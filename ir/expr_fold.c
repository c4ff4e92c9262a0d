/* expr_fold.c: identities that are applied as an expression is made. All are exact: for floats under IEEE (signed zeros, infinities, NaN), for
 * integers under wrapping. */
#include "expr_internal.h"
#include <math.h>

static bool is_const(const Ctx *c, Expr e) { return expr_info(c, e)->kind == E_CONST; }

/* A constant that is v exactly; zeros must agree in sign. */
static bool is_value(const Ctx *c, Expr e, double v) {
    const ExprInfo *i = expr_info(c, e);
    if (i->kind != E_CONST) return false;
    if (!dt_is_float(i->dtype)) return (double)i->val.i == v && i->val.i == (int64_t)v;
    return i->val.f == v && signbit(i->val.f) == signbit(v);
}

static const ExprInfo *is_op(const Ctx *c, Expr e, SOp op) {
    const ExprInfo *i = expr_info(c, e);
    return i->kind == E_OP && i->op == op ? i : NULL;
}

static bool same(Expr a, Expr b) { return a.i == b.i; }

static Expr op1(Ctx *c, SOp op, Expr a) { return expr_opn(c, op, 1, &a); }
static Expr op2(Ctx *c, SOp op, Expr a, Expr b) { return expr_opn(c, op, 2, (Expr[]){a, b}); }

/* Dims that may be joined: constants are kept far from the ends so that dim arithmetic cannot
 * overflow on them. */
static bool as_dim(Ctx *c, Expr e, Dim *d) {
    const ExprInfo *i = expr_info(c, e);
    if (i->kind == E_DIM) return *d = (Dim){i->index}, true;
    int64_t limit = (int64_t)1 << 40;
    if (i->kind != E_CONST || i->dtype != DT_I64 || i->val.i > limit || i->val.i < -limit)
        return false;
    return *d = dim_const(c, i->val.i), true;
}

static Expr fold_dim_compare(Ctx *c, SOp op, Dim a, Dim b) {
    if (op == S_GT || op == S_GE) {
        Dim t = a;
        a = b;
        b = t;
        op = op == S_GT ? S_LT : S_LE;
    }
    Dim diff = dim_sub(c, b, a);
    if (!diff.i) return (Expr){0};
    int64_t lo = dim_lo(c, diff), hi = dim_hi(c, diff);
    int truth = -1;
    switch (op) {
    case S_LT: truth = lo > 0 ? 1 : hi <= 0 ? 0 : -1; break;
    case S_LE: truth = lo >= 0 ? 1 : hi < 0 ? 0 : -1; break;
    default:
        if (dim_same(c, a, b)) truth = op == S_EQ;
        else if (dim_differ(c, a, b) || lo > 0 || hi < 0) truth = op == S_NE;
    }
    return truth < 0 ? (Expr){0} : expr_int(c, DT_BOOL, truth);
}

Expr expr_fold_dims(Ctx *c, SOp op, const Expr *arg) {
    Dim a, b, r = {0};
    if (sop_info(op)->n != 2 ||
        (expr_info(c, arg[0])->kind != E_DIM && expr_info(c, arg[1])->kind != E_DIM))
        return (Expr){0};
    if (!as_dim(c, arg[0], &a) || !as_dim(c, arg[1], &b)) return (Expr){0};
    bool divides = dim_lo(c, b) >= 1, floors = divides && dim_lo(c, a) >= 0;
    switch (op) {
    case S_ADD: r = dim_add(c, a, b); break;
    case S_SUB: r = dim_sub(c, a, b); break;
    case S_MUL: r = dim_mul(c, a, b); break;
    case S_MIN: r = dim_min(c, a, b); break;
    case S_MAX: r = dim_max(c, a, b); break;
    case S_FDIV: if (divides) r = dim_floordiv(c, a, b); break;
    case S_MOD: if (divides) r = dim_mod(c, a, b); break;
    case S_DIV: if (floors) r = dim_floordiv(c, a, b); break;
    case S_REM: if (floors) r = dim_mod(c, a, b); break;
    default:
        if (sop_info(op)->rule == RULE_CMP) return fold_dim_compare(c, op, a, b);
    }
    return r.i ? expr_dim(c, r) : (Expr){0};
}

/* (x op k1) op k2 with constants: one constant, for integer operations that associate. */
static Expr fold_chain(Ctx *c, SOp op, DType t, Expr x, Expr k) {
    const ExprInfo *in = is_op(c, x, op);
    if (!in || dt_is_float(t) || !is_const(c, in->arg[1])) return (Expr){0};
    Scalar v = expr_eval_op(op, t, (Scalar[]){expr_info(c, in->arg[1])->val, expr_info(c, k)->val});
    return op2(c, op, in->arg[0], expr_const(c, v));
}

static Expr fold_add(Ctx *c, DType t, Expr x, Expr y) {
    if (is_value(c, y, dt_is_float(t) ? -0.0 : 0)) return x;
    return is_const(c, y) ? fold_chain(c, S_ADD, t, x, y) : (Expr){0};
}

static Expr fold_sub(Ctx *c, DType t, Expr x, Expr y) {
    if (is_value(c, y, 0)) return x; /* +0.0 too: -0 - 0 = -0 */
    if (dt_is_float(t)) return (Expr){0};
    if (same(x, y)) return expr_int(c, t, 0);
    if (is_value(c, x, 0)) return op1(c, S_NEG, y);
    if (dt_is_signed(t) && is_const(c, y)) return op2(c, S_ADD, x, op1(c, S_NEG, y));
    return (Expr){0};
}

static Expr fold_mul(Ctx *c, DType t, Expr x, Expr y) {
    if (is_value(c, y, 1)) return x;
    if (!is_const(c, y) || dt_is_float(t)) return (Expr){0};
    return is_value(c, y, 0) ? y : fold_chain(c, S_MUL, t, x, y);
}

static Expr fold_divide(Ctx *c, SOp op, DType t, Expr x, Expr y) {
    bool whole = op == S_DIV || op == S_FDIV;
    if (whole && is_value(c, y, 1)) return x;
    if (dt_is_float(t)) return (Expr){0};
    if (!whole && is_value(c, y, 1)) return expr_int(c, t, 0);
    return is_value(c, x, 0) || is_value(c, y, 0) ? expr_int(c, t, 0) : (Expr){0};
}

static Expr fold_pow(Ctx *c, DType t, Expr x, Expr y) {
    if (is_value(c, y, 0)) return expr_int(c, t, 1);
    if (is_value(c, y, 1)) return x;
    if (is_value(c, y, 2)) return op2(c, S_MUL, x, x);
    if (dt_is_float(t) && is_value(c, y, -1)) return op1(c, S_RECIP, x);
    return (Expr){0};
}

static Expr fold_minmax(Ctx *c, SOp op, DType t, Expr x, Expr y) {
    if (same(x, y)) return x;
    if (dt_is_float(t) && is_value(c, y, op == S_MIN ? (double)INFINITY : -(double)INFINITY))
        return x;
    return is_const(c, y) ? fold_chain(c, op, t, x, y) : (Expr){0};
}

static Expr fold_bits(Ctx *c, SOp op, DType t, Expr x, Expr y) {
    if (same(x, y)) return op == S_XOR ? expr_int(c, t, 0) : x;
    if (!is_const(c, y)) return (Expr){0};
    bool zero = is_value(c, y, 0), ones = same(y, op1(c, S_NOT, expr_int(c, t, 0)));
    if (zero) return op == S_AND ? y : x;
    if (ones) return op == S_AND ? x : op == S_OR ? y : op1(c, S_NOT, x);
    return fold_chain(c, op, t, x, y);
}

static Expr fold_shift(Ctx *c, Expr x, Expr y) {
    return is_value(c, y, 0) || is_value(c, x, 0) ? x : (Expr){0};
}

static Expr fold_compare(Ctx *c, SOp op, Expr x, Expr y) {
    DType t = expr_info(c, x)->dtype;
    if (t == DT_BOOL && is_const(c, y) && (op == S_EQ || op == S_NE))
        return is_value(c, y, op == S_EQ) ? x : op1(c, S_NOT, x);
    if (!same(x, y)) return (Expr){0};
    bool strict = op == S_NE || op == S_LT || op == S_GT;
    if (dt_is_float(t) && op != S_LT && op != S_GT) return (Expr){0}; /* NaN decides */
    return expr_int(c, DT_BOOL, !strict);
}

static Expr fold_not(Ctx *c, Expr x) {
    static const SOp inverse[S_COUNT] = {[S_EQ] = S_NE, [S_NE] = S_EQ, [S_LT] = S_GE,
                                         [S_GE] = S_LT, [S_GT] = S_LE, [S_LE] = S_GT};
    const ExprInfo *i = expr_info(c, x);
    if (i->kind != E_OP) return (Expr){0};
    if (i->op == S_NOT) return i->arg[0];
    bool ordered = i->op == S_EQ || i->op == S_NE || !dt_is_float(expr_info(c, i->arg[0])->dtype);
    return inverse[i->op] && ordered ? op2(c, inverse[i->op], i->arg[0], i->arg[1]) : (Expr){0};
}

static Expr fold_select(Ctx *c, Expr k, Expr x, Expr y) {
    if (is_const(c, k)) return is_value(c, k, 0) ? y : x;
    if (same(x, y)) return x;
    const ExprInfo *not = is_op(c, k, S_NOT);
    if (not) return expr_opn(c, S_SELECT, 3, (Expr[]){not->arg[0], y, x});
    if (expr_info(c, x)->dtype == DT_BOOL && is_const(c, x) && is_const(c, y)) /* they differ */
        return is_value(c, x, 1) ? k : op1(c, S_NOT, k);
    return (Expr){0};
}

static Expr fold_unary(Ctx *c, SOp op, Expr x) {
    const ExprInfo *i = expr_info(c, x);
    if (op == S_NOT) return fold_not(c, x);
    if (i->kind != E_OP) return (Expr){0};
    if (op == S_NEG && i->op == S_NEG) return i->arg[0];
    if (op == S_ABS && i->op == S_NEG && (dt_is_float(i->dtype) || dt_is_signed(i->dtype)))
        return op1(c, S_ABS, i->arg[0]);
    bool idempotent = op == S_ABS || op == S_SIGN;
    bool rounds = op == S_FLOOR || op == S_CEIL || op == S_TRUNC || op == S_RINT;
    bool rounded = i->op == S_FLOOR || i->op == S_CEIL || i->op == S_TRUNC || i->op == S_RINT;
    return (idempotent && i->op == op) || (rounds && rounded) ? x : (Expr){0};
}

Expr expr_fold_op(Ctx *c, SOp op, DType t, const Expr *arg) {
    switch (op) {
    case S_ADD: return fold_add(c, t, arg[0], arg[1]);
    case S_SUB: return fold_sub(c, t, arg[0], arg[1]);
    case S_MUL: return fold_mul(c, t, arg[0], arg[1]);
    case S_DIV: case S_FDIV: case S_MOD: case S_REM: return fold_divide(c, op, t, arg[0], arg[1]);
    case S_POW: return fold_pow(c, t, arg[0], arg[1]);
    case S_MIN: case S_MAX: return fold_minmax(c, op, t, arg[0], arg[1]);
    case S_AND: case S_OR: case S_XOR: return fold_bits(c, op, t, arg[0], arg[1]);
    case S_SHL: case S_SHR: return fold_shift(c, arg[0], arg[1]);
    case S_SELECT: return fold_select(c, arg[0], arg[1], arg[2]);
    default: break;
    }
    if (sop_info(op)->rule == RULE_CMP) return fold_compare(c, op, arg[0], arg[1]);
    return sop_info(op)->n == 1 ? fold_unary(c, op, arg[0]) : (Expr){0};
}
