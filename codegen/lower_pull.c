/* lower_pull.c: values of the body of a kernel at given coordinates, pulled back through views and maps to loads of buffers. */
#include <string.h>

#include "lower_internal.h"

/* ---- index expressions ---- */

Expr lower_flatten(Low *w, int rank, const Dim *dim, const Expr *idx) {
    Expr flat = ci(w, 0);
    for (int d = 0; d < rank; d++) flat = add(w, mul(w, flat, dimx(w, dim[d])), idx[d]);
    return tidy(w, flat);
}

void lower_unflatten(Low *w, Expr flat, int rank, const Dim *dim, Expr *idx) {
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
Expr lower_inside(Low *w, Expr i, Dim n) {
    int64_t lo, hi;
    Expr c = {0};
    if (expr_in_bounds(w->c, i, n, w->extent, w->naxis)) return c;
    bool known = expr_range(w->c, i, w->extent, w->naxis, &lo, &hi);
    if (!known || lo < 0) c = cmp(w, S_GE, i, ci(w, 0));
    if (!known || hi >= dim_lo(w->c, n)) c = both(w, c, cmp(w, S_LT, i, dimx(w, n)));
    return c;
}

/* Index of an operand of dim `have` where the domain has dim `want` and index i: 0 if it is broadcast. */
static Expr broadcast_index(Low *w, Dim have, Dim want, Expr i) {
    if (dim_is(w->c, have, 1)) return ci(w, 0);
    if (dim_same(w->c, have, want) || dim_lo(w->c, have) > 1) return i;
    return expr_op(w->c, S_SELECT, cmp(w, S_EQ, dimx(w, have), ci(w, 1)), ci(w, 0), i);
}

/* ---- pulling a value at coordinates back to loads ---- */

Expr lower_load(Low *w, uint16_t buf, const Expr *idx, Oob oob, Expr pad, uint32_t guard) {
    KBuf *b = &w->k->buf[buf];
    Expr at[MAX_RANK];
    for (int d = 0; d < b->rank; d++) at[d] = dim_is(w->c, b->dim[d], 1) && oob == OOB_NEVER ? ci(w, 0) : idx[d];
    if (oob == OOB_NEVER && w->guarded) {
        oob = OOB_VALUE;
        pad = expr_const(w->c, dt_convert((Scalar){.t = DT_I64, .i = 0}, b->dtype));
    }
    if (oob != OOB_NEVER) {
        bool safe = true;
        for (int d = 0; d < b->rank; d++) safe &= !lower_inside(w, at[d], b->dim[d]).i;
        if (safe) { oob = OOB_NEVER; pad = (Expr){0}; }
    }
    return expr_load(w->c, buf, b->dtype, b->rank, at, oob, pad, guard);
}

/* Value of v at idx, where idx may be outside: `oob` says what then. Only memory can be checked: what is computed here is
 * read at the nearest place instead (fuse keeps such operands in memory). */
static Expr load_at(Low *w, Val v, const Expr *idx, Oob oob, Expr pad, uint32_t guard) {
    const Type *t = val_type(w->g, v);
    uint16_t b = w->made[v.i] ? w->buf[v.i] : 0;
    if (b) return lower_load(w, (uint16_t)(b - 1), idx, oob, pad, guard);
    if (oob == OOB_NEVER) return lower_value(w, v, idx);
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
            ok = both(w, ok, lower_inside(w, idx[d], t->dim[d]));
        }
    }
    if (!ok.i) return lower_value(w, v, at);
    w->guarded++;
    Expr in = lower_value(w, v, at);
    w->guarded--;
    return expr_op(w->c, S_SELECT, ok, in, pad);
}

Expr lower_map_load(Low *w, const Node *n, const ExprInfo *i, const Expr *arg) {
    const Val v = n->in[i->index];
    const int rank = val_type(w->g, v)->rank;
    Expr at[MAX_RANK];
    for (int d = 0; d < rank; d++) at[d] = tidy(w, arg[d]);
    return load_at(w, v, at, i->oob, i->oob == OOB_VALUE ? arg[i->narg - 1] : (Expr){0}, i->guard);
}

typedef struct MapCtx { Low *w; const Node *n; const MapAttr *a; const Expr *idx; } MapCtx;

Expr lower_operand(Low *w, const Node *n, const MapAttr *a, uint32_t k, const Expr *idx) {
    const Type *t = val_type(w->g, n->in[k]);
    Expr at[MAX_RANK];
    int skip = a->rank - t->rank;
    for (int d = 0; d < t->rank; d++) at[d] = broadcast_index(w, t->dim[d], a->dim[d + skip], idx[d + skip]);
    return lower_value(w, n->in[k], at);
}

static Expr map_rewrite(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    MapCtx *m = data;
    (void)e;
    if (i->kind == E_ARG) return lower_operand(m->w, m->n, m->a, i->index, m->idx);
    if (i->kind == E_AXIS) return m->idx[i->index];
    if (i->kind == E_LOAD) return lower_map_load(m->w, m->n, i, newarg);
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
    if (a->mode != PAD_VALUE) return lower_value(w, n->in[0], at);
    Expr pad = n->nin > 1 && n->in[1].i ? lower_value(w, n->in[1], NULL) : expr_const(w->c, a->value);
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
        Expr part = lower_value(w, n->in[k], at);
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
    Expr i = expr_cast(w->c, lower_value(w, n->in[1], idx + a->axis), DT_I64);
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
        Expr flat = lower_flatten(w, no - lead - tail, out->dim + lead, idx + lead);
        lower_unflatten(w, flat, ni - lead - tail, x->dim + lead, at + lead);
        return lower_value(w, n->in[0], at);
    }
    case P_PERMUTE: {
        const PermAttr *a = n->attr;
        for (int d = 0; d < out->rank; d++) at[a->perm[d]] = idx[d];
        return lower_value(w, n->in[0], at);
    }
    case P_BROADCAST:
        for (int d = 0, skip = out->rank - x->rank; d < x->rank; d++)
            at[d] = broadcast_index(w, x->dim[d], out->dim[d + skip], idx[d + skip]);
        return lower_value(w, n->in[0], at);
    case P_SLICE: {
        const SliceAttr *a = n->attr;
        for (int d = 0; d < out->rank; d++)
            at[d] = tidy(w, add(w, dimx(w, a->start[d]), mul(w, idx[d], ci(w, a->step[d]))));
        return lower_value(w, n->in[0], at);
    }
    case P_PAD: return pull_pad(w, n, idx);
    case P_CONCAT: return pull_concat(w, n, idx);
    case P_WINDOW: {
        const WindowAttr *a = n->attr;
        memcpy(at, idx, x->rank * sizeof *at);
        for (int j = 0; j < a->n; j++)
            at[a->axis[j]] = tidy(w, add(w, mul(w, idx[a->axis[j]], ci(w, a->stride[j])), mul(w, idx[x->rank + j], ci(w, a->dilation[j]))));
        return lower_value(w, n->in[0], at);
    }
    case P_GATHER: return pull_gather(w, n, idx);
    case P_UPDATE: {
        const SliceAttr *a = n->attr;
        const Type *part = val_type(w->g, n->in[1]);
        Expr ok = {0};
        for (int d = 0; d < out->rank; d++) {
            at[d] = tidy(w, sub(w, idx[d], dimx(w, a->start[d])));
            ok = both(w, ok, lower_inside(w, at[d], part->dim[d]));
        }
        if (!ok.i) return lower_value(w, n->in[1], at);
        w->guarded++;
        Expr in = lower_value(w, n->in[1], at);
        w->guarded--;
        return expr_op(c, S_SELECT, ok, in, lower_value(w, n->in[0], idx));
    }
    case P_SHAPE: {
        const ShapeAttr *a = n->attr;
        if (a->n == 0xff) return dimx(w, a->dim[0]);
        Expr v = ci(w, 0);
        for (int d = a->n - 1; d >= 0; d--)
            v = d == a->n - 1 ? dimx(w, a->dim[d]) : expr_op(c, S_SELECT, cmp(w, S_EQ, idx[0], ci(w, d)), dimx(w, a->dim[d]), v);
        return v;
    }
    case P_COPY: return lower_value(w, n->in[0], idx);
    case P_RANDOM: return random_at(w->c, n, lower_flatten(w, out->rank, out->dim, idx));
    default: break;
    }
    ICE("kernel %s: %s cannot be inlined", w->k->name, prim_name(n->op));
}

Expr lower_value(Low *w, Val v, const Expr *idx) {
    v = graph_resolve(w->g, v);
    const Type *t = val_type(w->g, v);
    uint16_t b = w->made[v.i] ? w->buf[v.i] : 0;
    if (b) return lower_load(w, (uint16_t)(b - 1), idx, OOB_NEVER, (Expr){0}, 0);
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
