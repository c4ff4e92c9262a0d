/* ukr_turn.c: template `turn`, for GPUs: what `transpose` takes, by blocks. A block has a tile of points: its threads read operands that lie along
 * the other axis where neighbours are neighbours in memory, put them into shared memory, and take from there what the points along the result's rows
 * need. Rows of the tile are one element longer than they must be, so that neither way meets in a bank. */
#include "transpose.h"
#include "ukr.h"

enum { SIDE = 32, THREADS = 256, ROWS = THREADS / SIDE /* of a tile that its threads have at once */, PITCH = SIDE + 1, LEAST = 8 };

static bool turn_match(const Kernel *k, const Target *t) {
    Crossings p;
    (void)t;
    if (!transpose_plan(k, &p)) return false;
    const Stage *s = &k->stage[0];
    return dim_typical(k->c, s->axis[p.u].extent) >= LEAST && dim_typical(k->c, s->axis[p.w].extent) >= LEAST;
}

static int turn_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    (void)k, (void)t, (void)out, (void)max;
    return 1;
}

static double turn_cost(const Kernel *k, const Sched *s, const Target *t) {
    double total = 0;
    (void)s;
    for (int st = 0; st < k->nstage; st++) total += nest_stage_cost(k, &k->stage[st], t);
    return total / 2;
}

typedef struct Turn {
    Emit *e;
    Lir *l;
    Crossings p;
    LVal lane, row;                    /* of this thread, in the tile */
    LVal tile[MAX_CROSSING];           /* shared memory */
    LTy type[MAX_CROSSING];
    LVal now[MAX_CROSSING];            /* the values of a point */
} Turn;

static LVal turned(Emit *e, void *data, const Expr *at, const Point *p) {
    (void)e, (void)at, (void)p; /* the very access that the tile was loaded by */
    return *(LVal *)data;
}

/* A loop over the thread's points of a tile that begins at a0, b0: its lane along axis a, its row and every ROWS-th after it along axis b. *in: where
 * they are points of the kernel. */
static LFor walk(Turn *t, Point *p, int a, LVal a0, int b, LVal b0, LIf *in) {
    Lir *l = t->l;
    const Stage *s = &t->e->k->stage[0];
    LFor f = lir_for(l, t->row, lir_i64(l, SIDE), lir_i64(l, ROWS), 0, NULL);
    p->axis[a] = lir_add(l, a0, t->lane);
    p->axis[b] = lir_add(l, b0, f.iv);
    LVal inside = lir_op2(l, S_LT, p->axis[a], emit_dim(t->e, s->axis[a].extent));
    *in = lir_if(l, lir_op2(l, S_AND, inside, lir_op2(l, S_LT, p->axis[b], emit_dim(t->e, s->axis[b].extent))), 0);
    emit_memo_reset(t->e);
    return f;
}

static void walk_end(Turn *t, LFor *f, LIf *in) {
    lir_else(t->l, in, NULL);
    lir_endif(t->l, in, NULL, NULL);
    lir_for_end(t->l, f, NULL, NULL);
    emit_memo_reset(t->e);
}

static void one_tile(Turn *t, Point *p, LVal u0, LVal w0) {
    Emit *e = t->e;
    Lir *l = t->l;
    const Stage *s = &e->k->stage[0];
    LIf in;
    LFor f = walk(t, p, t->p.w, w0, t->p.u, u0, &in);
    LVal at = lir_add(l, lir_muli(l, f.iv, PITCH), t->lane);
    for (int c = 0; c < t->p.ncross; c++) {
        LVal v = emit_expr(e, s, t->p.cross[c].load, p);
        t->type[c] = lir_type(l, v);
        lir_store(l, t->tile[c], at, v, (LVal){0}, 0);
    }
    walk_end(t, &f, &in);
    lir_barrier(l);
    f = walk(t, p, t->p.u, u0, t->p.w, w0, &in);
    at = lir_add(l, lir_muli(l, t->lane, PITCH), f.iv);
    for (int c = 0; c < t->p.ncross; c++) {
        t->now[c] = lir_load(l, t->tile[c], at, t->type[c], (LVal){0}, 0);
        e->temp[t->p.cross[c].buf] = turned;
        e->temp_data[t->p.cross[c].buf] = &t->now[c];
    }
    LVal v = reg_cast(e, emit_expr(e, s, s->body[0], p), expr_info(e->c, s->body[0])->dtype, s->acc[0]);
    emit_epilogue(e, 0, &v, p);
    for (int c = 0; c < t->p.ncross; c++) e->temp[t->p.cross[c].buf] = NULL;
    walk_end(t, &f, &in);
    lir_barrier(l); /* the next tile may come */
}

static void turn_build(Emit *e) {
    Turn t = {.e = e, .l = e->l};
    Lir *l = e->l;
    const Stage *s = &e->k->stage[0];
    uint32_t bytes = 0;
    CHECK(transpose_plan(e->k, &t.p));
    for (int c = 0; c < t.p.ncross; c++) bytes += SIDE * PITCH * 8;
    lir_block(l, THREADS, bytes);
    for (int c = 0; c < t.p.ncross; c++) t.tile[c] = lir_shared(l, (uint32_t)c * SIDE * PITCH * 8);
    LVal tid = lir_tid(l);
    t.lane = lir_remi(l, tid, SIDE);
    t.row = lir_divi(l, tid, SIDE);
    Dim side = dim_const(e->c, SIDE);
    Point p = {.vaxis = -1, .lanes = 1};
    LVal u, w;
    Tasks tasks = {0};
    tasks_along(&tasks, dim_ceildiv(e->c, s->axis[t.p.u].extent, side), &u);
    tasks_along(&tasks, dim_ceildiv(e->c, s->axis[t.p.w].extent, side), &w);
    tasks_points(&tasks, s, ~(1u << t.p.u | 1u << t.p.w), &p);
    tasks_begin(e, &tasks);
    LFor f = lir_for_tasks(l, lir_tstep(l), 0, NULL);
    tasks_split(e, &tasks, f.iv);
    u = lir_muli(l, u, SIDE), w = lir_muli(l, w, SIDE);
    one_tile(&t, &p, u, w);
    lir_for_end(l, &f, NULL, NULL);
}

const Tmpl tmpl_turn = {"turn", "", F_BLOCKS, turn_match, turn_candidates, turn_cost, turn_build};
