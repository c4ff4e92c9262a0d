/* op_ms_beam.c: BeamSearch and WhisperBeamSearch of com.microsoft, around a decoder alone or an encoder and a decoder (ms_search.h). As ONNX
 * Runtime's beam_search_impl_*.h, beam_search_scorer.cc and, for time stamps, logits_processor.cc.
 *
 * There are `beams` rows of the decoder for each batch. Sequences that ended are kept apart, the best `beams` of each batch; a batch is done when it
 * has so many and no beam can do better. */
#include "frontend/ms_search.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(beamsearch);

static const uint32_t beam_operands[NOPTION] = {0, 1, 2, 6, 7, 8, 9};
enum { LENGTH_PENALTY = 5, DECODER_IDS = 10, PROCESSOR = 11, TEMPERATURE = 14 }; /* operands */
enum { SCORES = 2, CROSS_QK, NO_SPEECH };                                         /* results */
enum { GPT, T5, WHISPER };                                                        /* attribute model_type */

enum { SUM, KEPT_SCORE, KEPT_SEQ, KEPT_COUNT, NBEAM }; /* carried behind the past: f32[B, beams] twice, i32[B, beams, length], i64[B] */
enum { EXTRA_PENALTY, EXTRA_TEMPERATURE, EXTRA_PROCESSOR, NEXTRA }; /* the decoder's fixed operands follow */

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
static void continuations(Imp *m, Search *s, Val scores, Val sums, Val *best, Val *token, Val *row)
{
    Dim v = dim_of(m, scores, 1), flat[2] = {s->groups, dim_mul(m->c, s->beams, v)}, column[2] = {s->batch, DC(m, 1)};
    TopkAttr top = {.axis = 1, .largest = true, .sorted = true, .k = dim_muli(m->c, s->beams, 2)};
    Val at, all = b_binary(&m->b, S_ADD, scores, reshape_to(m, sums, 2, column));
    b_topk(&m->b, reshape_to(m, all, 2, flat), &top, best, &at);
    if (wanted(m, SCORES))
        s->seen = reshape_to(m, all, 3, (Dim[]){s->groups, s->beams, v});
    Expr i = xarg(m, 0, DT_I64), n = xdim(m, v);
    *token = b_map1(&m->b, expr_cast(m->c, X2(MOD, i, n), DT_I32), 1, &at);
    *row = b_map1(&m->b, X2(ADD, X2(MUL, xaxis(m, 0), xdim(m, s->beams)), X2(FDIV, i, n)), 1, &at);
}

/* The type of scores as results: that of the penalties. */
static DType score_type(const Imp *m)
{
    for (uint32_t k = LENGTH_PENALTY; k <= LENGTH_PENALTY + 1; k++)
        if (present(m, k))
            return dtype_of(m, m->in[k]);
    return DT_F32;
}

/* ---- what Whisper allows to follow: time stamps come in pairs and do not decrease, the first one is early, and there is one if together they are
 * likelier than any word. */

static Expr token(Imp *m, const char *name) { return XI(attr_i(m, name)); }

/* Per row: the tokens up to the first time stamp, or all; where the last time stamp is, or -1. */
static void find_stamps(Imp *m, const Search *s, Val seq, Val iter, Val *begin, Val *last)
{
    Dim d[2] = {s->batch, s->length};
    Expr now = X2(ADD, xarg(m, 1, DT_I64), xdim(m, s->prompt)), j = xaxis(m, 1), id = expr_cast(m->c, xarg(m, 0, DT_I32), DT_I64);
    Expr stamp = X2(AND, X2(LT, j, now), X2(GE, id, token(m, "beginning_timestamp_token_id")));
    Val in[2] = {seq, iter};
    *begin = b_reduce1(&m->b, R_MIN, map_over(m, X3(SELECT, stamp, X2(ADD, j, XI(1)), now), 2, in, 2, d), 2, true);
    *last = b_reduce1(&m->b, R_MAX, map_over(m, X3(SELECT, stamp, j, XI(-1)), 2, in, 2, d), 2, true);
}

static Val timestamps(Imp *m, const Search *s, Val scores, Val seq, Val iter)
{
    enum { MAX_INITIAL = 50 };
    Val in[5] = {scores, seq, iter};
    Dim d[2];
    dims_of(m, scores, d);
    find_stamps(m, s, seq, iter, &in[3], &in[4]);
    Expr v = xaxis(m, 1), first = token(m, "beginning_timestamp_token_id"), low = xf(m, DT_F32, SEARCH_LOWEST), x = xarg(m, 0, DT_F32);
    Expr now = X2(ADD, xarg(m, 2, DT_I64), xdim(m, s->prompt)), begin = xarg(m, 3, DT_I64), at = xarg(m, 4, DT_I64);
#define TOKEN(i) expr_cast(m->c, expr_load(m->c, 1, DT_I32, 2, (Expr[]){xaxis(m, 0), (i)}, OOB_CLAMP, (Expr){0}, 0), DT_I64)
    Expr started = X2(GT, now, begin), stamp = X2(GE, v, first);
    Expr was = X2(GE, TOKEN(X2(SUB, now, XI(1))), first), before = X2(OR, X1(NOT, started), X2(GE, TOKEN(X2(SUB, now, XI(2))), first));
    Expr single = X2(AND, was, X1(NOT, before)), least = X2(ADD, TOKEN(at), X3(SELECT, single, XI(0), XI(1)));
#undef TOKEN
    Expr task = X2(OR, X2(EQ, v, token(m, "decoder_start_token_id")),
                   X2(OR, X2(EQ, v, token(m, "translate_token_id")), X2(EQ, v, token(m, "transcribe_token_id"))));
    Expr none[] = {X2(EQ, v, token(m, "no_timestamps_token_id")), X2(EQ, v, token(m, "start_of_lm_token_id")), X2(AND, started, task),
                   X2(AND, X2(AND, was, before), stamp), X2(AND, single, X2(LT, v, XI(s->eos))),
                   X2(AND, X2(AND, X2(GE, at, XI(0)), stamp), X2(LT, v, least)),
                   X2(AND, X2(EQ, now, begin), X2(GT, v, X2(ADD, first, XI(MAX_INITIAL))))};
    Expr out = none[0];
    for (size_t i = 1; i < sizeof none / sizeof *none; i++)
        out = X2(OR, out, none[i]);
    Val allowed = map_over(m, X3(SELECT, out, low, x), 5, in, 2, d), stamps[2];
    stamps[0] = map_over(m, X3(SELECT, stamp, x, low), 1, &allowed, 2, d);
    stamps[1] = b_reduce1(&m->b, R_MAX, stamps[0], 2, true);
    Val e = map_over(m, X3(SELECT, X2(GT, x, low), X1(EXP, X2(SUB, x, xarg(m, 1, DT_F32))), xf(m, DT_F32, 0)), 2, stamps, 2, d);
    Val word = b_reduce1(&m->b, R_MAX, map_over(m, X3(SELECT, stamp, low, x), 1, &allowed, 2, d), 2, true);
    Val pick[4] = {allowed, b_reduce1(&m->b, R_SUM, e, 2, true), stamps[1], word};
    Expr all = X3(SELECT, X2(GT, xarg(m, 1, DT_F32), xf(m, DT_F32, 0)), X2(ADD, X1(LOG, xarg(m, 1, DT_F32)), xarg(m, 2, DT_F32)), low);
    return map_over(m, X3(SELECT, X2(AND, X2(GT, all, xarg(m, 3, DT_F32)), X1(NOT, stamp)), low, x), 4, pick, 2, d);
}

/* The processor of Whisper, if operand logits_processor asks for it. */
static Val process_speech(Imp *m, const Search *s, Val scores, Val seq, Val iter)
{
    const Val temperature = s->extra[EXTRA_TEMPERATURE], processor = s->extra[EXTRA_PROCESSOR];
    if (temperature.i)
        scores = map_over(m, X2(DIV, xarg(m, 0, DT_F32), xarg(m, 1, DT_F32)), 2, (Val[]){scores, temperature}, 2,
                          (Dim[]){dim_of(m, scores, 0), dim_of(m, scores, 1)});
    if (!processor.i)
        return scores;
    Val in[3] = {scores, timestamps(m, s, scores, seq, iter), processor};
    return map_over(m, X3(SELECT, X2(EQ, xarg(m, 2, DT_I32), expr_int(m->c, DT_I32, 1)), xarg(m, 1, DT_F32), xarg(m, 0, DT_F32)), 3, in, 2,
                    (Dim[]){dim_of(m, scores, 0), dim_of(m, scores, 1)});
}

/* ---- a trip ---- */

static Val choose_beams(Imp *m, Search *s, Val iter, Val scores, const Val *in, Val *out)
{
    const Val *was = in + s->past + s->npast;
    Val *now = out + s->past + s->npast, best, token, row, pick, order, chosen[3], penalty = s->extra[EXTRA_PENALTY];
    Val done = insert_axes(m, in[DONE], 2, 2), line[NEXT_POS + 1];
    Dim d[2] = {s->groups, s->beams}, b1 = s->groups;
    Expr b = xaxis(m, 0), j = xaxis(m, 1), eos = expr_int(m->c, DT_I32, s->eos), low = xf(m, DT_F32, -INFINITY);
    scores = process_speech(m, s, search_process(m, s, log_softmax(m, scores), in[SEQ], iter), in[SEQ], iter);
    if (!scores.i)
        return scores;
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
    for (int i = s->past; i < s->past + s->npast; i++)
        out[i] = b_gather(&m->b, out[i], flat, s->rows, OOB_CLAMP);
    Val next = reshape_to(m, chosen[1], 1, &s->batch);
    memcpy(line, in, sizeof line);
    line[IDS] = s->whole ? b_gather(&m->b, in[IDS], flat, 0, OOB_CLAMP) : in[IDS];
    search_feed(m, s, next, line, out);
    out[SEQ] = search_append(m, s, b_gather(&m->b, in[SEQ], flat, 0, OOB_CLAMP), insert_axes(m, next, 2, 2), iter);
    /* done: enough is kept, and the best continuation is no better than the worst of it */
    Expr zero = XI(0), worst = expr_load(m->c, 2, DT_F32, 2, (Expr[]){b, X2(SUB, xdim(m, s->beams), XI(1))}, OOB_CLAMP, (Expr){0}, 0);
    Expr hope = normed(m, expr_load(m->c, 5, DT_F32, 2, (Expr[]){b, zero}, OOB_CLAMP, (Expr){0}, 0), length, 3);
    Expr enough = X2(GE, xarg(m, 1, DT_I64), xdim(m, s->beams));
    if (!attr_i(m, "early_stopping"))
        enough = X2(AND, enough, X2(GE, worst, hope));
    Val state[6] = {in[DONE], now[KEPT_COUNT], now[KEPT_SCORE], penalty, iter, best};
    out[DONE] = map_over(m, X2(OR, xarg(m, 0, DT_BOOL), enough), 6, state, 1, &b1);
    return search_left(m, out[DONE]);
}

/* ---- the model ---- */

static bool is_named(const SrcGraph *g, uint32_t k, const char *name) { return k < g->in.n && !strcmp(g->in.v[k].name, name); }

/* What the graphs of an encoder and a decoder take and give. Decoder: the last token (or all), the encoder's mask (not of speech) and its hidden
 * states (or not), past keys and values of each layer, then those of the encoder; scores and present keys and values. Encoder: its input, the
 * mask, and, if it also makes the first scores, the tokens begun with; these scores, the hidden states and the states of all layers; else just
 * its own. */
static bool read_pair(Imp *m, Search *s, bool speech, const SrcGraph **encoder, bool *first)
{
    const SrcAttr *a = attr_find(m, "encoder");
    const SrcGraph *d = s->decoder = attr_find(m, "decoder")->graph[0];
    Type t = {0};
    if (!a) {
        ERR(m, "E0208", "attribute encoder is missing");
        return false;
    }
    *encoder = a->graph[0];
    s->before = !speech;
    s->before += is_named(d, 1 + (uint32_t)s->before, "encoder_hidden_states");
    s->past = POS;
    s->npast = (int)d->out.n - 1;
    s->fixed = s->before + s->npast;
    s->tokens = 2;
    *first = (*encoder)->out.n == 2 + 2 * (uint32_t)s->npast;
    bool hidden = s->before > !speech;
    if (s->npast < 2 || s->npast % 2 || s->npast > MAX_STATES || (int)d->in.n != 1 + s->before + 2 * s->npast ||
        (*encoder)->in.n != 1u + !speech + *first || (!*first && (hidden || (int)(*encoder)->out.n != s->npast))) {
        ERR(m, "E0208", "attributes encoder and decoder do not fit: %u inputs and %u outputs, %u inputs and %u outputs",
            (*encoder)->in.n, (*encoder)->out.n, d->in.n, d->out.n);
        return false;
    }
    if (d->in.v[0].type && model_type_known(d->in.v[0].type) && !model_type(m->m, d->in.v[0].type, d->in.v[0].name, m->b.loc, &t))
        return false;
    s->whole = t.kind == TY_TENSOR && t.rank == 2 && !dim_is(m->c, t.dim[1], 1);
    return true;
}

/* 0 for padding before the first token, else 1 */
static Val left_mask(Imp *m, const Search *s, Val ids)
{
    Dim d[2];
    dims_of(m, ids, d);
    Expr comb = X2(MAX, xarg(m, 0, DT_I32), xarg(m, 1, DT_I32));
    Val on = map_over(m, expr_cast(m->c, X2(NE, xarg(m, 0, DT_I32), expr_int(m->c, DT_I32, s->pad)), DT_I32), 1, &ids, 2, d);
    if (on.i)
        b_scan(&m->b, 1, &on, 1, false, false, &comb, (Scalar[]){{.t = DT_I32}}, (DType[]){DT_I32}, &on);
    return on;
}

/* Runs the encoder: what the first trip starts from, and (fixed) what the decoder reads in all trips. */
static bool encode(Imp *m, Search *s, bool speech, Val *first, Val *fixed)
{
    const SrcGraph *encoder;
    bool scores;
    Val feed[3], got[2 + 2 * MAX_STATES], mask = operand(m, s->at[ATT_MASK]), start = speech ? operand(m, DECODER_IDS) : (Val){0};
    int n = 0;
    if (!read_pair(m, s, speech, &encoder, &scores))
        return false;
    if (start.i && (dtype_of(m, start) != DT_I32 || rank_of(m, start) != 2)) {
        ERR(m, "E0204", "decoder_input_ids: expected i32 and rank 2, got %s and rank %d", dt_name(dtype_of(m, start)), rank_of(m, start));
        return false;
    }
    if (!start.i)
        start = b_splat(&m->b, (Scalar){.t = DT_I32, .i = attr_i(m, "decoder_start_token_id")}, 2, (Dim[]){s->groups, DC(m, 1)});
    s->prompt = dim_of(m, start, 1);
    search_prompt(m, s);
    feed[n++] = m->in[0];
    if (!speech)
        feed[n++] = mask.i ? mask : left_mask(m, s, m->in[0]);
    if (scores)
        feed[n++] = start;
    if (!import_inline(m, encoder, n, feed, got))
        return false;
    const Val *own = got + 2, *cross = scores ? own + s->npast : got;
    if (scores) {
        Val x = search_last_scores(m, got[0]);
        s->scores = search_repeated(m, x, s->beams);
        if (!s->scores.i)
            return false;
        if (speech && wanted(m, NO_SPEECH)) {
            Expr at[2] = {xaxis(m, 0), XI(attr_i(m, "no_speech_token_id"))};
            b_guard(&m->b, G_LT, DC(m, attr_i(m, "no_speech_token_id")), dim_of(m, x, 1), "attribute no_speech_token_id is not a token");
            Val p = map_over(m, X1(EXP, load_at(m, 0, DT_F32, 2, at)), 1, (Val[]){log_softmax(m, x)}, 1, &s->groups);
            result(m, NO_SPEECH, cast_to(m, p, score_type(m)));
        }
    }
    int k = 0;
    if (!speech)
        fixed[k++] = search_repeated(m, feed[1], s->beams);
    if (k < s->before)
        fixed[k++] = search_repeated(m, got[1], s->beams);
    for (int i = 0; i < s->npast; i++) {
        Type empty = {0};
        if (!search_empty_state(m, s->decoder, 1 + (uint32_t)(s->before + i), s, 4, &empty))
            return false;
        if (scores && (rank_of(m, own[i]) != 4 || dtype_of(m, own[i]) != empty.dtype)) {
            ERR(m, "E0208", "attribute encoder: a present state must be as the past states of the decoder");
            return false;
        }
        fixed[k++] = search_repeated(m, cross[i], s->beams);
        first[s->past + i] = scores ? search_repeated(m, own[i], s->beams)
                                    : b_splat(&m->b, dt_convert((Scalar){.t = DT_I64}, (DType)empty.dtype), empty.rank, empty.dim);
    }
    first[IDS] = search_repeated(m, start, s->beams);
    first[SEQ] = search_row_tokens(m, s, first[IDS]);
    return true;
}

static bool begin_alone(Imp *m, Search *s, Val *first)
{
    Val mask = operand(m, s->at[ATT_MASK]);
    Type empty = {0};
    if (!search_gpt(m, s) || !search_empty_state(m, s->decoder, 3, s, 5, &empty))
        return false;
    search_prompt(m, s);
    search_begin(m, s, empty, search_repeated(m, m->in[0], s->beams), search_repeated(m, mask, s->beams), first);
    return true;
}

/* Beams of batches that are not done end now; the best `count` sequences and their scores are the results. */
static void finish_beams(Imp *m, const Search *s, Val penalty, const Val *v, Dim count)
{
    const Val *k = v + s->past + s->npast;
    Val score = k[KEPT_SCORE], kept = k[KEPT_SEQ];
    Dim d[2] = {s->groups, s->beams};
    Expr e = normed(m, xarg(m, 0, DT_F32), xdim(m, s->length), 2);
    e = X3(SELECT, xarg(m, 1, DT_BOOL), xf(m, DT_F32, -INFINITY), e);
    Val more = map_over(m, e, 3, (Val[]){k[SUM], insert_axes(m, v[DONE], 2, 2), penalty}, 2, d);
    Val row = map_over(m, X2(ADD, X2(MUL, xaxis(m, 0), xdim(m, s->beams)), xaxis(m, 1)), 0, NULL, 2, d);
    keep_best(m, s, count, &score, &kept, more, row, v[SEQ]);
    result(m, 0, kept);
    result(m, 1, cast_to(m, score, score_type(m)));
}

/* The scores of each trip, [length - prompt, batch, beams, V]; 0 for those that were not needed. */
static void all_scores(Imp *m, const Search *s, Dim trips)
{
    Dim d[4];
    Expr at[4];
    dims_of(m, s->seen, d);
    d[0] = trips;
    for (int i = 0; i < 4; i++)
        at[i] = xaxis(m, i);
    result(m, SCORES, cast_to(m, map_over(m, expr_load(m->c, 0, DT_F32, 4, at, OOB_VALUE, xf(m, DT_F32, 0), 0), 1, &s->seen, 4, d), score_type(m)));
}

/* The options that are not those of every search, as scalars. */
static void own_options(Imp *m, bool speech, Val *extra)
{
    Val penalty = operand(m, LENGTH_PENALTY), temperature = operand(m, TEMPERATURE), processor = operand(m, PROCESSOR);
    Scalar none;
    extra[EXTRA_PENALTY] = penalty.i ? cast_to(m, only_element(m, penalty), DT_F32) : scalar_of(m, DT_F32, 1);
    if (speech && temperature.i)
        extra[EXTRA_TEMPERATURE] = cast_to(m, only_element(m, temperature), DT_F32);
    if (speech && processor.i && !(const_scalar(m, processor, &none) && none.i == 0))
        extra[EXTRA_PROCESSOR] = only_element(m, processor);
}

void imp_beamsearch(Imp *m)
{
    Search s = {.at = beam_operands};
    Val first[SEARCH_CARRIED], res[SEARCH_CARRIED], given[NOPTION], extra[NEXTRA + 2 + 2 * MAX_STATES] = {{0}};
    const int64_t model = attr_i(m, "model_type");
    const bool speech = row_has_attr(m->row, "no_speech_token_id");
    Dim count, d[3], trips;
    if (speech ? model != WHISPER : model != GPT && model != T5) {
        ERR(m, "E0202", "attribute model_type: expected %s, got %lld", speech ? "2" : "0 or 1", (long long)model);
        return;
    }
    if (wanted(m, CROSS_QK) || (speech && attr_i(m, "decoder_output_cross_qk"))) {
        UNSUP(m, "the result cross_qk and decoders that make it, which ONNX Runtime has for GPUs only; export the model without them");
        return;
    }
    if (!search_operands(m, &s, speech ? 3 : 2) || !operand_dim(m, m->in[3], "num_beams", 1, 4096, &s.beams) ||
        !operand_dim(m, m->in[4], "num_return_sequences", 1, 4096, &count))
        return;
    b_guard(&m->b, G_LE, count, s.beams, "num_return_sequences is larger than num_beams");
    s.groups = d[0] = s.batch;
    s.batch = dim_mul(m->c, s.batch, s.beams);
    if (model == GPT ? !begin_alone(m, &s, first) : !encode(m, &s, speech, first, extra + NEXTRA))
        return;
    d[1] = s.beams;
    d[2] = s.length;
    trips = dim_sub(m->c, s.length, s.prompt);
    Val *v = first + s.past + s.npast;
    first[DONE] = b_splat(&m->b, (Scalar){.t = DT_BOOL}, 1, d);
    v[SUM] = map_over(m, X3(SELECT, X2(EQ, xaxis(m, 1), XI(0)), xf(m, DT_F32, 0), xf(m, DT_F32, -1e9)), 0, NULL, 2, d);
    v[KEPT_SCORE] = b_splat(&m->b, (Scalar){.t = DT_F32, .f = -INFINITY}, 2, d);
    v[KEPT_SEQ] = b_splat(&m->b, (Scalar){.t = DT_I32, .i = s.pad}, 3, d);
    v[KEPT_COUNT] = b_splat(&m->b, (Scalar){.t = DT_I64}, 1, d);
    search_options(m, &s, s.beams, given);
    own_options(m, speech, extra);
    Val penalty = extra[EXTRA_PENALTY];
    if (!search_loop(m, &s, choose_beams, s.past + s.npast + NBEAM, first, given, NEXTRA + s.fixed, extra, res))
        return;
    finish_beams(m, &s, penalty, res, count);
    if (wanted(m, SCORES))
        all_scores(m, &s, trips);
}
