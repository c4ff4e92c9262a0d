/* call_map.c: functions on maps, and tables of strings. Keys are found in a sorted list of references; of equal keys the first counts. */
#include "call_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct Ref { const void *key; int64_t at; } Ref;

static int by_int(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)((const Ref *)a)->key, y = *(const int64_t *)((const Ref *)b)->key;
    return (x > y) - (x < y);
}

static int by_str(const void *a, const void *b)
{
    const accelc_str *x = ((const Ref *)a)->key, *y = ((const Ref *)b)->key;
    size_t n = x->len < y->len ? x->len : y->len;
    int r = n ? memcmp(x->ptr, y->ptr, n) : 0;
    return r ? r : (x->len > y->len) - (x->len < y->len);
}

typedef struct Index { Ref *ref; int64_t n; int (*by)(const void *, const void *); size_t width; } Index;

/* Sorted references to the elements of a vector of i64 or str. */
static bool index_open(rt_call *c, const rt_value *keys, Index *x)
{
    if (!keys || keys->kind != ACCELC_TENSOR || (keys->dtype != DT_I64 && keys->dtype != DT_STR))
        return call_fail(c, "keys must be i64 or str");
    *x = (Index){.n = call_count(keys), .by = keys->dtype == DT_STR ? by_str : by_int, .width = call_width(keys->dtype)};
    if (!(x->ref = call_alloc(c, x->n, sizeof *x->ref)))
        return false;
    for (int64_t i = 0; i < x->n; i++)
        x->ref[i] = (Ref){(const char *)keys->data + (size_t)i * x->width, i};
    qsort(x->ref, (size_t)x->n, sizeof *x->ref, x->by);
    return true;
}

/* Position of the first key that equals *key, or `none`. */
static int64_t index_find(const Index *x, const void *key, int64_t none)
{
    Ref want = {key, 0};
    const Ref *hit = x->n ? bsearch(&want, x->ref, (size_t)x->n, sizeof *x->ref, x->by) : NULL;
    if (!hit)
        return none;
    int64_t first = hit->at;
    for (const Ref *r = hit; r > x->ref && !x->by(r - 1, hit); r--)
        first = r[-1].at < first ? r[-1].at : first;
    for (const Ref *r = hit, *end = x->ref + x->n; r + 1 < end && !x->by(r + 1, hit); r++)
        first = r[1].at < first ? r[1].at : first;
    return first;
}

/* (x str, keys str[k]) -> i64 of the shape of x: the position of x among the keys, k if it is none */
CALL_FN(map_lookup)
{
    const rt_value *x = tensor_operand(c, 0, DT_STR), *keys = tensor_operand(c, 1, DT_STR);
    Index index;
    if (!x || !keys || !index_open(c, keys, &index))
        return false;
    rt_value *y = c->out[0] = call_tensor(c, DT_I64, x->rank, x->dims);
    for (int64_t i = 0, n = call_count(x); y && i < n; i++)
        ((int64_t *)y->data)[i] = index_find(&index, &call_strs(x)[i], index.n);
    return y != NULL;
}

/* Element i of v as element k of y, whose type is another. */
static bool convert(rt_call *c, const rt_value *v, int64_t i, rt_value *y, int64_t k)
{
    if (v->dtype == y->dtype) {
        size_t w = call_width(v->dtype);
        memcpy((char *)y->data + (size_t)k * w, (const char *)v->data + (size_t)i * w, w);
        return true;
    }
    double f = v->dtype == DT_F32 ? (double)((const float *)v->data)[i] : v->dtype == DT_F64 ? ((const double *)v->data)[i] : 0;
    int64_t n = v->dtype == DT_I64 ? ((const int64_t *)v->data)[i] : f >= 0x1p63 ? INT64_MAX : f > -0x1p63 ? (int64_t)f : f != f ? 0 : INT64_MIN;
    char text[400], *end = text;
    if (v->dtype == DT_STR) {
        const accelc_str *s = &call_strs(v)[i];
        if (s->len >= sizeof text)
            return call_fail(c, "a string of %zu bytes is no number", s->len);
        if (s->len)
            memcpy(text, s->ptr, s->len);
        text[s->len] = 0;
        if (y->dtype == DT_I64)
            n = strtoll(text, &end, 10);
        else
            f = strtod(text, &end);
        if (end == text)
            return call_fail(c, "\"%.60s\" is no number", text);
    } else if (v->dtype == DT_I64) {
        f = (double)n;
    }
    if (y->dtype == DT_STR) {
        int len = v->dtype == DT_I64 ? snprintf(text, sizeof text, "%" PRId64, n) : snprintf(text, sizeof text, "%f", f);
        char *s = call_alloc(c, len, 1);
        if (!s)
            return false;
        ((accelc_str *)y->data)[k] = (accelc_str){memcpy(s, text, (size_t)len), (size_t)len};
    } else if (y->dtype == DT_I64) {
        ((int64_t *)y->data)[k] = n;
    } else if (y->dtype == DT_F32) {
        ((float *)y->data)[k] = (float)f;
    } else {
        ((double *)y->data)[k] = f;
    }
    return true;
}

static bool map_parts(rt_call *c, const rt_value *map, const rt_value **keys, const rt_value **values)
{
    const uint32_t known = 1u << DT_F32 | 1u << DT_F64 | 1u << DT_I64 | 1u << DT_STR;
    if (!map || map->kind != ACCELC_MAP || map->nelem != 2)
        return call_fail(c, "operand 0 is no map");
    *keys = map->elem[0];
    *values = map->elem[1];
    if ((*values)->kind != ACCELC_TENSOR || call_count(*values) != call_count(*keys) || (*values)->dtype > 31 || !(known >> (*values)->dtype & 1))
        return call_fail(c, "values of this type are not supported");
    return true;
}

/* (map, keys[k] or nothing, default[1]) -> vector of the default's type: the value of each key, or the default; without keys the values in the order
 * of the map's keys */
CALL_FN(map_vector)
{
    const rt_value *keys = NULL, *values = NULL, *want = c->nin > 1 ? c->in[1] : NULL, *deflt = tensor_operand(c, 2, 0);
    Index index;
    if (!map_parts(c, c->in[0], &keys, &values) || !deflt || !index_open(c, keys, &index))
        return false;
    if (want && (want->kind != ACCELC_TENSOR || want->dtype != keys->dtype))
        return call_fail(c, "keys of another type than those of the map");
    int64_t n = want ? call_count(want) : index.n;
    rt_value *y = c->out[0] = call_tensor(c, deflt->dtype, 1, &n);
    for (int64_t i = 0; y && i < n; i++) {
        int64_t at = want ? index_find(&index, (const char *)want->data + (size_t)i * index.width, -1) : index.ref[i].at;
        if (!convert(c, at < 0 ? deflt : values, at < 0 ? 0 : at, y, i))
            return false;
    }
    return y != NULL;
}
