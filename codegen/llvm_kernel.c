/* llvm_kernel.c: one Lir as an LLVM function: parameters, memory accesses with their alias scopes,
 * loops and branches.
 *
 * The whole kernel is one function. Buffer pointers come out of an array, so no-alias facts cannot
 * be parameter attributes: every access whose buffer is known carries !alias.scope of that buffer
 * and !noalias of all the buffers that lir_may_alias excludes, which the schedulers of the code
 * generator still see. */
#include <stdlib.h>
#include <string.h>

#include <llvm/Config/llvm-config.h>

#include "lir_internal.h"
#include "llvm_kernel.h"

typedef LLVMValueRef LV;
typedef LLVMBasicBlockRef BB;

typedef struct Open {
    BB first, second, join;
    LV iv;
    uint32_t ins;
} Open; /* an open FOR (body, exit) or IF (then, else) */
typedef struct Kernel {
    Printer p;
    uint32_t *root; /* per value of type ptr: buffer it points into; nbuf: scratch; nbuf + 1: shared memory; UNKNOWN */
    LLVMMetadataRef *scope; /* per root: list of its scope, list of those it does not alias */
    Open *open;
    uint32_t nopen;
    BB fail;
    LV fail_code;
} Kernel;
#define UNKNOWN UINT32_MAX
enum { TOGETHER_OPERANDS = 64 };

/* ---- where pointers point -------------------------------------------------------------------- */

static uint32_t roots(const Kernel *k) { return lir_nbuf(k->p.l) + 2; }
static uint32_t meet(uint32_t a, uint32_t b) { return a == b ? a : UNKNOWN; }

static uint32_t root_of(const Kernel *k, const LIns *i, uint32_t v) {
    const LVal *a = k->p.args + i->arg;
    switch (i->op) {
    case L_BUF:
        return (uint32_t)i->imm;
    case L_SCRATCH:
        return lir_nbuf(k->p.l);
    case L_SHARED:
        return lir_nbuf(k->p.l) + 1;
    case L_PTR_ADD:
    case L_PTR_BYTES:
        return k->root[a[0].i];
    case L_OP:
        return i->sop == S_SELECT ? meet(k->root[a[1].i], k->root[a[2].i]) : UNKNOWN;
    case L_CARRY: { /* its start, and what the loop makes of it */
        const LIns *f = &k->p.ins[i->aux], *end = &k->p.ins[f->imm];
        uint32_t start = k->root[k->p.args[f->arg + 3 + i->imm].i],
                 next = k->root[k->p.args[end->arg + i->imm].i];
        return k->root[v] == UNKNOWN ? UNKNOWN : next == UNKNOWN - 1 ? start : meet(start, next);
    }
    case L_RESULT: {
        const LIns *end = &k->p.ins[i->aux], *f = &k->p.ins[end->imm];
        uint32_t other = f->op == L_FOR ? k->root[k->p.args[f->arg + 3 + i->imm].i]
                                        : k->root[k->p.args[k->p.ins[f->imm].arg + i->imm].i];
        return meet(other, k->root[k->p.args[end->arg + i->imm].i]);
    }
    default:
        return UNKNOWN;
    }
}

static void find_roots(Kernel *k) {
    bool changed = true;
    for (uint32_t v = 0; v < k->p.n; v++)
        k->root[v] = UNKNOWN - 1; /* not seen yet; every round only loses facts */
    while (changed) {
        changed = false;
        for (uint32_t v = 1; v < k->p.n; v++) {
            if (k->p.ins[v].ty.dt != DT_PTR || k->root[v] == UNKNOWN) continue;
            uint32_t r = root_of(k, &k->p.ins[v], v);
            changed |= r != k->root[v];
            k->root[v] = k->root[v] == UNKNOWN - 1 ? r : meet(k->root[v], r);
        }
    }
}

static LLVMMetadataRef string(const Kernel *k, const char *stem, uint32_t n) {
    char s[300];
    int len = snprintf(s, sizeof s, "%.200s.%s%u", lir_name(k->p.l), stem, n);
    return LLVMMDStringInContext2(k->p.cx, s, (size_t)len);
}

static void make_scopes(Kernel *k) {
    uint32_t n = roots(k), buffers = lir_nbuf(k->p.l);
    LLVMMetadataRef *scope = malloc(sizeof *scope * n), *list = malloc(sizeof *list * n),
                    name = string(k, "kernel", 0);
    CHECK(scope && list);
    LLVMMetadataRef domain = LLVMMDNodeInContext2(k->p.cx, &name, 1);
    for (uint32_t b = 0; b < n; b++) {
        LLVMMetadataRef id[2] = {string(k, "buf", b), domain};
        scope[b] = LLVMMDNodeInContext2(k->p.cx, id, 2);
    }
    for (uint32_t b = 0; b < n; b++) {
        uint32_t others = 0;
        for (uint32_t o = 0; o < n; o++)
            if (o >= buffers || b >= buffers ? o != b : !lir_may_alias(k->p.l, b, o))
                list[others++] = scope[o];
        k->scope[2 * b] = LLVMMDNodeInContext2(k->p.cx, &scope[b], 1);
        k->scope[2 * b + 1] = LLVMMDNodeInContext2(k->p.cx, list, others);
    }
    free(scope), free(list);
}

static void tag(const Kernel *k, LV access, LVal ptr) {
    uint32_t r = k->root[ptr.i];
    if (r >= UNKNOWN - 1 || !LLVMIsAInstruction(access)) return;
    LLVMSetMetadata(access, LLVMGetMDKindIDInContext(k->p.cx, "alias.scope", 11),
                    LLVMMetadataAsValue(k->p.cx, k->scope[2 * r]));
    LLVMSetMetadata(access, LLVMGetMDKindIDInContext(k->p.cx, "noalias", 7),
                    LLVMMetadataAsValue(k->p.cx, k->scope[2 * r + 1]));
}

/* ---- memory ---------------------------------------------------------------------------------- */

static LV value(const Kernel *k, LVal v) { return k->p.val[v.i]; }
static LV i64(const Kernel *k, int64_t v) {
    return LLVMConstInt(LLVMInt64TypeInContext(k->p.cx), (uint64_t)v, 1);
}
static bool is_zero(LV v) { return LLVMIsConstant(v) && LLVMIsNull(v); }

static LV address(const Kernel *k, LVal ptr, LVal idx, int64_t disp, unsigned bytes) {
    LV a = value(k, ptr), i = value(k, idx);
    if (!is_zero(i) || k->p.ins[idx.i].ty.lanes > 1)
        a = LLVMBuildGEP2(k->p.b, pr_int(&k->p, bytes * 8, 1), a, &i, 1, "");
    LV d = i64(k, (int64_t)((uint64_t)disp * bytes));
    return is_zero(d) ? a : LLVMBuildGEP2(k->p.b, pr_int(&k->p, 8, 1), a, &d, 1, "");
}

static LV i32(const Kernel *k, uint32_t v) {
    return LLVMConstInt(LLVMInt32TypeInContext(k->p.cx), v, 0);
}

/* LLVM 22 moved the alignment of masked accesses from an operand to an attribute of the pointer. */
static LV masked(const Kernel *k, const char *name, LLVMTypeRef value_type, LV ptr, uint32_t align,
                 LV mask, LV value_operand, bool store) {
    LLVMTypeRef ov[2] = {value_type, LLVMTypeOf(ptr)};
    LV a[4];
    unsigned n = 0, at;
    if (store) a[n++] = value_operand;
    at = n;
    a[n++] = ptr;
    if (LLVM_VERSION_MAJOR < 22) a[n++] = i32(k, align);
    a[n++] = mask;
    if (!store) a[n++] = value_operand;
    LV call = pr_intrinsic(&k->p, name, 2, ov, n, a);
    if (LLVM_VERSION_MAJOR >= 22) LLVMSetInstrParamAlignment(call, at + 1, align);
    return call;
}

static LV one_lane(const Kernel *k, LV v,
                   bool wrap) { /* scalar <-> vector of one lane, for masked accesses */
    LV zero = i32(k, 0);
    if (!wrap) return LLVMBuildExtractElement(k->p.b, v, zero, "");
    return LLVMBuildInsertElement(k->p.b, LLVMGetPoison(LLVMVectorType(LLVMTypeOf(v), 1)), v, zero,
                                  "");
}

static void ask(const Kernel *k, const LIns *i, LV ptr) {
    uint32_t plain = i->op == L_LOAD ? 2 : 3;
    LVal at = k->p.args[i->arg];
    if (k->p.m->access && (i->op == L_LOAD || i->op == L_STORE))
        k->p.m->access(&k->p, i, ptr, i->narg > plain ? value(k, k->p.args[i->arg + plain]) : NULL, k->root[at.i] == roots(k) - 1);
}

/* Machines gather 32 bits or more. Elements of 8 or 16 are parts of words, whose addresses are multiples of 4, so no word reaches into another page
 * than the element's. */
static LV gather_parts(const Kernel *k, const LIns *i, LLVMTypeRef ty, unsigned bytes, LV mask) {
    const Printer *p = &k->p;
    const LVal *a = p->args + i->arg;
    LV disp = i64(k, (int64_t)((uint64_t)i->imm * bytes)), idx = value(k, a[1]);
    LLVMTypeRef i64 = LLVMInt64TypeInContext(p->cx), i8 = LLVMInt8TypeInContext(p->cx), word = LLVMInt32TypeInContext(p->cx),
                words = pr_int(p, 32, i->ty.lanes), it = LLVMTypeOf(idx), part = LLVMGetElementType(it);
    LV first = LLVMBuildGEP2(p->b, i8, value(k, a[0]), &disp, 1, "");
    const unsigned in_word = bytes == 1 ? 2 : 1; /* bits of an index that say which part of a word it is */
    LV low = LLVMBuildAnd(p->b, LLVMBuildPtrToInt(p->b, first, i64, ""), LLVMConstInt(i64, 3, 0), ""), back = LLVMBuildNeg(p->b, low, "");
    LV base = LLVMBuildGEP2(p->b, i8, first, &back, 1, ""), skip = LLVMBuildLShr(p->b, low, LLVMConstInt(i64, bytes / 2, 0), "");
    skip = LLVMBuildIntCast2(p->b, skip, part, false, "");
    idx = LLVMBuildAdd(p->b, idx, pr_splat(p, skip, i->ty.lanes), "");
    LV at = LLVMBuildAShr(p->b, idx, pr_splat(p, LLVMConstInt(part, in_word, 0), i->ty.lanes), "");
    LV which = LLVMBuildAnd(p->b, idx, pr_splat(p, LLVMConstInt(part, (1u << in_word) - 1, 0), i->ty.lanes), "");
    which = LLVMBuildShl(p->b, LLVMBuildIntCast2(p->b, which, words, false, ""), pr_splat(p, LLVMConstInt(word, bytes + 2, 0), i->ty.lanes), "");
    LV v = masked(k, "llvm.masked.gather", words, LLVMBuildGEP2(p->b, word, base, &at, 1, ""), 4, mask, LLVMConstNull(words), false);
    tag(k, v, a[0]);
    v = LLVMBuildTrunc(p->b, LLVMBuildLShr(p->b, v, which, ""), pr_int(p, bytes * 8, i->ty.lanes), "");
    return LLVMBuildBitCast(p->b, v, ty, "");
}

static LV load(const Kernel *k, const LIns *i) {
    const LVal *a = k->p.args + i->arg;
    const Printer *p = &k->p;
    bool is_bool = i->ty.dt == DT_BOOL, vec = i->op == L_GATHER;
    unsigned bytes = lir_bits((DType)i->ty.dt) / 8;
    LLVMTypeRef ty = is_bool ? pr_int(p, 8, i->ty.lanes) : pr_type(p, i->ty);
    LV v, ptr = address(k, a[0], a[1], i->imm, bytes);
    ask(k, i, ptr);
    if (!vec && i->narg == 2) {
        v = LLVMBuildLoad2(p->b, ty, ptr, "");
        LLVMSetAlignment(v, i->aux);
        if (i->flags) LLVMSetVolatile(v, 1);
        tag(k, v, a[0]);
    } else {
        bool scalar = i->ty.lanes == 1;
        LLVMTypeRef vt = scalar ? LLVMVectorType(ty, 1) : ty;
        LV mask = i->narg == 3 ? value(k, a[2]) : LLVMConstAllOnes(pr_int(p, 1, i->ty.lanes));
        if (scalar) mask = one_lane(k, mask, true);
        if (vec && bytes < 4 && p->t->flags & F_AVX2) {
            v = gather_parts(k, i, ty, bytes, mask);
        } else {
            v = masked(k, vec ? "llvm.masked.gather" : "llvm.masked.load", vt, ptr, i->aux, mask,
                       LLVMConstNull(vt), false);
            tag(k, v, a[0]);
        }
        if (scalar) v = one_lane(k, v, false);
    }
    return is_bool ? LLVMBuildICmp(p->b, LLVMIntNE, v, LLVMConstNull(LLVMTypeOf(v)), "") : v;
}

static BB block(const Kernel *k) { return LLVMAppendBasicBlockInContext(k->p.cx, k->p.fn, ""); }
static BB here(const Kernel *k) { return LLVMGetInsertBlock(k->p.b); }
static void start(const Kernel *k, BB b) { LLVMPositionBuilderAtEnd(k->p.b, b); }
static void incoming(LV phi, LV v, BB from) { LLVMAddIncoming(phi, &v, &from, 1); }

/* Past the caches, if the address is that of a line, for what is written of one by and by (columns of rows) may leave in parts; else as any other. */
static void stream(Kernel *k, LV v, LV ptr, const LIns *i, LVal buffer) {
    const Printer *p = &k->p;
    const unsigned width = 64;
    LLVMTypeRef i64 = LLVMInt64TypeInContext(p->cx);
    LV low = LLVMBuildAnd(p->b, LLVMBuildPtrToInt(p->b, ptr, i64, ""), LLVMConstInt(i64, width - 1, 0), "");
    BB past = block(k), plain = block(k), next = block(k);
    LLVMBuildCondBr(p->b, LLVMBuildICmp(p->b, LLVMIntEQ, low, LLVMConstInt(i64, 0, 0), ""), past, plain);
    for (int aligned = 0; aligned < 2; aligned++) {
        start(k, aligned ? past : plain);
        LV s = LLVMBuildStore(p->b, v, ptr);
        LLVMSetAlignment(s, aligned ? width : i->aux);
        tag(k, s, buffer);
        LLVMMetadataRef one = LLVMValueAsMetadata(i32(k, 1));
        LV mark = LLVMMetadataAsValue(p->cx, LLVMMDNodeInContext2(p->cx, &one, 1));
        if (aligned) LLVMSetMetadata(s, LLVMGetMDKindIDInContext(p->cx, "nontemporal", 11), mark);
        LLVMBuildBr(p->b, next);
    }
    start(k, next);
    k->p.streams = true;
}

static void store(Kernel *k, const LIns *i) {
    const LVal *a = k->p.args + i->arg;
    const Printer *p = &k->p;
    LTy ty = p->ins[a[2].i].ty;
    unsigned bytes = lir_bits((DType)ty.dt) / 8;
    LV v = value(k, a[2]), ptr = address(k, a[0], a[1], i->imm, bytes), s;
    int64_t active = 0;
    ask(k, i, ptr);
    if (ty.dt == DT_BOOL) v = LLVMBuildZExt(p->b, v, pr_int(p, 8, ty.lanes), "");
    bool known = i->narg == 4 && p->ins[a[3].i].op == L_MASK &&
                 lir_is_const(p->l, p->args[p->ins[a[3].i].arg], &active);
    if (i->op == L_STORE && known &&
        !(p->t->flags & F_AVX512)) { /* a vector of as many lanes: no slow masked store */
        v = active == 1 ? LLVMBuildExtractElement(p->b, v, i32(k, 0), "")
                        : pr_slice(p, v, 0, (uint32_t)active);
        known = false;
    } else {
        known = i->narg == 4;
    }
    if (i->op == L_STORE && i->flags) {
        stream(k, v, ptr, i, a[0]);
        return;
    }
    if (i->op == L_STORE && !known) {
        s = LLVMBuildStore(p->b, v, ptr);
        LLVMSetAlignment(s, i->aux);
    } else {
        LV mask = i->narg == 4 ? value(k, a[3]) : LLVMConstAllOnes(pr_int(p, 1, ty.lanes));
        if (ty.lanes == 1) v = one_lane(k, v, true), mask = one_lane(k, mask, true);
        s = masked(k, i->op == L_SCATTER ? "llvm.masked.scatter" : "llvm.masked.store",
                   LLVMTypeOf(v), ptr, i->aux, mask, v, true);
    }
    tag(k, s, a[0]);
}

static void prefetch(const Kernel *k, const LIns *i) {
    const LVal *a = k->p.args + i->arg;
    LV x[4] = {address(k, a[0], a[1], i->imm, lir_bits((DType)i->aux) / 8), i32(k, 0),
               i32(k, 4u - i->sop), i32(k, 1)};
    LLVMTypeRef ov = LLVMTypeOf(x[0]);
    (void)pr_intrinsic(&k->p, "llvm.prefetch", 1, &ov, 4, x);
}

/* Operands of what threads do together: pointer and index are one address, to which the printer adds what the instruction adds. */
static LV together(Kernel *k, const LIns *i) {
    const LVal *a = k->p.args + i->arg;
    LV x[TOGETHER_OPERANDS] = {0};
    uint32_t n = 0;
    CHECK(i->narg <= TOGETHER_OPERANDS);
    for (uint32_t j = 0; j < i->narg; j++) {
        bool place = k->p.ins[a[j].i].ty.dt == DT_PTR;
        x[n++] = place ? address(k, a[j], a[j + 1], 0, 1) : value(k, a[j]);
        j += place;
    }
    return k->p.m->together ? k->p.m->together(&k->p, i, x) : NULL;
}

/* ---- structure ------------------------------------------------------------------------------- */

static void unlikely(const Kernel *k, LV branch) {
    LLVMMetadataRef w[3] = {LLVMMDStringInContext2(k->p.cx, "branch_weights", 14),
                            LLVMValueAsMetadata(i32(k, 1)), LLVMValueAsMetadata(i32(k, 4000))};
    LLVMSetMetadata(branch, LLVMGetMDKindIDInContext(k->p.cx, "prof", 4),
                    LLVMMetadataAsValue(k->p.cx, LLVMMDNodeInContext2(k->p.cx, w, 3)));
}

static void open_for(Kernel *k, uint32_t v) {
    const LIns *i = &k->p.ins[v];
    const LVal *a = k->p.args + i->arg;
    BB pre = here(k), body = block(k), after = block(k);
    int64_t lo, hi;
    bool runs = lir_is_const(k->p.l, a[0], &lo) && lir_is_const(k->p.l, a[1], &hi) && lo < hi;
    Open *o = &k->open[k->nopen++];
    *o = (Open){.first = body, .second = after, .join = runs ? NULL : pre, .ins = v};
    if (runs)
        LLVMBuildBr(k->p.b, body);
    else
        LLVMBuildCondBr(k->p.b,
                        LLVMBuildICmp(k->p.b, LLVMIntSLT, value(k, a[0]), value(k, a[1]), ""), body,
                        after);
    start(k, body);
    o->iv = k->p.val[v] = LLVMBuildPhi(k->p.b, LLVMInt64TypeInContext(k->p.cx), "");
    incoming(o->iv, value(k, a[0]), pre);
    for (uint32_t c = 3; c < i->narg; c++) {
        LV phi = k->p.val[v + c - 2] = LLVMBuildPhi(k->p.b, LLVMTypeOf(value(k, a[c])), "");
        incoming(phi, value(k, a[c]), pre);
    }
}

static void close_for(Kernel *k, uint32_t v) {
    Open *o = &k->open[--k->nopen];
    const LIns *f = &k->p.ins[o->ins], *end = &k->p.ins[v];
    const LVal *fa = k->p.args + f->arg, *next = k->p.args + end->arg;
    LV iv = LLVMBuildNSWAdd(k->p.b, o->iv, value(k, fa[2]), "");
    LV more = LLVMBuildICmp(k->p.b, LLVMIntSLT, iv, value(k, fa[1]), "");
    BB latch = here(k);
    incoming(o->iv, iv, latch);
    for (uint32_t c = 0; c < end->narg; c++)
        incoming(k->p.val[o->ins + 1 + c], value(k, next[c]), latch);
    LLVMBuildCondBr(k->p.b, more, o->first, o->second);
    start(k, o->second);
    for (uint32_t c = 0; c < end->narg; c++) {
        LV phi = LLVMBuildPhi(k->p.b, LLVMTypeOf(value(k, next[c])), "");
        incoming(phi, value(k, next[c]), latch);
        if (o->join) incoming(phi, value(k, fa[3 + c]), o->join);
        k->p.val[v + 1 + c] = phi;
    }
}

static void close_if(Kernel *k, uint32_t v) {
    Open *o = &k->open[--k->nopen];
    const LIns *end = &k->p.ins[v], *els = &k->p.ins[k->p.ins[o->ins].imm];
    BB else_end = here(k);
    LLVMBuildBr(k->p.b, o->join);
    start(k, o->join);
    for (uint32_t c = 0; c < end->narg; c++) {
        LV a = value(k, k->p.args[els->arg + c]), b = value(k, k->p.args[end->arg + c]);
        LV phi = LLVMBuildPhi(k->p.b, LLVMTypeOf(a), "");
        incoming(phi, a, o->first), incoming(phi, b, else_end);
        k->p.val[v + 1 + c] = phi;
    }
}

static void fail_if(Kernel *k, const LIns *i) {
    BB next = block(k);
    if (!k->fail) {
        BB at = here(k);
        k->fail = block(k);
        start(k, k->fail);
        k->fail_code = LLVMBuildPhi(k->p.b, LLVMInt32TypeInContext(k->p.cx), "");
        k->p.m->leave(&k->p, k->fail_code);
        start(k, at);
    }
    incoming(k->fail_code, i32(k, 1 + i->aux), here(k));
    unlikely(k, LLVMBuildCondBr(k->p.b, value(k, k->p.args[i->arg]), k->fail, next));
    start(k, next);
}

static void instruction(Kernel *k, uint32_t v) {
    const LIns *i = &k->p.ins[v];
    const LVal *a = k->p.args + i->arg;
    LV x;
    if (lir_is_hopper(i)) {
        k->p.val[v] = together(k, i);
        return;
    }
    switch (i->op) {
    case L_BUF:
    case L_DIM:
    case L_T0:
    case L_T1:
    case L_TSTEP:
    case L_TID:
    case L_NTID:
    case L_SCRATCH:
    case L_SHARED:
    case L_CARRY:
    case L_RESULT:
        return; /* made where they begin */
    case L_PTR_ADD:
        k->p.val[v] = address(k, a[0], a[1], i->imm, lir_bits((DType)i->aux) / 8);
        return;
    case L_PTR_BYTES:
        k->p.val[v] = address(k, a[0], a[1], i->imm, 1);
        return;
    case L_LOAD:
    case L_GATHER:
        k->p.val[v] = load(k, i);
        return;
    case L_STORE:
    case L_SCATTER:
        store(k, i);
        return;
    case L_PREFETCH:
        prefetch(k, i);
        return;
    case L_BARRIER:
    case L_LANE_XOR:
    case L_LOAD_MATRIX:
    case L_MMA:
    case L_COPY_ASYNC:
    case L_COPY_COMMIT:
    case L_COPY_WAIT:
        k->p.val[v] = together(k, i);
        return;
    case L_TILES:
    case L_TILES_END:
    case L_TILE_ZERO:
    case L_TILE_DOT4:
    case L_TILE_LOAD:
    case L_TILE_STORE:
        k->p.m->tile(&k->p, i, i->narg == 3 ? address(k, a[0], a[1], i->imm, 1) : NULL);
        return;
    case L_FOR:
        open_for(k, v);
        return;
    case L_ENDFOR:
        close_for(k, v);
        return;
    case L_IF:
        k->open[k->nopen++] =
            (Open){.first = block(k), .second = block(k), .join = block(k), .ins = v};
        x = value(k, a[0]);
        LLVMBuildCondBr(k->p.b, x, k->open[k->nopen - 1].first, k->open[k->nopen - 1].second);
        start(k, k->open[k->nopen - 1].first);
        return;
    case L_ELSE: {
        Open *o = &k->open[k->nopen - 1];
        o->first = here(k); /* from now on: where the then part ends */
        LLVMBuildBr(k->p.b, o->join);
        start(k, o->second);
        return;
    }
    case L_ENDIF:
        close_if(k, v);
        return;
    case L_FAIL_IF:
        fail_if(k, i);
        return;
    default:
        k->p.val[v] = pr_pure(&k->p, i);
        return;
    }
}

/* ---- the function ---------------------------------------------------------------------------- */

void pr_enum_attr(const Printer *p, LLVMAttributeIndex at, const char *name, uint64_t v) {
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    if (kind) LLVMAddAttributeAtIndex(p->fn, at, LLVMCreateEnumAttribute(p->cx, kind, v));
}

void pr_text_attr(const Printer *p, const char *name, const char *v) {
    LLVMAddAttributeAtIndex(p->fn, LLVMAttributeFunctionIndex,
                            LLVMCreateStringAttribute(p->cx, name, (unsigned)strlen(name), v, (unsigned)strlen(v)));
}

void pr_invariant(const Printer *p, LV load) {
    LLVMSetMetadata(load, LLVMGetMDKindIDInContext(p->cx, "invariant.load", 14),
                    LLVMMetadataAsValue(p->cx, LLVMMDNodeInContext2(p->cx, NULL, 0)));
}

static bool is_parameter(const LIns *i) {
    return i->op == L_BUF || i->op == L_DIM || i->op == L_T0 || i->op == L_T1 || i->op == L_TSTEP || i->op == L_TID || i->op == L_NTID ||
           i->op == L_SCRATCH || i->op == L_SHARED;
}

void llvm_kernel(LLVMContextRef cx, LLVMModuleRef md, const Target *t, const Machine *m, const Lir *l) {
    Kernel k = {.p = {.t = t,
                      .m = m,
                      .l = l,
                      .args = lir_args(l),
                      .cx = cx,
                      .md = md,
                      .b = LLVMCreateBuilderInContext(cx)}};
    k.p.ins = lir_ins(l, &k.p.n);
    k.p.val = calloc(k.p.n, sizeof *k.p.val);
    k.root = calloc(k.p.n, sizeof *k.root);
    k.scope = calloc(roots(&k) * 2, sizeof *k.scope);
    k.open = calloc(k.p.n, sizeof *k.open);
    CHECK(k.p.val && k.root && k.scope && k.open);
    k.p.fn = m->function(&k.p);
    find_roots(&k);
    make_scopes(&k);
    start(&k, block(&k));
    if (m->enter) m->enter(&k.p);
    for (uint32_t v = 1; v < k.p.n; v++) /* loaded once: they do not change while the kernel runs */
        if (is_parameter(&k.p.ins[v])) k.p.val[v] = m->parameter(&k.p, &k.p.ins[v]);
    for (uint32_t v = 1; v < k.p.n; v++) instruction(&k, v);
    m->leave(&k.p, i32(&k, 0));
    if (m->more) m->more(&k.p);
    LLVMDisposeBuilder(k.p.b);
    free(k.p.val), free(k.root), free(k.scope), free(k.open);
}
