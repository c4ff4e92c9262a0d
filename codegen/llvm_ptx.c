/* llvm_ptx.c: what the threads of a block do together, as instructions of PTX (inline assembly: the names of LLVM's intrinsics differ between its
 * versions). Shared memory is one array, as long as the launch says. */
#include <stdio.h>
#include <string.h>

#include "lir_internal.h"
#include "llvm_gpu.h"
#include "llvm_internal.h"
#include "llvm_ptx.h"

typedef LLVMValueRef LV;
enum { SHARED = 3 /* address space */, SHARED_ALIGN = 1024 };

static void add_attribute(const Printer *p, LV call, const char *name, uint64_t v) {
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    LLVMAddCallSiteAttribute(call, LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(p->cx, kind, v));
}

LV llvm_ptx_assembly(const Printer *p, LLVMTypeRef result, const char *text, const char *constraints, unsigned n, LV *a, int how) {
    LLVMTypeRef param[PTX_OPERANDS];
    CHECK(n <= PTX_OPERANDS);
    for (unsigned k = 0; k < n; k++) param[k] = LLVMTypeOf(a[k]);
    LLVMTypeRef t = LLVMFunctionType(result, param, n, 0);
    LV f = LLVMGetInlineAsm(t, text, strlen(text), constraints, strlen(constraints), how & PTX_EFFECT, 0, LLVMInlineAsmDialectATT, 0);
    LV call = LLVMBuildCall2(p->b, t, f, a, n, "");
    if (how) add_attribute(p, call, "convergent", 0);
    if (!(how & PTX_EFFECT)) add_attribute(p, call, "memory", 0); /* none: equal ones may become one */
    add_attribute(p, call, "nounwind", 0);
    return call;
}

static LLVMTypeRef word(const Printer *p) { return LLVMInt32TypeInContext(p->cx); }
LV llvm_ptx_lane(const Printer *p, LV v, unsigned k) { return LLVMBuildExtractElement(p->b, v, LLVMConstInt(word(p), k, 0), ""); }
LV llvm_ptx_shared_address(const Printer *p, LV ptr) { return LLVMBuildPtrToInt(p->b, ptr, word(p), ""); }

LV llvm_ptx_shared(const Printer *p, int64_t at) {
    static const char name[] = "accelc_shared";
    LV g = LLVMGetNamedGlobal(p->md, name), k = LLVMConstInt(word(p), (uint64_t)at, 0);
    if (!g) {
        g = LLVMAddGlobalInAddressSpace(p->md, LLVMArrayType2(LLVMInt8TypeInContext(p->cx), 0), name, SHARED);
        LLVMSetAlignment(g, SHARED_ALIGN);
    }
    return at ? LLVMBuildGEP2(p->b, LLVMInt8TypeInContext(p->cx), g, &k, 1, "") : g;
}

LV llvm_ptx_four(const Printer *p, LV r, unsigned from) {
    LV v = NULL;
    for (unsigned k = 0; k < 4; k++) {
        LV x = LLVMBuildExtractValue(p->b, r, from + k, "");
        v = LLVMBuildInsertElement(p->b, v ? v : LLVMGetPoison(LLVMVectorType(LLVMTypeOf(x), 4)), x, LLVMConstInt(word(p), k, 0), "");
    }
    return v;
}

static LLVMTypeRef four_results(const Printer *p, LLVMTypeRef element) {
    LLVMTypeRef e[4] = {element, element, element, element};
    return LLVMStructTypeInContext(p->cx, e, 4, 0);
}

static LV lane_xor(const Printer *p, const LIns *i, LV v) {
    LLVMTypeRef type = LLVMTypeOf(v);
    char text[64];
    snprintf(text, sizeof text, "shfl.sync.bfly.b32 $0, $1, %d, 31, -1;", (int)i->imm);
    LV x = LLVMBuildBitCast(p->b, v, word(p), "");
    return LLVMBuildBitCast(p->b, llvm_ptx_assembly(p, word(p), text, "=r,r", 1, &x, PTX_WARP), type, "");
}

static LV load_matrix(const Printer *p, const LIns *i, LV ptr) {
    char text[96];
    snprintf(text, sizeof text, "ldmatrix.sync.aligned.m8n8.x4%s.shared.b16 {$0, $1, $2, $3}, [$4+%lld];", i->flags ? ".trans" : "",
             (long long)i->imm);
    LV x = llvm_ptx_shared_address(p, ptr);
    return llvm_ptx_four(p, llvm_ptx_assembly(p, four_results(p, word(p)), text, "=r,=r,=r,=r,r,~{memory}", 1, &x, PTX_WARP | PTX_EFFECT), 0);
}

/* tf32 is f32 with 10 bits after the point; what lies behind them would be cut off. */
static LV tf32(const Printer *p, LV v) { return llvm_ptx_assembly(p, word(p), "cvt.rna.tf32.f32 $0, $1;", "=r,r", 1, &v, PTX_VALUE); }

static LV mma(const Printer *p, const LIns *i, LV *a) {
    static const struct {
        DType in;
        const char *shape, *a, *b;
    } kind[] = {{DT_F32, "m16n8k8", "tf32", "tf32"},
                {DT_F16, "m16n8k16", "f16", "f16"},
                {DT_BF16, "m16n8k16", "bf16", "bf16"},
                {DT_I8, "m16n8k32", "s8", "s8"},
                {DT_U8, "m16n8k32", "u8", "s8"}};
    size_t k = 0;
    while (kind[k].in != i->aux) k++;
    bool whole = i->ty.dt == DT_I32;
    const char *sum = whole ? "s32" : "f32";
    LLVMTypeRef element = whole ? word(p) : LLVMFloatTypeInContext(p->cx);
    char text[200];
    snprintf(text, sizeof text, "mma.sync.aligned.%s.row.col.%s.%s.%s.%s {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
             kind[k].shape, sum, kind[k].a, kind[k].b, sum);
    LV x[10];
    for (unsigned n = 0; n < 6; n++) {
        x[n] = n < 4 ? llvm_ptx_lane(p, a[0], n) : llvm_ptx_lane(p, a[1], n - 4);
        if (i->aux == DT_F32) x[n] = tf32(p, x[n]);
    }
    for (unsigned n = 0; n < 4; n++) x[6 + n] = llvm_ptx_lane(p, a[2], n);
    return llvm_ptx_four(p,
                         llvm_ptx_assembly(p, four_results(p, element), text,
                                           whole ? "=r,=r,=r,=r,r,r,r,r,r,r,r,r,r,r" : "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", 10, x, PTX_WARP),
                         0);
}

static void copy_async(const Printer *p, const LIns *i, LV *a) {
    uint32_t size = i->aux & LIR_COPY_SIZE;
    LLVMTypeRef i64 = LLVMInt64TypeInContext(p->cx);
    bool far = i->imm != (int32_t)i->imm;
    char text[128];
    LV from = LLVMBuildPtrToInt(p->b, a[1], i64, "");
    if (far) from = LLVMBuildAdd(p->b, from, LLVMConstInt(i64, (uint64_t)i->imm, 0), "");
    LV x[3] = {llvm_ptx_shared_address(p, a[0]), from, i->narg == 5 ? LLVMBuildTrunc(p->b, a[2], word(p), "") : NULL};
    snprintf(text, sizeof text, "cp.async.%s.shared.global [$0+%d], [$1+%d], %u%s;", size == 16 ? "cg" : "ca", (int)lir_copy_to(i),
             far ? 0 : (int)i->imm, size, x[2] ? ", $2" : "");
    (void)llvm_ptx_assembly(p, LLVMVoidTypeInContext(p->cx), text, x[2] ? "r,l,r,~{memory}" : "r,l,~{memory}", x[2] ? 3 : 2, x, PTX_EFFECT);
}

LV llvm_ptx_together(Printer *p, const LIns *i, LV *a) {
    char text[64];
    if (lir_is_hopper(i)) return llvm_hopper_together(p, i, a);
    switch (i->op) {
    case L_LANE_XOR:
        return lane_xor(p, i, a[0]);
    case L_LOAD_MATRIX:
        return load_matrix(p, i, a[0]);
    case L_MMA:
        return mma(p, i, a);
    case L_COPY_ASYNC:
        copy_async(p, i, a);
        return NULL;
    case L_COPY_WAIT:
        snprintf(text, sizeof text, "cp.async.wait_group %d;", (int)i->imm);
        break;
    default:
        strcpy(text, i->op == L_BARRIER ? "bar.sync 0;" : "cp.async.commit_group;");
    }
    (void)llvm_ptx_assembly(p, LLVMVoidTypeInContext(p->cx), text, "~{memory}", 0, NULL, PTX_EFFECT);
    return NULL;
}
