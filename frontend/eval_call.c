/* eval_call.c: functions of the runtime for the evaluator: Tensor to rt_value and back. All memory is the arena's. */
#include "frontend/frontend.h"
#include "runtime/call.h"
#include <string.h>

#define CALL(symbol) bool accelc_rt1_call_##symbol(rt_call *c);
#include "runtime/call.def"
#undef CALL

static const struct { const char *symbol; rt_call_fn fn; } table[] = {
#define CALL(symbol) {#symbol, accelc_rt1_call_##symbol},
#include "runtime/call.def"
#undef CALL
};

typedef struct Bridge {
    Ctx *c;
    int64_t *room;
} Bridge;

static void *bridge_alloc(rt_call *call, size_t n)
{
    Bridge *b = call->owner;
    if (n > (size_t)INT64_MAX || (int64_t)n > *b->room)
        return NULL;
    *b->room -= (int64_t)n;
    return ctx_alloc(b->c, n < 4096 ? 4096 : n);        /* these are aligned to 64 bytes */
}

static const uint8_t kinds[] = {[TY_TENSOR] = ACCELC_TENSOR, [TY_SEQ] = ACCELC_SEQUENCE, [TY_MAP] = ACCELC_MAP, [TY_OPT] = ACCELC_ABSENT};

static rt_value *to_rt(Ctx *c, const Tensor *t)
{
    if (t->kind == TY_OPT && t->nelem > 0)
        return to_rt(c, t->elem[0]);
    rt_value *v = NEW(c, rt_value);
    *v = (rt_value){.kind = kinds[t->kind], .dtype = (uint16_t)t->dtype, .rank = t->rank, .data = t->data};
    memcpy(v->dims, t->dim, sizeof *t->dim * (size_t)t->rank);
    if (t->kind == TY_TENSOR || t->nelem <= 0)
        return v;
    v->nelem = t->nelem;
    v->elem = NEWN(c, rt_value *, t->nelem);
    for (int64_t i = 0; i < t->nelem; i++)
        v->elem[i] = to_rt(c, t->elem[i]);
    return v;
}

static Tensor *from_rt(Ctx *c, const rt_value *v)
{
    Tensor *t = NEW(c, Tensor);
    *t = (Tensor){.dtype = (DType)v->dtype, .rank = v->rank, .data = v->data, .nelem = v->nelem};
    for (unsigned k = 0; k < sizeof kinds; k++)
        if (kinds[k] == v->kind)
            t->kind = (uint8_t)k;
    memcpy(t->dim, v->dims, sizeof *t->dim * (size_t)v->rank);
    if (t->kind == TY_OPT)
        t->nelem = -1;
    if (v->nelem)
        t->elem = NEWN(c, Tensor *, v->nelem);
    for (int64_t i = 0; i < v->nelem; i++)
        t->elem[i] = from_rt(c, v->elem[i]);
    return t;
}

bool eval_call(Ctx *c, const char *symbol, int nin, const Tensor *const *in, int nout, Tensor **out, int64_t *room, char error[256])
{
    size_t k = 0, n = sizeof table / sizeof *table;
    while (k < n && strcmp(table[k].symbol, symbol))
        k++;
    Bridge b = {c, room};
    rt_value **arg = NEWN(c, rt_value *, nin + 1), **res = NEWN(c, rt_value *, nout + 1);
    rt_call call = {.nin = nin, .nout = nout, .in = (const rt_value *const *)arg, .out = res, .alloc = bridge_alloc, .owner = &b};
    for (int i = 0; i < nin; i++)
        arg[i] = in[i] ? to_rt(c, in[i]) : NULL;
    bool ok = k < n ? table[k].fn(&call) : (snprintf(call.error, sizeof call.error, "no function %.100s", symbol), false);
    for (int i = 0; ok && i < nout; i++)
        out[i] = from_rt(c, res[i]);
    memcpy(error, call.error, sizeof call.error);
    return ok;
}
