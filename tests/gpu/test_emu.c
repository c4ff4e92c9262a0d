/* test_emu.c: kernels of blocks, written in Lir, on the emulator (emu.h): right ones have right results in any order of threads, and every bug that
 * is planted is found: by a message, or, where all that happens is lawful, by the result. Each launch is in a process of its own. */
#include "emu_child.h"

#define NONE ((LVal){0})
static const LTy f32 = {DT_F32, 1}, i32 = {DT_I32, 1};

/* ---- launches ---- */

enum { BUFFER = 1 << 16, BUFFERS = 3, GAP = 4096, SCRATCH = 256 };
typedef struct Memory { /* of the device, shared with the process that runs the kernel */
    uint8_t buffer[BUFFERS][BUFFER + GAP], scratch[2 * SCRATCH];
} Memory;
static Memory *memory;

static bool on_device(const void *p, size_t n) {
    size_t at = (size_t)((const uint8_t *)p - memory->buffer[0]), k = at / sizeof memory->buffer[0];
    return (k < BUFFERS && at % sizeof memory->buffer[0] + n <= BUFFER) || at - offsetof(Memory, scratch) + n <= sizeof memory->scratch;
}

/* Runs a kernel of so many tasks in a grid of two blocks; whether it came to its end. */
static bool launch(Ctx *c, void *twins, const Lir *l, int64_t dim, int64_t tasks, const char *seed, bool count) {
    uint32_t status = 0, n = 0;
    int64_t word[BUFFERS + 5];
    for (uint32_t k = 0; k < lir_nbuf(l); k++) word[n++] = (int64_t)(uintptr_t)memory->buffer[k];
    if (lir_ndim(l)) word[n++] = dim;
    word[n++] = tasks, word[n++] = (int64_t)(uintptr_t)memory->scratch, word[n++] = SCRATCH, word[n++] = (int64_t)(uintptr_t)&status;
    emu_launch x = {lir_name(l), twin_of(c, twins, l), word, 2, lir_block_threads(l), lir_shared_bytes(l), memory->scratch, SCRATCH, true,
                    on_device, lir_cluster_blocks(l)};
    return child_launch(&x, seed, count);
}

static void memory_new(void) {
    memory = shared_memory(sizeof *memory);
    memset(memory, 0xff, sizeof *memory);
}

/* ---- fragments: c[16][8] of one product, a[16][k] b[8][k], as the manual lays them out ---- */

typedef struct Product {
    DType in;
    int k, bytes;
} Product;
static const Product product[] = {{DT_F32, 8, 4}, {DT_F16, 16, 2}, {DT_BF16, 16, 2}, {DT_I8, 32, 1}, {DT_U8, 32, 1}};

static Lir *fragments(Ctx *c, Product p) {
    Lir *l = lir_new(c, "fragments", 3, 0);
    lir_block(l, 32, 0);
    LVal t = lir_tid(l), g = lir_shru(l, t, lir_i64(l, 2)), q = lir_op2(l, S_AND, t, lir_i64(l, 3));
    DType sum = p.bytes == 1 ? DT_I32 : DT_F32;
    LVal a = lir_splat(l, lir_int(l, DT_I32, 0), 4), b = lir_splat(l, lir_int(l, DT_I32, 0), 2), r[4];
    int pitch = p.k * p.bytes / 4; /* words of a row */
    for (int k = 0; k < 4; k++) {
        LVal row = lir_addi(l, g, 8 * (k & 1)), at = lir_addi(l, lir_add(l, lir_muli(l, row, pitch), q), 4 * (k >> 1));
        a = lir_insert(l, a, (uint16_t)k, lir_load(l, lir_buf(l, 0), at, i32, NONE, 0));
    }
    for (int k = 0; k < 2; k++)
        b = lir_insert(l, b, (uint16_t)k, lir_load(l, lir_buf(l, 1), lir_addi(l, lir_add(l, lir_muli(l, g, pitch), q), 4 * k), i32, NONE, 0));
    LVal d = lir_mma(l, p.in, a, b, lir_splat(l, lir_int(l, sum, 5), 4));
    for (int k = 0; k < 4; k++) {
        r[k] = lir_extract(l, d, (uint16_t)k);
        LVal at = lir_addi(l, lir_add(l, lir_muli(l, lir_addi(l, g, 8 * (k >> 1)), 8), lir_muli(l, q, 2)), k & 1);
        lir_store(l, lir_buf(l, 2), at, r[k], NONE, 0);
    }
    return l;
}

START_TEST(products_are_right) {
    Product p = product[_i];
    Ctx *c = ctx_new();
    memory_new();
    double a[16][32], b[8][32];
    for (int i = 0; i < 24; i++)
        for (int k = 0; k < p.k; k++) {
            double v = p.bytes == 1 ? (i * 37 + k * 101) % 256 - (p.in == DT_U8 && i < 16 ? 0 : 128) : ((i * 37 + k * 101) % 64 - 32) / 8.0;
            DType t = p.in == DT_U8 && i >= 16 ? DT_I8 : p.in;
            Scalar s = {t, {.i = (int64_t)v}};
            if (dt_is_float(t)) s.f = p.in == DT_F32 ? v * (1 + 0x1p-12) : v; /* tf32 has 10 bits after the point, the rest is rounded away */
            dt_store(t, memory->buffer[i >= 16], (size_t)((i >= 16 ? i - 16 : i) * p.k + k), s);
            *(i < 16 ? &a[i][k] : &b[i - 16][k]) = v;
        }
    Lir *l = fragments(c, p);
    ck_assert_msg(lir_verify(c, l), "%s", ctx_messages(c));
    ck_assert_msg(launch(c, twins_open(c, 1, &l), l, 0, 1, NULL, false), "%s", child_text);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            double want = 5, got = dt_load(p.bytes == 1 ? DT_I32 : DT_F32, memory->buffer[2], (size_t)(i * 8 + j)).f;
            if (p.bytes == 1) got = (double)dt_load(DT_I32, memory->buffer[2], (size_t)(i * 8 + j)).i;
            for (int k = 0; k < p.k; k++) want += a[i][k] * b[j][k];
            ck_assert_msg(got == want, "%s: c[%d][%d] is %g instead of %g", dt_name(p.in), i, j, got, want);
        }
    ctx_free(c);
}
END_TEST

/* ---- a pipeline: c[64][64] = a[64][K] b[64][K]^T of f16, in stages of 32 columns ---- */

typedef enum {
    RIGHT,
    NO_BARRIER,
    WEAK_WAIT,
    NO_COMMIT,
    EARLY_STAGE,
    SWIZZLE,
    OUT_OF_STAGES,
    UNALIGNED,
    OUT_OF_MEMORY,
    WRONG_ROWS,
    TRANSPOSED,
    FRAGMENTS,
    NO_SWIZZLE,
    BARRIER_IN_BRANCH,
    SHUFFLE_IN_BRANCH,
    SHUFFLE_OR_BARRIER,
    STORE_RACE,
    IN_SCRATCH,
    SCRATCH_RACE,
    OTHER_SCRATCH,
    WRITE_AFTER_READ,
    VALID,
    BUGS
} Bug;
enum { SIDE = 64, K = 160, DEPTH = 32, STAGES = 3, PANEL = SIDE * DEPTH * 2, STAGE = 2 * PANEL, THREADS = 128 };

static LVal chunk_at(Lir *l, LVal row, LVal chunk, bool swizzle) { /* bytes; rows of four chunks of 16 */
    LVal x = swizzle ? lir_op2(l, S_XOR, chunk, lir_op2(l, S_AND, lir_shru(l, row, lir_i64(l, 1)), lir_i64(l, 3))) : chunk;
    return lir_add(l, lir_muli(l, row, DEPTH * 2), lir_muli(l, x, 16));
}

static void bring(Lir *l, LVal step, Bug bug) { /* the stage's part of both operands */
    LVal t = lir_tid(l), at = lir_muli(l, lir_op2(l, S_REM, step, lir_i64(l, bug == OUT_OF_STAGES ? STAGES + 1 : STAGES)), STAGE);
    LVal left = lir_sub(l, lir_i64(l, K), lir_muli(l, step, DEPTH));
    for (int operand = 0; operand < 2; operand++)
        for (int half = 0; half < 2; half++) {
            LVal row = lir_addi(l, lir_shru(l, t, lir_i64(l, 2)), 32 * half), chunk = lir_op2(l, S_AND, t, lir_i64(l, 3));
            LVal to = chunk_at(l, row, chunk, bug != NO_SWIZZLE && !(bug == SWIZZLE && operand)), from_row = row;
            if (bug == OUT_OF_MEMORY && operand) from_row = lir_addi(l, row, 8 * 64);
            if (bug == WRONG_ROWS && operand) from_row = lir_op2(l, S_XOR, row, lir_i64(l, 1));
            LVal from = lir_muli(l, lir_add(l, lir_muli(l, from_row, K), lir_add(l, lir_muli(l, step, DEPTH), lir_muli(l, chunk, 8))), 2);
            if (bug == UNALIGNED) to = lir_addi(l, to, 8);
            LVal valid = lir_op3(l, S_SELECT, lir_op2(l, S_LT, lir_muli(l, chunk, 8), left), lir_i64(l, bug == VALID ? 8 : 16), lir_i64(l, 0));
            lir_copy_async(l, lir_shared(l, (uint32_t)operand * PANEL), lir_add(l, at, to), lir_buf(l, (uint32_t)operand), from, valid, 16);
        }
    if (bug != NO_COMMIT) lir_copy_commit(l);
}

/* Rows of matrices that a lane names: 16 x 16 elements, k the second half of columns for lanes 16 .. */
static LVal matrix_rows(Lir *l, LVal at, LVal lane, LVal row, int k, bool columns, Bug bug) {
    LVal low = lir_op2(l, S_AND, lane, lir_i64(l, 7)), bit3 = lir_op2(l, S_AND, lir_shru(l, lane, lir_i64(l, 3)), lir_i64(l, 1)),
         bit4 = lir_shru(l, lane, lir_i64(l, 4));
    LVal r = lir_add(l, lir_add(l, row, low), lir_muli(l, columns ? bit4 : bit3, 8)), chunk = lir_addi(l, columns ? bit3 : bit4, k * 2);
    return lir_add(l, at, chunk_at(l, r, chunk, bug != NO_SWIZZLE));
}

static void multiply(Lir *l, LVal step, LVal lane, LVal warp, const LVal *sum, LVal *next, Bug bug) {
    LVal at = lir_muli(l, lir_op2(l, S_REM, step, lir_i64(l, STAGES)), STAGE);
    memcpy(next, sum, 8 * sizeof *next);
    for (int k = 0; k < DEPTH / 16; k++) {
        LVal a = lir_load_matrix(l, lir_shared(l, 0), matrix_rows(l, at, lane, lir_muli(l, warp, 16), k, false, bug), bug == TRANSPOSED);
        if (bug == FRAGMENTS) a = lir_insert(l, lir_insert(l, a, 1, lir_extract(l, a, 2)), 2, lir_extract(l, a, 1));
        for (int n = 0; n < 4; n++) { /* two tiles of 8 columns each */
            LVal w = lir_load_matrix(l, lir_shared(l, PANEL), matrix_rows(l, at, lane, lir_i64(l, 16 * n), k, true, bug), false);
            for (int h = 0; h < 2; h++) {
                LVal b = lir_insert(l, lir_splat(l, lir_extract(l, w, (uint16_t)(2 * h)), 2), 1, lir_extract(l, w, (uint16_t)(2 * h + 1)));
                next[2 * n + h] = lir_mma(l, DT_F16, a, b, next[2 * n + h]);
            }
        }
    }
}

static Lir *pipeline(Ctx *c, Bug bug) {
    Lir *l = lir_new(c, "pipeline", 3, 0);
    lir_block(l, THREADS, STAGES * STAGE);
    LVal t = lir_tid(l), lane = lir_op2(l, S_AND, t, lir_i64(l, 31)), warp = lir_shru(l, t, lir_i64(l, 5)), sum[8], next[8];
    int steps = (K + DEPTH - 1) / DEPTH;
    for (int n = 0; n < 8; n++) sum[n] = lir_splat(l, lir_float(l, DT_F32, 0), 4);
    LFor task = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 0, NULL);
    for (int s = 0; s < STAGES - 1; s++) bring(l, lir_i64(l, s), bug);
    LFor f = lir_for(l, lir_i64(l, 0), lir_i64(l, steps), lir_i64(l, 1), 8, sum);
    lir_copy_wait(l, bug == WEAK_WAIT ? STAGES - 1 : STAGES - 2);
    if (bug != NO_BARRIER) lir_barrier(l);
    LIf more = lir_if(l, lir_op2(l, S_LT, f.iv, lir_i64(l, steps - STAGES + 1)), 0);
    bring(l, lir_addi(l, f.iv, bug == EARLY_STAGE ? STAGES : STAGES - 1), bug);
    lir_else(l, &more, NULL);
    lir_copy_commit(l);
    lir_endif(l, &more, NULL, NULL);
    multiply(l, f.iv, lane, warp, f.c, next, bug);
    lir_for_end(l, &f, next, sum);
    for (int n = 0; n < 8; n++)
        for (int r = 0; r < 4; r++) {
            LVal row = lir_add(l, lir_muli(l, warp, 16), lir_addi(l, lir_shru(l, lane, lir_i64(l, 2)), 8 * (r >> 1)));
            LVal column = lir_addi(l, lir_muli(l, lir_op2(l, S_AND, lane, lir_i64(l, 3)), 2), 8 * n + (r & 1));
            lir_store(l, lir_buf(l, 2), lir_add(l, lir_muli(l, row, SIDE), column), lir_extract(l, sum[n], (uint16_t)r), NONE, 0);
        }
    lir_for_end(l, &task, NULL, NULL);
    return l;
}

/* ---- a sum: y[i] = x[128 i] + .. + x[128 i + n - 1], by shuffles and a word per warp ---- */

static Lir *sum(Ctx *c, Bug bug) {
    Lir *l = lir_new(c, "sum", 3, 1);
    lir_block(l, THREADS, 4 * sizeof(float));
    LVal t = lir_tid(l), warp = lir_shru(l, t, lir_i64(l, 5)), first = lir_op2(l, S_EQ, lir_op2(l, S_AND, t, lir_i64(l, 31)), lir_i64(l, 0));
    LFor task = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 0, NULL);
    LVal x = lir_load(l, lir_buf(l, 0), lir_add(l, lir_muli(l, task.iv, THREADS), t), f32, lir_op2(l, S_LT, t, lir_dim(l, 0)), 0), r[1];
    if (bug == SHUFFLE_IN_BRANCH || bug == SHUFFLE_OR_BARRIER) {
        LIf some = lir_if(l, lir_op2(l, S_LT, t, lir_dim(l, 0)), 1);
        r[0] = lir_add(l, x, lir_lane_xor(l, x, 16));
        lir_else(l, &some, r);
        if (bug == SHUFFLE_OR_BARRIER) lir_barrier(l);
        lir_endif(l, &some, &x, r);
        x = r[0];
    } else {
        x = lir_add(l, x, lir_lane_xor(l, x, 16));
    }
    for (uint32_t mask = 8; mask; mask /= 2) x = lir_add(l, x, lir_lane_xor(l, x, mask));
    bool scratch = bug == IN_SCRATCH || bug == SCRATCH_RACE || bug == OTHER_SCRATCH;
    LVal words = scratch ? lir_scratch(l) : lir_shared(l, 0);
    if (bug == OTHER_SCRATCH) words = lir_ptr_bytes(l, words, lir_i64(l, SCRATCH - 8));
    lir_store(l, words, warp, x, bug == STORE_RACE ? NONE : first, 0);
    if (bug == BARRIER_IN_BRANCH) {
        LIf some = lir_if(l, lir_op2(l, S_LT, t, lir_i64(l, 96)), 0);
        lir_barrier(l);
        lir_else(l, &some, NULL);
        lir_endif(l, &some, NULL, NULL);
    } else if (bug != SCRATCH_RACE) {
        lir_barrier(l);
    }
    LVal y = lir_load(l, words, lir_i64(l, 0), f32, NONE, 0);
    for (int w = 1; w < THREADS / 32; w++) y = lir_add(l, y, lir_load(l, words, lir_i64(l, w), f32, NONE, 0));
    lir_store(l, lir_buf(l, 2), task.iv, y, lir_op2(l, S_EQ, t, lir_i64(l, 0)), 0);
    if (bug != WRITE_AFTER_READ) lir_barrier(l);
    lir_for_end(l, &task, NULL, NULL);
    return l;
}

/* ---- what must be found ---- */

static const char *const says[BUGS] = {
    /* NULL: the result is wrong */
    [NO_BARRIER] = "of shared memory was",
    [WEAK_WAIT] = ": load_matrix: a copy of thread ",
    [NO_COMMIT] = "is under way",
    [EARLY_STAGE] = " of shared memory ",
    [OUT_OF_STAGES] = " of 24576 of shared memory",
    [UNALIGNED] = " of shared memory is no multiple of 16",
    [OUT_OF_MEMORY] = ": copy_async: 16 bytes at ",
    [BARRIER_IN_BRANCH] = "barrier", /* some go on to the next one, or store what others still read */
    [SHUFFLE_IN_BRANCH] = ", this one at lane_xor",
    [SHUFFLE_OR_BARRIER] = "a barrier",
    [STORE_RACE] = "of shared memory was written by thread ",
    [SCRATCH_RACE] = " of scratch was ",
    [OTHER_SCRATCH] = " of the scratch of block 1",
    [WRITE_AFTER_READ] = ": store: byte ",
};

static bool of_sum(Bug b) { return b >= BARRIER_IN_BRANCH && b <= WRITE_AFTER_READ; }
enum { TASKS = 4, TERMS = 100 };

static void operands(bool pipe_line) {
    memory_new();
    for (int i = 0; i < SIDE * K && pipe_line; i++)
        for (int o = 0; o < 2; o++)
            dt_store(DT_F16, memory->buffer[o], (size_t)i, (Scalar){DT_F16, {.f = ((i * (7 + 4 * o) + i / K * (5 + o)) % 32 - 16) / 8.0}});
    for (int i = 0; i < THREADS * TASKS && !pipe_line; i++) dt_store(DT_F32, memory->buffer[0], (size_t)i, (Scalar){DT_F32, {.f = (i * 7) % 64}});
}

static bool right_product(void) {
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            double want = 0;
            for (int k = 0; k < K; k++)
                want += dt_load(DT_F16, memory->buffer[0], (size_t)(i * K + k)).f * dt_load(DT_F16, memory->buffer[1], (size_t)(j * K + k)).f;
            if (dt_load(DT_F32, memory->buffer[2], (size_t)(i * SIDE + j)).f != want) return false; /* exact: multiples of 1/64 */
        }
    return true;
}

static bool right_sum(void) {
    for (int i = 0; i < TASKS; i++) {
        double want = 0;
        for (int k = 0; k < TERMS; k++) want += dt_load(DT_F32, memory->buffer[0], (size_t)(i * THREADS + k)).f;
        if (dt_load(DT_F32, memory->buffer[2], (size_t)i).f != want) return false;
    }
    return true;
}

typedef struct All { /* a kernel with each bug; the right sum has number BUGS */
    Ctx *c;
    Lir *l[BUGS + 1];
    void *twins;
} All;

static All all_kernels(void) {
    All a = {.c = ctx_new()};
    for (int b = 0; b <= BUGS; b++) {
        a.l[b] = b == BUGS ? sum(a.c, RIGHT) : of_sum((Bug)b) ? sum(a.c, (Bug)b) : pipeline(a.c, (Bug)b);
        lir_rename(a.l[b], ctx_printf(a.c, "kernel%d", b));
        ck_assert_msg(lir_verify(a.c, a.l[b]), "%s", ctx_messages(a.c));
    }
    a.twins = twins_open(a.c, BUGS + 1, a.l);
    return a;
}

static bool try_out(const All *a, int bug, const char *seed, bool count, bool *right) {
    bool sums = bug == BUGS || of_sum((Bug)bug);
    operands(!sums);
    bool ends = launch(a->c, a->twins, a->l[bug], TERMS, sums ? TASKS : 1, seed, count);
    *right = ends && (sums ? right_sum() : right_product());
    ck_assert_int_eq(munmap(memory, sizeof *memory), 0);
    return ends;
}

START_TEST(bugs_are_found) {
    static const char *const seeds[] = {NULL, "1", "2"};
    All a = all_kernels();
    for (int k = 0; k < 3 * (BUGS + 1); k++) {
        int bug = k / 3;
        bool right, ends = try_out(&a, bug, seeds[k % 3], false, &right);
        if (bug == RIGHT || bug == NO_SWIZZLE || bug == IN_SCRATCH || bug == BUGS) {
            ck_assert_msg(ends && right, "kernel %d: %s", bug, child_text);
            continue;
        }
        ck_assert_msg(!right && (ends || says[bug]), "bug %d is not found: %s", bug, child_text);
        if (!says[bug]) continue;
        ck_assert_msg(!ends && strstr(child_text, says[bug]) != NULL, "bug %d: %s", bug, child_text);
        ck_assert_msg(strstr(child_text, ctx_printf(a.c, "emu: kernel kernel%d, block ", bug)) != NULL, "%s", child_text);
    }
    ctx_free(a.c);
}
END_TEST

START_TEST(costs_are_counted) {
    unsigned long long is, least;
    All a = all_kernels();
    bool right;
    ck_assert(try_out(&a, RIGHT, NULL, true, &right) && right);
    child_total("shared memory, turns", &is, &least);
    /* per stage and warp: 4 copies of 4 turns, 10 matrices of 4 */
    ck_assert_uint_eq(least, K / DEPTH * 4 * (4 * 4 + 10 * 4));
    ck_assert_uint_eq(is, least);
    child_total("device memory, sectors", &is, &least);
    ck_assert_uint_eq(least, 2 * SIDE * K * 2 / 32 + SIDE * SIDE * 4 / 32);
    ck_assert_uint_eq(is, 2 * SIDE * K * 2 / 32 + SIDE * SIDE * 4 / 32 * 2); /* results go by words that are two apart */
    ck_assert(try_out(&a, NO_SWIZZLE, NULL, true, &right) && right);
    child_total("shared memory, turns", &is, &least);
    ck_assert_uint_ge(is, least * 2);
    ctx_free(a.c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("emu");
    TCase *t = tcase_create("emu");
    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, products_are_right, 0, sizeof product / sizeof *product);
    tcase_add_test(t, bugs_are_found);
    tcase_add_test(t, costs_are_counted);
    suite_add_tcase(s, t);
    return run_suite(s);
}
