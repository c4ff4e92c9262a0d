/* nest_loop.c: the points of a stage of template `nest`: loops over its reduced axes and along its vector axis, and what is done beside them so that
 * chains of instructions and memory hide behind each other. */
#include <string.h>

#include "nest.h"

enum { UNROLL = 4, UNROLLED = 96, JAM_COST = 24, PAIRED = 5, DEAR = 9 };

/* ---- long chains ---- */

/* What does not use axis *data is computed before the loop along it. */
static Expr drop_invariant(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    return expr_uses_axis(c, e, *(const uint32_t *)data) ? expr_rebuild(c, i, arg) : expr_arg(c, 0, (DType)i->dtype);
}

/* What a map, and the maps that ride along, do for a vector. */
static int chain_cost(const Nest *n, int st) {
    int cost = 0;
    uint32_t v = (uint32_t)n->axis[st];
    if (n->axis[st] < 0 || n->k->stage[st].kind != ST_NEST || n->k->stage[st].comb[0].i) return 0;
    for (int u = st; u < n->k->nstage; u++) {
        const Stage *s = &n->k->stage[u];
        for (int r = 0; (u == st || n->epilogue[st] >> u & 1) && r < s->nres; r++)
            cost += expr_cost(n->e->c, expr_rewrite(n->e->c, s->body[r], drop_invariant, &v));
    }
    return cost;
}

/* A processor looks at some hundred instructions at a time: less than two vectors of a function's polynomials, which wait for each other. Two
 * vectors in turns, instruction by instruction, keep its units busy; of shorter chains, they share the instructions of the loop. */
bool nest_pairs(const Nest *n, int st) { return chain_cost(n, st) >= PAIRED; }

static void note_before(void *data, const ExprInfo *x) { *(uint64_t *)data |= 1ull << x->index; }

/* While a map is busy with long chains, a processor does not look far enough ahead to keep memory busy, too: the map asks for what comes soon. Where
 * it reads a row that an earlier stage has read, that is the next task's row. */
Ahead nest_ahead(const Nest *n, int st) {
    enum { SOON = 512 };
    const Kernel *k = n->k;
    const Stage *s = &k->stage[st];
    const int v = n->axis[st];
    uint64_t before = 0, now = 0;
    const Ahead nothing = {0};
    if (chain_cost(n, st) < DEAR) return nothing;
    for (int u = 0; u <= st; u++)
        for (int r = 0; r < k->stage[u].nres; r++) expr_loads(k->c, k->stage[u].body[r], note_before, u < st ? &before : &now);
    for (int b = 0; b < k->nbuf; b++) if (k->buf[b].kind != KB_IN) before &= ~(1ull << b);
    if (before & now) {
        int64_t row;
        bool known = dim_is_const(k->c, s->axis[v].extent, &row);
        if (n->prefix != v || v == 0 || dim_typical(k->c, s->axis[v].extent) * 16 > n->e->t->l2) return nothing;
        int64_t rows = known && row > 0 && row < SOON ? SOON / row : 1;
        return (Ahead){v - 1, rows > n->together ? rows : n->together};
    }
    return (Ahead){v, SOON};
}

/* Asks for the lanes of an access at p, if they lie side by side along it and are apart along `axis`. */
static void ask_for(Nest *n, const Stage *s, const Point *p, int axis, uint16_t buf, const Expr *index) {
    Emit *e = n->e;
    const KBuf *b = &e->k->buf[buf];
    int64_t step;
    LVal vec;
    Affine f;
    if (dt_bits(b->dtype) < 8 || !access_affine(e->k, s, buf, b->rank, index, &f) || !f.has[axis] || !dim_is(e->c, f.coef[p->vaxis], 1)) return;
    LVal at = emit_address(e, s, buf, b->rank, index, p, &step, &vec);
    const int line = (int)(64 / (dt_bits(b->dtype) / 8));
    for (int i = 0; i < p->lanes; i += line) lir_prefetch(e->l, e->ptr[buf], lir_addi(e->l, at, i), b->dtype, 2);
}

typedef struct AskAhead { Nest *n; const Stage *s; int axis; Point at; } AskAhead;

static void ask_for_load(void *data, const ExprInfo *x) {
    const AskAhead *a = data;
    if (a->n->k->buf[x->index].kind == KB_IN && x->oob == OOB_NEVER) ask_for(a->n, a->s, &a->at, a->axis, (uint16_t)x->index, x->arg);
}

/* By the time that the stages after map st store a row, its lines are near. */
static void ask_for_results(Nest *n, int st, const Point *p) {
    const Stage *map = &n->k->stage[st];
    for (int u = st + 1; u < n->k->nstage; u++) {
        const Stage *s = &n->k->stage[u];
        if (s->kind != ST_NEST || s->comb[0].i || s->naxis != map->naxis || n->axis[u] != p->vaxis || n->epilogue[st] >> u & 1) continue;
        for (int r = 0; r < s->nres; r++) {
            const KOut *o = &s->out[r];
            if (n->k->buf[o->buf].kind != KB_OUT || o->oob != OOB_NEVER || n->e->streamed >> o->buf & 1) continue;
            ask_for(n, s, p, p->vaxis, o->buf, o->at);
        }
    }
}

static void ask_ahead(Nest *n, int st, const Point *p) {
    const Ahead *ahead = &n->ahead[st];
    AskAhead a = {n, &n->k->stage[st], ahead->axis, *p};
    if (!ahead->by || p->mask.i || p->vaxis < 0) return;
    a.at.axis[ahead->axis] = lir_addi(n->e->l, p->axis[ahead->axis], ahead->by);
    int kept = emit_kept(n->e, 0); /* they are of this point */
    emit_memo_reset(n->e);
    for (int r = 0; r < a.s->nres; r++) expr_loads(n->e->c, a.s->body[r], ask_for_load, &a);
    emit_memo_reset(n->e);
    ask_for_results(n, st, p);
    emit_memo_reset(n->e);
    emit_kept(n->e, kept);
}

/* ---- loops ---- */

typedef struct Widest { Ctx *c; DType t; int nodes; } Widest;

/* The widest register type in e, but for indices; DT_I32 where it is that wide or wider. */
static void note_width(Widest *w, Expr e) {
    enum { MOST_NODES = 128 };
    const ExprInfo i = *expr_info(w->c, e);
    const unsigned bits = dt_bits(reg_type(i.dtype));
    if (++w->nodes > MOST_NODES || bits >= 32) w->t = DT_I32;
    if (w->t == DT_I32) return;
    if (bits > dt_bits(w->t)) w->t = reg_type(i.dtype);
    if (i.kind == E_OP || i.kind == E_CAST || i.kind == E_BITCAST) for (int k = 0; k < i.narg; k++) note_width(w, i.arg[k]);
    if (i.kind == E_LOAD && i.oob == OOB_VALUE) note_width(w, i.arg[i.narg - 1]);
}

DType nest_widest(const Kernel *k, const Stage *s) {
    const bool reduces = s->kind == ST_NEST && s->comb[0].i; /* results are stored once for many elements */
    Widest narrow = {.c = k->c, .t = s->kind == ST_NEST && !reduces ? DT_U8 : DT_I32};
    for (int r = 0; r < s->nres; r++) note_width(&narrow, s->body[r]);
    DType w = narrow.t;
    for (int r = 0; r < s->nres; r++) {
        DType t = reg_type(s->acc[r]), b = reg_type(k->buf[s->out[r].buf].dtype);
        if (dt_bits(t) > dt_bits(w)) w = t;
        if (dt_bits(b) > dt_bits(w) && !reduces) w = b;
    }
    return w;
}

Point nest_jammed(const Nest *n, const Point *p, int j) {
    Point q = *p;
    if (j) q.axis[p->vaxis] = lir_addi(n->e->l, p->axis[p->vaxis], j * p->lanes);
    return q;
}

static void leaf_combine(Nest *n, const Stage *s, LVal *acc, Point *p, int arg) {
    (void)arg;
    for (int j = 0; j < n->jam; j++) {
        Point q = nest_jammed(n, p, j);
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

typedef void (*LeafFn)(Nest *n, const Stage *s, LVal *acc, Point *p, int arg);

/* Loops over the reduced axes from `a` on, except `skip`; acc in, acc out: nres for each of the jammed vectors. */
static void reduce_loops(Nest *n, const Stage *s, int a, int skip, LVal *acc, Point *p, LeafFn leaf, int arg);

/* The loop over points lo to hi of axis a. */
static void reduce_loop(Nest *n, const Stage *s, int a, int skip, LVal lo, LVal hi, LVal *acc, Point *p, LeafFn leaf, int arg) {
    Lir *l = n->e->l;
    uint32_t count = s->nres * (uint32_t)n->jam;
    int64_t terms = emit_terms(n->e, s, a + 1, skip, lir_type(l, acc[0]).lanes);
    Parts parts = emit_parts(n->e, s, dim_hi(n->e->c, s->axis[a].extent), terms, 1, &lo, &hi, count, acc);
    LFor f = lir_for(l, lo, hi, lir_i64(l, 1), count, acc);
    p->axis[a] = f.iv;
    LVal next[K_RES * JAM];
    memcpy(next, f.c, count * sizeof *next);
    if (parts.size.each) emit_initial_all(n->e, s, count, next);
    reduce_loops(n, s, a + 1, skip, next, p, leaf, arg);
    if (parts.size.each) emit_add_part(n->e, s, count, f.c, next);
    lir_for_end(l, &f, next, acc);
    emit_parts_end(n->e, s, &parts, count, acc);
}

static void reduce_unrolled(Nest *n, const Stage *s, int a, int skip, int64_t taps, LVal *acc, Point *p, LeafFn leaf, int arg) {
    for (int64_t i = 0; i < taps; i++) {
        p->axis[a] = lir_i64(n->e->l, i);
        reduce_loops(n, s, a + 1, skip, acc, p, leaf, arg);
    }
}

static void reduce_loops(Nest *n, const Stage *s, int a, int skip, LVal *acc, Point *p, LeafFn leaf, int arg) {
    while (a < s->naxis && (s->axis[a].kind != AX_RED || a == skip)) a++;
    if (a == s->naxis) {
        leaf(n, s, acc, p, arg);
        return;
    }
    Lir *l = n->e->l;
    uint32_t count = s->nres * (uint32_t)n->jam, inside = p->inside;
    LVal lo = lir_i64(l, 0), all = emit_dim(n->e, s->axis[a].extent), hi = all;
    int64_t taps;
    bool cut = emit_inside(n->e, s, a, p, &lo, &hi), innermost = true;
    bool few = leaf == leaf_combine && taps_from(n, s, a) <= UNROLLED && dim_is_const(n->e->c, s->axis[a].extent, &taps);
    for (int r = a + 1; r < s->naxis; r++) innermost = innermost && s->axis[r].kind != AX_RED;
    if (few && !cut) reduce_unrolled(n, s, a, skip, taps, acc, p, leaf, arg);
    else if (few && innermost) { /* most windows are not cut */
        LVal uncut[K_RES * JAM];
        memcpy(uncut, acc, count * sizeof *uncut);
        LIf whole = lir_if(l, lir_op2(l, S_EQ, lir_sub(l, hi, lo), all), count);
        reduce_unrolled(n, s, a, skip, taps, uncut, p, leaf, arg);
        lir_else(l, &whole, uncut);
        reduce_loop(n, s, a, skip, lo, hi, acc, p, leaf, arg);
        lir_endif(l, &whole, acc, acc);
    } else reduce_loop(n, s, a, skip, lo, hi, acc, p, leaf, arg);
    p->inside = inside;
}

/* ---- a reduced axis across lanes ---- */

/* The vector of points p, and the count - 1 vectors after it, into acc[count]. */
typedef void (*LaneFn)(Nest *n, const Stage *s, LVal *acc, Point *p, int count);

static void lanes_combine(Nest *n, const Stage *s, LVal *acc, Point *p, int count) {
    LVal first = p->axis[p->vaxis];
    for (int u = 0; u < count; u++) {
        p->axis[p->vaxis] = lir_addi(n->e->l, first, u * p->lanes);
        emit_accumulate(n->e, s, &acc[u * s->nres], p);
    }
}

/* acc[nres] gains all points of the axis: main loops of U*L and L points, then a masked tail. */
static void across_lanes(Nest *n, const Stage *s, LVal *acc, Point *p, int axis, LaneFn fn) {
    Lir *l = n->e->l;
    uint16_t lanes = lir_type(l, acc[0]).lanes;
    const int nres = s->nres;
    LVal extent = emit_dim(n->e, s->axis[axis].extent), pos = lir_i64(l, 0), next[UNROLL * K_RES];
    const int unroll = dim_typical(n->e->c, s->axis[axis].extent) >= UNROLL * lanes ? UNROLL : 1;
    const bool certain = dim_lo(n->e->c, s->axis[axis].extent) >= UNROLL * lanes;
    int64_t vectors = dim_hi(n->e->c, s->axis[axis].extent) / lanes;
    p->vaxis = (int8_t)axis;
    p->lanes = lanes;
    if (unroll > 1) {
        LVal many[UNROLL * K_RES], few[K_RES];
        LVal main = lir_op2(l, S_MUL, lir_op2(l, S_DIV, extent, lir_i64(l, unroll * lanes)), lir_i64(l, unroll * lanes));
        const uint32_t count = (uint32_t)(unroll * nres);
        LIf enough = {0};
        if (!certain) enough = lir_if(l, lir_op2(l, S_GT, main, pos), (uint32_t)nres);
        memcpy(few, acc, (size_t)nres * sizeof *acc);
        memcpy(many, acc, (size_t)nres * sizeof *acc);
        for (int u = nres; u < (int)count; u++) many[u] = emit_initial(n->e, s, u % nres, lanes);
        LVal end = main;
        Parts parts = emit_parts(n->e, s, vectors / unroll, 1, unroll * lanes, &pos, &end, count, many);
        LFor f = lir_for(l, pos, end, lir_i64(l, unroll * lanes), count, many);
        memcpy(next, f.c, count * sizeof *next);
        p->axis[axis] = f.iv;
        fn(n, s, next, p, unroll);
        lir_for_end(l, &f, next, many);
        emit_parts_end(n->e, s, &parts, count, many);
        for (int u = 1; u < unroll; u++) {
            for (int r = 0; r < nres; r++) acc[r] = emit_combine(n->e, s, r, many, many + u * nres);
            memcpy(many, acc, (size_t)nres * sizeof *acc);
        }
        if (!certain) {
            lir_else(l, &enough, acc);
            lir_endif(l, &enough, few, acc);
        }
        pos = main;
    }
    LVal whole = lir_op2(l, S_MUL, lir_op2(l, S_DIV, extent, lir_i64(l, lanes)), lir_i64(l, lanes));
    LVal end = whole;
    Parts parts = emit_parts(n->e, s, unroll > 1 ? unroll : vectors, 1, lanes, &pos, &end, (uint32_t)nres, acc);
    LFor f = lir_for(l, pos, end, lir_i64(l, lanes), (uint32_t)nres, acc);
    memcpy(next, f.c, (size_t)nres * sizeof *next);
    p->axis[axis] = f.iv;
    fn(n, s, next, p, 1);
    lir_for_end(l, &f, next, acc);
    emit_parts_end(n->e, s, &parts, (uint32_t)nres, acc);
    if (!dim_divisible(n->e->c, s->axis[axis].extent, lanes)) {
        LVal left = lir_sub(l, extent, whole);
        LIf i = lir_if(l, lir_op2(l, S_GT, left, lir_i64(l, 0)), (uint32_t)nres);
        p->mask = lir_mask(l, left, lanes);
        p->axis[axis] = whole;
        LVal sum[K_RES];
        memcpy(sum, acc, (size_t)nres * sizeof *acc);
        fn(n, s, sum, p, 1);
        for (int r = 0; r < nres; r++) sum[r] = lir_op3(l, S_SELECT, p->mask, sum[r], acc[r]);
        lir_else(l, &i, sum);
        lir_endif(l, &i, acc, acc);
    }
    p->mask = (LVal){0};
    p->vaxis = -1;
    p->lanes = 1;
}

static void leaf_lanes(Nest *n, const Stage *s, LVal *acc, Point *p, int axis) { across_lanes(n, s, acc, p, axis, lanes_combine); }

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
        Point q = nest_jammed(n, p, j);
        emit_accumulate(e, s, x, &q);
        for (int r = 0; r < s->nres; r++) emit_store(e, s, r, a->exclusive ? f.c[j * s->nres + r] : x[r], &q);
    }
    lir_for_end(l, &f, out, acc);
}

void nest_store_reduced(Nest *n, int st, const LVal *acc, const Point *p) {
    Point par;
    emit_parallel_point(&n->k->stage[st], p, &par);
    emit_memo_reset(n->e);
    emit_epilogue(n->e, st, acc, &par);
}

void nest_point(Nest *n, int st, Point *p, int red_lanes_axis, uint16_t red_lanes) {
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
            acc[r] = reg_cast(e, v, expr_info(e->c, s->body[r])->dtype, s->acc[r]);
        }
        emit_epilogue(e, st, acc, p);
        return;
    }
    uint16_t lanes = red_lanes_axis >= 0 ? red_lanes : p->lanes;
    for (int r = 0; r < s->nres * n->jam; r++) acc[r] = emit_initial(n->e, s, r % s->nres, lanes);
    Point q = *p;
    if (red_lanes_axis >= 0) {
        reduce_loops(n, s, 0, red_lanes_axis, acc, &q, leaf_lanes, red_lanes_axis);
        if (lanes > 1) emit_hreduce(e, s, acc);
    } else {
        reduce_loops(n, s, 0, -1, acc, &q, leaf_combine, 0);
    }
    for (int j = 0; j < n->jam; j++) {
        Point vector = nest_jammed(n, p, j);
        nest_store_reduced(n, st, acc + j * s->nres, &vector);
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

static void vector(Nest *n, int st, Point *p) {
    if (n->rows) n->rows->fn(n, st, p);
    else if (n->columns) nest_column(n, st, p);
    else {
        ask_ahead(n, st, p);
        nest_point(n, st, p, -1, 1);
    }
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

static bool keeps_invariants(const Nest *n, int st) { return n->k->stage[st].kind == ST_NEST && !n->k->stage[st].comb[0].i && !n->columns; }

/* Of a map and of the maps that ride along, whose axes are the same. */
static void keep_invariants(Nest *n, int st, const Point *p, int v) {
    uint64_t written = 0;
    if (!keeps_invariants(n, st)) return;
    emit_memo_reset(n->e);
    for (int pass = 0; pass < 2; pass++)
        for (int u = st; u < n->k->nstage; u++) {
            const Stage *x = &n->k->stage[u];
            if (u > st && !(n->epilogue[st] >> u & 1)) continue;
            if (pass) emit_keep(n->e, x, p, v, written);
            for (int r = 0; r < x->nres; r++) written |= 1ull << x->out[r].buf;
        }
}

void nest_vector_loop(Nest *n, int st, Point *p, int v, uint16_t lanes, LVal lo, LVal hi) {
    Lir *l = n->e->l;
    Dim extent = n->k->stage[st].axis[v].extent;
    LVal whole = lir_add(l, lo, lir_op2(l, S_MUL, lir_op2(l, S_DIV, lir_sub(l, hi, lo), lir_i64(l, lanes)), lir_i64(l, lanes)));
    int64_t most = dim_hi(n->e->c, extent) / lanes, points = 0;
    bool known = dim_is_const(n->e->c, extent, &points) && n->chunk_axis != v && !(n->rows && points > STRIP);
    const bool empty = keeps_invariants(n, st) && dim_lo(n->e->c, extent) < 1 && n->chunk_axis != v; /* perhaps: nothing may be read then */
    LIf some;
    if (empty) some = lir_if(l, lir_op2(l, S_LT, lo, hi), 0);
    p->vaxis = (int8_t)v;
    p->lanes = lanes;
    n->jam = n->rows ? 1 : n->columns ? nest_columns_jam(n, st) : jam_of(n, &n->k->stage[st]);
    keep_invariants(n, st, p, v);
    if (n->jam > most) n->jam = known ? (int)most : 1;
    if (n->columns && known && n->jam > 1) { /* rows in equal parts */
        const int64_t parts = (most + n->jam - 1) / n->jam;
        n->jam = (int)((most + parts - 1) / parts);
    }
    for (int64_t left = points / lanes; n->jam > 0; n->jam = n->jam > 2 && !known ? 2 : n->jam > 1) { /* many, two if there may be few, one */
        if (known && left < n->jam) continue;
        LVal step = lir_i64(l, n->jam * lanes), end = lir_add(l, lo, lir_op2(l, S_MUL, lir_op2(l, S_DIV, lir_sub(l, hi, lo), step), step));
        LFor many = lir_for(l, lo, end, step, 0, NULL);
        p->axis[v] = many.iv;
        vector(n, st, p);
        lir_for_end(l, &many, NULL, NULL);
        lo = end;
        left %= n->jam;
    }
    n->jam = 1;
    if (n->chunk_axis == v || !dim_divisible(n->e->c, extent, lanes)) vector_rest(n, st, p, v, lanes, whole, hi, known ? points % lanes : 0);
    emit_forget(n->e);
    if (empty) {
        lir_else(l, &some, NULL);
        lir_endif(l, &some, NULL, NULL);
        emit_memo_reset(n->e);
    }
    p->vaxis = -1;
    p->lanes = 1;
}

/* ---- a map and the reduction of its row, which combines vectors while they are in registers ---- */

bool nest_reduces_next(const Nest *n, int st, uint16_t lanes) {
    const Kernel *k = n->k;
    const Stage *m = &k->stage[st], *r = m + 1;
    const int v = n->axis[st];
    if (st + 1 == k->nstage || n->done[st + 1] || m->kind != ST_NEST || m->comb[0].i || m->nres != 1 || r->kind != ST_NEST || v < 0) return false;
    if (n->chunk_axis >= 0 || n->prefix != v || n->axis[st + 1] != v) return false;
    if (m->naxis != v + 1 || r->naxis != v + 1 || r->axis[v].kind != AX_RED) return false;
    if (!nest_commutes(k, r) || !dim_same(k->c, m->axis[v].extent, r->axis[v].extent) || lanes < target_lanes(n->e->t, m->acc[0])) return false;
    const ExprInfo *x = expr_info(k->c, r->body[0]);
    const KOut *o = &m->out[0];
    if (x->kind != E_LOAD || x->oob != OOB_NEVER || o->oob != OOB_NEVER || x->index != o->buf) return false;
    if (m->acc[0] != x->dtype || r->acc[0] != x->dtype || (x->dtype != DT_F32 && x->dtype != DT_F64)) return false;
    for (int d = 0; d < o->rank; d++) if (o->at[d].i != x->arg[d].i) return false;
    return true;
}

/* Two vectors of the map in turns, if it is a long chain. */
static void lanes_map_combine(Nest *n, const Stage *s, LVal *acc, Point *p, int count) {
    Lir *l = n->e->l;
    const int st = (int)(s - n->k->stage) - 1;
    const Stage *map = &n->k->stage[st];
    const uint16_t lanes = p->lanes;
    const int wide = count > 1 && nest_pairs(n, st) ? 2 : 1;
    LVal first = p->axis[p->vaxis];
    int16_t idx[64];
    for (int u = 0; u < count; u += wide) {
        p->lanes = (uint16_t)(wide * lanes);
        p->axis[p->vaxis] = lir_addi(l, first, u * lanes);
        emit_memo_reset(n->e);
        LVal v = reg_cast(n->e, emit_vec(n->e, map, map->body[0], p), expr_info(n->e->c, map->body[0])->dtype, map->acc[0]);
        emit_epilogue(n->e, st, &v, p);
        ask_ahead(n, st, p);
        for (int h = 0; h < wide; h++) {
            for (int i = 0; i < lanes; i++) idx[i] = (int16_t)(i + h * lanes);
            LVal part = wide > 1 ? lir_shuffle(l, v, v, lanes, idx) : v;
            acc[u + h] = emit_combine(n->e, s, 0, &acc[u + h], &part);
        }
    }
    p->lanes = lanes;
}

void nest_map_and_reduce(Nest *n, int st, Point *p) {
    const Stage *r = &n->k->stage[st + 1];
    const int v = n->axis[st];
    LVal acc = emit_initial(n->e, r, 0, target_lanes(n->e->t, r->acc[0]));
    Point q = *p;
    if (dim_lo(n->e->c, n->k->stage[st].axis[v].extent) > 0) keep_invariants(n, st, p, v);
    across_lanes(n, r, &acc, &q, v, lanes_map_combine);
    emit_forget(n->e);
    emit_hreduce(n->e, r, &acc);
    nest_store_reduced(n, st + 1, &acc, p);
}
