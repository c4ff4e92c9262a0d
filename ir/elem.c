/* elem.c: the elements of small integer tensors as dims, so that computations on shapes end while they are built.
 *
 * In: a node to be made. Out: the elements of its result as dims, if all of them follow from known elements of its
 * operands. Shape -> Gather -> Unsqueeze -> Concat -> Reshape thus gives a reshape with symbolic dims. Arithmetic on
 * symbols assumes that sizes fit their element type (a size of 2^31 in an i32), and that no size that divides its multiple is 0; on
 * constants it wraps as scalars do. */
#include "graph_internal.h"
#include <string.h>

typedef struct El {
    Graph *g;
    Ctx *c;
    int nin, nout;
    const Val *in;
    const void *attr;
    const Type *t;              /* result */
    int64_t dim[MAX_RANK], count;
    const Dim *src;             /* operand 0: elements, dims */
    const Type *st;
    int64_t sdim[MAX_RANK], scount;
    int fuel;                   /* steps left: bodies are DAGs, walked as trees */
    ElemNeeds *needs;           /* what else must hold; NULL: nothing */
} El;

#define UNKNOWN ((Dim){0})
enum { BIG = 1 << 30 };         /* constants beyond this are limits ("to the end"), not sizes */

bool elem_dtype(DType t) { return t == DT_I32 || t == DT_I64 || t == DT_BOOL; }

bool elem_count(Ctx *c, const Type *t, int64_t *dim, int64_t *n) {
    if (t->kind != TY_TENSOR) return false;
    int64_t count = 1;
    for (int d = 0; d < t->rank; d++) {
        if (!t->dim[d].i || !dim_is_const(c, t->dim[d], &dim[d]) || dim[d] < 0 || dim[d] > MAX_ELEMS) return false;
        count *= dim[d];
        if (count > MAX_ELEMS) return false;
    }
    *n = count;
    return true;
}

/* ==== arithmetic ================================================================================================== */

static bool small(const Ctx *c, Dim d) {
    int64_t v;
    return !dim_is_const(c, d, &v) || (v > -BIG && v < BIG);
}

static Dim to_bool(Ctx *c, Dim x) {
    int64_t v;
    if (dim_is_const(c, x, &v)) return dim_const(c, v != 0);
    return dim_lo(c, x) > 0 || dim_hi(c, x) < 0 ? dim_const(c, 1)
                                                 : dim_select(c, dim_eqv(c, x, dim_const(c, 0)), dim_const(c, 0), dim_const(c, 1));
}

static Dim flip(Ctx *c, Dim x) { return dim_sub(c, dim_const(c, 1), x); }

/* Is a a multiple of the size b whatever its symbols are, as all anchors are of all positions? */
static bool multiple(Ctx *c, Dim a, Dim b, bool ok) {
    int64_t v;
    return ok && !dim_is_const(c, b, &v) && dim_lo(c, b) >= 0 && dim_is(c, dim_mod(c, a, b), 0);
}

/* A scalar operation on integers or bools of which at least one is not constant. */
static Dim symbolic(Ctx *c, SOp op, DType t, const Dim *x) {
    Dim a = x[0], b = x[1];
    bool ok = small(c, a) && (!b.i || small(c, b)), two = b.i != 0;
    bool ratio = two && ok && dim_lo(c, b) > 0;
    bool positive = ok && dim_is(c, dim_lt(c, a, dim_const(c, 0)), 0); /* by its range, or by what guards say */
    bool near = ratio && dim_lo(c, a) > -dim_lo(c, b); /* a negative a is less than b: the quotient is 0, as of (n - 1) / 2 */
    switch (op) {
    case S_ADD: return ok ? dim_add(c, a, b) : UNKNOWN;
    case S_SUB: return ok ? dim_sub(c, a, b) : UNKNOWN;
    case S_MUL: return ok ? dim_mul(c, a, b) : UNKNOWN;
    case S_FDIV: return ratio || multiple(c, a, b, ok && two) ? dim_floordiv(c, a, b) : UNKNOWN;
    case S_MOD: return ratio ? dim_mod(c, a, b) : UNKNOWN;
    case S_DIV: {
        int64_t by;
        bool exact = ratio && dim_is_const(c, b, &by) && dim_divisible(c, a, by);
        if (multiple(c, a, b, ok && two) || (ratio && (positive || exact))) return dim_floordiv(c, a, b);
        if (ratio && near) return dim_floordiv(c, dim_max(c, a, dim_const(c, 0)), b);
        /* A guard that comes later may say that a is not negative: then this becomes the one quotient. */
        if (!ratio || !dim_is_const(c, b, NULL)) return UNKNOWN;
        Dim negative = dim_lt(c, a, dim_const(c, 0)), up = dim_ceildiv(c, a, b), down = dim_floordiv(c, a, b);
        return dim_select(c, negative, up, down);
    }
    case S_REM: return ratio && positive ? dim_mod(c, a, b) : UNKNOWN;
    case S_MIN: return dim_is(c, a, INT64_MAX) ? b : dim_is(c, b, INT64_MAX) ? a : dim_min(c, a, b);
    case S_MAX: return dim_is(c, a, INT64_MIN) ? b : dim_is(c, b, INT64_MIN) ? a : dim_max(c, a, b);
    case S_NEG: return ok ? dim_muli(c, a, -1) : UNKNOWN;
    case S_ABS: return positive ? a : ok ? dim_max(c, a, dim_muli(c, a, -1)) : UNKNOWN;
    case S_EQ: return dim_eqv(c, a, b);
    case S_NE: return flip(c, dim_eqv(c, a, b));
    case S_LT: return dim_lt(c, a, b);
    case S_GE: return flip(c, dim_lt(c, a, b));
    case S_GT: return dim_lt(c, b, a);
    case S_LE: return flip(c, dim_lt(c, b, a));
    case S_AND: return t == DT_BOOL ? dim_min(c, a, b) : UNKNOWN;
    case S_OR: return t == DT_BOOL ? dim_max(c, a, b) : UNKNOWN;
    case S_NOT: return t == DT_BOOL ? flip(c, a) : UNKNOWN;
    case S_SELECT: return dim_select(c, a, b, x[2]);
    default: return UNKNOWN;
    }
}

static Dim apply(Ctx *c, const ExprInfo *i, const Dim *x) {
    Scalar s[3];
    DType at = (DType)expr_info(c, i->arg[i->op == S_SELECT ? 1 : 0])->dtype;
    bool constant = true;
    for (unsigned k = 0; k < i->narg; k++) {
        int64_t v = 0;
        constant &= dim_is_const(c, x[k], &v);
        s[k] = (Scalar){.t = (DType)expr_info(c, i->arg[k])->dtype, .i = v};
    }
    if (!constant) return symbolic(c, (SOp)i->op, at, x);
    if (i->op == S_SELECT) return s[0].i ? x[1] : x[2];
    bool test = i->dtype == DT_BOOL;
    return dim_const(c, expr_eval_op((SOp)i->op, test ? at : (DType)i->dtype, s).i);
}

static Dim convert(Ctx *c, Dim x, DType from, DType to) {
    int64_t v;
    if (from == to) return x;
    if (!elem_dtype(to) || !elem_dtype(from)) return UNKNOWN;
    if (to == DT_BOOL) return to_bool(c, x);
    if (!dim_is_const(c, x, &v)) return x;
    return dim_const(c, dt_convert((Scalar){.t = from, .i = v}, to).i);
}

/* ==== sizes in floats =============================================================================================
 *
 * Exporters round quotients of sizes by way of floats: i64(ceil(f32(t) / 3 + 1)). That is the quotient of integers as long as no rounding on the
 * way reaches an integer. A value n/d differs from all integers but itself by 1/d or more, and each operation rounds it by less than 2^-24 of its
 * size: so r roundings change nothing if r * |n| < 2^24 for the greatest n on the way. Up to there numbers with a power of two as d are exact. */

typedef struct Ratio {
    Dim n;                      /* n / d, of one float; UNKNOWN: something else */
    int64_t d, rounds, more;    /* roundings so far; by how much |n| was greater on the way, at most */
    bool single;                /* f32, where it is not known */
} Ratio;

typedef struct Point { const int64_t *at; const Dim *arg; int narg; } Point; /* coordinates; values of E_ARG */

enum { MOST_TERM = 1 << 16 };
#define NO_RATIO ((Ratio){0})

static Dim value(El *e, Expr x, const Point *p);
static Ratio ratio(El *e, Expr x, const Point *p);

/* Nothing on the way to r reached an integer that it is not: known, or to be checked when the model runs. */
static bool holds(El *e, const Ratio *r) {
    int64_t most = (((int64_t)1 << (r->single ? 24 : 53)) - 1) / (r->rounds ? r->rounds : 1) - r->more;
    if (!r->n.i || most < 1 || dim_lo(e->c, r->n) < -most || dim_lo(e->c, r->n) > most) return false;
    if (dim_hi(e->c, r->n) <= most) return true;
    for (int k = 0; e->needs && k < e->needs->n; k++) {
        if (!dim_same(e->c, e->needs->dim[k], r->n)) continue;
        if (most < e->needs->most[k]) e->needs->most[k] = most;
        return true;
    }
    if (!e->needs || e->needs->n == MAX_NEEDS) return false;
    e->needs->dim[e->needs->n] = r->n;
    e->needs->most[e->needs->n++] = most;
    return true;
}

static bool exact(const Ratio *r) { return !(r->d & (r->d - 1)); }

static Ratio ratio_of_const(Ctx *c, double v) {
    int64_t d = 1;
    if (!(v >= -MOST_TERM && v <= MOST_TERM)) return NO_RATIO;
    while (d < 64 && v * (double)d != (double)(int64_t)(v * (double)d)) d *= 2;
    double n = v * (double)d;
    return n == (double)(int64_t)n ? (Ratio){.n = dim_const(c, (int64_t)n), .d = d} : NO_RATIO;
}

static Ratio sum(El *e, Ratio a, Ratio b, int sign) {
    Ctx *c = e->c;
    int64_t v, d = a.d > b.d ? a.d : b.d;
    if (sign > 0 && dim_is_const(c, a.n, NULL)) {
        Ratio t = a;
        a = b;
        b = t;
    }
    Ratio r = {.d = d, .rounds = a.rounds, .more = a.more, .single = a.single || b.single};
    if (!exact(&b) || !small(c, a.n) || !small(c, b.n)) return NO_RATIO;
    if (dim_is_const(c, b.n, &v)) {
        if (!exact(&a) && b.d != 1) return NO_RATIO; /* only integers go to what was rounded */
        r.d = exact(&a) ? d : a.d;
        r.rounds += !exact(&a);
        r.more = a.more * (r.d / a.d) + (v < 0 ? -v : v) * (r.d / b.d);
    } else if (!exact(&a) || !holds(e, &a) || !holds(e, &b)) {
        return NO_RATIO;
    }
    r.n = dim_add(c, dim_muli(c, a.n, r.d / a.d), dim_muli(c, b.n, sign * (r.d / b.d)));
    return r;
}

static Ratio product(Ctx *c, Ratio a, Ratio b) {
    if (!exact(&a) || !exact(&b) || a.d > MOST_TERM / b.d || !small(c, a.n) || !small(c, b.n)) return NO_RATIO;
    return (Ratio){.n = dim_mul(c, a.n, b.n), .d = a.d * b.d, .more = a.more + b.more, .single = a.single || b.single};
}

static Ratio quotient(Ctx *c, Ratio a, Ratio b) {
    int64_t by;
    if (!exact(&a) || b.d != 1 || !dim_is_const(c, b.n, &by) || by < 1 || a.d > MOST_TERM / by) return NO_RATIO;
    a.d *= by;
    a.rounds = !exact(&a);
    a.single |= b.single;
    return a;
}

/* The operand of a map, if it is one number that maps compute. */
static Ratio ratio_of_value(El *e, Val v) {
    const Type *t = val_type(e->g, v);
    Scalar s;
    if (val_scalar(e->g, v, &s)) return dt_is_float(s.t) ? ratio_of_const(e->c, s.f) : NO_RATIO;
    Node *n = val_def(e->g, v);
    if (--e->fuel < 0 || !n || n->nout != 1 || !dim_is(e->c, type_count(e->c, t), 1)) return NO_RATIO;
    if (n->op == P_RESHAPE || n->op == P_COPY) return ratio_of_value(e, n->in[0]);
    if (n->op != P_MAP || n->nin > 16) return NO_RATIO;
    El in = *e;
    const int64_t at[MAX_RANK] = {0};
    Dim arg[16];
    in.nin = n->nin;
    in.in = n->in;
    in.t = t;
    for (int k = 0; k < n->nin; k++) {
        const Dim *x = val_elems(e->g, n->in[k], NULL);
        arg[k] = x && dim_is(e->c, type_count(e->c, val_type(e->g, n->in[k])), 1) ? x[0] : UNKNOWN;
    }
    Ratio r = ratio(&in, ((const MapAttr *)n->attr)->body[0], &(Point){at, arg, n->nin});
    e->fuel = in.fuel;
    return r;
}

static Ratio ratio_op(El *e, const ExprInfo *i, const Point *p) {
    if (i->narg > 2) return NO_RATIO;
    Ratio a = ratio(e, i->arg[0], p), b = a.n.i && i->narg == 2 ? ratio(e, i->arg[1], p) : a;
    if (!a.n.i || !b.n.i) return NO_RATIO;
    switch ((SOp)i->op) {
    case S_ADD: return sum(e, a, b, 1);
    case S_SUB: return sum(e, a, b, -1);
    case S_MUL: return product(e->c, a, b);
    case S_DIV: return quotient(e->c, a, b);
    case S_FLOOR: return holds(e, &a) ? (Ratio){.n = dim_floordiv(e->c, a.n, dim_const(e->c, a.d)), .d = 1, .single = a.single} : NO_RATIO;
    case S_CEIL: return holds(e, &a) ? (Ratio){.n = dim_ceildiv(e->c, a.n, dim_const(e->c, a.d)), .d = 1, .single = a.single} : NO_RATIO;
    default: return NO_RATIO;
    }
}

static Ratio ratio(El *e, Expr x, const Point *p) {
    const ExprInfo *i = expr_info(e->c, x);
    if (--e->fuel < 0 || (i->dtype != DT_F32 && i->dtype != DT_F64)) return NO_RATIO;
    switch ((ExprKind)i->kind) {
    case E_CONST: return ratio_of_const(e->c, i->val.f);
    case E_ARG: return i->index < (uint32_t)e->nin ? ratio_of_value(e, e->in[i->index]) : NO_RATIO;
    case E_CAST: {
        DType from = (DType)expr_info(e->c, i->arg[0])->dtype;
        if (from == DT_F32) return ratio(e, i->arg[0], p);
        return (Ratio){.n = elem_dtype(from) ? value(e, i->arg[0], p) : UNKNOWN, .d = 1, .single = i->dtype == DT_F32};
    }
    case E_OP: return ratio_op(e, i, p);
    default: return NO_RATIO;
    }
}

/* A float as an integer: toward zero. */
static Dim whole(El *e, Expr x, const Point *p) {
    Ratio r = ratio(e, x, p);
    if (!holds(e, &r) || (r.d > 1 && dim_lo(e->c, r.n) < 0)) return UNKNOWN;
    return dim_floordiv(e->c, r.n, dim_const(e->c, r.d));
}

/* ==== scalar expressions ========================================================================================== */

static Dim load_elem(El *e, uint32_t k, const Dim *idx, int n) {
    int64_t dim[MAX_RANK], count, flat = 0, v;
    if (k >= (uint32_t)e->nin) return UNKNOWN;
    const Dim *x = val_elems(e->g, e->in[k], NULL);
    const Type *t = val_type(e->g, e->in[k]);
    if (!x || t->rank != n || !elem_count(e->c, t, dim, &count)) return UNKNOWN;
    for (int d = 0; d < n; d++) {
        if (!dim_is_const(e->c, idx[d], &v) || v < 0 || v >= dim[d]) return UNKNOWN;
        flat = flat * dim[d] + v;
    }
    return x[flat];
}

static Dim value(El *e, Expr x, const Point *p) {
    const ExprInfo *i = expr_info(e->c, x);
    Dim arg[MAX_RANK + 1] = {{0}};
    if (--e->fuel < 0) return UNKNOWN;
    bool integer = elem_dtype((DType)i->dtype);
    switch ((ExprKind)i->kind) {
    case E_CONST: return integer ? dim_const(e->c, i->val.i) : UNKNOWN;
    case E_ARG: return i->index < (uint32_t)p->narg ? p->arg[i->index] : UNKNOWN;
    case E_AXIS: return p->at && i->index < e->t->rank ? dim_const(e->c, p->at[i->index]) : UNKNOWN;
    case E_DIM: return (Dim){i->index};
    case E_CAST:
        if (!integer) return UNKNOWN;
        if (i->dtype == DT_I64 && dt_is_float((DType)expr_info(e->c, i->arg[0])->dtype)) return whole(e, i->arg[0], p);
        arg[0] = value(e, i->arg[0], p);
        return arg[0].i ? convert(e->c, arg[0], (DType)expr_info(e->c, i->arg[0])->dtype, (DType)i->dtype) : UNKNOWN;
    case E_OP:
    case E_LOAD: {
        unsigned n = i->kind == E_LOAD && i->oob == OOB_VALUE ? i->narg - 1u : i->narg;
        if (!integer || n > MAX_RANK || (i->kind == E_OP && n > 3)) return UNKNOWN;
        for (unsigned k = 0; k < n; k++) {
            arg[k] = value(e, i->arg[k], p);
            if (!arg[k].i) return UNKNOWN;
        }
        return i->kind == E_OP ? apply(e->c, i, arg) : load_elem(e, i->index, arg, (int)n);
    }
    default: return UNKNOWN;
    }
}

/* ==== one element of the result, per primitive ==================================================================== */

static Dim at_source(const El *e, const int64_t *at) {
    int64_t flat = 0;
    for (int d = 0; d < e->st->rank; d++) flat = flat * e->sdim[d] + at[d];
    return e->src[flat];
}

/* Element of operand k at the coordinates of a value it is broadcast to. */
static Dim broadcast_elem(El *e, Val v, const int64_t *at) {
    int64_t dim[MAX_RANK], n, flat = 0;
    const Dim *x = val_elems(e->g, v, NULL);
    const Type *t = val_type(e->g, v);
    if (!x || t->rank > e->t->rank || !elem_count(e->c, t, dim, &n)) return UNKNOWN; /* one that is only loaded from may have any rank */
    for (int d = 0; d < t->rank; d++) flat = flat * dim[d] + (dim[d] == 1 ? 0 : at[e->t->rank - t->rank + d]);
    return flat < n ? x[flat] : UNKNOWN;
}

static Dim el_map(El *e, const int64_t *at, int64_t flat) {
    (void)flat;
    const MapAttr *a = e->attr;
    Dim arg[16];
    if (e->nin > 16 || e->nout != 1) return UNKNOWN;
    for (int k = 0; k < e->nin; k++) arg[k] = broadcast_elem(e, e->in[k], at);
    return value(e, a->body[0], &(Point){at, arg, e->nin});
}

static Dim el_broadcast(El *e, const int64_t *at, int64_t flat) {
    (void)flat;
    return broadcast_elem(e, e->in[0], at);
}

static Dim el_same(El *e, const int64_t *at, int64_t flat) {
    (void)at;
    return e->scount == e->count ? e->src[flat] : UNKNOWN;
}

static Dim el_permute(El *e, const int64_t *at, int64_t flat) {
    (void)flat;
    const PermAttr *a = e->attr;
    int64_t from[MAX_RANK];
    for (int d = 0; d < e->t->rank; d++) from[a->perm[d]] = at[d];
    return at_source(e, from);
}

static Dim el_slice(El *e, const int64_t *at, int64_t flat) {
    (void)flat;
    const SliceAttr *a = e->attr;
    int64_t from[MAX_RANK], start;
    for (int d = 0; d < e->t->rank; d++) {
        if (!dim_is_const(e->c, a->start[d], &start)) return UNKNOWN;
        from[d] = start + at[d] * a->step[d];
        if (from[d] < 0 || from[d] >= e->sdim[d]) return UNKNOWN;
    }
    return at_source(e, from);
}

static Dim el_concat(El *e, const int64_t *at, int64_t flat) {
    (void)flat;
    int axis = ((const AxisAttr *)e->attr)->axis;
    int64_t from[MAX_RANK], dim[MAX_RANK], n, off = 0;
    for (int d = 0; d < e->t->rank; d++) from[d] = at[d];
    for (int k = 0; k < e->nin; k++) {
        const Type *t = val_type(e->g, e->in[k]);
        if (!elem_count(e->c, t, dim, &n)) return UNKNOWN;
        if (at[axis] >= off + dim[axis]) {
            off += dim[axis];
            continue;
        }
        const Dim *x = val_elems(e->g, e->in[k], NULL);
        from[axis] = at[axis] - off;
        int64_t pos = 0;
        for (int d = 0; d < t->rank; d++) pos = pos * dim[d] + from[d];
        return x ? x[pos] : UNKNOWN;
    }
    return UNKNOWN;
}

static Dim el_gather(El *e, const int64_t *at, int64_t flat) {
    (void)flat;
    int axis = ((const GatherAttr *)e->attr)->axis, n = 0;
    const Type *it = val_type(e->g, e->in[1]);
    int64_t from[MAX_RANK], idim[MAX_RANK], icount, pos = 0, i;
    const Dim *idx = val_elems(e->g, e->in[1], NULL);
    if (!idx || !elem_count(e->c, it, idim, &icount)) return UNKNOWN;
    for (int d = 0; d < axis; d++) from[d] = at[n++];
    for (int d = 0; d < it->rank; d++) pos = pos * idim[d] + at[n++];
    for (int d = axis + 1; d < e->st->rank; d++) from[d] = at[n++];
    if (!dim_is_const(e->c, idx[pos], &i)) return UNKNOWN;
    if (i < 0) i += e->sdim[axis];
    if (i < 0 || i >= e->sdim[axis]) return UNKNOWN;
    from[axis] = i;
    return at_source(e, from);
}

static Dim el_reduce(El *e, const int64_t *at, int64_t flat) {
    (void)flat;
    const ReduceAttr *a = e->attr;
    int64_t from[MAX_RANK];
    if (e->nin != 1 || !elem_dtype(a->acc[0])) return UNKNOWN;
    DType t = (DType)e->st->dtype;
    Dim arg[2] = {dim_const(e->c, a->init[0].i), UNKNOWN};
    for (int64_t k = 0; k < e->scount; k++) {
        int64_t rest = k;
        bool mine = true;
        for (int d = e->st->rank - 1; d >= 0; d--) {
            from[d] = rest % e->sdim[d];
            rest /= e->sdim[d];
        }
        for (int d = 0, o = 0; d < e->st->rank; d++) {
            bool gone = a->axes >> d & 1;
            if (!gone) mine &= from[d] == at[o];
            if (!gone || a->keep) o++;
        }
        if (!mine) continue;
        arg[1] = convert(e->c, e->src[k], t, a->acc[0]);
        if (!arg[1].i) return UNKNOWN;
        arg[0] = value(e, a->comb[0], &(Point){NULL, arg, 2});
        if (!arg[0].i) return UNKNOWN;
    }
    return convert(e->c, arg[0], a->acc[0], t);
}

typedef Dim (*ElemFn)(El *e, const int64_t *at, int64_t flat);
static const struct { ElemFn fn; bool from_first; /* needs the elements of operand 0 */ } rules[P_COUNT] = {
    [P_MAP] = {el_map, false},        [P_BROADCAST] = {el_broadcast, true}, [P_RESHAPE] = {el_same, true},
    [P_COPY] = {el_same, true},       [P_PERMUTE] = {el_permute, true},     [P_SLICE] = {el_slice, true},
    [P_CONCAT] = {el_concat, false},  [P_GATHER] = {el_gather, true},       [P_REDUCE] = {el_reduce, true},
};

/* ==== whole results =============================================================================================== */

static const Dim *const_elems(El *e) {
    const ConstData *d = ((const ConstAttr *)e->attr)->data;
    Dim *x = NEWN(e->c, Dim, e->count + 1);
    for (int64_t k = 0; k < e->count; k++) x[k] = dim_const(e->c, dt_load(d->dtype, d->data, d->splat ? 0 : k).i);
    return x;
}

/* The body's own symbols (bound inside) mean nothing outside. */
static const Dim *group_elems(El *e, int r) {
    Graph *body = ((const GroupAttr *)e->attr)->body;
    for (uint32_t k = 0; k < body->node.n; k++) {
        if (body->node.v[k]->op == P_BIND) return NULL;
    }
    return val_elems(body, body->out.v[r].val, NULL);
}

const Dim *elem_infer(Graph *g, PrimOp op, int nin, const Val *in, const void *attr, int nout, int r, const Type *t, ElemNeeds *needs) {
    El el = {.g = g, .c = g->c, .nin = nin, .nout = nout, .in = in, .attr = attr, .t = t, .fuel = 20000, .needs = needs}, *e = &el;
    if (!elem_dtype((DType)t->dtype) || !elem_count(g->c, t, e->dim, &e->count)) return NULL;
    if (op == P_CONST) return const_elems(e);
    if (op == P_SHAPE) return ((const ShapeAttr *)attr)->dim;
    if (op == P_GROUP) return group_elems(e, r);
    if (!rules[op].fn) return NULL;
    if (rules[op].from_first) {
        e->st = val_type(g, in[0]);
        e->src = val_elems(g, in[0], NULL);
        if (!e->src || !elem_count(g->c, e->st, e->sdim, &e->scount)) return NULL;
    }
    Dim *x = NEWN(g->c, Dim, e->count + 1);
    for (int64_t k = 0; k < e->count; k++) {
        int64_t at[MAX_RANK], rest = k;
        for (int d = t->rank - 1; d >= 0; d--) {
            at[d] = rest % e->dim[d];
            rest /= e->dim[d];
        }
        x[k] = rules[op].fn(e, at, k);
        if (!x[k].i) return NULL;
    }
    return x;
}
