/* op_ms_search.c: GreedySearch of com.microsoft: a loop around the decoder that its attribute holds. The first trip feeds the whole prompt
 * and an empty past, each other one the token just chosen and the past so far: carried values whose sizes change. As ONNX Runtime's
 * greedy_search_impl_gpt.h and logits_processor.cc. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(greedysearch);

#define LOWEST (-3.4028234663852886e38) /* the score of what is not allowed */

enum { IDS, POS, MASK, SEQ, DONE, NEXT_POS, PAST, MAX_LAYERS = 128 }; /* carried values; PAST: the first of the layers' */
enum { MAX_LENGTH = 1, MIN_LENGTH, PENALTY, VOCAB_MASK, PREFIX_MASK, ATT_MASK };

typedef struct Search {
    const SrcGraph *decoder;
    int nlayer;
    Dim batch, prompt, length;  /* length: of the sequences in the end */
    Type past;                  /* of a layer, empty */
    int64_t eos, pad;
    Val option[PREFIX_MASK + 1]; /* in the body: operands MIN_LENGTH to PREFIX_MASK */
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

/* One trip: in[] are the carried values, out[] the next ones; returns whether to go on. */
static Val trip(Imp *m, const Search *s, Val iter, const Val *in, Val *out)
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
    Dim len = dim_of(m, got[0], 1), vocab = dim_of(m, got[0], 2), one = DC(m, 1), b2[2] = {s->batch, one}, sd[2] = {s->batch, s->length};
    int64_t used = attr_i(m, "vocab_size");
    Val scores = drop_axes(m, b_slice_axis(&m->b, got[0], 1, dim_addi(m->c, len, -1), one), 2);
    if (used > 0) { /* the scores may be padded */
        b_guard(&m->b, G_LE, DC(m, used), vocab, "attribute vocab_size is larger than the scores");
        scores = b_slice_axis(&m->b, scores, 1, DC(m, 0), vocab = DC(m, used));
    }
    scores = process(m, s, cast_to(m, scores, DT_F32), in[SEQ], iter, vocab);
    Val best = cast_to(m, b_argminmax(&m->b, scores, 1, false, true, false), DT_I32);
    Expr token = xarg(m, 1, DT_I32), end = X2(OR, xarg(m, 0, DT_BOOL), X2(EQ, token, expr_int(m->c, DT_I32, s->eos)));
    out[DONE] = map_over(m, end, 2, (Val[]){in[DONE], best}, 1, &s->batch);
    token = X3(SELECT, xarg(m, 0, DT_BOOL), expr_int(m->c, DT_I32, s->pad), token);
    Val next = map_over(m, token, 2, (Val[]){out[DONE], best}, 1, &s->batch);
    out[IDS] = reshape_to(m, next, 2, b2);
    out[POS] = reshape_to(m, in[NEXT_POS], 2, b2);
    out[NEXT_POS] = map_text(m, "a + 1", 1, &in[NEXT_POS]);
    out[MASK] = b_concat(&m->b, 2, (Val[]){in[MASK], b_splat(&m->b, (Scalar){.t = DT_I32, .i = 1}, 2, b2)}, 1);
    Expr here = X2(EQ, xaxis(m, 1), X2(ADD, xarg(m, 2, DT_I64), xdim(m, s->prompt)));
    out[SEQ] = map_over(m, X3(SELECT, here, xarg(m, 1, DT_I32), xarg(m, 0, DT_I32)), 3, (Val[]){in[SEQ], out[IDS], iter}, 2, sd);
    for (int i = 0; i < s->nlayer; i++)
        out[PAST + i] = got[1 + i];
    return map_over(m, X1(NOT, xarg(m, 0, DT_BOOL)), 1, (Val[]){b_reduce1(&m->b, R_AND, out[DONE], 1, false)}, 0, NULL);
}

/* What the first trip starts from. Padding has mask 0 and position 0; the others count from 0. */
static void begin(Imp *m, const Search *s, Val *v)
{
    Val ids = m->in[0], mask = operand(m, ATT_MASK), before;
    Dim d[2] = {s->batch, s->prompt}, sd[2] = {s->batch, s->length};
    Expr pad = expr_int(m->c, DT_I32, s->pad), at[2] = {xaxis(m, 0), xaxis(m, 1)};
    if (!mask.i)
        mask = map_over(m, expr_cast(m->c, X2(NE, xarg(m, 0, DT_I32), pad), DT_I32), 1, &ids, 2, d);
    Expr seen = X2(NE, xarg(m, 0, DT_I32), expr_int(m->c, DT_I32, 0));
    Val on = map_over(m, expr_cast(m->c, seen, DT_I32), 1, &mask, 2, d);
    Expr comb = X2(ADD, xarg(m, 0, DT_I32), xarg(m, 1, DT_I32));
    b_scan(&m->b, 1, &on, 1, false, true, &comb, (Scalar[]){{.t = DT_I32}}, (DType[]){DT_I32}, &before);
    v[IDS] = ids;
    v[POS] = map_text(m, "a * b", 2, (Val[]){before, on});
    v[MASK] = mask;
    Expr e = expr_load(m->c, 0, DT_I32, 2, at, OOB_VALUE, pad, 0);
    v[SEQ] = map_over(m, e, 1, &ids, 2, sd);
    v[DONE] = b_splat(&m->b, (Scalar){.t = DT_BOOL}, 1, d);
    v[NEXT_POS] = b_reduce1(&m->b, R_SUM, on, 2, false);
    for (int i = 0; i < s->nlayer; i++)
        v[PAST + i] = b_splat(&m->b, dt_convert((Scalar){.t = DT_I64}, (DType)s->past.dtype), 5, s->past.dim);
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
    for (uint32_t i = 0; i <= ATT_MASK; i++)
        if (present(m, i) && dtype_of(m, m->in[i]) != (i == PENALTY ? DT_F32 : DT_I32)) {
            ERR(m, "E0204", "operand number %u: got %s", i, dt_name(dtype_of(m, m->in[i])));
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
    b_guard(&m->b, G_LT, s->prompt, s->length, "max_length must be larger than the prompt");
    return read_decoder(m, s);
}

void imp_greedysearch(Imp *m)
{
    Search s = {.decoder = NULL};
    Imp inner;
    const char **cap;
    if (!operands_ok(m, &s))
        return;
    SrcGraph *g = (SrcGraph *)(uintptr_t)s.decoder;
    int ncap = region_captures(m, 1, &g, &cap), nc = PAST + s.nlayer, n = 2 + nc;
    if (ncap < 0)
        return;
    SrcGraph body = {.name = "search", .outer = g->outer, .capture = g->capture};
    Val in[2 + PAST + MAX_LAYERS + 4] = {{0}}, old[PAST + MAX_LAYERS], next[PAST + MAX_LAYERS] = {{0}}, res[PAST + MAX_LAYERS], *all;
    Type t[PAST + MAX_LAYERS];
    region_open(&inner, m, NEW(m->c, SrcGraph));
    *(SrcGraph *)(uintptr_t)inner.src = body;
    inner.n = m->n;
    inner.row = m->row;
    Val iter = graph_input(inner.b.g, "iter", type_tensor(m->c, DT_I64, 0, NULL));
    graph_input(inner.b.g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    begin(m, &s, in + 2);
    carried_types(m, &s, t);
    for (int i = 0; i < nc; i++)
        old[i] = graph_input(inner.b.g, "", t[i]);
    for (uint32_t i = MIN_LENGTH; i <= PREFIX_MASK; i++)
        if (present(m, i)) {
            in[n] = i == MIN_LENGTH || i == PENALTY ? only_element(m, m->in[i]) : m->in[i];
            s.option[i] = graph_input(inner.b.g, "", *val_type(m->b.g, in[n++]));
        }
    region_capture(&inner, m, ncap, cap);
    Val go = trip(&inner, &s, iter, old, next);
    if (!go.i)
        return;
    graph_output(inner.b.g, "cond", go);
    for (int i = 0; i < nc; i++)
        graph_output(inner.b.g, "", next[i]);
    all = NEWN(m->c, Val, n + ncap);
    memcpy(all, in, sizeof *in * (size_t)n);
    all[0] = b_dim_scalar(&m->b, dim_sub(m->c, s.length, s.prompt));
    for (int i = 0; i < ncap; i++)
        all[n + i] = name_value(m, cap[i]);
    b_loop(&m->b, inner.b.g, nc, 0, n + ncap, all, res);
    result(m, 0, res[SEQ]);
}
