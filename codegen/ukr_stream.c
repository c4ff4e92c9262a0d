/* ukr_stream.c: template `stream`, for GPUs: pointwise kernels whose operands and results all lie along the last axis. A thread takes 16 bytes of
 * the widest at once (`lanes` neighbours), with accesses of that size: as many bytes on the way with a quarter of the instructions. */
#include "emit_internal.h"
#include "ukr.h"

enum { PAR_LANES, N_PARS };
enum { BYTES = 16, MOST_LANES = 8 };

typedef struct Stream {
    const Kernel *k;
    const Stage *s;
    int v;           /* the axis */
    unsigned widest; /* bits of elements along it; 0: none yet */
    int lanes;
    bool ok;
} Stream;

bool access_in_pieces(const Kernel *k, const Stage *s, uint16_t buf, const Expr *at, Oob oob, int axis, int n, unsigned *bits) {
    const KBuf *b = &k->buf[buf];
    Ctx *c = k->c;
    Affine f;
    *bits = 0;
    if (oob != OOB_NEVER || !access_affine(k, s, buf, b->rank, at, &f)) return false;
    if (!f.has[axis]) return true;
    const ExprInfo *rest = expr_info(c, f.rest);
    *bits = dt_bits(b->dtype);
    bool ok = dim_is(c, f.coef[axis], 1) && *bits >= 16 && *bits <= 64 && b->align % (*bits / 8 * (unsigned)n) == 0;
    ok = ok && (rest->kind == E_CONST ? rest->val.i % n == 0 : rest->kind == E_DIM && dim_divisible(c, (Dim){rest->index}, n));
    for (int a = 0; a < s->naxis; a++) ok = ok && (a == axis || !f.has[a] || dim_divisible(c, f.coef[a], n));
    return ok;
}

static void look(Stream *x, uint16_t buf, const Expr *at, uint8_t oob) {
    unsigned bits;
    x->ok = x->ok && access_in_pieces(x->k, x->s, buf, at, oob, x->v, x->lanes, &bits);
    if (x->ok && bits > x->widest) x->widest = bits;
}

static void look_at_load(void *data, const ExprInfo *load) { look(data, (uint16_t)load->index, load->arg, load->oob); }

static void look_at_all(Stream *x) {
    for (int st = 0; st < x->k->nstage; st++) {
        x->s = &x->k->stage[st];
        for (int r = 0; r < x->s->nres; r++) {
            expr_loads(x->k->c, x->s->body[r], look_at_load, x);
            if (x->k->buf[x->s->out[r].buf].kind == KB_OUT) look(x, x->s->out[r].buf, x->s->out[r].at, x->s->out[r].oob);
        }
    }
}

/* Lanes of the kernel's vectors; 0: it is none for this template. */
static int lanes_of(const Kernel *k) {
    const Stage *s = &k->stage[0];
    Stream x = {.k = k, .v = s->naxis - 1, .lanes = 1, .ok = s->kind == ST_NEST && s->naxis > 0 && !s->comb[0].i};
    for (int a = 0; x.ok && a < s->naxis; a++) x.ok = s->axis[a].kind == AX_PAR;
    if (!x.ok || k->nstage > 64 || (epilogue_mask(k, 0) | 1) != (k->nstage == 64 ? ~0ull : (1ull << k->nstage) - 1)) return 0;
    look_at_all(&x);
    if (!x.ok || !x.widest) return 0;
    x.lanes = BYTES * 8 / (int)x.widest;
    if (x.lanes > MOST_LANES) x.lanes = MOST_LANES;
    if (s->naxis > 1 && !dim_divisible(k->c, s->axis[x.v].extent, x.lanes)) return 0;
    if (dim_hi(k->c, s->axis[x.v].extent) < x.lanes) return 0;
    look_at_all(&x);
    return x.ok ? x.lanes : 0;
}

static bool stream_match(const Kernel *k, const Target *t) {
    return !(t->flags & F_SIMD) && lanes_of(k) > 1;
}

static int stream_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    (void)t, (void)max;
    out[0].par[PAR_LANES] = lanes_of(k);
    return 1;
}

static double stream_cost(const Kernel *k, const Sched *s, const Target *t) {
    (void)s;
    double total = 0;
    for (int st = 0; st < k->nstage; st++) total += nest_stage_cost(k, &k->stage[st], t);
    return total / 2;
}

static void points(Emit *e, Point *p) {
    const Stage *s = &e->k->stage[0];
    LVal acc[K_RES];
    Point par;
    emit_memo_reset(e);
    for (int r = 0; r < s->nres; r++) acc[r] = emit_to_acc(e, emit_vec(e, s, s->body[r], p), expr_info(e->c, s->body[r])->dtype, s->acc[r]);
    emit_parallel_point(s, p, &par);
    emit_epilogue(e, 0, acc, &par);
}

static void stream_build(Emit *e) {
    const Stage *s = &e->k->stage[0];
    Lir *l = e->l;
    int64_t lanes = e->s->par[PAR_LANES];
    int v = s->naxis - 1;
    Dim pieces = dim_ceildiv(e->c, s->axis[v].extent, dim_const(e->c, lanes)), tasks = pieces;
    bool whole = dim_divisible(e->c, s->axis[v].extent, lanes);
    for (int a = 0; a < v; a++) tasks = dim_mul(e->c, tasks, s->axis[a].extent);
    e->code->tasks = tasks;
    LFor t = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 0, NULL);
    Point p = {.vaxis = (int8_t)v, .lanes = (uint16_t)lanes};
    LVal rest = t.iv, n = emit_dim(e, s->axis[v].extent);
    for (int a = v; a >= 0; a--) {
        LVal extent = emit_dim(e, a == v ? pieces : s->axis[a].extent);
        p.axis[a] = a ? lir_op2(l, S_REM, rest, extent) : rest;
        if (a) rest = lir_op2(l, S_DIV, rest, extent);
    }
    LVal start = p.axis[v] = lir_muli(l, p.axis[v], lanes), end = lir_addi(l, start, lanes);
    LIf full = {0};
    if (!whole) full = lir_if(l, lir_op2(l, S_LE, end, n), 0);
    e->aligned = (uint8_t)lanes;
    e->aligned_axis = (uint8_t)v;
    points(e, &p);
    e->aligned = 0;
    if (!whole) {
        lir_else(l, &full, NULL);
        LFor f = lir_for(l, start, n, lir_i64(l, 1), 0, NULL);
        Point q = p;
        q.vaxis = -1, q.lanes = 1, q.axis[v] = f.iv;
        points(e, &q);
        lir_for_end(l, &f, NULL, NULL);
        lir_endif(l, &full, NULL, NULL);
    }
    emit_memo_reset(e);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_stream = {"stream", "lanes", F_BLOCKS, stream_match, stream_candidates, stream_cost, stream_build};
