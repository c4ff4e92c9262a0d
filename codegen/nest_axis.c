/* nest_axis.c: which axes of a kernel are the tasks of template `nest`, and along which of the others a stage is vectorised. */
#include "nest.h"

/* ---- the shared prefix ---- */

static bool same_dim_index(const Kernel *k, Expr a, Expr b, int axis) {
    Expr ax = expr_axis(k->c, (uint32_t)axis);
    bool ua = expr_uses_axis(k->c, a, (uint32_t)axis), ub = expr_uses_axis(k->c, b, (uint32_t)axis);
    return ua == ub && (!ua || (a.i == ax.i && b.i == ax.i));
}

typedef struct LoadCheck { const Kernel *k; int prefix; bool ok; } LoadCheck;

/* Is what is read where the point itself, of this stage or the one that writes, is written? */
static bool same_place(const KOut *o, const Expr *at) {
    for (int d = 0; d < o->rank; d++)
        if (o->at[d].i != at[d].i) return false;
    return true;
}

static void check_load(void *data, const ExprInfo *x) {
    LoadCheck *lc = data;
    const Kernel *k = lc->k;
    if (k->buf[x->index].kind == KB_IN) return;
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) {
            const KOut *o = &k->stage[st].out[r];
            if (o->buf != x->index || same_place(o, x->arg)) continue;
            for (int p = 0; p < lc->prefix; p++) {
                bool used = false;
                for (int d = 0; d < o->rank; d++) {
                    if (dim_is(k->c, k->buf[o->buf].dim[d], 1) && dim_is(k->c, k->stage[st].axis[p].extent, 1)) { used = true; continue; }
                    if (!same_dim_index(k, o->at[d], x->arg[d], p)) lc->ok = false;
                    used |= expr_uses_axis(k->c, o->at[d], (uint32_t)p);
                }
                if (!used && !dim_is(k->c, k->stage[st].axis[p].extent, 1)) lc->ok = false;
            }
        }
}

/* Does axis a index the buffer of each result by itself, as its dim d? Then points that differ in a write to different elements. */
static bool indexes(const Kernel *k, const Stage *s, int a, int d) {
    if (s->axis[a].kind != AX_PAR) return false;
    for (int r = 0; r < s->nres; r++)
        if (d >= s->out[r].rank || s->out[r].at[d].i != expr_axis(k->c, (uint32_t)a).i) return false;
    return true;
}

uint32_t scatter_own_axes(const Kernel *k, const Stage *s) {
    uint32_t own = 0;
    for (int a = 0; a < s->naxis; a++)
        for (int d = 0; d < s->out[0].rank; d++)
            if (indexes(k, s, a, d)) own |= 1u << a;
    return own;
}

/* Updates of one element are applied in order: only axes that index whatever is written in their own dim may be tasks. */
static bool writers_share(const Kernel *k, int axis) {
    for (int st = 0; st < k->nstage; st++)
        if (!indexes(k, &k->stage[st], axis, axis)) return false;
    return true;
}

int nest_prefix(const Kernel *k) {
    int p = k->stage[0].naxis;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        int n = 0;
        while (n < p && n < s->naxis && s->axis[n].kind == AX_PAR && dim_same(k->c, s->axis[n].extent, k->stage[0].axis[n].extent)) n++;
        p = n;
        if (s->kind == ST_RANDOM) p = 0; /* one after the other */
        n = 0;
        while (s->kind == ST_SCATTER && n < p && writers_share(k, n)) n++;
        if (s->kind == ST_SCATTER) p = n;
    }
    for (; p > 0; p--) {
        LoadCheck lc = {k, p, true};
        for (int st = 0; st < k->nstage; st++)
            for (int r = 0; r < k->stage[st].nres; r++) expr_loads(k->c, k->stage[st].body[r], check_load, &lc);
        if (lc.ok) break;
    }
    return p;
}

/* ---- choosing the vector axis of a stage ---- */

/* How many loads deep the address of a load in x is: 1 if it needs none. depth: by expression, 0 if not known yet. */
static int load_depth(Ctx *c, Expr x, uint8_t *depth) {
    if (depth[x.i]) return depth[x.i] - 1;
    const ExprInfo i = *expr_info(c, x);
    int d = 0;
    for (int k = 0; k < i.narg; k++) {
        int arg = load_depth(c, i.arg[k], depth);
        d = arg > d ? arg : d;
    }
    if (i.kind == E_LOAD && d < 100) d++;
    depth[x.i] = (uint8_t)(d + 1);
    return d;
}

/* Chains of loads, as of walks through tables: what a scalar waits for, other lanes hide, so gathers along any axis pay. */
static bool chases(const Kernel *k, const Stage *s) {
    enum { CHAIN = 4 };
    for (int r = 0; r < s->nres; r++)
        if (load_depth(k->c, s->body[r], NEWN(k->c, uint8_t, s->body[r].i + 1)) >= CHAIN) return true;
    return false;
}

typedef struct AxisScore { const Kernel *k; const Stage *s; int axis; int unit, zero, other, indirect, scatter; } AxisScore;

static void score_access(AxisScore *a, uint16_t buf, int rank, const Expr *at) {
    Affine f;
    if (!access_affine(a->k, a->s, buf, rank, at, &f)) { /* a row that is found may be read along it */
        const Expr self = expr_axis(a->k->c, (uint32_t)a->axis);
        int uses = 0, along = 0;
        for (int d = 0; d < rank; d++) {
            uses += expr_uses_axis(a->k->c, at[d], (uint32_t)a->axis);
            along += at[d].i == self.i && dim_is(a->k->c, a->k->buf[buf].stride[d], 1);
        }
        *(!uses ? &a->zero : uses == 1 && along ? &a->unit : &a->indirect) += 1;
        return;
    }
    if (!f.has[a->axis]) a->zero++;
    else if (dim_is(a->k->c, f.coef[a->axis], 1)) a->unit++;
    else a->other++;
}

static void score_load(void *data, const ExprInfo *x) {
    AxisScore *a = data;
    score_access(a, (uint16_t)x->index, a->k->buf[x->index].rank, x->arg);
}

/* Every access of the stage, as it lies along the axis. scatter: the results among other and indirect. Results that are stored once for many elements
 * count as one. */
static AxisScore score_accesses(const Kernel *k, const Stage *s, int axis) {
    AxisScore a = {.k = k, .s = s, .axis = axis};
    const bool reduces = s->kind == ST_NEST && s->comb[0].i;
    for (int r = 0; r < s->nres; r++) {
        expr_loads(k->c, s->body[r], score_load, &a);
        int loads = a.other + a.indirect;
        if (s->axis[axis].kind == AX_PAR && !(reduces && r)) score_access(&a, s->out[r].buf, s->out[r].rank, s->out[r].at);
        a.scatter += a.other + a.indirect - loads;
    }
    return a;
}

int nest_strided(const Kernel *k, const Stage *s, int axis) { return score_accesses(k, s, axis).other; }

static int axis_score(const Kernel *k, const Stage *s, int axis) {
    AxisScore a = score_accesses(k, s, axis);
    int64_t lo = dim_lo(k->c, s->axis[axis].extent);
    if (a.indirect && lo >= 8 && chases(k, s)) return (lo >= 16 ? 48 : 16) + 4 * a.unit - 3 * a.other; /* full vectors first */
    a.other += a.indirect;
    int small = dim_hi(k->c, s->axis[axis].extent) < 4 ? -8 : lo >= 8 ? 2 : 0, score = 1 + 4 * a.unit - 3 * a.other + small;
    /* Gathered lanes cost what scalar loads do, and everything else is done for a vector at a time. */
    return score < 1 && s->axis[axis].kind == AX_PAR && !a.scatter && dim_typical(k->c, s->axis[axis].extent) >= 8 ? 1 : score;
}

/* Is the combiner of result r one commutative operation on that? */
static bool commutes(const Kernel *k, const Stage *s, uint32_t r) {
    const ExprInfo *i = expr_info(k->c, s->comb[r]);
    if (i->kind != E_OP || i->narg != 2) return false;
    const ExprInfo *a = expr_info(k->c, i->arg[0]), *b = expr_info(k->c, i->arg[1]);
    if (a->kind != E_ARG || b->kind != E_ARG || (a->index != r && b->index != r) || a->index + b->index != 2 * r + s->nres) return false;
    switch (i->op) {
    case S_ADD: case S_MUL: case S_MIN: case S_MAX: case S_AND: case S_OR: return true;
    default: return false;
    }
}

bool nest_commutes(const Kernel *k, const Stage *s) { return s->nres == 1 && commutes(k, s, 0); }

/* Several reductions of the same walk */
static bool all_commute(const Kernel *k, const Stage *s) {
    uint32_t r = 0;
    while (r < (uint32_t)s->nres && commutes(k, s, r)) r++;
    return r == (uint32_t)s->nres;
}

/* The better of two pairs: commutes, as which of equal pairs it is does not matter. */
static bool picks_pair(const Kernel *k, const Stage *s) {
    Picks p;
    return s->nres == 2 && picks_best(k->c, s->comb, s->acc[1], &p);
}

int nest_vector_axis(const Kernel *k, const Stage *s, const Target *t, int first) {
    if (!(t->flags & F_SIMD)) return -1;
    for (int b = 0; b < k->nbuf; b++) if (dt_bits(k->buf[b].dtype) > 64) return -1; /* no lanes of strings */
    int best = -1, best_score = 0, last_red = -1;
    for (int a = first; a < s->naxis; a++) {
        if (s->axis[a].kind == AX_RED) last_red = a;
        if (s->axis[a].kind != AX_PAR) continue;
        int sc = axis_score(k, s, a);
        if (sc > 0 && sc >= best_score) { best = a; best_score = sc; }
    }
    if (last_red >= 0 && (all_commute(k, s) || picks_pair(k, s))) {
        int sc = axis_score(k, s, last_red);
        if (sc > best_score + 2) best = last_red;
    }
    return best;
}

/* Updates are applied in row-major order, so only those along the innermost axis may go together, if they are to neighbours. */
int nest_scatter_axis(const Kernel *k, const Stage *s, const Target *t) {
    if (!(t->flags & F_SIMD)) return -1;
    int v = s->naxis - 1, along = 0;
    const KOut *o = &s->out[0];
    for (int d = 0; d < o->rank && v >= 0; d++) {
        if (!expr_uses_axis(k->c, o->at[d], (uint32_t)v)) continue;
        bool same = o->at[d].i == expr_axis(k->c, (uint32_t)v).i && dim_is(k->c, k->buf[o->buf].stride[d], 1);
        if (!same || !dim_same(k->c, s->axis[v].extent, k->buf[o->buf].dim[d])) return -1;
        along++;
    }
    return along == 1 && dt_bits(k->buf[o->buf].dtype) <= 64 ? v : -1;
}
