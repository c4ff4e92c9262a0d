/* ukr_nest.c: template `nest`, row 0 of the table: takes every kernel and is always right. Leading parallel axes that all
 * stages share are the task space (so softmax and the norms run a whole row per task, temporaries in the thread's
 * scratch); inside a task each stage is a loop nest, vectorised along one axis: a parallel one if an access is contiguous
 * there, else the innermost reduced one.
 *
 * Order of reduction along a vectorised reduced axis of extent n with L lanes: element i goes to lane i mod (L*U), with U = 4 if n is known
 * to be at least 4*L, else 1; lanes are combined by halves. It depends on shapes and the CPU level alone.
 *
 * Reductions and scans along a vectorised parallel axis keep accumulators in registers, several vectors of them side by side, while all reduced axes
 * run; where that would touch too many rows per vector (by_rows), they keep those of a strip in scratch and read row after row. */
#include <string.h>

#include "emit_internal.h"

enum { PAR_PREFIX, PAR_CHUNK, N_PARS };
enum { CHUNK = 2048, CHUNK_OF_CHAINS = 512, UNROLL = 4, UNROLLED = 96, JAM = 16, JAM_COST = 24 };
enum { STRIP = 4096, ROWS = 4, MANY_ROWS = 256, DEAR = 9 };

struct Rows;

typedef struct Nest {
    Emit *e;
    const Kernel *k;
    int prefix;                     /* shared leading axes = task space */
    int chunk_axis;                 /* the only parallel axis, cut into chunks that are the tasks; or -1 */
    int jam;                        /* vectors of points that run together, next to each other along the vector axis */
    int axis[64];                   /* the vector axis of each stage, or -1 */
    const struct Rows *rows;        /* row by row: what is done with a vector of a strip; else NULL */
    Dim extent[K_AXES];             /* of the prefix */
    bool done[64];                  /* stages already run as somebody's epilogue */
    uint64_t epilogue[64];
    LVal special[64];               /* scratch of sort, topk and the like; by rows: accumulators of a strip */
} Nest;

static uint64_t stage_reads(const Kernel *k, const Stage *s) {
    uint64_t m = 0;
    for (int r = 0; r < s->nres; r++) m |= expr_bufs(k->c, s->body[r]);
    return m;
}

/* ---- the shared prefix ---- */

static bool same_dim_index(const Kernel *k, Expr a, Expr b, int axis) {
    Expr ax = expr_axis(k->c, (uint32_t)axis);
    bool ua = expr_uses_axis(k->c, a, (uint32_t)axis), ub = expr_uses_axis(k->c, b, (uint32_t)axis);
    return ua == ub && (!ua || (a.i == ax.i && b.i == ax.i));
}

typedef struct LoadCheck { const Kernel *k; int prefix; bool ok; } LoadCheck;

static void check_load(void *data, const ExprInfo *x) {
    LoadCheck *lc = data;
    const Kernel *k = lc->k;
    if (k->buf[x->index].kind == KB_IN) return;
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) {
            const KOut *o = &k->stage[st].out[r];
            if (o->buf != x->index) continue;
            for (int p = 0; p < lc->prefix; p++) {
                bool used = false;
                for (int d = 0; d < o->rank; d++) {
                    if (dim_is(k->c, k->buf[o->buf].dim[d], 1) && dim_is(k->c, k->stage[st].axis[p].extent, 1)) { used = true; continue; }
                    if (!same_dim_index(k, o->at[d], x->arg[d], p)) lc->ok = false;
                    used |= expr_uses_axis(k->c, o->at[d], (uint32_t)p);
                }
                if (!used && !dim_is(k->c, k->stage[st].axis[p].extent, 1)) lc->ok = false;
            }
        }
}

int nest_prefix(const Kernel *k) {
    int p = k->stage[0].naxis;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        int n = 0;
        while (n < p && n < s->naxis && s->axis[n].kind == AX_PAR && dim_same(k->c, s->axis[n].extent, k->stage[0].axis[n].extent)) n++;
        p = n;
        if (s->kind == ST_SCATTER || s->kind == ST_RANDOM) p = 0; /* one after the other */
    }
    for (; p > 0; p--) {
        LoadCheck lc = {k, p, true};
        for (int st = 0; st < k->nstage; st++)
            for (int r = 0; r < k->stage[st].nres; r++) expr_loads(k->c, k->stage[st].body[r], check_load, &lc);
        if (lc.ok) break;
    }
    return p;
}

/* ---- choosing the vector axis of a stage ---- */

/* How many loads deep the address of a load in x is: 1 if it needs none. depth: by expression, 0 if not known yet. */
static int load_depth(Ctx *c, Expr x, uint8_t *depth) {
    if (depth[x.i]) return depth[x.i] - 1;
    const ExprInfo i = *expr_info(c, x);
    int d = 0;
    for (int k = 0; k < i.narg; k++) {
        int arg = load_depth(c, i.arg[k], depth);
        d = arg > d ? arg : d;
    }
    if (i.kind == E_LOAD && d < 100) d++;
    depth[x.i] = (uint8_t)(d + 1);
    return d;
}

/* Chains of loads, as of walks through tables: what a scalar waits for, other lanes hide, so gathers along any axis pay. */
static bool chases(const Kernel *k, const Stage *s) {
    enum { CHAIN = 4 };
    for (int r = 0; r < s->nres; r++)
        if (load_depth(k->c, s->body[r], NEWN(k->c, uint8_t, s->body[r].i + 1)) >= CHAIN) return true;
    return false;
}

typedef struct AxisScore { const Kernel *k; const Stage *s; int axis; int unit, zero, other, indirect, scatter; } AxisScore;

static void score_access(AxisScore *a, uint16_t buf, int rank, const Expr *at) {
    Affine f;
    if (!access_affine(a->k, a->s, buf, rank, at, &f)) {
        for (int d = 0; d < rank; d++) if (expr_uses_axis(a->k->c, at[d], (uint32_t)a->axis)) { a->indirect++; return; }
        a->zero++;
        return;
    }
    if (!f.has[a->axis]) a->zero++;
    else if (dim_is(a->k->c, f.coef[a->axis], 1)) a->unit++;
    else a->other++;
}

static void score_load(void *data, const ExprInfo *x) {
    AxisScore *a = data;
    score_access(a, (uint16_t)x->index, a->k->buf[x->index].rank, x->arg);
}

/* Every access of the stage, as it lies along the axis. scatter: the results among other and indirect. */
static AxisScore score_accesses(const Kernel *k, const Stage *s, int axis) {
    AxisScore a = {.k = k, .s = s, .axis = axis};
    for (int r = 0; r < s->nres; r++) {
        expr_loads(k->c, s->body[r], score_load, &a);
        int loads = a.other + a.indirect;
        if (s->axis[axis].kind == AX_PAR) score_access(&a, s->out[r].buf, s->out[r].rank, s->out[r].at);
        a.scatter += a.other + a.indirect - loads;
    }
    return a;
}

static int axis_score(const Kernel *k, const Stage *s, int axis) {
    AxisScore a = score_accesses(k, s, axis);
    int64_t lo = dim_lo(k->c, s->axis[axis].extent);
    if (a.indirect && lo >= 8 && chases(k, s)) return 16 + 4 * a.unit - 3 * a.other;
    a.other += a.indirect;
    int small = dim_hi(k->c, s->axis[axis].extent) < 4 ? -8 : lo >= 8 ? 2 : 0, score = 1 + 4 * a.unit - 3 * a.other + small;
    /* Gathered lanes cost what scalar loads do, and everything else is done for a vector at a time. */
    return score < 1 && s->axis[axis].kind == AX_PAR && !a.scatter && lo >= 8 ? 1 : score;
}

bool nest_commutes(const Kernel *k, const Stage *s) {
    if (s->nres != 1) return false;
    const ExprInfo *i = expr_info(k->c, s->comb[0]);
    if (i->kind != E_OP || i->narg != 2) return false;
    const ExprInfo *a = expr_info(k->c, i->arg[0]), *b = expr_info(k->c, i->arg[1]);
    if (a->kind != E_ARG || b->kind != E_ARG) return false;
    switch (i->op) {
    case S_ADD: case S_MUL: case S_MIN: case S_MAX: case S_AND: case S_OR: return true;
    default: return false;
    }
}

static int vector_axis(const Kernel *k, const Stage *s, const Target *t, int first) {
    if (!(t->flags & F_SIMD)) return -1;
    for (int b = 0; b < k->nbuf; b++) if (dt_bits(k->buf[b].dtype) > 64) return -1; /* no lanes of strings */
    int best = -1, best_score = 0, last_red = -1;
    for (int a = first; a < s->naxis; a++) {
        if (s->axis[a].kind == AX_RED) last_red = a;
        if (s->axis[a].kind != AX_PAR) continue;
        int sc = axis_score(k, s, a);
        if (sc > 0 && sc >= best_score) { best = a; best_score = sc; }
    }
    if (last_red >= 0 && nest_commutes(k, s)) {
        int sc = axis_score(k, s, last_red);
        if (sc > best_score + 2) best = last_red;
    }
    return best;
}

/* Updates are applied in row-major order, so only those along the innermost axis may go together, if they are to neighbours. */
static int scatter_axis(const Kernel *k, const Stage *s, const Target *t) {
    if (!(t->flags & F_SIMD)) return -1;
    int v = s->naxis - 1, along = 0;
    const KOut *o = &s->out[0];
    for (int d = 0; d < o->rank && v >= 0; d++) {
        if (!expr_uses_axis(k->c, o->at[d], (uint32_t)v)) continue;
        bool same = o->at[d].i == expr_axis(k->c, (uint32_t)v).i && dim_is(k->c, k->buf[o->buf].stride[d], 1);
        if (!same || !dim_same(k->c, s->axis[v].extent, k->buf[o->buf].dim[d])) return -1;
        along++;
    }
    return along == 1 && dt_bits(k->buf[o->buf].dtype) <= 64 ? v : -1;
}

/* ---- loops ---- */

static DType widest(const Kernel *k, const Stage *s) {
    DType w = DT_I32;
    for (int r = 0; r < s->nres; r++) {
        DType t = reg_type(s->acc[r]), b = reg_type(k->buf[s->out[r].buf].dtype);
        if (dt_bits(t) > dt_bits(w)) w = t;
        if (dt_bits(b) > dt_bits(w)) w = b;
    }
    return w;
}

/* The j-th of the jammed vectors of points, p being the first. */
static Point jammed(const Nest *n, const Point *p, int j) {
    Point q = *p;
    if (j) q.axis[p->vaxis] = lir_addi(n->e->l, p->axis[p->vaxis], j * p->lanes);
    return q;
}

static void leaf_combine(Nest *n, const Stage *s, LVal *acc, Point *p, int arg) {
    (void)arg;
    for (int j = 0; j < n->jam; j++) {
        Point q = jammed(n, p, j);
        emit_accumulate(n->e, s, acc + j * s->nres, &q);
    }
}

/* Cost of all that the reduced axes from `a` on do for a point, unrolled. */
static double taps_from(const Nest *n, const Stage *s, int a) {
    double taps = (double)n->jam * expr_cost(n->e->c, s->body[0]);
    for (; a < s->naxis; a++)
        if (s->axis[a].kind == AX_RED) taps *= (double)dim_hi(n->e->c, s->axis[a].extent);
    return taps;
}

/* Loops over the reduced axes from `a` on, except `skip`; acc in, acc out: nres for each of the jammed vectors. */
static void reduce_loops(Nest *n, const Stage *s, int a, int skip, LVal *acc, Point *p, void (*leaf)(Nest *, const Stage *, LVal *, Point *, int), int arg) {
    while (a < s->naxis && (s->axis[a].kind != AX_RED || a == skip)) a++;
    if (a == s->naxis) {
        leaf(n, s, acc, p, arg);
        return;
    }
    Lir *l = n->e->l;
    uint32_t count = s->nres * (uint32_t)n->jam, inside = p->inside;
    LVal lo = lir_i64(l, 0), hi = emit_dim(n->e, s->axis[a].extent);
    int64_t taps;
    bool cut = emit_inside(n->e, s, a, p, &lo, &hi);
    if (!cut && leaf == leaf_combine && taps_from(n, s, a) <= UNROLLED && dim_is_const(n->e->c, s->axis[a].extent, &taps)) {
        for (int64_t i = 0; i < taps; i++) {
            p->axis[a] = lir_i64(l, i);
            reduce_loops(n, s, a + 1, skip, acc, p, leaf, arg);
        }
        return;
    }
    LFor f = lir_for(l, lo, hi, lir_i64(l, 1), count, acc);
    p->axis[a] = f.iv;
    LVal next[K_RES * JAM];
    memcpy(next, f.c, count * sizeof *next);
    reduce_loops(n, s, a + 1, skip, next, p, leaf, arg);
    lir_for_end(l, &f, next, acc);
    p->inside = inside;
}

/* The innermost reduced axis across lanes: main loops of U*L and L points, then a masked tail. */
static void leaf_lanes(Nest *n, const Stage *s, LVal *acc, Point *p, int axis) {
    Lir *l = n->e->l;
    uint16_t lanes = lir_type(l, acc[0]).lanes;
    LVal extent = emit_dim(n->e, s->axis[axis].extent), pos = lir_i64(l, 0);
    int unroll = dim_lo(n->e->c, s->axis[axis].extent) >= UNROLL * lanes ? UNROLL : 1;
    p->vaxis = (int8_t)axis;
    p->lanes = lanes;
    if (unroll > 1) {
        LVal many[UNROLL], main = lir_op2(l, S_MUL, lir_op2(l, S_DIV, extent, lir_i64(l, unroll * lanes)), lir_i64(l, unroll * lanes));
        many[0] = acc[0];
        for (int u = 1; u < unroll; u++) many[u] = emit_initial(n->e, s, 0, lanes);
        LFor f = lir_for(l, pos, main, lir_i64(l, unroll * lanes), (uint32_t)unroll, many);
        LVal next[UNROLL];
        for (int u = 0; u < unroll; u++) {
            next[u] = f.c[u];
            p->axis[axis] = lir_addi(l, f.iv, u * lanes);
            emit_accumulate(n->e, s, &next[u], p);
        }
        lir_for_end(l, &f, next, many);
        for (int u = 1; u < unroll; u++) acc[0] = u == 1 ? emit_combine(n->e, s, 0, &many[0], &many[1]) : emit_combine(n->e, s, 0, acc, &many[u]);
        pos = main;
    }
    LVal whole = lir_op2(l, S_MUL, lir_op2(l, S_DIV, extent, lir_i64(l, lanes)), lir_i64(l, lanes));
    LFor f = lir_for(l, pos, whole, lir_i64(l, lanes), 1, acc);
    LVal next = f.c[0];
    p->axis[axis] = f.iv;
    emit_accumulate(n->e, s, &next, p);
    lir_for_end(l, &f, &next, acc);
    if (!dim_divisible(n->e->c, s->axis[axis].extent, lanes)) {
        LVal left = lir_sub(l, extent, whole);
        LIf i = lir_if(l, lir_op2(l, S_GT, left, lir_i64(l, 0)), 1);
        p->mask = lir_mask(l, left, lanes);
        p->axis[axis] = whole;
        LVal sum = acc[0];
        emit_accumulate(n->e, s, &sum, p);
        sum = lir_op3(l, S_SELECT, p->mask, sum, acc[0]);
        lir_else(l, &i, &sum);
        lir_endif(l, &i, acc, acc);
    }
    p->mask = (LVal){0};
    p->vaxis = -1;
    p->lanes = 1;
}

static void scan_stage(Nest *n, int st, Point *p) {
    Emit *e = n->e;
    Lir *l = e->l;
    const Stage *s = &n->k->stage[st];
    const ScanAttr *a = s->node->attr;
    uint32_t count = s->nres * (uint32_t)n->jam;
    LVal acc[K_RES * JAM], out[K_RES * JAM], extent = emit_dim(e, s->axis[a->axis].extent);
    for (uint32_t r = 0; r < count; r++) acc[r] = emit_initial(n->e, s, (int)(r % s->nres), p->lanes);
    LFor f = lir_for(l, lir_i64(l, 0), extent, lir_i64(l, 1), count, acc);
    p->axis[a->axis] = a->reverse ? lir_sub(l, lir_addi(l, extent, -1), f.iv) : f.iv;
    memcpy(out, f.c, sizeof(LVal) * count);
    for (int j = 0; j < n->jam; j++) {
        LVal *x = out + j * s->nres;
        Point q = jammed(n, p, j);
        emit_accumulate(e, s, x, &q);
        for (int r = 0; r < s->nres; r++) emit_store(e, s, r, a->exclusive ? f.c[j * s->nres + r] : x[r], &q);
    }
    lir_for_end(l, &f, out, acc);
}

/* One point (or vector of points, or n->jam of them) of the parallel axes. */
static void point(Nest *n, int st, Point *p, int red_lanes_axis, uint16_t red_lanes) {
    Emit *e = n->e;
    const Stage *s = &n->k->stage[st];
    LVal acc[K_RES * JAM];
    bool reduces = s->comb[0].i != 0;
    if (s->kind == ST_SCAN) {
        scan_stage(n, st, p);
        return;
    }
    if (!reduces) {
        emit_memo_reset(e);
        for (int r = 0; r < s->nres; r++) {
            LVal v = p->lanes > 1 ? emit_vec(e, s, s->body[r], p) : emit_expr(e, s, s->body[r], p);
            acc[r] = emit_to_acc(e, v, expr_info(e->c, s->body[r])->dtype, s->acc[r]);
        }
        emit_epilogue(e, st, acc, p);
        return;
    }
    uint16_t lanes = red_lanes_axis >= 0 ? red_lanes : p->lanes;
    for (int r = 0; r < s->nres * n->jam; r++) acc[r] = emit_initial(n->e, s, r % s->nres, lanes);
    Point q = *p;
    if (red_lanes_axis >= 0) {
        reduce_loops(n, s, 0, red_lanes_axis, acc, &q, leaf_lanes, red_lanes_axis);
        if (lanes > 1) acc[0] = emit_hreduce(e, s, acc[0]);
    } else {
        reduce_loops(n, s, 0, -1, acc, &q, leaf_combine, 0);
    }
    for (int j = 0; j < n->jam; j++) {
        Point vector = jammed(n, p, j), par;
        emit_parallel_point(s, &vector, &par);
        emit_memo_reset(e);
        emit_epilogue(e, st, acc + j * s->nres, &par);
    }
}

/* Chains side by side hide each other's latency, and read more of a row of memory at once. */
static int jam_of(const Nest *n, const Stage *s) {
    int cost = 0;
    if (!s->comb[0].i) return 1;
    for (int r = 0; r < s->nres; r++) cost += expr_cost(n->e->c, s->body[r]);
    return cost > JAM_COST ? 2 : s->nres > 1 ? JAM / 8 : JAM;
}

/* Are masked accesses of all buffers one instruction, also without masks in registers of their own? */
static bool masked_types(const Kernel *k) {
    for (int b = 0; b < k->nbuf; b++)
        if (k->buf[b].dtype == DT_BOOL || (dt_bits(k->buf[b].dtype) != 32 && dt_bits(k->buf[b].dtype) != 64)) return false;
    return true;
}

/* Rows of a strip of columns: what is done with a vector of them. */
typedef struct Rows { void (*fn)(Nest *n, int st, Point *p); LVal first, row; int axis, count; } Rows; /* column; `count` rows from `row` on along axis */

static void vector(Nest *n, int st, Point *p) {
    if (n->rows) n->rows->fn(n, st, p);
    else point(n, st, p, -1, 1);
}

/* The points of axis v from `from` on, fewer than a vector: `left` of them, or an unknown number (0) up to `hi`. */
static void vector_rest(Nest *n, int st, Point *p, int v, uint16_t lanes, LVal from, LVal hi, int64_t left) {
    Lir *l = n->e->l;
    p->axis[v] = from;
    bool several = n->k->stage[st].comb[0].i && left & (left - 1);
    if (n->e->t->flags & F_AVX512 || (several && n->e->t->flags & F_AVX2 && masked_types(n->k))) {
        LIf some;
        while (left && lanes / 2 >= left && lanes > 2) lanes /= 2;
        p->lanes = lanes;
        if (!left) some = lir_if(l, lir_op2(l, S_LT, from, hi), 0);
        if (left != lanes) p->mask = lir_mask(l, lir_sub(l, hi, from), lanes);
        vector(n, st, p);
        p->mask = (LVal){0};
        if (!left) {
            lir_else(l, &some, NULL);
            lir_endif(l, &some, NULL, NULL);
        }
        return;
    }
    for (lanes /= 2; left && lanes > 1; lanes /= 2) { /* narrower vectors */
        if (!(left & lanes)) continue;
        p->lanes = lanes;
        vector(n, st, p);
        from = p->axis[v] = lir_addi(l, from, lanes);
        left -= lanes;
        if (!left) return;
    }
    p->vaxis = -1;
    p->lanes = 1;
    LFor f = lir_for(l, from, hi, lir_i64(l, 1), 0, NULL);
    p->axis[v] = f.iv;
    vector(n, st, p);
    lir_for_end(l, &f, NULL, NULL);
}

/* A processor looks at some hundred instructions at a time: less than two vectors of a function's polynomials, which wait for each other. Two
 * vectors in turns, instruction by instruction, keep its units busy. */
static bool pairs_of_vectors(const Nest *n, int st) {
    int cost = 0;
    if (n->k->stage[st].kind != ST_NEST || n->k->stage[st].comb[0].i) return false;
    for (int u = st; u < n->k->nstage; u++)
        if (u == st || n->epilogue[st] >> u & 1)
            for (int r = 0; r < n->k->stage[u].nres; r++) cost += expr_cost(n->e->c, n->k->stage[u].body[r]);
    return cost >= DEAR;
}

/* Of a map and of the maps that ride along, whose axes are the same. */
static void keep_invariants(Nest *n, int st, const Point *p, int v) {
    const Stage *s = &n->k->stage[st];
    uint64_t written = 0;
    if (s->kind != ST_NEST || s->comb[0].i || (dim_lo(n->e->c, s->axis[v].extent) < 1 && n->chunk_axis != v)) return;
    emit_memo_reset(n->e);
    for (int pass = 0; pass < 2; pass++)
        for (int u = st; u < n->k->nstage; u++) {
            const Stage *x = &n->k->stage[u];
            if (u > st && !(n->epilogue[st] >> u & 1)) continue;
            if (pass) emit_keep(n->e, x, p, v, written);
            for (int r = 0; r < x->nres; r++) written |= 1ull << x->out[r].buf;
        }
}

static void vector_loop(Nest *n, int st, Point *p, int v, uint16_t lanes, LVal lo, LVal hi) {
    Lir *l = n->e->l;
    Dim extent = n->k->stage[st].axis[v].extent;
    LVal len = lir_sub(l, hi, lo);
    LVal whole = lir_add(l, lo, lir_op2(l, S_MUL, lir_op2(l, S_DIV, len, lir_i64(l, lanes)), lir_i64(l, lanes)));
    int64_t most = dim_hi(n->e->c, extent) / lanes, points;
    bool known = dim_is_const(n->e->c, extent, &points) && n->chunk_axis != v && !(n->rows && points > STRIP);
    p->vaxis = (int8_t)v;
    p->lanes = lanes;
    n->jam = n->rows ? 1 : jam_of(n, &n->k->stage[st]);
    keep_invariants(n, st, p, v);
    if (n->jam > most) n->jam = known ? (int)most : 1;
    if (n->jam > 1) {
        LVal step = lir_i64(l, n->jam * lanes), end = lir_add(l, lo, lir_op2(l, S_MUL, lir_op2(l, S_DIV, len, step), step));
        LFor many = lir_for(l, lo, end, step, 0, NULL);
        p->axis[v] = many.iv;
        vector(n, st, p);
        lir_for_end(l, &many, NULL, NULL);
        lo = end;
    }
    if (!known || (n->jam > 1 ? points / lanes % n->jam : points / lanes) > 0) {
        n->jam = 1;
        LFor f = lir_for(l, lo, whole, lir_i64(l, lanes), 0, NULL);
        p->axis[v] = f.iv;
        vector(n, st, p);
        lir_for_end(l, &f, NULL, NULL);
    }
    n->jam = 1;
    if (n->chunk_axis == v || !dim_divisible(n->e->c, extent, lanes)) vector_rest(n, st, p, v, lanes, whole, hi, known ? points % lanes : 0);
    emit_forget(n->e);
    p->vaxis = -1;
    p->lanes = 1;
}

/* ---- row by row ---- */

typedef struct Reads { const Kernel *k; const Stage *s; int v; bool rows; } Reads;

static void note_rows(void *data, const ExprInfo *x) {
    Reads *r = data;
    Affine f;
    if (!access_affine(r->k, r->s, (uint16_t)x->index, r->k->buf[x->index].rank, x->arg, &f) || !dim_is(r->k->c, f.coef[r->v], 1)) return;
    for (int a = 0; a < r->s->naxis; a++) r->rows |= r->s->axis[a].kind != AX_PAR && f.has[a];
}

/* A reduction or scan across many rows reads them whole, a strip of accumulators in memory: as many columns as there are registers for would be a
 * walk through all pages of the operand, again and again. Where there are few registers for a column's chain, also across fewer rows. */
static bool by_rows(const Kernel *k, const Target *t, int st, int v) {
    const Stage *s = &k->stage[st];
    if (v < 0 || !s->comb[0].i || s->axis[v].kind != AX_PAR || (s->kind != ST_NEST && s->kind != ST_SCAN)) return false;
    Reads r = {.k = k, .s = s, .v = v};
    double rows = 1, columns = dim_typical(k->c, s->axis[v].extent);
    for (int a = 0; a < s->naxis; a++) rows *= s->axis[a].kind == AX_PAR ? 1 : dim_typical(k->c, s->axis[a].extent);
    for (int i = 0; i < s->nres; i++) expr_loads(k->c, s->body[i], note_rows, &r);
    bool far = rows >= MANY_ROWS && rows * columns * 4 > t->l2, wide = columns * 4 > JAM * t->vbytes;
    return r.rows && wide && (far || (s->nres > 1 && rows > ROWS));
}

static Dim strip_bytes(Ctx *c, const Stage *s) { return dim_const(c, STRIP * 8 * s->nres); }

static void strip_access(Nest *n, int st, const Point *p, LVal *acc, bool store) {
    const Stage *s = &n->k->stage[st];
    Lir *l = n->e->l;
    LVal at = lir_sub(l, p->axis[n->axis[st]], n->rows->first);
    for (int i = 0; i < s->nres; i++) {
        LVal ptr = lir_ptr_bytes(l, n->special[st], lir_i64(l, STRIP * 8 * i));
        LTy ty = {(uint8_t)reg_type(s->acc[i]), p->lanes};
        if (store) lir_store(l, ptr, at, acc[i], (LVal){0}, 0);
        else acc[i] = lir_load(l, ptr, at, ty, (LVal){0}, 0);
    }
}

static void strip_begin(Nest *n, int st, Point *p) {
    const Stage *s = &n->k->stage[st];
    LVal acc[K_RES];
    for (int i = 0; i < s->nres; i++) acc[i] = emit_initial(n->e, s, i, p->lanes);
    strip_access(n, st, p, acc, true);
}

static void strip_rows(Nest *n, int st, Point *p) {
    const Stage *s = &n->k->stage[st];
    const Rows *r = n->rows;
    LVal acc[K_RES], before[K_RES];
    strip_access(n, st, p, acc, false);
    for (int i = 0; i < r->count; i++) {
        memcpy(before, acc, sizeof acc);
        p->axis[r->axis] = lir_addi(n->e->l, r->row, i);
        emit_accumulate(n->e, s, acc, p);
        if (s->kind == ST_SCAN)
            for (int k = 0; k < s->nres; k++) emit_store(n->e, s, k, ((const ScanAttr *)s->node->attr)->exclusive ? before[k] : acc[k], p);
    }
    strip_access(n, st, p, acc, true);
}

static void strip_end(Nest *n, int st, Point *p) {
    LVal acc[K_RES];
    Point par;
    strip_access(n, st, p, acc, false);
    emit_parallel_point(&n->k->stage[st], p, &par);
    emit_memo_reset(n->e);
    emit_epilogue(n->e, st, acc, &par);
}

/* Loops over the reduced or scanned axes from `a` on, the innermost several rows at a time. */
static void row_loops(Nest *n, int st, int a, Point *p, uint16_t lanes, LVal end, Rows *r) {
    const Stage *s = &n->k->stage[st];
    Lir *l = n->e->l;
    bool scan = s->kind == ST_SCAN;
    int next = a + 1;
    while (next < s->naxis && s->axis[next].kind == AX_PAR) next++;
    LVal extent = emit_dim(n->e, s->axis[a].extent), from = lir_i64(l, 0);
    if (next < s->naxis) {
        LFor f = lir_for(l, from, extent, lir_i64(l, 1), 0, NULL);
        p->axis[a] = f.iv;
        row_loops(n, st, next, p, lanes, end, r);
        lir_for_end(l, &f, NULL, NULL);
        return;
    }
    r->axis = a;
    for (r->count = scan ? 1 : ROWS; r->count; r->count /= ROWS) {
        LVal step = lir_i64(l, r->count), to = lir_op2(l, S_MUL, lir_op2(l, S_DIV, extent, step), step);
        LFor f = lir_for(l, from, to, step, 0, NULL);
        r->row = scan && ((const ScanAttr *)s->node->attr)->reverse ? lir_sub(l, lir_addi(l, extent, -1), f.iv) : f.iv;
        vector_loop(n, st, p, n->axis[st], lanes, r->first, end);
        lir_for_end(l, &f, NULL, NULL);
        from = to;
    }
}

static void strip_loop(Nest *n, int st, Point *p, int v, uint16_t lanes, LVal lo, LVal hi) {
    Lir *l = n->e->l;
    const Stage *s = &n->k->stage[st];
    int first = 0;
    while (s->axis[first].kind == AX_PAR) first++;
    LFor f = lir_for(l, lo, hi, lir_i64(l, STRIP), 0, NULL);
    LVal end = lir_op2(l, S_MIN, lir_addi(l, f.iv, STRIP), hi);
    Rows r = {.fn = strip_begin, .first = f.iv};
    n->rows = &r;
    vector_loop(n, st, p, v, lanes, f.iv, end);
    r.fn = strip_rows;
    row_loops(n, st, first, p, lanes, end, &r);
    r.fn = strip_end;
    if (s->kind != ST_SCAN) vector_loop(n, st, p, v, lanes, f.iv, end);
    n->rows = NULL;
    lir_for_end(l, &f, NULL, NULL);
}

/* Parallel axes from `a` on; the vector axis innermost. */
static void stage_loops(Nest *n, int st, int a, Point *p, int v, uint16_t lanes) {
    const Stage *s = &n->k->stage[st];
    Lir *l = n->e->l;
    bool vpar = v >= 0 && s->axis[v].kind == AX_PAR;
    while (a < s->naxis && (s->axis[a].kind != AX_PAR || a == v)) a++;
    if (a < s->naxis && s->kind != ST_RANDOM) {
        LFor f = lir_for(l, lir_i64(l, 0), emit_dim(n->e, s->axis[a].extent), lir_i64(l, 1), 0, NULL);
        p->axis[a] = f.iv;
        stage_loops(n, st, a + 1, p, v, lanes);
        lir_for_end(l, &f, NULL, NULL);
        return;
    }
    if (s->kind != ST_NEST && s->kind != ST_SCATTER && s->kind != ST_SCAN) special_stage(n->e, st, p, n->special[st]);
    else if (vpar) {
        bool chunk = n->chunk_axis == v;
        LVal lo = chunk ? p->axis[v] : lir_i64(l, 0), hi = chunk ? p->axis[K_AXES - 1] : emit_dim(n->e, s->axis[v].extent);
        (by_rows(n->k, n->e->t, st, v) ? strip_loop : vector_loop)(n, st, p, v, lanes, lo, hi);
    } else point(n, st, p, v, lanes);
}

/* ---- the template ---- */

static bool nest_match(const Kernel *k, const Target *t) {
    (void)k; (void)t;
    return true;
}

static int nest_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    (void)max;
    out[0].par[PAR_PREFIX] = nest_prefix(k);
    const Stage *s = &k->stage[0];
    int prefix = (int)out[0].par[PAR_PREFIX], npar = 0;
    for (int a = 0; a < s->naxis; a++) npar += s->axis[a].kind == AX_PAR;
    out[0].par[PAR_CHUNK] = 0;
    uint64_t mask = k->nstage > 1 ? epilogue_mask(k, 0) | 1 : 1;
    bool one = mask == (k->nstage == 64 ? ~0ull : (1ull << k->nstage) - 1);
    if (one && (s->kind == ST_NEST || s->kind == ST_SCAN)) { /* a single nest: free to leave axes inside the task */
        int v = vector_axis(k, s, t, 0);
        bool par = v >= 0 && s->axis[v].kind == AX_PAR;
        if (npar == 1 && par) out[0].par[PAR_CHUNK] = s->comb[0].i ? CHUNK_OF_CHAINS : CHUNK;
        if (prefix > 0 && v >= 0 && v < prefix) prefix = v;
        if (out[0].par[PAR_CHUNK]) prefix = 0;
        out[0].par[PAR_PREFIX] = prefix;
    }
    return 1;
}

double nest_stage_cost(const Kernel *k, const Stage *g, const Target *t) {
    double points = 1;
    for (int a = 0; a < g->naxis; a++) points *= dim_typical(k->c, g->axis[a].extent);
    int cost = 2;
    for (int r = 0; r < g->nres; r++) cost += expr_cost(k->c, g->body[r]);
    int v = vector_axis(k, g, t, 0);
    int strided = v >= 0 ? score_accesses(k, g, v).other : 0; /* gathers and scatters */
    return points * (cost / (v >= 0 ? (double)target_lanes(t, DT_F32) : 1) + strided);
}

static double nest_cost(const Kernel *k, const Sched *s, const Target *t) {
    (void)s;
    double total = 0;
    for (int st = 0; st < k->nstage; st++) total += nest_stage_cost(k, &k->stage[st], t);
    return total;
}

Dim nest_temps(Emit *e, int prefix, const uint64_t *epilogue) {
    const Kernel *k = e->k;
    Kernel *local = NEW(e->c, Kernel);
    *local = *k;
    Dim at = dim_const(e->c, 0);
    uint64_t homeless = 0;
    for (int st = 0; st < k->nstage; st++) {
        uint64_t reads = 0;
        for (int u = st + 1; u < k->nstage; u++)
            if (!(epilogue[st] >> u & 1)) reads |= stage_reads(k, &k->stage[u]);
        uint64_t written = 0;
        for (int u = st; u < k->nstage; u++)
            if (u == st || epilogue[st] >> u & 1)
                for (int r = 0; r < k->stage[u].nres; r++) written |= 1ull << k->stage[u].out[r].buf;
        homeless |= reads & written;
    }
    for (uint16_t b = 0; b < k->nbuf; b++) {
        KBuf *x = &local->buf[b];
        if (x->kind != KB_TEMP || !(homeless >> b & 1)) continue;
        Dim dense = dim_const(e->c, 1);
        const KOut *o = NULL;
        for (int st = 0; st < k->nstage; st++)
            for (int r = 0; r < k->stage[st].nres; r++) if (k->stage[st].out[r].buf == b) o = &k->stage[st].out[r];
        for (int d = x->rank - 1; d >= 0; d--) {
            bool shared = dim_is(e->c, x->dim[d], 1);
            for (int p = 0; p < prefix; p++) shared |= expr_uses_axis(e->c, o->at[d], (uint32_t)p);
            x->stride[d] = shared ? dim_const(e->c, 0) : dense;
            if (!shared) dense = dim_mul(e->c, dense, x->dim[d]);
        }
        e->ptr[b] = lir_ptr_bytes(e->l, lir_scratch(e->l), emit_dim(e, at));
        DType mt = dt_is_packed(x->dtype) ? DT_U8 : x->dtype;
        Dim bytes = dim_addi(e->c, dim_muli(e->c, dense, (int64_t)dt_bits(mt) / 8), EMIT_TEMP_SLACK);
        at = dim_add(e->c, at, dim_muli(e->c, dim_ceildiv(e->c, bytes, dim_const(e->c, 64)), 64));
    }
    e->k = local;
    return at;
}

/* What stages need besides temporaries, from byte `at` of the scratch on. */
static void place_special(Nest *n, Dim at) {
    Emit *e = n->e;
    for (int st = 0; st < n->k->nstage; st++) {
        const Stage *s = &n->k->stage[st];
        bool strip = by_rows(n->k, e->t, st, n->axis[st]);
        if (!strip && (s->kind == ST_NEST || s->kind == ST_SCAN || s->kind == ST_SCATTER)) continue;
        n->special[st] = lir_ptr_bytes(e->l, lir_scratch(e->l), emit_dim(e, at));
        at = dim_add(e->c, at, strip ? strip_bytes(e->c, s) : special_scratch(e->c, s));
    }
    e->code->scratch = at;
}

void nest_run(Emit *e, int prefix, int64_t chunk) {
    Nest n = {.e = e, .k = e->k, .prefix = prefix, .chunk_axis = -1, .jam = 1};
    Lir *l = e->l;
    CHECK(e->k->nstage <= 64);
    for (int st = 0; st < e->k->nstage; st++) n.epilogue[st] = e->k->stage[st].kind == ST_NEST ? epilogue_mask(e->k, st) : 0;
    Dim scratch = nest_temps(e, n.prefix, n.epilogue);
    n.k = e->k;
    const Stage *first = &n.k->stage[0];
    if (chunk) n.chunk_axis = vector_axis(n.k, first, e->t, 0);
    for (int st = 0; st < n.k->nstage; st++) {
        const Stage *s = &n.k->stage[st];
        bool nest = s->kind == ST_NEST || s->kind == ST_SCAN;
        n.axis[st] = s->kind == ST_SCATTER ? scatter_axis(n.k, s, e->t) : !nest ? -1 : chunk ? n.chunk_axis : vector_axis(n.k, s, e->t, n.prefix);
    }
    place_special(&n, scratch);
    Dim tasks = dim_const(e->c, 1);
    double work = nest_cost(n.k, e->s, e->t);
    if (chunk) tasks = dim_ceildiv(e->c, first->axis[n.chunk_axis].extent, dim_const(e->c, chunk));
    for (int a = 0; a < n.prefix; a++) tasks = dim_mul(e->c, tasks, first->axis[a].extent);
    e->code->tasks = tasks;
    double per_task = work / (double)(dim_typical(e->c, tasks) > 0 ? dim_typical(e->c, tasks) : 1);
    e->code->grain = per_task >= 4000 ? 1 : (int64_t)(4000 / (per_task + 1)) + 1;
    bool together = chunk && by_rows(n.k, e->t, 0, n.chunk_axis); /* all chunks of a thread at once: longer rows */
    LVal step = together ? lir_sub(l, lir_t1(l), lir_t0(l)) : lir_tstep(l);
    LFor t = lir_for(l, lir_t0(l), lir_t1(l), step, 0, NULL);
    Point p = {.vaxis = -1, .lanes = 1};
    LVal rest = t.iv;
    for (int a = n.prefix - 1; a >= 0; a--) {
        if (a == 0) { p.axis[0] = rest; break; }
        LVal x = emit_dim(e, first->axis[a].extent);
        p.axis[a] = lir_op2(l, S_REM, rest, x);
        rest = lir_op2(l, S_DIV, rest, x);
    }
    if (chunk) {
        p.axis[n.chunk_axis] = lir_muli(l, t.iv, chunk);
        LVal end = together ? lir_muli(l, lir_t1(l), chunk) : lir_addi(l, p.axis[n.chunk_axis], chunk), n0 = emit_dim(e, first->axis[n.chunk_axis].extent);
        p.axis[K_AXES - 1] = lir_op2(l, S_MIN, end, n0);
    }
    for (int st = 0; st < n.k->nstage; st++) {
        if (n.done[st]) continue;
        for (int u = st + 1; u < n.k->nstage; u++) if (n.epilogue[st] >> u & 1) n.done[u] = true;
        const Stage *s = &n.k->stage[st];
        int v = n.axis[st];
        uint16_t lanes = v >= 0 ? target_lanes(e->t, widest(n.k, s)) : 1;
        if (v >= 0) {
            int64_t hi = dim_hi(e->c, s->axis[v].extent);
            while (lanes > 2 && lanes / 2 >= hi) lanes /= 2;
            if (pairs_of_vectors(&n, st) && hi >= 4 * lanes) lanes *= 2;
        }
        Point q = p;
        if (!chunk) for (int a = n.prefix; a < K_AXES; a++) q.axis[a] = (LVal){0};
        stage_loops(&n, st, n.prefix, &q, v, lanes);
    }
    lir_for_end(l, &t, NULL, NULL);
}

static void nest_build(Emit *e) { nest_run(e, (int)e->s->par[PAR_PREFIX], e->s->par[PAR_CHUNK]); }

const Tmpl tmpl_nest = {"nest", "prefix chunk", 0, nest_match, nest_candidates, nest_cost, nest_build};
