/* ukr_wgmma.c: template `wgmma`, for GPUs whose warpgroups multiply matrices in shared memory (F_WGMMA): the contractions of `mma` whose operands
 * lie in memory as they are multiplied, so that bulk copies bring them. A block has three warpgroups and stays where it is, walking tiles of
 * results: one thread of the first keeps a ring of stages filled, 128 bytes of k deep, also with what the next tile needs while this one's results
 * leave; the two others multiply, half a tile each. A stage has two mbarriers: `full` ends a phase when its bytes have come, `empty` when both have
 * read them. Sums leave by pieces of 64 x 64 through shared memory, and so through epilogues, as those of gpu_tile.h do.
 *
 * Two blocks may be a cluster, with tiles below each other: each brings half of the columns that both need, to both, so `empty` waits for the readers
 * of both, and a block ends when no other reaches into its memory any more.
 *
 * What is copied is a tile of a tensor (gpu_bulk.h); beyond its ends there are zeros. A line of shared memory is 128 bytes of k of a row; or (TURNED,
 * 16-bit types) 64 rows of a k, where rows are the neighbours.
 * Tiles are walked in groups of rows, so that the blocks that run together read few rows and columns.
 * Order of a sum: steps of 32 bytes of k ascending, added as the hardware does it; factors of f32 lose the bits that tf32 does not
 * have, which pass `narrow` has rounded away. */
#include <math.h>
#include <string.h>

#include "gpu_bulk.h"
#include "ukr.h"

enum { PAR_ROWS, PAR_COLS, PAR_CLUSTER, PAR_STAGES, PAR_GROUP };
enum { GROUP = 128 /* threads */, CONSUMERS = 2, THREADS = (1 + CONSUMERS) * GROUP, LINE = GPU_LINE, STEP = 32, STEPS = LINE / STEP };
enum { TALL = GPU_TALL /* rows of a product */, PIECE = 64 /* rows and columns that leave at once */, TURNED_STEP = 16 * LINE };
enum { MOST_STAGES = 8, FEW_REGISTERS = 40, MANY_REGISTERS = 232, MOST_SUMS = 32, MOST_CLUSTER = 2 };

/* A consumer has half the rows of a tile, or half its columns. */
typedef struct Size {
    int rows, cols, part[2], group; /* group: tiles along rows, in which the blocks of a device read about as many rows as columns */
    double speed;                   /* products a cycle, relative, of 16-bit values */
} Size;
static const Size sizes[] = {{128, 256, {64, 256}, 16, 1000}, {256, 128, {128, 128}, 8, 1000}, {128, 192, {64, 192}, 14, 950},
                             {128, 128, {64, 128}, 12, 850},
                             {64, 256, {64, 128}, 24, 750},   {128, 64, {64, 64}, 8, 620},     {64, 128, {64, 64}, 16, 600}};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static bool shape(const Kernel *k, const Target *t, GpuProduct *x, GpuBulk bulk[2]) { return gpu_matrix_product(k, t, x) && gpu_bulks(x, bulk); }

static bool wgmma_match(const Kernel *k, const Target *t) {
    GpuProduct x;
    GpuBulk bulk[2];
    return shape(k, t, &x, bulk);
}

static int64_t sums_bytes(void) {
    static const int piece[2] = {PIECE, PIECE};
    return gpu_tiles_bytes(piece, 1, 0, 0);
}

static int wgmma_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    GpuProduct x;
    GpuBulk bulk[2];
    int n = 0;
    if (!shape(k, t, &x, bulk)) return 0;
    for (int i = 0, cluster = 1; cluster <= MOST_CLUSTER && n < max; i = (i + 1) % N_SIZES, cluster += i == 0) {
        if (sizes[i].cols % (cluster * TALL)) continue;
        int64_t left = t->shared - CONSUMERS * sums_bytes(), stages = left / ((sizes[i].rows + sizes[i].cols) * LINE + 2 * GPU_MBARRIER);
        int64_t par[] = {sizes[i].rows, sizes[i].cols, cluster, stages < MOST_STAGES ? stages : MOST_STAGES, sizes[i].group / cluster};
        memcpy(out[n++].par, par, sizeof par);
    }
    return n;
}

static const Size *size_of(const Sched *s) {
    int i = 0;
    while (sizes[i].rows != s->par[PAR_ROWS] || sizes[i].cols != s->par[PAR_COLS]) i++;
    return &sizes[i];
}

/* Columns that come once for two blocks are worth a little where each multiprocessor has many tiles; else waiting for each other costs it. */
enum { MANY_TILES = 4 * 132 };
#define SHARED_GAIN 0.02

static double wgmma_cost(const Kernel *k, const Sched *s, const Target *t) {
    GpuProduct x;
    GpuBulk bulk[2];
    if (!shape(k, t, &x, bulk)) return 1e30;
    double speed = size_of(s)->speed * 2 / gpu_bytes(&x), depth = dim_typical(k->c, gpu_depth(&x));
    speed *= fmax(depth, 1) / fmax(dim_typical(k->c, gpu_bulk_steps(&x, bulk)) * LINE / gpu_bytes(&x), 1); /* what of it is no zeros */
    int rows = (int)s->par[PAR_ROWS], cols = (int)s->par[PAR_COLS];
    if (s->par[PAR_CLUSTER] > 1) {
        bool whole = dim_typical(k->c, gpu_rows(&x, 0)) > rows; /* else one of the blocks has nothing to do */
        speed *= whole && gpu_tiles_of(&x, rows, cols) >= MANY_TILES ? 1 + SHARED_GAIN : 1 - SHARED_GAIN;
    }
    return gpu_tile_cost(&x, rows, cols, speed / 2);
}

/* ---- code ---- */

typedef struct Wg {
    GpuTiles g;            /* of a piece, as gpu_leave wants it: rows, threads, mem, tid, count, first, at */
    const Size *size;
    GpuBulk bulk[2];
    int stages, turned[2], cluster;
    int64_t slot, base[2]; /* bytes of a stage; where in it a side begins */
    LVal mem, full, empty; /* shared memory; where in it the first barriers are */
    LVal tiles[2], steps, first[2]; /* first: rows of the tile */
    LVal number, part[2];  /* of a consumer: 0 or 1; where in a tile its rows begin */
    LVal rank;             /* of the block in its cluster */
} Wg;

static int rows_of(const Wg *w, int side) { return side ? w->size->cols : w->size->rows; }

static int brought(const Wg *w, int side) { return side ? w->size->cols / w->cluster : w->size->rows; } /* by a block */

static GpuRing ring_begin(const Wg *w, int parity) { return (GpuRing){{lir_i64(w->g.l, 0), lir_i64(w->g.l, parity)}}; }
static LVal barrier_at(const Wg *w, LVal first, LVal stage) { return lir_add(w->g.l, first, lir_muli(w->g.l, stage, GPU_MBARRIER)); }

/* Tile t (of a cluster: t counts its blocks, whose tiles are below each other): groups of tiles along rows, all columns of a group before the next;
 * their numbers have 32 bits. */
static void find_tile(Wg *w, LVal t) {
    Lir *l = w->g.l;
    GpuTiles *g = &w->g;
    LVal n[2], at[2];
    for (int side = 0; side < 2; side++) n[side] = lir_cast(l, w->tiles[side], DT_I32);
    LVal all = lir_mul(l, n[0], n[1]), number = lir_cast(l, lir_divi(l, t, w->cluster), DT_I32), in = lir_op2(l, S_REM, number, all);
    LVal group = lir_int(l, DT_I32, w->g.e->s->par[PAR_GROUP]);
    LVal wide = lir_mul(l, n[1], group), first = lir_mul(l, lir_op2(l, S_DIV, in, wide), group), rest = lir_op2(l, S_REM, in, wide);
    LVal high = lir_op2(l, S_MIN, lir_sub(l, n[0], first), group);
    at[0] = lir_add(l, first, lir_op2(l, S_REM, rest, high));
    at[1] = lir_op2(l, S_DIV, rest, high);
    for (int side = 0; side < 2; side++) w->first[side] = lir_muli(l, lir_cast(l, at[side], DT_I64), rows_of(w, side) * (side ? 1 : w->cluster));
    if (w->cluster > 1) w->first[0] = lir_add(l, w->first[0], lir_muli(l, w->rank, rows_of(w, 0)));
    for (int a = 0; a < K_AXES; a++) g->at[a] = lir_i64(l, 0);
    gpu_split(g->e, &g->x, lir_cast(l, lir_op2(l, S_DIV, number, all), DT_I64), g->x.batch, g->x.nbatch, g->at);
}

/* What a block of a cluster brings may all be beyond the last row, where windows have no points: then it is other rows, whose results are dropped. */
static LVal row_there(const Wg *w, int side, LVal row) {
    Lir *l = w->g.l;
    return w->cluster == 1 ? row : lir_op3(l, S_SELECT, lir_op2(l, S_LT, row, w->g.count[side]), row, lir_i64(l, 0));
}

/* One thread's work. */
static void produce(Wg *w) {
    Emit *e = w->g.e;
    Lir *l = e->l;
    GpuRing r = ring_begin(w, 1);
    LFor t = lir_for_tasks(l, lir_tstep(l), 2, r.at);
    find_tile(w, t.iv);
    LVal own[2] = {lir_i64(l, 0), lir_i64(l, 0)}; /* rows before those of a side that this block brings */
    if (w->cluster > 1) own[1] = lir_muli(l, w->rank, brought(w, 1));
    for (int side = 0; side < 2; side++) {
        LVal first = row_there(w, side, lir_add(l, w->first[side], own[side]));
        gpu_bulk_tile(e, &w->g.x, side, &w->bulk[side], w->g.at, first);
    }
    LFor k = lir_for(l, lir_i64(l, 0), w->steps, lir_i64(l, 1), 2, t.c);
    memcpy(r.at, k.c, sizeof r.at);
    LVal full = barrier_at(w, w->full, r.at[0]), slot = lir_muli(l, r.at[0], w->slot);
    lir_mbarrier_wait(l, w->mem, barrier_at(w, w->empty, r.at[0]), r.at[1]);
    lir_mbarrier_expect(l, w->mem, full, lir_i64(l, w->slot));
    for (int side = 0; side < 2; side++) {
        LVal to = lir_addi(l, lir_add(l, slot, lir_muli(l, own[side], LINE)), w->base[side]);
        gpu_bulk_load(e, &w->g.x, side, &w->bulk[side], brought(w, side), k.iv, w->mem, to, full);
    }
    gpu_ring_next(l, w->stages, &r);
    lir_for_end(l, &k, r.at, r.at);
    lir_for_end(l, &t, r.at, r.at);
}

/* The stage before this one has been read. */
static void give_back(const Wg *w, LVal condition, LVal stage) {
    Lir *l = w->g.l;
    LIf i = lir_if(l, condition, 0);
    LVal last = lir_op2(l, S_EQ, stage, lir_i64(l, 0)), before = lir_op3(l, S_SELECT, last, lir_i64(l, w->stages), stage);
    LVal empty = barrier_at(w, w->empty, lir_addi(l, before, -1));
    if (w->cluster == 1) lir_mbarrier_arrive(l, w->mem, empty);
    for (int r = 0; r < w->cluster && w->cluster > 1; r++) lir_mbarrier_arrive_at(l, w->mem, empty, lir_i64(l, r));
    lir_else(l, &i, NULL);
    lir_endif(l, &i, NULL, NULL);
}

/* All products of a stage. */
static void multiply(const Wg *w, LVal stage, LVal *sum) {
    Lir *l = w->g.l;
    int tall = w->size->part[0] / TALL, n = w->size->part[1];
    LVal at[2];
    LVal slot = lir_muli(l, stage, w->slot);
    for (int side = 0; side < 2; side++) at[side] = lir_addi(l, lir_add(l, slot, lir_muli(l, w->part[side], LINE)), w->base[side]);
    for (int step = 0; step < STEPS; step++)
        for (int i = 0; i < tall; i++) {
            LProduct p = {.in = w->g.x.side[0].type, .a = w->mem, .b = w->mem, .a_turned = w->turned[0], .b_turned = w->turned[1],
                          .b_panel = TALL * LINE};
            p.a_at = lir_addi(l, at[0], step * (w->turned[0] ? TURNED_STEP : STEP) + (int64_t)i * TALL * LINE);
            p.b_at = lir_addi(l, at[1], step * (w->turned[1] ? TURNED_STEP : STEP));
            lir_wgmma(l, &p, (uint32_t)n, sum + i * n / 8);
        }
}

/* The sums of the tile; the stage before the newest is given back while that is multiplied. */
static void along_depth(const Wg *w, GpuRing *r, LVal *sum) {
    Lir *l = w->g.l;
    uint32_t n = (uint32_t)(w->size->part[0] / TALL * w->size->part[1] / 8);
    LVal next[MOST_SUMS + 2], zero = lir_i64(l, 0), first = lir_op2(l, S_EQ, w->g.tid, zero);
    for (uint32_t i = 0; i < n; i++) next[i] = lir_splat(l, gpu_zero(l, w->g.x.s->acc[0]), 4);
    memcpy(next + n, r->at, sizeof r->at);
    LFor k = lir_for(l, zero, w->steps, lir_i64(l, 1), n + 2, next);
    memcpy(next, k.c, n * sizeof *next);
    memcpy(r->at, k.c + n, sizeof r->at);
    lir_mbarrier_wait(l, w->mem, barrier_at(w, w->full, r->at[0]), r->at[1]);
    lir_wgmma_fence(l, n, next);
    multiply(w, r->at[0], next);
    lir_wgmma_commit(l);
    lir_wgmma_wait(l, 1, 0, NULL);
    give_back(w, lir_op2(l, S_AND, first, lir_op2(l, S_GT, k.iv, zero)), r->at[0]);
    gpu_ring_next(l, w->stages, r);
    memcpy(next + n, r->at, sizeof r->at);
    lir_for_end(l, &k, next, next);
    lir_wgmma_wait(l, 0, n, next);
    memcpy(r->at, next + n, sizeof r->at);
    give_back(w, lir_op2(l, S_AND, first, lir_op2(l, S_GT, w->steps, zero)), r->at[0]);
    memcpy(sum, next, n * sizeof *sum);
}

/* Vector j of the sums of 64 rows: of row 16 * warp + lane / 4 and of that eight below, columns 8 j + lane % 4 * 2 and the next. */
static void store_piece(const Wg *w, const LVal *sum) {
    const GpuTiles *g = &w->g;
    Lir *l = g->l;
    LVal lane = lir_remi(l, g->tid, 32), top = lir_muli(l, lir_divi(l, g->tid, 32), 16);
    top = lir_add(l, top, lir_divi(l, lane, 4));
    for (int j = 0; j < PIECE / 8; j++)
        for (int r = 0; r < 4; r++) {
            LVal row = lir_addi(l, top, r / 2 * 8), col = lir_addi(l, lir_muli(l, lir_remi(l, lane, 4), 2), j * 8 + r % 2);
            LVal v = lir_extract(l, sum[j], (uint16_t)r);
            if (g->x.near && r % 2) continue;
            if (g->x.near) v = lir_splat(l, v, 2), v = lir_insert(l, v, 1, lir_extract(l, sum[j], (uint16_t)(r + 1)));
            lir_store(l, g->mem, gpu_sum_at(g, row, col), v, (LVal){0}, g->x.near ? 8 : 4);
        }
}

/* The threads of a consumer meet. */
static void meet(const Wg *w) {
    Lir *l = w->g.l;
    LIf i = lir_if(l, lir_op2(l, S_EQ, w->number, lir_i64(l, 0)), 0);
    lir_barrier_some(l, 1, GROUP);
    lir_else(l, &i, NULL);
    lir_barrier_some(l, 2, GROUP);
    lir_endif(l, &i, NULL, NULL);
}

/* The pieces of a consumer, one after the other; code for their way out is there once. */
static void results(Wg *w, const LVal *sum) {
    GpuTiles *g = &w->g;
    Lir *l = g->l;
    int across = w->size->part[1] / PIECE, n = w->size->part[0] / TALL * across;
    LFor p = lir_for(l, lir_i64(l, 0), lir_i64(l, n), lir_i64(l, 1), 0, NULL);
    LVal down = lir_divi(l, p.iv, across), right = lir_remi(l, p.iv, across);
    meet(w);
    for (int i = 0; i < n; i++) {
        LIf own = lir_if(l, lir_op2(l, S_EQ, p.iv, lir_i64(l, i)), 0);
        store_piece(w, sum + i * (PIECE / 8));
        lir_else(l, &own, NULL);
        lir_endif(l, &own, NULL, NULL);
    }
    meet(w);
    for (int side = 0; side < 2; side++) g->first[side] = lir_add(l, w->first[side], w->part[side]);
    g->first[0] = lir_add(l, g->first[0], lir_muli(l, down, TALL));
    g->first[1] = lir_add(l, g->first[1], lir_muli(l, right, PIECE));
    gpu_leave(g);
    lir_for_end(l, &p, NULL, NULL);
}

/* A warpgroup's work. */
static void consume(Wg *w) {
    Lir *l = w->g.l;
    LVal sum[MOST_SUMS];
    GpuRing r = ring_begin(w, 0);
    LFor t = lir_for_tasks(l, lir_tstep(l), 2, r.at);
    memcpy(r.at, t.c, sizeof r.at);
    find_tile(w, t.iv);
    along_depth(w, &r, sum);
    results(w, sum);
    lir_for_end(l, &t, r.at, r.at);
}

/* Everything but code: sizes, tasks, shared memory, maps. sums: where in shared memory the pieces are. */
static void plan(Wg *w, int64_t *sums) {
    Emit *e = w->g.e;
    Lir *l = e->l;
    Ctx *c = e->c;
    GpuTiles *g = &w->g;
    CHECK(shape(e->k, e->t, &g->x, w->bulk));
    Dim tasks = dim_muli(c, gpu_batches(&g->x), w->cluster);
    w->base[1] = (int64_t)rows_of(w, 0) * LINE;
    w->slot = w->base[1] + (int64_t)rows_of(w, 1) * LINE;
    *sums = w->stages * w->slot;
    int64_t full = *sums + CONSUMERS * sums_bytes(), empty = full + w->stages * GPU_MBARRIER;
    lir_block(l, THREADS, (uint32_t)(empty + w->stages * GPU_MBARRIER));
    lir_resident(l);
    if (w->cluster > 1) lir_cluster(l, (uint32_t)w->cluster);
    w->mem = lir_shared(l, 0);
    w->full = lir_i64(l, full), w->empty = lir_i64(l, empty);
    w->steps = emit_dim(e, gpu_bulk_steps(&g->x, w->bulk));
    e->code->map = NEWN(c, KMap, 2);
    for (int side = 0; side < 2; side++) {
        Dim n = gpu_rows(&g->x, side), tiles = dim_ceildiv(c, n, dim_const(c, rows_of(w, side) * (side ? 1 : w->cluster)));
        g->count[side] = emit_dim(e, n);
        w->tiles[side] = emit_dim(e, tiles);
        w->turned[side] = !g->x.side[side].near_k;
        tasks = dim_mul(c, tasks, tiles);
        w->bulk[side].to_all = side && w->cluster > 1;
        gpu_bulk_map(e, &g->x, side, brought(w, side), &w->bulk[side]);
    }
    e->code->tasks = tasks;
}

static void wgmma_build(Emit *e) {
    Lir *l = e->l;
    Wg w = {.g = {.e = e, .l = l, .rows = {PIECE, PIECE}, .threads = GROUP}, .size = size_of(e->s), .stages = (int)e->s->par[PAR_STAGES]};
    int64_t sums;
    w.cluster = (int)e->s->par[PAR_CLUSTER];
    plan(&w, &sums);
    w.rank = lir_remi(l, lir_t0(l), w.cluster);
    w.g.tid = lir_tid(l);
    gpu_ring_barriers(l, w.mem, w.g.tid, w.full, w.empty, w.stages, (uint32_t)(CONSUMERS * w.cluster));
    LVal group = lir_lane_first(l, lir_cast(l, lir_divi(l, w.g.tid, GROUP), DT_I32));
    LIf role = lir_if(l, lir_op2(l, S_EQ, group, lir_int(l, DT_I32, 0)), 0);
    lir_registers(l, FEW_REGISTERS, false);
    LIf one = lir_if(l, lir_op2(l, S_EQ, w.g.tid, lir_i64(l, 0)), 0);
    produce(&w);
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
    lir_else(l, &role, NULL);
    lir_registers(l, MANY_REGISTERS, true);
    w.number = lir_addi(l, lir_cast(l, group, DT_I64), -1);
    w.part[0] = w.part[1] = lir_i64(l, 0);
    int halved = w.size->part[0] == w.size->rows;
    w.part[halved] = lir_muli(l, w.number, w.size->part[halved]);
    w.g.tid = lir_remi(l, w.g.tid, GROUP);
    w.g.mem = lir_ptr_bytes(l, w.mem, lir_addi(l, lir_muli(l, w.number, sums_bytes()), sums));
    consume(&w);
    lir_endif(l, &role, NULL, NULL);
    if (w.cluster > 1) lir_cluster_barrier(l);
}

const Tmpl tmpl_wgmma = {"wgmma", "rows cols cluster stages group", F_BLOCKS | F_WGMMA, wgmma_match, wgmma_candidates, wgmma_cost, wgmma_build};
