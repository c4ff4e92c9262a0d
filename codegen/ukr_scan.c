/* ukr_scan.c: template `scan`, for GPUs: scans along a long row, and compaction, which is a scan of its flags. The threads of a block take a row
 * `threads` elements at a time: within a warp by doubling distances, then over the warps in order, then on top of what the row so far gave. So the
 * order in which a row is combined depends on the schedule alone. */
#include "emit_internal.h"
#include "special.h"
#include "ukr.h"

enum { PAR_THREADS, N_PARS };
enum { WARP = 32, LEAST = 64, MOST = 512, SLOT = 8 /* bytes of a warp's part */, MANY = 4096 /* rows: enough for a thread of each */ };

static int scan_axis(const Stage *s) {
    int axis = -1;
    for (int a = 0; a < s->naxis; a++)
        if (s->axis[a].kind == AX_SCAN) axis = a;
    return axis;
}

static bool scan_match(const Kernel *k, const Target *t) {
    const Stage *s = &k->stage[0];
    (void)t;
    if (k->nstage != 1 || !kernel_is_total(k) || scan_axis(s) < 0 || dim_typical(k->c, s->axis[scan_axis(s)].extent) < LEAST) return false;
    if (s->kind == ST_SCAN) return nest_commutes(k, s);
    if (s->kind != ST_COMPACT || s->naxis != 1) return false;
    Dim room = dim_sub(k->c, ((const CompactAttr *)s->node->attr)->bound, s->axis[0].extent); /* a block cannot leave by a guard */
    return dim_lo(k->c, room) >= 0;
}

static int scan_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    const Stage *s = &k->stage[0];
    double n = dim_typical(k->c, s->axis[scan_axis(s)].extent);
    int threads = LEAST;
    (void)t, (void)max;
    while (threads < MOST && threads < n) threads *= 2;
    out[0].par[PAR_THREADS] = threads;
    return 1;
}

/* Where rows lie side by side and there are many, a thread of each has as much to do, and reads as well. */
static double scan_cost(const Kernel *k, const Sched *s, const Target *t) {
    const Stage *g = &k->stage[0];
    double rows = 1, each = nest_stage_cost(k, g, t);
    for (int a = 0; a < g->naxis; a++)
        if (g->axis[a].kind == AX_PAR) rows *= dim_typical(k->c, g->axis[a].extent);
    (void)s;
    return scan_axis(g) < g->naxis - 1 && rows >= MANY ? 2 * each : each / 8;
}

typedef struct Block {
    Emit *e;
    Lir *l;
    const Stage *s;
    int threads;
    LVal tid, lane, warp;
} Block;

static LVal combine(Block *b, LVal x, LVal y) { return b->s->kind == ST_COMPACT ? lir_add(b->l, x, y) : emit_combine(b->e, b->s, 0, &x, &y); }

static LVal choose(Block *b, LVal c, LVal x, LVal y) { return lir_op3(b->l, S_SELECT, c, x, y); }

static LVal positive(Block *b, LVal i) { return lir_op2(b->l, S_GT, i, lir_i64(b->l, 0)); }

/* v of this thread: first, combined with those of the threads before, in *before; with those of all, which is returned. */
static LVal running(Block *b, LVal first, LVal v, LVal *before) {
    Lir *l = b->l;
    LVal all = v, lower = v;
    for (uint32_t mask = 1; mask < WARP; mask *= 2) {
        LVal other = emit_lane_xor(l, all, mask), upper = positive(b, lir_op2(l, S_AND, b->lane, lir_i64(l, mask)));
        LVal some = positive(b, lir_op2(l, S_AND, b->lane, lir_i64(l, mask - 1)));
        LVal with = mask == 1 ? other : choose(b, some, combine(b, other, lower), other);
        lower = choose(b, upper, with, lower);
        LVal after = combine(b, other, all);
        all = choose(b, upper, after, combine(b, all, other));
    }
    int warps = b->threads / WARP;
    LTy ty = lir_type(l, v);
    LVal slot = lir_shared(l, 0), of_warps = {0}, sum = {0};
    LIf leader = lir_if(l, lir_op2(l, S_EQ, b->lane, lir_i64(l, 0)), 0);
    lir_store(l, slot, b->warp, all, (LVal){0}, 0);
    lir_else(l, &leader, NULL);
    lir_endif(l, &leader, NULL, NULL);
    lir_barrier(l);
    for (int w = 0; w < warps; w++) {
        LVal part = lir_load(l, slot, lir_i64(l, w), ty, (LVal){0}, 0);
        if (w) of_warps = w == 1 ? sum : choose(b, lir_op2(l, S_GE, b->warp, lir_i64(l, w)), sum, of_warps);
        sum = w ? combine(b, sum, part) : part;
    }
    lir_barrier(l); /* the next parts may come */
    LVal own = combine(b, first, of_warps);
    *before = choose(b, positive(b, b->warp), own, first);
    own = combine(b, *before, lower);
    *before = choose(b, positive(b, b->lane), own, *before);
    return combine(b, first, sum);
}

static void when(Lir *l, LVal c, LIf *i) { *i = lir_if(l, c, 0); }
static void done(Lir *l, LIf *i) {
    lir_else(l, i, NULL);
    lir_endif(l, i, NULL, NULL);
}

/* The row at the point's parallel coordinates. */
static void scan_row(Block *b, Sp *x) {
    const ScanAttr *a = x->s->node->attr;
    Lir *l = b->l;
    LVal carry = emit_initial(b->e, b->s, 0, 1), before;
    LFor f = lir_for(l, lir_i64(l, 0), x->n, lir_i64(l, b->threads), 1, &carry);
    LVal i = lir_add(l, f.iv, b->tid), last = lir_addi(l, x->n, -1), at = op(x, S_MIN, i, last);
    if (a->reverse) at = lir_sub(l, last, at);
    LVal v = reg_cast(b->e, special_value(x, 0, at), expr_info(b->e->c, b->s->body[0])->dtype, b->s->acc[0]);
    LVal next = running(b, f.c[0], v, &before);
    LIf in;
    when(l, op(x, S_LT, i, x->n), &in);
    special_store_position(x, 0, a->exclusive ? before : combine(b, before, v), at);
    done(l, &in);
    lir_for_end(l, &f, &next, &carry);
}

/* Positions of what is set, in order; their number; zeros behind them. */
static void compact_row(Block *b, Sp *x) {
    Lir *l = b->l;
    DType t = dim_hi(b->e->c, b->s->axis[0].extent) < INT32_MAX ? DT_I32 : DT_I64;
    LVal found = lir_int(l, t, 0), before;
    LFor f = lir_for(l, lir_i64(l, 0), x->n, lir_i64(l, b->threads), 1, &found);
    LVal i = lir_add(l, f.iv, b->tid), in = op(x, S_LT, i, x->n), v = special_value(x, 0, op(x, S_MIN, i, lir_addi(l, x->n, -1)));
    DType flag = (DType)lir_type(l, v).dt;
    LVal set = op(x, S_AND, in, flag == DT_BOOL ? v : op(x, S_NE, v, lir_int(l, flag, 0)));
    LVal next = running(b, f.c[0], lir_cast(l, set, t), &before);
    LIf here;
    when(l, set, &here);
    special_store_position(x, 0, i, lir_cast(l, before, DT_I64));
    done(l, &here);
    lir_for_end(l, &f, &next, &found);
    found = lir_cast(l, found, DT_I64);
    when(l, op(x, S_EQ, b->tid, lir_i64(l, 0)), &here);
    special_store_position(x, 1, found, lir_i64(l, 0));
    done(l, &here);
    LVal bound = emit_dim(b->e, ((const CompactAttr *)b->s->node->attr)->bound);
    f = lir_for(l, lir_add(l, found, b->tid), bound, lir_i64(l, b->threads), 0, NULL);
    special_store_position(x, 0, lir_i64(l, 0), f.iv);
    lir_for_end(l, &f, NULL, NULL);
}

static void scan_build(Emit *e) {
    const Stage *s = &e->k->stage[0];
    Lir *l = e->l;
    Block b = {.e = e, .l = l, .s = s, .threads = (int)e->s->par[PAR_THREADS]};
    lir_block(l, (uint32_t)b.threads, (uint32_t)(b.threads / WARP * SLOT));
    b.tid = lir_tid(l);
    b.lane = lir_remi(l, b.tid, WARP);
    b.warp = lir_divi(l, b.tid, WARP);
    Point p = {.vaxis = -1, .lanes = 1};
    Sp x = {.e = e, .l = l, .s = s, .p = &p, .axis = scan_axis(s)};
    Tasks tasks = {0};
    tasks_points(&tasks, s, ~(1u << x.axis), &p);
    tasks_begin(e, &tasks);
    x.n = emit_dim(e, s->axis[x.axis].extent);
    LFor t = lir_for_tasks(l, lir_tstep(l), 0, NULL);
    tasks_split(e, &tasks, t.iv);
    (s->kind == ST_SCAN ? scan_row : compact_row)(&b, &x);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_scan = {"scan", "threads", F_BLOCKS, scan_match, scan_candidates, scan_cost, scan_build};
