/* strides.c: which views of a strided value are strided values again. Used by passes (is a copy needed?) and by codegen
 * (operands and results seen through views). All arithmetic is on symbolic dims: "can" means provably for all sizes. */
#include "storage.h"

Strides strides_dense(Ctx *c, const Type *t) {
    Strides s = {.rank = t->rank, .offset = dim_const(c, 0)};
    Dim below = dim_const(c, 1);
    for (int d = t->rank - 1; d >= 0; d--) {
        s.dim[d] = t->dim[d];
        s.stride[d] = below;
        below = dim_mul(c, below, t->dim[d]);
    }
    return s;
}

/* Strides of `to` (rank n) over memory described by `in`, whose elements in row-major order are the same. Works group by
 * group: runs of dims of both sides with equal products; inside a run the input must be walkable as one dim. */
static bool restride(Ctx *c, const Strides *in, int n, const Dim *to, Dim *stride) {
    int i = in->rank - 1, o = n - 1;
    while (o >= 0) {
        if (dim_is(c, to[o], 1)) { stride[o--] = dim_const(c, 0); continue; }
        while (i >= 0 && dim_is(c, in->dim[i], 1)) i--;
        if (i < 0) return false;
        /* Grow both runs until the products agree. */
        int i0 = i, o0 = o;
        Dim pi = in->dim[i], po = to[o];
        while (!dim_same(c, pi, po)) {
            int64_t a, b;
            bool ca = dim_is_const(c, pi, &a), cb = dim_is_const(c, po, &b), grow_in;
            if (ca && cb) grow_in = a < b;
            else if (i0 > 0 && dim_divisible(c, po, ca ? a : 1) && o0 == 0) grow_in = true;
            else if (o0 > 0 && i0 == 0) grow_in = false;
            else grow_in = i - i0 <= o - o0;
            if (grow_in ? i0 == 0 : o0 == 0) grow_in = !grow_in;
            if (grow_in ? i0 == 0 : o0 == 0) return false;
            if (grow_in) {
                i0--;
                if (!dim_is(c, in->dim[i0], 1)) pi = dim_mul(c, pi, in->dim[i0]);
            } else {
                o0--;
                po = dim_mul(c, po, to[o0]);
            }
        }
        Dim walk = in->stride[i], below = in->dim[i], s = walk;
        for (int d = i - 1; d >= i0; d--) { /* the run of the input must be contiguous over its innermost stride */
            if (dim_is(c, in->dim[d], 1)) continue;
            if (!dim_same(c, in->stride[d], dim_mul(c, walk, below))) return false;
            below = dim_mul(c, below, in->dim[d]);
        }
        for (int d = o; d >= o0; d--) {
            stride[d] = dim_is(c, to[d], 1) ? dim_const(c, 0) : s;
            s = dim_mul(c, s, to[d]);
        }
        i = i0 - 1;
        o = o0 - 1;
    }
    return true;
}

bool strides_view(Ctx *c, const Graph *g, const Node *n, const Strides *in, Strides *out) {
    const Type *t = val_type(g, n->out[0]);
    *out = (Strides){.rank = t->rank, .offset = in->offset};
    for (int d = 0; d < t->rank; d++) out->dim[d] = t->dim[d];
    switch ((PrimOp)n->op) {
    case P_RESHAPE: return restride(c, in, t->rank, t->dim, out->stride);
    case P_PERMUTE: {
        const PermAttr *a = n->attr;
        for (int d = 0; d < t->rank; d++) out->stride[d] = in->stride[a->perm[d]];
        return true;
    }
    case P_BROADCAST: {
        int skip = t->rank - in->rank;
        for (int d = 0; d < t->rank; d++) {
            if (d < skip || dim_is(c, in->dim[d - skip], 1)) out->stride[d] = dim_const(c, 0);
            else if (dim_same(c, in->dim[d - skip], t->dim[d])) out->stride[d] = in->stride[d - skip];
            else return false;
        }
        return true;
    }
    case P_SLICE: {
        const SliceAttr *a = n->attr;
        for (int d = 0; d < t->rank; d++) {
            out->stride[d] = dim_muli(c, in->stride[d], a->step[d]);
            out->offset = dim_add(c, out->offset, dim_mul(c, a->start[d], in->stride[d]));
        }
        return true;
    }
    case P_WINDOW: {
        const WindowAttr *a = n->attr;
        for (int d = 0; d < in->rank; d++) out->stride[d] = in->stride[d];
        for (int j = 0; j < a->n; j++) {
            out->stride[a->axis[j]] = dim_muli(c, in->stride[a->axis[j]], a->stride[j]);
            out->stride[in->rank + j] = dim_muli(c, in->stride[a->axis[j]], a->dilation[j]);
        }
        return true;
    }
    case P_COPY:
        for (int d = 0; d < t->rank; d++) out->stride[d] = in->stride[d];
        return true;
    default: return false;
    }
}

bool strides_unview(Ctx *c, const Graph *g, const Node *n, const Strides *out, Strides *in) {
    const Type *t = val_type(g, n->in[0]);
    *in = (Strides){.rank = t->rank, .offset = out->offset};
    for (int d = 0; d < t->rank; d++) in->dim[d] = t->dim[d];
    if (n->op == P_RESHAPE) return restride(c, out, t->rank, t->dim, in->stride);
    if (n->op == P_COPY) for (int d = 0; d < t->rank; d++) in->stride[d] = out->stride[d];
    if (n->op != P_PERMUTE) return n->op == P_COPY;
    const PermAttr *a = n->attr;
    for (int d = 0; d < t->rank; d++) in->stride[a->perm[d]] = out->stride[d];
    return true;
}
