/* op_attn.c: Attention and RotaryEmbedding. Attention is contract, maps (scale, softcap, mask), softmax, contract. Grouped
 * heads are an axis of the contracts, never copies; operands of rank 3 are viewed as [B, S, H, D] and not transposed.
 * Scores are kept in f32 for narrow floats. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

void imp_attention(Imp *m);
void imp_rotary(Imp *m);

enum { B_, H_, G_, S_, T_, D_, V_ };    /* labels: batch, kv head, head in the group, query, key, sizes of Q and V */

typedef struct Heads {
    Val v;
    bool flat;                          /* [B, S, H, D] instead of [B, H, S, D] */
    Dim batch, heads, len, size;
} Heads;

/* Q, K or V with its head axis apart. */
static bool heads(Imp *m, Val v, const char *count, Heads *h)
{
    Dim d[MAX_RANK];
    int r = rank_of(m, v);
    h->v = v;
    if (r == 4) {
        dims_of(m, v, d);
        *h = (Heads){v, false, d[0], d[1], d[2], d[3]};
        return true;
    }
    int64_t n = attr_i(m, count);
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

static void unflatten(Imp *m, Heads *h)
{
    if (h->flat)
        h->v = b_permute(&m->b, h->v, (int[]){0, 2, 1, 3});
    h->flat = false;
}

/* concat(past, new) along the sequence */
static void append(Imp *m, Val past, Heads *h)
{
    unflatten(m, h);
    if (!past.i)
        return;
    if (rank_of(m, past) != 4) {
        ERR(m, "E0203", "past: expected rank 4, got %d", rank_of(m, past));
        h->v = (Val){0};
        return;
    }
    h->v = b_concat(&m->b, 2, (Val[]){past, h->v}, 2);
    h->len = h->v.i ? dim_of(m, h->v, 2) : h->len;
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

/* score + mask, or -inf where a bool mask is false. Sizes that are not known to fit are read by coordinates: one of 1
 * broadcasts, and keys behind the end of the mask are masked. */
static Val masked(Imp *m, Val score, Val mask, bool grouped, Dim kv, Dim group)
{
    Dim sd[MAX_RANK], md[MAX_RANK];
    DType t = dtype_of(m, score), mt = dtype_of(m, mask);
    int r = rank_of(m, mask), rs = rank_of(m, score);
    if (r < 1 || r > 4 || !(mt == DT_BOOL || dt_is_float(mt))) {
        ERR(m, "E0203", "attn_mask of rank %d and type %s", r, dt_name(mt));
        return (Val){0};
    }
    dims_of(m, score, sd);
    dims_of(m, mask, md);
    Expr s = xarg(m, 0, t), low = xf(m, t, -INFINITY), idx[4];
    Dim want[4] = {sd[0], grouped ? dim_mul(m->c, kv, group) : sd[1], sd[rs - 2], sd[rs - 1]};
    Expr at[4] = {xaxis(m, 0), grouped ? X2(ADD, X2(MUL, xaxis(m, 1), xdim(m, group)), xaxis(m, 2)) : xaxis(m, 1),
                  xaxis(m, rs - 2), xaxis(m, rs - 1)};
    bool fits = true;
    for (int i = 0; i < r; i++) {
        int role = 4 - r + i;
        bool one = dim_is(m->c, md[i], 1), same = dim_same(m->c, md[i], want[role]);
        bool head = role == 1 && grouped && !one && dim_is_const(m->c, md[i], NULL);
        fits &= one || same || head;
        if (role < 3 && !same && !one)
            b_guard(&m->b, G_BCAST, md[i], want[role], "attn_mask does not broadcast to the scores");
        idx[i] = role == 3 && !one ? at[3] : X2(MIN, at[role], xdim(m, dim_addi(m->c, md[i], -1)));
    }
    Expr e;
    if (fits) {
        mask = grouped && r >= 3 ? split_heads(m, mask, r - 3, kv, group) : mask;
        e = xarg(m, 1, mt);
    } else {
        Expr fill = mt == DT_BOOL ? expr_int(m->c, DT_BOOL, 0) : xf(m, mt, -INFINITY);
        e = expr_load(m->c, 1, mt, r, idx, OOB_VALUE, fill, 0);
    }
    e = mt == DT_BOOL ? X3(SELECT, e, s, low) : X2(ADD, s, expr_cast(m->c, e, t));
    return map_over(m, e, 2, (Val[]){score, mask}, rs, sd);
}

/* keeps key <= query + past */
static Val causal(Imp *m, Val score, Dim past)
{
    Dim d[MAX_RANK];
    int r = rank_of(m, score);
    DType t = dtype_of(m, score);
    dims_of(m, score, d);
    Expr seen = X2(LE, xaxis(m, r - 1), X2(ADD, xaxis(m, r - 2), xdim(m, past)));
    return map_over(m, X3(SELECT, seen, xarg(m, 0, t), xf(m, t, -INFINITY)), 1, &score, r, d);
}

/* keeps key < valid[batch] */
static Val unpadded(Imp *m, Val score, Val valid)
{
    Dim d[MAX_RANK];
    int r = rank_of(m, score);
    DType t = dtype_of(m, score);
    Expr b = xaxis(m, 0);
    dims_of(m, score, d);
    Expr seen = X2(LT, xaxis(m, r - 1), load_at(m, 1, DT_I64, 1, &b));
    return map_over(m, X3(SELECT, seen, xarg(m, 0, t), xf(m, t, -INFINITY)), 2, (Val[]){score, valid}, r, d);
}

static void scores_out(Imp *m, Val s, Dim heads, DType t)
{
    if (!wanted(m, 3) || !s.i)
        return;
    int r = rank_of(m, s);
    Dim d[MAX_RANK];
    dims_of(m, s, d);
    result(m, 3, cast_to(m, reshape_to(m, s, 4, (Dim[]){d[0], heads, d[r - 2], d[r - 1]}), t));
}

void imp_attention(Imp *m)
{
    Heads q, k, v;
    Ctx *c = m->c;
    DType t = dtype_of(m, m->in[0]), w = wide_type(t), tv = dtype_of(m, m->in[2]);
    Val pk = operand(m, 4), pv = operand(m, 5), mask = operand(m, 3);
    int64_t mode = attr_i(m, "qk_matmul_output_mode"), group = 1, nq, nk;
    double cap = attr_f(m, "softcap");
    if (mode < 0 || mode > 3) {
        ERR(m, "E0202", "attribute qk_matmul_output_mode: expected 0 to 3, got %lld", (long long)mode);
        return;
    }
    if (!heads(m, m->in[0], "q_num_heads", &q) || !heads(m, m->in[1], "kv_num_heads", &k) ||
        !heads(m, m->in[2], "kv_num_heads", &v))
        return;
    DType soft = attr_dtype(m, "softmax_precision", w);
    if (!soft)
        return;
    Dim past = pk.i && rank_of(m, pk) == 4 ? dim_of(m, pk, 2) : DC(m, 0);
    bool rank3 = q.flat;
    if (pk.i || wanted(m, 1))
        append(m, pk, &k);
    if (pv.i || wanted(m, 2))
        append(m, pv, &v);
    result(m, 1, k.v);
    result(m, 2, v.v);
    if (!k.v.i || !v.v.i)
        return;
    bool grouped = !dim_same(c, q.heads, k.heads);
    Dim g = DC(m, 1);
    if (grouped) {
        if (!dim_is_const(c, q.heads, &nq) || !dim_is_const(c, k.heads, &nk)) {
            b_guard(&m->b, G_EQ, dim_mod(c, q.heads, dim_max(c, k.heads, DC(m, 1))), DC(m, 0),
                    "the query heads must be a multiple of the key heads");
            g = dim_floordiv(c, q.heads, dim_max(c, k.heads, DC(m, 1)));
        } else if (nk < 1 || nq % nk) {
            ERR(m, "E0203", "%lld query heads are no multiple of %lld key heads", (long long)nq, (long long)nk);
            return;
        } else {
            group = nq / nk;
            g = DC(m, group);
        }
        q.v = split_heads(m, q.v, q.flat ? 2 : 1, k.heads, g);
    }
    ContractAttr a = {.acc = w, .out = w}, y = {.acc = wide_type(tv), .out = t};
    label(a.label[0], q.flat, grouped, S_, D_);
    label(a.label[1], k.flat, false, T_, D_);
    label(a.label[2], false, grouped, S_, T_);
    Val s = b_contract_attr(&m->b, &a, q.v, k.v);
    Expr scale;
    int64_t size;
    if (attr_has(m, "scale"))
        scale = xf(m, w, attr_f(m, "scale"));
    else if (dim_is_const(c, q.size, &size))
        scale = xf(m, w, 1 / sqrt((double)size));
    else
        scale = X1(RSQRT, expr_cast(c, xdim(m, q.size), w));
    s = s.i ? b_map1(&m->b, X2(MUL, xarg(m, 0, w), scale), 1, &s) : s;
    Val scored = s;
    if (cap > 0)
        s = map_text(m, "$softcap * tanh(a / $softcap)", 1, &s);
    Val capped = s;
    if (mask.i && s.i)
        s = masked(m, s, mask, grouped, k.heads, g);
    if (attr_i(m, "is_causal") && s.i)
        s = causal(m, s, past);
    if (present(m, 6) && s.i)
        s = unpadded(m, s, m->in[6]);
    Val p = s.i ? b_softmax(&m->b, cast_to(m, s, dt_bits(soft) < 32 ? w : soft), 1u << (grouped ? 4 : 3)) : s;
    scores_out(m, mode == 0 ? scored : mode == 1 ? capped : mode == 2 ? s : p, q.heads, t);
    if (!p.i)
        return;
    label(y.label[0], false, grouped, S_, T_);
    label(y.label[1], v.flat, false, T_, V_);
    label(y.label[2], rank3, grouped, S_, V_);
    Val r = b_contract_attr(&m->b, &y, cast_to(m, p, tv), v.v);
    if (rank3)
        r = reshape_to(m, r, 3, (Dim[]){q.batch, q.len, dim_mul(c, q.heads, v.size)});
    else if (grouped)
        r = reshape_to(m, r, 4, (Dim[]){q.batch, q.heads, q.len, v.size});
    result(m, 0, r);
}

/* ---- RotaryEmbedding: (x1, x2) of each pair to (x1*cos - x2*sin, x1*sin + x2*cos) */

/* [.., n] of the last axis from `start` */
static Val part(Imp *m, Val v, Dim start, Dim size)
{
    return b_slice_axis(&m->b, v, rank_of(m, v) - 1, start, size);
}

void imp_rotary(Imp *m)
{
    Val x = m->in[0], cache[2];
    int r = rank_of(m, x);
    DType t = dtype_of(m, x), w = wide_type(t);
    int64_t n = attr_i(m, "num_heads"), rot = attr_i(m, "rotary_embedding_dim");
    Dim d[MAX_RANK], xd[4];
    if (r != 3 && r != 4) {
        ERR(m, "E0203", "expected rank 3 or 4, got %d", r);
        return;
    }
    if ((r == 3 && n < 1) || rot < 0) {
        ERR(m, "E0201", r == 3 && n < 1 ? "attribute num_heads is required for rank 3"
                                        : "attribute rotary_embedding_dim is negative");
        return;
    }
    dims_of(m, x, d);
    memcpy(xd, d, sizeof xd);
    if (r == 3) {
        b_guard(&m->b, G_EQ, dim_mod(m->c, d[2], DC(m, n)), DC(m, 0), "the hidden size must be divisible by num_heads");
        xd[2] = DC(m, n);
        xd[3] = dim_floordiv(m->c, d[2], DC(m, n));
    }
    for (int i = 0; i < 2; i++) { /* [batch, seq, half], with an axis for the heads */
        Val cs = m->in[1 + i];
        if (present(m, 3))
            cs = rank_of(m, cs) == 2 ? b_gather(&m->b, cs, m->in[3], 0, OOB_FAIL) : (Val){0};
        if (!cs.i || rank_of(m, cs) != 3) {
            ERR(m, "E0203", "%s: unexpected rank %d", i ? "sin_cache" : "cos_cache", rank_of(m, m->in[1 + i]));
            return;
        }
        cache[i] = cast_to(m, insert_axes(m, cs, 4, r == 3 ? 4 : 2), w);
    }
    Val v = cast_to(m, reshape_to(m, x, 4, xd), w);
    Dim size = rot ? DC(m, rot) : xd[3], half = dim_floordiv(m->c, size, DC(m, 2)), zero = DC(m, 0), one = DC(m, 1);
    b_guard(&m->b, G_LE, size, xd[3], "rotary_embedding_dim is larger than the head size");
    b_guard(&m->b, G_EQ, dim_of(m, cache[0], 3), half, "the caches must hold half of the rotated size");
    b_guard(&m->b, G_EQ, dim_of(m, cache[1], 3), half, "the caches must hold half of the rotated size");
    bool whole = dim_same(m->c, size, xd[3]), pairs = attr_i(m, "interleaved") != 0;
    Val turned = whole ? v : part(m, v, zero, size), x1, x2;
    if (pairs) {
        Val two = reshape_to(m, turned, 5, (Dim[]){xd[0], xd[1], xd[2], half, DC(m, 2)});
        x1 = drop_axes(m, part(m, two, zero, one), 1u << 4);
        x2 = drop_axes(m, part(m, two, one, one), 1u << 4);
    } else {
        x1 = part(m, turned, zero, half);
        x2 = part(m, turned, half, half);
    }
    Val in[4] = {x1, x2, cache[0], cache[1]};
    Val y[3] = {map_text(m, "a * c - b * d", 4, in), map_text(m, "a * d + b * c", 4, in)};
    if (pairs) {
        for (int i = 0; i < 2; i++)
            y[i] = insert_axes(m, y[i], 5, 1u << 4);
        y[0] = reshape_to(m, b_concat(&m->b, 2, y, 4), 4, (Dim[]){xd[0], xd[1], xd[2], size});
    }
    int k = pairs ? 1 : 2;
    if (!whole)
        y[k++] = part(m, v, size, dim_sub(m->c, xd[3], size));
    Val out = k == 1 ? y[0] : b_concat(&m->b, k, y, 3);
    result(m, 0, cast_to(m, reshape_to(m, out, r, d), t));
}
