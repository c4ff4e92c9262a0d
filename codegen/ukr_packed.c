/* ukr_packed.c: template `contract_packed`: products whose second operand is computed at run time
 * and not contiguous along any of its own axes (q * k^T, a transposed activation), or far apart in its rows, or is an
 * expression. Each task packs one panel of columns of it in scratch and walks the rows of the first
 * operand, read in place, in the register tile of panel.c; then epilogues.
 *
 * Tasks: batch axes, other column axes, panels, chunks of rows. Each element sums its products in
 * ascending order of the reduced axes, in one chain: results do not depend on tiles or threads. */
#include <string.h>

#include "contract.h"
#include "panel.h"
#include "ukr.h"

enum { PAR_MR, PAR_NV, PAR_ROWS };

typedef struct Packed {
    const Kernel *k;
    const Stage *s;
    Expr b;
    Affine a;
    uint16_t abuf;
    int n, m;                /* column axis of panels; row axis of tiles, or -1 */
    int loop[K_AXES], nloop; /* other m axes: walked within a task */
    int task[K_AXES], ntask; /* batch and other column axes */
    int red[K_AXES], nred;   /* the last one is the rows of panels */
} Packed;

/* ---- matching ---- */

static bool reads_inputs(const Kernel *k, Expr e) {
    uint64_t m = expr_bufs(k->c, e);
    for (int b = 0; b < k->nbuf; b++)
        if (m >> b & 1 && k->buf[b].kind != KB_IN) return false;
    return m != 0;
}

static double typical(const Packed *x, int axis) {
    return dim_typical(x->k->c, x->s->axis[axis].extent);
}

/* Element step of the result along axis of the contraction: 1? */
static bool stores_along(const Packed *x, int axis) {
    const Kernel *k = x->k;
    int st = k->nstage - 1, p = 0, at = axis;
    for (int a = 0; st > 0 && a < axis; a++) p += x->s->axis[a].kind == AX_PAR;
    if (st > 0) at = p;
    const Stage *s = &k->stage[st];
    Affine f;
    return access_affine(k, s, s->out[0].buf, s->out[0].rank, s->out[0].at, &f) &&
           dim_is(k->c, f.coef[at], 1);
}

static bool classify(const Kernel *k, Packed *x, bool swapped) {
    const Stage *s = &k->stage[0];
    Ctx *c = k->c;
    *x = (Packed){.k = k, .s = s, .n = -1, .m = -1};
    if (s->kind != ST_NEST || s->nres != 1 || !s->comb[0].i || s->acc[0] != DT_F32 ||
        s->init[0].i != 0)
        return false;
    if (k->nstage > 1 &&
        (k->nstage > 64 || epilogue_mask(k, 0) != ((1ull << (k->nstage - 1)) - 1) << 1))
        return false;
    ExprInfo body = *expr_info(c, s->body[0]), comb = *expr_info(c, s->comb[0]);
    if (body.kind != E_OP || body.op != S_MUL || comb.kind != E_OP || comb.op != S_ADD)
        return false;
    if (expr_info(c, comb.arg[0])->kind != E_ARG || expr_info(c, comb.arg[1])->kind != E_ARG)
        return false;
    Expr ea = body.arg[swapped];
    x->b = body.arg[!swapped];
    ExprInfo a = *expr_info(c, ea);
    if (a.kind != E_LOAD || a.oob != OOB_NEVER || a.dtype != DT_F32 ||
        expr_info(c, x->b)->dtype != DT_F32)
        return false;
    x->abuf = (uint16_t)a.index;
    if (k->buf[x->abuf].kind != KB_IN || !reads_inputs(k, x->b)) return false;
    if (!access_affine(k, s, x->abuf, k->buf[x->abuf].rank, a.arg, &x->a)) return false;
    int cols[K_AXES], ncols = 0;
    for (int i = 0; i < s->naxis; i++) {
        bool ua = x->a.has[i], ub = expr_uses_axis(c, x->b, (uint32_t)i);
        if (s->axis[i].kind == AX_RED)
            x->red[x->nred++] = i;
        else if (ub && !ua)
            cols[ncols++] = i;
        else if (ua && !ub) {
            if (x->m < 0 || typical(x, i) > typical(x, x->m)) {
                if (x->m >= 0) x->loop[x->nloop++] = x->m;
                x->m = i;
            } else
                x->loop[x->nloop++] = i;
        } else
            x->task[x->ntask++] = i;
    }
    for (int i = 0; i < ncols; i++) {
        bool better = x->n < 0 || (stores_along(x, cols[i]) && !stores_along(x, x->n)) ||
                      (stores_along(x, cols[i]) == stores_along(x, x->n) &&
                       typical(x, cols[i]) > typical(x, x->n));
        if (!better) {
            x->task[x->ntask++] = cols[i];
            continue;
        }
        if (x->n >= 0) x->task[x->ntask++] = x->n;
        x->n = cols[i];
    }
    return x->n >= 0 && x->nred > 0;
}

static bool shape_of(const Kernel *k, Packed *x) {
    Packed other;
    bool first = classify(k, x, false), second = classify(k, &other, true);
    if (second && (!first || (stores_along(&other, other.n) && !stores_along(x, x->n)))) *x = other;
    return first || second;
}

/* Where `contract` reads B in panels already, packing it again is waste. */
static bool packed_match(const Kernel *k, const Target *t) {
    Shape s;
    Packed x;
    (void)t;
    return !(contract_shape(k, &s) && (s.nblk >= 0 || s.quad >= 0)) && shape_of(k, &x);
}

/* ---- choosing ---- */

static double product(const Packed *x, const int *axis, int n) {
    double p = 1;
    for (int i = 0; i < n; i++) p *= typical(x, axis[i]);
    return p;
}

/* Each chunk packs the panel anew: no more of them than threads want. */
static int64_t chunk_rows(const Packed *x, int mr, double tasks) {
    enum { LEAST = 64, TASKS = 24 };
    int64_t n;
    if (x->m < 0) return 1;
    if (!dim_is_const(x->k->c, x->s->axis[x->m].extent, &n)) return (int64_t)mr * 16;
    if (tasks >= TASKS || n <= LEAST) return n > 0 ? n : 1;
    int64_t tiles = (n + mr - 1) / mr, chunks = (n + LEAST - 1) / LEAST, wanted = (int64_t)(TASKS / tasks) + 1;
    if (chunks > wanted) chunks = wanted;
    return (tiles + chunks - 1) / chunks * mr;
}

static int packed_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    Packed x;
    (void)max;
    if (!shape_of(k, &x)) return 0;
    TileSize size = panel_tile(t);
    int lanes = target_lanes(t, DT_F32);
    int64_t n;
    if (x.m < 0)
        size.mr = 1;
    else if (dim_is_const(k->c, x.s->axis[x.m].extent, &n) && n > 0) {
        int64_t tiles = (n + size.mr - 1) / size.mr;
        size.mr = (int)((n + tiles - 1) / tiles);
    }
    if (dim_hi(k->c, x.s->axis[x.n].extent) <= lanes)
        size.nv = 1;
    else
        while (size.mr * (size.nv + 1) <= 12 && size.nv < 8 &&
               typical(&x, x.n) >= (size.nv + 1) * lanes)
            size.nv++;
    out[0].par[PAR_MR] = size.mr;
    out[0].par[PAR_NV] = size.nv;
    double panels = typical(&x, x.n) / (size.nv * lanes);
    out[0].par[PAR_ROWS] =
        chunk_rows(&x, size.mr, product(&x, x.task, x.ntask) * (panels < 1 ? 1 : panels));
    return 1;
}

static double packed_cost(const Kernel *k, const Sched *s, const Target *t) {
    Packed x;
    Shape shape;
    bool direct = contract_shape(k, &shape), far = direct && shape_rows_collide(&shape, t);
    if (!shape_of(k, &x)) return 1e30;
    if (direct && !far) return 1e29; /* `contract` reads B where it lies, and has tiles of several axes */
    int lanes = target_lanes(t, DT_F32), mr = (int)s->par[PAR_MR], nv = (int)s->par[PAR_NV];
    double cols = typical(&x, x.n),
           panels = (double)(int64_t)((cols + lanes * nv - 1) / (lanes * nv));
    double rows = x.m < 0 ? 1 : typical(&x, x.m), tiles = (double)(int64_t)((rows + mr - 1) / mr),
           chunks = rows / (double)s->par[PAR_ROWS];
    double kk = product(&x, x.red, x.nred), loads = (mr + nv) / 2.0,
           step = mr * nv / t->fma_per_cycle;
    if (step < loads) step = loads;
    if (step < 4) step = 4;
    double pack = kk * nv * (1 + expr_cost(k->c, x.b)) * (!far && panel_contiguous(k, x.s, x.b, x.n) ? 1 : 6);
    return product(&x, x.task, x.ntask) * panels *
           (product(&x, x.loop, x.nloop) * tiles * (kk * step * 1.03 + mr * nv * 4 + 40) +
            (chunks < 1 ? 1 : chunks) * (pack + 100));
}

/* ---- code ---- */

typedef struct Gen {
    Emit *e;
    Lir *l;
    Packed x;
    int lanes, mr, nv, width;
    int64_t rows;
    LVal at[K_AXES], r1; /* origin of the tile; end of the task's rows */
    LVal cols;           /* columns of the panel that exist */
    LVal panel, prows;   /* scratch, and its rows (the last reduced axis, padded where it is transposed) */
    int merged;          /* from this reduced axis on, A and the panels step as along one */
} Gen;

static LVal extent(Gen *g, int axis) { return emit_dim(g->e, g->x.s->axis[axis].extent); }

static LVal coef(Gen *g, int axis) {
    return g->x.a.has[axis] ? emit_dim(g->e, g->x.a.coef[axis]) : lir_i64(g->l, 0);
}

static Point here(Gen *g) {
    Point p = {.vaxis = -1, .lanes = 1};
    memcpy(p.axis, g->at, sizeof p.axis);
    return p;
}

/* Panels for each combination of the outer reduced axes, one after the other. */
static void pack(Gen *g, int i, LVal index) {
    Lir *l = g->l;
    const Packed *x = &g->x;
    if (i == x->nred - 1) {
        PanelSource src = {.s = x->s, .x = x->b, .n = x->n, .k = x->red[i], .at = here(g)};
        LVal dst =
            lir_ptr_add(l, g->panel, lir_muli(l, lir_mul(l, index, g->prows), g->width), DT_F32);
        panel_pack(g->e, &src, g->at[x->n], g->cols, dst, g->lanes, g->width);
        return;
    }
    LFor f = lir_for(l, lir_i64(l, 0), extent(g, x->red[i]), lir_i64(l, 1), 0, NULL);
    g->at[x->red[i]] = f.iv;
    pack(g, i + 1, lir_add(l, lir_mul(l, index, extent(g, x->red[i])), f.iv));
    lir_for_end(l, &f, NULL, NULL);
    g->at[x->red[i]] = lir_i64(l, 0);
}

/* Panels without padding are one in which all rows follow each other. */
static int merged_from(const Gen *g) {
    Ctx *c = g->e->c;
    const Packed *x = &g->x;
    int i = x->nred - 1;
    for (; i > 0; i--) {
        int outer = x->red[i - 1], inner = x->red[i];
        if (!x->a.has[outer] || !x->a.has[inner]) break;
        if (!dim_same(c, x->a.coef[outer], dim_mul(c, x->a.coef[inner], x->s->axis[inner].extent))) break;
    }
    return i;
}

static void reduce(Gen *g, int i, LVal index, LVal a0, TileProduct *t, LVal *acc) {
    Lir *l = g->l;
    const Packed *x = &g->x;
    if (i == g->merged) {
        LVal before = g->prows; /* rows of the panel for each index */
        for (int k = i; k + 1 < x->nred; k++) before = lir_mul(l, before, extent(g, x->red[k]));
        t->a = lir_ptr_add(l, g->e->ptr[x->abuf], a0, DT_F32);
        t->col = lir_muli(l, lir_mul(l, index, before), g->width);
        if (i + 1 < x->nred) t->n = before;
        tile_product(l, t, acc);
        return;
    }
    int axis = x->red[i], n = t->rows * t->nv;
    LVal next[PANEL_TILE];
    LFor f = lir_for(l, lir_i64(l, 0), extent(g, axis), lir_i64(l, 1), (uint32_t)n, acc);
    memcpy(next, f.c, sizeof(LVal) * (size_t)n);
    index = lir_add(l, lir_mul(l, index, extent(g, axis)), f.iv);
    a0 = lir_add(l, a0, lir_mul(l, f.iv, coef(g, axis)));
    reduce(g, i + 1, index, a0, t, next);
    lir_for_end(l, &f, next, acc);
}

static void tile(Gen *g, int rows, LVal row) {
    Lir *l = g->l;
    const Packed *x = &g->x;
    LVal acc[PANEL_TILE], zero = lir_splat(l, lir_float(l, DT_F32, 0), (uint16_t)g->lanes);
    int last = x->red[x->nred - 1];
    for (int i = 0; i < rows * g->nv; i++) acc[i] = zero;
    if (x->m >= 0) g->at[x->m] = row;
    Point p = here(g);
    for (int a = 0; a < K_AXES; a++) p.axis[a] = lir_i64(l, 0);
    emit_memo_reset(g->e);
    LVal a0 = emit_expr(g->e, x->s, x->a.rest, &p);
    for (int a = 0; a < x->s->naxis; a++)
        if (x->a.has[a] && x->s->axis[a].kind == AX_PAR)
            a0 = lir_add(l, a0, lir_mul(l, g->at[a], coef(g, a)));
    TileProduct t = {.rows = rows,
                     .nv = g->nv,
                     .lanes = g->lanes,
                     .b = g->panel,
                     .astep = coef(g, last),
                     .bstep = lir_i64(l, g->width),
                     .n = extent(g, last)};
    for (int i = 0; i < rows; i++)
        t.row[i] = x->m >= 0 ? lir_muli(l, coef(g, x->m), i) : lir_i64(l, 0);
    reduce(g, 0, lir_i64(l, 0), a0, &t, acc);
    bool exact = dim_divisible(g->e->c, x->s->axis[x->n].extent, g->width);
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < g->nv; v++) {
            Point full = here(g), par;
            if (x->m >= 0) full.axis[x->m] = lir_addi(l, row, i);
            full.axis[x->n] = lir_addi(l, g->at[x->n], (int64_t)v * g->lanes);
            full.vaxis = (int8_t)x->n;
            full.lanes = (uint16_t)g->lanes;
            if (!exact)
                full.mask = lir_mask(l, lir_addi(l, g->cols, -(int64_t)v * g->lanes), full.lanes);
            emit_parallel_point(x->s, &full, &par);
            emit_epilogue(g->e, 0, &acc[i * g->nv + v], &par);
        }
}

static void row_tiles(Gen *g, LVal r0) {
    Lir *l = g->l;
    int64_t all;
    const Packed *x = &g->x;
    if (x->m < 0) {
        tile(g, 1, lir_i64(l, 0));
        return;
    }
    if (dim_is_const(g->e->c, x->s->axis[x->m].extent, &all) && all <= g->rows &&
        all > 0) { /* tiles of mr and of mr - 1 */
        int64_t tiles = (all + g->mr - 1) / g->mr, small = tiles * g->mr - all,
                big = (tiles - small) * g->mr;
        if (small <= tiles) {
            LFor f = lir_for(l, lir_i64(l, 0), lir_i64(l, big), lir_i64(l, g->mr), 0, NULL);
            tile(g, g->mr, f.iv);
            lir_for_end(l, &f, NULL, NULL);
            if (!small) return;
            f = lir_for(l, lir_i64(l, big), lir_i64(l, all), lir_i64(l, g->mr - 1), 0, NULL);
            tile(g, g->mr - 1, f.iv);
            lir_for_end(l, &f, NULL, NULL);
            return;
        }
    }
    const int sizes[] = {g->mr, 4, 1};
    LVal pos = r0;
    for (int i = 0; i < 3; i++) {
        int size = sizes[i];
        if (i && size >= g->mr) continue;
        LVal end = lir_add(
            l, pos, lir_muli(l, lir_op2(l, S_DIV, lir_sub(l, g->r1, pos), lir_i64(l, size)), size));
        LFor f = lir_for(l, pos, end, lir_i64(l, size), 0, NULL);
        tile(g, size, f.iv);
        lir_for_end(l, &f, NULL, NULL);
        pos = end;
    }
}

static void loops(Gen *g, int i, LVal r0) {
    if (i == g->x.nloop) {
        row_tiles(g, r0);
        return;
    }
    LFor f = lir_for(g->l, lir_i64(g->l, 0), extent(g, g->x.loop[i]), lir_i64(g->l, 1), 0, NULL);
    g->at[g->x.loop[i]] = f.iv;
    loops(g, i + 1, r0);
    lir_for_end(g->l, &f, NULL, NULL);
}

static void packed_build(Emit *e) {
    Gen gen = {.e = e, .l = e->l}, *g = &gen;
    Packed *x = &g->x;
    Ctx *c = e->c;
    Lir *l = e->l;
    CHECK(shape_of(e->k, x));
    g->lanes = target_lanes(e->t, DT_F32);
    g->mr = (int)e->s->par[PAR_MR];
    g->nv = (int)e->s->par[PAR_NV];
    g->rows = e->s->par[PAR_ROWS];
    g->width = g->nv * g->lanes;
    LVal chunk, panel_no;
    Tasks tasks = {0};
    tasks_along(&tasks, x->m >= 0 ? dim_ceildiv(c, x->s->axis[x->m].extent, dim_const(c, g->rows)) : dim_const(c, 1), &chunk);
    tasks_along(&tasks, dim_ceildiv(c, x->s->axis[x->n].extent, dim_const(c, g->width)), &panel_no);
    tasks_axes(&tasks, x->s, x->task, x->ntask, g->at);
    tasks_begin(e, &tasks);
    tasks_grain(e, packed_cost(e->k, e->s, e->t));
    Dim prows = x->s->axis[x->red[x->nred - 1]].extent, floats;
    g->merged = x->nred - 1;
    if (panel_contiguous(e->k, x->s, x->b, x->n))
        g->merged = merged_from(g);
    else
        prows = dim_muli(c, dim_ceildiv(c, prows, dim_const(c, g->lanes)), g->lanes);
    floats = prows;
    for (int i = 0; i + 1 < x->nred; i++) floats = dim_mul(c, floats, x->s->axis[x->red[i]].extent);
    e->code->scratch =
        dim_muli(c, dim_ceildiv(c, dim_muli(c, floats, 4 * g->width), dim_const(c, 64)), 64);
    g->panel = lir_scratch(l);
    g->prows = emit_dim(e, prows);
    LFor t = lir_for_tasks(l, lir_i64(l, 1), 0, NULL);
    for (int a = 0; a < K_AXES; a++) g->at[a] = lir_i64(l, 0);
    tasks_split(e, &tasks, t.iv);
    LVal r0 = lir_muli(l, chunk, g->rows);
    if (x->m >= 0) {
        g->r1 = lir_addi(l, r0, g->rows);
        g->r1 = lir_op2(l, S_MIN, g->r1, extent(g, x->m));
    }
    g->at[x->n] = lir_muli(l, panel_no, g->width);
    g->cols = lir_op2(l, S_MIN, lir_i64(l, g->width), lir_sub(l, extent(g, x->n), g->at[x->n]));
    if (dim_divisible(c, x->s->axis[x->n].extent, g->width)) g->cols = lir_i64(l, g->width);
    pack(g, 0, lir_i64(l, 0));
    loops(g, 0, r0);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_contract_packed = {"contract_packed", "mr nv rows", F_SIMD, packed_match,
                                   packed_candidates, packed_cost,  packed_build};
