/* simplify.c: local rewrites of the graph. In: any graph; out: the same function with fewer or
 * simpler nodes, bit for bit but for the rules of scalar arithmetic that rules.def marks (used from
 * -O2 on). One function per primitive looks at a node and its operands; rounds repeat until nothing
 * changes. The builder merges chains of one kind of view, so a rule often just builds the node
 * again. Bodies of loops and branches are simplified like any graph; bodies of groups are not
 * touched (templates claim them as they are). */
#include "simplify.h"

#include <string.h>

enum { ROUNDS = 10, NEST = 50 };

bool simp_same_dims(Ctx *c, int n, const Dim *x, const Dim *y) {
    for (int d = 0; d < n; d++)
        if (!dim_same(c, x[d], y[d])) return false;
    return true;
}

bool simp_replace(Simp *s, Node *n, Val v) {
    v = graph_resolve(s->g, v);
    if (!v.i || v.i == n->out[0].i ||
        !type_same(s->c, val_type(s->g, v), val_type(s->g, n->out[0])))
        return false;
    graph_replace(s->g, n->out[0], v);
    return true;
}

/* A constant of type t, if its dims are known, all elements of which are the first of d. */
static Val splat_of(B *b, const ConstData *d, const Type *t) {
    int64_t dim[MAX_RANK], count = 1;
    if (!type_const_dims(b->c, t, dim)) return (Val){0};
    for (int i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(count, dim[i], &count)) return (Val){0};
    if (count < 1) return (Val){0};
    ConstData *to = NEW(b->c, ConstData);
    *to = (ConstData){.dtype = d->dtype,
                      .count = count,
                      .splat = true,
                      .data = d->data,
                      .bytes = dt_bytes(d->dtype, 1)};
    return b_const(b, to, *t);
}

Val splat_const(B *b, Val v) {
    const Node *n = val_def(b->g, v);
    const ConstData *d = n && n->op == P_BROADCAST ? val_const(b->g, n->in[0]) : NULL;
    Scalar k;
    return d && val_scalar(b->g, n->in[0], &k) ? splat_of(b, d, val_type(b->g, v)) : (Val){0};
}

/* ---- views ---- */

/* Elements of a constant that are all one number, whichever they are. */
static bool view_of_splat(Simp *s, Node *n) {
    const ConstData *d = val_const(s->g, n->in[0]);
    Val k = d && d->splat ? splat_of(&s->b, d, val_type(s->g, n->out[0])) : (Val){0};
    return k.i && pass_allow(s->p) && simp_replace(s, n, k);
}

/* reshape(map(reshape(x), ..)) to the type of x: the map over x. Other operands must broadcast
 * alike along the last axes. */
static bool reshape_over_map(Simp *s, Node *n) {
    Node *m = simp_made_by(s, n->in[0], P_MAP);
    const Type *t = val_type(s->g, n->out[0]);
    if (!m || m->nout != 1 || m->nin > 8 || !simp_single(s, n->in[0])) return false;
    const MapAttr *a = m->attr;
    int same = 0; /* trailing dims that both shapes share */
    while (same < t->rank && same < a->rank &&
           dim_same(s->c, t->dim[t->rank - 1 - same], a->dim[a->rank - 1 - same]))
        same++;
    Val in[8];
    bool any = false;
    if (!simp_pointwise(s->c, a->body[0])) return false;
    for (int k = 0; k < m->nin; k++) {
        const Type *kt = val_type(s->g, m->in[k]);
        Node *r = simp_made_by(s, m->in[k], P_RESHAPE);
        in[k] = m->in[k];
        if (r && val_type(s->g, r->in[0])->rank == t->rank &&
            simp_same_dims(s->c, t->rank, val_type(s->g, r->in[0])->dim, t->dim)) {
            in[k] = r->in[0];
            any = true;
        } else if (kt->rank > same)
            return false;
    }
    if (!any || !pass_allow(s->p)) return false;
    Val y;
    b_map(&s->b, 1, a->body, m->nin, in, t->rank, t->dim, &y);
    return simp_replace(s, n, y);
}

/* The reshape only puts back the axes that a reduction dropped. */
static bool reshape_over_reduce(Simp *s, Node *n) {
    Node *r = simp_made_by(s, n->in[0], P_REDUCE);
    const Type *t = val_type(s->g, n->out[0]);
    if (!r || r->nout != 1 || !simp_single(s, n->in[0])) return false;
    const ReduceAttr *a = r->attr;
    const Type *x = val_type(s->g, r->in[0]);
    if (a->keep || t->rank != x->rank) return false;
    for (int d = 0; d < t->rank; d++)
        if (a->axes >> d & 1 ? !dim_is(s->c, t->dim[d], 1) : !dim_same(s->c, t->dim[d], x->dim[d]))
            return false;
    if (!pass_allow(s->p)) return false;
    Val y;
    b_reduce(&s->b, 1, r->in, a->axes, true, a->comb, a->init, a->acc, &y);
    return simp_replace(s, n, y);
}

static bool reshape(Simp *s, Node *n) {
    const DimsAttr *a = n->attr;
    if (reshape_over_map(s, n) || reshape_over_reduce(s, n)) return true;
    const Node *w = simp_made_by(s, n->in[0], P_WINDOW);
    const ConstData *d = val_const(s->g, n->in[0]);
    if (!simp_made_by(s, n->in[0], P_RESHAPE) && !(w && window_of_ones(s->c, w->attr)) && !(d && d->splat) &&
        !type_same(s->c, val_type(s->g, n->in[0]), val_type(s->g, n->out[0])))
        return false;
    return pass_allow(s->p) && simp_replace(s, n, b_reshape(&s->b, n->in[0], a->rank, a->dim));
}

static Val permuted(Simp *s, Val v, const PermAttr *p, int rank) {
    int perm[MAX_RANK];
    Dim dim[MAX_RANK];
    const Type *t = val_type(s->g, v);
    if (!t->rank) return v;
    for (int d = 0; d < rank; d++) {
        perm[d] = p->perm[d];
        dim[d] = d < rank - t->rank ? dim_const(s->c, 1) : t->dim[d - (rank - t->rank)];
    }
    return b_permute(&s->b, b_reshape(&s->b, v, rank, dim), perm);
}

/* permute(map(permute(x), ..)): the outer permutation moves up and joins the inner ones. */
static bool permute_over_map(Simp *s, Node *n) {
    Node *m = simp_made_by(s, n->in[0], P_MAP);
    const Type *t = val_type(s->g, n->out[0]);
    if (!m || m->nout != 1 || m->nin > 8 || !simp_single(s, n->in[0])) return false;
    const MapAttr *a = m->attr;
    bool any = false;
    if (!simp_pointwise(s->c, a->body[0])) return false;
    for (int k = 0; k < m->nin; k++) {
        bool perm = simp_made_by(s, m->in[k], P_PERMUTE) != NULL;
        if (!perm && !val_const(s->g, m->in[k]) && val_type(s->g, m->in[k])->rank) return false;
        any |= perm;
    }
    if (!any || !pass_allow(s->p)) return false;
    Val in[8], y;
    for (int k = 0; k < m->nin; k++) in[k] = permuted(s, m->in[k], n->attr, t->rank);
    b_map(&s->b, 1, a->body, m->nin, in, t->rank, t->dim, &y);
    return simp_replace(s, n, y);
}

static bool permute(Simp *s, Node *n) {
    const PermAttr *a = n->attr;
    const Type *t = val_type(s->g, n->out[0]);
    int perm[MAX_RANK], last = -1;
    bool identity = true, in_order = true; /* in_order: only axes of size 1 move */
    if (view_of_splat(s, n) || permute_over_map(s, n)) return true;
    for (int d = 0; d < t->rank; d++) {
        perm[d] = a->perm[d];
        identity &= perm[d] == d;
        if (dim_is(s->c, t->dim[d], 1)) continue;
        in_order &= perm[d] > last;
        last = perm[d];
    }
    if (in_order && !identity)
        return pass_allow(s->p) && simp_replace(s, n, b_reshape(&s->b, n->in[0], t->rank, t->dim));
    if (!identity && !simp_made_by(s, n->in[0], P_PERMUTE)) return false;
    return pass_allow(s->p) && simp_replace(s, n, b_permute(&s->b, n->in[0], perm));
}

static bool broadcast(Simp *s, Node *n) {
    const DimsAttr *a = n->attr;
    Val k = splat_const(&s->b, n->out[0]);
    if (k.i) return pass_allow(s->p) && simp_replace(s, n, k);
    if (!simp_made_by(s, n->in[0], P_BROADCAST) &&
        !type_same(s->c, val_type(s->g, n->in[0]), val_type(s->g, n->out[0])))
        return false;
    return pass_allow(s->p) && simp_replace(s, n, b_broadcast(&s->b, n->in[0], a->rank, a->dim));
}

/* slice(concat(..)) that lies within one operand */
static bool slice_of_concat(Simp *s, Node *n, Node *c) {
    const SliceAttr *a = n->attr;
    int axis = ((const AxisAttr *)c->attr)->axis;
    const Type *t = val_type(s->g, n->in[0]);
    if (a->step[axis] < 1 || dim_is(s->c, a->size[axis], 0)) return false;
    Dim from = dim_const(s->c, 0),
        last = dim_add(s->c, a->start[axis],
                       dim_muli(s->c, dim_addi(s->c, a->size[axis], -1), a->step[axis]));
    for (int k = 0; k < c->nin; k++) {
        Dim next = dim_add(s->c, from, val_type(s->g, c->in[k])->dim[axis]);
        Dim lead = dim_sub(s->c, a->start[axis], from), room = dim_sub(s->c, next, last);
        if (lead.i && room.i && dim_lo(s->c, lead) >= 0 && dim_lo(s->c, room) >= 1) {
            if (!pass_allow(s->p)) return false;
            Dim start[MAX_RANK];
            for (int d = 0; d < t->rank; d++) start[d] = d == axis ? lead : a->start[d];
            return simp_replace(s, n, b_slice(&s->b, c->in[k], start, a->step, a->size));
        }
        from = next;
    }
    return false;
}

static bool slice(Simp *s, Node *n) {
    const SliceAttr *a = n->attr;
    const Type *t = val_type(s->g, n->out[0]);
    Node *c = simp_made_by(s, n->in[0], P_CONCAT), *in = simp_made_by(s, n->in[0], P_SLICE);
    if (view_of_splat(s, n)) return true;
    if (c) return slice_of_concat(s, n, c);
    if (!in)
        return type_same(s->c, val_type(s->g, n->in[0]), t) && pass_allow(s->p) &&
               simp_replace(s, n, b_slice(&s->b, n->in[0], a->start, a->step, a->size));
    const SliceAttr *i = in->attr; /* x[s1 + d1*(s2 + d2*k)] */
    Dim start[MAX_RANK];
    int64_t step[MAX_RANK];
    for (int d = 0; d < t->rank; d++) {
        start[d] = dim_add(s->c, i->start[d], dim_muli(s->c, a->start[d], i->step[d]));
        if (!start[d].i || __builtin_mul_overflow(i->step[d], a->step[d], &step[d])) return false;
    }
    return pass_allow(s->p) && simp_replace(s, n, b_slice(&s->b, in->in[0], start, step, a->size));
}

static bool same_scalar(Scalar x, Scalar y) {
    return x.t == y.t && !memcmp(&x.i, &y.i, sizeof x.i);
}

/* pad(pad(x)) with one value */
static bool pad(Simp *s, Node *n) {
    const PadAttr *a = n->attr;
    Node *in = simp_made_by(s, n->in[0], P_PAD);
    if (!in || in->nin != 1 || n->nin != 1 || !simp_single(s, n->in[0])) return false;
    const PadAttr *i = in->attr;
    const Type *t = val_type(s->g, n->out[0]);
    if (a->mode != PAD_VALUE || i->mode != PAD_VALUE || a->interior || i->interior ||
        !same_scalar(a->value, i->value))
        return false;
    Dim lo[MAX_RANK], hi[MAX_RANK];
    for (int d = 0; d < t->rank; d++) {
        lo[d] = dim_add(s->c, a->lo[d], i->lo[d]);
        hi[d] = dim_add(s->c, a->hi[d], i->hi[d]);
    }
    return pass_allow(s->p) &&
           simp_replace(s, n, b_pad(&s->b, in->in[0], lo, hi, NULL, PAD_VALUE, a->value, (Val){0}));
}

/* ---- concat, gather ---- */

/* Slices of one value that touch along the axis: first's slice, longer. */
static bool touches(Simp *s, const Node *x, const Node *y, int axis, Dim size) {
    const SliceAttr *a = x->attr, *b = y->attr;
    if (graph_resolve(s->g, x->in[0]).i != graph_resolve(s->g, y->in[0]).i) return false;
    for (int d = 0; d < val_type(s->g, x->in[0])->rank; d++) {
        Dim start =
            d == axis ? dim_add(s->c, a->start[d], dim_muli(s->c, size, a->step[d])) : a->start[d];
        if (a->step[d] != b->step[d] || !dim_same(s->c, start, b->start[d])) return false;
        if (d != axis && !dim_same(s->c, a->size[d], b->size[d])) return false;
    }
    return true;
}

static bool concat(Simp *s, Node *n) {
    int axis = ((const AxisAttr *)n->attr)->axis, nin = 0;
    Val *in = NEWN(s->c, Val, n->nin + 1);
    for (int k = 0; k < n->nin;) {
        const Node *first = simp_made_by(s, n->in[k], P_SLICE);
        int end = k + 1;
        Dim size = val_type(s->g, n->in[k])->dim[axis];
        for (; first && end < n->nin; end++) {
            const Node *next = simp_made_by(s, n->in[end], P_SLICE);
            if (!next || !touches(s, first, next, axis, size)) break;
            size = dim_add(s->c, size, val_type(s->g, n->in[end])->dim[axis]);
        }
        in[nin] = n->in[k];
        if (end > k + 1) {
            const SliceAttr *a = first->attr;
            Dim sizes[MAX_RANK];
            for (int d = 0; d < val_type(s->g, first->in[0])->rank; d++)
                sizes[d] = d == axis ? size : a->size[d];
            in[nin] = b_slice(&s->b, first->in[0], a->start, a->step, sizes);
        }
        if (!in[nin++].i) return false;
        k = end;
    }
    VEC(Val) flat = {0}; /* concats along the same axis become one */
    for (int k = 0; k < nin; k++) {
        Node *c = simp_made_by(s, in[k], P_CONCAT);
        bool merge = c && ((const AxisAttr *)c->attr)->axis == axis && simp_single(s, in[k]) &&
                     c->nin + n->nin < 1000;
        for (int j = 0; merge && j < c->nin; j++) vec_push(s->c, &flat, c->in[j]);
        if (!merge) vec_push(s->c, &flat, in[k]);
    }
    if ((int)flat.n == n->nin || !pass_allow(s->p)) return false;
    return simp_replace(s, n, b_concat(&s->b, (int)flat.n, flat.v, axis));
}

/* gather at a constant index, or at constant indices in equal steps: a slice */
static bool gather(Simp *s, Node *n) {
    const GatherAttr *a = n->attr;
    const Type *x = val_type(s->g, n->in[0]), *it = val_type(s->g, n->in[1]),
               *t = val_type(s->g, n->out[0]);
    const ConstData *d = val_const(s->g, n->in[1]);
    if (!d || it->rank > 1 || d->count < 1 || d->count > 1 << 16 || !dt_is_int(d->dtype))
        return false;
    Dim size = x->dim[a->axis];
    int64_t step = 1, first = 0, prev = 0;
    for (int64_t k = 0; k < d->count; k++) {
        int64_t v = dt_load(d->dtype, d->data, d->splat ? 0 : k).i, whole;
        if (v < 0 && !dim_is_const(s->c, size, &whole)) return false;
        if (v < 0) v += whole;
        if (v < 0 || v >= dim_lo(s->c, size)) return false;
        if (k == 0) first = v;
        if (k == 1) step = v - prev;
        if (step == 0 || (k > 1 && v - prev != step)) return false;
        prev = v;
    }
    if (!pass_allow(s->p)) return false;
    Dim start[MAX_RANK], sizes[MAX_RANK];
    int64_t by[MAX_RANK];
    for (int k = 0; k < x->rank; k++) {
        start[k] = dim_const(s->c, k == a->axis ? first : 0);
        sizes[k] = k == a->axis ? dim_const(s->c, d->count) : x->dim[k];
        by[k] = k == a->axis ? step : 1;
    }
    return simp_replace(
        s, n, b_reshape(&s->b, b_slice(&s->b, n->in[0], start, by, sizes), t->rank, t->dim));
}

/* ---- control ---- */

static bool has_bound_symbol(const Ctx *c, Dim d, int depth) {
    const DimInfo *i = dim_info(c, d);
    if (depth > NEST || (i->kind == D_SYM && dim_sym_info(c, (uint32_t)i->val)->bound)) return true;
    for (int k = 0; k < i->n; k++)
        if (has_bound_symbol(c, i->arg[k], depth + 1)) return true;
    return false;
}

/* `if` on a constant: the branch. Sizes that the node itself defines would lose their definition.
 */
static bool branch(Simp *s, Node *n) {
    Scalar k;
    const IfAttr *a = n->attr;
    if (!val_scalar(s->g, n->in[0], &k)) return false;
    for (int r = 0; r < n->nout; r++) {
        const Type *t = val_type(s->g, n->out[r]);
        if (t->kind != TY_TENSOR) return false;
        for (int d = 0; d < t->rank; d++)
            if (has_bound_symbol(s->c, t->dim[d], 0)) return false;
    }
    if (!pass_allow(s->p)) return false;
    Val *out = NEWN(s->c, Val, n->nout + 1);
    graph_inline(s->g, k.i ? a->then_g : a->else_g, n->in + 1, out);
    for (int r = 0; r < n->nout; r++) graph_replace(s->g, n->out[r], out[r]);
    return true;
}

/* A guard on a condition that is true goes. One that is false stays: the run must end with its
 * message. */
static bool drop_guards(Simp *s) {
    uint32_t kept = 0, n = s->g->node.n;
    for (uint32_t i = 0; i < n; i++) {
        Node *m = s->g->node.v[i];
        Scalar k;
        bool holds =
            m->op == P_GUARD && m->nin == 1 && m->in[0].i && val_scalar(s->g, m->in[0], &k) && k.i;
        if (!holds || !pass_allow(s->p)) s->g->node.v[kept++] = m;
    }
    s->g->node.n = kept;
    return kept != n;
}

/* ---- the pass ---- */

typedef bool (*Rule)(Simp *, Node *);
static const Rule rule[P_COUNT] = {
    [P_MAP] = simp_map,        [P_RESHAPE] = reshape, [P_PERMUTE] = permute,
    [P_BROADCAST] = broadcast, [P_SLICE] = slice,     [P_PAD] = pad,
    [P_CONCAT] = concat,       [P_GATHER] = gather,   [P_IF] = branch,
};

static bool simplify(Graph *g, PassCtx *p, Rules *rules, int depth);

static bool regions(Graph *g, PassCtx *p, Rules *rules, int depth) {
    bool changed = false;
    for (uint32_t i = 0; i < g->node.n; i++) {
        const Node *n = g->node.v[i];
        if (n->op == P_LOOP)
            changed |= simplify(((const LoopAttr *)n->attr)->body, p, rules, depth + 1);
        if (n->op != P_IF) continue;
        changed |= simplify(((const IfAttr *)n->attr)->then_g, p, rules, depth + 1);
        changed |= simplify(((const IfAttr *)n->attr)->else_g, p, rules, depth + 1);
    }
    return changed;
}

static bool round_of(Graph *g, PassCtx *p, Rules *rules) {
    graph_tidy(g);
    uint32_t n = g->node.n;
    Simp simp =
             {.g = g, .c = g->c, .p = p, .rules = rules, .uses = graph_uses(g), .nval = g->val.n},
         *s = &simp;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    bool changed = false;
    for (uint32_t i = 0; i < n; i++) {
        if (!rule[node[i]->op] ||
            (node[i]->nout && graph_resolve(g, node[i]->out[0]).i != node[i]->out[0].i))
            continue;
        s->b = builder(g, node[i]->loc);
        changed |= rule[node[i]->op](s, node[i]);
    }
    changed |= drop_guards(s);
    if (changed) graph_tidy(g);
    return changed;
}

static bool simplify(Graph *g, PassCtx *p, Rules *rules, int depth) {
    bool changed = false;
    if (depth > NEST) return false;
    for (int k = 0; k < ROUNDS && round_of(g, p, rules); k++) changed = true;
    return changed | regions(g, p, rules, depth);
}

bool pass_simplify(Graph *g, PassCtx *p) {
    return simplify(g, p, rules_new(g->c, p->level >= 2 ? 100 : 0), 0);
}
