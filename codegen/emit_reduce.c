/* emit_reduce.c: accumulators in registers: combining, what need not be added, the lanes of one, and epilogues on them. */
#include <string.h>

#include "emit_value.h"

LVal emit_combine(Emit *e, const Stage *s, int r, const LVal *acc, const LVal *nw) {
    ExprInfo top = *expr_info(e->c, s->comb[r]);
    if (top.kind == E_ARG) return top.index < s->nres ? acc[top.index] : nw[top.index - s->nres];
    LVal arg[3] = {{0}};
    Stage part = *s;
    uint16_t w = 1;
    for (int k = 0; k < top.narg; k++) {
        for (int m = 0; m < k; m++)
            if (top.arg[m].i == top.arg[k].i) arg[k] = arg[m];
        if (!arg[k].i) {
            const ExprInfo *i = expr_info(e->c, top.arg[k]);
            part.comb[r] = top.arg[k];
            arg[k] = i->kind == E_CONST ? reg_const(e, i->val) : emit_combine(e, &part, r, acc, nw);
        }
        if (reg_lanes(e, arg[k]) > w) w = reg_lanes(e, arg[k]);
    }
    for (int k = 0; k < top.narg; k++) arg[k] = reg_widen(e, arg[k], w);
    if (top.kind == E_CAST) return reg_cast(e, arg[0], expr_info(e->c, top.arg[0])->dtype, top.dtype);
    CHECK(top.kind == E_OP);
    DType ot = expr_info(e->c, top.arg[top.op == S_SELECT ? 1 : 0])->dtype;
    return reg_round(e, math_op(e->l, e->t, top.op, reg_type(ot), top.narg, arg), top.dtype);
}

static bool sums(const Emit *e, const Stage *s) {
    if (s->nres != 1 || (s->acc[0] != DT_F32 && s->acc[0] != DT_F64)) return false;
    const ExprInfo *i = expr_info(e->c, s->comb[0]);
    return i->kind == E_OP && i->op == S_ADD && expr_info(e->c, i->arg[0])->kind == E_ARG && expr_info(e->c, i->arg[1])->kind == E_ARG;
}

/* ---- what is neutral out of range ---- */

/* Is the body a load that gives the neutral element where it is out of range? Nothing happens to the accumulator there. */
static bool neutral_outside(const Emit *e, const Stage *s, const ExprInfo *body) {
    if (s->nres != 1 || body->kind != E_LOAD || body->oob != OOB_VALUE || body->dtype != s->acc[0] || e->temp[body->index]) return false;
    const ExprInfo *pad = expr_info(e->c, body->arg[body->narg - 1]);
    return pad->kind == E_CONST && pad->val.t == s->init[0].t && pad->val.i == s->init[0].i;
}

/* (max(x, 0) + by - 1) / by */
static LVal ceil_div(Emit *e, LVal x, int64_t by) {
    LVal v = lir_op2(e->l, S_MAX, x, lir_i64(e->l, 0));
    return by == 1 ? v : lir_op2(e->l, S_DIV, lir_addi(e->l, v, by - 1), lir_i64(e->l, by));
}

bool emit_inside(Emit *e, const Stage *s, int axis, Point *p, LVal *lo, LVal *hi) {
    const ExprInfo body = *expr_info(e->c, s->body[0]);
    uint32_t before = p->inside;
    if (!neutral_outside(e, s, &body)) return false;
    const KBuf *b = &e->k->buf[body.index];
    Point first = emit_scalar_point(p);
    first.axis[axis] = lir_i64(e->l, 0);
    emit_memo_reset(e);
    for (int d = 0; d < b->rank; d++) {
        Expr coef[K_AXES], rest;
        bool alone = expr_uses_axis(e->c, body.arg[d], (uint32_t)axis) && !emit_always_inside(e->c, s, b, body.arg[d], d);
        for (int a = 0; a < s->naxis; a++)
            if ((a == p->vaxis || (s->axis[a].kind == AX_RED && a != axis)) && expr_uses_axis(e->c, body.arg[d], (uint32_t)a)) alone = false;
        if (!alone || !expr_affine(e->c, body.arg[d], s->naxis, coef, &rest) || !coef[axis].i) continue;
        const ExprInfo by = *expr_info(e->c, coef[axis]);
        if (by.kind != E_CONST || by.val.i < 1) continue;
        LVal from = emit_expr(e, s, body.arg[d], &first), below = lir_op1(e->l, S_NEG, from);
        *lo = lir_op2(e->l, S_MAX, *lo, ceil_div(e, below, by.val.i));
        *hi = lir_op2(e->l, S_MIN, *hi, ceil_div(e, lir_add(e->l, emit_dim(e, b->dim[d]), below), by.val.i));
        p->inside |= 1u << d;
    }
    emit_memo_reset(e);
    return p->inside != before;
}

/* ---- accumulators ---- */

/* Chains ascend along an axis: where that alone is reduced, and is the index of pairs of which the best is sought, what comes next has the higher
 * one, and the combiner need not look. */
static void ascend(const Emit *e, Stage *s) {
    int reduced = 0;
    Picks p;
    if (s->nres != 2 || s->kind != ST_NEST || !picks_best(e->c, s->comb, s->acc[1], &p)) return;
    const ExprInfo *i = expr_info(e->c, s->body[1]);
    if (i->kind == E_CAST) i = expr_info(e->c, i->arg[0]);
    for (int a = 0; a < s->naxis; a++) reduced += s->axis[a].kind == AX_RED;
    if (i->kind == E_AXIS && s->axis[i->index].kind == AX_RED && reduced == 1) memcpy(s->comb, p.after, sizeof p.after);
}

void emit_accumulate(Emit *e, const Stage *s, LVal *acc, const Point *p) {
    emit_memo_reset(e);
    ExprInfo body = *expr_info(e->c, s->body[0]);
    if (neutral_outside(e, s, &body)) {
        LVal point = emit_bounds(e, s, &e->k->buf[body.index], e->k->buf[body.index].rank, body.arg, p, WHERE_POINT);
        LIf some;
        if (point.i) some = lir_if(e->l, point, 1);
        LVal inside, v = emit_load(e, s, &body, p, &inside), sum = emit_combine(e, s, 0, acc, &v);
        uint16_t w = reg_lanes(e, acc[0]);
        if (inside.i) sum = lir_op3(e->l, S_SELECT, reg_widen(e, inside, w), sum, acc[0]);
        if (point.i) {
            lir_else(e->l, &some, &sum);
            lir_endif(e->l, &some, acc, &sum);
            emit_memo_reset(e); /* what was made inside is not known outside */
        }
        acc[0] = sum;
        return;
    }
    if (sums(e, s) && body.kind == E_OP && body.op == S_MUL && body.dtype == s->acc[0]) {
        uint16_t w = reg_lanes(e, acc[0]);
        LVal a = reg_widen(e, emit_expr(e, s, body.arg[0], p), w), b = reg_widen(e, emit_expr(e, s, body.arg[1], p), w);
        acc[0] = lir_fma(e->l, a, b, acc[0]);
        return;
    }
    LVal nw[K_RES], out[K_RES];
    for (int r = 0; r < s->nres; r++) {
        LVal v = p->lanes > 1 ? emit_vec(e, s, s->body[r], p) : emit_expr(e, s, s->body[r], p);
        nw[r] = reg_cast(e, v, expr_info(e->c, s->body[r])->dtype, s->acc[r]);
    }
    Stage next = *s;
    ascend(e, &next);
    for (int r = 0; r < s->nres; r++) out[r] = emit_combine(e, &next, r, acc, nw);
    for (int r = 0; r < s->nres; r++) acc[r] = out[r];
}

LVal emit_initial(Emit *e, const Stage *s, int r, uint16_t lanes) {
    return lir_splat(e->l, reg_const(e, (Scalar){.t = s->acc[r], .i = s->init[r].i}), lanes);
}

void emit_hreduce(Emit *e, const Stage *s, LVal *acc) {
    int16_t idx[64];
    for (uint16_t n = reg_lanes(e, acc[0]) / 2; n > 0; n /= 2) {
        LVal half[2][K_RES];
        for (int h = 0; h < 2; h++) {
            for (int i = 0; i < n; i++) idx[i] = (int16_t)(i + h * n);
            for (int r = 0; r < s->nres; r++) half[h][r] = lir_shuffle(e->l, acc[r], acc[r], n, idx);
        }
        for (int r = 0; r < s->nres; r++) acc[r] = emit_combine(e, s, r, half[0], half[1]);
    }
    for (int r = 0; r < s->nres; r++) if (reg_lanes(e, acc[r]) > 1) acc[r] = lir_extract(e->l, acc[r], 0);
}

/* ---- epilogues: later stages on register values ---- */

LVal emit_held(Emit *e, void *data, const Expr *at, const Point *p) {
    (void)at; (void)p; /* the very point */
    const EmitHeld *h = data;
    return reg_cast(e, h->v, h->from, h->to);
}

void emit_parallel_point(const Stage *s, const Point *p, Point *out) {
    int np = 0;
    *out = *p;
    out->vaxis = -1;
    for (int a = 0; a < s->naxis; a++) {
        if (s->axis[a].kind != AX_PAR) continue;
        if (a == p->vaxis) out->vaxis = (int8_t)np;
        out->axis[np++] = p->axis[a];
    }
}

void emit_epilogue(Emit *e, int of, const LVal *acc, const Point *p) {
    const Stage *a = &e->k->stage[of];
    uint64_t mask = epilogue_mask(e->k, of);
    EmitHeld held[K_RES], later[32];
    int n = 0;
    emit_memo_reset(e); /* a new point */
    Point own = *p; /* the root's results are indexed by all of its axes */
    own.vaxis = -1;
    for (int x = 0, np = 0; x < a->naxis; x++) {
        if (a->axis[x].kind != AX_PAR) continue;
        if (np == p->vaxis) own.vaxis = (int8_t)x;
        own.axis[x] = p->axis[np++];
    }
    for (int r = 0; r < a->nres; r++) {
        uint16_t b = a->out[r].buf;
        emit_store(e, a, r, acc[r], &own);
        held[r] = (EmitHeld){acc[r], a->acc[r], e->k->buf[b].dtype};
        e->temp[b] = emit_held;
        e->temp_data[b] = &held[r];
    }
    emit_memo_reset(e);
    for (int st = of + 1; st < e->k->nstage; st++) {
        const Stage *s = &e->k->stage[st];
        if (!(mask >> st & 1)) continue;
        for (int r = 0; r < s->nres; r++) {
            LVal v = reg_cast(e, emit_vec(e, s, s->body[r], p), expr_info(e->c, s->body[r])->dtype, s->acc[r]);
            uint16_t b = s->out[r].buf;
            emit_store(e, s, r, v, p);
            CHECK(n < 32);
            later[n] = (EmitHeld){v, s->acc[r], e->k->buf[b].dtype};
            e->temp[b] = emit_held;
            e->temp_data[b] = &later[n++];
        }
    }
    for (int r = 0; r < a->nres; r++) e->temp[a->out[r].buf] = NULL;
    for (int st = of + 1; st < e->k->nstage; st++)
        if (mask >> st & 1)
            for (int r = 0; r < e->k->stage[st].nres; r++) e->temp[e->k->stage[st].out[r].buf] = NULL;
    emit_memo_reset(e);
}
