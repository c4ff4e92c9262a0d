/* layout_conv.c: convolutions with constant weights on blocks of channels: dense, depthwise, grouped; floats and 8-bit integers. */
#include <string.h>

#include "layout.h"

bool conv_match(const Graph *g, const Node *n, Conv *v) {
    if (n->op != P_CONTRACT) return false;
    const ContractAttr *a = n->attr;
    const Type *x = val_type(g, n->in[0]), *k = val_type(g, n->in[1]), *o = val_type(g, n->out[0]);
    bool bytes = x->dtype == DT_U8 && k->dtype == DT_I8 && o->dtype == DT_I32 && a->acc == DT_I32;
    int grouped = -1, s = 0;
    for (int q = 0; q < 2 && grouped < 0; q++) { /* ranks: x = 2 + q + 2s, k = 2 + q + s, o = 2 + q + s */
        if (x->rank < 4 + q || (x->rank - 2 - q) % 2) continue;
        s = (x->rank - 2 - q) / 2;
        if (s > 3 || k->rank != 2 + q + s || o->rank != 2 + q + s) continue;
        const uint8_t *lx = a->label[0], *lk = a->label[1], *lo = a->label[2];
        bool ok = lx[0] == lo[0] && lx[1 + q] == lk[1 + q] && lk[q] == lo[1 + q] && (!q || (lx[1] == lk[0] && lx[1] == lo[1]));
        for (int i = 0; i < s; i++) ok = ok && lx[2 + q + i] == lo[2 + q + i] && lx[2 + q + s + i] == lk[2 + q + i];
        if (ok) grouped = q;
    }
    if (grouped < 0) return false;
    *v = (Conv){.x = n->in[0], .w = n->in[1], .spatial = s, .groups = 1, .grouped = grouped, .bytes = bytes};
    if (grouped && !dim_is_const(g->c, k->dim[0], &v->groups)) return false;
    if (!dim_is_const(g->c, k->dim[grouped], &v->cout) || !dim_is_const(g->c, k->dim[grouped + 1], &v->cin)) return false;
    if (!dim_is_const(g->c, x->dim[1 + grouped], NULL)) return false; /* that it is cin may be known at run time alone */
    for (int i = 0; i < s; i++) if (!dim_is_const(g->c, k->dim[2 + grouped + i], NULL)) return false;
    return true;
}

/* What blocks of channels have kernels for. */
static bool match_conv(const Lay *w, const Node *n, Conv *v) {
    if (!conv_match(w->g, n, v) || !val_const(w->g, v->w)) return false;
    DType x = (DType)val_type(w->g, v->x)->dtype;
    bool f32 = val_type(w->g, v->w)->dtype == DT_F32 && val_type(w->g, n->out[0])->dtype == DT_F32 && ((const ContractAttr *)n->attr)->acc == DT_F32;
    return v->bytes || (f32 && (x == DT_F32 || x == DT_U8 || x == DT_I8));
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
        Val blk = lay_blocked(w, x);
        Val out = b_window(b, x, &moved);
        if (blk.i) lay_set_blocked(w, out, b_window(b, blk, &moved), a->n);
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
    return lay_folded(w, b_reshape(b, v, rank, d));
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

/* x (windowed, blocked or plain), weights [O, C, k..] -> [N, O/16, s.., 16]. Of a block that is all there is, only channels that there are count. */
static Val dense_conv(Lay *w, B *b, Val x, Val k, int s, bool blk) {
    int64_t kd[3], dim[MAX_RANK], o, c;
    kernel_dims(w, k, 2, s, kd);
    CHECK(dim_is_const(w->c, val_type(w->g, k)->dim[1], &c));
    const int64_t inner = c < BLOCK ? c : BLOCK;
    Val p = lay_pad_channels(w, b, k, 0, false);
    if (blk && inner == BLOCK) p = lay_pad_channels(w, b, p, 1, false);
    CHECK(dim_is_const(w->c, val_type(w->g, p)->dim[0], &o) && dim_is_const(w->c, val_type(w->g, p)->dim[1], &c));
    int n = 0, perm[MAX_RANK], m = 0;
    dim[n++] = o / BLOCK;
    dim[n++] = BLOCK;
    if (blk) {
        dim[n++] = c / inner;
        dim[n++] = inner;
    } else dim[n++] = c;
    int kat = n;
    for (int i = 0; i < s; i++) dim[n++] = kd[i];
    perm[m++] = 0;
    perm[m++] = 2;
    for (int i = 0; i < s; i++) perm[m++] = kat + i;
    if (blk) perm[m++] = 3;
    perm[m++] = 1;
    p = lay_folded(w, b_permute(b, reshape_const(w, b, p, n, dim), perm));
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
    x = order_input(w, b, x, s, blk);
    if (blk && inner < BLOCK) x = b_slice_axis(b, x, na - 1, dim_const(w->c, 0), dim_const(w->c, inner));
    return contract_labels(b, x, p, na, la, nb, lb, no, lo);
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
    Val p = lay_pad_dim(w, b, lay_pad_dim(w, b, k, 0, w->block, false), 1, block, false);
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
    p = lay_folded(w, b_permute(b, reshape_const(w, b, p, n, dim), perm));
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
    Val p = lay_pad_channels(w, b, reshape_const(w, b, k, 1 + s, dim), 0, false);
    dim[0] = lay_nblocks(w, c);
    dim[1] = BLOCK;
    int perm[MAX_RANK] = {0};
    for (int i = 0; i < s; i++) {
        dim[2 + i] = kd[i];
        perm[1 + i] = 2 + i;
    }
    perm[1 + s] = 1;
    p = lay_folded(w, b_permute(b, reshape_const(w, b, p, 2 + s, dim), perm));
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
    Val p = lay_folded(w, b_permute(b, reshape_const(w, b, k, n, dim), perm));
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
        p = lay_folded(w, b_permute(b, reshape_const(w, b, p, n, dim), perm));
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
    Val in = graph_resolve(w->g, d->in[0]), y = block == w->block ? lay_blocked(w, in) : (Val){0};
    Node *pad = val_def(w->g, in);
    if (!y.i && pad && pad->op == P_PAD) {
        Val core = graph_resolve(w->g, pad->in[0]);
        const PadAttr *a = pad->attr;
        Dim lo[MAX_RANK], hi[MAX_RANK];
        int rank = val_type(w->g, core)->rank;
        bool plain = !a->interior && dim_is(w->c, a->lo[1], 0) && dim_is(w->c, a->hi[1], 0);
        Val z = lay_in_blocks(w, b, core, block, false);
        if (block == w->block) lay_set_blocked(w, core, z, 0);
        for (int i = 0; i <= rank; i++) lo[i] = hi[i] = dim_const(w->c, 0);
        for (int i = 0; plain && i < rank; i++) {
            lo[i] = a->lo[i];
            hi[i] = a->hi[i];
        }
        y = plain ? b_pad(b, z, lo, hi, NULL, a->mode, a->value, pad->nin > 1 ? pad->in[1] : (Val){0}) : lay_in_blocks(w, b, in, block, false);
    } else if (!y.i) {
        y = lay_in_blocks(w, b, in, block, false);
    }
    if (block == w->block) lay_set_blocked(w, in, y, 0);
    return b_window(b, y, d->attr);
}

/* Windows along a row, typically, and how far apart they are; 0: there are no windows. By single pixels, a plane is a row. */
static double row_of(const Lay *w, const Conv *v, int64_t *stride) {
    const Node *d = val_def(w->g, v->x);
    if (!d || d->op != P_WINDOW) return 0;
    const WindowAttr *a = d->attr;
    const Type *t = val_type(w->g, v->x);
    Dim row = t->dim[1 + v->spatial];
    if (window_of_ones(w->c, a)) for (int i = 0; i + 1 < v->spatial; i++) row = dim_mul(w->c, row, t->dim[2 + i]);
    *stride = a->stride[a->n - 1];
    return dim_typical(w->c, row);
}

/* Would the last block of c channels leave much of its products to zeros? A single block counts only the channels that there are. */
static bool wastes_block(const Lay *w, int64_t c) { return c > BLOCK && 100 * (lay_nblocks(w, c) * BLOCK - c) > 8 * c; }

static Val windowed_input(Lay *w, B *b, const Conv *v, Val x, int64_t c, int64_t *block) {
    enum { ROW = 28 /* pixels: of shorter ones, blocks are fewer places in memory */ };
    int64_t stride = 1;
    Val y = lay_blocked(w, x);
    *block = w->block;
    if (y.i) return y;
    bool planes = c < 8 || (!v->bytes && !v->grouped && wastes_block(w, c) && row_of(w, v, &stride) * (double)stride >= ROW);
    if (planes) { /* scalars straight from there */
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
    *k = lay_pad_dim(w, b, *k, 1 + s, TAPS, false);
}

/* Can the convolution read and write blocks of 64 channels? */
static bool fits_wide(const Conv *v) {
    return v->bytes && v->groups == 1 && v->cout % WIDE == 0 && (v->cin % WIDE == 0 || v->cin < 8);
}

/* 64 channels per block if the target has matrix tiles and all convolutions fit, else 16. */
int64_t layout_block(Lay *w) {
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

/* Few output channels would leave a quarter of a block empty, or more: of planes, pixels of a row are the lanes. */
static bool better_in_planes(const Lay *w, const Conv *v) {
    enum { ROW = 32 };
    int64_t stride = 0;
    return !v->bytes && !v->grouped && v->cout <= BLOCK * 3 / 4 && row_of(w, v, &stride) >= ROW && stride == 1;
}

void layout_planes(Lay *w) {
    enum { PLANES = 1, BLOCKS = 2 };
    w->planes = NEWN(w->c, uint8_t, w->g->val.n);
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        Conv v;
        if (!match_conv(w, w->g->node.v[i], &v)) continue;
        const Node *d = val_def(w->g, v.x);
        if (d && d->op == P_WINDOW) w->planes[graph_resolve(w->g, d->in[0]).i] |= better_in_planes(w, &v) ? PLANES : BLOCKS;
    }
    for (uint32_t v = 0; v < w->g->val.n; v++) w->planes[v] = w->planes[v] == PLANES;
}

bool layout_conv(Lay *w, Node *n) {
    Conv v;
    if (!match_conv(w, n, &v) || (w->block != BLOCK && !fits_wide(&v))) return false;
    B b = builder(w->g, n->loc);
    Val x = v.x, y = {0};
    if (v.grouped) {
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
        Val plain = lay_from_blocked(w, &b, y, v.groups * v.cout);
        const Type *o = val_type(w->g, n->out[0]);
        Val split = b_reshape(&b, plain, o->rank, o->dim);
        for (uint32_t i = 0; i < w->g->node.n; i++) {
            Node *u = w->g->node.v[i];
            if (u->op != P_RESHAPE || graph_resolve(w->g, u->in[0]).i != n->out[0].i) continue;
            if (!type_same(w->c, val_type(w->g, u->out[0]), val_type(w->g, plain))) continue;
            graph_replace(w->g, u->out[0], plain);
        }
        graph_replace(w->g, n->out[0], split);
        lay_set_blocked(w, plain, y, 0);
        return true;
    }
    int64_t block;
    if ((!v.bytes && val_type(w->g, v.x)->dtype != DT_F32) || better_in_planes(w, &v)) return false;
    x = windowed_input(w, &b, &v, v.x, v.cin, &block);
    if (!x.i || !pass_allow(w->p)) return false;
    bool tiles = w->p->target && (w->p->target->flags & F_AMX);
    if (v.bytes && block == QUAD && tiles) widen_window(w, &b, &x, &v.w, v.spatial);
    y = v.bytes ? dense_bytes(w, &b, x, v.w, v.spatial, block) : dense_conv(w, &b, x, v.w, v.spatial, block == BLOCK);
    lay_done(w, &b, n->out[0], y, v.cout);
    return true;
}
