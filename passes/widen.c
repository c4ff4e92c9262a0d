/* widen.c: products of 16-bit floats. In: contractions summed in f32. Out: their operands in f32, converted once by a map that joins its producer
 * where it can, for a product reads an element as often as its result has columns; the sum is rounded by a map, which rides along. So layout,
 * winograd and attention see f32, and results are the same bits.
 * Constant matrices keep 16 bits: a row times a matrix waits for memory. Weights of convolutions do not, for a convolution waits for arithmetic;
 * neither are few rows converted. */
#include "internal.h"

enum { FEW = 4 };

typedef struct Widen { Graph *g; Val *wide; uint32_t n; } Widen; /* wide: per value, its f32 form, or poison */

static bool is_narrow(const Graph *g, Val v) {
    return dt_is_half((DType)val_type(g, v)->dtype);
}

/* A view that can look at another type as well. */
static bool moves(const Node *n) { return n && is_view(n) && n->nin == 1; }

static Val base_of(const Graph *g, Val v, bool *windowed) {
    v = graph_resolve(g, v);
    for (const Node *d = val_def(g, v); moves(d); d = val_def(g, v)) {
        *windowed |= d->op == P_WINDOW;
        v = graph_resolve(g, d->in[0]);
    }
    return v;
}

/* v in f32: its views, of what they look at in f32. */
static Val widened(Widen *w, Val v) {
    v = graph_resolve(w->g, v);
    if (v.i < w->n && w->wide[v.i].i) return graph_resolve(w->g, w->wide[v.i]);
    const Node *d = val_def(w->g, v);
    Val y;
    if (moves(d)) {
        Type t = *val_type(w->g, v);
        const void *attr = d->attr;
        t.dtype = DT_F32;
        if (d->op == P_PAD) {
            PadAttr *pad = ctx_dup(w->g->c, attr, sizeof *pad);
            pad->value = dt_convert(pad->value, DT_F32);
            attr = pad;
        }
        Val x = widened(w, d->in[0]);
        y = graph_node(w->g, (PrimOp)d->op, 1, &x, 1, &t, attr, d->loc)->out[0];
    } else {
        B b = builder(w->g, d ? d->loc : (Loc){0});
        y = b_cast(&b, v, DT_F32);
        Node *cast = val_def(w->g, y);
        if (d && d->op == P_CONST && cast) fold_node(w->g, cast, true);
    }
    if (v.i < w->n) w->wide[v.i] = y;
    return y;
}

/* Rows of the result that operand s alone gives. */
static bool many_rows(const Graph *g, const Node *n, int s) {
    const ContractAttr *a = n->attr;
    const Type *x = val_type(g, n->in[s]), *o = val_type(g, n->out[0]), *y = val_type(g, n->in[!s]);
    int64_t rows = 1, e;
    for (int d = 0; d < x->rank; d++) {
        bool out = false, other = false;
        for (int i = 0; i < o->rank; i++) out |= a->label[2][i] == a->label[s][d];
        for (int i = 0; i < y->rank; i++) other |= a->label[!s][i] == a->label[s][d];
        if (!out || other) continue;
        if (!dim_is_const(g->c, x->dim[d], &e)) return true;
        rows *= e;
    }
    return rows >= FEW;
}

static bool rewrite(Widen *w, Node *n, PassCtx *p) {
    if (n->op != P_CONTRACT || ((const ContractAttr *)n->attr)->acc != DT_F32) return false;
    Val in[2];
    bool window[2] = {false, false}, any = false;
    Val base[2] = {base_of(w->g, n->in[0], &window[0]), base_of(w->g, n->in[1], &window[1])};
    for (int s = 0; s < 2; s++) {
        bool wanted = val_const(w->g, base[s]) ? window[!s] : many_rows(w->g, n, s);
        if (is_narrow(w->g, n->in[s]) && wanted) any = true;
        else base[s] = (Val){0};
    }
    if (!any || !pass_allow(p)) return false;
    for (int s = 0; s < 2; s++) in[s] = base[s].i ? widened(w, n->in[s]) : n->in[s];
    B b = builder(w->g, n->loc);
    ContractAttr a = *(const ContractAttr *)n->attr;
    DType out = a.out;
    a.out = DT_F32;
    graph_replace(w->g, n->out[0], b_cast(&b, b_contract_attr(&b, &a, in[0], in[1]), out));
    return true;
}

bool pass_widen(Graph *g, PassCtx *p) {
    graph_tidy(g);
    uint32_t n = g->node.n;
    Widen w = {.g = g, .wide = NEWN(g->c, Val, g->val.n), .n = g->val.n};
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    bool changed = false;
    for (uint32_t i = 0; i < n; i++) changed |= rewrite(&w, node[i], p);
    if (changed) graph_tidy(g);
    return changed;
}
