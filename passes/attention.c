/* attention.c: recognises scaled-dot-product attention and wraps it as group "Attention", which
 * becomes one kernel: scores never exist in memory. In: contract(q, k) -> maps -> softmax -> [0
 * where NaN] -> contract(p, v), with any batch axes, any maps over the score domain (scale, masks,
 * causal select, bias) and any operands that broadcast to it. Out: a group whose body is those
 * primitives with the maps composed into one; operands are q, k, v and what the maps read.
 *
 * Recognition is by structure alone: the softmax is composed back to an expression over what it
 * reads, and that expression must be exp(x - m) / l with m the maximum and l the sum of the same x
 * and exp(x - m) along the contracted axis. Nothing between the two contractions may be read by
 * anybody else.
 *
 * GPUs take operands of 16 bits as well: inside the group they are f32, and weights are not rounded to 16 bits. */
#include <string.h>

#include "internal.h"

enum {
    MAX_DEPTH = 64,
    MAX_LEAVES = 16,
    MAX_INSIDE = 256,
    MAX_ROOTS = 4,
    MAX_VISITS = 4096,
    ROW_COST = 40
};

typedef struct Cone {
    Graph *g;
    Ctx *c;
    const Type *dom; /* of the scores */
    Val score;       /* result of the first contraction */
    const uint32_t *uses;
    uint32_t room;         /* values that the arrays have room for: those from before the pass */
    uint32_t stamp, *seen; /* per value: expr holds what was composed for it in the run `stamp` */
    Expr *expr;
    uint32_t *asked; /* per value: 2 * stamp + answer of follows() */
    Val leaf[MAX_LEAVES];
    int nleaf;
    Node *inside[MAX_INSIDE]; /* nodes that the group replaces, if nobody else reads them */
    int ninside;
    int visits; /* values looked at: bounds the work per contraction */
    bool failed;
} Cone;

/* ---- values as expressions over leaves ---- */

static bool is_domain(const Cone *k, int rank, const Dim *dim) {
    if (rank != k->dom->rank) return false;
    for (int d = 0; d < rank; d++)
        if (!dim_same(k->c, dim[d], k->dom->dim[d])) return false;
    return true;
}

static Expr note_place(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    (void)c;
    (void)arg;
    if (i->kind == E_AXIS || i->kind == E_LOAD) *(bool *)data = true;
    return e;
}

static bool pointwise(Ctx *c, Expr e) {
    bool looks = false;
    expr_rewrite(c, e, note_place, &looks);
    return !looks;
}

/* A map over the domain, or over its rows: some sizes are 1 instead, and the body does not look at
 * coordinates. */
static bool over_domain(const Cone *k, const Node *n) {
    if (!n || n->op != P_MAP || n->nout != 1) return false;
    const MapAttr *a = n->attr;
    if (is_domain(k, a->rank, a->dim)) return true;
    if (a->rank != k->dom->rank || expr_cost(k->c, a->body[0]) > ROW_COST ||
        !pointwise(k->c, a->body[0]))
        return false;
    for (int d = 0; d < a->rank; d++)
        if (!dim_same(k->c, a->dim[d], k->dom->dim[d]) && !dim_is(k->c, a->dim[d], 1)) return false;
    return true;
}

/* Does v follow from the scores, through maps over their domain and reductions of it? */
static bool follows(Cone *k, Val v, int depth) {
    v = graph_resolve(k->g, v);
    if (v.i == k->score.i) return true;
    if (v.i >= k->room) return false;
    if (k->asked[v.i] >> 1 == k->stamp) return k->asked[v.i] & 1;
    Node *n = val_def(k->g, v);
    bool yes = false;
    if (k->visits++ < MAX_VISITS && n && depth <= MAX_DEPTH &&
        (over_domain(k, n) || n->op == P_REDUCE || n->op == P_RESHAPE))
        for (int i = 0; i < n->nin && !yes; i++)
            yes = n->in[i].i && follows(k, n->in[i], depth + 1);
    k->asked[v.i] = k->stamp << 1 | yes;
    return yes;
}

static uint32_t leaf(Cone *k, Val v) {
    for (int i = 0; i < k->nleaf; i++)
        if (k->leaf[i].i == v.i) return (uint32_t)i;
    if (k->nleaf == MAX_LEAVES) {
        k->failed = true;
        return 0;
    }
    k->leaf[k->nleaf] = v;
    return (uint32_t)k->nleaf++;
}

static void enter(Cone *k, Node *n) {
    for (int i = 0; i < k->ninside; i++)
        if (k->inside[i] == n) return;
    if (k->ninside == MAX_INSIDE)
        k->failed = true;
    else
        k->inside[k->ninside++] = n;
}

static Expr compose(Cone *k, Val v, int depth);

typedef struct Operands {
    Cone *k;
    const Node *n;
    int depth;
} Operands;

static Expr compose_node(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    const Operands *o = data;
    (void)e;
    if (i->kind == E_ARG) return compose(o->k, o->n->in[i->index], o->depth + 1);
    if (i->kind == E_LOAD) {
        Val v = graph_resolve(o->k->g, o->n->in[i->index]);
        Expr pad = i->oob == OOB_VALUE ? arg[i->narg - 1] : (Expr){0};
        int rank = i->narg - (i->oob == OOB_VALUE);
        return expr_load(c, leaf(o->k, v), (DType)i->dtype, rank, arg, (Oob)i->oob, pad, i->guard);
    }
    return expr_rebuild(c, i, arg);
}

/* Maps over the domain that follow from the scores, or that nobody else reads, are composed;
 * anything else is a leaf. */
static Expr compose(Cone *k, Val v, int depth) {
    v = graph_resolve(k->g, v);
    if (v.i >= k->room) return expr_arg(k->c, leaf(k, v), (DType)val_type(k->g, v)->dtype);
    if (k->seen[v.i] == k->stamp) return k->expr[v.i];
    Node *n = val_def(k->g, v);
    Expr e;
    Scalar s;
    if (depth > MAX_DEPTH) k->failed = true;
    if (val_scalar(k->g, v, &s))
        e = expr_const(k->c, s);
    else if (!k->failed && over_domain(k, n) &&
             (follows(k, v, 0) || (k->uses[v.i] == 1 && is_domain(k, val_type(k->g, v)->rank,
                                                                  val_type(k->g, v)->dim)))) {
        Operands o = {k, n, depth};
        enter(k, n);
        e = expr_rewrite(k->c, ((const MapAttr *)n->attr)->body[0], compose_node, &o);
    } else {
        e = expr_arg(k->c, leaf(k, v), (DType)val_type(k->g, v)->dtype);
    }
    k->seen[v.i] = k->stamp;
    k->expr[v.i] = e;
    return e;
}

/* ---- the softmax ---- */

typedef struct Softmax {
    Expr x;
    Node *max, *sum;
    int axis;
    bool zero_nan;
} Softmax;

static bool is_op(Ctx *c, Expr e, SOp op) {
    const ExprInfo *i = expr_info(c, e);
    return i->kind == E_OP && i->op == op;
}

static Expr arg_of(Ctx *c, Expr e, int k) { return expr_info(c, e)->arg[k]; }

static bool is_zero(Ctx *c, Expr e) {
    const ExprInfo *i = expr_info(c, e);
    return i->kind == E_CONST && i->val.i == 0;
}

static bool tests_nan(Ctx *c, Expr e, Expr of) {
    if (is_op(c, e, S_ISNAN)) return arg_of(c, e, 0).i == of.i;
    return is_op(c, e, S_NE) && arg_of(c, e, 0).i == of.i && arg_of(c, e, 1).i == of.i;
}

/* p of `0 where p is NaN, else p` */
static bool strip_guard(Ctx *c, Expr *e) {
    if (!is_op(c, *e, S_SELECT)) return false;
    Expr cond = arg_of(c, *e, 0), a = arg_of(c, *e, 1), b = arg_of(c, *e, 2);
    bool negated = is_op(c, cond, S_NOT);
    if (negated) cond = arg_of(c, cond, 0);
    Expr p = negated ? a : b, zero = negated ? b : a;
    if (!is_zero(c, zero) || !tests_nan(c, cond, p)) return false;
    *e = p;
    return true;
}

/* The reduction that leaf expression e stands for, seen through a reshape that only adds or drops
 * sizes of 1. */
static Node *reduction(Cone *k, Expr e, ReduceOp op, int *axis) {
    const ExprInfo *i = expr_info(k->c, e);
    if (i->kind != E_ARG) return NULL;
    Val v = k->leaf[i->index];
    Node *n = val_def(k->g, v);
    if (n && n->op == P_RESHAPE) {
        enter(k, n);
        n = val_def(k->g, n->in[0]);
    }
    if (!n || n->op != P_REDUCE || n->nin != 1) return NULL;
    const ReduceAttr *a = n->attr;
    const Type *x = val_type(k->g, n->in[0]), *t = val_type(k->g, v);
    if (!reduce_is(k->c, a, op, DT_F32) || !is_domain(k, x->rank, x->dim)) return NULL;
    int d = 0;
    while (d < x->rank && !(a->axes >> d & 1)) d++;
    if (a->axes != 1u << d || t->rank != x->rank) return NULL;
    for (int j = 0; j < t->rank; j++)
        if (j == d ? !dim_is(k->c, t->dim[j], 1) : !dim_same(k->c, t->dim[j], x->dim[j]))
            return NULL;
    *axis = d;
    enter(k, n);
    return n;
}

static bool softmax_of(Cone *k, Expr p, Softmax *s) {
    Ctx *c = k->c;
    Expr e, l;
    *s = (Softmax){.zero_nan = strip_guard(c, &p)};
    if (is_op(c, p, S_DIV)) {
        e = arg_of(c, p, 0);
        l = arg_of(c, p, 1);
    } else if (is_op(c, p, S_MUL)) {
        bool second = is_op(c, arg_of(c, p, 1), S_RECIP);
        e = arg_of(c, p, !second);
        l = arg_of(c, p, second);
        if (!is_op(c, l, S_RECIP)) return false;
        l = arg_of(c, l, 0);
    } else
        return false;
    if (!is_op(c, e, S_EXP) || !is_op(c, arg_of(c, e, 0), S_SUB)) return false;
    Expr x = arg_of(c, arg_of(c, e, 0), 0), m = arg_of(c, arg_of(c, e, 0), 1);
    int am, al;
    if (!(s->max = reduction(k, m, R_MAX, &am)) || !(s->sum = reduction(k, l, R_SUM, &al)) ||
        am != al)
        return false;
    s->x = x;
    s->axis = am;
    return compose(k, s->max->in[0], 0).i == x.i && compose(k, s->sum->in[0], 0).i == e.i &&
           expr_info(c, x)->dtype == DT_F32;
}

/* ---- the contractions ---- */

static int find(const uint8_t *label, int rank, uint8_t l) {
    for (int d = 0; d < rank; d++)
        if (label[d] == l) return d;
    return -1;
}

/* Labels of operand s that neither the other operand nor the result has make no product of
 * matrices; *red: label that both operands have and the result lacks, exactly one. */
static bool one_reduced(Graph *g, const Node *n, uint8_t *red) {
    const ContractAttr *a = n->attr;
    const Type *t[3] = {val_type(g, n->in[0]), val_type(g, n->in[1]), val_type(g, n->out[0])};
    int count = 0;
    for (int s = 0; s < 2; s++)
        for (int d = 0; d < t[s]->rank; d++) {
            uint8_t l = a->label[s][d];
            if (find(a->label[2], t[2]->rank, l) >= 0) continue;
            if (find(a->label[!s], t[!s]->rank, l) < 0) return false;
            count += s == 0;
            *red = l;
        }
    return count == 1;
}

/* Summed in f32, of f32 operands. GPUs multiply operands of 16 bits as they are: there both may have one such type. */
static bool f32_contract(Graph *g, const PassCtx *pc, const Node *n) {
    const ContractAttr *a = n->attr;
    DType x = (DType)val_type(g, n->in[0])->dtype, y = (DType)val_type(g, n->in[1])->dtype, out = (DType)a->out;
    bool halves = pc->target && !(pc->target->flags & F_SIMD);
    return a->acc == DT_F32 && x == y && ((x == DT_F32 && out == DT_F32) || (halves && dt_is_half(x) && (out == DT_F32 || dt_is_half(out))));
}

/* scores: the keys' operand alone has the softmax axis, and of the result's axes nothing else
 * alone. */
static bool scores_fit(Graph *g, const PassCtx *pc, const Node *n, int axis) {
    const ContractAttr *a = n->attr;
    const Type *out = val_type(g, n->out[0]);
    uint8_t red, t = a->label[2][axis];
    if (!f32_contract(g, pc, n) || !one_reduced(g, n, &red)) return false;
    int r0 = val_type(g, n->in[0])->rank, r1 = val_type(g, n->in[1])->rank;
    int k = find(a->label[0], r0, t) >= 0 ? 0 : 1;
    if (find(a->label[!k], k ? r0 : r1, t) >= 0) return false;
    for (int d = 0; d < out->rank; d++)
        if (d != axis && find(a->label[!k], k ? r0 : r1, a->label[2][d]) < 0) return false;
    return true;
}

/* values: reduced along the softmax axis of p; the other operand brings exactly one axis of its
 * own. */
static bool values_fit(Graph *g, const Node *n, int p, int axis) {
    const ContractAttr *a = n->attr;
    const Type *pt = val_type(g, n->in[p]), *vt = val_type(g, n->in[!p]);
    uint8_t red;
    if (!one_reduced(g, n, &red) || red != a->label[p][axis]) return false;
    int own = 0;
    for (int d = 0; d < vt->rank; d++) own += find(a->label[p], pt->rank, a->label[!p][d]) < 0;
    return own == 1;
}

/* GPUs keep a query's, and a result's, elements of a row in registers: few, and a number that is known. */
static bool short_rows(Graph *g, const PassCtx *pc, const Node *scores, const Node *last, int p) {
    enum { MOST = 128 };
    uint8_t red;
    int64_t n;
    const ContractAttr *a = scores->attr, *b = last->attr;
    if (!pc->target || pc->target->flags & F_SIMD) return true;
    const Type *q = val_type(g, scores->in[0]), *w = val_type(g, last->in[p]), *v = val_type(g, last->in[!p]);
    if (!one_reduced(g, scores, &red)) return false;
    if (!dim_is_const(g->c, q->dim[find(a->label[0], q->rank, red)], &n) || n < 1 || n > MOST) return false;
    for (int d = 0; d < v->rank; d++)
        if (find(b->label[p], w->rank, b->label[!p][d]) < 0) return dim_is_const(g->c, v->dim[d], &n) && n > 0 && n <= MOST;
    return false;
}

/* Few queries of few heads, and many keys: the group would be fewer blocks than a GPU has multiprocessors, each with all keys of a head. The
 * products and the softmax by themselves share the keys among blocks. A size without a bound counts as its least, that of the keys as many. */
static bool few_queries(Graph *g, const PassCtx *pc, const Node *n, int axis) {
    enum { FEW = 16, MANY = 512, MULTIPROCESSORS = 132 };
    const ContractAttr *a = n->attr;
    const Type *out = val_type(g, n->out[0]);
    uint8_t t = a->label[2][axis];
    double rows = 1, batches = 1;
    if (!pc->target || pc->target->flags & F_SIMD) return false;
    int r0 = val_type(g, n->in[0])->rank, r1 = val_type(g, n->in[1])->rank, k = find(a->label[0], r0, t) >= 0 ? 0 : 1;
    for (int d = 0; d < out->rank; d++) {
        bool shared = find(a->label[k], k ? r1 : r0, a->label[2][d]) >= 0;
        int64_t most = dim_hi(g->c, out->dim[d]), least = dim_lo(g->c, out->dim[d]);
        if (d == axis) continue;
        if (shared) batches *= most < DIM_INF ? (double)most : least > 1 ? (double)least : 1;
        else rows *= (double)most;
    }
    return rows <= FEW && batches < MULTIPROCESSORS && dim_hi(g->c, out->dim[axis]) > MANY;
}

/* ---- wrapping ---- */

static bool read_elsewhere(Cone *k, const Node *last) {
    for (int i = 0; i < k->ninside; i++) {
        Val v = k->inside[i]->out[0];
        if (!follows(k, v, 0)) continue;
        uint32_t n = 0;
        for (int j = 0; j <= k->ninside; j++) {
            const Node *u = j < k->ninside ? k->inside[j] : last;
            for (int o = 0; o < u->nin; o++) n += graph_resolve(k->g, u->in[o]).i == v.i;
        }
        if (n != k->uses[v.i]) return true;
    }
    return false;
}

typedef struct Renumber {
    Val in[MAX_LEAVES];
    int8_t to[MAX_LEAVES];
    int n;
    Cone *k;
    bool bad;
} Renumber;

static Expr renumber(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    Renumber *r = data;
    (void)e;
    if (i->kind != E_ARG && i->kind != E_LOAD) return expr_rebuild(c, i, arg);
    Val v = r->k->leaf[i->index];
    if (r->to[i->index] < 0) {
        if (v.i != r->k->score.i && follows(r->k, v, 0)) r->bad = true;
        r->to[i->index] = (int8_t)r->n;
        r->in[r->n++] = v;
    }
    uint32_t to = (uint32_t)r->to[i->index];
    if (i->kind == E_ARG && v.i == r->k->score.i) return expr_cast(c, expr_arg(c, to, DT_F32), (DType)i->dtype); /* it is in f32 inside */
    if (i->kind == E_ARG) return expr_arg(c, to, (DType)i->dtype);
    if (v.i == r->k->score.i) r->bad = true; /* reads other scores than its own */
    return expr_load(c, to, (DType)i->dtype, i->narg - (i->oob == OOB_VALUE), arg, (Oob)i->oob,
                     i->oob == OOB_VALUE ? arg[i->narg - 1] : (Expr){0}, i->guard);
}

static Val node1(Graph *g, PrimOp op, int nin, const Val *in, Type t, const void *attr, Loc loc) {
    return graph_node(g, op, nin, in, 1, &t, attr, loc)->out[0];
}

static Val map1(Graph *g, const Type *dom, Expr body, int nin, const Val *in, Loc loc) {
    MapAttr *a = NEW(g->c, MapAttr);
    *a = (MapAttr){.rank = dom->rank, .dim = dom->dim, .body = ctx_dup(g->c, &body, sizeof body)};
    return node1(g, P_MAP, nin, in,
                 type_tensor(g->c, (DType)expr_info(g->c, body)->dtype, dom->rank, dom->dim), a,
                 loc);
}

static Val keep_reduce(Graph *g, const Type *dom, const Node *n, int axis, Val x) {
    ReduceAttr *a = ctx_dup(g->c, n->attr, sizeof *a);
    Dim dim[MAX_RANK];
    memcpy(dim, dom->dim, dom->rank * sizeof *dim);
    dim[axis] = dim_const(g->c, 1);
    a->keep = true;
    return node1(g, P_REDUCE, 1, &x, type_tensor(g->c, DT_F32, dom->rank, dim), a, n->loc);
}

static Val cast(Graph *g, Val v, DType to, Loc loc) {
    const Type t = *val_type(g, v);
    return t.dtype == to ? v : map1(g, &t, expr_cast(g->c, expr_arg(g->c, 0, (DType)t.dtype), to), 1, &v, loc);
}

/* The contraction, all of it in f32. */
static Val contract_f32(Graph *g, const Node *n, const Val *in, const Type *out) {
    ContractAttr *a = ctx_dup(g->c, n->attr, sizeof *a);
    Val x[2] = {cast(g, in[0], DT_F32, n->loc), cast(g, in[1], DT_F32, n->loc)};
    a->out = DT_F32;
    return node1(g, P_CONTRACT, 2, x, type_tensor(g->c, DT_F32, out->rank, out->dim), a, n->loc);
}

static bool wrap(Cone *k, const Softmax *s, Node *scores, Node *last, int p) {
    Ctx *c = k->c;
    Graph *g = k->g, *b = graph_new(c, "Attention", g);
    Renumber r = {.k = k};
    memset(r.to, -1, sizeof r.to);
    Expr x = expr_rewrite(c, s->x, renumber, &r);
    Val operand[3 + MAX_LEAVES] = {scores->in[0], scores->in[1], last->in[!p]}, in[3 + MAX_LEAVES],
                    leafs[MAX_LEAVES];
    int n = 3;
    bool reads = false;
    for (int i = 0; i < r.n; i++) {
        if (r.in[i].i == k->score.i)
            reads = true;
        else
            operand[n++] = r.in[i];
    }
    if (r.bad || !reads) return false;
    for (int i = 0; i < n; i++)
        in[i] = graph_input(b, val_info(g, operand[i])->name, *val_type(g, operand[i]));
    Val score = contract_f32(b, scores, in, k->dom);
    for (int i = 0, j = 3; i < r.n; i++) leafs[i] = r.in[i].i == k->score.i ? score : in[j++];
    Expr a0 = expr_arg(c, 0, DT_F32), a1 = expr_arg(c, 1, DT_F32), none = {0};
    Val xv = expr_info(c, x)->kind == E_ARG ? score : map1(b, k->dom, x, r.n, leafs, scores->loc);
    Val pair[2] = {xv, keep_reduce(b, k->dom, s->max, s->axis, xv)};
    pair[0] = map1(b, k->dom, expr_op(c, S_EXP, expr_op(c, S_SUB, a0, a1, none), none, none), 2,
                   pair, s->max->loc);
    pair[1] = keep_reduce(b, k->dom, s->sum, s->axis, pair[0]);
    Expr div = expr_op(c, S_DIV, a0, a1, none);
    if (s->zero_nan)
        div = expr_op(c, S_SELECT, expr_op(c, S_ISNAN, div, none, none), expr_float(c, DT_F32, 0),
                      div);
    Val pv[2];
    pv[p] = map1(b, k->dom, div, 2, pair, s->sum->loc);
    pv[!p] = in[2];
    const Type *result = val_type(g, last->out[0]);
    graph_output(b, NULL, cast(b, contract_f32(b, last, pv, result), (DType)result->dtype, last->loc));
    B at = builder(g, last->loc);
    Val out;
    b_group(&at, "Attention", b, n, operand, &out);
    if (!out.i) return false;
    graph_replace(g, last->out[0], out);
    return true;
}

/* Contractions that v follows from through maps over the domain and reductions. */
static int roots(Cone *k, Val v, int depth, Node **out, int n) {
    v = graph_resolve(k->g, v);
    Node *d = val_def(k->g, v);
    if (!d || depth > MAX_DEPTH || n == MAX_ROOTS || v.i >= k->room || k->seen[v.i] == k->stamp)
        return n;
    k->seen[v.i] = k->stamp;
    if (k->visits++ >= MAX_VISITS) return n;
    const Type *t = val_type(k->g, v);
    if (d->op == P_CONTRACT && is_domain(k, t->rank, t->dim))
        out[n++] = d;
    else if (over_domain(k, d) || d->op == P_REDUCE || d->op == P_RESHAPE)
        for (int i = 0; i < d->nin; i++)
            if (d->in[i].i) n = roots(k, d->in[i], depth + 1, out, n);
    return n;
}

/* Weights before they were rounded to 16 bits or tf32. */
static Expr unrounded(Ctx *c, Expr p) {
    const ExprInfo *i = expr_info(c, p);
    bool rounds = i->kind == E_CAST && dt_is_half((DType)i->dtype) && expr_info(c, i->arg[0])->dtype == DT_F32;
    if (i->kind == E_OP && i->op == S_SELECT && i->dtype == DT_F32) {
        Expr x = i->arg[1];
        return expr_to_tf32(c, x).i == p.i ? x : p;
    }
    return rounds ? i->arg[0] : p;
}

static bool try_wrap(Cone *k, Node *last, PassCtx *pc) {
    if (!f32_contract(k->g, pc, last)) return false;
    k->visits = 0;
    for (int p = 0; p < 2; p++) {
        Node *root[MAX_ROOTS];
        k->dom = val_type(k->g, last->in[p]);
        k->stamp++;
        int n = roots(k, last->in[p], 0, root, 0);
        for (int i = 0; i < n; i++) {
            Softmax s;
            k->stamp++;
            k->nleaf = k->ninside = 0;
            k->failed = false;
            k->score = root[i]->out[0];
            enter(k, root[i]);
            Expr e = unrounded(k->c, compose(k, last->in[p], 0));
            if (k->failed || !softmax_of(k, e, &s) || k->failed) continue;
            if (!scores_fit(k->g, pc, root[i], s.axis) || !values_fit(k->g, last, p, s.axis) ||
                !short_rows(k->g, pc, root[i], last, p) || few_queries(k->g, pc, root[i], s.axis) || read_elsewhere(k, last))
                continue;
            if (!pass_allow(pc)) return false;
            if (wrap(k, &s, root[i], last, p)) return true;
        }
    }
    return false;
}

bool pass_attention(Graph *g, PassCtx *p) {
    graph_tidy(g);
    uint32_t n = g->node.n, room = g->val.n;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    Cone k = {.g = g,
              .c = g->c,
              .uses = graph_uses(g),
              .room = room,
              .seen = NEWN(g->c, uint32_t, room),
              .expr = NEWN(g->c, Expr, room),
              .asked = NEWN(g->c, uint32_t, room)};
    bool changed = false;
    for (uint32_t i = 0; i < n; i++)
        if (node[i]->op == P_CONTRACT) changed |= try_wrap(&k, node[i], p);
    if (changed) graph_tidy(g);
    return changed;
}
