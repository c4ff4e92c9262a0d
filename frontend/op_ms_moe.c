/* op_ms_moe.c: MoE and QMoE of com.microsoft: each token goes through the k experts that the router prefers. A projection is a
 * sum over products with rows of the chosen expert's matrix, read where they lie (and dequantised there): only chosen experts
 * cost time, and no weights are copied. Formulas: the schemas of ONNX Runtime and its kernels for the CPU. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(moe); FN(qmoe);

/* One of the projections fc1, fc2, fc3: y[n] = sum over k of weight[e, n, k] * x[k] + bias[e, n]. Operands that are absent: 0 */
typedef struct Fc { const char *name; Val w, scale, bias, zero; int bits; /* 0: w is of x's type */ int64_t block; /* 0: a scale per row */ } Fc;
typedef struct Moe { Dim tokens, hidden, experts; int64_t k; Val x, which, share; } Moe; /* x[T, H], which[T, k] i64, share[T, k] f32 */

/* A row of packed values is a string of bits, the lowest first; its unit is what whole bytes hold: `parts` values. */
static int parts_of(int bits) { return !bits ? 1 : bits == 3 ? 8 : 8 / bits; }
static int unit_bytes(int bits) { return bits == 3 ? 3 : 1; }

/* Value `part` of a unit of a row, as f32. */
static Expr packed(Imp *m, int operand, int n, Expr *idx, Expr unit, Expr part, int bits, Oob oob)
{
    Expr first = X2(MUL, part, XI(bits)), byte[2];
    for (int i = 0; i < unit_bytes(bits) && i < 2; i++) { /* the second: where the last of the bits is */
        Expr at = i ? X2(ADD, first, XI(bits - 1)) : first;
        idx[n - 1] = unit_bytes(bits) == 1 ? unit : X2(ADD, X2(MUL, unit, XI(unit_bytes(bits))), X2(FDIV, at, XI(8)));
        byte[i] = expr_load(m->c, (uint32_t)operand, DT_U8, n, idx, oob, (Expr){0}, 0);
    }
    if (unit_bytes(bits) == 1)
        return expr_cast(m->c, bits_of(m, byte[0], first, bits), DT_F32);
    Expr both = X2(ADD, expr_cast(m->c, byte[0], DT_I32), X2(MUL, expr_cast(m->c, byte[1], DT_I32), expr_int(m->c, DT_I32, 256)));
    return expr_cast(m->c, bits_of(m, both, X2(MOD, first, XI(8)), bits), DT_F32);
}

/* The weight at [expert, row, column], column = unit * parts + part, as f32. The weights are operand 2 of the map. */
static Expr weight(Imp *m, const Fc *f, Expr e, Expr row, Expr unit, Expr part, Val *in, int *nin)
{
    if (!f->bits) {
        DType t = dtype_of(m, f->w);
        return expr_cast(m->c, expr_load(m->c, 2, t, 3, (Expr[]){e, row, unit}, OOB_NEVER, (Expr){0}, 0), DT_F32);
    }
    int parts = parts_of(f->bits), r = rank_of(m, f->scale);
    Expr v = packed(m, 2, 3, (Expr[]){e, row, unit}, unit, part, f->bits, OOB_NEVER);
    Expr block = f->block ? X2(FDIV, unit, XI(f->block / parts)) : XI(0), at[3] = {e, row, block};
    Expr zero = xf(m, DT_F32, ldexp(1, f->bits - 1));
    in[*nin] = f->scale;
    Expr s = expr_load(m->c, (uint32_t)(*nin)++, dtype_of(m, f->scale), r, at, OOB_NEVER, (Expr){0}, 0);
    if (f->zero.i) {
        in[*nin] = f->zero;
        Expr i = r == 3 ? block : row;
        zero = packed(m, (*nin)++, r, at, X2(FDIV, i, XI(parts)), X2(MOD, i, XI(parts)), f->bits, OOB_CLAMP);
    }
    return X2(MUL, X2(SUB, v, zero), expr_cast(m->c, s, DT_F32));
}

static bool shape_ok(Imp *m, Val v, const char *fc, const char *what, int n, const Dim *dim)
{
    if (rank_of(m, v) != n) {
        ERR(m, "E0203", "%s%s of rank %d, expected %d", fc, what, rank_of(m, v), n);
        return false;
    }
    for (int i = 0; i < n; i++)
        b_guard(&m->b, G_EQ, dim_of(m, v, i), dim[i], "%s%s does not fit along axis %d", fc, what, i);
    return true;
}

static bool fc_ok(Imp *m, const Fc *f, const Moe *o, Dim rows, Dim cols)
{
    int parts = parts_of(f->bits);
    Dim units = dim_floordiv(m->c, cols, DC(m, parts));
    if (!shape_ok(m, f->w, f->name, "_experts_weights", 3, (Dim[]){o->experts, rows, dim_muli(m->c, units, unit_bytes(f->bits))}))
        return false;
    if (f->bias.i && !shape_ok(m, f->bias, f->name, "_experts_bias", 2, (Dim[]){o->experts, rows}))
        return false;
    if (!f->bits)
        return true;
    int r = f->block ? 3 : 2;
    Dim blocks = f->block ? dim_floordiv(m->c, cols, DC(m, f->block)) : DC(m, 1);
    if (dtype_of(m, f->w) != DT_U8 || !f->scale.i || !dt_is_float(dtype_of(m, f->scale)) || (f->zero.i && dtype_of(m, f->zero) != DT_U8)) {
        ERR(m, "E0204", "%s: expected weights and zero points of u8 and scales of a float type", f->name);
        return false;
    }
    b_guard(&m->b, G_EQ, dim_mod(m->c, cols, DC(m, f->block ? f->block : parts)), DC(m, 0), "%s: rows are not whole blocks", f->name);
    Dim zd[3] = {o->experts, rows, dim_ceildiv(m->c, dim_muli(m->c, blocks, f->bits), DC(m, 8))};
    if (r == 2)
        zd[1] = dim_ceildiv(m->c, dim_muli(m->c, rows, f->bits), DC(m, 8));
    return shape_ok(m, f->scale, f->name, "_scales", r, (Dim[]){o->experts, rows, blocks}) &&
           (!f->zero.i || shape_ok(m, f->zero, f->name, "_zero_points", r, zd));
}

/* x[T, 1 or k, cols] through the chosen experts: f32[T, k, rows] */
static Val project(Imp *m, const Moe *o, const Fc *f, Val x, Dim cols)
{
    int parts = parts_of(f->bits), nin = 3;
    Val in[5] = {x, o->which, f->w};
    Dim d[5] = {o->tokens, DC(m, o->k), dim_of(m, f->w, 1), DC(m, parts), dim_floordiv(m->c, cols, DC(m, parts))};
    if (!x.i || !fc_ok(m, f, o, d[2], cols))
        return (Val){0};
    Expr t = xaxis(m, 0), k = xaxis(m, 1), row = xaxis(m, 2), part = xaxis(m, 3), unit = xaxis(m, 4);
    Expr col = parts > 1 ? X2(ADD, X2(MUL, unit, XI(parts)), part) : unit;
    Expr one = dim_is(m->c, dim_of(m, x, 1), 1) ? XI(0) : k;
    Expr a = expr_load(m->c, 0, DT_F32, 3, (Expr[]){t, one, col}, OOB_NEVER, (Expr){0}, 0);
    Expr e = expr_load(m->c, 1, DT_I64, 2, (Expr[]){t, k}, OOB_NEVER, (Expr){0}, 0);
    Expr w = weight(m, f, e, row, unit, part, in, &nin);
    Val y = b_reduce1(&m->b, R_SUM, map_over(m, X2(MUL, a, w), nin, in, 5, d), 3u << 3, false);
    if (!f->bias.i || !y.i)
        return y;
    Expr b = expr_load(m->c, 1, DT_I64, 2, (Expr[]){t, k}, OOB_NEVER, (Expr){0}, 0);
    b = expr_load(m->c, 2, dtype_of(m, f->bias), 2, (Expr[]){b, row}, OOB_NEVER, (Expr){0}, 0);
    return map_over(m, X2(ADD, xarg(m, 0, DT_F32), expr_cast(m->c, b, DT_F32)), 3, (Val[]){y, o->which, f->bias}, 3, d);
}

/* The gate and the linear half of the rows of h: interleaved, or one behind the other. */
static void halves(Imp *m, Val h, bool interleaved, Val *gate, Val *linear)
{
    Dim d[3], start[3] = {DC(m, 0), DC(m, 0), DC(m, 0)};
    dims_of(m, h, d);
    Dim n = d[2] = dim_floordiv(m->c, d[2], DC(m, 2));
    int64_t step[3] = {1, 1, interleaved ? 2 : 1};
    *gate = b_slice(&m->b, h, start, step, d);
    start[2] = interleaved ? DC(m, 1) : n;
    *linear = b_slice(&m->b, h, start, step, d);
}

#define TANH_GELU "0.5 * a * (1 + tanh(0.7978845608 * (a + 0.044715 * a * a * a)))"

/* What is between the projections; h and l are the results of fc1 and fc3 (0: there is none). */
static Val activate(Imp *m, Val h, Val l)
{
    static const struct { const char *name, *text; } plain[] = {
        {"relu", "max(a, 0)"},
        {"gelu", TANH_GELU},
        {"silu", "a * sigmoid(a)"},
        {"identity", "a"},
        {"relu2", "max(a, 0) * max(a, 0)"},
    };
    const char *type = attr_s(m, "activation_type");
    int64_t fusion = attr_i(m, "swiglu_fusion");
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(type, plain[i].name)) {
            Val y = map_text(m, plain[i].text, 1, &h);
            return l.i ? b_binary(&m->b, S_MUL, y, l) : y;
        }
    const bool gelu = !strcmp(type, "geglu");
    if (fusion < gelu || fusion > 2 || (fusion == 0) != (l.i != 0)) {
        ERR(m, "E0202", "attribute swiglu_fusion: %lld %s fc3", (long long)fusion, l.i ? "with" : "without");
        return (Val){0};
    }
    if (fusion)
        halves(m, h, fusion == 1, &h, &l);
    static const char *const gate[] = {
        "a * sigmoid($activation_alpha * a) * (b + $activation_beta)",
        ("min(a, $swiglu_limit) * sigmoid($activation_alpha * min(a, $swiglu_limit)) * "
         "(max(min(b, $swiglu_limit), 0.0 - $swiglu_limit) + $activation_beta)"),
        "min(a * sigmoid($activation_alpha * a), $swiglu_limit) * (max(min(b, $swiglu_limit), 0.0 - $swiglu_limit) + $activation_beta)",
    };
    bool limited = attr_has(m, "swiglu_limit"), after = attr_i(m, "swiglu_limit_after_activation") != 0;
    return map_text(m, gelu ? TANH_GELU " * b" : gate[limited ? 1 + after : 0], 2, (Val[]){h, l});
}

/* Tokens and router: which experts, and how much of each. scores: softmax before the choice (MoE), else after it. */
static bool route(Imp *m, Moe *o, bool before, Val mixing)
{
    Val x = m->in[0], p = cast_to(m, m->in[1], DT_F32), chosen;
    int r = rank_of(m, x);
    if ((r != 2 && r != 3) || rank_of(m, p) != 2) {
        ERR(m, "E0203", "input of rank %d, router_probs of rank %d", r, rank_of(m, p));
        return false;
    }
    o->hidden = dim_of(m, x, r - 1);
    o->tokens = r == 2 ? dim_of(m, x, 0) : dim_mul(m->c, dim_of(m, x, 0), dim_of(m, x, 1));
    o->experts = dim_of(m, p, 1);
    o->k = attr_i(m, "k");
    if (o->k < 1 || o->k > 1024 || dim_hi(m->c, o->experts) < o->k) {
        ERR(m, "E0202", "attribute k: %lld is not a number of the experts", (long long)o->k);
        return false;
    }
    b_guard(&m->b, G_LE, DC(m, o->k), o->experts, "there are fewer than k=%lld experts", (long long)o->k);
    b_guard(&m->b, G_EQ, dim_of(m, p, 0), o->tokens, "router_probs must have a row for each token");
    TopkAttr at = {.axis = 1, .largest = true, .sorted = true, .k = DC(m, o->k)};
    b_topk(&m->b, before ? b_softmax(&m->b, p, 2) : p, &at, &chosen, &o->which);
    if (mixing.i) {
        Expr at2[2] = {xaxis(m, 0), expr_load(m->c, 1, DT_I64, 2, (Expr[]){xaxis(m, 0), xaxis(m, 1)}, OOB_NEVER, (Expr){0}, 0)};
        if (!shape_ok(m, mixing, "router_weights", "", 2, (Dim[]){o->tokens, o->experts}))
            return false;
        Expr e = expr_cast(m->c, expr_load(m->c, 0, dtype_of(m, mixing), 2, at2, OOB_NEVER, (Expr){0}, 0), DT_F32);
        chosen = map_over(m, e, 2, (Val[]){mixing, o->which}, 2, (Dim[]){o->tokens, DC(m, o->k)});
    } else if (!before) {
        chosen = b_softmax(&m->b, chosen, 2);
    }
    if (attr_i(m, "normalize_routing_weights") && (before || mixing.i))
        chosen = b_binary(&m->b, S_DIV, chosen, b_reduce1(&m->b, R_SUM, chosen, 2, true));
    o->share = chosen;
    o->x = reshape_to(m, cast_to(m, x, DT_F32), 3, (Dim[]){o->tokens, DC(m, 1), o->hidden});
    return o->x.i && chosen.i;
}

/* sum over the chosen experts of share * fc2(activation(fc1(x), fc3(x))) */
static void mix(Imp *m, const Moe *o, const Fc *fc1, const Fc *fc2, const Fc *fc3)
{
    Val x = m->in[0], h = project(m, o, fc1, o->x, o->hidden), l = {0};
    Dim d[MAX_RANK];
    if (fc3->w.i && h.i && !(l = project(m, o, fc3, o->x, o->hidden)).i)
        return;
    h = h.i ? activate(m, h, l) : h;
    if (!h.i)
        return;
    Val y = project(m, o, fc2, h, dim_of(m, h, 2));
    y = y.i ? b_binary(&m->b, S_MUL, y, insert_axes(m, o->share, 3, 4)) : y;
    y = b_reduce1(&m->b, R_SUM, y, 2, false);
    dims_of(m, x, d);
    result(m, 0, cast_to(m, reshape_to(m, y, rank_of(m, x), d), dtype_of(m, x)));
}

void imp_moe(Imp *m)
{
    Fc fc1 = {.name = "fc1", .w = m->in[2], .bias = operand(m, 3)}, fc2 = {.name = "fc2", .w = m->in[4], .bias = operand(m, 5)};
    Fc fc3 = {.name = "fc3", .w = operand(m, 6), .bias = operand(m, 7)};
    Moe o;
    if (route(m, &o, true, (Val){0}))
        mix(m, &o, &fc1, &fc2, &fc3);
}

void imp_qmoe(Imp *m)
{
    static const char *const own[3] = {"fc1_expert_weight_bits", "fc2_expert_weight_bits", "fc3_expert_weight_bits"};
    int64_t block = attr_i(m, "block_size");
    Fc fc[3] = {{.name = "fc1"}, {.name = "fc2"}, {.name = "fc3"}};
    bool three = false;
    Moe o;
    if (!attr_is(m, "quant_type", "int")) {
        UNSUP(m, "attribute quant_type: \"%s\" exists for GPUs only; quantise the experts' weights with quant_type \"int\"", attr_s(m, "quant_type"));
        return;
    }
    if (attr_i(m, "weights_prepacked") > 0) {
        UNSUP(m, "attribute weights_prepacked: 1 is a layout of one GPU library; export the weights with weights_prepacked 0");
        return;
    }
    if (block && (block < 16 || block > INT32_MAX || (block & (block - 1)))) {
        ERR(m, "E0202", "attribute block_size: expected a power of 2 of at least 16, got %lld", (long long)block);
        return;
    }
    for (uint32_t i = 0; i < 3; i++) {
        int64_t bits = attr_i(m, attr_has(m, own[i]) ? own[i] : "expert_weight_bits");
        if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
            ERR(m, "E0202", "attribute %s: expected 2, 3, 4 or 8, got %lld", attr_has(m, own[i]) ? own[i] : "expert_weight_bits", (long long)bits);
            return;
        }
        three |= bits == 3;
        fc[i] = (Fc){fc[i].name, operand(m, 2 + 3 * i), operand(m, 3 + 3 * i), operand(m, 4 + 3 * i), operand(m, 11 + i), (int)bits, block};
    }
    for (uint32_t i = 15; i < m->n->nin; i++)
        if (present(m, i)) {
            ERR(m, "E0205", "operand number %u: global and activation scales belong to a quant_type other than \"int\"", i);
            return;
        }
    if (route(m, &o, three, operand(m, 14))) /* with 3 bits anywhere the kernel is another, which weighs as MoE does */
        mix(m, &o, &fc[0], &fc[1], &fc[2]);
}
