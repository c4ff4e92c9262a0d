/* attr.c: the dims, expressions, types and regions inside attributes; copies of graphs.
 *
 * One function per attribute struct says which fields there are; it serves the read-only walk (which symbols does a
 * node mention?) and the copy (with symbols replaced, and with regions of its own). */
#include "graph_internal.h"
#include <string.h>

/* ==== symbols of dims, parts of expressions ======================================================================= */

static void each_sym(const Ctx *c, Dim d, int *fuel, void (*fn)(void *, uint32_t), void *data) {
    const DimInfo *i = dim_info(c, d);
    if (--*fuel < 0) return;
    if (i->kind == D_SYM) fn(data, (uint32_t)i->val);
    for (int k = 0; k < i->n; k++) each_sym(c, i->arg[k], fuel, fn, data);
}

void dim_each_sym(const Ctx *c, Dim d, void (*fn)(void *data, uint32_t sym), void *data) {
    int fuel = 100000; /* dims are trees in effect; a shared one that is huge as a tree is walked in part */
    each_sym(c, d, &fuel, fn, data);
}

typedef struct Mention { uint32_t sym; bool found; } Mention;

static void note_sym(void *data, uint32_t sym) {
    Mention *m = data;
    m->found |= sym == m->sym;
}

bool dim_uses_sym(const Ctx *c, Dim d, uint32_t sym) {
    Mention m = {sym, false};
    dim_each_sym(c, d, note_sym, &m);
    return m.found;
}

bool dim_lone_sym(const Ctx *c, Dim d, uint32_t *sym) {
    const DimInfo *i = dim_info(c, d);
    if (i->kind != D_SYM) return false;
    if (sym) *sym = (uint32_t)i->val;
    return true;
}

static bool operands_use(Ctx *c, const Graph *g, const Node *n, uint32_t sym) {
    for (int i = 0; i < n->nin; i++) {
        const Type *t = val_type(g, n->in[i]);
        for (int d = 0; t->kind == TY_TENSOR && d < t->rank; d++) {
            if (dim_uses_sym(c, t->dim[d], sym)) return true;
        }
    }
    return false;
}

void node_makes(Ctx *c, const Graph *g, const Node *n, void (*fn)(void *data, uint32_t sym), void *data) {
    uint32_t sym;
    if (n->op == P_BIND && dim_lone_sym(c, ((const BindAttr *)n->attr)->sym, &sym)) fn(data, sym);
    if (n->op != P_LOOP && n->op != P_IF && n->op != P_CALL && n->op != P_SEQ && n->op != P_GROUP) return;
    for (int r = 0; r < n->nout; r++) {
        const Type *t = &g->val.v[n->out[r].i].type;
        for (int d = 0; t->kind == TY_TENSOR && d < t->rank; d++) {
            bool makes = dim_lone_sym(c, t->dim[d], &sym) && dim_sym_info(c, sym)->bound;
            if (makes && !operands_use(c, g, n, sym)) fn(data, sym);
        }
    }
}

typedef struct Seen { Ctx *c; uint32_t *slot, size, n; uint32_t first[64]; VEC(Expr) todo; } Seen;

static void see(Seen *s, Expr e) {
    if (s->n * 2 >= s->size) {
        uint32_t size = s->size * 4, *slot = NEWN(s->c, uint32_t, size);
        for (uint32_t k = 0; k < s->size; k++) {
            if (!s->slot[k]) continue;
            uint32_t h = s->slot[k] * 2654435761u & (size - 1);
            while (slot[h]) h = (h + 1) & (size - 1);
            slot[h] = s->slot[k];
        }
        s->slot = slot;
        s->size = size;
    }
    uint32_t h = e.i * 2654435761u & (s->size - 1);
    while (s->slot[h] && s->slot[h] != e.i) h = (h + 1) & (s->size - 1);
    if (s->slot[h]) return;
    s->slot[h] = e.i;
    s->n++;
    vec_push(s->c, &s->todo, e);
}

bool expr_each(Ctx *c, Expr e, bool (*fn)(void *data, Ctx *c, const ExprInfo *i), void *data) {
    Seen s = {.c = c, .size = 64};
    s.slot = s.first;
    if (e.i) see(&s, e);
    while (s.todo.n) {
        const ExprInfo *i = expr_info(c, s.todo.v[--s.todo.n]);
        if (!fn(data, c, i)) return false;
        for (unsigned k = 0; k < i->narg; k++) {
            if (i->arg[k].i) see(&s, i->arg[k]);
        }
    }
    return true;
}

/* ==== one function per attribute struct =========================================================================== */

typedef struct Walk { Ctx *c; const Graph *g; const Node *n; DimFn fn; void *data; bool copy, deep; } Walk;

static Dim dim1(Walk *w, Dim d) { return w->fn && d.i ? w->fn(w->data, w->c, d) : d; }

static const Dim *dims(Walk *w, const Dim *d, unsigned n) {
    if (!d || !w->fn) return d;
    Dim *to = w->copy ? NEWN(w->c, Dim, n + 1) : NULL;
    for (unsigned k = 0; k < n; k++) {
        Dim x = dim1(w, d[k]);
        if (to) to[k] = x;
    }
    return to ? to : d;
}

Type type_map(Ctx *c, const Type *t, DimFn fn, void *data) {
    Type r = *t;
    Walk w = {.c = c, .fn = fn, .data = data, .copy = true};
    if (t->kind == TY_TENSOR && type_ndim(t)) r.dim = dims(&w, t->dim, (unsigned)type_ndim(t));
    if (t->elem) {
        Type e = type_map(c, t->elem, fn, data);
        r.elem = ctx_dup(c, &e, sizeof e);
    }
    return r;
}

static void visit_type(Walk *w, const Type *t) {
    for (; t; t = t->elem) {
        for (int d = 0; t->kind == TY_TENSOR && d < type_ndim(t); d++) dim1(w, t->dim[d]);
    }
}

static void type1(Walk *w, Type *t) {
    if (!w->fn) return;
    if (w->copy) *t = type_map(w->c, t, w->fn, w->data);
    else visit_type(w, t);
}

static bool visit_expr_dim(void *data, Ctx *c, const ExprInfo *i) {
    (void)c;
    if (i->kind == E_DIM) dim1(data, (Dim){i->index});
    return true;
}

static bool has_no_dim(void *data, Ctx *c, const ExprInfo *i) {
    (void)data;
    (void)c;
    return i->kind != E_DIM;
}

static Expr map_expr_dim(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    (void)e;
    return i->kind == E_DIM ? expr_dim(c, dim1(data, (Dim){i->index})) : expr_rebuild(c, i, newarg);
}

static const Expr *exprs(Walk *w, const Expr *e, unsigned n) {
    if (!e || !w->fn) return e;
    Expr *to = w->copy ? ctx_dup(w->c, e, sizeof *e * (n ? n : 1)) : NULL;
    for (unsigned k = 0; k < n; k++) {
        if (!to) expr_each(w->c, e[k], visit_expr_dim, w);
        else if (!expr_each(w->c, e[k], has_no_dim, NULL)) to[k] = expr_rewrite(w->c, e[k], map_expr_dim, w);
    }
    return to ? to : e;
}

static void copy_body(Graph *dst, Graph *src, Val *map, DimFn fn, void *data);

static void visit_graph(Walk *w, const Graph *g) {
    for (uint32_t v = 0; v < g->val.n; v++) visit_type(w, &g->val.v[v].type);
    for (uint32_t k = 0; k < g->node.n; k++) attr_visit(w->c, g, g->node.v[k], true, w->fn, w->data);
}

static Graph *graph1(Walk *w, Graph *src) {
    if (!src) return NULL;
    if (!w->copy) {
        if (w->deep) visit_graph(w, src);
        return src;
    }
    Ctx *c = w->c;
    Graph *g = graph_new(c, src->name, src->parent);
    Val *map = NEWN(c, Val, src->val.n);
    for (uint32_t k = 0; k < src->in.n; k++) {
        const ValInfo *i = val_info(src, src->in.v[k].val);
        Val v = graph_input(g, src->in.v[k].name, type_map(c, &i->type, w->fn, w->data));
        int64_t n;
        const Dim *e = val_elems(src, src->in.v[k].val, &n);
        if (e) val_set_elems(g, v, dims(w, e, (unsigned)n));
        map[src->in.v[k].val.i] = v;
    }
    copy_body(g, src, map, w->fn, w->data);
    for (uint32_t k = 0; k < src->out.n; k++) {
        graph_output(g, src->out.v[k].name, map[graph_resolve(src, src->out.v[k].val).i]);
    }
    return g;
}

static unsigned rank_in(const Walk *w) { return w->n->nin ? val_type(w->g, w->n->in[0])->rank : 0; }

static void at_none(Walk *w, void *p) { (void)w, (void)p; }
static void at_const(Walk *w, void *p) { type1(w, &((ConstAttr *)p)->type); }
static void at_map(Walk *w, void *p) {
    MapAttr *a = p;
    a->dim = dims(w, a->dim, a->rank);
    a->body = exprs(w, a->body, w->n->nout);
}
static void at_reduce(Walk *w, void *p) {
    ReduceAttr *a = p;
    a->comb = exprs(w, a->comb, w->n->nout);
}
static void at_scan(Walk *w, void *p) {
    ScanAttr *a = p;
    a->comb = exprs(w, a->comb, w->n->nout);
}
static void at_dims(Walk *w, void *p) {
    DimsAttr *a = p;
    a->dim = dims(w, a->dim, a->rank);
}
static void at_slice(Walk *w, void *p) {
    SliceAttr *a = p;
    a->start = dims(w, a->start, rank_in(w));
    a->size = dims(w, a->size, rank_in(w));
}
static void at_pad(Walk *w, void *p) {
    PadAttr *a = p;
    a->lo = dims(w, a->lo, rank_in(w));
    a->hi = dims(w, a->hi, rank_in(w));
}
static void at_window(Walk *w, void *p) {
    WindowAttr *a = p;
    for (int k = 0; k < a->n; k++) a->size[k] = dim1(w, a->size[k]);
}
static void at_topk(Walk *w, void *p) {
    TopkAttr *a = p;
    a->k = dim1(w, a->k);
}
static void at_compact(Walk *w, void *p) {
    CompactAttr *a = p;
    a->bound = dim1(w, a->bound);
}
static void at_loop(Walk *w, void *p) {
    LoopAttr *a = p;
    a->iter = dim1(w, a->iter);
    a->body = graph1(w, a->body);
}
static void at_if(Walk *w, void *p) {
    IfAttr *a = p;
    a->then_g = graph1(w, a->then_g);
    a->else_g = graph1(w, a->else_g);
}
static void at_bind(Walk *w, void *p) {
    BindAttr *a = p;
    a->sym = dim1(w, a->sym);
}
static void at_guard(Walk *w, void *p) {
    GuardAttr *a = p;
    a->a = dim1(w, a->a);
    a->b = dim1(w, a->b);
}
static void at_seq(Walk *w, void *p) { type1(w, &((SeqAttr *)p)->type); }
static void at_random(Walk *w, void *p) { type1(w, &((RandomAttr *)p)->type); }
static void at_shape(Walk *w, void *p) {
    ShapeAttr *a = p;
    a->dim = dims(w, a->dim, a->n == 0xff ? 1 : a->n);
}
static void at_group(Walk *w, void *p) {
    GroupAttr *a = p;
    a->body = graph1(w, a->body);
}
static void at_call(Walk *w, void *p) {
    CallAttr *a = p;
    Type *t = a->nout ? ctx_dup(w->c, a->type, sizeof *t * a->nout) : NULL;
    for (int k = 0; k < a->nout; k++) type1(w, &t[k]);
    if (w->copy) a->type = t;
}

static void (*const walks[P_COUNT])(Walk *, void *) = {
    [P_CONST] = at_const,   [P_MAP] = at_map,         [P_REDUCE] = at_reduce, [P_CONTRACT] = at_none,
    [P_SCAN] = at_scan,     [P_RESHAPE] = at_dims,    [P_PERMUTE] = at_none,  [P_BROADCAST] = at_dims,
    [P_SLICE] = at_slice,   [P_PAD] = at_pad,         [P_CONCAT] = at_none,   [P_WINDOW] = at_window,
    [P_GATHER] = at_none,   [P_SCATTER] = at_none,    [P_UPDATE] = at_slice,  [P_SORT] = at_none,
    [P_TOPK] = at_topk,     [P_COMPACT] = at_compact, [P_LOOP] = at_loop,     [P_IF] = at_if,
    [P_BIND] = at_bind,     [P_GUARD] = at_guard,     [P_COPY] = at_none,     [P_SEQ] = at_seq,
    [P_RANDOM] = at_random, [P_SHAPE] = at_shape,     [P_GROUP] = at_group,   [P_CALL] = at_call,
    [P_RETURN] = at_none,
};

#define PRIM(e, text, min, max, nout, attr) attr of_##e;
typedef union AnyAttr {
#include "prim.def"
} AnyAttr;
#undef PRIM

void attr_visit(Ctx *c, const Graph *g, const Node *n, bool deep, DimFn fn, void *data) {
    Walk w = {.c = c, .g = g, .n = n, .fn = fn, .data = data, .deep = deep};
    AnyAttr a;
    if (!n->attr) return;
    memcpy(&a, n->attr, prim_info((PrimOp)n->op)->attr_size);
    walks[n->op](&w, &a);
}

const void *attr_copy(Ctx *c, const Graph *g, const Node *n, DimFn fn, void *data) {
    Graph *region[2];
    if (!n->attr || (!fn && !node_regions(n, region))) return n->attr;
    Walk w = {.c = c, .g = g, .n = n, .fn = fn, .data = data, .copy = true, .deep = true};
    void *a = ctx_dup(c, n->attr, prim_info((PrimOp)n->op)->attr_size);
    walks[n->op](&w, a);
    return a;
}

int node_regions(const Node *n, Graph *out[2]) {
    out[0] = out[1] = NULL;
    if (!n->attr) return 0;
    switch ((PrimOp)n->op) {
    case P_LOOP: out[0] = ((const LoopAttr *)n->attr)->body; return 1;
    case P_GROUP: out[0] = ((const GroupAttr *)n->attr)->body; return 1;
    case P_IF:
        out[0] = ((const IfAttr *)n->attr)->then_g;
        out[1] = ((const IfAttr *)n->attr)->else_g;
        return 2;
    default: return 0;
    }
}

/* ==== copies of graphs ============================================================================================ */

static void copy_body(Graph *dst, Graph *src, Val *map, DimFn fn, void *data) {
    Ctx *c = dst->c;
    Walk w = {.c = c, .fn = fn, .data = data, .copy = true};
    for (uint32_t k = 0; k < src->node.n; k++) {
        const Node *n = src->node.v[k];
        Val *in = NEWN(c, Val, n->nin + 1);
        Type *t = NEWN(c, Type, n->nout + 1);
        for (int i = 0; i < n->nin; i++) {
            Val v = graph_resolve(src, n->in[i]);
            in[i] = map[v.i];
            if (v.i && !in[i].i && val_def(src, v)) ICE("%s: %s uses a value before its definition", src->name, prim_name((PrimOp)n->op));
        }
        for (int i = 0; i < n->nout; i++) t[i] = type_map(c, &src->val.v[n->out[i].i].type, fn, data);
        const void *attr = attr_copy(c, src, n, fn, data);
        Graph *region[2];
        Node *to = graph_node(dst, (PrimOp)n->op, n->nin, in, n->nout, t, attr, n->loc);
        for (int r = 0, nr = node_regions(to, region); r < nr; r++) {
            if (region[r]) region[r]->parent = dst;
        }
        for (int i = 0; i < n->nout; i++) {
            const ValInfo *from = &src->val.v[n->out[i].i];
            ValInfo *v = &dst->val.v[to->out[i].i];
            map[n->out[i].i] = to->out[i];
            v->name = from->name;
            int64_t count;
            const Dim *e = from->elem && !v->elem ? val_elems(src, n->out[i], &count) : NULL;
            if (e) val_set_elems(dst, to->out[i], dims(&w, e, (unsigned)count));
        }
    }
}

Graph *graph_clone(Graph *g) {
    Walk w = {.c = g->c, .copy = true, .deep = true};
    return graph1(&w, g);
}

/* Symbols of the body's input types stand for the dims of the operands. */
typedef struct SubstOf { uint32_t sym; Dim with; } SubstOf;
typedef struct Subst { VEC(SubstOf) of; } Subst;

static Dim subst_dim(void *data, Ctx *c, Dim d) {
    const Subst *s = data;
    for (uint32_t k = 0; k < s->of.n; k++) d = dim_subst(c, d, s->of.v[k].sym, s->of.v[k].with);
    return d;
}

void graph_inline(Graph *dst, Graph *src, const Val *in, Val *out) {
    Ctx *c = dst->c;
    Subst s = {0};
    Val *map = NEWN(c, Val, src->val.n);
    for (uint32_t k = 0; k < src->in.n; k++) {
        Val v = graph_resolve(dst, in[k]);
        map[src->in.v[k].val.i] = v;
        if (!v.i) continue;
        const Type *formal = val_type(src, src->in.v[k].val), *actual = val_type(dst, v);
        for (int d = 0; formal->kind == TY_TENSOR && d < formal->rank && d < actual->rank; d++) {
            uint32_t sym;
            Dim now = subst_dim(&s, c, formal->dim[d]);
            if (dim_same(c, now, actual->dim[d]) || !dim_lone_sym(c, now, &sym)) continue;
            if (dim_uses_sym(c, actual->dim[d], sym)) continue;
            vec_push(c, &s.of, (SubstOf){sym, actual->dim[d]});
        }
    }
    copy_body(dst, src, map, s.of.n ? subst_dim : NULL, &s);
    for (uint32_t k = 0; k < src->out.n; k++) out[k] = map[graph_resolve(src, src->out.v[k].val).i];
}
