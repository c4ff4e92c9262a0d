/* grad.c: the vector-Jacobian product of each primitive: given the gradients of a node's results, what they add to those of its
 * operands, built from primitives. Primitives without one (lists, calls) are refused where a gradient would pass. */
#include "frontend/grad.h"
#include <string.h>

static const Type *type_of(const Grad *g, Val v) { return val_type(g->m->b.g, v); }
static Val at(const Grad *g, Val v) { return graph_resolve(g->m->b.g, v); }

Val grad_zeros(Grad *g, Val like)
{
    const Type *t = type_of(g, like);
    return b_splat(&g->m->b, dt_convert((Scalar){.t = DT_I64, .i = 0}, (DType)t->dtype), t->rank, t->dim);
}

void grad_room(Grad *g)
{
    uint32_t n = g->m->b.g->val.n;
    Val *adj = NEWN(g->m->c, Val, n);
    bool *active = NEWN(g->m->c, bool, n);
    if (g->n) {
        memcpy(adj, g->adj, sizeof *adj * g->n);
        memcpy(active, g->active, sizeof *active * g->n);
    }
    *g = (Grad){g->m, n, adj, active};
}

bool grad_active(const Grad *g, Val v) { return v.i && at(g, v).i < g->n && g->active[at(g, v).i]; }

void grad_activate(Grad *g, uint32_t from)
{
    const Graph *gr = g->m->b.g;
    for (uint32_t k = from; k < gr->node.n; k++) {
        const Node *n = gr->node.v[k];
        bool any = false;
        for (int i = 0; i < n->nin; i++)
            any |= grad_active(g, n->in[i]);
        for (int r = 0; r < n->nout && any; r++)
            g->active[n->out[r].i] = type_of(g, n->out[r])->kind != TY_TENSOR || dt_is_float((DType)type_of(g, n->out[r])->dtype);
    }
}

void grad_add(Grad *g, Val x, Val v)
{
    x = at(g, x);
    if (!v.i || !grad_active(g, x))
        return;
    v = cast_to(g->m, v, (DType)type_of(g, x)->dtype);
    g->adj[x.i] = g->adj[x.i].i ? b_binary(&g->m->b, S_ADD, g->adj[x.i], v) : v;
}

bool grad_refuse(Grad *g, const Node *n, const char *what)
{
    Imp *m = g->m;
    UNSUP(m, "a gradient through %s of %s", what, loc_info(m->c, n->loc)->op ? loc_info(m->c, n->loc)->op : "a node");
    return false;
}

/* v of a shape that x was broadcast to -> of x's shape: sums over the axes along which x was repeated. */
static bool unbroadcast(Grad *g, const Node *n, Val v, Val x, Val *out)
{
    Imp *m = g->m;
    const Type t = *type_of(g, x), vt = *type_of(g, v);
    int lead = vt.rank - t.rank;
    uint32_t mask = 0;
    for (int d = 0; d < vt.rank; d++) {
        if (d >= lead && dim_same(m->c, t.dim[d - lead], vt.dim[d]))
            continue;
        if (d >= lead && !dim_is(m->c, t.dim[d - lead], 1))
            return grad_refuse(g, n, "a broadcast that only the run decides");
        mask |= 1u << d;
    }
    *out = reshape_to(m, mask ? b_reduce1(&m->b, R_SUM, v, mask, true) : v, t.rank, t.dim);
    return true;
}

/* ---- map */

typedef struct Loads { Ctx *c; uint32_t operand; VEC(Expr) v; } Loads;

static Expr collect(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg)
{
    Loads *l = data;
    (void)newarg;
    if (i->kind == E_LOAD && i->index == l->operand) {
        for (uint32_t k = 0; k < l->v.n; k++)
            if (l->v.v[k].i == e.i)
                return e;
        vec_push(c, &l->v, e);
    }
    return e;
}

/* sum over results r of gradient r * d body r / d leaf; operands of the sum: those of the map, then the gradients */
static Expr through(Grad *g, const Node *n, const Expr *body, Expr leaf, const int *slot)
{
    Imp *m = g->m;
    Expr total = {0};
    for (int r = 0; r < n->nout; r++) {
        Expr d = slot[r] >= 0 ? grad_expr(m, body[r], leaf) : (Expr){0};
        if (!d.i)
            continue;
        DType t = (DType)expr_info(m->c, leaf)->dtype;
        Expr part = X2(MUL, expr_cast(m->c, xarg(m, slot[r], dtype_of(m, n->out[r])), t), expr_cast(m->c, d, t));
        total = total.i ? X2(ADD, total, part) : part;
    }
    return total;
}

/* zeros like x, with the values of v added at the index tuples of a load. */
static Val scatter_load(Grad *g, const Node *n, const MapAttr *a, Val x, Expr load, Expr part, int nin, const Val *in)
{
    Imp *m = g->m;
    const ExprInfo i = *expr_info(m->c, load);
    const Type t = *type_of(g, x);
    Dim count = DC(m, 1);
    Expr inside = expr_int(m->c, DT_BOOL, 1);
    Val index[MAX_RANK];
    if (a->rank + 1 > MAX_RANK)
        return grad_refuse(g, n, "so many axes"), (Val){0};
    for (int d = 0; d < a->rank; d++)
        count = dim_mul(m->c, count, a->dim[d]);
    for (int d = 0; d < t.rank; d++) {
        Expr k = i.arg[d], last = X2(SUB, xdim(m, t.dim[d]), XI(1));
        inside = X2(AND, inside, X2(AND, X2(GE, k, XI(0)), X2(LE, k, last)));
        index[d] = map_over(m, X2(MAX, X2(MIN, k, last), XI(0)), nin, in, a->rank, a->dim);
        index[d] = insert_axes(m, index[d], a->rank + 1, 1u << a->rank);
    }
    if (i.oob == OOB_VALUE) /* outside it was another value */
        part = X3(SELECT, inside, part, xf(m, (DType)t.dtype, 0));
    Val upd = map_over(m, part, nin, in, a->rank, a->dim);
    if (!t.rank)
        return b_reduce1(&m->b, R_SUM, upd, (uint32_t)((1ull << a->rank) - 1), false);
    Val idx = b_concat(&m->b, t.rank, index, a->rank);
    ScatterAttr s = {.mode = SC_ADD};
    return b_scatter(&m->b, grad_zeros(g, x), reshape_to(m, idx, 2, (Dim[]){count, DC(m, t.rank)}), reshape_to(m, upd, 1, &count), &s);
}

static bool grad_map(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const MapAttr *a = n->attr;
    int slot[64], nin = n->nin;
    Val *in = NEWN(m->c, Val, n->nin + n->nout + 1);
    if (n->nout > 64 || n->nin > 60)
        return grad_refuse(g, n, "a map of so many operands");
    memcpy(in, n->in, sizeof *in * n->nin);
    for (int r = 0; r < n->nout; r++) {
        Val v = g->adj[n->out[r].i];
        slot[r] = v.i ? nin : -1;
        if (v.i)
            in[nin++] = v;
    }
    for (int k = 0; k < n->nin; k++) {
        if (!grad_active(g, n->in[k]))
            continue;
        DType t = dtype_of(m, n->in[k]);
        Expr e = through(g, n, a->body, xarg(m, k, t), slot);
        Val v;
        if (e.i) {
            if (!unbroadcast(g, n, map_over(m, e, nin, in, a->rank, a->dim), n->in[k], &v))
                return false;
            grad_add(g, n->in[k], v);
        }
        Loads l = {.c = m->c, .operand = (uint32_t)k};
        for (int r = 0; r < n->nout; r++)
            expr_rewrite(m->c, a->body[r], collect, &l);
        for (uint32_t i = 0; i < l.v.n; i++) {
            e = through(g, n, a->body, l.v.v[i], slot);
            if (e.i)
                grad_add(g, n->in[k], scatter_load(g, n, a, n->in[k], l.v.v[i], e, nin, in));
        }
    }
    return true;
}

/* ---- reduce, contract, scan */

static bool grad_reduce(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const ReduceAttr *a = n->attr;
    Val x = n->in[0], d = g->adj[n->out[0].i];
    const Type t = *type_of(g, x);
    DType w = wide_type((DType)t.dtype);
    Dim kept[MAX_RANK];
    for (int i = 0; i < t.rank; i++)
        kept[i] = a->axes >> i & 1 ? DC(m, 1) : t.dim[i];
    if (n->nin != 1)
        return grad_any_reduce(g, n);
    Val y = reshape_to(m, n->out[0], t.rank, kept);
    d = reshape_to(m, d, t.rank, kept);
    if (reduce_is(m->c, a, R_SUM, (DType)t.dtype)) {
        grad_add(g, x, b_broadcast(&m->b, d, t.rank, t.dim));
    } else if (reduce_is(m->c, a, R_MAX, (DType)t.dtype) || reduce_is(m->c, a, R_MIN, (DType)t.dtype)) { /* equal ones share it */
        Val hit = cast_to(m, b_binary(&m->b, S_EQ, x, y), w);
        Val many = cast_to(m, b_reduce1(&m->b, R_SUM, hit, a->axes, true), (DType)t.dtype);
        grad_add(g, x, map_text(m, "select(a == b, c / d, 0)", 4, (Val[]){x, y, d, many}));
    } else {
        return grad_any_reduce(g, n);
    }
    return true;
}

static int find(const uint8_t *label, int rank, uint8_t l)
{
    for (int d = 0; d < rank; d++)
        if (label[d] == l)
            return d;
    return -1;
}

/* Operand s gets the contraction of the gradient with the other one, repeated along axes that neither has; where it was read on a diagonal, 0
 * beside it. */
static bool grad_contract(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const ContractAttr *a = n->attr;
    Val d = g->adj[n->out[0].i];
    int out_rank = type_of(g, n->out[0])->rank;
    for (int s = 0; s < 2; s++) {
        Val x = n->in[s], o = n->in[!s];
        if (!grad_active(g, x))
            continue;
        const Type t = *type_of(g, x);
        int other = type_of(g, o)->rank, k = 0;
        ContractAttr c = {.label = NO_LABELS, .acc = a->acc, .out = (DType)t.dtype};
        memcpy(c.label[0], a->label[2], (size_t)out_rank);
        memcpy(c.label[1], a->label[!s], (size_t)other);
        Expr at[MAX_RANK], on = expr_int(m->c, DT_BOOL, 1);
        for (int i = 0; i < t.rank; i++) {
            uint8_t l = a->label[s][i];
            int first = find(a->label[s], i, l);
            if (first >= 0) {
                on = X2(AND, on, X2(EQ, xaxis(m, first), xaxis(m, i)));
            } else if (find(a->label[2], out_rank, l) >= 0 || find(a->label[!s], other, l) >= 0) {
                at[k] = xaxis(m, i);
                c.label[2][k++] = l;
            }
        }
        Val v = b_contract_attr(&m->b, &c, d, o);
        if (k < t.rank)
            v = map_over(m, X3(SELECT, on, load_at(m, 0, (DType)t.dtype, k, at), xf(m, (DType)t.dtype, 0)), 1, &v, t.rank, t.dim);
        grad_add(g, x, v);
    }
    return true;
}

static bool grad_scan(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const ScanAttr *a = n->attr;
    ReduceAttr like = {.comb = a->comb, .init = a->init, .acc = a->acc};
    Val d = g->adj[n->out[0].i], v;
    if (n->nin != 1 || !reduce_is(m->c, &like, R_SUM, dtype_of(m, n->in[0])))
        return grad_any_scan(g, n);
    b_scan(&m->b, 1, &d, a->axis, !a->reverse, a->exclusive, a->comb, a->init, a->acc, &v);
    grad_add(g, n->in[0], v);
    return true;
}

/* ---- movement */

static Val part(Grad *g, Val v, int axis, Dim start, Dim size) { return b_slice_axis(&g->m->b, v, axis, start, size); }

/* Zeros, but for v at start + i * step. */
static Val unslice(Grad *g, Val v, Val x, const SliceAttr *a)
{
    Imp *m = g->m;
    const Type t = *type_of(g, x);
    Dim lo[MAX_RANK], hi[MAX_RANK], from[MAX_RANK];
    int64_t between[MAX_RANK], turn[MAX_RANK];
    bool turned = false;
    for (int d = 0; d < t.rank; d++) {
        int64_t step = a->step ? a->step[d] : 1;
        Dim last = dim_addi(m->c, a->size[d], -1), span = dim_muli(m->c, last, step < 0 ? -step : step);
        turn[d] = step < 0 ? -1 : 1;
        from[d] = step < 0 ? last : DC(m, 0);
        turned |= step < 0;
        between[d] = (step < 0 ? -step : step) - 1;
        lo[d] = step < 0 ? dim_sub(m->c, a->start[d], span) : a->start[d];
        hi[d] = dim_addi(m->c, dim_sub(m->c, dim_sub(m->c, t.dim[d], lo[d]), span), -1);
    }
    if (turned)
        v = b_slice(&m->b, v, from, turn, a->size);
    return b_pad(&m->b, v, lo, hi, between, PAD_VALUE, (Scalar){.t = t.dtype}, (Val){0});
}

/* x[.., i, ..] was read for offset k of the window at o = (i - k * dilation) / stride, if that is whole and inside. */
static bool grad_window(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const WindowAttr *a = n->attr;
    const Type t = *type_of(g, n->in[0]);
    Val d = g->adj[n->out[0].i];
    Dim dim[MAX_RANK];
    Expr idx[MAX_RANK], whole = expr_int(m->c, DT_BOOL, 1);
    for (int i = 0; i < t.rank; i++) {
        dim[i] = t.dim[i];
        idx[i] = xaxis(m, i);
    }
    for (int w = 0; w < a->n; w++) {
        dim[t.rank + w] = a->size[w];
        idx[t.rank + w] = xaxis(m, t.rank + w);
        Expr from = X2(SUB, xaxis(m, a->axis[w]), X2(MUL, xaxis(m, t.rank + w), XI(a->dilation[w])));
        whole = X2(AND, whole, X2(EQ, X2(MOD, from, XI(a->stride[w])), XI(0)));
        idx[a->axis[w]] = X2(FDIV, from, XI(a->stride[w]));
    }
    Expr zero = xf(m, (DType)t.dtype, 0), e = expr_load(m->c, 0, (DType)t.dtype, t.rank + a->n, idx, OOB_VALUE, zero, 0);
    Val v = map_over(m, X3(SELECT, whole, e, zero), 1, &d, t.rank + a->n, dim);
    grad_add(g, n->in[0], b_reduce1(&m->b, R_SUM, v, ((1u << a->n) - 1) << t.rank, false));
    return true;
}

/* The gradient of x, of type t, for that of x[.., idx, ..]: with the axis in front, a scatter of whole slices. */
static Val ungather(Grad *g, Type t, Val idx, int axis, Val d)
{
    Imp *m = g->m;
    const Type it = *type_of(g, idx);
    int q = it.rank, r = t.rank, to[MAX_RANK], back[MAX_RANK], k = 0;
    Dim dim[MAX_RANK], count = type_count(m->c, &it);
    for (int i = 0; i < q; i++)
        to[k++] = axis + i;
    for (int i = 0; i < q + r - 1; i++)
        if (i < axis || i >= axis + q)
            to[k++] = i;
    d = b_permute(&m->b, d, to);
    dim[0] = count;
    for (int i = 0, j = 1; i < r; i++)
        if (i != axis)
            dim[j++] = t.dim[i];
    d = reshape_to(m, d, r, dim);
    dim[0] = t.dim[axis];
    Val zero = b_splat(&m->b, (Scalar){.t = t.dtype}, r, dim);
    ScatterAttr s = {.mode = SC_ADD};
    Val v = b_scatter(&m->b, zero, reshape_to(m, idx, 2, (Dim[]){count, DC(m, 1)}), d, &s);
    for (int i = 0; i < r; i++)
        back[i] = i == axis ? 0 : i < axis ? i + 1 : i;
    return b_permute(&m->b, v, back);
}

static bool grad_gather(Grad *g, const Node *n)
{
    const GatherAttr *a = n->attr;
    if (a->oob != OOB_FAIL && a->oob != OOB_NEVER)
        return grad_refuse(g, n, "a gather with indices out of range");
    grad_add(g, n->in[0], ungather(g, *type_of(g, n->in[0]), cast_to(g->m, n->in[1], DT_I64), a->axis, g->adj[n->out[0].i]));
    return true;
}

/* The place that padding by elements takes place i of an axis from. */
static Expr padded_from(Imp *m, PadMode mode, Expr i, Dim size)
{
    Expr n = xdim(m, size), last = X2(SUB, n, XI(1)), turn = X2(MUL, last, XI(2)), k = X2(MOD, i, X2(MAX, turn, XI(1)));
    return mode == PAD_EDGE ? X2(MAX, X2(MIN, i, last), XI(0)) : mode == PAD_WRAP ? X2(MOD, i, n) : X2(MIN, k, X2(SUB, turn, k));
}

/* Such padding gathers along each axis: from x, of type t, by the last one. */
static Val unpad_elements(Grad *g, Type t, const PadAttr *a, Val d)
{
    Imp *m = g->m;
    for (int i = 0; i < t.rank && d.i; i++) {
        const Type was = *type_of(g, d);
        Dim dim[MAX_RANK];
        memcpy(dim, was.dim, sizeof *dim * was.rank);
        dim[i] = t.dim[i];
        Expr at = X2(SUB, xaxis(m, 0), xdim(m, a->lo[i]));
        Val source = map_over(m, padded_from(m, a->mode, at, t.dim[i]), 0, NULL, 1, &was.dim[i]);
        d = ungather(g, type_tensor(m->c, (DType)was.dtype, was.rank, dim), source, i, d);
    }
    return d;
}

static bool grad_pad(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const PadAttr *a = n->attr;
    const Type t = *type_of(g, n->in[0]);
    Val d = g->adj[n->out[0].i];
    int64_t step[MAX_RANK];
    if (a->mode != PAD_VALUE) {
        grad_add(g, n->in[0], unpad_elements(g, t, a, d));
        return true;
    }
    for (int i = 0; i < t.rank; i++)
        step[i] = a->interior ? a->interior[i] + 1 : 1;
    Val inner = b_slice(&m->b, d, a->lo, step, t.dim);
    grad_add(g, n->in[0], inner);
    if (n->nin > 1 && grad_active(g, n->in[1])) {
        uint32_t all = (uint32_t)((1ull << t.rank) - 1);
        Val whole = b_reduce1(&m->b, R_SUM, d, all, false);
        grad_add(g, n->in[1], b_binary(&m->b, S_SUB, whole, b_reduce1(&m->b, R_SUM, inner, all, false)));
    }
    return true;
}

/* The values go back to where the indices, its other result, say. */
static bool grad_topk(Grad *g, const Node *n)
{
    Imp *m = g->m;
    Val d = g->adj[n->out[0].i];
    ScatterAttr s = {.mode = SC_ADD, .elements = true, .axis = ((const TopkAttr *)n->attr)->axis};
    if (d.i)
        grad_add(g, n->in[0], b_scatter(&m->b, grad_zeros(g, n->in[0]), n->out[1], d, &s));
    return true;
}

Val grad_scattered(Grad *g, const Node *n, Val d)
{
    Imp *m = g->m;
    const ScatterAttr *a = n->attr;
    const Type t = *type_of(g, d), u = *type_of(g, n->in[2]), it = *type_of(g, n->in[1]);
    Val in[2] = {d, cast_to(m, n->in[1], DT_I64)};
    Expr at[MAX_RANK], from[MAX_RANK];
    int lists = it.rank - 1, q = t.rank - (u.rank - lists);
    for (int i = 0; i < (a->elements ? it.rank : lists); i++)
        from[i] = xaxis(m, i);
    for (int i = 0; i < t.rank; i++) {
        bool indexed = a->elements ? i == a->axis : i < q;
        at[i] = xaxis(m, a->elements ? i : lists + i - q);
        if (!indexed)
            continue;
        if (!a->elements)
            from[lists] = XI(i);
        at[i] = wrap_index(m, load_at(m, 1, DT_I64, it.rank, from), t.dim[i]);
    }
    return map_over(m, load_at(m, 0, (DType)t.dtype, t.rank, at), 2, in, u.rank, u.dim);
}

/* Where elements were replaced, nothing goes back to what was there; of several updates of one element the standard leaves the order open. */
static bool grad_scatter(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const ScatterAttr *a = n->attr;
    Val d = g->adj[n->out[0].i];
    if (a->mode != SC_ADD && a->mode != SC_SET)
        return grad_any_scatter(g, n);
    grad_add(g, n->in[0], a->mode == SC_ADD ? d : b_scatter(&m->b, d, n->in[1], grad_zeros(g, n->in[2]), a));
    grad_add(g, n->in[2], grad_scattered(g, n, d));
    return true;
}

static bool grad_move(Grad *g, const Node *n)
{
    Imp *m = g->m;
    Val x = n->nin ? n->in[0] : (Val){0}, d = g->adj[n->out[0].i], v;
    const Type t = *type_of(g, x);
    switch ((PrimOp)n->op) {
    case P_RESHAPE: grad_add(g, x, reshape_to(m, d, t.rank, t.dim)); return true;
    case P_COPY: grad_add(g, x, d); return true;
    case P_BROADCAST:
        if (!unbroadcast(g, n, d, x, &v))
            return false;
        grad_add(g, x, v);
        return true;
    case P_PERMUTE: {
        int back[MAX_RANK];
        for (int i = 0; i < t.rank; i++)
            back[((const PermAttr *)n->attr)->perm[i]] = i;
        grad_add(g, x, b_permute(&m->b, d, back));
        return true;
    }
    case P_SLICE: grad_add(g, x, unslice(g, d, x, n->attr)); return true;
    case P_UPDATE: {
        const SliceAttr *a = n->attr;
        const Type p = *type_of(g, n->in[1]);
        int64_t step[MAX_RANK];
        for (int i = 0; i < p.rank; i++)
            step[i] = 1;
        grad_add(g, x, b_update(&m->b, d, grad_zeros(g, n->in[1]), a->start));
        grad_add(g, n->in[1], b_slice(&m->b, d, a->start, step, p.dim));
        return true;
    }
    default: { /* concat */
        int axis = ((const AxisAttr *)n->attr)->axis;
        Dim start = DC(m, 0);
        for (int k = 0; k < n->nin; k++) {
            Dim size = type_of(g, n->in[k])->dim[axis];
            grad_add(g, n->in[k], part(g, d, axis, start, size));
            start = dim_add(m->c, start, size);
        }
        return true;
    }
    }
}

/* The body once more, in place, whose nodes are then walked. */
static bool grad_group(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const GroupAttr *a = n->attr;
    uint32_t from = m->b.g->node.n;
    Val *out = NEWN(m->c, Val, n->nout + 1);
    graph_inline(m->b.g, a->body, n->in, out);
    uint32_t to = m->b.g->node.n;
    grad_room(g);
    grad_activate(g, from);
    for (int r = 0; r < n->nout; r++)
        if (at(g, out[r]).i != at(g, n->out[r]).i)
            grad_add(g, out[r], g->adj[n->out[r].i]);
    return grad_nodes(g, from, to);
}

typedef bool GradFn(Grad *g, const Node *n);
static GradFn *const rules[P_COUNT] = {
    [P_MAP] = grad_map,         [P_REDUCE] = grad_reduce,   [P_CONTRACT] = grad_contract, [P_SCAN] = grad_scan,
    [P_RESHAPE] = grad_move,    [P_PERMUTE] = grad_move,    [P_BROADCAST] = grad_move,    [P_SLICE] = grad_move,
    [P_PAD] = grad_pad,         [P_CONCAT] = grad_move,     [P_WINDOW] = grad_window,     [P_GATHER] = grad_gather,
    [P_UPDATE] = grad_move,     [P_COPY] = grad_move,       [P_GROUP] = grad_group,
    [P_TOPK] = grad_topk,       [P_SCATTER] = grad_scatter, [P_LOOP] = grad_loop,         [P_IF] = grad_if,
};

bool grad_nodes(Grad *g, uint32_t from, uint32_t to)
{
    for (uint32_t k = to; k-- > from;) {
        const Node *n = g->m->b.g->node.v[k];
        bool any = false;
        for (int r = 0; r < n->nout; r++)
            any |= g->adj[n->out[r].i].i != 0 && g->active[n->out[r].i];
        if (!any)
            continue;
        if (!rules[n->op])
            return grad_refuse(g, n, n->op == P_SEQ ? "a list" : n->op == P_CALL ? "a function of the runtime" : prim_name((PrimOp)n->op));
        uint32_t errors = ctx_errors(g->m->c);
        if (!rules[n->op](g, n) || ctx_errors(g->m->c) != errors)
            return false;
    }
    return true;
}
