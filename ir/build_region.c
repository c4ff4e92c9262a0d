/* build_region.c: the builder's nodes with bodies: loop, if, group, and wrapping what was built into a group.
 *
 * Sizes on which the ways to a result do not agree (branches of an if, trips of a loop) become fresh symbols, which the
 * node itself defines when it runs; so does any size that is named by a symbol of the body alone. */
#include "build_internal.h"
#include <string.h>

/* ==== fresh sizes ================================================================================================= */

typedef struct Inner { Ctx *c; VEC(uint32_t) sym; } Inner; /* symbols of the body alone */

static void add_inner(void *data, uint32_t sym) {
    Inner *in = data;
    vec_push(in->c, &in->sym, sym);
}

static void inner_symbols(Ctx *c, Inner *in, const Graph *g) {
    for (uint32_t k = 0; k < g->node.n; k++) node_makes(c, g, g->node.v[k], add_inner, in);
}

static bool is_inner(Ctx *c, const Inner *in, Dim d) {
    for (uint32_t k = 0; k < in->sym.n; k++) {
        if (dim_uses_sym(c, d, in->sym.v[k])) return true;
    }
    return false;
}

static Dim fresh(B *b, int64_t lo, int64_t hi) {
    Dim d = dim_fresh(b->c, "n", lo > 0 ? lo : 0, hi);
    uint32_t s;
    if (dim_lone_sym(b->c, d, &s)) dim_sym_mark_bound(b->c, s);
    return d;
}

/* ==== nodes with bodies =========================================================================================== */

static bool append(B *b, PrimOp op, int nin, const Val *in, const void *attr, int nout, const Type *t, Val *out) {
    Node *n = graph_node(b->g, op, nin, in, nout, t, ctx_dup(b->c, attr, prim_info(op)->attr_size), b->loc);
    for (int r = 0; r < nout; r++) out[r] = n->out[r];
    return true;
}

/* A result type in which every unknown or inner size is fresh. */
static Type settle(B *b, const Inner *in, Type t, const Type *x, const Type *y) {
    if (t.kind != TY_TENSOR) return t;
    Dim dim[MAX_RANK];
    for (int d = 0; d < t.rank; d++) {
        dim[d] = t.dim[d];
        if (dim[d].i && !is_inner(b->c, in, dim[d])) continue;
        int64_t lo = 0, hi = DIM_INF;
        if (x && y) {
            int64_t xl = dim_lo(b->c, x->dim[d]), yl = dim_lo(b->c, y->dim[d]);
            int64_t xh = dim_hi(b->c, x->dim[d]), yh = dim_hi(b->c, y->dim[d]);
            lo = xl < yl ? xl : yl;
            hi = xh > yh ? xh : yh;
        }
        dim[d] = fresh(b, lo, hi);
    }
    return type_tensor(b->c, (DType)t.dtype, t.rank, dim);
}

static bool is_true(const Graph *g, Val v) {
    Scalar s;
    return val_scalar(g, v, &s) && s.t == DT_BOOL && s.i;
}

/* The condition holds at first and stays: the trip count alone says how often. */
static bool never_stops(B *b, const Graph *body, Val cond) {
    Val next = graph_resolve(body, body->out.v[0].val);
    if (cond.i && !is_true(b->g, cond)) return false;
    return is_true(body, next) || next.i == body->in.v[1].val.i;
}

void b_loop(B *b, Graph *body, int ncarried, int nscan, int nin, const Val *in, Val *out) {
    Ctx *c = b->c;
    int nout = ncarried + nscan;
    for (int r = 0; r < nout; r++) out[r] = (Val){0};
    if (!body || nin < 2 + ncarried) return;
    LoopAttr a = {.body = body, .ncarried = (uint16_t)ncarried, .nscan_out = (uint16_t)nscan,
                  .has_trip = in[0].i != 0, .has_cond = in[1].i != 0};
    for (int k = 2; k < nin; k++) {
        if (!in[k].i) return;
    }
    Type *t = NEWN(c, Type, nout + 1);
    if (!infer(b->g, P_LOOP, nin, in, &a, nout, t, b->loc)) return;
    Inner inner = {.c = c};
    uint32_t sym;
    inner_symbols(c, &inner, body);
    for (int k = 0; k < ncarried; k++) { /* sizes that the body takes as its own symbols, and changes */
        const Type *formal = val_type(body, body->in.v[2 + k].val), *from = val_type(b->g, in[2 + k]);
        const Type *to = val_type(body, body->out.v[1 + k].val);
        for (int d = 0; formal->kind == TY_TENSOR && d < formal->rank && d < from->rank && d < to->rank; d++) {
            if (dim_same(c, formal->dim[d], from->dim[d])) continue;
            if (dim_same(c, formal->dim[d], to->dim[d]) && !t[k].dim[d].i) { /* a name for what stays as it began */
                Dim *dim = ctx_dup(c, t[k].dim, sizeof *dim * t[k].rank);
                dim[d] = from->dim[d];
                t[k].dim = dim;
            }
            if (dim_lone_sym(c, formal->dim[d], &sym)) add_inner(&inner, sym);
        }
    }
    for (int k = 0; k < ncarried; k++) t[k] = settle(b, &inner, t[k], NULL, NULL);
    /* Stacked results have one size per iteration done: the trip count, or a symbol that the loop defines. */
    const Dim *trip = a.has_trip && never_stops(b, body, in[1]) ? val_elems(b->g, in[0], NULL) : NULL;
    if (nscan && !trip) a.iter = fresh(b, 0, DIM_INF);
    for (int k = ncarried; k < nout; k++) {
        Dim *dim = ctx_dup(c, t[k].dim, sizeof *dim * t[k].rank);
        dim[0] = trip ? dim_max(c, *trip, dim_const(c, 0)) : a.iter;
        t[k].dim = dim;
        t[k] = settle(b, &inner, t[k], NULL, NULL);
    }
    append(b, P_LOOP, nin, in, &a, nout, t, out);
}

void b_if(B *b, Val cond, Graph *t, Graph *e, int nin, const Val *in, Val *out) {
    int nout = t ? (int)t->out.n : 0;
    for (int r = 0; r < nout; r++) out[r] = (Val){0};
    if (!cond.i || !t || !e) return;
    IfAttr a = {t, e};
    Val *all = NEWN(b->c, Val, nin + 1);
    Type *ty = NEWN(b->c, Type, nout + 1);
    all[0] = cond;
    for (int k = 0; k < nin; k++) all[1 + k] = in[k];
    Scalar s;
    if (val_scalar(b->g, cond, &s) && s.t == DT_BOOL && val_type(b->g, cond)->rank == 0) {
        Graph *taken = s.i ? t : e;
        if ((int)taken->out.n == nout && (int)taken->in.n == nin) {
            graph_inline(b->g, taken, in, out);
            return;
        }
    }
    if (!infer(b->g, P_IF, nin + 1, all, &a, nout, ty, b->loc)) return;
    Inner inner = {.c = b->c};
    inner_symbols(b->c, &inner, t);
    inner_symbols(b->c, &inner, e);
    for (int r = 0; r < nout; r++) {
        const Type *x = val_type(t, t->out.v[r].val), *y = val_type(e, e->out.v[r].val);
        ty[r] = settle(b, &inner, ty[r], x, y);
    }
    append(b, P_IF, nin + 1, all, &a, nout, ty, out);
}

void b_group(B *b, const char *name, Graph *body, int nin, const Val *in, Val *out) {
    int nout = body ? (int)body->out.n : 0;
    GroupAttr a = {.name = ctx_str(b->c, name), .body = body};
    Type *t = NEWN(b->c, Type, nout + 1);
    for (int r = 0; r < nout; r++) out[r] = (Val){0};
    if (!body || !infer(b->g, P_GROUP, nin, in, &a, nout, t, b->loc)) return;
    append(b, P_GROUP, nin, in, &a, nout, t, out);
}

/* ==== wrap ======================================================================================================== */

enum { IN = 1 /* goes into the group */, OUT = 2 /* must not */ };
typedef VEC(Val) Vals;
typedef struct Wrap {
    B *b;
    Graph *g;
    uint32_t mark, n;           /* nodes [mark, mark + n) of g */
    uint8_t *inside;            /* per node: 0, IN, OUT */
    VEC(uint32_t) todo;
    uint32_t *pos;              /* of the value's node + 1 - mark; 0: from before */
} Wrap;

static uint32_t pos_of(const Wrap *w, Val v) { return w->pos[graph_resolve(w->g, v).i]; }

/* Sets inside[] to `to` for the nodes in todo and all that they need since the mark. */
static void spread(Wrap *w, uint8_t to) {
    while (w->todo.n) {
        uint32_t k = w->todo.v[--w->todo.n];
        if (w->inside[k] == to) continue;
        w->inside[k] = to;
        const Node *n = w->g->node.v[w->mark + k];
        for (int i = 0; i < n->nin; i++) {
            uint32_t p = pos_of(w, n->in[i]);
            if (p) vec_push(w->g->c, &w->todo, p - 1);
        }
    }
}

static void note_made(void *data, uint32_t sym) {
    (void)sym;
    *(bool *)data = true;
}

uint32_t b_mark(B *b) { return b->g->node.n; }

/* What goes in: what outs are made of; but what defines symbols stays outside, with all it needs: sizes must be known before
 * the group. false: nothing but constants. */
static bool choose(Wrap *w, int nout, const Val *outs) {
    Graph *g = w->g;
    for (uint32_t k = 0; k < w->n; k++) {
        const Node *n = g->node.v[w->mark + k];
        for (int r = 0; r < n->nout; r++) w->pos[n->out[r].i] = k + 1;
    }
    for (int r = 0; r < nout; r++) {
        uint32_t p = outs[r].i ? pos_of(w, outs[r]) : 0;
        if (p) vec_push(w->b->c, &w->todo, p - 1);
    }
    spread(w, IN);
    for (uint32_t k = 0; k < w->n; k++) {
        bool makes = false;
        node_makes(w->b->c, g, g->node.v[w->mark + k], note_made, &makes);
        if (makes) vec_push(w->b->c, &w->todo, k);
    }
    spread(w, OUT);
    bool any = false;
    for (uint32_t k = 0; k < w->n; k++) any |= w->inside[k] == IN && g->node.v[w->mark + k]->op != P_CONST;
    return any;
}

/* n as a node of the body: what it reads from outside becomes an input (map, *in), what is read outside (uses) an output (*res). */
static void move_in(Wrap *w, Graph *body, const Node *n, const uint32_t *uses, Val *map, Vals *in, Vals *res) {
    Graph *g = w->g;
    Ctx *c = w->b->c;
    Val *x = NEWN(c, Val, n->nin + 1);
    Type *t = NEWN(c, Type, n->nout + 1);
    for (int i = 0; i < n->nin; i++) {
        Val v = graph_resolve(g, n->in[i]);
        if (v.i && !map[v.i].i) {
            const ValInfo *from = val_info(g, v);
            map[v.i] = graph_input(body, from->name, from->type);
            if (from->elem) val_set_elems(body, map[v.i], from->elem);
            vec_push(c, in, v);
        }
        x[i] = map[v.i];
    }
    for (int r = 0; r < n->nout; r++) t[r] = *val_type(g, n->out[r]);
    Graph *region[2];
    Node *to = graph_node(body, (PrimOp)n->op, n->nin, x, n->nout, t, n->attr, n->loc);
    for (int r = 0, nr = node_regions(to, region); r < nr; r++) {
        if (region[r]) region[r]->parent = body;
    }
    for (int r = 0; r < n->nout; r++) {
        map[n->out[r].i] = to->out[r];
        body->val.v[to->out[r].i].name = g->val.v[n->out[r].i].name;
        if (uses[n->out[r].i]) {
            graph_output(body, NULL, to->out[r]);
            vec_push(c, res, n->out[r]);
        }
    }
}

void b_wrap(B *b, const char *name, uint32_t mark, int nout, Val *outs) {
    Graph *g = b->g;
    Ctx *c = b->c;
    if (mark > g->node.n) return;
    Wrap wrap = {.b = b, .g = g, .mark = mark, .n = g->node.n - mark}, *w = &wrap;
    w->inside = NEWN(c, uint8_t, w->n + 1);
    w->pos = NEWN(c, uint32_t, g->val.n);
    if (!choose(w, nout, outs)) return;

    Graph *body = graph_new(c, name, g);
    Val *map = NEWN(c, Val, g->val.n);
    Vals in = {0}, res = {0};
    Node **all = ctx_dup(c, &g->node.v[mark], sizeof *all * w->n);
    uint32_t *uses = NEWN(c, uint32_t, g->val.n); /* from outside the group */
    for (uint32_t k = 0; k < w->n; k++) {
        for (int i = 0; w->inside[k] != IN && i < all[k]->nin; i++) uses[graph_resolve(g, all[k]->in[i]).i]++;
    }
    for (int r = 0; r < nout; r++) uses[graph_resolve(g, outs[r]).i]++;
    for (uint32_t k = 0; k < w->n; k++) {
        if (w->inside[k] == IN) move_in(w, body, all[k], uses, map, &in, &res);
    }
    /* Those that stay and do not read the group come before it. */
    bool *late = NEWN(c, bool, w->n + 1);
    g->node.n = mark;
    for (uint32_t k = 0; k < w->n; k++) {
        if (w->inside[k] == IN) continue;
        for (int i = 0; i < all[k]->nin; i++) {
            uint32_t p = pos_of(w, all[k]->in[i]);
            late[k] |= p && (w->inside[p - 1] == IN || late[p - 1]);
        }
        if (!late[k]) vec_push(c, &g->node, all[k]);
    }
    Val *made = NEWN(c, Val, res.n + 1);
    b_group(b, name, body, (int)in.n, in.v, made);
    for (uint32_t k = 0; k < w->n; k++) {
        if (late[k]) vec_push(c, &g->node, all[k]);
    }
    for (uint32_t r = 0; r < res.n; r++) {
        if (!made[r].i) ICE("group %s does not take what it was made of", name);
        graph_replace(g, res.v[r], made[r]);
    }
    for (int r = 0; r < nout; r++) outs[r] = graph_resolve(g, outs[r]);
    for (uint32_t k = mark; k < g->node.n; k++) g->node.v[k]->id = k;
}
