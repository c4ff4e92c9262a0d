/* llvm_twin.c: what the threads of a block do together, as calls of the functions that a thread of the emulator brings (Thread, which is emu_thread
 * of tests/gpu/emu.h). The last operand tells the instruction: threads that should do one thing together are at the same one. Before a load or store
 * of a kernel with a block of known size the emulator is asked. */
#include "lir_internal.h"
#include "llvm_gpu.h"
#include "llvm_internal.h"

typedef LLVMValueRef LV;
/* Bytes from the start of a Thread: tid, ntid, ctaid, nctaid; shared memory; operands and results; functions. */
enum { WORDS = 136, FRAGMENTS = 128 /* where those of a product begin */, SHARED_AT = 16, WORDS_AT = 24, HOOK_AT = WORDS_AT + 4 * WORDS };
typedef enum {
    H_BARRIER, H_ACCESS, H_LANE_XOR, H_LOAD_MATRIX, H_MMA, H_COPY_ASYNC, H_COPY_COMMIT, H_COPY_WAIT, H_LANE_FIRST, H_STORE_MATRIX, H_BARRIER_SOME,
    H_REGISTERS, H_MBARRIER, H_FENCE, H_BULK_LOAD, H_TENSOR, H_BULK_GROUP, H_WGMMA, H_WGMMA_ORDER,
    H_EXP2, H_HALVES, H_CLUSTER_BARRIER
} Hook;
enum { INIT, ARRIVE, EXPECT, WAIT, ARRIVE_AT }; /* of an mbarrier */
enum { SWIZZLED = 1, TO_ALL = 2 };              /* of a tile */
enum { STORE = 1, SHARED = 2 }; /* how an access is made */

static LLVMTypeRef pointer(const Printer *p) { return LLVMPointerTypeInContext(p->cx, 0); }
static LV number32(const Printer *p, int64_t v) { return LLVMConstInt(pr_int(p, 32, 1), (uint64_t)v, 0); }
static LV offset(const Printer *p, LV ptr, int64_t at) {
    LV k = LLVMConstInt(pr_int(p, 64, 1), (uint64_t)at, 1);
    return at ? LLVMBuildGEP2(p->b, pr_int(p, 8, 1), ptr, &k, 1, "") : ptr;
}
static LV self(const Printer *p) { return LLVMGetParam(p->fn, 0); }
static LV function(const Printer *p, Hook h) { return LLVMBuildLoad2(p->b, pointer(p), offset(p, self(p), HOOK_AT + 8 * (int)h), ""); }

/* The function of a hook, given the thread, `a`, and the number of the instruction. */
static LV call(const Printer *p, Hook h, const LIns *i, LLVMTypeRef result, unsigned n, LV *a) {
    LV x[10] = {self(p)};
    LLVMTypeRef t[10] = {pointer(p)};
    for (unsigned k = 0; k < n; k++) x[k + 1] = a[k], t[k + 1] = LLVMTypeOf(a[k]);
    x[n + 1] = number32(p, i - p->ins);
    t[n + 1] = LLVMTypeOf(x[n + 1]);
    return LLVMBuildCall2(p->b, LLVMFunctionType(result, t, n + 2, 0), function(p, h), x, n + 2, "");
}

static LLVMTypeRef nothing(const Printer *p) { return LLVMVoidTypeInContext(p->cx); }

static void put(const Printer *p, LV v, int at) { LLVMSetAlignment(LLVMBuildStore(p->b, v, offset(p, self(p), WORDS_AT + 4 * at)), 4); }
static LV get(const Printer *p, LTy t, int at) {
    LV v = LLVMBuildLoad2(p->b, pr_type(p, t), offset(p, self(p), WORDS_AT + 4 * at), "");
    LLVMSetAlignment(v, 4);
    return v;
}

LV llvm_twin_shared(const Printer *p, int64_t at) { return offset(p, LLVMBuildLoad2(p->b, pointer(p), offset(p, self(p), SHARED_AT), ""), at); }

/* `then` runs where the condition holds. */
typedef struct Branch {
    LLVMBasicBlockRef then, end;
} Branch;
static Branch branch(const Printer *p, LV condition) {
    Branch b = {LLVMAppendBasicBlockInContext(p->cx, p->fn, ""), LLVMAppendBasicBlockInContext(p->cx, p->fn, "")};
    LLVMBuildCondBr(p->b, condition, b.then, b.end);
    LLVMPositionBuilderAtEnd(p->b, b.then);
    return b;
}
static void branch_end(const Printer *p, Branch b) {
    LLVMBuildBr(p->b, b.end);
    LLVMPositionBuilderAtEnd(p->b, b.end);
}

/* Kernels whose blocks may have one thread run without an emulator, too. */
static void barrier(const Printer *p, const LIns *i) {
    Branch b = {0};
    bool alone = !lir_block_threads(p->l);
    if (alone) b = branch(p, LLVMBuildIsNotNull(p->b, function(p, H_BARRIER), ""));
    (void)call(p, H_BARRIER, i, nothing(p), 0, NULL);
    if (alone) branch_end(p, b);
}

void llvm_twin_access(const Printer *p, const LIns *i, LV address, LV mask, bool shared) {
    bool store = i->op == L_STORE;
    LTy t = store ? p->ins[p->args[i->arg + 2].i].ty : i->ty;
    if (!lir_block_threads(p->l)) return;
    Branch b = {0};
    if (mask) b = branch(p, mask);
    LV a[] = {address, number32(p, lir_bits((DType)t.dt) / 8 * t.lanes), number32(p, i->aux),
              number32(p, (store ? STORE : 0) | (shared ? SHARED : 0))};
    (void)call(p, H_ACCESS, i, nothing(p), 4, a);
    if (mask) branch_end(p, b);
}

/* ---- targets with F_WGMMA ---- */

enum { MAP_BYTES = 128 };

static void put_values(const Printer *p, uint32_t n, LV *v) {
    for (uint32_t k = 0; k < n; k++) put(p, v[k], 4 * (int)k);
}
/* The results that follow instruction i. */
static void get_values(Printer *p, const LIns *i, uint32_t n) {
    uint32_t first = (uint32_t)(i - p->ins) + 1;
    for (uint32_t k = 0; k < n; k++) p->val[first + k] = get(p, p->ins[first + k].ty, 4 * (int)k);
}

static void mbarrier(const Printer *p, const LIns *i, LV *a) {
    uint32_t what = i->op == L_MBARRIER_INIT     ? INIT :
                    i->op == L_MBARRIER_ARRIVE   ? ARRIVE :
                    i->op == L_MBARRIER_EXPECT   ? EXPECT :
                    i->op == L_MBARRIER_WAIT     ? WAIT :
                                                   ARRIVE_AT;
    LV x[] = {a[0], number32(p, what), i->narg > 2 ? a[1] : LLVMConstInt(pr_int(p, 64, 1), (uint64_t)i->imm, 0)};
    (void)call(p, H_MBARRIER, i, nothing(p), 3, x);
}

static void tensor(const Printer *p, const LIns *i, LV *a) {
    const LMap *m = &lir_maps(p->l)[i->imm];
    bool load = i->op == L_TENSOR_LOAD;
    for (uint32_t d = 0; d < lir_map_numbers(m); d++) put(p, LLVMBuildTrunc(p->b, a[(load ? 2 : 1) + d], pr_int(p, 32, 1), ""), (int)d);
    LV x[] = {offset(p, LLVMGetParam(p->fn, 1), i->imm * MAP_BYTES), a[0], load ? a[1] : LLVMConstNull(pointer(p)), number32(p, lir_map_bytes(m)),
              number32(p, (m->swizzled ? SWIZZLED : 0) | (i->flags ? TO_ALL : 0))};
    (void)call(p, H_TENSOR, i, nothing(p), 5, x);
}

static void wgmma(Printer *p, const LIns *i, LV *a) {
    uint32_t values = lir_hopper_values(i), at = values;
    bool fragments = i->flags & LIR_A_FRAGMENTS;
    LV add = i->flags & LIR_ADD ? a[at + 2] : number32(p, 1), c[FRAGMENTS / 4];
    for (uint32_t k = 0; k < values; k++) c[k] = LLVMIsConstant(add) && LLVMIsNull(add) ? LLVMConstNull(LLVMTypeOf(a[k])) : a[k];
    put_values(p, values, c);
    if (fragments) put(p, a[at], FRAGMENTS);
    LV x[] = {fragments ? LLVMConstNull(pointer(p)) : offset(p, a[at], lir_wgmma_a(i)),
              offset(p, a[at + 1], lir_wgmma_b(i)),
              number32(p, i->sop),
              number32(p, i->flags & ~(uint32_t)LIR_ADD),
              number32(p, 8 * values),
              number32(p, i->aux),
              LLVMBuildZExtOrBitCast(p->b, add, pr_int(p, 32, 1), "")};
    (void)call(p, H_WGMMA, i, nothing(p), 7, x);
    get_values(p, i, values);
}

static void wgmma_order(Printer *p, const LIns *i, LV *a) {
    LV x[] = {number32(p, i->op - L_WGMMA_FENCE), number32(p, i->imm), number32(p, 4 * i->narg)};
    put_values(p, i->narg, a);
    (void)call(p, H_WGMMA_ORDER, i, nothing(p), 3, x);
    get_values(p, i, i->narg);
}

static LV hopper(Printer *p, const LIns *i, LV *a) {
    LLVMTypeRef i32 = pr_int(p, 32, 1);
    LV x[4];
    switch (i->op) {
    case L_LANE_FIRST:
        x[0] = LLVMBuildBitCast(p->b, a[0], i32, "");
        return LLVMBuildBitCast(p->b, call(p, H_LANE_FIRST, i, i32, 1, x), LLVMTypeOf(a[0]), "");
    case L_HALVES:
        x[0] = a[0], x[1] = a[1], x[2] = number32(p, i->aux);
        return call(p, H_HALVES, i, i32, 3, x);
    case L_EXP2:
        return call(p, H_EXP2, i, LLVMTypeOf(a[0]), 1, a);
    case L_STORE_MATRIX:
        put(p, a[1], 0);
        x[0] = offset(p, a[0], i->imm), x[1] = number32(p, i->flags);
        return (void)call(p, H_STORE_MATRIX, i, nothing(p), 2, x), NULL;
    case L_BARRIER_SOME:
        x[0] = number32(p, i->imm), x[1] = number32(p, i->aux), x[2] = number32(p, i->flags);
        return (void)call(p, H_BARRIER_SOME, i, nothing(p), 3, x), NULL;
    case L_REGISTERS:
        x[0] = number32(p, i->imm), x[1] = number32(p, i->flags);
        return (void)call(p, H_REGISTERS, i, nothing(p), 2, x), NULL;
    case L_MBARRIER_INIT:
    case L_MBARRIER_ARRIVE:
    case L_MBARRIER_EXPECT:
    case L_MBARRIER_WAIT:
    case L_MBARRIER_ARRIVE_AT:
        return mbarrier(p, i, a), NULL;
    case L_CLUSTER_BARRIER:
        return (void)call(p, H_CLUSTER_BARRIER, i, nothing(p), 0, NULL), NULL;
    case L_FENCE_MBARRIERS:
    case L_FENCE_ASYNC:
        x[0] = number32(p, i->op - L_FENCE_MBARRIERS);
        return (void)call(p, H_FENCE, i, nothing(p), 1, x), NULL;
    case L_BULK_LOAD:
        x[0] = a[0], x[1] = a[1], x[2] = a[3], x[3] = a[2];
        return (void)call(p, H_BULK_LOAD, i, nothing(p), 4, x), NULL;
    case L_TENSOR_LOAD:
    case L_TENSOR_STORE:
        return tensor(p, i, a), NULL;
    case L_BULK_COMMIT:
    case L_BULK_WAIT:
        x[0] = number32(p, i->op == L_BULK_COMMIT ? 0 : 1 + i->flags), x[1] = number32(p, i->imm);
        return (void)call(p, H_BULK_GROUP, i, nothing(p), 2, x), NULL;
    case L_WGMMA:
        return wgmma(p, i, a), NULL;
    default:
        return wgmma_order(p, i, a), NULL;
    }
}

LV llvm_twin_together(Printer *p, const LIns *i, LV *a) {
    LLVMTypeRef i32 = pr_int(p, 32, 1);
    LV x[4], v;
    if (lir_is_hopper(i)) return hopper(p, i, a);
    switch (i->op) {
    case L_BARRIER:
        barrier(p, i);
        return NULL;
    case L_LANE_XOR:
        x[0] = LLVMBuildBitCast(p->b, a[0], i32, "");
        x[1] = number32(p, i->imm);
        v = call(p, H_LANE_XOR, i, i32, 2, x);
        return LLVMBuildBitCast(p->b, v, LLVMTypeOf(a[0]), "");
    case L_LOAD_MATRIX:
        x[0] = offset(p, a[0], i->imm);
        x[1] = number32(p, i->flags);
        (void)call(p, H_LOAD_MATRIX, i, nothing(p), 2, x);
        return get(p, i->ty, 0);
    case L_MMA:
        put(p, a[0], 0), put(p, a[1], 4), put(p, a[2], 6);
        x[0] = number32(p, i->aux);
        (void)call(p, H_MMA, i, nothing(p), 1, x);
        return get(p, i->ty, 6);
    case L_COPY_ASYNC:
        x[0] = offset(p, a[0], lir_copy_to(i));
        x[1] = offset(p, a[1], i->imm);
        x[2] = number32(p, i->aux & LIR_COPY_SIZE);
        x[3] = i->narg == 5 ? a[2] : LLVMConstInt(pr_int(p, 64, 1), i->aux & LIR_COPY_SIZE, 0);
        (void)call(p, H_COPY_ASYNC, i, nothing(p), 4, x);
        return NULL;
    case L_COPY_COMMIT:
        return (void)call(p, H_COPY_COMMIT, i, nothing(p), 0, NULL), NULL;
    default:
        x[0] = number32(p, i->imm);
        return (void)call(p, H_COPY_WAIT, i, nothing(p), 1, x), NULL;
    }
}
