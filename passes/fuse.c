/* fuse.c: partitions the graph into kernels. In: a graph after `bufferise`; out: the same graph in which all work is in
 * `group "kernel"` nodes; what remains beside them is const, concat (placed), bind, guard, loop and if.
 *
 * Nodes are visited in order; each joins the group of one of its producers or starts its own. A group is of one kind:
 *   map       pointwise over one domain
 *   contract  one contraction, or one claimed group that ends in one, and what follows it over its result
 *   rows      reductions over the same trailing axes and maps over the rows or their results (softmax, norms)
 *   reduce    one reduction, pointwise producers, and what follows it
 *   alone     scan, sort, scatter, ...: nothing joins
 * Views belong to whoever reads them: they are copied into the reader's group. A merge must not create a cycle between groups. */
#include <string.h>

#include "ir/storage.h"

#include "internal.h"

typedef enum { G_MAP, G_CONTRACT, G_ROWS, G_REDUCE, G_ALONE } GroupKind;
enum { ROW_BYTES = 512 << 10, MAX_OPERANDS = 24, CHEAP = 20, CHEAP_OF_LIST = 5, MAX_DEPTH = 4000 };

typedef struct Grp {
    GroupKind kind;
    uint32_t first, last;       /* positions of its first and last member */
    VEC(Node *) node;
    uint8_t rank;               /* domain of map, contract (its result) and rows (the full rows) */
    const Dim *dim;
    uint32_t axes;              /* rows, reduce: reduced axes of the full domain */
    uint32_t seen;              /* stamp of the cycle search */
    bool cut;                   /* contract: a slice rode along, so some points are not stored */
} Grp;

typedef struct Fuse {
    Graph *g;
    Ctx *c;
    PassCtx *p;
    uint32_t *pos;              /* per value: position of its definition */
    uint32_t *group;            /* per value: 1 + group that makes it, 0 = none */
    uint32_t *uses;
    VEC(Grp *) grp;
    VEC(uint32_t) bind;         /* positions of bind nodes, loops and ifs, and calls with tensors as results */
    bool *beside;               /* per value: an expression of constants that is computed in the contraction that reads it */
    uint32_t stamp;
} Fuse;

static bool is_work(const Node *n) {
    switch (n->op) {
    case P_MAP: case P_REDUCE: case P_CONTRACT: case P_SCAN: case P_GATHER: case P_SCATTER: case P_UPDATE: case P_SORT:
    case P_TOPK: case P_COMPACT: case P_COPY: case P_RANDOM: case P_GROUP: return true;
    default: return false;
    }
}

static bool gives_sizes(const Graph *g, const Node *n) {
    bool any = false;
    for (int r = 0; r < n->nout && (n->op == P_SEQ || n->op == P_CALL); r++) any |= val_type(g, n->out[r])->rank > 0;
    return any;
}

/* Generators without operands, shapes: computed wherever they are read. Not a list of any cost, which is read at all points of other axes again. */
static bool is_inline(const Fuse *f, const Node *n) {
    if (n->op == P_SHAPE) return true;
    if (n->op == P_MAP && n->nout == 1 && f->beside[n->out[0].i]) return true;
    if (n->op != P_MAP || n->nin || n->nout != 1) return false;
    const MapAttr *a = n->attr;
    return expr_cost(f->c, a->body[0]) < (a->rank == 1 ? CHEAP_OF_LIST : CHEAP);
}

static bool reads_through(const Fuse *f, const Node *n) { return n && (is_view(n) || is_inline(f, n)); }

/* The value that a view chain starts from. */
static Val base_of(Fuse *f, Val v) {
    v = graph_resolve(f->g, v);
    for (Node *d = val_def(f->g, v); d && is_view(d); d = val_def(f->g, v)) v = graph_resolve(f->g, d->in[0]);
    return v;
}

/* Does v come from memory as it is, through views that only rename its coordinates? */
static bool renamed_only(Fuse *f, Val v) {
    v = graph_resolve(f->g, v);
    for (Node *d = val_def(f->g, v); d && is_view(d); d = val_def(f->g, v)) {
        if (d->op == P_PAD) return false;
        v = graph_resolve(f->g, d->in[0]);
    }
    return true;
}

/* Weights that a map makes of fewer bytes of constants (dequantisation) and that one contraction reads: its kernel makes them
 * panel by panel, so the product reads the few bytes, and no run writes the many. */
static void find_beside(Fuse *f, const Node *n) {
    const ContractAttr *a = n->attr;
    for (int k = 0; k < 2; k++) {
        Val v = graph_resolve(f->g, n->in[k]);
        const Type *x = val_type(f->g, n->in[!k]);
        if (a->acc != DT_F32 || x->dtype != DT_F32 || !renamed_only(f, n->in[!k]) || !renamed_only(f, v)) continue;
        bool single = f->uses[v.i] == 1;
        for (Node *d = val_def(f->g, v); d && is_view(d); d = val_def(f->g, v)) {
            v = graph_resolve(f->g, d->in[0]);
            single &= f->uses[v.i] == 1;
        }
        Node *d = val_def(f->g, v);
        int64_t dims[MAX_RANK], count = 1;
        if (!single || !d || d->op != P_MAP || d->nout != 1 || !d->nin || !type_const_dims(f->c, val_type(f->g, v), dims)) continue;
        size_t bytes = 0;
        bool constants = val_type(f->g, v)->dtype == DT_F32;
        for (int i = 0; i < val_type(f->g, v)->rank; i++) count *= dims[i];
        for (int i = 0; i < d->nin && constants; i++) {
            const ConstData *c = d->in[i].i ? val_const(f->g, base_of(f, d->in[i])) : NULL;
            constants = c != NULL;
            bytes += c ? c->bytes : 0;
        }
        f->beside[v.i] = constants && bytes < dt_bytes(DT_F32, count);
    }
}

static uint32_t group_of(Fuse *f, Val v) { return f->group[base_of(f, v).i]; }

static Dim count_of(Fuse *f, Val v) { return type_count(f->c, val_type(f->g, v)); }

static bool same_dims(Ctx *c, int n, const Dim *a, const Dim *b) {
    for (int d = 0; d < n; d++) if (!dim_same(c, a[d], b[d])) return false;
    return true;
}

static bool type_is(Ctx *c, const Type *t, int rank, const Dim *dim) { return t->rank == rank && same_dims(c, rank, t->dim, dim); }

/* ---- cycles ---- */

/* Does v depend on group `target`? Beyond MAX_DEPTH producers the answer is yes: that only keeps kernels apart. */
static bool reaches(Fuse *f, Val v, uint32_t target, int depth) {
    if (depth > MAX_DEPTH) return true;
    Val b = graph_resolve(f->g, v);
    Node *d = val_def(f->g, b);
    if (!d) return false;
    uint32_t gi = f->group[b.i];
    if (gi == target) return true;
    Grp *t = f->grp.v[target - 1];
    if (!gi) { /* a view, const, concat or control node: look through it */
        if (f->pos[b.i] < t->first) return false;
        for (int k = 0; k < d->nin; k++) if (d->in[k].i && reaches(f, d->in[k], target, depth + 1)) return true;
        return false;
    }
    Grp *g = f->grp.v[gi - 1];
    if (g->seen == f->stamp || g->last < t->first) return false;
    g->seen = f->stamp;
    for (uint32_t i = 0; i < g->node.n; i++)
        for (int k = 0; k < g->node.v[i]->nin; k++)
            if (g->node.v[i]->in[k].i && reaches(f, g->node.v[i]->in[k], target, depth + 1)) return true;
    return false;
}

/* Would node n in group gi make the group depend on itself through others? */
static bool makes_cycle(Fuse *f, Node *n, uint32_t gi) {
    Grp *t = f->grp.v[gi - 1];
    for (uint32_t b = 0; b < f->bind.n; b++) /* sizes computed in between: do not reach across */
        if (f->bind.v[b] > t->first) return true;
    f->stamp++;
    for (int k = 0; k < n->nin; k++) {
        if (!n->in[k].i || group_of(f, n->in[k]) == gi) continue;
        if (reaches(f, n->in[k], gi, 0)) return true;
    }
    return false;
}

/* ---- joining ---- */

/* From the group's value to the operand only reshapes and permutes that nobody else reads (so they can ride along); behind a
 * contraction slices, too: what they cut off is not stored. No reshape may follow a cut: it would move the points that were cut
 * off to places of others. */
static bool pure_path(Fuse *f, Val v, const Grp *g) {
    bool slices = g->kind == G_CONTRACT, reshaped = false;
    v = graph_resolve(f->g, v);
    for (Node *d = val_def(f->g, v); d && is_view(d); d = val_def(f->g, v)) {
        bool ok = d->op == P_RESHAPE ? !g->cut : d->op == P_PERMUTE || (d->op == P_SLICE && slices && !reshaped);
        if (!ok || f->uses[v.i] != 1) return false;
        reshaped |= d->op == P_RESHAPE;
        v = graph_resolve(f->g, d->in[0]);
    }
    return true;
}

static bool path_cuts(Fuse *f, Val v) {
    v = graph_resolve(f->g, v);
    for (Node *d = val_def(f->g, v); d && is_view(d); d = val_def(f->g, v)) {
        if (d->op == P_SLICE) return true;
        v = graph_resolve(f->g, d->in[0]);
    }
    return false;
}

/* Does the path make neighbours of elements that lie in few rows? A kernel that goes along the rows would store every element alone; the copy loads
 * what is side by side, and interleaves it in registers (of three rows not well enough for a kernel more). */
static bool interleaves(Fuse *f, Val v) {
    if (!f->p->target || !(f->p->target->flags & F_AVX2) || dt_bits(val_type(f->g, v)->dtype) != 32) return false;
    v = graph_resolve(f->g, v);
    for (Node *d = val_def(f->g, v); d && is_view(d); d = val_def(f->g, v)) {
        const Type *t = val_type(f->g, v);
        const int last = t->rank - 1;
        if (d->op == P_PERMUTE && last > 0 && ((const PermAttr *)d->attr)->perm[last - 1] == last &&
            (dim_is(f->c, t->dim[last], 2) || dim_is(f->c, t->dim[last], 4)))
            return true;
        v = graph_resolve(f->g, d->in[0]);
    }
    return false;
}

static bool direct(Fuse *f, Val v) { Node *d = val_def(f->g, v); return !d || !is_view(d); }

static bool trailing(uint32_t axes, int rank) {
    int lo = 0;
    while (lo < rank && !(axes >> lo & 1)) lo++;
    return lo < rank && axes == ((rank == 32 ? ~0u : (1u << rank) - 1) & ~((1u << lo) - 1));
}

static bool row_fits(Fuse *f, const Grp *g) {
    Dim n = dim_const(f->c, 4);
    for (int d = 0; d < g->rank; d++) if (g->axes >> d & 1) n = dim_mul(f->c, n, g->dim[d]);
    return dim_hi(f->c, n) == DIM_INF || dim_hi(f->c, n) <= ROW_BYTES;
}

static uint32_t operands(const Grp *g) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->node.n; i++) n += g->node.v[i]->nin;
    return n;
}

/* Is t the result of reducing g's rows (with or without the reduced dims)? */
static bool is_reduced_domain(Fuse *f, const Grp *g, const Type *t) {
    if (t->rank != g->rank) return false;
    for (int d = 0; d < t->rank; d++) {
        if (g->axes >> d & 1 ? !dim_is(f->c, t->dim[d], 1) : !dim_same(f->c, t->dim[d], g->dim[d])) return false;
    }
    return true;
}

static bool map_joins(Fuse *f, Node *n, int k, Grp *g) {
    const Type *out = val_type(f->g, n->out[0]);
    const Dim *dom = out->dim;
    int rank = out->rank;
    bool path = direct(f, n->in[k]);
    if (n->nout != 1) return false;
    if (n->op == P_GATHER && k == 0) return false; /* reads the table at other places */
    if (n->op == P_UPDATE) return false;
    if (n->op == P_COPY && interleaves(f, n->in[k])) return false;
    switch (g->kind) {
    case G_MAP:
        return (path || pure_path(f, n->in[k], g)) && dim_same(f->c, count_of(f, n->in[k]), type_count(f->c, out)) &&
               (!path || type_is(f->c, out, g->rank, g->dim) || n->op == P_COPY);
    case G_CONTRACT:
        return (path || pure_path(f, n->in[k], g)) && dim_same(f->c, count_of(f, n->in[k]), type_count(f->c, out));
    case G_ROWS: case G_REDUCE:
        if (path && rank == g->rank && same_dims(f->c, rank, dom, g->dim)) return trailing(g->axes, g->rank) && row_fits(f, g);
        if (path && is_reduced_domain(f, g, out)) return true;
        if (path && dim_same(f->c, count_of(f, n->in[k]), type_count(f->c, out)) &&
            type_is(f->c, val_type(f->g, n->in[k]), rank, dom)) return true;
        return !path && n->op == P_COPY && pure_path(f, n->in[k], g);
    case G_ALONE: return false;
    }
    return false;
}

static bool only_used_by(Fuse *f, Grp *g, Node *n) {
    for (uint32_t i = 0; i < g->node.n; i++)
        for (int r = 0; r < g->node.v[i]->nout; r++) {
            Val v = g->node.v[i]->out[r];
            uint32_t inside = 0;
            for (uint32_t j = 0; j < g->node.n; j++)
                for (int k = 0; k < g->node.v[j]->nin; k++) inside += graph_resolve(f->g, g->node.v[j]->in[k]).i == v.i;
            for (int k = 0; k < n->nin; k++) inside += graph_resolve(f->g, n->in[k]).i == v.i;
            if (inside != f->uses[v.i]) return false;
        }
    return true;
}

static bool reduce_joins(Fuse *f, Node *n, int k, Grp *g) {
    const ReduceAttr *a = n->attr;
    const Type *x = val_type(f->g, n->in[0]);
    if (!direct(f, n->in[k])) return false;
    for (int j = 0; j < n->nin; j++) if (!type_is(f->c, val_type(f->g, n->in[j]), x->rank, x->dim)) return false;
    if (g->kind == G_ROWS || g->kind == G_REDUCE)
        return type_is(f->c, x, g->rank, g->dim) && g->axes == a->axes && trailing(a->axes, x->rank) && a->keep && row_fits(f, g);
    if (g->kind != G_MAP || !type_is(f->c, x, g->rank, g->dim)) return false;
    for (uint32_t i = 0; i < g->node.n; i++) if (g->node.v[i]->op != P_MAP) return false;
    if (only_used_by(f, g, n)) return true;
    Grp rows = {.rank = x->rank, .dim = x->dim, .axes = a->axes};
    return trailing(a->axes, x->rank) && row_fits(f, &rows);
}

static void join(Fuse *f, Node *n, uint32_t gi, uint32_t at) {
    Grp *g = f->grp.v[gi - 1];
    const Type *x = n->nin ? val_type(f->g, n->in[0]) : NULL;
    if (n->op == P_REDUCE) {
        const ReduceAttr *a = n->attr;
        g->kind = g->kind == G_MAP && !(trailing(a->axes, x->rank)) ? G_REDUCE : g->kind == G_MAP ? G_ROWS : g->kind;
        if (g->kind == G_REDUCE && trailing(a->axes, x->rank)) g->kind = G_ROWS;
        g->axes = a->axes;
        g->rank = x->rank;
        g->dim = x->dim;
    }
    /* A claimed contraction may cut its result itself. */
    if (g->kind == G_CONTRACT && n->op == P_GROUP) g->cut = true;
    for (int k = 0; k < n->nin && g->kind == G_CONTRACT; k++)
        if (n->in[k].i && group_of(f, n->in[k]) == gi && path_cuts(f, n->in[k])) g->cut = true;
    vec_push(f->c, &g->node, n);
    if (at > g->last) g->last = at;
    for (int r = 0; r < n->nout; r++) f->group[n->out[r].i] = gi;
}

static void start(Fuse *f, Node *n, uint32_t at) {
    Grp *g = NEW(f->c, Grp);
    const Type *out = val_type(f->g, n->out[0]);
    const char *claimed = n->op == P_GROUP ? ((const GroupAttr *)n->attr)->name : "";
    bool product = n->op == P_CONTRACT || !strcmp(claimed, "Attention") || !strcmp(claimed, "Winograd");
    g->kind = product ? G_CONTRACT : n->op == P_REDUCE ? G_REDUCE :
              n->op == P_MAP || n->op == P_GATHER || n->op == P_COPY || n->op == P_UPDATE ? G_MAP : G_ALONE;
    if (n->nout != 1 && n->op == P_MAP) g->kind = G_ALONE;
    g->first = g->last = at;
    g->rank = out->rank;
    g->dim = out->dim;
    vec_push(f->c, &f->grp, g);
    if (n->op == P_REDUCE) {
        const ReduceAttr *a = n->attr;
        const Type *x = val_type(f->g, n->in[0]);
        g->axes = a->axes;
        g->rank = x->rank;
        g->dim = x->dim;
    }
    join(f, n, f->grp.n, at);
}

static Expr note_checked(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    (void)c, (void)newarg;
    if (i->kind == E_LOAD && i->oob == OOB_FAIL && i->index < 64) *(uint64_t *)data |= 1ull << i->index;
    return e;
}

/* Operands that n reads at indices which are checked at run time, by bit: they must be in memory for that. A map of more than 64 starts its own
 * group. */
static uint64_t checked_operands(Fuse *f, const Node *n) {
    const MapAttr *a = n->attr;
    uint64_t checked = n->op == P_GATHER;
    for (int r = 0; n->op == P_MAP && r < n->nout; r++) expr_rewrite(f->c, a->body[r], note_checked, &checked);
    return checked;
}

static bool needs_stored(Fuse *f, const Node *n, uint32_t gi) {
    uint64_t checked = checked_operands(f, n);
    for (uint32_t k = 0; k < n->nin && k < 64; k++)
        if (checked >> k & 1 && n->in[k].i && group_of(f, n->in[k]) == gi) return true;
    return false;
}

static void place_node(Fuse *f, Node *n, uint32_t at) {
    static const char *const kind_name[] = {"map", "contract", "rows", "reduce", "alone"};
    const char *why = "";
    uint32_t best = 0;
    if (n->op == P_MAP || n->op == P_REDUCE || n->op == P_COPY || n->op == P_GATHER) {
        for (int k = 0; k < n->nin; k++) {
            uint32_t gi = n->in[k].i ? group_of(f, n->in[k]) : 0;
            if (!gi || (best && f->grp.v[gi - 1]->last <= f->grp.v[best - 1]->last && gi != best)) continue;
            Grp *g = f->grp.v[gi - 1];
            if (g->kind == G_ALONE || operands(g) + n->nin > MAX_OPERANDS) {
                why = g->kind == G_ALONE ? "its producer takes no company" : "the producer's kernel has too many operands";
                continue;
            }
            bool fits = n->op == P_REDUCE ? reduce_joins(f, n, k, g) : map_joins(f, n, k, g);
            if (!fits) why = "its points are not those of its producer's kernel";
            else if (needs_stored(f, n, gi)) why = "it reads the producer's result at computed places";
            else if (makes_cycle(f, n, gi)) why = "kernels would depend on each other in a circle";
            else best = gi;
        }
    }
    if (best && pass_allow(f->p)) {
        explain(f->p, f->g, n, "joins kernel %u (%s), which %s makes", best, kind_name[f->grp.v[best - 1]->kind],
                loc_info(f->c, f->grp.v[best - 1]->node.v[0]->loc)->name);
        join(f, n, best, at);
    } else {
        explain(f->p, f->g, n, "starts kernel %u%s%s", f->grp.n + 1, *why ? ": " : "", why);
        start(f, n, at);
    }
}

/* ---- writing the groups out ---- */

typedef struct Body { Graph *g; Val *map; VEC(Val) in; } Body; /* map: outer value -> body value */

static Val import_value(Fuse *f, Body *b, uint32_t gi, Val v);

static Val import_memory(Fuse *f, Body *b, Val v) {
    vec_push(f->c, &b->in, v);
    return graph_input(b->g, NULL, *val_type(f->g, v));
}

/* Operand k of n, which has those operands checked: a constant among them is no immediate. */
static Val import_operand(Fuse *f, Body *b, uint32_t gi, const Node *n, uint32_t k, uint64_t checked) {
    Val v = graph_resolve(f->g, n->in[k]);
    const Node *d = val_def(f->g, v);
    return k < 64 && checked >> k & 1 && d && d->op == P_CONST ? import_memory(f, b, v) : import_value(f, b, gi, v);
}

static Node *clone_node(Fuse *f, Body *b, uint32_t gi, Node *n) {
    Val in[64], *args = n->nin <= 64 ? in : NEWN(f->c, Val, n->nin);
    Type *t = NEWN(f->c, Type, n->nout);
    const uint64_t checked = checked_operands(f, n);
    for (uint32_t k = 0; k < n->nin; k++) args[k] = n->in[k].i ? import_operand(f, b, gi, n, k, checked) : (Val){0};
    for (int r = 0; r < n->nout; r++) t[r] = *val_type(f->g, n->out[r]);
    Node *m = graph_node(b->g, n->op, n->nin, args, n->nout, t, n->attr, n->loc);
    for (int r = 0; r < n->nout; r++) b->map[n->out[r].i] = m->out[r];
    return m;
}

static Val import_value(Fuse *f, Body *b, uint32_t gi, Val v) {
    v = graph_resolve(f->g, v);
    if (b->map[v.i].i) return b->map[v.i];
    Node *d = val_def(f->g, v);
    Scalar s;
    if (d && reads_through(f, d)) {
        clone_node(f, b, gi, d);
    } else if (d && d->op == P_CONST && val_scalar(f->g, v, &s)) {
        B bb = builder(b->g, d->loc);
        const Type *t = val_type(f->g, v);
        Val x = b_scalar(&bb, s);
        b->map[v.i] = t->rank ? b_broadcast(&bb, x, t->rank, t->dim) : x;
    } else {
        CHECK(f->group[v.i] != gi || !gi);
        b->map[v.i] = import_memory(f, b, v);
    }
    return b->map[v.i];
}

static const char *describe(Fuse *f, const Grp *g) {
    Buf b = {.c = f->c};
    const char *last = "";
    int n = 0;
    for (uint32_t i = 0; i < g->node.n && n < 5; i++) {
        Node *x = g->node.v[i];
        const char *s = x->op == P_GROUP ? ((const GroupAttr *)x->attr)->name : prim_name(x->op);
        if (!strcmp(s, last)) continue;
        buf_printf(&b, "%s%s", n++ ? "_" : "", s);
        last = s;
    }
    for (char *s = (char *)(uintptr_t)buf_str(&b); *s; s++) if (*s >= 'A' && *s <= 'Z') *s = (char)(*s - 'A' + 'a');
    return buf_str(&b);
}

static void emit_group(Fuse *f, uint32_t gi, const bool *outside) {
    Grp *g = f->grp.v[gi - 1];
    Body b = {.g = graph_new(f->c, "kernel", f->g), .map = NEWN(f->c, Val, f->g->val.n)};
    VEC(Val) outs = {0};
    /* A claimed group brings its own body. */
    for (uint32_t i = 0; i < g->node.n; i++) {
        Node *n = g->node.v[i];
        if (n->op == P_GROUP) {
            const GroupAttr *a = n->attr;
            Val *in = NEWN(f->c, Val, n->nin + 1), *out = NEWN(f->c, Val, n->nout);
            for (int k = 0; k < n->nin; k++) in[k] = import_value(f, &b, gi, n->in[k]);
            graph_inline(b.g, a->body, in, out);
            for (int r = 0; r < n->nout; r++) b.map[n->out[r].i] = out[r];
        } else {
            clone_node(f, &b, gi, n);
        }
        for (int r = 0; r < n->nout; r++) if (outside[n->out[r].i]) vec_push(f->c, &outs, n->out[r]);
    }
    Type *t = NEWN(f->c, Type, outs.n + 1);
    for (uint32_t o = 0; o < outs.n; o++) {
        graph_output(b.g, NULL, b.map[outs.v[o].i]);
        t[o] = *val_type(f->g, outs.v[o]);
    }
    graph_tidy(b.g);
    GroupAttr *a = NEW(f->c, GroupAttr);
    *a = (GroupAttr){.name = "kernel", .body = b.g, .note = describe(f, g)};
    Node *k = graph_node(f->g, P_GROUP, (int)b.in.n, b.in.v, (int)outs.n, t, a, g->node.v[g->node.n - 1]->loc);
    for (uint32_t o = 0; o < outs.n; o++) graph_replace(f->g, outs.v[o], k->out[o]);
}

bool pass_fuse(Graph *g, PassCtx *p) {
    graph_tidy(g);
    Fuse fuse = {.g = g, .c = g->c, .p = p}, *f = &fuse;
    uint32_t nnode = g->node.n, nval = 2 * g->val.n; /* results of the kernels become values, too */
    Node **node = ctx_dup(g->c, g->node.v, nnode * sizeof *node);
    f->pos = NEWN(g->c, uint32_t, nval);
    f->group = NEWN(g->c, uint32_t, nval);
    f->uses = NEWN(g->c, uint32_t, nval);
    memcpy(f->uses, graph_uses(g), g->val.n * sizeof *f->uses);
    f->beside = NEWN(g->c, bool, nval);
    for (uint32_t i = 0; i < nnode; i++) if (node[i]->op == P_CONTRACT) find_beside(f, node[i]);
    for (uint32_t i = 0; i < nnode; i++) {
        for (int r = 0; r < node[i]->nout; r++) f->pos[node[i]->out[r].i] = i + 1;
        if (node[i]->op == P_BIND || node[i]->op == P_LOOP || node[i]->op == P_IF || gives_sizes(g, node[i])) vec_push(g->c, &f->bind, i);
        if (is_work(node[i]) && !is_inline(f, node[i])) place_node(f, node[i], i);
    }
    /* Which values leave their group: read by a node of another group, by control, concat, or as a result; through views. */
    bool *outside = NEWN(g->c, bool, nval);
    for (uint32_t o = 0; o < g->out.n; o++) outside[base_of(f, g->out.v[o].val).i] = true;
    for (uint32_t i = 0; i < nnode; i++) {
        Node *n = node[i];
        bool view = reads_through(f, n); /* it moves its first operand; a value of padding must exist */
        for (int k = view ? 1 : 0; k < n->nin; k++) {
            if (!n->in[k].i) continue;
            Val b = base_of(f, n->in[k]);
            if (view || !n->nout || f->group[b.i] != f->group[n->out[0].i] || !f->group[b.i]) outside[b.i] = true;
        }
    }
    /* A generator that a control node, a concat or a result reads must exist. */
    bool *needed = NEWN(g->c, bool, nval);
    for (uint32_t o = 0; o < g->out.n; o++) needed[graph_resolve(g, g->out.v[o].val).i] = true;
    for (uint32_t i = 0; i < nnode; i++)
        for (int k = 0; k < node[i]->nin; k++)
            if (!is_work(node[i]) && !is_view(node[i])) needed[graph_resolve(g, node[i]->in[k]).i] = true;
    for (uint32_t i = 0; i < nnode; i++) {
        if (!is_inline(f, node[i]) || !outside[node[i]->out[0].i]) continue;
        if (needed[node[i]->out[0].i]) start(f, node[i], i);
        else outside[node[i]->out[0].i] = false;
    }
    for (uint32_t gi = 1; gi <= f->grp.n; gi++) emit_group(f, gi, outside);
    graph_tidy(g);
    return true;
}
