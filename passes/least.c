/* least.c: a number that no element of a value is below, NaN apart. It comes from what made the value: sums of squares are not
 * negative, maxima with a constant are that constant at least, the sums of a softmax are 1 at least. */
#include <math.h>

#include "simplify.h"

enum { DEEP = 12 };

static double value_at_least(Simp *s, Val v, int depth);

static const Expr *only_body(const Node *n) { return n && n->op == P_MAP && n->nout == 1 ? ((const MapAttr *)n->attr)->body : NULL; }

/* Does reduction n add up exp(x - m), where m is the largest x over the same axes? One of them is 1, or all are NaN. */
static bool sums_softmax(Simp *s, const Node *n) {
    Ctx *c = s->c;
    const Node *p = val_def(s->g, n->in[0]);
    const ReduceAttr *sum = n->attr;
    if (!only_body(p)) return false;
    const ExprInfo *e = expr_info(c, *only_body(p));
    if (e->kind != E_OP || e->op != S_EXP) return false;
    const ExprInfo *d = expr_info(c, e->arg[0]);
    if (d->kind != E_OP || d->op != S_SUB) return false;
    const ExprInfo *x = expr_info(c, d->arg[0]), *m = expr_info(c, d->arg[1]);
    const Node *r = x->kind == E_ARG && m->kind == E_ARG ? simp_made_by(s, p->in[m->index], P_REDUCE) : NULL;
    if (!r || r->nin != 1 || graph_resolve(s->g, r->in[0]).i != graph_resolve(s->g, p->in[x->index]).i) return false;
    const ReduceAttr *a = r->attr;
    return reduce_is(c, a, R_MAX, (DType)m->dtype) && a->keep && a->axes == sum->axes;
}

static double body_at_least(Simp *s, Expr e, const Val *in, int depth) {
    const ExprInfo *i = expr_info(s->c, e);
    double a[3] = {-INFINITY, -INFINITY, -INFINITY};
    if (depth > DEEP) return -INFINITY;
    if (!dt_is_float((DType)i->dtype)) return -INFINITY;
    if (i->kind == E_CONST) return isfinite(i->val.f) ? i->val.f : -INFINITY;
    if (i->kind == E_ARG) return value_at_least(s, in[i->index], depth + 1);
    if (i->kind == E_CAST) return body_at_least(s, i->arg[0], in, depth + 1);
    if (i->kind != E_OP) return -INFINITY;
    for (int k = i->op == S_SELECT; k < i->narg && k < 3; k++) a[k] = body_at_least(s, i->arg[k], in, depth + 1);
    bool positive = a[0] >= 0;
    switch (i->op) {
    case S_ADD: return a[0] + a[1];
    case S_MUL: return (positive && a[1] >= 0) || i->arg[0].i == i->arg[1].i ? 0 : -INFINITY;
    case S_DIV: return positive && a[1] > 0 ? 0 : -INFINITY; /* 1/-0 is negative */
    case S_MAX: return fmax(a[0], a[1]);
    case S_MIN: return fmin(a[0], a[1]);
    case S_SELECT: return fmin(a[1], a[2]);
    case S_SQRT: return positive ? sqrt(a[0]) : 0;
    case S_ABS: return positive ? a[0] : 0;
    case S_EXP: case S_SIGMOID: return 0;
    default: return -INFINITY;
    }
}

static double value_at_least(Simp *s, Val v, int depth) {
    const Node *n = val_def(s->g, v);
    Scalar k;
    if (depth > DEEP || !n || !dt_is_float((DType)val_type(s->g, v)->dtype)) return -INFINITY;
    if (val_scalar(s->g, v, &k)) return isfinite(k.f) ? k.f : -INFINITY;
    if (only_body(n)) return body_at_least(s, *only_body(n), n->in, depth);
    if (n->op == P_RESHAPE || n->op == P_PERMUTE || n->op == P_BROADCAST || n->op == P_SLICE) return value_at_least(s, n->in[0], depth + 1);
    if (n->op != P_REDUCE || n->nin != 1) return -INFINITY;
    const ReduceAttr *a = n->attr;
    if (!reduce_is(s->c, a, R_SUM, a->acc[0])) return -INFINITY;
    return sums_softmax(s, n) ? 1 : value_at_least(s, n->in[0], depth + 1) >= 0 ? 0 : -INFINITY;
}

double simp_at_least(Simp *s, Expr e, const Val *in) { return body_at_least(s, e, in, 0); }
