/* collapse.c: the axes of a kernel as few and as long as its accesses allow, before a template is chosen: what has size 1 is dropped, neighbours that
 * every access walks as one are merged, and those that accesses divide by the length of a block are cut in two. */
#include <string.h>

#include "emit_internal.h"

/* ---- dims that go ---- */

typedef struct Dims { Kernel *k; uint32_t gone[K_BUFS]; } Dims; /* bit d: dim d of the buffer goes, and its index with it */

static Expr index_gone(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    (void)e;
    uint32_t gone = i->kind == E_LOAD ? ((const Dims *)data)->gone[i->index] : 0;
    if (!gone) return expr_rebuild(c, i, arg);
    Expr at[MAX_RANK];
    int n = 0, rank = i->narg - (i->oob == OOB_VALUE);
    for (int d = 0; d < rank; d++) if (!(gone >> d & 1)) at[n++] = arg[d];
    return expr_load(c, i->index, i->dtype, n, at, i->oob, i->oob == OOB_VALUE ? arg[rank] : (Expr){0}, i->guard);
}

static void dims_gone(Dims *m) {
    Kernel *k = m->k;
    for (int b = 0; b < k->nbuf; b++) {
        KBuf *x = &k->buf[b];
        int n = 0;
        for (int d = 0; d < x->rank; d++) {
            if (m->gone[b] >> d & 1) continue;
            x->dim[n] = x->dim[d];
            x->stride[n++] = x->stride[d];
        }
        x->rank = (uint8_t)n;
    }
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) {
            Stage *s = &k->stage[st];
            KOut *o = &s->out[r];
            int n = 0;
            s->body[r] = expr_rewrite(k->c, s->body[r], index_gone, m);
            for (int d = 0; d < o->rank; d++) if (!(m->gone[o->buf] >> d & 1)) o->at[n++] = expr_rewrite(k->c, o->at[d], index_gone, m);
            o->rank = (uint8_t)n;
        }
}

/* ---- size 1 ---- */

/* What is broadcast along a dim has index 0 there. */
static Expr still_index(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    const Kernel *k = data;
    Expr at[MAX_RANK];
    if (i->kind != E_LOAD || i->oob != OOB_NEVER) return i->narg ? expr_rebuild(c, i, arg) : e;
    for (int d = 0; d < i->narg; d++) at[d] = dim_is(c, k->buf[i->index].stride[d], 0) ? expr_int(c, DT_I64, 0) : arg[d];
    return expr_load(c, i->index, i->dtype, i->narg, at, OOB_NEVER, (Expr){0}, 0);
}

/* The dim stays where the index is tested. */
static void keep_tested(Dims *m, int buf, int rank, const Expr *at, int oob) {
    Expr zero = expr_int(m->k->c, DT_I64, 0);
    for (int d = 0; d < rank; d++) if (oob != OOB_NEVER && at[d].i != zero.i) m->gone[buf] &= ~(1u << d);
}

static void keep_tested_load(void *data, const ExprInfo *x) {
    keep_tested(data, (int)x->index, x->narg - (x->oob == OOB_VALUE), x->arg, x->oob);
}

static void drop_unit_dims(Kernel *k) {
    Dims m = {.k = k};
    for (int b = 0; b < k->nbuf; b++)
        for (int d = 0; d < k->buf[b].rank; d++) m.gone[b] |= (uint32_t)dim_is(k->c, k->buf[b].dim[d], 1) << d;
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) {
            const KOut *o = &k->stage[st].out[r];
            expr_loads(k->c, k->stage[st].body[r], keep_tested_load, &m);
            keep_tested(&m, o->buf, o->rank, o->at, o->oob);
        }
    dims_gone(&m);
}

static void map_axes(Ctx *c, Stage *s, const Expr *to) {
    for (int r = 0; r < s->nres; r++) {
        s->body[r] = expr_subst_axes(c, s->body[r], to, s->naxis);
        for (int d = 0; d < s->out[r].rank; d++) s->out[r].at[d] = expr_subst_axes(c, s->out[r].at[d], to, s->naxis);
    }
}

static void remove_axis(Stage *s, int axis) {
    memmove(&s->axis[axis], &s->axis[axis + 1], sizeof(KAxis) * (size_t)(s->naxis - axis - 1));
    s->naxis--;
}

/* Axes of extent 1 carry nothing: their coordinate is 0. */
static void drop_unit_axis(Ctx *c, Stage *s, int axis) {
    Expr to[K_AXES];
    for (int a = 0; a < s->naxis; a++) to[a] = a == axis ? expr_int(c, DT_I64, 0) : expr_axis(c, (uint32_t)(a > axis ? a - 1 : a));
    map_axes(c, s, to);
    remove_axis(s, axis);
}

static void drop_unit_axes(Ctx *c, Stage *s) {
    int red = 0;
    for (int a = 0; a < s->naxis; a++) red += s->axis[a].kind == AX_RED;
    for (int a = s->naxis - 1; a >= 0; a--) {
        if (!dim_is(c, s->axis[a].extent, 1)) continue;
        if (s->axis[a].kind == AX_RED && --red == 0) { red = 1; continue; } /* a reduction stays one */
        drop_unit_axis(c, s, a);
    }
}

/* ---- merging ---- */

/* Which pairs become one: of each stage the axes axis[stage] and the next, of each buffer the dims dim[buf] and the next; -1: none. One pair brings
 * others with it: an access by a pair of axes merges dims, and whoever else reads or writes these dims does so by a pair of axes. */
typedef struct Merge { Kernel *k; int *axis; int dim[K_BUFS]; int stage; bool ok, grown; } Merge;

static bool is_pair(Ctx *c, const Expr *at, int axis) {
    return at[0].i == expr_axis(c, (uint32_t)axis).i && at[1].i == expr_axis(c, (uint32_t)axis + 1).i;
}

static bool uses_pair(Ctx *c, Expr e, int axis) { return expr_uses_axis(c, e, (uint32_t)axis) || expr_uses_axis(c, e, (uint32_t)axis + 1); }

static Expr drop_load(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    (void)data, (void)e;
    return i->kind == E_LOAD ? expr_arg(c, 0, i->dtype) : expr_rebuild(c, i, newarg);
}

/* Does the value depend on one of the axes by more than what is loaded? An index that is loaded is an access of its own. */
static bool pair_outside_loads(Ctx *c, Expr e, int axis) { return uses_pair(c, e, axis) && uses_pair(c, expr_rewrite(c, e, drop_load, NULL), axis); }

/* Dims are merged where they are walked whole: whether an access is tested for bounds in other dims does not matter. */
static void merge_access(Merge *m, int buf, int rank, const Expr *at) {
    Ctx *c = m->k->c;
    const KBuf *b = &m->k->buf[buf];
    const Stage *s = &m->k->stage[m->stage];
    int *axis = &m->axis[m->stage], *dim = &m->dim[buf], d = 0;
    if (*axis < 0) { /* by what does it walk the dims? */
        const ExprInfo *i = *dim >= 0 ? expr_info(c, at[*dim]) : NULL;
        if (!i) return;
        *axis = i->kind == E_AXIS ? (int)i->index : s->naxis;
        m->grown = true;
    }
    if (*axis + 1 >= s->naxis) {
        m->ok = false;
        return;
    }
    while (d < rank && !pair_outside_loads(c, at[d], *axis)) d++;
    if (d < rank && *dim < 0) {
        *dim = d;
        m->grown = true;
    }
    if (d == rank && *dim < 0) return;
    m->ok &= d == *dim && d + 1 < rank && is_pair(c, &at[d], *axis) && dim_same(c, b->dim[d], s->axis[*axis].extent) &&
             dim_same(c, b->dim[d + 1], s->axis[*axis + 1].extent) && dim_same(c, b->stride[d], dim_mul(c, b->stride[d + 1], b->dim[d + 1]));
    for (d += 2; m->ok && d < rank; d++) m->ok = !pair_outside_loads(c, at[d], *axis);
}

static void merge_load(void *data, const ExprInfo *x) {
    Merge *m = data;
    if (m->ok) merge_access(m, (int)x->index, x->narg - (x->oob == OOB_VALUE), x->arg);
}

static void merge_stage(Merge *m, int st) {
    const Stage *s = &m->k->stage[st];
    m->stage = st;
    for (int r = 0; r < s->nres && m->ok; r++) {
        expr_loads(m->k->c, s->body[r], merge_load, m);
        if (m->ok) merge_access(m, s->out[r].buf, s->out[r].rank, s->out[r].at);
    }
    int a = m->axis[st];
    if (!m->ok || a < 0) return;
    m->ok = a + 1 < s->naxis && s->axis[a].kind == s->axis[a + 1].kind;
    for (int r = 0; r < s->nres && m->ok; r++) m->ok = !pair_outside_loads(m->k->c, s->body[r], a);
}

/* Leading parallel axes that all stages have: they stay so. */
static int shared_axes(const Kernel *k) {
    int n = k->stage[0].naxis;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        int a = 0;
        while (a < n && a < s->naxis && s->axis[a].kind == AX_PAR && dim_same(k->c, s->axis[a].extent, k->stage[0].axis[a].extent)) a++;
        n = a;
    }
    return n;
}

/* Of each stage axis[stage] and the next become one, of each buffer dim[buf] and the next. */
static void merge_axes(const Merge *m) {
    Kernel *k = m->k;
    Dims gone = {.k = k};
    for (int b = 0; b < k->nbuf; b++) {
        KBuf *x = &k->buf[b];
        int d = m->dim[b];
        if (d < 0) continue;
        x->dim[d + 1] = dim_mul(k->c, x->dim[d], x->dim[d + 1]);
        gone.gone[b] = 1u << d;
    }
    dims_gone(&gone);
    for (int st = 0; st < k->nstage; st++) {
        Stage *s = &k->stage[st];
        int a = m->axis[st];
        if (a < 0) continue;
        Expr to[K_AXES];
        for (int x = 0; x < s->naxis; x++) to[x] = expr_axis(k->c, (uint32_t)(x > a ? x - 1 : x));
        map_axes(k->c, s, to);
        s->axis[a + 1].extent = dim_mul(k->c, s->axis[a].extent, s->axis[a + 1].extent);
        remove_axis(s, a);
    }
}

/* Merges axes `axis` and `axis` + 1 of a stage, and what goes with them, if that changes no order and no access. */
static bool merge_pair(Kernel *k, int stage, int axis) {
    Merge m = {.k = k, .axis = NEWN(k->c, int, k->nstage), .ok = true};
    int shared = shared_axes(k);
    for (int st = 0; st < k->nstage; st++) m.axis[st] = st == stage || axis + 1 < shared ? axis : -1;
    for (int b = 0; b < k->nbuf; b++) m.dim[b] = -1;
    do {
        m.grown = false;
        for (int st = 0; st < k->nstage && m.ok; st++) merge_stage(&m, st);
    } while (m.ok && m.grown);
    for (int st = 0; st < k->nstage; st++) m.ok &= m.axis[st] < 0 || m.axis[st] >= shared || (axis + 1 < shared && m.axis[st] == axis);
    if (m.ok) merge_axes(&m);
    return m.ok;
}

/* ---- cutting axes ---- */

typedef struct Cut { Ctx *c; int axis; Dim by; bool ok, quotient; } Cut;

/* The length of blocks, where e is the quotient or remainder (*mod) of axis m->axis by it, else none. */
static Dim cut_of(const Cut *m, const ExprInfo *i, bool *mod) {
    if (i->kind != E_OP || (i->op != S_FDIV && i->op != S_MOD) || i->arg[0].i != expr_axis(m->c, (uint32_t)m->axis).i) return (Dim){0};
    const ExprInfo *by = expr_info(m->c, i->arg[1]);
    *mod = i->op == S_MOD;
    if (by->kind == E_DIM) return (Dim){by->index};
    return by->kind == E_CONST && by->val.i > 0 ? dim_const(m->c, by->val.i) : (Dim){0};
}

/* extent / by, if it is a whole number of blocks whatever the sizes. */
static bool blocks_of(Ctx *c, Dim extent, Dim by, Dim *blocks) {
    int64_t n, k;
    if (dim_is_const(c, extent, &n) && dim_is_const(c, by, &k)) return *blocks = dim_const(c, n / k), n > k && n % k == 0;
    *blocks = dim_floordiv(c, extent, by);
    return blocks->i && !dim_is(c, *blocks, 1) && dim_same(c, dim_mul(c, *blocks, by), extent);
}

static Expr note_cut(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    Cut *m = data;
    bool mod;
    Dim by = cut_of(m, i, &mod);
    (void)arg;
    if (by.i && m->by.i && !dim_same(c, by, m->by)) m->ok = false;
    if (by.i) m->by = by, m->quotient |= !mod;
    return e;
}

static Expr cut_axis(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    Cut *m = data;
    bool mod;
    if (cut_of(m, i, &mod).i) return expr_axis(c, (uint32_t)(m->axis + mod));
    if (i->kind != E_AXIS || (int)i->index < m->axis) return expr_rebuild(c, i, arg);
    if ((int)i->index > m->axis) return expr_axis(c, i->index + 1);
    return expr_op(c, S_ADD, expr_op(c, S_MUL, e, expr_dim(c, m->by), (Expr){0}), expr_axis(c, i->index + 1), (Expr){0});
}

static void each_index(Kernel *k, ExprFn fn, Cut *m) {
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) {
            KOut *o = &k->stage[st].out[r];
            k->stage[st].body[r] = expr_rewrite(k->c, k->stage[st].body[r], fn, m);
            for (int d = 0; d < o->rank; d++) o->at[d] = expr_rewrite(k->c, o->at[d], fn, m);
        }
}

/* Where operands are read at quotient and remainder of an axis by the length of a block, that is two axes: no template knows divisions. Blocks of
 * less than `least` stay, unless they are all the same. */
static void cut_blocks(Kernel *k, int axis, int64_t least) {
    Cut m = {.c = k->c, .axis = axis, .ok = true};
    Dim blocks;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        if (s->naxis <= axis || s->naxis == K_AXES || s->axis[axis].kind != AX_PAR ||
            !dim_same(k->c, s->axis[axis].extent, k->stage[0].axis[axis].extent))
            return;
    }
    each_index(k, note_cut, &m);
    if (!m.ok || !m.by.i || (m.quotient && dim_hi(k->c, m.by) < least) || !blocks_of(k->c, k->stage[0].axis[axis].extent, m.by, &blocks)) return;
    each_index(k, cut_axis, &m);
    for (int st = 0; st < k->nstage; st++) {
        Stage *s = &k->stage[st];
        memmove(&s->axis[axis + 1], &s->axis[axis], sizeof(KAxis) * (size_t)(s->naxis - axis));
        s->axis[axis].extent = blocks;
        s->axis[axis + 1].extent = m.by;
        s->naxis++;
    }
}

/* ---- short rows ---- */

/* The last two axes of a map, axis and the next, which has `by` points. split: buffers read along one of them alone, or neither, or each in
 * a dim of its own. */
typedef struct Short { Merge m; int axis; int64_t by; uint64_t split; bool ok, alone; } Short;

/* Is dim d or e read along the first of the two axes, and the other along the second, so that each point of that has a row of its own? */
static bool rows_in_turn(const Short *x, int buf, const Expr *at, int d, int e) {
    const KBuf *b = &x->m.k->buf[buf];
    const uint32_t along = expr_axis(x->m.k->c, (uint32_t)x->axis).i, row = expr_axis(x->m.k->c, (uint32_t)x->axis + 1).i;
    if (d >= e || (b->dtype != DT_F32 && b->dtype != DT_I32)) return false;
    for (int i = d + 1; i < e; i++) if (uses_pair(x->m.k->c, at[i], x->axis)) return false;
    const int near = at[d].i == along ? d : e;
    return at[near].i == along && at[d + e - near].i == row && dim_is(x->m.k->c, b->stride[near], 1);
}

static void short_access(Short *x, int buf, int rank, const Expr *at, int oob) {
    Ctx *c = x->m.k->c;
    const KBuf *b = &x->m.k->buf[buf];
    const Stage *s = &x->m.k->stage[0];
    int d = 0, last = rank - 1;
    while (d < rank && !uses_pair(c, at[d], x->axis)) d++;
    while (last > d && !uses_pair(c, at[last], x->axis)) last--;
    bool pair = d + 1 < rank && last == d + 1 && is_pair(c, &at[d], x->axis) && dim_same(c, b->dim[d], s->axis[x->axis].extent) &&
                dim_same(c, b->dim[d + 1], s->axis[x->axis + 1].extent) &&
                dim_same(c, b->stride[d], dim_mul(c, b->stride[d + 1], b->dim[d + 1]));
    bool one = d < rank && last == d && (at[d].i == expr_axis(c, (uint32_t)x->axis).i || at[d].i == expr_axis(c, (uint32_t)x->axis + 1).i) &&
               dim_is(c, b->stride[d], 1) && (b->dtype == DT_F32 || b->dtype == DT_I32);
    bool alone = one || rows_in_turn(x, buf, at, d, last), before = x->m.dim[buf] >= 0, split = x->split >> buf & 1;
    x->ok = x->ok && oob == OOB_NEVER && (pair ? !split && (!before || x->m.dim[buf] == d) : (alone || d == rank) && !before);
    x->alone |= alone && !pair;
    if (pair) x->m.dim[buf] = d;
    else x->split |= 1ull << buf;
}

static void short_load(void *data, const ExprInfo *i) { short_access(data, (int)i->index, i->narg - (i->oob == OOB_VALUE), i->arg, i->oob); }

static Expr short_index(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    const Short *x = data;
    Expr at[MAX_RANK], axis = expr_axis(c, (uint32_t)x->axis), by = expr_int(c, DT_I64, x->by);
    if (i->kind != E_LOAD || !(x->split >> i->index & 1)) return i->narg ? expr_rebuild(c, i, arg) : e;
    for (int d = 0; d < i->narg; d++) {
        bool outer = arg[d].i == axis.i, inner = arg[d].i == expr_axis(c, (uint32_t)x->axis + 1).i;
        at[d] = outer || inner ? expr_op(c, outer ? S_FDIV : S_MOD, axis, by, (Expr){0}) : arg[d];
    }
    return expr_load(c, i->index, i->dtype, i->narg, at, OOB_NEVER, (Expr){0}, 0);
}

/* Rows much shorter than a vector, read along with what lies only along them, or is one element for all of a row: one axis, so that vectors are full.
 * The lanes of the others are permutations of a few elements (emit_few.c). */
static void merge_short(Kernel *k) {
    enum { SHORT_ROW = 4 /* longer ones fill most of a vector */, MANY = 16 };
    Stage *s = &k->stage[0];
    int axis[1] = {s->naxis - 2};
    bool many = false;
    Short x = {.m = {.k = k, .axis = axis}, .axis = axis[0], .ok = true};
    if (k->nstage != 1 || axis[0] < 0 || s->comb[0].i || s->axis[axis[0] + 1].kind != AX_PAR || dim_lo(k->c, s->axis[axis[0]].extent) < MANY) return;
    if (!dim_is_const(k->c, s->axis[axis[0] + 1].extent, &x.by) || x.by < 2 || x.by > SHORT_ROW) return;
    for (int b = 0; b < k->nbuf; b++) x.m.dim[b] = -1;
    for (int r = 0; r < s->nres; r++) {
        expr_loads(k->c, s->body[r], short_load, &x);
        short_access(&x, s->out[r].buf, s->out[r].rank, s->out[r].at, s->out[r].oob);
        x.ok = x.ok && x.m.dim[s->out[r].buf] >= 0 && !pair_outside_loads(k->c, s->body[r], axis[0]);
        many |= expr_uses_axis(k->c, s->body[r], (uint32_t)axis[0]);
    }
    if (!x.ok || !x.alone || !many) return; /* rows that are all the same are copied */
    for (int r = 0; r < s->nres; r++) s->body[r] = expr_rewrite(k->c, s->body[r], short_index, &x);
    merge_axes(&x.m);
}

/* Parallel axes before reduced ones, otherwise in their order: what all stages share leads. The order of a sum stays. */
static void parallel_first(Ctx *c, Stage *s) {
    Expr to[K_AXES];
    KAxis axis[K_AXES];
    uint32_t n = 0;
    for (int a = 0; a < s->naxis; a++)
        if (s->axis[a].kind == AX_SCAN) return;
    for (int kind = AX_PAR; kind <= AX_RED; kind++)
        for (int a = 0; a < s->naxis; a++)
            if (s->axis[a].kind == kind) axis[n] = s->axis[a], to[a] = expr_axis(c, n++);
    map_axes(c, s, to);
    memcpy(s->axis, axis, n * sizeof *axis);
}

void kernel_collapse(Kernel *k, bool parallel) {
    enum { SHORT = 8 /* of registers of a CPU; threads of a GPU may have an axis of two outside of the last one */ };
    for (int st = 0; st < k->nstage; st++) {
        if (k->stage[st].kind != ST_NEST) return;
        drop_unit_axes(k->c, &k->stage[st]);
        if (parallel) parallel_first(k->c, &k->stage[st]);
        for (int r = 0; r < k->stage[st].nres; r++) k->stage[st].body[r] = expr_rewrite(k->c, k->stage[st].body[r], still_index, k);
    }
    drop_unit_dims(k);
    for (int a = 0; a < k->stage[0].naxis; a++) cut_blocks(k, a, parallel && a + 1 < k->stage[0].naxis ? 2 : SHORT);
    for (int st = 0; st < k->nstage; st++)
        for (int a = 0; a + 1 < k->stage[st].naxis;)
            if (!merge_pair(k, st, a)) a++;
    if (!parallel) merge_short(k);
}
