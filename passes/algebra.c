/* algebra.c: arithmetic with constants moves to where it is free. In: a folded graph of f32/f64.
 * Out: the same function up to the rounding of products of constants.
 * - y = x*a + b through a chain of maps with constant a, b (batch normalisation, attention scales,
 * biases): a goes into the weights that x is made with (scale.c), and one addition is left;
 * otherwise the chain becomes one map;
 * - a constant factor of what a contraction reads goes into its weights;
 * - a contraction with one number is a sum;
 * - permutations next to a contraction become labels of it.
 * Each round visits chains from their ends; values that were rewritten in a round are left alone
 * until the next. */
#include "scale.h"

#include <string.h>

enum { CHAIN = 8, ROUNDS = 12, NEST = 10, PATH = 8 };

/* ---- affine bodies ---- */

typedef struct Body {
    Alg *a;
    const Node *n;
    DType t;
} Body;

static bool const_operand(Alg *a, const Node *n, uint32_t k) {
    return val_const(a->g, n->in[k]) != NULL;
}

static Expr join(Ctx *c, SOp op, Expr x, Expr y) {
    return x.i && y.i ? expr_op(c, op, x, y, (Expr){0}) : x.i ? x : y;
}

static Expr negated(Ctx *c, Expr x) { return x.i ? expr_op(c, S_NEG, x, (Expr){0}, (Expr){0}) : x; }

static const Affine no = {.ok = false};

static Affine affine(const Body *b, Expr e, int depth);

static Affine times(Ctx *c, Affine x, Expr k) {
    x.mul = join(c, S_MUL, x.mul, k);
    if (x.add.i) x.add = join(c, S_MUL, x.add, k);
    return x;
}

static Affine affine_op(const Body *b, Expr e, const ExprInfo *i, int depth) {
    Ctx *c = b->a->c;
    Affine x[3];
    bool constant = true;
    for (int k = 0; k < i->narg; k++) {
        x[k] = affine(b, i->arg[k], depth + 1);
        if (!x[k].ok) return no;
        constant &= x[k].arg < 0;
    }
    if (constant) return (Affine){true, -1, {0}, e};
    if (i->kind != E_OP || i->dtype != b->t) return no;
    Affine l = x[0], r = i->narg > 1 ? x[1] : no;
    bool left = l.arg >= 0, right = r.ok && r.arg >= 0;
    if (left && right) return no;
    switch ((SOp)i->op) {
    case S_NEG:
        l.mul = l.mul.i ? negated(c, l.mul) : expr_float(c, b->t, -1);
        l.add = negated(c, l.add);
        return l;
    case S_ADD:
        if (!left) l = r, r = x[0];
        l.add = join(c, S_ADD, l.add, r.add);
        return l;
    case S_SUB:
        if (left) {
            l.add = l.add.i ? join(c, S_SUB, l.add, r.add) : negated(c, r.add);
            return l;
        }
        r.mul = r.mul.i ? negated(c, r.mul) : expr_float(c, b->t, -1);
        r.add = r.add.i ? join(c, S_SUB, l.add, r.add) : l.add;
        return r;
    case S_MUL:
        return left ? times(c, l, r.add) : times(c, r, l.add);
    case S_DIV:
        if (!left) return no;
        l.add = l.add.i ? join(c, S_DIV, l.add, r.add) : l.add;
        l.mul = join(c, S_DIV, l.mul.i ? l.mul : expr_float(c, b->t, 1), r.add);
        return l;
    case S_FMA:
        if (x[2].arg >= 0) return no;
        l = left ? times(c, l, r.add) : times(c, r, l.add);
        l.add = join(c, S_ADD, l.add, x[2].add);
        return l;
    default:
        return no;
    }
}

static Affine affine(const Body *b, Expr e, int depth) {
    const ExprInfo *i = expr_info(b->a->c, e);
    if (depth > NEST) return no;
    switch (i->kind) {
    case E_CONST:
        return (Affine){true, -1, {0}, e};
    case E_ARG:
        if (const_operand(b->a, b->n, i->index)) return (Affine){true, -1, {0}, e};
        return i->dtype == b->t ? (Affine){true, (int)i->index, {0}, {0}} : no;
    case E_OP:
    case E_CAST:
        return affine_op(b, e, i, depth);
    default:
        return no;
    }
}

Affine affine_of(Alg *a, const Node *n) {
    if (n->op != P_MAP || n->nout != 1 || n->nin < 1) return no;
    Body b = {a, n, (DType)val_type(a->g, n->out[0])->dtype};
    if (b.t != DT_F32 && b.t != DT_F64) return no;
    return affine(&b, ((const MapAttr *)n->attr)->body[0], 0);
}

Val alg_expr(Alg *a, const Node *n, Expr e) {
    Expr *to = NEWN(a->c, Expr, n->nin + 1);
    Val *in = NEWN(a->c, Val, n->nin + 1);
    int nin = 0;
    const ExprInfo *i = expr_info(a->c, e);
    if (i->kind == E_ARG) return graph_resolve(a->g, n->in[i->index]);
    if (i->kind == E_CONST) return b_scalar(&a->b, i->val);
    for (int k = 0; k < n->nin; k++) {
        if (!const_operand(a, n, (uint32_t)k)) continue;
        /* operands that e does not read must not widen the result */
        Expr probe = expr_arg(a->c, (uint32_t)k, (DType)val_type(a->g, n->in[k])->dtype),
             *mark = NEWN(a->c, Expr, n->nin + 1);
        mark[k] = expr_arg(a->c, (uint32_t)(k + n->nin + 1), (DType)expr_info(a->c, probe)->dtype);
        if (expr_subst_args(a->c, e, mark, (uint32_t)n->nin).i == e.i) continue;
        to[k] = expr_arg(a->c, (uint32_t)nin, (DType)expr_info(a->c, probe)->dtype);
        in[nin++] = graph_resolve(a->g, n->in[k]);
    }
    return alg_const(a, b_map1(&a->b, expr_subst_args(a->c, e, to, (uint32_t)n->nin), nin, in));
}

/* ---- chains ---- */

typedef struct Chain {
    Val base;               /* what the chain starts from */
    Node *node[CHAIN];      /* last one first */
    int n, ops, muls, adds; /* maps; operations in their bodies; how many multiply, add */
} Chain;

static int count_ops(Ctx *c, Expr e, int depth) {
    const ExprInfo *i = expr_info(c, e);
    int n = i->kind == E_OP;
    for (int k = 0; k < i->narg && depth < NEST; k++) n += count_ops(c, i->arg[k], depth + 1);
    return n;
}

static void find_chain(Alg *a, Node *end, Chain *ch) {
    *ch = (Chain){.base = end->out[0]};
    for (Node *n = end; n && ch->n < CHAIN; n = val_def(a->g, ch->base)) {
        Affine f = affine_of(a, n);
        if (!f.ok || f.arg < 0 || (ch->n && !alg_single(a, ch->base))) break;
        Val x = graph_resolve(a->g, n->in[f.arg]);
        if (x.i >= a->nval || !type_same(a->c, val_type(a->g, x), val_type(a->g, n->out[0]))) break;
        ch->node[ch->n++] = n;
        ch->ops += count_ops(a->c, ((const MapAttr *)n->attr)->body[0], 0);
        ch->muls += f.mul.i != 0;
        ch->adds += f.add.i != 0;
        ch->base = x;
    }
}

/* base*mul + add of the whole chain; false if a constant does not fold. */
static bool compose(Alg *a, const Chain *ch, Val *mul, Val *add) {
    *mul = *add = (Val){0};
    for (int k = 0; k < ch->n; k++) { /* y = M*v + B with v = m*x + b: M = M*m, B = M*b + B */
        const Node *n = ch->node[k];
        Affine f = affine_of(a, n);
        if (f.add.i) {
            Val b = alg_mul(a, alg_expr(a, n, f.add), *mul);
            if (!b.i || !(*add = alg_add(a, b, *add)).i) return false;
        }
        if (f.mul.i && !(*mul = alg_mul(a, alg_expr(a, n, f.mul), *mul)).i) return false;
    }
    return true;
}

/* x*mul + add as a map of type t; scalars become part of the expression. */
static Val emit(Alg *a, Val x, Val mul, Val add, const Type *t) {
    Val in[3] = {x}, part[2] = {mul, add}, y;
    int nin = 1;
    Expr e = expr_arg(a->c, 0, (DType)t->dtype);
    for (int k = 0; k < 2; k++) {
        Scalar s;
        if (!part[k].i) continue;
        Expr with = val_scalar(a->g, part[k], &s) ? expr_const(a->c, s)
                                                  : expr_arg(a->c, (uint32_t)nin, (DType)t->dtype);
        if (expr_info(a->c, with)->kind == E_ARG) in[nin++] = part[k];
        e = expr_op(a->c, k ? S_ADD : S_MUL, e, with, (Expr){0});
    }
    b_map(&a->b, 1, &e, nin, in, t->rank, t->dim, &y);
    return y;
}

/* Could a factor of v end in constants? A cheap look before constants are computed. */
static bool leads_to_weights(Alg *a, Val v) {
    for (int k = 0; k < 2 * PATH; k++) {
        Node *n = val_def(a->g, v);
        if (!n || !alg_single(a, v)) return false;
        if (n->op == P_CONTRACT || n->op == P_CONCAT) return true;
        if (n->op == P_MAP) {
            Affine f = affine_of(a, n);
            if (!f.ok || f.arg < 0) return false;
            if (f.mul.i) return true;
            v = n->in[f.arg];
        } else if (is_view(n)) {
            v = n->in[0];
        } else
            return false;
    }
    return false;
}

static bool rewrite_chain(Alg *a, Node *end) {
    Chain ch;
    if (graph_resolve(a->g, end->out[0]).i != end->out[0].i || a->taken[end->out[0].i])
        return false;
    find_chain(a, end, &ch);
    bool absorb = ch.muls && leads_to_weights(a, ch.base);
    if (!ch.n || (!absorb && ch.ops <= (ch.muls > 0) + (ch.adds > 0))) return false;
    Val mul, add, y = {0};
    if (!compose(a, &ch, &mul, &add)) return false;
    Type t = *val_type(a->g, end->out[0]);
    Val s = absorb ? scale_fit(a, mul, val_type(a->g, ch.base)) : (Val){0};
    if (s.i && scale_push(a, ch.base, s, false, 0).i) {
        if (!pass_allow(a->p)) return false;
        Val x = scale_push(a, ch.base, s, true, 0);
        if (!x.i) return false;
        y = add.i ? emit(a, x, (Val){0}, add, &t) : x;
    } else {
        if (ch.ops <= (mul.i != 0) + (add.i != 0) || !pass_allow(a->p)) return false;
        y = emit(a, ch.base, mul, add, &t);
    }
    if (!y.i) return false;
    for (int k = 0; k < ch.n; k++) alg_take(a, ch.node[k]->out[0]);
    graph_replace(a->g, end->out[0], y);
    return true;
}

/* ---- factors of what a contraction reads ---- */

static bool scale_before(Alg *a, Node *n) {
    const ContractAttr *at = n->attr;
    if (graph_resolve(a->g, n->out[0]).i != n->out[0].i || a->taken[n->out[0].i]) return false;
    for (int w = 1; w >= 0; w--) {
        DType t = (DType)val_type(a->g, n->in[w])->dtype;
        if (!scale_weight_ok(a, n->in[w]) || val_type(a->g, n->in[1 - w])->dtype != t ||
            at->out != t)
            continue;
        const Node *path[PATH];
        int np = 0;
        Val v = graph_resolve(a->g, n->in[1 - w]);
        Node *d = val_def(a->g, v);
        for (; d && is_view(d) && np < PATH && alg_single(a, v); d = val_def(a->g, v)) {
            path[np++] = d;
            v = graph_resolve(a->g, d->in[0]);
        }
        if (!d || d->op != P_MAP || !alg_single(a, v)) continue;
        Affine f = affine_of(a, d);
        if (!f.ok || f.arg < 0 || !f.mul.i || f.add.i) continue;
        Val x = graph_resolve(a->g, d->in[f.arg]), s;
        if (x.i >= a->nval || !type_same(a->c, val_type(a->g, x), val_type(a->g, v))) continue;
        if (!(s = alg_expr(a, d, f.mul)).i || !(s = scale_fit(a, s, val_type(a->g, v))).i) continue;
        for (int k = np - 1; k >= 0 && s.i; k--) s = scale_down(a, path[k], s);
        if (!s.i) continue;
        s = scale_relabel(a, s, at->label[1 - w], val_type(a->g, n->in[w])->rank, at->label[w]);
        if (!s.i || !pass_allow(a->p)) continue;
        Val in[2];
        if (!(in[w] = scale_weight(a, n->in[w], s)).i) continue;
        for (int k = np - 1; k >= 0; k--) x = alg_again(a, path[k], &x)->out[0];
        in[1 - w] = x;
        for (int k = 0; k < np; k++) alg_take(a, path[k]->out[0]);
        alg_take(a, v);
        alg_take(a, n->out[0]);
        graph_replace(a->g, n->out[0], alg_again(a, n, in)->out[0]);
        return true;
    }
    return false;
}

/* contract(x*s, y*t) with scalars that have no weights to go to: contract(x, y)*(s*t), which joins
 * what follows. */
static bool scale_after(Alg *a, Node *n) {
    const ContractAttr *at = n->attr;
    DType t = at->out;
    Expr all = {0};
    Val in[2];
    if (graph_resolve(a->g, n->out[0]).i != n->out[0].i || a->taken[n->out[0].i] ||
        (t != DT_F32 && t != DT_F64))
        return false;
    for (int k = 0; k < 2; k++) {
        in[k] = graph_resolve(a->g, n->in[k]);
        if (val_const(a->g, in[k]) || val_type(a->g, in[k])->dtype != t || in[k].i >= a->nval)
            return false;
        Node *d = val_def(a->g, in[k]);
        Affine f = d && alg_single(a, in[k]) ? affine_of(a, d) : no;
        if (!f.ok || f.arg < 0 || f.add.i || !f.mul.i || expr_info(a->c, f.mul)->kind != E_CONST)
            continue;
        if (!type_same(a->c, val_type(a->g, d->in[f.arg]), val_type(a->g, in[k]))) continue;
        all = join(a->c, S_MUL, all, f.mul);
        in[k] = d->in[f.arg];
    }
    if (!all.i || !pass_allow(a->p)) return false;
    Val y = alg_again(a, n, in)->out[0], scaled;
    Type type = *val_type(a->g, n->out[0]);
    Expr e = expr_op(a->c, S_MUL, expr_arg(a->c, 0, t), all, (Expr){0});
    b_map(&a->b, 1, &e, 1, &y, type.rank, type.dim, &scaled);
    graph_replace(a->g, n->out[0], scaled);
    return true;
}

/* ---- products with one number ---- */

/* contract(x, k) where all elements of k are one number: the sum of what x times the number is,
 * once for all elements of the result that differ in labels of k alone. */
static bool sum_of_splat(Alg *a, Node *n, int w) {
    const ContractAttr *at = n->attr;
    const Type *x = val_type(a->g, n->in[1 - w]), *k = val_type(a->g, n->in[w]), *t = val_type(a->g, n->out[0]);
    const uint8_t *xl = at->label[1 - w];
    Scalar number;
    uint32_t left = 0, kept = 0, axes = 0;
    int where[32], perm[MAX_RANK], nperm = 0;
    Dim dim[MAX_RANK];
    if ((at->out != DT_F32 && at->out != DT_F64) || x->dtype != at->out || k->dtype != at->out || !val_scalar(a->g, n->in[w], &number)) return false;
    for (int d = 0; d < t->rank; d++) kept |= 1u << at->label[2][d];
    for (int d = 0, rest = 0; d < x->rank; d++) {
        if (left >> xl[d] & 1) return false;
        left |= 1u << xl[d];
        if (kept >> xl[d] & 1) where[xl[d]] = rest++;
        else axes |= 1u << d;
    }
    for (int d = 0; d < k->rank; d++)
        if (!((left | kept) >> at->label[w][d] & 1)) return false; /* as many terms more */
    for (int d = 0; d < t->rank; d++) {
        const uint8_t l = at->label[2][d];
        dim[d] = left >> l & 1 ? t->dim[d] : dim_const(a->c, 1);
        if (left >> l & 1) perm[nperm++] = where[l];
    }
    if (!pass_allow(a->p)) return false;
    Val y = b_binary(&a->b, S_MUL, n->in[1 - w], b_scalar(&a->b, number));
    if (axes) y = b_reduce1(&a->b, R_SUM, y, axes, false);
    y = b_reshape(&a->b, b_permute(&a->b, y, perm), t->rank, dim);
    graph_replace(a->g, n->out[0], b_broadcast(&a->b, y, t->rank, t->dim));
    return true;
}

/* ---- permutations ---- */

static bool over_window(Alg *a,
                        const Node *n) { /* convolutions keep their form: layout.c knows it */
    for (int k = 0; k < 2; k++) {
        Node *d = val_def(a->g, n->in[k]);
        if (d && d->op == P_WINDOW) return true;
    }
    return false;
}

static bool permute_before(Alg *a, Node *n) {
    const ContractAttr *at = n->attr;
    ContractAttr now = *at;
    Val in[2] = {n->in[0], n->in[1]};
    bool any = false;
    for (int k = 0; k < 2; k++) {
        Node *d = val_def(a->g, in[k]);
        if (!d || d->op != P_PERMUTE) continue;
        const PermAttr *p = d->attr;
        for (int i = 0; i < val_type(a->g, in[k])->rank; i++)
            now.label[k][p->perm[i]] = at->label[k][i];
        in[k] = d->in[0];
        any = true;
    }
    if (!any || !pass_allow(a->p)) return false;
    graph_replace(a->g, n->out[0], b_contract_attr(&a->b, &now, in[0], in[1]));
    return true;
}

static bool permute_after(Alg *a, Node *n) {
    Val v = graph_resolve(a->g, n->in[0]);
    Node *d = val_def(a->g, v);
    if (!d || d->op != P_CONTRACT || !alg_single(a, v) || over_window(a, d)) return false;
    const ContractAttr *at = d->attr;
    ContractAttr now = *at;
    const PermAttr *p = n->attr;
    for (int i = 0; i < val_type(a->g, v)->rank; i++) now.label[2][i] = at->label[2][p->perm[i]];
    if (!pass_allow(a->p)) return false;
    alg_take(a, v);
    graph_replace(a->g, n->out[0], b_contract_attr(&a->b, &now, d->in[0], d->in[1]));
    return true;
}

/* ---- the pass ---- */

static bool round_of(Graph *g, PassCtx *p) {
    graph_tidy(g);
    uint32_t n = g->node.n;
    Alg alg = {.g = g,
               .c = g->c,
               .p = p,
               .uses = graph_uses(g),
               .nval = g->val.n,
               .taken = NEWN(g->c, bool, g->val.n)},
        *a = &alg;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    bool changed = false;
    for (uint32_t i = n; i-- > 0;) {
        a->b = builder(g, node[i]->loc);
        if (node[i]->op == P_MAP && node[i]->nout == 1)
            changed |= rewrite_chain(a, node[i]);
        else if (node[i]->op == P_CONTRACT)
            changed |=
                permute_before(a, node[i]) || scale_before(a, node[i]) || scale_after(a, node[i]);
        else if (node[i]->op == P_PERMUTE)
            changed |= permute_after(a, node[i]);
    }
    graph_tidy(g);
    return changed;
}

/* Before factors go into the weights, which are one number no more. */
static bool sums_of_splats(Graph *g, PassCtx *p) {
    Alg a = {.g = g, .c = g->c, .p = p};
    const uint32_t n = g->node.n;
    bool changed = false;
    for (uint32_t i = 0; i < n; i++) {
        Node *d = g->node.v[i];
        a.b = builder(g, d->loc);
        if (d->op == P_CONTRACT) changed |= sum_of_splat(&a, d, 1) || sum_of_splat(&a, d, 0);
    }
    return changed;
}

bool pass_algebra(Graph *g, PassCtx *p) {
    bool changed = sums_of_splats(g, p);
    for (int k = 0; k < ROUNDS && round_of(g, p); k++) changed = true;
    return changed;
}
