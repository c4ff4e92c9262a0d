/* build_view.c: the builder's movement primitives: reshape, permute, broadcast, slice, pad, concat, window, gather, ...
 *
 * Views of views become one view, views that change nothing vanish. What must hold at run time and is not provable
 * (counts of a reshape, bounds of a slice) gets a guard here, so that codegen may rely on it. */
#include "build_internal.h"
#include <string.h>

static const Type *tensor(B *b, Val v) {
    const Type *t = val_type(b->g, v);
    return v.i && t->kind == TY_TENSOR ? t : NULL;
}

static const Node *made_by(B *b, Val v, PrimOp op) {
    const Node *n = val_def(b->g, v);
    return n && n->op == op ? n : NULL;
}

static bool rank_ok(B *b, int rank) {
    if (rank >= 0 && rank <= MAX_RANK) return true;
    BERR(b, "E0302", "a value of rank %d (the limit is %d)", rank, MAX_RANK);
    return false;
}

bool window_of_ones(Ctx *c, const WindowAttr *a) {
    for (int k = 0; k < a->n; k++)
        if (!dim_is(c, a->size[k], 1) || a->stride[k] != 1) return false;
    return true;
}

/* What only gives v other dims. */
static const Node *reshaped_by(B *b, Val v) {
    const Node *n = made_by(b, v, P_WINDOW);
    return n && window_of_ones(b->c, n->attr) ? n : made_by(b, v, P_RESHAPE);
}

/* Not a view: tensors only. Other kinds go on so that infer reports them. */
Val b_reshape(B *b, Val v, int rank, const Dim *dim) {
    if (!v.i || !rank_ok(b, rank)) return (Val){0};
    const Type *t = tensor(b, v);
    DimsAttr a = {(uint8_t)rank, b_copy_dims(b, dim, rank)};
    if (!t) return b_emit1(b, P_RESHAPE, 1, &v, &a);
    if (b_same_dims(b, t, rank, dim)) return v;
    for (int d = 0; d < rank; d++) {
        if (!dim[d].i) return (Val){0};
        b_guard(b, G_LE, dim_const(b->c, 0), dim[d], "reshape to a negative size %s", dim_text(b->c, dim[d]));
    }
    Type to = type_tensor(b->c, (DType)t->dtype, rank, dim);
    Dim from_n = type_count(b->c, t), to_n = type_count(b->c, &to);
    Type out;
    if (!from_n.i || !to_n.i || !infer(b->g, P_RESHAPE, 1, &v, &a, 1, &out, b->loc)) return (Val){0};
    const char *was = type_text(b->c, t), *is = type_text(b->c, &to), *n_is = dim_text(b->c, to_n);
    if (strlen(is) + strlen(n_is) > 120) is = "these sizes", n_is = "theirs"; /* computed ones, of no use to a reader */
    b_guard(b, G_EQ, from_n, to_n, "cannot reshape %s to %s: %s elements against %s", was, is, dim_text(b->c, from_n), n_is);
    const Node *n;
    while ((n = reshaped_by(b, v))) v = graph_resolve(b->g, n->in[0]);
    if (b_same_dims(b, val_type(b->g, v), rank, dim)) return v;
    n = made_by(b, v, P_CONST);
    if (n && (type_const_dims(b->c, &to, NEWN(b->c, int64_t, rank + 1)) || ((const ConstAttr *)n->attr)->data->splat)) {
        return b_const(b, ((const ConstAttr *)n->attr)->data, to);
    }
    return b_emit1(b, P_RESHAPE, 1, &v, &a);
}

Val b_permute(B *b, Val v, const int *perm) {
    const Type *t = tensor(b, v);
    if (!t) return (Val){0};
    PermAttr a = {{0}};
    for (int d = 0; d < t->rank; d++) a.perm[d] = perm[d] >= 0 && perm[d] < t->rank ? (uint8_t)perm[d] : MAX_RANK;
    const Node *n;
    bool valid = true;
    for (int d = 0; d < t->rank; d++) valid &= a.perm[d] < t->rank;
    while (valid && (n = made_by(b, v, P_PERMUTE))) {
        const PermAttr *inner = n->attr;
        for (int d = 0; d < t->rank; d++) a.perm[d] = inner->perm[a.perm[d]];
        v = graph_resolve(b->g, n->in[0]);
    }
    bool identity = true;
    for (int d = 0; d < t->rank; d++) identity &= a.perm[d] == d;
    return identity ? v : b_emit1(b, P_PERMUTE, 1, &v, &a);
}

Val b_broadcast(B *b, Val v, int rank, const Dim *dim) {
    if (!v.i || !rank_ok(b, rank)) return (Val){0};
    const Type *t = tensor(b, v);
    DimsAttr a = {(uint8_t)rank, b_copy_dims(b, dim, rank)};
    if (t && b_same_dims(b, t, rank, dim)) return v;
    for (int d = 0; t && t->rank <= rank && d < t->rank; d++) b_guard_fits(b, t->dim[d], dim[rank - t->rank + d], "broadcast");
    const Node *n;
    while ((n = made_by(b, v, P_BROADCAST)) && val_type(b->g, v)->rank <= rank) v = graph_resolve(b->g, n->in[0]);
    if (b_same_dims(b, val_type(b->g, v), rank, dim)) return v;
    return b_emit1(b, P_BROADCAST, 1, &v, &a);
}

/* start + i*step for 0 <= i < size lies in an axis of that length; a slice of nothing may begin anywhere at its end. */
static void guard_slice(B *b, int axis, Dim start, int64_t step, Dim size, Dim whole) {
    Ctx *c = b->c;
    if (!start.i || !size.i || dim_is(c, size, 0)) return;
    if (dim_is(c, start, 0) && step == 1 && dim_same(c, size, whole)) return;
    Dim last = dim_add(c, start, dim_muli(c, dim_addi(c, size, -1), step));
    Dim low = step > 0 ? start : last, end = dim_addi(c, step > 0 ? last : start, 1);
    const char *span = ctx_printf(c, "slice of axis %d: %s elements from %s by %lld, of %s", axis, dim_text(c, size),
                                  dim_text(c, start), (long long)step, dim_text(c, whole));
    b_guard(b, G_LE, dim_const(c, 0), size, "%s", span);
    b_guard(b, G_LE, dim_const(c, 0), low, "%s", span);
    b_guard(b, G_LE, end, whole, "%s", span);
}

Val b_slice(B *b, Val v, const Dim *start, const int64_t *step, const Dim *size) {
    const Type *t = tensor(b, v);
    if (!t) return (Val){0};
    bool whole = true;
    for (int d = 0; d < t->rank; d++) {
        whole &= dim_is(b->c, start[d], 0) && (!step || step[d] == 1) && dim_same(b->c, size[d], t->dim[d]);
    }
    if (whole) return v;
    int64_t *by = NEWN(b->c, int64_t, t->rank + 1);
    for (int d = 0; d < t->rank; d++) by[d] = step ? step[d] : 1;
    SliceAttr a = {b_copy_dims(b, start, t->rank), by, b_copy_dims(b, size, t->rank)};
    Type out;
    if (!infer(b->g, P_SLICE, 1, &v, &a, 1, &out, b->loc)) return (Val){0};
    for (int d = 0; d < t->rank; d++) guard_slice(b, d, start[d], by[d], size[d], t->dim[d]);
    return b_emit1(b, P_SLICE, 1, &v, &a);
}

Val b_slice_axis(B *b, Val v, int axis, Dim start, Dim size) {
    const Type *t = tensor(b, v);
    Dim from[MAX_RANK], n[MAX_RANK];
    if (!t) return (Val){0};
    if (axis < 0 || axis >= t->rank) {
        BERR(b, "E0305", "slice: axis %d of %s", axis, type_text(b->c, t));
        return (Val){0};
    }
    for (int d = 0; d < t->rank; d++) {
        from[d] = d == axis ? start : dim_const(b->c, 0);
        n[d] = d == axis ? size : t->dim[d];
    }
    return b_slice(b, v, from, NULL, n);
}

Val b_pad(B *b, Val v, const Dim *lo, const Dim *hi, const int64_t *interior, PadMode mode, Scalar value, Val valop) {
    const Type *t = tensor(b, v);
    if (!t) return (Val){0};
    bool nothing = true;
    for (int d = 0; d < t->rank; d++) {
        nothing &= dim_is(b->c, lo[d], 0) && dim_is(b->c, hi[d], 0) && !(interior && interior[d]);
    }
    if (nothing) return v;
    if (valop.i && val_type(b->g, valop)->rank == 0 && val_scalar(b->g, valop, &value)) valop = (Val){0};
    PadAttr a = {b_copy_dims(b, lo, t->rank), b_copy_dims(b, hi, t->rank), NULL, mode, value};
    if (interior) a.interior = ctx_dup(b->c, interior, sizeof *interior * (size_t)(t->rank ? t->rank : 1));
    Val in[2] = {v, valop};
    Type out;
    if (!infer(b->g, P_PAD, valop.i ? 2 : 1, in, &a, 1, &out, b->loc)) return (Val){0};
    for (int d = 0; d < t->rank; d++) {
        Dim zero = dim_const(b->c, 0);
        b_guard(b, G_LE, zero, lo[d], "pad: negative padding along axis %d", d);
        b_guard(b, G_LE, zero, hi[d], "pad: negative padding along axis %d", d);
        bool copies = mode != PAD_VALUE && !(dim_is(b->c, lo[d], 0) && dim_is(b->c, hi[d], 0));
        if (copies) b_guard(b, G_LT, zero, t->dim[d], "pad: axis %d is empty, there is nothing to repeat", d);
    }
    return b_emit1(b, P_PAD, valop.i ? 2 : 1, in, &a);
}

/* Sizes that must agree: one guard each where that is not known. */
static void guard_equal(B *b, Dim x, Dim y, const char *what, int axis) {
    if (!x.i || !y.i || dim_same(b->c, x, y)) return;
    b_guard(b, G_EQ, x, y, "%s: sizes %s and %s of axis %d differ", what, dim_text(b->c, x), dim_text(b->c, y), axis);
}

Val b_concat(B *b, int n, const Val *in, int axis) {
    for (int k = 0; k < n; k++) {
        if (!in[k].i) return (Val){0};
    }
    if (n == 1) return in[0];
    AxisAttr a = {(uint8_t)axis};
    Val *kept = NEWN(b->c, Val, n + 1);
    int m = 0;
    Type out;
    if (n > 0 && (axis < 0 || axis >= MAX_RANK)) a.axis = MAX_RANK;
    if (!infer(b->g, P_CONCAT, n, in, &a, 1, &out, b->loc)) return (Val){0};
    const Type *first = val_type(b->g, in[0]);
    for (int k = 0; k < n; k++) {
        const Type *t = val_type(b->g, in[k]);
        for (int d = 0; d < t->rank; d++) {
            if (d != axis) guard_equal(b, first->dim[d], t->dim[d], "concat", d);
        }
        if (!dim_is(b->c, t->dim[axis], 0)) kept[m++] = in[k]; /* empty ones add nothing */
    }
    if (m == 0) return in[0];
    return m == 1 ? kept[0] : b_emit1(b, P_CONCAT, m, kept, &a);
}

Val b_window(B *b, Val v, const WindowAttr *a) {
    const Type *t = tensor(b, v);
    if (!t) return (Val){0};
    if (a->n == 0) return v;
    Type out;
    if (!infer(b->g, P_WINDOW, 1, &v, a, 1, &out, b->loc)) return (Val){0};
    for (int k = 0; k < a->n; k++) {
        Dim size = a->size[k], whole = t->dim[a->axis[k]];
        b_guard(b, G_LE, dim_const(b->c, 1), size, "window of size %s", dim_text(b->c, size));
        Dim reach = dim_addi(b->c, dim_muli(b->c, dim_addi(b->c, size, -1), a->dilation[k]), 1);
        if (!dim_is(b->c, reach, 1)) b_guard(b, G_LE, reach, whole, "a window of %s over axis %d of size %s", dim_text(b->c, reach), a->axis[k],
                dim_text(b->c, whole));
    }
    return b_emit1(b, P_WINDOW, 1, &v, a);
}

Val b_gather(B *b, Val x, Val idx, int axis, Oob oob) {
    if (axis < 0 || axis >= MAX_RANK) axis = MAX_RANK;
    GatherAttr a = {(uint8_t)axis, oob};
    return b_emit1(b, P_GATHER, 2, (Val[]){x, idx}, &a);
}

Val b_scatter(B *b, Val x, Val idx, Val upd, const ScatterAttr *a) {
    Val in[3] = {x, idx, upd};
    Type out;
    if (!x.i || !idx.i || !upd.i || !infer(b->g, P_SCATTER, 3, in, a, 1, &out, b->loc)) return (Val){0};
    const Type *t = val_type(b->g, x), *i = val_type(b->g, idx), *u = val_type(b->g, upd);
    int lead = a->elements ? i->rank : i->rank - 1;
    for (int d = 0; d < u->rank; d++) {
        guard_equal(b, d < lead ? i->dim[d] : t->dim[t->rank - u->rank + d], u->dim[d], "scatter: updates", d);
    }
    return b_emit1(b, P_SCATTER, 3, in, a);
}

Val b_update(B *b, Val x, Val part, const Dim *start) {
    const Type *t = tensor(b, x), *p = tensor(b, part);
    if (!t || !p) return (Val){0};
    int64_t *step = NEWN(b->c, int64_t, t->rank + 1);
    for (int d = 0; d < t->rank; d++) step[d] = 1;
    SliceAttr a = {b_copy_dims(b, start, t->rank), step, p->rank == t->rank ? p->dim : NULL};
    Val in[2] = {x, part};
    Type out;
    if (!infer(b->g, P_UPDATE, 2, in, &a, 1, &out, b->loc)) return (Val){0};
    bool whole = true;
    for (int d = 0; d < t->rank; d++) {
        whole &= dim_is(b->c, start[d], 0) && dim_same(b->c, p->dim[d], t->dim[d]);
        guard_slice(b, d, start[d], 1, p->dim[d], t->dim[d]);
    }
    return whole ? part : b_emit1(b, P_UPDATE, 2, in, &a);
}

void b_sort(B *b, int n, const Val *in, const SortAttr *a, Val *out) {
    Type *t = NEWN(b->c, Type, n + 1);
    for (int k = 0; k < n; k++) out[k] = (Val){0};
    if (!infer(b->g, P_SORT, n, in, a, n, t, b->loc)) return;
    for (int k = 1; k < n; k++) {
        for (int d = 0; d < t[0].rank; d++) guard_equal(b, t[0].dim[d], t[k].dim[d], "sort", d);
    }
    b_emit(b, P_SORT, n, in, a, n, out);
}

void b_topk(B *b, Val v, const TopkAttr *a, Val *values, Val *indices) {
    Type t[2];
    Val out[2];
    *values = *indices = (Val){0};
    if (!v.i || !infer(b->g, P_TOPK, 1, &v, a, 2, t, b->loc)) return;
    Dim whole = val_type(b->g, v)->dim[a->axis];
    b_guard(b, G_LE, dim_const(b->c, 0), a->k, "topk: k is negative");
    b_guard(b, G_LE, a->k, whole, "topk: k is %s, axis %d has size %s", dim_text(b->c, a->k), a->axis,
            dim_text(b->c, whole));
    if (!b_emit(b, P_TOPK, 1, &v, a, 2, out)) return;
    *values = out[0];
    *indices = out[1];
}

void b_compact(B *b, Val mask, Dim bound, Val *indices, Val *count) {
    CompactAttr a = {bound};
    Val out[2];
    *indices = *count = (Val){0};
    if (!b_emit(b, P_COMPACT, 1, &mask, &a, 2, out)) return;
    *indices = out[0];
    *count = out[1];
}
