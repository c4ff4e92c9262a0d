/* pack.c: constant matrices of contractions become panels of 16 columns, [N/16, K.., 16]: a register tile of columns is then
 * read from consecutive memory, whatever N is, and the same panels serve every CPU level. Convolutions are packed by layout.c.
 * contract "..k,kn->..n" with constant B becomes "..k,bki->..bi" on the panels, reshaped back (and cut to N).
 * Panels of 8-bit integers hold four k of every column side by side: "..kq,bkiq->..bi", for the sum of four products at once; a k
 * that is no multiple of four is filled up with zeros. */
#include <string.h>

#include "internal.h"

enum { PANEL = 16, QUAD = 4, MIN_BYTES = 1024, MIN_INTEGERS = 256 };

typedef struct Pack {
    int n_at, out_at;           /* dim of B and of the result that carry n */
    bool swap;                  /* operands exchanged */
    int quad_at, quad_x;        /* 8-bit integers: the dims of B and of the other operand whose k go together by four, else -1 */
} Pack;

static int find(const uint8_t *label, int rank, uint8_t l) {
    for (int d = 0; d < rank; d++) if (label[d] == l) return d;
    return -1;
}

/* B has one dim that only it and the result have (n, the result's last), and otherwise reduced dims. */
static bool match(Graph *g, const Node *n, Pack *p) {
    const ContractAttr *a = n->attr;
    const Type *out = val_type(g, n->out[0]);
    for (int s = 0; s < 2; s++) {
        const Type *x = val_type(g, n->in[s]), *b = val_type(g, n->in[!s]);
        const ConstData *d = val_const(g, n->in[!s]);
        bool bytes = x->dtype == DT_U8 && b->dtype == DT_I8 && a->acc == DT_I32;
        if (!d || d->bytes < (bytes ? MIN_INTEGERS : MIN_BYTES) || b->rank < 2 || b->rank > 4 || !out->rank) continue;
        *p = (Pack){-1, -1, s == 1, -1, -1};
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
        if (ok && p->n_at >= 0 && dim_is_const(g->c, b->dim[p->n_at], NULL)) return true;
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

/* Panels of B: n moved to the front, padded to a multiple of 16, split, the 16 moved to the end; then the quad. */
static Val panels(Graph *g, B *b, Val v, const Pack *p) {
    int rank = val_type(g, v)->rank, perm[MAX_RANK], m = 0, n_at = p->n_at, quad = -1;
    v = split(g, b, filled(g, b, v, n_at, PANEL), n_at, PANEL);
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

static uint8_t fresh(const uint8_t *used) {
    uint8_t l = 0;
    while (used[l]) l++;
    return l;
}

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
    for (int d = 0; d < wt->rank; d++) if (d != p->n_at) q.label[1][m++] = a->label[!p->swap][d];
    q.label[1][m++] = ni;
    if (p->quad_at >= 0) {
        q.label[0][xt->rank] = q.label[1][m++] = nq;
        x = split(g, &b, filled(g, &b, x, p->quad_x, QUAD), p->quad_x, QUAD);
    }
    memcpy(q.label[2], a->label[2], out->rank);
    q.label[2][out->rank] = ni;
    Val y = b_contract_attr(&b, &q, x, panels(g, &b, w, p));
    Dim dim[MAX_RANK];
    for (int d = 0; d < out->rank; d++) dim[d] = out->dim[d];
    Dim n_dim = dim[out->rank - 1];
    dim[out->rank - 1] = dim_muli(g->c, dim_ceildiv(g->c, n_dim, dim_const(g->c, PANEL)), PANEL);
    y = b_reshape(&b, y, out->rank, dim);
    y = b_slice_axis(&b, y, out->rank - 1, dim_const(g->c, 0), n_dim);
    graph_replace(g, n->out[0], y);
    return true;
}

bool pass_pack(Graph *g, PassCtx *p) {
    graph_tidy(g);
    bool changed = false;
    uint32_t n = g->node.n;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    for (uint32_t i = 0; i < n; i++) {
        Pack k;
        if (node[i]->op == P_CONTRACT && match(g, node[i], &k) && pass_allow(p)) changed |= rewrite(g, node[i], &k);
    }
    if (changed) graph_tidy(g);
    return changed;
}
