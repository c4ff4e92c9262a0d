/* call_seq.c: sequences, optionals and maps at run time: one function per sub-operation of the
 * primitive `seq` (ir/IR.md has their operands; ir/eval_seq.c is the reference). Lists are never
 * changed: insert and erase copy the pointers of a list. */
#include "call_internal.h"

static bool is_list(rt_call *c, const rt_value *v) {
    return (v && v->kind == ACCELC_SEQUENCE) || call_fail(c, "the operand is no sequence");
}

static bool is_tensor(rt_call *c, const rt_value *v) {
    return (v && v->kind == ACCELC_TENSOR) || call_fail(c, "the operand is no tensor");
}

/* A list keeps an operand: values are only read. */
static rt_value *keep(const rt_value *v) { return (rt_value *)(uintptr_t)v; }

static bool is_given(const rt_call *c, int k) { return k < c->nin && c->in[k]; }

/* A position among n, counting from the end if negative. */
static bool position(rt_call *c, int k, int64_t n, int64_t *at) {
    int64_t x = 0;
    if (!call_int(c, c->in[k], "the position", &x)) return false;
    *at = x < 0 ? x + n : x;
    return (*at >= 0 && *at < n) || call_fail(c, "position %lld is out of range for %lld elements",
                                              (long long)x, (long long)n);
}

static bool result(rt_call *c, rt_value *v) { return (c->out[0] = v) != NULL; }

static bool result_bool(rt_call *c, bool x) {
    rt_value *v = call_tensor(c, DT_BOOL, 0, NULL);
    if (v) *(uint8_t *)v->data = x;
    return result(c, v);
}

CALL_FN(seq_construct) {
    rt_value *v = call_list(c, ACCELC_SEQUENCE, c->nin);
    for (int k = 0; v && k < c->nin; k++) {
        if (!c->in[k]) return call_fail(c, "element %d is absent", k);
        v->elem[k] = keep(c->in[k]);
    }
    return result(c, v);
}

CALL_FN(seq_empty) { return result(c, call_list(c, ACCELC_SEQUENCE, 0)); }

CALL_FN(seq_at) {
    int64_t at;
    if (!is_list(c, c->in[0]) || !position(c, 1, c->in[0]->nelem, &at)) return false;
    return result(c, c->in[0]->elem[at]);
}

CALL_FN(seq_insert) {
    const rt_value *s = c->in[0];
    if (!is_list(c, s)) return false;
    if (!c->in[1]) return call_fail(c, "nothing to insert");
    int64_t n = s->nelem, at = n;
    if (is_given(c, 2)) { /* n itself is a position here: append */
        int64_t x = 0;
        if (!call_int(c, c->in[2], "the position", &x) || (x != n && !position(c, 2, n, &at)))
            return false;
    }
    rt_value *v = call_list(c, ACCELC_SEQUENCE, n + 1);
    for (int64_t k = 0; v && k <= n; k++)
        v->elem[k] = k < at ? s->elem[k] : k == at ? keep(c->in[1]) : s->elem[k - 1];
    return result(c, v);
}

CALL_FN(seq_erase) {
    const rt_value *s = c->in[0];
    if (!is_list(c, s)) return false;
    int64_t n = s->nelem, at = n - 1;
    if (n == 0) return call_fail(c, "nothing to erase from an empty sequence");
    if (is_given(c, 1) && !position(c, 1, n, &at)) return false;
    rt_value *v = call_list(c, ACCELC_SEQUENCE, n - 1);
    for (int64_t k = 0; v && k < n - 1; k++) v->elem[k] = s->elem[k < at ? k : k + 1];
    return result(c, v);
}

CALL_FN(seq_length) {
    rt_value *v = is_list(c, c->in[0]) ? call_tensor(c, DT_I64, 0, NULL) : NULL;
    if (v) *(int64_t *)v->data = c->in[0]->nelem;
    return result(c, v);
}

/* ---- joining ---- */

/* Bytes of a row: elements along the axes from `axis` on. */
static size_t row_bytes(const rt_value *v, int axis) {
    size_t n = call_width(v->dtype);
    for (int d = axis; d < v->rank; d++) n *= (size_t)v->dims[d];
    return n;
}

/* All elements have the type of the first, and its sizes but for `axis` (-1: all). */
static bool alike(rt_call *c, const rt_value *s, int axis) {
    const rt_value *first = s->elem[0];
    for (int64_t k = 0; k < s->nelem; k++) {
        const rt_value *v = s->elem[k];
        if (!is_tensor(c, v)) return false;
        if (v->dtype != first->dtype) return call_fail(c, "elements differ in type");
        if (v->rank != first->rank) return call_fail(c, "elements differ in rank");
        for (int d = 0; d < v->rank; d++)
            if (d != axis && v->dims[d] != first->dims[d])
                return call_fail(c, "element %lld has size %lld along axis %d, others have %lld",
                                 (long long)k, (long long)v->dims[d], d, (long long)first->dims[d]);
    }
    return true;
}

/* fresh: along a new axis, where each element has size 1. */
static bool join(rt_call *c, bool fresh) {
    const rt_value *s = c->in[0];
    int64_t axis = 0, dims[CALL_RANK], outer = 1;
    if (!is_list(c, s) || !call_int(c, c->in[1], "the axis", &axis)) return false;
    if (s->nelem == 0) return call_fail(c, "an empty sequence cannot be joined");
    const rt_value *first = s->elem[0];
    if (!is_tensor(c, first)) return false;
    int rank = first->rank + fresh;
    int64_t at = axis < 0 ? axis + rank : axis;
    if (at < 0 || at >= rank || rank > CALL_RANK)
        return call_fail(c, "axis %lld of rank %d", (long long)axis, rank);
    if (!alike(c, s, fresh ? -1 : (int)at)) return false;
    for (int d = 0; d < rank; d++) dims[d] = fresh && d > at ? first->dims[d - 1] : first->dims[d];
    for (int d = 0; d < at; d++) outer *= dims[d];
    dims[at] = 0;
    for (int64_t k = 0; k < s->nelem; k++)
        if (__builtin_add_overflow(dims[at], fresh ? 1 : s->elem[k]->dims[at], &dims[at]))
            return call_fail(c, "the result is too large");
    rt_value *v = call_tensor(c, first->dtype, rank, dims);
    if (!v) return false;
    size_t row = row_bytes(v, (int)at), to = 0;
    for (int64_t k = 0; k < s->nelem; k++) {
        size_t n = row_bytes(s->elem[k], (int)at);
        for (int64_t i = 0; i < outer && n > 0; i++)
            memcpy((char *)v->data + (size_t)i * row + to,
                   (const char *)s->elem[k]->data + (size_t)i * n, n);
        to += n;
    }
    return result(c, v);
}

CALL_FN(seq_concat) { return join(c, false); }
CALL_FN(seq_stack) { return join(c, true); }

/* ---- splitting ---- */

/* Elements [at, at + size) of v along an axis; `drop` removes the axis (size 1). Rows of the first
 * axis are not copied. */
static rt_value *part(rt_call *c, const rt_value *v, int axis, int64_t at, int64_t size,
                      bool drop) {
    int64_t dims[CALL_RANK], outer = 1;
    for (int d = 0; d < v->rank; d++) dims[d] = d == axis ? size : v->dims[d];
    for (int d = 0; d < axis; d++) outer *= dims[d];
    for (int d = axis; drop && d + 1 < v->rank; d++) dims[d] = v->dims[d + 1];
    size_t one = row_bytes(v, axis + 1), n = one * (size_t)size, row = one * (size_t)v->dims[axis];
    rt_value *p =
        outer == 1 ? call_alloc(c, 1, sizeof *p) : call_tensor(c, v->dtype, v->rank - drop, dims);
    if (!p) return NULL;
    const char *from = v->data;
    if (n > 0) from += one * (size_t)at;
    if (outer == 1) {
        *p = (rt_value){.kind = ACCELC_TENSOR,
                        .dtype = v->dtype,
                        .rank = v->rank - drop,
                        .data = (void *)(uintptr_t)from};
        memcpy(p->dims, dims, sizeof *dims * (size_t)p->rank);
    } else
        for (int64_t i = 0; i < outer && n > 0; i++)
            memcpy((char *)p->data + (size_t)i * n, from + (size_t)i * row, n);
    return p;
}

static bool split_axis(rt_call *c, const rt_value *v, const rt_value *axis, int *out) {
    int64_t x = 0;
    if (!is_tensor(c, v) || !call_int(c, axis, "the axis", &x)) return false;
    int64_t at = x < 0 ? x + v->rank : x;
    *out = (int)at;
    return (at >= 0 && at < v->rank) || call_fail(c, "axis %lld of rank %d", (long long)x, v->rank);
}

CALL_FN(seq_split) {
    const rt_value *x = c->in[0], *size = c->in[1];
    int axis;
    if (!split_axis(c, x, c->in[2], &axis)) return false;
    if (!is_int(size) || size->rank > 1) return call_fail(c, "sizes are not integers");
    int64_t total = x->dims[axis], each = size->rank ? 0 : int_at(size, 0), at = 0;
    if (!size->rank && each < 1) return call_fail(c, "parts of size %lld", (long long)each);
    int64_t n = size->rank ? size->dims[0] : total / each + (total % each != 0);
    rt_value *v = call_list(c, ACCELC_SEQUENCE, n);
    for (int64_t k = 0; v && k < n; k++) {
        int64_t of = size->rank ? int_at(size, k) : total - at < each ? total - at : each;
        if (of < 0 || of > total - at)
            return call_fail(c, "the parts do not fill an axis of size %lld", (long long)total);
        if (!(v->elem[k] = part(c, x, axis, at, of, false))) return false;
        at += of;
    }
    if (v && at != total)
        return call_fail(c, "the parts do not fill an axis of size %lld", (long long)total);
    return result(c, v);
}

CALL_FN(seq_unstack) {
    int axis;
    if (!split_axis(c, c->in[0], c->in[1], &axis)) return false;
    int64_t n = c->in[0]->dims[axis];
    rt_value *v = call_list(c, ACCELC_SEQUENCE, n);
    for (int64_t k = 0; v && k < n; k++)
        if (!(v->elem[k] = part(c, c->in[0], axis, k, 1, true))) return false;
    return result(c, v);
}

/* ---- optionals, maps ---- */

static bool is_some(const rt_call *c) { return is_given(c, 0) && c->in[0]->kind != ACCELC_ABSENT; }

CALL_FN(seq_make) {
    return result(c, is_given(c, 0) ? keep(c->in[0]) : call_list(c, ACCELC_ABSENT, 0));
}

CALL_FN(seq_has) { return result_bool(c, is_some(c)); }

CALL_FN(seq_get) {
    return is_some(c) ? result(c, keep(c->in[0])) : call_fail(c, "the optional is empty");
}

/* keys[k], values[n, k] -> a sequence of n maps */
CALL_FN(seq_zip) {
    const rt_value *keys = c->in[0], *x = c->in[1];
    if (!is_tensor(c, keys) || !is_tensor(c, x)) return false;
    if (keys->rank != 1 || x->rank != 2 || x->dims[1] != keys->dims[0])
        return call_fail(c, "keys and values do not fit");
    rt_value *v = call_list(c, ACCELC_SEQUENCE, x->dims[0]);
    for (int64_t i = 0; v && i < x->dims[0]; i++) {
        rt_value *m = v->elem[i] = call_list(c, ACCELC_MAP, 2);
        if (!m || !(m->elem[1] = part(c, x, 0, i, 1, true))) return false;
        m->dtype = keys->dtype;
        m->elem[0] = keep(keys);
    }
    return result(c, v);
}
