/* op_old.c: operators that ONNX 1.0 to 1.4 listed as experimental, under which names files from Caffe2, PyTorch and WinML still
 * carry them. Semantics: docs/Operators.md of those releases, ONNX Runtime where it has a kernel, Caffe2's operator of that name else. */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(filled); FN(gruunit); FN(aten); FN(mvn1);

/* The shape of the result of ConstantFill and GivenTensorFill: attribute shape, or that of the operand, or the operand's
 * elements with input_as_shape; then extra_shape. */
static bool fill_shape(Imp *m, Dim *d, int *n)
{
    int k, more;
    const int64_t *s = attr_ints(m, "shape", &k), *extra = attr_ints(m, "extra_shape", &more);
    *n = 0;
    if (present(m, 0) == (s != NULL)) {
        ERR(m, "E0205", "expected either an operand or attribute shape");
        return false;
    }
    if (present(m, 0) && attr_i(m, "input_as_shape")) {
        int hint = hint_rank(m, 0);
        if (!operand_dims(m, m->in[0], "shape", 0, DIM_INF, hint < more ? -1 : hint - more, d, n))
            return false;
    } else if (present(m, 0)) {
        dims_of(m, m->in[0], d);
        *n = rank_of(m, m->in[0]);
    }
    if (*n + (s ? k : 0) + more > MAX_RANK) {
        UNSUP(m, "rank %d (at most %d)", *n + (s ? k : 0) + more, MAX_RANK);
        return false;
    }
    for (int i = 0; s && i < k; i++)
        d[(*n)++] = DC(m, s[i]);
    for (int i = 0; i < more; i++)
        d[(*n)++] = DC(m, extra[i]);
    for (int i = 0; i < *n; i++)
        if (dim_hi(m->c, d[i]) < 0) {
            ERR(m, "E0203", "the size of axis %d is negative", i);
            return false;
        }
    return true;
}

/* arg 0: one value everywhere (ConstantFill), arg 1: the listed values in row-major order (GivenTensorFill) */
void imp_filled(Imp *m)
{
    Dim d[SHAPE_MAX], count = DC(m, 1);
    int n;
    if (!fill_shape(m, d, &n))
        return;
    if (m->row->arg == 0) {
        DType t = attr_dtype(m, "dtype", DT_F32);
        if (t && (dt_is_float(t) || dt_is_int(t) || t == DT_BOOL))
            result(m, 0, b_splat(&m->b, dt_convert((Scalar){.t = DT_F64, .f = attr_f(m, "value")}, t), n, d));
        else if (t)
            ERR(m, "E0202", "attribute dtype: %s", dt_name(t));
        return;
    }
    const SrcAttr *a = attr_find(m, "values");
    int64_t have = a ? (int64_t)a->p->n_floats : 0;
    for (int i = 0; i < n; i++)
        count = dim_mul(m->c, count, d[i]);
    b_guard(&m->b, G_EQ, count, DC(m, have), "attribute values: %lld numbers do not fill the shape", (long long)have);
    ConstData *v = NEW(m->c, ConstData);
    *v = (ConstData){.dtype = DT_F32, .count = have, .data = a ? a->p->floats : NULL, .bytes = (size_t)have * sizeof(float)};
    result(m, 0, reshape_to(m, b_const(&m->b, v, type_consts(m->c, DT_F32, 1, &have)), n, d));
}

/* One step of a GRU whose gates (reset, update, output; [1, N, 3D]) are computed already:
 * h = sigmoid(update) * hidden_prev + (1 - sigmoid(update)) * tanh(output), for batches with t < seq_lengths; the others keep
 * hidden_prev, or are 0 with drop_states. */
void imp_gruunit(Imp *m)
{
    Val h = m->in[0], g = m->in[1], len = cast_to(m, m->in[2], DT_I64), t = cast_to(m, only_element(m, m->in[3]), DT_I64);
    DType ty = dtype_of(m, h), w = wide_type(ty);
    Dim d[3], gd[3];
    if (rank_of(m, h) != 3 || rank_of(m, g) != 3 || rank_of(m, len) != 1) {
        ERR(m, "E0203", "hidden_prev, gates and seq_lengths of ranks %d, %d and %d", rank_of(m, h), rank_of(m, g), rank_of(m, len));
        return;
    }
    dims_of(m, h, d);
    dims_of(m, g, gd);
    b_guard(&m->b, G_EQ, gd[0], d[0], "gates do not fit hidden_prev");
    b_guard(&m->b, G_EQ, gd[1], d[1], "gates do not fit hidden_prev");
    b_guard(&m->b, G_EQ, gd[2], dim_muli(m->c, d[2], 3), "gates must have three times the size of hidden_prev");
    b_guard(&m->b, G_EQ, dim_of(m, len, 0), d[1], "seq_lengths must have one element per batch");
    Expr at[3] = {xaxis(m, 0), xaxis(m, 1), X2(ADD, xaxis(m, 2), xdim(m, d[2]))}, n = at[1];
    Expr update = expr_load(m->c, 1, ty, 3, at, OOB_NEVER, (Expr){0}, 0);
    at[2] = X2(ADD, at[2], xdim(m, d[2]));
    Expr output = expr_load(m->c, 1, ty, 3, at, OOB_NEVER, (Expr){0}, 0), old = expr_cast(m->c, xarg(m, 0, ty), w);
    Expr u = X1(SIGMOID, expr_cast(m->c, update, w)), o = X1(TANH, expr_cast(m->c, output, w));
    Expr next = X2(ADD, X2(MUL, old, u), X2(MUL, o, X2(SUB, xf(m, w, 1), u)));
    Expr on = X2(LT, xarg(m, 3, DT_I64), expr_load(m->c, 2, DT_I64, 1, &n, OOB_NEVER, (Expr){0}, 0));
    next = X3(SELECT, on, next, attr_i(m, "drop_states") ? xf(m, w, 0) : old);
    result(m, 0, map_over(m, expr_cast(m->c, next, ty), 4, (Val[]){h, g, len, t}, 3, d));
}

/* ATen: the operators of PyTorch that are one scalar expression. */
void imp_aten(Imp *m)
{
    static const struct { const char *name, *text; uint32_t nin; } plain[] = {
        {"abs", "abs(a)", 1}, {"add", "a + b", 2}, {"cos", "cos(a)", 1}, {"div", "a / b", 2}, {"erf", "erf(a)", 1}, {"exp", "exp(a)", 1},
        {"expm1", "expm1(a)", 1}, {"floor", "floor(a)", 1}, {"ceil", "ceil(a)", 1}, {"log", "log(a)", 1}, {"log1p", "log1p(a)", 1},
        {"maximum", "max(a, b)", 2}, {"minimum", "min(a, b)", 2}, {"mul", "a * b", 2}, {"neg", "neg(a)", 1}, {"pow", "pow(a, b)", 2},
        {"reciprocal", "recip(a)", 1}, {"relu", "max(a, 0)", 1}, {"round", "rint(a)", 1}, {"rsqrt", "rsqrt(a)", 1}, {"sigmoid", "sigmoid(a)", 1},
        {"silu", "a * sigmoid(a)", 1}, {"sin", "sin(a)", 1}, {"softplus", "max(a, 0) + log1p(exp(0 - abs(a)))", 1}, {"sqrt", "sqrt(a)", 1},
        {"sub", "a - b", 2}, {"tanh", "tanh(a)", 1}, {"trunc", "trunc(a)", 1},
    };
    const char *name = attr_s(m, "operator");
    if (!strncmp(name, "aten::", 6))
        name += 6;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(name, plain[i].name) && m->n->nin == plain[i].nin && dt_is_float(dtype_of(m, m->in[0]))) {
            for (uint32_t k = 1; k < m->n->nin; k++)
                if (dtype_of(m, m->in[k]) != dtype_of(m, m->in[0])) {
                    ERR(m, "E0204", "operands of %s and %s", dt_name(dtype_of(m, m->in[0])), dt_name(dtype_of(m, m->in[k])));
                    return;
                }
            result(m, 0, map_text(m, plain[i].text, (int)m->n->nin, m->in));
            return;
        }
    UNSUP(m, "attribute operator: \"%.60s\" of %u operands", name, m->n->nin);
}

static bool image(Imp *m)
{
    if (rank_of(m, m->in[0]) == 4)
        return true;
    ERR(m, "E0203", "expected an image [N, C, H, W], got rank %d", rank_of(m, m->in[0]));
    return false;
}

/* (x - mean) / sqrt(variance + 1e-9) per image, or per image and channel unless across_channels; without the division unless
 * normalize_variance. */
void imp_mvn1(Imp *m)
{
    Val x = m->in[0];
    if (!image(m))
        return;
    uint32_t axes = attr_i(m, "across_channels") ? 14 : 12;
    DType t = dtype_of(m, x);
    x = cast_to(m, x, wide_type(t));
    Val d = b_binary(&m->b, S_SUB, x, b_mean(&m->b, x, axes, true));
    if (attr_i(m, "normalize_variance")) {
        Val v = b_mean(&m->b, map_text(m, "a * a", 1, &d), axes, true);
        d = map_text(m, "a / sqrt(b + 1e-9)", 2, (Val[]){d, v});
    }
    result(m, 0, cast_to(m, d, t));
}
