/* ukr_wino.c: template `winograd`: the five contractions of a lowered "Winograd" group
 * (passes/winograd.c) and the epilogues of the last one as one kernel. Stages: 0 rows and 1 columns
 * of B^T d B, 2 products with U per point, 3 rows and 4 columns of A^T M A.
 *
 * A task is a block of tiles of one image times a range of output channels (wino_plan). It
 * transforms all channels of its tiles into scratch V[point][tile][channel], multiplies each
 * point's plane with U's panels of 16 columns into M[point][tile][column], and transforms back;
 * each pixel's vector of channels goes through the epilogue. Scratch stays in the second-level
 * cache; U streams through once per task. Rows of scratch past the last tile repeat it and are not
 * stored. Each product sums its channels in ascending order in one chain: results do not depend on
 * the plan's sizes. */
#include <math.h>
#include <string.h>

#include "emit_internal.h"
#include "ir/winograd.h"
#include "ukr.h"

enum { PAR_M, PAR_BLOCK, PAR_GROUPS, PAR_ROWS };
enum { STAGES = 5, BLOCK = 16, MAX_POINTS = WINO_MAX * WINO_MAX };

typedef struct Match {
    const WinoForm *form;
    int first; /* axes before the channel: 1 if there is one of images */
    Dim n, ty, tx;
    WinoShape s; /* at typical sizes */
    uint16_t x, u; /* buffers */
    Affine in;     /* windows of x over the axes of stage 0 */
} Match;

/* ---- matching ---- */

static bool load_of(const Kernel *k, Expr e, ExprInfo *out) {
    *out = *expr_info(k->c, e);
    return out->kind == E_LOAD && out->oob == OOB_NEVER && out->dtype == DT_F32;
}

/* The stage is a sum of products x * y of loads over `reduced` axes after `par` parallel ones; y is
 * constant. */
static bool product(const Kernel *k, int st, int par, int reduced, ExprInfo *x, ExprInfo *y) {
    const Stage *s = &k->stage[st];
    if (s->kind != ST_NEST || s->nres != 1 || !s->comb[0].i || s->naxis != par + reduced ||
        s->acc[0] != DT_F32 || s->init[0].f != 0)
        return false;
    for (int a = 0; a < s->naxis; a++)
        if (s->axis[a].kind != (a < par ? AX_PAR : AX_RED)) return false;
    ExprInfo body = *expr_info(k->c, s->body[0]), comb = *expr_info(k->c, s->comb[0]);
    if (body.kind != E_OP || body.op != S_MUL || comb.kind != E_OP || comb.op != S_ADD)
        return false;
    if (expr_info(k->c, comb.arg[0])->kind != E_ARG || expr_info(k->c, comb.arg[1])->kind != E_ARG)
        return false;
    if (!load_of(k, body.arg[0], x) || !load_of(k, body.arg[1], y)) return false;
    if (!k->buf[y->index].data) {
        ExprInfo swap = *x;
        *x = *y;
        *y = swap;
    }
    return k->buf[y->index].data != NULL;
}

/* at[d] is axis want[d]. */
static bool is_at(const Kernel *k, const Expr *at, int rank, const int *want, int n) {
    if (rank != n) return false;
    for (int d = 0; d < n; d++)
        if (at[d].i != expr_axis(k->c, (uint32_t)want[d]).i) return false;
    return true;
}

static bool is_matrix(const Kernel *k, const ExprInfo *load, int row, int col,
                      const float (*x)[WINO_MAX], int rows, int cols) {
    const KBuf *b = &k->buf[load->index];
    const ConstData *d = b->data;
    int want[2] = {row, col};
    if (b->rank != 2 || !is_at(k, load->arg, load->narg, want, 2)) return false;
    if (!dim_is(k->c, b->dim[0], rows) || !dim_is(k->c, b->dim[1], cols) ||
        !dim_is(k->c, b->stride[0], cols) || !dim_is(k->c, b->stride[1], 1))
        return false;
    if (d->splat || d->dtype != DT_F32 || d->count != rows * cols || !dim_is(k->c, b->offset, 0))
        return false;
    for (int i = 0; i < rows * cols; i++)
        if (((const float *)d->data)[i] != x[i / cols][i % cols]) return false;
    return true;
}

/* Stage `to` reads what stage `to` - 1 wrote, at axes want[] after the image, and that was written
 * at its own axes. */
static bool chained(const Kernel *k, const Match *m, int to, const ExprInfo *load,
                    const int *want) {
    const KOut *o = &k->stage[to - 1].out[0];
    int own[7] = {0}, at[7] = {0}, f = m->first;
    for (int d = 0; d < 6; d++) {
        own[f + d] = f + d;
        at[f + d] = f + want[d];
    }
    if (load->index != o->buf || k->buf[o->buf].kind != KB_TEMP || o->oob != OOB_NEVER)
        return false;
    return is_at(k, o->at, o->rank, own, f + 6) && is_at(k, load->arg, load->narg, at, f + 6);
}

static int64_t known(const Kernel *k, const Stage *s, int axis) {
    int64_t v;
    return dim_is_const(k->c, s->axis[axis].extent, &v) ? v : -1;
}

static bool match(const Kernel *k, Match *m) {
    ExprInfo x, y;
    *m = (Match){.n = dim_const(k->c, 1), .s = {.n = 1}};
    if (k->nstage < STAGES) return false;
    const Stage *s = &k->stage[0];
    m->first = s->naxis == 8;
    int f = m->first;
    if (f) m->n = s->axis[0].extent;
    int64_t n;
    if (dim_is_const(k->c, m->n, &n) && n > 0) m->s.n = n;
    if (!product(k, 0, f + 6, 1, &x, &y)) return false;
    int64_t a = known(k, s, f + 3);
    for (int i = 0; i < 2; i++)
        if (wino_form[i].a == a) m->form = &wino_form[i];
    if (!m->form || known(k, s, f + 4) != a || known(k, s, f + 5) != BLOCK ||
        known(k, s, f + 6) != a)
        return false;
    const WinoForm *w = m->form;
    m->s.cb = known(k, s, f);
    m->ty = s->axis[f + 1].extent;
    m->tx = s->axis[f + 2].extent;
    m->s.tiles = (int64_t)ceil(dim_typical(k->c, m->ty)) * (int64_t)ceil(dim_typical(k->c, m->tx));
    m->x = (uint16_t)x.index;
    if (k->buf[x.index].kind != KB_IN || !is_matrix(k, &y, f + 3, f + 6, w->bt, w->a, w->a))
        return false;
    if (!access_affine(k, s, m->x, k->buf[m->x].rank, x.arg, &m->in) || m->in.has[f + 3])
        return false;
    if (!dim_is(k->c, m->in.coef[f + 5], 1)) return false;
    /* V: n c y x p q i | b */
    if (!product(k, 1, f + 6, 1, &x, &y) || !chained(k, m, 1, &x, (int[]){0, 1, 2, 3, 6, 5}))
        return false;
    if (!is_matrix(k, &y, f + 4, f + 6, w->bt, w->a, w->a)) return false;
    /* M: n o y x p q j | c i */
    if (!product(k, 2, f + 6, 2, &x, &y) || !chained(k, m, 2, &x, (int[]){6, 1, 2, 3, 4, 7}))
        return false;
    m->s.ob = known(k, &k->stage[2], f);
    const KBuf *u = &k->buf[y.index];
    int64_t stride = 1, extent[6] = {a, a, m->s.ob, m->s.cb, BLOCK, BLOCK};
    if (!is_at(k, y.arg, y.narg, (int[]){f + 3, f + 4, f, f + 6, f + 7, f + 5}, 6) ||
        !dim_is(k->c, u->offset, 0) || u->data->splat)
        return false;
    for (int d = 5; d >= 0; d--) {
        if (!dim_is(k->c, u->dim[d], extent[d]) || !dim_is(k->c, u->stride[d], stride))
            return false;
        stride *= extent[d];
    }
    m->u = (uint16_t)y.index;
    /* n o y x r q j | p, then n o y r x s j | q */
    if (!product(k, 3, f + 6, 1, &x, &y) || !chained(k, m, 3, &x, (int[]){0, 1, 2, 6, 4, 5}))
        return false;
    if (!is_matrix(k, &y, f + 3, f + 6, w->at, w->m, w->a)) return false;
    if (!product(k, 4, f + 6, 1, &x, &y) || !chained(k, m, 4, &x, (int[]){0, 1, 3, 2, 6, 5}))
        return false;
    if (!is_matrix(k, &y, f + 4, f + 6, w->at, w->m, w->a)) return false;
    return k->nstage == STAGES ||
           epilogue_mask(k, 4) == (((1ull << k->nstage) - 1) & ~((1ull << STAGES) - 1));
}

static bool wino_match(const Kernel *k, const Target *t) {
    Match m;
    return t->vbytes <= 64 && k->nstage < 64 && match(k, &m) &&
           wino_plan(t, m.form, &m.s).cycles < WINO_NEVER;
}

static int wino_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    Match m;
    if (max < 1 || !match(k, &m)) return 0;
    WinoPlan p = wino_plan(t, m.form, &m.s);
    out[0].par[PAR_M] = m.form->m;
    out[0].par[PAR_BLOCK] = p.block;
    out[0].par[PAR_GROUPS] = p.groups;
    out[0].par[PAR_ROWS] = p.rows;
    return 1;
}

static double wino_cost(const Kernel *k, const Sched *s, const Target *t) {
    Match m;
    (void)s;
    return match(k, &m) ? wino_plan(t, m.form, &m.s).cycles : 1e30;
}

/* ---- code ---- */

typedef struct Gen {
    Emit *e;
    Lir *l;
    Match m;
    WinoPlan p;
    uint16_t lanes;
    int64_t vpitch, vplane, mpitch, mplane; /* of scratch, in floats */
    LVal v, mm;                             /* its two parts */
    LVal tiles, tx;                         /* of an image; of a row */
    LVal image, t0, count, c0, c1;          /* of the task: first tile, tiles that there are of the block, range of columns */
} Gen;

static LVal plus(Gen *g, LVal x, LVal y) { return lir_add(g->l, x, y); }
static LVal minus(Gen *g, LVal x, LVal y) { return lir_sub(g->l, x, y); }
static LVal fma_of(Gen *g, double f, LVal x, LVal y) {
    return lir_fma(g->l, lir_splat(g->l, lir_float(g->l, DT_F32, f), g->lanes), x, y);
}

/* out[i * step] = row i of B^T times d[0], d[ds], .. */
static void times_bt(Gen *g, const LVal *d, int ds, LVal *out, int step) {
    LVal a = d[0], b = d[ds], c = d[2 * ds], e = d[3 * ds];
    if (g->m.form->m == 2) {
        out[0] = minus(g, a, c);
        out[step] = plus(g, b, c);
        out[2 * step] = minus(g, c, b);
        out[3 * step] = minus(g, b, e);
        return;
    }
    LVal f = d[4 * ds], h = d[5 * ds];
    LVal t1 = fma_of(g, -4, c, f), t2 = fma_of(g, -4, b, e), t3 = minus(g, f, c),
         t4 = minus(g, e, b);
    out[0] = fma_of(g, 4, a, fma_of(g, -5, c, f));
    out[step] = plus(g, t1, t2);
    out[2 * step] = minus(g, t1, t2);
    out[3 * step] = fma_of(g, 2, t4, t3);
    out[4 * step] = fma_of(g, -2, t4, t3);
    out[5 * step] = fma_of(g, 4, b, fma_of(g, -5, e, h));
}

static void times_at(Gen *g, const LVal *d, int ds, LVal *out, int step) {
    LVal a = d[0], b = d[ds], c = d[2 * ds], e = d[3 * ds], p = plus(g, b, c), q = minus(g, b, c);
    if (g->m.form->m == 2) {
        out[0] = plus(g, a, p);
        out[step] = minus(g, q, e);
        return;
    }
    LVal f = d[4 * ds], r = plus(g, e, f), s = minus(g, e, f);
    out[0] = plus(g, a, plus(g, p, r));
    out[step] = fma_of(g, 2, s, q);
    out[2 * step] = fma_of(g, 4, r, p);
    out[3 * step] = plus(g, fma_of(g, 8, s, q), d[5 * ds]);
}

static LFor loop(Gen *g, LVal lo, LVal hi, int64_t step) {
    return lir_for(g->l, lo, hi, lir_i64(g->l, step), 0, NULL);
}
static LVal num(Gen *g, int64_t v) { return lir_i64(g->l, v); }

static LVal origin(Gen *g) {
    Point p = {.vaxis = -1, .lanes = 1};
    emit_memo_reset(g->e);
    for (int a = 0; a < K_AXES; a++) p.axis[a] = num(g, 0);
    return emit_expr(g->e, &g->e->k->stage[0], g->m.in.rest, &p);
}

/* V = B^T d B of all tiles of the block, all channels. */
static void transform_in(Gen *g) {
    Lir *l = g->l;
    int f = g->m.first, a = g->m.form->a;
    const Affine *in = &g->m.in;
    LVal first = origin(g), step[K_AXES];
    for (int i = 0; i < f + 7; i++) step[i] = emit_dim(g->e, in->coef[i]);
    if (f) first = lir_add(l, first, lir_mul(l, g->image, step[0]));
    LVal rows = lir_op2(l, S_MIN, num(g, g->p.block), lir_addi(l, g->count, g->p.rows - 1)), last = lir_addi(l, g->tiles, -1);
    LFor t = loop(g, num(g, 0), rows, 1); /* what the products read */
    LVal tile = lir_op2(l, S_MIN, lir_add(l, g->t0, t.iv), last);
    LVal y = lir_op2(l, S_DIV, tile, g->tx), x = lir_op2(l, S_REM, tile, g->tx);
    LVal row = lir_add(l, first, lir_mul(l, y, step[f + 1])), from = lir_add(l, row, lir_mul(l, x, step[f + 2])),
         to = lir_muli(l, t.iv, g->vpitch);
    LFor c = loop(g, num(g, 0), num(g, g->m.s.cb), 1);
    LVal from_c = lir_add(l, from, lir_mul(l, c.iv, step[f])),
         to_c = lir_add(l, to, lir_muli(l, c.iv, BLOCK));
    LFor part = loop(g, num(g, 0), num(g, BLOCK), g->lanes);
    LVal src = lir_add(l, from_c, part.iv), dst = lir_add(l, to_c, part.iv), d[WINO_MAX],
         h[MAX_POINTS], v[WINO_MAX];
    for (int j = 0; j < a; j++) { /* column j of the tile */
        for (int i = 0; i < a; i++) {
            LVal at = lir_muli(l, step[f + 6], i);
            at = lir_add(l, src, lir_add(l, at, lir_muli(l, step[f + 4], j)));
            d[i] = lir_load(l, g->e->ptr[g->m.x], at, (LTy){DT_F32, g->lanes}, (LVal){0}, 0);
        }
        times_bt(g, d, 1, h + j, a);
    }
    for (int i = 0; i < a; i++) {
        times_bt(g, h + i * a, 1, v, 1);
        for (int j = 0; j < a; j++)
            lir_store(l, g->v, lir_addi(l, dst, (i * a + j) * g->vplane), v[j], (LVal){0}, 0);
    }
    lir_for_end(l, &part, NULL, NULL);
    lir_for_end(l, &c, NULL, NULL);
    lir_for_end(l, &t, NULL, NULL);
}

/* Lines of U to ask for ahead per four channels: the next panel while this one is at work; 0 if U
 * stays in cache. */
static int lines_ahead(const Gen *g, int passes) {
    const KBuf *u = &g->e->k->buf[g->m.u];
    if (u->data->bytes < (512u << 10) || g->p.unit < BLOCK) return 0;
    int lines = (g->p.unit / 4 + passes - 1) / passes;
    return lines <= 4 ? lines : 4;
}

/* rows x nv vectors of M: V rows at `a`, panel at `b`; pass: which of the passes over the panel
 * this is. */
static void multiply(Gen *g, int rows, int nv, int passes, LVal pass, LVal a, LVal b, LVal to) {
    Lir *l = g->l;
    int64_t channels = g->m.s.cb * BLOCK;
    LVal acc[64], next[64], w[4], zero = lir_splat(l, lir_float(l, DT_F32, 0), g->lanes);
    CHECK(rows * nv <= 64);
    for (int i = 0; i < rows * nv; i++) acc[i] = zero;
    int lines = lines_ahead(g, passes);
    LFor k = lir_for(l, num(g, 0), num(g, channels), num(g, 4), (uint32_t)(rows * nv), acc);
    memcpy(next, k.c, sizeof(LVal) * (size_t)(rows * nv));
    LVal panel = lir_add(l, b, lir_muli(l, k.iv, BLOCK)), row = lir_add(l, a, k.iv);
    if (lines) {
        LVal at = lir_muli(l, k.iv, 4 * lines);
        at = lir_add(l, at, lir_muli(l, pass, channels * 4 * lines));
        for (int i = 0; i < lines; i++)
            lir_prefetch(l, g->e->ptr[g->m.u],
                         lir_addi(l, lir_add(l, b, at), channels * g->p.unit + i * 16), DT_F32, 2);
    }
    for (int u = 0; u < 4; u++) {
        for (int v = 0; v < nv; v++) {
            int64_t off = u * BLOCK + (g->lanes == BLOCK ? v * channels * BLOCK : v * g->lanes);
            w[v] = lir_load(l, g->e->ptr[g->m.u], lir_addi(l, panel, off), (LTy){DT_F32, g->lanes},
                            (LVal){0}, 0);
        }
        for (int r = 0; r < rows; r++) {
            LVal s = lir_splat(l,
                               lir_load(l, g->v, lir_addi(l, row, r * g->vpitch + u),
                                        (LTy){DT_F32, 1}, (LVal){0}, 0),
                               g->lanes);
            for (int v = 0; v < nv; v++) next[r * nv + v] = lir_fma(l, s, w[v], next[r * nv + v]);
        }
    }
    lir_for_end(l, &k, next, acc);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < nv; v++)
            lir_store(l, g->mm, lir_addi(l, to, r * g->mpitch + v * g->lanes), acc[r * nv + v],
                      (LVal){0}, 0);
}

/* Passes of `rows` tiles each, of `most`, that begin at tile `from` of the block and have some. */
static LVal rows_of(Gen *g, int64_t from, int64_t rows, int64_t most) {
    Lir *l = g->l;
    LVal some = lir_op2(l, S_DIV, lir_addi(l, g->count, rows - 1 - from), num(g, rows));
    return lir_op2(l, S_MIN, some, num(g, most));
}

/* All tiles of the block times nv vectors of columns from `col`, at one point. */
static void panel(Gen *g, LVal point, LVal col, int nv) {
    Lir *l = g->l;
    int64_t channels = g->m.s.cb * BLOCK, n = g->p.block, rows = g->p.rows,
            passes = (n + rows - 1) / rows, small = passes * rows - n, big = passes - small;
    LVal u = lir_muli(l, point, channels * g->m.s.ob * BLOCK);
    if (g->p.unit % BLOCK == 0)
        u = lir_add(l, u, lir_muli(l, col, channels));
    else {
        LVal block = lir_muli(l, lir_op2(l, S_DIV, col, num(g, BLOCK)), channels * BLOCK);
        u = lir_add(l, u, lir_add(l, block, lir_op2(l, S_REM, col, num(g, BLOCK))));
    }
    LVal a = lir_muli(l, point, g->vplane), to = lir_muli(l, point, g->mplane);
    to = lir_add(l, to, lir_sub(l, col, g->c0));
    CHECK(small <= passes);
    LFor r = loop(g, num(g, 0), rows_of(g, 0, rows, big), 1);
    LVal at = lir_muli(l, r.iv, rows), src = lir_add(l, a, lir_muli(l, at, g->vpitch)), dst = lir_add(l, to, lir_muli(l, at, g->mpitch));
    multiply(g, (int)rows, nv, (int)passes, r.iv, src, u, dst);
    lir_for_end(l, &r, NULL, NULL);
    if (!small) return;
    r = loop(g, num(g, 0), rows_of(g, big * rows, rows - 1, small), 1);
    at = lir_addi(l, lir_muli(l, r.iv, rows - 1), big * rows);
    src = lir_add(l, a, lir_muli(l, at, g->vpitch)), dst = lir_add(l, to, lir_muli(l, at, g->mpitch));
    multiply(g, (int)rows - 1, nv, (int)passes, lir_addi(l, r.iv, big), src, u, dst);
    lir_for_end(l, &r, NULL, NULL);
}

static void products(Gen *g) {
    Lir *l = g->l;
    int a = g->m.form->a, nv = g->p.unit / g->lanes;
    int64_t tail = g->m.s.ob * BLOCK % g->p.unit;
    LFor p = loop(g, num(g, 0), num(g, a * a), 1);
    LVal whole = tail ? lir_op2(l, S_MIN, g->c1, num(g, g->m.s.ob * BLOCK - tail)) : g->c1;
    LFor c = loop(g, g->c0, whole, g->p.unit);
    panel(g, p.iv, c.iv, nv);
    lir_for_end(l, &c, NULL, NULL);
    if (tail) {
        LIf i = lir_if(l, lir_op2(l, S_GT, g->c1, whole), 0);
        panel(g, p.iv, whole, (int)(tail / g->lanes));
        lir_else(l, &i, NULL);
        lir_endif(l, &i, NULL, NULL);
    }
    lir_for_end(l, &p, NULL, NULL);
}

/* A^T M A of the block's tiles, each pixel through the epilogue. */
static void transform_out(Gen *g) {
    Lir *l = g->l;
    int f = g->m.first, a = g->m.form->a, m = g->m.form->m;
    LFor t = loop(g, num(g, 0), g->count, 1);
    LVal tile = lir_add(l, g->t0, t.iv), row = lir_muli(l, t.iv, g->mpitch);
    LVal y = lir_op2(l, S_DIV, tile, g->tx), x = lir_op2(l, S_REM, tile, g->tx);
    LFor c = loop(g, g->c0, g->c1, g->lanes);
    LVal src = lir_add(l, row, lir_sub(l, c.iv, g->c0)), d[WINO_MAX], h[MAX_POINTS], v[MAX_POINTS];
    for (int j = 0; j < a; j++) {
        for (int i = 0; i < a; i++)
            d[i] = lir_load(l, g->mm, lir_addi(l, src, (i * a + j) * g->mplane),
                            (LTy){DT_F32, g->lanes}, (LVal){0}, 0);
        times_at(g, d, 1, h + j, a);
    }
    for (int r = 0; r < m; r++) times_at(g, h + r * a, 1, v + r * m, 1);
    LVal o = lir_op2(l, S_DIV, c.iv, num(g, BLOCK)), lane = lir_op2(l, S_REM, c.iv, num(g, BLOCK));
    for (int r = 0; r < m * m; r++) {
        Point p = {.vaxis = (int8_t)(f + 5), .lanes = g->lanes, .axis = {[0] = g->image}};
        LVal axis[6] = {
            o, y, num(g, r / m), x, num(g, r % m), g->lanes == BLOCK ? num(g, 0) : lane};
        memcpy(p.axis + f, axis, sizeof axis);
        emit_epilogue(g->e, STAGES - 1, &v[r], &p);
    }
    lir_for_end(l, &c, NULL, NULL);
    lir_for_end(l, &t, NULL, NULL);
}

static void wino_build(Emit *e) {
    Gen gen = {.e = e, .l = e->l, .lanes = target_lanes(e->t, DT_F32)}, *g = &gen;
    Lir *l = e->l;
    CHECK(match(e->k, &g->m));
    g->p = wino_plan(e->t, g->m.form, &g->m.s);
    int64_t points = g->m.form->a * g->m.form->a, all = g->m.s.ob * BLOCK;
    g->vpitch = g->m.s.cb * BLOCK + 16;
    g->vplane = wino_plane(g->p.block, g->m.s.cb * BLOCK);
    g->mpitch = g->p.columns + 16;
    g->mplane = wino_plane(g->p.block, g->p.columns);
    e->code->scratch = dim_const(e->c, (points * (g->vplane + g->mplane) * 4 + 63) / 64 * 64);
    const Dim tiles = dim_mul(e->c, g->m.ty, g->m.tx), blocks = dim_ceildiv(e->c, tiles, dim_const(e->c, g->p.block));
    e->code->tasks = dim_mul(e->c, g->m.n, dim_muli(e->c, blocks, g->p.groups));
    g->v = lir_scratch(l);
    g->mm = lir_ptr_add(l, g->v, num(g, points * g->vplane), DT_F32);
    LFor t = lir_for_tasks(l, lir_i64(l, 1), 0, NULL);
    g->tiles = emit_dim(e, tiles);
    g->tx = emit_dim(e, g->m.tx);
    LVal rest = t.iv, count = emit_dim(e, blocks);
    g->t0 = lir_muli(l, lir_op2(l, S_REM, rest, count), g->p.block);
    rest = lir_op2(l, S_DIV, rest, count);
    g->c0 = lir_muli(l, lir_op2(l, S_REM, rest, num(g, g->p.groups)), g->p.columns);
    g->c1 = lir_op2(l, S_MIN, lir_addi(l, g->c0, g->p.columns), num(g, all));
    g->image = lir_op2(l, S_DIV, rest, num(g, g->p.groups));
    g->count = lir_sub(l, g->tiles, g->t0);
    g->count = lir_op2(l, S_MIN, g->count, num(g, g->p.block));
    transform_in(g);
    products(g);
    transform_out(g);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_winograd = {
    "winograd", "m block groups rows", F_SIMD, wino_match, wino_candidates, wino_cost, wino_build};
