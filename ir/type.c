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

Type type_unranked(DType t, int rank) {
    return (Type){.kind = TY_TENSOR, .dtype = (uint8_t)t, .rank = (uint8_t)rank};
}

static Type element(Ctx *c, const Type *t) {
    Type y = *t;
    Dim dim[MAX_RANK];
    if (t->kind != TY_TENSOR) {
        y.elem = type_list(c, (TypeKind)t->kind, t->elem).elem;
        return y;
    }
    if (t->rank > MAX_RANK) return y;
    for (int i = 0; i < t->rank; i++) dim[i] = dim_is_const(c, t->dim[i], NULL) ? t->dim[i] : (Dim){0};
    return type_tensor(c, (DType)t->dtype, t->rank, dim);
}

Type type_list(Ctx *c, TypeKind kind, const Type *elem) {
    Type e = element(c, elem);
    return (Type){.kind = (uint8_t)kind, .elem = ctx_dup(c, &e, sizeof e)};
}

/* nested: an element, whose rank may be unknown */
static bool join(Ctx *c, const Type *a, const Type *b, Type *out, bool nested) {
    if (a->kind != b->kind || a->dtype != b->dtype) return false;
    *out = *a;
    if (a->kind != TY_TENSOR) {
        Type e;
        if (!a->elem != !b->elem) return false;
        if (!a->elem) return true;
        if (!join(c, a->elem, b->elem, &e, true)) return false;
        out->elem = ctx_dup(c, &e, sizeof e);
        return true;
    }
    if (a->rank == RANK_NONE || b->rank == RANK_NONE) *out = a->rank == RANK_NONE ? *b : *a;
    else if (a->rank != b->rank) *out = type_unranked((DType)a->dtype, RANK_ANY);
    else if (a->rank <= MAX_RANK) {
        Dim dim[MAX_RANK];
        for (int d = 0; d < a->rank; d++) dim[d] = dim_same(c, a->dim[d], b->dim[d]) ? a->dim[d] : (Dim){0};
        *out = type_tensor(c, (DType)a->dtype, a->rank, dim);
    }
    return nested || a->rank == b->rank;
}

bool type_join(Ctx *c, const Type *a, const Type *b, Type *out) { return join(c, a, b, out, false); }

bool type_covers(const Ctx *c, const Type *wide, const Type *t) {
    for (; wide && t; wide = wide->elem, t = t->elem) {
        if (wide->kind != t->kind || wide->dtype != t->dtype) return false;
        if (wide->kind != TY_TENSOR || wide->rank == RANK_ANY || t->rank == RANK_NONE) continue;
        if (wide->rank != t->rank) return false;
        for (int i = 0; i < type_ndim(t); i++)
            if (wide->dim[i].i && !dim_same(c, wide->dim[i], t->dim[i])) return false;
    }
    return !wide && !t;
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
        for (int i = 0; i < type_ndim(a); i++)
            if (!dim_same(c, a->dim[i], b->dim[i]) && (a->dim[i].i || b->dim[i].i)) return false;
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
    buf_printf(b, "%s[%s", dt_name((DType)t->dtype), t->rank == RANK_ANY ? "*" : t->rank == RANK_NONE ? "none" : "");
    for (int i = 0; i < type_ndim(t); i++) {
        if (i) buf_puts(b, ",");
        if (t->dim[i].i) dim_print(b, c, t->dim[i]);
        else buf_puts(b, "?");
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
