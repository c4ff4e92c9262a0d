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
#include <math.h>
#include <string.h>

#include "attn.h"
#include "gpu_tile.h"
#include "ukr.h"

enum { PAR_ROWS, PAR_KEYS };
enum { ROWS = 64, WARP = 32, WARPS = 4, THREADS = WARP * WARPS, MOST = 128, TALL = 16, MATRIX = 8 };
enum { MOST_SCORES = 64 / MATRIX, MOST_OUT = MOST / MATRIX, SLOTS = 2, PAD = 4, STEP = 32 /* bytes of an operand in an instruction */ };

typedef struct Flash {
    Emit *e;
    Lir *l;
    Attn a;
    DType type;
    bool split;             /* f32 by three products */
    int keys, d, v;         /* of a step; of a query, of a value */
    GpuTiles query, key, value;
    int64_t slot;           /* bytes of a step's keys and values */
    LVal mem, tid, lane, warp, nkeys, nrows, row[2], at[K_AXES], t0;
    LVal score;             /* where x is evaluated */
} Flash;

static int known(const Kernel *k, int stage, int axis) { /* extent in 1..MOST, or 0 */
    int64_t n;
    return dim_is_const(k->c, k->stage[stage].axis[axis].extent, &n) && n > 0 && n <= MOST ? (int)n : 0;
}

static void total(void *data, const ExprInfo *load) { *(bool *)data = *(bool *)data && load->oob != OOB_FAIL; }

static bool flash_match(const Kernel *k, const Target *t) {
    Attn a;
    bool all = true;
    (void)t;
    if (!attn_classify(k, &a) || !known(k, a.qk, a.d) || !known(k, a.pv, a.col)) return false;
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) expr_loads(k->c, k->stage[st].body[r], total, &all);
    return all;
}

/* The 16-bit type of all operands, or f32. */
static DType operands(const Attn *a) {
    Ctx *c = a->k->c;
    const Expr x[] = {a->q, a->key, a->v};
    DType type = DT_NONE;
    for (int i = 0; i < 3; i++) {
        const ExprInfo e = *expr_info(c, x[i]);
        DType from = e.kind == E_CAST ? (DType)expr_info(c, e.arg[0])->dtype : DT_F32;
        if ((from != DT_F16 && from != DT_BF16) || expr_info(c, e.arg[0])->kind != E_LOAD || (i && from != type)) return DT_F32;
        type = from;
    }
    return type;
}

static int flash_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    Attn a;
    (void)t, (void)max;
    if (!attn_classify(k, &a)) return 0;
    out[0].par[PAR_ROWS] = ROWS;
    bool narrow = known(k, a.qk, a.d) <= MOST / 2 && known(k, a.pv, a.col) <= MOST / 2;
    out[0].par[PAR_KEYS] = narrow && operands(&a) != DT_F32 ? 64 : 32;
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
static int round_up(int n, int by) { return (n + by - 1) / by * by; }

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
    for (g->rows[0] = TALL; g->rows[0] < known(f->a.k, st, axis); g->rows[0] *= 2) continue;
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
        part[1][i] = lir_bitcast(l, lir_sub(l, lir_bitcast(l, x, DT_F32), lir_bitcast(l, high, DT_F32)), DT_I32);
    }
    LVal out[2];
    for (int p = 0; p < 2; p++) {
        out[p] = lir_splat(l, part[p][0], n);
        for (uint16_t i = 1; i < n; i++) out[p] = lir_insert(l, out[p], i, part[p][i]);
    }
    return (Terms){out[0], out[1]};
}

static LVal pair(Lir *l, LVal v, int at) {
    return v.i ? lir_insert(l, lir_splat(l, lir_extract(l, v, (uint16_t)at), 2), 1, lir_extract(l, v, (uint16_t)(at + 1))) : v;
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

static LVal halves(const Flash *f, LVal x, LVal y) { /* two f32 as a word */
    Lir *l = f->l;
    LVal part[2] = {x, y};
    for (int i = 0; i < 2; i++) {
        LVal bits = lir_bitcast(l, math_cast(l, f->e->t, part[i], DT_F32, f->type), DT_U16);
        part[i] = lir_cast(l, bits, DT_I32);
    }
    return lir_op2(l, S_OR, part[0], lir_op2(l, S_SHL, part[1], lir_int(l, DT_I32, 16)));
}

/* Weights are where scores were: rows of sums are rows of the first operand. */
static void weigh(const Flash *f, LVal slot, const LVal *p, LVal *out) {
    Lir *l = f->l;
    int per = STEP / size_of(f);
    for (int k = 0; k < f->keys; k += per) {
        LVal r[4];
        for (int i = 0; i < 4; i++) {
            if (size_of(f) == 2) {
                LVal from = p[k / MATRIX + i / 2];
                r[i] = halves(f, lir_extract(l, from, (uint16_t)(i % 2 * 2)), lir_extract(l, from, (uint16_t)(i % 2 * 2 + 1)));
            } else {
                r[i] = lir_bitcast(l, lir_extract(l, p[k / MATRIX], (uint16_t)(i % 2 * 2 + i / 2)), DT_I32);
            }
        }
        LVal a = lir_splat(l, r[0], 4);
        for (uint16_t i = 1; i < 4; i++) a = lir_insert(l, a, i, r[i]);
        multiply_all(f, &f->value, true, terms(f, a), slot, k, round_up(f->v, TALL) / TALL, out);
    }
}

/* ---- softmax ---- */

static LVal score_value(Emit *e, void *data, const Expr *at, const Point *p) {
    (void)e, (void)at, (void)p;
    return ((const Flash *)data)->score;
}

/* x of one of this thread's rows and a key; -inf beyond the last key. */
static LVal x_of(Flash *f, int row, LVal t, LVal score) {
    Emit *e = f->e;
    Lir *l = f->l;
    const Stage *s = &f->a.k->stage[f->a.max];
    Point p = {.vaxis = -1, .lanes = 1};
    GpuProduct x = {.k = f->a.k, .s = s};
    LVal last = lir_addi(l, f->nkeys, -1);
    for (int a = 0; a < K_AXES; a++) p.axis[a] = f->at[a];
    gpu_split(e, &x, f->row[row], f->a.row, f->a.nrow, p.axis);
    p.axis[f->a.t] = lir_op2(l, S_MIN, t, last);
    f->score = score;
    emit_memo_reset(e);
    LVal v = emit_expr(e, s, f->a.x, &p);
    emit_memo_reset(e);
    return lir_op3(l, S_SELECT, lir_op2(l, S_LT, t, f->nkeys), v, f32(l, -INFINITY));
}

typedef struct State {
    LVal m[2], sum[2]; /* of the thread's rows: maximum, and sum of this thread's keys */
    LVal out[MOST_OUT];
} State;

/* Scores become weights relative to the maximum so far; what was summed before follows it. */
static void soften(Flash *f, LVal *s, State *z) {
    Lir *l = f->l;
    int n = f->keys / MATRIX, nout = round_up(f->v, TALL) / MATRIX;
    LVal x[MOST_SCORES][4], most[2] = {z->m[0], z->m[1]}, base[2], alpha[2], q2 = lir_muli(l, lir_remi(l, f->lane, 4), 2);
    for (int j = 0; j < n; j++)
        for (int r = 0; r < 4; r++) {
            LVal t = lir_add(l, f->t0, lir_addi(l, q2, j * MATRIX + r % 2));
            x[j][r] = x_of(f, r / 2, t, lir_extract(l, s[j], (uint16_t)r));
            most[r / 2] = lir_op2(l, S_MAX, x[j][r], most[r / 2]); /* NaN is left to the sum */
        }
    for (int w = 0; w < 2; w++) {
        for (uint32_t mask = 1; mask < 4; mask *= 2) most[w] = lir_op2(l, S_MAX, lir_lane_xor(l, most[w], mask), most[w]);
        base[w] = lir_op3(l, S_SELECT, lir_op2(l, S_EQ, most[w], f32(l, -INFINITY)), f32(l, 0), most[w]); /* nothing seen yet: weights are 0 */
        alpha[w] = attn_exp(l, lir_sub(l, z->m[w], base[w]));
        z->m[w] = most[w];
        z->sum[w] = lir_mul(l, z->sum[w], alpha[w]);
    }
    for (int j = 0; j < n; j++)
        for (int r = 0; r < 4; r++) {
            LVal p = attn_exp(l, lir_sub(l, x[j][r], base[r / 2]));
            z->sum[r / 2] = lir_add(l, z->sum[r / 2], p);
            s[j] = r ? lir_insert(l, s[j], (uint16_t)r, p) : lir_splat(l, p, 4);
        }
    LVal scale = lir_splat(l, alpha[0], 4);
    for (uint16_t r = 2; r < 4; r++) scale = lir_insert(l, scale, r, alpha[1]);
    for (int j = 0; j < nout; j++) z->out[j] = lir_mul(l, z->out[j], scale);
}

/* ---- blocks ---- */

/* Keys that some row of the block sees. */
static LVal keys_seen(Flash *f, LVal q0) {
    Lir *l = f->l;
    Point p = {.vaxis = -1, .lanes = 1};
    if (!f->a.causal || f->a.nrow != 1) return f->nkeys;
    for (int a = 0; a < K_AXES; a++) p.axis[a] = f->at[a];
    emit_memo_reset(f->e);
    LVal past = emit_expr(f->e, &f->a.k->stage[f->a.max], f->a.past, &p), last = lir_op2(l, S_MIN, lir_addi(l, q0, ROWS), f->nrows);
    return lir_op2(l, S_MAX, lir_i64(l, 0), lir_op2(l, S_MIN, f->nkeys, lir_add(l, last, past)));
}

static void along_keys(Flash *f, LVal q0, State *z) {
    Lir *l = f->l;
    enum { N = MOST_OUT + 4 };
    int nout = round_up(f->v, TALL) / MATRIX;
    uint32_t n = (uint32_t)nout + 4;
    LVal c[N], next[N], early[2][GPU_MOST_COPIES], zero = lir_i64(l, 0);
    LVal steps = lir_divi(l, lir_addi(l, keys_seen(f, q0), f->keys - 1), f->keys);
    LVal from = lir_op3(l, S_SELECT, lir_op2(l, S_GT, steps, zero), lir_i64(l, -1), zero);
    for (int w = 0; w < 2; w++) c[w] = f32(l, -INFINITY), c[2 + w] = f32(l, 0);
    for (int j = 0; j < nout; j++) c[4 + j] = lir_splat(l, f32(l, 0), 4);
    LFor loop = lir_for(l, from, steps, lir_i64(l, 1), n, c);
    lir_copy_wait(l, 0);
    lir_barrier(l);
    LVal number = lir_addi(l, loop.iv, 1), slot = lir_muli(l, lir_remi(l, number, SLOTS), f->slot);
    gpu_fetch(&f->key, 0, lir_muli(l, number, f->keys), slot, early[0]);
    gpu_fetch(&f->value, 0, lir_muli(l, number, f->keys), slot, early[1]);
    lir_copy_commit(l);
    LIf ready = lir_if(l, lir_op2(l, S_GE, loop.iv, zero), n);
    LVal s[MOST_SCORES], now = lir_muli(l, lir_remi(l, loop.iv, SLOTS), f->slot);
    memcpy(z->m, loop.c, sizeof z->m);
    memcpy(z->sum, loop.c + 2, sizeof z->sum);
    memcpy(z->out, loop.c + 4, (size_t)nout * sizeof *z->out);
    f->t0 = lir_muli(l, loop.iv, f->keys);
    scores(f, now, s);
    soften(f, s, z);
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

/* Results divided by the sums, through shared memory. */
static void leave(Flash *f, LVal q0, State *z) {
    Emit *e = f->e;
    Lir *l = f->l;
    const Stage *pv = &f->a.k->stage[f->a.pv];
    int nout = round_up(f->v, TALL) / MATRIX, pitch = round_up(f->v, TALL) + PAD, wide = 1;
    LVal row0 = lir_add(l, lir_muli(l, f->warp, TALL), lir_divi(l, f->lane, 4)), zero = f32(l, 0);
    LVal none = lir_op2(l, S_EQ, f->nkeys, lir_i64(l, 0));
    lir_barrier(l);
    for (int w = 0; w < 2; w++) {
        for (uint32_t mask = 1; mask < 4; mask *= 2) z->sum[w] = lir_add(l, z->sum[w], lir_lane_xor(l, z->sum[w], mask));
        LVal some = lir_op2(l, S_GT, z->sum[w], zero), one_over = lir_op2(l, S_DIV, f32(l, 1), z->sum[w]);
        for (int j = 0; j < nout; j++)
            for (int i = 0; i < 2; i++) {
                LVal v = lir_mul(l, lir_extract(l, z->out[j], (uint16_t)(2 * w + i)), one_over);
                if (f->a.zero_nan) v = lir_op3(l, S_SELECT, some, v, zero);
                v = lir_op3(l, S_SELECT, none, zero, v);
                LVal at = lir_addi(l, lir_muli(l, row0, pitch), w * MATRIX * pitch + j * MATRIX + i);
                lir_store(l, f->mem, lir_add(l, at, lir_muli(l, lir_remi(l, f->lane, 4), 2)), v, (LVal){0}, 0);
            }
    }
    lir_barrier(l);
    while (wide < f->v) wide *= 2;
    if (wide > THREADS) wide = THREADS;
    LVal col = lir_remi(l, f->tid, wide), end = lir_op2(l, S_MIN, lir_sub(l, f->nrows, q0), lir_i64(l, ROWS));
    LIf in = lir_if(l, lir_op2(l, S_LT, col, lir_i64(l, f->v)), 0);
    LFor down = lir_for(l, lir_divi(l, f->tid, wide), end, lir_i64(l, THREADS / wide), 0, NULL);
    LVal v = lir_load(l, f->mem, lir_add(l, lir_muli(l, down.iv, pitch), col), (LTy){DT_F32, 1}, (LVal){0}, 0), at[K_AXES];
    Point p = {.vaxis = -1, .lanes = 1}, par;
    GpuProduct x = {.k = f->a.k, .s = &f->a.k->stage[f->a.max]};
    for (int a = 0; a < K_AXES; a++) p.axis[a] = lir_i64(l, 0), at[a] = f->at[a];
    gpu_split(e, &x, lir_add(l, q0, down.iv), f->a.row, f->a.nrow, at);
    for (int i = 0; i < f->a.nbatch; i++) p.axis[f->a.to_pv[f->a.batch[i]]] = at[f->a.batch[i]];
    for (int i = 0; i < f->a.nrow; i++) p.axis[f->a.to_pv[f->a.row[i]]] = at[f->a.row[i]];
    p.axis[f->a.col] = col;
    emit_parallel_point(pv, &p, &par);
    emit_epilogue(e, f->a.pv, &v, &par);
    lir_for_end(l, &down, NULL, NULL);
    lir_else(l, &in, NULL);
    lir_endif(l, &in, NULL, NULL);
    lir_barrier(l);
}

static Dim rows_of(const Flash *f) {
    Dim n = dim_const(f->e->c, 1);
    for (int i = 0; i < f->a.nrow; i++) n = dim_mul(f->e->c, n, f->a.k->stage[f->a.max].axis[f->a.row[i]].extent);
    return n;
}

/* The rows of a thread, in range. */
static void thread_rows(Flash *f, LVal q0) {
    Lir *l = f->l;
    LVal row = lir_add(l, lir_add(l, q0, lir_muli(l, f->warp, TALL)), lir_divi(l, f->lane, 4)), last = lir_addi(l, f->nrows, -1);
    for (int w = 0; w < 2; w++) f->row[w] = lir_op2(l, S_MIN, lir_addi(l, row, w * MATRIX), last);
}

static uint32_t shared_bytes(const Flash *f, int64_t tiles) {
    int64_t out = (int64_t)ROWS * (round_up(f->v, TALL) + PAD) * 4;
    return (uint32_t)(tiles > out ? tiles : out);
}

static void flash_build(Emit *e) {
    Flash flash = {.e = e, .l = e->l, .keys = (int)e->s->par[PAR_KEYS]}, *f = &flash;
    Lir *l = e->l;
    Ctx *c = e->c;
    CHECK(attn_classify(e->k, &f->a));
    const Attn *a = &f->a;
    f->type = operands(a);
    f->split = f->type == DT_F32 && !(e->t->flags & (F_TO_TF32 | F_TO_BF16 | F_TO_F16));
    f->d = known(e->k, a->qk, a->d);
    f->v = known(e->k, a->pv, a->col);
    f->tid = lir_tid(l);
    /* a slot: keys, values; behind both: queries */
    f->mem = (LVal){0};
    panel(f, &f->key, a->qk, a->key, a->d, &a->t, 1, a->to_qk, f->keys, 0);
    panel(f, &f->value, a->pv, a->v, a->col, &a->t, 1, a->to_pv, f->keys, panel_bytes(f, &f->key));
    f->slot = panel_bytes(f, &f->key) + panel_bytes(f, &f->value);
    panel(f, &f->query, a->qk, a->q, a->d, a->row, a->nrow, a->to_qk, ROWS, SLOTS * f->slot);
    lir_block(l, THREADS, shared_bytes(f, SLOTS * f->slot + panel_bytes(f, &f->query)));
    f->mem = f->key.mem = f->value.mem = f->query.mem = lir_shared(l, 0);
    f->lane = lir_remi(l, f->tid, WARP);
    f->warp = lir_divi(l, f->tid, WARP);
    f->nkeys = f->key.ksize;
    f->nrows = emit_dim(e, rows_of(f));
    Dim tiles = dim_ceildiv(c, rows_of(f), dim_const(c, ROWS)), tasks = tiles;
    for (int i = 0; i < a->nbatch; i++) tasks = dim_mul(c, tasks, e->k->stage[a->max].axis[a->batch[i]].extent);
    e->code->tasks = tasks;
    LFor t = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 0, NULL);
    LVal n = emit_dim(e, tiles), q0 = lir_muli(l, lir_op2(l, S_REM, t.iv, n), ROWS), early[GPU_MOST_COPIES];
    GpuProduct x = {.k = a->k, .s = &a->k->stage[a->max]};
    for (int i = 0; i < K_AXES; i++) f->at[i] = lir_i64(l, 0);
    gpu_split(e, &x, lir_op2(l, S_DIV, t.iv, n), a->batch, a->nbatch, f->at);
    place(f, &f->query, a->to_qk);
    place(f, &f->key, a->to_qk);
    place(f, &f->value, a->to_pv);
    thread_rows(f, q0);
    gpu_fetch(&f->query, 0, q0, lir_i64(l, 0), early);
    lir_copy_commit(l);
    gpu_put(&f->query, 0, lir_i64(l, 0), early);
    e->temp[a->score] = score_value;
    e->temp_data[a->score] = f;
    State z;
    along_keys(f, q0, &z);
    leave(f, q0, &z);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_flash = {"flash", "rows keys", F_BLOCKS, flash_match, flash_candidates, flash_cost, flash_build};
