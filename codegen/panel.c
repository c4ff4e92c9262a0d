/* panel.c: packing of operands that are computed at run time, and the register tile over what was
 * packed. In: an operand as an expression; out: Lir that leaves it in scratch, in the order in
 * which the tile reads it. If memory is contiguous along the columns, vectors are copied; if it is
 * contiguous along the rows, square blocks are transposed in registers. */
#include "panel.h"

#include <string.h>

typedef struct Unit {
    const Kernel *k;
    const Stage *s;
    int axis;
    bool unit, other;
} Unit;

static void unit_load(void *data, const ExprInfo *x) {
    Unit *u = data;
    Affine f;
    bool affine =
        access_affine(u->k, u->s, (uint16_t)x->index, u->k->buf[x->index].rank, x->arg, &f);
    if (affine && !f.has[u->axis]) return;
    if (affine && dim_is(u->k->c, f.coef[u->axis], 1))
        u->unit = true;
    else
        u->other = true;
}

bool panel_contiguous(const Kernel *k, const Stage *s, Expr x, int axis) {
    Unit u = {k, s, axis, false, false};
    expr_loads(k->c, x, unit_load, &u);
    return u.unit && !u.other;
}

static bool contiguous(Emit *e, const PanelSource *src, int axis) {
    return panel_contiguous(e->k, src->s, src->x, axis);
}

static LVal extent_of(Emit *e, const PanelSource *src, int axis) {
    return emit_dim(e, src->s->axis[axis].extent);
}

static LVal round_up(Lir *l, LVal v, int64_t to) {
    return lir_muli(l, lir_op2(l, S_DIV, lir_addi(l, v, to - 1), lir_i64(l, to)), to);
}

LVal panel_rows(Emit *e, const PanelSource *src, int lanes) {
    return round_up(e->l, extent_of(e, src, src->k), lanes);
}

static LVal value(Emit *e, const PanelSource *src, Point *p) {
    emit_memo_reset(e);
    LVal v = p->lanes > 1 ? emit_vec(e, src->s, src->x, p) : emit_expr(e, src->s, src->x, p);
    return v;
}

/* for pos in [0, n) by step: body(pos, mask), where mask is none for whole steps and cuts the last
 * one. */
typedef void (*StepFn)(Emit *e, void *data, LVal pos, LVal mask);

static void steps(Emit *e, LVal n, int step, StepFn fn, void *data) {
    Lir *l = e->l;
    int64_t known;
    bool is_known = lir_is_const(l, n, &known);
    LVal whole = lir_muli(l, lir_op2(l, S_DIV, n, lir_i64(l, step)), step);
    if (!is_known || known >= step) {
        LFor f = lir_for(l, lir_i64(l, 0), whole, lir_i64(l, step), 0, NULL);
        fn(e, data, f.iv, (LVal){0});
        lir_for_end(l, &f, NULL, NULL);
    }
    if (is_known && known % step == 0) return;
    LIf i = {0};
    if (!is_known) i = lir_if(l, lir_op2(l, S_LT, whole, n), 0);
    fn(e, data, whole, lir_mask(l, lir_sub(l, n, whole), (uint16_t)step));
    if (!is_known) {
        lir_else(l, &i, NULL);
        lir_endif(l, &i, NULL, NULL);
    }
}

typedef struct Pack {
    const PanelSource *src;
    LVal first, last, dst, pitch;
    int lanes, width;
} Pack;

/* lanes columns from p->first at k .. k + lanes: loaded along k, stored along the columns. */
static void pack_square(Emit *e, void *data, LVal k, LVal mask) {
    const Pack *p = data;
    Lir *l = e->l;
    LVal v[64];
    for (int i = 0; i < p->lanes; i++) {
        Point at = p->src->at;
        at.axis[p->src->n] = lir_op2(l, S_MIN, lir_addi(l, p->first, i), p->last);
        at.axis[p->src->k] = k;
        at.vaxis = (int8_t)p->src->k;
        at.lanes = (uint16_t)p->lanes;
        at.mask = mask;
        v[i] = value(e, p->src, &at);
    }
    lir_transpose(l, v, (uint16_t)p->lanes);
    for (int i = 0; i < p->lanes; i++)
        lir_store(l, p->dst, lir_muli(l, lir_addi(l, k, i), p->width), v[i], (LVal){0}, 0);
}

static void pack_column(Emit *e, const Pack *p, LVal k, LVal mask) {
    Lir *l = e->l;
    Point at = p->src->at;
    at.axis[p->src->n] = p->first;
    at.axis[p->src->k] = k;
    at.vaxis = (int8_t)p->src->n;
    at.lanes = (uint16_t)p->lanes;
    at.mask = mask;
    LVal line = lir_muli(l, k, p->width);
    lir_store(l, p->dst, line, value(e, p->src, &at), (LVal){0}, 0);
}

/* One vector of columns at every k. */
static void pack_columns(Emit *e, const Pack *p, LVal mask) {
    enum { FEW = 8 };
    Lir *l = e->l;
    int64_t known;
    LVal rows = extent_of(e, p->src, p->src->k);
    if (lir_is_const(l, rows, &known) && known <= FEW) {
        for (int64_t k = 0; k < known; k++) pack_column(e, p, lir_i64(l, k), mask);
        return;
    }
    LFor f = lir_for(l, lir_i64(l, 0), rows, lir_i64(l, 1), 0, NULL);
    pack_column(e, p, f.iv, mask);
    lir_for_end(l, &f, NULL, NULL);
}

typedef struct PackAll {
    Pack p;
    LVal n0, base, rows;
    bool square;
} PackAll;

static void pack_group(Emit *e, void *data, LVal pos,
                       LVal mask) { /* the vector of columns at pos */
    const PackAll *a = data;
    Lir *l = e->l;
    Pack p = a->p;
    p.first = lir_add(l, a->n0, pos);
    LVal panel = lir_op2(l, S_DIV, pos, lir_i64(l, p.width)),
         within = lir_sub(l, pos, lir_muli(l, panel, p.width));
    p.dst = lir_ptr_add(
        l, a->base, lir_add(l, lir_muli(l, lir_mul(l, panel, a->rows), p.width), within), DT_F32);
    if (a->square)
        steps(e, extent_of(e, p.src, p.src->k), p.lanes, pack_square, &p);
    else
        pack_columns(e, &p, mask);
}

void panel_pack(Emit *e, const PanelSource *src, LVal n0, LVal count, LVal dst, int lanes,
                int width) {
    PackAll a = {.p = {.src = src, .lanes = lanes, .width = width},
                 .n0 = n0,
                 .base = dst,
                 .rows = panel_rows(e, src, lanes)};
    a.p.last = lir_addi(e->l, lir_add(e->l, n0, count), -1);
    a.square = !contiguous(e, src, src->n) && contiguous(e, src, src->k);
    steps(e, count, lanes, pack_group, &a);
}

static void copy_vector(Emit *e, void *data, LVal k, LVal mask) {
    const Pack *p = data;
    Point at = p->src->at;
    at.axis[p->src->n] = p->first;
    at.axis[p->src->k] = k;
    at.vaxis = (int8_t)p->src->k;
    at.lanes = (uint16_t)p->lanes;
    at.mask = mask;
    LVal v = value(e, p->src, &at);
    if (mask.i)
        v = lir_op3(e->l, S_SELECT, mask, v, lir_splat(e->l, lir_float(e->l, DT_F32, 0), at.lanes));
    lir_store(e->l, p->dst, k, v, (LVal){0}, 0);
}

void panel_rows_copy(Emit *e, const PanelSource *src, LVal n0, LVal count, LVal dst, LVal pitch,
                     int lanes) {
    Lir *l = e->l;
    LFor f = lir_for(l, lir_i64(l, 0), count, lir_i64(l, 1), 0, NULL);
    Pack p = {.src = src,
              .lanes = lanes,
              .first = lir_add(l, n0, f.iv),
              .dst = lir_ptr_add(l, dst, lir_mul(l, f.iv, pitch), DT_F32)};
    steps(e, extent_of(e, src, src->k), lanes, copy_vector, &p);
    lir_for_end(l, &f, NULL, NULL);
}

/* ---- the tile ---- */

TileSize panel_tile(const Target *t) {
    return t->vregs >= 32 ? (TileSize){14, 2} : (TileSize){6, 2};
}

static void product_step(Lir *l, const TileProduct *t, LVal i, LVal *acc) {
    LVal b[8], zero = {0};
    LTy vt = {DT_F32, (uint16_t)t->lanes}, st = {DT_F32, 1};
    LVal bk = lir_add(l, t->col, lir_mul(l, i, t->bstep)), ak = lir_mul(l, i, t->astep);
    for (int v = 0; v < t->nv; v++)
        b[v] = lir_load(l, t->b, lir_addi(l, bk, (int64_t)v * t->lanes), vt, zero, 0);
    for (int r = 0; r < t->rows; r++) {
        LVal s = lir_splat(l, lir_load(l, t->a, lir_add(l, t->row[r], ak), st, zero, 0),
                           (uint16_t)t->lanes);
        for (int v = 0; v < t->nv; v++)
            acc[r * t->nv + v] = lir_fma(l, s, b[v], acc[r * t->nv + v]);
    }
}

void tile_product(Lir *l, const TileProduct *t, LVal *acc) {
    enum { UNROLL = 4 };
    int n = t->rows * t->nv;
    LVal next[PANEL_TILE];
    int64_t known;
    bool is_known = lir_is_const(l, t->n, &known);
    LVal whole = lir_muli(l, lir_op2(l, S_DIV, t->n, lir_i64(l, UNROLL)), UNROLL);
    CHECK(n <= PANEL_TILE);
    LFor f = lir_for(l, lir_i64(l, 0), whole, lir_i64(l, UNROLL), (uint32_t)n, acc);
    memcpy(next, f.c, sizeof(LVal) * (size_t)n);
    for (int u = 0; u < UNROLL; u++) product_step(l, t, lir_addi(l, f.iv, u), next);
    lir_for_end(l, &f, next, acc);
    if (is_known && known % UNROLL == 0) return;
    f = lir_for(l, whole, t->n, lir_i64(l, 1), (uint32_t)n, acc);
    memcpy(next, f.c, sizeof(LVal) * (size_t)n);
    product_step(l, t, f.iv, next);
    lir_for_end(l, &f, next, acc);
}
