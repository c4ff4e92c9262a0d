/* fold.c: nodes whose operands are all constants become constants, by the reference evaluator. Splats stay splats, and
 * nothing is folded that would make more than a few KiB of bytes grow (packed int4 weights stay packed). Maps without operands are
 * folded if they calculate with floats (tables of weights, windows, roots of unity): iotas and masks are better computed where they are read. */
#include "internal.h"

enum { GROW_BYTES = 8192, DEAR = 20, GROW_DEAR = 8 };

static Expr note_float(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    (void)c, (void)newarg;
    if (i->kind == E_OP && i->op != S_SELECT && dt_is_float(i->dtype)) *(bool *)data = true;
    return e;
}

/* Bytes that the results of a map without operands may have, 0: not to be folded. */
static size_t table_bytes(Graph *g, const Node *n) {
    bool floats = false;
    int cost = 0;
    if (n->op != P_MAP) return 0;
    for (int r = 0; r < n->nout; r++) {
        expr_rewrite(g->c, ((const MapAttr *)n->attr)->body[r], note_float, &floats);
        cost += expr_cost(g->c, ((const MapAttr *)n->attr)->body[r]);
    }
    return !floats ? 0 : cost >= DEAR ? GROW_DEAR * GROW_BYTES : GROW_BYTES;
}

static bool foldable(Graph *g, const Node *n, bool may_grow) {
    switch (n->op) {
    case P_CONST: case P_LOOP: case P_IF: case P_BIND: case P_GUARD: case P_COPY: case P_SEQ: case P_RANDOM: case P_SHAPE:
    case P_GROUP: case P_CALL: case P_RETURN: return false;
    default: break;
    }
    size_t in = 0, most = n->nin ? GROW_BYTES : table_bytes(g, n);
    for (int k = 0; k < n->nin; k++) {
        const ConstData *d = n->in[k].i ? val_const(g, n->in[k]) : NULL;
        if (n->in[k].i && !d) return false;
        if (d) in += d->bytes;
    }
    size_t out = 0;
    for (int r = 0; r < n->nout; r++) {
        int64_t dims[MAX_RANK], count = 1;
        const Type *t = val_type(g, n->out[r]);
        if (t->kind != TY_TENSOR || t->dtype == DT_STR || !type_const_dims(g->c, t, dims)) return false;
        for (int d = 0; d < t->rank; d++) count *= dims[d];
        out += dt_bytes(t->dtype, count);
    }
    return n->nin ? may_grow || out <= most || out <= in + in / 2 : most && out <= most;
}

bool fold_node(Graph *g, Node *n, bool may_grow) {
    if (!foldable(g, n, may_grow)) return false;
    const Tensor *in[64];
    Tensor *out[16] = {0};
    if (n->nin > 64 || n->nout > 16) return false;
    for (int k = 0; k < n->nin; k++)
        in[k] = n->in[k].i ? tensor_from_const(g->c, val_const(g, n->in[k]), val_type(g, n->in[k])) : NULL;
    if (!node_eval(g->c, g, n, in, out)) return false;
    B b = builder(g, n->loc);
    for (int r = 0; r < n->nout; r++) {
        Val v = b_const(&b, tensor_to_const(g->c, out[r]), *val_type(g, n->out[r]));
        const ValInfo *old = val_info(g, n->out[r]);
        if (old->elem) val_set_elems(g, v, old->elem);
        graph_replace(g, n->out[r], v);
    }
    return true;
}

bool pass_fold(Graph *g, PassCtx *p) {
    graph_tidy(g);
    bool changed = false;
    uint32_t n = g->node.n;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    for (uint32_t i = 0; i < n; i++)
        if (foldable(g, node[i], false) && pass_allow(p)) changed |= fold_node(g, node[i], false);
    if (changed) graph_tidy(g);
    return changed;
}
