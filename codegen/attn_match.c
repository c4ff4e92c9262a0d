/* attn_match.c: recognises the Kernel of a group "Attention" (passes/attention.c) by its stages:
 * contraction, maximum, sum, contraction, maps between them (any of them inlined), and epilogues.
 * In: a Kernel; out: the parts as expressions over the axes of the stages where the template
 * evaluates them. What it accepts computes p * v with p = exp(x - m) / l, m and l the row's maximum
 * and sum. */
#include "attn.h"

#include <math.h>
#include <string.h>

/* ---- matching ---- */

typedef struct Inline {
    const Kernel *k;
    int before;
} Inline;

static int writer(const Kernel *k, uint32_t buf, int before) {
    for (int st = 0; st < before; st++)
        for (int r = 0; r < k->stage[st].nres; r++)
            if (k->stage[st].out[r].buf == buf) return st;
    return -1;
}

/* Loads of temporaries that a map wrote become that map. */
static Expr inline_load(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    const Inline *in = data;
    (void)e;
    if (i->kind != E_LOAD || in->k->buf[i->index].kind != KB_TEMP || i->oob != OOB_NEVER)
        return expr_rebuild(c, i, arg);
    int w = writer(in->k, i->index, in->before);
    if (w < 0) return expr_rebuild(c, i, arg);
    const Stage *s = &in->k->stage[w];
    if (s->kind != ST_NEST || s->comb[0].i || s->nres != 1 || s->out[0].oob != OOB_NEVER)
        return expr_rebuild(c, i, arg);
    Expr to[K_AXES] = {{0}}, at[MAX_RANK];
    memcpy(at, arg, s->out[0].rank * sizeof *at);
    for (int d = 0; d < s->out[0].rank; d++) {
        ExprInfo a = *expr_info(c, s->out[0].at[d]);
        if (a.kind == E_AXIS)
            to[a.index] = at[d];
        else if (a.kind != E_CONST)
            return expr_rebuild(c, i, at);
    }
    for (int a = 0; a < s->naxis; a++)
        if (!to[a].i) return expr_rebuild(c, i, at);
    Inline inner = {in->k, w};
    return expr_rewrite(c, expr_subst_axes(c, s->body[0], to, s->naxis), inline_load, &inner);
}

static Expr inlined(const Kernel *k, int st, Expr e) {
    Inline in = {k, st};
    return expr_rewrite(k->c, e, inline_load, &in);
}

static bool is_op(Ctx *c, Expr e, SOp op) {
    const ExprInfo *i = expr_info(c, e);
    return i->kind == E_OP && i->op == op;
}

static Expr arg_of(Ctx *c, Expr e, int n) { return expr_info(c, e)->arg[n]; }

/* comb is one operation on accumulator and element, f32 */
static bool reduces_by(const Kernel *k, int st, SOp op) {
    const Stage *s = &k->stage[st];
    if (s->kind != ST_NEST || s->nres != 1 || !s->comb[0].i || s->acc[0] != DT_F32) return false;
    if (k->buf[s->out[0].buf].dtype != DT_F32) return false;
    if (!is_op(k->c, s->comb[0], op)) return false;
    for (int i = 0; i < 2; i++)
        if (expr_info(k->c, arg_of(k->c, s->comb[0], i))->kind != E_ARG) return false;
    return s->out[0].oob == OOB_NEVER;
}

static int reduced_axis(const Stage *s) { /* the only one, or -1 */
    int red = -1;
    for (int a = 0; a < s->naxis; a++) {
        if (s->axis[a].kind != AX_RED) continue;
        if (red >= 0) return -1;
        red = a;
    }
    return red;
}

typedef struct Find {
    uint16_t buf;
    int n;
    Expr at[MAX_RANK];
    bool same;
} Find;

static void find_load(void *data, const ExprInfo *x) {
    Find *f = data;
    if (x->index != f->buf) return;
    if (f->n++ == 0)
        memcpy(f->at, x->arg, x->narg * sizeof *f->at);
    else
        f->same = false;
    if (x->oob != OOB_NEVER) f->same = false;
}

/* The one access to buffer buf in e. */
static bool access_of(const Kernel *k, Expr e, uint16_t buf, Find *f) {
    *f = (Find){.buf = buf, .same = true};
    expr_loads(k->c, e, find_load, f);
    return f->n == 1 && f->same;
}

static int axis_index(Ctx *c, Expr e) {
    const ExprInfo *i = expr_info(c, e);
    return i->kind == E_AXIS ? (int)i->index : -1;
}

/* to[axis of max] = axis of another stage, from how both access the scores. */
static bool relate(const Kernel *k, int rank, const Expr *max_at, const Expr *other_at, int *to) {
    memset(to, -1, K_AXES * sizeof *to);
    for (int d = 0; d < rank; d++) {
        int a = axis_index(k->c, max_at[d]), b = axis_index(k->c, other_at[d]);
        if ((a < 0) != (b < 0)) return false;
        if (a >= 0) to[a] = b;
    }
    return true;
}

static bool strip_guard(Ctx *c, Expr *p) {
    if (!is_op(c, *p, S_SELECT)) return false;
    Expr cond = arg_of(c, *p, 0), zero = arg_of(c, *p, 1), e = arg_of(c, *p, 2);
    const ExprInfo *z = expr_info(c, zero);
    if (!is_op(c, cond, S_ISNAN) || arg_of(c, cond, 0).i != e.i || z->kind != E_CONST ||
        z->val.i != 0)
        return false;
    *p = e;
    return true;
}

static bool find_stages(const Kernel *k, Attn *a) {
    a->qk = a->max = a->sum = a->pv = -1;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        if (s->kind != ST_NEST || s->nres != 1) return false;
        if (!s->comb[0].i) continue;
        int *at = reduces_by(k, st, S_MAX)   ? &a->max
                  : reduces_by(k, st, S_ADD) ? (a->qk < 0    ? &a->qk
                                                : a->sum < 0 ? &a->sum
                                                             : &a->pv)
                                             : NULL;
        if (!at || *at >= 0) return false;
        *at = st;
    }
    if (a->qk < 0 || a->max < a->qk || a->sum < a->max || a->pv < a->sum) return false;
    uint64_t later = 0;
    for (int st = 0; st < k->nstage; st++) {
        if (st > a->pv)
            later |= 1ull << st;
        else if (st < a->pv && k->buf[k->stage[st].out[0].buf].kind != KB_TEMP)
            return false;
    }
    return k->nstage <= 64 && (!later || epilogue_mask(k, a->pv) == later);
}

static bool product(const Kernel *k, int st, Expr *a, Expr *b) {
    Expr e = inlined(k, st, k->stage[st].body[0]);
    if (!is_op(k->c, e, S_MUL)) return false;
    *a = arg_of(k->c, e, 0);
    *b = arg_of(k->c, e, 1);
    return expr_info(k->c, *a)->dtype == DT_F32 && expr_info(k->c, *b)->dtype == DT_F32;
}

static bool no_temps(const Kernel *k, Expr e) {
    uint64_t m = expr_bufs(k->c, e);
    for (int b = 0; b < k->nbuf; b++)
        if (m >> b & 1 && k->buf[b].kind != KB_IN) return false;
    return true;
}

/* ---- keys that a row cannot see ---- */

static bool is_minus_inf(Ctx *c, Expr e) {
    const ExprInfo *i = expr_info(c, e);
    return i->kind == E_CONST && i->val.f < 0 && isinf(i->val.f);
}

/* cond implies t <= row + past: past, or none */
static Expr bound_of(const Attn *a, int row, Expr cond) {
    Ctx *c = a->k->c;
    ExprInfo i = *expr_info(c, cond);
    Expr none = {0};
    if (i.kind != E_OP) return none;
    if (i.op == S_AND) {
        Expr b = bound_of(a, row, i.arg[0]);
        return b.i ? b : bound_of(a, row, i.arg[1]);
    }
    bool up = i.op == S_LE || i.op == S_LT, down = i.op == S_GE || i.op == S_GT;
    if ((!up && !down) || expr_info(c, i.arg[0])->dtype != DT_I64) return none;
    Expr room = expr_op(c, S_SUB, i.arg[up], i.arg[down], none), coef[K_AXES] = {{0}}, rest;
    if (!expr_affine(c, room, a->k->stage[a->max].naxis, coef, &rest) || expr_bufs(c, rest))
        return none;
    for (int j = 0; j < a->k->stage[a->max].naxis; j++) {
        int64_t want = j == a->t ? -1 : j == row ? 1 : 0, have = 0;
        const ExprInfo *f = coef[j].i ? expr_info(c, coef[j]) : NULL;
        if (f && f->kind != E_CONST) return none;
        if (f) have = f->val.i;
        if (have != want) return none;
    }
    return i.op == S_LT || i.op == S_GT ? expr_op(c, S_SUB, rest, expr_int(c, DT_I64, 1), none)
                                        : rest;
}

static void find_causal(Attn *a) {
    Ctx *c = a->k->c;
    Expr x = a->x;
    while (a->nrow && is_op(c, x, S_SELECT) && is_minus_inf(c, arg_of(c, x, 2))) {
        a->past = bound_of(a, a->row[a->nrow - 1], arg_of(c, x, 0));
        a->causal = a->past.i != 0;
        if (a->causal) return;
        x = arg_of(c, x, 1);
    }
}

bool attn_classify(const Kernel *k, Attn *a) {
    *a = (Attn){.k = k, .col = -1};
    Ctx *c = k->c;
    if (!find_stages(k, a)) return false;
    const Stage *qk = &k->stage[a->qk], *mx = &k->stage[a->max], *sm = &k->stage[a->sum],
                *pv = &k->stage[a->pv];
    a->score = qk->out[0].buf;
    a->d = reduced_axis(qk);
    a->t = reduced_axis(mx);
    a->tv = reduced_axis(pv);
    if (a->d < 0 || a->t < 0 || a->tv < 0 || reduced_axis(sm) != a->t || sm->naxis != mx->naxis)
        return false;
    if (mx->init[0].f > -INFINITY || sm->init[0].i != 0 || qk->init[0].i != 0 || pv->init[0].i != 0)
        return false;

    /* e = exp(x - m), p = e / l; x, m and l as the second product sees them, renamed to the axes of
     * max */
    a->x = inlined(k, a->max, mx->body[0]);
    Find fx, fp;
    if (expr_info(c, a->x)->dtype != DT_F32 || !access_of(k, a->x, a->score, &fx)) return false;
    Expr in[2];
    if (!product(k, a->pv, &in[0], &in[1])) return false;
    int p = expr_bufs(c, in[0]) >> a->score & 1 ? 0 : 1, rank = k->buf[a->score].rank;
    a->v = in[!p];
    if (!no_temps(k, a->v) || !access_of(k, in[p], a->score, &fp) ||
        !relate(k, rank, fx.at, fp.at, a->to_pv))
        return false;
    if (!relate(k, rank, fx.at, qk->out[0].at, a->to_qk)) return false;
    Expr back[K_AXES] = {{0}};
    for (int j = 0; j < mx->naxis; j++) {
        if (a->to_pv[j] < 0 || a->to_qk[j] < 0) return false;
        back[a->to_pv[j]] = expr_axis(c, (uint32_t)j);
    }
    Expr prob = expr_subst_axes(c, in[p], back, pv->naxis);
    a->zero_nan = strip_guard(c, &prob);
    if (!is_op(c, prob, S_DIV)) return false;
    Expr e = arg_of(c, prob, 0), l = arg_of(c, prob, 1);
    if (!is_op(c, e, S_EXP) || !is_op(c, arg_of(c, e, 0), S_SUB) ||
        arg_of(c, arg_of(c, e, 0), 0).i != a->x.i)
        return false;
    const ExprInfo *mi = expr_info(c, arg_of(c, arg_of(c, e, 0), 1)), *li = expr_info(c, l);
    if (mi->kind != E_LOAD || mi->index != mx->out[0].buf || li->kind != E_LOAD ||
        li->index != sm->out[0].buf)
        return false;
    if (inlined(k, a->sum, sm->body[0]).i != e.i) return false;
    uint64_t used = expr_bufs(c, a->x) & ~(1ull << a->score);
    for (int b = 0; b < k->nbuf; b++)
        if (used >> b & 1 && k->buf[b].kind != KB_IN) return false;

    /* axes */
    if (!product(k, a->qk, &in[0], &in[1]) || !no_temps(k, in[0]) || !no_temps(k, in[1]))
        return false;
    a->tq = a->to_qk[a->t];
    if (a->to_pv[a->t] != a->tv || qk->axis[a->tq].kind != AX_PAR) return false;
    int kk = expr_uses_axis(c, in[0], (uint32_t)a->tq) ? 0 : 1;
    a->key = in[kk];
    a->q = in[!kk];
    if (expr_uses_axis(c, a->q, (uint32_t)a->tq)) return false;
    for (int j = 0; j < mx->naxis; j++) {
        if (j == a->t) continue;
        if (expr_uses_axis(c, a->key, (uint32_t)a->to_qk[j]) ||
            expr_uses_axis(c, a->v, (uint32_t)a->to_pv[j]))
            a->batch[a->nbatch++] = j;
        else
            a->row[a->nrow++] = j;
    }
    int own = 0;
    for (int b = 0; b < pv->naxis; b++) {
        if (b == a->tv || back[b].i) continue;
        a->col = b;
        own++;
    }
    find_causal(a);
    return own == 1 && qk->naxis == mx->naxis + 1;
}
