/* kernel.c: what a Kernel is, in print and under checks, and the questions that templates ask of it. */
#include <string.h>

#include "emit_internal.h"

/* ---- expressions ---- */

typedef struct Walk { Ctx *c; LoadFn fn; void *data; uint32_t *seen; uint32_t n, cap; } Walk;

static bool visit_once(Walk *w, uint32_t id) { /* open addressing, grows at half full */
    if (2 * w->n >= w->cap) {
        Walk old = *w;
        w->cap = w->cap ? 2 * w->cap : 64;
        w->seen = NEWN(w->c, uint32_t, w->cap);
        w->n = 0;
        for (uint32_t i = 0; i < old.cap; i++) if (old.seen[i]) visit_once(w, old.seen[i]);
    }
    uint32_t h = id * 2654435761u & (w->cap - 1);
    while (w->seen[h] && w->seen[h] != id) h = (h + 1) & (w->cap - 1);
    if (w->seen[h]) return false;
    w->seen[h] = id;
    w->n++;
    return true;
}

static void walk_loads(Walk *w, Expr e) {
    if (!e.i || !visit_once(w, e.i)) return;
    ExprInfo i = *expr_info(w->c, e);
    for (int k = 0; k < i.narg; k++) walk_loads(w, i.arg[k]);
    if (i.kind == E_LOAD) w->fn(w->data, &i);
}

void expr_loads(Ctx *c, Expr e, LoadFn fn, void *data) {
    Walk w = {.c = c, .fn = fn, .data = data};
    walk_loads(&w, e);
}

static void add_buf(void *data, const ExprInfo *i) { *(uint64_t *)data |= 1ull << i->index; }

uint64_t expr_bufs(Ctx *c, Expr e) {
    uint64_t m = 0;
    expr_loads(c, e, add_buf, &m);
    return m;
}

/* ---- epilogues ---- */

typedef struct EpiCheck { const Kernel *k; const Stage *of; uint64_t held; const KOut *const *out; bool ok, reads; } EpiCheck;

static void check_epilogue_load(void *data, const ExprInfo *x) {
    EpiCheck *c = data;
    if (!(c->held >> x->index & 1)) return;
    c->reads = true;
    const KOut *o = c->out[x->index];
    Expr renumber[K_AXES] = {{0}};
    int np = 0;
    if (c->of) /* the root counts reduced axes too */
        for (int a = 0; a < c->of->naxis; a++) if (c->of->axis[a].kind == AX_PAR) renumber[a] = expr_axis(c->k->c, (uint32_t)np++);
    for (int d = 0; d < o->rank; d++) {
        Expr at = o->at[d];
        bool root = false;
        for (int r = 0; r < c->of->nres; r++) root |= &c->of->out[r] == o;
        if (root) at = expr_subst_axes(c->k->c, at, renumber, c->of->naxis);
        if (at.i != x->arg[d].i && !dim_is(c->k->c, c->k->buf[o->buf].dim[d], 1)) c->ok = false;
    }
    if (x->oob != OOB_NEVER) c->ok = false;
}

uint64_t epilogue_mask(const Kernel *k, int of) {
    const Stage *a = &k->stage[of];
    const KOut *out[K_BUFS] = {0};
    uint64_t mask = 0, held = 0, later = 0; /* buffers: held in registers; written after `of` by somebody else */
    int npar = 0;
    for (int i = 0; i < a->naxis; i++) npar += a->axis[i].kind == AX_PAR;
    for (int r = 0; r < a->nres; r++) {
        held |= 1ull << a->out[r].buf;
        out[a->out[r].buf] = &a->out[r];
    }
    for (int st = of + 1; st < k->nstage && st < 64; st++) {
        const Stage *b = &k->stage[st];
        bool ok = b->kind == ST_NEST && b->naxis == npar && !b->comb[0].i;
        for (int i = 0, p = 0; ok && i < a->naxis; i++)
            if (a->axis[i].kind == AX_PAR) ok = dim_same(k->c, b->axis[p++].extent, a->axis[i].extent);
        EpiCheck c = {k, a, held, out, true, false};
        uint64_t reads = 0;
        for (int r = 0; r < b->nres; r++) ok = ok && dt_bits(k->buf[b->out[r].buf].dtype) <= 64; /* strings have no lanes */
        for (int r = 0; ok && r < b->nres; r++) {
            expr_loads(k->c, b->body[r], check_epilogue_load, &c);
            reads |= expr_bufs(k->c, b->body[r]);
        }
        ok = ok && c.ok && (c.reads || !a->comb[0].i) && !(reads & later);
        for (int r = 0; r < b->nres; r++) {
            if (ok) {
                held |= 1ull << b->out[r].buf;
                out[b->out[r].buf] = &b->out[r];
            } else {
                later |= 1ull << b->out[r].buf;
            }
        }
        if (ok) mask |= 1ull << st;
    }
    return mask;
}

/* ---- merging axes ---- */

typedef struct Merge { Kernel *k; const Stage *s; int axis; bool ok; uint32_t dims[K_BUFS]; /* bit d: dims d, d+1 of the buffer merge */ uint32_t split[K_BUFS]; } Merge;

static void merge_access(Merge *m, uint16_t buf, int rank, const Expr *at, int oob) {
    Ctx *c = m->k->c;
    const KBuf *b = &m->k->buf[buf];
    Expr a0 = expr_axis(c, (uint32_t)m->axis), a1 = expr_axis(c, (uint32_t)m->axis + 1);
    bool used = false;
    for (int d = 0; d < rank; d++) {
        bool u = expr_uses_axis(c, at[d], (uint32_t)m->axis) || expr_uses_axis(c, at[d], (uint32_t)m->axis + 1);
        if (!u) continue;
        if (used) continue; /* second dim of the pair, seen below */
        used = true;
        bool pair = d + 1 < rank && at[d].i == a0.i && at[d + 1].i == a1.i && oob == OOB_NEVER &&
                    dim_same(c, b->dim[d], m->s->axis[m->axis].extent) && dim_same(c, b->dim[d + 1], m->s->axis[m->axis + 1].extent) &&
                    dim_same(c, b->stride[d], dim_mul(c, b->stride[d + 1], b->dim[d + 1]));
        for (int x = d + 2; pair && x < rank; x++)
            if (expr_uses_axis(c, at[x], (uint32_t)m->axis) || expr_uses_axis(c, at[x], (uint32_t)m->axis + 1)) pair = false;
        if (!pair) { m->ok = false; return; }
        m->dims[buf] |= 1u << d;
    }
    if (!used) m->split[buf] = 1; /* accessed without these axes: its dims must stay */
}

static void merge_load(void *data, const ExprInfo *x) {
    Merge *m = data;
    merge_access(m, (uint16_t)x->index, m->k->buf[x->index].rank, x->arg, x->oob);
}

static Expr drop_load(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    (void)data, (void)e;
    return i->kind == E_LOAD ? expr_arg(c, 0, i->dtype) : expr_rebuild(c, i, newarg);
}

static bool axis_outside_loads(Ctx *c, Expr e, uint32_t axis) {
    return expr_uses_axis(c, e, axis) && expr_uses_axis(c, expr_rewrite(c, e, drop_load, NULL), axis);
}

typedef struct Renumber { Kernel *k; int axis; int dim[K_BUFS]; } Renumber; /* dim: merged pair of each buffer or -1 */

static Expr renumber_axes(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    Renumber *m = data;
    if (i->kind == E_AXIS) return (int)i->index > m->axis ? expr_axis(c, i->index - 1) : e;
    if (i->kind == E_LOAD && m->dim[i->index] >= 0) {
        Expr at[MAX_RANK];
        int n = 0, rank = m->k->buf[i->index].rank + 1; /* the buffer is merged already */
        for (int d = 0; d < rank; d++) if (d != m->dim[i->index] + 1) at[n++] = arg[d];
        return expr_load(c, i->index, i->dtype, n, at, i->oob, i->oob == OOB_VALUE ? arg[i->narg - 1] : (Expr){0}, i->guard);
    }
    return expr_rebuild(c, i, arg);
}

/* Merges axes `axis` and `axis`+1 of every stage, if they are one to all accesses. */
static bool merge_pair(Kernel *k, int axis) {
    Merge m = {.k = k, .axis = axis, .ok = true};
    for (int st = 0; st < k->nstage && m.ok; st++) {
        const Stage *s = m.s = &k->stage[st];
        if (s->kind != ST_NEST || axis + 1 >= s->naxis || s->axis[axis].kind != s->axis[axis + 1].kind) return false;
        if (!dim_same(k->c, s->axis[axis].extent, k->stage[0].axis[axis].extent) ||
            !dim_same(k->c, s->axis[axis + 1].extent, k->stage[0].axis[axis + 1].extent)) return false;
        for (int r = 0; r < s->nres; r++) {
            if (axis_outside_loads(k->c, s->body[r], (uint32_t)axis) || axis_outside_loads(k->c, s->body[r], (uint32_t)axis + 1)) return false;
            expr_loads(k->c, s->body[r], merge_load, &m);
            merge_access(&m, s->out[r].buf, s->out[r].rank, s->out[r].at, s->out[r].oob);
        }
    }
    Renumber rn = {.k = k, .axis = axis};
    for (int b = 0; b < k->nbuf; b++) {
        rn.dim[b] = -1;
        if (!m.dims[b]) continue;
        if (m.split[b] || (m.dims[b] & (m.dims[b] - 1))) return false;
        rn.dim[b] = __builtin_ctz(m.dims[b]);
    }
    if (!m.ok) return false;
    for (int b = 0; b < k->nbuf; b++) {
        KBuf *x = &k->buf[b];
        int d = rn.dim[b];
        if (d < 0) continue;
        x->dim[d] = dim_mul(k->c, x->dim[d], x->dim[d + 1]);
        x->stride[d] = x->stride[d + 1];
        for (int j = d + 1; j + 1 < x->rank; j++) {
            x->dim[j] = x->dim[j + 1];
            x->stride[j] = x->stride[j + 1];
        }
        x->rank--;
    }
    for (int st = 0; st < k->nstage; st++) {
        Stage *s = &k->stage[st];
        s->axis[axis].extent = dim_mul(k->c, s->axis[axis].extent, s->axis[axis + 1].extent);
        memmove(&s->axis[axis + 1], &s->axis[axis + 2], sizeof(KAxis) * (size_t)(s->naxis - axis - 2));
        s->naxis--;
        for (int r = 0; r < s->nres; r++) {
            s->body[r] = expr_rewrite(k->c, s->body[r], renumber_axes, &rn);
            KOut *o = &s->out[r];
            int n = 0;
            for (int d = 0; d < o->rank; d++)
                if (rn.dim[o->buf] < 0 || d != rn.dim[o->buf] + 1) o->at[n++] = expr_rewrite(k->c, o->at[d], renumber_axes, &rn);
            o->rank = (uint8_t)n;
        }
    }
    return true;
}

/* Axes of extent 1 carry nothing: their coordinate is 0. */
static void drop_unit_axis(Kernel *k, Stage *s, int axis) {
    Expr to[K_AXES];
    for (int a = 0; a < s->naxis; a++)
        to[a] = a == axis ? expr_int(k->c, DT_I64, 0) : expr_axis(k->c, (uint32_t)(a > axis ? a - 1 : a));
    for (int r = 0; r < s->nres; r++) {
        s->body[r] = expr_subst_axes(k->c, s->body[r], to, s->naxis);
        for (int d = 0; d < s->out[r].rank; d++) s->out[r].at[d] = expr_subst_axes(k->c, s->out[r].at[d], to, s->naxis);
    }
    memmove(&s->axis[axis], &s->axis[axis + 1], sizeof(KAxis) * (size_t)(s->naxis - axis - 1));
    s->naxis--;
}

/* ---- cutting axes ---- */

typedef struct Cut { Ctx *c; int axis; int64_t by; bool ok; } Cut;

/* The quotient or remainder (*mod) of axis m->axis by a constant, else 0. */
static int64_t cut_of(const Cut *m, const ExprInfo *i, bool *mod) {
    if (i->kind != E_OP || (i->op != S_FDIV && i->op != S_MOD) || i->arg[0].i != expr_axis(m->c, (uint32_t)m->axis).i) return 0;
    const ExprInfo *by = expr_info(m->c, i->arg[1]);
    *mod = i->op == S_MOD;
    return by->kind == E_CONST ? by->val.i : 0;
}

static Expr note_cut(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    Cut *m = data;
    bool mod;
    int64_t by = cut_of(m, i, &mod);
    (void)c, (void)arg;
    if (by && m->by && by != m->by) m->ok = false;
    if (by) m->by = by;
    return e;
}

static Expr cut_axis(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    Cut *m = data;
    bool mod;
    if (cut_of(m, i, &mod)) return expr_axis(c, (uint32_t)(m->axis + mod));
    if (i->kind != E_AXIS || (int)i->index < m->axis) return expr_rebuild(c, i, arg);
    if ((int)i->index > m->axis) return expr_axis(c, i->index + 1);
    return expr_op(c, S_ADD, expr_op(c, S_MUL, e, expr_int(c, DT_I64, m->by), (Expr){0}), expr_axis(c, i->index + 1), (Expr){0});
}

static void each_index(Kernel *k, ExprFn fn, Cut *m) {
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) {
            KOut *o = &k->stage[st].out[r];
            k->stage[st].body[r] = expr_rewrite(k->c, k->stage[st].body[r], fn, m);
            for (int d = 0; d < o->rank; d++) o->at[d] = expr_rewrite(k->c, o->at[d], fn, m);
        }
}

/* Where operands are read at quotient and remainder of an axis by the length of a block, that is two axes: no template knows divisions. */
static void cut_blocks(Kernel *k, int axis) {
    enum { SHORT = 8 };
    Cut m = {.c = k->c, .axis = axis, .ok = true};
    int64_t extent;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        if (s->naxis <= axis || s->naxis == K_AXES || s->axis[axis].kind != AX_PAR || !dim_same(k->c, s->axis[axis].extent, k->stage[0].axis[axis].extent)) return;
    }
    if (!dim_is_const(k->c, k->stage[0].axis[axis].extent, &extent)) return;
    each_index(k, note_cut, &m);
    if (!m.ok || m.by < SHORT || extent <= m.by || extent % m.by) return;
    each_index(k, cut_axis, &m);
    for (int st = 0; st < k->nstage; st++) {
        Stage *s = &k->stage[st];
        memmove(&s->axis[axis + 1], &s->axis[axis], sizeof(KAxis) * (size_t)(s->naxis - axis));
        s->axis[axis].extent = dim_const(k->c, extent / m.by);
        s->axis[axis + 1].extent = dim_const(k->c, m.by);
        s->naxis++;
    }
}

void kernel_collapse(Kernel *k) {
    for (int st = 0; st < k->nstage; st++) {
        Stage *s = &k->stage[st];
        if (s->kind != ST_NEST) return;
        int red = 0;
        for (int a = 0; a < s->naxis; a++) red += s->axis[a].kind == AX_RED;
        for (int a = s->naxis - 1; a >= 0; a--) {
            if (!dim_is(k->c, s->axis[a].extent, 1)) continue;
            if (s->axis[a].kind == AX_RED && --red == 0) { red = 1; continue; } /* a reduction stays one */
            drop_unit_axis(k, s, a);
        }
    }
    for (int a = 0; a < k->stage[0].naxis; a++) cut_blocks(k, a);
    for (int a = 0; a + 1 < k->stage[0].naxis;)
        if (!merge_pair(k, a)) a++;
}

double dim_typical(Ctx *c, Dim d) {
    int64_t v;
    if (dim_is_const(c, d, &v)) return (double)v;
    const DimInfo *i = dim_info(c, d);
    if (i->kind == D_SYM) {
        const SymInfo *s = dim_sym_info(c, (uint32_t)i->val);
        if (s->hi != DIM_INF && s->hi < 4096) return (double)s->hi;
        return strstr(s->name, "batch") ? 1 : 128;
    }
    DimInfo copy = *i;
    double a[3] = {0};
    for (int k = 0; k < copy.n; k++) a[k] = dim_typical(c, copy.arg[k]);
    switch (copy.kind) {
    case D_ADD: return a[0] + a[1];
    case D_MUL: return a[0] * a[1];
    case D_FLOORDIV: case D_CEILDIV: return a[1] != 0 ? a[0] / a[1] : 0;
    case D_MOD: return a[1] / 2;
    case D_MIN: return a[0] < a[1] ? a[0] : a[1];
    case D_MAX: return a[0] > a[1] ? a[0] : a[1];
    case D_BCAST: return a[0] == 1 ? a[1] : a[0];
    case D_SELECT: return a[1];
    default: return 1;
    }
}

/* ---- text ---- */

static void print_index(Buf *b, const Kernel *k, int rank, const Expr *at) {
    buf_puts(b, "[");
    for (int d = 0; d < rank; d++) {
        if (d) buf_puts(b, ", ");
        expr_print(b, k->c, at[d]);
    }
    buf_puts(b, "]");
}

void kernel_print(Buf *b, const Kernel *k) {
    static const char *const kinds[] = {"in", "out", "temp"};
    static const char *const stages[] = {"nest", "scan", "scatter", "sort", "topk", "compact", "random"};
    buf_printf(b, "kernel %s {  # %s\n", k->name, k->nodes);
    for (int i = 0; i < k->nbuf; i++) {
        const KBuf *x = &k->buf[i];
        buf_printf(b, "  %-4s %d: %s[", kinds[x->kind], i, dt_name(x->dtype));
        for (int d = 0; d < x->rank; d++) {
            if (d) buf_puts(b, ",");
            dim_print(b, k->c, x->dim[d]);
        }
        buf_puts(b, "] stride [");
        for (int d = 0; d < x->rank; d++) {
            if (d) buf_puts(b, ",");
            dim_print(b, k->c, x->stride[d]);
        }
        buf_printf(b, "]%s\n", x->data ? " const" : "");
    }
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        buf_printf(b, "  %s (", stages[s->kind]);
        for (int a = 0; a < s->naxis; a++) {
            buf_printf(b, "%s#%d%s<", a ? ", " : "", a, s->axis[a].kind == AX_RED ? " reduce " : s->axis[a].kind == AX_SCAN ? " scan " : " ");
            dim_print(b, k->c, s->axis[a].extent);
        }
        buf_puts(b, ")\n");
        for (int r = 0; r < s->nres; r++) {
            buf_printf(b, "    %d", s->out[r].buf);
            print_index(b, k, s->out[r].rank, s->out[r].at);
            buf_printf(b, "%s = ", s->out[r].oob == OOB_DROP ? " if inside" : "");
            if (s->comb[r].i) {
                buf_printf(b, "%s ", dt_name(s->acc[r]));
                expr_print(b, k->c, s->comb[r]);
                buf_puts(b, " over ");
            }
            expr_print(b, k->c, s->body[r]);
            buf_puts(b, "\n");
        }
    }
    buf_puts(b, "}\n");
}

bool kernel_verify(const Kernel *k) {
    if (!k->nstage) return false;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        for (int r = 0; r < s->nres; r++) {
            if (!s->body[r].i || s->out[r].buf >= k->nbuf || k->buf[s->out[r].buf].kind == KB_IN) return false;
            uint64_t reads = expr_bufs(k->c, s->body[r]);
            for (int u = st + 1; u < k->nstage; u++) /* nothing is read before it is written */
                for (int q = 0; q < k->stage[u].nres; q++)
                    if (reads >> k->stage[u].out[q].buf & 1) return false;
        }
    }
    return true;
}
