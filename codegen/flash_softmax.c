/* flash_softmax.c: what the templates for attention on GPUs do with scores and results in registers
 * (flash.h). */
#include "flash.h"

#include <math.h>
#include <string.h>

enum { PAD = 4 };

static LVal f32(Lir *l, double v) { return lir_float(l, DT_F32, v); }

/* ---- what can be done so ---- */

int flash_known(const Kernel *k, int stage, int axis) {
    int64_t n;
    return dim_is_const(k->c, k->stage[stage].axis[axis].extent, &n) && n > 0 && n <= FLASH_MOST
               ? (int)n
               : 0;
}

static void total(void *data, const ExprInfo *load) {
    *(bool *)data = *(bool *)data && load->oob != OOB_FAIL;
}

bool flash_fits(const Kernel *k, Attn *a) {
    bool all = true;
    if (!attn_classify(k, a) || !flash_known(k, a->qk, a->d) || !flash_known(k, a->pv, a->col))
        return false;
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++)
            expr_loads(k->c, k->stage[st].body[r], total, &all);
    return all;
}

DType flash_type(const Attn *a) {
    Ctx *c = a->k->c;
    const Expr x[] = {a->q, a->key, a->v};
    DType type = DT_NONE;
    for (int i = 0; i < 3; i++) {
        const ExprInfo e = *expr_info(c, x[i]);
        DType from = e.kind == E_CAST ? (DType)expr_info(c, e.arg[0])->dtype : DT_F32;
        if ((from != DT_F16 && from != DT_BF16) || expr_info(c, e.arg[0])->kind != E_LOAD ||
            (i && from != type))
            return DT_F32;
        type = from;
    }
    return type;
}

Dim flash_rows(const Flash *f) {
    Dim n = dim_const(f->e->c, 1);
    for (int i = 0; i < f->a.nrow; i++)
        n = dim_mul(f->e->c, n, f->a.k->stage[f->a.max].axis[f->a.row[i]].extent);
    return n;
}

uint32_t flash_out_bytes(const Flash *f) {
    return (uint32_t)(FLASH_ROWS * (flash_round_up(f->v, FLASH_TALL) + PAD)) * 4;
}

/* ---- softmax ---- */

static LVal score_value(Emit *e, void *data, const Expr *at, const Point *p) {
    (void)e, (void)at, (void)p;
    return ((const Flash *)data)->score;
}

/* x of one of this thread's rows and a key; beyond the last key, of any other. */
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
    return v;
}

static LVal bounded(const Flash *f, LVal t, LVal x) {
    return lir_op3(f->l, S_SELECT, lir_op2(f->l, S_LT, t, f->nkeys), x, f32(f->l, -INFINITY));
}

static LVal vector(Lir *l, const LVal *x) {
    LVal v = lir_splat(l, x[0], 4);
    for (uint16_t r = 1; r < 4; r++) v = lir_insert(l, v, r, x[r]);
    return v;
}

/* s: scores become x of them, -inf beyond the last key. They are bounded in the step that has it
 * alone. */
static void exponents(Flash *f, LVal *s) {
    Lir *l = f->l;
    int n = f->keys / FLASH_MATRIX;
    int64_t keys;
    LVal q2 = lir_muli(l, lir_remi(l, f->lane, 4), 2), part[4], cut[FLASH_MOST_SCORES];
    bool whole = lir_is_const(l, f->nkeys, &keys) && keys % f->keys == 0;
    for (int j = 0; j < n; j++) {
        LVal x[4];
        for (int r = 0; r < 4; r++) {
            LVal t = lir_add(l, f->t0, lir_addi(l, q2, j * FLASH_MATRIX + r % 2));
            x[r] = x_of(f, r / 2, t, lir_extract(l, s[j], (uint16_t)r));
        }
        s[j] = vector(l, x);
    }
    if (whole) return;
    LIf some = lir_if(l, lir_op2(l, S_GT, lir_addi(l, f->t0, f->keys), f->nkeys), (uint32_t)n);
    for (int j = 0; j < n; j++) {
        for (int r = 0; r < 4; r++) {
            LVal t = lir_add(l, f->t0, lir_addi(l, q2, j * FLASH_MATRIX + r % 2));
            part[r] = bounded(f, t, lir_extract(l, s[j], (uint16_t)r));
        }
        cut[j] = vector(l, part);
    }
    lir_else(l, &some, cut);
    lir_endif(l, &some, s, s);
}

/* exp(x - base), x <= base or NaN */
static LVal weight(const Flash *f, LVal x, LVal base) {
    Lir *l = f->l;
    LVal log2e = f32(l, 1.4426950408889634);
    if (f->split) return attn_exp(l, lir_sub(l, x, base));
    return lir_exp2(l, lir_fma(l, x, log2e, lir_op1(l, S_NEG, lir_mul(l, base, log2e))));
}

void flash_soften(Flash *f, LVal *s, FlashState *z) {
    Lir *l = f->l;
    int n = f->keys / FLASH_MATRIX, nout = flash_round_up(f->v, FLASH_TALL) / FLASH_MATRIX;
    LVal x[FLASH_MOST_SCORES][4], most[2] = {z->m[0], z->m[1]}, base[2], alpha[2];
    exponents(f, s);
    for (int j = 0; j < n; j++)
        for (int r = 0; r < 4; r++) {
            x[j][r] = lir_extract(l, s[j], (uint16_t)r);
            most[r / 2] = lir_op2(l, S_MAX, x[j][r], most[r / 2]); /* NaN is left to the sum */
        }
    for (int w = 0; w < 2; w++) {
        for (uint32_t mask = 1; mask < 4; mask *= 2)
            most[w] = lir_op2(l, S_MAX, lir_lane_xor(l, most[w], mask), most[w]);
        base[w] = lir_op3(l, S_SELECT, lir_op2(l, S_EQ, most[w], f32(l, -INFINITY)), f32(l, 0),
                          most[w]); /* nothing seen yet: weights are 0 */
        alpha[w] = weight(f, z->m[w], base[w]);
        z->m[w] = most[w];
        z->sum[w] = lir_mul(l, z->sum[w], alpha[w]);
    }
    for (int j = 0; j < n; j++)
        for (int r = 0; r < 4; r++) {
            LVal p = weight(f, x[j][r], base[r / 2]);
            z->sum[r / 2] = lir_add(l, z->sum[r / 2], p);
            s[j] = r ? lir_insert(l, s[j], (uint16_t)r, p) : lir_splat(l, p, 4);
        }
    LVal scale = lir_splat(l, alpha[0], 4);
    for (uint16_t r = 2; r < 4; r++) scale = lir_insert(l, scale, r, alpha[1]);
    for (int j = 0; j < nout; j++) z->out[j] = lir_mul(l, z->out[j], scale);
}

LVal flash_weights(const Flash *f, const LVal *p, int k) {
    Lir *l = f->l;
    LVal a = {0};
    for (uint16_t i = 0; i < 4; i++) {
        LVal from = p[k / FLASH_MATRIX + i / 2];
        LVal low = lir_extract(l, from, (uint16_t)(i % 2 * 2));
        LVal word = lir_halves(l, f->type, low, lir_extract(l, from, (uint16_t)(i % 2 * 2 + 1)));
        a = i ? lir_insert(l, a, i, word) : lir_splat(l, word, 4);
    }
    return a;
}

/* ---- rows and results ---- */

void flash_thread_rows(Flash *f, LVal q0) {
    Lir *l = f->l;
    LVal first = lir_add(l, q0, lir_muli(l, f->warp, FLASH_TALL)), row = lir_add(l, first, lir_divi(l, f->lane, 4)),
         last = lir_addi(l, f->nrows, -1);
    for (int w = 0; w < 2; w++)
        f->row[w] = lir_op2(l, S_MIN, lir_addi(l, row, w * FLASH_MATRIX), last);
}

LVal flash_keys_seen(Flash *f, LVal q0, int rows) {
    Lir *l = f->l;
    Point p = {.vaxis = -1, .lanes = 1};
    if (!f->a.causal || f->a.nrow != 1) return f->nkeys;
    for (int a = 0; a < K_AXES; a++) p.axis[a] = f->at[a];
    emit_memo_reset(f->e);
    LVal past = emit_expr(f->e, &f->a.k->stage[f->a.max], f->a.past, &p),
         last = lir_op2(l, S_MIN, lir_addi(l, q0, rows), f->nrows);
    return lir_op2(l, S_MAX, lir_i64(l, 0), lir_op2(l, S_MIN, f->nkeys, lir_add(l, last, past)));
}

void flash_start(const Flash *f, FlashState *z) {
    for (int w = 0; w < 2; w++) z->m[w] = f32(f->l, -INFINITY), z->sum[w] = f32(f->l, 0);
    for (int j = 0; j < FLASH_MOST_OUT; j++) z->out[j] = lir_splat(f->l, f32(f->l, 0), 4);
}

void flash_leave(Flash *f, LVal q0, FlashState *z) {
    Emit *e = f->e;
    Lir *l = f->l;
    const Stage *pv = &f->a.k->stage[f->a.pv];
    int nout = flash_round_up(f->v, FLASH_TALL) / FLASH_MATRIX,
        pitch = flash_round_up(f->v, FLASH_TALL) + PAD, wide = 1;
    LVal first = lir_muli(l, f->warp, FLASH_TALL), row0 = lir_add(l, first, lir_divi(l, f->lane, 4)), zero = f32(l, 0);
    LVal none = lir_op2(l, S_EQ, f->nkeys, lir_i64(l, 0));
    for (int w = 0; w < 2; w++) {
        for (uint32_t mask = 1; mask < 4; mask *= 2)
            z->sum[w] = lir_add(l, z->sum[w], lir_lane_xor(l, z->sum[w], mask));
        LVal some = lir_op2(l, S_GT, z->sum[w], zero),
             one_over = lir_op2(l, S_DIV, f32(l, 1), z->sum[w]);
        for (int j = 0; j < nout; j++)
            for (int i = 0; i < 2; i++) {
                LVal v = lir_mul(l, lir_extract(l, z->out[j], (uint16_t)(2 * w + i)), one_over);
                if (f->a.zero_nan) v = lir_op3(l, S_SELECT, some, v, zero);
                v = lir_op3(l, S_SELECT, none, zero, v);
                LVal at = lir_addi(l, lir_muli(l, row0, pitch),
                                   w * FLASH_MATRIX * pitch + j * FLASH_MATRIX + i);
                lir_store(l, f->out, lir_add(l, at, lir_muli(l, lir_remi(l, f->lane, 4), 2)), v,
                          (LVal){0}, 0);
            }
    }
    f->meet(f);
    while (wide < f->v) wide *= 2;
    if (wide > FLASH_THREADS) wide = FLASH_THREADS;
    LVal col = lir_remi(l, f->tid, wide),
         end = lir_op2(l, S_MIN, lir_sub(l, f->nrows, q0), lir_i64(l, FLASH_ROWS));
    LIf in = lir_if(l, lir_op2(l, S_LT, col, lir_i64(l, f->v)), 0);
    LFor down =
        lir_for(l, lir_divi(l, f->tid, wide), end, lir_i64(l, FLASH_THREADS / wide), 0, NULL);
    LVal v = lir_load(l, f->out, lir_add(l, lir_muli(l, down.iv, pitch), col), (LTy){DT_F32, 1},
                      (LVal){0}, 0),
         at[K_AXES];
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
    f->meet(f);
}

void flash_begin(Flash *f) {
    Emit *e = f->e;
    const Attn *a = &f->a;
    f->type = flash_type(a);
    f->d = flash_known(e->k, a->qk, a->d);
    f->v = flash_known(e->k, a->pv, a->col);
    f->lane = lir_remi(f->l, f->tid, FLASH_WARP);
    f->warp = lir_divi(f->l, f->tid, FLASH_WARP);
    f->nkeys = emit_dim(e, a->k->stage[a->max].axis[a->t].extent);
    f->nrows = emit_dim(e, flash_rows(f));
    e->temp[a->score] = score_value;
    e->temp_data[a->score] = f;
}
