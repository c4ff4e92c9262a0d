/* op_ml_walk.c: finding leaves by walking. The nodes become records in one table, the children of a node side by side, and a step is
 *
 *     at = first[at] + (x[feature[at]] > split[at])
 *
 * without a branch. A leaf is its own first child and greater than nothing, so that all trees take as many steps as the deepest has. A step is an
 * expression; a few are one map, so walks become kernels like other maps. Very deep trees are walked by a loop. */
#include "frontend/ml_tree.h"
#include <math.h>
#include <string.h>

enum { UNROLLED = 40, STEPS = 8 };

/* ---- depth, cycles */

static bool measure_tree(Imp *m, const Trees *e, uint32_t root, int32_t *h, uint32_t *stack)
{
    enum { NEW = -1, OPEN = -2 };
    uint32_t n = 0;
    if (h[root] == NEW)
        stack[n++] = root;
    while (n) {
        uint32_t k = stack[n - 1];
        const TNode *t = &e->node.v[k];
        bool wait = false;
        h[k] = t->leaf ? 0 : OPEN;
        for (int s = 0; s < 2 && !t->leaf && !wait; s++) {
            int32_t of = h[t->kid[s]];
            if (of == OPEN) {
                ERR(m, "E0202", "the nodes of a tree have a cycle");
                return false;
            }
            wait = of == NEW;
            if (wait)
                stack[n++] = t->kid[s];
        }
        if (wait)
            continue;
        if (!t->leaf)
            h[k] = 1 + (h[t->kid[0]] > h[t->kid[1]] ? h[t->kid[0]] : h[t->kid[1]]);
        n--;
    }
    return true;
}

bool trees_measure(Imp *m, Trees *e)
{
    int32_t *h = NEWN(m->c, int32_t, e->node.n);
    uint32_t *stack = NEWN(m->c, uint32_t, e->node.n + 1);
    bool left = false, right = false;
    memset(h, 0xff, sizeof *h * e->node.n);
    for (uint32_t r = 0; r < e->root.n; r++)
        if (!measure_tree(m, e, e->root.v[r], h, stack))
            return false;
    e->height = h;
    for (uint32_t k = 0; k < e->node.n; k++) {
        left |= h[k] > 0 && !e->node.v[k].nan_right;
        right |= h[k] > 0 && e->node.v[k].nan_right;
    }
    e->nan = e->numbers || !right ? NAN_LEFT : left ? NAN_MIXED : NAN_RIGHT;
    return true;
}

/* ---- the table of records */

typedef struct Table {
    int64_t n, depth;
    int32_t *node;              /* of each record */
    int32_t *first;             /* of each record: that of its first child */
    uint32_t *feature;
    double *split;
    DType word;                 /* of first << shift | feature << 1 | nan_right */
    int shift;
    bool infinite;              /* some NaN goes to the right where infinity goes to the left */
} Table;

/* Records of the trees, roots first. A node that several share has one pair of children. */
static bool make_table(Imp *m, const Trees *e, const Grove *g, Table *t)
{
    int64_t most = g->n, free = g->n, feature = 0;
    int32_t *pair = NEWN(m->c, int32_t, e->node.n); /* of each node: record of its first child */
    uint32_t *todo = NEWN(m->c, uint32_t, 2 * (size_t)e->node.n + 2);
    for (uint32_t k = 0; k < e->node.n; k++)
        most += e->height[k] > 0 ? 2 : 0;
    *t = (Table){.n = most, .node = NEWN(m->c, int32_t, most), .first = NEWN(m->c, int32_t, most),
                 .feature = NEWN(m->c, uint32_t, most), .split = NEWN(m->c, double, most)};
    if (most > INT32_MAX) {
        UNSUP(m, "%lld nodes", (long long)most);
        return false;
    }
    for (int64_t r = 0; r < g->n; r++) {
        uint32_t top = 0;
        t->node[r] = (int32_t)g->root[r] - 1;
        if (!g->root[r])
            continue;
        todo[top++] = g->root[r] - 1;
        t->depth = e->height[g->root[r] - 1] > t->depth ? e->height[g->root[r] - 1] : t->depth;
        while (top) {
            uint32_t k = todo[--top];
            if (e->node.v[k].leaf || pair[k])
                continue;
            pair[k] = (int32_t)free;
            for (int s = 0; s < 2; s++)
                t->node[free++] = (int32_t)e->node.v[k].kid[s];
            for (int s = 1; s >= 0; s--) /* the left subtree follows */
                todo[top++] = e->node.v[k].kid[s];
        }
    }
    for (int64_t r = 0; r < t->n; r++) {
        const TNode *k = t->node[r] < 0 ? NULL : &e->node.v[t->node[r]];
        bool leaf = !k || k->leaf;
        t->first[r] = leaf ? (int32_t)r : pair[t->node[r]];
        t->feature[r] = leaf ? 0 : k->feature;
        t->split[r] = leaf ? (double)INFINITY : k->split;
        t->infinite |= !leaf && k->nan_right && isinf(k->split) && k->split > 0;
        feature = t->feature[r] > feature ? t->feature[r] : feature;
    }
    t->shift = 2;
    while (feature >> (t->shift - 1))
        t->shift++;
    t->word = t->n <= INT32_MAX >> t->shift ? DT_I32 : DT_I64;
    return true;
}

/* ---- the walk */

typedef struct Walk { const Trees *e; const Table *t; Val in[4]; int nin; NanWay nan; } Walk; /* in: x, words, splits */

Expr trees_feature(Imp *m, const Trees *e, int operand, Expr row, Expr feature)
{
    Expr idx[2] = {row, feature};
    return expr_cast(m->c, expr_load(m->c, (uint32_t)operand, e->type, 2, idx, OOB_NEVER, (Expr){0}, 0), e->split);
}

static Expr step(Imp *m, const Walk *w, Expr row, Expr at)
{
    DType t = w->e->split, wt = w->t->word;
    bool both = wt == DT_I32 && t == DT_F32; /* in one record of 64 bits */
    Expr record = expr_load(m->c, 1, both ? DT_I64 : wt, 1, &at, OOB_NEVER, (Expr){0}, 0), word = expr_cast(m->c, record, wt);
    Expr split = both ? expr_bitcast(m->c, expr_cast(m->c, X2(SHR, record, XI(32)), DT_I32), DT_F32)
                      : expr_load(m->c, 2, t, 1, &at, OOB_NEVER, (Expr){0}, 0);
    Expr low = X2(AND, word, expr_int(m->c, wt, ((int64_t)1 << w->t->shift) - 1));
    Expr x = trees_feature(m, w->e, 0, row, expr_cast(m->c, X2(SHR, low, expr_int(m->c, wt, 1)), DT_I64));
    if (w->nan == NAN_RIGHT)
        x = X3(SELECT, X1(ISNAN, x), xf(m, t, INFINITY), x);
    Expr right = X2(GT, x, split);
    if (w->nan == NAN_MIXED)
        right = X2(OR, right, X2(AND, X1(ISNAN, x), X2(NE, X2(AND, word, expr_int(m->c, wt, 1)), expr_int(m->c, wt, 0))));
    Expr first = X2(SHR, word, expr_int(m->c, wt, w->t->shift));
    return X2(ADD, expr_cast(m->c, first, DT_I64), expr_cast(m->c, right, DT_I64));
}

static Expr steps_from(Imp *m, const Walk *w, int64_t steps, Expr at)
{
    for (int64_t k = 0; k < steps; k++)
        at = step(m, w, xaxis(m, 0), at);
    return expr_cast(m->c, at, DT_I32);
}

/* Deep trees: the loop carries the records, STEPS at a time. */
static Val walk_by_loop(Imp *m, const Walk *w, const Dim *d)
{
    B outer = m->b;
    Val start = map_over(m, expr_cast(m->c, xaxis(m, 1), DT_I32), 0, NULL, 2, d);
    Val in[8] = {scalar_i64(m, (w->t->depth + STEPS - 1) / STEPS), {0}, start};
    Graph *g = graph_new(m->c, NULL, outer.g);
    graph_input(g, NULL, type_tensor(m->c, DT_I64, 0, NULL));
    Val go = graph_input(g, NULL, type_tensor(m->c, DT_BOOL, 0, NULL)), at = graph_input(g, NULL, type_tensor(m->c, DT_I32, 2, d)), inner[5];
    for (int i = 0; i < w->nin; i++) {
        in[3 + i] = w->in[i];
        inner[i] = graph_input(g, NULL, *val_type(outer.g, w->in[i]));
    }
    inner[w->nin] = at;
    m->b = builder(g, outer.loc);
    at = map_over(m, steps_from(m, w, STEPS, expr_cast(m->c, xarg(m, w->nin, DT_I32), DT_I64)), w->nin + 1, inner, 2, d);
    graph_output(g, NULL, go);
    graph_output(g, NULL, at);
    m->b = outer;
    Val out = {0};
    b_loop(&m->b, g, 1, 0, 3 + w->nin, in, &out);
    return out;
}

/* The words, and the splits above them if both have 32 bits. */
static void table_operands(Imp *m, Walk *w)
{
    const Table *t = w->t;
    bool both = t->word == DT_I32 && w->e->split == DT_F32;
    Dim d = DC(m, t->n);
    int64_t *wide = NEWN(m->c, int64_t, t->n);
    int32_t *word = NEWN(m->c, int32_t, t->n);
    for (int64_t r = 0; r < t->n; r++) {
        union { float f; int32_t i; } split = {.f = (float)t->split[r]};
        bool leaf = t->first[r] == r, odd = !leaf && w->e->node.v[t->node[r]].nan_right;
        wide[r] = (int64_t)t->first[r] << t->shift | (int64_t)t->feature[r] << 1 | odd;
        word[r] = (int32_t)wide[r];
        if (both)
            wide[r] |= (int64_t)((uint64_t)(uint32_t)split.i << 32);
    }
    w->in[w->nin++] = t->word == DT_I32 && !both ? ml_const_i32(m, 1, &d, word) : b_const_i64(&m->b, 1, &t->n, wide);
    if (!both)
        w->in[w->nin++] = ml_const(m, w->e->split, 1, &d, t->split);
}

bool trees_walk(Imp *m, const Trees *e, const Grove *g, Leaves *out)
{
    Table t;
    Walk w = {.e = e, .t = &t, .in = {e->x}, .nin = 1};
    Dim d[2] = {dim_of(m, e->x, 0), DC(m, g->n)};
    if (!make_table(m, e, g, &t))
        return false;
    w.nan = e->nan == NAN_RIGHT && t.infinite ? NAN_MIXED : e->nan;
    table_operands(m, &w);
    out->slots = t.n;
    out->node = t.node;
    out->at = t.depth > UNROLLED ? walk_by_loop(m, &w, d) : map_over(m, steps_from(m, &w, t.depth, xaxis(m, 1)), w.nin, w.in, 2, d);
    return out->at.i != 0;
}
