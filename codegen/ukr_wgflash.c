/* ukr_wgflash.c: template `wgflash`, for GPUs whose warpgroups multiply matrices in shared memory
 * (F_WGMMA): attention as `flash` does it (flash.h), of 16-bit operands that lie in memory as they
 * are multiplied. A block has 128 rows of one point of the batch axes: one thread of its first
 * warpgroup brings the queries and a ring of steps of keys and values, 128 of each; the two others
 * have 64 rows each, and take turns: while one of them makes weights of its scores, the products of
 * the other go on.
 *
 * Queries and keys are panels of 64 elements, a row 128 bytes; values are panels of 64 columns, a
 * key 128 bytes. What is beyond the last element, row or key is 0. Weights stay in the registers
 * where the scores were, which is where the second product wants its first operand. Mbarriers: a
 * phase of `full` ends when bytes have come, one of `empty` when both warpgroups have read them;
 * queries have a pair, and keys and values of each slot. Order of sums: keys by steps of 16,
 * ascending; weights as in `flash`, by steps of 128. */
#include <string.h>

#include "flash.h"
#include "gpu_bulk.h"
#include "ukr.h"

enum { PAR_ROWS, PAR_KEYS, PAR_STAGES };
enum {
    GROUP = FLASH_THREADS,
    CONSUMERS = 2,
    THREADS = (1 + CONSUMERS) * GROUP,
    ROWS = CONSUMERS * FLASH_ROWS,
    LINE = LIR_SWIZZLE_ROW,
    ELEMENTS = 64 /* of a line */
};
enum {
    STEP = 16 /* elements along the contraction of a product */,
    STEP_BYTES = 32,
    TURNED_STEP = STEP * LINE,
    NEAR = 8 /* elements of 16 bytes */
};
enum { FEW_REGISTERS = 40, MANY_REGISTERS = 232, MOST_STAGES = 4, KEYS = 128 };
enum { TURN = 3 /* barriers: of the first warpgroup, and the next of the second */ };
typedef enum { QUERY, KEY, VALUE, OPERANDS } Operand;

/* ---- what can be copied ---- */

/* The tensor of an operand, the nearest axis first: its line, its row, and what it has of the batch
 * axes (of max). */
typedef struct Lies {
    uint16_t buf;
    int n, batch[LIR_AXES];
    Dim offset, extent[LIR_AXES], step[LIR_AXES];
} Lies;

static bool add_axis(Ctx *c, Lies *t, Dim extent, Dim step) {
    if (t->n == LIR_AXES || (t->n == 1 && gpu_may_repeat(c, step)) ||
        (t->n && !dim_divisible(c, step, NEAR)))
        return false;
    t->extent[t->n] = extent, t->step[t->n++] = step;
    return true;
}

/* x, of stage st, walked along axes near and row of that; `to` renames the batch axes. */
static bool lies(const Attn *a, int st, Expr x, int near, int row, const int *to, Lies *t) {
    const Stage *s = &a->k->stage[st];
    Ctx *c = a->k->c;
    ExprInfo i = *expr_info(c, x);
    Affine f;
    if (i.kind == E_CAST) i = *expr_info(c, i.arg[0]);
    if (i.kind != E_LOAD || i.oob != OOB_NEVER || a->k->buf[i.index].align < 16) return false;
    if (!access_affine(a->k, s, (uint16_t)i.index, a->k->buf[i.index].rank, i.arg, &f) ||
        !dim_is(c, f.coef[near], 1))
        return false;
    *t = (Lies){.buf = (uint16_t)i.index};
    if (!gpu_as_dim(c, f.rest, &t->offset) || !dim_divisible(c, t->offset, NEAR)) return false;
    if (!add_axis(c, t, s->axis[near].extent, f.coef[near]) ||
        !add_axis(c, t, s->axis[row].extent, f.coef[row]))
        return false;
    for (int b = 0; b < a->nbatch; b++) {
        int axis = to[a->batch[b]];
        if (axis < 0 || dim_is(c, f.coef[axis], 0)) continue;
        t->batch[t->n] = a->batch[b];
        if (!add_axis(c, t, s->axis[axis].extent, f.coef[axis])) return false;
    }
    return true;
}

/* Rows are those of the innermost axis, for each point of the others. */
static bool shape(const Kernel *k, Attn *a, Lies t[OPERANDS]) {
    if (!flash_fits(k, a) || flash_type(a) == DT_F32 || !a->nrow) return false;
    while (a->nrow > 1) {
        a->batch[a->nbatch++] = a->row[0];
        memmove(a->row, a->row + 1, (size_t)--a->nrow * sizeof *a->row);
    }
    return lies(a, a->qk, a->q, a->d, a->to_qk[a->row[0]], a->to_qk, &t[QUERY]) &&
           lies(a, a->qk, a->key, a->d, a->to_qk[a->t], a->to_qk, &t[KEY]) &&
           lies(a, a->pv, a->v, a->col, a->to_pv[a->t], a->to_pv, &t[VALUE]);
}

static bool wgflash_match(const Kernel *k, const Target *t) {
    Attn a;
    Lies lie[OPERANDS];
    (void)t;
    return shape(k, &a, lie);
}

static int panels(int elements) { return (elements + ELEMENTS - 1) / ELEMENTS; }

/* Bytes of shared memory without the ring; of a slot. */
static int64_t fixed_bytes(int d, int v) {
    return (int64_t)panels(d) * ROWS * LINE +
           CONSUMERS * (int64_t)flash_out_bytes(&(Flash){.v = v}) + 1024;
}
static int64_t slot_bytes(int d, int v) { return (int64_t)(panels(d) + panels(v)) * KEYS * LINE; }

static int wgflash_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    Attn a;
    Lies lie[OPERANDS];
    (void)max;
    if (!shape(k, &a, lie)) return 0;
    int d = flash_known(k, a.qk, a.d), v = flash_known(k, a.pv, a.col);
    int64_t stages = (t->shared - fixed_bytes(d, v)) / slot_bytes(d, v);
    out[0].par[PAR_ROWS] = ROWS, out[0].par[PAR_KEYS] = KEYS;
    out[0].par[PAR_STAGES] = stages < MOST_STAGES ? stages : MOST_STAGES;
    return stages > 0;
}

/* A quarter of what `flash` takes, if the rows of a block are not mostly none. */
static double wgflash_cost(const Kernel *k, const Sched *s, const Target *t) {
    Attn a;
    Lies lie[OPERANDS];
    double n = 0;
    (void)s;
    if (!shape(k, &a, lie)) return 1e30;
    for (int st = 0; st < k->nstage; st++) n += nest_stage_cost(k, &k->stage[st], t);
    return n / (dim_typical(k->c, k->stage[a.max].axis[a.row[0]].extent) > FLASH_ROWS ? 256 : 60);
}

/* ---- code ---- */

typedef struct Wide {
    Flash f;
    Lies lie[OPERANDS];
    uint32_t map[OPERANDS];
    int stages, wide[OPERANDS]; /* wide: panels */
    int64_t slot, ring,
        values; /* bytes of a slot; where the ring begins; where in a slot values begin */
    LVal mem, full, empty, thread; /* full, empty: where those mbarriers begin: of queries, then of
                                      each slot's keys, and of its values */
    LVal group, q0, steps; /* group: 0 and 1 for those that multiply; q0: first row of the block */
    Dim tiles;
} Wide;

static LVal barrier_of(const Wide *w, LVal first, Operand o, LVal slot) {
    Lir *l = w->f.l;
    return o == QUERY ? first
                      : lir_addi(l, lir_add(l, first, lir_muli(l, slot, GPU_MBARRIER)),
                                 (o == KEY ? 1 : 1 + w->stages) * GPU_MBARRIER);
}

static void make_map(Wide *w, Operand o) {
    Emit *e = w->f.e;
    const Lies *t = &w->lie[o];
    KMap *m = &e->code->map[o];
    m->buf = gpu_argument(e, t->buf);
    m->offset = t->offset;
    memcpy(m->extent, t->extent, sizeof m->extent);
    for (int i = 0; i < t->n; i++) m->step[i] = gpu_map_step(e->c, t->step[i], NEAR);
    w->map[o] = lir_map(e->l, (LMap){(uint16_t)w->f.type,
                                     (uint8_t)t->n,
                                     true,
                                     .box = {ELEMENTS, o == QUERY ? ROWS : KEYS, 1, 1, 1}});
    w->wide[o] = panels(o == VALUE ? w->f.v : w->f.d);
}

/* The rows of an operand from `row` on, to shared memory from `to` on. */
static void bring(const Wide *w, Operand o, LVal row, LVal slot, LVal round, LVal to) {
    Lir *l = w->f.l;
    const Lies *t = &w->lie[o];
    int64_t panel = (o == QUERY ? ROWS : KEYS) * LINE;
    LVal full = barrier_of(w, w->full, o, slot), at[LIR_AXES] = {{0}, row};
    LVal empty = barrier_of(w, w->empty, o, slot);
    lir_mbarrier_wait(l, w->mem, empty, lir_op2(l, S_XOR, round, lir_i64(l, 1)));
    lir_mbarrier_expect(l, w->mem, full, lir_i64(l, w->wide[o] * panel));
    for (int i = 2; i < t->n; i++) at[i] = gpu_map_at(w->f.e, t->step[i], w->f.at[t->batch[i]]);
    for (int p = 0; p < w->wide[o]; p++) {
        at[0] = lir_i64(l, p * ELEMENTS);
        lir_tensor_load(l, w->mem, lir_addi(l, to, p * panel), w->map[o], at, w->mem, full);
    }
}

/* Task t: rows, point of the batch axes, steps of keys. */
static void find_task(Wide *w, LVal t) {
    Flash *f = &w->f;
    Lir *l = f->l;
    LVal n = emit_dim(f->e, w->tiles);
    GpuProduct x = {.k = f->a.k, .s = &f->a.k->stage[f->a.max]};
    w->q0 = lir_muli(l, lir_op2(l, S_REM, t, n), ROWS);
    for (int i = 0; i < K_AXES; i++) f->at[i] = lir_i64(l, 0);
    gpu_split(f->e, &x, lir_op2(l, S_DIV, t, n), f->a.batch, f->a.nbatch, f->at);
    w->steps = lir_divi(l, lir_addi(l, flash_keys_seen(f, w->q0, ROWS), KEYS - 1), KEYS);
}

/* One thread's work. round: of the queries. */
static void produce(Wide *w) {
    Lir *l = w->f.l;
    LVal zero = lir_i64(l, 0), state[3] = {zero, zero, zero};
    LFor t = lir_for_tasks(l, lir_tstep(l), 3, state);
    find_task(w, t.iv);
    bring(w, QUERY, w->q0, zero, t.c[2], zero);
    LFor k = lir_for(l, zero, w->steps, lir_i64(l, 1), 2, t.c);
    GpuRing r = {{k.c[0], k.c[1]}};
    LVal to = lir_addi(l, lir_muli(l, r.at[0], w->slot), w->ring), row = lir_muli(l, k.iv, KEYS);
    bring(w, KEY, row, r.at[0], r.at[1], to);
    bring(w, VALUE, row, r.at[0], r.at[1], lir_addi(l, to, w->values));
    gpu_ring_next(l, w->stages, &r);
    lir_for_end(l, &k, r.at, state);
    state[2] = lir_op2(l, S_XOR, t.c[2], lir_i64(l, 1));
    lir_for_end(l, &t, state, state);
}

/* This warpgroup has read it. */
static void give_back(const Wide *w, LVal condition, Operand o, LVal slot) {
    Lir *l = w->f.l;
    LIf i = lir_if(l, lir_op2(l, S_AND, condition, lir_op2(l, S_EQ, w->f.tid, lir_i64(l, 0))), 0);
    lir_mbarrier_arrive(l, w->mem, barrier_of(w, w->empty, o, slot));
    lir_else(l, &i, NULL);
    lir_endif(l, &i, NULL, NULL);
}

/* The warpgroups take turns with the matrix unit: whose turn it is begins the products with a step's
 * values and the scores of the next, and while those are under way the other one, whose are over,
 * takes exponentials. */
static void turn_begins(const Wide *w) {
    Lir *l = w->f.l;
    LIf i = lir_if(l, lir_op2(l, S_EQ, w->group, lir_i64(l, 0)), 0);
    lir_barrier_some(l, TURN, CONSUMERS * GROUP);
    lir_else(l, &i, NULL);
    lir_barrier_some(l, TURN + 1, CONSUMERS * GROUP);
    lir_endif(l, &i, NULL, NULL);
}
static void turn_ends(const Wide *w) {
    Lir *l = w->f.l;
    LIf i = lir_if(l, lir_op2(l, S_EQ, w->group, lir_i64(l, 0)), 0);
    lir_barrier_arrive(l, TURN + 1, CONSUMERS * GROUP);
    lir_else(l, &i, NULL);
    lir_barrier_arrive(l, TURN, CONSUMERS * GROUP);
    lir_endif(l, &i, NULL, NULL);
}

static void scores(const Wide *w, LVal slot, LVal *s) {
    Lir *l = w->f.l;
    LVal rows = lir_muli(l, w->group, FLASH_ROWS * LINE);
    for (int j = 0; j < KEYS / FLASH_MATRIX; j++) s[j] = lir_splat(l, lir_float(l, DT_F32, 0), 4);
    lir_wgmma_fence(l, 0, NULL);
    for (int k = 0; k < w->f.d; k += STEP) {
        int64_t in = k % ELEMENTS / STEP * STEP_BYTES, panel = k / ELEMENTS * LINE;
        LProduct p = {.in = w->f.type,
                      .a = w->mem,
                      .a_at = lir_addi(l, rows, panel * ROWS + in),
                      .b = w->mem,
                      .b_at = lir_addi(l, slot, panel * KEYS + in)};
        if (!k) p.add = lir_bool(l, false);
        lir_wgmma(l, &p, KEYS, s);
    }
    lir_wgmma_commit(l);
}

static void weigh(const Wide *w, LVal slot, LVal round, LVal at, const LVal *p, int nout,
                  LVal *out) {
    Lir *l = w->f.l;
    LVal v[FLASH_MOST_OUT + KEYS / STEP];
    memcpy(v, out, (size_t)nout * sizeof *v);
    for (int k = 0; k < KEYS / STEP; k++) v[nout + k] = flash_weights(&w->f, p, k * STEP);
    lir_mbarrier_wait(l, w->mem, barrier_of(w, w->full, VALUE, slot), round);
    turn_begins(w);
    lir_wgmma_fence(l, (uint32_t)(nout + KEYS / STEP),
                    v); /* with a loop between that and the products ptxas would add one */
    for (int k = 0; k < KEYS / STEP; k++) {
        LProduct x = {.in = w->f.type,
                      .a = v[nout + k],
                      .b = w->mem,
                      .b_at = lir_addi(l, at, w->values + k * TURNED_STEP),
                      .b_turned = true,
                      .b_panel = KEYS * LINE};
        lir_wgmma(l, &x, (uint32_t)nout * FLASH_MATRIX, v);
    }
    lir_wgmma_commit(l);
    memcpy(out, v, (size_t)nout * sizeof *v);
}

/* All keys; the products with the values of a step end after the scores of the next have begun. */
static void along_keys(Wide *w, GpuRing *r, FlashState *z) {
    Flash *f = &w->f;
    Lir *l = f->l;
    enum { N = FLASH_MOST_OUT + 7 };
    int nout = flash_round_up(f->v, FLASH_TALL) / FLASH_MATRIX, ns = KEYS / FLASH_MATRIX;
    LVal c[N], zero = lir_i64(l, 0), v[FLASH_MOST_SCORES + FLASH_MOST_OUT], yes = lir_bool(l, true);
    flash_start(f, z);
    memcpy(c, z->out, (size_t)nout * sizeof *c), memcpy(c + nout, z->m, sizeof z->m),
        memcpy(c + nout + 2, z->sum, sizeof z->sum);
    memcpy(c + nout + 4, r->at, sizeof r->at), c[nout + 6] = zero;
    turn_begins(w);
    LFor k = lir_for(l, zero, w->steps, lir_i64(l, 1), (uint32_t)nout + 7, c);
    GpuRing now = {{k.c[nout + 4], k.c[nout + 5]}};
    LVal slot = now.at[0], round = now.at[1], before = k.c[nout + 6],
         at = lir_addi(l, lir_muli(l, slot, w->slot), w->ring);
    memcpy(z->m, k.c + nout, sizeof z->m), memcpy(z->sum, k.c + nout + 2, sizeof z->sum);
    f->t0 = lir_muli(l, k.iv, KEYS);
    lir_mbarrier_wait(l, w->mem, barrier_of(w, w->full, KEY, slot), round);
    scores(w, at, v);
    turn_ends(w);
    memcpy(v + ns, k.c, (size_t)nout * sizeof *v);
    lir_wgmma_wait(l, 0, (uint32_t)(ns + nout), v);
    memcpy(z->out, v + ns, (size_t)nout * sizeof *v);
    give_back(w, yes, KEY, slot);
    give_back(w, lir_op2(l, S_GT, k.iv, zero), VALUE, before);
    flash_soften(f, v, z);
    weigh(w, slot, round, at, v, nout, z->out);
    gpu_ring_next(l, w->stages, &now);
    memcpy(c, z->out, (size_t)nout * sizeof *c), memcpy(c + nout, z->m, sizeof z->m),
        memcpy(c + nout + 2, z->sum, sizeof z->sum);
    memcpy(c + nout + 4, now.at, sizeof now.at), c[nout + 6] = slot;
    lir_for_end(l, &k, c, c);
    turn_ends(w);
    lir_wgmma_wait(l, 0, (uint32_t)nout, c);
    memcpy(z->out, c, (size_t)nout * sizeof *c), memcpy(z->m, c + nout, sizeof z->m),
        memcpy(z->sum, c + nout + 2, sizeof z->sum);
    memcpy(r->at, c + nout + 4, sizeof r->at);
    give_back(w, lir_op2(l, S_GT, w->steps, zero), VALUE, c[nout + 6]);
    give_back(w, yes, QUERY, zero);
}

/* A warpgroup's work. */
static void consume(Wide *w) {
    Flash *f = &w->f;
    Lir *l = f->l;
    LVal zero = lir_i64(l, 0), state[3] = {zero, zero, zero};
    FlashState z;
    LIf last = lir_if(l, lir_op2(l, S_EQ, w->group, lir_i64(l, 1)), 0);
    lir_barrier_arrive(l, TURN, CONSUMERS * GROUP); /* the other one begins */
    lir_else(l, &last, NULL);
    lir_endif(l, &last, NULL, NULL);
    LFor t = lir_for_tasks(l, lir_tstep(l), 3, state);
    GpuRing r = {{t.c[0], t.c[1]}};
    find_task(w, t.iv);
    LVal q0 = lir_add(l, w->q0, lir_muli(l, w->group, FLASH_ROWS));
    flash_thread_rows(f, q0);
    lir_mbarrier_wait(l, w->mem, barrier_of(w, w->full, QUERY, zero), t.c[2]);
    along_keys(w, &r, &z);
    flash_leave(f, q0, &z);
    lir_for_end(l, &t, (LVal[]){r.at[0], r.at[1], lir_op2(l, S_XOR, t.c[2], lir_i64(l, 1))}, state);
}

static void meet(const Flash *f) {
    Lir *l = f->l;
    LIf i = lir_if(l, lir_op2(l, S_EQ, ((const Wide *)f)->group, lir_i64(l, 0)), 0);
    lir_barrier_some(l, 1, GROUP);
    lir_else(l, &i, NULL);
    lir_barrier_some(l, 2, GROUP);
    lir_endif(l, &i, NULL, NULL);
}

/* Everything but code: tasks, shared memory, maps. */
static void plan(Wide *w) {
    Flash *f = &w->f;
    Lir *l = f->l;
    Ctx *c = f->e->c;
    f->e->code->map = NEWN(c, KMap, OPERANDS);
    for (int o = 0; o < OPERANDS; o++) make_map(w, (Operand)o);
    w->ring = (int64_t)w->wide[QUERY] * ROWS * LINE;
    w->values = (int64_t)w->wide[KEY] * KEYS * LINE;
    w->slot = slot_bytes(f->d, f->v);
    int64_t out = w->ring + w->stages * w->slot,
            full = out + CONSUMERS * (int64_t)flash_out_bytes(f),
            empty = full + (1 + 2 * w->stages) * GPU_MBARRIER;
    lir_block(l, THREADS, (uint32_t)(empty + (1 + 2 * w->stages) * GPU_MBARRIER));
    w->mem = lir_shared(l, 0), w->full = lir_i64(l, full), w->empty = lir_i64(l, empty);
    f->out = lir_ptr_bytes(l, w->mem, lir_addi(l, lir_muli(l, w->group, flash_out_bytes(f)), out));
    w->tiles = dim_ceildiv(c, flash_rows(f), dim_const(c, ROWS));
    f->e->code->tasks = w->tiles;
    for (int i = 0; i < f->a.nbatch; i++)
        f->e->code->tasks =
            dim_mul(c, f->e->code->tasks, f->a.k->stage[f->a.max].axis[f->a.batch[i]].extent);
}

static void wgflash_build(Emit *e) {
    Wide wide = {.f = {.e = e, .l = e->l, .keys = KEYS, .meet = meet},
                 .stages = (int)e->s->par[PAR_STAGES]},
         *w = &wide;
    Lir *l = e->l;
    CHECK(shape(e->k, &w->f.a, w->lie));
    w->thread = lir_tid(l);
    w->f.tid = lir_remi(l, w->thread, GROUP);
    flash_begin(&w->f);
    w->group = lir_addi(
        l,
        lir_cast(l, lir_lane_first(l, lir_cast(l, lir_divi(l, w->thread, GROUP), DT_I32)), DT_I64),
        -1);
    plan(w);
    gpu_ring_barriers(l, w->mem, w->thread, w->full, w->empty, 1 + 2 * w->stages, CONSUMERS);
    LIf role = lir_if(l, lir_op2(l, S_LT, w->group, lir_i64(l, 0)), 0);
    lir_registers(l, FEW_REGISTERS, false);
    LIf one = lir_if(l, lir_op2(l, S_EQ, w->thread, lir_i64(l, 0)), 0);
    produce(w);
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
    lir_else(l, &role, NULL);
    lir_registers(l, MANY_REGISTERS, true);
    consume(w);
    lir_endif(l, &role, NULL, NULL);
}

const Tmpl tmpl_wgflash = {"wgflash",     "rows keys stages", F_BLOCKS | F_WGMMA,
                           wgflash_match, wgflash_candidates, wgflash_cost,
                           wgflash_build};
