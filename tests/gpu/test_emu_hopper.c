/* test_emu_hopper.c: kernels of targets with F_WGMMA, written in Lir, on the emulator: products of
 * every type and layout are right, and so is a gemm with a warpgroup that brings and two that
 * multiply; every bug that is planted in that is found: by a message, or, where all that happens is
 * lawful, by the result. Each launch is in a process of its own. */
#include "emu_child.h"

#define NONE ((LVal){0})

/* ---- launches ---- */

enum { BUFFER = 1 << 17, BUFFERS = 3, GAP = 4096, MOST_MAPS = 3 };
typedef struct Memory { /* of the device, shared with the process that runs the kernel */
    uint8_t buffer[BUFFERS][BUFFER + GAP];
} Memory;
static Memory *memory;

static bool on_device(const void *p, size_t n) {
    size_t at = (size_t)((const uint8_t *)p - memory->buffer[0]), k = at / sizeof memory->buffer[0];
    return k < BUFFERS && at % sizeof memory->buffer[0] + n <= BUFFER;
}

static void memory_new(void) {
    memory = shared_memory(sizeof *memory);
    memset(memory, 0xff, sizeof *memory);
}

typedef struct Words { /* what a launch is given */
    emu_map map[MOST_MAPS];
    int64_t word[BUFFERS + 5];
} Words;

/* The matrix in a buffer: rows of `columns` elements. */
static emu_map matrix_map(const LMap *m, int buffer, int64_t rows, int64_t columns) {
    uint32_t size = (uint32_t)dt_bytes((DType)m->dt, 1);
    return (emu_map){EMU_IS_MAP,
                     memory->buffer[buffer],
                     {(uint64_t)columns, (uint64_t)rows},
                     {size, size * (uint64_t)columns},
                     {m->box[0], m->box[1]},
                     2,
                     .swizzled = (uint8_t)m->swizzled};
}

/* Runs a kernel of so many tasks by one block; whether it came to its end. The maps lie before the
 * words. */
static bool launch(Ctx *c, void *twins, const Lir *l, const emu_map *map, int64_t dim,
                   int64_t tasks, const char *seed) {
    uint8_t *block = calloc(1, sizeof(Words));
    uint32_t status = 0, n = 0, maps = lir_nmap(l);
    ck_assert(block && maps <= MOST_MAPS);
    memcpy(block, map, maps * sizeof *map);
    int64_t *word = (int64_t *)(void *)(block + maps * sizeof *map);
    for (uint32_t k = 0; k < lir_nbuf(l); k++) word[n++] = (int64_t)(uintptr_t)memory->buffer[k];
    if (lir_ndim(l)) word[n++] = dim;
    word[n++] = tasks, word[n++] = 0, word[n++] = 0, word[n++] = (int64_t)(uintptr_t)&status;
    emu_launch x = {lir_name(l),         twin_of(c, twins, l), block, 1,    lir_block_threads(l),
                    lir_shared_bytes(l), memory->buffer[0],    0,     true, on_device,
                    lir_cluster_blocks(l)};
    bool ends = child_launch(&x, seed, false);
    free(block);
    return ends;
}

static void only(Lir *l, LVal condition, LIf *i) { *i = lir_if(l, condition, 0); }
static void only_end(Lir *l, LIf *i) {
    lir_else(l, i, NULL);
    lir_endif(l, i, NULL, NULL);
}
static LVal at(Lir *l, int64_t v) { return lir_i64(l, v); }
static LVal equal(Lir *l, LVal a, int64_t b) { return lir_op2(l, S_EQ, a, lir_i64(l, b)); }

/* Stores the sums of a warpgroup: rows of `columns` numbers from element `from` of buffer b on. */
static void store_sums(Lir *l, uint32_t b, LVal from, LVal t, uint32_t columns, const LVal *sum) {
    LVal warp = lir_op2(l, S_AND, lir_shru(l, t, lir_i64(l, 5)), lir_i64(l, 3)),
         g = lir_op2(l, S_AND, lir_shru(l, t, lir_i64(l, 2)), lir_i64(l, 7));
    LVal row = lir_add(l, lir_muli(l, warp, 16), g),
         column = lir_muli(l, lir_op2(l, S_AND, t, lir_i64(l, 3)), 2);
    LVal place = lir_add(l, from, lir_add(l, lir_muli(l, row, columns), column));
    for (uint32_t j = 0; j < columns / 8; j++)
        for (int e = 0; e < 4; e++)
            lir_store(l, lir_buf(l, b), lir_addi(l, place, 8 * j + e % 2 + e / 2 * 8 * columns),
                      lir_extract(l, sum[j], (uint16_t)e), NONE, 0);
}

/* ---- one product: c[64][n] = 1 + a[64][2 steps] b[2 steps][n] ---- */

typedef struct Product {
    DType in;
    int n;
    bool a_turned, b_turned, fragments,
        bulk; /* bulk: what is not turned is a whole panel of 128 bytes, brought by bulk_load */
} Product;
static const Product product[] = {
    {DT_F16, 64, false, false, false, false}, {DT_BF16, 136, false, false, false, false},
    {DT_F32, 24, false, false, false, false}, {DT_I8, 32, false, false, false, false},
    {DT_U8, 256, false, false, false, false}, {DT_F16, 128, true, true, false, false},
    {DT_BF16, 8, false, true, true, false},   {DT_I8, 16, false, false, true, false},
    {DT_F16, 8, false, false, false, true},
};
enum { PRODUCTS = sizeof product / sizeof *product, A_PANEL = 8192, BAR = 65536 };

static int depth_of(Product p) { return 64 / (int)dt_bytes(p.in, 1); } /* two steps */

static Lir *one_product(Ctx *c, Product p, int k) {
    Lir *l = lir_new(c, ctx_printf(c, "product%d", k), 3, 0);
    uint32_t size = (uint32_t)dt_bytes(p.in, 1), row = 128 / size, depth = (uint32_t)depth_of(p),
             columns = (uint32_t)p.n;
    lir_block(l, 128, BAR + 64);
    LVal t = lir_tid(l), here = lir_shared(l, 0), bar = lir_shared(l, BAR), sum[32];
    uint32_t map[2] = {
        lir_map(
            l,
            (LMap){(uint16_t)p.in, 2, true, .box = {(uint16_t)row, (uint16_t)(p.a_turned ? depth : 64)}}),
        lir_map(l, (LMap){(uint16_t)(p.in == DT_U8 ? DT_I8 : p.in),
                          2,
                          true,
                          .box = {(uint16_t)row, (uint16_t)(p.b_turned ? depth : columns)}})};
    uint32_t panels = p.b_turned ? (columns + 63) / 64 : 1, panel = p.b_turned ? depth * 128 : 0;
    uint32_t bytes =
        (p.a_turned ? depth : 64) * 128 + (p.b_turned ? panels * panel : columns * 128);
    LIf one;
    only(l, equal(l, t, 0), &one);
    lir_mbarrier_init(l, bar, at(l, 0), 1);
    lir_fence_mbarriers(l);
    lir_mbarrier_expect(l, bar, at(l, 0), lir_i64(l, bytes));
    LVal zero[2] = {at(l, 0), at(l, 0)};
    lir_tensor_load(l, here, at(l, 0), map[0], zero, bar, at(l, 0));
    for (uint32_t n = 0; n < panels; n++)
        lir_tensor_load(l, here, at(l, A_PANEL + n * panel), map[1],
                        (LVal[]){at(l, p.b_turned ? 64 * n : 0), at(l, 0)}, bar, at(l, 0));
    only_end(l, &one);
    lir_barrier(l);
    lir_mbarrier_wait(l, bar, at(l, 0), at(l, 0));
    DType of = size == 1 ? DT_I32 : DT_F32;
    for (uint32_t j = 0; j < columns / 8; j++) sum[j] = lir_splat(l, lir_int(l, of, 1), 4);
    LVal fragment[2] = {lir_splat(l, lir_int(l, DT_I32, 0), 4), NONE};
    fragment[1] = fragment[0];
    LVal warp = lir_shru(l, t, lir_i64(l, 5)),
         g = lir_op2(l, S_AND, lir_shru(l, t, lir_i64(l, 2)), lir_i64(l, 7)),
         q = lir_op2(l, S_AND, t, lir_i64(l, 3));
    for (int s = 0; s < 2 && p.fragments; s++)
        for (int r = 0; r < 4; r++) { /* from the buffer: rows of `row` elements */
            LVal word = lir_add(
                l, lir_muli(l, lir_add(l, lir_muli(l, warp, 16), lir_addi(l, g, 8 * (r & 1))), 32),
                lir_addi(l, q, 4 * (r >> 1) + 8 * s));
            fragment[s] = lir_insert(l, fragment[s], (uint16_t)r,
                                     lir_load(l, lir_buf(l, 0), word, (LTy){DT_I32, 1}, NONE, 0));
        }
    lir_wgmma_fence(l, columns / 8, sum);
    if (p.fragments) lir_wgmma_fence(l, 2, fragment);
    for (int s = 0; s < 2; s++) {
        LProduct x = {p.in,
                      here,
                      at(l, s * (p.a_turned ? 2048 : 32)),
                      here,
                      at(l, A_PANEL + s * (p.b_turned ? 2048 : 32)),
                      p.a_turned,
                      p.b_turned,
                      panel,
                      NONE};
        if (p.fragments) x.a = fragment[s], x.a_at = NONE;
        lir_wgmma(l, &x, columns, sum);
    }
    lir_wgmma_commit(l);
    lir_wgmma_wait(l, 0, columns / 8, sum);
    store_sums(l, 2, at(l, 0), t, columns, sum);
    return l;
}

static double number(int i, int k, DType t, bool left) {
    int v = (i * 37 + k * 101) % 64 - 32;
    return t == DT_U8 && left ? v + 32 : dt_is_float(t) ? v / 8.0 : v;
}

START_TEST(products_are_right) {
    Ctx *c = ctx_new();
    Lir *l[PRODUCTS];
    for (int k = 0; k < PRODUCTS; k++) {
        l[k] = one_product(c, product[k], k);
        ck_assert_msg(lir_verify(c, l[k]), "%s", ctx_messages(c));
    }
    void *twins = twins_open(c, PRODUCTS, l);
    for (int x = 0; x < PRODUCTS; x++) {
        Product p = product[x];
        memory_new();
        int depth = depth_of(p), row = 2 * depth; /* of which depth are used */
        emu_map map[2];
        for (int o = 0; o < 2; o++) {
            bool turned = o ? p.b_turned : p.a_turned;
            DType t = o && p.in == DT_U8 ? DT_I8 : p.in;
            int rows = o ? p.n : 64, columns = turned ? rows : row;
            for (int i = 0; i < rows; i++)
                for (int k = 0; k < row; k++) {
                    double v = number(i + 3 * o, k, p.in, !o);
                    Scalar s = {t, {.i = (int64_t)v}};
                    if (dt_is_float(t)) s.f = v;
                    if (!turned || k < depth)
                        dt_store(t, memory->buffer[o],
                                 (size_t)(turned ? k * columns + i : i * columns + k), s);
                }
            map[o] = matrix_map(&lir_maps(l[x])[o], o, turned ? depth : rows, columns);
        }
        ck_assert_msg(launch(c, twins, l[x], map, 0, 1, NULL), "product %d: %s", x, child_text);
        for (int i = 0; i < 64; i++)
            for (int j = 0; j < p.n; j++) {
                DType t = dt_bytes(p.in, 1) == 1 ? DT_I32 : DT_F32;
                Scalar s = dt_load(t, memory->buffer[2], (size_t)(i * p.n + j));
                double want = 1, got = t == DT_I32 ? (double)s.i : s.f;
                for (int k = 0; k < depth; k++)
                    want += number(i, k, p.in, true) * number(j + 3, k, p.in, false);
                ck_assert_msg(got == want, "product %d: c[%d][%d] is %g instead of %g", x, i, j,
                              got, want);
            }
        munmap(memory, sizeof *memory);
    }
    ctx_free(c);
}
END_TEST

/* ---- a gemm: c[200][64] = a[200][K] b[64][K]^T of f16, in tiles of 128 rows and stages of 64
 * columns ---- */

typedef enum {
    RIGHT,
    EVERY_WAIT, /* right as well: the products of a stage are waited for at once */
    NO_INIT_BARRIER,
    NO_INIT_FENCE,
    NO_FULL_WAIT,
    NO_EMPTY_WAIT,
    WRONG_PARITY,
    MORE_BYTES,
    LESS_BYTES,
    UNRELEASED,
    TWICE_RELEASED,
    EARLY_RELEASE,
    WEAK_WAIT,
    NO_COMMIT,
    NO_FENCE,
    NO_LAST_WAIT,
    OTHER_STAGE,
    SWIZZLE,
    OTHER_STEP,
    OUT_OF_STAGES,
    OUT_OF_MEMORY,
    OTHER_TILE,
    ROWS_OF_OTHERS,
    NO_STORE_FENCE,
    NO_STORE_BARRIER,
    NO_READ_WAIT,
    NO_STORE_COMMIT,
    FEW_AT_BARRIER,
    SAME_BARRIER,
    MANY_REGISTERS,
    BUGS
} Bug;
enum {
    M = 200,
    N = 64,
    K = 224,
    TILE = 128,
    DEPTH = 64,
    STAGES = 3,
    PANEL = TILE * 128,
    STAGE = PANEL + N * 128,
    OUT_TILE = 64 * N * 4,
    THREADS = 384
};
enum {
    AT_OUT = STAGES * STAGE,
    AT_FULL = AT_OUT + 2 * OUT_TILE,
    AT_EMPTY = AT_FULL + 8 * STAGES,
    SHARED_ALL = AT_EMPTY + 8 * STAGES,
    VALUES = N / 8
};

typedef struct Ring {
    LVal slot, parity;
} Ring;
static Ring turn(Lir *l, Ring r, int64_t stages) {
    LVal next = lir_addi(l, r.slot, 1), over = lir_op2(l, S_EQ, next, lir_i64(l, stages));
    return (Ring){lir_op3(l, S_SELECT, over, lir_i64(l, 0), next),
                  lir_op3(l, S_SELECT, over, lir_op2(l, S_XOR, r.parity, lir_i64(l, 1)), r.parity)};
}

typedef struct Gemm {
    Lir *l;
    Bug bug;
    uint32_t map[3];
    LVal t, full, empty, group; /* group: 0 brings, 1 and 2 multiply */
} Gemm;
static LVal steps(Lir *l) { return lir_i64(l, (K + DEPTH - 1) / DEPTH); }

static void bring(Gemm *g) {
    Lir *l = g->l;
    LIf one;
    LVal init[2] = {lir_i64(l, 0), lir_i64(l, g->bug == WRONG_PARITY ? 0 : 1)}, out[2];
    lir_registers(l, 40, false);
    only(l, equal(l, g->t, 0), &one);
    LFor task = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 2, init);
    LFor f = lir_for(l, lir_i64(l, 0), steps(l), lir_i64(l, 1), 2, task.c);
    Ring r = {f.c[0], f.c[1]};
    LVal bar = lir_muli(l, r.slot, 8), stage = lir_muli(l, r.slot, STAGE),
         k = lir_muli(l, f.iv, DEPTH), row = lir_muli(l, task.iv, TILE);
    if (g->bug != NO_EMPTY_WAIT) lir_mbarrier_wait(l, g->empty, bar, r.parity);
    lir_mbarrier_expect(l, g->full, bar,
                        lir_i64(l, STAGE + (g->bug == MORE_BYTES   ? 16
                                            : g->bug == LESS_BYTES ? -16
                                                                   : 0)));
    if (g->bug == OTHER_TILE) row = lir_addi(l, row, 1);
    LVal to = stage;
    if (g->bug == OTHER_STAGE) to = lir_muli(l, turn(l, r, STAGES).slot, STAGE);
    lir_tensor_load(l, lir_shared(l, 0), to, g->map[0], (LVal[]){k, row}, g->full, bar);
    lir_tensor_load(l, lir_shared(l, PANEL), stage, g->map[1], (LVal[]){k, lir_i64(l, 0)}, g->full,
                    bar);
    r = turn(l, r, g->bug == OUT_OF_STAGES ? STAGES + 2 : STAGES);
    lir_for_end(l, &f, (LVal[]){r.slot, r.parity}, out);
    lir_for_end(l, &task, out, out);
    only_end(l, &one);
}

/* The tile goes through shared memory, rows of N numbers without a swizzle, which two tiles of the
 * map cover. */
static void put_out(Gemm *g, LVal task, LVal first, const LVal *sum) {
    Lir *l = g->l;
    LIf one;
    LVal mine = lir_addi(l, g->group, -1), out = lir_muli(l, mine, OUT_TILE / 4),
         warp = lir_op2(l, S_AND, lir_shru(l, g->t, lir_i64(l, 5)), lir_i64(l, 3));
    only(l, first, &one);
    if (g->bug != NO_READ_WAIT) lir_bulk_wait(l, 0, true);
    only_end(l, &one);
    LVal place = lir_add(
        l,
        lir_add(
            l, out,
            lir_muli(l,
                     lir_add(l, lir_muli(l, warp, 16),
                             lir_op2(l, S_AND, lir_shru(l, g->t, lir_i64(l, 2)), lir_i64(l, 7))),
                     N)),
        lir_muli(l, lir_op2(l, S_AND, g->t, lir_i64(l, 3)), 2));
    LIf group[2];
    for (uint32_t w = 1; w < 3; w++) { /* numbers of barriers are part of the code */
        only(l, equal(l, g->group, w), &group[w - 1]);
        lir_barrier_some(l, g->bug == SAME_BARRIER ? 1 : w, g->bug == FEW_AT_BARRIER ? 160 : 128);
        only_end(l, &group[w - 1]);
    }
    for (uint32_t j = 0; j < VALUES; j++)
        for (int e = 0; e < 4; e++)
            lir_store(l, lir_shared(l, AT_OUT), lir_addi(l, place, 8 * j + e % 2 + e / 2 * 8 * N),
                      lir_extract(l, sum[j], (uint16_t)e), NONE, 0);
    if (g->bug != NO_STORE_FENCE) lir_fence_async(l);
    for (uint32_t w = 1; w < 3 && g->bug != NO_STORE_BARRIER; w++) {
        only(l, equal(l, g->group, w), &group[w - 1]);
        lir_barrier_some(l, w + 2, 128);
        only_end(l, &group[w - 1]);
    }
    only(l, first, &one);
    LVal row = lir_add(l, lir_muli(l, task, TILE), lir_muli(l, mine, 64));
    lir_tensor_store(l, lir_shared(l, AT_OUT), lir_muli(l, out, 4), g->map[2],
                     (LVal[]){lir_i64(l, 0), row});
    if (g->bug != NO_STORE_COMMIT) lir_bulk_commit(l);
    only_end(l, &one);
}

static void multiply(Gemm *g) {
    Lir *l = g->l;
    Bug bug = g->bug;
    LVal init[VALUES + 3], out[VALUES + 3], ring[2] = {lir_i64(l, 0), lir_i64(l, 0)}, c[VALUES];
    LIf one;
    lir_registers(l, bug == MANY_REGISTERS ? 240 : 232, true);
    LVal low = lir_op2(l, S_AND, g->t, lir_i64(l, 127)), first = equal(l, low, 0);
    LFor task = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 2, ring);
    for (int j = 0; j < VALUES; j++) init[j] = lir_splat(l, lir_float(l, DT_F32, 0), 4);
    init[VALUES] = task.c[0], init[VALUES + 1] = task.c[1], init[VALUES + 2] = lir_i64(l, 0);
    LFor f = lir_for(l, lir_i64(l, 0), steps(l), lir_i64(l, 1), VALUES + 3, init);
    Ring r = {f.c[VALUES], f.c[VALUES + 1]};
    LVal bar = lir_muli(l, r.slot, 8), stage = lir_muli(l, r.slot, STAGE), before = f.c[VALUES + 2];
    memcpy(c, f.c, sizeof c);
    if (bug != NO_FULL_WAIT) lir_mbarrier_wait(l, g->full, bar, r.parity);
    if (bug != NO_FENCE) lir_wgmma_fence(l, 0, NULL);
    LVal rows = lir_add(
        l, stage, lir_muli(l, lir_addi(l, g->group, bug == ROWS_OF_OTHERS ? 0 : -1), 64 * 128));
    for (int k = 0; k < 4; k++) {
        LProduct p = {DT_F16,
                      lir_shared(l, 0),
                      lir_addi(l, rows, 32 * k),
                      lir_shared(l, PANEL),
                      lir_addi(l, stage, 32 * (bug == OTHER_STEP ? k ^ 1 : k)),
                      false,
                      false,
                      0,
                      NONE};
        if (bug == OUT_OF_MEMORY) p.b_at = lir_addi(l, p.b_at, AT_OUT + OUT_TILE);
        lir_wgmma(l, &p, N, c);
    }
    if (bug != NO_COMMIT) lir_wgmma_commit(l);
    bool at_once = bug == EVERY_WAIT || bug == EARLY_RELEASE;
    lir_wgmma_wait(l, bug == EVERY_WAIT ? 0 : bug == WEAK_WAIT ? 2 : 1, 0, NULL);
    /* The stage before is free: no product under way reads it. */
    LVal may = at_once ? first : lir_op2(l, S_AND, first, lir_op2(l, S_GT, f.iv, lir_i64(l, 0)));
    only(l, may, &one);
    LVal freed = at_once ? bar : before;
    if (bug != UNRELEASED) lir_mbarrier_arrive(l, g->empty, freed);
    if (bug == TWICE_RELEASED) lir_mbarrier_arrive(l, g->empty, freed);
    only_end(l, &one);
    r = turn(l, r, STAGES);
    memcpy(init, c, sizeof c);
    init[VALUES] = r.slot, init[VALUES + 1] = r.parity, init[VALUES + 2] = bar;
    lir_for_end(l, &f, init, out);
    if (bug != NO_LAST_WAIT)
        lir_wgmma_wait(l, 0, VALUES, out);
    else
        lir_wgmma_wait(l, 1, VALUES, out);
    only(l, first, &one);
    if (!at_once) lir_mbarrier_arrive(l, g->empty, out[VALUES + 2]);
    only_end(l, &one);
    put_out(g, task.iv, first, out);
    lir_for_end(l, &task, out + VALUES, ring);
    only(l, first, &one);
    lir_bulk_wait(l, 0, false);
    only_end(l, &one);
}

static Lir *gemm(Ctx *c, Bug bug) {
    Lir *l = lir_new(c, ctx_printf(c, "kernel%d", bug), 3, 0);
    LIf one, part;
    lir_block(l, THREADS, SHARED_ALL);
    Gemm g = {.l = l,
              .bug = bug,
              .t = lir_tid(l),
              .full = lir_shared(l, AT_FULL),
              .empty = lir_shared(l, AT_EMPTY)};
    g.map[0] = lir_map(l, (LMap){DT_F16, 2, true, .box = {DEPTH, TILE}});
    g.map[1] = lir_map(l, (LMap){DT_F16, 2, bug != SWIZZLE, .box = {DEPTH, N}});
    g.map[2] = lir_map(l, (LMap){DT_F32, 2, false, .box = {N, 64}});
    only(l, equal(l, g.t, 0), &one);
    for (int s = 0; s < STAGES; s++)
        lir_mbarrier_init(l, g.full, at(l, 8 * s), 1),
            lir_mbarrier_init(l, g.empty, at(l, 8 * s), 2);
    if (bug != NO_INIT_FENCE) lir_fence_mbarriers(l);
    only_end(l, &one);
    if (bug != NO_INIT_BARRIER) lir_barrier(l);
    g.group = lir_cast(l, lir_lane_first(l, lir_cast(l, lir_shru(l, g.t, lir_i64(l, 7)), DT_I32)),
                       DT_I64);
    part = lir_if(l, equal(l, g.group, 0), 0);
    bring(&g);
    lir_else(l, &part, NULL);
    multiply(&g);
    lir_endif(l, &part, NULL, NULL);
    return l;
}

/* ---- what must be found ---- */

static const char *const says[BUGS] = {
    /* NULL: the result is wrong; "": one of several things is said */
    [NO_INIT_BARRIER] = "", /* no mbarrier, or its init cannot be seen */
    [NO_INIT_FENCE] = "cannot be seen here",
    [NO_FULL_WAIT] = "", /* a copy is under way, or has not been waited for */
    [NO_EMPTY_WAIT] = "tensor_load: byte ",
    [WRONG_PARITY] = "lacks ",
    [MORE_BYTES] = "lacks 0 arrivals and 16 bytes",
    [LESS_BYTES] = " 16 more bytes have come than were expected",
    [UNRELEASED] = "lacks 2 arrivals and 0 bytes",
    [TWICE_RELEASED] = "",
    [EARLY_RELEASE] = "is read by a product or a store that is under way",
    [WEAK_WAIT] = "is read by a product or a store that is under way",
    [NO_COMMIT] = "",
    [NO_FENCE] = "wgmma: no wgmma_fence is before it",
    [NO_LAST_WAIT] = "a sum is still under way",
    [OTHER_STAGE] = "that this thread has not waited for",
    [OUT_OF_STAGES] = "",
    [OUT_OF_MEMORY] = "of shared memory",
    [NO_STORE_FENCE] = ", and no fence_async is between",
    [NO_STORE_BARRIER] = "and no barrier is between",
    [NO_READ_WAIT] = "store: byte ",
    [NO_STORE_COMMIT] = "",
    [FEW_AT_BARRIER] = "barrier_some ",
    [SAME_BARRIER] = "",
    [MANY_REGISTERS] = "registers",
};

static double left(int i, int k) { return ((i * 7 + k * 5 + i / 3) % 32 - 16) / 8.0; }
static double right(int j, int k) { return ((j * 11 + k * 3 + j / 5) % 32 - 16) / 8.0; }

static bool right_product(void) {
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double want = 0;
            for (int k = 0; k < K; k++) want += left(i, k) * right(j, k);
            if (dt_load(DT_F32, memory->buffer[2], (size_t)(i * N + j)).f != want)
                return false; /* exact: multiples of 1/64 */
        }
    return true;
}

START_TEST(bugs_are_found) {
    static const char *const seeds[] = {NULL, "1", "2"};
    Ctx *c = ctx_new();
    Lir *l[BUGS];
    for (int b = 0; b < BUGS; b++) {
        l[b] = gemm(c, (Bug)b);
        ck_assert_msg(lir_verify(c, l[b]), "%s", ctx_messages(c));
    }
    void *twins = twins_open(c, BUGS, l);
    for (int k = 0; k < 3 * BUGS; k++) {
        int bug = k / 3;
        if (bug > EVERY_WAIT && bug % 3 != k % 3) continue; /* bugs have one seed each */
        memory_new();
        for (int x = 0; x < K; x++) {
            for (int i = 0; i < M; i++)
                dt_store(DT_F16, memory->buffer[0], (size_t)(i * K + x),
                         (Scalar){DT_F16, {.f = left(i, x)}});
            for (int j = 0; j < N; j++)
                dt_store(DT_F16, memory->buffer[1], (size_t)(j * K + x),
                         (Scalar){DT_F16, {.f = right(j, x)}});
        }
        emu_map map[3];
        for (int o = 0; o < 3; o++)
            map[o] = matrix_map(&lir_maps(l[bug])[o], o, o == 1 ? N : M, o == 2 ? N : K);
        bool ends = launch(c, twins, l[bug], map, 0, (M + TILE - 1) / TILE, seeds[k % 3]),
             is_right = ends && right_product();
        munmap(memory, sizeof *memory);
        if (bug <= EVERY_WAIT) {
            ck_assert_msg(ends, "kernel %d: %s", bug, child_text);
            ck_assert_msg(is_right, "kernel %d: the product is wrong", bug);
            continue;
        }
        ck_assert_msg(!is_right && (ends || says[bug]), "bug %d is not found: %s", bug, child_text);
        if (says[bug])
            ck_assert_msg(!ends && strstr(child_text, says[bug]) != NULL, "bug %d, seed %s: %s",
                          bug, seeds[k % 3] ? seeds[k % 3] : "none", child_text);
    }
    ctx_free(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("emu_hopper");
    TCase *t = tcase_create("emu_hopper");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, products_are_right);
    tcase_add_test(t, bugs_are_found);
    suite_add_tcase(s, t);
    return run_suite(s);
}
