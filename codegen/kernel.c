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

static int walk_operations(Walk *w, Expr e) {
    if (!e.i || !visit_once(w, e.i)) return 0;
    ExprInfo i = *expr_info(w->c, e);
    int n = i.kind == E_OP;
    for (int k = 0; k < i.narg && i.kind != E_LOAD; k++) n += walk_operations(w, i.arg[k]);
    return n;
}

int expr_operations(Ctx *c, Expr e) {
    Walk w = {.c = c};
    return walk_operations(&w, e);
}

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

static void is_total(void *data, const ExprInfo *load) { *(bool *)data = *(bool *)data && load->oob != OOB_FAIL; }

bool kernel_is_total(const Kernel *k) {
    bool total = true;
    for (int b = 0; b < k->nbuf; b++) total = total && dt_bits(k->buf[b].dtype) <= 64;
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) expr_loads(k->c, k->stage[st].body[r], is_total, &total);
    return total;
}

/* As epilogue_mask, of the stages that are not taken. */
static uint64_t epilogue_of(const Kernel *k, int of, uint64_t taken) {
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
        bool ok = b->kind == ST_NEST && b->naxis == npar && !b->comb[0].i && !(taken >> st & 1);
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

uint64_t epilogue_mask(const Kernel *k, int of) {
    uint64_t taken = 0;
    for (int st = 0; st < of && st < 64; st++)
        if (k->stage[st].kind == ST_NEST && !(taken >> st & 1)) taken |= epilogue_of(k, st, taken);
    return of < 64 && taken >> of & 1 ? 0 : epilogue_of(k, of, taken);
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

/* ---- accesses ---- */

void stage_extents(const Stage *s, Dim *extent) {
    for (int a = 0; a < s->naxis; a++) extent[a] = s->axis[a].extent;
}

static void affine_of(Ctx *c, Dim offset, Affine *out) {
    memset(out, 0, sizeof *out);
    for (int a = 0; a < K_AXES; a++) out->coef[a] = dim_const(c, 0);
    out->rest = expr_dim(c, offset);
}

static bool add_index(Ctx *c, const Stage *s, Expr x, Dim stride, Affine *out) {
    Expr coef[K_AXES] = {{0}}, rest;
    if (!expr_affine(c, x, s->naxis, coef, &rest)) return false;
    for (int a = 0; a < s->naxis; a++) {
        if (!coef[a].i) continue;
        const ExprInfo *i = expr_info(c, coef[a]);
        Dim f;
        if (i->kind == E_CONST) f = dim_const(c, i->val.i);
        else if (i->kind == E_DIM) f = (Dim){i->index};
        else return false;
        out->coef[a] = dim_add(c, out->coef[a], dim_mul(c, f, stride));
        out->has[a] = !dim_is(c, out->coef[a], 0);
    }
    out->rest = expr_op(c, S_ADD, out->rest, expr_op(c, S_MUL, rest, expr_dim(c, stride), (Expr){0}), (Expr){0});
    return true;
}

bool index_affine(const Kernel *k, const Stage *s, Expr x, Affine *out) {
    affine_of(k->c, dim_const(k->c, 0), out);
    return add_index(k->c, s, x, dim_const(k->c, 1), out);
}

bool access_affine(const Kernel *k, const Stage *s, uint16_t buf, int rank, const Expr *at, Affine *out) {
    affine_of(k->c, k->buf[buf].offset, out);
    for (int d = 0; d < rank; d++) {
        Dim stride = k->buf[buf].stride[d];
        if (!dim_is(k->c, stride, 0) && !add_index(k->c, s, at[d], stride, out)) return false;
    }
    return true;
}
