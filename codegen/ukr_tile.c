/* ukr_tile.c: template `tile`: one reduction whose points lie along a vector axis, unrolled and jammed along a second axis, so
 * that many accumulators hide the latency of one chain: depthwise convolution (16 channels are the lanes; each tap's weights
 * serve all points of the tile), pooling in blocked layout. The innermost reduced axis is unrolled when it is short. Where a point is dear (packed
 * weights times one row), a few accumulators do: the tile is several vectors wide, and reads whole lines of few places.
 * Tasks: all other parallel axes. Order of reduction: ascending, one chain per point. */
#include <string.h>

#include "emit_internal.h"
#include "ukr.h"

enum { PAR_TX, PAR_UNROLL, PAR_NV };
enum { MAX_TX = 16, MAX_UNROLL = 9, MAX_NV = 4, DEAR = 4, CHEAP = 2, DEAR_TILE = 4, CHAINS = 4 };

typedef struct Plan { int vec, jam, red[K_AXES], nred; } Plan;
typedef struct Find { const Kernel *k; const Stage *s; int unit[K_AXES], other[K_AXES]; bool affine; } Find;

static void note(Find *f, uint16_t buf, int rank, const Expr *at) {
    Affine a;
    if (!access_affine(f->k, f->s, buf, rank, at, &a)) { f->affine = false; return; }
    for (int i = 0; i < f->s->naxis; i++) {
        if (!a.has[i]) continue;
        if (dim_is(f->k->c, a.coef[i], 1)) f->unit[i]++;
        else f->other[i]++;
    }
}

static void note_load(void *data, const ExprInfo *x) {
    Find *f = data;
    note(f, (uint16_t)x->index, f->k->buf[x->index].rank, x->arg);
}

typedef struct Rows { const Kernel *k; const Plan *p; bool own; } Rows;

/* Does a point of the jammed axis read elements of its own? */
static void note_own(void *data, const ExprInfo *x) {
    Rows *r = data;
    const Stage *s = &r->k->stage[0];
    Ctx *c = r->k->c;
    Affine a;
    r->own = r->own && access_affine(r->k, s, (uint16_t)x->index, r->k->buf[x->index].rank, x->arg, &a) && a.has[r->p->jam];
    for (int i = 0; i < r->p->nred && r->own; i++) {
        int red = r->p->red[i];
        r->own = !a.has[red] || dim_typical(c, a.coef[red]) * dim_typical(c, s->axis[red].extent) <= dim_typical(c, a.coef[r->p->jam]);
    }
}

/* Long rows that share nothing: `nest` has as many chains side by side, and walks through memory in its order. */
static bool better_row_by_row(const Kernel *k, const Plan *p, const Target *t) {
    const Stage *s = &k->stage[0];
    Rows r = {k, p, true};
    expr_loads(k->c, s->body[0], note_own, &r);
    return r.own && dim_typical(k->c, s->axis[p->vec].extent) >= CHAINS * target_lanes(t, reg_type(s->acc[0]));
}

static bool plan(const Kernel *k, Plan *p) {
    const Stage *s = &k->stage[0];
    *p = (Plan){-1, -1, {0}, 0};
    if (s->kind != ST_NEST || !s->comb[0].i || s->nres != 1) return false;
    if (k->nstage > 1 && epilogue_mask(k, 0) != ((1ull << k->nstage) - 2)) return false;
    Find f = {.k = k, .s = s, .affine = true};
    expr_loads(k->c, s->body[0], note_load, &f);
    note(&f, s->out[0].buf, s->out[0].rank, s->out[0].at);
    if (!f.affine) return false;
    for (int a = 0; a < s->naxis; a++) {
        if (s->axis[a].kind == AX_RED) { p->red[p->nred++] = a; continue; }
        if (f.unit[a] && !f.other[a] && dim_lo(k->c, s->axis[a].extent) >= 4) p->vec = a;
    }
    for (int a = 0; a < s->naxis; a++)
        if (s->axis[a].kind == AX_PAR && a != p->vec && (f.other[a] || f.unit[a])) p->jam = a;
    return p->vec >= 0 && p->jam >= 0 && p->nred > 0;
}

static bool tile_match(const Kernel *k, const Target *t) {
    Plan p;
    return plan(k, &p) && !better_row_by_row(k, &p, t);
}

/* Are terms dear in themselves, not by their addresses? */
static bool dear(const Kernel *k) { return expr_cost(k->c, k->stage[0].body[0]) > DEAR && expr_operations(k->c, k->stage[0].body[0]) > CHEAP; }

static int64_t tile_width(const Kernel *k, const Plan *p, const Target *t) {
    int64_t w, max = t->vregs >= 32 ? 14 : 10;
    if (!dim_is_const(k->c, k->stage[0].axis[p->jam].extent, &w)) return max / 2;
    if (w < 1) return 1;
    int64_t tiles = (w + max - 1) / max;
    return (w + tiles - 1) / tiles;
}

static int tile_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    Plan p;
    int64_t e;
    (void)max;
    if (!plan(k, &p)) return 0;
    out[0].par[PAR_TX] = tile_width(k, &p, t);
    bool known = dim_is_const(k->c, k->stage[0].axis[p.red[p.nred - 1]].extent, &e);
    out[0].par[PAR_UNROLL] = known && e <= MAX_UNROLL ? e : 1;
    int64_t nv = 1, lanes = target_lanes(t, reg_type(k->stage[0].acc[0]));
    if (dear(k)) {
        while (nv < MAX_NV && dim_divisible(k->c, k->stage[0].axis[p.vec].extent, 2 * nv * lanes)) nv *= 2;
        if (nv > 1 && out[0].par[PAR_TX] > DEAR_TILE / nv) out[0].par[PAR_TX] = DEAR_TILE / nv;
    }
    out[0].par[PAR_NV] = nv;
    return 1;
}

typedef struct Far { const Kernel *k; const Target *t; const Plan *p; double bytes; } Far;

/* Bytes that come from beyond the second-level cache: an operand of which more is read between two points of an axis outside of the tile than that
 * cache holds is read again at each of them. */
static void note_far(void *data, const ExprInfo *x) {
    Far *f = data;
    const Stage *s = &f->k->stage[0];
    Affine a;
    if (!access_affine(f->k, s, (uint16_t)x->index, f->k->buf[x->index].rank, x->arg, &a)) return;
    double bytes = dt_bits(x->dtype) / 8.0, again = 1;
    for (int i = s->naxis - 1; i >= 0; i--) {
        bool inside = s->axis[i].kind == AX_RED || i == f->p->vec || i == f->p->jam;
        if (inside && a.has[i]) bytes *= dim_typical(f->k->c, s->axis[i].extent);
    }
    for (int i = s->naxis - 1; i >= 0; i--) {
        if (s->axis[i].kind == AX_RED || i == f->p->vec || i == f->p->jam) continue;
        double n = dim_typical(f->k->c, s->axis[i].extent);
        if (a.has[i]) bytes *= n;
        else if (bytes > f->t->l2) again *= n;
    }
    if (again > 1) f->bytes += bytes * again;
}

static double tile_cost(const Kernel *k, const Sched *s, const Target *t) {
    enum { FAR_RATE = 8 }; /* bytes a cycle */
    Plan p;
    const Stage *g = &k->stage[0];
    if (!plan(k, &p)) return 1e30;
    Far far = {k, t, &p, 0};
    expr_loads(k->c, g->body[0], note_far, &far);
    double points = 1;
    for (int a = 0; a < g->naxis; a++) points *= dim_typical(k->c, g->axis[a].extent);
    double chain = CHAINS / (double)(s->par[PAR_TX] * s->par[PAR_NV]);
    double step = chain > 1 ? chain : 1, later = 0;
    for (int st = 1; st < k->nstage; st++) later += nest_stage_cost(k, &k->stage[st], t);
    double cycles = points / target_lanes(t, DT_F32) * step * (expr_cost(k->c, g->body[0]) > DEAR ? expr_cost(k->c, g->body[0]) / 2.0 : 1);
    return later + (cycles > far.bytes / FAR_RATE ? cycles : far.bytes / FAR_RATE);
}

typedef struct Gen { Emit *e; Plan p; int unroll, nv; uint16_t lanes; } Gen;

/* Vector v of row r of the tile at p. */
static Point tile_point(Gen *g, const Point *p, LVal jam0, int r, int v) {
    Point q = *p;
    q.axis[g->p.jam] = lir_addi(g->e->l, jam0, r);
    q.axis[g->p.vec] = lir_addi(g->e->l, p->axis[g->p.vec], (int64_t)v * g->lanes);
    return q;
}

static void accumulate(Gen *g, int tx, const Point *p, LVal jam0, LVal *acc) {
    for (int r = 0; r < tx; r++)
        for (int v = 0; v < g->nv; v++) {
            Point q = tile_point(g, p, jam0, r, v);
            emit_accumulate(g->e, &g->e->k->stage[0], &acc[r * g->nv + v], &q);
        }
}

static void reduce(Gen *g, int i, int tx, Point *p, LVal jam0, LVal *acc) {
    Emit *e = g->e;
    const Stage *s = &e->k->stage[0];
    Lir *l = e->l;
    int axis = g->p.red[i], n = tx * g->nv;
    bool inner = i + 1 == g->p.nred;
    if (inner && g->unroll > 1) {
        for (int u = 0; u < g->unroll; u++) {
            p->axis[axis] = lir_i64(l, u);
            accumulate(g, tx, p, jam0, acc);
        }
        return;
    }
    LVal lo = lir_i64(l, 0), hi = emit_dim(e, s->axis[axis].extent), next[MAX_TX];
    Parts parts = emit_parts(e, s, dim_hi(e->c, s->axis[axis].extent), emit_terms(e, s, axis + 1, -1, 1), 1, &lo, &hi, (uint32_t)n, acc);
    LFor f = lir_for(l, lo, hi, lir_i64(l, 1), (uint32_t)n, acc);
    memcpy(next, f.c, sizeof(LVal) * (size_t)n);
    if (parts.size.each) emit_initial_all(e, s, (uint32_t)n, next);
    p->axis[axis] = f.iv;
    if (inner) accumulate(g, tx, p, jam0, next);
    else reduce(g, i + 1, tx, p, jam0, next);
    if (parts.size.each) emit_add_part(e, s, (uint32_t)n, f.c, next);
    lir_for_end(l, &f, next, acc);
    emit_parts_end(e, s, &parts, (uint32_t)n, acc);
}

static void one_tile(Gen *g, int tx, Point *p, LVal jam0) {
    Emit *e = g->e;
    const Stage *s = &e->k->stage[0];
    LVal acc[MAX_TX];
    CHECK(tx * g->nv <= MAX_TX);
    for (int i = 0; i < tx * g->nv; i++) acc[i] = emit_initial(e, s, 0, g->lanes);
    Point q = *p;
    reduce(g, 0, tx, &q, jam0, acc);
    for (int v = 0; v < g->nv; v++) {
        Point at = tile_point(g, p, jam0, 0, v);
        emit_epilogue_rows(e, g->p.jam, &acc[v], g->nv, &at, tx);
    }
}

/* Tiles along the jammed axis: q of tx, the rest one narrower (known extents); or tx, then single points. */
static void along(Gen *g, Point *p, int tx) {
    Emit *e = g->e;
    Lir *l = e->l;
    Dim ext = e->k->stage[0].axis[g->p.jam].extent;
    int64_t w;
    LVal end = emit_dim(e, ext), zero = lir_i64(l, 0);
    LVal cut;
    int rest;
    if (dim_is_const(e->c, ext, &w)) {
        int64_t tiles = (w + tx - 1) / tx, small = tiles * tx - w;
        cut = lir_i64(l, (tiles - small) * tx);
        rest = small ? tx - 1 : 0;
    } else {
        cut = lir_muli(l, lir_op2(l, S_DIV, end, lir_i64(l, tx)), tx);
        rest = tx > 1 ? 1 : 0;
    }
    LFor f = lir_for(l, zero, cut, lir_i64(l, tx), 0, NULL);
    one_tile(g, tx, p, f.iv);
    lir_for_end(l, &f, NULL, NULL);
    if (!rest) return;
    f = lir_for(l, cut, end, lir_i64(l, rest), 0, NULL);
    one_tile(g, rest, p, f.iv);
    lir_for_end(l, &f, NULL, NULL);
}

static void tile_build(Emit *e) {
    Gen gen = {.e = e, .unroll = (int)e->s->par[PAR_UNROLL], .nv = (int)e->s->par[PAR_NV]}, *g = &gen;
    CHECK(plan(e->k, &g->p));
    const Stage *s = &e->k->stage[0];
    Lir *l = e->l;
    Ctx *c = e->c;
    g->lanes = target_lanes(e->t, reg_type(s->acc[0]));
    int64_t hi = dim_hi(c, s->axis[g->p.vec].extent);
    while (g->lanes > 2 && g->lanes / 2 >= hi) g->lanes /= 2;
    uint32_t others = 0;
    for (int a = 0; a < s->naxis; a++)
        if (s->axis[a].kind == AX_PAR && a != g->p.vec && a != g->p.jam) others |= 1u << a;
    Dim vext = s->axis[g->p.vec].extent;
    Point p = {.vaxis = (int8_t)g->p.vec, .lanes = g->lanes};
    Tasks tasks = {0};
    tasks_points(&tasks, s, others, &p);
    tasks_begin(e, &tasks);
    tasks_grain(e, tile_cost(e->k, e->s, e->t));
    LFor t = lir_for_tasks(l, lir_i64(l, 1), 0, NULL);
    tasks_split(e, &tasks, t.iv);
    int tx = (int)e->s->par[PAR_TX];
    bool exact = dim_divisible(c, vext, g->lanes);
    LVal n = emit_dim(e, vext), whole = exact ? n : lir_muli(l, lir_op2(l, S_DIV, n, lir_i64(l, g->lanes)), g->lanes);
    LFor f = lir_for(l, lir_i64(l, 0), whole, lir_i64(l, g->nv * g->lanes), 0, NULL);
    p.axis[g->p.vec] = f.iv;
    along(g, &p, tx);
    lir_for_end(l, &f, NULL, NULL);
    if (!exact) {
        LVal left = lir_sub(l, n, whole);
        LIf i = lir_if(l, lir_op2(l, S_GT, left, lir_i64(l, 0)), 0);
        p.mask = lir_mask(l, left, g->lanes);
        p.axis[g->p.vec] = whole;
        along(g, &p, tx);
        lir_else(l, &i, NULL);
        lir_endif(l, &i, NULL, NULL);
    }
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_tile = {"tile", "tx unroll nv", F_SIMD, tile_match, tile_candidates, tile_cost, tile_build};
