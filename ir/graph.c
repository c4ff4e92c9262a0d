/* graph.c: values, nodes, and the links between them.
 *
 * A Graph is a list of nodes and a table of values; Val handles stay valid for its whole life, nodes may be dropped.
 * Uses are indexed per value, so that replacing a value costs its uses and not the graph. A use that was written by
 * hand into Node.in is not in the index; it still resolves through ValInfo.link, and graph_tidy() puts it right.
 * Order, liveness: tidy.c. Copies: attr.c. */
#include "graph_internal.h"
#include <string.h>

#define PRIM(e, text, min, max, nout, attr) {text, min, max, nout, sizeof(attr)},
static const PrimInfo prims[] = {
#include "prim.def"
};
#undef PRIM
_Static_assert(sizeof prims / sizeof *prims == P_COUNT, "one row per primitive");

const PrimInfo *prim_info(PrimOp op) {
    CHECK((unsigned)op < P_COUNT);
    return &prims[op];
}

const char *prim_name(PrimOp op) { return (unsigned)op < P_COUNT ? prims[op].text : "?"; }

/* Poison has poison sizes along every axis that anybody asks for. */
static const Dim no_dim[MAX_RANK];

Graph *graph_new(Ctx *c, const char *name, Graph *parent) {
    Graph *g = NEW(c, Graph);
    g->c = c;
    g->name = ctx_str(c, name ? name : "");
    g->parent = parent;
    vec_push(c, &g->val, (ValInfo){.type.dim = no_dim});
    vec_push(c, &g->use, (ValUse){0});
    return g;
}

Val graph_value(Graph *g, Type t, Node *def) {
    vec_push(g->c, &g->val, (ValInfo){.type = t, .def = def});
    return (Val){g->val.n - 1};
}

Val graph_input(Graph *g, const char *name, Type t) {
    Val v = graph_value(g, t, NULL);
    g->val.v[v.i].name = name ? ctx_str(g->c, name) : NULL;
    vec_push(g->c, &g->in, (Port){g->val.v[v.i].name, v});
    return v;
}

void graph_output(Graph *g, const char *name, Val v) {
    vec_push(g->c, &g->out, (Port){name ? ctx_str(g->c, name) : NULL, graph_resolve(g, v)});
}

/* ==== uses ======================================================================================================== */

static void add_use(Graph *g, Node *n, uint32_t operand) {
    ValInfo *v = &g->val.v[n->in[operand].i];
    vec_push(g->c, &g->use, (ValUse){n, operand, v->uses});
    v->uses = g->use.n - 1;
}

void graph_rebuild_uses(Graph *g) {
    g->use.n = 1;
    for (uint32_t v = 0; v < g->val.n; v++) g->val.v[v].uses = 0;
    for (uint32_t k = 0; k < g->node.n; k++) {
        Node *n = g->node.v[k];
        for (uint32_t i = 0; i < n->nin; i++) {
            if (n->in[i].i) add_use(g, n, i);
        }
    }
}

uint32_t *graph_uses(Graph *g) {
    uint32_t *u = NEWN(g->c, uint32_t, g->val.n);
    for (uint32_t k = 0; k < g->node.n; k++) {
        const Node *n = g->node.v[k];
        for (uint32_t i = 0; i < n->nin; i++) u[graph_resolve(g, n->in[i]).i]++;
    }
    for (uint32_t k = 0; k < g->out.n; k++) u[graph_resolve(g, g->out.v[k].val).i]++;
    u[0] = 0;
    return u;
}

void graph_replace(Graph *g, Val old, Val with) {
    old = graph_resolve(g, old);
    with = graph_resolve(g, with);
    if (old.i == with.i || !old.i || !with.i) return;
    const Type *a = &g->val.v[old.i].type, *b = &g->val.v[with.i].type;
    CHECK(a->kind == b->kind && a->dtype == b->dtype && a->rank == b->rank);
    uint32_t u = g->val.v[old.i].uses;
    while (u) {
        ValUse *use = &g->use.v[u];
        uint32_t next = use->next;
        if (use->operand < use->n->nin && graph_resolve(g, use->n->in[use->operand]).i == old.i) {
            use->n->in[use->operand] = with;
            use->next = g->val.v[with.i].uses;
            g->val.v[with.i].uses = u;
        }
        u = next;
    }
    g->val.v[old.i].uses = 0;
    g->val.v[old.i].link = with;
    if (!g->val.v[with.i].name) g->val.v[with.i].name = g->val.v[old.i].name;
    if (!g->val.v[with.i].elem) g->val.v[with.i].elem = g->val.v[old.i].elem;
    for (uint32_t k = 0; k < g->out.n; k++) {
        if (g->out.v[k].val.i == old.i) g->out.v[k].val = with;
    }
}

/* ==== nodes ======================================================================================================= */

Node *graph_node_elems(Graph *g, PrimOp op, int nin, const Val *in, int nout, const Type *outtype, const void *attr,
                       Loc loc, const Dim *elem) {
    Ctx *c = g->c;
    CHECK((unsigned)op < P_COUNT && nin >= 0 && nin <= MAX_OPERANDS && nout >= 0 && nout <= MAX_OPERANDS);
    if (g->node.n >= MAX_NODES) ctx_fatal(c, "error[E0302]: a graph has more than %u nodes", MAX_NODES);
    Node *n = NEW(c, Node);
    *n = (Node){.op = (uint16_t)op, .nin = (uint16_t)nin, .nout = (uint16_t)nout, .attr = attr, .loc = loc};
    n->id = g->node.n;
    n->in = NEWN(c, Val, nin + 1);
    n->out = NEWN(c, Val, nout + 1);
    for (int i = 0; i < nin; i++) {
        n->in[i] = graph_resolve(g, in[i]);
        if (n->in[i].i) add_use(g, n, (uint32_t)i);
    }
    vec_push(c, &g->node, n);
    for (int i = 0; i < nout; i++) {
        n->out[i] = graph_value(g, outtype[i], n);
        const Dim *known = i || !elem ? elem_infer(g, op, nin, n->in, attr, nout, i, &outtype[i], NULL) : elem;
        g->val.v[n->out[i].i].elem = known;
    }
    return n;
}

Node *graph_node(Graph *g, PrimOp op, int nin, const Val *in, int nout, const Type *outtype, const void *attr, Loc loc) {
    return graph_node_elems(g, op, nin, in, nout, outtype, attr, loc, NULL);
}

/* ==== values ====================================================================================================== */

Val graph_resolve(const Graph *g, Val v) {
    ValInfo *t = g->val.v;
    CHECK(v.i < g->val.n);
    while (t[v.i].link.i) {
        Val next = t[v.i].link;
        if (t[next.i].link.i) t[v.i].link = t[next.i].link;
        v = next;
    }
    return v;
}

const ValInfo *val_info(const Graph *g, Val v) { return &g->val.v[graph_resolve(g, v).i]; }
const Type *val_type(const Graph *g, Val v) { return &val_info(g, v)->type; }
Node *val_def(const Graph *g, Val v) { return val_info(g, v)->def; }

const ConstData *val_const(const Graph *g, Val v) {
    const Node *n = val_def(g, v);
    return n && n->op == P_CONST ? ((const ConstAttr *)n->attr)->data : NULL;
}

bool val_scalar(const Graph *g, Val v, Scalar *s) {
    const Node *n = val_def(g, v);
    for (int depth = 0; n && depth < 32 && (n->op == P_BROADCAST || n->op == P_RESHAPE); depth++) n = val_def(g, n->in[0]);
    if (!n || n->op != P_CONST) return false;
    const ConstData *d = ((const ConstAttr *)n->attr)->data;
    bool number = dt_is_float(d->dtype) || dt_is_int(d->dtype) || d->dtype == DT_BOOL;
    if (!number || d->bytes == 0 || !(d->splat || d->count == 1)) return false;
    *s = dt_load(d->dtype, d->data, 0);
    return true;
}

const Dim *val_elems(const Graph *g, Val v, int64_t *n) {
    const ValInfo *i = val_info(g, v);
    int64_t dim[MAX_RANK], count;
    if (!i->elem || !elem_count(g->c, &i->type, dim, &count)) return NULL;
    if (n) *n = count;
    return i->elem;
}

void val_set_elems(Graph *g, Val v, const Dim *elem) {
    v = graph_resolve(g, v);
    ValInfo *i = &g->val.v[v.i];
    int64_t dim[MAX_RANK], n;
    if (!v.i || !elem || !elem_dtype((DType)i->type.dtype) || !elem_count(g->c, &i->type, dim, &n)) return;
    for (int64_t k = 0; k < n; k++) {
        if (!elem[k].i) return;
    }
    i->elem = n ? ctx_dup(g->c, elem, sizeof *elem * (size_t)n) : NEW(g->c, Dim);
}
