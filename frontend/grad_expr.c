/* grad_expr.c: derivatives of scalar expressions. In: an expression and a leaf of it (an argument or a load); out: the derivative
 * by that leaf, of the expression's type, or none where it is 0 everywhere. */
#include "frontend/grad.h"
#include "frontend/import.h"

/* By each argument, in terms of the arguments a, b, c and, as the last, the result. What steps or ties takes the side that
 * frameworks take: 0 for steps, the second of equal ones for min and max, so that relu has 0 at 0. */
static const char *const rules[S_COUNT][3] = {
    [S_ADD] = {"1", "1"},          [S_SUB] = {"1", "-1"},             [S_MUL] = {"b", "a"},
    [S_DIV] = {"1 / b", "0 - c / b"},
    [S_MOD] = {"1", "(c - a) / b"},                                   [S_REM] = {"1", "(c - a) / b"},
    [S_POW] = {"select(b == 0, 0, b * pow(a, b - 1))", "select(a > 0, c * log(a), 0)"},
    [S_MIN] = {"select(a < b, 1, 0)", "select(a < b, 0, 1)"},
    [S_MAX] = {"select(a > b, 1, 0)", "select(a > b, 0, 1)"},
    [S_NEG] = {"-1"},              [S_ABS] = {"sign(a)"},             [S_SQRT] = {"0.5 / b"},
    [S_RSQRT] = {"-0.5 * b * b * b"},                                 [S_RECIP] = {"0 - b * b"},
    [S_EXP] = {"b"},               [S_EXPM1] = {"b + 1"},             [S_LOG] = {"1 / a"},
    [S_LOG1P] = {"1 / (a + 1)"},   [S_SIN] = {"cos(a)"},              [S_COS] = {"0 - sin(a)"},
    [S_TAN] = {"1 + b * b"},       [S_ASIN] = {"rsqrt(1 - a * a)"},   [S_ACOS] = {"0 - rsqrt(1 - a * a)"},
    [S_ATAN] = {"1 / (1 + a * a)"},                                   [S_SINH] = {"cosh(a)"},
    [S_COSH] = {"sinh(a)"},        [S_TANH] = {"1 - b * b"},          [S_ASINH] = {"rsqrt(a * a + 1)"},
    [S_ACOSH] = {"rsqrt(a * a - 1)"},                                 [S_ATANH] = {"1 / (1 - a * a)"},
    [S_ERF] = {"1.1283791670955126 * exp(0 - a * a)"},                [S_SIGMOID] = {"b * (1 - b)"},
    [S_FMA] = {"b", "a", "1"},
};

static Expr sum(Imp *m, Expr x, Expr y) { return !x.i ? y : !y.i ? x : X2(ADD, x, y); }

static Expr rule(Imp *m, const char *text, const ExprInfo *i, Expr whole)
{
    DType t[4];
    Expr arg[4];
    for (int k = 0; k <= i->narg; k++) {
        t[k] = (DType)i->dtype;
        arg[k] = k < i->narg ? i->arg[k] : whole;
    }
    Expr e = expr_parse(m->c, &text, t, i->narg + 1u);
    return expr_subst_args(m->c, expr_info(m->c, e)->dtype == i->dtype ? e : expr_cast(m->c, e, (DType)i->dtype), arg, i->narg + 1u);
}

Expr grad_expr(Imp *m, Expr e, Expr by)
{
    const ExprInfo i = *expr_info(m->c, e);
    if (!dt_is_float((DType)i.dtype))
        return (Expr){0};
    if (e.i == by.i)
        return xf(m, (DType)i.dtype, 1);
    if (i.kind == E_CAST) {
        Expr d = grad_expr(m, i.arg[0], by);
        return d.i ? expr_cast(m->c, d, (DType)i.dtype) : d;
    }
    if (i.kind != E_OP)
        return (Expr){0};
    if (i.op == S_SELECT) {
        Expr x = grad_expr(m, i.arg[1], by), y = grad_expr(m, i.arg[2], by), zero = xf(m, (DType)i.dtype, 0);
        return !x.i && !y.i ? x : X3(SELECT, i.arg[0], x.i ? x : zero, y.i ? y : zero);
    }
    Expr total = {0};
    for (int k = 0; k < i.narg; k++) {
        Expr d = rules[i.op][k] ? grad_expr(m, i.arg[k], by) : (Expr){0};
        if (d.i)
            total = sum(m, total, X2(MUL, d, rule(m, rules[i.op][k], &i, e)));
    }
    return total;
}
