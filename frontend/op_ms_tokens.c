/* op_ms_tokens.c: operators of com.microsoft that make tokens of strings, and texts of tokens. */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(tokenizer); FN(bifurcation);

/* Whether the function takes these patterns, which depends on no string; else a message. */
static bool patterns_ok(Imp *m, int nin, const Val *in)
{
    const Tensor *probe[8] = {&(Tensor){.dtype = DT_STR, .rank = 1}};
    Tensor *y;
    int64_t room = INT64_MAX;
    char error[256];
    for (int i = 1; i < nin; i++)
        probe[i] = in[i].i ? tensor_from_const(m->c, val_const(m->b.g, in[i]), val_type(m->b.g, in[i])) : NULL;
    if (eval_call(m->c, "tokenize", nin, probe, 1, &y, &room, error))
        return true;
    ERR(m, "E0203", "attribute %s: %s", in[1].i ? "separators" : "tokenexp", error);
    return false;
}

void imp_tokenizer(Imp *m)
{
    int r = rank_of(m, m->in[0]);
    int64_t two = 2, how[2] = {attr_i(m, "mark") != 0, attr_i(m, "mincharnum")};
    bool separators = attr_has(m, "separators");
    const SrcAttr *s = attr_find(m, "separators");
    Dim d[3];
    if (r < 1 || r > 2 || how[1] < 1) {
        ERR(m, "E0203", "expected an operand of rank 1 or 2 and a positive mincharnum, got %d and %lld", r, (long long)how[1]);
        return;
    }
    if (separators ? !s->p->n_strings : !attr_s(m, "tokenexp")[0]) {
        ERR(m, "E0201", "one of the attributes separators and tokenexp is required");
        return;
    }
    bool single = separators ? s->p->n_strings == 1 && !s->p->strings[0].len : !strcmp(attr_s(m, "tokenexp"), ".");
    if (single && how[1] > 1) {
        ERR(m, "E0202", "attribute mincharnum: tokens are single characters, got %lld", (long long)how[1]);
        return;
    }
    dims_of(m, m->in[0], d);
    d[r] = fresh_size(m);
    Val in[5] = {m->in[0], attr_strings_val(m, "separators"), separators ? (Val){0} : attr_string_val(m, "tokenexp"), attr_string_val(m, "pad_value"),
                 b_const_i64(&m->b, 1, &two, how)};
    if (patterns_ok(m, 5, in))
        result(m, 0, call1(m, "tokenize", type_tensor(m->c, DT_STR, r + 1, d), 5, in));
}

/* ---- aggressive decoding */

/* The current tokens and as many of the predicted ones as agree with the source from `from` on, and one more. */
static Val accepted(Imp *m, Val src, Val cur, Val from, Val pred)
{
    Dim n = dim_of(m, src, 0), all = dim_of(m, pred, 0), start = b_bind(&m->b, only_element(m, from), 0, "start", 0, DIM_INF);
    Dim left = dim_sub(m->c, n, start);
    b_guard(&m->b, G_LE, start, n, "prev_suffix_match_idx is behind the end of src_tokens");
    b_guard(&m->b, G_EQ, all, dim_addi(m->c, left, 1), "pred_tokens must be one more than the source tokens from prev_suffix_match_idx on");
    Expr i = xaxis(m, 0), at = X2(ADD, i, xdim(m, start));
    Expr same = X2(EQ, xarg(m, 0, DT_I64), expr_load(m->c, 1, DT_I64, 1, &at, OOB_CLAMP, (Expr){0}, 0));
    Expr agree = X2(AND, X2(LT, i, xdim(m, left)), same);
    Val in[2] = {pred, src}, stop = map_over(m, X3(SELECT, agree, XI(INT64_MAX), i), 2, in, 1, &all);
    stop = stop.i ? b_reduce1(&m->b, R_MIN, stop, 1, false) : stop;
    Dim k = dim_addi(m->c, b_bind(&m->b, stop, 0, "agree", 0, DIM_INF), 1);
    b_guard(&m->b, G_LE, k, all, "pred_tokens is empty");
    return b_concat(&m->b, 2, (Val[]){cur, b_slice_axis(&m->b, pred, 0, DC(m, 0), k)}, 0);
}

/* How many tokens up to each place of src are the last tokens of v, at most `most`. */
static Val suffix_lengths(Imp *m, Val src, Val v, int64_t most)
{
    Dim n = dim_of(m, src, 0), all = dim_of(m, v, 0);
    Expr same = expr_int(m->c, DT_BOOL, 1), sum = XI(0), zero = XI(0);
    for (int64_t k = 0; k < most; k++) {
        Expr i = X2(SUB, xaxis(m, 0), XI(k)), j = X2(SUB, xdim(m, all), XI(k + 1));
        Expr in = X2(AND, X2(GE, i, XI(0)), X2(GE, j, XI(0)));
        Expr a = expr_load(m->c, 0, DT_I64, 1, &i, OOB_VALUE, zero, 0), b = expr_load(m->c, 1, DT_I64, 1, &j, OOB_VALUE, zero, 0);
        same = X2(AND, same, X2(AND, in, X2(EQ, a, b)));
        sum = X2(ADD, sum, expr_cast(m->c, same, DT_I64));
    }
    return map_over(m, sum, 2, (Val[]){src, v}, 1, &n);
}

/* Where the source goes on behind its only n-gram that is the end of the text, for growing n; -1 if there are several. */
void imp_bifurcation(Imp *m)
{
    Val src = m->in[0], v = m->in[1];
    int64_t min = attr_i(m, "min_ngram_size"), most = attr_i(m, "max_ngram_size");
    if (rank_of(m, src) != 1 || rank_of(m, v) != 1 || (present(m, 3) && rank_of(m, m->in[3]) != 1) || min < 1 || most < min || most > SHAPE_MAX) {
        ERR(m, "E0203", "expected tokens of rank 1 and n-grams of 1 to %d tokens, got %lld to %lld", SHAPE_MAX, (long long)min, (long long)most);
        return;
    }
    if (present(m, 3))
        v = accepted(m, src, v, m->in[2], m->in[3]);
    Val len = v.i ? suffix_lengths(m, src, v, most) : v;
    if (!len.i)
        return;
    Dim n = dim_of(m, src, 0), d[2] = {DC(m, most - min + 1), n};
    Expr e = xaxis(m, 1), hit = X2(GE, load_at(m, 0, DT_I64, 1, &e), X2(ADD, xaxis(m, 0), XI(min))), none = XI(INT64_MAX);
    Val behind = map_over(m, X3(SELECT, hit, X2(ADD, e, XI(1)), none), 1, &len, 2, d), two[2];
    Val hits = map_over(m, expr_cast(m->c, hit, DT_I64), 1, &len, 2, d);
    if (!behind.i || !hits.i)
        return;
    two[0] = b_reduce1(&m->b, R_MIN, behind, 2, false);
    two[1] = b_reduce1(&m->b, R_SUM, hits, 2, false);
    Expr go = expr_int(m->c, DT_BOOL, 1), at = XI(-1), size = xdim(m, n);
    for (int64_t k = min; k <= most; k++) {
        Expr row = XI(k - min), first = load_at(m, 0, DT_I64, 1, &row), many = X2(GT, load_at(m, 1, DT_I64, 1, &row), XI(1));
        go = X2(AND, go, X2(AND, X2(LE, XI(k), xdim(m, dim_of(m, v, 0))), X2(NE, first, none)));
        at = X3(SELECT, go, X3(SELECT, X2(AND, many, X2(LT, first, size)), XI(-1), first), at);
        go = X2(AND, go, X2(LT, first, size));
    }
    result(m, 0, v);
    Dim one[MAX_RANK];
    int r = rank_of(m, m->in[2]);
    dims_of(m, m->in[2], one);
    result(m, 1, reshape_to(m, map_over(m, at, 2, two, 0, NULL), r, one));
}
