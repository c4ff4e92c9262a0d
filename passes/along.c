/* along.c: for GPUs, constant matrices lie along k where no instruction turns them on the way to the matrix unit: 8-bit integers, and f32 that is
 * rounded to tf32. contract "..k,kn->..n" becomes "..k,nk->..n": both factors are copied as they are. */
#include <string.h>

#include "internal.h"

static bool has(const uint8_t *label, int rank, uint8_t l) { return rank > 0 && memchr(label, l, (size_t)rank); }

/* dims of the constant factor `s` as it should lie: those that are not reduced, then the others in the order of the other factor. false: they are
 * so, or this is no such factor. */
static bool order(Graph *g, const Node *n, int s, const Target *t, int *perm) {
    const ContractAttr *a = n->attr;
    const Type *w = val_type(g, n->in[s]), *x = val_type(g, n->in[!s]), *out = val_type(g, n->out[0]);
    bool bytes = dt_bits(w->dtype) == 8 && dt_bits(x->dtype) == 8 && a->acc == DT_I32;
    bool rounded = w->dtype == DT_F32 && x->dtype == DT_F32 && t && t->flags & F_TO_TF32;
    int m = 0;
    if (!val_const(g, n->in[s]) || w->rank < 2 || (!bytes && !rounded) || !has(a->label[2], out->rank, a->label[s][w->rank - 1])) return false;
    for (int d = 0; d < w->rank; d++)
        if (has(a->label[2], out->rank, a->label[s][d])) perm[m++] = d;
    for (int i = 0; i < x->rank; i++)
        for (int d = 0; d < w->rank; d++)
            if (a->label[s][d] == a->label[!s][i] && !has(a->label[2], out->rank, a->label[s][d])) perm[m++] = d;
    return m == w->rank && !has(a->label[2], out->rank, a->label[s][perm[m - 1]]);
}

static Val now(Graph *g, Val v) {
    Node *d = val_def(g, v);
    if (d && d->op != P_CONST) fold_node(g, d, true);
    return graph_resolve(g, v);
}

static void rewrite(Graph *g, Node *n, int s, const int *perm) {
    B b = builder(g, n->loc);
    ContractAttr a = *(const ContractAttr *)n->attr;
    Val in[2] = {n->in[0], n->in[1]};
    for (int d = 0; d < val_type(g, in[s])->rank; d++) a.label[s][d] = ((const ContractAttr *)n->attr)->label[s][perm[d]];
    in[s] = now(g, b_permute(&b, in[s], perm));
    graph_replace(g, n->out[0], b_contract_attr(&b, &a, in[0], in[1]));
}

bool pass_along(Graph *g, PassCtx *p) {
    bool changed = false;
    uint32_t n = g->node.n;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    for (uint32_t i = 0; i < n; i++) {
        int perm[MAX_RANK], s = 2;
        if (node[i]->op == P_CONTRACT) s = order(g, node[i], 0, p->target, perm) ? 0 : order(g, node[i], 1, p->target, perm) ? 1 : 2;
        if (s == 2 || !pass_allow(p)) continue;
        rewrite(g, node[i], s, perm);
        changed = true;
    }
    if (changed) graph_tidy(g);
    return changed;
}
