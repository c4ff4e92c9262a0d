/* op_string.c: operators on strings. Strings are not arithmetic: each is a function of the runtime (runtime/call_string*.c), whose
 * attributes become constant operands. */
#include "frontend/import.h"

#define FN(f) void imp_##f(Imp *m)
FN(stringconcat);

/* A call with one result of known shape. */
static Val call1(Imp *m, const char *symbol, Type t, int nin, const Val *in)
{
    Val v;
    b_call(&m->b, symbol, 1, &t, nin, in, &v);
    return v;
}

/* The dims of x and y broadcast against each other, with guards. */
static int broadcast_dims(Imp *m, Val x, Val y, Dim *dim)
{
    const Type *s = val_type(m->b.g, x), *t = val_type(m->b.g, y);
    int rank = s->rank > t->rank ? s->rank : t->rank;
    for (int d = 0; d < rank; d++) {
        int i = d - rank + s->rank, j = d - rank + t->rank;
        if (i >= 0 && j >= 0)
            b_guard(&m->b, G_BCAST, s->dim[i], t->dim[j], "axes %d and %d do not broadcast", i, j);
        dim[d] = i < 0 ? t->dim[j] : j < 0 ? s->dim[i] : dim_bcast(m->c, s->dim[i], t->dim[j]);
    }
    return rank;
}

void imp_stringconcat(Imp *m)
{
    Dim dim[MAX_RANK];
    int rank = broadcast_dims(m, m->in[0], m->in[1], dim);
    result(m, 0, call1(m, "string_concat", type_tensor(m->c, DT_STR, rank, dim), 2, m->in));
}
