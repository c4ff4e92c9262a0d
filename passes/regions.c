/* regions.c: makes loops and ifs easy to run. Loops of a few trips that keep their shapes are unrolled. For the others: the
 * counter is bound to a symbol, so that kernels take it as a size and not from memory; the condition is true inside; constants
 * move into the bodies; operands that no body reads are dropped. Afterwards the counter of a body is read by binds only. */
#include "internal.h"

enum { FEW = 4, MAX_UNROLLED = 20000 /* nodes, per graph */ };

static bool same_dims(Ctx *c, const Type *a, const Type *b) {
    if (a->kind != TY_TENSOR || b->kind != TY_TENSOR || a->rank != b->rank) return false;
    for (int d = 0; d < a->rank; d++) if (!dim_same(c, a->dim[d], b->dim[d])) return false;
    return true;
}

static bool is_true(const Graph *g, Val v) {
    Scalar s;
    return val_scalar(g, v, &s) && s.t == DT_BOOL && s.i;
}

/* ---- unrolling ---- */

/* Symbols that the body's own nodes define would be defined once per trip. */
static bool defines_symbols(const Graph *body) {
    for (uint32_t i = 0; i < body->node.n; i++) {
        const Node *n = body->node.v[i];
        if (n->op == P_BIND || n->op == P_LOOP || n->op == P_IF || n->op == P_CALL || n->op == P_SEQ) return true;
    }
    return false;
}

static bool can_unroll(Graph *g, const Node *n, int64_t *trips) {
    const LoopAttr *a = n->attr;
    const Graph *b = a->body;
    Scalar s;
    if (!n->in[0].i || !val_scalar(g, n->in[0], &s) || s.i > FEW || (s.i <= 0 && a->nscan_out)) return false;
    *trips = s.i > 0 ? s.i : 0;
    if (n->in[1].i && !is_true(g, n->in[1])) return false;
    Val go = graph_resolve(b, b->out.v[0].val);
    if (*trips > 1 && !is_true(b, go) && go.i != b->in.v[1].val.i) return false;
    if (defines_symbols(b)) return false;
    for (int k = 2; k < n->nin; k++)
        if (!n->in[k].i || !same_dims(g->c, val_type(g, n->in[k]), val_type(b, b->in.v[k].val))) return false;
    for (int k = 0; k < a->ncarried; k++) {
        const Type *t = val_type(b, b->out.v[1 + k].val);
        if (!same_dims(g->c, t, val_type(b, b->in.v[2 + k].val)) || !same_dims(g->c, t, val_type(g, n->out[k]))) return false;
    }
    for (int k = a->ncarried; k < n->nout; k++) {
        const Type *t = val_type(g, n->out[k]), *x = val_type(b, b->out.v[1 + k].val);
        if (t->kind != TY_TENSOR || x->kind != TY_TENSOR || !dim_is(g->c, t->dim[0], *trips)) return false;
        for (int d = 0; d < x->rank; d++) if (!dim_same(g->c, x->dim[d], t->dim[d + 1])) return false;
    }
    return true;
}

static void unroll(Graph *g, Node *n, int64_t trips) {
    const LoopAttr *a = n->attr;
    B b = builder(g, n->loc);
    int nc = a->ncarried, ns = a->nscan_out;
    Val *in = ctx_dup(g->c, n->in, sizeof *in * n->nin), *out = NEWN(g->c, Val, 1 + nc + ns), *slice = NEWN(g->c, Val, ns * trips + 1);
    for (int64_t i = 0; i < trips; i++) {
        in[0] = b_scalar(&b, (Scalar){.t = DT_I64, .i = i});
        in[1] = b_scalar(&b, (Scalar){.t = DT_BOOL, .i = 1});
        graph_inline(g, a->body, in, out);
        for (int k = 0; k < nc; k++) in[2 + k] = out[1 + k];
        for (int k = 0; k < ns; k++) {
            const Type *t = val_type(g, out[1 + nc + k]);
            Dim dim[MAX_RANK] = {dim_const(g->c, 1)};
            for (int d = 0; d < t->rank; d++) dim[d + 1] = t->dim[d];
            slice[k * trips + i] = b_reshape(&b, out[1 + nc + k], t->rank + 1, dim);
        }
    }
    for (int k = 0; k < nc; k++) graph_replace(g, n->out[k], in[2 + k]);
    for (int k = 0; k < ns; k++) graph_replace(g, n->out[nc + k], b_concat(&b, (int)trips, &slice[k * trips], 0));
}

/* ---- what bodies take ---- */

/* Uses of `from` become uses of `to`, but for those by binds. */
static void rewire(Graph *g, Val from, Val to) {
    for (uint32_t i = 0; i < g->node.n; i++) {
        Node *n = g->node.v[i];
        for (int k = 0; k < n->nin && n->op != P_BIND; k++)
            if (n->in[k].i && graph_resolve(g, n->in[k]).i == from.i) n->in[k] = to;
    }
    for (uint32_t o = 0; o < g->out.n; o++)
        if (graph_resolve(g, g->out.v[o].val).i == from.i) g->out.v[o].val = to;
}

static bool used_beside_binds(const Graph *g, Val v) {
    for (uint32_t i = 0; i < g->node.n; i++) {
        const Node *n = g->node.v[i];
        for (int k = 0; k < n->nin && n->op != P_BIND; k++)
            if (n->in[k].i && graph_resolve(g, n->in[k]).i == v.i) return true;
    }
    for (uint32_t o = 0; o < g->out.n; o++) if (graph_resolve(g, g->out.v[o].val).i == v.i) return true;
    return false;
}

static bool bind_counter(Graph *g, const Node *n) {
    const LoopAttr *a = n->attr;
    Ctx *c = g->c;
    Graph *body = a->body;
    B b = builder(body, n->loc);
    Val i = body->in.v[0].val, go = body->in.v[1].val;
    bool changed = false;
    if (used_beside_binds(body, i)) {
        const Dim *trip = n->in[0].i ? val_elems(g, n->in[0], NULL) : NULL;
        int64_t hi = trip ? dim_hi(c, *trip) : DIM_INF;
        Dim sym = dim_fresh(c, "i", 0, hi == DIM_INF ? hi : hi > 1 ? hi - 1 : 0);
        dim_sym_mark_bound(c, (uint32_t)dim_info(c, sym)->val);
        BindAttr *attr = NEW(c, BindAttr);
        rewire(body, i, b_dim_scalar(&b, sym));
        *attr = (BindAttr){dim_pin(c, sym), 0};
        graph_node(body, P_BIND, 1, &i, 0, NULL, attr, n->loc);
        changed = true;
    }
    if (used_beside_binds(body, go)) {
        rewire(body, go, b_scalar(&b, (Scalar){.t = DT_BOOL, .i = 1}));
        changed = true;
    }
    return changed;
}

/* Operands [first, nin) of n are captured: input k - first + formal of each body. */
static bool sink(Graph *g, Node *n, int nbody, Graph *const *body, int first, int formal) {
    bool changed = false;
    int kept = first;
    uint32_t *uses[2] = {NULL, NULL};
    for (int r = 0; r < nbody; r++) uses[r] = graph_uses(body[r]);
    for (int k = first; k < n->nin; k++) {
        const Type *t = n->in[k].i ? val_type(g, n->in[k]) : NULL;
        bool plain = t != NULL, needed = false;
        uint32_t at = (uint32_t)(kept - first + formal);
        for (int r = 0; r < nbody; r++) plain = plain && same_dims(g->c, t, val_type(body[r], body[r]->in.v[at].val));
        const ConstData *d = plain ? val_const(g, n->in[k]) : NULL;
        for (int r = 0; r < nbody; r++) {
            Val v = body[r]->in.v[at].val;
            if (d && uses[r][v.i]) {
                B b = builder(body[r], n->loc);
                graph_replace(body[r], v, b_const(&b, d, *t)); /* takes the known elements along */
                uses[r][v.i] = 0;
            }
            needed |= uses[r][v.i] > 0;
        }
        if (plain && !needed) {
            for (int r = 0; r < nbody; r++) {
                for (uint32_t j = at; j + 1 < body[r]->in.n; j++) body[r]->in.v[j] = body[r]->in.v[j + 1];
                body[r]->in.n--;
            }
            changed = true;
        } else {
            n->in[kept++] = n->in[k];
        }
    }
    n->nin = (uint16_t)kept;
    return changed;
}

static bool sink_if(Graph *g, Node *n) {
    const IfAttr *a = n->attr;
    return sink(g, n, 2, (Graph *const[]){a->then_g, a->else_g}, 1, 0);
}

static bool sink_loop(Graph *g, Node *n) {
    const LoopAttr *a = n->attr;
    return sink(g, n, 1, &a->body, 2 + a->ncarried, 2 + a->ncarried);
}

/* A part of a constant, say the weights of one direction, is a constant. */
static void fold_view(Graph *g, Val v) {
    Node *d = v.i ? val_def(g, v) : NULL;
    if (!d || !is_view(d)) return;
    fold_view(g, d->in[0]);
    fold_node(g, d, false);
}

bool pass_sink(Graph *g, PassCtx *p) {
    bool changed = false;
    (void)p;
    graph_tidy(g);
    const uint32_t count = g->node.n;
    for (uint32_t i = 0; i < count; i++) {
        Node *n = g->node.v[i];
        if (n->op != P_IF && n->op != P_LOOP) continue;
        for (int k = 0; k < n->nin; k++) fold_view(g, n->in[k]);
        changed |= n->op == P_IF ? sink_if(g, n) : sink_loop(g, n);
    }
    graph_tidy(g);
    return changed;
}

bool pass_regions(Graph *g, PassCtx *p) {
    bool changed = false;
    uint32_t made = 0;
    graph_tidy(g);
    for (uint32_t i = 0; i < g->node.n; i++) { /* unrolled bodies come to the end and have their turn */
        Node *n = g->node.v[i];
        int64_t trips;
        if (n->op == P_IF) changed |= sink_if(g, n);
        if (n->op != P_LOOP) continue;
        const LoopAttr *a = n->attr;
        uint32_t size = a->body->node.n;
        if (p->level > 0 && can_unroll(g, n, &trips) && made + size * (uint32_t)trips <= MAX_UNROLLED && pass_allow(p)) {
            unroll(g, n, trips);
            made += size * (uint32_t)trips;
            changed = true;
        } else {
            changed |= bind_counter(g, n);
            changed |= sink_loop(g, n);
        }
    }
    graph_tidy(g);
    return changed;
}
