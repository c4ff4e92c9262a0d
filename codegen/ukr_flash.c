/* ukr_flash.c: template `flash`, for GPUs: attention by the matrix instructions of warps. In: what `attention` takes (attn_match.c), with at most
 * 128 elements of a query and of a value. A block of four warps has 64 rows of one point of the batch axes, 16 a warp, and walks the keys with two
 * slots of tiles of both keys and values, one step ahead. Scores stay in the registers of the warp, become weights there, and are the first
 * operand of the second product.
 *
 * Operands that are f16 or bf16 are multiplied as such. Others are f32, of which the instructions take 11 bits: each is split in two, and three
 * products (high times high, and high times low both ways) leave an error of 2^-21; infinite operands give NaN. A target that may round factors
 * multiplies once.
 * Order of sums: keys by steps of 64 (operands of 16 bits, rows of at most 64) or 32, ascending; weights of a thread's keys in a chain, then of
 * the four threads of a row. */
#include <string.h>

#include "flash.h"
#include "ukr.h"

enum { PAR_ROWS, PAR_KEYS };
enum { ROWS = FLASH_ROWS, WARP = FLASH_WARP, THREADS = FLASH_THREADS, MOST = FLASH_MOST, TALL = FLASH_TALL, MATRIX = FLASH_MATRIX };
enum { MOST_OUT = FLASH_MOST_OUT, SLOTS = 2, STEP = 32 /* bytes of an operand in an instruction */ };

static bool flash_match(const Kernel *k, const Target *t) {
    Attn a;
    (void)t;
    return flash_fits(k, &a);
}

static int flash_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    Attn a;
    (void)t, (void)max;
    if (!attn_classify(k, &a)) return 0;
    out[0].par[PAR_ROWS] = ROWS;
    bool narrow = flash_known(k, a.qk, a.d) <= MOST / 2 && flash_known(k, a.pv, a.col) <= MOST / 2;
    out[0].par[PAR_KEYS] = narrow && flash_type(&a) != DT_F32 ? 64 : 32;
    return 1;
}

static double flash_cost(const Kernel *k, const Sched *s, const Target *t) { /* less than any row by row */
    double n = 0;
    (void)s;
    for (int st = 0; st < k->nstage; st++) n += nest_stage_cost(k, &k->stage[st], t);
    return n / 64;
}

static LVal f32(Lir *l, double v) { return lir_float(l, DT_F32, v); }
static int size_of(const Flash *f) { return (int)dt_bits(f->type) / 8; }

/* ---- tiles ---- */

/* Tiles of x, of stage st: all of its axis `axis`, by `depth` points of the axes walk[n] of max, renamed by `to`. Side 0 of g. */
static void panel(Flash *f, GpuTiles *g, int st, Expr x, int axis, const int *walk, int n, const int *to, int depth, int64_t base) {
    const Stage *s = &f->a.k->stage[st];
    *g = (GpuTiles){.e = f->e, .l = f->l, .depth = depth, .threads = THREADS, .swizzle = {true}, .base = {base}, .mem = f->mem, .tid = f->tid};
    g->x = (GpuProduct){.k = f->a.k, .s = s, .nred = n, .nbatch = f->a.nbatch};
    for (int i = 0; i < n; i++) g->x.red[i] = to[walk[i]];
    for (int i = 0; i < f->a.nbatch; i++) g->x.batch[i] = to[f->a.batch[i]];
    g->x.side[0] = (Side){.x = x, .type = f->type, .axis = {axis}, .naxis = 1};
    gpu_side_memory(&g->x, &g->x.side[0]);
    for (g->rows[0] = TALL; g->rows[0] < flash_known(f->a.k, st, axis); g->rows[0] *= 2) continue;
    g->count[0] = emit_dim(f->e, s->axis[axis].extent);
    g->ksize = emit_dim(f->e, gpu_depth(&g->x));
    g->first[0] = lir_i64(f->l, 0);
}

static int64_t panel_bytes(const Flash *f, const GpuTiles *g) { return (int64_t)g->rows[0] * g->depth * size_of(f); }

static void place(Flash *f, GpuTiles *g, const int *to) { /* at a point of the batch axes */
    for (int a = 0; a < K_AXES; a++) g->at[a] = lir_i64(f->l, 0);
    for (int i = 0; i < f->a.nbatch; i++) g->at[to[f->a.batch[i]]] = f->at[f->a.batch[i]];
    gpu_begin_side(g, 0);
}

/* A piece of 16 rows (first operand) or columns by 32 bytes along the contraction, as fragments: of 16 rows, or of two times 8 columns. `outer`,
 * `inner`: where it begins. values: the contraction is along what tiles walk; and f32 elements 2q and 2q + 1 stand for q and q + 4, as weights
 * have them. */
static LVal piece(const Flash *f, const GpuTiles *g, bool first, bool values, LVal slot, int64_t outer, int64_t inner, LVal warp_row) {
    Lir *l = f->l;
    bool near = values == g->x.side[0].along_k; /* neighbours in memory are neighbours along the contraction */
    int half = STEP / size_of(f) / 2;
    LVal low = lir_remi(l, lir_divi(l, f->lane, MATRIX), 2), high = lir_divi(l, f->lane, 2 * MATRIX), in = lir_remi(l, f->lane, MATRIX), v = {0};
    LVal o = lir_addi(l, warp_row, outer), k = lir_i64(l, inner);
    if (size_of(f) == 2 || (near && !values)) {
        o = lir_add(l, o, lir_muli(l, first ? low : high, MATRIX));
        k = lir_add(l, k, lir_muli(l, first ? high : low, half));
        if (near) o = lir_add(l, o, in);
        else k = lir_add(l, k, in);
        return lir_load_matrix(l, f->mem, lir_add(l, slot, values ? gpu_tile_at(g, 0, o, k) : gpu_tile_at(g, 0, k, o)), !near);
    }
    for (int r = 0; r < 4; r++) {
        int down = first ? r % 2 : r / 2, deep = first ? r / 2 : r % 2;
        LVal q = lir_remi(l, f->lane, 4), x = lir_addi(l, lir_add(l, o, lir_divi(l, f->lane, 4)), down * MATRIX);
        LVal y = lir_add(l, k, values ? lir_addi(l, lir_muli(l, q, 2), deep) : lir_addi(l, q, deep * 4));
        LVal at = lir_add(l, slot, values ? gpu_tile_at(g, 0, x, y) : gpu_tile_at(g, 0, y, x));
        LVal one = lir_load(l, lir_ptr_bytes(l, f->mem, at), lir_i64(l, 0), (LTy){DT_I32, 1}, (LVal){0}, 0);
        v = r ? lir_insert(l, v, (uint16_t)r, one) : lir_splat(l, one, 4);
    }
    return v;
}

/* ---- products ---- */

typedef struct Terms {
    LVal high, low; /* low: none unless split */
} Terms;

static Terms terms(const Flash *f, LVal v) {
    Lir *l = f->l;
    if (!f->split) return (Terms){.high = v};
    LVal part[2][4];
    uint16_t n = lir_type(l, v).lanes;
    for (uint16_t i = 0; i < n; i++) {
        LVal x = lir_extract(l, v, i), high = lir_op2(l, S_AND, x, lir_int(l, DT_I32, ~0x1fff));
        part[0][i] = high;
        x = lir_bitcast(l, x, DT_F32);
        part[1][i] = lir_bitcast(l, lir_sub(l, x, lir_bitcast(l, high, DT_F32)), DT_I32);
    }
    LVal out[2];
    for (int p = 0; p < 2; p++) {
        out[p] = lir_splat(l, part[p][0], n);
        for (uint16_t i = 1; i < n; i++) out[p] = lir_insert(l, out[p], i, part[p][i]);
    }
    return (Terms){out[0], out[1]};
}

static LVal pair(Lir *l, LVal v, int at) {
    if (!v.i) return v;
    LVal both = lir_splat(l, lir_extract(l, v, (uint16_t)at), 2);
    return lir_insert(l, both, 1, lir_extract(l, v, (uint16_t)(at + 1)));
}

static LVal multiply(const Flash *f, Terms a, Terms b, LVal c) {
    if (f->split) {
        c = lir_mma(f->l, f->type, a.low, b.high, c);
        c = lir_mma(f->l, f->type, a.high, b.low, c);
    }
    return lir_mma(f->l, f->type, a.high, b.high, c);
}

/* c[2 j], c[2 j + 1] += a times the two halves of piece j of g. */
static void multiply_all(const Flash *f, const GpuTiles *g, bool values, Terms a, LVal slot, int64_t inner, int n, LVal *c) {
    for (int j = 0; j < n; j++) {
        Terms b = terms(f, piece(f, g, false, values, slot, j * TALL, inner, lir_i64(f->l, 0)));
        for (int h = 0; h < 2; h++) c[2 * j + h] = multiply(f, a, (Terms){pair(f->l, b.high, 2 * h), pair(f->l, b.low, 2 * h)}, c[2 * j + h]);
    }
}

static void scores(const Flash *f, LVal slot, LVal *s) {
    Lir *l = f->l;
    int per = STEP / size_of(f);
    for (int j = 0; j < f->keys / MATRIX; j++) s[j] = lir_splat(l, f32(l, 0), 4);
    for (int k = 0; k < f->d; k += per) {
        Terms a = terms(f, piece(f, &f->query, true, false, lir_i64(l, 0), 0, k, lir_muli(l, f->warp, TALL)));
        multiply_all(f, &f->key, false, a, slot, k, f->keys / TALL, s);
    }
}

/* Weights are where scores were: rows of sums are rows of the first operand. */
static void weigh(const Flash *f, LVal slot, const LVal *p, LVal *out) {
    Lir *l = f->l;
    int per = STEP / size_of(f);
    for (int k = 0; k < f->keys; k += per) {
        LVal a = {0};
        for (uint16_t i = 0; i < 4 && size_of(f) == 4; i++) {
            LVal word = lir_bitcast(l, lir_extract(l, p[k / MATRIX], (uint16_t)(i % 2 * 2 + i / 2)), DT_I32);
            a = i ? lir_insert(l, a, i, word) : lir_splat(l, word, 4);
        }
        if (size_of(f) == 2) a = flash_weights(f, p, k);
        multiply_all(f, &f->value, true, terms(f, a), slot, k, flash_round_up(f->v, TALL) / TALL, out);
    }
}

/* ---- blocks ---- */

static void along_keys(Flash *f, LVal q0, FlashState *z) {
    Lir *l = f->l;
    enum { N = MOST_OUT + 4 };
    int nout = flash_round_up(f->v, TALL) / MATRIX;
    uint32_t n = (uint32_t)nout + 4;
    LVal c[N], next[N], early[2][GPU_MOST_COPIES], zero = lir_i64(l, 0);
    LVal steps = lir_divi(l, lir_addi(l, flash_keys_seen(f, q0, ROWS), f->keys - 1), f->keys);
    LVal from = lir_op3(l, S_SELECT, lir_op2(l, S_GT, steps, zero), lir_i64(l, -1), zero);
    flash_start(f, z);
    memcpy(c, z->m, sizeof z->m), memcpy(c + 2, z->sum, sizeof z->sum);
    memcpy(c + 4, z->out, (size_t)nout * sizeof *c);
    LFor loop = lir_for(l, from, steps, lir_i64(l, 1), n, c);
    lir_copy_wait(l, 0);
    lir_barrier(l);
    LVal number = lir_addi(l, loop.iv, 1), slot = lir_muli(l, lir_remi(l, number, SLOTS), f->slot);
    gpu_fetch(&f->key, 0, lir_muli(l, number, f->keys), slot, early[0]);
    gpu_fetch(&f->value, 0, lir_muli(l, number, f->keys), slot, early[1]);
    lir_copy_commit(l);
    LIf ready = lir_if(l, lir_op2(l, S_GE, loop.iv, zero), n);
    LVal s[FLASH_MOST_SCORES], now = lir_muli(l, lir_remi(l, loop.iv, SLOTS), f->slot);
    memcpy(z->m, loop.c, sizeof z->m);
    memcpy(z->sum, loop.c + 2, sizeof z->sum);
    memcpy(z->out, loop.c + 4, (size_t)nout * sizeof *z->out);
    f->t0 = lir_muli(l, loop.iv, f->keys);
    scores(f, now, s);
    flash_soften(f, s, z);
    weigh(f, now, s, z->out);
    memcpy(next, z->m, sizeof z->m);
    memcpy(next + 2, z->sum, sizeof z->sum);
    memcpy(next + 4, z->out, (size_t)nout * sizeof *next);
    lir_else(l, &ready, next);
    lir_endif(l, &ready, loop.c, next);
    gpu_put(&f->key, 0, slot, early[0]);
    gpu_put(&f->value, 0, slot, early[1]);
    lir_for_end(l, &loop, next, c);
    lir_copy_wait(l, 0);
    memcpy(z->m, c, sizeof z->m);
    memcpy(z->sum, c + 2, sizeof z->sum);
    memcpy(z->out, c + 4, (size_t)nout * sizeof *z->out);
}

static void meet(const Flash *f) { lir_barrier(f->l); }

static void flash_build(Emit *e) {
    Flash flash = {.e = e, .l = e->l, .keys = (int)e->s->par[PAR_KEYS], .tid = lir_tid(e->l), .meet = meet}, *f = &flash;
    Lir *l = e->l;
    Ctx *c = e->c;
    CHECK(attn_classify(e->k, &f->a));
    const Attn *a = &f->a;
    flash_begin(f);
    f->split = f->type == DT_F32 && !(e->t->flags & (F_TO_TF32 | F_TO_BF16 | F_TO_F16));
    /* a slot: keys, values; behind both: queries */
    f->mem = (LVal){0};
    panel(f, &f->key, a->qk, a->key, a->d, &a->t, 1, a->to_qk, f->keys, 0);
    panel(f, &f->value, a->pv, a->v, a->col, &a->t, 1, a->to_pv, f->keys, panel_bytes(f, &f->key));
    f->slot = panel_bytes(f, &f->key) + panel_bytes(f, &f->value);
    panel(f, &f->query, a->qk, a->q, a->d, a->row, a->nrow, a->to_qk, ROWS, SLOTS * f->slot);
    int64_t tiles_bytes = SLOTS * f->slot + panel_bytes(f, &f->query), out = flash_out_bytes(f);
    lir_block(l, THREADS, (uint32_t)(tiles_bytes > out ? tiles_bytes : out));
    f->mem = f->out = f->key.mem = f->value.mem = f->query.mem = lir_shared(l, 0);
    Dim tiles = dim_ceildiv(c, flash_rows(f), dim_const(c, ROWS)), tasks = tiles;
    for (int i = 0; i < a->nbatch; i++) tasks = dim_mul(c, tasks, e->k->stage[a->max].axis[a->batch[i]].extent);
    e->code->tasks = tasks;
    LFor t = lir_for_tasks(l, lir_tstep(l), 0, NULL);
    LVal n = emit_dim(e, tiles), q0 = lir_muli(l, lir_op2(l, S_REM, t.iv, n), ROWS), early[GPU_MOST_COPIES];
    GpuProduct x = {.k = a->k, .s = &a->k->stage[a->max]};
    for (int i = 0; i < K_AXES; i++) f->at[i] = lir_i64(l, 0);
    gpu_split(e, &x, lir_op2(l, S_DIV, t.iv, n), a->batch, a->nbatch, f->at);
    place(f, &f->query, a->to_qk);
    place(f, &f->key, a->to_qk);
    place(f, &f->value, a->to_pv);
    flash_thread_rows(f, q0);
    gpu_fetch(&f->query, 0, q0, lir_i64(l, 0), early);
    lir_copy_commit(l);
    gpu_put(&f->query, 0, lir_i64(l, 0), early);
    FlashState z;
    along_keys(f, q0, &z);
    lir_barrier(l);
    flash_leave(f, q0, &z);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_flash = {"flash", "rows keys", F_BLOCKS, flash_match, flash_candidates, flash_cost, flash_build};
