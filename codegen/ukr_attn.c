/* ukr_attn.c: template `attention`: scores = f(q * k), p = softmax(scores), p * v in one kernel;
 * scores live in scratch. In: the Kernel of a group "Attention" (passes/attention.c), recognised by
 * its stages: contraction, maximum, sum, contraction, maps between them (any of them inlined), and
 * epilogues.
 *
 * A task is one point of the batch axes (those of k or v) and a block of rows (axes of q alone). It
 * stages its rows of q; per chunk of keys it packs k into panels and v into rows, and for each tile
 * of rows computes the scores of the chunk, f and the running softmax per row, and adds p * v to
 * the tile's results. If all keys fit one chunk, results never leave the registers.
 *
 * Chunks depend on shapes alone, the sums run in a fixed order, rows are independent: results do
 * not depend on threads. */
#include <math.h>
#include <string.h>

#include "attn.h"
#include "ukr.h"

enum { PAR_MR, PAR_NV, PAR_ROWS, PAR_KEYS };
enum { ONE_CHUNK = 512, KEYS = 256, ROWS = 128, SPARE = 16, FEW = 2 };

static bool attention_match(const Kernel *k, const Target *t) {
    Attn a;
    (void)t;
    return attn_classify(k, &a);
}

/* ---- choosing ---- */

static double typical(const Attn *a, int stage, int axis) {
    return dim_typical(a->k->c, a->k->stage[stage].axis[axis].extent);
}

static double rows_of(const Attn *a) {
    double n = 1;
    for (int i = 0; i < a->nrow; i++) n *= typical(a, a->max, a->row[i]);
    return n;
}

static double batch_of(const Attn *a) {
    double n = 1;
    for (int i = 0; i < a->nbatch; i++) n *= typical(a, a->max, a->batch[i]);
    return n;
}

static Dim inner_rows(const Attn *a) {
    return a->nrow ? a->k->stage[a->max].axis[a->row[a->nrow - 1]].extent : dim_const(a->k->c, 1);
}

/* Keys of a chunk: all of them if they are known to be few, else even chunks that keep k and v in
 * the second level cache. */
static int64_t chunk_keys(const Attn *a, int width) {
    Ctx *c = a->k->c;
    int64_t n, keys = KEYS, d = 64, v = 64;
    dim_is_const(c, a->k->stage[a->qk].axis[a->d].extent, &d);
    dim_is_const(c, a->k->stage[a->pv].axis[a->col].extent, &v);
    int64_t fit = 131072 / ((d > 0 && d < 65536 ? d : 65536) + (v > 0 && v < 65536 ? v : 65536));
    if (dim_is_const(c, a->k->stage[a->max].axis[a->t].extent, &n)) {
        int64_t most = n <= ONE_CHUNK && n <= fit ? ONE_CHUNK : fit < 384 ? fit : 384;
        if (most < width) most = width;
        int64_t chunks = (n + most - 1) / most;
        keys = chunks ? (n + chunks - 1) / chunks : 1;
    } else if (keys > fit) {
        keys = fit;
    }
    if (keys < width) keys = width;
    return (keys + width - 1) / width * width;
}

/* Rows of a task along the innermost row axis: many, because each task packs k and v; fewer where
 * there would be few tasks. */
static int64_t chunk_rows(const Attn *a, int mr) {
    int64_t n;
    double others = batch_of(a);
    if (!dim_is_const(a->k->c, inner_rows(a), &n)) return (int64_t)mr * (ROWS / mr);
    if (n <= ROWS + ROWS / 2 && (others >= 8 || n <= ROWS / 2)) return n;
    int64_t tiles = (n + mr - 1) / mr, blocks = (n + 2 * ROWS - 1) / (2 * ROWS),
            most = 2 * n / ROWS;
    int64_t want = others >= 24 ? 1 : (int64_t)(24 / (others < 1 ? 1 : others));
    if (want > most) want = most;
    if (blocks < want) blocks = want;
    return (tiles + blocks - 1) / blocks * mr;
}

static int attention_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    Attn a;
    (void)max;
    if (!attn_classify(k, &a)) return 0;
    TileSize size = panel_tile(t);
    int64_t n;
    bool known = dim_is_const(k->c, inner_rows(&a), &n);
    if (known && n > 0) { /* rows in even tiles */
        int64_t tiles = (n + size.mr - 1) / size.mr;
        size.mr = (int)((n + tiles - 1) / tiles);
    }
    out[0].par[PAR_MR] = size.mr;
    out[0].par[PAR_NV] = size.nv;
    out[0].par[PAR_ROWS] = chunk_rows(&a, size.mr);
    out[0].par[PAR_KEYS] = chunk_keys(&a, size.nv * target_lanes(t, DT_F32));
    return 1;
}

static double attention_cost(const Kernel *k, const Sched *s, const Target *t) {
    Attn a;
    (void)s;
    if (!attn_classify(k, &a)) return 1e30;
    double scores = batch_of(&a) * rows_of(&a) * typical(&a, a.max, a.t),
           lanes = target_lanes(t, DT_F32);
    double macs = scores * (typical(&a, a.qk, a.d) + typical(&a, a.pv, a.col));
    return (macs / t->fma_per_cycle * 1.1 + scores * (expr_cost(k->c, a.x) + 16)) / lanes + 500;
}

/* ---- code ---- */

typedef AttnGen Gen;

LVal attn_f32(AttnGen *g, double v) { return lir_float(g->l, DT_F32, v); }
LVal attn_splat(AttnGen *g, LVal s) { return lir_splat(g->l, s, (uint16_t)g->lanes); }
LVal attn_load1(AttnGen *g, LVal p, LVal i) {
    return lir_load(g->l, p, i, (LTy){DT_F32, 1}, (LVal){0}, 0);
}
LVal attn_load(AttnGen *g, LVal p, LVal i) {
    return lir_load(g->l, p, i, (LTy){DT_F32, (uint16_t)g->lanes}, (LVal){0}, 0);
}
void attn_put(AttnGen *g, LVal p, LVal i, LVal v) { lir_store(g->l, p, i, v, (LVal){0}, 0); }

static LVal score_value(Emit *e, void *data, const Expr *at, const Point *p) {
    (void)e;
    (void)at;
    (void)p; /* the point itself: access_of found no other */
    return ((Gen *)data)->value;
}

/* Coordinates of stage `st` with axes of max renamed by `to`. */
Point attn_point(AttnGen *g, const int *to) {
    Point p = {.vaxis = -1, .lanes = 1};
    for (int a = 0; a < K_AXES; a++) p.axis[a] = lir_i64(g->l, 0);
    for (int i = 0; i < g->a.nbatch; i++)
        p.axis[to ? to[g->a.batch[i]] : g->a.batch[i]] = g->at[g->a.batch[i]];
    for (int i = 0; i < g->a.nrow; i++)
        p.axis[to ? to[g->a.row[i]] : g->a.row[i]] = g->at[g->a.row[i]];
    return p;
}

int attn_inner(const AttnGen *g) { return g->a.nrow ? g->a.row[g->a.nrow - 1] : -1; }

/* Loops over the outer row axes; fn runs with g->at and g->block set. */
static void outer_rows(Gen *g, int i, LVal index, void (*fn)(Gen *)) {
    if (i >= g->a.nrow - 1) {
        g->block = lir_muli(g->l, index, g->rows);
        fn(g);
        return;
    }
    int axis = g->a.row[i];
    LVal n = emit_dim(g->e, g->a.k->stage[g->a.max].axis[axis].extent);
    LFor f = lir_for(g->l, lir_i64(g->l, 0), n, lir_i64(g->l, 1), 0, NULL);
    g->at[axis] = f.iv;
    outer_rows(g, i + 1, lir_add(g->l, lir_mul(g->l, index, n), f.iv), fn);
    lir_for_end(g->l, &f, NULL, NULL);
}

LVal attn_task_rows(AttnGen *g) { /* of the current task, along the innermost row axis */
    if (!g->a.nrow) return lir_i64(g->l, 1);
    int64_t n;
    Dim all = inner_rows(&g->a);
    if (dim_is_const(g->e->c, all, &n) && n <= g->rows) return lir_i64(g->l, n);
    return lir_op2(g->l, S_MIN, lir_i64(g->l, g->rows), lir_sub(g->l, emit_dim(g->e, all), g->r0));
}

static void stage_q(Gen *g) {
    const Attn *a = &g->a;
    PanelSource src = {
        .s = &g->a.k->stage[a->qk], .x = a->q, .k = a->d, .at = attn_point(g, a->to_qk)};
    src.n = a->nrow ? a->to_qk[attn_inner(g)] : K_AXES - 1;
    LVal dst = lir_ptr_add(g->l, g->q, lir_mul(g->l, g->block, g->dp), DT_F32),
         n = attn_task_rows(g);
    panel_rows_copy(g->e, &src, g->r0, n, dst, g->dp, g->lanes);
    if (g->one) return;
    LVal zero = attn_splat(g, attn_f32(g, 0));
    LFor f = lir_for(g->l, lir_i64(g->l, 0), n, lir_i64(g->l, 1), 0, NULL);
    LVal r = lir_add(g->l, g->block, f.iv);
    attn_put(g, g->m, r, attn_f32(g, -INFINITY));
    attn_put(g, g->sum, r, attn_f32(g, 0));
    LFor v = lir_for(g->l, lir_i64(g->l, 0), g->vp, lir_i64(g->l, g->lanes), 0, NULL);
    attn_put(g, g->o, lir_add(g->l, lir_mul(g->l, r, g->vp), v.iv), zero);
    lir_for_end(g->l, &v, NULL, NULL);
    lir_for_end(g->l, &f, NULL, NULL);
}

static void stage_kv(Gen *g) {
    const Attn *a = &g->a;
    PanelSource k = {.s = &g->a.k->stage[a->qk],
                     .x = a->key,
                     .n = a->tq,
                     .k = a->d,
                     .at = attn_point(g, a->to_qk)};
    panel_pack(g->e, &k, g->t0, g->tn, g->kp, g->lanes, g->width);
    PanelSource v = {.s = &g->a.k->stage[a->pv],
                     .x = a->v,
                     .n = a->tv,
                     .k = a->col,
                     .at = attn_point(g, a->to_pv)};
    panel_rows_copy(g->e, &v, g->t0, g->tn, g->vs, g->vp, g->lanes);
}

/* s[i][t] = q[i] * k[t] for the tile's rows and the chunk's keys */
static void tile_scores(Gen *g, int rows, LVal row) {
    Lir *l = g->l;
    LVal panels = lir_op2(l, S_DIV, lir_addi(l, g->tn, g->width - 1), lir_i64(l, g->width));
    LFor f = lir_for(l, lir_i64(l, 0), panels, lir_i64(l, 1), 0, NULL);
    LVal acc[PANEL_TILE], zero = attn_splat(g, attn_f32(g, 0));
    for (int i = 0; i < rows * g->nv; i++) acc[i] = zero;
    TileProduct t = {.rows = rows,
                     .nv = g->nv,
                     .lanes = g->lanes,
                     .b = g->kp,
                     .astep = lir_i64(l, 1),
                     .bstep = lir_i64(l, g->width),
                     .n = g->d};
    t.a = lir_ptr_add(l, g->q, lir_mul(l, lir_add(l, g->block, row), g->dp), DT_F32);
    t.col = lir_muli(l, lir_mul(l, f.iv, g->dp), g->width);
    for (int i = 0; i < rows; i++) t.row[i] = lir_muli(l, g->dp, i);
    tile_product(l, &t, acc);
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < g->nv; v++)
            attn_put(g, g->s, lir_addi(l, lir_muli(l, f.iv, g->width), i * g->pitch + v * g->lanes),
                     acc[i * g->nv + v]);
    lir_for_end(l, &f, NULL, NULL);
}

void attn_store(AttnGen *g, const AttnOut *t, const LVal *acc) {
    Lir *l = g->l;
    const Stage *pv = &g->a.k->stage[g->a.pv];
    int64_t cols;
    bool exact = dim_is_const(g->e->c, pv->axis[g->a.col].extent, &cols) && cols % g->lanes == 0;
    for (int i = 0; i < t->rows; i++) {
        LVal inv = attn_load1(g, g->alpha, lir_i64(l, PANEL_TILE + i)), scale = attn_splat(g, inv);
        for (int v = 0; v < t->nv; v++) {
            Point full = attn_point(g, g->a.to_pv), p;
            LVal col = lir_addi(l, t->col, (int64_t)v * g->lanes);
            if (g->a.nrow)
                full.axis[g->a.to_pv[attn_inner(g)]] = lir_addi(l, lir_add(l, g->r0, t->row), i);
            full.axis[g->a.col] = col;
            full.vaxis = (int8_t)g->a.col;
            full.lanes = (uint16_t)g->lanes;
            if (!exact) full.mask = lir_mask(l, lir_sub(l, g->vcols, col), (uint16_t)g->lanes);
            emit_parallel_point(pv, &full, &p);
            LVal y = lir_mul(l, acc[i * t->nv + v], scale);
            if (g->a.zero_nan) {
                LVal nan = lir_op2(l, S_NE, scale, scale);
                y = lir_op3(l, S_SELECT, nan, attn_splat(g, attn_f32(g, 0)), y);
            }
            emit_epilogue(g->e, g->a.pv, &y, &p);
        }
    }
}

/* p * v for nv vectors of columns from `col` */
static void tile_columns(Gen *g, int rows, int nv, LVal row, LVal col) {
    Lir *l = g->l;
    LVal acc[PANEL_TILE], zero = attn_splat(g, attn_f32(g, 0));
    LVal o =
        g->one ? (LVal){0}
               : lir_ptr_add(l, g->o, lir_add(l, lir_mul(l, lir_add(l, g->block, row), g->vp), col),
                             DT_F32);
    for (int i = 0; i < rows; i++) {
        LVal alpha = g->one ? (LVal){0} : attn_splat(g, attn_load1(g, g->alpha, lir_i64(l, i)));
        for (int v = 0; v < nv; v++)
            acc[i * nv + v] =
                g->one
                    ? zero
                    : lir_mul(l, alpha,
                              attn_load(g, o,
                                        lir_addi(l, lir_muli(l, g->vp, i), (int64_t)v * g->lanes)));
    }
    TileProduct t = {.rows = rows,
                     .nv = nv,
                     .lanes = g->lanes,
                     .a = g->s,
                     .b = g->vs,
                     .col = col,
                     .astep = lir_i64(l, 1),
                     .bstep = g->vp,
                     .n = g->tn};
    for (int i = 0; i < rows; i++) t.row[i] = lir_i64(l, i * g->pitch);
    tile_product(l, &t, acc);
    AttnOut out = {rows, nv, row, col};
    if (g->one) {
        attn_store(g, &out, acc);
        return;
    }
    LIf i = lir_if(l, g->last, 0);
    attn_store(g, &out, acc);
    lir_else(l, &i, NULL);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < nv; v++)
            attn_put(g, o, lir_addi(l, lir_muli(l, g->vp, r), (int64_t)v * g->lanes),
                     acc[r * nv + v]);
    lir_endif(l, &i, NULL, NULL);
}

/* Keys that no row up to r (of the task) sees are not looked at: number of keys from t0 on, a
 * multiple of width or tn. */
static LVal seen_keys(Gen *g, LVal r) {
    Lir *l = g->l;
    Point p = attn_point(g, NULL);
    emit_memo_reset(g->e);
    LVal past = emit_expr(g->e, &g->a.k->stage[g->a.max], g->a.past, &p);
    LVal n = lir_sub(l, lir_addi(l, lir_add(l, lir_add(l, g->r0, r), past), 1), g->t0);
    n = lir_op2(l, S_MAX, lir_op2(l, S_MIN, n, g->tn), lir_i64(l, 0));
    n = lir_muli(l, lir_op2(l, S_DIV, lir_addi(l, n, g->width - 1), lir_i64(l, g->width)),
                 g->width);
    return lir_op2(l, S_MIN, n, g->tn);
}

static void tile(Gen *g, int rows, LVal row) {
    Lir *l = g->l;
    LVal tn = g->tn;
    if (g->a.causal) g->tn = seen_keys(g, lir_addi(l, row, rows - 1));
    tile_scores(g, rows, row);
    attn_softmax(g, rows, row);
    int64_t cols, size = (int64_t)g->nv * g->lanes;
    bool known = dim_is_const(g->e->c, g->a.k->stage[g->a.pv].axis[g->a.col].extent, &cols);
    LVal whole = known ? lir_i64(l, cols / size * size) : g->vp;
    if (!known || cols >= size) {
        LFor f = lir_for(l, lir_i64(l, 0), whole, lir_i64(l, size), 0, NULL);
        tile_columns(g, rows, g->nv, row, f.iv);
        lir_for_end(l, &f, NULL, NULL);
    }
    if (known && cols % size)
        tile_columns(g, rows, (int)((cols % size + g->lanes - 1) / g->lanes), row, whole);
    g->tn = tn;
}

static void row_tiles(Gen *g) {
    Lir *l = g->l;
    LVal n = attn_task_rows(g), pos = lir_i64(l, 0);
    int mr = (int)g->mr;
    int64_t all;
    bool even = dim_is_const(g->e->c, inner_rows(&g->a), &all) && all <= g->rows && all > 0;
    if (even) { /* tiles of mr and of mr - 1 */
        int64_t tiles = (all + mr - 1) / mr, small = tiles * mr - all;
        if (small <= tiles) {
            LFor f = lir_for(l, pos, lir_i64(l, (tiles - small) * mr), lir_i64(l, mr), 0, NULL);
            tile(g, mr, f.iv);
            lir_for_end(l, &f, NULL, NULL);
            if (!small) return;
            f = lir_for(l, lir_i64(l, (tiles - small) * mr), lir_i64(l, all), lir_i64(l, mr - 1), 0,
                        NULL);
            tile(g, mr - 1, f.iv);
            lir_for_end(l, &f, NULL, NULL);
            return;
        }
    }
    static const int smaller[] = {4, 1};
    for (int i = -1; i < 2; i++) {
        int size = i < 0 ? mr : smaller[i];
        if (i >= 0 && size >= mr) continue;
        LVal end = lir_add(
            l, pos, lir_muli(l, lir_op2(l, S_DIV, lir_sub(l, n, pos), lir_i64(l, size)), size));
        LFor f = lir_for(l, pos, end, lir_i64(l, size), 0, NULL);
        tile(g, size, f.iv);
        lir_for_end(l, &f, NULL, NULL);
        pos = end;
        if (mr == 1) break;
    }
}

/* No keys at all: every result is an empty sum. */
static void no_keys(Gen *g) {
    Lir *l = g->l;
    g->one = true;
    LFor r = lir_for(l, lir_i64(l, 0), attn_task_rows(g), lir_i64(l, 1), 0, NULL);
    LFor f = lir_for(l, lir_i64(l, 0), g->vcols, lir_i64(l, g->lanes), 0, NULL);
    const Stage *pv = &g->a.k->stage[g->a.pv];
    Point full = attn_point(g, g->a.to_pv), p;
    if (g->a.nrow) full.axis[g->a.to_pv[attn_inner(g)]] = lir_add(l, g->r0, r.iv);
    full.axis[g->a.col] = f.iv;
    full.vaxis = (int8_t)g->a.col;
    full.lanes = (uint16_t)g->lanes;
    full.mask = lir_mask(l, lir_sub(l, g->vcols, f.iv), full.lanes);
    emit_parallel_point(pv, &full, &p);
    LVal zero = attn_splat(g, attn_f32(g, 0));
    emit_epilogue(g->e, g->a.pv, &zero, &p);
    lir_for_end(l, &f, NULL, NULL);
    lir_for_end(l, &r, NULL, NULL);
}

static void chunk(Gen *g) {
    LVal zero = lir_i64(g->l, 0);
    int64_t n;
    g->whole_vectors = lir_is_const(g->l, g->tn, &n) && n % g->lanes == 0;
    if (!g->few) stage_kv(g);
    outer_rows(g, 0, zero, g->few ? attn_few_rows : row_tiles);
}

static void chunks(Gen *g) {
    Lir *l = g->l;
    Ctx *c = g->e->c;
    LVal zero = lir_i64(l, 0);
    Dim keys = g->a.k->stage[g->a.max].axis[g->a.t].extent;
    LVal n = emit_dim(g->e, keys);
    outer_rows(g, 0, zero, stage_q);
    g->t0 = zero;
    g->tn = n;
    if (g->one) {
        chunk(g);
        return;
    }
    int64_t known;
    bool whole = dim_is_const(c, keys, &known) && known % g->keys == 0;
    LVal end = n;
    if (g->a.causal) { /* at least one chunk: rows that see nothing have results too */
        LVal seen = seen_keys(g, lir_addi(l, attn_task_rows(g), -1));
        end = lir_op2(l, S_MAX, seen, lir_i64(l, 1));
    }
    LFor f = lir_for(l, zero, end, lir_i64(l, g->keys), 0, NULL);
    g->t0 = f.iv;
    g->tn =
        whole ? lir_i64(l, g->keys) : lir_op2(l, S_MIN, lir_i64(l, g->keys), lir_sub(l, n, f.iv));
    g->last = lir_op2(l, S_GE, lir_addi(l, f.iv, g->keys), end);
    chunk(g);
    lir_for_end(l, &f, NULL, NULL);
}

/* Row by row where tiles of rows would not fill: the rows are FEW, or tiles would be of one row. */
static void all_rows(Gen *g) {
    Lir *l = g->l;
    Ctx *c = g->e->c;
    Dim rows = dim_const(c, 1), in = inner_rows(&g->a);
    for (int i = 0; i < g->a.nrow; i++)
        rows = dim_mul(c, rows, g->a.k->stage[g->a.max].axis[g->a.row[i]].extent);
    g->few = attn_few_fits(g->e, &g->a, g->lanes) && (dim_lo(c, rows) <= FEW || dim_lo(c, in) <= 1);
    if (!g->few || dim_hi(c, rows) <= FEW || dim_hi(c, in) <= 1) {
        chunks(g);
        return;
    }
    LVal few = lir_op2(l, S_LE, emit_dim(g->e, rows), lir_i64(l, FEW)),
         one = lir_op2(l, S_LE, emit_dim(g->e, in), lir_i64(l, 1));
    LIf i = lir_if(l, lir_op2(l, S_OR, few, one), 0);
    chunks(g);
    lir_else(l, &i, NULL);
    g->few = false;
    chunks(g);
    lir_endif(l, &i, NULL, NULL);
}

/* Takes `bytes` of scratch. */
static LVal reserve(Gen *g, Dim *at, Dim floats) {
    Ctx *c = g->e->c;
    LVal p = lir_scratch(g->l);
    p = lir_ptr_bytes(g->l, p, emit_dim(g->e, *at));
    *at =
        dim_add(c, *at, dim_muli(c, dim_ceildiv(c, dim_muli(c, floats, 4), dim_const(c, 64)), 64));
    return p;
}

static Dim padded(Gen *g, Dim d, int to) {
    return dim_muli(g->e->c, dim_ceildiv(g->e->c, d, dim_const(g->e->c, to)), to);
}

static void scratch(Gen *g) {
    Ctx *c = g->e->c;
    const Attn *a = &g->a;
    int64_t cols;
    Dim d = a->k->stage[a->qk].axis[a->d].extent, v = a->k->stage[a->pv].axis[a->col].extent;
    Dim dp = padded(g, d, g->lanes),
        vp = padded(g, v, dim_is_const(c, v, &cols) ? g->lanes : g->width);
    Dim rows = dim_const(c, g->rows), at = dim_const(c, 0);
    for (int i = 0; i + 1 < a->nrow; i++)
        rows = dim_mul(c, rows, a->k->stage[a->max].axis[a->row[i]].extent);
    g->d = emit_dim(g->e, d);
    g->dp = emit_dim(g->e, dp);
    g->vcols = emit_dim(g->e, v);
    g->vp = emit_dim(g->e, vp);
    g->pitch = g->keys + SPARE; /* rows of s that do not fall on the same sets of the cache */
    g->s = reserve(g, &at, dim_const(c, g->mr * g->pitch));
    g->alpha = reserve(g, &at, dim_const(c, 2 * PANEL_TILE));
    g->q = reserve(g, &at, dim_mul(c, rows, dp));
    g->kp = reserve(g, &at, dim_muli(c, dp, g->keys));
    g->vs = reserve(g, &at, dim_muli(c, vp, g->keys));
    if (!g->one) {
        g->o = reserve(g, &at, dim_mul(c, rows, vp));
        g->m = reserve(g, &at, rows);
        g->sum = reserve(g, &at, rows);
    }
    g->e->code->scratch = at;
}

static void attention_build(Emit *e) {
    Gen gen = {.e = e, .l = e->l}, *g = &gen;
    Ctx *c = e->c;
    Lir *l = e->l;
    CHECK(attn_classify(e->k, &g->a));
    g->lanes = target_lanes(e->t, DT_F32);
    g->mr = e->s->par[PAR_MR];
    g->nv = (int)e->s->par[PAR_NV];
    g->rows = e->s->par[PAR_ROWS];
    g->keys = e->s->par[PAR_KEYS];
    g->width = g->nv * g->lanes;
    Dim keys = g->a.k->stage[g->a.max].axis[g->a.t].extent, inner_n = inner_rows(&g->a);
    g->one = dim_hi(c, keys) <= g->keys;
    scratch(g);
    LVal block;
    Tasks tasks = {0};
    tasks_along(&tasks, dim_ceildiv(c, inner_n, dim_const(c, g->rows)), &block);
    tasks_axes(&tasks, &g->a.k->stage[g->a.max], g->a.batch, g->a.nbatch, g->at);
    tasks_begin(e, &tasks);
    tasks_grain(e, attention_cost(e->k, e->s, e->t));
    e->temp[g->a.score] = score_value;
    e->temp_data[g->a.score] = g;
    LFor t = lir_for_tasks(l, lir_i64(l, 1), 0, NULL);
    for (int a = 0; a < K_AXES; a++) g->at[a] = lir_i64(l, 0);
    tasks_split(e, &tasks, t.iv);
    g->r0 = lir_muli(l, block, g->rows);
    if (dim_lo(c, keys) >= 1) {
        all_rows(g);
    } else {
        LIf i = lir_if(l, lir_op2(l, S_GT, emit_dim(e, keys), lir_i64(l, 0)), 0);
        all_rows(g);
        lir_else(l, &i, NULL);
        outer_rows(g, 0, lir_i64(l, 0), no_keys);
        lir_endif(l, &i, NULL, NULL);
    }
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_attention = {"attention",     "mr nv rows keys",    F_SIMD,
                             attention_match, attention_candidates, attention_cost,
                             attention_build};
