/* quant_match.c: chains of maps as expressions, and the ones among them that convert 8-bit integers. */
#include "quant.h"

#include "simplify.h"

enum { DEPTH = 10 };

static bool is_byte(DType t) { return t == DT_U8 || t == DT_I8; }

static bool one_element(const Alg *a, Val v) {
    const Type *t = val_type(a->g, v);
    for (int d = 0; d < t->rank; d++) if (!dim_is(a->c, t->dim[d], 1)) return false;
    return true;
}

/* ---- chains of maps ---- */

static bool reads_bytes(const Alg *a, const Node *n) {
    for (int k = 0; k < n->nin; k++) if (is_byte((DType)val_type(a->g, n->in[k])->dtype)) return true;
    return false;
}

static Expr flatten(Alg *a, Flat *f, Val v, bool inner, int depth) {
    v = graph_resolve(a->g, v);
    Scalar s;
    if (val_scalar(a->g, v, &s)) return expr_const(a->c, s);
    const Node *n = val_def(a->g, v);
    DType t = (DType)val_type(a->g, v)->dtype;
    bool map = n && n->op == P_MAP && n->nout == 1 && depth < DEPTH && simp_pointwise(a->c, ((const MapAttr *)n->attr)->body[0]);
    if (map && (!is_byte(t) || depth == 0) && (inner || depth == 0 || alg_single(a, v) || reads_bytes(a, n))) {
        Expr *to = NEWN(a->c, Expr, n->nin + 1);
        for (int k = 0; k < n->nin; k++)
            if (!(to[k] = flatten(a, f, n->in[k], inner, depth + 1)).i) return (Expr){0};
        return expr_subst_args(a->c, ((const MapAttr *)n->attr)->body[0], to, (uint32_t)n->nin);
    }
    Val known = n && is_view(n) ? alg_const(a, v) : (Val){0}; /* a bias in its place */
    if (known.i) v = known;
    if (val_scalar(a->g, v, &s)) return expr_const(a->c, s);
    int k = 0;
    while (k < f->nin && f->in[k].i != v.i) k++;
    if (k == FLAT_IN) return (Expr){0};
    f->in[k] = v;
    if (k == f->nin) f->nin++;
    return expr_arg(a->c, (uint32_t)k, t);
}

bool flat_of(Alg *a, Val v, bool inner, Flat *f) {
    f->nin = 0;
    f->e = flatten(a, f, v, inner, 0);
    return f->e.i != 0;
}

typedef bool (*OperandFn)(const Alg *a, Val v);

static bool all_operands(const Alg *a, const Flat *f, Expr e, OperandFn fn) {
    const ExprInfo *i = expr_info(a->c, e);
    if (i->kind == E_ARG) return fn(a, f->in[i->index]);
    if (i->kind == E_AXIS || i->kind == E_LOAD) return false;
    for (int k = 0; k < i->narg; k++) if (!all_operands(a, f, i->arg[k], fn)) return false;
    return true;
}

static bool is_const(const Alg *a, Val v) { return val_const(a->g, v) != NULL; }

bool flat_const(const Alg *a, const Flat *f, Expr e) { return all_operands(a, f, e, is_const); }

void flat_used(const Alg *a, Expr e, bool *used) {
    const ExprInfo *i = expr_info(a->c, e);
    if (i->kind == E_ARG) used[i->index] = true;
    for (int k = 0; k < i->narg; k++) flat_used(a, i->arg[k], used);
}

static Val computed(Alg *a, const Flat *f, Expr e, bool scalar) {
    const ExprInfo i = *expr_info(a->c, e);
    bool used[FLAT_IN] = {0};
    Expr to[FLAT_IN] = {{0}};
    Val in[FLAT_IN];
    int nin = 0;
    if (i.kind == E_CONST) return b_scalar(&a->b, i.val);
    flat_used(a, e, used);
    for (int k = 0; k < f->nin; k++) {
        if (!used[k]) continue;
        to[k] = expr_arg(a->c, (uint32_t)nin, (DType)val_type(a->g, f->in[k])->dtype);
        in[nin++] = scalar ? b_reshape(&a->b, f->in[k], 0, NULL) : f->in[k];
    }
    if (i.kind == E_ARG) return in[0];
    return b_map1(&a->b, expr_subst_args(a->c, e, to, (uint32_t)f->nin), nin, in);
}

Val flat_value(Alg *a, const Flat *f, Expr e) { return flat_const(a, f, e) ? alg_const(a, computed(a, f, e, false)) : (Val){0}; }

Val flat_scalar(Alg *a, const Flat *f, Expr e) {
    if (!all_operands(a, f, e, one_element)) return (Val){0};
    Val v = computed(a, f, e, true);
    return flat_const(a, f, e) ? alg_const(a, v) : v;
}

/* ---- dequantisation ---- */

/* What is matched: t is the type of the chain's result, whose shape the 8-bit values have. */
typedef struct Match { Alg *a; Dequant *d; const Type *t; } Match;

static bool is_data(const Match *m, uint32_t k) {
    const Type *q = val_type(m->a->g, m->d->f.in[k]);
    return is_byte((DType)q->dtype) && q->rank == m->t->rank && simp_same_dims(m->a->c, q->rank, q->dim, m->t->dim);
}

static bool reads_data(const Match *m, Expr e) {
    const ExprInfo *i = expr_info(m->a->c, e);
    if (i->kind == E_ARG) return is_data(m, i->index);
    for (int k = 0; k < i->narg; k++) if (reads_data(m, i->arg[k])) return true;
    return false;
}

/* The 8-bit values, converted to i32 or to a float: their operand, or -1. */
static int data_operand(const Match *m, Expr e) {
    const ExprInfo *i = expr_info(m->a->c, e);
    while (i->kind == E_CAST && (i->dtype == DT_I32 || dt_is_float(i->dtype))) i = expr_info(m->a->c, i->arg[0]);
    return i->kind == E_ARG && is_data(m, i->index) ? (int)i->index : -1;
}

/* Scales and zero points: constants, or computed from operands of one element. */
static bool is_parameter(const Match *m, Expr e) {
    return !reads_data(m, e) && (flat_const(m->a, &m->d->f, e) || all_operands(m->a, &m->d->f, e, one_element));
}

static bool difference(const Match *m, Expr e) { /* q or q - zero, in i32 or in floats */
    Ctx *c = m->a->c;
    const ExprInfo i = *expr_info(c, e);
    int data = data_operand(m, e);
    if (data < 0 && i.kind == E_CAST && dt_is_float(i.dtype) && expr_info(c, i.arg[0])->dtype == DT_I32) return difference(m, i.arg[0]);
    if (data < 0) {
        if (i.kind != E_OP || (i.op != S_SUB && i.op != S_ADD) || (data = data_operand(m, i.arg[0])) < 0 || !is_parameter(m, i.arg[1])) return false;
        Expr zero = i.op == S_ADD ? expr_op(c, S_NEG, i.arg[1], (Expr){0}, (Expr){0}) : i.arg[1];
        const ExprInfo z = *expr_info(c, zero);
        bool whole = z.kind == E_CONST && (!dt_is_float(z.dtype) || z.val.f == (double)(int32_t)z.val.f);
        bool converted = z.kind == E_CAST && is_byte(expr_info(c, z.arg[0])->dtype);
        if (dt_is_float(z.dtype) && !whole && !converted) return false;
        m->d->zero = expr_cast(c, converted ? z.arg[0] : zero, DT_I32);
    }
    m->d->q = m->d->f.in[data];
    return true;
}

static bool matches(const Match *m) {
    Ctx *c = m->a->c;
    Expr e = m->d->f.e, *scale = &m->d->scale;
    for (ExprInfo i = *expr_info(c, e); i.kind == E_OP && i.op == S_MUL && dt_is_float(i.dtype); i = *expr_info(c, e)) {
        bool left = is_parameter(m, i.arg[0]);
        if (!left && !is_parameter(m, i.arg[1])) return false;
        *scale = scale->i ? expr_op(c, S_MUL, *scale, i.arg[!left], (Expr){0}) : i.arg[!left];
        e = i.arg[left];
    }
    return difference(m, e);
}

bool dequant_of(Alg *a, Val v, Dequant *d) {
    d->nview = 0;
    d->zero = d->scale = (Expr){0};
    v = graph_resolve(a->g, v);
    for (const Node *n = val_def(a->g, v); n && is_view(n) && !is_byte((DType)val_type(a->g, v)->dtype); n = val_def(a->g, v)) {
        if (d->nview == QUANT_VIEWS) return false;
        d->view[d->nview++] = n;
        v = graph_resolve(a->g, n->in[0]);
    }
    if (is_byte((DType)val_type(a->g, v)->dtype)) {
        d->f = (Flat){.e = expr_arg(a->c, 0, (DType)val_type(a->g, v)->dtype), .in = {v}, .nin = 1};
        d->q = v;
        return true;
    }
    Match m = {a, d, val_type(a->g, v)};
    return flat_of(a, v, true, &d->f) && matches(&m);
}
