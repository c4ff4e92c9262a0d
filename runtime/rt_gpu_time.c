/* rt_gpu_time.c: how long the device was busy with each kernel, for config.on_step: an event before and one after each launch. Nothing is waited
 * for but the end of the run, and a run that is played again (rt_gpu_tape.c) has its events in its graph, so kernels follow each other as they do
 * without a clock. The events of all runs are the same ones: each run has been waited for when the next begins. */
#include "rt_gpu.h"

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* One more launch of `step`, of which no event is recorded yet. */
static Timed *timed_next(Sess *s, uint32_t step) {
    Device *d = s->device;
    if (!grow(s, (void **)&d->timed, d->ntimed, &d->mosttimed, 1, sizeof *d->timed)) return NULL;
    Timed *t = &d->timed[d->ntimed];
    if (d->ntimed == d->nevents) {
        if (d->cu.event_new(&t->begin, CU_EVENT_DEFAULT) != 0) return NULL;
        if (d->cu.event_new(&t->end, CU_EVENT_DEFAULT) != 0) {
            d->cu.event_free(t->begin);
            return NULL;
        }
        d->nevents++;
    }
    if (d->ntimed++ == 0) d->timed_from = now_ns();
    t->step = step;
    return t;
}

/* Of a launch into a stream that is captured, the events are part of the graph. */
static CUresult timed_event(const Device *d, CUevent e, CUstream stream, bool captured) {
    return captured ? d->cu.event_in_graph(e, stream, CU_EVENT_RECORD_EXTERNAL) : d->cu.event_put(e, stream);
}

static CUresult launch_grid(const Device *d, CUfunction kernel, const Grid *g, CUstream stream, void **extra) {
    if (g->cluster <= 1) return d->cu.launch(kernel, g->blocks, 1, 1, g->threads, 1, 1, g->shared, stream, NULL, extra);
    CUattribute cluster = {CU_CLUSTER, {g->cluster, 1, 1}};
    CUconfig c = {{g->blocks, 1, 1}, {g->threads, 1, 1}, g->shared, stream, &cluster, 1};
    return d->cu.launch_ex(&c, kernel, NULL, extra);
}

static CUresult launch_timed(Sess *s, uint32_t step, CUfunction kernel, const Grid *grid, CUstream stream, bool captured, void **extra) {
    Device *d = s->device;
    Timed *t = s->cfg.on_step ? timed_next(s, step) : NULL;
    CUresult e = t ? timed_event(d, t->begin, stream, captured) : s->cfg.on_step ? CU_OUT_OF_MEMORY : 0;
    if (e == 0) e = launch_grid(d, kernel, grid, stream, extra);
    return t && e == 0 ? timed_event(d, t->end, stream, captured) : e;
}

/* A graph is about to be launched, whose events are those of the launches in their order. */
static void timed_graph(Sess *s, const Tape *t) {
    for (size_t i = 0; i < t->naction && s->cfg.on_step; i++)
        if (t->action[i].kernel) timed_next(s, t->action[i].step);
}

/* The stream has been waited for. */
static void timed_tell(Sess *s, bool well) {
    Device *d = s->device;
    for (size_t i = 0; i < d->ntimed && well; i++) {
        const Timed *t = &d->timed[i];
        float before, ms;
        if (d->cu.event_time(&before, d->timed->begin, t->begin) != 0 || d->cu.event_time(&ms, t->begin, t->end) != 0) break;
        uint64_t begin = d->timed_from + (uint64_t)((double)before * 1e6);
        s->cfg.on_step(s->cfg.prof_ctx, (int)t->step, 0, begin, begin + (uint64_t)((double)ms * 1e6));
    }
    d->ntimed = 0;
}

static void timed_free(Device *d) {
    for (size_t i = 0; i < d->nevents; i++) {
        d->cu.event_free(d->timed[i].begin);
        d->cu.event_free(d->timed[i].end);
    }
    d->nevents = 0;
}
