/* rt_bind.c: the boundary to the caller. Checks every input against the plan (kind, type, rank,
 * sizes, memory), lets the inputs define the symbols, and finds the memory of the outputs; after a
 * run it hands the results over. Nothing here trusts a value of the caller. When the shapes are
 * those of the last run, only pointers are looked at. */
#include "rt_internal.h"

/* ---- shapes ---- */

/* Bytes of a dense tensor; sizes must be >= 0 and the product must fit. */
static accelc_status shape_bytes(Sess *s, const char *what, const char *name, const int64_t *dims,
                                 int rank, int dtype, size_t *bytes) {
    int64_t n = dtype_bits(dtype);
    bool empty = false, wide = false;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return fail(s, ACCELC_ESHAPE, "%s \"%s\": dimension %d is %lld", what, name, i,
                        (long long)dims[i]);
        empty |= dims[i] == 0;
        wide |= !wide && __builtin_mul_overflow(n, dims[i], &n);
    }
    if (wide && !empty)
        return fail(s, ACCELC_ESHAPE, "%s \"%s\": more elements than memory can hold", what, name);
    *bytes = empty ? 0 : (size_t)n / 8 + (n % 8 != 0);
    return ACCELC_OK;
}

static const char *in_name(const Sess *s, uint32_t i) { return s->str + s->in[i].name; }
static const char *out_name(const Sess *s, uint32_t i) { return s->str + s->out[i].name; }

/* ("seq"), the model's name of a dimension, for messages; "" where it has none. */
static const char *dim_label(const Sess *s, uint32_t i, int32_t k, char *text, size_t n) {
    text[0] = 0;
    if (s->desc && s->desc->in[i].dims && s->desc->in[i].dims[k].expr)
        snprintf(text, n, " (\"%s\")", s->desc->in[i].dims[k].expr);
    return text;
}

static accelc_status bad_dim(Sess *s, uint32_t i, int32_t k, int64_t want, int64_t got) {
    char label[80];
    return fail(s, ACCELC_ESHAPE, "input \"%s\": dimension %d%s: expected %lld, got %lld",
                in_name(s, i), k, dim_label(s, i, k, label, sizeof label), (long long)want,
                (long long)got);
}

/* Dimension k of input i is d: defines the symbol it stands for, or compares. Sizes that are no
 * symbols come later, when the dims program has run. */
static accelc_status bind_dim(Sess *s, uint32_t i, int32_t k, int64_t d) {
    int32_t q = s->in[i].dim + k;
    const rt_iobind *ib = &s->iobind[q];
    int32_t sym = ib->sym >= 0 ? ib->sym : s->iodim[q] < (int32_t)s->plan->nsym ? s->iodim[q] : -1;
    char label[80];
    if (d < 0)
        return fail(s, ACCELC_ESHAPE, "input \"%s\": dimension %d is %lld", in_name(s, i), k,
                    (long long)d);
    if (ib->sym >= 0 && (d < ib->lo || (ib->hi >= 0 && d > ib->hi))) {
        dim_label(s, i, k, label, sizeof label);
        return ib->hi < 0 ? fail(s, ACCELC_ESHAPE,
                                 "input \"%s\": dimension %d%s: expected at least %lld, got %lld",
                                 in_name(s, i), k, label, (long long)ib->lo, (long long)d)
                          : fail(s, ACCELC_ESHAPE,
                                 "input \"%s\": dimension %d%s: expected %lld to %lld, got %lld",
                                 in_name(s, i), k, label, (long long)ib->lo, (long long)ib->hi,
                                 (long long)d);
    }
    if (sym < 0) return ACCELC_OK;
    if (s->sym_set[sym] && s->dims[sym] != d) return bad_dim(s, i, k, s->dims[sym], d);
    s->sym_set[sym] = 1;
    set_dim(s, sym, d);
    return ACCELC_OK;
}

/* All shapes are in s->given: symbols, the dims program, checks, guards, places. */
static accelc_status bind_shapes(Sess *s) {
    accelc_status st;
    s->bound = false;
    memset(s->sym_set, 0, s->plan->nsym);
    for (uint32_t d = 0; d < s->plan->ndim;
         d++) /* leftovers of a run that failed half-way must not count */
        if (s->def[d] != 0) set_dim(s, (int32_t)d, 0);
    for (uint32_t i = 0; i < s->nin; i++)
        for (int32_t k = 0; s->given[i].dims && k < s->in[i].rank; k++)
            if ((st = bind_dim(s, i, k, s->given[i].dims[k])) != ACCELC_OK) return st;
    for (uint32_t i = 0; i < s->nin; i++) /* absent ones: the least that is allowed */
        for (int32_t k = 0; !s->given[i].dims && k < s->in[i].rank; k++) {
            const rt_iobind *ib = &s->iobind[s->in[i].dim + k];
            if (ib->sym >= 0 && !s->sym_set[ib->sym]) set_dim(s, ib->sym, ib->lo > 0 ? ib->lo : 0);
        }
    if ((st = eval_dims(s, 0, s->plan->entry_dimops)) != ACCELC_OK) return st;
    for (uint32_t i = 0; i < s->nin; i++) {
        const rt_io *io = &s->in[i];
        int64_t *mine = s->in_dims + io->dim;
        for (int32_t k = 0; k < io->rank; k++) {
            int64_t want = s->dims[s->iodim[io->dim + k]];
            mine[k] = s->given[i].dims ? s->given[i].dims[k] : want;
            if (mine[k] != want) return bad_dim(s, i, k, want, mine[k]);
        }
        if ((st = shape_bytes(s, "input", in_name(s, i), mine, io->rank, io->dtype,
                              &s->in_bytes[i])) != ACCELC_OK)
            return st;
    }
    if ((st = check_guards(s, 0, s->plan->entry_guards)) != ACCELC_OK) return st;
    s->bound = true;
    return ACCELC_OK;
}

/* ---- packed types ---- */

/* n elements of 2 or 4 bits, the first in the lowest, to a byte each; signed ones with their sign.
 */
static void bits_unpack(const uint8_t *from, uint8_t *to, int64_t n, int dtype) {
    int bits = dtype_bits(dtype), per = 8 / bits;
    unsigned sign = dtype_is_signed(dtype) ? 1u << (bits - 1) : 0;
    for (int64_t i = 0; i < n; i++) {
        unsigned v = (unsigned)from[i / per] >> (i % per * bits) & ((1u << bits) - 1u);
        to[i] = (uint8_t)((v ^ sign) - sign);
    }
}

static void bits_pack(const uint8_t *from, uint8_t *to, int64_t n, int dtype) {
    int bits = dtype_bits(dtype), per = 8 / bits;
    for (int64_t i = 0; i < n; i += per) {
        unsigned v = 0;
        for (int k = 0; k < per && i + k < n; k++)
            v |= (from[i + k] & ((1u << bits) - 1u)) << (k * bits);
        to[i / per] = (uint8_t)v;
    }
}

/* ---- inputs ---- */

static accelc_status wrong_device(Sess *s, const char *what, const char *name, int32_t device) {
    char place[24] = "the host";
    if (s->where) snprintf(place, sizeof place, "device %d", s->where);
    return fail(s, ACCELC_EDEVICE, "%s \"%s\" is on device %d, the model runs on %s", what, name,
                device, place);
}

/* Kind, type and rank; an absent input is filled in from the session's state if the port has one.
 */
static accelc_status check_input(Sess *s, uint32_t i, const accelc_value *v) {
    const rt_io *io = &s->in[i];
    const char *name = in_name(s, i);
    if (is_object(s, io)) { /* looked at when the run begins */
        s->given[i] = (Given){.dims = s->in_dims};
        return ACCELC_OK;
    }
    if (v->kind == ACCELC_ABSENT) {
        bool state = s->state_block[i] != -1;
        if (!state && !io->optional) return fail(s, ACCELC_EINVAL, "input \"%s\" is missing", name);
        s->given[i] = (Given){0};
        if (state && s->state_set[i])
            s->given[i] =
                (Given){s->state_dims + io->dim, s->block[s->state_block[i]].p, SIZE_MAX, false};
        return ACCELC_OK;
    }
    if (v->kind != ACCELC_TENSOR)
        return fail(s, ACCELC_EINVAL, "input \"%s\": expected a tensor, got a %s", name,
                    v->kind == ACCELC_SEQUENCE ? "sequence"
                    : v->kind == ACCELC_MAP    ? "map"
                                               : "value of no known kind");
    if (v->dtype != io->dtype)
        return fail(s, ACCELC_EDTYPE, "input \"%s\": expected type %s, got %s", name,
                    dtype_name(io->dtype), dtype_name(v->dtype));
    if (v->rank != io->rank)
        return fail(s, ACCELC_ESHAPE, "input \"%s\": expected rank %d, got %d", name, io->rank,
                    v->rank);
    if (v->rank > 0 && !v->dims) return fail(s, ACCELC_EINVAL, "input \"%s\": dims is NULL", name);
    if (v->device != 0 && v->device != s->where)
        return wrong_device(s, "input", name, v->device);
    s->given[i] = (Given){v->dims ? v->dims : s->in_dims, v->data, v->bytes, v->device != 0};
    return ACCELC_OK;
}

/* Input i has its shape: checks its memory and tells the kernels where it is. */
static accelc_status bind_data(Sess *s, uint32_t i) {
    const char *name = in_name(s, i);
    Given *g = &s->given[i];
    size_t need = s->in_bytes[i];
    int32_t b = s->in_root[i];
    accelc_status st;
    if (is_object(s, &s->in[i])) return ACCELC_OK;
    if (!g->dims) {
        if (s->state_block[i] != -1) { /* the initial state: zeros */
            if ((st = block_new(s, &s->state_block[i], align_up((int64_t)need) + RT_ALIGN)) !=
                ACCELC_OK)
                return st;
            g->data = memset(s->block[s->state_block[i]].p, 0, need);
            if (s->device) s->state_valid[i] = ON_HOST;
        }
    } else if (need > 0) {
        if (!g->data) return fail(s, ACCELC_EINVAL, "input \"%s\": data is NULL", name);
        if (g->bytes < need)
            return fail(s, ACCELC_EINVAL, "input \"%s\": expected %zu bytes, got %zu", name, need,
                        g->bytes);
        if ((uintptr_t)g->data % dtype_align(s->in[i].dtype) != 0)
            return fail(s, ACCELC_EINVAL, "input \"%s\": data is not aligned to %zu bytes", name,
                        dtype_align(s->in[i].dtype));
    }
    if (b < 0) return ACCELC_OK;
    if (g->device) return s->model->gpu->ops->input(s, i);
    int64_t slack = s->buf[b].slack;
    if (dtype_bits(s->in[i].dtype) < 8 && need > 0) { /* kernels see a byte per element */
        int64_t n = buf_bytes(s, b);
        if ((st = block_new(s, &s->in_stage[i], n + slack)) != ACCELC_OK) return st;
        bits_unpack(g->data, (uint8_t *)s->block[s->in_stage[i]].p, n, s->in[i].dtype);
        g->data = s->block[s->in_stage[i]].p;
    } else if (!tail_is_near(g->data, (int64_t)need, slack)) { /* a place to read behind it */
        if ((st = block_new(s, &s->in_stage[i], (int64_t)need + slack)) != ACCELC_OK) return st;
        g->data = memcpy(s->block[s->in_stage[i]].p, g->data, need);
    }
    if (s->ptr[b] != g->data) set_ptr(s, b, (void *)(uintptr_t)g->data);
    return s->device ? s->model->gpu->ops->input(s, i) : ACCELC_OK;
}

static accelc_status bind_inputs(Sess *s, const accelc_value *in) {
    accelc_status st;
    bool same = s->bound;
    if (!in && s->nin > 0)
        return fail(s, ACCELC_EINVAL, "the array of inputs is NULL, %u are expected", s->nin);
    for (uint32_t i = 0; i < s->nin; i++) {
        if ((st = check_input(s, i, &in[i])) != ACCELC_OK) return st;
        const int64_t *mine = s->in_dims + s->in[i].dim, *d = s->given[i].dims;
        same = same && d;
        for (int32_t k = 0; same && k < s->in[i].rank; k++) same = mine[k] == d[k];
    }
    if (!same && (st = bind_shapes(s)) != ACCELC_OK) return st;
    if (same && s->mixed && (st = eval_dims(s, 0, s->plan->entry_dimops)) != ACCELC_OK)
        return st; /* steps of the last run overwrote some of them */
    if ((st = settle(s, 0)) != ACCELC_OK) return st;
    for (uint32_t i = 0; i < s->nin; i++)
        if ((st = bind_data(s, i)) != ACCELC_OK) return st;
    return s->model->calls ? s->model->calls->ops->begin(s, in) : ACCELC_OK;
}

/* ---- outputs ---- */

/* Chooses where the kernels write output `port`: straight into the caller's buffer if it is good
 * enough (an upper bound of the size fits, aligned, readable behind its end as far as kernels
 * read), else into the session's space. */
static void bind_output(Sess *s, int32_t port) {
    int32_t b = s->out_root[port];
    Taken *t = &s->taken[port];
    if (b < 0) return;
    int64_t need = buf_bytes(s, b);
    t->direct = t->user && !s->is_state[port] && dtype_bits(s->out[port].dtype) >= 8 && need >= 0 &&
                t->user_bytes >= (size_t)need &&
                (uintptr_t)t->user % (t->device ? RT_ALIGN : dtype_align(s->out[port].dtype)) == 0 &&
                tail_is_near(t->user, need, s->buf[b].slack);
    char *base = s->block[s->home[b]].p;
    void *p = t->direct && !t->device ? t->user : base ? base + s->at[b] : NULL;
    if (s->ptr[b] != p) set_ptr(s, b, p);
}

static accelc_status bind_outputs(Sess *s, const accelc_value *out) {
    s->done = false;
    for (uint32_t i = 0; i < s->nout; i++) {
        bool user = out && out[i].data && !out[i].owned;
        if (user && is_object(s, &s->out[i]))
            return fail(s, ACCELC_EINVAL,
                        "output \"%s\" comes in memory of the session, a buffer cannot be given",
                        out_name(s, i));
        if (user && out[i].device != 0 && out[i].device != s->where)
            return wrong_device(s, "the buffer of output", out_name(s, i), out[i].device);
        s->taken[i] = (Taken){.user = user ? out[i].data : NULL,
                              .user_bytes = user ? out[i].bytes : 0,
                              .device = s->where && out && out[i].device == s->where};
        bind_output(s, (int32_t)i);
    }
    return ACCELC_OK;
}

/* Whether output i must be copied before the caller can have it: it is the caller's own input,
 * which must not pass for our memory, or it has a byte per element that should have 2 or 4 bits. */
static bool needs_extra(const Sess *s, uint32_t i) {
    return dtype_bits(s->out[i].dtype) < 8 || s->buf[root_of(s, s->out[i].buf)].kind == RT_BUF_INPUT;
}

/* The shape and size of output i, as the run that just ended made it. */
static accelc_status output_dims(Sess *s, uint32_t i, size_t *bytes) {
    const rt_io *io = &s->out[i];
    int64_t *d = s->out_dims + io->dim;
    if (is_object(s, io)) return s->model->calls->ops->finish(s, i);
    for (int32_t k = 0; k < io->rank; k++) d[k] = s->dims[s->iodim[io->dim + k]];
    accelc_status st = shape_bytes(s, "output", out_name(s, i), d, io->rank, io->dtype, bytes);
    if (st == ACCELC_OK && *bytes > 0 && (int64_t)*bytes > buf_bytes(s, io->buf))
        return fail(s, ACCELC_ESHAPE, "output \"%s\" has %zu bytes in a buffer of %lld",
                    out_name(s, i), *bytes, (long long)buf_bytes(s, io->buf));
    return st;
}

static int64_t out_count(const Sess *s, uint32_t i) {
    int64_t n = 1;
    for (int32_t k = 0; k < s->out[i].rank; k++) n *= s->out_dims[s->out[i].dim + k];
    return n;
}

static void give_shape(const Sess *s, uint32_t i, accelc_value *v) {
    v->rank = s->out[i].rank;
    v->dims = s->out_dims + s->out[i].dim;
}

/* Copies output i of the finished run to the caller's buffer v, if it is one and another. */
static accelc_status give_data(Sess *s, uint32_t i, const accelc_value *v) {
    const Taken *t = &s->taken[i];
    bool user = v->data && !v->owned && !is_object(s, &s->out[i]);
    if (user && v->device != 0 && v->device != s->where)
        return wrong_device(s, "the buffer of output", out_name(s, i), v->device);
    if (user && v->data != t->src && v->bytes < t->bytes)
        return fail(s, ACCELC_ESPACE, "output \"%s\" needs %zu bytes, its buffer has %zu",
                    out_name(s, i), t->bytes, v->bytes);
    if (!user || v->data == t->src || !t->bytes) return ACCELC_OK;
    if (s->device) return s->model->gpu->ops->move(s, v->data, v->device != 0, t->src, t->device, t->bytes);
    memmove(v->data, t->src, t->bytes);
    return ACCELC_OK;
}

/* Tells what output i of the finished run is, and where, unless it is in a buffer of the caller's. */
static void give_value(const Sess *s, uint32_t i, accelc_value *v) {
    const Taken *t = &s->taken[i];
    if (is_object(s, &s->out[i])) {
        *v = *(const accelc_value *)t->src;
        return;
    }
    give_shape(s, i, v);
    v->kind = ACCELC_TENSOR;
    v->dtype = s->out[i].dtype;
    if (v->data && !v->owned) return;
    v->device = t->device ? s->where : 0;
    v->data = (void *)(uintptr_t)t->src;
    v->bytes = t->bytes;
    v->owned = 1;
}

/* Hands output i to the caller. Without room for it, its shape. */
static accelc_status give_output(Sess *s, uint32_t i, accelc_value *v) {
    accelc_status st = give_data(s, i, v);
    if (st == ACCELC_OK) give_value(s, i, v);
    else if (st == ACCELC_ESPACE) give_shape(s, i, v);
    return st;
}

/* The run succeeded: sizes of all outputs, then the values, unless one of the caller's buffers is
 * too small. */
static accelc_status finish_outputs(Sess *s, accelc_value *out) {
    accelc_status st, space = ACCELC_OK;
    for (uint32_t i = 0; i < s->nout; i++) {
        if ((st = output_dims(s, i, &s->taken[i].bytes)) != ACCELC_OK) return st;
        bool here = s->device && !is_object(s, &s->out[i]) && (needs_extra(s, i) || !s->taken[i].device);
        if (here && (st = s->model->gpu->ops->get(s, s->out[i].buf)) != ACCELC_OK) return st;
    }
    if (s->device && (st = s->model->gpu->ops->wait(s)) != ACCELC_OK) return st;
    for (uint32_t i = 0; i < s->nout; i++) {
        Taken *t = &s->taken[i];
        int32_t b = s->out[i].buf;
        if (is_object(s, &s->out[i])) continue;
        bool extra_copy = needs_extra(s, i);
        t->src = s->ptr[b];
        if (!t->device) t->direct = t->user && t->src == t->user;
        if (!t->direct && extra_copy) {
            int64_t room = align_up((int64_t)t->bytes) + RT_ALIGN;
            if ((st = block_new(s, &s->out_extra[i], room)) != ACCELC_OK) return st;
            char *extra = s->block[s->out_extra[i]].p;
            if (dtype_bits(s->out[i].dtype) < 8)
                bits_pack(t->src, (uint8_t *)extra, out_count(s, i), s->out[i].dtype);
            else if (t->bytes)
                memcpy(extra, t->src, t->bytes);
            t->src = extra;
        }
        if (t->device) {
            if ((st = s->model->gpu->ops->result(s, i)) != ACCELC_OK) return st;
            t->direct = t->user && t->src == t->user;
        }
        if (t->user && !t->direct && t->user_bytes < t->bytes && space == ACCELC_OK)
            space = fail(s, ACCELC_ESPACE, "output \"%s\" needs %zu bytes, its buffer has %zu",
                         out_name(s, i), t->bytes, t->user_bytes);
    }
    if (s->device && (st = s->model->gpu->ops->wait(s)) != ACCELC_OK) return st;
    for (uint32_t i = 0; out && i < s->nout && space == ACCELC_OK; i++)
        if ((st = give_data(s, i, &out[i])) != ACCELC_OK) return st;
    s->done = true;
    for (uint32_t i = 0; out && i < s->nout; i++)
        if (space == ACCELC_OK)
            give_value(s, i, &out[i]);
        else
            give_shape(s, i, &out[i]);
    for (uint32_t i = 0; i < s->nin;
         i++) { /* outputs that are states stay, as the input of the next run */
        if (s->state_block[i] == -1) continue;
        int32_t o = s->desc->in[i].state, b = s->out_root[o], k = s->home[b];
        if ((st = block_new(s, &s->state_block[i], 0)) != ACCELC_OK) return st;
        Block x = s->block[k];
        s->block[k] = s->block[s->state_block[i]];
        s->block[s->state_block[i]] = x;
        s->grew[k] = 1; /* the other block may be smaller */
        s->state_set[i] = 1;
        if (s->device) s->state_valid[i] = s->valid[b];
        memcpy(s->state_dims + s->in[i].dim, s->out_dims + s->out[o].dim,
               sizeof(int64_t) * (size_t)s->in[i].rank);
    }
    return space;
}
