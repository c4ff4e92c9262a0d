/* rt_object.c: values that are no tensors in a compiled model, and calls of functions (call.h). An
 * object of its own, linked only into models that have either: the runtime reaches it through
 * accelc_rt1_objects alone.
 *
 * All values of a run lie in a pool: memory that is handed out in one direction, lasts until the
 * next run begins, and is then used again. So a value is passed on as a pointer, in loops and
 * branches too, and results stay valid after the run. What the caller passes is seen where it lies;
 * buffers of kernels are copied before a sequence may keep them, because their memory is used again
 * within the run. */
#include "rt_session.h"

#define mem_get accelc_rt1_mem_get
#define mem_put accelc_rt1_mem_put
#define dtype_bits accelc_rt1_dtype_bits
#define dtype_align accelc_rt1_dtype_align
#define dtype_name accelc_rt1_dtype_name
#define bits_unpack accelc_rt1_bits_unpack
#define bits_pack accelc_rt1_bits_pack
#define shape_bytes accelc_rt1_shape_bytes
#define set_ptr accelc_rt1_set_ptr

enum { HEAD = RT_ALIGN, FIRST_CHUNK = 16 << 10, LARGEST_STEP = 64 << 20 };

typedef struct Chunk {
    struct Chunk *next;
    size_t cap, used; /* bytes, from the chunk on; the first HEAD of them are this */
} Chunk;

struct Objects {
    Chunk *first, *cur;
    bool refused;    /* the limit or the machine had no memory in this run */
    rt_value view[]; /* the operands of a call that are tensors, where nothing keeps them */
};

/* ---- the pool ---- */

static size_t pool_limit(const Sess *s) {
    return s->cfg.mem_limit ? s->cfg.mem_limit - (size_t)s->late_bytes : SIZE_MAX;
}

static Chunk *chunk_new(Sess *s, size_t need) {
    struct Objects *o = s->objects;
    size_t last = o->cur ? o->cur->cap : FIRST_CHUNK / 2,
           want = last < LARGEST_STEP ? 2 * last : last;
    if (s->cfg.mem_limit && (size_t)s->late_bytes > s->cfg.mem_limit) return NULL;
    if (want > pool_limit(s)) want = pool_limit(s);
    if (want < need) want = need;
    Chunk *c = want <= pool_limit(s) ? mem_get(&s->cfg, want) : NULL;
    if (!c) return NULL;
    *c = (Chunk){.cap = want, .used = HEAD};
    s->late_bytes += (int64_t)want;
    if (o->cur) {
        c->next = o->cur->next;
        o->cur->next = c;
    } else
        o->first = c;
    return o->cur = c;
}

/* Memory aligned to RT_ALIGN, or NULL. */
static void *pool_raw(Sess *s, size_t bytes) {
    struct Objects *o = s->objects;
    Chunk *c = o->cur;
    bool possible = bytes < SIZE_MAX / 4;
    size_t n = possible ? (size_t)align_up((int64_t)(bytes ? bytes : 1)) : 0;
    while (possible && c && c->cap - c->used < n) { /* chunks of earlier runs come first */
        c = c->next;
        if (c) o->cur = c;
    }
    if (possible && !c) c = chunk_new(s, n + HEAD);
    if (!possible || !c) {
        o->refused = true;
        return NULL;
    }
    void *p = (char *)c + c->used;
    c->used += n;
    return p;
}

static void *pool_get(Sess *s, size_t bytes) { /* zeroed */
    void *p = pool_raw(s, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

static bool pool_has(const Sess *s, const void *p) {
    for (const Chunk *c = s->objects->first; c; c = c->next)
        if ((uintptr_t)p - (uintptr_t)c < c->cap) return true;
    return false;
}

static void *pool_alloc(rt_call *c, size_t bytes) { return pool_get(c->owner, bytes); }

/* who: what needs it, `what` in front. */
static accelc_status no_memory(Sess *s, const char *what, const char *who) {
    static const char why[] = "values whose size depends on data";
    return s->cfg.mem_limit
               ? fail(s, ACCELC_ENOMEM, "%s%s: %s need more memory than the limit of %zu bytes",
                      what, who, why, s->cfg.mem_limit)
               : fail(s, ACCELC_ENOMEM, "%s%s: out of memory for %s", what, who, why);
}

static accelc_status pool_open(Sess *s) {
    int32_t most = 0;
    for (uint32_t i = 0; i < s->nstep; i++)
        if (s->step[i].op == RT_CALL && s->step[i].a > most) most = s->step[i].a;
    size_t bytes = sizeof *s->objects + (size_t)most * sizeof(rt_value);
    if (!(s->objects = mem_get(&s->cfg, bytes))) return no_memory(s, "the session", "");
    memset(s->objects, 0, bytes);
    return ACCELC_OK;
}

static void pool_reset(struct Objects *o) {
    for (Chunk *c = o->first; c; c = c->next) c->used = HEAD;
    o->cur = o->first;
    o->refused = false;
}

static void pool_close(Sess *s) {
    for (Chunk *c = s->objects->first, *next; c; c = next) {
        next = c->next;
        mem_put(&s->cfg, c);
    }
    mem_put(&s->cfg, s->objects);
}

static int64_t count(const rt_value *v) { return call_count(v); }

/* v's elements in memory of the pool. */
static bool keep_data(Sess *s, rt_value *v) {
    size_t n = (size_t)count(v) * call_width(v->dtype);
    void *p = pool_raw(s, n);
    if (!p) return false;
    if (n) memcpy(p, v->data, n);
    v->data = p;
    return true;
}

/* ---- inputs ---- */

/* A place in the caller's tree, for messages. */
typedef struct Where {
    const struct Where *up;
    const char *name; /* of the input, or "keys", "values" */
    uint64_t index;   /* of an element, where there is no name */
} Where;

static int where_text(const Where *w, char *text, size_t n) {
    int at = w->up ? where_text(w->up, text, n) : 0;
    size_t left = (size_t)at < n ? n - (size_t)at : 0;
    char *to = text + (left ? (size_t)at : 0);
    int more = !w->up    ? snprintf(to, left, "\"%s\"", w->name)
               : w->name ? snprintf(to, left, " %s", w->name)
                         : snprintf(to, left, "[%llu]", (unsigned long long)w->index);
    return at + (more > 0 ? more : 0);
}

#define BAD(s, w, status, ...) bad((s), (w), (status), __VA_ARGS__)
static accelc_status bad(Sess *s, const Where *w, accelc_status st, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static accelc_status bad(Sess *s, const Where *w, accelc_status st, const char *fmt, ...) {
    char place[160], text[300];
    va_list ap;
    where_text(w, place, sizeof place);
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return fail(s, st, "input %s%s", place, text);
}

static const char *kind_name(int kind) {
    static const char *const name[] = {"nothing", "a tensor", "a sequence", "a map"};
    return kind >= 0 && kind <= ACCELC_MAP ? name[kind] : "a value of no known kind";
}

static rt_value *value_new(Sess *s, int kind, int64_t nelem) {
    if (nelem > INT64_MAX / (int64_t)sizeof(rt_value *)) return NULL;
    rt_value *v = pool_get(s, sizeof *v);
    if (!v) return NULL;
    v->kind = (uint8_t)kind;
    v->nelem = nelem;
    v->elem = nelem ? pool_get(s, (size_t)nelem * sizeof *v->elem) : NULL;
    return nelem && !v->elem ? NULL : v;
}

static accelc_status take_tensor(Sess *s, const Where *w, int dtype, int rank,
                                 const accelc_value *a, rt_value **out) {
    char place[160];
    size_t need;
    if (a->dtype != dtype)
        return BAD(s, w, ACCELC_EDTYPE, ": expected type %s, got %s", dtype_name(dtype),
                   dtype_name(a->dtype));
    if (rank >= 0 && a->rank != rank)
        return BAD(s, w, ACCELC_ESHAPE, ": expected rank %d, got %d", rank, a->rank);
    if (a->rank < 0 || a->rank > CALL_RANK)
        return BAD(s, w, ACCELC_ESHAPE, ": rank %d, expected 0 to %d", a->rank, CALL_RANK);
    if (a->rank > 0 && !a->dims) return BAD(s, w, ACCELC_EINVAL, ": dims is NULL");
    if (a->device != 0)
        return BAD(s, w, ACCELC_EDEVICE, " is on device %d, the model runs on the host", a->device);
    where_text(w, place, sizeof place);
    for (int k = 0; k < a->rank; k++)
        if (a->dims[k] < 0)
            return BAD(s, w, ACCELC_ESHAPE, ": dimension %d is %lld", k, (long long)a->dims[k]);
    accelc_status st = shape_bytes(s, "input", place, a->dims, a->rank, dtype, &need);
    if (st != ACCELC_OK) return st;
    if (need > 0 && !a->data) return BAD(s, w, ACCELC_EINVAL, ": data is NULL");
    if (a->bytes < need)
        return BAD(s, w, ACCELC_EINVAL, ": expected %zu bytes, got %zu", need, a->bytes);
    if (need > 0 && (uintptr_t)a->data % dtype_align(dtype) != 0)
        return BAD(s, w, ACCELC_EINVAL, ": data is not aligned to %zu bytes", dtype_align(dtype));
    rt_value *v = *out = value_new(s, ACCELC_TENSOR, 0);
    if (!v) return no_memory(s, "input ", place);
    v->dtype = (uint16_t)dtype;
    v->rank = a->rank;
    v->data = a->data;
    if (a->rank > 0) memcpy(v->dims, a->dims, sizeof *v->dims * (size_t)a->rank);
    if (dtype_bits(dtype) < 8) {
        int64_t n = count(v);
        if (!(v->data = pool_get(s, (size_t)n))) return no_memory(s, "input ", place);
        if (n) bits_unpack(a->data, v->data, n, dtype);
    }
    return ACCELC_OK;
}

static accelc_status take(Sess *s, const Where *w, const rt_type *t, const accelc_value *a,
                          rt_value **out);

static accelc_status take_list(Sess *s, const Where *w, const rt_type *t, const accelc_value *a,
                               rt_value **out) {
    char place[160];
    accelc_status st = ACCELC_OK;
    if (a->nelem > 0 && !a->elem) return BAD(s, w, ACCELC_EINVAL, ": elem is NULL");
    rt_value *v = *out =
        a->nelem <= INT64_MAX ? value_new(s, ACCELC_SEQUENCE, (int64_t)a->nelem) : NULL;
    if (!v) {
        where_text(w, place, sizeof place);
        return no_memory(s, "input ", place);
    }
    for (size_t i = 0; i < a->nelem && st == ACCELC_OK; i++)
        st = take(s, &(Where){w, NULL, i}, t, &a->elem[i], &v->elem[i]);
    return st;
}

/* Values of a map that are single numbers come as one tensor. */
static accelc_status take_map(Sess *s, const Where *w, const rt_type *t, const accelc_value *a,
                              rt_value **out) {
    const rt_type *of = &s->type[t->elem];
    const Where keys = {w, "keys", 0}, values = {w, "values", 0};
    char place[160];
    accelc_status st;
    if (a->nelem != 2 || !a->elem)
        return BAD(s, w, ACCELC_EINVAL,
                   ": a map has two elements, keys and values, this one has %zu", a->nelem);
    rt_value *v = *out = value_new(s, ACCELC_MAP, 2);
    if (!v) {
        where_text(w, place, sizeof place);
        return no_memory(s, "input ", place);
    }
    v->dtype = t->dtype;
    if (a->elem[0].kind != ACCELC_TENSOR)
        return BAD(s, &keys, ACCELC_EINVAL, ": expected a tensor, got %s",
                   kind_name(a->elem[0].kind));
    if ((st = take_tensor(s, &keys, t->dtype, 1, &a->elem[0], &v->elem[0])) != ACCELC_OK) return st;
    bool numbers = of->kind == ACCELC_TENSOR && of->rank <= 0 && a->elem[1].kind == ACCELC_TENSOR;
    if (!numbers && a->elem[1].kind != ACCELC_SEQUENCE)
        return BAD(s, &values, ACCELC_EINVAL, ": expected a sequence, got %s",
                   kind_name(a->elem[1].kind));
    st = numbers ? take_tensor(s, &values, of->dtype, 1, &a->elem[1], &v->elem[1])
                 : take_list(s, &values, of, &a->elem[1], &v->elem[1]);
    if (st != ACCELC_OK) return st;
    int64_t n = numbers ? v->elem[1]->dims[0] : v->elem[1]->nelem;
    if (n != v->elem[0]->dims[0])
        return BAD(s, w, ACCELC_ESHAPE, ": %lld keys and %lld values",
                   (long long)v->elem[0]->dims[0], (long long)n);
    return ACCELC_OK;
}

static accelc_status take(Sess *s, const Where *w, const rt_type *t, const accelc_value *a,
                          rt_value **out) {
    if (a->kind == ACCELC_ABSENT) {
        if (!t->optional) return BAD(s, w, ACCELC_EINVAL, " is missing");
        *out = value_new(s, ACCELC_ABSENT, 0);
        return *out ? ACCELC_OK : no_memory(s, "the session", "");
    }
    if (a->kind != t->kind)
        return BAD(s, w, ACCELC_EINVAL, ": expected %s, got %s", kind_name(t->kind),
                   kind_name(a->kind));
    switch (t->kind) {
    case ACCELC_TENSOR:
        return take_tensor(s, w, t->dtype, t->rank, a, out);
    case ACCELC_SEQUENCE:
        return take_list(s, w, &s->type[t->elem], a, out);
    default:
        return take_map(s, w, t, a, out);
    }
}

static accelc_status begin(Sess *s, const accelc_value *in) {
    accelc_status st;
    if (!s->objects && (st = pool_open(s)) != ACCELC_OK) return st;
    pool_reset(s->objects);
    memset(s->value, 0, s->nbuf * sizeof *s->value);
    for (uint32_t i = 0; i < s->nin; i++) {
        const rt_io *io = &s->in[i];
        if (!is_object(s, io)) continue;
        const Where w = {NULL, s->str + io->name, 0};
        if ((st = take(s, &w, &s->type[io->type], &in[i], &s->value[io->buf])) != ACCELC_OK)
            return st;
    }
    return ACCELC_OK;
}

/* ---- calls ---- */

static bool within(int64_t x, uint32_t n) { return x >= 0 && x < (int64_t)n; }

/* The sizes of operands are as many as their ranks say; results are values. */
static const char *check(const Sess *s, const rt_step *t) {
    int32_t ndim = 0;
    if (t->op == RT_SIZE)
        return within(t->a, s->plan->ndim) && within(t->b, s->nbuf) &&
                       s->buf[t->b].kind == RT_BUF_VALUE && within(t->imm, s->buf[t->b].rank)
                   ? NULL
                   : "dim, buffer or axis";
    if (t->arg < 0 || (int64_t)t->arg + t->nbuf + t->ndim > (int64_t)s->narg) return "arg";
    if (!within(t->kernel, s->model->calls->nfn)) return "function";
    if (t->a < 0 || t->a > t->nbuf) return "operands";
    for (int32_t k = 0; k < t->nbuf; k++) {
        int32_t b = s->arg[t->arg + k];
        if (k < t->a && b == -1) continue;
        if (!within(b, s->nbuf) || s->buf[b].rank > CALL_RANK) return "argument";
        if (k < t->a)
            ndim += s->buf[b].rank;
        else if (s->buf[b].kind != RT_BUF_VALUE)
            return "result";
    }
    for (int32_t k = 0; k < t->ndim; k++)
        if (!within(s->arg[t->arg + t->nbuf + k], s->plan->ndim)) return "argument";
    return ndim == t->ndim ? NULL : "sizes";
}

/* Tensor buffer b as a value; *dim: its sizes, moved on. `kept`: a result may keep it. NULL: no
 * memory. */
static rt_value *operand(Sess *s, int32_t b, rt_value *v, const int32_t **dim, bool kept) {
    const rt_buf *f = &s->buf[b];
    *v = (rt_value){.kind = ACCELC_TENSOR, .dtype = f->dtype, .rank = f->rank, .data = s->ptr[b]};
    for (int k = 0; k < f->rank; k++) v->dims[k] = s->dims[*(*dim)++];
    if (!kept) return v;
    rt_value *own = pool_get(s, sizeof *own);
    if (!own) return NULL;
    *own = *v;
    return s->buf[root_of(s, b)].kind == RT_BUF_WEIGHT || pool_has(s, v->data) || keep_data(s, own)
               ? own
               : NULL;
}

/* What a call gave for the tensor that the node declares. */
static accelc_status check_result(Sess *s, const rt_step *st, int k, const rt_buf *f,
                                  const rt_value *v) {
    if (!v) return fail(s, ACCELC_EDATA, "%s: there is no result %d", s->str + st->nodes, k);
    if (f->dtype == 0) return ACCELC_OK;
    if (v->kind != ACCELC_TENSOR)
        return fail(s, ACCELC_EDATA, "%s: expected a tensor, got %s", s->str + st->nodes,
                    kind_name(v->kind));
    if (v->dtype != f->dtype)
        return fail(s, ACCELC_EDTYPE, "%s: expected a tensor of type %s, got %s",
                    s->str + st->nodes, dtype_name(f->dtype), dtype_name(v->dtype));
    if (v->rank != f->rank)
        return fail(s, ACCELC_ESHAPE, "%s: expected a tensor of rank %d, got rank %d",
                    s->str + st->nodes, f->rank, v->rank);
    return ACCELC_OK;
}

/* Kernels read the result in the pool, where it stays as it is. */
static accelc_status take_result(Sess *s, const rt_step *st, int k, rt_value *v) {
    int32_t b = s->arg[st->arg + st->a + k];
    const rt_buf *f = &s->buf[b];
    accelc_status status = check_result(s, st, k, f, v);
    if (status != ACCELC_OK) return status;
    if (f->dtype != 0 && !pool_has(s, v)) {
        rt_value *own = pool_get(s, sizeof *own);
        if (!own) return no_memory(s, "", s->str + st->nodes);
        *own = *v;
        v = own;
    }
    if (f->dtype != 0 && (!pool_has(s, v->data) || f->slack > 0) && !keep_data(s, v))
        return no_memory(s, "", s->str + st->nodes);
    s->value[b] = v;
    if (f->dtype != 0) set_ptr(s, b, v->data);
    return ACCELC_OK;
}

static accelc_status call(Sess *s, const rt_step *st) {
    struct Objects *o = s->objects;
    int nin = st->a, nout = st->nbuf - nin;
    const int32_t *arg = s->arg + st->arg, *dim = arg + st->nbuf;
    const char *name = s->str + st->nodes;
    bool kept = false;
    for (int k = nin; k < st->nbuf; k++) kept |= s->buf[arg[k]].dtype == 0;
    rt_value **slot = pool_get(s, sizeof *slot * (size_t)st->nbuf);
    if (!slot) return no_memory(s, "", name);
    for (int k = 0; k < nin; k++) {
        int32_t b = arg[k];
        if (b < 0) continue;
        bool tensor = s->buf[b].dtype != 0;
        slot[k] = tensor ? operand(s, b, &o->view[k], &dim, kept) : s->value[b];
        if (tensor && !slot[k]) return no_memory(s, "", name);
    }
    rt_call c = {.nin = nin,
                 .nout = nout,
                 .in = (const rt_value *const *)slot,
                 .out = slot + nin,
                 .alloc = pool_alloc,
                 .owner = s};
    if (!s->model->calls->fn[st->kernel](&c))
        return o->refused ? no_memory(s, "", name) : fail(s, ACCELC_EDATA, "%s: %s", name, c.error);
    accelc_status status = ACCELC_OK;
    for (int k = 0; k < nout && status == ACCELC_OK; k++) status = take_result(s, st, k, c.out[k]);
    return status;
}

static int64_t size(const Sess *s, const rt_step *st) {
    return s->value[st->b] ? s->value[st->b]->dims[st->imm] : 0;
}

/* ---- outputs ---- */

/* The elements of v, theirs, and so on. */
static size_t descendants(const rt_value *v) {
    bool leaf = v->kind == ACCELC_TENSOR || v->kind == ACCELC_ABSENT;
    size_t n = leaf ? 0 : (size_t)v->nelem;
    for (int64_t i = 0; !leaf && i < v->nelem; i++) n += descendants(v->elem[i]);
    return n;
}

/* v as the caller sees it: all of it, down to the elements, in memory of the session or of the
 * model. What is below it comes from *room, level by level: a caller can read the parts of many
 * maps at once. */
static bool give(Sess *s, rt_value *v, accelc_value *a, accelc_value **room) {
    *a = (accelc_value){.kind = v->kind, .owned = 1};
    if (v->kind == ACCELC_ABSENT) return true;
    if (v->kind == ACCELC_TENSOR) {
        int64_t n = count(v);
        int bits = dtype_bits(v->dtype);
        a->dtype = v->dtype;
        a->rank = v->rank;
        a->dims = v->dims;
        a->bytes = bits < 8 ? ((size_t)n * (size_t)bits + 7) / 8 : (size_t)n * call_width(v->dtype);
        if (bits < 8) {
            if (!(a->data = pool_get(s, a->bytes))) return false;
            bits_pack(v->data, a->data, n, v->dtype);
            return true;
        }
        if (!pool_has(s, v->data) && !keep_data(s, v)) return false;
        a->data = v->data;
        return true;
    }
    a->dtype = v->dtype;
    a->nelem = (size_t)v->nelem;
    a->elem = *room;
    *room += a->nelem;
    for (size_t i = 0; i < a->nelem; i++)
        if (!give(s, v->elem[i], &a->elem[i], room)) return false;
    return true;
}

static accelc_status finish(Sess *s, uint32_t port) {
    const char *name = s->str + s->out[port].name;
    rt_value *v = s->value[s->out[port].buf];
    if (!v) return fail(s, ACCELC_EDATA, "output \"%s\" has no value", name);
    accelc_value *a = pool_get(s, (1 + descendants(v)) * sizeof *a), *room = a + 1;
    s->taken[port].src = a;
    return a && give(s, v, a, &room) ? ACCELC_OK : no_memory(s, "output ", name);
}

__attribute__((weak, visibility("hidden")))
const struct rt_object_ops accelc_rt1_objects = {.check = check,
                                                 .begin = begin,
                                                 .call = call,
                                                 .size = size,
                                                 .finish = finish,
                                                 .close = pool_close};
