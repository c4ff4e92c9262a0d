/* scale.c: moves a constant factor from a value to where it costs nothing: into the constant
 * operand of a contraction, or into a constant of a map, through views and through additions of
 * constants (whose constants are scaled as well).
 *
 * In: a value, read once, and its factor. Out: the value that is the product, or poison. Products
 * are rounded once more than they would be (a weight times its factor, then times x), which is the
 * error that algebra.c allows itself. */
#include "scale.h"

#include "simplify.h"

enum { DEPTH = 24, COPY_BYTES = 1 << 16, GROWN_BYTES = 64 << 20 };

bool alg_single(const Alg *a, Val v) {
    v = graph_resolve(a->g, v);
    return v.i < a->nval && a->uses[v.i] == 1 && !a->taken[v.i];
}

void alg_take(Alg *a, Val v) {
    v = graph_resolve(a->g, v);
    if (v.i < a->nval) a->taken[v.i] = true;
}

Node *alg_again(Alg *a, const Node *n, const Val *in) {
    Type *t = NEWN(a->c, Type, n->nout + 1);
    for (int r = 0; r < n->nout; r++) t[r] = *val_type(a->g, n->out[r]);
    return graph_node(a->g, (PrimOp)n->op, n->nin, in, n->nout, t, n->attr, n->loc);
}

/* A builder function may have appended a short chain: what feeds v is evaluated first, then v. */
static Val evaluate(Alg *a, Val v, bool may_grow) {
    for (int k = 0; k < 4; k++) {
        Node *n = val_def(a->g, v);
        if (!v.i || !n) return (Val){0};
        if (n->op == P_CONST) return graph_resolve(a->g, v);
        Val s = splat_const(&a->b, v);
        if (s.i) return s;
        for (int i = 0; i < n->nin; i++) {
            Node *d = val_def(a->g, n->in[i]);
            if (d && d->op != P_CONST) fold_node(a->g, d, false);
        }
        fold_node(a->g, n, may_grow);
    }
    return (Val){0};
}

Val alg_const(Alg *a, Val v) { return evaluate(a, v, false); }

static Val both(Alg *a, SOp op, Val x, Val y) {
    x = graph_resolve(a->g, x);
    y = graph_resolve(a->g, y);
    if (!x.i || !y.i) return x.i ? x : y;
    return alg_const(a, b_binary(&a->b, op, x, y));
}

Val alg_mul(Alg *a, Val x, Val y) { return both(a, S_MUL, x, y); }
Val alg_add(Alg *a, Val x, Val y) { return both(a, S_ADD, x, y); }

/* ---- factors ---- */

static Val reshaped(Alg *a, Val s, int rank, const int64_t *dim) {
    Dim d[MAX_RANK];
    for (int k = 0; k < rank; k++) d[k] = dim_const(a->c, dim[k]);
    return alg_const(a, b_reshape(&a->b, s, rank, d));
}

static void sizes(const Alg *a, Val s, int64_t *dim) {
    CHECK(type_const_dims(a->c, val_type(a->g, s), dim));
}

bool scale_varies(const Alg *a, Val s, int d) {
    return !dim_is(a->c, val_type(a->g, s)->dim[d], 1);
}

Val scale_fit(Alg *a, Val s, const Type *t) {
    int64_t from[MAX_RANK], dim[MAX_RANK];
    Scalar x;
    for (int d = 0; d < t->rank; d++) dim[d] = 1;
    if (val_scalar(a->g, s, &x)) return reshaped(a, b_scalar(&a->b, x), t->rank, dim);
    const Type *st = val_type(a->g, s);
    int skip = t->rank - st->rank;
    if (!val_const(a->g, s) || skip < 0 || !type_const_dims(a->c, st, from)) return (Val){0};
    for (int d = 0; d < st->rank; d++) {
        if (from[d] != 1 && !dim_is(a->c, t->dim[skip + d], from[d])) return (Val){0};
        dim[skip + d] = from[d];
    }
    return reshaped(a, s, t->rank, dim);
}

/* From one side of a reshape to the other: dims are cut into the smallest groups of equal products;
 * a group along which the factor varies must have constant dims, and its factor is spread over all
 * of them first. */
static Val through_reshape(Alg *a, Val s, const Type *from, const Type *to) {
    int64_t size[MAX_RANK], full[MAX_RANK], out[MAX_RANK];
    int i = 0, j = 0;
    bool spread = false;
    sizes(a, s, size);
    while (i < from->rank || j < to->rank) {
        int ni = -1, nj = -1;
        for (int sum = 1; sum <= from->rank - i + to->rank - j && ni < 0; sum++) {
            for (int k = 0; k <= sum && ni < 0; k++) {
                if (k > from->rank - i || sum - k > to->rank - j) continue;
                Dim x = dim_const(a->c, 1), y = x;
                for (int d = 0; d < k; d++) x = dim_mul(a->c, x, from->dim[i + d]);
                for (int d = 0; d < sum - k; d++) y = dim_mul(a->c, y, to->dim[j + d]);
                if (dim_same(a->c, x, y)) {
                    ni = k;
                    nj = sum - k;
                }
            }
        }
        if (ni < 0) return (Val){0};
        bool varies = false;
        for (int d = i; d < i + ni; d++) varies |= size[d] != 1;
        for (int d = i; d < i + ni; d++) {
            full[d] = 1;
            if (varies && !dim_is_const(a->c, from->dim[d], &full[d])) return (Val){0};
            spread |= full[d] != size[d];
        }
        for (int d = j; d < j + nj; d++) {
            out[d] = 1;
            if (varies && !dim_is_const(a->c, to->dim[d], &out[d])) return (Val){0};
        }
        i += ni;
        j += nj;
    }
    if (spread) {
        Dim d[MAX_RANK];
        for (int k = 0; k < from->rank; k++) d[k] = dim_const(a->c, full[k]);
        s = alg_const(a, b_broadcast(&a->b, s, from->rank, d));
    }
    return s.i ? reshaped(a, s, to->rank, out) : s;
}

static Val permuted(Alg *a, Val s, const PermAttr *p, int rank, bool inverse) {
    int perm[MAX_RANK];
    for (int d = 0; d < rank; d++) {
        if (inverse)
            perm[p->perm[d]] = d;
        else
            perm[d] = p->perm[d];
    }
    return alg_const(a, b_permute(&a->b, s, perm));
}

/* Dims of a view's operand and result along which elements move by other than renaming: the factor
 * must not vary there. */
static bool moves(const Alg *a, const Node *n, int d) {
    const Type *in = val_type(a->g, n->in[0]), *out = val_type(a->g, n->out[0]);
    if (n->op == P_WINDOW) {
        const WindowAttr *w = n->attr;
        for (int k = 0; k < w->n; k++)
            if (w->axis[k] == d) return true;
        return d >= in->rank;
    }
    if (n->op == P_SLICE) {
        const SliceAttr *s = n->attr;
        return !dim_is(a->c, s->start[d], 0) || s->step[d] != 1 ||
               !dim_same(a->c, in->dim[d], out->dim[d]);
    }
    const PadAttr *p = n->attr;
    return !dim_is(a->c, p->lo[d], 0) || !dim_is(a->c, p->hi[d], 0) ||
           (p->interior && p->interior[d]);
}

static bool pads_zero(const Node *n) {
    const PadAttr *p = n->attr;
    return n->nin == 1 && (p->mode != PAD_VALUE || (dt_is_float(p->value.t) && p->value.f == 0));
}

/* Is n a pad, slice or window that moves nothing along the axes along which s, of the operand or the result, varies? */
static bool passes(Alg *a, const Node *n, Val s, int rank) {
    if (n->op == P_PAD ? !pads_zero(n) : n->op != P_SLICE && n->op != P_WINDOW) return false;
    for (int d = 0; d < rank; d++)
        if (scale_varies(a, s, d) && moves(a, n, d)) return false;
    return true;
}

Val scale_up(Alg *a, const Node *n, Val s) {
    const Type *in = val_type(a->g, n->in[0]), *out = val_type(a->g, n->out[0]);
    int64_t dim[MAX_RANK];
    switch (n->op) {
    case P_RESHAPE:
        return through_reshape(a, s, out, in);
    case P_PERMUTE:
        return permuted(a, s, n->attr, in->rank, true);
    case P_BROADCAST:
        sizes(a, s, dim);
        for (int d = 0; d < out->rank; d++) {
            int k = d - (out->rank - in->rank);
            if (dim[d] != 1 && (k < 0 || !dim_same(a->c, in->dim[k], out->dim[d]))) return (Val){0};
        }
        return reshaped(a, s, in->rank, dim + out->rank - in->rank);
    default:
        if (!passes(a, n, s, out->rank)) return (Val){0};
    }
    sizes(a, s, dim);
    return reshaped(a, s, in->rank, dim);
}

Val scale_down(Alg *a, const Node *n, Val s) {
    const Type *in = val_type(a->g, n->in[0]), *out = val_type(a->g, n->out[0]);
    int64_t dim[MAX_RANK];
    switch (n->op) {
    case P_RESHAPE:
        return through_reshape(a, s, in, out);
    case P_PERMUTE:
        return permuted(a, s, n->attr, in->rank, false);
    case P_BROADCAST:
        return scale_fit(a, s, out);
    default:
        if (!passes(a, n, s, in->rank)) return (Val){0};
    }
    sizes(a, s, dim);
    for (int d = in->rank; d < out->rank; d++) dim[d] = 1;
    return reshaped(a, s, out->rank, dim);
}

Val scale_relabel(Alg *a, Val s, const uint8_t *from, int rank, const uint8_t *to) {
    int srank = val_type(a->g, s)->rank, perm[MAX_RANK], np = 0, varying = 0;
    int64_t size[MAX_RANK], dim[MAX_RANK];
    sizes(a, s, size);
    for (int d = 0; d < srank; d++) {
        varying += size[d] != 1;
        for (int e = 0; e < d; e++)
            if (from[d] == from[e] && size[d] != 1) return (Val){0};
    }
    for (int d = 0; d < rank; d++) {
        dim[d] = 1;
        for (int e = 0; e < d; e++)
            if (to[e] == to[d]) return (Val){0};
        for (int o = 0; o < srank; o++) {
            if (from[o] != to[d] || size[o] == 1) continue;
            dim[d] = size[o];
            perm[np++] = o;
        }
    }
    if (varying != np) return (Val){0};
    for (int o = 0; o < srank; o++)
        if (size[o] == 1) perm[np++] = o;
    return reshaped(a, alg_const(a, b_permute(&a->b, s, perm)), rank, dim);
}

static Val factor_of(Alg *a, const Node *n, int side, Val s) {
    const ContractAttr *at = n->attr;
    return scale_relabel(a, s, at->label[2], val_type(a->g, n->in[side])->rank, at->label[side]);
}

/* ---- pushing ---- */

bool scale_weight_ok(Alg *a, Val w) {
    w = graph_resolve(a->g, w);
    const ConstData *d = val_const(a->g, w);
    bool shared = w.i < a->nval && a->uses[w.i] != 1;
    return d && (d->dtype == DT_F32 || d->dtype == DT_F64) && (!shared || d->bytes <= COPY_BYTES);
}

/* A splat becomes as large as its type says: other passes would lay it out in full as well. */
Val scale_weight(Alg *a, Val w, Val f) {
    int64_t dim[MAX_RANK];
    const Type *t = val_type(a->g, w);
    double bytes = dt_bits((DType)t->dtype) / 8.0;
    if (!type_const_dims(a->c, t, dim)) return (Val){0};
    for (int d = 0; d < t->rank; d++) bytes *= (double)dim[d];
    return evaluate(a, b_binary(&a->b, S_MUL, w, f), bytes <= (double)GROWN_BYTES);
}

static Val push_contract(Alg *a, Node *n, Val s, bool commit, int depth) {
    const ContractAttr *at = n->attr;
    DType t = (DType)val_type(a->g, s)->dtype;
    for (int side = 1; side >= 0; side--) {
        if (!scale_weight_ok(a, n->in[side]) || val_type(a->g, n->in[side])->dtype != t ||
            at->out != t)
            continue;
        Val f = factor_of(a, n, side, s);
        if (!f.i) continue;
        if (!commit) return n->out[0];
        Val in[2] = {n->in[0], n->in[1]};
        in[side] = scale_weight(a, in[side], f);
        return in[side].i ? alg_again(a, n, in)->out[0] : (Val){0};
    }
    for (int side = 0; side < 2; side++) {
        if (val_type(a->g, n->in[side])->dtype != t || at->out != t) continue;
        Val f = factor_of(a, n, side, s), in[2] = {n->in[0], n->in[1]};
        if (!f.i || !scale_push(a, in[side], f, false, depth + 1).i) continue;
        if (!commit) return n->out[0];
        in[side] = scale_push(a, in[side], f, true, depth + 1);
        return in[side].i ? alg_again(a, n, in)->out[0] : (Val){0};
    }
    return (Val){0};
}

static Val push_map(Alg *a, Node *n, Val s, bool commit, int depth) {
    Affine f = affine_of(a, n);
    if (!f.ok || f.arg < 0) return (Val){0};
    const Type *t = val_type(a->g, n->out[0]);
    Val x = n->in[f.arg], add = {0}, mul = {0};
    if (!type_same(a->c, val_type(a->g, x), t)) return (Val){0};
    if (f.add.i && !(add = alg_mul(a, alg_expr(a, n, f.add), s)).i) return (Val){0};
    if (f.mul.i && !(mul = alg_mul(a, alg_expr(a, n, f.mul), s)).i) return (Val){0};
    if (!f.mul.i && !(x = scale_push(a, x, s, commit, depth + 1)).i) return (Val){0};
    if (!commit) return n->out[0];
    Val in[3] = {x}, y;
    int nin = 1;
    Expr e = expr_arg(a->c, 0, (DType)t->dtype);
    if (mul.i) {
        in[nin] = mul;
        e = expr_op(a->c, S_MUL, e, expr_arg(a->c, (uint32_t)nin++, (DType)t->dtype), (Expr){0});
    }
    if (add.i) {
        in[nin] = add;
        e = expr_op(a->c, S_ADD, e, expr_arg(a->c, (uint32_t)nin++, (DType)t->dtype), (Expr){0});
    }
    b_map(&a->b, 1, &e, nin, in, t->rank, t->dim, &y);
    return y;
}

Val scale_push(Alg *a, Val v, Val s, bool commit, int depth) {
    v = graph_resolve(a->g, v);
    Scalar z;
    if (val_scalar(a->g, v, &z) && dt_is_float(z.t) && z.f == 0) return v;
    Node *n = val_def(a->g, v);
    if (!n || n->nout != 1 || depth > DEPTH || !alg_single(a, v)) return (Val){0};
    Val r = {0};
    if (n->op == P_CONTRACT)
        r = push_contract(a, n, s, commit, depth);
    else if (n->op == P_MAP)
        r = push_map(a, n, s, commit, depth);
    else if (n->op == P_CONCAT) {
        int axis = ((const AxisAttr *)n->attr)->axis;
        if (scale_varies(a, s, axis)) return (Val){0};
        Val *in = NEWN(a->c, Val, n->nin);
        for (int k = 0; k < n->nin; k++)
            if (!(in[k] = scale_push(a, n->in[k], s, commit, depth + 1)).i) return (Val){0};
        r = commit ? alg_again(a, n, in)->out[0] : v;
    } else if (is_view(n)) {
        Val f = scale_up(a, n, s), in = {0};
        if (!f.i || !(in = scale_push(a, n->in[0], f, commit, depth + 1)).i) return (Val){0};
        r = commit ? alg_again(a, n, &in)->out[0] : v;
    }
    if (commit && r.i) alg_take(a, v);
    return r;
}
