/* op_ml_walk.c: walking tree ensembles, in primitives. The nodes become records in one table, children of a node side by side, and a step is
 *
 *     at = first[at] + (x[feature[at]] > split[at])
 *
 * without a branch. A leaf is its own first child and greater than nothing, so that all trees take as many steps as the deepest has. A step is an
 * expression; a few are one map, so walks become kernels like other maps, with trees or rows along the lanes. Very deep trees are walked by a loop.
 *
 * If each tree has weights for one target alone, trees are put in a table [target, tree], padded with empty trees, and the weight stands in the
 * leaf's record: scores are one reduction of the walk. Otherwise the walk gives leaves [rows, trees], and scores are sums of rows of a matrix. */
#include "frontend/ml_tree.h"
#include <math.h>
#include <string.h>

enum { FIRST = 2, VALUE = 3, FIELDS = 4 };   /* columns of a record: feature, split (f32), first child, value or leaf */
enum { UNROLLED = 40, STEPS = 8, MAX_WEIGHTS = 1 << 27 };

typedef struct Layout {
    int64_t trees, records, depth;
    int32_t *field;             /* [records, FIELDS] */
    double *split;              /* [records] */
    double *value;              /* [records], if the weight stands in the leaf */
    int32_t *pair;              /* per node: record of its first child + 1 */
    enum { NAN_LEFT, NAN_RIGHT, NAN_MIXED } nan;
} Layout;

/* ---- depth, cycles */

/* Height of each node above its leaves, -1 where it is not reached. */
static int32_t *heights(Imp *m, const Trees *e)
{
    enum { NEW = -1, OPEN = -2 };
    int32_t *h = NEWN(m->c, int32_t, e->node.n);
    uint32_t *stack = NEWN(m->c, uint32_t, e->node.n + 1), n = 0;
    for (uint32_t i = 0; i < e->node.n; i++)
        h[i] = NEW;
    for (uint32_t r = 0; r < e->root.n; r++) {
        if (h[e->root.v[r]] == NEW)
            stack[n++] = e->root.v[r];
        while (n) {
            uint32_t k = stack[n - 1];
            const TNode *t = &e->node.v[k];
            bool wait = false;
            h[k] = t->leaf ? 0 : OPEN;
            for (int s = 0; s < 2 && !t->leaf && !wait; s++) {
                int32_t of = h[t->kid[s]];
                if (of == OPEN) {
                    ERR(m, "E0202", "the nodes of tree %u have a cycle", r);
                    return NULL;
                }
                if (of == NEW) {
                    stack[n++] = t->kid[s];
                    wait = true;
                }
            }
            if (wait)
                continue;
            if (!t->leaf)
                h[k] = 1 + (h[t->kid[0]] > h[t->kid[1]] ? h[t->kid[0]] : h[t->kid[1]]);
            n--;
        }
    }
    return h;
}

/* ---- the table of records */

static void put_record(const Trees *e, Layout *l, int64_t at, uint32_t k, const int32_t *leaf, const double *value)
{
    const TNode *t = &e->node.v[k];
    int32_t *f = l->field + at * FIELDS;
    union { float f; int32_t i; } split = {.f = t->leaf ? INFINITY : (float)t->split};
    l->split[at] = t->leaf ? INFINITY : t->split;
    f[0] = t->leaf ? 0 : (int32_t)(t->feature << 1 | t->nan_right);
    f[1] = split.i;
    f[FIRST] = t->leaf ? (int32_t)at : l->pair[k] - 1;
    f[VALUE] = leaf ? leaf[k] : 0;
    if (value)
        l->value[at] = t->leaf ? value[k] : 0;
}

/* Records of the trees in `order` (root + 1, or 0: an empty tree of value `nothing`), roots first. leaf, value: of each node. */
static bool lay_out(Imp *m, const Trees *e, int64_t n, const uint32_t *order, const int32_t *leaf, const double *value, double nothing, Layout *l)
{
    const int32_t *h = heights(m, e);
    int64_t branches = 0;
    uint32_t left = 0, right = 0, infinite = 0, *todo = NEWN(m->c, uint32_t, e->node.n + 1);
    if (!h)
        return false;
    for (uint32_t k = 0; k < e->node.n; k++) {
        const TNode *t = &e->node.v[k];
        if (h[k] <= 0 || t->leaf)
            continue;
        branches++;
        left += !t->nan_right;
        right += t->nan_right;
        infinite += t->nan_right && isinf(t->split) && t->split > 0;
    }
    *l = (Layout){.trees = n, .records = n + 2 * branches};
    l->nan = e->numbers || !right ? NAN_LEFT : left || infinite ? NAN_MIXED : NAN_RIGHT;
    if (l->records > INT32_MAX / FIELDS) {
        UNSUP(m, "%lld nodes", (long long)l->records);
        return false;
    }
    l->field = NEWN(m->c, int32_t, l->records * FIELDS);
    l->split = NEWN(m->c, double, l->records);
    l->value = value ? NEWN(m->c, double, l->records) : NULL;
    l->pair = NEWN(m->c, int32_t, e->node.n);
    int64_t free = n;
    for (int64_t r = 0; r < n; r++) {
        uint32_t top = 0;
        if (!order[r]) {
            int32_t *f = l->field + r * FIELDS;
            union { float f; int32_t i; } inf = {.f = INFINITY};
            f[1] = inf.i;
            f[FIRST] = (int32_t)r;
            l->split[r] = INFINITY;
            if (value)
                l->value[r] = nothing;
            continue;
        }
        uint32_t root = order[r] - 1;
        l->depth = h[root] > l->depth ? h[root] : l->depth;
        if (!e->node.v[root].leaf && !l->pair[root]) {
            l->pair[root] = (int32_t)(free + 1);
            free += 2;
            todo[top++] = root;
        }
        while (top) { /* the pairs of a subtree follow its own */
            const TNode *t = &e->node.v[todo[--top]];
            for (int s = 1; s >= 0; s--)
                if (!e->node.v[t->kid[s]].leaf && !l->pair[t->kid[s]]) {
                    l->pair[t->kid[s]] = (int32_t)(free + 1);
                    free += 2;
                    todo[top++] = t->kid[s];
                }
        }
        put_record(e, l, r, root, leaf, value);
    }
    for (uint32_t k = 0; k < e->node.n; k++)
        for (int s = 0; s < 2 && l->pair[k]; s++)
            put_record(e, l, l->pair[k] - 1 + s, e->node.v[k].kid[s], leaf, value);
    return true;
}

/* ---- the walk */

typedef struct Walk { const Trees *e; const Layout *l; Val in[4]; int nin; DType x; } Walk; /* in: x, records, splits (f64), values (f64) */

static Expr field(Imp *m, Expr at, int k)
{
    Expr idx[2] = {at, XI(k)};
    return expr_load(m->c, 1, DT_I32, 2, idx, OOB_NEVER, (Expr){0}, 0);
}

static Expr number(Imp *m, const Walk *w, Expr at, int operand, int k)
{
    if (w->e->split == DT_F64)
        return expr_load(m->c, (uint32_t)operand, DT_F64, 1, &at, OOB_NEVER, (Expr){0}, 0);
    return expr_bitcast(m->c, field(m, at, k), DT_F32);
}

static Expr step(Imp *m, const Walk *w, Expr row, Expr at)
{
    DType t = w->e->split;
    Expr f = field(m, at, 0), idx[2] = {row, expr_cast(m->c, X2(SHR, f, expr_int(m->c, DT_I32, 1)), DT_I64)};
    Expr x = expr_cast(m->c, expr_load(m->c, 0, w->x, 2, idx, OOB_NEVER, (Expr){0}, 0), t);
    if (w->l->nan == NAN_RIGHT)
        x = X3(SELECT, X1(ISNAN, x), xf(m, t, INFINITY), x);
    Expr right = X2(GT, x, number(m, w, at, 2, 1));
    if (w->l->nan == NAN_MIXED) {
        Expr odd = X2(NE, X2(AND, f, expr_int(m->c, DT_I32, 1)), expr_int(m->c, DT_I32, 0));
        right = X2(OR, right, X2(AND, X1(ISNAN, x), odd));
    }
    return X2(ADD, expr_cast(m->c, field(m, at, FIRST), DT_I64), expr_cast(m->c, right, DT_I64));
}

/* The records reached from `start` (operand w->nin, or none: the roots) after `steps` steps, i32[rows, trees]. */
static Expr steps_from(Imp *m, const Walk *w, int64_t steps, Expr at)
{
    for (int64_t k = 0; k < steps; k++)
        at = step(m, w, xaxis(m, 0), at);
    return at;
}

/* Deep trees: the loop carries the records, STEPS at a time. */
static Val walk_by_loop(Imp *m, const Walk *w, Dim rows)
{
    Dim d[2] = {rows, DC(m, w->l->trees)};
    B outer = m->b;
    Val start = map_over(m, expr_cast(m->c, xaxis(m, 1), DT_I32), 0, NULL, 2, d), in[8] = {scalar_i64(m, (w->l->depth + STEPS - 1) / STEPS), {0}, start};
    Graph *g = graph_new(m->c, NULL, outer.g);
    graph_input(g, NULL, type_tensor(m->c, DT_I64, 0, NULL));
    Val go = graph_input(g, NULL, type_tensor(m->c, DT_BOOL, 0, NULL)), at = graph_input(g, NULL, type_tensor(m->c, DT_I32, 2, d)), inner[5];
    for (int i = 0; i < w->nin; i++) {
        in[3 + i] = w->in[i];
        inner[i] = graph_input(g, NULL, *val_type(outer.g, w->in[i]));
    }
    inner[w->nin] = at;
    m->b = builder(g, outer.loc);
    Expr e = steps_from(m, w, STEPS, expr_cast(m->c, xarg(m, w->nin, DT_I32), DT_I64));
    at = map_over(m, expr_cast(m->c, e, DT_I32), w->nin + 1, inner, 2, d);
    graph_output(g, NULL, go);
    graph_output(g, NULL, at);
    m->b = outer;
    Val out = {0};
    b_loop(&m->b, g, 1, 0, 3 + w->nin, in, &out);
    return out;
}

static void walk_open(Imp *m, const Trees *e, const Layout *l, Walk *w)
{
    Dim d[2] = {DC(m, l->records), DC(m, FIELDS)};
    *w = (Walk){.e = e, .l = l, .nin = 2, .x = dtype_of(m, e->x)};
    if (e->split == DT_F32 && l->value)
        for (int64_t i = 0; i < l->records; i++) {
            union { float f; int32_t i; } v = {.f = (float)l->value[i]};
            l->field[i * FIELDS + VALUE] = v.i;
        }
    w->in[0] = e->x;
    w->in[1] = ml_const_i32(m, 2, d, l->field);
    if (e->split == DT_F64)
        w->in[w->nin++] = ml_const(m, DT_F64, 1, d, l->split);
    if (e->split == DT_F64 && l->value)
        w->in[w->nin++] = ml_const(m, DT_F64, 1, d, l->value);
}

/* Field VALUE (or the f64 value) of the record that row axis 0 reaches in tree `tree` (an index over the domain), over the domain. */
static Val reached(Imp *m, Walk *w, Expr tree, int rank, const Dim *dim)
{
    bool deep = w->l->depth > UNROLLED;
    Expr at = tree;
    Val in[5];
    int n = w->nin;
    memcpy(in, w->in, sizeof w->in);
    if (deep) {
        in[n] = walk_by_loop(m, w, dim[0]);
        Expr idx[2] = {xaxis(m, 0), tree};
        at = expr_cast(m->c, expr_load(m->c, (uint32_t)n++, DT_I32, 2, idx, OOB_NEVER, (Expr){0}, 0), DT_I64);
    } else {
        at = steps_from(m, w, w->l->depth, tree);
    }
    Expr e = w->l->value ? number(m, w, at, 3, VALUE) : field(m, at, VALUE);
    return map_over(m, e, n, in, rank, dim);
}

/* ---- scores */

static double neutral(ReduceOp op) { return op == R_SUM ? 0 : op == R_MIN ? (double)INFINITY : -(double)INFINITY; }

static double combine(ReduceOp op, double a, double b)
{
    return op == R_SUM ? a + b : op == R_MIN ? (b < a ? b : a) : b > a ? b : a;
}

/* The one target of each tree's weights; NULL if a tree has several. Leaves may be shared by trees of one target only. */
static int64_t *tree_targets(Imp *m, const Trees *e)
{
    int64_t *of = NEWN(m->c, int64_t, e->node.n), *tree = NEWN(m->c, int64_t, e->root.n);
    uint32_t *stack = NEWN(m->c, uint32_t, 2 * (size_t)e->node.n + 1), *seen = NEWN(m->c, uint32_t, e->node.n), n = 0;
    for (uint32_t i = 0; i < e->weight.n; i++) {
        const Weight *w = &e->weight.v[i];
        if (of[w->leaf] && of[w->leaf] != w->target + 1)
            return NULL;
        of[w->leaf] = w->target + 1;
    }
    for (uint32_t r = 0; r < e->root.n; r++)
        for (stack[n++] = e->root.v[r]; n;) {
            uint32_t k = stack[--n];
            if (seen[k] == r + 1)
                continue;
            seen[k] = r + 1;
            if (of[k] && tree[r] && tree[r] != of[k])
                return NULL;
            tree[r] = of[k] ? of[k] : tree[r];
            for (int s = 0; s < 2 && !e->node.v[k].leaf; s++)
                stack[n++] = e->node.v[k].kid[s];
        }
    for (uint32_t r = 0; r < e->root.n; r++)
        tree[r] -= tree[r] > 0;
    return tree;
}

/* Trees by target, [targets, most]: root + 1, 0 where there is none. NULL if most of it would be empty. */
static uint32_t *trees_by_target(Imp *m, const Trees *e, int64_t n, int64_t *most)
{
    int64_t *target = n == 1 ? NEWN(m->c, int64_t, e->root.n) : tree_targets(m, e), *count = NEWN(m->c, int64_t, n);
    *most = 0;
    for (uint32_t r = 0; target && r < e->root.n; r++)
        if (++count[target[r]] > *most)
            *most = count[target[r]];
    if (!target || *most * n > 2 * (int64_t)e->root.n)
        return NULL;
    uint32_t *order = NEWN(m->c, uint32_t, *most * n);
    memset(count, 0, sizeof *count * (size_t)n);
    for (uint32_t r = 0; r < e->root.n; r++)
        order[target[r] * *most + count[target[r]]++] = e->root.v[r] + 1;
    return order;
}

static Val scores_in_leaves(Imp *m, const Trees *e, int64_t n, int64_t most, const uint32_t *order, ReduceOp op)
{
    double *value = NEWN(m->c, double, e->node.n);
    Layout l;
    Walk w;
    Dim d[3] = {dim_of(m, e->x, 0), DC(m, n), DC(m, most)};
    for (uint32_t k = 0; k < e->node.n; k++)
        value[k] = neutral(op);
    for (uint32_t i = 0; i < e->weight.n; i++)
        value[e->weight.v[i].leaf] = combine(op, value[e->weight.v[i].leaf], e->weight.v[i].value);
    if (!lay_out(m, e, n * most, order, NULL, value, neutral(op), &l))
        return (Val){0};
    walk_open(m, e, &l, &w);
    Val v = reached(m, &w, X2(ADD, X2(MUL, xaxis(m, 1), XI(most)), xaxis(m, 2)), 3, d);
    return v.i ? b_reduce1(&m->b, op, v, 4, false) : v;
}

static Val scores_by_matrix(Imp *m, const Trees *e, int64_t n, ReduceOp op)
{
    int32_t *leaf = NEWN(m->c, int32_t, e->node.n), leaves = 0;
    uint32_t *order = NEWN(m->c, uint32_t, e->root.n);
    Layout l;
    Walk w;
    for (uint32_t r = 0; r < e->root.n; r++)
        order[r] = e->root.v[r] + 1;
    for (uint32_t k = 0; k < e->node.n; k++)
        leaf[k] = e->node.v[k].leaf ? leaves++ : 0;
    if (leaves > MAX_WEIGHTS / n) {
        UNSUP(m, "%d leaves with %lld targets", leaves, (long long)n);
        return (Val){0};
    }
    double *weight = NEWN(m->c, double, leaves * n);
    for (int64_t i = 0; i < leaves * n; i++)
        weight[i] = neutral(op);
    for (uint32_t i = 0; i < e->weight.n; i++) {
        const Weight *x = &e->weight.v[i];
        if (e->node.v[x->leaf].leaf) /* weights of other nodes are never reached */
            weight[leaf[x->leaf] * n + x->target] = combine(op, weight[leaf[x->leaf] * n + x->target], x->value);
    }
    if (!lay_out(m, e, e->root.n, order, leaf, NULL, 0, &l))
        return (Val){0};
    walk_open(m, e, &l, &w);
    Dim d[3] = {dim_of(m, e->x, 0), DC(m, l.trees), DC(m, n)};
    Val at = reached(m, &w, xaxis(m, 1), 2, d), in[2] = {at.i ? insert_axes(m, at, 3, 4) : at, ml_const(m, e->split, 2, (Dim[]){DC(m, leaves), d[2]}, weight)};
    Expr idx[2] = {expr_cast(m->c, xarg(m, 0, DT_I32), DT_I64), xaxis(m, 2)};
    Val v = map_over(m, expr_load(m->c, 1, e->split, 2, idx, OOB_NEVER, (Expr){0}, 0), 2, in, 3, d);
    return v.i ? b_reduce1(&m->b, op, v, 2, false) : v;
}

Val trees_scores(Imp *m, Trees *e, int64_t n, ReduceOp op)
{
    int64_t most, feature = -1;
    for (uint32_t k = 0; k < e->node.n; k++)
        if (!e->node.v[k].leaf && e->node.v[k].feature > feature)
            feature = e->node.v[k].feature;
    b_guard(&m->b, G_LE, DC(m, feature + 1), dim_of(m, e->x, 1), "X must have more than %lld features", (long long)feature);
    if (ctx_errors(m->c))
        return (Val){0};
    const uint32_t *order = trees_by_target(m, e, n, &most);
    Val y = order ? scores_in_leaves(m, e, n, most, order, op) : scores_by_matrix(m, e, n, op);
    if (op == R_SUM || !y.i)
        return y;
    Expr a = xarg(m, 0, e->split), none = X2(EQ, a, xf(m, e->split, neutral(op)));
    return b_map1(&m->b, X3(SELECT, none, xf(m, e->split, 0), a), 1, &y);
}
