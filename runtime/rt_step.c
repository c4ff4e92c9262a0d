/* rt_step.c: what tools may want to know about the steps of a session. */
#include "rt_internal.h"

/* The terms of a kernel that belong to an argument, or (-1) to none. */
static double term_sum(const Sess *s, const rt_step *st, int32_t buf) {
    const char *plan = (const char *)s->plan;
    const rt_work *w = (const rt_work *)(const void *)(plan + s->plan->work);
    const rt_term *term = (const rt_term *)(const void *)(plan + w->term.off);
    const int32_t *dim = (const int32_t *)(const void *)(plan + w->dim.off);
    double sum = 0;
    for (int32_t t = st->a; t < st->b; t++) {
        double x = term[t].factor;
        for (int32_t d = 0; d < term[t].n; d++) {
            int64_t n = s->dims[dim[term[t].dim + d]];
            x *= n > 0 ? (double)n : 0;
        }
        if (term[t].buf == buf) sum += x;
    }
    return sum;
}

RT_API accelc_status accelc_rt1_step_info(const accelc_session *s, int step, accelc_step *info) {
    if (!s || !info || info->size < sizeof info->size || step < 0 || (uint32_t)step >= s->nstep) return ACCELC_EINVAL;
    const rt_step *st = &s->step[step];
    accelc_step x = {.size = info->size, .device = on_device(s, st) ? s->where : 0, .kernel = s->str + st->name, .onnx_nodes = s->str + st->nodes,
                     .schedule = ""};
    if (st->op == RT_KERNEL) {
        x.tasks = s->dims[st->tasks];
        if (s->plan->work) {
            x.schedule = s->str + st->imm;
            x.operations = term_sum(s, st, -1);
        }
        for (uint32_t k = 0; k < st->nbuf && s->plan->work; k++) {
            double moved = term_sum(s, st, (int32_t)k), most = (double)buf_bytes(s, s->arg[st->arg + (int32_t)k]);
            x.bytes += moved < most ? moved : most;
        }
    }
    memcpy(info, &x, info->size < sizeof x ? info->size : sizeof x);
    return ACCELC_OK;
}
