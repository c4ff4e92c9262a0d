/* ukr_stream.c: template `stream`, for GPUs: pointwise kernels, and sums of few terms (pooling, depthwise convolutions), whose operands and results
 * all lie along the last parallel axis. A thread takes 16 bytes of the widest at once (`lanes` neighbours), with accesses of that size: as many bytes
 * on the way with a quarter of the instructions. Order of a sum: ascending, one chain, products fused into it: that of `nest`. */
#include <string.h>

#include "emit_internal.h"
#include "ukr.h"

enum { PAR_LANES, PAR_POINTS };
enum { BYTES = 16, MOST_LANES = 8, MOST_TERMS = 128, MOST_UNROLLED = 25, MOST_POINTS = 2 };

typedef struct Stream {
    const Kernel *k;
    const Stage *s;
    int v;           /* the axis, in stage s */
    unsigned widest; /* bits of elements along it; 0: none yet */
    int lanes;
    bool ok;
} Stream;

bool access_in_pieces(const Kernel *k, const Stage *s, uint16_t buf, const Expr *at, Oob oob, int axis, int n, unsigned *bits) {
    const KBuf *b = &k->buf[buf];
    Ctx *c = k->c;
    Affine f;
    *bits = 0;
    if (oob != OOB_NEVER || !access_affine(k, s, buf, b->rank, at, &f)) return false;
    if (!f.has[axis]) return true;
    const ExprInfo *rest = expr_info(c, f.rest);
    *bits = dt_bits(b->dtype);
    bool ok = dim_is(c, f.coef[axis], 1) && *bits >= 8 && b->dtype != DT_BOOL && *bits <= 64 && b->align % (*bits / 8 * (unsigned)n) == 0;
    ok = ok && (rest->kind == E_CONST ? rest->val.i % n == 0 : rest->kind == E_DIM && dim_divisible(c, (Dim){rest->index}, n));
    for (int a = 0; a < s->naxis; a++) ok = ok && (a == axis || !f.has[a] || dim_divisible(c, f.coef[a], n));
    return ok;
}

/* A load that may be out of range, but not along the axis: for all pieces or none. */
static bool whole_pieces(const Stream *x, uint16_t buf, const Expr *at) {
    Dim extent[K_AXES];
    stage_extents(x->s, extent);
    for (int d = 0; d < x->k->buf[buf].rank; d++)
        if (expr_uses_axis(x->k->c, at[d], (uint32_t)x->v) &&
            !expr_in_bounds(x->k->c, at[d], x->k->buf[buf].dim[d], extent, x->s->naxis))
            return false;
    return true;
}

static void look(Stream *x, uint16_t buf, const Expr *at, Oob oob) {
    unsigned bits;
    if (oob == OOB_VALUE && whole_pieces(x, buf, at)) oob = OOB_NEVER;
    x->ok = x->ok && access_in_pieces(x->k, x->s, buf, at, oob, x->v, x->lanes, &bits);
    if (x->ok && bits > x->widest) x->widest = bits;
}

static void look_at_load(void *data, const ExprInfo *load) { look(data, (uint16_t)load->index, load->arg, load->oob); }

/* The last parallel axis of stage st; of epilogues it is their last one. */
static int last_axis(const Kernel *k, int st) {
    int v = k->stage[st].naxis - 1;
    while (v >= 0 && k->stage[st].axis[v].kind != AX_PAR) v--;
    return v;
}

static void look_at_all(Stream *x) {
    for (int st = 0; st < x->k->nstage; st++) {
        x->s = &x->k->stage[st];
        x->v = last_axis(x->k, st);
        for (int r = 0; r < x->s->nres; r++) {
            expr_loads(x->k->c, x->s->body[r], look_at_load, x);
            if (x->k->buf[x->s->out[r].buf].kind == KB_OUT) look(x, x->s->out[r].buf, x->s->out[r].at, x->s->out[r].oob);
        }
    }
}

/* Terms of a sum from axis a on; 0: too many, or not known. */
static int64_t terms_from(const Kernel *k, const Stage *s, int a) {
    int64_t n = 1, e;
    for (; a < s->naxis; a++) {
        if (s->axis[a].kind == AX_PAR) continue;
        if (s->axis[a].kind != AX_RED || !dim_is_const(k->c, s->axis[a].extent, &e) || e > MOST_TERMS / n) return 0;
        n *= e;
    }
    return n;
}

/* Lanes of the kernel's vectors; 0: it is none for this template. */
static int lanes_of(const Kernel *k) {
    const Stage *s = &k->stage[0];
    int v = last_axis(k, 0);
    Stream x = {.k = k, .lanes = 1, .ok = s->kind == ST_NEST && v >= 0 && terms_from(k, s, 0)};
    if (!x.ok || k->nstage > 64 || (epilogue_mask(k, 0) | 1) != (k->nstage == 64 ? ~0ull : (1ull << k->nstage) - 1)) return 0;
    look_at_all(&x);
    if (!x.ok || !x.widest) return 0;
    x.lanes = BYTES * 8 / (int)x.widest;
    if (x.lanes > MOST_LANES) x.lanes = MOST_LANES;
    if (last_axis(k, 0) > 0 && !dim_divisible(k->c, s->axis[v].extent, x.lanes)) return 0;
    if (dim_hi(k->c, s->axis[v].extent) < x.lanes) return 0;
    look_at_all(&x);
    return x.ok ? x.lanes : 0;
}

static bool stream_match(const Kernel *k, const Target *t) {
    return !(t->flags & F_SIMD) && lanes_of(k) > 1;
}

/* The parallel axis before axis v, or -1. */
static int axis_before(const Stage *s, int v) {
    do v--;
    while (v >= 0 && s->axis[v].kind != AX_PAR);
    return v;
}

static int stream_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    const Stage *s = &k->stage[0];
    int u = axis_before(s, last_axis(k, 0)), n = 1;
    (void)t;
    out[0].par[PAR_LANES] = lanes_of(k);
    out[0].par[PAR_POINTS] = 1;
    if (max < 2 || !s->comb[0].i || u < 0 || terms_from(k, s, 0) > MOST_UNROLLED || !dim_divisible(k->c, s->axis[u].extent, MOST_POINTS)) return n;
    out[n] = out[0];
    out[n++].par[PAR_POINTS] = MOST_POINTS;
    return n;
}

/* Sums in the unit of gpu_tile_cost: loads outweigh products, and there must be threads enough. */
static double stream_cost(const Kernel *k, const Sched *s, const Target *t) {
    enum { ENOUGH = 132 * 64, PRODUCTS = 10 };
    const double SHARED_LOADS = 0.6;
    double total = 0, points = 1, threads = 1;
    for (int st = 0; st < k->nstage; st++) total += nest_stage_cost(k, &k->stage[st], t);
    if (!k->stage[0].comb[0].i) return total / 2;
    for (int a = 0; a < k->stage[0].naxis; a++) {
        double n = dim_typical(k->c, k->stage[0].axis[a].extent);
        points *= n;
        if (k->stage[0].axis[a].kind == AX_PAR) threads *= n;
    }
    threads /= (double)(s->par[PAR_LANES] * s->par[PAR_POINTS]);
    return points / PRODUCTS * (threads < ENOUGH ? ENOUGH / threads : 1) * (s->par[PAR_POINTS] > 1 ? SHARED_LOADS : 1);
}

/* All terms of n points from axis a on, in order: inner ones as a straight line, so that their loads are on the way together, and points share what
 * they read. */
static void terms(Emit *e, int a, Point *p, int n, LVal *acc) {
    const Stage *s = &e->k->stage[0];
    int64_t extent;
    while (a < s->naxis && s->axis[a].kind == AX_PAR) a++;
    if (a == s->naxis) {
        for (int j = 0; j < n; j++, acc += s->nres) {
            LVal nw[K_RES], out[K_RES];
            if (expr_info(e->c, s->body[0])->kind != E_LOAD) {
                emit_accumulate(e, s, acc, &p[j]);
                continue;
            }
            emit_memo_reset(e);
            for (int r = 0; r < s->nres; r++)
                nw[r] = reg_cast(e, emit_vec(e, s, s->body[r], &p[j]), expr_info(e->c, s->body[r])->dtype, s->acc[r]);
            for (int r = 0; r < s->nres; r++) out[r] = emit_combine(e, s, r, acc, nw);
            memcpy(acc, out, s->nres * sizeof *acc);
        }
        return;
    }
    CHECK(dim_is_const(e->c, s->axis[a].extent, &extent));
    bool line = terms_from(e->k, s, a) <= MOST_UNROLLED;
    uint32_t count = (uint32_t)n * s->nres;
    LVal next[K_RES * MOST_POINTS];
    LFor f;
    if (!line) f = lir_for(e->l, lir_i64(e->l, 0), lir_i64(e->l, extent), lir_i64(e->l, 1), count, acc);
    memcpy(next, line ? acc : f.c, count * sizeof *next);
    for (int64_t i = 0; i < (line ? extent : 1); i++) {
        for (int j = 0; j < n; j++) p[j].axis[a] = line ? lir_i64(e->l, i) : f.iv;
        terms(e, a + 1, p, n, next);
    }
    if (line) memcpy(acc, next, count * sizeof *next);
    else lir_for_end(e->l, &f, next, acc);
}

/* n neighbours along axis u, from p on. */
static void points(Emit *e, const Point *p, int u, int n) {
    const Stage *s = &e->k->stage[0];
    LVal acc[K_RES * MOST_POINTS];
    Point at[MOST_POINTS], par;
    emit_memo_reset(e);
    for (int j = 0; j < n; j++) {
        at[j] = *p;
        if (j) at[j].axis[u] = lir_addi(e->l, p->axis[u], j);
        for (int r = 0; r < s->nres; r++) {
            LVal *a = &acc[j * s->nres + r];
            if (s->comb[0].i) *a = emit_initial(e, s, r, p->lanes);
            else *a = reg_cast(e, emit_vec(e, s, s->body[r], p), expr_info(e->c, s->body[r])->dtype, s->acc[r]);
        }
    }
    if (s->comb[0].i) {
        emit_share_loads(e, n > 1); /* which have all terms in a line */
        terms(e, 0, at, n, acc);
        emit_share_loads(e, false);
    }
    for (int j = 0; j < n; j++) {
        emit_memo_reset(e);
        emit_parallel_point(s, &at[j], &par);
        emit_epilogue(e, 0, &acc[j * s->nres], &par);
    }
}

static void stream_build(Emit *e) {
    const Stage *s = &e->k->stage[0];
    Lir *l = e->l;
    int64_t lanes = e->s->par[PAR_LANES], many = e->s->par[PAR_POINTS];
    int v = last_axis(e->k, 0), u = axis_before(s, v);
    bool whole = dim_divisible(e->c, s->axis[v].extent, lanes);
    Point p = {.vaxis = (int8_t)v, .lanes = (uint16_t)lanes};
    Tasks tasks = {0};
    for (int a = v; a >= 0; a--) {
        Dim n = s->axis[a].extent;
        if (a == v) n = dim_ceildiv(e->c, n, dim_const(e->c, lanes));
        else if (a == u) n = dim_floordiv(e->c, n, dim_const(e->c, many));
        if (s->axis[a].kind == AX_PAR) tasks_along(&tasks, n, &p.axis[a]);
    }
    tasks_begin(e, &tasks);
    LFor t = lir_for_tasks(l, lir_tstep(l), 0, NULL);
    LVal n = emit_dim(e, s->axis[v].extent);
    tasks_split(e, &tasks, t.iv);
    if (many > 1) p.axis[u] = lir_muli(l, p.axis[u], many);
    LVal start = p.axis[v] = lir_muli(l, p.axis[v], lanes), end = lir_addi(l, start, lanes);
    LIf full = {0};
    if (!whole) full = lir_if(l, lir_op2(l, S_LE, end, n), 0);
    e->aligned = (uint8_t)lanes;
    e->aligned_axis = (uint8_t)v;
    points(e, &p, u, (int)many);
    e->aligned = 0;
    if (!whole) {
        lir_else(l, &full, NULL);
        LFor f = lir_for(l, start, n, lir_i64(l, 1), 0, NULL);
        Point q = p;
        q.vaxis = -1, q.lanes = 1, q.axis[v] = f.iv;
        points(e, &q, u, (int)many);
        lir_for_end(l, &f, NULL, NULL);
        lir_endif(l, &full, NULL, NULL);
    }
    emit_memo_reset(e);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_stream = {"stream", "lanes points", F_BLOCKS, stream_match, stream_candidates, stream_cost, stream_build};
