/* op_index.c: operators that address elements by values: gathers (maps with a load), scatters, and those whose result's size
 * depends on the data (the size is bound at run time, the storage is at its upper bound). Negative indices count from
 * the end: maps resolve them here, `gather` and `scatter` do themselves. Others out of range end the run with a message. */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(gather); FN(gatherelements); FN(gathernd); FN(scatterelements); FN(scatternd); FN(onehot); FN(topk); FN(nonzero);
FN(compress); FN(tensorscatter);

void imp_gather(Imp *m)
{
    int axis, r = rank_of(m, m->in[0]);
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    if (r + rank_of(m, m->in[1]) - 1 > MAX_RANK) {
        UNSUP(m, "rank %d (at most %d)", r + rank_of(m, m->in[1]) - 1, MAX_RANK);
        return;
    }
    result(m, 0, b_gather(&m->b, m->in[0], m->in[1], axis, OOB_FAIL));
}

/* y[i..] = x[i0, .., idx[i..], ..] */
void imp_gatherelements(Imp *m)
{
    Val in[2] = {m->in[0], cast_to(m, m->in[1], DT_I64)};
    int axis, r = rank_of(m, in[0]);
    Dim d[MAX_RANK];
    Expr idx[MAX_RANK];
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    if (rank_of(m, in[1]) != r) {
        ERR(m, "E0203", "data of rank %d, indices of rank %d", r, rank_of(m, in[1]));
        return;
    }
    dims_of(m, in[1], d);
    for (int i = 0; i < r; i++)
        idx[i] = xaxis(m, i);
    idx[axis] = wrap_index(m, xarg(m, 1, DT_I64), dim_of(m, in[0], axis));
    result(m, 0, map_over(m, load_at(m, 0, dtype_of(m, in[0]), r, idx), 2, in, r, d));
}

/* y[b.., i.., rest..] = x[b.., idx[b.., i.., :].., rest..] */
void imp_gathernd(Imp *m)
{
    Val in[2] = {m->in[0], m->in[1]};
    int r = rank_of(m, in[0]), q = rank_of(m, in[1]), n = 0;
    int64_t k, batch = attr_i(m, "batch_dims");
    Dim xd[MAX_RANK], id[MAX_RANK], d[MAX_RANK];
    Expr idx[MAX_RANK], at[MAX_RANK];
    if (batch < 0 || batch >= r || batch >= q) {
        ERR(m, "E0202", "attribute batch_dims: %lld with ranks %d and %d", (long long)batch, r, q);
        return;
    }
    dims_of(m, in[0], xd);
    dims_of(m, in[1], id);
    if (!dim_is_const(m->c, id[q - 1], &k)) { /* the declared rank tells: q - 1 + r - batch - k */
        int hint = hint_rank(m, 0);
        k = q - 1 + r - batch - hint;
        if (hint < 0 || k < 1 || k > r - batch) {
            UNSUP(m, "the length of the index tuples is known only at run time" DECLARE_IT);
            return;
        }
        b_guard(&m->b, G_EQ, id[q - 1], DC(m, k), "index tuples must have %lld elements", (long long)k);
    }
    if (k < 1 || k > r - batch || q - 1 + r - batch - k > MAX_RANK) {
        ERR(m, "E0203", "index tuples of %lld elements for rank %d with %lld batch axes", (long long)k, r,
            (long long)batch);
        return;
    }
    for (int i = 0; i < q - 1; i++) {
        if (i < batch)
            b_guard(&m->b, G_EQ, id[i], xd[i], "batch axis %d of data and indices differ", i);
        at[i] = xaxis(m, i);
        d[n++] = id[i];
    }
    for (int i = 0; i < r; i++) {
        if (i < batch) {
            idx[i] = xaxis(m, i);
        } else if (i < batch + k) {
            at[q - 1] = XI(i - batch);
            idx[i] = wrap_index(m, load_at(m, 1, DT_I64, q, at), xd[i]);
        } else {
            idx[i] = xaxis(m, n);
            d[n++] = xd[i];
        }
    }
    result(m, 0, map_over(m, load_at(m, 0, dtype_of(m, in[0]), r, idx), 2, in, n, d));
}

/* ---- scatters */

static ScatterMode scatter_mode(Imp *m)
{
    static const char *const names[] = {[SC_SET] = "none", [SC_ADD] = "add", [SC_MUL] = "mul", [SC_MIN] = "min",
                                        [SC_MAX] = "max"};
    for (int i = 0; i < 5 && row_has_attr(m->row, "reduction"); i++)
        if (attr_is(m, "reduction", names[i]))
            return (ScatterMode)i;
    return SC_SET;
}

void imp_scatterelements(Imp *m)
{
    ScatterAttr a = {.mode = scatter_mode(m), .elements = true};
    Val idx = cast_to(m, m->in[1], DT_I64);
    int axis, r = rank_of(m, m->in[0]);
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    if (rank_of(m, idx) != r || rank_of(m, m->in[2]) != r) {
        ERR(m, "E0203", "data of rank %d, indices of rank %d, updates of rank %d", r, rank_of(m, idx),
            rank_of(m, m->in[2]));
        return;
    }
    a.axis = (uint8_t)axis;
    result(m, 0, b_scatter(&m->b, m->in[0], idx, m->in[2], &a));
}

void imp_scatternd(Imp *m)
{
    ScatterAttr a = {.mode = scatter_mode(m)};
    Val idx = m->in[1];
    int r = rank_of(m, m->in[0]), q = rank_of(m, idx);
    int64_t k;
    Dim d[MAX_RANK];
    if (!q) {
        ERR(m, "E0203", "indices must not be a scalar");
        return;
    }
    dims_of(m, idx, d);
    if (!dim_is_const(m->c, d[q - 1], &k)) { /* rank(updates) = q - 1 + r - k */
        k = q - 1 + r - rank_of(m, m->in[2]);
        if (k >= 1 && k <= r) {
            b_guard(&m->b, G_EQ, d[q - 1], DC(m, k), "index tuples must have %lld elements", (long long)k);
            d[q - 1] = DC(m, k);
            idx = b_slice_axis(&m->b, idx, q - 1, DC(m, 0), d[q - 1]);
        }
    }
    if (k < 1 || k > r || rank_of(m, m->in[2]) != q - 1 + r - k) {
        ERR(m, "E0203", "data of rank %d, indices of rank %d with tuples of %lld, updates of rank %d", r, q,
            (long long)k, rank_of(m, m->in[2]));
        return;
    }
    result(m, 0, b_scatter(&m->b, m->in[0], idx, m->in[2], &a));
}

/* present[b, .., s, ..] = update at s - write[b] if that is inside (modulo the size if circular), else past */
void imp_tensorscatter(Imp *m)
{
    Val in[3] = {m->in[0], m->in[1], operand(m, 2)};
    int axis, r = rank_of(m, in[0]), n = in[2].i ? 3 : 2;
    Dim d[MAX_RANK];
    Expr idx[MAX_RANK], b = xaxis(m, 0);
    DType t = dtype_of(m, in[0]);
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    if (!axis || rank_of(m, in[1]) != r) {
        ERR(m, "E0203", "axis %d, cache of rank %d, update of rank %d", axis, r, rank_of(m, in[1]));
        return;
    }
    dims_of(m, in[0], d);
    Dim len = dim_of(m, in[1], axis);
    b_guard(&m->b, G_LE, len, d[axis], "the update is longer than the cache");
    for (int i = 0; i < r; i++)
        if (i != axis)
            b_guard(&m->b, G_EQ, dim_of(m, in[1], i), d[i], "axis %d of cache and update differ", i);
    if (n == 3 && !attr_is(m, "mode", "circular")) {
        Expr at = xarg(m, 0, DT_I64), fits = X2(AND, X2(GE, at, XI(0)), X2(LE, at, xdim(m, dim_sub(m->c, d[axis], len))));
        b_guard_val(&m->b, b_map1(&m->b, fits, 1, &in[2]), "write_indices: the update does not fit the cache");
    }
    Expr off = n == 3 ? load_at(m, 2, DT_I64, 1, &b) : XI(0), p = X2(SUB, xaxis(m, axis), off);
    if (attr_is(m, "mode", "circular"))
        p = X2(MOD, p, xdim(m, d[axis]));
    for (int i = 0; i < r; i++)
        idx[i] = i == axis ? p : xaxis(m, i);
    Expr e = expr_load(m->c, 1, t, r, idx, OOB_VALUE, xarg(m, 0, t), 0);
    result(m, 0, map_over(m, e, n, in, r, d));
}

/* ---- OneHot, TopK */

/* values[1] where the coordinate along the new axis is the index, else values[0] */
void imp_onehot(Imp *m)
{
    Val in[2] = {cast_to(m, m->in[0], DT_I64), m->in[2]};
    int axis, r = rank_of(m, in[0]);
    DType t = dtype_of(m, in[1]);
    Dim depth, d[MAX_RANK], id[MAX_RANK];
    Expr one[1] = {XI(1)}, zero[1] = {XI(0)};
    if (r + 1 > MAX_RANK || !axis_ok(m, attr_i(m, "axis"), r + 1, &axis))
        return;
    if (rank_of(m, in[1]) != 1 || dim_differ(m->c, dim_of(m, in[1], 0), DC(m, 2))) {
        ERR(m, "E0203", "values: expected two elements");
        return;
    }
    b_guard(&m->b, G_EQ, dim_of(m, in[1], 0), DC(m, 2), "values: expected two elements");
    if (!operand_dim(m, cast_to(m, m->in[1], DT_I64), "depth", 0, DIM_INF, &depth))
        return;
    dims_of(m, in[0], id);
    for (int i = 0; i <= r; i++)
        d[i] = i == axis ? depth : id[i - (i > axis)];
    in[0] = insert_axes(m, in[0], r + 1, 1u << axis);
    Expr hit = X2(EQ, wrap_index(m, xarg(m, 0, DT_I64), depth), xaxis(m, axis));
    Expr e = X3(SELECT, hit, load_at(m, 1, t, 1, one), load_at(m, 1, t, 1, zero));
    result(m, 0, map_over(m, e, 2, in, r + 1, d));
}

void imp_topk(Imp *m)
{
    Val x = m->in[0], v = {0}, i = {0};
    int axis;
    TopkAttr a = {.largest = true, .sorted = true};
    if (!axis_ok(m, attr_i(m, "axis"), rank_of(m, x), &axis))
        return;
    a.axis = (uint8_t)axis;
    if (row_has_attr(m->row, "largest")) {
        a.largest = attr_i(m, "largest") != 0;
        a.sorted = attr_i(m, "sorted") != 0;
    }
    if (row_has_attr(m->row, "k"))
        a.k = DC(m, attr_i(m, "k"));
    else if (!operand_dim(m, m->in[1], "k", 0, DIM_INF, &a.k))
        return;
    if (dim_hi(m->c, a.k) < 0) {
        ERR(m, "E0202", "k is negative");
        return;
    }
    b_guard(&m->b, G_LE, a.k, dim_of(m, x, axis), "k is greater than the size of axis %d", axis);
    b_topk(&m->b, x, &a, &v, &i);
    result(m, 0, v);
    result(m, 1, i);
}

/* ---- results whose size the data decide */

/* The positions (i64[count]) where the vector `mask` is true; count is bound at run time. */
static Val positions_of(Imp *m, Val mask, Dim bound, Dim *count)
{
    Val idx, n;
    b_compact(&m->b, mask, bound, &idx, &n);
    if (!idx.i)
        return idx;
    *count = b_bind(&m->b, n, 0, "count", 0, dim_hi(m->c, bound));
    return b_slice_axis(&m->b, idx, 0, DC(m, 0), *count);
}

/* coordinates of the non-zero elements, [rank, count] */
void imp_nonzero(Imp *m)
{
    Val x = m->in[0];
    const Type t = *val_type(m->b.g, x);
    DType dt = (DType)t.dtype;
    int r = t.rank;
    Dim d[MAX_RANK], n = type_count(m->c, &t), count;
    dims_of(m, x, d);
    Expr e = dt == DT_BOOL ? xarg(m, 0, dt) : X2(NE, xarg(m, 0, dt), expr_int(m->c, dt, 0));
    Val mask = reshape_to(m, map_over(m, e, 1, &x, r, d), 1, &n);
    Val idx = positions_of(m, mask, n, &count);
    if (!idx.i)
        return;
    /* coordinate k: flat / (product of the dims behind) mod d[k] */
    Expr flat = xarg(m, 0, DT_I64), pick = XI(0);
    for (int k = r - 1; k >= 0; k--) {
        Expr c = X2(MOD, X2(FDIV, flat, xdim(m, count_of(m, d + k + 1, r - k - 1))), xdim(m, d[k]));
        pick = k == r - 1 ? c : X3(SELECT, X2(EQ, xaxis(m, 0), XI(k)), c, pick);
    }
    result(m, 0, map_over(m, pick, 1, &idx, 2, (Dim[]){DC(m, r), count}));
}

/* the slices along `axis` (or elements of the flattened operand) where the condition holds */
void imp_compress(Imp *m)
{
    Val x = m->in[0], cond = m->in[1];
    const Type t = *val_type(m->b.g, x);
    int axis = 0;
    Dim count, n = type_count(m->c, &t);
    if (rank_of(m, cond) != 1) {
        ERR(m, "E0203", "condition: expected one dimension, got rank %d", rank_of(m, cond));
        return;
    }
    if (!attr_has(m, "axis"))
        x = reshape_to(m, x, 1, &n);
    else if (!axis_ok(m, attr_i(m, "axis"), t.rank, &axis))
        return;
    Dim len = dim_min(m->c, dim_of(m, cond, 0), dim_of(m, x, axis)); /* what is more than the axis has is ignored */
    Val idx = positions_of(m, b_slice_axis(&m->b, cond, 0, DC(m, 0), len), len, &count);
    if (idx.i)
        result(m, 0, b_gather(&m->b, x, idx, axis, OOB_FAIL));
}
