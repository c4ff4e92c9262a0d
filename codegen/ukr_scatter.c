/* ukr_scatter.c: template `scatter`, for GPUs: updates of a tensor that is already where the result goes. Tasks are points of the axes that index the
 * result themselves: what differs there goes to different elements, so a task applies all of its updates in order, beside the others. */
#include "emit_internal.h"
#include "ukr.h"

static bool scatter_match(const Kernel *k, const Target *t) {
    (void)t;
    return k->nstage == 1 && k->stage[0].kind == ST_SCATTER && scatter_own_axes(k, &k->stage[0]);
}

static int scatter_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    (void)k, (void)t, (void)out, (void)max;
    return 1;
}

/* A thread of each task, against one of `nest` for those of the leading axes alone. */
static double scatter_cost(const Kernel *k, const Sched *s, const Target *t) {
    (void)s;
    return nest_stage_cost(k, &k->stage[0], t) / 2;
}

/* The updates of a task: loops over the axes of `rest` from `a` on. */
static void updates(Emit *e, const Stage *s, uint32_t rest, int a, Point *p) {
    Lir *l = e->l;
    while (a < s->naxis && !(rest >> a & 1)) a++;
    emit_memo_reset(e);
    if (a == s->naxis) {
        LVal v = reg_cast(e, emit_expr(e, s, s->body[0], p), expr_info(e->c, s->body[0])->dtype, s->acc[0]);
        emit_store(e, s, 0, v, p);
        return;
    }
    LFor f = lir_for(l, lir_i64(l, 0), emit_dim(e, s->axis[a].extent), lir_i64(l, 1), 0, NULL);
    p->axis[a] = f.iv;
    updates(e, s, rest, a + 1, p);
    lir_for_end(l, &f, NULL, NULL);
    emit_memo_reset(e);
}

static void scatter_build(Emit *e) {
    const Stage *s = &e->k->stage[0];
    Lir *l = e->l;
    uint32_t own = scatter_own_axes(e->k, s);
    Point p = {.vaxis = -1, .lanes = 1};
    Tasks tasks = {0};
    tasks_points(&tasks, s, own, &p);
    tasks_begin(e, &tasks);
    LFor t = lir_for_tasks(l, lir_tstep(l), 0, NULL);
    tasks_split(e, &tasks, t.iv);
    updates(e, s, ~own, 0, &p);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_scatter = {"scatter", "", F_BLOCKS, scatter_match, scatter_candidates, scatter_cost, scatter_build};
