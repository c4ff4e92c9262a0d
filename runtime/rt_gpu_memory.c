/* rt_gpu_memory.c: errors, the context, memory of the device, and where the bytes of buffers are. */
#include "rt_gpu.h"

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
