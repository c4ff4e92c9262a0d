/* op_ms_search.c: GreedySearch, Sampling and BeamSearch of com.microsoft: a loop around the decoder that their attribute holds. The first trip feeds
 * the whole prompt and an empty past, each other one the token just chosen and the past so far: carried values whose sizes change. As ONNX
 * Runtime's greedy_search_impl_gpt.h, beam_search_impl_gpt.h, beam_search_scorer.cc and logits_processor.cc. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(greedysearch); FN(sampling); FN(beamsearch);

#define LOWEST (-3.4028234663852886e38) /* the score of what is not allowed */

enum { IDS, POS, MASK, SEQ, DONE, NEXT_POS, PAST, MAX_LAYERS = 128 }; /* carried values; PAST: the first of the layers' */
enum { MAX_LENGTH = 1, MIN_LENGTH, PENALTY, VOCAB_MASK, PREFIX_MASK, ATT_MASK, NOPTION }; /* what operands say */
static const uint32_t greedy_operands[NOPTION] = {0, 1, 2, 3, 4, 5, 6}, beam_operands[NOPTION] = {0, 1, 2, 6, 7, 8, 9};

typedef struct Search {
    const SrcGraph *decoder;
    int nlayer;
    const uint32_t *at;         /* where the operands are */
    Dim batch, prompt, length;  /* rows of the decoder; length: of the sequences in the end */
    Type past;                  /* of a layer, empty */
    int64_t eos, pad;
    Dim groups, beams;          /* BeamSearch: batches, and rows for each */
    const Val *extra;           /* in the body: what else a trip reads */
    Val option[NOPTION];        /* in the body: MIN_LENGTH to PREFIX_MASK, if they are given */
} Search;

static Type ints(Imp *m, int rank, const Dim *d) { return type_tensor(m->c, DT_I32, rank, d); }

/* The decoder: ids, positions, mask and a past [2, batch, heads, length, size] per layer to scores and a present per layer. */
static bool read_decoder(Imp *m, Search *s)
{
    const SrcAttr *a = attr_find(m, "decoder");
    const SrcGraph *g = s->decoder = a->graph[0];
    Dim d[5];
    s->nlayer = (int)g->in.n - 3;
    if (attr_i(m, "model_type") || attr_has(m, "init_decoder") || attr_has(m, "encoder")) {
        UNSUP(m, "encoders and init_decoder");
        return false;
    }
    if (attr_i(m, "no_repeat_ngram_size") < 0 || attr_i(m, "no_repeat_ngram_size") > SHAPE_MAX) {
        ERR(m, "E0202", "attribute no_repeat_ngram_size: expected 0 to %d, got %lld", SHAPE_MAX, (long long)attr_i(m, "no_repeat_ngram_size"));
        return false;
    }
    if (s->nlayer < 1 || s->nlayer > MAX_LAYERS || (int)g->out.n != 1 + s->nlayer || !g->in.v[3].type || !model_type_known(g->in.v[3].type)) {
        ERR(m, "E0208", "attribute decoder: expected input_ids, position_ids, attention_mask and declared past states, logits and as many "
            "present states; got %u inputs and %u outputs", g->in.n, g->out.n);
        return false;
    }
    if (!model_type(m->m, g->in.v[3].type, g->in.v[3].name, m->b.loc, &s->past))
        return false;
    if (s->past.kind != TY_TENSOR || s->past.rank != 5 || !dt_is_float((DType)s->past.dtype)) {
        ERR(m, "E0208", "attribute decoder: a past state must be a float tensor of rank 5");
        return false;
    }
    for (int i = 0; i < 5; i++)
        d[i] = i == 0 ? DC(m, 2) : i == 1 ? s->batch : i == 3 ? DC(m, 0) : s->past.dim[i];
    s->past = type_tensor(m->c, (DType)s->past.dtype, 5, d);
    return true;
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
    Val low = map_over(m, X3(SELECT, hit, xf(m, DT_F32, LOWEST), xf(m, DT_F32, INFINITY)), 2, in, 2, d);
    return b_scatter(&m->b, scores, next, low, &(ScatterAttr){.mode = SC_MIN, .elements = true, .axis = 1});
}

/* Scores of the next token, [B, V], with what the options do to them. seq: the tokens up to `at`. */
static Val process(Imp *m, const Search *s, Val scores, Val seq, Val iter, Dim vocab)
{
    Dim d[2] = {s->batch, vocab}, sd[2] = {s->batch, s->length};
    Expr low = xf(m, DT_F32, LOWEST), v = xaxis(m, 1), x = xarg(m, 0, DT_F32);
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

/* Runs the decoder on the carried values in[]: the scores of the next tokens, f32[rows, V], and the present states. */
static Val decode(Imp *m, const Search *s, const Val *in, Val *present_states)
{
    const int n = 3 + s->nlayer;
    Val feed[3 + MAX_LAYERS], got[1 + MAX_LAYERS];
    for (int i = 0; i < n; i++)
        feed[i] = i < 3 ? in[i] : in[PAST + i - 3];
    if (!import_inline(m, s->decoder, n, feed, got) || !got[0].i)
        return (Val){0};
    if (rank_of(m, got[0]) != 3 || !dt_is_float(dtype_of(m, got[0]))) {
        ERR(m, "E0208", "attribute decoder: logits must be a float tensor of rank 3");
        return (Val){0};
    }
    memcpy(present_states, got + 1, sizeof *got * (size_t)s->nlayer);
    Dim len = dim_of(m, got[0], 1), one = DC(m, 1);
    int64_t used = attr_i(m, "vocab_size");
    Val scores = drop_axes(m, b_slice_axis(&m->b, got[0], 1, dim_addi(m->c, len, -1), one), 2);
    if (used > 0) { /* the scores may be padded */
        b_guard(&m->b, G_LE, DC(m, used), dim_of(m, scores, 1), "attribute vocab_size is larger than the scores");
        scores = b_slice_axis(&m->b, scores, 1, DC(m, 0), DC(m, used));
    }
    return cast_to(m, scores, DT_F32);
}

/* The inputs of the next trip, but for the past; next: the tokens chosen, [rows]. */
static void feed_next(Imp *m, const Search *s, Val next, const Val *in, Val *out)
{
    Dim b2[2] = {s->batch, DC(m, 1)};
    out[IDS] = reshape_to(m, next, 2, b2);
    out[POS] = reshape_to(m, in[NEXT_POS], 2, b2);
    out[NEXT_POS] = map_text(m, "a + 1", 1, &in[NEXT_POS]);
    out[MASK] = b_concat(&m->b, 2, (Val[]){in[MASK], b_splat(&m->b, (Scalar){.t = DT_I32, .i = 1}, 2, b2)}, 1);
}

/* seq[rows, length] with the tokens written behind what it has. */
static Val append(Imp *m, const Search *s, Val seq, Val tokens, Val iter)
{
    Expr here = X2(EQ, xaxis(m, 1), X2(ADD, xarg(m, 2, DT_I64), xdim(m, s->prompt)));
    return map_over(m, X3(SELECT, here, xarg(m, 1, DT_I32), xarg(m, 0, DT_I32)), 3, (Val[]){seq, tokens, iter}, 2,
                    (Dim[]){s->batch, s->length});
}

static Val any_left(Imp *m, Val done)
{
    return map_over(m, X1(NOT, xarg(m, 0, DT_BOOL)), 1, (Val[]){b_reduce1(&m->b, R_AND, done, 1, false)}, 0, NULL);
}

typedef Val Trip(Imp *m, const Search *s, Val iter, const Val *in, Val *out); /* carried values to the next; whether to go on */

/* With the tokens chosen, i32[B]: sequences that have ended are padded. */
static Val go_on(Imp *m, const Search *s, Val iter, Val best, const Val *in, Val *out)
{
    Expr token = xarg(m, 1, DT_I32), end = X2(OR, xarg(m, 0, DT_BOOL), X2(EQ, token, expr_int(m->c, DT_I32, s->eos)));
    out[DONE] = map_over(m, end, 2, (Val[]){in[DONE], best}, 1, &s->batch);
    token = X3(SELECT, xarg(m, 0, DT_BOOL), expr_int(m->c, DT_I32, s->pad), token);
    feed_next(m, s, map_over(m, token, 2, (Val[]){out[DONE], best}, 1, &s->batch), in, out);
    out[SEQ] = append(m, s, in[SEQ], out[IDS], iter);
    return any_left(m, out[DONE]);
}

static Val greedy_trip(Imp *m, const Search *s, Val iter, const Val *in, Val *out)
{
    Val scores = decode(m, s, in, out + PAST);
    if (!scores.i)
        return scores;
    scores = process(m, s, scores, in[SEQ], iter, dim_of(m, scores, 1));
    return go_on(m, s, iter, cast_to(m, b_argminmax(&m->b, scores, 1, false, true, false), DT_I32), in, out);
}

/* What the first trip starts from. Padding has position 0, and mask 0 unless a mask is given; the others count from 0. */
static void begin(Imp *m, const Search *s, Val ids, Val mask, Val *v)
{
    Dim d[2] = {s->batch, s->prompt}, sd[2] = {s->batch, s->length};
    Expr pad = expr_int(m->c, DT_I32, s->pad), at[2] = {xaxis(m, 0), xaxis(m, 1)};
    Val before, on = map_over(m, expr_cast(m->c, X2(NE, xarg(m, 0, DT_I32), pad), DT_I32), 1, &ids, 2, d);
    Expr comb = X2(ADD, xarg(m, 0, DT_I32), xarg(m, 1, DT_I32));
    b_scan(&m->b, 1, &on, 1, false, true, &comb, (Scalar[]){{.t = DT_I32}}, (DType[]){DT_I32}, &before);
    v[IDS] = ids;
    v[POS] = map_text(m, "a * b", 2, (Val[]){before, on});
    v[MASK] = mask.i ? mask : on;
    Expr e = expr_load(m->c, 0, DT_I32, 2, at, OOB_VALUE, pad, 0);
    v[SEQ] = map_over(m, e, 1, &ids, 2, sd);
    v[DONE] = b_splat(&m->b, (Scalar){.t = DT_BOOL}, 1, d);
    v[NEXT_POS] = b_reduce1(&m->b, R_SUM, on, 2, false);
    for (int i = 0; i < s->nlayer; i++)
        v[PAST + i] = b_splat(&m->b, dt_convert((Scalar){.t = DT_I64}, (DType)s->past.dtype), 5, s->past.dim);
}

/* v[batch, n], each row `beams` times: [batch * beams, n] */
static Val repeated(Imp *m, Val v, Dim beams)
{
    Dim b = dim_of(m, v, 0), n = dim_of(m, v, 1), d[3] = {b, beams, n}, flat[2] = {dim_mul(m->c, b, beams), n};
    return dim_is(m->c, beams, 1) ? v : reshape_to(m, b_broadcast(&m->b, insert_axes(m, v, 3, 2), 3, d), 2, flat);
}

/* Types of the carried values in the body: the lengths are new in every trip. */
static void carried_types(Imp *m, const Search *s, Type *t)
{
    Dim len[2] = {s->batch, dim_fresh(m->c, "tokens", 1, DIM_INF)}, all[2] = {s->batch, dim_fresh(m->c, "attended", 1, DIM_INF)};
    Dim seq[2] = {s->batch, s->length}, past[5];
    t[IDS] = t[POS] = ints(m, 2, len);
    t[MASK] = ints(m, 2, all);
    t[SEQ] = ints(m, 2, seq);
    t[DONE] = type_tensor(m->c, DT_BOOL, 1, &s->batch);
    t[NEXT_POS] = ints(m, 1, &s->batch);
    memcpy(past, s->past.dim, sizeof past);
    past[3] = dim_fresh(m->c, "past", 0, DIM_INF);
    for (int i = 0; i < s->nlayer; i++)
        t[PAST + i] = type_tensor(m->c, (DType)s->past.dtype, 5, past);
}

static bool operands_ok(Imp *m, Search *s)
{
    for (int i = 0; i < NOPTION; i++)
        if (present(m, s->at[i]) && dtype_of(m, m->in[s->at[i]]) != (i == PENALTY ? DT_F32 : DT_I32)) {
            ERR(m, "E0204", "operand number %u: got %s", s->at[i], dt_name(dtype_of(m, m->in[s->at[i]])));
            return false;
        }
    if (rank_of(m, m->in[0]) != 2) {
        ERR(m, "E0203", "input_ids: expected rank 2, got %d", rank_of(m, m->in[0]));
        return false;
    }
    s->batch = dim_of(m, m->in[0], 0);
    s->prompt = dim_of(m, m->in[0], 1);
    s->eos = attr_i(m, "eos_token_id");
    s->pad = attr_i(m, "pad_token_id");
    if (!operand_dim(m, m->in[MAX_LENGTH], "max_length", 1, INT32_MAX, &s->length))
        return false;
    b_guard(&m->b, G_LE, DC(m, 1), s->prompt, "input_ids must hold at least one token");
    b_guard(&m->b, G_LT, s->prompt, s->length, "max_length must be larger than the prompt");
    return true;
}

/* The loop: n carried values of types t from first[]; extra[]: more values that trip reads, which become those of the body. */
static bool search(Imp *m, Search *s, Trip *step, int nc, const Type *t, const Val *first, const Val *given, int nextra, Val *extra, Val *res)
{
    Imp inner;
    const char **cap;
    SrcGraph *g = (SrcGraph *)(uintptr_t)s->decoder;
    int ncap = region_captures(m, 1, &g, &cap), n = 2 + nc;
    if (ncap < 0)
        return false;
    SrcGraph body = {.name = "search", .outer = g->outer, .capture = g->capture};
    Val *in = NEWN(m->c, Val, n + NOPTION + nextra + ncap), *old = NEWN(m->c, Val, nc), *next = NEWN(m->c, Val, nc);
    region_open(&inner, m, NEW(m->c, SrcGraph));
    *(SrcGraph *)(uintptr_t)inner.src = body;
    inner.n = m->n;
    inner.row = m->row;
    Val iter = graph_input(inner.b.g, "iter", type_tensor(m->c, DT_I64, 0, NULL));
    graph_input(inner.b.g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    memcpy(in + 2, first, sizeof *in * (size_t)nc);
    for (int i = 0; i < nc; i++)
        old[i] = graph_input(inner.b.g, "", t[i]);
    for (int i = MIN_LENGTH; i <= PREFIX_MASK; i++)
        if (given[i].i) {
            in[n] = given[i];
            s->option[i] = graph_input(inner.b.g, "", *val_type(m->b.g, in[n++]));
        }
    for (int i = 0; i < nextra; i++)
        if (extra[i].i) {
            in[n] = extra[i];
            extra[i] = graph_input(inner.b.g, "", *val_type(m->b.g, in[n++]));
        }
    region_capture(&inner, m, ncap, cap);
    Val go = step(&inner, s, iter, old, next);
    if (!go.i)
        return false;
    graph_output(inner.b.g, "cond", go);
    for (int i = 0; i < nc; i++)
        graph_output(inner.b.g, "", next[i]);
    in[0] = b_dim_scalar(&m->b, dim_sub(m->c, s->length, s->prompt));
    for (int i = 0; i < ncap; i++)
        in[n + i] = name_value(m, cap[i]);
    b_loop(&m->b, inner.b.g, nc, 0, n + ncap, in, res);
    return true;
}

/* The options as the loop takes them; those of a batch row repeated for each of its beams. */
static void options(Imp *m, const Search *s, Dim beams, Val *given)
{
    for (int i = MIN_LENGTH; i <= PREFIX_MASK; i++) {
        Val v = operand(m, s->at[i]);
        given[i] = !v.i ? v : i == MIN_LENGTH || i == PENALTY ? only_element(m, v) : i == PREFIX_MASK ? repeated(m, v, beams) : v;
    }
}

void imp_greedysearch(Imp *m)
{
    Search s = {.at = greedy_operands};
    Val first[PAST + MAX_LAYERS], res[PAST + MAX_LAYERS], given[NOPTION];
    Type t[PAST + MAX_LAYERS];
    if (!operands_ok(m, &s) || !read_decoder(m, &s))
        return;
    begin(m, &s, m->in[0], operand(m, s.at[ATT_MASK]), first);
    carried_types(m, &s, t);
    options(m, &s, DC(m, 1), given);
    if (search(m, &s, greedy_trip, PAST + s.nlayer, t, first, given, 0, NULL, res))
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

static Val sampling_trip(Imp *m, const Search *s, Val iter, const Val *in, Val *out)
{
    const int state = PAST + s->nlayer;
    Val scores = decode(m, s, in, out + PAST);
    if (!scores.i)
        return scores;
    scores = process(m, s, scores, in[SEQ], iter, dim_of(m, scores, 1));
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
    Expr two = XI((int64_t)FACTOR * FACTOR % MODULUS), last = X2(SUB, xdim(m, s->batch), XI(1)), product = times(m, xarg(m, 0, DT_I64), xarg(m, 1, DT_I64));
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
    Val first[PAST + MAX_LAYERS + 1], res[PAST + MAX_LAYERS + 1], given[NOPTION], extra[NSAMPLE] = {{0}};
    Type t[PAST + MAX_LAYERS + 1];
    if (wanted(m, 1)) {
        UNSUP(m, "the result filtered_logits");
        return;
    }
    for (uint32_t k = 7; k < 9; k++)
        if (present(m, k) && dtype_of(m, m->in[k]) != DT_I32) {
            ERR(m, "E0204", "operand number %u: got %s", k, dt_name(dtype_of(m, m->in[k])));
            return;
        }
    if (!operands_ok(m, &s) || !read_decoder(m, &s))
        return;
    begin(m, &s, m->in[0], operand(m, s.at[ATT_MASK]), first);
    carried_types(m, &s, t);
    first[PAST + s.nlayer] = seeded(m, &s, operand(m, 8), &extra[STEP]);
    t[PAST + s.nlayer] = type_tensor(m->c, DT_I64, 1, &s.batch);
    extra[PRESENCE] = present(m, 7) && attr_f(m, "presence_penalty") != 0 ? cast_to(m, m->in[7], DT_F32) : (Val){0};
    options(m, &s, DC(m, 1), given);
    s.extra = extra;
    if (first[PAST + s.nlayer].i && search(m, &s, sampling_trip, PAST + s.nlayer + 1, t, first, given, NSAMPLE, extra, res))
        result(m, 0, res[SEQ]);
}

/* ---- BeamSearch: `beams` rows of the decoder for each batch. Sequences that ended are kept apart, the best `beams` of each batch; a batch is
 * done when it has so many and no beam can do better. */

enum { SUM, KEPT_SCORE, KEPT_SEQ, KEPT_COUNT, NBEAM }; /* carried behind the past: f32[B, beams] twice, i32[B, beams, length], i64[B] */
enum { EXTRA_PENALTY, NEXTRA };

/* score / length ^ penalty; the penalty is operand k of the map */
static Expr normed(Imp *m, Expr score, Expr length, int k)
{
    return X2(DIV, score, X2(POW, expr_cast(m->c, length, DT_F32), xarg(m, k, DT_F32)));
}

/* The best `count` of the kept sequences and as many new ones: rows row[B, beams] of seq, with score -inf if they are none. */
static void keep_best(Imp *m, const Search *s, Dim count, Val *score, Val *kept, Val more, Val row, Val seq)
{
    Val all = b_concat(&m->b, 2, (Val[]){*score, more}, 1), at;
    TopkAttr top = {.axis = 1, .largest = true, .sorted = true, .k = count};
    b_topk(&m->b, all, &top, score, &at);
    Expr b = xaxis(m, 0), i = xarg(m, 3, DT_I64), n = xdim(m, s->beams), j = X2(SUB, i, n);
    Expr old = expr_load(m->c, 0, DT_I32, 3, (Expr[]){b, i, xaxis(m, 2)}, OOB_CLAMP, (Expr){0}, 0);
    Expr from = expr_load(m->c, 2, DT_I64, 2, (Expr[]){b, j}, OOB_CLAMP, (Expr){0}, 0);
    Expr fresh = expr_load(m->c, 1, DT_I32, 2, (Expr[]){from, xaxis(m, 2)}, OOB_CLAMP, (Expr){0}, 0);
    *kept = map_over(m, X3(SELECT, X2(LT, i, n), old, fresh), 4, (Val[]){*kept, seq, row, insert_axes(m, at, 3, 4)}, 3,
                     (Dim[]){s->groups, count, s->length});
}

static Val log_softmax(Imp *m, Val x)
{
    Val in[3] = {x, b_reduce1(&m->b, R_MAX, x, 2, true)}, e = map_text(m, "exp(a - b)", 2, in);
    in[2] = b_reduce1(&m->b, R_SUM, e, 2, true);
    return map_text(m, "a - b - log(c)", 3, in);
}

/* The 2 * beams best continuations of each batch: their scores, tokens and rows of the decoder, [B, 2 * beams]. */
static void continuations(Imp *m, const Search *s, Val scores, Val sums, Val *best, Val *token, Val *row)
{
    Dim v = dim_of(m, scores, 1), flat[2] = {s->groups, dim_mul(m->c, s->beams, v)}, column[2] = {s->batch, DC(m, 1)};
    TopkAttr top = {.axis = 1, .largest = true, .sorted = true, .k = dim_muli(m->c, s->beams, 2)};
    Val at, all = b_binary(&m->b, S_ADD, scores, reshape_to(m, sums, 2, column));
    b_topk(&m->b, reshape_to(m, all, 2, flat), &top, best, &at);
    Expr i = xarg(m, 0, DT_I64), n = xdim(m, v);
    *token = b_map1(&m->b, expr_cast(m->c, X2(MOD, i, n), DT_I32), 1, &at);
    *row = b_map1(&m->b, X2(ADD, X2(MUL, xaxis(m, 0), xdim(m, s->beams)), X2(FDIV, i, n)), 1, &at);
}

static Val beam_trip(Imp *m, const Search *s, Val iter, const Val *in, Val *out)
{
    const Val *was = in + PAST + s->nlayer;
    Val *now = out + PAST + s->nlayer, best, token, row, pick, order, chosen[3], penalty = s->extra[EXTRA_PENALTY];
    Val scores = decode(m, s, in, out + PAST), done = insert_axes(m, in[DONE], 2, 2);
    Dim d[2] = {s->groups, s->beams}, b1 = s->groups;
    Expr b = xaxis(m, 0), j = xaxis(m, 1), eos = expr_int(m->c, DT_I32, s->eos), low = xf(m, DT_F32, -INFINITY);
    if (!scores.i)
        return scores;
    scores = process(m, s, log_softmax(m, scores), in[SEQ], iter, dim_of(m, scores, 1));
    continuations(m, s, scores, was[SUM], &best, &token, &row);
    /* those among the first `beams` that end are kept, if the batch still looks for any */
    Expr length = X2(ADD, xarg(m, 4, DT_I64), xdim(m, s->prompt)), ends = X2(AND, X2(EQ, xarg(m, 1, DT_I32), eos), X1(NOT, xarg(m, 2, DT_BOOL)));
    Val first[2] = {b_slice_axis(&m->b, best, 1, DC(m, 0), s->beams), b_slice_axis(&m->b, token, 1, DC(m, 0), s->beams)};
    Val args[5] = {first[0], first[1], done, penalty, iter};
    Val more = map_over(m, X3(SELECT, ends, normed(m, xarg(m, 0, DT_F32), length, 3), low), 5, args, 2, d);
    Val fresh = map_over(m, expr_cast(m->c, ends, DT_I64), 3, args, 2, d);
    now[KEPT_SCORE] = was[KEPT_SCORE];
    now[KEPT_SEQ] = was[KEPT_SEQ];
    keep_best(m, s, s->beams, &now[KEPT_SCORE], &now[KEPT_SEQ], more, b_slice_axis(&m->b, row, 1, DC(m, 0), s->beams), in[SEQ]);
    now[KEPT_COUNT] = b_binary(&m->b, S_ADD, was[KEPT_COUNT], b_reduce1(&m->b, R_SUM, fresh, 2, false));
    /* the best that go on */
    Expr key = X3(SELECT, X2(EQ, xarg(m, 0, DT_I32), eos), XI(-1), X2(SUB, XI(INT32_MAX), j));
    TopkAttr top = {.axis = 1, .largest = true, .sorted = true, .k = s->beams};
    b_topk(&m->b, b_map1(&m->b, key, 1, &token), &top, &order, &pick);
    Expr at[2] = {b, xarg(m, 1, DT_I64)}, over = xarg(m, 2, DT_BOOL), none[3] = {xf(m, DT_F32, 0), expr_int(m->c, DT_I32, s->pad), XI(0)};
    Val from[3] = {best, token, row};
    for (int i = 0; i < 3; i++) {
        Expr e = expr_load(m->c, 0, dtype_of(m, from[i]), 2, at, OOB_CLAMP, (Expr){0}, 0);
        chosen[i] = map_over(m, X3(SELECT, over, none[i], e), 3, (Val[]){from[i], pick, done}, 2, d);
    }
    now[SUM] = chosen[0];
    Val flat = reshape_to(m, chosen[2], 1, &s->batch);
    for (int i = 0; i < s->nlayer; i++)
        out[PAST + i] = b_gather(&m->b, out[PAST + i], flat, 1, OOB_CLAMP);
    feed_next(m, s, reshape_to(m, chosen[1], 1, &s->batch), in, out);
    out[SEQ] = append(m, s, b_gather(&m->b, in[SEQ], flat, 0, OOB_CLAMP), out[IDS], iter);
    /* done: enough is kept, and the best continuation is no better than the worst of it */
    Expr zero = XI(0), worst = expr_load(m->c, 2, DT_F32, 2, (Expr[]){b, X2(SUB, xdim(m, s->beams), XI(1))}, OOB_CLAMP, (Expr){0}, 0);
    Expr hope = normed(m, expr_load(m->c, 5, DT_F32, 2, (Expr[]){b, zero}, OOB_CLAMP, (Expr){0}, 0), length, 3);
    Expr enough = X2(GE, xarg(m, 1, DT_I64), xdim(m, s->beams));
    if (!attr_i(m, "early_stopping"))
        enough = X2(AND, enough, X2(GE, worst, hope));
    Val state[6] = {in[DONE], now[KEPT_COUNT], now[KEPT_SCORE], penalty, iter, best};
    out[DONE] = map_over(m, X2(OR, xarg(m, 0, DT_BOOL), enough), 6, state, 1, &b1);
    return any_left(m, out[DONE]);
}

/* Beams of batches that are not done end now; the best `count` sequences and their scores are the results. */
static void finish_beams(Imp *m, const Search *s, Val penalty, const Val *v, Dim count)
{
    const Val *k = v + PAST + s->nlayer;
    Val score = k[KEPT_SCORE], kept = k[KEPT_SEQ];
    Dim d[2] = {s->groups, s->beams};
    Expr e = normed(m, xarg(m, 0, DT_F32), xdim(m, s->length), 2);
    e = X3(SELECT, xarg(m, 1, DT_BOOL), xf(m, DT_F32, -INFINITY), e);
    Val more = map_over(m, e, 3, (Val[]){k[SUM], insert_axes(m, v[DONE], 2, 2), penalty}, 2, d);
    Val row = map_over(m, X2(ADD, X2(MUL, xaxis(m, 0), xdim(m, s->beams)), xaxis(m, 1)), 0, NULL, 2, d);
    keep_best(m, s, count, &score, &kept, more, row, v[SEQ]);
    result(m, 0, kept);
    result(m, 1, score);
}

void imp_beamsearch(Imp *m)
{
    Search s = {.at = beam_operands};
    Val first[PAST + MAX_LAYERS + NBEAM], res[PAST + MAX_LAYERS + NBEAM], given[NOPTION], extra[NEXTRA], penalty = operand(m, 5);
    Type t[PAST + MAX_LAYERS + NBEAM];
    Dim count, d[3];
    if (present(m, 10) || present(m, 11) || wanted(m, 2)) {
        UNSUP(m, "decoder_input_ids, logits_processor and the result scores");
        return;
    }
    if (!operands_ok(m, &s) || !operand_dim(m, m->in[3], "num_beams", 1, 4096, &s.beams) ||
        !operand_dim(m, m->in[4], "num_return_sequences", 1, 4096, &count))
        return;
    b_guard(&m->b, G_LE, count, s.beams, "num_return_sequences is larger than num_beams");
    s.groups = d[0] = s.batch;
    s.batch = dim_mul(m->c, s.batch, s.beams);
    d[1] = s.beams;
    d[2] = s.length;
    if (!read_decoder(m, &s))
        return;
    Val mask = operand(m, s.at[ATT_MASK]), *v = first + PAST + s.nlayer;
    begin(m, &s, repeated(m, m->in[0], s.beams), mask.i ? repeated(m, mask, s.beams) : mask, first);
    carried_types(m, &s, t);
    first[DONE] = b_splat(&m->b, (Scalar){.t = DT_BOOL}, 1, d);
    v[SUM] = map_over(m, X3(SELECT, X2(EQ, xaxis(m, 1), XI(0)), xf(m, DT_F32, 0), xf(m, DT_F32, -1e9)), 0, NULL, 2, d);
    v[KEPT_SCORE] = b_splat(&m->b, (Scalar){.t = DT_F32, .f = -INFINITY}, 2, d);
    v[KEPT_SEQ] = b_splat(&m->b, (Scalar){.t = DT_I32, .i = s.pad}, 3, d);
    v[KEPT_COUNT] = b_splat(&m->b, (Scalar){.t = DT_I64}, 1, d);
    t[DONE] = type_tensor(m->c, DT_BOOL, 1, d);
    for (int i = 0; i < NBEAM; i++)
        t[PAST + s.nlayer + i] = *val_type(m->b.g, v[i]);
    options(m, &s, s.beams, given);
    extra[EXTRA_PENALTY] = penalty = penalty.i ? only_element(m, penalty) : scalar_of(m, DT_F32, 1);
    s.extra = extra;
    if (search(m, &s, beam_trip, PAST + s.nlayer + NBEAM, t, first, given, NEXTRA, extra, res))
        finish_beams(m, &s, penalty, res, count);
}
