/* ukr_rows.c: template `rows`, for GPUs: the threads of a block share a task, a point of the parallel axes that all stages share: a row of
 * a softmax or norm, a sum over a row. Inside a task
 * - a stage that has parallel axes of its own is split along one of them, threads next to each other along it;
 * - a stage that only reduces is split along its innermost reduced axis: element i goes to chain i mod CHAINS, thread t has chains t, t +
 *   ntid, ..; then chains are combined by halves, chain i with chain i + CHAINS/2. So the order does not depend on the size of blocks.
 * Temporaries and chains are in the block's scratch; after every stage the threads wait for each other. */
#include <string.h>

#include "emit_internal.h"
#include "ukr.h"

enum { PAR_PREFIX, N_PARS };
enum { CHAINS = 256, CHAIN_BYTES = 8, WIDE = 64 /* points that are worth a block */ };

typedef struct Rows {
    Emit *e;
    Lir *l;
    int prefix;
    LVal tid, ntid, chain; /* chain: pointer */
} Rows;

static int last_axis(const Stage *s, int from, AxKind kind) {
    int last = -1;
    for (int a = from; a < s->naxis; a++)
        if (s->axis[a].kind == kind) last = a;
    return last;
}

typedef struct Near { const Kernel *k; const Stage *s; int axis; bool ok; } Near;

static void check_near(void *data, const ExprInfo *x) { /* neighbours along the axis are neighbours in memory, or the same */
    Near *n = data;
    Affine f;
    n->ok = n->ok && x->oob != OOB_FAIL && access_affine(n->k, n->s, (uint16_t)x->index, n->k->buf[x->index].rank, x->arg, &f) &&
            (!f.has[n->axis] || dim_is(n->k->c, f.coef[n->axis], 1));
}

static void check_total(void *data, const ExprInfo *x) {
    Near *n = data;
    n->ok = n->ok && x->oob != OOB_FAIL;
}

/* The axis along which threads lie: a parallel one of the stage's own, the innermost if it is long enough; or the innermost reduced one. */
static int thread_axis(const Kernel *k, const Stage *s, int prefix) {
    int best = last_axis(s, prefix, AX_PAR);
    if (best < 0) return last_axis(s, prefix, AX_RED);
    for (int a = best - 1; a >= prefix; a--) {
        bool longer = dim_typical(k->c, s->axis[a].extent) > dim_typical(k->c, s->axis[best].extent);
        if (s->axis[a].kind == AX_PAR && longer && dim_typical(k->c, s->axis[best].extent) < WIDE / 2) best = a;
    }
    return best;
}

static bool rows_match(const Kernel *k, const Target *t) {
    (void)t;
    int prefix = nest_prefix(k);
    bool wide = false;
    if (k->nstage > 64) return false;
    for (int b = 0; b < k->nbuf; b++)
        if (dt_bits(k->buf[b].dtype) > 64) return false;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        int v = thread_axis(k, s, prefix);
        if (s->kind != ST_NEST) return false;
        bool splits = v >= 0 && s->axis[v].kind == AX_RED;
        if (splits && !nest_commutes(k, s)) return false;
        Near n = {k, s, v, true};
        for (int r = 0; r < s->nres; r++) expr_loads(k->c, s->body[r], splits ? check_near : check_total, &n);
        if (!n.ok) return false;
        wide |= v >= 0 && dim_typical(k->c, s->axis[v].extent) >= (splits ? CHAINS : WIDE);
    }
    return wide;
}

static int rows_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    (void)t, (void)max;
    out[0].par[PAR_PREFIX] = nest_prefix(k);
    return 1;
}

/* Threads of `nest` that each walk a row read what is far apart. */
static double rows_cost(const Kernel *k, const Sched *s, const Target *t) {
    (void)s;
    double total = 0;
    for (int st = 0; st < k->nstage; st++) total += nest_stage_cost(k, &k->stage[st], t);
    return total / 8;
}

static void meet(Rows *r) {
    lir_barrier(r->l);
    emit_memo_reset(r->e);
}

/* The loops over the reduced axes from `a` on; the one at `split` begins at `first` and skips CHAINS. acc in, acc out. */
static void reduce(Rows *r, const Stage *s, int a, int split, LVal first, LVal *acc, Point *p) {
    Lir *l = r->l;
    while (a < s->naxis && s->axis[a].kind != AX_RED) a++;
    if (a == s->naxis) {
        emit_accumulate(r->e, s, acc, p);
        return;
    }
    bool here = a == split;
    LFor f = lir_for(l, here ? first : lir_i64(l, 0), emit_dim(r->e, s->axis[a].extent), lir_i64(l, here ? CHAINS : 1), s->nres, acc);
    LVal next[K_RES];
    memcpy(next, f.c, s->nres * sizeof *next);
    p->axis[a] = f.iv;
    reduce(r, s, a + 1, split, first, next, p);
    lir_for_end(l, &f, next, acc);
}

static LVal chain(Rows *r, LVal at, LTy ty) { return lir_load(r->l, r->chain, at, ty, (LVal){0}, 0); }

/* The total of a stage, split along axis v, in every thread. */
static LVal reduce_together(Rows *r, const Stage *s, int v, const Point *p) {
    Lir *l = r->l;
    Point q = *p;
    LFor f = lir_for(l, r->tid, lir_i64(l, CHAINS), r->ntid, 0, NULL);
    LVal acc = emit_initial(r->e, s, 0, 1);
    LTy ty = lir_type(l, acc);
    reduce(r, s, 0, v, f.iv, &acc, &q);
    lir_store(l, r->chain, f.iv, acc, (LVal){0}, 0);
    lir_for_end(l, &f, NULL, NULL);
    meet(r);
    for (int half = CHAINS / 2; half; half /= 2) {
        f = lir_for(l, r->tid, lir_i64(l, half), r->ntid, 0, NULL);
        LVal a = chain(r, f.iv, ty), b = chain(r, lir_addi(l, f.iv, half), ty);
        lir_store(l, r->chain, f.iv, emit_combine(r->e, s, 0, &a, &b), (LVal){0}, 0);
        lir_for_end(l, &f, NULL, NULL);
        meet(r);
    }
    return chain(r, lir_i64(l, 0), ty); /* read by all before the end of the stage, where they meet again */
}

/* A point of all parallel axes, which is this thread's alone. */
static void point(Rows *r, int st, const Point *p) {
    Emit *e = r->e;
    const Stage *s = &e->k->stage[st];
    LVal acc[K_RES];
    Point q = *p, par;
    emit_memo_reset(e);
    for (int i = 0; i < s->nres; i++)
        acc[i] = s->comb[0].i ? emit_initial(e, s, i, 1) : emit_to_acc(e, emit_expr(e, s, s->body[i], &q), expr_info(e->c, s->body[i])->dtype, s->acc[i]);
    if (s->comb[0].i) reduce(r, s, 0, -1, (LVal){0}, acc, &q);
    emit_parallel_point(s, &q, &par);
    emit_epilogue(e, st, acc, &par);
}

/* The parallel axes from `a` on. */
static void loops(Rows *r, int st, int a, int v, Point *p) {
    Emit *e = r->e;
    const Stage *s = &e->k->stage[st];
    Lir *l = r->l;
    while (a < s->naxis && s->axis[a].kind != AX_PAR) a++;
    if (a == s->naxis) {
        point(r, st, p);
        return;
    }
    bool here = a == v;
    LFor f = lir_for(l, here ? r->tid : lir_i64(l, 0), emit_dim(e, s->axis[a].extent), here ? r->ntid : lir_i64(l, 1), 0, NULL);
    p->axis[a] = f.iv;
    loops(r, st, a + 1, v, p);
    lir_for_end(l, &f, NULL, NULL);
}

static void stage(Rows *r, int st, const Point *task) {
    Emit *e = r->e;
    const Stage *s = &e->k->stage[st];
    int v = thread_axis(e->k, s, r->prefix);
    Point p = *task, par;
    if (v >= 0 && s->axis[v].kind == AX_PAR) {
        loops(r, st, r->prefix, v, &p);
        meet(r);
        return;
    }
    LVal total = {0};
    if (v >= 0) total = reduce_together(r, s, v, &p);
    LIf one = lir_if(r->l, lir_op2(r->l, S_EQ, r->tid, lir_i64(r->l, 0)), 0);
    emit_memo_reset(e);
    emit_parallel_point(s, &p, &par);
    if (v >= 0) emit_epilogue(e, st, &total, &par);
    else point(r, st, &p);
    lir_else(r->l, &one, NULL);
    lir_endif(r->l, &one, NULL, NULL);
    meet(r);
}

static void rows_build(Emit *e) {
    Rows r = {.e = e, .l = e->l, .prefix = (int)e->s->par[PAR_PREFIX]};
    Lir *l = e->l;
    uint64_t epilogue[64], done = 0;
    for (int st = 0; st < e->k->nstage; st++) epilogue[st] = epilogue_mask(e->k, st);
    Dim at = nest_temps(e, r.prefix, epilogue), tasks = dim_const(e->c, 1);
    const Stage *first = &e->k->stage[0];
    r.tid = lir_tid(l);
    r.ntid = lir_ntid(l);
    r.chain = lir_ptr_bytes(l, lir_scratch(l), emit_dim(e, at));
    for (int a = 0; a < r.prefix; a++) tasks = dim_mul(e->c, tasks, first->axis[a].extent);
    e->code->tasks = tasks;
    e->code->scratch = dim_addi(e->c, at, CHAINS * CHAIN_BYTES);
    LFor t = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 0, NULL);
    Point p = {.vaxis = -1, .lanes = 1};
    LVal rest = t.iv;
    for (int a = r.prefix - 1; a >= 0; a--) {
        LVal n = emit_dim(e, first->axis[a].extent);
        p.axis[a] = a ? lir_op2(l, S_REM, rest, n) : rest;
        if (a) rest = lir_op2(l, S_DIV, rest, n);
    }
    for (int st = 0; st < e->k->nstage; st++) {
        if (done >> st & 1) continue;
        done |= epilogue[st];
        stage(&r, st, &p);
    }
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_rows = {"rows", "prefix", F_BLOCKS, rows_match, rows_candidates, rows_cost, rows_build};
