/* lower_stage.c: nodes of the body of a kernel as stages, and what follows a stage pointwise as its epilogue: the coordinates of its result are
 * pushed forward through the views and maps behind it. */
#include <string.h>

#include "lower_internal.h"

typedef struct Fwd { bool set, tried; uint8_t rank; Expr at[MAX_RANK], value; bool drop; } Fwd;

/* ---- stages ---- */

static Stage *open_stage(Low *w, StageKind kind) {
    vec_push(w->c, &w->stages, (Stage){.kind = (uint8_t)kind});
    memset(w->pull, 0, sizeof w->pull);
    w->naxis = 0;
    return &w->stages.v[w->stages.n - 1];
}

static void add_axis(Low *w, Stage *s, Dim extent, AxKind kind) {
    if (s->naxis == K_AXES) ICE("kernel %s: more than %d axes", w->k->name, K_AXES);
    s->axis[s->naxis++] = (KAxis){extent, (uint8_t)kind};
    w->extent[w->naxis++] = extent;
}

bool lower_is_root(const Node *n) {
    switch (n->op) {
    case P_REDUCE: case P_CONTRACT: case P_SCAN: case P_SORT: case P_TOPK: case P_COMPACT: case P_SCATTER: return true;
    case P_RANDOM: return random_sequential(n);
    default: return false;
    }
}

/* The buffer that holds body value v: the group's result, or a new temporary. */
static uint16_t home(Low *w, Val v) {
    if (!w->buf[v.i]) w->buf[v.i] = (uint16_t)(lower_buf(w, KB_TEMP, val_type(w->g, v), (Val){0}) + 1);
    w->made[v.i] = true;
    return (uint16_t)(w->buf[v.i] - 1);
}

static void set_out(Low *w, Stage *s, int r, Val v, const Expr *at) {
    uint16_t b = home(w, v);
    s->out[r] = (KOut){.buf = b, .rank = w->k->buf[b].rank, .oob = OOB_NEVER};
    for (int d = 0; d < s->out[r].rank; d++) s->out[r].at[d] = at[d];
}

/* Beside values of at most 32 bits, the index of the best one has 32, where all indices do. */
static void narrow_index(Low *w, Stage *s) {
    int64_t lo, hi;
    Picks p;
    if (s->nres != 2 || s->acc[1] != DT_I64 || dt_bits(s->acc[0]) > 32 || !picks_best(w->c, s->comb, DT_I32, &p)) return;
    if (!expr_range(w->c, s->body[1], w->extent, w->naxis, &lo, &hi) || lo < INT32_MIN || hi > INT32_MAX) return;
    if (s->init[1].i < INT32_MIN || s->init[1].i > INT32_MAX) return;
    s->acc[1] = s->init[1].t = DT_I32;
    s->body[1] = expr_cast(w->c, s->body[1], DT_I32);
    memcpy(s->comb, p.comb, sizeof p.comb);
}

void lower_reduce(Low *w, Node *n) {
    const ReduceAttr *a = n->attr;
    const Type *x = val_type(w->g, n->in[0]);
    Stage *s = open_stage(w, ST_NEST);
    Expr idx[MAX_RANK], out[MAX_RANK];
    int no = 0;
    for (int d = 0; d < x->rank; d++) {
        bool red = a->axes >> d & 1;
        add_axis(w, s, x->dim[d], red ? AX_RED : AX_PAR);
        idx[d] = expr_axis(w->c, (uint32_t)d);
        if (!red) out[no++] = idx[d];
        else if (a->keep) out[no++] = ci(w, 0);
    }
    s->nres = (uint8_t)n->nout;
    CHECK(n->nout <= K_RES);
    for (int r = 0; r < n->nout; r++) {
        s->acc[r] = a->acc[r];
        s->comb[r] = a->comb[r];
        s->init[r] = a->init[r];
        s->body[r] = expr_cast(w->c, lower_value(w, n->in[r], idx), a->acc[r]);
    }
    narrow_index(w, s);
    for (int r = 0; r < n->nout; r++) set_out(w, &w->stages.v[w->stages.n - 1], r, n->out[r], out);
}

void lower_contract(Low *w, Node *n) {
    const ContractAttr *a = n->attr;
    const Type *t[3] = {val_type(w->g, n->in[0]), val_type(w->g, n->in[1]), val_type(w->g, n->out[0])};
    Stage *s = open_stage(w, ST_NEST);
    int8_t axis_of[32];
    memset(axis_of, -1, sizeof axis_of);
    for (int p = 2; p >= 0; p = p == 2 ? 0 : p == 0 ? 1 : -1) /* out labels first, then those of a and of b */
        for (int d = 0; d < t[p]->rank; d++) {
            uint8_t l = a->label[p][d];
            if (axis_of[l] >= 0) continue;
            axis_of[l] = (int8_t)s->naxis;
            add_axis(w, s, t[p]->dim[d], p == 2 ? AX_PAR : AX_RED);
        }
    Expr f[2], at[MAX_RANK];
    for (int p = 0; p < 2; p++) {
        for (int d = 0; d < t[p]->rank; d++) at[d] = expr_axis(w->c, (uint32_t)axis_of[a->label[p][d]]);
        f[p] = expr_cast(w->c, lower_value(w, n->in[p], at), a->acc);
    }
    s->nres = 1;
    s->acc[0] = a->acc;
    s->body[0] = mul(w, f[0], f[1]);
    s->comb[0] = add(w, expr_arg(w->c, 0, a->acc), expr_arg(w->c, 1, a->acc));
    s->init[0] = dt_convert((Scalar){.t = DT_I64, .i = 0}, a->acc);
    for (int d = 0; d < t[2]->rank; d++) at[d] = expr_axis(w->c, (uint32_t)axis_of[a->label[2][d]]);
    set_out(w, s, 0, n->out[0], at);
}

/* A stage over the dims of `v` that computes it point by point into the home of `to`. */
void lower_pointwise(Low *w, Val v, Val to) {
    const Type *t = val_type(w->g, v);
    Stage *s = open_stage(w, ST_NEST);
    Expr idx[MAX_RANK];
    for (int d = 0; d < t->rank; d++) {
        add_axis(w, s, t->dim[d], AX_PAR);
        idx[d] = expr_axis(w->c, (uint32_t)d);
    }
    s->nres = 1;
    s->acc[0] = t->dtype;
    s->body[0] = lower_value(w, v, idx);
    set_out(w, s, 0, to, idx);
}

/* Is operand v of the group already where the group's result `out` goes? (memplan.c) */
static bool lies_in_place(Low *w, Val v, Val out) {
    v = graph_resolve(w->g, v);
    for (uint32_t i = 0; i < w->g->in.n; i++) {
        if (graph_resolve(w->g, w->g->in.v[i].val).i != v.i) continue;
        const Storage *x = &w->storage[graph_resolve(w->outer, w->group->in[i]).i], *y = &w->storage[0];
        for (uint32_t o = 0; o < w->g->out.n; o++)
            if (w->target[o].i == graph_resolve(w->g, out).i) y = &w->storage[w->group->out[o].i];
        return x->kind == ST_VIEW && x->root.i == y->root.i && dim_same(w->c, x->offset, y->offset);
    }
    return false;
}

/* y = x, unless that is done, then y[index of u] (combine)= u for the points u of the updates, in row-major order. */
void lower_scatter(Low *w, Node *n) {
    const ScatterAttr *a = n->attr;
    static const uint8_t op[] = {[SC_ADD] = S_ADD, [SC_MUL] = S_MUL, [SC_MIN] = S_MIN, [SC_MAX] = S_MAX};
    const Type *y = val_type(w->g, n->out[0]), *it = val_type(w->g, n->in[1]), *ut = val_type(w->g, n->in[2]);
    if (!lies_in_place(w, n->in[0], n->out[0])) lower_pointwise(w, n->in[0], n->out[0]);
    Stage *s = open_stage(w, ST_SCATTER);
    Expr idx[MAX_RANK], at[MAX_RANK], i[MAX_RANK];
    for (int d = 0; d < ut->rank; d++) {
        add_axis(w, s, ut->dim[d], AX_PAR);
        idx[d] = expr_axis(w->c, (uint32_t)d);
    }
    int64_t q = 0;
    int lists = it->rank - 1;
    if (!a->elements && !dim_is_const(w->c, it->dim[lists], &q)) q = y->rank - (ut->rank - lists);
    for (int d = 0; d < y->rank; d++) {
        bool indexed = a->elements ? d == a->axis : d < q;
        at[d] = a->elements ? idx[d] : idx[indexed ? d : lists + d - (int)q];
        if (!indexed) continue;
        memcpy(i, idx, sizeof i);
        if (!a->elements) i[lists] = ci(w, d);
        Expr k = expr_cast(w->c, lower_value(w, n->in[1], i), DT_I64);
        at[d] = expr_op(w->c, S_SELECT, cmp(w, S_LT, k, ci(w, 0)), add(w, k, dimx(w, y->dim[d])), k);
    }
    s->nres = 1;
    s->acc[0] = y->dtype;
    s->guard = expr_guard(w->c, n->loc, "an index is out of range");
    Expr u = lower_value(w, n->in[2], idx);
    uint16_t b = home(w, n->out[0]);
    if (a->mode != SC_SET)
        u = cmp(w, (SOp)op[a->mode], lower_load(w, b, at, OOB_FAIL, (Expr){0}, s->guard), u);
    s->body[0] = u;
    s->out[0] = (KOut){.buf = b, .rank = w->k->buf[b].rank, .oob = OOB_FAIL};
    memcpy(s->out[0].at, at, sizeof at);
}

/* Stages whose innermost axis is walked in order by code of their own (ukr_special.c). Bodies are the operands. */
void lower_special(Low *w, Node *n) {
    StageKind kind = n->op == P_SCAN ? ST_SCAN : n->op == P_SORT ? ST_SORT : n->op == P_TOPK ? ST_TOPK :
                     n->op == P_COMPACT ? ST_COMPACT : ST_RANDOM;
    const Type *x = val_type(w->g, n->nin ? n->in[0] : n->out[0]);
    Stage *s = open_stage(w, kind);
    s->node = n;
    Expr idx[MAX_RANK];
    int axis = n->op == P_SCAN ? ((const ScanAttr *)n->attr)->axis : n->op == P_SORT ? ((const SortAttr *)n->attr)->axis :
               n->op == P_TOPK ? ((const TopkAttr *)n->attr)->axis : n->op == P_COMPACT ? 0 : -1;
    for (int d = 0; d < x->rank; d++) {
        add_axis(w, s, x->dim[d], d == axis ? AX_SCAN : AX_PAR);
        idx[d] = expr_axis(w->c, (uint32_t)d);
    }
    CHECK(n->nout <= K_RES && n->nin <= K_RES);
    if (n->op == P_COMPACT) s->guard = expr_guard(w->c, n->loc, "more elements are set than there is room for");
    s->nres = (uint8_t)n->nout;
    for (int r = 0; r < n->nout; r++) {
        int k = r < n->nin ? r : 0;
        s->acc[r] = val_type(w->g, n->out[r])->dtype;
        s->body[r] = n->nin ? lower_value(w, n->in[k], idx) : expr_float(w->c, s->acc[r], 0);
        if (n->op == P_SCAN) {
            const ScanAttr *a = n->attr;
            s->acc[r] = a->acc[r];
            s->comb[r] = a->comb[r];
            s->init[r] = a->init[r];
            s->body[r] = expr_cast(w->c, s->body[r], a->acc[r]);
        }
    }
    for (int r = 0; r < n->nout; r++) set_out(w, &w->stages.v[w->stages.n - 1], r, n->out[r], idx);
}

/* ---- pushing a stage's coordinates forward through its epilogue ---- */

static bool dims_equal(Low *w, int n, const Dim *a, const Dim *b) {
    for (int d = 0; d < n; d++) if (!dim_same(w->c, a[d], b[d])) return false;
    return true;
}

/* Map n where x is its point; ok: it can be had from there. */
typedef struct FwdMap { Low *w; const Node *n; const Fwd *f, *x; bool ok; } FwdMap;

static Expr map_at(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    FwdMap *m = data;
    const MapAttr *a = m->n->attr;
    const Fwd *x = m->x, *o = i->kind == E_ARG || i->kind == E_LOAD ? &m->f[m->n->in[i->index].i] : NULL;
    if (i->kind == E_AXIS) return x->at[i->index];
    if (!o) return expr_rebuild(c, i, newarg);
    if (i->kind == E_LOAD) {
        m->ok &= !o->set && !(x->drop && i->oob == OOB_FAIL); /* a point that is dropped must not fail */
        return m->ok ? lower_map_load(m->w, m->n, i, newarg) : e;
    }
    if (!o->set) return lower_operand(m->w, m->n, a, i->index, x->at);
    const Type *t = val_type(m->w->g, m->n->in[i->index]);
    m->ok &= o->rank == x->rank && dims_equal(m->w, t->rank, t->dim, a->dim) && !memcmp(o->at, x->at, o->rank * sizeof *o->at);
    return o->value;
}

static bool forward_node(Low *w, Node *n, Fwd *f) {
    int from = -1;
    for (int i = 0; i < n->nin; i++)
        if (f[n->in[i].i].set && (from < 0 || f[n->in[i].i].rank > f[n->in[from].i].rank)) from = i;
    if (from < 0 || n->nout != 1) return false;
    for (int i = 0; i < n->nin; i++) if (n->in[i].i && !w->ready[n->in[i].i]) return false;
    const Fwd *x = &f[n->in[from].i];
    const Type *xt = val_type(w->g, n->in[from]), *out = val_type(w->g, n->out[0]);
    Fwd y = {.set = true, .rank = out->rank, .value = x->value, .drop = x->drop};
    switch ((PrimOp)n->op) {
    case P_MAP: {
        const MapAttr *a = n->attr;
        if (xt->rank != a->rank || !dims_equal(w, a->rank, xt->dim, a->dim)) return false;
        memcpy(y.at, x->at, sizeof y.at);
        FwdMap m = {w, n, f, x, true};
        w->guarded += x->drop; /* points that the store drops may lie outside of the other operands */
        y.value = expr_rewrite(w->c, a->body[0], map_at, &m);
        w->guarded -= x->drop;
        if (!m.ok) return false;
        break;
    }
    case P_RESHAPE: {
        int lead = 0, tail = 0, no = out->rank, ni = xt->rank;
        while (lead < no && lead < ni && dim_same(w->c, out->dim[lead], xt->dim[lead])) lead++;
        while (tail < no - lead && tail < ni - lead && dim_same(w->c, out->dim[no - 1 - tail], xt->dim[ni - 1 - tail])) tail++;
        for (int d = 0; d < lead; d++) y.at[d] = x->at[d];
        for (int d = 0; d < tail; d++) y.at[no - 1 - d] = x->at[ni - 1 - d];
        for (int d = lead; d < ni - tail; d++) /* points that were cut off would land among others */
            if (x->drop && lower_inside(w, x->at[d], xt->dim[d]).i) return false;
        Expr flat = lower_flatten(w, ni - lead - tail, xt->dim + lead, x->at + lead);
        lower_unflatten(w, flat, no - lead - tail, out->dim + lead, y.at + lead);
        break;
    }
    case P_PERMUTE: {
        const PermAttr *a = n->attr;
        for (int d = 0; d < out->rank; d++) y.at[d] = x->at[a->perm[d]];
        break;
    }
    case P_COPY: memcpy(y.at, x->at, sizeof y.at); break;
    case P_SLICE: {
        const SliceAttr *a = n->attr;
        for (int d = 0; d < out->rank; d++) {
            if (a->step[d] != 1) return false;
            y.at[d] = tidy(w, sub(w, x->at[d], dimx(w, a->start[d])));
            if (lower_inside(w, y.at[d], out->dim[d]).i) y.drop = true;
        }
        break;
    }
    default: return false;
    }
    f[n->out[0].i] = y;
    return true;
}

static void find_ready(Low *w) {
    w->ready = NEWN(w->c, bool, w->g->val.n);
    for (uint32_t v = 0; v < w->g->val.n; v++) w->ready[v] = w->made[v] || !val_def(w->g, (Val){v});
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        const Node *n = w->g->node.v[i];
        bool all = !lower_is_root(n);
        for (int k = 0; k < n->nin && all; k++) all = !n->in[k].i || w->ready[n->in[k].i];
        for (int r = 0; r < n->nout; r++) w->ready[n->out[r].i] |= all;
    }
}

/* Stages for the group's results that follow from the results of `root` (a reduce or contract) alone along its own points. */
void lower_epilogue(Low *w, Node *root, uint32_t root_stage) {
    bool any = false;
    for (uint32_t o = 0; o < w->g->out.n; o++) any |= !w->made[w->target[o].i];
    if (!any) return;
    memset(w->pull, 0, sizeof w->pull);
    Stage *rs = &w->stages.v[root_stage];
    /* The epilogue's axes are the root's parallel axes, renumbered. */
    Expr renumber[K_AXES] = {{0}};
    w->naxis = 0;
    for (int a = 0; a < rs->naxis; a++) {
        if (rs->axis[a].kind != AX_PAR) continue;
        renumber[a] = expr_axis(w->c, w->naxis);
        w->extent[w->naxis++] = rs->axis[a].extent;
    }
    find_ready(w);
    Fwd *f = NEWN(w->c, Fwd, w->g->val.n);
    for (int r = 0; r < root->nout; r++) {
        Fwd *x = &f[root->out[r].i];
        x->set = true;
        x->rank = rs->out[r].rank;
        for (int d = 0; d < x->rank; d++) x->at[d] = expr_subst_axes(w->c, rs->out[r].at[d], renumber, rs->naxis);
        x->value = lower_load(w, rs->out[r].buf, x->at, OOB_NEVER, (Expr){0}, 0);
    }
    bool after = false;
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        Node *n = w->g->node.v[i];
        if (n == root) { after = true; continue; }
        if (!after || lower_is_root(n) || n->nout != 1) continue;
        forward_node(w, n, f);
    }
    for (uint32_t o = 0; o < w->g->out.n; o++) {
        Val v = w->target[o];
        if (w->made[v.i] || !f[v.i].set) continue;
        Dim extent[K_AXES];
        uint32_t naxis = w->naxis;
        memcpy(extent, w->extent, sizeof extent);
        Stage *s = open_stage(w, ST_NEST);
        for (uint32_t a = 0; a < naxis; a++) add_axis(w, s, extent[a], AX_PAR);
        s->nres = 1;
        s->acc[0] = val_type(w->g, v)->dtype;
        s->body[0] = f[v.i].value;
        uint16_t b = home(w, v);
        s->out[0] = (KOut){.buf = b, .rank = w->k->buf[b].rank, .oob = f[v.i].drop ? OOB_DROP : OOB_NEVER};
        memcpy(s->out[0].at, f[v.i].at, sizeof s->out[0].at);
    }
}
