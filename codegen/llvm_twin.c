/* llvm_twin.c: what the threads of a block do together, as calls of the functions that a thread of the emulator brings (Thread, which is emu_thread
 * of tests/gpu/emu.h). The last operand tells the instruction: threads that should do one thing together are at the same one. Before a load or store
 * of a kernel with a block of known size the emulator is asked. */
#include "lir_internal.h"
#include "llvm_gpu.h"
#include "llvm_internal.h"

typedef LLVMValueRef LV;
/* Bytes from the start of a Thread: tid, ntid, ctaid, nctaid; shared memory; operands and results; functions. */
enum { SHARED_AT = 16, WORDS_AT = 24, HOOK_AT = 64 };
typedef enum { H_BARRIER, H_ACCESS, H_LANE_XOR, H_LOAD_MATRIX, H_MMA, H_COPY_ASYNC, H_COPY_COMMIT, H_COPY_WAIT } Hook;
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
    LV x[8] = {self(p)};
    LLVMTypeRef t[8] = {pointer(p)};
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

LV llvm_twin_together(Printer *p, const LIns *i, LV *a) {
    LLVMTypeRef i32 = pr_int(p, 32, 1);
    LV x[4], v;
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
