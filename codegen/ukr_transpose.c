/* ukr_transpose.c: template `transpose`: pointwise kernels that read along one axis and write along another, so that a vector of either kind
 * would be gathered or scattered. Tiles of L x L points: operands that lie along the other axis are loaded as L vectors and transposed in
 * registers, then the body runs for L vectors along the axis of the result. Every other operand is read as `nest` would.
 * Tasks: a strip of L points along the axis of those operands, at a point of all other parallel axes. */
#include <math.h>
#include <string.h>

#include "transpose.h"
#include "ukr.h"

enum { PAR_L };
enum { MAX_L = 16, MAX_BODY = 24 };

typedef struct Find {
    const Kernel *k;
    const Stage *s;
    int u, w;                   /* w -1: not known yet */
    Crossing cross[MAX_CROSSING];
    int ncross;
    bool ok;
} Find;

static bool unit(const Find *f, const Affine *a, int axis) { return dim_is(f->k->c, a->coef[axis], 1); }

static void note_load(void *data, const ExprInfo *x) {
    Find *f = data;
    Ctx *c = f->k->c;
    uint16_t buf = (uint16_t)x->index;
    Affine a;
    if (!access_affine(f->k, f->s, buf, f->k->buf[buf].rank, x->arg, &a)) {
        f->ok = false;
        return;
    }
    if (!a.has[f->u] || unit(f, &a, f->u)) return;
    int w = -1;
    for (int i = 0; i < f->s->naxis; i++) if (i != f->u && a.has[i] && unit(f, &a, i)) w = i;
    Expr load = expr_rebuild(c, x, x->arg);
    for (int i = 0; i < f->ncross; i++) {
        if (f->cross[i].load.i == load.i) return;
        if (f->cross[i].buf == buf) f->ok = false; /* two places of one operand */
    }
    if (w < 0 || (f->w >= 0 && w != f->w) || x->oob != OOB_NEVER || f->k->buf[buf].kind != KB_IN || f->ncross == MAX_CROSSING) {
        f->ok = false;
        return;
    }
    f->w = w;
    f->cross[f->ncross++] = (Crossing){buf, load};
}

bool transpose_plan(const Kernel *k, Crossings *p) {
    const Stage *s = &k->stage[0];
    if (s->kind != ST_NEST || s->comb[0].i || s->nres != 1) return false;
    if (k->nstage > 1 && epilogue_mask(k, 0) != ((1ull << k->nstage) - 2)) return false;
    int cost = 0;
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) cost += expr_cost(k->c, k->stage[st].body[r]);
    if (cost > MAX_BODY) return false;
    for (int b = 0; b < k->nbuf; b++) if (dt_bits(k->buf[b].dtype) > 64) return false;
    Affine out;
    if (s->out[0].oob != OOB_NEVER || !access_affine(k, s, s->out[0].buf, s->out[0].rank, s->out[0].at, &out)) return false;
    Find f = {.k = k, .s = s, .u = -1, .w = -1, .ok = true};
    for (int i = 0; i < s->naxis; i++) if (out.has[i] && dim_is(k->c, out.coef[i], 1)) f.u = i;
    if (f.u < 0) return false;
    expr_loads(k->c, s->body[0], note_load, &f);
    if (!f.ok || !f.ncross) return false;
    if (dim_hi(k->c, s->axis[f.u].extent) < 4 || dim_hi(k->c, s->axis[f.w].extent) < 4) return false;
    *p = (Crossings){.u = f.u, .w = f.w, .ncross = f.ncross};
    memcpy(p->cross, f.cross, sizeof p->cross);
    return true;
}

static bool transpose_match(const Kernel *k, const Target *t) {
    Crossings p;
    (void)t;
    return transpose_plan(k, &p);
}

static int transpose_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    int widest = 32;
    (void)max;
    for (int b = 0; b < k->nbuf; b++) if (dt_bits(reg_type(k->buf[b].dtype)) > 32) widest = 64;
    out[0].par[PAR_L] = target_lanes(t, widest == 64 ? DT_I64 : DT_F32);
    return 1;
}

static double transpose_cost(const Kernel *k, const Sched *s, const Target *t) {
    const Stage *g = &k->stage[0];
    Crossings p;
    (void)t;
    if (!transpose_plan(k, &p)) return 1e30;
    double points = 1, tiles = 1, across = 1; /* tiles, and how many times more points there would be if those at the end of u were full */
    for (int a = 0; a < g->naxis; a++) points *= dim_typical(k->c, g->axis[a].extent);
    const double l = (double)s->par[PAR_L];
    for (int i = 0; i < 2; i++) {
        double n = dim_typical(k->c, g->axis[i ? p.u : p.w].extent), whole = (double)(int64_t)((n + l - 1) / l);
        tiles *= n > 0 ? whole / n : 1;
        if (i && n > 0) across = whole * l / n;
    }
    return points * tiles * p.ncross * l * (log2(l) + 0.5) + points * across * (2.0 + expr_cost(k->c, g->body[0])) / l;
}

typedef struct Tile { LVal v[MAX_L]; int j; } Tile;
typedef struct Gen { Emit *e; Crossings p; int lanes; Tile tile[MAX_CROSSING]; } Gen;

static LVal tile_value(Emit *e, void *data, const Expr *at, const Point *p) {
    (void)e, (void)at, (void)p; /* the very access that the tile was loaded by */
    const Tile *t = data;
    return t->v[t->j];
}

/* The tile at (u0, w0). left: valid points along both axes, or none if the tile is full. */
static void one_tile(Gen *g, const Point *at, LVal u0, LVal w0, const LVal *left) {
    Emit *e = g->e;
    Lir *l = e->l;
    const Stage *s = &e->k->stage[0];
    uint16_t lanes = (uint16_t)g->lanes;
    LVal last = left ? lir_addi(l, left[0], -1) : (LVal){0}, umask = left ? lir_mask(l, left[0], lanes) : (LVal){0};
    for (int c = 0; c < g->p.ncross; c++) {
        Point p = *at;
        p.vaxis = (int8_t)g->p.w;
        p.lanes = lanes;
        p.axis[g->p.w] = w0;
        if (left) p.mask = lir_mask(l, left[1], lanes);
        for (int i = 0; i < lanes; i++) {
            LVal step = lir_i64(l, i);
            p.axis[g->p.u] = lir_add(l, u0, left ? lir_op2(l, S_MIN, step, last) : step);
            emit_memo_reset(e);
            g->tile[c].v[i] = emit_vec(e, s, g->p.cross[c].load, &p);
        }
        lir_transpose(l, g->tile[c].v, lanes);
    }
    for (int c = 0; c < g->p.ncross; c++) {
        e->temp[g->p.cross[c].buf] = tile_value;
        e->temp_data[g->p.cross[c].buf] = &g->tile[c];
    }
    for (int j = 0; j < lanes; j++) {
        Point p = *at;
        LIf some;
        if (left) some = lir_if(l, lir_op2(l, S_LT, lir_i64(l, j), left[1]), 0);
        for (int c = 0; c < g->p.ncross; c++) g->tile[c].j = j;
        p.vaxis = (int8_t)g->p.u;
        p.lanes = lanes;
        p.mask = umask;
        p.axis[g->p.u] = u0;
        p.axis[g->p.w] = lir_addi(l, w0, j);
        emit_memo_reset(e);
        LVal v = emit_vec(e, s, s->body[0], &p);
        v = reg_cast(e, v, expr_info(e->c, s->body[0])->dtype, s->acc[0]);
        emit_epilogue(e, 0, &v, &p);
        if (left) {
            lir_else(l, &some, NULL);
            lir_endif(l, &some, NULL, NULL);
        }
    }
    for (int c = 0; c < g->p.ncross; c++) e->temp[g->p.cross[c].buf] = NULL;
    emit_memo_reset(e);
}

static void transpose_build(Emit *e) {
    Gen g = {.e = e, .lanes = (int)e->s->par[PAR_L]};
    CHECK(transpose_plan(e->k, &g.p));
    Lir *l = e->l;
    const Stage *s = &e->k->stage[0];
    Point p = {.vaxis = -1, .lanes = 1};
    LVal strip;
    Tasks tasks = {0};
    tasks_along(&tasks, dim_ceildiv(e->c, s->axis[g.p.w].extent, dim_const(e->c, g.lanes)), &strip);
    tasks_points(&tasks, s, ~(1u << g.p.u | 1u << g.p.w), &p);
    tasks_begin(e, &tasks);
    tasks_grain(e, transpose_cost(e->k, e->s, e->t));
    LFor t = lir_for_tasks(l, lir_i64(l, 1), 0, NULL);
    tasks_split(e, &tasks, t.iv);
    LVal w0 = lir_muli(l, strip, g.lanes);
    LVal nu = emit_dim(e, s->axis[g.p.u].extent), wleft = lir_op2(l, S_MIN, lir_sub(l, emit_dim(e, s->axis[g.p.w].extent), w0), lir_i64(l, g.lanes));
    LFor u = lir_for(l, lir_i64(l, 0), nu, lir_i64(l, g.lanes), 0, NULL);
    LVal left[2] = {lir_op2(l, S_MIN, lir_sub(l, nu, u.iv), lir_i64(l, g.lanes)), wleft};
    LVal both = lir_op2(l, S_EQ, left[0], lir_i64(l, g.lanes));
    both = lir_op2(l, S_AND, both, lir_op2(l, S_EQ, left[1], lir_i64(l, g.lanes)));
    LIf full = lir_if(l, both, 0);
    one_tile(&g, &p, u.iv, w0, NULL);
    lir_else(l, &full, NULL);
    one_tile(&g, &p, u.iv, w0, left);
    lir_endif(l, &full, NULL, NULL);
    lir_for_end(l, &u, NULL, NULL);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_transpose = {"transpose", "tile", F_SIMD, transpose_match, transpose_candidates, transpose_cost, transpose_build};
