/* quant_scale.c: what lies between sums of 8-bit products and the next quantisation. In: map round(f(..) / s) + z to u8 or i8,
 * f a chain of maps (bias, residual, activation) over sums that quant.c made and over 8-bit values. Out: one map in which every
 * term costs one fused multiplication and addition, f32(q) * m + c, with 1 / s in the constants m and c, for all terms below
 * additions and, as s > 0, below max and min. m and c are computed in f64 and rounded once; most of c joins a sum q as an integer. */
#include "quant.h"

#include "simplify.h"

enum { DEPTH = 24, TERMS = 8 };

typedef struct Scaling { Alg *a; Flat f; const bool *product; bool full; } Scaling;

/* A sum of terms times constants, and a constant; constants are f64 until the end. */
typedef struct Terms { Expr e[TERMS], k[TERMS], c; int n; } Terms;

static const Expr none = {0};

static Expr op2(const Scaling *s, SOp op, Expr x, Expr y) { return expr_op(s->a->c, op, x, y, none); }
static Expr f64(const Scaling *s, double v) { return expr_float(s->a->c, DT_F64, v); }
static Expr in_f64(const Scaling *s, Expr e) { return expr_cast(s->a->c, e, DT_F64); }
static Expr in_f32(const Scaling *s, Expr e) { return e.i ? expr_cast(s->a->c, e, DT_F32) : e; }
static bool is_const(const Scaling *s, Expr e) { return flat_const(s->a, &s->f, e); }
static Expr sum(const Scaling *s, Expr x, Expr y) { return x.i && y.i ? op2(s, S_ADD, x, y) : x.i ? x : y; }

static bool is_number(const Scaling *s, Expr e, double v) {
    const ExprInfo *i = expr_info(s->a->c, e);
    return i->kind == E_CONST && dt_is_float(i->val.t) && i->val.f == v;
}

static bool is_positive(const Scaling *s, Expr e) {
    const ExprInfo *i = expr_info(s->a->c, e);
    return i->kind == E_CONST && i->val.f > 0;
}

static bool is_limit(const ExprInfo *i) { return i->kind == E_OP && (i->op == S_MAX || i->op == S_MIN); }

static Expr product(const Scaling *s, Expr x, Expr y) {
    return is_number(s, x, 1) ? y : is_number(s, y, 1) ? x : op2(s, S_MUL, x, y);
}

static Expr scaled(Scaling *s, Expr e, Expr k, Expr c, int depth);

static void add_term(Scaling *s, Terms *t, Expr e, Expr k) {
    if (t->n == TERMS) {
        s->full = true;
        return;
    }
    t->e[t->n] = e;
    t->k[t->n++] = k;
}

/* Adds e * k to the terms; k is constant. */
static void collect(Scaling *s, Terms *t, Expr e, Expr k, int depth) {
    Ctx *c = s->a->c;
    const ExprInfo i = *expr_info(c, e);
    if (is_const(s, e)) {
        t->c = sum(s, t->c, product(s, k, in_f64(s, e)));
        return;
    }
    Expr l = i.narg ? i.arg[0] : none, r = i.narg > 1 ? i.arg[1] : none;
    bool left = l.i && is_const(s, l), right = r.i && is_const(s, r);
    const ExprInfo li = l.i ? *expr_info(c, l) : i;
    if (depth == DEPTH) {
        add_term(s, t, e, k);
    } else if (i.kind == E_CAST && li.dtype == DT_I32 && li.kind == E_CAST && dt_bits(expr_info(c, li.arg[0])->dtype) == 8) {
        add_term(s, t, expr_cast(c, li.arg[0], DT_F32), k);
    } else if (i.kind == E_CAST && li.dtype == DT_I32 && li.kind == E_OP && (li.op == S_ADD || li.op == S_SUB)) {
        collect(s, t, expr_cast(c, li.arg[0], DT_F32), k, depth + 1);
        collect(s, t, expr_cast(c, li.arg[1], DT_F32), li.op == S_SUB ? expr_op(c, S_NEG, k, none, none) : k, depth + 1);
    } else if (i.kind == E_OP && (i.op == S_ADD || i.op == S_SUB)) {
        collect(s, t, l, k, depth + 1);
        collect(s, t, r, i.op == S_SUB ? expr_op(c, S_NEG, k, none, none) : k, depth + 1);
    } else if (i.kind == E_OP && i.op == S_NEG) {
        collect(s, t, l, expr_op(c, S_NEG, k, none, none), depth + 1);
    } else if (i.kind == E_OP && i.op == S_MUL && (left || right)) {
        collect(s, t, left ? r : l, product(s, k, in_f64(s, left ? l : r)), depth + 1);
    } else if (i.kind == E_OP && i.op == S_DIV && right) {
        collect(s, t, l, op2(s, S_DIV, k, in_f64(s, r)), depth + 1);
    } else if (is_limit(&i) && is_positive(s, k)) {
        add_term(s, t, scaled(s, e, k, none, depth + 1), f64(s, 1));
    } else {
        add_term(s, t, e, k);
    }
}

static bool is_product(const Scaling *s, uint32_t operand) {
    Val v = s->f.in[operand];
    return v.i < s->a->nval && s->product[v.i];
}

/* Whole multiples of k in the constant are added to the sum of products that k scales: what cancels there leaves no error. Such a
 * sum is below 2^30. */
static void into_sum(Scaling *s, Terms *t) {
    const double most = 1 << 29;
    Ctx *c = s->a->c;
    for (int n = 0; n < t->n; n++) {
        const ExprInfo i = *expr_info(c, t->e[n]), of = i.kind == E_CAST ? *expr_info(c, i.arg[0]) : i;
        if (of.kind != E_ARG || of.dtype != DT_I32 || !is_product(s, of.index)) continue;
        Expr whole = expr_op(c, S_RINT, op2(s, S_DIV, t->c, t->k[n]), none, none);
        whole = expr_cast(c, op2(s, S_MIN, op2(s, S_MAX, whole, f64(s, -most)), f64(s, most)), DT_I32);
        t->c = op2(s, S_SUB, t->c, op2(s, S_MUL, in_f64(s, whole), t->k[n]));
        t->e[n] = in_f32(s, op2(s, S_ADD, i.arg[0], whole));
        return;
    }
}

/* e * k + c in f32, with constant k and c (or none). */
static Expr scaled(Scaling *s, Expr e, Expr k, Expr c, int depth) {
    const ExprInfo i = *expr_info(s->a->c, e);
    if (is_limit(&i) && is_positive(s, k) && depth < DEPTH)
        return op2(s, i.op, scaled(s, i.arg[0], k, c, depth + 1), scaled(s, i.arg[1], k, c, depth + 1));
    Terms t = {.c = c};
    collect(s, &t, e, k, depth);
    if (t.n && t.c.i) into_sum(s, &t);
    if (t.n && t.c.i && is_number(s, t.c, 0)) t.c = none;
    e = in_f32(s, t.c);
    for (int n = t.n - 1; n >= 0; n--) {
        Expr by = in_f32(s, t.k[n]);
        if (!e.i) e = product(s, t.e[n], by);
        else e = is_number(s, by, 1) ? sum(s, t.e[n], e) : expr_op(s->a->c, S_FMA, t.e[n], by, e);
    }
    return e;
}

/* Constant parts become operands. */
static Expr evaluated(Scaling *s, Expr e) {
    Ctx *c = s->a->c;
    const ExprInfo i = *expr_info(c, e);
    if (i.kind == E_CONST || i.kind == E_ARG) return e;
    Scalar k;
    if (is_const(s, e)) {
        Val v = flat_value(s->a, &s->f, e);
        if (v.i && val_scalar(s->a->g, v, &k)) return expr_const(c, k);
        if (!v.i || s->f.nin == FLAT_IN) return s->full = true, e;
        s->f.in[s->f.nin] = v;
        return expr_arg(c, (uint32_t)s->f.nin++, i.dtype);
    }
    Expr arg[3];
    for (int n = 0; n < i.narg; n++) arg[n] = evaluated(s, i.arg[n]);
    return expr_rebuild(c, &i, arg);
}

/* Limits that the cast to t of e + z sets anyway. */
static Expr without_limits(const Scaling *s, Expr e, DType t, double z) {
    double lo = (t == DT_U8 ? 0 : -128) - z, hi = (t == DT_U8 ? 255 : 127) - z;
    for (ExprInfo i = *expr_info(s->a->c, e); is_limit(&i); i = *expr_info(s->a->c, e)) {
        const ExprInfo *k = expr_info(s->a->c, i.arg[1]);
        if (k->kind != E_CONST || (i.op == S_MAX ? k->val.f > lo : k->val.f < hi)) break;
        e = i.arg[0];
    }
    return e;
}

static bool reads(const Scaling *s) {
    for (int k = 0; k < s->f.nin; k++) {
        DType t = (DType)val_type(s->a->g, s->f.in[k])->dtype;
        if (t == DT_U8 || t == DT_I8 || is_product(s, (uint32_t)k)) return true;
    }
    return false;
}

static bool rewrite(Alg *a, Node *n, const bool *product) {
    Scaling scaling = {.a = a, .product = product}, *s = &scaling;
    Ctx *c = a->c;
    const Type *t = val_type(a->g, n->out[0]);
    const MapAttr *at = n->attr;
    if (n->nout != 1 || (t->dtype != DT_U8 && t->dtype != DT_I8) || !simp_pointwise(c, at->body[0])) return false;
    /* the quantisation itself: cast(rint(v / s) [+ z]) */
    Flat *f = &s->f;
    Expr z = none;
    if (!flat_of(a, n->out[0], false, f)) return false;
    ExprInfo i = *expr_info(c, f->e);
    if (i.kind != E_CAST || expr_info(c, i.arg[0])->dtype != DT_F32) return false;
    Expr e = i.arg[0];
    i = *expr_info(c, e);
    if (i.kind == E_OP && i.op == S_ADD && expr_info(c, i.arg[1])->kind == E_CONST) {
        z = i.arg[1];
        i = *expr_info(c, i.arg[0]);
    }
    if (i.kind != E_OP || i.op != S_RINT) return false;
    i = *expr_info(c, i.arg[0]);
    if (i.kind != E_OP || i.op != S_DIV || !is_positive(s, i.arg[1]) || !reads(s)) return false;
    /* The 8-bit values themselves, dequantised and quantised alike. */
    Expr scale = op2(s, S_DIV, f64(s, 1), in_f64(s, i.arg[1])), same = scaled(s, i.arg[0], scale, z.i ? in_f64(s, z) : none, 0);
    const ExprInfo si = *expr_info(c, same), ai = si.kind == E_CAST ? *expr_info(c, si.arg[0]) : si;
    if (si.kind == E_CAST && ai.kind == E_ARG && ai.dtype == t->dtype && type_same(c, val_type(a->g, f->in[ai.index]), t) && pass_allow(a->p)) {
        graph_replace(a->g, n->out[0], f->in[ai.index]);
        return true;
    }
    /* z is added to what is rounded: a float near z is coarser than one near 0. */
    Expr v = evaluated(s, z.i ? scaled(s, i.arg[0], scale, none, 0) : same);
    v = expr_op(c, S_RINT, without_limits(s, v, (DType)t->dtype, z.i ? expr_info(c, z)->val.f : 0), none, none);
    if (z.i) v = op2(s, S_ADD, v, z);
    if (s->full || !pass_allow(a->p)) return false;
    Val in[FLAT_IN], y;
    Expr arg[FLAT_IN] = {{0}};
    bool used[FLAT_IN] = {0};
    int nin = 0;
    flat_used(a, v, used);
    for (int k = 0; k < f->nin; k++) {
        if (!used[k]) continue;
        arg[k] = expr_arg(c, (uint32_t)nin, (DType)val_type(a->g, f->in[k])->dtype);
        in[nin++] = f->in[k];
    }
    Expr body = expr_cast(c, expr_subst_args(c, v, arg, FLAT_IN), (DType)t->dtype);
    b_map(&a->b, 1, &body, nin, in, t->rank, t->dim, &y);
    graph_replace(a->g, n->out[0], y);
    return true;
}

bool quant_scales(Alg *a, const bool *product) {
    bool changed = false;
    uint32_t n = a->g->node.n;
    Node **node = ctx_dup(a->c, a->g->node.v, n * sizeof *node);
    for (uint32_t k = 0; k < n; k++) {
        a->b = builder(a->g, node[k]->loc);
        if (node[k]->op == P_MAP) changed |= rewrite(a, node[k], product);
    }
    return changed;
}
