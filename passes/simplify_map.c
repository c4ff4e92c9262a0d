/* simplify_map.c: maps. In: a map node; out: one that reads its operands directly and computes
 * less.
 * - operands that broadcast are read before the broadcast (a map broadcasts by itself), scalar
 * constants become part of the body;
 * - the body is rewritten by rules.def;
 * - maps are composed with the maps that they read where that makes the whole cheaper: fusion joins
 * all of them anyway, but does not simplify;
 * - what depends on broadcast operands alone is computed before the broadcast, division by it
 * becomes multiplication where the reciprocal is known to be finite. */
#include "simplify.h"

#include <float.h>
#include <string.h>

enum { MAX_IN = 12, DEPTH = 4, MAX_COST = 200, DEAR = 4, WIDE = 8 };

typedef struct Map {
    Expr body;
    Val in[MAX_IN];
    int nin;
} Map; /* one result, over the domain of the node */

/* ---- facts about bodies ---- */

typedef struct Facts {
    bool load, axis;
    uint32_t loaded;
} Facts; /* loaded: operands that are read at given coordinates */

static Expr look(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    Facts *f = data;
    (void)c;
    (void)newarg;
    if (i->kind == E_LOAD) {
        f->load = true;
        if (i->index < 32) f->loaded |= 1u << i->index;
    }
    f->axis |= i->kind == E_AXIS;
    return e;
}

static Facts facts(Ctx *c, Expr e) {
    Facts f = {0};
    expr_rewrite(c, e, look, &f);
    return f;
}

bool simp_pointwise(Ctx *c, Expr body) {
    Facts f = facts(c, body);
    return !f.load && !f.axis;
}

/* ---- operands ---- */

/* x if v is x broadcast; also x reshaped to more leading axes of size 1. */
static Val before_broadcast(Simp *s, Val v) {
    v = graph_resolve(s->g, v);
    Node *n = simp_made_by(s, v, P_BROADCAST);
    return n ? graph_resolve(s->g, n->in[0]) : v;
}

/* The value of an operand at every point, as an expression: a constant, a dim, or what a map
 * computes from those alone. */
static Expr scalar_operand(Simp *s, Val v) {
    Scalar k;
    int64_t n;
    const Type *t = val_type(s->g, v);
    const Node *m = simp_made_by(s, v, P_MAP);
    if (m && !m->nin && m->nout == 1) {
        Expr e = ((const MapAttr *)m->attr)->body[0];
        return simp_pointwise(s->c, e) && expr_cost(s->c, e) <= DEAR ? e : (Expr){0};
    }
    if (t->dtype == DT_STR || t->dtype == DT_C64 || t->dtype == DT_C128) return (Expr){0};
    if (val_scalar(s->g, v, &k)) return expr_const(s->c, k);
    const Dim *e = val_elems(s->g, v, &n);
    return e && n == 1 && t->dtype == DT_I64 ? expr_dim(s->c, e[0]) : (Expr){0};
}

static bool plain_operands(Simp *s, Map *m) {
    Facts f = facts(s->c, m->body);
    Expr to[MAX_IN] = {{0}};
    bool changed = false, any = false;
    for (int k = 0; k < m->nin; k++) {
        if (f.loaded >> k & 1) continue;
        Val v = before_broadcast(s, m->in[k]);
        changed |= v.i != graph_resolve(s->g, m->in[k]).i;
        m->in[k] = v;
        to[k] = scalar_operand(s, v);
        any |= to[k].i != 0;
    }
    if (any) m->body = expr_subst_args(s->c, m->body, to, (uint32_t)m->nin);
    return changed || any;
}

/* ---- composition ---- */

static bool inlines(Simp *s, const Node *p, const MapAttr *a) {
    const MapAttr *b = p->attr;
    return p->op == P_MAP && p->nout == 1 && b->rank == a->rank &&
           simp_same_dims(s->c, a->rank, a->dim, b->dim) && simp_pointwise(s->c, b->body[0]);
}

static int add_operand(Simp *s, Map *m, Val v) {
    v = graph_resolve(s->g, v);
    for (int k = 0; k < m->nin; k++)
        if (graph_resolve(s->g, m->in[k]).i == v.i) return k;
    if (m->nin == MAX_IN) return -1;
    m->in[m->nin] = v;
    return m->nin++;
}

typedef struct Reads {
    uint32_t operands;
    bool other;
} Reads; /* operands at the current point; coordinates or loads */

static Expr note(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    Reads *r = data;
    (void)c;
    (void)newarg;
    if (i->kind == E_ARG && i->index < 32)
        r->operands |= 1u << i->index;
    else
        r->other |= i->kind == E_AXIS || i->kind == E_LOAD || i->kind == E_ARG;
    return e;
}

static Reads reads_of(Ctx *c, Expr e) {
    Reads r = {0};
    expr_rewrite(c, e, note, &r);
    return r;
}

/* Without the operands that a pointwise body does not read. */
static void prune(Simp *s, Map *m) {
    uint32_t used = reads_of(s->c, m->body).operands;
    Expr to[MAX_IN] = {{0}};
    int n = 0;
    for (int k = 0; k < m->nin; k++) {
        if (!(used >> k & 1)) continue;
        to[k] = expr_arg(s->c, (uint32_t)n, (DType)val_type(s->g, m->in[k])->dtype);
        m->in[n++] = m->in[k];
    }
    if (n == m->nin) return;
    m->body = expr_subst_args(s->c, m->body, to, (uint32_t)m->nin);
    m->nin = n;
}

/* m with operand k replaced by the body of p. */
static bool inline_operand(Simp *s, Map *m, int k, const Node *p) {
    Expr to[MAX_IN] = {{0}}, own[MAX_IN] = {{0}};
    Map r = *m;
    if (p->nin > MAX_IN) return false;
    for (int i = 0; i < p->nin; i++) {
        int at = add_operand(s, &r, p->in[i]);
        if (at < 0) return false;
        own[i] = expr_arg(s->c, (uint32_t)at, (DType)val_type(s->g, p->in[i])->dtype);
    }
    to[k] = expr_subst_args(s->c, ((const MapAttr *)p->attr)->body[0], own, (uint32_t)p->nin);
    r.body = expr_subst_args(s->c, r.body, to, (uint32_t)m->nin);
    *m = r;
    return r.body.i != 0;
}

/* The map with what it reads inlined, if that is cheaper than both apart: maps that others read as
 * well do not get cheaper. */
static bool compose(Simp *s, Map *m, const MapAttr *a) {
    Map best = *m, now = *m;
    int apart = expr_cost(s->c, m->body), saved = 0;
    if (!simp_pointwise(s->c, m->body)) return false;
    for (int depth = 0; depth < DEPTH; depth++) {
        Map next = now;
        bool any = false;
        for (int k = 0; k < now.nin; k++) {
            Node *p = val_def(s->g, now.in[k]);
            if (!p || !inlines(s, p, a)) continue;
            int cost = expr_cost(s->c, ((const MapAttr *)p->attr)->body[0]);
            if (!inline_operand(s, &next, k, p)) continue;
            any = true;
            if (simp_single(s, now.in[k])) apart += cost;
        }
        if (!any) break;
        uint32_t fired = 0;
        next.body = rules_apply(s->rules, next.body, &fired);
        prune(s, &next);
        int cost = expr_cost(s->c, next.body);
        if (cost > MAX_COST) break;
        now = next;
        if (apart - cost > saved) {
            saved = apart - cost;
            best = next;
        }
    }
    if (!saved) return false;
    *m = best;
    return true;
}

/* ---- what depends on broadcast operands alone ---- */

typedef struct Hoist {
    Simp *s;
    Map *m;
    uint32_t narrow; /* operands that are broadcast at least WIDE times */
    bool recip;      /* division may become multiplication */
    int n;
} Hoist;

static bool is_narrow(Simp *s, Val v, const MapAttr *a) {
    const Type *t = val_type(s->g, v);
    int64_t times = 1;
    for (int d = 0; d < a->rank; d++) {
        int k = d - (a->rank - t->rank);
        int64_t size = dim_lo(s->c, a->dim[d]) > 0 ? dim_lo(s->c, a->dim[d]) : 1;
        if (!dim_is_const(s->c, a->dim[d], NULL)) size = WIDE;
        if ((k < 0 || dim_is(s->c, t->dim[k], 1)) && times < WIDE)
            times *= size < WIDE ? size : WIDE;
    }
    return times >= WIDE && t->rank;
}

/* e as an operand of its own, computed over the broadcast of what it reads. */
static Expr as_operand(Hoist *h, Expr e, uint32_t reads_mask) {
    Simp *s = h->s;
    Expr to[MAX_IN] = {{0}};
    Val in[MAX_IN];
    int n = 0;
    for (int k = 0; k < h->m->nin; k++) {
        if (!(reads_mask >> k & 1)) continue;
        to[k] = expr_arg(s->c, (uint32_t)n, (DType)val_type(s->g, h->m->in[k])->dtype);
        in[n++] = h->m->in[k];
    }
    int at = add_operand(s, h->m,
                         b_map1(&s->b, expr_subst_args(s->c, e, to, (uint32_t)h->m->nin), n, in));
    if (at < 0 || !h->m->in[at].i) return (Expr){0};
    h->n++;
    return expr_arg(s->c, (uint32_t)at, (DType)expr_info(s->c, e)->dtype);
}

/* Operands read by e if those are narrow ones alone, else 0. */
static uint32_t narrow_reads(Hoist *h, Expr e) {
    Reads r = reads_of(h->s->c, e);
    return r.other || (r.operands & ~h->narrow) ? 0 : r.operands;
}

/* 1/x is infinite for x below 2.9e-39 in f32, and for subnormal x in bf16 and f64 alike; reciprocals of f16 are f32. */
static bool has_reciprocal(Hoist *h, Expr e) {
    DType t = (DType)expr_info(h->s->c, e)->dtype;
    return t == DT_F16 || simp_at_least(h->s, e, h->m->in) >= (t == DT_F64 ? DBL_MIN : FLT_MIN);
}

static Expr hoist(Hoist *h, Expr e, int depth) {
    Ctx *c = h->s->c;
    const ExprInfo *i = expr_info(c, e);
    if (depth > DEPTH * 2 || (i->kind != E_OP && i->kind != E_CAST) || h->m->nin == MAX_IN)
        return e;
    uint32_t mask = narrow_reads(h, e);
    if (mask) {
        Expr x = expr_cost(c, e) >= DEAR ? as_operand(h, e, mask) : e;
        return x.i ? x : e;
    }
    bool division = i->kind == E_OP && i->op == S_DIV && h->recip && dt_is_float(i->dtype);
    if (division && (mask = narrow_reads(h, i->arg[1])) != 0) {
        DType t = (DType)i->dtype, wide = t == DT_F16 || t == DT_BF16 ? DT_F32 : t;
        Expr r = {0};
        if (has_reciprocal(h, i->arg[1])) r = as_operand(h, expr_op(c, S_RECIP, expr_cast(c, i->arg[1], wide), (Expr){0}, (Expr){0}), mask);
        if (r.i) return expr_cast(c, expr_op(c, S_MUL, expr_cast(c, hoist(h, i->arg[0], depth + 1), wide), r, (Expr){0}), t);
    }
    Expr arg[3];
    for (int k = 0; k < i->narg; k++) arg[k] = hoist(h, i->arg[k], depth + 1);
    return !memcmp(arg, i->arg, sizeof *arg * i->narg) ? e : expr_rebuild(c, i, arg);
}

static bool hoist_narrow(Simp *s, Map *m, const MapAttr *a) {
    Hoist h = {.s = s, .m = m, .recip = s->p->level >= 2};
    for (int k = 0; k < m->nin; k++)
        if (is_narrow(s, m->in[k], a)) h.narrow |= 1u << k;
    if (!h.narrow) return false;
    Expr e = hoist(&h, m->body, 0);
    if (!h.n) return false;
    m->body = e;
    return true;
}

/* ---- the rule ---- */

bool simp_map(Simp *s, Node *n) {
    const MapAttr *a = n->attr;
    if (n->nin > MAX_IN || n->nout != 1) return false;
    Map m = {.body = a->body[0], .nin = n->nin};
    for (int k = 0; k < n->nin; k++) m.in[k] = graph_resolve(s->g, n->in[k]);
    uint32_t fired = 0;
    bool changed = plain_operands(s, &m);
    m.body = rules_apply(s->rules, m.body, &fired);
    changed |= m.body.i != a->body[0].i;
    changed |= compose(s, &m, a);
    changed |= hoist_narrow(s, &m, a);
    if (!changed || !m.body.i || !pass_allow(s->p)) return false;
    Val y;
    b_map(&s->b, 1, &m.body, m.nin, m.in, a->rank, a->dim, &y);
    return simp_replace(s, n, y);
}
