/* narrow.c: for GPUs, f32 factors of products that the target may round (--precision) are rounded where they are made: constants now, other values by
 * a map that joins the kernel of their producer. Then blocks copy factors into their tiles as they are, those of 16 bits in half the bytes; and the
 * instructions of warpgroups, which cut off the bits that tf32 does not have, multiply the same factors as those of warps, which round to nearest.
 * In: contract "mk,kn->mn" %x, %w. Out: the same of map { bf16(a) } %x and %w so; both are still summed in f32.
 *
 * A factor is rounded before the views that bring it, once for all its readers. Left alone are products of which one side has a single row, as
 * they are no products of matrices, and those of weights that their kernel makes of constants of fewer bits (fuse.c). */
#include "internal.h"

typedef struct Narrow {
    Graph *g;
    Ctx *c;
    DType to;      /* DT_F32: tf32 */
    VEC(Val) done; /* per value: it rounded; poison: not yet */
} Narrow;

/* To nearest, ties away from zero, as matrix units do it. NaN has no bits that could be rounded. */
Expr expr_to_tf32(Ctx *c, Expr x) {
    enum { BITS = 13 };
    Expr none = {0}, bits = expr_op(c, S_ADD, expr_bitcast(c, x, DT_U32), expr_int(c, DT_U32, 1 << (BITS - 1)), none);
    Expr cut = expr_bitcast(c, expr_op(c, S_AND, bits, expr_int(c, DT_U32, (int64_t)UINT32_MAX << BITS & UINT32_MAX), none), DT_F32);
    return expr_op(c, S_SELECT, expr_op(c, S_ISNAN, x, none, none), x, cut);
}

static bool passes_zero(const Node *n) {
    const PadAttr *a = n->attr;
    return n->nin == 1 && (a->mode != PAD_VALUE || a->value.f == 0);
}

static Val base_of(Graph *g, Val v) {
    v = graph_resolve(g, v);
    for (Node *d = val_def(g, v); d && is_view(d); d = val_def(g, v)) v = graph_resolve(g, d->in[0]);
    return v;
}

static Val convert(Narrow *w, Val v) {
    Node *d = val_def(w->g, v);
    B b = builder(w->g, d ? d->loc : (Loc){0});
    Val y = w->to == DT_F32 ? b_map1(&b, expr_to_tf32(w->c, expr_arg(w->c, 0, DT_F32)), 1, &v) : b_cast(&b, v, w->to);
    if (val_const(w->g, v)) fold_node(w->g, val_def(w->g, y), true);
    return graph_resolve(w->g, y);
}

static Val rounded(Narrow *w, Val v) {
    v = graph_resolve(w->g, v);
    if (v.i < w->done.n && w->done.v[v.i].i) return w->done.v[v.i];
    const Node *d = val_def(w->g, v);
    Val y;
    if (d && is_view(d) && (d->op != P_PAD || passes_zero(d))) {
        Val x = rounded(w, d->in[0]);
        Type t = *val_type(w->g, v);
        const void *attr = d->attr;
        t.dtype = (uint8_t)w->to;
        if (d->op == P_PAD) {
            PadAttr *a = ctx_dup(w->c, attr, sizeof *a);
            a->value = dt_convert(a->value, w->to);
            attr = a;
        }
        y = graph_node(w->g, d->op, 1, &x, 1, &t, attr, d->loc)->out[0];
    } else y = convert(w, v);
    while (w->done.n <= v.i) vec_push(w->c, &w->done, (Val){0});
    return w->done.v[v.i] = y;
}

static bool has(const uint8_t *label, int rank, uint8_t l) {
    for (int d = 0; d < rank; d++)
        if (label[d] == l) return true;
    return false;
}

/* Has each factor rows of its own? */
static bool of_matrices(const Graph *g, const Node *n) {
    const ContractAttr *a = n->attr;
    int out = val_type(g, n->out[0])->rank;
    for (int s = 0; s < 2; s++) {
        const Type *x = val_type(g, n->in[s]);
        bool rows = false;
        for (int d = 0; d < x->rank; d++) {
            uint8_t l = a->label[s][d];
            rows |= !has(a->label[!s], val_type(g, n->in[!s])->rank, l) && has(a->label[2], out, l) && !dim_is(g->c, x->dim[d], 1);
        }
        if (!rows) return false;
    }
    return true;
}

/* Is v computed of constants alone? */
static bool made(Graph *g, Val v) {
    const Node *d = val_def(g, base_of(g, v));
    if (!d || d->op != P_MAP) return false;
    for (int i = 0; i < d->nin; i++)
        if (!val_const(g, base_of(g, d->in[i]))) return false;
    return true;
}

static bool takes(Graph *g, const Node *n) {
    if (n->op != P_CONTRACT || ((const ContractAttr *)n->attr)->acc != DT_F32 || !of_matrices(g, n)) return false;
    for (int s = 0; s < 2; s++)
        if (val_type(g, n->in[s])->dtype != DT_F32 || made(g, n->in[s])) return false;
    return true;
}

bool pass_narrow(Graph *g, PassCtx *p) {
    uint32_t flags = p->target ? p->target->flags : 0, n = g->node.n;
    bool tf32 = flags & F_TO_TF32 && flags & F_WGMMA, changed = false;
    if (!tf32 && !(flags & (F_TO_BF16 | F_TO_F16))) return false;
    Narrow w = {.g = g, .c = g->c, .to = tf32 ? DT_F32 : flags & F_TO_BF16 ? DT_BF16 : DT_F16};
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    for (uint32_t i = 0; i < n; i++) {
        if (!takes(g, node[i]) || !pass_allow(p)) continue;
        explain(p, g, node[i], "multiplies factors rounded to %s", tf32 ? "tf32" : dt_name(w.to));
        B b = builder(g, node[i]->loc);
        Val x = rounded(&w, node[i]->in[0]), y = rounded(&w, node[i]->in[1]);
        graph_replace(g, node[i]->out[0], b_contract_attr(&b, node[i]->attr, x, y));
        changed = true;
    }
    if (changed) graph_tidy(g);
    return changed;
}
