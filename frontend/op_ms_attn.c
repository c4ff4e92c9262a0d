/* op_ms_attn.c: Attention, MultiHeadAttention and DecoderMaskedMultiHeadAttention of com.microsoft. They differ in where
 * queries, keys and values come from; the rest is one function. As ONNX Runtime's CPU kernels do: masked keys get a number
 * added to their score (mask_filter_value), keys after the query get the lowest number as their score. */
#include "frontend/attn.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(ms_attention); FN(ms_mha); FN(ms_decoder_mha); FN(ms_decoder_self); FN(longformer);

enum { MASK_ENDS = 1, MASK_KEYS, MASK_PAIRS, MASK_SQUARE }; /* by rank */

typedef struct Att {
    Heads q, k, v;
    Val mask, bias;         /* absent: poison */
    Dim past;               /* keys before the first query's own */
    bool causal;
    Val qk;                 /* out: the scores, masks and bias included */
} Att;

static double filter_value(const Imp *m)
{
    return attr_has(m, "mask_filter_value") ? attr_f(m, "mask_filter_value") : -10000.0;
}

/* Adds the filter value to the scores of masked keys. Masks are ends (and starts) of the valid keys of each batch, [B] to
 * [3B + 2], or tell by 0 what is masked: [B, T], [B, S, T], or [B, 1, max, max] of which the queries' rows are used. */
static bool mask_keys(Imp *m, Scores *s, Val mask, Dim past)
{
    Ctx *c = m->c;
    int r = rank_of(m, mask);
    DType t = s->v.i ? dtype_of(m, s->v) : DT_F32, mt = dtype_of(m, mask);
    Dim d[4], b = s->dim[0];
    if (r < 1 || r > 4 || !dt_is_int(mt)) {
        ERR(m, "E0203", "mask of rank %d and type %s", r, dt_name(mt));
        return false;
    }
    dims_of(m, mask, d);
    Expr seen, zero = expr_int(c, mt, 0);
    if (r == MASK_ENDS) {
        Expr key = s->at[3], first = X2(ADD, s->at[0], xdim(m, b));
        Expr end = load_at(m, 1, mt, 1, &s->at[0]), start = expr_load(c, 1, mt, 1, &first, OOB_VALUE, zero, 0);
        b_guard(&m->b, G_LE, b, d[0], "the mask must have an element per batch");
        seen = X2(LT, key, expr_cast(c, end, DT_I64));
        Dim both = dim_eqv(c, d[0], dim_muli(c, b, 2));
        if (!dim_is(c, both, 0)) {
            Expr after = X2(GE, key, expr_cast(c, start, DT_I64));
            seen = X2(AND, seen, dim_is(c, both, 1) ? after : X2(OR, X2(EQ, xdim(m, both), XI(0)), after));
        }
    } else {
        Dim want[4] = {b, r == MASK_SQUARE ? DC(m, 1) : s->dim[2], s->dim[2], s->dim[3]};
        if (r == MASK_SQUARE) {
            mask = b_slice_axis(&m->b, b_slice_axis(&m->b, mask, 2, past, s->dim[2]), 3, DC(m, 0), s->dim[3]);
        } else {
            want[r - 1] = s->dim[3];
        }
        for (int i = 0; i < r; i++)
            b_guard(&m->b, G_EQ, dim_of(m, mask, i), want[i], "the mask does not fit the scores");
        uint32_t missing = r == MASK_KEYS ? 6 : r == MASK_PAIRS ? 2 : 0; /* of the axes of [B, H, S, T]; groups have one more behind H */
        mask = s->grouped ? insert_axes(m, mask, 5, (missing & ~2u) << 1 | (missing & 2) | 4) : insert_axes(m, mask, 4, missing);
        seen = X2(GT, xarg(m, 1, mt), zero);
    }
    Expr add = X3(SELECT, seen, xf(m, t, 0), xf(m, t, filter_value(m)));
    scores_map(m, s, X2(ADD, xarg(m, 0, t), add), 1, &mask);
    return s->v.i != 0;
}

/* The result, [B, S, H * D], of element type t. */
static Val attention(Imp *m, Att *a, DType t)
{
    Scores s;
    if (!scores_of(m, &a->q, &a->k, &s))
        return (Val){0};
    scores_scale(m, &s, attr_f(m, "scale") != 0, attr_f(m, "scale"), a->q.size);
    if (a->mask.i && !mask_keys(m, &s, a->mask, a->past))
        return (Val){0};
    if (a->bias.i && !scores_mask(m, &s, a->bias, "attention_bias"))
        return (Val){0};
    if (a->causal)
        scores_keep(m, &s, X2(LE, s.at[3], X2(ADD, s.at[2], xdim(m, a->past))), -3.4028234663852886e38, 0, NULL);
    a->qk = scores_flat(m, &s);
    scores_softmax(m, &s);
    s.v = cast_to(m, s.v, t);
    return scores_times(m, &s, &a->v, true, t);
}

/* ---- keys and values from before */

/* A buffer of `max` keys of which `used` are taken: the new ones are written behind them. Results: the buffer, and the keys
 * so far as *h. */
static Val write_behind(Imp *m, Val buffer, Dim used, Heads *h)
{
    Dim zero = DC(m, 0), total = dim_add(m->c, used, h->len);
    heads_first(m, h);
    if (rank_of(m, buffer) != 4) {
        ERR(m, "E0203", "past: expected rank 4, got %d", rank_of(m, buffer));
        return h->v = (Val){0};
    }
    b_guard(&m->b, G_LE, total, dim_of(m, buffer, 2), "the buffer of past and present is full");
    Val all = b_update(&m->b, buffer, h->v, (Dim[]){zero, zero, used, zero});
    h->v = b_slice_axis(&m->b, all, 2, zero, total);
    h->len = total;
    return all;
}

/* Appends the new keys to the past ones. Returns what is present afterwards. */
static Val present_of(Imp *m, Val past, Heads *h, bool shared, Dim used)
{
    if (shared)
        return write_behind(m, past, used, h);
    return heads_append(m, past, h) ? h->v : (Val){0};
}

/* What a query of a beam descends from: key t < past of row batch*W + beam is that of beam indirection[batch, beam, t]. */
static Val descend(Imp *m, Val keys, Val indirection, Dim past)
{
    Dim d[4];
    DType it = dtype_of(m, indirection);
    if (rank_of(m, indirection) != 3) {
        ERR(m, "E0203", "cache_indirection: expected rank 3, got %d", rank_of(m, indirection));
        return (Val){0};
    }
    dims_of(m, keys, d);
    Expr row = xaxis(m, 0), t = xaxis(m, 2), width = xdim(m, dim_of(m, indirection, 1)), own = X2(MOD, row, width);
    Expr batch = X2(FDIV, row, width), none = expr_int(m->c, it, 0);
    Expr beam = expr_cast(m->c, expr_load(m->c, 1, it, 3, (Expr[]){batch, own, t}, OOB_VALUE, none, 0), DT_I64);
    Expr from = X2(ADD, X2(MUL, batch, width), X3(SELECT, X2(LT, t, xdim(m, past)), beam, own));
    Expr e = load_at(m, 0, dtype_of(m, keys), 4, (Expr[]){from, xaxis(m, 1), t, xaxis(m, 3)});
    return map_over(m, e, 2, (Val[]){keys, indirection}, 4, d);
}

/* `n` elements from `start` of the last axis of v, with their part of the bias. */
static Val projected(Imp *m, Val v, Val bias, Dim start, Dim n)
{
    if (!bias.i)
        return v;
    return b_binary(&m->b, S_ADD, v, b_slice_axis(&m->b, bias, 0, start, n));
}

/* ---- Attention: the products with the weights come first */

/* A mask [B, T] for the queries and keys: in ONNX Runtime one of one key, [B, 1] or [1, 1], whatever it says, stands for none. */
static Val mask_or_none(Imp *m, Val mask, Dim batch, Dim keys)
{
    if (!mask.i || rank_of(m, mask) != MASK_KEYS)
        return mask;
    DType t = dtype_of(m, mask);
    Dim rows = dim_of(m, mask, 0), one = DC(m, 1), none = dim_eqv(m->c, dim_of(m, mask, 1), one);
    if (dim_is(m->c, none, 0))
        return mask;
    b_guard(&m->b, G_EQ, rows, dim_select(m->c, dim_mul(m->c, none, dim_eqv(m->c, rows, one)), one, batch), "the mask does not fit the batch");
    if (dim_is(m->c, none, 1))
        return (Val){0};
    b_guard(&m->b, G_EQ, dim_of(m, mask, 1), dim_select(m->c, none, one, keys), "the mask does not fit the keys");
    Expr seen = expr_int(m->c, t, 1), at[2] = {xaxis(m, 0), xaxis(m, 1)}, said = expr_load(m->c, 0, t, 2, at, OOB_VALUE, seen, 0);
    return map_over(m, X3(SELECT, X2(EQ, xdim(m, none), XI(1)), seen, said), 1, &mask, 2, (Dim[]){batch, keys});
}

void self_attention(Imp *m, Val y, const Dim *n, const SelfAttention *s, DType t)
{
    Val past = s->past;
    Dim zero = DC(m, 0), one = DC(m, 1), start = zero;
    Att a = {.bias = s->bias, .causal = attr_i(m, "unidirectional") != 0, .past = zero};
    Heads *h[3] = {&a.q, &a.k, &a.v};
    for (int i = 0; i < 3; i++) {
        if (!y.i || !heads_of_rows(m, b_slice_axis(&m->b, y, 2, start, n[i]), attr_i(m, "num_heads"), "num_heads", h[i]))
            return;
        start = dim_add(m->c, start, n[i]);
    }
    if (past.i)
        a.past = dim_of(m, past, 3);
    if (s->used.i && !operand_dim(m, s->used, "past_sequence_length", 0, DIM_INF, &a.past))
        return;
    if (past.i || wanted(m, 1)) {
        Val now[2];
        b_guard(&m->b, G_EQ, past.i ? dim_of(m, past, 0) : DC(m, 2), DC(m, 2), "past must hold keys and values");
        for (int i = 0; i < 2; i++) {
            Val before = past.i ? drop_axes(m, b_slice_axis(&m->b, past, 0, DC(m, i), one), 1) : past;
            now[i] = present_of(m, before, h[1 + i], s->used.i != 0, a.past);
            if (!now[i].i)
                return;
            if (s->indirection.i && !(h[1 + i]->v = descend(m, h[1 + i]->v, s->indirection, a.past)).i)
                return;
            now[i] = insert_axes(m, now[i], 5, 1);
        }
        if (wanted(m, 1))
            result(m, 1, b_concat(&m->b, 2, now, 0));
    }
    a.mask = mask_or_none(m, s->mask, a.q.batch, a.k.len);
    result(m, 0, attention(m, &a, t));
}

/* The operands of the node are input, weights, bias; the others are in s. */
static void project_and_attend(Imp *m, const SelfAttention *s)
{
    Val x = m->in[0], w = m->in[1], past = s->past;
    DType t = dtype_of(m, x);
    int nsizes = 0;
    const int64_t *sizes = row_has_attr(m->row, "qkv_hidden_sizes") ? attr_ints(m, "qkv_hidden_sizes", &nsizes) : NULL;
    if (rank_of(m, x) != 3 || rank_of(m, w) != 2 || (past.i && rank_of(m, past) != 5) || (nsizes && nsizes != 3) || attr_i(m, "num_heads") < 1) {
        ERR(m, "E0203", "expected input[B,S,D], weights[D,3*H], past[2,B,N,P,H], three qkv_hidden_sizes and a positive num_heads");
        return;
    }
    if (attr_i(m, "do_rotary")) {
        UNSUP(m, "attribute do_rotary: ONNX Runtime has it for GPUs only; RotaryEmbedding and MultiHeadAttention do the same");
        return;
    }
    if (attr_i(m, "past_present_share_buffer") && (!past.i || !s->used.i)) {
        ERR(m, "E0205", "past_present_share_buffer needs operands past and past_sequence_length");
        return;
    }
    Dim third = dim_floordiv(m->c, dim_of(m, w, 1), DC(m, 3));
    Dim n[3] = {third, third, third};
    for (int i = 0; i < nsizes; i++)
        n[i] = DC(m, sizes[i]);
    b_guard(&m->b, G_EQ, dim_add(m->c, n[0], dim_add(m->c, n[1], n[2])), dim_of(m, w, 1),
            "the hidden sizes must add up to the columns of the weights");
    Val y = matmul(m, x, w, wide_type(t), t);
    if (present(m, 2))
        y = b_binary(&m->b, S_ADD, y, m->in[2]);
    self_attention(m, y, n, s, t);
}

void imp_ms_attention(Imp *m)
{
    Val used = attr_i(m, "past_present_share_buffer") ? operand(m, 6) : (Val){0};
    project_and_attend(m, &(SelfAttention){.mask = operand(m, 3), .bias = operand(m, 5), .past = operand(m, 4), .used = used});
}

/* Half of past or present, [1, B, N, M, H]: keys lie in a shared buffer as [1, B, N, H / x, M, x], x elements being 16 bytes. */
static Val key_chunks(Imp *m, Val all, bool into)
{
    Dim d[5], six[6], x = DC(m, 128 / dt_bits(dtype_of(m, all)));
    Val half[2];
    for (int i = 0; i < 2; i++)
        half[i] = b_slice_axis(&m->b, all, 0, DC(m, i), DC(m, 1));
    dims_of(m, half[0], d);
    Dim chunks = dim_floordiv(m->c, d[4], x);
    b_guard(&m->b, G_EQ, dim_mul(m->c, chunks, x), d[4], "the size of a head must be a multiple of 16 bytes");
    memcpy(six, d, 3 * sizeof *d);
    six[3] = into ? d[3] : chunks;
    six[4] = into ? chunks : d[3];
    six[5] = x;
    half[0] = reshape_to(m, b_permute(&m->b, reshape_to(m, half[0], 6, six), (int[]){0, 1, 2, 4, 3, 5}), 5, d);
    return b_concat(&m->b, 2, half, 0);
}

/* Attention of one query, behind keys of which beams descend from each other. */
void imp_ms_decoder_self(Imp *m)
{
    bool shared = attr_i(m, "past_present_share_buffer") != 0;
    SelfAttention s = {.mask = operand(m, 3), .past = m->in[4], .bias = operand(m, 5), .indirection = operand(m, 8)};
    if (rank_of(m, s.past) != 5) {
        ERR(m, "E0203", "past: expected rank 5, got %d", rank_of(m, s.past));
        return;
    }
    if (shared) {
        s.used = m->in[6];
        s.past = key_chunks(m, s.past, false);
    }
    if (s.past.i)
        project_and_attend(m, &s);
    if (shared && m->n->nout > 1 && m->out[1].i)
        m->out[1] = key_chunks(m, m->out[1], true);
}

/* ---- MultiHeadAttention */

/* One of `of` things that v packs along axis 3: [B, S, N, of, H] */
static Val packed(Imp *m, Val v, int i, int of)
{
    b_guard(&m->b, G_EQ, dim_of(m, v, 3), DC(m, of), "packed operands must hold %d things", of);
    return drop_axes(m, b_slice_axis(&m->b, v, 3, DC(m, i), DC(m, 1)), 1u << 3);
}

/* [B, S, N, H] with its part of the bias */
static bool flat_heads(Imp *m, Val v, Val bias, Dim *start, Heads *h)
{
    Dim d[4], n;
    dims_of(m, v, d);
    n = dim_mul(m->c, d[2], d[3]);
    Val rows = projected(m, reshape_to(m, v, 3, (Dim[]){d[0], d[1], n}), bias, *start, n);
    *start = dim_add(m->c, *start, n);
    *h = (Heads){reshape_to(m, rows, 4, d), true, d[0], d[2], d[1], d[3]};
    return h->v.i != 0;
}

static bool row_heads(Imp *m, Val v, Val bias, Dim *start, Heads *h)
{
    Dim n = dim_of(m, v, rank_of(m, v) - 1);
    Val x = rank_of(m, v) == 3 ? projected(m, v, bias, *start, n) : v;
    *start = dim_add(m->c, *start, n);
    return heads_of_rows(m, x, attr_i(m, "num_heads"), "num_heads", h);
}

/* Queries, keys and values in one of their forms. `decoder`: rows [B, 1, 2 * H + HV] are packed, too. */
static bool qkv(Imp *m, Att *a, Val bias, bool decoder)
{
    Val q = m->in[0], k = operand(m, 1), v = operand(m, 2);
    Dim start = DC(m, 0);
    int rq = rank_of(m, q), rk = k.i ? rank_of(m, k) : 0;
    if (bias.i && rank_of(m, bias) != 1) {
        ERR(m, "E0203", "bias: expected rank 1, got %d", rank_of(m, bias));
        return false;
    }
    if (rq == 5 && !k.i && !v.i)
        return flat_heads(m, packed(m, q, 0, 3), bias, &start, &a->q) && flat_heads(m, packed(m, q, 1, 3), bias, &start, &a->k) &&
               flat_heads(m, packed(m, q, 2, 3), bias, &start, &a->v);
    if (decoder && rq == 3 && !k.i && !v.i) {
        Dim n = dim_of(m, q, 2), third = dim_floordiv(m->c, n, DC(m, 3));
        b_guard(&m->b, G_EQ, n, dim_muli(m->c, third, 3), "packed queries, keys and values must be of one size");
        Heads *h[3] = {&a->q, &a->k, &a->v};
        for (int i = 0; i < 3; i++)
            if (!row_heads(m, b_slice_axis(&m->b, q, 2, dim_muli(m->c, third, i), third), bias, &start, h[i]))
                return false;
        return true;
    }
    if (rq != 3 || !row_heads(m, q, bias, &start, &a->q))
        return rq == 3 || (ERR(m, "E0203", "query: unexpected rank %d", rq), false);
    if (rk == 5 && !v.i)
        return flat_heads(m, packed(m, k, 0, 2), bias, &start, &a->k) && flat_heads(m, packed(m, k, 1, 2), bias, &start, &a->v);
    if (!k.i || !v.i || (rk != 3 && rk != 4) || rank_of(m, v) != rk) {
        ERR(m, "E0203", "expected keys and values of rank 3 or 4, or packed ones of rank 5");
        return false;
    }
    if (rk == 4) /* computed before, bias and all */
        return heads_apart(m, k, 0, "num_heads", &a->k) && heads_apart(m, v, 0, "num_heads", &a->v);
    return row_heads(m, k, bias, &start, &a->k) && row_heads(m, v, bias, &start, &a->v);
}

/* past: number of the operand with the past keys; the values follow, then the number of used rows. */
static void multi_head(Imp *m, Att *a, uint32_t past, Val indirection, bool shared)
{
    DType t = dtype_of(m, m->in[0]);
    Val before[2] = {operand(m, past), operand(m, past + 1)}, used = operand(m, past + 2);
    Heads *h[2] = {&a->k, &a->v};
    a->past = before[0].i && rank_of(m, before[0]) == 4 ? dim_of(m, before[0], 2) : DC(m, 0);
    if (shared && (!before[0].i || !before[1].i || !used.i)) {
        ERR(m, "E0205", "a shared buffer needs operands past_key, past_value and past_sequence_length");
        return;
    }
    if (shared && !operand_dim(m, used, "past_sequence_length", 0, DIM_INF, &a->past))
        return;
    for (int i = 0; i < 2; i++) {
        if (!before[i].i && !wanted(m, 1 + (uint32_t)i))
            continue;
        Val now = present_of(m, before[i], h[i], shared, a->past);
        if (!now.i)
            return;
        result(m, 1 + (uint32_t)i, now);
        if (indirection.i && !(h[i]->v = descend(m, h[i]->v, indirection, a->past)).i)
            return;
    }
    result(m, 0, attention(m, a, t));
    if (wanted(m, 3))
        result(m, 3, cast_to(m, a->qk, t));
}

void imp_ms_mha(Imp *m)
{
    Att a = {.mask = operand(m, 4), .bias = operand(m, 5), .causal = attr_i(m, "unidirectional") != 0};
    if (qkv(m, &a, operand(m, 3), false))
        multi_head(m, &a, 6, operand(m, 9), present(m, 8) && (present(m, 6) || present(m, 7)));
}

void imp_ms_decoder_mha(Imp *m)
{
    Att a = {.mask = operand(m, 3), .bias = operand(m, 4)};
    if (qkv(m, &a, operand(m, 10), true))
        multi_head(m, &a, 5, operand(m, 9), attr_i(m, "past_present_share_buffer") != 0 && present(m, 5));
}

/* ---- LongformerAttention: queries see a window and all global keys; global queries have projections of their own and see all */

/* Rows times weights [D, 3 * H] plus bias, as the heads of queries, keys and values */
static bool projections(Imp *m, Val x, Val w, Val bias, Heads *h)
{
    DType t = dtype_of(m, x);
    if (rank_of(m, w) != 2) {
        ERR(m, "E0203", "weights: expected rank 2, got %d", rank_of(m, w));
        return false;
    }
    Val y = b_binary(&m->b, S_ADD, matmul(m, x, w, wide_type(t), t), bias);
    Dim n = dim_floordiv(m->c, dim_of(m, w, 1), DC(m, 3));
    for (int i = 0; i < 3; i++)
        if (!y.i || !heads_of_rows(m, b_slice_axis(&m->b, y, 2, dim_muli(m->c, n, i), n), attr_i(m, "num_heads"), "num_heads", &h[i]))
            return false;
    return true;
}

void imp_longformer(Imp *m)
{
    Val x = m->in[0], mask = m->in[3], global = m->in[6], y[2];
    DType t = dtype_of(m, x), gt = dtype_of(m, global);
    int64_t window = attr_i(m, "window");
    if (rank_of(m, x) != 3 || rank_of(m, mask) != 2 || rank_of(m, global) != 2 || window < 1) {
        ERR(m, "E0203", "expected an input of rank 3, mask and global of rank 2 and a positive window");
        return;
    }
    for (int i = 0; i < 2; i++) {
        Heads h[3];
        Scores s;
        if (!projections(m, x, m->in[i ? 4 : 1], m->in[i ? 5 : 2], h) || !scores_of(m, &h[0], &h[1], &s))
            return;
        scores_scale(m, &s, false, 0, h[0].size);
        if (!scores_mask(m, &s, insert_axes(m, mask, 4, 6), "mask"))
            return;
        Expr far = X2(GT, X1(ABS, X2(SUB, s.at[3], s.at[2])), XI(window)), at[2] = {s.at[0], s.at[3]};
        Expr everywhere = X2(NE, load_at(m, 1, gt, 2, at), expr_int(m->c, gt, 0));
        if (!i)
            scores_keep(m, &s, X2(OR, X1(NOT, far), everywhere), -3.4028234663852886e38, 1, &global);
        scores_softmax(m, &s);
        s.v = cast_to(m, s.v, t);
        y[i] = scores_times(m, &s, &h[2], true, t);
    }
    Val own = map_over(m, X2(NE, xarg(m, 0, gt), expr_int(m->c, gt, 0)), 1, &global, 2, val_type(m->b.g, global)->dim);
    result(m, 0, b_select(&m->b, insert_axes(m, own, 3, 4), y[1], y[0]));
}
