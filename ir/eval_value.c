/* eval_value.c: the values of the evaluator: their memory, which is counted, and what tensors and constants become. */
#include "eval_internal.h"
#include <stdlib.h>
#include <string.h>

/* ==== memory ================================================================================= */

void *ev_tmp(Ev *e, int64_t n, size_t size) {
    void *p = n >= 0 && n < INT64_MAX / 2 / (int64_t)size ? malloc((size_t)n * size + 1) : NULL;
    if (!p) ev_fail(e, "E0804", "no memory for %lld elements", (long long)n);
    return p;
}

int ev_width(DType t) {
    unsigned bits = dt_bits(t);
    return bits <= 8 ? 1 : (int)(bits / 8);
}

int64_t ev_count(const EVal *v) {
    int64_t n = 1;
    for (int d = 0; d < v->rank; d++) n *= v->dim[d];
    return n;
}

bool ev_size(Ev *e, DType t, int rank, const int64_t *dim, int64_t *bytes) {
    int64_t n = ev_width(t);
    bool empty = false, over = false;
    for (int d = 0; d < rank; d++) {
        if (dim[d] < 0)
            return ev_fail(e, "E0803", "axis %d has negative size %lld", d, (long long)dim[d]);
        empty |= dim[d] == 0;
        over |= dim[d] != 0 && __builtin_mul_overflow(n, dim[d], &n);
    }
    /* Counts of elements of views stay far from overflow, also when they are multiplied by strides.
     */
    if (!empty && (over || n > INT64_MAX / 64)) return ev_fail(e, "E0804", "a value is too large");
    *bytes = empty ? 0 : n;
    return true;
}

static EBuf *new_buf(Ev *e, int64_t bytes) {
    if (e->limit && bytes > e->limit - e->live) {
        ev_fail(e, "E0804", "evaluation needs more than the limit of %lld bytes",
                (long long)e->limit);
        return NULL;
    }
    EBuf *b = calloc(1, sizeof *b);
    size_t size = ((size_t)bytes + 63) / 64 * 64;
    char *p = b ? aligned_alloc(64, size ? size : 64) : NULL;
    if (!p) {
        free(b);
        ev_fail(e, "E0804", "no memory for a value of %lld bytes", (long long)bytes);
        return NULL;
    }
    e->live += bytes;
    *b = (EBuf){.data = p, .bytes = (size_t)bytes, .refs = 1, .owned = true};
    return b;
}

static void drop_buf(Ev *e, EBuf *b) {
    if (!b || --b->refs) return;
    if (b->owned) {
        e->live -= (int64_t)b->bytes;
        free(b->data);
    }
    free(b);
}

static EVal *new_val(Ev *e) {
    EVal *v = calloc(1, sizeof *v);
    if (!v) ev_fail(e, "E0804", "no memory");
    else v->refs = 1;
    return v;
}

static void set_shape(EVal *v, int rank, const int64_t *dim) {
    v->rank = rank;
    int64_t stride = 1;
    for (int d = rank - 1; d >= 0; d--) {
        v->dim[d] = dim[d];
        v->stride[d] = stride;
        stride *= dim[d] > 0 ? dim[d] : 1;
    }
}

EVal *ev_new(Ev *e, DType t, int rank, const int64_t *dim) {
    int64_t bytes = 0;
    if (!ev_size(e, t, rank, dim, &bytes)) return NULL;
    EVal *v = new_val(e);
    if (!v) return NULL;
    v->buf = new_buf(e, bytes);
    if (!v->buf) {
        free(v);
        return NULL;
    }
    v->kind = TY_TENSOR;
    v->dtype = t;
    v->base = v->buf->data;
    set_shape(v, rank, dim);
    return v;
}

EVal *ev_view(Ev *e, const EVal *v) {
    CHECK(v->kind == TY_TENSOR);
    EVal *w = new_val(e);
    if (!w) return NULL;
    *w = *v;
    w->refs = 1;
    if (w->buf) w->buf->refs++;
    return w;
}

static bool list_room(Ev *e, int64_t n) {
    int64_t bytes = n * (int64_t)sizeof(EVal *);
    if (e->limit && bytes > e->limit - e->live)
        return ev_fail(e, "E0804", "a list of %lld elements is too long", (long long)n);
    e->live += bytes;
    return true;
}

EVal *ev_list(Ev *e, TypeKind kind, int64_t n) {
    EVal *v = list_room(e, n) ? new_val(e) : NULL;
    if (!v) return NULL;
    v->kind = (uint8_t)kind;
    v->nelem = n;
    v->elem = calloc((size_t)n + 1, sizeof(EVal *));
    if (!v->elem) {
        free(v);
        ev_fail(e, "E0804", "no memory");
        return NULL;
    }
    return v;
}

EVal *ev_ref(EVal *v) {
    v->refs++;
    return v;
}

void ev_unref(Ev *e, EVal *v) {
    if (!v || --v->refs) return;
    for (int64_t i = 0; v->elem && i < v->nelem; i++) ev_unref(e, v->elem[i]);
    if (v->elem) e->live -= v->nelem * (int64_t)sizeof(EVal *);
    free(v->elem);
    drop_buf(e, v->buf);
    free(v);
}

bool ev_is_dense(const EVal *v) {
    int64_t stride = 1;
    for (int d = v->rank - 1; d >= 0; d--) {
        if (v->dim[d] == 0) return true;
        if (v->dim[d] != 1 && v->stride[d] != stride) return false;
        stride *= v->dim[d];
    }
    return true;
}

EVal *ev_dense(Ev *e, EVal *v) {
    if (v->kind != TY_TENSOR || ev_is_dense(v)) return ev_ref(v);
    EVal *w = ev_new(e, v->dtype, v->rank, v->dim);
    if (w && !ev_copy(e, v, w->base, w->stride)) {
        ev_unref(e, w);
        return NULL;
    }
    return w;
}

int64_t ev_int(const EVal *v, int64_t flat) {
    int64_t off = 0;
    for (int d = v->rank - 1; d >= 0; d--) {
        off += flat % v->dim[d] * v->stride[d];
        flat /= v->dim[d];
    }
    Cell x;
    cells_load(v->dtype, &x, v->base + off * ev_width(v->dtype), 1, 1);
    return x.i;
}

/* ==== tensors ================================================================================ */

int64_t tensor_count(const Tensor *t) {
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++) n *= t->dim[d];
    return n;
}

Tensor *tensor_new(Ctx *c, DType t, int rank, const int64_t *dim) {
    Ev e = {.c = c};
    int64_t bytes;
    if (rank < 0 || rank > MAX_RANK || !ev_size(&e, t, rank, dim, &bytes)) return NULL;
    Tensor *x = NEW(c, Tensor);
    x->dtype = t;
    x->rank = rank;
    for (int d = 0; d < rank; d++) x->dim[d] = dim[d];
    x->data = ctx_alloc(c, (size_t)bytes + 1);
    return x;
}

EVal *ev_from_tensor(Ev *e, const Tensor *t, int depth) {
    if (t->kind != TY_TENSOR) {
        int64_t n = t->nelem > 0 && depth < 8 ? t->nelem : 0;
        EVal *v = ev_list(e, (TypeKind)t->kind, n);
        for (int64_t i = 0; v && i < n; i++) {
            v->elem[i] = ev_from_tensor(e, t->elem[i], depth + 1);
            if (!v->elem[i]) {
                ev_unref(e, v);
                return NULL;
            }
        }
        return v;
    }
    int64_t bytes;
    if (t->rank < 0 || t->rank > MAX_RANK || !ev_size(e, t->dtype, t->rank, t->dim, &bytes))
        return NULL;
    EVal *v = new_val(e);
    EBuf *b = v ? calloc(1, sizeof *b) : NULL;
    if (!b) {
        free(v);
        ev_fail(e, "E0804", "no memory");
        return NULL;
    }
    *b = (EBuf){.data = t->data, .bytes = (size_t)bytes, .refs = 1};
    v->kind = TY_TENSOR;
    v->dtype = t->dtype;
    v->buf = b;
    v->base = b->data;
    set_shape(v, t->rank, t->dim);
    return v;
}

Tensor *ev_to_tensor(Ev *e, EVal *v) {
    Tensor *t = NEW(e->c, Tensor);
    t->kind = v->kind;
    if (v->kind != TY_TENSOR) {
        t->nelem = v->kind == TY_OPT && !v->nelem ? -1 : v->nelem;
        t->elem = NEWN(e->c, Tensor *, v->nelem + 1);
        for (int64_t i = 0; i < v->nelem; i++) {
            t->elem[i] = ev_to_tensor(e, v->elem[i]);
            if (!t->elem[i]) return NULL;
        }
        return t;
    }
    t->dtype = v->dtype;
    t->rank = v->rank;
    memcpy(t->dim, v->dim, sizeof t->dim);
    if (!v->buf->owned && ev_is_dense(v)) {
        t->data = v->base;
        return t;
    }
    int64_t bytes, stride[MAX_RANK], s = 1;
    if (!ev_size(e, v->dtype, v->rank, v->dim, &bytes)) return NULL;
    for (int d = v->rank - 1; d >= 0; d--) {
        stride[d] = s;
        s *= v->dim[d];
    }
    t->data = ctx_alloc(e->c, (size_t)bytes + 1);
    if (ev_is_dense(v)) memcpy(t->data, v->base, (size_t)bytes);
    else if (!ev_copy(e, v, t->data, stride)) return NULL;
    return t;
}

/* ==== constants ============================================================================== */

static void unpack(const ConstData *k, char *to, int64_t n) {
    unsigned bits = dt_bits(k->dtype), per = 8 / bits, mask = (1u << bits) - 1;
    const unsigned char *p = k->data;
    for (int64_t i = 0; i < n; i++) {
        unsigned x = (unsigned)p[i / per] >> (bits * (unsigned)(i % per)) & mask;
        if (dt_is_signed(k->dtype) && x >> (bits - 1)) x |= ~mask;
        to[i] = (char)x;
    }
}

bool ev_const(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    (void)in;
    const ConstAttr *a = n->attr;
    const ConstData *k = a->data;
    int64_t dim[MAX_RANK], bytes;
    for (int d = 0; d < a->type.rank; d++) {
        if (!ev_dim(e, a->type.dim[d], &dim[d])) return false;
    }
    if (!ev_size(e, k->dtype, a->type.rank, dim, &bytes)) return false;
    int64_t stored = k->splat ? 1 : bytes / ev_width(k->dtype);
    if (k->bytes < dt_bytes(k->dtype, stored) && bytes)
        return ev_fail(e, "E0802", "constant has too few bytes");
    int64_t one = stored;
    EVal *v;
    if (dt_is_packed(k->dtype)) {
        v = ev_new(e, k->dtype, 1, &one);
        if (v && bytes) unpack(k, v->base, stored);
    } else {
        v = new_val(e);
        EBuf *b = v ? calloc(1, sizeof *b) : NULL;
        if (!b) {
            free(v);
            return ev_fail(e, "E0804", "no memory");
        }
        *b = (EBuf){.data = (char *)(uintptr_t)k->data, .refs = 1};
        v->buf = b;
        v->base = b->data;
    }
    if (!v) return false;
    v->kind = TY_TENSOR;
    v->dtype = k->dtype;
    set_shape(v, a->type.rank, dim);
    if (k->splat) memset(v->stride, 0, sizeof v->stride);
    out[0] = v;
    return true;
}

Tensor *tensor_from_const(Ctx *c, const ConstData *d, const Type *t) {
    int64_t dim[MAX_RANK], bytes;
    Ev e = {.c = c};
    if (!type_const_dims(c, t, dim) || !ev_size(&e, d->dtype, t->rank, dim, &bytes)) return NULL;
    int64_t n = bytes / ev_width(d->dtype);
    int width = ev_width(d->dtype);
    if (n && d->bytes < dt_bytes(d->dtype, d->splat ? 1 : n)) return NULL;
    Tensor *x = NEW(c, Tensor);
    x->dtype = d->dtype;
    x->rank = t->rank;
    for (int k = 0; k < t->rank; k++) x->dim[k] = dim[k];
    if (!d->splat && !dt_is_packed(d->dtype)) {
        x->data = (void *)(uintptr_t)d->data;
        return x;
    }
    char *p = ctx_alloc(c, (size_t)bytes + 1);
    x->data = p;
    if (dt_is_packed(d->dtype) && n) unpack(d, p, d->splat ? 1 : n);
    else if (n) memcpy(p, d->data, (size_t)width);
    if (!d->splat) return x;
    for (int64_t done = 1; done < n; done *= 2) {
        memcpy(p + done * width, p, (size_t)((done < n - done ? done : n - done) * width));
    }
    return x;
}

const ConstData *ev_pack(Ctx *c, const Tensor *t, bool splat) {
    int64_t n = tensor_count(t), stored = splat ? 1 : n;
    const char *p = t->data;
    ConstData *k = NEW(c, ConstData);
    *k = (ConstData){.dtype = t->dtype,
                     .count = n,
                     .splat = splat,
                     .bytes = dt_bytes(t->dtype, stored),
                     .data = p};
    if (!dt_is_packed(t->dtype)) {
        if (splat) k->data = ctx_dup(c, p, (size_t)ev_width(t->dtype));
        return k;
    }
    unsigned bits = dt_bits(t->dtype), per = 8 / bits, mask = (1u << bits) - 1;
    unsigned char *q = ctx_alloc(c, k->bytes + 1);
    for (int64_t i = 0; i < stored; i++) {
        q[i / per] =
            (unsigned char)(q[i / per] | ((unsigned)p[i] & mask) << (bits * (unsigned)(i % per)));
    }
    k->data = q;
    return k;
}

const ConstData *tensor_to_const(Ctx *c, const Tensor *t) {
    int64_t n = tensor_count(t);
    int width = ev_width(t->dtype);
    const char *p = t->data;
    return ev_pack(c, t, n > 1 && !memcmp(p, p + width, (size_t)((n - 1) * width)));
}
