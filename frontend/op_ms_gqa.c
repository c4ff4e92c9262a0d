/* op_ms_gqa.c: GroupQueryAttention and SparseAttention of com.microsoft. Each entry b of a batch has P[b] keys from before and appends Q[b] of the S
 * new ones, so that it has T[b] = P[b] + Q[b] = seqlens_k[b] + 1: query s is at position P + s and sees keys up to there. The
 * cache holds the keys from the first on, or, if it slides, the last ones. */
#include "frontend/attn.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(ms_gqa); FN(ms_sparse);

enum { Q_IN, K_IN, V_IN, PAST_K, PAST_V, SEQLENS, TOTAL, COS_IN, SIN_IN, POS_IN, BIAS_IN, SINK_IN, K_SCALE, V_SCALE, Q_NORM, K_NORM, Q_LENS };

typedef struct Gqa {
    Heads q, k, v;
    Dim total, cache;                   /* bound of T; capacity of the cache */
    Val lens, valid;                    /* i64[B]: T, and Q or poison (all of S that T leaves room for) */
    Val cos, sin, pos;                  /* of the rotation; pos may be absent */
    Val before, after, kept;            /* i64[B]: P, T, and how many of the P keys the cache holds */
    int64_t window;                     /* keys that a query sees, -1: all */
    bool slides;
} Gqa;

/* How many of n positions a sliding cache keeps. */
static Expr resident(Imp *m, const Gqa *g, Expr n)
{
    Expr cap = xdim(m, g->cache), step = xdim(m, dim_addi(m->c, g->cache, 1 - g->window));
    Expr blocks = X2(FDIV, X2(SUB, X2(ADD, X2(SUB, n, cap), step), XI(1)), step);
    return X3(SELECT, X2(LE, n, cap), n, X2(SUB, n, X2(MUL, step, blocks)));
}

/* P, T and what is kept of P, from the lengths; one check of all of them. */
static bool lengths(Imp *m, Gqa *g)
{
    Val in[2] = {g->lens, g->valid};
    Dim b = g->q.batch;
    int n = in[1].i ? 2 : 1;
    Expr t = xarg(m, 0, DT_I64), len = xdim(m, g->q.len);
    Expr q = n == 2 ? xarg(m, 1, DT_I64) : X2(MIN, len, t), p = X2(SUB, t, q);
    g->after = map_over(m, t, 1, in, 1, &b);
    g->before = map_over(m, p, n, in, 1, &b);
    g->kept = g->slides ? map_over(m, resident(m, g, p), n, in, 1, &b) : g->before;
    Expr ok = X2(AND, X2(LE, XI(1), t), X2(LE, t, xdim(m, g->total)));
    ok = X2(AND, ok, X2(AND, X2(LE, XI(0), q), X2(AND, X2(LE, q, len), X2(LE, XI(0), p))));
    if (!g->slides)
        ok = X2(AND, ok, X2(LE, p, xdim(m, present(m, PAST_K) ? dim_of(m, m->in[PAST_K], 2) : DC(m, 0))));
    Val each = map_over(m, ok, n, in, 1, &b);
    if (!each.i)
        return false;
    Val all = b_reduce1(&m->b, R_AND, each, 1, false);
    b_guard_val(&m->b, all, "seqlens_k does not fit the cache, total_sequence_length or query_seqlens");
    return true;
}

/* n rows of the sequence that the kept rows of past and the new ones make, from row `first` on (an expression of operands 2 on,
 * which are more[]). */
static Val stitched(Imp *m, const Gqa *g, Val past, const Heads *h, Dim n, Expr first, int nmore, const Val *more)
{
    DType t = dtype_of(m, h->v);
    Expr b = xaxis(m, 0), zero = dt_is_float(t) ? xf(m, t, 0) : expr_int(m->c, t, 0), row = X2(ADD, xaxis(m, 2), first);
    Expr kept = load_at(m, 2, DT_I64, 1, &b), old[4] = {b, xaxis(m, 1), row, xaxis(m, 3)}, new[4] = {b, xaxis(m, 1), X2(SUB, row, kept), xaxis(m, 3)};
    Expr e = X3(SELECT, X2(LT, row, kept), expr_load(m->c, 0, t, 4, old, OOB_VALUE, zero, 0),
                expr_load(m->c, 1, t, 4, new, OOB_VALUE, zero, 0));
    Val in[5] = {past, h->v, g->kept};
    for (int i = 0; i < nmore; i++)
        in[3 + i] = more[i];
    return map_over(m, e, 3 + nmore, in, 4, (Dim[]){h->batch, h->heads, n, h->size});
}

/* How a cache holds numbers: as they are, or as integers of `bits` bits times a scale, which broadcasts to [B, H, S, D]. Integers of
 * 4 bits are two in a byte, the first in the lower half, and 8 stands for 0. */
typedef struct Store { DType type; int bits; Val scale; } Store;

static bool store_of(Imp *m, const Gqa *g, uint32_t past, uint32_t scale, const char *kind, Store *st)
{
    DType t = dtype_of(m, m->in[0]);
    *st = (Store){.type = present(m, past) ? dtype_of(m, m->in[past]) : t, .scale = operand(m, scale)};
    if (st->type == t)
        return true;
    st->bits = st->type == DT_U8 ? 4 : 8;
    if ((st->type != DT_I8 && st->type != DT_U8) || (attr_has(m, "kv_cache_bit_width") && attr_i(m, "kv_cache_bit_width") != st->bits)) {
        UNSUP(m, "a cache of type %s with a kv_cache_bit_width of %lld", dt_name(st->type), (long long)attr_i(m, "kv_cache_bit_width"));
        return false;
    }
    if (attr_is(m, kind, "NONE") || !st->scale.i) {
        ERR(m, "E0205", "a cache of integers needs a scale and attribute %s", kind);
        return false;
    }
    const Type sc = *val_type(m->b.g, st->scale);
    if (sc.rank == 1 && !dim_is(m->c, sc.dim[0], 1)) { /* one, or one for each element of each head */
        Expr at = X2(ADD, X2(MUL, xaxis(m, 1), xdim(m, g->k.size)), xaxis(m, 3)), i = X2(MOD, at, xdim(m, sc.dim[0]));
        st->scale = map_over(m, load_at(m, 0, (DType)sc.dtype, 1, &i), 1, &st->scale, 4, (Dim[]){DC(m, 1), g->k.heads, DC(m, 1), g->k.size});
    }
    return st->scale.i != 0;
}

static Val stored(Imp *m, const Store *st, const Heads *h)
{
    DType t = h->v.i ? dtype_of(m, h->v) : DT_F32;
    Dim d[4] = {h->batch, h->heads, h->len, h->size};
    double most = st->bits == 4 ? 7 : 127;
    if (!h->v.i || st->type == t)
        return h->v;
    Expr x = X1(RINT, X2(DIV, expr_cast(m->c, xarg(m, 0, t), DT_F32), expr_cast(m->c, xarg(m, 1, dtype_of(m, st->scale)), DT_F32)));
    x = X2(MAX, X2(MIN, x, xf(m, DT_F32, most)), xf(m, DT_F32, -most - 1));
    Val in[2] = {h->v, st->scale};
    if (st->bits == 8)
        return map_over(m, expr_cast(m->c, x, DT_I8), 2, in, 4, d);
    b_guard(&m->b, G_EQ, dim_mod(m->c, d[3], DC(m, 2)), DC(m, 0), "heads of a cache of 4 bits must have an even size");
    Val all = map_over(m, expr_cast(m->c, X2(ADD, x, xf(m, DT_F32, 8)), DT_U8), 2, in, 4, d);
    d[3] = dim_floordiv(m->c, d[3], DC(m, 2));
    Expr part[2];
    for (int i = 0; i < 2; i++) {
        Expr at[4] = {xaxis(m, 0), xaxis(m, 1), xaxis(m, 2), X2(ADD, X2(MUL, xaxis(m, 3), XI(2)), XI(i))};
        part[i] = load_at(m, 0, DT_U8, 4, at);
    }
    return map_over(m, X2(OR, part[0], X2(SHL, part[1], expr_int(m->c, DT_U8, 4))), 1, &all, 4, d);
}

/* n rows of heads of `size`, as numbers of type t */
static Val fetched(Imp *m, const Store *st, Val v, const Heads *h, Dim n, DType t)
{
    Dim d[4] = {h->batch, h->heads, n, h->size};
    if (!v.i || st->type == t)
        return v;
    Expr x = xarg(m, 0, st->type);
    if (st->bits == 4) {
        Expr at[4] = {xaxis(m, 0), xaxis(m, 1), xaxis(m, 2), X2(FDIV, xaxis(m, 3), XI(2))};
        Expr byte = load_at(m, 0, DT_U8, 4, at), odd = X2(NE, X2(MOD, xaxis(m, 3), XI(2)), XI(0));
        byte = X3(SELECT, odd, X2(SHR, byte, expr_int(m->c, DT_U8, 4)), X2(AND, byte, expr_int(m->c, DT_U8, 15)));
        x = X2(SUB, expr_cast(m->c, byte, DT_F32), xf(m, DT_F32, 8));
    }
    x = X2(MUL, expr_cast(m->c, x, DT_F32), expr_cast(m->c, xarg(m, 1, dtype_of(m, st->scale)), DT_F32));
    return map_over(m, expr_cast(m->c, x, t), 2, (Val[]){v, st->scale}, 4, d);
}

/* The keys (or values) with those of the cache before them. Returns what the cache holds afterwards. */
static Val cached(Imp *m, const Gqa *g, Val past, const Store *st, Heads *h)
{
    heads_first(m, h);
    if (!past.i || !h->v.i)
        return h->v;
    DType t = dtype_of(m, h->v);
    Heads kept = *h;
    kept.v = stored(m, st, h);
    if (!kept.v.i)
        return kept.v;
    kept.size = dim_of(m, kept.v, 3);
    b_guard(&m->b, G_EQ, dim_of(m, past, 0), h->batch, "the cache has another batch size");
    b_guard(&m->b, G_EQ, dim_of(m, past, 1), h->heads, "the cache has another number of heads");
    b_guard(&m->b, G_EQ, dim_of(m, past, 3), kept.size, "the cache has another head size");
    Val now, keys;
    if (g->slides) {
        /* row i of the cache is position T - kept(T) + i, and that is behind the first resident position, P - kept(P) */
        Expr b = xaxis(m, 0), held = load_at(m, 2, DT_I64, 1, &b), all = load_at(m, 3, DT_I64, 1, &b), p = load_at(m, 4, DT_I64, 1, &b);
        Expr first = X2(SUB, X2(SUB, all, resident(m, g, all)), X2(SUB, p, held));
        now = stitched(m, g, past, &kept, g->cache, first, 2, (Val[]){g->after, g->before});
        h->len = dim_add(m->c, g->cache, h->len);
        keys = stitched(m, g, past, &kept, h->len, XI(0), 0, NULL);
    } else {
        now = stitched(m, g, past, &kept, g->cache, XI(0), 0, NULL);
        keys = now.i ? b_slice_axis(&m->b, now, 2, DC(m, 0), g->total) : now;
        h->len = g->total;
    }
    h->v = fetched(m, st, keys, h, h->len, t);
    return now;
}

/* v / rms(v) * weight over each head */
static bool head_norm(Imp *m, Heads *h, Val weight, const char *epsilon)
{
    if (!weight.i || !h->v.i)
        return h->v.i != 0;
    if (rank_of(m, weight) != 1) {
        ERR(m, "E0203", "norm weights: expected rank 1, got %d", rank_of(m, weight));
        return false;
    }
    DType t = dtype_of(m, h->v), w = wide_type(t);
    Val x = cast_to(m, h->v, w);
    Val sq = b_mean(&m->b, map_text(m, "a * a", 1, &x), 1u << 3, true);
    Val dev = map_text(m, ctx_printf(m->c, "sqrt(a + $%s)", epsilon), 1, &sq);
    h->v = cast_to(m, affine(m, b_binary(&m->b, S_DIV, x, dev), weight, (Val){0}), t);
    return h->v.i != 0;
}

/* Queries and keys turned by their positions: given ones, else P + s (rows of padding: that of the last valid one). */
static bool turned(Imp *m, Gqa *g)
{
    Dim d[2] = {g->q.batch, g->q.len};
    Val pos = g->pos;
    if (!g->cos.i || !g->sin.i || rank_of(m, g->cos) != 2 || rank_of(m, g->sin) != 2) {
        ERR(m, "E0203", "do_rotary needs cos_cache and sin_cache of rank 2");
        return false;
    }
    if (!pos.i || rank_of(m, pos) != 2) {
        Expr b = xaxis(m, 0), last = X2(SUB, load_at(m, 1, DT_I64, 1, &b), XI(1));
        pos = map_over(m, X2(MIN, X2(ADD, load_at(m, 0, DT_I64, 1, &b), xaxis(m, 1)), last), 2, (Val[]){g->before, g->after}, 2, d);
    }
    Rotary r = {.size = dim_muli(m->c, dim_of(m, g->cos, 1), 2), .pairs = attr_i(m, "rotary_interleaved") != 0};
    r.cos = b_gather(&m->b, g->cos, pos, 0, OOB_FAIL);
    r.sin = b_gather(&m->b, g->sin, pos, 0, OOB_FAIL);
    return rotate(m, &g->q, &r) && rotate(m, &g->k, &r);
}

/* Queries, keys and values, rows apart or together. */
static bool read_heads(Imp *m, Gqa *g)
{
    int64_t n = attr_i(m, "num_heads"), kv = attr_i(m, "kv_num_heads");
    Val q = m->in[Q_IN];
    if (n < 1 || kv < 1 || n % kv || rank_of(m, q) != 3 || present(m, K_IN) != present(m, V_IN)) {
        ERR(m, "E0203", "expected rows of rank 3, keys and values together, and num_heads a multiple of kv_num_heads");
        return false;
    }
    if (present(m, K_IN))
        return heads_of_rows(m, q, n, "num_heads", &g->q) && heads_of_rows(m, m->in[K_IN], kv, "kv_num_heads", &g->k) &&
               heads_of_rows(m, m->in[V_IN], kv, "kv_num_heads", &g->v);
    Dim all = dim_of(m, q, 2), size = dim_floordiv(m->c, all, DC(m, n + 2 * kv));
    b_guard(&m->b, G_EQ, dim_muli(m->c, size, n + 2 * kv), all, "packed rows must hold num_heads + 2 * kv_num_heads heads");
    Dim nq = dim_muli(m->c, size, n), nk = dim_muli(m->c, size, kv);
    return heads_of_rows(m, b_slice_axis(&m->b, q, 2, DC(m, 0), nq), n, "num_heads", &g->q) &&
           heads_of_rows(m, b_slice_axis(&m->b, q, 2, nq, nk), kv, "kv_num_heads", &g->k) &&
           heads_of_rows(m, b_slice_axis(&m->b, q, 2, dim_add(m->c, nq, nk), nk), kv, "kv_num_heads", &g->v);
}

/* The bias of a sliding cache, whose columns are positions. */
static void bias_at(Imp *m, Scores *s, const Gqa *g, Val bias)
{
    DType t = s->v.i ? dtype_of(m, s->v) : DT_F32, bt = dtype_of(m, bias);
    Expr at[4], first = X2(SUB, load_at(m, 2, DT_I64, 1, &s->at[0]), load_at(m, 3, DT_I64, 1, &s->at[0]));
    for (int i = 0; i < 3; i++)
        at[i] = X2(MIN, s->at[i], xdim(m, dim_addi(m->c, dim_of(m, bias, i), -1)));
    at[3] = X2(ADD, s->at[3], first);
    Expr x = expr_load(m->c, 1, bt, 4, at, OOB_VALUE, xf(m, bt, 0), 0);
    scores_map(m, s, X2(ADD, xarg(m, 0, t), expr_cast(m->c, x, t)), 3, (Val[]){bias, g->before, g->kept});
}

/* Softmax with exp(sink) in the denominator: a number per head, or 0. */
static void softmax_sink(Imp *m, Scores *s, Val sink)
{
    if (!s->v.i)
        return;
    int last = s->grouped ? 4 : 3;
    DType t = dtype_of(m, s->v);
    if (sink.i)
        sink = cast_to(m, s->grouped ? reshape_to(m, sink, 5, (Dim[]){DC(m, 1), s->kv, s->group, DC(m, 1), DC(m, 1)})
                                     : along(m, sink, 4, 1), t);
    else
        sink = scalar_of(m, t, 0);
    Val top = b_binary(&m->b, S_MAX, b_reduce1(&m->b, R_MAX, s->v, 1u << last, true), sink);
    Val e = map_text(m, "exp(a - b)", 2, (Val[]){s->v, top});
    Val sum = map_text(m, "a + exp(b - c)", 3, (Val[]){b_reduce1(&m->b, R_SUM, e, 1u << last, true), sink, top});
    s->v = b_binary(&m->b, S_DIV, e, sum);
}

/* A vector of lengths as i64[B] */
static Val per_entry(Imp *m, const Gqa *g, Val v)
{
    return v.i ? cast_to(m, reshape_to(m, v, 1, &g->q.batch), DT_I64) : v;
}

static bool ready(Imp *m, Gqa *g)
{
    Val past = operand(m, PAST_K);
    int64_t causal = attr_i(m, "causal");
    g->window = attr_i(m, "local_window_size");
    g->slides = attr_i(m, "sliding_window_cache") != 0;
    if (present(m, PAST_V) != (past.i != 0) || (past.i && (rank_of(m, past) != 4 || rank_of(m, m->in[PAST_V]) != 4))) {
        ERR(m, "E0203", "past_key and past_value belong together and have rank 4");
        return false;
    }
    if ((!causal && g->window != -1) || (g->slides && (g->window < 1 || !past.i)) || g->window < -1 || causal < 0 || causal > 1) {
        ERR(m, "E0202", "local_window_size needs causal = 1, sliding_window_cache needs local_window_size and a past");
        return false;
    }
    if (!read_heads(m, g) || !operand_dim(m, m->in[TOTAL], "total_sequence_length", 0, DIM_INF, &g->total))
        return false;
    g->lens = per_entry(m, g, m->in[SEQLENS]);
    g->lens = g->lens.i ? b_map1(&m->b, X2(ADD, xarg(m, 0, DT_I64), XI(1)), 1, &g->lens) : g->lens;
    g->valid = per_entry(m, g, operand(m, Q_LENS));
    g->cos = operand(m, COS_IN);
    g->sin = operand(m, SIN_IN);
    g->pos = operand(m, POS_IN);
    Dim held = past.i ? dim_of(m, past, 2) : g->k.len;
    g->cache = g->slides || !past.i ? held : dim_max(m->c, held, g->total);
    if (g->slides)
        b_guard(&m->b, G_LE, DC(m, g->window), g->cache, "the cache is smaller than local_window_size");
    if (!past.i)
        b_guard(&m->b, G_EQ, g->total, g->k.len, "without a past, total_sequence_length must be the number of keys");
    return lengths(m, g);
}

void imp_ms_gqa(Imp *m)
{
    Gqa g = {0};
    Scores s;
    Store k, v;
    DType t = dtype_of(m, m->in[0]);
    int64_t out = attr_i(m, "qk_output");
    double cap = attr_f(m, "softcap");
    if (!ready(m, &g) || !head_norm(m, &g.q, operand(m, Q_NORM), attr_has(m, "q_norm_epsilon") ? "q_norm_epsilon" : "qk_norm_epsilon") ||
        !head_norm(m, &g.k, operand(m, K_NORM), attr_has(m, "k_norm_epsilon") ? "k_norm_epsilon" : "qk_norm_epsilon"))
        return;
    if ((attr_i(m, "do_rotary") && !turned(m, &g)) || !store_of(m, &g, PAST_K, K_SCALE, "k_quant_type", &k) ||
        !store_of(m, &g, PAST_V, V_SCALE, "v_quant_type", &v))
        return;
    result(m, 1, cached(m, &g, operand(m, PAST_K), &k, &g.k));
    result(m, 2, cached(m, &g, operand(m, PAST_V), &v, &g.v));
    if (!scores_of(m, &g.q, &g.k, &s))
        return;
    DType w = dtype_of(m, s.v);
    scores_scale(m, &s, attr_f(m, "scale") != 0, attr_f(m, "scale"), g.q.size);
    if (cap > 0)
        scores_map(m, &s, text_expr(m, "$softcap * tanh(a / $softcap)", w, 1), 0, NULL);
    if (present(m, BIAS_IN) && g.slides && rank_of(m, m->in[BIAS_IN]) == 4)
        bias_at(m, &s, &g, m->in[BIAS_IN]);
    else if (present(m, BIAS_IN) && !scores_mask(m, &s, m->in[BIAS_IN], "attention_bias"))
        return;
    /* position of the key, and of the query */
    Expr b = s.at[0], before = load_at(m, 1, DT_I64, 1, &b), at = X2(ADD, s.at[2], before);
    Expr key = g.slides ? X2(ADD, s.at[3], X2(SUB, before, load_at(m, 3, DT_I64, 1, &b))) : s.at[3];
    Expr seen = X2(LT, key, load_at(m, 2, DT_I64, 1, &b));
    if (attr_i(m, "causal"))
        seen = X2(AND, seen, X2(LE, key, at));
    if (g.window > 0)
        seen = X2(AND, seen, X2(GT, key, X2(SUB, at, XI(g.window))));
    Val info[3] = {g.before, g.after, g.kept};
    Scores shown = s;
    if (wanted(m, 3))
        scores_keep(m, &shown, seen, 0, 3, info);
    scores_keep(m, &s, seen, -INFINITY, 3, info);
    if (attr_i(m, "smooth_softmax") > 0 || present(m, SINK_IN))
        softmax_sink(m, &s, operand(m, SINK_IN));
    else
        scores_softmax(m, &s);
    if (wanted(m, 3))
        result(m, 3, cast_to(m, scores_flat(m, out == 2 ? &s : &shown), t));
    s.v = cast_to(m, s.v, t);
    result(m, 0, scores_times(m, &s, &g.v, true, t));
}

/* ---- SparseAttention: blocks of keys that blocks of queries see, for each head of a cycle */

enum { SP_ROWS = 5, SP_COLS, SP_TOTAL, SP_LENS, SP_COS, SP_SIN };

/* The lists of columns of each row as bool[layouts, rows + 1, rows + 1], whose last row and column take what is behind the ends. */
static Val block_mask(Imp *m, Val rows, Val cols)
{
    Dim d[2], n, r;
    if (rank_of(m, rows) != 2 || rank_of(m, cols) != 2) {
        ERR(m, "E0203", "expected block_row_indices and block_col_indices of rank 2");
        return (Val){0};
    }
    dims_of(m, cols, d);
    r = dim_addi(m->c, dim_of(m, rows, 1), -1);
    n = dim_addi(m->c, r, 1);
    b_guard(&m->b, G_EQ, dim_of(m, rows, 0), d[0], "block_row_indices and block_col_indices have different numbers of layouts");
    rows = cast_to(m, rows, DT_I64);
    cols = cast_to(m, cols, DT_I64);
    Expr next = X2(ADD, xaxis(m, 2), XI(1)), end = load_at(m, 0, DT_I64, 2, (Expr[]){xaxis(m, 0), next});
    Val past = map_over(m, expr_cast(m->c, X2(LE, end, xaxis(m, 1)), DT_I64), 1, &rows, 3, (Dim[]){d[0], d[1], r});
    Val in[2] = {b_reduce1(&m->b, R_SUM, past, 4, false), cols};
    Expr at[2] = {xaxis(m, 0), xaxis(m, 1)}, row = load_at(m, 0, DT_I64, 2, at), col = load_at(m, 1, DT_I64, 2, at);
    Expr out = X2(OR, X2(LT, col, XI(0)), X2(GE, col, xdim(m, r))), which = xaxis(m, 2);
    Expr e = X3(SELECT, X2(EQ, which, XI(0)), xaxis(m, 0), X3(SELECT, X2(EQ, which, XI(1)), row, X3(SELECT, out, xdim(m, r), col)));
    Val tuple = map_over(m, e, 2, in, 3, (Dim[]){d[0], d[1], DC(m, 3)});
    Val none = b_splat(&m->b, (Scalar){.t = DT_BOOL}, 3, (Dim[]){d[0], n, n});
    Val all = b_splat(&m->b, (Scalar){.t = DT_BOOL, .i = 1}, 2, d);
    ScatterAttr a = {.mode = SC_SET};
    return b_scatter(&m->b, none, tuple, all, &a);
}

void imp_ms_sparse(Imp *m)
{
    Gqa g = {.window = -1};
    Scores s;
    DType t = dtype_of(m, m->in[0]);
    int64_t size = attr_i(m, "sparse_block_size");
    if (size < 1 || rank_of(m, m->in[PAST_K]) != 4 || rank_of(m, m->in[PAST_V]) != 4) {
        ERR(m, "E0203", "expected caches of rank 4 and a positive sparse_block_size, got %lld", (long long)size);
        return;
    }
    if (!read_heads(m, &g) || !operand_dim(m, m->in[SP_TOTAL], "total_sequence_length", 0, DIM_INF, &g.total))
        return;
    g.cache = dim_of(m, m->in[PAST_K], 2);
    b_guard(&m->b, G_LE, g.total, g.cache, "total_sequence_length is larger than the cache");
    g.lens = per_entry(m, &g, m->in[SP_LENS]);
    g.cos = operand(m, SP_COS);
    g.sin = operand(m, SP_SIN);
    Val mask = block_mask(m, m->in[SP_ROWS], m->in[SP_COLS]);
    if (!mask.i || !lengths(m, &g) || (attr_i(m, "do_rotary") && !turned(m, &g)))
        return;
    Store plain = {.type = t};
    result(m, 1, cached(m, &g, m->in[PAST_K], &plain, &g.k));
    result(m, 2, cached(m, &g, m->in[PAST_V], &plain, &g.v));
    if (!scores_of(m, &g.q, &g.k, &s))
        return;
    scores_scale(m, &s, attr_f(m, "scale") != 0, attr_f(m, "scale"), g.q.size);
    Expr b = s.at[0], at = X2(ADD, s.at[2], load_at(m, 1, DT_I64, 1, &b)), key = s.at[3];
    Expr seen = X2(AND, X2(LT, key, load_at(m, 2, DT_I64, 1, &b)), X2(LE, key, at));
    Expr layout = X2(MOD, s.at[1], xdim(m, dim_of(m, mask, 0))), block[3] = {layout, X2(FDIV, at, XI(size)), X2(FDIV, key, XI(size))};
    seen = X2(AND, seen, expr_load(m->c, 3, DT_BOOL, 3, block, OOB_VALUE, expr_int(m->c, DT_BOOL, 0), 0));
    scores_keep(m, &s, seen, -INFINITY, 3, (Val[]){g.before, g.after, mask});
    scores_softmax(m, &s);
    s.v = cast_to(m, s.v, t);
    result(m, 0, scores_times(m, &s, &g.v, true, t));
}
