/* op_ms_packed.c: attention of com.microsoft over sequences without their padding, biases by relative position, and
 * depthwise convolutions with a state. token_offset lists where the tokens are in the padded batch: those of words first. */
#include "frontend/attn.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(removepadding); FN(restorepadding); FN(packedattention); FN(packedmha); FN(gatedrelpos); FN(relposbias);
FN(ms_causalconv); FN(varlenconv);

/* ---- rows with and without padding */

/* Rows of v [tokens, D] at their places in [B * S, D]; zeros elsewhere. */
static Val padded(Imp *m, Val v, Val offset)
{
    Dim d[2], n = dim_mul(m->c, dim_of(m, offset, 0), dim_of(m, offset, 1));
    if (!v.i)
        return v;
    dims_of(m, v, d);
    Val at = b_slice_axis(&m->b, reshape_to(m, cast_to(m, offset, DT_I64), 1, &n), 0, DC(m, 0), d[0]);
    Val zero = b_splat(&m->b, dt_convert((Scalar){.t = DT_I64, .i = 0}, dtype_of(m, v)), 2, (Dim[]){n, d[1]});
    ScatterAttr a = {.mode = SC_SET};
    return b_scatter(&m->b, zero, insert_axes(m, at, 2, 2), v, &a);
}

/* The rows of words, from [B, S, D] */
static Val unpadded(Imp *m, Val v, Val offset, Dim tokens)
{
    Dim d[3];
    if (!v.i)
        return v;
    dims_of(m, v, d);
    Dim n = dim_mul(m->c, d[0], d[1]);
    Val at = b_slice_axis(&m->b, reshape_to(m, offset, 1, &n), 0, DC(m, 0), tokens);
    return b_gather(&m->b, reshape_to(m, v, 2, (Dim[]){n, d[2]}), at, 0, OOB_FAIL);
}

void imp_removepadding(Imp *m)
{
    Val x = m->in[0], count = m->in[1];
    DType t = dtype_of(m, count);
    Dim d[3], n;
    if (rank_of(m, x) != 3 || rank_of(m, count) != 1) {
        ERR(m, "E0203", "expected an input of rank 3 and a count per sequence");
        return;
    }
    dims_of(m, x, d);
    b_guard(&m->b, G_EQ, dim_of(m, count, 0), d[0], "expected a count per sequence");
    n = dim_mul(m->c, d[0], d[1]);
    /* places of words before those of padding, each in order */
    Expr seq = X2(FDIV, xaxis(m, 0), xdim(m, d[1])), pos = X2(MOD, xaxis(m, 0), xdim(m, d[1]));
    Expr pad = X2(GE, pos, expr_cast(m->c, load_at(m, 0, t, 1, &seq), DT_I64));
    Val keys[2] = {map_over(m, expr_cast(m->c, pad, DT_I32), 1, &count, 1, &n), map_over(m, expr_cast(m->c, xaxis(m, 0), t), 0, NULL, 1, &n)};
    Val sorted[2];
    SortAttr a = {.axis = 0, .stable = true, .nkeys = 1};
    if (!keys[0].i)
        return;
    b_sort(&m->b, 2, keys, &a, sorted);
    Val sum = b_reduce1(&m->b, R_SUM, cast_to(m, count, DT_I64), 1, false);
    Dim tokens = b_bind(&m->b, sum, 0, "tokens", 0, DIM_INF);
    b_guard(&m->b, G_LE, tokens, n, "there are more words than places");
    Val offset = reshape_to(m, sorted[1], 2, d);
    result(m, 0, unpadded(m, x, offset, tokens));
    result(m, 1, offset);
    Val ends, start = b_splat(&m->b, (Scalar){.t = t}, 1, (Dim[]){DC(m, 1)});
    Expr add = X2(ADD, xarg(m, 0, t), xarg(m, 1, t));
    Scalar zero = {.t = t};
    b_scan(&m->b, 1, &count, 0, false, false, &add, &zero, &t, &ends);
    result(m, 2, b_concat(&m->b, 2, (Val[]){start, ends}, 0));
    result(m, 3, b_reduce1(&m->b, R_MAX, count, 1, true));
}

void imp_restorepadding(Imp *m)
{
    Val x = m->in[0], offset = m->in[1];
    if (rank_of(m, x) != 2 || rank_of(m, offset) != 2) {
        ERR(m, "E0203", "expected rows and offsets of rank 2, got %d and %d", rank_of(m, x), rank_of(m, offset));
        return;
    }
    result(m, 0, reshape_to(m, padded(m, x, offset), 3, (Dim[]){dim_of(m, offset, 0), dim_of(m, offset, 1), dim_of(m, x, 1)}));
}

/* in: rows [tokens, n * size] of queries, keys and values. Operands `at`, `at` + 1, .. are token_offset, the ends and the bias. */
static void packed_attention(Imp *m, const Val *in, uint32_t at)
{
    Val offset = operand(m, at), ends = operand(m, at + 1), bias = operand(m, at + 2);
    DType t = dtype_of(m, in[0]);
    Heads h[3];
    Scores s;
    if (rank_of(m, offset) != 2 || rank_of(m, ends) != 1) {
        ERR(m, "E0203", "expected token_offset of rank 2 and cumulative_sequence_length of rank 1");
        return;
    }
    for (int i = 0; i < 3; i++) {
        Val rows = padded(m, in[i], offset);
        if (!rows.i)
            return;
        rows = reshape_to(m, rows, 3, (Dim[]){dim_of(m, offset, 0), dim_of(m, offset, 1), dim_of(m, rows, 1)});
        if (!heads_of_rows(m, rows, attr_i(m, "num_heads"), "num_heads", &h[i]))
            return;
    }
    if (!scores_of(m, &h[0], &h[1], &s))
        return;
    scores_scale(m, &s, attr_f(m, "scale") != 0, attr_f(m, "scale"), h[0].size);
    if (bias.i && !scores_mask(m, &s, bias, "attention_bias"))
        return;
    /* keys of the sequence, which are at its beginning */
    DType et = dtype_of(m, ends);
    Expr next = X2(ADD, s.at[0], XI(1)), n = X2(SUB, load_at(m, 1, et, 1, &next), load_at(m, 1, et, 1, &s.at[0]));
    scores_keep(m, &s, X2(LT, s.at[3], expr_cast(m->c, n, DT_I64)), -INFINITY, 1, &ends);
    scores_softmax(m, &s);
    s.v = cast_to(m, s.v, t);
    result(m, 0, unpadded(m, scores_times(m, &s, &h[2], true, t), offset, dim_of(m, in[0], 0)));
}

void imp_packedattention(Imp *m)
{
    Val x = m->in[0], w = m->in[1], in[3];
    DType t = dtype_of(m, x);
    int n;
    const int64_t *sizes = attr_ints(m, "qkv_hidden_sizes", &n);
    if (rank_of(m, x) != 2 || rank_of(m, w) != 2 || (n && n != 3)) {
        ERR(m, "E0203", "expected matrices and no or three qkv_hidden_sizes");
        return;
    }
    Dim start = DC(m, 0), third = dim_floordiv(m->c, dim_of(m, w, 1), DC(m, 3));
    Val y = b_binary(&m->b, S_ADD, matmul(m, x, w, wide_type(t), t), m->in[2]);
    for (int i = 0; i < 3 && y.i; i++) {
        Dim size = n ? DC(m, sizes[i]) : third;
        in[i] = b_slice_axis(&m->b, y, 1, start, size);
        start = dim_add(m->c, start, size);
    }
    b_guard(&m->b, G_EQ, start, dim_of(m, w, 1), "the hidden sizes must add up to the columns of the weights");
    if (y.i)
        packed_attention(m, in, 3);
}

void imp_packedmha(Imp *m)
{
    Val in[3] = {m->in[0], operand(m, 1), operand(m, 2)}, bias = operand(m, 3);
    int r = rank_of(m, in[0]);
    if (r == 4 && !in[1].i && !in[2].i) { /* [tokens, heads, 3, size] */
        Dim d[4];
        dims_of(m, in[0], d);
        b_guard(&m->b, G_EQ, d[2], DC(m, 3), "packed rows must hold queries, keys and values");
        for (int i = 0; i < 3; i++)
            in[i] = reshape_to(m, b_slice_axis(&m->b, m->in[0], 2, DC(m, i), DC(m, 1)), 2, (Dim[]){d[0], dim_mul(m->c, d[1], d[3])});
    } else if (r != 2 || !in[1].i || !in[2].i || rank_of(m, in[1]) != 2 || rank_of(m, in[2]) != 2) {
        ERR(m, "E0203", "expected queries, keys and values of rank 2, or packed ones of rank 4");
        return;
    }
    Dim start = DC(m, 0);
    for (int i = 0; i < 3 && bias.i; i++) {
        Dim n = dim_of(m, in[i], 1);
        in[i] = b_binary(&m->b, S_ADD, in[i], b_slice_axis(&m->b, bias, 0, start, n));
        start = dim_add(m->c, start, n);
    }
    packed_attention(m, in, 4);
}

/* ---- biases */

/* rel_pos * (u * (r * a - 1) + 2), u and r the sigmoids of sums of halves of query . weight + bias */
void imp_gatedrelpos(Imp *m)
{
    Val q = m->in[0], rel = m->in[2], w = m->in[3], offset = operand(m, 6), gates[2];
    DType t = dtype_of(m, q), wide = wide_type(t);
    Heads h;
    if (offset.i && rank_of(m, offset) != 2) {
        ERR(m, "E0203", "token_offset: expected rank 2, got %d", rank_of(m, offset));
        return;
    }
    q = b_binary(&m->b, S_ADD, q, m->in[1]);
    if (offset.i && q.i && rank_of(m, q) == 2)
        q = reshape_to(m, padded(m, q, offset), 3, (Dim[]){dim_of(m, offset, 0), dim_of(m, offset, 1), dim_of(m, q, 1)});
    if (!q.i || !heads_of_rows(m, q, attr_i(m, "num_heads"), "num_heads", &h))
        return;
    if (rank_of(m, w) != 2 || rank_of(m, rel) != 4 || rank_of(m, m->in[5]) != 4) {
        ERR(m, "E0203", "expected a weight of rank 2, and rel_pos and eco_a of rank 4");
        return;
    }
    heads_first(m, &h);
    Dim half = dim_floordiv(m->c, dim_of(m, w, 1), DC(m, 2));
    b_guard(&m->b, G_EQ, dim_muli(m->c, half, 2), dim_of(m, w, 1), "the columns of the weight must be even");
    Val y = b_binary(&m->b, S_ADD, matmul(m, h.v, w, wide, wide), cast_to(m, m->in[4], wide));
    for (int i = 0; i < 2 && y.i; i++) {
        Val s = b_reduce1(&m->b, R_SUM, b_slice_axis(&m->b, y, 3, dim_muli(m->c, half, i), half), 1u << 3, true);
        gates[i] = b_unary(&m->b, S_SIGMOID, s);
    }
    if (!y.i)
        return;
    Val in[4] = {gates[0], gates[1], cast_to(m, m->in[5], wide), cast_to(m, rel, wide)};
    result(m, 0, cast_to(m, map_text(m, "(a * (b * c - 1) + 2) * d", 4, in), t));
}

/* T5: near distances have a bucket each, far ones share them by their logarithm. */
void imp_relposbias(Imp *m)
{
    Val table = m->in[0];
    DType t = dtype_of(m, table);
    Dim d[4], len[2];
    int64_t most = attr_i(m, "max_distance");
    bool both = attr_i(m, "is_bidirectional") != 0;
    if (rank_of(m, table) != 2 || most < 1) {
        ERR(m, "E0203", "expected a table of rank 2 and a positive max_distance");
        return;
    }
    for (uint32_t i = 0; i < 2; i++)
        if (!operand_dim(m, m->in[1 + i], "length", 0, DIM_INF, &len[i]))
            return;
    Dim buckets = dim_of(m, table, 0), heads = dim_of(m, table, 1);
    d[0] = DC(m, 1);
    d[1] = heads;
    d[2] = len[0];
    d[3] = len[1];
    Expr rel = X2(SUB, xaxis(m, 3), xaxis(m, 2)), n = both ? X1(ABS, rel) : X2(MAX, X2(SUB, xaxis(m, 2), xaxis(m, 3)), XI(0));
    Dim mine = both ? dim_floordiv(m->c, buckets, DC(m, 2)) : buckets, exact = dim_floordiv(m->c, mine, DC(m, 2));
    DType w = DT_F32;
    Expr near = expr_cast(m->c, xdim(m, exact), w), far = X1(LOG, X2(DIV, xf(m, w, (double)most), near));
    Expr ratio = X2(DIV, X1(LOG, X2(DIV, expr_cast(m->c, X2(MAX, n, XI(1)), w), near)), far);
    Expr room = expr_cast(m->c, X2(SUB, xdim(m, mine), xdim(m, exact)), w);
    Expr log = X2(ADD, xdim(m, exact), expr_cast(m->c, X2(MUL, ratio, room), DT_I64));
    Expr bucket = X3(SELECT, X2(LT, n, xdim(m, exact)), n, X2(MIN, log, X2(SUB, xdim(m, mine), XI(1))));
    if (both)
        bucket = X2(ADD, bucket, X3(SELECT, X2(GT, rel, XI(0)), xdim(m, mine), XI(0)));
    table = reshape_to(m, table, 2, (Dim[]){heads, buckets}); /* stored by columns */
    result(m, 0, map_over(m, load_at(m, 0, t, 2, (Expr[]){xaxis(m, 1), bucket}), 1, &table, 4, d));
}

/* ---- convolutions with a state: x [B, C, S] behind `back` positions of state */

static Val activated(Imp *m, Val y)
{
    return attr_is(m, "activation", "none") ? y : map_text(m, "a * sigmoid(a)", 1, &y);
}

/* The k taps of w [C, 1, k], `step` apart, over x [B, C, back + S]; f32 for narrow floats */
static Val taps(Imp *m, Val x, Val w, Val bias, int64_t step)
{
    Dim c = dim_of(m, w, 0), k = dim_of(m, w, 2);
    DType acc = wide_type(dtype_of(m, x));
    WindowAttr win = {.n = 1, .axis = {2}, .size = {k}, .stride = {1}, .dilation = {step}};
    Val y = b_contract(&m->b, "bclk,ck->bcl", b_window(&m->b, x, &win), reshape_to(m, w, 2, (Dim[]){c, k}), acc, acc);
    if (bias.i)
        y = b_binary(&m->b, S_ADD, y, along(m, cast_to(m, bias, acc), 3, 1));
    return activated(m, y);
}

static bool conv_sizes(Imp *m, Val w, Val bias, int64_t step, Dim channels, Dim *back)
{
    if (rank_of(m, w) != 3 || (bias.i && rank_of(m, bias) != 1) || step < 1) {
        ERR(m, "E0203", "expected weights of rank 3, a bias of rank 1 and a positive dilation");
        return false;
    }
    b_guard(&m->b, G_EQ, dim_of(m, w, 0), channels, "there must be a kernel for every channel");
    b_guard(&m->b, G_EQ, dim_of(m, w, 1), DC(m, 1), "the convolution is depthwise");
    b_guard(&m->b, G_LE, DC(m, 1), dim_of(m, w, 2), "the kernel is empty");
    *back = dim_muli(m->c, dim_addi(m->c, dim_of(m, w, 2), -1), step);
    return true;
}

/* [B, S, d1, ..] as [B, C, S], or as it is */
static Val channels_second(Imp *m, Val v, bool last)
{
    Dim d[MAX_RANK];
    int r = rank_of(m, v);
    if (!last || !v.i)
        return v;
    dims_of(m, v, d);
    return b_permute(&m->b, reshape_to(m, v, 3, (Dim[]){d[0], d[1], count_of(m, d + 2, r - 2)}), (int[]){0, 2, 1});
}

void imp_ms_causalconv(Imp *m)
{
    static const struct { const char *name; int64_t value; } plain[] = {
        {"ndim", 1}, {"input_channels", 0}, {"input_channel_offset", 0}, {"state_length", 0}, {"state_update_capacity", 0},
        {"state_channels_last", -1},
    };
    Val in = m->in[0], w = m->in[1], bias = operand(m, 2), past = operand(m, 3);
    DType t = dtype_of(m, in);
    bool last = attr_i(m, "channels_last") != 0;
    int64_t step = attr_i(m, "dilation"), window = attr_i(m, "state_window");
    int r = rank_of(m, in);
    Dim d[3], back, none = DC(m, 0), shape[MAX_RANK];
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (attr_i(m, plain[i].name) != plain[i].value) {
            UNSUP(m, "attribute %s: %lld; ONNX Runtime has other values than %lld for GPUs only", plain[i].name,
                  (long long)attr_i(m, plain[i].name), (long long)plain[i].value);
            return;
        }
    if ((last ? r < 3 || r == MAX_RANK : r != 3) || window < 0 || window > 8 || (past.i && rank_of(m, past) != r + (window > 0))) {
        ERR(m, "E0203", "an input of rank %d with a state of rank %d and a state_window of %lld", r, past.i ? rank_of(m, past) : r,
            (long long)window);
        return;
    }
    dims_of(m, in, shape);
    Val x = channels_second(m, in, last);
    dims_of(m, x, d);
    if (!conv_sizes(m, w, bias, step, d[1], &back))
        return;
    if (past.i) {
        if (window) {
            b_guard(&m->b, G_EQ, dim_of(m, past, 0), DC(m, window), "past_state must hold state_window states");
            past = drop_axes(m, b_slice_axis(&m->b, past, 0, DC(m, window - 1), DC(m, 1)), 1);
        }
        past = channels_second(m, past, last);
        b_guard(&m->b, G_EQ, dim_of(m, past, 2), back, "past_state does not fit the kernel");
        x = b_concat(&m->b, 2, (Val[]){past, x}, 2);
    } else {
        Scalar zero = dt_convert((Scalar){.t = DT_I64, .i = 0}, t);
        x = b_pad(&m->b, x, (Dim[]){none, none, back}, (Dim[]){none, none, none}, NULL, PAD_VALUE, zero, (Val){0});
    }
    Val y = cast_to(m, taps(m, x, w, bias, step), t), state;
    if (window) { /* slot j: behind S - W + j + 1 positions, zeros if there are none */
        Expr seen = X2(ADD, xaxis(m, 0), xdim(m, dim_addi(m->c, d[2], 1 - window)));
        Expr old = expr_load(m->c, 0, t, 3, (Expr[]){xaxis(m, 1), xaxis(m, 2), X2(ADD, seen, xaxis(m, 3))}, OOB_VALUE, xf(m, t, 0), 0);
        state = map_over(m, X3(SELECT, X2(GE, seen, XI(1)), old, xf(m, t, 0)), 1, &x, 4, (Dim[]){DC(m, window), d[0], d[1], back});
    } else {
        state = b_slice_axis(&m->b, x, 2, d[2], back);
    }
    if (last) {
        Dim s[MAX_RANK + 1] = {DC(m, window), d[0], back};
        memcpy(s + 3, shape + 2, sizeof *s * (size_t)(r - 2));
        y = reshape_to(m, b_permute(&m->b, y, (int[]){0, 2, 1}), r, shape);
        state = b_permute(&m->b, state, window ? (int[]){0, 1, 3, 2} : (int[]){0, 2, 1});
        state = window ? reshape_to(m, state, r + 1, s) : reshape_to(m, state, r, s + 1);
    }
    result(m, 0, y);
    result(m, 1, state);
}

/* Sequences one behind the other in [tokens, C]: each token looks back within its own, then into its state. */
void imp_varlenconv(Imp *m)
{
    Val x = m->in[0], w = m->in[1], cu = cast_to(m, m->in[2], DT_I64), bias = operand(m, 3), state = m->in[4], count = operand(m, 5);
    DType t = dtype_of(m, x), acc = wide_type(t);
    int64_t step = attr_i(m, "dilation"), cap = attr_i(m, "state_update_capacity");
    Dim d[2], back;
    if (present(m, 6) || present(m, 7)) {
        UNSUP(m, "operands kernel_delta and previous_mask, which ONNX Runtime has for CUDA only");
        return;
    }
    if (rank_of(m, x) != 2 || rank_of(m, state) != 3 || rank_of(m, cu) != 1 || cap < 0 || cap > 8 || (wanted(m, 2) && (!cap || !count.i))) {
        ERR(m, "E0203", "expected input[tokens,C], initial_state[B,C,L], and capture_count for the states that are captured");
        return;
    }
    dims_of(m, x, d);
    if (!conv_sizes(m, w, bias, step, d[1], &back))
        return;
    Dim batch = dim_addi(m->c, dim_of(m, cu, 0), -1), k = dim_of(m, w, 2);
    b_guard(&m->b, G_EQ, dim_of(m, state, 0), batch, "initial_state has another batch size");
    b_guard(&m->b, G_EQ, dim_of(m, state, 1), d[1], "initial_state has another number of channels");
    b_guard(&m->b, G_EQ, dim_of(m, state, 2), back, "initial_state does not fit the kernel");
    Expr next = X2(ADD, xaxis(m, 1), XI(1)), zero = xf(m, t, 0);
    Val past = map_over(m, expr_cast(m->c, X2(LE, load_at(m, 0, DT_I64, 1, &next), xaxis(m, 0)), DT_I64), 1, &cu, 2, (Dim[]){d[0], batch});
    Val owner = b_reduce1(&m->b, R_SUM, past, 2, false);
    /* [tokens, C, k]: position of the tap in its sequence, negative ones in the state */
    Expr token = xaxis(m, 0), entry = load_at(m, 2, DT_I64, 1, &token), start = load_at(m, 3, DT_I64, 1, &entry);
    Expr pos = X2(SUB, X2(SUB, token, start), X2(MUL, X2(SUB, xdim(m, dim_addi(m->c, k, -1)), xaxis(m, 2)), XI(step)));
    Expr here = expr_load(m->c, 0, t, 2, (Expr[]){X2(ADD, start, pos), xaxis(m, 1)}, OOB_VALUE, zero, 0);
    Expr before = expr_load(m->c, 1, t, 3, (Expr[]){entry, xaxis(m, 1), X2(ADD, pos, xdim(m, back))}, OOB_VALUE, zero, 0);
    Val in[4] = {x, state, owner, cu};
    Val tap = map_over(m, X3(SELECT, X2(LT, pos, XI(0)), before, here), 4, in, 3, (Dim[]){d[0], d[1], k});
    Val y = b_contract(&m->b, "tck,ck->tc", tap, reshape_to(m, w, 2, (Dim[]){d[1], k}), acc, acc);
    if (bias.i)
        y = b_binary(&m->b, S_ADD, y, cast_to(m, bias, acc));
    result(m, 0, cast_to(m, activated(m, y), t));
    /* the last `back` positions of state and sequence together */
    Expr b = xaxis(m, 0), after = X2(ADD, b, XI(1)), from = load_at(m, 2, DT_I64, 1, &b), len = X2(SUB, load_at(m, 2, DT_I64, 1, &after), from);
    Expr at = X2(SUB, X2(ADD, xaxis(m, 2), len), xdim(m, back));
    here = expr_load(m->c, 0, t, 2, (Expr[]){X2(ADD, from, at), xaxis(m, 1)}, OOB_VALUE, zero, 0);
    before = expr_load(m->c, 1, t, 3, (Expr[]){b, xaxis(m, 1), X2(ADD, at, xdim(m, back))}, OOB_VALUE, zero, 0);
    result(m, 1, map_over(m, X3(SELECT, X2(LT, at, XI(0)), before, here), 3, (Val[]){x, state, cu}, 3, (Dim[]){batch, d[1], back}));
    if (wanted(m, 2)) {
        Expr n = X2(MIN, expr_cast(m->c, load_at(m, 1, dtype_of(m, count), 1, &b), DT_I64), len), i = xaxis(m, 1);
        here = expr_load(m->c, 0, t, 2, (Expr[]){X2(ADD, from, i), xaxis(m, 2)}, OOB_VALUE, zero, 0);
        result(m, 2, map_over(m, X3(SELECT, X2(LT, i, n), here, zero), 3, (Val[]){x, count, cu}, 3, (Dim[]){batch, DC(m, cap), d[1]}));
    }
}
