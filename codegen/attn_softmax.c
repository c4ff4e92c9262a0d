/* attn_softmax.c: the softmax of template `attention`: raw scores of a tile of rows in scratch become
 * exp(x - m), with x the score expression evaluated at (row, vector of keys), m the row's maximum so
 * far, and the factors that results need in the end. Lanes past the last key count as -inf. */
#include "attn.h"

#include <math.h>

typedef AttnGen Gen;

/* x at keys [pos, pos + lanes) of row r; lanes past the mask are -inf */
static LVal scores_at(Gen *g, LVal at, LVal pos, LVal mask, LVal r) {
    Point p = attn_point(g, NULL);
    if (g->a.nrow) p.axis[attn_inner(g)] = lir_add(g->l, g->r0, r);
    p.axis[g->a.t] = lir_add(g->l, g->t0, pos);
    p.vaxis = (int8_t)g->a.t;
    p.lanes = (uint16_t)g->lanes;
    p.mask = mask;
    g->value = attn_load(g, g->s, lir_add(g->l, at, pos));
    emit_memo_reset(g->e);
    LVal x = emit_vec(g->e, &g->a.k->stage[g->a.max], g->a.x, &p);
    emit_memo_reset(g->e);
    return mask.i ? lir_op3(g->l, S_SELECT, mask, x, attn_splat(g, attn_f32(g, -INFINITY))) : x;
}

/* Loop over the chunk's keys with one accumulator. */
typedef LVal (*KeysFn)(Gen *g, LVal acc, LVal pos, LVal mask, void *data);

static LVal over_keys(Gen *g, LVal acc, KeysFn fn, void *data) {
    Lir *l = g->l;
    LVal whole = g->whole_vectors
                     ? g->tn
                     : lir_muli(l, lir_op2(l, S_DIV, g->tn, lir_i64(l, g->lanes)), g->lanes);
    LFor f = lir_for(l, lir_i64(l, 0), whole, lir_i64(l, g->lanes), 1, &acc);
    LVal next = fn(g, f.c[0], f.iv, (LVal){0}, data);
    lir_for_end(l, &f, &next, &acc);
    if (g->whole_vectors) return acc;
    LVal mask = lir_mask(l, lir_sub(l, g->tn, whole), (uint16_t)g->lanes);
    if (lir_is_const(l, g->tn, NULL)) return fn(g, acc, whole, mask, data);
    LIf i = lir_if(l, lir_op2(l, S_LT, whole, g->tn), 1);
    next = fn(g, acc, whole, mask, data);
    lir_else(l, &i, &next);
    lir_endif(l, &i, &acc, &acc);
    return acc;
}

/* exp(d), d <= 0 or NaN, as 2^n * 2^r with |r| <= 1/2 and a minimax polynomial (2e-9) for the
 * second factor: within 2 ulp of the largest term's. 0 below 2^-125 instead of subnormal numbers,
 * which cost an assist each, here and in the products. */
LVal attn_exp(Lir *l, LVal d) {
    static const double c[] = {1,
                               0.6931472057375667,
                               0.2402264689058857,
                               0.05550328776313294,
                               0.009618488959986874,
                               0.0013399931483403177,
                               0.00015345811772677297};
    uint16_t lanes = lir_type(l, d).lanes;
    LVal least = lir_splat(l, lir_float(l, DT_F32, -125), lanes),
         magic = lir_splat(l, lir_float(l, DT_F32, 0x1.8p23), lanes);
    LVal t = lir_mul(l, d, lir_splat(l, lir_float(l, DT_F32, 1.4426950408889634), lanes)),
         at = lir_op2(l, S_MAX, least, t);
    LVal z = lir_add(l, at, magic),
         r = lir_sub(l, at, lir_sub(l, z, magic)); /* z: n in the low bits */
    LVal p = lir_splat(l, lir_float(l, DT_F32, c[6]), lanes);
    for (int i = 5; i >= 0; i--) p = lir_fma(l, p, r, lir_splat(l, lir_float(l, DT_F32, c[i]), lanes));
    LVal n =
        lir_op2(l, S_SHL, lir_bitcast(l, z, DT_I32), lir_splat(l, lir_int(l, DT_I32, 23), lanes));
    LVal pow2 =
        lir_bitcast(l, lir_add(l, n, lir_splat(l, lir_int(l, DT_I32, 0x3f800000), lanes)), DT_F32);
    LVal below = lir_op2(l, S_LT, t, least);
    return lir_op3(l, S_SELECT, below, lir_splat(l, lir_float(l, DT_F32, 0), lanes), lir_mul(l, p, pow2));
}

typedef struct Row {
    LVal r, at, m;
    bool keep;
} Row; /* row of the task, its scores in s, maximum; keep: x was stored over q * k */

static LVal keys_max(Gen *g, LVal acc, LVal pos, LVal mask, void *data) {
    const Row *r = data;
    LVal x = scores_at(g, r->at, pos, mask, r->r);
    if (r->keep) attn_put(g, g->s, lir_add(g->l, r->at, pos), x);
    return lir_op2(g->l, S_MAX, x, acc); /* NaN is left to the sum */
}

static LVal keys_exp(Gen *g, LVal acc, LVal pos, LVal mask, void *data) {
    const Row *r = data;
    LVal at = lir_add(g->l, r->at, pos);
    LVal x = r->keep ? attn_load(g, g->s, at) : scores_at(g, r->at, pos, mask, r->r);
    LVal e = attn_exp(g->l, lir_sub(g->l, x, attn_splat(g, r->m)));
    attn_put(g, g->s, at, e);
    return lir_add(g->l, acc, e);
}

static LVal across(Gen *g, SOp op, LVal v) { return lir_hreduce(g->l, op, v); }

/* Scores of `rows` rows become exp(x - m); alpha[i]: what the results so far are multiplied by, or,
 * at the end, 1 / sum. */
void attn_softmax(AttnGen *g, int rows, LVal row) {
    Lir *l = g->l;
    LFor f = lir_for(l, lir_i64(l, 0), lir_i64(l, rows), lir_i64(l, 1), 0, NULL);
    Row r = {.r = lir_add(l, row, f.iv), .at = lir_muli(l, f.iv, g->pitch)};
    r.keep = expr_cost(g->e->c, g->a.x) > 2;
    LVal mx = across(g, S_MAX, over_keys(g, attn_splat(g, attn_f32(g, -INFINITY)), keys_max, &r)),
         inf = attn_f32(g, -INFINITY);
    LVal sr = lir_add(l, g->block, r.r), alpha = {0}, before = {0}, sum;
    r.m = mx;
    if (!g->one) {
        LVal old = attn_load1(g, g->m, sr), new = lir_op2(l, S_MAX, mx, old);
        before = attn_load1(g, g->sum, sr);
        r.m = lir_op3(l, S_SELECT, lir_op2(l, S_EQ, new, inf), attn_f32(g, 0),
                      new); /* nothing seen yet: exp gives 0 */
        alpha = attn_exp(g->l, lir_sub(l, old, r.m));
        attn_put(g, g->m, sr, new);
    }
    sum = across(g, S_ADD, over_keys(g, attn_splat(g, attn_f32(g, 0)), keys_exp, &r));
    if (!g->one) {
        sum = lir_fma(l, before, alpha, sum);
        attn_put(g, g->sum, sr, sum);
        attn_put(g, g->alpha, f.iv, alpha);
    }
    LVal inv = lir_op2(l, S_DIV, attn_f32(g, 1), sum);
    if (g->a.zero_nan)
        inv = lir_op3(l, S_SELECT, lir_op2(l, S_EQ, sum, attn_f32(g, 0)), attn_f32(g, NAN), inv);
    attn_put(g, g->alpha, lir_addi(l, f.iv, PANEL_TILE), inv);
    lir_for_end(l, &f, NULL, NULL);
}
