/* emit_task.c: points of some axes of a stage as tasks: one for each, the innermost of these axes running fastest. */
#include "emit_internal.h"

Dim emit_tasks(const Emit *e, const Stage *s, uint32_t axes) {
    Dim n = dim_const(e->c, 1);
    for (int a = 0; a < s->naxis; a++)
        if (axes >> a & 1) n = dim_mul(e->c, n, s->axis[a].extent);
    return n;
}

void emit_task_point(Emit *e, const Stage *s, uint32_t axes, LVal task, Point *p) {
    for (int a = s->naxis - 1; a >= 0; a--) {
        if (!(axes >> a & 1)) continue;
        LVal n = emit_dim(e, s->axis[a].extent);
        p->axis[a] = lir_op2(e->l, S_REM, task, n);
        task = lir_op2(e->l, S_DIV, task, n);
    }
}
