/* type.c: types of values. A tensor type is an element type and up to MAX_RANK dims; equality is
 * that of dims under all unifications made so far. */
#include <string.h>

#include "ir.h"

Type type_tensor(Ctx *c, DType t, int rank, const Dim *dim) {
    CHECK(rank >= 0 && rank <= MAX_RANK);
    Type y = {.kind = TY_TENSOR, .dtype = (uint8_t)t, .rank = (uint8_t)rank};
    if (rank) y.dim = ctx_dup(c, dim, sizeof *dim * (size_t)rank);
    return y;
}

Type type_consts(Ctx *c, DType t, int rank, const int64_t *dim) {
    Dim d[MAX_RANK];
    CHECK(rank >= 0 && rank <= MAX_RANK);
    for (int i = 0; i < rank; i++) d[i] = dim_const(c, dim[i]);
    return type_tensor(c, t, rank, d);
}

bool type_same(const Ctx *c, const Type *a, const Type *b) {
    for (; a && b; a = a->elem, b = b->elem) {
        if (a->kind != b->kind || a->dtype != b->dtype || a->rank != b->rank) return false;
        for (int i = 0; i < a->rank; i++)
            if (!dim_same(c, a->dim[i], b->dim[i])) return false;
    }
    return !a && !b;
}

Dim type_count(Ctx *c, const Type *t) {
    Dim n = dim_const(c, 1);
    for (int i = 0; i < t->rank; i++) n = dim_mul(c, n, t->dim[i]);
    return n;
}

bool type_const_dims(const Ctx *c, const Type *t, int64_t *out) {
    for (int i = 0; i < t->rank; i++)
        if (!dim_is_const(c, t->dim[i], &out[i])) return false;
    return true;
}

static void print_tensor(Buf *b, const Ctx *c, const Type *t) {
    buf_printf(b, "%s[", dt_name((DType)t->dtype));
    for (int i = 0; i < t->rank; i++) {
        if (i) buf_puts(b, ",");
        dim_print(b, c, t->dim[i]);
    }
    buf_puts(b, "]");
}

void type_print(Buf *b, const Ctx *c, const Type *t) {
    unsigned depth = 0;
    for (; t && t->kind != TY_TENSOR; t = t->elem, depth++) {
        if (t->kind == TY_MAP) buf_printf(b, "map<%s,", dt_name((DType)t->dtype));
        else buf_puts(b, t->kind == TY_SEQ ? "seq<" : "opt<");
    }
    if (t) print_tensor(b, c, t);
    while (depth--) buf_puts(b, ">");
}
