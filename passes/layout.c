/* layout.c: blocked channels. A value [N, C, spatial..] of a convolutional net is kept as [N, C/16, spatial.., 16] from the
 * first convolution to the last, in plain primitives: convolutions read pixels as 16 contiguous channels and write vectors of 16
 * output channels; maps, pooling, concat and slices by multiples of 16 follow. Weights become [O/16, C/16, k.., 16c, 16o]
 * constants. The block of 16 serves AVX2 (two vectors) and AVX-512 (one) alike. 8-bit integers (quant.c) lie in the same blocks;
 * their weights become [O/16, C/16, k.., 4, 16o, 4c], for the sum of four products at once, and few channels blocks of 4. For
 * matrix tiles, which want 64 bytes of k side by side, all blocks of a net are of 64 channels if that fits every convolution.
 *
 * Nodes are visited in order. `blk` maps a plain value to its blocked form; the plain form of a blocked result is a view of
 * it, dead unless somebody needs it. Channels beyond C (up to the multiple of 16) hold finite values that no result reads:
 * weights for them are zero, per-channel operands repeat their last channel. */
#include <string.h>

#include "internal.h"

enum { BLOCK = 16, WIDE = 64, QUAD = 4, TAPS = 16 };

typedef struct Lay {
    Graph *g;
    Ctx *c;
    PassCtx *p;
    int64_t block;              /* channels per block: 16, or 64 */
    VEC(Val) blk;               /* per value: its blocked form, or poison */
    VEC(uint8_t) windowed;      /* per value with a blocked form: number of trailing window dims */
} Lay;

static Val blocked(Lay *w, Val v) {
    v = graph_resolve(w->g, v);
    return v.i < w->blk.n ? graph_resolve(w->g, w->blk.v[v.i]) : (Val){0};
}

static int windows_of(Lay *w, Val v) {
    v = graph_resolve(w->g, v);
    return v.i < w->windowed.n ? w->windowed.v[v.i] : 0;
}

static void set_blocked(Lay *w, Val plain, Val b, int windows) {
    plain = graph_resolve(w->g, plain);
    while (w->blk.n <= plain.i) {
        vec_push(w->c, &w->blk, (Val){0});
        vec_push(w->c, &w->windowed, 0);
    }
    w->blk.v[plain.i] = b;
    w->windowed.v[plain.i] = (uint8_t)windows;
}

static Val folded(Lay *w, Val v) { /* a chain of views of a constant, evaluated now: the next step must see a constant */
    Node *d = val_def(w->g, v);
    if (d && d->op != P_CONST) fold_node(w->g, d, true);
    return graph_resolve(w->g, v);
}

static int64_t channels(Lay *w, const Type *t) {
    int64_t c;
    return t->rank >= 3 && dim_is_const(w->c, t->dim[1], &c) ? c : -1;
}

static int64_t nblocks(const Lay *w, int64_t c) { return (c + w->block - 1) / w->block; }

/* Pads dim d of v to a multiple of `block`: with zeros, or by repeating the last element. */
static Val pad_dim(Lay *w, B *b, Val v, int d, int64_t block, bool edge) {
    const Type *t = val_type(w->g, v);
    int64_t c;
    CHECK(dim_is_const(w->c, t->dim[d], &c));
    if (c % block == 0) return v;
    Dim lo[MAX_RANK], hi[MAX_RANK];
    for (int i = 0; i < t->rank; i++) {
        lo[i] = dim_const(w->c, 0);
        hi[i] = dim_const(w->c, i == d ? block - c % block : 0);
    }
    return folded(w, b_pad(b, v, lo, hi, NULL, edge ? PAD_EDGE : PAD_VALUE, dt_convert((Scalar){.t = DT_I64, .i = 0}, t->dtype), (Val){0}));
}

static Val pad_channels(Lay *w, B *b, Val v, int d, bool edge) { return pad_dim(w, b, v, d, BLOCK, edge); }

/* [N, C, s..] -> [N, C/block, s.., block] */
static Val in_blocks(Lay *w, B *b, Val v, int64_t block, bool edge) {
    Val x = pad_dim(w, b, v, 1, block, edge);
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
    x = folded(w, b_reshape(b, x, rank + 1, dim));
    return folded(w, b_permute(b, x, perm));
}

static Val to_blocked(Lay *w, B *b, Val v, bool edge) { return in_blocks(w, b, v, w->block, edge); }

/* [N, C/16, s.., 16] -> [N, C, s..] */
static Val from_blocked(Lay *w, B *b, Val v, int64_t c) {
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

static void done(Lay *w, B *b, Val old, Val blk, int64_t c) {
    Val plain = from_blocked(w, b, blk, c);
    graph_replace(w->g, old, plain);
    set_blocked(w, plain, blk, 0);
}

/* ---- convolutions ---- */

typedef struct Conv {
    Val x, w;                   /* x: [N, C, s.., k..] windowed */
    int spatial;
    int64_t cin, cout, groups;  /* cin per group */
    bool bytes;                 /* u8 times i8, summed in i32 */
} Conv;

/* contract n g? c s.. k.., g? o c k.. -> n g? o s.. with constant weights */
static bool match_conv(Lay *w, const Node *n, Conv *v) {
    if (n->op != P_CONTRACT) return false;
    const ContractAttr *a = n->attr;
    const Type *x = val_type(w->g, n->in[0]), *k = val_type(w->g, n->in[1]), *o = val_type(w->g, n->out[0]);
    bool bytes = x->dtype == DT_U8 && k->dtype == DT_I8 && o->dtype == DT_I32 && a->acc == DT_I32;
    bool floats = k->dtype == DT_F32 && o->dtype == DT_F32 && a->acc == DT_F32 && (x->dtype == DT_F32 || x->dtype == DT_U8 || x->dtype == DT_I8);
    if ((!bytes && !floats) || !val_const(w->g, n->in[1])) return false;
    int grouped = -1, s = 0;
    for (int g = 0; g < 2 && grouped < 0; g++) { /* ranks: x = 2 + g + 2s, k = 2 + g + s, o = 2 + g + s */
        if (x->rank < 4 + g || (x->rank - 2 - g) % 2) continue;
        s = (x->rank - 2 - g) / 2;
        if (s > 3 || k->rank != 2 + g + s || o->rank != 2 + g + s) continue;
        const uint8_t *lx = a->label[0], *lk = a->label[1], *lo = a->label[2];
        bool ok = lx[0] == lo[0] && lx[1 + g] == lk[1 + g] && lk[g] == lo[1 + g] && (!g || (lx[1] == lk[0] && lx[1] == lo[1]));
        for (int i = 0; i < s; i++) ok = ok && lx[2 + g + i] == lo[2 + g + i] && lx[2 + g + s + i] == lk[2 + g + i];
        if (ok) grouped = g;
    }
    if (grouped < 0) return false;
    *v = (Conv){.x = n->in[0], .w = n->in[1], .spatial = s, .groups = 1, .bytes = bytes};
    if (grouped && !dim_is_const(w->c, k->dim[0], &v->groups)) return false;
    if (!dim_is_const(w->c, k->dim[grouped], &v->cout) || !dim_is_const(w->c, k->dim[grouped + 1], &v->cin)) return false;
    for (int i = 0; i < s; i++) if (!dim_is_const(w->c, k->dim[2 + grouped + i], NULL)) return false;
    return true;
}

/* Undo the importer's split into groups: window(reshape(x)) with x [N, G*C, s..] -> window(x). */
static Val ungrouped(Lay *w, B *b, Val v, int spatial) {
    Node *d = val_def(w->g, v);
    if (!d) return (Val){0};
    if (d->op == P_WINDOW) {
        const WindowAttr *a = d->attr;
        Val x = ungrouped(w, b, d->in[0], spatial);
        if (!x.i) return x;
        WindowAttr moved = *a;
        for (int i = 0; i < a->n; i++) moved.axis[i]--;
        Val blk = blocked(w, x);
        Val out = b_window(b, x, &moved);
        if (blk.i) set_blocked(w, out, b_window(b, blk, &moved), a->n);
        return out;
    }
    if (d->op == P_RESHAPE) {
        const Type *x = val_type(w->g, d->in[0]);
        return x->rank == spatial + 2 ? graph_resolve(w->g, d->in[0]) : (Val){0};
    }
    return (Val){0};
}

static Val reshape_const(Lay *w, B *b, Val v, int rank, const int64_t *dim) {
    Dim d[MAX_RANK];
    for (int i = 0; i < rank; i++) d[i] = dim_const(w->c, dim[i]);
    return folded(w, b_reshape(b, v, rank, d));
}

static void kernel_dims(Lay *w, Val v, int first, int n, int64_t *out) {
    const Type *t = val_type(w->g, v);
    for (int i = 0; i < n; i++) CHECK(dim_is_const(w->c, t->dim[first + i], &out[i]));
}

enum { L_N, L_G, L_O, L_J, L_C, L_I, L_S /* 3 */, L_K = L_S + 3 /* 3 */, L_Q = L_K + 3, L_P };

static Val contract_labels(B *b, Val x, Val k, int na, const uint8_t *la, int nb, const uint8_t *lb, int no, const uint8_t *lo) {
    DType acc = val_type(b->g, k)->dtype == DT_I8 ? DT_I32 : DT_F32;
    ContractAttr a = {.label = NO_LABELS, .acc = acc, .out = acc};
    memcpy(a.label[0], la, (size_t)na);
    memcpy(a.label[1], lb, (size_t)nb);
    memcpy(a.label[2], lo, (size_t)no);
    return b_contract_attr(b, &a, x, k);
}

/* Windowed input as n, s.., channels, k.., (16): the order in which the reduction runs. */
static Val order_input(Lay *w, B *b, Val x, int s, bool blk) {
    int perm[MAX_RANK], n = 0;
    (void)w;
    perm[n++] = 0;
    for (int i = 0; i < s; i++) perm[n++] = 2 + i;
    perm[n++] = 1;
    for (int i = 0; i < s; i++) perm[n++] = 2 + s + blk + i;
    if (blk) perm[n++] = 2 + s;
    return b_permute(b, x, perm);
}

/* x (windowed, blocked or plain), weights [O, C, k..] -> [N, O/16, s.., 16] */
static Val dense_conv(Lay *w, B *b, Val x, Val k, int s, bool blk) {
    int64_t kd[3], dim[MAX_RANK];
    kernel_dims(w, k, 2, s, kd);
    Val p = pad_channels(w, b, k, 0, false);
    if (blk) p = pad_channels(w, b, p, 1, false);
    int64_t o, c;
    CHECK(dim_is_const(w->c, val_type(w->g, p)->dim[0], &o) && dim_is_const(w->c, val_type(w->g, p)->dim[1], &c));
    int n = 0, perm[MAX_RANK], m = 0;
    dim[n++] = o / BLOCK;
    dim[n++] = BLOCK;
    if (blk) {
        dim[n++] = c / BLOCK;
        dim[n++] = BLOCK;
    } else dim[n++] = c;
    int kat = n;
    for (int i = 0; i < s; i++) dim[n++] = kd[i];
    perm[m++] = 0;
    perm[m++] = 2;
    for (int i = 0; i < s; i++) perm[m++] = kat + i;
    if (blk) perm[m++] = 3;
    perm[m++] = 1;
    p = folded(w, b_permute(b, reshape_const(w, b, p, n, dim), perm));
    uint8_t la[MAX_RANK], lb[MAX_RANK], lo[MAX_RANK];
    int na = 0, nb = 0, no = 0;
    la[na++] = L_N;
    for (int i = 0; i < s; i++) la[na++] = (uint8_t)(L_S + i);
    la[na++] = L_C;
    for (int i = 0; i < s; i++) la[na++] = (uint8_t)(L_K + i);
    if (blk) la[na++] = L_I;
    lb[nb++] = L_O;
    lb[nb++] = L_C;
    for (int i = 0; i < s; i++) lb[nb++] = (uint8_t)(L_K + i);
    if (blk) lb[nb++] = L_I;
    lb[nb++] = L_J;
    lo[no++] = L_N;
    lo[no++] = L_O;
    for (int i = 0; i < s; i++) lo[no++] = (uint8_t)(L_S + i);
    lo[no++] = L_J;
    return contract_labels(b, order_input(w, b, x, s, blk), p, na, la, nb, lb, no, lo);
}

/* x [.., q, k..] with q channels at dim d -> [.., q/4, 4, k..] */
static Val quads(Lay *w, B *b, Val x, int d) {
    const Type *t = val_type(w->g, x);
    Dim dim[MAX_RANK];
    for (int i = 0; i < t->rank; i++) dim[i + (i > d)] = t->dim[i];
    dim[d] = dim_floordiv(w->c, t->dim[d], dim_const(w->c, QUAD));
    dim[d + 1] = dim_const(w->c, QUAD);
    return b_reshape(b, x, t->rank + 1, dim);
}

/* The same for 8-bit integers, x in blocks of `block` channels; blocks of 64 columns are four panels. */
static Val dense_bytes(Lay *w, B *b, Val x, Val k, int s, int64_t block) {
    int64_t kd[3], dim[MAX_RANK], o, c, parts = w->block / BLOCK;
    kernel_dims(w, k, 2, s, kd);
    Val p = pad_dim(w, b, pad_dim(w, b, k, 0, w->block, false), 1, block, false);
    CHECK(dim_is_const(w->c, val_type(w->g, p)->dim[0], &o) && dim_is_const(w->c, val_type(w->g, p)->dim[1], &c));
    int n = 0, perm[MAX_RANK], m = 0;
    bool wide = parts > 1;
    dim[n++] = o / w->block;
    if (wide) dim[n++] = parts;
    dim[n++] = BLOCK;
    dim[n++] = c / block;
    dim[n++] = block / QUAD;
    dim[n++] = QUAD;
    for (int i = 0; i < s; i++) dim[n++] = kd[i];
    perm[m++] = 0;
    if (wide) perm[m++] = 1;
    perm[m++] = 2 + wide;
    for (int i = 0; i < s; i++) perm[m++] = 5 + wide + i;
    perm[m++] = 3 + wide;
    perm[m++] = 1 + wide;
    perm[m++] = 4 + wide;
    p = folded(w, b_permute(b, reshape_const(w, b, p, n, dim), perm));
    uint8_t la[MAX_RANK] = {L_N}, lb[MAX_RANK] = {L_O}, lo[MAX_RANK] = {L_N, L_O};
    int na = 1, nb = 1, no = 2;
    if (wide) lb[nb++] = L_P;
    for (int i = 0; i < s; i++) la[na++] = lo[no++] = (uint8_t)(L_S + i);
    la[na++] = lb[nb++] = L_C;
    for (int i = 0; i < s; i++) la[na++] = lb[nb++] = (uint8_t)(L_K + i);
    la[na++] = lb[nb++] = L_I;
    if (wide) lo[no++] = L_P;
    lb[nb++] = lo[no++] = L_J;
    la[na++] = lb[nb++] = L_Q;
    Val y = contract_labels(b, quads(w, b, order_input(w, b, x, s, true), 2 + 2 * s), p, na, la, nb, lb, no, lo);
    if (!wide) return y;
    const Type *t = val_type(w->g, y);
    Dim d[MAX_RANK];
    for (int i = 0; i < t->rank - 2; i++) d[i] = t->dim[i];
    d[t->rank - 2] = dim_const(w->c, w->block);
    return b_reshape(b, y, t->rank - 1, d);
}

/* One channel per group: the 16 channels of a block are independent lanes. k [C, 1, 1, k..] */
static Val depthwise(Lay *w, B *b, Val x, Val k, int s, int64_t c) {
    int64_t kd[3], dim[MAX_RANK] = {c};
    kernel_dims(w, k, 3, s, kd);
    for (int i = 0; i < s; i++) dim[1 + i] = kd[i];
    Val p = pad_channels(w, b, reshape_const(w, b, k, 1 + s, dim), 0, false);
    dim[0] = nblocks(w, c);
    dim[1] = BLOCK;
    int perm[MAX_RANK] = {0};
    for (int i = 0; i < s; i++) {
        dim[2 + i] = kd[i];
        perm[1 + i] = 2 + i;
    }
    perm[1 + s] = 1;
    p = folded(w, b_permute(b, reshape_const(w, b, p, 2 + s, dim), perm));
    uint8_t la[MAX_RANK] = {L_N, L_C}, lb[MAX_RANK] = {L_C}, lo[MAX_RANK] = {L_N, L_C};
    for (int i = 0; i < s; i++) {
        la[2 + i] = lo[2 + i] = (uint8_t)(L_S + i);
        la[3 + s + i] = lb[1 + i] = (uint8_t)(L_K + i);
    }
    la[2 + s] = lo[2 + s] = lb[1 + s] = L_I;
    return contract_labels(b, x, p, 3 + 2 * s, la, 2 + s, lb, 3 + s, lo);
}

/* Groups of channels that divide a block, or that blocks divide: [G, O, C, k..] -> per block of 16 inputs, block-diagonal. */
static Val block_diagonal(Lay *w, B *b, Val k, int s, int64_t groups, int64_t per) {
    /* weights [G/q, q, per_o, per_c, k..]: embed into [G/q, q, per, q, per, k..] with zeros off the diagonal */
    int64_t q = BLOCK / per, kd[3], dim[MAX_RANK];
    kernel_dims(w, k, 3, s, kd);
    int n = 0;
    dim[n++] = groups / q;
    dim[n++] = q;
    dim[n++] = per;
    dim[n++] = 1;
    dim[n++] = per;
    for (int i = 0; i < s; i++) dim[n++] = kd[i];
    Val x = reshape_const(w, b, k, n, dim);
    Dim full[MAX_RANK];
    for (int i = 0; i < n; i++) full[i] = dim_const(w->c, i == 3 ? q : dim[i]);
    Expr on = expr_op(w->c, S_EQ, expr_axis(w->c, 1), expr_axis(w->c, 3), (Expr){0});
    DType t = (DType)val_type(w->g, k)->dtype;
    Expr zero = expr_const(w->c, dt_convert((Scalar){.t = DT_I64}, t)), body = expr_op(w->c, S_SELECT, on, expr_arg(w->c, 0, t), zero);
    Val y;
    b_map(b, 1, &body, 1, &x, n, full, &y);
    Tensor *out = NULL;
    const Tensor *in[] = {tensor_from_const(w->c, val_const(w->g, x), val_type(w->g, x))};
    Node *d = val_def(w->g, y);
    if (!val_const(w->g, x) || !d || !node_eval(w->c, w->g, d, in, &out)) return (Val){0};
    y = b_const(b, tensor_to_const(w->c, out), *val_type(w->g, y));
    int64_t flat[MAX_RANK] = {groups / q, BLOCK, BLOCK};
    for (int i = 0; i < s; i++) flat[3 + i] = kd[i];
    return reshape_const(w, b, y, 3 + s, flat);
}

/* Groups whose width is a multiple of 16, k [G, O, C, k..]; x blocked and windowed. */
static Val grouped_conv(Lay *w, B *b, Val x, Val k, int s, int64_t groups, int64_t o, int64_t c) {
    int64_t kd[3], dim[MAX_RANK];
    kernel_dims(w, k, 3, s, kd);
    int n = 0, m = 0, perm[MAX_RANK];
    dim[n++] = groups;
    dim[n++] = o / BLOCK;
    dim[n++] = BLOCK;
    dim[n++] = c / BLOCK;
    dim[n++] = BLOCK;
    for (int i = 0; i < s; i++) dim[n++] = kd[i];
    perm[m++] = 0;
    perm[m++] = 1;
    perm[m++] = 3;
    for (int i = 0; i < s; i++) perm[m++] = 5 + i;
    perm[m++] = 4;
    perm[m++] = 2;
    Val p = folded(w, b_permute(b, reshape_const(w, b, k, n, dim), perm));
    bool bytes = val_type(w->g, k)->dtype == DT_I8;
    if (bytes) { /* [.., 16c, 16o] -> [.., 4, 16o, 4c] */
        n = 0;
        dim[n++] = groups;
        dim[n++] = o / BLOCK;
        dim[n++] = c / BLOCK;
        for (int i = 0; i < s; i++) dim[n++] = kd[i];
        dim[n++] = BLOCK / QUAD;
        dim[n++] = QUAD;
        dim[n++] = BLOCK;
        for (int i = 0; i < n; i++) perm[i] = i;
        perm[n - 2] = n - 1;
        perm[n - 1] = n - 2;
        p = folded(w, b_permute(b, reshape_const(w, b, p, n, dim), perm));
    }
    /* input [N, G*C/16, s.., 16, k..] -> [N, G, C/16, s.., 16, k..] */
    const Type *t = val_type(w->g, x);
    Dim xd[MAX_RANK];
    xd[0] = t->dim[0];
    xd[1] = dim_const(w->c, groups);
    xd[2] = dim_const(w->c, c / BLOCK);
    for (int i = 2; i < t->rank; i++) xd[i + 1] = t->dim[i];
    Val y = b_reshape(b, x, t->rank + 1, xd);
    if (bytes) y = quads(w, b, y, 3 + s);
    uint8_t la[MAX_RANK] = {L_N, L_G, L_C}, lb[MAX_RANK] = {L_G, L_O, L_C}, lo[MAX_RANK] = {L_N, L_G, L_O};
    for (int i = 0; i < s; i++) {
        la[3 + i] = lo[3 + i] = (uint8_t)(L_S + i);
        la[4 + bytes + s + i] = lb[3 + i] = (uint8_t)(L_K + i);
    }
    la[3 + s] = lb[3 + s] = L_I;
    lb[4 + s] = lo[3 + s] = L_J;
    if (bytes) la[4 + s] = lb[5 + s] = L_Q;
    Val r = contract_labels(b, y, p, 4 + bytes + 2 * s, la, 5 + bytes + s, lb, 4 + s, lo);
    const Type *rt = val_type(w->g, r);
    Dim od[MAX_RANK];
    od[0] = rt->dim[0];
    od[1] = dim_const(w->c, groups * (o / BLOCK));
    for (int i = 3; i < rt->rank; i++) od[i - 1] = rt->dim[i];
    return b_reshape(b, r, rt->rank - 1, od);
}

/* The windowed input in blocks; nothing keeps those of another size than the net's. */
static Val in_window_blocks(Lay *w, B *b, Val v, int64_t block) {
    Node *d = val_def(w->g, v); /* reorder below the window and its padding */
    if (!d || d->op != P_WINDOW) return (Val){0};
    Val in = graph_resolve(w->g, d->in[0]), y = block == w->block ? blocked(w, in) : (Val){0};
    Node *pad = val_def(w->g, in);
    if (!y.i && pad && pad->op == P_PAD) {
        Val core = graph_resolve(w->g, pad->in[0]);
        const PadAttr *a = pad->attr;
        Dim lo[MAX_RANK], hi[MAX_RANK];
        int rank = val_type(w->g, core)->rank;
        bool plain = !a->interior && a->mode == PAD_VALUE && dim_is(w->c, a->lo[1], 0) && dim_is(w->c, a->hi[1], 0);
        Val z = in_blocks(w, b, core, block, false);
        if (block == w->block) set_blocked(w, core, z, 0);
        for (int i = 0; i <= rank; i++) lo[i] = hi[i] = dim_const(w->c, 0);
        for (int i = 0; plain && i < rank; i++) {
            lo[i] = a->lo[i];
            hi[i] = a->hi[i];
        }
        y = plain ? b_pad(b, z, lo, hi, NULL, PAD_VALUE, a->value, pad->nin > 1 ? pad->in[1] : (Val){0}) : in_blocks(w, b, in, block, false);
    } else if (!y.i) {
        y = in_blocks(w, b, in, block, false);
    }
    if (block == w->block) set_blocked(w, in, y, 0);
    return b_window(b, y, d->attr);
}

static Val windowed_input(Lay *w, B *b, const Conv *v, Val x, int64_t c, int64_t *block) {
    Val y = blocked(w, x);
    *block = w->block;
    if (y.i) return y;
    if (c < 8) { /* first layer: scalars straight from the planes */
        *block = v->bytes ? QUAD : 1;
        if (!v->bytes) return x;
    }
    return in_window_blocks(w, b, x, *block);
}

/* A first layer for matrix tiles: sixteen pixels of four channels are 64 bytes of k side by side, so its window becomes sixteen wide,
 * over more padding and weights of zero. x: the windowed input in blocks of 4. */
static void widen_window(Lay *w, B *b, Val *x, Val *k, int s) {
    const Node *win = val_def(w->g, *x);
    WindowAttr a = *(const WindowAttr *)win->attr;
    Val in = graph_resolve(w->g, win->in[0]);
    const Node *pad = val_def(w->g, in);
    const Type *t = val_type(w->g, in);
    int at = a.n - 1, axis = a.axis[at];
    int64_t size;
    if (a.n != s || a.dilation[at] != 1 || !dim_is_const(w->c, a.size[at], &size) || size < 3 || size >= TAPS) return;
    Dim lo[MAX_RANK], hi[MAX_RANK];
    const PadAttr *p = pad && pad->op == P_PAD && pad->nin == 1 ? pad->attr : NULL;
    if (p && (p->mode != PAD_VALUE || p->interior)) p = NULL;
    for (int d = 0; d < t->rank; d++) {
        lo[d] = p ? p->lo[d] : dim_const(w->c, 0);
        hi[d] = dim_addi(w->c, p ? p->hi[d] : dim_const(w->c, 0), d == axis ? TAPS - size : 0);
    }
    Scalar value = p ? p->value : dt_convert((Scalar){.t = DT_I64}, t->dtype);
    a.size[at] = dim_const(w->c, TAPS);
    *x = b_window(b, b_pad(b, p ? pad->in[0] : in, lo, hi, NULL, PAD_VALUE, value, (Val){0}), &a);
    *k = pad_dim(w, b, *k, 1 + s, TAPS, false);
}

/* Can the convolution read and write blocks of 64 channels? */
static bool fits_wide(const Conv *v) {
    return v->bytes && v->groups == 1 && v->cout % WIDE == 0 && (v->cin % WIDE == 0 || v->cin < 8);
}

/* 64 channels per block if the target has matrix tiles and all convolutions fit, else 16. */
static int64_t block_of(Lay *w) {
    int fit = 0;
    if (!w->p->target || !(w->p->target->flags & F_AMX)) return BLOCK;
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        Conv v;
        if (!match_conv(w, w->g->node.v[i], &v)) continue;
        if (!fits_wide(&v)) return BLOCK;
        fit++;
    }
    return fit ? WIDE : BLOCK;
}

static bool conv(Lay *w, Node *n) {
    Conv v;
    if (!match_conv(w, n, &v) || (w->block != BLOCK && !fits_wide(&v))) return false;
    B b = builder(w->g, n->loc);
    Val x = v.x, y = {0};
    if (v.groups > 1 || val_type(w->g, v.w)->rank == 3 + v.spatial) {
        int64_t all = v.groups * v.cin;
        bool dw = v.cin == 1 && v.cout == 1, diag = v.cin == v.cout && v.cin < BLOCK && BLOCK % v.cin == 0 && all % BLOCK == 0;
        bool wide = v.cin % BLOCK == 0 && v.cout % BLOCK == 0;
        if (!dw && !diag && !wide) return false;
        if (v.bytes && dw) return false;
        x = ungrouped(w, &b, v.x, v.spatial);
        int64_t block;
        if (!x.i || !(x = windowed_input(w, &b, &v, x, all, &block)).i || block != BLOCK) return false;
        if (!pass_allow(w->p)) return false;
        if (dw) y = depthwise(w, &b, x, v.w, v.spatial, all);
        else if (wide) y = grouped_conv(w, &b, x, v.w, v.spatial, v.groups, v.cout, v.cin);
        else {
            Val k = block_diagonal(w, &b, v.w, v.spatial, v.groups, v.cin);
            if (!k.i) return false;
            y = grouped_conv(w, &b, x, k, v.spatial, all / BLOCK, BLOCK, BLOCK);
        }
        /* The importer's result is [N, G, O, s..]; its reshape to [N, G*O, s..] is where the blocked form belongs. */
        Val plain = from_blocked(w, &b, y, v.groups * v.cout);
        const Type *o = val_type(w->g, n->out[0]);
        Val split = b_reshape(&b, plain, o->rank, o->dim);
        for (uint32_t i = 0; i < w->g->node.n; i++) {
            Node *u = w->g->node.v[i];
            if (u->op != P_RESHAPE || graph_resolve(w->g, u->in[0]).i != n->out[0].i) continue;
            if (!type_same(w->c, val_type(w->g, u->out[0]), val_type(w->g, plain))) continue;
            graph_replace(w->g, u->out[0], plain);
        }
        graph_replace(w->g, n->out[0], split);
        set_blocked(w, plain, y, 0);
        return true;
    }
    int64_t block;
    if (!v.bytes && val_type(w->g, v.x)->dtype != DT_F32) return false;
    x = windowed_input(w, &b, &v, v.x, v.cin, &block);
    if (!x.i || !pass_allow(w->p)) return false;
    bool tiles = w->p->target && (w->p->target->flags & F_AMX);
    if (v.bytes && block == QUAD && tiles) widen_window(w, &b, &x, &v.w, v.spatial);
    y = v.bytes ? dense_bytes(w, &b, x, v.w, v.spatial, block) : dense_conv(w, &b, x, v.w, v.spatial, block == BLOCK);
    done(w, &b, n->out[0], y, v.cout);
    return true;
}

/* ---- what follows along ---- */

static bool shares_channels(Lay *w, const Type *t, int64_t c) { return channels(w, t) == c; }

/* An operand of a blocked map, in blocked form; domain rank r, channel count c. */
static Val map_operand(Lay *w, B *b, Val v, int rank, int64_t c) {
    const Type *t = val_type(w->g, v);
    int skip = rank - t->rank;
    Val x = blocked(w, v);
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
        y = folded(w, b_reshape(b, v, t->rank + 1, d));
    }
    y = to_blocked(w, b, y, true);
    if (skip == 0) set_blocked(w, v, y, 0);
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
        any |= blocked(w, n->in[k]).i && !windows_of(w, n->in[k]) && t->rank == a->rank && shares_channels(w, t, c) &&
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
    dim[1] = dim_const(w->c, nblocks(w, c));
    dim[a->rank] = dim_const(w->c, w->block);
    Val y;
    b_map(&b, 1, &body, n->nin, in, a->rank + 1, dim, &y);
    done(w, &b, n->out[0], y, c);
    return true;
}

static bool pad(Lay *w, Node *n) {
    const PadAttr *a = n->attr;
    Val x = blocked(w, n->in[0]);
    const Type *t = val_type(w->g, n->in[0]);
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
    done(w, &b, n->out[0], y, channels(w, t));
    return true;
}

/* A window over blocked input: the plain node stays (dead if all its readers follow), its blocked form is noted. */
static bool window(Lay *w, Node *n) {
    const WindowAttr *a = n->attr;
    Val x = blocked(w, n->in[0]);
    if (!x.i || windows_of(w, n->in[0])) return false;
    for (int i = 0; i < a->n; i++) if (a->axis[i] < 2) return false;
    B b = builder(w->g, n->loc);
    set_blocked(w, n->out[0], b_window(&b, x, a), a->n);
    return true;
}

/* Reductions over spatial dims, or over the dims of a window (pooling). */
static bool reduce(Lay *w, Node *n) {
    const ReduceAttr *a = n->attr;
    const Type *t = val_type(w->g, n->in[0]);
    Val x = blocked(w, n->in[0]);
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
        done(w, &b, n->out[0], y, c);
        return true;
    }
    Val plain = from_blocked(w, &b, y, c);
    set_blocked(w, plain, y, 0);
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
        have += blocked(w, n->in[k]).i && !windows_of(w, n->in[k]);
    }
    if (2 * have < n->nin || !pass_allow(w->p)) return false;
    B b = builder(w->g, n->loc);
    Val in[64];
    for (int k = 0; k < n->nin; k++) {
        in[k] = blocked(w, n->in[k]);
        if (!in[k].i) in[k] = to_blocked(w, &b, n->in[k], true);
    }
    done(w, &b, n->out[0], b_concat(&b, n->nin, in, axis), c);
    return true;
}

static bool slice(Lay *w, Node *n) {
    const SliceAttr *a = n->attr;
    const Type *t = val_type(w->g, n->in[0]), *o = val_type(w->g, n->out[0]);
    Val x = blocked(w, n->in[0]);
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
    size[1] = dim_const(w->c, nblocks(w, c));
    start[t->rank] = dim_const(w->c, 0);
    size[t->rank] = dim_const(w->c, w->block);
    step[t->rank] = 1;
    B b = builder(w->g, n->loc);
    done(w, &b, n->out[0], b_slice(&b, x, start, step, size), c);
    return true;
}

bool pass_layout(Graph *g, PassCtx *p) {
    static bool (*const rule[P_COUNT])(Lay *, Node *) = {
        [P_CONTRACT] = conv, [P_MAP] = map, [P_PAD] = pad, [P_WINDOW] = window, [P_REDUCE] = reduce, [P_CONCAT] = concat, [P_SLICE] = slice,
    };
    graph_tidy(g);
    Lay lay = {.g = g, .c = g->c, .p = p};
    lay.block = block_of(&lay);
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
