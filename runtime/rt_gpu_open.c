/* rt_gpu_open.c: opening and closing. */
#include "rt_gpu.h"

static accelc_status gpu_probe(const rt_gpu *g, const accelc_config *cfg, char *msg, size_t n) {
    Driver d = {0};
    Found f;
    accelc_status st = driver_open(&d, g, cfg, &f, msg, n);
    driver_close(&d);
    return st;
}

static accelc_status open_context(Sess *s, const void *weights) {
    Device *d = s->device;
    if (s->cfg.stream) d->stream = s->cfg.stream;
    else TRY(d->cu.stream_new(&d->stream, CU_STREAM_DEFAULT), "no stream");
    accelc_status st = shared_get(s, weights);
    if (st != ACCELC_OK) return st;
    TRY(d->cu.alloc(&d->status, sizeof(uint32_t)), "memory for the status");
    d->stale = true;
    stage_grow(s);
    return drain(s);
}

static accelc_status gpu_open(Sess *s, const void *weights) {
    char text[400];
    const rt_gpu *g = s->model->gpu;
    uint32_t most = 0;
    for (uint32_t i = 0; i < s->nstep; i++)
        if (on_device(s, &s->step[i])) {
            uint32_t n = (uint32_t)s->step[i].nbuf + s->step[i].ndim + 4 + (uint32_t)(s->step[i].nmap * sizeof(CUtensorMap) / sizeof(uint64_t));
            most = n > most ? n : most;
        }
    size_t bytes = sizeof(Device) + s->nbuf * (sizeof(Region) + sizeof(CUdeviceptr)) + most * sizeof(uint64_t);
    Device *d = accelc_rt1_mem_get(&s->cfg, bytes);
    if (!d) return fail(s, ACCELC_ENOMEM, "out of memory: %zu bytes for the session", bytes);
    memset(d, 0, bytes);
    d->own = (Region *)(void *)(d + 1);
    d->lent = (CUdeviceptr *)(void *)(d->own + s->nbuf);
    d->parameters = d->lent + s->nbuf;
    s->device = d;
    accelc_status st = driver_open(&d->cu, g, &s->cfg, &d->found, text, sizeof text);
    if (st != ACCELC_OK) return fail(s, st, "%s", text);
    s->where = d->found.ordinal + 1;
    CUcontext context;
    if ((st = tape_open(s)) != ACCELC_OK) return st;
    TRY(d->cu.context_retain(&context, d->found.device), "no context");
    d->context = context;
    if ((st = enter(s)) != ACCELC_OK) return st;
    return leave(s, open_context(s, weights));
}

static void free_region(Device *d, CUdeviceptr at) {
    if (at) d->cu.free(at);
}

/* Errors are of no use here: those of a lost device would come with every call. */
static void gpu_close(Sess *s) {
    Device *d = s->device;
    CUcontext ours;
    /* a call may report what an earlier kernel did, and be good when repeated */
    bool in = d->context && (d->cu.context_push(d->context) == 0 || d->cu.context_push(d->context) == 0);
    if (in) {
        if (d->stream) d->cu.stream_wait(d->stream);
        graphs_free(d);
        timed_free(d);
        for (uint32_t k = 0; k < s->nblock; k++) free_region(d, s->block[k].twin);
        for (uint32_t b = 0; b < s->nbuf; b++) free_region(d, d->own[b].at);
        free_region(d, d->scratch.at);
        free_region(d, d->status);
        stage_free(d);
        if (d->stream && !s->cfg.stream) d->cu.stream_free(d->stream);
    }
    if (d->shared) shared_put(s, in);
    if (in) d->cu.context_pop(&ours);
    if (d->context) d->cu.context_release(d->found.device);
    driver_close(&d->cu);
    tape_close(s);
    accelc_rt1_mem_put(&s->cfg, d);
    s->device = NULL;
}
