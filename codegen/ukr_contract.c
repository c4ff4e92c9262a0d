/* ukr_contract.c: template `contract`: matrix products and convolutions as one register-tiled loop nest.
 *
 * The kernel is one contraction out[m.., n..] += A[m.., k..] * B[n.., k..] (both may share batch axes) and epilogues over its
 * result. B is read as vectors along a parallel axis of unit stride (a panel of packed weights, or a row of a matrix), A as
 * scalars that are broadcast. A tile of ty x tx points of the two innermost m axes times nv vectors lives in registers while all
 * reduced axes run; then the epilogue stores it. Convolution differs from matrix product in the coefficients alone.
 *
 * Bytes, u8 times i8 summed in i32, are multiplied four at a time (lir_dot4) where both operands have them side by side: a
 * reduced axis of four (the quad) is contiguous in A and in B, and the columns of B are four bytes apart. Pairs of products may be summed
 * in 16 bits if B is constant, and what could overflow taken out of it (contract_pairs.c).
 *
 * Tasks (contract_plan.c): batch, column tiles, chunks of rows, in this order, so that a thread keeps a column panel of B in cache while it
 * walks rows. Where A is too large for the second-level cache and B is not: batch, chunks of rows, column tiles (order 1). Where both are,
 * A is walked in passes: a task has several column tiles, and multiplies all of them by one stretch of the reduced axis after the other,
 * sums waiting in scratch.
 * Each element sums its products in ascending order of the reduced axes, in one chain: results do not depend on tiles, order or passes. */
#include <string.h>

#include "contract.h"
#include "ukr.h"

enum { PAR_MR, PAR_NV, PAR_ROWS, PAR_UNROLL, PAR_PF, PAR_DEPTH, PAR_TILES, PAR_ORDER };
enum { MAX_TILE = 64, STEPS = 4, BLOCK = 16 };

static bool contract_match(const Kernel *k, const Target *t) {
    Shape x;
    (void)t;
    return contract_shape(k, &x) && contract_border_neutral(&x);
}

static int vectors_per_block(const Shape *x, const Target *t) { return 16 / target_lanes(t, x->s->acc[0]); }

static double contract_cost(const Kernel *k, const Sched *s, const Target *t) {
    Shape x;
    return contract_shape(k, &x) ? contract_tile_cost(&x, t, (int)s->par[PAR_MR], (int)s->par[PAR_NV]) : 1e30;
}

/* Where registers are few, all channels of a block in a row: a loop of four turns inside of others computes its addresses in each of them, and what
 * that needs of registers moved sums to memory and back. */
static bool whole_block(const Shape *x, const Target *t) {
    return t->vregs < 32 && x->nblk >= 0 && x->quad < 0 && x->nred > 1 && dim_is(x->k->c, x->s->axis[x->red[x->nred - 1]].extent, BLOCK);
}

/* For sums and operands. Products of bytes that two instructions make have values between them, and a constant of ones or of a mask. */
static int registers(const Shape *x, const Target *t) {
    enum { BETWEEN = 4 };
    bool two = x->quad >= 0 && t->flags & F_AVX2 && !(t->flags & F_VNNI) && t->vregs < 32;
    return t->vregs - (two ? BETWEEN : 0);
}

static int contract_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    Shape x, large;
    if (!contract_shape(k, &x)) return 0;
    large = contract_large(&x);
    int lanes = target_lanes(t, x.s->acc[0]), regs = registers(&x, t), n = 0;
    static const int widths[] = {1, 2, 3, 4, 6, 8, 12, 16};
    for (size_t i = 0; i < sizeof widths / sizeof *widths && n < max; i++) {
        int nv = widths[i];
        if (x.nblk >= 0 && (nv > 8 || nv % vectors_per_block(&x, t))) continue;
        double cols = x.nblk >= 0 ? shape_extent(&x, x.nblk) * 16 : shape_extent(&x, x.vec);
        if (nv > 1 && (nv - 1) * lanes >= cols) continue;
        int mr = (regs - nv - 1) / nv;
        if (mr < 1 && x.nblk < 0 && nv + 2 <= regs) mr = 1; /* whose B are operands in memory: long stretches of rows that no panels hold */
        if (t->vbytes == 64 && nv == 2 && mr > 14) mr = 14;
        if (mr > 28) mr = 28;
        if (mr < 1) continue;
        double rows = shape_product(&large, x.m, x.nm);
        while (mr > 1 && mr > rows) mr--;
        if (mr * nv > MAX_TILE) continue;
        out[n].par[PAR_MR] = mr;
        out[n].par[PAR_NV] = nv;
        out[n].par[PAR_UNROLL] = whole_block(&x, t) ? BLOCK : STEPS;
        out[n].par[PAR_PF] = 1;
        n++;
    }
    return n;
}

/* ---- code ---- */

typedef struct Gen {
    Emit *e;
    Shape x;
    Lir *l;
    int lanes, nv, unroll, per_block;
    LVal at[K_AXES];                /* tile origin: coordinate of each axis */
    LVal lo[K_AXES], hi[K_AXES];    /* of reduced axes that are taps at a border: those in range */
    LVal cols;                      /* columns left from the tile's first (unblocked n) */
    bool volatile_a, in_pairs;      /* in_pairs: lir_pairs is exact */
    Pairs pairs;
    Plan plan;
    /* Passes (plan.depth): this one's reduced range begins at `from`; tile_no counts the row tiles of the task; sums: where those of the
     * column tile lie in scratch; next: where B is read after it; copy: the copy of A, whose first row is row0. */
    LVal from, last, tile_no, sums, next, copy, row0;
} Gen;

static LVal coef(Gen *g, const Operand *o, int axis) { return emit_dim(g->e, o->f.coef[axis]); }

/* Element offset of the tile's origin in operand o, reduced axes at 0. */
static LVal origin(Gen *g, const Operand *o) {
    Point p = {.vaxis = -1, .lanes = 1};
    emit_memo_reset(g->e);
    for (int a = 0; a < K_AXES; a++) p.axis[a] = lir_i64(g->l, 0);
    LVal sum = emit_expr(g->e, g->x.s, o->f.rest, &p);
    for (int a = 0; a < g->x.s->naxis; a++)
        if (o->f.has[a] && g->x.s->axis[a].kind == AX_PAR) sum = lir_add(g->l, sum, lir_mul(g->l, g->at[a], coef(g, o, a)));
    return sum;
}

typedef struct Tile { int ty, tx, nv; bool masked; LVal mask; LVal row[MAX_TILE]; LVal a0, b0; } Tile;

/* Elements between the rows of A's copy: neighbours fall into different sets of the first-level cache. */
static int64_t copy_pitch(const Gen *g) { return g->plan.depth + 64 / (dt_bits(g->x.a.type) / 8); }

static LVal row_offset(Gen *g, int i, int j) {
    LVal o = lir_i64(g->l, 0);
    const Shape *x = &g->x;
    if (g->plan.copies) return lir_i64(g->l, j * copy_pitch(g));
    if (x->nm > 0 && j) o = lir_muli(g->l, coef(g, &x->a, x->m[x->nm - 1]), j);
    if (x->nm > 1 && i) o = lir_add(g->l, o, lir_muli(g->l, coef(g, &x->a, x->m[x->nm - 2]), i));
    return o;
}

static LVal col_offset(Gen *g, int v) {
    int unit = g->x.quad >= 0 ? 4 : 1;
    if (g->x.nblk < 0) return lir_i64(g->l, (int64_t)v * g->lanes * unit);
    int b = v / g->per_block, part = v % g->per_block;
    return lir_addi(g->l, lir_muli(g->l, coef(g, &g->x.b, g->x.nblk), b), (int64_t)part * g->lanes * unit);
}

static LVal as_acc(Gen *g, LVal v, DType from) {
    return from == g->x.s->acc[0] ? v : math_cast(g->l, g->e->t, v, from, g->x.s->acc[0]);
}

/* The four bytes at element offset `at` of an operand, `lanes` times in a row, as i32. */
static LVal load_quads(Gen *g, const Operand *o, LVal at, uint16_t lanes, LVal mask) {
    LVal p = lir_ptr_bytes(g->l, g->e->ptr[o->buf], at);
    return lir_load(g->l, p, lir_i64(g->l, 0), (LTy){DT_I32, lanes}, mask, 1);
}

static LVal row_quad(Gen *g, const Tile *t, LVal ka, int r) {
    return lir_splat(g->l, load_quads(g, &g->x.a, lir_add(g->l, lir_add(g->l, t->a0, ka), t->row[r]), 1, (LVal){0}), (uint16_t)g->lanes);
}

/* n steps of quads, ca and cb apart: one, or as many as are summed in 16 bits. */
static void step_quads(Gen *g, const Tile *t, int n, LVal ka, LVal ca, LVal kb, LVal cb, LVal *acc) {
    Lir *l = g->l;
    LVal b[MOST_QUADS][16], a[MOST_QUADS], zero = lir_splat(l, lir_int(l, DT_I32, 0), (uint16_t)g->lanes);
    for (int q = 0; q < n; q++)
        for (int v = 0; v < t->nv; v++) {
            LVal at = lir_add(l, t->b0, lir_add(l, kb, lir_muli(l, cb, q)));
            at = lir_add(l, at, col_offset(g, v));
            b[q][v] = load_quads(g, &g->x.b, at, (uint16_t)g->lanes, t->masked && v == t->nv - 1 ? t->mask : (LVal){0});
        }
    for (int r = 0; r < t->ty * t->tx; r++) {
        for (int q = 0; q < n; q++) {
            if (g->volatile_a) lir_volatile_next(l);
            a[q] = row_quad(g, t, lir_add(l, ka, lir_muli(l, ca, q)), r);
        }
        for (int v = 0; v < t->nv; v++) {
            LVal *sum = &acc[r * t->nv + v], pair = zero;
            for (int q = 0; q < n; q++) {
                if (g->in_pairs) pair = lir_pairs(l, pair, a[q], b[q][v]);
                else *sum = lir_dot4(l, *sum, a[q], b[q][v]);
            }
            if (g->in_pairs) *sum = lir_add_pair(l, *sum, pair);
        }
    }
}

/* The vectors of quads that were taken out of column v's, so that the others can be multiplied in pairs. */
static void step_left(Gen *g, const Tile *t, int v, LVal *acc) {
    Lir *l = g->l;
    int rows = t->ty * t->tx, vector = 4 * g->lanes;
    LVal base = g->e->ptr[g->x.b.buf], own[MAX_TILE], next[MAX_TILE], none = {0};
    LVal zero = lir_splat(l, lir_int(l, DT_I32, 0), (uint16_t)g->lanes);
    LTy i64 = {DT_I64, 1};
    LVal panel = lir_addi(l, lir_op2(l, S_DIV, t->b0, lir_i64(l, g->pairs.panel)), v / g->per_block);
    LVal list = lir_addi(l, lir_muli(l, panel, g->per_block), v % g->per_block);
    LVal table = lir_ptr_bytes(l, base, lir_i64(l, g->pairs.table));
    LVal places = lir_ptr_bytes(l, base, lir_load(l, table, lir_i64(l, 0), i64, none, 1));
    for (int r = 0; r < rows; r++) own[r] = acc[r * t->nv + v];
    LVal begin = lir_load(l, table, lir_addi(l, list, 1), i64, none, 1), end = lir_load(l, table, lir_addi(l, list, 2), i64, none, 1);
    LFor f = lir_for(l, begin, end, lir_i64(l, 1), (uint32_t)rows, own);
    LVal ka = lir_load(l, places, f.iv, i64, none, 1);
    LVal b = load_quads(g, &g->x.b, lir_addi(l, lir_muli(l, f.iv, vector), g->pairs.vectors), (uint16_t)g->lanes, none);
    for (int r = 0; r < rows; r++) next[r] = lir_add_pair(l, f.c[r], lir_pairs(l, zero, row_quad(g, t, ka, r), b));
    lir_for_end(l, &f, next, own);
    for (int r = 0; r < rows; r++) acc[r * t->nv + v] = own[r];
}

/* One step of the reduction: every accumulator gains a[row] * b[column]. */
static void step(Gen *g, const Tile *t, LVal ka, LVal kb, LVal *acc) {
    Lir *l = g->l;
    const Shape *x = &g->x;
    if (x->quad >= 0) {
        step_quads(g, t, 1, ka, ka, kb, kb, acc);
        return;
    }
    LVal b[16];
    int rows = t->ty * t->tx;
    bool fl = dt_is_float(x->s->acc[0]);
    LVal from = g->plan.copies ? g->copy : g->e->ptr[x->a.buf];
    for (int v = 0; v < t->nv; v++) {
        LVal mask = t->masked && v == t->nv - 1 ? t->mask : (LVal){0};
        LVal at = lir_add(l, t->b0, kb);
        at = lir_add(l, at, col_offset(g, v));
        b[v] = as_acc(g, lir_load(l, g->e->ptr[x->b.buf], at, (LTy){(uint8_t)x->b.type, (uint16_t)g->lanes}, mask, 0), x->b.type);
    }
    for (int r = 0; r < rows; r++) {
        if (g->volatile_a) lir_volatile_next(l);
        LVal s = lir_load(l, from, lir_add(l, lir_add(l, t->a0, ka), t->row[r]), (LTy){(uint8_t)x->a.type, 1}, (LVal){0}, 0);
        s = lir_splat(l, as_acc(g, s, x->a.type), (uint16_t)g->lanes);
        for (int v = 0; v < t->nv; v++) {
            LVal *c = &acc[r * t->nv + v];
            *c = fl ? lir_fma(l, s, b[v], *c) : lir_add(l, *c, lir_mul(l, s, b[v]));
        }
    }
}

/* Lines of the next column tile's panel to ask for in each unrolled step, so that one pass over all rows asks for the whole
 * panel: weights that come from memory then arrive while the present panel is at work (cpu.md 10.2). 0: not worth it. */
static int prefetch_lines(const Gen *g, const Tile *t) {
    const Shape *x = &g->x;
    Ctx *c = g->e->c;
    int64_t total, m = 1, e;
    const KBuf *b = &g->e->k->buf[x->b.buf];
    if (x->nblk < 0 || !b->data || b->data->bytes < (512u << 10)) return 0;
    for (int i = 0; i < x->nm; i++) {
        if (!dim_is_const(c, x->s->axis[x->m[i]].extent, &e)) return 0;
        m *= e;
    }
    total = (m + t->ty * t->tx - 1) / (t->ty * t->tx);
    int64_t lines = (STEPS * t->nv + total - 1) / total;
    return lines <= 4 ? (int)lines : 0;
}

/* In passes, the next stretch of B is a piece of each block of its tile; every row tile asks for its share of one of them. */
static void prefetch_pass(Gen *g, const Tile *t, LVal kb) {
    Lir *l = g->l;
    int64_t line = 64 / (dt_bits(g->x.b.type) / 8), piece = g->plan.depth * 16, blocks = t->nv / g->per_block;
    int64_t want = (4 * blocks + g->plan.chunk - 1) / g->plan.chunk;
    int lines = want > 2 ? 4 : (int)want;
    LVal at = lir_muli(l, g->tile_no, piece / 4 * lines), block = lir_op2(l, S_DIV, at, lir_i64(l, piece));
    at = lir_op2(l, S_REM, at, lir_i64(l, piece));
    at = lir_add(l, at, lir_mul(l, block, coef(g, &g->x.b, g->x.nblk)));
    at = lir_add(l, at, g->next);
    at = lir_add(l, at, lir_muli(l, lir_op2(l, S_SHR, lir_sub(l, kb, lir_muli(l, g->from, 16)), lir_i64(l, 2)), lines));
    for (int i = 0; i < lines; i++) lir_prefetch(l, g->e->ptr[g->x.b.buf], lir_addi(l, at, line * i), g->x.b.type, 2);
}

static void prefetch(Gen *g, const Tile *t, LVal kb) {
    if (g->plan.depth) {
        prefetch_pass(g, t, kb);
        return;
    }
    int lines = prefetch_lines(g, t);
    if (!lines) return;
    Lir *l = g->l;
    const Shape *x = &g->x;
    int64_t m = 1, red = 1, e;
    LVal row = lir_i64(l, 0);
    for (int i = 0; i < x->nred; i++) {
        if (!dim_is_const(g->e->c, x->s->axis[x->red[i]].extent, &e)) return;
        red *= e;
    }
    for (int i = 0; i < x->nm; i++) {
        CHECK(dim_is_const(g->e->c, x->s->axis[x->m[i]].extent, &e));
        row = lir_add(l, lir_muli(l, row, e), g->at[x->m[i]]);
        m *= e;
    }
    int line = (int)(64 / (dt_bits(x->b.type) / 8)); /* elements; four steps of k are four lines of every panel */
    int64_t panel = red * t->nv * g->lanes * line / 16;
    LVal at = lir_addi(l, t->b0, panel);
    at = lir_add(l, at, lir_muli(l, row, panel / m / line * line));
    at = lir_add(l, at, lir_muli(l, lir_op2(l, S_SHR, kb, lir_i64(l, 2)), lines));
    for (int i = 0; i < lines; i++) lir_prefetch(l, g->e->ptr[x->b.buf], lir_addi(l, at, line * i), x->b.type, 2);
}

/* n steps side by side; ca, cb: how far one is from the next */
static void steps(Gen *g, const Tile *t, int n, LVal ka, LVal ca, LVal kb, LVal cb, LVal *acc) {
    for (int j = 0, more; j < n; j += more) {
        LVal a = lir_add(g->l, ka, lir_muli(g->l, ca, j)), b = lir_add(g->l, kb, lir_muli(g->l, cb, j));
        more = g->pairs.quads > 1 && n - j >= g->pairs.quads ? g->pairs.quads : 1;
        if (more > 1) step_quads(g, t, more, a, ca, b, cb, acc);
        else step(g, t, a, b, acc);
    }
}

/* Loops over reduced axes i.. ; ka, kb: element offsets so far. The innermost axis is unrolled. */
static void reduce(Gen *g, const Tile *t, int i, LVal ka, LVal kb, LVal *acc) {
    Lir *l = g->l;
    const Shape *x = &g->x;
    if (!x->nred) { /* a quad alone */
        step(g, t, ka, kb, acc);
        return;
    }
    int axis = x->red[i], n = t->ty * t->tx * t->nv;
    LVal ca = coef(g, &x->a, axis), cb = coef(g, &x->b, axis), begin = lir_i64(l, 0), end = emit_dim(g->e, x->s->axis[axis].extent);
    bool cut = false;
    for (int b = 0; b < x->nborder; b++) cut |= x->border[b].tap == axis;
    if (cut) begin = g->lo[axis], end = g->hi[axis];
    if (!x->a.f.has[axis]) ca = lir_i64(l, 0);
    if (!x->b.f.has[axis]) cb = lir_i64(l, 0);
    LVal next[MAX_TILE];
    if (i + 1 < x->nred || cut) {
        LFor f = lir_for(l, begin, end, lir_i64(l, 1), (uint32_t)n, acc);
        memcpy(next, f.c, sizeof(LVal) * (size_t)n);
        ka = lir_add(l, ka, lir_mul(l, f.iv, ca)), kb = lir_add(l, kb, lir_mul(l, f.iv, cb));
        if (i + 1 < x->nred) reduce(g, t, i + 1, ka, kb, next);
        else step(g, t, ka, kb, next);
        lir_for_end(l, &f, next, acc);
        return;
    }
    int u = g->unroll;
    int64_t ext;
    bool known = dim_is_const(g->e->c, x->s->axis[axis].extent, &ext);
    if (g->plan.depth) ext = g->plan.depth;
    if (known && ext <= 2 * u) u = (int)ext; /* short: straight-line, or nothing at all */
    if (known && ext == u) {
        for (int j = 0; u == BLOCK && j < u; j += STEPS) prefetch(g, t, lir_add(l, kb, lir_muli(l, cb, j)));
        steps(g, t, u, ka, ca, kb, cb, acc);
        return;
    }
    LVal whole = known ? lir_i64(l, ext / u * u) : lir_mul(l, lir_op2(l, S_DIV, end, lir_i64(l, u)), lir_i64(l, u));
    LFor f = lir_for(l, lir_i64(l, 0), whole, lir_i64(l, u), (uint32_t)n, acc);
    memcpy(next, f.c, sizeof(LVal) * (size_t)n);
    LVal fa = lir_add(l, ka, lir_mul(l, f.iv, ca)), fb = lir_add(l, kb, lir_mul(l, f.iv, cb));
    if (u == g->unroll) prefetch(g, t, fb);
    steps(g, t, u, fa, ca, fb, cb, next);
    lir_for_end(l, &f, next, acc);
    if (known && ext % u == 0) return;
    f = lir_for(l, whole, end, lir_i64(l, 1), (uint32_t)n, acc);
    memcpy(next, f.c, sizeof(LVal) * (size_t)n);
    fa = lir_add(l, ka, lir_mul(l, f.iv, ca)), fb = lir_add(l, kb, lir_mul(l, f.iv, cb));
    step(g, t, fa, fb, next);
    lir_for_end(l, &f, next, acc);
}

/* Vector v of row r of a tile. */
static Point tile_point(Gen *g, const Tile *t, int r, int v) {
    const Shape *x = &g->x;
    Point p = {.vaxis = (int8_t)x->vec, .lanes = (uint16_t)g->lanes};
    if (t->masked && v == t->nv - 1) p.mask = t->mask;
    for (int a = 0; a < x->s->naxis; a++) {
        LVal c = g->at[a];
        if (x->nm > 0 && a == x->m[x->nm - 1]) c = lir_addi(g->l, c, r % t->tx);
        else if (x->nm > 1 && a == x->m[x->nm - 2]) c = lir_addi(g->l, c, r / t->tx);
        else if (a == x->nblk) c = lir_addi(g->l, c, v / g->per_block);
        else if (a == x->vec) c = lir_addi(g->l, c, (int64_t)(x->nblk >= 0 ? v % g->per_block : v) * g->lanes);
        p.axis[a] = c;
    }
    return p;
}

static void store_tile(Gen *g, const Tile *t, LVal *acc) {
    const Shape *x = &g->x;
    const int row = x->nm ? x->m[x->nm - 1] : x->vec; /* no rows: one, of whatever axis */
    for (int y = 0; y < t->ty; y++)
        for (int v = 0; v < t->nv; v++) {
            Point p = tile_point(g, t, y * t->tx, v);
            emit_epilogue_rows(g->e, row, &acc[y * t->tx * t->nv + v], t->nv, &p, t->tx);
        }
}

/* The sums of a tile between passes. */
static void exchange_sums(Gen *g, const Tile *t, LVal *acc, bool store) {
    Lir *l = g->l;
    DType type = g->x.s->acc[0];
    int rows = (int)contract_rows(&g->x, (int)g->e->s->par[PAR_MR]).tx;
    LVal at = lir_add(l, g->sums, lir_muli(l, g->tile_no, (int64_t)rows * g->nv * g->lanes));
    for (int i = 0; i < t->tx * t->nv; i++) {
        LVal to = lir_addi(l, at, (int64_t)i * g->lanes);
        if (store) lir_store(l, lir_scratch(l), to, acc[i], (LVal){0}, g->e->t->vbytes);
        else acc[i] = lir_load(l, lir_scratch(l), to, (LTy){(uint8_t)type, (uint16_t)g->lanes}, (LVal){0}, g->e->t->vbytes);
    }
}

static void tile(Gen *g, int ty, int tx, int nv, bool masked) {
    Tile t = {.ty = ty, .tx = tx, .nv = nv, .masked = masked};
    LVal acc[MAX_TILE];
    DType at = g->x.s->acc[0];
    LVal zero = lir_splat(g->l, dt_is_float(at) ? lir_float(g->l, at, 0) : lir_int(g->l, at, 0), (uint16_t)g->lanes);
    CHECK(ty * tx * nv <= MAX_TILE);
    for (int i = 0; i < ty * tx * nv; i++) acc[i] = zero;
    for (int i = 0; i < ty * tx; i++) t.row[i] = row_offset(g, i / tx, i % tx);
    if (masked) t.mask = lir_mask(g->l, lir_addi(g->l, g->cols, -(int64_t)(nv - 1) * g->lanes), (uint16_t)g->lanes);
    t.a0 = g->plan.copies ? lir_muli(g->l, lir_sub(g->l, g->at[g->x.m[0]], g->row0), copy_pitch(g)) : origin(g, &g->x.a);
    t.b0 = origin(g, &g->x.b);
    if (!g->plan.depth) {
        reduce(g, &t, 0, lir_i64(g->l, 0), lir_i64(g->l, 0), acc);
        for (int v = 0; v < nv && g->pairs.data; v++) step_left(g, &t, v, acc);
        store_tile(g, &t, acc);
        return;
    }
    exchange_sums(g, &t, acc, false);
    int axis = g->x.red[0];
    LVal ka = g->plan.copies ? lir_i64(g->l, 0) : lir_mul(g->l, g->from, coef(g, &g->x.a, axis));
    reduce(g, &t, 0, ka, lir_mul(g->l, g->from, coef(g, &g->x.b, axis)), acc);
    LIf last = lir_if(g->l, g->last, 0);
    store_tile(g, &t, acc);
    lir_else(g->l, &last, NULL);
    exchange_sums(g, &t, acc, true);
    lir_endif(g->l, &last, NULL, NULL);
}

/* for pos in [pos, hi) by size: tiles of `size` points along axis; what is left is handed to smaller sizes. */
static void tiles_between(Gen *g, LVal pos, LVal hi, int ty, int tx, int nv, bool masked) {
    Lir *l = g->l;
    int axis = g->x.m[g->x.nm - 1];
    static const int smaller[] = {5, 4, 3, 2, 1};
    for (int i = -1; i < 5; i++) {
        int size = i < 0 ? tx : smaller[i];
        if (i >= 0 && size >= tx) continue;
        LVal end = lir_add(l, pos, lir_muli(l, lir_op2(l, S_DIV, lir_sub(l, hi, pos), lir_i64(l, size)), size));
        LFor f = lir_for(l, pos, end, lir_i64(l, size), 0, NULL);
        g->at[axis] = f.iv;
        tile(g, ty, size, nv, masked);
        lir_for_end(l, &f, NULL, NULL);
        pos = end;
        if (tx == 1) break;
    }
}

/* The same in stretches of points that have the same taps: at most as many as each tap begins and ends, and one. */
static void between_borders(Gen *g, LVal pos, LVal hi, int tx, int nv, bool masked) {
    Lir *l = g->l;
    const Border *along = contract_taps_across(g->e, &g->x, g->at, g->lo, g->hi);
    int64_t taps = 0;
    if (along) CHECK(dim_is_const(g->e->c, g->x.s->axis[along->tap].extent, &taps));
    LFor f = lir_for(l, lir_i64(l, 0), lir_i64(l, 2 * taps + 1), lir_i64(l, 1), 1, &pos);
    LVal end = along ? contract_taps_along(g->e, &g->x, along, f.c[0], hi, g->lo, g->hi) : hi;
    tiles_between(g, f.c[0], end, 1, tx, nv, masked);
    lir_for_end(l, &f, &end, &pos);
}

/* Tiles along the innermost m axis. */
static void along_x(Gen *g, LVal lo, LVal hi, const Shape *x, int ty, int tx, int nv, bool masked) {
    Lir *l = g->l;
    if (!x->nm) {
        tile(g, 1, 1, nv, masked);
        return;
    }
    int axis = x->m[x->nm - 1];
    int64_t w;
    if (x->nborder) {
        between_borders(g, lo, hi, tx, nv, masked);
        return;
    }
    /* Known: big tiles of tx, then small ones of tx - 1; a lone m axis is walked from tile lo to tile hi. */
    if (dim_is_const(g->e->c, x->s->axis[axis].extent, &w)) {
        int64_t tiles = (w + tx - 1) / tx, small = tiles * tx - w, big = tiles - small;
        bool part = x->nm == 1;
        LVal cut = lir_i64(l, big), from = part ? lo : lir_i64(l, 0), to = part ? hi : lir_i64(l, tiles);
        LFor f = lir_for(l, from, small && part ? lir_op2(l, S_MIN, to, cut) : small ? cut : to, lir_i64(l, 1), 0, NULL);
        g->at[axis] = lir_muli(l, f.iv, tx);
        g->tile_no = lir_sub(l, f.iv, lo);
        tile(g, ty, tx, nv, masked);
        lir_for_end(l, &f, NULL, NULL);
        if (!small) return;
        f = lir_for(l, part ? lir_op2(l, S_MAX, from, cut) : cut, to, lir_i64(l, 1), 0, NULL);
        g->at[axis] = lir_addi(l, lir_muli(l, f.iv, tx - 1), big); /* big * tx + (i - big) * (tx - 1) */
        g->tile_no = lir_sub(l, f.iv, lo);
        tile(g, ty, tx - 1, nv, masked);
        lir_for_end(l, &f, NULL, NULL);
        return;
    }
    tiles_between(g, lo, hi, ty, tx, nv, masked);
}

/* The rows of a task: [r0, r1) along the chunked m axis, all of the inner ones. */
static void rows(Gen *g, TileRows tr, LVal r0, LVal r1, int nv, bool masked) {
    Lir *l = g->l;
    const Shape *x = &g->x;
    if (x->nm < 2) {
        along_x(g, r0, r1, x, 1, tr.tx, nv, masked);
        return;
    }
    int axis = x->m[x->nm - 2], inner = x->m[x->nm - 1];
    LVal w = emit_dim(g->e, x->s->axis[inner].extent), pos = r0, zero = lir_i64(l, 0);
    int64_t h, left = 1;
    bool known = dim_is_const(g->e->c, x->s->axis[axis].extent, &h); /* then a task begins at a multiple of ty, and what is left is one tile */
    if (known) left = h % tr.ty;
    for (int ty = tr.ty; ty >= 1; ty = ty == tr.ty && ty > 1 ? (int)left : 0) {
        LVal size = lir_i64(l, ty), end = ty == tr.ty ? lir_add(l, pos, lir_mul(l, lir_op2(l, S_DIV, lir_sub(l, r1, pos), size), size)) : r1;
        LFor f = lir_for(l, pos, end, size, 0, NULL);
        g->at[axis] = f.iv;
        along_x(g, zero, w, x, ty, tr.tx, nv, masked);
        lir_for_end(l, &f, NULL, NULL);
        pos = end;
    }
}

static void column_tiles(Gen *g, TileRows tr, LVal tile_no, LVal r0, LVal r1) {
    Lir *l = g->l;
    const Shape *x = &g->x;
    Ctx *c = g->e->c;
    int blocks = g->nv / (g->per_block ? g->per_block : 1);
    Dim n = x->nblk >= 0 ? x->s->axis[x->nblk].extent : x->s->axis[x->vec].extent;
    int64_t size = x->nblk >= 0 ? blocks : (int64_t)g->nv * g->lanes;
    LVal first = lir_muli(l, tile_no, size);
    g->at[x->nblk >= 0 ? x->nblk : x->vec] = first;
    if (x->nblk >= 0) g->at[x->vec] = lir_i64(l, 0);
    g->cols = lir_sub(l, emit_dim(g->e, n), first);
    bool exact = dim_divisible(c, n, size);
    if (exact) {
        rows(g, tr, r0, r1, g->nv, false);
        return;
    }
    /* Full tiles, and tiles that are cut off at the right edge. */
    LIf full = lir_if(l, lir_op2(l, S_GE, g->cols, lir_i64(l, size)), 0);
    rows(g, tr, r0, r1, g->nv, false);
    lir_else(l, &full, NULL);
    int64_t known;
    bool is_known = dim_is_const(c, n, &known);
    int unit = x->nblk >= 0 ? g->per_block : 1;
    for (int nv = unit; nv < g->nv + (x->nblk < 0); nv += unit) {
        int64_t covers = x->nblk >= 0 ? nv / unit : (int64_t)nv * g->lanes, less = x->nblk >= 0 ? covers - 1 : covers - g->lanes;
        if (is_known && !(known % size > less && known % size <= covers)) continue;
        LIf i = {0};
        if (!is_known) {
            LVal more = lir_op2(l, S_GT, g->cols, lir_i64(l, less));
            i = lir_if(l, lir_op2(l, S_AND, more, lir_op2(l, S_LE, g->cols, lir_i64(l, covers))), 0);
        }
        rows(g, tr, r0, r1, nv, x->nblk < 0 && !(is_known && known % g->lanes == 0));
        if (!is_known) {
            lir_else(l, &i, NULL);
            lir_endif(l, &i, NULL, NULL);
        }
    }
    lir_endif(l, &full, NULL, NULL);
}

/* Row that tile `no` of a lone m axis begins at: big tiles of tx rows come before small ones of tx - 1. */
static LVal first_row(Gen *g, TileRows tr, LVal no) {
    int64_t w, tiles;
    CHECK(dim_is_const(g->e->c, g->x.s->axis[g->x.m[0]].extent, &w) && contract_by_tiles(&g->x, tr, &tiles));
    LVal big = lir_i64(g->l, tiles - (tiles * tr.tx - w));
    big = lir_op2(g->l, S_MIN, no, big);
    return lir_add(g->l, lir_muli(g->l, no, tr.tx - 1), big);
}

/* The rows of the task up to tile r1, of this pass, side by side. */
static void copy_rows(Gen *g, TileRows tr, LVal r1) {
    Lir *l = g->l;
    const Operand *a = &g->x.a;
    int lanes = target_lanes(g->e->t, a->type);
    LVal end = first_row(g, tr, r1), here = g->at[g->x.m[0]];
    LFor r = lir_for(l, g->row0, end, lir_i64(l, 1), 0, NULL);
    g->at[g->x.m[0]] = r.iv;
    LVal from = lir_add(l, origin(g, a), g->from), to = lir_muli(l, lir_sub(l, r.iv, g->row0), copy_pitch(g));
    LFor k = lir_for(l, lir_i64(l, 0), lir_i64(l, g->plan.depth), lir_i64(l, lanes), 0, NULL);
    LVal v = lir_load(l, g->e->ptr[a->buf], lir_add(l, from, k.iv), (LTy){(uint8_t)a->type, (uint16_t)lanes}, (LVal){0}, 0);
    lir_store(l, g->copy, lir_add(l, to, k.iv), v, (LVal){0}, 0);
    lir_for_end(l, &k, NULL, NULL);
    lir_for_end(l, &r, NULL, NULL);
    g->at[g->x.m[0]] = here;
}

/* A task of several column tiles: the passes. */
static void passes(Gen *g, TileRows tr, LVal group, LVal ntiles, LVal r0, LVal r1) {
    Lir *l = g->l;
    const Shape *x = &g->x;
    int64_t blocks = g->nv / g->per_block, sums = g->plan.chunk * tr.tx * g->nv * g->lanes;
    LVal first = lir_muli(l, group, g->plan.tiles), count = lir_op2(l, S_MIN, lir_i64(l, g->plan.tiles), lir_sub(l, ntiles, first));
    LVal zero = lir_i64(l, 0);
    LVal end = emit_dim(g->e, x->s->axis[x->red[0]].extent), panel = lir_muli(l, coef(g, &x->b, x->nblk), blocks), step = coef(g, &x->b, x->red[0]);
    DType type = x->s->acc[0];
    LFor f = lir_for(l, zero, lir_muli(l, count, sums), lir_i64(l, g->lanes), 0, NULL);
    lir_store(l, lir_scratch(l), f.iv, lir_splat(l, lir_float(l, type, 0), (uint16_t)g->lanes), (LVal){0}, g->e->t->vbytes);
    lir_for_end(l, &f, NULL, NULL);
    g->row0 = first_row(g, tr, r0);
    LFor k = lir_for(l, zero, end, lir_i64(l, g->plan.depth), 0, NULL);
    g->from = k.iv;
    g->last = lir_op2(l, S_GE, lir_addi(l, k.iv, g->plan.depth), end);
    if (g->plan.copies) copy_rows(g, tr, r1);
    LFor t = lir_for(l, zero, count, lir_i64(l, 1), 0, NULL);
    LVal tile_no = lir_add(l, first, t.iv);
    g->at[x->nblk] = lir_muli(l, tile_no, blocks);
    g->at[x->vec] = zero;
    g->sums = lir_muli(l, t.iv, sums);
    /* After the last tile of a pass comes the first one's next stretch; after the last pass, the next task. */
    LVal b0 = origin(g, &x->b), ahead = lir_mul(l, lir_addi(l, g->from, g->plan.depth), step), back = lir_sub(l, ahead, lir_mul(l, panel, t.iv));
    LVal wrap = lir_op3(l, S_SELECT, g->last, panel, back), here = lir_add(l, panel, lir_mul(l, g->from, step));
    g->next = lir_add(l, b0, lir_op3(l, S_SELECT, lir_op2(l, S_GE, lir_addi(l, t.iv, 1), count), wrap, here));
    column_tiles(g, tr, tile_no, r0, r1);
    lir_for_end(l, &t, NULL, NULL);
    lir_for_end(l, &k, NULL, NULL);
}

static void contract_build(Emit *e) {
    Gen gen = {.e = e, .l = e->l}, *g = &gen;
    CHECK(contract_shape(e->k, &g->x));
    const Shape *x = &g->x;
    Ctx *c = e->c;
    Lir *l = e->l;
    g->lanes = target_lanes(e->t, x->s->acc[0]);
    g->nv = (int)e->s->par[PAR_NV];
    g->unroll = (int)e->s->par[PAR_UNROLL];
    g->per_block = x->nblk >= 0 ? vectors_per_block(x, e->t) : 0;
    TileRows tr = contract_rows(x, (int)e->s->par[PAR_MR]);
    /* Neighbouring rows that overlap along the innermost reduced axis: keep their loads apart (see cpu.md 10.3). */
    int64_t ck, cm;
    int last = x->nred ? x->red[x->nred - 1] : x->quad;
    if (x->nm && dim_is_const(c, x->a.f.coef[last], &ck) && dim_is_const(c, x->a.f.coef[x->m[x->nm - 1]], &cm))
        g->volatile_a = ck > 0 && cm > 0 && cm < ck * 2 * STEPS && ck < cm * tr.tx;
    g->in_pairs = contract_pairs(x, e->t, tr.ty * tr.tx, &g->pairs);
    if (g->pairs.data) emit_instead(e, x->b.buf, g->pairs.data);
    Dim ntiles = contract_column_tiles(x, e->t, g->nv), groups = ntiles;
    const Plan *plan = &g->plan;
    g->plan = contract_plan(x, e->t, tr, g->nv);
    int64_t chunk = plan->chunk;
    if (plan->depth) {
        groups = dim_ceildiv(c, ntiles, dim_const(c, plan->tiles));
        int64_t sums = plan->tiles * chunk * tr.tx * g->nv * e->t->vbytes;
        int64_t copy = plan->copies ? chunk * tr.tx * copy_pitch(g) * dt_bits(x->a.type) / 8 : 0;
        g->copy = lir_ptr_bytes(l, lir_scratch(l), lir_i64(l, sums));
        e->code->scratch = dim_const(c, sums + copy);
    }
    int64_t *par = ((Sched *)(uintptr_t)e->s)->par;
    par[PAR_ROWS] = chunk;
    par[PAR_DEPTH] = plan->depth;
    par[PAR_TILES] = plan->tiles;
    par[PAR_ORDER] = plan->rows_first;
    int64_t tiles = 0;
    Dim length = dim_const(c, 1);
    if (x->nm) length = contract_by_tiles(x, tr, &tiles) ? dim_const(c, tiles) : x->s->axis[x->m[x->nm >= 2 ? x->nm - 2 : 0]].extent;
    LVal chunk_no, tile_no, r0 = lir_i64(l, 0), r1 = lir_i64(l, 1);
    Tasks tasks = {0};
    if (plan->rows_first) tasks_along(&tasks, groups, &tile_no);
    tasks_along(&tasks, chunk ? dim_ceildiv(c, length, dim_const(c, chunk)) : dim_const(c, 1), &chunk_no);
    tasks_axes(&tasks, x->s, x->m, x->nm - 2, g->at);
    if (!plan->rows_first) tasks_along(&tasks, groups, &tile_no);
    tasks_axes(&tasks, x->s, x->nout, x->nnout, g->at);
    tasks_axes(&tasks, x->s, x->batch, x->nbatch, g->at);
    tasks_begin(e, &tasks);
    tasks_grain(e, contract_cost(e->k, e->s, e->t));
    LFor t = lir_for_tasks(l, lir_i64(l, 1), 0, NULL);
    for (int a = 0; a < K_AXES; a++) g->at[a] = lir_i64(l, 0);
    tasks_split(e, &tasks, t.iv);
    if (chunk) {
        r0 = lir_muli(l, chunk_no, chunk);
        r1 = lir_addi(l, r0, chunk);
        r1 = lir_op2(l, S_MIN, r1, emit_dim(e, length));
    }
    if (plan->depth) passes(g, tr, tile_no, emit_dim(e, ntiles), r0, r1);
    else column_tiles(g, tr, tile_no, r0, r1);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_contract = {"contract", "mr nv rows unroll pf depth tiles order", F_SIMD, contract_match, contract_candidates, contract_cost,
                            contract_build};
