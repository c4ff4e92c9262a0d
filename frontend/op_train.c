/* op_train.c: losses and the steps of optimisers, as they occur in exported training graphs. Losses are maps over the
 * targets that load the class's score; ignored targets load class 0 and are masked, all others must be in range. */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(nllloss); FN(celoss); FN(adagrad); FN(adam); FN(momentum);

/* ---- losses */

typedef struct Loss { Val in[3]; int n, rank; Dim dim[MAX_RANK]; DType t; Expr ignored, weight, at[MAX_RANK]; } Loss;

/* scores: [N,C,d..] in the type that is computed in; targets [N,d..]; weights [C] or absent. */
static bool loss_open(Imp *m, Loss *l, Val scores)
{
    Val target = m->in[1], weight = operand(m, 2);
    int r = rank_of(m, scores);
    if (r < 2 || rank_of(m, target) != r - 1 || (weight.i && rank_of(m, weight) != 1)) {
        ERR(m, "E0203", "scores of rank %d, targets of rank %d, weights of rank %d", r, rank_of(m, target),
            weight.i ? rank_of(m, weight) : 1);
        return false;
    }
    *l = (Loss){.n = 2, .rank = r - 1, .t = dtype_of(m, scores)};
    l->in[0] = scores;
    l->in[1] = cast_to(m, target, DT_I64);
    dims_of(m, target, l->dim);
    Dim classes = dim_of(m, scores, 1);
    for (int i = 0; i < r - 1; i++)
        b_guard(&m->b, G_EQ, l->dim[i], dim_of(m, scores, i + (i > 0)), "axis %d of the targets does not fit the scores", i);
    Expr k = xarg(m, 1, DT_I64), label = k;
    if (attr_has(m, "ignore_index")) {
        l->ignored = X2(EQ, k, XI(attr_i(m, "ignore_index")));
        label = X3(SELECT, l->ignored, XI(0), k);
    }
    for (int i = 0; i < r; i++)
        l->at[i] = i == 1 ? label : xaxis(m, i - (i > 1));
    l->weight = xf(m, l->t, 1);
    if (weight.i) {
        b_guard(&m->b, G_EQ, dim_of(m, weight, 0), classes, "there must be a weight for every class");
        l->in[l->n] = cast_to(m, weight, l->t);
        l->weight = load_at(m, l->n++, l->t, 1, &label);
    }
    if (l->ignored.i)
        l->weight = X3(SELECT, l->ignored, xf(m, l->t, 0), l->weight);
    return true;
}

static uint32_t all_axes(const Loss *l) { return (1u << l->rank) - 1; }

/* The loss of log-probabilities `scores`, reduced as the attribute says. */
static void loss(Imp *m, Val scores, DType out)
{
    Loss l;
    if (!loss_open(m, &l, scores))
        return;
    Expr e = X2(MUL, X1(NEG, load_at(m, 0, l.t, l.rank + 1, l.at)), l.weight);
    if (l.ignored.i) /* even if the score is infinite */
        e = X3(SELECT, l.ignored, xf(m, l.t, 0), e);
    Val v = map_over(m, e, l.n, l.in, l.rank, l.dim);
    if (attr_is(m, "reduction", "sum")) {
        v = b_reduce1(&m->b, R_SUM, v, all_axes(&l), false);
    } else if (attr_is(m, "reduction", "mean") && l.n == 2 && !l.ignored.i) {
        v = b_mean(&m->b, v, all_axes(&l), false);
    } else if (attr_is(m, "reduction", "mean")) {
        Val w = b_reduce1(&m->b, R_SUM, map_over(m, l.weight, l.n, l.in, l.rank, l.dim), all_axes(&l), false);
        v = b_binary(&m->b, S_DIV, b_reduce1(&m->b, R_SUM, v, all_axes(&l), false), w);
    }
    result(m, 0, cast_to(m, v, out));
}

void imp_nllloss(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    loss(m, cast_to(m, m->in[0], wide_type(t)), t);
}

/* log softmax over the classes, then the loss of it */
void imp_celoss(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    Val x = cast_to(m, m->in[0], wide_type(t));
    if (rank_of(m, x) < 2) {
        ERR(m, "E0203", "scores: expected rank 2 or more, got %d", rank_of(m, x));
        return;
    }
    Val d = b_binary(&m->b, S_SUB, x, b_reduce1(&m->b, R_MAX, x, 2, true));
    Val sum = b_reduce1(&m->b, R_SUM, b_unary(&m->b, S_EXP, d), 2, true);
    Val logp = map_text(m, "a - log(b)", 2, (Val[]){d, sum});
    result(m, 1, cast_to(m, logp, t));
    loss(m, logp, t);
}

/* ---- optimisers: operands R, T, then all X, all gradients, all states of one kind, ... */

/* The number of tensors, 0 after a message. */

static int step_count(Imp *m, int kinds)
{
    int n = (int)m->n->nin - 2;
    if (n <= 0 || n % kinds) {
        ERR(m, "E0201", "expected 2 operands and then %d for each tensor, got %u", kinds, m->n->nin);
        return 0;
    }
    for (int i = 0; i < n; i++)
        if (!m->in[2 + i].i)
            return 0;
    return n / kinds;
}

/* in[0..kinds) = X, G, ..; then R and T */
static void step_load(Imp *m, int kinds, int count, int i, Val *in)
{
    for (int k = 0; k < kinds; k++)
        in[k] = m->in[2 + k * count + i];
    DType t = dtype_of(m, in[0]);
    in[kinds] = cast_to(m, only_element(m, m->in[0]), t);
    in[kinds + 1] = cast_to(m, only_element(m, m->in[1]), t);
}

void imp_adagrad(Imp *m)
{
    int n = step_count(m, 3);
    for (int i = 0; i < n; i++) {
        Val in[6]; /* a: X, b: G, c: H, d: R, e: T */
        step_load(m, 3, n, i, in);
        in[1] = map_text(m, "$norm_coefficient * a + b", 2, in);
        in[2] = map_text(m, "c + b * b", 3, in);
        result(m, (uint32_t)i, map_text(m, "a - d / (1 + e * $decay_factor) * b / (sqrt(c) + $epsilon)", 5, in));
        result(m, (uint32_t)(n + i), in[2]);
    }
}

void imp_adam(Imp *m)
{
    int n = step_count(m, 4);
    for (int i = 0; i < n; i++) {
        Val in[6]; /* a: X, b: G, c: V, d: H, e: R, f: T */
        step_load(m, 4, n, i, in);
        in[1] = map_text(m, "$norm_coefficient * a + b", 2, in);
        in[2] = map_text(m, "$alpha * c + (b - $alpha * b)", 3, in);
        in[3] = map_text(m, "$beta * d + (b * b - $beta * (b * b))", 4, in);
        Val rate = map_text(m, "select(b > 0, a * sqrt(1 - pow($beta, b)) / (1 - pow($alpha, b)), a)", 2, in + 4);
        in[4] = rate;
        in[0] = map_text(m, "a - e * c / (sqrt(d) + $epsilon)", 5, in);
        result(m, (uint32_t)i, map_text(m, "a - $norm_coefficient_post * a", 1, in));
        result(m, (uint32_t)(n + i), in[2]);
        result(m, (uint32_t)(2 * n + i), in[3]);
    }
}

void imp_momentum(Imp *m)
{
    int n = step_count(m, 3);
    bool nesterov = attr_is(m, "mode", "nesterov");
    for (int i = 0; i < n; i++) {
        Val in[6]; /* a: X, b: G, c: V, d: R, e: T */
        step_load(m, 3, n, i, in);
        in[1] = map_text(m, "$norm_coefficient * a + b", 2, in);
        in[2] = map_text(m, "$alpha * c + select(e > 0, $beta * b, b)", 5, in);
        result(m, (uint32_t)i, map_text(m, nesterov ? "a - d * (b + $alpha * c)" : "a - d * c", 4, in));
        result(m, (uint32_t)(n + i), in[2]);
    }
}
