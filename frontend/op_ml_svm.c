/* op_ml_svm.c: support vector machines of ai.onnx.ml, as in libsvm and ONNX Runtime: the kernel of every row with every support vector; one
 * decision for each pair of classes, which are votes; and with prob_a, prob_b, probabilities coupled from the pairs. */
#include "frontend/ml.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(ml_svmclass); FN(ml_svmreg);

enum { SWEEPS = 100, MAX_PAIRS = 1 << 26 };

/* K(x, v) for the n vectors v (rows of `vec`): f32[rows, n]. `linear`: the plain product, whatever kernel_type says. */
static Val kernel_of(Imp *m, Val x, const List *vec, int64_t n, bool linear)
{
    static const char *const names[] = {"kernel_type", "kernel_params"};
    List p;
    int64_t f = vec->n / n;
    Ctx *c = m->c;
    if (!ml_list(m, names[1], &p))
        return (Val){0};
    if (p.n && p.n != 3) {
        ERR(m, "E0202", "attribute kernel_params: expected 3 numbers, got %lld", (long long)p.n);
        return (Val){0};
    }
    float gamma = p.n ? (float)p.v[0] : 0, coef0 = p.n ? (float)p.v[1] : 0, degree = p.n ? (float)p.v[2] : 0;
    b_guard(&m->b, G_EQ, dim_of(m, x, 1), DC(m, f), "X must have %lld features", (long long)f);
    Val v = ml_const(m, DT_F32, 2, (Dim[]){DC(m, n), DC(m, f)}, vec->v);
    bool rbf = !linear && attr_is(m, names[0], "RBF"), poly = attr_is(m, names[0], "POLY");
    Expr a = xarg(m, 0, DT_F32);
    if (rbf) {
        Val in[2] = {insert_axes(m, x, 3, 4), b_permute(&m->b, v, (int[]){1, 0})};
        Val d = map_text(m, "(a - b) * (a - b)", 2, in), sum = d.i ? b_reduce1(&m->b, R_SUM, d, 2, false) : d;
        return sum.i ? b_map1(&m->b, X1(EXP, X2(MUL, xf(m, DT_F32, (double)-gamma), a)), 1, &sum) : sum;
    }
    Val y = b_contract(&m->b, "nf,vf->nv", x, v, DT_F32, DT_F32);
    if (linear || !y.i || attr_is(m, names[0], "LINEAR"))
        return y;
    Expr e = X2(ADD, X2(MUL, xf(m, DT_F32, (double)gamma), a), xf(m, DT_F32, (double)coef0));
    if (!poly)
        e = X1(TANH, e);
    else if (degree == 2 || degree == 3)
        e = degree == 2 ? X2(MUL, e, e) : X2(MUL, X2(MUL, e, e), e);
    else
        e = X2(POW, e, expr_float(c, DT_F32, (double)degree));
    return b_map1(&m->b, e, 1, &y);
}

void imp_ml_svmreg(Imp *m)
{
    List coef, rho, vec;
    Val x = ml_rows(m, cast_to(m, m->in[0], DT_F32));
    if (!x.i || !ml_list(m, "coefficients", &coef) || !ml_list(m, "rho", &rho) || !ml_list(m, "support_vectors", &vec))
        return;
    int64_t n = attr_i(m, "n_supports");
    if (n < 0 || !coef.n || rho.n < 1 || (n ? !vec.n || vec.n % n || coef.n != n : vec.n != 0)) {
        ERR(m, "E0202", "%lld numbers of support_vectors, %lld coefficients and %lld of rho do not fit n_supports = %lld", (long long)vec.n,
            (long long)coef.n, (long long)rho.n, (long long)n);
        return;
    }
    Val y = n ? kernel_of(m, x, &vec, n, false) : kernel_of(m, x, &coef, 1, true);
    if (n && y.i)
        y = b_contract(&m->b, "nv,cv->nc", y, ml_const(m, DT_F32, 2, (Dim[]){DC(m, 1), DC(m, n)}, coef.v), DT_F32, DT_F32);
    if (!y.i)
        return;
    Expr e = X2(ADD, xarg(m, 0, DT_F32), xf(m, DT_F32, rho.v[0]));
    if (attr_i(m, "one_class"))
        e = X3(SELECT, X2(GT, e, xf(m, DT_F32, 0)), xf(m, DT_F32, 1), xf(m, DT_F32, -1));
    y = b_map1(&m->b, e, 1, &y);
    result(m, 0, attr_i(m, "one_class") ? y : ml_post(m, y, attr_s(m, "post_transform")));
}

/* ---- classifier */

typedef struct Svc {
    int64_t classes, pairs, vectors;
    Dim c, p, rows;
    const int64_t *per;         /* support vectors of each class, one after the other */
    List coef, rho, a, b;
} Svc;

/* Decision of pair (i, j), i < j: sum of coef[j - 1] over the vectors of i, of coef[i] over those of j, + rho: a product with a matrix. */
static Val decisions(Imp *m, const Svc *s, Val k)
{
    double *w = NEWN(m->c, double, s->pairs * s->vectors);
    int64_t p = 0;
    for (int64_t i = 0, at_i = 0; i < s->classes; at_i += s->per[i++])
        for (int64_t j = i + 1, at_j = at_i + s->per[i]; j < s->classes; at_j += s->per[j++], p++) {
            for (int64_t v = at_i; v < at_i + s->per[i]; v++)
                w[p * s->vectors + v] = s->coef.v[(j - 1) * s->vectors + v];
            for (int64_t v = at_j; v < at_j + s->per[j]; v++)
                w[p * s->vectors + v] = s->coef.v[i * s->vectors + v];
        }
    Val y = b_contract(&m->b, "nv,pv->np", k, ml_const(m, DT_F32, 2, (Dim[]){s->p, DC(m, s->vectors)}, w), DT_F32, DT_F32);
    return y.i ? b_binary(&m->b, S_ADD, y, ml_const(m, DT_F32, 1, &s->p, s->rho.v)) : y;
}

/* [2, pairs]: the classes of each pair, the lesser first */
static Val pair_classes(Imp *m, const Svc *s)
{
    int32_t *v = NEWN(m->c, int32_t, 2 * s->pairs), *second = v + s->pairs;
    for (int64_t i = 0, p = 0; i < s->classes; i++)
        for (int64_t j = i + 1; j < s->classes; j++, p++) {
            v[p] = (int32_t)i;
            second[p] = (int32_t)j;
        }
    return ml_const_i32(m, 2, (Dim[]){DC(m, 2), s->p}, v);
}

/* Votes: a positive decision is one for the first class of its pair; i32[rows, classes]. */
static Val votes(Imp *m, const Svc *s, Val y)
{
    Val in[2] = {insert_axes(m, y, 3, 4), pair_classes(m, s)};
    Expr at[2] = {X3(SELECT, X2(GT, xarg(m, 0, DT_F32), xf(m, DT_F32, 0)), XI(0), XI(1)), xaxis(m, 1)};
    Expr winner = expr_load(m->c, 1, DT_I32, 2, at, OOB_NEVER, (Expr){0}, 0);
    Expr hit = X2(EQ, expr_cast(m->c, winner, DT_I64), xaxis(m, 2));
    Val v = map_over(m, expr_cast(m->c, hit, DT_I32), 2, in, 3, (Dim[]){s->rows, s->p, s->c});
    return v.i ? b_reduce1(&m->b, R_SUM, v, 2, false) : v;
}

/* r[n, i, j]: the probability of i against j, from the decision of their pair */
static Val pair_probabilities(Imp *m, const Svc *s, Val y)
{
    Val in[3] = {y, ml_const(m, DT_F32, 1, &s->p, s->a.v), ml_const(m, DT_F32, 1, &s->p, s->b.v)};
    Val r = map_text(m, "min(max(1 - sigmoid(a * b + c), 1e-7), 1 - 1e-7)", 3, in);
    /* pair of i < j: i C - i (i + 1) / 2 + j - i - 1 */
    Expr i = X2(MIN, xaxis(m, 1), xaxis(m, 2)), j = X2(MAX, xaxis(m, 1), xaxis(m, 2));
    Expr tri = X2(FDIV, X2(MUL, i, X2(ADD, i, XI(1))), XI(2));
    Expr at[2] = {xaxis(m, 0), X2(ADD, X2(SUB, X2(MUL, i, XI(s->classes)), tri), X2(SUB, X2(SUB, j, i), XI(1)))};
    Expr one = xf(m, DT_F32, 1), zero = xf(m, DT_F32, 0), v = expr_load(m->c, 0, DT_F32, 2, at, OOB_CLAMP, (Expr){0}, 0);
    Expr e = X3(SELECT, X2(LT, xaxis(m, 1), xaxis(m, 2)), v, X3(SELECT, X2(EQ, xaxis(m, 1), xaxis(m, 2)), zero, X2(SUB, one, v)));
    return map_over(m, e, 1, &r, 3, (Dim[]){s->rows, s->c, s->c});
}

/* q[i, i] = sum of r[j, i]^2, q[i, j] = -r[j, i] r[i, j] */
static Val coupling_matrix(Imp *m, const Svc *s, Val r)
{
    Dim d[3] = {s->rows, s->c, s->c};
    Val sq = map_text(m, "a * a", 1, &r), in[2] = {r, sq.i ? b_reduce1(&m->b, R_SUM, sq, 2, false) : sq};
    if (!in[1].i)
        return in[1];
    Expr ij[3] = {xaxis(m, 0), xaxis(m, 1), xaxis(m, 2)}, ji[3] = {ij[0], ij[2], ij[1]};
    Expr rij = expr_load(m->c, 0, DT_F32, 3, ij, OOB_NEVER, (Expr){0}, 0), rji = expr_load(m->c, 0, DT_F32, 3, ji, OOB_NEVER, (Expr){0}, 0);
    Expr diag = expr_load(m->c, 1, DT_F32, 2, ij, OOB_NEVER, (Expr){0}, 0);
    return map_over(m, X3(SELECT, X2(EQ, ij[1], ij[2]), diag, X1(NEG, X2(MUL, rji, rij))), 2, in, 3, d);
}

/* One step of a sweep: p[i] moves to where it is best given the others, then p is scaled to sum 1; x = {p, q p, p q p} follow. */
static void couple_one(Imp *m, const Svc *s, Val q, int64_t i, Val *x)
{
    Dim d[2] = {s->rows, s->c};
    Expr row = xaxis(m, 0), k = xaxis(m, 1), one = xf(m, DT_F32, 1), at[3] = {row, XI(i), XI(i)};
    Val in[4] = {x[0], x[1], x[2], q};
    Expr qii = expr_load(m->c, 3, DT_F32, 3, at, OOB_NEVER, (Expr){0}, 0), qpi = expr_load(m->c, 1, DT_F32, 2, at, OOB_NEVER, (Expr){0}, 0);
    Expr pqp = expr_load(m->c, 2, DT_F32, 1, &row, OOB_NEVER, (Expr){0}, 0);
    Expr diff = X2(DIV, X2(SUB, pqp, qpi), qii), scale = X2(ADD, one, diff);
    at[2] = k;
    Expr qik = expr_load(m->c, 3, DT_F32, 3, at, OOB_NEVER, (Expr){0}, 0);
    Expr p = X3(SELECT, X2(EQ, k, XI(i)), X2(ADD, xarg(m, 0, DT_F32), diff), xarg(m, 0, DT_F32));
    Expr qp = X2(ADD, xarg(m, 1, DT_F32), X2(MUL, diff, qik));
    Expr gain = X2(MUL, diff, X2(ADD, X2(MUL, diff, qii), X2(MUL, xf(m, DT_F32, 2), qpi)));
    x[0] = map_over(m, X2(DIV, p, scale), 4, in, 2, d);
    x[1] = map_over(m, X2(DIV, qp, scale), 4, in, 2, d);
    x[2] = map_over(m, X2(DIV, X2(DIV, X2(ADD, pqp, gain), scale), scale), 4, in, 1, d);
}

/* Probabilities p of the classes that minimise p q p (Wu, Lin and Weng 2004, second method): sweeps until a row's error is below
 * 0.005 / classes; then the row stays. */
static Val coupled(Imp *m, const Svc *s, Val r)
{
    Val q = coupling_matrix(m, s, r);
    Dim d[2] = {s->rows, s->c};
    B outer = m->b;
    if (!q.i)
        return q;
    Val start = map_over(m, xf(m, DT_F32, 1.0 / (double)s->classes), 0, NULL, 2, d);
    Graph *g = graph_new(m->c, NULL, outer.g);
    graph_input(g, NULL, type_tensor(m->c, DT_I64, 0, NULL));
    graph_input(g, NULL, type_tensor(m->c, DT_BOOL, 0, NULL));
    Val p = graph_input(g, NULL, type_tensor(m->c, DT_F32, 2, d)), qq = graph_input(g, NULL, *val_type(outer.g, q));
    m->b = builder(g, outer.loc);
    Val qp = b_contract(&m->b, "nij,nj->ni", qq, p, DT_F32, DT_F32);
    Val pqp = b_contract(&m->b, "ni,ni->n", p, qp, DT_F32, DT_F32);
    Val err[2] = {qp, insert_axes(m, pqp, 2, 2)};
    Val worst = b_reduce1(&m->b, R_MAX, map_text(m, "abs(a - b)", 2, err), 2, false);
    Val moving = b_map1(&m->b, X1(NOT, X2(LT, xarg(m, 0, DT_F32), xf(m, DT_F32, 0.005 / (double)s->classes))), 1, &worst);
    Val x[3] = {p, qp, pqp};
    for (int64_t i = 0; i < s->classes; i++)
        couple_one(m, s, qq, i, x);
    Val next = b_select(&m->b, insert_axes(m, moving, 2, 2), x[0], p);
    graph_output(g, NULL, b_reduce1(&m->b, R_OR, moving, 1, false));
    graph_output(g, NULL, next);
    m->b = outer;
    Val out = {0}, in[4] = {scalar_i64(m, SWEEPS), {0}, start, q};
    b_loop(&m->b, g, 1, 0, 4, in, &out);
    return out;
}

static bool svc_read(Imp *m, Svc *s, int64_t classes)
{
    int n;
    *s = (Svc){.classes = classes, .pairs = classes * (classes - 1) / 2, .per = attr_ints(m, "vectors_per_class", &n)};
    if (!ml_list(m, "coefficients", &s->coef) || !ml_list(m, "rho", &s->rho) || !ml_list(m, "prob_a", &s->a) || !ml_list(m, "prob_b", &s->b))
        return false;
    for (int i = 0; i < n; i++) {
        if (s->per[i] < 0 || s->per[i] > INT32_MAX) {
            ERR(m, "E0202", "attribute vectors_per_class: %lld", (long long)s->per[i]);
            return false;
        }
        s->vectors += s->per[i];
    }
    bool fit = s->vectors ? n == classes && s->coef.n == (classes - 1) * s->vectors && s->rho.n == s->pairs : s->coef.n && s->rho.n >= 1;
    fit &= s->a.n == s->b.n && (!s->a.n || s->a.n == s->pairs || !s->vectors);
    if (!fit || classes < 2) {
        ERR(m, "E0202", "%lld coefficients, %lld of rho, %lld of prob_a and %lld of prob_b do not fit %lld classes with %lld vectors",
            (long long)s->coef.n, (long long)s->rho.n, (long long)s->a.n, (long long)s->b.n, (long long)classes, (long long)s->vectors);
        return false;
    }
    if (s->vectors && s->pairs > MAX_PAIRS / s->vectors) {
        UNSUP(m, "%lld pairs of classes with %lld support vectors", (long long)s->pairs, (long long)s->vectors);
        return false;
    }
    s->c = DC(m, s->classes);
    s->p = DC(m, s->pairs);
    return true;
}

/* liblinear: a score for each class, + rho[0] */
static void linear_mode(Imp *m, const Svc *s, Val x, Val labels)
{
    if (s->coef.n % s->classes) {
        ERR(m, "E0202", "%lld coefficients for %lld classes", (long long)s->coef.n, (long long)s->classes);
        return;
    }
    Val y = kernel_of(m, x, &s->coef, s->classes, true);
    if (!y.i)
        return;
    y = b_map1(&m->b, X2(ADD, xarg(m, 0, DT_F32), xf(m, DT_F32, s->rho.v[0])), 1, &y);
    Val at = ml_argmax(m, y);
    if (s->classes == 2 && !s->a.n) { /* the second also where the greatest score is great enough */
        bool positive = true;
        for (int64_t i = 0; i < s->coef.n; i++)
            positive &= s->coef.v[i] >= 0;
        Val in[2] = {at, b_reduce1(&m->b, R_MAX, y, 2, false)};
        Expr top = xarg(m, 1, DT_F32), sure = positive ? X2(GE, top, xf(m, DT_F32, 0.5)) : X2(GT, top, xf(m, DT_F32, 0));
        at = b_map1(&m->b, X3(SELECT, sure, XI(1), xarg(m, 0, DT_I64)), 2, in);
    }
    result(m, 0, ml_pick(m, labels, at));
    result(m, 1, ml_post(m, y, attr_s(m, "post_transform")));
}

void imp_ml_svmclass(Imp *m)
{
    List vec;
    Svc s;
    int64_t classes;
    Val x = ml_rows(m, cast_to(m, m->in[0], DT_F32)), labels = ml_labels(m, "classlabels_ints", "classlabels_strings");
    if (!x.i || !labels.i || !dim_is_const(m->c, dim_of(m, labels, 0), &classes) || !ml_list(m, "support_vectors", &vec) ||
        !svc_read(m, &s, classes))
        return;
    s.rows = dim_of(m, x, 0);
    if (!s.vectors) {
        linear_mode(m, &s, x, labels);
        return;
    }
    if (!vec.n || vec.n % s.vectors) {
        ERR(m, "E0202", "%lld numbers are no %lld support vectors", (long long)vec.n, (long long)s.vectors);
        return;
    }
    Val k = kernel_of(m, x, &vec, s.vectors, false), y = k.i ? decisions(m, &s, k) : k;
    if (!y.i)
        return;
    Val at = ml_argmax(m, votes(m, &s, y));
    const char *post = attr_s(m, "post_transform");
    if (s.a.n) {
        y = ml_post(m, coupled(m, &s, pair_probabilities(m, &s, y)), post);
    } else if (s.classes == 2) { /* one decision, two columns */
        y = ml_two_columns(m, y, post, !strcmp(post, "NONE"));
    } else {
        y = ml_post(m, y, post);
    }
    result(m, 0, ml_pick(m, labels, at));
    result(m, 1, y);
}
