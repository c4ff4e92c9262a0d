/* rt_gpu_open.c: opening and closing: the device, its context, the code, the weights. */
#include "rt_gpu.h"

static accelc_status gpu_probe(const rt_gpu *g, const accelc_config *cfg, char *msg, size_t n) {
    Driver d = {0};
    Found f;
    accelc_status st = driver_open(&d, g, cfg, &f, msg, n);
    driver_close(&d);
    return st;
}

/* The first image that the driver takes. */
static accelc_status load_code(Sess *s) {
    enum { JIT_ERROR_LOG = 5, JIT_ERROR_LOG_BYTES = 6, LOG = 256 };
    Device *d = s->device;
    const rt_gpu *g = s->model->gpu;
    CUresult e = 0;
    char log[LOG], text[LOG + 40];
    for (uint32_t i = 0; i < g->nimage; i++) {
        int option[] = {JIT_ERROR_LOG, JIT_ERROR_LOG_BYTES};
        void *value[] = {log, (void *)(uintptr_t)LOG};
        log[0] = 0;
        if (!image_fits(&g->image[i], d->found.arch)) continue;
        e = d->cu.module_load(&d->module, g->image[i].data, 2, option, value);
        if (e == 0) break;
        d->module = NULL;
        bool next = e == CU_INVALID_IMAGE || e == CU_NO_BINARY || e == CU_INVALID_PTX || e == CU_NO_COMPILER || e == CU_UNSUPPORTED_PTX;
        if (!next) break;
    }
    log[LOG - 1] = 0;
    log[strcspn(log, "\n")] = 0;
    snprintf(text, sizeof text, "its code cannot be loaded%s%s", log[0] ? ": " : "", log);
    TRY(e, text);
    for (uint32_t k = 0; k < g->nkernel; k++) {
        if (!g->kernel[k].name) continue;
        snprintf(text, sizeof text, "kernel %.200s", g->kernel[k].name);
        TRY(d->cu.module_function(&d->kernel[k], d->module, g->kernel[k].name), text);
        if (g->kernel[k].shared > 48u << 10) TRY(d->cu.function_set(d->kernel[k], CU_DYNAMIC_SHARED, (int)g->kernel[k].shared), text);
    }
    return ACCELC_OK;
}

static accelc_status load_weights(Sess *s, const void *weights) {
    Device *d = s->device;
    uint64_t n = s->desc ? s->desc->weight_bytes : 0;
    int64_t slack = 0;
    char text[80];
    for (uint32_t b = 0; b < s->nbuf; b++)
        if (s->buf[b].kind == RT_BUF_WEIGHT && s->buf[b].slack > slack) slack = s->buf[b].slack;
    if (!weights || !n) return ACCELC_OK;
    snprintf(text, sizeof text, "%llu bytes for the weights", (unsigned long long)n);
    TRY(d->cu.alloc(&d->weights, n + (uint64_t)slack), text);
    d->busy = true;
    TRY(d->cu.upload(d->weights, weights, n, d->stream), text);
    return ACCELC_OK;
}

static accelc_status open_context(Sess *s, const void *weights) {
    Device *d = s->device;
    if (s->cfg.stream) d->stream = s->cfg.stream;
    else TRY(d->cu.stream_new(&d->stream, CU_STREAM_NON_BLOCKING), "no stream");
    accelc_status st = load_code(s);
    if (st == ACCELC_OK) st = load_weights(s, weights);
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
            uint32_t n = (uint32_t)s->step[i].nbuf + s->step[i].ndim + 4;
            most = n > most ? n : most;
        }
    size_t bytes = sizeof(Device) + g->nkernel * sizeof(CUfunction) + s->nbuf * (sizeof(Region) + sizeof(CUdeviceptr)) + most * sizeof(uint64_t);
    Device *d = accelc_rt1_mem_get(&s->cfg, bytes);
    if (!d) return fail(s, ACCELC_ENOMEM, "out of memory: %zu bytes for the session", bytes);
    memset(d, 0, bytes);
    d->own = (Region *)(void *)(d + 1);
    d->lent = (CUdeviceptr *)(void *)(d->own + s->nbuf);
    d->parameters = d->lent + s->nbuf;
    d->kernel = (CUfunction *)(void *)(d->parameters + most);
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
    if (d->context && (d->cu.context_push(d->context) == 0 || d->cu.context_push(d->context) == 0)) {
        if (d->stream) d->cu.stream_wait(d->stream);
        graphs_free(d);
        for (uint32_t k = 0; k < s->nblock; k++) free_region(d, s->block[k].twin);
        for (uint32_t b = 0; b < s->nbuf; b++) free_region(d, d->own[b].at);
        free_region(d, d->scratch.at);
        free_region(d, d->weights);
        free_region(d, d->status);
        stage_free(d);
        if (d->module) d->cu.module_unload(d->module);
        if (d->stream && !s->cfg.stream) d->cu.stream_free(d->stream);
        d->cu.context_pop(&ours);
    }
    if (d->context) d->cu.context_release(d->found.device);
    driver_close(&d->cu);
    tape_close(s);
    accelc_rt1_mem_put(&s->cfg, d);
    s->device = NULL;
}
