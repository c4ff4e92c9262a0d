/* op_attn.c: Attention and FlexAttention, and the pieces of which all importers of attention are made: contract, maps (scale,
 * softcap, mask), softmax, contract. Grouped heads are an axis of the contracts, never copies; operands of rank 3 are viewed
 * as [B, S, H, D] and not transposed. Scores are kept in f32 for narrow floats. */
#include "frontend/attn.h"
#include <math.h>
#include <string.h>

void imp_attention(Imp *m);
void imp_flexattention(Imp *m);

enum { B_, H_, G_, S_, T_, D_, V_ };    /* labels: batch, kv head, head in the group, query, key, sizes of Q and V */

bool heads_of_rows(Imp *m, Val v, int64_t n, const char *count, Heads *h)
{
    Dim d[MAX_RANK];
    int r = rank_of(m, v);
    if (r != 3 || n < 1) {
        ERR(m, r != 3 ? "E0203" : "E0201", r != 3 ? "expected rank 3 or 4, got %d"
                                                  : "attribute %2$s is required for operands of rank %1$d", r, count);
        return false;
    }
    dims_of(m, v, d);
    b_guard(&m->b, G_EQ, dim_mod(m->c, d[2], DC(m, n)), DC(m, 0), "the hidden size must be divisible by %s", count);
    *h = (Heads){v, true, d[0], DC(m, n), d[1], dim_floordiv(m->c, d[2], DC(m, n))};
    h->v = reshape_to(m, v, 4, (Dim[]){h->batch, h->len, h->heads, h->size});
    return true;
}

bool heads_apart(Imp *m, Val v, int64_t n, const char *count, Heads *h)
{
    Dim d[4];
    if (rank_of(m, v) != 4)
        return heads_of_rows(m, v, n, count, h);
    dims_of(m, v, d);
    *h = (Heads){v, false, d[0], d[1], d[2], d[3]};
    return true;
}

void heads_first(Imp *m, Heads *h)
{
    if (h->flat)
        h->v = b_permute(&m->b, h->v, (int[]){0, 2, 1, 3});
    h->flat = false;
}

bool heads_append(Imp *m, Val past, Heads *h)
{
    heads_first(m, h);
    if (!past.i)
        return true;
    if (rank_of(m, past) != 4) {
        ERR(m, "E0203", "past: expected rank 4, got %d", rank_of(m, past));
        return false;
    }
    h->v = b_concat(&m->b, 2, (Val[]){past, h->v}, 2);
    h->len = h->v.i ? dim_of(m, h->v, 2) : h->len;
    return h->v.i != 0;
}

/* The labels of a head tensor: [B, H, (G), L, D] or [B, L, H, (G), D] */
static void label(uint8_t *l, bool flat, bool grouped, int len, int size)
{
    int n = 0;
    l[n++] = B_;
    if (flat)
        l[n++] = (uint8_t)len;
    l[n++] = H_;
    if (grouped)
        l[n++] = G_;
    if (!flat)
        l[n++] = (uint8_t)len;
    l[n++] = (uint8_t)size;
}

/* Head axis h of v as [kv, group]. */
static Val split_heads(Imp *m, Val v, int axis, Dim kv, Dim group)
{
    Dim d[MAX_RANK], o[MAX_RANK];
    int r = rank_of(m, v), n = 0;
    dims_of(m, v, d);
    for (int i = 0; i < r; i++) {
        o[n++] = i == axis ? (dim_is(m->c, d[i], 1) && !dim_is(m->c, kv, 1) ? DC(m, 1) : kv) : d[i];
        if (i == axis)
            o[n++] = dim_is(m->c, d[i], 1) ? DC(m, 1) : group;
    }
    return reshape_to(m, v, r + 1, o);
}

bool scores_of(Imp *m, Heads *q, const Heads *k, Scores *s)
{
    Ctx *c = m->c;
    int64_t nq, nk;
    *s = (Scores){.kv = k->heads, .group = DC(m, 1), .dim = {q->batch, q->heads, q->len, k->len}};
    s->grouped = !dim_same(c, q->heads, k->heads);
    if (s->grouped) {
        if (!dim_is_const(c, q->heads, &nq) || !dim_is_const(c, k->heads, &nk)) {
            b_guard(&m->b, G_EQ, dim_mod(c, q->heads, dim_max(c, k->heads, DC(m, 1))), DC(m, 0),
                    "the query heads must be a multiple of the key heads");
            s->group = dim_floordiv(c, q->heads, dim_max(c, k->heads, DC(m, 1)));
        } else if (nk < 1 || nq % nk) {
            ERR(m, "E0203", "%lld query heads are no multiple of %lld key heads", (long long)nq, (long long)nk);
            return false;
        } else {
            s->group = DC(m, nq / nk);
        }
        q->v = split_heads(m, q->v, q->flat ? 2 : 1, k->heads, s->group);
    }
    int r = s->grouped ? 5 : 4;
    s->at[0] = xaxis(m, 0);
    s->at[1] = s->grouped ? X2(ADD, X2(MUL, xaxis(m, 1), xdim(m, s->group)), xaxis(m, 2)) : xaxis(m, 1);
    s->at[2] = xaxis(m, r - 2);
    s->at[3] = xaxis(m, r - 1);
    if (!q->v.i || !k->v.i)
        return false;
    DType w = wide_type(dtype_of(m, q->v));
    ContractAttr a = {.acc = w, .out = w};
    label(a.label[0], q->flat, s->grouped, S_, D_);
    label(a.label[1], k->flat, false, T_, D_);
    label(a.label[2], false, s->grouped, S_, T_);
    s->v = b_contract_attr(&m->b, &a, q->v, k->v);
    return s->v.i != 0;
}

void scores_map(Imp *m, Scores *s, Expr body, int nin, const Val *in)
{
    Dim d[5];
    Val all[4] = {s->v};
    CHECK(nin < 4);
    if (!s->v.i)
        return;
    for (int i = 0; i < nin; i++)
        all[1 + i] = in[i];
    dims_of(m, s->v, d);
    s->v = map_over(m, body, 1 + nin, all, s->grouped ? 5 : 4, d);
}

void scores_scale(Imp *m, Scores *s, bool given, double scale, Dim size)
{
    int64_t n;
    if (!s->v.i)
        return;
    DType w = dtype_of(m, s->v);
    Expr x = given ? xf(m, w, scale)
             : dim_is_const(m->c, size, &n) ? xf(m, w, 1 / sqrt((double)n))
                                            : X1(RSQRT, expr_cast(m->c, xdim(m, size), w));
    scores_map(m, s, X2(MUL, xarg(m, 0, w), x), 0, NULL);
}

void scores_keep(Imp *m, Scores *s, Expr seen, double low, int nin, const Val *in)
{
    DType t = s->v.i ? dtype_of(m, s->v) : DT_F32;
    scores_map(m, s, X3(SELECT, seen, xarg(m, 0, t), xf(m, t, low)), nin, in);
}

bool scores_mask(Imp *m, Scores *s, Val mask, const char *what)
{
    Dim md[4];
    DType t = s->v.i ? dtype_of(m, s->v) : DT_F32, mt = dtype_of(m, mask);
    int r = rank_of(m, mask);
    if (r < 1 || r > 4 || !(mt == DT_BOOL || dt_is_float(mt) || dt_is_int(mt))) {
        ERR(m, "E0203", "%s of rank %d and type %s", what, r, dt_name(mt));
        return false;
    }
    if (dt_is_int(mt)) { /* numbers to add */
        mask = cast_to(m, mask, t);
        mt = t;
    }
    dims_of(m, mask, md);
    Expr x = xarg(m, 0, t), low = xf(m, t, -INFINITY), idx[4];
    bool fits = true;
    for (int i = 0; i < r; i++) {
        int role = 4 - r + i;
        bool one = dim_is(m->c, md[i], 1), same = dim_same(m->c, md[i], s->dim[role]);
        bool head = role == 1 && s->grouped && !one && dim_is_const(m->c, md[i], NULL);
        fits &= one || same || head;
        if (role < 3 && !same && !one)
            b_guard(&m->b, G_BCAST, md[i], s->dim[role], "%s does not broadcast to the scores", what);
        idx[i] = role == 3 && !one ? s->at[3] : X2(MIN, s->at[role], xdim(m, dim_addi(m->c, md[i], -1)));
    }
    Expr e;
    if (fits) {
        mask = s->grouped && r >= 3 ? split_heads(m, mask, r - 3, s->kv, s->group) : mask;
        e = xarg(m, 1, mt);
    } else {
        Expr fill = mt == DT_BOOL ? expr_int(m->c, DT_BOOL, 0) : xf(m, mt, -INFINITY);
        e = expr_load(m->c, 1, mt, r, idx, OOB_VALUE, fill, 0);
    }
    e = mt == DT_BOOL ? X3(SELECT, e, x, low) : X2(ADD, x, expr_cast(m->c, e, t));
    scores_map(m, s, e, 1, &mask);
    return s->v.i != 0;
}

Val scores_flat(Imp *m, const Scores *s)
{
    return reshape_to(m, s->v, 4, s->dim);
}

void scores_softmax(Imp *m, Scores *s)
{
    s->v = s->v.i ? b_softmax(&m->b, s->v, 1u << (s->grouped ? 4 : 3)) : s->v;
}

Val scores_times(Imp *m, const Scores *p, const Heads *v, bool rows, DType t)
{
    if (!p->v.i || !v->v.i)
        return (Val){0};
    ContractAttr y = {.acc = wide_type(dtype_of(m, v->v)), .out = t};
    label(y.label[0], false, p->grouped, S_, T_);
    label(y.label[1], v->flat, false, T_, V_);
    label(y.label[2], rows, p->grouped, S_, V_);
    Val r = b_contract_attr(&m->b, &y, p->v, v->v);
    if (rows)
        return reshape_to(m, r, 3, (Dim[]){p->dim[0], p->dim[2], dim_mul(m->c, p->dim[1], v->size)});
    return reshape_to(m, r, 4, (Dim[]){p->dim[0], p->dim[1], p->dim[2], v->size});
}

/* keeps key <= query + past */
static void causal(Imp *m, Scores *s, Dim past)
{
    scores_keep(m, s, X2(LE, s->at[3], X2(ADD, s->at[2], xdim(m, past))), -INFINITY, 0, NULL);
}

/* keeps key < valid[batch] */
static void unpadded(Imp *m, Scores *s, Val valid)
{
    scores_keep(m, s, X2(LT, s->at[3], load_at(m, 1, DT_I64, 1, &s->at[0])), -INFINITY, 1, &valid);
}

void imp_attention(Imp *m)
{
    Heads q, k, v;
    Scores s;
    DType t = dtype_of(m, m->in[0]), w = wide_type(t), tv = dtype_of(m, m->in[2]);
    Val pk = operand(m, 4), pv = operand(m, 5);
    int64_t mode = attr_i(m, "qk_matmul_output_mode"), nq = attr_i(m, "q_num_heads"), nkv = attr_i(m, "kv_num_heads");
    double cap = attr_f(m, "softcap");
    if (mode < 0 || mode > 3) {
        ERR(m, "E0202", "attribute qk_matmul_output_mode: expected 0 to 3, got %lld", (long long)mode);
        return;
    }
    if (!heads_apart(m, m->in[0], nq, "q_num_heads", &q) || !heads_apart(m, m->in[1], nkv, "kv_num_heads", &k) ||
        !heads_apart(m, m->in[2], nkv, "kv_num_heads", &v))
        return;
    DType soft = attr_dtype(m, "softmax_precision", w);
    if (!soft)
        return;
    Dim past = pk.i && rank_of(m, pk) == 4 ? dim_of(m, pk, 2) : DC(m, 0);
    bool rows = q.flat;
    if (((pk.i || wanted(m, 1)) && !heads_append(m, pk, &k)) || ((pv.i || wanted(m, 2)) && !heads_append(m, pv, &v)))
        return;
    result(m, 1, k.v);
    result(m, 2, v.v);
    if (!scores_of(m, &q, &k, &s))
        return;
    scores_scale(m, &s, attr_has(m, "scale"), attr_f(m, "scale"), q.size);
    Val stage[4] = {scores_flat(m, &s)}; /* for each mode */
    if (cap > 0)
        scores_map(m, &s, text_expr(m, "$softcap * tanh(a / $softcap)", w, 1), 0, NULL);
    stage[1] = scores_flat(m, &s);
    if (present(m, 3) && !scores_mask(m, &s, m->in[3], "attn_mask"))
        return;
    if (attr_i(m, "is_causal"))
        causal(m, &s, past);
    if (present(m, 6))
        unpadded(m, &s, m->in[6]);
    stage[2] = scores_flat(m, &s);
    s.v = cast_to(m, s.v, dt_bits(soft) < 32 ? w : soft);
    scores_softmax(m, &s);
    stage[3] = scores_flat(m, &s);
    if (wanted(m, 3))
        result(m, 3, cast_to(m, stage[mode], t));
    s.v = cast_to(m, s.v, tv);
    result(m, 0, scores_times(m, &s, &v, rows, t));
}

/* ---- FlexAttention: graphs of the model between the products and the softmax */

/* The scores through the graph of an attribute, which takes and gives [B, H, S, T]. */
static bool through(Imp *m, Scores *s, const char *name)
{
    const SrcAttr *a = attr_find(m, name);
    Dim d[5];
    Val in = scores_flat(m, s), out = {0};
    if (!a || !in.i)
        return in.i != 0;
    if (a->graph[0]->in.n != 1 || a->graph[0]->out.n != 1) {
        ERR(m, "E0208", "attribute %s: expected a graph with one input and one output, got %u and %u", name,
            a->graph[0]->in.n, a->graph[0]->out.n);
        return false;
    }
    const SrcNode *n = m->n;
    if (!import_inline(m, a->graph[0], 1, &in, &out) || !out.i)
        return false;
    CHECK(m->n == n);
    if (rank_of(m, out) != 4 || dtype_of(m, out) != dtype_of(m, in)) {
        Buf b = {.c = m->c};
        type_print(&b, m->c, val_type(m->b.g, out));
        ERR(m, "E0208", "attribute %s: its graph must keep shape and type, and gives %s", name, buf_str(&b));
        return false;
    }
    for (int i = 0; i < 4; i++)
        b_guard(&m->b, G_EQ, dim_of(m, out, i), s->dim[i], "the graph of %s must keep the shape", name);
    dims_of(m, s->v, d);
    s->v = reshape_to(m, out, s->grouped ? 5 : 4, d);
    return s->v.i != 0;
}

void imp_flexattention(Imp *m)
{
    Heads h[3];
    Scores s;
    DType t = dtype_of(m, m->in[0]), soft = attr_dtype(m, "softmax_precision", wide_type(t));
    if (!soft)
        return;
    if (!dt_is_float(soft) || dt_bits(soft) < 16) {
        ERR(m, "E0202", "attribute softmax_precision: %s cannot hold scores", dt_name(soft));
        return;
    }
    for (int i = 0; i < 3; i++) {
        if (rank_of(m, m->in[i]) != 4) {
            ERR(m, "E0203", "expected rank 4, got %d", rank_of(m, m->in[i]));
            return;
        }
        heads_apart(m, m->in[i], 0, "", &h[i]);
    }
    if (!scores_of(m, &h[0], &h[1], &s))
        return;
    scores_scale(m, &s, attr_has(m, "scale"), attr_f(m, "scale"), h[0].size);
    s.v = cast_to(m, s.v, soft);
    if (!through(m, &s, "score_mod"))
        return;
    s.v = cast_to(m, s.v, wide_type(soft));
    scores_softmax(m, &s);
    s.v = cast_to(m, s.v, soft);
    if (!through(m, &s, "prob_mod"))
        return;
    h[2].v = cast_to(m, h[2].v, soft);
    result(m, 0, scores_times(m, &s, &h[2], false, t));
}
