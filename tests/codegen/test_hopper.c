/* test_hopper.c: operations of targets with F_WGMMA (lir_hopper.c): the builder, what the verifier
 * refuses, and PTX of every instruction for sm_90a, which ptxas ($ACCELC_PTXAS, or the first in
 * PATH or of /usr/local/cuda) must take where it is found, without a word. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "codegen/lir.h"
#include "codegen/llvm.h"

#define NONE ((LVal){0})
static const LTy i32x4 = {DT_I32, 4};

static LVal zeros(Lir *l, DType sum) { return lir_splat(l, lir_int(l, sum, 0), 4); }
static LVal at(Lir *l, int64_t v) { return lir_i64(l, v); }

/* ---- what is refused ---- */

static LProduct product(Lir *l, DType in) {
    return (LProduct){.in = in,
                      .a = lir_shared(l, 0),
                      .a_at = at(l, 0),
                      .b = lir_shared(l, 8192),
                      .b_at = at(l, 0)};
}
static void no_fence(Lir *l) {
    LVal c = lir_load(l, lir_buf(l, 0), lir_tid(l), (LTy){DT_F32, 4}, NONE, 16);
    LProduct p = product(l, DT_F16);
    lir_wgmma(l, &p, 8, &c);
}
static void touched(Lir *l) {
    LVal c = zeros(l, DT_F32);
    LProduct p = product(l, DT_F16);
    lir_wgmma_fence(l, 1, &c);
    lir_wgmma(l, &p, 8, &c);
    lir_wgmma_commit(l);
    lir_add(l, c, c);
}
static void touched_in_the_next_round(Lir *l) {
    LVal c = zeros(l, DT_F32);
    LProduct p = product(l, DT_F16);
    LFor f = lir_for(l, lir_i64(l, 0), lir_tid(l), lir_i64(l, 1), 1, &c);
    lir_store(l, lir_buf(l, 0), lir_tid(l), f.c[0], NONE, 16);
    LVal next = f.c[0];
    lir_wgmma_fence(l, 1, &next);
    lir_wgmma(l, &p, 8, &next);
    lir_for_end(l, &f, &next, &c);
}
static void old_fragments(Lir *l) {
    LVal c = zeros(l, DT_F32);
    LProduct p = product(l, DT_F16);
    p.a = lir_load(l, lir_buf(l, 0), lir_tid(l), i32x4, NONE, 16), p.a_at = NONE;
    lir_wgmma_fence(l, 1, &c);
    lir_wgmma(l, &p, 8, &c);
}
static void turned_bytes(Lir *l) {
    LVal c = zeros(l, DT_I32);
    LProduct p = product(l, DT_I8);
    p.b_turned = true;
    lir_wgmma_fence(l, 1, &c);
    lir_wgmma(l, &p, 8, &c);
}
static void wrong_sums(Lir *l) {
    LVal c = zeros(l, DT_I32);
    LProduct p = product(l, DT_F16);
    lir_wgmma_fence(l, 1, &c);
    lir_wgmma(l, &p, 8, &c);
}
static void no_panels(Lir *l) {
    LVal c[16];
    LProduct p = product(l, DT_F16);
    p.b_turned = true;
    for (int k = 0; k < 16; k++) c[k] = zeros(l, DT_F32);
    lir_wgmma_fence(l, 16, c);
    lir_wgmma(l, &p, 128, c);
}
static void matrix_of_device(Lir *l) {
    LVal c = zeros(l, DT_F32);
    LProduct p = product(l, DT_F16);
    p.b = lir_buf(l, 0);
    lir_wgmma_fence(l, 1, &c);
    lir_wgmma(l, &p, 8, &c);
}
static void mbarrier_of_device(Lir *l) { lir_mbarrier_arrive(l, lir_buf(l, 0), at(l, 0)); }
static void bulk_within(Lir *l) {
    lir_bulk_load(l, lir_shared(l, 0), at(l, 0), lir_shared(l, 64), at(l, 0), at(l, 16),
                  lir_shared(l, 128), at(l, 0));
}
static void odd_bytes(Lir *l) {
    lir_bulk_load(l, lir_shared(l, 0), at(l, 0), lir_buf(l, 0), at(l, 0), at(l, 24),
                  lir_shared(l, 128), at(l, 0));
}
static void wide_box(Lir *l) {
    LVal k[2] = {at(l, 0), at(l, 0)};
    lir_tensor_load(l, lir_shared(l, 0), at(l, 0), lir_map(l, (LMap){DT_F16, 2, true, .box = {128, 8}}), k,
                    lir_shared(l, 8192), at(l, 0));
}
static void windows_of_a_matrix(Lir *l) {
    LVal k[2] = {at(l, 0), at(l, 0)};
    lir_tensor_load(l, lir_shared(l, 0), at(l, 0), lir_map(l, (LMap){DT_F16, 2, true, .box = {64, 8}, .windows = true}), k,
                    lir_shared(l, 8192), at(l, 0));
}
static void stored_windows(Lir *l) {
    LVal k[4] = {at(l, 0), at(l, 0), at(l, 0), at(l, 0)};
    lir_tensor_store(l, lir_shared(l, 0), at(l, 0), lir_map(l, (LMap){DT_F16, 4, true, .box = {64, 8}, .windows = true}), k);
}
static void no_such_barrier(Lir *l) { lir_barrier_some(l, 16, 128); }
static void many_registers(Lir *l) { lir_registers(l, 248, true); }

static const struct {
    void (*build)(Lir *l);
    const char *says;
} refused[] = {
    {no_fence, "(wgmma): a value that has gone through no fence"},
    {touched, "(): a sum that is under way must not go here"},
    {touched_in_the_next_round, "(store): a sum that is under way must not go here"},
    {old_fragments, "(wgmma): a value that has gone through no fence"},
    {turned_bytes, "(wgmma): types or fields do not fit"},
    {wrong_sums, "(wgmma): types or fields do not fit"},
    {no_panels, "(wgmma): types or fields do not fit"},
    {matrix_of_device, "(wgmma): this is not the block's memory"},
    {mbarrier_of_device, "(mbarrier_arrive): this is not the block's memory"},
    {bulk_within, "(bulk_load): a pointer into the block's memory must not go here"},
    {odd_bytes, "(bulk_load): types or fields do not fit"},
    {wide_box, "(tensor_load): types or fields do not fit"},
    {windows_of_a_matrix, "(tensor_load): types or fields do not fit"},
    {stored_windows, "(tensor_store): types or fields do not fit"},
    {no_such_barrier, "(barrier_some): types or fields do not fit"},
    {many_registers, "(registers): types or fields do not fit"},
};

START_TEST(misuse_is_refused) {
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "wrong", 2, 0);
    lir_block(l, 128, 65536);
    refused[_i].build(l);
    ck_assert(!lir_verify(c, l));
    ck_assert_msg(strstr(ctx_messages(c), refused[_i].says) != NULL, "%s instead of %s",
                  ctx_messages(c), refused[_i].says);
    ctx_free(c);
}
END_TEST

/* ---- a gemm as one writes it for such a GPU: a warpgroup that brings, two that multiply ---- */

enum {
    STAGES = 4,
    DEPTH = 64,
    ROWS = 128,
    COLUMNS = 256,
    PANEL_A = ROWS * 128,
    STAGE = PANEL_A + COLUMNS * 128,
    THREADS = 384
};

typedef struct Ring {
    LVal slot, parity;
} Ring;
static Ring turn(Lir *l, Ring r) {
    LVal next = lir_addi(l, r.slot, 1), over = lir_op2(l, S_EQ, next, lir_i64(l, STAGES));
    return (Ring){lir_op3(l, S_SELECT, over, lir_i64(l, 0), next),
                  lir_op3(l, S_SELECT, over, lir_op2(l, S_XOR, r.parity, lir_i64(l, 1)), r.parity)};
}

static void bring(Lir *l, LVal full, LVal empty, LVal tid, const uint32_t *map, LVal steps) {
    lir_registers(l, 40, false);
    LIf one = lir_if(l, lir_op2(l, S_EQ, tid, lir_i64(l, 0)), 0);
    LVal init[2] = {lir_i64(l, 0), lir_i64(l, 1)}, out[2];
    LFor task = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 2, init);
    LFor f = lir_for(l, lir_i64(l, 0), steps, lir_i64(l, 1), 2, task.c);
    Ring r = {f.c[0], f.c[1]};
    LVal bar = lir_muli(l, r.slot, 8), stage = lir_muli(l, r.slot, STAGE),
         k = lir_muli(l, f.iv, DEPTH);
    lir_mbarrier_wait(l, empty, bar, r.parity);
    lir_mbarrier_expect(l, full, bar, lir_i64(l, STAGE));
    lir_tensor_load(l, lir_shared(l, 0), stage, map[0], (LVal[]){k, lir_muli(l, task.iv, ROWS)},
                    full, bar);
    lir_tensor_load(l, lir_shared(l, PANEL_A), stage, map[1], (LVal[]){k, lir_i64(l, 0)}, full,
                    bar);
    r = turn(l, r);
    lir_for_end(l, &f, (LVal[]){r.slot, r.parity}, out);
    lir_for_end(l, &task, out, out);
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
}

static void multiply(Lir *l, LVal full, LVal empty, LVal group, LVal tid, LVal steps) {
    enum { VALUES = COLUMNS / 8 };
    LVal init[VALUES + 2], out[VALUES + 2], ring[2] = {lir_i64(l, 0), lir_i64(l, 0)};
    lir_registers(l, 232, true);
    LVal low = lir_op2(l, S_AND, tid, lir_i64(l, 127)),
         first = lir_op2(l, S_EQ, low, lir_i64(l, 0));
    LFor task = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 2, ring);
    for (int j = 0; j < VALUES; j++) init[j] = zeros(l, DT_F32);
    init[VALUES] = task.c[0], init[VALUES + 1] = task.c[1];
    LFor f = lir_for(l, lir_i64(l, 0), steps, lir_i64(l, 1), VALUES + 2, init);
    Ring r = {f.c[VALUES], f.c[VALUES + 1]};
    LVal bar = lir_muli(l, r.slot, 8), stage = lir_muli(l, r.slot, STAGE), c[VALUES];
    memcpy(c, f.c, sizeof c);
    lir_mbarrier_wait(l, full, bar, r.parity);
    lir_wgmma_fence(l, 0, NULL);
    for (int k = 0; k < 4; k++) {
        LProduct p = {
            DT_BF16,
            lir_shared(l, 0),
            lir_addi(l, lir_add(l, stage, lir_muli(l, lir_addi(l, group, -1), 8192)), 32 * k),
            lir_shared(l, PANEL_A),
            lir_addi(l, stage, 32 * k),
            .add = k ? NONE : lir_op2(l, S_NE, f.iv, lir_i64(l, 0))};
        lir_wgmma(l, &p, COLUMNS, c);
    }
    lir_wgmma_commit(l);
    lir_wgmma_wait(l, 0, 0, NULL);
    LIf one = lir_if(l, first, 0);
    lir_mbarrier_arrive(l, empty, bar);
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
    r = turn(l, r);
    memcpy(init, c, sizeof c);
    init[VALUES] = r.slot, init[VALUES + 1] = r.parity;
    lir_for_end(l, &f, init, out);
    lir_wgmma_wait(l, 0, VALUES, out);
    LVal q = lir_op2(l, S_AND, tid, lir_i64(l, 3)),
         row = lir_add(l, lir_muli(l, lir_addi(l, group, -1), 64),
                       lir_add(l, lir_muli(l, lir_shru(l, low, lir_i64(l, 5)), 16),
                               lir_op2(l, S_AND, lir_shru(l, tid, lir_i64(l, 2)), lir_i64(l, 7))));
    LVal base = lir_add(l, lir_muli(l, lir_add(l, lir_muli(l, task.iv, ROWS), row), COLUMNS),
                        lir_muli(l, q, 2));
    for (int j = 0; j < VALUES; j++)
        for (int e = 0; e < 4; e++)
            lir_store(l, lir_buf(l, 2), lir_addi(l, base, 8 * j + e % 2 + e / 2 * 8 * COLUMNS),
                      lir_extract(l, out[j], (uint16_t)e), NONE, 0);
    lir_for_end(l, &task, out + VALUES, ring);
}

static Lir *gemm(Ctx *c) {
    Lir *l = lir_new(c, "gemm", 3, 1);
    lir_block(l, THREADS, STAGES * (STAGE + 16));
    uint32_t map[2] = {lir_map(l, (LMap){DT_BF16, 2, true, .box = {DEPTH, ROWS}}),
                       lir_map(l, (LMap){DT_BF16, 2, true, .box = {DEPTH, COLUMNS}})};
    LVal tid = lir_tid(l), full = lir_shared(l, STAGES * STAGE),
         empty = lir_shared(l, STAGES * (STAGE + 8)), steps = lir_dim(l, 0);
    LIf one = lir_if(l, lir_op2(l, S_EQ, tid, lir_i64(l, 0)), 0);
    for (int s = 0; s < STAGES; s++)
        lir_mbarrier_init(l, full, at(l, 8 * s), 1), lir_mbarrier_init(l, empty, at(l, 8 * s), 2);
    lir_fence_mbarriers(l);
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
    lir_barrier(l);
    LVal group = lir_cast(
        l, lir_lane_first(l, lir_cast(l, lir_shru(l, tid, lir_i64(l, 7)), DT_I32)), DT_I64);
    LIf part = lir_if(l, lir_op2(l, S_EQ, group, lir_i64(l, 0)), 0);
    bring(l, full, empty, tid, map, steps);
    lir_else(l, &part, NULL);
    multiply(l, full, empty, group, tid, steps);
    lir_endif(l, &part, NULL, NULL);
    ck_assert_msg(lir_verify(c, l), "%s", ctx_messages(c));
    return l;
}

/* ---- everything else ---- */

static Lir *everything(Ctx *c, DType in) {
    Lir *l = lir_new(c, dt_name(in), 3, 1);
    bool whole = in == DT_I8 || in == DT_U8, half = in == DT_F16 || in == DT_BF16;
    lir_block(l, 128, 65536);
    uint32_t map[4] = {lir_map(l, (LMap){DT_F32, 1, false, .box = {64}}),
                       lir_map(l, (LMap){DT_F16, 5, true, .box = {64, 2, 2, 2, 1}}),
                       lir_map(l, (LMap){DT_F32, 3, false, .box = {8, 4, 2}}),
                       lir_map(l, (LMap){DT_F16, 4, true, .box = {64, 8}, .windows = true})};
    LVal tid = lir_tid(l), bar = lir_shared(l, 60000), here = lir_shared(l, 0),
         first = lir_op2(l, S_EQ, tid, lir_i64(l, 0)), k[6];
    for (int d = 0; d < 6; d++) k[d] = lir_addi(l, lir_dim(l, 0), d);
    LIf one = lir_if(l, first, 0);
    lir_mbarrier_init(l, bar, at(l, 0), 1);
    lir_fence_mbarriers(l);
    lir_mbarrier_expect(l, bar, at(l, 0), lir_i64(l, 256 + 1024 + 256 + 1024 + 64));
    for (int m = 0; m < 4; m++) lir_tensor_load(l, here, at(l, 2048 * m), map[m], k, bar, at(l, 0));
    lir_bulk_load(l, here, at(l, 12288), lir_buf(l, 0), lir_muli(l, lir_dim(l, 0), 16),
                  lir_i64(l, 64), bar, at(l, 0));
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
    lir_barrier(l);
    lir_mbarrier_wait(l, bar, at(l, 0), lir_i64(l, 0));
    LVal sum[16], more[16], v = lir_load_matrix(l, here, lir_muli(l, tid, 16), false);
    for (int j = 0; j < 16; j++) sum[j] = more[j] = zeros(l, whole ? DT_I32 : DT_F32);
    LVal through[17];
    memcpy(through, sum, sizeof sum), through[16] = v;
    lir_wgmma_fence(l, 17, through);
    memcpy(sum, through, sizeof sum), v = through[16];
    LProduct p = product(l, in);
    p.b_turned = half, p.b_panel = half ? 8192 : 0;
    lir_wgmma(l, &p, 128, sum);
    p = product(l, in);
    p.a = v, p.a_at = NONE;
    lir_wgmma(l, &p, 128, sum);
    lir_wgmma_commit(l);
    p = product(l, in);
    p.a_turned = half, p.add = lir_bool(l, false);
    lir_wgmma(l, &p, 64, more);
    lir_wgmma_commit(l);
    lir_wgmma_wait(l, 1, 16, sum);
    for (int j = 0; j < 16; j++) sum[j] = lir_add(l, sum[j], sum[j]);
    lir_wgmma_wait(l, 0, 8, more);
    for (int j = 0; j < 8; j++) sum[j] = lir_add(l, sum[j], more[j]);
    for (int j = 0; j < 16; j += 2) {
        LVal words = lir_bitcast(l, lir_add(l, sum[j], sum[j + 1]), DT_I32);
        if (half) words = lir_insert(l, words, 0, lir_halves(l, in, lir_exp2(l, lir_extract(l, sum[j], 0)), lir_extract(l, sum[j], 1)));
        lir_store_matrix(l, here, lir_addi(l, lir_muli(l, tid, 16), 2048 * j), words, j & 2);
    }
    lir_fence_async(l);
    lir_barrier_arrive(l, 2, 128);
    lir_barrier_some(l, 1, 128);
    one = lir_if(l, first, 0);
    for (int m = 0; m < 3; m++) lir_tensor_store(l, here, at(l, 2048 * m), map[m], k);
    lir_bulk_commit(l);
    lir_bulk_wait(l, 1, true);
    lir_bulk_wait(l, 0, false);
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
    ck_assert_msg(lir_verify(c, l), "%s", ctx_messages(c));
    return l;
}

/* Two blocks that bring tiles for each other. */
static Lir *cluster(Ctx *c) {
    Lir *l = lir_new(c, "cluster", 1, 1);
    lir_block(l, 128, 4096);
    lir_cluster(l, 2);
    uint32_t map[2] = {lir_map(l, (LMap){DT_F16, 2, true, .box = {64, 8}}),
                       lir_map(l, (LMap){DT_F16, 4, true, .box = {64, 8}, .windows = true})};
    LVal bar = lir_shared(l, 4088), here = lir_shared(l, 0), none = at(l, 0), k[6];
    for (int d = 0; d < 6; d++) k[d] = lir_addi(l, lir_dim(l, 0), d);
    LIf one = lir_if(l, lir_op2(l, S_EQ, lir_tid(l), none), 0);
    lir_mbarrier_init(l, bar, none, 2);
    lir_fence_mbarriers(l);
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
    lir_cluster_barrier(l);
    one = lir_if(l, lir_op2(l, S_EQ, lir_tid(l), none), 0);
    lir_mbarrier_expect(l, bar, none, lir_i64(l, 4096));
    for (int m = 0; m < 2; m++) lir_tensor_load_all(l, here, at(l, 1024 * m), map[m], k, bar, none);
    lir_mbarrier_arrive_at(l, bar, none, lir_remi(l, lir_addi(l, lir_t0(l), 1), 2));
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
    lir_mbarrier_wait(l, bar, none, lir_i64(l, 0));
    lir_cluster_barrier(l);
    ck_assert_msg(lir_verify(c, l), "%s", ctx_messages(c));
    return l;
}

/* ---- PTX ---- */

static const struct {
    DType in;
    const char *wgmma;
} kinds[] = {{DT_F32, "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32"},
             {DT_F16, "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16"},
             {DT_BF16, "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16"},
             {DT_I8, "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8"},
             {DT_U8, "wgmma.mma_async.sync.aligned.m64n128k32.s32.u8.s8"}};
enum { KINDS = sizeof kinds / sizeof *kinds };
static const char *const wanted[] = {
    "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16",
    "wgmma.fence.sync.aligned;",
    "wgmma.commit_group.sync.aligned;",
    "wgmma.wait_group.sync.aligned 1;",
    "setmaxnreg.dec.sync.aligned.u32 40;",
    "setmaxnreg.inc.sync.aligned.u32 232;",
    "mbarrier.init.shared::cta.b64",
    "mbarrier.arrive.shared::cta.b64 _,",
    "mbarrier.arrive.expect_tx.shared::cta.b64 _,",
    "mbarrier.try_wait.parity.shared::cta.b64",
    "fence.mbarrier_init.release.cluster;",
    "fence.proxy.async.shared::cta;",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes",
    "cp.async.bulk.tensor.1d.shared::cluster.global",
    "cp.async.bulk.tensor.5d.shared::cluster.global",
    "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group",
    "cp.async.bulk.commit_group;",
    "cp.async.bulk.wait_group.read 1;",
    "cp.async.bulk.wait_group 0;",
    "bar.sync 1, 128;",
    "bar.arrive 2, 128;",
    "stmatrix.sync.aligned.m8n8.x4.shared.b16",
    "ex2.approx.ftz.f32",
    "cvt.rn.f16x2.f32",
    "cvt.rn.bf16x2.f32",
    "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16",
    "shfl.sync.idx.b32",
    "mapa.shared::cluster.u32",
    "mbarrier.arrive.release.cluster.shared::cluster.b64 _,",
    "barrier.cluster.arrive.aligned;",
    "barrier.cluster.wait.aligned;",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster",
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes.multicast::cluster"};

static void assemble(const char *text, size_t bytes) {
    char path[] = "/tmp/accelc-hopper-XXXXXX", command[700];
    const char *ptxas = getenv("ACCELC_PTXAS");
    int fd = mkstemp(path);
    ck_assert(fd >= 0 && write(fd, text, bytes) == (ssize_t)bytes && close(fd) == 0);
    snprintf(command, sizeof command,
             "p=\"%s\"; [ -n \"$p\" ] || p=$(PATH=$PATH:/usr/local/cuda/bin command -v ptxas) || "
             "exit 0; said=$(\"$p\" -arch=sm_90a %s -o /dev/null 2>&1) && [ -z \"$said\" ] || "
             "{ echo \"$said\" >&2; exit 1; }",
             ptxas ? ptxas : "", path);
    int status = system(command);
    if (!status) unlink(path);
    ck_assert_msg(status == 0, "ptxas does not take %s", path);
}

START_TEST(ptx_of_every_instruction) {
    Ctx *c = ctx_new();
    Lir *l[KINDS + 2];
    for (int k = 0; k < KINDS; k++) l[k] = everything(c, kinds[k].in);
    l[KINDS] = gemm(c), l[KINDS + 1] = cluster(c);
    LlvmOut out = {.kind = LLVM_PTX};
    ck_assert_msg(llvm_compile(c, target_gpu("sm_90a"), KINDS + 2, l, &out), "%s", ctx_messages(c));
    const char *text = out.blob[0].data;
    assemble(text, out.blob[0].bytes);
    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++)
        ck_assert_msg(strstr(text, wanted[w]) != NULL, "no %s", wanted[w]);
    for (int k = 0; k < KINDS; k++)
        ck_assert_msg(strstr(text, kinds[k].wgmma) != NULL, "no %s", kinds[k].wgmma);
    ck_assert_ptr_null(strstr(text, ".local"));
    ctx_free(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("hopper");
    TCase *t = tcase_create("hopper");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, misuse_is_refused, 0, sizeof refused / sizeof *refused);
    tcase_add_test(t, ptx_of_every_instruction);
    suite_add_tcase(s, t);
    return run_suite(s);
}
