/* op_ml_bits.c: finding leaves of small trees without walking, as QuickScorer does (Lucchese et al., SIGIR 2015). The leaves of a tree are
 * numbered from the left. A node whose test sends a row to the right rules out the leaves of its left subtree; the leaf that the row reaches is the
 * first that no node rules out. So all tests of a tree are made, in any order, and the masks of those that hold are combined by `and`: no load
 * depends on another, and trees lie along the lanes. */
#include "frontend/ml_tree.h"
#include <math.h>
#include <string.h>

enum { MAX_LEAVES = 32 };

/* Nodes of the tree in front order, its leaves from the left. false: a node is met twice, or there are too many leaves. */
typedef struct Tree { uint32_t branch[MAX_LEAVES], leaf[MAX_LEAVES]; uint32_t mask[MAX_LEAVES]; int branches, leaves; } Tree;

static bool spell(const Trees *e, uint32_t k, Tree *t, uint8_t *seen)
{
    const TNode *n = &e->node.v[k];
    if (seen[k]++)
        return false;
    if (n->leaf) {
        if (t->leaves == MAX_LEAVES)
            return false;
        t->leaf[t->leaves++] = k;
        return true;
    }
    if (t->branches == MAX_LEAVES - 1)
        return false;
    int b = t->branches++, from = t->leaves;
    t->branch[b] = k;
    if (!spell(e, n->kid[0], t, seen))
        return false;
    t->mask[b] = ~(uint32_t)(((uint64_t)1 << t->leaves) - ((uint64_t)1 << from)); /* without the leaves of the left subtree */
    return spell(e, n->kid[1], t, seen);
}

static bool all_trees(Imp *m, const Trees *e, const Grove *g, Tree *t, int *branches, int *leaves)
{
    uint8_t *seen = NEWN(m->c, uint8_t, e->node.n);
    int64_t sum = 0;
    *branches = *leaves = 1;
    for (int64_t r = 0; r < g->n; r++) {
        t[r].branches = t[r].leaves = 0;
        if (g->root[r] && !spell(e, g->root[r] - 1, &t[r], seen))
            return false;
        *branches = t[r].branches > *branches ? t[r].branches : *branches;
        *leaves = t[r].leaves > *leaves ? t[r].leaves : *leaves;
        sum += t[r].branches;
    }
    return *branches * g->n <= 3 * sum + 64;
}

bool trees_fit_bits(Imp *m, const Trees *e, const Grove *g)
{
    int branches, leaves;
    return all_trees(m, e, g, NEWN(m->c, Tree, g->n), &branches, &leaves);
}

/* The masks of the tests that send a row to the right, [rows, branches, trees], and all ones for the others */
static Val masks(Imp *m, const Trees *e, const Dim *d, Val feature, Val split, Val mask)
{
    Val in[4] = {e->x, feature, split, mask};
    Expr f = xarg(m, 1, DT_I32), s = xarg(m, 2, e->split), all = expr_int(m->c, DT_I32, -1), bits = xarg(m, 3, DT_I32);
    Expr x = trees_feature(m, e, 0, xaxis(m, 0), expr_cast(m->c, X2(SHR, f, expr_int(m->c, DT_I32, 1)), DT_I64)), body;
    if (e->nan == NAN_RIGHT) {
        body = X3(SELECT, X2(LE, x, s), all, bits);
    } else {
        Expr right = X2(GT, x, s);
        if (e->nan == NAN_MIXED)
            right = X2(OR, right, X2(AND, X1(ISNAN, x), X2(NE, X2(AND, f, expr_int(m->c, DT_I32, 1)), expr_int(m->c, DT_I32, 0))));
        body = X3(SELECT, right, bits, all);
    }
    return map_over(m, body, 4, in, 3, d);
}

bool trees_bits(Imp *m, const Trees *e, const Grove *g, Leaves *out)
{
    Tree *t = NEWN(m->c, Tree, g->n);
    int branches, leaves;
    CHECK(all_trees(m, e, g, t, &branches, &leaves));
    int64_t n = g->n, cells = branches * n;
    int32_t *feature = NEWN(m->c, int32_t, cells), *mask = NEWN(m->c, int32_t, cells), *node = NEWN(m->c, int32_t, leaves * n);
    double *split = NEWN(m->c, double, cells);
    for (int64_t r = 0; r < n; r++) {
        for (int b = 0; b < branches; b++) {
            const TNode *k = b < t[r].branches ? &e->node.v[t[r].branch[b]] : NULL;
            int64_t at = b * n + r;
            feature[at] = k ? (int32_t)(k->feature << 1 | k->nan_right) : 0;
            split[at] = k ? k->split : (double)INFINITY;
            mask[at] = k ? (int32_t)t[r].mask[b] : -1;
        }
        for (int l = 0; l < leaves; l++)
            node[r * leaves + l] = l < t[r].leaves ? (int32_t)t[r].leaf[l] : NO_NODE;
    }
    Dim d[3] = {dim_of(m, e->x, 0), DC(m, branches), DC(m, n)}, out_d[2] = {d[0], d[2]};
    Val v = masks(m, e, d, ml_const_i32(m, 2, d + 1, feature), ml_const(m, e->split, 2, d + 1, split), ml_const_i32(m, 2, d + 1, mask));
    if (v.i)
        v = b_reduce1(&m->b, R_AND, v, 2, false);
    /* the number of the lowest bit: the exponent of that bit as a float */
    Expr a = xarg(m, 0, DT_I32), low = expr_bitcast(m->c, expr_cast(m->c, X2(AND, a, X1(NEG, a)), DT_F32), DT_I32);
    Expr leaf = X2(SUB, X2(AND, X2(SHR, low, expr_int(m->c, DT_I32, 23)), expr_int(m->c, DT_I32, 255)), expr_int(m->c, DT_I32, 127));
    Expr slot = X2(ADD, leaf, X2(MUL, expr_cast(m->c, xaxis(m, 1), DT_I32), expr_int(m->c, DT_I32, leaves)));
    out->at = map_over(m, slot, 1, &v, 2, out_d);
    out->slots = leaves * n;
    out->node = node;
    return out->at.i != 0;
}
