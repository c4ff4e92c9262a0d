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

/* ---- split */

/* The next part of s, from *at on; false: there is none. d: the delimiter, empty: white space. left: splits still allowed (< 0: all). */
static bool next_part(accelc_str s, accelc_str d, size_t *at, int64_t *left, accelc_str *part)
{
    if (*at > s.len)
        return false;
    const char *p = s.ptr + *at, *end = s.ptr + s.len, *q;
    if (d.len) {
        q = *left == 0 || p == end ? NULL : memmem(p, (size_t)(end - p), d.ptr, d.len);
        *part = (accelc_str){p, (size_t)((q ? q : end) - p)};
        *at = q ? (size_t)(q - s.ptr) + d.len : s.len + 1;
        *left -= *left > 0;
        return true;
    }
    for (q = p; q < end; p = q)
        if (!is_space(utf8_next(&q, end)))
            break;
    if (p == end)
        return false;
    for (q = p; q < end && *left != 0;) {
        const char *before = q;
        if (is_space(utf8_next(&q, end))) {
            q = before;
            break;
        }
    }
    if (*left == 0)
        q = end;
    *part = (accelc_str){p, (size_t)(q - p)};
    *at = (size_t)(q - s.ptr);
    *left -= *left > 0;
    return true;
}

/* (x str, delimiter str[], maxsplit i64[]) -> str[.., n] padded with "", i64[..]: parts of each string, n the most of them. An empty
 * delimiter splits at white space; maxsplit < 0: everywhere. */
CALL_FN(string_split)
{
    const rt_value *x = tensor_operand(c, 0, DT_STR), *d = tensor_operand(c, 1, DT_STR);
    int64_t max, most = 0, dims[CALL_RANK];
    if (!x || !d || !call_int(c, c->in[2], "maxsplit", &max))
        return false;
    if (x->rank == CALL_RANK)
        return call_fail(c, "a result of rank %d", x->rank + 1);
    rt_value *n = c->out[1] = call_tensor(c, DT_I64, x->rank, x->dims);
    if (!n)
        return false;
    int64_t count = call_count(x), *len = n->data;
    const accelc_str *s = call_strs(x), by = call_strs(d)[0];
    accelc_str part;
    for (int64_t i = 0; i < count; i++) {
        size_t at = 0;
        int64_t left = max;
        while (next_part(s[i], by, &at, &left, &part))
            len[i]++;
        most = len[i] > most ? len[i] : most;
    }
    memcpy(dims, x->dims, sizeof dims);
    dims[x->rank] = most;
    rt_value *y = c->out[0] = call_tensor(c, DT_STR, x->rank + 1, dims);
    if (!y)
        return false;
    for (int64_t i = 0; i < count; i++) {
        size_t at = 0;
        int64_t left = max;
        for (accelc_str *to = (accelc_str *)y->data + i * most; next_part(s[i], by, &at, &left, to); to++) {}
    }
    return true;
}

/* ---- normalise */

enum { CASE_NONE, CASE_LOWER, CASE_UPPER };

static bool change_case(rt_call *c, accelc_str s, int64_t how, accelc_str *out)
{
    char *to = s.len < SIZE_MAX / 4 ? call_alloc(c, (int64_t)s.len, 4) : NULL, *p = to;
    if (!to)
        return false;
    for (const char *q = s.ptr, *end = s.ptr + s.len; q < end;) {
        uint32_t x = utf8_next(&q, end);
        p += utf8_put(p, how == CASE_LOWER ? to_lower(x) : to_upper(x));
    }
    *out = (accelc_str){to, (size_t)(p - to)};
    return true;
}

static bool same_str(accelc_str a, accelc_str b) { return a.len == b.len && (!a.len || !memcmp(a.ptr, b.ptr, a.len)); }

/* (x str[n] or str[1, n], stopwords str[k] or none, case i64[], sensitive i64[]) -> x without the stopwords, in the case that is asked for;
 * one empty string if nothing is left. case: 0 as it is, 1 lower, 2 upper. Not sensitive: stopwords are compared in lower case. */
CALL_FN(string_normalize)
{
    const rt_value *x = tensor_operand(c, 0, DT_STR), *stop = c->in[1];
    int64_t how, sensitive, kept = 0;
    if (!x || !call_int(c, c->in[2], "case", &how) || !call_int(c, c->in[3], "sensitive", &sensitive))
        return false;
    if (x->rank < 1 || x->rank > 2 || (x->rank == 2 && x->dims[0] != 1))
        return call_fail(c, "expected strings of shape [n] or [1, n]");
    int64_t n = call_count(x), nstop = stop ? call_count(stop) : 0;
    const accelc_str *s = call_strs(x);
    accelc_str *words = call_alloc(c, nstop, sizeof *words), *keep = call_alloc(c, n, sizeof *keep);
    if (!words || !keep)
        return false;
    for (int64_t k = 0; k < nstop; k++) {
        words[k] = call_strs(stop)[k];
        if (!sensitive && !change_case(c, words[k], CASE_LOWER, &words[k]))
            return false;
    }
    for (int64_t i = 0; i < n; i++) {
        accelc_str t = s[i];
        int64_t k = 0;
        if (nstop && !sensitive && !change_case(c, t, CASE_LOWER, &t))
            return false;
        while (k < nstop && !same_str(words[k], t))
            k++;
        if (k == nstop)
            keep[kept++] = s[i];
    }
    int64_t dims[2] = {1, kept ? kept : 1};
    rt_value *y = c->out[0] = call_tensor(c, DT_STR, x->rank, dims + 2 - x->rank);
    if (!y)
        return false;
    for (int64_t i = 0; i < kept; i++) {
        accelc_str *to = (accelc_str *)y->data + i;
        *to = keep[i];
        if (how != CASE_NONE && !change_case(c, keep[i], how, to))
            return false;
    }
    return true;
}
