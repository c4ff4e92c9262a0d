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

/* What the stream did, and what guards say. Afterwards nothing is on its way. */
static accelc_status settled(Sess *s, CUresult e) {
    Device *d = s->device;
    const rt_step *guarded = d->guarded, *last = d->nlast == 1 ? d->last : NULL;
    d->guarded = NULL;
    d->nlast = 0;
    d->stage.used = d->stage.need = 0;
    d->busy = d->uploading = e != 0;
    d->stale |= guarded && (e != 0 || d->code);
    if (e != 0) return last ? broken_step(s, e, last) : broken(s, e, "a kernel or a copy failed");
    return guarded && d->code ? accelc_rt1_kernel_failed(s, guarded, (int32_t)d->code) : ACCELC_OK;
}

static accelc_status drain(Sess *s) {
    Device *d = s->device;
    uint32_t *seen = d->stage.p ? (uint32_t *)(void *)d->stage.p : &d->code;
    CUresult e = 0;
    if (!d->busy) return ACCELC_OK;
    if (d->guarded) e = d->cu.download(seen, d->status, sizeof *seen, d->stream);
    CUresult waited = d->cu.stream_wait(d->stream);
    d->code = *seen;
    accelc_status st = settled(s, e ? e : waited);
    for (uint32_t i = 0; i < d->nlate && st == ACCELC_OK; i++) memcpy(d->late[i].to, d->late[i].from, d->late[i].n);
    d->nlate = 0;
    timed_tell(s, st == ACCELC_OK);
    return st;
}

/* ---- memory ---- */

static accelc_status region_need(Sess *s, Region *r, size_t bytes, const char *what) {
    Device *d = s->device;
    char text[80];
    if (bytes <= r->cap) return ACCELC_OK;
    if (r->at) {
        tape_stop(d);
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

static size_t own_need(const Sess *s, int32_t r) { return root_bytes(s, r) + (size_t)s->buf[r].slack; }

static CUdeviceptr root_place(const Sess *s, int32_t r) {
    const Device *d = s->device;
    const rt_buf *f = &s->buf[r];
    if (f->kind == RT_BUF_WEIGHT) return d->shared->weights + (uint64_t)f->offset;
    if (f->kind == RT_BUF_OUTPUT && s->taken[f->index].direct && s->taken[f->index].device) return (CUdeviceptr)(uintptr_t)s->taken[f->index].user;
    if (d->lent[r]) return d->lent[r];
    if (f->kind == RT_BUF_INPUT || f->kind == RT_BUF_VALUE) return d->own[r].cap >= own_need(s, r) ? d->own[r].at : 0;
    const Block *k = &s->block[s->home[r]];
    return k->twin && k->twin_cap >= k->cap ? k->twin + (uint64_t)s->at[r] : 0;
}

static accelc_status root_address(Sess *s, int32_t r, CUdeviceptr *a) {
    Device *d = s->device;
    const rt_buf *f = &s->buf[r];
    bool lent = d->lent[r] || (f->kind == RT_BUF_OUTPUT && s->taken[f->index].direct && s->taken[f->index].device);
    accelc_status st = ACCELC_OK;
    if (f->kind == RT_BUF_WEIGHT || lent) st = ACCELC_OK;
    else if (f->kind == RT_BUF_INPUT || f->kind == RT_BUF_VALUE) st = region_need(s, &d->own[r], own_need(s, r), "an input");
    else st = block_twin(s, &s->block[s->home[r]]);
    *a = root_place(s, r);
    return st;
}

static accelc_status address(Sess *s, int32_t b, CUdeviceptr *a) {
    CUdeviceptr offset = 0;
    for (; s->buf[b].kind == RT_BUF_VIEW; b = s->buf[b].index) offset += (uint64_t)view_offset(s, b);
    accelc_status st = root_address(s, b, a);
    *a += offset;
    return st;
}

/* ---- copies ---- */

enum { STAGE_HEAD = 64 /* where a status arrives */, STAGE_LEAST = 64 << 10, STAGE_MOST = 32 << 20 };

static void stage_free(Device *d) {
    if (d->stage.p) d->cu.host_free(d->stage.p);
    d->stage.p = NULL;
    d->stage.cap = 0;
}

static size_t stage_want(const Device *d) {
    size_t n = d->stage.most < STAGE_LEAST ? STAGE_LEAST : d->stage.most;
    return n < STAGE_MOST ? n : STAGE_MOST;
}

static void stage_grow(Sess *s) {
    Device *d = s->device;
    size_t want = stage_want(d);
    void *p = NULL;
    if (want <= d->stage.cap) return;
    stage_free(d);
    if (d->cu.host_alloc(&p, STAGE_HEAD + want, 0) != 0) p = NULL; /* copies do without */
    d->stage.p = p;
    d->stage.cap = want; /* so that it is not tried again */
}

/* Room in the stage until the next wait, or NULL. */
static void *stage_take(Device *d, size_t n) {
    size_t room = (n + STAGE_HEAD - 1) / STAGE_HEAD * STAGE_HEAD;
    d->stage.need += room;
    if (d->stage.need > d->stage.most) d->stage.most = d->stage.need;
    if (!d->stage.p || room > d->stage.cap - d->stage.used) return NULL;
    d->stage.used += room;
    return d->stage.p + STAGE_HEAD + d->stage.used - room;
}

static accelc_status upload(Sess *s, CUdeviceptr to, const void *from, size_t n) {
    Device *d = s->device;
    if (!n) return ACCELC_OK;
    tape_stop(d);
    void *slot = stage_take(d, n);
    if (slot) from = memcpy(slot, from, n);
    else d->uploading = true;
    d->busy = true;
    TRY(d->cu.upload(to, from, n, d->stream), "a copy to the device");
    return ACCELC_OK;
}

/* Without room in the stage it goes straight where it belongs, after it is known that no guard failed. */
static accelc_status download(Sess *s, void *to, CUdeviceptr from, size_t n) {
    Device *d = s->device;
    if (!n) return ACCELC_OK;
    tape_stop(d);
    void *slot = d->nlate < LATE ? stage_take(d, n) : NULL;
    accelc_status st = !slot && d->guarded ? drain(s) : ACCELC_OK;
    if (st != ACCELC_OK) return st;
    d->busy = true;
    TRY(d->cu.download(slot ? slot : to, from, n, d->stream), "a copy from the device");
    if (slot) d->late[d->nlate++] = (Late){to, slot, n};
    return ACCELC_OK;
}

static accelc_status move(Sess *s, CUdeviceptr to, CUdeviceptr from, size_t n) {
    if (!n || to == from) return ACCELC_OK;
    s->device->busy = true;
    tape_move(s, to, from, n);
    TRY(s->device->cu.move(to, from, n, s->device->stream), "a copy on the device");
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

/* Root r becomes valid on the host when the stream has been waited for. */
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
