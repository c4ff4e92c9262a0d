/* eval_index.c: gather, scatter, sort, topk, compact: primitives whose addresses come from data.
 *
 * Negative indices count from the end. Sorting is stable; NaN is greater than every number and
 * equal to itself, so the order of a lane is total. */
#include "eval_internal.h"
#include <stdlib.h>
#include <string.h>

static bool index_type(Ev *e, const EVal *v) {
    bool ok = v->kind == TY_TENSOR && (dt_is_int(v->dtype) || v->dtype == DT_BOOL);
    return ok || ev_fail(e, "E0805", "indices are not integers");
}

static bool tensors(Ev *e, const Node *n, EVal *const *in) {
    for (unsigned k = 0; k < n->nin; k++) {
        if (in[k]->kind != TY_TENSOR) return ev_fail(e, "E0805", "operand %u is no tensor", k);
    }
    return true;
}

/* ==== gather ================================================================================= */

/* The index to read, -1 for "a zero"; false after a message. */
static bool resolve(Ev *e, Oob oob, int64_t i, int64_t size, int64_t *at) {
    int64_t k = i < 0 ? i + size : i;
    if (k >= 0 && k < size) *at = k;
    else if (oob == OOB_VALUE || oob == OOB_DROP) *at = -1;
    else if (oob == OOB_CLAMP && size) *at = k < 0 ? 0 : size - 1;
    else
        return ev_fail(e, "E0803", "index %lld is out of range for an axis of size %lld",
                       (long long)i, (long long)size);
    return true;
}

bool ev_gather(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const GatherAttr *a = n->attr;
    if (!tensors(e, n, in) || !index_type(e, in[1])) return false;
    int axis = a->axis, ri = in[1]->rank, rank = in[0]->rank - 1 + ri;
    if (axis >= in[0]->rank || rank > MAX_RANK)
        return ev_fail(e, "E0805", "gather along axis %d", axis);
    int64_t dim[MAX_RANK], outer = 1, inner = 1;
    for (int d = 0; d < axis; d++) outer *= dim[d] = in[0]->dim[d];
    for (int d = 0; d < ri; d++) dim[axis + d] = in[1]->dim[d];
    for (int d = axis + 1; d < in[0]->rank; d++) inner *= dim[ri - 1 + d] = in[0]->dim[d];
    EVal *x = ev_dense(e, in[0]), *idx = ev_dense(e, in[1]),
         *y = ev_new(e, in[0]->dtype, rank, dim);
    out[0] = y;
    int64_t count = idx ? ev_count(idx) : 0, size = in[0]->dim[axis];
    int64_t bytes = inner * ev_width(in[0]->dtype), *at = ev_tmp(e, count, sizeof *at);
    bool ok = x && idx && y && at;
    const bool reads = outer && bytes; /* a result without elements has no index that counts */
    for (int64_t i = 0; ok && reads && i < count; i++)
        ok = resolve(e, (Oob)a->oob, ev_int(idx, i), size, &at[i]);
    for (int64_t o = 0; ok && reads && o < outer; o++) {
        char *to = y->base + o * count * bytes;
        const char *from = x->base + o * size * bytes;
        for (int64_t i = 0; i < count; i++, to += bytes) {
            if (at[i] >= 0) memcpy(to, from + at[i] * bytes, (size_t)bytes);
            else memset(to, 0, (size_t)bytes);
        }
    }
    free(at);
    ev_unref(e, x);
    ev_unref(e, idx);
    return ok;
}

/* ==== scatter ================================================================================ */

static void combine(ScatterMode mode, DType t, char *to, const char *from, int64_t n) {
    int width = ev_width(t);
    if (mode == SC_SET) {
        memcpy(to, from, (size_t)(n * width));
        return;
    }
    static const uint8_t op[] = {
        [SC_ADD] = S_ADD, [SC_MUL] = S_MUL, [SC_MIN] = S_MIN, [SC_MAX] = S_MAX};
    for (int64_t i = 0; i < n; i++) {
        Cell c[2];
        cells_load(t, &c[0], to + i * width, 1, 1);
        cells_load(t, &c[1], from + i * width, 1, 1);
        Scalar arg[3] = {cell_scalar(t, c[0]), cell_scalar(t, c[1]), {.t = t}};
        c[0] = cell_of(expr_eval_op((SOp)op[mode], t, arg));
        cells_store(t, to + i * width, 1, &c[0], 1);
    }
}

/* y[idx[u, 0..q-1], rest] := upd[u, rest] */
static bool scatter_nd(Ev *e, ScatterMode mode, EVal *y, const EVal *idx, const EVal *upd) {
    if (!idx->rank) return ev_fail(e, "E0805", "scatter needs indices of rank 1 or more");
    int64_t q = idx->dim[idx->rank - 1], inner = 1, lists = 1;
    if (q > y->rank || q < 0)
        return ev_fail(e, "E0805", "indices of %lld axes into rank %d", (long long)q, y->rank);
    for (int d = (int)q; d < y->rank; d++) inner *= y->dim[d];
    for (int d = 0; d < idx->rank - 1; d++) lists *= idx->dim[d];
    if (lists * inner != ev_count(upd))
        return ev_fail(e, "E0802", "updates do not fit the indices");
    if (!inner) return true;
    int width = ev_width(y->dtype);
    for (int64_t u = 0; u < lists; u++) {
        int64_t off = 0, k = 0;
        for (int d = 0; d < q; d++) {
            if (!resolve(e, OOB_FAIL, ev_int(idx, u * q + d), y->dim[d], &k)) return false;
            off += k * y->stride[d];
        }
        combine(mode, y->dtype, y->base + off * width, upd->base + u * inner * width, inner);
    }
    return true;
}

/* y[.., idx[p], ..] := upd[p] with idx in place of coordinate `axis` of p */
static bool scatter_elements(Ev *e, ScatterMode mode, int axis, EVal *y, const EVal *idx,
                             const EVal *upd) {
    bool fits = idx->rank == y->rank && upd->rank == y->rank && axis < y->rank;
    for (int d = 0; fits && d < y->rank; d++) {
        fits = idx->dim[d] == upd->dim[d] && (d == axis || idx->dim[d] <= y->dim[d]);
    }
    if (!fits) return ev_fail(e, "E0802", "indices and updates do not fit");
    int64_t count = ev_count(idx), coord[MAX_RANK] = {0};
    int width = ev_width(y->dtype);
    for (int64_t p = 0; p < count; p++) {
        int64_t off = 0, k = 0;
        if (!resolve(e, OOB_FAIL, ev_int(idx, p), y->dim[axis], &k)) return false;
        for (int d = 0; d < y->rank; d++) off += (d == axis ? k : coord[d]) * y->stride[d];
        combine(mode, y->dtype, y->base + off * width, upd->base + p * width, 1);
        for (int d = y->rank - 1; d >= 0 && ++coord[d] == idx->dim[d]; d--) coord[d] = 0;
    }
    return true;
}

bool ev_scatter(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const ScatterAttr *a = n->attr;
    if (!tensors(e, n, in) || !index_type(e, in[1])) return false;
    DType t = in[0]->dtype;
    if (in[2]->dtype != t) return ev_fail(e, "E0805", "updates of type %s", dt_name(in[2]->dtype));
    if (a->mode != SC_SET && !dt_is_float(t) && !dt_is_int(t) && t != DT_BOOL) {
        return ev_fail(e, "E0805", "scatter cannot combine %s", dt_name(t));
    }
    EVal *y = out[0] = ev_new(e, t, in[0]->rank, in[0]->dim), *upd = ev_dense(e, in[2]),
         *idx = ev_dense(e, in[1]);
    bool ok = y && upd && idx && (!ev_count(y) || ev_copy(e, in[0], y->base, y->stride));
    if (ok)
        ok = a->elements ? scatter_elements(e, a->mode, a->axis, y, idx, upd)
                         : scatter_nd(e, a->mode, y, idx, upd);
    ev_unref(e, upd);
    ev_unref(e, idx);
    return ok;
}

/* ==== sort, topk ============================================================================= */

typedef struct Str { const char *ptr; uint64_t len; } Str;
typedef struct Keys { const Cell *cell; DType type; } Keys;
typedef struct Order { const Keys *key; unsigned nkeys; bool descending; } Order;

static int compare_cells(DType t, Cell a, Cell b) {
    if (dt_is_float(t)) {
        if (a.f != a.f || b.f != b.f) return (a.f != a.f) - (b.f != b.f);
        return (a.f > b.f) - (a.f < b.f);
    }
    if (t == DT_U64) return ((uint64_t)a.i > (uint64_t)b.i) - ((uint64_t)a.i < (uint64_t)b.i);
    if (t != DT_STR) return (a.i > b.i) - (a.i < b.i);
    Str x, y;
    memcpy(&x, a.p, sizeof x);
    memcpy(&y, b.p, sizeof y);
    uint64_t n = x.len < y.len ? x.len : y.len;
    int c = n ? memcmp(x.ptr, y.ptr, n) : 0;
    return c ? c : (x.len > y.len) - (x.len < y.len);
}

static bool before(const Order *o, int64_t a, int64_t b) { /* must a stand before b, strictly? */
    for (unsigned k = 0; k < o->nkeys; k++) {
        int c = compare_cells(o->key[k].type, o->key[k].cell[a], o->key[k].cell[b]);
        if (c) return o->descending ? c > 0 : c < 0;
    }
    return false;
}

static void merge_sort(const Order *o, int64_t *x, int64_t *tmp, int64_t n) {
    for (int64_t w = 1; w < n; w *= 2) {
        for (int64_t lo = 0; lo + w < n; lo += 2 * w) {
            int64_t mid = lo + w, hi = mid + w < n ? mid + w : n, i = lo, j = mid;
            if (!before(o, x[mid], x[mid - 1])) continue;
            memcpy(tmp + lo, x + lo, sizeof *x * (size_t)(mid - lo));
            for (int64_t k = lo; i < mid; k++) {
                if (j < hi && before(o, x[j], tmp[i])) x[k] = x[j++];
                else x[k] = tmp[i++];
            }
        }
    }
}

typedef struct Lanes { Walk w; Cell *cell; int64_t *idx, *tmp, len; Keys key[16]; } Lanes;

/* Lanes along `axis` of n tensors of one shape; the walk's operands are the n tensors. */
static bool lanes_open(Ev *e, Lanes *l, int axis, unsigned nkeys, unsigned n, EVal *const *in) {
    const EVal *v = in[0];
    int64_t dim[MAX_RANK];
    int r = 0;
    *l = (Lanes){0};
    if (axis >= v->rank || nkeys > 16)
        return ev_fail(e, "E0805", "sort along axis %d by %u keys", axis, nkeys);
    for (int d = 0; d < v->rank; d++) {
        if (d != axis) dim[r++] = v->dim[d];
    }
    l->len = v->dim[axis];
    l->cell = ev_tmp(e, l->len * (int64_t)nkeys, sizeof *l->cell);
    l->idx = ev_tmp(e, l->len, sizeof *l->idx);
    l->tmp = ev_tmp(e, l->len, sizeof *l->tmp);
    if (!l->cell || !l->idx || !l->tmp || !walk_init(e, &l->w, r, dim, (int)n)) return false;
    for (unsigned k = 0; k < n; k++) {
        bool fits = in[k]->rank == v->rank;
        for (int d = 0, s = 0; fits && d < v->rank; d++) {
            fits = in[k]->dim[d] == v->dim[d];
            if (d != axis) l->w.stride[k][s++] = in[k]->stride[d];
        }
        if (!fits) return ev_fail(e, "E0802", "operands %u and 0 of sort differ in shape", k);
    }
    walk_merge(&l->w);
    return true;
}

static void lanes_close(Lanes *l) {
    free(l->cell);
    free(l->idx);
    free(l->tmp);
    walk_free(&l->w);
}

static void lane_sort(Lanes *l, int axis, unsigned nkeys, bool descending, EVal *const *in,
                      int64_t pos) {
    for (unsigned k = 0; k < nkeys; k++) {
        Cell off, *c = l->cell + (int64_t)k * l->len;
        walk_offsets(&l->w, (int)k, pos, 1, &off);
        cells_load(in[k]->dtype, c, in[k]->base + off.i * ev_width(in[k]->dtype),
                   in[k]->stride[axis], l->len);
        l->key[k] = (Keys){c, in[k]->dtype};
    }
    for (int64_t i = 0; i < l->len; i++) l->idx[i] = i;
    Order o = {l->key, nkeys, descending};
    merge_sort(&o, l->idx, l->tmp, l->len);
}

/* The first k elements of a lane of v in the sorted order, to lane `pos` (row-major over the
 * others) of y. */
static void lane_take(const Lanes *l, int op, int axis, const EVal *v, const Walk *to, EVal *y,
                      int64_t pos, int64_t k) {
    Cell from, at;
    int width = ev_width(v->dtype);
    walk_offsets(&l->w, op, pos, 1, &from);
    walk_offsets(to, 0, pos, 1, &at);
    for (int64_t i = 0; i < k; i++) {
        memcpy(y->base + (at.i + i * y->stride[axis]) * width,
               v->base + (from.i + l->idx[i] * v->stride[axis]) * width, (size_t)width);
    }
}

static bool result_walk(Ev *e, Walk *w, const EVal *y, int axis) {
    int64_t dim[MAX_RANK];
    int r = 0;
    for (int d = 0; d < y->rank; d++) {
        if (d != axis) dim[r++] = y->dim[d];
    }
    if (!walk_init(e, w, r, dim, 1)) return false;
    for (int d = 0, s = 0; d < y->rank; d++) {
        if (d != axis) w->stride[0][s++] = y->stride[d];
    }
    walk_merge(w);
    return true;
}

bool ev_sort(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const SortAttr *a = n->attr;
    unsigned nkeys = a->nkeys ? a->nkeys : 1;
    if (!tensors(e, n, in)) return false;
    if (nkeys > n->nin) return ev_fail(e, "E0805", "sort by %u keys of %u operands", nkeys, n->nin);
    Lanes l;
    Walk to = {0};
    bool ok = lanes_open(e, &l, a->axis, nkeys, n->nin, in);
    for (unsigned k = 0; ok && k < n->nin; k++) {
        ok = (out[k] = ev_new(e, in[k]->dtype, in[k]->rank, in[k]->dim)) != NULL;
    }
    ok = ok && result_walk(e, &to, out[0], a->axis);
    for (int64_t p = 0; ok && p < l.w.total && l.len; p++) {
        lane_sort(&l, a->axis, nkeys, a->descending, in, p);
        for (unsigned k = 0; k < n->nin; k++)
            lane_take(&l, (int)k, a->axis, in[k], &to, out[k], p, l.len);
        ok = ev_spend(e, l.len * 16);
    }
    walk_free(&to);
    lanes_close(&l);
    return ok;
}

bool ev_topk(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const TopkAttr *a = n->attr;
    const EVal *v = in[0];
    int64_t k, dim[MAX_RANK];
    if (!tensors(e, n, in) || !ev_dim(e, a->k, &k)) return false;
    if (a->axis >= v->rank)
        return ev_fail(e, "E0805", "topk along axis %d of rank %d", a->axis, v->rank);
    if (k < 0 || k > v->dim[a->axis]) {
        return ev_fail(e, "E0803", "topk wants %lld of %lld elements", (long long)k,
                       (long long)v->dim[a->axis]);
    }
    memcpy(dim, v->dim, sizeof dim);
    dim[a->axis] = k;
    Lanes l;
    Walk to = {0};
    bool ok = lanes_open(e, &l, a->axis, 1, 1, in) &&
              (out[0] = ev_new(e, v->dtype, v->rank, dim)) &&
              (out[1] = ev_new(e, DT_I64, v->rank, dim)) && result_walk(e, &to, out[0], a->axis);
    for (int64_t p = 0; ok && p < l.w.total && k; p++) {
        lane_sort(&l, a->axis, 1, a->largest, in, p);
        lane_take(&l, 0, a->axis, v, &to, out[0], p, k);
        Cell at;
        walk_offsets(&to, 0, p, 1, &at);
        for (int64_t i = 0; i < k; i++) {
            memcpy(out[1]->base + (at.i + i * out[1]->stride[a->axis]) * 8, &l.idx[i], 8);
        }
        ok = ev_spend(e, l.len * 16);
    }
    walk_free(&to);
    lanes_close(&l);
    return ok;
}

/* ==== compact ================================================================================ */

bool ev_compact(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const CompactAttr *a = n->attr;
    int64_t bound, found = 0;
    if (!index_type(e, in[0]) || in[0]->rank != 1 || !ev_dim(e, a->bound, &bound)) {
        return ev_fail(e, "E0805", "compact needs a mask of rank 1 and a known bound");
    }
    out[0] = ev_new(e, DT_I64, 1, &bound);
    out[1] = ev_new(e, DT_I64, 0, NULL);
    if (!out[0] || !out[1]) return false;
    int64_t *idx = (int64_t *)(void *)out[0]->base;
    for (int64_t i = 0; i < in[0]->dim[0]; i++) {
        if (!ev_int(in[0], i)) continue;
        if (found == bound)
            return ev_fail(e, "E0803", "more than %lld elements are set", (long long)bound);
        idx[found++] = i;
    }
    memset(idx + found, 0, sizeof *idx * (size_t)(bound - found));
    memcpy(out[1]->base, &found, sizeof found);
    return true;
}
