/* ukr_window.c: template `window`: a reduction over windows along several axes is one reduction along each of them, in turn. A kernel
 *     y[p, i, j] = comb over r, q of body at (p, i*s + r*d, j*t + q*e)
 * becomes two stages, run by `nest`, with the points of one task of w in scratch:
 *     w[p, i, u] = comb over r of body at (p, i*s + r*d, u * gcd(t, e))
 *     y[p, i, j] = comb over q of w[p, i, (j*t + q*e) / gcd(t, e)]
 * A window of n by m costs n + m operations, tests of borders are made for w alone, and w is read where it is contiguous and near. Order of
 * reduction: the last reduced axis outermost, each axis ascending. */
#include <string.h>

#include "emit_internal.h"
#include "ukr.h"

enum { PAR_PREFIX, N_PARS };
enum { ROW_BYTES = 2048, TASK_BYTES = 256 << 10 };

/* Reduced axis `red` slides along parallel axis `par`: in all indices they occur as step * par + dilation * red. */
typedef struct Slide { Ctx *c; int naxis, red, par; int64_t step, dilation; bool ok; } Slide;

static bool int_of(const Ctx *c, Expr e, int64_t *v) {
    const ExprInfo *i = expr_info(c, e);
    *v = i->val.i;
    return i->kind == E_CONST && i->dtype == DT_I64;
}

static bool index_slides(Slide *w, Expr at) {
    Expr coef[K_AXES], rest;
    int64_t d, s = 0;
    int par = -1;
    if (!expr_uses_axis(w->c, at, (uint32_t)w->red)) return w->par < 0 || !expr_uses_axis(w->c, at, (uint32_t)w->par);
    if (!expr_affine(w->c, at, (uint32_t)w->naxis, coef, &rest) || !coef[w->red].i || !int_of(w->c, coef[w->red], &d) || d < 1) return false;
    for (int a = 0; a < w->naxis; a++) {
        if (a == w->red || !coef[a].i) continue;
        if (par >= 0 || !int_of(w->c, coef[a], &s) || s < 1) return false;
        par = a;
    }
    if (par < 0 || (w->par >= 0 && (par != w->par || s != w->step || d != w->dilation))) return false;
    w->par = par;
    w->step = s;
    w->dilation = d;
    return true;
}

static void load_slides(void *data, const ExprInfo *x) {
    Slide *w = data;
    w->ok = w->ok && x->oob != OOB_FAIL;
    for (int d = 0; d < x->narg - (x->oob == OOB_VALUE); d++) w->ok = w->ok && index_slides(w, x->arg[d]);
}

static Expr without_loads(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    (void)data, (void)e;
    return i->kind == E_LOAD ? expr_arg(c, 0, i->dtype) : expr_rebuild(c, i, arg);
}

static bool slides(const Kernel *k, const Stage *s, int red, Slide *w) {
    *w = (Slide){.c = k->c, .naxis = s->naxis, .red = red, .par = -1, .ok = true};
    for (int pass = 0; pass < 2; pass++) expr_loads(k->c, s->body[0], load_slides, w); /* `par` may be found after loads that use it */
    if (!w->ok || w->par < 0 || s->axis[w->par].kind != AX_PAR) return false;
    Expr scalar = expr_rewrite(k->c, s->body[0], without_loads, NULL);
    return !expr_uses_axis(k->c, scalar, (uint32_t)red) && !expr_uses_axis(k->c, scalar, (uint32_t)w->par);
}

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

typedef struct Widen { const Slide *w; int64_t unit; bool padded; Scalar none; Expr to[K_AXES]; } Widen;

/* Indices at the points of the wide axis, which has the number that `to` gives for `par`. padded: also at points that no window has. */
static Expr widen_index(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    const Widen *x = data;
    (void)e;
    if (i->kind == E_AXIS) return x->to[i->index];
    if (i->kind != E_LOAD) return expr_rebuild(c, i, arg);
    Expr at[MAX_RANK], coef[K_AXES], rest;
    int n = i->narg - (i->oob == OOB_VALUE);
    Expr pad = i->oob == OOB_VALUE ? arg[n] : (Expr){0};
    Oob oob = (Oob)i->oob;
    for (int d = 0; d < n; d++) {
        at[d] = arg[d];
        if (!expr_uses_axis(c, i->arg[d], (uint32_t)x->w->red)) continue;
        CHECK(expr_affine(c, i->arg[d], (uint32_t)x->w->naxis, coef, &rest));
        at[d] = expr_op(c, S_MUL, x->to[x->w->par], expr_int(c, DT_I64, x->unit), (Expr){0});
        if (rest.i) at[d] = expr_op(c, S_ADD, at[d], rest, (Expr){0});
        if (!x->padded || oob != OOB_NEVER) continue;
        oob = OOB_VALUE;
        pad = expr_const(c, x->none);
    }
    return expr_load(c, i->index, i->dtype, n, at, oob, pad, i->guard);
}

static Expr pick_axes(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    (void)e;
    return i->kind == E_AXIS ? ((const Expr *)data)[i->index] : expr_rebuild(c, i, arg);
}

static int last_parallel(const Stage *s) {
    int a = s->naxis - 1;
    while (s->axis[a].kind != AX_PAR) a--;
    return a;
}

/* Stage `st` of k as two, the second of which reduces along w->red alone. Rows of what is between them have room for whole vectors. */
static void split(Kernel *k, int st, const Slide *w, int lanes) {
    Ctx *c = k->c;
    const Stage whole = k->stage[st];
    Stage *first = &k->stage[st], *second = first + 1;
    memmove(second, first, sizeof *first * (size_t)(k->nstage - st));
    k->nstage++;
    int64_t unit = gcd(w->step, w->dilation), step = w->step / unit, dilation = w->dilation / unit;
    uint16_t temp = k->nbuf++;
    KBuf *b = &k->buf[temp];
    *b = (KBuf){.kind = KB_TEMP, .dtype = whole.acc[0], .offset = dim_const(c, 0)};

    /* first: without the axis; `par` is the wide one */
    Dim par = whole.axis[w->par].extent, last = dim_muli(c, dim_addi(c, par, -1), step);
    Dim wide = dim_add(c, dim_addi(c, last, 1), dim_muli(c, dim_addi(c, whole.axis[w->red].extent, -1), dilation));
    if (dim_lo(c, par) < 1) wide = dim_mul(c, dim_min(c, par, dim_const(c, 1)), wide);
    Widen x = {.w = w, .unit = unit, .none = whole.init[0]};
    x.padded = last_parallel(&whole) == w->par && !dim_divisible(c, wide, lanes) && expr_info(c, whole.body[0])->kind == E_LOAD &&
               expr_info(c, whole.body[0])->dtype == whole.acc[0];
    if (x.padded) wide = dim_muli(c, dim_ceildiv(c, wide, dim_const(c, lanes)), lanes);
    Expr to[K_AXES] = {{0}}, read[MAX_RANK];
    first->naxis = 0;
    first->out[0] = (KOut){.buf = temp, .oob = OOB_NEVER};
    for (int a = 0; a < whole.naxis; a++) {
        if (a == w->red) continue;
        Expr axis = x.to[a] = expr_axis(c, first->naxis);
        if (whole.axis[a].kind == AX_PAR) first->out[0].at[first->out[0].rank++] = axis;
        first->axis[first->naxis] = whole.axis[a];
        if (a == w->par) first->axis[first->naxis].extent = wide;
        first->naxis++;
    }
    x.to[w->red] = expr_int(c, DT_I64, 0);
    first->body[0] = expr_rewrite(c, whole.body[0], widen_index, &x);

    /* second: parallel axes in order, then the reduced one */
    second->naxis = 0;
    for (int a = 0; a < whole.naxis; a++) {
        if (whole.axis[a].kind != AX_PAR) continue;
        to[a] = expr_axis(c, second->naxis);
        b->dim[b->rank] = a == w->par ? wide : whole.axis[a].extent;
        read[b->rank++] = to[a];
        second->axis[second->naxis++] = whole.axis[a];
    }
    Expr tap = expr_axis(c, second->naxis), start = to[w->par];
    second->axis[second->naxis++] = whole.axis[w->red];
    tap = expr_op(c, S_MUL, tap, expr_int(c, DT_I64, dilation), (Expr){0});
    start = expr_op(c, S_MUL, start, expr_int(c, DT_I64, step), (Expr){0});
    for (int d = 0; d < b->rank; d++) if (read[d].i == to[w->par].i) read[d] = expr_op(c, S_ADD, start, tap, (Expr){0});
    second->body[0] = expr_load(c, temp, b->dtype, b->rank, read, OOB_NEVER, (Expr){0}, 0);
    for (int d = 0; d < second->out[0].rank; d++) second->out[0].at[d] = expr_rewrite(c, second->out[0].at[d], pick_axes, to);
    Dim dense = dim_const(c, 1);
    for (int d = b->rank - 1; d >= 0; d--) {
        b->stride[d] = dim_is(c, b->dim[d], 1) ? dim_const(c, 0) : dense;
        dense = dim_mul(c, dense, b->dim[d]);
    }
}

/* k with a stage for each reduced axis, or NULL if they do not slide along axes of their own, or nothing is read twice. outer: how many
 * axes precede those. Templates keep nothing from match to build, so each step makes it anew: 0.2 % of the time that compiling ResNet-18 takes. */
static Kernel *in_turn(const Kernel *k, const Target *t, int *outer) {
    const Stage *s = &k->stage[0];
    int n = 0;
    for (int a = 0; a < s->naxis; a++) n += s->axis[a].kind == AX_RED;
    if (s->kind != ST_NEST || n < 2 || !nest_commutes(k, s) || k->nbuf + n > K_BUFS || k->nstage + n > 64) return NULL;
    if (k->nstage > 1 && epilogue_mask(k, 0) != ((1ull << k->nstage) - 2)) return NULL;
    Kernel *own = NEW(k->c, Kernel);
    *own = *k;
    own->stage = NEWN(k->c, Stage, k->nstage + n);
    memcpy(own->stage, k->stage, sizeof *s * k->nstage);
    bool overlap = false;
    *outer = K_AXES;
    for (; n > 0; n--) {
        Slide w;
        int red = own->stage[0].naxis - 1;
        while (own->stage[0].axis[red].kind != AX_RED) red--;
        if (!slides(own, &own->stage[0], red, &w)) return NULL;
        overlap |= dim_hi(k->c, own->stage[0].axis[red].extent) > w.step / w.dilation;
        if (w.par < *outer) *outer = w.par;
        if (n > 1) split(own, 0, &w, target_lanes(t, reg_type(s->acc[0])));
    }
    return overlap ? own : NULL;
}

static bool window_match(const Kernel *k, const Target *t) {
    int outer;
    return in_turn(k, t, &outer) != NULL;
}

/* Bytes of own's temporaries (those that k lacks) that are not shared by `prefix` axes. */
static double task_bytes(const Kernel *k, const Kernel *own, int prefix) {
    double sum = 0;
    for (int b = k->nbuf; b < own->nbuf; b++) {
        double n = dt_bits(own->buf[b].dtype) / 8.0;
        for (int d = prefix; d < own->buf[b].rank; d++) n *= dim_typical(k->c, own->buf[b].dim[d]);
        sum += n;
    }
    return sum;
}

/* A task is large enough that what it has stored is in the cache when it is read again, and small enough to stay in the nearest. */
static int window_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    (void)max;
    int outer;
    const Kernel *own = in_turn(k, t, &outer);
    int prefix = nest_prefix(own);
    while (prefix > outer && task_bytes(k, own, prefix) < ROW_BYTES && task_bytes(k, own, prefix - 1) < TASK_BYTES) prefix--;
    out[0].par[PAR_PREFIX] = prefix;
    return 1;
}

static double window_cost(const Kernel *k, const Sched *s, const Target *t) {
    int outer;
    const Kernel *own = in_turn(k, t, &outer);
    double total = 0;
    (void)s;
    for (int st = 0; st < own->nstage; st++) {
        const Stage *g = &own->stage[st];
        double points = 1, cost = expr_cost(k->c, g->body[0]);
        for (int a = 0; a < g->naxis; a++) points *= dim_typical(k->c, g->axis[a].extent);
        total += g->comb[0].i ? points / target_lanes(t, DT_F32) * (cost > 4 ? cost / 2 : 1) : nest_stage_cost(own, g, t);
    }
    return total;
}

static void window_build(Emit *e) {
    int outer;
    e->k = in_turn(e->k, e->t, &outer);
    nest_run(e, (int)e->s->par[PAR_PREFIX], 0);
}

const Tmpl tmpl_window = {"window", "prefix", F_SIMD, window_match, window_candidates, window_cost, window_build};
