/* walks.c: for CPUs, which go through all of a tensor as fast as its memory comes. In: extremes (or all, any) of the whole of one tensor, each a
 * reduction: %a = reduce.min %x, %b = reduce.max %x. Out: one reduction with a result for each, %a, %b = reduce min(a, c), max(b, d) %x, %x. Sums
 * are left alone, as what they round depends on how their kernel adds. Reductions of rows are, too: a kernel holds the row. */
#include "internal.h"

enum { MOST = 4 /* results of a reduction */ };

/* The operation of a reduction of everything whose order does not matter; else none. */
static SOp whole(Graph *g, const Node *n) {
    if (n->op != P_REDUCE || n->nin != 1 || n->nout != 1) return S_NONE;
    const ReduceAttr *a = n->attr;
    const Type *t = val_type(g, n->in[0]);
    const ExprInfo *i = expr_info(g->c, a->comb[0]);
    for (int d = 0; d < t->rank; d++) if (!(a->axes >> d & 1)) return S_NONE;
    if (!t->rank || i->kind != E_OP || i->narg != 2) return S_NONE;
    const ExprInfo *x = expr_info(g->c, i->arg[0]), *y = expr_info(g->c, i->arg[1]);
    if (x->kind != E_ARG || y->kind != E_ARG || x->index == y->index) return S_NONE;
    return i->op == S_MIN || i->op == S_MAX || i->op == S_AND || i->op == S_OR ? i->op : S_NONE;
}

static bool same_walk(Graph *g, const Node *n, const Node *o) {
    const ReduceAttr *a = n->attr, *b = o->attr;
    return graph_resolve(g, n->in[0]).i == graph_resolve(g, o->in[0]).i && a->keep == b->keep && a->acc[0] == b->acc[0];
}

static void merge(Graph *g, Node **n, uint32_t count) {
    Ctx *c = g->c;
    B b = builder(g, n[0]->loc);
    const ReduceAttr *first = n[0]->attr;
    Val in[MOST], out[MOST];
    Expr comb[MOST];
    Scalar init[MOST];
    DType acc[MOST];
    for (uint32_t r = 0; r < count; r++) {
        const ReduceAttr *a = n[r]->attr;
        in[r] = n[r]->in[0], init[r] = a->init[0], acc[r] = a->acc[0];
        Expr so_far = expr_arg(c, r, acc[r]), next = expr_arg(c, count + r, acc[r]);
        comb[r] = expr_op(c, whole(g, n[r]), so_far, next, (Expr){0});
    }
    b_reduce(&b, (int)count, in, first->axes, first->keep, comb, init, acc, out);
    for (uint32_t r = 0; r < count; r++) graph_replace(g, n[r]->out[0], out[r]);
}

bool pass_walks(Graph *g, PassCtx *p) {
    VEC(Node *) all = {0};
    bool changed = false;
    for (uint32_t i = 0; i < g->node.n; i++) if (whole(g, g->node.v[i]) != S_NONE) vec_push(g->c, &all, g->node.v[i]);
    for (uint32_t i = 0; i < all.n; i++) {
        Node *same[MOST];
        uint32_t count = 0;
        for (uint32_t k = i; k < all.n && all.v[i]; k++)
            if (all.v[k] && count < MOST && same_walk(g, all.v[i], all.v[k])) {
                same[count++] = all.v[k];
                if (k > i) all.v[k] = NULL;
            }
        if (count < 2 || !pass_allow(p)) continue;
        merge(g, same, count);
        changed = true;
    }
    if (changed) graph_tidy(g);
    return changed;
}
