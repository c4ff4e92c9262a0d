/* op_ml_label.c: operators of ai.onnx.ml that map keys to values: LabelEncoder, CategoryMapper, and those that make or read maps: ZipMap, CastMap,
 * DictVectorizer.
 *
 * A table of keys and values becomes: the slot of x among the keys, then a gather from the values, behind which stands the default. Numbers find
 * their slot by arithmetic: a subtraction if the keys are consecutive integers, else a search by halves, unrolled. Strings are compared one by
 * one if there are few keys, else looked up by the runtime. */
#include "frontend/ml.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(ml_label1); FN(ml_label); FN(ml_category); FN(ml_zipmap); FN(ml_castmap); FN(ml_dict);

enum { FEW_STRINGS = 16 };

/* ---- slots: i64 of the shape of x, in [0, n]; n: x is no key */

typedef struct NumKey { Scalar s; int64_t slot; } NumKey;

static int compare(const Scalar *a, const Scalar *b)
{
    return dt_is_float(a->t) ? (a->f > b->f) - (a->f < b->f) : (a->i > b->i) - (a->i < b->i);
}

static int by_key(const void *a, const void *b)
{
    const NumKey *x = a, *y = b;
    int c = compare(&x->s, &y->s);
    return c ? c : (x->slot > y->slot) - (x->slot < y->slot);
}

/* Sorted distinct keys (of equal ones the first counts); NaN apart: its slot is *nan, or -1. */
static int64_t sort_keys(Imp *m, const Tensor *k, NumKey **out, int64_t *nan)
{
    int64_t n = 0, distinct = 0;
    NumKey *v = *out = NEWN(m->c, NumKey, tensor_count(k) + 1);
    *nan = -1;
    for (int64_t i = 0; i < tensor_count(k); i++) {
        Scalar s = dt_load(k->dtype, k->data, i);
        if (!dt_is_float(s.t) || !isnan(s.f))
            v[n++] = (NumKey){s, i};
        else if (*nan < 0)
            *nan = i;
    }
    qsort(v, (size_t)n, sizeof *v, by_key);
    for (int64_t i = 0; i < n; i++)
        if (!distinct || compare(&v[distinct - 1].s, &v[i].s))
            v[distinct++] = v[i];
    return distinct;
}

static Val number_slot(Imp *m, Val x, const Tensor *keys)
{
    DType t = dtype_of(m, x);
    int64_t nan, all = tensor_count(keys);
    NumKey *k;
    int64_t n = sort_keys(m, keys, &k, &nan);
    Expr a = xarg(m, 0, t), none = XI(all), slot = none;
    bool dense = n > 0 && dt_is_int(t);
    for (int64_t i = 0; i < n && dense; i++)
        dense = k[i].slot == i && k[i].s.i - k[0].s.i == i;
    Val in[3] = {x};
    int nin = 1;
    if (dense) {
        Expr at = expr_cast(m->c, a, DT_I64), lo = XI(k[0].s.i), hi = XI(k[n - 1].s.i);
        slot = X3(SELECT, X2(AND, X2(GE, at, lo), X2(LE, at, hi)), X2(SUB, at, lo), none);
    } else if (n) {
        int64_t size = 1;
        while (size < n)
            size *= 2;
        Tensor *sorted = tensor_new(m->c, t, 1, &size), *slots = tensor_new(m->c, DT_I64, 1, &size);
        for (int64_t i = 0; i < size; i++) {
            const NumKey *from = &k[i < n ? i : n - 1];
            dt_store(t, sorted->data, i, from->s);
            dt_store(DT_I64, slots->data, i, (Scalar){.t = DT_I64, .i = from->slot});
        }
        Dim d = DC(m, size);
        in[nin++] = b_const(&m->b, tensor_to_const(m->c, sorted), type_tensor(m->c, t, 1, &d));
        in[nin++] = b_const(&m->b, tensor_to_const(m->c, slots), type_tensor(m->c, DT_I64, 1, &d));
        Expr at = XI(0);
        for (int64_t half = size / 2; half; half /= 2) {
            Expr next = X2(ADD, at, XI(half)), key = expr_load(m->c, 1, t, 1, &next, OOB_NEVER, (Expr){0}, 0);
            at = X3(SELECT, X2(LE, key, a), next, at);
        }
        Expr hit = X2(EQ, expr_load(m->c, 1, t, 1, &at, OOB_NEVER, (Expr){0}, 0), a);
        slot = X3(SELECT, hit, expr_load(m->c, 2, DT_I64, 1, &at, OOB_NEVER, (Expr){0}, 0), none);
    }
    if (nan >= 0)
        slot = X3(SELECT, X1(ISNAN, a), XI(nan), slot);
    Dim d[MAX_RANK];
    dims_of(m, x, d);
    return map_over(m, slot, nin, in, rank_of(m, x), d);
}

static Val string_slot(Imp *m, Val x, Val keys, int64_t n)
{
    int r = rank_of(m, x);
    Dim d[MAX_RANK];
    Val in[2] = {x, keys}, out;
    dims_of(m, x, d);
    if (n > FEW_STRINGS) {
        Type t = type_tensor(m->c, DT_I64, r, d);
        b_call(&m->b, "map_lookup", 1, &t, 2, in, &out);
        return out;
    }
    Expr slot = XI(n);
    for (int64_t i = n - 1; i >= 0; i--) {
        Expr at = XI(i);
        slot = X3(SELECT, X2(EQ, xarg(m, 0, DT_STR), expr_load(m->c, 1, DT_STR, 1, &at, OOB_NEVER, (Expr){0}, 0)), at, slot);
    }
    return map_over(m, slot, 2, in, r, d);
}

/* ---- tables */

typedef struct Table { Val keys, values, deflt; } Table; /* vectors of one length, a vector of one element */

static Val vector_of(Imp *m, Val v)
{
    const Type t = *val_type(m->b.g, v);
    Dim n = type_count(m->c, &t);
    return reshape_to(m, v, 1, &n);
}

static Val look_up(Imp *m, Val x, const Table *t)
{
    if (!t->keys.i || !t->values.i || !t->deflt.i)
        return (Val){0};
    int64_t n;
    Dim nk = dim_of(m, t->keys, 0);
    if (dtype_of(m, t->keys) != dtype_of(m, x) || !dim_same(m->c, nk, dim_of(m, t->values, 0)) || !dim_is_const(m->c, nk, &n)) {
        Buf b = {.c = m->c};
        type_print(&b, m->c, val_type(m->b.g, t->keys));
        buf_puts(&b, " to ");
        type_print(&b, m->c, val_type(m->b.g, t->values));
        ERR(m, "E0202", "keys and values %s do not fit %s", buf_str(&b), dt_name(dtype_of(m, x)));
        return (Val){0};
    }
    const Tensor *keys = dtype_of(m, x) == DT_STR ? NULL : const_tensor(m, t->keys);
    Val slot = keys ? number_slot(m, x, keys) : string_slot(m, x, t->keys, n);
    Val in[2] = {t->values, t->deflt}, all = b_concat(&m->b, 2, in, 0);
    return slot.i && all.i ? b_gather(&m->b, all, slot, 0, OOB_NEVER) : (Val){0};
}

static Val one_string(Imp *m, const char *s) { return ml_strings(m, 1, (const ProtobufCBinaryData[]){{strlen(s), (uint8_t *)(uintptr_t)s}}); }

static Val default_string(Imp *m) { return one_string(m, attr_s(m, "default_string")); }

static Val one_number(Imp *m, DType t, double v) { return reshape_to(m, scalar_of(m, t, v), 1, (Dim[]){DC(m, 1)}); }

/* The list `what`_strings, _int64s, _floats or _tensor, whichever there is. */
static Val list_of(Imp *m, const char *what)
{
    char *strings = ctx_printf(m->c, "%s_strings", what), *ints = ctx_printf(m->c, "%s_int64s", what), *tensor = ctx_printf(m->c, "%s_tensor", what);
    List l;
    if (row_has_attr(m->row, tensor) && attr_tensor(m, tensor)) {
        Type t;
        const ConstData *d = tensor_read(m->m, attr_tensor(m, tensor), tensor, m->b.loc, &t);
        return d ? vector_of(m, b_const(&m->b, d, t)) : (Val){0};
    }
    if (ml_count(m, strings) || ml_count(m, ints))
        return ml_labels(m, ints, strings);
    if (!ml_list(m, ctx_printf(m->c, "%s_floats", what), &l))
        return (Val){0};
    if (!l.n)
        ERR(m, "E0201", "one of the attributes %s_strings, %s_int64s, %s_floats and %s_tensor is required", what, what, what, what);
    return l.n ? ml_const(m, DT_F32, 1, (Dim[]){DC(m, l.n)}, l.v) : (Val){0};
}

/* LabelEncoder-2, -4 */
void imp_ml_label(Imp *m)
{
    Table t = {.keys = list_of(m, "keys"), .values = list_of(m, "values")};
    if (!t.keys.i || !t.values.i)
        return;
    DType v = dtype_of(m, t.values);
    if (row_has_attr(m->row, "default_tensor") && attr_tensor(m, "default_tensor"))
        t.deflt = list_of(m, "default");
    else if (v == DT_STR)
        t.deflt = default_string(m);
    else if (v == DT_I64)
        t.deflt = reshape_to(m, scalar_i64(m, attr_i(m, "default_int64")), 1, (Dim[]){DC(m, 1)});
    else
        t.deflt = one_number(m, v, dt_is_float(v) ? attr_f(m, "default_float") : (double)attr_i(m, "default_int64"));
    if (t.deflt.i && (dtype_of(m, t.deflt) != v || !dim_is(m->c, dim_of(m, t.deflt, 0), 1))) {
        ERR(m, "E0202", "attribute default_tensor: expected one %s", dt_name(v));
        return;
    }
    result(m, 0, look_up(m, m->in[0], &t));
}

/* Strings to what `ints` says, or back. */
static void strings_and_ints(Imp *m, Val strings, Val ints)
{
    bool from = dtype_of(m, m->in[0]) == DT_STR;
    if (!from && dtype_of(m, m->in[0]) != DT_I64) {
        ERR(m, "E0204", "operand X: expected str or i64, got %s", dt_name(dtype_of(m, m->in[0])));
        return;
    }
    Table t = {.keys = from ? strings : ints, .values = from ? ints : strings};
    t.deflt = from ? reshape_to(m, scalar_i64(m, attr_i(m, "default_int64")), 1, (Dim[]){DC(m, 1)}) : default_string(m);
    result(m, 0, look_up(m, m->in[0], &t));
}

void imp_ml_category(Imp *m) { strings_and_ints(m, ml_labels(m, "cats_strings", "cats_strings"), ml_labels(m, "cats_int64s", "cats_int64s")); }

/* LabelEncoder-1: a class is its position */
void imp_ml_label1(Imp *m)
{
    Val strings = ml_labels(m, "classes_strings", "classes_strings");
    if (!strings.i)
        return;
    Dim n = dim_of(m, strings, 0);
    int64_t count = 0;
    dim_is_const(m->c, n, &count);
    int64_t *at = NEWN(m->c, int64_t, count);
    for (int64_t i = 0; i < count; i++)
        at[i] = i;
    strings_and_ints(m, strings, b_const_i64(&m->b, 1, &count, at));
}

/* ---- maps */

static Type map_type(Imp *m, DType key, DType value)
{
    Type *elem = NEW(m->c, Type);
    *elem = type_tensor(m->c, value, 0, NULL);
    return (Type){.kind = TY_MAP, .dtype = (uint8_t)key, .elem = elem};
}

/* a map for each row: the labels and its elements */
void imp_ml_zipmap(Imp *m)
{
    Val x = ml_rows(m, m->in[0]), labels = ml_labels(m, "classlabels_int64s", "classlabels_strings");
    if (!x.i || !labels.i)
        return;
    b_guard(&m->b, G_EQ, dim_of(m, x, 1), dim_of(m, labels, 0), "X must have one column for each label");
    Type *elem = NEW(m->c, Type);
    *elem = map_type(m, dtype_of(m, labels), dtype_of(m, x));
    result(m, 0, b_seq(&m->b, "zip", (Type){.kind = TY_SEQ, .elem = elem}, 2, (Val[]){labels, x}));
}

/* The values of a map as a vector [1, n] of the type of `deflt`: for each of `keys`, deflt where the map lacks it; without keys in their order. */
static void map_vector(Imp *m, Val map, Val keys, Val deflt)
{
    Dim d[2] = {DC(m, 1), keys.i ? dim_of(m, keys, 0) : dim_fresh(m->c, "keys", 0, DIM_INF)};
    Type t = type_tensor(m->c, dtype_of(m, deflt), 1, d + 1);
    Val v, in[3] = {map, keys, deflt};
    b_call(&m->b, "map_vector", 1, &t, 3, in, &v);
    result(m, 0, reshape_to(m, v, 2, d));
}

static bool is_map(Imp *m)
{
    const Type *t = val_type(m->b.g, m->in[0]);
    bool ok = t->kind == TY_MAP && t->elem->kind == TY_TENSOR;
    if (!ok)
        ERR(m, "E0204", "operand X: expected a map to numbers or strings");
    return ok;
}

/* DENSE: the values in the order of their keys; SPARSE: those of the keys 0 to max_map, 0 (as a string "0.f") where there is none */
void imp_ml_castmap(Imp *m)
{
    Val keys = {0};
    int64_t n = attr_i(m, "max_map");
    if (!is_map(m))
        return;
    if (attr_is(m, "map_form", "SPARSE")) {
        if (n < 1) {
            ERR(m, "E0202", "attribute max_map: expected a positive number, got %lld", (long long)n);
            return;
        }
        Dim d = DC(m, n);
        keys = map_over(m, xaxis(m, 0), 0, NULL, 1, &d);
    }
    Val deflt = attr_is(m, "cast_to", "TO_STRING") ? one_string(m, "0.f") : one_number(m, attr_is(m, "cast_to", "TO_FLOAT") ? DT_F32 : DT_I64, 0);
    map_vector(m, m->in[0], keys, deflt);
}

/* y[0, i] = x[vocabulary[i]], 0 or "" where x lacks it */
void imp_ml_dict(Imp *m)
{
    Val keys = ml_labels(m, "int64_vocabulary", "string_vocabulary");
    if (!keys.i || !is_map(m))
        return;
    const Type *t = val_type(m->b.g, m->in[0]);
    if (t->dtype != dtype_of(m, keys)) {
        ERR(m, "E0202", "the vocabulary is of %s, the keys of X of %s", dt_name(dtype_of(m, keys)), dt_name((DType)t->dtype));
        return;
    }
    DType v = (DType)t->elem->dtype;
    map_vector(m, m->in[0], keys, v == DT_STR ? one_string(m, "") : one_number(m, v, 0));
}
