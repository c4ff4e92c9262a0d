/* rt_gpu.c: a session on a GPU. The host and the device each have a place for every buffer, and valid[] says where its bytes are; steps
 * of the device are put into one stream, so they follow each other without being waited for. What belongs together lies together on both
 * sides: a block of the session has a twin of its size on the device, where its buffers have the same offsets; inputs and values of
 * calls have a region each. The context is current only inside the functions of accelc_rt1_gpu: the thread is the caller's, or one of
 * the team, and what it does with other contexts is its own business. */
#include "rt_gpu.h"

#define SCRATCH_MOST ((int64_t)256 << 20) /* bytes of scratch for one launch, unless a single block needs more */

typedef struct Region {
    CUdeviceptr at; /* 0: none */
    size_t cap;
} Region;

struct Device {
    Driver cu;
    Found found;
    CUcontext context;
    CUstream stream; /* ours or the caller's */
    CUmodule module;
    CUfunction *kernel;   /* nkernel */
    CUdeviceptr weights, status;
    Region scratch;
    Region *own;          /* nbuf: for inputs and values */
    CUdeviceptr *lent;    /* nbuf: inputs: where the caller or the state has it; 0: in `own` */
    uint64_t *parameters; /* as many as the largest step has */
    bool uploading;       /* host memory may still be read */
};

/* ---- errors, the context ---- */

/* The first failure of a run is the one to tell of: after some of them every call fails. */
static accelc_status broken(Sess *s, CUresult e, const char *what) {
    char why[200];
    if (s->status != ACCELC_OK && s->error[0]) return s->status;
    return fail(s, e == CU_OUT_OF_MEMORY ? ACCELC_ENOMEM : ACCELC_EDEVICE, "GPU %d (%s): %s: %s", s->device->found.ordinal,
                s->device->found.name, what, driver_error(&s->device->cu, e, why, sizeof why));
}

static accelc_status broken_step(Sess *s, CUresult e, const rt_step *st) {
    char what[400];
    snprintf(what, sizeof what, "kernel %.100s (%.200s)", s->str + st->name, s->str + st->nodes);
    return broken(s, e, what);
}

#define TRY(call, what)                             \
    do {                                            \
        CUresult try_e = (call);                    \
        if (try_e != 0) return broken(s, try_e, what); \
    } while (0)

static accelc_status enter(Sess *s) {
    TRY(s->device->cu.context_push(s->device->context), "its context");
    return ACCELC_OK;
}

static accelc_status leave(Sess *s, accelc_status st) {
    CUcontext ours;
    CUresult e = s->device->cu.context_pop(&ours);
    return st == ACCELC_OK && e != 0 ? broken(s, e, "its context") : st;
}

static accelc_status drain(Sess *s) {
    TRY(s->device->cu.stream_wait(s->device->stream), "a kernel or a copy failed");
    s->device->uploading = false;
    return ACCELC_OK;
}

/* ---- memory ---- */

static accelc_status region_need(Sess *s, Region *r, size_t bytes, const char *what) {
    Device *d = s->device;
    char text[80];
    if (bytes <= r->cap) return ACCELC_OK;
    if (r->at) {
        accelc_status st = drain(s);
        if (st != ACCELC_OK) return st;
        CUdeviceptr old = r->at;
        *r = (Region){0};
        TRY(d->cu.free(old), "memory cannot be freed");
    }
    snprintf(text, sizeof text, "%zu bytes for %s", bytes, what);
    TRY(d->cu.alloc(&r->at, bytes), text);
    r->cap = bytes;
    return ACCELC_OK;
}

/* The twin of block k, as large as the block. What was in a smaller one is lost. */
static accelc_status block_twin(Sess *s, Block *k) {
    Region r = {k->twin, k->twin_cap};
    accelc_status st = region_need(s, &r, k->cap, "values");
    k->twin = r.at;
    k->twin_cap = r.cap;
    return st;
}

/* Bytes of root r that have a meaning. */
static size_t root_bytes(const Sess *s, int32_t r) {
    int64_t n = buf_bytes(s, r);
    bool single = s->home[r] >= (int32_t)s->ngroup; /* it may be about to grow */
    if (single && n > s->room[r]) n = s->room[r];
    return n > 0 ? (size_t)n : 0;
}

/* The address of root r on the device, where there is memory for it from now on. */
static accelc_status root_address(Sess *s, int32_t r, CUdeviceptr *a) {
    Device *d = s->device;
    const rt_buf *f = &s->buf[r];
    accelc_status st = ACCELC_OK;
    if (f->kind == RT_BUF_WEIGHT)
        *a = d->weights + (uint64_t)f->offset;
    else if (f->kind == RT_BUF_OUTPUT && s->taken[f->index].direct && s->taken[f->index].device)
        *a = (CUdeviceptr)(uintptr_t)s->taken[f->index].user;
    else if (d->lent[r])
        *a = d->lent[r];
    else if (f->kind == RT_BUF_INPUT || f->kind == RT_BUF_VALUE) {
        st = region_need(s, &d->own[r], root_bytes(s, r) + (size_t)f->slack, "an input");
        *a = d->own[r].at;
    } else {
        Block *k = &s->block[s->home[r]];
        st = block_twin(s, k);
        *a = k->twin + (uint64_t)s->at[r];
    }
    return st;
}

static accelc_status address(Sess *s, int32_t b, CUdeviceptr *a) {
    CUdeviceptr offset = 0;
    for (; s->buf[b].kind == RT_BUF_VIEW; b = s->buf[b].index) offset += (uint64_t)view_offset(s, b);
    accelc_status st = root_address(s, b, a);
    *a += offset;
    return st;
}

static accelc_status upload(Sess *s, CUdeviceptr to, const void *from, size_t n) {
    if (!n) return ACCELC_OK;
    s->device->uploading = true;
    TRY(s->device->cu.upload(to, from, n, s->device->stream), "a copy to the device");
    return ACCELC_OK;
}

static accelc_status download(Sess *s, void *to, CUdeviceptr from, size_t n) {
    if (n) TRY(s->device->cu.download(to, from, n, s->device->stream), "a copy from the device");
    return ACCELC_OK;
}

static accelc_status move(Sess *s, CUdeviceptr to, CUdeviceptr from, size_t n) {
    if (n && to != from) TRY(s->device->cu.move(to, from, n, s->device->stream), "a copy on the device");
    return ACCELC_OK;
}

/* ---- where buffers are ---- */

/* Root r becomes valid on the device. Values of calls change without notice, so they are copied each time. */
static accelc_status to_device(Sess *s, int32_t r) {
    bool value = s->buf[r].kind == RT_BUF_VALUE;
    CUdeviceptr a;
    if (!value && (s->valid[r] & ON_DEVICE || !(s->valid[r] & ON_HOST))) return ACCELC_OK;
    accelc_status st = root_address(s, r, &a);
    if (st == ACCELC_OK) st = upload(s, a, s->ptr[r], root_bytes(s, r));
    if (st == ACCELC_OK && !value) s->valid[r] |= ON_DEVICE;
    return st;
}

/* Root r becomes valid on the host, when the stream has been waited for. */
static accelc_status to_host(Sess *s, int32_t r) {
    const rt_buf *f = &s->buf[r];
    CUdeviceptr a;
    if (s->valid[r] & ON_HOST || !(s->valid[r] & ON_DEVICE)) return ACCELC_OK;
    if (f->kind == RT_BUF_INPUT && s->given[f->index].device) {
        int32_t *stage = &s->in_stage[f->index];
        accelc_status st = accelc_rt1_block_new(s, stage, (int64_t)root_bytes(s, r) + f->slack);
        if (st != ACCELC_OK) return st;
        accelc_rt1_set_ptr(s, r, s->block[*stage].p);
    }
    accelc_status st = root_address(s, r, &a);
    if (st == ACCELC_OK) st = download(s, s->ptr[r], a, root_bytes(s, r));
    if (st == ACCELC_OK) s->valid[r] |= ON_HOST;
    return st;
}

/* A step wrote to buffers `where`. */
static void written(Sess *s, const rt_step *st, uint8_t where) {
    uint64_t mask = s->model->gpu->kernel[st->kernel].writes;
    for (uint32_t k = 0; k < st->nbuf; k++)
        if (mask >> (k < 63 ? k : 63) & 1) s->valid[root_of(s, s->arg[st->arg + (int32_t)k])] = where;
}

/* ---- opening and closing ---- */

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
    return upload(s, d->weights, weights, n);
}

static accelc_status open_context(Sess *s, const void *weights) {
    Device *d = s->device;
    if (s->cfg.stream) d->stream = s->cfg.stream;
    else TRY(d->cu.stream_new(&d->stream, CU_STREAM_NON_BLOCKING), "no stream");
    accelc_status st = load_code(s);
    if (st == ACCELC_OK) st = load_weights(s, weights);
    if (st != ACCELC_OK) return st;
    TRY(d->cu.alloc(&d->status, sizeof(uint32_t)), "memory for the status");
    TRY(d->cu.set32(d->status, 0, 1, d->stream), "memory for the status");
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
        for (uint32_t k = 0; k < s->nblock; k++) free_region(d, s->block[k].twin);
        for (uint32_t b = 0; b < s->nbuf; b++) free_region(d, d->own[b].at);
        free_region(d, d->scratch.at);
        free_region(d, d->weights);
        free_region(d, d->status);
        if (d->module) d->cu.module_unload(d->module);
        if (d->stream && !s->cfg.stream) d->cu.stream_free(d->stream);
        d->cu.context_pop(&ours);
    }
    if (d->context) d->cu.context_release(d->found.device);
    driver_close(&d->cu);
    accelc_rt1_mem_put(&s->cfg, d);
    s->device = NULL;
}

/* ---- a run ---- */

static void gpu_begin(Sess *s) {
    for (uint32_t b = 0; b < s->nbuf; b++) s->valid[b] = s->buf[b].kind == RT_BUF_WEIGHT ? ON_HOST | ON_DEVICE : 0;
}

/* A caller's input of a type that is packed: kernels see a byte per element, and unpacking is the host's work. */
static accelc_status input_packed(Sess *s, uint32_t i, int32_t b) {
    const Given *g = &s->given[i];
    size_t n = root_bytes(s, b), packed = s->in_bytes[i];
    accelc_status st = accelc_rt1_block_new(s, &s->in_stage[i], (int64_t)(n + packed) + s->buf[b].slack);
    if (st != ACCELC_OK) return st;
    uint8_t *to = (uint8_t *)s->block[s->in_stage[i]].p, *from = to + n + s->buf[b].slack;
    if ((st = download(s, from, (CUdeviceptr)(uintptr_t)g->data, packed)) != ACCELC_OK || (st = drain(s)) != ACCELC_OK) return st;
    accelc_rt1_bits_unpack(from, to, (int64_t)n, s->in[i].dtype);
    accelc_rt1_set_ptr(s, b, to);
    s->valid[b] = ON_HOST;
    return ACCELC_OK;
}

/* A caller's input on the device: used where it lies, unless kernels could not read it there. */
static accelc_status input_on_device(Sess *s, uint32_t i, int32_t b) {
    const Given *g = &s->given[i];
    CUdeviceptr a;
    if (accelc_rt1_dtype_bits(s->in[i].dtype) < 8) return input_packed(s, i, b);
    s->valid[b] = ON_DEVICE;
    if ((uintptr_t)g->data % RT_ALIGN == 0 && accelc_rt1_tail_is_near(g->data, (int64_t)s->in_bytes[i], s->buf[b].slack)) {
        s->device->lent[b] = (CUdeviceptr)(uintptr_t)g->data;
        return ACCELC_OK;
    }
    accelc_status st = root_address(s, b, &a);
    return st == ACCELC_OK ? move(s, a, (CUdeviceptr)(uintptr_t)g->data, s->in_bytes[i]) : st;
}

static accelc_status gpu_input(Sess *s, uint32_t i) {
    int32_t b = s->in_root[i], k = s->state_block[i];
    bool state = k >= 0 && (!s->given[i].dims || s->given[i].dims == s->state_dims + s->in[i].dim);
    s->device->lent[b] = 0;
    s->valid[b] = ON_HOST;
    if (state) {
        s->valid[b] = s->state_valid[i];
        if (s->valid[b] & ON_DEVICE) s->device->lent[b] = s->block[k].twin;
    }
    if (!s->given[i].device || !s->in_bytes[i]) return ACCELC_OK;
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, input_on_device(s, i, b)) : st;
}

/* The grid: any is right, so there are as many blocks as keep the device busy and have room for their scratch. */
static int64_t blocks_of(const Device *d, const rt_gpu_kernel *k, int64_t tasks, int64_t scratch) {
    bool threads = k->mode == RT_GPU_THREADS;
    int64_t n = threads ? (tasks - 1) / k->block + 1 : tasks, most = threads ? (int64_t)d->found.processors * 64 : INT32_MAX;
    if (scratch) {
        int64_t fit = SCRATCH_MOST / scratch / (threads ? k->block : 1);
        most = fit < most ? fit : most;
    }
    most = most < 1 ? 1 : most;
    return n < most ? n : most;
}

static accelc_status step_scratch(Sess *s, const rt_step *st, int64_t *each) {
    int64_t n = st->scratch >= 0 ? s->dims[st->scratch] : 0;
    *each = 0;
    if (n < 0 || n > INT64_MAX / 4096) return fail(s, ACCELC_ENOMEM, "%s: scratch of %lld bytes", s->str + st->nodes, (long long)n);
    *each = align_up(n);
    return ACCELC_OK;
}

/* What the guards of the step just launched say. */
static accelc_status check_status(Sess *s, const rt_step *st) {
    Device *d = s->device;
    uint32_t code = 0;
    accelc_status bad = download(s, &code, d->status, sizeof code);
    if (bad != ACCELC_OK) return bad;
    CUresult e = d->cu.stream_wait(d->stream);
    if (e == 0 && code != 0) e = d->cu.set32(d->status, 0, 1, d->stream);
    if (e != 0) return broken_step(s, e, st);
    return code ? accelc_rt1_kernel_failed(s, st, (int32_t)code) : ACCELC_OK;
}

static accelc_status launch(Sess *s, const rt_step *st) {
    Device *d = s->device;
    const rt_gpu_kernel *k = &s->model->gpu->kernel[st->kernel];
    int64_t tasks = s->dims[st->tasks], each;
    const int32_t *arg = s->arg + st->arg;
    accelc_status bad;
    if (tasks <= 0) return ACCELC_OK;
    for (uint32_t i = 0; i < st->nbuf; i++)
        if ((bad = to_device(s, root_of(s, arg[i]))) != ACCELC_OK || (bad = address(s, arg[i], &d->parameters[i])) != ACCELC_OK) return bad;
    if ((bad = step_scratch(s, st, &each)) != ACCELC_OK) return bad;
    int64_t blocks = blocks_of(d, k, tasks, each);
    size_t scratch = (size_t)each * (size_t)blocks * (k->mode == RT_GPU_THREADS ? k->block : 1);
    if ((bad = region_need(s, &d->scratch, scratch, "scratch")) != ACCELC_OK) return bad;
    uint64_t *p = d->parameters + st->nbuf;
    for (uint32_t i = 0; i < st->ndim; i++) *p++ = (uint64_t)s->dims[arg[st->nbuf + i]];
    *p++ = (uint64_t)tasks;
    *p++ = each ? d->scratch.at : 0;
    *p++ = (uint64_t)each;
    *p++ = d->status;
    size_t bytes = (size_t)(p - d->parameters) * sizeof *p;
    void *extra[] = {CU_PARAM_POINTER, d->parameters, CU_PARAM_SIZE, &bytes, NULL};
    CUresult e = d->cu.launch(d->kernel[st->kernel], (unsigned)blocks, 1, 1, k->block, 1, 1, k->shared, d->stream, NULL, extra);
    if (e != 0) return broken_step(s, e, st);
    written(s, st, ON_DEVICE);
    return k->guards ? check_status(s, st) : ACCELC_OK;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A launch whose time is asked for is waited for. */
static accelc_status launch_timed(Sess *s, uint32_t pc) {
    accelc_status st = drain(s);
    uint64_t begin = now_ns();
    if (st == ACCELC_OK) st = launch(s, &s->step[pc]);
    if (st == ACCELC_OK) st = drain(s);
    if (st == ACCELC_OK) s->cfg.on_step(s->cfg.prof_ctx, (int)pc, 0, begin, now_ns());
    return st;
}

static accelc_status gpu_steps(Sess *s, uint32_t *pc) {
    bool last;
    accelc_status st = enter(s);
    if (st != ACCELC_OK) return st;
    do {
        last = s->step[*pc].barrier;
        st = s->cfg.on_step ? launch_timed(s, *pc) : launch(s, &s->step[*pc]);
        ++*pc;
    } while (st == ACCELC_OK && !last && *pc < s->nstep && on_device(s, &s->step[*pc]));
    return leave(s, st);
}

static accelc_status host_operands(Sess *s, const rt_step *step) {
    int32_t n = step->op == RT_CALL ? step->a : step->nbuf;
    bool late = s->device->uploading;
    for (int32_t k = 0; k < n; k++) {
        int32_t b = s->arg[step->arg + k], r = b < 0 ? -1 : root_of(s, b);
        if (r < 0 || s->valid[r] != ON_DEVICE) continue;
        accelc_status st = to_host(s, r);
        if (st != ACCELC_OK) return st;
        late = true;
    }
    return late ? drain(s) : ACCELC_OK;
}

static accelc_status gpu_host(Sess *s, const rt_step *step) {
    accelc_status st = enter(s);
    if (st != ACCELC_OK || (st = leave(s, host_operands(s, step))) != ACCELC_OK) return st;
    if (step->op == RT_KERNEL) written(s, step, ON_HOST);
    return ACCELC_OK;
}

/* The copy is made where the bytes are, on the device if there is a choice. A view that is written is a part of its root, which
 * must be there as well. */
static accelc_status copy(Sess *s, const rt_step *st) {
    int32_t to = root_of(s, st->a), from = root_of(s, st->b);
    size_t n = (size_t)buf_bytes(s, st->b);
    bool device = to != from && s->valid[from] & ON_DEVICE, part = s->buf[st->a].kind == RT_BUF_VIEW;
    CUdeviceptr x, y;
    accelc_status bad = ACCELC_OK;
    if (device) {
        if (part) bad = to_device(s, to);
        if (bad == ACCELC_OK && (bad = address(s, st->a, &x)) == ACCELC_OK && (bad = address(s, st->b, &y)) == ACCELC_OK)
            bad = move(s, x, y, n);
    } else {
        if (part) bad = to_host(s, to);
        if (bad == ACCELC_OK) bad = to_host(s, from);
        if (bad == ACCELC_OK) bad = drain(s);
        if (bad == ACCELC_OK && s->ptr[st->a] != s->ptr[st->b]) memmove(s->ptr[st->a], s->ptr[st->b], n);
    }
    if (bad == ACCELC_OK) s->valid[to] = device ? ON_DEVICE : ON_HOST;
    return bad;
}

static accelc_status gpu_copy(Sess *s, const rt_step *step) {
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, copy(s, step)) : st;
}

static accelc_status get(Sess *s, int32_t r) {
    accelc_status st = to_host(s, r);
    return st == ACCELC_OK ? drain(s) : st;
}

static accelc_status gpu_get(Sess *s, int32_t b) {
    int32_t r = root_of(s, b);
    if (s->valid[r] != ON_DEVICE) return ACCELC_OK;
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, get(s, r)) : st;
}

static accelc_status read_bytes(Sess *s, int32_t b, int64_t offset, void *to, size_t n) {
    CUdeviceptr a;
    accelc_status st = address(s, b, &a);
    if (st == ACCELC_OK) st = download(s, to, a + (uint64_t)offset, n);
    return st == ACCELC_OK ? drain(s) : st;
}

static accelc_status gpu_read(Sess *s, int32_t b, int64_t offset, void *to, size_t n) {
    if (s->valid[root_of(s, b)] != ON_DEVICE) {
        memcpy(to, (const char *)s->ptr[b] + offset, n);
        return ACCELC_OK;
    }
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, read_bytes(s, b, offset, to, n)) : st;
}

static accelc_status result(Sess *s, uint32_t i) {
    Taken *t = &s->taken[i];
    int32_t b = s->out[i].buf, extra = s->out_extra[i];
    CUdeviceptr a;
    accelc_status st;
    if (extra >= 0 && t->src == s->block[extra].p) { /* the host made it */
        st = block_twin(s, &s->block[extra]);
        a = s->block[extra].twin;
        if (st == ACCELC_OK) st = upload(s, a, t->src, t->bytes);
    } else {
        st = to_device(s, root_of(s, b));
        if (st == ACCELC_OK) st = address(s, b, &a);
    }
    if (st == ACCELC_OK) t->src = (const void *)(uintptr_t)a;
    return st;
}

static accelc_status gpu_result(Sess *s, uint32_t i) {
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, result(s, i)) : st;
}

static accelc_status move_any(Sess *s, void *to, bool to_device, const void *from, bool from_device, size_t n) {
    CUdeviceptr x = (CUdeviceptr)(uintptr_t)to, y = (CUdeviceptr)(uintptr_t)from;
    accelc_status st = to_device ? from_device ? move(s, x, y, n) : upload(s, x, from, n) : download(s, to, y, n);
    return st == ACCELC_OK ? drain(s) : st;
}

static accelc_status gpu_move(Sess *s, void *to, bool to_device, const void *from, bool from_device, size_t n) {
    if (!to_device && !from_device) {
        memmove(to, from, n);
        return ACCELC_OK;
    }
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, move_any(s, to, to_device, from, from_device, n)) : st;
}

static accelc_status gpu_wait(Sess *s) {
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, drain(s)) : st;
}

RT_API const struct rt_gpu_ops accelc_rt1_gpu = {
    .probe = gpu_probe, .open = gpu_open, .close = gpu_close, .begin = gpu_begin, .input = gpu_input, .steps = gpu_steps,
    .host = gpu_host,   .copy = gpu_copy, .get = gpu_get,     .read = gpu_read,   .result = gpu_result, .move = gpu_move,
    .wait = gpu_wait,
};
