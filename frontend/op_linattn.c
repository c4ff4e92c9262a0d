/* op_linattn.c: linear attention: a state per head, [K, V], that every token decays, corrects and adds its key and value to,
 * and that its query reads. A loop over tokens; the state is kept in f32 for narrow floats. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

void imp_linearattention(Imp *m);

enum { MAX_WINDOW = 8 };

typedef struct Lin {
    Imp *m;
    DType w;                            /* in which all is computed */
    Dim batch, len, kv, heads, many;    /* key heads = heads * many / group; one of many and group is 1 */
    Dim group, k, v;                    /* sizes of keys and values */
    bool decays, corrects;
    int window;                         /* states that are kept, 0: only the last */
} Lin;

/* [B, T, n * size] as [B, T, n, size] in the wide type */
static Val unpack(Lin *l, Val v, Dim n, Dim size)
{
    Imp *m = l->m;
    return reshape_to(m, cast_to(m, v, l->w), 4, (Dim[]){l->batch, l->len, n, size});
}

/* One token. in: q [B, T, Hq, K], k [B, T, H, K], v [B, T, H, V], decay [B, T, H, K or 1], beta [B, T, H or 1, 1], the last two
 * maybe absent. */
static Graph *body(Lin *l, const Val *in, int nin)
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
    Val x[5] = {0};
    for (int i = 0; i < nin; i++)
        if (in[i].i)
            x[i] = b_gather(&inner.b, graph_input(g, "", *val_type(m->b.g, in[i])), iter, 1, OOB_FAIL);
    Imp *n = &inner;
    if (l->decays) {
        Val f = insert_axes(n, b_unary(&n->b, S_EXP, x[3]), 4, 1u << 3);
        s = map_over(n, text_expr(n, "a * b", l->w, 2), 2, (Val[]){s, f}, 4, sd);
    }
    Val v = x[2];
    if (l->corrects) {
        Val known = b_contract(&n->b, "bhkv,bhk->bhv", s, x[1], l->w, l->w);
        v = map_over(n, text_expr(n, "c * (a - b)", l->w, 3), 3, (Val[]){v, known, x[4]}, 3, (Dim[]){sd[0], sd[1], sd[3]});
    }
    s = map_over(n, text_expr(n, "a + b * c", l->w, 3), 3,
                 (Val[]){s, insert_axes(n, x[1], 4, 1u << 3), insert_axes(n, v, 4, 1u << 2)}, 4, sd);
    bool shared = dim_is(m->c, l->many, 1);
    Val q = reshape_to(n, x[0], 4, (Dim[]){l->batch, l->heads, l->group, l->k});
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
    return g;
}

static bool sizes(Lin *l)
{
    Imp *m = l->m;
    int64_t nq = attr_i(m, "q_num_heads"), nk = attr_i(m, "kv_num_heads");
    bool inverse = row_has_attr(m->row, "state_window"); /* that standard lets query heads be shared */
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
    b_guard(&m->b, G_EQ, dim_mul(m->c, l->k, kv), dim_of(m, m->in[1], 2), "queries and keys must have heads of one size");
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
    int64_t window = row_has_attr(m->row, "state_window") ? attr_i(m, "state_window") : 0, n;
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
    Val in[5] = {unpack(&l, m->in[0], dim_mul(m->c, l.heads, l.group), l.k), unpack(&l, m->in[1], l.kv, l.k),
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
    Val args[9] = {b_dim_scalar(&m->b, l.len), (Val){0}, first_state(&l)}, out[3];
    int nargs = 3, carried = l.window ? 2 : 1;
    if (l.window)
        args[nargs++] = b_splat(&m->b, dt_convert((Scalar){.t = DT_I64, .i = 0}, l.w), 5,
                                (Dim[]){DC(m, l.window), l.batch, l.kv, l.k, l.v});
    for (int i = 0; i < 5; i++)
        if (in[i].i)
            args[nargs++] = in[i];
    for (int i = 2; i < nargs; i++)
        if (!args[i].i)
            return;
    b_loop(&m->b, body(&l, in, 5), carried, 1, nargs, args, out);
    Val y = b_permute(&m->b, out[carried], (int[]){1, 0, 2, 3, 4});
    Expr scale = attr_f(m, "scale") != 0          ? xf(m, l.w, attr_f(m, "scale"))
                 : dim_is_const(m->c, l.k, &n) ? xf(m, l.w, 1 / sqrt((double)n))
                                               : X1(RSQRT, expr_cast(m->c, xdim(m, l.k), l.w));
    y = y.i ? b_map1(&m->b, X2(MUL, xarg(m, 0, l.w), scale), 1, &y) : y;
    Dim width = dim_mul(m->c, count_of(m, (Dim[]){l.heads, l.group, l.many}, 3), l.v);
    result(m, 0, cast_to(m, reshape_to(m, y, 3, (Dim[]){l.batch, l.len, width}), t));
    result(m, 1, cast_to(m, out[carried - 1], ts));
}
