/* llvm_ops.c: Lir values as LLVM IR. Every operation is given in a form that the target selects
 * without a library call, at any number of lanes: target intrinsics are applied in chunks of the
 * register's width, and what SSE2 lacks (rounding, f16, scalef) is spelled out. No fast-math flags:
 * results are those of the interpreter, bit for bit, except for NaN payloads, and for FMA, which is
 * a product and a sum on targets without F_FMA. */
#include <math.h>
#include <string.h>

#include "lir_internal.h"
#include "llvm_internal.h"

typedef LLVMValueRef LV;

/* ---- types and constants --------------------------------------------------------------------- */

LLVMTypeRef pr_int(const Printer *p, unsigned bits, uint32_t lanes) {
    LLVMTypeRef t = LLVMIntTypeInContext(p->cx, bits);
    return lanes > 1 ? LLVMVectorType(t, lanes) : t;
}

LLVMTypeRef pr_type(const Printer *p, LTy t) {
    LLVMTypeRef e = t.dt == DT_F32    ? LLVMFloatTypeInContext(p->cx)
                    : t.dt == DT_F64  ? LLVMDoubleTypeInContext(p->cx)
                    : t.dt == DT_PTR  ? LLVMPointerTypeInContext(p->cx, p->m->address_space)
                    : t.dt == DT_BOOL ? LLVMInt1TypeInContext(p->cx)
                                      : LLVMIntTypeInContext(p->cx, lir_bits((DType)t.dt));
    return t.lanes > 1 ? LLVMVectorType(e, t.lanes) : e;
}

LV pr_splat(const Printer *p, LV s, uint32_t lanes) {
    if (lanes <= 1) return s;
    if (LLVMIsConstant(s)) {
        LV e[LIR_MAX_LANES];
        for (uint32_t k = 0; k < lanes; k++) e[k] = s;
        return LLVMConstVector(e, lanes);
    }
    LV v = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(s), lanes));
    v = LLVMBuildInsertElement(p->b, v, s, LLVMConstInt(pr_int(p, 64, 1), 0, 0), "");
    return LLVMBuildShuffleVector(p->b, v, LLVMGetPoison(LLVMTypeOf(v)),
                                  LLVMConstNull(pr_int(p, 32, lanes)), "");
}

static LV const_bits(const Printer *p, LTy t, uint64_t bits) {
    LTy one = {t.dt, 1};
    LV v = LLVMConstInt(pr_int(p, t.dt == DT_BOOL ? 1 : lir_bits((DType)t.dt), 1), bits, 0);
    if (t.dt == DT_F32 || t.dt == DT_F64) v = LLVMConstBitCast(v, pr_type(p, one));
    return pr_splat(p, v, t.lanes);
}

LV pr_const(const Printer *p, LTy t, int64_t i, double f) {
    uint64_t bits = 0;
    if (!dt_is_float((DType)t.dt)) return const_bits(p, t, (uint64_t)i);
    dt_store((DType)t.dt, &bits, 0, (Scalar){(DType)t.dt, {.f = f}});
    return const_bits(p, t, bits);
}

static uint32_t lanes_of(LV v) {
    LLVMTypeRef t = LLVMTypeOf(v);
    return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetVectorSize(t) : 1;
}

LV pr_shuffle(const Printer *p, LV a, LV b, uint32_t lanes, const int16_t *idx) {
    LV m[LIR_MAX_LANES];
    LLVMTypeRef i32 = LLVMInt32TypeInContext(p->cx);
    for (uint32_t k = 0; k < lanes; k++)
        m[k] = idx[k] < 0 ? LLVMGetPoison(i32) : LLVMConstInt(i32, (unsigned)idx[k], 0);
    return LLVMBuildShuffleVector(p->b, a, b, LLVMConstVector(m, lanes), "");
}

static LV to_vector(const Printer *p, LV v) { /* a scalar as one lane */
    if (LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind) return v;
    return LLVMBuildInsertElement(p->b, LLVMGetPoison(LLVMVectorType(LLVMTypeOf(v), 1)), v,
                                  LLVMConstInt(pr_int(p, 64, 1), 0, 0), "");
}

LV pr_slice(const Printer *p, LV v, uint32_t from, uint32_t lanes) {
    int16_t idx[LIR_MAX_LANES];
    uint32_t n = lanes_of(v);
    if (from == 0 && lanes == n && LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind) return v;
    for (uint32_t k = 0; k < lanes; k++) idx[k] = (int16_t)(from + k < n ? (int)(from + k) : -1);
    v = to_vector(p, v);
    return pr_shuffle(p, v, LLVMGetPoison(LLVMTypeOf(v)), lanes, idx);
}

LV pr_concat(const Printer *p, LV a, LV b) {
    int16_t idx[LIR_MAX_LANES];
    uint32_t n = lanes_of(a);
    for (uint32_t k = 0; k < 2 * n; k++) idx[k] = (int16_t)k;
    return pr_shuffle(p, a, b, 2 * n, idx);
}

LV pr_intrinsic(const Printer *p, const char *name, unsigned nov, LLVMTypeRef *ov, unsigned n,
                LV *a) {
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    if (!id) ICE("llvm: no intrinsic %s", name);
    return LLVMBuildCall2(p->b, LLVMIntrinsicGetType(p->cx, id, ov, nov),
                          LLVMGetIntrinsicDeclaration(p->md, id, ov, nov), a, n, "");
}
/* overloaded on the type of a[0] */
static LV intrinsic_same(const Printer *p, const char *name, unsigned n, LV *a) {
    LLVMTypeRef t = LLVMTypeOf(a[0]);
    return pr_intrinsic(p, name, 1, &t, n, a);
}

LV pr_chunked(const Printer *p, uint32_t n, uint32_t w, int narg, LV *a, ChunkFn f) {
    LV part[LIR_MAX_LANES], x[4];
    uint32_t pieces = 1;
    while (pieces * w < n) pieces *= 2;
    for (uint32_t k = 0; k < pieces; k++) {
        if (k * w >= n) {
            part[k] = LLVMGetPoison(LLVMTypeOf(part[0]));
            continue;
        }
        for (int j = 0; j < narg; j++) x[j] = pr_slice(p, a[j], k * w, w);
        part[k] = f(p, w, x);
    }
    for (uint32_t k = pieces; k > 1; k /= 2)
        for (uint32_t j = 0; j < k / 2; j++) part[j] = pr_concat(p, part[2 * j], part[2 * j + 1]);
    if (n == 1)
        return LLVMBuildExtractElement(p->b, part[0], LLVMConstInt(pr_int(p, 64, 1), 0, 0), "");
    return pr_slice(p, part[0], 0, n);
}
uint32_t pr_chunk_lanes(const Printer *p, uint32_t n, unsigned bytes) {
    uint32_t w = 16 / bytes;
    while (w < n && w * bytes < p->t->vbytes) w *= 2;
    return w;
}

/* ---- building blocks: all take and give values of any lanes ---------------------------------- */

static LTy like(LTy t, DType dt) { return (LTy){(uint8_t)dt, t.lanes}; }
static LV as_int(const Printer *p, LV v, LTy t) {
    return LLVMBuildBitCast(p->b, v, pr_int(p, lir_bits((DType)t.dt), t.lanes), "");
}
static LV as_float(const Printer *p, LV v, LTy t) {
    return LLVMBuildBitCast(p->b, v, pr_type(p, t), "");
}
static LV num(const Printer *p, LTy t, double f) { return pr_const(p, t, (int64_t)f, f); }
static DType int_of(LTy t) { return lir_bits((DType)t.dt) == 64 ? DT_I64 : DT_I32; }

static LV magnitude(const Printer *p, LTy t, LV x, LV *sign) {
    LTy it = like(t, int_of(t));
    LV bits = as_int(p, x, t), top = pr_const(p, it, t.dt == DT_F64 ? INT64_MIN : INT32_MIN, 0);
    *sign = LLVMBuildAnd(p->b, bits, top, "");
    return as_float(p, LLVMBuildXor(p->b, bits, *sign, ""), t);
}

/* SSE2 has no rounding instruction: |x| + 2^23 - 2^23 rounds to nearest even where |x| < 2^23; the
 * sign comes back last. */
static LV round_sse2(const Printer *p, SOp op, LTy t, LV x) {
    LV sign, a = magnitude(p, t, x, &sign), big = num(p, t, t.dt == DT_F64 ? 0x1p52 : 0x1p23),
             one = num(p, t, 1), zero = num(p, t, 0);
    LV r = LLVMBuildFSub(p->b, LLVMBuildFAdd(p->b, a, big, ""), big, "");
    if (op != S_RINT) { /* toward zero, then one step away for floor below zero and ceil above */
        LV over = LLVMBuildFCmp(p->b, LLVMRealOGT, r, a, "");
        r = LLVMBuildFSub(p->b, r, LLVMBuildSelect(p->b, over, one, zero, ""), "");
    }
    if (op == S_FLOOR || op == S_CEIL) {
        LV side = LLVMBuildFCmp(p->b, op == S_FLOOR ? LLVMRealOLT : LLVMRealOGT, x, zero, "");
        LV up = LLVMBuildAnd(p->b, side, LLVMBuildFCmp(p->b, LLVMRealOLT, r, a, ""), "");
        r = LLVMBuildFAdd(p->b, r, LLVMBuildSelect(p->b, up, one, zero, ""), "");
    }
    r = as_float(p, LLVMBuildOr(p->b, as_int(p, r, t), sign, ""), t);
    return LLVMBuildSelect(p->b, LLVMBuildFCmp(p->b, LLVMRealOLT, a, big, ""), r, x, "");
}

static bool is_float_zero(LV v) {
    if (!LLVMIsConstant(v) || LLVMIsNull(v)) return LLVMIsConstant(v);
    LLVMBool inexact;
    if (LLVMGetTypeKind(LLVMTypeOf(v)) != LLVMVectorTypeKind) return LLVMIsAConstantFP(v) && LLVMConstRealGetDouble(v, &inexact) == 0;
    for (unsigned i = 0; i < LLVMGetVectorSize(LLVMTypeOf(v)); i++)
        if (!is_float_zero(LLVMGetAggregateElement(v, i))) return false;
    return true;
}

/* |x| > 0 is x != 0. LLVM knows, but InstCombine of LLVM 19 takes isnan(|x|) ? |x| : |x| > 0 ? |x| : 0 for one that asks x > 0. */
static LV float_compare(const Printer *p, LLVMRealPredicate by, LV x, LV y) {
    static const char fabs_name[] = "llvm.fabs";
    if (by == LLVMRealOGT && LLVMIsACallInst(x) && is_float_zero(y) &&
        LLVMGetIntrinsicID(LLVMGetCalledValue(x)) == LLVMLookupIntrinsicID(fabs_name, sizeof fabs_name - 1)) {
        by = LLVMRealONE;
        x = LLVMGetOperand(x, 0);
    }
    return LLVMBuildFCmp(p->b, by, x, y, "");
}

static LV float_minmax(const Printer *p, SOp op, LTy t, LV *a) {
    LV v = p->m->float_minmax ? p->m->float_minmax(p, op, t, a) : NULL;
    if (v) return v;
    LV c = float_compare(p, op == S_MAX ? LLVMRealOGT : LLVMRealOLT, a[0], a[1]);
    return LLVMBuildSelect(p->b, c, a[0], a[1], "");
}

static LV float_op(const Printer *p, SOp op, LTy t, LV *a) {
    static const char *const rounding[S_COUNT] = {[S_FLOOR] = "llvm.floor",
                                                  [S_CEIL] = "llvm.ceil",
                                                  [S_TRUNC] = "llvm.trunc",
                                                  [S_RINT] = "llvm.rint"};
    switch (op) {
    case S_ADD:
        return LLVMBuildFAdd(p->b, a[0], a[1], "");
    case S_SUB:
        return LLVMBuildFSub(p->b, a[0], a[1], "");
    case S_MUL:
        return LLVMBuildFMul(p->b, a[0], a[1], "");
    case S_DIV:
        return LLVMBuildFDiv(p->b, a[0], a[1], "");
    case S_NEG:
        return LLVMBuildFNeg(p->b, a[0], "");
    case S_MIN:
    case S_MAX:
        return float_minmax(p, op, t, a);
    case S_ABS:
        return intrinsic_same(p, "llvm.fabs", 1, a);
    case S_SQRT:
        return intrinsic_same(p, "llvm.sqrt", 1, a);
    case S_FMA:
        if (p->t->flags & F_FMA) return intrinsic_same(p, "llvm.fma", 3, a);
        return LLVMBuildFAdd(p->b, LLVMBuildFMul(p->b, a[0], a[1], ""), a[2], "");
    case S_FLOOR:
    case S_CEIL:
    case S_TRUNC:
    case S_RINT:
        return p->t->flags & F_ROUND ? intrinsic_same(p, rounding[op], 1, a)
                                    : round_sse2(p, op, t, a[0]);
    default:
        ICE("llvm: float operation %d", op);
    }
}

static LV int_op(const Printer *p, SOp op, LTy t, LV *a) {
    bool sgn = dt_is_signed((DType)t.dt);
    LV zero = LLVMConstNull(LLVMTypeOf(a[0]));
    switch (op) {
    case S_ADD:
        return LLVMBuildAdd(p->b, a[0], a[1], "");
    case S_SUB:
        return LLVMBuildSub(p->b, a[0], a[1], "");
    case S_MUL:
        return LLVMBuildMul(p->b, a[0], a[1], "");
    case S_NEG:
        return LLVMBuildNeg(p->b, a[0], "");
    case S_NOT:
        return LLVMBuildNot(p->b, a[0], "");
    case S_AND:
        return LLVMBuildAnd(p->b, a[0], a[1], "");
    case S_OR:
        return LLVMBuildOr(p->b, a[0], a[1], "");
    case S_XOR:
        return LLVMBuildXor(p->b, a[0], a[1], "");
    case S_SHL:
        return LLVMBuildShl(p->b, a[0], a[1], "");
    case S_SHR:
        return sgn ? LLVMBuildAShr(p->b, a[0], a[1], "") : LLVMBuildLShr(p->b, a[0], a[1], "");
    case S_ABS:
        return intrinsic_same(p, "llvm.abs", 2,
                              (LV[]){a[0], LLVMConstInt(LLVMInt1TypeInContext(p->cx), 0, 0)});
    case S_MIN:
        return intrinsic_same(p, sgn ? "llvm.smin" : "llvm.umin", 2, a);
    case S_MAX:
        return intrinsic_same(p, sgn ? "llvm.smax" : "llvm.umax", 2, a);
    case S_DIV:
        return sgn ? LLVMBuildSDiv(p->b, a[0], a[1], "") : LLVMBuildUDiv(p->b, a[0], a[1], "");
    case S_REM:
        return sgn ? LLVMBuildSRem(p->b, a[0], a[1], "") : LLVMBuildURem(p->b, a[0], a[1], "");
    case S_FDIV:
    case S_MOD: {
        if (!sgn) return int_op(p, op == S_FDIV ? S_DIV : S_REM, t, a);
        LV q = LLVMBuildSDiv(p->b, a[0], a[1], ""),
           r = LLVMBuildSub(p->b, a[0], LLVMBuildMul(p->b, q, a[1], ""), "");
        LV opposite = LLVMBuildICmp(p->b, LLVMIntSLT, LLVMBuildXor(p->b, r, a[1], ""), zero, "");
        LV down = LLVMBuildAnd(p->b, LLVMBuildICmp(p->b, LLVMIntNE, r, zero, ""), opposite, "");
        if (op == S_FDIV)
            return LLVMBuildAdd(p->b, q, LLVMBuildSExt(p->b, down, LLVMTypeOf(q), ""), "");
        return LLVMBuildAdd(p->b, r, LLVMBuildSelect(p->b, down, a[1], zero, ""), "");
    }
    default:
        ICE("llvm: integer operation %d", op);
    }
}

static LV scalar_op(const Printer *p, SOp op, LTy t,
                    LV *a) { /* t: type of the operands (of the values for SELECT) */
    static const LLVMRealPredicate fp[S_COUNT] = {
        [S_EQ] = LLVMRealOEQ, [S_NE] = LLVMRealUNE, [S_LT] = LLVMRealOLT,
        [S_LE] = LLVMRealOLE, [S_GT] = LLVMRealOGT, [S_GE] = LLVMRealOGE};
    static const LLVMIntPredicate si[S_COUNT] = {
        [S_EQ] = LLVMIntEQ,  [S_NE] = LLVMIntNE,  [S_LT] = LLVMIntSLT,
        [S_LE] = LLVMIntSLE, [S_GT] = LLVMIntSGT, [S_GE] = LLVMIntSGE};
    static const LLVMIntPredicate ui[S_COUNT] = {
        [S_EQ] = LLVMIntEQ,  [S_NE] = LLVMIntNE,  [S_LT] = LLVMIntULT,
        [S_LE] = LLVMIntULE, [S_GT] = LLVMIntUGT, [S_GE] = LLVMIntUGE};
    unsigned cls = lir_class((DType)t.dt);
    if (op == S_SELECT) return LLVMBuildSelect(p->b, a[0], a[1], a[2], "");
    if (lir_sop_class[op] & LC_CMP) {
        if (cls == LC_FLOAT) return float_compare(p, fp[op], a[0], a[1]);
        return LLVMBuildICmp(p->b, (dt_is_signed((DType)t.dt) ? si : ui)[op], a[0], a[1], "");
    }
    return cls == LC_FLOAT ? float_op(p, op, t, a) : int_op(p, op, t, a);
}

/* ---- conversions ----------------------------------------------------------------------------- */

/* What comes of it is fenced: LLVM would rather compare and round halves, for which CPUs have no vectors. */
static LV f16_to_f32(const Printer *p, LTy t, LV h) { /* t: f32 x lanes; h: i16 */
    LTy it = like(t, DT_I32);
    if (p->t->flags & F_F16C) {
        LLVMTypeRef half = LLVMHalfTypeInContext(p->cx);
        h = LLVMBuildBitCast(p->b, h, t.lanes > 1 ? LLVMVectorType(half, t.lanes) : half, "");
        h = LLVMBuildFPExt(p->b, h, pr_type(p, t), "");
        return p->t->flags & F_SIMD ? intrinsic_same(p, "llvm.arithmetic.fence", 1, &h) : h;
    }
    LV w = LLVMBuildZExt(p->b, h, pr_type(p, it), ""),
       a = LLVMBuildAnd(p->b, w, num(p, it, 0x7fff), "");
    LV m = LLVMBuildShl(p->b, a, num(p, it, 13), "");
    LV finite = as_int(p, LLVMBuildFMul(p->b, as_float(p, m, t), num(p, t, 0x1p112), ""),
                       t); /* exact, denormals too */
    LV special = LLVMBuildOr(p->b, m, num(p, it, 0x7f800000), "");
    LV quiet = LLVMBuildSelect(p->b, LLVMBuildICmp(p->b, LLVMIntUGT, a, num(p, it, 0x7c00), ""),
                               num(p, it, 0x400000), num(p, it, 0), "");
    special = LLVMBuildOr(p->b, special, quiet, "");
    LV r = LLVMBuildSelect(p->b, LLVMBuildICmp(p->b, LLVMIntUGE, a, num(p, it, 0x7c00), ""), special, finite, "");
    LV sign = LLVMBuildShl(p->b, LLVMBuildXor(p->b, w, a, ""), num(p, it, 16), "");
    return as_float(p, LLVMBuildOr(p->b, r, sign, ""), t);
}

static LV f32_to_f16(const Printer *p, LTy t, LV x) { /* t: f32 x lanes */
    LTy it = like(t, DT_I32);
    LLVMTypeRef i16 = pr_int(p, 16, t.lanes);
    if (p->t->flags & F_F16C) {
        LLVMTypeRef half = LLVMHalfTypeInContext(p->cx);
        return LLVMBuildBitCast(
            p->b, LLVMBuildFPTrunc(p->b, x, t.lanes > 1 ? LLVMVectorType(half, t.lanes) : half, ""),
            i16, "");
    }
    LV sign, af = magnitude(p, t, x, &sign), a = as_int(p, af, t);
    sign = LLVMBuildLShr(p->b, sign, num(p, it, 16), "");
    LV odd = LLVMBuildAnd(p->b, LLVMBuildLShr(p->b, a, num(p, it, 13), ""), num(p, it, 1), "");
    LV normal =
        LLVMBuildAdd(p->b, LLVMBuildAdd(p->b, a, odd, ""), num(p, it, 0xfff - 0x38000000), "");
    normal = LLVMBuildLShr(p->b, normal, num(p, it, 13), "");
    LV tiny = LLVMBuildSub(p->b, as_int(p, LLVMBuildFAdd(p->b, af, num(p, t, 0.5), ""), t),
                           num(p, it, 0x3f000000), "");
    LV nan = LLVMBuildOr(
        p->b, num(p, it, 0x7e00),
        LLVMBuildAnd(p->b, LLVMBuildLShr(p->b, a, num(p, it, 13), ""), num(p, it, 0x3ff), ""), "");
    LV r = LLVMBuildSelect(p->b, LLVMBuildICmp(p->b, LLVMIntULT, a, num(p, it, 0x38800000), ""),
                           tiny, normal, "");
    r = LLVMBuildSelect(p->b, LLVMBuildICmp(p->b, LLVMIntUGE, a, num(p, it, 0x477ff000), ""),
                        num(p, it, 0x7c00), r, "");
    r = LLVMBuildSelect(p->b, LLVMBuildICmp(p->b, LLVMIntUGT, a, num(p, it, 0x7f800000), ""), nan,
                        r, "");
    return LLVMBuildTrunc(p->b, LLVMBuildOr(p->b, r, sign, ""), i16, "");
}

static LV f32_to_bf16(const Printer *p, LTy t, LV x) {
    LTy it = like(t, DT_I32);
    LV u = as_int(p, x, t),
       odd = LLVMBuildAnd(p->b, LLVMBuildLShr(p->b, u, num(p, it, 16), ""), num(p, it, 1), "");
    LV r = LLVMBuildAdd(p->b, LLVMBuildAdd(p->b, u, num(p, it, 0x7fff), ""), odd, "");
    LV nan = LLVMBuildOr(p->b, u, num(p, it, 0x400000), "");
    r = LLVMBuildSelect(p->b, LLVMBuildFCmp(p->b, LLVMRealUNO, x, x, ""), nan, r, "");
    return LLVMBuildTrunc(p->b, LLVMBuildLShr(p->b, r, num(p, it, 16), ""), pr_int(p, 16, t.lanes),
                          "");
}

static LV cast(const Printer *p, LTy from, LTy to, LV v) {
    bool ff = from.dt == DT_F32 || from.dt == DT_F64, tf = to.dt == DT_F32 || to.dt == DT_F64;
    LLVMTypeRef type = pr_type(p, to);
    if (from.dt == DT_F16) return f16_to_f32(p, to, v);
    if (to.dt == DT_F16) return f32_to_f16(p, from, v);
    if (to.dt == DT_BF16) return f32_to_bf16(p, from, v);
    if (from.dt == DT_BF16) {
        LTy it = like(to, DT_I32);
        return as_float(
            p, LLVMBuildShl(p->b, LLVMBuildZExt(p->b, v, pr_type(p, it), ""), num(p, it, 16), ""),
            to);
    }
    if (ff && tf)
        return to.dt == DT_F64 ? LLVMBuildFPExt(p->b, v, type, "")
                               : LLVMBuildFPTrunc(p->b, v, type, "");
    if (ff) {
        if (lir_bits((DType)to.dt) < 32)
            return LLVMBuildTrunc(p->b, LLVMBuildFPToSI(p->b, v, pr_int(p, 32, to.lanes), ""), type,
                                  "");
        return dt_is_signed((DType)to.dt) ? LLVMBuildFPToSI(p->b, v, type, "")
                                          : LLVMBuildFPToUI(p->b, v, type, "");
    }
    if (from.dt == DT_BOOL)
        return tf ? LLVMBuildSelect(p->b, v, num(p, to, 1), num(p, to, 0), "")
                  : LLVMBuildZExt(p->b, v, type, "");
    if (tf)
        return dt_is_signed((DType)from.dt) ? LLVMBuildSIToFP(p->b, v, type, "")
                                            : LLVMBuildUIToFP(p->b, v, type, "");
    if (lir_bits((DType)to.dt) <= lir_bits((DType)from.dt))
        return LLVMBuildTrunc(p->b, v, type, "");
    return dt_is_signed((DType)from.dt) ? LLVMBuildSExt(p->b, v, type, "")
                                        : LLVMBuildZExt(p->b, v, type, "");
}

/* ---- vectors --------------------------------------------------------------------------------- */

/* x * 2^n in steps that round at most once: going down, the first steps stop 24 (53) bits above the
 * least exponent, so that whatever they round is far below half of the least denormal at the end.
 */
static LV scalef_generic(const Printer *p, LTy t, LV x, LV n) {
    bool d = t.dt == DT_F64;
    LTy it = like(t, int_of(t));
    double top = d ? 1023 : 127, bottom = d ? -1022 : -126, step = d ? -1022 + 53 : -126 + 24;
    LV zero = num(p, t, 0), limit = num(p, t, top), least = num(p, t, bottom);
    for (int round = 0; round < 3; round++) {
        LV high = LLVMBuildFCmp(p->b, LLVMRealOGT, n, limit, ""),
           low = LLVMBuildFCmp(p->b, LLVMRealOLT, n, least, ""), k;
        if (round < 2)
            k = LLVMBuildSelect(p->b, high, limit,
                                LLVMBuildSelect(p->b, low, num(p, t, step), zero, ""), "");
        else
            k = LLVMBuildSelect(p->b, high, limit, LLVMBuildSelect(p->b, low, least, n, ""), "");
        /* 2^k: the float k + bias + 2^mantissa has k + bias in its low bits */
        LV e = as_int(p, LLVMBuildFAdd(p->b, k, num(p, t, (d ? 0x1p52 : 0x1p23) + top), ""), t);
        LV power = as_float(p, LLVMBuildShl(p->b, e, num(p, it, d ? 52 : 23), ""), t);
        x = LLVMBuildFMul(p->b, x, power, "");
        if (round < 2) n = LLVMBuildFSub(p->b, n, k, "");
    }
    return x;
}

static LV permute(const Printer *p, LTy t, LV table, LV idx) {
    LV r = p->m->permute ? p->m->permute(p, t, table, idx) : NULL;
    if (r) return r;
    uint32_t n = t.lanes;
    LTy it = t.dt == DT_F32 ? like(t, DT_I32) : t;
    r = LLVMGetPoison(pr_type(p, t));
    idx = LLVMBuildAnd(p->b, idx, num(p, it, n - 1), "");
    for (uint32_t k = 0; k < n; k++) {
        LV lane = LLVMConstInt(pr_int(p, 32, 1), k, 0);
        LV e = LLVMBuildExtractElement(p->b, table, LLVMBuildExtractElement(p->b, idx, lane, ""), "");
        r = LLVMBuildInsertElement(p->b, r, e, lane, "");
    }
    return r;
}

static LV hreduce(const Printer *p, SOp op, LTy t, LV v) {
    for (uint32_t h = t.lanes / 2; h; h /= 2) {
        LTy half = {t.dt, (uint16_t)h};
        LV a[2];
        for (uint32_t k = 0; k < 2; k++)
            a[k] = h == 1
                       ? LLVMBuildExtractElement(p->b, v, LLVMConstInt(pr_int(p, 64, 1), k, 0), "")
                       : pr_slice(p, v, k * h, h);
        v = scalar_op(p, op, half, a);
    }
    return v;
}

/* i < n. The comparison is done in lanes that fill a register, so that masks of k registers or
 * vectors come out whole; more lanes than 32-bit ones fit: bits of an integer (AVX-512), or
 * narrower lanes. */
static LV lane_mask(const Printer *p, LTy t, LV n) {
    LLVMTypeRef i64 = pr_int(p, 64, 1);
    uint32_t lanes = t.lanes;
    LV zero = LLVMConstInt(i64, 0, 0), all = LLVMConstInt(i64, lanes, 0);
    n = intrinsic_same(p, "llvm.smin", 2,
                       (LV[]){intrinsic_same(p, "llvm.smax", 2, (LV[]){n, zero}), all});
    if ((p->t->flags & F_AVX512) && lanes > 16 && lanes < 64) {
        LV one = LLVMConstInt(i64, 1, 0),
           bits = LLVMBuildSub(p->b, LLVMBuildShl(p->b, one, n, ""), one, "");
        return LLVMBuildBitCast(p->b, LLVMBuildTrunc(p->b, bits, pr_int(p, lanes, 1), ""),
                                pr_type(p, t), "");
    }
    unsigned bits = p->t->vbytes * 8u / lanes;
    if ((p->t->flags & F_AVX512) && lanes <= 16) bits = 32;
    bits = bits >= 64 ? 64 : bits >= 32 ? 32 : bits >= 16 ? 16 : 8;
    while (bits < 16 && lanes > 127) bits *= 2;
    LLVMTypeRef e = pr_int(p, bits, 1);
    LV idx[LIR_MAX_LANES];
    for (uint32_t k = 0; k < lanes; k++) idx[k] = LLVMConstInt(e, k, 0);
    LV s = bits < 64 ? LLVMBuildTrunc(p->b, n, e, "") : n;
    return LLVMBuildICmp(p->b, LLVMIntSGT, pr_splat(p, s, lanes), LLVMConstVector(idx, lanes), "");
}

/* ---- one instruction ------------------------------------------------------------------------- */

/* Equal lengths, and equal bytes of that many. */
static LV streq(const Printer *p, LV a, LV b) {
    LLVMTypeRef i64 = pr_int(p, 64, 1), i32 = pr_int(p, 32, 1), ptr = LLVMPointerTypeInContext(p->cx, 0);
    LLVMTypeRef param[3] = {ptr, ptr, i64}, ty = LLVMFunctionType(i32, param, 3, 0);
    LLVMModuleRef md = LLVMGetGlobalParent(p->fn);
    LV fn = LLVMGetNamedFunction(md, "memcmp"), side[2] = {a, b}, len[2], arg[3];
    if (!fn) fn = LLVMAddFunction(md, "memcmp", ty);
    for (int k = 0; k < 2; k++) {
        LV high = LLVMBuildLShr(p->b, side[k], LLVMConstInt(pr_int(p, 128, 1), 64, 0), "");
        len[k] = LLVMBuildTrunc(p->b, high, i64, "");
        arg[k] = LLVMBuildIntToPtr(p->b, LLVMBuildTrunc(p->b, side[k], i64, ""), ptr, "");
    }
    LV same = LLVMBuildICmp(p->b, LLVMIntEQ, len[0], len[1], "");
    arg[2] = LLVMBuildSelect(p->b, same, len[0], LLVMConstNull(i64), "");
    LV diff = LLVMBuildCall2(p->b, ty, fn, arg, 3, "");
    return LLVMBuildAnd(p->b, same, LLVMBuildICmp(p->b, LLVMIntEQ, diff, LLVMConstNull(i32), ""), "");
}

static LV table(const Printer *p, const LIns *i) {
    LV e[LIR_MAX_LANES];
    LTy one = {i->ty.dt, 1};
    for (uint32_t k = 0; k < i->ty.lanes; k++) {
        if (i->op == L_IOTA) {
            e[k] = pr_const(p, one, k, 0);
            continue;
        }
        const Scalar *s = &lir_tables(p->l)[i->aux + k];
        bool f = dt_is_float(s->t);
        e[k] = pr_const(p, one, f ? 0 : s->i, f ? s->f : 0);
    }
    return LLVMConstVector(e, i->ty.lanes);
}

LV pr_pure(Printer *p, const LIns *i) {
    LV a[3] = {0};
    LTy at = i->narg ? p->ins[p->args[i->arg].i].ty : (LTy){0};
    for (uint32_t k = 0; k < i->narg && k < 3; k++) a[k] = p->val[p->args[i->arg + k].i];
    uint32_t n = i->ty.lanes;
    LV lane = LLVMConstInt(pr_int(p, 64, 1), (uint64_t)i->imm, 0);
    switch (i->op) {
    case L_CONST:
        return pr_const(p, i->ty, i->imm, i->fimm);
    case L_IOTA:
    case L_TABLE:
        return table(p, i);
    case L_OP:
        return scalar_op(p, (SOp)i->sop, i->sop == S_SELECT ? i->ty : at, a);
    case L_SHRU:
        return LLVMBuildLShr(p->b, a[0], a[1], "");
    case L_LTU:
        return LLVMBuildICmp(p->b, LLVMIntULT, a[0], a[1], "");
    case L_CAST:
        return cast(p, at, i->ty, a[0]);
    case L_BITCAST:
        return LLVMBuildBitCast(p->b, a[0], pr_type(p, i->ty), "");
    case L_SPLAT:
        return pr_splat(p, a[0], n);
    case L_EXTRACT:
        return LLVMBuildExtractElement(p->b, a[0], lane, "");
    case L_INSERT:
        return LLVMBuildInsertElement(p->b, a[0], a[1], lane, "");
    case L_SHUFFLE:
        a[0] = to_vector(p, a[0]), a[1] = to_vector(p, a[1]);
        return pr_shuffle(p, a[0], a[1], n, lir_shuffles(p->l) + i->aux);
    case L_PERMUTE:
        return permute(p, i->ty, a[0], a[1]);
    case L_HREDUCE:
        return hreduce(p, (SOp)i->sop, at, a[0]);
    case L_MASK:
        return lane_mask(p, i->ty, a[0]);
    case L_ANY: {
        LLVMTypeRef bits = pr_int(p, at.lanes, 1);
        return LLVMBuildICmp(p->b, LLVMIntNE, LLVMBuildBitCast(p->b, a[0], bits, ""),
                             LLVMConstNull(bits), "");
    }
    case L_STREQ:
        return streq(p, a[0], a[1]);
    case L_DOT4:
    case L_PAIRS:
    case L_ADD_PAIR:
        return p->m->dot4(p, (LOp)i->op, i->ty, a);
    case L_SCALEF: {
        LV v = p->m->scalef ? p->m->scalef(p, i->ty, a) : NULL;
        return v ? v : scalef_generic(p, i->ty, a[0], a[1]);
    }
    default:
        ICE("llvm: %s: instruction %u is not a value", lir_name(p->l), i->op);
    }
}
