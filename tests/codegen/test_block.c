/* test_block.c: what the threads of a block do together: the builder, what the verifier refuses, and PTX of every instruction, which ptxas
 * ($ACCELC_PTXAS, or the first in PATH or of /usr/local/cuda) must take where it is found. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "codegen/lir.h"
#include "codegen/llvm.h"

#define NONE ((LVal){0})
static const LTy f32 = {DT_F32, 1}, f32x4 = {DT_F32, 4}, i32x4 = {DT_I32, 4}, i32x2 = {DT_I32, 2};

static const LIns *def(const Lir *l, LVal v) {
    uint32_t n;
    return &lir_ins(l, &n)[v.i];
}

/* ---- builder, text ---- */

START_TEST(fields_are_kept) {
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "fields", 2, 0), *other = lir_new(c, "other", 2, 0);
    int64_t k;
    ck_assert_uint_eq(lir_block_threads(l), 0);
    lir_block(l, 96, 4096);
    lir_block(other, 96, 8192);
    ck_assert_uint_eq(lir_block_threads(l), 96);
    ck_assert_uint_eq(lir_shared_bytes(l), 4096);
    ck_assert(!lir_equal(l, other) && lir_hash(l) != lir_hash(other));
    ck_assert(lir_is_const(l, lir_ntid(l), &k) && k == 96);
    LVal t = lir_tid(l), s = lir_shared(l, 1024), sixteen = lir_addi(l, lir_muli(l, t, 16), 48);
    ck_assert_uint_eq(lir_shared(l, 1024).i, s.i);
    LVal m = lir_load_matrix(l, s, sixteen, true);
    ck_assert_int_eq(def(l, m)->imm, 48);
    lir_copy_async(l, s, lir_addi(l, sixteen, -96), lir_buf(l, 0), lir_addi(l, sixteen, 1 << 20), lir_i64(l, 16), 16);
    uint32_t n;
    const LIns *copy = &lir_ins(l, &n)[n - 1];
    ck_assert_uint_eq(copy->narg, 4); /* all bytes are valid */
    LVal x = lir_lane_xor(l, lir_extract(l, m, 2), 16);
    lir_store(l, lir_buf(l, 1), t, x, NONE, 0);
    ck_assert_msg(lir_verify(c, l), "%s", ctx_messages(c));
    Buf b = {.c = c};
    lir_print(&b, l);
    const char *text = buf_str(&b);
    ck_assert_ptr_nonnull(strstr(text, "bufs 2 dims 0 threads 96 shared 4096 {"));
    ck_assert_ptr_nonnull(strstr(text, "= shared 1024\n"));
    ck_assert_ptr_nonnull(strstr(text, " - 48] from %"));
    ck_assert_ptr_nonnull(strstr(text, " + 1048624] bytes 16\n"));
    ck_assert_ptr_nonnull(strstr(text, "load_matrix.transposed %"));
    ck_assert_ptr_nonnull(strstr(text, " by 16\n"));
    void *no[2] = {0};
    size_t none[2] = {0};
    ck_assert_int_eq(lir_run(c, l, no, none, NULL, 0, 1, NULL, 0, 0), -1);
    ck_assert_ptr_nonnull(strstr(ctx_messages(c), "blocks of 96 threads are not interpreted"));
    ctx_free(c);
}
END_TEST

/* ---- what is refused ---- */

static void pointer_of_device(Lir *l) { lir_copy_async(l, lir_buf(l, 0), lir_i64(l, 0), lir_buf(l, 1), lir_i64(l, 0), NONE, 16); }
static void pointer_of_block(Lir *l) { lir_copy_async(l, lir_shared(l, 0), lir_i64(l, 0), lir_shared(l, 16), lir_i64(l, 0), NONE, 16); }
static void matrix_of_device(Lir *l) { lir_load_matrix(l, lir_buf(l, 0), lir_i64(l, 0), false); }
static void stored_pointer(Lir *l) {
    LVal p[1] = {lir_shared(l, 0)}, out[1];
    LFor f = lir_for(l, lir_i64(l, 0), lir_tid(l), lir_i64(l, 1), 1, p);
    lir_for_end(l, &f, f.c, out);
}
static void masked_vector(Lir *l) { lir_load(l, lir_buf(l, 0), lir_tid(l), f32x4, lir_op2(l, S_LT, lir_tid(l), lir_i64(l, 3)), 16); }
static void wide_vector(Lir *l) { lir_load(l, lir_buf(l, 0), lir_tid(l), (LTy){DT_F32, 16}, NONE, 16); }
static void odd_vector(Lir *l) { lir_load(l, lir_buf(l, 0), lir_tid(l), (LTy){DT_F16, 3}, NONE, 2); }
static void early_end(Lir *l) { lir_fail_if(l, lir_op2(l, S_LT, lir_tid(l), lir_i64(l, 3)), 0); }
static void wrong_fragment(Lir *l) {
    LVal a = lir_load(l, lir_buf(l, 0), lir_tid(l), i32x4, NONE, 16);
    lir_mma(l, DT_F16, a, a, lir_splat(l, lir_float(l, DT_F32, 0), 4));
}
static void wrong_sum(Lir *l) {
    LVal a = lir_load(l, lir_buf(l, 0), lir_tid(l), i32x4, NONE, 16), b = lir_load(l, lir_buf(l, 0), lir_tid(l), i32x2, NONE, 8);
    lir_mma(l, DT_I8, a, b, lir_splat(l, lir_float(l, DT_F32, 0), 4));
}
static void no_block(Lir *l) { lir_lane_xor(l, lir_load(l, lir_buf(l, 0), lir_tid(l), f32, NONE, 0), 1); }

static const struct {
    void (*build)(Lir *l);
    bool block;
    const char *says;
} refused[] = {
    {pointer_of_device, true, "(copy_async): this is not the block's memory"},
    {pointer_of_block, true, "(copy_async): a pointer into the block's memory must not go here"},
    {matrix_of_device, true, "(load_matrix): this is not the block's memory"},
    {stored_pointer, true, "(for): a pointer into the block's memory must not go here"},
    {masked_vector, true, "(load): a vector under a mask"},
    {wide_vector, true, "(load): no vector of a GPU"},
    {odd_vector, true, "(load): no vector of a GPU"},
    {early_end, true, "(fail_if): not with a block of known size"},
    {wrong_fragment, true, "(mma): types or fields do not fit"},
    {wrong_sum, true, "(mma): types or fields do not fit"},
    {no_block, false, "(lane_xor): the kernel has no block"},
};

START_TEST(misuse_is_refused) {
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "wrong", 2, 0);
    if (refused[_i].block) lir_block(l, 32, 1024);
    refused[_i].build(l);
    ck_assert(!lir_verify(c, l));
    ck_assert_msg(strstr(ctx_messages(c), refused[_i].says) != NULL, "%s instead of %s", ctx_messages(c), refused[_i].says);
    ctx_free(c);
}
END_TEST

/* ---- PTX ---- */

/* Every instruction, one product of matrices per type: buffer 2 = sum over tasks of what lies in buffers 0 and 1, in some order. */
static Lir *everything(Ctx *c, DType in) {
    Lir *l = lir_new(c, dt_name(in), 3, 1);
    bool whole = in == DT_I8 || in == DT_U8;
    lir_block(l, 64, 3 * 4096);
    LVal t = lir_tid(l), at = lir_muli(l, t, 16), zero = whole ? lir_int(l, DT_I32, 0) : lir_float(l, DT_F32, 0), sum = lir_splat(l, zero, 4);
    LVal stage = lir_shared(l, 4096);
    lir_store(l, lir_shared(l, 0), lir_muli(l, t, 4), lir_load(l, lir_buf(l, 0), lir_muli(l, t, 4), f32x4, NONE, 16), NONE, 16);
    LFor f = lir_for(l, lir_t0(l), lir_t1(l), lir_tstep(l), 1, &sum);
    LVal from = lir_add(l, at, lir_muli(l, f.iv, 4096));
    lir_copy_async(l, stage, at, lir_buf(l, 0), from, NONE, 16);
    lir_copy_async(l, stage, lir_addi(l, at, 1024), lir_buf(l, 1), lir_addi(l, from, 64), lir_op2(l, S_AND, f.iv, lir_i64(l, 15)), 16);
    lir_copy_async(l, stage, lir_addi(l, at, 2048), lir_buf(l, 1), lir_addi(l, from, (int64_t)5 << 32), NONE, 8);
    lir_copy_async(l, stage, lir_addi(l, at, 3072), lir_buf(l, 1), from, f.iv, 4);
    lir_copy_commit(l);
    lir_copy_wait(l, 1);
    lir_barrier(l);
    LVal a = lir_load_matrix(l, stage, at, false), w = lir_load_matrix(l, stage, lir_addi(l, at, 1024), true);
    LVal b = lir_insert(l, lir_splat(l, lir_extract(l, w, 1), 2), 1, lir_extract(l, w, 3));
    LVal next = lir_mma(l, in, a, b, f.c[0]);
    lir_barrier(l);
    lir_for_end(l, &f, &next, &sum);
    LVal first = lir_extract(l, sum, 0);
    first = lir_op2(l, S_ADD, first, lir_lane_xor(l, first, 16));
    sum = lir_insert(l, sum, 1, first);
    lir_store(l, lir_buf(l, 2), lir_muli(l, t, 4), sum, NONE, 16);
    lir_store(l, lir_buf(l, 2), lir_addi(l, t, 256), lir_load(l, lir_shared(l, 0), t, f32, lir_op2(l, S_LT, t, lir_dim(l, 0)), 0), NONE, 0);
    ck_assert_msg(lir_verify(c, l), "%s", ctx_messages(c));
    return l;
}

/* What the text must have. */
static const struct {
    DType in;
    const char *mma;
} product[] = {{DT_F32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"},
               {DT_F16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"},
               {DT_BF16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"},
               {DT_I8, "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32"},
               {DT_U8, "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32"}};
enum { PRODUCTS = sizeof product / sizeof *product };
static const char *const wanted[] = {".extern .shared .align 1024 .b8 accelc_shared[]",
                                     ".maxntid 64",
                                     "shfl.sync.bfly.b32",
                                     ", 16, 31, -1;",
                                     "ldmatrix.sync.aligned.m8n8.x4.shared.b16",
                                     "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16",
                                     "cp.async.cg.shared.global [",
                                     "], 16;",
                                     "], 8;",
                                     "], 4, ",
                                     "cp.async.commit_group;",
                                     "cp.async.wait_group 1;",
                                     "bar.sync 0;",
                                     "cvt.rna.tf32.f32",
                                     "ld.global.v4.",
                                     "st.shared.v4.",
                                     "st.global.v4."};

static void assemble(const char *text, size_t bytes, const char *arch) {
    char path[] = "/tmp/accelc-block-XXXXXX", command[600];
    const char *ptxas = getenv("ACCELC_PTXAS");
    int fd = mkstemp(path);
    ck_assert(fd >= 0 && write(fd, text, bytes) == (ssize_t)bytes && close(fd) == 0);
    snprintf(command, sizeof command,
             "p=\"%s\"; [ -n \"$p\" ] || p=$(PATH=$PATH:/usr/local/cuda/bin command -v ptxas) || exit 0; \"$p\" -arch=%s %s -o /dev/null",
             ptxas ? ptxas : "", arch, path);
    int status = system(command);
    if (!status) unlink(path);
    ck_assert_msg(status == 0, "ptxas does not take %s for %s", path, arch);
}

START_TEST(ptx_of_every_instruction) {
    const char *const arch[] = {"sm_80", "sm_90a"};
    for (int k = 0; k < 2; k++) {
        Ctx *c = ctx_new();
        Lir *l[PRODUCTS];
        for (int p = 0; p < PRODUCTS; p++) l[p] = everything(c, product[p].in);
        LlvmOut out = {.kind = LLVM_PTX};
        ck_assert_msg(llvm_compile(c, target_gpu(arch[k]), PRODUCTS, l, &out), "%s", ctx_messages(c));
        ck_assert_uint_eq(out.nblob, 1);
        const char *text = out.blob[0].data;
        for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++) ck_assert_msg(strstr(text, wanted[w]) != NULL, "no %s", wanted[w]);
        for (int p = 0; p < PRODUCTS; p++) ck_assert_msg(strstr(text, product[p].mma) != NULL, "no %s", product[p].mma);
        ck_assert_ptr_null(strstr(text, ".local"));
        assemble(text, out.blob[0].bytes, arch[k]);
        ctx_free(c);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("block");
    TCase *t = tcase_create("block");
    tcase_add_test(t, fields_are_kept);
    tcase_add_loop_test(t, misuse_is_refused, 0, sizeof refused / sizeof *refused);
    tcase_add_test(t, ptx_of_every_instruction);
    suite_add_tcase(s, t);
    return run_suite(s);
}
