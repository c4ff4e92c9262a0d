/* op_ms_fused.c: what optimisers make of neighbouring operators: products and convolutions with residuals and activations,
 * activations with biases and gates. */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(biasgelu); FN(fastgelu); FN(biassplitgelu); FN(scaledsilu); FN(gatedadd); FN(attentiongate); FN(biassoftmax);
FN(fusedconv); FN(nhwcconv); FN(fusedgemm); FN(fusedmatmul);
void imp_conv(Imp *m);
void imp_gemm(Imp *m);

/* ---- activations named by an attribute */

/* alpha, beta, gamma stand for the node's parameters; deflt: where it has none */
static const struct { const char *name, *text; double deflt[3]; } activations[] = {
    {"Relu", "max(a, 0)", {0}},
    {"Tanh", "tanh(a)", {0}},
    {"Sigmoid", "sigmoid(a)", {0}},
    {"LeakyRelu", "select(a < 0, (%1$.17g) * a, a)", {0.01}},
    {"Clip", "min(max(a, (%1$.17g)), (%2$.17g))", {-3.4028234663852886e38, 3.4028234663852886e38}},
    {"HardSigmoid", "max(min((%1$.17g) * a + (%2$.17g), 1), 0)", {0.2, 0.5}},
    {"HardSwish", "a * max(min(a * 0.16666667163372039794921875 + 0.5, 1), 0)", {0}},
    {"Elu", "select(a < 0, (%1$.17g) * expm1(a), a)", {1}},
    {"Selu", "(%2$.17g) * select(a <= 0, (%1$.17g) * expm1(a), a)", {1.67326319217681884765625, 1.05070102214813232421875}},
    {"ThresholdedRelu", "select(a > (%1$.17g), a, 0)", {1}},
    {"Softplus", "max(a, 0) + log1p(exp(0 - abs(a)))", {0}},
    {"Softsign", "a / (abs(a) + 1)", {0}},
    {"Gelu", "a * (erf(a / 1.4142135623730951) + 1) * 0.5", {0}},
    {"QuickGelu", "a * sigmoid((%1$.17g) * a)", {1.702}},
    {"Affine", "(%1$.17g) * a + (%2$.17g)", {1, 0}},
    {"ScaledTanh", "(%1$.17g) * tanh((%2$.17g) * a)", {1, 1}},
    {"ParametricSoftplus", "(%1$.17g) * (max((%2$.17g) * a, 0) + log1p(exp(0 - abs((%2$.17g) * a))))", {1, 1}},
};

static void params(Imp *m, const double *deflt, double *p)
{
    static const char *const names[] = {"activation_alpha", "activation_beta", "activation_gamma"};
    const SrcAttr *list = attr_find(m, "activation_params");
    for (int i = 0; i < 3; i++) {
        p[i] = deflt[i];
        if (list && (size_t)i < list->p->n_floats)
            p[i] = (double)list->p->floats[i];
        else if (!list && attr_has(m, names[i]))
            p[i] = attr_f(m, names[i]);
    }
}

/* The activation that the node names, if any, applied to v. */
static Val activated(Imp *m, Val v)
{
    const char *name = attr_s(m, "activation");
    double p[3];
    if (!v.i || !name[0])
        return v;
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (!strcmp(name, activations[i].name)) {
            params(m, activations[i].deflt, p);
            return map_text(m, ctx_printf(m->c, activations[i].text, p[0], p[1]), 1, &v);
        }
    UNSUP(m, "attribute activation: %s", name);
    return (Val){0};
}

/* ---- products */

void imp_fusedgemm(Imp *m)
{
    imp_gemm(m);
    m->out[0] = activated(m, m->out[0]);
}

/* The operand with its last two axes exchanged, and with its first axis behind the batch axes, as attributes say. */
static Val transposed(Imp *m, Val v, bool last, bool batch)
{
    int perm[MAX_RANK], r = rank_of(m, v);
    if (r < 2)
        return v;
    for (int i = 0; i < r; i++)
        perm[i] = i;
    for (int i = 0; batch && i < r - 1; i++)
        perm[i] = i == r - 2 ? 0 : i + 1;
    if (last) {
        int t = perm[r - 1];
        perm[r - 1] = perm[r - 2];
        perm[r - 2] = t;
    }
    return b_permute(&m->b, v, perm);
}

void imp_fusedmatmul(Imp *m)
{
    DType t = dtype_of(m, m->in[0]), w = wide_type(t);
    bool batches = row_has_attr(m->row, "transBatchA");
    Val a = transposed(m, m->in[0], attr_i(m, "transA") != 0, batches && attr_i(m, "transBatchA"));
    Val b = transposed(m, m->in[1], attr_i(m, "transB") != 0, batches && attr_i(m, "transBatchB"));
    Val y = matmul(m, a, b, w, w);
    if (attr_f(m, "alpha") != 1)
        y = map_text(m, "a * $alpha", 1, &y);
    result(m, 0, cast_to(m, row_has_attr(m->row, "activation") ? activated(m, y) : y, t));
}

/* ---- convolutions */

void imp_fusedconv(Imp *m)
{
    imp_conv(m);
    Val y = m->out[0];
    if (present(m, 3) && y.i)
        y = b_binary(&m->b, S_ADD, y, m->in[3]);
    m->out[0] = activated(m, y);
}

/* [N, .., C]; weights are [M, C / group, ..] as ever */
void imp_nhwcconv(Imp *m)
{
    Val x = m->in[0], z = operand(m, 3);
    int perm[MAX_RANK], back[MAX_RANK], r = rank_of(m, x);
    DType t = dtype_of(m, x);
    if (r < 3) {
        ERR(m, "E0203", "expected rank 3 or more, got %d", r);
        return;
    }
    for (int i = 0; i < r; i++) {
        perm[i] = i == 0 ? 0 : i == 1 ? r - 1 : i - 1;
        back[i] = i == 0 ? 0 : i == r - 1 ? 1 : i + 1;
    }
    Val y = conv_bias(m, conv(m, b_permute(&m->b, x, perm), m->in[1], wide_type(t), t), operand(m, 2));
    y = y.i ? b_permute(&m->b, y, back) : y;
    if (z.i && y.i)
        y = b_binary(&m->b, S_ADD, y, z);
    result(m, 0, row_has_attr(m->row, "activation") ? activated(m, y) : y);
}

/* ---- elementwise */

void imp_biasgelu(Imp *m)
{
    result(m, 0, map_text(m, "let t0 = a + b; t0 * (erf(t0 / 1.4142135623730951) + 1) * 0.5", 2, m->in));
}

void imp_fastgelu(Imp *m)
{
    Val x = present(m, 1) ? map_text(m, "a + b", 2, m->in) : m->in[0];
    result(m, 0, map_text(m, "a * (0.5 + 0.5 * tanh(a * (0.035677408136300125 * a * a + 0.7978845608028654)))", 1, &x));
}

/* left half * gelu(right half) of x + bias */
void imp_biassplitgelu(Imp *m)
{
    int last = rank_of(m, m->in[0]) - 1;
    if (last < 0 || rank_of(m, m->in[1]) > last + 1) {
        ERR(m, "E0203", "operands of ranks %d and %d", last + 1, rank_of(m, m->in[1]));
        return;
    }
    Val x = map_text(m, "a + b", 2, m->in), half[2];
    Dim n = dim_of(m, x, last), h = dim_floordiv(m->c, n, DC(m, 2));
    b_guard(&m->b, G_EQ, dim_mod(m->c, n, DC(m, 2)), DC(m, 0), "the last size must be even");
    for (int i = 0; i < 2; i++)
        half[i] = b_slice_axis(&m->b, x, last, i ? h : DC(m, 0), h);
    result(m, 0, map_text(m, "a * (b * (erf(b / 1.4142135623730951) + 1) * 0.5)", 2, half));
}

/* z = scale * x, z * sigmoid(z), each step rounded to the type of x */
void imp_scaledsilu(Imp *m)
{
    Val x = m->in[0];
    DType t = dtype_of(m, x), w = wide_type(t);
    Val s = present(m, 1) ? cast_to(m, only_element(m, m->in[1]), w) : scalar_of(m, w, attr_f(m, "alpha"));
    Val z = cast_to(m, b_binary(&m->b, S_MUL, cast_to(m, x, w), s), t);
    Val g = z.i ? b_unary(&m->b, S_SIGMOID, z) : z;
    result(m, 0, b_binary(&m->b, S_MUL, z, g));
}

/* x + y * gate, gate [.., 1]; with a weight, the gate is sigmoid(gate . weight). Steps are rounded to the type of x. */
void imp_gatedadd(Imp *m)
{
    Val gate = m->in[2];
    DType t = dtype_of(m, m->in[0]);
    if (present(m, 3)) {
        gate = matmul(m, gate, m->in[3], wide_type(t), t);
        gate = gate.i ? b_unary(&m->b, S_SIGMOID, gate) : gate;
    }
    result(m, 0, b_binary(&m->b, S_ADD, m->in[0], b_binary(&m->b, S_MUL, m->in[1], gate)));
}

/* decay = scale * softplus(a + bias), beta = sigmoid(b) */
void imp_attentiongate(Imp *m)
{
    DType t = dtype_of(m, m->in[0]), w = dtype_of(m, m->in[1]);
    if (wanted(m, 1) && !present(m, 3)) {
        ERR(m, "E0205", "result beta needs operand b");
        return;
    }
    Val in[3] = {cast_to(m, m->in[0], w), m->in[1], m->in[2]};
    Val d = map_text(m, "c * (max(a + b, 0) + log1p(exp(0 - abs(a + b))))", 3, in);
    result(m, 0, cast_to(m, d, t));
    if (wanted(m, 1))
        result(m, 1, b_unary(&m->b, S_SIGMOID, m->in[3]));
}

/* softmax(data + bias) over the axes from `axis` on together */
void imp_biassoftmax(Imp *m)
{
    Val x = m->in[0];
    int axis, r = rank_of(m, x);
    DType t = dtype_of(m, x), w = wide_type(t);
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    if (rank_of(m, m->in[1]) > r) {
        ERR(m, "E0203", "a bias of rank %d does not broadcast to rank %d", rank_of(m, m->in[1]), r);
        return;
    }
    Val s = b_binary(&m->b, S_ADD, cast_to(m, x, w), cast_to(m, m->in[1], w));
    uint32_t axes = (uint32_t)(((1ull << r) - 1) & ~((1ull << axis) - 1));
    result(m, 0, s.i ? cast_to(m, b_softmax(&m->b, s, axes), t) : s);
}
