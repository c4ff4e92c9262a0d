/* op_ml_score.c: scores of tree ensembles from the leaves that rows reach. If each tree has weights for one target alone, the trees are put in a
 * table [target, tree], padded with empty trees, and a score is the sum of its row of weights. Otherwise weights are rows of a matrix, one for each
 * leaf, and scores the sum of such rows. */
#include "frontend/ml_tree.h"
#include <math.h>
#include <string.h>

enum { MAX_WEIGHTS = 1 << 27 };

static double neutral(ReduceOp op) { return op == R_SUM ? 0 : op == R_MIN ? (double)INFINITY : -(double)INFINITY; }

static double combine(ReduceOp op, double a, double b)
{
    return op == R_SUM ? a + b : op == R_MIN ? (b < a ? b : a) : b > a ? b : a;
}

/* The one target of each tree's weights; NULL if a tree has several. */
static int64_t *tree_targets(Imp *m, const Trees *e)
{
    int64_t *of = NEWN(m->c, int64_t, e->node.n), *tree = NEWN(m->c, int64_t, e->root.n);
    uint32_t *stack = NEWN(m->c, uint32_t, e->node.n + 1), *seen = NEWN(m->c, uint32_t, e->node.n), n = 0;
    for (uint32_t i = 0; i < e->weight.n; i++) {
        const Weight *w = &e->weight.v[i];
        if (of[w->leaf] && of[w->leaf] != w->target + 1)
            return NULL;
        of[w->leaf] = w->target + 1;
    }
    for (uint32_t r = 0; r < e->root.n; r++) {
        for (seen[stack[n++] = e->root.v[r]] = r + 1; n;) {
            uint32_t k = stack[--n];
            if (of[k] && tree[r] && tree[r] != of[k])
                return NULL;
            tree[r] = of[k] ? of[k] : tree[r];
            for (int s = 0; s < 2 && !e->node.v[k].leaf; s++) {
                uint32_t to = e->node.v[k].kid[s];
                if (seen[to] != r + 1)
                    seen[stack[n++] = to] = r + 1;
            }
        }
        tree[r] -= tree[r] > 0;
    }
    return tree;
}

/* Trees by target, [targets, most]; false if most of it would be empty. */
static bool by_target(Imp *m, const Trees *e, int64_t n, Grove *out, int64_t *most)
{
    int64_t *target = n == 1 ? NEWN(m->c, int64_t, e->root.n) : tree_targets(m, e), *count = NEWN(m->c, int64_t, n);
    *most = 0;
    for (uint32_t r = 0; target && r < e->root.n; r++)
        if (++count[target[r]] > *most)
            *most = count[target[r]];
    if (!target || *most * n > 2 * (int64_t)e->root.n)
        return false;
    uint32_t *root = NEWN(m->c, uint32_t, *most * n);
    memset(count, 0, sizeof *count * (size_t)n);
    for (uint32_t r = 0; r < e->root.n; r++)
        root[target[r] * *most + count[target[r]]++] = e->root.v[r] + 1;
    *out = (Grove){root, *most * n};
    return true;
}

static bool find(Imp *m, const Trees *e, const Grove *g, Leaves *out)
{
    return trees_fit_bits(m, e, g) ? trees_bits(m, e, g, out) : trees_walk(m, e, g, out);
}

/* A weight for each slot: score[n, t] = the sum over trees (n, k) of that of the slot reached. */
static Val scores_in_slots(Imp *m, const Trees *e, int64_t n, int64_t most, const Grove *g, ReduceOp op)
{
    double *of = NEWN(m->c, double, e->node.n);
    Leaves l;
    if (!find(m, e, g, &l))
        return (Val){0};
    double *value = NEWN(m->c, double, l.slots);
    for (uint32_t k = 0; k < e->node.n; k++)
        of[k] = neutral(op);
    for (uint32_t i = 0; i < e->weight.n; i++)
        of[e->weight.v[i].leaf] = combine(op, of[e->weight.v[i].leaf], e->weight.v[i].value);
    for (int64_t s = 0; s < l.slots; s++)
        value[s] = l.node[s] == NO_NODE ? neutral(op) : of[l.node[s]];
    Dim rows = dim_of(m, e->x, 0);
    Val in[2] = {l.at, ml_const(m, e->split, 1, (Dim[]){DC(m, l.slots)}, value)};
    Expr slot = expr_cast(m->c, xarg(m, 0, DT_I32), DT_I64);
    Val v = map_over(m, expr_load(m->c, 1, e->split, 1, &slot, OOB_NEVER, (Expr){0}, 0), 2, in, 2, (Dim[]){rows, DC(m, g->n)});
    v = reshape_to(m, v, 3, (Dim[]){rows, DC(m, n), DC(m, most)});
    return v.i ? b_reduce1(&m->b, op, v, 4, false) : v;
}

static Val scores_by_matrix(Imp *m, const Trees *e, int64_t n, ReduceOp op)
{
    uint32_t *root = NEWN(m->c, uint32_t, e->root.n);
    Grove g = {root, e->root.n};
    Leaves l;
    for (uint32_t r = 0; r < e->root.n; r++)
        root[r] = e->root.v[r] + 1;
    if (!find(m, e, &g, &l))
        return (Val){0};
    int32_t *row = NEWN(m->c, int32_t, e->node.n), *row_of = NEWN(m->c, int32_t, l.slots); /* of each leaf, of each slot */
    int64_t leaves = 0;
    for (uint32_t k = 0; k < e->node.n; k++)
        row[k] = e->node.v[k].leaf ? (int32_t)leaves++ : 0;
    for (int64_t s = 0; s < l.slots; s++)
        row_of[s] = l.node[s] == NO_NODE ? 0 : row[l.node[s]];
    if (leaves > MAX_WEIGHTS / n) {
        UNSUP(m, "%lld leaves with %lld targets", (long long)leaves, (long long)n);
        return (Val){0};
    }
    double *weight = NEWN(m->c, double, leaves * n);
    for (int64_t i = 0; i < leaves * n; i++)
        weight[i] = neutral(op);
    for (uint32_t i = 0; i < e->weight.n; i++) {
        const Weight *x = &e->weight.v[i];
        if (e->node.v[x->leaf].leaf) { /* weights of other nodes are never reached */
            double *to = &weight[row[x->leaf] * n + x->target];
            *to = combine(op, *to, x->value);
        }
    }
    Dim d[3] = {dim_of(m, e->x, 0), DC(m, g.n), DC(m, n)};
    Val at[2] = {l.at, ml_const_i32(m, 1, (Dim[]){DC(m, l.slots)}, row_of)};
    Expr slot = expr_cast(m->c, xarg(m, 0, DT_I32), DT_I64);
    Val leaf = map_over(m, expr_load(m->c, 1, DT_I32, 1, &slot, OOB_NEVER, (Expr){0}, 0), 2, at, 2, d);
    if (!leaf.i)
        return leaf;
    Val in[2] = {insert_axes(m, leaf, 3, 4), ml_const(m, e->split, 2, (Dim[]){DC(m, leaves), d[2]}, weight)};
    Expr idx[2] = {slot, xaxis(m, 2)};
    Val v = map_over(m, expr_load(m->c, 1, e->split, 2, idx, OOB_NEVER, (Expr){0}, 0), 2, in, 3, d);
    return v.i ? b_reduce1(&m->b, op, v, 2, false) : v;
}

Val trees_scores(Imp *m, Trees *e, int64_t n, ReduceOp op)
{
    int64_t most, feature = -1;
    Grove g;
    if (!trees_measure(m, e))
        return (Val){0};
    for (uint32_t k = 0; k < e->node.n; k++)
        if (e->height[k] > 0 && e->node.v[k].feature > feature)
            feature = e->node.v[k].feature;
    b_guard(&m->b, G_LE, DC(m, feature + 1), dim_of(m, e->x, 1), "X must have more than %lld features", (long long)feature);
    Val y = by_target(m, e, n, &g, &most) ? scores_in_slots(m, e, n, most, &g, op) : scores_by_matrix(m, e, n, op);
    if (op == R_SUM || !y.i)
        return y;
    Expr a = xarg(m, 0, e->split), none = X2(EQ, a, xf(m, e->split, neutral(op)));
    return b_map1(&m->b, X3(SELECT, none, xf(m, e->split, 0), a), 1, &y);
}
