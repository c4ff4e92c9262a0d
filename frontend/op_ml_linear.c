/* op_ml_linear.c: linear classifiers and regressors of ai.onnx.ml: a product with constant coefficients, then labels and a transformation of
 * the scores as in ONNX Runtime. */
#include "frontend/ml.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(ml_linclass); FN(ml_linreg);

/* x w^T + intercepts, f32[rows, n], with w the n rows of `coefficients`. n 0: as many as the features of x allow. */
static Val linear(Imp *m, int64_t n)
{
    List w, b;
    Val x = ml_rows(m, cast_to(m, m->in[0], DT_F32));
    if (!x.i || !ml_list(m, "coefficients", &w) || !ml_list(m, "intercepts", &b))
        return (Val){0};
    Dim features = dim_of(m, x, 1);
    int64_t f;
    if (!n && dim_is_const(m->c, features, &f) && f > 0)
        n = w.n / f;
    if (!n || !w.n || w.n % n || (b.n && b.n != n)) {
        ERR(m, "E0202", "%lld coefficients and %lld intercepts do not fit %lld scores", (long long)w.n, (long long)b.n, (long long)n);
        return (Val){0};
    }
    Dim d[2] = {DC(m, n), DC(m, w.n / n)};
    b_guard(&m->b, G_EQ, features, d[1], "X must have %lld features", (long long)(w.n / n));
    Val y = b_contract(&m->b, "nf,cf->nc", x, ml_const(m, DT_F32, 2, d, w.v), DT_F32, DT_F32);
    return b.n ? b_binary(&m->b, S_ADD, y, ml_const(m, DT_F32, 1, d, b.v)) : y;
}

/* One score of two classes: above 0 is the second. */
static void one_score(Imp *m, Val s, Val labels, int64_t count)
{
    Expr a = xarg(m, 0, DT_F32), second = expr_cast(m->c, X2(GT, a, xf(m, DT_F32, 0)), DT_I64);
    if (count != 2) {
        ERR(m, "E0202", "one score needs two class labels, there are %lld", (long long)count);
        return;
    }
    result(m, 0, ml_pick(m, labels, drop_axes(m, b_map1(&m->b, second, 1, &s), 2)));
    result(m, 1, ml_two_columns(m, s, attr_s(m, "post_transform"), false));
}

void imp_ml_linclass(Imp *m)
{
    Val labels = ml_labels(m, "classlabels_ints", "classlabels_strings");
    int64_t count, n = ml_count(m, "intercepts");
    Val s = labels.i ? linear(m, n) : labels;
    if (!s.i || !dim_is_const(m->c, dim_of(m, labels, 0), &count) || !dim_is_const(m->c, dim_of(m, s, 1), &n))
        return;
    if (n == 1) {
        one_score(m, s, labels, count);
        return;
    }
    if (count != n) {
        ERR(m, "E0202", "%lld class labels for %lld scores", (long long)count, (long long)n);
        return;
    }
    result(m, 0, ml_pick(m, labels, ml_argmax(m, s)));
    result(m, 1, ml_post(m, s, attr_s(m, "post_transform")));
}

void imp_ml_linreg(Imp *m)
{
    int64_t n = attr_i(m, "targets");
    if (n < 1) {
        ERR(m, "E0202", "attribute targets: expected a positive number, got %lld", (long long)n);
        return;
    }
    result(m, 0, ml_post(m, linear(m, n), attr_s(m, "post_transform")));
}
