/* op_ms_norm.c: normalisations of com.microsoft: sums of residuals and embeddings before them, activations after them.
 * Everything is computed in f32 for narrow floats. */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(skiplayernorm); FN(skiprmsnorm); FN(embedlayernorm); FN(groupnorm_image); FN(branchnorm); FN(gatednorm); FN(engramgate);

static uint32_t last_axis(const Imp *m, Val v) { return v.i ? 1u << (rank_of(m, v) - 1) : 0; }

/* v in the wide type of x */
static Val wide(Imp *m, Val v) { return v.i ? cast_to(m, v, wide_type(dtype_of(m, v))) : v; }

/* input + skip + bias, in the shape of the input; result 3 is that sum */
static Val skip_sum(Imp *m, Val bias)
{
    Val x = m->in[0], in[3] = {wide(m, x), wide(m, m->in[1]), wide(m, bias)};
    Dim d[MAX_RANK];
    int r = rank_of(m, x), rs = rank_of(m, m->in[1]);
    if (r < 2 || rs > r) {
        ERR(m, "E0203", "expected an input of rank 2 or 3 and a skip of no more, got %d and %d", r, rs);
        return (Val){0};
    }
    dims_of(m, x, d);
    for (int i = 0; i < rs; i++)
        b_guard(&m->b, G_BCAST, dim_of(m, m->in[1], i), d[r - rs + i], "skip does not broadcast to the input");
    Expr e = text_expr(m, bias.i ? "a + b + c" : "a + b", dtype_of(m, in[0]), bias.i ? 3 : 2);
    Val sum = map_over(m, e, bias.i ? 3 : 2, in, r, d);
    if (wanted(m, 3))
        result(m, 3, cast_to(m, sum, dtype_of(m, x)));
    return sum;
}

/* (s - mean) / dev * gamma + beta, in type t */
static Val layer(Imp *m, const Stats *s, Val gamma, Val beta, DType t)
{
    return cast_to(m, affine(m, b_binary(&m->b, S_DIV, s->centred, s->dev), gamma, beta), t);
}

void imp_skiplayernorm(Imp *m)
{
    Val sum = skip_sum(m, operand(m, 4));
    if (!sum.i)
        return;
    Stats s = stats(m, sum, last_axis(m, sum));
    result(m, 0, layer(m, &s, m->in[2], operand(m, 3), dtype_of(m, m->in[0])));
    result(m, 1, s.mean);
    if (wanted(m, 2))
        result(m, 2, b_unary(&m->b, S_RECIP, s.dev));
}

void imp_skiprmsnorm(Imp *m)
{
    Val s = skip_sum(m, operand(m, 3));
    if (!s.i)
        return;
    Val dev = root_mean_square(m, s, last_axis(m, s));
    if (wanted(m, 1))
        result(m, 1, b_mean(&m->b, s, last_axis(m, s), true));
    if (wanted(m, 2))
        result(m, 2, b_unary(&m->b, S_RECIP, dev));
    result(m, 0, cast_to(m, affine(m, b_binary(&m->b, S_DIV, s, dev), m->in[2], (Val){0}), dtype_of(m, m->in[0])));
}

/* The sum of the embeddings of words, positions and segments, normalised; and how many positions of each row the mask shows. */
void imp_embedlayernorm(Imp *m)
{
    Val ids = m->in[0], seg = operand(m, 1), mask = operand(m, 7), pos = operand(m, 8);
    DType t = dtype_of(m, m->in[2]);
    if (rank_of(m, ids) != 2 || rank_of(m, m->in[2]) != 2 || rank_of(m, m->in[3]) != 2 || (seg.i && !present(m, 4))) {
        ERR(m, "E0203", "expected ids and embeddings of rank 2, and an embedding of segments if there are segments");
        return;
    }
    Dim d[2];
    dims_of(m, ids, d);
    Val words = b_gather(&m->b, m->in[2], ids, 0, OOB_FAIL), sum;
    if (pos.i) {
        sum = b_gather(&m->b, m->in[3], pos, 0, OOB_FAIL);
    } else {
        b_guard(&m->b, G_LE, d[1], dim_of(m, m->in[3], 0), "there are fewer positions than words");
        sum = b_slice_axis(&m->b, m->in[3], 0, DC(m, 0), d[1]);
    }
    sum = b_binary(&m->b, S_ADD, wide(m, words), wide(m, sum));
    if (seg.i)
        sum = b_binary(&m->b, S_ADD, sum, wide(m, b_gather(&m->b, m->in[4], seg, 0, OOB_FAIL)));
    Stats s = stats(m, sum, last_axis(m, sum));
    result(m, 0, layer(m, &s, m->in[5], m->in[6], t));
    if (wanted(m, 1)) {
        Val one = mask.i ? map_over(m, expr_cast(m->c, X2(EQ, xarg(m, 0, DT_I32), expr_int(m->c, DT_I32, 1)), DT_I32), 1, &mask, 2, d)
                         : b_splat(&m->b, (Scalar){.t = DT_I32}, 2, d);
        result(m, 1, b_reduce1(&m->b, R_SUM, one, 2, false));
    }
    if (wanted(m, 2))
        result(m, 2, cast_to(m, sum, t));
}

/* GroupNorm and SkipGroupNorm: channels last or second; statistics over all of a group's channels and places. */
void imp_groupnorm_image(Imp *m)
{
    Val x = wide(m, m->in[0]), skip = operand(m, 3), bias = operand(m, 4);
    int r = rank_of(m, x), ch = attr_i(m, "channels_last") ? r - 1 : 1;
    int64_t g = attr_i(m, "groups"), act = attr_i(m, "activation");
    Dim d[MAX_RANK], gd[MAX_RANK];
    DType t = dtype_of(m, m->in[0]);
    if (r < 3 || r >= MAX_RANK || g < 1 || act < 0 || act > 1) {
        ERR(m, "E0202", "expected rank 3 or more, a positive number of groups and activation 0 or 1, got %d, %lld, %lld", r,
            (long long)g, (long long)act);
        return;
    }
    dims_of(m, x, d);
    if (skip.i) {
        int rs = rank_of(m, skip);
        if (rs == 2) /* [N, C] */
            skip = insert_axes(m, skip, r, ((1u << r) - 1) & ~(1u | 1u << ch));
        else if (rs != r) {
            ERR(m, "E0203", "skip: expected rank 2 or %d, got %d", r, rs);
            return;
        }
        x = map_over(m, text_expr(m, "a + b", dtype_of(m, x), 2), 2, (Val[]){x, wide(m, skip)}, r, d);
        x = bias.i ? b_binary(&m->b, S_ADD, x, along(m, wide(m, bias), r, ch)) : x;
        result(m, 1, cast_to(m, x, t));
    }
    b_guard(&m->b, G_EQ, dim_mod(m->c, d[ch], DC(m, g)), DC(m, 0), "the channels must be divisible by groups=%lld", (long long)g);
    for (int i = 0, n = 0; i < r; i++) {
        gd[n++] = i == ch ? DC(m, g) : d[i];
        if (i == ch)
            gd[n++] = dim_floordiv(m->c, d[ch], DC(m, g));
    }
    Stats s = stats(m, reshape_to(m, x, r + 1, gd), ((1u << (r + 1)) - 1) & ~(1u | 1u << ch));
    Val y = reshape_to(m, b_binary(&m->b, S_DIV, s.centred, s.dev), r, d);
    y = affine(m, y, along(m, m->in[1], r, ch), along(m, m->in[2], r, ch));
    result(m, 0, cast_to(m, act ? map_text(m, "a * sigmoid(a)", 1, &y) : y, t));
}

/* RMS normalisation of each of C branches of [.., C, H] or [.., C * H] */
void imp_branchnorm(Imp *m)
{
    Val x = wide(m, m->in[0]), scale = operand(m, 1);
    int r = rank_of(m, x);
    int64_t n = attr_i(m, "num_branches");
    Dim d[MAX_RANK], bd[MAX_RANK];
    if (r < (n ? 1 : 2) || n < 0 || r >= MAX_RANK || (scale.i && rank_of(m, scale) > 2)) {
        ERR(m, "E0203", "num_branches %lld, input of rank %d", (long long)n, r);
        return;
    }
    dims_of(m, x, d);
    memcpy(bd, d, sizeof bd);
    if (n) {
        b_guard(&m->b, G_EQ, dim_mod(m->c, d[r - 1], DC(m, n)), DC(m, 0), "the last size must be divisible by num_branches");
        bd[r - 1] = DC(m, n);
        bd[r] = dim_floordiv(m->c, d[r - 1], DC(m, n));
    }
    int rb = n ? r + 1 : r;
    x = reshape_to(m, x, rb, bd);
    if (scale.i && rank_of(m, scale) == 1) { /* of one branch or of all of them */
        Dim size = dim_of(m, scale, 0), run = bd[rb - 1], lines[2] = {dim_floordiv(m->c, size, run), run};
        b_guard(&m->b, G_EQ, dim_mod(m->c, size, run), DC(m, 0), "scale must have the elements of one branch, or of all of them");
        scale = reshape_to(m, scale, 2, lines);
    }
    Val y = b_binary(&m->b, S_DIV, x, root_mean_square(m, x, 1u << (rb - 1)));
    result(m, 0, cast_to(m, reshape_to(m, affine(m, y, scale, (Val){0}), r, d), dtype_of(m, m->in[0])));
}

/* RMS normalisation of runs of C elements, times scale[C] and the activated gate */
void imp_gatednorm(Imp *m)
{
    Val x = wide(m, m->in[0]), gate = wide(m, m->in[2]);
    int r = rank_of(m, x);
    Dim d[MAX_RANK], gd[MAX_RANK];
    if (r < 1 || r >= MAX_RANK || rank_of(m, m->in[1]) != 1) {
        ERR(m, "E0203", "expected a scale of rank 1 and an input of rank 1 or more, got %d and %d", rank_of(m, m->in[1]), r);
        return;
    }
    dims_of(m, x, d);
    memcpy(gd, d, sizeof gd);
    gd[r] = dim_of(m, m->in[1], 0);
    gd[r - 1] = dim_floordiv(m->c, d[r - 1], dim_max(m->c, gd[r], DC(m, 1)));
    b_guard(&m->b, G_EQ, dim_mul(m->c, gd[r - 1], gd[r]), d[r - 1], "the last size must be a multiple of the scale's");
    x = reshape_to(m, x, r + 1, gd);
    Val y = affine(m, b_binary(&m->b, S_DIV, x, root_mean_square(m, x, 1u << r)), m->in[1], (Val){0});
    y = map_text(m, attr_is(m, "activation", "sigmoid") ? "a * sigmoid(b)" : "a * (b * sigmoid(b))", 2,
                 (Val[]){reshape_to(m, y, r, d), gate});
    result(m, 0, cast_to(m, y, dtype_of(m, m->in[0])));
}

/* gate = sigmoid(sign(dot) sqrt(max(|dot|, 1e-6))), dot = sum(rms(key) rms(query)) / sqrt(size); gate * value for each
 * connection */
void imp_engramgate(Imp *m)
{
    Val x[2], value = wide(m, m->in[2]);
    DType t = dtype_of(m, m->in[0]), w = wide_type(t);
    for (int i = 0; i < 2; i++) {
        if (rank_of(m, m->in[i]) != 4 || rank_of(m, m->in[3 + i]) != 2) {
            ERR(m, "E0203", "expected keys and queries of rank 4 and scales of rank 2");
            return;
        }
        x[i] = wide(m, m->in[i]);
        x[i] = affine(m, b_binary(&m->b, S_DIV, x[i], root_mean_square(m, x[i], 1u << 3)), m->in[3 + i], (Val){0});
    }
    if (rank_of(m, value) != 3 || (wanted(m, 1) && !present(m, 5))) {
        ERR(m, "E0203", "expected a value of rank 3, and a conv_norm_scale for the second result");
        return;
    }
    Val dot = b_reduce1(&m->b, R_SUM, b_binary(&m->b, S_MUL, x[0], x[1]), 1u << 3, true);
    Expr size = expr_cast(m->c, xdim(m, dim_of(m, m->in[0], 3)), w);
    dot = b_map1(&m->b, X2(DIV, xarg(m, 0, w), X1(SQRT, size)), 1, &dot);
    Val y = map_text(m, "sigmoid(sign(a) * sqrt(max(abs(a), 1e-06))) * b", 2, (Val[]){dot, insert_axes(m, value, 4, 1u << 2)});
    result(m, 0, cast_to(m, y, t));
    if (wanted(m, 1))
        result(m, 1, cast_to(m, affine(m, b_binary(&m->b, S_DIV, y, root_mean_square(m, y, 1u << 3)), m->in[5], (Val){0}), t));
}
