/* ukr_amx.c: template `contract_tiles`: contractions of u8 with constant panels of i8 in matrix tiles (F_AMX). A tile of A is up to 16
 * rows along the innermost m axis, 64 bytes of k each, read where it lies; a tile of B is 16 quads of k of a panel of 16 columns, which
 * is how `pack` and `layout` store it. Two tiles of rows times two panels are summed over all of k in four tiles of i32, go
 * through scratch into vectors, and there meet the epilogues.
 *
 * Rows that are no multiple of the tile: the last tile starts earlier, and its first rows, which the one before has stored, are
 * not stored again (buffers of an epilogue may share memory). Each load stands before its first use: 19.5 cycles per product of
 * tiles, 21 with loads first (cpu.md 10.4). Integer sums are exact, so their order is free.
 *
 * Tasks: batch, pairs of panels, chunks of row tiles. */
#include <string.h>

#include "contract.h"
#include "ukr.h"

enum { PAR_ROWS, PAR_CHUNK, PAR_PF };
enum { TILE_SUM, TILE_A = 4, TILE_B = 6 };                            /* tile numbers: sums 2 r + v, rows r, panels v */
enum { ROWS = 16, STEP = 16 /* quads */, A_STEP = 64, B_STEP = 1024, LINE = 64, PITCH = 128 /* of a pair of sums in scratch */ };

typedef struct Tiled { Shape x; int k; int64_t steps; } Tiled;  /* k: reduced axis of quads, `steps` tiles long */

static bool tiled(const Kernel *k, Tiled *t) {
    Ctx *c = k->c;
    Shape *x = &t->x;
    if (!contract_shape(k, x) || x->quad < 0 || !x->nm || !dim_is(c, x->s->axis[x->vec].extent, 16)) return false;
    t->k = -1;
    for (int i = 0; i < x->nred; i++) {
        int a = x->red[i];
        int64_t n;
        if (!dim_is(c, x->a.f.coef[a], 4) || !dim_is(c, x->b.f.coef[a], LINE) || !dim_is_const(c, x->s->axis[a].extent, &n) || n % STEP || !n)
            continue;
        t->k = a;
        t->steps = n / STEP;
        memmove(x->red + i, x->red + i + 1, sizeof *x->red * (size_t)(--x->nred - i));
        return true;
    }
    return false;
}

static bool amx_match(const Kernel *k, const Target *t) {
    Tiled x;
    (void)t;
    return tiled(k, &x);
}

/* ---- choosing ---- */

static double row_tiles(const Shape *x) { /* at typical sizes */
    double w = shape_extent(x, x->m[x->nm - 1]), tiles = (double)(int64_t)((w + ROWS - 1) / ROWS);
    return tiles * (x->nm > 1 ? shape_extent(x, x->m[x->nm - 2]) : 1);
}

static double column_pairs(const Shape *x) { return x->nblk < 0 ? 1 : (double)(int64_t)((shape_extent(x, x->nblk) + 1) / 2); }

static double outer(const Shape *x) {
    return shape_product(x, x->batch, x->nbatch) * shape_product(x, x->nout, x->nnout) * (x->nm > 2 ? shape_product(x, x->m, x->nm - 2) : 1);
}

static Dim count_row_tiles(Ctx *c, const Shape *x) {
    Dim n = dim_ceildiv(c, x->s->axis[x->m[x->nm - 1]].extent, dim_const(c, ROWS));
    return x->nm > 1 ? dim_mul(c, n, x->s->axis[x->m[x->nm - 2]].extent) : n;
}

static int amx_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    Tiled tile;
    const Shape *x = &tile.x;
    int64_t w, tiles, chunk = 8;
    (void)t, (void)max;
    if (!tiled(k, &tile)) return 0;
    out[0].par[PAR_ROWS] = ROWS;
    if (dim_is_const(k->c, x->s->axis[x->m[x->nm - 1]].extent, &w) && w > 0) { /* rows shared out evenly */
        int64_t n = (w + ROWS - 1) / ROWS;
        out[0].par[PAR_ROWS] = (w + n - 1) / n;
    }
    if (dim_is_const(k->c, count_row_tiles(k->c, x), &tiles) && tiles > 0) {
        double others = outer(x) * column_pairs(x);
        int64_t want = others >= 24 ? 1 : (int64_t)(24 / others) + 1, pairs = (tiles + 1) / 2;
        chunk = (pairs + want - 1) / want * 2;
        if (chunk >= tiles) { /* a task walks all rows: it can ask for the next panels */
            int64_t lines = (2 * B_STEP / LINE + pairs - 1) / pairs;
            const KBuf *b = &k->buf[x->b.buf];
            out[0].par[PAR_PF] = x->nblk >= 0 && b->data && b->data->bytes >= 512u << 10 && lines <= 16 ? lines : 0;
        }
    }
    out[0].par[PAR_CHUNK] = chunk;
    return 1;
}

static double amx_cost(const Kernel *k, const Sched *s, const Target *t) {
    Tiled tile;
    const Shape *x = &tile.x;
    (void)t;
    if (!tiled(k, &tile)) return 1e30;
    double tiles = row_tiles(x), pairs = (double)(int64_t)((tiles + 1) / 2), rows = (double)s->par[PAR_ROWS];
    double steps = (double)tile.steps * shape_product(x, x->red, x->nred), w = shape_extent(x, x->m[x->nm - 1]);
    double stored = w < rows ? w : rows;
    return outer(x) * column_pairs(x) * pairs * (steps * (tiles > 1 ? 78 : 42) + 2 * stored * (tiles > 1 ? 2 : 1) * 5 + 200);
}

/* ---- code ---- */

typedef struct Gen {
    Emit *e;
    Lir *l;
    Tiled t;
    LVal at[K_AXES];
    LVal rows, width, across;   /* rows of a tile; extent of their axis, and its tiles */
    LVal block;                 /* of the task's row tiles: number of the pair at hand */
} Gen;

typedef struct Rows { LVal y, x, first; } Rows; /* coordinates of a row tile; rows before `first` are stored already */

static LVal coef(Gen *g, const Operand *o, int axis) { return o->f.has[axis] ? emit_dim(g->e, o->f.coef[axis]) : lir_i64(g->l, 0); }

static LVal extent(Gen *g, int axis) { return emit_dim(g->e, g->t.x.s->axis[axis].extent); }

/* Offset of an operand at g->at, reduced axes at 0. */
static LVal origin(Gen *g, const Operand *o) {
    Point p = {.vaxis = -1, .lanes = 1};
    emit_memo_reset(g->e);
    for (int a = 0; a < K_AXES; a++) p.axis[a] = lir_i64(g->l, 0);
    LVal sum = emit_expr(g->e, g->t.x.s, o->f.rest, &p);
    for (int a = 0; a < g->t.x.s->naxis; a++)
        if (o->f.has[a] && g->t.x.s->axis[a].kind == AX_PAR) sum = lir_add(g->l, sum, lir_mul(g->l, g->at[a], coef(g, o, a)));
    return sum;
}

static Rows row_tile(Gen *g, LVal q) {
    Lir *l = g->l;
    LVal tile = lir_op2(l, S_REM, q, g->across), base = lir_mul(l, tile, g->rows);
    LVal start = lir_op2(l, S_MIN, base, lir_sub(l, g->width, g->rows));
    return (Rows){lir_op2(l, S_DIV, q, g->across), start, lir_sub(l, base, start)};
}

static void go_to(Gen *g, const Rows *r) {
    const Shape *x = &g->t.x;
    g->at[x->m[x->nm - 1]] = r->x;
    if (x->nm > 1) g->at[x->m[x->nm - 2]] = r->y;
}

typedef struct Block { int nr, nv; LVal a[2], b, pitch, panel; } Block; /* origins in A per row tile, in B; rows of A, panels of B apart */

/* Asks for the panels of the next pair of columns, a part in each pair of row tiles. */
static void prefetch(Gen *g, LVal b) {
    Lir *l = g->l;
    int lines = (int)g->e->s->par[PAR_PF];
    LVal next = lir_add(l, b, lir_muli(l, coef(g, &g->t.x.b, g->t.x.nblk), 2));
    next = lir_add(l, next, lir_muli(l, g->block, (int64_t)lines * LINE / 2));
    for (int i = 0; i < lines; i++) {
        LVal panel = i % 2 ? coef(g, &g->t.x.b, g->t.x.nblk) : lir_i64(l, 0);
        lir_prefetch(l, g->e->ptr[g->t.x.b.buf], lir_addi(l, lir_add(l, next, panel), (int64_t)(i / 2) * LINE), DT_I8, 2);
    }
}

static void step(Gen *g, const Block *k, LVal ka, LVal kb) {
    Lir *l = g->l;
    const Shape *x = &g->t.x;
    LVal a = g->e->ptr[x->a.buf], b = g->e->ptr[x->b.buf], at = lir_add(l, k->b, kb), line = lir_i64(l, LINE);
    if (g->e->s->par[PAR_PF]) prefetch(g, at);
    for (int r = 0; r < k->nr; r++) {
        lir_tile_load(l, TILE_A + r, a, lir_add(l, k->a[r], ka), k->pitch);
        for (int v = 0; v < k->nv; v++) {
            if (!r) lir_tile_load(l, TILE_B + v, b, v ? lir_add(l, at, k->panel) : at, line);
            lir_tile_dot4(l, TILE_SUM + 2 * r + v, TILE_A + r, TILE_B + v);
        }
    }
}

static void reduce(Gen *g, const Block *k, int i, LVal ka, LVal kb) {
    Lir *l = g->l;
    const Shape *x = &g->t.x;
    bool last = i == x->nred;
    if (last && g->t.steps == 1) {
        step(g, k, ka, kb);
        return;
    }
    LFor f = lir_for(l, lir_i64(l, 0), last ? lir_i64(l, g->t.steps) : extent(g, x->red[i]), lir_i64(l, 1), 0, NULL);
    ka = lir_add(l, ka, last ? lir_muli(l, f.iv, A_STEP) : lir_mul(l, f.iv, coef(g, &x->a, x->red[i])));
    kb = lir_add(l, kb, last ? lir_muli(l, f.iv, B_STEP) : lir_mul(l, f.iv, coef(g, &x->b, x->red[i])));
    if (last) step(g, k, ka, kb);
    else reduce(g, k, i + 1, ka, kb);
    lir_for_end(l, &f, NULL, NULL);
}

/* Rows of a tile from scratch through the epilogues. */
static void finish(Gen *g, int r, const Rows *rows, int nv) {
    Lir *l = g->l;
    const Shape *x = &g->t.x;
    int xa = x->m[x->nm - 1];
    go_to(g, rows);
    LFor f = lir_for(l, rows->first, g->rows, lir_i64(l, 1), 0, NULL);
    for (int v = 0; v < nv; v++) {
        Point full = {.vaxis = (int8_t)x->vec, .lanes = 16}, p;
        memcpy(full.axis, g->at, sizeof full.axis);
        full.axis[xa] = lir_add(l, rows->x, f.iv);
        if (x->nblk >= 0) full.axis[x->nblk] = lir_addi(l, g->at[x->nblk], v);
        LVal at = lir_addi(l, lir_muli(l, f.iv, PITCH / 4), (r * ROWS * PITCH + v * LINE) / 4);
        LVal acc = lir_load(l, lir_scratch(l), at, (LTy){DT_I32, 16}, (LVal){0}, 64);
        emit_parallel_point(x->s, &full, &p);
        emit_epilogue(g->e, 0, &acc, &p);
    }
    lir_for_end(l, &f, NULL, NULL);
}

static void block(Gen *g, LVal q, int nr, int nv) {
    Lir *l = g->l;
    const Shape *x = &g->t.x;
    Rows rows[2];
    LVal pitch = lir_i64(l, PITCH);
    Block k = {.nr = nr, .nv = nv, .pitch = coef(g, &x->a, x->m[x->nm - 1]), .panel = x->nblk >= 0 ? coef(g, &x->b, x->nblk) : lir_i64(l, 0)};
    for (int r = 0; r < nr; r++) {
        rows[r] = row_tile(g, lir_addi(l, q, r));
        go_to(g, &rows[r]);
        k.a[r] = origin(g, &x->a);
        for (int v = 0; v < nv; v++) lir_tile_zero(l, TILE_SUM + 2 * r + v);
    }
    k.b = origin(g, &x->b);
    reduce(g, &k, 0, lir_i64(l, 0), lir_i64(l, 0));
    for (int r = 0; r < nr; r++)
        for (int v = 0; v < nv; v++) lir_tile_store(l, TILE_SUM + 2 * r + v, lir_scratch(l), lir_i64(l, r * ROWS * PITCH + v * LINE), pitch);
    for (int r = 0; r < nr; r++) finish(g, r, &rows[r], nv);
}

static void row_blocks(Gen *g, LVal q0, LVal q1, int nv) {
    Lir *l = g->l;
    LVal pairs = lir_add(l, q0, lir_muli(l, lir_op2(l, S_DIV, lir_sub(l, q1, q0), lir_i64(l, 2)), 2));
    LFor f = lir_for(l, q0, pairs, lir_i64(l, 2), 0, NULL);
    g->block = lir_op2(l, S_DIV, lir_sub(l, f.iv, q0), lir_i64(l, 2));
    block(g, f.iv, 2, nv);
    lir_for_end(l, &f, NULL, NULL);
    int64_t tiles;
    if (dim_is_const(g->e->c, count_row_tiles(g->e->c, &g->t.x), &tiles) && tiles % 2 == 0) return;
    f = lir_for(l, pairs, q1, lir_i64(l, 1), 0, NULL);
    g->block = lir_op2(l, S_DIV, lir_sub(l, f.iv, q0), lir_i64(l, 2));
    block(g, f.iv, 1, nv);
    lir_for_end(l, &f, NULL, NULL);
}

static void columns(Gen *g, LVal pair, LVal q0, LVal q1) {
    Lir *l = g->l;
    const Shape *x = &g->t.x;
    if (x->nblk < 0) {
        row_blocks(g, q0, q1, 1);
        return;
    }
    Dim n = x->s->axis[x->nblk].extent;
    g->at[x->nblk] = lir_muli(l, pair, 2);
    if (dim_divisible(g->e->c, n, 2)) {
        row_blocks(g, q0, q1, 2);
        return;
    }
    LVal next = lir_addi(l, g->at[x->nblk], 1);
    LIf two = lir_if(l, lir_op2(l, S_LT, next, emit_dim(g->e, n)), 0);
    row_blocks(g, q0, q1, 2);
    lir_else(l, &two, NULL);
    row_blocks(g, q0, q1, 1);
    lir_endif(l, &two, NULL, NULL);
}

static void amx_build(Emit *e) {
    Gen gen = {.e = e, .l = e->l}, *g = &gen;
    CHECK(tiled(e->k, &g->t));
    const Shape *x = &g->t.x;
    Ctx *c = e->c;
    Lir *l = e->l;
    int64_t chunk = e->s->par[PAR_CHUNK];
    Dim width = x->s->axis[x->m[x->nm - 1]].extent, tiles = count_row_tiles(c, x);
    LVal chunk_no, pair;
    Tasks tasks = {0};
    tasks_along(&tasks, dim_ceildiv(c, tiles, dim_const(c, chunk)), &chunk_no);
    tasks_axes(&tasks, x->s, x->m, x->nm - 2, g->at);
    tasks_along(&tasks, x->nblk >= 0 ? dim_ceildiv(c, x->s->axis[x->nblk].extent, dim_const(c, 2)) : dim_const(c, 1), &pair);
    tasks_axes(&tasks, x->s, x->nout, x->nnout, g->at);
    tasks_axes(&tasks, x->s, x->batch, x->nbatch, g->at);
    tasks_begin(e, &tasks);
    tasks_grain(e, amx_cost(e->k, e->s, e->t));
    e->code->scratch = dim_const(c, 2 * ROWS * PITCH);
    for (int a = 0; a < K_AXES; a++) g->at[a] = lir_i64(l, 0);
    g->width = emit_dim(e, width);
    g->rows = lir_op2(l, S_MIN, lir_i64(l, e->s->par[PAR_ROWS]), g->width);
    g->across = emit_dim(e, dim_ceildiv(c, width, dim_const(c, ROWS)));
    LVal t0 = lir_t0(l);
    LIf any = lir_if(l, lir_op2(l, S_LT, t0, lir_t1(l)), 0);
    lir_tiles(l, g->rows);
    LFor t = lir_for_tasks(l, lir_i64(l, 1), 0, NULL);
    tasks_split(e, &tasks, t.iv);
    LVal q0 = lir_muli(l, chunk_no, chunk), q1 = lir_addi(l, q0, chunk);
    q1 = lir_op2(l, S_MIN, q1, emit_dim(e, tiles));
    columns(g, pair, q0, q1);
    lir_for_end(l, &t, NULL, NULL);
    lir_tiles_end(l);
    lir_else(l, &any, NULL);
    lir_endif(l, &any, NULL, NULL);
}

const Tmpl tmpl_contract_tiles = {"contract_tiles", "rows chunk pf", F_AMX, amx_match, amx_candidates, amx_cost, amx_build};
