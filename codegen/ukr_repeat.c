/* ukr_repeat.c: template `repeat`: a map whose values are the same at all points of some axes (a tensor that is expanded or tiled), where what is
 * inside of such an axis is short. A block of the result is computed once, by `nest`, and then copied from the result itself: by doubling until it is
 * SEED bytes long, then as a whole, so that vectors are full whatever the length of a row. Axes inside of each other are repeated in turn.
 * Tasks: a point of the axes outside of the first such axis, and a stretch of that one, whose first block it computes. */
#include "nest.h"
#include "ukr.h"

enum { SEED = 4096, LINE = 64, TASK = 64 << 10, LONG = 128 << 10 /* bytes of blocks that are no nearer than what they come from */ };

typedef struct Repeat { int first, last; uint32_t axes; } Repeat; /* the repeated axes, and which are the outermost and innermost */

static Dim block_of(Ctx *c, const Stage *s, int a) { /* elements of the axes from a on */
    Dim n = dim_const(c, 1);
    for (; a < s->naxis; a++) n = dim_mul(c, n, s->axis[a].extent);
    return n;
}

static bool find_repeats(const Kernel *k, Repeat *r) {
    const Stage *s = &k->stage[0];
    const KOut *o = &s->out[0];
    const KBuf *b = &k->buf[o->buf];
    Affine f;
    if (k->nstage != 1 || s->kind != ST_NEST || s->comb[0].i || s->nres != 1 || o->oob != OOB_NEVER || dt_bits(b->dtype) > 64) return false;
    if (!access_affine(k, s, o->buf, o->rank, o->at, &f)) return false;
    for (int a = 0; a < s->naxis; a++)
        if (s->axis[a].kind != AX_PAR || !f.has[a] || !dim_same(k->c, f.coef[a], block_of(k->c, s, a + 1))) return false;
    *r = (Repeat){.first = -1, .last = -1};
    int used = s->naxis - 1;
    while (used >= 0 && !expr_uses_axis(k->c, s->body[0], (uint32_t)used)) used--;
    for (int a = 0; a < used; a++) {
        if (expr_uses_axis(k->c, s->body[0], (uint32_t)a)) continue;
        if (r->first < 0) r->first = a;
        r->last = a;
        r->axes |= 1u << a;
    }
    return r->first >= 0;
}

static bool repeat_match(const Kernel *k, const Target *t) {
    Repeat r;
    int64_t block;
    if (!find_repeats(k, &r)) return false;
    const KBuf *b = &k->buf[k->stage[0].out[0].buf];
    if (dim_is_const(k->c, block_of(k->c, &k->stage[0], r.last + 1), &block)) return block * dt_bits(b->dtype) / 8 < LONG;
    return !nest_columns_rows(k, t, k->stage[0].naxis - 1);
}

static int repeat_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    (void)k, (void)t, (void)out, (void)max;
    return 1;
}

/* `nest` computes every point, in vectors that rows do not fill. */
static double repeat_cost(const Kernel *k, const Sched *s, const Target *t) {
    (void)s;
    return nest_stage_cost(k, &k->stage[0], t) / 4;
}

/* last: the copies that nobody reads again pass the caches. */
typedef struct Gen { Emit *e; Repeat r; LVal ptr; DType type; uint16_t lanes; bool last; } Gen;

/* Elements `from` to `past` - 1 at ptr, to those from `to` on, by so many at a time. */
static void copy_by(Gen *g, LVal ptr, LVal to, LVal from, LVal past, uint16_t lanes, bool past_caches) {
    Lir *l = g->e->l;
    LFor f = lir_for(l, from, past, lir_i64(l, lanes), 0, NULL);
    LVal v = lir_load(l, ptr, f.iv, (LTy){(uint8_t)g->type, lanes}, (LVal){0}, 0);
    if (past_caches) lir_stream_next(l);
    lir_store(l, ptr, lir_add(l, to, f.iv), v, (LVal){0}, 0);
    lir_for_end(l, &f, NULL, NULL);
}

/* Elements 0 to n - 1 at ptr, to those from `to` on. What passes the caches does so by whole lines. */
static void copy(Gen *g, LVal ptr, LVal to, LVal n, bool past_caches) {
    Emit *e = g->e;
    Lir *l = e->l;
    const LTy vector = {(uint8_t)g->type, g->lanes};
    const uint16_t line = (uint16_t)(LINE * 8 / dt_bits(g->type)), most = past_caches && line > g->lanes ? line : g->lanes;
    LVal done = lir_i64(l, 0);
    for (uint16_t lanes = most; lanes >= g->lanes; lanes /= 2) {
        const LVal step = lir_i64(l, lanes), whole = lir_op2(l, S_MUL, lir_op2(l, S_DIV, n, step), step);
        copy_by(g, ptr, to, done, whole, lanes, past_caches);
        done = whole;
    }
    if (e->t->flags & F_AVX512) {
        LIf rest = lir_if(l, lir_op2(l, S_LT, done, n), 0);
        LVal mask = lir_mask(l, lir_sub(l, n, done), g->lanes);
        LVal v = lir_load(l, ptr, done, vector, mask, 0);
        lir_store(l, ptr, lir_add(l, to, done), v, mask, 0);
        lir_else(l, &rest, NULL);
        lir_endif(l, &rest, NULL, NULL);
        return;
    }
    copy_by(g, ptr, to, done, n, 1, past_caches);
}

/* The block at point p of the axes up to `a`, to the `count` - 1 blocks after it. */
static void copies(Gen *g, int a, const Point *p, LVal count) {
    Emit *e = g->e;
    Lir *l = e->l;
    const Stage *s = &e->k->stage[0];
    const Dim block = block_of(e->c, s, a + 1);
    const int64_t seed = SEED * 8 / (int64_t)dt_bits(g->type);
    LVal have = emit_dim(e, block), total = lir_mul(l, have, count), vec;
    Point first = *p;
    int64_t step;
    for (int d = a + 1; d < s->naxis; d++) first.axis[d] = lir_i64(l, 0);
    emit_memo_reset(e);
    LVal ptr = lir_ptr_add(l, g->ptr, emit_address(e, s, s->out[0].buf, s->out[0].rank, s->out[0].at, &first, &step, &vec), g->type);
    emit_memo_reset(e);
    int doublings = 0;
    for (int64_t n = dim_lo(e->c, block) > 1 ? dim_lo(e->c, block) : 1; n < seed; n *= 2) doublings++;
    if (doublings) {
        LFor f = lir_for(l, lir_i64(l, 0), lir_i64(l, doublings), lir_i64(l, 1), 1, &have);
        LVal n = lir_op2(l, S_MIN, f.c[0], lir_sub(l, total, f.c[0]));
        n = lir_op3(l, S_SELECT, lir_op2(l, S_LT, f.c[0], lir_i64(l, seed)), n, lir_i64(l, 0));
        copy(g, ptr, f.c[0], n, false);
        LVal next = lir_add(l, f.c[0], n);
        lir_for_end(l, &f, &next, &have);
    }
    LFor f = lir_for(l, have, total, lir_op2(l, S_MAX, have, lir_i64(l, 1)), 0, NULL);
    copy(g, ptr, f.iv, lir_op2(l, S_MIN, have, lir_sub(l, total, f.iv)), g->last && a == g->r.first);
    lir_for_end(l, &f, NULL, NULL);
}

/* All points of the axes from `a` on, at p of the others. */
static void fill(Gen *g, int a, Point *p) {
    Emit *e = g->e;
    Lir *l = e->l;
    const Stage *s = &e->k->stage[0];
    if (a > g->r.last) {
        nest_points(e, a, p);
        return;
    }
    LVal extent = emit_dim(e, s->axis[a].extent), zero = lir_i64(l, 0);
    if (g->r.axes >> a & 1) {
        p->axis[a] = zero;
        LIf some = lir_if(l, lir_op2(l, S_GT, extent, zero), 0);
        fill(g, a + 1, p);
        copies(g, a, p, extent);
        lir_else(l, &some, NULL);
        lir_endif(l, &some, NULL, NULL);
        return;
    }
    LFor f = lir_for(l, zero, extent, lir_i64(l, 1), 0, NULL);
    p->axis[a] = f.iv;
    fill(g, a + 1, p);
    lir_for_end(l, &f, NULL, NULL);
}

static void repeat_build(Emit *e) {
    Lir *l = e->l;
    const Stage *s = &e->k->stage[0];
    const KBuf *b = &e->k->buf[s->out[0].buf];
    const unsigned bits = dt_bits(b->dtype);
    Gen g = {.e = e, .ptr = e->ptr[s->out[0].buf], .type = bits > 32 ? DT_I64 : bits > 16 ? DT_I32 : bits > 8 ? DT_U16 : DT_U8, .last = e->streamed};
    e->streamed = 0; /* what is copied is read */
    CHECK(find_repeats(e->k, &g.r));
    g.lanes = target_lanes(e->t, g.type);
    const int a = g.r.first;
    const Dim block = dim_max(e->c, block_of(e->c, s, a + 1), dim_const(e->c, 1));
    const Dim stretch = dim_ceildiv(e->c, dim_const(e->c, TASK * 8 / (int64_t)dt_bits(g.type)), block);
    Point p = {.vaxis = -1, .lanes = 1};
    Tasks tasks = {0};
    tasks_along(&tasks, dim_ceildiv(e->c, s->axis[a].extent, stretch), &p.axis[a]);
    tasks_points(&tasks, s, (1u << a) - 1, &p);
    tasks_begin(e, &tasks);
    tasks_grain(e, repeat_cost(e->k, e->s, e->t));
    LFor t = lir_for_tasks(l, lir_i64(l, 1), 0, NULL);
    tasks_split(e, &tasks, t.iv);
    p.axis[a] = lir_mul(l, p.axis[a], emit_dim(e, stretch));
    LVal count = lir_sub(l, emit_dim(e, s->axis[a].extent), p.axis[a]);
    count = lir_op2(l, S_MIN, count, emit_dim(e, stretch));
    fill(&g, a + 1, &p);
    copies(&g, a, &p, count);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_repeat = {"repeat", "", F_SIMD, repeat_match, repeat_candidates, repeat_cost, repeat_build};
