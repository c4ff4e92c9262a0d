/* op_ml.c: ai.onnx.ml: what is neither a tree, nor linear, nor a support vector machine: scaling, imputing, normalising, encoding of categories.
 * ONNX Runtime is followed where the specification leaves a choice. */
#include "frontend/ml.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(ml_extract); FN(ml_binarizer); FN(ml_features); FN(ml_imputer); FN(ml_normalizer); FN(ml_onehot); FN(ml_scaler);

/* ---- lists in attributes */

static const SrcAttr *attr_of(Imp *m, const char *name)
{
    return row_has_attr(m->row, name) ? attr_find(m, name) : NULL;
}

int64_t ml_count(Imp *m, const char *name)
{
    const SrcAttr *a = attr_of(m, name);
    return a ? (int64_t)(a->p->n_ints + a->p->n_floats + a->p->n_strings) : 0;
}

bool ml_list(Imp *m, const char *name, List *out)
{
    const SrcAttr *a = attr_of(m, name), *t = attr_of(m, ctx_printf(m->c, "%s_as_tensor", name));
    *out = (List){.t = DT_F32};
    if (a && a->p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR) {
        t = a;
        a = NULL;
    }
    if (a && a->p->n_floats && t) {
        ERR(m, "E0202", "attributes %s and %s_as_tensor are both given", name, name);
        return false;
    }
    if (!t) {
        double *v = NEWN(m->c, double, a ? a->p->n_floats + 1 : 1);
        out->n = a ? (int64_t)a->p->n_floats : 0;
        for (int64_t i = 0; i < out->n; i++)
            v[i] = (double)a->p->floats[i];
        out->v = v;
        return true;
    }
    Type type;
    const ConstData *d = tensor_read(m->m, t->p->t, t->name, m->b.loc, &type);
    if (!d)
        return false;
    if (!dt_is_float(d->dtype)) {
        ERR(m, "E0202", "attribute %s: expected a tensor of floats, got %s", t->name, dt_name(d->dtype));
        return false;
    }
    double *v = NEWN(m->c, double, d->count + 1);
    for (int64_t i = 0; i < d->count; i++)
        v[i] = dt_load(d->dtype, d->data, d->splat ? 0 : i).f;
    *out = (List){.n = d->count, .v = v, .t = d->dtype};
    return true;
}

static Val constant(Imp *m, DType t, int rank, const Dim *dim, const void *data, size_t width)
{
    int64_t n;
    Type type = type_tensor(m->c, t, rank, dim);
    CHECK(dim_is_const(m->c, type_count(m->c, &type), &n));
    ConstData *d = NEW(m->c, ConstData);
    *d = (ConstData){.dtype = t, .count = n, .data = data, .bytes = (size_t)n * width};
    return b_const(&m->b, d, type);
}

Val ml_const(Imp *m, DType t, int rank, const Dim *dim, const double *v)
{
    int64_t n;
    Type type = type_tensor(m->c, t, rank, dim);
    CHECK(dim_is_const(m->c, type_count(m->c, &type), &n) && (t == DT_F32 || t == DT_F64));
    if (t == DT_F64)
        return constant(m, t, rank, dim, v, sizeof *v);
    float *f = NEWN(m->c, float, n + 1);
    for (int64_t i = 0; i < n; i++)
        f[i] = (float)v[i];
    return constant(m, t, rank, dim, f, sizeof *f);
}

Val ml_const_i32(Imp *m, int rank, const Dim *dim, const int32_t *v) { return constant(m, DT_I32, rank, dim, v, sizeof *v); }

static Val vector_f32(Imp *m, const List *l) { return ml_const(m, DT_F32, 1, (Dim[]){DC(m, l->n)}, l->v); }

typedef struct Str { const char *s; int64_t n; } Str; /* element of DT_STR */

Val ml_strings(Imp *m, int64_t n, const ProtobufCBinaryData *v)
{
    Str *s = NEWN(m->c, Str, n);
    Dim dim = DC(m, n);
    for (int64_t i = 0; i < n; i++)
        s[i] = (Str){v[i].len ? ctx_dup(m->c, v[i].data, v[i].len) : "", (int64_t)v[i].len};
    return constant(m, DT_STR, 1, &dim, s, sizeof *s);
}

Val ml_labels(Imp *m, const char *ints, const char *strings)
{
    const SrcAttr *a = attr_of(m, strings);
    if (!a || !a->p->n_strings)
        a = attr_of(m, ints);
    size_t n = a ? a->p->n_ints + a->p->n_strings : 0;
    Dim dim = DC(m, (int64_t)n);
    if (!n) {
        ERR(m, "E0201", "one of the attributes %s and %s is required", ints, strings);
        return (Val){0};
    }
    if (!a->p->n_strings)
        return constant(m, DT_I64, 1, &dim, a->p->ints, sizeof *a->p->ints);
    return ml_strings(m, (int64_t)n, a->p->strings);
}

/* ---- rows, scores, labels */

Val ml_rows(Imp *m, Val x)
{
    int r = rank_of(m, x);
    if (r != 1 && r != 2)
        ERR(m, "E0203", "expected [rows, features] or [features], got rank %d", r);
    return r == 2 ? x : r == 1 ? insert_axes(m, x, 2, 1) : (Val){0};
}

/* sqrt(2) erfinv(2 v - 1), by the approximation of ONNX Runtime (Winitzki's, a = 0.147) */
static Val probit(Imp *m, Val v)
{
    static const char text[] =
        "let t0 = a * 2 - 1; let t1 = log((1 - t0) * (1 + t0)); let t2 = 4.330746750799873 + 0.5 * t1;"
        "let t3 = 1.4142135623730951 * sqrt(sqrt(t2 * t2 - 6.802721088435374 * t1) - t2); select(t0 < 0, 0 - t3, t3)";
    return v.i ? b_map1(&m->b, text_expr(m, text, dtype_of(m, v), 1), 1, &v) : v;
}

/* exp(v - max) of what is not nearly 0, v exp(-max) of the rest, over the sum of the former */
static Val softmax_zero(Imp *m, Val v)
{
    DType t = dtype_of(m, v);
    Val in[2] = {v, b_reduce1(&m->b, R_MAX, v, 2, true)};
    Expr a = xarg(m, 0, t), top = xarg(m, 1, t), some = X2(GT, X1(ABS, a), xf(m, t, 1e-7));
    Val e = b_map1(&m->b, X3(SELECT, some, X1(EXP, X2(SUB, a, top)), xf(m, t, 0)), 2, in);
    Val sum = b_reduce1(&m->b, R_SUM, e, 2, true);
    Val all[4] = {v, in[1], e, sum};
    Expr num = X3(SELECT, some, xarg(m, 2, t), X2(MUL, a, X1(EXP, X1(NEG, top))));
    return b_map1(&m->b, X2(DIV, num, xarg(m, 3, t)), 4, all);
}

Val ml_post(Imp *m, Val v, const char *name)
{
    if (v.i && !strcmp(name, "PROBIT"))
        return probit(m, v);
    if (!v.i || !strcmp(name, "NONE") || dim_is(m->c, dim_of(m, v, 1), 1))
        return v;
    if (!strcmp(name, "LOGISTIC"))
        return b_unary(&m->b, S_SIGMOID, v);
    return !strcmp(name, "SOFTMAX") ? b_softmax(&m->b, v, 2) : softmax_zero(m, v);
}

Val ml_two_columns(Imp *m, Val s, const char *post, bool odd)
{
    if (!s.i)
        return s;
    DType t = dtype_of(m, s);
    Dim d[2] = {dim_of(m, s, 0), DC(m, 2)};
    bool inverse = !strcmp(post, "PROBIT");
    Expr a = xarg(m, 0, t), first = X2(EQ, xaxis(m, 1), XI(0));
    Expr pair = X3(SELECT, first, odd || !strcmp(post, "LOGISTIC") ? X1(NEG, a) : X2(SUB, xf(m, t, 1), a), a);
    if (inverse)
        s = probit(m, s);
    else if (!strcmp(post, "LOGISTIC"))
        pair = X1(SIGMOID, pair);
    return map_over(m, inverse ? X3(SELECT, first, a, xf(m, t, 0)) : pair, 1, &s, 2, d);
}

Val ml_pick(Imp *m, Val labels, Val index)
{
    return labels.i && index.i ? b_gather(&m->b, labels, index, 0, OOB_NEVER) : (Val){0};
}

Val ml_argmax(Imp *m, Val scores) { return scores.i ? b_argminmax(&m->b, scores, 1, false, true, false) : scores; }

/* ---- features */

/* z = x[.., y], with y flattened; a vector is one row */
void imp_ml_extract(Imp *m)
{
    Val x = rank_of(m, m->in[0]) == 1 ? ml_rows(m, m->in[0]) : m->in[0];
    const Type yt = *val_type(m->b.g, m->in[1]);
    Dim n = type_count(m->c, &yt);
    if (!rank_of(m, x)) {
        ERR(m, "E0203", "X must not be a scalar");
        return;
    }
    result(m, 0, b_gather(&m->b, x, reshape_to(m, m->in[1], 1, &n), rank_of(m, x) - 1, OOB_FAIL));
}

/* y = x > threshold */
void imp_ml_binarizer(Imp *m)
{
    DType t = dtype_of(m, m->in[0]), w = dt_is_float(t) ? t : DT_F64;
    Expr more = X2(GT, expr_cast(m->c, xarg(m, 0, t), w), xf(m, w, attr_f(m, "threshold")));
    result(m, 0, b_map1(&m->b, expr_cast(m->c, more, t), 1, m->in));
}

/* All operands side by side, each cut or filled with zeros to as many features as inputdimensions says. */
void imp_ml_features(Imp *m)
{
    int n;
    const int64_t *want = attr_ints(m, "inputdimensions", &n);
    if (n && n != (int)m->n->nin) {
        ERR(m, "E0202", "attribute inputdimensions: expected %u numbers, got %d", m->n->nin, n);
        return;
    }
    Val *part = NEWN(m->c, Val, m->n->nin);
    for (uint32_t i = 0; i < m->n->nin; i++) {
        Val x = m->in[i];
        int r = rank_of(m, x);
        if (!r) {
            ERR(m, "E0203", "operand %u must not be a scalar", i);
            return;
        }
        Dim d[MAX_RANK], flat[2];
        dims_of(m, x, d);
        flat[0] = r == 1 ? DC(m, 1) : d[0];
        flat[1] = r == 1 ? d[0] : count_of(m, d + 1, r - 1);
        x = cast_to(m, reshape_to(m, x, 2, flat), DT_F32);
        if (n && want[i] < 0) {
            ERR(m, "E0202", "attribute inputdimensions: %lld is negative", (long long)want[i]);
            return;
        }
        if (n && !dim_same(m->c, flat[1], DC(m, want[i]))) {
            Expr idx[2] = {xaxis(m, 0), xaxis(m, 1)}, e = expr_load(m->c, 0, DT_F32, 2, idx, OOB_VALUE, xf(m, DT_F32, 0), 0);
            flat[1] = DC(m, want[i]);
            x = map_over(m, e, 1, &x, 2, flat);
        }
        part[i] = x;
    }
    result(m, 0, m->n->nin == 1 ? part[0] : b_concat(&m->b, (int)m->n->nin, part, 1));
}

/* A vector attribute against the features of x: one element for all, or one for each. */
static Val per_feature(Imp *m, Val x, const char *name, int64_t n, Val v)
{
    int r = rank_of(m, x);
    if (n == 1)
        return only_element(m, v);
    if (!r) {
        ERR(m, "E0203", "attribute %s: %lld numbers for a scalar", name, (long long)n);
        return (Val){0};
    }
    b_guard(&m->b, G_EQ, dim_of(m, x, r - 1), DC(m, n), "attribute %s must have one number, or one for each feature", name);
    return v;
}

/* y = x, or the imputed value where x is the replaced one */
void imp_ml_imputer(Imp *m)
{
    Val x = m->in[0], v = {0};
    DType t = dtype_of(m, x);
    bool ints = dt_is_int(t);
    const char *name = ints ? "imputed_value_int64s" : "imputed_value_floats";
    int64_t n = ml_count(m, name);
    List l;
    if (!n) {
        ERR(m, "E0201", "attribute %s is required for %s", name, dt_name(t));
        return;
    }
    if (ints)
        v = cast_to(m, ml_labels(m, name, name), t);
    else if (ml_list(m, name, &l))
        v = cast_to(m, vector_f32(m, &l), t);
    v = v.i ? per_feature(m, x, name, n, v) : v;
    if (!v.i)
        return;
    double gone = attr_f(m, "replaced_value_float");
    Expr a = xarg(m, 0, t), hit = ints ? X2(EQ, a, expr_int(m->c, t, attr_i(m, "replaced_value_int64")))
                                  : isnan(gone) ? X1(ISNAN, a) : X2(EQ, a, xf(m, t, gone));
    result(m, 0, b_map1(&m->b, X3(SELECT, hit, xarg(m, 1, t), a), 2, (Val[]){x, v}));
}

/* x over the maximum, the sum of magnitudes, or the Euclidean length of its row; rows where that is 0 stay */
void imp_ml_normalizer(Imp *m)
{
    Val x = m->in[0];
    DType t = dtype_of(m, x) == DT_F64 ? DT_F64 : DT_F32;
    int r = rank_of(m, x);
    if (!r) {
        ERR(m, "E0203", "X must not be a scalar");
        return;
    }
    x = cast_to(m, x, t);
    uint32_t axes = 1u << (r == 1 ? 0 : 1);
    Val n, in[2] = {x};
    if (attr_is(m, "norm", "MAX")) {
        n = b_reduce1(&m->b, R_MAX, x, axes, true);
    } else {
        bool l1 = attr_is(m, "norm", "L1");
        n = b_reduce1(&m->b, R_SUM, map_text(m, l1 ? "abs(a)" : "a * a", 1, &x), axes, true);
        n = l1 ? n : b_unary(&m->b, S_SQRT, n);
    }
    in[1] = n;
    result(m, 0, cast_to(m, map_text(m, "select(b == 0, a, a / b)", 2, in), DT_F32));
}

/* (x - offset) * scale */
void imp_ml_scaler(Imp *m)
{
    static const char *const names[] = {"offset", "scale"};
    Val x = m->in[0];
    DType t = dtype_of(m, x) == DT_F64 ? DT_F64 : DT_F32;
    x = cast_to(m, x, t);
    for (int i = 0; i < 2; i++) {
        List l;
        if (!ml_list(m, names[i], &l))
            return;
        if (!l.n)
            continue;
        Val v = per_feature(m, x, names[i], l.n, cast_to(m, vector_f32(m, &l), t));
        x = v.i ? b_binary(&m->b, i ? S_MUL : S_SUB, x, v) : v;
        if (!x.i)
            return;
    }
    result(m, 0, cast_to(m, x, DT_F32));
}

/* y[.., k] = 1 where x is category k; with zeros = 0 an unknown category ends the run */
void imp_ml_onehot(Imp *m)
{
    Val x = m->in[0], cats = ml_labels(m, "cats_int64s", "cats_strings");
    int r = rank_of(m, x);
    if (!cats.i)
        return;
    DType t = dtype_of(m, cats);
    if ((t == DT_STR) != (dtype_of(m, x) == DT_STR)) {
        ERR(m, "E0202", "attribute cats_%s cannot be for %s", t == DT_STR ? "strings" : "int64s", dt_name(dtype_of(m, x)));
        return;
    }
    if (r + 1 > MAX_RANK) {
        UNSUP(m, "rank %d (at most %d)", r + 1, MAX_RANK);
        return;
    }
    Val in[2] = {insert_axes(m, cast_to(m, x, t), r + 1, 1u << r), cats};
    Val hit = b_map1(&m->b, X2(EQ, xarg(m, 0, t), xarg(m, 1, t)), 2, in);
    if (hit.i && !attr_i(m, "zeros"))
        b_guard_val(&m->b, b_reduce1(&m->b, R_OR, hit, 1u << r, false), "unknown category");
    result(m, 0, hit.i ? b_cast(&m->b, hit, DT_F32) : hit);
}
