/* ukr_gemm.c: template `gemm`, for GPUs: contractions of f32 and i32 by tiles in shared memory (gpu_tile.h). Each thread has th x tw sums in
 * registers and reads its rows of both operands by 16 bytes: four rows of a k, or four k of a row. A warp is 4 threads by 8, so that what its
 * threads read at once lies in different banks.
 * Order of a sum: ascending k, one chain, products fused into it: that of `nest`. */
#include <string.h>

#include "gpu_tile.h"
#include "ukr.h"

enum { PAR_ROWS, PAR_COLS, PAR_TH, PAR_TW, PAR_STAGES };
enum { DEPTH = 16, WARP_ROWS = 4, WARP_COLS = 8, MOST = 8 /* rows of a thread */ };

typedef struct Size {
    int rows, cols, th, tw;
    double speed; /* products a cycle, relative */
} Size;
static const Size sizes[] = {{128, 128, 8, 8, 100}, {128, 64, 8, 8, 88}, {64, 128, 8, 8, 88},
                             {64, 64, 8, 4, 70},    {32, 64, 4, 4, 45}, {64, 32, 8, 4, 45}};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static bool shape(const Kernel *k, GpuProduct *x) { return gpu_product(k, DT_F32, DT_F32, DT_F32, x) || gpu_product(k, DT_I32, DT_I32, DT_I32, x); }

static bool gemm_match(const Kernel *k, const Target *t) {
    GpuProduct x;
    (void)t;
    return shape(k, &x);
}

static int gemm_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    GpuProduct x;
    int n = 0;
    (void)t;
    if (!shape(k, &x)) return 0;
    for (int i = 0; i < N_SIZES && n < max; i++, n++) {
        const Size *z = &sizes[i];
        int64_t par[] = {z->rows, z->cols, z->th, z->tw, x.side[0].vec && x.side[1].vec ? 4 : 2};
        memcpy(out[n].par, par, sizeof par);
    }
    return n;
}

static double gemm_cost(const Kernel *k, const Sched *s, const Target *t) {
    GpuProduct x;
    double speed = 1;
    (void)t;
    if (!shape(k, &x)) return 1e30;
    for (int i = 0; i < N_SIZES; i++)
        if (sizes[i].rows == s->par[PAR_ROWS] && sizes[i].cols == s->par[PAR_COLS]) speed = sizes[i].speed;
    return gpu_tile_cost(&x, (int)s->par[PAR_ROWS], (int)s->par[PAR_COLS], speed / 2);
}

typedef struct Gemm {
    int n[2];      /* rows of a thread, by side */
    int pitch[2];  /* threads along a side */
    LVal at[2];    /* the thread's place among them */
} Gemm;

/* The i-th row of the thread: neighbours are the next thread's if k lies along lines; else four are its own. */
static LVal row_of(const GpuTiles *g, const Gemm *m, int side, int i) {
    if (g->x.side[side].along_k) return lir_addi(g->l, m->at[side], (int64_t)i * m->pitch[side]);
    return lir_addi(g->l, lir_muli(g->l, m->at[side], 4), i / 4 * 4 * (int64_t)m->pitch[side] + i % 4);
}

static LVal load4(const GpuTiles *g, LVal at) {
    return lir_load(g->l, lir_ptr_bytes(g->l, g->mem, at), lir_i64(g->l, 0), (LTy){(uint8_t)g->x.side[0].type, 4}, (LVal){0}, 16);
}

/* Elements k + j of the thread's rows i to i + n, as v[i][j % 4]. One load brings four rows of a k, or four k of a row: then those of all
 * four k come with j = 0. */
static void read_rows(const GpuTiles *g, const Gemm *m, int side, LVal slot, LVal k, int j, int i, int n, LVal v[MOST][4]) {
    Lir *l = g->l;
    bool along_k = g->x.side[side].along_k;
    if (along_k && j) return;
    for (int r = 0; r < n; r += along_k ? 1 : 4) {
        LVal row = row_of(g, m, side, i + r), four = load4(g, lir_add(l, slot, gpu_tile_at(g, side, row, lir_addi(l, k, j))));
        for (int q = 0; q < 4; q++) *(along_k ? &v[r][q] : &v[r + q][j]) = lir_extract(l, four, (uint16_t)q);
    }
}

/* Four k at a time: all rows of side 0, then four of side 1 after the other. */
static void gemm_product(GpuTiles *g, void *data, LVal slot, LVal *acc) {
    const Gemm *m = data;
    Lir *l = g->l;
    uint32_t n = (uint32_t)(m->n[0] * m->n[1]);
    LVal next[64], a[MOST][4], b[MOST][4];
    LFor f = lir_for(l, lir_i64(l, 0), lir_i64(l, DEPTH), lir_i64(l, 4), n, acc);
    memcpy(next, f.c, n * sizeof *next);
    for (int c = 0; c < m->n[1]; c += 4)
        for (int j = 0; j < 4; j++) {
            if (!c) read_rows(g, m, 0, slot, f.iv, j, 0, m->n[0], a);
            read_rows(g, m, 1, slot, f.iv, j, c, 4, b);
            for (int r = 0; r < m->n[0]; r++)
                for (int q = 0; q < 4; q++) {
                    LVal *sum = &next[r * m->n[1] + c + q];
                    *sum = g->x.side[0].type == DT_F32 ? lir_fma(l, a[r][j], b[q][j], *sum) : lir_add(l, *sum, lir_mul(l, a[r][j], b[q][j]));
                }
        }
    lir_for_end(l, &f, next, acc);
}

/* By 16 bytes where the rows of the near side are the thread's own. */
static void gemm_sums(GpuTiles *g, void *data, const LVal *acc) {
    const Gemm *m = data;
    Lir *l = g->l;
    int near = g->x.near, far = !near, by = g->x.side[near].along_k ? 1 : 4;
    for (int i = 0; i < m->n[far]; i++)
        for (int j = 0; j < m->n[near]; j += by) {
            LVal x = row_of(g, m, far, i), y = row_of(g, m, near, j), v = {0};
            for (int q = 0; q < by; q++) {
                LVal one = acc[near ? i * m->n[1] + j + q : (j + q) * m->n[1] + i];
                v = by == 1 ? one : lir_insert(l, q ? v : lir_splat(l, one, 4), (uint16_t)q, one);
            }
            lir_store(l, g->mem, near ? gpu_sum_at(g, x, y) : gpu_sum_at(g, y, x), v, (LVal){0}, (uint32_t)by * 4);
        }
}

static void gemm_prepare(GpuTiles *g, void *data) {
    Gemm *m = data;
    Lir *l = g->l;
    LVal warps = lir_i64(l, m->pitch[1] / WARP_COLS), warp = lir_op2(l, S_DIV, g->tid, lir_i64(l, WARP_ROWS * WARP_COLS));
    LVal lane = lir_op2(l, S_REM, g->tid, lir_i64(l, WARP_ROWS * WARP_COLS)), cols = lir_i64(l, WARP_COLS);
    m->at[0] = lir_muli(l, lir_op2(l, S_DIV, warp, warps), WARP_ROWS);
    m->at[0] = lir_add(l, m->at[0], lir_op2(l, S_DIV, lane, cols));
    m->at[1] = lir_muli(l, lir_op2(l, S_REM, warp, warps), WARP_COLS);
    m->at[1] = lir_add(l, m->at[1], lir_op2(l, S_REM, lane, cols));
}

static void gemm_build(Emit *e) {
    const int64_t *par = e->s->par;
    GpuTiles g = {.e = e, .rows = {(int)par[PAR_ROWS], (int)par[PAR_COLS]}, .depth = DEPTH, .stages = (int)par[PAR_STAGES]};
    Gemm m = {.n = {(int)par[PAR_TH], (int)par[PAR_TW]}};
    CHECK(shape(e->k, &g.x));
    for (int side = 0; side < 2; side++) {
        m.pitch[side] = g.rows[side] / m.n[side];
        g.swizzle[side] = g.x.side[side].along_k;
    }
    g.threads = m.pitch[0] * m.pitch[1];
    GpuCore core = {(uint32_t)(m.n[0] * m.n[1]), 1, gemm_prepare, gemm_product, gemm_sums, &m};
    gpu_tiles_build(&g, &core);
}

const Tmpl tmpl_gemm = {"gemm", "rows cols th tw stages", F_BLOCKS, gemm_match, gemm_candidates, gemm_cost, gemm_build};
