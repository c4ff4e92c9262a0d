/* attn_few.c: attention of few rows (decoding: one new token against a cache of keys). k and v are
 * read once or a few times, so they stay where they are: scores are dot products along k's
 * contiguous axis, a vector of keys at a time, and results are sums of v's rows. In: the state of
 * code generation within one chunk of keys; out: Lir for all rows of the task. */
#include "attn.h"

#include <string.h>

enum {
    CHAINS = 8,
    MAX_COLS = 8
}; /* accumulators of p * v: enough to hide the latency; vectors of columns at once */

typedef struct Along {
    const Kernel *k;
    const Stage *s;
    int axis;
    bool ok;
} Along;

static void along_load(void *data, const ExprInfo *x) {
    Along *a = data;
    Affine f;
    if (!access_affine(a->k, a->s, (uint16_t)x->index, a->k->buf[x->index].rank, x->arg, &f))
        a->ok = false;
    else if (f.has[a->axis] && !dim_is(a->k->c, f.coef[a->axis], 1))
        a->ok = false;
}

static bool contiguous(const Kernel *k, const Stage *s, Expr e, int axis) {
    Along a = {k, s, axis, true};
    expr_loads(k->c, e, along_load, &a);
    return a.ok;
}

bool attn_few_fits(Emit *e, const Attn *a, int lanes) {
    const Stage *qk = &a->k->stage[a->qk], *pv = &a->k->stage[a->pv];
    bool plain = expr_info(e->c, a->key)->kind == E_LOAD; /* past the end of k lanes read 0 */
    return contiguous(a->k, qk, a->key, a->d) && contiguous(a->k, pv, a->v, a->col) &&
           (plain || dim_divisible(e->c, qk->axis[a->d].extent, lanes));
}

/* v[lanes] of `lanes` lanes -> one vector of their sums */
static LVal sums_across(Lir *l, LVal *v, int lanes) {
    int16_t lo[64], hi[64];
    for (int h = lanes / 2; h; h /= 2) {
        for (int j = 0; j < lanes; j++) {
            lo[j] = (int16_t)(j & h ? lanes + j - h : j);
            hi[j] = (int16_t)(j & h ? lanes + j : j + h);
        }
        for (int i = 0; i < h; i++) {
            LVal low = lir_shuffle(l, v[i], v[i + h], (uint16_t)lanes, lo);
            v[i] = lir_add(l, low, lir_shuffle(l, v[i], v[i + h], (uint16_t)lanes, hi));
        }
    }
    return v[0];
}

typedef struct Dots {
    AttnGen *g;
    LVal q, pos, last;
} Dots; /* the row of q; first key of the vector and the chunk's last, from t0 */

/* acc[j] += q[d..] * k[pos + j][d..] */
static void dot_step(const Dots *t, LVal d, LVal mask, LVal *acc) {
    AttnGen *g = t->g;
    Lir *l = g->l;
    const Attn *a = &g->a;
    LVal q = lir_load(l, t->q, d, (LTy){DT_F32, (uint16_t)g->lanes}, mask, 0);
    for (int j = 0; j < g->lanes; j++) {
        Point p = attn_point(g, a->to_qk);
        p.axis[a->tq] = lir_add(l, g->t0, lir_op2(l, S_MIN, lir_addi(l, t->pos, j), t->last));
        p.axis[a->d] = d;
        p.vaxis = (int8_t)a->d;
        p.lanes = (uint16_t)g->lanes;
        p.mask = mask;
        emit_memo_reset(g->e);
        acc[j] = lir_fma(l, q, emit_vec(g->e, &a->k->stage[a->qk], a->key, &p), acc[j]);
    }
}

static LVal dots(const Dots *t) {
    AttnGen *g = t->g;
    Lir *l = g->l;
    int64_t known;
    bool is_known = dim_is_const(g->e->c, g->a.k->stage[g->a.qk].axis[g->a.d].extent, &known);
    LVal acc[64], zero = attn_splat(g, attn_f32(g, 0));
    for (int j = 0; j < g->lanes; j++) acc[j] = zero;
    LVal whole = lir_muli(l, lir_op2(l, S_DIV, g->d, lir_i64(l, g->lanes)), g->lanes);
    if (is_known && known / g->lanes <= 8) {
        for (int64_t d = 0; d + g->lanes <= known; d += g->lanes)
            dot_step(t, lir_i64(l, d), (LVal){0}, acc);
    } else {
        LVal next[64];
        LFor f = lir_for(l, lir_i64(l, 0), whole, lir_i64(l, g->lanes), (uint32_t)g->lanes, acc);
        memcpy(next, f.c, sizeof(LVal) * (size_t)g->lanes);
        dot_step(t, f.iv, (LVal){0}, next);
        lir_for_end(l, &f, next, acc);
    }
    if (is_known && known % g->lanes == 0) return sums_across(l, acc, g->lanes);
    LVal mask = lir_mask(l, lir_sub(l, g->d, whole), (uint16_t)g->lanes);
    dot_step(t, whole, mask, acc); /* if nothing is left: reads nothing of either, adds zeros */
    return sums_across(l, acc, g->lanes);
}

static void few_scores(AttnGen *g, LVal row) {
    Lir *l = g->l;
    Dots t = {.g = g, .last = lir_addi(l, g->tn, -1)};
    t.q = lir_ptr_add(l, g->q, lir_mul(l, lir_add(l, g->block, row), g->dp), DT_F32);
    LFor f = lir_for(l, lir_i64(l, 0), g->tn, lir_i64(l, g->lanes), 0, NULL);
    t.pos = f.iv;
    attn_put(g, g->s, f.iv, dots(&t));
    lir_for_end(l, &f, NULL, NULL);
}

typedef struct Sum {
    AttnGen *g;
    LVal col, mask;
    int nv, step;
} Sum; /* step: keys per iteration, each with accumulators of its own */

static void sum_step(const Sum *t, LVal key, LVal *acc) {
    AttnGen *g = t->g;
    Lir *l = g->l;
    const Attn *a = &g->a;
    LVal e = attn_splat(g, attn_load1(g, g->s, key));
    for (int v = 0; v < t->nv; v++) {
        Point p = attn_point(g, a->to_pv);
        p.axis[a->tv] = lir_add(l, g->t0, key);
        p.axis[a->col] = lir_addi(l, t->col, (int64_t)v * g->lanes);
        p.vaxis = (int8_t)a->col;
        p.lanes = (uint16_t)g->lanes;
        if (v == t->nv - 1) p.mask = t->mask;
        emit_memo_reset(g->e);
        acc[v] = lir_fma(l, e, emit_vec(g->e, &a->k->stage[a->pv], a->v, &p), acc[v]);
    }
}

static void few_columns(AttnGen *g, LVal row, LVal col, int nv, LVal mask) {
    Lir *l = g->l;
    Sum t = {g, col, mask, nv, CHAINS / nv > 0 ? CHAINS / nv : 1};
    int n = nv * t.step;
    LVal acc[2 * CHAINS], next[2 * CHAINS], zero = attn_splat(g, attn_f32(g, 0));
    for (int i = 0; i < n; i++) acc[i] = zero;
    LVal whole = lir_muli(l, lir_op2(l, S_DIV, g->tn, lir_i64(l, t.step)), t.step);
    LFor f = lir_for(l, lir_i64(l, 0), whole, lir_i64(l, t.step), (uint32_t)n, acc);
    memcpy(next, f.c, sizeof(LVal) * (size_t)n);
    for (int u = 0; u < t.step; u++) sum_step(&t, lir_addi(l, f.iv, u), next + u * nv);
    lir_for_end(l, &f, next, acc);
    f = lir_for(l, whole, g->tn, lir_i64(l, 1), (uint32_t)nv, acc);
    memcpy(next, f.c, sizeof(LVal) * (size_t)nv);
    sum_step(&t, f.iv, next);
    lir_for_end(l, &f, next, acc);
    for (int u = 1; u < t.step; u++)
        for (int v = 0; v < nv; v++) acc[v] = lir_add(l, acc[v], acc[u * nv + v]);
    AttnOut out = {1, nv, row, col};
    if (g->one) {
        attn_store(g, &out, acc);
        return;
    }
    LVal o =
        lir_ptr_add(l, g->o, lir_add(l, lir_mul(l, lir_add(l, g->block, row), g->vp), col), DT_F32);
    LVal alpha = attn_splat(g, attn_load1(g, g->alpha, lir_i64(l, 0)));
    for (int v = 0; v < nv; v++)
        acc[v] = lir_fma(l, alpha, attn_load(g, o, lir_i64(l, (int64_t)v * g->lanes)), acc[v]);
    LIf i = lir_if(l, g->last, 0);
    attn_store(g, &out, acc);
    lir_else(l, &i, NULL);
    for (int v = 0; v < nv; v++) attn_put(g, o, lir_i64(l, (int64_t)v * g->lanes), acc[v]);
    lir_endif(l, &i, NULL, NULL);
}

static void few_products(AttnGen *g, LVal row) {
    Lir *l = g->l;
    int64_t cols, size = (int64_t)MAX_COLS * g->lanes;
    if (!dim_is_const(g->e->c, g->a.k->stage[g->a.pv].axis[g->a.col].extent,
                      &cols)) { /* vector by vector */
        LFor f = lir_for(l, lir_i64(l, 0), g->vcols, lir_i64(l, g->lanes), 0, NULL);
        few_columns(g, row, f.iv, 1, lir_mask(l, lir_sub(l, g->vcols, f.iv), (uint16_t)g->lanes));
        lir_for_end(l, &f, NULL, NULL);
        return;
    }
    if (cols >= size) {
        LFor f =
            lir_for(l, lir_i64(l, 0), lir_i64(l, cols / size * size), lir_i64(l, size), 0, NULL);
        few_columns(g, row, f.iv, MAX_COLS, (LVal){0});
        lir_for_end(l, &f, NULL, NULL);
    }
    int64_t left = cols % size, tail = left % g->lanes;
    if (!left) return;
    LVal mask = tail ? lir_mask(l, lir_i64(l, tail), (uint16_t)g->lanes) : (LVal){0};
    few_columns(g, row, lir_i64(l, cols - left), (int)((left + g->lanes - 1) / g->lanes), mask);
}

void attn_few_rows(AttnGen *g) {
    LFor f = lir_for(g->l, lir_i64(g->l, 0), attn_task_rows(g), lir_i64(g->l, 1), 0, NULL);
    few_scores(g, f.iv);
    attn_softmax(g, 1, f.iv);
    few_products(g, f.iv);
    lir_for_end(g->l, &f, NULL, NULL);
}
