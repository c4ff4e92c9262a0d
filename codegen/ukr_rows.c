/* ukr_rows.c: template `rows`, for GPUs: the threads of a block share a task, a point of the parallel axes that all stages share: a row of
 * a softmax or norm, a sum over a row. Inside a task
 * - a stage that has parallel axes of its own is split along one of them, threads next to each other along it;
 * - a stage that only reduces is split along its innermost reduced axis: thread t of n takes elements t, t + n, ..; then threads combine what
 *   they have with thread t ^ 16, t ^ 8, .. t ^ 1, and warps by halves, warp i with warp i + half of them. So the order depends on the
 *   schedule alone.
 * Rows that fit stay in registers (`held` elements of every thread): each stage has that one axis besides, and reads what it needs of operands and
 * earlier stages at its own point, so an operand is loaded once, and threads only meet where warps combine. There, thread t takes `near` elements
 * from t near on, and so on every n near, which LLVM moves at once where they are aligned. Otherwise temporaries are in the
 * block's scratch, and after every stage the threads wait for each other. */
#include <string.h>

#include "emit_internal.h"
#include "ukr.h"

enum { PAR_PREFIX, PAR_THREADS, PAR_HELD, PAR_NEAR, N_PARS };
enum { WARP = 32, LEAST = WARP, MOST = 512, EACH = 4 /* elements of a thread, if the row is not too long */, MOST_HELD = 8, NEAR = 4,
       SLOT = 8 /* bytes of a warp's part */,
       ENDLESS = 512, LENGTHS = 4096 /* elements that a row may well have whose length may be as much */,
       WIDE = 64, LONG = 256 /* points, elements of a sum, that are worth a block */ };

typedef struct Row { /* a buffer in registers */
    LVal v[MOST_HELD];
    DType from, to;   /* as of EmitHeld */
    bool one;         /* the same for all elements of the row: v[0] */
    const int *j;
} Row;

typedef struct Rows {
    Emit *e;
    Lir *l;
    int prefix, threads, held, near;
    LVal tid;
    uint32_t slot;                     /* bytes of shared memory that reductions have used */
    int j;                             /* held: the element that is computed now */
    LVal at[MOST_HELD], in[MOST_HELD]; /* its coordinate, clamped; whether it is in the row (none: it is) */
    Row *row;                          /* by buffer */
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
    n->ok = n->ok && access_affine(n->k, n->s, (uint16_t)x->index, n->k->buf[x->index].rank, x->arg, &f) &&
            (!f.has[n->axis] || dim_is(n->k->c, f.coef[n->axis], 1));
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
    if (k->nstage > 64 || !kernel_is_total(k)) return false;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        int v = thread_axis(k, s, prefix);
        if (s->kind != ST_NEST) return false;
        bool splits = v >= 0 && s->axis[v].kind == AX_RED;
        if (splits && !nest_commutes(k, s)) return false;
        Near n = {k, s, v, true};
        for (int r = 0; splits && r < s->nres; r++) expr_loads(k->c, s->body[r], check_near, &n);
        if (!n.ok) return false;
        wide |= v >= 0 && dim_typical(k->c, s->axis[v].extent) >= (splits ? LONG : WIDE);
    }
    return wide;
}

/* ---- rows in registers ---- */

typedef struct Uses { /* of buffers */
    const Kernel *k;
    int prefix;
    const Expr *out[K_BUFS];           /* where a stage writes it; NULL: no stage does */
    ExprInfo load[K_BUFS];             /* a load of it */
    uint8_t loads[K_BUFS];             /* stages that load it */
    int stage;                         /* the last of them */
    uint8_t last[K_BUFS];
    bool same[K_BUFS], ok;             /* all loads are that one */
} Uses;

static void see_load(void *data, const ExprInfo *x) {
    Uses *u = data;
    uint32_t b = x->index;
    const Expr *out = u->out[b];
    u->ok = u->ok && !(out && x->oob != OOB_NEVER);
    for (int d = 0; out && d < u->k->buf[b].rank; d++) u->ok = u->ok && x->arg[d].i == out[d].i;
    bool first = u->loads[b] == 0;
    u->same[b] = first || (u->same[b] && u->load[b].arg == x->arg);
    if (first) u->load[b] = *x;
    if (first || u->last[b] != u->stage) u->loads[b]++;
    u->last[b] = (uint8_t)u->stage;
}

/* Can rows be in registers: has each stage at most one axis of its own, the same one, and reads what stages wrote where they wrote it? *extent: of
 * the axis. */
static bool fits(const Kernel *k, int prefix, Dim *extent, Uses *u) {
    *u = (Uses){.k = k, .prefix = prefix, .ok = true};
    *extent = (Dim){0};
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        if (s->naxis > prefix + 1) return false;
        if (s->naxis > prefix) {
            if (extent->i && !dim_same(k->c, *extent, s->axis[prefix].extent)) return false;
            *extent = s->axis[prefix].extent;
        }
        u->stage = st;
        for (int r = 0; r < s->nres; r++) expr_loads(k->c, s->body[r], see_load, u);
        for (int r = 0; r < s->nres; r++) {
            uint16_t b = s->out[r].buf;
            u->ok = u->ok && s->out[r].oob == OOB_NEVER && !u->out[b] && !u->loads[b];
            u->out[b] = s->out[r].at;
        }
    }
    return u->ok && extent->i && dim_lo(k->c, *extent) > 0;
}

typedef struct Pieces { const Kernel *k; const Stage *s; int axis; bool ok; } Pieces;

static void in_pieces(void *data, const ExprInfo *x) {
    Pieces *p = data;
    unsigned bits;
    p->ok = p->ok && access_in_pieces(p->k, p->s, (uint16_t)x->index, x->arg, x->oob, p->axis, NEAR, &bits) && bits <= 32;
}

/* Can threads take NEAR neighbours, aligned ones? */
static bool in_fours(const Kernel *k, int prefix, Dim extent) {
    Pieces p = {.k = k, .axis = prefix, .ok = dim_divisible(k->c, extent, NEAR)};
    for (int st = 0; st < k->nstage; st++) {
        p.s = &k->stage[st];
        for (int r = 0; r < p.s->nres; r++) {
            const KOut *o = &p.s->out[r];
            ExprInfo result = {.index = o->buf, .oob = o->oob, .arg = o->at};
            expr_loads(k->c, p.s->body[r], in_pieces, &p);
            if (k->buf[o->buf].kind == KB_OUT) in_pieces(&p, &result);
        }
    }
    return p.ok;
}

static int rows_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    (void)t, (void)max;
    int prefix = nest_prefix(k);
    double most = 0;
    for (int st = 0; st < k->nstage; st++) {
        int v = thread_axis(k, &k->stage[st], prefix);
        double n = v >= 0 ? dim_typical(k->c, k->stage[st].axis[v].extent) : 0;
        if (v >= 0 && dim_hi(k->c, k->stage[st].axis[v].extent) >= LENGTHS && n < ENDLESS) n = ENDLESS;
        most = n > most ? n : most;
    }
    int threads = LEAST;
    while (threads < MOST && threads * EACH < most) threads *= 2;
    Uses u;
    Dim extent;
    int64_t hi = fits(k, prefix, &extent, &u) ? dim_hi(k->c, extent) : INT64_MAX;
    int64_t held = hi <= (int64_t)threads * MOST_HELD ? (hi + threads - 1) / threads : 0;
    int64_t near = held && in_fours(k, prefix, extent) ? NEAR : 1;
    held = (held + near - 1) / near * near;
    out[0].par[PAR_PREFIX] = prefix;
    out[0].par[PAR_THREADS] = threads;
    out[0].par[PAR_HELD] = held;
    out[0].par[PAR_NEAR] = near;
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

/* ---- reductions by all threads ---- */

/* acc of all threads combined, in every thread. All come here. */
static LVal together(Rows *r, const Stage *s, LVal acc) {
    Lir *l = r->l;
    int warps = r->threads / WARP;
    LVal part[MOST / WARP];
    LTy ty = lir_type(l, acc);
    for (uint32_t mask = WARP / 2; mask; mask /= 2) {
        LVal other = emit_lane_xor(l, acc, mask);
        acc = emit_combine(r->e, s, 0, &acc, &other);
    }
    if (warps == 1) return acc;
    LVal slot = lir_shared(l, r->slot), warp = lir_i64(l, WARP);
    r->slot += (uint32_t)warps * SLOT;
    LIf first = lir_if(l, lir_op2(l, S_EQ, lir_op2(l, S_REM, r->tid, warp), lir_i64(l, 0)), 0);
    lir_store(l, slot, lir_op2(l, S_DIV, r->tid, warp), acc, (LVal){0}, 0);
    lir_else(l, &first, NULL);
    lir_endif(l, &first, NULL, NULL);
    lir_barrier(l);
    for (int w = 0; w < warps; w++) part[w] = lir_load(l, slot, lir_i64(l, w), ty, (LVal){0}, 0);
    for (int half = warps / 2; half; half /= 2)
        for (int w = 0; w < half; w++) part[w] = emit_combine(r->e, s, 0, &part[w], &part[w + half]);
    return part[0];
}

/* The loops over the reduced axes from `a` on; the one at `split` goes over this thread's elements. acc in, acc out. */
static void reduce(Rows *r, const Stage *s, int a, int split, LVal *acc, Point *p) {
    Lir *l = r->l;
    while (a < s->naxis && s->axis[a].kind != AX_RED) a++;
    if (a == s->naxis) {
        emit_accumulate(r->e, s, acc, p);
        return;
    }
    const int64_t step = a == split ? r->threads : 1;
    LVal lo = a == split ? r->tid : lir_i64(l, 0), hi = emit_dim(r->e, s->axis[a].extent), next[K_RES];
    Parts parts = emit_parts(r->e, s, dim_hi(r->e->c, s->axis[a].extent) / step, emit_terms(r->e, s, a + 1, split, r->threads), step, &lo, &hi,
                             s->nres, acc);
    LFor f = lir_for(l, lo, hi, lir_i64(l, step), s->nres, acc);
    memcpy(next, f.c, s->nres * sizeof *next);
    if (parts.size.each) emit_initial_all(r->e, s, s->nres, next);
    p->axis[a] = f.iv;
    reduce(r, s, a + 1, split, next, p);
    if (parts.size.each) emit_add_part(r->e, s, s->nres, f.c, next);
    lir_for_end(l, &f, next, acc);
    emit_parts_end(r->e, s, &parts, s->nres, acc);
}

/* ---- rows in scratch ---- */

/* The total of a stage, split along axis v, in every thread. */
static LVal reduce_together(Rows *r, const Stage *s, int v, const Point *p) {
    Point q = *p;
    LVal acc = emit_initial(r->e, s, 0, 1);
    emit_memo_reset(r->e);
    reduce(r, s, 0, v, &acc, &q);
    emit_memo_reset(r->e);
    return together(r, s, acc);
}

/* A point of all parallel axes, which is this thread's alone. */
static void point(Rows *r, int st, const Point *p) {
    Emit *e = r->e;
    const Stage *s = &e->k->stage[st];
    LVal acc[K_RES];
    Point q = *p, par;
    emit_memo_reset(e);
    for (int i = 0; i < s->nres; i++)
        acc[i] = s->comb[0].i ? emit_initial(e, s, i, 1)
            : reg_cast(e, emit_expr(e, s, s->body[i], &q), expr_info(e->c, s->body[i])->dtype, s->acc[i]);
    if (s->comb[0].i) reduce(r, s, 0, -1, acc, &q);
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
    LFor f = lir_for(l, here ? r->tid : lir_i64(l, 0), emit_dim(e, s->axis[a].extent), lir_i64(l, here ? r->threads : 1), 0, NULL);
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

static void run_in_scratch(Rows *r, const uint64_t *epilogue, const Point *task) {
    uint64_t done = 0;
    for (int st = 0; st < r->e->k->nstage; st++) {
        if (done >> st & 1) continue;
        done |= epilogue[st];
        stage(r, st, task);
    }
}

/* ---- rows in registers ---- */

static LVal row_value(Emit *e, void *data, const Expr *at, const Point *p) {
    Row *x = data;
    EmitHeld h = {x->v[x->one ? 0 : *x->j], x->from, x->to};
    return emit_held(e, &h, at, p);
}

static Row *hold(Rows *r, uint32_t b, DType from, bool one) {
    Row *x = &r->row[b];
    *x = (Row){.from = from, .to = r->e->k->buf[b].dtype, .one = one, .j = &r->j};
    r->e->temp[b] = row_value;
    r->e->temp_data[b] = x;
    return x;
}

static Point element(Rows *r, const Point *task) {
    Point p = *task;
    p.axis[r->prefix] = r->at[r->j];
    r->e->aligned = r->j % r->near ? 0 : (uint8_t)r->near;
    emit_memo_reset(r->e);
    return p;
}

/* Operands that several stages read, each at its own point alone. */
static void load_operands(Rows *r, const Uses *u, const Point *task) {
    Emit *e = r->e;
    for (uint32_t b = 0; b < e->k->nbuf; b++) {
        const ExprInfo *x = &u->load[b];
        bool along = false;
        for (int d = 0; u->loads[b] && d < e->k->buf[b].rank; d++) along |= expr_uses_axis(e->c, x->arg[d], (uint32_t)r->prefix);
        if (u->out[b] || u->loads[b] < 2 || !u->same[b] || !along) continue;
        Expr pad = x->oob == OOB_VALUE ? x->arg[x->narg - 1] : (Expr){0};
        Expr load = expr_load(e->c, b, x->dtype, e->k->buf[b].rank, x->arg, x->oob, pad, x->guard);
        LVal v[MOST_HELD];
        for (r->j = 0; r->j < r->held; r->j++) {
            Point p = element(r, task);
            v[r->j] = emit_expr(e, &e->k->stage[u->last[b]], load, &p);
        }
        e->aligned = 0;
        Row *row = hold(r, b, e->k->buf[b].dtype, false);
        memcpy(row->v, v, sizeof v);
    }
}

/* Results of a stage that the model wants: elements [j, j + n) that this thread has, if `when`. */
static void leave_results(Rows *r, const Stage *s, LVal value[][MOST_HELD], int j, int n, LVal when, const Point *task) {
    bool any = false;
    for (int i = 0; i < s->nres; i++) any |= r->e->ptr[s->out[i].buf].i != 0;
    if (!any) return;
    LIf here = {0};
    if (when.i) here = lir_if(r->l, when, 0);
    for (int i = 0; i < s->nres; i++)
        for (r->j = j; r->j < j + n; r->j++) {
            Point p = element(r, task);
            emit_store(r->e, s, i, value[i][r->j], &p);
        }
    r->e->aligned = 0;
    emit_memo_reset(r->e);
    if (!when.i) return;
    lir_else(r->l, &here, NULL);
    lir_endif(r->l, &here, NULL, NULL);
}

static void held_stage(Rows *r, const Stage *s, const Point *task) {
    Emit *e = r->e;
    Lir *l = r->l;
    bool own = s->naxis > r->prefix, sum = own && s->axis[r->prefix].kind == AX_RED, one = !own || sum;
    LVal acc = {0}, first = lir_op2(l, S_EQ, r->tid, lir_i64(l, 0)), value[K_RES][MOST_HELD];
    if (sum) acc = emit_initial(e, s, 0, 1);
    for (int j = 0; j < (own ? r->held : 1); j++) {
        r->j = j;
        Point p = element(r, task);
        if (sum) {
            LVal next = acc;
            emit_accumulate(e, s, &next, &p);
            acc = r->in[j].i ? lir_op3(l, S_SELECT, r->in[j], next, acc) : next;
            continue;
        }
        for (int i = 0; i < s->nres; i++)
            value[i][j] = reg_cast(e, emit_expr(e, s, s->body[i], &p), expr_info(e->c, s->body[i])->dtype, s->acc[i]);
    }
    e->aligned = 0;
    emit_memo_reset(e);
    if (sum) value[0][0] = together(r, s, acc);
    if (one) leave_results(r, s, value, 0, 1, first, task);
    for (int j = 0; j < r->held && !one; j += r->near) leave_results(r, s, value, j, r->near, r->in[j], task);
    for (int i = 0; i < s->nres; i++) {
        Row *x = hold(r, s->out[i].buf, s->acc[i], one);
        memcpy(x->v, value[i], sizeof x->v);
    }
}

static void run_in_registers(Rows *r, const Uses *u, Dim extent, const Point *task) {
    Emit *e = r->e;
    Lir *l = r->l;
    int64_t least = dim_lo(e->c, extent);
    LVal n = emit_dim(e, extent);
    r->slot = 0;
    for (int j = 0; j < r->held; j++) {
        int64_t piece = j / r->near, size = (int64_t)r->threads * r->near;
        if (j % r->near) {
            r->at[j] = lir_addi(l, r->at[j - 1], 1);
            r->in[j] = r->in[j - 1];
            continue;
        }
        bool sure = (piece + 1) * size <= least;
        r->at[j] = lir_addi(l, lir_muli(l, r->tid, r->near), piece * size);
        r->in[j] = sure ? (LVal){0} : lir_op2(l, S_LT, r->at[j], n);
        if (!sure) r->at[j] = lir_op2(l, S_MIN, r->at[j], lir_addi(l, n, -r->near));
    }
    load_operands(r, u, task);
    for (int st = 0; st < e->k->nstage; st++) held_stage(r, &e->k->stage[st], task);
    if (r->slot && r->slot == (uint32_t)(r->threads / WARP) * SLOT) lir_barrier(l); /* the next row uses the same place */
    memset(e->temp, 0, sizeof e->temp);
}

static uint32_t reductions(const Kernel *k) {
    uint32_t n = 0;
    for (int st = 0; st < k->nstage; st++) n += k->stage[st].comb[0].i != 0;
    return n;
}

static void rows_build(Emit *e) {
    const Sched *c = e->s;
    Rows r = {.e = e, .l = e->l, .prefix = (int)c->par[PAR_PREFIX], .threads = (int)c->par[PAR_THREADS], .held = (int)c->par[PAR_HELD],
              .near = (int)c->par[PAR_NEAR]};
    Lir *l = e->l;
    uint64_t epilogue[64];
    Dim extent;
    Uses uses;
    const Stage *first = &e->k->stage[0];
    lir_block(l, (uint32_t)r.threads, reductions(e->k) * (uint32_t)(r.threads / WARP) * SLOT);
    r.tid = lir_tid(l);
    e->aligned_axis = (uint8_t)r.prefix;
    if (r.held) {
        CHECK(fits(e->k, r.prefix, &extent, &uses));
        r.row = NEWN(e->c, Row, e->k->nbuf);
    } else {
        for (int st = 0; st < e->k->nstage; st++) epilogue[st] = epilogue_mask(e->k, st);
        e->code->scratch = nest_temps(e, r.prefix, epilogue);
    }
    Point p = {.vaxis = -1, .lanes = 1};
    Tasks tasks = {0};
    tasks_points(&tasks, first, (1u << r.prefix) - 1, &p);
    tasks_begin(e, &tasks);
    LFor t = lir_for_tasks(l, lir_tstep(l), 0, NULL);
    tasks_split(e, &tasks, t.iv);
    if (r.held) run_in_registers(&r, &uses, extent, &p);
    else run_in_scratch(&r, epilogue, &p);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_rows = {"rows", "prefix threads held near", F_BLOCKS, rows_match, rows_candidates, rows_cost, rows_build};
