/* rt_gpu.c: what the runtime asks of a session on a GPU during a run (struct rt_gpu_ops). */
#include "rt_gpu.h"

static void gpu_begin(Sess *s) {
    if (stage_want(s->device) > s->device->stage.cap && enter(s) == ACCELC_OK) {
        stage_grow(s);
        leave(s, ACCELC_OK);
    }
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
    if (!s->in_bytes[i] || !s->given[i].data || !(s->given[i].device || s->device->whole)) return ACCELC_OK;
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, s->given[i].device ? input_on_device(s, i, b) : to_device(s, b)) : st;
}

static accelc_status host_operands(Sess *s, const rt_step *step) {
    int32_t n = step->op == RT_CALL ? step->a : step->nbuf;
    bool late = s->device->uploading || s->device->guarded;
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

static accelc_status gpu_get(Sess *s, int32_t b) {
    int32_t r = root_of(s, b);
    if (s->valid[r] != ON_DEVICE) return ACCELC_OK;
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, to_host(s, r)) : st;
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
    if (!s->device->busy) return ACCELC_OK;
    accelc_status st = enter(s);
    return st == ACCELC_OK ? leave(s, drain(s)) : st;
}

RT_API const struct rt_gpu_ops accelc_rt1_gpu = {
    .probe = gpu_probe, .open = gpu_open, .close = gpu_close, .begin = gpu_begin, .input = gpu_input, .steps = gpu_steps,
    .host = gpu_host,   .copy = gpu_copy, .get = gpu_get,     .read = gpu_read,   .result = gpu_result, .move = gpu_move,
    .wait = gpu_wait,   .replay = gpu_replay, .ran = gpu_ran,
};
