/* build.c: the builder's core (appending a node, folding what is known), constants, maps, symbols and guards.
 *
 * In: operands and attributes of any quality. Out: a value of g, or poison after one message. Simplification is local and
 * cheap, what needs more than the operands is for passes. Views are in build_view.c, the rest in build_sugar.c. */
#include "build_internal.h"
#include <string.h>

B builder(Graph *g, Loc loc) { return (B){g, g->c, loc}; }

/* ==== appending =================================================================================================== */

const Dim *b_copy_dims(B *b, const Dim *d, int n) {
    Dim *to = NEWN(b->c, Dim, n + 1);
    for (int k = 0; k < n; k++) to[k] = d[k];
    return to;
}

bool b_same_dims(B *b, const Type *t, int rank, const Dim *dim) {
    bool same = t->kind == TY_TENSOR && t->rank == rank;
    for (int d = 0; same && d < rank; d++) same = dim_same(b->c, t->dim[d], dim[d]);
    return same;
}

static Val put_const(B *b, const ConstData *d, Type t) {
    ConstAttr *a = NEW(b->c, ConstAttr);
    *a = (ConstAttr){d, t};
    return graph_node(b->g, P_CONST, 0, NULL, 1, &t, a, b->loc)->out[0];
}

/* Known elements as a node that needs no operands: a constant, or the vector of dims. Poison if that cannot be. */
static Val from_elems(B *b, const Dim *elem, Type t) {
    int64_t dim[MAX_RANK], n, v;
    bool constant = true;
    if (!elem_count(b->c, &t, dim, &n)) return (Val){0};
    for (int64_t k = 0; k < n; k++) constant &= dim_is_const(b->c, elem[k], NULL);
    if (constant) {
        ConstData *d = NEW(b->c, ConstData);
        *d = (ConstData){.dtype = (DType)t.dtype, .count = n, .bytes = dt_bytes((DType)t.dtype, n)};
        char *p = ctx_alloc(b->c, d->bytes + 8);
        for (int64_t k = 0; k < n; k++) {
            dim_is_const(b->c, elem[k], &v);
            dt_store(d->dtype, p, k, dt_convert((Scalar){.t = DT_I64, .i = v}, d->dtype));
        }
        d->data = p;
        return put_const(b, d, t);
    }
    if (t.dtype != DT_I64 || t.rank > 1) return (Val){0};
    ShapeAttr *a = NEW(b->c, ShapeAttr);
    *a = (ShapeAttr){t.rank ? (uint8_t)n : 0xff, b_copy_dims(b, elem, (int)n)};
    return graph_node(b->g, P_SHAPE, 0, NULL, 1, &t, a, b->loc)->out[0];
}

bool b_emit(B *b, PrimOp op, int nin, const Val *in, const void *attr, int nout, Val *out) {
    Type few[4], *t = nout <= 4 ? few : NEWN(b->c, Type, nout);
    for (int r = 0; r < nout; r++) out[r] = (Val){0};
    for (int k = 0; k < nin; k++) {
        if (!in[k].i && !absent_ok(op)) return false;
    }
    memset(t, 0, sizeof *t * (size_t)nout);
    if (!infer(b->g, op, nin, in, attr, nout, t, b->loc)) return false;
    ElemNeeds needs = {0};
    const Dim *elem = nout == 1 ? elem_infer(b->g, op, nin, in, attr, nout, 0, &t[0], &needs) : NULL;
    for (int k = 0; elem && k < needs.n; k++)
        b_guard(b, G_LE, needs.dim[k], dim_const(b->c, needs.most[k]), "a size must be at most %lld, because it is computed in floats",
                (long long)needs.most[k]);
    if (elem && op != P_CONST && op != P_SHAPE) {
        out[0] = from_elems(b, elem, t[0]);
        if (out[0].i) return true;
    }
    size_t size = prim_info(op)->attr_size;
    Node *n = graph_node_elems(b->g, op, nin, in, nout, t, attr ? ctx_dup(b->c, attr, size) : NULL, b->loc, elem);
    for (int r = 0; r < nout; r++) out[r] = n->out[r];
    return true;
}

Val b_emit1(B *b, PrimOp op, int nin, const Val *in, const void *attr) {
    Val v;
    b_emit(b, op, nin, in, attr, 1, &v);
    return v;
}

/* ==== constants =================================================================================================== */

Val b_const(B *b, const ConstData *d, Type t) {
    ConstAttr a = {d, t};
    Val v;
    return d && b_emit(b, P_CONST, 0, NULL, &a, 1, &v) ? v : (Val){0};
}

Val b_const_i64(B *b, int rank, const int64_t *dims, const int64_t *v) {
    int64_t n = 1;
    for (int d = 0; d < rank; d++) n *= dims[d];
    ConstData *k = NEW(b->c, ConstData);
    *k = (ConstData){.dtype = DT_I64, .count = n, .bytes = (size_t)n * sizeof *v};
    k->data = n ? ctx_dup(b->c, v, k->bytes) : NEW(b->c, int64_t);
    return b_const(b, k, type_consts(b->c, DT_I64, rank, dims));
}

Val b_scalar(B *b, Scalar s) {
    if (!dt_is_float(s.t) && !dt_is_int(s.t) && s.t != DT_BOOL) return (Val){0};
    ConstData *k = NEW(b->c, ConstData);
    *k = (ConstData){.dtype = s.t, .count = 1, .bytes = dt_bytes(s.t, 1)};
    void *p = ctx_alloc(b->c, 16);
    dt_store(s.t, p, 0, s);
    k->data = p;
    return b_const(b, k, type_tensor(b->c, s.t, 0, NULL));
}

Val b_splat(B *b, Scalar s, int rank, const Dim *dim) { return b_broadcast(b, b_scalar(b, s), rank, dim); }

bool b_const_elem(B *b, Val v, int64_t flat, Scalar *s) {
    const ConstData *d = val_const(b->g, v);
    if (val_scalar(b->g, v, s)) return true;
    if (d && flat < d->count && (dt_is_float(d->dtype) || dt_is_int(d->dtype) || d->dtype == DT_BOOL)) {
        *s = dt_load(d->dtype, d->data, flat);
        return true;
    }
    int64_t n, x;
    const Dim *e = val_elems(b->g, v, &n);
    if (!e || flat >= n || !dim_is_const(b->c, e[flat], &x)) return false;
    *s = (Scalar){.t = (DType)val_type(b->g, v)->dtype, .i = x};
    return true;
}

/* ==== map ========================================================================================================= */

typedef struct Renumber { const uint32_t *to; } Renumber;

static Expr renumber(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    const Renumber *r = data;
    (void)e;
    if (i->kind == E_ARG) return expr_arg(c, r->to[i->index], (DType)i->dtype);
    if (i->kind == E_LOAD) {
        unsigned n = i->narg - (i->oob == OOB_VALUE ? 1u : 0u);
        return expr_load(c, r->to[i->index], (DType)i->dtype, (int)n, newarg, (Oob)i->oob,
                         n < i->narg ? newarg[n] : (Expr){0}, i->guard);
    }
    return expr_rebuild(c, i, newarg);
}

/* Drops operands that no body reads, and makes equal ones one. Returns how many are left in *in. */
static int prune(B *b, int nres, const Expr **body, int nin, const Val **in) {
    uint32_t *to = NEWN(b->c, uint32_t, nin + 1);
    const uint8_t *how = map_reads(b->c, nres, *body, nin);
    Val *kept = NEWN(b->c, Val, nin + 1);
    int n = 0;
    for (int k = 0; k < nin; k++) {
        if (!how[k]) continue;
        Val v = graph_resolve(b->g, (*in)[k]);
        int j = 0;
        while (j < n && n <= 64 && kept[j].i != v.i) j++;
        if (n > 64) j = n;
        if (j == n) kept[n++] = v;
        to[k] = (uint32_t)j;
    }
    if (n == nin) return nin;
    Expr *e = NEWN(b->c, Expr, nres);
    Renumber r = {to};
    for (int k = 0; k < nres; k++) e[k] = expr_rewrite(b->c, (*body)[k], renumber, &r);
    *body = e;
    *in = kept;
    return n;
}

/* The body with operands and coordinates given: a constant? */
static bool body_const(B *b, Expr body, int nin, const Expr *arg, uint32_t rank, const Expr *axis, Scalar *s) {
    Expr e = expr_subst_args(b->c, body, arg, (uint32_t)nin);
    if (axis) e = expr_subst_axes(b->c, e, axis, rank);
    const ExprInfo *i = expr_info(b->c, e);
    if (i->kind != E_CONST) return false;
    *s = i->val;
    return true;
}

/* All operands are splats and the bodies name no coordinates: the results are splats. */
static bool fold_splats(B *b, int nres, const Expr *body, int nin, const Val *in, int rank, const Dim *dim, Val *out) {
    Expr *arg = NEWN(b->c, Expr, nin + 1);
    Scalar s, *res = NEWN(b->c, Scalar, nres);
    for (int k = 0; k < nin; k++) {
        if (!val_scalar(b->g, in[k], &s)) return false;
        arg[k] = expr_const(b->c, s);
    }
    for (int r = 0; r < nres; r++) {
        if (!body_const(b, body[r], nin, arg, 0, NULL, &res[r])) return false;
    }
    for (int r = 0; r < nres; r++) out[r] = b_splat(b, res[r], rank, dim);
    return true;
}

/* All operands are known and the result is small: a constant. */
static bool fold_small(B *b, Expr body, int nin, const Val *in, int rank, const Dim *dim, Val *out) {
    DType t = (DType)expr_info(b->c, body)->dtype;
    Type type = type_tensor(b->c, t, rank, dim);
    int64_t size[MAX_RANK], from[MAX_RANK], n;
    Expr arg[8], axis[MAX_RANK];
    if (nin > 8 || dt_is_packed(t) || !elem_count(b->c, &type, size, &n)) return false;
    ConstData *d = NEW(b->c, ConstData);
    *d = (ConstData){.dtype = t, .count = n, .bytes = dt_bytes(t, n)};
    char *p = ctx_alloc(b->c, d->bytes + 16);
    for (int64_t k = 0; k < n; k++) {
        int64_t at[MAX_RANK], rest = k, cells;
        for (int a = rank - 1; a >= 0; a--) {
            at[a] = rest % size[a];
            rest /= size[a];
            axis[a] = expr_int(b->c, DT_I64, at[a]);
        }
        for (int i = 0; i < nin; i++) {
            const Type *o = val_type(b->g, in[i]);
            int64_t flat = 0;
            Scalar s;
            if (!elem_count(b->c, o, from, &cells) || o->rank > rank) return false;
            for (int a = 0; a < o->rank; a++) flat = flat * from[a] + (from[a] == 1 ? 0 : at[rank - o->rank + a]);
            if (flat >= cells || !b_const_elem(b, in[i], flat, &s)) return false;
            arg[i] = expr_const(b->c, s);
        }
        Scalar s;
        if (!body_const(b, body, nin, arg, (uint32_t)rank, axis, &s)) return false;
        dt_store(t, p, k, s);
    }
    d->data = p;
    out[0] = put_const(b, d, type);
    return true;
}

void b_map(B *b, int nres, const Expr *body, int nin, const Val *in, int rank, const Dim *dim, Val *out) {
    bool ok = nres > 0;
    for (int r = 0; r < nres; r++) {
        out[r] = (Val){0};
        ok &= body[r].i != 0;
    }
    if (rank > MAX_RANK) {
        BERR(b, "E0302", "a value of rank %d (the limit is %d)", rank, MAX_RANK);
        return;
    }
    for (int k = 0; k < nin; k++) ok &= in[k].i != 0;
    for (int d = 0; d < rank; d++) ok &= dim[d].i != 0;
    if (!ok) return;
    MapAttr a = {(uint8_t)rank, b_copy_dims(b, dim, rank), ctx_dup(b->c, body, sizeof *body * (size_t)nres)};
    Type *t = NEWN(b->c, Type, nres); /* operands that are dropped below are checked, too */
    if (!infer(b->g, P_MAP, nin, in, &a, nres, t, b->loc)) return;
    nin = prune(b, nres, &body, nin, &in);
    const ExprInfo *i = expr_info(b->c, body[0]);
    if (nres == 1 && i->kind == E_ARG) {
        out[0] = b_broadcast(b, in[i->index], rank, dim);
        return;
    }
    if (fold_splats(b, nres, body, nin, in, rank, dim, out)) return;
    if (nres == 1 && fold_small(b, body[0], nin, in, rank, dim, out)) return;
    a.body = ctx_dup(b->c, body, sizeof *body * (size_t)nres);
    b_emit(b, P_MAP, nin, in, &a, nres, out);
}

/* A symbol against a computed size, as an attention mask [total] against scores [past + new]: in all models that anybody
 * writes the computed size is the result. The opposite, that it happens to be 1, is refused at run time in exchange for
 * sizes that later stages can compare. */
static bool lone_against_sum(Ctx *c, Dim x, Dim y) {
    DimKind k = dim_info(c, y)->kind;
    return dim_lone_sym(c, x, NULL) && (k == D_ADD || k == D_MUL) && dim_hi(c, y) > 1 && dim_may_be_one(c, x) && dim_may_be_one(c, y);
}

/* `from` broadcast to `to`, which it is if that is possible; not dim_bcast, which does not keep their order. */
static Dim fitted(Ctx *c, Dim from, Dim to) {
    return dim_may_be_one(c, from) ? dim_select(c, dim_eqv(c, from, dim_const(c, 1)), to, from) : from;
}

static bool equal_or_one(B *b, Dim x, Dim y, Dim *out) {
    *out = y;
    b_guard(b, G_EQ, fitted(b->c, x, y), y, "size %s must be 1 or %s", dim_text(b->c, x), dim_text(b->c, y));
    return true;
}

/* y == min(x, top) for a constant top > 1 (a table cut to length x): they fit only if x <= top, and then are equal. */
static bool capped(const Ctx *c, Dim y, Dim x, Dim *top) {
    const DimInfo *i = dim_info(c, y);
    for (int k = 0; i->kind == D_MIN && i->n == 2 && k < 2; k++) {
        if (!dim_same(c, i->arg[k], x) || !dim_is_const(c, i->arg[1 - k], NULL) || dim_lo(c, i->arg[1 - k]) < 2) continue;
        *top = i->arg[1 - k];
        return true;
    }
    return false;
}

bool b_bcast_dim(B *b, Dim x, Dim y, Dim *out) {
    Ctx *c = b->c;
    *out = x;
    if (!x.i || !y.i) return false;
    if (dim_same(c, x, y)) {
        *out = dim_is_const(c, y, NULL) ? y : x;
        return true;
    }
    if (dim_is(c, x, 1) || dim_in_bcast(c, y, x)) {
        *out = y;
        return true;
    }
    if (dim_is(c, y, 1) || dim_in_bcast(c, x, y)) return true;
    Dim top;
    bool cap = capped(c, y, x, &top);
    if (cap || capped(c, x, y, &top)) {
        *out = cap ? x : y;
        b_guard(b, G_LE, *out, top, "sizes %s and %s do not broadcast", dim_text(c, x), dim_text(c, y));
        return true;
    }
    if (lone_against_sum(c, y, x)) return equal_or_one(b, y, x, out);
    if (lone_against_sum(c, x, y)) return equal_or_one(b, x, y, out);
    bool x1 = dim_may_be_one(c, x), y1 = dim_may_be_one(c, y);
    if (!x1 && !y1 && dim_differ(c, x, y)) {
        BERR(b, "E0301", "sizes %s and %s do not broadcast", dim_text(c, x), dim_text(c, y));
        return false;
    }
    *out = !x1 ? x : !y1 ? y : dim_bcast(c, x, y);
    if (!x1 && !y1 && dim_is_const(c, y, NULL)) *out = y;
    b_guard(b, !x1 && !y1 ? G_EQ : G_BCAST, x, y, "sizes %s and %s do not broadcast", dim_text(c, x), dim_text(c, y));
    return out->i != 0;
}

Val b_map1(B *b, Expr body, int nin, const Val *in) {
    Dim dim[MAX_RANK];
    int rank = 0;
    for (int k = 0; k < nin; k++) {
        const Type *t = val_type(b->g, in[k]);
        if (!in[k].i) return (Val){0};
        if (t->kind != TY_TENSOR) {
            BERR(b, "E0303", "map of a value of type %s", type_text(b->c, t));
            return (Val){0};
        }
    }
    const uint8_t *how = map_reads(b->c, 1, &body, nin);
    for (int k = 0; k < nin; k++) {
        int r = val_type(b->g, in[k])->rank;
        if (how[k] != READ_LOAD && r > rank) rank = r;
    }
    for (int d = 0; d < rank; d++) {
        bool first = true;
        for (int k = 0; k < nin; k++) {
            const Type *t = val_type(b->g, in[k]);
            int at = d - (rank - t->rank);
            if (at < 0 || how[k] == READ_LOAD) continue;
            if (first) dim[d] = t->dim[at];
            else if (!b_bcast_dim(b, dim[d], t->dim[at], &dim[d])) return (Val){0};
            first = false;
        }
    }
    Val out;
    b_map(b, 1, &body, nin, in, rank, dim, &out);
    return out;
}

static Expr operand(B *b, uint32_t k, Val v) { return expr_arg(b->c, k, (DType)val_type(b->g, v)->dtype); }

static bool typed(B *b, Val v) { return v.i && val_type(b->g, v)->kind == TY_TENSOR; }

Val b_unary(B *b, SOp op, Val a) {
    if (!typed(b, a)) return (Val){0};
    return b_map1(b, expr_op(b->c, op, operand(b, 0, a), (Expr){0}, (Expr){0}), 1, &a);
}

static bool equal_types(B *b, const char *what, Val x, Val y) {
    const Type *s = val_type(b->g, x), *t = val_type(b->g, y);
    if (s->dtype == t->dtype) return true;
    BERR(b, "E0303", "%s of %s and %s", what, type_text(b->c, s), type_text(b->c, t));
    return false;
}

Val b_binary(B *b, SOp op, Val x, Val y) {
    Val in[2] = {x, y};
    if (!typed(b, x) || !typed(b, y) || !equal_types(b, "arithmetic", x, y)) return (Val){0};
    return b_map1(b, expr_op(b->c, op, operand(b, 0, x), operand(b, 1, y), (Expr){0}), 2, in);
}

Val b_select(B *b, Val cond, Val x, Val y) {
    Val in[3] = {cond, x, y};
    if (!typed(b, cond) || !typed(b, x) || !typed(b, y) || !equal_types(b, "a choice", x, y)) return (Val){0};
    return b_map1(b, expr_op(b->c, S_SELECT, operand(b, 0, cond), operand(b, 1, x), operand(b, 2, y)), 3, in);
}

Val b_cast(B *b, Val v, DType t) {
    if (!typed(b, v)) return (Val){0};
    if (val_type(b->g, v)->dtype == t) return v;
    return b_map1(b, expr_cast(b->c, operand(b, 0, v), t), 1, &v);
}

/* ==== symbols and guards ========================================================================================== */

/* A bind of the same element that exists already, if its range will do. */
static Dim bound_before(B *b, Val v, int64_t index, int64_t lo, int64_t hi) {
    for (uint32_t u = val_info(b->g, v)->uses; u; u = b->g->use.v[u].next) {
        const Node *n = b->g->use.v[u].n;
        const BindAttr *a = n->attr;
        if (n->op != P_BIND || a->index != index || graph_resolve(b->g, n->in[0]).i != v.i) continue;
        uint32_t id;
        if (!dim_lone_sym(b->c, a->sym, &id) || dim_lo(b->c, a->sym) < lo || dim_hi(b->c, a->sym) > hi) continue;
        return dim_sym(b->c, dim_sym_info(b->c, id)->name, lo, hi);
    }
    return (Dim){0};
}

/* Where element *index of a permute or slice is in its operand; false: elsewhere, or unknown. */
static bool moved(B *b, const Node *n, int64_t *index) {
    const Type *t = val_type(b->g, n->out[0]), *x = val_type(b->g, n->in[0]);
    int64_t dim[MAX_RANK], xdim[MAX_RANK], from[MAX_RANK], count, rest = *index, flat = 0;
    if (n->op != P_PERMUTE && n->op != P_SLICE) return false;
    if (!elem_count(b->c, t, dim, &count) || !elem_count(b->c, x, xdim, &(int64_t){0}) || rest < 0 || rest >= count) return false;
    for (int d = t->rank - 1; d >= 0; d--) {
        int64_t at = rest % dim[d], start;
        rest /= dim[d];
        if (n->op == P_PERMUTE) {
            from[((const PermAttr *)n->attr)->perm[d]] = at;
        } else {
            const SliceAttr *a = n->attr;
            if (!dim_is_const(b->c, a->start[d], &start)) return false;
            from[d] = start + at * a->step[d];
        }
    }
    for (int d = 0; d < x->rank; d++) flat = flat * xdim[d] + from[d];
    *index = flat;
    return true;
}

/* The value and position where an element comes from, through nodes that only move it. */
static Val trace(B *b, Val v, int64_t *index) {
    for (int depth = 0; depth < 64; depth++) {
        v = graph_resolve(b->g, v);
        const Node *n = val_def(b->g, v);
        if (!n || val_elems(b->g, v, NULL)) return v;
        if (n->op == P_RESHAPE) {
            v = n->in[0];
        } else if (n->op == P_CONCAT && val_type(b->g, v)->rank == 1) {
            int k = 0;
            int64_t at = *index, size;
            for (; k < n->nin && dim_is_const(b->c, val_type(b->g, n->in[k])->dim[0], &size) && at >= size; k++) at -= size;
            if (k == n->nin || !dim_is_const(b->c, val_type(b->g, n->in[k])->dim[0], NULL)) return v;
            v = n->in[k];
            *index = at;
        } else if (!n->nin || !moved(b, n, index)) {
            return v;
        } else {
            v = n->in[0];
        }
    }
    return v;
}

Dim b_bind(B *b, Val v, int64_t index, const char *stem, int64_t lo, int64_t hi) {
    Ctx *c = b->c;
    if (!typed(b, v)) return (Dim){0};
    v = trace(b, v, &index);
    int64_t n;
    const Dim *e = val_elems(b->g, v, &n);
    if (e && index >= 0 && index < n) {
        if (dim_hi(c, e[index]) < lo || dim_lo(c, e[index]) > hi) {
            BERR(b, "E0308", "%s is %s, expected a value from %lld to %lld", stem, dim_text(c, e[index]), (long long)lo,
                 (long long)hi);
            return (Dim){0};
        }
        b_guard(b, G_LE, dim_const(c, lo), e[index], "%s must be at least %lld", stem, (long long)lo);
        if (hi != DIM_INF) b_guard(b, G_LE, e[index], dim_const(c, hi), "%s must be at most %lld", stem, (long long)hi);
        return e[index];
    }
    Dim sym = bound_before(b, v, index, lo, hi);
    if (sym.i) return sym;
    sym = dim_fresh(c, stem, lo, hi);
    uint32_t id;
    if (!dim_lone_sym(c, sym, &id)) return (Dim){0};
    dim_sym_mark_bound(c, id);
    BindAttr a = {dim_pin(c, sym), index};
    return b_emit(b, P_BIND, 1, &v, &a, 0, NULL) ? sym : (Dim){0};
}

typedef enum { NO, YES, MAYBE } Known;

static Known holds(B *b, GuardCmp cmp, Dim x, Dim y) {
    Ctx *c = b->c;
    if (cmp == G_EQ || cmp == G_BCAST) {
        if (dim_same(c, x, y)) return YES;
        bool ones = cmp == G_BCAST && (dim_may_be_one(c, x) || dim_may_be_one(c, y));
        if (cmp == G_BCAST && (dim_is(c, x, 1) || dim_is(c, y, 1) || dim_in_bcast(c, x, y) || dim_in_bcast(c, y, x)))
            return YES;
        return !ones && dim_differ(c, x, y) ? NO : MAYBE;
    }
    int64_t less = cmp == G_LT ? 1 : 0;
    int64_t hx = dim_hi(c, x), ly = dim_lo(c, y);
    if (dim_same(c, x, y)) return less ? NO : YES;
    if (hx != DIM_INF && ly != INT64_MIN && hx <= ly - less) return YES;
    int64_t vx, vy;
    if (!dim_is_const(c, x, &vx)) vx = 0;
    if (!dim_is_const(c, y, &vy)) vy = 0;
    int64_t far = (int64_t)1 << 40; /* differences of such numbers cannot overflow */
    if (vx > far || vx < -far || vy > far || vy < -far) {
        return dim_lo(c, x) > dim_hi(c, y) || (less && dim_lo(c, x) == dim_hi(c, y)) ? NO : MAYBE;
    }
    Dim gap = dim_sub(c, y, x);
    if (!gap.i) return MAYBE;
    if (dim_lo(c, gap) >= less) return YES;
    return dim_hi(c, gap) < less ? NO : MAYBE;
}

typedef struct Makes { uint32_t sym; bool found; } Makes;

static void note_made(void *data, uint32_t sym) {
    Makes *m = data;
    m->found |= sym == m->sym;
}

static Dim pin(void *data, Ctx *c, Dim d) {
    (void)data;
    return dim_pin(c, d);
}

/* Before a == b defines a symbol that a node's results have as a size: those keep it, shielded, because nothing else tells its value. Who has read
 * them reads them reshaped to what the symbol is assumed to be. */
static void keep_size(B *b, Dim x, Dim y) {
    Ctx *c = b->c;
    Graph *g = b->g;
    Makes m = {0};
    if (!dim_unifies(c, x, y, &m.sym) || !dim_sym_info(c, m.sym)->bound) return;
    Node *n = NULL;
    for (uint32_t k = g->node.n; k-- && !m.found;) {
        n = g->node.v[k];
        if (n->op != P_BIND && n->op != P_GROUP) node_makes(c, g, n, note_made, &m);
    }
    if (!m.found) return;
    for (int r = 0; r < n->nout; r++) {
        Val v = n->out[r];
        const ValInfo *i = &g->val.v[v.i];
        Type t = i->type;
        const char *name = i->name;
        Dim kept[MAX_RANK];
        bool has = false;
        for (int d = 0; t.kind == TY_TENSOR && d < t.rank; d++) {
            has |= dim_uses_sym(c, t.dim[d], m.sym);
            kept[d] = dim_pin(c, t.dim[d]);
        }
        if (!has) continue;
        n->out[r] = graph_value(g, type_tensor(c, (DType)t.dtype, t.rank, kept), n);
        DimsAttr a = {t.rank, t.dim};
        Node *view = graph_node(g, P_RESHAPE, 1, &n->out[r], 1, &t, ctx_dup(c, &a, sizeof a), n->loc);
        g->val.v[view->out[0].i].name = name;
        graph_replace(g, v, view->out[0]);
    }
    if (n->op == P_LOOP) {
        LoopAttr a = *(const LoopAttr *)n->attr;
        if (a.iter.i) a.iter = dim_pin(c, a.iter);
        n->attr = ctx_dup(c, &a, sizeof a);
    } else if (n->op != P_IF) {
        n->attr = attr_copy(c, g, n, pin, NULL);
    }
}

void b_guard(B *b, GuardCmp cmp, Dim x, Dim y, const char *fmt, ...) {
    if (!x.i || !y.i || cmp == G_TRUE) return;
    Known k = holds(b, cmp, x, y);
    if (k == YES) return;
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (k == NO) {
        BERR(b, cmp == G_BCAST ? "E0301" : "E0308", "%s", text);
        return;
    }
    GuardAttr a = {cmp, dim_pin(b->c, x), dim_pin(b->c, y), ctx_str(b->c, text)};
    b_emit(b, P_GUARD, 0, NULL, &a, 0, NULL);
    /* A region may not be reached: what it assumes does not hold outside of it. */
    if (b->g->parent) return;
    if (cmp == G_EQ) {
        keep_size(b, x, y);
        dim_unify(b->c, x, y);
    }
    if (cmp == G_LE) dim_assume_le(b->c, x, y);
    if (cmp == G_LT) dim_assume_le(b->c, dim_addi(b->c, x, 1), y);
}

void b_guard_val(B *b, Val cond, const char *text) {
    int rank = val_type(b->g, cond)->rank;
    if (cond.i && rank) cond = b_reduce1(b, R_AND, cond, (1u << rank) - 1, false);
    if (!cond.i) return;
    Scalar s;
    if (val_scalar(b->g, cond, &s) && s.t == DT_BOOL) {
        if (!s.i) BERR(b, "E0308", "%s", text);
        return;
    }
    GuardAttr a = {.cmp = G_TRUE, .text = ctx_str(b->c, text)};
    b_emit(b, P_GUARD, 1, &cond, &a, 0, NULL);
}

void b_guard_fits(B *b, Dim from, Dim to, const char *what) {
    if (dim_same(b->c, from, to) || dim_is(b->c, from, 1) || dim_in_bcast(b->c, to, from)) return;
    b_guard(b, G_EQ, fitted(b->c, from, to), to, "%s: size %s does not broadcast to %s", what, dim_text(b->c, from), dim_text(b->c, to));
}

void b_guard_domain(B *b, int nres, const Expr *body, int nin, const Val *in, int rank, const Dim *dim) {
    const uint8_t *how = map_reads(b->c, nres, body, nin);
    for (int k = 0; k < nin; k++) {
        const Type *t = val_type(b->g, in[k]);
        int lead = rank - t->rank;
        for (int d = 0; how[k] & READ_POINT && lead >= 0 && d < t->rank; d++) b_guard_fits(b, t->dim[d], dim[lead + d], "an operand");
    }
}

/* ==== dims as values ============================================================================================== */

Val b_dims(B *b, int n, const Dim *dim) {
    if (n < 0 || n > 254) {
        BERR(b, "E0302", "a vector of %d sizes", n);
        return (Val){0};
    }
    ShapeAttr a = {(uint8_t)n, b_copy_dims(b, dim, n)};
    Type t;
    for (int k = 0; k < n; k++) {
        if (!dim[k].i) return (Val){0};
    }
    t = type_consts(b->c, DT_I64, 1, &(int64_t){n});
    Val v = from_elems(b, a.dim, t);
    return v.i ? v : b_emit1(b, P_SHAPE, 0, NULL, &a);
}

Val b_dim_scalar(B *b, Dim d) {
    return d.i ? from_elems(b, &d, type_tensor(b->c, DT_I64, 0, NULL)) : (Val){0};
}

Val b_shape(B *b, Val v) {
    const Type *t = val_type(b->g, v);
    if (!v.i) return v;
    if (t->kind != TY_TENSOR) {
        BERR(b, "E0303", "shape of a value of type %s", type_text(b->c, t));
        return (Val){0};
    }
    return b_dims(b, t->rank, t->dim);
}
