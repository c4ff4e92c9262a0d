/* eval_move.c: primitives that move elements without looking at them.
 *
 * permute, broadcast, slice, window and most reshapes only make a new header on the same buffer;
 * pad, concat and update write a new one. Every bound is checked here, whatever the graph's author
 * proved. */
#include "eval_internal.h"
#include <stdlib.h>
#include <string.h>

static bool is_tensor(Ev *e, const EVal *v) {
    return v->kind == TY_TENSOR || ev_fail(e, "E0805", "an operand is no tensor");
}

/* Strides of a view of v with other dims of the same count; false if there is none. */
static bool reshape_view(const EVal *v, int rank, const int64_t *dim, int64_t *stride) {
    int64_t od[MAX_RANK], os[MAX_RANK];
    int n = 0, o = 0;
    for (int d = 0; d < v->rank; d++) { /* merge what lies together, drop ones */
        if (v->dim[d] == 1) continue;
        if (n && os[n - 1] == v->stride[d] * v->dim[d]) {
            od[n - 1] *= v->dim[d];
            os[n - 1] = v->stride[d];
        } else {
            od[n] = v->dim[d];
            os[n++] = v->stride[d];
        }
    }
    int64_t left = n ? od[0] : 1;
    for (int d = 0; d < rank; d++) { /* every new dim splits one old run from the front */
        if (dim[d] == 1) {
            stride[d] = 0;
            continue;
        }
        if (left == 1 && o + 1 < n) left = od[++o];
        if (o >= n || left % dim[d]) return false;
        left /= dim[d];
        stride[d] = os[o] * left;
    }
    return left == 1 && o + 1 >= n;
}

static EVal *reshaped(Ev *e, EVal *v, int rank, const int64_t *dim) {
    int64_t stride[MAX_RANK], s = 1;
    EVal *src = NULL;
    bool view = ev_count(v) && reshape_view(v, rank, dim, stride);
    if (!view) {
        src = ev_dense(e, v);
        if (!src) return NULL;
        for (int d = rank - 1; d >= 0; d--) {
            stride[d] = s;
            s *= dim[d] ? dim[d] : 1;
        }
    }
    EVal *w = ev_view(e, src ? src : v);
    ev_unref(e, src);
    if (!w) return NULL;
    w->rank = rank;
    for (int d = 0; d < rank; d++) {
        w->dim[d] = dim[d];
        w->stride[d] = stride[d];
    }
    return w;
}

bool ev_reshape(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const DimsAttr *a = n->attr;
    int64_t dim[MAX_RANK], bytes;
    if (!is_tensor(e, in[0])) return false;
    for (int d = 0; d < a->rank; d++) {
        if (!ev_dim(e, a->dim[d], &dim[d])) return false;
    }
    if (!ev_size(e, in[0]->dtype, a->rank, dim, &bytes)) return false;
    int64_t have = ev_count(in[0]), want = bytes / ev_width(in[0]->dtype);
    if (have != want) {
        return ev_fail(e, "E0803", "reshape of %lld elements to %lld", (long long)have,
                       (long long)want);
    }
    return (out[0] = reshaped(e, in[0], a->rank, dim)) != NULL;
}

bool ev_permute(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const PermAttr *a = n->attr;
    if (!is_tensor(e, in[0]) || !(out[0] = ev_view(e, in[0]))) return false;
    for (int d = 0; d < in[0]->rank; d++) {
        if (a->perm[d] >= in[0]->rank)
            return ev_fail(e, "E0805", "permutation entry %d", a->perm[d]);
        out[0]->dim[d] = in[0]->dim[a->perm[d]];
        out[0]->stride[d] = in[0]->stride[a->perm[d]];
    }
    return true;
}

bool ev_broadcast(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const DimsAttr *a = n->attr;
    const EVal *v = in[0];
    int64_t dim[MAX_RANK], bytes;
    if (!is_tensor(e, v)) return false;
    if (v->rank > a->rank) return ev_fail(e, "E0805", "broadcast to a lower rank");
    for (int d = 0; d < a->rank; d++) {
        if (!ev_dim(e, a->dim[d], &dim[d])) return false;
    }
    if (!ev_size(e, v->dtype, a->rank, dim, &bytes) || !(out[0] = ev_view(e, v))) return false;
    out[0]->rank = a->rank;
    for (int d = 0; d < a->rank; d++) {
        int o = d - (a->rank - v->rank);
        bool one = o < 0 || v->dim[o] == 1;
        if (!one && v->dim[o] != dim[d]) {
            return ev_fail(e, "E0803", "axis %d of size %lld does not broadcast to %lld", o,
                           (long long)v->dim[o], (long long)dim[d]);
        }
        out[0]->dim[d] = dim[d];
        out[0]->stride[d] = one ? 0 : v->stride[o];
    }
    return true;
}

/* w := the part of w that a slice names. size NULL: of the shape of `part`. */
static bool cut(Ev *e, EVal *w, const SliceAttr *a, const EVal *part) {
    for (int d = 0; d < w->rank; d++) {
        int64_t start, size, step = a->step ? a->step[d] : 1, last;
        if (!ev_dim(e, a->start[d], &start)) return false;
        if (part) size = part->dim[d];
        else if (!ev_dim(e, a->size[d], &size)) return false;
        if (size && (__builtin_mul_overflow(size - 1, step, &last) ||
                     __builtin_add_overflow(last, start, &last) || size < 0 || start < 0 ||
                     start >= w->dim[d] || last < 0 || last >= w->dim[d])) {
            return ev_fail(
                e, "E0803",
                "axis %d of size %lld: slice from %lld, %lld elements by %lld is out of range", d,
                (long long)w->dim[d], (long long)start, (long long)size, (long long)step);
        }
        w->dim[d] = size;
        if (size) w->base += start * w->stride[d] * ev_width(w->dtype);
        if (size > 1) w->stride[d] *= step;
    }
    return true;
}

bool ev_slice(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    return is_tensor(e, in[0]) && (out[0] = ev_view(e, in[0])) && cut(e, out[0], n->attr, NULL);
}

bool ev_window(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const WindowAttr *a = n->attr;
    const EVal *v = in[0];
    if (!is_tensor(e, v)) return false;
    if (v->rank + a->n > MAX_RANK) return ev_fail(e, "E0805", "window of rank %d", v->rank + a->n);
    EVal *w = out[0] = ev_view(e, v);
    if (!w) return false;
    w->rank = v->rank + a->n;
    for (int k = 0; k < a->n; k++) {
        int64_t size, span, room;
        int d = a->axis[k];
        if (!ev_dim(e, a->size[k], &size)) return false;
        if (d >= v->rank || size < 1 || a->stride[k] < 1 || a->dilation[k] < 1 ||
            __builtin_mul_overflow(size - 1, a->dilation[k], &span)) {
            return ev_fail(e, "E0803", "window %d of size %lld is not possible", k,
                           (long long)size);
        }
        room = v->dim[d] - 1 - span;
        w->dim[d] = room < 0 ? 0 : room / a->stride[k] + 1;
        w->stride[d] = w->dim[d] > 1 ? v->stride[d] * a->stride[k] : 0;
        w->dim[v->rank + k] = size;
        w->stride[v->rank + k] = room < 0 ? 0 : v->stride[d] * a->dilation[k];
    }
    int64_t bytes;
    return ev_size(e, w->dtype, w->rank, w->dim, &bytes);
}

/* ==== pad ==================================================================================== */

static int64_t floor_mod(int64_t a, int64_t n) {
    int64_t r = a % n;
    return r < 0 ? r + n : r;
}

/* Position p of the stretched axis (d elements, `gap` apart) after removing the low padding: the
 * element there, or -1. */
static int64_t pad_source(PadMode mode, int64_t p, int64_t d, int64_t gap) {
    if (d <= 0) return -1;
    int64_t n = (d - 1) * gap + 1;
    if (p < 0 || p >= n) {
        if (mode == PAD_VALUE) return -1;
        if (mode == PAD_EDGE) p = p < 0 ? 0 : n - 1;
        else if (mode == PAD_WRAP) p = floor_mod(p, n);
        else if (n == 1) p = 0;
        else {
            p = floor_mod(p, 2 * (n - 1));
            if (p >= n) p = 2 * (n - 1) - p;
        }
    }
    return p % gap ? -1 : p / gap;
}

static bool pad_axes(Ev *e, const PadAttr *a, const EVal *v, int64_t *dim, int64_t **src) {
    for (int d = 0; d < v->rank; d++) {
        int64_t lo, hi, gap = a->interior ? a->interior[d] : 0, n = v->dim[d];
        if (!ev_dim(e, a->lo[d], &lo) || !ev_dim(e, a->hi[d], &hi)) return false;
        const int64_t most = (int64_t)1 << 60;
        bool bad = gap < 0 || gap > most || lo < 0 || lo > most || hi < 0 || hi > most;
        gap++;
        bad = bad ||
              (n && (__builtin_mul_overflow(n - 1, gap, &n) || __builtin_add_overflow(n, 1, &n)));
        if (bad || __builtin_add_overflow(n, lo, &n) || __builtin_add_overflow(n, hi, &n) ||
            n < 0) {
            return ev_fail(e, "E0803", "axis %d of size %lld cannot be padded by %lld and %lld", d,
                           (long long)v->dim[d], (long long)lo, (long long)hi);
        }
        dim[d] = n;
        src[d] = ev_tmp(e, n, sizeof **src);
        if (!src[d]) return false;
        for (int64_t i = 0; i < n; i++) src[d][i] = pad_source(a->mode, i - lo, v->dim[d], gap);
    }
    return true;
}

static void pad_copy(const EVal *v, EVal *w, int64_t **src, const char *fill, int d,
                     const char *from, char *to) {
    int width = ev_width(v->dtype);
    if (d == w->rank) {
        memcpy(to, from ? from : fill, (size_t)width);
        return;
    }
    for (int64_t i = 0; i < w->dim[d]; i++) {
        int64_t s = src[d][i];
        const char *f = from && s >= 0 ? from + s * v->stride[d] * width : NULL;
        char *t = to + i * w->stride[d] * width;
        if (d + 1 == w->rank) {
            const char *x = f ? f : fill;
            if (width == 4) memcpy(t, x, 4);
            else memcpy(t, x, (size_t)width);
        } else {
            pad_copy(v, w, src, fill, d + 1, f, t);
        }
    }
}

bool ev_pad(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const PadAttr *a = n->attr;
    const EVal *v = in[0];
    if (!is_tensor(e, v)) return false;
    char fill[16] = {0};
    if (n->nin > 1) {
        if (in[1]->kind != TY_TENSOR || in[1]->dtype != v->dtype || ev_count(in[1]) != 1) {
            return ev_fail(e, "E0805", "the pad value does not fit");
        }
        memcpy(fill, in[1]->base, (size_t)ev_width(v->dtype));
    } else if (dt_is_float(v->dtype) || dt_is_int(v->dtype) || v->dtype == DT_BOOL) {
        Cell x = cell_of(a->value.t ? dt_convert(a->value, v->dtype) : (Scalar){.t = v->dtype});
        cells_store(v->dtype, fill, 1, &x, 1);
    }
    int64_t dim[MAX_RANK], *src[MAX_RANK] = {0};
    bool ok = pad_axes(e, a, v, dim, src) && (out[0] = ev_new(e, v->dtype, v->rank, dim)) != NULL;
    if (ok && ev_count(out[0])) pad_copy(v, out[0], src, fill, 0, v->base, out[0]->base);
    for (int d = 0; d < MAX_RANK; d++) free(src[d]);
    return ok;
}

/* ==== concat, update ========================================================================= */

bool ev_stack(Ev *e, int64_t n, EVal *const *v, int axis, EVal **out) {
    if (!is_tensor(e, v[0])) return false;
    int64_t dim[MAX_RANK], at = 0;
    int rank = v[0]->rank;
    if (axis < 0 || axis >= rank)
        return ev_fail(e, "E0805", "concat along axis %d of rank %d", axis, rank);
    memcpy(dim, v[0]->dim, sizeof dim);
    for (int64_t k = 1; k < n; k++) {
        bool fits = v[k]->kind == TY_TENSOR && v[k]->dtype == v[0]->dtype && v[k]->rank == rank;
        for (int d = 0; fits && d < rank; d++) fits = d == axis || v[k]->dim[d] == dim[d];
        if (!fits || __builtin_add_overflow(dim[axis], v[k]->dim[axis], &dim[axis])) {
            return ev_fail(e, "E0802", "operand %lld of concat does not fit the first",
                           (long long)k);
        }
    }
    EVal *w = *out = ev_new(e, v[0]->dtype, rank, dim);
    if (!w) return false;
    for (int64_t k = 0; k < n; k++) {
        char *p = w->base + at * w->stride[axis] * ev_width(w->dtype);
        if (ev_count(v[k]) && !ev_copy(e, v[k], p, w->stride)) return false;
        at += v[k]->dim[axis];
    }
    return true;
}

bool ev_concat(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    return ev_stack(e, n->nin, in, ((const AxisAttr *)n->attr)->axis, out);
}

bool ev_update(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const EVal *part = in[1];
    if (!is_tensor(e, in[0]) || !is_tensor(e, part)) return false;
    if (part->rank != in[0]->rank || part->dtype != in[0]->dtype)
        return ev_fail(e, "E0805", "the part does not fit");
    EVal *w = out[0] = ev_new(e, in[0]->dtype, in[0]->rank, in[0]->dim);
    if (!w || !ev_copy(e, in[0], w->base, w->stride)) return false;
    EVal *to = ev_view(e, w);
    bool ok = to && cut(e, to, n->attr, part) &&
              (!ev_count(part) || ev_copy(e, part, to->base, to->stride));
    ev_unref(e, to);
    return ok;
}
