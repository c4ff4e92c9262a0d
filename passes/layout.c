/* layout.c: blocked channels. A value [N, C, spatial..] of a convolutional net is kept as [N, C/16, spatial.., 16] from the
 * first convolution to the last, in plain primitives: convolutions read pixels as 16 contiguous channels and write vectors of 16
 * output channels; maps, pooling, concat and slices by multiples of 16 follow. Weights become [O/16, C/16, k.., 16c, 16o]
 * constants. The block of 16 serves AVX2 (two vectors) and AVX-512 (one) alike. 8-bit integers (quant.c) lie in the same blocks;
 * their weights become [O/16, C/16, k.., 4, 16o, 4c], for the sum of four products at once, and few channels blocks of 4. For
 * matrix tiles, which want 64 bytes of k side by side, all blocks of a net are of 64 channels if that fits every convolution.
 *
 * Nodes are visited in order. `blk` maps a plain value to its blocked form; the plain form of a blocked result is a view of
 * it, dead unless somebody needs it. Channels beyond C (up to the multiple of 16) hold finite values that no result reads:
 * weights for them are zero, per-channel operands repeat their last channel.
 *
 * Planes stay planes where blocks would be part empty: results of up to 12 channels in rows of pixels, which are the lanes then, and what
 * these read; and inputs that nobody has made blocks of, whose scalars are as well read there. */
#include <string.h>

#include "layout.h"

Val lay_blocked(Lay *w, Val v) {
    v = graph_resolve(w->g, v);
    return v.i < w->blk.n ? graph_resolve(w->g, w->blk.v[v.i]) : (Val){0};
}

static int windows_of(Lay *w, Val v) {
    v = graph_resolve(w->g, v);
    return v.i < w->windowed.n ? w->windowed.v[v.i] : 0;
}

void lay_set_blocked(Lay *w, Val plain, Val b, int windows) {
    plain = graph_resolve(w->g, plain);
    while (w->blk.n <= plain.i) {
        vec_push(w->c, &w->blk, (Val){0});
        vec_push(w->c, &w->windowed, 0);
    }
    w->blk.v[plain.i] = b;
    w->windowed.v[plain.i] = (uint8_t)windows;
}

Val lay_folded(Lay *w, Val v) { /* a chain of views of a constant, evaluated now: the next step must see a constant */
    Node *d = val_def(w->g, v);
    if (d && d->op != P_CONST) fold_node(w->g, d, true);
    return graph_resolve(w->g, v);
}

static int64_t channels(Lay *w, const Type *t) {
    int64_t c;
    return t->rank >= 3 && dim_is_const(w->c, t->dim[1], &c) ? c : -1;
}

int64_t lay_nblocks(const Lay *w, int64_t c) { return (c + w->block - 1) / w->block; }

/* Pads dim d of v to a multiple of `block`: with zeros, or by repeating the last element. */
Val lay_pad_dim(Lay *w, B *b, Val v, int d, int64_t block, bool edge) {
    const Type *t = val_type(w->g, v);
    int64_t c;
    CHECK(dim_is_const(w->c, t->dim[d], &c));
    if (c % block == 0) return v;
    Dim lo[MAX_RANK], hi[MAX_RANK];
    for (int i = 0; i < t->rank; i++) {
        lo[i] = dim_const(w->c, 0);
        hi[i] = dim_const(w->c, i == d ? block - c % block : 0);
    }
    return lay_folded(w, b_pad(b, v, lo, hi, NULL, edge ? PAD_EDGE : PAD_VALUE, dt_convert((Scalar){.t = DT_I64, .i = 0}, t->dtype), (Val){0}));
}

Val lay_pad_channels(Lay *w, B *b, Val v, int d, bool edge) { return lay_pad_dim(w, b, v, d, BLOCK, edge); }

/* [N, C, s..] -> [N, C/block, s.., block] */
Val lay_in_blocks(Lay *w, B *b, Val v, int64_t block, bool edge) {
    Val x = lay_pad_dim(w, b, v, 1, block, edge);
    const Type *t = val_type(w->g, x);
    Dim dim[MAX_RANK];
    int perm[MAX_RANK], rank = t->rank;
    dim[0] = t->dim[0];
    dim[1] = dim_floordiv(w->c, t->dim[1], dim_const(w->c, block));
    dim[2] = dim_const(w->c, block);
    for (int d = 2; d < rank; d++) dim[d + 1] = t->dim[d];
    perm[0] = 0;
    perm[1] = 1;
    for (int d = 2; d < rank; d++) perm[d] = d + 1;
    perm[rank] = 2;
    x = lay_folded(w, b_reshape(b, x, rank + 1, dim));
    return lay_folded(w, b_permute(b, x, perm));
}

static Val to_blocked(Lay *w, B *b, Val v, bool edge) { return lay_in_blocks(w, b, v, w->block, edge); }

/* [N, C/16, s.., 16] -> [N, C, s..] */
Val lay_from_blocked(Lay *w, B *b, Val v, int64_t c) {
    const Type *t = val_type(w->g, v);
    int rank = t->rank, perm[MAX_RANK];
    Dim dim[MAX_RANK];
    perm[0] = 0;
    perm[1] = 1;
    perm[2] = rank - 1;
    for (int d = 2; d < rank - 1; d++) perm[d + 1] = d;
    dim[0] = t->dim[0];
    dim[1] = dim_muli(w->c, t->dim[1], w->block);
    for (int d = 2; d < rank - 1; d++) dim[d] = t->dim[d];
    Val x = b_reshape(b, b_permute(b, v, perm), rank - 1, dim);
    return c % w->block ? b_slice_axis(b, x, 1, dim_const(w->c, 0), dim_const(w->c, c)) : x;
}

void lay_done(Lay *w, B *b, Val old, Val blk, int64_t c) {
    Val plain = lay_from_blocked(w, b, blk, c);
    graph_replace(w->g, old, plain);
    lay_set_blocked(w, plain, blk, 0);
}

/* ---- what follows along ---- */

static bool shares_channels(Lay *w, const Type *t, int64_t c) { return channels(w, t) == c; }

/* An operand of a blocked map, in blocked form; domain rank r, channel count c. */
static Val map_operand(Lay *w, B *b, Val v, int rank, int64_t c) {
    const Type *t = val_type(w->g, v);
    int skip = rank - t->rank;
    Val x = lay_blocked(w, v);
    if (x.i && !windows_of(w, v)) return x;
    if (skip > 1) { /* no channel dim: one more trailing dim of 1 */
        Dim d[MAX_RANK];
        for (int i = 0; i < t->rank; i++) d[i] = t->dim[i];
        d[t->rank] = dim_const(w->c, 1);
        return t->rank ? b_reshape(b, v, t->rank + 1, d) : v;
    }
    int at = 1 - skip; /* where the channels are */
    if (dim_is(w->c, t->dim[at], 1)) {
        Dim d[MAX_RANK];
        for (int i = 0; i < t->rank; i++) d[i] = t->dim[i];
        d[t->rank] = dim_const(w->c, 1);
        return b_reshape(b, v, t->rank + 1, d);
    }
    int64_t have;
    if (!dim_is_const(w->c, t->dim[at], &have) || have != c) return (Val){0};
    Val y = v;
    if (skip == 1) {
        Dim d[MAX_RANK];
        d[0] = dim_const(w->c, 1);
        for (int i = 0; i < t->rank; i++) d[i + 1] = t->dim[i];
        y = lay_folded(w, b_reshape(b, v, t->rank + 1, d));
    }
    y = to_blocked(w, b, y, true);
    if (skip == 0) lay_set_blocked(w, v, y, 0);
    return y;
}

typedef struct AxisMap { Expr to[MAX_RANK]; int rank; bool ok; } AxisMap;

static Expr remap(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    AxisMap *m = data;
    (void)e;
    if (i->kind == E_AXIS) return m->to[i->index];
    if (i->kind != E_LOAD) return expr_rebuild(c, i, arg);
    /* load(k, n, c, y..) -> load(k, n, c/16, y.., c%16): only where the channel index is the channel axis itself */
    Expr at[MAX_RANK];
    if (i->narg < 3 || arg[1].i != m->to[1].i) {
        m->ok = false;
        return expr_rebuild(c, i, arg);
    }
    int n = m->rank;
    at[0] = arg[0];
    at[1] = expr_axis(c, 1);
    for (int d = 2; d < n; d++) at[d] = arg[d];
    at[n] = expr_axis(c, (uint32_t)n);
    return expr_load(c, i->index, i->dtype, n + 1, at, i->oob, i->oob == OOB_VALUE ? arg[i->narg - 1] : (Expr){0}, i->guard);
}

static bool map(Lay *w, Node *n) {
    const MapAttr *a = n->attr;
    int64_t c;
    if (n->nout != 1 || a->rank < 3 || n->nin > 16 || !dim_is_const(w->c, a->dim[1], &c)) return false;
    bool any = false;
    for (int k = 0; k < n->nin; k++) {
        const Type *t = val_type(w->g, n->in[k]);
        any |= lay_blocked(w, n->in[k]).i && !windows_of(w, n->in[k]) && t->rank == a->rank && shares_channels(w, t, c) &&
               (!dim_is(w->c, t->dim[2], 1) || dim_is(w->c, a->dim[2], 1));
    }
    if (!any) return false;
    B b = builder(w->g, n->loc);
    Val in[16];
    for (int k = 0; k < n->nin; k++)
        if (!(in[k] = map_operand(w, &b, n->in[k], a->rank, c)).i) return false;
    AxisMap m = {.rank = a->rank, .ok = true};
    Expr block = expr_int(w->c, DT_I64, w->block);
    for (int d = 0; d < a->rank; d++) m.to[d] = expr_axis(w->c, (uint32_t)d);
    m.to[1] = expr_op(w->c, S_ADD, expr_op(w->c, S_MUL, m.to[1], block, (Expr){0}), expr_axis(w->c, a->rank), (Expr){0});
    Expr body = expr_rewrite(w->c, a->body[0], remap, &m);
    if (!m.ok || !pass_allow(w->p)) return false;
    Dim dim[MAX_RANK];
    for (int d = 0; d < a->rank; d++) dim[d] = a->dim[d];
    dim[1] = dim_const(w->c, lay_nblocks(w, c));
    dim[a->rank] = dim_const(w->c, w->block);
    Val y;
    b_map(&b, 1, &body, n->nin, in, a->rank + 1, dim, &y);
    lay_done(w, &b, n->out[0], y, c);
    return true;
}

static bool pad(Lay *w, Node *n) {
    const PadAttr *a = n->attr;
    Val x = lay_blocked(w, n->in[0]);
    const Type *t = val_type(w->g, n->in[0]);
    if (w->planes[n->out[0].i]) return false;
    if (!x.i || windows_of(w, n->in[0]) || a->interior || (n->nin > 1 && n->in[1].i && val_type(w->g, n->in[1])->rank)) return false;
    if (!dim_is(w->c, a->lo[1], 0) || !dim_is(w->c, a->hi[1], 0)) return false;
    Dim lo[MAX_RANK], hi[MAX_RANK];
    for (int d = 0; d < t->rank; d++) {
        lo[d] = a->lo[d];
        hi[d] = a->hi[d];
    }
    lo[t->rank] = hi[t->rank] = dim_const(w->c, 0);
    B b = builder(w->g, n->loc);
    Val y = b_pad(&b, x, lo, hi, NULL, a->mode, a->value, n->nin > 1 ? n->in[1] : (Val){0});
    lay_done(w, &b, n->out[0], y, channels(w, t));
    return true;
}

/* A window over blocked input: the plain node stays (dead if all its readers follow), its blocked form is noted. */
static bool window(Lay *w, Node *n) {
    const WindowAttr *a = n->attr;
    Val x = lay_blocked(w, n->in[0]);
    if (!x.i || windows_of(w, n->in[0])) return false;
    for (int i = 0; i < a->n; i++) if (a->axis[i] < 2) return false;
    B b = builder(w->g, n->loc);
    lay_set_blocked(w, n->out[0], b_window(&b, x, a), a->n);
    return true;
}

/* Reductions over spatial dims, or over the dims of a window (pooling). */
static bool reduce(Lay *w, Node *n) {
    const ReduceAttr *a = n->attr;
    const Type *t = val_type(w->g, n->in[0]);
    Val x = lay_blocked(w, n->in[0]);
    if (n->nin != 1 || n->nout != 1 || !x.i || (a->axes & 3u)) return false;
    int win = windows_of(w, n->in[0]), spatial = t->rank - win; /* dims before the block of 16 */
    uint32_t axes = 0;
    for (int d = 2; d < t->rank; d++) if (a->axes >> d & 1) axes |= 1u << (d < spatial ? d : d + 1);
    if (win && (a->axes >> spatial) != (1u << win) - 1u) return false; /* all window dims at once */
    if (win && a->keep) return false;
    if (!win && !a->keep) { /* keep the dims, then drop them from the plain form */
        for (int d = 2; d < t->rank; d++) if (!(a->axes >> d & 1)) return false;
    }
    if (!pass_allow(w->p)) return false;
    int64_t c = channels(w, t);
    B b = builder(w->g, n->loc);
    Val y;
    b_reduce(&b, 1, &x, axes, !win, a->comb, a->init, a->acc, &y);
    if (win || a->keep) {
        lay_done(w, &b, n->out[0], y, c);
        return true;
    }
    Val plain = lay_from_blocked(w, &b, y, c);
    lay_set_blocked(w, plain, y, 0);
    const Type *o = val_type(w->g, n->out[0]);
    graph_replace(w->g, n->out[0], b_reshape(&b, plain, o->rank, o->dim));
    return true;
}

static bool concat(Lay *w, Node *n) {
    int axis = ((const AxisAttr *)n->attr)->axis;
    const Type *t = val_type(w->g, n->out[0]);
    int64_t c = channels(w, t);
    if (c < 0 || t->rank < 3 || n->nin > 64) return false;
    int have = 0;
    for (int k = 0; k < n->nin; k++) {
        int64_t ck = channels(w, val_type(w->g, n->in[k]));
        if (axis == 1 && (ck < 0 || ck % w->block)) return false;
        have += lay_blocked(w, n->in[k]).i && !windows_of(w, n->in[k]);
    }
    if (2 * have < n->nin || !pass_allow(w->p)) return false;
    B b = builder(w->g, n->loc);
    Val in[64];
    for (int k = 0; k < n->nin; k++) {
        in[k] = lay_blocked(w, n->in[k]);
        if (!in[k].i) in[k] = to_blocked(w, &b, n->in[k], true);
    }
    lay_done(w, &b, n->out[0], b_concat(&b, n->nin, in, axis), c);
    return true;
}

static bool slice(Lay *w, Node *n) {
    const SliceAttr *a = n->attr;
    const Type *t = val_type(w->g, n->in[0]), *o = val_type(w->g, n->out[0]);
    Val x = lay_blocked(w, n->in[0]);
    int64_t c = channels(w, o), first;
    if (!x.i || windows_of(w, n->in[0]) || c < 0 || a->step[1] != 1 || !dim_is_const(w->c, a->start[1], &first) || first % w->block) return false;
    if (c % w->block && first + c != channels(w, t)) return false;
    if (!pass_allow(w->p)) return false;
    Dim start[MAX_RANK], size[MAX_RANK];
    int64_t step[MAX_RANK];
    for (int d = 0; d < t->rank; d++) {
        start[d] = a->start[d];
        size[d] = a->size[d];
        step[d] = a->step[d];
    }
    start[1] = dim_const(w->c, first / w->block);
    size[1] = dim_const(w->c, lay_nblocks(w, c));
    start[t->rank] = dim_const(w->c, 0);
    size[t->rank] = dim_const(w->c, w->block);
    step[t->rank] = 1;
    B b = builder(w->g, n->loc);
    lay_done(w, &b, n->out[0], b_slice(&b, x, start, step, size), c);
    return true;
}

bool pass_layout(Graph *g, PassCtx *p) {
    static bool (*const rule[P_COUNT])(Lay *, Node *) = {
        [P_CONTRACT] = layout_conv, [P_MAP] = map, [P_PAD] = pad, [P_WINDOW] = window, [P_REDUCE] = reduce, [P_CONCAT] = concat, [P_SLICE] = slice,
    };
    graph_tidy(g);
    dim_guess_in(g);
    Lay lay = {.g = g, .c = g->c, .p = p};
    lay.block = layout_block(&lay);
    layout_planes(&lay);
    uint32_t n = g->node.n;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    bool changed = false;
    for (uint32_t i = 0; i < n; i++) {
        if (!rule[node[i]->op]) continue;
        bool done_so = rule[node[i]->op](&lay, node[i]);
        explain(p, g, node[i], done_so ? "in blocks of channels" : "stays in plain layout");
        changed |= done_so;
    }
    if (changed) graph_tidy(g);
    return changed;
}
