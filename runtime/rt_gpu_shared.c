/* rt_gpu_shared.c: what sessions of a model have in common on a device: its code and its weights, which the first one loads and the last one
 * frees. Whoever comes while they are being loaded waits. */
#include "rt_gpu.h"

typedef struct Head { /* rt_gpu.shared */
    pthread_mutex_t lock; /* zeros: PTHREAD_MUTEX_INITIALIZER */
    Shared *first;
    Code *code;
} Head;
_Static_assert(sizeof(Head) <= RT_GPU_SHARED, "what the compiler leaves room for");

/* The first image that the driver takes. */
static accelc_status load_module(Sess *s, Code *c) {
    enum { LOG = 256 };
    Device *d = s->device;
    const rt_gpu *g = s->model->gpu;
    CUresult e = 0;
    char log[LOG], text[LOG + 40];
    for (uint32_t i = 0; i < g->nimage; i++) {
        int option[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
        void *value[] = {log, (void *)(uintptr_t)LOG};
        log[0] = 0;
        if (!image_fits(&g->image[i], d->found.arch)) continue;
        e = cache_load(s, &g->image[i], &c->module) ? 0 : d->cu.module_load(&c->module, g->image[i].data, 2, option, value);
        if (e == 0) break;
        c->module = NULL;
        bool next = e == CU_INVALID_IMAGE || e == CU_NO_BINARY || e == CU_INVALID_PTX || e == CU_NO_COMPILER || e == CU_UNSUPPORTED_PTX;
        if (!next) break;
    }
    log[LOG - 1] = 0;
    log[strcspn(log, "\n")] = 0;
    snprintf(text, sizeof text, "its code cannot be loaded%s%s", log[0] ? ": " : "", log);
    TRY(e, text);
    return ACCELC_OK;
}

static accelc_status find_kernels(Sess *s, Code *c) {
    const Device *d = s->device;
    const rt_gpu *g = s->model->gpu;
    char text[256];
    for (uint32_t k = 0; k < g->nkernel; k++) {
        if (!g->kernel[k].name) continue;
        snprintf(text, sizeof text, "kernel %.200s", g->kernel[k].name);
        TRY(d->cu.module_function(&c->kernel[k], c->module, g->kernel[k].name), text);
        if (g->kernel[k].shared > 48u << 10) TRY(d->cu.function_set(c->kernel[k], CU_DYNAMIC_SHARED, (int)g->kernel[k].shared), text);
    }
    return ACCELC_OK;
}

static void code_put(Head *head, Code *c, const Device *d, bool reachable) {
    Code **at = &head->code;
    if (--c->users) return;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    if (reachable && c->module) d->cu.module_unload(c->module);
    free(c);
}

static accelc_status code_get(Sess *s, Head *head, Code **out) {
    const Device *d = s->device;
    size_t bytes = sizeof(Code) + s->model->gpu->nkernel * sizeof(CUfunction);
    Code *c = head->code;
    while (c && c->ordinal != d->found.ordinal) c = c->next;
    *out = c;
    if (c) {
        c->users++;
        return ACCELC_OK;
    }
    c = calloc(1, bytes); /* it may outlive the session and its allocator */
    if (!c) return fail(s, ACCELC_ENOMEM, "out of memory: %zu bytes for the session", bytes);
    c->ordinal = d->found.ordinal;
    c->users = 1;
    c->next = head->code;
    head->code = c;
    accelc_status st = load_module(s, c);
    if (st == ACCELC_OK) st = find_kernels(s, c);
    if (st == ACCELC_OK) *out = c;
    else code_put(head, c, d, true);
    return st;
}

static accelc_status load_weights(Sess *s, Shared *h) {
    Device *d = s->device;
    uint64_t n = s->weights_end;
    int64_t slack = 0;
    char text[80];
    for (uint32_t b = 0; b < s->nbuf; b++)
        if (s->buf[b].kind == RT_BUF_WEIGHT && s->buf[b].slack > slack) slack = s->buf[b].slack;
    if (!h->source || !n) return ACCELC_OK;
    snprintf(text, sizeof text, "%llu bytes for the weights", (unsigned long long)n);
    TRY(d->cu.alloc(&h->weights, n + (uint64_t)slack), text);
    d->busy = true;
    TRY(d->cu.upload(h->weights, h->source, n, d->stream), text);
    return ACCELC_OK;
}

static Shared *find_shared(const Head *head, int ordinal, const void *source) {
    Shared *h = head->first;
    while (h && !(h->code->ordinal == ordinal && h->source == source)) h = h->next;
    return h;
}

/* One for this session alone, with its code and weights in place. */
static accelc_status load(Sess *s, Head *head, const void *source, Shared **out) {
    Device *d = s->device;
    Shared *h = calloc(1, sizeof *h); /* as Code */
    if (!h) return fail(s, ACCELC_ENOMEM, "out of memory: %zu bytes for the session", sizeof *h);
    h->source = source;
    accelc_status st = code_get(s, head, &h->code);
    if (st == ACCELC_OK) st = load_weights(s, h);
    if (st == ACCELC_OK) st = drain(s);
    if (st != ACCELC_OK) {
        d->cu.stream_wait(d->stream);
        if (h->weights) d->cu.free(h->weights);
        if (h->code) code_put(head, h->code, d, true);
        free(h);
        return st;
    }
    *out = h;
    return ACCELC_OK;
}

static accelc_status shared_get(Sess *s, const void *weights) {
    Head *head = s->model->gpu->shared;
    accelc_status st = ACCELC_OK;
    pthread_mutex_lock(&head->lock);
    Shared *h = find_shared(head, s->device->found.ordinal, weights);
    if (!h && (st = load(s, head, weights, &h)) == ACCELC_OK) {
        h->next = head->first;
        head->first = h;
    }
    if (h) h->users++;
    pthread_mutex_unlock(&head->lock);
    s->device->shared = h;
    return st;
}

/* `reachable`: the context is current, and the stream has been waited for. If not, what is there goes with it. */
static void shared_put(Sess *s, bool reachable) {
    Head *head = s->model->gpu->shared;
    Device *d = s->device;
    Shared *h = d->shared, **at = &head->first;
    pthread_mutex_lock(&head->lock);
    if (--h->users == 0) {
        while (*at != h) at = &(*at)->next;
        *at = h->next;
        if (reachable && h->weights) d->cu.free(h->weights);
        code_put(head, h->code, d, reachable);
        free(h);
    }
    pthread_mutex_unlock(&head->lock);
}
