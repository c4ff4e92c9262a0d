/* op_ms_words.c: operators of com.microsoft on ids of words and characters, paths through their costs, the router of experts, and
 * the order of elements. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(ms_unique); FN(wordconv); FN(ngramhash); FN(varlenhash); FN(grouprouter); FN(swiglu); FN(gemmfastgelu); FN(isallfinite); FN(timewarp);
void imp_unique(Imp *m);

/* Values in order of first occurrence; the standard's operator has their places as another result. */
void imp_ms_unique(Imp *m)
{
    const SrcNode *own = m->n;
    SrcNode four = *own;
    four.nout = 4;
    m->n = &four;
    imp_unique(m);
    m->n = own;
    m->out[1] = m->out[2];
    m->out[2] = m->out[3];
}

/* ---- hashes of n-grams */

enum { MAX_NGRAM = 32 };

/* ids behind max - 1 ids from before: what is absent of those is `fill`. */
static Val with_history(Imp *m, Val ids, Val past, Val fill, int64_t most)
{
    Dim d[2] = {dim_of(m, ids, 0), DC(m, most - 1)};
    if (!past.i)
        past = map_over(m, xarg(m, 0, dtype_of(m, ids)), 1, &fill, 2, d);
    b_guard(&m->b, G_EQ, dim_of(m, past, 0), d[0], "past_ids has another batch size");
    b_guard(&m->b, G_EQ, dim_of(m, past, 1), d[1], "past_ids must hold max_ngram_size - 1 ids");
    return b_concat(&m->b, 2, (Val[]){past, ids}, 1);
}

/* For each position of `all`, i64[B, M + S]: the first one that it may look back to, behind the last end of a text before it and at
 * or behind the last change of segments. */
static Val look_back(Imp *m, Val all, Val eos, Val segments, int64_t most)
{
    Dim d[2];
    DType t = dtype_of(m, all), i64 = DT_I64;
    Expr top = X2(MAX, xarg(m, 0, DT_I64), xarg(m, 1, DT_I64));
    Scalar none = {.t = DT_I64};
    Val lo = {0}, s;
    dims_of(m, all, d);
    if (eos.i) {
        Expr after = X3(SELECT, X2(EQ, xarg(m, 0, t), xarg(m, 1, t)), X2(ADD, xaxis(m, 1), XI(1)), XI(0));
        Val end = map_over(m, after, 2, (Val[]){all, eos}, 2, d);
        if (!end.i)
            return end;
        b_scan(&m->b, 1, &end, 1, false, true, &top, &none, &i64, &lo);
    }
    if (segments.i) {
        DType st = dtype_of(m, segments);
        Expr j = X2(SUB, xaxis(m, 1), XI(most - 1)), at[2] = {xaxis(m, 0), j}, before[2] = {xaxis(m, 0), X2(SUB, j, XI(1))};
        Expr zero = expr_int(m->c, st, 0), here = expr_load(m->c, 0, st, 2, at, OOB_VALUE, zero, 0);
        Expr changed = X2(AND, X2(GE, j, XI(1)), X2(NE, here, expr_load(m->c, 0, st, 2, before, OOB_VALUE, zero, 0)));
        s = map_over(m, X3(SELECT, changed, xaxis(m, 1), XI(0)), 1, &segments, 2, d);
        if (!s.i)
            return s;
        b_scan(&m->b, 1, &s, 1, false, false, &top, &none, &i64, &s);
        lo = lo.i ? b_binary(&m->b, S_MAX, lo, s) : s;
    }
    return lo;
}

typedef struct Hash { int64_t most, heads; Val mult, vocab, offset, eos, fill; } Hash;

/* The operands that say how, checked; offset: the number of that operand, eos follows. fill: what stands where no id is. */
static bool read_hash(Imp *m, Hash *h, uint32_t offset)
{
    *h = (Hash){attr_i(m, "max_ngram_size"), attr_i(m, "n_head_per_ngram"), m->in[1], m->in[2], operand(m, offset), operand(m, offset + 1), {0}};
    DType t = dtype_of(m, m->in[0]);
    if (rank_of(m, h->mult) != 1 || rank_of(m, h->vocab) != 1 || h->most < 2 || h->most > MAX_NGRAM || h->heads < 1) {
        ERR(m, "E0202", "expected vectors, max_ngram_size of 2 to %d and a positive n_head_per_ngram, got %lld and %lld",
            MAX_NGRAM, (long long)h->most, (long long)h->heads);
        return false;
    }
    b_guard(&m->b, G_LE, DC(m, h->most), dim_of(m, h->mult, 0), "there must be a multiplier for each id of an n-gram");
    b_guard(&m->b, G_EQ, dim_of(m, h->vocab, 0), DC(m, (h->most - 1) * h->heads), "there must be a vocabulary size for each head");
    Val ok = b_map1(&m->b, X2(GT, xarg(m, 0, t), expr_int(m->c, t, 0)), 1, &h->vocab);
    if (!ok.i)
        return false;
    b_guard_val(&m->b, b_reduce1(&m->b, R_AND, ok, 1, false), "a vocabulary size is not positive");
    h->eos = h->eos.i ? only_element(m, h->eos) : h->eos;
    h->fill = h->eos.i ? h->eos : b_scalar(&m->b, dt_convert((Scalar){.t = DT_I64, .i = attr_i(m, "pad_id")}, t));
    return h->fill.i != 0;
}

/* The heads of the n-grams of k + 1 ids, whose hashes are v: one more axis */
static Val hash_heads(Imp *m, const Hash *h, Val v, int64_t k)
{
    int r = rank_of(m, v);
    Dim d[MAX_RANK];
    DType t = dtype_of(m, m->in[0]);
    dims_of(m, v, d);
    d[r] = DC(m, h->heads);
    Expr head = X2(ADD, xaxis(m, r), XI((k - 1) * h->heads)), e = X2(MOD, xarg(m, 0, t), load_at(m, 1, t, 1, &head));
    if (h->offset.i)
        e = X2(ADD, e, load_at(m, 2, t, 1, &head));
    return map_over(m, e, h->offset.i ? 3 : 2, (Val[]){insert_axes(m, v, r + 1, 1u << r), h->vocab, h->offset}, r + 1, d);
}

void imp_ngramhash(Imp *m)
{
    Val ids = m->in[0], seg = operand(m, 6), part[MAX_NGRAM];
    DType t = dtype_of(m, ids);
    Hash h;
    Dim d[2];
    if (rank_of(m, ids) != 2 || (present(m, 3) && rank_of(m, m->in[3]) != 2)) {
        ERR(m, "E0203", "input_ids and past_ids: expected rank 2");
        return;
    }
    if (!read_hash(m, &h, 4))
        return;
    dims_of(m, ids, d);
    Val all = with_history(m, ids, operand(m, 3), h.fill, h.most);
    Val lo = all.i ? look_back(m, all, attr_i(m, "reset_on_eos") ? h.eos : (Val){0}, seg, h.most) : all;
    Val in[4] = {all, h.mult, h.fill, lo};
    Expr row = xaxis(m, 0), mix = {0};
    for (int64_t k = 0; k < h.most; k++) {
        Expr pos = X2(ADD, xaxis(m, 1), XI(h.most - 1)), at[2] = {row, X2(SUB, pos, XI(k))}, i = XI(k);
        Expr id = load_at(m, 0, t, 2, at);
        if (lo.i && k)
            id = X3(SELECT, X2(GE, at[1], load_at(m, 3, DT_I64, 2, (Expr[]){row, pos})), id, xarg(m, 2, t));
        Expr term = X2(MUL, id, load_at(m, 1, t, 1, &i));
        mix = k ? X2(XOR, mix, term) : term;
        if (k)
            part[k - 1] = hash_heads(m, &h, map_over(m, mix, lo.i ? 4 : 3, in, 2, d), k);
    }
    result(m, 0, b_concat(&m->b, (int)h.most - 1, part, 2));
    if (wanted(m, 1))
        result(m, 1, b_slice_axis(&m->b, all, 1, d[1], DC(m, h.most - 1)));
}

/* ---- the same for texts of different lengths, one behind the other */

enum { STARTS, IDS, PAST, SEGS, PAST_SEGS, ROW, MULT, FILL, PACKED }; /* operands of the maps: SEGS and what follows them may be absent */

/* Number `place` of text b: of the operand k, or for places before the text, of the operand after it, [texts, before]. */
static Expr packed_at(Imp *m, int k, DType t, Expr b, Expr place, int64_t before)
{
    Expr own = X2(ADD, load_at(m, STARTS, DT_I64, 1, &b), place), at[2] = {b, X2(ADD, place, XI(before))};
    return X3(SELECT, X2(GE, place, XI(0)), expr_load(m->c, (uint32_t)k, t, 1, &own, OOB_CLAMP, (Expr){0}, 0),
              expr_load(m->c, (uint32_t)k + 1, t, 2, at, OOB_CLAMP, (Expr){0}, 0));
}

/* i64[T]: the text of each token. The starts are checked. */
static Val texts_of(Imp *m, Val starts, Dim texts, Dim tokens)
{
    Expr b = xaxis(m, 0), next = X2(ADD, b, XI(1)), first = load_at(m, 0, DT_I64, 1, &b), last = load_at(m, 0, DT_I64, 1, &next);
    Expr ends = X2(OR, X2(NE, next, xdim(m, texts)), X2(EQ, last, xdim(m, tokens))), begins = X2(OR, X2(NE, b, XI(0)), X2(EQ, first, XI(0)));
    b_guard_val(&m->b, map_over(m, X2(AND, X2(LT, first, last), X2(AND, begins, ends)), 1, &starts, 1, &texts),
                "cumulative_sequence_length must ascend from 0 to the number of tokens");
    Expr text = X2(ADD, xaxis(m, 1), XI(1)), before = X2(LE, load_at(m, 0, DT_I64, 1, &text), xaxis(m, 0));
    Val v = map_over(m, expr_cast(m->c, before, DT_I64), 1, &starts, 2, (Dim[]){tokens, texts});
    return v.i ? b_reduce1(&m->b, R_SUM, v, 2, false) : v;
}

/* What comes before each text: the operand, [texts, before], else `deflt` over those axes. */
static Val texts_past(Imp *m, uint32_t k, Expr deflt, int nin, const Val *in, const Dim *d)
{
    Val v = operand(m, k);
    if (!v.i)
        return map_over(m, deflt, nin, in, 2, d);
    if (rank_of(m, v) != 2) {
        ERR(m, "E0203", "past_ids and past_segment_ids: expected rank 2");
        return (Val){0};
    }
    for (int i = 0; i < 2; i++)
        b_guard(&m->b, G_EQ, dim_of(m, v, i), d[i], "past_ids and past_segment_ids must hold max_ngram_size - 1 ids of each text");
    return v;
}

/* The last ids (or segments) of each text, and of its first tokens as far as they are captured. */
static void hash_states(Imp *m, const Hash *h, const Val *in, const Dim *past)
{
    DType t = dtype_of(m, in[IDS]);
    int64_t before = h->most - 1, room = attr_i(m, "state_update_capacity");
    Expr b = xaxis(m, 0), next = X2(ADD, b, XI(1));
    Expr len = X2(SUB, load_at(m, STARTS, DT_I64, 1, &next), load_at(m, STARTS, DT_I64, 1, &b));
    Expr place = X2(SUB, X2(ADD, len, xaxis(m, 1)), XI(before));
    if (wanted(m, 1))
        result(m, 1, map_over(m, packed_at(m, IDS, t, b, place, before), SEGS, in, 2, past));
    if (wanted(m, 2) && in[SEGS].i)
        result(m, 2, map_over(m, packed_at(m, SEGS, dtype_of(m, in[SEGS]), b, place, before), ROW, in, 2, past));
    if (!wanted(m, 3))
        return;
    Val all[SEGS + 1] = {in[STARTS], in[IDS], in[PAST], room ? cast_to(m, m->in[9], DT_I64) : b_splat(&m->b, (Scalar){.t = DT_I64}, 1, past)};
    Expr s = xaxis(m, 1), captured = X2(LT, s, X2(MIN, load_at(m, SEGS, DT_I64, 1, &b), len));
    Expr id = packed_at(m, IDS, t, b, X2(SUB, X2(ADD, s, xaxis(m, 2)), XI(before - 1)), before);
    Expr e = X3(SELECT, captured, id, expr_int(m->c, t, attr_i(m, "pad_id")));
    result(m, 3, map_over(m, e, SEGS + 1, all, 3, (Dim[]){past[0], DC(m, room), past[1]}));
}

void imp_varlenhash(Imp *m)
{
    Val ids = m->in[0], seg = operand(m, 7), part[MAX_NGRAM];
    DType t = dtype_of(m, ids);
    int64_t room = attr_i(m, "state_update_capacity");
    bool reset = attr_i(m, "reset_on_eos") && present(m, 6);
    Hash h;
    if (rank_of(m, ids) != 1 || rank_of(m, m->in[3]) != 1 || (seg.i && rank_of(m, seg) != 1) || (present(m, 9) && rank_of(m, m->in[9]) != 1)) {
        ERR(m, "E0203", "ids, segments, cumulative_sequence_length and capture_count: expected rank 1");
        return;
    }
    if (room < 0 || room > 8 || present(m, 9) != (room > 0) || (!seg.i && (present(m, 8) || wanted(m, 2)))) {
        ERR(m, "E0205", "capture_count belongs to a state_update_capacity of 1 to 8, past and present segments to segment_ids");
        return;
    }
    if (!read_hash(m, &h, 5))
        return;
    Dim tokens = dim_of(m, ids, 0), past[2] = {dim_addi(m->c, dim_of(m, m->in[3], 0), -1), DC(m, h.most - 1)};
    if (seg.i)
        b_guard(&m->b, G_EQ, dim_of(m, seg, 0), tokens, "there must be a segment for each id");
    if (room)
        b_guard(&m->b, G_EQ, dim_of(m, m->in[9], 0), past[0], "there must be a capture_count for each text");
    Val in[PACKED] = {[STARTS] = cast_to(m, m->in[3], DT_I64), [IDS] = ids, [SEGS] = seg, [MULT] = h.mult, [FILL] = h.fill};
    in[ROW] = texts_of(m, in[STARTS], past[0], tokens);
    in[PAST] = texts_past(m, 4, xarg(m, 0, t), 1, &h.fill, past);
    if (seg.i) {
        Expr b = xaxis(m, 0), first = load_at(m, 0, DT_I64, 1, &b);
        in[PAST_SEGS] = texts_past(m, 8, load_at(m, 1, dtype_of(m, seg), 1, &first), 2, (Val[]){in[STARTS], seg}, past);
    } else {
        in[SEGS] = in[PAST_SEGS] = in[ROW];     /* not looked at */
    }
    if (!in[ROW].i || !in[PAST].i || !in[PAST_SEGS].i)
        return;
    Expr b = xarg(m, ROW, DT_I64), place = X2(SUB, xaxis(m, 0), load_at(m, STARTS, DT_I64, 1, &b)), mix = {0}, hidden = expr_int(m->c, DT_BOOL, 0);
    for (int64_t k = 0; k < h.most; k++) {
        Expr i = XI(k), here = X2(SUB, place, XI(k)), id = packed_at(m, IDS, t, b, here, h.most - 1), fill = load_at(m, FILL, t, 0, NULL);
        if (k && reset)
            hidden = X2(OR, hidden, X2(EQ, id, fill));
        if (k && seg.i) {
            DType st = dtype_of(m, seg);
            Expr behind = packed_at(m, SEGS, st, b, X2(ADD, here, XI(1)), h.most - 1);
            hidden = X2(OR, hidden, X2(NE, packed_at(m, SEGS, st, b, here, h.most - 1), behind));
        }
        Expr term = X2(MUL, X3(SELECT, hidden, fill, id), load_at(m, MULT, t, 1, &i));
        mix = k ? X2(XOR, mix, term) : term;
        if (k)
            part[k - 1] = hash_heads(m, &h, map_over(m, mix, PACKED, in, 1, &tokens), k);
    }
    result(m, 0, b_concat(&m->b, (int)h.most - 1, part, 1));
    if (!seg.i)
        in[SEGS] = (Val){0};
    hash_states(m, &h, in, past);
}

/* ---- words as convolutions of their characters */

/* The greatest activation over the places of the window; a word ends at its first 0, and has at least the window's characters. */
void imp_wordconv(Imp *m)
{
    Val s = m->in[0], w = m->in[1], b = m->in[2], c = m->in[3];
    if (rank_of(m, s) != 2 || rank_of(m, w) != 4 || rank_of(m, b) != 1 || rank_of(m, c) != 2) {
        ERR(m, "E0203", "expected Sequence of rank 2, W of rank 4, B of rank 1 and C of rank 2");
        return;
    }
    Dim d[2], wd[4];
    DType t = dtype_of(m, c), ct = dtype_of(m, s);
    dims_of(m, s, d);
    dims_of(m, w, wd);
    b_guard(&m->b, G_EQ, wd[3], dim_of(m, c, 1), "kernels and characters have embeddings of different sizes");
    b_guard(&m->b, G_LE, wd[2], d[1], "words are shorter than the window");
    Val x = b_gather(&m->b, c, s, 0, OOB_FAIL);
    WindowAttr win = {.n = 1, .axis = {1}, .size = {wd[2]}, .stride = {1}, .dilation = {1}};
    Val y = b_contract(&m->b, "wlek,oke->wlo", b_window(&m->b, x, &win), reshape_to(m, w, 3, (Dim[]){wd[0], wd[2], wd[3]}), t, t);
    y = map_text(m, "tanh(a + b)", 2, (Val[]){y, b});
    Expr zero = expr_int(m->c, ct, 0), more = X2(AND, xarg(m, 0, DT_BOOL), xarg(m, 1, DT_BOOL));
    Val in_word = b_map1(&m->b, X2(GT, xarg(m, 0, ct), zero), 1, &s), live;
    DType bt = DT_BOOL;
    if (!y.i || !in_word.i)
        return;
    b_scan(&m->b, 1, &in_word, 1, false, false, &more, &(Scalar){.t = DT_BOOL, .i = 1}, &bt, &live);
    Val len = b_reduce1(&m->b, R_SUM, cast_to(m, live, DT_I64), 2, false);
    Expr word = xaxis(m, 0), n = load_at(m, 1, DT_I64, 1, &word);
    Expr places = X2(MAX, X2(SUB, n, X2(SUB, xdim(m, wd[2]), XI(1))), XI(1));
    Dim yd[3];
    dims_of(m, y, yd);
    y = map_over(m, X3(SELECT, X2(LT, xaxis(m, 1), places), xarg(m, 0, t), xf(m, t, -INFINITY)), 2, (Val[]){y, len}, 3, yd);
    y = y.i ? b_reduce1(&m->b, R_MAX, y, 2, false) : y;
    Dim od[2] = {yd[0], yd[2]};
    result(m, 0, map_over(m, X3(SELECT, X2(EQ, n, XI(0)), xf(m, t, 0), xarg(m, 0, t)), 2, (Val[]){y, len}, 2, od));
}

/* ---- routing to experts */

/* bool, true at the k greatest of the last axis of v[T, N] */
static Val best(Imp *m, Val v, int64_t k)
{
    Dim d[2];
    Val top, at;
    dims_of(m, v, d);
    TopkAttr a = {.axis = 1, .largest = true, .sorted = true, .k = DC(m, k)};
    b_guard(&m->b, G_LE, a.k, d[1], "fewer are there than are to be chosen");
    b_topk(&m->b, v, &a, &top, &at);
    if (!at.i)
        return at;
    ScatterAttr s = {.mode = SC_SET, .elements = true, .axis = 1};
    Val none = b_splat(&m->b, (Scalar){.t = DT_BOOL}, 2, d), all = b_splat(&m->b, (Scalar){.t = DT_BOOL, .i = 1}, 2, (Dim[]){d[0], a.k});
    return b_scatter(&m->b, none, at, all, &s);
}

void imp_grouprouter(Imp *m)
{
    Val x = m->in[0], bias = m->in[1], w = operand(m, 2), top, at;
    int64_t groups = attr_i(m, "n_group"), k = attr_i(m, "top_k"), chosen = attr_i(m, "topk_group"), sum = attr_i(m, "group_topk");
    int r = rank_of(m, x);
    Dim d[MAX_RANK], g[3];
    if (r < 1 || rank_of(m, bias) != 1 || (w.i && rank_of(m, w) != 2) || groups < 1 || k < 1 || chosen < 1 || sum < 1) {
        ERR(m, "E0202", "expected a bias of rank 1 and positive numbers of groups and experts");
        return;
    }
    dims_of(m, x, d);
    g[0] = count_of(m, d, r - 1);
    x = reshape_to(m, cast_to(m, x, DT_F32), 2, (Dim[]){g[0], d[r - 1]});
    if (w.i)
        x = b_contract(&m->b, "tw,ew->te", x, cast_to(m, w, DT_F32), DT_F32, DT_F32);
    if (!x.i)
        return;
    Val s = b_unary(&m->b, S_SIGMOID, x), score = b_binary(&m->b, S_ADD, s, bias), sel = score;
    result(m, 1, score);
    result(m, 2, s);
    if (!wanted(m, 0))
        return;
    Dim experts = dim_of(m, s, 1), sd[2] = {g[0], experts};
    b_guard(&m->b, G_EQ, dim_mod(m->c, experts, DC(m, groups)), DC(m, 0), "the experts must be divisible by n_group");
    if (groups > 1) {
        g[1] = DC(m, groups);
        g[2] = dim_floordiv(m->c, experts, g[1]);
        TopkAttr a = {.axis = 2, .largest = true, .sorted = true, .k = dim_min(m->c, DC(m, sum), g[2])};
        b_topk(&m->b, reshape_to(m, score, 3, g), &a, &top, &at);
        Val live = best(m, b_reduce1(&m->b, R_SUM, top, 4, false), chosen);
        if (!live.i)
            return;
        Expr group = X2(FDIV, xaxis(m, 1), xdim(m, g[2])), on = load_at(m, 1, DT_BOOL, 2, (Expr[]){xaxis(m, 0), group});
        sel = map_over(m, X3(SELECT, on, xarg(m, 0, DT_F32), xf(m, DT_F32, -INFINITY)), 2, (Val[]){score, live}, 2, sd);
    }
    Val mask = best(m, sel, k);
    Expr e = X3(SELECT, xarg(m, 0, DT_BOOL), X1(LOG, X2(MAX, xarg(m, 1, DT_F32), xf(m, DT_F32, 1e-20))), xf(m, DT_F32, attr_f(m, "router_sentinel")));
    result(m, 0, cast_to(m, map_over(m, e, 2, (Val[]){mask, s}, 2, sd), dtype_of(m, m->in[0])));
}

/* ---- activations with gates */

/* g * sigmoid(alpha g) * (l + beta), both clamped to a limit; without `up`, the operand holds both halves */
void imp_swiglu(Imp *m)
{
    Val half[2] = {m->in[0], operand(m, 1)};
    DType t = dtype_of(m, half[0]), w = wide_type(t);
    int last = rank_of(m, half[0]) - 1;
    double limit = attr_f(m, "limit");
    if (last < 0) {
        ERR(m, "E0203", "a scalar has no halves");
        return;
    }
    if (!half[1].i) {
        Dim n = dim_of(m, half[0], last), h = dim_floordiv(m->c, n, DC(m, 2));
        b_guard(&m->b, G_EQ, dim_muli(m->c, h, 2), n, "the last size must be even");
        for (int i = 1; i >= 0; i--)
            half[i] = b_slice_axis(&m->b, m->in[0], last, i ? h : DC(m, 0), h);
    }
    for (int i = 0; i < 2; i++)
        half[i] = cast_to(m, half[i], w);
    if (limit > 0) {
        half[0] = map_text(m, "min(a, $limit)", 1, half);
        half[1] = map_text(m, "max(min(a, $limit), 0 - $limit)", 1, half + 1);
    }
    Val g = map_text(m, "a * sigmoid($activation_alpha * a)", 1, half);
    if (attr_i(m, "round_activation"))
        g = cast_to(m, cast_to(m, g, t), w);
    result(m, 0, cast_to(m, map_text(m, "a * (b + $activation_beta)", 2, (Val[]){g, half[1]}), t));
}

void imp_gemmfastgelu(Imp *m)
{
    DType t = dtype_of(m, m->in[0]), w = wide_type(t);
    Val x = matmul(m, m->in[0], m->in[1], w, w);
    if (present(m, 2))
        x = b_binary(&m->b, S_ADD, x, cast_to(m, m->in[2], w));
    result(m, 0, cast_to(m, map_text(m, "a * (0.5 + 0.5 * tanh(a * (0.035677408136300125 * a * a + 0.7978845608028654)))", 1, &x), t));
}

void imp_isallfinite(Imp *m)
{
    bool inf = attr_i(m, "isinf_only") != 0, nan = attr_i(m, "isnan_only") != 0;
    Val all = {0};
    for (uint32_t i = 0; i < m->n->nin; i++) {
        Expr x = xarg(m, 0, dtype_of(m, m->in[i])), bad = inf ? X1(ISINF, x) : nan ? X1(ISNAN, x) : X2(OR, X1(ISINF, x), X1(ISNAN, x));
        Val ok = b_map1(&m->b, X1(NOT, bad), 1, &m->in[i]);
        ok = ok.i ? b_reduce1(&m->b, R_AND, ok, (uint32_t)((1ull << rank_of(m, ok)) - 1), false) : ok;
        all = i ? b_binary(&m->b, S_AND, all, ok) : ok;
    }
    result(m, 0, all);
}

/* ---- the cheapest path through a matrix of costs */

enum { DIAGONAL, DOWN, RIGHT };

/* One row: carried is the cost of paths to each place of the row before, in front of which is one more; the result, where the
 * cheapest path to each place comes from. */
static Graph *warp_row(Imp *m, Val cost, Dim n)
{
    Graph *g = graph_new(m->c, "row", m->b.g);
    Imp inner = *m, *w = &inner;
    Dim more = dim_addi(m->c, n, 1);
    inner.b = builder(g, m->b.loc);
    Val iter = graph_input(g, "iter", type_tensor(m->c, DT_I64, 0, NULL)), go = graph_input(g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    Val before = graph_input(g, "row", type_tensor(m->c, DT_F32, 1, &more)), all = graph_input(g, "cost", *val_type(m->b.g, cost));
    Val c = b_gather(&w->b, all, iter, 0, OOB_FAIL), sum[2];
    Expr j = xaxis(m, 0), next = X2(ADD, j, XI(1)), inf = xf(m, DT_F32, INFINITY), back = X2(SUB, j, XI(1));
    Expr diagonal = load_at(m, 0, DT_F32, 1, &j), down = load_at(m, 0, DT_F32, 1, &next);
    /* place j costs min(p, q + place j - 1) */
    Val step[2] = {map_over(w, X2(ADD, xarg(m, 1, DT_F32), X2(MIN, diagonal, down)), 2, (Val[]){before, c}, 1, &n), c};
    Expr comb[2] = {X2(MIN, xarg(m, 2, DT_F32), X2(ADD, xarg(m, 3, DT_F32), xarg(m, 0, DT_F32))), X2(ADD, xarg(m, 1, DT_F32), xarg(m, 3, DT_F32))};
    b_scan(&w->b, 2, step, 0, false, false, comb, (Scalar[]){{.t = DT_F32, .f = INFINITY}, {.t = DT_F32}}, (DType[]){DT_F32, DT_F32}, sum);
    Expr right = expr_load(m->c, 1, DT_F32, 1, &back, OOB_VALUE, inf, 0);
    Expr both = X2(AND, X2(LT, diagonal, down), X2(LT, diagonal, right)), third = X2(AND, X2(LT, down, diagonal), X2(LT, down, right));
    Expr from = X3(SELECT, both, XI(DIAGONAL), X3(SELECT, third, XI(DOWN), XI(RIGHT)));
    graph_output(g, "cond", go);
    graph_output(g, "row", map_over(w, X3(SELECT, X2(EQ, j, XI(0)), inf, expr_load(m->c, 0, DT_F32, 1, &back, OOB_VALUE, inf, 0)), 1, sum, 1, &more));
    graph_output(g, "from", map_over(w, from, 2, (Val[]){before, sum[0]}, 1, &n));
    return g;
}

/* One place of the path, from its end: carried are row and column behind it. */
static Graph *warp_back(Imp *m, Val from)
{
    Graph *g = graph_new(m->c, "back", m->b.g);
    Imp inner = *m, *w = &inner;
    Type index = type_tensor(m->c, DT_I64, 0, NULL);
    inner.b = builder(g, m->b.loc);
    graph_input(g, "iter", index);
    graph_input(g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    Val in[3] = {graph_input(g, "row", index), graph_input(g, "column", index), graph_input(g, "from", *val_type(m->b.g, from))};
    Expr r = xarg(m, 0, DT_I64), c = xarg(m, 1, DT_I64), at[2] = {X2(SUB, r, XI(1)), X2(SUB, c, XI(1))};
    Expr step = expr_load(m->c, 2, DT_I64, 2, at, OOB_VALUE, XI(0), 0);
    step = X3(SELECT, X2(EQ, r, XI(0)), XI(RIGHT), X3(SELECT, X2(EQ, c, XI(0)), XI(DOWN), step));
    Expr up = X3(SELECT, X2(EQ, step, XI(RIGHT)), r, at[0]), left = X3(SELECT, X2(EQ, step, XI(DOWN)), c, at[1]);
    Expr place = expr_cast(m->c, X3(SELECT, X2(EQ, xaxis(m, 0), XI(0)), at[0], at[1]), DT_I32);
    Dim two = DC(m, 2);
    graph_output(g, "cond", map_over(w, X2(OR, X2(GT, up, XI(0)), X2(GT, left, XI(0))), 3, in, 0, NULL));
    graph_output(g, "row", map_over(w, up, 3, in, 0, NULL));
    graph_output(g, "column", map_over(w, left, 3, in, 0, NULL));
    graph_output(g, "place", map_over(w, place, 2, in, 1, &two));
    return g;
}

void imp_timewarp(Imp *m)
{
    Val cost = m->in[0], row[2], path[3];
    Dim d[MAX_RANK], more;
    int r = rank_of(m, cost);
    if ((r != 2 && r != 3) || dtype_of(m, cost) != DT_F32) {
        ERR(m, "E0203", "expected costs of type f32 and rank 2 or 3, got rank %d", r);
        return;
    }
    dims_of(m, cost, d);
    if (r == 3)
        b_guard(&m->b, G_EQ, d[0], DC(m, 1), "expected a single matrix");
    cost = reshape_to(m, cost, 2, d + r - 2);
    more = dim_addi(m->c, d[r - 1], 1);
    b_guard(&m->b, G_LE, DC(m, 1), d[r - 2], "there are no costs");
    b_guard(&m->b, G_LE, DC(m, 1), d[r - 1], "there are no costs");
    Val first = map_over(m, X3(SELECT, X2(EQ, xaxis(m, 0), XI(0)), xf(m, DT_F32, 0), xf(m, DT_F32, INFINITY)), 0, NULL, 1, &more);
    b_loop(&m->b, warp_row(m, cost, d[r - 1]), 1, 1, 4, (Val[]){b_dim_scalar(&m->b, d[r - 2]), {0}, first, cost}, row);
    Val end[2] = {b_dim_scalar(&m->b, d[r - 2]), b_dim_scalar(&m->b, d[r - 1])};
    if (!row[1].i)
        return;
    b_loop(&m->b, warp_back(m, row[1]), 2, 1, 5, (Val[]){{0}, {0}, end[0], end[1], row[1]}, path);
    Val p = path[2];
    if (!p.i)
        return;
    Dim size[2] = {dim_of(m, p, 0), DC(m, 2)}, last[2] = {dim_addi(m->c, size[0], -1), DC(m, 0)};
    result(m, 0, b_permute(&m->b, b_slice(&m->b, p, last, (int64_t[]){-1, 1}, size), (int[]){1, 0}));
}
