/* cse.c: equal nodes become one. In: any graph; out: the same function, bit for bit. Nodes are
 * equal if primitive, attribute, operands and result types are; equality is by content for
 * constants and by value for dims (dim_same), so the hash leaves dims out. Nodes with effects, with
 * regions, or with state of their own (random, copy) are left alone. Bodies of loops and branches
 * are graphs of their own and are treated one by one. */
#include <string.h>

#include "internal.h"

enum { SAMPLE = 4096, NEST = 50 };

typedef struct Cse {
    Graph *g;
    Ctx *c;
    Node **slot; /* open addressing */
    uint64_t *hash;
    uint32_t nslot; /* a power of two */
} Cse;

static const bool impure[P_COUNT] = {
    [P_LOOP] = true, [P_IF] = true,     [P_BIND] = true,  [P_GUARD] = true, [P_COPY] = true,
    [P_SEQ] = true,  [P_RANDOM] = true, [P_GROUP] = true, [P_CALL] = true,  [P_RETURN] = true,
};

static bool pure(const Node *n) { return n->nout > 0 && !impure[n->op]; }

/* ---- what of an attribute is cheap to hash ---- */

static uint64_t mix(uint64_t h, uint64_t v) { return (h ^ v) * 0x9e3779b97f4a7c15u ^ h >> 29; }

static uint64_t attr_hash(const Graph *g, const Node *n, uint64_t h) {
    int rank = n->nin ? val_type(g, n->in[0])->rank : 0;
    switch ((PrimOp)n->op) {
    case P_CONST: {
        const ConstData *d = ((const ConstAttr *)n->attr)->data;
        size_t part = d->bytes < SAMPLE ? d->bytes : SAMPLE;
        h = mix(mix(h, d->bytes), (uint64_t)d->dtype);
        if (!part || d->dtype == DT_STR) return h;
        h = hash_bytes(d->data, part, h);
        return hash_bytes((const char *)d->data + (d->bytes - part), part, h);
    }
    case P_MAP:
        for (int r = 0; r < n->nout; r++) h = mix(h, ((const MapAttr *)n->attr)->body[r].i);
        return h;
    case P_REDUCE:
        return mix(mix(h, ((const ReduceAttr *)n->attr)->axes),
                   ((const ReduceAttr *)n->attr)->comb[0].i);
    case P_SCAN:
        return mix(h, ((const ScanAttr *)n->attr)->comb[0].i);
    case P_PERMUTE:
        return hash_bytes(((const PermAttr *)n->attr)->perm, (size_t)rank, h);
    default:
        return h;
    }
}

static uint64_t node_hash(const Graph *g, const Node *n) {
    uint64_t h = mix(mix(n->op, n->nin), n->nout);
    for (int k = 0; k < n->nin; k++) h = mix(h, graph_resolve(g, n->in[k]).i);
    for (int r = 0; r < n->nout; r++) h = mix(h, val_type(g, n->out[r])->dtype);
    return attr_hash(g, n, h);
}

/* ---- equality of attributes ---- */

static bool dims(const Ctx *c, const Dim *x, const Dim *y, int n) {
    if (!x || !y) return x == y;
    for (int k = 0; k < n; k++)
        if (!dim_same(c, x[k], y[k])) return false;
    return true;
}

static bool scalars(Scalar x, Scalar y) { return x.t == y.t && !memcmp(&x.i, &y.i, sizeof x.i); }

static bool combiner(int n, const Expr *e, const Expr *f, const Scalar *x, const Scalar *y,
                     const DType *t, const DType *u) {
    for (int r = 0; r < n; r++)
        if (e[r].i != f[r].i || !scalars(x[r], y[r]) || t[r] != u[r]) return false;
    return true;
}

static bool steps(const int64_t *x, const int64_t *y, int n) {
    for (int k = 0; k < n; k++)
        if ((x ? x[k] : 0) != (y ? y[k] : 0)) return false;
    return true;
}

#define ATTRS(T) const T *x = m->attr, *y = n->attr
static bool same_attr(const Graph *g, const Node *m, const Node *n) {
    const Ctx *c = g->c;
    const Type *t = m->nin ? val_type(g, m->in[0]) : NULL;
    int rank = t ? t->rank : 0;
    switch ((PrimOp)m->op) {
    case P_CONST: {
        ATTRS(ConstAttr);
        const ConstData *p = x->data, *q = y->data;
        if (p == q) return true;
        return p->dtype == q->dtype && p->count == q->count && p->splat == q->splat &&
               p->bytes == q->bytes && p->dtype != DT_STR &&
               (!p->bytes || !memcmp(p->data, q->data, p->bytes));
    }
    case P_MAP: {
        ATTRS(MapAttr);
        for (int r = 0; r < m->nout; r++)
            if (x->body[r].i != y->body[r].i) return false;
        return x->rank == y->rank && dims(c, x->dim, y->dim, x->rank);
    }
    case P_REDUCE: {
        ATTRS(ReduceAttr);
        return x->axes == y->axes && x->keep == y->keep &&
               combiner(m->nout, x->comb, y->comb, x->init, y->init, x->acc, y->acc);
    }
    case P_SCAN: {
        ATTRS(ScanAttr);
        return x->axis == y->axis && x->reverse == y->reverse && x->exclusive == y->exclusive &&
               combiner(m->nout, x->comb, y->comb, x->init, y->init, x->acc, y->acc);
    }
    case P_CONTRACT: {
        ATTRS(ContractAttr);
        int n2 = val_type(g, m->out[0])->rank, n1 = val_type(g, m->in[1])->rank;
        return x->acc == y->acc && x->out == y->out &&
               !memcmp(x->label[0], y->label[0], (size_t)rank) &&
               !memcmp(x->label[1], y->label[1], (size_t)n1) &&
               !memcmp(x->label[2], y->label[2], (size_t)n2);
    }
    case P_RESHAPE:
    case P_BROADCAST: {
        ATTRS(DimsAttr);
        return x->rank == y->rank && dims(c, x->dim, y->dim, x->rank);
    }
    case P_PERMUTE: {
        ATTRS(PermAttr);
        return !memcmp(x->perm, y->perm, (size_t)rank);
    }
    case P_SLICE:
    case P_UPDATE: {
        ATTRS(SliceAttr);
        return dims(c, x->start, y->start, rank) && steps(x->step, y->step, rank) &&
               (m->op == P_UPDATE || dims(c, x->size, y->size, rank));
    }
    case P_PAD: {
        ATTRS(PadAttr);
        return x->mode == y->mode && dims(c, x->lo, y->lo, rank) && dims(c, x->hi, y->hi, rank) &&
               steps(x->interior, y->interior, rank) &&
               (x->mode != PAD_VALUE || m->nin > 1 || scalars(x->value, y->value));
    }
    case P_CONCAT:
        return ((const AxisAttr *)m->attr)->axis == ((const AxisAttr *)n->attr)->axis;
    case P_WINDOW: {
        ATTRS(WindowAttr);
        return x->n == y->n && !memcmp(x->axis, y->axis, x->n) && dims(c, x->size, y->size, x->n) &&
               steps(x->stride, y->stride, x->n) && steps(x->dilation, y->dilation, x->n);
    }
    case P_GATHER: {
        ATTRS(GatherAttr);
        return x->axis == y->axis && x->oob == y->oob;
    }
    case P_SCATTER: {
        ATTRS(ScatterAttr);
        return x->mode == y->mode && x->elements == y->elements && x->axis == y->axis;
    }
    case P_SORT: {
        ATTRS(SortAttr);
        return x->axis == y->axis && x->descending == y->descending && x->stable == y->stable &&
               x->nkeys == y->nkeys;
    }
    case P_TOPK: {
        ATTRS(TopkAttr);
        return x->axis == y->axis && x->largest == y->largest && x->sorted == y->sorted &&
               dim_same(c, x->k, y->k);
    }
    case P_COMPACT:
        return dim_same(c, ((const CompactAttr *)m->attr)->bound,
                        ((const CompactAttr *)n->attr)->bound);
    case P_SHAPE: {
        ATTRS(ShapeAttr);
        return x->n == y->n && dims(c, x->dim, y->dim, x->n == 0xff ? 1 : x->n);
    }
    default:
        return false;
    }
}

static bool equal(const Graph *g, const Node *m, const Node *n) {
    if (m->op != n->op || m->nin != n->nin || m->nout != n->nout) return false;
    for (int k = 0; k < m->nin; k++)
        if (graph_resolve(g, m->in[k]).i != graph_resolve(g, n->in[k]).i) return false;
    for (int r = 0; r < m->nout; r++)
        if (!type_same(g->c, val_type(g, m->out[r]), val_type(g, n->out[r]))) return false;
    return same_attr(g, m, n);
}

/* ---- the pass ---- */

/* The node equal to n that was met before, or NULL after noting n. */
static Node *find(Cse *s, Node *n) {
    uint64_t h = node_hash(s->g, n);
    uint32_t at = (uint32_t)(h ^ h >> 32) & (s->nslot - 1);
    for (; s->slot[at]; at = (at + 1) & (s->nslot - 1))
        if (s->hash[at] == h && equal(s->g, s->slot[at], n)) return s->slot[at];
    s->slot[at] = n;
    s->hash[at] = h;
    return NULL;
}

static bool cse(Graph *g, PassCtx *p, int depth) {
    Cse s = {.g = g, .c = g->c, .nslot = 64};
    if (depth > NEST) return false;
    while (s.nslot < 2 * g->node.n) s.nslot *= 2;
    s.slot = NEWN(g->c, Node *, s.nslot);
    s.hash = NEWN(g->c, uint64_t, s.nslot);
    bool changed = false;
    for (uint32_t i = 0; i < g->node.n; i++) {
        Node *n = g->node.v[i], *m;
        if (n->op == P_LOOP) changed |= cse(((const LoopAttr *)n->attr)->body, p, depth + 1);
        if (n->op == P_IF) {
            changed |= cse(((const IfAttr *)n->attr)->then_g, p, depth + 1);
            changed |= cse(((const IfAttr *)n->attr)->else_g, p, depth + 1);
        }
        if (!pure(n) || !(m = find(&s, n)) || !pass_allow(p)) continue;
        for (int r = 0; r < n->nout; r++) graph_replace(g, n->out[r], m->out[r]);
        changed = true;
    }
    return changed;
}

bool pass_cse(Graph *g, PassCtx *p) {
    graph_tidy(g);
    bool changed = cse(g, p, 0);
    if (changed) graph_tidy(g);
    return changed;
}
