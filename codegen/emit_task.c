/* emit_task.c: the tasks of a template: the points of a box, one each. The number of a task less than all coordinates but the outermost is that one,
 * so it takes no remainder. */
#include "emit_internal.h"

void tasks_along(Tasks *t, Dim count, LVal *at) {
    CHECK(t->n < TASK_COORDINATES);
    t->count[t->n] = count;
    t->at[t->n++] = at;
}

void tasks_axes(Tasks *t, const Stage *s, const int *axis, int n, LVal *at) {
    for (int i = n - 1; i >= 0; i--) tasks_along(t, s->axis[axis[i]].extent, &at[axis[i]]);
}

void tasks_points(Tasks *t, const Stage *s, uint32_t axes, Point *p) {
    for (int a = s->naxis - 1; a >= 0; a--)
        if (axes >> a & 1) tasks_along(t, s->axis[a].extent, &p->axis[a]);
}

void tasks_begin(Emit *e, const Tasks *t) {
    e->code->tasks = dim_const(e->c, 1);
    for (int i = 0; i < t->n; i++) e->code->tasks = dim_mul(e->c, e->code->tasks, t->count[i]);
}

void tasks_grain(Emit *e, double cycles) {
    enum { WORTH = 4000 }; /* cycles for which a thread is asked */
    double tasks = dim_typical(e->c, e->code->tasks), per = cycles / (tasks > 0 ? tasks : 1);
    e->code->grain = per >= WORTH ? 1 : (int64_t)(WORTH / (per + 1)) + 1;
}

void tasks_split(Emit *e, const Tasks *t, LVal task) {
    int last = t->n - 1;
    while (last >= 0 && dim_is(e->c, t->count[last], 1)) last--;
    for (int i = 0; i < t->n; i++) {
        if (i >= last) {
            *t->at[i] = i == last ? task : lir_i64(e->l, 0);
            continue;
        }
        LVal n = emit_dim(e, t->count[i]);
        *t->at[i] = lir_op2(e->l, S_REM, task, n);
        task = lir_op2(e->l, S_DIV, task, n);
    }
}
