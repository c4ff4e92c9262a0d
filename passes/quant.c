/* quant.c: contractions of dequantised values become contractions of their 8-bit integers. Runs first: folding would dequantise
 * small weights.
 *
 * In: contract(views((x - zx) * sx), views((w - zw) * sw)) with constant 8-bit w and sw, zw per result column or for all, one sx
 * and zx for all of x (constant or computed by the run); in floats, or in i32 without scales. A matrix w may be computed, too, with
 * one sw and zw for all of it. Out, with acc = sum x w in i32:
 *     acc - zx * sum w - zw * (sum x - K zx)      then, for floats, converted and times sx * sw
 * The sums over a constant w are constants. Zero padding of x becomes padding by zx. x becomes u8 (i8 is moved by 128), w i8 (what fits into
 * i8 after its zero point is taken off is, so that the last term is rare): the operands of lir_dot4. If no column sums more than
 * its own channel (depthwise convolution), products are summed in f32 instead, which is exact for so few: every sum of
 * integers stays below 2^24.
 *
 * Maxima of dequantised values are dequantised maxima, for a scale above 0: pooling reads and writes 8-bit values.
 *
 * Views of the result move before its scaling, so that what follows meets the sum itself (and layout.c its reshape). Integer
 * results are exact. Float results are rounded fewer times than the body of the graph says: CODEGEN.md has the class. */
#include <math.h>
#include <string.h>

#include "quant.h"

enum { HALF = 128, FEW_ROWS = 8 };

typedef struct Quant {
    Alg a;
    Node **reader;      /* per value: the node that reads it, if only one does */
    VEC(Val) product;   /* sums that were made for float contractions */
} Quant;

typedef struct Contract {
    Node *n;
    Dequant x, w;
    int side;           /* which operand x is */
    bool floats, deep;  /* of the original; deep: columns sum over more than their own channel */
    bool computed;      /* w is */
    int64_t k;          /* products per sum */
} Contract;

static DType type_of(const Quant *q, Val v) { return (DType)val_type(q->a.g, v)->dtype; }
static int rank_of(const Quant *q, Val v) { return val_type(q->a.g, v)->rank; }

static int find(const uint8_t *label, int rank, uint8_t l) {
    for (int d = 0; d < rank; d++) if (label[d] == l) return d;
    return -1;
}

/* ---- matching ---- */

/* Every summed label is one of both operands and of known size; deep if w has columns of its own. */
static bool sums(const Quant *q, Contract *m) {
    const ContractAttr *at = m->n->attr;
    const uint8_t *lx = at->label[m->side], *lw = at->label[!m->side], *lo = at->label[2];
    const Type *x = val_type(q->a.g, m->n->in[m->side]), *w = val_type(q->a.g, m->n->in[!m->side]), *o = val_type(q->a.g, m->n->out[0]);
    m->k = 1;
    m->deep = false;
    for (int d = 0; d < x->rank; d++) if (find(lo, o->rank, lx[d]) < 0 && find(lw, w->rank, lx[d]) < 0) return false;
    for (int d = 0; d < w->rank; d++) {
        int64_t n;
        bool in_x = find(lx, x->rank, lw[d]) >= 0, in_out = find(lo, o->rank, lw[d]) >= 0;
        if (find(lw, d, lw[d]) >= 0 || !dim_is_const(q->a.c, w->dim[d], &n)) return false;
        if (!in_out && (!in_x || __builtin_mul_overflow(m->k, n, &m->k))) return false;
        m->deep |= in_out && !in_x && n != 1;
    }
    return true;
}

/* Computed w is worth being laid out for the product: a matrix, and rows enough. */
static bool many_rows(const Quant *q, const Contract *m) {
    const ContractAttr *at = m->n->attr;
    const Type *x = val_type(q->a.g, m->n->in[m->side]), *w = val_type(q->a.g, m->n->in[!m->side]);
    Dim rows = dim_const(q->a.c, 1);
    for (int d = 0; d < x->rank; d++) {
        bool in_w = find(at->label[!m->side], w->rank, at->label[m->side][d]) >= 0;
        if (in_w && find(at->label[2], val_type(q->a.g, m->n->out[0])->rank, at->label[m->side][d]) >= 0) return false;
        if (!in_w) rows = dim_mul(q->a.c, rows, x->dim[d]);
    }
    return w->rank == 2 && dim_hi(q->a.c, rows) >= FEW_ROWS;
}

static bool match(Quant *q, Node *n, Contract *m) {
    const ContractAttr *at = n->attr;
    m->n = n;
    m->floats = at->acc == DT_F32 && at->out == DT_F32;
    if (!m->floats && (at->acc != DT_I32 || at->out != DT_I32)) return false;
    for (m->side = 0; m->side < 2; m->side++) {
        if (!dequant_of(&q->a, n->in[!m->side], &m->w) || !val_const(q->a.g, m->w.q)) continue;
        if (dequant_of(&q->a, n->in[m->side], &m->x) && sums(q, m)) break;
    }
    m->computed = m->side == 2;
    if (m->computed) {
        m->side = 0;
        if (!dequant_of(&q->a, n->in[0], &m->x) || !dequant_of(&q->a, n->in[1], &m->w) || !sums(q, m) || !m->deep || !many_rows(q, m)) return false;
    }
    const int64_t most = m->deep ? INT32_MAX : 1 << 24; /* of a sum; w less its zero point has nine bits */
    return m->k > 0 && (m->deep && !m->floats ? true : m->k < most / (255 * 256));
}

/* ---- operands ---- */

/* Views again, over q: padding by `from` becomes padding by `zero` (i32, one element; none: 0). */
static Val viewed(Quant *q, const Dequant *d, Val v, double from, Val zero) {
    Alg *a = &q->a;
    Scalar z = {.t = DT_I32};
    bool known = !zero.i || val_scalar(a->g, zero, &z);
    DType t = type_of(q, v);
    for (int k = d->nview - 1; k >= 0; k--) {
        const Node *n = d->view[k];
        Type out = *val_type(a->g, n->out[0]);
        const void *attr = n->attr;
        Val in[2] = {v};
        int nin = 1;
        out.dtype = (uint8_t)t;
        if (n->op == P_PAD && ((const PadAttr *)attr)->mode == PAD_VALUE) {
            PadAttr *p = ctx_dup(a->c, attr, sizeof *p);
            if (n->nin > 1 || (dt_is_float(p->value.t) ? p->value.f : (double)p->value.i) != from) return (Val){0};
            p->value = dt_convert(z, t);
            if (p->value.i != z.i) return (Val){0};
            if (!known) in[nin++] = b_cast(&a->b, zero, t);
            attr = p;
        }
        v = graph_node(a->g, (PrimOp)n->op, nin, in, 1, &out, attr, n->loc)->out[0];
        if (val_const(a->g, d->q)) {
            Node *f = val_def(a->g, v);
            if (f->op != P_CONST) fold_node(a->g, f, true);
            v = graph_resolve(a->g, v);
        }
    }
    return v;
}

static Expr plus(Ctx *c, Expr x, int64_t k) { return expr_op(c, S_ADD, x, expr_int(c, DT_I32, k), (Expr){0}); }

static Val shifted(Quant *q, Val v) { /* i8 moved to u8 by 128, or u8 to i8 */
    Ctx *c = q->a.c;
    DType from = type_of(q, v), to = from == DT_I8 ? DT_U8 : DT_I8;
    Expr e = expr_op(c, S_XOR, expr_bitcast(c, expr_arg(c, 0, from), DT_U8), expr_int(c, DT_U8, HALF), (Expr){0});
    v = b_map1(&q->a.b, expr_bitcast(c, e, to), 1, &v);
    return val_const(q->a.g, v) ? v : graph_resolve(q->a.g, v);
}

static Val folded(Quant *q, Val v) {
    Node *d = val_def(q->a.g, v);
    if (d && d->op != P_CONST) fold_node(q->a.g, d, true);
    return graph_resolve(q->a.g, v);
}

/* A parameter of w as one of its viewed form, in the places of the result's dims; of a computed w: a scalar. */
static Val on_columns(Quant *q, const Contract *m, Expr e) {
    const ContractAttr *at = m->n->attr;
    if (m->computed) return flat_scalar(&q->a, &m->w.f, e);
    Val s = flat_value(&q->a, &m->w.f, e);
    if (s.i) s = scale_fit(&q->a, s, val_type(q->a.g, m->w.q));
    for (int k = m->w.nview - 1; k >= 0 && s.i; k--) s = scale_down(&q->a, m->w.view[k], s);
    return s.i ? scale_relabel(&q->a, s, at->label[!m->side], rank_of(q, m->n->out[0]), at->label[2]) : s;
}

/* w without its zero point, if that fits into type t (f32 always). */
static Val centred(Quant *q, const Contract *m, DType t) {
    Alg *a = &q->a;
    Ctx *c = a->c;
    Val in[2] = {m->w.q}, wide;
    if (!m->w.zero.i && type_of(q, m->w.q) == t) return m->w.q;
    if (m->computed) return (Val){0};
    Expr e = expr_cast(c, expr_arg(c, 0, type_of(q, m->w.q)), DT_I32);
    int nin = 1;
    if (m->w.zero.i) {
        if (!(in[nin++] = flat_value(a, &m->w.f, m->w.zero)).i) return (Val){0};
        e = expr_op(c, S_SUB, e, expr_arg(c, 1, DT_I32), (Expr){0});
    }
    const Type *type = val_type(a->g, m->w.q);
    b_map(&a->b, 1, &e, nin, in, type->rank, type->dim, &wide);
    wide = folded(q, wide);
    const ConstData *d = val_const(a->g, wide);
    if (!d) return (Val){0};
    for (int64_t i = 0; i < (d->splat ? 1 : d->count); i++) {
        Scalar v = dt_load(DT_I32, d->data, i);
        if (t == DT_I8 && (v.i < -HALF || v.i >= HALF)) return (Val){0};
    }
    return folded(q, b_cast(&a->b, wide, t));
}

/* The sum of v (x or w as contracted) over all summed labels, with the dims of the result where v has them, 1 elsewhere. */
static Val summed(Quant *q, const Contract *m, Val v, int side) {
    Alg *a = &q->a;
    const ContractAttr *at = m->n->attr;
    const Type *o = val_type(a->g, m->n->out[0]), *t = val_type(a->g, v);
    ContractAttr s = {.label = NO_LABELS, .acc = DT_I32, .out = DT_I32};
    Dim dim[MAX_RANK];
    int n = 0;
    memcpy(s.label[0], at->label[side], t->rank);
    for (int d = 0; d < o->rank; d++) {
        bool has = find(at->label[side], t->rank, at->label[2][d]) >= 0;
        dim[d] = has ? o->dim[d] : dim_const(a->c, 1);
        if (has) s.label[2][n++] = at->label[2][d];
    }
    Val one = b_scalar(&a->b, (Scalar){.t = type_of(q, v), .i = 1}), y;
    if (dt_is_float(type_of(q, v))) one = b_scalar(&a->b, (Scalar){.t = DT_F32, .f = 1}), s.acc = DT_F32;
    y = b_contract_attr(&a->b, &s, v, one);
    if (val_const(a->g, v)) y = folded(q, y);
    y = b_reshape(&a->b, y, o->rank, dim);
    return val_const(a->g, v) ? folded(q, y) : y;
}

/* ---- rewriting ---- */

/* acc's map: operands, and the expression so far. Parameters are constants in places of acc's dims, or of one element. */
typedef struct Result { Val acc, in[8]; bool shaped[8]; int nin; Expr e; } Result;

static Expr operand(Quant *q, Result *r, Val v, DType t, bool shaped) {
    Scalar s;
    Expr e;
    if (val_const(q->a.g, v)) v = alg_const(&q->a, b_cast(&q->a.b, v, t));
    if (val_scalar(q->a.g, v, &s)) e = expr_const(q->a.c, s);
    else {
        r->shaped[r->nin] = shaped;
        r->in[r->nin] = v;
        e = expr_arg(q->a.c, (uint32_t)r->nin++, type_of(q, v));
    }
    return expr_cast(q->a.c, e, t);
}

static Expr op2(Quant *q, SOp op, Expr x, Expr y) { return expr_op(q->a.c, op, x, y, (Expr){0}); }

/* The only reader of v, if it is a view that renames points. */
static Node *view_after(Quant *q, Val v) {
    Node *n = v.i < q->a.nval ? q->reader[v.i] : NULL;
    return n && (n->op == P_RESHAPE || n->op == P_PERMUTE) ? n : NULL;
}

/* Applies the views that follow to acc and to the parameters instead; the value that the map replaces. */
static Val sink(Quant *q, Result *r, Val out) {
    for (Node *n = view_after(q, out); n; n = view_after(q, out)) {
        Val moved[8];
        bool ok = true;
        for (int k = 1; k < r->nin && ok; k++) {
            moved[k] = r->in[k];
            if (!r->shaped[k]) continue;
            ok = val_const(q->a.g, r->in[k]) && (moved[k] = scale_down(&q->a, n, r->in[k])).i;
        }
        if (!ok) break;
        Type t = *val_type(q->a.g, n->out[0]);
        t.dtype = (uint8_t)type_of(q, r->acc);
        memcpy(r->in + 1, moved + 1, sizeof *moved * (size_t)(r->nin - 1));
        r->in[0] = r->acc = graph_node(q->a.g, (PrimOp)n->op, 1, &r->acc, 1, &t, n->attr, n->loc)->out[0];
        alg_take(&q->a, out);
        out = n->out[0];
    }
    return out;
}

static Val zero_of(Quant *q, const Dequant *d, int64_t more) { /* i32, one element; none: 0 */
    Ctx *c = q->a.c;
    if (!d->zero.i && !more) return (Val){0};
    return flat_scalar(&q->a, &d->f, plus(c, d->zero.i ? d->zero : expr_int(c, DT_I32, 0), more));
}

static bool rewrite(Quant *q, Node *n) {
    Contract m;
    Alg *a = &q->a;
    Ctx *c = a->c;
    if (!match(q, n, &m)) return false;
    const ContractAttr *at = n->attr;
    DType sum = m.deep ? DT_I32 : DT_F32;
    /* zero points and scales */
    bool move = m.deep && type_of(q, m.x.q) == DT_I8;
    Val zx = zero_of(q, &m.x, move ? HALF : 0), sx = {0}, sw = {0}, zw = {0};
    if ((m.x.zero.i || move) && !zx.i) return false;
    if (m.floats) {
        Expr one = expr_float(c, DT_F32, 1);
        sx = flat_scalar(a, &m.x.f, m.x.scale.i ? m.x.scale : one);
        sw = on_columns(q, &m, m.w.scale.i ? m.w.scale : one);
        if (!sx.i || !sw.i) return false;
    }
    /* weights */
    Val w = centred(q, &m, m.deep ? DT_I8 : DT_F32);
    if (!w.i) {
        bool unsign = type_of(q, m.w.q) == DT_U8;
        if (!m.deep || !(zw = on_columns(q, &m, plus(c, m.w.zero.i ? m.w.zero : expr_int(c, DT_I32, 0), unsign ? -HALF : 0))).i) return false;
        w = unsign ? folded(q, shifted(q, m.w.q)) : m.w.q;
    }
    for (int k = 0; k < m.w.nview; k++) if (m.w.view[k]->op == P_PAD && zw.i) return false;
    if (!(w = viewed(q, &m.w, w, 0, (Val){0})).i) return false;
    Val x = viewed(q, &m.x, move ? shifted(q, m.x.q) : m.x.q, 0, zx);
    if (!x.i || !pass_allow(a->p)) return false;
    /* the sum */
    ContractAttr ia = *at;
    Val in[2];
    ia.acc = ia.out = sum;
    in[m.side] = x;
    in[!m.side] = w;
    Result r = {.nin = 1};
    r.in[0] = r.acc = b_contract_attr(&a->b, &ia, in[0], in[1]);
    r.e = expr_arg(c, 0, sum);
    Scalar z = {.t = DT_I32};
    bool known = !zx.i || val_scalar(a->g, zx, &z);
    if (!known || z.i) {
        Val columns = summed(q, &m, w, !m.side);
        bool now = known && val_const(a->g, columns);
        Expr s = operand(q, &r, now ? alg_mul(a, columns, b_cast(&a->b, zx, type_of(q, columns))) : columns, sum, true);
        r.e = op2(q, S_SUB, r.e, now ? s : op2(q, S_MUL, s, operand(q, &r, zx, sum, false)));
    }
    if (zw.i) {
        Expr rows = operand(q, &r, summed(q, &m, x, m.side), DT_I32, true);
        if (!known || z.i) rows = op2(q, S_SUB, rows, op2(q, S_MUL, operand(q, &r, zx, DT_I32, false), expr_int(c, DT_I32, m.k)));
        r.e = op2(q, S_SUB, r.e, op2(q, S_MUL, rows, operand(q, &r, zw, DT_I32, !m.computed)));
    }
    r.e = expr_cast(c, r.e, at->out);
    if (m.floats) {
        Scalar s;
        if (val_const(a->g, sw) && val_scalar(a->g, sx, &s)) r.e = op2(q, S_MUL, r.e, operand(q, &r, alg_mul(a, sw, sx), DT_F32, true));
        else r.e = op2(q, S_MUL, r.e, op2(q, S_MUL, operand(q, &r, sw, DT_F32, !m.computed), operand(q, &r, sx, DT_F32, false)));
    }
    Val out = sink(q, &r, n->out[0]), y;
    const Type *t = val_type(a->g, out);
    b_map(&a->b, 1, &r.e, r.nin, r.in, t->rank, t->dim, &y);
    graph_replace(a->g, out, y);
    if (m.floats) vec_push(c, &q->product, r.acc);
    return true;
}

/* ---- maxima ---- */

/* Does every window over what is padded hold an element of its own? Windows as wide as the padding do. */
static bool windows_reach(const Quant *q, const Dequant *d) {
    const WindowAttr *w = NULL;
    for (int k = 0; k < d->nview; k++) {
        const Node *n = d->view[k];
        if (n->op == P_WINDOW && !w) {
            w = n->attr;
        } else if (n->op == P_PAD) {
            const PadAttr *p = n->attr;
            if (p->mode != PAD_VALUE) continue;
            for (int axis = 0; axis < val_type(q->a.g, n->in[0])->rank; axis++) {
                int64_t lo, hi, size = 0;
                for (int i = 0; w && i < w->n; i++)
                    if (w->axis[i] == axis && w->dilation[i] == 1 && !dim_is_const(q->a.c, w->size[i], &size)) return false;
                if (!dim_is_const(q->a.c, p->lo[axis], &lo) || !dim_is_const(q->a.c, p->hi[axis], &hi)) return false;
                if ((lo || hi) && (lo >= size || hi >= size || dim_lo(q->a.c, val_type(q->a.g, n->in[0])->dim[axis]) < 1)) return false;
            }
        } else return false;
    }
    return true;
}

static bool maximum(Quant *q, Node *n) {
    Alg *a = &q->a;
    Ctx *c = a->c;
    Dequant d;
    Scalar s = {.t = DT_F32, .f = 1}, z = {.t = DT_I32};
    const ReduceAttr *at = n->attr;
    if (n->nin != 1 || !reduce_is(c, at, R_MAX, DT_F32) || !dequant_of(a, n->in[0], &d) || !d.nview || !windows_reach(q, &d)) return false;
    Val scale = d.scale.i ? flat_scalar(a, &d.f, d.scale) : (Val){0}, zero = d.zero.i ? flat_scalar(a, &d.f, d.zero) : (Val){0};
    if ((d.scale.i && !val_scalar(a->g, scale, &s)) || (d.zero.i && !val_scalar(a->g, zero, &z)) || s.f <= 0) return false;
    Val least = b_scalar(&a->b, (Scalar){.t = DT_I32, .i = type_of(q, d.q) == DT_I8 ? -HALF : 0});
    Val x = viewed(q, &d, d.q, -INFINITY, least), y;
    if (!x.i || !pass_allow(a->p)) return false;
    x = b_reduce1(&a->b, R_MAX, x, at->axes, at->keep);
    Expr e = expr_cast(c, expr_arg(c, 0, type_of(q, x)), DT_I32);
    if (z.i) e = op2(q, S_SUB, e, expr_const(c, z));
    e = op2(q, S_MUL, expr_cast(c, e, DT_F32), expr_const(c, s));
    const Type *t = val_type(a->g, n->out[0]);
    b_map(&a->b, 1, &e, 1, &x, t->rank, t->dim, &y);
    graph_replace(a->g, n->out[0], y);
    return true;
}

/* Facts about the graph as it is now. */
static void look(Quant *q, Graph *g, PassCtx *p) {
    graph_tidy(g);
    q->a = (Alg){.g = g, .c = g->c, .p = p, .uses = graph_uses(g), .nval = g->val.n, .taken = NEWN(g->c, bool, g->val.n)};
    q->reader = NEWN(g->c, Node *, g->val.n);
    for (uint32_t i = 0; i < g->node.n; i++)
        for (int k = 0; k < g->node.v[i]->nin; k++) {
            Val v = graph_resolve(g, g->node.v[i]->in[k]);
            if (q->a.uses[v.i] == 1) q->reader[v.i] = g->node.v[i];
        }
}

bool pass_quant(Graph *g, PassCtx *p) {
    Quant quant = {0}, *q = &quant;
    bool changed = false;
    look(q, g, p);
    uint32_t n = g->node.n;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    for (uint32_t i = 0; i < n; i++) {
        q->a.b = builder(g, node[i]->loc);
        if (node[i]->op == P_REDUCE) changed |= maximum(q, node[i]);
        if (node[i]->op != P_CONTRACT) continue;
        bool done = rewrite(q, node[i]);
        explain(p, g, node[i], done ? "sums products of 8-bit integers" : "is not made from constant 8-bit weights and 8-bit values");
        changed |= done;
    }
    look(q, g, p);
    bool *product = NEWN(g->c, bool, g->val.n);
    for (uint32_t i = 0; i < q->product.n; i++) product[graph_resolve(g, q->product.v[i]).i] = true;
    if (quant_scales(&q->a, product)) changed = true;
    graph_tidy(g);
    return changed;
}
