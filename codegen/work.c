/* work.c: how much a kernel computes and moves, as sums of products of sizes, for tools that set it against times. Computed is each scalar
 * operation of the bodies and combiners, at every point of the stage's axes; those in addresses do not count. Moved is an element for every
 * point of the axes that a load's or a store's address depends on; the run knows that no buffer moves more than it has (rt_term). */
#include "emit_internal.h"

typedef struct Sum { Ctx *c; const Kernel *k; const Stage *s; VEC(Work) term; } Sum;

static bool same_product(Ctx *c, const Work *x, const Work *y) {
    bool same = x->buf.i == y->buf.i && x->ndim == y->ndim;
    for (int d = 0; d < x->ndim && same; d++) same = dim_same(c, x->dim[d], y->dim[d]);
    return same;
}

/* factor times the extents of the axes in the set, of the argument `buf` (none: operations). */
static void add(Sum *w, Val buf, double factor, uint32_t axes) {
    Work x = {.buf = buf, .factor = factor};
    for (int a = 0; a < w->s->naxis; a++) {
        int64_t n;
        if (!(axes >> a & 1)) continue;
        if (dim_is_const(w->c, w->s->axis[a].extent, &n)) x.factor *= (double)n;
        else x.dim[x.ndim++] = w->s->axis[a].extent;
    }
    if (x.factor == 0) return;
    for (uint32_t i = 0; i < w->term.n; i++)
        if (same_product(w->c, &w->term.v[i], &x)) {
            w->term.v[i].factor += x.factor;
            return;
        }
    vec_push(w->c, &w->term, x);
}

static void add_access(Sum *w, uint32_t buf, int rank, const Expr *at) {
    const KBuf *b = &w->k->buf[buf];
    unsigned bits = dt_bits(b->dtype);
    uint32_t axes = 0;
    if (b->kind == KB_TEMP) return;
    for (int d = 0; d < rank; d++)
        for (uint32_t a = 0; a < w->s->naxis; a++) axes |= (uint32_t)expr_uses_axis(w->c, at[d], a) << a;
    add(w, b->val, bits < 8 ? 1 : bits / 8, axes);
}

static void add_load(void *sum, const ExprInfo *x) {
    Sum *w = sum;
    add_access(w, x->index, w->k->buf[x->index].rank, x->arg);
}

void kernel_work(Ctx *c, const Kernel *k, KernelCode *code) {
    Sum w = {.c = c, .k = k};
    for (int i = 0; i < k->nstage; i++) {
        const Stage *s = w.s = &k->stage[i];
        uint32_t all = (1u << s->naxis) - 1;
        bool reduced = false;
        for (int a = 0; a < s->naxis; a++) reduced |= s->axis[a].kind != AX_PAR;
        for (int r = 0; r < s->nres; r++) {
            int n = expr_operations(c, s->body[r]);
            if (reduced) n += expr_operations(c, s->comb[r]);
            if (n) add(&w, (Val){0}, n, all);
            if (s->body[r].i) expr_loads(c, s->body[r], add_load, &w);
            add_access(&w, s->out[r].buf, s->out[r].rank, s->out[r].at);
        }
    }
    code->work = w.term.v;
    code->nwork = w.term.n;
}
