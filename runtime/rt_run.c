/* rt_run.c: the interpreter of the step table. A phase is the kernels between two synchronisations (or
 * between two kernels that the device runs),
 * cut into parts; part i of a kernel with T tasks is a fixed range of them, so what is computed
 * never depends on who runs a part, or when. Control steps run between phases, in one thread (see
 * advance), so no thread ever reads a size that another may be writing. Failures are noted by the
 * thread that meets them and looked at between phases. */
#include "rt_internal.h"

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Parts that the tasks of a kernel are worth: min(n, ceil(tasks / grain)). */
static uint32_t step_parts(const Sess *s, const rt_step *st) {
    int64_t tasks = s->dims[st->tasks], n = s->team.n, grain = st->grain > 1 ? st->grain : 1;
    if (tasks <= grain || n == 1) return 1;
    if (tasks / grain >= n) return (uint32_t)n;
    return (uint32_t)(tasks / grain + (tasks % grain != 0));
}

/* First task of part i of n: floor(tasks * i / n) without overflow. */
static int64_t part_begin(int64_t tasks, int64_t i, int64_t n) {
    return tasks / n * i + tasks % n * i / n;
}

static void note_failure(Sess *s, uint32_t who, uint32_t step, uint32_t part, int32_t code) {
    Member *m = &s->team.member[who];
    bool first = m->fail_step < 0 || (int32_t)step < m->fail_step ||
                 ((int32_t)step == m->fail_step && (int32_t)part < m->fail_part);
    if (first) {
        m->fail_step = (int32_t)step;
        m->fail_part = (int32_t)part;
        m->fail_code = code;
    }
    atomic_store_explicit(&s->team.failed, 1, memory_order_relaxed);
}

/* Runs one part of the phase that begins at step pc; `who` is the member that runs it (its
 * scratch). */
static void run_part(Sess *s, uint32_t pc, uint32_t part, uint32_t who) {
    char *scratch = s->scratch.p ? s->scratch.p + (int64_t)who * s->scratch_each : NULL;
    for (; pc < s->nstep && on_host(s, &s->step[pc]); pc++) {
        const rt_step *st = &s->step[pc];
        int64_t tasks = s->dims[st->tasks], n = step_parts(s, st);
        int64_t t0 = part < n ? part_begin(tasks, part, n) : 0,
                t1 = part < n ? part_begin(tasks, part + 1, n) : 0;
        if (t0 < t1) {
            const Slot *arg = s->slot + st->arg;
            uint64_t begin = s->cfg.on_step ? now_ns() : 0;
            /* a Slot is a pointer or an int64, both of 8 bytes: kernels see two arrays */
            int32_t code = s->model->kernel[st->kernel](
                (void *const *)(const void *)arg, (const int64_t *)(const void *)(arg + st->nbuf),
                t0, t1, scratch);
            if (s->cfg.on_step) s->cfg.on_step(s->cfg.prof_ctx, (int)pc, (int)who, begin, now_ns());
            if (code != 0) {
                note_failure(s, who, pc, part, code);
                return;
            }
        }
        if (st->barrier) return;
    }
}

/* The phase at pc: how many parts it has; *next = the step after it. */
static uint32_t phase_parts(const Sess *s, uint32_t pc, uint32_t *next) {
    uint32_t most = 1;
    for (; pc < s->nstep && on_host(s, &s->step[pc]); pc++) {
        uint32_t n = step_parts(s, &s->step[pc]);
        most = n > most ? n : most;
        if (s->step[pc].barrier) {
            pc++;
            break;
        }
    }
    *next = pc;
    return most;
}

/* What a kernel returned, as an error. */
static accelc_status kernel_failed(Sess *s, const rt_step *st, int32_t code) {
    uint32_t g = s->plan->kernel_guard0 + (uint32_t)code - 1u;
    if (code > 0 && g < s->plan->guard.n)
        return fail(s, ACCELC_EDATA, "%s", s->str + s->guard[g].msg);
    return fail(s, ACCELC_EDATA, "kernel %s (%s) failed with %d", s->str + st->name,
                s->str + st->nodes, code);
}

/* Between phases: the earliest failure becomes the session's. Earliest is by step, then by task,
 * which is the one that a single thread would have met, so that the message is the same for any
 * number of threads. */
static void take_failure(Sess *s) {
    Member *worst = NULL;
    for (uint32_t i = 0; i < s->team.n; i++) {
        Member *m = &s->team.member[i];
        if (m->fail_step >= 0 &&
            (!worst || m->fail_step < worst->fail_step ||
             (m->fail_step == worst->fail_step && m->fail_part < worst->fail_part)))
            worst = m;
    }
    atomic_store_explicit(&s->team.failed, 0, memory_order_relaxed);
    if (!worst) return;
    s->status = kernel_failed(s, &s->step[worst->fail_step], worst->fail_code);
    for (uint32_t i = 0; i < s->team.n; i++) s->team.member[i].fail_step = -1;
}

/* dims[a] = v, which must lie in the range of the step. */
static accelc_status set_bound(Sess *s, const rt_step *st, int64_t v) {
    if (v < st->lo || (st->hi >= st->lo && v > st->hi))
        return st->hi < st->lo
                   ? fail(s, ACCELC_EDATA, "%s: expected a value of at least %lld, got %lld",
                          s->str + st->nodes, (long long)st->lo, (long long)v)
                   : fail(s, ACCELC_EDATA, "%s: expected a value from %lld to %lld, got %lld",
                          s->str + st->nodes, (long long)st->lo, (long long)st->hi, (long long)v);
    set_dim(s, st->a, v);
    return ACCELC_OK;
}

/* RT_BIND: an element of a tensor becomes a size. */
static accelc_status bind_value(Sess *s, const rt_step *st) {
    const rt_buf *b = &s->buf[st->b];
    int64_t size = (dtype_bits(b->dtype) + 7) / 8, v; /* packed types have a byte per element */
    const char *p = s->ptr[st->b];
    if (size < 1 || (!p && !s->device) || st->imm < 0 || st->imm >= buf_bytes(s, st->b) / size)
        return fail(s, ACCELC_EDATA,
                    "%s: element %lld of a value with %lld bytes is needed as a size",
                    s->str + st->nodes, (long long)st->imm, (long long)buf_bytes(s, st->b));
    uint64_t copy;
    if (!s->device)
        p += st->imm * size;
    else {
        accelc_status bad = s->model->gpu->ops->read(s, st->b, st->imm * size, &copy, (size_t)size);
        if (bad != ACCELC_OK) return bad;
        p = (const char *)&copy;
    }
    switch (b->dtype) {
    case 2:
    case 9:
    case 21:
    case 25:
        v = *(const uint8_t *)p;
        break;
    case 3:
    case 22:
    case 26:
        v = *(const int8_t *)p;
        break;
    case 4:
        v = *(const uint16_t *)(const void *)p;
        break;
    case 5:
        v = *(const int16_t *)(const void *)p;
        break;
    case 6:
        v = *(const int32_t *)(const void *)p;
        break;
    case 7:
        v = *(const int64_t *)(const void *)p;
        break;
    case 12:
        v = *(const uint32_t *)(const void *)p;
        break;
    case 13: { /* beyond int64 no size is legal: saturate and let the range decide */
        uint64_t u = *(const uint64_t *)(const void *)p;
        v = u > INT64_MAX ? INT64_MAX : (int64_t)u;
        break;
    }
    default:
        return fail(s, ACCELC_EDATA, "%s: a value of type %s cannot be a size", s->str + st->nodes,
                    dtype_name(b->dtype));
    }
    return set_bound(s, st, v);
}

static accelc_status copy_value(Sess *s, const rt_step *st) {
    int64_t n = buf_bytes(s, st->b);
    if (s->buf[st->a].kind == RT_BUF_VALUE) {
        s->value[st->a] = s->value[st->b];
        return ACCELC_OK;
    }
    if (n > buf_bytes(s, st->a))
        return fail(s, ACCELC_ESHAPE, "%s: a value of %lld bytes is carried in %lld",
                    s->str + st->nodes, (long long)n, (long long)buf_bytes(s, st->a));
    if (n > 0 && s->device) return s->model->gpu->ops->copy(s, st);
    if (n > 0 && s->ptr[st->a] != s->ptr[st->b]) memmove(s->ptr[st->a], s->ptr[st->b], (size_t)n);
    return ACCELC_OK;
}

/* Runs control steps from pc on. Returns the kernel step that comes next, or nstep at the end or
 * after a failure. */
static uint32_t control(Sess *s, uint32_t pc) {
    if (atomic_load_explicit(&s->team.failed, memory_order_relaxed)) take_failure(s);
    while (pc < s->nstep) {
        const rt_step *st = &s->step[pc];
        if (s->status == ACCELC_OK && atomic_load_explicit(&s->cancel, memory_order_relaxed))
            s->status = fail(s, ACCELC_ECANCEL, "cancelled");
        /* addresses are needed by kernels and by steps that read memory, not between steps that set
         * sizes */
        if (s->status == ACCELC_OK && s->ndirty &&
            (st->op == RT_KERNEL || st->op == RT_BIND || st->op == RT_COPYBUF || st->op == RT_CALL ||
             st->op == RT_END))
            s->status = settle(s, pc);
        if (s->status != ACCELC_OK || st->op == RT_END) break;
        switch (st->op) {
        case RT_KERNEL:
            return pc;
        case RT_GUARDS:
            s->status = check_guards(s, (uint32_t)st->a, (uint32_t)st->b);
            break;
        case RT_BIND:
            s->status = bind_value(s, st);
            break;
        case RT_SET: {
            int64_t v;
            if (__builtin_add_overflow(s->dims[st->b], st->imm, &v))
                s->status = fail(s, ACCELC_ESHAPE, "%s: a counter overflows", s->str + st->nodes);
            else
                set_dim(s, st->a, v);
            break;
        }
        case RT_DIMS:
            s->status = eval_dims(s, (uint32_t)st->a, (uint32_t)st->b);
            break;
        case RT_JUMP:
            pc = (uint32_t)st->a;
            continue;
        case RT_BRANCH:
            if (s->dims[st->b] == 0) {
                pc = (uint32_t)st->a;
                continue;
            }
            break;
        case RT_COPYBUF:
            s->status = copy_value(s, st);
            break;
        case RT_SEED:
            set_dim(s, st->a, (int64_t)s->cfg.seed);
            set_dim(s, st->b, (int64_t)s->runs);
            break;
        case RT_CALL: {
            uint64_t begin = s->cfg.on_step ? now_ns() : 0;
            if (s->device) s->status = s->model->gpu->ops->host(s, st);
            if (s->status == ACCELC_OK) s->status = s->model->calls->ops->call(s, st);
            if (s->cfg.on_step) s->cfg.on_step(s->cfg.prof_ctx, (int)pc, 0, begin, now_ns());
            break;
        }
        case RT_SIZE:
            s->status = set_bound(s, st, s->model->calls->ops->size(s, st));
            break;
        default:
            break;
        }
        pc++;
    }
    return s->nstep;
}

/* Kernels [pc, next), a phase of the host, find their operands there. */
static void phase_on_host(Sess *s, uint32_t pc, uint32_t next) {
    for (; s->device && pc < next && s->status == ACCELC_OK; pc++)
        s->status = s->model->gpu->ops->host(s, &s->step[pc]);
}

/* Goes on with the plan at step pc, in the calling thread: control steps and phases that one thread
 * should do alone. Returns the number of parts of the next phase that is worth several (team.pc,
 * team.next describe it), or 0 at the end of the run, whose outcome is in s->status. Only ever
 * active in one thread at a time. */
static uint32_t advance(Sess *s, uint32_t pc, uint32_t who) {
    for (;;) {
        uint32_t next, n;
        pc = control(s, pc);
        if (pc >= s->nstep) return 0;
        if (on_device(s, &s->step[pc])) {
            s->status = s->model->gpu->ops->steps(s, &pc);
            continue;
        }
        n = phase_parts(s, pc, &next);
        phase_on_host(s, pc, next);
        if (s->status != ACCELC_OK) return 0;
        if (n > 1) {
            s->team.pc = pc;
            s->team.next = next;
            return n;
        }
        run_part(s, pc, 0, who);
        pc = next;
    }
}
