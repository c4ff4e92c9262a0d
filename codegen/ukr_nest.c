/* ukr_nest.c: template `nest`, row 0 of the table: takes every kernel and is always right. Leading parallel axes that all
 * stages share are the task space (so softmax and the norms run a whole row per task, temporaries in the thread's
 * scratch); inside a task each stage is a loop nest, vectorised along one axis: a parallel one if an access is contiguous
 * there, else the innermost reduced one.
 *
 * Order of reduction along a vectorised reduced axis of extent n with L lanes: element i goes to lane i mod (L*U), with U = 4 if n is known
 * to be at least 4*L, else 1; lanes are combined by halves. It depends on shapes and the CPU level alone.
 *
 * Reductions and scans along a vectorised parallel axis keep accumulators in registers, several vectors of them side by side, while all reduced axes
 * run; where that would touch too many rows per vector (nest_by_rows), they keep those of a strip in scratch and read row after row. */
#include <string.h>

#include "nest.h"

enum { PAR_PREFIX, PAR_CHUNK, PAR_ROWS };
enum { CHUNK = 2048, CHUNK_OF_CHAINS = 512 };

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
        (nest_by_rows(n->k, n->e->t, st, v) ? nest_strip_loop : nest_vector_loop)(n, st, p, v, lanes, lo, hi);
    } else nest_point(n, st, p, v, lanes);
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
        int v = nest_vector_axis(k, s, t, 0);
        bool par = v >= 0 && s->axis[v].kind == AX_PAR;
        if (npar == 1 && par) out[0].par[PAR_CHUNK] = s->comb[0].i ? CHUNK_OF_CHAINS : CHUNK;
        if (prefix > 0 && v >= 0 && v < prefix) prefix = v;
        if (out[0].par[PAR_CHUNK]) prefix = 0;
        out[0].par[PAR_PREFIX] = prefix;
        out[0].par[PAR_ROWS] = nest_columns_rows(k, t, prefix);
    }
    return 1;
}

double nest_stage_cost(const Kernel *k, const Stage *g, const Target *t) {
    double points = 1;
    for (int a = 0; a < g->naxis; a++) points *= dim_typical(k->c, g->axis[a].extent);
    int cost = 2;
    for (int r = 0; r < g->nres; r++) cost += expr_cost(k->c, g->body[r]);
    int v = nest_vector_axis(k, g, t, 0);
    int strided = v >= 0 ? nest_strided(k, g, v) : 0;
    return points * (cost / (v >= 0 ? (double)target_lanes(t, DT_F32) : 1) + strided);
}

static double nest_cost(const Kernel *k, const Sched *s, const Target *t) {
    (void)s;
    double total = 0;
    for (int st = 0; st < k->nstage; st++) total += nest_stage_cost(k, &k->stage[st], t);
    return total;
}

static uint64_t stage_reads(const Kernel *k, const Stage *s) {
    uint64_t m = 0;
    for (int r = 0; r < s->nres; r++) m |= expr_bufs(k->c, s->body[r]);
    return m;
}

Dim nest_temps(Emit *e, int prefix, const uint64_t *epilogue) {
    const Kernel *k = e->k;
    Kernel *local = NEW(e->c, Kernel);
    *local = *k;
    Dim at = dim_const(e->c, 0);
    uint64_t homeless = 0, ride = 0;
    for (int st = 0; st < k->nstage; st++) {
        uint64_t reads = 0;
        if (ride >> st & 1) continue;
        ride |= epilogue[st];
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
        LVal room = lir_scratch(e->l);
        e->ptr[b] = lir_ptr_bytes(e->l, room, emit_dim(e, at));
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
        bool strip = nest_by_rows(n->k, e->t, st, n->axis[st]);
        if (!strip && (s->kind == ST_NEST || s->kind == ST_SCAN || s->kind == ST_SCATTER)) continue;
        LVal room = lir_scratch(e->l);
        n->special[st] = lir_ptr_bytes(e->l, room, emit_dim(e, at));
        at = dim_add(e->c, at, strip ? nest_strip_bytes(e, s) : special_scratch(e, s));
    }
    e->code->scratch = at;
}

static void mark_done(Nest *n, int st) {
    n->done[st] = true;
    for (int u = st + 1; u < n->k->nstage; u++) if (n->epilogue[st] >> u & 1) n->done[u] = true;
}

/* A short row is done before its chains are: a maximum waits for the last element, all elements wait for the maximum. So stages take turns over a few
 * rows, each of which has temporaries of its own, `row` bytes. */
static int64_t rows_together(const Nest *n, Dim row) {
    enum { ROWS = 4, SHORT = 256, ROOM = 16 << 10 };
    const Kernel *k = n->k;
    int64_t bytes, runs = 0;
    bool reduces = false;
    if (!(n->e->t->flags & F_SIMD) || n->chunk_axis >= 0 || n->prefix < 1 || !dim_is_const(k->c, row, &bytes) || bytes * ROWS > ROOM) return 1;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        bool rides = false;
        double points = 1;
        for (int u = 0; u < st; u++) rides |= n->epilogue[u] >> st & 1;
        for (int a = n->prefix; a < s->naxis; a++) points *= (double)dim_hi(k->c, s->axis[a].extent);
        if (s->kind != ST_NEST || n->special[st].i || points > SHORT) return 1;
        reduces |= s->comb[0].i != 0;
        runs += !rides;
    }
    return reduces && runs > 1 ? ROWS : 1;
}

/* The axes of a task. */
static void task_point(const Nest *n, LVal task, Point *p) {
    Tasks tasks = {0};
    tasks_points(&tasks, &n->k->stage[0], (1u << n->prefix) - 1, p);
    tasks_split(n->e, &tasks, task);
}

void nest_stage(Nest *n, int st, const Point *p) {
    Emit *e = n->e;
    const Stage *s = &n->k->stage[st];
    int v = n->axis[st];
    uint16_t lanes = v >= 0 ? target_lanes(e->t, nest_widest(n->k, s)) : 1;
    if (v >= 0) {
        int64_t hi = dim_hi(e->c, s->axis[v].extent);
        while (lanes > 2 && lanes / 2 >= hi) lanes /= 2;
        if (nest_pairs(n, st) && hi >= 4 * lanes && lanes <= target_lanes(e->t, DT_I32)) lanes *= 2;
    }
    Point q = *p;
    if (n->chunk_axis < 0) for (int a = n->prefix; a < K_AXES; a++) q.axis[a] = (LVal){0};
    if (nest_reduces_next(n, st, lanes)) {
        mark_done(n, st + 1);
        nest_map_and_reduce(n, st, &q);
    } else stage_loops(n, st, n->prefix, &q, v, lanes);
}

void nest_points(Emit *e, int from, const Point *p) {
    Nest n = {.e = e, .k = e->k, .prefix = from, .chunk_axis = -1, .jam = 1, .together = 1};
    n.axis[0] = nest_vector_axis(e->k, &e->k->stage[0], e->t, from);
    nest_stage(&n, 0, p);
}

/* The stages of the tasks from `first` on, in turns, fewer at the end. */
static void run_rows(Nest *n, LVal first, Dim row) {
    Emit *e = n->e;
    Lir *l = e->l;
    LVal count = lir_op2(l, S_MIN, lir_i64(l, n->together), lir_sub(l, lir_t1(l), first)), home[K_BUFS];
    memcpy(home, e->ptr, sizeof home);
    for (int st = 0; st < n->k->nstage; st++) {
        if (n->done[st]) continue;
        mark_done(n, st);
        LFor f = lir_for(l, lir_i64(l, 0), count, lir_i64(l, 1), 0, NULL);
        Point p = {.vaxis = -1, .lanes = 1};
        task_point(n, lir_add(l, first, f.iv), &p);
        for (int b = 0; b < n->k->nbuf; b++)
            if (n->k->buf[b].kind == KB_TEMP && home[b].i) e->ptr[b] = lir_ptr_bytes(l, home[b], lir_mul(l, f.iv, emit_dim(e, row)));
        nest_stage(n, st, &p);
        lir_for_end(l, &f, NULL, NULL);
    }
    memcpy(e->ptr, home, sizeof home);
}

void nest_run(Emit *e, int prefix, int64_t chunk) {
    Nest n = {.e = e, .k = e->k, .prefix = prefix, .chunk_axis = -1, .jam = 1, .together = 1};
    Lir *l = e->l;
    CHECK(e->k->nstage <= 64);
    for (int st = 0; st < e->k->nstage; st++) n.epilogue[st] = e->k->stage[st].kind == ST_NEST ? epilogue_mask(e->k, st) : 0;
    Dim scratch = nest_temps(e, n.prefix, n.epilogue);
    n.k = e->k;
    const Stage *first = &n.k->stage[0];
    if (chunk) n.chunk_axis = nest_vector_axis(n.k, first, e->t, 0);
    for (int st = 0; st < n.k->nstage; st++) {
        const Stage *s = &n.k->stage[st];
        bool nest = s->kind == ST_NEST || s->kind == ST_SCAN;
        n.axis[st] = s->kind == ST_SCATTER ? nest_scatter_axis(n.k, s, e->t) : -1;
        if (nest) n.axis[st] = chunk ? n.chunk_axis : nest_vector_axis(n.k, s, e->t, n.prefix);
    }
    place_special(&n, scratch);
    n.together = rows_together(&n, scratch);
    for (int st = 0; st < n.k->nstage; st++) n.ahead[st] = nest_ahead(&n, st);
    Point p = {.vaxis = -1, .lanes = 1};
    Tasks tasks = {0};
    if (chunk) tasks_along(&tasks, dim_ceildiv(e->c, first->axis[n.chunk_axis].extent, dim_const(e->c, chunk)), &p.axis[n.chunk_axis]);
    else tasks_points(&tasks, first, (1u << n.prefix) - 1, &p);
    tasks_begin(e, &tasks);
    tasks_grain(e, nest_cost(n.k, e->s, e->t));
    bool together = chunk && nest_by_rows(n.k, e->t, 0, n.chunk_axis); /* all chunks of a thread at once: longer rows */
    if (n.together > 1) e->code->scratch = dim_muli(e->c, scratch, n.together);
    LVal t0 = lir_t0(l), step = together ? lir_sub(l, lir_t1(l), t0) : n.together > 1 ? lir_i64(l, n.together) : lir_tstep(l);
    LFor t = lir_for_tasks(l, step, 0, NULL);
    tasks_split(e, &tasks, t.iv);
    if (chunk) {
        p.axis[n.chunk_axis] = lir_muli(l, t.iv, chunk);
        LVal end = together ? lir_muli(l, lir_t1(l), chunk) : lir_addi(l, p.axis[n.chunk_axis], chunk);
        p.axis[K_AXES - 1] = lir_op2(l, S_MIN, end, emit_dim(e, first->axis[n.chunk_axis].extent));
    }
    if (n.together > 1) run_rows(&n, t.iv, scratch);
    for (int st = 0; st < n.k->nstage; st++) {
        if (n.done[st]) continue;
        mark_done(&n, st);
        nest_stage(&n, st, &p);
    }
    lir_for_end(l, &t, NULL, NULL);
}

static void nest_build(Emit *e) {
    if (e->s->par[PAR_ROWS]) nest_by_columns(e, e->s->par[PAR_ROWS]);
    else nest_run(e, (int)e->s->par[PAR_PREFIX], e->s->par[PAR_CHUNK]);
}

const Tmpl tmpl_nest = {"nest", "prefix chunk rows", 0, nest_match, nest_candidates, nest_cost, nest_build};

