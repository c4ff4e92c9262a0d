/* plan.c: Program + compiled kernels -> the plan of runtime/abi.h: dims program, buffers, ports, guards, steps. The only
 * writer of that format. */
#include <string.h>

#include "emit_internal.h"
#include "plan.h"
#include "runtime/abi.h"

void bytes_put(Bytes *b, const void *p, size_t n) {
    if (b->n + n > b->cap) {
        size_t cap = b->cap ? 2 * b->cap : 4096;
        while (cap < b->n + n) cap *= 2;
        uint8_t *grown = ctx_alloc(b->c, cap);
        if (b->n) memcpy(grown, b->p, b->n);
        b->p = grown;
        b->cap = cap;
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

/* Bytes of a constant as kernels read it: packed types unpacked, one byte each. */
static uint64_t const_bytes(const ConstData *d) {
    unsigned bits = dt_bits(d->dtype);
    uint64_t n = (uint64_t)d->count * (bits < 8 ? 1 : bits / 8);
    const StrConst *s = d->data; /* the table of strings is followed by their bytes */
    for (int64_t i = 0; d->dtype == DT_STR && i < d->count; i++) n += s[d->splat ? 0 : i].bytes;
    return n;
}

uint64_t weights_add(Ctx *c, Weights *w, const ConstData *d) {
    for (uint32_t i = 0; i < w->item.n; i++) {
        const ConstData *o = w->item.v[i].data;
        if (o == d || (o->count == d->count && o->dtype == d->dtype && o->splat == d->splat && o->bytes == d->bytes &&
                       (o->data == d->data || !memcmp(o->data, d->data, d->bytes)))) return w->item.v[i].offset;
    }
    uint64_t at = w->bytes, n = const_bytes(d);
    vec_push(c, &w->item, (WeightItem){d, at, n});
    w->bytes = (at + (n ? n : 1) + 63) / 64 * 64; /* even nothing has a place */
    return at;
}

typedef VEC(rt_dimop) DimOps;

typedef struct Build {
    Ctx *c;
    Level *l;
    Graph *g;
    Weights *w;
    VEC(uint32_t) sym;          /* plan index -> symbol id of the Ctx */
    int32_t *sym_index;         /* per Ctx symbol: plan index or -1 */
    int32_t *sym_segment;       /* per Ctx symbol: 0 = bound by inputs, else the segment of Program.step */
    VEC(Dim) dim;               /* distinct dims, by plan index - nsym */
    int32_t *dim_index;         /* per interned Dim (grows) */
    uint32_t dim_room;
    uint32_t ndim;
    DimOps *ops;                /* per segment */
    VEC(rt_buf) buf;
    int32_t *buf_index;         /* per value: 1 + buffer */
    VEC(int32_t) arg, iodim;
    VEC(rt_map) map;
    VEC(rt_iobind) iobind;
    VEC(rt_io) in, out;
    VEC(rt_guard) entry, guard;
    VEC(rt_step) step;
    VEC(rt_type) type;
    VEC(rt_term) term;
    VEC(int32_t) term_dim;
    Buf str;
    uint32_t nsym;
    int32_t random[2];          /* 1 + index of RANDOM_SEED and RANDOM_RUN, 0 = not used */
} Build;

static int32_t text(Build *b, const char *s) {
    int32_t at = (int32_t)b->str.n;
    buf_puts(&b->str, s ? s : "");
    b->str.n++; /* keep the terminating NUL that buf_puts wrote */
    buf_printf(&b->str, "%s", "");
    return at;
}

/* ---- dims ---- */

static void note_symbols(Build *b, Dim d) {
    DimInfo i = *dim_info(b->c, d);
    if (i.kind == D_SYM && b->sym_index[i.val] < 0) {
        b->sym_index[i.val] = (int32_t)b->sym.n;
        vec_push(b->c, &b->sym, (uint32_t)i.val);
    }
    for (int k = 0; k < i.n; k++) note_symbols(b, i.arg[k]);
}

static int segment_of(Build *b, Dim d) {
    DimInfo i = *dim_info(b->c, d);
    int s = i.kind == D_SYM ? b->sym_segment[i.val] : 0;
    for (int k = 0; k < i.n; k++) {
        int t = segment_of(b, i.arg[k]);
        if (t > s) s = t;
    }
    return s;
}

static int32_t emit_op(Build *b, int seg, uint32_t op, int32_t x, int32_t y, int32_t z, int64_t imm) {
    int32_t dst = (int32_t)b->ndim++;
    vec_push(b->c, &b->ops[seg], (rt_dimop){.op = op, .dst = dst, .a = x, .b = y, .c = z, .imm = imm});
    return dst;
}

static int32_t dim_at(Build *b, Dim d) {
    static const int32_t op_of[] = {[D_ADD] = RT_DIM_ADD, [D_MUL] = RT_DIM_MUL, [D_FLOORDIV] = RT_DIM_FLOORDIV,
        [D_CEILDIV] = RT_DIM_CEILDIV, [D_MOD] = RT_DIM_MOD, [D_MIN] = RT_DIM_MIN, [D_MAX] = RT_DIM_MAX,
        [D_BCAST] = RT_DIM_BCAST, [D_EQ] = RT_DIM_EQ, [D_LT] = RT_DIM_LT, [D_SELECT] = RT_DIM_SELECT};
    if (d.i >= b->dim_room) {
        uint32_t room = 2 * d.i + 256;
        int32_t *grown = NEWN(b->c, int32_t, room);
        if (b->dim_room) memcpy(grown, b->dim_index, b->dim_room * sizeof *grown);
        b->dim_index = grown;
        b->dim_room = room;
    }
    if (b->dim_index[d.i]) return b->dim_index[d.i] - 1;
    DimInfo i = *dim_info(b->c, d);
    int32_t at;
    int seg = segment_of(b, d);
    switch (i.kind) {
    case D_CONST: at = emit_op(b, 0, RT_DIM_CONST, -1, -1, -1, i.val); break;
    case D_SYM:
        at = b->sym_index[i.val];
        if (at >= 0) break;
        diag(b->c, SEV_ERROR, (Loc){0}, "E0404", "size \"%s\" is used, but no input, bind or call gives it a value",
             dim_sym_info(b->c, (uint32_t)i.val)->name);
        return b->sym_index[i.val] = 0; /* said once */
    case D_POISON: ICE("a poison dim reached the plan");
    case D_SELECT: {
        int32_t x = dim_at(b, i.arg[0]), y = dim_at(b, i.arg[1]), z = dim_at(b, i.arg[2]);
        at = emit_op(b, seg, RT_DIM_SELECT, x, y, z, 0);
        break;
    }
    default:
        at = dim_at(b, i.arg[0]);
        for (int k = 1; k < i.n; k++) {
            int32_t y = dim_at(b, i.arg[k]);
            at = emit_op(b, seg, (uint32_t)op_of[i.kind], at, y, -1, 0);
        }
    }
    b->dim_index[d.i] = at + 1;
    return at;
}

/* ---- buffers ---- */

static int32_t weight(Build *b, const ConstData *d) {
    rt_buf x = {.kind = RT_BUF_WEIGHT, .dtype = (uint8_t)d->dtype, .rank = 1, .index = -1, .offset_dim = -1};
    x.offset = (int64_t)weights_add(b->c, b->w, d);
    x.bytes_dim = dim_at(b, dim_const(b->c, (int64_t)d->bytes));
    vec_push(b->c, &b->buf, x);
    return (int32_t)b->buf.n - 1;
}

static int32_t buffer(Build *b, Val v) {
    v = graph_resolve(b->g, v);
    if (b->buf_index[v.i]) return b->buf_index[v.i] - 1;
    const Storage *s = &b->l->program->storage[v.i];
    const Type *t = val_type(b->g, v);
    if (s->kind == ST_VALUE && s->root.i != v.i) return buffer(b, s->root);
    bool tensor = t->kind == TY_TENSOR;
    unsigned bits = !tensor || dt_bits(t->dtype) < 8 ? 8 : dt_bits(t->dtype);
    rt_buf x = {.dtype = tensor ? t->dtype : 0, .rank = t->rank, .index = -1, .offset_dim = -1, .first = s->first, .last = s->last};
    switch ((StorageKind)s->kind) {
    case ST_VIEW:
        x.kind = RT_BUF_VIEW;
        x.index = buffer(b, s->root);
        x.offset_dim = dim_at(b, dim_muli(b->c, s->offset, bits / 8));
        break;
    case ST_ARENA: x.kind = RT_BUF_ARENA; x.offset = s->place; break;
    case ST_CONST: {
        const ConstData *d = val_const(b->g, v);
        CHECK(d);
        x.kind = RT_BUF_WEIGHT;
        x.offset = (int64_t)weights_add(b->c, b->w, d);
        break;
    }
    case ST_INPUT: x.kind = RT_BUF_INPUT; x.index = s->port; break;
    case ST_OUTPUT: x.kind = RT_BUF_OUTPUT; x.index = s->port; break;
    case ST_VALUE: x.kind = RT_BUF_VALUE; b->l->objects = true; break;
    case ST_NONE: ICE("a value without storage reached the plan");
    }
    /* what is not computed in this run may have negative sizes */
    Dim bytes = tensor ? dim_muli(b->c, type_count(b->c, t), bits / 8) : dim_const(b->c, 0);
    x.bytes_dim = dim_at(b, s->kind == ST_ARENA || s->kind == ST_VIEW || s->kind == ST_VALUE ? dim_max(b->c, bytes, dim_const(b->c, 0)) : bytes);
    vec_push(b->c, &b->buf, x);
    b->buf_index[v.i] = (int32_t)b->buf.n;
    return b->buf_index[v.i] - 1;
}

/* ---- ports ---- */

static void symbols(Build *b) {
    uint32_t n = dim_nsyms(b->c);
    b->sym_index = NEWN(b->c, int32_t, n + 1);
    b->sym_segment = NEWN(b->c, int32_t, n + 1);
    b->ops = NEWN(b->c, DimOps, b->l->program->nsegment + 2);
    for (uint32_t i = 0; i <= n; i++) b->sym_index[i] = -1;
    for (uint32_t i = 0; i < b->g->in.n; i++) {
        const Type *t = val_type(b->g, b->g->in.v[i].val);
        for (int d = 0; d < t->rank; d++) note_symbols(b, t->dim[d]);
    }
    for (uint32_t i = 0; i < b->l->program->step.n; i++) {
        const Step *x = &b->l->program->step.v[i];
        if (x->kind != SP_BIND && x->kind != SP_SET && x->kind != SP_SIZE) continue;
        int64_t sym = dim_info(b->c, x->sym)->val;
        if (!b->sym_segment[sym]) b->sym_segment[sym] = (int32_t)x->segment;
        note_symbols(b, x->sym);
    }
    for (uint32_t i = 0; i < n; i++) {
        const char *name = dim_sym_info(b->c, i)->name;
        for (int k = 0; k < 2; k++) {
            if (!name || strcmp(name, k ? RANDOM_RUN : RANDOM_SEED)) continue;
            if (b->sym_index[i] < 0) {
                b->sym_index[i] = (int32_t)b->sym.n;
                vec_push(b->c, &b->sym, i);
            }
            b->random[k] = b->sym_index[i] + 1;
        }
    }
    b->nsym = b->sym.n;
    b->ndim = b->nsym;
}

/* The type of a port that is no tensor. An optional is its value's type, or nothing. */
static int32_t type_tree(Build *b, const Type *t) {
    static const uint8_t kind_of[] = {[TY_TENSOR] = ACCELC_TENSOR, [TY_SEQ] = ACCELC_SEQUENCE, [TY_MAP] = ACCELC_MAP};
    bool optional = t->kind == TY_OPT;
    while (t->kind == TY_OPT) t = t->elem;
    rt_type x = {.kind = kind_of[t->kind], .optional = optional, .dtype = t->dtype, .rank = t->rank > MAX_RANK ? -1 : t->rank, .elem = -1};
    if (t->elem) x.elem = type_tree(b, t->elem);
    vec_push(b->c, &b->type, x);
    return (int32_t)b->type.n - 1;
}

static bool ports(Build *b) {
    bool *bound = NEWN(b->c, bool, dim_nsyms(b->c) + 1);
    for (int side = 0; side < 2; side++) {
        uint32_t n = side ? b->g->out.n : b->g->in.n;
        for (uint32_t i = 0; i < n; i++) {
            Port p = side ? b->g->out.v[i] : b->g->in.v[i];
            const Type *t = val_type(b->g, p.val);
            rt_io io = {.name = text(b, p.name), .dtype = t->dtype, .kind = ACCELC_TENSOR, .rank = t->rank, .dim = (int32_t)b->iodim.n, .type = -1};
            if (t->kind != TY_TENSOR) {
                io.type = type_tree(b, t);
                io.kind = b->type.v[io.type].kind;
                io.optional = b->type.v[io.type].optional;
            }
            for (int d = 0; d < t->rank; d++) {
                const DimInfo *s = dim_info(b->c, t->dim[d]);
                rt_iobind bind = {.sym = -1, .lo = 0, .hi = -1};
                if (!side && s->kind == D_SYM && !bound[s->val]) {
                    const SymInfo *info = dim_sym_info(b->c, (uint32_t)s->val);
                    bound[s->val] = true;
                    bind = (rt_iobind){.sym = b->sym_index[s->val], .lo = info->lo, .hi = info->hi == DIM_INF ? -1 : info->hi};
                }
                vec_push(b->c, &b->iodim, dim_at(b, t->dim[d]));
                vec_push(b->c, &b->iobind, bind);
            }
            io.buf = buffer(b, p.val);
            if (side) vec_push(b->c, &b->out, io);
            else vec_push(b->c, &b->in, io);
        }
    }
    for (uint32_t i = 0; i < b->nsym; i++) {
        if (bound[b->sym.v[i]] || b->sym_segment[b->sym.v[i]]) continue;
        if (b->random[0] == (int32_t)i + 1 || b->random[1] == (int32_t)i + 1) continue;
        diag(b->c, SEV_UNSUPPORTED, (Loc){0}, "U0402", "size \"%s\" occurs only inside sums or products of input dims; give it with --dim",
             dim_sym_info(b->c, b->sym.v[i])->name);
        return false;
    }
    return true;
}

/* ---- steps ---- */

static void kernel_map(Build *b, const LMap *m, const KMap *k) {
    int64_t size = (int64_t)dt_bytes((DType)m->dt, 1);
    rt_map x = {.arg = (uint16_t)k->buf, .rank = m->rank, .bytes = (uint8_t)size, .swizzled = m->swizzled,
                .offset = dim_at(b, dim_muli(b->c, k->offset, size))};
    for (int d = 0; d < m->rank; d++) {
        x.box[d] = m->box[d];
        x.extent[d] = dim_at(b, k->extent[d]);
        x.stride[d] = dim_at(b, dim_muli(b->c, d ? k->step[d] : dim_const(b->c, 1), size));
    }
    x.windows = (uint8_t)m->windows;
    for (int d = 0; m->windows && d < m->rank - 2; d++)
        x.window[d] = (rt_window){dim_at(b, k->window[d].first), dim_at(b, k->window[d].last), k->window[d].stride};
    vec_push(b->c, &b->map, x);
}

/* A message with the node that it is about. */
static const char *blame(Build *b, Loc loc, const char *what) {
    const LocInfo *l = loc_info(b->c, loc);
    return l->name && *l->name ? ctx_printf(b->c, "node \"%s\" (%s): %s", l->name, l->op ? l->op : "", what)
                               : ctx_printf(b->c, "%s%s%s", l->op ? l->op : "", l->op && *l->op ? ": " : "", what);
}

static void add_guard(Build *b, const Node *n, const GuardAttr *a, int32_t x, int32_t y, bool entry) {
    static const int32_t cmp_of[] = {[G_EQ] = RT_CMP_EQ, [G_LE] = RT_CMP_LE, [G_LT] = RT_CMP_LT, [G_BCAST] = RT_CMP_BCAST, [G_TRUE] = RT_CMP_TRUE};
    rt_guard g = {.cmp = cmp_of[a->cmp], .a = x, .b = y, .msg = text(b, blame(b, n->loc, a->text ? a->text : ""))};
    if (entry) vec_push(b->c, &b->entry, g);
    else vec_push(b->c, &b->guard, g);
}

static void work_term(Build *b, const KernelCode *k, const Work *w) {
    rt_term t = {.factor = w->factor, .buf = -1, .dim = (int32_t)b->term_dim.n, .n = w->ndim};
    for (uint32_t a = 0; a < k->nbuf && w->buf.i; a++)
        if (graph_resolve(b->g, k->buf[a]).i == graph_resolve(b->g, w->buf).i) t.buf = (int32_t)a;
    if (w->buf.i && t.buf < 0) return; /* the kernel does not want it after all */
    for (int d = 0; d < w->ndim; d++) vec_push(b->c, &b->term_dim, dim_at(b, w->dim[d]));
    vec_push(b->c, &b->term, t);
}

static void kernel_step(Build *b, uint32_t i) {
    Node *n = b->g->node.v[i];
    KernelCode *k = b->l->code[i];
    const GroupAttr *ga = n->attr;
    rt_step s = {.op = RT_KERNEL, .barrier = b->l->program->barrier_after[i] != 0, .nbuf = (uint16_t)k->nbuf, .ndim = (uint16_t)k->ndim,
                 .arg = (int32_t)b->arg.n, .grain = (int32_t)(k->grain > INT32_MAX ? INT32_MAX : k->grain), .scratch = -1};
    for (uint32_t f = 0; f < b->l->nsymbol; f++)
        if (b->l->function[f] == b->l->symbol[i]) s.kernel = (int32_t)f;
    for (uint32_t a = 0; a < k->nbuf; a++) vec_push(b->c, &b->arg, k->data && k->data[a] ? weight(b, k->data[a]) : buffer(b, k->buf[a]));
    for (uint32_t a = 0; a < k->ndim; a++) vec_push(b->c, &b->arg, dim_at(b, k->dim[a]));
    s.nmap = (uint16_t)lir_nmap(k->lir), s.lo = (int64_t)b->map.n;
    for (uint32_t m = 0; m < s.nmap; m++) kernel_map(b, &lir_maps(k->lir)[m], &k->map[m]);
    s.tasks = dim_at(b, k->tasks);
    if (!dim_is(b->c, k->scratch, 0)) s.scratch = dim_at(b, k->scratch);
    s.name = text(b, ga->note ? ga->note : "kernel");
    Buf nodes = {.c = b->c};
    Loc last = {0};
    for (uint32_t j = 0; j < ga->body->node.n; j++) {
        Loc l = ga->body->node.v[j]->loc;
        if (!l.i || l.i == last.i || nodes.n > 400) continue;
        const char *name = loc_info(b->c, last = l)->name;
        if (name && *name) buf_printf(&nodes, "%s%s", nodes.n ? ", " : "", name);
    }
    s.nodes = text(b, buf_str(&nodes));
    Buf sched = {.c = b->c};
    sched_print(&sched, &k->sched);
    s.imm = text(b, buf_str(&sched));
    s.a = (int32_t)b->term.n;
    for (uint32_t t = 0; t < k->nwork; t++) work_term(b, k, &k->work[t]);
    s.b = (int32_t)b->term.n;
    vec_push(b->c, &b->step, s);
}

static void bind_step(Build *b, const Step *x) {
    const SymInfo *info = dim_sym_info(b->c, (uint32_t)dim_info(b->c, x->sym)->val);
    bool open = x->hi == DIM_INF && x->lo > INT64_MIN; /* the runtime's mark for "no upper bound" */
    const char *nodes = x->kind == SP_SIZE ? loc_info(b->c, x->loc)->name : blame(b, x->loc, info->name);
    vec_push(b->c, &b->step, (rt_step){.op = x->kind == SP_SIZE ? RT_SIZE : RT_BIND, .a = dim_at(b, x->sym), .b = buffer(b, x->from), .imm = x->index,
                                       .lo = x->lo,
             .hi = open ? INT64_MIN : x->hi, .scratch = -1, .name = text(b, info->name), .nodes = text(b, nodes)});
}

static void guard_step(Build *b, const Step *x) {
    Node *n = b->g->node.v[x->node];
    const GuardAttr *a = n->attr;
    if (a->cmp == G_TRUE && n->nin) {
        int32_t hidden = (int32_t)b->ndim++;
        vec_push(b->c, &b->step, (rt_step){.op = RT_BIND, .a = hidden, .b = buffer(b, n->in[0]), .lo = 0, .hi = INT64_MIN, .scratch = -1,
                                           .name = text(b, "condition")});
        add_guard(b, n, a, hidden, hidden, false);
    } else {
        bool entry = !x->inside && segment_of(b, a->a) == 0 && segment_of(b, a->b) == 0;
        add_guard(b, n, a, dim_at(b, a->a), dim_at(b, a->b), entry);
        if (entry) return;
    }
    vec_push(b->c, &b->step, (rt_step){.op = RT_GUARDS, .a = (int32_t)b->guard.n - 1, .b = (int32_t)b->guard.n, .scratch = -1});
}

static const char *const functions[] = {
#define CALL(symbol) #symbol,
#include "runtime/call.def"
#undef CALL
};

static bool is_function(const char *name) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i], name)) return true;
    return false;
}

static void call_step(Build *b, const Step *x) {
    const Node *n = b->g->node.v[x->node];
    const char *name = n->op == P_CALL ? ((const CallAttr *)n->attr)->symbol : ctx_printf(b->c, "seq_%s", ((const SeqAttr *)n->attr)->sub);
    uint32_t f = 0;
    while (f < b->l->call.n && strcmp(b->l->call.v[f], name)) f++;
    if (f == b->l->call.n && !is_function(name)) diag(b->c, SEV_ERROR, n->loc, "E0403", "the runtime has no function \"%s\"", name);
    if (f == b->l->call.n) vec_push(b->c, &b->l->call, name);
    b->l->objects = true;
    rt_step s = {.op = RT_CALL, .kernel = (int32_t)f, .a = n->nin, .nbuf = (uint16_t)(n->nin + n->nout), .scratch = -1};
    VEC(int32_t) arg = {0};
    for (int k = 0; k < n->nin; k++) vec_push(b->c, &arg, n->in[k].i ? buffer(b, n->in[k]) : -1);
    for (int r = 0; r < n->nout; r++) vec_push(b->c, &arg, buffer(b, n->out[r]));
    for (int k = 0; k < n->nin; k++) {
        const Type *t = val_type(b->g, n->in[k]);
        for (int d = 0; n->in[k].i && d < t->rank; d++) vec_push(b->c, &arg, dim_at(b, t->dim[d]));
    }
    s.ndim = (uint16_t)(arg.n - s.nbuf);
    s.arg = (int32_t)b->arg.n;
    for (uint32_t k = 0; k < arg.n; k++) vec_push(b->c, &b->arg, arg.v[k]);
    const LocInfo *l = loc_info(b->c, n->loc);
    s.name = text(b, name);
    s.nodes = text(b, l->name && *l->name ? l->name : name);
    vec_push(b->c, &b->step, s);
}

/* The ranges of RT_DIMS are segments until all dimops are known. */
static void steps(Build *b) {
    const Program *p = b->l->program;
    if (b->random[0] || b->random[1]) {
        for (int k = 0; k < 2; k++) /* RT_SEED sets both */
            if (!b->random[k]) b->random[k] = (int32_t)++b->ndim;
        vec_push(b->c, &b->step, (rt_step){.op = RT_SEED, .a = b->random[0] - 1, .b = b->random[1] - 1, .scratch = -1});
    }
    int32_t *begin = NEWN(b->c, int32_t, p->step.n + 2), *label = NEWN(b->c, int32_t, p->nlabel + 1);
    for (uint32_t i = 0; i < p->step.n; i++) {
        const Step *x = &p->step.v[i];
        rt_step s = {.scratch = -1};
        begin[i] = (int32_t)b->step.n;
        switch ((StepKind)x->kind) {
        case SP_KERNEL: kernel_step(b, x->node); continue;
        case SP_BIND: case SP_SIZE: bind_step(b, x); continue;
        case SP_CALL: call_step(b, x); continue;
        case SP_GUARD: guard_step(b, x); continue;
        case SP_LABEL: label[x->label] = (int32_t)b->step.n; continue;
        case SP_LIVE: continue;
        case SP_SET: s.op = RT_SET; s.a = dim_at(b, x->sym); s.b = dim_at(b, x->dim); break;
        case SP_DIMS: s.op = RT_DIMS; s.a = (int32_t)x->segment; s.b = (int32_t)x->last; break;
        case SP_JUMP: s.op = RT_JUMP; s.a = (int32_t)x->label; break;
        case SP_BRANCH: s.op = RT_BRANCH; s.a = (int32_t)x->label; s.b = dim_at(b, x->dim); break;
        case SP_COPY: s.op = RT_COPYBUF; s.a = buffer(b, x->to); s.b = buffer(b, x->from); break;
        }
        const LocInfo *l = loc_info(b->c, x->loc);
        s.nodes = text(b, l->name && *l->name ? l->name : l->op);
        vec_push(b->c, &b->step, s);
    }
    begin[p->step.n] = (int32_t)b->step.n;
    vec_push(b->c, &b->step, (rt_step){.op = RT_END, .scratch = -1});
    for (uint32_t i = 0; i < b->step.n; i++)
        if (b->step.v[i].op == RT_JUMP || b->step.v[i].op == RT_BRANCH) b->step.v[i].a = label[b->step.v[i].a];
    for (uint32_t i = 0; i < b->buf.n; i++) { /* lives in steps of the runtime */
        rt_buf *x = &b->buf.v[i];
        if (x->kind != RT_BUF_ARENA || x->last < 0) continue;
        x->first = begin[x->first];
        x->last = begin[x->last + 1] > x->first ? begin[x->last + 1] - 1 : x->first;
    }
}

static rt_arr put(Bytes *o, const void *p, uint32_t n, size_t elem) {
    static const uint8_t zero[16];
    if (o->n % 8) bytes_put(o, zero, 8 - o->n % 8);
    rt_arr a = {(uint32_t)o->n, n};
    if (n) bytes_put(o, p, n * elem);
    return a;
}

bool plan_build(Ctx *c, Level *l, Weights *w) {
    Build build = {.c = c, .l = l, .g = l->program->g, .w = w, .str = {.c = c}}, *b = &build;
    b->buf_index = NEWN(c, int32_t, b->g->val.n);
    text(b, "");
    symbols(b);
    if (!ports(b)) return false;
    steps(b);
    if (ctx_errors(c)) return false;
    rt_plan p = {.magic = RT_MAGIC, .version = RT_VERSION, .nsym = b->nsym, .ndim = b->ndim, .arena = l->program->arena, .scratch = -1};
    p.flags = b->nsym == 0 ? RT_STATIC : 0;
    int64_t scratch = 0;
    for (uint32_t i = 0; i < b->g->node.n && scratch >= 0; i++) {
        int64_t v = 0;
        if (!l->code[i]) continue;
        if (!dim_is_const(c, l->code[i]->scratch, &v)) scratch = -1;
        else if (v > scratch) scratch = v;
    }
    p.scratch = scratch;
    /* One array of dimops: segment 0, then those of each bind; RT_DIMS steps get their range. */
    DimOps all = {0};
    uint32_t nsegment = l->program->nsegment, *begin = NEWN(c, uint32_t, nsegment + 2);
    for (uint32_t s = 0; s <= nsegment; s++) {
        begin[s] = all.n;
        for (uint32_t i = 0; i < b->ops[s].n; i++) vec_push(c, &all, b->ops[s].v[i]);
    }
    begin[nsegment + 1] = all.n;
    for (uint32_t i = 0; i < b->step.n; i++)
        if (b->step.v[i].op == RT_DIMS) {
            b->step.v[i].a = (int32_t)begin[b->step.v[i].a];
            b->step.v[i].b = (int32_t)begin[b->step.v[i].b + 1];
        }
    p.entry_dimops = begin[1];
    /* Guards: entry, mid-run, then those that kernels return (index = kernel_guard0 + id). */
    uint32_t nentry = b->entry.n;
    for (uint32_t i = 0; i < b->step.n; i++)
        if (b->step.v[i].op == RT_GUARDS) {
            b->step.v[i].a += (int32_t)nentry;
            b->step.v[i].b += (int32_t)nentry;
        }
    for (uint32_t i = 0; i < b->guard.n; i++) vec_push(c, &b->entry, b->guard.v[i]);
    p.entry_guards = nentry;
    p.kernel_guard0 = b->entry.n;
    for (uint32_t g = 0; g < expr_nguards(c); g++) /* guard 0 does not exist */
        vec_push(c, &b->entry, (rt_guard){.cmp = RT_CMP_TRUE, .a = -1, .b = -1,
                                          .msg = text(b, blame(b, expr_guard_loc(c, g), expr_guard_text(c, g)))});
    Bytes o = {.c = c};
    bytes_put(&o, &p, sizeof p);
    p.dimop = put(&o, all.v, all.n, sizeof *all.v);
    p.buf = put(&o, b->buf.v, b->buf.n, sizeof *b->buf.v);
    p.in = put(&o, b->in.v, b->in.n, sizeof *b->in.v);
    p.out = put(&o, b->out.v, b->out.n, sizeof *b->out.v);
    p.iodim = put(&o, b->iodim.v, b->iodim.n, sizeof *b->iodim.v);
    p.iobind = put(&o, b->iobind.v, b->iobind.n, sizeof *b->iobind.v);
    p.map = put(&o, b->map.v, b->map.n, sizeof *b->map.v);
    p.guard = put(&o, b->entry.v, b->entry.n, sizeof *b->entry.v);
    p.step = put(&o, b->step.v, b->step.n, sizeof *b->step.v);
    p.arg = put(&o, b->arg.v, b->arg.n, sizeof *b->arg.v);
    p.type = put(&o, b->type.v, b->type.n, sizeof *b->type.v);
    rt_work work = {.term = put(&o, b->term.v, b->term.n, sizeof *b->term.v), .dim = put(&o, b->term_dim.v, b->term_dim.n, sizeof *b->term_dim.v)};
    p.work = put(&o, &work, 1, sizeof work).off;
    p.str = put(&o, b->str.s, (uint32_t)b->str.n, 1);
    p.bytes = (uint32_t)o.n;
    p.ndim = b->ndim;
    memcpy(o.p, &p, sizeof p);
    l->plan = o.p;
    l->plan_bytes = o.n;
    l->arena = (uint64_t)p.arena;
    return true;
}
