/* pack.c: constant matrices of contractions become panels of 16 columns, [N/16, K.., 16]: a register tile of columns is then
 * read from consecutive memory, whatever N is, and the same panels serve every CPU level. Convolutions are packed by layout.c.
 * contract "..k,kn->..n" with constant B becomes "..k,bki->..bi" on the panels, reshaped back (and cut to N).
 * Panels of 8-bit integers hold four k of every column side by side: "..kq,bkiq->..bi", for the sum of four products at once; a k
 * that is no multiple of four is filled up with zeros.
 *
 * A computed B of 8-bit integers is copied into panels by the run. B may also be a pointwise map of constants that fold left
 * alone because its result is larger (dequantisation): then all its operands become panels, of 32 columns if they can, and the
 * map computes panels of them. */
#include <string.h>

#include "internal.h"

enum { PANEL = 16, QUAD = 4, MIN_BYTES = 1024, MIN_INTEGERS = 256 };

typedef struct Pack {
    int n_at, out_at;           /* dim of B and of the result that carry n */
    bool swap;                  /* operands exchanged */
    int width;                  /* columns of a panel */
    int quad_at, quad_x;        /* 8-bit integers: the dims of B and of the other operand whose k go together by four, else -1 */
    int order[MAX_RANK];        /* of the dims of B, for panels: as they are, except that what a map repeats comes last */
} Pack;

static int find(const uint8_t *label, int rank, uint8_t l) {
    for (int d = 0; d < rank; d++) if (label[d] == l) return d;
    return -1;
}

static Expr note_load(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    (void)newarg;
    if (i->kind == E_LOAD) *(bool *)data = true;
    (void)c;
    return e;
}

/* A map of constants, read at the current point, that only v's contraction uses. */
static bool of_constants(Graph *g, const uint32_t *uses, uint32_t nval, Val v) {
    Node *d = val_def(g, v);
    bool loads = false;
    v = graph_resolve(g, v);
    if (!d || d->op != P_MAP || d->nout != 1 || !d->nin || v.i >= nval || uses[v.i] != 1) return false;
    for (int k = 0; k < d->nin; k++) if (!d->in[k].i || !val_const(g, d->in[k])) return false;
    expr_rewrite(g->c, ((const MapAttr *)d->attr)->body[0], note_load, &loads);
    return !loads;
}

/* Dims of a map that no operand has come last: what lies at a point is then read once for all of them (the parts of a byte). */
static void order_dims(Graph *g, const Node *map, int rank, int *order) {
    int m = 0;
    for (int repeated = 0; repeated < 2; repeated++)
        for (int d = 0; d < rank; d++) {
            bool has = !map;
            for (int k = 0; map && k < map->nin; k++) {
                const Type *t = val_type(g, map->in[k]);
                int at = d - (rank - t->rank);
                has |= at >= 0 && !dim_is(g->c, t->dim[at], 1);
            }
            if (has != repeated) order[m++] = d;
        }
}

/* B has one dim that only it and the result have (n, the result's last), and otherwise reduced dims. */
static bool match(Graph *g, const uint32_t *uses, uint32_t nval, const Node *n, Pack *p) {
    const ContractAttr *a = n->attr;
    const Type *out = val_type(g, n->out[0]);
    for (int s = 0; s < 2; s++) {
        const Type *x = val_type(g, n->in[s]), *b = val_type(g, n->in[!s]);
        const ConstData *d = val_const(g, n->in[!s]);
        bool bytes = x->dtype == DT_U8 && b->dtype == DT_I8 && a->acc == DT_I32;
        bool computed = bytes && !d && b->rank == 2;
        bool fits = d ? d->bytes >= (bytes ? MIN_INTEGERS : MIN_BYTES) : computed || of_constants(g, uses, nval, n->in[!s]);
        if (!fits || b->rank < 2 || b->rank > 4 || !out->rank) continue;
        *p = (Pack){-1, -1, s == 1, PANEL, -1, -1, {0}};
        bool ok = true;
        for (int i = 0; i < b->rank && ok; i++) {
            uint8_t l = a->label[!s][i];
            int in_x = find(a->label[s], x->rank, l), in_out = find(a->label[2], out->rank, l);
            if (in_out < 0) {
                ok = in_x >= 0;
                if (ok && bytes && in_x == x->rank - 1) p->quad_at = i, p->quad_x = in_x;
            }
            else ok = in_x < 0 && p->n_at < 0 && in_out == out->rank - 1, p->n_at = i, p->out_at = in_out;
        }
        if (p->quad_at >= 0 && !dim_is_const(g->c, b->dim[p->quad_at], NULL)) p->quad_at = -1;
        int64_t cols;
        if (!ok || p->n_at < 0 || !dim_is_const(g->c, b->dim[p->n_at], &cols)) continue;
        if (computed && p->quad_at < 0) continue;
        if (!d && !computed && cols % (2 * PANEL) == 0) p->width = 2 * PANEL;
        if (!d && !computed) p->quad_at = -1;
        order_dims(g, d || computed ? NULL : val_def(g, n->in[!s]), b->rank, p->order);
        return true;
    }
    return false;
}

static Val now(Graph *g, Val v) {
    Node *d = val_def(g, v);
    if (d && d->op != P_CONST) fold_node(g, d, true);
    return graph_resolve(g, v);
}

/* Zeros after dim d of v, up to a multiple of `by`. */
static Val filled(Graph *g, B *b, Val v, int d, int64_t by) {
    const Type *t = val_type(g, v);
    int64_t n;
    CHECK(dim_is_const(g->c, t->dim[d], &n));
    if (n % by == 0) return v;
    Dim lo[MAX_RANK], hi[MAX_RANK];
    for (int i = 0; i < t->rank; i++) {
        lo[i] = dim_const(g->c, 0);
        hi[i] = dim_const(g->c, i == d ? by - n % by : 0);
    }
    return now(g, b_pad(b, v, lo, hi, NULL, PAD_VALUE, dt_convert((Scalar){.t = DT_I64, .i = 0}, t->dtype), (Val){0}));
}

/* Dim d of v, a multiple of `by`, as two. */
static Val split(Graph *g, B *b, Val v, int d, int64_t by) {
    const Type *t = val_type(g, v);
    Dim dim[MAX_RANK];
    for (int i = 0; i < t->rank; i++) dim[i + (i > d)] = t->dim[i];
    dim[d] = dim_floordiv(g->c, t->dim[d], dim_const(g->c, by));
    dim[d + 1] = dim_const(g->c, by);
    return now(g, b_reshape(b, v, t->rank + 1, dim));
}

/* Panels of B: n moved to the front, padded to a multiple of the width, split, a panel's columns moved to the end; then the quad. */
static Val panels(Graph *g, B *b, Val v, const Pack *p) {
    int rank = val_type(g, v)->rank, perm[MAX_RANK], m = 0, n_at = p->n_at, quad = -1;
    v = split(g, b, filled(g, b, v, n_at, p->width), n_at, p->width);
    rank++;
    if (p->quad_at >= 0) {
        quad = p->quad_at + (p->quad_at > n_at);
        v = split(g, b, filled(g, b, v, quad, QUAD), quad, QUAD);
        rank++;
        n_at += n_at > quad;
        quad++;
    }
    perm[m++] = n_at;
    for (int d = 0; d < rank; d++) if (d != n_at && d != n_at + 1 && d != quad) perm[m++] = d;
    perm[m++] = n_at + 1;
    if (quad >= 0) perm[m++] = quad;
    return now(g, b_permute(b, v, perm));
}

/* The map v over panels: axes [n, others..] become [n / width, others.., n mod width] in its domain, operands and body. */
static Val map_panels(Graph *g, B *b, Val v, const Pack *p) {
    const Node *d = val_def(g, v);
    const MapAttr *a = d->attr;
    int rank = a->rank, m = 0, n_at = 0, width = p->width;
    Ctx *c = g->c;
    Dim dim[MAX_RANK], one = dim_const(c, 1);
    Expr axis[MAX_RANK], w = expr_int(c, DT_I64, width);
    Val *in = NEWN(c, Val, d->nin), out;
    while (p->order[n_at] != p->n_at) n_at++;
    Pack at = *p;
    at.n_at = n_at;
    for (int k = 0; k < d->nin; k++) {
        Dim full[MAX_RANK];
        const Type *t = val_type(g, d->in[k]);
        for (int i = 0; i < rank; i++) full[i] = p->order[i] < rank - t->rank ? one : t->dim[p->order[i] - (rank - t->rank)];
        bool has = !dim_is(c, full[n_at], 1);
        Val x = now(g, b_reshape(b, d->in[k], rank, full));
        if (!has) { /* the same for all columns */
            memmove(full + n_at, full + n_at + 1, sizeof *full * (size_t)(rank - 1 - n_at));
            full[rank - 1] = one;
            x = now(g, b_reshape(b, x, rank, full));
        }
        in[k] = has ? panels(g, b, x, &at) : x;
    }
    dim[m++] = dim_ceildiv(c, a->dim[p->n_at], dim_const(c, width));
    for (int i = 0; i < rank; i++) {
        if (i != n_at) dim[m++] = a->dim[p->order[i]];
        axis[p->order[i]] = expr_axis(c, (uint32_t)(i < n_at ? i + 1 : i));
    }
    dim[m++] = dim_const(c, width);
    axis[p->n_at] = expr_op(c, S_ADD, expr_op(c, S_MUL, expr_axis(c, 0), w, (Expr){0}), expr_axis(c, (uint32_t)rank), (Expr){0});
    Expr body = expr_subst_axes(c, a->body[0], axis, (uint32_t)rank);
    b_map(b, 1, &body, d->nin, in, m, dim, &out);
    return out;
}

static uint8_t fresh(const uint8_t *used) {
    uint8_t l = 0;
    while (used[l]) l++;
    return l;
}

/* Constants lie as they are; what the run computes is copied. */
static Val laid_out(Graph *g, Val v, Loc loc) { return val_const(g, v) ? v : copy_of(g, v, loc); }

static bool rewrite(Graph *g, Node *n, const Pack *p) {
    const ContractAttr *a = n->attr;
    Val x = n->in[p->swap], w = n->in[!p->swap];
    const Type *xt = val_type(g, x), *wt = val_type(g, w), *out = val_type(g, n->out[0]);
    B b = builder(g, n->loc);
    uint8_t used[34] = {0}, nl = a->label[2][p->out_at];
    for (int d = 0; d < xt->rank; d++) used[a->label[p->swap][d]] = 1;
    for (int d = 0; d < wt->rank; d++) used[a->label[!p->swap][d]] = 1;
    uint8_t ni = fresh(used);
    used[ni] = 1;
    uint8_t nq = fresh(used);
    if (nq >= 32) return false;
    ContractAttr q = {.label = NO_LABELS, .acc = a->acc, .out = a->out};
    memcpy(q.label[0], a->label[p->swap], xt->rank);
    int m = 0;
    q.label[1][m++] = nl;
    for (int d = 0; d < wt->rank; d++) if (p->order[d] != p->n_at) q.label[1][m++] = a->label[!p->swap][p->order[d]];
    q.label[1][m++] = ni;
    if (p->quad_at >= 0) {
        q.label[0][xt->rank] = q.label[1][m++] = nq;
        x = split(g, &b, filled(g, &b, x, p->quad_x, QUAD), p->quad_x, QUAD);
    }
    memcpy(q.label[2], a->label[2], out->rank);
    q.label[2][out->rank] = ni;
    Val y;
    if (val_const(g, w) || p->quad_at >= 0) {
        y = b_contract_attr(&b, &q, x, laid_out(g, panels(g, &b, w, p), n->loc));
    } else { /* B first: sums run in the order of its axes, in which it lies in memory */
        ContractAttr r = q;
        memcpy(r.label[0], q.label[1], MAX_RANK);
        memcpy(r.label[1], q.label[0], MAX_RANK);
        y = b_contract_attr(&b, &r, map_panels(g, &b, w, p), x);
    }
    Dim dim[MAX_RANK];
    for (int d = 0; d < out->rank; d++) dim[d] = out->dim[d];
    Dim n_dim = dim[out->rank - 1];
    dim[out->rank - 1] = dim_muli(g->c, dim_ceildiv(g->c, n_dim, dim_const(g->c, p->width)), p->width);
    y = b_reshape(&b, y, out->rank, dim);
    y = b_slice_axis(&b, y, out->rank - 1, dim_const(g->c, 0), n_dim);
    graph_replace(g, n->out[0], y);
    return true;
}

bool pass_pack(Graph *g, PassCtx *p) {
    graph_tidy(g);
    bool changed = false;
    uint32_t n = g->node.n, nval = g->val.n;
    const uint32_t *uses = graph_uses(g);
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    for (uint32_t i = 0; i < n; i++) {
        Pack k;
        if (node[i]->op == P_CONTRACT && match(g, uses, nval, node[i], &k) && pass_allow(p)) changed |= rewrite(g, node[i], &k);
    }
    if (changed) graph_tidy(g);
    return changed;
}
