/* rt_setup.c: makes and frees sessions. The plan is written by the compiler and linked with this
 * code, so it is trusted; check_plan only finds compiler bugs early (ACCELC_EABI with the place).
 * Order: tables, uses, homes of buffers, sizes that are known now, threads, memory. */
#include "rt_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* ---- the plan ---- */

#define AT(plan, arr) ((const void *)((const char *)(plan) + (plan)->arr.off))

static void view_plan(Sess *s, const rt_plan *p) {
    s->plan = p;
    s->dimop = AT(p, dimop);
    s->buf = AT(p, buf);
    s->in = AT(p, in);
    s->out = AT(p, out);
    s->iodim = AT(p, iodim);
    s->iobind = AT(p, iobind);
    s->guard = AT(p, guard);
    s->step = AT(p, step);
    s->arg = AT(p, arg);
    s->type = AT(p, type);
    s->maps = AT(p, map);
    s->str = AT(p, str);
    s->nbuf = p->buf.n;
    s->nin = p->in.n;
    s->nout = p->out.n;
    s->nstep = p->step.n;
    s->narg = p->arg.n;
    s->niodim = p->iodim.n;
}

static bool below(int64_t x, uint32_t n) { return x >= 0 && x < (int64_t)n; }

static const char *check_io(const Sess *s, const rt_io *io, bool in) {
    const rt_plan *p = s->plan;
    if (io->rank < 0 || io->dim < 0 || (uint32_t)io->dim > s->niodim ||
        (uint32_t)io->rank > s->niodim - (uint32_t)io->dim)
        return "dims";
    if (!below(io->name, p->str.n) || !below(io->buf, s->nbuf)) return "name or buffer";
    if (io->type < 0 && dtype_bits(io->dtype) == 0) return "type";
    if (in && (uint32_t)(io->dim + io->rank) > p->iobind.n) return "iobind";
    for (int32_t k = 0; k < io->rank; k++)
        if (!below(s->iodim[io->dim + k], p->ndim) ||
            (in && s->iobind[io->dim + k].sym >= 0 && !below(s->iobind[io->dim + k].sym, p->nsym)))
            return "dim index";
    return (io->type >= 0) == is_object(s, io) && (io->type < 0 || below(io->type, p->type.n)) ? NULL
                                                                                               : "kind";
}

static bool maps_are_right(const Sess *s, const rt_step *t) {
    const rt_plan *p = s->plan;
    if (!t->nmap) return true;
    if (t->lo < 0 || t->lo > (int64_t)p->map.n - t->nmap) return false;
    for (const rt_map *m = s->maps + t->lo; m < s->maps + t->lo + t->nmap; m++) {
        if (m->arg >= t->nbuf || m->rank < 1 || m->rank > RT_AXES || !below(m->offset, p->ndim)) return false;
        for (int d = 0; d < m->rank; d++)
            if (!below(m->extent[d], p->ndim) || !below(m->stride[d], p->ndim)) return false;
        for (int d = 0; m->windows && d < m->rank - 2; d++)
            if (!below(m->window[d].first, p->ndim) || !below(m->window[d].last, p->ndim)) return false;
    }
    return true;
}

static const char *check_step(const Sess *s, const rt_step *t) {
    const rt_plan *p = s->plan;
    bool da = below(t->a, p->ndim), db = below(t->b, p->ndim);
    switch (t->op) {
    case RT_KERNEL:
        if (t->arg < 0 || (int64_t)t->arg + t->nbuf + t->ndim > (int64_t)s->narg) return "arg";
        for (int32_t k = 0; k < t->nbuf + t->ndim; k++)
            if (!below(s->arg[t->arg + k], k < t->nbuf ? s->nbuf : p->ndim)) return "argument";
        if (s->model->gpu && !below(t->kernel, s->model->gpu->nkernel)) return "kernel";
        return t->kernel < 0                                    ? "kernel"
               : !maps_are_right(s, t)                          ? "map"
               : !below(t->tasks, p->ndim)                      ? "tasks"
               : t->scratch >= 0 && !below(t->scratch, p->ndim) ? "scratch"
                                                                : NULL;
    case RT_GUARDS:
        return t->a <= t->b && t->a >= 0 && (uint32_t)t->b <= p->guard.n ? NULL : "guards";
    case RT_DIMS:
        return t->a <= t->b && t->a >= 0 && (uint32_t)t->b <= p->dimop.n ? NULL : "dimops";
    case RT_BIND:
        return da && below(t->b, s->nbuf) ? NULL : "dim or buffer";
    case RT_SET:
    case RT_SEED:
        return da && db ? NULL : "dim";
    case RT_JUMP:
        return below(t->a, s->nstep) ? NULL : "target";
    case RT_BRANCH:
        return below(t->a, s->nstep) && db ? NULL : "target or dim";
    case RT_COPYBUF:
        return below(t->a, s->nbuf) && below(t->b, s->nbuf) ? NULL : "buffer";
    case RT_SIZE:
    case RT_CALL:
        return s->model->calls ? s->model->calls->ops->check(s, t) : "operation";
    case RT_END:
        return NULL;
    default:
        return "operation";
    }
}

/* NULL, or what is wrong with the plan; *where, *index say where. */
static const char *check_plan(const Sess *s, const char **where, uint32_t *index) {
    const rt_plan *p = s->plan;
    const char *bad = NULL;
    *where = "plan";
    *index = 0;
    if (p->entry_dimops > p->dimop.n || p->entry_guards > p->guard.n || p->nsym > p->ndim ||
        p->arena < 0)
        return "header";
    if (s->desc && ((uint32_t)s->desc->nin != s->nin || (uint32_t)s->desc->nout != s->nout))
        return "number of inputs or outputs in the description";
    *where = "dimop";
    for (uint32_t i = *index = 0; i < p->dimop.n; *index = ++i) {
        const rt_dimop *o = &s->dimop[i];
        int need = o->op == RT_DIM_CONST ? 0 : o->op == RT_DIM_SELECT ? 3 : 2;
        if (o->op > RT_DIM_SELECT || !below(o->dst, p->ndim) ||
            (need > 0 && !below(o->a, p->ndim)) || (need > 1 && !below(o->b, p->ndim)) ||
            (need > 2 && !below(o->c, p->ndim)))
            return "operation or dim";
    }
    *where = "buffer";
    for (uint32_t i = *index = 0; i < s->nbuf; *index = ++i) {
        const rt_buf *b = &s->buf[i];
        if (b->kind > (s->model->calls ? RT_BUF_VALUE : RT_BUF_VIEW) || !below(b->bytes_dim, p->ndim) ||
            (b->kind == RT_BUF_VIEW && b->offset_dim >= 0 && !below(b->offset_dim, p->ndim)))
            return "kind or dim";
        uint32_t limit = b->kind == RT_BUF_INPUT ? s->nin : b->kind == RT_BUF_OUTPUT ? s->nout : i;
        if (b->kind >= RT_BUF_INPUT && b->kind <= RT_BUF_VIEW && !below(b->index, limit)) return "index";
    }
    *where = "input";
    for (uint32_t i = *index = 0; i < s->nin; *index = ++i)
        if ((bad = check_io(s, &s->in[i], true))) return bad;
    *where = "output";
    for (uint32_t i = *index = 0; i < s->nout; *index = ++i)
        if ((bad = check_io(s, &s->out[i], false))) return bad;
    *where = "guard";
    for (uint32_t i = *index = 0; i < p->guard.n; *index = ++i)
        if (!below(s->guard[i].msg, p->str.n) || s->guard[i].a >= (int32_t)p->ndim ||
            s->guard[i].b >= (int32_t)p->ndim)
            return "dim or message";
    *where = "step";
    for (uint32_t i = *index = 0; i < s->nstep; *index = ++i)
        if ((bad = check_step(s, &s->step[i])) || !below(s->step[i].name, p->str.n) ||
            !below(s->step[i].nodes, p->str.n))
            return bad ? bad : "name";
    return NULL;
}

/* ---- tables ---- */

/* Assigns the tables of the session to consecutive memory from `base` on; returns the bytes used.
 */
static size_t lay_out(Sess *s, char *base) {
    size_t at = 0;
#define TABLE(field, n)                                                                            \
    do {                                                                                           \
        at = (at + 15) & ~(size_t)15;                                                              \
        s->field = (void *)(base + at);                                                            \
        at += (size_t)(n) * sizeof *s->field;                                                      \
    } while (0)
    uint32_t ndim = s->plan->ndim, nbuf = s->nbuf;
    TABLE(dims, ndim);
    TABLE(slot, s->narg + 1);
    TABLE(ptr, nbuf);
    TABLE(value, s->model->calls ? nbuf : 0);
    TABLE(at, nbuf);
    TABLE(room, nbuf);
    TABLE(in_dims, s->niodim + 1);
    TABLE(out_dims, s->niodim + 1);
    TABLE(state_dims, s->niodim + 1);
    TABLE(in_bytes, s->nin);
    TABLE(given, s->nin);
    TABLE(taken, s->nout);
    TABLE(block, s->maxblock);
    TABLE(def, ndim);
    TABLE(dirty, ndim);
    TABLE(dim_use, ndim + 1);
    TABLE(buf_use, nbuf + 1);
    TABLE(use, s->nuse);
    TABLE(child, nbuf);
    TABLE(sibling, nbuf);
    TABLE(home, nbuf);
    TABLE(order, nbuf * 2);
    TABLE(member_of, nbuf);
    TABLE(scratch_dim, s->nstep);
    TABLE(in_stage, s->nin);
    TABLE(out_extra, s->nout);
    TABLE(state_block, s->nin);
    TABLE(in_root, s->nin);
    TABLE(out_root, s->nout);
    TABLE(sym_set, s->plan->nsym);
    TABLE(is_dirty, ndim);
    TABLE(grew, s->maxblock);
    TABLE(state_set, s->nin);
    TABLE(is_state, s->nout);
    TABLE(valid, s->model->gpu ? nbuf : 0);
    TABLE(state_valid, s->model->gpu ? s->nin : 0);
#undef TABLE
    return at;
}

static void define(Sess *s, int32_t d, int32_t who, uint8_t *known) {
    if (known[d] && s->def[d] != who) {
        s->mixed |= s->def[d] == 0;
        who = RT_LATE_MANY;
    }
    s->def[d] = who;
    known[d] = 1;
}

/* Who sets each dim. `is_dirty` serves as scratch. */
static void find_definitions(Sess *s) {
    uint8_t *known = s->is_dirty;
    int32_t k = 0;
    for (uint32_t i = 0; i < s->nin; i++)
        for (int32_t j = 0; j < s->in[i].rank; j++)
            if (s->iobind[s->in[i].dim + j].sym >= 0)
                define(s, s->iobind[s->in[i].dim + j].sym, 0, known);
    for (uint32_t i = 0; i < s->plan->entry_dimops; i++) define(s, s->dimop[i].dst, 0, known);
    for (uint32_t i = 0; i < s->nstep; i++) {
        const rt_step *t = &s->step[i];
        if (t->op == RT_DIMS) {
            k++;
            for (int32_t j = t->a; j < t->b; j++) define(s, s->dimop[j].dst, k, known);
        } else if (t->op == RT_BIND || t->op == RT_SET || t->op == RT_SIZE)
            define(s, t->a, RT_LATE_MANY, known);
        else if (t->op == RT_SEED) {
            define(s, t->a, RT_LATE_MANY, known);
            define(s, t->b, RT_LATE_MANY, known);
        }
    }
    memset(known, 0, s->plan->ndim);
    s->ngroup = (uint32_t)k + 1;
    s->nblock = s->ngroup;
}

/* The step of the k-th RT_DIMS. */
static int32_t dims_step(const Sess *s, int32_t k) {
    int32_t i = -1;
    while (k > 0) k -= s->step[++i].op == RT_DIMS;
    return i;
}

/* Which block each buffer lies in, which views belong to it, which port it is of. */
static const char *find_homes(Sess *s) {
    for (uint32_t i = 0; i < s->nin; i++) {
        s->in_root[i] = -1;
        s->in_stage[i] = -2;
        s->state_block[i] = s->desc && s->desc->in[i].state >= 0 ? -2 : -1;
        if (s->state_block[i] == -2 && !below(s->desc->in[i].state, s->nout))
            return "state of an input";
        if (s->state_block[i] == -2 && dtype_bits(s->in[i].dtype) < 8)
            return "state of a packed type";
        if (s->state_block[i] == -2) s->is_state[s->desc->in[i].state] = 1;
    }
    for (uint32_t i = 0; i < s->nout; i++) {
        s->out_root[i] = -1;
        s->out_extra[i] = -2;
    }
    for (int32_t b = 0; b < (int32_t)s->nbuf; b++) {
        const rt_buf *f = &s->buf[b];
        int32_t def = s->def[f->bytes_dim];
        s->home[b] = s->member_of[b] = -1;
        if (f->kind == RT_BUF_INPUT || f->kind == RT_BUF_OUTPUT) {
            int32_t *root =
                f->kind == RT_BUF_INPUT ? &s->in_root[f->index] : &s->out_root[f->index];
            if (*root >= 0) return "two buffers of one input or output";
            *root = b;
        }
        if (f->kind == RT_BUF_ARENA && f->offset >= 0) {
            s->home[b] = 0;
            s->at[b] = f->offset;
        } else if (f->kind == RT_BUF_OUTPUT) {
            s->member_of[b] = def == 0 && !s->is_state[f->index] ? 0 : -1;
            s->home[b] = s->member_of[b] == 0 ? 0 : (int32_t)s->nblock++;
        } else if (f->kind == RT_BUF_ARENA) {
            s->member_of[b] = def == 0 || (def > 0 && f->first > dims_step(s, def)) ? def : -1;
            s->home[b] = s->member_of[b] >= 0 ? def : (int32_t)s->nblock++;
        }
    }
    for (int32_t b = 0; b < (int32_t)s->nbuf; b++) s->child[b] = s->sibling[b] = -1;
    for (int32_t b = (int32_t)s->nbuf - 1; b >= 0; b--)
        if (s->buf[b].kind == RT_BUF_VIEW) {
            s->sibling[b] = s->child[s->buf[b].index];
            s->child[s->buf[b].index] = b;
        }
    for (uint32_t i = 0; i < s->nin; i++) {
        int32_t o = s->state_block[i] == -2 ? s->desc->in[i].state : -1;
        if (o >= 0 && (s->out_root[o] < 0 || s->out[o].buf != s->out_root[o] ||
                       s->out[o].rank != s->in[i].rank))
            return "an output that is a state needs a buffer of its own and the rank of the input";
    }
    return NULL;
}

/* Fills dim_use, buf_use and use. Two passes over the same walk: count, then fill. */
static void find_uses(Sess *s) {
    uint32_t ndim = s->plan->ndim;
    for (int fill = 0; fill < 2; fill++) {
        for (uint32_t i = 0; i < s->nstep; i++) {
            const rt_step *t = &s->step[i];
            for (int32_t k = 0; t->op == RT_KERNEL && k < t->nbuf + t->ndim; k++) {
                int32_t a = t->arg + k,
                        *n = k < t->nbuf ? &s->buf_use[s->arg[a]] : &s->dim_use[s->arg[a]];
                if (fill)
                    s->use[--*n] = a;
                else
                    ++*n;
            }
        }
        for (int32_t b = 0; b < (int32_t)s->nbuf; b++) {
            const rt_buf *f = &s->buf[b];
            int32_t d = f->kind == RT_BUF_VIEW ? f->offset_dim
                        : f->kind == RT_BUF_OUTPUT || (f->kind == RT_BUF_ARENA && f->offset < 0)
                            ? f->bytes_dim
                            : -1;
            if (d >= 0 && fill)
                s->use[--s->dim_use[d]] = ~b;
            else if (d >= 0)
                ++s->dim_use[d];
        }
        int32_t sum = 0;
        for (uint32_t d = 0; d <= ndim && !fill; d++)
            s->dim_use[d] = sum += d < ndim ? s->dim_use[d] : 0;
        for (uint32_t b = 0; b <= s->nbuf && !fill; b++)
            s->buf_use[b] = sum += b < s->nbuf ? s->buf_use[b] : 0;
    }
    for (uint32_t i = 0; i < s->nstep; i++) {
        int32_t d = on_host(s, &s->step[i]) ? s->step[i].scratch : -1;
        bool known = d < 0;
        for (uint32_t k = 0; !known && k < s->nscratch_dim; k++) known = s->scratch_dim[k] == d;
        if (!known) s->scratch_dim[s->nscratch_dim++] = d;
    }
}

/* ---- memory ---- */

/* Weights that live outside the model: given, or mapped from a file. */
static const char *find_weights(Sess *s, const char **weights, char *msg, size_t n) {
    uint64_t need = s->desc ? s->desc->weight_bytes : 0;
    *weights = s->model->weights;
    bool used = false;
    for (uint32_t b = 0; b < s->nbuf; b++) used |= s->buf[b].kind == RT_BUF_WEIGHT;
    if (*weights || !used || s->dry) return NULL;
    *weights = s->cfg.weights;
    if (s->cfg.weights && ((uintptr_t)s->cfg.weights % RT_ALIGN || s->cfg.weights_bytes < need)) {
        snprintf(msg, n, "the weights need %llu bytes at a multiple of %d, %zu are given",
                 (unsigned long long)need, RT_ALIGN, s->cfg.weights_bytes);
        return msg;
    }
    if (s->cfg.weights) return NULL;
    if (!s->cfg.weights_path)
        return "the model's weights are kept outside: weights or weights_path must be set";
    int fd = open(s->cfg.weights_path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || (uint64_t)st.st_size < need || st.st_size == 0) {
        snprintf(msg, n, "%s: %s", s->cfg.weights_path,
                 fd < 0 ? strerror(errno) : "too short to be the weights");
        if (fd >= 0) close(fd);
        return msg;
    }
    s->map_bytes = (size_t)st.st_size;
    s->map = mmap(NULL, s->map_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (s->map == MAP_FAILED) {
        s->map = NULL;
        snprintf(msg, n, "%s: cannot be mapped: %s", s->cfg.weights_path, strerror(errno));
        return msg;
    }
    *weights = s->map;
    return NULL;
}

/* The caller's arena: scratch of constant size from its end if there is room for both. */
static accelc_status lend_arena(Sess *s, char *msg, size_t n) {
    uintptr_t p = (uintptr_t)s->cfg.arena, q = (p + RT_ALIGN - 1) & ~(uintptr_t)(RT_ALIGN - 1);
    int64_t cap = (int64_t)s->cfg.arena_bytes - (int64_t)(q - p), arena = align_up(s->plan->arena);
    int64_t each = s->plan->scratch > 0 ? (s->plan->scratch + 127) & ~(int64_t)127 : 0,
            all = each * s->team.n;
    if (cap < arena) {
        snprintf(msg, n, "the arena has %lld usable bytes, the model needs at least %lld",
                 (long long)cap, (long long)arena);
        return ACCELC_ENOMEM;
    }
    cap &= ~(int64_t)(RT_ALIGN - 1);
    if (all > 0 && cap - arena >= all) {
        cap -= all;
        s->scratch = (Block){.p = (char *)q + cap, .cap = (size_t)all, .lent = true};
    }
    s->block[0] = (Block){.p = (char *)q, .cap = (size_t)cap, .lent = true};
    return ACCELC_OK;
}

/* Sizes of inputs as the caller announces them: the least range, or sym_max. */
static accelc_status reserve(Sess *s) {
    if (!s->cfg.sym_max || (s->plan->flags & RT_STATIC)) return ACCELC_OK;
    for (uint32_t i = 0; i < s->nin; i++)
        for (int32_t k = 0; k < s->in[i].rank; k++) {
            const rt_iobind *ib = &s->iobind[s->in[i].dim + k];
            if (ib->sym >= 0)
                set_dim(s, ib->sym,
                        s->cfg.sym_max[ib->sym] > 0 ? s->cfg.sym_max[ib->sym]
                        : ib->hi > 0                ? ib->hi
                                                    : ib->lo);
        }
    return eval_dims(s, 0, s->plan->entry_dimops);
}

/* A size that the plan itself gives; others have no value before the first run. */
static int64_t const_dim(const Sess *s, int32_t d) {
    for (uint32_t i = 0; i < s->plan->entry_dimops; i++)
        if (s->dimop[i].dst == d && s->dimop[i].op == RT_DIM_CONST) return s->dimop[i].imm;
    return 0;
}

/* The end of them all where it is not known. Strings have their characters elsewhere. */
static uint64_t weights_end(const Sess *s) {
    uint64_t end = 0, all = s->desc ? s->desc->weight_bytes : 0;
    for (uint32_t b = 0; b < s->nbuf; b++) {
        if (s->buf[b].kind != RT_BUF_WEIGHT) continue;
        int64_t n = const_dim(s, s->buf[b].bytes_dim);
        if (n <= 0 || s->buf[b].dtype == 8) return all;
        uint64_t e = (uint64_t)(s->buf[b].offset + n);
        if (e > end) end = e;
    }
    return end < all ? end : all;
}

/* Strings among the weights point into the table that they are part of: kernels get a copy with addresses. */
static accelc_status place_strings(Sess *s, const char *weights) {
    for (int32_t b = 0; b < (int32_t)s->nbuf; b++) {
        bool strings = s->buf[b].kind == RT_BUF_WEIGHT && s->buf[b].dtype == 8;
        int64_t n = strings ? const_dim(s, s->buf[b].bytes_dim) : 0;
        int32_t home = -1;
        if (n <= 0) continue;
        accelc_status st = block_new(s, &home, n);
        if (st != ACCELC_OK) return st;
        const char *from = weights + s->buf[b].offset;
        accelc_str *to = (accelc_str *)(void *)s->block[home].p;
        for (int64_t i = 0; i < n / (int64_t)sizeof *to; i++) {
            uint64_t e[2];
            memcpy(e, from + (size_t)i * sizeof e, sizeof e);
            to[i] = (accelc_str){from + e[0], (size_t)e[1]};
        }
        set_ptr(s, b, to);
    }
    return ACCELC_OK;
}

static accelc_status open_memory(Sess *s, char *msg, size_t msg_bytes) {
    const char *weights, *bad = find_weights(s, &weights, msg, msg_bytes);
    accelc_status st;
    if (bad) {
        if (bad != msg) snprintf(msg, msg_bytes, "%s", bad);
        return ACCELC_EINVAL;
    }
    if (s->desc && !s->dry && !s->model->gpu && !s->cfg.map_weights && !s->cfg.alloc)
        weights_to_huge_pages(s->model->weights, s->desc->weight_bytes);
    bool fixed = s->plan->flags & RT_STATIC;
    s->weights_end = weights_end(s);
    st = fixed ? eval_dims(s, 0, s->plan->entry_dimops) : reserve(s);
    if (st == ACCELC_OK && !s->dry && s->model->gpu) st = s->model->gpu->ops->open(s, weights);
    if (st == ACCELC_OK && !s->dry && (st = team_open(s, msg, msg_bytes)) != ACCELC_OK) return st;
    if (st == ACCELC_OK && s->cfg.arena && !s->dry &&
        (st = lend_arena(s, msg, msg_bytes)) != ACCELC_OK)
        return st;
    for (int32_t b = 0; b < (int32_t)s->nbuf && !s->dry; b++) {
        const rt_buf *f = &s->buf[b];
        char *p = s->home[b] >= 0 ? s->block[s->home[b]].p : NULL;
        if (f->kind != RT_BUF_VIEW)
            set_ptr(s, b,
                    f->kind == RT_BUF_WEIGHT ? (void *)(uintptr_t)(weights + f->offset)
                    : p                      ? p + s->at[b]
                                             : NULL);
    }
    if (st == ACCELC_OK && !s->dry) st = place_strings(s, weights);
    s->grew[0] = 1; /* nothing has a place yet */
    if (st == ACCELC_OK && (fixed || s->cfg.sym_max) && !s->dry) st = settle(s, 0);
    /* With fixed shapes run() must not allocate, so what it may need is there now. */
    for (uint32_t i = 0; i < s->nin && st == ACCELC_OK && fixed && !s->dry; i++) {
        int32_t b = s->in_root[i];
        if (b >= 0 && (s->buf[b].slack > 0 || dtype_bits(s->in[i].dtype) < 8))
            st = block_new(s, &s->in_stage[i], buf_bytes(s, b) + s->buf[b].slack);
    }
    for (uint32_t i = 0; i < s->nout && st == ACCELC_OK && fixed && !s->dry; i++)
        if (needs_extra(s, i) && s->def[s->buf[s->out[i].buf].bytes_dim] == 0)
            st = block_new(s, &s->out_extra[i], align_up(buf_bytes(s, s->out[i].buf)) + RT_ALIGN);
    if (st != ACCELC_OK) snprintf(msg, msg_bytes, "%s", s->error);
    return st;
}

/* A session of `model` in *out; with `dry` only its tables, for questions about sizes. */
static accelc_status sess_open(const rt_bundle *m, const rt_model *model, const accelc_config *cfg,
                               bool dry, Sess **out, char *msg, size_t msg_bytes) {
    Sess head = {.bundle = m, .model = model, .cfg = *cfg, .dry = dry}; /* to measure */
    const rt_plan *p = model->plan;
    *out = NULL;
    if (model->magic != RT_MAGIC || model->size < sizeof(rt_model) || !p || p->magic != RT_MAGIC ||
        p->version != RT_VERSION) {
        snprintf(msg, msg_bytes, "the model was made by an incompatible compiler");
        return ACCELC_EABI;
    }
    const char *where, *bad;
    uint32_t index;
    view_plan(&head, p);
    head.desc = m->api ? m->api->desc : NULL;
    if ((bad = check_plan(&head, &where, &index))) {
        snprintf(msg, msg_bytes, "broken plan: %s %u: %s", where, index, bad);
        return ACCELC_EABI;
    }
    head.maxblock = head.nbuf + head.nin * 2 + head.nout + 1;
    head.nuse = head.nbuf;
    for (uint32_t i = 0; i < head.nstep; i++) {
        head.maxblock += head.step[i].op == RT_DIMS;
        head.nuse +=
            head.step[i].op == RT_KERNEL ? (uint32_t)head.step[i].nbuf + head.step[i].ndim : 0;
    }
    size_t bytes = sizeof(Sess) + lay_out(&head, (char *)&head); /* the addresses are thrown away */
    Sess *s = mem_get(cfg, bytes);
    if (!s) {
        snprintf(msg, msg_bytes, "out of memory: %zu bytes for the session", bytes);
        return ACCELC_ENOMEM;
    }
    memset(s, 0, bytes);
    s->bundle = m;
    s->model = model;
    s->desc = head.desc;
    s->cfg = *cfg;
    s->dry = dry;
    s->maxblock = head.maxblock;
    s->nuse = head.nuse;
    if (cfg->exec) {
        s->exec = *cfg->exec;
        s->cfg.exec = &s->exec;
    }
    view_plan(s, p);
    lay_out(s, (char *)(s + 1));
    find_definitions(s);
    if ((bad = find_homes(s))) {
        snprintf(msg, msg_bytes, "broken plan: %s", bad);
        sess_close(s);
        return ACCELC_EABI;
    }
    find_uses(s);
    accelc_status st = open_memory(s, msg, msg_bytes);
    if (st != ACCELC_OK) {
        sess_close(s);
        return st;
    }
    if (!dry) team_start(s);
    *out = s;
    return ACCELC_OK;
}

static void sess_close(Sess *s) {
    team_close(s);
    if (s->objects) s->model->calls->ops->close(s);
    if (s->device) s->model->gpu->ops->close(s);
    for (uint32_t i = 0; i < s->nblock && !s->dry; i++)
        if (!s->block[i].lent) mem_put(&s->cfg, s->block[i].p);
    if (!s->scratch.lent && !s->dry) mem_put(&s->cfg, s->scratch.p);
    if (s->map) munmap(s->map, s->map_bytes);
    accelc_config cfg = s->cfg;
    mem_put(&cfg, s);
}
