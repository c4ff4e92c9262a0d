/* rt.c: the entry points of abi.h, and what every file needs: errors, memory, element types. A
 * session is used by one thread at a time: run, fetch and reset take `busy` and never wait for it.
 */
#include "rt_internal.h"

#include <sys/mman.h>

/* ---- errors ---- */

/* Notes the reason of a failure for accelc_rt1_error and returns st. Called by one thread at a
 * time. */
RT_API accelc_status fail(Sess *s, accelc_status st, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->error, sizeof s->error, fmt, ap);
    va_end(ap);
    return st;
}

/* ---- memory ---- */

#define PAGE ((size_t)4096)

/* RT_MEM_ALIGN-aligned memory, or NULL. Large pieces start on a page and ask for huge pages, which save TLB misses. */
static void *mem_get(const accelc_config *c, size_t bytes) {
    void *p = NULL;
    if (c->alloc) return c->alloc(c->mem_ctx, bytes, RT_MEM_ALIGN);
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : bytes >= PAGE ? PAGE : RT_MEM_ALIGN;
    if (posix_memalign(&p, align, bytes ? bytes : 1) != 0) return NULL;
    if (bytes >= HUGE_PAGE) madvise(p, bytes & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);
    return p;
}

static void mem_put(const accelc_config *c, void *p) {
    if (c->alloc && p)
        c->free(c->mem_ctx, p);
    else if (!c->alloc)
        free(p);
}

/* ---- element types, by onnx.TensorProto.DataType ---- */

static const struct {
    const char *name;
    uint8_t bits, align;
} dtypes[] = {
    {"undefined", 0, 1},      {"float32", 32, 4},   {"uint8", 8, 1},
    {"int8", 8, 1},           {"uint16", 16, 2},    {"int16", 16, 2},
    {"int32", 32, 4},         {"int64", 64, 8},     {"string", 128, 8},
    {"bool", 8, 1},           {"float16", 16, 2},   {"float64", 64, 8},
    {"uint32", 32, 4},        {"uint64", 64, 8},    {"complex64", 64, 4},
    {"complex128", 128, 8},   {"bfloat16", 16, 2},  {"float8e4m3fn", 8, 1},
    {"float8e4m3fnuz", 8, 1}, {"float8e5m2", 8, 1}, {"float8e5m2fnuz", 8, 1},
    {"uint4", 4, 1},          {"int4", 4, 1},       {"float4e2m1", 4, 1},
    {"float8e8m0", 8, 1},     {"uint2", 2, 1},      {"int2", 2, 1},
};

static int dtype_row(int dtype) {
    return dtype < 0 || dtype >= (int)(sizeof dtypes / sizeof *dtypes) ? 0 : dtype;
}

static int dtype_bits(int dtype) { return dtypes[dtype_row(dtype)].bits; }
static bool dtype_is_signed(int dtype) { return dtype == 22 || dtype == 26; } /* packed types */
static size_t dtype_align(int dtype) { return dtypes[dtype_row(dtype)].align; }
static const char *dtype_name(int dtype) { return dtypes[dtype_row(dtype)].name; }

/* ---- sessions ---- */

/* What the caller's config says, with zeros for the fields that it is too old to have. */
static accelc_status read_config(const accelc_config *cfg, accelc_config *c, char *msg, size_t n) {
    memset(c, 0, sizeof *c);
    if (cfg) memcpy(c, cfg, cfg->size < sizeof *c ? cfg->size : sizeof *c);
    if (cfg && cfg->size < sizeof c->size)
        snprintf(msg, n, "the size of the config is not set");
    else if (!c->alloc != !c->free)
        snprintf(msg, n, "the config has only one of alloc and free");
    else
        return ACCELC_OK;
    return ACCELC_EINVAL;
}

/* A session of the best level that can be had. Where a device cannot run one, the next may be for
 * older devices. Where no device is asked for, one that is missing or too small is no failure as
 * long as there is a level for the CPU. */
static accelc_status open_level(const rt_bundle *m, const accelc_config *c, Sess **out, char *msg,
                                size_t n) {
    const rt_model *model;
    accelc_status first = ACCELC_OK, st;
    char text[512];
    for (uint32_t next = 0;;) {
        st = level_next(m, c, &next, &model, text, sizeof text);
        if (st == ACCELC_OK) st = sess_open(m, model, c, false, out, text, sizeof text);
        bool device = model && model->gpu, missing = st == ACCELC_EDEVICE || st == ACCELC_ENOMEM,
             other = device && missing && next < m->nmodel;
        if (st != ACCELC_OK && (first == ACCELC_OK || device)) {
            first = st;
            snprintf(msg, n, "%s", text);
        }
        if (!other) return st == ACCELC_OK ? st : first;
    }
}

/* The level that sessions get by default, as far as can be told without making one. */
static accelc_status default_level(const rt_bundle *m, const rt_model **model) {
    char text[512];
    accelc_config c = {.size = sizeof c};
    accelc_status st;
    uint32_t next = 0;
    do {
        st = level_next(m, &c, &next, model, text, sizeof text);
        if (st == ACCELC_OK && (*model)->gpu)
            st = (*model)->gpu->ops->probe((*model)->gpu, &c, text, sizeof text);
    } while (st != ACCELC_OK && next < m->nmodel);
    return st;
}

RT_API accelc_status accelc_rt1_create(const rt_bundle *m, const accelc_config *cfg,
                                       accelc_session **out, char *msg, size_t msg_bytes) {
    char text[512] = "";
    accelc_config c;
    if (!out) return ACCELC_EINVAL;
    *out = NULL;
    accelc_status st = read_config(cfg, &c, text, sizeof text);
    if (st == ACCELC_OK && (m->magic != RT_MAGIC || m->nmodel == 0)) {
        snprintf(text, sizeof text, "the model was made by an incompatible compiler");
        st = ACCELC_EABI;
    }
    if (st == ACCELC_OK) st = open_level(m, &c, out, text, sizeof text);
    if (msg && msg_bytes) snprintf(msg, msg_bytes, "%s", st == ACCELC_OK ? "" : text);
    return st;
}

RT_API void accelc_rt1_destroy(accelc_session *s) {
    if (s) sess_close(s);
}

/* Memory that a session needs for these symbols (those of inputs count; NULL: there are none), and
 * the shapes of the outputs, -1 where only a run can tell. The arena does not include scratch. */
RT_API accelc_status accelc_rt1_sizes(const rt_bundle *m, const int64_t *sym, uint64_t *arena,
                                      uint64_t *scratch, int64_t *const *out_dims) {
    char text[512];
    accelc_config c = {.size = sizeof c};
    Sess *s;
    const rt_model *model;
    accelc_status st = default_level(m, &model);
    if (st == ACCELC_OK) st = sess_open(m, model, &c, true, &s, text, sizeof text);
    if (st != ACCELC_OK) return st;
    if (!(s->plan->flags & RT_STATIC)) {
        for (uint32_t i = 0; i < s->nin && st == ACCELC_OK; i++)
            for (int32_t k = 0; k < s->in[i].rank && st == ACCELC_OK; k++) {
                const rt_iobind *ib = &s->iobind[s->in[i].dim + k];
                if (ib->sym < 0) continue;
                if (!sym || sym[ib->sym] < ib->lo || sym[ib->sym] < 0 ||
                    (ib->hi >= 0 && sym[ib->sym] > ib->hi))
                    st = sym ? ACCELC_ESHAPE : ACCELC_EINVAL;
                else
                    set_dim(s, ib->sym, sym[ib->sym]);
            }
        if (st == ACCELC_OK && (st = eval_dims(s, 0, s->plan->entry_dimops)) == ACCELC_OK)
            st = check_guards(s, 0, s->plan->entry_guards);
    }
    if (st == ACCELC_OK && (st = settle(s, 0)) == ACCELC_OK) {
        if (arena) *arena = (uint64_t)s->block[0].cap;
        if (scratch) *scratch = (uint64_t)s->scratch_each;
        for (uint32_t i = 0; out_dims && i < s->nout; i++)
            for (int32_t k = 0; out_dims[i] && k < s->out[i].rank; k++) {
                int32_t d = s->iodim[s->out[i].dim + k];
                out_dims[i][k] = s->def[d] == 0 ? s->dims[d] : -1;
            }
    }
    sess_close(s);
    return st;
}

RT_API accelc_status accelc_rt1_step_name(const rt_bundle *m, int step, const char **kernel,
                                          const char **onnx_nodes) {
    const rt_model *model = NULL;
    bool found = m->nmodel && default_level(m, &model) == ACCELC_OK;
    const rt_plan *p = found ? model->plan : m->nmodel ? m->model[0]->plan : NULL;
    if (!p || step < 0 || (uint32_t)step >= p->step.n) return ACCELC_EINVAL;
    const rt_step *st = (const rt_step *)(const void *)((const char *)p + p->step.off) + step;
    if (kernel) *kernel = (const char *)p + p->str.off + st->name;
    if (onnx_nodes) *onnx_nodes = (const char *)p + p->str.off + st->nodes;
    return ACCELC_OK;
}

static void do_steps(Sess *s) {
    const struct rt_gpu_ops *gpu = s->device ? s->model->gpu->ops : NULL;
    if (gpu && gpu->replay(s)) return;
    if (s->status == ACCELC_OK) team_run(s);
    if (gpu) gpu->ran(s);
}

RT_API accelc_status accelc_rt1_run(accelc_session *s, const accelc_value *in, accelc_value *out) {
    if (!s) return ACCELC_EINVAL;
    if (atomic_exchange_explicit(&s->busy, 1, memory_order_acquire)) return ACCELC_EBUSY;
    atomic_store_explicit(&s->cancel, 0, memory_order_relaxed);
    s->error[0] = 0;
    s->done = false;
    s->status = ACCELC_OK;
    if (s->device) s->model->gpu->ops->begin(s);
    s->status = bind_inputs(s, in);
    if (s->status == ACCELC_OK) s->status = bind_outputs(s, out);
    if (s->status == ACCELC_OK) do_steps(s);
    if (s->status == ACCELC_OK) s->status = finish_outputs(s, out);
    /* Then nothing touches the caller's memory later. A guard of the device failed before what is known yet. */
    if (s->device && !s->done && s->model->gpu->ops->wait(s) == ACCELC_EDATA) s->status = ACCELC_EDATA;
    s->runs += s->done;
    accelc_status st = s->status;
    atomic_store_explicit(&s->busy, 0, memory_order_release);
    return st;
}

/* Result `out_index` of the last run: copied to v->data, or, where that is NULL, lent like an
 * output of run(). */
RT_API accelc_status accelc_rt1_fetch(accelc_session *s, int out_index, accelc_value *v) {
    if (!s || !v) return ACCELC_EINVAL;
    if (atomic_exchange_explicit(&s->busy, 1, memory_order_acquire)) return ACCELC_EBUSY;
    accelc_status st;
    s->error[0] = 0;
    if (out_index < 0 || (uint32_t)out_index >= s->nout)
        st = fail(s, ACCELC_EINVAL, "there is no output %d, the model has %u", out_index, s->nout);
    else if (!s->done)
        st = fail(s, ACCELC_EINVAL, "there is no result: the last run failed, or there was none");
    else if (s->taken[out_index].direct && v->data != s->taken[out_index].src)
        st = fail(s, ACCELC_EINVAL, "output \"%s\" was written to the buffer given to run",
                  out_name(s, (uint32_t)out_index));
    else
        st = give_output(s, (uint32_t)out_index, v);
    atomic_store_explicit(&s->busy, 0, memory_order_release);
    return st;
}

RT_API accelc_status accelc_rt1_reset(accelc_session *s) {
    if (!s) return ACCELC_EINVAL;
    if (atomic_exchange_explicit(&s->busy, 1, memory_order_acquire)) return ACCELC_EBUSY;
    if (s->nin) memset(s->state_set, 0, s->nin);
    s->runs = 0;
    s->bound = false;
    atomic_store_explicit(&s->busy, 0, memory_order_release);
    return ACCELC_OK;
}

/* Stops the run in progress, if there is one, before its next phase. */
RT_API void accelc_rt1_cancel(accelc_session *s) {
    if (s) atomic_store_explicit(&s->cancel, 1, memory_order_relaxed);
}

RT_API const char *accelc_rt1_error(const accelc_session *s) { return s ? s->error : ""; }
