/* ukr_mma.c: template `mma`, for GPUs: contractions in f32 of f16 or bf16 values, or of f32 ones where the target may round them, and in i32 of
 * 8-bit integers, the second one signed, by the matrix instructions of warps on tiles in shared memory (gpu_tile.h). A warp has wh x ww sums: 16 x
 * 8 at a time, from 16 rows and 8 columns of 32 bytes of k each (a step), which it reads as matrices of 8 x 16 bytes. Lines of tiles are swizzled,
 * so eight rows of a matrix lie in different banks.
 * Order of a sum: steps ascending; products of a step, which are exact for f16 and bf16, are added to the sum as the hardware does it. */
#include <string.h>

#include "gpu_tile.h"
#include "ukr.h"

enum { PAR_ROWS, PAR_COLS, PAR_WH, PAR_WW, PAR_STAGES };
enum { LINE = 64 /* bytes of k in a stage */, STEP = 32, STEPS = LINE / STEP, MATRIX = 8, TALL = 16, WARP = 32, MOST_TALL = 4, MOST_WIDE = 4 };

typedef struct Size {
    int rows, cols, wh, ww;
    double speed; /* products a cycle, relative, of 16-bit values */
} Size;
static const Size sizes[] = {{128, 128, 64, 32, 480}, {128, 64, 64, 32, 400}, {64, 128, 32, 32, 380}, {64, 64, 32, 32, 330}, {32, 64, 16, 32, 200}};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

/* Is the factor a value of the type, converted? */
static bool was(const Kernel *k, Expr x, DType type) {
    const ExprInfo i = *expr_info(k->c, x);
    return i.kind == E_CAST && expr_info(k->c, i.arg[0])->dtype == type;
}

/* Bytes, made i32: the first may be of either sign. */
static bool bytes(const Kernel *k, GpuProduct *x) {
    for (int swap = 0; swap < 2; swap++)
        for (int i = 0; i < 2; i++) {
            DType any = i ? DT_U8 : DT_I8, type0 = swap ? DT_I8 : any, type1 = swap ? any : DT_I8;
            if (!gpu_product(k, DT_I32, type0, type1, x) || !was(k, x->side[0].x, type0) || !was(k, x->side[1].x, type1)) continue;
            if (swap) gpu_swap(x);
            return true;
        }
    return false;
}

bool gpu_matrix_product(const Kernel *k, const Target *t, GpuProduct *x) {
    static const DType type[] = {DT_F16, DT_BF16};
    for (int i = 0; i < 2; i++)
        if (gpu_product(k, DT_F32, type[i], type[i], x) && was(k, x->side[0].x, type[i]) && was(k, x->side[1].x, type[i])) return true;
    DType round = t->flags & F_TO_TF32 ? DT_F32 : t->flags & F_TO_BF16 ? DT_BF16 : t->flags & F_TO_F16 ? DT_F16 : DT_NONE;
    if (round != DT_NONE && gpu_product(k, DT_F32, round, round, x)) return true;
    return bytes(k, x);
}

static bool mma_match(const Kernel *k, const Target *t) {
    GpuProduct x;
    return gpu_matrix_product(k, t, &x);
}

static int stages_of(const GpuProduct *x) { return x->side[0].vec && x->side[1].vec ? 4 : 2; }

static void note_test(void *data, const ExprInfo *load) { *(bool *)data |= load->oob != OOB_NEVER; }

/* What goes through registers is in them while the products of a step are, and so are the tests of its indices. */
static bool fits(const GpuProduct *x, const Size *z) {
    enum { MOST_COMPUTED = 32 };
    int threads = WARP * (z->rows / z->wh) * (z->cols / z->ww), depth = LINE / gpu_bytes(x);
    for (int side = 0; side < 2; side++) {
        bool tested = false;
        expr_loads(x->k->c, x->side[side].x, note_test, &tested);
        if (!x->side[side].vec && (side ? z->cols : z->rows) * depth > MOST_COMPUTED / (1 + tested) * threads) return false;
    }
    return true;
}

static int mma_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    GpuProduct x;
    int n = 0;
    if (!gpu_matrix_product(k, t, &x)) return 0;
    for (int i = 0; i < N_SIZES && n < max; i++) {
        const Size *z = &sizes[i];
        if (!fits(&x, z)) continue;
        int64_t par[] = {z->rows, z->cols, z->wh, z->ww, stages_of(&x)};
        memcpy(out[n++].par, par, sizeof par);
    }
    return n;
}

static double mma_cost(const Kernel *k, const Sched *s, const Target *t) {
    GpuProduct x;
    double speed = 1;
    if (!gpu_matrix_product(k, t, &x)) return 1e30;
    for (int i = 0; i < N_SIZES; i++)
        if (sizes[i].rows == s->par[PAR_ROWS] && sizes[i].cols == s->par[PAR_COLS]) speed = sizes[i].speed;
    if (gpu_bytes(&x) == 4) speed /= 2;
    if (gpu_bytes(&x) == 1) speed *= 1.5;
    if (!x.side[0].vec || !x.side[1].vec) speed /= 2;
    return gpu_tile_cost(&x, (int)s->par[PAR_ROWS], (int)s->par[PAR_COLS], speed / 2);
}

typedef struct Mma {
    int n[2];            /* pieces of a warp's sums along a side: of 16 rows, of 16 columns */
    LVal first[2], lane; /* the warp's first row and column in the tile */
    LVal at[2][MOST_TALL][STEPS]; /* byte address in a slot of the 16 bytes that this thread names, for a piece and a step */
} Mma;


/* Four matrices make a piece of 16 rows (columns) and 32 bytes of k. Side 0: two along rows, then along k; side 1: along k first. */
static void addresses(GpuTiles *g, Mma *m) {
    Lir *l = g->l;
    int per = STEP / gpu_bytes(&g->x);
    LVal in = lir_remi(l, m->lane, MATRIX), low = lir_remi(l, lir_divi(l, m->lane, MATRIX), 2), high = lir_divi(l, m->lane, 2 * MATRIX);
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < m->n[side]; i++)
            for (int step = 0; step < STEPS; step++) {
                bool along = g->x.side[side].along_k;
                LVal row = lir_muli(l, side ? high : low, MATRIX), k = lir_muli(l, side ? low : high, per / 2);
                if (along) row = lir_add(l, row, in);
                else k = lir_add(l, k, in);
                row = lir_add(l, m->first[side], lir_addi(l, row, i * TALL));
                m->at[side][i][step] = gpu_tile_at(g, side, row, lir_addi(l, k, step * per));
            }
}

/* Elements of 32 bits whose rows are neighbours, one by one: register r of a piece is of row (column) lane / 4, k lane % 4, of matrix r. */
static LVal read_words(GpuTiles *g, const Mma *m, int side, int i, int step, LVal slot) {
    Lir *l = g->l;
    LVal v = {0};
    for (int r = 0; r < 4; r++) {
        int down = side ? r / 2 : r % 2, deep = side ? r % 2 : r / 2;
        LVal row = lir_addi(l, lir_add(l, m->first[side], lir_divi(l, m->lane, 4)), i * TALL + down * MATRIX);
        LVal k = lir_addi(l, lir_remi(l, m->lane, 4), step * 8 + deep * 4);
        LVal at = lir_add(l, slot, gpu_tile_at(g, side, row, k));
        LVal one = lir_load(l, lir_ptr_bytes(l, g->mem, at), lir_i64(l, 0), (LTy){DT_I32, 1}, (LVal){0}, 0);
        v = r ? lir_insert(l, v, (uint16_t)r, one) : lir_splat(l, one, 4);
    }
    return v;
}

static LVal read_piece(GpuTiles *g, const Mma *m, int side, int i, int step, LVal slot) {
    bool along = g->x.side[side].along_k;
    if (!along && gpu_bytes(&g->x) == 4) return read_words(g, m, side, i, step, slot);
    return lir_load_matrix(g->l, g->mem, lir_add(g->l, slot, m->at[side][i][step]), !along);
}

static LVal pair(Lir *l, LVal v, uint16_t at) {
    LVal both = lir_splat(l, lir_extract(l, v, at), 2);
    return lir_insert(l, both, 1, lir_extract(l, v, (uint16_t)(at + 1)));
}

static void mma_product(GpuTiles *g, void *data, LVal slot, LVal *acc) {
    const Mma *m = data;
    Lir *l = g->l;
    for (int step = 0; step < STEPS; step++) {
        LVal a[MOST_TALL], b[MOST_WIDE];
        for (int i = 0; i < m->n[0]; i++) a[i] = read_piece(g, m, 0, i, step, slot);
        for (int j = 0; j < m->n[1]; j++) b[j] = read_piece(g, m, 1, j, step, slot);
        for (int i = 0; i < m->n[0]; i++)
            for (int j = 0; j < 2 * m->n[1]; j++) {
                LVal *c = &acc[i * 2 * m->n[1] + j];
                *c = lir_mma(l, g->x.side[0].type, a[i], pair(l, b[j / 2], (uint16_t)(j % 2 * 2)), *c);
            }
    }
}

/* A thread has two neighbours of row lane / 4, and of the row eight below. */
static void mma_sums(GpuTiles *g, void *data, const LVal *acc) {
    const Mma *m = data;
    Lir *l = g->l;
    for (int i = 0; i < m->n[0]; i++)
        for (int j = 0; j < 2 * m->n[1]; j++)
            for (int r = 0; r < 4; r++) {
                LVal row = lir_addi(l, lir_add(l, m->first[0], lir_divi(l, m->lane, 4)), i * TALL + r / 2 * MATRIX);
                LVal col = lir_addi(l, lir_add(l, m->first[1], lir_muli(l, lir_remi(l, m->lane, 4), 2)), j * MATRIX + r % 2);
                LVal v = lir_extract(l, acc[i * 2 * m->n[1] + j], (uint16_t)r), at = gpu_sum_at(g, row, col);
                if (g->x.near && r % 2) continue;
                if (g->x.near) v = pair(l, acc[i * 2 * m->n[1] + j], (uint16_t)r);
                lir_store(l, g->mem, at, v, (LVal){0}, g->x.near ? 8 : 4);
            }
}

static void mma_prepare(GpuTiles *g, void *data) {
    Mma *m = data;
    Lir *l = g->l;
    int across = g->rows[1] / (m->n[1] * TALL);
    LVal warp = lir_divi(l, g->tid, WARP);
    m->lane = lir_remi(l, g->tid, WARP);
    m->first[0] = lir_muli(l, lir_divi(l, warp, across), m->n[0] * TALL);
    m->first[1] = lir_muli(l, lir_remi(l, warp, across), m->n[1] * TALL);
    addresses(g, m);
}

static void mma_build(Emit *e) {
    const int64_t *par = e->s->par;
    GpuTiles g = {.e = e, .rows = {(int)par[PAR_ROWS], (int)par[PAR_COLS]}, .stages = (int)par[PAR_STAGES], .swizzle = {true, true}};
    Mma m = {.n = {(int)par[PAR_WH] / TALL, (int)par[PAR_WW] / TALL}};
    CHECK(gpu_matrix_product(e->k, e->t, &g.x));
    g.depth = LINE / gpu_bytes(&g.x);
    g.threads = WARP * (g.rows[0] / (int)par[PAR_WH]) * (g.rows[1] / (int)par[PAR_WW]);
    GpuCore core = {(uint32_t)(m.n[0] * 2 * m.n[1]), 4, mma_prepare, mma_product, mma_sums, &m};
    gpu_tiles_build(&g, &core);
}

const Tmpl tmpl_mma = {"mma", "rows cols wh ww stages", F_BLOCKS, mma_match, mma_candidates, mma_cost, mma_build};
