/* bufferise.c: decides what must exist in memory, by inserting `copy` nodes ("materialise here") in front of fusion:
 * - padding read by contractions, but for constants around those of GPUs and zeros between taps far apart, becomes concats of slabs, so that
 *   the producer writes into the middle of the padded buffer and only the border is filled;
 * - a concat whose reshape is an operand of another is one of reshapes;
 * - operands of concat are written in place by their producers; what cannot be (views, inputs, constants, values placed
 *   elsewhere, results of the graph, what is made before all sizes of the concat are known) is copied;
 * - what a scatter updates is made where its result goes, and copied there if others read it, or if it lies elsewhere;
 * - a reshape that strides cannot express is a copy, which fusion lets the producer write directly;
 * - channels that products, or maps at places of their own, read together lie side by side;
 * - results of the graph and operands of control nodes are values of their own.
 * After this pass every view chain from a materialised value is a strided view, a pad, or a broadcast. */
#include "ir/const.h"
#include "ir/storage.h"

#include "internal.h"

Val copy_of(Graph *g, Val v, Loc loc) {
    static const CopyAttr here = {0};
    Type t = *val_type(g, v);
    return graph_node(g, P_COPY, 1, &v, 1, &t, &here, loc)->out[0];
}

/* Values that a claimed group or (contracts) a contraction reads, itself or through views. */
static bool *read_by_contract(Graph *g, bool contracts) {
    bool *into = NEWN(g->c, bool, g->val.n);
    for (uint32_t i = g->node.n; i-- > 0;) {
        Node *n = g->node.v[i];
        if ((n->op != P_CONTRACT || !contracts) && n->op != P_GROUP && !(is_view(n) && into[n->out[0].i])) continue;
        for (int k = 0; k < n->nin; k++) into[graph_resolve(g, n->in[k]).i] = true;
    }
    return into;
}

static bool is_constant_pad(const Node *n) {
    const PadAttr *a = n->attr;
    return a->mode == PAD_VALUE && !(n->nin > 1 && n->in[1].i);
}

/* Does product n read zeros of the pad through a window whose taps are far apart along all padded axes? Template `contract` ends its loops at such a
 * border, and its rows are long enough between the places where a tap begins or ends; what is stored might be many times the image. */
static bool ends_at_border(const Graph *g, const Node *n, const Node *pad) {
    enum { FAR = 8 };
    const PadAttr *p = pad->attr;
    const ConstData *weights = val_const(g, n->in[1]);
    const Node *w = val_def(g, graph_resolve(g, n->in[0]));
    const Type *x = val_type(g, pad->out[0]);
    while (w && is_view(w) && w->op != P_WINDOW && w->op != P_PAD) w = val_def(g, graph_resolve(g, w->in[0]));
    if (!w || w->op != P_WINDOW || graph_resolve(g, w->in[0]).i != pad->out[0].i) return false;
    if (x->dtype != DT_F32 || p->value.i || !weights || !const_is_finite(weights)) return false;
    const WindowAttr *a = w->attr;
    for (int d = 0; d < x->rank; d++) {
        bool far = dim_is(g->c, p->lo[d], 0) && dim_is(g->c, p->hi[d], 0);
        for (int i = 0; i < a->n; i++) far |= a->axis[i] == d && a->dilation[i] >= FAR && dim_is_const(g->c, a->size[i], NULL);
        if (!far) return false;
    }
    return true;
}

/* Pads that only such products read. */
static bool *border_pads(Graph *g) {
    bool *stays = NEWN(g->c, bool, g->val.n);
    const uint32_t *uses = graph_uses(g);
    for (uint32_t i = 0; i < g->node.n; i++) {
        const Node *n = g->node.v[i], *d = n;
        if (n->op != P_CONTRACT) continue;
        do d = val_def(g, graph_resolve(g, d->in[0]));
        while (d && is_view(d) && d->op != P_PAD && uses[d->out[0].i] == 1);
        if (d && d->op == P_PAD && uses[d->out[0].i] == 1 && is_constant_pad(d) && ends_at_border(g, n, d)) stays[d->out[0].i] = true;
    }
    return stays;
}

/* What pad n has before (or after) v along the axis; v has been padded along later ones. */
static Val slab(B *b, const Node *n, Val v, int axis, bool after) {
    const PadAttr *a = n->attr;
    const Type *t = val_type(b->g, v);
    Dim lo[MAX_RANK], hi[MAX_RANK], dim[MAX_RANK], size = after ? a->hi[axis] : a->lo[axis];
    for (int d = 0; d < t->rank; d++) {
        dim[d] = d == axis ? size : t->dim[d];
        lo[d] = d == axis && !after ? size : dim_const(b->c, 0);
        hi[d] = d == axis && after ? size : dim_const(b->c, 0);
    }
    Val s;
    if (is_constant_pad(n)) {
        Expr body = expr_const(b->c, a->value);
        b_map(b, 1, &body, 0, NULL, t->rank, dim, &s);
    } else {
        s = b_pad(b, v, lo, hi, NULL, a->mode, a->value, n->nin > 1 ? n->in[1] : (Val){0});
        s = b_slice_axis(b, s, axis, after ? t->dim[axis] : dim_const(b->c, 0), size);
    }
    return copy_of(b->g, s, b->loc); /* or it would be computed where it is read, again */
}

static bool pad_to_concat(Graph *g, Node *n) {
    const PadAttr *a = n->attr;
    const Type *x = val_type(g, n->in[0]);
    if (a->interior) return false;
    for (int d = 0; d < x->rank; d++) if (dim_lo(g->c, a->lo[d]) < 0 || dim_lo(g->c, a->hi[d]) < 0) return false;
    B b = builder(g, n->loc);
    Val v = n->in[0];
    for (int d = x->rank - 1; d >= 0; d--) { /* innermost first: the outermost slabs are the largest and contiguous */
        Val part[3];
        int np = 0;
        if (!dim_is(g->c, a->lo[d], 0)) part[np++] = slab(&b, n, v, d, false);
        part[np++] = v;
        if (!dim_is(g->c, a->hi[d], 0)) part[np++] = slab(&b, n, v, d, true);
        if (np > 1) v = b_concat(&b, np, part, d);
    }
    graph_replace(g, n->out[0], v);
    return true;
}

/* ---- reshapes that strides cannot express ---- */

typedef struct Known { bool set, pitched; Strides s; } Known; /* pitched: lies in another buffer, strides not known yet */

/* A reshape that only cuts dims into several, or adds dims of 1: strides express it wherever the operand lies. */
static bool splits(Ctx *c, const Node *n, const Graph *g) {
    const Type *from = val_type(g, n->in[0]), *to = val_type(g, n->out[0]);
    int d = 0;
    for (int i = 0; i < from->rank; i++) {
        Dim product = dim_const(c, 1);
        int first = d;
        while (d < to->rank && (d == first || !dim_same(c, product, from->dim[i]))) product = dim_mul(c, product, to->dim[d++]);
        if (!dim_same(c, product, from->dim[i])) return false;
    }
    for (; d < to->rank; d++) if (!dim_is(c, to->dim[d], 1)) return false;
    return true;
}

/* room: values that `placed` covers; enough for those made here */
static void materialise_reshapes(Graph *g, const bool *placed, uint32_t room) {
    uint32_t nnode = g->node.n;
    Known *k = NEWN(g->c, Known, room);
    for (uint32_t i = 0; i < nnode; i++) {
        Node *n = g->node.v[i];
        if (!is_view(n) || n->op == P_PAD) continue;
        Val x = graph_resolve(g, n->in[0]);
        if (!k[x.i].set) k[x.i] = (Known){true, placed[x.i], strides_dense(g->c, val_type(g, x))};
        Known out = {.set = true, .pitched = k[x.i].pitched};
        bool fits = strides_view(g->c, g, n, &k[x.i].s, &out.s) && !(out.pitched && n->op == P_RESHAPE && !splits(g->c, n, g));
        if (fits) {
            k[n->out[0].i] = out;
        } else if (n->op == P_RESHAPE) {
            Type t = *val_type(g, n->out[0]);
            Node *again = graph_node(g, P_RESHAPE, 1, n->in, 1, &t, n->attr, n->loc);
            graph_replace(g, n->out[0], copy_of(g, again->out[0], n->loc));
        }
    }
}

/* ---- channels that products read side by side ---- */

/* The strides of v in the memory that its chain of views starts from, if they can be told. */
static bool strides_in_memory(Graph *g, Val v, Strides *out) {
    Strides of;
    const Node *d = val_def(g, v);
    if (!d || !is_view(d) || d->op == P_PAD) return *out = strides_dense(g->c, val_type(g, v)), true;
    return strides_in_memory(g, graph_resolve(g, d->in[0]), &of) && strides_view(g->c, g, d, &of, out);
}

/* Is the innermost dim of operand 0 one that a product reads side by side? Bytes multiplied by four, and blocks of channels where constant weights
 * have so many rows and columns that the copy costs less than reading planes for each panel of columns: half as many columns, where the planes do
 * not stay in the second-level cache from panel to panel. */
static bool wants_together(const Graph *g, const Node *n, const Target *t) {
    enum { MANY_ROWS = 128, MANY_COLUMNS = 256 };
    const ContractAttr *a = n->attr;
    const Type *x = val_type(g, n->in[0]), *w = val_type(g, n->in[1]);
    int64_t rows = 1, columns = 1, e;
    if (!x->rank) return false;
    if (a->acc == DT_I32) return x->dtype == DT_U8 && w->dtype == DT_I8 && dim_is(g->c, x->dim[x->rank - 1], 4);
    if (x->dtype != DT_F32 || !dim_is(g->c, x->dim[x->rank - 1], 16) || !val_const(g, n->in[1])) return false;
    for (int d = 0; d < w->rank; d++) {
        bool reduced = false;
        for (int i = 0; i < x->rank; i++) reduced |= a->label[0][i] == a->label[1][d];
        if (!dim_is_const(g->c, w->dim[d], &e)) return false;
        *(reduced ? &rows : &columns) *= e;
    }
    bool far = t && dim_is_const(g->c, type_count(g->c, x), &e) && e * (int64_t)sizeof(float) > t->l2;
    return rows >= MANY_ROWS && columns >= (far ? MANY_COLUMNS / 2 : MANY_COLUMNS);
}

/* Where views tear these apart, a copy puts them together: of what a window looks at, for the window would repeat it. */
static void materialise_together(Graph *g, const Target *t) {
    uint32_t nnode = g->node.n;
    for (uint32_t i = 0; i < nnode; i++) {
        Node *n = g->node.v[i], *user = n;
        Strides s;
        if (n->op != P_CONTRACT || !wants_together(g, n, t)) continue;
        if (!strides_in_memory(g, graph_resolve(g, n->in[0]), &s) || dim_is(g->c, s.stride[s.rank - 1], 1)) continue;
        for (Node *d = val_def(g, graph_resolve(g, n->in[0])); d && is_view(d); d = val_def(g, graph_resolve(g, d->in[0])))
            if (d->op == P_WINDOW) user = d;
        user->in[0] = copy_of(g, graph_resolve(g, user->in[0]), n->loc);
    }
}

/* Operands that a map reads at places of its own, all along its last axis. */
typedef struct Rows { uint8_t last; uint32_t operands; } Rows;

static bool note_row(void *data, Ctx *c, const ExprInfo *i) {
    Rows *r = data;
    const int rank = i->kind == E_LOAD ? i->narg - (i->oob == OOB_VALUE) : 0;
    const ExprInfo *at = rank ? expr_info(c, i->arg[rank - 1]) : NULL;
    if (at && at->kind == E_AXIS && at->index == r->last && i->index < 32) r->operands |= 1u << i->index;
    return true;
}

/* Rows of a permuted image, of which many are read, or each many times, are copied to lie side by side, once for all maps. */
static void materialise_rows(Graph *g) {
    uint32_t nnode = g->node.n;
    Val *copy = NEWN(g->c, Val, g->val.n);
    for (uint32_t i = 0; i < nnode; i++) {
        Node *n = g->node.v[i];
        int64_t points, elements;
        if (n->op != P_MAP) continue;
        const MapAttr *a = n->attr;
        Rows rows = {.last = (uint8_t)(a->rank - 1)};
        for (int r = 0; a->rank && r < n->nout; r++) expr_each(g->c, a->body[r], note_row, &rows);
        for (int k = 0; k < n->nin && k < 32; k++) {
            if (!(rows.operands >> k & 1)) continue;
            Val v = graph_resolve(g, n->in[k]);
            const Node *d = val_def(g, v);
            Strides s;
            if (!d || d->op != P_PERMUTE || !strides_in_memory(g, v, &s) || dim_is(g->c, s.stride[s.rank - 1], 1)) continue;
            bool few = dim_is_const(g->c, type_count(g->c, val_type(g, n->out[0])), &points) &&
                       dim_is_const(g->c, type_count(g->c, val_type(g, v)), &elements) && points < elements;
            if (few) continue;
            if (!copy[v.i].i) copy[v.i] = copy_of(g, v, n->loc);
            n->in[k] = copy[v.i];
        }
    }
}

/* ---- concats and results ---- */

/* Takes dense operands; what it gives lies where it chooses. */
static bool is_control(const Node *n) {
    return n->op == P_BIND || n->op == P_GUARD || n->op == P_LOOP || n->op == P_IF || n->op == P_SEQ || n->op == P_CALL;
}

/* Positions of nodes begin with 1; 0 is before the graph. */
typedef struct KnownFrom { uint32_t *sym, at, last; } KnownFrom; /* sym: of the node that defines a symbol */

static void defined_here(void *data, uint32_t sym) {
    KnownFrom *k = data;
    k->sym[sym] = k->at;
}

static void needed(void *data, uint32_t sym) {
    KnownFrom *k = data;
    if (k->sym[sym] > k->last) k->last = k->sym[sym];
}

/* The node after which it is known how large concat n is, and where its operands lie in it. */
static uint32_t known_from(Graph *g, const Node *n, KnownFrom *k) {
    k->last = 0;
    for (int i = 0; i < n->nin; i++) {
        const Type *t = val_type(g, n->in[i]);
        for (int d = 0; d < t->rank; d++) dim_each_sym(g->c, t->dim[d], needed, k);
    }
    return k->last;
}

static bool producer_can_place(Graph *g, Val v, const bool *taken) {
    Node *d = val_def(g, v);
    if (!d || taken[v.i]) return false;
    if (is_view(d) || d->op == P_CONST || is_control(d)) return false;
    return true;
}

/* The operands of concat n, or copies of them, are written where it lies. Returns the position of the first node that does so.
 * written: position of the first node that writes into what will hold a value; 0: a copy made here. */
static uint32_t place_operands(Graph *g, Node *n, KnownFrom *known, const uint32_t *written, bool *taken, bool *placed) {
    uint32_t first = known->at, from = known_from(g, n, known);
    for (int k = 0; k < n->nin; k++) {
        Val v = graph_resolve(g, n->in[k]);
        bool early = written[v.i] && written[v.i] <= from;
        if (early || !producer_can_place(g, v, taken)) v = copy_of(g, v, n->loc);
        n->in[k] = v;
        taken[v.i] = placed[v.i] = true;
        if (written[v.i] && written[v.i] < first) first = written[v.i];
    }
    return first;
}

/* A reshape of a concat, of which nobody else knows, as a concat of reshapes, if the axis stays a dim of its own: so producers write where the
 * concat around it lies. Otherwise v. */
static Val concat_of_reshapes(Graph *g, Val v, const uint32_t *uses, uint32_t room) {
    Node *r = val_def(g, v), *n = r && r->op == P_RESHAPE && v.i < room && uses[v.i] == 1 ? val_def(g, graph_resolve(g, r->in[0])) : NULL;
    if (!n || n->op != P_CONCAT || uses[graph_resolve(g, r->in[0]).i] != 1) return v;
    const Type *from = val_type(g, n->out[0]), *to = val_type(g, v);
    int axis = ((const AxisAttr *)n->attr)->axis, at = 0;
    Dim before = dim_const(g->c, 1), after = before, before_to = before, after_to = before;
    for (int d = 0; d < from->rank; d++) {
        if (d < axis) before = dim_mul(g->c, before, from->dim[d]);
        if (d > axis) after = dim_mul(g->c, after, from->dim[d]);
    }
    while (at < to->rank && !(dim_same(g->c, before_to, before) && dim_same(g->c, to->dim[at], from->dim[axis])))
        before_to = dim_mul(g->c, before_to, to->dim[at++]);
    for (int d = at + 1; d < to->rank; d++) after_to = dim_mul(g->c, after_to, to->dim[d]);
    if (at == to->rank || !dim_same(g->c, after, after_to)) return v;
    for (int k = 0; k < n->nin; k++) {
        Val x = graph_resolve(g, n->in[k]);
        const Node *m = val_def(g, x);
        if (!m || is_view(m) || m->op == P_CONST || is_control(m) || x.i >= room || uses[x.i] != 1) return v;
    }
    B b = builder(g, n->loc);
    Val *in = NEWN(g->c, Val, n->nin);
    Dim dim[MAX_RANK];
    for (int d = 0; d < to->rank; d++) dim[d] = to->dim[d];
    for (int k = 0; k < n->nin; k++) {
        dim[at] = val_type(g, n->in[k])->dim[axis];
        in[k] = b_reshape(&b, n->in[k], to->rank, dim);
    }
    return b_concat(&b, n->nin, in, at);
}

static void nest_concats(Graph *g) {
    const uint32_t *uses = graph_uses(g);
    uint32_t n = g->node.n, room = g->val.n;
    for (uint32_t i = 0; i < n; i++)
        for (int k = 0; g->node.v[i]->op == P_CONCAT && k < g->node.v[i]->nin; k++) {
            Val v = graph_resolve(g, g->node.v[i]->in[k]);
            g->node.v[i]->in[k] = concat_of_reshapes(g, v, uses, room);
        }
}

/* Elements of a tensor that the kernel of a scatter may as well copy itself. */
enum { FEW = 1024 };

/* The tensor that a scatter updates. uses: of the values before this pass. */
static void place_updated(Graph *g, Node *n, const uint32_t *uses, bool *taken) {
    Val v = graph_resolve(g, n->in[0]);
    const Node *d = val_def(g, v);
    bool generated = d && d->op == P_MAP && !d->nin; /* or fusion would compute it where it is read */
    if (generated || uses[v.i] != 1 || !producer_can_place(g, v, taken)) {
        if (dim_hi(g->c, type_count(g->c, val_type(g, v))) <= FEW) return;
        v = copy_of(g, v, n->loc);
    }
    n->in[0] = v;
    taken[v.i] = true;
}

bool pass_bufferise(Graph *g, PassCtx *p) {
    uint32_t n = g->node.n;
    /* Blocks of a GPU test indices of what they multiply while they bring it, 16 bytes at a time: for them constants around it need not exist. */
    const bool tests = p->target && p->target->flags & F_BLOCKS;
    const bool *all = read_by_contract(g, true), *constants = tests ? read_by_contract(g, false) : all;
    const bool *ends = border_pads(g);
    for (uint32_t i = 0; i < n; i++) {
        Node *x = g->node.v[i];
        if (x->op == P_PAD && (is_constant_pad(x) ? constants : all)[x->out[0].i] && !ends[x->out[0].i]) pad_to_concat(g, x);
    }
    graph_tidy(g);
    nest_concats(g);
    graph_tidy(g);

    /* Values that will lie inside another buffer, or are results. Copies are new values: leave room for them. */
    uint32_t room = g->val.n + g->out.n;
    for (uint32_t i = 0; i < g->node.n; i++) room += 4u + g->node.v[i]->nin;
    bool *taken = NEWN(g->c, bool, room), *placed = NEWN(g->c, bool, room);
    Val *dense = NEWN(g->c, Val, room); /* the copy of a view that control nodes read */
    for (uint32_t o = 0; o < g->out.n; o++) {
        Val v = graph_resolve(g, g->out.v[o].val);
        const Node *d = val_def(g, v);
        if (val_type(g, v)->kind != TY_TENSOR) continue; /* passed on as it is */
        if (p->region && (!d || d->op == P_CONST || is_control(d))) continue; /* copied at the end of the body */
        if (!producer_can_place(g, v, taken)) v = g->out.v[o].val = copy_of(g, v, (Loc){0});
        taken[v.i] = true;
    }
    const uint32_t *uses = graph_uses(g);
    uint32_t *written = NEWN(g->c, uint32_t, room);
    KnownFrom known = {.sym = NEWN(g->c, uint32_t, dim_nsyms(g->c) + 1)};
    n = g->node.n;
    for (uint32_t i = 0; i < n; i++)
        if (g->node.v[i]->op == P_SCATTER) place_updated(g, g->node.v[i], uses, taken);
    for (uint32_t i = 0; i < n; i++) {
        Node *c = g->node.v[i];
        bool control = is_control(c);
        for (int k = 0; control && k < c->nin; k++) {
            Val v = c->in[k].i ? graph_resolve(g, c->in[k]) : c->in[k];
            if (!v.i || !val_def(g, v) || !is_view(val_def(g, v))) continue;
            if (!dense[v.i].i) dense[v.i] = copy_of(g, v, c->loc);
            c->in[k] = dense[v.i];
        }
        known.at = i + 1;
        node_makes(g->c, g, c, defined_here, &known);
        uint32_t first = c->op == P_CONCAT ? place_operands(g, c, &known, written, taken, placed) : i + 1;
        if (c->op == P_SCATTER && taken[c->in[0].i] && written[c->in[0].i]) first = written[c->in[0].i];
        for (int r = 0; r < c->nout; r++) written[c->out[r].i] = first;
    }
    for (uint32_t i = 0; i < n; i++) { /* what lies in pieces in a concat is no operand of these: they take dense values */
        Node *c = g->node.v[i];
        bool control = is_control(c);
        for (int k = 0; control && k < c->nin; k++)
            if (c->in[k].i && placed[graph_resolve(g, c->in[k]).i]) c->in[k] = copy_of(g, c->in[k], c->loc);
    }
    materialise_reshapes(g, placed, room);
    materialise_together(g, p->target);
    materialise_rows(g);
    graph_tidy(g);
    return true;
}
