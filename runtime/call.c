/* call.c: what functions of the runtime share: failing, memory, new values. See call.h. */
#include "call_internal.h"
#include <stdarg.h>
#include <stdio.h>

CALL_API bool call_fail(rt_call *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->error, sizeof c->error, fmt, ap);
    va_end(ap);
    return false;
}

CALL_API void *call_alloc(rt_call *c, int64_t n, size_t size)
{
    int64_t bytes;
    void *p = n < 0 || __builtin_mul_overflow(n, (int64_t)size, &bytes) ? NULL : c->alloc(c, bytes ? (size_t)bytes : 1);
    if (!p)
        call_fail(c, "no memory for %lld elements of %zu bytes", (long long)n, size);
    return p;
}

CALL_API size_t call_width(int dtype)
{
    static const uint8_t width[] = {0, 4, 1, 1, 2, 2, 4, 8, sizeof(accelc_str), 1, 2, 8, 4, 8, 8, 16, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    return dtype > 0 && dtype < (int)sizeof width ? width[dtype] : 0;
}

CALL_API rt_value *call_tensor(rt_call *c, int dtype, int rank, const int64_t *dims)
{
    int64_t n = 1;
    bool fits = rank >= 0 && rank <= CALL_RANK && call_width(dtype);
    for (int d = 0; d < rank && fits; d++)
        fits = dims[d] >= 0 && !__builtin_mul_overflow(n, dims[d], &n);
    rt_value *v = fits ? call_alloc(c, 1, sizeof *v) : NULL;
    if (!fits)
        call_fail(c, "a tensor of rank %d is too large", rank);
    if (!v || !(v->data = call_alloc(c, n, call_width(dtype))))
        return NULL;
    v->kind = ACCELC_TENSOR;
    v->dtype = (uint16_t)dtype;
    v->rank = rank;
    if (rank)
        memcpy(v->dims, dims, sizeof *dims * (size_t)rank);
    return v;
}

CALL_API rt_value *call_list(rt_call *c, accelc_kind kind, int64_t n)
{
    rt_value *v = call_alloc(c, 1, sizeof *v);
    if (!v || !(v->elem = call_alloc(c, n, sizeof *v->elem)))
        return NULL;
    v->kind = (uint8_t)kind;
    v->nelem = n;
    return v;
}

CALL_API int64_t call_count(const rt_value *v)
{
    int64_t n = 1;
    for (int d = 0; d < v->rank; d++)
        n *= v->dims[d];
    return n;
}

/* Element i of an integer or bool tensor. */
static int64_t int_at(const rt_value *v, int64_t i)
{
    switch (v->dtype) {
    case DT_U8: case DT_BOOL: return ((const uint8_t *)v->data)[i];
    case DT_I8: return ((const int8_t *)v->data)[i];
    case DT_U16: return ((const uint16_t *)v->data)[i];
    case DT_I16: return ((const int16_t *)v->data)[i];
    case DT_U32: return ((const uint32_t *)v->data)[i];
    case DT_I32: return ((const int32_t *)v->data)[i];
    default: return ((const int64_t *)v->data)[i];
    }
}

static bool is_int(const rt_value *v)
{
    const uint32_t types = 1u << DT_U8 | 1u << DT_BOOL | 1u << DT_I8 | 1u << DT_U16 | 1u << DT_I16 | 1u << DT_U32 | 1u << DT_I32 |
                           1u << DT_I64 | 1u << DT_U64;
    return v && v->kind == ACCELC_TENSOR && v->dtype < 32 && types >> v->dtype & 1;
}

CALL_API bool call_int(rt_call *c, const rt_value *v, const char *what, int64_t *out)
{
    if (!is_int(v) || call_count(v) != 1)
        return call_fail(c, "%s is not one integer", what);
    *out = int_at(v, 0);
    return true;
}

/* Operand k, a tensor of that element type (0: any). */
static const rt_value *tensor_operand(rt_call *c, int k, int dtype)
{
    const rt_value *v = k < c->nin ? c->in[k] : NULL;
    if (v && v->kind == ACCELC_TENSOR && (!dtype || v->dtype == dtype))
        return v;
    call_fail(c, "operand %d is not a tensor of the right type", k);
    return NULL;
}
