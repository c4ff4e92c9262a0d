/* llvm_x86.c: kernels of x86-64: functions of type rt_kernel (runtime/abi.h), and instructions that LLVM IR has no common word for,
 * in pieces of the register's width. */
#include <stdio.h>
#include <string.h>

#include <llvm-c/Target.h>

#include "lir_internal.h"
#include "llvm_internal.h"

typedef LLVMValueRef LV;

static void initialize(void) {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
}

/* ---- the function ---- */

static LV function(Printer *p) {
    LLVMTypeRef ptr = LLVMPointerTypeInContext(p->cx, 0), i64 = LLVMInt64TypeInContext(p->cx), param[5] = {ptr, ptr, i64, i64, ptr};
    p->fn = LLVMAddFunction(p->md, lir_name(p->l), LLVMFunctionType(LLVMInt32TypeInContext(p->cx), param, 5, 0));
    LLVMSetVisibility(p->fn, LLVMHiddenVisibility);
    char width[16];
    snprintf(width, sizeof width, "%u", p->t->vbytes * 8u);
    pr_enum_attr(p, LLVMAttributeFunctionIndex, "nounwind", 0);
    pr_text_attr(p, "no-builtins", "");
    pr_text_attr(p, "target-cpu", p->m->cpu);
    pr_text_attr(p, "target-features", p->t->features);
    pr_text_attr(p, "tune-cpu", p->t->tune);
    pr_text_attr(p, "prefer-vector-width", width);
    for (unsigned arg = 1; arg <= 5; arg += arg == 2 ? 3 : 1) pr_enum_attr(p, arg, "noalias", 0);
    pr_enum_attr(p, 1, "readonly", 0);
    pr_enum_attr(p, 2, "readonly", 0);
    pr_enum_attr(p, 5, "align", 64);
    return p->fn;
}

static LV parameter(Printer *p, const LIns *i) {
    if (i->op == L_TSTEP || i->op == L_TID || i->op == L_NTID) return LLVMConstInt(LLVMInt64TypeInContext(p->cx), i->op != L_TID, 0);
    if (i->op != L_BUF && i->op != L_DIM) return LLVMGetParam(p->fn, i->op == L_T0 ? 2 : i->op == L_T1 ? 3 : 4);
    LV at = LLVMConstInt(LLVMInt64TypeInContext(p->cx), (uint64_t)i->imm * 8, 1), ptr = LLVMGetParam(p->fn, i->op == L_BUF ? 0 : 1);
    if (i->imm) ptr = LLVMBuildGEP2(p->b, pr_int(p, 8, 1), ptr, &at, 1, "");
    LV x = LLVMBuildLoad2(p->b, pr_type(p, i->ty), ptr, "");
    LLVMSetAlignment(x, 8);
    pr_invariant(p, x);
    return x;
}

static void leave(Printer *p, LV status) {
    if (p->streams) (void)pr_intrinsic(p, "llvm.x86.sse.sfence", 0, NULL, 0, NULL); /* such stores are ordered by nothing else */
    LLVMBuildRet(p->b, status);
}

/* ---- values ---- */

/* Whole registers take the instruction itself: as comparison and selection it would be merged with what makes NaN win. */
static LV float_minmax(const Printer *p, SOp op, LTy t, LV *a) {
    char name[48];
    bool f64 = t.dt == DT_F64, max = op == S_MAX;
    unsigned bits = t.lanes * (f64 ? 64u : 32u);
    if (bits == 512 && (p->t->flags & F_AVX512)) {
        snprintf(name, sizeof name, "llvm.x86.avx512.%s.p%c.512", max ? "max" : "min", f64 ? 'd' : 's');
        return pr_intrinsic(p, name, 0, NULL, 3, (LV[]){a[0], a[1], LLVMConstInt(LLVMInt32TypeInContext(p->cx), 4, 0)});
    }
    if (bits == 256 && (p->t->flags & F_AVX2)) {
        snprintf(name, sizeof name, "llvm.x86.avx.%s.p%c.256", max ? "max" : "min", f64 ? 'd' : 's');
        return pr_intrinsic(p, name, 0, NULL, 2, a);
    }
    if (bits == 128) {
        snprintf(name, sizeof name, "llvm.x86.sse%s.%s.p%c", f64 ? "2" : "", max ? "max" : "min", f64 ? 'd' : 's');
        return pr_intrinsic(p, name, 0, NULL, 2, a);
    }
    return NULL; /* comparison and selection: one instruction, too */
}

/* Bytes `at`, numbers in halves of a register, of a register. */
static LV bytes_in_halves(const Printer *p, LV table, LV at) {
    LLVMTypeRef i16 = pr_int(p, 16, 1);
    LV one = pr_splat(p, LLVMConstInt(i16, 1, 0), 32), three = pr_splat(p, LLVMConstInt(i16, 3, 0), 32);
    LV shift = LLVMBuildShl(p->b, LLVMBuildAnd(p->b, at, one, ""), three, "");
    LV half = pr_intrinsic(p, "llvm.x86.avx512.permvar.hi.512", 0, NULL, 2, (LV[]){table, LLVMBuildLShr(p->b, at, one, "")});
    return LLVMBuildLShr(p->b, half, shift, "");
}

/* Of 64 bytes: what has no instruction at all levels is two permutations of halves, for even and odd lanes. */
static LV permute_bytes(const Printer *p, LV table, LV idx) {
    LLVMTypeRef halves = pr_int(p, 16, 32), i16 = pr_int(p, 16, 1);
    LV low = pr_splat(p, LLVMConstInt(i16, 255, 0), 32), eight = pr_splat(p, LLVMConstInt(i16, 8, 0), 32);
    table = LLVMBuildBitCast(p->b, table, halves, "");
    idx = LLVMBuildBitCast(p->b, idx, halves, "");
    LV even = LLVMBuildAnd(p->b, bytes_in_halves(p, table, LLVMBuildAnd(p->b, idx, low, "")), low, "");
    LV odd = LLVMBuildShl(p->b, bytes_in_halves(p, table, LLVMBuildLShr(p->b, idx, eight, "")), eight, "");
    return LLVMBuildBitCast(p->b, LLVMBuildOr(p->b, even, odd, ""), pr_int(p, 8, 64), "");
}

static LV permute(const Printer *p, LTy t, LV table, LV idx) {
    uint32_t n = t.lanes;
    bool avx = p->t->flags & F_AVX2, avx512 = p->t->flags & F_AVX512;
    if (avx512 && t.dt == DT_U16 && n == 32) return pr_intrinsic(p, "llvm.x86.avx512.permvar.hi.512", 0, NULL, 2, (LV[]){table, idx});
    if (avx512 && t.dt == DT_U8 && n == 64) return permute_bytes(p, table, idx);
    if (t.dt != DT_F32) return NULL;
    if (avx512 && n == 16)
        return pr_intrinsic(p, "llvm.x86.avx512.permvar.sf.512", 0, NULL, 2, (LV[]){table, idx});
    if (avx && n == 8)
        return pr_intrinsic(p, "llvm.x86.avx2.permps", 0, NULL, 2, (LV[]){table, idx});
    if (avx && n == 4)
        return pr_intrinsic(p, "llvm.x86.avx.vpermilvar.ps", 0, NULL, 2, (LV[]){table, idx});
    if (n == 32 && avx512) {
        LV lo = pr_slice(p, table, 0, 16), hi = pr_slice(p, table, 16, 16), half[2];
        for (uint32_t k = 0; k < 2; k++)
            half[k] = pr_intrinsic(p, "llvm.x86.avx512.vpermi2var.ps.512", 0, NULL, 3,
                                   (LV[]){lo, pr_slice(p, idx, 16 * k, 16), hi});
        return pr_concat(p, half[0], half[1]);
    }
    return NULL;
}

static LV dot4_vnni(const Printer *p, uint32_t w, LV *a) {
    const char *name = w == 16  ? "llvm.x86.avx512.vpdpbusd.512"
                       : w == 8 ? "llvm.x86.avx512.vpdpbusd.256"
                                : "llvm.x86.avx512.vpdpbusd.128";
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    if (!id) ICE("llvm: no intrinsic %s", name);
    LLVMTypeRef ty[3];
    LLVMGetParamTypes(LLVMIntrinsicGetType(p->cx, id, NULL, 0),
                      ty); /* i32 or i8 lanes, by the version of LLVM */
    LV x[3];
    for (int k = 0; k < 3; k++) x[k] = LLVMBuildBitCast(p->b, a[k], ty[k], "");
    return pr_intrinsic(p, name, 0, NULL, 3, x);
}

static LV madd(const Printer *p, uint32_t w,
               LV *a) { /* i32 lanes holding i16 pairs: sums of products of pairs */
    LLVMTypeRef i16 = pr_int(p, 16, 2 * w);
    LV x[2] = {LLVMBuildBitCast(p->b, a[0], i16, ""), LLVMBuildBitCast(p->b, a[1], i16, "")};
    return pr_intrinsic(p,
                        w == 16  ? "llvm.x86.avx512.pmaddw.d.512"
                        : w == 8 ? "llvm.x86.avx2.pmadd.wd"
                                 : "llvm.x86.sse2.pmadd.wd",
                        0, NULL, 2, x);
}

/* Even and odd bytes as i16: products need 17 bits and their sums 18, which pmaddwd keeps
 * (pmaddubsw would saturate). */
static LV dot4_madd(const Printer *p, uint32_t w, LV *a) {
    LLVMTypeRef i16 = pr_int(p, 16, 2 * w), i32 = pr_int(p, 32, w);
    LV eight = pr_splat(p, LLVMConstInt(pr_int(p, 16, 1), 8, 0), 2 * w),
       low = pr_splat(p, LLVMConstInt(pr_int(p, 16, 1), 255, 0), 2 * w);
    LV u = LLVMBuildBitCast(p->b, a[1], i16, ""), s = LLVMBuildBitCast(p->b, a[2], i16, "");
    LV even[2] = {LLVMBuildAnd(p->b, u, low, ""),
                  LLVMBuildAShr(p->b, LLVMBuildShl(p->b, s, eight, ""), eight, "")};
    LV odd[2] = {LLVMBuildLShr(p->b, u, eight, ""), LLVMBuildAShr(p->b, s, eight, "")};
    for (int k = 0; k < 2; k++)
        even[k] = LLVMBuildBitCast(p->b, even[k], i32, ""),
        odd[k] = LLVMBuildBitCast(p->b, odd[k], i32, "");
    LV sum = LLVMBuildAdd(p->b, a[0], madd(p, w, even), "");
    return LLVMBuildAdd(p->b, sum, madd(p, w, odd), "");
}

/* Products fit into 16 bits, their sums may not. */
static LV saturated_pairs(const Printer *p, uint32_t w, LV u, LV s) {
    int16_t at[2][64];
    LLVMTypeRef i16 = pr_int(p, 16, 4 * w), pairs = pr_int(p, 16, 2 * w);
    LV half[2];
    u = LLVMBuildZExt(p->b, u, i16, "");
    s = LLVMBuildSExt(p->b, s, i16, "");
    LV m = LLVMBuildMul(p->b, u, s, "");
    for (uint32_t k = 0; k < 4 * w; k++) at[k % 2][k / 2] = (int16_t)k;
    for (int k = 0; k < 2; k++) half[k] = pr_shuffle(p, m, m, 2 * w, at[k]);
    return pr_intrinsic(p, "llvm.sadd.sat", 1, &pairs, 2, half);
}

static LV pairs(const Printer *p, uint32_t w, LV *a) {
    static const char *const name[] = {"llvm.x86.ssse3.pmadd.ub.sw.128", "llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx512.pmaddubs.w.512"};
    LLVMTypeRef bytes = pr_int(p, 8, 4 * w), halves = pr_int(p, 16, 2 * w);
    LV x[2] = {LLVMBuildBitCast(p->b, a[1], bytes, ""), LLVMBuildBitCast(p->b, a[2], bytes, "")};
    LV sum[2] = {LLVMBuildBitCast(p->b, a[0], halves, "")};
    sum[1] = p->t->flags & F_AVX2 ? pr_intrinsic(p, name[w / 8], 0, NULL, 2, x) : saturated_pairs(p, w, x[0], x[1]);
    return LLVMBuildBitCast(p->b, pr_intrinsic(p, "llvm.sadd.sat", 1, &halves, 2, sum), pr_int(p, 32, w), "");
}

static LV add_pair(const Printer *p, uint32_t w, LV *a) {
    LV x[2] = {a[1], pr_splat(p, LLVMConstInt(pr_int(p, 16, 1), 1, 0), 2 * w)};
    return LLVMBuildAdd(p->b, a[0], madd(p, w, x), "");
}

static LV dot4(const Printer *p, LOp op, LTy t, LV *a) {
    ChunkFn f = op == L_PAIRS ? pairs : op == L_ADD_PAIR ? add_pair : p->t->flags & F_VNNI ? dot4_vnni : dot4_madd;
    return pr_chunked(p, t.lanes, pr_chunk_lanes(p, t.lanes, 4), op == L_ADD_PAIR ? 2 : 3, a, f);
}

static LV scalef_avx512(const Printer *p, uint32_t w, LV *a) {
    bool f64 = LLVMGetTypeKind(LLVMGetElementType(LLVMTypeOf(a[0]))) == LLVMDoubleTypeKind;
    unsigned bits = w * (f64 ? 64 : 32);
    char name[64];
    snprintf(name, sizeof name, "llvm.x86.avx512.mask.scalef.p%c.%u", f64 ? 'd' : 's', bits);
    LV x[5] = {a[0], a[1], LLVMConstNull(LLVMTypeOf(a[0])),
               LLVMConstAllOnes(pr_int(p, w < 8 ? 8 : w, 1)), LLVMConstInt(pr_int(p, 32, 1), 4, 0)};
    return pr_intrinsic(p, name, 0, NULL, bits == 512 ? 5 : 4, x);
}

static LV scalef(const Printer *p, LTy t, LV *a) {
    if (!(p->t->flags & F_AVX512)) return NULL;
    return pr_chunked(p, t.lanes, pr_chunk_lanes(p, t.lanes, t.dt == DT_F64 ? 8 : 4), 2, a, scalef_avx512);
}

/* ---- tiles: by number, so that no register allocator configures them anew ---- */

/* The configuration: palette 1, rows of 64 bytes; its memory is part of the frame. */
static void tiles_begin(Printer *p, LV count) {
    LLVMTypeRef byte = pr_int(p, 8, 1), block = LLVMArrayType2(byte, 64);
    LV e[64], rows = LLVMBuildTrunc(p->b, count, byte, "");
    for (int b = 0; b < 64; b++) {
        bool width = b >= 16 && b < 16 + 2 * LIR_TILES && b % 2 == 0, full = b >= 54 && b < 56;
        e[b] = LLVMConstInt(byte, b == 0 ? 1 : width ? LIR_TILE_PITCH : full ? LIR_TILE_ROWS : 0, 0);
    }
    if (!p->tiles) {
        LLVMBasicBlockRef at = LLVMGetInsertBlock(p->b);
        LLVMPositionBuilderBefore(p->b, LLVMGetFirstInstruction(LLVMGetEntryBasicBlock(p->fn)));
        p->tiles = LLVMBuildAlloca(p->b, block, "");
        LLVMSetAlignment(p->tiles, 64);
        LLVMPositionBuilderAtEnd(p->b, at);
    }
    LLVMSetAlignment(LLVMBuildStore(p->b, LLVMConstVector(e, 64), p->tiles), 64);
    for (int t = 0; t < 6; t++) {
        LV at = LLVMConstInt(LLVMInt64TypeInContext(p->cx), 48 + (uint64_t)t, 0);
        LLVMBuildStore(p->b, rows, LLVMBuildGEP2(p->b, byte, p->tiles, &at, 1, ""));
    }
    (void)pr_intrinsic(p, "llvm.x86.ldtilecfg", 0, NULL, 1, &p->tiles);
}

static LV tile_number(const Printer *p, int64_t n) { return LLVMConstInt(pr_int(p, 8, 1), (uint64_t)n, 0); }

static void tile(Printer *p, const LIns *i, LV address) {
    const LVal *a = p->args + i->arg;
    LV x[3];
    switch (i->op) {
    case L_TILES:
        tiles_begin(p, p->val[a[0].i]);
        return;
    case L_TILES_END:
        (void)pr_intrinsic(p, "llvm.x86.tilerelease", 0, NULL, 0, x);
        return;
    case L_TILE_ZERO:
        x[0] = tile_number(p, i->imm);
        (void)pr_intrinsic(p, "llvm.x86.tilezero", 0, NULL, 1, x);
        return;
    case L_TILE_DOT4:
        for (int n = 0; n < 3; n++) x[n] = tile_number(p, i->imm >> 4 * n & 15);
        (void)pr_intrinsic(p, "llvm.x86.tdpbusd", 0, NULL, 3, x);
        return;
    default:
        x[0] = tile_number(p, i->aux);
        x[1] = address;
        x[2] = p->val[a[2].i];
        (void)pr_intrinsic(p, i->op == L_TILE_LOAD ? "llvm.x86.tileloadd64" : "llvm.x86.tilestored64", 0, NULL, 3, x);
    }
}

/* Lir is folded and numbered already: what is left are address computations and shuffles.
 * default<O2> takes ten times as long for the same code; the loop and SLP vectorisers must not run. */
const Machine llvm_x86 = {.triple = "x86_64-unknown-linux-gnu",
                          .cpu = "x86-64",
                          .passes = "early-cse,simplifycfg,instcombine<no-verify-fixpoint>",
                          .modules = 16,
                          .initialize = initialize,
                          .function = function,
                          .parameter = parameter,
                          .leave = leave,
                          .float_minmax = float_minmax,
                          .permute = permute,
                          .scalef = scalef,
                          .dot4 = dot4,
                          .tile = tile};
