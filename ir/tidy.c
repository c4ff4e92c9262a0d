/* tidy.c: what of a graph is needed, and in which order.
 *
 * Needed: graph outputs, guards (each fact once), calls, and what they need in turn; a `bind` whose symbol is mentioned by
 * something needed. A symbol that is made by a node (bind, or a control node one of whose results has that size) counts
 * as an operand of every node that mentions it. Nodes that are in order stay in their order. A cycle is a bug: ICE. */
#include "graph_internal.h"
#include <stdlib.h>

typedef struct Def { uint32_t sym, node; } Def;
typedef struct Frame { uint32_t node, start, next; } Frame;
typedef struct Tidy {
    Graph *g;
    Ctx *c;
    Def *def;                   /* symbols made by nodes, ascending */
    uint32_t ndef;
    VEC(Def) defs;
    VEC(uint32_t) pred;         /* predecessors of the nodes on the stack */
    VEC(Frame) stack;
    uint8_t *state;             /* per node: 0 new, 1 on the stack, 2 done */
    uint32_t *order, norder;
} Tidy;

/* ==== who makes which symbol ====================================================================================== */

typedef struct Maker { Tidy *t; uint32_t node; bool bind; } Maker;

static int def_cmp(const void *a, const void *b) {
    const Def *x = a, *y = b;
    if (x->sym != y->sym) return x->sym < y->sym ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

static const Def *find_def(const Tidy *t, uint32_t sym) {
    uint32_t lo = 0, hi = t->ndef;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (t->def[mid].sym < sym) lo = mid + 1;
        else hi = mid;
    }
    return lo < t->ndef && t->def[lo].sym == sym ? &t->def[lo] : NULL;
}

static void sort_defs(Tidy *t) {
    if (t->defs.n) qsort(t->defs.v, t->defs.n, sizeof *t->defs.v, def_cmp);
    t->def = t->defs.v;
    t->ndef = t->defs.n;
}

static void add_def(void *data, uint32_t sym) {
    const Maker *m = data;
    if (m->bind || !find_def(m->t, sym)) vec_push(m->t->c, &m->t->defs, (Def){sym, m->node});
}

/* Binds come first: a control node whose result has a bound size does not define it. */
static void find_defs(Tidy *t) {
    const Graph *g = t->g;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t k = 0; k < g->node.n; k++) {
            const Node *n = g->node.v[k];
            Maker m = {t, k, pass == 0};
            if ((n->op == P_BIND) == (pass == 0)) node_makes(t->c, g, n, add_def, &m);
        }
        sort_defs(t);
    }
}

/* ==== predecessors ================================================================================================ */

static void add_pred(Tidy *t, uint32_t node) { vec_push(t->c, &t->pred, node); }

static void pred_sym(void *data, uint32_t sym) {
    Tidy *t = data;
    const Def *d = find_def(t, sym);
    if (d) add_pred(t, d->node);
}

static Dim pred_dim(void *data, Ctx *c, Dim d) {
    dim_each_sym(c, d, pred_sym, data);
    return d;
}

static void pred_type(Tidy *t, const Type *y) {
    for (; y; y = y->elem) {
        for (int d = 0; y->kind == TY_TENSOR && d < type_ndim(y); d++) dim_each_sym(t->c, y->dim[d], pred_sym, t);
    }
}

static void pred_val(Tidy *t, Val v) {
    const Node *n = val_def(t->g, v);
    if (!n) return;
    if (n->id >= t->g->node.n || t->g->node.v[n->id] != n) {
        ICE("graph %s: the %s that makes %%%u was dropped, but is used", t->g->name, prim_name((PrimOp)n->op), v.i);
    }
    add_pred(t, n->id);
}

static void push(Tidy *t, uint32_t node) {
    const Node *n = t->g->node.v[node];
    uint32_t start = t->pred.n;
    t->state[node] = 1;
    for (int i = 0; i < n->nin; i++) pred_val(t, n->in[i]);
    if (t->ndef) {
        for (int r = 0; r < n->nout; r++) pred_type(t, &t->g->val.v[n->out[r].i].type);
        attr_visit(t->c, t->g, n, true, pred_dim, t);
    }
    vec_push(t->c, &t->stack, (Frame){node, start, start});
}

/* A guard of sizes of graph inputs alone: it comes first, as others assume what it says wherever they are. */
static bool comes_first(Tidy *t, const Node *n) {
    uint32_t start = t->pred.n;
    if (n->op != P_GUARD || n->nin) return false;
    if (t->ndef) attr_visit(t->c, t->g, n, true, pred_dim, t);
    bool first = t->pred.n == start;
    t->pred.n = start;
    return first;
}

/* Emits `root` after everything it needs. */
static void visit(Tidy *t, uint32_t root) {
    if (t->state[root]) return;
    push(t, root);
    while (t->stack.n) {
        Frame *f = &t->stack.v[t->stack.n - 1];
        if (f->next == t->pred.n) {
            t->pred.n = f->start;
            t->state[f->node] = 2;
            t->order[t->norder++] = f->node;
            t->stack.n--;
            continue;
        }
        uint32_t p = t->pred.v[f->next++];
        if (t->state[p] == 1 && p != f->node) {
            ICE("graph %s: node %u (%s) needs itself", t->g->name, p, prim_name((PrimOp)t->g->node.v[p]->op));
        }
        if (!t->state[p]) push(t, p);
    }
}

/* ==== liveness ==================================================================================================== */

static int guard_cmp(const void *x, const void *y) {
    const Node *a = *(Node *const *)x, *b = *(Node *const *)y;
    const GuardAttr *p = a->attr, *q = b->attr;
    if (p->cmp != q->cmp) return p->cmp < q->cmp ? -1 : 1;
    if (p->a.i != q->a.i) return p->a.i < q->a.i ? -1 : 1;
    if (p->b.i != q->b.i) return p->b.i < q->b.i ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* Marks guards that others make superfluous: checks of the same dims, but for the first, and equalities that have become
 * obvious (guards shield their dims from what they let others assume). */
static void drop_guards(Tidy *t, bool *dropped) {
    VEC(Node *) guard = {0};
    for (uint32_t k = 0; k < t->g->node.n; k++) {
        Node *n = t->g->node.v[k];
        if (n->op != P_GUARD || n->nin) continue;
        const GuardAttr *a = n->attr;
        if (a->cmp == G_EQ && dim_same(t->c, a->a, a->b)) dropped[k] = true;
        else vec_push(t->c, &guard, n);
    }
    if (guard.n < 2) return;
    qsort(guard.v, guard.n, sizeof *guard.v, guard_cmp);
    for (uint32_t k = 1; k < guard.n; k++) {
        const GuardAttr *p = guard.v[k - 1]->attr, *q = guard.v[k]->attr;
        if (p->cmp == q->cmp && p->a.i == q->a.i && p->b.i == q->b.i) dropped[guard.v[k]->id] = true;
    }
}

static bool is_root(const Node *n) { return n->op == P_GUARD || n->op == P_CALL || n->op == P_RETURN; }

static void resolve_all(Graph *g) {
    for (uint32_t k = 0; k < g->node.n; k++) {
        Node *n = g->node.v[k];
        n->id = k;
        for (int i = 0; i < n->nin; i++) n->in[i] = graph_resolve(g, n->in[i]);
    }
    for (uint32_t k = 0; k < g->out.n; k++) g->out.v[k].val = graph_resolve(g, g->out.v[k].val);
}

static void tidy(Graph *g, int depth) {
    if (depth > MAX_REGION_DEPTH) ctx_fatal(g->c, "error[E0302]: regions are nested too deeply");
    uint32_t count = g->node.n;
    Tidy tidy_ = {.g = g, .c = g->c}, *t = &tidy_;
    resolve_all(g);
    find_defs(t);
    t->state = NEWN(g->c, uint8_t, count + 1);
    t->order = NEWN(g->c, uint32_t, count + 1);
    bool *dropped = NEWN(g->c, bool, count + 1);
    drop_guards(t, dropped);

    /* Needed nodes are those that a walk from the roots reaches. */
    for (uint32_t k = 0; k < g->out.n; k++) {
        pred_val(t, g->out.v[k].val);
        pred_type(t, val_type(g, g->out.v[k].val));
    }
    uint32_t nroot = t->pred.n, *root = NEWN(g->c, uint32_t, nroot + 1);
    for (uint32_t k = 0; k < nroot; k++) root[k] = t->pred.v[k];
    t->pred.n = 0;
    for (uint32_t k = 0; k < nroot; k++) visit(t, root[k]);
    for (uint32_t k = 0; k < count; k++) {
        if (is_root(g->node.v[k]) && !dropped[k]) visit(t, k);
    }

    /* The same walk in the old order of the needed ones gives the new order. */
    bool *live = NEWN(g->c, bool, count + 1);
    for (uint32_t k = 0; k < t->norder; k++) live[t->order[k]] = true;
    for (uint32_t k = 0; k < count; k++) t->state[k] = 0;
    t->norder = 0;
    for (uint32_t k = 0; k < count; k++) {
        if (live[k] && comes_first(t, g->node.v[k])) visit(t, k);
    }
    for (uint32_t k = 0; k < count; k++) {
        if (live[k]) visit(t, k);
    }
    Node **node = NEWN(g->c, Node *, t->norder + 1);
    for (uint32_t k = 0; k < t->norder; k++) node[k] = g->node.v[t->order[k]];
    for (uint32_t k = 0; k < t->norder; k++) {
        g->node.v[k] = node[k];
        node[k]->id = k;
    }
    g->node.n = t->norder;
    graph_rebuild_uses(g);
    for (uint32_t k = 0; k < g->node.n; k++) {
        Graph *region[2];
        int n = node_regions(g->node.v[k], region);
        for (int r = 0; r < n; r++) {
            if (region[r]) tidy(region[r], depth + 1);
        }
    }
}

void graph_tidy(Graph *g) { tidy(g, 0); }
