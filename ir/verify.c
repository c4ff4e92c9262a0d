/* verify.c: the invariants of a graph, checked after any pass.
 *
 * Arity and operands; every value defined once and before its uses; types as infer() gives them; symbols defined before they
 * are mentioned; bodies of loop, if and group. A violation is a bug of ours, reported as X03xx at the node it concerns,
 * with the name of the pass (sizes that contradict each other where there are guards: E0309). Nothing is changed. */
#include "graph_internal.h"
#include <string.h>

typedef struct Verify {
    Ctx *c;
    const char *when;
    uint8_t *scope;             /* per symbol: defined here or outside */
    uint32_t nscope;
    bool facts;                 /* there are guards: what was built may turn out to be impossible */
    bool open;                  /* the graph is a region verified alone: outer symbols are not known */
    uint32_t bad;
} Verify;

typedef struct Place { Verify *v; const Graph *g; const Node *n; } Place;

static void report(const Place *p, const char *code, const char *what) {
    Verify *v = p->v;
    if (v->bad++ >= 20) return;
    if (p->n) {
        diag(v->c, SEV_ERROR, p->n->loc, code, "after %s: graph %s: node %u (%s): %s", v->when, p->g->name, p->n->id,
             prim_name((PrimOp)p->n->op), what);
    } else {
        diag(v->c, SEV_ERROR, (Loc){0}, code, "after %s: graph %s: %s", v->when, p->g->name, what);
    }
}

/* Sizes that do not fit are our bug, unless facts that were assumed one by one (a guard each) contradict each other: then
 * the model can never run. */
static void report_sizes(const Place *p, const char *what) {
    report(p, p->v->facts ? "E0309" : "X0304", what);
}

/* ==== symbols ===================================================================================================== */

static void define_sym(void *data, uint32_t sym) {
    Verify *v = data;
    if (sym < v->nscope) v->scope[sym] = 1;
}

static void need_sym(void *data, uint32_t sym) {
    const Place *p = data;
    Verify *v = p->v;
    if (sym >= v->nscope || v->scope[sym] || v->open || !dim_sym_info(v->c, sym)->bound) return;
    v->scope[sym] = 1; /* once */
    report(p, "X0303", ctx_printf(v->c, "symbol %s is not defined here", dim_sym_info(v->c, sym)->name));
}

static Dim need_dim(void *data, Ctx *c, Dim d) {
    dim_each_sym(c, d, need_sym, data);
    return d;
}

static void check_type(Place *p, const Type *t, const char *what) {
    for (bool element = false; t; t = t->elem, element = true) {
        if (t->kind != TY_TENSOR) continue;
        bool unranked = element && (t->rank == RANK_ANY || t->rank == RANK_NONE);
        if (t->dtype == DT_NONE || t->dtype >= DT_COUNT || (t->rank > MAX_RANK && !unranked)) report(p, "X0302", what);
        for (int d = 0; d < type_ndim(t); d++) {
            if (element && !t->dim[d].i) continue;
            if (!t->dim[d].i) report(p, "X0302", ctx_printf(p->v->c, "%s has a poisoned size", what));
            else need_dim(p, p->v->c, t->dim[d]);
        }
    }
}

/* ==== nodes ======================================================================================================= */

/* Are a and b one size because a guard says so, without being a fact that all sizes know? */
static bool guarded(Ctx *c, const Graph *g, Dim a, Dim b) {
    for (; g; g = g->parent)
        for (uint32_t k = 0; k < g->node.n; k++) {
            const GuardAttr *e = g->node.v[k]->attr;
            if (g->node.v[k]->op != P_GUARD || e->cmp != G_EQ) continue;
            if ((dim_same(c, e->a, a) && dim_same(c, e->b, b)) || (dim_same(c, e->a, b) && dim_same(c, e->b, a))) return true;
        }
    return false;
}

static bool same_type(Ctx *c, const Graph *g, const Type *stored, const Type *found, bool control) {
    if (stored->kind != found->kind || stored->dtype != found->dtype) return false;
    if (stored->kind != TY_TENSOR)
        return !stored->elem || !found->elem ? stored->elem == found->elem : type_covers(c, stored->elem, found->elem);
    bool same = stored->rank == found->rank;
    for (int d = 0; same && d < stored->rank; d++) {
        same = dim_same(c, stored->dim[d], found->dim[d]) || (found->dim[d].i && guarded(c, g, stored->dim[d], found->dim[d]));
        /* Sizes that a control node defines itself, or that only its builder could tell. */
        if (control && !found->dim[d].i) same = true;
        if (control && dim_lone_sym(c, stored->dim[d], NULL)) same = true;
    }
    return same;
}

static void check_result_types(Place *p) {
    const Node *n = p->n;
    Ctx *c = p->v->c;
    Graph *g = (Graph *)(uintptr_t)p->g; /* infer() appends nothing */
    Type few[4], *t = n->nout <= 4 ? few : NEWN(c, Type, n->nout);
    memset(t, 0, sizeof *t * n->nout);
    if (!infer(g, (PrimOp)n->op, n->nin, n->in, n->attr, n->nout, t, n->loc)) {
        report_sizes(p, "no types can be inferred");
        return;
    }
    bool control = n->op == P_LOOP || n->op == P_IF;
    for (int r = 0; r < n->nout; r++) {
        const Type *stored = &g->val.v[n->out[r].i].type;
        if (same_type(c, g, stored, &t[r], control)) continue;
        report_sizes(p, ctx_printf(c, "result %d has type %s, inferred is %s", r, type_text(c, stored),
                                   type_text(c, &t[r])));
    }
}

static void check_graph(Verify *v, const Graph *g, int depth);

static void check_regions(Place *p, int depth) {
    Graph *region[2];
    Verify *v = p->v;
    int n = node_regions(p->n, region);
    for (int r = 0; r < n; r++) {
        if (!region[r]) {
            report(p, "X0301", "no body");
            continue;
        }
        uint8_t *outer = ctx_dup(v->c, v->scope, v->nscope);
        if (p->n->op == P_LOOP) dim_each_sym(v->c, ((const LoopAttr *)p->n->attr)->iter, define_sym, v);
        check_graph(v, region[r], depth + 1);
        v->scope = outer;
    }
}

static void check_node(Place *p, uint8_t *seen, int depth) {
    const Node *n = p->n;
    const Graph *g = p->g;
    Verify *v = p->v;
    if (n->op >= P_COUNT) {
        report(p, "X0301", "no such primitive");
        return;
    }
    const PrimInfo *i = prim_info((PrimOp)n->op);
    bool ok = n->nin >= i->min && (i->max < 0 || n->nin <= i->max) && (i->nout < 0 || n->nout == i->nout);
    if (!ok) report(p, "X0301", ctx_printf(v->c, "%u operands and %u results", n->nin, n->nout));
    for (int k = 0; k < n->nin; k++) {
        uint32_t x = n->in[k].i;
        bool absent = !x && absent_ok((PrimOp)n->op) && !(n->op == P_IF && k == 0);
        if (absent) continue;
        if (x >= g->val.n || !x) {
            report(p, "X0301", ctx_printf(v->c, "operand %d is value %u", k, x));
            return;
        }
        if (!seen[graph_resolve(g, n->in[k]).i]) {
            report(p, "X0302", ctx_printf(v->c, "operand %d (%%%u) is not defined before", k, x));
            ok = false;
        }
    }
    for (int r = 0; r < n->nout; r++) {
        uint32_t x = n->out[r].i;
        if (!x || x >= g->val.n || g->val.v[x].def != n || seen[x]) {
            report(p, "X0302", ctx_printf(v->c, "result %d (%%%u) is not defined by this node alone", r, x));
            return;
        }
        seen[x] = 1;
    }
    if (!ok) return;
    node_makes(v->c, g, n, define_sym, v);
    if (n->attr) attr_visit(v->c, g, n, false, need_dim, p);
    for (int r = 0; r < n->nout; r++) check_type(p, &g->val.v[n->out[r].i].type, "a result");
    check_result_types(p);
    check_regions(p, depth);
}

/* ==== graphs ====================================================================================================== */

static void define_input_syms(Verify *v, const Type *t) {
    uint32_t sym;
    for (; t; t = t->elem) {
        for (int d = 0; t->kind == TY_TENSOR && d < type_ndim(t); d++) {
            if (dim_lone_sym(v->c, t->dim[d], &sym)) define_sym(v, sym);
        }
    }
}

static void check_graph(Verify *v, const Graph *g, int depth) {
    Place p = {v, g, NULL};
    if (depth > MAX_REGION_DEPTH) {
        report(&p, "X0301", "regions are nested too deeply");
        return;
    }
    uint8_t *seen = NEWN(v->c, uint8_t, g->val.n + 1);
    if (!g->val.n || g->val.v[0].def || g->val.v[0].type.rank) report(&p, "X0302", "value 0 is not poison");
    for (uint32_t k = 0; k < g->in.n; k++) {
        uint32_t x = g->in.v[k].val.i;
        if (!x || x >= g->val.n || g->val.v[x].def || seen[x]) {
            report(&p, "X0302", ctx_printf(v->c, "input %u is value %u", k, x));
            return;
        }
        seen[x] = 1;
        define_input_syms(v, &g->val.v[x].type);
    }
    for (uint32_t k = 0; k < g->in.n; k++) check_type(&p, &g->val.v[g->in.v[k].val.i].type, "an input");
    for (uint32_t k = 0; k < g->node.n; k++) v->facts |= g->node.v[k]->op == P_GUARD;
    for (uint32_t k = 0; k < g->node.n; k++) {
        p.n = g->node.v[k];
        check_node(&p, seen, depth);
    }
    p.n = NULL;
    for (uint32_t k = 0; k < g->out.n; k++) {
        Val x = g->out.v[k].val;
        if (!x.i || x.i >= g->val.n || !seen[graph_resolve(g, x).i]) {
            report(&p, "X0302", ctx_printf(v->c, "output %u is not defined", k));
        }
    }
    for (uint32_t x = 1; x < g->val.n; x++) {
        int64_t n = 0;
        const Dim *e = seen[x] ? val_elems(g, (Val){x}, &n) : NULL;
        for (int64_t k = 0; e && k < n; k++) {
            if (!e[k].i) report(&p, "X0302", ctx_printf(v->c, "%%%u has a poisoned element", x));
        }
    }
}

bool graph_verify(Graph *g, const char *when) {
    Verify v = {.c = g->c, .when = when ? when : "?", .nscope = dim_nsyms(g->c), .open = g->parent != NULL};
    v.scope = NEWN(g->c, uint8_t, v.nscope + 1);
    check_graph(&v, g, 0);
    return v.bad == 0;
}
