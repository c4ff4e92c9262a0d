/* op_linattn.c: linear attention: a state per head, [K, V], that every token decays, corrects and adds its key and value to,
 * and that its query reads. A loop over tokens; the state is kept in f32 for narrow floats. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(linearattention); FN(gateddeltanet);

enum { MAX_WINDOW = 8, TOKENS = 6 };
enum { QUERY, KEY, VALUE, DECAY, BETA, VALID };

typedef struct Lin {
    Imp *m;
    DType w;                            /* in which all is computed */
    Dim batch, len, kv, heads, many;    /* kv, the heads of values and states, = heads * many; one of many and group is 1 */
    Dim group, keys;                    /* queries = heads * group; keys: heads of keys, each for kv / keys states */
    Dim k, v;                           /* sizes of keys and values */
    bool decays, corrects;
    int window;                         /* states that are kept, 0: only the last */
    bool deltas;                        /* what tokens added to the state is wanted, too */
} Lin;

/* [B, T, n * size] as [B, T, n, size] in the wide type */
static Val unpack(Lin *l, Val v, Dim n, Dim size)
{
    Imp *m = l->m;
    return reshape_to(m, cast_to(m, v, l->w), 4, (Dim[]){l->batch, l->len, n, size});
}

/* [B, T, n, K] once for each state */
static Val each_state(Lin *l, Val v, Dim n)
{
    Imp *m = l->m;
    if (!v.i || dim_same(m->c, n, l->kv))
        return v;
    Dim d[5] = {l->batch, l->len, n, dim_floordiv(m->c, l->kv, dim_max(m->c, n, DC(m, 1))), l->k};
    v = b_broadcast(&m->b, insert_axes(m, v, 5, 1u << 3), 5, d);
    return reshape_to(m, v, 4, (Dim[]){d[0], d[1], l->kv, l->k});
}

/* One token. in: q [B, T, Hq, K], k [B, T, H, K], v [B, T, H, V], decay [B, T, H, K or 1], beta [B, T, H or 1, 1], valid i64[B]:
 * tokens of each entry, behind which the state stays as it is; the last three may be absent. */
static Graph *body(Lin *l, const Val *in)
{
    Imp *m = l->m;
    Graph *g = graph_new(m->c, "token", m->b.g);
    B b = builder(g, m->b.loc);
    Imp inner = *m;
    inner.b = b;
    Dim sd[4] = {l->batch, l->kv, l->k, l->v}, wd[5] = {DC(m, l->window), sd[0], sd[1], sd[2], sd[3]};
    Val iter = graph_input(g, "iter", type_tensor(m->c, DT_I64, 0, NULL));
    Val go = graph_input(g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    Val s = graph_input(g, "state", type_tensor(m->c, l->w, 4, sd)), past = {0};
    if (l->window)
        past = graph_input(g, "states", type_tensor(m->c, l->w, 5, wd));
    Val x[TOKENS] = {0}, before = s;
    for (int i = 0; i < TOKENS; i++)
        if (in[i].i)
            x[i] = graph_input(g, "", *val_type(m->b.g, in[i]));
    for (int i = 0; i < VALID; i++)
        x[i] = x[i].i ? b_gather(&inner.b, x[i], iter, 1, OOB_FAIL) : x[i];
    Imp *n = &inner;
    if (l->decays) {
        Val f = insert_axes(n, b_unary(&n->b, S_EXP, x[DECAY]), 4, 1u << 3);
        s = map_over(n, text_expr(n, "a * b", l->w, 2), 2, (Val[]){s, f}, 4, sd);
    }
    Val v = x[VALUE];
    if (l->corrects) {
        Val known = b_contract(&n->b, "bhkv,bhk->bhv", s, x[KEY], l->w, l->w);
        v = map_over(n, text_expr(n, "c * (a - b)", l->w, 3), 3, (Val[]){v, known, x[BETA]}, 3, (Dim[]){sd[0], sd[1], sd[3]});
    }
    s = map_over(n, text_expr(n, "a + b * c", l->w, 3), 3,
                 (Val[]){s, insert_axes(n, x[KEY], 4, 1u << 3), insert_axes(n, v, 4, 1u << 2)}, 4, sd);
    if (x[VALID].i) {
        Expr b0 = xaxis(m, 0), more = X2(LT, xarg(m, 2, DT_I64), load_at(m, 3, DT_I64, 1, &b0));
        s = map_over(n, X3(SELECT, more, xarg(m, 0, l->w), xarg(m, 1, l->w)), 4, (Val[]){s, before, iter, x[VALID]}, 4, sd);
    }
    bool shared = dim_is(m->c, l->many, 1);
    Val q = reshape_to(n, x[QUERY], 4, (Dim[]){l->batch, l->heads, l->group, l->k});
    Val y;
    if (shared) {
        y = b_contract(&n->b, "bhgk,bhkv->bhgv", q, s, l->w, l->w);
    } else {
        Val wide = reshape_to(n, s, 5, (Dim[]){l->batch, l->heads, l->many, l->k, l->v});
        y = b_contract(&n->b, "bhk,bhrkv->bhrv", drop_axes(n, q, 1u << 2), wide, l->w, l->w);
    }
    graph_output(g, "cond", go);
    graph_output(g, "state", s);
    if (l->window) {
        Val kept = b_slice_axis(&n->b, past, 0, DC(m, 1), DC(m, l->window - 1));
        graph_output(g, "states", b_concat(&n->b, 2, (Val[]){kept, insert_axes(n, s, 5, 1)}, 0));
    }
    graph_output(g, "y", y);
    if (l->deltas)
        graph_output(g, "delta", v);
    return g;
}

/* All tokens, from `state` on. out: the last state, the states if a window is kept, results [T, B, ..] scaled by attribute
 * scale or 1/sqrt(K), deltas [T, B, H, V] if they are wanted. */
static bool recur(Lin *l, const Val *in, Val state, Val *out)
{
    Imp *m = l->m;
    Val args[4 + TOKENS] = {b_dim_scalar(&m->b, l->len), (Val){0}, state};
    int n = 3, carried = l->window ? 2 : 1;
    int64_t size;
    if (l->window)
        args[n++] = b_splat(&m->b, dt_convert((Scalar){.t = DT_I64, .i = 0}, l->w), 5,
                            (Dim[]){DC(m, l->window), l->batch, l->kv, l->k, l->v});
    for (int i = 0; i < TOKENS; i++)
        if (in[i].i)
            args[n++] = in[i];
        else if (i < DECAY)
            return false;
    if (!state.i)
        return false;
    b_loop(&m->b, body(l, in), carried, l->deltas ? 2 : 1, n, args, out);
    Expr scale = attr_f(m, "scale") != 0           ? xf(m, l->w, attr_f(m, "scale"))
                 : dim_is_const(m->c, l->k, &size) ? xf(m, l->w, 1 / sqrt((double)size))
                                                   : X1(RSQRT, expr_cast(m->c, xdim(m, l->k), l->w));
    Val *y = &out[carried];
    *y = y->i ? b_map1(&m->b, X2(MUL, xarg(m, 0, l->w), scale), 1, y) : *y;
    return y->i != 0;
}

static bool sizes(Lin *l)
{
    Imp *m = l->m;
    int64_t nq = attr_i(m, "q_num_heads"), nk = attr_i(m, "kv_num_heads");
    bool inverse = row_has_attr(m->row, "state_window"); /* that standard lets heads of queries and of keys be shared */
    if (nq < 1 || nk < 1 || (nq % nk && (!inverse || nk % nq))) {
        ERR(m, "E0202", "%lld query heads are no multiple of %lld key heads", (long long)nq, (long long)nk);
        return false;
    }
    for (int i = 0; i < 6; i++)
        if (present(m, (uint32_t)i) && i != 3 && rank_of(m, m->in[i]) != 3) {
            ERR(m, "E0203", "operand %d: expected rank 3, got %d", i, rank_of(m, m->in[i]));
            return false;
        }
    Dim d[3], n = DC(m, nq), kv = DC(m, nk);
    dims_of(m, m->in[0], d);
    l->batch = d[0];
    l->len = d[1];
    l->kv = kv;
    l->heads = DC(m, nq < nk ? nq : nk);
    l->group = DC(m, nq < nk ? 1 : nq / nk);
    l->many = DC(m, nq < nk ? nk / nq : 1);
    l->k = dim_floordiv(m->c, d[2], n);
    l->v = dim_floordiv(m->c, dim_of(m, m->in[2], 2), kv);
    b_guard(&m->b, G_EQ, dim_mod(m->c, d[2], n), DC(m, 0), "the size of the queries must be divisible by q_num_heads");
    l->keys = inverse ? dim_floordiv(m->c, dim_of(m, m->in[1], 2), dim_max(m->c, l->k, DC(m, 1))) : kv;
    b_guard(&m->b, G_EQ, dim_mul(m->c, l->k, l->keys), dim_of(m, m->in[1], 2), "queries and keys must have heads of one size");
    b_guard(&m->b, G_EQ, dim_mul(m->c, l->keys, dim_floordiv(m->c, kv, dim_max(m->c, l->keys, DC(m, 1)))), kv,
            "kv_num_heads must be a multiple of the heads of keys");
    b_guard(&m->b, G_EQ, dim_mul(m->c, l->v, kv), dim_of(m, m->in[2], 2), "the size of the values must be divisible by kv_num_heads");
    return true;
}

/* The state before the first token. */
static Val first_state(Lin *l)
{
    Imp *m = l->m;
    Val past = operand(m, 3);
    Dim d[4] = {l->batch, l->kv, l->k, l->v};
    Scalar zero = dt_convert((Scalar){.t = DT_I64, .i = 0}, l->w);
    if (!past.i)
        return b_splat(&m->b, zero, 4, d);
    if (rank_of(m, past) != (l->window ? 5 : 4)) {
        ERR(m, "E0203", "past_state: expected rank %d, got %d", l->window ? 5 : 4, rank_of(m, past));
        return (Val){0};
    }
    if (l->window) {
        b_guard(&m->b, G_EQ, dim_of(m, past, 0), DC(m, l->window), "past_state must hold state_window states");
        past = drop_axes(m, b_slice_axis(&m->b, past, 0, DC(m, l->window - 1), DC(m, 1)), 1);
    }
    for (int i = 0; i < 4; i++)
        b_guard(&m->b, G_EQ, dim_of(m, past, i), d[i], "past_state does not fit the other operands");
    return reshape_to(m, cast_to(m, past, l->w), 4, d);
}

void imp_linearattention(Imp *m)
{
    DType t = dtype_of(m, m->in[0]), ts = present(m, 3) ? dtype_of(m, m->in[3]) : t;
    const char *rule = attr_s(m, "update_rule");
    int64_t window = row_has_attr(m->row, "state_window") ? attr_i(m, "state_window") : 0;
    Lin l = {.m = m, .w = wide_type(t), .decays = strstr(rule, "gated") != NULL, .corrects = strstr(rule, "delta") != NULL};
    if (window < 0 || window > MAX_WINDOW) {
        ERR(m, "E0202", "attribute state_window: expected 0 to %d, got %lld", MAX_WINDOW, (long long)window);
        return;
    }
    l.window = (int)window;
    if ((l.decays && !present(m, 4)) || (l.corrects && !present(m, 5))) {
        ERR(m, "E0205", "update_rule %s needs operand %s", rule, l.decays && !present(m, 4) ? "decay" : "beta");
        return;
    }
    if (!sizes(&l))
        return;
    Dim one = DC(m, 1);
    Val in[TOKENS] = {unpack(&l, m->in[0], dim_mul(m->c, l.heads, l.group), l.k), each_state(&l, unpack(&l, m->in[1], l.keys, l.k), l.keys),
                        unpack(&l, m->in[2], l.kv, l.v)};
    if (l.decays) { /* per head, or per element of the key */
        Dim width = dim_of(m, m->in[4], 2), each = dim_floordiv(m->c, width, l.kv);
        b_guard(&m->b, G_EQ, width, dim_mul(m->c, each, l.kv), "the size of decay must be divisible by kv_num_heads");
        b_guard(&m->b, G_BCAST, each, l.k, "decay must have one number per head or per element of a key");
        in[3] = unpack(&l, m->in[4], l.kv, each);
    }
    if (l.corrects) {
        b_guard(&m->b, G_BCAST, dim_of(m, m->in[5], 2), l.kv, "beta must have one number per key head, or one");
        in[4] = unpack(&l, m->in[5], dim_of(m, m->in[5], 2), one);
    }
    Val out[4];
    if (!recur(&l, in, first_state(&l), out))
        return;
    int carried = l.window ? 2 : 1;
    Val y = b_permute(&m->b, out[carried], (int[]){1, 0, 2, 3, 4});
    Dim width = dim_mul(m->c, count_of(m, (Dim[]){l.heads, l.group, l.many}, 3), l.v);
    result(m, 0, cast_to(m, reshape_to(m, y, 3, (Dim[]){l.batch, l.len, width}), t));
    result(m, 1, cast_to(m, out[carried - 1], ts));
}

/* ---- GatedDeltaNet: tokens of all entries one behind the other, queries and keys shared by heads of values, state [V, K] */

enum { D_QUERY, D_KEY, D_VALUE, D_CU, D_DECAY, D_BETA, D_STATE, D_ALOG, D_BIAS, D_COUNT, D_ACTIVE };

typedef struct Packed {
    Lin l;
    Dim tokens, hq;                     /* of queries and keys */
    bool four;                          /* operands are [B, S, ..] already */
    Val cu;                             /* ragged: i64[B + 1], where entries begin; else poison */
} Packed;

/* [tokens, ..] or [B, S, ..] as [B, S, ..], zeros behind the ends; rest: the dims behind */
static Val by_entry(Packed *p, Val v, int n, const Dim *rest)
{
    Imp *m = p->l.m;
    Dim d[MAX_RANK] = {p->l.batch, p->l.len};
    if (!v.i)
        return v;
    v = cast_to(m, v, p->l.w);
    memcpy(d + 2, rest, sizeof *d * (size_t)n);
    if (!p->cu.i)
        return reshape_to(m, v, n + 2, d);
    Dim flat[MAX_RANK] = {p->tokens};
    memcpy(flat + 1, rest, sizeof *d * (size_t)n);
    v = reshape_to(m, v, n + 1, flat);
    Expr b = xaxis(m, 0), next = X2(ADD, b, XI(1)), at[MAX_RANK];
    Expr token = X2(ADD, xaxis(m, 1), load_at(m, 1, DT_I64, 1, &b)), end = load_at(m, 1, DT_I64, 1, &next);
    at[0] = token;
    for (int i = 0; i < n; i++)
        at[1 + i] = xaxis(m, 2 + i);
    Expr zero = xf(m, p->l.w, 0), x = expr_load(m->c, 0, p->l.w, n + 1, at, OOB_VALUE, zero, 0);
    return map_over(m, X3(SELECT, X2(LT, token, end), x, zero), 2, (Val[]){v, p->cu}, n + 2, d);
}

/* [B, S, Hq, K], normalised if the node says so */
static Val query_heads(Packed *p, Val v)
{
    Imp *m = p->l.m;
    v = by_entry(p, v, 2, (Dim[]){p->hq, p->l.k});
    if (!v.i || !attr_i(m, "qk_l2_norm"))
        return v;
    Val sum = b_reduce1(&m->b, R_SUM, map_text(m, "a * a", 1, &v), 1u << 3, true);
    return map_text(m, "a / sqrt(b + 1e-12)", 2, (Val[]){v, sum});
}

/* The sizes, from the operands' shapes; packed rows are taken apart into in[0..2]. */
static bool packed_sizes(Packed *p, Val *in)
{
    Imp *m = p->l.m;
    Lin *l = &p->l;
    Ctx *c = m->c;
    int r = rank_of(m, m->in[D_QUERY]);
    bool apart = present(m, D_KEY) && present(m, D_VALUE);
    Val state = operand(m, D_STATE), cu = operand(m, D_CU);
    Dim d[4], sd[4];
    if ((apart ? r != 3 && r != 4 : r != 2 && r != 3) || present(m, D_KEY) != present(m, D_VALUE) || (!apart && !state.i) ||
        (apart && (rank_of(m, m->in[D_KEY]) != r || rank_of(m, m->in[D_VALUE]) != r)) || (cu.i && rank_of(m, cu) != 1) ||
        (state.i && rank_of(m, state) != 4)) {
        ERR(m, "E0203", "expected queries, keys and values of rank 3 or 4, or packed rows and an initial_state of rank 4");
        return false;
    }
    dims_of(m, m->in[D_QUERY], d);
    p->four = r == (apart ? 4 : 3);
    if (state.i)
        dims_of(m, state, sd);
    p->tokens = p->four ? dim_mul(c, d[0], d[1]) : d[0];
    for (int i = 0; i < 3; i++)
        in[i] = m->in[i];
    if (apart) {
        p->hq = d[r - 2];
        l->k = d[r - 1];
        l->kv = dim_of(m, in[VALUE], rank_of(m, in[VALUE]) - 2);
        l->v = dim_of(m, in[VALUE], rank_of(m, in[VALUE]) - 1);
    } else {
        l->kv = sd[1];
        l->v = sd[2];
        l->k = sd[3];
        Dim vs = dim_mul(c, l->kv, l->v), qs = dim_floordiv(c, dim_sub(c, d[r - 1], vs), DC(m, 2));
        p->hq = dim_floordiv(c, qs, dim_max(c, l->k, DC(m, 1)));
        in[QUERY] = b_slice_axis(&m->b, m->in[0], r - 1, DC(m, 0), qs);
        in[KEY] = b_slice_axis(&m->b, m->in[0], r - 1, qs, qs);
        in[VALUE] = b_slice_axis(&m->b, m->in[0], r - 1, dim_add(c, qs, qs), vs);
    }
    b_guard(&m->b, G_EQ, dim_mod(c, l->kv, dim_max(c, p->hq, DC(m, 1))), DC(m, 0),
            "the heads of values must be a multiple of those of queries");
    if (cu.i) {
        p->cu = cast_to(m, cu, DT_I64);
        l->batch = dim_addi(c, dim_of(m, cu, 0), -1);
        Expr i = xaxis(m, 0), next = X2(ADD, i, XI(1));
        in[VALID] = map_over(m, X2(SUB, load_at(m, 0, DT_I64, 1, &next), load_at(m, 0, DT_I64, 1, &i)), 1, &p->cu, 1, &l->batch);
        l->len = b_bind(&m->b, b_reduce1(&m->b, R_MAX, in[VALID], 1, false), 0, "longest", 0, DIM_INF);
    } else if (p->four) {
        l->batch = d[0];
        l->len = d[1];
    } else {
        l->batch = state.i ? sd[0] : DC(m, 1);
        l->len = dim_floordiv(c, p->tokens, dim_max(c, l->batch, DC(m, 1)));
        b_guard(&m->b, G_EQ, dim_mul(c, l->len, l->batch), p->tokens, "the tokens must be divisible by the batch size");
    }
    return true;
}

/* What a gate of the node makes of the decay [B, S, H, 1 or K]. */
static Val gated(Packed *p, Val x)
{
    Imp *m = p->l.m;
    const char *kind = attr_s(m, "gate_activation");
    Val a = operand(m, D_ALOG), bias = operand(m, D_BIAS);
    if (!strcmp(kind, "none"))
        return x;
    if (!a.i || !bias.i || rank_of(m, a) != 1) {
        ERR(m, "E0205", "gate_activation needs operands a_log of rank 1 and dt_bias");
        return (Val){0};
    }
    const Type bt = *val_type(m->b.g, bias);
    Dim n = type_count(m->c, &bt), each = dim_floordiv(m->c, n, dim_max(m->c, p->l.kv, DC(m, 1)));
    Val in[3] = {x, cast_to(m, insert_axes(m, a, 2, 2), p->l.w), cast_to(m, reshape_to(m, bias, 2, (Dim[]){p->l.kv, each}), p->l.w)};
    bool soft = !strcmp(kind, "softplus") || !strcmp(kind, "qwen");
    return map_text(m, soft ? "0 - exp(b) * (max(a + c, 0) + log1p(exp(0 - abs(a + c))))" : "$gate_lower_bound * sigmoid(exp(b) * (a + c))", 3, in);
}

/* y [T, B, H, 1, V] back to the order of the tokens */
static Val by_token(Packed *p, Val y)
{
    Imp *m = p->l.m;
    Lin *l = &p->l;
    Dim d[4] = {l->batch, l->len, l->kv, l->v}, flat[3] = {p->tokens, l->kv, l->v};
    y = drop_axes(m, y, 1u << 3);
    if (!p->cu.i) {
        y = b_permute(&m->b, y, (int[]){1, 0, 2, 3});
        return p->four ? reshape_to(m, y, 4, d) : reshape_to(m, y, 3, flat);
    }
    Expr next = X2(ADD, xaxis(m, 1), XI(1)), token = xaxis(m, 0);
    Val past = map_over(m, expr_cast(m->c, X2(LE, load_at(m, 0, DT_I64, 1, &next), token), DT_I64), 1, &p->cu, 2,
                        (Dim[]){p->tokens, l->batch});
    Val owner = b_reduce1(&m->b, R_SUM, past, 2, false);
    Expr entry = load_at(m, 1, DT_I64, 1, &token), at = X2(SUB, token, load_at(m, 2, DT_I64, 1, &entry));
    return map_over(m, load_at(m, 0, l->w, 4, (Expr[]){at, entry, xaxis(m, 1), xaxis(m, 2)}), 3, (Val[]){y, owner, p->cu}, 3, flat);
}

/* The first `cap` tokens of v [T, B, ..] of each entry as [B, cap * ..]; zeros behind the last token and behind count [B]. */
static Val captured(Imp *m, Val v, int64_t cap, Val count)
{
    Dim d[MAX_RANK], o[MAX_RANK];
    int r = rank_of(m, v);
    Expr at[MAX_RANK], entry = xaxis(m, 0);
    dims_of(m, v, d);
    for (int i = 0; i < r; i++) {
        o[i] = i > 1 ? d[i] : i ? DC(m, cap) : d[1];
        at[i] = xaxis(m, i > 1 ? i : 1 - i);
    }
    DType t = dtype_of(m, v);
    Expr zero = xf(m, t, 0), kept = X2(LT, xaxis(m, 1), load_at(m, 1, DT_I64, 1, &entry));
    Expr x = X3(SELECT, kept, expr_load(m->c, 0, t, r, at, OOB_VALUE, zero, 0), zero);
    return reshape_to(m, map_over(m, x, 2, (Val[]){v, count}, r, o), 2, (Dim[]){d[1], count_of(m, o + 1, r - 1)});
}

/* Decays, keys and deltas of the first tokens, by which a reader makes the state after any of them. */
static void transitions(Packed *p, const Val *in, Val keys, Val deltas)
{
    Imp *m = p->l.m;
    int64_t cap = attr_i(m, "state_update_capacity");
    Lin *l = &p->l;
    Scalar on = {.t = DT_I32, .i = 1};
    if (!wanted(m, 2))
        return;
    Val count = cast_to(m, m->in[D_COUNT], DT_I64);
    if (rank_of(m, count) != 1) {
        ERR(m, "E0203", "capture_count: expected rank 1, got %d", rank_of(m, count));
        return;
    }
    b_guard(&m->b, G_EQ, dim_of(m, count, 0), l->batch, "capture_count needs a number for each entry");
    Val factor = in[DECAY].i ? b_unary(&m->b, S_EXP, in[DECAY]) : b_splat(&m->b, dt_convert((Scalar){.t = DT_I64, .i = 1}, l->w), 4,
                                                                        (Dim[]){l->batch, l->len, l->kv, DC(m, 1)});
    Val part[3] = {factor, keys, deltas};
    for (int i = 0; i < 3; i++)
        part[i] = captured(m, i < 2 ? b_permute(&m->b, part[i], (int[]){1, 0, 2, 3}) : part[i], cap, count);
    Val all = b_concat(&m->b, 3, part, 1);
    if (present(m, D_ACTIVE) && !(const_scalar(m, m->in[D_ACTIVE], &on) && on.i)) {
        Val active = cast_to(m, only_element(m, m->in[D_ACTIVE]), l->w);
        all = map_text(m, "select(b == 0, 0, a)", 2, (Val[]){all, active});
    }
    result(m, 2, all);
}

void imp_gateddeltanet(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    const char *rule = attr_s(m, "update_rule");
    int64_t cap = attr_i(m, "state_update_capacity");
    Packed p = {.l = {.m = m, .w = DT_F32, .decays = strstr(rule, "gated") != NULL, .corrects = strstr(rule, "delta") != NULL,
                      .deltas = wanted(m, 2)}};
    Lin *l = &p.l;
    Val in[TOKENS] = {0}, out[4], state = operand(m, D_STATE), keys;
    if ((l->decays && !present(m, D_DECAY)) || (l->corrects && !present(m, D_BETA))) {
        ERR(m, "E0205", "update_rule %s needs operand %s", rule, l->decays && !present(m, D_DECAY) ? "decay" : "beta");
        return;
    }
    if (cap < 0 || cap > MAX_WINDOW || (wanted(m, 2) && (!cap || !present(m, D_COUNT)))) {
        ERR(m, "E0202", "state_update needs operand capture_count and a state_update_capacity of 1 to %d, got %lld", MAX_WINDOW, (long long)cap);
        return;
    }
    if (!packed_sizes(&p, in))
        return;
    Dim one = DC(m, 1);
    l->heads = l->kv;
    l->group = l->many = one;
    keys = query_heads(&p, in[KEY]);
    in[QUERY] = each_state(l, query_heads(&p, in[QUERY]), p.hq);
    in[KEY] = each_state(l, keys, p.hq);
    in[VALUE] = by_entry(&p, in[VALUE], 2, (Dim[]){l->kv, l->v});
    if (l->decays) {
        Val decay = m->in[D_DECAY];
        const Type dt = *val_type(m->b.g, decay);
        Dim each = dim_floordiv(m->c, type_count(m->c, &dt), dim_max(m->c, dim_mul(m->c, p.tokens, l->kv), one));
        in[DECAY] = gated(&p, by_entry(&p, decay, 2, (Dim[]){l->kv, dt.rank == 2 + p.four ? one : each}));
        if (!in[DECAY].i)
            return;
    }
    if (l->corrects) {
        in[BETA] = by_entry(&p, m->in[D_BETA], 2, (Dim[]){l->kv, one});
        in[BETA] = in[BETA].i && attr_is(m, "beta_activation", "sigmoid") ? b_unary(&m->b, S_SIGMOID, in[BETA]) : in[BETA];
    }
    if (state.i)
        state = b_permute(&m->b, cast_to(m, state, l->w), (int[]){0, 1, 3, 2});
    else
        state = b_splat(&m->b, (Scalar){.t = DT_F32}, 4, (Dim[]){l->batch, l->kv, l->k, l->v});
    if (!recur(l, in, state, out))
        return;
    result(m, 0, cast_to(m, by_token(&p, out[1]), t));
    result(m, 1, b_permute(&m->b, out[0], (int[]){0, 1, 3, 2}));
    transitions(&p, in, keys, out[2]);
}
