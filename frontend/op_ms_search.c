/* op_ms_search.c: GreedySearch and Sampling of com.microsoft, and what BeamSearch shares with them (ms_search.h): a loop around the decoder that an
 * attribute holds. The first trip feeds the whole prompt and an empty past, each other one the token just chosen and the past so far. As ONNX
 * Runtime's greedy_search_impl_gpt.h and logits_processor.cc. */
#include "frontend/ms_search.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(greedysearch); FN(sampling);

static const uint32_t greedy_operands[NOPTION] = {0, 1, 2, 3, 4, 5, 6};

static Type ints(Imp *m, int rank, const Dim *d) { return type_tensor(m->c, DT_I32, rank, d); }

static Type with_dim(Imp *m, Type t, int axis, Dim size)
{
    Dim d[MAX_RANK];
    memcpy(d, t.dim, sizeof *d * t.rank);
    d[axis] = size;
    return type_tensor(m->c, (DType)t.dtype, t.rank, d);
}

bool search_empty_state(Imp *m, const SrcGraph *g, uint32_t k, const Search *s, int rank, Type *t)
{
    if (!g->in.v[k].type || !model_type_known(g->in.v[k].type)) {
        ERR(m, "E0208", "attribute decoder: the past state '%s' has no declared type", g->in.v[k].name);
        return false;
    }
    if (!model_type(m->m, g->in.v[k].type, g->in.v[k].name, m->b.loc, t))
        return false;
    if (t->kind != TY_TENSOR || t->rank != rank || !dt_is_float((DType)t->dtype)) {
        ERR(m, "E0208", "attribute decoder: a past state must be a float tensor of rank %d", rank);
        return false;
    }
    *t = with_dim(m, *t, s->rows, s->batch);
    *t = with_dim(m, *t, s->tokens, DC(m, 0));
    if (rank == 5)
        *t = with_dim(m, *t, 0, DC(m, 2));
    return true;
}

bool search_ngrams(Imp *m)
{
    int64_t n = attr_i(m, "no_repeat_ngram_size");
    if (n >= 0 && n <= SHAPE_MAX)
        return true;
    ERR(m, "E0202", "attribute no_repeat_ngram_size: expected 0 to %d, got %lld", SHAPE_MAX, (long long)n);
    return false;
}

static bool gpt_graph_ok(Imp *m, const char *name, const SrcGraph *g, int npast)
{
    if (npast >= 1 && npast <= MAX_STATES && (int)g->in.n == 3 + npast && (int)g->out.n == 1 + npast)
        return true;
    ERR(m, "E0208", "attribute %s: expected input_ids, position_ids, attention_mask and past states, logits and as many present states; "
        "got %u inputs and %u outputs", name, g->in.n, g->out.n);
    return false;
}

/* The decoder: ids, positions, mask and a past [2, batch, heads, length, size] per layer to scores and a present per layer. */
bool search_gpt(Imp *m, Search *s)
{
    const SrcAttr *init = attr_find(m, "init_decoder");
    s->decoder = attr_find(m, "decoder")->graph[0];
    s->init = init ? init->graph[0] : NULL;
    s->past = NEXT_POS + 1;
    s->npast = (int)s->decoder->in.n - 3;
    s->rows = 1;
    s->tokens = 3;
    return gpt_graph_ok(m, "decoder", s->decoder, s->npast) && (!init || gpt_graph_ok(m, "init_decoder", s->init, s->npast));
}

/* An encoder is a matter of beams alone: it has no effect here. */
static bool decoder_alone(Imp *m)
{
    if (!attr_i(m, "model_type"))
        return true;
    UNSUP(m, "attribute model_type: %lld; this search, here and in ONNX Runtime, is of decoders alone (0); BeamSearch has encoders",
          (long long)attr_i(m, "model_type"));
    return false;
}

/* The lowest score for tokens that would make n tokens in a row that the sequence has already. */
static Val no_repeats(Imp *m, const Search *s, Val scores, Val seq, Val iter, int64_t n)
{
    Dim count = dim_max(m->c, dim_addi(m->c, s->length, 1 - n), DC(m, 0)), d[2] = {s->batch, count};
    Expr b = xaxis(m, 0), i = xaxis(m, 1), now = X2(ADD, xarg(m, 1, DT_I64), xdim(m, s->prompt)), none = expr_int(m->c, DT_I32, -1);
    Expr hit = X2(LT, X2(ADD, i, XI(n - 1)), now);
#define TOKEN(at) expr_load(m->c, 0, DT_I32, 2, (Expr[]){b, (at)}, OOB_VALUE, none, 0)
    for (int64_t k = 0; k < n - 1; k++)
        hit = X2(AND, hit, X2(EQ, TOKEN(X2(ADD, i, XI(k))), TOKEN(X2(ADD, now, XI(k + 1 - n)))));
    Val in[2] = {seq, iter}, next = map_over(m, expr_cast(m->c, TOKEN(X2(ADD, i, XI(n - 1))), DT_I64), 2, in, 2, d);
#undef TOKEN
    Val low = map_over(m, X3(SELECT, hit, xf(m, DT_F32, SEARCH_LOWEST), xf(m, DT_F32, INFINITY)), 2, in, 2, d);
    return b_scatter(&m->b, scores, next, low, &(ScatterAttr){.mode = SC_MIN, .elements = true, .axis = 1});
}

/* Scores of the next token, [B, V], with what the options do to them. */
Val search_process(Imp *m, const Search *s, Val scores, Val seq, Val iter)
{
    Dim d[2] = {s->batch, dim_of(m, scores, 1)}, sd[2] = {s->batch, s->length};
    Expr low = xf(m, DT_F32, SEARCH_LOWEST), v = xaxis(m, 1), x = xarg(m, 0, DT_F32);
    if (s->option[PENALTY].i) {
        Expr used = X2(LT, v, X2(ADD, xarg(m, 0, DT_I64), xdim(m, s->prompt)));
        Val on = map_over(m, expr_cast(m->c, used, DT_I32), 1, &iter, 2, sd);
        ScatterAttr at = {.mode = SC_MAX, .elements = true, .axis = 1};
        Val had = b_scatter(&m->b, b_splat(&m->b, (Scalar){.t = DT_I32}, 2, d), cast_to(m, seq, DT_I64), on, &at);
        Expr p = xarg(m, 2, DT_F32), worse = X3(SELECT, X2(LT, x, xf(m, DT_F32, 0)), X2(MUL, x, p), X2(DIV, x, p));
        Expr e = X3(SELECT, X2(GT, xarg(m, 1, DT_I32), expr_int(m->c, DT_I32, 0)), worse, x);
        scores = map_over(m, e, 3, (Val[]){scores, had, s->option[PENALTY]}, 2, d);
    }
    if (attr_i(m, "no_repeat_ngram_size"))
        scores = no_repeats(m, s, scores, seq, iter, attr_i(m, "no_repeat_ngram_size"));
    if (s->option[VOCAB_MASK].i)
        scores = map_over(m, X3(SELECT, X2(EQ, xarg(m, 1, DT_I32), expr_int(m->c, DT_I32, 0)), low, x), 2,
                          (Val[]){scores, s->option[VOCAB_MASK]}, 2, d);
    if (s->option[PREFIX_MASK].i) {
        Expr hit = X2(AND, X2(EQ, xarg(m, 2, DT_I64), XI(0)), X2(EQ, xarg(m, 1, DT_I32), expr_int(m->c, DT_I32, 0)));
        scores = map_over(m, X3(SELECT, hit, low, x), 3, (Val[]){scores, s->option[PREFIX_MASK], iter}, 2, d);
    }
    if (s->option[MIN_LENGTH].i) {
        Expr soon = X2(LT, X2(ADD, xarg(m, 2, DT_I64), xdim(m, s->prompt)), expr_cast(m->c, xarg(m, 1, DT_I32), DT_I64));
        scores = map_over(m, X3(SELECT, X2(AND, soon, X2(EQ, v, XI(s->eos))), low, x), 3, (Val[]){scores, s->option[MIN_LENGTH], iter}, 2, d);
    }
    return scores;
}

Val search_last_scores(Imp *m, Val logits)
{
    if (rank_of(m, logits) != 3 || !dt_is_float(dtype_of(m, logits))) {
        ERR(m, "E0208", "attribute decoder: logits must be a float tensor of rank 3");
        return (Val){0};
    }
    int64_t used = attr_i(m, "vocab_size");
    Val scores = drop_axes(m, b_slice_axis(&m->b, logits, 1, dim_addi(m->c, dim_of(m, logits, 1), -1), DC(m, 1)), 2);
    if (used > 0) { /* the scores may be padded */
        b_guard(&m->b, G_LE, DC(m, used), dim_of(m, scores, 1), "attribute vocab_size is larger than the scores");
        scores = b_slice_axis(&m->b, scores, 1, DC(m, 0), DC(m, used));
    }
    return cast_to(m, scores, DT_F32);
}

/* Runs graph g on the carried values in[]: the scores of the next tokens, f32[rows, V]; the present states become carried values. */
static Val decode(Imp *m, const Search *s, const SrcGraph *g, const Val *in, const Val *fixed, Val *out)
{
    Val feed[3 + 2 * MAX_STATES], got[1 + MAX_STATES];
    int n = 0;
    feed[n++] = in[IDS];
    if (!s->before && s->past > POS) {
        feed[n++] = in[POS];
        feed[n++] = in[MASK];
    }
    for (int i = 0; i < s->before; i++)
        feed[n++] = fixed[i];
    for (int i = 0; i < s->npast; i++)
        feed[n++] = in[s->past + i];
    for (int i = s->before; i < s->fixed; i++)
        feed[n++] = fixed[i];
    if (!import_inline(m, g, n, feed, got) || !got[0].i)
        return (Val){0};
    memcpy(out + s->past, got + 1, sizeof *got * (size_t)s->npast);
    return search_last_scores(m, got[0]);
}

/* next: the tokens chosen, [rows]. */
void search_feed(Imp *m, const Search *s, Val next, const Val *in, Val *out)
{
    Dim b2[2] = {s->batch, DC(m, 1)};
    out[IDS] = reshape_to(m, next, 2, b2);
    if (s->whole)
        out[IDS] = b_concat(&m->b, 2, (Val[]){in[IDS], out[IDS]}, 1);
    if (s->past == POS)
        return;
    out[POS] = reshape_to(m, in[NEXT_POS], 2, b2);
    out[NEXT_POS] = map_text(m, "a + 1", 1, &in[NEXT_POS]);
    out[MASK] = b_concat(&m->b, 2, (Val[]){in[MASK], b_splat(&m->b, (Scalar){.t = DT_I32, .i = 1}, 2, b2)}, 1);
}

/* seq[rows, length] with the tokens written behind what it has. */
Val search_append(Imp *m, const Search *s, Val seq, Val tokens, Val iter)
{
    Expr here = X2(EQ, xaxis(m, 1), X2(ADD, xarg(m, 2, DT_I64), xdim(m, s->prompt)));
    return map_over(m, X3(SELECT, here, xarg(m, 1, DT_I32), xarg(m, 0, DT_I32)), 3, (Val[]){seq, tokens, iter}, 2,
                    (Dim[]){s->batch, s->length});
}

Val search_left(Imp *m, Val done)
{
    return map_over(m, X1(NOT, xarg(m, 0, DT_BOOL)), 1, (Val[]){b_reduce1(&m->b, R_AND, done, 1, false)}, 0, NULL);
}

/* With the tokens chosen, i32[B]: sequences that have ended are padded. */
static Val go_on(Imp *m, const Search *s, Val iter, Val best, const Val *in, Val *out)
{
    Expr token = xarg(m, 1, DT_I32), end = X2(OR, xarg(m, 0, DT_BOOL), X2(EQ, token, expr_int(m->c, DT_I32, s->eos)));
    out[DONE] = map_over(m, end, 2, (Val[]){in[DONE], best}, 1, &s->batch);
    token = X3(SELECT, xarg(m, 0, DT_BOOL), expr_int(m->c, DT_I32, s->pad), token);
    search_feed(m, s, map_over(m, token, 2, (Val[]){out[DONE], best}, 1, &s->batch), in, out);
    out[SEQ] = search_append(m, s, in[SEQ], out[IDS], iter);
    return search_left(m, out[DONE]);
}

static Val choose_best(Imp *m, Search *s, Val iter, Val scores, const Val *in, Val *out)
{
    scores = search_process(m, s, scores, in[SEQ], iter);
    return go_on(m, s, iter, cast_to(m, b_argminmax(&m->b, scores, 1, false, true, false), DT_I32), in, out);
}

Val search_row_tokens(Imp *m, const Search *s, Val ids)
{
    Expr at[2] = {xaxis(m, 0), xaxis(m, 1)}, pad = expr_int(m->c, DT_I32, s->pad);
    return map_over(m, expr_load(m->c, 0, DT_I32, 2, at, OOB_VALUE, pad, 0), 1, &ids, 2, (Dim[]){s->batch, s->length});
}

/* Padding has position 0, and mask 0 unless a mask is given; the others count from 0. */
void search_begin(Imp *m, const Search *s, Type empty, Val ids, Val mask, Val *v)
{
    Dim d[2] = {s->batch, s->prompt};
    Expr pad = expr_int(m->c, DT_I32, s->pad);
    Val before, on = map_over(m, expr_cast(m->c, X2(NE, xarg(m, 0, DT_I32), pad), DT_I32), 1, &ids, 2, d);
    Expr comb = X2(ADD, xarg(m, 0, DT_I32), xarg(m, 1, DT_I32));
    b_scan(&m->b, 1, &on, 1, false, true, &comb, (Scalar[]){{.t = DT_I32}}, (DType[]){DT_I32}, &before);
    v[IDS] = ids;
    v[POS] = map_text(m, "a * b", 2, (Val[]){before, on});
    v[MASK] = mask.i ? mask : on;
    v[SEQ] = search_row_tokens(m, s, ids);
    v[DONE] = b_splat(&m->b, (Scalar){.t = DT_BOOL}, 1, d);
    v[NEXT_POS] = b_reduce1(&m->b, R_SUM, on, 2, false);
    for (int i = 0; i < s->npast; i++)
        v[s->past + i] = b_splat(&m->b, dt_convert((Scalar){.t = DT_I64}, (DType)empty.dtype), empty.rank, empty.dim);
}

Val search_repeated(Imp *m, Val v, Dim beams)
{
    int rank = v.i ? rank_of(m, v) : 0;
    Dim d[MAX_RANK + 1];
    if (!rank || dim_is(m->c, beams, 1))
        return v;
    d[0] = dim_of(m, v, 0);
    d[1] = beams;
    for (int i = 1; i < rank; i++)
        d[i + 1] = dim_of(m, v, i);
    v = b_broadcast(&m->b, insert_axes(m, v, rank + 1, 2), rank + 1, d);
    d[1] = dim_mul(m->c, d[0], beams);
    return reshape_to(m, v, rank, d + 1);
}

/* Types of the carried values in the body: lengths may be new in every trip. */
static void carried_types(Imp *m, const Search *s, int nc, const Val *first, Type *t)
{
    for (int i = 0; i < nc; i++)
        t[i] = *val_type(m->b.g, first[i]);
    Dim len[2] = {s->batch, dim_fresh(m->c, "tokens", 1, DIM_INF)}, all[2] = {s->batch, dim_fresh(m->c, "attended", 1, DIM_INF)};
    if (s->past > POS) {
        t[POS] = ints(m, 2, len);
        t[MASK] = ints(m, 2, all);
    }
    if (s->past > POS || s->whole)
        t[IDS] = ints(m, 2, len);
    Dim tokens = dim_fresh(m->c, "past", 0, DIM_INF);
    for (int i = s->past; i < s->past + s->npast; i++)
        t[i] = with_dim(m, t[i], s->tokens, tokens);
}

bool search_operands(Imp *m, Search *s, int rank)
{
    for (int i = 0; i < NOPTION; i++)
        if (present(m, s->at[i]) && i != PENALTY && dtype_of(m, m->in[s->at[i]]) != DT_I32 && (i || rank == 2)) {
            ERR(m, "E0204", "operand number %u: got %s", s->at[i], dt_name(dtype_of(m, m->in[s->at[i]])));
            return false;
        }
    if (rank_of(m, m->in[0]) != rank) {
        ERR(m, "E0203", "input_ids: expected rank %d, got %d", rank, rank_of(m, m->in[0]));
        return false;
    }
    s->batch = dim_of(m, m->in[0], 0);
    s->prompt = dim_of(m, m->in[0], 1);
    s->eos = attr_i(m, "eos_token_id");
    s->pad = attr_i(m, "pad_token_id");
    return search_ngrams(m) && operand_dim(m, m->in[MAX_LENGTH], "max_length", 1, INT32_MAX, &s->length);
}

void search_prompt(Imp *m, const Search *s)
{
    b_guard(&m->b, G_LE, DC(m, 1), s->prompt, "input_ids must hold at least one token");
    b_guard(&m->b, G_LT, s->prompt, s->length, "max_length must be larger than the prompt");
}

/* The first trip before the loop, where another graph makes its scores; first[] is then what the second one starts from. Whether to go on. */
static Val first_trip(Imp *m, Search *s, Choose *choose, int nc, Val *first, Val *given, const Val *extra)
{
    Val next[SEARCH_CARRIED], scores = s->scores;
    memcpy(s->option, given, sizeof s->option);
    memcpy(next, first, sizeof *next * (size_t)nc);
    s->extra = extra;
    if (s->init)
        scores = decode(m, s, s->init, first, NULL, next);
    if (!scores.i)
        return scores;
    Val go = choose(m, s, scalar_i64(m, 0), scores, first, next);
    memcpy(first, next, sizeof *next * (size_t)nc);
    s->prompt = dim_addi(m->c, s->prompt, 1);
    given[PREFIX_MASK] = (Val){0};
    return go;
}

bool search_loop(Imp *m, Search *s, Choose *choose, int nc, Val *first, Val *given, int nextra, Val *extra, Val *res)
{
    Imp inner;
    const char **cap;
    Type t[SEARCH_CARRIED];
    Val next[SEARCH_CARRIED], old[SEARCH_CARRIED], seen, all[SEARCH_CARRIED + 1], go = {0};
    if (s->init || s->scores.i) {
        go = first_trip(m, s, choose, nc, first, given, extra);
        if (!go.i)
            return false;
    }
    seen = s->seen;
    carried_types(m, s, nc, first, t);
    SrcGraph *g = (SrcGraph *)(uintptr_t)s->decoder;
    int ncap = region_captures(m, 1, &g, &cap), n = 2 + nc;
    if (ncap < 0)
        return false;
    SrcGraph body = {.name = "search", .outer = g->outer, .capture = g->capture};
    Val *in = NEWN(m->c, Val, n + NOPTION + nextra + ncap);
    region_open(&inner, m, NEW(m->c, SrcGraph));
    *(SrcGraph *)(uintptr_t)inner.src = body;
    inner.n = m->n;
    inner.row = m->row;
    Val iter = graph_input(inner.b.g, "iter", type_tensor(m->c, DT_I64, 0, NULL));
    graph_input(inner.b.g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    memcpy(in + 2, first, sizeof *in * (size_t)nc);
    for (int i = 0; i < nc; i++)
        old[i] = graph_input(inner.b.g, "", t[i]);
    for (int i = MIN_LENGTH; i <= PREFIX_MASK; i++) {
        s->option[i] = (Val){0};
        if (!given[i].i) continue;
        in[n] = given[i];
        s->option[i] = graph_input(inner.b.g, "", *val_type(m->b.g, in[n++]));
    }
    Val *read = NEWN(m->c, Val, nextra + 1);
    for (int i = 0; i < nextra; i++)
        if (extra[i].i) {
            in[n] = extra[i];
            read[i] = graph_input(inner.b.g, "", *val_type(m->b.g, in[n++]));
        }
    s->extra = read;
    region_capture(&inner, m, ncap, cap);
    s->seen = (Val){0};
    Val scores = decode(&inner, s, s->decoder, old, read + nextra - s->fixed, next);
    Val more = scores.i ? choose(&inner, s, iter, scores, old, next) : scores;
    if (!more.i)
        return false;
    graph_output(inner.b.g, "cond", more);
    for (int i = 0; i < nc; i++)
        graph_output(inner.b.g, "", next[i]);
    if (s->seen.i)
        graph_output(inner.b.g, "", s->seen);
    in[0] = b_dim_scalar(&m->b, dim_sub(m->c, s->length, s->prompt));
    in[1] = go;
    for (int i = 0; i < ncap; i++)
        in[n + i] = name_value(m, cap[i]);
    b_loop(&m->b, inner.b.g, nc, s->seen.i != 0, n + ncap, in, all);
    memcpy(res, all, sizeof *res * (size_t)nc);
    if (s->seen.i)
        s->seen = seen.i ? b_concat(&m->b, 2, (Val[]){insert_axes(m, seen, rank_of(m, seen) + 1, 1), all[nc]}, 0) : all[nc];
    return true;
}

/* The options as the loop takes them; those of a batch row repeated for each of its beams. */
void search_options(Imp *m, const Search *s, Dim beams, Val *given)
{
    for (int i = MIN_LENGTH; i <= PREFIX_MASK; i++) {
        Val v = operand(m, s->at[i]);
        given[i] = !v.i ? v : i == MIN_LENGTH || i == PENALTY ? only_element(m, v) : i == PREFIX_MASK ? search_repeated(m, v, beams) : v;
        if (i == PENALTY)
            given[i] = cast_to(m, given[i], DT_F32);
    }
}

void imp_greedysearch(Imp *m)
{
    Search s = {.at = greedy_operands};
    Val first[SEARCH_CARRIED], res[SEARCH_CARRIED], given[NOPTION];
    Type empty = {0};
    if (!decoder_alone(m) || !search_operands(m, &s, 2) || !search_gpt(m, &s) || !search_empty_state(m, s.decoder, 3, &s, 5, &empty))
        return;
    search_prompt(m, &s);
    search_begin(m, &s, empty, m->in[0], operand(m, s.at[ATT_MASK]), first);
    search_options(m, &s, DC(m, 1), given);
    if (search_loop(m, &s, choose_best, s.past + s.npast, first, given, 0, NULL, res))
        result(m, 0, res[SEQ]);
}

/* ---- Sampling: tokens drawn from the likely ones. The numbers are those of ONNX Runtime, whose generator is std::minstd_rand0, x to 16807 x
 * mod 2^31 - 1, and which makes each number of two: row b of B is 2 b steps ahead of row 0, and 2 B from one trip to the next. */

enum { PRESENCE, STEP, NSAMPLE }; /* what trips read: the mask, and what B rows multiply x by */
enum { MODULUS = 0x7fffffff, FACTOR = 16807 };

static Expr times(Imp *m, Expr a, Expr b) { return X2(MOD, X2(MUL, a, b), XI(MODULUS)); }

/* The sums of v[B, V] along the row, from its beginning */
static Val running(Imp *m, Val v)
{
    DType t = dtype_of(m, v);
    Expr sum = X2(ADD, xarg(m, 0, t), xarg(m, 1, t));
    Scalar zero = {.t = t};
    if (v.i)
        b_scan(&m->b, 1, &v, 1, false, false, &sum, &zero, &t, &v);
    return v;
}

/* The scores with filter_value where the others have top_p of the probability: those of the less likely ones add up to at most 1 - top_p; or
 * (custom) those of the more likely ones to more than top_p. */
static Val likely(Imp *m, Val scores)
{
    bool custom = attr_i(m, "custom") != 0;
    Dim d[2];
    Val sorted, at;
    dims_of(m, scores, d);
    TopkAttr all = {.axis = 1, .largest = custom, .sorted = true, .k = d[1]};
    b_topk(&m->b, scores, &all, &sorted, &at);
    Val sum = sorted.i ? running(m, b_softmax(&m->b, sorted, 2)) : sorted;
    if (!sum.i)
        return sum;
    Expr j = xaxis(m, 1), before[2] = {xaxis(m, 0), X2(SUB, j, XI(1))}, top = xf(m, DT_F32, attr_f(m, "top_p"));
    Expr keep = X2(SUB, xdim(m, d[1]), XI(attr_i(m, "min_tokens_to_keep")));
    Expr out = custom ? X2(GT, expr_load(m->c, 1, DT_F32, 2, before, OOB_VALUE, xf(m, DT_F32, -1), 0), top)
                      : X2(AND, X2(LE, xarg(m, 1, DT_F32), X2(SUB, xf(m, DT_F32, 1), top)), X2(OR, X2(EQ, j, XI(0)), X2(LT, j, keep)));
    Expr e = X3(SELECT, out, xf(m, DT_F32, attr_f(m, "filter_value")), xarg(m, 0, DT_F32));
    ScatterAttr set = {.mode = SC_SET, .elements = true, .axis = 1};
    return b_scatter(&m->b, scores, at, map_over(m, e, 2, (Val[]){sorted, sum}, 2, d), &set);
}

/* The token of each row at which the sum of probabilities passes the row's number; state: i64[B] */
static Val drawn(Imp *m, Val scores, Val state)
{
    Val in[2] = {cast_to(m, scores, DT_F64), b_reduce1(&m->b, R_MAX, cast_to(m, scores, DT_F64), 2, true)};
    Val sum = running(m, map_text(m, "exp(a - b)", 2, in));
    if (!sum.i)
        return sum;
    Dim d[2];
    dims_of(m, sum, d);
    Expr one = times(m, xarg(m, 0, DT_I64), XI(FACTOR)), two = times(m, one, XI(FACTOR)), range = xf(m, DT_F64, MODULUS - 1.0);
    Expr low = expr_cast(m->c, X2(SUB, one, XI(1)), DT_F64), high = expr_cast(m->c, X2(SUB, two, XI(1)), DT_F64);
    Expr u = X2(DIV, X2(ADD, low, X2(MUL, high, range)), X2(MUL, range, range)), last[2] = {xaxis(m, 0), X2(SUB, xdim(m, d[1]), XI(1))};
    Val find = map_over(m, X2(MUL, u, load_at(m, 1, DT_F64, 2, last)), 2, (Val[]){state, sum}, 1, d);
    Expr passed = expr_cast(m->c, X2(LE, xarg(m, 0, DT_F64), xarg(m, 1, DT_F64)), DT_I32);
    Val n = map_over(m, passed, 2, (Val[]){sum, insert_axes(m, find, 2, 2)}, 2, d);
    return n.i ? b_reduce1(&m->b, R_SUM, n, 2, false) : n;
}

static Val choose_drawn(Imp *m, Search *s, Val iter, Val scores, const Val *in, Val *out)
{
    const int state = s->past + s->npast;
    scores = search_process(m, s, scores, in[SEQ], iter);
    if (attr_f(m, "temperature") > 0)
        scores = map_text(m, "a / $temperature", 1, &scores);
    if (s->extra[PRESENCE].i)
        scores = map_text(m, "a - b * $presence_penalty", 2, (Val[]){scores, s->extra[PRESENCE]});
    scores = scores.i ? likely(m, scores) : scores;
    if (!scores.i)
        return scores;
    out[state] = map_over(m, times(m, xarg(m, 0, DT_I64), xarg(m, 1, DT_I64)), 2, (Val[]){in[state], s->extra[STEP]}, 1, &s->batch);
    return go_on(m, s, iter, drawn(m, scores, in[state]), in, out);
}

/* The generator's state of each row for the first trip, and the step from trip to trip */
static Val seeded(Imp *m, const Search *s, Val seed, Val *step)
{
    Expr two = XI((int64_t)FACTOR * FACTOR % MODULUS), last = X2(SUB, xdim(m, s->batch), XI(1));
    Expr product = times(m, xarg(m, 0, DT_I64), xarg(m, 1, DT_I64));
    Val power = map_over(m, X3(SELECT, X2(EQ, xaxis(m, 0), XI(0)), XI(1), two), 0, NULL, 1, &s->batch);
    DType t = DT_I64;
    b_scan(&m->b, 1, &power, 0, false, false, &product, &(Scalar){.t = DT_I64, .i = 1}, &t, &power);
    *step = map_over(m, times(m, expr_load(m->c, 0, DT_I64, 1, &last, OOB_CLAMP, (Expr){0}, 0), two), 1, &power, 0, NULL);
    Expr x = X2(MOD, expr_cast(m->c, xarg(m, 1, DT_I32), DT_I64), XI(MODULUS));
    seed = seed.i ? only_element(m, seed) : b_scalar(&m->b, (Scalar){.t = DT_I32});
    if (!seed.i)
        return seed;
    b_guard_val(&m->b, map_text(m, "a >= 0", 1, &seed), "the seed is negative");
    return map_over(m, times(m, xarg(m, 0, DT_I64), X3(SELECT, X2(EQ, x, XI(0)), XI(1), x)), 2, (Val[]){power, seed}, 1, &s->batch);
}

void imp_sampling(Imp *m)
{
    Search s = {.at = greedy_operands};
    Val first[SEARCH_CARRIED], res[SEARCH_CARRIED], given[NOPTION], extra[NSAMPLE] = {{0}};
    Type empty = {0};
    if (wanted(m, 1)) {
        UNSUP(m, "the result filtered_logits, which no kernel of ONNX Runtime writes; leave it out");
        return;
    }
    for (uint32_t k = 7; k < 9; k++)
        if (present(m, k) && dtype_of(m, m->in[k]) != DT_I32) {
            ERR(m, "E0204", "operand number %u: got %s", k, dt_name(dtype_of(m, m->in[k])));
            return;
        }
    if (!decoder_alone(m) || !search_operands(m, &s, 2) || !search_gpt(m, &s) || !search_empty_state(m, s.decoder, 3, &s, 5, &empty))
        return;
    search_prompt(m, &s);
    search_begin(m, &s, empty, m->in[0], operand(m, s.at[ATT_MASK]), first);
    first[s.past + s.npast] = seeded(m, &s, operand(m, 8), &extra[STEP]);
    extra[PRESENCE] = present(m, 7) && attr_f(m, "presence_penalty") != 0 ? cast_to(m, m->in[7], DT_F32) : (Val){0};
    search_options(m, &s, DC(m, 1), given);
    if (first[s.past + s.npast].i && search_loop(m, &s, choose_drawn, s.past + s.npast + 1, first, given, NSAMPLE, extra, res))
        result(m, 0, res[SEQ]);
}
