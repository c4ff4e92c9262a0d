/* op_gen.c: operators that make values: constants, ranges, identity matrices, random numbers, and Dropout, which is the
 * identity outside of training. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(constant); FN(constantofshape); FN(range); FN(eyelike); FN(random); FN(bernoulli); FN(multinomial); FN(dropout_off);
FN(dropout);

/* A constant of rank 0 or 1 with the elements of a scalar list. */
static Val list_const(Imp *m, DType t, int rank, size_t n, const void *data, size_t bytes)
{
    ConstData *d = NEW(m->c, ConstData);
    *d = (ConstData){.dtype = t, .count = (int64_t)n, .data = data, .bytes = bytes};
    Dim dim = DC(m, (int64_t)n);
    return b_const(&m->b, d, type_tensor(m->c, t, rank, &dim));
}

static Val tensor_const(Imp *m, const Onnx__TensorProto *p)
{
    Type t;
    const ConstData *d = tensor_read(m->m, p, "value", m->b.loc, &t);
    return d ? b_const(&m->b, d, t) : (Val){0};
}

/* Strings are {pointer, length} pairs; see DT_STR. */
typedef struct Str { const char *s; int64_t n; } Str;

static Val strings_const(Imp *m, int rank, size_t n, const ProtobufCBinaryData *s)
{
    Str *v = NEWN(m->c, Str, n ? n : 1);
    for (size_t i = 0; i < n; i++)
        v[i] = (Str){s[i].len ? ctx_strn(m->c, (const char *)s[i].data, s[i].len) : "", (int64_t)s[i].len};
    return list_const(m, DT_STR, rank, n, v, n * sizeof *v);
}

void imp_constant(Imp *m)
{
    if (m->n->nattr != 1) {
        ERR(m, "E0201", "expected exactly one attribute with the value, got %u", m->n->nattr);
        return;
    }
    const SrcAttr *a = &m->n->attr[0];
    const Onnx__AttributeProto *p = a->p;
    Val v = {0};
    switch (p->type) {
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR:
        v = tensor_const(m, p->t);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR: {
        Type t;
        const ConstData *d = tensor_read_sparse(m->m, p->sparse_tensor, "sparse_value", m->b.loc, &t);
        v = d ? b_const(&m->b, d, t) : v;
        break;
    }
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT:
        v = scalar_of(m, DT_F32, (double)p->f);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT:
        v = scalar_i64(m, p->i);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS:
        v = list_const(m, DT_F32, 1, p->n_floats, p->floats, p->n_floats * sizeof *p->floats);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
        v = list_const(m, DT_I64, 1, p->n_ints, p->ints, p->n_ints * sizeof *p->ints);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING:
        v = strings_const(m, 0, 1, &p->s);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS:
        v = strings_const(m, 1, p->n_strings, p->strings);
        break;
    default:
        ERR(m, "E0201", "attribute %s cannot be the value of a constant", a->name);
    }
    result(m, 0, v);
}

/* every element is `value` (default 0.0f) */
void imp_constantofshape(Imp *m)
{
    const Onnx__TensorProto *p = attr_tensor(m, "value");
    Scalar s = {.t = DT_F32, .f = 0};
    Dim d[SHAPE_MAX];
    int n;
    if (p) {
        Type t;
        const ConstData *data = tensor_read(m->m, p, "value", m->b.loc, &t);
        if (!data)
            return;
        if (data->count != 1 || data->dtype == DT_STR) {
            ERR(m, "E0201", "attribute value: expected one number, got %lld elements of %s", (long long)data->count,
                dt_name(data->dtype));
            return;
        }
        s = dt_load(data->dtype, data->data, 0);
    }
    if (!operand_dims(m, m->in[0], "shape", 0, DIM_INF, hint_rank(m, 0), d, &n))
        return;
    if (n > MAX_RANK) {
        UNSUP(m, "rank %d (at most %d)", n, MAX_RANK);
        return;
    }
    for (int i = 0; i < n; i++)
        if (dim_hi(m->c, d[i]) < 0) {
            ERR(m, "E0203", "the size of axis %d is negative", i);
            return;
        }
    result(m, 0, b_splat(&m->b, s, n, d));
}

/* Numbers of elements of a range from argument 0 to 1 by 2: of floats, which may be none or NaN; of integers, unsigned and exact. */
static Expr float_steps(Imp *m, DType t)
{
    Expr a = expr_cast(m->c, xarg(m, 0, t), DT_F64), b = expr_cast(m->c, xarg(m, 1, t), DT_F64);
    return X1(CEIL, X2(DIV, X2(SUB, b, a), expr_cast(m->c, xarg(m, 2, t), DT_F64)));
}

static Expr whole_steps(Imp *m, DType t)
{
    Expr a = xarg(m, 0, t), b = xarg(m, 1, t), d = xarg(m, 2, t), down = X2(LT, d, expr_int(m->c, t, 0));
    Expr low = X3(SELECT, down, b, a), high = X3(SELECT, down, a, b), zero = expr_int(m->c, DT_U64, 0), one = expr_int(m->c, DT_U64, 1);
    Expr span = X2(SUB, expr_cast(m->c, high, DT_U64), expr_cast(m->c, low, DT_U64)), by = expr_cast(m->c, d, DT_U64);
    by = X3(SELECT, down, X2(SUB, zero, by), by);
    return X3(SELECT, X2(LT, low, high), X2(ADD, X2(DIV, X2(SUB, span, one), by), one), zero);
}

/* start + i*delta for 0 <= i < max(ceil((limit - start) / delta), 0) */
void imp_range(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    Val in[3];
    for (int i = 0; i < 3; i++)
        in[i] = only_element(m, m->in[i]);
    Dim n = {0}, e[3];
    bool dims = t == DT_I64;
    Scalar s[3];
    bool known = true;
    for (int i = 0; i < 3; i++) {
        int64_t k;
        const Dim *el = dims ? val_elems(m->b.g, m->in[i], &k) : NULL;
        dims = dims && el && k == 1;
        if (dims)
            e[i] = el[0];
        known &= const_scalar(m, in[i], &s[i]);
    }
    int64_t step;
    if (known && dt_is_float(t)) {
        double c = ceil((s[1].f - s[0].f) / s[2].f);
        if (!(c < 0x1p40)) {
            ERR(m, "E0203", "a range of %g elements", c);
            return;
        }
        n = DC(m, c > 0 ? (int64_t)c : 0);
    } else if (known && s[2].i == 0) {
        ERR(m, "E0202", "the step is 0");
        return;
    } else if (known) {
        const bool down = s[2].i < 0;
        const int64_t low = s[down].i, high = s[!down].i;
        const uint64_t span = (uint64_t)high - (uint64_t)low, by = down ? -(uint64_t)s[2].i : (uint64_t)s[2].i; /* up to 2^64 */
        const uint64_t count = low >= high ? 0 : (span - 1) / by + 1;
        if (count > UINT64_C(1) << 62) {
            ERR(m, "E0203", "a range of %llu elements", (unsigned long long)count);
            return;
        }
        n = DC(m, (int64_t)count);
    } else if (dims && dim_is_const(m->c, e[2], &step) && step != 0 && step != INT64_MIN) {
        Dim span = step > 0 ? dim_sub(m->c, e[1], e[0]) : dim_sub(m->c, e[0], e[1]);
        n = dim_max(m->c, DC(m, 0), dim_ceildiv(m->c, span, DC(m, step < 0 ? -step : step)));
    } else {
        Val delta_ok = map_text(m, "a != 0", 1, &in[2]);
        Expr c = dt_is_float(t) ? float_steps(m, t) : whole_steps(m, t);
        b_guard_val(&m->b, delta_ok, "the step is 0");
        b_guard_val(&m->b, map_over(m, X2(LT, c, expr_cast(m->c, XI(INT64_C(1) << 62), expr_info(m->c, c)->dtype)), 3, in, 0, NULL),
                    "start, limit and step do not give a number of elements");
        Val count = map_over(m, X2(MAX, XI(0), expr_cast(m->c, c, DT_I64)), 3, in, 0, NULL);
        n = b_bind(&m->b, count, 0, "range", 0, DIM_INF);
    }
    DType w = wide_type(t);
    Expr first = expr_cast(m->c, xarg(m, 0, t), w), delta = expr_cast(m->c, xarg(m, 1, t), w);
    Expr x = X2(ADD, first, X2(MUL, expr_cast(m->c, xaxis(m, 0), w), delta));
    result(m, 0, map_over(m, expr_cast(m->c, x, t), 2, (Val[]){in[0], in[2]}, 1, &n));
}

/* 1 where column - row == k */
void imp_eyelike(Imp *m)
{
    DType t = attr_dtype(m, "dtype", dtype_of(m, m->in[0]));
    Dim d[MAX_RANK];
    if (rank_of(m, m->in[0]) != 2) {
        ERR(m, "E0203", "expected a matrix, got rank %d", rank_of(m, m->in[0]));
        return;
    }
    if (!t)
        return;
    if (!dt_is_float(t) && !dt_is_int(t) && t != DT_BOOL) {
        ERR(m, "E0204", "a matrix of %s", dt_name(t));
        return;
    }
    dims_of(m, m->in[0], d);
    Expr hit = X2(EQ, X2(SUB, xaxis(m, 1), xaxis(m, 0)), XI(attr_i(m, "k")));
    Expr e = X3(SELECT, hit, expr_int(m->c, t, 1), expr_int(m->c, t, 0));
    result(m, 0, map_over(m, e, 0, NULL, 2, d));
}

/* ---- random numbers */

static Val draw(Imp *m, const char *algo, DType t, int rank, const Dim *d, double a, double b)
{
    DType w = wide_type(t);
    RandomAttr r = {.algo = algo, .type = type_tensor(m->c, w, rank, d), .a = a, .b = b};
    const SrcAttr *seed = attr_find(m, "seed");
    if (seed) { /* a float by the schema, an int for Dropout */
        r.seeded = true;
        float f = seed->p->f;
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        bool whole = f >= 0 && f < 16777216.0f && floorf(f) == f;
        r.seed = seed->p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT ? (uint64_t)seed->p->i
               : whole ? (uint64_t)f : bits;
    }
    return cast_to(m, b_random(&m->b, &r, 0, NULL), t);
}

void imp_random(Imp *m)
{
    bool like = m->n->nin > 0, uniform = m->row->arg == 1;
    DType t = attr_dtype(m, "dtype", like ? dtype_of(m, m->in[0]) : DT_F32);
    Dim d[MAX_RANK];
    int n = 0;
    if (!t)
        return;
    if (!dt_is_float(t)) {
        ERR(m, "E0202", "attribute dtype: expected a float type, got %s", dt_name(t));
        return;
    }
    if (like) {
        n = rank_of(m, m->in[0]);
        dims_of(m, m->in[0], d);
    } else {
        const int64_t *s = attr_ints(m, "shape", &n);
        for (int i = 0; i < n; i++) {
            if (n > MAX_RANK || s[i] < 0) {
                ERR(m, "E0202", "attribute shape: rank %d, size %lld", n, (long long)s[i]);
                return;
            }
            d[i] = DC(m, s[i]);
        }
    }
    result(m, 0, draw(m, uniform ? "uniform" : "normal", t, n, d, attr_f(m, uniform ? "low" : "mean"),
                      attr_f(m, uniform ? "high" : "scale")));
}

/* 1 with probability x */
void imp_bernoulli(Imp *m)
{
    DType s = dtype_of(m, m->in[0]), t = attr_dtype(m, "dtype", s), w = wide_type(s);
    int r = rank_of(m, m->in[0]);
    Dim d[MAX_RANK];
    if (!t)
        return;
    dims_of(m, m->in[0], d);
    Val u = draw(m, "uniform", w, r, d, 0, 1);
    result(m, 0, cast_to(m, b_binary(&m->b, S_LT, u, cast_to(m, m->in[0], w)), t));
}

/* sample_size draws per row from unnormalised log-probabilities: the greatest of x + Gumbel noise */
void imp_multinomial(Imp *m)
{
    DType t = attr_dtype(m, "dtype", DT_I32), w = wide_type(dtype_of(m, m->in[0]));
    int64_t n = attr_i(m, "sample_size");
    if (!t)
        return;
    if (rank_of(m, m->in[0]) != 2 || n < 0) {
        ERR(m, "E0203", "expected a matrix and sample_size >= 0, got rank %d and %lld", rank_of(m, m->in[0]),
            (long long)n);
        return;
    }
    Dim d[3] = {dim_of(m, m->in[0], 0), DC(m, n), dim_of(m, m->in[0], 1)};
    Val in[2] = {insert_axes(m, cast_to(m, m->in[0], w), 3, 2), draw(m, "uniform", w, 3, d, 0, 1)};
    Expr u = X2(MAX, xarg(m, 1, w), xf(m, w, 0x1p-30));
    Expr g = X2(SUB, xarg(m, 0, w), X1(LOG, X1(NEG, X1(LOG, u))));
    Val v = map_over(m, g, 2, in, 3, d);
    result(m, 0, cast_to(m, b_argminmax(&m->b, v, 2, false, true, false), t));
}

/* ---- Dropout */

static void pass_through(Imp *m, DType mask)
{
    Dim d[MAX_RANK];
    int r = rank_of(m, m->in[0]);
    result(m, 0, m->in[0]);
    dims_of(m, m->in[0], d);
    if (wanted(m, 1))
        result(m, 1, b_splat(&m->b, dt_convert((Scalar){.t = DT_I64, .i = 1}, mask), r, d));
}

/* Before version 12 a compiled model is always a model for inference. */
void imp_dropout_off(Imp *m) { pass_through(m, m->row->since < 10 ? dtype_of(m, m->in[0]) : DT_BOOL); }

/* training: mask = u >= ratio, y = mask ? x / (1 - ratio) : 0 */
void imp_dropout(Imp *m)
{
    Val x = m->in[0];
    DType t = dtype_of(m, x), w = wide_type(t);
    int r = rank_of(m, x);
    Scalar on, ratio = {.t = DT_F32, .f = 0.5};
    Dim d[MAX_RANK];
    dims_of(m, x, d);
    if (!present(m, 2) || (const_scalar(m, m->in[2], &on) && !on.i)) {
        pass_through(m, DT_BOOL);
        return;
    }
    bool fixed = const_scalar(m, m->in[2], &on);
    if (present(m, 1) && const_scalar(m, m->in[1], &ratio) && ratio.f == 0) {
        pass_through(m, DT_BOOL);
        return;
    }
    /* A given seed means numpy's generator, whose values the reference data of the standard hold. */
    Val u = draw(m, attr_has(m, "seed") ? "mt19937" : "uniform", attr_has(m, "seed") ? DT_F64 : w, r, d, 0, 1);
    DType ut = dtype_of(m, u);
    Val in[4] = {u, present(m, 1) ? cast_to(m, only_element(m, m->in[1]), ut) : scalar_of(m, ut, 0.5),
                 fixed ? (Val){0} : only_element(m, m->in[2]), x};
    Expr keep = X2(GE, xarg(m, 0, ut), xarg(m, 1, ut));
    if (!fixed)
        keep = X2(OR, keep, X1(NOT, xarg(m, 2, DT_BOOL)));
    Val mask = map_over(m, keep, fixed ? 2 : 3, in, r, d);
    Val yin[4] = {x, mask, in[1], in[2]};
    Expr scaled = X2(MUL, expr_cast(m->c, xarg(m, 0, t), ut),
                     X2(DIV, xf(m, ut, 1), X2(SUB, xf(m, ut, 1), xarg(m, 2, ut))));
    Expr y = X3(SELECT, xarg(m, 1, DT_BOOL), expr_cast(m->c, scaled, t), xf(m, t, 0));
    if (!fixed)
        y = X3(SELECT, xarg(m, 3, DT_BOOL), y, xarg(m, 0, t));
    result(m, 0, map_over(m, y, fixed ? 3 : 4, yin, r, d));
    result(m, 1, mask);
}
