/* lower.c: the body of a `kernel` group -> Kernel. Views disappear into index expressions, maps are inlined into their
 * consumers; reductions, contractions, scans and the like become stages, as do the group's results and maps that are
 * dear and used by more than one stage.
 *
 * Two directions of reading: value_at() pulls a value at given coordinates back to loads; forward() pushes the
 * coordinates of a stage's result through the views and maps that follow it to a result of the group, so that such an
 * epilogue is pointwise over the stage's own axes and a template can run it on its accumulators. */
#include <string.h>

#include "emit_internal.h"
#include "ir/storage.h"

enum { DEAR = 5 }; /* cost in cycles per element from which a shared map is worth a buffer */

typedef struct Pull { uint32_t v; bool guarded; Expr idx[MAX_RANK]; Expr out; struct Pull *next; } Pull;
typedef struct Fwd { bool set, tried; uint8_t rank; Expr at[MAX_RANK], value; bool drop; } Fwd;
typedef struct Low {
    Ctx *c;
    Graph *outer, *g;           /* g: the body */
    const Node *group;
    const Storage *storage;
    Kernel *k;
    uint16_t *buf;              /* per body value: 1 + kernel buffer, 0 = inline */
    bool *made;                 /* per body value: its buffer holds it (an operand, or a stage wrote it) */
    Val *target;                /* per result: the value written in its place (the result itself, or what it is a view of) */
    Dim extent[K_AXES];         /* of the stage being built */
    uint32_t naxis;
    Pull *pull[256];            /* memo of value_at for the stage being built */
    int guarded;                /* > 0: loads must be safe at any index */
    bool *ready;                /* per body value: nothing it needs waits for a later stage (set by lower_epilogue) */
    VEC(Stage) stages;
} Low;

/* ---- index expressions ---- */

static Expr ci(Low *w, int64_t v) { return expr_int(w->c, DT_I64, v); }
static Expr add(Low *w, Expr a, Expr b) { return expr_op(w->c, S_ADD, a, b, (Expr){0}); }
static Expr sub(Low *w, Expr a, Expr b) { return expr_op(w->c, S_SUB, a, b, (Expr){0}); }
static Expr mul(Low *w, Expr a, Expr b) { return expr_op(w->c, S_MUL, a, b, (Expr){0}); }
static Expr cmp(Low *w, SOp op, Expr a, Expr b) { return expr_op(w->c, op, a, b, (Expr){0}); }
static Expr both(Low *w, Expr a, Expr b) { return !a.i ? b : !b.i ? a : expr_op(w->c, S_AND, a, b, (Expr){0}); }
static Expr dimx(Low *w, Dim d) { return expr_dim(w->c, d); }
static Expr tidy(Low *w, Expr e) { return expr_simplify_index(w->c, e, w->extent, w->naxis); }

static Expr flatten(Low *w, int rank, const Dim *dim, const Expr *idx) {
    Expr flat = ci(w, 0);
    for (int d = 0; d < rank; d++) flat = add(w, mul(w, flat, dimx(w, dim[d])), idx[d]);
    return tidy(w, flat);
}

static void unflatten(Low *w, Expr flat, int rank, const Dim *dim, Expr *idx) {
    Dim below = dim_const(w->c, 1);
    for (int d = rank - 1; d >= 0; d--) {
        Expr q = dim_is(w->c, below, 1) ? flat : cmp(w, S_FDIV, flat, dimx(w, below));
        bool first = true; /* the outermost dim that is not 1 needs no mod */
        for (int u = 0; u < d; u++) first &= dim_is(w->c, dim[u], 1);
        if (dim_is(w->c, dim[d], 1)) idx[d] = ci(w, 0);
        else idx[d] = tidy(w, first ? q : cmp(w, S_MOD, q, dimx(w, dim[d])));
        below = dim_mul(w->c, below, dim[d]);
    }
}

/* 0 <= i < n where not provable; none if it always holds. */
static Expr inside(Low *w, Expr i, Dim n) {
    int64_t lo, hi;
    bool known = expr_range(w->c, i, w->extent, w->naxis, &lo, &hi);
    Expr c = {0};
    if (!known || lo < 0) c = cmp(w, S_GE, i, ci(w, 0));
    if (!known || hi >= dim_lo(w->c, n)) c = both(w, c, cmp(w, S_LT, i, dimx(w, n)));
    return c;
}

static bool dims_equal(Low *w, int n, const Dim *a, const Dim *b) {
    for (int d = 0; d < n; d++) if (!dim_same(w->c, a[d], b[d])) return false;
    return true;
}

/* Index of an operand of dim `have` where the domain has dim `want` and index i: 0 if it is broadcast. */
static Expr broadcast_index(Low *w, Dim have, Dim want, Expr i) {
    if (dim_is(w->c, have, 1)) return ci(w, 0);
    if (dim_same(w->c, have, want) || dim_lo(w->c, have) > 1) return i;
    return expr_op(w->c, S_SELECT, cmp(w, S_EQ, dimx(w, have), ci(w, 1)), ci(w, 0), i);
}

/* ---- pulling a value at coordinates back to loads ---- */

static Expr value_at(Low *w, Val v, const Expr *idx);

static Expr leaf_load(Low *w, uint16_t buf, const Expr *idx, Oob oob, Expr pad, uint32_t guard) {
    KBuf *b = &w->k->buf[buf];
    Expr at[MAX_RANK];
    for (int d = 0; d < b->rank; d++) at[d] = dim_is(w->c, b->dim[d], 1) && oob == OOB_NEVER ? ci(w, 0) : idx[d];
    if (oob == OOB_NEVER && w->guarded) {
        oob = OOB_VALUE;
        pad = expr_const(w->c, dt_convert((Scalar){.t = DT_I64, .i = 0}, b->dtype));
    }
    if (oob != OOB_NEVER) {
        bool safe = true;
        for (int d = 0; d < b->rank; d++) safe &= !inside(w, at[d], b->dim[d]).i;
        if (safe) { oob = OOB_NEVER; pad = (Expr){0}; }
    }
    return expr_load(w->c, buf, b->dtype, b->rank, at, oob, pad, guard);
}

/* Value of v at idx, where idx may be outside: `oob` says what then. Only memory can be checked: what is computed here is
 * read at the nearest place instead (fuse keeps such operands in memory). */
static Expr load_at(Low *w, Val v, const Expr *idx, Oob oob, Expr pad, uint32_t guard) {
    const Type *t = val_type(w->g, v);
    uint16_t b = w->made[v.i] ? w->buf[v.i] : 0;
    if (b) return leaf_load(w, (uint16_t)(b - 1), idx, oob, pad, guard);
    if (oob == OOB_NEVER) return value_at(w, v, idx);
    Node *def = val_def(w->g, v);
    if (def && def->op == P_PERMUTE) {
        const PermAttr *a = def->attr;
        Expr in[MAX_RANK];
        for (int d = 0; d < t->rank; d++) in[a->perm[d]] = idx[d];
        return load_at(w, def->in[0], in, oob, pad, guard);
    }
    Expr ok = {0}, at[MAX_RANK];
    for (int d = 0; d < t->rank; d++) {
        at[d] = idx[d];
        if (oob == OOB_CLAMP || oob == OOB_FAIL) {
            at[d] = cmp(w, S_MAX, cmp(w, S_MIN, idx[d], dimx(w, dim_addi(w->c, t->dim[d], -1))), ci(w, 0));
        } else {
            ok = both(w, ok, inside(w, idx[d], t->dim[d]));
        }
    }
    if (!ok.i) return value_at(w, v, at);
    w->guarded++;
    Expr in = value_at(w, v, at);
    w->guarded--;
    return expr_op(w->c, S_SELECT, ok, in, pad);
}

typedef struct MapCtx { Low *w; const Node *n; const MapAttr *a; const Expr *idx; } MapCtx;

static Expr map_operand(Low *w, const Node *n, const MapAttr *a, uint32_t k, const Expr *idx) {
    const Type *t = val_type(w->g, n->in[k]);
    Expr at[MAX_RANK];
    int skip = a->rank - t->rank;
    for (int d = 0; d < t->rank; d++) at[d] = broadcast_index(w, t->dim[d], a->dim[d + skip], idx[d + skip]);
    return value_at(w, n->in[k], at);
}

static Expr map_rewrite(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    MapCtx *m = data;
    (void)e;
    if (i->kind == E_ARG) return map_operand(m->w, m->n, m->a, i->index, m->idx);
    if (i->kind == E_AXIS) return m->idx[i->index];
    if (i->kind == E_LOAD) {
        const Type *t = val_type(m->w->g, m->n->in[i->index]);
        Expr at[MAX_RANK];
        for (int d = 0; d < t->rank; d++) at[d] = tidy(m->w, newarg[d]);
        Expr pad = i->oob == OOB_VALUE ? newarg[i->narg - 1] : (Expr){0};
        return load_at(m->w, m->n->in[i->index], at, i->oob, pad, i->guard);
    }
    return expr_rebuild(c, i, newarg);
}

static Expr map_body(Low *w, const Node *n, int r, const Expr *idx) {
    const MapAttr *a = n->attr;
    MapCtx m = {w, n, a, idx};
    return expr_rewrite(w->c, a->body[r], map_rewrite, &m);
}

static Expr pad_index(Low *w, PadMode mode, Expr i, Dim n, Dim lo, Dim hi) {
    Expr last = dimx(w, dim_addi(w->c, n, -1)), zero = ci(w, 0);
    if (mode == PAD_EDGE) return cmp(w, S_MAX, cmp(w, S_MIN, i, last), zero);
    if (mode == PAD_WRAP) return cmp(w, S_MOD, i, dimx(w, n));
    if (dim_hi(w->c, lo) < dim_lo(w->c, n) && dim_hi(w->c, hi) < dim_lo(w->c, n)) /* one reflection at most */
        return sub(w, last, expr_op(w->c, S_ABS, sub(w, last, expr_op(w->c, S_ABS, i, (Expr){0}, (Expr){0})), (Expr){0}, (Expr){0}));
    /* period 2(n-1), n = 1 stays at 0 */
    Expr period = dimx(w, dim_max(w->c, dim_muli(w->c, dim_addi(w->c, n, -1), 2), dim_const(w->c, 1)));
    Expr m = cmp(w, S_MOD, i, period);
    return cmp(w, S_MIN, m, sub(w, period, m));
}

static Expr pull_pad(Low *w, const Node *n, const Expr *idx) {
    const PadAttr *a = n->attr;
    const Type *t = val_type(w->g, n->in[0]);
    Expr at[MAX_RANK], on_grid = {0};
    for (int d = 0; d < t->rank; d++) {
        Expr i = sub(w, idx[d], dimx(w, a->lo[d]));
        if (a->interior && a->interior[d]) {
            Expr step = ci(w, a->interior[d] + 1);
            on_grid = both(w, on_grid, cmp(w, S_EQ, cmp(w, S_MOD, i, step), ci(w, 0)));
            i = cmp(w, S_FDIV, i, step);
        }
        at[d] = tidy(w, i);
        if (a->mode != PAD_VALUE && !(dim_is(w->c, a->lo[d], 0) && dim_is(w->c, a->hi[d], 0)))
            at[d] = pad_index(w, a->mode, at[d], t->dim[d], a->lo[d], a->hi[d]);
    }
    if (a->mode != PAD_VALUE) return value_at(w, n->in[0], at);
    Expr pad = n->nin > 1 && n->in[1].i ? value_at(w, n->in[1], NULL) : expr_const(w->c, a->value);
    Expr v = load_at(w, n->in[0], at, OOB_VALUE, pad, 0);
    return on_grid.i ? expr_op(w->c, S_SELECT, on_grid, v, pad) : v;
}

static Expr pull_concat(Low *w, const Node *n, const Expr *idx) {
    int axis = ((const AxisAttr *)n->attr)->axis;
    const Type *out = val_type(w->g, n->out[0]);
    Dim start = dim_const(w->c, 0), starts[1 + n->nin];
    for (int k = 0; k < n->nin; k++) {
        starts[k] = start;
        start = dim_add(w->c, start, val_type(w->g, n->in[k])->dim[axis]);
    }
    Expr at[MAX_RANK], v = {0};
    memcpy(at, idx, out->rank * sizeof *at);
    w->guarded++;
    for (int k = n->nin - 1; k >= 0; k--) {
        at[axis] = tidy(w, sub(w, idx[axis], dimx(w, starts[k])));
        Expr part = value_at(w, n->in[k], at);
        v = v.i ? expr_op(w->c, S_SELECT, cmp(w, S_LT, idx[axis], dimx(w, starts[k + 1])), part, v) : part;
    }
    w->guarded--;
    return v;
}

static Expr pull_gather(Low *w, const Node *n, const Expr *idx) {
    const GatherAttr *a = n->attr;
    const Type *x = val_type(w->g, n->in[0]), *it = val_type(w->g, n->in[1]);
    Expr at[MAX_RANK];
    for (int d = 0; d < a->axis; d++) at[d] = idx[d];
    Expr i = expr_cast(w->c, value_at(w, n->in[1], idx + a->axis), DT_I64);
    Expr n_axis = dimx(w, x->dim[a->axis]);
    at[a->axis] = expr_op(w->c, S_SELECT, cmp(w, S_LT, i, ci(w, 0)), add(w, i, n_axis), i);
    for (int d = a->axis + 1; d < x->rank; d++) at[d] = idx[d + it->rank - 1];
    Expr zero = expr_const(w->c, dt_convert((Scalar){.t = DT_I64, .i = 0}, x->dtype));
    uint32_t guard = expr_guard(w->c, n->loc, "an index is out of range");
    bool leaf = w->made[n->in[0].i];
    return load_at(w, n->in[0], at, leaf ? a->oob : OOB_CLAMP, zero, guard);
}

static Expr pull_node(Low *w, Node *n, int r, const Expr *idx) {
    Ctx *c = w->c;
    const Type *out = val_type(w->g, n->out[r]);
    const Type *x = n->nin ? val_type(w->g, n->in[0]) : NULL;
    Expr at[MAX_RANK];
    switch ((PrimOp)n->op) {
    case P_CONST: {
        Scalar s; /* bodies hold splats only, but the builder may have written their elements out */
        if (val_scalar(w->g, n->out[0], &s)) return expr_const(c, s);
        const ConstData *d = val_const(w->g, n->out[0]);
        if (d->count > 0) return expr_const(c, dt_load(d->dtype, d->data, 0));
        break;
    }
    case P_MAP: return map_body(w, n, r, idx);
    case P_RESHAPE: {
        /* Leading and trailing dims that agree need no arithmetic. */
        int lead = 0, tail = 0, no = out->rank, ni = x->rank;
        while (lead < no && lead < ni && dim_same(c, out->dim[lead], x->dim[lead])) lead++;
        while (tail < no - lead && tail < ni - lead && dim_same(c, out->dim[no - 1 - tail], x->dim[ni - 1 - tail])) tail++;
        for (int d = 0; d < lead; d++) at[d] = idx[d];
        for (int d = 0; d < tail; d++) at[ni - 1 - d] = idx[no - 1 - d];
        Expr flat = flatten(w, no - lead - tail, out->dim + lead, idx + lead);
        unflatten(w, flat, ni - lead - tail, x->dim + lead, at + lead);
        return value_at(w, n->in[0], at);
    }
    case P_PERMUTE: {
        const PermAttr *a = n->attr;
        for (int d = 0; d < out->rank; d++) at[a->perm[d]] = idx[d];
        return value_at(w, n->in[0], at);
    }
    case P_BROADCAST:
        for (int d = 0, skip = out->rank - x->rank; d < x->rank; d++)
            at[d] = broadcast_index(w, x->dim[d], out->dim[d + skip], idx[d + skip]);
        return value_at(w, n->in[0], at);
    case P_SLICE: {
        const SliceAttr *a = n->attr;
        for (int d = 0; d < out->rank; d++)
            at[d] = tidy(w, add(w, dimx(w, a->start[d]), mul(w, idx[d], ci(w, a->step[d]))));
        return value_at(w, n->in[0], at);
    }
    case P_PAD: return pull_pad(w, n, idx);
    case P_CONCAT: return pull_concat(w, n, idx);
    case P_WINDOW: {
        const WindowAttr *a = n->attr;
        memcpy(at, idx, x->rank * sizeof *at);
        for (int j = 0; j < a->n; j++)
            at[a->axis[j]] = tidy(w, add(w, mul(w, idx[a->axis[j]], ci(w, a->stride[j])), mul(w, idx[x->rank + j], ci(w, a->dilation[j]))));
        return value_at(w, n->in[0], at);
    }
    case P_GATHER: return pull_gather(w, n, idx);
    case P_UPDATE: {
        const SliceAttr *a = n->attr;
        const Type *part = val_type(w->g, n->in[1]);
        Expr ok = {0};
        for (int d = 0; d < out->rank; d++) {
            at[d] = tidy(w, sub(w, idx[d], dimx(w, a->start[d])));
            ok = both(w, ok, inside(w, at[d], part->dim[d]));
        }
        if (!ok.i) return value_at(w, n->in[1], at);
        w->guarded++;
        Expr in = value_at(w, n->in[1], at);
        w->guarded--;
        return expr_op(c, S_SELECT, ok, in, value_at(w, n->in[0], idx));
    }
    case P_SHAPE: {
        const ShapeAttr *a = n->attr;
        if (a->n == 0xff) return dimx(w, a->dim[0]);
        Expr v = ci(w, 0);
        for (int d = a->n - 1; d >= 0; d--)
            v = d == a->n - 1 ? dimx(w, a->dim[d]) : expr_op(c, S_SELECT, cmp(w, S_EQ, idx[0], ci(w, d)), dimx(w, a->dim[d]), v);
        return v;
    }
    case P_COPY: return value_at(w, n->in[0], idx);
    case P_RANDOM: return random_at(w->c, n, flatten(w, out->rank, out->dim, idx));
    default: break;
    }
    ICE("kernel %s: %s cannot be inlined", w->k->name, prim_name(n->op));
}

static Expr value_at(Low *w, Val v, const Expr *idx) {
    v = graph_resolve(w->g, v);
    const Type *t = val_type(w->g, v);
    uint16_t b = w->made[v.i] ? w->buf[v.i] : 0;
    if (b) return leaf_load(w, (uint16_t)(b - 1), idx, OOB_NEVER, (Expr){0}, 0);
    uint32_t h = v.i * 31u + (uint32_t)(w->guarded > 0);
    for (int d = 0; d < t->rank; d++) h = h * 1000003u ^ idx[d].i;
    Pull **slot = &w->pull[h % 256];
    for (Pull *p = *slot; p; p = p->next)
        if (p->v == v.i && p->guarded == (w->guarded > 0) && (t->rank == 0 || !memcmp(p->idx, idx, t->rank * sizeof *idx))) return p->out;
    Node *def = val_def(w->g, v);
    CHECK(def);
    int r = 0;
    while (def->out[r].i != v.i) r++;
    Pull *p = NEW(w->c, Pull);
    *p = (Pull){.v = v.i, .guarded = w->guarded > 0, .next = *slot};
    if (t->rank) memcpy(p->idx, idx, t->rank * sizeof *idx);
    p->out = pull_node(w, def, r, idx);
    p->next = *slot;
    *slot = p;
    return p->out;
}

/* ---- buffers ---- */

/* Bytes that an address `offset` elements behind a multiple of 64 is a multiple of. */
static uint8_t view_align(Ctx *c, Dim offset, unsigned bits) {
    unsigned n = 64;
    while (n > 1 && !dim_divisible(c, dim_muli(c, offset, bits < 8 ? 1 : (int64_t)bits / 8), n)) n /= 2;
    return (uint8_t)n;
}

static uint16_t new_buf(Low *w, uint8_t kind, const Type *t, Val outer) {
    Kernel *k = w->k;
    if (k->nbuf == K_BUFS) ICE("kernel %s has more than %d buffers", k->name, K_BUFS);
    KBuf *b = &k->buf[k->nbuf];
    *b = (KBuf){.kind = kind, .rank = t->rank, .dtype = t->dtype, .val = outer, .offset = dim_const(w->c, 0)};
    Dim dense = dim_const(w->c, 1);
    const Storage *st = outer.i ? &w->storage[outer.i] : NULL;
    b->align = st && st->kind == ST_VIEW ? view_align(w->c, st->offset, dt_bits(t->dtype)) : 64;
    for (int d = t->rank - 1; d >= 0; d--) {
        b->dim[d] = t->dim[d];
        Dim s = st && st->kind != ST_NONE ? st->stride[d] : dense;
        if (dim_is(w->c, t->dim[d], 1)) s = dim_const(w->c, 0);
        b->stride[d] = s;
        dense = dim_mul(w->c, dense, t->dim[d]);
    }
    return k->nbuf++;
}

static Strides strides_of(const KBuf *b) {
    Strides s = {.rank = b->rank, .offset = b->offset};
    memcpy(s.dim, b->dim, sizeof s.dim);
    memcpy(s.stride, b->stride, sizeof s.stride);
    return s;
}

static uint16_t alias_buf(Low *w, uint16_t of, const Strides *s) {
    Kernel *k = w->k;
    if (k->nbuf == K_BUFS) return 0;
    KBuf *b = &k->buf[k->nbuf];
    *b = k->buf[of];
    b->rank = s->rank;
    b->offset = s->offset;
    memcpy(b->dim, s->dim, sizeof b->dim);
    memcpy(b->stride, s->stride, sizeof b->stride);
    return (uint16_t)(++k->nbuf);
}

/* Views of operands that strides can express become buffers of their own over the same memory. */
static void alias_operands(Low *w) {
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        Node *n = w->g->node.v[i];
        if (n->op != P_RESHAPE && n->op != P_PERMUTE && n->op != P_SLICE && n->op != P_BROADCAST) continue;
        uint16_t of = w->buf[graph_resolve(w->g, n->in[0]).i];
        if (!of) continue;
        Strides in = strides_of(&w->k->buf[of - 1]), out;
        if (!strides_view(w->c, w->g, n, &in, &out)) continue;
        uint16_t a = alias_buf(w, (uint16_t)(of - 1), &out);
        if (!a) continue;
        w->buf[n->out[0].i] = a;
        w->made[n->out[0].i] = true;
    }
}

/* Results that are reshaped or permuted from a value nobody else reads: that value is written in their place. */
static void alias_results(Low *w) {
    uint32_t *uses = graph_uses(w->g);
    for (uint32_t o = 0; o < w->g->out.n; o++) {
        Val v = w->target[o] = graph_resolve(w->g, w->g->out.v[o].val);
        uint16_t b = new_buf(w, KB_OUT, val_type(w->g, v), w->group->out[o]);
        for (Node *n = val_def(w->g, v); n && (n->op == P_RESHAPE || n->op == P_PERMUTE || n->op == P_COPY); n = val_def(w->g, v)) {
            Val x = graph_resolve(w->g, n->in[0]);
            Strides out = strides_of(&w->k->buf[b]), in;
            if (w->buf[x.i] || uses[x.i] != 1 || !strides_unview(w->c, w->g, n, &out, &in)) break;
            Kernel *k = w->k; /* the buffer is described in the operand's dims instead */
            k->buf[b].rank = in.rank;
            k->buf[b].offset = in.offset;
            memcpy(k->buf[b].dim, in.dim, sizeof in.dim);
            memcpy(k->buf[b].stride, in.stride, sizeof in.stride);
            v = w->target[o] = x;
        }
        if (w->buf[v.i]) ICE("kernel %s: two results are one value, or a result is an operand", w->k->name);
        w->k->buf[b].final = result_is_final(w->outer, w->group->out[o]);
        w->buf[v.i] = (uint16_t)(b + 1);
    }
}

/* ---- stages ---- */

static Stage *open_stage(Low *w, StageKind kind) {
    vec_push(w->c, &w->stages, (Stage){.kind = (uint8_t)kind});
    memset(w->pull, 0, sizeof w->pull);
    w->naxis = 0;
    return &w->stages.v[w->stages.n - 1];
}

static void add_axis(Low *w, Stage *s, Dim extent, AxKind kind) {
    if (s->naxis == K_AXES) ICE("kernel %s: more than %d axes", w->k->name, K_AXES);
    s->axis[s->naxis++] = (KAxis){extent, (uint8_t)kind};
    w->extent[w->naxis++] = extent;
}

static bool is_root(const Node *n) {
    switch (n->op) {
    case P_REDUCE: case P_CONTRACT: case P_SCAN: case P_SORT: case P_TOPK: case P_COMPACT: case P_SCATTER: return true;
    case P_RANDOM: return random_sequential(n);
    default: return false;
    }
}

/* The buffer that holds body value v: the group's result, or a new temporary. */
static uint16_t home(Low *w, Val v) {
    if (!w->buf[v.i]) w->buf[v.i] = (uint16_t)(new_buf(w, KB_TEMP, val_type(w->g, v), (Val){0}) + 1);
    w->made[v.i] = true;
    return (uint16_t)(w->buf[v.i] - 1);
}

static void set_out(Low *w, Stage *s, int r, Val v, const Expr *at) {
    uint16_t b = home(w, v);
    s->out[r] = (KOut){.buf = b, .rank = w->k->buf[b].rank, .oob = OOB_NEVER};
    for (int d = 0; d < s->out[r].rank; d++) s->out[r].at[d] = at[d];
}

static void lower_reduce(Low *w, Node *n) {
    const ReduceAttr *a = n->attr;
    const Type *x = val_type(w->g, n->in[0]);
    Stage *s = open_stage(w, ST_NEST);
    Expr idx[MAX_RANK], out[MAX_RANK];
    int no = 0;
    for (int d = 0; d < x->rank; d++) {
        bool red = a->axes >> d & 1;
        add_axis(w, s, x->dim[d], red ? AX_RED : AX_PAR);
        idx[d] = expr_axis(w->c, (uint32_t)d);
        if (!red) out[no++] = idx[d];
        else if (a->keep) out[no++] = ci(w, 0);
    }
    s->nres = (uint8_t)n->nout;
    CHECK(n->nout <= K_RES);
    for (int r = 0; r < n->nout; r++) {
        s->acc[r] = a->acc[r];
        s->comb[r] = a->comb[r];
        s->init[r] = a->init[r];
        s->body[r] = expr_cast(w->c, value_at(w, n->in[r], idx), a->acc[r]);
    }
    for (int r = 0; r < n->nout; r++) set_out(w, &w->stages.v[w->stages.n - 1], r, n->out[r], out);
}

static void lower_contract(Low *w, Node *n) {
    const ContractAttr *a = n->attr;
    const Type *t[3] = {val_type(w->g, n->in[0]), val_type(w->g, n->in[1]), val_type(w->g, n->out[0])};
    Stage *s = open_stage(w, ST_NEST);
    int8_t axis_of[32];
    memset(axis_of, -1, sizeof axis_of);
    for (int p = 2; p >= 0; p = p == 2 ? 0 : p == 0 ? 1 : -1) /* out labels first, then those of a and of b */
        for (int d = 0; d < t[p]->rank; d++) {
            uint8_t l = a->label[p][d];
            if (axis_of[l] >= 0) continue;
            axis_of[l] = (int8_t)s->naxis;
            add_axis(w, s, t[p]->dim[d], p == 2 ? AX_PAR : AX_RED);
        }
    Expr f[2], at[MAX_RANK];
    for (int p = 0; p < 2; p++) {
        for (int d = 0; d < t[p]->rank; d++) at[d] = expr_axis(w->c, (uint32_t)axis_of[a->label[p][d]]);
        f[p] = expr_cast(w->c, value_at(w, n->in[p], at), a->acc);
    }
    s->nres = 1;
    s->acc[0] = a->acc;
    s->body[0] = mul(w, f[0], f[1]);
    s->comb[0] = add(w, expr_arg(w->c, 0, a->acc), expr_arg(w->c, 1, a->acc));
    s->init[0] = dt_convert((Scalar){.t = DT_I64, .i = 0}, a->acc);
    for (int d = 0; d < t[2]->rank; d++) at[d] = expr_axis(w->c, (uint32_t)axis_of[a->label[2][d]]);
    set_out(w, s, 0, n->out[0], at);
}

/* A stage over the dims of `v` that computes it point by point into the home of `to`. */
static void lower_pointwise(Low *w, Val v, Val to) {
    const Type *t = val_type(w->g, v);
    Stage *s = open_stage(w, ST_NEST);
    Expr idx[MAX_RANK];
    for (int d = 0; d < t->rank; d++) {
        add_axis(w, s, t->dim[d], AX_PAR);
        idx[d] = expr_axis(w->c, (uint32_t)d);
    }
    s->nres = 1;
    s->acc[0] = t->dtype;
    s->body[0] = value_at(w, v, idx);
    set_out(w, s, 0, to, idx);
}

/* y = x, then y[index of u] (combine)= u for the points u of the updates, in row-major order. */
static void lower_scatter(Low *w, Node *n) {
    const ScatterAttr *a = n->attr;
    static const uint8_t op[] = {[SC_ADD] = S_ADD, [SC_MUL] = S_MUL, [SC_MIN] = S_MIN, [SC_MAX] = S_MAX};
    const Type *y = val_type(w->g, n->out[0]), *it = val_type(w->g, n->in[1]), *ut = val_type(w->g, n->in[2]);
    lower_pointwise(w, n->in[0], n->out[0]);
    Stage *s = open_stage(w, ST_SCATTER);
    Expr idx[MAX_RANK], at[MAX_RANK], i[MAX_RANK];
    for (int d = 0; d < ut->rank; d++) {
        add_axis(w, s, ut->dim[d], AX_PAR);
        idx[d] = expr_axis(w->c, (uint32_t)d);
    }
    int64_t q = 0;
    int lists = it->rank - 1;
    if (!a->elements && !dim_is_const(w->c, it->dim[lists], &q)) q = y->rank - (ut->rank - lists);
    for (int d = 0; d < y->rank; d++) {
        bool indexed = a->elements ? d == a->axis : d < q;
        at[d] = a->elements ? idx[d] : idx[indexed ? d : lists + d - (int)q];
        if (!indexed) continue;
        memcpy(i, idx, sizeof i);
        if (!a->elements) i[lists] = ci(w, d);
        Expr k = expr_cast(w->c, value_at(w, n->in[1], i), DT_I64);
        at[d] = expr_op(w->c, S_SELECT, cmp(w, S_LT, k, ci(w, 0)), add(w, k, dimx(w, y->dim[d])), k);
    }
    s->nres = 1;
    s->acc[0] = y->dtype;
    s->guard = expr_guard(w->c, n->loc, "an index is out of range");
    Expr u = value_at(w, n->in[2], idx);
    uint16_t b = home(w, n->out[0]);
    if (a->mode != SC_SET)
        u = cmp(w, (SOp)op[a->mode], leaf_load(w, b, at, OOB_FAIL, (Expr){0}, s->guard), u);
    s->body[0] = u;
    s->out[0] = (KOut){.buf = b, .rank = w->k->buf[b].rank, .oob = OOB_FAIL};
    memcpy(s->out[0].at, at, sizeof at);
}

/* Stages whose innermost axis is walked in order by code of their own (ukr_special.c). Bodies are the operands. */
static void lower_special(Low *w, Node *n) {
    StageKind kind = n->op == P_SCAN ? ST_SCAN : n->op == P_SORT ? ST_SORT : n->op == P_TOPK ? ST_TOPK :
                     n->op == P_COMPACT ? ST_COMPACT : ST_RANDOM;
    const Type *x = val_type(w->g, n->nin ? n->in[0] : n->out[0]);
    Stage *s = open_stage(w, kind);
    s->node = n;
    Expr idx[MAX_RANK];
    int axis = n->op == P_SCAN ? ((const ScanAttr *)n->attr)->axis : n->op == P_SORT ? ((const SortAttr *)n->attr)->axis :
               n->op == P_TOPK ? ((const TopkAttr *)n->attr)->axis : n->op == P_COMPACT ? 0 : -1;
    for (int d = 0; d < x->rank; d++) {
        add_axis(w, s, x->dim[d], d == axis ? AX_SCAN : AX_PAR);
        idx[d] = expr_axis(w->c, (uint32_t)d);
    }
    if (n->nout > K_RES || n->nin > K_RES) ICE("kernel %s: %s of %d operands", w->k->name, prim_name(n->op), n->nin);
    if (n->op == P_COMPACT) s->guard = expr_guard(w->c, n->loc, "more elements are set than there is room for");
    s->nres = (uint8_t)n->nout;
    for (int r = 0; r < n->nout; r++) {
        int k = r < n->nin ? r : 0;
        s->acc[r] = val_type(w->g, n->out[r])->dtype;
        s->body[r] = n->nin ? value_at(w, n->in[k], idx) : expr_float(w->c, s->acc[r], 0);
        if (n->op == P_SCAN) {
            const ScanAttr *a = n->attr;
            s->acc[r] = a->acc[r];
            s->comb[r] = a->comb[r];
            s->init[r] = a->init[r];
            s->body[r] = expr_cast(w->c, s->body[r], a->acc[r]);
        }
    }
    for (int r = 0; r < n->nout; r++) set_out(w, &w->stages.v[w->stages.n - 1], r, n->out[r], idx);
}

/* ---- pushing a stage's coordinates forward through its epilogue ---- */

static bool forward_node(Low *w, Node *n, Fwd *f) {
    int from = -1;
    for (int i = 0; i < n->nin; i++)
        if (f[n->in[i].i].set && (from < 0 || f[n->in[i].i].rank > f[n->in[from].i].rank)) from = i;
    if (from < 0 || n->nout != 1) return false;
    for (int i = 0; i < n->nin; i++) if (n->in[i].i && !w->ready[n->in[i].i]) return false;
    const Fwd *x = &f[n->in[from].i];
    const Type *xt = val_type(w->g, n->in[from]), *out = val_type(w->g, n->out[0]);
    Fwd y = {.set = true, .rank = out->rank, .value = x->value, .drop = x->drop};
    switch ((PrimOp)n->op) {
    case P_MAP: {
        const MapAttr *a = n->attr;
        if (xt->rank != a->rank || !dims_equal(w, a->rank, xt->dim, a->dim)) return false;
        memcpy(y.at, x->at, sizeof y.at);
        Expr args[32];
        if (n->nin > 32 || n->nout != 1) return false;
        w->guarded += x->drop; /* points that the store drops may lie outside of the other operands */
        for (int i = 0; i < n->nin; i++) {
            const Fwd *o = &f[n->in[i].i];
            const Type *ot = val_type(w->g, n->in[i]);
            if (o->set && o->rank == x->rank && dims_equal(w, ot->rank, ot->dim, a->dim) && !memcmp(o->at, x->at, o->rank * sizeof *o->at)) args[i] = o->value;
            else args[i] = map_operand(w, n, a, (uint32_t)i, x->at);
        }
        w->guarded -= x->drop;
        Expr body = expr_subst_axes(w->c, a->body[0], x->at, a->rank);
        /* Explicit loads in the body go through the general path. */
        MapCtx m = {w, n, a, x->at};
        bool loads = false;
        for (int i = 0; i < n->nin && !loads; i++) loads = f[n->in[i].i].set && args[i].i != f[n->in[i].i].value.i;
        if (loads) return false;
        (void)m;
        y.value = expr_subst_args(w->c, body, args, n->nin);
        break;
    }
    case P_RESHAPE: {
        int lead = 0, tail = 0, no = out->rank, ni = xt->rank;
        while (lead < no && lead < ni && dim_same(w->c, out->dim[lead], xt->dim[lead])) lead++;
        while (tail < no - lead && tail < ni - lead && dim_same(w->c, out->dim[no - 1 - tail], xt->dim[ni - 1 - tail])) tail++;
        for (int d = 0; d < lead; d++) y.at[d] = x->at[d];
        for (int d = 0; d < tail; d++) y.at[no - 1 - d] = x->at[ni - 1 - d];
        for (int d = lead; d < ni - tail; d++) /* points that were cut off would land among others */
            if (x->drop && inside(w, x->at[d], xt->dim[d]).i) return false;
        Expr flat = flatten(w, ni - lead - tail, xt->dim + lead, x->at + lead);
        unflatten(w, flat, no - lead - tail, out->dim + lead, y.at + lead);
        break;
    }
    case P_PERMUTE: {
        const PermAttr *a = n->attr;
        for (int d = 0; d < out->rank; d++) y.at[d] = x->at[a->perm[d]];
        break;
    }
    case P_COPY: memcpy(y.at, x->at, sizeof y.at); break;
    case P_SLICE: {
        const SliceAttr *a = n->attr;
        for (int d = 0; d < out->rank; d++) {
            if (a->step[d] != 1) return false;
            y.at[d] = tidy(w, sub(w, x->at[d], dimx(w, a->start[d])));
            if (inside(w, y.at[d], out->dim[d]).i) y.drop = true;
        }
        break;
    }
    default: return false;
    }
    f[n->out[0].i] = y;
    return true;
}

static Expr note_load(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    (void)c, (void)newarg;
    if (i->kind == E_LOAD) *(bool *)data = true;
    return e;
}

static bool map_has_loads(Ctx *c, Expr e) {
    bool any = false;
    expr_rewrite(c, e, note_load, &any);
    return any;
}

static void find_ready(Low *w) {
    w->ready = NEWN(w->c, bool, w->g->val.n);
    for (uint32_t v = 0; v < w->g->val.n; v++) w->ready[v] = w->made[v] || !val_def(w->g, (Val){v});
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        const Node *n = w->g->node.v[i];
        bool all = !is_root(n);
        for (int k = 0; k < n->nin && all; k++) all = !n->in[k].i || w->ready[n->in[k].i];
        for (int r = 0; r < n->nout; r++) w->ready[n->out[r].i] |= all;
    }
}

/* Stages for the group's results that follow from the results of `root` (a reduce or contract) alone along its own points. */
static void lower_epilogue(Low *w, Node *root, uint32_t root_stage) {
    bool any = false;
    for (uint32_t o = 0; o < w->g->out.n; o++) any |= !w->made[w->target[o].i];
    if (!any) return;
    memset(w->pull, 0, sizeof w->pull);
    Stage *rs = &w->stages.v[root_stage];
    /* The epilogue's axes are the root's parallel axes, renumbered. */
    Expr renumber[K_AXES] = {{0}};
    w->naxis = 0;
    for (int a = 0; a < rs->naxis; a++) {
        if (rs->axis[a].kind != AX_PAR) continue;
        renumber[a] = expr_axis(w->c, w->naxis);
        w->extent[w->naxis++] = rs->axis[a].extent;
    }
    find_ready(w);
    Fwd *f = NEWN(w->c, Fwd, w->g->val.n);
    for (int r = 0; r < root->nout; r++) {
        Fwd *x = &f[root->out[r].i];
        x->set = true;
        x->rank = rs->out[r].rank;
        for (int d = 0; d < x->rank; d++) x->at[d] = expr_subst_axes(w->c, rs->out[r].at[d], renumber, rs->naxis);
        x->value = leaf_load(w, rs->out[r].buf, x->at, OOB_NEVER, (Expr){0}, 0);
    }
    bool after = false;
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        Node *n = w->g->node.v[i];
        if (n == root) { after = true; continue; }
        if (!after || is_root(n) || n->nout != 1) continue;
        if (n->op == P_MAP && map_has_loads(w->c, ((const MapAttr *)n->attr)->body[0])) continue;
        forward_node(w, n, f);
    }
    for (uint32_t o = 0; o < w->g->out.n; o++) {
        Val v = w->target[o];
        if (w->made[v.i] || !f[v.i].set) continue;
        Dim extent[K_AXES];
        uint32_t naxis = w->naxis;
        memcpy(extent, w->extent, sizeof extent);
        Stage *s = open_stage(w, ST_NEST);
        for (uint32_t a = 0; a < naxis; a++) add_axis(w, s, extent[a], AX_PAR);
        s->nres = 1;
        s->acc[0] = val_type(w->g, v)->dtype;
        s->body[0] = f[v.i].value;
        uint16_t b = home(w, v);
        s->out[0] = (KOut){.buf = b, .rank = w->k->buf[b].rank, .oob = f[v.i].drop ? OOB_DROP : OOB_NEVER};
        memcpy(s->out[0].at, f[v.i].at, sizeof s->out[0].at);
    }
}

/* ---- deciding what gets a buffer ---- */

/* reach[v]: bit set of stages (by node position mod 64) that read v when everything between is inlined. */
static void count_consumers(Low *w, uint64_t *reach) {
    uint32_t stage = 0;
    for (uint32_t o = 0; o < w->g->out.n; o++) reach[graph_resolve(w->g, w->g->out.v[o].val).i] |= 1ull << (stage++ % 64);
    for (uint32_t i = w->g->node.n; i-- > 0;) {
        Node *n = w->g->node.v[i];
        uint64_t m = 0;
        if (is_root(n)) m = 1ull << (stage++ % 64);
        else for (int r = 0; r < n->nout; r++) m |= reach[n->out[r].i];
        for (int k = 0; k < n->nin; k++) reach[n->in[k].i] |= m;
    }
}

/* Does it compute from constants alone? Such weights are unpacked where the contraction reads them (fuse.c). */
static bool of_constants(Low *w, const Node *n) {
    for (int k = 0; k < n->nin; k++) {
        Val v = graph_resolve(w->g, n->in[k]);
        for (Node *d = val_def(w->g, v); d && d->nin == 1; d = val_def(w->g, v)) v = graph_resolve(w->g, d->in[0]);
        if (!w->buf[v.i] || !w->k->buf[w->buf[v.i] - 1].data) return false;
    }
    return n->nin > 0;
}

static bool wants_home(Low *w, const Node *n, const uint64_t *reach, const bool *into_contract) {
    if (n->op != P_MAP) return false;
    const MapAttr *a = n->attr;
    for (int r = 0; r < n->nout; r++) {
        int cost = expr_cost(w->c, a->body[r]);
        uint64_t m = reach[n->out[r].i];
        if (cost >= DEAR && (m & (m - 1)) != 0) return true;
        if (cost >= DEAR && into_contract[n->out[r].i] && !of_constants(w, n)) return true;
    }
    return false;
}

static bool *feeds_contract(Low *w) {
    bool *f = NEWN(w->c, bool, w->g->val.n);
    for (uint32_t i = w->g->node.n; i-- > 0;) {
        Node *n = w->g->node.v[i];
        bool m = n->op == P_CONTRACT;
        if (!is_root(n) && n->op != P_MAP) for (int r = 0; r < n->nout; r++) m |= f[n->out[r].i];
        if (m) for (int k = 0; k < n->nin; k++) f[n->in[k].i] = true;
    }
    return f;
}

static const char *node_names(Low *w) {
    Buf b = {.c = w->c};
    Loc seen[16];
    int n = 0;
    for (uint32_t i = 0; i < w->g->node.n && n < 16; i++) {
        Loc l = w->g->node.v[i]->loc;
        bool dup = l.i == 0;
        for (int k = 0; k < n; k++) dup |= seen[k].i == l.i;
        if (dup) continue;
        seen[n++] = l;
        const LocInfo *info = loc_info(w->c, l);
        buf_printf(&b, "%s%s", b.n ? ", " : "", info->name && *info->name ? info->name : info->op ? info->op : "");
    }
    return buf_str(&b);
}

Kernel *kernel_lower(Ctx *c, Graph *outer, const Node *group, const Storage *storage) {
    const GroupAttr *ga = group->attr;
    Low low = {.c = c, .outer = outer, .g = ga->body, .group = group, .storage = storage}, *w = &low;
    Kernel *k = w->k = NEW(c, Kernel);
    k->c = c;
    k->name = ga->note ? ga->note : ga->name;
    k->loc = group->loc;
    w->buf = NEWN(c, uint16_t, w->g->val.n);
    w->made = NEWN(c, bool, w->g->val.n);
    w->target = NEWN(c, Val, w->g->out.n);
    k->nodes = node_names(w);
    for (uint32_t i = 0; i < w->g->in.n; i++) {
        Val v = w->g->in.v[i].val;
        uint16_t b = new_buf(w, KB_IN, val_type(w->g, v), graph_resolve(outer, group->in[i]));
        k->buf[b].data = val_const(outer, group->in[i]);
        w->buf[v.i] = (uint16_t)(b + 1);
        w->made[v.i] = true;
    }
    alias_operands(w);
    alias_results(w);
    uint64_t *reach = NEWN(c, uint64_t, w->g->val.n);
    count_consumers(w, reach);
    bool *into_contract = feeds_contract(w);
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        Node *n = w->g->node.v[i];
        if (n->op == P_REDUCE || n->op == P_CONTRACT) {
            uint32_t first = w->stages.n;
            if (n->op == P_REDUCE) lower_reduce(w, n);
            else lower_contract(w, n);
            lower_epilogue(w, n, first);
        } else if (n->op == P_SCATTER) {
            lower_scatter(w, n);
        } else if (is_root(n)) {
            lower_special(w, n);
        } else if (wants_home(w, n, reach, into_contract)) {
            for (int r = 0; r < n->nout; r++) lower_pointwise(w, n->out[r], n->out[r]);
        }
    }
    for (uint32_t o = 0; o < w->g->out.n; o++)
        if (!w->made[w->target[o].i]) lower_pointwise(w, w->target[o], w->target[o]);
    k->nstage = (uint16_t)w->stages.n;
    k->stage = w->stages.v;
    CHECK(kernel_verify(k));
    return k;
}
