/* call_string.c: functions on tensors of strings. */
#include "call_internal.h"

/* A walk over the broadcast of several tensors: at(k) is the element of tensor k at the current point. */
typedef struct Cast { int rank, n; int64_t dims[CALL_RANK], count, pos[CALL_RANK], stride[3][CALL_RANK], at[3]; } Cast;

static bool cast_open(rt_call *c, Cast *w, int n, const rt_value *const *v)
{
    *w = (Cast){.n = n, .count = 1};
    for (int k = 0; k < n; k++)
        w->rank = v[k]->rank > w->rank ? v[k]->rank : w->rank;
    for (int d = 0; d < w->rank; d++)
        w->dims[d] = 1;
    for (int k = 0; k < n; k++) {
        int64_t stride = 1;
        for (int i = v[k]->rank - 1, d = w->rank - 1; i >= 0; i--, d--) {
            int64_t size = v[k]->dims[i];
            if (size != 1 && w->dims[d] != 1 && w->dims[d] != size)
                return call_fail(c, "sizes %lld and %lld along an axis do not fit", (long long)w->dims[d], (long long)size);
            if (size != 1) {
                w->dims[d] = size;
                w->stride[k][d] = stride;
            }
            stride *= size;
        }
    }
    for (int d = 0; d < w->rank; d++)
        if (__builtin_mul_overflow(w->count, w->dims[d], &w->count))
            return call_fail(c, "the result is too large");
    return true;
}

static void cast_next(Cast *w)
{
    for (int d = w->rank - 1; d >= 0; d--) {
        bool carry = ++w->pos[d] == w->dims[d];
        for (int k = 0; k < w->n; k++)
            w->at[k] += carry ? -w->stride[k][d] * (w->dims[d] - 1) : w->stride[k][d];
        if (!carry)
            return;
        w->pos[d] = 0;
    }
}

/* (x str, y str) -> str of the broadcast shape: x followed by y */
CALL_FN(string_concat)
{
    const rt_value *in[2] = {tensor_operand(c, 0, DT_STR), tensor_operand(c, 1, DT_STR)};
    Cast w;
    if (!in[0] || !in[1] || !cast_open(c, &w, 2, in))
        return false;
    rt_value *y = c->out[0] = call_tensor(c, DT_STR, w.rank, w.dims);
    if (!y)
        return false;
    const accelc_str *a = call_strs(in[0]), *b = call_strs(in[1]);
    accelc_str *to = y->data;
    size_t bytes = 0;
    for (int64_t i = 0; i < w.count; i++, cast_next(&w))
        if (__builtin_add_overflow(bytes, a[w.at[0]].len, &bytes) || __builtin_add_overflow(bytes, b[w.at[1]].len, &bytes))
            return call_fail(c, "the result is too large");
    char *p = bytes <= INT64_MAX ? call_alloc(c, (int64_t)bytes, 1) : NULL;
    if (!p)
        return false;
    for (int64_t i = 0; i < w.count; i++, cast_next(&w)) {
        const accelc_str *s[2] = {&a[w.at[0]], &b[w.at[1]]};
        to[i] = (accelc_str){p, s[0]->len + s[1]->len};
        for (int k = 0; k < 2; k++)
            if (s[k]->len)
                p = (char *)memcpy(p, s[k]->ptr, s[k]->len) + s[k]->len;
    }
    return true;
}
