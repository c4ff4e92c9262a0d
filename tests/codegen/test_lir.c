/* test_lir.c: folding and numbering of the builder, bounds checks of the interpreter, and random
 * programs of which the interpreter and the compiled code must give the same bits at every level
 * that this machine can run. */
#include <check.h>
#include <dlfcn.h>
#include <elf.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "codegen/kernel.h"
#include "codegen/lir.h"
#include "codegen/llvm.h"
#include "lir_random.h"

#define NONE ((LVal){0})

/* ---- the builder ----------------------------------------------------------------------------- */

static const LIns *def(const Lir *l, LVal v) {
    uint32_t n;
    return &lir_ins(l, &n)[v.i];
}
static bool is_i64(const Lir *l, LVal v, int64_t want) {
    int64_t k;
    return lir_is_const(l, v, &k) && k == want;
}

START_TEST(constants_fold) {
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "fold", 1, 2);
    LVal x = lir_dim(l, 0), y = lir_dim(l, 1);
    ck_assert(is_i64(l, lir_add(l, lir_i64(l, 2), lir_i64(l, 3)), 5));
    ck_assert(is_i64(l, lir_op2(l, S_FDIV, lir_i64(l, -7), lir_i64(l, 2)), -4));
    ck_assert(is_i64(l, lir_op2(l, S_MOD, lir_i64(l, -7), lir_i64(l, 2)), 1));
    ck_assert(is_i64(l, lir_op2(l, S_REM, lir_i64(l, -7), lir_i64(l, 2)), -1));
    ck_assert(is_i64(l, lir_cast(l, lir_int(l, DT_U8, 300), DT_I64), 44));
    ck_assert(is_i64(l, lir_cast(l, lir_float(l, DT_F32, -2.75), DT_I64), -2));
    ck_assert(is_i64(l, lir_sub(l, x, x), 0));
    ck_assert(is_i64(l, lir_muli(l, x, 0), 0));
    ck_assert_uint_eq(lir_muli(l, x, 1).i, x.i);
    ck_assert_uint_eq(lir_add(l, lir_sub(l, x, y), y).i, x.i);
    ck_assert_uint_eq(lir_op2(l, S_DIV, x, lir_i64(l, 1)).i, x.i);
    ck_assert_uint_eq(def(l, lir_op2(l, S_FDIV, x, lir_i64(l, 8)))->sop, S_SHR);
    ck_assert_uint_eq(def(l, lir_op2(l, S_MOD, x, lir_i64(l, 8)))->sop, S_AND);
    ck_assert_uint_eq(def(l, lir_op2(l, S_DIV, x, lir_i64(l, 0)))->op, L_OP); /* left alone */
    LVal f = lir_splat(l, lir_float(l, DT_F32, 2), 8);
    ck_assert_double_eq(def(l, lir_mul(l, f, f))->fimm, 4);
    ck_assert_uint_eq(lir_fma(l, f, lir_splat(l, lir_float(l, DT_F32, 1), 8), f).i,
                      lir_add(l, f, f).i);
    ck_assert(is_i64(
        l, lir_cast(l, lir_op2(l, S_LT, lir_float(l, DT_F32, 1), lir_float(l, DT_F32, 2)), DT_I64),
        1));
    ck_assert(is_i64(l, lir_extract(l, lir_iota(l, DT_I64, 8), 5), 5));
    ck_assert_uint_eq(lir_extract(l, lir_splat(l, x, 8), 5).i, x.i);
    ck_assert_uint_eq(lir_bitcast(l, lir_float(l, DT_F32, 1), DT_I32).i,
                      lir_int(l, DT_I32, 0x3f800000).i);
    ck_assert_uint_eq(lir_mask(l, lir_i64(l, 9), 8).i, lir_splat(l, lir_bool(l, true), 8).i);
    ctx_free(c);
}
END_TEST

START_TEST(equal_values_are_one) {
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "cse", 1, 3);
    LVal x = lir_dim(l, 0), y = lir_dim(l, 1), z = lir_dim(l, 2);
    ck_assert_uint_eq(lir_add(l, x, y).i, lir_add(l, y, x).i);
    ck_assert_uint_ne(lir_sub(l, x, y).i, lir_sub(l, y, x).i);
    ck_assert_uint_eq(
        lir_shuffle(l, lir_splat(l, x, 4), lir_splat(l, y, 4), 2, (int16_t[]){0, 4}).i,
        lir_shuffle(l, lir_splat(l, x, 4), lir_splat(l, y, 4), 2, (int16_t[]){0, 4}).i);
    LIf i = lir_if(l, lir_op2(l, S_LT, x, y), 0);
    LVal inner = lir_mul(l, x, z), sum = lir_add(l, x, y);
    ck_assert_uint_eq(lir_mul(l, z, x).i, inner.i);
    lir_else(l, &i, NULL);
    ck_assert_uint_ne(lir_mul(l, x, z).i, inner.i); /* the other part cannot use it */
    ck_assert_uint_eq(lir_add(l, x, y).i, sum.i);
    LVal k = lir_i64(l, 77);
    lir_endif(l, &i, NULL, NULL);
    ck_assert_uint_ne(lir_mul(l, x, z).i, inner.i);
    ck_assert_uint_eq(lir_i64(l, 77).i, k.i); /* constants are visible everywhere */
    ck_assert(lir_verify(c, l));
    ctx_free(c);
}
END_TEST

START_TEST(displacements_float_outward) {
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "addr", 2, 2);
    LVal x = lir_dim(l, 0), y = lir_dim(l, 1);
    LVal a = lir_muli(l, lir_addi(l, x, 3), 8);
    ck_assert_uint_eq(a.i, lir_addi(l, lir_muli(l, x, 8), 24).i);
    ck_assert_uint_eq(lir_add(l, lir_addi(l, x, 3), y).i, lir_addi(l, lir_add(l, x, y), 3).i);
    ck_assert_uint_eq(lir_sub(l, y, lir_addi(l, x, 3)).i, lir_addi(l, lir_sub(l, y, x), -3).i);
    ck_assert_uint_eq(lir_add(l, lir_muli(l, x, 3), x).i, lir_muli(l, x, 4).i);
    ck_assert_uint_eq(lir_splat(l, lir_addi(l, x, 3), 4).i, lir_addi(l, lir_splat(l, x, 4), 3).i);
    LVal v = lir_load(l, lir_buf(l, 0), a, (LTy){DT_F32, 4}, NONE, 0),
         w = lir_load(l, lir_buf(l, 0), lir_muli(l, x, 8), (LTy){DT_F32, 4}, NONE, 0);
    ck_assert_int_eq(def(l, v)->imm, 24);
    ck_assert_int_eq(def(l, w)->imm, 0);
    ck_assert_uint_eq(lir_args(l)[def(l, v)->arg + 1].i, lir_args(l)[def(l, w)->arg + 1].i);
    LVal p = lir_ptr_add(l, lir_buf(l, 1), lir_addi(l, y, 5), DT_F32);
    v = lir_load(l, p, lir_addi(l, x, 2), (LTy){DT_F32, 1}, NONE, 0);
    ck_assert_int_eq(def(l, v)->imm, 7);
    LVal g = lir_gather(l, lir_buf(l, 0),
                        lir_add(l, lir_iota(l, DT_I64, 4), lir_splat(l, lir_addi(l, x, 9), 4)),
                        DT_F32, NONE);
    ck_assert_int_eq(def(l, g)->imm, 9);
    ck_assert(lir_verify(c, l));
    ctx_free(c);
}
END_TEST

START_TEST(single_trip_loops_vanish) {
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "once", 1, 1);
    LVal x = lir_dim(l, 0), r;
    LFor f = lir_for(l, lir_i64(l, 4), lir_i64(l, 8), lir_i64(l, 4), 1, &x);
    ck_assert(is_i64(l, f.iv, 4));
    LVal next = lir_add(l, f.c[0], f.iv);
    lir_for_end(l, &f, &next, &r);
    ck_assert_uint_eq(r.i, lir_addi(l, x, 4).i);
    ctx_free(c);
}
END_TEST

/* y[k] = x[..] in ways that reach memory through what was loaded, and in ways that do not */
START_TEST(chases_are_found) {
    enum { PLAIN, VALUE, MASKED, INDEX, ROUNDS, CARRIED, AFTER, BRANCH, POINTER, WAYS };
    for (int way = 0; way < WAYS; way++) {
        Ctx *c = ctx_new();
        Lir *l = lir_new(c, "chase", 2, 1);
        LVal x = lir_buf(l, 0), y = lir_buf(l, 1), n = lir_dim(l, 0), zero = lir_i64(l, 0), one = lir_i64(l, 1);
        LTy i64 = {DT_I64, 1};
        LVal v = lir_load(l, x, n, i64, NONE, 0), small = lir_op2(l, S_LT, v, n), at = n, r = v;
        LFor f = lir_for(l, zero, way == ROUNDS ? v : n, one, 1, &n);
        LVal in = way == CARRIED ? f.c[0] : f.iv;
        if (way == PLAIN || way == ROUNDS || way == CARRIED) r = lir_load(l, x, in, i64, NONE, 0);
        LVal next = way == CARRIED || way == AFTER ? r : lir_add(l, f.c[0], f.iv);
        lir_for_end(l, &f, &next, &at);
        if (way == BRANCH) {
            LIf i = lir_if(l, small, 1);
            lir_else(l, &i, &one);
            lir_endif(l, &i, &zero, &at);
        }
        if (way == INDEX) at = lir_add(l, v, one);
        lir_store(l, way == POINTER ? lir_ptr_add(l, y, v, DT_I64) : y, at, r, way == MASKED ? small : NONE, 0);
        ck_assert_msg(lir_chases(l) == (way >= INDEX), "way %d", way);
        ctx_free(c);
    }
}
END_TEST

START_TEST(identity_ignores_names) {
    Ctx *c = ctx_new();
    static Rnd r;
    rnd_program(&r, c, "one", 7, F_FMA, 300);
    Lir *a = r.l;
    rnd_program(&r, c, "two", 7, F_FMA, 300);
    Lir *b = r.l;
    rnd_program(&r, c, "one", 8, F_FMA, 300);
    ck_assert(lir_equal(a, b) && lir_hash(a) == lir_hash(b));
    ck_assert(!lir_equal(a, r.l) && lir_hash(a) != lir_hash(r.l));
    lir_alias(b, 0, 1);
    ck_assert(!lir_equal(a, b));
    ck_assert(lir_may_alias(b, 1, 0) && !lir_may_alias(b, 0, 2));
    Buf text = {.c = c};
    lir_print(&text, a);
    ck_assert(strstr(buf_str(&text), "lir @one bufs 8 dims 3 {\n") == buf_str(&text));
    ctx_free(c);
}
END_TEST

/* ---- the interpreter ------------------------------------------------------------------------- */

static int32_t run1(Lir *l, void *buf, size_t bytes, int64_t dim, size_t slack,
                    const char *message) {
    static Ctx *c;
    c = ctx_new();
    _Alignas(64) char scratch[256];
    int32_t rc = lir_run(c, l, &buf, &bytes, &dim, 0, 1, scratch, sizeof scratch, slack);
    if (message)
        ck_assert_msg(strstr(ctx_messages(c), message) != NULL, "%s", ctx_messages(c));
    else
        ck_assert_uint_eq(ctx_errors(c), 0);
    ctx_free(c);
    return rc;
}

START_TEST(accesses_are_checked) {
    Ctx *c = ctx_new();
    _Alignas(64) float data[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    LTy f8 = {DT_F32, 8};
    Lir *l = lir_new(c, "copy", 1, 1);
    lir_store(l, lir_buf(l, 0), lir_i64(l, 0),
              lir_load(l, lir_buf(l, 0), lir_dim(l, 0), f8, NONE, 4), NONE, 4);
    ck_assert_int_eq(run1(l, data, 64, 8, 0, NULL), 0);
    ck_assert_int_eq(
        run1(l, data, 64, 9, 0,
             "read out of bounds (8 lanes of 4 bytes) at byte 36 of buffer 0 (64 bytes)"),
        -1);
    ck_assert_int_eq(run1(l, data, 60, 8, 4, NULL), 0); /* slack may be read */
    ck_assert_int_eq(run1(l, data, 28, 0, 64, "write out of bounds"), -1);
    ck_assert_int_eq(run1(l, data, 64, -1, 0, "read out of bounds"), -1);
    ck_assert_int_eq(run1(l, data, 64, INT64_MAX / 2, 0, "address overflow"), -1);

    l = lir_new(c, "masked", 1, 1);
    LVal mask = lir_mask(l, lir_dim(l, 0), 8),
         p = lir_ptr_add(l, lir_buf(l, 0), lir_i64(l, 12), DT_F32);
    lir_store(l, p, NONE, lir_load(l, p, NONE, f8, mask, 0), mask, 0);
    ck_assert_int_eq(run1(l, data, 64, 4, 0, NULL), 0);
    ck_assert_int_eq(run1(l, data, 64, -4, 0, NULL), 0);
    ck_assert_int_eq(run1(l, data, 64, 5, 0, "read out of bounds"), -1);

    l = lir_new(c, "aligned", 1, 1);
    (void)lir_load(l, lir_buf(l, 0), lir_dim(l, 0), f8, NONE, 32);
    ck_assert_int_eq(run1(l, data, 64, 8, 0, NULL), 0);
    ck_assert_int_eq(run1(l, data, 64, 4, 0, "less aligned"), -1);

    l = lir_new(c, "gather", 1, 1);
    (void)lir_gather(
        l, lir_buf(l, 0),
        lir_add(l, lir_iota(l, DT_I32, 4), lir_splat(l, lir_cast(l, lir_dim(l, 0), DT_I32), 4)),
        DT_F32, NONE);
    ck_assert_int_eq(run1(l, data, 64, 12, 0, NULL), 0);
    ck_assert_int_eq(run1(l, data, 64, 13, 0, "read out of bounds"), -1);

    l = lir_new(c, "scratch", 1, 1);
    lir_store(l, lir_scratch(l), lir_dim(l, 0), lir_splat(l, lir_float(l, DT_F32, 1), 8), NONE, 4);
    ck_assert_int_eq(run1(l, data, 64, 56, 0, NULL), 0);
    ck_assert_int_eq(run1(l, data, 64, 57, 0, "of scratch"), -1);

    l = lir_new(c, "guard", 1, 1);
    lir_fail_if(l, lir_op2(l, S_LT, lir_dim(l, 0), lir_i64(l, 0)), 41);
    (void)lir_op2(l, S_DIV, lir_i64(l, 1), lir_dim(l, 0));
    ck_assert_int_eq(run1(l, data, 64, -1, 0, NULL), 42);
    ck_assert_int_eq(run1(l, data, 64, 0, 0, "by zero"), -1);
    ctx_free(c);
}
END_TEST

/* A prefetch is a hint: it names a place that need not exist, and is no access. */
START_TEST(prefetches_are_no_accesses) {
    Ctx *c = ctx_new();
    _Alignas(64) float data[4] = {1, 2, 3, 4};
    Lir *l = lir_new(c, "hint", 1, 1);
    for (int level = 1; level <= 3; level++)
        lir_prefetch(l, lir_buf(l, 0), lir_addi(l, lir_dim(l, 0), 16), DT_F32, level);
    ck_assert(lir_verify(c, l));
    Buf text = {.c = c};
    lir_print(&text, l);
    ck_assert_msg(strstr(buf_str(&text), "prefetch.l2 f32") != NULL, "%s", buf_str(&text));
    ck_assert_int_eq(run1(l, data, sizeof data, 0, 0, NULL), 0);
    ck_assert_int_eq(run1(l, data, sizeof data, -(1ll << 40), 0, NULL), 0);
    ck_assert(data[0] == 1 && data[3] == 4);
    ctx_free(c);
}
END_TEST

/* ---- compiled code --------------------------------------------------------------------------- */

typedef int32_t (*KernelFn)(void *const *buf, const int64_t *dim, int64_t t0, int64_t t1,
                            void *scratch);

/* Kernels are hidden symbols; a test wants to find them. */
static void publish(char *o) {
    Elf64_Ehdr *eh = (Elf64_Ehdr *)o;
    Elf64_Shdr *sh = (Elf64_Shdr *)(o + eh->e_shoff);
    for (int s = 0; s < eh->e_shnum; s++)
        for (uint64_t at = 0; sh[s].sh_type == SHT_SYMTAB && at < sh[s].sh_size;
             at += sizeof(Elf64_Sym))
            ((Elf64_Sym *)(o + sh[s].sh_offset + at))->st_other = 0;
}

static void *link_and_open(const LlvmOut *o) {
    char dir[] = "/tmp/test_lir_XXXXXX", path[64], cmd[4096];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    size_t n = (size_t)snprintf(cmd, sizeof cmd, "cc -nostdlib -shared -o %s/k.so", dir);
    for (uint32_t b = 0; b < o->nblob; b++) {
        publish(o->blob[b].data);
        snprintf(path, sizeof path, "%s/%u.o", dir, b);
        FILE *f = fopen(path, "wb");
        ck_assert(f && fwrite(o->blob[b].data, 1, o->blob[b].bytes, f) == o->blob[b].bytes);
        fclose(f);
        n += (size_t)snprintf(cmd + n, sizeof cmd - n, " %s", path);
    }
    ck_assert_int_eq(system(cmd), 0);
    snprintf(path, sizeof path, "%s/k.so", dir);
    void *h = dlopen(path, RTLD_NOW);
    ck_assert_msg(h != NULL, "%s", dlerror());
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    ck_assert_int_eq(system(cmd), 0);
    return h;
}

typedef struct Memory {
    _Alignas(64) char in[RND_IN][(RND_ELEMS + 64) * 8], out[RND_OUT_BYTES], scatter[64 * 4],
        scratch[RND_SCRATCH];
} Memory;

static void fill(Memory *m, uint64_t seed) {
    Rnd r = {.seed = seed};
    memset(m, 0xaa, sizeof *m);
    memset(m->scratch, 0, sizeof m->scratch);
    for (int k = 0; k < RND_IN; k++)
        for (int i = 0; i < RND_ELEMS + 64; i++) {
            Scalar s = {rnd_in[k],
                        {.i = rnd_in[k] == DT_BOOL
                                  ? rnd(&r, 2)
                                  : (int64_t)(int32_t)(rnd(&r, 1u << 16) << rnd(&r, 16))}};
            if (rnd_in[k] == DT_U8) s.i = rnd(&r, 256);
            if (dt_is_float(rnd_in[k])) {
                static const double special[] = {0,     -0.0,  1e-42,     -3e38,
                                                 65519, 65520, 6e-8,      0.5,
                                                 -1.5,  2.5,   8388607.5, -4503599627370497.5};
                s.f = rnd(&r, 3)
                          ? ((double)rnd(&r, 2000001) - 1000000) / (double)(1u << rnd(&r, 24))
                          : special[rnd(&r, 12)];
                s.f = dt_convert((Scalar){DT_F64, {.f = s.f}}, s.t).f;
            }
            dt_store(rnd_in[k], m->in[k], i, s);
        }
}

static bool same_lane(DType t, const char *a, const char *b) { /* equal bits, or both NaN */
    unsigned n = t == DT_BOOL ? 1 : dt_bits(t) / 8;
    if (!memcmp(a, b, n)) return true;
    if (!dt_is_float(t)) return false;
    double x = dt_load(t, a, 0).f, y = dt_load(t, b, 0).f;
    return x != x && y != y;
}

static void explain(const Lir *l, const RndOut *o, uint32_t lane, const char *a, const char *b,
                    const char *level, Ctx *c) {
    Buf text = {.c = c};
    lir_print(&text, l);
    DType t = (DType)o->ty.dt;
    Scalar x = dt_load(t == DT_BOOL ? DT_U8 : t, a, 0), y = dt_load(t == DT_BOOL ? DT_U8 : t, b, 0);
    FILE *f = fopen("/tmp/test_lir_failed.txt", "w");
    if (f) fputs(buf_str(&text), f), fclose(f);
    ck_abort_msg("%s at %s: value of type %s x%u stored at %u, lane %u: interpreter %.17g (%llx), "
                 "compiled %.17g (%llx)",
                 lir_name(l), level, dt_name(t), o->ty.lanes, o->at, lane,
                 dt_is_float(t) ? x.f : (double)x.i, (unsigned long long)x.i,
                 dt_is_float(t) ? y.f : (double)y.i, (unsigned long long)y.i);
}

#ifdef __SANITIZE_ADDRESS__ /* interpreter and builder are slower, compiled code is not instrumented */
enum { PROGRAMS = 3, OPS = 160 };
#else
enum { PROGRAMS = 8, OPS = 160 };
#endif
static int programs = PROGRAMS;
static uint64_t first_seed = 1;

static void compare_level(const Target *t) {
    Ctx *c = ctx_new();
    Rnd *r = calloc((size_t)programs, sizeof *r);
    Lir **l = calloc((size_t)programs, sizeof(Lir *));
    ck_assert(r && l);
    for (int p = 0; p < programs; p++) {
        rnd_program(&r[p], c,
                    ctx_printf(c, "random%llu", (unsigned long long)(first_seed + (uint64_t)p)),
                    first_seed + (uint64_t)p, t->flags, OPS);
        l[p] = r[p].l;
        ck_assert_msg(lir_verify(c, l[p]), "%s", ctx_messages(c));
    }
    LlvmOut out = {.kind = LLVM_OBJECT};
    bool compiled = llvm_compile(c, t, (uint32_t)programs, l, &out);
    ck_assert_msg(compiled, "%s", ctx_messages(c));
    ck_assert_uint_ge(out.nblob, 2);
    void *h = link_and_open(&out);
    static Memory a, b;
    for (int p = 0; p < programs; p++) {
        KernelFn fn = (KernelFn)dlsym(h, lir_name(l[p]));
        ck_assert_ptr_nonnull((void *)fn);
        for (int64_t variant = 0; variant < 3; variant++) {
            int64_t dim[RND_DIMS] = {variant * 5, 4 - variant,
                                     variant ? -123456789012345 * variant : 1};
            void *pa[8], *pb[8];
            size_t bytes[8];
            fill(&a, (uint64_t)variant + 99);
            memcpy(&b, &a, sizeof a);
            for (int k = 0; k < RND_IN; k++)
                pa[k] = a.in[k], pb[k] = b.in[k], bytes[k] = sizeof a.in[k];
            pa[RND_OUT] = a.out, pb[RND_OUT] = b.out, bytes[RND_OUT] = sizeof a.out;
            pa[RND_SCATTER] = a.scatter, pb[RND_SCATTER] = b.scatter,
            bytes[RND_SCATTER] = sizeof a.scatter;
            int32_t x =
                lir_run(c, l[p], pa, bytes, dim, variant, variant + 1, a.scratch, RND_SCRATCH, 0);
            ck_assert_msg(x >= 0, "%s", ctx_messages(c));
            int32_t y = fn(pb, dim, variant, variant + 1, b.scratch);
            for (uint32_t o = 0; o < r[p].nout; o++)
                for (uint32_t k = 0; k < r[p].out[o].ty.lanes; k++) {
                    DType dt = (DType)r[p].out[o].ty.dt;
                    uint32_t at = r[p].out[o].at + k * (dt == DT_BOOL ? 1 : dt_bits(dt) / 8);
                    if (!same_lane(dt, a.out + at, b.out + at))
                        explain(l[p], &r[p].out[o], k, a.out + at, b.out + at, t->name, c);
                }
            ck_assert_int_eq(x, y);
            ck_assert(!memcmp(a.scatter, b.scatter, sizeof a.scatter));
        }
    }
    dlclose(h);
    free(r), free(l);
    ctx_free(c);
}

static const char *const levels[] = {"x86-64", "x86-64-v3", "x86-64-v3+avxvnni", "x86-64-v4",
                                     "x86-64-v4+vnni", "x86-64-v4+vnni+amx"};
static const Target *usable(int level) {
    const Target *t = target_find(levels[level]), *host = target_find("host");
    return (t->flags & host->flags) == t->flags ? t : NULL;
}
START_TEST(compiled_code_agrees) {
    const Target *t = usable(_i);
    if (t) compare_level(t);
}
END_TEST

/* All halves, and for f32 -> half the values at and around every rounding boundary, against
 * dt_convert. */
START_TEST(halves_convert_exactly) {
    const Target *t = usable(_i);
    if (!t) return;
    Ctx *c = ctx_new();
    const DType type[2] = {DT_F16, DT_BF16};
    static _Alignas(64) uint16_t half[1 << 16], back[3 << 16];
    static _Alignas(64) float wide[1 << 16], near[3 << 16];
    Lir *l[4];
    for (int k = 0; k < 4; k++) {
        l[k] = lir_new(c, ctx_printf(c, "cast%d", k), 2, 0);
        LTy ty = {(uint8_t)(k & 1 ? DT_F32 : type[k / 2]), 24};
        LVal i = lir_muli(l[k], lir_t0(l[k]), 24),
             mask = lir_mask(l[k], lir_sub(l[k], lir_t1(l[k]), i), 24);
        lir_store(l[k], lir_buf(l[k], 1), i,
                  lir_cast(l[k], lir_load(l[k], lir_buf(l[k], 0), i, ty, mask, 0),
                           k & 1 ? type[k / 2] : DT_F32),
                  mask, 0);
    }
    LlvmOut out = {.kind = LLVM_OBJECT};
    ck_assert(llvm_compile(c, t, 4, l, &out));
    void *h = link_and_open(&out);
    for (int d = 0; d < 2; d++) {
        KernelFn up = (KernelFn)dlsym(h, lir_name(l[2 * d])),
                 down = (KernelFn)dlsym(h, lir_name(l[2 * d + 1]));
        for (uint32_t i = 0; i < 1 << 16; i++) half[i] = (uint16_t)i;
        for (int64_t i = 0; i * 24 < 1 << 16; i++)
            up((void *[]){half, wide}, NULL, i, 1 << 16, NULL);
        for (uint32_t i = 0; i < 1 << 16; i++) {
            double want = dt_load(type[d], half, i).f;
            ck_assert_msg((double)wide[i] == want || (want != want && wide[i] != wide[i]),
                          "%s %04x at %s", dt_name(type[d]), i, t->name);
            float mid = i + 1 < 1 << 16 ? (float)(((double)wide[i] + (double)wide[i + 1]) / 2) : 0;
            near[3 * i] = nextafterf(mid, -INFINITY), near[3 * i + 1] = mid,
                     near[3 * i + 2] = nextafterf(mid, INFINITY);
        }
        for (int64_t i = 0; i * 24 < 3 << 16; i++)
            down((void *[]){near, back}, NULL, i, 3 << 16, NULL);
        for (uint32_t i = 0; i < 3 << 16; i++) {
            double want = dt_convert((Scalar){DT_F32, {.f = near[i]}}, type[d]).f,
                   got = dt_load(type[d], back, i).f;
            ck_assert_msg((got == want && signbit(got) == signbit(want)) ||
                              (want != want && got != got),
                          "%a to %s at %s: %a, not %a", (double)near[i], dt_name(type[d]), t->name,
                          got, want);
        }
    }
    dlclose(h);
    ctx_free(c);
}
END_TEST

/* NaN, or the greater one of |x| and 0: what InstCombine of LLVM 19 makes of it as it stands is 0 where x < 0. */
START_TEST(magnitudes_exceed_zero) {
    const Target *t = usable(_i);
    if (!t) return;
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "magnitude", 2, 0);
    LTy ty = {DT_F32, 8};
    LVal x = lir_op1(l, S_ABS, lir_load(l, lir_buf(l, 0), lir_t0(l), ty, (LVal){0}, 0)), zero = lir_splat(l, lir_float(l, DT_F32, 0), 8);
    LVal most = lir_op3(l, S_SELECT, lir_op2(l, S_NE, x, x), x, lir_op2(l, S_MAX, x, zero));
    lir_store(l, lir_buf(l, 1), lir_t0(l), most, (LVal){0}, 0);
    LlvmOut out = {.kind = LLVM_OBJECT};
    ck_assert(lir_verify(c, l) && llvm_compile(c, t, 1, &l, &out));
    void *h = link_and_open(&out);
    KernelFn fn = (KernelFn)dlsym(h, lir_name(l));
    _Alignas(64) float in[8] = {-2, -0.0f, 0, 3, -INFINITY, INFINITY, NAN, -1e-42f}, got[8];
    fn((void *[]){in, got}, NULL, 0, 1, NULL);
    for (int i = 0; i < 8; i++) ck_assert_msg(got[i] == fabsf(in[i]) || (in[i] != in[i] && got[i] != got[i]), "%a at %s: %a", in[i], t->name, got[i]);
    dlclose(h);
    ctx_free(c);
}
END_TEST

/* Of all pairs of special values, as math.c expands it: NaN if either is one; of two zeros the second (IR.md, 2). */
START_TEST(min_max_of_zeros_and_nan) {
    enum { N = 7, LANES = 16 };
    static const float special[N] = {0.0f, -0.0f, NAN, -INFINITY, INFINITY, -1, 1e-42f};
    const Target *t = usable(_i);
    if (!t) return;
    Ctx *c = ctx_new();
    Lir *l[3];
    for (uint32_t w = 0; w < 3; w++) { /* 1, 4 and 16 lanes */
        LTy ty = {DT_F32, (uint16_t)(1u << 2 * w)};
        LVal arg[2];
        l[w] = lir_new(c, ctx_printf(c, "min_max_%u", w), 4, 0);
        for (uint32_t k = 0; k < 2; k++) arg[k] = lir_load(l[w], lir_buf(l[w], k), lir_t0(l[w]), ty, NONE, 0);
        for (uint32_t k = 0; k < 2; k++)
            lir_store(l[w], lir_buf(l[w], 2 + k), lir_t0(l[w]), math_op(l[w], t, k ? S_MAX : S_MIN, DT_F32, 2, arg), NONE, 0);
        ck_assert(lir_verify(c, l[w]));
    }
    LlvmOut out = {.kind = LLVM_OBJECT};
    ck_assert(llvm_compile(c, t, 3, l, &out));
    void *h = link_and_open(&out);
    float x[LANES], y[LANES], got[2][LANES];
    for (int w = 0; w < 3; w++)
        for (int pair = 0; pair < N * N; pair++) {
            float a = special[pair / N], b = special[pair % N];
            for (int i = 0; i < LANES; i++) x[i] = a, y[i] = b;
            ((KernelFn)dlsym(h, lir_name(l[w])))((void *[]){x, y, got[0], got[1]}, NULL, 0, 1, NULL);
            for (int k = 0; k < 2; k++)
                for (int i = 0; i < 1 << 2 * w; i++) {
                    float want = a != a ? a : b != b ? b : k ? (a > b ? a : b) : (a < b ? a : b), v = got[k][i];
                    ck_assert_msg(want != want ? v != v : v == want && !signbit(v) == !signbit(want), "%s of %a and %a, %d lanes, at %s: %a",
                                  k ? "max" : "min", (double)a, (double)b, 1 << 2 * w, t->name, (double)v);
                }
        }
    dlclose(h);
    ctx_free(c);
}
END_TEST

typedef struct Str {
    const char *p;
    int64_t bytes;
} Str;

START_TEST(strings_compare_by_bytes) {
    static const Str some[] = {{"", 0},   {NULL, 0},  {"a", 1},    {"ab", 2},
                               {"ac", 2}, {"a\0b", 3}, {"a\0c", 3}, {"abc", 2}};
    enum { N = sizeof some / sizeof *some };
    const Target *t = usable(_i);
    if (!t) return;
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "same", 2, 1);
    LTy str = {DT_STR, 1};
    LVal a = lir_load(l, lir_buf(l, 0), lir_t0(l), str, NONE, 0),
         b = lir_load(l, lir_buf(l, 0), lir_dim(l, 0), str, NONE, 0);
    lir_store(l, lir_buf(l, 1), lir_i64(l, 0), lir_streq(l, a, b), NONE, 0);
    ck_assert(lir_verify(c, l));
    LlvmOut out = {.kind = LLVM_OBJECT};
    ck_assert(llvm_compile(c, t, 1, &l, &out));
    void *h = link_and_open(&out);
    KernelFn same = (KernelFn)dlsym(h, lir_name(l));
    _Alignas(64) Str in[N];
    memcpy(in, some, sizeof in);
    for (int64_t x = 0; x < N; x++)
        for (int64_t y = 0; y < N; y++) {
            uint8_t got = 7;
            size_t n = (size_t)some[x].bytes;
            bool want = some[x].bytes == some[y].bytes && (!n || !memcmp(some[x].p, some[y].p, n));
            ck_assert_int_eq(same((void *[]){in, &got}, &y, x, x + 1, NULL), 0);
            ck_assert_msg(got == want, "strings %d and %d at %s", (int)x, (int)y, t->name);
        }
    dlclose(h);
    ctx_free(c);
}
END_TEST

/* Two products of 1 to 16 rows into one sum of tiles, interpreted and compiled, against the definition. */
START_TEST(tiles_multiply) {
    enum { A_PITCH = 80, Y_PITCH = 96 };
    const Target *t = target_find("x86-64-v4+vnni+amx"), *host = target_find("host");
    Ctx *c = ctx_new();
    Lir *l = lir_new(c, "tiles", 3, 1);
    LVal line = lir_i64(l, 64), x = lir_buf(l, 0), w = lir_buf(l, 1);
    lir_tiles(l, lir_dim(l, 0));
    lir_tile_zero(l, 2);
    for (int k = 0; k < 2; k++) {
        lir_tile_load(l, 5, x, lir_i64(l, 8 * k), lir_i64(l, A_PITCH));
        lir_tile_load(l, 7, w, lir_i64(l, 1024 * k), line);
        lir_tile_dot4(l, 2, 5, 7);
    }
    lir_tile_store(l, 2, lir_buf(l, 2), lir_i64(l, 0), lir_i64(l, Y_PITCH));
    lir_tiles_end(l);
    ck_assert_msg(lir_verify(c, l), "%s", ctx_messages(c));
    void *h = NULL;
    if ((t->flags & host->flags) == t->flags) {
        LlvmOut out = {.kind = LLVM_OBJECT};
        ck_assert_msg(llvm_compile(c, t, 1, &l, &out), "%s", ctx_messages(c));
        h = link_and_open(&out);
    }
    static uint8_t a[16 * A_PITCH], b[2048];
    for (size_t i = 0; i < sizeof a; i++) a[i] = (uint8_t)(i * 37 + 11);
    for (size_t i = 0; i < sizeof b; i++) b[i] = (uint8_t)(i * i + 5 * i);
    for (int64_t rows = 1; rows <= 16; rows++)
        for (int compiled = 0; compiled <= (h != NULL); compiled++) {
            int32_t y[16 * Y_PITCH / 4];
            memset(y, 0x5a, sizeof y);
            void *buf[] = {a, b, y};
            size_t bytes[] = {(size_t)(rows - 1) * A_PITCH + 72, sizeof b, (size_t)(rows - 1) * Y_PITCH + 64};
            int32_t rc = compiled ? ((KernelFn)dlsym(h, lir_name(l)))(buf, &rows, 0, 1, NULL)
                                  : lir_run(c, l, buf, bytes, &rows, 0, 1, NULL, 0, 0);
            ck_assert_msg(rc == 0, "%s", ctx_messages(c));
            for (int r = 0; r < 16; r++)
                for (int n = 0; n < Y_PITCH / 4; n++) {
                    int32_t want = 0x5a5a5a5a;
                    if (r < rows && n < 16) want = 0;
                    for (int k = 0; r < rows && n < 16 && k < 128; k++)
                        want += a[r * A_PITCH + k / 64 * 8 + k % 64] * (int8_t)b[k / 4 * 64 + n * 4 + k % 4];
                    ck_assert_int_eq(y[r * Y_PITCH / 4 + n], want);
                }
        }
    int64_t many = 17;
    ck_assert_int_eq(lir_run(c, l, (void *[]){a, b, a}, (size_t[]){sizeof a, sizeof b, sizeof a}, &many, 0, 1, NULL, 0, 0), -1);
    if (h) dlclose(h);
    ctx_free(c);
}
END_TEST

START_TEST(output_is_reproducible) {
    Ctx *c = ctx_new();
    static Rnd r;
    Lir *l[6];
    for (int p = 0; p < 6; p++)
        rnd_program(&r, c, ctx_printf(c, "r%d", p), (uint64_t)p, F_FMA, 60), l[p] = r.l;
    for (int kind = LLVM_OBJECT; kind <= LLVM_ASSEMBLY; kind++) {
        LlvmOut a = {.kind = kind}, b = {.kind = kind};
        ck_assert(llvm_compile(c, target_find("x86-64-v4"), 6, l, &a) &&
                  llvm_compile(c, target_find("x86-64-v4"), 6, l, &b));
        ck_assert_uint_eq(a.nblob, b.nblob);
        for (uint32_t k = 0; k < a.nblob; k++)
            ck_assert(a.blob[k].bytes == b.blob[k].bytes &&
                      !memcmp(a.blob[k].data, b.blob[k].data, a.blob[k].bytes));
    }
    ctx_free(c);
}
END_TEST

/* Usage: test_lir [programs [first seed]] */
int main(int argc, char **argv) {
    if (argc > 1) programs = atoi(argv[1]);
    if (argc > 2) first_seed = strtoull(argv[2], NULL, 0);
    Suite *s = suite_create("lir");
    TCase *t = tcase_create("builder");
    tcase_add_test(t, constants_fold);
    tcase_add_test(t, equal_values_are_one);
    tcase_add_test(t, displacements_float_outward);
    tcase_add_test(t, single_trip_loops_vanish);
    tcase_add_test(t, identity_ignores_names);
    tcase_add_test(t, chases_are_found);
    suite_add_tcase(s, t);
    t = tcase_create("interpreter");
    tcase_add_test(t, accesses_are_checked);
    tcase_add_test(t, prefetches_are_no_accesses);
    suite_add_tcase(s, t);
    t = tcase_create("compiled");
    tcase_set_timeout(t, 600);
    tcase_add_loop_test(t, compiled_code_agrees, 0, sizeof levels / sizeof *levels);
    tcase_add_loop_test(t, halves_convert_exactly, 0, sizeof levels / sizeof *levels);
    tcase_add_loop_test(t, min_max_of_zeros_and_nan, 0, sizeof levels / sizeof *levels);
    tcase_add_loop_test(t, magnitudes_exceed_zero, 0, sizeof levels / sizeof *levels);
    tcase_add_loop_test(t, strings_compare_by_bytes, 0, sizeof levels / sizeof *levels);
    tcase_add_test(t, tiles_multiply);
    tcase_add_test(t, output_is_reproducible);
    suite_add_tcase(s, t);
    return run_suite(s);
}
